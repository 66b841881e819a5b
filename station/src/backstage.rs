//! A thread behind a view: commands go in, snapshots come out, and whoever shows them is woken.
//!
//! What the window holds never blocks; dropping it waits for what is in work.

use crate::failure::{Failure, FailureCode};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Called after a change, from the thread that made it.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// What comes in.
pub enum Message<C> {
    /// A command of the window.
    Command(C),
    /// Somebody to wake after every change; [`Outlet::wake`] takes it.
    OnChange(Wake),
    /// The end.
    Stop,
}

/// The window's end of such a thread.
pub struct Backstage<C, S> {
    messages: Sender<Message<C>>,
    snapshot: Arc<Mutex<Arc<S>>>,
    thread: Option<JoinHandle<()>>,
}

impl<C, S> std::fmt::Debug for Backstage<C, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backstage").finish_non_exhaustive()
    }
}

/// The thread's own end: where it shows what it came to.
pub struct Outlet<S> {
    shown: Arc<Mutex<Arc<S>>>,
    wakers: Vec<Wake>,
}

impl<S: Clone> Outlet<S> {
    /// Shows this from now on, and wakes whoever wants to know.
    pub fn publish(&self, view: &S) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(view.clone());
        self.wakers.iter().for_each(|wake| wake());
    }

    /// One more to wake.
    pub fn wake(&mut self, wake: Wake) {
        self.wakers.push(wake);
    }
}

impl<C: Send + 'static, S: Clone + Send + Sync + 'static> Backstage<C, S> {
    /// Starts a thread of this name; `first` is shown until it publishes something. It ends at [`Message::Stop`] or when its inbox is
    /// closed.
    ///
    /// # Errors
    /// `StationFault` if no thread can be started.
    pub fn start(
        name: &str,
        first: S,
        work: impl FnOnce(&Receiver<Message<C>>, Outlet<S>) + Send + 'static,
    ) -> Result<Self, Failure> {
        let (messages, inbox) = mpsc::channel();
        let snapshot = Arc::new(Mutex::new(Arc::new(first)));
        let outlet = Outlet { shown: Arc::clone(&snapshot), wakers: Vec::new() };
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || work(&inbox, outlet))
            .map_err(|e| Failure::new(FailureCode::StationFault, format!("no thread: {e}")))?;
        Ok(Self { messages, snapshot, thread: Some(thread) })
    }

    /// Sends a command; the thread carries it out.
    pub fn send(&self, command: C) {
        drop(self.messages.send(Message::Command(command)));
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<S> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls `wake` after every change.
    pub fn on_change(&self, wake: Wake) {
        drop(self.messages.send(Message::OnChange(wake)));
    }
}

impl<C, S> Drop for Backstage<C, S> {
    fn drop(&mut self) {
        drop(self.messages.send(Message::Stop));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
