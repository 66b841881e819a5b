//! The one worker of a platform: a bounded queue in, confirmed answers out.
//!
//! ```text
//! request ─▶ queue ─▶ decide (ledger) ─▶ journal, synced ─▶ broker ─▶ note the confirmation ─▶ ticket
//!                       ▲ login seen ─────────┘                └ outage: back off, repeat the same acts
//! ```
//! Invariants:
//! - Nobody who asks ever waits for the broker: a full queue refuses at once, everything else is a [`Ticket`].
//! - A ticket says `Applied` only after the broker has confirmed every act of it.
//! - Requests of one unit are decided and applied in the order in which they came.
//! - An outage, a full disk included, delays requests and loses none; stopping refuses what is left, and the asker
//!   asks again after the next start (every request may be repeated).
//! - After every new connection the broker's list is compared with the ledger: what should not be there is removed
//!   (a restored backup would bring old identities back to life), what is missing is told.

use super::credential::{Credential, Identity};
use super::error::CloudError;
use super::ledger::{self, Ack, Act, Decision, Ledger, Room, Standing};
use super::ticket::{Notice, Notices, Notifier, Ticket, lock};
use crate::model::UnitId;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often an idle worker looks after its connection.
const IDLE: Duration = Duration::from_millis(500);
/// First pause after an outage; it doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(3);
/// Requests decided, synced and applied together.
const BATCH: usize = 256;
/// Generations asked for by [`Engine::accepted`], counted down from the highest.
const ASKED: u32 = 64;

/// A broker as the worker drives it. An `Err` of the whole call is an outage: nothing is known, all is repeated.
pub(super) trait Backend: Send {
    /// Connects if needed and keeps the connection alive. `Some` once per new connection: every identity it holds.
    fn ready(&mut self) -> Result<Option<HashSet<Identity>>, CloudError>;
    /// Does all of it, in order; one result for each.
    fn apply(&mut self, acts: &[Act]) -> Result<Vec<Result<(), CloudError>>, CloudError>;
    /// Hands a message to a unit's `down` branch.
    fn send(&mut self, unit: UnitId, topic: &str, payload: &[u8]) -> Result<(), CloudError>;
    /// Which of these the broker lets in now: its word, not the ledger's.
    fn accepted(&mut self, identities: &[Identity]) -> Result<BTreeSet<u32>, CloudError>;
}

enum Request {
    Stage(Identity, Credential, Ticket),
    Commit(Identity, Ticket),
    Retire(Identity, Ticket),
    Withdraw(Identity, Ticket),
    Block(UnitId, bool, Ticket),
    Send(UnitId, String, Vec<u8>, Ticket),
    Accepted(UnitId, Ticket<BTreeSet<u32>>),
}

impl Request {
    fn refuse(&self, error: CloudError) {
        match self {
            Self::Stage(_, _, t)
            | Self::Commit(_, t)
            | Self::Retire(_, t)
            | Self::Withdraw(_, t)
            | Self::Block(_, _, t)
            | Self::Send(_, _, _, t) => t.resolve(Err(error)),
            Self::Accepted(_, t) => t.resolve(Err(error)),
        }
    }

    fn unit(&self) -> UnitId {
        match self {
            Self::Stage(identity, ..)
            | Self::Commit(identity, _)
            | Self::Retire(identity, _)
            | Self::Withdraw(identity, _) => identity.unit,
            Self::Block(unit, ..) | Self::Send(unit, ..) | Self::Accepted(unit, _) => *unit,
        }
    }

    fn delayed_by(&self, cause: &CloudError) {
        match self {
            Self::Stage(_, _, t)
            | Self::Commit(_, t)
            | Self::Retire(_, t)
            | Self::Withdraw(_, t)
            | Self::Block(_, _, t)
            | Self::Send(_, _, _, t) => t.delayed_by(cause),
            Self::Accepted(_, t) => t.delayed_by(cause),
        }
    }
}

#[derive(Default)]
struct Inbox {
    requests: VecDeque<Request>,
    /// Logins seen, each once: evidence is never dropped and never fills the queue.
    logins: VecDeque<Identity>,
    stop: bool,
}

struct Shared {
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    capacity: usize,
    ledger: Mutex<Ledger>,
    cause: Mutex<Option<CloudError>>,
    notifier: Notifier,
}

/// Where those who see logins report them.
#[derive(Clone)]
pub(super) struct Evidence(Arc<Shared>);

impl Evidence {
    /// The broker let this identity in.
    pub fn login(&self, identity: Identity) {
        self.0.notifier.send(Notice::Connected { identity });
        let mut inbox = lock(&self.0.inbox);
        if !inbox.logins.contains(&identity) {
            inbox.logins.push_back(identity);
            self.0.arrived.notify_one();
        }
    }

    /// A birth message arrived.
    pub fn birth(&self, unit: UnitId, generation: Option<u32>, payload: Vec<u8>) {
        self.0.notifier.send(Notice::Birth { unit, generation, payload });
    }
}

/// A platform's worker and the ledger that it keeps.
pub(super) struct Engine {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// How a platform is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Requests that wait.
    pub waiting: usize,
    /// Why they wait; `None` = the platform answers.
    pub cause: Option<CloudError>,
}

impl Engine {
    /// Opens the ledger; [`Engine::start`] sets the worker going.
    pub fn open(ledger: &Path, room: Room, capacity: usize) -> Result<Self, CloudError> {
        let shared = Shared {
            inbox: Mutex::default(),
            arrived: Condvar::new(),
            capacity,
            ledger: Mutex::new(Ledger::open(ledger)?.within(room)),
            cause: Mutex::default(),
            notifier: Notifier::default(),
        };
        Ok(Self { shared: Arc::new(shared), worker: Mutex::default() })
    }

    pub fn start(&self, name: &str, backend: Box<dyn Backend>) -> Result<(), CloudError> {
        let worker = Worker { shared: self.shared.clone(), backend, pause: MIN_PAUSE };
        let thread = std::thread::Builder::new().name(format!("cloud-{name}"));
        let handle = thread.spawn(move || worker.run()).map_err(|e| CloudError::Ledger {
            path: name.into(),
            detail: format!("no thread for the worker: {e}"),
        })?;
        *lock(&self.worker) = Some(handle);
        Ok(())
    }

    pub fn evidence(&self) -> Evidence {
        Evidence(self.shared.clone())
    }

    pub fn notices(&self) -> Notices {
        self.shared.notifier.subscribe()
    }

    pub fn standing(&self, unit: UnitId) -> Standing {
        lock(&self.shared.ledger).standing(unit)
    }

    /// Every unit that was ever here.
    pub fn standings(&self) -> Vec<(UnitId, Standing)> {
        lock(&self.shared.ledger).units().map(|(unit, s)| (unit, s.clone())).collect()
    }

    pub fn health(&self) -> Health {
        let waiting = lock(&self.shared.inbox).requests.len();
        Health { waiting, cause: lock(&self.shared.cause).clone() }
    }

    fn ask<T: Clone>(&self, request: impl FnOnce(Ticket<T>) -> Request) -> Ticket<T> {
        let mut inbox = lock(&self.shared.inbox);
        if inbox.stop {
            return Ticket::refused(CloudError::Stopped);
        }
        if inbox.requests.len() >= self.shared.capacity {
            return Ticket::refused(CloudError::QueueFull { capacity: self.shared.capacity });
        }
        let ticket = Ticket::new();
        inbox.requests.push_back(request(ticket.clone()));
        self.shared.arrived.notify_one();
        ticket
    }

    pub fn stage(&self, identity: Identity, credential: Credential) -> Ticket {
        self.ask(|t| Request::Stage(identity, credential, t))
    }

    pub fn commit(&self, identity: Identity) -> Ticket {
        self.ask(|t| Request::Commit(identity, t))
    }

    pub fn retire(&self, identity: Identity) -> Ticket {
        self.ask(|t| Request::Retire(identity, t))
    }

    pub fn withdraw(&self, identity: Identity) -> Ticket {
        self.ask(|t| Request::Withdraw(identity, t))
    }

    pub fn block(&self, unit: UnitId, blocked: bool) -> Ticket {
        self.ask(|t| Request::Block(unit, blocked, t))
    }

    pub fn send(&self, unit: UnitId, topic: String, payload: Vec<u8>) -> Ticket {
        self.ask(|t| Request::Send(unit, topic, payload, t))
    }

    pub fn accepted(&self, unit: UnitId) -> Ticket<BTreeSet<u32>> {
        self.ask(|t| Request::Accepted(unit, t))
    }

    /// Refuses what waits, ends the worker and every subscription.
    pub fn stop(&self) {
        lock(&self.shared.inbox).stop = true;
        self.shared.arrived.notify_all();
        if let Some(worker) = lock(&self.worker).take() {
            // A worker that panicked has said so; there is nothing to add.
            let _ = worker.join();
        }
        let left = std::mem::take(&mut lock(&self.shared.inbox).requests);
        left.iter().for_each(|request| request.refuse(CloudError::Stopped));
        self.shared.notifier.close();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Stopped;

struct Worker {
    shared: Arc<Shared>,
    backend: Box<dyn Backend>,
    pause: Duration,
}

/// One request's, or one login's, share of a batch.
struct Step {
    source: Source,
    ack: Result<Ack, CloudError>,
    /// Its range in the batch's acts.
    acts: std::ops::Range<usize>,
}

#[derive(Clone, Copy)]
enum Source {
    Request(usize),
    Login(Identity),
}

impl Worker {
    fn run(mut self) {
        loop {
            let (requests, logins) = match self.next() {
                Ok(work) => work,
                Err(Stopped) => return,
            };
            let done = self.work(&requests, logins);
            if done.is_err() {
                requests.iter().for_each(|request| request.refuse(CloudError::Stopped));
                return;
            }
        }
    }

    /// Waits for work; `Ok` with nothing = time to look after the connection.
    fn next(&mut self) -> Result<(Vec<Request>, Vec<Identity>), Stopped> {
        let empty = |inbox: &mut Inbox| !inbox.stop && inbox.requests.is_empty() && inbox.logins.is_empty();
        let (mut inbox, _) = self
            .shared
            .arrived
            .wait_timeout_while(lock(&self.shared.inbox), IDLE, empty)
            .unwrap_or_else(PoisonError::into_inner);
        if inbox.stop {
            return Err(Stopped);
        }
        // A unit's stage must be confirmed before its next request is decided.
        let mut staging = HashSet::new();
        let mut take = 0;
        for request in inbox.requests.iter().take(BATCH) {
            let unit = request.unit();
            if staging.contains(&unit) {
                break;
            }
            if matches!(request, Request::Stage(..)) {
                staging.insert(unit);
            }
            take += 1;
        }
        Ok((inbox.requests.drain(..take).collect(), inbox.logins.drain(..).collect()))
    }

    fn work(&mut self, requests: &[Request], logins: Vec<Identity>) -> Result<(), Stopped> {
        if requests.is_empty() && logins.is_empty() {
            // Nothing depends on it now, so a failure only starts the pause; the next turn tries again.
            if let Err(cause) = self.look_after() {
                self.outage(&cause, requests)?;
            }
            return Ok(());
        }
        let (steps, acts, changes) = self.decide(requests, logins);
        if !changes.is_empty() {
            self.persist(requests, &changes, true)?;
        }
        let results = self.insist(requests, |worker| worker.backend.apply(&acts))?;

        // What the broker confirmed is settled; a unit with a refused act stays pending and is told so.
        let (seen, refused) = sort_out(&acts, &results);
        let mut settled = changes;
        settled.retain(|unit, _| !refused.contains(unit));
        for (unit, standing) in &mut settled {
            *standing = standing.settled(|generation| seen.contains(&Identity { unit: *unit, generation }));
        }
        self.persist(requests, &settled, false)?;

        for step in steps {
            let failed = results.get(step.acts).and_then(|r| r.iter().find_map(|r| r.as_ref().err()));
            let result = match failed {
                Some(error) => Err(error.clone()),
                None => step.ack,
            };
            match step.source {
                Source::Login(identity) => match result {
                    Ok(Ack::Applied) => self.shared.notifier.send(Notice::Committed { identity }),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::error!(%identity, %error, "a login could not be made the confirmation")
                    }
                },
                Source::Request(index) => {
                    if let Some(request) = requests.get(index) {
                        self.answer(request, requests, result)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Decides every request in order over one overlay, so that two requests of one unit see each other.
    fn decide(
        &self,
        requests: &[Request],
        logins: Vec<Identity>,
    ) -> (Vec<Step>, Vec<Act>, HashMap<UnitId, Standing>) {
        let ledger = lock(&self.shared.ledger);
        let mut changes: HashMap<UnitId, Standing> = HashMap::new();
        let mut acts = Vec::new();
        let mut steps = Vec::new();
        let mut enter = |source, unit, decide: &dyn Fn(&Standing) -> Result<Decision, CloudError>| {
            let now = changes.get(&unit).cloned().unwrap_or_else(|| ledger.standing(unit));
            let start = acts.len();
            let ack = decide(&now).map(|decision| {
                acts.extend(decision.acts);
                if decision.next != now {
                    changes.insert(unit, decision.next);
                }
                decision.ack
            });
            steps.push(Step { source, ack, acts: start..acts.len() });
        };
        for (index, request) in requests.iter().enumerate() {
            let decide: &dyn Fn(&Standing) -> Result<Decision, CloudError> = match request {
                Request::Stage(identity, key, _) => &|now| ledger::stage(now, *identity, key),
                Request::Commit(identity, _) => &|now| ledger::commit(now, *identity),
                Request::Retire(identity, _) => &|now| ledger::retire(now, *identity),
                Request::Withdraw(identity, _) => &|now| ledger::withdraw(now, *identity),
                Request::Block(unit, on, _) => &|now| Ok(ledger::block(now, *unit, *on)),
                Request::Send(..) | Request::Accepted(..) => &|now| Ok(ledger::unchanged(now, Ack::Applied)),
            };
            enter(Source::Request(index), request.unit(), decide);
        }
        for identity in logins {
            enter(Source::Login(identity), identity.unit, &|now| ledger::logged_in(now, identity));
        }
        (steps, acts, changes)
    }

    fn answer(
        &mut self,
        request: &Request,
        batch: &[Request],
        result: Result<Ack, CloudError>,
    ) -> Result<(), Stopped> {
        match request {
            Request::Stage(_, _, ticket)
            | Request::Commit(_, ticket)
            | Request::Retire(_, ticket)
            | Request::Withdraw(_, ticket)
            | Request::Block(_, _, ticket) => ticket.resolve(result),
            Request::Send(unit, topic, payload, ticket) => {
                self.insist(batch, |worker| worker.backend.send(*unit, topic, payload))?;
                ticket.resolve(Ok(Ack::Applied));
            }
            Request::Accepted(unit, ticket) => {
                let highest = lock(&self.shared.ledger).standing(*unit).highest();
                let asked: Vec<Identity> = (1..=highest)
                    .rev()
                    .take(ASKED as usize)
                    .map(|generation| Identity { unit: *unit, generation })
                    .collect();
                let accepted = self.insist(batch, |worker| worker.backend.accepted(&asked))?;
                ticket.resolve(Ok(accepted));
            }
        }
        Ok(())
    }

    /// Keeps the connection, and brings a newly reached broker into line with the ledger.
    fn look_after(&mut self) -> Result<(), CloudError> {
        let Some(names) = self.backend.ready()? else { return Ok(()) };
        let units: Vec<(UnitId, Standing)> =
            lock(&self.shared.ledger).units().map(|(unit, standing)| (unit, standing.clone())).collect();
        let mut expected = HashSet::new();
        let mut acts = Vec::new();
        let (mut missing, mut lost) = (HashSet::new(), Vec::new());
        for (unit, standing) in &units {
            for (generation, verifier) in standing.enabled_with_verifiers() {
                let identity = Identity { unit: *unit, generation };
                expected.insert(identity);
                if !names.contains(&identity) {
                    missing.insert(identity);
                    // What the broker never confirmed is not lost: its request is still to be carried out.
                    if standing.is_confirmed(generation) {
                        lost.push(identity);
                    }
                    continue;
                }
                // A name alone proves nothing: somebody else may have made it.
                if !standing.is_confirmed(generation) {
                    acts.push(Act::Allow { identity, verifier, credential: None });
                }
                if standing.is_blocked() {
                    acts.push(Act::Suspend { identity });
                } else if standing.is_pending() {
                    acts.push(Act::Resume { identity });
                }
            }
        }
        // Units that were never ours are not ours to remove.
        let ours: HashSet<UnitId> = units.iter().map(|(unit, _)| *unit).collect();
        let extra = names.iter().filter(|i| ours.contains(&i.unit) && !expected.contains(i));
        acts.extend(extra.map(|identity| Act::Remove { identity: *identity, last: false }));
        let results = self.backend.apply(&acts)?;
        let (seen, refused) = sort_out(&acts, &results);
        let mut changes = HashMap::new();
        for (unit, standing) in units {
            let id = |generation| Identity { unit, generation };
            let mut next = standing.without(|g| missing.contains(&id(g)));
            if next.is_pending() && !refused.contains(&unit) {
                next = next.settled(|g| seen.contains(&id(g)));
            }
            changes.insert(unit, next);
        }
        lock(&self.shared.ledger).put(changes, false)?;
        for identity in lost {
            tracing::warn!(%identity, "the broker has lost an identity");
            self.shared.notifier.send(Notice::Missing { identity });
        }
        self.recovered();
        Ok(())
    }

    fn persist(
        &mut self,
        batch: &[Request],
        changes: &HashMap<UnitId, Standing>,
        sync: bool,
    ) -> Result<(), Stopped> {
        loop {
            let put = lock(&self.shared.ledger).put(changes.clone(), sync);
            match put {
                Ok(()) => return Ok(()),
                Err(cause) => self.outage(&cause, batch)?,
            }
        }
    }

    /// Repeats until the broker has answered.
    fn insist<T>(
        &mut self,
        batch: &[Request],
        mut attempt: impl FnMut(&mut Self) -> Result<T, CloudError>,
    ) -> Result<T, Stopped> {
        loop {
            match self.look_after().and_then(|()| attempt(self)) {
                Ok(value) => {
                    self.recovered();
                    return Ok(value);
                }
                Err(cause) => self.outage(&cause, batch)?,
            }
        }
    }

    fn recovered(&mut self) {
        self.pause = MIN_PAUSE;
        if lock(&self.shared.cause).take().is_some() {
            tracing::info!("the cloud platform answers again");
            self.shared.notifier.send(Notice::Up);
        }
    }

    /// Tells everybody why, then pauses; the pause ends at once when the platform is stopped.
    fn outage(&mut self, cause: &CloudError, batch: &[Request]) -> Result<(), Stopped> {
        batch.iter().for_each(|request| request.delayed_by(cause));
        let before = lock(&self.shared.cause).replace(cause.clone());
        if before.as_ref() != Some(cause) {
            tracing::warn!(%cause, "the cloud platform can't be used; requests stay queued");
            self.shared.notifier.send(Notice::Down { cause: cause.clone() });
        }
        let inbox = lock(&self.shared.inbox);
        inbox.requests.iter().for_each(|request| request.delayed_by(cause));
        let (inbox, _) = self
            .shared
            .arrived
            .wait_timeout_while(inbox, self.pause, |inbox| !inbox.stop)
            .unwrap_or_else(PoisonError::into_inner);
        let stop = inbox.stop;
        drop(inbox);
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        if stop { Err(Stopped) } else { Ok(()) }
    }
}

/// Which identities the broker has by its own word, and which units had something refused.
fn sort_out(acts: &[Act], results: &[Result<(), CloudError>]) -> (HashSet<Identity>, HashSet<UnitId>) {
    let (mut seen, mut refused) = (HashSet::new(), HashSet::new());
    for (act, result) in acts.iter().zip(results) {
        match (act, result) {
            (Act::Allow { identity, .. }, Ok(())) => {
                seen.insert(*identity);
            }
            (_, Ok(())) => {}
            (_, Err(_)) => {
                refused.insert(act.unit());
            }
        }
    }
    (seen, refused)
}

impl Act {
    fn unit(&self) -> UnitId {
        match self {
            Self::Allow { identity, .. }
            | Self::Remove { identity, .. }
            | Self::Suspend { identity }
            | Self::Resume { identity } => identity.unit,
        }
    }
}
