//! The primitives, each wrapped once so that the rest of the crate cannot use
//! one wrongly: SHA-256, HMAC-SHA-256, HKDF-SHA-256 (RFC 5869), AES-256-CBC with
//! PKCS#7, X25519 with the all-zero check (RFC 7748 §6.1), strict Ed25519
//! (RFC 8032, S < L, small-order A and R refused).
//!
//! Nothing here may panic, whatever the input: a unit would reset in the middle
//! of an exchange. `cargo xtask firmware` looks for panics in the linked image,
//! which is why a library call is sometimes taken apart where its convenient form
//! keeps a check that the optimiser can't remove.

use aes::Aes256;
use cbc::cipher::block_padding::{Padding, Pkcs7};
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::montgomery::MontgomeryPoint;
use curve25519_dalek::scalar::clamp_integer;
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::ed25519::signature::MultipartVerifier;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::error::Error;
use crate::keys::{EphemeralSecret, PublicKey, Signature};

/// A SHA-256 digest, HMAC tag or HKDF key: 32 bytes.
pub type Hash = [u8; 32];

/// Length of an IV and of a cipher block, in bytes.
pub const BLOCK: usize = 16;

/// SHA-256 of the concatenation of `parts`.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> Hash {
    let mut hash = Sha256::new();
    parts.iter().for_each(|p| hash.update(p));
    hash.finalize().into()
}

/// HMAC-SHA-256 of the concatenation of `parts`; the tag is never truncated.
#[must_use]
pub fn hmac(key: &[u8], parts: &[&[u8]]) -> Hash {
    match <Hmac<Sha256> as KeyInit>::new_from_slice(key) {
        Ok(mut mac) => {
            parts.iter().for_each(|p| mac.update(p));
            mac.finalize().into_bytes().into()
        }
        // HMAC takes keys of every length (RFC 2104 §2), so this arm cannot run;
        // a tag of the empty hash keeps the function total without a panic path.
        Err(_) => sha256(&[]),
    }
}

/// HKDF-Extract with SHA-256.
#[must_use]
pub fn extract(salt: &[u8], ikm: &[u8]) -> Hash {
    hmac(salt, &[ikm])
}

/// HKDF-Expand with SHA-256; `info` is the concatenation of its parts.
///
/// The loop of RFC 5869 §2.3 over [`Hmac`], instead of the `hkdf` crate, whose
/// block counter ends in an `expect`.
///
/// # Errors
/// [`Error::Length`] for more than 8,160 bytes of output (RFC 5869 §2.3); `out` is
/// not to be used then.
pub fn expand(prk: &Hash, info: &[&[u8]], out: &mut [u8]) -> Result<(), Error> {
    let mut previous: Hash = [0; 32];
    let mut counter: u8 = 0;
    for block in out.chunks_mut(32) {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(prk).map_err(|_| Error::Length)?;
        if counter > 0 {
            mac.update(&previous);
        }
        info.iter().for_each(|part| mac.update(part));
        counter = counter.checked_add(1).ok_or(Error::Length)?;
        mac.update(&[counter]);
        previous = mac.finalize().into_bytes().into();
        block.iter_mut().zip(&previous).for_each(|(to, from)| *to = *from);
    }
    previous.zeroize();
    Ok(())
}

/// `Expand(Extract(salt, ikm), info, 32)`.
#[must_use]
pub fn derive(salt: &[u8], ikm: &[u8], info: &[&[u8]]) -> Hash {
    let mut prk = extract(salt, ikm);
    let mut out = [0; 32];
    // 32 bytes are far below HKDF's limit, so this cannot fail; were it to, the
    // result would be zero bytes, which every key type refuses as blank.
    if expand(&prk, info, &mut out).is_err() {
        out = [0; 32];
    }
    prk.zeroize();
    out
}

/// Constant-time equality of two tags or hashes.
#[must_use]
pub fn tags_equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// True if every byte is 00 or every byte is FF, in time that depends on the
/// length only. An empty slice is blank.
#[must_use]
pub fn is_blank(bytes: &[u8]) -> bool {
    let (or, and) = bytes.iter().fold((0u8, 0xffu8), |(or, and), b| (or | b, and & b));
    bool::from(or.ct_eq(&0) | and.ct_eq(&0xff))
}

/// The padded length of `len` bytes under PKCS#7: 16·(⌊len/16⌋+1).
#[must_use]
pub const fn padded(len: usize) -> usize {
    (len / BLOCK + 1) * BLOCK
}

/// Encrypts the first `len` bytes of `buf` in place with AES-256-CBC and PKCS#7;
/// returns the ciphertext's length.
///
/// # Errors
/// [`Error::BufferTooSmall`] if `buf` cannot hold the padding.
pub fn cbc_encrypt(key: &[u8; 32], iv: &[u8; BLOCK], buf: &mut [u8], len: usize) -> Result<usize, Error> {
    cbc::Encryptor::<Aes256>::new(key.into(), iv.into())
        .encrypt_padded::<Pkcs7>(buf, len)
        .map(<[u8]>::len)
        .map_err(|_| Error::BufferTooSmall)
}

/// Decrypts `buf` in place and returns the length of the plaintext. Call it only
/// on ciphertext whose tag has been verified.
///
/// # Errors
/// [`Error::Padding`] if the padding is not PKCS#7 or `buf` is not whole blocks.
pub fn cbc_decrypt(key: &[u8; 32], iv: &[u8; BLOCK], buf: &mut [u8]) -> Result<usize, Error> {
    let (blocks, tail) = aes::Block::slice_as_chunks_mut(buf);
    if !tail.is_empty() {
        return Err(Error::Padding);
    }
    cbc::Decryptor::<Aes256>::new(key.into(), iv.into()).decrypt_blocks(blocks);
    // `decrypt_padded` cuts the plaintext out of the buffer with an index; the
    // padding of the last block is all that is needed for its length.
    let (last, whole) = blocks.split_last().ok_or(Error::Padding)?;
    let rest = <Pkcs7 as Padding>::unpad(last).map_err(|_| Error::Padding)?.len();
    Ok(whole.len() * BLOCK + rest)
}

/// The public half of an ephemeral secret.
#[must_use]
pub fn x25519_public(secret: &EphemeralSecret) -> [u8; 32] {
    MontgomeryPoint::mul_base_clamped(*secret.expose()).to_bytes()
}

/// X25519; refuses the all-zero result.
///
/// # Errors
/// [`Error::AllZeroShare`] if the peer's point has small order.
pub fn x25519(secret: &EphemeralSecret, peer: &[u8; 32]) -> Result<Hash, Error> {
    // `mul_clamped` does the same, with a bounds check on every bit. The top bit of
    // a clamped scalar is zero, so 255 bits are all (RFC 7748 §5); which bit is
    // looked at never depends on the secret.
    let mut scalar = clamp_integer(*secret.expose());
    let bits = (0..255_usize).rev().map(|i| scalar.get(i >> 3).is_some_and(|byte| byte >> (i & 7) & 1 == 1));
    let shared = MontgomeryPoint(*peer).mul_bits_be(bits).to_bytes();
    scalar.zeroize();
    if tags_equal(&shared, &[0; 32]) { Err(Error::AllZeroShare) } else { Ok(shared) }
}

/// True if X25519 with `peer` is all zero for every secret. Clamped secrets are
/// multiples of 8, the cofactor, so \[8\]P decides it without a secret.
#[must_use]
pub fn x25519_small_order(peer: &[u8; 32]) -> bool {
    let eight = [true, false, false, false];
    MontgomeryPoint(*peer).mul_bits_be(eight.into_iter()).to_bytes() == [0; 32]
}

/// Verifies an Ed25519 signature over the concatenation of `message`, with the
/// rules of `verify_strict`: canonical S, small-order A and R refused. (The
/// library offers strictness only for contiguous messages and parts only without
/// it; the unit has no room to join a long message.)
///
/// # Errors
/// [`Error::Signature`], whatever was wrong.
pub fn verify(key: &PublicKey, message: &[&[u8]], signature: &Signature) -> Result<(), Error> {
    let verifying = VerifyingKey::from_bytes(&key.0).map_err(|_| Error::Signature)?;
    let (r, _) = signature.0.split_first_chunk::<32>().ok_or(Error::Signature)?;
    let r_weak = CompressedEdwardsY(*r).decompress().is_none_or(|point| point.is_small_order());
    if r_weak || verifying.is_weak() {
        return Err(Error::Signature);
    }
    library_verify(&verifying, message, &ed25519_dalek::Signature::from_bytes(&signature.0))
}

/// The library's part of [`verify`] and nothing else, in a frame of its own: it
/// has the one panic path that `xtask/src/panics.rs` allows under signatures (a
/// table of eight, indexed by half an odd digit below 16 of a public scalar).
#[inline(never)]
fn library_verify(
    key: &VerifyingKey,
    message: &[&[u8]],
    signature: &ed25519_dalek::Signature,
) -> Result<(), Error> {
    key.multipart_verify(message, signature).map_err(|_| Error::Signature)
}
