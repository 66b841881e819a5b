//! Everything that can be said of a file that somebody brings: its signature, its receipt, and every one of its rows.

use super::{
    Checked, ExportError, ExportSource, Format, ListKind, Receipt, check_list, check_vendor_file,
    parse_public_pem, read_identities, receipt_path, signature_path, verify_file, verify_receipt,
};
use crate::failure::Failure;
use crate::secrets::Passphrase;
use std::path::{Path, PathBuf};

/// Which file, and what opens it.
#[derive(Clone, Debug, Default)]
pub struct Inspect {
    /// The file.
    pub file: PathBuf,
    /// The signer's public key; empty: `export.pub.pem` beside the file.
    pub key: PathBuf,
    /// Its form; `None`: the one that its receipt names.
    pub format: Option<Format>,
    /// A file with the age identity that opens it; empty: it is not sealed.
    pub identity: PathBuf,
    /// Opens the keys of a PSKC container.
    pub password: Option<Passphrase>,
}

/// What one look came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<T> {
    /// It fits.
    Fits(T),
    /// There is nothing to look at.
    Absent,
    /// It does not fit, or can't be read; the place of the first difference is in the words.
    Refused(Failure),
}

impl<T> Verdict<T> {
    fn of(result: Result<T, ExportError>) -> Self {
        match result {
            Ok(found) => Self::Fits(found),
            Err(error) => Self::Refused(error.failure()),
        }
    }
}

/// What the rows of a file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// How many there are.
    pub rows: u64,
    /// Rows with keys; those of a vendor's form all have what the form holds.
    pub with_keys: u64,
    /// Every value was compared with the records of this station; otherwise every row's own signature was checked.
    pub with_records: bool,
}

/// What was found of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The file.
    pub file: PathBuf,
    /// Its detached signature, over every byte: nothing is missing.
    pub signature: Verdict<()>,
    /// Its receipt.
    pub receipt: Verdict<Box<Receipt>>,
    /// Its rows; absent: neither a receipt nor a person says which form it has.
    pub rows: Verdict<Rows>,
}

impl Inspection {
    /// Nothing that was there was refused, and something was there.
    pub fn fits(&self) -> bool {
        let refused = matches!(self.signature, Verdict::Refused(_))
            || matches!(self.receipt, Verdict::Refused(_))
            || matches!(self.rows, Verdict::Refused(_));
        let absent = matches!(
            (&self.signature, &self.receipt, &self.rows),
            (Verdict::Absent, Verdict::Absent, Verdict::Absent)
        );
        !refused && !absent
    }
}

/// Looks at a file. Reads everything, changes nothing.
///
/// # Errors
/// The file or the public key can't be read.
pub fn inspect(order: &Inspect, records: &dyn ExportSource) -> Result<Inspection, ExportError> {
    let file = &order.file;
    std::fs::metadata(file).map_err(|e| ExportError::io(file, e))?;
    let beside = file.parent().unwrap_or(Path::new("")).join(super::PUBLIC_KEY);
    let key = parse_public_pem(if order.key.as_os_str().is_empty() { &beside } else { &order.key })?;
    let signature = match signature_path(file) {
        path if path.exists() => Verdict::of(verify_file(file, &path, &key)),
        _ => Verdict::Absent,
    };
    let receipt = match receipt_path(file) {
        path if path.exists() => Verdict::of(verify_receipt(file, &path, &key).map(Box::new)),
        _ => Verdict::Absent,
    };
    let named = match &receipt {
        Verdict::Fits(receipt) => receipt.format.parse().ok(),
        _ => None,
    };
    let rows = match order.format.or(named) {
        None => Verdict::Absent,
        Some(format) => Verdict::of(rows(order, format, &key, records)),
    };
    Ok(Inspection { file: file.clone(), signature, receipt, rows })
}

fn rows(
    order: &Inspect,
    format: Format,
    key: &ed25519_dalek::VerifyingKey,
    records: &dyn ExportSource,
) -> Result<Rows, ExportError> {
    let identities = match order.identity.as_os_str().is_empty() {
        true => Vec::new(),
        false => read_identities(&order.identity)?,
    };
    if format.is_canonical() {
        let Checked { kind, rows, .. } = check_list(&order.file, key, &identities, None)?;
        let with_keys = rows.iter().filter(|r| r.secrets.is_some()).count() as u64;
        let with_keys = if kind == ListKind::Keys { with_keys } else { 0 };
        return Ok(Rows { rows: rows.len() as u64, with_keys, with_records: false });
    }
    let password = order.password.clone().map(Passphrase::into_text);
    let rows = check_vendor_file(&order.file, format, key, &identities, password, records)?;
    Ok(Rows { rows, with_keys: if format.holds_secrets() { rows } else { 0 }, with_records: true })
}
