//! Every kind of transition, cut at every flash operation in every torn form, then at all pairs of operations, then
//! at random triples; judged by the invariants I1–I10 of PROTOCOL §5 from outside (docs/device-firmware.md, "How cuts
//! are judged").

mod support;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use keywright_device_fw::engine::{Action, Engine, Facts};
use keywright_device_fw::traits::{Clock, Link, LinkFull, Rng, RngFault};
use keywright_protocol::control::Stage;
use keywright_protocol::record::{Kind, RecordState, RecordView, SECRET_SLOT_LEN, read_secret_slot};
use keywright_protocol::serial::{Channel, Packet};
use keywright_protocol::{AgentKey, Purpose, StoreKey, Suite};
use support::agent::{Agent, REGION, Standing, TIME};
use support::cuts::{AREAS, CLASSES, Chip, ChipHandle, Class, Depth, Image, Op, Reads, SECRET, TRUSTS, torn};
use support::{Dice, UNIT};

// ---- the transitions ----

/// What is cut. Enrol starts after stage one, all others at an enrolled, idle unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transition {
    /// INIT and the first cloud key, trust pair and storage secret with them.
    Enrol,
    /// As Enrol; the first agent key is rejected, then its successor's confirmation gets a NACK.
    EnrolRefused,
    AgentKey,
    CloudKey,
    /// A cloud-key update to another broker in another region.
    Move,
    /// A message 4 REJECTED: RETIRE, and a new exchange.
    Rejected(Purpose),
    /// The agent has forgotten: an authentic NACK, RETIRE, and a new exchange.
    Evicted(Purpose),
    /// An agent-key update whose message 4 raises the time floor: one more write of the trust pair.
    TrustStore,
}

const TRANSITIONS: [Transition; 10] = [
    Transition::EnrolRefused,
    Transition::Enrol,
    Transition::Rejected(Purpose::CloudKeyUpdate),
    Transition::Evicted(Purpose::CloudKeyUpdate),
    Transition::Rejected(Purpose::AgentKeyUpdate),
    Transition::Evicted(Purpose::AgentKeyUpdate),
    Transition::TrustStore,
    Transition::Move,
    Transition::CloudKey,
    Transition::AgentKey,
];

const LATER: u64 = TIME + 2 * 24 * 60 * 60;
const NEW_HOME: (u32, &str) = (REGION + 1, "mqtts://broker.elsewhere:8883");

impl Transition {
    fn enrols(self) -> bool {
        matches!(self, Transition::Enrol | Transition::EnrolRefused)
    }

    /// What somebody asks the idle unit for, after every start until it is done.
    fn wish(self) -> Option<Purpose> {
        match self {
            Transition::Enrol | Transition::EnrolRefused => None,
            Transition::AgentKey | Transition::TrustStore => Some(Purpose::AgentKeyUpdate),
            Transition::CloudKey | Transition::Move => Some(Purpose::CloudKeyUpdate),
            Transition::Rejected(purpose) | Transition::Evicted(purpose) => Some(purpose),
        }
    }

    fn prepare(self, agent: &mut Agent) {
        match self {
            Transition::EnrolRefused => (agent.reject, agent.evict_next) = (1, 1),
            Transition::Move => agent.destination = NEW_HOME,
            Transition::Rejected(_) => agent.reject = 1,
            Transition::Evicted(_) => agent.evict_next = 1,
            Transition::TrustStore => agent.time = LATER,
            Transition::Enrol | Transition::AgentKey | Transition::CloudKey => {}
        }
    }

    fn reached(self, agent: &Agent, time_floor: Option<u64>) -> bool {
        let (active, cloud) = (agent.active_agent_key().unwrap_or(0), agent.cloud_active);
        match self.wish() {
            None => active > 0 && cloud > 0,
            Some(Purpose::CloudKeyUpdate) => cloud > 1,
            Some(_) => active > 1 && (self != Transition::TrustStore || time_floor >= Some(LATER)),
        }
    }
}

// ---- the unit's surroundings, without a serial line: frames go straight through ----

/// Frames of the unit, a message 3 with flash as it was when it left.
type Sent = VecDeque<(Vec<u8>, Option<Image>)>;

struct Wire {
    chip: Rc<RefCell<Chip>>,
    sent: Rc<RefCell<Sent>>,
    to_unit: Rc<RefCell<VecDeque<Vec<u8>>>>,
    current: Vec<u8>,
}

impl Link for Wire {
    fn send(&mut self, channel: Channel, payload: &[u8]) -> Result<(), LinkFull> {
        if channel == Channel::AGENT {
            // I5 is judged on what flash holds at this moment.
            let confirms = payload.get(4).is_some_and(|kind| kind & 0xF == 3);
            let image = confirms.then(|| self.chip.borrow().image.clone());
            self.sent.borrow_mut().push_back((payload.to_vec(), image));
        }
        Ok(())
    }

    fn receive(&mut self) -> Option<Packet<'_>> {
        self.current = self.to_unit.borrow_mut().pop_front()?;
        Some(Packet { channel: Channel::AGENT, payload: &mut self.current })
    }

    fn dropped(&self) -> u32 {
        0
    }
}

struct Noise(Dice);

impl Rng for Noise {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), RngFault> {
        out.fill_with(|| self.0.next() as u8);
        Ok(())
    }
}

struct Time(Rc<Cell<u64>>);

impl Clock for Time {
    fn now_ms(&self) -> u64 {
        self.0.get()
    }
}

// ---- reading flash from outside ----

#[derive(Clone)]
struct Record {
    kind: Kind,
    generation: u32,
    prev: u32,
    state: RecordState,
    agent: Option<(u32, AgentKey)>,
    cloud: u32,
    owed: Option<Purpose>,
    th2: [u8; 32],
    home: Option<(u32, String)>,
    time_floor: Option<u64>,
}

impl Record {
    fn read(bytes: &[u8], key: Option<&StoreKey>) -> Option<Record> {
        let view = match RecordView::open_product_key(bytes) {
            Ok((view, _)) => view,
            Err(_) => RecordView::parse(bytes, &UNIT, key?).ok()?,
        };
        let region = view.region_cert().map(|cert| cert.fields().expect("verified").subject);
        Some(Record {
            kind: view.kind(),
            generation: view.generation().0,
            prev: view.prev_generation().0,
            state: view.state(),
            agent: view.agent_key().map(|(generation, key)| (generation.0, key)),
            cloud: view.cloud_key().map_or(0, |(generation, _)| generation.0),
            owed: view.confirmation().map(|owed| owed.purpose),
            th2: *view.th2(),
            home: region.zip(view.connection().map(str::to_owned)),
            time_floor: view.time_floor(),
        })
    }

    /// Kind 1 and 5 wait for nobody.
    fn confirmed(&self) -> bool {
        match self.kind {
            Kind::ProductKey | Kind::Trust => self.valid(),
            _ => self.state == RecordState::Confirmed,
        }
    }

    fn valid(&self) -> bool {
        matches!(self.state, RecordState::Pending | RecordState::Confirmed)
    }

    fn pending(&self) -> bool {
        self.valid() && !self.confirmed()
    }

    fn standing(&self, agent: &Agent) -> Standing {
        match &self.agent {
            // A2: an INIT is welcome until there is an active key.
            None if agent.active_agent_key().is_none() => Standing::Accepted,
            None => Standing::Unknown,
            Some((generation, key)) => {
                let owed = if self.confirmed() { None } else { self.owed.map(|owed| (owed, &self.th2)) };
                agent.standing(owed, (*generation, key), self.cloud)
            }
        }
    }
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut state = DefaultHasher::new();
    value.hash(&mut state);
    state.finish()
}

/// Everything flash shows.
struct Contents {
    areas: [Option<Rc<Record>>; 2],
    trusts: [Option<Rc<Record>>; 2],
}

impl Contents {
    /// Valid records of the key areas, the highest generation first.
    fn valid(&self) -> Vec<&Record> {
        let mut valid: Vec<&Record> =
            self.areas.iter().flatten().map(|record| &**record).filter(|record| record.valid()).collect();
        valid.sort_by_key(|record| std::cmp::Reverse(record.generation));
        valid
    }

    fn trust(&self) -> Option<&Record> {
        let valid = self.trusts.iter().flatten().filter(|record| record.valid());
        valid.max_by_key(|record| record.generation).map(|record| &**record)
    }

    /// The highest generations of anything intact: what a boot remembers of what it then erases.
    fn highest(&self) -> (u32, u32) {
        let highest =
            |pair: &[Option<Rc<Record>>; 2]| pair.iter().flatten().map(|r| r.generation).max().unwrap_or(0);
        (highest(&self.areas), highest(&self.trusts))
    }
}

/// Reads windows, each distinct one once.
#[derive(Default)]
struct Reader {
    keys: HashMap<u64, Option<Rc<StoreKey>>>,
    records: HashMap<(u64, u64), Option<Rc<Record>>>,
}

impl Reader {
    fn read(&mut self, image: &Image) -> Contents {
        let secret = image.window(SECRET);
        let secret_hash = hash_of(&secret);
        let key = self.keys.entry(secret_hash).or_insert_with(|| {
            let (slots, _) = secret.as_chunks::<SECRET_SLOT_LEN>();
            let secret = slots.iter().find_map(|slot| read_secret_slot(slot).1)?;
            Some(Rc::new(StoreKey::derive(&UNIT, &secret)))
        });
        if self.records.len() > 100_000 {
            self.records.clear();
        }
        let mut record = |window: usize, trust: bool| {
            let bytes = image.window(window);
            let read = || Record::read(bytes, key.as_deref()).map(Rc::new);
            let record = self.records.entry((secret_hash, hash_of(&bytes))).or_insert_with(read);
            // A kind that does not belong there is no record, nor is a product key in area A.
            record.clone().filter(|record| match record.kind {
                Kind::Trust => trust,
                Kind::ProductKey => window == AREAS[1],
                _ => !trust,
            })
        };
        Contents { areas: AREAS.map(|w| record(w, false)), trusts: TRUSTS.map(|w| record(w, true)) }
    }
}

// ---- one run ----

/// What may not fall from a cut to the next.
#[derive(Clone, Copy, Default)]
struct Floor {
    confirmed: u32,
    time: Option<u64>,
}

/// A unit without power and its agent.
struct State {
    image: Image,
    agent: Rc<Agent>,
    /// How many cuts led here. It seeds the nonces of the boot that follows.
    cuts: usize,
    floor: Floor,
}

struct Run {
    start: Image,
    steps: Vec<(Op, usize)>,
    agents: Vec<Rc<Agent>>,
    cuts: usize,
    floor: Floor,
    /// Operations of the boot; the rest is missing if another run had it already.
    boot: usize,
    whole: bool,
    weak_after_boot: bool,
    end: Image,
}

impl Run {
    /// Whether the agent stands as it did at the operation before.
    fn agents_equal(&self, at: usize) -> bool {
        at > 0 && self.steps.get(at).map(|step| step.1) == self.steps.get(at - 1).map(|step| step.1)
    }
}

struct Explorer {
    transition: Transition,
    suite: Suite,
    reader: Reader,
    /// Judged states, with the fewest cuts that led to each.
    states: HashMap<u64, usize>,
    /// Boots whose continuation is known, with the fewest cuts.
    booted: HashMap<u64, usize>,
    classes: BTreeMap<Class, u64>,
    settled: u64,
    runs: u64,
    cases: u64,
    pairs: HashSet<(usize, usize)>,
    path: Vec<(usize, Class, Reads)>,
    violations: Vec<String>,
    pairs_too: bool,
    /// Of the clean run.
    operations: usize,
}

/// The nonces of the enrolment that all other transitions start from.
const ENROLMENT: usize = 90;
/// Nothing takes more polls than this.
const PATIENCE: usize = 600;

impl Explorer {
    fn new(transition: Transition, suite: Suite) -> Explorer {
        Explorer {
            transition,
            suite,
            reader: Reader::default(),
            states: HashMap::new(),
            booted: HashMap::new(),
            classes: BTreeMap::new(),
            settled: 0,
            runs: 0,
            cases: 0,
            pairs: HashSet::new(),
            path: Vec::new(),
            violations: Vec::new(),
            pairs_too: false,
            operations: 0,
        }
    }

    fn violation(&mut self, what: &str) {
        if self.violations.len() < 200 {
            let mut text = format!("{:?} {:?}: {what}; cuts", self.transition, self.suite);
            for (at, class, reads) in &self.path {
                write!(text, " {at} {class:?} {reads:?}").unwrap();
            }
            self.violations.push(text);
        }
    }

    fn stage_one(&self) -> State {
        let agent = Agent::new(self.suite, 1);
        let mut image = Image::blank();
        image.preset(AREAS[1], &agent.stage_one());
        State { image, agent: Rc::new(agent), cuts: 0, floor: Floor::default() }
    }

    /// The state in which the transition starts: enrolled once, not for every case.
    fn start(&mut self) -> State {
        let mut state = self.stage_one();
        if !self.transition.enrols() {
            let mut enrol = Explorer::new(Transition::Enrol, self.suite);
            state.cuts = ENROLMENT;
            let run = enrol.run(&state, false);
            assert!(enrol.violations.is_empty(), "{:?}", enrol.violations);
            state = State { image: run.end, agent: run.agents.last().unwrap().clone(), ..self.stage_one() };
        }
        let mut agent = (*state.agent).clone();
        self.transition.prepare(&mut agent);
        state.agent = Rc::new(agent);
        state
    }

    /// Power on, and no more faults: the run must end where the transition leads (I3), and on the way nothing may be
    /// erased (I4, I7) or sent (I5) too early. With `prune`, it ends after the boot if a boot with the same outcome
    /// has been followed to the end.
    fn run(&mut self, state: &State, prune: bool) -> Run {
        self.runs += 1;
        let chip = Rc::new(RefCell::new(Chip::new(state.image.clone())));
        let now = Rc::new(Cell::new(0));
        let (sent, to_unit) = (Rc::default(), Rc::default());
        let wire = Wire {
            chip: chip.clone(),
            sent: Rc::clone(&sent),
            to_unit: Rc::clone(&to_unit),
            current: Vec::new(),
        };
        let facts = Facts {
            unit: UNIT,
            firmware: [1, 2, 3, 0],
            reset_cause: 0x08,
            ram_high_water: || 0,
            rekey_every_ms: 0,
        };
        // Nonces follow from the number of cuts alone, so that equal states are equal to the bit.
        let noise = Noise(Dice(1_000 + state.cuts as u64));
        let mut unit = Engine::new(facts, ChipHandle(chip.clone()), wire, noise, Time(now.clone()));
        let mut agent = (*state.agent).clone();
        agent.reseed(state.cuts as u64);
        let mut agents = vec![Rc::new(agent.clone())];

        let mut action = unit.poll();
        let boot = chip.borrow().journal.len();
        let weak_after_boot = chip.borrow().image.has_weak();
        let mut whole = true;
        if prune {
            let key = self.boot_key(state, &chip.borrow(), &sent.borrow());
            let known = self.booted.entry(key).or_insert(usize::MAX);
            if *known <= state.cuts {
                whole = false;
            } else {
                *known = state.cuts;
            }
        }
        // Weak cells that nothing has cured get a second life: one more update must write over them.
        let mut second_life = None;
        let mut polls = 0;
        while whole && polls <= PATIENCE {
            let mut quiet = true;
            loop {
                let Some((frame, image)) = sent.borrow_mut().pop_front() else { break };
                quiet = false;
                if let Some(image) = image {
                    self.check_committed_before_sent(&frame, &image);
                }
                to_unit.borrow_mut().extend(agent.handle(&frame));
                agents.push(Rc::new(agent.clone()));
                chip.borrow_mut().agent = agents.len() - 1;
            }
            if quiet {
                let time_floor = unit.store().trust().and_then(|trust| trust.time_floor);
                let idle = unit.stage() == Stage::ACTIVE && !unit.store().is_pending();
                let wish = match second_life {
                    Some(before) => (agent.active_agent_key() == before).then_some(Purpose::AgentKeyUpdate),
                    None if self.transition.reached(&agent, time_floor) => None,
                    None => self.transition.wish(),
                };
                if idle && wish.is_none() {
                    if second_life.is_some() || !chip.borrow().image.has_weak() {
                        break;
                    }
                    second_life = Some(agent.active_agent_key());
                    agent.time += 3 * 24 * 60 * 60;
                    agents.push(Rc::new(agent.clone()));
                    chip.borrow_mut().agent = agents.len() - 1;
                    continue;
                }
                if idle
                    && let Some(purpose) = wish
                    && unit.start_update(purpose).is_ok()
                {
                    // Due at once.
                } else if let Action::SleepUntil(at) = action {
                    if at == u64::MAX {
                        self.violation("I3: the unit sleeps for ever");
                        break;
                    }
                    now.set(at.max(now.get() + 10));
                }
            }
            action = unit.poll();
            polls += 1;
        }
        if polls > PATIENCE {
            let stage = unit.stage();
            self.violation(&format!("I3: no end, stage {stage:?}"));
        }
        drop(unit);
        let chip = Rc::into_inner(chip).expect("the unit is gone").into_inner();
        if chip.raised > 0 {
            self.violation("a 1 is programmed where a 0 is");
        }
        for (window, image) in &chip.erases {
            self.check_erase(*window, image);
        }
        if whole && polls <= PATIENCE {
            self.check_end(&chip.image, &agent);
        }
        Run {
            start: state.image.clone(),
            steps: chip.journal,
            agents,
            cuts: state.cuts,
            floor: state.floor,
            boot,
            whole,
            weak_after_boot,
            end: chip.image,
        }
    }

    /// All that a continuation depends on: flash, weak cells and agent after the boot, what was sent, and what the
    /// unit's RAM remembers of flash as it was before: the highest generations and which areas it erased whole.
    fn boot_key(&mut self, state: &State, chip: &Chip, sent: &Sent) -> u64 {
        let mut key = DefaultHasher::new();
        chip.image.hash(&mut key);
        state.agent.fingerprint(&mut key);
        sent.iter().for_each(|(frame, _)| frame.hash(&mut key));
        self.reader.read(&state.image).highest().hash(&mut key);
        chip.erases.iter().for_each(|(window, _)| window.hash(&mut key));
        let drew = chip.journal.iter().any(|(op, _)| op.window() == Some(SECRET));
        drew.hash(&mut key);
        key.finish()
    }

    /// The image as it reads now, and as it may read after any later start.
    fn readings(image: &Image) -> Vec<Image> {
        let mut readings = vec![image.clone()];
        if image.has_weak() {
            readings.extend(
                [Reads::Zeros, Reads::Ones, Reads::Mixed(1), Reads::Mixed(2)].map(|r| image.settled(r)),
            );
        }
        readings
    }

    /// I5: what a message 3 names is committed, and no weak cell can take that back.
    fn check_committed_before_sent(&mut self, frame: &[u8], image: &Image) {
        let generation = u32::from_be_bytes(frame[24..28].try_into().unwrap());
        let cloud = frame[4] >> 4 == Purpose::CloudKeyUpdate.number();
        for reading in Self::readings(image) {
            let contents = self.reader.read(&reading);
            let names = |r: &&Record| {
                let named = if cloud { r.cloud } else { r.agent.as_ref().map_or(0, |agent| agent.0) };
                named == generation
            };
            let committed = |r: &&Record| {
                !matches!(r.state, RecordState::Uncommitted | RecordState::CommitTorn) && names(r)
            };
            // A RETIRE that wavers is no matter: it will be asked for again.
            if !contents.areas.iter().flatten().any(|r| committed(&&**r)) {
                self.violation("I5: message 3 under a key whose commit is not there, or not to stay");
            }
        }
    }

    /// I4, I7: an area is erased only if the other holds a confirmed record, whatever weak cells will read as; a trust
    /// copy only if the other one or the product-key record is there.
    fn check_erase(&mut self, window: usize, image: &Image) {
        for reading in Self::readings(image) {
            let contents = self.reader.read(&reading);
            if let Some(area) = AREAS.iter().position(|area| *area == window) {
                if !contents.areas[1 - area].as_ref().is_some_and(|other| other.confirmed()) {
                    self.violation("I4: an area is erased and the other is not confirmed");
                }
                if contents.trust().is_none() {
                    self.violation("I7: a key area is erased and there is no trust record");
                }
            } else if let Some(copy) = TRUSTS.iter().position(|trust| *trust == window) {
                let other = contents.trusts[1 - copy].as_ref().is_some_and(|other| other.valid());
                let product_key = contents.areas[1].as_ref().is_some_and(|r| r.kind == Kind::ProductKey);
                if !other && !product_key {
                    self.violation("I4: a trust copy is erased and the other is not committed");
                }
            }
        }
    }

    /// I3: both ends agree, nothing superfluous is left, and it stays so at every later start.
    fn check_end(&mut self, image: &Image, agent: &Agent) {
        for reading in Self::readings(image) {
            let contents = self.reader.read(&reading);
            let records: Vec<&Rc<Record>> = contents.areas.iter().flatten().collect();
            let [record] = records[..] else {
                return self.violation(&format!("I3: {} records at the end", records.len()));
            };
            if !record.confirmed() || record.standing(agent) != Standing::Accepted || record.agent.is_none() {
                return self.violation("I1: at the end the record is not the agent's");
            }
            let (region, broker) = agent.destination;
            let moved = self.transition != Transition::Move
                || record.home.as_ref().is_some_and(|(r, b)| *r == region && b == broker);
            if !moved {
                return self.violation("I3: the unit has not moved");
            }
            if contents.trust().is_none() || contents.trusts.iter().flatten().count() != 1 {
                return self.violation("I3: not one trust record at the end");
            }
        }
    }

    /// Judges a state without power: I1, I2, I4–I10 as far as they can be seen in flash and at the agent.
    fn judge(&mut self, state: &State) -> Floor {
        let agent = &*state.agent;
        let contents = self.reader.read(&state.image);
        let valid = contents.valid();
        let mut wrong: Vec<&str> = Vec::new();
        // I1: the record that the unit would use is accepted, or an authentic NACK leads it to one that is.
        let usable = match valid[..] {
            [] => false,
            [top, ref rest @ ..] => match top.standing(agent) {
                Standing::Accepted => true,
                Standing::Nacked => {
                    top.pending()
                        && rest.iter().any(|r| r.confirmed() && r.standing(agent) == Standing::Accepted)
                }
                Standing::Unknown => false,
            },
        };
        if !usable {
            wrong.push("I1: no valid record is accepted by agent and cloud");
        }
        // I2: at most g and g+1, on either side.
        let mut agents: Vec<u32> = valid.iter().filter_map(|r| r.agent.as_ref().map(|a| a.0)).collect();
        agents.extend(agent.active_agent_key());
        agents.sort_unstable();
        agents.dedup();
        if agents.len() > 2 {
            wrong.push("I2: more than two agent keys");
        }
        let mut clouds: Vec<u32> = valid.iter().map(|r| r.cloud).collect();
        clouds.extend([agent.cloud_active, agent.staged().unwrap_or(agent.cloud_active)]);
        clouds.retain(|cloud| *cloud > 0);
        clouds.sort_unstable();
        clouds.dedup();
        // A rejected generation may still lie beside what was staged after it, until it is retired and erased.
        let rejected = valid.iter().filter(|r| r.standing(agent) == Standing::Nacked).count();
        if clouds.len() > 2 + rejected {
            wrong.push("I2: more than two cloud keys");
        }
        // I4: with everything gone from one area, the other is confirmed.
        if !valid.iter().any(|r| r.confirmed()) {
            wrong.push("I4: no confirmed record");
        }
        // I6: what the peer relies on is committed.
        let relied = agent.active_agent_key();
        if relied.is_some() && !valid.iter().any(|r| r.agent.as_ref().map(|a| a.0) == relied) {
            wrong.push("I6: the agent activated a key that is not committed");
        }
        if agent.cloud_active > 0 && !valid.iter().any(|r| r.cloud == agent.cloud_active) {
            wrong.push("I6: the cloud took over a key that is not committed");
        }
        // I7: without product key there are a confirmed agent key and the root anchor.
        let product_key = valid.iter().any(|r| r.kind == Kind::ProductKey);
        let agent_key = valid.iter().any(|r| r.confirmed() && r.agent.is_some());
        if !(product_key || agent_key && contents.trust().is_some()) {
            wrong.push("I7: the product key went before the agent key was confirmed");
        }
        // I8: each record outgrows the one it was made from, two never share a number, and none is lost.
        if let [Some(a), Some(b)] = &contents.areas
            && a.generation == b.generation
        {
            wrong.push("I8: two records of one generation");
        }
        if contents.areas.iter().flatten().any(|r| r.prev >= r.generation) {
            wrong.push("I8: a generation that does not grow");
        }
        let confirmed = valid.iter().filter(|r| r.confirmed()).map(|r| r.generation).max().unwrap_or(0);
        if confirmed < state.floor.confirmed {
            wrong.push("I8: a confirmed record is gone");
        }
        let time = contents.trust().and_then(|trust| trust.time_floor);
        if time < state.floor.time {
            wrong.push("I8: the time floor fell");
        }
        // I9, I10.
        if valid.iter().filter(|r| r.pending()).count() > 1 {
            wrong.push("I9: two unconfirmed records");
        }
        if agent
            .staged()
            .is_some_and(|staged| staged <= agent.cloud_active || staged > agent.cloud_active + 2)
        {
            wrong.push("I10: a staged generation out of turn");
        }
        // What the next start must find again: only what no weak cell can take back.
        let mut floor = Floor { confirmed, time };
        for reading in &Self::readings(&state.image)[1..] {
            let contents = self.reader.read(reading);
            let valid = contents.valid();
            let confirmed = valid.iter().filter(|r| r.confirmed()).map(|r| r.generation).max().unwrap_or(0);
            let time = contents.trust().and_then(|trust| trust.time_floor);
            floor = Floor { confirmed: floor.confirmed.min(confirmed), time: floor.time.min(time) };
        }
        let floor = Floor {
            confirmed: floor.confirmed.max(state.floor.confirmed),
            time: floor.time.max(state.floor.time),
        };
        for what in wrong {
            self.violation(what);
        }
        floor
    }

    // ---- cuts ----

    /// All cuts of `run` at the operations of `range`, and the pause after the last one.
    fn cut(&mut self, run: &Run, range: Range<usize>, depth: Option<Depth>, expand: bool) {
        let mut image = run.start.clone();
        for (op, _) in &run.steps[..range.start] {
            let _ = image.apply(op);
        }
        let after = (range.end == run.steps.len()).then_some((Op::Nothing, run.agents.len() - 1));
        for (i, (op, agent)) in run.steps[range.clone()].iter().chain(&after).enumerate() {
            let at = range.start + i;
            // Programming once more what is there already: the same state as before it.
            if run.cuts > 0 && at > range.start && image.keeps(op) && run.agents_equal(at) {
                self.pairs.insert((self.path.first().map_or(at, |cut| cut.0), at));
                continue;
            }
            let depth = depth.unwrap_or(match op {
                Op::Word { run, .. } if *run > 12 => Depth::Few((at + self.path.len()) as u64),
                _ => Depth::Classes,
            });
            let mut forms = Vec::new();
            let seed = (at as u64) << 8 | run.cuts as u64;
            torn(&image, op, depth, seed, |class, torn| forms.push((class, torn)));
            // The first of each class is enough to go on with.
            let mut seen = HashSet::new();
            for (class, torn) in forms {
                let first = seen.insert(class) && class.stands_for_others();
                self.go(run, (at, op, *agent), class, torn, expand && first);
            }
            let _ = image.apply(op);
        }
    }

    /// One cut, with every reading of the cells that earlier cuts left weak.
    fn go(
        &mut self,
        run: &Run,
        (at, op, agent): (usize, &Op, usize),
        class: Class,
        torn: Image,
        expand: bool,
    ) {
        let readings: &[Reads] = match class {
            Class::Nothing | Class::Done if torn.has_weak() => {
                &[Reads::AsIs, Reads::Zeros, Reads::Ones, Reads::Mixed(7)]
            }
            _ if torn.has_weak() && run.cuts > 0 => &[Reads::Mixed(11)],
            _ => &[Reads::AsIs],
        };
        for reads in readings {
            let mut image = torn.clone();
            image.settle(*reads, op);
            self.settled += u64::from(*reads != Reads::AsIs);
            self.path.push((at, class, *reads));
            let state =
                State { image, agent: run.agents[agent].clone(), cuts: run.cuts + 1, floor: run.floor };
            self.visit(state, class, expand);
            self.path.pop();
        }
    }

    fn visit(&mut self, mut state: State, class: Class, expand: bool) {
        self.cases += 1;
        *self.classes.entry(class).or_default() += 1;
        if let [(first, ..), (second, ..)] = self.path[..] {
            self.pairs.insert((first, second));
        }
        let mut key = DefaultHasher::new();
        state.image.hash(&mut key);
        state.agent.fingerprint(&mut key);
        let known = self.states.entry(key.finish()).or_insert(usize::MAX);
        if *known <= state.cuts {
            return;
        }
        *known = state.cuts;
        state.floor = self.judge(&state);
        let run = self.run(&state, true);
        if self.pairs_too && state.cuts < 2 {
            if expand || run.whole {
                self.cut(&run, 0..run.boot, None, false);
            }
            if run.whole && (expand || !run.weak_after_boot) {
                self.cut(&run, run.boot..run.steps.len(), None, false);
            }
        }
    }

    /// Every operation in its torn forms and, with `pairs`, every operation of what follows as well.
    fn exhaust(&mut self, depth: Depth, pairs: bool) {
        let start = self.start();
        let run = self.run(&start, false);
        self.judge(&start);
        self.pairs_too = pairs;
        self.operations = run.steps.len();
        self.cut(&run, 0..run.steps.len(), Some(depth), true);
    }

    fn random_triples(&mut self, walks: u64) {
        let start = self.start();
        let first = self.run(&start, false);
        for seed in 0..walks {
            let mut dice = Dice(seed << 8 | self.suite as u64);
            let mut run = None;
            for _ in 0..3 {
                let last: &Run = run.as_ref().unwrap_or(&first);
                if last.steps.is_empty() {
                    break;
                }
                let at = dice.next() as usize % last.steps.len();
                let (op, agent) = last.steps[at];
                let mut image = last.start.clone();
                for (op, _) in &last.steps[..at] {
                    let _ = image.apply(op);
                }
                let mut forms = Vec::new();
                torn(&image, &op, Depth::Classes, dice.next(), |class, torn| forms.push((class, torn)));
                let (class, mut image) = forms.swap_remove(dice.next() as usize % forms.len());
                let reads = Reads::Mixed(dice.next());
                image.settle(reads, &op);
                self.path.push((at, class, reads));
                let cuts = last.cuts + 1;
                let mut state = State { image, agent: last.agents[agent].clone(), cuts, floor: last.floor };
                self.cases += 1;
                *self.classes.entry(class).or_default() += 1;
                let mut key = DefaultHasher::new();
                state.image.hash(&mut key);
                state.agent.fingerprint(&mut key);
                self.states.entry(key.finish()).or_insert(cuts);
                state.floor = self.judge(&state);
                run = Some(self.run(&state, false));
            }
            self.path.clear();
        }
    }
}

/// What the jobs of one test found.
#[derive(Default)]
struct Found {
    states: HashSet<u64>,
    classes: BTreeMap<Class, u64>,
    cases: u64,
    runs: u64,
    whole: usize,
    pairs: usize,
    settled: u64,
    violations: Vec<String>,
}

/// Two threads take transitions until none is left; each one is explored alone, so the result is the same every time.
fn explore(jobs: &[Transition], suite: Suite, work: impl Fn(&mut Explorer) + Sync) -> Found {
    let next = AtomicUsize::new(0);
    let found: Mutex<Found> = Mutex::default();
    let take = || {
        while let Some(transition) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut explorer = Explorer::new(*transition, suite);
            work(&mut explorer);
            let Explorer { operations, states, cases, runs, booted, pairs, settled, classes, .. } = &explorer;
            println!(
                "{transition:?}, {suite:?}: {operations} operations, {} states, {cases} cuts, {runs} boots, {} to the end, {} pairs",
                states.len(),
                booted.len(),
                pairs.len()
            );
            let mut found = found.lock().unwrap();
            found.states.extend(states.keys());
            for (class, count) in classes {
                *found.classes.entry(*class).or_default() += count;
            }
            found.cases += cases;
            found.runs += runs;
            found.whole += booted.len();
            found.pairs += pairs.len();
            found.settled += settled;
            found.violations.append(&mut explorer.violations);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(take);
        take();
    });
    let found = found.into_inner().unwrap();
    println!(
        "{suite:?}: {} distinct states visited, {} cuts, {} boots, {} to the end, {} pairs of operations, {} with weak \
         cells read anew\n{:?}",
        found.states.len(),
        found.cases,
        found.runs,
        found.whole,
        found.pairs,
        found.settled,
        found.classes
    );
    let shown: Vec<&str> = found.violations.iter().take(40).map(String::as_str).collect();
    assert!(shown.is_empty(), "{} violations:\n{}", found.violations.len(), shown.join("\n"));
    // The simulator must not degrade in silence.
    for class in CLASSES {
        assert!(found.classes.get(&class).is_some_and(|count| *count > 0), "{class:?} never occurred");
    }
    found
}

/// Suite 1, which makes the same flash operations as suite 2 with less arithmetic: every operation in all its torn
/// forms, all pairs of operations, random triples.
#[test]
fn i1_to_i10_every_cut_every_pair_and_random_triples() {
    let found = explore(&TRANSITIONS, Suite::Legacy, |explorer| {
        // The refused enrolment repeats what Enrol has in all forms: one of each class there.
        let refused = explorer.transition == Transition::EnrolRefused;
        explorer.exhaust(if refused { Depth::Classes } else { Depth::Full }, true);
        explorer.random_triples(200);
    });
    assert!(found.settled > 100_000, "weak cells read anew {} times", found.settled);
    assert!(found.pairs > 50_000, "{} pairs of operations", found.pairs);
    assert!(found.states.len() >= 200_000, "{} states", found.states.len());
}

/// Suite 2: every operation in one form of each class, random triples.
#[test]
fn i1_to_i10_every_cut_and_random_triples_suite_2() {
    explore(&TRANSITIONS, Suite::Hardened, |explorer| {
        explorer.exhaust(Depth::Classes, false);
        explorer.random_triples(40);
    });
}
