//! The re-import check: a vendor's file is read back and every value is compared with what the records give.
//!
//! It runs twice: on the very bytes of an export while they are written, before anything is sealed, and on a file that
//! somebody brings. All or nothing: the first misfit refuses the file, with row and field.

use super::formats::{self, Context, Misfit, Passed, ReadField};
use super::read::open_file;
use super::{Delimiter, ExportError, ExportSource, Format, ListRow};
use crate::cloud::Identity;
use crate::model::UnitId;
use ed25519_dalek::VerifyingKey;
use std::collections::HashSet;
use std::io::BufRead;
use std::path::Path;
use zeroize::Zeroizing;

/// Rows that are compared with one look into the records.
const AT_ONCE: usize = 256;

/// A row on its way to the comparison.
type Waiting = (u64, UnitId, Vec<ReadField>);

/// Reads `source` and compares every row; the number of rows.
pub(super) fn compare_all(
    format: Format,
    source: &mut dyn BufRead,
    context: &Context<'_>,
    records: &dyn ExportSource,
    path: &Path,
) -> Result<u64, ExportError> {
    let (mut seen, mut ended) = (HashSet::new(), HashSet::new());
    let mut waiting: Vec<Waiting> = Vec::with_capacity(AT_ONCE);
    // The reader hands misfits back; a failure of the records waits here until it has.
    let mut failed = None;
    let mut compare = |waiting: &mut Vec<Waiting>| match compare_some(format, waiting, records) {
        Ok(result) => {
            waiting.clear();
            result
        }
        Err(error) => {
            failed = Some(error);
            Err(Misfit::new(0, "the records failed"))
        }
    };
    let mut rows = 0;
    let mut retired: Vec<(u64, Identity)> = Vec::new();
    let read = formats::read(format, source, context, &mut |row, fields| {
        if let Some(name) = formats::retired(format, &fields) {
            let refuse = |why: &str| Misfit::new(row, format!("{name:?} {why}"));
            let identity = name.parse::<Identity>().map_err(|()| refuse("is no identity of a unit"))?;
            if !ended.insert(identity) {
                return Err(refuse("is ended twice"));
            }
            retired.push((row, identity));
            return Ok(());
        }
        rows += 1;
        let unit = formats::unit_of(format, &fields)
            .ok_or_else(|| Misfit::new(row, "the row does not say which unit it is about"))?;
        if !seen.insert(unit) {
            return Err(Misfit::new(row, format!("unit {unit} stands in the file twice")));
        }
        waiting.push((row, unit, fields));
        if waiting.len() == AT_ONCE { compare(&mut waiting) } else { Ok(()) }
    })
    .and_then(|()| compare(&mut waiting));
    // What ends is compared last: there are few of them.
    let read = match read {
        Ok(()) if failed.is_none() => compare_ended(&retired, records)?,
        read => read,
    };
    match (failed, read) {
        (Some(error), _) => Err(error),
        (None, Err(m)) => {
            Err(ExportError::Misfit { path: path.to_owned(), row: m.row, column: m.column, why: m.why })
        }
        (None, Ok(())) => Ok(rows),
    }
}

/// Ends nothing but what newer keys took the place of.
fn compare_ended(
    retired: &[(u64, Identity)],
    records: &dyn ExportSource,
) -> Result<Result<(), Misfit>, ExportError> {
    for some in retired.chunks(AT_ONCE) {
        let units: Vec<UnitId> = some.iter().map(|(_, identity)| identity.unit).collect();
        let rows = records.rows_of(&units)?;
        let passed: Vec<&ListRow> = rows.iter().flatten().filter(|row| row.has_passed()).collect();
        if let Some(at) = rows.iter().position(|row| !row.as_ref().is_some_and(ListRow::has_passed)) {
            let (row, identity) = some[at];
            let why = format!("unit {} was never here, has not passed, or is set aside", identity.unit);
            return Ok(Err(Misfit::new(row, why)));
        }
        let keys = records.live_keys(&passed)?;
        for ((row, identity), keys) in some.iter().zip(keys) {
            if identity.generation >= keys.cloud_generation {
                return Ok(Err(Misfit::new(*row, format!("{identity} is not superseded"))));
            }
        }
    }
    Ok(Ok(()))
}

fn compare_some(
    format: Format,
    waiting: &[Waiting],
    records: &dyn ExportSource,
) -> Result<Result<(), Misfit>, ExportError> {
    let units: Vec<UnitId> = waiting.iter().map(|(_, unit, _)| *unit).collect();
    let mut rows = records.rows_of(&units)?;
    if format.has_time() {
        for (row, at) in rows.iter_mut().zip(records.provisioned(&units)?) {
            if let Some(row) = row {
                row.provisioned_at = at;
            }
        }
    }
    for ((row, unit, _), found) in waiting.iter().zip(&rows) {
        let why = match found {
            None => format!("unit {unit} was never here"),
            Some(found) if !found.has_passed() => format!("unit {unit} has not passed, or is set aside"),
            Some(_) => continue,
        };
        return Ok(Err(Misfit::new(*row, why)));
    }
    let rows: Vec<&ListRow> = rows.iter().flatten().collect();
    let keys = records.live_keys(&rows)?;
    for (((at, unit, fields), row), keys) in waiting.iter().zip(rows).zip(&keys) {
        let expected = formats::fields(format, &Passed { row, unit: *unit, keys });
        let result = expected
            .map_err(|why| Misfit::new(*at, why))
            .and_then(|expected| formats::compare(format, *at, fields, expected));
        if result.is_err() {
            return Ok(result);
        }
    }
    Ok(Ok(()))
}

/// Checks a vendor's file that somebody brings against the records: `identities` open it if it is sealed with age, `password`
/// opens the keys of a PSKC container, `key` is the signer of a manifest. Returns the number of rows.
///
/// # Errors
/// `Misfit` with row and field; `Decrypt`; `Io`; those of the records.
pub fn check_vendor_file(
    path: &Path,
    format: Format,
    key: &VerifyingKey,
    identities: &[Box<dyn age::Identity + Send + Sync>],
    password: Option<Zeroizing<String>>,
    records: &dyn ExportSource,
) -> Result<u64, ExportError> {
    let bytes = open_file(path, identities)?;
    let context =
        Context { signer: None, verifier: Some(*key), pskc: None, password, delimiter: Delimiter::Comma };
    compare_all(format, &mut &bytes[..], &context, records, path)
}
