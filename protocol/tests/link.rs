//! Both roles to the end over a bad link, and every way to damage a frame.
//!
//! The simulated unit keeps two key areas and nothing else across a power cut;
//! the simulated agent keeps the rules of PROTOCOL §4. The link loses,
//! duplicates, delays, reorders and damages frames from a seed.
//!
//! Invariants checked after every step (numbers of PROTOCOL §5): I1 the agent
//! accepts the unit's preferred record; I8 generations grow; I9 at most one
//! unconfirmed record. At the end: I3 a fault-free continuation converges, and
//! both ends hold the same keys.

use std::collections::BTreeMap;

use keywright_protocol::cert::{Cert, CertFields, NEVER, Role, Trust, unit_scope, unit_subject};
use keywright_protocol::exchange::agent::{self, Credentials, Grant, Incoming, Pending, Request, Verdict};
use keywright_protocol::exchange::{
    ConfirmEntropy, Content, Ending, ExpectAck, ExpectResponse, NackReason, RequestEntropy, ResponseEntropy,
    Start,
};
use keywright_protocol::frame::{self, Frame};
use keywright_protocol::keys::{EphemeralSecret, Seed};
use keywright_protocol::record::{
    self, CloudRecord, CloudRecordParts, Mark, Order, RecordState, RecordView, RootAnchor, StageOne,
};
use keywright_protocol::schedule::KeyContext;
use keywright_protocol::{
    AgentKey, BaseKey, CloudKey, Error, Generation, IdentityKey, MAX_FRAME, ProductKey, ProductOrder,
    PublicKey, Purpose, Region, Signer, StorageSecret, StoreKey, Suite, UnitId, Xid,
};
use proptest::prelude::*;

/// SplitMix64: enough for a simulation, the same on every machine.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }
}

const REGION: Region = Region(7);
const ROOT_EPOCH: u32 = 3;
const TIME: u64 = 1_767_225_600;

/// What stage one and the vendor set up, once for all seeds.
struct Setup {
    unit: UnitId,
    order: ProductOrder,
    product_key: ProductKey,
    secret: StorageSecret,
    store: StoreKey,
    dik: IdentityKey,
    root: PublicKey,
    region_cert: Cert,
    agent_cert: Cert,
    device_cert: Cert,
    agent_key: IdentityKey,
    stage_one: Vec<u8>,
}

impl Setup {
    fn new() -> Self {
        let key = |n: u8| IdentityKey::from_seed(&Seed::from_bytes([n; 32]));
        let unit = UnitId(*b"\x00\x3a\x00\x27WRP 5532");
        let order = ProductOrder::from_text("PO-2025-000042").unwrap();
        let product_key = ProductKey::from_bytes([0x50; 32]);
        let secret = StorageSecret::from_bytes([0x51; 32]);
        let (root, region, agent, device) = (key(1), key(2), key(3), key(4));
        let cert = |role, issuer, subject, owner: &IdentityKey, scope, signer: &IdentityKey| {
            CertFields {
                role,
                issuer,
                subject,
                root_epoch: ROOT_EPOCH,
                epoch: 1,
                not_before: 0,
                not_after: NEVER,
                public_key: owner.public(),
                scope,
            }
            .sign(signer)
            .unwrap()
        };
        let mut stage_one = vec![0xff; record::MAX_RECORD];
        let n = StageOne {
            order: Order { order, region: REGION, minimum_suite: 1 },
            product_key: &product_key,
            root: RootAnchor { epoch: ROOT_EPOCH, key: root.public() },
            bundle: None,
        }
        .build(&mut stage_one)
        .unwrap();
        stage_one[n..].fill(0xff);
        Self {
            unit,
            order,
            store: StoreKey::derive(&unit, &secret),
            dik: IdentityKey::derive(&unit, &secret),
            root: root.public(),
            region_cert: cert(Role::Region, 0, REGION.0, &region, [0; 16], &root),
            agent_cert: cert(Role::Agent, REGION.0, 9, &agent, order.0, &region),
            device_cert: cert(
                Role::DeviceTier,
                REGION.0,
                unit_subject(&unit),
                &device,
                unit_scope(&unit),
                &region,
            ),
            agent_key: agent,
            product_key,
            secret,
            stage_one,
        }
    }

    fn trust(&self) -> Trust<'_> {
        Trust {
            root: &self.root,
            root_epoch: ROOT_EPOCH,
            floors: &[],
            time_floor: 1,
            order: self.order,
            unit: self.unit,
            region: REGION,
            region_cert: None,
        }
    }

    fn credentials(&self) -> Credentials<'_> {
        Credentials { region: &self.region_cert, agent: &self.agent_cert, signer: &self.agent_key }
    }
}

enum State {
    Idle,
    Waiting(Box<ExpectResponse>, Vec<u8>),
    Owing(Box<ExpectAck>),
}

/// A unit: two key areas that survive, a state that does not.
struct Unit<'s> {
    setup: &'s Setup,
    suite: Suite,
    areas: [Vec<u8>; 2],
    state: State,
    highest: Generation,
    /// Confirmed exchanges, in order; the test's own memory.
    done: Vec<Purpose>,
    refused: usize,
    drops: BTreeMap<&'static str, usize>,
}

const GOAL: [Purpose; 4] =
    [Purpose::Init, Purpose::CloudKeyUpdate, Purpose::AgentKeyUpdate, Purpose::CloudKeyUpdate];

impl<'s> Unit<'s> {
    fn new(setup: &'s Setup, suite: Suite) -> Self {
        Self {
            setup,
            suite,
            areas: [vec![0xff; record::MAX_RECORD], setup.stage_one.clone()],
            state: State::Idle,
            highest: Generation(1),
            done: vec![],
            refused: 0,
            drops: BTreeMap::new(),
        }
    }

    fn view(&self, area: usize) -> Option<RecordView<'_>> {
        let bytes = &self.areas[area];
        let view = match RecordView::open_product_key(bytes) {
            Ok((view, _)) => view,
            Err(_) => RecordView::parse(bytes, &self.setup.unit, &self.setup.store).ok()?,
        };
        view.committed().ok().map(|_| view)
    }

    /// The area of the highest committed, non-retired record.
    fn preferred(&self) -> usize {
        (0..2)
            .filter_map(|a| self.view(a).map(|v| (v.generation(), a)))
            .max()
            .expect("I1: some record is always valid")
            .1
    }

    fn set_mark(&mut self, area: usize, mark: Mark) {
        let view = self.view(area).expect("only valid records are marked");
        let (at, bytes) = (view.layout().mark_at(mark), mark.bytes(view.mac()));
        self.areas[area][at..at + 16].copy_from_slice(&bytes);
    }

    fn erase(&mut self, area: usize) {
        self.areas[area].fill(0xff);
    }

    /// Power is cut and comes back: only the areas are left.
    fn reboot(&mut self) {
        self.state = State::Idle;
    }

    /// Decides from the areas what to do, as boot does; sends what is due.
    fn tick(&mut self, rng: &mut Rng) -> Option<Vec<u8>> {
        let mut out = vec![0; MAX_FRAME];
        if let State::Idle = self.state {
            let preferred = self.preferred();
            let view = self.view(preferred).unwrap();
            match view.state() {
                RecordState::Pending => {
                    let owed = view.confirmation().unwrap();
                    let base = match owed.purpose {
                        Purpose::Init => BaseKey::from(&self.setup.product_key),
                        Purpose::CloudKeyUpdate => BaseKey::from(&view.agent_key().unwrap().1),
                        Purpose::AgentKeyUpdate => {
                            let other = self.view(1 - preferred).expect("I4");
                            BaseKey::from(&other.agent_key().unwrap().1)
                        }
                    };
                    let state = ExpectAck::resume(&view, base, Xid(rng.next() as u32)).unwrap();
                    self.state = State::Owing(Box::new(state));
                }
                RecordState::Confirmed => {
                    // Active confirmed and the other area not blank: finish the erase.
                    let want = *GOAL.get(self.done.len())?;
                    let start = match want {
                        Purpose::Init => Start::init(
                            self.suite,
                            &self.setup.order,
                            &self.setup.product_key,
                            &self.setup.unit,
                        ),
                        _ => {
                            let (generation, key) = view.agent_key().unwrap();
                            let cloud = view.cloud_key().map_or(Generation::NONE, |c| c.0);
                            if want == Purpose::AgentKeyUpdate {
                                Start::agent_key_update(self.suite, &self.setup.unit, generation, &key)
                            } else {
                                Start::cloud_key_update(self.suite, &self.setup.unit, generation, &key, cloud)
                            }
                        }
                    };
                    let entropy = RequestEntropy {
                        xid: Xid(rng.next() as u32),
                        n1: rng.array(),
                        iv: rng.array(),
                        ephemeral: EphemeralSecret::from_bytes(rng.array()),
                    };
                    let (n, state) =
                        start.unwrap().request(&self.setup.dik, [1, 2, 3], entropy, &mut out).unwrap();
                    self.state = State::Waiting(Box::new(state), out[..n].to_vec());
                }
                other => panic!("a preferred record is {other:?}"),
            }
        }
        match &mut self.state {
            State::Idle => None,
            // The same message 1 again: the agent answers it from its cache.
            State::Waiting(_, frame1) => Some(frame1.clone()),
            State::Owing(state) => {
                let entropy = ConfirmEntropy { n3: rng.array(), iv: rng.array() };
                let n = state.confirm(&self.setup.dik, &entropy, &mut out).unwrap();
                out.truncate(n);
                Some(out)
            }
        }
    }

    fn drop(&mut self, reason: Error) {
        *self.drops.entry(reason.reason()).or_default() += 1;
    }

    /// Takes a frame. Never answers: the next tick sends what is due.
    fn deliver(&mut self, mut bytes: Vec<u8>, rng: &mut Rng) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => {}
            State::Waiting(state, frame1) => {
                match state.handle(&mut bytes, &self.setup.trust()) {
                    Err(dropped) => {
                        self.state = State::Waiting(Box::new(dropped.state), frame1);
                        self.drop(dropped.reason);
                    }
                    Ok(received) => {
                        let active = self.preferred();
                        let target = 1 - active;
                        self.highest = self.highest.next().unwrap();
                        let mut area = vec![0xff; record::MAX_RECORD];
                        let image = record::build_snapshot(
                            &received,
                            &self.view(active).unwrap(),
                            self.highest,
                            &self.setup.store,
                            &mut area,
                        )
                        .unwrap();
                        let len = image.layout().total_len();
                        area[len..].fill(0xff);
                        self.areas[target] = area;
                        // Power may go between the record and its COMMIT …
                        if rng.percent(5) {
                            return self.reboot();
                        }
                        assert!(self.view(target).is_none(), "nothing counts before COMMIT");
                        let at = image.layout().mark_at(Mark::Commit);
                        let mark = image.mark(Mark::Commit);
                        // … or inside the mark …
                        if rng.percent(5) {
                            self.areas[target][at..at + 8].copy_from_slice(&mark[..8]);
                            assert!(self.view(target).is_none(), "a torn COMMIT is no commit");
                            return self.reboot();
                        }
                        self.areas[target][at..at + 16].copy_from_slice(&mark);
                        // … or right behind it.
                        if rng.percent(5) {
                            return self.reboot();
                        }
                        let committed = self.view(target).unwrap().committed().unwrap();
                        let state = received.commit(&committed).unwrap();
                        self.state = State::Owing(Box::new(state));
                    }
                }
            }
            State::Owing(state) => {
                let purpose = state.purpose();
                match state.handle(&mut bytes, &self.setup.trust()) {
                    Err(dropped) => {
                        self.state = State::Owing(Box::new(dropped.state));
                        self.drop(dropped.reason);
                    }
                    Ok(Ending::Activated(_)) => {
                        let active = self.preferred();
                        self.set_mark(active, Mark::Confirm);
                        self.done.push(purpose);
                        // Power may go before the erase: the old record stays
                        // beside a confirmed one and must not be preferred.
                        if !rng.percent(20) {
                            self.erase(1 - active);
                        }
                    }
                    Ok(Ending::Refused(_)) => {
                        let pending = self.preferred();
                        self.set_mark(pending, Mark::Retire);
                        assert!(self.view(pending).is_none());
                        self.refused += 1;
                    }
                }
            }
        }
    }

    fn unconfirmed(&self) -> usize {
        (0..2).filter_map(|a| self.view(a)).filter(|v| v.state() == RecordState::Pending).count()
    }
}

/// An agent with one unit. Everything here would be rows in its database.
struct Agent<'s> {
    setup: &'s Setup,
    dik: Option<PublicKey>,
    current: Option<(Generation, AgentKey)>,
    /// (frame1 hash, entry, frame2, answered as active)
    pending: Vec<([u8; 32], Pending, Vec<u8>, bool)>,
    highest_ak: u32,
    staged: Option<(Generation, Vec<u8>)>,
    cloud: BTreeMap<u32, CloudKey>,
    cloud_active: Generation,
    drops: usize,
    evict: u64,
}

impl<'s> Agent<'s> {
    fn new(setup: &'s Setup, evict: u64) -> Self {
        Self {
            setup,
            dik: None,
            current: None,
            pending: vec![],
            highest_ak: 0,
            staged: None,
            cloud: BTreeMap::new(),
            cloud_active: Generation::NONE,
            drops: 0,
            evict,
        }
    }

    /// Every agent key the agent would accept, by generation.
    fn keys(&self, generation: Generation) -> Vec<AgentKey> {
        let pending = self
            .pending
            .iter()
            .filter(|(_, p, _, _)| p.purpose != Purpose::CloudKeyUpdate)
            .map(|(_, p, _, _)| (p.generation, p.agent_key.clone()));
        pending.chain(self.current.clone()).filter(|(g, _)| *g == generation).map(|(_, key)| key).collect()
    }

    fn base(&self, purpose: Purpose, kc: &KeyContext) -> Option<BaseKey> {
        match purpose {
            Purpose::Init => Some(BaseKey::from(&self.setup.product_key)),
            _ => {
                let (generation, key) = self.current.as_ref()?;
                (kc.as_unit() == (self.setup.unit, *generation)).then(|| BaseKey::from(key))
            }
        }
    }

    /// The answer to a frame, or silence.
    fn deliver(&mut self, bytes: &[u8], rng: &mut Rng) -> Option<Vec<u8>> {
        match self.answer(bytes, rng) {
            Ok(answer) => answer,
            Err(_) => {
                self.drops += 1;
                None
            }
        }
    }

    fn answer(&mut self, bytes: &[u8], rng: &mut Rng) -> Result<Option<Vec<u8>>, Error> {
        match Incoming::peek(bytes)? {
            Incoming::Request { purpose, kc, .. } => {
                let base = self.base(purpose, &kc).ok_or(Error::Tag)?;
                let request = Request::open(bytes, &base, self.dik.as_ref())?;
                let cached = self.pending.iter().find(|(hash, ..)| hash == request.frame_hash());
                if let Some((_, _, frame2, _)) = cached {
                    return Ok(Some(frame2.clone()));
                }
                if purpose == Purpose::Init && self.current.is_some() {
                    return Ok(None); // A2: ACTIVE is sticky; an alarm in the product.
                }
                self.respond(&request, &base, rng).map(Some)
            }
            Incoming::Confirm { suite, purpose, generation, .. } => {
                let mut known = false;
                for i in 0..self.pending.len() {
                    let (_, entry, _, _) = &self.pending[i];
                    if (entry.suite, entry.purpose, entry.generation) != (suite, purpose, generation) {
                        continue;
                    }
                    known = true;
                    if let Ok(confirmed) = entry.open_confirm(bytes) {
                        let entry = entry.clone();
                        return self.activate(i, &entry, &confirmed, rng).map(Some);
                    }
                }
                if known {
                    return Ok(None);
                }
                self.nack(bytes, purpose, rng)
            }
        }
    }

    fn respond(&mut self, request: &Request, base: &BaseKey, rng: &mut Rng) -> Result<Vec<u8>, Error> {
        let entropy = ResponseEntropy {
            n2: rng.array(),
            iv: rng.array(),
            ephemeral: EphemeralSecret::from_bytes(rng.array()),
        };
        let credentials = self.setup.credentials();
        let mut out = vec![0; MAX_FRAME];
        let (n, pending) = if request.purpose() == Purpose::CloudKeyUpdate {
            // A4: at most one staged generation; a repeated U1 gets the same record.
            if self.staged.is_none() {
                let generation = Generation(self.cloud.len() as u32 + 1);
                let key = CloudKey::new(&rng.array::<32>()).unwrap();
                let mut record = vec![0; 600];
                let n = CloudRecordParts {
                    generation,
                    key: &key,
                    connection: Some("mqtts://cloud.example:8883"),
                    platform_cert: None,
                    region_cert: Some(&self.setup.region_cert),
                    device_cert: Some(&self.setup.device_cert),
                }
                .build(&mut record)
                .unwrap();
                record.truncate(n);
                self.cloud.insert(generation.0, key);
                self.staged = Some((generation, record));
            }
            let (_, record) = self.staged.as_ref().unwrap();
            let grant = Grant::CloudRecord { record: CloudRecord::parse(record)? };
            request.respond(&grant, base, Some(&credentials), &entropy, &mut out)?
        } else {
            let key = AgentKey::from_bytes(rng.array());
            let grant = Grant::AgentKey { generation: Generation(self.highest_ak + 1), key: &key };
            request.respond(&grant, base, Some(&credentials), &entropy, &mut out)?
        };
        if request.purpose() != Purpose::CloudKeyUpdate {
            self.highest_ak += 1; // a generation is never used twice
        }
        out.truncate(n);
        self.pending.push((*request.frame_hash(), pending, out.clone(), false));
        // Now and then an entry is evicted before its message 3 comes. A staged generation may have several entries (a
        // repeated U1 gets the same record with a fresh N2), and the unit may have committed any of them: it is withdrawn
        // and all of them go, or the unit that committed the evicted one would wait for ever.
        if rng.percent(self.evict)
            && let Some((_, entry, ..)) = self.pending.pop()
            && entry.purpose == Purpose::CloudKeyUpdate
        {
            self.pending.retain(|(_, p, ..)| (p.purpose, p.generation) != (entry.purpose, entry.generation));
            self.staged = None;
        }
        Ok(out)
    }

    fn activate(
        &mut self,
        index: usize,
        entry: &Pending,
        confirmed: &agent::Confirmed,
        rng: &mut Rng,
    ) -> Result<Vec<u8>, Error> {
        if let Some(key) = confirmed.identity() {
            assert!(self.dik.is_none_or(|known| known == key));
            self.dik = Some(key);
        }
        if !self.pending[index].3 {
            match entry.purpose {
                Purpose::CloudKeyUpdate => {
                    assert!(entry.generation > self.cloud_active, "I8");
                    self.cloud_active = entry.generation;
                    self.staged = None;
                }
                _ => {
                    let before = self.current.as_ref().map_or(0, |c| c.0.0);
                    assert!(entry.generation.0 > before, "I8");
                    self.current = Some((entry.generation, entry.agent_key.clone()));
                }
            }
            self.pending[index].3 = true;
        }
        let mut out = vec![0; 108];
        let n = entry.ack(confirmed, Verdict::Activated, TIME, &rng.array(), &mut out)?;
        assert_eq!(n, 108);
        Ok(out)
    }

    fn nack(&mut self, frame3: &[u8], purpose: Purpose, rng: &mut Rng) -> Result<Option<Vec<u8>>, Error> {
        let kc = match purpose {
            Purpose::Init => KeyContext::order(&self.setup.order),
            _ => {
                let (generation, _) = self.current.as_ref().ok_or(Error::Tag)?;
                KeyContext::unit(&self.setup.unit, *generation)
            }
        };
        let base = self.base(purpose, &kc).ok_or(Error::Tag)?;
        let mut out = vec![0; 476];
        let n = agent::nack(
            frame3,
            &kc,
            &base,
            NackReason::EVICTED,
            Some(&self.setup.credentials()),
            &rng.array(),
            &mut out,
        )?;
        out.truncate(n);
        Ok(Some(out))
    }
}

/// Chances in percent.
#[derive(Clone, Copy)]
struct Faults {
    loss: u64,
    duplicate: u64,
    delay: u64,
    damage: u64,
    power: u64,
    evict: u64,
}

const NONE: Faults = Faults { loss: 0, duplicate: 0, delay: 0, damage: 0, power: 0, evict: 0 };

struct Link {
    /// (due, to the agent, frame)
    queue: Vec<(u64, bool, Vec<u8>)>,
    now: u64,
}

impl Link {
    fn send(&mut self, to_agent: bool, frame: &[u8], faults: &Faults, rng: &mut Rng) {
        let copies = if rng.percent(faults.loss) { 0 } else { 1 + u64::from(rng.percent(faults.duplicate)) };
        for _ in 0..copies {
            let mut frame = frame.to_vec();
            if rng.percent(faults.damage) {
                match rng.below(3) {
                    0 => {
                        let bit = rng.below(frame.len() as u64 * 8);
                        frame[(bit / 8) as usize] ^= 1 << (bit % 8);
                    }
                    1 => frame.truncate(rng.below(frame.len() as u64) as usize),
                    _ => frame.push(rng.next() as u8),
                }
            }
            let late = if rng.percent(faults.delay) { rng.below(12) } else { 0 };
            self.queue.push((self.now + 1 + late, to_agent, frame));
        }
    }

    fn due(&mut self) -> Vec<(bool, Vec<u8>)> {
        self.now += 1;
        let now = self.now;
        let (due, rest) = self.queue.drain(..).partition(|(at, ..)| *at <= now);
        self.queue = rest;
        let due: Vec<(u64, bool, Vec<u8>)> = due;
        due.into_iter().map(|(_, to, frame)| (to, frame)).collect()
    }
}

fn check_invariants(unit: &Unit<'_>, agent: &Agent<'_>) {
    assert!(unit.unconfirmed() <= 1, "I9");
    let view = unit.view(unit.preferred()).unwrap();
    let other = unit.view(1 - unit.preferred());
    if let Some((generation, key)) = view.agent_key() {
        // I1: the preferred record's key is accepted, or it is pending and the
        // other area holds one that is.
        let accepted = agent.keys(generation).contains(&key);
        assert!(
            accepted || (view.state() == RecordState::Pending && other.is_some()),
            "I1: the unit holds a key the agent never accepts"
        );
    }
    if let (RecordState::Confirmed, Some((generation, _))) = (view.state(), view.cloud_key()) {
        assert!(generation <= agent.cloud_active, "I6");
    }
}

fn run(setup: &Setup, suite: Suite, seed: u64, faults: Faults) -> (usize, usize) {
    let mut rng = Rng(seed);
    let mut unit = Unit::new(setup, suite);
    let mut agent = Agent::new(setup, faults.evict);
    let mut link = Link { queue: vec![], now: 0 };
    let mut highest = Generation::NONE;
    for step in 0..4_000u64 {
        if unit.done.len() == GOAL.len() {
            break;
        }
        // I3: after a while the faults stop and everything must converge.
        let faults = if step < 1_500 {
            faults
        } else {
            agent.evict = 0;
            NONE
        };
        if rng.percent(faults.power) {
            unit.reboot();
        }
        if step % 3 == 0
            && let Some(frame) = unit.tick(&mut rng)
        {
            link.send(true, &frame, &faults, &mut rng);
        }
        for (to_agent, frame) in link.due() {
            if to_agent {
                if let Some(answer) = agent.deliver(&frame, &mut rng) {
                    link.send(false, &answer, &faults, &mut rng);
                }
            } else {
                unit.deliver(frame, &mut rng);
            }
            check_invariants(&unit, &agent);
        }
        assert!(unit.highest >= highest, "I8");
        highest = unit.highest;
    }
    assert_eq!(unit.done, GOAL, "seed {seed}: did not converge (I3)");
    let view = unit.view(unit.preferred()).unwrap();
    assert_eq!(view.state(), RecordState::Confirmed);
    assert_eq!(view.agent_key(), agent.current, "seed {seed}");
    let (generation, key) = view.cloud_key().unwrap();
    assert_eq!(generation, agent.cloud_active, "seed {seed}");
    assert_eq!(agent.cloud.get(&generation.0), Some(&key), "seed {seed}");
    assert_eq!(agent.dik.is_some(), suite == Suite::Hardened);
    (unit.refused, unit.drops.values().sum())
}

const BAD: Faults = Faults { loss: 20, duplicate: 20, delay: 30, damage: 15, power: 3, evict: 8 };

#[test]
fn a_clean_link_needs_no_repeats() {
    let setup = Setup::new();
    for suite in [Suite::Legacy, Suite::Hardened] {
        let mut rng = Rng(1);
        let mut unit = Unit::new(&setup, suite);
        let mut agent = Agent::new(&setup, 0);
        for _ in 0..200 {
            let Some(frame) = unit.tick(&mut rng) else { break };
            let answer = agent.deliver(&frame, &mut rng).expect("an answer");
            unit.deliver(answer, &mut rng);
        }
        assert_eq!(unit.done, GOAL);
        assert_eq!(agent.drops, 0);
        assert!(unit.drops.is_empty(), "{:?}", unit.drops);
    }
}

#[test]
fn suite_1_converges_over_a_bad_link_under_3000_seeds() {
    let setup = Setup::new();
    let mut total = (0, 0);
    for seed in 0..3_000 {
        let (refused, drops) = run(&setup, Suite::Legacy, seed, BAD);
        total = (total.0 + refused, total.1 + drops);
    }
    // The faults really happened.
    assert!(total.0 > 50, "NACKs: {total:?}");
    assert!(total.1 > 1_000, "refused frames: {total:?}");
}

#[test]
fn suite_2_converges_over_a_bad_link_under_1000_seeds() {
    let setup = Setup::new();
    let mut total = (0, 0);
    for seed in 0..1_000 {
        let (refused, drops) = run(&setup, Suite::Hardened, seed, BAD);
        total = (total.0 + refused, total.1 + drops);
    }
    assert!(total.0 > 20, "NACKs: {total:?}");
    assert!(total.1 > 300, "refused frames: {total:?}");
}

/// One honest exchange, frozen before each of its four messages.
struct Frozen<'s> {
    setup: &'s Setup,
    suite: Suite,
    purpose: Purpose,
    base: BaseKey,
    kc: KeyContext,
    n1: [u8; 16],
    e_d: [u8; 32],
    frames: [Vec<u8>; 5],
    pending: Pending,
    area: Vec<u8>,
    confirm: ConfirmEntropy,
}

impl<'s> Frozen<'s> {
    fn start(&self) -> Start {
        start_of(self.setup, self.suite, self.purpose)
    }

    fn waiting(&self) -> ExpectResponse {
        let e_d = EphemeralSecret::from_bytes(self.e_d);
        ExpectResponse::from_frame1(self.start(), self.n1, e_d, &self.frames[0])
    }

    fn owing(&self) -> ExpectAck {
        let store = &self.setup.store;
        let (view, _) = record::read_valid(&self.area, &self.setup.unit, store).unwrap();
        let xid = Frame::parse(&self.frames[0]).unwrap().xid();
        let mut state = ExpectAck::resume(&view, self.base.clone(), xid).unwrap();
        let mut out = vec![0; MAX_FRAME];
        let n = state.confirm(&self.setup.dik, &self.confirm, &mut out).unwrap();
        assert_eq!(out[..n], self.frames[2]);
        state
    }

    fn registered(&self) -> PublicKey {
        self.setup.dik.public()
    }

    /// Gives `input` to the receiver of message `which` (0..4; 4 is the NACK),
    /// then checks that the receiver is as it was: the honest message is still
    /// accepted with the same result. `Err` if `input` was accepted.
    fn offer(&self, which: usize, input: &[u8]) -> Result<Error, ()> {
        let trust = self.setup.trust();
        match which {
            0 => {
                let registered = self.registered();
                let open = |b: &[u8]| Request::open(b, &self.base, Some(&registered));
                let reason = open(input).err().ok_or(())?;
                assert_eq!(open(&self.frames[0]).unwrap().unit(), self.setup.unit);
                Ok(reason)
            }
            2 => {
                let before = self.pending.clone();
                let reason = self.pending.open_confirm(input).err().ok_or(())?;
                assert_eq!(self.pending, before);
                let confirmed = self.pending.open_confirm(&self.frames[2]).unwrap();
                assert_eq!(*confirmed.n3(), self.confirm.n3);
                Ok(reason)
            }
            1 => match self.waiting().handle(&mut input.to_vec(), &trust) {
                Ok(_) => Err(()),
                Err(dropped) => {
                    let mut honest = self.frames[1].clone();
                    let received = dropped.state.handle(&mut honest, &trust).unwrap();
                    assert_eq!(*received.th2(), self.pending.th2);
                    Ok(dropped.reason)
                }
            },
            _ => match self.owing().handle(&mut input.to_vec(), &trust) {
                Ok(_) => Err(()),
                Err(dropped) => {
                    let mut honest = self.frames[3].clone();
                    let ending = dropped.state.handle(&mut honest, &trust).unwrap();
                    assert!(matches!(ending, Ending::Activated(a) if a.time() == TIME));
                    Ok(dropped.reason)
                }
            },
        }
    }
}

const CURRENT: [u8; 32] = [0x61; 32];

fn start_of(setup: &Setup, suite: Suite, purpose: Purpose) -> Start {
    let ak = AgentKey::from_bytes(CURRENT);
    match purpose {
        Purpose::Init => Start::init(suite, &setup.order, &setup.product_key, &setup.unit),
        Purpose::AgentKeyUpdate => Start::agent_key_update(suite, &setup.unit, Generation(3), &ak),
        Purpose::CloudKeyUpdate => {
            Start::cloud_key_update(suite, &setup.unit, Generation(3), &ak, Generation(1))
        }
    }
    .unwrap()
}

/// A committed kind 2 record with the key [`CURRENT`] of generation 3, made by an
/// exchange like every other.
fn current_record(setup: &Setup, rng: &mut Rng) -> Vec<u8> {
    let (_, area) = exchange_on(
        setup,
        Suite::Legacy,
        Purpose::Init,
        &setup.stage_one,
        &AgentKey::from_bytes(CURRENT),
        Generation(3),
        rng,
    );
    area
}

fn exchange_on<'s>(
    setup: &'s Setup,
    suite: Suite,
    purpose: Purpose,
    current: &[u8],
    new_key: &AgentKey,
    generation: Generation,
    rng: &mut Rng,
) -> (Frozen<'s>, Vec<u8>) {
    let (base, kc) = match purpose {
        Purpose::Init => (BaseKey::from(&setup.product_key), KeyContext::order(&setup.order)),
        _ => (BaseKey::from_bytes(CURRENT), KeyContext::unit(&setup.unit, Generation(3))),
    };
    let (n1, e_d) = (rng.array(), rng.array());
    let mut out = vec![0; MAX_FRAME];
    let entropy = RequestEntropy {
        xid: Xid(rng.next() as u32),
        n1,
        iv: rng.array(),
        ephemeral: EphemeralSecret::from_bytes(e_d),
    };
    let (n, waiting) =
        start_of(setup, suite, purpose).request(&setup.dik, [1, 0, 0], entropy, &mut out).unwrap();
    let frame1 = out[..n].to_vec();
    let registered = setup.dik.public();
    let request = Request::open(&frame1, &base, Some(&registered)).unwrap();
    let cloud_key = CloudKey::new(&[0x71; 32]).unwrap();
    let mut record = vec![0; 600];
    let n = CloudRecordParts {
        generation,
        key: &cloud_key,
        connection: Some("mqtts://cloud.example"),
        platform_cert: Some(&[1, 2, 3]),
        region_cert: Some(&setup.region_cert),
        device_cert: Some(&setup.device_cert),
    }
    .build(&mut record)
    .unwrap();
    let grant = match purpose {
        Purpose::CloudKeyUpdate => Grant::CloudRecord { record: CloudRecord::parse(&record[..n]).unwrap() },
        _ => Grant::AgentKey { generation, key: new_key },
    };
    let credentials = setup.credentials();
    let entropy = ResponseEntropy {
        n2: rng.array(),
        iv: rng.array(),
        ephemeral: EphemeralSecret::from_bytes(rng.array()),
    };
    let (n, pending) = request.respond(&grant, &base, Some(&credentials), &entropy, &mut out).unwrap();
    let frame2 = out[..n].to_vec();
    let mut buffer = frame2.clone();
    let received = waiting.handle(&mut buffer, &setup.trust()).unwrap();
    let current = match RecordView::open_product_key(current) {
        Ok((view, _)) => view,
        Err(_) => RecordView::parse(current, &setup.unit, &setup.store).unwrap(),
    };
    let mut area = vec![0xff; record::MAX_RECORD];
    let next = current.generation().next().unwrap();
    let image = record::build_snapshot(&received, &current, next, &setup.store, &mut area).unwrap();
    let at = image.layout().mark_at(Mark::Commit);
    area[at..at + 16].copy_from_slice(&image.mark(Mark::Commit));
    let committed = record::read_valid(&area, &setup.unit, &setup.store).unwrap().1;
    let mut owing = received.commit(&committed).unwrap();
    let confirm = ConfirmEntropy { n3: rng.array(), iv: rng.array() };
    let n = owing.confirm(&setup.dik, &confirm, &mut out).unwrap();
    let frame3 = out[..n].to_vec();
    let confirmed = pending.open_confirm(&frame3).unwrap();
    let n = pending.ack(&confirmed, Verdict::Activated, TIME, &rng.array(), &mut out).unwrap();
    let frame4 = out[..n].to_vec();
    let reason = NackReason::EVICTED;
    let iv = rng.array();
    let n = agent::nack(&frame3, &kc, &base, reason, Some(&credentials), &iv, &mut out).unwrap();
    let frame5 = out[..n].to_vec();
    let frozen = Frozen {
        setup,
        suite,
        purpose,
        base,
        kc,
        n1,
        e_d,
        frames: [frame1, frame2, frame3, frame4, frame5],
        pending,
        area: area.clone(),
        confirm,
    };
    (frozen, area)
}

fn frozen<'s>(setup: &'s Setup, suite: Suite, purpose: Purpose, seed: u64) -> Frozen<'s> {
    let mut rng = Rng(seed);
    let current = match purpose {
        Purpose::Init => setup.stage_one.clone(),
        _ => current_record(setup, &mut rng),
    };
    let key = AgentKey::from_bytes(rng.array());
    exchange_on(setup, suite, purpose, &current, &key, Generation(4), &mut rng).0
}

const CASES: [(Suite, Purpose); 6] = [
    (Suite::Legacy, Purpose::Init),
    (Suite::Legacy, Purpose::AgentKeyUpdate),
    (Suite::Legacy, Purpose::CloudKeyUpdate),
    (Suite::Hardened, Purpose::Init),
    (Suite::Hardened, Purpose::AgentKeyUpdate),
    (Suite::Hardened, Purpose::CloudKeyUpdate),
];

/// Every single bit of every frame of every exchange, not a sample.
#[test]
fn any_single_bit_flip_changes_nothing() {
    let setup = Setup::new();
    for (suite, purpose) in CASES {
        let x = frozen(&setup, suite, purpose, 11);
        for (which, frame) in x.frames.iter().enumerate() {
            // Suite 2 offers cost signatures when they rebuild the receiver; a
            // stride keeps the time down and still touches every byte.
            let stride = if suite == Suite::Hardened { 5 } else { 1 };
            for bit in (0..frame.len() * 8).step_by(stride) {
                let mut bad = frame.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                let reason = x.offer(which, &bad).unwrap_or_else(|()| {
                    panic!("{suite:?} {purpose:?} frame {}: bit {bit} accepted", which + 1)
                });
                // A flip is caught before anything is decrypted.
                assert!(
                    matches!(
                        reason,
                        Error::Tag
                            | Error::Length
                            | Error::Header
                            | Error::Unexpected { .. }
                            | Error::PeerBusy(_)
                            | Error::AllZeroShare
                    ),
                    "{suite:?} {purpose:?} frame {} bit {bit}: {reason:?}",
                    which + 1
                );
            }
        }
    }
}

#[test]
fn any_truncation_or_extension_changes_nothing() {
    let setup = Setup::new();
    for (suite, purpose) in CASES {
        let x = frozen(&setup, suite, purpose, 12);
        for (which, frame) in x.frames.iter().enumerate() {
            for len in 0..frame.len() {
                assert_eq!(x.offer(which, &frame[..len]), Ok(Error::Length));
            }
            for extra in [1, 16, 64] {
                let mut long = frame.clone();
                long.resize(frame.len() + extra, 0);
                assert_eq!(x.offer(which, &long), Ok(Error::Length));
            }
        }
    }
}

/// Every message of every exchange to every receiver of every exchange: only the
/// right one at the right place is accepted.
#[test]
fn reordered_and_foreign_frames_change_nothing() {
    let setup = Setup::new();
    let all: Vec<Frozen<'_>> = CASES
        .iter()
        .flat_map(|(suite, purpose)| [21, 22].map(|seed| frozen(&setup, *suite, *purpose, seed)))
        .collect();
    for (a, receiver) in all.iter().enumerate() {
        for (b, sender) in all.iter().enumerate() {
            for which in 0..5 {
                for (from, frame) in sender.frames.iter().enumerate() {
                    let own = a == b && which == from;
                    // The unit waits for message 4 and NACK at once.
                    let ending = a == b && which >= 3 && from >= 3;
                    // An agent takes every authentic message 1 under its key.
                    let request = which == 0 && from == 0 && receiver.base == sender.base;
                    let request = request && receiver.kc == sender.kc;
                    let refused = receiver.offer(which, frame).is_ok();
                    assert_eq!(
                        refused,
                        !(own || ending || request),
                        "{:?} {:?} message {} got {:?} {:?} message {}",
                        receiver.suite,
                        receiver.purpose,
                        which + 1,
                        sender.suite,
                        sender.purpose,
                        from + 1
                    );
                }
            }
        }
    }
}

#[test]
fn an_unauthenticated_err_only_asks_for_patience() {
    let setup = Setup::new();
    for (suite, purpose) in CASES {
        let x = frozen(&setup, suite, purpose, 13);
        let mut err = [0; frame::ERR_LEN];
        for (which, answered) in [(1, 0), (3, 2)] {
            let view = Frame::parse(&x.frames[answered]).unwrap();
            frame::build_err(&view, frame::ERR_BUSY, &mut err).unwrap();
            assert_eq!(x.offer(which, &err), Ok(Error::PeerBusy(1)));
        }
    }
}

/// The rules a flipped bit cannot show: who signs what.
#[test]
fn one_who_knows_the_product_key_cannot_play_the_agent() {
    let setup = Setup::new();
    let x = frozen(&setup, Suite::Hardened, Purpose::Init, 14);
    let request = Request::open(&x.frames[0], &x.base, None).unwrap();
    let mallory = IdentityKey::from_seed(&Seed::from_bytes([0x66; 32]));
    let credentials = Credentials { region: &setup.region_cert, agent: &setup.agent_cert, signer: &mallory };
    let key = AgentKey::from_bytes([0x67; 32]);
    let grant = Grant::AgentKey { generation: Generation(1), key: &key };
    let entropy =
        || ResponseEntropy { n2: [1; 16], iv: [2; 16], ephemeral: EphemeralSecret::from_bytes([3; 32]) };
    let mut out = vec![0; MAX_FRAME];
    let (n, _) = request.respond(&grant, &x.base, Some(&credentials), &entropy(), &mut out).unwrap();
    assert_eq!(x.offer(1, &out[..n]), Ok(Error::Signature));
    // Nor refuse a key in the agent's name.
    let n = agent::nack(
        &x.frames[2],
        &x.kc,
        &x.base,
        NackReason::REFUSED,
        Some(&credentials),
        &[4; 16],
        &mut out,
    )
    .unwrap();
    assert_eq!(x.offer(4, &out[..n]), Ok(Error::Signature));
    // Without credentials the agent itself cannot answer in suite 2.
    assert_eq!(
        request.respond(&grant, &x.base, None, &entropy(), &mut out).unwrap_err(),
        Error::SignerUnavailable
    );
    // A blank key is never issued, and generation 0 never either.
    for (generation, bytes) in [(1, [0; 32]), (1, [0xff; 32]), (0, [5; 32])] {
        let key = AgentKey::from_bytes(bytes);
        let grant = Grant::AgentKey { generation: Generation(generation), key: &key };
        let credentials = setup.credentials();
        assert!(request.respond(&grant, &x.base, Some(&credentials), &entropy(), &mut out).is_err());
    }
    assert_eq!(setup.agent_key.public_key(), setup.agent_key.public());
}

#[test]
fn the_commit_of_another_record_is_no_commit() {
    let setup = Setup::new();
    let x = frozen(&setup, Suite::Legacy, Purpose::Init, 15);
    let y = frozen(&setup, Suite::Legacy, Purpose::Init, 16);
    let foreign = record::read_valid(&y.area, &setup.unit, &setup.store).unwrap().1;
    let mut buffer = x.frames[1].clone();
    let received = x.waiting().handle(&mut buffer, &setup.trust()).unwrap();
    assert!(matches!(received.content(), Content::AgentKey(_)));
    assert_eq!(received.commit(&foreign).unwrap_err(), Error::CommitMismatch);
}

#[test]
fn an_answer_before_message_3_or_after_a_newer_one_is_refused() {
    let setup = Setup::new();
    let x = frozen(&setup, Suite::Hardened, Purpose::Init, 17);
    let (view, _) = record::read_valid(&x.area, &setup.unit, &setup.store).unwrap();
    let fresh = ExpectAck::resume(&view, x.base.clone(), Xid(1)).unwrap();
    for frame in &x.frames[3..] {
        let fresh = ExpectAck::resume(&view, x.base.clone(), Xid(1)).unwrap();
        let dropped = fresh.handle(&mut frame.clone(), &setup.trust()).unwrap_err();
        assert_eq!(dropped.reason, Error::Tag);
    }
    let mut newer = fresh;
    let entropy = ConfirmEntropy { n3: [9; 16], iv: [8; 16] };
    let mut out = vec![0; MAX_FRAME];
    newer.confirm(&setup.dik, &entropy, &mut out).unwrap();
    let dropped = newer.handle(&mut x.frames[3].clone(), &setup.trust()).unwrap_err();
    assert_eq!(dropped.reason, Error::Tag, "only the latest N3 counts");
}

#[test]
fn storage_secret_slots_survive_tearing_at_every_byte() {
    let setup = Setup::new();
    let slot = record::build_secret_slot(&setup.secret).unwrap();
    assert_eq!(record::read_secret_slot(&slot), (record::SecretSlot::Intact, Some(setup.secret.clone())));
    for len in 0..slot.len() {
        let mut torn = [0xff; record::SECRET_SLOT_LEN];
        torn[..len].copy_from_slice(&slot[..len]);
        let (state, secret) = record::read_secret_slot(&torn);
        let whole = torn == slot;
        assert_eq!(secret.is_some(), whole);
        if !whole {
            let blank = torn.iter().all(|b| *b == 0xff);
            let expected = if blank { record::SecretSlot::Blank } else { record::SecretSlot::Torn };
            assert_eq!(state, expected);
        }
    }
    for blank in [[0; 32], [0xff; 32]] {
        let secret = StorageSecret::from_bytes(blank);
        assert_eq!(record::build_secret_slot(&secret), Err(Error::Blank));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// No input, however made, panics a receiver or is accepted.
    #[test]
    fn arbitrary_bytes_are_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        case in 0usize..6,
        which in 0usize..5,
        header in any::<bool>(),
    ) {
        let setup = Setup::new();
        let (suite, purpose) = CASES[case];
        let x = frozen(&setup, suite, purpose, 31);
        let mut input = bytes;
        if header && input.len() >= 12 {
            // A right header gets arbitrary bytes past the first checks.
            input[..12].copy_from_slice(&x.frames[which][..12]);
            let len = (input.len() - 12) as u16;
            input[6..8].copy_from_slice(&len.to_be_bytes());
        }
        prop_assert!(x.offer(which, &input).is_ok());
    }

    /// Several flips at once, anywhere.
    #[test]
    fn many_flips_are_refused(
        flips in proptest::collection::btree_set(0usize..100_000, 1..6),
        case in 0usize..6,
        which in 0usize..5,
    ) {
        let setup = Setup::new();
        let (suite, purpose) = CASES[case];
        let x = frozen(&setup, suite, purpose, 32);
        let mut bad = x.frames[which].clone();
        let bits = bad.len() * 8;
        for bit in flips {
            bad[(bit % bits) / 8] ^= 1 << (bit % 8);
        }
        prop_assume!(bad != x.frames[which]);
        prop_assert!(x.offer(which, &bad).is_ok());
    }

    /// A record read from flash with any damage never counts, or reads the same.
    #[test]
    fn damaged_records_never_count_as_another(
        bit in 0usize..(record::MAX_RECORD * 8),
        case in 0usize..6,
    ) {
        let setup = Setup::new();
        let (suite, purpose) = CASES[case];
        let x = frozen(&setup, suite, purpose, 33);
        let len = record::stored_len(&x.area).unwrap();
        let bit = bit % (len * 8);
        let mut bad = x.area.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        match record::read_valid(&bad, &setup.unit, &setup.store) {
            Err(_) => {}
            // Only CONFIRM and RETIRE may be damaged without harm: torn is unset.
            Ok((view, _)) => {
                prop_assert!(bit / 8 >= view.layout().mark_at(Mark::Confirm));
                prop_assert_eq!(view.state(), RecordState::Pending);
            }
        }
    }

    /// The streaming decoder finds every packet between arbitrary garbage.
    #[test]
    fn the_serial_decoder_resynchronises(
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..5),
        garbage in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        use keywright_protocol::serial::{self, Channel, Decoder};
        let mut line = garbage;
        line.push(0);
        for payload in &payloads {
            let mut out = vec![0; serial::encoded_len(payload.len())];
            let n = serial::encode(Channel::AGENT, payload, &mut out).unwrap();
            line.extend_from_slice(&out[..n]);
        }
        let mut decoder: Decoder = Decoder::new();
        let heard: Vec<Vec<u8>> = line
            .iter()
            .filter_map(|b| decoder.feed(*b).and_then(Result::ok).map(|p| p.payload.to_vec()))
            .collect();
        prop_assert!(heard.ends_with(&payloads));
    }
}

/// The states live in the unit's RAM beside its buffers; they stay small.
#[test]
fn states_fit_a_small_unit() {
    for (name, size) in [
        ("Start", size_of::<Start>()),
        ("ExpectResponse", size_of::<ExpectResponse>()),
        ("Received", size_of::<keywright_protocol::exchange::Received<'_>>()),
        ("ExpectAck", size_of::<ExpectAck>()),
    ] {
        println!("{name}: {size} bytes");
        assert!(size <= 384, "{name} has {size} bytes");
    }
}

/// Opens a suite 1 frame with the exchange's keys, lets `edit` change the
/// plaintext, and seals it again: an authentic message with other contents, as
/// only a defective or dishonest peer can make it.
fn resealed(x: &Frozen<'_>, which: usize, edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    use keywright_protocol::crypto;
    use keywright_protocol::frame::Step;
    use keywright_protocol::schedule::{self, StepKeys, Th1Start};
    assert_eq!(x.suite, Suite::Legacy);
    let th1 = Th1Start::new(x.suite, &x.frames[0]).finish(&[]);
    let th2 = x.pending.th2;
    let th3 = schedule::th3(x.suite, &th2, &x.frames[2]);
    let hash3 = crypto::sha256(&[&x.frames[2]]);
    let prk0 = schedule::prk0(&x.base);
    let prk3 = schedule::prk3(&th2, &x.pending.agent_key);
    let (prk, step, ctx, prev): (_, _, &[u8], _) = match which {
        0 => (&prk0, Step::Request, &[], [0; 32]),
        1 => (&prk0, Step::Response, &th1, th1),
        2 => (&prk3, Step::Confirm, &[], th2),
        3 => (&prk3, Step::Ack, &[], th3),
        _ => (&prk0, Step::Nack, &hash3, [0; 32]),
    };
    let keys = StepKeys::expand(prk, x.suite, x.purpose, step, &x.kc, ctx).unwrap();
    let frame = &x.frames[which];
    let clear_len = if which == 1 { 0 } else { 16 };
    let (head, rest) = frame.split_at(12 + clear_len);
    let (iv, rest) = rest.split_first_chunk::<16>().unwrap();
    let mut ct = rest[..rest.len() - 32].to_vec();
    let len = crypto::cbc_decrypt(keys.enc(), iv, &mut ct).unwrap();
    ct.truncate(len);
    edit(&mut ct);
    let len = ct.len();
    ct.resize(crypto::padded(len), 0);
    crypto::cbc_encrypt(keys.enc(), iv, &mut ct, len).unwrap();
    let mut head = head.to_vec();
    let body = (clear_len + 16 + ct.len() + 32) as u16;
    head[6..8].copy_from_slice(&body.to_be_bytes());
    let tag = crypto::hmac(keys.mac(), &[&head, &prev, iv, &ct]);
    [&head, &iv[..], &ct, &tag].concat()
}

/// Every byte inside every message either may have another value or is checked;
/// the table says which.
#[test]
fn authentic_messages_with_a_wrong_field_are_refused() {
    let setup = Setup::new();
    for purpose in [Purpose::Init, Purpose::AgentKeyUpdate, Purpose::CloudKeyUpdate] {
        let x = frozen(&setup, Suite::Legacy, purpose, 41);
        let cloud = purpose == Purpose::CloudKeyUpdate;
        for which in 0..5 {
            assert_eq!(resealed(&x, which, |_| {}), x.frames[which]);
            let mut len = 0;
            resealed(&x, which, |pt| len = pt.len());
            // Bytes whose value is the sender's to choose.
            let free: &[(usize, usize)] = match (which, purpose) {
                (0, Purpose::Init) => &[(0, 31), (32, 36)],
                (0, Purpose::AgentKeyUpdate) => &[(12, 31), (32, 36)],
                (0, Purpose::CloudKeyUpdate) => &[(4, 24)],
                // KCT covers all of it.
                (1, Purpose::Init | Purpose::AgentKeyUpdate) => &[],
                // N2, the cloud key, the URL, the platform's certificate.
                (1, Purpose::CloudKeyUpdate) => &[(32, 48), (59, 91), (94, 115), (118, 121)],
                (2, _) => &[(20, 36)],
                // ACTIVATED and REJECTED differ in bit 0; the time.
                (3, _) => &[(0, 1), (20, 28)],
                _ => &[(0, 1)],
            };
            for at in 0..len {
                let bad = resealed(&x, which, |pt| pt[at] ^= 1);
                let accepted = x.offer(which, &bad).is_err();
                assert_eq!(
                    accepted,
                    free.iter().any(|(from, to)| (*from..*to).contains(&at)),
                    "{purpose:?} message {} byte {at}",
                    which + 1
                );
            }
            // Plaintext lengths are exact.
            let longer = resealed(&x, which, |pt| pt.push(0));
            assert!(x.offer(which, &longer).is_ok(), "{purpose:?} {which}");
            let shorter = resealed(&x, which, |pt| {
                pt.pop();
            });
            assert!(x.offer(which, &shorter).is_ok(), "{purpose:?} {which}");
            let empty = resealed(&x, which, Vec::clear);
            assert!(x.offer(which, &empty).is_ok(), "{purpose:?} {which}");
        }
        if !cloud {
            // A blank key with a right confirmation is still no key.
            for blank in [0x00, 0xff] {
                let th1 = keywright_protocol::schedule::Th1Start::new(x.suite, &x.frames[0]);
                let bad = resealed(&x, 1, |pt| {
                    pt[48..80].fill(blank);
                    let key = AgentKey::from_bytes([blank; 32]);
                    let preceding: [u8; 80] = pt[..80].try_into().unwrap();
                    let kct =
                        keywright_protocol::schedule::key_confirmation(&key, &th1.finish(&[]), &preceding);
                    pt[80..].copy_from_slice(&kct);
                });
                assert_eq!(x.offer(1, &bad), Ok(Error::Blank));
            }
        }
    }
}
