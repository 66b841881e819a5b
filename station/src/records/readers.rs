//! The read connections, shared by all threads.
//!
//! A read is processor time, not waiting, but each connection has a page cache of its own (2 MB) and its own parsed schema: more
//! than [`MOST`] at once would be no faster, and would cost an agent with a hundred callers a hundred caches. So a caller waits
//! for the next free one. Nobody holds two (a read is given a connection and nothing else), so nobody waits for ever.

use super::RecordsError;
use rusqlite::Connection;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Connections at once.
const MOST: usize = 8;

#[derive(Default)]
pub(super) struct Readers {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    lent: usize,
}

impl Readers {
    /// Runs `work` on a free connection, or on one that `open` makes. A connection whose work failed or panicked is closed.
    pub(super) fn with<T>(
        &self,
        open: impl FnOnce() -> Result<Connection, RecordsError>,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<rusqlite::Result<T>, RecordsError> {
        let mut loan = self.lend();
        let connection = match loan.connection.take() {
            Some(connection) => connection,
            None => open()?,
        };
        let result = work(&connection);
        if result.is_ok() {
            loan.connection = Some(connection);
        }
        Ok(result)
    }

    fn lend(&self) -> Loan<'_> {
        let mut state = self
            .freed
            .wait_while(self.lock(), |state| state.lent >= MOST)
            .unwrap_or_else(PoisonError::into_inner);
        state.lent += 1;
        Loan { readers: self, connection: state.idle.pop() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; the list is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to one connection, and the connection while it is not in use.
struct Loan<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let mut state = self.readers.lock();
        state.lent -= 1;
        state.idle.extend(self.connection.take());
        drop(state);
        self.readers.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn open(opened: &AtomicUsize) -> Result<Connection, RecordsError> {
        opened.fetch_add(1, Ordering::Relaxed);
        Ok(Connection::open_in_memory().expect("opens"))
    }

    #[test]
    fn a_hundred_callers_share_a_few_connections() {
        let (readers, opened) = (Readers::default(), AtomicUsize::new(0));
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    let one = readers.with(
                        || open(&opened),
                        |c| {
                            most.fetch_max(inside.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                            std::thread::sleep(Duration::from_millis(1));
                            let one = c.query_row("SELECT 1", [], |r| r.get::<_, i64>(0));
                            inside.fetch_sub(1, Ordering::Relaxed);
                            one
                        },
                    );
                    assert_eq!(one.expect("opens").expect("reads"), 1);
                });
            }
        });
        assert!(opened.load(Ordering::Relaxed) <= MOST && most.load(Ordering::Relaxed) <= MOST);
    }

    #[test]
    fn what_failed_is_not_used_again_and_blocks_nobody() {
        let (readers, opened) = (Readers::default(), AtomicUsize::new(0));
        for _ in 0..2 * MOST {
            let failed = readers.with(|| open(&opened), |c| c.query_row("SELECT nothing", [], |_| Ok(())));
            assert!(failed.expect("opens").is_err());
            let closed = || Err(RecordsError::Locked { path: String::new() });
            assert!(readers.with(closed, |_| Ok(())).is_err());
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                readers.with(|| open(&opened), |_| -> rusqlite::Result<()> { panic!("in a read") })
            }));
            assert!(panicked.is_err());
        }
        let before = opened.load(Ordering::Relaxed);
        for _ in 0..3 {
            readers.with(|| open(&opened), |_| Ok(())).expect("opens").expect("reads");
        }
        assert_eq!(opened.load(Ordering::Relaxed), before + 1, "a good one is kept");
    }
}
