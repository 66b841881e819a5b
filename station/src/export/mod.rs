//! Export: what leaves the station, in which form, protected how, and for whom.
//!
//! The canonical forms (CSV, JSON Lines) are two lists of the same rows, one row per unit (failures included) and one per
//! attempt that never learned which unit it held (`docs/formats/`):
//!
//! - the **units list** has no secrets; it is signed, not encrypted;
//! - the **protected list** adds the agent key and the cloud key of every passed unit.
//!
//! The other forms ([`formats`]) are one file of the passed units as somebody else's import reads it. Every file gets a
//! detached signature and a signed receipt, and a row in the export log.
//!
//! Code map: [`select`] says which units, [`formats`] what they look like, [`protect`] seals, [`check`] reads back, [`inspect`] looks at a file that somebody brings,
//! [`receipt`] and [`sign`] sign, [`deliver`] gives names, [`second`] lets a second person stand by, [`clerk`] does it all for the window, [`row`] and [`read`] are the canonical forms.
//!
//! Invariants:
//! - Export reads records only; it never talks to a board, the agent or the cloud.
//! - A key in clear lives in memory that is wiped, never in a file, temporary or not, unless a person said so and why: what is
//!   renamed into place is sealed from its first byte.
//! - Who got what is in the records before a file has its final name. A crash between the two leaves a record of an
//!   export that nobody received, never a list that nobody recorded.
//! - No file is replaced unless the caller says so. An export delivers all of its files or none; a record of one that failed in
//!   spite of everything says that it was not delivered.

mod check;
pub mod clerk;
mod deliver;
mod formats;
mod inspect;
mod preview;
mod protect;
mod read;
mod receipt;
mod row;
mod second;
mod select;
mod sign;

pub use check::check_vendor_file;
pub use formats::{AWS_TEMPLATE, Format};
pub use inspect::{Inspect, Inspection, Rows as InspectedRows, Verdict, inspect};
pub use preview::{HIDDEN, Preview, PreviewField, PreviewRow, preview};
pub use protect::{PgpRecipient, Protection, read_pgp_recipients};
pub use read::{Checked, ListKind, ListedRow, check_list, read_identities};
pub use receipt::{Receipt, Superseded, read_receipt, receipt_path, verify_receipt};
pub use row::{COLUMNS, Delimiter, ListRow, SCHEMA_VERSION, SECRET_COLUMNS, Stamp};
pub use second::{SecondPerson, second_person};
pub use select::Selection;
pub use sign::{ExportSigner, parse_public_pem, public_pem, verify_file};

use crate::cloud::Identity;
use crate::failure::{Failure, FailureCode};
use crate::model::{UnitId, UnitState};
use crate::people::same_name;
use crate::records::{
    ExportFilter, ExportKey, ExportLogFilter, HandedUnit, KeyVault, NewExport, Records, RecordsError,
    SqliteRecords, UnitKeys,
};
use deliver::{Pending, place_all};
use formats::{Context, Passed, PskcCipher, Retires};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::io::{BufReader, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
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

/// The keys of one passed unit and their generations. Redacted in `Debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveKeys {
    /// The keys.
    pub secrets: UnitSecrets,
    /// Generation of the agent key.
    pub agent_generation: u32,
    /// Generation of the cloud key: the part of the unit's name at a broker behind the dot.
    pub cloud_generation: u32,
}

/// What export needs of the records. Asked from several threads.
pub trait ExportSource: Sync {
    /// What has a row: the selected units in the order of first arrival; for a whole batch then the attempts without a unit, oldest
    /// first. As of one moment.
    fn keys(&self, selection: &Selection) -> Result<Vec<ExportKey>, RecordsError>;
    /// Their rows, in this order. `exported_in` and `record_signature` are left empty: [`export`] fills them.
    fn rows(&self, keys: &[ExportKey]) -> Result<Vec<ListRow>, RecordsError>;
    /// The rows of these units, in this order; `None` for a unit that was never here.
    fn rows_of(&self, units: &[UnitId]) -> Result<Vec<Option<ListRow>>, RecordsError>;
    /// When these passed units got the keys they have, in this order: their first PASS with them.
    fn provisioned(&self, units: &[UnitId]) -> Result<Vec<Option<Stamp>>, RecordsError>;
    /// The cloud identities of the selected passed units that earlier lists made known and newer keys took the place of.
    fn superseded(&self, selection: &Selection) -> Result<Vec<Identity>, RecordsError>;
    /// The keys of these passed units, in this order. Refused if one of them has other keys than its row says.
    fn live_keys(&self, rows: &[&ListRow]) -> Result<Vec<LiveKeys>, RecordsError>;
    /// Whether this export of the log gave keys away.
    fn gave_keys(&self, export: i64) -> Result<bool, RecordsError>;
    /// Records that the files are handed out; durable when it returns. The exports' numbers, one per file.
    fn record_export(&self, record: &ExportRecord) -> Result<Vec<i64>, RecordsError>;
    /// Records that files which were recorded did not get their names after all: nobody received them.
    fn not_delivered(&self, exports: &[i64], operator: &str, why: &str) -> Result<(), RecordsError>;
}

/// The station's records as an [`ExportSource`]: rows from the records, keys through the vault.
pub struct RecordsSource {
    /// The records.
    pub records: SqliteRecords,
    /// The one way to unit keys in clear.
    pub vault: KeyVault,
}

impl RecordsSource {
    fn filter(&self, selection: &Selection) -> Result<ExportFilter, RecordsError> {
        Ok(ExportFilter {
            batch: selection
                .batch
                .as_deref()
                .map(|b| self.records.batch_by_name(b))
                .transpose()?
                .map(|b| b.id),
            state: selection.state,
            region: selection.region,
            since_ms: selection.since.map(|t| t.0),
            until_ms: selection.until.map(|t| t.0),
            failed: selection.failed,
        })
    }
}

/// Somebody worked on a unit meanwhile.
fn changed(unit: impl std::fmt::Display) -> RecordsError {
    RecordsError::Refused(Box::new(Failure {
        code: FailureCode::ExportIo,
        sentence: format!("Unit {unit} changed while the list was being made"),
        remedy: "Export again".into(),
    }))
}

fn corrupt(detail: String) -> RecordsError {
    RecordsError::Corrupt { path: "station.db".into(), detail }
}

impl ExportSource for RecordsSource {
    fn keys(&self, selection: &Selection) -> Result<Vec<ExportKey>, RecordsError> {
        self.records.export_keys(&self.filter(selection)?)
    }

    fn rows(&self, keys: &[ExportKey]) -> Result<Vec<ListRow>, RecordsError> {
        let rows = self.records.export_rows_at(keys)?;
        rows.into_iter().map(|row| ListRow::try_from(row).map_err(corrupt)).collect()
    }

    fn rows_of(&self, units: &[UnitId]) -> Result<Vec<Option<ListRow>>, RecordsError> {
        let rows = self.records.export_rows_of(units)?;
        rows.into_iter().map(|row| row.map(ListRow::try_from).transpose().map_err(corrupt)).collect()
    }

    fn provisioned(&self, units: &[UnitId]) -> Result<Vec<Option<Stamp>>, RecordsError> {
        let times = self.records.provisioned_at(units)?;
        Ok(times.into_iter().map(|at| at.map(Stamp)).collect())
    }

    fn superseded(&self, selection: &Selection) -> Result<Vec<Identity>, RecordsError> {
        let found = self.records.superseded_identities(&self.filter(selection)?)?;
        Ok(found.into_iter().map(|(unit, generation)| Identity { unit, generation }).collect())
    }

    fn gave_keys(&self, export: i64) -> Result<bool, RecordsError> {
        let log = self.records.export_log(&ExportLogFilter::default())?;
        let found = log.iter().find(|e| e.id == export).map(|e| e.keys_of > 0);
        found.ok_or_else(|| RecordsError::NotFound {
            what: "export",
            name: export.to_string(),
            list: "export log",
        })
    }

    fn live_keys(&self, rows: &[&ListRow]) -> Result<Vec<LiveKeys>, RecordsError> {
        let units: Vec<UnitId> = rows.iter().filter_map(|r| r.mcu_uid).collect();
        let keys = self.vault.keys_of_many(&units)?;
        let mut live = Vec::with_capacity(rows.len());
        for ((row, unit), keys) in rows.iter().zip(&units).zip(keys) {
            let Some((UnitState::Passed, UnitKeys { agent, cloud })) = keys else {
                return Err(changed(*unit));
            };
            let (Some(agent), Some(cloud)) =
                (agent.filter(|k| !k.key.is_blank()), cloud.filter(|k| !k.key.is_blank()))
            else {
                // A passed unit has both keys; the records enforce it. One that has not must not look like a failed one.
                return Err(corrupt(format!("unit {unit} passed but a key of it is missing or blank")));
            };
            if row.agent_key_id.as_ref() != Some(&agent.key_id)
                || row.cloud_key_id.as_ref() != Some(&cloud.key_id)
            {
                return Err(changed(*unit));
            }
            live.push(LiveKeys {
                agent_generation: agent.generation,
                cloud_generation: cloud.generation,
                secrets: UnitSecrets {
                    agent_key: Zeroizing::new(agent.key.expose().to_vec()),
                    cloud_key: Zeroizing::new(cloud.key.expose().to_vec()),
                },
            });
        }
        Ok(live)
    }

    fn record_export(&self, record: &ExportRecord) -> Result<Vec<i64>, RecordsError> {
        let batch = record.selection.batch.as_deref().map(|b| self.records.batch_by_name(b)).transpose()?;
        let none = |text: &Option<String>| text.clone().unwrap_or_default();
        let exports = record.files.iter().map(|file| NewExport {
            batch: batch.as_ref().map(|b| b.id),
            selection: record.selection.to_string(),
            format: file.format.clone(),
            file: file.name.clone(),
            rows: u32::try_from(file.rows).unwrap_or(u32::MAX),
            sha256: file.sha256.clone(),
            operator: record.operator.clone(),
            protection: if file.protected { record.protection } else { "none" }.into(),
            reason: if file.protected { none(&record.reason) } else { String::new() },
            handed_to: none(&record.handed_to),
            second_person: none(&record.second_person),
            replaces: record.replaces,
            recipients: if file.protected { record.recipients.clone() } else { Vec::new() },
            units: file.units.clone(),
        });
        self.records.record_exports(exports.collect())
    }

    fn not_delivered(&self, exports: &[i64], operator: &str, why: &str) -> Result<(), RecordsError> {
        let why: String = format!("not delivered: {why}").chars().take(500).collect();
        exports.iter().try_for_each(|export| self.records.revoke_export(*export, operator, &why))
    }
}

/// What the records keep of one export.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ExportRecord {
    /// Its name, as it stands in every row's `exported_in`.
    pub name: String,
    /// Which units.
    #[serde(serialize_with = "in_words")]
    pub selection: Selection,
    /// Who asked for it.
    pub operator: String,
    /// Who stood by.
    pub second_person: Option<String>,
    /// Who receives it, for people.
    pub handed_to: Option<String>,
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// How its secrets are protected: see [`Protection::word`].
    pub protection: &'static str,
    /// Why in clear.
    pub reason: Option<String>,
    /// The export that it repeats.
    pub replaces: Option<i64>,
    /// Fingerprints of the recipients' keys.
    pub recipients: Vec<String>,
    /// Every file that was written.
    pub files: Vec<ExportedFile>,
    /// Fingerprint of the key that signed.
    pub signer: String,
}

fn in_words<S: serde::Serializer>(selection: &Selection, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(selection)
}

/// One file that was written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ExportedFile {
    /// File name without its folder.
    pub name: String,
    /// SHA-256 over the file's bytes (for a sealed file: over the ciphertext), hex.
    pub sha256: String,
    /// Rows in it.
    pub rows: u64,
    /// Whether it holds secrets.
    pub protected: bool,
    /// The format's word; with `.age` or `.gpg` behind it when sealed.
    pub format: String,
    /// Identities that it ends, or that the list beside it says are to be ended.
    pub superseded: u64,
    /// Name of that list, if there is one.
    pub superseded_list: Option<String>,
    /// Units in it, and which keys of them.
    #[serde(skip)]
    pub units: Vec<HandedUnit>,
    /// The export's number in the log; 0 until it is recorded.
    pub number: i64,
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
    /// Into a folder under the standard names `export-<batch>-<what>-<YYYYMMDD>.<ext>`; if one of them is taken, all of the export's
    /// names say that it is the second one of the day there: `…-<YYYYMMDD>-2.<ext>`.
    Folder(PathBuf),
    /// The units list under this name; the protected list under the same name with `.age` behind it.
    File(PathBuf),
}

impl Destination {
    /// How `--out` is read: an existing folder, a path that ends in `/` and a name without an extension that is no
    /// file are folders, anything else a file. A trailing `.age` or `.gpg` is the protected list's own and does not count.
    pub fn from_out(out: &Path) -> Self {
        let text = out.as_os_str().to_string_lossy();
        let bare = out.extension().is_none() && !out.is_file();
        if bare || out.is_dir() || text.ends_with('/') || text.ends_with(std::path::MAIN_SEPARATOR) {
            return Self::Folder(out.to_owned());
        }
        if out.extension().is_some_and(|e| e == "age" || e == "gpg") {
            return Self::File(out.with_extension(""));
        }
        Self::File(out.to_owned())
    }
}

/// What to export.
#[derive(Debug)]
pub struct ExportRequest {
    /// Which units; a batch may be open or closed.
    pub selection: Selection,
    /// Forms; a canonical one gives its own pair of lists.
    pub formats: Vec<Format>,
    /// Between CSV fields, where the form lets one choose.
    pub delimiter: Delimiter,
    /// How secrets are protected, and for whom.
    pub protection: Protection,
    /// Who receives it, for people.
    pub handed_to: Option<String>,
    /// Who stands by.
    pub second_person: Option<String>,
    /// Secrets are handed out by two people only (`[export] second_person` in station.toml).
    pub needs_second_person: bool,
    /// The export that this one repeats.
    pub replaces: Option<i64>,
    /// Name of the station, for receipts.
    pub station: String,
    /// Where to.
    pub destination: Destination,
    /// Replace files that exist.
    pub overwrite: bool,
    /// Who asked.
    pub operator: String,
    /// Wall clock, Unix milliseconds.
    pub now_ms: i64,
}

/// What an export is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Writing rows.
    #[default]
    Rows,
    /// Signing what it wrote.
    Signing,
    /// Writing down who received what, and giving the files their names. It can't be cancelled any more.
    Recording,
}

/// How far an export is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
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
    /// Not a recipient.
    #[error("the recipient {given:?} can't be used: {why}")]
    Recipient {
        /// As given.
        given: String,
        /// Why.
        why: String,
    },
    /// The file is there.
    #[error("{} exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// One name for several forms.
    #[error("one file was named but {count} formats were asked for; name a folder instead")]
    OneFileManyFormats {
        /// How many.
        count: usize,
    },
    /// Two files of the export would have this name.
    #[error("two files of this export would have the name {}; name another", path.display())]
    SameName {
        /// The name.
        path: PathBuf,
    },
    /// No row would be in the file.
    #[error("no unit of {selection} {}", if format.is_canonical() { "is in the records" } else { "has passed" })]
    NoUnits {
        /// Which units were asked for, in words.
        selection: String,
        /// The form.
        format: Format,
    },
    /// A list that gave keys away can't be repeated by one that gives none.
    #[error("export {0} gave keys away, and without a recipient this one would not: name a recipient")]
    AgainWithoutKeys(i64),
    /// Nobody said why keys leave in clear.
    #[error("keys in clear need a reason of 1 to 500 characters")]
    NeedsReason,
    /// Nobody said who receives it.
    #[error("there is no recipient's key, so say who receives the file")]
    NeedsReceiver,
    /// Keys are handed out by two people, and one is here.
    #[error("this station lets two people hand out a list with keys: let a second one stand by")]
    NeedsSecondPerson,
    /// The second person is the first.
    #[error("the second person is the operator; it must be somebody else")]
    SamePerson,
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
    /// The form holds secrets and nothing protects them.
    #[error(
        "a {format} file holds what units log in with; name a recipient, or say why it is to be in clear"
    )]
    NeedsProtection {
        /// The form.
        format: Format,
    },
    /// A password protects the keys in a PSKC container and nothing else.
    #[error("a password protects PSKC only; give {format} an age or OpenPGP recipient")]
    PasswordForPskcOnly {
        /// The form.
        format: Format,
    },
    /// Something that must be said was not.
    #[error("{0}")]
    Unsaid(&'static str),
    /// A vendor's file does not say what the records say.
    #[error("{} row {row}{}: {why}; nothing of this file counts", path.display(), column.as_ref().map(|c| format!(", field {c}")).unwrap_or_default())]
    Misfit {
        /// The file.
        path: PathBuf,
        /// Row, from 1; 0 = before the first.
        row: u64,
        /// Field, if one is to blame.
        column: Option<String>,
        /// What is wrong.
        why: String,
    },
    /// A receipt is not what it seems.
    #[error("the receipt {}: {why}", path.display())]
    BadReceipt {
        /// The receipt.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A row can't be written in this form.
    #[error("unit {unit} can't be written as {format}: {why}")]
    Unwritable {
        /// Which.
        unit: String,
        /// The form.
        format: Format,
        /// Why.
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
            | Self::SameName { .. }
            | Self::AgainWithoutKeys(_)
            | Self::NeedsReason
            | Self::NeedsReceiver
            | Self::OneFileManyFormats { .. }
            | Self::NeedsProtection { .. }
            | Self::PasswordForPskcOnly { .. }
            | Self::Unsaid(_)
            | Self::Unwritable { .. }
            | Self::Encrypt(_)
            | Self::PublicKey { .. }
            | Self::SignatureFile { .. } => Failure::new(FailureCode::InvalidInput, self),
            Self::Exists { path } => Failure::new(FailureCode::FileExists, path.display()),
            Self::NoUnits { .. } => Failure::new(FailureCode::NothingToExport, self),
            Self::NeedsSecondPerson | Self::SamePerson => Failure::new(FailureCode::SecondPerson, self),
            Self::Records(_) => Failure::new(FailureCode::RecordsFailed, self),
            Self::Io { .. } => Failure::new(FailureCode::ExportIo, self),
            Self::Decrypt { .. } => Failure::new(FailureCode::ExportUnreadable, self),
            Self::BadSignature { .. }
            | Self::BadRow { .. }
            | Self::Misfit { .. }
            | Self::BadReceipt { .. } => Failure::new(FailureCode::ExportForged, self),
            Self::Cancelled => Failure::new(FailureCode::Cancelled, self),
        }
    }
}

/// `export-<batch>-<what>-<YYYYMMDD>.<ext>` (FIELD §3); from the second of a day on with its `turn` behind the day. What a file name
/// can't hold becomes `_`.
pub fn file_name(batch: &str, what: &str, now_ms: i64, turn: u32, extension: &str) -> String {
    let batch: String =
        batch.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    let turn = if turn > 1 { format!("-{turn}") } else { String::new() };
    format!("export-{batch}-{what}-{}{turn}.{extension}", day(now_ms))
}

/// `YYYYMMDD`, UTC.
fn day(now_ms: i64) -> String {
    Stamp(now_ms).to_string()[..10].replace('-', "")
}

/// One file to write.
struct Plan {
    format: Format,
    /// It holds secrets.
    protected: bool,
    path: PathBuf,
}

impl Plan {
    /// Every name that the file and what lies beside it may take.
    fn names(&self) -> impl Iterator<Item = PathBuf> {
        let template = (self.format == Format::Aws).then(|| template_path(&self.path));
        let superseded = (self.format.retires() == Retires::Beside).then(|| superseded_path(&self.path));
        [self.path.clone(), signature_path(&self.path), receipt_path(&self.path)]
            .into_iter()
            .chain(template)
            .chain(superseded)
    }
}

fn signature_path(list: &Path) -> PathBuf {
    let mut name = list.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Refuses what must not be handed out like this, before anything is read or written.
fn check_request(request: &ExportRequest) -> Result<(), ExportError> {
    let given = |text: &Option<String>| text.as_deref().is_some_and(|t| !t.trim().is_empty());
    for format in request.formats.iter().filter(|f| f.holds_secrets()) {
        match &request.protection {
            Protection::None if !format.is_canonical() => {
                return Err(ExportError::NeedsProtection { format: *format });
            }
            Protection::Password(_) if *format != Format::Pskc => {
                return Err(ExportError::PasswordForPskcOnly { format: *format });
            }
            _ => {}
        }
    }
    if request.formats.is_empty() {
        return Err(ExportError::Unsaid("no format was named"));
    }
    match &request.protection {
        Protection::Plain { reason } if !(1..=500).contains(&reason.trim().chars().count()) => {
            return Err(ExportError::NeedsReason);
        }
        Protection::Plain { .. } | Protection::Password(_) if !given(&request.handed_to) => {
            return Err(ExportError::NeedsReceiver);
        }
        Protection::Password(password) if password.chars().count() < 12 => {
            return Err(ExportError::Unsaid("the password has fewer than 12 characters"));
        }
        _ => {}
    }
    let hands_out =
        !matches!(request.protection, Protection::None) && request.formats.iter().any(|f| f.holds_secrets());
    if hands_out && request.needs_second_person && !given(&request.second_person) {
        return Err(ExportError::NeedsSecondPerson);
    }
    if request.second_person.as_deref().is_some_and(|second| same_name(second, &request.operator)) {
        return Err(ExportError::SamePerson);
    }
    Ok(())
}

/// More exports of one batch on one day into one folder are a program that runs wild.
const MOST_A_DAY: u32 = 9_999;

fn plans(request: &ExportRequest) -> Result<(PathBuf, Vec<Plan>), ExportError> {
    let mut formats: Vec<Format> = Vec::new();
    for format in &request.formats {
        if !formats.contains(format) {
            formats.push(*format);
        }
    }
    let (folder, plans) = match &request.destination {
        Destination::Folder(folder) => {
            std::fs::create_dir_all(folder).map_err(|e| ExportError::io(folder, e))?;
            let of = |turn| plans_in(folder, &formats, request, turn);
            let is_free = |plans: &Vec<Plan>| !plans.iter().flat_map(Plan::names).any(|name| name.exists());
            let first = of(1);
            let free = || (2..=MOST_A_DAY).map(of).find(is_free);
            let plans = if request.overwrite || is_free(&first) { Some(first) } else { free() };
            (folder.clone(), plans.ok_or_else(|| ExportError::Exists { path: folder.clone() })?)
        }
        Destination::File(file) => {
            let [format] = formats[..] else {
                return Err(ExportError::OneFileManyFormats { count: formats.len() });
            };
            let folder = match file.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
                _ => PathBuf::from("."),
            };
            (folder, plans_of(file, format, request))
        }
    };
    let mut names = HashSet::from([folder.join(PUBLIC_KEY)]);
    if let Some(path) = plans.iter().flat_map(Plan::names).find(|name| !names.insert(name.clone())) {
        return Err(ExportError::SameName { path });
    }
    if !request.overwrite {
        refuse_existing(&plans)?;
    }
    Ok((folder, plans))
}

fn refuse_existing(plans: &[Plan]) -> Result<(), ExportError> {
    match plans.iter().flat_map(Plan::names).find(|name| name.exists()) {
        Some(path) => Err(ExportError::Exists { path }),
        None => Ok(()),
    }
}

/// The files of an export under their standard names, as the first, second, … of the day.
fn plans_in(folder: &Path, formats: &[Format], request: &ExportRequest, turn: u32) -> Vec<Plan> {
    let sealed = request.protection.suffix();
    let mut plans = Vec::new();
    for format in formats.iter().copied() {
        let name = |what, ext: &str| {
            folder.join(file_name(&request.selection.label(), what, request.now_ms, turn, ext))
        };
        let extension = format.extension();
        if format.is_canonical() {
            plans.push(Plan { format, protected: false, path: name("units", extension) });
            if !matches!(request.protection, Protection::None) {
                let path = name("keys", &format!("{extension}{sealed}"));
                plans.push(Plan { format, protected: true, path });
            }
        } else {
            let protected = format.holds_secrets();
            let suffix = if protected { sealed } else { "" };
            let path = name(format.word(), &format!("{extension}{suffix}"));
            plans.push(Plan { format, protected, path });
        }
    }
    plans
}

/// The files of an export under a name that somebody chose.
fn plans_of(file: &Path, format: Format, request: &ExportRequest) -> Vec<Plan> {
    let sealed = request.protection.suffix();
    if !format.is_canonical() {
        let protected = format.holds_secrets();
        let path = if protected { with_suffix(file, sealed) } else { file.to_owned() };
        return vec![Plan { format, protected, path }];
    }
    let mut plans = vec![Plan { format, protected: false, path: file.to_owned() }];
    if !matches!(request.protection, Protection::None) {
        let suffix = if sealed.is_empty() { ".keys" } else { sealed };
        plans.push(Plan { format, protected: true, path: with_suffix(file, suffix) });
    }
    plans
}

/// Writes the files of one selection, checks, seals and signs them, records the export and puts the files in place.
///
/// `progress` is called after every row; a `Break` cancels, and nothing is left behind.
pub fn export(
    source: &dyn ExportSource,
    signer: &ExportSigner,
    request: &ExportRequest,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<ExportReport, ExportError> {
    check_request(request)?;
    if let Some(before) = request.replaces
        && matches!(request.protection, Protection::None)
        && source.gave_keys(before)?
    {
        return Err(ExportError::AgainWithoutKeys(before));
    }
    let keys = source.keys(&request.selection)?;
    let has_passed = |key: &ExportKey| matches!(key, ExportKey::Unit { passed: true, .. });
    let all: Vec<usize> = (0..keys.len()).collect();
    let passed: Vec<usize> = all.iter().copied().filter(|at| has_passed(&keys[*at])).collect();
    let rows_of = |format: Format| if format.is_canonical() { &all } else { &passed };
    if let Some(format) = request.formats.iter().copied().find(|format| rows_of(*format).is_empty()) {
        return Err(ExportError::NoUnits { selection: request.selection.to_string(), format });
    }
    let (folder, plans) = plans(request)?;
    // Named by the day, as the files are: the same units in two forms give the same rows and signatures.
    let name = format!("export-{}-{}", request.selection.label(), day(request.now_ms));
    let mut rows = Rows::new(source, name.clone(), keys, plans.len() > 1);
    if plans.iter().any(|plan| matches!(plan.format.retires(), Retires::InFile | Retires::Beside)) {
        for identity in source.superseded(&request.selection)? {
            rows.superseded.entry(identity.unit).or_default().push(identity);
        }
    }

    // The public key comes first: it holds no secret, and a folder that has another station's must be refused early.
    let public_key = folder.join(PUBLIC_KEY);
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

    let total = plans.iter().map(|p| rows_of(p.format).len() as u64).sum();
    let mut done = 0;
    let mut tell = |phase, rows| {
        done += rows;
        match progress(Progress { phase, done, total }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ExportError::Cancelled),
        }
    };

    let mut pending = Vec::new();
    let mut files = Vec::new();
    let mut receipts = Vec::new();
    for plan in &plans {
        let which = rows_of(plan.format);
        let mut list = Pending::create(&plan.path)?;
        let mut units = Vec::with_capacity(which.len());
        let unsealed = Protection::None;
        let protection = if plan.protected { &request.protection } else { &unsealed };
        let suffix = protection.suffix();
        protection.seal(&plan.path, list.temporary.as_file_mut(), &mut |out| {
            write_file(&rows, signer, request, plan, which, out, &mut units, &mut || tell(Phase::Rows, 1))
        })?;
        tell(Phase::Signing, 0)?;
        list.sync()?;
        // Signing reads the finished file into memory once: Ed25519 passes over its message twice, and a file that
        // changed between two passes would give away the signing key.
        let bytes = std::fs::read(list.temporary.path()).map_err(|e| ExportError::io(&plan.path, e))?;
        let ended = match plan.format.retires() {
            Retires::InFile | Retires::Beside => rows.superseded.values().map(Vec::len).sum::<usize>() as u64,
            Retires::ByItself | Retires::Never => 0,
        };
        let mut file = ExportedFile {
            name: plan.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            sha256: hex::encode(Sha256::digest(&bytes)),
            rows: which.len() as u64,
            protected: plan.protected,
            format: format!("{}{suffix}", plan.format),
            superseded: ended,
            superseded_list: None,
            units,
            number: 0,
        };
        // The signature takes its name before the list does: a list is never seen without one.
        pending.push(Pending::with_bytes(&signature_path(&plan.path), &signer.sign(&bytes))?);
        if plan.format == Format::Aws {
            pending.push(Pending::with_bytes(&template_path(&plan.path), AWS_TEMPLATE.as_bytes())?);
        }
        let mut superseded =
            (ended > 0).then_some(Superseded { identities: ended, file: None, sha256: None });
        if let Some(superseded) = superseded.as_mut().filter(|_| plan.format.retires() == Retires::Beside) {
            let path = superseded_path(&plan.path);
            let lines: String = rows
                .superseded
                .values()
                .flatten()
                .map(|identity| format!("{}\n", formats::name_in(plan.format, *identity)))
                .collect();
            file.superseded_list = path.file_name().map(|name| name.to_string_lossy().into_owned());
            superseded.file.clone_from(&file.superseded_list);
            superseded.sha256 = Some(hex::encode(Sha256::digest(&lines)));
            pending.push(Pending::with_bytes(&path, lines.as_bytes())?);
        }
        pending.push(list);
        files.push(file);
        receipts.push((superseded, which));
    }

    let words =
        |text: &Option<String>| text.as_deref().map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned);
    let mut record = ExportRecord {
        name,
        selection: request.selection.clone(),
        operator: request.operator.clone(),
        second_person: words(&request.second_person),
        handed_to: words(&request.handed_to),
        at_ms: request.now_ms,
        protection: request.protection.word(),
        reason: match &request.protection {
            Protection::Plain { reason } => Some(reason.trim().to_owned()),
            _ => None,
        },
        replaces: request.replaces,
        recipients: request.protection.fingerprints(),
        files,
        signer: signer.fingerprint(),
    };
    // The receipts' numbers are given when the export is recorded; their room on the disk is taken before.
    let mut drafts = Vec::new();
    for ((file, (superseded, which)), plan) in record.files.iter().zip(receipts).zip(&plans) {
        let is_unit = |at: &&usize| matches!(rows.keys[**at], ExportKey::Unit { .. });
        let serial = |at: Option<&usize>| -> Result<Option<String>, ExportError> {
            let row = at.map(|at| source.rows(&rows.keys[*at..=*at])).transpose()?;
            Ok(row.and_then(|row| row.into_iter().next()).and_then(|row| row.unit_serial))
        };
        let of = || which.iter().filter(is_unit);
        let receipt = Receipt {
            receipt_version: receipt::VERSION,
            export: i64::MAX,
            station: request.station.clone(),
            format: file.format.clone(),
            file: file.name.clone(),
            sha256: file.sha256.clone(),
            rows: file.rows,
            selection: record.selection.to_string(),
            first_unit: serial(of().next())?,
            last_unit: serial(of().next_back())?,
            keys_of: file.units.iter().filter(|u| u.agent > 0 || u.cloud > 0).count() as u64,
            protection: if file.protected { record.protection } else { "none" }.into(),
            recipients: if file.protected { record.recipients.clone() } else { Vec::new() },
            handed_to: record.handed_to.clone(),
            operator: record.operator.clone(),
            second_person: record.second_person.clone(),
            reason: record.reason.clone().filter(|_| file.protected),
            replaces: record.replaces,
            at: Stamp(record.at_ms),
            signer: record.signer.clone(),
            superseded,
        };
        let draft = Pending::with_bytes(&receipt_path(&plan.path), &receipt.to_file(signer))?;
        drafts.push((receipt, draft));
    }
    tell(Phase::Recording, 0)?;
    // Somebody else may have written there meanwhile: what can be refused is refused before it is in the log.
    if !request.overwrite {
        refuse_existing(&plans)?;
        if pem_pending.is_some() && public_key.exists() {
            return Err(ExportError::Exists { path: public_key });
        }
    }
    let numbers = source.record_export(&record)?;
    let finish = || -> Result<(), ExportError> {
        let mut files: Vec<Pending> = pem_pending.into_iter().collect();
        for (((mut receipt, mut draft), number), file) in
            drafts.into_iter().zip(&numbers).zip(&mut record.files)
        {
            (file.number, receipt.export) = (*number, *number);
            draft.rewrite(&receipt.to_file(signer))?;
            files.push(draft);
        }
        files.append(&mut pending);
        place_all(files, &folder, request.overwrite)
    };
    if let Err(error) = finish() {
        // The log is right again, or says in the program's log why not.
        if let Err(again) = source.not_delivered(&numbers, &request.operator, &error.to_string()) {
            tracing::error!(error = %again, "the log has an export that was not delivered");
        }
        return Err(error);
    }

    let without_unit = rows.keys.iter().filter(|k| matches!(k, ExportKey::Attempt(_))).count() as u64;
    let not_passed = (all.len() - passed.len()) as u64 - without_unit;
    Ok(ExportReport { record, folder, public_key, passed: passed.len() as u64, not_passed, without_unit })
}

/// The file with the station's public key.
const PUBLIC_KEY: &str = "export.pub.pem";

/// The template that lies beside an AWS file.
fn template_path(file: &Path) -> PathBuf {
    with_suffix(file, ".template.json")
}

/// The list of identities that a vendor has to end by hand.
fn superseded_path(file: &Path) -> PathBuf {
    with_suffix(file, ".superseded.txt")
}

/// Rows that one thread makes at a time.
const AT_ONCE: usize = 256;

/// A row as it is written, and what it gives away.
type Made = (Zeroizing<Vec<u8>>, Option<HandedUnit>);

/// Makes one row, of a unit's live keys if they are to be in it.
type MakeRow<'a> = dyn Fn(&ListRow, Option<&LiveKeys>) -> Result<Made, ExportError> + Sync + 'a;

/// The rows of an export: which, and how to come by them. They are read as they are written, a few hundred at a time, so that
/// a list of a million units needs no more memory than its keys.
struct Rows<'a> {
    source: &'a dyn ExportSource,
    /// Stands in every row.
    name: String,
    keys: Vec<ExportKey>,
    /// Identities that earlier lists made known and that are worth nothing now, by unit.
    superseded: BTreeMap<UnitId, Vec<Identity>>,
    /// What stood in each row when it was read first (0: not read yet): every file of one export says the same.
    marks: Vec<AtomicU64>,
}

impl<'a> Rows<'a> {
    fn new(source: &'a dyn ExportSource, name: String, keys: Vec<ExportKey>, several_files: bool) -> Self {
        let marks = if several_files { keys.len() } else { 0 };
        let superseded = BTreeMap::new();
        Self {
            source,
            name,
            keys,
            superseded,
            marks: std::iter::repeat_with(AtomicU64::default).take(marks).collect(),
        }
    }

    /// Reads rows by their places.
    fn read(&self, places: &[usize]) -> Result<Vec<ListRow>, ExportError> {
        let keys: Vec<ExportKey> = places.iter().map(|at| self.keys[*at]).collect();
        let mut rows = self.source.rows(&keys)?;
        for ((row, key), at) in rows.iter_mut().zip(keys).zip(places) {
            row.exported_in.clone_from(&self.name);
            let passed = matches!(key, ExportKey::Unit { passed: true, .. });
            let mark = row.mark();
            let before = self.marks.get(*at).map_or(0, |m| m.swap(mark, Ordering::Relaxed));
            if row.has_passed() != passed || (before != 0 && before != mark) {
                return Err(changed(row.unit_serial.as_deref().unwrap_or("?")).into());
            }
        }
        Ok(rows)
    }
}

/// When each of these units got its keys.
fn add_time(source: &dyn ExportSource, rows: &mut [ListRow]) -> Result<(), ExportError> {
    let units: Vec<UnitId> = rows.iter().filter_map(|r| r.mcu_uid).collect();
    let times = source.provisioned(&units)?;
    for (row, at) in rows.iter_mut().filter(|r| r.mcu_uid.is_some()).zip(times) {
        row.provisioned_at = at;
    }
    Ok(())
}

/// Reads and makes the rows at these places, several threads at a time, and hands them to `take` in their order.
fn make_rows(
    rows: &Rows<'_>,
    which: &[usize],
    with_keys: bool,
    with_time: bool,
    make: &MakeRow<'_>,
    take: &mut dyn FnMut(Made) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let some = |places: &[usize]| -> Result<Vec<Made>, ExportError> {
        let mut rows_read = rows.read(places)?;
        if with_time {
            add_time(rows.source, &mut rows_read)?;
        }
        let rows_read = rows_read;
        let passed: Vec<&ListRow> = rows_read.iter().filter(|r| with_keys && r.has_passed()).collect();
        let keys = if passed.is_empty() { Vec::new() } else { rows.source.live_keys(&passed)? };
        let mut keys = keys.iter();
        rows_read
            .iter()
            .map(|row| make(row, if with_keys && row.has_passed() { keys.next() } else { None }))
            .collect()
    };
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
    for places in which.chunks(AT_ONCE * workers) {
        if places.len() <= AT_ONCE {
            for made in some(places)? {
                take(made)?;
            }
            continue;
        }
        std::thread::scope(|scope| {
            let threads: Vec<_> = places.chunks(AT_ONCE).map(|places| scope.spawn(|| some(places))).collect();
            for thread in threads {
                let made = thread
                    .join()
                    .unwrap_or_else(|_| Err(ExportError::Unsaid("a thread of the export failed")))?;
                for made in made {
                    take(made)?;
                }
            }
            Ok::<(), ExportError>(())
        })?;
    }
    Ok(())
}

/// Writes one file in clear to `out`, which seals it; what the file gives away is added to `units`.
#[expect(clippy::too_many_arguments, reason = "one call, and every one of them is another thing")]
fn write_file(
    from: &Rows<'_>,
    signer: &ExportSigner,
    request: &ExportRequest,
    plan: &Plan,
    rows: &[usize],
    out: &mut dyn Write,
    units: &mut Vec<HandedUnit>,
    step: &mut dyn FnMut() -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    if plan.format.is_canonical() {
        write_list(from, signer, request, plan, rows, out, units, step)
    } else {
        write_vendor(from, signer, request, plan, rows, out, units, step)
    }
}

#[expect(clippy::too_many_arguments, reason = "as above")]
fn write_list(
    from: &Rows<'_>,
    signer: &ExportSigner,
    request: &ExportRequest,
    plan: &Plan,
    rows: &[usize],
    out: &mut dyn Write,
    units: &mut Vec<HandedUnit>,
    step: &mut dyn FnMut() -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let failed = |e| ExportError::io(&plan.path, e);
    if plan.format == Format::Csv {
        out.write_all(row::csv_header(plan.protected, request.delimiter).as_bytes()).map_err(failed)?;
    }
    let make = |unsigned: &ListRow, keys: Option<&LiveKeys>| -> Result<Made, ExportError> {
        let mut row = unsigned.clone();
        let secrets = plan.protected.then_some(keys.map(|k| &k.secrets));
        row.record_signature = hex::encode(signer.sign(&row.signed_bytes(secrets)));
        let line = match plan.format {
            Format::Csv => row.csv_line(secrets, request.delimiter),
            _ => row.json_line(secrets),
        };
        let (agent, cloud) = keys.map_or((0, 0), |k| (k.agent_generation, k.cloud_generation));
        Ok((line, row.mcu_uid.map(|unit| HandedUnit { unit, agent, cloud })))
    };
    make_rows(from, rows, plan.protected, false, &make, &mut |(line, unit)| {
        out.write_all(&line).map_err(failed)?;
        units.extend(unit);
        step()
    })
}

#[expect(clippy::too_many_arguments, reason = "as above")]
fn write_vendor(
    from: &Rows<'_>,
    signer: &ExportSigner,
    request: &ExportRequest,
    plan: &Plan,
    rows: &[usize],
    out: &mut dyn Write,
    units: &mut Vec<HandedUnit>,
    step: &mut dyn FnMut() -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let password = match &request.protection {
        Protection::Password(password) => Some(password.clone()),
        _ => None,
    };
    let mut random = None;
    let pskc = password.as_ref().map(|password| {
        PskcCipher::new(password, &mut |bytes| {
            if let Err(error) = getrandom::fill(bytes) {
                random = Some(error.to_string());
            }
        })
    });
    if let Some(error) = random {
        return Err(ExportError::Encrypt(error));
    }
    let context = Context {
        signer: Some(signer),
        verifier: Some(signer.public()),
        pskc,
        password,
        delimiter: request.delimiter,
    };
    write_checked(from, &context, plan, rows, out, units, step)
}

/// Writes a vendor's file and reads the very same bytes back on the way: what the records do not bear out is never handed out.
fn write_checked(
    from: &Rows<'_>,
    context: &Context<'_>,
    plan: &Plan,
    rows: &[usize],
    out: &mut dyn Write,
    units: &mut Vec<HandedUnit>,
    step: &mut dyn FnMut() -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let (format, total) = (plan.format, rows.len() as u64);
    std::thread::scope(|scope| {
        let (mut pipe, feed) = protect::feed();
        let checking = scope.spawn(move || {
            check::compare_all(format, &mut BufReader::new(feed), context, from.source, &plan.path)
        });
        // If the check stopped reading, it knows why; writing to the file is over then too.
        let mut both = |bytes: &[u8]| -> Result<(), ExportError> {
            pipe.write_all(bytes).map_err(|e| ExportError::io(&plan.path, e))?;
            out.write_all(bytes).map_err(|e| ExportError::io(&plan.path, e))
        };
        let make = |row: &ListRow, keys: Option<&LiveKeys>| -> Result<Made, ExportError> {
            let unwritable = |why: String| ExportError::Unwritable {
                unit: row.unit_serial.clone().unwrap_or_default(),
                format,
                why,
            };
            let (Some(unit), Some(keys)) = (row.mcu_uid, keys) else {
                return Err(unwritable("it has no keys".into()));
            };
            let fields = formats::fields(format, &Passed { row, unit, keys }).map_err(unwritable)?;
            let mut text = formats::row(format, &fields, context).map_err(unwritable)?;
            if format.retires() == Retires::InFile
                && let Some(ended) = from.superseded.get(&unit)
            {
                let mut both: Vec<u8> = ended.iter().flat_map(|i| formats::retire(format, *i)).collect();
                both.reserve_exact(text.len());
                both.extend_from_slice(&text);
                text = Zeroizing::new(both);
            }
            let handed = HandedUnit {
                unit,
                agent: if format.gives_agent_key() { keys.agent_generation } else { 0 },
                cloud: if format.gives_cloud_key() { keys.cloud_generation } else { 0 },
            };
            Ok((text, Some(handed)))
        };
        let mut at = 0;
        let written = both(formats::head(format, context, total).as_bytes())
            .and_then(|()| {
                make_rows(from, rows, true, format.has_time(), &make, &mut |(text, unit)| {
                    if at > 0 {
                        both(formats::between(format, at).as_bytes())?;
                    }
                    at += 1;
                    both(&text)?;
                    units.extend(unit);
                    step()
                })
            })
            .and_then(|()| both(formats::tail(format, total).as_bytes()));
        drop(pipe);
        let checked = checking.join().unwrap_or(Err(ExportError::Unsaid("the thread of the check failed")));
        match (written, checked) {
            (Err(cancelled @ ExportError::Cancelled), _) => Err(cancelled),
            // Writing that failed because the check hung up is the check's news.
            (Err(ExportError::Io { .. }) | Ok(()), Err(error)) => Err(error),
            (Err(error), _) => Err(error),
            (Ok(()), Ok(read)) if read != total => Err(ExportError::Misfit {
                path: plan.path.clone(),
                row: read,
                column: None,
                why: format!("{total} rows were written, {read} were read back"),
            }),
            (Ok(()), Ok(_)) => Ok(()),
        }
    })
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vendor_tests;
