//! A promise of a confirmed answer, and the notices that a platform sends by itself.

use super::credential::Identity;
use super::error::CloudError;
use super::ledger::Ack;
use crate::model::UnitId;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A panic elsewhere leaves data that is still whole (every change below is one assignment), so go on with it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Callback<T> = Box<dyn FnOnce(&Result<T, CloudError>) + Send>;

struct State<T> {
    result: Option<Result<T, CloudError>>,
    cause: Option<CloudError>,
    callbacks: Vec<Callback<T>>,
}

struct Slot<T> {
    state: Mutex<State<T>>,
    done: Condvar,
}

/// A request on its way to a platform. It goes on without the ticket; dropping one cancels nothing.
pub struct Ticket<T = Ack>(Arc<Slot<T>>);

impl<T> Clone for Ticket<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> std::fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let done = lock(&self.0.state).result.is_some();
        f.debug_struct("Ticket").field("done", &done).finish()
    }
}

impl<T: Clone> Ticket<T> {
    pub(super) fn new() -> Self {
        let state = State { result: None, cause: None, callbacks: Vec::new() };
        Self(Arc::new(Slot { state: Mutex::new(state), done: Condvar::new() }))
    }

    pub(super) fn refused(error: CloudError) -> Self {
        let ticket = Self::new();
        ticket.resolve(Err(error));
        ticket
    }

    /// The first result stands.
    pub(super) fn resolve(&self, result: Result<T, CloudError>) {
        let callbacks = {
            let mut state = lock(&self.0.state);
            if state.result.is_some() {
                return;
            }
            state.result = Some(result.clone());
            std::mem::take(&mut state.callbacks)
        };
        self.0.done.notify_all();
        callbacks.into_iter().for_each(|callback| callback(&result));
    }

    /// Says what stands in the way, for those who wait.
    pub(super) fn delayed_by(&self, cause: &CloudError) {
        lock(&self.0.state).cause = Some(cause.clone());
    }

    /// Waits for the platform's confirmation.
    ///
    /// # Errors
    /// [`CloudError::Pending`] if it takes longer than `timeout`: the request stays queued, and waiting again is
    /// fine. Any other error is final.
    pub fn wait(&self, timeout: Duration) -> Result<T, CloudError> {
        let waits = |state: &mut State<T>| state.result.is_none();
        let (state, _) = self
            .0
            .done
            .wait_timeout_while(lock(&self.0.state), timeout, waits)
            .unwrap_or_else(PoisonError::into_inner);
        match &state.result {
            Some(result) => result.clone(),
            None => Err(CloudError::Pending {
                seconds: timeout.as_secs(),
                cause: state.cause.clone().map(Box::new),
            }),
        }
    }

    /// The result, if there is one already.
    pub fn try_result(&self) -> Option<Result<T, CloudError>> {
        lock(&self.0.state).result.clone()
    }

    /// Calls back once, from the adapter's thread (or at once, if it is done): keep it short.
    pub fn on_done(&self, callback: impl FnOnce(&Result<T, CloudError>) + Send + 'static) {
        let result = {
            let mut state = lock(&self.0.state);
            match &state.result {
                None => {
                    state.callbacks.push(Box::new(callback));
                    return;
                }
                Some(result) => result.clone(),
            }
        };
        callback(&result);
    }
}

/// What a platform tells by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A unit logged in with this generation.
    Connected {
        /// Who.
        identity: Identity,
    },
    /// A login with the staged generation was the confirmation: the platform has made it the only one. Tell the
    /// agent.
    Committed {
        /// The generation that is now the only one.
        identity: Identity,
    },
    /// A unit published its birth message.
    Birth {
        /// The unit: the broker lets nobody else publish there.
        unit: UnitId,
        /// The generation it is logged in with, where the platform tells it for certain.
        generation: Option<u32>,
        /// What it published.
        payload: Vec<u8>,
    },
    /// The broker has lost an identity that should be there: stage the same generation again.
    Missing {
        /// Which.
        identity: Identity,
    },
    /// The platform can't be used; requests stay queued.
    Down {
        /// Why.
        cause: CloudError,
    },
    /// It can be used again.
    Up,
}

/// One subscriber's notices, in order, none left out.
#[derive(Debug)]
pub struct Notices(Receiver<Notice>);

impl Notices {
    /// The next one, or `None` after `timeout` or when the platform has stopped.
    pub fn next(&self, timeout: Duration) -> Option<Notice> {
        self.0.recv_timeout(timeout).ok()
    }

    /// The next one, however long it takes; `None` when the platform has stopped.
    pub fn wait(&self) -> Option<Notice> {
        self.0.recv().ok()
    }

    /// The next one that has come already.
    pub fn try_next(&self) -> Option<Notice> {
        self.0.try_recv().ok()
    }

    /// The first one that `wanted` maps to something; others are dropped. `None` after `timeout`.
    pub fn find<T>(&self, timeout: Duration, mut wanted: impl FnMut(Notice) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.0.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(notice) => {
                    if let Some(found) = wanted(notice) {
                        return Some(found);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }
}

/// Hands notices to every subscriber.
#[derive(Clone, Debug, Default)]
pub(super) struct Notifier(Arc<Mutex<Vec<Sender<Notice>>>>);

impl Notifier {
    pub fn subscribe(&self) -> Notices {
        let (sender, receiver) = channel();
        lock(&self.0).push(sender);
        Notices(receiver)
    }

    pub fn send(&self, notice: Notice) {
        lock(&self.0).retain(|subscriber| subscriber.send(notice.clone()).is_ok());
    }

    /// Ends every subscription.
    pub fn close(&self) {
        lock(&self.0).clear();
    }
}
