//! A fixture that flashes for as long as it has something to say about it.

use keywright::failure::{Failure, FailureCode};
use keywright::image::StageOne;
use keywright::line::bench::{Bench, Chip, Contents, FlashProgress, Link, LinkStats, Received};
use keywright::line::lock::OptionRequest;
use keywright::model::{OptionBytes, UnitId};
use keywright_protocol::serial::Channel;
use std::time::Duration;

/// A fixture with a bare board in it. Flashing reports one label after the other and fails when there are no more.
pub struct Flashing {
    /// The board.
    pub unit: UnitId,
    /// The labels.
    pub labels: Box<dyn FnMut() -> Option<String> + Send>,
}

/// The line of a board that runs nothing yet.
struct Silent;

impl Link for Silent {
    fn send(&mut self, _: Channel, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
    fn receive(&mut self, wait: Duration) -> Result<Option<Received>, Failure> {
        std::thread::sleep(wait);
        Ok(None)
    }
    fn clear(&mut self) {}
    fn stats(&self) -> LinkStats {
        LinkStats::default()
    }
}

/// How it ends.
pub fn stopped() -> Failure {
    Failure::new(FailureCode::ProbeLost, "there is nothing more to flash")
}

impl Bench for Flashing {
    fn attach(&mut self) -> Result<Chip, Failure> {
        Ok(Chip { device: 0x419, revision: 0x2003, flash_kib: 2048, rdp: 0xAA, unit: self.unit })
    }
    fn inspect(&mut self, _: &StageOne) -> Result<Contents, Failure> {
        Ok(Contents { image: false, product_key: false, keys: false })
    }
    fn flash(&mut self, _: &StageOne, progress: &mut dyn FnMut(FlashProgress)) -> Result<(), Failure> {
        let mut done = 0;
        while let Some(label) = (self.labels)() {
            done = (done + 1) % 512;
            progress(FlashProgress { label, done, total: 512 });
        }
        Err(stopped())
    }
    fn restart(&mut self) -> Result<UnitId, Failure> {
        Ok(self.unit)
    }
    fn unit_now(&mut self) -> Result<UnitId, Failure> {
        Ok(self.unit)
    }
    fn option_bytes(&mut self) -> Result<OptionBytes, Failure> {
        Err(stopped())
    }
    fn set_option_bytes(
        &mut self,
        _: &OptionRequest,
        _: &mut dyn FnMut(FlashProgress),
    ) -> Result<OptionBytes, Failure> {
        Err(stopped())
    }
    fn flash_is_closed(&mut self) -> Result<bool, Failure> {
        Err(stopped())
    }
    fn pull_reset(&mut self) -> Result<(), Failure> {
        Ok(())
    }
    fn release(&mut self) {}
    fn presence(&mut self) -> Result<Option<UnitId>, Failure> {
        Ok(Some(self.unit))
    }
    fn open_link(&mut self) -> Result<Box<dyn Link>, Failure> {
        Ok(Box::new(Silent))
    }
}
