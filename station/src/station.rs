//! A station as a whole: its home folder, its passphrase, and everything opened in the right order. The window and the
//! command line both begin here, so that they can't begin differently.
//!
//! ```text
//! home/ station.toml   configuration, read first
//!       station.db     records; the passphrase opens their keys
//!       anchors/       root, regions, agent's certificate, export key: sealed files
//!       cloud/         ledgers of the clouds
//!       exports/ logs/ backups/
//! ```
//!
//! Invariants:
//! - Attempts that an earlier process left without an end are closed before anything new begins.
//! - No passphrase, key or sealed content is in any message that leaves here.

use crate::agent::{EmbeddedAgent, PlatformCloud};
use crate::anchors::{Anchors, AnchorsError, KeyHome, Shown};
use crate::backup;
use crate::config::{Config, Fixture};
use crate::crash::{LastEnd, Mark};
#[cfg(feature = "hardware")]
use crate::desk::Desk;
use crate::desk::Handles;
use crate::export::clerk::{self, Clerk};
use crate::export::{ExportSigner, RecordsSource};
use crate::failure::{Failure, FailureCode};
use crate::foreman::Foreman;
use crate::hsm::{Door, PinSource};
#[cfg(feature = "hardware")]
use crate::label::{LabelDesk, Printer};
#[cfg(feature = "hardware")]
use crate::line;
use crate::line::{Event, LineHandle};
use crate::model::{BatchState, PoId, ProductOrder};
#[cfg(feature = "hardware")]
use crate::office::Office as OrderOffice;
#[cfg(feature = "hardware")]
use crate::people::office::Tools;
use crate::people::{Office, People};
#[cfg(feature = "hardware")]
use crate::preflight::StationInspector;
use crate::records::{Attempt, Person, Records, RecordsError, SqliteRecords, Verified};
use crate::secrets::{Passphrase, PassphraseSource, SealedFile, Secret, SecretsError, StationKey};
use crate::trust;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// The PC's clock, Unix milliseconds.
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// How long this program has run; asked first where it begins.
pub fn uptime() -> Duration {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed()
}

/// The user's own data folder, `keywright` in it: XDG on Linux, the usual ones on macOS and Windows.
pub fn default_home() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let data = if cfg!(windows) {
        var("LOCALAPPDATA")?
    } else if cfg!(target_os = "macos") {
        var("HOME")?.join("Library/Application Support")
    } else {
        // A relative XDG path is invalid and must be ignored (XDG base directory specification).
        var("XDG_DATA_HOME")
            .filter(|p| p.is_absolute())
            .or_else(|| Some(var("HOME")?.join(".local/share")))?
    };
    Some(data.join("keywright"))
}

/// Who is logged in, for the records when nobody says who works here.
pub fn system_user() -> String {
    ["USER", "LOGNAME", "USERNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|v| !v.trim().is_empty()))
        .unwrap_or_else(|| "unknown".into())
}

/// The records' refusal as a failure that people read.
pub fn records_failure(error: RecordsError) -> Failure {
    match error {
        RecordsError::Refused(failure) => *failure,
        RecordsError::NotFound { list, .. } => Failure {
            code: FailureCode::InvalidInput,
            sentence: error.to_string(),
            remedy: format!("Run keywright {list} and take a name from there"),
        },
        RecordsError::WrongPassphrase { .. } => Failure::new(FailureCode::WrongPassphrase, error),
        other => Failure::new(FailureCode::RecordsFailed, other),
    }
}

/// A secret's refusal as a failure that people read.
pub fn secrets_failure(error: SecretsError) -> Failure {
    match error {
        SecretsError::WrongPassphrase => Failure::new(FailureCode::WrongPassphrase, ""),
        SecretsError::TooShort { .. } | SecretsError::Mismatch => Failure::new(FailureCode::InvalidInput, error),
        SecretsError::PassphraseUnavailable { .. } => Failure {
            code: FailureCode::InvalidInput,
            sentence: error.to_string(),
            remedy: "Give it with --passphrase-fd N, keep it in the keyring with keywright passphrase store, or start \
                     from a terminal"
                .into(),
        },
        other => Failure::new(FailureCode::SecretsFailed, other),
    }
}

/// The anchors' refusal as a failure that people read.
pub fn anchors_failure(error: AnchorsError) -> Failure {
    match error {
        AnchorsError::Secrets(error) => secrets_failure(error),
        AnchorsError::BadRegion => Failure::new(FailureCode::InvalidInput, error),
        AnchorsError::Damaged { .. } => Failure::new(FailureCode::SecretsFailed, error),
        AnchorsError::KeysElsewhere { .. } => Failure {
            code: FailureCode::AnchorsMissing,
            sentence: error.to_string(),
            remedy: "Bring the sealed file or the token back, or restore the anchors from a backup".into(),
        },
        other => other.into(),
    }
}

/// What the anchors are; no secrets.
///
/// # Errors
/// As [`Station::open`], and `AnchorsMissing`.
pub fn show_anchors(options: &Options) -> Result<Shown, Failure> {
    if !Anchors::exist(&options.home) {
        return Err(no_anchors(options));
    }
    let records = options.open_records(&options.load_config()?)?;
    Ok(Anchors::open(&options.home, &records.station_key()).map_err(anchors_failure)?.show())
}

fn no_anchors(options: &Options) -> Failure {
    AnchorsError::Missing { path: options.anchors_path().display().to_string() }.into()
}

/// The anchors open, and every product order finds its region.
fn check_anchors(
    options: &Options,
    records: &SqliteRecords,
    orders: &[ProductOrder],
) -> Result<String, Failure> {
    let anchors = Anchors::open(&options.home, &records.station_key()).map_err(anchors_failure)?;
    if let Some(order) = orders.iter().find(|o| anchors.region(o.region).is_err()) {
        let facts = format!("order {} goes to region {}, which is not here", order.name, order.region);
        return Err(Failure::new(FailureCode::AnchorsMissing, facts));
    }
    let regions: Vec<_> = anchors.regions().map(|r| r.to_string()).collect();
    Ok(format!("root {}…, regions {}", &anchors.show().root_fingerprint[..16], regions.join(", ")))
}

/// The keys of every region that an order needs sign: token, PIN and keys are there, no certificate has ended or ends soon. `None`
/// while there is nothing to look at.
fn check_signing(
    door: &Arc<Door>,
    options: &Options,
    records: &SqliteRecords,
    orders: &[ProductOrder],
) -> Option<Result<(String, bool), Failure>> {
    let anchors = Anchors::open_with(&options.home, &records.station_key(), door).ok()?;
    let (mut places, mut care, now_s) = (Vec::new(), false, trust::now_s());
    for facts in &anchors.facts().regions {
        let Some(newest) = facts.certs.first() else { continue };
        if let Ok(region) = anchors.region(facts.region)
            && orders.iter().any(|o| o.region == facts.region)
            && let Err(error) = region.check_valid().and_then(|()| region.try_out())
        {
            return Some(Err(anchors_failure(error)));
        }
        let validity = trust::Validity::of(newest.not_after, now_s);
        care |= validity.wants_care();
        let ends = if validity.wants_care() { format!(", {}", validity.words()) } else { String::new() };
        let place = match &newest.home {
            KeyHome::Sealed { .. } => "sealed".into(),
            home => trust::home_words(home),
        };
        places.push(format!("region {}: {place}{ends}", facts.region));
    }
    (!places.is_empty()).then(|| Ok((places.join("; "), care)))
}

/// How to open a station.
#[derive(Clone, Debug)]
pub struct Options {
    /// The home folder.
    pub home: PathBuf,
    /// Another configuration than `station.toml` in it.
    pub config: Option<PathBuf>,
    /// An inherited descriptor that gives the passphrase.
    pub passphrase_fd: Option<i32>,
    /// An inherited descriptor that gives the PIN of the token with signing keys.
    pub token_pin_fd: Option<i32>,
    /// The public passphrase.
    pub demo: bool,
    /// Who works here.
    pub operator: String,
}

impl Options {
    /// The configuration's path.
    pub fn config_path(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| self.home.join("station.toml"))
    }

    /// The database's path.
    pub fn records_path(&self) -> PathBuf {
        self.home.join("station.db")
    }

    /// Whether this station was ever set up.
    pub fn has_records(&self) -> bool {
        self.records_path().exists()
    }

    /// The sealed anchors' folder.
    pub fn anchors_path(&self) -> PathBuf {
        self.home.join("anchors")
    }

    /// Name of this station's entry in the system's keyring: homes on one PC have passphrases of their own.
    pub fn keyring_entry(&self) -> String {
        std::path::absolute(&self.home).unwrap_or_else(|_| self.home.clone()).display().to_string()
    }

    /// The way to the token that the configuration names.
    pub fn door(&self, config: &Config) -> Arc<Door> {
        // Without a token the keyring is not asked for its PIN.
        let keyring = config.token.is_some().then(|| self.keyring_entry()).filter(|_| !self.demo);
        Door::new(config.token.clone(), PinSource { fd: self.token_pin_fd, keyring })
    }

    /// Makes the home folder, readable by this user only.
    ///
    /// # Errors
    /// `RecordsFailed` with the system's words.
    pub fn prepare_home(&self) -> Result<(), Failure> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.home).map_err(|e| {
            Failure::new(
                FailureCode::RecordsFailed,
                format_args!("the home {} can't be made: {e}", self.home.display()),
            )
        })
    }

    /// Reads the configuration. A file that was named must be there; the home's own may be missing.
    ///
    /// # Errors
    /// `ConfigInvalid` with file, line and what was expected.
    pub fn load_config(&self) -> Result<Config, Failure> {
        if let Some(path) = self.config.as_ref().filter(|p| !p.exists()) {
            return Err(Failure::new(
                FailureCode::ConfigInvalid,
                format_args!("{} is not there", path.display()),
            ));
        }
        let mut config = Config::load(&self.config_path())?;
        config.demo = self.demo;
        Ok(config)
    }

    /// The passphrase, if nobody has to be asked for it.
    ///
    /// # Errors
    /// `InvalidInput` if the descriptor that was named gives none.
    pub fn passphrase_at_hand(&self) -> Result<Option<Passphrase>, Failure> {
        if self.passphrase_fd.is_some() || self.demo {
            return self.passphrase().map(Some);
        }
        Ok(Passphrase::read(&PassphraseSource::Keyring { station: self.keyring_entry() }).ok())
    }

    /// The passphrase: from the descriptor, the demo, the keyring or the terminal, in this order.
    ///
    /// # Errors
    /// `InvalidInput` if nothing gives one, or a new one protects nothing.
    pub fn passphrase(&self) -> Result<Passphrase, Failure> {
        let new = !self.has_records();
        let read = |source| Passphrase::read(&source).map_err(secrets_failure);
        let passphrase = match self.passphrase_fd {
            Some(fd) => read(PassphraseSource::Fd(fd))?,
            None if self.demo => Passphrase::demo(),
            None => match Passphrase::read(&PassphraseSource::Keyring { station: self.keyring_entry() }) {
                Ok(passphrase) => passphrase,
                Err(error) => {
                    // No entry and no keyring look alike; either way the terminal can answer.
                    tracing::debug!(%error, "the keyring has no passphrase");
                    read(PassphraseSource::Prompt { twice: new })?
                }
            },
        };
        if new {
            passphrase.check_strength().map_err(secrets_failure)?;
        }
        Ok(passphrase)
    }

    /// The passphrase of a station that is there, from the descriptor or the terminal: for what only somebody who knows it may do.
    /// Neither the keyring nor the demo answers in their place.
    ///
    /// # Errors
    /// `InvalidInput` if nobody types one.
    pub fn typed_passphrase(&self) -> Result<Passphrase, Failure> {
        let source = match self.passphrase_fd {
            Some(fd) => PassphraseSource::Fd(fd),
            None => PassphraseSource::Prompt { twice: false },
        };
        Passphrase::read(&source).map_err(secrets_failure)
    }

    /// Opens the records to see whether this passphrase is theirs; a station that was never set up takes any good one.
    ///
    /// # Errors
    /// `WrongPassphrase`, `InvalidInput`, or why the records can't be opened.
    pub fn check_passphrase(&self, passphrase: &Passphrase) -> Result<(), Failure> {
        if self.has_records() {
            let name = self.load_config()?.name;
            SqliteRecords::open(&self.records_path(), &name, passphrase).map(drop).map_err(records_failure)
        } else {
            passphrase.check_strength().map_err(secrets_failure)
        }
    }

    fn open_records(&self, config: &Config) -> Result<SqliteRecords, Failure> {
        let passphrase = self.passphrase()?;
        self.open_records_with(config, &passphrase)
    }

    fn open_records_with(&self, config: &Config, passphrase: &Passphrase) -> Result<SqliteRecords, Failure> {
        self.prepare_home()?;
        if passphrase.is_public_demo() && !self.demo {
            tracing::warn!(
                "this station runs on the PUBLIC demo passphrase; its keys are protected from nobody"
            );
        }
        let records = SqliteRecords::open(&self.records_path(), &config.name, passphrase);
        let records = records.map_err(records_failure)?;
        records.set_gray_release(config.gray_release);
        Ok(records)
    }
}

/// What a session that did not end well left half done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    /// When that session began, Unix milliseconds.
    pub started_at_ms: i64,
    /// The batch that it worked on.
    pub batch: Option<String>,
    /// Units that were in work: the fixture, and the serial once it was known.
    pub units: Vec<(String, Option<String>)>,
    /// What it wrote about its end; absent if it was killed or the power failed.
    pub report: Option<PathBuf>,
}

/// An open station.
pub struct Station {
    /// Its folder.
    pub home: PathBuf,
    /// Its configuration.
    pub config: Config,
    /// Its records.
    pub records: Arc<SqliteRecords>,
    /// Who works here, and what they may do.
    pub people: Arc<People>,
    /// The name that stands in every record: the person who is logged in, or what an open station was told.
    pub operator: String,
    /// Attempts that an earlier process left without an end; they were closed just now.
    pub interrupted: Vec<Attempt>,
    /// How the session before this one ended, if not as it should.
    pub last_end: Option<LastEnd>,
    /// This session's mark in the home.
    pub mark: Arc<Mark>,
    /// The way to the token with signing keys.
    pub door: Arc<Door>,
    agent: OnceLock<Arc<EmbeddedAgent>>,
}

impl std::fmt::Debug for Station {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Station")
            .field("home", &self.home)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Station {
    /// Opens a station: configuration, passphrase, records, interrupted attempts.
    ///
    /// # Errors
    /// `ConfigInvalid`, `InvalidInput` (no passphrase), `WrongPassphrase`, `RecordsFailed`, `SecretsFailed`.
    pub fn open(options: &Options) -> Result<Self, Failure> {
        let passphrase = options.passphrase()?;
        Self::open_with(options, &passphrase)
    }

    /// The same with a passphrase that was already given.
    ///
    /// # Errors
    /// As [`Station::open`].
    pub fn open_with(options: &Options, passphrase: &Passphrase) -> Result<Self, Failure> {
        let config = options.load_config()?;
        let records = options.open_records_with(&config, passphrase)?;
        let interrupted = records.close_interrupted().map_err(records_failure)?;
        for attempt in &interrupted {
            tracing::warn!(attempt = attempt.id.0, fixture = %attempt.fixture, "interrupted when the station last stopped");
        }
        let people = People::new(records.clone(), &options.operator)?;
        people.set_auto_lock(config.auto_lock);
        let (mark, last_end) = Mark::leave(&options.home, now_ms());
        if let Some(end) = &last_end {
            let report = end.report.as_ref().map(|p| p.display().to_string());
            tracing::warn!(
                started_at_ms = end.started_at_ms,
                batch = end.batch,
                report,
                "the last session did not end well"
            );
        }
        Ok(Self {
            home: options.home.clone(),
            door: options.door(&config),
            config,
            records: Arc::new(records),
            operator: people.operator(),
            people: Arc::new(people),
            interrupted,
            last_end,
            mark: Arc::new(mark),
            agent: OnceLock::new(),
        })
    }

    /// From now on it works as this configuration says; what was started under another one must have ended. The station's name in the
    /// records stays until the next start.
    pub fn configure(&mut self, options: &Options, config: Config) {
        let other_token = self.config.token != config.token;
        if other_token {
            self.door = options.door(&config);
        }
        if other_token || (&self.config.clouds, &self.config.name) != (&config.clouds, &config.name) {
            // The platforms are the agent's, so another agent brings others.
            self.agent = OnceLock::new();
        }
        self.people.set_auto_lock(config.auto_lock);
        self.config = config;
    }

    /// What the session before this one left half done; `None` if it ended as it should.
    ///
    /// # Errors
    /// Those of the records.
    pub fn left_behind(&self) -> Result<Option<LeftBehind>, Failure> {
        if self.last_end.is_none() && self.interrupted.is_empty() {
            return Ok(None);
        }
        let mut units = Vec::new();
        for attempt in &self.interrupted {
            let unit = attempt.unit.map(|id| self.records.unit(id)).transpose().map_err(records_failure)?;
            units.push((attempt.fixture.clone(), unit.flatten().map(|unit| unit.serial)));
        }
        // A mark that was lost with the power is made up for by the attempts.
        let batch = match (&self.last_end, self.interrupted.last()) {
            (Some(LastEnd { batch: Some(batch), .. }), _) => Some(batch.clone()),
            (_, Some(attempt)) => Some(self.records.batch(attempt.batch).map_err(records_failure)?.name),
            _ => None,
        };
        let began = self.last_end.as_ref().map(|end| end.started_at_ms);
        Ok(Some(LeftBehind {
            started_at_ms: began.or(self.interrupted.first().map(|a| a.started_at_ms)).unwrap_or_default(),
            batch,
            units,
            report: self.last_end.as_ref().and_then(|end| end.report.clone()),
        }))
    }

    /// Makes what is missing of root, region and agent.
    ///
    /// # Errors
    /// `InvalidInput` for region 0, `SecretsFailed`.
    pub fn init_anchors(&self, region: u32) -> Result<Shown, Failure> {
        let anchors =
            Anchors::init(&self.home, &self.records.station_key(), &[region]).map_err(anchors_failure)?;
        Ok(anchors.show())
    }

    /// Asks for the token's PIN at the terminal, if nothing else gave it and somebody sits there. Nothing is asked of the token.
    pub fn ask_token_pin(&self, label: &str) {
        if self.door.label() != Some(label) || self.door.has_pin() || !std::io::stdin().is_terminal() {
            return;
        }
        match rpassword::prompt_password(format!("PIN of token {label}: ")) {
            Ok(pin) if !pin.is_empty() => self.door.give_pin(Passphrase::new(pin)),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "no terminal to ask at"),
        }
    }

    /// Where the chain of trust is read and made. What is made reaches the agent of this process, if it was started.
    pub fn trust(&self) -> trust::Office {
        trust::Office {
            home: self.home.clone(),
            records: self.records.clone(),
            door: self.door.clone(),
            agent: self.agent.get().cloned(),
            now_s: trust::now_s,
        }
    }

    /// The clerk behind the window's Trust view.
    ///
    /// # Errors
    /// `StationFault` if no thread can be started.
    pub fn start_trust(&self) -> Result<trust::clerk::Clerk, Failure> {
        trust::clerk::Clerk::new(self.trust(), self.people.clone())
    }

    /// The agent, embedded: it runs on this station's records and anchors. There is one in a process, with one set of brokers.
    ///
    /// # Errors
    /// `AnchorsMissing`, `SecretsFailed`.
    pub fn agent(&self) -> Result<Arc<EmbeddedAgent>, Failure> {
        if let Some(agent) = self.agent.get() {
            return Ok(agent.clone());
        }
        let anchors = Anchors::open_with(&self.home, &self.records.station_key(), &self.door)
            .map_err(anchors_failure)?;
        anchors.tokens().iter().for_each(|label| self.ask_token_pin(label));
        let records = (*self.records).clone();
        let cloud = PlatformCloud::new(&self.home, &self.config.name, &self.config.clouds, records.clone());
        let agent = Arc::new(EmbeddedAgent::new(records, anchors, Arc::new(cloud)));
        Ok(self.agent.get_or_init(|| agent).clone())
    }

    /// Backups by the clock, as `station.toml` wants them, until the value is dropped.
    ///
    /// # Errors
    /// `StationFault` if no thread can be started.
    pub fn keep_backups(&self) -> Result<backup::Keeper, Failure> {
        backup::Keeper::start(self.home.clone(), self.records.clone(), self.config.backup.clone())
    }

    /// The line on this station's real fixtures, which starts nothing before the station was looked at.
    #[cfg(feature = "hardware")]
    fn line(&self, agent: &Arc<EmbeddedAgent>) -> Result<line::Line, Failure> {
        self.line_on(agent, &fixtures(&self.config)?)
    }

    /// The same on these fixtures, none perhaps: batches are looked after and lists are handed out without a probe too.
    #[cfg(feature = "hardware")]
    fn line_on(&self, agent: &Arc<EmbeddedAgent>, fixtures: &[Fixture]) -> Result<line::Line, Failure> {
        let labels = LabelDesk::new(Printer::open(&self.config));
        let inspector = StationInspector {
            home: self.home.clone(),
            config: self.config.clone(),
            records: self.records.clone(),
            agent: agent.clone(),
            labels: labels.clone(),
            fixtures: fixtures.to_vec(),
        };
        let (records, inspector) = (self.records.clone(), Arc::new(inspector));
        line::Line::new(records, agent.clone(), &self.config, fixtures, labels, inspector)
    }

    /// Starts the line's workers on this station's fixtures: a handle for commands, and every event.
    ///
    /// # Errors
    /// As [`Station::agent`] and [`fixtures`]; `StationFault` if threads can't be started.
    #[cfg(feature = "hardware")]
    pub fn start_line(&self) -> Result<(Box<dyn LineHandle>, mpsc::Receiver<Event>), Failure> {
        let line = self.line(&self.agent()?)?;
        // Who names the units to start wants no others.
        line.send(line::Command::AutoStart(false));
        crate::sound::follow(&self.config.line, line.subscribe());
        let events = line.subscribe();
        Ok((Box::new(line), events))
    }

    /// A build without hardware has no line.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(feature = "hardware"))]
    pub fn start_line(&self) -> Result<(Box<dyn LineHandle>, mpsc::Receiver<Event>), Failure> {
        Err(no_hardware())
    }

    /// The line, QA's desk and the office, as the window holds them; in front of line and desk is the gate.
    ///
    /// # Errors
    /// As [`Station::agent`]; `StationFault` if threads can't be started. A station without fixtures opens too.
    pub fn start_window(&self) -> Result<(Handles, Office), Failure> {
        self.start_window_on(None)
    }

    /// The same with this batch chosen, if it is still there.
    ///
    /// # Errors
    /// As [`Station::start_window`].
    #[cfg(feature = "hardware")]
    pub fn start_window_on(&self, batch: Option<&str>) -> Result<(Handles, Office), Failure> {
        let agent = self.agent()?;
        let (found, why) = match fixtures(&self.config) {
            Ok(found) => (found, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let line = self.line_on(&agent, &found)?;
        line.keep_audit(self.people.clone());
        if let Some(why) = why {
            line.say_no_fixtures(why);
        }
        self.mark_batches(line.subscribe());
        crate::sound::follow(&self.config.line, line.subscribe());
        let fixtures = line.snapshot().fixtures.iter().map(|f| f.name.clone()).collect();
        let (home, records) = (self.home.clone(), self.records.clone());
        let read_key = Arc::new(move |path: &Path| read_product_key(&home, &records.station_key(), path));
        let issuer = agent.clone();
        let regions = Box::new(move || issuer.regions());
        let (at, key) = (self.home.clone(), self.records.station_key());
        let recipient = Box::new(move || Ok(key_identity(&at, &key)?.to_public().to_string()));
        let orders = OrderOffice::new(self.records.clone(), self.config.clone(), regions, read_key)
            .with_recipient(recipient);
        let (start, events) = (line.commands(), line.subscribe());
        let gate = Some(self.people.clone());
        let folder = Some(self.home.join("travelers"));
        let records = self.records.clone();
        let desk = Desk::with_folder(records, agent, fixtures, start, events, Some(orders), gate, folder)?;
        let (home, key) = (self.home.clone(), self.records.station_key());
        let tools = Tools {
            line: Box::new(line.commands()),
            signer: Box::new(move || export_signer(&home, &key)),
            folder: self.home.join("exports"),
        };
        let office = Office::new(self.people.clone(), tools)?;
        // In front of the gate: who comes finds the station ready.
        line.send(line::Command::SetOperator(self.operator.clone()));
        // The batch that is open alone needs no picking.
        let all: Vec<_> = self.records.list_batches().map_err(records_failure)?;
        let open: Vec<_> = all.iter().filter(|b| b.state == BatchState::Open).collect();
        let before = batch.and_then(|name| all.iter().find(|b| b.name == name));
        if let Some(batch) = before.or(if let [batch] = open[..] { Some(batch) } else { None }) {
            line.send(line::Command::SelectBatch(batch.name.clone()));
        }
        Ok(((office.guard(Box::new(line)), Box::new(desk)), office))
    }

    /// A build without hardware has no line.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(feature = "hardware"))]
    pub fn start_window_on(&self, _batch: Option<&str>) -> Result<(Handles, Office), Failure> {
        Err(no_hardware())
    }

    /// Whatever a unit is started under is what the next start offers to go on with, should this session end badly.
    #[cfg(feature = "hardware")]
    fn mark_batches(&self, events: mpsc::Receiver<Event>) {
        // The mark goes with the session, not with its last event.
        let mark = Arc::downgrade(&self.mark);
        let listener = std::thread::Builder::new().name("mark".into());
        let listens = listener.spawn(move || {
            for event in events {
                let Some(mark) = mark.upgrade() else { return };
                if let Event::Started { batch, .. } = event {
                    mark.set_batch(Some(&batch));
                }
            }
        });
        if let Err(error) = listens {
            tracing::warn!(%error, "no thread for the session's mark");
        }
    }

    /// What exports read.
    pub fn export_source(&self) -> RecordsSource {
        RecordsSource { records: (*self.records).clone(), vault: self.records.key_vault() }
    }

    /// The clerk that exports for the window.
    ///
    /// # Errors
    /// `StationFault` if no thread can be started.
    pub fn start_clerk(&self) -> Result<Clerk, Failure> {
        let (home, key) = (self.home.clone(), self.records.station_key());
        let office = clerk::Office {
            source: self.export_source(),
            people: self.people.clone(),
            signer: Box::new(move || export_signer(&home, &key)),
            station: self.config.name.clone(),
            needs_second_person: self.config.second_person,
            folder: self.home.join("exports"),
            now_ms,
        };
        Clerk::new(office)
    }

    /// The foreman, for the window: figures and the end of a shift.
    ///
    /// # Errors
    /// `StationFault` if no thread can be started.
    pub fn start_foreman(&self) -> Result<Foreman, Failure> {
        Foreman::new(self.records.clone(), self.people.clone(), self.home.join("exports"))
    }

    /// The age recipient to which vendors encrypt product keys; its secret half is drawn and sealed at first use.
    ///
    /// # Errors
    /// `SecretsFailed` if the sealed file is damaged or can't be written.
    pub fn key_recipient(&self) -> Result<String, Failure> {
        Ok(key_identity(&self.home, &self.records.station_key())?.to_public().to_string())
    }

    /// A vendor's product key from a file that was encrypted to [`Self::key_recipient`], or sealed by this station. In it stand 64 hex
    /// digits.
    ///
    /// # Errors
    /// `InvalidInput` for a file that is no such thing; `BlankKey`. What is in it stands in no error.
    pub fn read_product_key(&self, path: &Path) -> Result<Secret<32>, Failure> {
        read_product_key(&self.home, &self.records.station_key(), path)
    }

    /// What entries of the wizard are checked against.
    ///
    /// # Errors
    /// Those of the records.
    pub fn known_orders(&self) -> Result<crate::orders::Known, Failure> {
        // Without anchors the regions are not looked at: they may be made later.
        let anchors = Anchors::open(&self.home, &self.records.station_key());
        let regions = anchors.map(|a| a.regions().collect()).unwrap_or_default();
        Ok(crate::orders::Known {
            orders: self.records.list_product_orders().map_err(records_failure)?,
            batches: self.records.list_batches().map_err(records_failure)?,
            regions,
            ..crate::orders::Known::of(&self.config)
        })
    }

    /// The export signing key; drawn and sealed at first use.
    ///
    /// # Errors
    /// `SecretsFailed` if the sealed file is damaged or can't be written.
    pub fn export_signer(&self) -> Result<ExportSigner, Failure> {
        export_signer(&self.home, &self.records.station_key())
    }
}

/// The key that signs exports; drawn and sealed at first use.
pub(crate) fn export_signer(home: &Path, key: &StationKey) -> Result<ExportSigner, Failure> {
    let folder = home.join("anchors");
    let file = SealedFile::at(folder.join("export.sealed"));
    let seed = if file.path().exists() {
        let bytes = file.read(key).map_err(secrets_failure)?;
        Secret::<32>::from_slice(&bytes).ok_or_else(|| {
            secrets_failure(SecretsError::Damaged { what: file.path().display().to_string() })
        })?
    } else {
        let seed = Secret::<32>::random().map_err(secrets_failure)?;
        std::fs::create_dir_all(&folder).map_err(|source| {
            secrets_failure(SecretsError::File { path: folder.display().to_string(), source })
        })?;
        file.write(key, seed.expose()).map_err(secrets_failure)?;
        seed
    };
    Ok(ExportSigner::from_seed(seed.expose()))
}

/// Looks at every row of both histories, whoever asks.
///
/// # Errors
/// As [`Station::open`]; what is broken is in the answer.
pub fn verify_histories(options: &Options) -> Result<Verified, Failure> {
    if !options.has_records() {
        return Err(Failure::new(FailureCode::RecordsFailed, "there is no database yet"));
    }
    options.open_records(&options.load_config()?)?.verify_all().map_err(records_failure)
}

/// Gives an admin who can't log in any more a new PIN. Knowing the passphrase is the right to it, so it must have been typed:
/// [`Options::typed_passphrase`].
///
/// # Errors
/// `WrongPassphrase`, `RecordsFailed`; `NotFound` or `InvalidInput` if it is nobody's, or no admin's, name; `InvalidInput` for the PIN.
pub fn recover(
    options: &Options,
    passphrase: &Passphrase,
    name: &str,
    pin: &crate::people::Pin,
) -> Result<Person, Failure> {
    if !options.has_records() {
        return Err(Failure::new(FailureCode::RecordsFailed, "there is no database yet"));
    }
    let records = options.open_records_with(&options.load_config()?, passphrase)?;
    People::new(records, &options.operator)?.recover(name, pin)
}

/// The secret half of [`Station::key_recipient`]; drawn and sealed at first use.
fn key_identity(home: &Path, key: &StationKey) -> Result<age::x25519::Identity, Failure> {
    let folder = home.join("anchors");
    let file = SealedFile::at(folder.join("import.sealed"));
    if file.path().exists() {
        let bytes = file.read(key).map_err(secrets_failure)?;
        let text = std::str::from_utf8(&bytes).ok();
        return text.and_then(|t| t.parse().ok()).ok_or_else(|| {
            secrets_failure(SecretsError::Damaged { what: file.path().display().to_string() })
        });
    }
    let identity = age::x25519::Identity::generate();
    std::fs::create_dir_all(&folder).map_err(|source| {
        secrets_failure(SecretsError::File { path: folder.display().to_string(), source })
    })?;
    let text = identity.to_string();
    file.write(key, age::secrecy::ExposeSecret::expose_secret(&text).as_bytes()).map_err(secrets_failure)?;
    Ok(identity)
}

fn read_product_key(home: &Path, key: &StationKey, path: &Path) -> Result<Secret<32>, Failure> {
    let refuse = |why: &str| Failure {
        code: FailureCode::InvalidInput,
        sentence: format!("{} gives no product key: {why}", path.display()),
        remedy: "Have it encrypted to what keywright po key-recipient says: age -r RECIPIENT -o FILE".into(),
    };
    let file = std::fs::read(path).map_err(|e| refuse(&e.to_string()))?;
    let clear = if file.starts_with(b"age-encryption.org/") {
        let identity = key_identity(home, key)?;
        let mut clear = Zeroizing::new(Vec::with_capacity(4096));
        age::Decryptor::new_buffered(&file[..])
            .and_then(|d| d.decrypt(std::iter::once(&identity as &dyn age::Identity)))
            .map_err(|e| refuse(&e.to_string()))?
            .take(4096)
            .read_to_end(&mut clear)
            .map_err(|e| refuse(&e.to_string()))?;
        clear
    } else if file.starts_with(b"-----BEGIN AGE") {
        return Err(refuse("it is armored; encrypt it without -a"));
    } else if SealedFile::is_sealed(&file) {
        SealedFile::at(path).read(key).map_err(secrets_failure)?
    } else {
        return Err(refuse("it is not encrypted, and product keys never lie about in clear"));
    };
    let mut bytes = Zeroizing::new([0; 32]);
    let text =
        std::str::from_utf8(&clear).map(str::trim).map_err(|_| refuse("in it are no 64 hex digits"))?;
    hex::decode_to_slice(text, &mut *bytes).map_err(|_| refuse("in it are no 64 hex digits"))?;
    if keywright_protocol::crypto::is_blank(&*bytes) {
        return Err(Failure::new(FailureCode::BlankKey, "the vendor's product key"));
    }
    Ok(Secret::from_bytes(*bytes))
}

/// The fixtures of a configuration, paired by USB serial number if it names none.
///
/// # Errors
/// `NoProbe`, `AmbiguousProbes`, `PortMissing`.
pub fn fixtures(config: &Config) -> Result<Vec<Fixture>, Failure> {
    #[cfg(feature = "hardware")]
    return crate::hardware::fixtures(config);
    #[cfg(not(feature = "hardware"))]
    if config.fixtures.is_empty() { Err(no_hardware()) } else { Ok(config.fixtures.clone()) }
}

#[cfg(not(feature = "hardware"))]
fn no_hardware() -> Failure {
    Failure {
        code: FailureCode::InvalidInput,
        sentence: "This build of Keywright reaches no probes and no serial ports".into(),
        remedy: "Install the build with hardware support".into(),
    }
}

/// What doctor learns of a station without starting it.
#[derive(Debug)]
pub struct Preflight {
    /// The database opens and its history is whole; words for people.
    pub database: Result<String, Failure>,
    /// The passphrase opens it; `None` while there is no database.
    pub passphrase: Option<Result<String, Failure>>,
    /// The anchors are there and open.
    pub anchors: Result<String, Failure>,
    /// The signing keys that orders need are there and sign; whether a certificate ends soon. `None` while there are none to look at.
    pub signing: Option<Result<(String, bool), Failure>>,
    /// Product orders, if the database opened.
    pub orders: Option<Vec<ProductOrder>>,
    /// Orders with a batch that is open.
    pub running: Vec<PoId>,
    /// The newest time in the records.
    pub newest_ms: Option<i64>,
    /// For each order with an open batch: whether the agent can give its units their stage one; words for people.
    pub stage_one: Vec<Result<String, Failure>>,
}

/// Looks at everything that the passphrase protects.
pub fn preflight(options: &Options) -> Preflight {
    let unopened = |database: Failure, passphrase, anchors: Failure| Preflight {
        database: Err(database),
        passphrase,
        anchors: Err(anchors),
        signing: None,
        orders: None,
        running: Vec::new(),
        newest_ms: None,
        stage_one: Vec::new(),
    };
    if !options.has_records() {
        let none = Failure::new(FailureCode::RecordsFailed, "there is no database yet");
        return unopened(none, None, no_anchors(options));
    }
    let unknown = |what: &str| Failure {
        code: FailureCode::AnchorsMissing,
        sentence: format!("The region's signing keys can't be looked at: {what}"),
        remedy: "See to that first, then run keywright doctor again".into(),
    };
    let passphrase = match options.passphrase() {
        Ok(passphrase) => passphrase,
        Err(failure) => {
            let database = Failure {
                code: FailureCode::RecordsFailed,
                sentence: "The database can't be looked at without the passphrase".into(),
                remedy: failure.remedy.clone(),
            };
            return unopened(database, Some(Err(failure)), unknown("there is no passphrase"));
        }
    };
    let name = options.load_config().map_or_else(|_| "station".into(), |c| c.name);
    let words = if passphrase.is_public_demo() {
        "opens this station; it is the PUBLIC demo passphrase"
    } else {
        "opens this station"
    };
    let records = match SqliteRecords::open(&options.records_path(), &name, &passphrase) {
        Ok(records) => records,
        Err(error @ RecordsError::WrongPassphrase { .. }) => {
            let failure = records_failure(error);
            let mut preflight =
                unopened(failure.clone(), Some(Err(failure)), unknown("the passphrase is wrong"));
            preflight.database = Ok("opens and is sound; its keys need the right passphrase".into());
            return preflight;
        }
        Err(error) => return unopened(records_failure(error), None, unknown("the database does not open")),
    };
    let whole = records.check_whole().and_then(|()| records.note_whole(now_ms())).map_err(records_failure);
    let mut preflight = preflight_of(options, &records, words);
    if let Err(failure) = whole {
        preflight.database = Err(failure);
    }
    preflight
}

/// The same of a station that is open.
pub fn preflight_of(options: &Options, records: &SqliteRecords, words: &str) -> Preflight {
    let database = records.verify_all().map_err(records_failure).and_then(|found| match found.summary() {
        Some(broken) => Err(Failure::new(FailureCode::HistoryBroken, broken)),
        None => Ok(format!(
            "{}: sound, {} events and {} audit rows, histories unbroken",
            options.records_path().display(),
            found.events,
            found.audit
        )),
    });
    let newest_ms = records.newest_ms().ok().flatten();
    let orders = records.list_product_orders().ok();
    let open = records.list_batches().unwrap_or_default().into_iter().filter(|b| b.state == BatchState::Open);
    let running: Vec<_> = open.map(|b| b.po).collect();
    let in_work = || orders.iter().flatten().filter(|o| running.contains(&o.id));
    let stage_one = match Anchors::open(options.home.as_path(), &records.station_key()) {
        Ok(anchors) => {
            // No cloud: nothing is asked of one, and none is started.
            let cloud = PlatformCloud::new(&options.home, "preflight", &[], records.clone());
            let agent = EmbeddedAgent::new(records.clone(), anchors, Arc::new(cloud));
            in_work().map(|order| crate::preflight::stage_one(&agent, order)).collect()
        }
        // That the anchors don't open is said of the anchors.
        Err(_) => Vec::new(),
    };
    Preflight {
        database,
        passphrase: Some(Ok(words.into())),
        anchors: check_anchors(options, records, orders.as_deref().unwrap_or_default()),
        signing: options.load_config().ok().and_then(|config| {
            check_signing(&options.door(&config), options, records, orders.as_deref().unwrap_or_default())
        }),
        orders,
        running,
        newest_ms,
        stage_one,
    }
}
