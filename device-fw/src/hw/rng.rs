//! The hardware random number generator with its error flags (RM0090 §24).
//!
//! Rules kept: the first word after enabling is never used, only remembered; every word is compared with
//! the one before it and a repeat is a fault (FIPS continuous test, §24.3.1); a seed error discards the
//! word and re-initialises; a clock error waits for the clock (§24.3.2). Retries are bounded.

use crate::traits::{Rng, RngFault};
use stm32f4::stm32f429::{RCC, RNG};

const CR_RNGEN: u32 = 1 << 2;
const SR_DRDY: u32 = 1 << 0;
const SR_CECS: u32 = 1 << 1;
const SR_SECS: u32 = 1 << 2;
const SR_CEIS: u32 = 1 << 5;
const SR_SEIS: u32 = 1 << 6;
/// A word takes 40 cycles of 48 MHz, about 14 of ours; a poll is at least six.
const POLLS_PER_WORD: u32 = 10_000;
const RETRIES: u32 = 4;

/// The generator, enabled, with the last word it gave.
pub struct HardwareRng {
    rng: RNG,
    last: Option<u32>,
}

impl HardwareRng {
    /// Enables the peripheral clock; the generator itself starts with the first request, whose failure can
    /// then be reported.
    pub fn new(rng: RNG, rcc: &RCC) -> HardwareRng {
        // SAFETY: RNGEN is bit 6 of AHB2ENR (RM0090 §7.3.11).
        rcc.ahb2enr().modify(|r, w| unsafe { w.bits(r.bits() | 1 << 6) });
        HardwareRng { rng, last: None }
    }

    fn restart(&mut self) {
        self.last = None;
        // §24.3.2: clear SEIS, then clear and set RNGEN. Status flags are cleared by writing 0.
        // SAFETY: documented bits only.
        self.rng.sr().write(|w| unsafe { w.bits(0) });
        // SAFETY: documented bits of a register this driver owns, as above.
        self.rng.cr().write(|w| unsafe { w.bits(0) });
        // SAFETY: documented bits of a register this driver owns, as above.
        self.rng.cr().write(|w| unsafe { w.bits(CR_RNGEN) });
    }

    /// One raw word, flags checked before and after it is taken.
    fn raw(&mut self) -> Result<u32, RngFault> {
        for _ in 0..POLLS_PER_WORD {
            let status = self.rng.sr().read().bits();
            if status & (SR_SEIS | SR_SECS) != 0 {
                return Err(RngFault::Seed);
            }
            if status & (SR_CEIS | SR_CECS) != 0 {
                return Err(RngFault::Clock);
            }
            if status & SR_DRDY != 0 {
                let word = self.rng.dr().read().bits();
                // A seed error may have come between the look and the read.
                if self.rng.sr().read().bits() & (SR_SEIS | SR_SECS) != 0 {
                    return Err(RngFault::Seed);
                }
                return Ok(word);
            }
        }
        Err(RngFault::Timeout)
    }

    fn word(&mut self) -> Result<u32, RngFault> {
        let mut fault = RngFault::Timeout;
        for _ in 0..RETRIES {
            if self.last.is_none() {
                self.restart();
                match self.raw() {
                    Ok(first) => self.last = Some(first),
                    Err(error) => {
                        fault = error;
                        continue;
                    }
                }
            }
            match self.raw() {
                Ok(word) if self.last == Some(word) => {
                    fault = RngFault::Repeated;
                    self.last = None;
                }
                Ok(word) => {
                    self.last = Some(word);
                    return Ok(word);
                }
                Err(error) => {
                    fault = error;
                    self.last = None;
                }
            }
        }
        Err(fault)
    }
}

impl Rng for HardwareRng {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), RngFault> {
        for chunk in out.chunks_mut(4) {
            let word = self.word()?.to_le_bytes();
            for (to, from) in chunk.iter_mut().zip(word) {
                *to = from;
            }
        }
        Ok(())
    }
}
