//! The key schedule of PROTOCOL §2.
//!
//! ```text
//! PRK0 = Extract("OTAK/v1/base", BK)        PRK2 = Extract(salt = PRK0, ss)
//! PRK3 = Extract(salt = TH2, AK*)
//! info(step, ctx) = "OTAK/v1/" ‖ suite ‖ purpose ‖ step ‖ KC ‖ ctx
//! Kenc ‖ Kmac = Expand(prk, info, 64)
//! TH1 = H("OTAKs-TH1" ‖ frame1 [‖ hdr2 ‖ e_A ‖ ncert ‖ certs])
//! TH2 = H("OTAKs-TH2" ‖ TH1 ‖ frame2)      TH3 = H("OTAKs-TH3" ‖ TH2 ‖ frame3)
//! ```
//! Suite and purpose are in every key: no cross-use, no downgrade by editing a
//! header.

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::crypto::{self, Hash};
use crate::error::Error;
use crate::frame::{Purpose, Step, Suite};
use crate::ids::{Generation, ProductOrder, UnitId};
use crate::keys::{AgentKey, BaseKey, Prk};

/// KC: the key context of an exchange, 16 bytes. PO for INIT, UID ‖ current
/// agent-key generation for updates. It keeps message 1's value for all steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyContext(pub [u8; 16]);

impl KeyContext {
    /// The context of INIT.
    #[must_use]
    pub const fn order(order: &ProductOrder) -> Self {
        Self(order.0)
    }

    /// The context of AKU and CKU: the unit and the generation of its *current*
    /// agent key.
    #[must_use]
    pub const fn unit(unit: &UnitId, current: Generation) -> Self {
        let u = unit.0;
        let g = current.0.to_be_bytes();
        Self([
            u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], g[0], g[1], g[2], g[3],
        ])
    }

    /// Read as an INIT context.
    #[must_use]
    pub const fn as_order(&self) -> ProductOrder {
        ProductOrder(self.0)
    }

    /// Read as an update context: the unit and its current agent-key generation.
    #[must_use]
    pub const fn as_unit(&self) -> (UnitId, Generation) {
        let b = self.0;
        (
            UnitId([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11]]),
            Generation(u32::from_be_bytes([b[12], b[13], b[14], b[15]])),
        )
    }
}

/// Kenc ‖ Kmac of one step.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct StepKeys {
    enc: [u8; 32],
    mac: [u8; 32],
}

impl StepKeys {
    /// Expands the keys of one step.
    ///
    /// # Errors
    /// None in practice: 64 bytes are below HKDF's limit.
    pub fn expand(
        prk: &Prk,
        suite: Suite,
        purpose: Purpose,
        step: Step,
        kc: &KeyContext,
        ctx: &[u8],
    ) -> Result<Self, Error> {
        let mut okm = [0u8; 64];
        let numbers = [suite.number(), purpose.number(), step.number()];
        crypto::expand(prk.expose(), &[b"OTAK/v1/", &numbers, &kc.0, ctx], &mut okm)?;
        let mut keys = Self { enc: [0; 32], mac: [0; 32] };
        let (enc, mac) = okm.split_at(32);
        keys.enc.copy_from_slice(enc);
        keys.mac.copy_from_slice(mac);
        okm.zeroize();
        Ok(keys)
    }

    /// The encryption key.
    #[must_use]
    pub const fn enc(&self) -> &[u8; 32] {
        &self.enc
    }

    /// The MAC key.
    #[must_use]
    pub const fn mac(&self) -> &[u8; 32] {
        &self.mac
    }
}

impl core::fmt::Debug for StepKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("StepKeys(redacted)")
    }
}

/// PRK0 from the base key.
#[must_use]
pub fn prk0(base: &BaseKey) -> Prk {
    Prk::from_bytes(crypto::extract(b"OTAK/v1/base", base.expose()))
}

/// PRK2 of suite 2 from PRK0 and the X25519 secret.
#[must_use]
pub fn prk2(prk0: &Prk, shared: &Hash) -> Prk {
    Prk::from_bytes(crypto::extract(prk0.expose(), shared))
}

/// PRK3 from TH2 and AK* (the new agent key for INIT and AKU, the current one for CKU).
#[must_use]
pub fn prk3(th2: &Hash, ak: &AgentKey) -> Prk {
    Prk::from_bytes(crypto::extract(th2, ak.expose()))
}

const fn label(suite: Suite, which: u8) -> [u8; 9] {
    let digit = b'0' + suite as u8;
    [b'O', b'T', b'A', b'K', digit, b'-', b'T', b'H', which]
}

/// The running hash of TH1: `"OTAKs-TH1" ‖ frame1`. Suite 2 adds the start of
/// message 2 when it comes.
#[derive(Clone)]
pub struct Th1Start(Sha256);

impl Th1Start {
    /// Hashes message 1.
    #[must_use]
    pub fn new(suite: Suite, frame1: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(label(suite, b'1'));
        hash.update(frame1);
        Self(hash)
    }

    /// TH1. `message2` is empty in suite 1; in suite 2 it is hdr2 ‖ e_A ‖ ncert ‖ certs.
    #[must_use]
    pub fn finish(&self, message2: &[u8]) -> Hash {
        let mut hash = self.0.clone();
        hash.update(message2);
        hash.finalize().into()
    }
}

impl core::fmt::Debug for Th1Start {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Th1Start")
    }
}

/// TH2 = H("OTAKs-TH2" ‖ TH1 ‖ frame2).
#[must_use]
pub fn th2(suite: Suite, th1: &Hash, frame2: &[u8]) -> Hash {
    crypto::sha256(&[&label(suite, b'2'), th1, frame2])
}

/// TH3 = H("OTAKs-TH3" ‖ TH2 ‖ frame3).
#[must_use]
pub fn th3(suite: Suite, th2: &Hash, frame3: &[u8]) -> Hash {
    crypto::sha256(&[&label(suite, b'3'), th2, frame3])
}

/// KCT = HM(Expand(Extract("OTAK/v1/kc", AK), "kc", 32), TH1 ‖ preceding plaintext).
#[must_use]
pub fn key_confirmation(ak: &AgentKey, th1: &Hash, preceding: &[u8; 80]) -> Hash {
    let mut key = crypto::derive(b"OTAK/v1/kc", ak.expose(), &[b"kc"]);
    let tag = crypto::hmac(&key, &[th1, preceding]);
    key.zeroize();
    tag
}

/// H(record) = H("OTAK/rec" ‖ record), of U4 and TLV 9.
#[must_use]
pub fn record_hash(record: &[u8]) -> Hash {
    crypto::sha256(&[b"OTAK/rec", record])
}
