//! The application in slot A: wires the chip to the engine and sleeps when nothing is due.
#![no_std]
#![no_main]

use core::panic::PanicInfo;
use keywright_device_fw::engine::{Action, Engine, Facts, REKEY_EVERY_MS};
use keywright_device_fw::hw::{
    self, clock, clock::TickClock, fault, flash::Flash, rng::HardwareRng, stack, usart::Port,
    watchdog::Watchdog,
};
use keywright_device_fw::image::{self, Part};
use keywright_device_fw::link::SerialLink;
use keywright_protocol::{DeviceFailure, UnitId, map};
use stm32f4::stm32f429;

/// What the station checks before it flashes us (`docs/contracts.md`).
#[used]
#[unsafe(link_section = ".image_info")]
static IMAGE_INFO: [u8; map::IMAGE_INFO_LEN] = image::image_info(Part::App, map::SLOT_A);

type Unit = Engine<Flash, SerialLink<Port>, HardwareRng, TickClock>;

/// Stack use above this is reported: 16 KiB down RAM ends (`link/app.x`), and a fault there is a reset.
const STACK_ALARM: u32 = 14 * 1024;

#[cortex_m_rt::entry]
fn main() -> ! {
    let (Some(mut core), Some(chip)) = (cortex_m::Peripherals::take(), stm32f429::Peripherals::take()) else {
        fault::record_and_reset(DeviceFailure::BootPanic.code(), 0)
    };
    // Boot has started it; a debugger that starts the app directly has not.
    let watchdog = Watchdog::start(chip.IWDG, &chip.DBGMCU);
    let cause = hw::take_reset_cause(&chip.RCC);
    let crash = fault::take();

    clock::start_tick(&mut core.SYST);
    let pll = clock::start_rng_clock(&chip.RCC);
    let port = Port::new(chip.USART1, &chip.GPIOA, &chip.RCC);
    let rng = HardwareRng::new(chip.RNG, &chip.RCC);
    let facts = Facts {
        unit: UnitId(hw::uid()),
        firmware: image::VERSION,
        reset_cause: cause.0,
        ram_high_water: stack::ram_high_water,
        rekey_every_ms: REKEY_EVERY_MS,
    };
    let engine = make_engine(facts, Flash::new(chip.FLASH), port, rng);

    if let Some((code, detail)) = crash {
        engine.report(DeviceFailure::from_code(code).unwrap_or(DeviceFailure::BootPanic), detail);
    } else if cause.is_watchdog() {
        engine.report(DeviceFailure::WatchdogReset, 0);
    } else if cause.is_brown_out() {
        engine.report(DeviceFailure::PowerBrownOut, 0);
    }
    if pll.is_err() {
        engine.report(DeviceFailure::ClockFailed, 0);
    }

    let mut lost = 0;
    let mut alarmed = false;
    let mut measure_at = 0;
    loop {
        watchdog.feed();
        let now = clock::now_ms();
        if now >= measure_at {
            // Seldom: it walks the painted part of the stack.
            measure_at = now + 10_000;
            let high_water = stack::stack_high_water();
            if high_water > STACK_ALARM && !alarmed {
                alarmed = true;
                engine.report(DeviceFailure::BootStackLow, high_water);
            }
        }
        let lost_now = engine.link().port().lost();
        if lost_now != lost {
            lost = lost_now;
            engine.report(DeviceFailure::LinkOverrun, lost);
        }
        match engine.poll() {
            // The tick wakes us in time for whatever is due; a byte wakes us at once.
            Action::SleepUntil(_) => engine.link().port().sleep(),
            Action::Reset => {
                // Let the last answer out, at most 50 ms: a stuck transmitter must not veto a reset.
                let end = clock::now_ms() + 50;
                while !engine.link().port().is_sent() && clock::now_ms() < end {}
                cortex_m::peripheral::SCB::sys_reset()
            }
        }
    }
}

/// The engine is a static, so that the stack holds call frames only and its limit means something. Built in a
/// frame of its own: the copy that construction needs is gone before anything deep runs.
#[inline(never)]
fn make_engine(facts: Facts, flash: Flash, port: Port, rng: HardwareRng) -> &'static mut Unit {
    match cortex_m::singleton!(: Unit = Engine::new(facts, flash, SerialLink::new(port), rng, TickClock)) {
        Some(engine) => engine,
        // Main runs once.
        None => fault::record_and_reset(DeviceFailure::BootPanic.code(), 0),
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    fault::record_and_reset(DeviceFailure::BootPanic.code(), info.location().map_or(0, |at| at.line()))
}

#[cortex_m_rt::exception]
unsafe fn HardFault(frame: &cortex_m_rt::ExceptionFrame) -> ! {
    fault::record_and_reset(DeviceFailure::BootHardFault.code(), frame.pc())
}
