//! Certificates, 148 bytes, and the trust they are checked against.
//!
//! ```text
//! ver1 role1 00 00 issuer4 subject4 root_epoch4 epoch4 not_before8 not_after8 pub32 scope16 sig64
//! sig over "OTAK/cert/v1\0" ‖ first 84 bytes
//! ```
//! | role | issuer | subject | scope | signed by |
//! |---|---|---|---|---|
//! | 1 region | 0 | region | 0 | root |
//! | 2 agent | region | agent | product order | region |
//! | 3 station | region | station | product order | region |
//! | 4 device tier | region | UID\[0..4\] | UID ‖ 0 | region |
//! | 5 firmware signer | 0 | signer | model or 0 | root |
//!
//! The role is load-bearing: without that check a station's certificate would
//! pass for an agent's.

use core::fmt;

use crate::crypto;
use crate::error::Error;
use crate::ids::{ProductOrder, Region, UnitId};
use crate::keys::{PublicKey, Signature, Signer};
use crate::wire::{Reader, Writer};

/// Length of a certificate.
pub const CERT_LEN: usize = 148;
/// Length of its signed part.
const SIGNED_LEN: usize = 84;
const DOMAIN: &[u8; 13] = b"OTAK/cert/v1\0";
/// `not_after` of a certificate that never ends.
pub const NEVER: u64 = 0x7fff_ffff_ffff_ffff;

/// What a certificate's owner may do. The numbers are signed: they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// Vouches for agents, stations and units of its region.
    Region = 1,
    /// Issues keys under one product order.
    Agent = 2,
    /// Relays enrolments of one product order.
    Station = 3,
    /// A unit's own tier of the chain.
    DeviceTier = 4,
    /// Signs firmware.
    FirmwareSigner = 5,
}

/// The signed content of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertFields {
    /// What the owner may do.
    pub role: Role,
    /// The parent's subject; 0 for root.
    pub issuer: u32,
    /// The owner's number.
    pub subject: u32,
    /// The epoch of the root that vouches.
    pub root_epoch: u32,
    /// The owner's own epoch; a revocation raises its floor.
    pub epoch: u32,
    /// Unix seconds UTC; only parties with a clock look at it.
    pub not_before: u64,
    /// Unix seconds UTC, inclusive; [`NEVER`] = no end.
    pub not_after: u64,
    /// The owner's key.
    pub public_key: PublicKey,
    /// Product order, unit or model, see the table above.
    pub scope: [u8; 16],
}

/// A device-tier scope: UID12 ‖ 0^4.
#[must_use]
pub fn unit_scope(unit: &UnitId) -> [u8; 16] {
    let mut scope = [0; 16];
    for (to, from) in scope.iter_mut().zip(unit.0) {
        *to = from;
    }
    scope
}

/// A device-tier subject: the first four bytes of the UID.
#[must_use]
pub const fn unit_subject(unit: &UnitId) -> u32 {
    let u = unit.0;
    u32::from_be_bytes([u[0], u[1], u[2], u[3]])
}

impl CertFields {
    /// Signs the certificate with its issuer's key.
    ///
    /// # Errors
    /// [`Error::SignerUnavailable`] if the issuer cannot sign.
    pub fn sign(&self, issuer: &dyn Signer) -> Result<Cert, Error> {
        let mut message = [0u8; DOMAIN.len() + SIGNED_LEN];
        let mut w = Writer::new(&mut message);
        w.put(DOMAIN)?;
        w.put(&[1, self.role as u8, 0, 0])?;
        for number in [self.issuer, self.subject, self.root_epoch, self.epoch] {
            w.put(&number.to_be_bytes())?;
        }
        w.put(&self.not_before.to_be_bytes())?;
        w.put(&self.not_after.to_be_bytes())?;
        w.put(&self.public_key.0)?;
        w.put(&self.scope)?;
        let signature = issuer.sign(&message)?;
        let mut bytes = [0u8; CERT_LEN];
        let mut w = Writer::new(&mut bytes);
        w.put(message.get(DOMAIN.len()..).ok_or(Error::Length)?)?;
        w.put(&signature.0)?;
        Ok(Cert(bytes))
    }
}

/// A certificate's bytes. Holding one says nothing about its validity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cert(pub [u8; CERT_LEN]);

impl fmt::Debug for Cert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fields() {
            Ok(fields) => f.debug_tuple("Cert").field(&fields).finish(),
            Err(error) => write!(f, "Cert({})", error.reason()),
        }
    }
}

impl Cert {
    /// Copies a certificate out of a longer message.
    ///
    /// # Errors
    /// [`Error::Length`] unless 148 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        bytes.try_into().map(Self).map_err(|_| Error::Length)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; CERT_LEN] {
        &self.0
    }

    /// Reads the fields, unverified.
    ///
    /// # Errors
    /// [`Error::CertLayout`] for another version or non-zero reserved bytes,
    /// [`Error::CertRole`] for an unknown role.
    pub fn fields(&self) -> Result<CertFields, Error> {
        fields(&self.0)
    }
}

fn fields(bytes: &[u8; CERT_LEN]) -> Result<CertFields, Error> {
    let mut r = Reader::new(bytes);
    if r.u8()? != 1 {
        return Err(Error::CertLayout);
    }
    let role = match r.u8()? {
        1 => Role::Region,
        2 => Role::Agent,
        3 => Role::Station,
        4 => Role::DeviceTier,
        5 => Role::FirmwareSigner,
        _ => return Err(Error::CertRole),
    };
    r.zeros::<2>().map_err(|_| Error::CertLayout)?;
    Ok(CertFields {
        role,
        issuer: r.u32()?,
        subject: r.u32()?,
        root_epoch: r.u32()?,
        epoch: r.u32()?,
        not_before: r.u64()?,
        not_after: r.u64()?,
        public_key: PublicKey(r.array()?),
        scope: r.array()?,
    })
}

/// The lowest epoch at which a region's certificate still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionFloor {
    /// The region.
    pub region: Region,
    /// Its lowest valid epoch.
    pub min_epoch: u32,
}

/// What a verifier holds: its root anchor and what it knows about itself.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// The root's key (TLV 11).
    pub root: &'a PublicKey,
    /// The root's epoch (TLV 11).
    pub root_epoch: u32,
    /// Revocation floors (TLV 13 or bundle); a region without one has none.
    pub floors: &'a [RegionFloor],
    /// Unix seconds UTC below which nothing may have ended (TLV 15); a unit
    /// without a clock raises it with every message 4.
    pub time_floor: u64,
    /// The unit's product order (TLV 8).
    pub order: ProductOrder,
    /// The unit.
    pub unit: UnitId,
    /// The unit's region: TLV 8 at INIT, TLV 6 after.
    pub region: Region,
    /// The region certificate that the unit holds (TLV 6). A cloud record with a
    /// new device-tier certificate alone is checked against it.
    pub region_cert: Option<&'a Cert>,
}

/// Proof that a certificate was verified for a role; only this module makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    fields: CertFields,
}

impl Verified {
    /// The verified content.
    #[must_use]
    pub const fn fields(&self) -> &CertFields {
        &self.fields
    }

    /// The owner's key.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.fields.public_key
    }

    /// The region a region certificate is for.
    #[must_use]
    pub const fn subject(&self) -> u32 {
        self.fields.subject
    }
}

impl Trust<'_> {
    /// Verifies one certificate: role, issuer, scope, root epoch, region floor,
    /// end of validity, then the issuer's signature.
    ///
    /// # Errors
    /// One of the `Cert…` variants, by the first check that fails.
    pub fn verify(
        &self,
        cert: &Cert,
        role: Role,
        issuer: u32,
        scope: &[u8; 16],
        signer: &PublicKey,
    ) -> Result<Verified, Error> {
        let fields = cert.fields()?;
        if fields.role != role {
            return Err(Error::CertRole);
        }
        if fields.issuer != issuer {
            return Err(Error::CertIssuer);
        }
        if fields.scope != *scope {
            return Err(Error::CertScope);
        }
        if fields.root_epoch != self.root_epoch {
            return Err(Error::CertRootEpoch);
        }
        let below_floor = |f: &RegionFloor| {
            role == Role::Region && f.region.0 == fields.subject && fields.epoch < f.min_epoch
        };
        if self.floors.iter().any(below_floor) {
            return Err(Error::CertEpoch);
        }
        if fields.not_after < self.time_floor {
            return Err(Error::CertExpired);
        }
        let (signed, signature) = cert.0.split_last_chunk::<64>().ok_or(Error::CertLayout)?;
        crypto::verify(signer, &[DOMAIN, signed], &Signature(*signature))
            .map_err(|_| Error::CertSignature)?;
        Ok(Verified { fields })
    }

    /// Verifies a region's certificate, whichever region it is.
    ///
    /// # Errors
    /// As [`Trust::verify`].
    pub fn verify_any_region(&self, cert: &Cert) -> Result<Verified, Error> {
        self.verify(cert, Role::Region, 0, &[0; 16], self.root)
    }

    /// Verifies the certificate of the unit's own region.
    ///
    /// # Errors
    /// As [`Trust::verify`], and [`Error::Region`] for another region.
    pub fn verify_region(&self, cert: &Cert) -> Result<Verified, Error> {
        let fields = cert.fields()?;
        if fields.role == Role::Region && fields.subject != self.region.0 {
            return Err(Error::Region);
        }
        self.verify_any_region(cert)
    }

    /// Verifies region and agent; the agent must be of this unit's region and
    /// product order.
    ///
    /// # Errors
    /// As [`Trust::verify_region`].
    pub fn verify_agent_chain(&self, region: &Cert, agent: &Cert) -> Result<Verified, Error> {
        let region = self.verify_region(region)?;
        self.verify(agent, Role::Agent, region.subject(), &self.order.0, region.public_key())
    }

    /// Verifies a station's certificate under a verified region.
    ///
    /// # Errors
    /// As [`Trust::verify`].
    pub fn verify_station(&self, region: &Verified, station: &Cert) -> Result<Verified, Error> {
        self.verify(station, Role::Station, region.subject(), &self.order.0, region.public_key())
    }

    /// Verifies this unit's device-tier certificate under a verified region.
    ///
    /// # Errors
    /// As [`Trust::verify`].
    pub fn verify_device_tier(&self, region: &Verified, device: &Cert) -> Result<Verified, Error> {
        self.verify(device, Role::DeviceTier, region.subject(), &unit_scope(&self.unit), region.public_key())
    }

    /// Verifies a firmware signer for `model`; a scope of zero signs for all.
    ///
    /// # Errors
    /// As [`Trust::verify`].
    pub fn verify_firmware_signer(&self, cert: &Cert, model: &[u8; 16]) -> Result<Verified, Error> {
        let scope = match cert.fields()?.scope {
            any if any == [0; 16] => any,
            _ => *model,
        };
        self.verify(cert, Role::FirmwareSigner, 0, &scope, self.root)
    }
}
