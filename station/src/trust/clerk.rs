//! The thread behind the Trust view: it opens anchors, counts units and makes regions, which takes a while. The window sends commands
//! and reads a snapshot that is swapped as a whole, as it does with the line and the desk.
//!
//! Invariants:
//! - What may be seen and done is asked of [`People`] here, whatever the window shows; what was done is in the audit log.
//! - No PIN is in a snapshot.

use super::{Office, TokenView, Tree};
use crate::anchors::{NewHome, NewRegion};
use crate::backstage::{Backstage, Message, Outlet, Wake};
use crate::failure::Failure;
use crate::people::{People, Right};
use crate::records::{BatchUnder, UnderFilter, UnitUnder};
use crate::secrets::Passphrase;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How often what is shown is read again: units are made meanwhile, and another program may make a region.
const REFRESH: Duration = Duration::from_secs(10);
/// Up to so many units under a certificate its batches are counted again by themselves.
const GROUPED_BY_ITSELF: u64 = 100_000;
/// Rows of units that are shown at once, and more with each asking.
pub const PAGE: u32 = 100;
/// Never more rows than this: whoever looks for one unit searches.
pub const MOST: u32 = 1000;

/// Commands that go to the clerk.
#[derive(Clone, Debug)]
pub enum Command {
    /// The view is on the screen, or no more: only then is anything read.
    Watch(bool),
    /// Look at everything again.
    Look,
    /// Show the batches under a certificate; its fingerprint.
    Batches(String),
    /// Show units under a certificate.
    Units(UnderFilter),
    /// Put the units away.
    LeaveUnits,
    /// Make a region.
    Make {
        /// Which.
        new: NewRegion,
        /// The token's PIN, if somebody typed one.
        pin: Option<Passphrase>,
    },
    /// Give a region its next epoch.
    Rotate {
        /// Which.
        region: u32,
        /// How many days the new certificate is valid.
        days: Option<u32>,
        /// Where the new keys live.
        home: NewHome,
        /// The token's PIN, if somebody typed one.
        pin: Option<Passphrase>,
    },
    /// Call a region by another name.
    Rename {
        /// Which.
        region: u32,
        /// The name.
        name: String,
    },
    /// Have every key of a region sign once.
    Try {
        /// Which.
        region: u32,
        /// The token's PIN, if somebody typed one.
        pin: Option<Passphrase>,
    },
    /// Forget the last word.
    Clear,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// A region is there.
    Made(u32),
    /// A region has its next epoch.
    Rotated(u32),
    /// A region has another name.
    Renamed(u32),
    /// Every key of a region signs.
    Tried(u32),
}

/// The newest word to whoever asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// Nothing to say.
    #[default]
    Nothing,
    /// Keys are made or asked.
    Working,
    /// It is done.
    Done(Done),
    /// It was refused or failed.
    Failed(Failure),
}

/// Everything that the Trust view shows.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// It was looked at least once.
    pub read: bool,
    /// The chain; `None`: there are no anchors, or they were not read yet.
    pub tree: Option<Arc<Tree>>,
    /// Why the chain can't be shown.
    pub trouble: Option<Failure>,
    /// The token of this station.
    pub token: Option<TokenView>,
    /// Batches by the certificate that was opened.
    pub batches: BTreeMap<String, Arc<Vec<BatchUnder>>>,
    /// The units that were asked for.
    pub units: Option<Arc<(UnderFilter, Vec<UnitUnder>)>>,
    /// The newest word.
    pub told: Told,
    /// How many commands were answered with a word: whoever waits for one sees that it came.
    pub answers: u64,
}

/// What the window holds of the clerk. Nothing here blocks.
pub trait TrustHandle: Send {
    /// Sends a command; it is carried out by the clerk's own thread.
    fn send(&self, command: Command);
    /// The newest snapshot.
    fn snapshot(&self) -> Arc<Snapshot>;
    /// Calls `wake` after every change of the snapshot, from another thread.
    fn on_change(&self, wake: Wake);
}

/// The clerk of a station; dropping it waits for what is in work.
#[derive(Debug)]
pub struct Clerk(Backstage<Command, Snapshot>);

impl Clerk {
    /// A clerk over this office; `people` says who may what.
    ///
    /// # Errors
    /// `StationFault` if no thread can be started.
    pub fn new(office: Office, people: Arc<People>) -> Result<Self, Failure> {
        let worker = |outlet| Worker { office, people, view: Snapshot::default(), outlet, watched: false };
        Backstage::start("trust clerk", Snapshot::default(), |inbox, outlet| worker(outlet).run(inbox))
            .map(Self)
    }
}

impl TrustHandle for Clerk {
    fn send(&self, command: Command) {
        self.0.send(command);
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot()
    }

    fn on_change(&self, wake: Wake) {
        self.0.on_change(wake);
    }
}

struct Worker {
    office: Office,
    people: Arc<People>,
    view: Snapshot,
    outlet: Outlet<Snapshot>,
    watched: bool,
}

impl Worker {
    fn run(&mut self, inbox: &Receiver<Message<Command>>) {
        let mut looked = Instant::now();
        loop {
            let next = if self.watched { REFRESH.saturating_sub(looked.elapsed()) } else { Duration::MAX };
            let message = match next {
                Duration::MAX => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                wait => inbox.recv_timeout(wait),
            };
            match message {
                Ok(Message::Command(command)) => {
                    self.command(command);
                    self.outlet.publish(&self.view);
                }
                Ok(Message::OnChange(wake)) => self.outlet.wake(wake),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    if self.look() {
                        self.outlet.publish(&self.view);
                    }
                    looked = Instant::now();
                }
            }
        }
    }

    /// Reads the chain and what is open of it; true if it changed. Who may not see it leaves nothing of it in the snapshot.
    fn look(&mut self) -> bool {
        if self.people.permit(Some(Right::SeeTrust)).is_err() {
            let had = self.view.read;
            self.view =
                Snapshot { told: self.view.told.clone(), answers: self.view.answers, ..Snapshot::default() };
            return had;
        }
        let token = self.office.token();
        let (tree, trouble) = match self.office.tree() {
            Ok(tree) => (tree, None),
            Err(failure) => (None, Some(failure)),
        };
        // The clock alone changes nothing but the days that are left.
        let facts = |t: &Tree| (t.anchors.clone(), t.units.clone(), t.export.clone(), t.rotation());
        let changed = !self.view.read
            || tree.as_ref().map(facts) != self.view.tree.as_deref().map(facts)
            || (&token, &trouble) != (&self.view.token, &self.view.trouble);
        let counts =
            tree.as_ref().map(|t| t.units.clone()) != self.view.tree.as_ref().map(|t| t.units.clone());
        (self.view.read, self.view.token, self.view.trouble) = (true, token, trouble);
        self.view.tree = tree.map(Arc::new);
        if counts {
            // Grouping by batch looks at every unit: with very many it waits until somebody opens the certificate again.
            let few = |anchor: &String| {
                self.view
                    .tree
                    .as_ref()
                    .and_then(|t| t.units.get(anchor))
                    .is_none_or(|n| *n <= GROUPED_BY_ITSELF)
            };
            let open: Vec<String> = self.view.batches.keys().filter(|a| few(a)).cloned().collect();
            open.into_iter().for_each(|anchor| self.batches(anchor));
        }
        changed
    }

    fn batches(&mut self, anchor: String) {
        match self.office.batches(&anchor) {
            Ok(batches) => {
                self.view.batches.insert(anchor, Arc::new(batches));
            }
            Err(failure) => self.view.told = Told::Failed(failure),
        }
    }

    fn command(&mut self, command: Command) {
        let people = self.people.clone();
        let work = |office: &Office, pin: Option<Passphrase>| {
            if let Some(pin) = pin {
                office.door.give_pin(pin);
            }
        };
        match command {
            Command::Watch(on) => {
                self.watched = on;
                if on {
                    self.look();
                }
            }
            Command::Look => {
                self.look();
            }
            Command::Clear => self.view.told = Told::Nothing,
            Command::LeaveUnits => self.view.units = None,
            Command::Batches(anchor) => {
                if people.permit(Some(Right::SeeTrust)).is_ok() {
                    self.view.batches.clear();
                    self.batches(anchor);
                }
            }
            Command::Units(mut filter) => {
                filter.limit = filter.limit.min(MOST);
                if people.permit(Some(Right::SeeTrust)).is_err() {
                    return;
                }
                match self.office.units(&filter) {
                    Ok(units) => self.view.units = Some(Arc::new((filter, units))),
                    Err(failure) => self.view.told = Told::Failed(failure),
                }
            }
            Command::Make { new, pin } => {
                self.working();
                let (subject, office) = (format!("region {}", new.region), &self.office);
                let detail = json!({ "name": new.name, "days": new.days, "keys": home_word(new.home) });
                let made = people.act(Right::Anchors, ("anchors-made", &subject), detail, || {
                    work(office, pin);
                    office.make(&new)
                });
                self.told(made, Done::Made(new.region));
            }
            Command::Rotate { region, days, home, pin } => {
                self.working();
                let (subject, office) = (format!("region {region}"), &self.office);
                let detail = json!({ "days": days, "keys": home_word(home) });
                let made = people.act(Right::Anchors, ("region-rotated", &subject), detail, || {
                    work(office, pin);
                    office.rotate(region, days, home)
                });
                self.told(made, Done::Rotated(region));
            }
            Command::Rename { region, name } => {
                let (subject, office) = (format!("region {region}"), &self.office);
                let detail = json!({ "name": name });
                let made = people
                    .act(Right::Anchors, ("region-named", &subject), detail, || office.rename(region, &name));
                self.told(made, Done::Renamed(region));
            }
            Command::Try { region, pin } => {
                self.working();
                let office = &self.office;
                let tried = people
                    .demand(Right::SeeTrust, "keys-tried", &format!("region {region}"))
                    .and_then(|()| {
                        work(office, pin);
                        office.try_out(region)
                    });
                self.view.token = self.office.token();
                self.view.answers += 1;
                self.view.told = match tried {
                    Ok(()) => Told::Done(Done::Tried(region)),
                    Err(failure) => Told::Failed(failure),
                };
            }
        }
    }

    fn working(&mut self) {
        self.view.told = Told::Working;
        self.outlet.publish(&self.view);
    }

    fn told(&mut self, made: Result<Tree, Failure>, done: Done) {
        self.view.answers += 1;
        self.view.told = match made {
            Ok(_) => Told::Done(done),
            Err(failure) => Told::Failed(failure),
        };
        self.look();
    }
}

/// A home as the audit log names it.
pub const fn home_word(home: NewHome) -> &'static str {
    match home {
        NewHome::Sealed => "sealed",
        NewHome::Token => "token",
    }
}
