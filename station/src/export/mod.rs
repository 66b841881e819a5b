//! Export: canonical CSV and JSON Lines, encrypted with age, signed with Ed25519.
//!
//! An export is two lists of the same rows, one row per unit (failures included) and one per attempt that never
//! learned which unit it held (`docs/formats/`):
//!
//! - the **units list** has no secrets; it is signed, not encrypted;
//! - the **protected list** adds the agent key and the cloud key of every passed unit; it exists only as an age
//!   file for the named recipients.
//!
//! Invariants:
//! - Export reads records only; it never talks to a board, the agent or the cloud.
//! - A key in clear lives in memory that is wiped, never in a file, temporary or not: what is renamed into place is
//!   ciphertext from its first byte.
//! - Who got what is in the records before a file has its final name. A crash between the two leaves a record of an
//!   export that nobody received, never a list that nobody recorded.
//! - No file is replaced unless the caller says so.

mod read;
mod row;
mod sign;

pub use read::{Checked, ListKind, ListedRow, check_list, read_identities};
pub use row::{COLUMNS, Delimiter, ListRow, SCHEMA_VERSION, SECRET_COLUMNS, Stamp};
pub use sign::{ExportSigner, parse_public_pem, public_pem, verify_file};

use crate::failure::{Failure, FailureCode};
use crate::model::{UnitId, UnitState};
use crate::records::{KeyVault, NewExport, Records, RecordsError};
use sha2::{Digest, Sha256};
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The keys of one passed unit. Redacted in `Debug`, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct UnitSecrets {
    /// The agent key, 32 bytes (PROTOCOL §4).
    pub agent_key: Zeroizing<Vec<u8>>,
    /// The cloud key.
    pub cloud_key: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for UnitSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnitSecrets(redacted)")
    }
}

/// What export needs of the records.
pub trait ExportSource {
    /// One row per unit of the batch in the order of first arrival, then one per attempt without a unit, oldest
    /// first. `exported_in` and `record_signature` are left empty: [`export`] fills them.
    fn export_rows(&self, batch: &str) -> Result<Vec<ListRow>, RecordsError>;
    /// The keys of a passed unit; `None` for every other unit.
    fn unit_secrets(&self, unit: UnitId) -> Result<Option<UnitSecrets>, RecordsError>;
    /// Records that the lists are handed out; durable when it returns.
    fn record_export(&self, record: &ExportRecord) -> Result<(), RecordsError>;
}

/// The station's records as an [`ExportSource`]: rows from the records, keys through the vault.
pub struct RecordsSource {
    /// The records.
    pub records: Arc<dyn Records>,
    /// The one way to unit keys in clear.
    pub vault: KeyVault,
}

impl ExportSource for RecordsSource {
    fn export_rows(&self, batch: &str) -> Result<Vec<ListRow>, RecordsError> {
        let batch = self.records.batch_by_name(batch)?;
        let rows: Result<_, _> =
            self.records.export_rows(batch.id)?.into_iter().map(ListRow::try_from).collect();
        rows.map_err(|detail| RecordsError::Corrupt { path: "station.db".into(), detail })
    }

    fn unit_secrets(&self, unit: UnitId) -> Result<Option<UnitSecrets>, RecordsError> {
        if self.records.unit(unit)?.is_none_or(|u| u.state != UnitState::Passed) {
            return Ok(None);
        }
        let keys = self.vault.unit_keys(unit)?;
        match (keys.agent, keys.cloud) {
            (Some(agent), Some(cloud)) if !agent.key.is_blank() && !cloud.key.is_blank() => {
                Ok(Some(UnitSecrets {
                    agent_key: Zeroizing::new(agent.key.expose().to_vec()),
                    cloud_key: Zeroizing::new(cloud.key.expose().to_vec()),
                }))
            }
            // A passed unit has both keys; the records enforce it. One that has not must not look like a failed one.
            _ => Err(RecordsError::Corrupt {
                path: "station.db".into(),
                detail: format!("unit {unit} passed but a key of it is missing or blank"),
            }),
        }
    }

    fn record_export(&self, record: &ExportRecord) -> Result<(), RecordsError> {
        let batch = self.records.batch_by_name(&record.batch)?.id;
        for file in &record.files {
            self.records.record_export(NewExport {
                batch,
                format: file.format.clone(),
                file: file.name.clone(),
                rows: u32::try_from(file.rows).unwrap_or(u32::MAX),
                sha256: file.sha256.clone(),
                operator: record.operator.clone(),
                recipients: if file.protected { record.recipients.clone() } else { Vec::new() },
                units: record.units.clone(),
            })?;
        }
        Ok(())
    }
}

/// What the records keep of one export.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ExportRecord {
    /// Its name, as it stands in every row's `exported_in`.
    pub name: String,
    /// Batch name.
    pub batch: String,
    /// Who asked for it.
    pub operator: String,
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// Fingerprints of the recipients (see [`Recipient::fingerprint`]); empty = no protected list was written.
    pub recipients: Vec<String>,
    /// Every list that was written.
    pub files: Vec<ExportedFile>,
    /// Fingerprint of the key that signed.
    pub signer: String,
    /// The units that the lists name.
    #[serde(skip)]
    pub units: Vec<UnitId>,
}

/// One list that was written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ExportedFile {
    /// File name without its folder.
    pub name: String,
    /// SHA-256 over the file's bytes (for a protected list: over the ciphertext), hex.
    pub sha256: String,
    /// Rows in it.
    pub rows: u64,
    /// Whether it holds keys (encrypted).
    pub protected: bool,
    /// `csv`, `jsonl`; with `.age` behind it when protected.
    pub format: String,
}

/// The form of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(not(doc), derive(clap::ValueEnum))]
pub enum Format {
    /// RFC 4180, UTF-8, CRLF, header line.
    Csv,
    /// One JSON object per line.
    Jsonl,
}

impl Format {
    /// The file name's extension.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
        }
    }
}

/// A public key that a protected list is encrypted to.
pub struct Recipient {
    text: String,
    inner: Box<dyn age::Recipient + Send + Sync>,
}

impl Recipient {
    /// SHA-256 over the recipient's canonical text, hex: what the records keep.
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(self.text.as_bytes()))
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Debug for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recipient({})", self.text)
    }
}

impl std::str::FromStr for Recipient {
    type Err = ExportError;
    /// Reads `age1…` (X25519), `age1tag1…` (P-256 in a hardware token) and `age1tagpq1…` (hybrid post-quantum).
    fn from_str(given: &str) -> Result<Self, ExportError> {
        let text = given.trim();
        let refuse = |why: &str| ExportError::Recipient { given: text.into(), why: why.into() };
        // Someone who pastes the secret half must not find it in a log: it is refused before it is repeated.
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            return Err(ExportError::Recipient {
                given: "AGE-SECRET-KEY-…".into(),
                why: "that is the secret half; give the age1… line, and treat the secret as known to others"
                    .into(),
            });
        }
        if text.starts_with("ssh-") {
            return Err(refuse("ssh keys are not supported; make an age key with `age-keygen`"));
        }
        let inner: Box<dyn age::Recipient + Send + Sync> = if text.starts_with("age1tagpq1") {
            Box::new(text.parse::<age::tagpq::Recipient>().map_err(refuse)?)
        } else if text.starts_with("age1tag1") {
            Box::new(text.parse::<age::tag::Recipient>().map_err(refuse)?)
        } else {
            Box::new(text.parse::<age::x25519::Recipient>().map_err(refuse)?)
        };
        Ok(Self { text: text.into(), inner })
    }
}

/// Reads recipients from a file: one per line, `#` begins a comment (the form `age -R` reads).
pub fn read_recipients(path: &Path) -> Result<Vec<Recipient>, ExportError> {
    let text = std::fs::read_to_string(path).map_err(|e| ExportError::io(path, e))?;
    text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::parse).collect()
}

/// Where the lists go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Into a folder under the standard names `export-<batch>-<what>-<YYYYMMDD>.<ext>`.
    Folder(PathBuf),
    /// The units list under this name; the protected list under the same name with `.age` behind it.
    File(PathBuf),
}

impl Destination {
    /// How `--out` is read: an existing folder, a path that ends in `/` and a name without an extension that is no
    /// file are folders, anything else a file. A trailing `.age` is the protected list's own and does not count.
    pub fn from_out(out: &Path) -> Self {
        let text = out.as_os_str().to_string_lossy();
        let bare = out.extension().is_none() && !out.is_file();
        if bare || out.is_dir() || text.ends_with('/') || text.ends_with(std::path::MAIN_SEPARATOR) {
            return Self::Folder(out.to_owned());
        }
        if out.extension().is_some_and(|e| e == "age") {
            return Self::File(out.with_extension(""));
        }
        Self::File(out.to_owned())
    }
}

/// What to export.
#[derive(Debug)]
pub struct ExportRequest {
    /// Batch name; the batch may be open or closed.
    pub batch: String,
    /// Forms; each gives its own pair of lists.
    pub formats: Vec<Format>,
    /// Between CSV fields.
    pub delimiter: Delimiter,
    /// Whom the protected list is for; empty = units list only.
    pub recipients: Vec<Recipient>,
    /// Where to.
    pub destination: Destination,
    /// Replace files that exist.
    pub overwrite: bool,
    /// Who asked.
    pub operator: String,
    /// Wall clock, Unix milliseconds.
    pub now_ms: i64,
}

/// How far an export is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Rows written, over all lists.
    pub done: u64,
    /// Rows to write, over all lists.
    pub total: u64,
}

/// What an export did.
#[derive(Debug)]
pub struct ExportReport {
    /// As recorded.
    pub record: ExportRecord,
    /// Folder that holds everything.
    pub folder: PathBuf,
    /// The public key's file.
    pub public_key: PathBuf,
    /// Rows by what they say: passed units, units that did not pass, attempts without a unit.
    pub passed: u64,
    /// Units in any other state.
    pub not_passed: u64,
    /// Attempts that never learned their unit.
    pub without_unit: u64,
}

/// Why an export, a check or a verification was refused. Every message says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The records refused.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// Not an age recipient.
    #[error("the recipient {given:?} can't be used: {why}")]
    Recipient {
        /// As given.
        given: String,
        /// Why.
        why: String,
    },
    /// The file is there.
    #[error("{} exists already; move it away, choose another --out, or say --overwrite", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// One name for several forms.
    #[error("--out names one file but {count} formats were asked for; name a folder instead")]
    OneFileManyFormats {
        /// How many.
        count: usize,
    },
    /// The file system refused.
    #[error("{} can't be read or written: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// age refused to encrypt (recipients that can't be mixed).
    #[error("the list can't be encrypted to these recipients: {0}")]
    Encrypt(String),
    /// The identity does not open the file, or the file is damaged.
    #[error("{} can't be decrypted: {why}", path.display())]
    Decrypt {
        /// The file.
        path: PathBuf,
        /// age's words.
        why: String,
    },
    /// Not a public key.
    #[error("{} is no Ed25519 public key in PEM form: {why}", path.display())]
    PublicKey {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Not a signature file.
    #[error("{} is no signature: it has {length} bytes, a signature has 64", path.display())]
    SignatureFile {
        /// The file.
        path: PathBuf,
        /// Its length.
        length: u64,
    },
    /// The detached signature is not this key's over this file.
    #[error("the signature {} does not fit {}: the file was altered or another key signed it", signature.display(), path.display())]
    BadSignature {
        /// The list.
        path: PathBuf,
        /// The signature's file.
        signature: PathBuf,
    },
    /// One row is wrong, so nothing of the file is taken.
    #[error("{} line {line}{}: {why}; nothing of this file was taken", path.display(), column.map(|c| format!(", column {c}")).unwrap_or_default())]
    BadRow {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column, if one is to blame.
        column: Option<&'static str>,
        /// What is wrong.
        why: String,
    },
    /// Cancelled; nothing was handed out.
    #[error("the export was cancelled; no file was written")]
    Cancelled,
}

impl ExportError {
    pub(crate) fn io(path: &Path, error: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), error }
    }

    /// As the line and the command line show failures.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Records(RecordsError::Refused(failure)) => (**failure).clone(),
            Self::Records(RecordsError::NotFound { .. })
            | Self::Recipient { .. }
            | Self::Exists { .. }
            | Self::OneFileManyFormats { .. }
            | Self::Encrypt(_)
            | Self::PublicKey { .. }
            | Self::SignatureFile { .. } => Failure::new(FailureCode::InvalidInput, self),
            Self::Records(_) => Failure::new(FailureCode::RecordsFailed, self),
            Self::Io { .. } => Failure::new(FailureCode::ExportIo, self),
            Self::Decrypt { .. } => Failure::new(FailureCode::ExportUnreadable, self),
            Self::BadSignature { .. } | Self::BadRow { .. } => Failure::new(FailureCode::ExportForged, self),
            Self::Cancelled => Failure::new(FailureCode::Cancelled, self),
        }
    }
}

/// `export-<batch>-<what>-<YYYYMMDD>.<ext>` (FIELD §3). What a file name can't hold becomes `_`.
pub fn file_name(batch: &str, what: &str, now_ms: i64, extension: &str) -> String {
    let batch: String =
        batch.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    format!("export-{batch}-{what}-{}.{extension}", day(now_ms))
}

/// `YYYYMMDD`, UTC.
fn day(now_ms: i64) -> String {
    Stamp(now_ms).to_string()[..10].replace('-', "")
}

/// A list on its way: written under a temporary name, removed unless it is put in place.
struct Pending {
    temporary: tempfile::NamedTempFile,
    path: PathBuf,
}

impl Pending {
    fn create(path: &Path) -> Result<Self, ExportError> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = tempfile::Builder::new()
            .prefix(".keywright-")
            .suffix(".part")
            .tempfile_in(folder)
            .map_err(|e| ExportError::io(path, e))?;
        Ok(Self { temporary, path: path.to_owned() })
    }

    fn with_bytes(path: &Path, bytes: &[u8]) -> Result<Self, ExportError> {
        let mut pending = Self::create(path)?;
        pending.temporary.write_all(bytes).map_err(|e| ExportError::io(path, e))?;
        Ok(pending)
    }

    fn put_in_place(self, overwrite: bool) -> Result<(), ExportError> {
        let path = self.path;
        self.temporary.as_file().sync_all().map_err(|e| ExportError::io(&path, e))?;
        let put =
            if overwrite { self.temporary.persist(&path) } else { self.temporary.persist_noclobber(&path) };
        put.map(drop).map_err(|e| match e.error.kind() {
            std::io::ErrorKind::AlreadyExists => ExportError::Exists { path: path.clone() },
            _ => ExportError::io(&path, e.error),
        })
    }
}

/// One list to write.
struct Plan {
    format: Format,
    protected: bool,
    path: PathBuf,
}

fn signature_path(list: &Path) -> PathBuf {
    let mut name = list.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

fn plans(request: &ExportRequest) -> Result<(PathBuf, Vec<Plan>), ExportError> {
    let mut formats = request.formats.clone();
    formats.dedup();
    let mut plans = Vec::new();
    let folder = match &request.destination {
        Destination::Folder(folder) => {
            std::fs::create_dir_all(folder).map_err(|e| ExportError::io(folder, e))?;
            for format in formats {
                let name =
                    |what, ext: &str| folder.join(file_name(&request.batch, what, request.now_ms, ext));
                plans.push(Plan { format, protected: false, path: name("units", format.extension()) });
                if !request.recipients.is_empty() {
                    let path = name("keys", &format!("{}.age", format.extension()));
                    plans.push(Plan { format, protected: true, path });
                }
            }
            folder.clone()
        }
        Destination::File(file) => {
            let [format] = formats[..] else {
                return Err(ExportError::OneFileManyFormats { count: formats.len() });
            };
            plans.push(Plan { format, protected: false, path: file.clone() });
            if !request.recipients.is_empty() {
                let mut name = file.as_os_str().to_owned();
                name.push(".age");
                plans.push(Plan { format, protected: true, path: PathBuf::from(name) });
            }
            match file.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
                _ => PathBuf::from("."),
            }
        }
    };
    if !request.overwrite {
        for path in plans.iter().flat_map(|p| [p.path.clone(), signature_path(&p.path)]) {
            if path.exists() {
                return Err(ExportError::Exists { path });
            }
        }
    }
    Ok((folder, plans))
}

/// Writes the lists of one batch, signs them, records the export and puts the files in place.
///
/// `progress` is called after every row; a `Break` cancels, and nothing is left behind.
pub fn export(
    source: &dyn ExportSource,
    signer: &ExportSigner,
    request: &ExportRequest,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<ExportReport, ExportError> {
    let (folder, plans) = plans(request)?;
    let mut rows = source.export_rows(&request.batch)?;
    // Named by the day, as the files are: the same batch in two forms gives the same rows and signatures.
    let name = format!("export-{}-{}", request.batch, day(request.now_ms));
    for row in &mut rows {
        row.exported_in.clone_from(&name);
    }

    // The public key comes first: it holds no secret, and a folder that has another station's must be refused early.
    let public_key = folder.join("export.pub.pem");
    let pem = signer.public_pem();
    let pem_pending = match std::fs::read(&public_key) {
        Ok(found) if found == pem.as_bytes() => None,
        Ok(_) if !request.overwrite => return Err(ExportError::Exists { path: public_key }),
        Ok(_) => Some(Pending::with_bytes(&public_key, pem.as_bytes())?),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Some(Pending::with_bytes(&public_key, pem.as_bytes())?)
        }
        Err(e) => return Err(ExportError::io(&public_key, e)),
    };

    let total = rows.len() as u64 * plans.len() as u64;
    let mut done = 0;
    let mut step = || {
        done += 1;
        match progress(Progress { done, total }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ExportError::Cancelled),
        }
    };

    let mut pending = Vec::new();
    let mut files = Vec::new();
    for plan in &plans {
        let mut list = Pending::create(&plan.path)?;
        {
            let out = BufWriter::new(list.temporary.as_file_mut());
            if plan.protected {
                let recipients = request.recipients.iter().map(|r| &*r.inner as &dyn age::Recipient);
                let encryptor = age::Encryptor::with_recipients(recipients)
                    .map_err(|e| ExportError::Encrypt(e.to_string()))?;
                let mut out = encryptor.wrap_output(out).map_err(|e| ExportError::io(&plan.path, e))?;
                write_list(source, signer, request, plan, &rows, &mut out, &mut step)?;
                out.finish().and_then(|mut out| out.flush()).map_err(|e| ExportError::io(&plan.path, e))?;
            } else {
                let mut out = out;
                write_list(source, signer, request, plan, &rows, &mut out, &mut step)?;
                out.flush().map_err(|e| ExportError::io(&plan.path, e))?;
            }
        }
        // Signing reads the finished file into memory once: Ed25519 passes over its message twice, and a file that
        // changed between two passes would give away the signing key.
        let bytes = std::fs::read(list.temporary.path()).map_err(|e| ExportError::io(&plan.path, e))?;
        files.push(ExportedFile {
            name: plan.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            sha256: hex::encode(Sha256::digest(&bytes)),
            rows: rows.len() as u64,
            protected: plan.protected,
            format: format!("{}{}", plan.format.extension(), if plan.protected { ".age" } else { "" }),
        });
        // The signature takes its name before the list does: a list is never seen without one.
        pending.push(Pending::with_bytes(&signature_path(&plan.path), &signer.sign(&bytes))?);
        pending.push(list);
    }

    let record = ExportRecord {
        name,
        batch: request.batch.clone(),
        operator: request.operator.clone(),
        at_ms: request.now_ms,
        recipients: request.recipients.iter().map(Recipient::fingerprint).collect(),
        files,
        signer: signer.fingerprint(),
        units: rows.iter().filter_map(|r| r.mcu_uid).collect(),
    };
    source.record_export(&record)?;
    for file in pem_pending.into_iter().chain(pending) {
        file.put_in_place(request.overwrite)?;
    }
    sync_folder(&folder)?;

    let without_unit = rows.iter().filter(|r| r.mcu_uid.is_none()).count() as u64;
    let passed = rows.iter().filter(|r| r.has_passed()).count() as u64;
    let not_passed = rows.len() as u64 - without_unit - passed;
    Ok(ExportReport { record, folder, public_key, passed, not_passed, without_unit })
}

/// Makes the new names durable; only Unix needs and allows it.
fn sync_folder(folder: &Path) -> Result<(), ExportError> {
    #[cfg(unix)]
    std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(|e| ExportError::io(folder, e))?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

fn write_list(
    source: &dyn ExportSource,
    signer: &ExportSigner,
    request: &ExportRequest,
    plan: &Plan,
    rows: &[ListRow],
    out: &mut dyn Write,
    step: &mut dyn FnMut() -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let failed = |e| ExportError::io(&plan.path, e);
    if plan.format == Format::Csv {
        out.write_all(row::csv_header(plan.protected, request.delimiter).as_bytes()).map_err(failed)?;
    }
    let mut row = ListRow::default();
    for unsigned in rows {
        row.clone_from(unsigned);
        let secrets = match (plan.protected, row.has_passed(), row.mcu_uid) {
            (true, true, Some(unit)) => source.unit_secrets(unit)?,
            _ => None,
        };
        let secrets = plan.protected.then_some(secrets.as_ref());
        row.record_signature = hex::encode(signer.sign(&row.signed_bytes(secrets)));
        let line = match plan.format {
            Format::Csv => row.csv_line(secrets, request.delimiter),
            Format::Jsonl => row.json_line(secrets),
        };
        out.write_all(&line).map_err(failed)?;
        step()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
