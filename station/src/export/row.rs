//! The canonical row (FIELD §4): its columns, its two written forms, and the bytes that its signature covers.
//!
//! Compatibility promise: within one `schema_version` no column changes its name, place or meaning.

use super::UnitSecrets;
use crate::model::{Outcome, UnitId, UnitState};
use crate::records;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use zeroize::Zeroizing;

/// The `schema_version` that this program writes and reads.
pub const SCHEMA_VERSION: u32 = records::EXPORT_SCHEMA_VERSION;

/// The columns that `record_signature` covers, in order; the signature itself stands behind them.
pub const COLUMNS: [&str; 27] = records::ExportRow::COLUMNS;

/// Stands behind [`COLUMNS`] in every list.
pub const SIGNATURE_COLUMN: &str = "record_signature";

/// The further columns of a protected list.
pub const SECRET_COLUMNS: [&str; 2] = ["agent_key", "cloud_key"];

/// A moment, Unix milliseconds; written as RFC 3339 in UTC with three decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub i64);

impl std::fmt::Display for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A clock beyond the year 9999 is a broken clock; the epoch is as wrong and can be written.
        let stamp = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        write!(f, "{stamp:.3}")
    }
}

impl std::str::FromStr for Stamp {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        s.parse::<jiff::Timestamp>()
            .map(|t| Self(t.as_millisecond()))
            .map_err(|_| format!("expected a time like 2026-01-31T08:30:00.000Z, got {s:?}"))
    }
}

impl Serialize for Stamp {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What stands between CSV fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Delimiter {
    /// `,`
    #[default]
    Comma,
    /// `;`, for spreadsheets of locales that write 1,5.
    Semicolon,
}

impl Delimiter {
    /// The character.
    pub const fn as_char(self) -> char {
        match self {
            Self::Comma => ',',
            Self::Semicolon => ';',
        }
    }
}

impl std::str::FromStr for Delimiter {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "," | "comma" => Ok(Self::Comma),
            ";" | "semicolon" => Ok(Self::Semicolon),
            _ => Err(format!("the delimiter is , or ; (or the words comma, semicolon), got {s:?}")),
        }
    }
}

/// One unit, or one attempt that never learned its unit. An absent value is an empty CSV field and `null` in JSON;
/// text is never present and empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListRow {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Batch name.
    pub batch: String,
    /// The unit's serial.
    pub unit_serial: Option<String>,
    /// The unit's hardware id, 24 hex digits.
    pub mcu_uid: Option<UnitId>,
    /// From the product order.
    pub part_number: Option<String>,
    /// From the product order.
    pub hw_revision: Option<String>,
    /// Version of the common image.
    pub firmware_version: Option<String>,
    /// SHA-256 of `common-image.json`, hex.
    pub firmware_sha256: Option<String>,
    /// Product order's name.
    pub product_order: String,
    /// Names the live agent key without showing it.
    pub agent_key_id: Option<String>,
    /// Names the live cloud key without showing it.
    pub cloud_key_id: Option<String>,
    /// Region the unit belongs to.
    pub region: u32,
    /// SHA-256 of the region certificate that the unit was given, hex.
    pub anchor_fingerprint: Option<String>,
    /// Generation of the installed key record, as proved.
    pub key_generation: Option<u32>,
    /// How far the unit has come.
    pub state: Option<UnitState>,
    /// Attempts so far.
    pub attempts: Option<u32>,
    /// Passed at the first attempt; absent until it passed.
    pub first_pass: Option<bool>,
    /// Station of the latest attempt.
    pub station: Option<String>,
    /// Fixture of the latest attempt.
    pub fixture: Option<String>,
    /// Operator of the latest attempt.
    pub operator: Option<String>,
    /// Begin of the latest attempt.
    pub started_at: Option<Stamp>,
    /// End of the latest attempt.
    pub ended_at: Option<Stamp>,
    /// Outcome of the latest attempt.
    pub outcome: Option<Outcome>,
    /// Why not PASS: `K…`.
    pub failure_code: Option<String>,
    /// When its label was printed.
    pub label_printed_at: Option<Stamp>,
    /// Serial of the unit that this one replaces.
    pub supersedes: Option<String>,
    /// When the unit got the keys it has; no column, filled where a form asks for it.
    #[serde(skip)]
    pub provisioned_at: Option<Stamp>,
    /// The export that this row came out of: `export-<batch>-<YYYYMMDD>`.
    pub exported_in: String,
    /// Ed25519 over [`ListRow::signed_bytes`], 128 hex digits.
    pub record_signature: String,
}

fn text<T: ToString>(value: &Option<T>) -> Cow<'static, str> {
    value.as_ref().map_or(Cow::Borrowed(""), |v| Cow::Owned(v.to_string()))
}

fn words(value: &Option<String>) -> Cow<'_, str> {
    Cow::Borrowed(value.as_deref().unwrap_or(""))
}

fn maybe<T: std::str::FromStr>(field: &str) -> Result<Option<T>, String>
where
    T::Err: std::fmt::Display,
{
    if field.is_empty() { Ok(None) } else { need(field).map(Some) }
}

fn need<T: std::str::FromStr>(field: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    field.parse().map_err(|e| format!("{e} (found {field:?})"))
}

impl TryFrom<records::ExportRow> for ListRow {
    type Error = String;

    /// From what the records know. `exported_in` and the signature are the export's to fill.
    fn try_from(row: records::ExportRow) -> Result<Self, String> {
        let words = |text: String| Some(text).filter(|t| !t.is_empty());
        let unit: Option<UnitId> = maybe(&row.mcu_uid)?;
        // An attempt without a unit has the word `unidentified` where a unit has its state.
        let state = if unit.is_some() { maybe::<UnitState>(&row.state)? } else { None };
        Ok(Self {
            schema_version: row.schema_version,
            batch: row.batch,
            unit_serial: words(row.unit_serial),
            mcu_uid: unit,
            part_number: words(row.part_number),
            hw_revision: words(row.hw_revision),
            firmware_version: words(row.firmware_version),
            firmware_sha256: words(row.firmware_sha256),
            product_order: row.product_order,
            agent_key_id: words(row.agent_key_id),
            cloud_key_id: words(row.cloud_key_id),
            region: row.region,
            anchor_fingerprint: words(row.anchor_fingerprint),
            key_generation: Some(row.key_generation).filter(|g| *g > 0),
            state,
            attempts: Some(row.attempts),
            first_pass: (state == Some(UnitState::Passed)).then_some(row.first_pass),
            station: words(row.station),
            fixture: words(row.fixture),
            operator: words(row.operator),
            started_at: maybe(&row.started_at)?,
            ended_at: maybe(&row.ended_at)?,
            outcome: maybe(&row.outcome)?,
            failure_code: words(row.failure_code),
            label_printed_at: maybe(&row.label_printed_at)?,
            supersedes: words(row.supersedes),
            provisioned_at: None,
            exported_in: String::new(),
            record_signature: String::new(),
        })
    }
}

impl ListRow {
    /// Whether the row is a unit that passed: only then does a protected list carry its keys.
    pub fn has_passed(&self) -> bool {
        self.state == Some(UnitState::Passed) && self.mcu_uid.is_some()
    }

    /// The fields of [`COLUMNS`], in order.
    fn fields(&self) -> [Cow<'_, str>; 27] {
        [
            Cow::Owned(self.schema_version.to_string()),
            Cow::Borrowed(&self.batch),
            words(&self.unit_serial),
            text(&self.mcu_uid),
            words(&self.part_number),
            words(&self.hw_revision),
            words(&self.firmware_version),
            words(&self.firmware_sha256),
            Cow::Borrowed(&self.product_order),
            words(&self.agent_key_id),
            words(&self.cloud_key_id),
            Cow::Owned(self.region.to_string()),
            words(&self.anchor_fingerprint),
            text(&self.key_generation),
            Cow::Borrowed(self.state.map_or("", UnitState::as_str)),
            text(&self.attempts),
            text(&self.first_pass),
            words(&self.station),
            words(&self.fixture),
            words(&self.operator),
            text(&self.started_at),
            text(&self.ended_at),
            Cow::Borrowed(self.outcome.map_or("", Outcome::as_str)),
            words(&self.failure_code),
            text(&self.label_printed_at),
            words(&self.supersedes),
            Cow::Borrowed(&self.exported_in),
        ]
    }

    /// Tells two rows apart; never 0.
    pub(super) fn mark(&self) -> u64 {
        use std::hash::{Hash, Hasher};
        let mut hasher = std::hash::DefaultHasher::new();
        self.fields().hash(&mut hasher);
        hasher.finish() | 1
    }

    /// The fields of [`COLUMNS`] by name, as a preview shows them.
    pub(super) fn named_fields(&self) -> impl Iterator<Item = super::PreviewField> {
        COLUMNS.into_iter().zip(self.fields()).map(|(name, value)| super::PreviewField {
            name: name.into(),
            value: value.into_owned(),
            hidden: false,
        })
    }

    /// Reads the fields of [`COLUMNS`] and the signature; the error names the column.
    pub(super) fn from_fields(field: [&str; 28]) -> Result<Self, (&'static str, String)> {
        fn at<T>(column: usize, result: Result<T, String>) -> Result<T, (&'static str, String)> {
            result.map_err(|why| (COLUMNS.get(column).copied().unwrap_or(SIGNATURE_COLUMN), why))
        }
        let owned = |i: usize| (!field[i].is_empty()).then(|| field[i].to_owned());
        Ok(Self {
            schema_version: at(0, need(field[0]))?,
            batch: field[1].to_owned(),
            unit_serial: owned(2),
            mcu_uid: at(3, maybe(field[3]))?,
            part_number: owned(4),
            hw_revision: owned(5),
            firmware_version: owned(6),
            firmware_sha256: owned(7),
            product_order: field[8].to_owned(),
            agent_key_id: owned(9),
            cloud_key_id: owned(10),
            region: at(11, need(field[11]))?,
            anchor_fingerprint: owned(12),
            key_generation: at(13, maybe(field[13]))?,
            state: at(14, maybe(field[14]))?,
            attempts: at(15, maybe(field[15]))?,
            first_pass: at(16, maybe(field[16]))?,
            station: owned(17),
            fixture: owned(18),
            operator: owned(19),
            started_at: at(20, maybe(field[20]))?,
            ended_at: at(21, maybe(field[21]))?,
            outcome: at(22, maybe(field[22]))?,
            failure_code: owned(23),
            label_printed_at: at(24, maybe(field[24]))?,
            supersedes: owned(25),
            provisioned_at: None,
            exported_in: field[26].to_owned(),
            record_signature: field[27].to_owned(),
        })
    }

    /// The bytes under `record_signature`: the words `keywright export 1 units` or `… keys`, a line feed, and the
    /// row as a CSV line with `,` (RFC 4180, quotes only where needed) without `record_signature` and without a line
    /// end; in a protected list followed by the secret columns. Independent of the form that the list is written in,
    /// so that a list that was converted keeps its signatures.
    pub fn signed_bytes(&self, secrets: Option<Option<&UnitSecrets>>) -> Zeroizing<Vec<u8>> {
        let public = csv_record(self.fields().iter().map(|f| f.as_bytes()), Delimiter::Comma);
        let mut bytes = wiped_buffer(32 + public.len(), secrets);
        bytes.extend_from_slice(match secrets {
            None => b"keywright export 1 units\n",
            Some(_) => b"keywright export 1 keys\n",
        });
        bytes.extend_from_slice(&public);
        if let Some(secrets) = secrets {
            push_secrets(&mut bytes, secrets, Delimiter::Comma);
        }
        bytes
    }

    /// The row as a CSV line with its CRLF.
    pub(super) fn csv_line(
        &self,
        secrets: Option<Option<&UnitSecrets>>,
        delimiter: Delimiter,
    ) -> Zeroizing<Vec<u8>> {
        let fields = self.fields();
        let public = csv_record(
            fields.iter().map(|f| f.as_bytes()).chain([self.record_signature.as_bytes()]),
            delimiter,
        );
        let mut line = wiped_buffer(public.len() + 2, secrets);
        line.extend_from_slice(&public);
        if let Some(secrets) = secrets {
            push_secrets(&mut line, secrets, delimiter);
        }
        line.extend_from_slice(b"\r\n");
        line
    }

    /// The row as a JSON object with its line feed.
    pub(super) fn json_line(&self, secrets: Option<Option<&UnitSecrets>>) -> Zeroizing<Vec<u8>> {
        let public = serde_json::to_vec(self).unwrap_or_default();
        let mut line = wiped_buffer(public.len() + 64, secrets);
        line.extend_from_slice(&public[..public.len().saturating_sub(1)]);
        if let Some(secrets) = secrets {
            for (name, key) in SECRET_COLUMNS.iter().zip(keys(secrets)) {
                line.extend_from_slice(b",\"");
                line.extend_from_slice(name.as_bytes());
                match key {
                    None => line.extend_from_slice(b"\":null"),
                    Some(key) => {
                        line.extend_from_slice(b"\":\"");
                        push_hex(&mut line, key);
                        line.push(b'"');
                    }
                }
            }
        }
        line.extend_from_slice(b"}\n");
        line
    }
}

/// The header line of a CSV list.
pub(super) fn csv_header(protected: bool, delimiter: Delimiter) -> String {
    let mut names: Vec<&str> = COLUMNS.to_vec();
    names.push(SIGNATURE_COLUMN);
    if protected {
        names.extend(SECRET_COLUMNS);
    }
    names.join(delimiter.as_char().encode_utf8(&mut [0; 4])) + "\r\n"
}

/// A buffer large enough that it never moves, so that no copy of a key is left where it was.
fn wiped_buffer(public: usize, secrets: Option<Option<&UnitSecrets>>) -> Zeroizing<Vec<u8>> {
    let keys = secrets.flatten().map_or(0, |s| 2 * (s.agent_key.len() + s.cloud_key.len()));
    Zeroizing::new(Vec::with_capacity(public + keys + 16))
}

fn keys(secrets: Option<&UnitSecrets>) -> [Option<&[u8]>; 2] {
    [secrets.map(|s| s.agent_key.as_slice()), secrets.map(|s| s.cloud_key.as_slice())]
}

/// Hex never needs quotes, so the secret fields can follow a line that the csv crate wrote: no key passes through
/// that crate's buffers, which nobody wipes.
fn push_secrets(line: &mut Vec<u8>, secrets: Option<&UnitSecrets>, delimiter: Delimiter) {
    for key in keys(secrets) {
        line.push(delimiter.as_char() as u8);
        push_hex(line, key.unwrap_or_default());
    }
}

fn push_hex(line: &mut Vec<u8>, key: &[u8]) {
    for byte in key {
        for nibble in [byte >> 4, byte & 0xF] {
            line.push(b"0123456789abcdef"[usize::from(nibble)]);
        }
    }
}

/// One CSV record without its line end.
fn csv_record<'a>(fields: impl Iterator<Item = &'a [u8]>, delimiter: Delimiter) -> Vec<u8> {
    let mut writer =
        csv::WriterBuilder::new().delimiter(delimiter.as_char() as u8).from_writer(Vec::with_capacity(1024));
    // Writing to memory can't fail, and every record has the same number of fields.
    let written = writer.write_record(fields);
    debug_assert!(written.is_ok());
    let mut line = writer.into_inner().unwrap_or_default();
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    line
}
