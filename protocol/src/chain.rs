//! The deployment chain T/R/S (PROTOCOL §6): 489 bytes that allow one image on
//! one unit.
//!
//! ```text
//! T-cert148 ‖ R-cert148 ‖ S-message129 ‖ S-signature64
//! T = root's certificate for the region     R = region's certificate for this unit
//! S = Sign_dev("HTA/S/v1\0" ‖ UID ‖ image_sha256 ‖ merkle_root ‖ manifest_digest ‖ u64 seq ‖ u32 security_counter)
//! ```

use crate::cert::{CERT_LEN, Cert, Trust};
use crate::crypto::{self, Hash};
use crate::error::{Error, FieldName};
use crate::ids::UnitId;
use crate::keys::{Signature, Signer};
use crate::wire::{Reader, Writer};

const DOMAIN: &[u8; 9] = b"HTA/S/v1\0";
/// Length of the S message, domain included.
pub const MESSAGE_LEN: usize = 9 + 12 + 32 * 3 + 8 + 4;
/// Length of the whole chain.
pub const CHAIN_LEN: usize = 2 * CERT_LEN + MESSAGE_LEN + 64;
const _: () = assert!(MESSAGE_LEN == 129 && CHAIN_LEN == 489);

/// What S authorises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// The unit.
    pub unit: UnitId,
    /// SHA-256 of the whole plain image.
    pub image_sha256: Hash,
    /// The block tree's root.
    pub merkle_root: Hash,
    /// SHA-256 of the SUIT manifest's bytes.
    pub manifest_digest: Hash,
    /// Strictly grows; equal only for the same manifest.
    pub seq: u64,
    /// The lowest security counter of the image.
    pub security_counter: u32,
}

impl Deployment {
    fn message(&self) -> Result<[u8; MESSAGE_LEN], Error> {
        let mut out = [0; MESSAGE_LEN];
        let mut w = Writer::new(&mut out);
        w.put(DOMAIN)?;
        w.put(&self.unit.0)?;
        w.put(&self.image_sha256)?;
        w.put(&self.merkle_root)?;
        w.put(&self.manifest_digest)?;
        w.put(&self.seq.to_be_bytes())?;
        w.put(&self.security_counter.to_be_bytes())?;
        Ok(out)
    }

    /// Signs and assembles the chain with the unit's device-tier key.
    ///
    /// # Errors
    /// [`Error::SignerUnavailable`].
    pub fn sign(
        &self,
        region: &Cert,
        device: &Cert,
        device_tier: &dyn Signer,
    ) -> Result<[u8; CHAIN_LEN], Error> {
        let message = self.message()?;
        let mut out = [0; CHAIN_LEN];
        let mut w = Writer::new(&mut out);
        w.put(&region.0)?;
        w.put(&device.0)?;
        w.put(&message)?;
        w.put(&device_tier.sign(&message)?.0)?;
        Ok(out)
    }

    /// Verifies a chain: T, R, S, then the unit and the sequence number against
    /// what the trust store holds.
    ///
    /// # Errors
    /// [`Error::Length`], a `Cert…` variant or [`Error::Region`],
    /// [`Error::Signature`], [`Error::Field`] for another unit,
    /// [`Error::DeploymentSequence`].
    pub fn verify(
        bytes: &[u8],
        trust: &Trust<'_>,
        stored_seq: u64,
        stored_digest: &Hash,
    ) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        let region = Cert(r.array()?);
        let device = Cert(r.array()?);
        let message = r.array_ref::<MESSAGE_LEN>()?;
        let signature = Signature(r.array()?);
        r.finish()?;
        let region = trust.verify_region(&region)?;
        let device = trust.verify_device_tier(&region, &device)?;
        crypto::verify(device.public_key(), &[message], &signature)?;
        let mut r = Reader::new(message);
        if r.array_ref::<9>()? != DOMAIN {
            return Err(Error::Field(FieldName::Value));
        }
        let out = Self {
            unit: UnitId(r.array()?),
            image_sha256: r.array()?,
            merkle_root: r.array()?,
            manifest_digest: r.array()?,
            seq: r.u64()?,
            security_counter: r.u32()?,
        };
        if out.unit != trust.unit {
            return Err(Error::Field(FieldName::UnitId));
        }
        let newer = out.seq > stored_seq;
        let same = out.seq == stored_seq && out.manifest_digest == *stored_digest;
        if newer || same { Ok(out) } else { Err(Error::DeploymentSequence) }
    }
}
