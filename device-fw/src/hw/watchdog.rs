//! The independent watchdog (RM0090 §21): once started, only a reset stops it.
//!
//! Period: LSI 17–47 kHz (32 typical) / 64, reload 4095 gives 5.6–15.4 s (8.2 s typical). The longest
//! stretch between two feeds is a 64 KiB sector erase in bank 1, during which the CPU itself is stalled
//! (up to 2 s worst case, datasheet table 48), plus verification of a message 2 (about 2 s at 16 MHz).

use stm32f4::stm32f429::{DBGMCU, IWDG};

/// Word offsets of the registers.
const KR: usize = 0;
const PR: usize = 1;
const RLR: usize = 2;
const SR: usize = 3;

/// Proof that the watchdog runs; owns the right to feed it.
pub struct Watchdog {
    _owned: IWDG,
}

impl Watchdog {
    /// Starts the watchdog, or takes over one that boot has started.
    pub fn start(iwdg: IWDG, dbgmcu: &DBGMCU) -> Watchdog {
        // A halted core must not be reset under the hands of a person who debugs: DBG_IWDG_STOP, bit 12
        // (RM0090 §38.16.4). It changes nothing while no debugger halts the core.
        // SAFETY: one documented bit, the others written back as read.
        dbgmcu.apb1_fz().modify(|r, w| unsafe { w.bits(r.bits() | 1 << 12) });
        let watchdog = Watchdog { _owned: iwdg };
        watchdog.write(KR, 0xCCCC);
        watchdog.write(KR, 0x5555);
        watchdog.write(PR, 4);
        watchdog.write(RLR, 0xFFF);
        // The values cross into the LSI domain in up to five LSI cycles; PVU and RVU tell when.
        for _ in 0..100_000 {
            if watchdog.status() == 0 {
                break;
            }
        }
        watchdog.feed();
        watchdog
    }

    /// Restarts the countdown. Main loop only.
    pub fn feed(&self) {
        self.write(KR, 0xAAAA);
    }

    /// Words, as RM0090 §21.4 allows besides the half-words that the PAC would use.
    fn write(&self, register: usize, value: u32) {
        // SAFETY: a register of the block this type owns; keys and fields of RM0090 §21.4.
        unsafe { IWDG::ptr().cast::<u32>().cast_mut().add(register).write_volatile(value) }
    }

    fn status(&self) -> u32 {
        // SAFETY: as above.
        unsafe { IWDG::ptr().cast::<u32>().add(SR).read_volatile() }
    }
}
