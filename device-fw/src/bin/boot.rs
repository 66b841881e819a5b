//! Boot code in sectors 0–3: looks at slot A, jumps, or says why not.
//!
//! Decides from flash contents alone and changes nothing. Signatures are checked here once update images
//! exist; until then a bad vector table is the one thing that would end in a lockup.
#![no_std]
#![no_main]

use core::panic::PanicInfo;
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use keywright_device_fw::hw::{clock::CORE_HZ, fault, usart::PolledPort, watchdog::Watchdog};
use keywright_device_fw::image::{self, HEAD_LEN, Part, SlotFault};
use keywright_protocol::control::{LogRecord, Severity};
use keywright_protocol::serial::{self, Channel};
use keywright_protocol::{DeviceFailure, map};
use stm32f4::stm32f429;

/// What the station checks before it flashes us (`docs/contracts.md`).
#[used]
#[unsafe(link_section = ".image_info")]
static IMAGE_INFO: [u8; map::IMAGE_INFO_LEN] = image::image_info(Part::Boot, map::BOOT);

/// Seconds between two reports of a slot that cannot be started.
const REPORT_EVERY_S: u32 = 2;

#[cortex_m_rt::entry]
fn main() -> ! {
    let (Some(core), Some(chip)) = (cortex_m::Peripherals::take(), stm32f429::Peripherals::take()) else {
        fault::record_and_reset(DeviceFailure::BootPanic.code(), 0)
    };
    // From here on a core that hangs anywhere, app included, is reset.
    let watchdog = Watchdog::start(chip.IWDG, &chip.DBGMCU);
    // SAFETY: slot A is flash; the first bytes are readable whatever they hold.
    let head = unsafe { &*(map::SLOT_A.base as usize as *const [u8; HEAD_LEN]) };
    match image::check_slot(head, map::SLOT_A) {
        Ok(_) => {
            // SAFETY: the table's stack pointer and reset vector were checked just now; no interrupt is
            // enabled, and VTOR is 512-byte aligned as 107 vectors need (ARM DDI 0403 B3.2.5).
            unsafe {
                core.SCB.vtor.write(map::SLOT_A.base);
                cortex_m::asm::dsb();
                cortex_m::asm::isb();
                cortex_m::asm::bootload(map::SLOT_A.base as usize as *const u32)
            }
        }
        Err(reason) => {
            let mut port = PolledPort::new(chip.USART1, &chip.GPIOA, &chip.RCC);
            wait_with_report(&mut port, core.SYST, &watchdog, reason)
        }
    }
}

/// Stays here, fed and audible: a reset loop would look like a dead board and wear nothing but patience.
fn wait_with_report(port: &mut PolledPort, mut syst: SYST, watchdog: &Watchdog, reason: SlotFault) -> ! {
    let record = LogRecord {
        code: DeviceFailure::BootImageInvalid.code(),
        severity: Severity::ERROR,
        detail: reason as u32,
    };
    syst.set_clock_source(SystClkSource::Core);
    syst.set_reload(CORE_HZ / 2 - 1);
    syst.clear_current();
    syst.enable_counter();
    loop {
        let mut line = [0; serial::encoded_len(LogRecord::LEN)];
        if let Ok(len) = serial::encode(Channel::LOG, &record.to_bytes(), &mut line) {
            port.write(line.get(..len).unwrap_or(&[]));
        }
        for _ in 0..2 * REPORT_EVERY_S {
            while !syst.has_wrapped() {}
            watchdog.feed();
        }
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
