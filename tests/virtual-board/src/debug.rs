//! Halting debug (ARM DDI 0403 C1) and the debug access port (ADIv5.2).
//!
//! The emulated core has no debug unit, so this holds its registers and the
//! board's run loop obeys them. A halt always finds the core runnable: sleep and
//! lockup are left when it halts, as on the chip.

/// DHCSR bits.
pub(crate) mod dhcsr {
    pub const C_DEBUGEN: u32 = 1 << 0;
    pub const C_HALT: u32 = 1 << 1;
    pub const C_STEP: u32 = 1 << 2;
    pub const C_MASKINTS: u32 = 1 << 3;
    pub const S_REGRDY: u32 = 1 << 16;
    pub const S_HALT: u32 = 1 << 17;
    pub const S_SLEEP: u32 = 1 << 18;
    pub const S_LOCKUP: u32 = 1 << 19;
    pub const S_RETIRE_ST: u32 = 1 << 24;
    pub const S_RESET_ST: u32 = 1 << 25;
    pub const KEY: u32 = 0xa05f_0000;
}

/// DFSR bits: why the core halted.
pub(crate) mod dfsr {
    pub const HALTED: u32 = 1 << 0;
    pub const BKPT: u32 = 1 << 1;
    pub const VCATCH: u32 = 1 << 3;
}

pub(crate) const VC_CORERESET: u32 = 1 << 0;
pub(crate) const VC_HARDERR: u32 = 1 << 10;
/// DEMCR bits kept here; TRCENA lives in the core.
pub(crate) const DEMCR_KEPT: u32 = 0x000f_07f1;
pub(crate) const DEMCR_TRCENA: u32 = 1 << 24;

/// Instruction comparators of the flash patch and breakpoint unit.
const COMPARATORS: usize = 6;

/// The debug registers of the core.
#[derive(Debug, Default)]
pub(crate) struct DebugUnit {
    /// C_DEBUGEN and C_MASKINTS as last written.
    pub control: u32,
    pub halted: bool,
    pub dfsr: u32,
    pub dcrdr: u32,
    pub demcr: u32,
    pub reset_seen: bool,
    pub retired: bool,
    fpb_enabled: bool,
    comparators: [u32; COMPARATORS],
}

impl DebugUnit {
    pub fn enabled(&self) -> bool {
        self.control & dhcsr::C_DEBUGEN != 0
    }

    pub fn fpb_read(&self, address: u32) -> u32 {
        match address {
            0xe000_2000 => (COMPARATORS as u32) << 4 | u32::from(self.fpb_enabled),
            0xe000_2008..=0xe000_201f => self.comparators[((address - 0xe000_2008) / 4) as usize],
            _ => 0,
        }
    }

    pub fn fpb_write(&mut self, address: u32, value: u32) {
        match address {
            0xe000_2000 if value & 2 != 0 => self.fpb_enabled = value & 1 != 0,
            0xe000_2008..=0xe000_201f => {
                self.comparators[((address - 0xe000_2008) / 4) as usize] = value & 0xdfff_fffd
            }
            _ => {}
        }
    }

    /// Whether a comparator matches the halfword at `pc`.
    pub fn breaks_at(&self, pc: u32) -> bool {
        self.fpb_enabled
            && self.comparators.iter().any(|c| {
                let half = if pc & 2 == 0 { 1 << 30 } else { 1 << 31 };
                c & 1 != 0 && c & 0x1fff_fffc == pc & !3 && c & half != 0
            })
    }
}

/// CoreSight identification of the blocks on the private peripheral bus, so that
/// a debugger walking the ROM table meets what an F429 shows.
pub(crate) fn coresight(address: u32) -> Option<u32> {
    let (class, part, designer): (u8, u16, u16) = match address & !0xfff {
        0xe000_0000 => (0xe, 0x001, 0x43b),
        0xe000_1000 => (0xe, 0x002, 0x43b),
        0xe000_2000 => (0xe, 0x003, 0x43b),
        0xe000_e000 => (0xe, 0x00c, 0x43b),
        0xe00f_f000 => (0x1, 0x419, 0x020),
        _ => return None,
    };
    let offset = address & 0xfff;
    if address & !0xfff == 0xe00f_f000 {
        match offset {
            0x000 => return Some(0xfff0_f003),
            0x004 => return Some(0xfff0_2003),
            0x008 => return Some(0xfff0_3003),
            0x00c => return Some(0xfff0_1003),
            0xfcc => return Some(1),
            _ => {}
        }
    }
    Some(match offset {
        0xfd0 => u32::from(designer >> 8),
        0xfe0 => u32::from(part & 0xff),
        0xfe4 => u32::from(part >> 8) | u32::from(designer & 0xf) << 4,
        0xfe8 => 0x08 | u32::from(designer >> 4 & 7),
        0xff0 => 0x0d,
        0xff4 => u32::from(class) << 4,
        0xff8 => 0x05,
        0xffc => 0xb1,
        _ => return None,
    })
}

/// A DAP transfer that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DapError {
    /// No power, or NRST held with nothing to answer: the wire stays high.
    NoAnswer,
    /// The access faulted on the bus.
    Fault,
}

/// Debug port and AHB access port registers (ADIv5.2 B2, C2).
#[derive(Debug, Default)]
pub(crate) struct DapRegisters {
    pub ctrl: u32,
    pub select: u32,
    pub csw: u32,
    pub tar: u32,
    pub rdbuff: u32,
    pub sticky: bool,
}

/// DPIDR of the F4's SW-DP.
pub(crate) const DPIDR: u32 = 0x2ba0_1477;
/// IDR of its AHB-AP.
pub(crate) const AHB_AP_IDR: u32 = 0x2477_0011;
/// CSW: device enabled, debug software enabled.
pub(crate) const CSW_FIXED: u32 = 0x40;
/// CTRL/STAT: a debugger has asked for the debug power domain.
pub(crate) const CDBGPWRUPREQ: u32 = 1 << 28;
