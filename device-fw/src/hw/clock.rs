//! Clocks and time.
//!
//! The core runs from HSI at 16 MHz: no crystal to populate, zero flash wait states, no caches whose
//! stale lines a flash write would leave behind (RM0090 §3.5.2), and key exchange is not the hot path
//! of a unit. The PLL runs for one reason only, the 48 MHz of the random number generator.

use core::cell::Cell;
use cortex_m::peripheral::{SYST, syst::SystClkSource};
use cortex_m_rt::exception;
use critical_section::Mutex;
use stm32f4::stm32f429::RCC;

/// Core and bus clock in Hz.
pub const CORE_HZ: u32 = 16_000_000;
/// Milliseconds per SysTick interrupt. 10 ms keeps an idle unit asleep for 99 % of the time; nothing in
/// the protocol is finer than a second.
pub const TICK_MS: u64 = 10;

static NOW: Mutex<Cell<u64>> = Mutex::new(Cell::new(0));

/// Why the RNG clock did not come up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PllFault;

/// Starts SysTick.
pub fn start_tick(syst: &mut SYST) {
    syst.set_clock_source(SystClkSource::Core);
    syst.set_reload(CORE_HZ / 1000 * TICK_MS as u32 - 1);
    syst.clear_current();
    syst.enable_counter();
    syst.enable_interrupt();
}

/// Milliseconds since [`start_tick`].
pub fn now_ms() -> u64 {
    critical_section::with(|cs| NOW.borrow(cs).get())
}

/// SysTick as the engine's clock.
pub struct TickClock;

impl crate::traits::Clock for TickClock {
    fn now_ms(&self) -> u64 {
        now_ms()
    }
}

#[exception]
fn SysTick() {
    critical_section::with(|cs| {
        let now = NOW.borrow(cs);
        now.set(now.get().wrapping_add(TICK_MS));
    });
}

/// Brings PLL48CK up: HSI 16 MHz / M 8 = 2 MHz into the VCO (2 MHz limits jitter), × N 96 = 192 MHz, / Q 4
/// = 48 MHz (RM0090 §7.3.2). SYSCLK stays on HSI.
///
/// # Errors
/// [`PllFault`] if the PLL does not lock; the RNG then reports its clock fault by itself.
pub fn start_rng_clock(rcc: &RCC) -> Result<(), PllFault> {
    const M: u32 = 8;
    const N: u32 = 96;
    const Q: u32 = 4;
    const P_DIV4: u32 = 1; // 48 MHz, unused, inside its range
    // The PLL must be off while PLLCFGR changes. SAFETY: PLLON is bit 24.
    rcc.cr().modify(|r, w| unsafe { w.bits(r.bits() & !(1 << 24)) });
    // SAFETY: field positions of RM0090 §7.3.2; PLLSRC = 0 selects HSI.
    rcc.pllcfgr().write(|w| unsafe { w.bits(M | N << 6 | P_DIV4 << 16 | Q << 24) });
    // SAFETY: as above.
    rcc.cr().modify(|r, w| unsafe { w.bits(r.bits() | 1 << 24) });
    // Lock time is at most 200 us (datasheet table 43): 100,000 polls are far more.
    for _ in 0..100_000 {
        if rcc.cr().read().bits() & 1 << 25 != 0 {
            return Ok(());
        }
    }
    Err(PllFault)
}
