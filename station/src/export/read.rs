//! Reading a list back: both forms, `,` and `;`, LF and CRLF, with or without a byte order mark, encrypted or not.
//!
//! All or nothing: one row that can't be read or whose signature does not fit refuses the whole list, with the line
//! and the column.

use super::row::{COLUMNS, SECRET_COLUMNS, SIGNATURE_COLUMN};
use super::{ExportError, ListRow, SCHEMA_VERSION, UnitSecrets, verify_file};
use ed25519_dalek::{Signature, VerifyingKey};
use serde::Deserialize;
use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Which of the two lists it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListKind {
    /// Without secrets.
    Units,
    /// With the keys of passed units.
    Keys,
}

/// One row of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRow {
    /// The canonical row.
    pub row: ListRow,
    /// Its keys, in a protected list and for a passed unit.
    pub secrets: Option<UnitSecrets>,
}

/// A list whose every row is readable and signed by the given key.
#[derive(Debug)]
pub struct Checked {
    /// Which list.
    pub kind: ListKind,
    /// Its rows, in the file's order.
    pub rows: Vec<ListedRow>,
    /// The detached signature was there and fits. Without it rows that are missing can't be noticed.
    pub whole_file_signed: bool,
}

/// Reads age identities (`AGE-SECRET-KEY-1…` lines).
pub fn read_identities(path: &Path) -> Result<Vec<Box<dyn age::Identity + Send + Sync>>, ExportError> {
    let refuse = |why: String| ExportError::Decrypt { path: path.to_owned(), why };
    let file = std::fs::File::open(path).map_err(|e| ExportError::io(path, e))?;
    age::IdentityFile::from_buffer(std::io::BufReader::new(file))
        .map_err(|e| refuse(format!("not an age identity file: {e}")))?
        .into_identities()
        .map_err(|e| refuse(e.to_string()))
}

/// Reads a list and checks every row's signature, and the detached signature: `signature` must fit if it is given;
/// otherwise `<path>.sig` must fit if it exists.
pub fn check_list(
    path: &Path,
    key: &VerifyingKey,
    identities: &[Box<dyn age::Identity + Send + Sync>],
    signature: Option<&Path>,
) -> Result<Checked, ExportError> {
    let beside = super::signature_path(path);
    let signature: Option<PathBuf> =
        signature.map(Path::to_owned).or_else(|| beside.exists().then_some(beside));
    if let Some(signature) = &signature {
        verify_file(path, signature, key)?;
    }
    let bytes = open_file(path, identities)?;
    let text = std::str::from_utf8(&bytes).map_err(|e| ExportError::BadRow {
        path: path.to_owned(),
        line: 1 + bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count() as u64,
        column: None,
        why: "this is not UTF-8 text".into(),
    })?;
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let reader = ListReader { path, key };
    let (kind, rows) =
        // A list of no rows is an empty file in the form without a header.
        if text.trim_start().starts_with('{') || text.trim().is_empty() {
            reader.json_lines(text)?
        } else {
            reader.csv(text)?
        };
    Ok(Checked { kind, rows, whole_file_signed: signature.is_some() })
}

/// A file's bytes, opened if it is sealed with age.
pub(super) fn open_file(
    path: &Path,
    identities: &[Box<dyn age::Identity + Send + Sync>],
) -> Result<Zeroizing<Vec<u8>>, ExportError> {
    let bytes = Zeroizing::new(std::fs::read(path).map_err(|e| ExportError::io(path, e))?);
    if bytes.starts_with(b"age-encryption.org/") {
        return Ok(Zeroizing::new(decrypt(path, &bytes, identities)?));
    }
    Ok(bytes)
}

fn decrypt(
    path: &Path,
    bytes: &[u8],
    identities: &[Box<dyn age::Identity + Send + Sync>],
) -> Result<Vec<u8>, ExportError> {
    let refuse = |why: String| ExportError::Decrypt { path: path.to_owned(), why };
    if identities.is_empty() {
        return Err(refuse("it is encrypted; name the file with the recipient's secret key".into()));
    }
    let mut clear = Vec::with_capacity(bytes.len());
    age::Decryptor::new_buffered(bytes)
        .and_then(|d| d.decrypt(identities.iter().map(|i| &**i as &dyn age::Identity)))
        .map_err(|e| refuse(e.to_string()))?
        .read_to_end(&mut clear)
        .map_err(|e| refuse(e.to_string()))?;
    Ok(clear)
}

/// A protected row as JSON has it; both keys are there, `null` for a unit that did not pass.
#[derive(Deserialize)]
struct Secret {
    #[serde(default, deserialize_with = "present")]
    agent_key: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    cloud_key: Option<Option<String>>,
}

/// Tells `null` (Some(None)) from a missing field (None).
fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(d).map(Some)
}

/// Lines counted by ourselves: the csv crate ends a record at the CR and counts its LF to the next one.
struct Place<'a> {
    text: &'a [u8],
    byte: usize,
    line: u64,
}

impl Place<'_> {
    /// The line of the record that begins at `byte`; only ever asked forward.
    fn line_at(&mut self, byte: u64) -> u64 {
        let mut byte = (byte as usize).min(self.text.len());
        while matches!(self.text.get(byte), Some(b'\r' | b'\n')) {
            byte += 1;
        }
        self.line += self.text[self.byte..byte].iter().filter(|b| **b == b'\n').count() as u64;
        self.byte = byte;
        self.line
    }
}

struct ListReader<'a> {
    path: &'a Path,
    key: &'a VerifyingKey,
}

impl ListReader<'_> {
    fn refuse(&self, line: u64, column: Option<&'static str>, why: impl ToString) -> ExportError {
        ExportError::BadRow { path: self.path.to_owned(), line, column, why: why.to_string() }
    }

    fn csv(&self, text: &str) -> Result<(ListKind, Vec<ListedRow>), ExportError> {
        let first = text.lines().next().unwrap_or_default();
        let delimiter = match first.strip_prefix(COLUMNS[0]).and_then(|rest| rest.bytes().next()) {
            Some(d @ (b',' | b';')) => d,
            _ => {
                return Err(self.refuse(
                    1,
                    None,
                    "a list begins with the header schema_version,batch,… or with a JSON object",
                ));
            }
        };
        let public: Vec<&str> = COLUMNS.into_iter().chain([SIGNATURE_COLUMN]).collect();
        let protected: Vec<&str> = public.iter().copied().chain(SECRET_COLUMNS).collect();
        let header: Vec<&str> = first.split(char::from(delimiter)).map(str::trim_end).collect();
        let kind = if header == public {
            ListKind::Units
        } else if header == protected {
            ListKind::Keys
        } else {
            let odd = header.iter().zip(&protected).find(|(found, expected)| found != expected).map_or_else(
                || {
                    format!(
                        "expected {} or {} columns, found {}",
                        public.len(),
                        protected.len(),
                        header.len()
                    )
                },
                |(found, expected)| format!("expected the column {expected}, found {found:?}"),
            );
            return Err(self.refuse(1, None, odd));
        };
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
        reader.headers().map_err(|e| self.refuse(1, None, e))?;
        let mut rows = Rows::new(self, kind);
        let mut record = csv::StringRecord::new();
        let mut place = Place { text: text.as_bytes(), byte: 0, line: 1 };
        loop {
            let line = place.line_at(reader.position().byte());
            match reader.read_record(&mut record) {
                Ok(false) => break,
                Ok(true) => {}
                Err(e) => {
                    let why = match e.kind() {
                        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                            format!("expected {expected_len} fields, found {len}")
                        }
                        _ => e.to_string(),
                    };
                    return Err(self.refuse(line, None, why));
                }
            }
            let mut fields = [""; 28];
            for (to, from) in fields.iter_mut().zip(&record) {
                *to = from;
            }
            let row =
                ListRow::from_fields(fields).map_err(|(column, why)| self.refuse(line, Some(column), why))?;
            let secrets = match kind {
                ListKind::Units => None,
                ListKind::Keys => self.secrets(line, record.get(28), record.get(29))?,
            };
            rows.push(line, row, secrets)?;
        }
        Ok((kind, rows.rows))
    }

    fn json_lines(&self, text: &str) -> Result<(ListKind, Vec<ListedRow>), ExportError> {
        let mut rows: Option<Rows<'_>> = None;
        for (line, text) in (1..).zip(text.lines()) {
            if text.trim().is_empty() {
                continue;
            }
            let mut object: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(text).map_err(|e| self.refuse(line, None, e))?;
            let secret =
                serde_json::Map::from_iter(SECRET_COLUMNS.iter().filter_map(|c| object.remove_entry(*c)));
            let secret: Secret = serde_json::from_value(serde_json::Value::Object(secret))
                .map_err(|_| self.refuse(line, Some(SECRET_COLUMNS[0]), "a key is hex digits or null"))?;
            let kind = match (&secret.agent_key, &secret.cloud_key) {
                (None, None) => ListKind::Units,
                (Some(_), Some(_)) => ListKind::Keys,
                _ => return Err(self.refuse(line, None, "one of agent_key and cloud_key is missing")),
            };
            let row: ListRow = serde_json::from_value(serde_json::Value::Object(object))
                .map_err(|e| self.refuse(line, None, e))?;
            let [agent, cloud] =
                [secret.agent_key, secret.cloud_key].map(|k| Zeroizing::new(k.flatten().unwrap_or_default()));
            let secrets = self.secrets(line, Some(&agent), Some(&cloud))?;
            let rows = rows.get_or_insert_with(|| Rows::new(self, kind));
            if rows.kind != kind {
                return Err(self.refuse(line, None, "some rows have key columns and some have none"));
            }
            rows.push(line, row, secrets)?;
        }
        Ok(rows.map_or((ListKind::Units, Vec::new()), |r| (r.kind, r.rows)))
    }

    fn secrets(
        &self,
        line: u64,
        agent: Option<&str>,
        cloud: Option<&str>,
    ) -> Result<Option<UnitSecrets>, ExportError> {
        let key = |column: usize, text: Option<&str>| match text.unwrap_or_default() {
            "" => Ok(None),
            // The text is not repeated: it is a key, if a damaged one.
            text => hex::decode(text)
                .map(|k| Some(Zeroizing::new(k)))
                .map_err(|_| self.refuse(line, Some(SECRET_COLUMNS[column]), "a key is hex digits")),
        };
        match (key(0, agent)?, key(1, cloud)?) {
            (None, None) => Ok(None),
            (Some(agent_key), Some(cloud_key)) => Ok(Some(UnitSecrets { agent_key, cloud_key })),
            _ => Err(self.refuse(line, None, "one of agent_key and cloud_key is missing")),
        }
    }
}

struct Rows<'a> {
    reader: &'a ListReader<'a>,
    kind: ListKind,
    rows: Vec<ListedRow>,
    seen: HashSet<crate::model::UnitId>,
}

impl<'a> Rows<'a> {
    fn new(reader: &'a ListReader<'a>, kind: ListKind) -> Self {
        Self { reader, kind, rows: Vec::new(), seen: HashSet::new() }
    }

    fn push(&mut self, line: u64, row: ListRow, secrets: Option<UnitSecrets>) -> Result<(), ExportError> {
        let refuse = |column, why: String| Err(self.reader.refuse(line, Some(column), why));
        if row.schema_version != SCHEMA_VERSION {
            return refuse(
                "schema_version",
                format!("this program reads version {SCHEMA_VERSION}, the row has {}", row.schema_version),
            );
        }
        let mut signature = [0; 64];
        if hex::decode_to_slice(&row.record_signature, &mut signature).is_err() {
            return refuse(SIGNATURE_COLUMN, "a signature is 128 hex digits".into());
        }
        let bytes = row.signed_bytes((self.kind == ListKind::Keys).then_some(secrets.as_ref()));
        if self.reader.key.verify_strict(&bytes, &Signature::from_bytes(&signature)).is_err() {
            return refuse(SIGNATURE_COLUMN, "the row was altered, or another key signed it".into());
        }
        if let Some(unit) = row.mcu_uid
            && !self.seen.insert(unit)
        {
            return refuse("mcu_uid", format!("unit {unit} stands in this list twice"));
        }
        if let Some(first) = self.rows.first()
            && first.row.exported_in != row.exported_in
        {
            return refuse(
                "exported_in",
                format!("the list is of export {}, this row of {}", first.row.exported_in, row.exported_in),
            );
        }
        self.rows.push(ListedRow { row, secrets });
        Ok(())
    }
}
