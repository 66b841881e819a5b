//! A station on a temporary folder, and a unit that keeps its two key areas in memory.
#![allow(dead_code, reason = "every test program uses its own part")]

use keywright::agent::{Agent, Change, EmbeddedAgent, FrameContext, Handled, PlatformCloud};
use keywright::anchors::Anchors;
use keywright::config::{CloudConfig, CloudKind};
use keywright::model::*;
use keywright::records::{NewProductOrder, OpenOptions, Records, SqliteRecords};
use keywright::secrets::{KdfCost, Passphrase};
use keywright_protocol::cert::{Cert, Trust};
use keywright_protocol::control::Proof;
use keywright_protocol::exchange::{
    ConfirmEntropy, Ending, ExpectAck, ExpectResponse, RequestEntropy, Start,
};
use keywright_protocol::keys::EphemeralSecret;
use keywright_protocol::record::{self, Mark, RecordState, RecordView};
use keywright_protocol::{
    BaseKey, Generation, IdentityKey, MAX_FRAME, ProductKey, Purpose, StorageSecret, StoreKey, Suite, Xid,
};
use std::path::Path;
use std::sync::Arc;

/// SplitMix64: enough for a simulation, the same on every machine.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }
}

/// Options with a key that is cheap to stretch.
pub fn options() -> OpenOptions {
    OpenOptions { cost: KdfCost::TEST, ..OpenOptions::new("bench-1") }
}

pub fn open(home: &Path) -> SqliteRecords {
    SqliteRecords::open_with(&home.join("station.db"), options(), &Passphrase::demo()).expect("records open")
}

pub fn new_order(name: &str, quantity: u32, suite: u8) -> NewProductOrder {
    NewProductOrder {
        name: name.into(),
        model: "KW-GATEWAY-429".into(),
        hw_revision: "B".into(),
        part_number: "PN-1".into(),
        quantity,
        region: 7,
        suite,
        cloud_url: AT.into(),
        lock: false,
        per_hour: 0,
    }
}

/// The URL by which the units know their cloud.
pub const AT: &str = "mqtts://cloud.example:8883";

/// The station's own broker, on any free port.
pub fn local_cloud() -> CloudConfig {
    let listen = "127.0.0.1:0".parse().expect("an address");
    CloudConfig { name: "local".into(), url: AT.into(), kind: CloudKind::Local { listen } }
}

/// An agent whose cloud is the station's own broker.
pub fn agent(home: &Path, records: &SqliteRecords, anchors: Anchors) -> EmbeddedAgent {
    let cloud = PlatformCloud::new(home, "bench-1", &[local_cloud()], records.clone());
    EmbeddedAgent::new(records.clone(), anchors, Arc::new(cloud))
}

/// The unit with this number.
pub fn unit_id(n: u32) -> UnitId {
    let mut id = *b"unit-\0\0\0\0xyz";
    id[5..9].copy_from_slice(&n.to_be_bytes());
    UnitId(id)
}

/// Records, anchors, an agent, one order and one batch.
pub struct Station {
    pub home: tempfile::TempDir,
    pub records: SqliteRecords,
    pub agent: Arc<EmbeddedAgent>,
    pub po: ProductOrder,
    pub batch: Batch,
}

impl Station {
    pub fn new(quantity: u32, suite: u8) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let records = open(home.path());
        let anchors = Anchors::init(home.path(), &records.station_key(), &[7]).expect("anchors");
        let po = records.create_product_order(new_order("PO-1", quantity, suite)).expect("order");
        let batch = records.create_batch(po.id, "B1", quantity).expect("batch");
        let agent = Arc::new(agent(home.path(), &records, anchors));
        Self { home, records, agent, po, batch }
    }

    /// The unit arrives: an attempt, bound.
    pub fn arrive(&self, unit: UnitId) -> AttemptId {
        let attempt = self.records.begin_attempt(self.batch.id, "fixture-1", "op").expect("begins");
        self.records.bind_unit(attempt, unit).expect("binds");
        attempt
    }

    pub fn context(&self, unit: UnitId) -> FrameContext {
        FrameContext { batch: self.batch.id, unit, attempt: None }
    }

    pub fn device(&self, unit: UnitId, suite: Suite, seed: u64) -> Device {
        let stage_one = self.agent.stage_one_record(self.po.id).expect("stage one record");
        Device::new(unit, suite, &stage_one, seed)
    }

    pub fn handle(&self, unit: UnitId, frame: &[u8]) -> Handled {
        self.agent.handle(self.context(unit), frame).expect("the station works")
    }

    /// Sends what is due and delivers the answer; what the agent says has changed.
    pub fn round(&self, device: &mut Device) -> Change {
        let frame = device.tick().expect("something is due");
        let handled = self.handle(device.id, &frame);
        if let Some(reply) = handled.reply {
            device.deliver(reply, Cut::Never);
        }
        handled.change
    }

    /// Runs the goal to its end over a good link.
    pub fn complete(&self, device: &mut Device) {
        for _ in 0..40 {
            if device.is_done() {
                return;
            }
            self.round(device);
        }
        panic!("{} did not finish: {:?}", device.id, device.done);
    }

    /// A database connection of our own, as an auditor would open one.
    pub fn sql(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.home.path().join("station.db")).expect("opens")
    }

    pub fn count(&self, sql: &str) -> i64 {
        self.sql().query_row(sql, [], |r| r.get(0)).expect(sql)
    }

    /// The live keys the records hold are exactly the ones that the unit holds.
    pub fn assert_same_keys(&self, device: &Device) {
        let keys = self.records.key_vault().unit_keys(device.id).expect("keys");
        let view = device.view(device.preferred()).expect("a record");
        let (generation, key) = view.agent_key().expect("agent key");
        let agent = keys.agent.expect("a live agent key");
        assert_eq!((agent.generation, agent.key.expose()), (generation.0, key.expose().as_slice()));
        let cloud = view.cloud_key();
        assert_eq!(cloud.is_some(), keys.cloud.is_some());
        if let (Some((generation, key)), Some(cloud)) = (cloud, keys.cloud) {
            assert_eq!((cloud.generation, cloud.key.expose()), (generation.0, key.expose()));
        }
    }
}

enum State {
    Idle,
    Waiting(Box<ExpectResponse>, Vec<u8>),
    Owing(Box<ExpectAck>),
}

/// Where the unit loses its power.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Never,
    BeforeCommit,
    AfterCommit,
}

/// A unit: two key areas that survive, a state that does not.
pub struct Device {
    pub id: UnitId,
    unit: keywright_protocol::UnitId,
    suite: Suite,
    product_key: ProductKey,
    store: StoreKey,
    pub dik: IdentityKey,
    stage_one: Vec<u8>,
    areas: [Vec<u8>; 2],
    state: State,
    highest: Generation,
    pub goal: Vec<Purpose>,
    /// Confirmed exchanges, in order.
    pub done: Vec<Purpose>,
    pub refused: usize,
    pub rng: Rng,
}

impl Device {
    pub fn new(id: UnitId, suite: Suite, stage_one: &[u8], seed: u64) -> Self {
        let mut rng = Rng(seed);
        let unit = keywright_protocol::UnitId(id.0);
        let secret = StorageSecret::from_bytes(rng.array());
        let mut area = vec![0xff; record::MAX_RECORD];
        area[..stage_one.len()].copy_from_slice(stage_one);
        let (_, product_key) = RecordView::open_product_key(&area).expect("a kind 1 record");
        Self {
            id,
            unit,
            suite,
            product_key,
            store: StoreKey::derive(&unit, &secret),
            dik: IdentityKey::derive(&unit, &secret),
            areas: [vec![0xff; record::MAX_RECORD], area.clone()],
            stage_one: area,
            state: State::Idle,
            highest: Generation(1),
            goal: vec![Purpose::Init, Purpose::CloudKeyUpdate],
            done: vec![],
            refused: 0,
            rng,
        }
    }

    pub fn is_done(&self) -> bool {
        self.done == self.goal
    }

    /// Flashed again without a mass erase: the same identity, no keys.
    pub fn reflash(&mut self) {
        self.areas = [vec![0xff; record::MAX_RECORD], self.stage_one.clone()];
        self.highest = Generation(1);
        self.done.clear();
        self.state = State::Idle;
    }

    pub fn view(&self, area: usize) -> Option<RecordView<'_>> {
        let bytes = &self.areas[area];
        let view = match RecordView::open_product_key(bytes) {
            Ok((view, _)) => view,
            Err(_) => RecordView::parse(bytes, &self.unit, &self.store).ok()?,
        };
        view.committed().ok().map(|_| view)
    }

    pub fn preferred(&self) -> usize {
        (0..2)
            .filter_map(|a| self.view(a).map(|v| (v.generation(), a)))
            .max()
            .expect("I1: a record is valid")
            .1
    }

    fn set_mark(&mut self, area: usize, mark: Mark) {
        let view = self.view(area).expect("only valid records are marked");
        let (at, bytes) = (view.layout().mark_at(mark), mark.bytes(view.mac()));
        self.areas[area][at..at + 16].copy_from_slice(&bytes);
    }

    /// Power is cut and comes back.
    pub fn reboot(&mut self) {
        self.state = State::Idle;
    }

    /// Draws a fresh message 1, as after a reboot.
    pub fn fresh_request(&mut self) -> Vec<u8> {
        self.reboot();
        self.tick().expect("a request is due")
    }

    /// Decides from the areas what is due, as boot does.
    pub fn tick(&mut self) -> Option<Vec<u8>> {
        let mut out = vec![0; MAX_FRAME];
        if let State::Idle = self.state {
            let preferred = self.preferred();
            let view = self.view(preferred).expect("valid");
            if view.state() == RecordState::Pending {
                let owed = view.confirmation().expect("owed");
                let base = match owed.purpose {
                    Purpose::Init => BaseKey::from(&self.product_key),
                    Purpose::CloudKeyUpdate => BaseKey::from(&view.agent_key().expect("key").1),
                    Purpose::AgentKeyUpdate => {
                        BaseKey::from(&self.view(1 - preferred).expect("I4").agent_key().expect("key").1)
                    }
                };
                let xid = Xid(self.rng.next() as u32);
                let view = self.view(preferred).expect("valid");
                self.state = State::Owing(Box::new(ExpectAck::resume(&view, base, xid).expect("resumes")));
            } else {
                let want = *self.goal.get(self.done.len())?;
                let start = match want {
                    Purpose::Init => {
                        let order = view.order().expect("order").order;
                        Start::init(self.suite, &order, &self.product_key, &self.unit)
                    }
                    Purpose::AgentKeyUpdate => {
                        let (generation, key) = view.agent_key().expect("key");
                        Start::agent_key_update(self.suite, &self.unit, generation, &key)
                    }
                    Purpose::CloudKeyUpdate => {
                        let (generation, key) = view.agent_key().expect("key");
                        let cloud = view.cloud_key().map_or(Generation::NONE, |c| c.0);
                        Start::cloud_key_update(self.suite, &self.unit, generation, &key, cloud)
                    }
                };
                let start = start.expect("starts");
                let entropy = RequestEntropy {
                    xid: Xid(self.rng.next() as u32),
                    n1: self.rng.array(),
                    iv: self.rng.array(),
                    ephemeral: EphemeralSecret::from_bytes(self.rng.array()),
                };
                let (n, state) = start.request(&self.dik, [1, 2, 3], entropy, &mut out).expect("requests");
                self.state = State::Waiting(Box::new(state), out[..n].to_vec());
            }
        }
        match &mut self.state {
            State::Idle => None,
            State::Waiting(_, frame1) => Some(frame1.clone()),
            State::Owing(state) => {
                let entropy = ConfirmEntropy { n3: self.rng.array(), iv: self.rng.array() };
                let n = state.confirm(&self.dik, &entropy, &mut out).expect("confirms");
                out.truncate(n);
                Some(out)
            }
        }
    }

    /// Takes a frame; the next tick sends what is due.
    pub fn deliver(&mut self, mut bytes: Vec<u8>, cut: Cut) {
        let (_, root) = (0, {
            let bytes = &self.stage_one;
            RecordView::open_product_key(bytes).expect("stage one").0.root_anchor().expect("root anchor")
        });
        let order =
            RecordView::open_product_key(&self.stage_one).expect("stage one").0.order().expect("order");
        let held: Option<Cert> = self.view(self.preferred()).and_then(|v| v.region_cert());
        let trust = Trust {
            root: &root.key,
            root_epoch: root.epoch,
            floors: &[],
            time_floor: 1,
            order: order.order,
            unit: self.unit,
            region: order.region,
            region_cert: held.as_ref(),
        };
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => {}
            State::Waiting(state, frame1) => match state.handle(&mut bytes, &trust) {
                Err(dropped) => self.state = State::Waiting(Box::new(dropped.state), frame1),
                Ok(received) => {
                    let target = 1 - self.preferred();
                    self.highest = self.highest.next().expect("generations");
                    let mut area = vec![0xff; record::MAX_RECORD];
                    let current = self.view(1 - target).expect("valid");
                    let image =
                        record::build_snapshot(&received, &current, self.highest, &self.store, &mut area)
                            .expect("builds");
                    let end = image.layout().total_len();
                    area[end..].fill(0xff);
                    self.areas[target] = area;
                    if cut == Cut::BeforeCommit {
                        return;
                    }
                    let at = image.layout().mark_at(Mark::Commit);
                    self.areas[target][at..at + 16].copy_from_slice(&image.mark(Mark::Commit));
                    if cut == Cut::AfterCommit {
                        return;
                    }
                    let committed = self.view(target).expect("valid").committed().expect("committed");
                    self.state = State::Owing(Box::new(received.commit(&committed).expect("commits")));
                }
            },
            State::Owing(state) => {
                let purpose = state.purpose();
                match state.handle(&mut bytes, &trust) {
                    Err(dropped) => self.state = State::Owing(Box::new(dropped.state)),
                    Ok(Ending::Activated(_)) => {
                        let active = self.preferred();
                        self.set_mark(active, Mark::Confirm);
                        self.areas[1 - active].fill(0xff);
                        self.done.push(purpose);
                    }
                    Ok(Ending::Refused(_)) => {
                        let pending = self.preferred();
                        self.set_mark(pending, Mark::Retire);
                        self.refused += 1;
                    }
                }
            }
        }
    }

    /// Answers a challenge with the installed keys.
    pub fn prove(&self, challenge: &[u8; 32]) -> Proof {
        let view = self.view(self.preferred()).expect("a record");
        let (agent, cloud) = (view.agent_key().expect("agent key"), view.cloud_key().expect("cloud key"));
        Proof::compute(challenge, &self.unit, view.generation(), (agent.0, &agent.1), (cloud.0, &cloud.1))
    }
}
