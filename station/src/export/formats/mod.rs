//! The forms in which others read our units: one file per format.
//!
//! A format says what it makes of a passed unit as a list of named [`Field`]s; everything else follows from that list and is
//! here once: the written text, the preview with its secrets hidden, and the re-import check, which reads a file back to the
//! same names and compares every value with what the records give now.
//!
//! Invariants:
//! - Rows are units that passed, in the order of the records; a unit without live keys is never a row.
//! - The same unit gives the same fields every time: nothing is drawn at random but PSKC's key transport, which is per file.
//! - A field that would let somebody log in as a unit is [`Value::Secret`], whatever its name.

mod aws;
mod azure_dps;
mod azure_hub;
mod dynsec;
mod emqx;
mod json;
mod jws;
mod pskc;
mod thingsboard;

pub use aws::TEMPLATE as AWS_TEMPLATE;
pub(super) use pskc::Cipher as PskcCipher;

use super::{Delimiter, ExportSigner, ListRow, LiveKeys};
use crate::cloud::{Credential, Identity};
use crate::model::UnitId;
use ed25519_dalek::VerifyingKey;
use keywright_protocol::{CloudKey, crypto};
use std::borrow::Cow;
use std::io::BufRead;
use zeroize::Zeroizing;

/// The form of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(not(doc), derive(clap::ValueEnum))]
pub enum Format {
    /// The canonical row as RFC 4180 CSV: UTF-8, CRLF, header line.
    Csv,
    /// The canonical row, one JSON object per line.
    Jsonl,
    /// AWS IoT bulk registration, one JSON object per line; its template is written beside it.
    Aws,
    /// Azure IoT Hub `devices.txt`, one JSON object per line.
    AzureHub,
    /// Azure Device Provisioning Service, one bulk call of at most ten enrollments per line.
    AzureDps,
    /// ThingsBoard bulk provisioning CSV.
    Thingsboard,
    /// Mosquitto dynamic security, one message of commands.
    Dynsec,
    /// EMQX users as CSV.
    Emqx,
    /// EMQX users as a JSON array.
    EmqxJson,
    /// PSKC key container, RFC 6030.
    Pskc,
    /// Signed manifest: a JSON array of flattened JWS, one per unit.
    Jws,
}

impl Format {
    /// Every format, in the order of the wizard.
    pub const ALL: [Self; 11] = [
        Self::Csv,
        Self::Jsonl,
        Self::Aws,
        Self::AzureHub,
        Self::AzureDps,
        Self::Thingsboard,
        Self::Dynsec,
        Self::Emqx,
        Self::EmqxJson,
        Self::Pskc,
        Self::Jws,
    ];

    /// The word on the command line, in the records and in file names.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Aws => "aws",
            Self::AzureHub => "azure-hub",
            Self::AzureDps => "azure-dps",
            Self::Thingsboard => "thingsboard",
            Self::Dynsec => "dynsec",
            Self::Emqx => "emqx",
            Self::EmqxJson => "emqx-json",
            Self::Pskc => "pskc",
            Self::Jws => "jws",
        }
    }

    /// The file name's extension.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Csv | Self::Thingsboard | Self::Emqx => "csv",
            Self::Jsonl | Self::Aws | Self::AzureDps => "jsonl",
            // The name of the field guide's own import job.
            Self::AzureHub => "txt",
            Self::Dynsec | Self::EmqxJson | Self::Jws => "json",
            Self::Pskc => "xml",
        }
    }

    /// Whether it is one of our own two forms, which have a list without keys and a list with them.
    pub const fn is_canonical(self) -> bool {
        matches!(self, Self::Csv | Self::Jsonl)
    }

    /// Whether whoever has the file can log in as a unit (for the canonical forms: the list with keys).
    pub const fn holds_secrets(self) -> bool {
        self.gives_agent_key() || self.gives_cloud_key()
    }

    /// How a login that newer keys took the place of ends where the file is imported.
    pub(super) const fn retires(self) -> Retires {
        match self {
            Self::AzureHub | Self::Dynsec => Retires::InFile,
            Self::Thingsboard => Retires::ByItself,
            Self::Aws | Self::AzureDps | Self::Emqx | Self::EmqxJson | Self::Pskc | Self::Jws => {
                Retires::Beside
            }
            Self::Csv | Self::Jsonl => Retires::Never,
        }
    }

    /// Whether it says when a unit got its keys.
    pub(super) const fn has_time(self) -> bool {
        matches!(self, Self::Jws)
    }

    /// Whether the agent key itself is in it.
    pub const fn gives_agent_key(self) -> bool {
        matches!(self, Self::Csv | Self::Jsonl | Self::Pskc)
    }

    /// Whether the cloud key, or a login derived from it, is in it. The hash of a password is not: it carries 256 random bits.
    pub const fn gives_cloud_key(self) -> bool {
        matches!(
            self,
            Self::Csv
                | Self::Jsonl
                | Self::AzureHub
                | Self::AzureDps
                | Self::Thingsboard
                | Self::Dynsec
                | Self::Pskc
        )
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

impl std::str::FromStr for Format {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        // The records put what a list was sealed with behind its form.
        let word = s.trim_end_matches(".age").trim_end_matches(".gpg");
        Self::ALL.into_iter().find(|f| f.word() == word).ok_or_else(|| {
            let words: Vec<_> = Self::ALL.iter().map(|f| f.word()).collect();
            format!("no format {s:?}; there are {}", words.join(", "))
        })
    }
}

/// How the login that a unit had before ends at the vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retires {
    /// The file says so.
    InFile,
    /// The import replaces the device's login: it finds the device by its serial.
    ByItself,
    /// Importing only adds: a list beside the file names what is to be ended.
    Beside,
    /// Nothing is imported; the rows say what they supersede.
    Never,
}

/// The line or command that ends a login, with what stands between it and the next row.
pub(super) fn retire(format: Format, identity: Identity) -> Vec<u8> {
    match format {
        Format::AzureHub => azure_hub::retire(identity),
        Format::Dynsec => dynsec::retire(identity),
        _ => String::new(),
    }
    .into_bytes()
}

/// What a row that was read ends; `None`: it is a unit's row.
pub(super) fn retired(format: Format, fields: &[ReadField]) -> Option<&str> {
    match format {
        Format::AzureHub => azure_hub::retired(fields),
        Format::Dynsec => dynsec::retired(fields),
        _ => None,
    }
}

/// What this form calls an identity.
pub(super) fn name_in(format: Format, identity: Identity) -> String {
    match format {
        Format::Aws => aws::name(identity),
        _ => identity.to_string(),
    }
}

/// What stands in a field.
pub(super) enum Value {
    /// Text that anybody may see.
    Text(String),
    /// Text that lets somebody log in.
    Secret(Zeroizing<String>),
    /// A number or a truth value, without quotes in JSON.
    Bare(String),
}

impl Value {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Text(text) | Self::Bare(text) => text,
            Self::Secret(text) => text,
        }
    }
}

/// One field of a row: its name (in JSON with a dot for every level) and its value.
pub(super) struct Field {
    pub path: Cow<'static, str>,
    pub value: Value,
}

impl Field {
    pub fn text(path: &'static str, value: impl Into<String>) -> Self {
        Self { path: path.into(), value: Value::Text(value.into()) }
    }

    pub fn secret(path: &'static str, value: impl Into<String>) -> Self {
        Self { path: path.into(), value: Value::Secret(Zeroizing::new(value.into())) }
    }

    pub fn bare(path: &'static str, value: impl ToString) -> Self {
        Self { path: path.into(), value: Value::Bare(value.to_string()) }
    }
}

/// A field as it was read.
pub(super) struct ReadField {
    pub path: String,
    pub value: Zeroizing<String>,
    /// A number or a truth value of JSON.
    pub bare: bool,
}

/// What is wrong with a file: the row (from 1; 0 = before the first), the field, and why.
pub(super) struct Misfit {
    pub row: u64,
    pub column: Option<String>,
    pub why: String,
}

impl Misfit {
    pub fn new(row: u64, why: impl ToString) -> Self {
        Self { row, column: None, why: why.to_string() }
    }
}

/// What readers hand each row to.
pub(super) type Each<'a> = dyn FnMut(u64, Vec<ReadField>) -> Result<(), Misfit> + 'a;

/// A unit that passed, with its live keys.
pub(super) struct Passed<'a> {
    pub row: &'a ListRow,
    pub unit: UnitId,
    pub keys: &'a LiveKeys,
}

impl Passed<'_> {
    /// User name and client id at a broker.
    pub fn identity(&self) -> Identity {
        Identity { unit: self.unit, generation: self.keys.cloud_generation }
    }

    fn cloud_key(&self) -> Result<CloudKey, String> {
        CloudKey::new(&self.keys.secrets.cloud_key)
            .map_err(|e| format!("the cloud key of unit {} can't be used: {e:?}", self.unit))
    }

    /// What the unit logs in with.
    pub fn credential(&self) -> Result<Credential, String> {
        Ok(Credential::of(&self.cloud_key()?))
    }

    /// Further 32 bytes of the unit, for a purpose of their own.
    pub fn derived(&self, info: &[u8]) -> Result<Zeroizing<[u8; 32]>, String> {
        Ok(Zeroizing::new(crypto::derive(b"keywright/export/v1", self.cloud_key()?.expose(), &[info])))
    }

    /// The two keys of Azure, base64: the first is what the unit's password is the hex of, the second a spare of its own.
    pub fn azure_keys(&self) -> Result<[Zeroizing<String>; 2], String> {
        let mut first = Zeroizing::new([0; 32]);
        hex::decode_to_slice(self.credential()?.expose(), &mut *first).map_err(|e| e.to_string())?;
        let second = self.derived(b"azure secondary key")?;
        Ok([base64(&*first), base64(&*second)])
    }

    /// The serial, which every unit has.
    pub fn serial(&self) -> String {
        self.row.unit_serial.clone().unwrap_or_else(|| self.unit.to_string())
    }
}

/// Standard base64 of a secret.
pub(super) fn base64(bytes: &[u8]) -> Zeroizing<String> {
    use ::base64::Engine;
    Zeroizing::new(::base64::engine::general_purpose::STANDARD.encode(bytes))
}

pub(super) fn from_base64(text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    use ::base64::Engine;
    let bare: Zeroizing<String> = Zeroizing::new(text.chars().filter(|c| !c.is_ascii_whitespace()).collect());
    ::base64::engine::general_purpose::STANDARD
        .decode(bare.as_bytes())
        .map(Zeroizing::new)
        .map_err(|_| "this is not base64".into())
}

/// What a format needs beside the units.
pub(super) struct Context<'a> {
    /// Signs manifests; reading does without.
    pub signer: Option<&'a ExportSigner>,
    /// Checks manifests.
    pub verifier: Option<VerifyingKey>,
    /// Key transport of PSKC; `None`: in clear, because the whole file is sealed (or was asked for in clear).
    pub pskc: Option<PskcCipher>,
    /// Opens a PSKC file that is read.
    pub password: Option<Zeroizing<String>>,
    /// Between the fields of CSV forms that may have another than `,`.
    pub delimiter: Delimiter,
}

/// The fields of a row.
pub(super) fn fields(format: Format, unit: &Passed<'_>) -> Result<Vec<Field>, String> {
    match format {
        Format::Csv | Format::Jsonl => Err("the canonical row has no vendor fields".into()),
        Format::Aws => aws::fields(unit),
        Format::AzureHub => azure_hub::fields(unit),
        Format::AzureDps => azure_dps::fields(unit),
        Format::Thingsboard => thingsboard::fields(unit),
        Format::Dynsec => dynsec::fields(unit),
        Format::Emqx | Format::EmqxJson => emqx::fields(unit),
        Format::Pskc => pskc::fields(unit),
        Format::Jws => Ok(jws::fields(unit)),
    }
}

/// What stands before the first row of `rows`.
pub(super) fn head(format: Format, context: &Context<'_>, rows: u64) -> String {
    match format {
        Format::Csv | Format::Jsonl | Format::Aws | Format::AzureHub => String::new(),
        Format::AzureDps => if rows == 0 { "" } else { azure_dps::BEGIN }.into(),
        Format::Thingsboard => csv_header(&thingsboard::COLUMNS, context.delimiter),
        Format::Emqx => csv_header(&emqx::COLUMNS, Delimiter::Comma),
        Format::Dynsec => "{\"commands\":[\n".into(),
        Format::EmqxJson | Format::Jws => "[\n".into(),
        Format::Pskc => pskc::head(context.pskc.as_ref()),
    }
}

/// What stands between row `next - 1` and row `next` (from 0).
pub(super) fn between(format: Format, next: u64) -> &'static str {
    match format {
        Format::Csv | Format::Jsonl | Format::Thingsboard | Format::Emqx | Format::Pskc => "",
        Format::Aws | Format::AzureHub => "",
        Format::AzureDps if next.is_multiple_of(azure_dps::PER_CALL) => azure_dps::NEXT,
        Format::AzureDps => ",",
        Format::Dynsec | Format::EmqxJson | Format::Jws => ",\n",
    }
}

/// What stands behind the last row of `rows`.
pub(super) fn tail(format: Format, rows: u64) -> &'static str {
    match format {
        Format::Csv | Format::Jsonl | Format::Thingsboard | Format::Emqx => "",
        Format::Aws | Format::AzureHub => "",
        Format::AzureDps => {
            if rows == 0 {
                ""
            } else {
                azure_dps::END
            }
        }
        Format::Dynsec => "\n]}\n",
        Format::EmqxJson | Format::Jws => "\n]\n",
        Format::Pskc => pskc::TAIL,
    }
}

/// The text of a row.
pub(super) fn row(
    format: Format,
    fields: &[Field],
    context: &Context<'_>,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut out = Zeroizing::new(Vec::with_capacity(capacity(fields)));
    match format {
        Format::Csv | Format::Jsonl => return Err("the canonical row is written elsewhere".into()),
        Format::Aws | Format::AzureHub => {
            json::object(&mut out, fields, 0);
            out.push(b'\n');
        }
        Format::AzureDps | Format::EmqxJson => json::object(&mut out, fields, 0),
        Format::Dynsec => dynsec::row(&mut out, fields),
        Format::Thingsboard => csv_line(&mut out, fields, context.delimiter),
        Format::Emqx => csv_line(&mut out, fields, Delimiter::Comma),
        Format::Pskc => return pskc::row(fields, context.pskc.as_ref()),
        Format::Jws => return jws::row(fields, context.signer.ok_or("a manifest needs the signing key")?),
    }
    Ok(out)
}

/// Room for a row in any of the forms, so that the buffer never moves and leaves a copy of a key behind.
fn capacity(fields: &[Field]) -> usize {
    256 + fields.iter().map(|f| 2 * (f.path.len() + f.value.as_str().len()) + 8).sum::<usize>()
}

/// Reads a file row by row.
pub(super) fn read(
    format: Format,
    source: &mut dyn BufRead,
    context: &Context<'_>,
    each: &mut Each<'_>,
) -> Result<(), Misfit> {
    match format {
        Format::Csv | Format::Jsonl => Err(Misfit::new(0, "canonical lists are read by their own reader")),
        Format::Aws | Format::AzureHub => {
            json::lines(source, &mut |row, value| each(row, json::flatten(value)))
        }
        Format::AzureDps => azure_dps::read(source, each),
        Format::Thingsboard => read_csv(source, &thingsboard::COLUMNS, each),
        Format::Emqx => read_csv(source, &emqx::COLUMNS, each),
        Format::Dynsec => dynsec::read(source, each),
        Format::EmqxJson => json::array(source, None, &mut |row, value| each(row, json::flatten(value))),
        Format::Pskc => pskc::read(source, context.password.as_deref().map(String::as_str), each),
        Format::Jws => jws::read(source, context.verifier.as_ref(), each),
    }
}

/// Which unit a row that was read is about.
pub(super) fn unit_of(format: Format, fields: &[ReadField]) -> Option<UnitId> {
    let column = match format {
        Format::Csv | Format::Jsonl => return None,
        Format::Aws => "ThingName",
        Format::AzureHub => "id",
        Format::AzureDps => "registrationId",
        Format::Thingsboard => "MQTT_CLIENT_ID",
        Format::Dynsec => "1.username",
        Format::Emqx | Format::EmqxJson => "user_id",
        Format::Pskc => "agent.DeviceBinding",
        Format::Jws => "uniqueId",
    };
    let name = fields.iter().find(|f| f.path == column)?.value.as_str();
    name.split(['.', ':']).next()?.parse().ok()
}

/// Compares what was read with what the records give; the error names the field.
pub(super) fn compare(
    format: Format,
    row: u64,
    read: &[ReadField],
    mut expected: Vec<Field>,
) -> Result<(), Misfit> {
    let typed = !matches!(format, Format::Thingsboard | Format::Emqx | Format::Pskc);
    let misfit = |column: &str, why: &str| Misfit { row, column: Some(column.to_owned()), why: why.into() };
    for found in read {
        let at = expected.iter().position(|f| f.path == found.path);
        let Some(at) = at else {
            return Err(misfit(&found.path, "the format has no such field, or the row has it twice"));
        };
        let field = expected.swap_remove(at);
        let bare = matches!(field.value, Value::Bare(_));
        // Nothing of a secret is repeated, and public values are compared in the same way.
        if !crypto::tags_equal(found.value.as_bytes(), field.value.as_str().as_bytes())
            || (typed && bare != found.bare)
        {
            return Err(match field.value {
                Value::Secret(_) => misfit(&found.path, "this is not the unit's key"),
                value => misfit(
                    &found.path,
                    &format!(
                        "the records have {:?}, the file has {:?}",
                        value.as_str(),
                        found.value.as_str()
                    ),
                ),
            });
        }
    }
    match expected.first() {
        Some(missing) => Err(misfit(&missing.path, "it is missing")),
        None => Ok(()),
    }
}

fn csv_header(columns: &[&str], delimiter: Delimiter) -> String {
    columns.join(delimiter.as_char().encode_utf8(&mut [0; 4])) + "\r\n"
}

/// RFC 4180, quotes only where they are needed. By hand: no key passes through a library's buffers, which nobody wipes.
fn csv_line(out: &mut Vec<u8>, fields: &[Field], delimiter: Delimiter) {
    for (i, field) in fields.iter().enumerate() {
        if i > 0 {
            out.push(delimiter.as_char() as u8);
        }
        let text = field.value.as_str();
        if text.contains(['"', '\r', '\n', delimiter.as_char()]) {
            out.push(b'"');
            for byte in text.bytes() {
                if byte == b'"' {
                    out.push(b'"');
                }
                out.push(byte);
            }
            out.push(b'"');
        } else {
            out.extend_from_slice(text.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// CSV with exactly these columns, `,` or `;`, LF or CRLF, with or without a byte order mark.
fn read_csv(source: &mut dyn BufRead, columns: &[&'static str], each: &mut Each<'_>) -> Result<(), Misfit> {
    let mut header = Vec::new();
    source.read_until(b'\n', &mut header).map_err(|e| Misfit::new(0, e))?;
    let header = String::from_utf8_lossy(&header);
    let header = header.trim_start_matches('\u{FEFF}').trim_end();
    let Some(delimiter) =
        [b',', b';'].into_iter().find(|d| header.split(char::from(*d)).eq(columns.iter().copied()))
    else {
        return Err(Misfit::new(0, format!("the header is not {}", columns.join(","))));
    };
    let mut reader = csv::ReaderBuilder::new().has_headers(false).delimiter(delimiter).from_reader(source);
    let mut record = csv::StringRecord::new();
    for row in 1.. {
        if !reader.read_record(&mut record).map_err(|e| Misfit::new(row, e))? {
            break;
        }
        if record.len() != columns.len() {
            return Err(Misfit::new(
                row,
                format!("expected {} fields, found {}", columns.len(), record.len()),
            ));
        }
        let fields = columns.iter().zip(&record).map(|(column, value)| ReadField {
            path: (*column).to_owned(),
            value: Zeroizing::new(value.to_owned()),
            bare: false,
        });
        each(row, fields.collect())?;
    }
    Ok(())
}
