//! The anchors: root, regions, agents; HKDF-derived Ed25519 seeds (seed 000, PROTOCOL §6), or keys made in a token.
//!
//! ```text
//! anchors/ root-signing.sealed   Ed25519 seed of the root ‖ seed of the root after it (its hash is committed to)
//!          root-signing.token    instead of it: which two pairs in a token are those keys, public
//!          root-secret.sealed    root_secret, from which regions are derived; kept apart from the signing key
//!          root.bundle           the first root bundle, public
//!          region-<n>.cert       the region's certificate, public; region-<n>.name: what people call it
//!          region-<n>.sealed     region_seed
//!          agent-<n>.sealed      Ed25519 seed of the agent of that region
//!          region-<n>.token      instead of both: which objects in a token are region, agent and units' secret, public
//!          …-<n>.e<k>.…          the same for epoch k; without it, epoch 1
//! ```
//!
//! Invariants:
//! - The root's files are opened by making regions and epochs only; issuing keys to units needs a region and its agent.
//! - Opening verifies everything that is public against the root, and every sealed key against its certificate: a file that was
//!   exchanged is found before a unit is given anything. A token is not asked before it is needed; then each of its signatures is
//!   verified.
//! - A sealed region's key follows from root_secret, region and epoch; nothing is stored twice. A region whose keys live in a token
//!   leaves no secret in this folder.
//! - The certificate is written last: what was cut short is not there. The newest epoch counts, the earlier ones stay to be shown.

use crate::failure::{Failure, FailureCode};
use crate::hsm::{Door, HsmError, KeyId, TokenSigner};
use crate::secrets::{SealedFile, Secret, SecretsError, StationKey, random, write_atomically};
use keywright_protocol::anchors::{Bundle, MAX_BUNDLE, NewBundle, bundle_len, device_seed, region_seed};
use keywright_protocol::cert::{Cert, CertFields, NEVER, Role, Trust, unit_scope, unit_subject};
use keywright_protocol::crypto;
use keywright_protocol::keys::Seed;
use keywright_protocol::record::{BundleState, RootAnchor};
use keywright_protocol::{
    IdentityKey, ProductOrder, PublicKey, Region, Signature, Signer, UnitId as ProtocolUnitId,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// The epoch of a new root, of its regions' first certificates and of the units' certificates under them.
const FIRST_EPOCH: u32 = 1;
/// The agent's number within its region.
const AGENT: u32 = 1;
/// The longest validity that can be asked for, in days: a hundred years.
pub const MAX_DAYS: u32 = 36_525;
/// The longest name of a region, in characters.
pub const MAX_NAME: usize = 40;
/// What a token's secret of units is asked for, to know it again.
const CHECK: &[u8] = b"keywright/units/check/v1";

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
    /// The certificate is here and the keys are not.
    #[error("the keys of {what} are not on this station")]
    KeysElsewhere {
        /// Whose.
        what: String,
    },
    /// 0 is no region.
    #[error("region 0 can't be used: regions are numbered from 1")]
    BadRegion,
    /// It is here already.
    #[error("region {region} is on this station already")]
    Exists {
        /// It.
        region: u32,
    },
    /// A name or a validity that can't be.
    #[error("{0}")]
    Unfit(&'static str),
    /// Its certificate has ended.
    #[error("region {region}, epoch {epoch}, ended {ended}")]
    Expired {
        /// The region.
        region: u32,
        /// Its newest epoch.
        epoch: u32,
        /// When, for people.
        ended: String,
    },
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
    /// A token.
    #[error(transparent)]
    Token(#[from] HsmError),
}

impl From<AnchorsError> for Failure {
    fn from(error: AnchorsError) -> Self {
        match error {
            AnchorsError::Token(error) => error.into(),
            AnchorsError::Expired { .. } => Failure::new(FailureCode::RegionExpired, error),
            AnchorsError::Exists { .. } => Failure::new(FailureCode::NameTaken, error),
            AnchorsError::Unfit(_) => Failure::new(FailureCode::InvalidInput, error),
            other => Failure::new(FailureCode::AnchorsMissing, other),
        }
    }
}

/// An Ed25519 key that lives in a sealed file: unsealed once, wiped when dropped.
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

/// A signing key in one of its two homes. Everything that root, region or agent sign is signed through the protocol's [`Signer`].
#[derive(Clone, Debug)]
pub enum SigningKey {
    /// In a sealed file.
    Sealed(SealedSigner),
    /// In a token.
    Token(TokenSigner),
}

impl SigningKey {
    /// Why the last signature failed; a sealed key never fails.
    pub fn trouble(&self) -> Option<HsmError> {
        match self {
            Self::Sealed(_) => None,
            Self::Token(key) => key.trouble(),
        }
    }

    /// What to say when signing with this key failed.
    fn why(&self, path: &Path, error: keywright_protocol::Error) -> AnchorsError {
        self.trouble().map_or_else(|| damaged(path, error), AnchorsError::Token)
    }
}

impl Signer for SigningKey {
    fn public_key(&self) -> PublicKey {
        match self {
            Self::Sealed(key) => key.public_key(),
            Self::Token(key) => key.public_key(),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, keywright_protocol::Error> {
        match self {
            Self::Sealed(key) => key.sign(message),
            Self::Token(key) => key.sign(message),
        }
    }
}

/// Where signing keys live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum KeyHome {
    /// In a sealed file in the station's home.
    Sealed {
        /// Its name.
        file: String,
    },
    /// In a token, from which they can't be taken.
    Token {
        /// Its label.
        token: String,
        /// Its serial number.
        serial: String,
    },
    /// Not on this station.
    Elsewhere,
}

/// Where new keys are to live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NewHome {
    /// In sealed files; the region's key is derived from the root's secret.
    #[default]
    Sealed,
    /// In the token that station.toml names; they are made in it.
    Token,
}

/// A region to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRegion {
    /// Its number, from 1.
    pub region: u32,
    /// What people call it; may be empty.
    pub name: String,
    /// For how many days its certificate is valid; `None`: without end.
    pub days: Option<u32>,
    /// Where its keys live.
    pub home: NewHome,
    /// Where the root's keys live, if there is no root yet.
    pub root_home: NewHome,
}

impl NewRegion {
    /// A region with nothing special.
    pub fn plain(region: u32) -> Self {
        Self { region, ..Self::default() }
    }

    /// Whether it could be made on some station.
    ///
    /// # Errors
    /// What can't be.
    pub fn check(&self) -> Result<(), AnchorsError> {
        if self.region == 0 {
            return Err(AnchorsError::BadRegion);
        }
        check_name(&self.name)?;
        check_days(self.days)
    }
}

fn check_name(name: &str) -> Result<(), AnchorsError> {
    if name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(AnchorsError::Unfit("a region's name has up to 40 printable characters"));
    }
    Ok(())
}

fn check_days(days: Option<u32>) -> Result<(), AnchorsError> {
    match days {
        Some(0) => Err(AnchorsError::Unfit("a certificate is valid for at least one day")),
        Some(days) if days > MAX_DAYS => Err(AnchorsError::Unfit(
            "a certificate is valid for at most 36525 days; leave the days out for no end",
        )),
        _ => Ok(()),
    }
}

/// From what units' own keys are made.
#[derive(Clone, Debug)]
enum UnitKeys {
    /// The region's seed.
    Seed(Seed),
    /// A secret in a token. It is the protocol's `Extract` already, so that `Expand` is one HMAC-SHA-256, which tokens do.
    Token { door: Arc<Door>, label: String, id: KeyId, check: [u8; 8], known: Arc<OnceLock<()>> },
}

impl UnitKeys {
    fn seed(&self, unit: &ProtocolUnitId) -> Result<Seed, HsmError> {
        match self {
            Self::Seed(seed) => Ok(device_seed(seed, unit, FIRST_EPOCH)),
            Self::Token { door, label, id, check, known } => {
                let what = "secret of its units";
                if known.get().is_none() {
                    let told = door.mac(label, id, CHECK, what)?;
                    if told[..8] != check[..] {
                        return Err(HsmError::OtherKey { label: label.clone(), what: what.into() });
                    }
                    let _ = known.set(());
                }
                Ok(Seed::from_bytes(door.mac(label, id, &expand_info(unit), what)?))
            }
        }
    }
}

/// What HKDF's `Expand` feeds to its only HMAC for a unit's seed (RFC 5869 §2.3).
fn expand_info(unit: &ProtocolUnitId) -> Vec<u8> {
    [b"HTA/device/v1".as_slice(), &unit.0, &[1]].concat()
}

/// A region that this station can issue keys for.
#[derive(Clone, Debug)]
pub struct RegionAnchor {
    region: u32,
    cert: Cert,
    fields: CertFields,
    file: PathBuf,
    units: UnitKeys,
    signer: SigningKey,
    agent: SigningKey,
}

impl RegionAnchor {
    /// The region's certificate (role 1, signed by root).
    pub fn cert(&self) -> &Cert {
        &self.cert
    }

    /// SHA-256 of the region's certificate, hex: how lists name the anchor a unit was given.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.cert)
    }

    /// The agent's signing key.
    pub fn agent_signer(&self) -> &SigningKey {
        &self.agent
    }

    /// Refuses a region whose certificate has ended: its units would refuse what it issues.
    ///
    /// # Errors
    /// `Expired`.
    pub fn check_valid(&self) -> Result<(), AnchorsError> {
        if self.fields.not_after != NEVER && self.fields.not_after < now_s() {
            let ended =
                jiff::Timestamp::from_second(i64::try_from(self.fields.not_after).unwrap_or(i64::MAX));
            return Err(AnchorsError::Expired {
                region: self.region,
                epoch: self.fields.epoch,
                ended: ended.map_or_else(|_| "long ago".into(), |t| t.to_string()),
            });
        }
        Ok(())
    }

    /// The agent's certificate for one product order (role 2). The same order gives the same bytes every time.
    pub fn agent_cert(&self, order: &ProductOrder) -> Result<Cert, AnchorsError> {
        self.issue(Role::Agent, AGENT, self.agent.public_key(), order.0)
    }

    /// The unit's own device-tier certificate (role 4); its key is derived from the region's secret and stays there. The
    /// same unit gives the same bytes every time.
    pub fn device_cert(&self, unit: &ProtocolUnitId) -> Result<Cert, AnchorsError> {
        let key = IdentityKey::from_seed(&self.units.seed(unit)?);
        self.issue(Role::DeviceTier, unit_subject(unit), key.public(), unit_scope(unit))
    }

    /// Sees whether every key of the region is there and works: region, agent, units' secret.
    ///
    /// # Errors
    /// What is missing.
    pub fn try_out(&self) -> Result<(), AnchorsError> {
        for key in [&self.signer, &self.agent] {
            if let SigningKey::Token(key) = key {
                key.try_out()?;
            }
        }
        self.units.seed(&ProtocolUnitId([0; 12])).map(drop).map_err(AnchorsError::Token)
    }

    /// What is issued ends with the certificate that vouches for it.
    fn issue(
        &self,
        role: Role,
        subject: u32,
        public_key: PublicKey,
        scope: [u8; 16],
    ) -> Result<Cert, AnchorsError> {
        self.check_valid()?;
        CertFields {
            role,
            issuer: self.region,
            subject,
            root_epoch: self.fields.root_epoch,
            epoch: FIRST_EPOCH,
            not_before: self.fields.not_before,
            not_after: self.fields.not_after,
            public_key,
            scope,
        }
        .sign(&self.signer)
        .map_err(|e| self.signer.why(&self.file, e))
    }
}

/// One certificate of a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertFacts {
    /// Its epoch.
    pub epoch: u32,
    /// SHA-256 of the certificate, hex.
    pub fingerprint: String,
    /// The region's public key, hex.
    pub public_key: String,
    /// Unix seconds UTC.
    pub not_before: u64,
    /// Unix seconds UTC; `None` = never ends.
    pub not_after: Option<u64>,
    /// Where its keys live.
    pub home: KeyHome,
}

/// The agent of a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgentFacts {
    /// Its public key, hex.
    pub public_key: String,
    /// SHA-256 of its public key, hex.
    pub fingerprint: String,
    /// Where its signing key lives.
    pub home: KeyHome,
}

/// One region as the Trust view shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RegionFacts {
    /// Its number.
    pub region: u32,
    /// What people call it; may be empty.
    pub name: String,
    /// The agent of its newest epoch, while the keys are here.
    pub agent: Option<AgentFacts>,
    /// Its certificates, newest epoch first; the first one counts.
    pub certs: Vec<CertFacts>,
}

/// Everything that is public of the anchors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnchorFacts {
    /// The root's epoch.
    pub root_epoch: u32,
    /// The root's public key, hex.
    pub root_public_key: String,
    /// SHA-256 of the root's public key, hex.
    pub root_fingerprint: String,
    /// Unix seconds UTC.
    pub root_valid_from: u64,
    /// Hash of the next root's public key, hex.
    pub next_root_commitment: String,
    /// SHA-256 of the newest root bundle, hex.
    pub bundle: String,
    /// Where the root's keys live.
    pub root_home: KeyHome,
    /// The regions, ascending.
    pub regions: Vec<RegionFacts>,
}

/// The anchors of a station.
#[derive(Clone, Debug)]
pub struct Anchors {
    root: RootAnchor,
    bundle: BundleState,
    facts: AnchorFacts,
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
    fn of(home: &Path) -> Self {
        Self(home.join("anchors"))
    }
    fn root_signing(&self) -> SealedFile {
        SealedFile::at(self.0.join("root-signing.sealed"))
    }
    fn root_token(&self) -> PathBuf {
        self.0.join("root-signing.token")
    }
    fn root_secret(&self) -> SealedFile {
        SealedFile::at(self.0.join("root-secret.sealed"))
    }
    fn bundle(&self) -> PathBuf {
        self.0.join("root.bundle")
    }
    /// The first epoch has none in its names: they are from before there were others.
    fn named(&self, what: &str, region: u32, epoch: u32, kind: &str) -> PathBuf {
        self.0.join(match epoch {
            FIRST_EPOCH => format!("{what}-{region}.{kind}"),
            later => format!("{what}-{region}.e{later}.{kind}"),
        })
    }
    fn region(&self, region: u32, epoch: u32) -> SealedFile {
        SealedFile::at(self.named("region", region, epoch, "sealed"))
    }
    fn region_cert(&self, region: u32, epoch: u32) -> PathBuf {
        self.named("region", region, epoch, "cert")
    }
    fn region_token(&self, region: u32, epoch: u32) -> PathBuf {
        self.named("region", region, epoch, "token")
    }
    fn agent(&self, region: u32, epoch: u32) -> SealedFile {
        SealedFile::at(self.named("agent", region, epoch, "sealed"))
    }
    fn name(&self, region: u32) -> PathBuf {
        self.0.join(format!("region-{region}.name"))
    }
    fn missing(&self) -> AnchorsError {
        AnchorsError::Missing { path: self.0.display().to_string() }
    }

    /// Every certificate of a region: region and epoch, ascending.
    fn certs(&self) -> Result<Vec<(u32, u32)>, AnchorsError> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.0).map_err(|e| damaged(&self.0, e))? {
            let name = entry.map_err(|e| damaged(&self.0, e))?.file_name();
            let stem = name.to_str().and_then(|n| n.strip_prefix("region-")?.strip_suffix(".cert"));
            let number = stem.and_then(|stem| match stem.split_once(".e") {
                None => Some((stem.parse().ok()?, FIRST_EPOCH)),
                Some((region, epoch)) => Some((region.parse().ok()?, epoch.parse().ok()?)),
            });
            // Another spelling of the same numbers is another file.
            all.extend(number.filter(|(r, e)| self.region_cert(*r, *e).file_name() == Some(&name)));
        }
        all.sort_unstable();
        Ok(all)
    }
}

/// Which objects in a token are whose; public.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    token: String,
    serial: String,
    keys: BTreeMap<String, TokenKey>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenKey {
    id: String,
    /// The public key of a pair, or the check value of a secret.
    public: String,
}

impl TokenFile {
    fn read(path: &Path) -> Result<Self, AnchorsError> {
        serde_json::from_slice(&read_public(path)?).map_err(|e| damaged(path, e))
    }

    fn write(&self, path: &Path) -> Result<(), AnchorsError> {
        let text = serde_json::to_vec_pretty(self).map_err(|e| damaged(path, e))?;
        Ok(write_atomically(path, &text)?)
    }

    fn key<const N: usize>(&self, path: &Path, name: &str) -> Result<(KeyId, [u8; N]), AnchorsError> {
        let parsed = self.keys.get(name).and_then(|key| {
            let (mut id, mut public) = ([0; 16], [0; N]);
            hex::decode_to_slice(&key.id, &mut id).ok()?;
            hex::decode_to_slice(&key.public, &mut public).ok()?;
            Some((id, public))
        });
        parsed.ok_or_else(|| damaged(path, format!("it names no {name} key")))
    }

    fn home(&self) -> KeyHome {
        KeyHome::Token { token: self.token.clone(), serial: self.serial.clone() }
    }

    fn signer(
        &self,
        path: &Path,
        door: &Arc<Door>,
        name: &str,
        what: String,
    ) -> Result<SigningKey, AnchorsError> {
        let (id, public) = self.key::<32>(path, name)?;
        Ok(SigningKey::Token(TokenSigner::new(door.clone(), &self.token, id, PublicKey(public), what)))
    }
}

/// Makes the keys of one owner in the token that station.toml names; whatever was made goes again if the rest fails.
struct TokenMaker<'a> {
    door: &'a Arc<Door>,
    file: TokenFile,
    made: Vec<KeyId>,
    done: bool,
}

impl<'a> TokenMaker<'a> {
    fn begin(door: &'a Arc<Door>) -> Result<Self, AnchorsError> {
        let label = door.label().ok_or_else(|| {
            AnchorsError::Token(HsmError::NotConfigured { label: "?".into(), why: "station.toml names none" })
        })?;
        let seen = door.unlock(label)?;
        let file = TokenFile { token: seen.label, serial: seen.serial, keys: BTreeMap::new() };
        Ok(Self { door, file, made: Vec::new(), done: false })
    }

    fn id(&mut self) -> Result<KeyId, AnchorsError> {
        let id = random()?;
        self.made.push(id);
        Ok(id)
    }

    fn pair(&mut self, name: &str, label: &str) -> Result<PublicKey, AnchorsError> {
        let id = self.id()?;
        let public = self.door.make_key_pair(&self.file.token, &id, label)?;
        let key = TokenKey { id: hex::encode(id), public: hex::encode(public.0) };
        self.file.keys.insert(name.to_owned(), key);
        Ok(public)
    }

    fn secret(&mut self, name: &str, label: &str) -> Result<(), AnchorsError> {
        let id = self.id()?;
        self.door.make_secret(&self.file.token, &id, label)?;
        let check = self.door.mac(&self.file.token, &id, CHECK, label)?;
        let key = TokenKey { id: hex::encode(id), public: hex::encode(&check[..8]) };
        self.file.keys.insert(name.to_owned(), key);
        Ok(())
    }
}

impl Drop for TokenMaker<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.made.iter().for_each(|id| self.door.destroy(&self.file.token, id));
        }
    }
}

fn now_s() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
}

fn fingerprint(cert: &Cert) -> String {
    hex::encode(crypto::sha256(&[&cert.0]))
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

fn file_name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

impl Anchors {
    /// Whether a home has anchors.
    pub fn exist(home: &Path) -> bool {
        Files::of(home).bundle().exists()
    }

    /// Makes the root if there is none, and every named region that is not there yet, in sealed files; then opens them all. Running
    /// it again changes nothing; a run that was cut short is completed.
    pub fn init(home: &Path, key: &StationKey, regions: &[u32]) -> Result<Self, AnchorsError> {
        let door = Door::nowhere();
        if regions.contains(&0) {
            return Err(AnchorsError::BadRegion);
        }
        Self::ready_root(home, key, &door, NewHome::Sealed)?;
        for region in regions {
            if !Files::of(home).region_cert(*region, FIRST_EPOCH).exists() {
                Self::issue_epoch(home, key, &door, FIRST_EPOCH, &NewRegion::plain(*region))?;
            }
        }
        Self::open_with(home, key, &door)
    }

    /// Makes a region, and the root if there is none. One that is there already stays as it is.
    pub fn make(
        home: &Path,
        key: &StationKey,
        door: &Arc<Door>,
        new: &NewRegion,
    ) -> Result<Self, AnchorsError> {
        new.check()?;
        Self::ready_root(home, key, door, new.root_home)?;
        let files = Files::of(home);
        if !files.region_cert(new.region, FIRST_EPOCH).exists() {
            Self::issue_epoch(home, key, door, FIRST_EPOCH, new)?;
            Self::write_name(&files, new.region, &new.name)?;
        }
        Self::open_with(home, key, door)
    }

    /// Gives a region its next epoch: a new key and a new certificate, for itself and for its agent. Units get it with their next
    /// cloud key; what they hold is good until then. There is no way back.
    pub fn rotate(
        home: &Path,
        key: &StationKey,
        door: &Arc<Door>,
        (region, days, new_home): (u32, Option<u32>, NewHome),
    ) -> Result<Self, AnchorsError> {
        check_days(days)?;
        let files = Files::of(home);
        if !files.bundle().exists() {
            return Err(files.missing());
        }
        let newest = files.certs()?.into_iter().filter(|(r, _)| *r == region).map(|(_, epoch)| epoch).max();
        let epoch = newest.ok_or(AnchorsError::NoRegion { region })?;
        let epoch = epoch.checked_add(1).ok_or(AnchorsError::Unfit("the region's epochs are used up"))?;
        let new = NewRegion { days, home: new_home, ..NewRegion::plain(region) };
        Self::issue_epoch(home, key, door, epoch, &new)?;
        Self::open_with(home, key, door)
    }

    /// Calls a region by another name; an empty one takes it away.
    pub fn rename(home: &Path, region: u32, name: &str) -> Result<(), AnchorsError> {
        check_name(name)?;
        let files = Files::of(home);
        if !files.region_cert(region, FIRST_EPOCH).exists() {
            return Err(AnchorsError::NoRegion { region });
        }
        Self::write_name(&files, region, name)
    }

    fn write_name(files: &Files, region: u32, name: &str) -> Result<(), AnchorsError> {
        let (path, name) = (files.name(region), name.trim());
        if name.is_empty() {
            return match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(damaged(&path, e)),
                _ => Ok(()),
            };
        }
        Ok(write_atomically(&path, name.as_bytes())?)
    }

    fn ready_root(
        home: &Path,
        key: &StationKey,
        door: &Arc<Door>,
        root_home: NewHome,
    ) -> Result<(), AnchorsError> {
        let files = Files::of(home);
        std::fs::create_dir_all(&files.0)
            .map_err(|source| SecretsError::File { path: files.0.display().to_string(), source })?;
        // The public bundle is written last: it says that the root is whole.
        if files.bundle().exists() {
            return Ok(());
        }
        Self::make_root(&files, key, door, root_home)
    }

    /// Makes the keys of one epoch of a region and has the root certify them.
    fn issue_epoch(
        home: &Path,
        key: &StationKey,
        door: &Arc<Door>,
        epoch: u32,
        new: &NewRegion,
    ) -> Result<(), AnchorsError> {
        let files = Files::of(home);
        let region = new.region;
        let (root, _, _) = read_bundle(&files)?;
        let signer = open_root(&files, key, door, &root)?;
        let certify = |public_key: PublicKey| -> Result<(), AnchorsError> {
            let now = now_s();
            let cert = CertFields {
                role: Role::Region,
                issuer: 0,
                subject: region,
                root_epoch: root.epoch,
                epoch,
                not_before: now,
                not_after: new.days.map_or(NEVER, |days| now + u64::from(days) * 86_400),
                public_key,
                scope: [0; 16],
            }
            .sign(&signer)
            .map_err(|e| signer.why(&files.bundle(), e))?;
            // The certificate is written last: it says that the epoch is whole.
            Ok(write_atomically(&files.region_cert(region, epoch), &cert.0)?)
        };
        match new.home {
            NewHome::Sealed => {
                let secret: Secret<32> = Secret::from_slice(&files.root_secret().read(key)?)
                    .ok_or_else(|| damaged(files.root_secret().path(), "wrong length"))?;
                let seed = region_seed(secret.expose(), Region(region), epoch);
                files.region(region, epoch).write(key, seed.expose())?;
                files.agent(region, epoch).write(key, Secret::<32>::random()?.expose())?;
                certify(IdentityKey::from_seed(&seed).public())
            }
            NewHome::Token => {
                let mut maker = TokenMaker::begin(door)?;
                let name = |what: &str| format!("keywright {what} of region {region}, epoch {epoch}");
                let public = maker.pair("region", &name("key"))?;
                maker.pair("agent", &name("agent"))?;
                maker.secret("units", &name("units"))?;
                maker.file.write(&files.region_token(region, epoch))?;
                certify(public)?;
                maker.done = true;
                Ok(())
            }
        }
    }

    fn make_root(
        files: &Files,
        key: &StationKey,
        door: &Arc<Door>,
        home: NewHome,
    ) -> Result<(), AnchorsError> {
        // Regions in sealed files are derived from it, wherever the root signs.
        files.root_secret().write(key, Secret::<32>::random()?.expose())?;
        let (signer, next);
        let mut maker = None;
        match home {
            NewHome::Sealed => {
                let seeds = [Seed::from_bytes(random()?), Seed::from_bytes(random()?)];
                let mut both = zeroize::Zeroizing::new([0u8; 64]);
                both[..32].copy_from_slice(seeds[0].expose());
                both[32..].copy_from_slice(seeds[1].expose());
                files.root_signing().write(key, both.as_ref())?;
                signer = SigningKey::Sealed(SealedSigner::from_seed(&seeds[0]));
                next = IdentityKey::from_seed(&seeds[1]).public();
            }
            NewHome::Token => {
                let made = maker.insert(TokenMaker::begin(door)?);
                made.pair("root", "keywright root, epoch 1")?;
                next = made.pair("next", "keywright root, epoch 2")?;
                made.file.write(&files.root_token())?;
                signer = made.file.signer(&files.root_token(), door, "root", "root's key".into())?;
            }
        }
        let mut scratch = [0u8; 15 + MAX_BUNDLE];
        let mut bundle = vec![0u8; bundle_len(0)];
        NewBundle {
            epoch: FIRST_EPOCH,
            prev: [0; 32],
            next_commit: crypto::sha256(&[&next.0]),
            valid_from: now_s(),
            floors: &[],
        }
        .sign(&signer, &signer, &mut scratch, &mut bundle)
        .map_err(|e| signer.why(&files.bundle(), e))?;
        write_atomically(&files.bundle(), &bundle)?;
        if let Some(made) = &mut maker {
            made.done = true;
        }
        Ok(())
    }

    /// Opens the anchors of a home whose keys are all in sealed files; see [`Anchors::open_with`].
    pub fn open(home: &Path, key: &StationKey) -> Result<Self, AnchorsError> {
        Self::open_with(home, key, &Door::nowhere())
    }

    /// Opens the anchors of a home: every region that is there. The root's secrets stay closed, and no token is asked.
    pub fn open_with(home: &Path, key: &StationKey, door: &Arc<Door>) -> Result<Self, AnchorsError> {
        let files = Files::of(home);
        if !files.bundle().exists() {
            return Err(files.missing());
        }
        let (root, bundle, valid_from) = read_bundle(&files)?;
        let mut facts = AnchorFacts {
            root_epoch: root.epoch,
            root_public_key: hex::encode(root.key.0),
            root_fingerprint: hex::encode(crypto::sha256(&[&root.key.0])),
            root_valid_from: valid_from,
            next_root_commitment: hex::encode(bundle.next_commit),
            bundle: hex::encode(bundle.hash),
            root_home: if files.root_token().exists() {
                TokenFile::read(&files.root_token())?.home()
            } else if files.root_signing().path().exists() {
                KeyHome::Sealed { file: file_name(files.root_signing().path()) }
            } else {
                KeyHome::Elsewhere
            },
            regions: Vec::new(),
        };
        let mut regions = BTreeMap::new();
        for (region, epoch) in files.certs()? {
            let path = files.region_cert(region, epoch);
            let (cert, fields) = read_region(&path, region, &root)?;
            if fields.epoch != epoch {
                return Err(damaged(&path, format!("it is of epoch {}", fields.epoch)));
            }
            let home = region_home(&files, region, epoch)?;
            let shown = CertFacts {
                epoch,
                fingerprint: fingerprint(&cert),
                public_key: hex::encode(fields.public_key.0),
                not_before: fields.not_before,
                not_after: (fields.not_after != NEVER).then_some(fields.not_after),
                home: home.clone(),
            };
            match facts.regions.last_mut().filter(|r| r.region == region) {
                Some(known) => known.certs.insert(0, shown),
                None => facts.regions.push(RegionFacts {
                    region,
                    name: read_name(&files, region),
                    agent: None,
                    certs: vec![shown],
                }),
            }
            // They ascend: what is opened last is the newest, and an epoch without its keys leaves none.
            match open_region(&files, key, door, (region, epoch), (cert, fields), &home)? {
                Some(open) => regions.insert(region, open),
                None => regions.remove(&region),
            };
        }
        for known in &mut facts.regions {
            let (Some(open), Some(newest)) = (regions.get(&known.region), known.certs.first()) else {
                continue;
            };
            let key = open.agent.public_key().0;
            let home = match &newest.home {
                // A file of its own; in a token it lies beside the region's key.
                KeyHome::Sealed { .. } => {
                    KeyHome::Sealed { file: file_name(files.agent(known.region, newest.epoch).path()) }
                }
                other => other.clone(),
            };
            let fingerprint = hex::encode(crypto::sha256(&[&key]));
            known.agent = Some(AgentFacts { public_key: hex::encode(key), fingerprint, home });
        }
        Ok(Self { root, bundle, facts, regions })
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
        self.regions.get(&region).ok_or_else(|| {
            if self.facts.regions.iter().any(|r| r.region == region) {
                AnchorsError::KeysElsewhere { what: format!("region {region}") }
            } else {
                AnchorsError::NoRegion { region }
            }
        })
    }

    /// The regions on this station, ascending.
    pub fn regions(&self) -> impl Iterator<Item = u32> + '_ {
        self.regions.keys().copied()
    }

    /// Everything that is public.
    pub fn facts(&self) -> &AnchorFacts {
        &self.facts
    }

    /// The tokens that keys of the regions live in, each once.
    pub fn tokens(&self) -> Vec<String> {
        let mut all: Vec<_> =
            self.facts.regions.iter().filter_map(|r| r.certs.first()).map(|c| &c.home).collect();
        all.push(&self.facts.root_home);
        let mut labels: Vec<String> = all
            .into_iter()
            .filter_map(|home| match home {
                KeyHome::Token { token, .. } => Some(token.clone()),
                _ => None,
            })
            .collect();
        labels.sort();
        labels.dedup();
        labels
    }

    /// Fingerprints, epochs, ends; no secrets.
    pub fn show(&self) -> Shown {
        let facts = &self.facts;
        let regions = facts.regions.iter().filter_map(|r| {
            let newest = r.certs.first()?;
            Some(ShownRegion {
                region: r.region,
                epoch: newest.epoch,
                fingerprint: newest.fingerprint.clone(),
                public_key: newest.public_key.clone(),
                agent_public_key: r.agent.as_ref()?.public_key.clone(),
                not_before: newest.not_before,
                not_after: newest.not_after,
            })
        });
        Shown {
            root_epoch: facts.root_epoch,
            root_public_key: facts.root_public_key.clone(),
            root_fingerprint: facts.root_fingerprint.clone(),
            bundle: facts.bundle.clone(),
            next_root_commitment: facts.next_root_commitment.clone(),
            regions: regions.collect(),
        }
    }
}

/// The first bundle is signed by its own root twice; what pins it is that every unit of this station carries its hash.
fn read_bundle(files: &Files) -> Result<(RootAnchor, BundleState, u64), AnchorsError> {
    let path = files.bundle();
    let bytes = read_public(&path)?;
    let key: [u8; 32] =
        bytes.get(44..76).and_then(|k| k.try_into().ok()).ok_or_else(|| damaged(&path, "it is too short"))?;
    let before = RootAnchor { epoch: FIRST_EPOCH - 1, key: PublicKey(key) };
    let stored = BundleState { hash: [0; 32], next_commit: crypto::sha256(&[&key]) };
    let bundle = Bundle::verify(&bytes, &before, &stored).map_err(|e| damaged(&path, e))?;
    Ok((*bundle.anchor(), *bundle.state(), bundle.valid_from()))
}

/// The root's signing key, which must be the one that the bundle names.
fn open_root(
    files: &Files,
    key: &StationKey,
    door: &Arc<Door>,
    root: &RootAnchor,
) -> Result<SigningKey, AnchorsError> {
    let (token, sealed) = (files.root_token(), files.root_signing());
    let (path, signer) = if token.exists() {
        let signer = TokenFile::read(&token)?.signer(&token, door, "root", "root's key".into())?;
        (token.as_path(), signer)
    } else if sealed.path().exists() {
        let seeds = sealed.read(key)?;
        let (seed, _) =
            seeds.split_first_chunk::<32>().ok_or_else(|| damaged(sealed.path(), "wrong length"))?;
        (sealed.path(), SigningKey::Sealed(SealedSigner::from_seed(&Seed::from_bytes(*seed))))
    } else {
        return Err(AnchorsError::KeysElsewhere { what: "the root".into() });
    };
    if signer.public_key() == root.key { Ok(signer) } else { Err(damaged(path, "it is not this root's key")) }
}

fn read_name(files: &Files, region: u32) -> String {
    // A name that can't be read is no reason to open nothing: it only helps people.
    std::fs::read_to_string(files.name(region)).ok().filter(|n| check_name(n).is_ok()).unwrap_or_default()
}

fn region_home(files: &Files, region: u32, epoch: u32) -> Result<KeyHome, AnchorsError> {
    let (token, sealed) = (files.region_token(region, epoch), files.region(region, epoch));
    if token.exists() {
        return Ok(TokenFile::read(&token)?.home());
    }
    Ok(if sealed.path().exists() {
        KeyHome::Sealed { file: file_name(sealed.path()) }
    } else {
        KeyHome::Elsewhere
    })
}

fn read_region(path: &Path, region: u32, root: &RootAnchor) -> Result<(Cert, CertFields), AnchorsError> {
    let cert = Cert::from_slice(&read_public(path)?).map_err(|e| damaged(path, e))?;
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
    let fields = *trust.verify_region(&cert).map_err(|e| damaged(path, e))?.fields();
    Ok((cert, fields))
}

fn open_region(
    files: &Files,
    key: &StationKey,
    door: &Arc<Door>,
    (region, epoch): (u32, u32),
    (cert, fields): (Cert, CertFields),
    home: &KeyHome,
) -> Result<Option<RegionAnchor>, AnchorsError> {
    let (file, units, signer, agent) = match home {
        KeyHome::Elsewhere => return Ok(None),
        KeyHome::Sealed { .. } => {
            let file = files.region(region, epoch);
            let seed = read_seed(&file, key)?;
            let signer = SigningKey::Sealed(SealedSigner::from_seed(&seed));
            let agent = SealedSigner::from_seed(&read_seed(&files.agent(region, epoch), key)?);
            (file.path().to_owned(), UnitKeys::Seed(seed), signer, SigningKey::Sealed(agent))
        }
        KeyHome::Token { .. } => {
            let path = files.region_token(region, epoch);
            let token = TokenFile::read(&path)?;
            let (id, check) = token.key::<8>(&path, "units")?;
            let units = UnitKeys::Token {
                door: door.clone(),
                label: token.token.clone(),
                id,
                check,
                known: Arc::default(),
            };
            let signer = token.signer(&path, door, "region", format!("key of region {region}"))?;
            let agent = token.signer(&path, door, "agent", format!("agent's key of region {region}"))?;
            (path, units, signer, agent)
        }
    };
    if signer.public_key() != fields.public_key {
        return Err(damaged(&file, "it is not the key in the region's certificate"));
    }
    Ok(Some(RegionAnchor { region, cert, fields, file, units, signer, agent }))
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

    fn trust<'a>(root: &'a RootAnchor, region: u32, unit: ProtocolUnitId, time_floor: u64) -> Trust<'a> {
        Trust {
            root: &root.key,
            root_epoch: root.epoch,
            floors: &[],
            time_floor,
            order: ProductOrder::from_text("PO-1").unwrap(),
            unit,
            region: Region(region),
            region_cert: None,
        }
    }

    #[test]
    fn the_next_epoch_has_new_keys_and_the_units_of_the_old_one_are_still_vouched_for() {
        let (home, key) = home();
        let (door, unit) = (Door::nowhere(), ProtocolUnitId(*b"unit-number1"));
        let new = NewRegion { name: "Europe".into(), days: Some(10), ..NewRegion::plain(7) };
        let first = Anchors::make(home.path(), &key, &door, &new).unwrap();
        let old = first.region(7).unwrap().clone();
        let second = Anchors::rotate(home.path(), &key, &door, (7, None, NewHome::Sealed)).unwrap();
        let (new, root) = (second.region(7).unwrap(), second.root());
        assert_ne!(old.fingerprint(), new.fingerprint());
        assert_ne!(old.agent.public_key(), new.agent.public_key());
        let facts = &second.facts().regions[0];
        assert_eq!((facts.name.as_str(), facts.certs.len()), ("Europe", 2));
        assert_eq!([facts.certs[0].epoch, facts.certs[1].epoch], [2, 1]);
        assert_eq!(facts.certs[1].fingerprint, old.fingerprint());
        assert_eq!(facts.certs[0].home, KeyHome::Sealed { file: "region-7.e2.sealed".into() });
        assert_eq!(second.show().regions[0].epoch, 2, "the newest counts");
        for (anchor, not_after) in [(&old, facts.certs[1].not_after), (new, None)] {
            let trust = trust(&root, 7, unit, 0);
            let region = trust.verify_region(anchor.cert()).unwrap();
            let device = anchor.device_cert(&unit).unwrap();
            let device = *trust.verify_device_tier(&region, &device).unwrap().fields();
            assert_eq!(device.not_after, not_after.unwrap_or(NEVER), "nothing outlives what vouches for it");
        }
        let mixed = trust(&root, 7, unit, 0).verify_region(new.cert()).unwrap();
        assert!(
            trust(&root, 7, unit, 0).verify_device_tier(&mixed, &old.device_cert(&unit).unwrap()).is_err()
        );
        Anchors::rename(home.path(), 7, "EU").unwrap();
        assert_eq!(Anchors::open(home.path(), &key).unwrap().facts().regions[0].name, "EU");
        assert!(matches!(Anchors::rename(home.path(), 8, "x"), Err(AnchorsError::NoRegion { .. })));
        assert!(matches!(
            Anchors::rotate(home.path(), &key, &door, (8, None, NewHome::Sealed)),
            Err(AnchorsError::NoRegion { region: 8 })
        ));
    }

    #[test]
    fn a_certificate_under_the_name_of_another_epoch_is_found() {
        let (home, key) = home();
        Anchors::init(home.path(), &key, &[7]).unwrap();
        let folder = home.path().join("anchors");
        std::fs::copy(folder.join("region-7.cert"), folder.join("region-7.e2.cert")).unwrap();
        let Err(AnchorsError::Damaged { path, .. }) = Anchors::open(home.path(), &key) else {
            panic!("opened")
        };
        assert!(path.ends_with("region-7.e2.cert"), "{path}");
        std::fs::rename(folder.join("region-7.e2.cert"), folder.join("region-7.e01.cert")).unwrap();
        Anchors::open(home.path(), &key).expect("another spelling is another file");
    }

    #[test]
    fn an_ended_region_issues_nothing_and_says_when_it_ended() {
        let (home, key) = home();
        let new = NewRegion { days: Some(1), ..NewRegion::plain(7) };
        let mut anchors = Anchors::make(home.path(), &key, &Door::nowhere(), &new).unwrap();
        let region = anchors.regions.get_mut(&7).unwrap();
        region.check_valid().unwrap();
        region.fields.not_after = 1_700_000_000;
        let error = region.device_cert(&ProtocolUnitId([1; 12])).unwrap_err();
        assert_eq!(error.to_string(), "region 7, epoch 1, ended 2023-11-14T22:13:20Z");
        assert_eq!(Failure::from(error).code, FailureCode::RegionExpired);
        assert!(region.agent_cert(&ProductOrder([1; 16])).is_err());
    }

    #[test]
    fn keys_that_are_taken_away_leave_the_region_to_look_at_but_not_to_use() {
        let (home, key) = home();
        Anchors::init(home.path(), &key, &[7, 8]).unwrap();
        let folder = home.path().join("anchors");
        std::fs::remove_file(folder.join("region-7.sealed")).unwrap();
        std::fs::remove_file(folder.join("root-signing.sealed")).unwrap();
        let anchors = Anchors::open(home.path(), &key).unwrap();
        assert!(matches!(anchors.region(7), Err(AnchorsError::KeysElsewhere { .. })));
        assert_eq!(anchors.regions().collect::<Vec<_>>(), [8]);
        assert_eq!(anchors.facts().regions[0].certs[0].home, KeyHome::Elsewhere);
        assert_eq!(anchors.facts().root_home, KeyHome::Elsewhere);
        let new = NewRegion::plain(9);
        let made = Anchors::make(home.path(), &key, &Door::nowhere(), &new);
        assert!(matches!(made, Err(AnchorsError::KeysElsewhere { .. })));
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_is_made() {
        let (home, key) = home();
        for new in [
            NewRegion::plain(0),
            NewRegion { days: Some(0), ..NewRegion::plain(7) },
            NewRegion { days: Some(MAX_DAYS + 1), ..NewRegion::plain(7) },
            NewRegion { name: "x".repeat(41), ..NewRegion::plain(7) },
            NewRegion { name: "a\nb".into(), ..NewRegion::plain(7) },
        ] {
            assert!(Anchors::make(home.path(), &key, &Door::nowhere(), &new).is_err(), "{new:?}");
        }
        assert!(!Anchors::exist(home.path()));
        let token = NewRegion { home: NewHome::Token, ..NewRegion::plain(7) };
        let made = Anchors::make(home.path(), &key, &Door::nowhere(), &token);
        assert!(matches!(made, Err(AnchorsError::Token(HsmError::NotConfigured { .. }))));
        assert!(!home.path().join("anchors/region-7.cert").exists());
    }

    /// What a token computes with CKM_SHA256_HMAC under a secret is the protocol's derivation, if that secret is its `Extract`.
    #[test]
    fn one_hmac_under_the_extracted_secret_is_the_protocols_derivation() {
        let (seed, unit) = (Seed::from_bytes([9; 32]), ProtocolUnitId(*b"unit-number1"));
        let extracted = crypto::hmac(&FIRST_EPOCH.to_be_bytes(), &[seed.expose()]);
        let derived = crypto::hmac(&extracted, &[&expand_info(&unit)]);
        assert_eq!(&derived, device_seed(&seed, &unit, FIRST_EPOCH).expose());
    }
}
