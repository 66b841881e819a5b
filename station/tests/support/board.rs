//! A unit as the line sees it: the real firmware on a flash in memory, behind real serial framing, on a line that can be bad.
//!
//! The unit's clock is its own: it runs only while the station waits for the unit, [`SPEED`] times as fast, and stands still while a
//! broker has a question of the unit's to answer. So what the unit gives up on does not depend on how fast this machine is.
#![allow(dead_code, reason = "every test program uses its own part")]

use super::support::Rng as Dice;
use embedded_storage::nor_flash::{ErrorType, MultiwriteNorFlash, NorFlash, ReadNorFlash};
use keywright::failure::{Failure, FailureCode};
use keywright::image::StageOne;
use keywright::line::bench::{Bench, Chip, Contents, FlashProgress, Link, LinkStats, Received};
use keywright::line::lock::OptionRequest;
use keywright::model::{OptionBytes, UnitId};
use keywright_device_fw::engine::{Action, Engine, Facts};
use keywright_device_fw::link::SerialLink;
use keywright_device_fw::traits::{BytePort, Clock, LinkFull, Rng, RngFault};
use keywright_protocol::bridge::Packet;
use keywright_protocol::map::{FLASH_BASE, FLASH_LEN, KEY_AREA_A, KEY_AREA_B, sector_of};
use keywright_protocol::record::{self, RecordView};
use keywright_protocol::serial::{self, Channel, Decoder};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How much faster the unit's clock runs than the station waits.
const SPEED: u64 = 50;
/// How long the unit's clock stands still for a broker that does not answer.
const BROKER: Duration = Duration::from_millis(250);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// NOR: bits fall when written, and rise by the sector.
#[derive(Clone)]
pub struct Flash(Arc<Mutex<Vec<u8>>>);

impl Flash {
    fn blank() -> Self {
        Self(Arc::new(Mutex::new(vec![0xFF; FLASH_LEN as usize])))
    }

    fn holds(&self, address: u32, bytes: &[u8]) -> bool {
        lock(&self.0)[(address - FLASH_BASE) as usize..].starts_with(bytes)
    }
}

impl ErrorType for Flash {
    type Error = Infallible;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.copy_from_slice(&lock(&self.0)[offset as usize..][..bytes.len()]);
        Ok(())
    }
    fn capacity(&self) -> usize {
        FLASH_LEN as usize
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 16 * 1024;
    fn erase(&mut self, from: u32, to: u32) -> Result<(), Infallible> {
        for at in [FLASH_BASE + from, FLASH_BASE + to - 1] {
            let (_, sector) = sector_of(at).expect("inside flash");
            assert!(
                sector.base >= FLASH_BASE + from && sector.end() <= FLASH_BASE + to,
                "whole sectors only"
            );
        }
        lock(&self.0)[from as usize..to as usize].fill(0xFF);
        Ok(())
    }
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Infallible> {
        let mut flash = lock(&self.0);
        for (cell, byte) in flash[offset as usize..].iter_mut().zip(bytes) {
            *cell &= byte;
        }
        Ok(())
    }
}

impl MultiwriteNorFlash for Flash {}

impl Rng for Dice {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), RngFault> {
        out.fill_with(|| self.next() as u8);
        Ok(())
    }
}

#[derive(Clone, Default)]
pub struct UnitClock(Arc<AtomicU64>);

impl Clock for UnitClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Both wires at the unit's end.
#[derive(Clone, Default)]
pub struct Wire {
    to_unit: Arc<Mutex<VecDeque<u8>>>,
    from_unit: Arc<Mutex<VecDeque<Vec<u8>>>>,
}

impl BytePort for Wire {
    fn read(&mut self) -> Option<u8> {
        lock(&self.to_unit).pop_front()
    }
    fn write(&mut self, bytes: &[u8]) -> Result<(), LinkFull> {
        lock(&self.from_unit).push_back(bytes.to_vec());
        Ok(())
    }
}

/// What a bad line does to packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mischief {
    Drop,
    Damage,
    Repeat,
    /// The next one overtakes it.
    Reorder,
    /// It comes when several others have.
    Delay,
}

impl Mischief {
    pub const ALL: [Self; 5] = [Self::Drop, Self::Damage, Self::Repeat, Self::Reorder, Self::Delay];
}

/// One direction of the line.
struct Direction {
    dice: Dice,
    /// Packets on their way, and behind how many others each comes.
    held: Vec<(u64, Vec<u8>)>,
}

impl Direction {
    fn carry(&mut self, noise: &[u64; 5], done: &mut [u32; 5], mut packet: Vec<u8>) -> Vec<Vec<u8>> {
        let mut happens = |what: Mischief, dice: &mut Dice| {
            let it_does = dice.percent(noise[what as usize]);
            done[what as usize] += u32::from(it_does);
            it_does
        };
        let mut late = std::mem::take(&mut self.held);
        let mut out = Vec::new();
        if !happens(Mischief::Drop, &mut self.dice) {
            if happens(Mischief::Damage, &mut self.dice) {
                let bit = self.dice.below(8 * packet.len() as u64) as usize;
                packet[bit / 8] ^= 1 << (bit % 8);
            }
            if happens(Mischief::Repeat, &mut self.dice) {
                out.push(packet.clone());
            }
            if happens(Mischief::Reorder, &mut self.dice) {
                self.held.push((1, packet));
            } else if happens(Mischief::Delay, &mut self.dice) {
                self.held.push((2 + self.dice.below(6), packet));
            } else {
                out.push(packet);
            }
        }
        for (behind, _) in &mut late {
            *behind -= 1;
        }
        let (due, rest): (Vec<_>, Vec<_>) = late.into_iter().partition(|(behind, _)| *behind == 0);
        out.extend(due.into_iter().map(|(_, packet)| packet));
        self.held.extend(rest);
        out
    }
}

type Firmware = Engine<Flash, SerialLink<Wire>, Dice, UnitClock>;

/// The unit, its flash, and the line to it.
pub struct Board {
    uid: UnitId,
    flash: Flash,
    firmware: Option<Box<Firmware>>,
    clock: UnitClock,
    wire: Wire,
    dice: Dice,
    up: Direction,
    down: Direction,
    /// In percent, by [`Mischief`].
    pub noise: [u64; 5],
    /// How often each came.
    pub happened: [u32; 5],
    decoder: Decoder,
    heard: VecDeque<Received>,
    stats: LinkStats,
    /// The unit has asked its broker something.
    asked: Option<Instant>,
}

impl Board {
    /// A bare board.
    pub fn bare(uid: UnitId, seed: u64) -> Arc<Mutex<Self>> {
        let direction = |n| Direction { dice: Dice(seed ^ n), held: Vec::new() };
        Arc::new(Mutex::new(Self {
            uid,
            flash: Flash::blank(),
            firmware: None,
            clock: UnitClock::default(),
            wire: Wire::default(),
            dice: Dice(seed),
            up: direction(0x7570),
            down: direction(0x646f_776e),
            noise: [0; 5],
            happened: [0; 5],
            decoder: Decoder::new(),
            heard: VecDeque::new(),
            stats: LinkStats::default(),
            asked: None,
        }))
    }

    /// What the unit holds: the record that it prefers, by a look at its flash in a boot of its own, and whether it owes a confirmation.
    pub fn record<T>(&mut self, look: impl FnOnce(&RecordView<'_>, bool) -> T) -> Option<T> {
        let mut firmware = self.boot();
        firmware.poll();
        lock(&self.wire.from_unit).clear();
        self.firmware = None;
        let owes = firmware.store().is_pending();
        firmware.store().active().map(|view| look(&view, owes))
    }

    fn boot(&mut self) -> Box<Firmware> {
        self.clock = UnitClock::default();
        self.wire = Wire::default();
        let facts = Facts {
            unit: keywright_protocol::UnitId(self.uid.0),
            firmware: [0, 1, 0, 0],
            reset_cause: 0,
            ram_high_water: || 0,
            rekey_every_ms: 0,
        };
        let (link, dice) = (SerialLink::new(self.wire.clone()), Dice(self.dice.next()));
        Box::new(Engine::new(facts, self.flash.clone(), link, dice, self.clock.clone()))
    }

    fn restart(&mut self) {
        let runs = self.flash.0.lock().is_ok_and(|f| f[..4] != [0xFF; 4]);
        self.firmware = runs.then(|| self.boot());
        self.asked = None;
    }

    fn run(&mut self) {
        if let Some(firmware) = &mut self.firmware
            && firmware.poll() == Action::Reset
        {
            self.restart();
        }
        while let Some(packet) = { lock(&self.wire.from_unit).pop_front() } {
            for line in self.up.carry(&self.noise, &mut self.happened, packet) {
                self.stats.bytes += line.len() as u64;
                for byte in line {
                    match self.decoder.feed(byte) {
                        Some(Ok(packet)) => {
                            self.stats.packets += 1;
                            let (channel, payload) = (packet.channel, packet.payload.to_vec());
                            let asks = matches!(
                                Packet::parse(&payload),
                                Ok(Packet::Open { .. } | Packet::Data { .. })
                            );
                            if channel == Channel::TCP && asks {
                                self.asked = Some(Instant::now());
                            }
                            self.heard.push_back(Received { channel, payload });
                        }
                        Some(Err(_)) => self.stats.dropped += 1,
                        None => {}
                    }
                }
            }
        }
    }

    fn holds_keys(&self) -> bool {
        let flash = lock(&self.flash.0);
        [KEY_AREA_A, KEY_AREA_B].iter().any(|area| {
            let bytes = &flash[(area.base - FLASH_BASE) as usize..][..area.len as usize];
            let header: &[u8; record::HEADER_LEN] = bytes.first_chunk().expect("an area holds a header");
            let Ok(len) = record::stored_len(header) else { return false };
            let commit = &bytes[len - 3 * record::MARK_LEN..][..record::MARK_LEN];
            matches!(header[5], 2 | 3) && commit.iter().any(|b| *b != 0xFF)
        })
    }
}

/// The fixture that the board lies in.
pub struct Fixture(pub Arc<Mutex<Board>>);

impl Bench for Fixture {
    fn attach(&mut self) -> Result<Chip, Failure> {
        let unit = lock(&self.0).uid;
        Ok(Chip { device: 0x419, revision: 0x2003, flash_kib: 2048, rdp: 0xAA, unit })
    }
    fn inspect(&mut self, stage_one: &StageOne) -> Result<Contents, Failure> {
        let board = lock(&self.0);
        let image = stage_one.image.parts.iter().all(|p| board.flash.holds(p.address, &p.data));
        let product_key = board.flash.holds(KEY_AREA_B.base, stage_one.record());
        Ok(Contents { image, product_key, keys: board.holds_keys() })
    }
    fn flash(&mut self, stage_one: &StageOne, _: &mut dyn FnMut(FlashProgress)) -> Result<(), Failure> {
        let mut board = lock(&self.0);
        board.firmware = None;
        let mut flash = lock(&board.flash.0);
        flash.fill(0xFF);
        for (_, address, bytes) in stage_one.writes() {
            flash[(address - FLASH_BASE) as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        Ok(())
    }
    fn restart(&mut self) -> Result<UnitId, Failure> {
        let mut board = lock(&self.0);
        board.restart();
        Ok(board.uid)
    }
    fn unit_now(&mut self) -> Result<UnitId, Failure> {
        Ok(lock(&self.0).uid)
    }
    fn option_bytes(&mut self) -> Result<OptionBytes, Failure> {
        Ok(OptionBytes { optcr: 0x0FFF_AAEC, optcr1: 0x0FFF_0000 })
    }
    fn set_option_bytes(
        &mut self,
        _: &OptionRequest,
        _: &mut dyn FnMut(FlashProgress),
    ) -> Result<OptionBytes, Failure> {
        Err(Failure::new(FailureCode::OptionBytesRefused, "this fixture locks nothing"))
    }
    fn flash_is_closed(&mut self) -> Result<bool, Failure> {
        Ok(false)
    }
    fn pull_reset(&mut self) -> Result<(), Failure> {
        lock(&self.0).restart();
        Ok(())
    }
    fn release(&mut self) {}
    fn presence(&mut self) -> Result<Option<UnitId>, Failure> {
        Ok(Some(lock(&self.0).uid))
    }
    fn open_link(&mut self) -> Result<Box<dyn Link>, Failure> {
        Ok(Box::new(Cable(self.0.clone())))
    }
}

struct Cable(Arc<Mutex<Board>>);

impl Link for Cable {
    fn send(&mut self, channel: Channel, payload: &[u8]) -> Result<(), Failure> {
        let mut line = vec![0; serial::encoded_len(payload.len())];
        let len = serial::encode(channel, payload, &mut line).expect("a packet fits");
        line.truncate(len);
        let mut board = lock(&self.0);
        let board = &mut *board;
        if channel == Channel::TCP && !matches!(Packet::parse(payload), Ok(Packet::Ack { .. })) {
            board.asked = None;
        }
        for line in board.down.carry(&board.noise, &mut board.happened, line) {
            lock(&board.wire.to_unit).extend(line);
        }
        Ok(())
    }

    fn receive(&mut self, wait: Duration) -> Result<Option<Received>, Failure> {
        let until = Instant::now() + wait;
        loop {
            {
                let mut board = lock(&self.0);
                board.run();
                if let Some(packet) = board.heard.pop_front() {
                    return Ok(Some(packet));
                }
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            // Brokers are real, and get real time.
            std::thread::park_timeout(Duration::from_millis(1));
            let board = lock(&self.0);
            if board.asked.is_none_or(|since| since.elapsed() >= BROKER) {
                board.clock.0.fetch_add(SPEED, Ordering::SeqCst);
            }
        }
    }

    fn clear(&mut self) {
        let mut board = lock(&self.0);
        board.heard.clear();
        board.decoder.reset();
        board.stats = LinkStats::default();
    }

    fn stats(&self) -> LinkStats {
        lock(&self.0).stats
    }
}
