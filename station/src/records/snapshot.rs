//! Whole copies of the database while the line runs, and a look at a copy before anybody relies on it.
//!
//! A copy is made inside one read transaction: in WAL mode that neither waits for the writer nor holds it up, and
//! SQLite does not start over when somebody writes meanwhile (`sqlite3_backup_step` restarts only when the source's read
//! lock was given up between two steps).

use super::sqlite::{Claim, SqliteRecords, claim, connect, create_private, map_error};
use super::{RecordsError, migrate};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

/// Pages between two looks at whether somebody cancelled: 4 MiB.
const PAGES_PER_STEP: i32 = 1024;
const BUSY: Duration = Duration::from_secs(2);

/// What a database file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFacts {
    /// Its schema.
    pub schema: i64,
    /// Units in all batches.
    pub units: u64,
    /// Attempts, failures included.
    pub attempts: u64,
    /// Events of units.
    pub events: u64,
}

impl SqliteRecords {
    /// Writes a whole, checked copy of the database to the new file `to`. Work goes on meanwhile.
    ///
    /// `progress` hears pages done and pages in all, and may stop the copy: then nothing is left and the answer is `None`.
    ///
    /// # Errors
    /// `DiskFull`, `ReadOnly` and the like for the copy; `Corrupt` if the copy does not check out.
    pub fn snapshot(
        &self,
        to: &Path,
        mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Option<DatabaseFacts>, RecordsError> {
        let (here, there) = (self.path().display().to_string(), to.display().to_string());
        create_private(to, &there)?;
        let copied = (|| {
            let source = connect(self.path(), OpenFlags::SQLITE_OPEN_READ_ONLY, &here, BUSY)?;
            let mut copy = connect(to, OpenFlags::SQLITE_OPEN_READ_WRITE, &there, BUSY)?;
            source
                .execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")
                .map_err(|e| map_error(&here, e))?;
            {
                let backup = Backup::new(&source, &mut copy).map_err(|e| map_error(&there, e))?;
                while backup.step(PAGES_PER_STEP).map_err(|e| map_error(&there, e))? != StepResult::Done {
                    let p = backup.progress();
                    let all = u64::try_from(p.pagecount).unwrap_or(0);
                    let done = all.saturating_sub(u64::try_from(p.remaining).unwrap_or(0));
                    if progress(done, all).is_break() {
                        return Ok(None);
                    }
                }
            }
            // One file, without a journal beside it.
            copy.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))
                .map_err(|e| map_error(&there, e))?;
            look(&copy, &there).map(Some)
        })();
        if !matches!(copied, Ok(Some(_))) {
            let _ = std::fs::remove_file(to);
        }
        copied
    }
}

/// Looks at a database that nobody has open: whole, known, and what it holds. Its keys stay sealed; no passphrase is needed.
///
/// # Errors
/// `Corrupt`, `NewerSchema`, `ReadOnly` and what opening gives.
pub fn check_database(path: &Path) -> Result<DatabaseFacts, RecordsError> {
    let display = path.display().to_string();
    look(&connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, &display, BUSY)?, &display)
}

/// Keeps every Keywright out of the database at `path` for as long as the value lives.
///
/// # Errors
/// `Locked` while a Keywright works on it.
pub(crate) fn keep_out(path: &Path) -> Result<Claim, RecordsError> {
    claim(path, &path.display().to_string())
}

fn look(connection: &Connection, display: &str) -> Result<DatabaseFacts, RecordsError> {
    let map = |e| map_error(display, e);
    migrate::check_readable(connection, display)?;
    let check: String = connection.query_row("PRAGMA integrity_check(1)", [], |r| r.get(0)).map_err(map)?;
    if check != "ok" {
        return Err(RecordsError::Corrupt { path: display.into(), detail: check });
    }
    let one = |sql: &str| connection.query_row(sql, [], |r| r.get(0)).map_err(map);
    let schema: i64 = one("PRAGMA user_version")?;
    if schema == 0 {
        return Err(RecordsError::Corrupt { path: display.into(), detail: "it holds no records".into() });
    }
    let count = |sql: &str| -> Result<u64, RecordsError> {
        connection.query_row(sql, [], |r| r.get::<_, i64>(0)).map(i64::unsigned_abs).map_err(map)
    };
    Ok(DatabaseFacts {
        schema,
        units: count("SELECT count(*) FROM unit")?,
        attempts: count("SELECT count(*) FROM attempt")?,
        events: count("SELECT count(*) FROM unit_event")?,
    })
}
