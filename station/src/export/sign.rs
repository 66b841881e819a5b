//! The export signing key, detached signatures and public keys.
//!
//! Plain Ed25519 over the file's bytes (RFC 8032), a signature file of 64 raw bytes and the public key as
//! SubjectPublicKeyInfo in PEM (RFC 8410): `openssl pkeyutl -verify -rawin` of OpenSSL 3 checks them as they are.

use super::ExportError;
use ed25519_dalek::pkcs8::{DecodePublicKey, EncodePublicKey, spki::der::pem::LineEnding};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use std::path::Path;

/// The station's export signing key. The secret half is wiped when dropped and can't be printed.
pub struct ExportSigner {
    key: SigningKey,
}

impl std::fmt::Debug for ExportSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ExportSigner({})", self.fingerprint())
    }
}

impl ExportSigner {
    /// From the 32-byte seed (RFC 8032 §5.1.5).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(seed) }
    }

    /// Signs; deterministic, so that the same row in two lists has the same signature.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    /// The public half.
    pub fn public(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    /// The public half as PEM.
    pub fn public_pem(&self) -> String {
        public_pem(&self.public())
    }

    /// SHA-256 over the public key's 32 bytes, hex.
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(self.key.verifying_key().as_bytes()))
    }
}

/// A public key as PEM (`-----BEGIN PUBLIC KEY-----`).
pub fn public_pem(key: &VerifyingKey) -> String {
    // The encoding has a fixed length, so the only error (a length overflow) can't happen.
    key.to_public_key_pem(LineEnding::LF).unwrap_or_default()
}

/// Reads a public key's PEM file.
pub fn parse_public_pem(path: &Path) -> Result<VerifyingKey, ExportError> {
    let text = std::fs::read_to_string(path).map_err(|e| ExportError::io(path, e))?;
    VerifyingKey::from_public_key_pem(&text.replace("\r\n", "\n"))
        .map_err(|e| ExportError::PublicKey { path: path.to_owned(), why: e.to_string() })
}

/// Checks the detached signature of a file.
pub fn verify_file(path: &Path, signature: &Path, key: &VerifyingKey) -> Result<(), ExportError> {
    let bytes = std::fs::read(path).map_err(|e| ExportError::io(path, e))?;
    let raw = std::fs::read(signature).map_err(|e| ExportError::io(signature, e))?;
    let raw: [u8; 64] = raw.try_into().map_err(|raw: Vec<u8>| ExportError::SignatureFile {
        path: signature.to_owned(),
        length: raw.len() as u64,
    })?;
    key.verify_strict(&bytes, &Signature::from_bytes(&raw))
        .map_err(|_| ExportError::BadSignature { path: path.to_owned(), signature: signature.to_owned() })
}
