//! Which option bytes this station asks a chip for (RM0090 §3.6, §3.9.10), and nothing else.
//!
//! Invariants:
//! - Level 2 is for ever and ends every repair, so no value of [`OptionRequest`] carries it: the makers below are its only ones,
//!   and each ends in [`guard`], which refuses whatever is neither level 0 nor this station's level 1.
//! - What else the bytes say (brown-out level, watchdog, banks) stays as the chip came.
//! - Going back to level 0 erases the chip. Only `reprovision` asks for it, with a person and a reason on the record.

use crate::failure::{Failure, FailureCode};
use crate::model::OptionBytes;
use keywright_protocol::map;

/// The RDP byte of level 0.
const OPEN: u8 = 0xAA;
/// The RDP byte of level 1, as this station writes it: any but 0xAA and 0xCC will do (RM0090 §3.6.3). This one is four bit flips
/// from level 2 and eight from level 0.
const CLOSED: u8 = 0x55;
/// The RDP byte of level 2. Written down in order to be refused.
const FOR_EVER: u8 = 0xCC;
const RDP: u32 = 0xFF00;
/// SPRMOD: nWRP bits then mean something else, and can't be taken back but by a mass erase (RM0090 §3.7.2).
const SPRMOD: u32 = 1 << 31;
/// nWRP of the boot sectors: a 0 protects.
const BOOT_SECTORS: u32 = 0xF << 16;
/// nWRP of all sectors of a bank.
const ALL_SECTORS: u32 = 0xFFF << 16;

// The boot sectors are exactly those four, and the firmware writes nothing in them once a unit has its agent key: the
// storage-secret slots at their end are programmed while the product key is still there (`device-fw/src/store.rs`).
const _: () = {
    let (Some((first, _)), Some((last, _)), Some((after, _))) = (
        map::sector_of(map::BOOT.base),
        map::sector_of(map::BOOT.end() - 1),
        map::sector_of(map::BOOT.end()),
    ) else {
        panic!()
    };
    assert!(first == 0 && last == 3 && after == 4);
};

/// How far a chip is read-protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadProtection {
    /// Not at all.
    Level0,
    /// No debugger reads the flash; going back erases it.
    Level1,
    /// No debugger at all, for ever.
    Level2,
}

impl ReadProtection {
    /// What an RDP byte stands for.
    pub const fn of(rdp: u8) -> Self {
        match rdp {
            OPEN => Self::Level0,
            FOR_EVER => Self::Level2,
            _ => Self::Level1,
        }
    }
}

impl OptionBytes {
    /// How far they protect the chip from being read.
    pub const fn protection(self) -> ReadProtection {
        ReadProtection::of((self.optcr >> 8) as u8)
    }

    /// Level 1, and the boot sectors are write-protected: what a finished unit shows.
    pub const fn are_locked(self) -> bool {
        matches!(self.protection(), ReadProtection::Level1)
            && self.optcr & SPRMOD == 0
            && self.optcr & BOOT_SECTORS == 0
    }
}

/// Option bytes that may be asked of a chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionRequest(OptionBytes);

impl OptionRequest {
    /// Level 1, boot sectors write-protected.
    ///
    /// # Errors
    /// `OptionBytesRefused` for a chip that has them in another mode, or can't be changed.
    pub fn lock(now: OptionBytes) -> Result<Self, Failure> {
        Self::checked(now, CLOSED, now.optcr & !BOOT_SECTORS, now.optcr1)
    }

    /// Level 0. The chip erases all its flash first; write protection stays as it is.
    ///
    /// # Errors
    /// As [`Self::lock`].
    pub fn erase_and_open(now: OptionBytes) -> Result<Self, Failure> {
        Self::checked(now, OPEN, now.optcr, now.optcr1)
    }

    /// Level 0 as it is, no sector write-protected.
    ///
    /// # Errors
    /// As [`Self::lock`], and for a chip that is not at level 0: this must not be a way to erase one.
    pub fn writable(now: OptionBytes) -> Result<Self, Failure> {
        if now.protection() != ReadProtection::Level0 {
            return Err(refused("write protection is taken off a chip that is not at level 0", now));
        }
        Self::checked(now, OPEN, now.optcr | ALL_SECTORS, now.optcr1 | ALL_SECTORS)
    }

    fn checked(now: OptionBytes, rdp: u8, optcr: u32, optcr1: u32) -> Result<Self, Failure> {
        if now.protection() == ReadProtection::Level2 {
            return Err(refused("the chip is at level 2", now));
        }
        let wanted = OptionBytes { optcr: optcr & !RDP | u32::from(rdp) << 8, optcr1 };
        guard(wanted)?;
        Ok(Self(wanted))
    }

    /// The two words to program.
    pub const fn words(self) -> OptionBytes {
        self.0
    }
}

/// The last look before the registers are written, whatever led here.
///
/// # Errors
/// `OptionBytesRefused` for level 2, for an RDP byte that is not one of the two that this station writes, and for PCROP mode.
pub fn guard(wanted: OptionBytes) -> Result<(), Failure> {
    match (wanted.optcr >> 8) as u8 {
        FOR_EVER => Err(refused("they would close the chip for ever (level 2)", wanted)),
        OPEN | CLOSED if wanted.optcr & SPRMOD == 0 => Ok(()),
        OPEN | CLOSED => Err(refused("they are in PCROP mode", wanted)),
        other => Err(refused(&format!("{other:#04x} is no read protection byte of ours"), wanted)),
    }
}

fn refused(why: &str, bytes: OptionBytes) -> Failure {
    Failure::new(FailureCode::OptionBytesRefused, format!("{why}: {bytes}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chip as it leaves its maker.
    const NEW: OptionBytes = OptionBytes { optcr: 0x0FFF_AAEC, optcr1: 0x0FFF_0000 };

    #[test]
    fn locking_changes_read_protection_and_the_boot_sectors_only() {
        let locked = OptionRequest::lock(NEW).unwrap().words();
        assert_eq!(locked, OptionBytes { optcr: 0x0FF0_55EC, optcr1: 0x0FFF_0000 });
        assert!(locked.are_locked() && !NEW.are_locked());
        assert_eq!(OptionRequest::lock(locked).unwrap().words(), locked, "locking again asks for the same");
        // Brown-out level, watchdog, bank bits and other sectors' protection are the vendor's.
        let other = OptionBytes { optcr: 0x4F7F_AA30, optcr1: 0x0FF1_0000 };
        assert_eq!(OptionRequest::lock(other).unwrap().words().optcr, 0x4F70_5530);
        assert_eq!(OptionRequest::lock(other).unwrap().words().optcr1, other.optcr1);
        for half in [0x0FFF_55EC, 0x0FF1_55EC, 0x0FF0_AAEC, 0x8FF0_55EC, 0x0FF0_CCEC] {
            assert!(!OptionBytes { optcr: half, ..NEW }.are_locked(), "{half:#x}");
        }
    }

    #[test]
    fn opening_is_two_steps_and_the_second_erases_nothing() {
        let locked = OptionRequest::lock(NEW).unwrap().words();
        let open = OptionRequest::erase_and_open(locked).unwrap().words();
        assert_eq!(open, OptionBytes { optcr: 0x0FF0_AAEC, optcr1: 0x0FFF_0000 });
        assert_eq!(OptionRequest::writable(open).unwrap().words(), NEW);
        assert_eq!(OptionRequest::writable(locked).unwrap_err().code, FailureCode::OptionBytesRefused);
    }

    /// Whatever a chip shows, nothing here asks for level 2, and a typing error that would is refused before it is written.
    #[test]
    fn level_2_is_out_of_reach() {
        assert!((FOR_EVER ^ CLOSED).count_ones() >= 4 && (FOR_EVER ^ OPEN).count_ones() >= 4);
        for rdp in 0..=0xFFu8 {
            for rest in [0x0FFF_00EC, 0x0000_0000, 0xFFFF_00FF, 0x4AAA_00CC] {
                let now = OptionBytes { optcr: rest | u32::from(rdp) << 8, optcr1: rest };
                for asked in [
                    OptionRequest::lock(now),
                    OptionRequest::erase_and_open(now),
                    OptionRequest::writable(now),
                ]
                .into_iter()
                .flatten()
                {
                    assert_ne!(asked.words().protection(), ReadProtection::Level2);
                    guard(asked.words()).unwrap();
                }
                let allowed = matches!(rdp, OPEN | CLOSED) && rest & SPRMOD == 0;
                assert_eq!(guard(now).is_ok(), allowed, "{now}");
            }
        }
        let failure = guard(OptionBytes { optcr: 0x0FF0_CCEC, ..NEW }).unwrap_err();
        println!("{failure}");
        assert!(failure.sentence.contains("level 2"));
    }
}
