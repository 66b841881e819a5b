//! Backups of a whole station while it works, and the way back.
//!
//! ```text
//! backup-<station>-<YYYYMMDD-HHMMSS>.tar.gz
//!   manifest.json      format, station, time, version, what the database holds, SHA-256 of each file
//!   station.toml       as it is
//!   anchors/…          sealed files
//!   cloud/…            ledgers of the clouds
//!   station.db         one consistent copy
//! ```
//!
//! Keys in it are sealed as they are in the station: a backup opens with the passphrase that the station had then, and
//! with nothing else. What is not secret (units, serials, who did what) is readable.
//!
//! Invariants:
//! - The clouds' ledgers are copied before the database. The agent writes a generation down in the records before a cloud hears
//!   of it, so no ledger in a backup knows a generation that its database does not.
//! - A backup that is there is whole: it is written beside its name and renamed.
//! - Restoring changes nothing before the whole backup was read, compared with its manifest and its database checked; what
//!   it replaces is moved aside, not deleted.

use crate::config::BackupConfig;
use crate::failure::{Failure, FailureCode};
use crate::records::{DatabaseFacts, RecordsError, SqliteRecords, check_database, keep_out};
use crate::station::{now_ms, records_failure};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The archive's form; a program refuses newer ones.
pub const FORMAT: u32 = 1;
const DATABASE: &str = "station.db";
const MANIFEST: &str = "manifest.json";
/// What a backup holds besides the database: files and folders of the home.
const BESIDE: [&str; 3] = ["station.toml", "anchors", "cloud"];
/// A manifest longer than this is none.
const MANIFEST_MAX: u64 = 4 << 20;

/// The first file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The station's name.
    pub station: String,
    /// When the copy was made, Unix milliseconds.
    pub made_at_ms: i64,
    /// The program that made it.
    pub version: String,
    /// What the database holds.
    pub database: DatabaseFacts,
    /// SHA-256 of each file, lower-case hex, by its path.
    pub files: BTreeMap<String, String>,
}

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Where.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// What it holds.
    pub manifest: Manifest,
}

fn io_failure(code: FailureCode, what: &str, path: &Path, error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull => "; free some space",
        io::ErrorKind::PermissionDenied => "; this user has no right to it",
        _ => "",
    };
    Failure::new(code, format_args!("{what} {}: {error}{hint}", path.display()))
}

fn day_and_time(at_ms: i64) -> String {
    let stamp = jiff::Timestamp::from_millisecond(at_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    stamp.strftime("%Y%m%d-%H%M%S").to_string()
}

/// Letters of a station's name that any file system takes.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

fn file_name(station: &str, at_ms: i64) -> String {
    format!("backup-{}-{}.tar.gz", plain(station), day_and_time(at_ms))
}

/// When the backup of this name was made, if it is one of this station.
fn time_of(name: &str, station: &str) -> Option<i64> {
    let stamp = name.strip_prefix("backup-")?.strip_prefix(&plain(station))?.strip_prefix('-')?;
    let stamp = stamp.strip_suffix(".tar.gz")?;
    let time = jiff::civil::DateTime::strptime("%Y%m%d-%H%M%S", stamp).ok()?;
    Some(jiff::tz::TimeZone::UTC.to_timestamp(time).ok()?.as_millisecond())
}

/// This station's backups in a folder, the newest first.
pub fn list(folder: &Path, station: &str) -> Vec<(i64, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<_> =
        entries.filter_map(|e| Some((time_of(e.file_name().to_str()?, station)?, e.path()))).collect();
    found.sort_by(|a, b| b.cmp(a));
    found
}

/// Makes a backup in `folder`, which is made if it is not there. `progress` hears steps done and steps in all and may stop
/// it; then nothing is left behind and the failure is `Cancelled`.
///
/// # Errors
/// `BackupFailed` with what stood in the way; `RecordsFailed` if the database's copy does not check out.
pub fn make(
    home: &Path,
    records: &SqliteRecords,
    folder: &Path,
    at_ms: i64,
    progress: impl FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Made, Failure> {
    let failed =
        |what: &str, path: &Path, e: &io::Error| io_failure(FailureCode::BackupFailed, what, path, e);
    private_folder(folder).map_err(|e| failed("the folder", folder, &e))?;
    let path = folder.join(file_name(records.station(), at_ms));
    // What a killed station left half done. The records are claimed, so no other process of this station is at it.
    let half_done = format!(".backup-{}-", plain(records.station()));
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&half_done) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let work = tempfile::Builder::new()
        .prefix(&half_done)
        .tempdir_in(folder)
        .map_err(|e| failed("the folder", folder, &e))?;
    // Ledgers before the database: see the invariants.
    let mut files = Vec::new();
    for top in BESIDE {
        gather(home, Path::new(top), work.path(), &mut files)
            .map_err(|(path, e)| failed("the file", &path, &e))?;
    }
    let copy = work.path().join(DATABASE);
    let database = records.snapshot(&copy, progress).map_err(|error| match error {
        RecordsError::Refused(failure) => *failure,
        other => Failure::new(FailureCode::BackupFailed, other),
    })?;
    let Some(database) = database else {
        return Err(Failure::new(FailureCode::Cancelled, "no backup was made"));
    };
    // The copy was looked at page by page, and it is what the database is.
    records.note_whole(at_ms).map_err(records_failure)?;
    files.push(DATABASE.into());
    let mut hashes = BTreeMap::new();
    for name in &files {
        let path = work.path().join(name);
        hashes.insert(name.clone(), sha256_of(&path).map_err(|e| failed("the file", &path, &e))?);
    }
    let manifest = Manifest {
        format: FORMAT,
        station: records.station().into(),
        made_at_ms: at_ms,
        version: env!("CARGO_PKG_VERSION").into(),
        database,
        files: hashes,
    };
    let bytes = pack(work.path(), &files, &manifest, &path).map_err(|e| failed("the file", &path, &e))?;
    Ok(Made { path, bytes, manifest })
}

fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Copies a file or a folder of the home; what is not there is not copied, and links are not followed.
fn gather(home: &Path, name: &Path, to: &Path, files: &mut Vec<String>) -> Result<(), (PathBuf, io::Error)> {
    let from = home.join(name);
    let fail = |e| (from.clone(), e);
    let kind = match std::fs::symlink_metadata(&from) {
        Ok(meta) => meta.file_type(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(fail(e)),
    };
    if kind.is_dir() {
        std::fs::create_dir_all(to.join(name)).map_err(fail)?;
        let mut entries: Vec<_> = std::fs::read_dir(&from)
            .and_then(|entries| entries.map(|e| Ok(e?.file_name())).collect::<io::Result<Vec<OsString>>>())
            .map_err(fail)?;
        entries.sort();
        for entry in entries {
            gather(home, &name.join(entry), to, files)?;
        }
    } else if kind.is_file() {
        std::fs::copy(&from, to.join(name)).map_err(fail)?;
        // Forward slashes on every system: the archive's own words.
        let parts: Vec<_> = name.components().map(|c| c.as_os_str().to_string_lossy()).collect();
        files.push(parts.join("/"));
    }
    Ok(())
}

fn sha256_of(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn pack(work: &Path, files: &[String], manifest: &Manifest, to: &Path) -> io::Result<u64> {
    let folder = to.parent().unwrap_or(Path::new("."));
    let mut archive =
        tar::Builder::new(GzEncoder::new(tempfile::NamedTempFile::new_in(work)?, Compression::fast()));
    let text = serde_json::to_vec_pretty(manifest).map_err(io::Error::other)?;
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(manifest.made_at_ms.div_euclid(1000).unsigned_abs());
    archive.append_data(&mut header, MANIFEST, text.as_slice())?;
    for name in files {
        archive.append_path_with_name(work.join(name), name)?;
    }
    let mut file = archive.into_inner()?.finish()?;
    file.flush()?;
    file.as_file().sync_all()?;
    let bytes = file.as_file().metadata()?.len();
    file.persist_noclobber(to).map_err(|e| e.error)?;
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(bytes)
}

/// A backup unpacked beside the home it may replace, compared with its manifest.
struct Unpacked {
    folder: tempfile::TempDir,
    manifest: Manifest,
}

fn unpack(archive: &Path, beside: &Path) -> Result<Unpacked, Failure> {
    let refused = |what: String| {
        Failure::new(FailureCode::RestoreRefused, format_args!("{}: {what}", archive.display()))
    };
    let unreadable = |e: io::Error| io_failure(FailureCode::RestoreRefused, "the file", archive, &e);
    let folder = tempfile::Builder::new()
        .prefix(".restore-")
        .tempdir_in(beside)
        .map_err(|e| io_failure(FailureCode::RestoreRefused, "the folder", beside, &e))?;
    let mut reader = tar::Archive::new(GzDecoder::new(File::open(archive).map_err(unreadable)?));
    let damaged = |e: io::Error| refused(format!("it is damaged or no backup ({e})"));
    let mut manifest: Option<Manifest> = None;
    let mut seen = 0;
    for entry in reader.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name = entry.path().map_err(damaged)?.into_owned();
        let Some(manifest) = &manifest else {
            if name != Path::new(MANIFEST) {
                return Err(refused("it does not begin with a manifest, so it is no backup".into()));
            }
            let mut text = Vec::new();
            entry.by_ref().take(MANIFEST_MAX).read_to_end(&mut text).map_err(damaged)?;
            let read: Manifest = serde_json::from_slice(&text)
                .map_err(|e| refused(format!("its manifest can't be read ({e})")))?;
            if read.format > FORMAT {
                return Err(refused(format!(
                    "a newer Keywright ({}) made it; this one reads form {FORMAT}, found {}",
                    read.version, read.format
                )));
            }
            manifest = Some(read);
            continue;
        };
        // Plain names below the folder, and only what a backup holds.
        let inside = name.components().all(|c| matches!(c, Component::Normal(_)));
        let top = name.components().next().map(|c| c.as_os_str().to_owned()).unwrap_or_default();
        let ours = top == DATABASE || BESIDE.iter().any(|b| top == *b);
        let text = name.to_string_lossy().replace('\\', "/");
        let expected = manifest.files.get(&text);
        let (true, true, Some(expected), true) =
            (inside, ours, expected, entry.header().entry_type().is_file())
        else {
            return Err(refused(format!("it holds {text:?}, which no backup holds")));
        };
        let to = folder.path().join(&name);
        if let Some(parent) = to.parent() {
            private_folder(parent)
                .map_err(|e| io_failure(FailureCode::RestoreRefused, "the folder", parent, &e))?;
        }
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file =
            options.open(&to).map_err(|e| io_failure(FailureCode::RestoreRefused, "the file", &to, &e))?;
        io::copy(&mut entry, &mut file).map_err(damaged)?;
        file.sync_all().map_err(damaged)?;
        if sha256_of(&to).map_err(damaged)? != *expected {
            return Err(refused(format!("{text} in it is not as it was saved")));
        }
        seen += 1;
    }
    // To the last byte: a copy whose end is missing is no whole copy, even if only the stream's checksum was in it.
    io::copy(&mut reader.into_inner(), &mut io::sink()).map_err(damaged)?;
    let manifest = manifest.ok_or_else(|| refused("it is empty".into()))?;
    if seen != manifest.files.len() || !manifest.files.contains_key(DATABASE) {
        return Err(refused("it is cut short".into()));
    }
    Ok(Unpacked { folder, manifest })
}

impl Unpacked {
    fn check(&self) -> Result<DatabaseFacts, Failure> {
        let facts = check_database(&self.folder.path().join(DATABASE))
            .map_err(|e| Failure::new(FailureCode::RestoreRefused, e))?;
        if facts != self.manifest.database {
            return Err(Failure::new(
                FailureCode::RestoreRefused,
                "its database holds other counts than its manifest says",
            ));
        }
        Ok(facts)
    }
}

/// Reads a whole backup and checks it, without touching any station.
///
/// # Errors
/// `RestoreRefused` with what is wrong with it.
pub fn check(archive: &Path) -> Result<Manifest, Failure> {
    let beside = std::env::temp_dir();
    let unpacked = unpack(archive, &beside)?;
    unpacked.check()?;
    Ok(unpacked.manifest)
}

/// A restored station.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What came back.
    pub manifest: Manifest,
    /// Where the files that were there before are now, if there were any.
    pub aside: Option<PathBuf>,
}

/// Puts a backup into `home`. A station that is there is only replaced if `replace` says so, and is moved aside whole.
///
/// # Errors
/// `RestoreRefused`: the backup, or a station that is there; `RecordsFailed` while a Keywright works there.
pub fn restore(archive: &Path, home: &Path, replace: bool, at_ms: i64) -> Result<Restored, Failure> {
    let failed =
        |what: &str, path: &Path, e: &io::Error| io_failure(FailureCode::RestoreRefused, what, path, e);
    private_folder(home).map_err(|e| failed("the home", home, &e))?;
    let unpacked = unpack(archive, home)?;
    unpacked.check()?;
    let database = home.join(DATABASE);
    let _claim = keep_out(&database).map_err(records_failure)?;
    let mut there: Vec<PathBuf> = BESIDE.iter().map(|name| home.join(name)).filter(|p| p.exists()).collect();
    for tail in ["", "-wal", "-shm"] {
        let mut name = database.clone().into_os_string();
        name.push(tail);
        there.extend(Some(PathBuf::from(name)).filter(|p| p.exists()));
    }
    if database.exists() && !replace {
        return Err(Failure {
            code: FailureCode::RestoreRefused,
            sentence: format!("There is a station in {} already", home.display()),
            remedy:
                "Give --replace to move its files aside and put the backup in their place, or another --home"
                    .into(),
        });
    }
    let aside = home.join(format!("before-restore-{}", day_and_time(at_ms)));
    let moved = move_all(&there, &aside).map_err(|(path, e)| failed("the file", &path, &e))?;
    let fresh: Vec<PathBuf> = BESIDE
        .iter()
        .chain([&DATABASE])
        .map(|name| unpacked.folder.path().join(name))
        .filter(|p| p.exists())
        .collect();
    if let Err((path, error)) = move_all(&fresh, home) {
        // Back to how it was.
        for (from, to) in moved.iter().rev() {
            let _ = std::fs::rename(to, from);
        }
        return Err(failed("the file", &path, &error));
    }
    #[cfg(unix)]
    let _ = File::open(home).and_then(|f| f.sync_all());
    Ok(Restored { manifest: unpacked.manifest, aside: (!moved.is_empty()).then_some(aside) })
}

type Moved = Vec<(PathBuf, PathBuf)>;

/// Moves files into a folder; all of them, or none.
fn move_all(files: &[PathBuf], to: &Path) -> Result<Moved, (PathBuf, io::Error)> {
    let mut moved = Moved::new();
    if files.is_empty() {
        return Ok(moved);
    }
    private_folder(to).map_err(|e| (to.to_owned(), e))?;
    for from in files {
        let target = to.join(from.file_name().unwrap_or_default());
        let result = if target.exists() {
            Err(io::Error::from(io::ErrorKind::AlreadyExists))
        } else {
            std::fs::rename(from, &target)
        };
        if let Err(error) = result {
            for (from, to) in moved.iter().rev() {
                let _ = std::fs::rename(to, from);
            }
            return Err((from.clone(), error));
        }
        moved.push((from.clone(), target));
    }
    Ok(moved)
}

/// Whether a backup is due: none yet, the newest is old enough, or the clock stands before it.
pub fn is_due(newest_ms: Option<i64>, now_ms: i64, every_hours: u32) -> bool {
    let every = i64::from(every_hours) * 3_600_000;
    every > 0 && newest_ms.is_none_or(|newest| now_ms - newest >= every || now_ms < newest)
}

/// Makes a backup if one is due, and removes this station's oldest beyond what is to be kept.
///
/// # Errors
/// As [`make`]; a backup too old to keep that can't be removed is told in the log.
pub fn keep(
    home: &Path,
    records: &SqliteRecords,
    config: &BackupConfig,
    now_ms: i64,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Made>, Failure> {
    let folder = config.folder_of(home);
    let newest = list(&folder, records.station()).first().map(|(at, _)| *at);
    if !is_due(newest, now_ms, config.every_hours) {
        return Ok(None);
    }
    let go_on = |_, _| if stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let made = make(home, records, &folder, now_ms, go_on)?;
    for (_, old) in list(&folder, records.station()).into_iter().skip(config.keep.max(1) as usize) {
        if let Err(error) = std::fs::remove_file(&old) {
            tracing::warn!(path = %old.display(), %error, "an old backup can't be removed");
        }
    }
    Ok(Some(made))
}

/// How often every page of the database is looked at.
const LOOK_AT_DATABASE_HOURS: u32 = 24;

/// Looks at every page of the database if nobody has for a day; a backup counts as a look. Whether it looked.
///
/// # Errors
/// `RecordsFailed` if the database is damaged: the records write nothing from then on, and the line says so.
pub fn look_after(records: &SqliteRecords, now_ms: i64) -> Result<bool, Failure> {
    if !is_due(records.found_whole_at().map_err(records_failure)?, now_ms, LOOK_AT_DATABASE_HOURS) {
        return Ok(false);
    }
    records.check_whole().and_then(|()| records.note_whole(now_ms)).map_err(records_failure)?;
    Ok(true)
}

/// Backups, and a look at the database, by the clock for as long as the value lives.
#[derive(Debug)]
pub struct Keeper {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// How often it looks whether a backup is due.
    const LOOK_EVERY: Duration = Duration::from_secs(5 * 60);

    /// Starts looking at once; failures are logged and tried again.
    ///
    /// # Errors
    /// `StationFault` if no thread can be started.
    pub fn start(home: PathBuf, records: Arc<SqliteRecords>, config: BackupConfig) -> Result<Self, Failure> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let told = stop.clone();
        let thread = std::thread::Builder::new()
            .name("backup".into())
            .spawn(move || {
                let (flag, bell) = &*told;
                let stopped = || *flag.lock().unwrap_or_else(PoisonError::into_inner);
                while !stopped() {
                    match keep(&home, &records, &config, now_ms(), &stopped) {
                        Ok(Some(made)) => {
                            tracing::info!(path = %made.path.display(), bytes = made.bytes, "backup made")
                        }
                        Ok(None) => {}
                        Err(failure) if failure.code == FailureCode::Cancelled => {}
                        Err(failure) => tracing::warn!(code = %failure.code, "{}", failure.sentence),
                    }
                    let guard = flag.lock().unwrap_or_else(PoisonError::into_inner);
                    let rung = bell
                        .wait_timeout_while(guard, Self::LOOK_EVERY, |stopped| !*stopped)
                        .unwrap_or_else(PoisonError::into_inner);
                    let stop = *rung.0;
                    drop(rung);
                    // Not at the start: the window and the first boards have the disk.
                    if !stop && let Err(failure) = look_after(&records, now_ms()) {
                        tracing::error!(code = %failure.code, "{}", failure.sentence);
                    }
                }
            })
            .map_err(|e| Failure::new(FailureCode::StationFault, e))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let (flag, bell) = &*self.stop;
        *flag.lock().unwrap_or_else(PoisonError::into_inner) = true;
        bell.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
