//! Flash programming through FLASH_CR (RM0090 §3.6, §3.9).
//!
//! Failure windows: a cut inside [`NorFlash::write`] leaves the current word anywhere between old and new
//! value; a cut inside [`NorFlash::erase`] leaves a sector part-erased. The store above lives with both.
//! What this driver adds is that an error flag of the controller is never overlooked and that the
//! controller is locked whenever nobody writes, so that a runaway store instruction changes nothing.

use embedded_storage::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use keywright_protocol::map::{self, FLASH_BASE, FLASH_LEN};
use stm32f4::stm32f429::FLASH;

const KEY1: u32 = 0x4567_0123;
const KEY2: u32 = 0xCDEF_89AB;
const CR_PG: u32 = 1 << 0;
const CR_SER: u32 = 1 << 1;
const CR_SNB_SHIFT: u32 = 3;
/// x32 parallelism: legal at 2.7–3.6 V without external Vpp (RM0090 table 15).
const CR_PSIZE_X32: u32 = 0b10 << 8;
const CR_STRT: u32 = 1 << 16;
const CR_LOCK: u32 = 1 << 31;
/// EOP, OPERR, WRPERR, PGAERR, PGPERR, PGSERR, RDERR: all cleared by writing 1 (RM0090 §3.9.6).
const SR_CLEAR: u32 = 0x1F3;
const SR_ERRORS: u32 = 0x1F2;
const SR_BSY: u32 = 1 << 16;

/// What the controller refused or failed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlashFault {
    /// Address or length outside flash or not aligned to a word (write) or a sector (erase).
    Bounds(NorFlashErrorKind),
    /// The key sequence did not unlock the control register.
    Locked,
    /// BSY did not clear within its bound.
    Busy,
    /// Error bits of FLASH_SR.
    Controller(u32),
}

impl NorFlashError for FlashFault {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            FlashFault::Bounds(kind) => *kind,
            _ => NorFlashErrorKind::Other,
        }
    }
}

/// The whole 2 MiB of flash; offsets count from 0x0800_0000.
pub struct Flash(FLASH);

impl Flash {
    /// Takes the controller.
    pub fn new(flash: FLASH) -> Flash {
        Flash(flash)
    }

    fn wait(&self) -> Result<(), FlashFault> {
        // Worst case 64 KiB erase 2 s; one poll is at least six cycles of 62.5 ns, so the bound is above 3.7 s.
        for _ in 0..10_000_000 {
            if self.0.sr().read().bits() & SR_BSY == 0 {
                return Ok(());
            }
        }
        Err(FlashFault::Busy)
    }

    /// Runs one operation between unlock and lock.
    fn unlocked(
        &mut self,
        operation: impl FnOnce(&Self) -> Result<(), FlashFault>,
    ) -> Result<(), FlashFault> {
        self.wait()?;
        if self.0.cr().read().bits() & CR_LOCK != 0 {
            // A wrong sequence would lock the register until the next reset (RM0090 §3.6.1).
            // SAFETY: the two documented keys in order.
            self.0.keyr().write(|w| unsafe { w.bits(KEY1) });
            // SAFETY: documented bits of a register this driver owns, as above.
            self.0.keyr().write(|w| unsafe { w.bits(KEY2) });
            if self.0.cr().read().bits() & CR_LOCK != 0 {
                return Err(FlashFault::Locked);
            }
        }
        // A stale error flag makes the controller refuse the next operation. SAFETY: write-one-to-clear bits.
        self.0.sr().write(|w| unsafe { w.bits(SR_CLEAR) });
        let result = operation(self);
        // SAFETY: only LOCK set, so PG and SER end here too.
        self.0.cr().write(|w| unsafe { w.bits(CR_LOCK) });
        result
    }

    fn finish(&self) -> Result<(), FlashFault> {
        self.wait()?;
        match self.0.sr().read().bits() & SR_ERRORS {
            0 => Ok(()),
            errors => Err(FlashFault::Controller(errors)),
        }
    }

    fn erase_sector(&mut self, sector: u8) -> Result<(), FlashFault> {
        self.unlocked(|this| {
            // SNB has five bits: bank 2's sectors 12–23 are coded 16–27 (RM0090 §3.9.8).
            let snb = if sector < 12 { u32::from(sector) } else { u32::from(sector) + 4 };
            let cr = CR_SER | CR_PSIZE_X32 | snb << CR_SNB_SHIFT;
            // SAFETY: fields as documented; STRT is written after SER and SNB (RM0090 §3.6.3).
            this.0.cr().write(|w| unsafe { w.bits(cr) });
            // SAFETY: documented bits of a register this driver owns, as above.
            this.0.cr().write(|w| unsafe { w.bits(cr | CR_STRT) });
            cortex_m::asm::dsb();
            this.finish()
        })
    }
}

impl ErrorType for Flash {
    type Error = FlashFault;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashFault> {
        embedded_storage::nor_flash::check_read(self, offset, bytes.len()).map_err(FlashFault::Bounds)?;
        let mut address = FLASH_BASE + offset;
        let mut rest = bytes;
        // Volatile: read-back must look at the cells, not at what the compiler believes it has written.
        if address.is_multiple_of(4) {
            // Whole words where it can be: every boot looks through all key areas.
            let (words, few) = rest.as_chunks_mut::<4>();
            for word in words {
                // SAFETY: in bounds of memory-mapped flash, checked above; aligned, checked just now.
                *word = unsafe { (address as *const u32).read_volatile() }.to_le_bytes();
                address += 4;
            }
            rest = few;
        }
        for byte in rest {
            // SAFETY: in bounds of memory-mapped flash, checked above.
            *byte = unsafe { (address as *const u8).read_volatile() };
            address += 1;
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        FLASH_LEN as usize
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    /// The smallest sector; erases must name whole sectors, whatever their size.
    const ERASE_SIZE: usize = 16 * 1024;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashFault> {
        embedded_storage::nor_flash::check_erase(self, from, to).map_err(FlashFault::Bounds)?;
        let mut at = FLASH_BASE + from;
        let end = FLASH_BASE + to;
        while at < end {
            let Some((sector, extent)) = map::sector_of(at) else {
                return Err(FlashFault::Bounds(NorFlashErrorKind::OutOfBounds));
            };
            if extent.base != at || extent.end() > end {
                return Err(FlashFault::Bounds(NorFlashErrorKind::NotAligned));
            }
            self.erase_sector(sector)?;
            at = extent.end();
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashFault> {
        embedded_storage::nor_flash::check_write(self, offset, bytes.len()).map_err(FlashFault::Bounds)?;
        let base = FLASH_BASE + offset;
        self.unlocked(|this| {
            // SAFETY: fields as documented.
            this.0.cr().write(|w| unsafe { w.bits(CR_PG | CR_PSIZE_X32) });
            for (address, chunk) in (base..).step_by(4).zip(bytes.as_chunks::<4>().0) {
                // SAFETY: aligned and in bounds, checked above; PG makes the store a programming operation.
                unsafe { (address as *mut u32).write_volatile(u32::from_le_bytes(*chunk)) };
                cortex_m::asm::dsb();
                this.finish()?;
            }
            Ok(())
        })
    }
}

/// No ECC on this part: programming the same row again with the same or fewer ones is legal (RM0090 §3.6.4).
impl MultiwriteNorFlash for Flash {}
