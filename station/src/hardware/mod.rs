//! The only place that knows probe-rs and serialport: what is plugged into this PC, and a real fixture's [`Bench`].

pub mod probe;
pub mod serial;

use crate::config::{Config, Fixture, pair};
use crate::failure::Failure;
use crate::image::StageOne;
use crate::line::bench::{Bench, Chip, Contents, FlashProgress, Link};
use crate::line::lock::OptionRequest;
use crate::model::{OptionBytes, UnitId};

/// The fixtures of this station: those of `station.toml`, else every probe paired with its own serial port.
///
/// # Errors
/// `NoProbe`, `AmbiguousProbes`, `PortMissing` from pairing.
pub fn fixtures(config: &Config) -> Result<Vec<Fixture>, Failure> {
    if config.fixtures.is_empty() {
        pair(&probe::list(), &serial::list())
    } else {
        Ok(config.fixtures.clone())
    }
}

/// A real fixture.
#[derive(Debug)]
pub struct HardwareBench {
    probe: probe::SwdProbe,
    serial: String,
}

impl HardwareBench {
    /// The bench of `fixture`; nothing is opened yet.
    pub fn new(fixture: &Fixture) -> Self {
        Self { probe: probe::SwdProbe::new(&fixture.probe), serial: fixture.serial.clone() }
    }
}

impl Bench for HardwareBench {
    fn attach(&mut self) -> Result<Chip, Failure> {
        self.probe.attach()
    }

    fn inspect(&mut self, stage_one: &StageOne) -> Result<Contents, Failure> {
        self.probe.inspect(stage_one)
    }

    fn flash(
        &mut self,
        stage_one: &StageOne,
        progress: &mut dyn FnMut(FlashProgress),
    ) -> Result<(), Failure> {
        self.probe.flash(stage_one, progress)
    }

    fn restart(&mut self) -> Result<UnitId, Failure> {
        self.probe.restart()
    }

    fn unit_now(&mut self) -> Result<UnitId, Failure> {
        self.probe.unit_now()
    }

    fn option_bytes(&mut self) -> Result<OptionBytes, Failure> {
        self.probe.option_bytes()
    }

    fn set_option_bytes(
        &mut self,
        request: &OptionRequest,
        progress: &mut dyn FnMut(FlashProgress),
    ) -> Result<OptionBytes, Failure> {
        self.probe.set_option_bytes(request, progress)
    }

    fn flash_is_closed(&mut self) -> Result<bool, Failure> {
        self.probe.flash_is_closed()
    }

    fn pull_reset(&mut self) -> Result<(), Failure> {
        self.probe.pull_reset()
    }

    fn release(&mut self) {
        self.probe.release();
    }

    fn presence(&mut self) -> Result<Option<UnitId>, Failure> {
        self.probe.presence()
    }

    fn open_link(&mut self) -> Result<Box<dyn Link>, Failure> {
        Ok(Box::new(serial::SerialLink::open(&self.serial)?))
    }
}
