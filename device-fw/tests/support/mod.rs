//! A unit's world on the host: torn flash, a lossy line, an agent, virtual time, everything from one seed.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod agent;
pub mod cuts;
pub mod nor;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use agent::Agent;
use keywright_device_fw::engine::{Action, Engine, Facts};
use keywright_device_fw::link::SerialLink;
use keywright_device_fw::traits::{BytePort, Clock, LinkFull, Rng, RngFault};
use keywright_protocol::control::{Control, LogRecord, Stage, Status};
use keywright_protocol::record::{RecordState, RecordView};
use keywright_protocol::serial::{self, Channel, Decoder};
use keywright_protocol::{StoreKey, UnitId, map};
use nor::{Nor, NorHandle};

/// Every unit of these tests.
pub const UNIT: UnitId = UnitId(*b"\x00\x3a\x00\x27WRP 5532");

/// SplitMix64: small, seedable, good enough for faults and fake keys.
#[derive(Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// True in `percent` of 100.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }
}

/// The unit's RNG: seeded, and able to fail on request.
pub struct TestRng {
    dice: Dice,
    pub faults: Rc<RefCell<Vec<RngFault>>>,
}

impl Rng for TestRng {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), RngFault> {
        if let Some(fault) = self.faults.borrow_mut().pop() {
            return Err(fault);
        }
        out.fill_with(|| self.dice.next() as u8);
        Ok(())
    }
}

/// Both directions of the serial line, as bytes.
#[derive(Default)]
pub struct Wire {
    pub to_unit: VecDeque<u8>,
    pub from_unit: VecDeque<u8>,
}

/// The unit's end of the line. A unit without power sends nothing.
pub struct TestPort {
    wire: Rc<RefCell<Wire>>,
    nor: Rc<RefCell<Nor>>,
}

impl BytePort for TestPort {
    fn read(&mut self) -> Option<u8> {
        self.wire.borrow_mut().to_unit.pop_front()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LinkFull> {
        if !self.nor.borrow().dead {
            self.wire.borrow_mut().from_unit.extend(bytes);
        }
        Ok(())
    }
}

/// What the line does to packets, in percent.
#[derive(Clone, Copy, Default)]
pub struct Line {
    pub loss: u64,
    pub duplicate: u64,
    pub corrupt: u64,
    pub reorder: u64,
}

/// Virtual time, moved by the world.
pub struct TestClock(Rc<Cell<u64>>);

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.0.get()
    }
}

pub type Unit = Engine<NorHandle, SerialLink<TestPort>, TestRng, TestClock>;

pub struct World {
    pub nor: Rc<RefCell<Nor>>,
    pub wire: Rc<RefCell<Wire>>,
    pub agent: Agent,
    pub line: Line,
    pub dice: Dice,
    pub now: u64,
    pub logs: Vec<LogRecord>,
    pub answers: Vec<Control>,
    pub boots: u32,
    /// Packets of the TCP bridge, for tests that stand in for a modem.
    pub bridge: Vec<Vec<u8>>,
    /// Of the next boot.
    pub rekey_every_ms: u64,
    pub rng_faults: Rc<RefCell<Vec<RngFault>>>,
    unit: Option<Unit>,
    clock: Rc<Cell<u64>>,
    decoder: Decoder,
    held: Vec<Vec<u8>>,
    asked_reset: bool,
}

impl World {
    /// A unit after stage one, with power.
    pub fn new(agent: Agent, seed: u64) -> World {
        let mut nor = Nor::new(seed);
        nor.preset(map::KEY_AREA_B.base, &agent.stage_one());
        let mut world = World {
            nor: Rc::new(RefCell::new(nor)),
            wire: Rc::default(),
            agent,
            line: Line::default(),
            dice: Dice(seed),
            now: 0,
            logs: Vec::new(),
            answers: Vec::new(),
            boots: 0,
            bridge: Vec::new(),
            rekey_every_ms: 0,
            rng_faults: Rc::default(),
            unit: None,
            clock: Rc::default(),
            decoder: Decoder::new(),
            held: Vec::new(),
            asked_reset: false,
        };
        world.power_on();
        world
    }

    /// Starts the unit from what flash holds. Whatever was on the line is gone.
    pub fn power_on(&mut self) {
        self.unit = None;
        self.nor.borrow_mut().power_on();
        self.wire.take();
        self.held.clear();
        self.decoder.reset();
        self.now = 0;
        self.boots += 1;
        let port = TestPort { wire: self.wire.clone(), nor: self.nor.clone() };
        let rng = TestRng { dice: Dice(self.dice.next()), faults: self.rng_faults.clone() };
        let facts = Facts {
            unit: UNIT,
            firmware: [1, 2, 3, 0],
            reset_cause: 0x08,
            ram_high_water: || 4321,
            rekey_every_ms: self.rekey_every_ms,
        };
        self.unit = Some(Engine::new(
            facts,
            NorHandle(self.nor.clone()),
            SerialLink::new(port),
            rng,
            TestClock(self.clock.clone()),
        ));
    }

    pub fn unit(&mut self) -> &mut Unit {
        self.unit.as_mut().expect("powered")
    }

    /// Puts a packet on the line to the unit.
    pub fn send(&mut self, channel: Channel, payload: &[u8]) {
        let mut line = vec![0; serial::encoded_len(payload.len())];
        let len = serial::encode(channel, payload, &mut line).unwrap();
        self.wire.borrow_mut().to_unit.extend(&line[..len]);
    }

    pub fn control(&mut self, message: &Control) {
        let mut out = [0; 128];
        let len = message.encode(&mut out).unwrap();
        self.send(Channel::CONTROL, &out[..len]);
    }

    /// One poll of the unit and one look at the line. Returns false when nothing will ever happen again.
    pub fn step(&mut self) -> bool {
        self.clock.set(self.now);
        let action = self.unit.as_mut().expect("powered").poll();
        if self.nor.borrow().dead {
            self.power_on();
            return true;
        }
        if action == Action::Reset {
            self.asked_reset = true;
            self.power_on();
            return true;
        }
        let bytes: Vec<u8> = self.wire.borrow_mut().from_unit.drain(..).collect();
        let mut packets = Vec::new();
        for byte in bytes {
            if let Some(packet) = self.decoder.feed(byte) {
                let packet = packet.expect("the unit sends whole packets");
                packets.push((packet.channel, packet.payload.to_vec()));
            }
        }
        for (channel, payload) in packets {
            match channel {
                Channel::LOG => self.logs.push(LogRecord::parse(&payload).unwrap()),
                Channel::CONTROL => self.answers.push(Control::decode(&payload).unwrap()),
                Channel::AGENT => self.deliver_to_agent(payload),
                Channel::TCP => self.bridge.push(payload),
                other => panic!("the unit used {other:?}"),
            }
        }
        if !self.wire.borrow().to_unit.is_empty() {
            self.now += 10;
            return true;
        }
        if let Some(frame) = self.held.pop() {
            self.send(Channel::AGENT, &frame);
            self.now += 10;
            return true;
        }
        match action {
            Action::SleepUntil(u64::MAX) => false,
            Action::SleepUntil(at) => {
                self.now = at.max(self.now + 10);
                true
            }
            Action::Reset => true,
        }
    }

    fn deliver_to_agent(&mut self, frame: Vec<u8>) {
        let copies = self.copies();
        for _ in 0..copies {
            let mut frame = frame.clone();
            self.damage(&mut frame);
            self.check_committed_before_sent(&frame);
            for mut answer in self.agent.handle(&frame) {
                self.damage(&mut answer);
                for _ in 0..self.copies() {
                    if self.dice.chance(self.line.reorder) {
                        self.held.push(answer.clone());
                    } else {
                        self.send(Channel::AGENT, &answer);
                    }
                }
            }
        }
    }

    fn copies(&mut self) -> usize {
        if self.dice.chance(self.line.loss) {
            0
        } else {
            1 + usize::from(self.dice.chance(self.line.duplicate))
        }
    }

    fn damage(&mut self, frame: &mut [u8]) {
        if self.dice.chance(self.line.corrupt) {
            let at = self.dice.next() as usize % frame.len();
            frame[at] ^= 1 << (self.dice.next() % 8);
        }
    }

    /// I5 as an outside observer: when a message 3 is on the line, flash holds the committed record.
    fn check_committed_before_sent(&mut self, frame: &[u8]) {
        if frame.len() > 28 && frame[4] & 0xF == 3 {
            let generation = u32::from_be_bytes(frame[24..28].try_into().unwrap());
            let cloud = frame[4] >> 4 == 3;
            let found = self
                .records()
                .iter()
                .any(|r| r.committed && if cloud { r.cloud == generation } else { r.agent == generation });
            // A damaged frame may claim any generation.
            assert!(found || self.line.corrupt > 0, "I5: message 3 for {generation} without a commit");
        }
    }

    /// The unit records in flash, read independently of the store.
    pub fn records(&self) -> Vec<Seen> {
        let nor = self.nor.borrow();
        let Some(key) = nor.store_key(&UNIT) else { return Vec::new() };
        [map::KEY_AREA_A, map::KEY_AREA_B].iter().filter_map(|area| seen(nor.bytes(*area), &key)).collect()
    }

    /// Runs until `done` or until virtual time is `limit` ms after now; the unit may reboot in between.
    pub fn run_until(&mut self, limit: u64, mut done: impl FnMut(&mut World) -> bool) -> bool {
        let mut left = limit;
        for _ in 0..100_000 {
            if done(self) {
                return true;
            }
            let before = (self.now, self.boots);
            let alive = self.step();
            if self.boots == before.1 {
                left = left.saturating_sub(self.now - before.0);
            }
            if !alive || left == 0 {
                return done(self);
            }
        }
        panic!("no end in sight");
    }

    pub fn run_to_active(&mut self) -> bool {
        self.run_until(48 * 3_600_000, |w| {
            w.unit().stage() == Stage::ACTIVE && !w.unit().store().is_pending()
        })
    }

    /// Asks for Status and returns it.
    pub fn status(&mut self) -> Status {
        self.answers.clear();
        self.control(&Control::StatusRequest);
        assert!(self.run_until(60_000, |w| !w.answers.is_empty()), "no Status");
        match self.answers[0] {
            Control::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    pub fn logged(&self, failure: keywright_protocol::DeviceFailure) -> bool {
        self.logs.iter().any(|record| record.code == failure.code())
    }

    /// What must hold when everything is done: both sides agree, nothing superfluous is left.
    pub fn check_active(&mut self) {
        let records = self.records();
        assert_eq!(records.len(), 1, "I4/I9: one record is left: {records:?}");
        let record = &records[0];
        assert!(record.committed && record.confirmed, "{record:?}");
        assert_eq!(Some(record.agent), self.agent.active_agent_key(), "I1: agent key");
        assert_eq!(record.cloud, self.agent.cloud_active, "I1: cloud key");
        assert!(self.nor.borrow().product_key().is_none(), "I7: the product key is erased at the end");
        assert_eq!(self.nor.borrow().raised_bits, 0, "nothing tries to program 0 to 1");
    }
}

/// One unit record as an outside observer sees it.
#[derive(Debug)]
pub struct Seen {
    pub generation: u32,
    pub agent: u32,
    pub cloud: u32,
    pub committed: bool,
    pub confirmed: bool,
}

fn seen(area: &[u8], key: &StoreKey) -> Option<Seen> {
    let view = RecordView::parse(area, &UNIT, key).ok()?;
    Some(Seen {
        generation: view.generation().0,
        agent: view.agent_key().map_or(0, |(generation, _)| generation.0),
        cloud: view.cloud_key().map_or(0, |(generation, _)| generation.0),
        committed: view.committed().is_ok(),
        confirmed: view.state() == RecordState::Confirmed,
    })
}
