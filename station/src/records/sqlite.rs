//! The records on SQLite: opening, the line's reads and writes, and the mapping of SQLite's errors to ours.
//!
//! Invariants:
//! - One process works on a database (advisory lock on `<file>.lock`); inside it one thread writes (`writer`).
//! - WAL, `synchronous=FULL`: an answered write survives a power cut. Readers have their own connections.
//! - Every multi-row read is one snapshot.
//! - The clock is only ever written down, never compared for order; `seq` and row ids order things.

use super::people_store::{Broken, look_at_ends, seal_ends};
use super::readers::Readers;
use super::writer::{Tx, Writer};
use super::*;
use crate::failure::FailureCode;
use crate::secrets::{KdfCost, KeyRecipe, Passphrase, SealFor, Secret, SecretsError, StationKey};
use crate::shift::Standing;
use keywright_protocol::crypto;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;
use zeroize::Zeroizing;

/// Unix milliseconds from somewhere; tests turn it back.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The PC's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| jiff::Timestamp::now().as_millisecond())
}

pub(super) fn now(clock: &Clock) -> i64 {
    clock()
}

/// How to open the records.
#[derive(Clone)]
pub struct OpenOptions {
    /// The station's name, for every attempt.
    pub station: String,
    /// What a *new* database's station key costs to stretch.
    pub cost: KdfCost,
    /// The clock.
    pub clock: Clock,
    /// Refuse to grow beyond this many 4 KiB pages: a cap for small disks, and how tests fill one.
    pub max_pages: Option<u32>,
    /// How long to wait for another program that holds SQLite's own lock.
    pub busy_timeout: Duration,
}

impl OpenOptions {
    /// The usual ones.
    pub fn new(station: impl Into<String>) -> Self {
        Self {
            station: station.into(),
            cost: KdfCost::STATION,
            clock: system_clock(),
            max_pages: None,
            busy_timeout: Duration::from_secs(2),
        }
    }
}

impl std::fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenOptions")
            .field("station", &self.station)
            .field("cost", &self.cost)
            .field("max_pages", &self.max_pages)
            .field("busy_timeout", &self.busy_timeout)
            .finish_non_exhaustive()
    }
}

/// A place for a sealed value, owned.
pub(super) struct SealRow {
    table: &'static str,
    row: Vec<u8>,
    purpose: &'static str,
}

impl SealRow {
    fn place(&self) -> SealFor<'_> {
        SealFor { table: self.table, row: &self.row, purpose: self.purpose }
    }
}

/// Where a unit's key is sealed: the unit, the kind and the generation.
pub(super) fn assignment_seal(unit: UnitId, kind: &'static str, generation: u32) -> SealRow {
    let mut row = unit.0.to_vec();
    row.extend_from_slice(&generation.to_be_bytes());
    SealRow { table: "key_assignment", row, purpose: if kind == "agent" { "agent key" } else { "cloud key" } }
}

pub(super) fn pending_seal(unit: UnitId, h_frame1: &[u8; 32]) -> SealRow {
    let mut row = unit.0.to_vec();
    row.extend_from_slice(h_frame1);
    SealRow { table: "pending", row, purpose: "n2" }
}

pub(super) fn staged_seal(unit: UnitId, generation: u32) -> SealRow {
    let mut row = unit.0.to_vec();
    row.extend_from_slice(&generation.to_be_bytes());
    SealRow { table: "enrolment", row, purpose: "staged cloud record" }
}

pub(super) fn product_key_seal(name: &str) -> SealRow {
    SealRow { table: "product_order", row: name.as_bytes().to_vec(), purpose: "product key" }
}

/// Locks that keep two frames of one unit apart while different units go on in parallel.
const STRIPES: usize = 256;

/// Everything behind a [`SqliteRecords`]. Fields drop in order: readers, writer, then the claim on the file.
pub(crate) struct Inner {
    readers: Readers,
    writer: Writer,
    stripes: Box<[Mutex<()>]>,
    key: Arc<StationKey>,
    path: PathBuf,
    pub(super) display: String,
    station: String,
    pub(super) session: i64,
    pub(super) clock: Clock,
    busy_timeout: Duration,
    /// What [`SqliteRecords::check_whole`] found wrong.
    damage: OnceLock<String>,
    /// The gray-release size of batches that have none of their own.
    pub(super) gray_release: AtomicU32,
    _claim: Claim,
}

/// The records in a SQLite file. Cheap to clone; the file is released when the last clone is gone.
#[derive(Clone)]
pub struct SqliteRecords(pub(crate) Arc<Inner>);

impl std::fmt::Debug for SqliteRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteRecords").field("path", &self.0.display).finish_non_exhaustive()
    }
}

/// SQLite's errors in our words.
pub(super) fn map_error(path: &str, error: rusqlite::Error) -> RecordsError {
    use rusqlite::ErrorCode as E;
    let path = path.to_string();
    let rusqlite::Error::SqliteFailure(ref code, _) = error else {
        return RecordsError::Other { path, detail: error.to_string() };
    };
    match (code.code, code.extended_code) {
        (E::DatabaseBusy | E::DatabaseLocked, _) => RecordsError::Locked { path },
        (E::ReadOnly | E::PermissionDenied | E::CannotOpen, _) => RecordsError::ReadOnly { path },
        // A quota or a file size limit comes as a failed write, or as shared memory that can't grow.
        (E::DiskFull, _) | (_, rusqlite::ffi::SQLITE_IOERR_WRITE | rusqlite::ffi::SQLITE_IOERR_SHMSIZE) => {
            RecordsError::DiskFull { path }
        }
        (E::DatabaseCorrupt | E::NotADatabase, _) => {
            RecordsError::Corrupt { path, detail: error.to_string() }
        }
        _ => RecordsError::Other { path, detail: error.to_string() },
    }
}

fn io_error(path: &str, error: &std::io::Error) -> RecordsError {
    use std::io::ErrorKind as K;
    let path = path.to_string();
    match error.kind() {
        K::PermissionDenied | K::ReadOnlyFilesystem => RecordsError::ReadOnly { path },
        K::StorageFull | K::QuotaExceeded | K::FileTooLarge => RecordsError::DiskFull { path },
        _ => RecordsError::Other { path, detail: error.to_string() },
    }
}

pub(super) fn refused(code: FailureCode, facts: impl std::fmt::Display) -> RecordsError {
    RecordsError::Refused(Box::new(Failure::new(code, facts)))
}

impl SqliteRecords {
    /// Opens (or creates) the database with the usual options.
    pub fn open(path: &Path, station: &str, passphrase: &Passphrase) -> Result<Self, RecordsError> {
        Self::open_with(path, OpenOptions::new(station), passphrase)
    }

    /// Opens (or creates) the database and claims it for this process.
    pub fn open_with(
        path: &Path,
        options: OpenOptions,
        passphrase: &Passphrase,
    ) -> Result<Self, RecordsError> {
        let display = path.display().to_string();
        let claim = claim(path, &display)?;
        create_private(path, &display)?;
        let looks = Looks::before(path);
        let mut connection =
            connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, &display, options.busy_timeout)?;
        let map = |e| map_error(&display, e);
        if connection.is_readonly("main").map_err(map)? {
            return Err(RecordsError::ReadOnly { path: display });
        }
        // Before anything is written: a newer or a foreign file must stay as it is.
        migrate::check_readable(&connection, &display)?;
        refuse_foreign(&connection, &display)?;
        let mode: String =
            connection.query_row("PRAGMA journal_mode = WAL", [], |r| r.get(0)).map_err(map)?;
        if mode != "wal" {
            return Err(RecordsError::Other {
                path: display,
                detail: format!("journal mode is {mode}, not wal"),
            });
        }
        connection
            .execute_batch(
                "PRAGMA synchronous = FULL; PRAGMA cache_size = -16000; PRAGMA wal_autocheckpoint = 4000",
            )
            .map_err(map)?;
        if let Some(pages) = options.max_pages {
            connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).map_err(map)?;
        }
        if looks != Looks::Later {
            look_at_pages(&connection, "quick_check")
                .map_err(map)?
                .map_err(|detail| RecordsError::Corrupt { path: display.clone(), detail })?;
        }
        // A database that has a key is upgraded with it: what a schema seals is sealed in the step that brings it.
        let stretching = std::time::Instant::now();
        let known = stored_key(&connection, &display, passphrase)?.map(Arc::new);
        tracing::info!(ms = stretching.elapsed().as_millis() as u64, "the passphrase is stretched");
        migrate::to_latest(&mut connection, &display, known.clone())?;
        let key = match known {
            Some(key) => key,
            None => Arc::new(new_key(&mut connection, &display, passphrase, options.cost)?),
        };
        look_at_ends(&connection, &key, now(&options.clock)).map_err(map)?;
        connection
            .execute(
                "INSERT INTO session (station, version, opened_at_ms) VALUES (?1, ?2, ?3)",
                (&options.station, env!("CARGO_PKG_VERSION"), now(&options.clock)),
            )
            .map_err(map)?;
        let session = connection.last_insert_rowid();
        connection.set_prepared_statement_cache_capacity(128);
        let writer = Writer::start(connection, display.clone(), key.clone())?;
        Ok(Self(Arc::new(Inner {
            readers: Readers::default(),
            writer,
            stripes: (0..STRIPES).map(|_| Mutex::new(())).collect(),
            key,
            path: path.to_path_buf(),
            display,
            station: options.station,
            session,
            clock: options.clock,
            busy_timeout: options.busy_timeout,
            damage: OnceLock::new(),
            gray_release: AtomicU32::new(0),
            _claim: claim,
        })))
    }

    /// How many units may pass between two samples in batches that don't say so themselves; 0: any number.
    pub fn set_gray_release(&self, units: u32) {
        self.0.gray_release.store(units, Ordering::Relaxed);
    }

    /// Opens sealed keys.
    pub fn key_vault(&self) -> KeyVault {
        KeyVault(self.0.clone())
    }

    /// The unlocked station key, for the sealed files beside the database.
    pub fn station_key(&self) -> Arc<StationKey> {
        self.0.key.clone()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The station's name, as attempts carry it.
    pub fn station(&self) -> &str {
        &self.0.station
    }

    /// The rows that a filter names, still to be read: units in the order of their first arrival, and for a whole batch then the
    /// attempts without a unit, oldest first.
    pub fn export_keys(&self, filter: &ExportFilter) -> Result<Vec<ExportKey>, RecordsError> {
        self.0.export_keys(filter)
    }

    /// The canonical rows of these, in this order, as they are now.
    pub fn export_rows_at(&self, keys: &[ExportKey]) -> Result<Vec<ExportRow>, RecordsError> {
        self.0.export_rows_at(keys)
    }

    /// The canonical rows of these units, in this order; `None` for a unit that was never here.
    pub fn export_rows_of(&self, units: &[UnitId]) -> Result<Vec<Option<ExportRow>>, RecordsError> {
        self.0.export_rows_of(units)
    }

    /// When these units got the keys they have, in this order, Unix milliseconds: the end of the first attempt that passed with them,
    /// or, if none did, when the newest of them was confirmed. `None` for a unit that has none, or was never here.
    pub fn provisioned_at(&self, units: &[UnitId]) -> Result<Vec<Option<i64>>, RecordsError> {
        self.0.provisioned_at(units)
    }

    /// The cloud identities (unit and generation) of the units that a filter names and that passed, which a list made known while they
    /// were live and which newer keys took the place of since. A list without keys counts unless it is one of the canonical forms:
    /// whoever gets it makes accounts of it. So does one that was revoked.
    pub fn superseded_identities(&self, filter: &ExportFilter) -> Result<Vec<(UnitId, u32)>, RecordsError> {
        self.0.superseded_identities(filter)
    }

    /// Records that these lists are handed out: all of them or none. Their numbers.
    pub fn record_exports(&self, exports: Vec<NewExport>) -> Result<Vec<i64>, RecordsError> {
        for batch in exports.iter().filter_map(|e| e.batch) {
            self.batch(batch)?;
        }
        self.0.record_exports(exports)
    }

    /// What was handed out to whom, oldest first.
    pub fn export_log(&self, filter: &ExportLogFilter) -> Result<Vec<ExportRecord>, RecordsError> {
        self.0.list_exports(filter)
    }

    /// Changes whenever [`SqliteRecords::export_log`] does, and costs next to nothing.
    pub fn export_log_mark(&self) -> Result<(i64, i64), RecordsError> {
        self.0.exports_mark()
    }

    /// Units of which an export gave away a key that is still live.
    pub fn exposed_units(&self, export: i64) -> Result<Vec<ExposedUnit>, RecordsError> {
        self.0.exposed_units(export)
    }

    /// Marks an export as revoked, once: its recipient shall no longer know live keys. The keys themselves die with a rekey of
    /// the units that [`SqliteRecords::exposed_units`] names.
    pub fn revoke_export(&self, export: i64, operator: &str, reason: &str) -> Result<(), RecordsError> {
        self.0.revoke_export(export, operator, reason)
    }

    /// Looks at every page and every index. What it finds is told by [`Records::damage`] from then on, and nothing is
    /// written any more.
    ///
    /// # Errors
    /// `Corrupt` with what SQLite found; those of reading.
    pub fn check_whole(&self) -> Result<(), RecordsError> {
        let found = match self.0.read(|c| look_at_pages(c, "integrity_check")) {
            Ok(found) => found,
            Err(RecordsError::Corrupt { detail, .. }) => Err(detail),
            Err(error) => return Err(error),
        };
        let path = self.0.display.clone();
        found.map_err(|detail| {
            let _ = self.0.damage.set(detail.clone());
            RecordsError::Corrupt { path, detail }
        })
    }

    /// When the database was last found whole, by a backup or by [`SqliteRecords::check_whole`]; Unix milliseconds.
    pub fn found_whole_at(&self) -> Result<Option<i64>, RecordsError> {
        self.0.read(|c| {
            let at: Option<Vec<u8>> = c
                .query_row("SELECT value FROM meta WHERE key = 'found-whole'", [], |r| r.get(0))
                .optional()?;
            Ok(at.and_then(|at| Some(i64::from_be_bytes(at.try_into().ok()?))))
        })
    }

    /// Writes down that the database was found whole.
    pub fn note_whole(&self, at_ms: i64) -> Result<(), RecordsError> {
        self.0.write(move |tx| {
            tx.connection
                .execute(
                    "INSERT OR REPLACE INTO meta VALUES ('found-whole', ?1)",
                    [at_ms.to_be_bytes().as_slice()],
                )
                .map(drop)
                .map_err(|e| tx.map(e))
        })
    }

    /// Recomputes the chain over the whole history: a row that was changed, removed or put in between behind our back
    /// is named. Returns the number of events.
    pub fn verify_history(&self) -> Result<u64, RecordsError> {
        let (mut count, mut first) = (0, None);
        self.0.read(|c| {
            event_chain(c, &mut |broken| {
                count += 1;
                first = broken;
                first.is_none()
            })
        })?;
        match first {
            None => Ok(count),
            Some(broken) => Err(RecordsError::Corrupt {
                path: self.0.display.clone(),
                detail: format!("event {} or the one before it was changed or removed", broken.row),
            }),
        }
    }
}

/// Recomputes the units' history and gives `each` what does not fit of every row, until it says false.
pub(super) fn event_chain(
    c: &Connection,
    each: &mut dyn FnMut(Option<Broken>) -> bool,
) -> rusqlite::Result<()> {
    // What stands in the row before, and what should stand there: where a row's own link was changed, the next follows the second.
    let (mut stood, mut should) = ([0u8; 32], [0u8; 32]);
    let mut statement = c.prepare_cached(
        "SELECT seq, unit, attempt, at_ms, kind, detail, chain FROM unit_event ORDER BY seq",
    )?;
    let mut rows = statement.query([])?;
    while let Some(r) = rows.next()? {
        let (kind, detail): (String, String) = (r.get(4)?, r.get(5)?);
        let (unit, attempt, at_ms, chain) = (r.get(1)?, r.get(2)?, r.get(3)?, r.get::<_, [u8; 32]>(6)?);
        let computed = chain_link(&should, unit, attempt, at_ms, &kind, &detail);
        let fits = computed == chain
            || (stood != should && chain_link(&stood, unit, attempt, at_ms, &kind, &detail) == chain);
        let broken = (!fits).then(|| {
            let what = "it, or the one before it, is not as it was written".into();
            Ok::<_, rusqlite::Error>(Broken { table: "unit_event", row: r.get(0)?, at_ms: Some(at_ms), what })
        });
        (stood, should) = (chain, if fits { chain } else { computed });
        if !each(broken.transpose()?) {
            break;
        }
    }
    Ok(())
}

/// When every page of a database is looked at.
///
/// Looking costs a second for each gigabyte or so, and the window is waited for. A file tears when a program or a PC dies at work, so
/// that is when a large one is looked at before anything else; after a good end it is looked at once a day while the
/// station works ([`SqliteRecords::check_whole`]), by each backup, and by `keywright doctor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looks {
    /// It is so small that nobody notices.
    Small,
    /// The journal of the last session is still there: it did not come to its end.
    NotClosed,
    /// The last session closed it.
    Later,
}

/// Below this a database is looked at whenever it is opened.
const SMALL: u64 = 64 << 20;

impl Looks {
    /// Looked at before SQLite takes the journal in.
    fn before(path: &Path) -> Self {
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
        let mut journal = path.as_os_str().to_owned();
        journal.push("-wal");
        if length(path) <= SMALL {
            Self::Small
        } else if length(Path::new(&journal)) > 0 {
            Self::NotClosed
        } else {
            Self::Later
        }
    }
}

/// What SQLite finds wrong with its pages, if anything; `how`: `quick_check`, or `integrity_check`, which compares the indexes too.
fn look_at_pages(connection: &Connection, how: &str) -> rusqlite::Result<Result<(), String>> {
    let found: String = connection.query_row(&format!("PRAGMA {how}(1)"), [], |r| r.get(0))?;
    Ok(if found == "ok" { Ok(()) } else { Err(found) })
}

/// The lock file of an open database.
///
/// Released by name when dropped: a child process that is being started by another thread holds a copy of the descriptor
/// until its `exec`, and a mere close would leave the lock with that copy (flock(2): a lock belongs to the open file
/// description, an unlock through any descriptor ends it).
pub(crate) struct Claim(std::fs::File);

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

pub(super) fn claim(path: &Path, display: &str) -> Result<Claim, RecordsError> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder).map_err(|e| io_error(display, &e))?;
    }
    let mut name = path.as_os_str().to_os_string();
    name.push(".lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(|e| io_error(display, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(Claim(file)),
        Err(std::fs::TryLockError::WouldBlock) => Err(RecordsError::Locked { path: display.into() }),
        Err(std::fs::TryLockError::Error(e)) => Err(io_error(display, &e)),
    }
}

/// Creates the file readable by this user only, before SQLite would create it with the umask's rights.
pub(super) fn create_private(path: &Path, display: &str) -> Result<(), RecordsError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(io_error(display, &e)),
    }
}

pub(super) fn connect(
    path: &Path,
    access: OpenFlags,
    display: &str,
    busy: Duration,
) -> Result<Connection, RecordsError> {
    let map = |e| map_error(display, e);
    let connection =
        Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(map)?;
    connection.busy_timeout(busy).map_err(map)?;
    connection
        .execute_batch("PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY")
        .map_err(map)?;
    Ok(connection)
}

/// A file with tables but without our version is somebody else's.
fn refuse_foreign(connection: &Connection, display: &str) -> Result<(), RecordsError> {
    let foreign: bool = connection
        .query_row(
            "SELECT (SELECT count(*) FROM sqlite_master) > 0 AND (SELECT user_version FROM pragma_user_version) = 0",
            [],
            |r| r.get(0),
        )
        .map_err(|e| map_error(display, e))?;
    if foreign {
        return Err(RecordsError::Corrupt {
            path: display.into(),
            detail: "it is another program's database".into(),
        });
    }
    Ok(())
}

/// The key of a database that has one.
fn stored_key(
    connection: &Connection,
    display: &str,
    passphrase: &Passphrase,
) -> Result<Option<StationKey>, RecordsError> {
    let map = |e| map_error(display, e);
    let secrets = |e| map_secrets(display, e);
    if !connection.table_exists(None, "meta").map_err(map)? {
        return Ok(None);
    }
    let recipe: Option<Vec<u8>> = connection
        .query_row("SELECT value FROM meta WHERE key = 'station-key'", [], |r| r.get(0))
        .optional()
        .map_err(map)?;
    recipe
        .map(|recipe| {
            StationKey::open(passphrase, &KeyRecipe::from_bytes(&recipe).map_err(secrets)?).map_err(secrets)
        })
        .transpose()
}

/// A new database's key, and the seals of its empty histories with it.
fn new_key(
    connection: &mut Connection,
    display: &str,
    passphrase: &Passphrase,
    cost: KdfCost,
) -> Result<StationKey, RecordsError> {
    let secrets = |e| map_secrets(display, e);
    passphrase.check_strength().map_err(secrets)?;
    let key = StationKey::create(passphrase, cost).map_err(secrets)?;
    let mut write = || {
        let tx = connection.transaction()?;
        tx.execute("INSERT INTO meta VALUES ('station-key', ?1)", [key.recipe().to_bytes().as_slice()])?;
        seal_ends(&tx, &key)?;
        tx.commit()
    };
    write().map_err(|e| map_error(display, e))?;
    Ok(key)
}

pub(super) fn map_secrets(path: &str, error: SecretsError) -> RecordsError {
    let path = path.to_string();
    match error {
        SecretsError::WrongPassphrase => RecordsError::WrongPassphrase { path },
        SecretsError::Damaged { .. } | SecretsError::Parameters { .. } => {
            RecordsError::Corrupt { path, detail: error.to_string() }
        }
        SecretsError::TooShort { .. } => refused(FailureCode::InvalidInput, error),
        other => RecordsError::Other { path, detail: other.to_string() },
    }
}

impl Inner {
    pub(super) fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, RecordsError> + Send + 'static,
    ) -> Result<T, RecordsError> {
        // Pages that are wrong already would only take more with them.
        if let Some(detail) = self.damage.get() {
            return Err(RecordsError::Corrupt { path: self.display.clone(), detail: detail.clone() });
        }
        self.writer.write(work)
    }

    /// Runs a read in one snapshot on a reader of its own; never waits for the writer.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, RecordsError> {
        let open = || {
            let c = connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY, &self.display, self.busy_timeout)?;
            c.set_prepared_statement_cache_capacity(64);
            Ok(c)
        };
        let read = |connection: &Connection| {
            let snapshot = connection.unchecked_transaction()?;
            let value = work(&snapshot)?;
            snapshot.finish()?;
            Ok(value)
        };
        self.readers.with(open, read)?.map_err(|e| map_error(&self.display, e))
    }

    /// Holds off other frames of the same unit.
    pub(super) fn lock_unit(&self, unit: UnitId) -> MutexGuard<'_, ()> {
        let stripe =
            unit.0.iter().fold(0usize, |h, b| h.wrapping_mul(31).wrapping_add(usize::from(*b))) % STRIPES;
        self.stripes[stripe].lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn seal(&self, place: &SealRow, plaintext: &[u8]) -> Result<Vec<u8>, RecordsError> {
        self.key.seal(place.place(), plaintext).map_err(|e| map_secrets(&self.display, e))
    }

    pub(super) fn open_sealed(
        &self,
        place: &SealRow,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, RecordsError> {
        self.key.open_sealed(place.place(), sealed).map_err(|e| map_secrets(&self.display, e))
    }

    pub(super) fn product_key(&self, name: &str, sealed: &[u8]) -> Result<Secret<32>, RecordsError> {
        let place = product_key_seal(name);
        self.key.open_secret(place.place(), sealed).map_err(|e| map_secrets(&self.display, e))
    }

    pub(super) fn station_key(&self) -> Arc<StationKey> {
        self.key.clone()
    }

    pub(crate) fn now(&self) -> i64 {
        now(&self.clock)
    }

    pub(super) fn missing(
        &self,
        what: &'static str,
        name: impl std::fmt::Display,
        list: &'static str,
    ) -> RecordsError {
        RecordsError::NotFound { what, name: name.to_string(), list }
    }
}

fn chain_link(
    last: &[u8; 32],
    unit: i64,
    attempt: Option<i64>,
    at_ms: i64,
    kind: &str,
    detail: &str,
) -> [u8; 32] {
    crypto::sha256(&[
        b"keywright/event/v1",
        last,
        &unit.to_be_bytes(),
        &attempt.unwrap_or(0).to_be_bytes(),
        &at_ms.to_be_bytes(),
        &(kind.len() as u64).to_be_bytes(),
        kind.as_bytes(),
        detail.as_bytes(),
    ])
}

/// Appends to a unit's history inside a write.
pub(super) fn append_event(
    tx: &mut Tx<'_>,
    unit: i64,
    attempt: Option<i64>,
    at_ms: i64,
    kind: &str,
    detail: &serde_json::Value,
) -> Result<(), RecordsError> {
    let detail = detail.to_string();
    let mut inner = || -> rusqlite::Result<()> {
        let last = match *tx.chain {
            Some(last) => last,
            None => tx
                .connection
                .prepare_cached("SELECT chain FROM unit_event ORDER BY seq DESC LIMIT 1")?
                .query_row([], |r| r.get(0))
                .optional()?
                .unwrap_or([0; 32]),
        };
        let link = chain_link(&last, unit, attempt, at_ms, kind, &detail);
        tx.connection
            .prepare_cached(
                "INSERT INTO unit_event (unit, attempt, at_ms, kind, detail, chain) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((unit, attempt, at_ms, kind, &detail, link))?;
        *tx.chain = Some(link);
        Ok(())
    };
    inner().map_err(|e| map_error(tx.path, e))
}

/// A stored word of ours; another program's word is damage.
pub(super) fn word<T: std::str::FromStr<Err = String>>(
    row: &rusqlite::Row<'_>,
    at: usize,
) -> rusqlite::Result<T> {
    parse_word(&row.get::<_, String>(at)?, at)
}

pub(super) fn parse_word<T: std::str::FromStr<Err = String>>(text: &str, at: usize) -> rusqlite::Result<T> {
    text.parse().map_err(|e: String| {
        rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, e.into())
    })
}

pub(super) fn json<T: serde::de::DeserializeOwned>(
    row: &rusqlite::Row<'_>,
    at: usize,
) -> rusqlite::Result<Option<T>> {
    row.get::<_, Option<String>>(at)?
        .map(|text| {
            serde_json::from_str(&text).map_err(|e| {
                rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, e.into())
            })
        })
        .transpose()
}

pub(super) const PO_COLUMNS: &str = "SELECT id, name, model, hw_revision, part_number, quantity, region, suite, image_sha256, cloud_url, locks, per_hour, key_invalid_at_ms, label FROM product_order";

pub(super) fn po_row(r: &rusqlite::Row<'_>) -> rusqlite::Result<ProductOrder> {
    Ok(ProductOrder {
        id: PoId(r.get(0)?),
        name: r.get(1)?,
        model: r.get(2)?,
        hw_revision: r.get(3)?,
        part_number: r.get(4)?,
        quantity: r.get(5)?,
        region: r.get(6)?,
        suite: r.get(7)?,
        image_sha256: r.get(8)?,
        cloud_url: r.get(9)?,
        lock: r.get(10)?,
        per_hour: r.get(11)?,
        key_invalid_at_ms: r.get(12)?,
        label: word(r, 13)?,
    })
}

pub(super) const BATCH_COLUMNS: &str = "SELECT id, name, po, quantity, state, serial_pattern, gray_release, passed, approved, closed_reason, serial_form FROM batch";

pub(super) fn batch_state(text: &str, at: usize) -> rusqlite::Result<BatchState> {
    match text {
        "open" => Ok(BatchState::Open),
        "paused" => Ok(BatchState::Paused),
        "closed" => Ok(BatchState::Closed),
        other => Err(rusqlite::Error::FromSqlConversionFailure(
            at,
            rusqlite::types::Type::Text,
            format!("unknown batch state {other:?}").into(),
        )),
    }
}

pub(super) fn batch_row(r: &rusqlite::Row<'_>) -> rusqlite::Result<Batch> {
    Ok(Batch {
        id: BatchId(r.get(0)?),
        name: r.get(1)?,
        po: PoId(r.get(2)?),
        quantity: r.get(3)?,
        state: batch_state(&r.get::<_, String>(4)?, 4)?,
        terms: BatchTerms {
            serial_pattern: r.get(5)?,
            gray_release: r.get(6)?,
            passed: r.get(7)?,
            approved: r.get(8)?,
            closed_reason: r.get(9)?,
            serial_form: r.get(10)?,
        },
    })
}

/// `?2` is an attempt to leave out when asking whether the unit was interrupted (the one just begun), `?3` this
/// session: an attempt without an end is running if this process began it, interrupted if another one did.
pub(super) const UNIT_COLUMNS: &str = "
    SELECT u.uid, u.batch, u.serial, u.state, u.generation, (SELECT count(*) FROM attempt WHERE unit = u.id),
           coalesce((SELECT (outcome IS NULL AND session <> ?3) OR (outcome IS 'ABORTED' AND failure_code = 607)
                     FROM attempt WHERE unit = u.id AND id <> ?2 ORDER BY id DESC LIMIT 1), 0)
    FROM unit u";

pub(super) fn unit_row(r: &rusqlite::Row<'_>) -> rusqlite::Result<Unit> {
    Ok(Unit {
        id: UnitId(r.get(0)?),
        batch: BatchId(r.get(1)?),
        serial: r.get(2)?,
        state: word(r, 3)?,
        generation: r.get(4)?,
        attempts: r.get(5)?,
        interrupted: r.get(6)?,
    })
}

pub(super) fn attempt_row(r: &rusqlite::Row<'_>) -> rusqlite::Result<Attempt> {
    Ok(Attempt {
        id: AttemptId(r.get(0)?),
        batch: BatchId(r.get(1)?),
        unit: r.get::<_, Option<[u8; 12]>>(2)?.map(UnitId),
        fixture: r.get(3)?,
        operator: r.get(4)?,
        station: r.get(5)?,
        started_at_ms: r.get(6)?,
        ended_at_ms: r.get(7)?,
        outcome: r.get::<_, Option<String>>(8)?.map(|t| parse_word(&t, 8)).transpose()?,
        failure: json(r, 9)?,
        proof: json(r, 10)?,
        work: match (r.get_ref(11)?.as_str()?, r.get(12)?) {
            (_, true) => AttemptWork::Retest,
            ("update", false) => AttemptWork::Update,
            _ => AttemptWork::Make,
        },
    })
}

pub(super) const ATTEMPT_COLUMNS: &str = "
    SELECT a.id, a.batch, u.uid, a.fixture, a.operator, a.station, a.started_at_ms, a.ended_at_ms, a.outcome,
           a.failure, a.proof, a.kind, a.retest
    FROM attempt a LEFT JOIN unit u ON u.id = a.unit";

/// Names end up in file names and on labels.
pub(super) fn check_name(what: &str, name: &str, longest: usize) -> Result<(), RecordsError> {
    let fits = !name.is_empty()
        && name.len() <= longest
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !name.starts_with(['.', '-']);
    if fits {
        Ok(())
    } else {
        Err(refused(
            FailureCode::InvalidInput,
            format!("a {what} has 1 to {longest} letters, digits, '.', '_' or '-', got {name:?}"),
        ))
    }
}

pub(super) fn check_text(what: &str, text: &str, longest: usize) -> Result<(), RecordsError> {
    if text.is_empty() || text.len() > longest || text.chars().any(char::is_control) {
        return Err(refused(
            FailureCode::InvalidInput,
            format!("{what} has 1 to {longest} printable characters, got {text:?}"),
        ));
    }
    Ok(())
}

fn quote_state(state: BatchState) -> &'static str {
    match state {
        BatchState::Open => "it is open",
        BatchState::Paused => "it is paused",
        BatchState::Closed => "it is closed",
    }
}

impl Inner {
    /// A PASS is only what was proved: see [`Records::finish_attempt`].
    fn check_pass(
        &self,
        unit: UnitId,
        keys: &UnitKeys,
        proof: Option<&ProofRecord>,
        locks: bool,
    ) -> Result<(), RecordsError> {
        let refuse = |facts: String| Err(refused(FailureCode::ProofFailed, facts));
        let Some(proof) = proof else { return refuse("a PASS needs a proof".into()) };
        if unit.is_blank() {
            return Err(refused(FailureCode::BlankIdentity, ""));
        }
        if !proof.cloud_mac_ok || !proof.agent_mac_ok {
            return refuse(format!("unit {unit}: a MAC does not verify"));
        }
        // What was asked for is no evidence: only what the chip showed afterwards is.
        let lock = proof.lock;
        if locks && !(lock.closed == Some(true) && lock.observed.is_some_and(OptionBytes::are_locked)) {
            let shown = lock.observed.map_or("nothing".into(), |o| o.to_string());
            return Err(refused(
                FailureCode::LockFailed,
                format!("unit {unit}: its order locks units, its chip showed {shown}"),
            ));
        }
        let mut challenge = [0u8; 32];
        let drawn = hex::decode_to_slice(&proof.challenge, &mut challenge).is_ok();
        if !drawn || crypto::is_blank(&challenge) || proof.generation == 0 {
            return refuse(format!("unit {unit}: the proof has no challenge or no generation"));
        }
        for (what, key, proved) in
            [("agent", &keys.agent, proof.ak_gen), ("cloud", &keys.cloud, proof.ck_gen)]
        {
            match key {
                None => return refuse(format!("unit {unit}: no {what} key was confirmed")),
                Some(key) if key.key.is_blank() => {
                    return Err(refused(FailureCode::BlankKey, format!("unit {unit}: the {what} key")));
                }
                Some(key) if key.generation != proved => {
                    return refuse(format!(
                        "unit {unit}: it proved {what} key generation {proved}, the live one is {}",
                        key.generation
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

impl Records for SqliteRecords {
    fn create_product_order(&self, new: NewProductOrder) -> Result<ProductOrder, RecordsError> {
        let mut made = self.0.create_orders(vec![(new, None)])?;
        made.pop().map(|(order, _)| order).ok_or_else(|| self.0.missing("product order", "", "po list"))
    }

    fn create_orders(
        &self,
        orders: Vec<(NewProductOrder, Option<NewBatch>)>,
    ) -> Result<Vec<(ProductOrder, Option<Batch>)>, RecordsError> {
        self.0.create_orders(orders)
    }

    fn list_product_orders(&self) -> Result<Vec<ProductOrder>, RecordsError> {
        self.0
            .read(|c| c.prepare(&format!("{PO_COLUMNS} ORDER BY id DESC"))?.query_map([], po_row)?.collect())
    }

    fn product_order(&self, id: PoId) -> Result<ProductOrder, RecordsError> {
        self.0
            .read(|c| {
                c.prepare_cached(&format!("{PO_COLUMNS} WHERE id = ?1"))?.query_row([id.0], po_row).optional()
            })?
            .ok_or_else(|| self.0.missing("product order", id.0, "po list"))
    }

    fn product_order_by_name(&self, name: &str) -> Result<ProductOrder, RecordsError> {
        self.0
            .read(|c| {
                c.prepare_cached(&format!("{PO_COLUMNS} WHERE name = ?1"))?
                    .query_row([name], po_row)
                    .optional()
            })?
            .ok_or_else(|| self.0.missing("product order", name, "po list"))
    }

    fn pin_image(&self, id: PoId, image_sha256: &str) -> Result<(), RecordsError> {
        let hash = super::order_store::image_hash(image_sha256)?;
        let order = self.product_order(id)?;
        if order.image_sha256.as_deref() == Some(hash.as_str()) {
            return Ok(());
        }
        self.0.write(move |tx| {
            let changed = tx
                .connection
                .execute(
                    "UPDATE product_order SET image_sha256 = ?2
                     WHERE id = ?1 AND (image_sha256 IS NULL OR image_sha256 = ?2)",
                    (id.0, &hash),
                )
                .map_err(|e| tx.map(e))?;
            if changed == 1 { Ok(()) } else { Err(refused(FailureCode::ImageChanged, &order.name)) }
        })
    }

    fn new_batch(&self, new: NewBatch) -> Result<Batch, RecordsError> {
        self.0.new_batch(new)
    }

    fn list_batches(&self) -> Result<Vec<Batch>, RecordsError> {
        self.0.read(|c| {
            c.prepare_cached(&format!("{BATCH_COLUMNS} ORDER BY id DESC"))?
                .query_map([], batch_row)?
                .collect()
        })
    }

    fn batch_by_name(&self, name: &str) -> Result<Batch, RecordsError> {
        self.0
            .read(|c| {
                c.prepare_cached(&format!("{BATCH_COLUMNS} WHERE name = ?1"))?
                    .query_row([name], batch_row)
                    .optional()
            })?
            .ok_or_else(|| self.0.missing("batch", name, "batch list"))
    }

    fn batch(&self, id: BatchId) -> Result<Batch, RecordsError> {
        self.0
            .read(|c| {
                c.prepare_cached(&format!("{BATCH_COLUMNS} WHERE id = ?1"))?
                    .query_row([id.0], batch_row)
                    .optional()
            })?
            .ok_or_else(|| self.0.missing("batch", id.0, "batch list"))
    }

    fn set_batch_state(
        &self,
        id: BatchId,
        state: BatchState,
        operator: &str,
        reason: &str,
    ) -> Result<(), RecordsError> {
        self.batch(id)?;
        self.0.set_batch_state(id, state, operator, reason)
    }

    fn approve_sample(&self, id: BatchId, operator: &str, note: &str) -> Result<(), RecordsError> {
        self.batch(id)?;
        self.0.approve_sample(id, operator, note)
    }

    fn sample(&self, id: BatchId, at_most: u32) -> Result<Vec<Unit>, RecordsError> {
        self.0.sample(&self.batch(id)?, at_most)
    }

    fn order_events(&self, po: PoId, batch: Option<BatchId>) -> Result<Vec<OrderEvent>, RecordsError> {
        self.0.order_events(po, batch)
    }

    fn label_facts(&self, unit: UnitId) -> Result<LabelFacts, RecordsError> {
        self.0.label_facts(unit)
    }

    fn label_printed(
        &self,
        unit: UnitId,
        attempt: Option<AttemptId>,
        code: &str,
        operator: &str,
    ) -> Result<u32, RecordsError> {
        self.0.label_printed(unit, attempt, code, operator)
    }

    fn label_scanned(
        &self,
        unit: UnitId,
        attempt: Option<AttemptId>,
        code: &str,
        operator: &str,
    ) -> Result<(), RecordsError> {
        self.0.label_scanned(unit, attempt, code, operator)
    }

    fn damage(&self) -> Option<RecordsError> {
        let detail = self.0.damage.get()?.clone();
        Some(RecordsError::Corrupt { path: self.0.display.clone(), detail })
    }

    fn batch_counts(&self, id: BatchId) -> Result<BatchCounts, RecordsError> {
        let planned = self.batch(id)?.quantity;
        self.0.read(|c| {
            let mut counts = BatchCounts { planned, ..BatchCounts::default() };
            // Kept by triggers: one look however large the batch (schema 12).
            let mut statement = c.prepare_cached("SELECT class, units FROM batch_tally WHERE batch = ?1")?;
            let mut rows = statement.query([id.0])?;
            while let Some(r) = rows.next()? {
                let (class, units): (String, u32) = (r.get(0)?, r.get(1)?);
                match class.as_str() {
                    "scrapped" => counts.scrapped += units,
                    "failed" => counts.failed += units,
                    "passed" => counts.passed += units,
                    "first-pass" => {
                        counts.passed += units;
                        counts.first_pass += units;
                    }
                    _ => counts.in_progress += units,
                }
            }
            Ok(counts)
        })
    }

    fn begin_attempt(
        &self,
        batch: BatchId,
        fixture: &str,
        operator: &str,
    ) -> Result<AttemptId, RecordsError> {
        self.batch(batch)?;
        let (fixture, operator) = (fixture.to_string(), operator.to_string());
        let (station, session, clock) = (self.0.station.clone(), self.0.session, self.0.clock.clone());
        let gray_release = self.0.gray_release.load(Ordering::Relaxed);
        self.0.write(move |tx| {
            let mut read = tx
                .connection
                .prepare_cached(&format!("{BATCH_COLUMNS} WHERE id = ?1"))
                .map_err(|e| tx.map(e))?;
            let known = read.query_row([batch.0], batch_row).map_err(|e| tx.map(e))?;
            if known.state != BatchState::Open {
                let why = quote_state(known.state);
                return Err(refused(FailureCode::BatchClosed, format!("batch {}: {why}", known.name)));
            }
            if known.terms.gate(gray_release) > 0 {
                // Those in work may all pass.
                let in_work: u32 = tx
                    .connection
                    .prepare_cached(
                        "SELECT count(*) FROM attempt
                         WHERE session = ?1 AND outcome IS NULL AND batch = ?2 AND kind = 'make'",
                    )
                    .and_then(|mut s| s.query_row((session, batch.0), |r| r.get(0)))
                    .map_err(|e| tx.map(e))?;
                if !known.has_room(gray_release, in_work) {
                    let (passed, name) = (known.terms.unsampled(), &known.name);
                    let facts = match in_work {
                        0 => format!("{passed} units of batch {name} passed"),
                        n => format!("{passed} units of batch {name} passed, {n} are in work"),
                    };
                    return Err(refused(FailureCode::SampleDue, facts));
                }
            }
            tx.connection
                .prepare_cached(
                    "INSERT INTO attempt (batch, session, fixture, operator, station, started_at_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )
                .and_then(|mut s| s.execute((batch.0, session, &fixture, &operator, &station, now(&clock))))
                .map_err(|e| tx.map(e))?;
            Ok(AttemptId(tx.connection.last_insert_rowid()))
        })
    }

    fn begin_update(&self, batch: BatchId, fixture: &str, operator: &str) -> Result<AttemptId, RecordsError> {
        self.begin_again(batch, fixture, operator, false)
    }

    fn begin_retest(&self, batch: BatchId, fixture: &str, operator: &str) -> Result<AttemptId, RecordsError> {
        self.begin_again(batch, fixture, operator, true)
    }

    fn bind_unit(&self, attempt: AttemptId, unit: UnitId) -> Result<Unit, RecordsError> {
        if unit.is_blank() {
            return Err(refused(FailureCode::BlankIdentity, unit));
        }
        let (clock, session) = (self.0.clock.clone(), self.0.session);
        self.0.write(move |tx| {
            let map = |e| map_error(tx.path, e);
            let c = tx.connection;
            let facts = c
                .prepare_cached(
                    "SELECT a.batch, a.outcome IS NOT NULL, u.uid, b.name, b.quantity, b.units, b.next_serial, p.name,
                            p.quantity, (SELECT sum(units) FROM batch WHERE po = p.id), a.fixture
                     FROM attempt a JOIN batch b ON b.id = a.batch JOIN product_order p ON p.id = b.po
                     LEFT JOIN unit u ON u.id = a.unit WHERE a.id = ?1",
                )
                .and_then(|mut s| {
                    s.query_row([attempt.0], |r| {
                        Ok((
                            r.get::<_, i64>(0)?,
                            r.get::<_, bool>(1)?,
                            r.get::<_, Option<[u8; 12]>>(2)?,
                            r.get::<_, String>(3)?,
                            (r.get::<_, i64>(4)?, r.get::<_, i64>(5)?, r.get::<_, u32>(6)?),
                            (r.get::<_, String>(7)?, r.get::<_, i64>(8)?, r.get::<_, i64>(9)?),
                            r.get::<_, String>(10)?,
                        ))
                    })
                    .optional()
                })
                .map_err(map)?;
            let Some((batch, ended, bound, batch_name, (quantity, units, next_serial), (po, ordered, made), fixture)) =
                facts
            else {
                return Err(RecordsError::NotFound {
                    what: "attempt",
                    name: attempt.0.to_string(),
                    list: "unit show",
                });
            };
            if ended {
                return Err(refused(FailureCode::InvalidInput, format!("attempt {} has ended", attempt.0)));
            }
            match bound {
                Some(other) if other != unit.0 => {
                    return Err(refused(
                        FailureCode::UnitSwapped,
                        format!("attempt {} belongs to {}, read {unit}", attempt.0, UnitId(other)),
                    ));
                }
                _ => {}
            }
            let known = c
                .prepare_cached(
                    "SELECT u.id, u.batch, u.state, b.name FROM unit u JOIN batch b ON b.id = u.batch WHERE u.uid = ?1",
                )
                .and_then(|mut s| {
                    s.query_row([unit.0], |r| {
                        Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?, word::<UnitState>(r, 2)?, r.get::<_, String>(3)?))
                    })
                    .optional()
                })
                .map_err(map)?;
            let at = now(&clock);
            let (row, kind, detail) = match known {
                Some((row, its_batch, state, its_name)) => {
                    match state {
                        UnitState::Quarantined => return Err(refused(FailureCode::Quarantined, unit)),
                        UnitState::Scrapped => return Err(refused(FailureCode::Scrapped, unit)),
                        _ if its_batch != batch => {
                            return Err(refused(
                                FailureCode::OtherBatch,
                                format!("unit {unit} is of batch {its_name}, this is {batch_name}"),
                            ));
                        }
                        _ => {}
                    }
                    (row, "returned", serde_json::json!({ "fixture": fixture, "state": state.as_str() }))
                }
                None => {
                    if units >= quantity {
                        return Err(refused(
                            FailureCode::QuotaReached,
                            format!("batch {batch_name} has {units} of {quantity} units"),
                        ));
                    }
                    if made >= ordered {
                        return Err(refused(
                            FailureCode::QuotaReached,
                            format!("order {po} has {made} of {ordered} units"),
                        ));
                    }
                    let serial = super::order_store::next_serial(tx, batch, &batch_name, next_serial)?;
                    c.prepare_cached(
                        "INSERT INTO unit (uid, batch, serial, state, created_at_ms)
                         VALUES (?1, ?2, ?3, 'arrived', ?4)",
                    )
                    .and_then(|mut s| s.execute((unit.0, batch, &serial, at)))
                    .map_err(map)?;
                    (
                        c.last_insert_rowid(),
                        "arrived",
                        serde_json::json!({ "fixture": fixture, "serial": serial }),
                    )
                }
            };
            if bound.is_none() {
                c.prepare_cached("UPDATE attempt SET unit = ?2 WHERE id = ?1")
                    .and_then(|mut s| s.execute((attempt.0, row)))
                    .map_err(map)?;
                append_event(tx, row, Some(attempt.0), at, kind, &detail)?;
            }
            tx.connection
                .prepare_cached(&format!("{UNIT_COLUMNS} WHERE u.id = ?1"))
                .and_then(|mut s| s.query_row((row, attempt.0, session), unit_row))
                .map_err(|e| tx.map(e))
        })
    }

    fn unit(&self, id: UnitId) -> Result<Option<Unit>, RecordsError> {
        let session = self.0.session;
        self.0.read(|c| {
            c.prepare_cached(&format!("{UNIT_COLUMNS} WHERE u.uid = ?1"))?
                .query_row((id.0, 0, session), unit_row)
                .optional()
        })
    }

    fn unit_by_serial(&self, serial: &str) -> Result<Option<Unit>, RecordsError> {
        let session = self.0.session;
        self.0.read(|c| {
            c.prepare_cached(&format!("{UNIT_COLUMNS} WHERE u.serial = ?1"))?
                .query_row((serial, 0, session), unit_row)
                .optional()
        })
    }

    fn reprovisions(&self, unit: UnitId) -> Result<Vec<Reprovision>, RecordsError> {
        self.0.reprovisions(unit)
    }

    fn list_alarms(&self, seen_too: bool) -> Result<Vec<Alarm>, RecordsError> {
        self.0.alarms(seen_too)
    }

    fn see_alarm(&self, id: i64, operator: &str) -> Result<(), RecordsError> {
        self.0.see_alarm(id, operator)
    }

    fn expect_rate(&self, po: PoId, per_hour: u32) -> Result<(), RecordsError> {
        self.product_order(po)?;
        self.0.expect_rate(po, per_hour)
    }

    fn product_key_reach(&self, po: PoId, since_ms: i64) -> Result<Reach, RecordsError> {
        self.product_order(po)?;
        self.0.product_key_reach(po, since_ms)
    }

    fn units_below(&self, batch: BatchId, generation: u32) -> Result<u32, RecordsError> {
        self.0.read(|c| {
            c.query_row(
                "SELECT count(*) FROM unit u JOIN enrolment e ON e.unit = u.id
                 WHERE u.batch = ?1 AND u.state = 'passed' AND (max(e.ak_cur, e.ak_next) < ?2 OR e.ck_active < ?2)",
                (batch.0, generation),
                |r| r.get(0),
            )
        })
    }

    fn list_units(&self, batch: BatchId) -> Result<Vec<Unit>, RecordsError> {
        let session = self.0.session;
        self.0.read(|c| {
            c.prepare_cached(&format!("{UNIT_COLUMNS} WHERE u.batch = ?1 ORDER BY u.id"))?
                .query_map((batch.0, 0, session), unit_row)?
                .collect()
        })
    }

    fn unit_event(
        &self,
        unit: UnitId,
        attempt: Option<AttemptId>,
        kind: &str,
        detail: serde_json::Value,
        state: Option<UnitState>,
    ) -> Result<(), RecordsError> {
        if kind.is_empty() || kind.len() > 64 {
            return Err(refused(
                FailureCode::InvalidInput,
                format!("an event's kind has 1 to 64 characters: {kind:?}"),
            ));
        }
        let (kind, clock) = (kind.to_string(), self.0.clock.clone());
        self.0.write(move |tx| {
            let (row, old) = unit_and_state(tx, unit)?;
            if let Some(new) = state {
                let allowed = match (old, new) {
                    (a, b) if a == b => true,
                    // Only finish_attempt passes a unit, and only QA takes that away.
                    (_, UnitState::Passed) | (UnitState::Scrapped, _) => false,
                    (UnitState::Passed, other) => {
                        matches!(other, UnitState::Quarantined | UnitState::Scrapped)
                    }
                    _ => true,
                };
                if !allowed {
                    let code = if old == UnitState::Scrapped {
                        FailureCode::Scrapped
                    } else {
                        FailureCode::InvalidInput
                    };
                    return Err(refused(
                        code,
                        format!("unit {unit} can't go from {} to {}", old.as_str(), new.as_str()),
                    ));
                }
                if new != old {
                    set_state(tx, row, new)?;
                }
            }
            append_event(tx, row, attempt.map(|a| a.0), now(&clock), &kind, &detail)
        })
    }

    fn unit_events(&self, unit: UnitId) -> Result<Vec<UnitEvent>, RecordsError> {
        self.0.read(|c| {
            let mut events = events_of(c, unit)?;
            events.reverse();
            Ok(events)
        })
    }

    fn finish_attempt(
        &self,
        attempt: AttemptId,
        outcome: Outcome,
        failure: Option<&Failure>,
        proof: Option<&ProofRecord>,
    ) -> Result<(), RecordsError> {
        let pass = outcome == Outcome::Pass;
        if pass == failure.is_some() {
            return Err(refused(
                FailureCode::InvalidInput,
                if pass { "a PASS has no failure" } else { "an attempt that does not pass has a failure" },
            ));
        }
        let (unit, locks, label, kind, retest) = self
            .0
            .read(|c| {
                c.query_row(
                    "SELECT u.uid, p.locks, p.label, a.kind, a.retest FROM attempt a LEFT JOIN unit u ON u.id = a.unit
                     JOIN batch b ON b.id = a.batch JOIN product_order p ON p.id = b.po WHERE a.id = ?1",
                    [attempt.0],
                    |r| {
                        let unit = r.get::<_, Option<[u8; 12]>>(0)?.map(UnitId);
                        let (kind, retest) = (r.get::<_, String>(3)?, r.get::<_, bool>(4)?);
                        Ok((unit, r.get::<_, bool>(1)?, word::<LabelPolicy>(r, 2)?, kind, retest))
                    },
                )
                .optional()
            })?
            .ok_or_else(|| self.0.missing("attempt", attempt.0, "unit show"))?;
        let makes = kind == "make";
        // The unit's frames stay out while its keys are looked at and the PASS is written.
        let _guard = unit.map(|unit| self.0.lock_unit(unit));
        if pass {
            let unit = unit.ok_or_else(|| refused(FailureCode::ProofFailed, "the attempt has no unit"))?;
            let keys = self.key_vault().unit_keys(unit)?;
            self.0.check_pass(unit, &keys, proof, locks)?;
            if makes {
                self.0.check_label(unit, label)?;
            }
        }
        let failure = failure.cloned();
        let proof = proof.cloned();
        let clock = self.0.clock.clone();
        self.0.write(move |tx| {
            let map = |e| map_error(tx.path, e);
            let as_json = |value: serde_json::Result<String>| {
                value.map_err(|e| RecordsError::Other { path: tx.path.into(), detail: e.to_string() })
            };
            let failure_json = failure.as_ref().map(|f| as_json(serde_json::to_string(f))).transpose()?;
            let proof_json = proof.as_ref().map(|p| as_json(serde_json::to_string(p))).transpose()?;
            let at = now(&clock);
            let (row, ended): (Option<i64>, bool) = tx
                .connection
                .prepare_cached("SELECT unit, outcome IS NOT NULL FROM attempt WHERE id = ?1")
                .and_then(|mut s| s.query_row([attempt.0], |r| Ok((r.get(0)?, r.get(1)?))))
                .map_err(map)?;
            if ended {
                return Err(refused(FailureCode::InvalidInput, format!("attempt {} has ended", attempt.0)));
            }
            tx.connection
                .prepare_cached(
                    // The clock may have been set back while the attempt ran.
                    "UPDATE attempt SET ended_at_ms = max(started_at_ms, ?2), outcome = ?3, failure_code = ?4,
                            failure = ?5, proof = ?6 WHERE id = ?1",
                )
                .and_then(|mut s| {
                    s.execute((
                        attempt.0,
                        at,
                        outcome.as_str(),
                        failure.as_ref().map(|f| f.code.number()),
                        failure_json,
                        proof_json,
                    ))
                })
                .map_err(map)?;
            let Some(row) = row else { return Ok(()) };
            if pass {
                let state: UnitState = tx
                    .connection
                    .prepare_cached("SELECT state FROM unit WHERE id = ?1")
                    .and_then(|mut s| s.query_row([row], |r| word(r, 0)))
                    .map_err(map)?;
                match state {
                    UnitState::Quarantined => return Err(refused(FailureCode::Quarantined, "")),
                    UnitState::Scrapped => return Err(refused(FailureCode::Scrapped, "")),
                    _ => {}
                }
                if makes && state != UnitState::Passed {
                    tx.connection
                        .prepare_cached(
                            "UPDATE batch SET passed = passed + 1 WHERE id = (SELECT batch FROM unit WHERE id = ?1)",
                        )
                        .and_then(|mut s| s.execute([row]))
                        .map_err(map)?;
                }
                let generation = proof.as_ref().map_or(0, |p| p.generation);
                tx.connection
                    .prepare_cached("UPDATE unit SET state = 'passed', generation = ?2 WHERE id = ?1")
                    .and_then(|mut s| s.execute((row, generation)))
                    .map_err(map)?;
            }
            let detail = match (&failure, &proof) {
                (Some(failure), _) => {
                    serde_json::json!({ "outcome": outcome.as_str(), "failure": failure.code.to_string() })
                }
                (None, Some(proof)) => serde_json::json!({
                    "outcome": outcome.as_str(), "generation": proof.generation,
                    "agent_key": proof.ak_gen, "cloud_key": proof.ck_gen,
                }),
                (None, None) => serde_json::json!({ "outcome": outcome.as_str() }),
            };
            let kind = match (pass, retest) {
                (true, true) => "retested",
                (true, false) => "passed",
                (false, _) => "attempt-ended",
            };
            append_event(tx, row, Some(attempt.0), at, kind, &detail)?;
            match &proof {
                Some(proof) if pass => {
                    super::qa_store::close_reprovision(tx, row, attempt, (proof.ak_gen, proof.ck_gen), at)
                }
                _ => Ok(()),
            }
        })
    }

    fn last_proof(&self, unit: UnitId, before: AttemptId) -> Result<Option<ProofRecord>, RecordsError> {
        self.0.last_proof(unit, before)
    }

    fn list_attempts(&self, batch: BatchId) -> Result<Vec<Attempt>, RecordsError> {
        self.0.read(|c| {
            c.prepare_cached(&format!("{ATTEMPT_COLUMNS} WHERE a.batch = ?1 ORDER BY a.id"))?
                .query_map([batch.0], attempt_row)?
                .collect()
        })
    }

    fn close_interrupted(&self) -> Result<Vec<Attempt>, RecordsError> {
        let (clock, session) = (self.0.clock.clone(), self.0.session);
        self.0.write(move |tx| {
            let map = |e| map_error(tx.path, e);
            let open: Vec<(i64, Option<i64>)> = tx
                .connection
                .prepare("SELECT id, unit FROM attempt WHERE outcome IS NULL AND session <> ?1 ORDER BY id")
                .and_then(|mut s| {
                    s.query_map([session], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<rusqlite::Result<_>>()
                })
                .map_err(map)?;
            let failure = Failure::new(FailureCode::StationStopped, "");
            let text = serde_json::to_string(&failure)
                .map_err(|e| RecordsError::Other { path: tx.path.into(), detail: e.to_string() })?;
            let at = now(&clock);
            let mut closed = Vec::with_capacity(open.len());
            for (attempt, unit) in open {
                tx.connection
                    .prepare_cached(
                        "UPDATE attempt SET ended_at_ms = max(started_at_ms, ?2), outcome = 'ABORTED',
                                failure_code = ?3, failure = ?4 WHERE id = ?1",
                    )
                    .and_then(|mut s| s.execute((attempt, at, failure.code.number(), &text)))
                    .map_err(map)?;
                if let Some(unit) = unit {
                    let detail = serde_json::json!({ "failure": failure.code.to_string() });
                    append_event(tx, unit, Some(attempt), at, "interrupted", &detail)?;
                }
                closed.push(
                    tx.connection
                        .prepare_cached(&format!("{ATTEMPT_COLUMNS} WHERE a.id = ?1"))
                        .and_then(|mut s| s.query_row([attempt], attempt_row))
                        .map_err(|e| map_error(tx.path, e))?,
                );
            }
            Ok(closed)
        })
    }

    fn export_rows(&self, batch: BatchId) -> Result<Vec<ExportRow>, RecordsError> {
        self.batch(batch)?;
        self.0.export_rows(&ExportFilter { batch: Some(batch), ..ExportFilter::default() })
    }

    fn record_export(&self, export: NewExport) -> Result<i64, RecordsError> {
        if let Some(batch) = export.batch {
            self.batch(batch)?;
        }
        Ok(self.0.record_exports(vec![export])?.into_iter().next().unwrap_or_default())
    }

    fn list_exports(&self, batch: BatchId) -> Result<Vec<ExportRecord>, RecordsError> {
        self.0.list_exports(&ExportLogFilter { batch: Some(batch), ..ExportLogFilter::default() })
    }
}

impl SqliteRecords {
    /// Opens an attempt for a unit that passed before.
    fn begin_again(
        &self,
        batch: BatchId,
        fixture: &str,
        operator: &str,
        retest: bool,
    ) -> Result<AttemptId, RecordsError> {
        self.batch(batch)?;
        let (fixture, operator) = (fixture.to_string(), operator.to_string());
        let (station, session, clock) = (self.0.station.clone(), self.0.session, self.0.clock.clone());
        self.0.write(move |tx| {
            tx.connection
                .prepare_cached(
                    "INSERT INTO attempt (batch, session, fixture, operator, station, started_at_ms, kind, retest)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'update', ?7)",
                )
                .and_then(|mut s| s.execute((batch.0, session, &fixture, &operator, &station, now(&clock), retest)))
                .map_err(|e| tx.map(e))?;
            Ok(AttemptId(tx.connection.last_insert_rowid()))
        })
    }
}

/// A unit's history, newest first.
pub(super) fn events_of(c: &Connection, unit: UnitId) -> rusqlite::Result<Vec<UnitEvent>> {
    c.prepare_cached(
        "SELECT e.seq, e.attempt, e.at_ms, e.kind, e.detail FROM unit_event e JOIN unit u ON u.id = e.unit
         WHERE u.uid = ?1 ORDER BY e.seq DESC",
    )?
    .query_map([unit.0], |r| {
        Ok(UnitEvent {
            seq: r.get(0)?,
            unit,
            attempt: r.get::<_, Option<i64>>(1)?.map(AttemptId),
            at_ms: r.get(2)?,
            kind: r.get(3)?,
            detail: json(r, 4)?.unwrap_or_default(),
        })
    })?
    .collect()
}

/// Where the units of a batch stand.
pub(super) fn count_batch(c: &Connection, batch: i64, planned: u32) -> rusqlite::Result<BatchCounts> {
    let mut counts = BatchCounts { planned, ..BatchCounts::default() };
    let mut statement = c.prepare_cached(
        "SELECT u.state, a.outcome, a.failure_code,
                (SELECT outcome FROM attempt WHERE unit = u.id ORDER BY id LIMIT 1)
         FROM unit u LEFT JOIN attempt a ON a.id = (SELECT max(id) FROM attempt WHERE unit = u.id)
         WHERE u.batch = ?1",
    )?;
    let mut rows = statement.query([batch])?;
    while let Some(r) = rows.next()? {
        match super::shift_store::standing(r, 0, 1, 2)? {
            Standing::Scrapped => counts.scrapped += 1,
            Standing::Passed => {
                counts.passed += 1;
                let first: Option<String> = r.get(3)?;
                counts.first_pass += u32::from(first.as_deref() == Some(Outcome::Pass.as_str()));
            }
            Standing::Failed => counts.failed += 1,
            Standing::Unfinished => counts.in_progress += 1,
        }
    }
    Ok(counts)
}

pub(super) fn unit_and_state(tx: &Tx<'_>, unit: UnitId) -> Result<(i64, UnitState), RecordsError> {
    tx.connection
        .prepare_cached("SELECT id, state FROM unit WHERE uid = ?1")
        .and_then(|mut s| s.query_row([unit.0], |r| Ok((r.get(0)?, word(r, 1)?))).optional())
        .map_err(|e| tx.map(e))?
        .ok_or_else(|| RecordsError::NotFound { what: "unit", name: unit.to_string(), list: "unit show" })
}

pub(super) fn set_state(tx: &Tx<'_>, row: i64, state: UnitState) -> Result<(), RecordsError> {
    tx.connection
        .prepare_cached("UPDATE unit SET state = ?2 WHERE id = ?1")
        .and_then(|mut s| s.execute((row, state.as_str())))
        .map(|_| ())
        .map_err(|e| tx.map(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_database_is_looked_at_when_it_was_not_closed_and_a_small_one_always() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("station.db");
        let sized = |path: &Path, length| std::fs::File::create(path).unwrap().set_len(length).unwrap();
        assert_eq!(Looks::before(&path), Looks::Small, "a new one");
        sized(&path, SMALL);
        assert_eq!(Looks::before(&path), Looks::Small);
        sized(&path, SMALL + 1);
        assert_eq!(Looks::before(&path), Looks::Later);
        sized(&folder.path().join("station.db-wal"), 0);
        assert_eq!(Looks::before(&path), Looks::Later);
        sized(&folder.path().join("station.db-wal"), 32);
        assert_eq!(Looks::before(&path), Looks::NotClosed);
    }

    /// What a child process between `fork` and `exec` holds is what `try_clone` holds: the same open file description.
    #[test]
    fn a_copy_of_the_lock_in_a_child_being_started_keeps_nobody_out() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("station.db");
        let open = || {
            let options = OpenOptions { cost: KdfCost::TEST, ..OpenOptions::new("bench-1") };
            SqliteRecords::open_with(&path, options, &Passphrase::demo())
        };
        let records = open().unwrap();
        let copy = records.0._claim.0.try_clone().unwrap();
        assert!(matches!(open(), Err(RecordsError::Locked { .. })));
        drop(records);
        open().unwrap();
        drop(copy);
    }
}
