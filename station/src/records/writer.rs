//! The one writer: a thread that owns the write connection and commits in groups.
//!
//! Callers hand closures over a channel. The thread takes everything that waits, runs each closure in its own
//! savepoint inside one transaction, commits (WAL, `synchronous=FULL`: one fsync), and only then answers. So many
//! callers share the price of one fsync, and still every answer means "on disk".
//!
//! Invariants:
//! - A caller that got `Ok` can lose power; a caller that got `Err` changed nothing.
//! - A closure that fails takes back its own savepoint only; one that loses the whole transaction (disk full) fails
//!   its group, never half of it.

use super::RecordsError;
use super::people_store::seal_events;
use super::sqlite::map_error;
use crate::secrets::StationKey;
use rusqlite::Connection;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};

/// Callers in one transaction at most; bounds the time that the first of them waits.
const MAX_GROUP: usize = 512;

/// What a closure may use: the connection, and the end of the event chain as this group left it.
pub(super) struct Tx<'a> {
    pub connection: &'a Connection,
    pub chain: &'a mut Option<[u8; 32]>,
    pub path: &'a str,
}

impl Tx<'_> {
    pub(super) fn map(&self, error: rusqlite::Error) -> RecordsError {
        map_error(self.path, error)
    }
}

/// One caller's write, in two steps: run inside the group's transaction, answer after its end.
trait Job: Send {
    /// Runs; `Err` carries why its savepoint must be taken back.
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), String>;
    /// Tells the caller, once: after the commit, or why the whole group failed.
    fn answer(self: Box<Self>, committed: Result<(), String>);
}

struct Call<T, F> {
    work: Option<F>,
    result: Option<Result<T, RecordsError>>,
    caller: mpsc::SyncSender<Result<T, RecordsError>>,
    path: String,
}

impl<T: Send, F> Job for Call<T, F>
where
    F: FnOnce(&mut Tx<'_>) -> Result<T, RecordsError> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), String> {
        let Some(work) = self.work.take() else { return Ok(()) };
        let result = catch_unwind(AssertUnwindSafe(|| work(tx))).unwrap_or_else(|_| {
            Err(RecordsError::Other { path: self.path.clone(), detail: "internal error in a write".into() })
        });
        let end = result.as_ref().map(|_| ()).map_err(group_reason);
        self.result = Some(result);
        end
    }

    fn answer(self: Box<Self>, committed: Result<(), String>) {
        let result = match (self.result, committed) {
            (Some(result), Ok(())) => result,
            (Some(Err(own)), Err(_)) => Err(own),
            (_, Err(reason)) => Err(group_error(&self.path, &reason)),
            (None, Ok(())) => Err(group_error(&self.path, "other:a write was not run")),
        };
        // A caller that went away needs no answer.
        let _ = self.caller.send(result);
    }
}

pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<std::thread::JoinHandle<()>>,
    path: String,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        path: String,
        key: Arc<StationKey>,
    ) -> Result<Self, RecordsError> {
        let (jobs, queue) = mpsc::channel::<Box<dyn Job>>();
        let name = path.clone();
        let thread = std::thread::Builder::new()
            .name("records-writer".into())
            .spawn(move || run(connection, &queue, &name, &key))
            .map_err(|e| RecordsError::Other { path: path.clone(), detail: e.to_string() })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), path })
    }

    /// Runs `work` in the writer and waits until its effect is on disk.
    pub(super) fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, RecordsError> + Send + 'static,
    ) -> Result<T, RecordsError> {
        let (caller, receiver) = mpsc::sync_channel(1);
        let job = Box::new(Call { work: Some(work), result: None, caller, path: self.path.clone() });
        let stopped = || RecordsError::Other {
            path: self.path.clone(),
            detail: "the writer has stopped; restart Keywright".into(),
        };
        self.jobs.as_ref().ok_or_else(stopped)?.send(job).map_err(|_| stopped())?;
        receiver.recv().map_err(|_| stopped())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A whole group failed; errors are not `Clone`, so they travel as `kind:detail`.
fn group_error(path: &str, reason: &str) -> RecordsError {
    let path = path.to_string();
    match reason.split_once(':') {
        Some(("full", _)) => RecordsError::DiskFull { path },
        Some(("locked", _)) => RecordsError::Locked { path },
        Some(("readonly", _)) => RecordsError::ReadOnly { path },
        Some(("corrupt", detail)) => RecordsError::Corrupt { path, detail: detail.into() },
        Some((_, detail)) => RecordsError::Other { path, detail: detail.into() },
        None => RecordsError::Other { path, detail: reason.into() },
    }
}

fn group_reason(error: &RecordsError) -> String {
    match error {
        RecordsError::DiskFull { .. } => "full:".into(),
        RecordsError::Locked { .. } => "locked:".into(),
        RecordsError::ReadOnly { .. } => "readonly:".into(),
        RecordsError::Corrupt { detail, .. } => format!("corrupt:{detail}"),
        other => format!("other:{other}"),
    }
}

fn run(connection: Connection, queue: &mpsc::Receiver<Box<dyn Job>>, path: &str, key: &StationKey) {
    let mut chain = None;
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        while group.len() < MAX_GROUP {
            match queue.try_recv() {
                Ok(job) => group.push(job),
                Err(_) => break,
            }
        }
        let committed = commit_group(&connection, &mut group, &mut chain, (path, key));
        if committed.is_err() {
            chain = None;
        }
        for job in group {
            job.answer(committed.clone());
        }
    }
}

fn commit_group(
    connection: &Connection,
    group: &mut [Box<dyn Job>],
    chain: &mut Option<[u8; 32]>,
    (path, key): (&str, &StationKey),
) -> Result<(), String> {
    let began = *chain;
    let step = |sql: &str| match connection.prepare_cached(sql).and_then(|mut s| s.execute([])) {
        Ok(_) => Ok(()),
        Err(e) => Err(group_reason(&map_error(path, e))),
    };
    let all = || -> Result<(), String> {
        step("BEGIN IMMEDIATE")?;
        for job in group {
            let before = *chain;
            step("SAVEPOINT caller")?;
            let end = job.run(&mut Tx { connection, chain, path });
            if connection.is_autocommit() {
                // SQLite took the whole transaction back by itself (disk full, I/O error).
                return Err(end.err().unwrap_or_else(|| "other:the transaction was lost".into()));
            }
            if end.is_err() {
                *chain = before;
                step("ROLLBACK TO caller")?;
            }
            step("RELEASE caller")?;
        }
        if *chain != began {
            // Once for the group: a tail that is cut off later is missed by it.
            seal_events(connection, key).map_err(|e| group_reason(&map_error(path, e)))?;
        }
        step("COMMIT")
    };
    let end = all();
    if end.is_err() && !connection.is_autocommit() {
        // Without this the next group would join the failed one. It fails only if there is nothing to take back.
        let _ = connection.execute_batch("ROLLBACK");
    }
    end
}
