//! What is left of a crash: a code and a detail in a RAM cell that start-up code never touches.
//!
//! A panic or HardFault writes the cell and resets; the next start of `app` reports it on the log channel.
//! Nothing is printed at the moment of the fault: the state of rings and interrupts is unknown then.

use keywright_protocol::map::{RAM_BASE, RAM_LEN};

/// The last 64 bytes of SRAM3, outside both images' RAM regions (`link/common.x`).
const CELL: *mut [u32; 4] = (RAM_BASE + RAM_LEN - 64) as usize as *mut [u32; 4];
/// Tells a written cell from what RAM holds after power-on.
const MAGIC: u32 = 0x4B57_4653;

/// Stores `code` and `detail` and resets the chip.
pub fn record_and_reset(code: u16, detail: u32) -> ! {
    let code = u32::from(code);
    // SAFETY: reserved RAM, used by nobody else; interrupts no longer matter.
    unsafe { CELL.write_volatile([MAGIC, code, detail, check(code, detail)]) };
    cortex_m::peripheral::SCB::sys_reset()
}

/// Takes the record of the last crash, if there is one.
pub fn take() -> Option<(u16, u32)> {
    // SAFETY: as above; the main program runs alone at this point.
    let [magic, code, detail, sum] = unsafe { CELL.read_volatile() };
    // SAFETY: as above.
    unsafe { CELL.write_volatile([0; 4]) };
    (magic == MAGIC && sum == check(code, detail)).then_some((code as u16, detail))
}

const fn check(code: u32, detail: u32) -> u32 {
    !(MAGIC ^ code.rotate_left(16) ^ detail)
}
