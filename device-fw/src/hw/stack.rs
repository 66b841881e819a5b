//! RAM use, measured by the paint that `cortex-m-rt` puts on the stack before `main`.

use cortex_m_rt::STACK_PAINT_VALUE;

unsafe extern "C" {
    static _stack_start: u32;
    static _stack_end: u32;
    static __sdata: u32;
    static __euninit: u32;
}

/// Deepest stack use since reset, in bytes.
pub fn stack_high_water() -> u32 {
    let (mut at, start) = (&raw const _stack_end, &raw const _stack_start);
    while at < start {
        // SAFETY: every word between the two linker symbols is RAM reserved for the stack; volatile because
        // the frames below us are not ours to reason about.
        if unsafe { at.read_volatile() } != STACK_PAINT_VALUE {
            break;
        }
        // SAFETY: still at most `_stack_start`.
        at = unsafe { at.add(1) };
    }
    (start as u32).saturating_sub(at as u32)
}

/// Bytes of RAM ever used: statics and the deepest stack.
pub fn ram_high_water() -> u32 {
    statics().saturating_add(stack_high_water())
}

/// Bytes of statics (`.data`, `.bss`, `.uninit`).
fn statics() -> u32 {
    (&raw const __euninit as u32).saturating_sub(&raw const __sdata as u32)
}
