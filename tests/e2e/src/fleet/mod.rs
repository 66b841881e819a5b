//! A fleet in the field: real device state machines, and the real agent at the other end of real loopback sockets.
//!
//! ```text
//!  Fleet (one thread)                                       Service (its own process in the benchmark)
//!  Engine over Nor ─ Datagrams ═ UDP, one socket a unit ═▶ workers ─ EmbeddedAgent ─ SQLite, synchronous=FULL
//!                     └ loses frames, both ways                         └ local platform, its journal synced
//! ```
//! The units are `keywright_device_fw::engine::Engine` as the firmware runs it, on a flash in memory that counts its erases.
//! A datagram is one frame of PROTOCOL §2 and nothing else; while units are enrolled, the unit's id stands before it, because
//! there the station says which chip it reads. Two things are left out: the serial framing, and the session with the broker
//! (there is no modem, so what the unit sends on that channel goes nowhere).
//!
//! Time. A unit's clock is the wall clock plus what was skipped. With [`Waiting::Skipped`], a unit that waits for a frame that is known
//! to be lost does not sit out its pause: its own clock jumps to the end of it. So the wall clock measures the work, and
//! the units' clocks what a fleet in the field would see. With [`Waiting::Real`] nothing is skipped. The pauses themselves are the
//! firmware's either way.

mod nor;
mod service;
mod unit;

pub use nor::Nor;
pub use service::{Addresses, Office, Service};
pub use unit::{Traffic, Unit, unit_id};

use keywright_device_fw::engine::Action;
use keywright_protocol::Purpose;
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Whether units sit out their pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// A pause after a frame that is known to be lost takes no real time.
    Skipped,
    /// Every pause takes its time.
    Real,
}

/// What one round of a fleet came to.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// From the first unit's start until the last one was confirmed, by the wall clock.
    pub wall: Duration,
    /// The longest that a unit took by its own clock.
    pub slowest_unit: Duration,
    /// What went over the sockets, of all units.
    pub traffic: Traffic,
    /// Sectors erased, of all units.
    pub erases: u64,
}

/// Units that live in one thread.
pub struct Fleet {
    units: Vec<Unit>,
    poll: Poll,
    began: Instant,
}

/// Longest sleep of the loop: a unit may be due by a clock that only it has.
const NAP: Duration = Duration::from_millis(20);
/// Units started between two looks at the sockets, so that the first answers are not kept waiting by the last starts.
const BURST: usize = 8;

impl Fleet {
    /// Units `numbers` after stage one, each with its own socket; everything they draw comes from `seed`.
    ///
    /// # Panics
    /// If the sockets can't be had.
    pub fn new(numbers: std::ops::Range<u32>, stage_one: &[u8], seed: u64) -> Self {
        service::raise_file_limit();
        let (poll, began) = (Poll::new().expect("a poll"), Instant::now());
        let mut units: Vec<_> = numbers.map(|n| Unit::new(n, stage_one, seed, began)).collect();
        for (i, unit) in units.iter_mut().enumerate() {
            poll.registry().register(unit.socket(), Token(i), Interest::READABLE).expect("registers");
        }
        Self { units, poll, began }
    }

    /// Enrols every unit, agent key and cloud key, over a good line; `at_once` of them at a time.
    pub fn enrol(&mut self, line: SocketAddr, at_once: usize) -> Outcome {
        for unit in &mut self.units {
            unit.aim(line, true, 0);
        }
        self.round(at_once, Waiting::Skipped, |_| {})
    }

    /// Gives every unit a new key of this kind, all at once, over a network that loses `loss` percent of the frames in each
    /// direction.
    pub fn rekey(&mut self, purpose: Purpose, field: SocketAddr, loss: u64, waiting: Waiting) -> Outcome {
        for unit in &mut self.units {
            unit.aim(field, false, loss);
        }
        self.round(usize::MAX, waiting, |unit| unit.start(purpose))
    }

    /// The units.
    pub fn units(&mut self) -> &mut [Unit] {
        &mut self.units
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Starts every unit and serves them until each holds what it asked for, confirmed.
    fn round(&mut self, at_once: usize, waiting: Waiting, start: impl Fn(&mut Unit)) -> Outcome {
        let mut events = Events::with_capacity(1024);
        let mut to_start: VecDeque<usize> = (0..self.units.len()).collect();
        let mut running: Vec<usize> = Vec::new();
        let (mut done, mut slowest_unit) = (0, 0);
        let began = Instant::now();
        while done < self.units.len() {
            for _ in 0..BURST {
                if running.len() >= at_once {
                    break;
                }
                let Some(i) = to_start.pop_front() else { break };
                self.units[i].begin();
                start(&mut self.units[i]);
                running.push(i);
            }
            let idle = to_start.is_empty() || running.len() >= at_once;
            let nap = if idle { self.next_due(&running) } else { Duration::ZERO };
            if let Err(error) = self.poll.poll(&mut events, Some(nap)) {
                assert_eq!(error.kind(), std::io::ErrorKind::Interrupted, "{error}");
            }
            for event in &events {
                self.units[event.token().0].poll();
            }
            let now = self.now();
            running.retain(|i| {
                let unit = &mut self.units[*i];
                if waiting == Waiting::Skipped {
                    unit.skip_pause(now);
                }
                if unit.is_due(now) {
                    unit.poll();
                }
                let Some(took) = unit.finished() else { return true };
                slowest_unit = slowest_unit.max(took);
                done += 1;
                false
            });
        }
        let wall = began.elapsed();
        let mut traffic = Traffic::default();
        let mut erases = 0;
        for unit in &mut self.units {
            traffic += unit.traffic();
            erases += unit.erases();
        }
        Outcome { wall, slowest_unit: Duration::from_millis(slowest_unit), traffic, erases }
    }

    fn next_due(&self, running: &[usize]) -> Duration {
        let now = self.now();
        let due = running.iter().map(|i| self.units[*i].due_in(now)).min().unwrap_or(0);
        Duration::from_millis(due).min(NAP)
    }
}

/// What the engine asks for: a time in its own clock.
fn due_at(action: Action) -> u64 {
    match action {
        Action::SleepUntil(at) => at,
        Action::Reset => panic!("nobody asked for a reset"),
    }
}
