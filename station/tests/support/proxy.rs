//! What lies between a broker and everybody else, and can be told to misbehave.
#![allow(dead_code, reason = "every test program uses its own part")]

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How it treats connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Through,
    /// Takes a connection and closes it.
    HangsUp,
    /// Takes a connection and carries nothing.
    Deaf,
    /// Carries every piece this much later.
    Slow(Duration),
}

struct State {
    to: SocketAddr,
    manner: Manner,
    open: Vec<TcpStream>,
    /// The next connections end after so many bytes of the client's.
    cuts: VecDeque<usize>,
    gone: bool,
}

/// Listens on loopback for as long as it lives.
pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    pub fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("an address");
        let state =
            State { to, manner: Manner::Through, open: Vec::new(), cuts: VecDeque::new(), gone: false };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if lock(&shared).gone {
                    return;
                }
                serve(&client, &shared);
            }
        });
        Self { address, state }
    }

    /// Leads to another place from now on.
    pub fn lead_to(&self, to: SocketAddr) {
        lock(&self.state).to = to;
    }

    /// What is open is cut, so that nothing of the old manner is left.
    pub fn set(&self, manner: Manner) {
        let mut state = lock(&self.state);
        state.manner = manner;
        for stream in state.open.drain(..) {
            // One that ended by itself is as good.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// The next connections end after so many bytes from the client.
    pub fn cut(&self, after: impl IntoIterator<Item = usize>) {
        lock(&self.state).cuts.extend(after);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Manner::HangsUp);
        lock(&self.state).gone = true;
        // Its thread looks up.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(client: &TcpStream, shared: &Arc<Mutex<State>>) {
    let mut state = lock(shared);
    if state.manner == Manner::HangsUp {
        return;
    }
    let Ok(server) = TcpStream::connect(state.to) else { return };
    let budget = state.cuts.pop_front().unwrap_or(usize::MAX);
    for (from, to, budget) in [(client, &server, budget), (&server, client, usize::MAX)] {
        let copy = |s: &TcpStream| s.try_clone().expect("a handle");
        state.open.push(copy(from));
        let (from, to, shared) = (copy(from), copy(to), shared.clone());
        std::thread::spawn(move || carry(from, to, budget, &shared));
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, mut budget: usize, shared: &Mutex<State>) {
    let _ = to.set_nodelay(true);
    let mut buffer = [0; 4096];
    loop {
        let len = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => len,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let manner = lock(shared).manner;
        match manner {
            Manner::Deaf => continue,
            Manner::Slow(pause) => std::thread::sleep(pause),
            Manner::Through | Manner::HangsUp => {}
        }
        let whole = len <= budget;
        budget -= len.min(budget);
        if !whole || to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    for stream in [&from, &to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
