//! The first rows of an export as they will be, with everything secret hidden.

use super::formats::{self, Passed, Value};
use super::{ExportError, ExportSource, Format, ListRow, SECRET_COLUMNS, Selection};
use crate::records::ExportKey;

/// What stands where a secret will be.
pub const HIDDEN: &str = "\u{2022}\u{2022}\u{2022}\u{2022}";

/// One field of a row.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PreviewField {
    /// Its name.
    pub name: String,
    /// What stands in it, or [`HIDDEN`].
    pub value: String,
    /// Whether it is hidden.
    pub hidden: bool,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PreviewRow {
    /// Its unit; `None`: an attempt without one.
    pub serial: Option<String>,
    /// Its fields, in the order of the file.
    pub fields: Vec<PreviewField>,
}

/// What an export will hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Preview {
    /// Rows in the file.
    pub rows: u64,
    /// Units that passed: those whose keys the file gives away if it holds keys.
    pub passed: u64,
    /// The first rows.
    pub first: Vec<PreviewRow>,
}

/// The first `most` rows of `selection` in this form. Nothing is recorded: nothing leaves the station.
///
/// # Errors
/// Those of the records.
pub fn preview(
    source: &dyn ExportSource,
    selection: &Selection,
    format: Format,
    most: usize,
) -> Result<Preview, ExportError> {
    let keys = source.keys(selection)?;
    let has_passed = |key: &&ExportKey| matches!(key, ExportKey::Unit { passed: true, .. });
    let passed = keys.iter().filter(has_passed).count() as u64;
    if format.is_canonical() {
        let rows = source.rows(&keys[..most.min(keys.len())])?;
        let first = rows.iter().map(|row| PreviewRow {
            serial: row.unit_serial.clone(),
            fields: row.named_fields().chain(hidden_keys(row)).collect(),
        });
        return Ok(Preview { rows: keys.len() as u64, passed, first: first.collect() });
    }
    let some: Vec<ExportKey> = keys.iter().filter(has_passed).take(most).copied().collect();
    let some = source.rows(&some)?;
    let some: Vec<&ListRow> = some.iter().filter(|r| r.has_passed()).collect();
    let mut first = Vec::new();
    for (row, keys) in some.iter().zip(source.live_keys(&some)?) {
        let Some(unit) = row.mcu_uid else { continue };
        let fields = formats::fields(format, &Passed { row, unit, keys: &keys }).map_err(|why| {
            ExportError::Unwritable { unit: row.unit_serial.clone().unwrap_or_default(), format, why }
        })?;
        let fields = fields.iter().map(|field| {
            let hidden = matches!(field.value, Value::Secret(_));
            let value = if hidden { HIDDEN } else { field.value.as_str() }.to_owned();
            PreviewField { name: field.path.to_string(), value, hidden }
        });
        first.push(PreviewRow { serial: row.unit_serial.clone(), fields: fields.collect() });
    }
    Ok(Preview { rows: passed, passed, first })
}

/// The secret columns of the list with keys.
fn hidden_keys(row: &ListRow) -> impl Iterator<Item = PreviewField> {
    let (value, hidden) = if row.has_passed() { (HIDDEN, true) } else { ("", false) };
    SECRET_COLUMNS.into_iter().map(move |name| PreviewField {
        name: name.into(),
        value: value.into(),
        hidden,
    })
}
