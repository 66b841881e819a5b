//! The anchors: root, regions, agents; HKDF-derived Ed25519 seeds (seed 000, PROTOCOL §6).
//!
//! ```text
//! anchors/ root-signing.sealed   Ed25519 seed of the root ‖ seed of the root after it (its hash is committed to)
//!          root-secret.sealed    root_secret, from which regions are derived; kept apart from the signing key
//!          root.bundle           the first root bundle, public
//!          region-<n>.sealed     region_seed; region-<n>.cert: its certificate, public
//!          agent-<n>.sealed      Ed25519 seed of the agent of that region
//! ```
//!
//! Invariants:
//! - The root's files are opened by [`Anchors::init`] only; issuing keys to units needs a region and its agent.
//! - Opening verifies everything that is public against the root, and every sealed key against its certificate: a
//!   file that was exchanged is found before a unit is given anything.
//! - A region's key follows from root_secret, region and epoch; nothing is stored twice.

use crate::failure::{Failure, FailureCode};
use crate::secrets::{SealedFile, Secret, SecretsError, StationKey, random, write_atomically};
use keywright_protocol::anchors::{Bundle, MAX_BUNDLE, NewBundle, bundle_len, device_seed, region_seed};
use keywright_protocol::cert::{Cert, CertFields, NEVER, Role, Trust, unit_scope, unit_subject};
use keywright_protocol::crypto;
use keywright_protocol::keys::Seed;
use keywright_protocol::record::{BundleState, RootAnchor};
use keywright_protocol::{
    IdentityKey, ProductOrder, PublicKey, Region, Signature, Signer, UnitId as ProtocolUnitId,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The epoch of a new root, of its regions' certificates and of the units' certificates under them.
const FIRST_EPOCH: u32 = 1;
/// The agent's number within its region.
const AGENT: u32 = 1;

/// Why the anchors can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnchorsError {
    /// There are none.
    #[error("there are no anchors in {path}")]
    Missing {
        /// The folder.
        path: String,
    },
    /// This region is not here.
    #[error("region {region} is not on this station")]
    NoRegion {
        /// It.
        region: u32,
    },
    /// 0 is no region.
    #[error("region 0 can't be used: regions are numbered from 1")]
    BadRegion,
    /// A file does not fit the others.
    #[error("{path} does not fit the other anchors ({detail}); restore the folder from a backup")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// A sealed file.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}

impl From<AnchorsError> for Failure {
    fn from(error: AnchorsError) -> Self {
        Failure::new(FailureCode::AnchorsMissing, error)
    }
}

/// An Ed25519 key that lives in a sealed file: unsealed once, wiped when dropped. It implements the protocol's
/// [`Signer`], as a PKCS#11 token would.
#[derive(Clone, Debug)]
pub struct SealedSigner(IdentityKey);

impl SealedSigner {
    fn from_seed(seed: &Seed) -> Self {
        Self(IdentityKey::from_seed(seed))
    }
}

impl Signer for SealedSigner {
    fn public_key(&self) -> PublicKey {
        self.0.public()
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, keywright_protocol::Error> {
        self.0.sign(message)
    }
}

/// A region that this station can issue keys for.
#[derive(Clone, Debug)]
pub struct RegionAnchor {
    region: u32,
    cert: Cert,
    fields: CertFields,
    seed: Seed,
    signer: SealedSigner,
    agent: SealedSigner,
}

impl RegionAnchor {
    /// The region's certificate (role 1, signed by root).
    pub fn cert(&self) -> &Cert {
        &self.cert
    }

    /// SHA-256 of the region's certificate, hex: how lists name the anchor a unit was given.
    pub fn fingerprint(&self) -> String {
        hex::encode(crypto::sha256(&[&self.cert.0]))
    }

    /// The agent's signing key.
    pub fn agent_signer(&self) -> &SealedSigner {
        &self.agent
    }

    /// The agent's certificate for one product order (role 2). The same order gives the same bytes every time.
    pub fn agent_cert(&self, order: &ProductOrder) -> Result<Cert, AnchorsError> {
        self.issue(Role::Agent, AGENT, self.agent.public_key(), order.0)
    }

    /// The unit's own device-tier certificate (role 4); its key is derived from the region's seed and stays there. The
    /// same unit gives the same bytes every time.
    pub fn device_cert(&self, unit: &ProtocolUnitId) -> Result<Cert, AnchorsError> {
        let key = IdentityKey::from_seed(&device_seed(&self.seed, unit, FIRST_EPOCH));
        self.issue(Role::DeviceTier, unit_subject(unit), key.public(), unit_scope(unit))
    }

    fn issue(
        &self,
        role: Role,
        subject: u32,
        public_key: PublicKey,
        scope: [u8; 16],
    ) -> Result<Cert, AnchorsError> {
        CertFields {
            role,
            issuer: self.region,
            subject,
            root_epoch: self.fields.root_epoch,
            epoch: FIRST_EPOCH,
            not_before: self.fields.not_before,
            not_after: NEVER,
            public_key,
            scope,
        }
        .sign(&self.signer)
        .map_err(|e| AnchorsError::Damaged {
            path: format!("region-{}.sealed", self.region),
            detail: e.to_string(),
        })
    }
}

/// The anchors of a station.
#[derive(Clone, Debug)]
pub struct Anchors {
    root: RootAnchor,
    bundle: BundleState,
    regions: BTreeMap<u32, RegionAnchor>,
}

/// What `keywright anchors show` prints: no secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The root's epoch.
    pub root_epoch: u32,
    /// The root's public key, hex.
    pub root_public_key: String,
    /// SHA-256 of the root's public key, hex.
    pub root_fingerprint: String,
    /// SHA-256 of the newest root bundle, hex.
    pub bundle: String,
    /// Hash of the next root's public key, hex.
    pub next_root_commitment: String,
    /// The regions on this station.
    pub regions: Vec<ShownRegion>,
}

/// One region of [`Shown`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownRegion {
    /// Its number.
    pub region: u32,
    /// Its certificate's epoch.
    pub epoch: u32,
    /// SHA-256 of its certificate, hex.
    pub fingerprint: String,
    /// Its public key, hex.
    pub public_key: String,
    /// The agent's public key, hex.
    pub agent_public_key: String,
    /// Unix seconds UTC.
    pub not_before: u64,
    /// Unix seconds UTC; `None` = never ends.
    pub not_after: Option<u64>,
}

struct Files(PathBuf);

impl Files {
    fn root_signing(&self) -> SealedFile {
        SealedFile::at(self.0.join("root-signing.sealed"))
    }
    fn root_secret(&self) -> SealedFile {
        SealedFile::at(self.0.join("root-secret.sealed"))
    }
    fn bundle(&self) -> PathBuf {
        self.0.join("root.bundle")
    }
    fn region(&self, region: u32) -> SealedFile {
        SealedFile::at(self.0.join(format!("region-{region}.sealed")))
    }
    fn region_cert(&self, region: u32) -> PathBuf {
        self.0.join(format!("region-{region}.cert"))
    }
    fn agent(&self, region: u32) -> SealedFile {
        SealedFile::at(self.0.join(format!("agent-{region}.sealed")))
    }
    fn missing(&self) -> AnchorsError {
        AnchorsError::Missing { path: self.0.display().to_string() }
    }
}

fn damaged(path: &Path, detail: impl std::fmt::Display) -> AnchorsError {
    AnchorsError::Damaged { path: path.display().to_string(), detail: detail.to_string() }
}

fn read_public(path: &Path) -> Result<Vec<u8>, AnchorsError> {
    std::fs::read(path).map_err(|e| damaged(path, e))
}

fn read_seed(file: &SealedFile, key: &StationKey) -> Result<Seed, AnchorsError> {
    let bytes = file.read(key)?;
    let seed: [u8; 32] = bytes.as_slice().try_into().map_err(|_| damaged(file.path(), "wrong length"))?;
    Ok(Seed::from_bytes(seed))
}

impl Anchors {
    /// Whether a home has anchors.
    pub fn exist(home: &Path) -> bool {
        Files(home.join("anchors")).bundle().exists()
    }

    /// Makes the root if there is none, and every named region that is not there yet; then opens them all. Running it
    /// again changes nothing; a run that was cut short is completed.
    pub fn init(home: &Path, key: &StationKey, regions: &[u32]) -> Result<Self, AnchorsError> {
        let files = Files(home.join("anchors"));
        std::fs::create_dir_all(&files.0)
            .map_err(|source| SecretsError::File { path: files.0.display().to_string(), source })?;
        if regions.contains(&0) {
            return Err(AnchorsError::BadRegion);
        }
        let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
        // The public bundle is written last: it says that the root is whole.
        if !files.bundle().exists() {
            Self::make_root(&files, key, now)?;
        }
        let (root, _) = read_bundle(&files)?;
        let seeds = files.root_signing().read(key)?;
        let (seed, _) = seeds
            .split_first_chunk::<32>()
            .ok_or_else(|| damaged(files.root_signing().path(), "wrong length"))?;
        let signer = SealedSigner::from_seed(&Seed::from_bytes(*seed));
        if signer.public_key() != root.key {
            return Err(damaged(files.root_signing().path(), "it is not this root's key"));
        }
        let secret: Secret<32> = Secret::from_slice(&files.root_secret().read(key)?)
            .ok_or_else(|| damaged(files.root_secret().path(), "wrong length"))?;
        for region in regions {
            // The certificate is written last, for the same reason.
            if !files.region_cert(*region).exists() {
                let seed = region_seed(secret.expose(), Region(*region), FIRST_EPOCH);
                files.region(*region).write(key, seed.expose())?;
                files.agent(*region).write(key, Secret::<32>::random()?.expose())?;
                let cert = CertFields {
                    role: Role::Region,
                    issuer: 0,
                    subject: *region,
                    root_epoch: root.epoch,
                    epoch: FIRST_EPOCH,
                    not_before: now,
                    not_after: NEVER,
                    public_key: IdentityKey::from_seed(&seed).public(),
                    scope: [0; 16],
                }
                .sign(&signer)
                .map_err(|e| damaged(files.root_signing().path(), e))?;
                write_atomically(&files.region_cert(*region), &cert.0)?;
            }
        }
        Self::open(home, key)
    }

    fn make_root(files: &Files, key: &StationKey, now: u64) -> Result<(), AnchorsError> {
        let root = Seed::from_bytes(random()?);
        let next = Seed::from_bytes(random()?);
        let mut seeds = zeroize::Zeroizing::new([0u8; 64]);
        seeds[..32].copy_from_slice(root.expose());
        seeds[32..].copy_from_slice(next.expose());
        files.root_signing().write(key, seeds.as_ref())?;
        files.root_secret().write(key, Secret::<32>::random()?.expose())?;
        let signer = SealedSigner::from_seed(&root);
        let mut scratch = [0u8; 15 + MAX_BUNDLE];
        let mut bundle = vec![0u8; bundle_len(0)];
        NewBundle {
            epoch: FIRST_EPOCH,
            prev: [0; 32],
            next_commit: crypto::sha256(&[&IdentityKey::from_seed(&next).public().0]),
            valid_from: now,
            floors: &[],
        }
        .sign(&signer, &signer, &mut scratch, &mut bundle)
        .map_err(|e| damaged(&files.bundle(), e))?;
        write_atomically(&files.bundle(), &bundle)?;
        Ok(())
    }

    /// Opens the anchors of a home: every region that is there. The root's secrets stay closed.
    pub fn open(home: &Path, key: &StationKey) -> Result<Self, AnchorsError> {
        let files = Files(home.join("anchors"));
        if !files.bundle().exists() {
            return Err(files.missing());
        }
        let (root, bundle) = read_bundle(&files)?;
        let mut regions = BTreeMap::new();
        let entries = std::fs::read_dir(&files.0).map_err(|e| damaged(&files.0, e))?;
        for entry in entries {
            let name = entry.map_err(|e| damaged(&files.0, e))?.file_name();
            let number = name
                .to_str()
                .and_then(|n| n.strip_prefix("region-"))
                .and_then(|n| n.strip_suffix(".cert"))
                .and_then(|n| n.parse::<u32>().ok());
            if let Some(region) = number {
                regions.insert(region, open_region(&files, key, region, &root)?);
            }
        }
        Ok(Self { root, bundle, regions })
    }

    /// The root anchor that stage one writes to every unit.
    pub fn root(&self) -> RootAnchor {
        self.root
    }

    /// The newest root bundle's hash and commitment, for the same record.
    pub fn bundle(&self) -> BundleState {
        self.bundle
    }

    /// One region.
    pub fn region(&self, region: u32) -> Result<&RegionAnchor, AnchorsError> {
        self.regions.get(&region).ok_or(AnchorsError::NoRegion { region })
    }

    /// The regions on this station, ascending.
    pub fn regions(&self) -> impl Iterator<Item = u32> + '_ {
        self.regions.keys().copied()
    }

    /// Fingerprints, epochs, ends; no secrets.
    pub fn show(&self) -> Shown {
        Shown {
            root_epoch: self.root.epoch,
            root_public_key: hex::encode(self.root.key.0),
            root_fingerprint: hex::encode(crypto::sha256(&[&self.root.key.0])),
            bundle: hex::encode(self.bundle.hash),
            next_root_commitment: hex::encode(self.bundle.next_commit),
            regions: self
                .regions
                .values()
                .map(|r| ShownRegion {
                    region: r.region,
                    epoch: r.fields.epoch,
                    fingerprint: r.fingerprint(),
                    public_key: hex::encode(r.fields.public_key.0),
                    agent_public_key: hex::encode(r.agent.public_key().0),
                    not_before: r.fields.not_before,
                    not_after: (r.fields.not_after != NEVER).then_some(r.fields.not_after),
                })
                .collect(),
        }
    }
}

/// The first bundle is signed by its own root twice; what pins it is that every unit of this station carries its hash.
fn read_bundle(files: &Files) -> Result<(RootAnchor, BundleState), AnchorsError> {
    let path = files.bundle();
    let bytes = read_public(&path)?;
    let key: [u8; 32] =
        bytes.get(44..76).and_then(|k| k.try_into().ok()).ok_or_else(|| damaged(&path, "it is too short"))?;
    let before = RootAnchor { epoch: FIRST_EPOCH - 1, key: PublicKey(key) };
    let stored = BundleState { hash: [0; 32], next_commit: crypto::sha256(&[&key]) };
    let bundle = Bundle::verify(&bytes, &before, &stored).map_err(|e| damaged(&path, e))?;
    Ok((*bundle.anchor(), *bundle.state()))
}

fn open_region(
    files: &Files,
    key: &StationKey,
    region: u32,
    root: &RootAnchor,
) -> Result<RegionAnchor, AnchorsError> {
    let path = files.region_cert(region);
    let cert = Cert::from_slice(&read_public(&path)?).map_err(|e| damaged(&path, e))?;
    let trust = Trust {
        root: &root.key,
        root_epoch: root.epoch,
        floors: &[],
        time_floor: 0,
        order: ProductOrder([0; 16]),
        unit: ProtocolUnitId([0; 12]),
        region: Region(region),
        region_cert: None,
    };
    let fields = *trust.verify_region(&cert).map_err(|e| damaged(&path, e))?.fields();
    let seed = read_seed(&files.region(region), key)?;
    let signer = SealedSigner::from_seed(&seed);
    if signer.public_key() != fields.public_key {
        return Err(damaged(files.region(region).path(), "it is not the key in the region's certificate"));
    }
    let agent = SealedSigner::from_seed(&read_seed(&files.agent(region), key)?);
    Ok(RegionAnchor { region, cert, fields, seed, signer, agent })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::{KdfCost, Passphrase};

    fn home() -> (tempfile::TempDir, StationKey) {
        let key = StationKey::create(&Passphrase::demo(), KdfCost::TEST).unwrap();
        (tempfile::tempdir().unwrap(), key)
    }

    #[test]
    fn init_is_idempotent_and_adds_regions() {
        let (home, key) = home();
        assert!(matches!(Anchors::open(home.path(), &key), Err(AnchorsError::Missing { .. })));
        let first = Anchors::init(home.path(), &key, &[7]).unwrap();
        let second = Anchors::init(home.path(), &key, &[7, 9]).unwrap();
        assert_eq!(first.show().root_public_key, second.show().root_public_key);
        assert_eq!(first.show().regions[0], second.show().regions[0]);
        assert_eq!(second.regions().collect::<Vec<_>>(), [7, 9]);
        assert_eq!(Anchors::open(home.path(), &key).unwrap().show(), second.show());
        assert!(matches!(second.region(8), Err(AnchorsError::NoRegion { region: 8 })));
        assert!(matches!(Anchors::init(home.path(), &key, &[0]), Err(AnchorsError::BadRegion)));
    }

    #[test]
    fn a_unit_accepts_what_its_own_region_issues_and_nothing_else() {
        let (home, key) = home();
        let anchors = Anchors::init(home.path(), &key, &[1, 2]).unwrap();
        let (order, unit) = (ProductOrder::from_text("PO-1").unwrap(), ProtocolUnitId(*b"unit-number1"));
        let root = anchors.root();
        let trust = |region| Trust {
            root: &root.key,
            root_epoch: root.epoch,
            floors: &[],
            time_floor: 0,
            order,
            unit,
            region: Region(region),
            region_cert: None,
        };
        let one = anchors.region(1).unwrap();
        let agent = one.agent_cert(&order).unwrap();
        trust(1).verify_agent_chain(one.cert(), &agent).unwrap();
        assert!(trust(2).verify_agent_chain(one.cert(), &agent).is_err());
        let region = trust(1).verify_region(one.cert()).unwrap();
        trust(1).verify_device_tier(&region, &one.device_cert(&unit).unwrap()).unwrap();
        let other = anchors.region(2).unwrap().device_cert(&unit).unwrap();
        assert!(trust(1).verify_device_tier(&region, &other).is_err());
        assert_eq!(one.device_cert(&unit).unwrap(), one.device_cert(&unit).unwrap(), "deterministic");
    }

    #[test]
    fn exchanged_and_altered_files_are_found_and_nothing_secret_is_shown() {
        let (home, key) = home();
        let anchors = Anchors::init(home.path(), &key, &[1, 2]).unwrap();
        let folder = home.path().join("anchors");
        let seed = hex::encode(SealedFile::at(folder.join("region-1.sealed")).read(&key).unwrap());
        for text in [format!("{anchors:?}"), serde_json::to_string(&anchors.show()).unwrap()] {
            assert!(!text.contains(&seed));
        }
        let bundle = std::fs::read(folder.join("root.bundle")).unwrap();
        let mut bad = bundle.clone();
        bad[50] ^= 1;
        std::fs::write(folder.join("root.bundle"), &bad).unwrap();
        assert!(matches!(Anchors::open(home.path(), &key), Err(AnchorsError::Damaged { .. })));
        std::fs::write(folder.join("root.bundle"), &bundle).unwrap();
        std::fs::copy(folder.join("region-2.cert"), folder.join("region-1.cert")).unwrap();
        assert!(matches!(Anchors::open(home.path(), &key), Err(AnchorsError::Damaged { .. })));
        let wrong = StationKey::create(&Passphrase::demo(), KdfCost::TEST).unwrap();
        assert!(matches!(
            Anchors::open(home.path(), &wrong),
            Err(AnchorsError::Damaged { .. } | AnchorsError::Secrets(_))
        ));
    }
}
