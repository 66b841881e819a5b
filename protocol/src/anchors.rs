//! Root rotation, revocation and key derivation (PROTOCOL §6).
//!
//! ```text
//! ROOT_BUNDLE = "HTAB" fmt1=1 n1 00 00 ‖ epoch4 ‖ H(prev bundle)32 ‖ root_pub32
//!             ‖ next_commit32 ‖ valid_from8 ‖ n × (region4 min_epoch4) ‖ sig_old64 ‖ sig_new64
//! REVOCATION  = "HTAR" fmt1=1 n1 00 00 ‖ seq4 ‖ root_epoch4 ‖ n × (region4 min_epoch4) ‖ sig64
//! ```
//! A bundle is accepted iff its epoch is the next one, it names the stored
//! bundle, its key is the one the stored bundle committed to, and both the old
//! and the new root signed it. A unit that slept through k rotations walks k.

use crate::cert::RegionFloor;
use crate::crypto::{self, Hash};
use crate::error::Error;
use crate::ids::{Region, UnitId};
use crate::keys::{PublicKey, Seed, Signature, Signer};
use crate::record::{BundleState, RootAnchor};
use crate::wire::{Reader, Writer};

const BUNDLE_DOMAIN: &[u8; 15] = b"OTAK/bundle/v1\0";
const REVOKE_DOMAIN: &[u8; 15] = b"OTAK/revoke/v1\0";
/// A bundle's bytes before its floors.
const BUNDLE_FIXED: usize = 116;
/// A revocation's bytes before its floors.
const REVOKE_FIXED: usize = 16;
const FLOOR_LEN: usize = 8;

/// The length of a bundle with `n` floors.
#[must_use]
pub const fn bundle_len(n: usize) -> usize {
    BUNDLE_FIXED + FLOOR_LEN * n + 128
}

/// The length of a revocation with `n` floors.
#[must_use]
pub const fn revocation_len(n: usize) -> usize {
    REVOKE_FIXED + FLOOR_LEN * n + 64
}

/// The longest bundle: 255 floors.
pub const MAX_BUNDLE: usize = bundle_len(255);

/// A region's seed:
/// `Expand(Extract(salt = u32 epoch, root_secret), "HTA/region/v1" ‖ u32 region, 32)`.
/// `epoch` is the epoch field of the region's certificate, so a revoked region
/// never gets the same key back. `root_secret` is kept apart from the root's
/// signing key.
#[must_use]
pub fn region_seed(root_secret: &[u8; 32], region: Region, epoch: u32) -> Seed {
    Seed::from_bytes(crypto::derive(
        &epoch.to_be_bytes(),
        root_secret,
        &[b"HTA/region/v1", &region.0.to_be_bytes()],
    ))
}

/// A unit's device-tier seed:
/// `Expand(Extract(salt = u32 epoch, region_seed), "HTA/device/v1" ‖ UID, 32)`.
/// `epoch` is the epoch field of the device-tier certificate.
#[must_use]
pub fn device_seed(region_seed: &Seed, unit: &UnitId, epoch: u32) -> Seed {
    Seed::from_bytes(crypto::derive(&epoch.to_be_bytes(), region_seed.expose(), &[b"HTA/device/v1", &unit.0]))
}

/// The floors of a bundle or revocation, ascending by region.
#[derive(Clone, Copy)]
pub struct Floors<'a>(&'a [u8]);

impl Floors<'_> {
    /// The floors in order.
    pub fn iter(&self) -> impl Iterator<Item = RegionFloor> + '_ {
        self.0.chunks_exact(FLOOR_LEN).filter_map(|entry| {
            let mut r = Reader::new(entry);
            Some(RegionFloor { region: Region(r.u32().ok()?), min_epoch: r.u32().ok()? })
        })
    }

    /// The lowest valid epoch of one region, if these floors name it.
    #[must_use]
    pub fn min_epoch(&self, region: Region) -> Option<u32> {
        self.iter().find(|floor| floor.region == region).map(|floor| floor.min_epoch)
    }

    fn ascending(&self) -> bool {
        self.iter().is_sorted_by(|a, b| a.region < b.region)
    }
}

impl core::fmt::Debug for Floors<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

fn put_floors(w: &mut Writer<'_>, floors: &[RegionFloor]) -> Result<(), Error> {
    if !floors.is_sorted_by(|a, b| a.region < b.region) {
        return Err(Error::BundleLayout);
    }
    floors.iter().try_for_each(|floor| {
        w.put(&floor.region.0.to_be_bytes())?;
        w.put(&floor.min_epoch.to_be_bytes())
    })
}

fn count(floors: &[RegionFloor]) -> Result<u8, Error> {
    u8::try_from(floors.len()).map_err(|_| Error::Length)
}

/// What to put into a new root bundle.
#[derive(Clone, Copy, Debug)]
pub struct NewBundle<'a> {
    /// The new root's epoch: the old one's + 1.
    pub epoch: u32,
    /// H(previous bundle); zero for the first.
    pub prev: Hash,
    /// H(the root key after this one).
    pub next_commit: Hash,
    /// Unix seconds UTC; only parties with a clock look at it.
    pub valid_from: u64,
    /// Regions' lowest valid epochs, ascending by region, at most 255.
    pub floors: &'a [RegionFloor],
}

impl NewBundle<'_> {
    /// Builds and signs the bundle with the old and the new root; returns its
    /// length. `scratch` needs 15 bytes more than the bundle.
    ///
    /// # Errors
    /// [`Error::BundleLayout`] if the floors do not ascend, [`Error::Length`] for
    /// more than 255, [`Error::SignerUnavailable`], [`Error::BufferTooSmall`].
    pub fn sign(
        &self,
        old_root: &dyn Signer,
        new_root: &dyn Signer,
        scratch: &mut [u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let mut w = Writer::new(scratch);
        w.put(BUNDLE_DOMAIN)?;
        w.put(b"HTAB")?;
        w.put(&[1, count(self.floors)?, 0, 0])?;
        w.put(&self.epoch.to_be_bytes())?;
        w.put(&self.prev)?;
        w.put(&new_root.public_key().0)?;
        w.put(&self.next_commit)?;
        w.put(&self.valid_from.to_be_bytes())?;
        put_floors(&mut w, self.floors)?;
        let message = w.written();
        let mut o = Writer::new(out);
        o.put(message.get(BUNDLE_DOMAIN.len()..).ok_or(Error::Length)?)?;
        o.put(&old_root.sign(message)?.0)?;
        o.put(&new_root.sign(message)?.0)?;
        Ok(o.len())
    }
}

/// A verified root bundle.
#[derive(Clone, Copy, Debug)]
pub struct Bundle<'a> {
    anchor: RootAnchor,
    state: BundleState,
    valid_from: u64,
    floors: Floors<'a>,
}

impl<'a> Bundle<'a> {
    /// Verifies a bundle against the stored anchor and bundle state.
    ///
    /// # Errors
    /// [`Error::BundleLayout`], [`Error::BundleEpoch`], [`Error::BundlePrevHash`],
    /// [`Error::BundleNextCommit`], [`Error::Signature`].
    pub fn verify(bytes: &'a [u8], anchor: &RootAnchor, stored: &BundleState) -> Result<Self, Error> {
        let (signed, signatures) = bytes.split_last_chunk::<128>().ok_or(Error::BundleLayout)?;
        let mut r = Reader::new(signed);
        let mut inner = || -> Result<_, Error> {
            let magic = r.array::<5>()?;
            let n = r.u8()?;
            r.zeros::<2>()?;
            let epoch = r.u32()?;
            let prev: Hash = r.array()?;
            let root = PublicKey(r.array()?);
            let next_commit: Hash = r.array()?;
            let valid_from = r.u64()?;
            let floors = Floors(r.bytes(usize::from(n) * FLOOR_LEN)?);
            let whole = r.is_empty() && magic == *b"HTAB\x01" && floors.ascending();
            if whole {
                Ok((epoch, prev, root, next_commit, valid_from, floors))
            } else {
                Err(Error::BundleLayout)
            }
        };
        let (epoch, prev, root, next_commit, valid_from, floors) =
            inner().map_err(|_| Error::BundleLayout)?;
        if anchor.epoch.checked_add(1) != Some(epoch) {
            return Err(Error::BundleEpoch);
        }
        if prev != stored.hash {
            return Err(Error::BundlePrevHash);
        }
        if crypto::sha256(&[&root.0]) != stored.next_commit {
            return Err(Error::BundleNextCommit);
        }
        let mut r = Reader::new(signatures);
        let message: [&[u8]; 2] = [BUNDLE_DOMAIN, signed];
        crypto::verify(&anchor.key, &message, &Signature(r.array()?))?;
        crypto::verify(&root, &message, &Signature(r.array()?))?;
        Ok(Self {
            anchor: RootAnchor { epoch, key: root },
            state: BundleState { hash: crypto::sha256(&[bytes]), next_commit },
            valid_from,
            floors,
        })
    }

    /// The new root anchor (TLV 11).
    #[must_use]
    pub const fn anchor(&self) -> &RootAnchor {
        &self.anchor
    }

    /// The new bundle state (TLV 12).
    #[must_use]
    pub const fn state(&self) -> &BundleState {
        &self.state
    }

    /// Unix seconds UTC from which parties with a clock accept it.
    #[must_use]
    pub const fn valid_from(&self) -> u64 {
        self.valid_from
    }

    /// The regions' lowest valid epochs.
    #[must_use]
    pub const fn floors(&self) -> &Floors<'a> {
        &self.floors
    }
}

/// Builds and signs a revocation; returns its length. `scratch` needs as many
/// bytes as the revocation.
///
/// # Errors
/// As [`NewBundle::sign`].
pub fn sign_revocation(
    seq: u32,
    root_epoch: u32,
    floors: &[RegionFloor],
    root: &dyn Signer,
    scratch: &mut [u8],
    out: &mut [u8],
) -> Result<usize, Error> {
    let mut w = Writer::new(scratch);
    w.put(REVOKE_DOMAIN)?;
    w.put(b"HTAR")?;
    w.put(&[1, count(floors)?, 0, 0])?;
    w.put(&seq.to_be_bytes())?;
    w.put(&root_epoch.to_be_bytes())?;
    put_floors(&mut w, floors)?;
    let message = w.written();
    let mut o = Writer::new(out);
    o.put(message.get(REVOKE_DOMAIN.len()..).ok_or(Error::Length)?)?;
    o.put(&root.sign(message)?.0)?;
    Ok(o.len())
}

/// A verified revocation.
#[derive(Clone, Copy, Debug)]
pub struct Revocation<'a> {
    seq: u32,
    floors: Floors<'a>,
}

impl<'a> Revocation<'a> {
    /// Verifies a revocation against the current root and the last accepted
    /// sequence number.
    ///
    /// # Errors
    /// [`Error::BundleLayout`], [`Error::RevocationOrder`], [`Error::Signature`].
    pub fn verify(bytes: &'a [u8], anchor: &RootAnchor, stored_seq: u32) -> Result<Self, Error> {
        let (signed, signature) = bytes.split_last_chunk::<64>().ok_or(Error::BundleLayout)?;
        let mut r = Reader::new(signed);
        let mut inner = || -> Result<_, Error> {
            let magic = r.array::<5>()?;
            let n = r.u8()?;
            r.zeros::<2>()?;
            let seq = r.u32()?;
            let root_epoch = r.u32()?;
            let floors = Floors(r.bytes(usize::from(n) * FLOOR_LEN)?);
            let whole = r.is_empty() && magic == *b"HTAR\x01" && floors.ascending();
            if whole { Ok((seq, root_epoch, floors)) } else { Err(Error::BundleLayout) }
        };
        let (seq, root_epoch, floors) = inner().map_err(|_| Error::BundleLayout)?;
        if root_epoch != anchor.epoch || seq <= stored_seq {
            return Err(Error::RevocationOrder);
        }
        crypto::verify(&anchor.key, &[REVOKE_DOMAIN, signed], &Signature(*signature))?;
        Ok(Self { seq, floors })
    }

    /// Its sequence number.
    #[must_use]
    pub const fn seq(&self) -> u32 {
        self.seq
    }

    /// The regions' new lowest valid epochs.
    #[must_use]
    pub const fn floors(&self) -> &Floors<'a> {
        &self.floors
    }
}
