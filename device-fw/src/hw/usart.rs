//! USART1 on PA9 (TX) and PA10 (RX), AF7, 115200 8N1, by interrupt with two rings (RM0090 §30).
//!
//! One producer and one consumer per ring; the interrupt is one side of each. Both sides work inside a
//! critical section of a few instructions, which is shorter than a byte (87 µs) by three orders.

use crate::traits::{BytePort, LinkFull};
use core::cell::RefCell;
use critical_section::Mutex;
use heapless::Deque;
use stm32f4::stm32f429::{GPIOA, Interrupt, NVIC, RCC, USART1, interrupt};

const SR_ERRORS: u32 = 0b1111; // PE, FE, NF, ORE
const SR_RXNE: u32 = 1 << 5;
const SR_TXE: u32 = 1 << 7;
const CR1_RE: u32 = 1 << 2;
const CR1_TE: u32 = 1 << 3;
const CR1_RXNEIE: u32 = 1 << 5;
const CR1_TXEIE: u32 = 1 << 7;
const CR1_UE: u32 = 1 << 13;
const BAUD: u32 = 115_200;
const BRR_VALUE: u32 = (super::clock::CORE_HZ + BAUD / 2) / BAUD;

/// The register block by word offset. RM0090 §30.6 allows half-words and words; the PAC uses half-words, and
/// words are what every bus master and model of this block agrees on.
struct Registers(USART1);

const SR: usize = 0;
const DR: usize = 1;
const BRR: usize = 2;
const CR1: usize = 3;

impl Registers {
    fn read(&self, register: usize) -> u32 {
        // SAFETY: a register of the block this type owns.
        unsafe { USART1::ptr().cast::<u32>().add(register).read_volatile() }
    }

    fn write(&self, register: usize, value: u32) {
        // SAFETY: as above; any value is memory-safe, no DMA is enabled.
        unsafe { USART1::ptr().cast::<u32>().cast_mut().add(register).write_volatile(value) }
    }

    fn set(&self, register: usize, bits: u32) {
        self.write(register, self.read(register) | bits);
    }

    fn clear(&self, register: usize, bits: u32) {
        self.write(register, self.read(register) & !bits);
    }
}

/// Room for the largest message 2 with a cloud record while a signature is being checked.
const RX_LEN: usize = 2304;
/// Room for the largest packet a unit sends, and a log record behind it.
const TX_LEN: usize = 512;

struct Rings {
    usart: Registers,
    rx: Deque<u8, RX_LEN>,
    tx: Deque<u8, TX_LEN>,
    /// Bytes lost to line errors or a full ring since boot.
    lost: u32,
}

static RINGS: Mutex<RefCell<Option<Rings>>> = Mutex::new(RefCell::new(None));

/// The one way to the rings: `None` before there are any. A second borrow cannot happen (the critical section
/// excludes the interrupt, and no caller nests), and were it to, `None` is an answer where a borrow would panic.
fn with_rings<R>(work: impl FnOnce(&mut Rings) -> R) -> Option<R> {
    critical_section::with(|cs| {
        let mut rings = RINGS.borrow(cs).try_borrow_mut().ok()?;
        rings.as_mut().map(work)
    })
}

/// Sets pins and baud rate. Transmission and reception work by polling from here on.
fn configure(usart: USART1, gpioa: &GPIOA, rcc: &RCC) -> Registers {
    let usart = Registers(usart);
    // SAFETY: documented fields; everything else is written back as read.
    rcc.ahb1enr().modify(|r, w| unsafe { w.bits(r.bits() | 1) });
    // SAFETY: documented bits of a register this driver owns, as above.
    rcc.apb2enr().modify(|r, w| unsafe { w.bits(r.bits() | 1 << 4) });
    // Pull-up on RX: an open connector must read as idle, not as a storm of breaks.
    // SAFETY: documented bits of a register this driver owns, as above.
    gpioa.pupdr().modify(|r, w| unsafe { w.bits(r.bits() & !(3 << 20) | 1 << 20) });
    // SAFETY: documented bits of a register this driver owns, as above.
    gpioa.afrh().modify(|r, w| unsafe { w.bits(r.bits() & !0xFF0 | 0x770) });
    // SAFETY: documented bits of a register this driver owns, as above.
    gpioa.moder().modify(|r, w| unsafe { w.bits(r.bits() & !(0xF << 18) | 0xA << 18) });
    // 16 MHz / 115200 = 138.9: 0.08 % off with rounding. The mantissa.fraction split is the plain quotient
    // at 16-fold oversampling (RM0090 §30.3.4).
    usart.write(BRR, BRR_VALUE);
    usart.write(CR1, CR1_UE | CR1_TE | CR1_RE);
    usart
}

/// The interrupt-driven port. A zero-size handle: the rings are shared with the interrupt.
pub struct Port(());

impl Port {
    /// Configures USART1 and its interrupt.
    pub fn new(usart: USART1, gpioa: &GPIOA, rcc: &RCC) -> Port {
        let usart = configure(usart, gpioa, rcc);
        usart.set(CR1, CR1_RXNEIE);
        critical_section::with(|cs| {
            // Taken once, before anybody else can hold it.
            if let Ok(mut rings) = RINGS.borrow(cs).try_borrow_mut() {
                rings.replace(Rings { usart, rx: Deque::new(), tx: Deque::new(), lost: 0 });
            }
        });
        // SAFETY: the handler and its rings exist.
        unsafe { NVIC::unmask(Interrupt::USART1) };
        Port(())
    }

    /// Bytes lost on the line since boot.
    pub fn lost(&self) -> u32 {
        with_rings(|rings| rings.lost).unwrap_or(0)
    }

    /// Whether everything queued has left the ring. A reset on request waits for it.
    pub fn is_sent(&self) -> bool {
        // TC, bit 6: the shift register is empty too.
        with_rings(|rings| rings.tx.is_empty() && rings.usart.read(SR) & 1 << 6 != 0).unwrap_or(true)
    }

    /// Sleeps until an interrupt, unless a byte already waits.
    ///
    /// No wake-up is lost: with PRIMASK set, WFI still returns on a pending interrupt (ARM DDI 0403
    /// B1.5.19), so a byte that arrives between the look and the WFI ends the sleep at once, and its
    /// handler runs when the critical section ends.
    pub fn sleep(&self) {
        with_rings(|rings| {
            if rings.rx.is_empty() {
                cortex_m::asm::dsb();
                cortex_m::asm::wfi();
            }
        });
    }
}

impl BytePort for Port {
    fn read(&mut self) -> Option<u8> {
        with_rings(|rings| rings.rx.pop_front()).flatten()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LinkFull> {
        // Room never shrinks between two critical sections: the interrupt only takes, and only this, by `&mut`, adds. They are
        // short, because a byte that arrives waits for at most one more: one long section for a long packet lost what came then.
        let room = with_rings(|rings| TX_LEN - rings.tx.len()).ok_or(LinkFull)?;
        if room < bytes.len() {
            return Err(LinkFull);
        }
        for part in bytes.chunks(16) {
            with_rings(|rings| {
                for &byte in part {
                    // Cannot fail: there is room.
                    let _ = rings.tx.push_back(byte);
                }
                // The interrupt fires at once if the data register is empty.
                rings.usart.set(CR1, CR1_TXEIE);
            })
            .ok_or(LinkFull)?;
        }
        Ok(())
    }
}

#[interrupt]
fn USART1() {
    with_rings(|rings| {
        let status = rings.usart.read(SR);
        if status & (SR_RXNE | SR_ERRORS) != 0 {
            // SR then DR clears the error flags as well (RM0090 §30.6.1); without it ORE would refire for ever.
            let byte = rings.usart.read(DR) as u8;
            if status & SR_ERRORS != 0 {
                rings.lost = rings.lost.wrapping_add(1);
            }
            // A damaged byte stays in the stream: the packet's CRC drops it and the next zero resynchronises.
            if status & SR_RXNE != 0 && rings.rx.push_back(byte).is_err() {
                rings.lost = rings.lost.wrapping_add(1);
            }
        }
        if status & SR_TXE != 0 {
            match rings.tx.pop_front() {
                Some(byte) => rings.usart.write(DR, u32::from(byte)),
                // Or the empty data register would interrupt without end.
                None => rings.usart.clear(CR1, CR1_TXEIE),
            }
        }
    });
}

/// Polling transmitter for boot and for faults, when interrupts cannot be trusted.
pub struct PolledPort(Registers);

impl PolledPort {
    /// Configures USART1 without its interrupt.
    pub fn new(usart: USART1, gpioa: &GPIOA, rcc: &RCC) -> PolledPort {
        PolledPort(configure(usart, gpioa, rcc))
    }

    /// Sends bytes, each wait bounded: a dead transmitter must not hang the caller.
    pub fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            for _ in 0..100_000 {
                if self.0.read(SR) & SR_TXE != 0 {
                    break;
                }
            }
            self.0.write(DR, u32::from(byte));
        }
    }
}
