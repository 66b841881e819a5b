//! The first start: what a station needs before its first board, step by step. `keywright init` and the guide in the window are thin over
//! this.
//!
//! ```text
//! name ─ key ─ people ─ fixtures ─ anchors ─ cloud ─ image ─ rehearsal ─ summary
//!         └── opens the records: people and anchors wait for it
//! ```
//! [`Progress`] is the machine, a pure one: where somebody is, what they left as it is, and what [`Facts`] say is done. What a step does
//! is a function here that does it once however often it is asked, and returns what it [`Wrote`].
//!
//! Invariants:
//! - What is done is read off the station, never remembered: a step that was undone by hand is open again.
//! - station.toml is written by `settings` alone, so comments stay and a file that does not open is never left.
//! - No passphrase and no password is in a fact, a word or a message.

use crate::anchors::{Anchors, Shown};
use crate::config::{CloudKind, Config, Fixture, PortDescription, ProbeDescription};
use crate::failure::{Failure, FailureCode};
use crate::i18n::LanguageChoice;
use crate::image::CommonImage;
use crate::orders::StationImage;
use crate::people::Right;
use crate::secrets::{Passphrase, write_atomically};
use crate::settings::{CloudDraft, Draft, FixtureDraft, StationFile};
use crate::station::{Options, Station, anchors_failure, secrets_failure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where somebody is, and what they left as it is; in the home until the guide is through.
const FILE: &str = "first-run.json";

/// A step, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Language and the station's name.
    Name,
    /// The passphrase, and with it the station key and the records.
    Key,
    /// The first admin, or nobody by name.
    People,
    /// Probes and serial ports.
    Fixtures,
    /// Root and first region.
    Anchors,
    /// Where units log in.
    Cloud,
    /// What is flashed.
    Image,
    /// One unit for trial.
    Rehearsal,
    /// What is still missing.
    Summary,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 9] = [
        Self::Name,
        Self::Key,
        Self::People,
        Self::Fixtures,
        Self::Anchors,
        Self::Cloud,
        Self::Image,
        Self::Rehearsal,
        Self::Summary,
    ];

    /// Its place from 1.
    pub fn number(self) -> usize {
        self as usize + 1
    }

    /// The one after it; the last stays.
    #[must_use]
    pub fn next(self) -> Self {
        Self::ALL.get(self as usize + 1).copied().unwrap_or(self)
    }

    /// The one before it; the first stays.
    #[must_use]
    pub fn before(self) -> Self {
        (self as usize).checked_sub(1).map_or(self, |n| Self::ALL[n])
    }

    /// Whether it may be left as it is: a station works without.
    pub const fn may_be_left(self) -> bool {
        matches!(self, Self::People | Self::Fixtures | Self::Cloud | Self::Image | Self::Rehearsal)
    }

    /// What it works on is sealed under the station key.
    pub const fn needs_key(self) -> bool {
        matches!(self, Self::People | Self::Anchors)
    }
}

/// How a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The station has it.
    Done,
    /// It was left as it is, on purpose.
    Left,
    /// To be done.
    Open,
    /// It waits for the station key.
    Waits,
}

/// What the station has; no secrets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// station.toml is there.
    pub has_file: bool,
    /// What it says, or the defaults.
    pub config: Config,
    /// Why it can't be read.
    pub file_failure: Option<Failure>,
    /// There are records, so there is a passphrase.
    pub has_records: bool,
    /// They are open.
    pub open: bool,
    /// The passphrase is given with the start (descriptor, demo, keyring): nobody has to type it.
    pub given: Option<Given>,
    /// How many people work here by name; `None` while the records are closed.
    pub people: Option<usize>,
    /// Root and regions; `None`: there are none, or they are closed.
    pub anchors: Option<Shown>,
    /// There are some, whether or not they are open.
    pub has_anchors: bool,
    /// What the image says of itself, or why it can't be read; `None`: none is named.
    pub image: Option<Result<StationImage, Failure>>,
    /// A unit was made for trial in this session.
    pub rehearsed: bool,
}

/// Where a passphrase comes from that nobody has to type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// An open descriptor.
    Descriptor,
    /// The public one of the demo.
    Demo,
    /// The system's keyring.
    Keyring,
}

impl Facts {
    /// Looks at a home; `station` if its records are open.
    pub fn look(options: &Options, station: Option<&Station>) -> Self {
        let mut facts = Self {
            has_file: options.config_path().exists(),
            has_records: options.has_records(),
            open: station.is_some(),
            has_anchors: Anchors::exist(&options.home),
            // Asked of the keyring only while it matters: it may ask a person.
            given: if station.is_none() { given(options) } else { None },
            ..Self::default()
        };
        match options.load_config() {
            Ok(config) => facts.config = config,
            Err(failure) => facts.file_failure = Some(failure),
        }
        facts.image = facts.config.image.as_deref().map(CommonImage::glance);
        if let Some(station) = station {
            facts.people = station.people.list().ok().map(|all| all.len());
            let anchors = Anchors::open(&options.home, &station.records.station_key());
            facts.anchors = anchors.ok().map(|anchors| anchors.show());
        }
        facts
    }

    /// What must be before a unit can be made is there.
    pub const fn can_open(&self) -> bool {
        self.open && self.anchors.is_some()
    }

    fn has(&self, step: Step) -> bool {
        match step {
            Step::Name => self.has_file,
            Step::Key => self.open,
            Step::People => self.people.is_some_and(|n| n > 0),
            Step::Fixtures => !self.config.fixtures.is_empty(),
            Step::Anchors => self.anchors.as_ref().is_some_and(|shown| !shown.regions.is_empty()),
            Step::Cloud => self.config.clouds.iter().any(|c| matches!(c.kind, CloudKind::Mosquitto { .. })),
            Step::Image => matches!(self.image, Some(Ok(_))),
            Step::Rehearsal => self.rehearsed,
            Step::Summary => false,
        }
    }
}

fn given(options: &Options) -> Option<Given> {
    if options.passphrase_fd.is_some() {
        Some(Given::Descriptor)
    } else if options.demo {
        Some(Given::Demo)
    } else {
        let kept = crate::secrets::PassphraseSource::Keyring { station: options.keyring_entry() };
        Passphrase::read(&kept).is_ok().then_some(Given::Keyring)
    }
}

/// Where somebody is in the guide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The step that is shown.
    pub at: Step,
    /// Steps that were left as they are, on purpose.
    #[serde(default)]
    pub left: BTreeSet<Step>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { at: Step::Name, left: BTreeSet::new() }
    }
}

impl Progress {
    /// How a step stands.
    pub fn standing(&self, step: Step, facts: &Facts) -> Standing {
        if facts.has(step) {
            Standing::Done
        } else if step.needs_key() && !facts.open {
            Standing::Waits
        } else if self.left.contains(&step) {
            Standing::Left
        } else {
            Standing::Open
        }
    }

    /// Goes to a step; one that waits for the station key leads there first.
    pub fn go(&mut self, step: Step, facts: &Facts) {
        self.at = if self.standing(step, facts) == Standing::Waits { Step::Key } else { step };
    }

    /// Goes on from the step that is shown; one that is not done and may be left counts as left on purpose. False: it must be done first.
    pub fn on(&mut self, facts: &Facts) -> bool {
        let at = self.at;
        match self.standing(at, facts) {
            Standing::Done | Standing::Left => {}
            Standing::Open | Standing::Waits if at.may_be_left() => {
                self.left.insert(at);
            }
            // The name has a default, so the file is made by going on; the others have none.
            Standing::Open | Standing::Waits => return at == Step::Summary,
        }
        self.go(at.next(), facts);
        true
    }

    /// Goes back.
    pub fn back(&mut self) {
        self.at = self.at.before();
    }

    fn first_open(&self, facts: &Facts) -> Step {
        let open = |step: &Step| matches!(self.standing(*step, facts), Standing::Open | Standing::Waits);
        Step::ALL.into_iter().find(open).unwrap_or(Step::Summary)
    }

    /// Where a guide begins that was never left: at the first step that is open.
    pub fn fresh(facts: &Facts) -> Self {
        let new = Self::default();
        Self { at: new.first_open(facts), ..new }
    }

    /// A guide that was left goes on where it was, unless something before was undone.
    pub fn resume(&mut self, facts: &Facts) {
        self.at = self.at.min(self.first_open(facts));
    }

    /// What is in the home of a guide that was left; `None` if there is none.
    pub fn load(home: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(home.join(FILE)).ok()?).ok()
    }

    /// Keeps it for the next start. A home that can't be written costs the place, not the work.
    pub fn save(&self, home: &Path) {
        let saved = serde_json::to_vec(self)
            .map_err(std::io::Error::other)
            .and_then(|bytes| std::fs::write(home.join(FILE), bytes));
        if let Err(error) = saved {
            tracing::debug!(%error, "the place in the first start is not kept");
        }
    }

    /// The guide is through.
    pub fn forget(home: &Path) {
        let _ = std::fs::remove_file(home.join(FILE));
    }
}

/// Whether the guide opens by itself: without root and region no unit can be made.
pub fn is_wanted(options: &Options) -> bool {
    !Anchors::exist(&options.home)
}

/// Does something through the gate and with a row in the audit log, once there are records for either.
///
/// # Errors
/// Those of the gate, and of `work`.
pub fn gated(
    station: Option<&Station>,
    right: Right,
    what: (&str, &str),
    detail: serde_json::Value,
    work: impl FnOnce() -> Written,
) -> Written {
    match station {
        Some(station) => station.people.act(right, what, detail, work),
        None => work(),
    }
}

/// What a step wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Wrote {
    /// Name and language.
    Name {
        /// The station's name.
        name: String,
        /// station.toml.
        file: PathBuf,
    },
    /// Records and the recipe of the station key.
    Records {
        /// station.db.
        file: PathBuf,
    },
    /// The passphrase.
    Keyring,
    /// An admin.
    Admin {
        /// The name.
        name: String,
    },
    /// Fixtures.
    Fixtures {
        /// How many there are now.
        count: usize,
        /// station.toml.
        file: PathBuf,
    },
    /// Root and region.
    Anchors {
        /// The region that was asked for.
        region: u32,
        /// SHA-256 of the root's public key, hex.
        root: String,
        /// The folder.
        folder: PathBuf,
    },
    /// A broker.
    Cloud {
        /// Its name.
        name: String,
        /// Its address.
        url: String,
        /// station.toml.
        file: PathBuf,
    },
    /// Its password.
    Password {
        /// The file, readable by this user only.
        file: PathBuf,
    },
    /// The common image.
    Image {
        /// Its model.
        model: String,
        /// Its version.
        version: String,
        /// Its SHA-256, hex.
        sha256: String,
        /// station.toml.
        file: PathBuf,
    },
}

impl std::fmt::Display for Wrote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name { name, file } => write!(f, "station {name:?} in {}", file.display()),
            Self::Records { file } => {
                write!(f, "records in {}, their keys sealed under the passphrase", file.display())
            }
            Self::Keyring => f.write_str("the passphrase in the system's keyring"),
            Self::Admin { name } => {
                write!(f, "{name} is the admin; from now on every command wants --person")
            }
            Self::Fixtures { count, file } => write!(f, "{count} fixtures in {}", file.display()),
            Self::Anchors { region, root, folder } => {
                write!(
                    f,
                    "root {}… and region {region} in {}",
                    root.get(..16).unwrap_or(root),
                    folder.display()
                )
            }
            Self::Cloud { name, url, file } => write!(f, "cloud {name} ({url}) in {}", file.display()),
            Self::Password { file } => write!(f, "its password in {}", file.display()),
            Self::Image { model, version, sha256, file } => write!(
                f,
                "image {model} {version} ({}…) in {}",
                sha256.get(..16).unwrap_or(sha256),
                file.display()
            ),
        }
    }
}

/// What a step wrote now; what was there already is not in it.
pub type Written = Result<Vec<Wrote>, Failure>;

fn file(options: &Options) -> StationFile {
    StationFile::new(options.config_path())
}

/// Name and language in station.toml; makes the file.
///
/// # Errors
/// `ConfigInvalid`, and that the home can't be made.
pub fn set_name(options: &Options, name: &str, language: LanguageChoice) -> Written {
    let name = name.trim();
    if !crate::config::fits_name(name) {
        return Err(Failure::new(FailureCode::InvalidInput, format_args!("{name:?} as a station's name")));
    }
    options.prepare_home()?;
    let file = file(options);
    let fresh = !file.path().exists();
    if fresh {
        let text = format!("[station]\nname = {}\n", toml_edit::Value::from(name));
        write_atomically(file.path(), text.as_bytes()).map_err(secrets_failure)?;
    }
    let changed = file.change(|draft| {
        draft.name = name.to_owned();
        draft.language = language;
    })?;
    let wrote = Wrote::Name { name: name.to_owned(), file: file.path().to_owned() };
    Ok(if fresh || changed.changed { vec![wrote] } else { Vec::new() })
}

/// Opens the records under this passphrase; makes them if there are none. With `keep` it goes into the system's keyring.
///
/// # Errors
/// `WrongPassphrase`, `InvalidInput` for one that protects nothing, those of opening; a keyring that takes nothing.
pub fn open(
    options: &Options,
    passphrase: &Passphrase,
    keep: bool,
) -> Result<(Station, Vec<Wrote>), Failure> {
    let fresh = !options.has_records();
    if fresh && !options.demo {
        passphrase.check_strength().map_err(secrets_failure)?;
    }
    let station = Station::open_with(options, passphrase)?;
    let mut wrote = Vec::new();
    if fresh {
        wrote.push(Wrote::Records { file: options.records_path() });
    }
    if keep {
        keep_in_keyring(options, passphrase)?;
        wrote.push(Wrote::Keyring);
    }
    Ok((station, wrote))
}

#[cfg(feature = "keyring")]
fn keep_in_keyring(options: &Options, passphrase: &Passphrase) -> Result<(), Failure> {
    passphrase.store_in_keyring(&options.keyring_entry()).map_err(secrets_failure)
}

#[cfg(not(feature = "keyring"))]
fn keep_in_keyring(_: &Options, _: &Passphrase) -> Result<(), Failure> {
    Err(Failure::new(FailureCode::InvalidInput, "this build has no keyring support"))
}

/// These fixtures in station.toml, in place of those that are there.
///
/// # Errors
/// `ConfigInvalid`: two with one name, probe or port, or one that can't be used.
pub fn set_fixtures(options: &Options, fixtures: &[Fixture]) -> Written {
    let file = file(options);
    let changed = file.change(|draft| {
        let was = std::mem::take(&mut draft.fixtures);
        draft.fixtures = fixtures
            .iter()
            .map(|f| FixtureDraft {
                was: was.iter().find(|w| w.probe == f.probe || w.name == f.name).and_then(|w| w.was),
                name: f.name.clone(),
                probe: f.probe.clone(),
                serial: f.serial.clone(),
            })
            .collect();
    })?;
    let wrote = Wrote::Fixtures { count: fixtures.len(), file: file.path().to_owned() };
    Ok(if changed.changed { vec![wrote] } else { Vec::new() })
}

/// What is missing of root and region.
///
/// # Errors
/// `InvalidInput` for region 0, `SecretsFailed`.
pub fn make_anchors(station: &Station, region: u32) -> Written {
    let key = station.records.station_key();
    let had = Anchors::exist(&station.home)
        && Anchors::open(&station.home, &key).map_err(anchors_failure)?.region(region).is_ok();
    let shown = station.init_anchors(region)?;
    let folder = station.home.join("anchors");
    Ok(if had { Vec::new() } else { vec![Wrote::Anchors { region, root: shown.root_fingerprint, folder }] })
}

/// A Mosquitto broker in station.toml, in place of the one of this name; a password that is given goes into the file that the entry
/// names, readable by this user only. The entry is checked before anything is written, and a file that is there already is replaced only
/// if station.toml names it as the password of a broker.
///
/// # Errors
/// `ConfigInvalid` for an entry that can't be used, `InvalidInput` if another file is where the password should go, `SecretsFailed` if the
/// password can't be written.
pub fn set_cloud(options: &Options, cloud: &CloudDraft, password: Option<&Passphrase>) -> Written {
    let file = file(options);
    let enter = |draft: &mut Draft| {
        let was = draft.clouds.iter().position(|c| c.name == cloud.name.trim());
        let mut cloud = cloud.clone();
        cloud.was = was.and_then(|i| draft.clouds[i].was.clone());
        match was {
            Some(i) => draft.clouds[i] = cloud,
            None => draft.clouds.push(cloud),
        }
    };
    let read = file.check(enter)?;
    let mut wrote = Vec::new();
    if let Some(password) = password {
        let path = beside(options, &cloud.password_file);
        let same = |other: &Path| match (path.canonicalize(), other.canonicalize()) {
            (Ok(path), Ok(other)) => path == other,
            _ => false,
        };
        let named = read.draft.clouds.iter().any(|known| same(&beside(options, &known.password_file)));
        if std::fs::symlink_metadata(&path).is_ok() && (!named || same(file.path())) {
            return Err(Failure {
                code: FailureCode::InvalidInput,
                sentence: format!("{} is there already and is no broker's password", path.display()),
                remedy: "Name another file for the password; this one stays as it is".into(),
            });
        }
        let text = password.clone().into_text();
        write_atomically(&path, text.as_bytes()).map_err(secrets_failure)?;
        wrote.push(Wrote::Password { file: path });
    }
    let changed = file.change(enter)?;
    if changed.changed {
        let (name, url) = (cloud.name.trim().to_owned(), cloud.url.trim().to_owned());
        wrote.insert(0, Wrote::Cloud { name, url, file: file.path().to_owned() });
    }
    Ok(wrote)
}

/// A path as station.toml means it: relative to its folder.
pub fn beside(options: &Options, path: &str) -> PathBuf {
    let file = options.config_path();
    file.parent().unwrap_or(Path::new(".")).join(path.trim())
}

/// Whether the broker of an entry would do; how many units it knows. `password`: as it was typed, else the one in the entry's file.
///
/// # Errors
/// `InvalidInput` for an entry that can't be used, and what the broker says.
pub fn try_cloud(
    options: &Options,
    cloud: &CloudDraft,
    password: Option<&Passphrase>,
) -> Result<usize, Failure> {
    let (host, port) = crate::cloud::address(cloud.url.trim()).ok_or_else(|| {
        Failure::new(FailureCode::InvalidInput, format_args!("{:?} is no address", cloud.url))
    })?;
    let ca = (!cloud.ca.trim().is_empty()).then(|| beside(options, &cloud.ca));
    let password = match password {
        Some(password) => password.clone().into_text().as_str().to_owned(),
        None => {
            let path = beside(options, &cloud.password_file);
            let text = std::fs::read_to_string(&path).map_err(|e| {
                Failure::new(FailureCode::ConfigInvalid, format_args!("{}: {e}", path.display()))
            })?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    let station = options.load_config()?.name;
    crate::cloud::try_mosquitto(&station, (host, port), ca.as_deref(), cloud.username.trim(), password)
}

/// The common image in station.toml, after a look at it.
///
/// # Errors
/// `ImageMissing`, `ImageTruncated`, `ConfigInvalid`.
pub fn set_image(options: &Options, path: &Path) -> Written {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let glance = CommonImage::glance(&absolute)?;
    let file = file(options);
    let changed = file.change(|draft| {
        // A path that was written by hand and leads there already is left alone.
        if beside(options, &draft.image) != absolute || draft.image.trim().is_empty() {
            draft.image = absolute.display().to_string();
        }
    })?;
    let StationImage { model, version, sha256 } = glance;
    let wrote = Wrote::Image { model, version, sha256, file: file.path().to_owned() };
    Ok(if changed.changed { vec![wrote] } else { Vec::new() })
}

/// What is plugged into this PC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plugged {
    /// Debug probes.
    pub probes: Vec<ProbeDescription>,
    /// Serial ports.
    pub ports: Vec<PortDescription>,
}

impl Plugged {
    /// Looks now.
    #[cfg(feature = "hardware")]
    pub fn now() -> Self {
        Self { probes: crate::hardware::probe::list(), ports: crate::hardware::serial::list() }
    }

    /// A build without hardware sees nothing.
    #[cfg(not(feature = "hardware"))]
    pub fn now() -> Self {
        Self::default()
    }

    /// What is here and was not there `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            probes: self.probes.iter().filter(|p| !before.probes.contains(p)).cloned().collect(),
            ports: self.ports.iter().filter(|p| !before.ports.contains(p)).cloned().collect(),
        }
    }

    /// What no fixture has yet.
    #[must_use]
    pub fn free(&self, fixtures: &[Fixture]) -> Self {
        let probe =
            |p: &&ProbeDescription| !fixtures.iter().any(|f| f.probe.eq_ignore_ascii_case(&p.selector()));
        let port = |p: &&PortDescription| !fixtures.iter().any(|f| f.serial == p.path);
        Self {
            probes: self.probes.iter().filter(probe).cloned().collect(),
            ports: self.ports.iter().filter(port).cloned().collect(),
        }
    }

    /// The probe and the port that belong together, as far as that is beyond doubt: the same USB device, or the only two there are.
    pub fn pair(&self) -> (Option<&ProbeDescription>, Option<&PortDescription>) {
        let own = |probe: &ProbeDescription| {
            let same = |port: &&PortDescription| {
                probe.serial.is_some()
                    && port.serial == probe.serial
                    && port.usb == Some((probe.vid, probe.pid))
            };
            let mut ports = self.ports.iter().filter(same);
            ports.next().filter(|_| ports.next().is_none())
        };
        match (&self.probes[..], &self.ports[..]) {
            ([probe], ports) => {
                (Some(probe), own(probe).or(if let [port] = ports { Some(port) } else { None }))
            }
            ([], [port]) => (None, Some(port)),
            _ => (None, None),
        }
    }
}

/// A name for the next fixture that none has.
pub fn next_name(fixtures: &[Fixture]) -> String {
    (fixtures.len() + 1..)
        .map(|n| n.to_string())
        .find(|name| !fixtures.iter().any(|f| f.name == *name))
        .unwrap_or_default()
}

/// How hard a passphrase is to guess, roughly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strength {
    /// Refused.
    Short,
    /// Taken; somebody with the station's folder and time may find it.
    Fair,
    /// Good.
    Good,
}

/// Judges a new passphrase by its length and its variety: nothing of it leaves here.
pub fn strength(passphrase: &Passphrase) -> Strength {
    if passphrase.check_strength().is_err() {
        return Strength::Short;
    }
    let text = passphrase.clone().into_text();
    let different = text.chars().collect::<BTreeSet<_>>().len();
    let words = text.split_whitespace().count();
    if text.chars().count() >= 20 && different >= 9 && (words >= 3 || different >= 14) {
        Strength::Good
    } else {
        Strength::Fair
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Options) {
        let folder = tempfile::tempdir().expect("a folder");
        let options = Options {
            home: folder.path().join("home"),
            config: None,
            passphrase_fd: None,
            token_pin_fd: None,
            demo: true,
            operator: "Ada".into(),
        };
        (folder, options)
    }

    fn facts(done: &[Step]) -> Facts {
        let mut facts = Facts { people: Some(0), ..Facts::default() };
        for step in done {
            match step {
                Step::Name => facts.has_file = true,
                Step::Key => facts.open = true,
                Step::People => facts.people = Some(1),
                Step::Fixtures => facts.config.fixtures = vec![fixture("1", "0483:374b:A", "COM1")],
                Step::Rehearsal => facts.rehearsed = true,
                _ => unreachable!("not by a fact alone"),
            }
        }
        facts
    }

    fn fixture(name: &str, probe: &str, serial: &str) -> Fixture {
        Fixture { name: name.into(), probe: probe.into(), serial: serial.into() }
    }

    #[test]
    fn steps_lead_from_the_first_to_the_last_and_back() {
        let mut step = Step::Name;
        for (i, expected) in Step::ALL.into_iter().enumerate() {
            assert_eq!((step, step.number()), (expected, i + 1));
            step = step.next();
        }
        assert_eq!(step, Step::Summary);
        for expected in Step::ALL.into_iter().rev().skip(1) {
            step = step.before();
            assert_eq!(step, expected);
        }
        assert_eq!(step.before(), Step::Name);
    }

    #[test]
    fn what_a_station_can_not_work_without_must_be_done_and_the_rest_may_be_left() {
        let mut progress = Progress::default();
        let none = facts(&[]);
        assert!(!progress.on(&none), "there must be a file");
        assert!(progress.on(&facts(&[Step::Name])));
        assert_eq!(progress.at, Step::Key);
        assert!(!progress.on(&facts(&[Step::Name])), "there must be a key");
        let open = facts(&[Step::Name, Step::Key]);
        assert!(progress.on(&open) && progress.on(&open) && progress.on(&open));
        assert_eq!(progress.at, Step::Anchors);
        assert_eq!(progress.standing(Step::People, &open), Standing::Left);
        assert_eq!(progress.standing(Step::Fixtures, &open), Standing::Left);
        assert!(!progress.on(&open), "there must be anchors");
        // What was left is done all the same when the station has it.
        assert_eq!(progress.standing(Step::Fixtures, &facts(&[Step::Fixtures])), Standing::Done);
        progress.back();
        assert_eq!(progress.at, Step::Fixtures);
    }

    #[test]
    fn what_is_sealed_waits_for_the_key_and_leads_to_it() {
        let closed = facts(&[Step::Name]);
        let mut progress = Progress::default();
        for step in Step::ALL {
            let waits = progress.standing(step, &closed) == Standing::Waits;
            assert_eq!(waits, matches!(step, Step::People | Step::Anchors), "{step:?}");
            progress.go(step, &closed);
            assert_eq!(progress.at, if waits { Step::Key } else { step });
        }
    }

    #[test]
    fn a_guide_that_was_left_goes_on_where_it_was_unless_something_before_was_undone() {
        let (_folder, options) = home();
        options.prepare_home().expect("a home");
        assert_eq!(Progress::load(&options.home), None);
        let mut progress = Progress { at: Step::Cloud, left: [Step::People, Step::Fixtures].into() };
        progress.save(&options.home);
        assert_eq!(Progress::load(&options.home).as_ref(), Some(&progress));
        progress.resume(&facts(&[Step::Name, Step::Key]));
        assert_eq!(progress.at, Step::Anchors, "they are open");
        progress.resume(&facts(&[Step::Key]));
        assert_eq!(progress.at, Step::Name, "the file is gone");
        std::fs::write(options.home.join(FILE), "{").expect("written");
        assert_eq!(Progress::load(&options.home), None, "a cut file begins anew");
        Progress::forget(&options.home);
        assert!(!options.home.join(FILE).exists());
    }

    #[test]
    fn every_effect_is_done_once_and_says_what_it_wrote() {
        let (_folder, options) = home();
        assert!(is_wanted(&options));
        for (asked, wrote) in [("line-1", 1), ("line-1", 0), ("line-2", 1)] {
            assert_eq!(set_name(&options, asked, LanguageChoice::Chinese).expect("a name").len(), wrote);
        }
        let config = options.load_config().expect("a file");
        assert_eq!((config.name.as_str(), config.language), ("line-2", LanguageChoice::Chinese));
        let two = [fixture("left", "0483:374b:A", "COM1"), fixture("right", "0483:374b:B", "COM2")];
        assert_eq!(set_fixtures(&options, &two[..1]).expect("fixtures").len(), 1);
        assert_eq!(set_fixtures(&options, &two).expect("fixtures").len(), 1);
        assert_eq!(set_fixtures(&options, &two).expect("fixtures"), []);
        assert_eq!(options.load_config().expect("a file").fixtures, two);
        let twice = [two[0].clone(), Fixture { name: "right".into(), ..two[0].clone() }];
        assert_eq!(
            set_fixtures(&options, &twice).expect_err("one probe twice").code,
            FailureCode::ConfigInvalid
        );
        assert_eq!(options.load_config().expect("a file").fixtures, two);
        let missing = set_image(&options, &options.home.join("nothing")).expect_err("no image");
        assert_eq!(missing.code, FailureCode::ImageMissing);
        let index = r#"{"format":1,"model":"KW-GATEWAY-429","version":"0.1.0","parts":[]}"#;
        std::fs::write(options.home.join("common-image.json"), index).expect("written");
        assert_eq!(set_image(&options, &options.home).expect("an image").len(), 1);
        assert_eq!(set_image(&options, &options.home).expect("an image"), []);
        assert!(matches!(Facts::look(&options, None).image, Some(Ok(image)) if image.version == "0.1.0"));
    }

    #[test]
    fn a_broker_is_written_with_its_password_in_a_file_of_its_own() {
        let (_folder, options) = home();
        set_name(&options, "line-1", LanguageChoice::System).expect("a name");
        let cloud = CloudDraft {
            name: "plant".into(),
            url: "mqtt://127.0.0.1:1".into(),
            username: "keywright-agent".into(),
            password_file: "plant.password".into(),
            ..CloudDraft::default()
        };
        assert_eq!(cloud.faults().len(), 0);
        let password = Passphrase::new("broker's own word".into());
        let wrote = set_cloud(&options, &cloud, Some(&password)).expect("written");
        assert!(matches!(&wrote[..], [Wrote::Cloud { .. }, Wrote::Password { .. }]), "{wrote:?}");
        let toml = std::fs::read_to_string(options.config_path()).expect("station.toml");
        assert!(!toml.contains("own word") && !format!("{wrote:?}").contains("own word"));
        let kept = options.home.join("plant.password");
        assert_eq!(std::fs::read_to_string(&kept).expect("the password"), "broker's own word");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&kept).expect("there").permissions().mode() & 0o077, 0);
        }
        assert_eq!(set_cloud(&options, &cloud, None).expect("again"), []);
        // Its own file is replaced, no other one, and nothing for an entry that is not taken.
        let newer = Passphrase::new("another word".into());
        assert_eq!(set_cloud(&options, &cloud, Some(&newer)).expect("replaced").len(), 1);
        assert_eq!(std::fs::read_to_string(&kept).expect("the password"), "another word");
        std::fs::write(options.home.join("notes.txt"), "mine").expect("written");
        for (name, url) in [
            ("station.toml", "mqtt://127.0.0.1:2"),
            ("notes.txt", "mqtt://127.0.0.1:2"),
            ("notes.txt", "nowhere"),
        ] {
            let wrong = CloudDraft { url: url.into(), password_file: name.into(), ..cloud.clone() };
            let before = std::fs::read(options.home.join(name)).expect("there");
            let refused = set_cloud(&options, &wrong, Some(&password)).expect_err("it stays as it is");
            let expected =
                if url == "nowhere" { FailureCode::ConfigInvalid } else { FailureCode::InvalidInput };
            assert_eq!(refused.code, expected, "{name}");
            assert!(!refused.to_string().contains("own word"), "{refused}");
            assert_eq!(std::fs::read(options.home.join(name)).expect("there"), before, "{name}");
        }
        let fresh = CloudDraft { name: "No Name".into(), password_file: "fresh".into(), ..cloud.clone() };
        set_cloud(&options, &fresh, Some(&password)).expect_err("no such name");
        assert!(!options.home.join("fresh").exists(), "checked first");
        let other = CloudDraft { username: "other".into(), ..cloud.clone() };
        assert_eq!(set_cloud(&options, &other, None).expect("changed").len(), 1);
        let config = options.load_config().expect("a file");
        assert_eq!(config.clouds.len(), 2, "the station's own broker and this one");
        // Nobody listens at port 1.
        let refused = try_cloud(&options, &cloud, None).expect_err("nobody is there");
        assert!(!refused.to_string().contains("own word"), "{refused}");
        assert_eq!(refused.outcome(), crate::model::Outcome::Error);
    }

    #[test]
    fn key_and_anchors_are_made_once_and_opened_again() {
        let (_folder, options) = home();
        set_name(&options, "line-1", LanguageChoice::System).expect("a name");
        let (station, wrote) = open(&options, &Passphrase::demo(), false).expect("opens");
        assert!(matches!(&wrote[..], [Wrote::Records { .. }]), "{wrote:?}");
        let before = Facts::look(&options, Some(&station));
        assert!(before.open && !before.can_open() && before.people == Some(0));
        assert_eq!(make_anchors(&station, 7).expect("made").len(), 1);
        assert_eq!(make_anchors(&station, 7).expect("there"), []);
        assert_eq!(make_anchors(&station, 8).expect("made").len(), 1);
        assert_eq!(make_anchors(&station, 0).expect_err("no region 0").code, FailureCode::InvalidInput);
        let after = Facts::look(&options, Some(&station));
        assert!(after.can_open() && !is_wanted(&options));
        assert_eq!(after.anchors.expect("anchors").regions.len(), 2);
        drop(station);
        let wrong = open(&options, &Passphrase::new("quite another one".into()), false).expect_err("wrong");
        assert_eq!(wrong.code, FailureCode::WrongPassphrase);
        let (_station, wrote) = open(&options, &Passphrase::demo(), false).expect("opens again");
        assert_eq!(wrote, []);
    }

    #[test]
    fn what_appears_is_paired_where_it_is_beyond_doubt() {
        let probe = |serial: &str| ProbeDescription {
            vid: 0x0483,
            pid: 0x374b,
            serial: Some(serial.into()),
            product: "STLink V2-1".into(),
        };
        let port = |path: &str, serial: Option<&str>| PortDescription {
            path: path.into(),
            usb: serial.map(|_| (0x0483, 0x374b)),
            serial: serial.map(str::to_owned),
        };
        let before = Plugged { probes: vec![probe("A")], ports: vec![port("/dev/ttyS0", None)] };
        let mut now = before.clone();
        assert_eq!(now.since(&before), Plugged::default());
        now.probes.push(probe("B"));
        now.ports.push(port("/dev/ttyACM1", Some("B")));
        now.ports.push(port("/dev/ttyUSB0", None));
        let new = now.since(&before);
        assert_eq!(new.pair(), (Some(&probe("B")), Some(&port("/dev/ttyACM1", Some("B")))));
        // Two ports that could both be it are not guessed.
        let doubt = Plugged { ports: vec![port("a", None), port("b", None)], ..new.clone() };
        assert_eq!(doubt.pair(), (Some(&probe("B")), None));
        assert_eq!(now.pair(), (None, None), "two probes");
        let taken = [fixture("1", "0483:374b:a", "/dev/ttyS0")];
        assert_eq!(now.free(&taken).probes, [probe("B")]);
        assert_eq!(next_name(&taken), "2");
        assert_eq!(next_name(&[fixture("2", "0483:374b:a", "x")]), "3");
    }

    #[test]
    fn strength_looks_at_length_and_variety() {
        let judge = |text: &str| strength(&Passphrase::new(text.into()));
        for (text, how) in [
            ("", Strength::Short),
            ("short", Strength::Short),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaa", Strength::Fair),
            ("correct horse", Strength::Fair),
            ("correct horse battery staple", Strength::Good),
            ("d7#Kq9!mZ2@wL5^xR8&t", Strength::Good),
        ] {
            assert_eq!(judge(text), how, "{text}");
        }
    }
}
