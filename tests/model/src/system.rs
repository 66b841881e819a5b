//! Unit, agent, cloud and the world between them, as a [`Model`] of stateright.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use keywright_protocol::{DeviceFailure, Purpose};
use stateright::{Model, Property};

use crate::agent::{Agent, Point, cloud_key};
use crate::cloud::Cloud;
use crate::net::{Frame, Net, Peer};
use crate::nor::{AREA_B, Image, id_of};
use crate::unit::{Cut, Event, Input, Live, Run, Seen, Unit, records};
use crate::{I1, I2, I3, I4, I5, I6, I7, I8, I9, I10, INVARIANTS, Mutant, world};

/// How much may still go wrong, and how much may still be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Frames lost.
    pub loss: u8,
    /// Frames doubled.
    pub duplicate: u8,
    /// Old frames sent again.
    pub replay: u8,
    /// Power cuts.
    pub cut: u8,
    /// Crashes of the agent.
    pub crash: u8,
    /// Times that the unit's pause runs out.
    pub tick: u8,
    /// Agent-key updates asked for.
    pub agent_updates: u8,
    /// Cloud-key updates asked for.
    pub cloud_updates: u8,
    /// Exchanges that the agent forgets.
    pub evict: u8,
    /// Old commands that reach the cloud again, and time-outs of a cloud that has them (a mutant).
    pub cloud: u8,
    /// The unit may log in at the cloud, any number of times.
    pub logins: bool,
}

impl Budget {
    /// Nothing goes wrong and nothing is asked for.
    pub const NONE: Budget = Budget {
        loss: 0,
        duplicate: 0,
        replay: 0,
        cut: 0,
        crash: 0,
        tick: 0,
        agent_updates: 0,
        cloud_updates: 0,
        evict: 0,
        cloud: 0,
        logins: true,
    };
}

/// Where a run of the checker begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// An enrolled unit with an agent key and a cloud key.
    Enrolled,
    /// A unit after stage one, never started.
    StageOne,
}

/// One thing that can happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A frame arrives.
    Deliver(Frame),
    /// A frame arrives at the unit, whose power fails while it works on it.
    DeliverCut(Frame, Cut),
    /// A frame arrives at the agent, which crashes while it works on it.
    DeliverCrash(Frame, Point),
    /// A frame is lost.
    Drop(Frame),
    /// A frame is doubled.
    Duplicate(Frame),
    /// A frame that was once on the line arrives again.
    Replay(Frame),
    /// The unit's pause is over.
    Tick,
    /// Somebody asks the unit for new keys.
    Start(Purpose),
    /// Power fails while nothing is written.
    PowerCut,
    /// Power comes back; the weak cells read in this way.
    PowerOn(usize),
    /// Power comes back and fails again while the unit boots.
    PowerOnCut(usize, Cut),
    /// The unit logs in at the cloud; the agent hears of it or does not.
    Login {
        /// The agent hears of it.
        told: bool,
    },
    /// A fifth request of a purpose comes: the agent has to forget what it keeps.
    Evict(Purpose),
    /// The same for a cloud key, and the agent crashes while it withdraws the key.
    EvictCrash(Point),
    /// An old Stage reaches the cloud again.
    OldStage(u32),
    /// An old Commit reaches the cloud again.
    OldCommit(u32),
    /// BOTH ends by time-out (a mutant).
    Timeout,
}

impl Action {
    /// Names of all kinds, in the order of [`Action::kind`].
    pub const KINDS: [&str; 19] = [
        "deliver to unit",
        "deliver to agent",
        "deliver and cut",
        "deliver and crash",
        "drop",
        "duplicate",
        "replay to unit",
        "replay to agent",
        "tick",
        "start",
        "power cut",
        "power on",
        "power on and cut",
        "login",
        "evict",
        "old stage",
        "old commit",
        "time-out",
        "evict and crash",
    ];

    fn kind(&self) -> usize {
        match self {
            Action::Deliver(frame) => usize::from(frame.to() == Peer::Agent),
            Action::DeliverCut(..) => 2,
            Action::DeliverCrash(..) => 3,
            Action::Drop(_) => 4,
            Action::Duplicate(_) => 5,
            Action::Replay(frame) => 6 + usize::from(frame.to() == Peer::Agent),
            Action::Tick => 8,
            Action::Start(_) => 9,
            Action::PowerCut => 10,
            Action::PowerOn(_) => 11,
            Action::PowerOnCut(..) => 12,
            Action::Login { .. } => 13,
            Action::Evict(_) => 14,
            Action::OldStage(_) => 15,
            Action::OldCommit(_) => 16,
            Action::Timeout => 17,
            Action::EvictCrash(_) => 18,
        }
    }
}

/// Everything, at one moment.
#[derive(Clone)]
pub struct State {
    unit: Unit,
    agent: Arc<Agent>,
    agent_id: u128,
    cloud: Arc<Cloud>,
    cloud_id: u128,
    net: Net,
    /// Every frame that was ever on the line, while replays are left.
    past: Arc<Net>,
    left: Budget,
    /// Invariants of steps (not of states) that were broken on the way.
    broken: Vec<&'static str>,
}

impl PartialEq for State {
    fn eq(&self, other: &State) -> bool {
        self.key() == other.key()
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let State { unit, agent, cloud, net, left, broken, .. } = self;
        let net = net.all();
        let enabled = cloud.enabled();
        write!(f, "{unit:?} {agent:?} cloud {enabled:?} net {net:?} left {left:?} broken {broken:?}")
    }
}

impl State {
    #[allow(clippy::type_complexity, reason = "it is only compared and hashed")]
    fn key(&self) -> (u128, u128, u128, &Net, &Net, &Budget, &[&'static str]) {
        (self.unit.id(), self.agent_id, self.cloud_id, &self.net, &self.past, &self.left, &self.broken)
    }

    /// The unit.
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    /// The agent.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The cloud.
    pub fn cloud(&self) -> &Cloud {
        &self.cloud
    }

    fn with(&self, change: impl FnOnce(&mut State)) -> State {
        let mut next = self.clone();
        change(&mut next);
        if next.left.replay == 0 {
            next.past = Arc::default();
        }
        next
    }

    fn put(&mut self, agent: Agent, cloud: Cloud) {
        (self.agent_id, self.cloud_id) = (agent.id(), cloud.id());
        (self.agent, self.cloud) = (Arc::new(agent), Arc::new(cloud));
    }

    fn send(&mut self, frame: &Frame) {
        self.net.add(frame.clone());
        Arc::make_mut(&mut self.past).note(frame);
    }

    fn note_broken(&mut self, broken: &[&'static str]) {
        self.broken.extend_from_slice(broken);
        self.broken.sort_unstable();
        self.broken.dedup();
    }

    /// A run of the unit went through to its end.
    fn follow(&mut self, run: &Run) {
        self.unit = run.after.clone();
        run.sent().for_each(|frame| self.send(frame));
        self.note_broken(&run.broken);
    }

    /// A run of the unit was cut.
    fn follow_cut(&mut self, run: &Run, before: &Image, boot: u32, cut: Cut) {
        let (sent, unit) = run.cut(before, boot, cut);
        self.unit = unit;
        sent.iter().for_each(|frame| self.send(frame));
        self.note_broken(&run.broken);
        self.left.cut -= 1;
    }

    fn accepts(&self, record: &Seen) -> bool {
        let agent = match &record.agent {
            Some((generation, key)) => {
                self.agent.accepts(*generation, key) || self.agent.newest_agent_key() == 0
            }
            // The product key.
            None => self.agent.newest_agent_key() == 0,
        };
        let cloud = match &record.cloud {
            Some((generation, key)) => self.cloud.lets_in(*generation, key),
            None => self.cloud.active().is_none(),
        };
        agent && cloud
    }

    fn holds(&self, invariant: &str) -> bool {
        let readings = || self.unit.view().readings.iter();
        match invariant {
            I1 => readings().all(|records| records.iter().any(|record| self.accepts(record))),
            I2 => match self.cloud.enabled()[..] {
                [] => self.agent.cloud_active() == 0,
                [_] => true,
                // Numbers between them were withdrawn: no unit is left to confirm them.
                [old, new] => !self.agent.waiting_cloud_keys().iter().any(|g| *g > old && *g < new),
                _ => false,
            },
            I6 => {
                let agent = self.agent.oldest_agent_key();
                let cloud = self.cloud.active().map_or(0, |_| self.cloud.enabled()[0]);
                readings().all(|records| {
                    let has_agent = |r: &Seen| r.agent.as_ref().is_some_and(|(g, _)| *g >= agent);
                    let has_cloud = |r: &Seen| r.cloud.as_ref().is_some_and(|(g, _)| *g >= cloud);
                    (agent == 0 || records.iter().any(has_agent))
                        && (cloud == 0 || records.iter().any(has_cloud))
                })
            }
            I9 => readings().all(|records| records.iter().filter(|r| !r.confirmed).count() <= 1),
            I10 => {
                let mut waiting = self.agent.waiting_cloud_keys();
                waiting.extend(self.cloud.staged().filter(|g| *g > self.agent.cloud_active()));
                waiting.sort_unstable();
                waiting.dedup();
                waiting.len() <= 1
            }
            step => !self.broken.contains(&step),
        }
    }
}

type Memo<K, V> = Mutex<HashMap<K, V>>;

fn remembered<K: Eq + Hash, V: Clone>(memo: &Memo<K, V>, key: K, make: impl FnOnce() -> V) -> V {
    if let Some(known) = memo.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return known.clone();
    }
    // Not under the lock: two threads may find the same thing out, and it is the same thing.
    let made = make();
    memo.lock().unwrap_or_else(PoisonError::into_inner).insert(key, made.clone());
    made
}

/// The model.
pub struct System {
    /// What is broken on purpose.
    pub mutant: Mutant,
    init: State,
    runs: Memo<(u128, u128), Option<Arc<Run>>>,
    converging: Memo<u128, bool>,
    taken: [AtomicUsize; Action::KINDS.len()],
    /// Only the first state that breaks an invariant counts: breadth-first, it is a nearest one.
    found: [AtomicBool; INVARIANTS.len()],
}

/// Delivers everything and waits as long as it takes, without a fault.
struct Calm<'a> {
    live: Live,
    agent: Agent,
    cloud: Cloud,
    queue: VecDeque<Frame>,
    past: &'a mut Net,
    fuel: u32,
}

impl Calm<'_> {
    fn took_place(&mut self, events: Vec<Event>) {
        for event in events {
            if let Event::Sent(frame) = event {
                self.send(frame);
            }
        }
    }

    fn send(&mut self, frame: Frame) {
        self.past.note(&frame);
        self.queue.push_back(frame);
    }

    fn feed(&mut self, input: &Input) {
        let events = self.live.feed(input).unwrap_or_default();
        self.took_place(events);
    }

    fn deliver(&mut self) {
        while let Some(frame) = self.queue.pop_front() {
            match frame.to() {
                Peer::Agent => {
                    if let Ok(answer) = self.agent.handle(&mut self.cloud, frame.bytes(), None) {
                        self.send(Frame::new(Peer::Unit, &answer));
                    }
                }
                Peer::Unit => self.feed(&Input::Frame(frame)),
            }
        }
    }

    /// Until `done`; false if that never happens.
    fn until(&mut self, done: impl Fn(&[Seen]) -> bool, ask: Option<Purpose>) -> bool {
        loop {
            self.deliver();
            if !self.live.is_pending() && done(&records(&self.live.image())) {
                return true;
            }
            if self.fuel == 0 {
                return false;
            }
            self.fuel -= 1;
            match ask.map(|purpose| self.live.start(purpose)) {
                Some(Ok(events)) => self.took_place(events),
                // Something else is under way; it goes first.
                None | Some(Err(DeviceFailure::ExchangeBusy)) => self.feed(&Input::Tick),
                Some(Err(_)) => return false,
            }
        }
    }
}

fn numbers(records: &[Seen]) -> (u32, u32) {
    records
        .first()
        .map_or((0, 0), |r| (r.agent.as_ref().map_or(0, |a| a.0), r.cloud.as_ref().map_or(0, |c| c.0)))
}

fn stage_one() -> Unit {
    let mut image = Image::default();
    image.preset(AREA_B, 0, &world::stage_one());
    Unit::off(image, 0)
}

impl System {
    /// A model that begins there, with so much to go wrong.
    pub fn new(begin: Begin, left: Budget, mutant: Mutant) -> System {
        let mut past = Net::default();
        let (unit, agent, cloud) = match begin {
            Begin::StageOne => (stage_one(), Agent::new(mutant), Cloud::default()),
            Begin::Enrolled => {
                let mut calm = Calm {
                    live: stage_one().start(0, Mutant::None),
                    agent: Agent::new(Mutant::None),
                    cloud: Cloud::default(),
                    queue: VecDeque::new(),
                    past: &mut past,
                    fuel: 10,
                };
                calm.feed(&Input::Boot);
                let enrolled = calm.until(|records| numbers(records) == (1, 1), None);
                assert!(enrolled, "a calm world enrols a unit: {:?}", records(&calm.live.image()));
                let off = Unit::off(calm.live.image(), 1);
                // The mutants begin with the second start.
                (off.power_on(0, mutant).after, calm.agent.with_mutant(mutant), calm.cloud)
            }
        };
        let init = State {
            unit,
            agent_id: agent.id(),
            cloud_id: cloud.id(),
            agent: Arc::new(agent),
            cloud: Arc::new(cloud),
            net: Net::default(),
            past: Arc::new(past),
            left,
            broken: Vec::new(),
        };
        System {
            mutant,
            init: init.with(|_| {}),
            runs: Memo::default(),
            converging: Memo::default(),
            taken: std::array::from_fn(|_| AtomicUsize::new(0)),
            found: std::array::from_fn(|_| AtomicBool::new(false)),
        }
    }

    /// How often each kind of action led somewhere (or, for old commands to the cloud, was tried), by its name.
    pub fn taken(&self) -> Vec<(&'static str, usize)> {
        Action::KINDS.iter().zip(&self.taken).map(|(kind, n)| (*kind, n.load(Ordering::Relaxed))).collect()
    }

    /// How many different runs of the real engine were needed.
    pub fn runs(&self) -> usize {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How many different continuations were followed to their end for I3.
    pub fn continuations(&self) -> usize {
        self.converging.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn give(&self, unit: &Unit, input: &Input) -> Option<Arc<Run>> {
        if !unit.is_on() {
            return None;
        }
        remembered(&self.runs, (unit.id(), id_of(input)), || unit.give(input, self.mutant).map(Arc::new))
    }

    fn power_on(&self, unit: &Unit, reading: usize) -> Option<Arc<Run>> {
        if unit.is_on() {
            return None;
        }
        let key = (unit.id(), reading as u128);
        remembered(&self.runs, key, || Some(Arc::new(unit.power_on(reading, self.mutant))))
    }

    /// I3: from here, without another fault, what is under way comes to its end, both kinds of update still work, and
    /// then the sides agree and nothing superfluous is left.
    pub fn converges(&self, state: &State) -> bool {
        let key = id_of(&(state.unit.id(), state.agent_id, state.cloud_id, &state.net));
        remembered(&self.converging, key, || {
            let readings = if state.unit.is_on() { 1 } else { state.unit.image().readings() };
            (0..readings).all(|reading| self.converges_from(state, reading))
        })
    }

    fn converges_from(&self, state: &State, reading: usize) -> bool {
        let mut past = Net::default();
        let live = match state.unit.revive(self.mutant) {
            Some(live) => live,
            None => state.unit.start(reading, self.mutant),
        };
        let mut calm = Calm {
            live,
            agent: (*state.agent).clone(),
            cloud: (*state.cloud).clone(),
            queue: state.net.all().iter().cloned().collect(),
            past: &mut past,
            fuel: 40,
        };
        if !state.unit.is_on() {
            calm.feed(&Input::Boot);
        }
        // What is under way. A unit that is not enrolled enrols itself.
        if !calm.until(|records| records.first().is_some_and(|r| r.cloud.is_some()), None) {
            return false;
        }
        for purpose in [Purpose::CloudKeyUpdate, Purpose::AgentKeyUpdate] {
            let before = numbers(&records(&calm.live.image()));
            let done = |records: &[Seen]| match purpose {
                Purpose::CloudKeyUpdate => numbers(records).1 > before.1,
                _ => numbers(records).0 > before.0,
            };
            if !calm.until(done, Some(purpose)) {
                return false;
            }
        }
        let records = records(&calm.live.image());
        let [record] = &records[..] else { return false };
        let (agent, cloud) = numbers(&records);
        record.confirmed
            && agent == calm.agent.newest_agent_key()
            && record.agent.as_ref().is_some_and(|(g, key)| calm.agent.accepts(*g, key))
            && cloud == calm.agent.cloud_active()
            && calm.cloud.enabled() == [cloud]
            && record.cloud.as_ref().is_some_and(|(g, key)| calm.cloud.lets_in(*g, key))
    }

    fn check(&self, state: &State, invariant: &str) -> bool {
        let holds = if invariant == I3 { self.converges(state) } else { state.holds(invariant) };
        let index = INVARIANTS.iter().position(|name| *name == invariant);
        holds || index.is_none_or(|index| self.found[index].swap(true, Ordering::Relaxed))
    }

    fn next(&self, state: &State, action: &Action) -> Option<State> {
        let taken = |frame: &Frame, next: &mut State| next.net.remove(frame);
        match action {
            Action::Deliver(frame) => {
                let mut next = state.clone();
                taken(frame, &mut next);
                self.deliver(&mut next, frame);
                Some(next)
            }
            Action::DeliverCut(frame, cut) => {
                let run = self.give(&state.unit, &Input::Frame(frame.clone()))?;
                let unit = &state.unit;
                Some(state.with(|next| {
                    taken(frame, next);
                    next.follow_cut(&run, unit.image(), unit.boots(), *cut);
                }))
            }
            Action::DeliverCrash(frame, point) => {
                let (mut agent, mut cloud) = ((*state.agent).clone(), (*state.cloud).clone());
                let answer = agent.handle(&mut cloud, frame.bytes(), Some(*point));
                (answer == Err(crate::agent::Stop::Crashed)).then(|| {
                    state.with(|next| {
                        taken(frame, next);
                        next.put(agent, cloud);
                        next.left.crash -= 1;
                    })
                })
            }
            Action::Drop(frame) => Some(state.with(|next| {
                taken(frame, next);
                next.left.loss -= 1;
            })),
            Action::Duplicate(frame) => Some(state.with(|next| {
                next.net.add(frame.clone());
                next.left.duplicate -= 1;
            })),
            Action::Replay(frame) => {
                let next = state.with(|next| {
                    self.deliver(next, frame);
                    next.left.replay -= 1;
                });
                Some(next)
            }
            Action::Tick => {
                let run = self.give(&state.unit, &Input::Tick)?;
                Some(state.with(|next| {
                    next.follow(&run);
                    next.left.tick -= 1;
                }))
            }
            Action::Start(purpose) => {
                let run = self.give(&state.unit, &Input::Start(*purpose))?;
                Some(state.with(|next| {
                    next.follow(&run);
                    match purpose {
                        Purpose::AgentKeyUpdate => next.left.agent_updates -= 1,
                        _ => next.left.cloud_updates -= 1,
                    }
                }))
            }
            Action::PowerCut => Some(state.with(|next| {
                next.unit = state.unit.cut();
                next.left.cut -= 1;
            })),
            Action::PowerOn(reading) => {
                let run = self.power_on(&state.unit, *reading)?;
                Some(state.with(|next| next.follow(&run)))
            }
            Action::PowerOnCut(reading, cut) => {
                let run = self.power_on(&state.unit, *reading)?;
                let image = state.unit.at_power_on(*reading, self.mutant);
                let boot = state.unit.boots() + 1;
                Some(state.with(|next| next.follow_cut(&run, &image, boot, *cut)))
            }
            Action::Login { told } => {
                let (generation, key) = state.unit.view().now.first()?.cloud.clone()?;
                let (mut agent, mut cloud) = ((*state.agent).clone(), (*state.cloud).clone());
                if !cloud.log_in(generation, &key) {
                    return None;
                }
                if *told {
                    agent.login_seen(generation);
                }
                let next = state.with(|next| next.put(agent, cloud));
                (next != *state).then_some(next)
            }
            Action::Evict(purpose) => {
                let (mut agent, mut cloud) = ((*state.agent).clone(), (*state.cloud).clone());
                agent.evict(&mut cloud, *purpose, None).then(|| {
                    state.with(|next| {
                        next.put(agent, cloud);
                        next.left.evict -= 1;
                    })
                })
            }
            Action::EvictCrash(point) => {
                let (mut agent, mut cloud) = ((*state.agent).clone(), (*state.cloud).clone());
                agent.evict(&mut cloud, Purpose::CloudKeyUpdate, Some(*point)).then(|| {
                    state.with(|next| {
                        next.put(agent, cloud);
                        next.left.evict -= 1;
                        next.left.crash -= 1;
                    })
                })
            }
            Action::OldStage(generation) => self.command(state, |cloud| {
                cloud.stage(*generation, &cloud_key(*generation), Mutant::None);
            }),
            Action::OldCommit(generation) => self.command(state, |cloud| {
                if self.mutant == Mutant::StaleCommit {
                    cloud.commit_blindly(*generation, &cloud_key(*generation));
                } else {
                    // Stale or already so; a refusal is as good.
                    let _ = cloud.commit(*generation);
                }
            }),
            Action::Timeout => {
                let staged = state.cloud.staged()?;
                self.command(state, |cloud| cloud.retire(staged))
            }
        }
    }

    /// Whatever reaches the cloud beside the agent's order.
    fn command(&self, state: &State, command: impl FnOnce(&mut Cloud)) -> Option<State> {
        let mut cloud = (*state.cloud).clone();
        command(&mut cloud);
        Some(state.with(|next| {
            next.put((*state.agent).clone(), cloud);
            next.left.cloud -= 1;
        }))
    }

    fn deliver(&self, next: &mut State, frame: &Frame) {
        match frame.to() {
            Peer::Unit => {
                if let Some(run) = self.give(&next.unit, &Input::Frame(frame.clone())) {
                    next.follow(&run);
                }
            }
            Peer::Agent => {
                let (mut agent, mut cloud) = ((*next.agent).clone(), (*next.cloud).clone());
                let answer = agent.handle(&mut cloud, frame.bytes(), None);
                next.put(agent, cloud);
                if let Ok(answer) = answer {
                    next.send(&Frame::new(Peer::Unit, &answer));
                }
            }
        }
    }
}

impl Model for System {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.init.clone()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let State { unit, net, left, .. } = state;
        for frame in net.distinct() {
            actions.push(Action::Deliver(frame.clone()));
            match frame.to() {
                Peer::Unit if left.cut > 0 => {
                    if let Some(run) = self.give(unit, &Input::Frame(frame.clone())) {
                        let cuts = run.cuts();
                        actions.extend(cuts.into_iter().map(|cut| Action::DeliverCut(frame.clone(), cut)));
                    }
                }
                Peer::Agent if left.crash > 0 => {
                    actions.extend(Point::ALL.map(|point| Action::DeliverCrash(frame.clone(), point)));
                }
                _ => {}
            }
            if left.loss > 0 {
                actions.push(Action::Drop(frame.clone()));
            }
            if left.duplicate > 0 {
                actions.push(Action::Duplicate(frame.clone()));
            }
        }
        if left.replay > 0 {
            let old = state.past.all().iter().filter(|frame| !net.contains(frame));
            actions.extend(old.map(|frame| Action::Replay(frame.clone())));
        }
        if unit.is_on() {
            if left.tick > 0 {
                actions.push(Action::Tick);
            }
            if left.agent_updates > 0 {
                actions.push(Action::Start(Purpose::AgentKeyUpdate));
            }
            if left.cloud_updates > 0 {
                actions.push(Action::Start(Purpose::CloudKeyUpdate));
            }
            if left.cut > 0 {
                actions.push(Action::PowerCut);
            }
            if left.logins {
                actions.extend([Action::Login { told: true }, Action::Login { told: false }]);
            }
        } else {
            for reading in 0..unit.image().readings() {
                actions.push(Action::PowerOn(reading));
                if left.cut > 0
                    && let Some(run) = self.power_on(unit, reading)
                {
                    actions.extend(run.cuts().into_iter().map(|cut| Action::PowerOnCut(reading, cut)));
                }
            }
        }
        if left.evict > 0 {
            actions
                .extend([Purpose::Init, Purpose::AgentKeyUpdate, Purpose::CloudKeyUpdate].map(Action::Evict));
            if left.crash > 0 {
                actions.extend([Point::BeforeCloud, Point::AfterCloud].map(Action::EvictCrash));
            }
        }
        if left.cloud > 0 {
            for generation in 1..=state.cloud.highest() {
                actions.push(Action::OldStage(generation));
                // A Commit is sent only for what was staged and confirmed by a unit: it must have happened once.
                if generation <= state.agent.cloud_active() {
                    actions.push(Action::OldCommit(generation));
                }
            }
            if matches!(self.mutant, Mutant::EarlyErase | Mutant::TimeoutOnly) {
                actions.push(Action::Timeout);
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let next = self.next(state, &action);
        if next.is_some() {
            self.taken[action.kind()].fetch_add(1, Ordering::Relaxed);
        }
        next
    }

    fn properties(&self) -> Vec<Property<System>> {
        vec![
            Property::always(I1, |model: &System, state| model.check(state, I1)),
            Property::always(I2, |model: &System, state| model.check(state, I2)),
            Property::always(I3, |model: &System, state| model.check(state, I3)),
            Property::always(I4, |model: &System, state| model.check(state, I4)),
            Property::always(I5, |model: &System, state| model.check(state, I5)),
            Property::always(I6, |model: &System, state| model.check(state, I6)),
            Property::always(I7, |model: &System, state| model.check(state, I7)),
            Property::always(I8, |model: &System, state| model.check(state, I8)),
            Property::always(I9, |model: &System, state| model.check(state, I9)),
            Property::always(I10, |model: &System, state| model.check(state, I10)),
        ]
    }
}
