//! One unit: the firmware's engine with a flash, a socket, a clock and dice.

use super::{Nor, due_at};
use keywright::model::UnitId;
use keywright_device_fw::engine::{Engine, Facts};
use keywright_device_fw::traits::{Clock, Link, LinkFull, Rng, RngFault};
use keywright_protocol::control::Stage;
use keywright_protocol::record::RecordView;
use keywright_protocol::serial::{Channel, Packet};
use keywright_protocol::{Purpose, map};
use mio::net::UdpSocket;
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::AddAssign;
use std::rc::Rc;
use std::time::Instant;

/// The unit with this number.
pub fn unit_id(n: u32) -> UnitId {
    let mut id = *b"fleet-\0\0\0\0-u";
    id[6..10].copy_from_slice(&n.to_be_bytes());
    UnitId(id)
}

/// Frames and their bytes over a socket, both ways, lost ones included: they were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames.
    pub frames: u64,
    /// Frame bytes, without the headers of UDP and IP.
    pub bytes: u64,
    /// Frames that the network lost, of those.
    pub lost: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.lost += other.lost;
    }
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Rng for Dice {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), RngFault> {
        for part in out.chunks_mut(8) {
            part.copy_from_slice(&self.next().to_le_bytes()[..part.len()]);
        }
        Ok(())
    }
}

struct UnitClock {
    began: Instant,
    skipped: Rc<Cell<u64>>,
}

impl Clock for UnitClock {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(self.skipped.get())
    }
}

/// A link of one frame a datagram over a socket of its own, and the network's losses.
struct Datagrams {
    socket: UdpSocket,
    to: SocketAddr,
    /// On a line, the station says which unit it is.
    id: Option<UnitId>,
    loss: u64,
    dice: Dice,
    traffic: Traffic,
    /// Frames sent that are still to be answered, as far as this end can know.
    in_flight: i64,
    buffer: [u8; 2048],
}

impl Datagrams {
    fn carry(&mut self, len: usize) -> bool {
        let lost = self.dice.next() % 100 < self.loss;
        self.traffic += Traffic { frames: 1, bytes: len as u64, lost: u64::from(lost) };
        !lost
    }
}

impl Link for Datagrams {
    fn send(&mut self, channel: Channel, payload: &[u8]) -> Result<(), LinkFull> {
        // The log goes to a bench and the session with the broker to a modem; here is neither.
        if channel != Channel::AGENT || !self.carry(payload.len()) {
            return Ok(());
        }
        self.in_flight += 1;
        // A full buffer is one more way to lose a datagram; the pause that follows is then a real one.
        let _ = match self.id {
            Some(id) => self.socket.send_to(&[&id.0, payload].concat(), self.to),
            None => self.socket.send_to(payload, self.to),
        };
        Ok(())
    }

    fn receive(&mut self) -> Option<Packet<'_>> {
        loop {
            let (len, from) = self.socket.recv_from(&mut self.buffer).ok()?;
            if from != self.to {
                continue;
            }
            self.in_flight -= 1;
            if self.carry(len) {
                return Some(Packet { channel: Channel::AGENT, payload: &mut self.buffer[..len] });
            }
        }
    }

    fn dropped(&self) -> u32 {
        0
    }
}

/// One unit of a fleet.
pub struct Unit {
    id: UnitId,
    engine: Box<Engine<Nor, Datagrams, Dice, UnitClock>>,
    skipped: Rc<Cell<u64>>,
    began: Instant,
    due_at: u64,
    /// Generation of its record, erases and its own time when the round began.
    before: (u32, u64, u64),
    finished: Option<u64>,
}

impl Unit {
    pub(super) fn new(n: u32, stage_one: &[u8], seed: u64, began: Instant) -> Self {
        let id = unit_id(n);
        let mut dice = Dice(seed ^ u64::from(n) << 32);
        let skipped = Rc::new(Cell::new(0));
        let facts = Facts {
            unit: keywright_protocol::UnitId(id.0),
            firmware: [1, 0, 0, 0],
            reset_cause: 0,
            ram_high_water: || 0,
            rekey_every_ms: 0,
        };
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let link = Datagrams {
            socket: UdpSocket::bind(any).expect("a socket"),
            to: any,
            id: None,
            loss: 0,
            dice: Dice(dice.next()),
            traffic: Traffic::default(),
            in_flight: 0,
            buffer: [0; 2048],
        };
        let clock = UnitClock { began, skipped: skipped.clone() };
        let nor = Nor::preset(map::KEY_AREA_B.base, stage_one);
        let engine = Box::new(Engine::new(facts, nor, link, dice, clock));
        Self { id, engine, skipped, began, due_at: 0, before: (0, 0, 0), finished: None }
    }

    /// Its hardware id.
    pub fn id(&self) -> UnitId {
        self.id
    }

    /// What it holds.
    pub fn record(&mut self) -> Option<RecordView<'_>> {
        self.engine.store().active()
    }

    pub(super) fn socket(&mut self) -> &mut UdpSocket {
        &mut self.engine.link().socket
    }

    pub(super) fn aim(&mut self, to: SocketAddr, line: bool, loss: u64) {
        let id = line.then_some(self.id);
        let link = self.engine.link();
        (link.to, link.id, link.loss) = (to, id, loss);
    }

    fn now(&self) -> u64 {
        let real = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        real.saturating_add(self.skipped.get())
    }

    fn generation(&mut self) -> u32 {
        self.record().map_or(0, |record| record.generation().0)
    }

    /// A round begins for it. Answers that came too late to be of use belong to the round before.
    pub(super) fn begin(&mut self) {
        let link = self.engine.link();
        while link.socket.recv_from(&mut link.buffer).is_ok() {}
        (link.traffic, link.in_flight) = (Traffic::default(), 0);
        self.before = (self.generation(), self.engine.store().flash().erases(), self.now());
        self.finished = None;
    }

    /// Asks for a new key of this kind.
    pub(super) fn start(&mut self, purpose: Purpose) {
        self.engine.start_update(purpose).expect("an enrolled unit that owes nothing");
        self.poll();
    }

    /// One poll of the engine; notes the end.
    pub(super) fn poll(&mut self) {
        let action = self.engine.poll();
        self.due_at = due_at(action);
        if self.finished.is_none()
            && self.engine.stage() == Stage::ACTIVE
            && !self.engine.store().is_pending()
            && self.generation() > self.before.0
        {
            self.finished = Some(self.now().saturating_sub(self.before.2));
        }
    }

    /// Nothing of it is on the way, so whatever it waits for can only come after its pause: the pause is over.
    pub(super) fn skip_pause(&mut self, real: u64) {
        let now = real.saturating_add(self.skipped.get());
        if self.engine.link().in_flight <= 0 && self.due_at != u64::MAX && self.due_at > now {
            self.skipped.set(self.skipped.get() + (self.due_at - now));
        }
    }

    pub(super) fn is_due(&self, real: u64) -> bool {
        self.due_in(real) == 0
    }

    /// Milliseconds until it is due, by the wall clock.
    pub(super) fn due_in(&self, real: u64) -> u64 {
        self.due_at.saturating_sub(real.saturating_add(self.skipped.get()))
    }

    /// How long it took by its own clock, once it has what it asked for.
    pub(super) fn finished(&self) -> Option<u64> {
        self.finished
    }

    /// What went over its socket in this round.
    pub fn traffic(&mut self) -> Traffic {
        self.engine.link().traffic
    }

    /// Sectors it erased in this round.
    pub fn erases(&mut self) -> u64 {
        self.engine.store().flash().erases() - self.before.1
    }
}
