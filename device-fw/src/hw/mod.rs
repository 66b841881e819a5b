//! Everything that touches a register of the STM32F429ZI. Feature `target` only.
//!
//! Invariants:
//! - Nothing above this folder names a register, nothing in it knows a protocol.
//! - Every wait on a flag is bounded; the watchdog is the answer to a bound that was not enough.
//! - The watchdog is fed from the main loop only, never from an interrupt: a feed proves that the loop runs.
//! - No interrupt handler loops, allocates or takes longer than one byte needs.

pub mod clock;
pub mod fault;
pub mod flash;
pub mod rng;
pub mod stack;
pub mod usart;
pub mod watchdog;

use keywright_protocol::map;

/// Cause of the last reset: the top byte of RCC_CSR (RM0090 §7.3.21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetCause(pub u8);

impl ResetCause {
    /// The independent watchdog ran out (IWDGRSTF).
    pub const fn is_watchdog(self) -> bool {
        self.0 & 1 << 5 != 0
    }

    /// The supply browned out. Power-on sets BORRSTF together with PORRSTF, a brown-out sets it alone.
    pub const fn is_brown_out(self) -> bool {
        self.0 & 1 << 1 != 0 && self.0 & 1 << 3 == 0
    }
}

/// Reads the reset flags and clears them, so that the next reset shows its own cause only.
pub fn take_reset_cause(rcc: &stm32f4::stm32f429::RCC) -> ResetCause {
    let csr = rcc.csr().read().bits();
    // RMVF clears all flags; they otherwise accumulate over resets (RM0090 §7.3.21).
    // SAFETY: RMVF is bit 24; the other bits are written back as read.
    rcc.csr().modify(|r, w| unsafe { w.bits(r.bits() | 1 << 24) });
    ResetCause((csr >> 24) as u8)
}

/// The 96-bit unique device id, bytes in address order (RM0090 §39.1).
pub fn uid() -> [u8; 12] {
    let mut out = [0; 12];
    for (index, byte) in out.iter_mut().enumerate() {
        // SAFETY: 12 readable bytes of system memory start at UID_ADDRESS on every F42x.
        *byte = unsafe { ((map::UID_ADDRESS as usize + index) as *const u8).read_volatile() };
    }
    out
}
