//! The station as the window holds it: it is set up here step by step, opened, and opened again when station.toml says something else,
//! while the window stays.
//!
//! ```text
//! window ── Command ─▶ host ── takes the line away and opens another ─▶ Opened ─▶ window
//!            Old ────▶  (one thread; brokers are tried and rehearsals run on threads of their own)
//! ```
//! The window gives its handles back when nothing runs ([`HostHandle::retire`]) and takes new ones when they are there
//! ([`HostHandle::take`]); in between it shows what it last saw.
//!
//! Invariants:
//! - Whoever may not change the station gets nothing done here, and what is done stands in the audit log, once there is one.
//! - No passphrase and no password is in a snapshot; nothing here keeps one longer than the command that brought it.

use crate::config::{Config, Fixture};
use crate::desk::Handles;
use crate::export::clerk::ExportHandle;
use crate::failure::{Failure, FailureCode};
use crate::first_run::{self, Facts, Plugged, Progress, Step, Wrote};
use crate::foreman::ForemanHandle;
use crate::i18n::LanguageChoice;
use crate::line::bench::Cancel;
use crate::people::office::{self, PeopleHandle};
use crate::people::{Credential, NewPerson, Right, Role};
use crate::preflight::{self, Check};
#[cfg(feature = "hardware")]
use crate::rehearsal;
use crate::secrets::Passphrase;
use crate::settings::CloudDraft;
use crate::station::{self, LeftBehind, Options, Station};
use crate::trust::clerk::TrustHandle;
use crate::{backup, line};
use serde_json::json;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often it is looked what is plugged in, while somebody names fixtures.
const PLUGGED: Duration = Duration::from_secs(1);
/// How often a line without fixtures looks for some.
const LOOK: Duration = Duration::from_secs(3);
/// How long the host sleeps when there is nothing to look at.
const REST: Duration = Duration::from_secs(3600);

/// What a rehearsal is at.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// A board is being started.
    Board,
    /// A home is being made for it.
    Home,
    /// The unit is in this step, so far of it (0 to 1).
    Step(line::Step, f32),
}

/// What a rehearsal came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// The unit passed.
    pub passed: bool,
    /// Why not.
    pub failure: Option<Failure>,
    /// Its serial.
    pub serial: String,
    /// Seconds in all.
    pub seconds: f64,
    /// Model and version of the image.
    pub image: String,
}

/// A rehearsal.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Rehearsal {
    /// None was asked for.
    #[default]
    None,
    /// At work.
    Running(Stage),
    /// A unit came to its end.
    Ended(Made),
    /// It could not be run.
    Failed(Failure),
}

/// How a try at a broker stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Broker {
    /// None was asked for.
    #[default]
    None,
    /// At work.
    Trying,
    /// It would do; it knows so many units.
    Answers(usize),
    /// It would not.
    Failed(Failure),
}

/// The newest word to whoever asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Told {
    /// Nothing to say.
    #[default]
    Nothing,
    /// At work.
    Working,
    /// What was written; nothing if it was there already.
    Wrote(Vec<Wrote>),
    /// It was refused or failed.
    Failed(Failure),
}

/// Somebody has to log in before the guide goes on: people work here, and nobody is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Login {
    /// Names that can log in.
    pub names: Vec<(String, Role)>,
    /// A PIN is being looked at.
    pub works: bool,
    /// Why the newest try let nobody in.
    pub failure: Option<Failure>,
    /// Whoever was tried last is locked out until then.
    pub wait_until: Option<Instant>,
}

/// The guide, while it is open.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Guide {
    /// Who goes on is asked before any step is shown.
    pub login: Option<Login>,
    /// Where somebody is.
    pub progress: Progress,
    /// What the station has.
    pub facts: Facts,
    /// The newest word.
    pub told: Told,
    /// What is plugged in.
    pub plugged: Plugged,
    /// What of it appeared since the last fixture was named.
    pub new: Plugged,
    /// A rehearsal.
    pub rehearsal: Rehearsal,
    /// Where the program is that plays a board, or that there is none.
    pub board: Option<Result<PathBuf, Failure>>,
    /// A try at a broker.
    pub broker: Broker,
    /// What doctor says; at the last step.
    pub checks: Vec<Check>,
}

/// Everything the window shows of the host, replaced as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The guide, while it is open.
    pub guide: Option<Guide>,
    /// The session before this one did not end well; until somebody has read it.
    pub left_behind: Option<LeftBehind>,
    /// The window should give its handles back as soon as nothing runs: something else is to be opened.
    pub wants_reopen: bool,
    /// The station is being opened.
    pub opening: bool,
    /// Why it could not be opened as station.toml says.
    pub failure: Option<Failure>,
}

/// Commands that go down to the host.
#[derive(Clone, Debug)]
pub enum Command {
    /// Look for probes and ports now.
    Look,
    /// The window has told how the last session ended, and somebody read it.
    Understood,
    /// Open the guide.
    Guide,
    /// Leave the guide; the next one begins where this one was.
    Leave,
    /// Show a step.
    Go(Step),
    /// Go on.
    On,
    /// Go back.
    Back,
    /// Name and language.
    Name {
        /// The name.
        name: String,
        /// The language.
        language: LanguageChoice,
    },
    /// The passphrase; `None`: the one that came with the start.
    Key {
        /// As it was typed.
        passphrase: Option<Passphrase>,
        /// Keep it in the system's keyring.
        keep: bool,
    },
    /// The first admin.
    Admin(NewPerson),
    /// Whoever goes on with the guide.
    Login(Credential),
    /// What is plugged in now counts as old.
    Watch,
    /// Fixtures, in place of those that are there.
    Fixtures(Vec<Fixture>),
    /// Root and a region.
    Anchors(u32),
    /// A broker, and its password if it was typed.
    Cloud(CloudDraft, Option<Passphrase>),
    /// Try a broker without writing it down.
    TryCloud(CloudDraft, Option<Passphrase>),
    /// The common image.
    Image(PathBuf),
    /// Make one unit for trial.
    Rehearse,
    /// Stop that.
    CancelRehearsal,
    /// The guide is through.
    Finish,
}

/// A station that was opened for the window.
pub struct Opened {
    /// Line and desk, behind the gate.
    pub handles: Handles,
    /// Who works here.
    pub people: Box<dyn PeopleHandle>,
    /// What leaves the station.
    pub exports: Box<dyn ExportHandle>,
    /// Figures and the end of a shift.
    pub foreman: Box<dyn ForemanHandle>,
    /// Root, regions, units.
    pub trust: Box<dyn TrustHandle>,
    /// What it was opened with.
    pub config: Config,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("station", &self.config.name).finish_non_exhaustive()
    }
}

/// What the window gives back; dropping it waits for what it holds, so that is not done in a frame.
pub struct Old {
    /// Line and desk.
    pub handles: Handles,
    /// Who works here.
    pub people: Option<Box<dyn PeopleHandle>>,
    /// What leaves the station.
    pub exports: Option<Box<dyn ExportHandle>>,
    /// Figures and the end of a shift.
    pub foreman: Option<Box<dyn ForemanHandle>>,
    /// Root, regions, units.
    pub trust: Option<Box<dyn TrustHandle>>,
    /// The batch that was chosen; it is chosen again.
    pub batch: Option<String>,
}

impl std::fmt::Debug for Old {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Old").field("batch", &self.batch).finish_non_exhaustive()
    }
}

/// What the window holds of the host. Nothing here blocks.
pub trait HostHandle: Send {
    /// Sends a command; it is carried out by the host's own thread.
    fn send(&self, command: Command);
    /// The newest snapshot.
    fn snapshot(&self) -> Arc<Snapshot>;
    /// A station that was opened and not taken yet.
    fn take(&self) -> Option<Opened>;
    /// Gives back what was taken; the station is opened again as station.toml says now.
    fn retire(&self, old: Old);
    /// Calls `wake` after every change, from another thread.
    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>);
}

enum Message {
    Command(Command),
    Retire(Old),
    Broker(Result<usize, Failure>),
    #[cfg(feature = "hardware")]
    Stage(rehearsal::News),
    #[cfg(feature = "hardware")]
    Rehearsed(Result<rehearsal::Report, Failure>),
    OnChange(Box<dyn Fn() + Send + Sync>),
    Stop,
}

#[derive(Default)]
struct Shared {
    snapshot: Mutex<Arc<Snapshot>>,
    opened: Mutex<Option<Opened>>,
}

/// The host of a station; dropping it closes the station.
pub struct Host {
    messages: Sender<Message>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

impl Host {
    /// A host of this home. With a station that is set up it opens it at once, else it opens the guide.
    ///
    /// # Errors
    /// Why a station that is set up can't be opened; `StationFault` if no thread can be started.
    pub fn start(options: Options, station: Option<Station>) -> Result<Self, Failure> {
        let (messages, inbox) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let mut keeper = Keeper {
            facts: Facts::look(&options, station.as_ref()),
            view: Snapshot::default(),
            opened_with: None,
            no_fixtures: false,
            backups: None,
            before: Plugged::default(),
            looked: Instant::now(),
            rehearsal: None,
            rehearsed: false,
            locked: false,
            unlocked: false,
            wakers: Vec::new(),
            shared: Arc::clone(&shared),
            messages: messages.clone(),
            options,
            station,
        };
        if let Some(station) = &keeper.station {
            keeper.view.left_behind = station.left_behind()?;
        }
        if first_run::is_wanted(&keeper.options) || !keeper.facts.can_open() {
            keeper.locked = keeper.facts.has_anchors && keeper.station.is_none();
            keeper.guide();
        } else {
            keeper.open(None)?;
        }
        keeper.publish();
        let thread = std::thread::Builder::new()
            .name("host".into())
            .spawn(move || keeper.run(&inbox))
            .map_err(|e| Failure::new(FailureCode::StationFault, format!("no thread: {e}")))?;
        Ok(Self { messages, shared, thread: Some(thread) })
    }
}

impl HostHandle for Host {
    fn send(&self, command: Command) {
        drop(self.messages.send(Message::Command(command)));
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take(&self) -> Option<Opened> {
        self.shared.opened.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn retire(&self, old: Old) {
        drop(self.messages.send(Message::Retire(old)));
    }

    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        drop(self.messages.send(Message::OnChange(wake)));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.messages.send(Message::Stop));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The host's thread.
struct Keeper {
    options: Options,
    station: Option<Station>,
    facts: Facts,
    view: Snapshot,
    /// The configuration that the window works with; `None`: it has no line.
    opened_with: Option<Config>,
    /// None was found when it was opened.
    no_fixtures: bool,
    backups: Option<backup::Keeper>,
    before: Plugged,
    looked: Instant,
    rehearsal: Option<(Cancel, JoinHandle<()>)>,
    rehearsed: bool,
    /// A station that is set up waits for its passphrase.
    locked: bool,
    /// It has just got it.
    unlocked: bool,
    wakers: Vec<Box<dyn Fn() + Send + Sync>>,
    shared: Arc<Shared>,
    messages: Sender<Message>,
}

impl Keeper {
    fn run(mut self, inbox: &Receiver<Message>) {
        loop {
            let every = self.looks_every();
            match inbox.recv_timeout(every.map_or(REST, |every| every.saturating_sub(self.looked.elapsed())))
            {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(Message::OnChange(wake)) => {
                    self.wakers.push(wake);
                    continue;
                }
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {
                    if !self.look() {
                        continue;
                    }
                }
            }
            self.publish();
        }
        self.cancel_rehearsal();
        if let Some((_, thread)) = self.rehearsal.take() {
            drop(thread.join());
        }
        // What nobody took goes before the station.
        drop(self.shared.opened.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn publish(&self) {
        *self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(self.view.clone());
        self.wakers.iter().for_each(|wake| wake());
    }

    fn names_fixtures(&self) -> bool {
        self.view.guide.as_ref().is_some_and(|guide| guide.progress.at == Step::Fixtures)
    }

    /// The line has no fixtures because none was found.
    fn lacks_fixtures(&self) -> bool {
        self.no_fixtures && !self.view.wants_reopen && self.opened_with.is_some()
    }

    fn looks_every(&self) -> Option<Duration> {
        if self.names_fixtures() {
            Some(PLUGGED)
        } else if self.lacks_fixtures() {
            Some(LOOK)
        } else {
            None
        }
    }

    /// Looks what is plugged in; true if that changed anything on the screen.
    fn look(&mut self) -> bool {
        self.looked = Instant::now();
        if self.names_fixtures() {
            return self.look_at_plugs();
        }
        let found = self
            .opened_with
            .as_ref()
            .filter(|_| self.lacks_fixtures())
            .is_some_and(|config| station::fixtures(config).is_ok());
        self.view.wants_reopen |= found;
        found
    }

    fn look_at_plugs(&mut self) -> bool {
        let now = Plugged::now();
        let Some(guide) = &mut self.view.guide else { return false };
        let (plugged, new) = (now.free(&guide.facts.config.fixtures), now.since(&self.before));
        let new = new.free(&guide.facts.config.fixtures);
        let changed = (&guide.plugged, &guide.new) != (&plugged, &new);
        (guide.plugged, guide.new) = (plugged, new);
        changed
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Command(command) => self.command(command),
            Message::Retire(old) => self.reopen(old),
            Message::Broker(tried) => {
                if let Some(guide) = &mut self.view.guide {
                    guide.broker = match tried {
                        Ok(units) => Broker::Answers(units),
                        Err(failure) => Broker::Failed(failure),
                    };
                }
            }
            #[cfg(feature = "hardware")]
            Message::Stage(news) => {
                if let Some(guide) = &mut self.view.guide {
                    guide.rehearsal = Rehearsal::Running(match news {
                        rehearsal::News::Board => Stage::Board,
                        rehearsal::News::Home => Stage::Home,
                        rehearsal::News::Step(step, fraction) => Stage::Step(step, fraction),
                    });
                }
            }
            #[cfg(feature = "hardware")]
            Message::Rehearsed(came) => {
                if let Some((_, thread)) = self.rehearsal.take() {
                    drop(thread.join());
                }
                let came = match came {
                    Ok(report) => {
                        self.rehearsed |= report.outcome == crate::model::Outcome::Pass;
                        Rehearsal::Ended(Made {
                            passed: report.outcome == crate::model::Outcome::Pass,
                            failure: report.failure,
                            serial: report.serial.unwrap_or_default(),
                            seconds: report.seconds,
                            image: report.image,
                        })
                    }
                    Err(failure) => Rehearsal::Failed(failure),
                };
                if let Some(guide) = &mut self.view.guide {
                    guide.rehearsal = came;
                }
                self.look_at_facts();
            }
            Message::OnChange(_) | Message::Stop => {}
        }
    }

    fn look_at_facts(&mut self) {
        self.facts = Facts::look(&self.options, self.station.as_ref());
        self.facts.rehearsed = self.rehearsed;
        let login = self.asks_login();
        if let Some(guide) = &mut self.view.guide {
            guide.facts = self.facts.clone();
            guide.login = login;
        }
    }

    /// Whether somebody has to log in here. Once the window has a line it has a lock screen of its own.
    fn asks_login(&self) -> Option<Login> {
        let people = &self.station.as_ref().filter(|_| self.opened_with.is_none())?.people;
        let (who, locked) = people.session();
        if people.is_open() || (who.is_some() && !locked) {
            return None;
        }
        let persons = people.list().inspect_err(|failure| tracing::error!(%failure, "nobody can log in"));
        let active = persons.unwrap_or_default().into_iter().filter(|person| person.active);
        Some(Login { names: active.map(|p| (p.name, p.role)).collect(), ..Login::default() })
    }

    /// Lets somebody in who may set a station up; anybody else could only be refused at every step.
    fn log_in(&mut self, credential: &Credential) {
        if self.asks_login().is_none() {
            return;
        }
        if let Some(login) = self.view.guide.as_mut().and_then(|guide| guide.login.as_mut()) {
            (login.works, login.failure) = (true, None);
        }
        self.publish();
        let tried = self.station().and_then(|station| {
            let people = &station.people;
            people.login(credential)?;
            people.demand(Right::Settings, "first-run", "").inspect_err(|_| people.lock())
        });
        if let Some(station) = &mut self.station {
            station.operator = station.people.operator();
        }
        self.look_at_facts();
        let (Err(failure), Some(station)) = (tried, &self.station) else { return };
        let wait_until = match credential {
            Credential::Pin { name, .. } if failure.code == FailureCode::LockedOut => {
                office::locked_until(&station.people, name)
            }
            _ => None,
        };
        if let Some(guide) = &mut self.view.guide {
            guide.login =
                Some(Login { failure: Some(failure), wait_until, ..guide.login.take().unwrap_or_default() });
        }
    }

    /// Opens the guide where it was left.
    fn guide(&mut self) {
        self.look_at_facts();
        let progress = match Progress::load(&self.options.home) {
            Some(mut left) => {
                left.resume(&self.facts);
                left
            }
            // One who opens it again wants to see all of it.
            None if self.opened_with.is_some() => Progress::default(),
            None => Progress::fresh(&self.facts),
        };
        self.before = Plugged::now();
        let login = self.asks_login();
        self.view.guide = Some(Guide { progress, facts: self.facts.clone(), login, ..Guide::default() });
        self.arrive();
    }

    /// What a step needs when it is shown.
    fn arrive(&mut self) {
        let (options, station) = (&self.options, &self.station);
        let Some(guide) = &mut self.view.guide else { return };
        guide.told = Told::Nothing;
        guide.progress.save(&options.home);
        match guide.progress.at {
            Step::Rehearsal => guide.board = Some(find_board(&guide.facts.config)),
            Step::Summary => {
                guide.checks = match station {
                    Some(station) => preflight::station_with(options, || {
                        station::preflight_of(options, &station.records, "opens this station")
                    }),
                    None => preflight::station_with(options, || station::preflight(options)),
                };
            }
            _ => {}
        }
        if self.names_fixtures() {
            self.look_at_plugs();
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Look => {
                let found = self.opened_with.as_ref().is_some_and(|config| station::fixtures(config).is_ok());
                self.view.wants_reopen |= found && self.lacks_fixtures();
                self.look_at_plugs();
            }
            Command::Understood => self.view.left_behind = None,
            Command::Guide => {
                if let Some(station) = &self.station
                    && let Err(failure) = station.people.demand(Right::Settings, "first-run", "")
                {
                    self.view.failure = Some(failure);
                    return;
                }
                self.guide();
            }
            Command::Leave | Command::Finish => {
                self.cancel_rehearsal();
                let through = matches!(command, Command::Finish);
                if let Some(guide) = self.view.guide.take() {
                    if through {
                        Progress::forget(&self.options.home);
                    } else {
                        guide.progress.save(&self.options.home);
                    }
                    self.go_to_work(guide);
                }
            }
            Command::Go(step) => {
                if let Some(guide) = &mut self.view.guide {
                    guide.progress.go(step, &guide.facts);
                }
                self.arrive();
            }
            Command::On => {
                if let Some(guide) = &mut self.view.guide
                    && !guide.progress.on(&guide.facts)
                {
                    guide.told =
                        Told::Failed(Failure::new(FailureCode::NotSetUp, "this step has to be done"));
                    return;
                }
                self.arrive();
            }
            Command::Back => {
                if let Some(guide) = &mut self.view.guide {
                    guide.progress.back();
                }
                self.arrive();
            }
            Command::Watch => {
                self.before = Plugged::now();
                self.look_at_plugs();
            }
            Command::TryCloud(cloud, password) => self.try_cloud(cloud, password),
            Command::Login(credential) => self.log_in(&credential),
            Command::Rehearse => self.rehearse(),
            Command::CancelRehearsal => self.cancel_rehearsal(),
            writes => self.write(writes),
        }
    }

    /// A step that writes something.
    fn write(&mut self, command: Command) {
        if let Some(guide) = &mut self.view.guide {
            guide.told = Told::Working;
        }
        self.publish();
        let fixtures = matches!(command, Command::Fixtures(_));
        let wrote = self.carry_out(command);
        self.look_at_facts();
        if fixtures && wrote.is_ok() {
            // The next fixture is what comes from here on.
            self.before = Plugged::now();
            self.look_at_plugs();
        }
        if let Some(guide) = &mut self.view.guide {
            guide.told = match wrote {
                Ok(wrote) => Told::Wrote(wrote),
                Err(failure) => Told::Failed(failure),
            };
        }
        if std::mem::take(&mut self.unlocked) && self.facts.can_open() {
            // The guide was there for the passphrase only.
            self.locked = false;
            if let Some(guide) = self.view.guide.take() {
                Progress::forget(&self.options.home);
                self.go_to_work(guide);
            }
        }
    }

    fn carry_out(&mut self, command: Command) -> first_run::Written {
        let options = self.options.clone();
        match command {
            Command::Name { name, language } => first_run::gated(
                self.station.as_ref(),
                Right::Settings,
                ("settings-changed", "name"),
                json!({ "name": name }),
                || first_run::set_name(&options, &name, language),
            ),
            Command::Key { passphrase, keep } => {
                if self.station.is_some() {
                    return Ok(Vec::new());
                }
                let passphrase = match passphrase {
                    Some(typed) => typed,
                    None => options.passphrase()?,
                };
                let (station, wrote) = first_run::open(&options, &passphrase, keep)?;
                self.view.left_behind = station.left_behind()?;
                self.station = Some(station);
                self.unlocked = self.locked;
                Ok(wrote)
            }
            Command::Admin(new) => {
                let station = self.station()?;
                if !station.people.is_open() {
                    return Ok(Vec::new());
                }
                let person = station.people.add(&new)?;
                if let Some(station) = &mut self.station {
                    station.operator = station.people.operator();
                }
                Ok(vec![Wrote::Admin { name: person.name }])
            }
            Command::Fixtures(fixtures) => {
                let names: Vec<_> = fixtures.iter().map(|f| f.name.clone()).collect();
                let detail = json!({ "fixtures": names });
                first_run::gated(
                    self.station.as_ref(),
                    Right::Settings,
                    ("settings-changed", "fixtures"),
                    detail,
                    || first_run::set_fixtures(&options, &fixtures),
                )
            }
            Command::Anchors(region) => {
                let station = self.station()?;
                let subject = format!("region {region}");
                station.people.act(Right::Anchors, ("anchors-made", &subject), json!({}), || {
                    first_run::make_anchors(station, region)
                })
            }
            Command::Cloud(cloud, password) => {
                let detail = json!({ "url": cloud.url });
                first_run::gated(
                    self.station.as_ref(),
                    Right::Clouds,
                    ("cloud-set", &cloud.name),
                    detail,
                    || first_run::set_cloud(&options, &cloud, password.as_ref()),
                )
            }
            Command::Image(path) => {
                let detail = json!({ "image": path.display().to_string() });
                first_run::gated(
                    self.station.as_ref(),
                    Right::Settings,
                    ("settings-changed", "image"),
                    detail,
                    || first_run::set_image(&options, &path),
                )
            }
            _ => Ok(Vec::new()),
        }
    }

    fn station(&self) -> Result<&Station, Failure> {
        let closed = || Failure::new(FailureCode::NotSetUp, "it has no passphrase yet");
        self.station.as_ref().ok_or_else(closed)
    }

    fn try_cloud(&mut self, cloud: CloudDraft, password: Option<Passphrase>) {
        let (options, told) = (self.options.clone(), self.messages.clone());
        let Some(guide) = &mut self.view.guide else { return };
        if guide.broker == Broker::Trying {
            return;
        }
        // The password that the station keeps goes to the address that was typed.
        if let Some(station) = &self.station
            && let Err(failure) = station.people.demand(Right::Clouds, "cloud-tried", &cloud.name)
        {
            guide.broker = Broker::Failed(failure);
            return;
        }
        guide.broker = Broker::Trying;
        let tries = std::thread::Builder::new().name("try a broker".into()).spawn(move || {
            let tried = first_run::try_cloud(&options, &cloud, password.as_ref());
            drop(told.send(Message::Broker(tried)));
        });
        if let Err(error) = tries {
            guide.broker =
                Broker::Failed(Failure::new(FailureCode::StationFault, format!("no thread: {error}")));
        }
    }

    #[cfg(feature = "hardware")]
    fn rehearse(&mut self) {
        let told = self.messages.clone();
        let Some(guide) = &mut self.view.guide else { return };
        if self.rehearsal.is_some() {
            return;
        }
        let begun = rehearsal::find_board(&guide.facts.config).and_then(|program| {
            let image = guide
                .facts
                .config
                .image
                .clone()
                .ok_or_else(|| Failure::new(FailureCode::NotSetUp, "no common image is chosen"))?;
            let cancel = Cancel::default();
            let stop = cancel.clone();
            let thread = std::thread::Builder::new().name("rehearsal".into()).spawn(move || {
                let tell = |news| drop(told.send(Message::Stage(news)));
                let came = rehearsal::run(&program, &image, &stop, tell);
                drop(told.send(Message::Rehearsed(came)));
            });
            let thread =
                thread.map_err(|e| Failure::new(FailureCode::StationFault, format!("no thread: {e}")))?;
            Ok((cancel, thread))
        });
        match begun {
            Ok(running) => {
                guide.rehearsal = Rehearsal::Running(Stage::Board);
                self.rehearsal = Some(running);
            }
            Err(failure) => guide.rehearsal = Rehearsal::Failed(failure),
        }
    }

    #[cfg(not(feature = "hardware"))]
    fn rehearse(&mut self) {
        if let Some(guide) = &mut self.view.guide {
            guide.rehearsal = Rehearsal::Failed(Failure::new(FailureCode::PracticeBoardMissing, ""));
        }
    }

    fn cancel_rehearsal(&mut self) {
        if let Some((cancel, _)) = &self.rehearsal {
            cancel.cancel();
        }
    }

    /// After the guide: the window gets its station, or another one if the guide changed it.
    fn go_to_work(&mut self, guide: Guide) {
        match &self.opened_with {
            None => {
                if let Err(failure) = self.open(None) {
                    // There is nothing else to show: back to where it can be seen to.
                    self.view.guide = Some(Guide { told: Told::Failed(failure), ..guide });
                }
            }
            Some(config) => match self.options.load_config() {
                Ok(now) => self.view.wants_reopen |= now != *config,
                Err(failure) => self.view.failure = Some(failure),
            },
        }
    }

    /// Opens the window's handles on the station as it is configured.
    fn open(&mut self, batch: Option<&str>) -> Result<(), Failure> {
        let config = self.options.load_config()?;
        let Some(station) = &mut self.station else {
            return Err(Failure::new(FailureCode::NotSetUp, "it has no passphrase yet"));
        };
        station.configure(&self.options, config.clone());
        let (handles, office) = station.start_window_on(batch)?;
        self.no_fixtures = handles.0.snapshot().fixtures.is_empty();
        let clerk = station.start_clerk()?;
        let exports = office.guard_exports(Box::new(clerk));
        self.backups = None;
        self.backups = Some(station.keep_backups()?);
        let (foreman, trust) = (Box::new(station.start_foreman()?), Box::new(station.start_trust()?));
        let opened =
            Opened { handles, people: Box::new(office), exports, foreman, trust, config: config.clone() };
        *self.shared.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
        self.opened_with = Some(config);
        (self.view.opening, self.view.failure, self.view.wants_reopen) = (false, None, false);
        Ok(())
    }

    fn reopen(&mut self, old: Old) {
        (self.view.opening, self.view.wants_reopen) = (true, false);
        self.publish();
        let Old { handles, people, exports, foreman, trust, batch } = old;
        // In this order: what asks before what answers. All of it waits for its threads.
        drop((exports, foreman, trust, people));
        let (line, desk) = handles;
        drop(desk);
        drop(line);
        let before = self.opened_with.take();
        if let Err(failure) = self.open(batch.as_deref()) {
            tracing::error!(%failure, "the station can't be opened as station.toml says");
            self.view.opening = false;
            self.view.failure = Some(failure);
            // As it was before, so that nobody stands before a dead window.
            self.open_as(before, batch.as_deref());
        }
    }

    fn open_as(&mut self, config: Option<Config>, batch: Option<&str>) {
        let (Some(config), Some(station)) = (config, &mut self.station) else { return };
        station.configure(&self.options, config.clone());
        let opened = station.start_window_on(batch).and_then(|(handles, office)| {
            self.no_fixtures = handles.0.snapshot().fixtures.is_empty();
            let exports = office.guard_exports(Box::new(station.start_clerk()?));
            let (foreman, trust) = (Box::new(station.start_foreman()?), Box::new(station.start_trust()?));
            Ok(Opened { handles, people: Box::new(office), exports, foreman, trust, config: config.clone() })
        });
        match opened {
            Ok(opened) => {
                *self.shared.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
                self.opened_with = Some(config);
            }
            Err(failure) => self.view.failure = Some(failure),
        }
    }
}

#[cfg(feature = "hardware")]
fn find_board(config: &Config) -> Result<PathBuf, Failure> {
    rehearsal::find_board(config)
}

#[cfg(not(feature = "hardware"))]
fn find_board(_: &Config) -> Result<PathBuf, Failure> {
    Err(Failure::new(FailureCode::PracticeBoardMissing, "this build reaches no probes"))
}

#[cfg(all(test, feature = "hardware"))]
mod tests {
    use super::*;
    use crate::model::{LabelPolicy, UnitId};
    use crate::people::{Pin, Role};
    use crate::records::{AuditFilter, NewProductOrder, Records};

    /// Longer than anything here takes; never waited for in full.
    const PATIENCE: Duration = Duration::from_secs(120);

    struct Bench {
        _folder: tempfile::TempDir,
        options: Options,
        host: Host,
        changes: Receiver<()>,
    }

    fn options(folder: &tempfile::TempDir, demo: bool) -> Options {
        Options {
            home: folder.path().join("home"),
            config: None,
            passphrase_fd: None,
            token_pin_fd: None,
            demo,
            operator: "Ada".into(),
        }
    }

    impl Bench {
        fn on(folder: tempfile::TempDir, options: Options, station: Option<Station>) -> Self {
            let host = Host::start(options.clone(), station).expect("a host");
            let (told, changes) = mpsc::channel();
            host.on_change(Box::new(move || {
                // Nobody listens any more when a test ends.
                let _ = told.send(());
            }));
            Self { _folder: folder, options, host, changes }
        }

        fn wait(&self, what: &str, is: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
            let until = Instant::now() + PATIENCE;
            loop {
                let now = self.host.snapshot();
                if is(&now) {
                    return now;
                }
                let left = until.saturating_duration_since(Instant::now());
                assert!(self.changes.recv_timeout(left).is_ok(), "{what} did not happen: {now:?}");
            }
        }

        /// Sends a step's command; what it wrote.
        fn write(&self, command: Command) -> Result<Vec<Wrote>, Failure> {
            self.host.send(Command::Watch);
            self.host.send(command);
            let told = |s: &Snapshot| s.guide.as_ref().map(|g| g.told.clone()).unwrap_or_default();
            let done = self.wait("the step", |s| matches!(told(s), Told::Wrote(_) | Told::Failed(_)));
            // The next one begins without a word.
            let at = done.guide.as_ref().expect("a guide").progress.at;
            self.host.send(Command::Go(at));
            self.wait("the next step", |s| told(s) == Told::Nothing);
            match told(&done) {
                Told::Failed(failure) => Err(failure),
                Told::Wrote(wrote) => Ok(wrote),
                _ => unreachable!("waited for"),
            }
        }

        fn on_to(&self, step: Step) {
            self.host.send(Command::On);
            self.wait("the step", |s| s.guide.as_ref().is_some_and(|g| g.progress.at == step));
        }

        fn opened(&self) -> Opened {
            let until = Instant::now() + PATIENCE;
            loop {
                if let Some(opened) = self.host.take() {
                    return opened;
                }
                let left = until.saturating_duration_since(Instant::now());
                assert!(self.changes.recv_timeout(left).is_ok(), "no station was opened");
            }
        }
    }

    fn old(opened: Opened, batch: Option<&str>) -> Old {
        Old {
            handles: opened.handles,
            people: Some(opened.people),
            exports: Some(opened.exports),
            foreman: Some(opened.foreman),
            trust: Some(opened.trust),
            batch: batch.map(str::to_owned),
        }
    }

    #[test]
    fn a_new_home_is_set_up_step_by_step_and_opens_without_fixtures() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = options(&folder, true);
        let bench = Bench::on(folder, options.clone(), None);
        assert_eq!(bench.host.snapshot().guide.as_ref().map(|g| g.progress.at), Some(Step::Name));
        let name = Command::Name { name: "line-1".into(), language: LanguageChoice::Chinese };
        assert!(matches!(bench.write(name).expect("written")[..], [Wrote::Name { .. }]));
        bench.on_to(Step::Key);
        let refused = bench.write(Command::Anchors(7)).expect_err("no records yet");
        assert_eq!(refused.code, FailureCode::NotSetUp);
        let key = Command::Key { passphrase: None, keep: false };
        assert!(matches!(bench.write(key).expect("opened")[..], [Wrote::Records { .. }]));
        bench.on_to(Step::People);
        let pin = Pin::new("q7t5-amber".to_owned());
        let admin = NewPerson { name: "Ana".into(), role: Role::Admin, pin, badge: None };
        assert!(matches!(bench.write(Command::Admin(admin)).expect("added")[..], [Wrote::Admin { .. }]));
        bench.on_to(Step::Fixtures);
        bench.on_to(Step::Anchors);
        assert!(matches!(
            bench.write(Command::Anchors(7)).expect("made")[..],
            [Wrote::Anchors { region: 7, .. }]
        ));
        assert_eq!(bench.write(Command::Anchors(7)).expect("there"), []);
        // Left here, and gone on with at the next start.
        assert_eq!(Progress::load(&options.home).map(|p| p.at), Some(Step::Anchors));
        for step in [Step::Cloud, Step::Image, Step::Rehearsal, Step::Summary] {
            bench.on_to(step);
        }
        let checks = bench.wait("doctor", |s| s.guide.as_ref().is_some_and(|g| !g.checks.is_empty()));
        let checks = &checks.guide.as_ref().expect("a guide").checks;
        assert!(
            checks.iter().any(|c| c.name == preflight::Name::Anchors && c.status == preflight::Status::Ok),
            "{checks:?}"
        );
        bench.host.send(Command::Finish);
        let opened = bench.opened();
        assert_eq!((opened.config.name.as_str(), opened.config.demo), ("line-1", true));
        // Whatever is plugged in here: fixtures, or the reason why there are none.
        let until = Instant::now() + PATIENCE;
        let said = || {
            let line = opened.handles.0.snapshot();
            line.fixtures.is_empty() == line.no_fixtures.is_some()
        };
        while !said() {
            assert!(Instant::now() < until, "nothing is said of the fixtures");
            std::thread::yield_now();
        }
        assert!(opened.people.snapshot().who().is_some_and(|who| who.name == "Ana"), "and logged in");
        assert_eq!(Progress::load(&options.home), None);
    }

    /// A home with anchors, an order and an open batch; what it audits is read when it is closed.
    fn set_up(options: &Options) {
        first_run::set_name(options, "line-1", LanguageChoice::System).expect("a name");
        let (station, _) = first_run::open(options, &Passphrase::demo(), false).expect("opens");
        first_run::make_anchors(&station, 7).expect("anchors");
        let order = NewProductOrder {
            name: "PO-1".into(),
            model: "KW-GATEWAY-429".into(),
            hw_revision: "A".into(),
            part_number: "900-1".into(),
            quantity: 10,
            region: 7,
            suite: 2,
            cloud_url: crate::cloud::LOCAL_URL.into(),
            lock: true,
            per_hour: 0,
            label: LabelPolicy::None,
            image_sha256: None,
            product_key: None,
            operator: "Ada".into(),
        };
        let order = station.records.create_product_order(order).expect("an order");
        for batch in ["B-1", "B-2"] {
            station.records.create_batch(order.id, batch, 5).expect("a batch");
        }
    }

    #[test]
    fn settings_are_taken_over_while_the_window_stays_and_a_broken_file_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = options(&folder, true);
        set_up(&options);
        let station = Station::open(&options).expect("opens");
        let bench = Bench::on(folder, options, Some(station));
        assert_eq!(bench.host.snapshot().guide, None, "it is set up");
        let first = bench.opened();
        let fixture =
            Fixture { name: "left".into(), probe: "1d50:6018:127.0.0.1:9".into(), serial: "none".into() };
        first_run::set_fixtures(&bench.options, std::slice::from_ref(&fixture)).expect("written");
        bench.host.retire(old(first, Some("B-1")));
        let second = bench.opened();
        assert_eq!(second.config.fixtures, [fixture]);
        let until = Instant::now() + PATIENCE;
        // The line's own thread takes the batch in.
        while second.handles.0.snapshot().batch.is_none() && Instant::now() < until {
            std::thread::yield_now();
        }
        let line = second.handles.0.snapshot();
        assert_eq!(line.batch.as_ref().map(|(b, _)| b.name.as_str()), Some("B-1"), "of two open ones");
        assert_eq!(line.fixtures.len(), 1);
        std::fs::write(bench.options.config_path(), "[station]\nname = 7\n").expect("written");
        bench.host.retire(old(second, Some("B-2")));
        let third = bench.opened();
        assert_eq!(third.config.name, "line-1", "as it was");
        let told = bench.wait("the failure", |s| s.failure.is_some());
        assert_eq!(told.failure.as_ref().map(|f| f.code), Some(FailureCode::ConfigInvalid));
    }

    #[test]
    fn a_locked_station_asks_for_its_passphrase_and_for_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let demo = options(&folder, true);
        set_up(&demo);
        let bench = Bench::on(folder, Options { demo: false, ..demo }, None);
        assert_eq!(bench.host.snapshot().guide.as_ref().map(|g| g.progress.at), Some(Step::Key));
        let wrong = Command::Key { passphrase: Some(Passphrase::new("not this one".into())), keep: false };
        assert_eq!(bench.write(wrong).expect_err("wrong").code, FailureCode::WrongPassphrase);
        bench.host.send(Command::Key { passphrase: Some(Passphrase::demo()), keep: false });
        let opened = bench.opened();
        assert_eq!(opened.config.name, "line-1");
        bench.wait("the guide's end", |s| s.guide.is_none());
        assert_eq!(Progress::load(&bench.options.home), None);
    }

    #[test]
    fn who_may_not_change_the_station_opens_no_guide_and_the_audit_log_says_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = options(&folder, true);
        set_up(&options);
        let station = Station::open(&options).expect("opens");
        let person = |name: &str, role| NewPerson {
            name: name.into(),
            role,
            pin: Pin::new("q7t5-amber".to_owned()),
            badge: None,
        };
        station.people.add(&person("Ana", Role::Admin)).expect("added");
        station.people.add(&person("Tom", Role::Technician)).expect("added");
        let tom =
            crate::people::Credential::Pin { name: "Tom".into(), pin: Pin::new("q7t5-amber".to_owned()) };
        station.people.login(&tom).expect("in");
        let people = station.people.clone();
        let bench = Bench::on(folder, options, Some(station));
        bench.host.send(Command::Guide);
        let told = bench.wait("the refusal", |s| s.failure.is_some());
        assert_eq!(told.failure.as_ref().map(|f| f.code), Some(FailureCode::NotAllowed));
        assert_eq!(told.guide, None);
        let filter = AuditFilter { limit: 5, action: "refused".into(), ..AuditFilter::default() };
        let ana =
            crate::people::Credential::Pin { name: "Ana".into(), pin: Pin::new("q7t5-amber".to_owned()) };
        people.login(&ana).expect("in");
        let rows = people.audit(&filter).expect("read");
        assert!(rows.iter().any(|row| row.person == "Tom" && row.action == "refused"), "{rows:?}");
        bench.host.send(Command::Guide);
        let guide = bench.wait("the guide", |s| s.guide.is_some());
        assert_eq!(guide.guide.as_ref().map(|g| g.progress.at), Some(Step::Name), "all of it");
    }

    fn login(name: &str, pin: &str) -> Command {
        Command::Login(Credential::Pin { name: name.into(), pin: Pin::new(pin.to_owned()) })
    }

    #[test]
    fn a_guide_that_was_left_asks_who_goes_on_and_then_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = options(&folder, true);
        first_run::set_name(&options, "line-1", LanguageChoice::System).expect("a name");
        // The first session: an admin and a technician, and then somebody goes home.
        let (station, _) = first_run::open(&options, &Passphrase::demo(), false).expect("opens");
        for (name, role) in [("Ana", Role::Admin), ("Bea", Role::Admin), ("Tom", Role::Technician)] {
            let pin = Pin::new("q7t5-amber".to_owned());
            station.people.add(&NewPerson { name: name.into(), role, pin, badge: None }).expect("added");
        }
        let left = [Step::People, Step::Fixtures].into();
        Progress { at: Step::Anchors, left }.save(&options.home);
        drop(station);
        // The second one.
        let station = Station::open(&options).expect("opens");
        let people = station.people.clone();
        let bench = Bench::on(folder, options, Some(station));
        let asked = |s: &Snapshot| s.guide.as_ref().and_then(|g| g.login.clone());
        let failed = |s: &Snapshot| asked(s).and_then(|l| l.failure).map(|f| f.code);
        let first = bench.host.snapshot();
        assert_eq!(first.guide.as_ref().map(|g| g.progress.at), Some(Step::Anchors));
        let names: Vec<_> =
            asked(&first).expect("somebody is asked").names.into_iter().map(|n| n.0).collect();
        assert_eq!(names, ["Ana", "Bea", "Tom"]);
        // Nothing is done before.
        assert_eq!(bench.write(Command::Anchors(7)).expect_err("nobody").code, FailureCode::LoginNeeded);
        bench.host.send(Command::TryCloud(CloudDraft::default(), None));
        let tried = bench.wait("the refusal", |s| {
            s.guide.as_ref().is_some_and(|g| matches!(&g.broker, Broker::Failed(_)))
        });
        let broker = tried.guide.as_ref().map(|g| g.broker.clone());
        assert!(matches!(broker, Some(Broker::Failed(f)) if f.code == FailureCode::LoginNeeded));
        // Somebody who may not set a station up is not kept.
        bench.host.send(login("Tom", "q7t5-amber"));
        bench.wait("not Tom", |s| failed(s) == Some(FailureCode::NotAllowed));
        // The same counts and lock-outs as at the lock screen.
        for _ in 0..crate::people::session::FREE_TRIES {
            bench.host.send(login("Bea", "wrong-one"));
        }
        let out = bench.wait("the lock-out", |s| failed(s) == Some(FailureCode::LockedOut));
        assert!(asked(&out).expect("still asked").wait_until.is_some());
        assert!(people.session().1, "nobody is in");
        bench.host.send(login("Ana", "q7t5-amber"));
        let goes_on = bench.wait("Ana", |s| asked(s).is_none());
        assert_eq!(goes_on.guide.as_ref().map(|g| g.progress.at), Some(Step::Anchors), "where it was left");
        assert!(matches!(
            bench.write(Command::Anchors(7)).expect("made")[..],
            [Wrote::Anchors { region: 7, .. }]
        ));
        let made = AuditFilter { limit: 1, action: "anchors-made".into(), ..AuditFilter::default() };
        assert_eq!(people.audit(&made).expect("read")[0].person, "Ana");
        bench.host.send(Command::Finish);
        assert!(bench.opened().people.snapshot().who().is_some_and(|who| who.name == "Ana"), "and still in");
    }

    #[cfg(unix)]
    #[test]
    fn a_broker_is_tried_and_a_rehearsal_is_stopped_while_the_guide_stays() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let options = options(&folder, true);
        first_run::set_name(&options, "line-1", LanguageChoice::System).expect("a name");
        let index = r#"{"format":1,"model":"KW-GATEWAY-429","version":"0.1.0","parts":[]}"#;
        std::fs::write(options.home.join("common-image.json"), index).expect("written");
        first_run::set_image(&options, &options.home).expect("an image");
        let program = options.home.join("board");
        let plays = |script: &str| {
            std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).expect("allowed");
        };
        let toml = std::fs::read_to_string(options.config_path()).expect("station.toml");
        let named = format!("[station]\nvirtual_board = {:?}\n", program.display().to_string());
        std::fs::write(options.config_path(), toml.replacen("[station]\n", &named, 1)).expect("written");
        // A board that never says where it is.
        plays("exec sleep 600");
        let bench = Bench::on(folder, options, None);
        let rehearsal = |s: &Snapshot| s.guide.as_ref().map(|g| g.rehearsal.clone()).unwrap_or_default();
        bench.host.send(Command::Rehearse);
        bench.wait("a board", |s| rehearsal(s) == Rehearsal::Running(Stage::Board));
        bench.host.send(Command::CancelRehearsal);
        let stopped = bench.wait("the end", |s| matches!(rehearsal(s), Rehearsal::Failed(_)));
        assert!(matches!(rehearsal(&stopped), Rehearsal::Failed(f) if f.code == FailureCode::Cancelled));
        // One that ends at once; and there is a next time.
        plays("exit 3");
        bench.host.send(Command::Rehearse);
        let wrong = |s: &Snapshot| matches!(rehearsal(s), Rehearsal::Failed(f) if f.code == FailureCode::RehearsalFailed);
        bench.wait("the next end", wrong);
        // Nobody listens at port 1.
        let cloud = CloudDraft {
            name: "plant".into(),
            url: "mqtt://127.0.0.1:1".into(),
            username: "keywright-agent".into(),
            ..CloudDraft::default()
        };
        bench.host.send(Command::TryCloud(cloud, Some(Passphrase::new("broker's own word".into()))));
        let broker = |s: &Snapshot| s.guide.as_ref().map(|g| g.broker.clone()).unwrap_or_default();
        let tried = bench.wait("the broker", |s| matches!(broker(s), Broker::Failed(_)));
        assert!(!format!("{tried:?}").contains("own word"), "{tried:?}");
    }

    #[test]
    fn what_a_session_left_behind_is_told_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = options(&folder, true);
        set_up(&options);
        let station = Station::open(&options).expect("opens");
        assert_eq!(station.left_behind(), Ok(None));
        let batch = station.records.batch_by_name("B-2").expect("there").id;
        let attempt = station.records.begin_attempt(batch, "left", "Ada").expect("begun");
        let unit = station.records.bind_unit(attempt, UnitId([7; 12])).expect("bound");
        station.records.begin_attempt(batch, "right", "Ada").expect("begun");
        drop(station);
        // As the power cut leaves it.
        let running = options.home.join("running.json");
        std::fs::write(&running, r#"{"pid":1,"started_at_ms":1790000000000,"batch":"B-2"}"#)
            .expect("written");
        let bench = Bench::on(folder, options.clone(), Some(Station::open(&options).expect("opens")));
        let left = bench.host.snapshot().left_behind.clone().expect("something");
        assert_eq!((left.started_at_ms, left.batch.as_deref()), (1_790_000_000_000, Some("B-2")));
        assert_eq!(left.units, [("left".to_owned(), Some(unit.serial)), ("right".to_owned(), None)]);
        bench.host.send(Command::Understood);
        bench.wait("somebody read it", |s| s.left_behind.is_none());
        drop(bench.opened());
        let Bench { host, _folder, .. } = bench;
        drop(host);
        let again = Station::open(&options).expect("opens");
        assert_eq!(again.left_behind(), Ok(None));
    }
}
