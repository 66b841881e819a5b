//! What a worker needs of the world: a probe and a serial port, behind two traits.
//!
//! `hardware` implements them over probe-rs and serialport; tests implement them in memory, so that the worker that
//! is tested is the worker that runs.

use super::lock::{OptionRequest, ReadProtection};
use crate::failure::{Failure, FailureCode};
use crate::image::StageOne;
use crate::model::{OptionBytes, UnitId};
use keywright_protocol::map;
use keywright_protocol::serial::Channel;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A request to stop at the next safe point; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<(Mutex<bool>, Condvar)>);

impl Cancel {
    /// Asks for the stop.
    pub fn cancel(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Whether a stop was asked for.
    pub fn is_cancelled(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A safe point.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn check(&self) -> Result<(), Failure> {
        if self.is_cancelled() { Err(Failure::new(FailureCode::Cancelled, "")) } else { Ok(()) }
    }

    /// Waits; ends at once when a stop is asked for.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn wait(&self, time: Duration) -> Result<(), Failure> {
        let until = Instant::now() + time;
        let mut stop = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stop {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) else {
                return Ok(());
            };
            stop = self.0.1.wait_timeout(stop, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Err(Failure::new(FailureCode::Cancelled, ""))
    }
}

/// How often something is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all, at least one.
    pub tries: u32,
    /// Pause between two tries.
    pub pause: Duration,
}

impl Retry {
    /// Tries `act` (which gets the number of the try, from 0) until it succeeds, fails for good or is cancelled.
    /// The one place in the station that repeats anything on hardware.
    ///
    /// # Errors
    /// The last failure; a permanent one at once; `Cancelled`.
    pub fn run<T>(
        self,
        cancel: &Cancel,
        mut act: impl FnMut(u32) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut tried = 0;
        loop {
            cancel.check()?;
            match act(tried) {
                Ok(value) => return Ok(value),
                Err(failure) => {
                    tried += 1;
                    if tried >= self.tries
                        || failure.code.is_permanent()
                        || failure.code == FailureCode::Cancelled
                    {
                        return Err(failure);
                    }
                    tracing::debug!(%failure, tried, "trying again");
                }
            }
            cancel.wait(self.pause)?;
        }
    }
}

/// What the chip says about itself over SWD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chip {
    /// DBGMCU_IDCODE bits 0–11 (RM0090 §38.6.1).
    pub device: u16,
    /// Its revision, bits 16–31.
    pub revision: u16,
    /// Flash size in KiB; meaningless while the chip is read-protected.
    pub flash_kib: u16,
    /// The RDP byte of FLASH_OPTCR: 0xAA = level 0, 0xCC = level 2, anything else level 1 (RM0090 §3.6.3).
    pub rdp: u8,
    /// The hardware id.
    pub unit: UnitId,
}

impl Chip {
    /// At level 1: its flash can't be read, and erases itself when it is opened.
    pub fn is_locked(&self) -> bool {
        ReadProtection::of(self.rdp) == ReadProtection::Level1
    }

    /// Refuses what can't be worked on, before anything is erased. Whether a locked chip is one of ours the records say.
    ///
    /// # Errors
    /// `WrongChip`, `ReadProtected` at level 2, `BlankIdentity`.
    pub fn check(&self) -> Result<(), Failure> {
        if u32::from(self.device) != map::DEV_ID_STM32F42X {
            return Err(Failure::new(
                FailureCode::WrongChip,
                format!(
                    "device id {:#05x} revision {:#06x}, expected {:#05x} (STM32F42x)",
                    self.device,
                    self.revision,
                    map::DEV_ID_STM32F42X
                ),
            ));
        }
        if ReadProtection::of(self.rdp) == ReadProtection::Level2 {
            return Err(Failure::new(FailureCode::ReadProtected, "level 2, for ever"));
        }
        if !self.is_locked() && u32::from(self.flash_kib) * 1024 != map::FLASH_LEN {
            return Err(Failure::new(
                FailureCode::WrongChip,
                format!("{} KiB of flash, expected {}", self.flash_kib, map::FLASH_LEN / 1024),
            ));
        }
        if self.unit.is_blank() {
            return Err(Failure::new(FailureCode::BlankIdentity, self.unit));
        }
        Ok(())
    }
}

/// What the flash holds, as far as stage one cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Every byte of the common image is in place.
    pub image: bool,
    /// Key area B starts with this order's kind 1 record. Stage one writes it last, after every erase.
    pub product_key: bool,
    /// A key area holds a committed record with keys of a unit.
    pub keys: bool,
}

/// Progress of flashing: what, done, of how many bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlashProgress {
    /// `erasing boot`, `writing app`, `reading back product key`, …
    pub label: String,
    /// Bytes done of the whole stage one.
    pub done: u64,
    /// Of how many.
    pub total: u64,
}

/// A packet from the unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its channel.
    pub channel: Channel,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// What came over the wire since the last [`Link::clear`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Bytes.
    pub bytes: u64,
    /// Valid packets.
    pub packets: u64,
    /// Dropped packets.
    pub dropped: u64,
}

/// A packet link to a unit.
pub trait Link: Send {
    /// Sends one packet.
    ///
    /// # Errors
    /// `PortLost`.
    fn send(&mut self, channel: Channel, payload: &[u8]) -> Result<(), Failure>;
    /// The next packet; `None` if none came within `wait`.
    ///
    /// # Errors
    /// `PortLost`.
    fn receive(&mut self, wait: Duration) -> Result<Option<Received>, Failure>;
    /// Forgets what came so far: after a reset, half a packet means nothing.
    fn clear(&mut self);
    /// Counts since the last [`Link::clear`].
    fn stats(&self) -> LinkStats;
}

/// A fixture: one probe and one serial port.
pub trait Bench: Send {
    /// Connects (under reset if need be) and reads what the chip says about itself. Changes nothing on it.
    ///
    /// # Errors
    /// `NoProbe`, `ProbeBusy`, `ProbeLost`, `NoTarget`, `WrongChip` if it is no ARM chip at all.
    fn attach(&mut self) -> Result<Chip, Failure>;
    /// Compares the flash with stage one.
    ///
    /// # Errors
    /// `ProbeLost`, `BoardUnplugged`.
    fn inspect(&mut self, stage_one: &StageOne) -> Result<Contents, Failure>;
    /// Stage one: erases what must be blank, writes image and record in one go, reads all of it back. Not
    /// interruptible half-way; a unit that lost power here is flashed again.
    ///
    /// # Errors
    /// `FlashFailed`, `VerifyFailed`, `ProbeLost`, `BoardUnplugged`.
    fn flash(&mut self, stage_one: &StageOne, progress: &mut dyn FnMut(FlashProgress))
    -> Result<(), Failure>;
    /// Resets the chip, lets it run and lets go of it; returns the id read just before.
    ///
    /// # Errors
    /// `ProbeLost`, `BoardUnplugged`.
    fn restart(&mut self) -> Result<UnitId, Failure>;
    /// The id of the chip that is in the fixture now.
    ///
    /// # Errors
    /// `ProbeLost`, `BoardUnplugged`.
    fn unit_now(&mut self) -> Result<UnitId, Failure>;
    /// The option bytes in force.
    ///
    /// # Errors
    /// `ProbeLost`, `BoardUnplugged`.
    fn option_bytes(&mut self) -> Result<OptionBytes, Failure>;
    /// Programs option bytes, resets the chip so that it loads them, and reads them back. The core runs from its reset, unless
    /// the chip keeps a debugger's company out by standing still (level 1).
    ///
    /// # Errors
    /// `LockFailed`, `OptionBytesRefused`, `ProbeLost`, `BoardUnplugged`.
    fn set_option_bytes(
        &mut self,
        request: &OptionRequest,
        progress: &mut dyn FnMut(FlashProgress),
    ) -> Result<OptionBytes, Failure>;
    /// Tries to read the flash as a thief would: whether the chip refuses.
    ///
    /// # Errors
    /// `ProbeLost`, `BoardUnplugged`.
    fn flash_is_closed(&mut self) -> Result<bool, Failure>;
    /// Resets the chip by its pin alone: at level 1 a debugger's look stops the unit until its power was off.
    ///
    /// # Errors
    /// `ProbeLost`, `NoProbe`, `ProbeBusy`.
    fn pull_reset(&mut self) -> Result<(), Failure>;
    /// Lets go of the probe.
    fn release(&mut self);
    /// Whether a board is in the fixture, and which, found out cheaply; only between attempts.
    ///
    /// # Errors
    /// `NoProbe`, `ProbeBusy`, `ProbeLost`: the fixture can't be used.
    fn presence(&mut self) -> Result<Option<UnitId>, Failure>;
    /// Opens the serial port.
    ///
    /// # Errors
    /// `PortMissing`, `PortBusy`.
    fn open_link(&mut self) -> Result<Box<dyn Link>, Failure>;
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHIP: Chip =
        Chip { device: 0x419, revision: 0x2003, flash_kib: 2048, rdp: 0xAA, unit: UnitId([7; 12]) };

    #[test]
    fn chips_that_must_not_be_flashed() {
        CHIP.check().unwrap();
        let cases = [
            (Chip { device: 0x413, ..CHIP }, FailureCode::WrongChip),
            (Chip { flash_kib: 1024, ..CHIP }, FailureCode::WrongChip),
            (Chip { rdp: 0xCC, ..CHIP }, FailureCode::ReadProtected),
            (Chip { unit: UnitId([0; 12]), ..CHIP }, FailureCode::BlankIdentity),
            (Chip { unit: UnitId([0xFF; 12]), ..CHIP }, FailureCode::BlankIdentity),
        ];
        // Any other byte is level 1; the flash size word may then read as nothing.
        for rdp in [0x55, 0, 0xFF] {
            let locked = Chip { rdp, flash_kib: 0, ..CHIP };
            locked.check().unwrap();
            assert!(locked.is_locked() && !CHIP.is_locked());
        }
        for (chip, code) in cases {
            let failure = chip.check().unwrap_err();
            println!("{failure}");
            assert_eq!(failure.code, code);
        }
    }

    #[test]
    fn retry_stops_at_success_permanence_and_cancel() {
        let policy = Retry { tries: 3, pause: Duration::ZERO };
        let cancel = Cancel::default();
        let mut calls = 0;
        let got = policy.run(&cancel, |n| {
            calls += 1;
            if n == 2 { Ok(n) } else { Err(Failure::new(FailureCode::ProbeBusy, "")) }
        });
        assert_eq!((got.unwrap(), calls), (2, 3));
        let mut calls = 0;
        let got: Result<(), _> = policy.run(&cancel, |_| {
            calls += 1;
            Err(Failure::new(FailureCode::WrongChip, ""))
        });
        assert_eq!((got.unwrap_err().code, calls), (FailureCode::WrongChip, 1));
        let mut calls = 0;
        let got: Result<(), _> = policy.run(&cancel, |_| {
            calls += 1;
            cancel.cancel();
            Err(Failure::new(FailureCode::ProbeBusy, ""))
        });
        assert_eq!((got.unwrap_err().code, calls), (FailureCode::Cancelled, 1));
        assert_eq!(cancel.wait(Duration::from_secs(3600)).unwrap_err().code, FailureCode::Cancelled);
    }
}
