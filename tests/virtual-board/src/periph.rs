//! The peripherals the firmware touches, behind one lock and one clock.
//!
//! Everything here is a function of register accesses and `now`, counted in
//! cycles of the 16 MHz core clock; nothing reads the host's time. A peripheral
//! says when it next has something to do ([`Soc::deadline`]); between deadlines
//! the run loop does not touch it. That is what lets an idle board cost nothing.
//!
//! The emulator library has models of these blocks for its own scheduler. They
//! are not used because a board has to be cut at an exact instant and to skip
//! idle time in one jump, which that scheduler's fixed quantum rules out (its
//! USART moves one byte per quantum).
//!
//! A block whose RCC clock is off reads as zero and ignores writes, as on the
//! chip: firmware that forgets an enable bit fails here too.

use crate::flash::{Effect, FLASH_BASE, FlashController};
use crate::serial::SerialLine;
use rsemu::core::BusError;
use rsemu::core::space::{AccessConstraints, MemAttrs, MemOps, MemResult};
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Core clock cycles per second: the chip's HSI.
pub const CORE_HZ: u64 = 16_000_000;
/// Core cycles per tick of the 32 kHz LSI.
const LSI_CYCLES: u64 = CORE_HZ / 32_000;
/// Core cycles per bit on the host's side of the line, at 115200 baud.
const BIT_CYCLES: u64 = CORE_HZ / 115_200;
/// Core cycles from one byte of the host to the next: ten bits (1389 cycles) and
/// the sliver that serial adapters leave between frames. Without it a chip whose
/// divider rounds the other way would be overrun by its own echo.
const HOST_FRAME: u64 = 1400;

/// External interrupt numbers (RM0090 table 62).
pub(crate) const IRQ_FLASH: u16 = 4;
pub(crate) const IRQ_USART1: u16 = 37;
pub(crate) const IRQ_RNG: u16 = 80;

/// Why the chip restarted, as RCC_CSR will tell the firmware (RM0090 §6.3.21).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResetCause {
    /// Power came on.
    PowerOn,
    /// The NRST pin.
    Pin,
    /// AIRCR.SYSRESETREQ.
    Software,
    /// The independent watchdog ran out.
    Watchdog,
}

const CSR_PIN: u32 = 1 << 26;
const CSR_RMVF: u32 = 1 << 24;

#[derive(Debug)]
struct Rcc {
    regs: [u32; 0x90 / 4],
}

impl Rcc {
    const CR: usize = 0;
    const CFGR: usize = 2;
    const AHB1ENR: usize = 0x30 / 4;
    const AHB2ENR: usize = 0x34 / 4;
    const APB1ENR: usize = 0x40 / 4;
    const APB2ENR: usize = 0x44 / 4;
    const BDCR: usize = 0x70 / 4;
    const CSR: usize = 0x74 / 4;

    fn reset(&mut self, cause: ResetCause) {
        let flags = self.regs[Self::CSR] & 0xfe00_0000;
        let backup = self.regs[Self::BDCR];
        self.regs = [0; 0x90 / 4];
        self.regs[Self::CR] = 0x83;
        self.regs[1] = 0x2400_3010;
        self.regs[Self::AHB1ENR] = 0x0010_0000;
        self.regs[0x50 / 4] = 0x7e67_91ff;
        self.regs[0x54 / 4] = 0xf1;
        self.regs[0x58 / 4] = 1;
        self.regs[0x60 / 4] = 0xf6fe_c9ff;
        self.regs[0x64 / 4] = 0x0475_7f33;
        self.regs[0x84 / 4] = 0x2400_3000;
        self.regs[0x88 / 4] = 0x2400_3000;
        self.regs[Self::CSR] = match cause {
            ResetCause::PowerOn => 0x0e00_0000,
            ResetCause::Pin => flags | CSR_PIN,
            ResetCause::Software => flags | CSR_PIN | 1 << 28,
            ResetCause::Watchdog => flags | CSR_PIN | 1 << 29,
        };
        self.regs[Self::BDCR] = if cause == ResetCause::PowerOn { 0 } else { backup };
    }

    fn read(&self, index: usize) -> u32 {
        self.regs.get(index).copied().unwrap_or(0)
    }

    fn write(&mut self, index: usize, value: u32) {
        // A request bit and the ready bit after it: oscillators and PLLs are
        // ready by the time software can look.
        let ready = |value: u32, bits: &[u32]| {
            bits.iter().fold(value, |v, on| if v & 1 << on != 0 { v | 2 << on } else { v & !(2 << on) })
        };
        match index {
            Self::CR => self.regs[index] = ready(value, &[0, 16, 24, 26, 28]),
            Self::CFGR => {
                let source = value & 3;
                let cr = self.regs[Self::CR];
                let live = [cr & 2 != 0, cr & 1 << 17 != 0, cr & 1 << 25 != 0, false][source as usize];
                let status = if live { source } else { self.regs[index] >> 2 & 3 };
                self.regs[index] = value & !0xc | status << 2;
            }
            Self::BDCR => self.regs[index] = ready(value, &[0]),
            Self::CSR => {
                let flags = if value & CSR_RMVF != 0 { 0 } else { self.regs[index] & 0xfe00_0000 };
                self.regs[index] = flags | ready(value & 1, &[0]);
            }
            _ => {
                if let Some(reg) = self.regs.get_mut(index) {
                    *reg = value;
                }
            }
        }
    }

    /// Whether something drives the 48 MHz domain the RNG needs (RM0090 §24.2).
    fn clock_48mhz(&self) -> bool {
        self.regs[Self::CR] & 1 << 25 != 0
    }
}

#[derive(Debug, Default)]
struct Gpio {
    regs: [u32; 10],
}

impl Gpio {
    fn reset(&mut self, port: usize) {
        self.regs = [0; 10];
        match port {
            0 => (self.regs[0], self.regs[2], self.regs[3]) = (0xa800_0000, 0x0c00_0000, 0x6400_0000),
            1 => (self.regs[0], self.regs[2], self.regs[3]) = (0x280, 0xc0, 0x100),
            _ => {}
        }
    }

    fn read(&self, index: usize) -> u32 {
        if index != 4 {
            return self.regs.get(index).copied().unwrap_or(0);
        }
        // IDR: outputs show what they drive, open inputs what their pull says.
        (0..16).fold(0, |idr, pin| {
            let high = match self.regs[0] >> (2 * pin) & 3 {
                1 => self.regs[5] >> pin & 1 != 0,
                3 => false,
                _ => self.regs[3] >> (2 * pin) & 3 == 1,
            };
            idr | u32::from(high) << pin
        })
    }

    fn write(&mut self, index: usize, value: u32) {
        match index {
            4 => {}
            5 => self.regs[5] = value & 0xffff,
            6 => self.regs[5] = (self.regs[5] & !(value >> 16) | value) & 0xffff,
            0..=9 => self.regs[index] = value,
            _ => {}
        }
    }

    fn alternate(&self, pin: usize, function: u32) -> bool {
        self.regs[0] >> (2 * pin) & 3 == 2 && self.regs[8 + pin / 8] >> (4 * (pin % 8)) & 15 == function
    }
}

/// The independent watchdog (RM0090 §21).
#[derive(Debug)]
struct Iwdg {
    unlocked: bool,
    prescaler: u32,
    reload: u32,
    expires: Option<u64>,
    frozen_at: Option<u64>,
}

impl Iwdg {
    const RESET: Iwdg = Iwdg { unlocked: false, prescaler: 0, reload: 0xfff, expires: None, frozen_at: None };

    fn period(&self) -> u64 {
        (u64::from(self.reload) + 1) * (4 << self.prescaler.min(6)) * LSI_CYCLES
    }

    fn key(&mut self, value: u32, now: u64) {
        self.unlocked = value == 0x5555;
        if value == 0xcccc || value == 0xaaaa && self.expires.is_some() {
            self.expires = Some(now + self.period());
            self.frozen_at = self.frozen_at.map(|_| now);
        }
    }

    /// Hold the count while the core is halted, if DBGMCU asks for it.
    fn freeze(&mut self, frozen: bool, now: u64) {
        match (frozen, self.frozen_at) {
            (true, None) => self.frozen_at = Some(now),
            (false, Some(since)) => {
                self.frozen_at = None;
                self.expires = self.expires.map(|at| at + (now - since));
            }
            _ => {}
        }
    }

    fn deadline(&self) -> Option<u64> {
        self.expires.filter(|_| self.frozen_at.is_none())
    }
}

/// The random number generator (RM0090 §24), fed from a seeded stream.
#[derive(Debug)]
struct Rng {
    cr: u32,
    seed: [u8; 32],
    counter: u64,
    pool: Vec<u32>,
    ready_at: u64,
    seed_error: bool,
}

impl Rng {
    /// Core cycles between words: 40 cycles of the 48 MHz clock.
    const INTERVAL: u64 = 14;

    fn word(&mut self) -> u32 {
        if self.pool.is_empty() {
            let block =
                Sha256::new_with_prefix(self.seed).chain_update(self.counter.to_le_bytes()).finalize();
            self.counter += 1;
            self.pool.extend(
                block.as_slice().chunks(4).map(|c| u32::from_le_bytes(c.try_into().expect("four bytes"))),
            );
        }
        self.pool.pop().expect("just filled")
    }
}

/// Bits of USART_SR (RM0090 §30.6.1).
mod usart {
    pub const FE: u32 = 1 << 1;
    pub const ORE: u32 = 1 << 3;
    pub const IDLE: u32 = 1 << 4;
    pub const RXNE: u32 = 1 << 5;
    pub const TC: u32 = 1 << 6;
    pub const TXE: u32 = 1 << 7;
    pub const RE: u32 = 1 << 2;
    pub const TE: u32 = 1 << 3;
    pub const UE: u32 = 1 << 13;
    pub const OVER8: u32 = 1 << 15;
}

#[derive(Debug)]
struct Usart {
    sr: u32,
    rdr: u8,
    brr: u32,
    cr: [u32; 4],
    /// SR was read since its error flags last changed: the first half of clearing them.
    sr_seen: bool,
    holding: Option<u8>,
    shifting: Option<(u8, u64)>,
    next_rx: u64,
    idle_at: Option<u64>,
}

impl Usart {
    const RESET: Usart = Usart {
        sr: usart::TC | usart::TXE,
        rdr: 0,
        brr: 0,
        cr: [0; 4],
        sr_seen: false,
        holding: None,
        shifting: None,
        next_rx: 0,
        idle_at: None,
    };

    fn on(&self, bit: u32) -> bool {
        self.cr[0] & (usart::UE | bit) == usart::UE | bit
    }

    /// Core cycles per bit that BRR asks for; PCLK2 is the core clock here.
    fn bit(&self) -> u64 {
        let brr = u64::from(self.brr & 0xffff);
        if self.cr[0] & usart::OVER8 != 0 { (brr >> 4 << 3 | brr & 7).max(1) } else { brr.max(1) }
    }

    /// Whether the programmed rate is close enough to 115200 to be understood.
    fn in_tune(&self) -> bool {
        self.bit().abs_diff(BIT_CYCLES) * 100 <= BIT_CYCLES * 4
    }

    fn irq(&self) -> bool {
        let (sr, cr1) = (self.sr, self.cr[0]);
        self.cr[0] & usart::UE != 0
            && (cr1 & 1 << 7 != 0 && sr & usart::TXE != 0
                || cr1 & 1 << 6 != 0 && sr & usart::TC != 0
                || cr1 & 1 << 5 != 0 && sr & (usart::RXNE | usart::ORE) != 0
                || cr1 & 1 << 4 != 0 && sr & usart::IDLE != 0
                || self.cr[2] & 1 != 0 && sr & (usart::FE | usart::ORE) != 0)
    }

    fn start_tx(&mut self, now: u64) {
        if self.shifting.is_none()
            && let Some(byte) = self.holding.take()
        {
            self.shifting = Some((byte, now + 10 * self.bit()));
            self.sr |= usart::TXE;
        }
    }
}

/// Debug MCU block (RM0090 §38.16): kept across system resets.
#[derive(Debug, Default)]
struct DbgMcu {
    idcode: u32,
    cr: u32,
    apb1_fz: u32,
    apb2_fz: u32,
}

/// All peripherals and the signals they raise towards the run loop.
#[derive(Debug)]
pub(crate) struct Soc {
    pub now: u64,
    pub flash: FlashController,
    rcc: Rcc,
    pwr: [u32; 2],
    gpio: [Gpio; 11],
    iwdg: Iwdg,
    rng: Rng,
    usart: Usart,
    dbgmcu: DbgMcu,
    /// SYSCFG and EXTI hold what is written: nothing on this board drives them.
    syscfg: [u32; 16],
    line: Arc<SerialLine>,
    /// An armed cut struck: the run loop must take the power away.
    pub power_lost: bool,
    /// Software is polling BSY: time may jump to the end of the operation.
    pub polling_busy: bool,
    core_halted: bool,
}

impl Soc {
    pub fn new(flash: FlashController, line: Arc<SerialLine>, idcode: u32) -> Soc {
        Soc {
            now: 0,
            flash,
            rcc: Rcc { regs: [0; 0x90 / 4] },
            pwr: [0; 2],
            gpio: Default::default(),
            iwdg: Iwdg::RESET,
            rng: Rng { cr: 0, seed: [0; 32], counter: 0, pool: Vec::new(), ready_at: 0, seed_error: false },
            usart: Usart::RESET,
            dbgmcu: DbgMcu { idcode, ..DbgMcu::default() },
            syscfg: [0; 16],
            line,
            power_lost: false,
            polling_busy: false,
            core_halted: false,
        }
    }

    /// Registers to their values after a reset of the given kind.
    pub fn reset(&mut self, cause: ResetCause, torn_seed: u64) {
        self.flash.reset(self.now, torn_seed);
        self.rcc.reset(cause);
        self.pwr = [0xc000, 0];
        self.gpio.iter_mut().enumerate().for_each(|(port, gpio)| gpio.reset(port));
        self.iwdg = Iwdg::RESET;
        self.rng.cr = 0;
        self.rng.seed_error = false;
        self.usart = Usart { next_rx: self.usart.next_rx, ..Usart::RESET };
        self.syscfg = [0; 16];
        self.power_lost = false;
        self.polling_busy = false;
        if cause == ResetCause::PowerOn {
            self.dbgmcu = DbgMcu { idcode: self.dbgmcu.idcode, ..DbgMcu::default() };
        }
    }

    /// Give the RNG a new stream; done at every power-on, so no two boots draw alike.
    pub fn reseed(&mut self, seed: [u8; 32]) {
        self.rng.seed = seed;
        self.rng.counter = 0;
        self.rng.pool.clear();
    }

    pub fn set_idcode(&mut self, idcode: u32) {
        self.dbgmcu.idcode = idcode;
    }

    pub fn set_halted(&mut self, halted: bool) {
        self.core_halted = halted;
        let frozen = halted && self.dbgmcu.apb1_fz & 1 << 12 != 0;
        self.iwdg.freeze(frozen, self.now);
    }

    /// Do what has come due at `self.now`. True if the watchdog has run out.
    pub fn advance(&mut self) -> bool {
        let now = self.now;
        self.flash.advance(now);
        if let Some((byte, end)) = self.usart.shifting
            && end <= now
        {
            self.usart.shifting = None;
            if self.gpio[0].alternate(9, 7) {
                // A receiver at 115200 reads another rate as garbage.
                self.line.push_from_board(if self.usart.in_tune() { byte } else { byte ^ 0x5a });
            }
            self.usart.start_tx(end);
            if self.usart.shifting.is_none() {
                self.usart.sr |= usart::TC;
            }
        }
        if self.usart.idle_at.is_some_and(|at| at <= now) {
            self.usart.idle_at = None;
            self.usart.sr |= usart::IDLE;
        }
        if self.usart.next_rx <= now
            && let Some(byte) = self.line.next_for_board()
        {
            self.usart.next_rx = now + HOST_FRAME;
            self.receive(byte);
        }
        self.iwdg.deadline().is_some_and(|at| at <= now)
    }

    fn receive(&mut self, byte: u8) {
        let u = &mut self.usart;
        if !u.on(usart::RE) || !self.gpio[0].alternate(10, 7) {
            return; // Nobody listens: the byte is gone, as on a wire.
        }
        if u.sr & usart::RXNE != 0 {
            u.sr |= usart::ORE;
        } else {
            u.rdr = byte;
            u.sr |= usart::RXNE;
            if !u.in_tune() {
                u.rdr ^= 0x5a;
                u.sr |= usart::FE;
            }
        }
        u.sr_seen = false;
        u.idle_at = Some(self.now + 20 * BIT_CYCLES);
    }

    /// The next instant at which [`advance`](Self::advance) has work.
    pub fn deadline(&self) -> u64 {
        let rx = (self.line.pending() > 0).then_some(self.usart.next_rx.max(self.now + 1));
        [
            self.flash.busy_until(),
            self.usart.shifting.map(|(_, end)| end),
            self.usart.idle_at,
            rx,
            self.iwdg.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(u64::MAX)
    }

    /// Whether something is under way that a person would wait for.
    pub fn active(&self) -> bool {
        self.flash.busy_until().is_some() || self.usart.shifting.is_some() || self.line.pending() > 0
    }

    /// Levels of the interrupt lines that are driven.
    pub fn irqs(&self) -> [(u16, bool); 3] {
        let rng = self.rng.cr & 0xc == 0xc && (self.rng_ready() || self.rng.seed_error);
        [(IRQ_FLASH, self.flash.irq()), (IRQ_USART1, self.usart.irq()), (IRQ_RNG, rng)]
    }

    fn rng_ready(&self) -> bool {
        self.rng.cr & 4 != 0 && self.rcc.clock_48mhz() && self.now >= self.rng.ready_at
    }

    fn clocked(&self, address: u32) -> bool {
        let enr = |index: usize, bit: u32| self.rcc.regs[index] & 1 << bit != 0;
        match address & !0x3ff {
            a @ 0x4002_0000..=0x4002_2800 => enr(Rcc::AHB1ENR, (a - 0x4002_0000) >> 10),
            0x4001_1000 => enr(Rcc::APB2ENR, 4),
            0x4001_3800 => enr(Rcc::APB2ENR, 14),
            0x4000_7000 => enr(Rcc::APB1ENR, 28),
            0x5006_0800 => enr(Rcc::AHB2ENR, 6),
            _ => true,
        }
    }

    /// Read a register word. `peek` leaves no trace of having looked.
    fn read(&mut self, address: u32, peek: bool) -> Option<u32> {
        let offset = address & 0x3ff;
        let index = (offset / 4) as usize;
        if !self.clocked(address) {
            return Some(0);
        }
        Some(match address & !0x3ff {
            0x4000_3000 => match offset {
                4 => self.iwdg.prescaler,
                8 => self.iwdg.reload,
                _ => 0,
            },
            0x4000_7000 => match index {
                0 => self.pwr[0],
                // VOSRDY, ODRDY and ODSWRDY follow their requests at once.
                1 => self.pwr[1] | 1 << 14 | self.pwr[0] & 3 << 16,
                _ => 0,
            },
            0x4001_1000 => self.usart_read(offset, peek),
            0x4001_3800 | 0x4001_3c00 => self.syscfg.get(index).copied().unwrap_or(0),
            a @ 0x4002_0000..=0x4002_2800 => self.gpio[((a - 0x4002_0000) >> 10) as usize].read(index),
            0x4002_3800 => self.rcc.read(index),
            0x4002_3c00 => {
                if !peek && offset == 0x0c && self.flash.busy_until().is_some() {
                    self.polling_busy = true;
                }
                self.flash.read(offset)
            }
            0x5006_0800 => match offset {
                0 => self.rng.cr,
                4 => {
                    let on = self.rng.cr & 4 != 0;
                    let slow = on && !self.rcc.clock_48mhz();
                    u32::from(self.rng_ready())
                        | u32::from(slow) << 1
                        | u32::from(slow || self.rng.seed_error) << 5
                }
                8 if self.rng_ready() && !peek => {
                    self.rng.ready_at = self.now + Rng::INTERVAL;
                    self.rng.word()
                }
                _ => 0,
            },
            0xe004_2000 => match offset {
                0 => self.dbgmcu.idcode,
                4 => self.dbgmcu.cr,
                8 => self.dbgmcu.apb1_fz,
                12 => self.dbgmcu.apb2_fz,
                _ => 0,
            },
            _ => return None,
        })
    }

    fn write(&mut self, address: u32, value: u32) -> Option<()> {
        let offset = address & 0x3ff;
        let index = (offset / 4) as usize;
        if !self.clocked(address) {
            return Some(());
        }
        match address & !0x3ff {
            0x4000_3000 => match offset {
                0 => self.iwdg.key(value & 0xffff, self.now),
                4 if self.iwdg.unlocked => self.iwdg.prescaler = value & 7,
                8 if self.iwdg.unlocked => self.iwdg.reload = value & 0xfff,
                _ => {}
            },
            0x4000_7000 => {
                if let Some(reg) = self.pwr.get_mut(index) {
                    *reg = value;
                }
            }
            0x4001_1000 => self.usart_write(offset, value),
            0x4001_3800 | 0x4001_3c00 => {
                if let Some(reg) = self.syscfg.get_mut(index) {
                    *reg = value;
                }
            }
            a @ 0x4002_0000..=0x4002_2800 => {
                self.gpio[((a - 0x4002_0000) >> 10) as usize].write(index, value)
            }
            0x4002_3800 => {
                self.rcc.write(index, value);
                if offset == 0x24 && value & 1 << 4 != 0 {
                    self.usart = Usart { next_rx: self.usart.next_rx, ..Usart::RESET };
                }
            }
            0x4002_3c00 => {
                let now = self.now;
                if self.flash.write(offset, value, now) == Effect::PowerLost {
                    self.power_lost = true;
                }
            }
            0x5006_0800 => match offset {
                0 => {
                    if self.rng.cr & 4 == 0 && value & 4 != 0 {
                        self.rng.ready_at = self.now + Rng::INTERVAL;
                    }
                    self.rng.cr = value & 0xc;
                }
                4 => self.rng.seed_error &= value & 1 << 6 != 0,
                _ => {}
            },
            0xe004_2000 => match offset {
                4 => self.dbgmcu.cr = value & 0xe7,
                8 => {
                    self.dbgmcu.apb1_fz = value;
                    self.set_halted(self.core_halted);
                }
                12 => self.dbgmcu.apb2_fz = value,
                _ => {}
            },
            _ => return None,
        }
        Some(())
    }

    fn usart_read(&mut self, offset: u32, peek: bool) -> u32 {
        let u = &mut self.usart;
        match offset {
            0x00 => {
                u.sr_seen |= !peek;
                u.sr
            }
            0x04 => {
                if !peek {
                    u.sr &= !usart::RXNE;
                    if u.sr_seen {
                        u.sr &= !(usart::ORE | usart::FE | usart::IDLE);
                    }
                    u.sr_seen = false;
                }
                u32::from(u.rdr)
            }
            0x08 => u.brr,
            0x0c..=0x18 => u.cr[(offset as usize - 0x0c) / 4],
            _ => 0,
        }
    }

    fn usart_write(&mut self, offset: u32, value: u32) {
        let now = self.now;
        let u = &mut self.usart;
        match offset {
            // TC and RXNE are cleared by writing zero; the others by reading.
            0x00 => u.sr &= value | !(usart::TC | usart::RXNE),
            0x04 if u.on(usart::TE) => {
                u.holding = Some(value as u8);
                u.sr &= !(usart::TXE | usart::TC);
                u.start_tx(now);
            }
            0x08 => u.brr = value & 0xffff,
            0x0c..=0x18 => u.cr[(offset as usize - 0x0c) / 4] = value,
            _ => {}
        }
    }
}

/// What the run loop and the register windows share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Virtual time, in core cycles, at the instruction being executed.
    pub now: AtomicU64,
    /// A register was touched: deadlines and interrupt lines must be looked at.
    pub attention: AtomicBool,
    soc: Mutex<Soc>,
}

impl Shared {
    pub fn new(soc: Soc) -> Shared {
        Shared { now: AtomicU64::new(0), attention: AtomicBool::new(true), soc: Mutex::new(soc) }
    }

    /// The peripherals, with their clock brought up to date.
    pub fn soc(&self) -> MutexGuard<'_, Soc> {
        let mut soc = self.soc.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        soc.now = self.now.load(Ordering::Relaxed);
        soc
    }
}

/// A window of registers in the address space.
#[derive(Debug)]
pub(crate) struct Registers {
    pub shared: Arc<Shared>,
    pub base: u32,
}

fn little(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |v, b| v << 8 | u32::from(*b))
}

impl MemOps for Registers {
    fn read(&self, offset: u64, dst: &mut [u8], attrs: MemAttrs) -> MemResult {
        let address = self.base + offset as u32;
        let lane = (address & 3) as usize;
        if dst.len() + lane > 4 {
            return Err(BusError::BadAccess);
        }
        let mut soc = self.shared.soc();
        let word = soc.read(address & !3, attrs.debug).ok_or(BusError::Unassigned)?;
        dst.copy_from_slice(&word.to_le_bytes()[lane..lane + dst.len()]);
        if !attrs.debug {
            self.shared.attention.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn write(&self, offset: u64, src: &[u8], attrs: MemAttrs) -> MemResult {
        let address = self.base + offset as u32;
        let lane = address & 3;
        if attrs.debug || src.len() + lane as usize > 4 {
            return Err(BusError::BadAccess);
        }
        let mut soc = self.shared.soc();
        let mut value = little(src) << (8 * lane);
        if src.len() < 4 {
            // Narrow writes keep the rest of a storage register. Registers that
            // act on being written (DR, BSRR, keys) read as zero or ignore it.
            let keep = !((((1u64 << (8 * src.len())) - 1) as u32) << (8 * lane));
            let acts = matches!(address & !0x3ff, 0x4001_1000) && address & 0x3fc == 4;
            if !acts {
                value |= soc.read(address & !3, true).unwrap_or(0) & keep;
            }
        }
        soc.write(address & !3, value).ok_or(BusError::Unassigned)?;
        self.shared.attention.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn constraints(&self) -> AccessConstraints {
        AccessConstraints::IO
    }
}

/// The array as the bus sees writes to it.
#[derive(Debug)]
pub(crate) struct FlashWrites {
    pub shared: Arc<Shared>,
}

impl MemOps for FlashWrites {
    fn read(&self, _: u64, _: &mut [u8], _: MemAttrs) -> MemResult {
        Err(BusError::Protected) // Reads go to the array itself, mapped beside this.
    }

    fn write(&self, offset: u64, src: &[u8], attrs: MemAttrs) -> MemResult {
        if attrs.debug {
            return Err(BusError::BadAccess);
        }
        debug_assert!(offset < u64::from(crate::flash::FLASH_LEN), "window at {FLASH_BASE:#x}");
        let mut soc = self.shared.soc();
        let now = soc.now;
        if soc.flash.program(offset as u32, src, now) == Effect::PowerLost {
            soc.power_lost = true;
        }
        self.shared.attention.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn constraints(&self) -> AccessConstraints {
        AccessConstraints::IO
    }
}
