//! Receipts: what was handed out, in what, to whom, signed by the station.

use super::{ExportError, ExportSigner, Stamp};
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// The version of [`Receipt`] that this program writes and reads.
pub(super) const VERSION: u32 = 1;
/// What is signed begins with it.
const DOMAIN: &[u8] = b"keywright receipt 1\n";

/// One file that was handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// 1.
    pub receipt_version: u32,
    /// The export's number in the station's log.
    pub export: i64,
    /// Station that made it.
    pub station: String,
    /// Format word.
    pub format: String,
    /// File name.
    pub file: String,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// Rows in it.
    pub rows: u64,
    /// Which units, in words.
    pub selection: String,
    /// Serial of the first unit in it.
    pub first_unit: Option<String>,
    /// Serial of the last unit in it.
    pub last_unit: Option<String>,
    /// Units whose keys it gives away.
    pub keys_of: u64,
    /// `none`, `plain`, `age`, `openpgp` or `password`.
    pub protection: String,
    /// Fingerprints of the recipients' keys.
    pub recipients: Vec<String>,
    /// Who receives it.
    pub handed_to: Option<String>,
    /// Who exported.
    pub operator: String,
    /// Who stood by.
    pub second_person: Option<String>,
    /// Why in clear.
    pub reason: Option<String>,
    /// The export that it repeats.
    pub replaces: Option<i64>,
    /// When.
    pub at: Stamp,
    /// SHA-256 of the signer's public key, hex.
    pub signer: String,
    /// Logins of earlier lists that end with this one; absent: there are none, or the form does not need to say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded: Option<Superseded>,
}

/// Logins that earlier lists made known and newer keys took the place of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Superseded {
    /// How many.
    pub identities: u64,
    /// The list beside the file that names them, for the vendor to end them; `None`: the file itself ends them.
    pub file: Option<String>,
    /// SHA-256 of that list, hex.
    pub sha256: Option<String>,
}

#[derive(Serialize)]
struct Signed<'a> {
    #[serde(flatten)]
    receipt: &'a Receipt,
    signature: String,
}

impl Receipt {
    fn signed_bytes(&self) -> Vec<u8> {
        [DOMAIN, &serde_json::to_vec(self).unwrap_or_default()].concat()
    }

    /// The receipt's file: one JSON object, its last field the signature.
    pub(super) fn to_file(&self, signer: &ExportSigner) -> Vec<u8> {
        let signed = Signed { receipt: self, signature: hex::encode(signer.sign(&self.signed_bytes())) };
        let mut text = serde_json::to_vec_pretty(&signed).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

/// Name of the receipt that lies beside a file.
pub fn receipt_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".receipt.json");
    PathBuf::from(name)
}

/// Reads a receipt and checks its signature.
///
/// # Errors
/// `Io`, or `BadReceipt` with the reason.
pub fn read_receipt(path: &Path, key: &VerifyingKey) -> Result<Receipt, ExportError> {
    let refuse = |why: &str| ExportError::BadReceipt { path: path.to_owned(), why: why.into() };
    let bytes = std::fs::read(path).map_err(|e| ExportError::io(path, e))?;
    let mut object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&bytes).map_err(|e| refuse(&format!("it is no receipt: {e}")))?;
    let signature = object.remove("signature").unwrap_or_default();
    let mut raw = [0; 64];
    hex::decode_to_slice(signature.as_str().unwrap_or_default(), &mut raw)
        .map_err(|_| refuse("its signature is not 128 hex digits"))?;
    let receipt: Receipt =
        serde_json::from_value(object.into()).map_err(|e| refuse(&format!("it is no receipt: {e}")))?;
    if receipt.receipt_version != VERSION {
        return Err(refuse(&format!(
            "this program reads version {VERSION}, it has {}",
            receipt.receipt_version
        )));
    }
    key.verify_strict(&receipt.signed_bytes(), &Signature::from_bytes(&raw))
        .map_err(|_| refuse("it was altered, or another key signed it"))?;
    Ok(receipt)
}

/// Checks a file against its receipt.
///
/// # Errors
/// As [`read_receipt`]; `BadReceipt` if the file is another.
pub fn verify_receipt(file: &Path, receipt: &Path, key: &VerifyingKey) -> Result<Receipt, ExportError> {
    let found = read_receipt(receipt, key)?;
    let bytes = std::fs::read(file).map_err(|e| ExportError::io(file, e))?;
    if hex::encode(Sha256::digest(&bytes)) != found.sha256 {
        return Err(ExportError::BadReceipt {
            path: receipt.to_owned(),
            why: format!("{} is not the file that it is for: the digests differ", file.display()),
        });
    }
    if let Some(Superseded { file: Some(name), sha256: Some(sha256), .. }) = &found.superseded {
        let beside = file.parent().unwrap_or(Path::new("")).join(name);
        // The file is worth something without its list; another list than the station's is not.
        if beside.exists() {
            let bytes = std::fs::read(&beside).map_err(|e| ExportError::io(&beside, e))?;
            if hex::encode(Sha256::digest(&bytes)) != *sha256 {
                return Err(ExportError::BadReceipt {
                    path: receipt.to_owned(),
                    why: format!("{} is not the list that it is for: the digests differ", beside.display()),
                });
            }
        }
    }
    Ok(found)
}
