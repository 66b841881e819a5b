//! A quick way through the instructions that firmware spends its life in: arithmetic, branches, RAM.
//!
//! The emulator library decodes and locks anew at every instruction, which costs some seventy nanoseconds; a boot of real
//! firmware is tens of millions of instructions. Here an instruction of the flash is decoded once, by the library's own decoder,
//! and executed on a copy of the registers.
//!
//! Invariants:
//! - The library's core stays the model: whatever is not plain (a register window, a fault, an exception, a special register, an
//!   odd encoding) is left to it, before it has had any effect. A run here equals the same number of single steps there, in
//!   registers, memory and cycles; `tests` below and `tests/board.rs` compare the two.
//! - Nothing here starts or ends a flash operation, changes what may interrupt, or touches a peripheral. So nothing that
//!   [`Board`](crate::Board) looks at between two instructions can change within a run.
//! - A decoded instruction is used only while the flash is as it was when it was decoded.

use crate::board::{CCM_BASE, CCM_LEN, SRAM_BASE, SRAM_LEN};
use crate::flash::{FLASH_BASE, FLASH_LEN, FlashStore};
use rsemu::core::space::RamStore;
use rsemu::core::value::{Endian, Width};
use rsemu::cpu::arm::v7m::isa::{
    BitfieldOp, Cond, DpOp, ExtendOp, HintOp, Insn, MemOffset, MiscOp, Operand, ShiftType, Size, decode,
    is_32bit,
};
use rsemu::cpu::arm::v7m::sys::{Exception, ccr};
use rsemu::cpu::arm::v7m::{ArmV7m, xpsr};
use std::sync::Arc;

/// Decoded instructions that are kept; a power of two.
const SLOTS: usize = 1 << 14;
/// No accumulator.
const NONE: u8 = 16;
/// `CONTROL.nPRIV`.
const NPRIV: u32 = 1;
/// `PRIMASK` among the special registers.
const PRIMASK: u8 = 16;
/// `CONTROL.SPSEL`.
const SPSEL: u32 = 2;

/// Whether an instruction sets the flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flags {
    Never,
    Always,
    /// A narrow encoding: not inside an IT block.
    Outside,
}

/// How a base register moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    /// It stays.
    Offset,
    /// It becomes the address.
    Before,
    /// It is the address, and moves afterwards.
    After,
}

/// What a load or store moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Word,
    Half,
    Byte,
    SignedHalf,
    SignedByte,
}

impl Item {
    const fn of(size: Size, signed: bool) -> Item {
        match (size, signed) {
            (Size::Word, _) => Item::Word,
            (Size::Half, false) => Item::Half,
            (Size::Byte, false) => Item::Byte,
            (Size::Half, true) => Item::SignedHalf,
            (Size::Byte, true) => Item::SignedByte,
        }
    }
}

/// One instruction, with everything resolved that its address decides.
#[derive(Debug, Clone, Copy)]
enum Op {
    /// The library's business.
    Other,
    Nop,
    Set {
        rd: u8,
        value: u32,
    },
    SetTop {
        rd: u8,
        value: u32,
    },
    Move {
        rd: u8,
        rm: u8,
    },
    AddValue {
        rd: u8,
        rn: u8,
        value: u32,
    },
    AddReg {
        rd: u8,
        rn: u8,
        rm: u8,
    },
    SubReg {
        rd: u8,
        rn: u8,
        rm: u8,
    },
    EorReg {
        rd: u8,
        rn: u8,
        rm: u8,
    },
    AndReg {
        rd: u8,
        rn: u8,
        rm: u8,
    },
    OrrReg {
        rd: u8,
        rn: u8,
        rm: u8,
    },
    /// A sum with an immediate that sets the flags.
    AddFlags {
        flags: Flags,
        rd: u8,
        rn: u8,
        value: u32,
    },
    SubFlags {
        flags: Flags,
        rd: u8,
        rn: u8,
        value: u32,
    },
    /// `PRIMASK` is read.
    ReadMask {
        rd: u8,
    },
    /// `CPSID i`: nothing more may interrupt. The way back is not plain, because something may be waiting for it.
    Mask,
    Compare {
        rn: u8,
        value: u32,
    },
    CompareReg {
        rn: u8,
        rm: u8,
    },
    Value {
        op: DpOp,
        flags: Flags,
        rd: u8,
        rn: u8,
        value: u32,
        carry: Option<bool>,
    },
    Reg {
        op: DpOp,
        flags: Flags,
        rd: u8,
        rn: u8,
        rm: u8,
    },
    Shifted {
        op: DpOp,
        flags: Flags,
        rd: u8,
        rn: u8,
        rm: u8,
        ty: ShiftType,
        amount: u8,
    },
    ShiftReg {
        ty: ShiftType,
        flags: Flags,
        rd: u8,
        rn: u8,
        rm: u8,
    },
    Branch {
        to: u32,
    },
    BranchIf {
        cond: u8,
        to: u32,
    },
    Call {
        to: u32,
    },
    Jump {
        rm: u8,
    },
    JumpCall {
        rm: u8,
    },
    IfZero {
        nonzero: bool,
        rn: u8,
        to: u32,
    },
    Table {
        rn: u8,
        rm: u8,
        half: bool,
    },
    It {
        state: u8,
    },
    Load {
        item: Item,
        rt: u8,
        rn: u8,
        by: u32,
        base: Base,
    },
    LoadReg {
        item: Item,
        rt: u8,
        rn: u8,
        rm: u8,
        lsl: u8,
    },
    LoadAt {
        item: Item,
        rt: u8,
        at: u32,
    },
    Store {
        item: Item,
        rt: u8,
        rn: u8,
        by: u32,
        base: Base,
    },
    StoreReg {
        item: Item,
        rt: u8,
        rn: u8,
        rm: u8,
        lsl: u8,
    },
    LoadTwo {
        rt: u8,
        rt2: u8,
        rn: u8,
        by: u32,
        base: Base,
    },
    StoreTwo {
        rt: u8,
        rt2: u8,
        rn: u8,
        by: u32,
        base: Base,
    },
    LoadMany {
        rn: u8,
        list: u16,
        wback: bool,
        before: bool,
    },
    StoreMany {
        rn: u8,
        list: u16,
        wback: bool,
        before: bool,
    },
    Mul {
        flags: Flags,
        rd: u8,
        rn: u8,
        rm: u8,
        ra: u8,
        sub: bool,
    },
    MulLong {
        signed: bool,
        accumulate: bool,
        both: bool,
        lo: u8,
        hi: u8,
        rn: u8,
        rm: u8,
    },
    Div {
        signed: bool,
        rd: u8,
        rn: u8,
        rm: u8,
    },
    Extend {
        op: ExtendOp,
        rd: u8,
        rn: u8,
        rm: u8,
        rotate: u8,
    },
    Misc {
        op: MiscOp,
        rd: u8,
        rm: u8,
    },
    Bitfield {
        op: BitfieldOp,
        rd: u8,
        rn: u8,
        lsb: u8,
        mask: u32,
    },
}

/// What an instruction at `pc` is here.
fn resolve(pc: u32, first: u16, second: u16) -> Op {
    let narrow = !is_32bit(first);
    let insn = decode(first, second);
    let here = pc.wrapping_add(4);
    let aligned = here & !3;
    let offset =
        |base: u32, by: u32, add: bool| if add { base.wrapping_add(by) } else { base.wrapping_sub(by) };
    // The program counter as an ordinary operand is rare, and has rules of its own.
    let plain = |regs: &[u8]| regs.iter().all(|r| *r < 15);
    let flags = |s: bool| match (s, narrow) {
        (false, _) => Flags::Never,
        (true, false) => Flags::Always,
        (true, true) => Flags::Outside,
    };
    match insn {
        Insn::DataProc { op, s, rd, rn, operand } => {
            let rn = if op.is_unary() { 0 } else { rn };
            let rd = if op.is_test() { 0 } else { rd };
            let flags = if op.is_test() && s { Flags::Always } else { flags(s) };
            if !plain(&[rd, rn]) {
                return Op::Other;
            }
            match operand {
                Operand::Imm { value, carry } => match (op, flags) {
                    (DpOp::Mov, Flags::Never) => Op::Set { rd, value },
                    (DpOp::Add, Flags::Never) => Op::AddValue { rd, rn, value },
                    (DpOp::Sub, Flags::Never) => Op::AddValue { rd, rn, value: value.wrapping_neg() },
                    (DpOp::Cmp, Flags::Always) => Op::Compare { rn, value },
                    (DpOp::Add, flags) => Op::AddFlags { flags, rd, rn, value },
                    (DpOp::Sub, flags) => Op::SubFlags { flags, rd, rn, value },
                    _ => Op::Value { op, flags, rd, rn, value, carry },
                },
                Operand::Reg { rm: 15, .. } => Op::Other,
                Operand::Reg { rm, shift } if shift.is_none() => match (op, flags) {
                    (DpOp::Mov, Flags::Never) => Op::Move { rd, rm },
                    (DpOp::Add, Flags::Never) => Op::AddReg { rd, rn, rm },
                    (DpOp::Sub, Flags::Never) => Op::SubReg { rd, rn, rm },
                    (DpOp::Eor, Flags::Never) => Op::EorReg { rd, rn, rm },
                    (DpOp::And, Flags::Never) => Op::AndReg { rd, rn, rm },
                    (DpOp::Orr, Flags::Never) => Op::OrrReg { rd, rn, rm },
                    (DpOp::Cmp, Flags::Always) => Op::CompareReg { rn, rm },
                    _ => Op::Reg { op, flags, rd, rn, rm },
                },
                Operand::Reg { rm, shift } => {
                    Op::Shifted { op, flags, rd, rn, rm, ty: shift.ty, amount: shift.amount }
                }
            }
        }
        Insn::ShiftReg { ty, s, rd, rn, rm } if plain(&[rd, rn, rm]) => {
            Op::ShiftReg { ty, flags: flags(s), rd, rn, rm }
        }
        Insn::Adr { rd, imm, add } if rd < 15 => Op::Set { rd, value: offset(aligned, imm, add) },
        Insn::MovImm16 { top: true, rd, imm } if rd < 15 => Op::SetTop { rd, value: u32::from(imm) << 16 },
        Insn::MovImm16 { top: false, rd, imm } if rd < 15 => Op::Set { rd, value: u32::from(imm) },
        Insn::Branch { cond: None, offset } => Op::Branch { to: here.wrapping_add_signed(offset) & !1 },
        Insn::Branch { cond: Some(Cond(cond)), offset } if cond < 14 => {
            Op::BranchIf { cond, to: here.wrapping_add_signed(offset) & !1 }
        }
        Insn::BranchLink { offset } => Op::Call { to: here.wrapping_add_signed(offset) & !1 },
        Insn::Bx { rm } if rm < 15 => Op::Jump { rm },
        Insn::Blx { rm } if rm < 15 => Op::JumpCall { rm },
        Insn::Cbz { nonzero, rn, offset } if rn < 15 => {
            Op::IfZero { nonzero, rn, to: here.wrapping_add(offset) & !1 }
        }
        Insn::TableBranch { rn, rm, half } if rm < 15 => Op::Table { rn, rm, half },
        Insn::It { cond, mask } => Op::It { state: cond.0 << 4 | mask },
        Insn::LoadStore { load, size, signed, rt, rn, offset: by, index, add, wback, unpriv: false }
            if plain(&[rt, rn]) =>
        {
            let item = Item::of(size, signed);
            match by {
                MemOffset::Imm(by) => {
                    let by = offset(0, by, add);
                    let base = match (index, wback) {
                        (true, false) => Base::Offset,
                        (true, true) => Base::Before,
                        (false, true) => Base::After,
                        (false, false) => return Op::Other,
                    };
                    if load {
                        Op::Load { item, rt, rn, by, base }
                    } else {
                        Op::Store { item, rt, rn, by, base }
                    }
                }
                MemOffset::Reg { rm, lsl } if rm < 15 && index && add && !wback => {
                    if load {
                        Op::LoadReg { item, rt, rn, rm, lsl }
                    } else {
                        Op::StoreReg { item, rt, rn, rm, lsl }
                    }
                }
                MemOffset::Reg { .. } => Op::Other,
            }
        }
        Insn::LoadLiteral { size, signed, rt, imm, add } if rt < 15 => {
            Op::LoadAt { item: Item::of(size, signed), rt, at: offset(aligned, imm, add) }
        }
        Insn::LoadStoreDual { load, rt, rt2, rn, imm, index, add, wback } if plain(&[rt, rt2, rn]) => {
            let by = offset(0, imm, add);
            let base = match (index, wback) {
                (true, false) => Base::Offset,
                (true, true) => Base::Before,
                (false, true) => Base::After,
                (false, false) => return Op::Other,
            };
            if load { Op::LoadTwo { rt, rt2, rn, by, base } } else { Op::StoreTwo { rt, rt2, rn, by, base } }
        }
        Insn::LoadStoreMultiple { load, rn, list, wback, before } if rn < 15 && list != 0 => {
            if load {
                Op::LoadMany { rn, list, wback, before }
            } else if list & 1 << 15 == 0 {
                Op::StoreMany { rn, list, wback, before }
            } else {
                Op::Other
            }
        }
        Insn::Mul { rd, rn, rm, ra, sub, s } if plain(&[rd, rn, rm, ra.unwrap_or(0)]) => {
            Op::Mul { flags: flags(s), rd, rn, rm, ra: ra.unwrap_or(NONE), sub }
        }
        Insn::MulLong { signed, accumulate, rdlo, rdhi, rn, rm, umaal } if plain(&[rdlo, rdhi, rn, rm]) => {
            Op::MulLong { signed, accumulate, both: umaal, lo: rdlo, hi: rdhi, rn, rm }
        }
        Insn::Div { signed, rd, rn, rm } if plain(&[rd, rn, rm]) => Op::Div { signed, rd, rn, rm },
        Insn::Extend { op, rd, rn, rm, rotate }
            if plain(&[rd, rm]) && !matches!(op, ExtendOp::Sxtb16 | ExtendOp::Uxtb16) =>
        {
            Op::Extend { op, rd, rn, rm, rotate }
        }
        Insn::Misc { op, rd, rm } if plain(&[rd, rm]) => Op::Misc { op, rd, rm },
        Insn::Bitfield { op, rd, rn, lsb, width }
            if rd < 15 && (rn < 15 || op == BitfieldOp::Bfc) && (1..=32).contains(&width) && lsb < 32 =>
        {
            let mask = u32::MAX >> (32 - u32::from(width));
            Op::Bitfield { op, rd, rn: if rn < 15 { rn } else { 0 }, lsb, mask }
        }
        Insn::Mrs { rd, sysm: PRIMASK } if rd < 15 => Op::ReadMask { rd },
        Insn::Cps { enable: false, i: true, f: false } => Op::Mask,
        Insn::Barrier { .. } => Op::Nop,
        Insn::Hint { op: HintOp::Nop | HintOp::Yield | HintOp::Preload } => Op::Nop,
        _ => Op::Other,
    }
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Where it is, below the epoch in which it was last seen to be so.
    key: u64,
    raw: u32,
    /// Its bytes.
    len: u8,
    /// Its cycles, if it does not branch.
    cost: u8,
    op: Op,
}

impl Slot {
    /// No instruction is at an odd address.
    const EMPTY: Slot = Slot { key: 1, raw: 0, len: 2, cost: 1, op: Op::Other };
}

/// The decoded instructions of one chip and the memories that they may touch.
#[derive(Debug)]
pub(crate) struct Fast {
    slots: Box<[Slot]>,
    /// The flash's count of writes in this epoch.
    writes: u64,
    epoch: u32,
    store: Arc<FlashStore>,
    bus: Bus,
}

/// The three memories.
#[derive(Debug)]
struct Bus {
    sram: Arc<RamStore>,
    ccm: Arc<RamStore>,
    flash: Arc<RamStore>,
}

impl Bus {
    #[inline(always)]
    fn read(&self, at: u32, width: Width) -> Option<u32> {
        let sram = at.wrapping_sub(SRAM_BASE);
        if sram < SRAM_LEN {
            return self.sram.read_value(u64::from(sram), width, Endian::Little).ok().map(|v| v as u32);
        }
        let flash = flash_offset(at);
        if flash < FLASH_LEN {
            return self.flash.read_value(u64::from(flash), width, Endian::Little).ok().map(|v| v as u32);
        }
        let ccm = at.wrapping_sub(CCM_BASE);
        if ccm < CCM_LEN {
            return self.ccm.read_value(u64::from(ccm), width, Endian::Little).ok().map(|v| v as u32);
        }
        None
    }

    #[inline(always)]
    fn write(&self, at: u32, width: Width, value: u32) -> Option<()> {
        let sram = at.wrapping_sub(SRAM_BASE);
        if sram < SRAM_LEN {
            // It may not reach beyond the end: then it is the bus's to refuse, byte by byte.
            (sram <= SRAM_LEN - width.bytes() as u32).then_some(())?;
            return self.sram.write_value(u64::from(sram), width, u64::from(value), Endian::Little).ok();
        }
        let ccm = at.wrapping_sub(CCM_BASE);
        if ccm < CCM_LEN {
            (ccm <= CCM_LEN - width.bytes() as u32).then_some(())?;
            return self.ccm.write_value(u64::from(ccm), width, u64::from(value), Endian::Little).ok();
        }
        None
    }

    #[inline(always)]
    fn load(&self, at: u32, item: Item) -> Option<u32> {
        Some(match item {
            Item::Word => self.read(at, Width::U32)?,
            Item::Half => self.read(at, Width::U16)?,
            Item::Byte => self.read(at, Width::U8)?,
            Item::SignedHalf => self.read(at, Width::U16)? as u16 as i16 as u32,
            Item::SignedByte => self.read(at, Width::U8)? as u8 as i8 as u32,
        })
    }

    #[inline(always)]
    fn store(&self, at: u32, item: Item, value: u32) -> Option<()> {
        match item {
            Item::Word => self.write(at, Width::U32, value),
            Item::Half | Item::SignedHalf => self.write(at, Width::U16, value),
            Item::Byte | Item::SignedByte => self.write(at, Width::U8, value),
        }
    }

    /// Whether `words` words from `at` on lie in one RAM.
    fn is_ram(at: u32, words: u32) -> bool {
        inside(at.wrapping_sub(SRAM_BASE), SRAM_LEN, words)
            || inside(at.wrapping_sub(CCM_BASE), CCM_LEN, words)
    }
}

/// Whether `words` words from `offset` on lie in a memory of `len` bytes.
#[inline(always)]
fn inside(offset: u32, len: u32, words: u32) -> bool {
    offset < len && len - offset >= 4 * words
}

/// The offset of `at` in the flash array: more than its length if it is not there.
#[inline(always)]
fn flash_offset(at: u32) -> u32 {
    if at < FLASH_LEN { at } else { at.wrapping_sub(FLASH_BASE) }
}

/// The part of the core that plain instructions touch.
struct Core {
    r: [u32; 16],
    n: bool,
    z: bool,
    c: bool,
    v: bool,
    it: u8,
    primask: bool,
    in_handler: bool,
    privileged: bool,
}

/// Where an instruction leads.
enum Then {
    Next,
    Go(u32),
}

impl Core {
    #[inline(always)]
    fn reg(&self, index: u8) -> u32 {
        self.r[usize::from(index & 15)]
    }

    #[inline(always)]
    fn set(&mut self, index: u8, value: u32) {
        self.r[usize::from(index & 15)] = value;
    }

    #[inline(always)]
    fn set_nz(&mut self, value: u32) {
        self.n = value >> 31 != 0;
        self.z = value == 0;
    }

    #[inline(always)]
    fn passes(&self, cond: u8) -> bool {
        let base = match cond >> 1 {
            0 => self.z,
            1 => self.c,
            2 => self.n,
            3 => self.v,
            4 => self.c && !self.z,
            5 => self.n == self.v,
            6 => self.n == self.v && !self.z,
            _ => return true,
        };
        base != (cond & 1 != 0)
    }

    /// Whether flags are to be set by an instruction that was begun with this ITSTATE.
    #[inline(always)]
    fn sets(flags: Flags, it: u8) -> bool {
        match flags {
            Flags::Never => false,
            Flags::Always => true,
            Flags::Outside => it == 0,
        }
    }

    /// A branch that may leave Thumb state or return from an exception is not plain.
    #[inline(always)]
    fn target(&self, to: u32) -> Option<u32> {
        (to & 1 != 0 && !(self.in_handler && to >> 28 == 15)).then_some(to & !1)
    }

    #[inline(always)]
    fn compare(&mut self, a: u32, b: u32) {
        let (result, borrow) = a.overflowing_sub(b);
        self.set_nz(result);
        self.c = !borrow;
        self.v = (a ^ b) & (a ^ result) & 0x8000_0000 != 0;
    }

    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "an instruction has this many parts")]
    fn process(&mut self, op: DpOp, sets: bool, rd: u8, rn: u8, b: u32, carry: bool) {
        let a = self.reg(rn);
        let sum = |a: u32, b: u32, carry: bool| {
            let wide = u64::from(a) + u64::from(b) + u64::from(carry);
            let result = wide as u32;
            (result, wide >> 32 != 0, (a ^ result) & (b ^ result) & 0x8000_0000 != 0)
        };
        let (result, c, v) = match op {
            DpOp::And | DpOp::Tst => (a & b, carry, self.v),
            DpOp::Bic => (a & !b, carry, self.v),
            DpOp::Orr => (a | b, carry, self.v),
            DpOp::Orn => (a | !b, carry, self.v),
            DpOp::Eor | DpOp::Teq => (a ^ b, carry, self.v),
            DpOp::Add | DpOp::Cmn => sum(a, b, false),
            DpOp::Adc => sum(a, b, self.c),
            DpOp::Sbc => sum(a, !b, self.c),
            DpOp::Sub | DpOp::Cmp => sum(a, !b, true),
            DpOp::Rsb => sum(!a, b, true),
            DpOp::Mov => (b, carry, self.v),
            DpOp::Mvn => (!b, carry, self.v),
        };
        if !op.is_test() {
            self.set(rd, result);
        }
        if sets {
            self.set_nz(result);
            (self.c, self.v) = (c, v);
        }
    }

    /// One instruction. `None`: it is not plain, and nothing has happened.
    #[inline(always)]
    fn execute(&mut self, bus: &Bus, pc: u32, op: Op, it: u8) -> Option<Then> {
        match op {
            Op::Other => return None,
            Op::Nop => {}
            Op::Set { rd, value } => self.set(rd, value),
            Op::SetTop { rd, value } => self.set(rd, self.reg(rd) & 0xffff | value),
            Op::Move { rd, rm } => self.set(rd, self.reg(rm)),
            Op::AddValue { rd, rn, value } => self.set(rd, self.reg(rn).wrapping_add(value)),
            Op::AddReg { rd, rn, rm } => self.set(rd, self.reg(rn).wrapping_add(self.reg(rm))),
            Op::SubReg { rd, rn, rm } => self.set(rd, self.reg(rn).wrapping_sub(self.reg(rm))),
            Op::EorReg { rd, rn, rm } => self.set(rd, self.reg(rn) ^ self.reg(rm)),
            Op::AndReg { rd, rn, rm } => self.set(rd, self.reg(rn) & self.reg(rm)),
            Op::OrrReg { rd, rn, rm } => self.set(rd, self.reg(rn) | self.reg(rm)),
            Op::AddFlags { flags, rd, rn, value } => {
                let a = self.reg(rn);
                let (result, carry) = a.overflowing_add(value);
                self.set(rd, result);
                if Self::sets(flags, it) {
                    self.set_nz(result);
                    self.c = carry;
                    self.v = (a ^ result) & (value ^ result) & 0x8000_0000 != 0;
                }
            }
            Op::SubFlags { flags, rd, rn, value } => {
                let a = self.reg(rn);
                self.set(rd, a.wrapping_sub(value));
                if Self::sets(flags, it) {
                    self.compare(a, value);
                }
            }
            Op::ReadMask { rd } => {
                self.privileged.then_some(())?;
                self.set(rd, u32::from(self.primask));
            }
            Op::Mask => {
                self.privileged.then_some(())?;
                self.primask = true;
            }
            Op::Compare { rn, value } => self.compare(self.reg(rn), value),
            Op::CompareReg { rn, rm } => self.compare(self.reg(rn), self.reg(rm)),
            Op::Value { op, flags, rd, rn, value, carry } => {
                self.process(op, Self::sets(flags, it), rd, rn, value, carry.unwrap_or(self.c));
            }
            Op::Reg { op, flags, rd, rn, rm } => {
                self.process(op, Self::sets(flags, it), rd, rn, self.reg(rm), self.c);
            }
            Op::Shifted { op, flags, rd, rn, rm, ty, amount } => {
                let (b, carry) = shift(ty, self.reg(rm), u32::from(amount), self.c);
                self.process(op, Self::sets(flags, it), rd, rn, b, carry);
            }
            Op::ShiftReg { ty, flags, rd, rn, rm } => {
                let (result, carry) = shift(ty, self.reg(rn), self.reg(rm) & 0xff, self.c);
                self.set(rd, result);
                if Self::sets(flags, it) {
                    self.set_nz(result);
                    self.c = carry;
                }
            }
            Op::Branch { to } => {
                return Some(Then::Go(to));
            }
            Op::BranchIf { cond, to } => {
                if self.passes(cond) {
                    return Some(Then::Go(to));
                }
            }
            Op::Call { to } => {
                self.r[14] = pc.wrapping_add(4) | 1;
                return Some(Then::Go(to));
            }
            Op::Jump { rm } => {
                let to = self.target(self.reg(rm))?;
                return Some(Then::Go(to));
            }
            Op::JumpCall { rm } => {
                let to = self.target(self.reg(rm))?;
                self.r[14] = pc.wrapping_add(2) | 1;
                return Some(Then::Go(to));
            }
            Op::IfZero { nonzero, rn, to } => {
                if (self.reg(rn) != 0) == nonzero {
                    return Some(Then::Go(to));
                }
            }
            Op::Table { rn, rm, half } => {
                let here = pc.wrapping_add(4);
                let base = if rn == 15 { here } else { self.reg(rn) };
                let by = if half {
                    let at = base.wrapping_add(self.reg(rm).wrapping_mul(2));
                    (at & 1 == 0).then_some(())?;
                    bus.read(at, Width::U16)?
                } else {
                    bus.read(base.wrapping_add(self.reg(rm)), Width::U8)?
                };
                return Some(Then::Go(here.wrapping_add(2 * by) & !1));
            }
            Op::It { state } => self.it = state,
            Op::Load { item, rt, rn, by, base } => {
                let from = self.reg(rn);
                let moved = from.wrapping_add(by);
                let value = bus.load(if base == Base::After { from } else { moved }, item)?;
                if base != Base::Offset {
                    self.set(rn, moved);
                }
                self.set(rt, value);
            }
            Op::LoadReg { item, rt, rn, rm, lsl } => {
                let at = self.reg(rn).wrapping_add(self.reg(rm) << (lsl & 31));
                let value = bus.load(at, item)?;
                self.set(rt, value);
            }
            Op::LoadAt { item, rt, at } => {
                let value = bus.load(at, item)?;
                self.set(rt, value);
            }
            Op::Store { item, rt, rn, by, base } => {
                let from = self.reg(rn);
                let moved = from.wrapping_add(by);
                bus.store(if base == Base::After { from } else { moved }, item, self.reg(rt))?;
                if base != Base::Offset {
                    self.set(rn, moved);
                }
            }
            Op::StoreReg { item, rt, rn, rm, lsl } => {
                let at = self.reg(rn).wrapping_add(self.reg(rm) << (lsl & 31));
                bus.store(at, item, self.reg(rt))?;
            }
            Op::LoadTwo { rt, rt2, rn, by, base } => {
                let from = self.reg(rn);
                let moved = from.wrapping_add(by);
                let at = if base == Base::After { from } else { moved };
                (at & 3 == 0).then_some(())?;
                let (a, b) = (bus.read(at, Width::U32)?, bus.read(at.wrapping_add(4), Width::U32)?);
                self.set(rt, a);
                self.set(rt2, b);
                if base != Base::Offset {
                    self.set(rn, moved);
                }
            }
            Op::StoreTwo { rt, rt2, rn, by, base } => {
                let from = self.reg(rn);
                let moved = from.wrapping_add(by);
                let at = if base == Base::After { from } else { moved };
                (at & 3 == 0 && Bus::is_ram(at, 2)).then_some(())?;
                bus.write(at, Width::U32, self.reg(rt))?;
                bus.write(at.wrapping_add(4), Width::U32, self.reg(rt2))?;
                if base != Base::Offset {
                    self.set(rn, moved);
                }
            }
            Op::LoadMany { rn, list, wback, before } => {
                return self.load_many(bus, rn, list, wback, before);
            }
            Op::StoreMany { rn, list, wback, before } => {
                let (base, count) = (self.reg(rn), list.count_ones());
                let (start, end) = span(base, count, before);
                (start & 3 == 0 && Bus::is_ram(start, count)).then_some(())?;
                let (mut at, mut left) = (start, list);
                while left != 0 {
                    let index = left.trailing_zeros();
                    left &= left - 1;
                    bus.write(at, Width::U32, self.r[index as usize])?;
                    at = at.wrapping_add(4);
                }
                if wback {
                    self.set(rn, end);
                }
            }
            Op::Mul { flags, rd, rn, rm, ra, sub } => {
                let product = self.reg(rn).wrapping_mul(self.reg(rm));
                let result = match (ra, sub) {
                    (NONE, _) => product,
                    (ra, true) => self.reg(ra).wrapping_sub(product),
                    (ra, false) => self.reg(ra).wrapping_add(product),
                };
                self.set(rd, result);
                if Self::sets(flags, it) {
                    self.set_nz(result);
                }
            }
            Op::MulLong { signed, accumulate, both, lo, hi, rn, rm } => {
                let (a, b) = (self.reg(rn), self.reg(rm));
                let (low, high) = (u64::from(self.reg(lo)), u64::from(self.reg(hi)));
                let pair = if accumulate { high << 32 | low } else { 0 };
                let result = if both {
                    u64::from(a) * u64::from(b) + low + high
                } else if signed {
                    ((i64::from(a as i32) * i64::from(b as i32)) as u64).wrapping_add(pair)
                } else {
                    (u64::from(a) * u64::from(b)).wrapping_add(pair)
                };
                self.set(lo, result as u32);
                self.set(hi, (result >> 32) as u32);
            }
            Op::Div { signed, rd, rn, rm } => {
                let (a, b) = (self.reg(rn), self.reg(rm));
                // By zero it may trap.
                (b != 0).then_some(())?;
                self.set(rd, if signed { (a as i32).wrapping_div(b as i32) as u32 } else { a / b });
            }
            Op::Extend { op, rd, rn, rm, rotate } => {
                let value = self.reg(rm).rotate_right(u32::from(rotate));
                let value = match op {
                    ExtendOp::Sxtb => value as u8 as i8 as u32,
                    ExtendOp::Sxth => value as u16 as i16 as u32,
                    ExtendOp::Uxtb => value & 0xff,
                    ExtendOp::Uxth => value & 0xffff,
                    ExtendOp::Sxtb16 | ExtendOp::Uxtb16 => return None,
                };
                self.set(rd, if rn == 15 { value } else { self.reg(rn).wrapping_add(value) });
            }
            Op::Misc { op, rd, rm } => {
                let v = self.reg(rm);
                self.set(
                    rd,
                    match op {
                        MiscOp::Clz => v.leading_zeros(),
                        MiscOp::Rbit => v.reverse_bits(),
                        MiscOp::Rev => v.swap_bytes(),
                        MiscOp::Rev16 => v >> 8 & 0x00ff_00ff | v << 8 & 0xff00_ff00,
                        MiscOp::Revsh => (v as u16).swap_bytes() as i16 as u32,
                    },
                );
            }
            Op::Bitfield { op, rd, rn, lsb, mask } => {
                let (old, value) = (self.reg(rd), self.reg(rn));
                let above = mask.leading_zeros();
                self.set(
                    rd,
                    match op {
                        BitfieldOp::Ubfx => value >> lsb & mask,
                        BitfieldOp::Sbfx => ((value >> lsb << above) as i32 >> above) as u32,
                        BitfieldOp::Bfi => old & !(mask << lsb) | (value & mask) << lsb,
                        BitfieldOp::Bfc => old & !(mask << lsb),
                    },
                );
            }
        }
        Some(Then::Next)
    }

    fn load_many(&mut self, bus: &Bus, rn: u8, list: u16, wback: bool, before: bool) -> Option<Then> {
        let (base, count) = (self.reg(rn), list.count_ones());
        let (start, end) = span(base, count, before);
        let readable = Bus::is_ram(start, count) || inside(flash_offset(start), FLASH_LEN, count);
        (start & 3 == 0 && readable).then_some(())?;
        let jump = match list & 1 << 15 {
            0 => None,
            _ => Some(self.target(bus.read(start.wrapping_add(4 * (count - 1)), Width::U32)?)?),
        };
        if wback {
            self.set(rn, end);
        }
        let (mut at, mut left) = (start, list & 0x7fff);
        while left != 0 {
            let index = left.trailing_zeros();
            left &= left - 1;
            self.r[index as usize] = bus.read(at, Width::U32)?;
            at = at.wrapping_add(4);
        }
        Some(match jump {
            Some(to) => Then::Go(to),
            None => Then::Next,
        })
    }
}

/// Where a block transfer begins, and what becomes of its base.
fn span(base: u32, count: u32, before: bool) -> (u32, u32) {
    let down = base.wrapping_sub(4 * count);
    if before { (down, down) } else { (base, base.wrapping_add(4 * count)) }
}

/// A shift and its carry.
#[inline(always)]
fn shift(ty: ShiftType, value: u32, amount: u32, carry: bool) -> (u32, bool) {
    if amount == 0 {
        return (value, carry);
    }
    match ty {
        ShiftType::Lsl => match amount {
            1..=31 => (value << amount, value >> (32 - amount) & 1 != 0),
            32 => (0, value & 1 != 0),
            _ => (0, false),
        },
        ShiftType::Lsr => match amount {
            1..=31 => (value >> amount, value >> (amount - 1) & 1 != 0),
            32 => (0, value >> 31 != 0),
            _ => (0, false),
        },
        ShiftType::Asr => match amount {
            1..=31 => ((value as i32 >> amount) as u32, value >> (amount - 1) & 1 != 0),
            _ => ((value as i32 >> 31) as u32, value >> 31 != 0),
        },
        ShiftType::Ror => {
            let result = value.rotate_right(amount & 31);
            (result, result >> 31 != 0)
        }
        ShiftType::Rrx => (u32::from(carry) << 31 | value >> 1, value & 1 != 0),
    }
}

impl Fast {
    pub fn new(store: Arc<FlashStore>, sram: Arc<RamStore>, ccm: Arc<RamStore>) -> Fast {
        let flash = Arc::clone(store.array());
        Fast { slots: Box::default(), writes: 0, epoch: 0, store, bus: Bus { sram, ccm, flash } }
    }

    /// Execute plain instructions until `cycles` are spent (the last one may exceed them) or one is not plain, and return the
    /// cycles. `None`: the core executes nothing now, because it sleeps, is locked up or waits for a reset.
    ///
    /// The caller has seen to it that no flash operation is under way, that the flash is open, that nobody watches, and that the
    /// library's core has done a step since the interrupt lines last changed: it alone makes them pending.
    pub fn run(&mut self, cpu: &ArmV7m, cycles: u64) -> Option<u64> {
        let budget = ready(cpu, cycles)?;
        let regs = cpu.regs();
        if budget == 0 || regs.xpsr & xpsr::T == 0 {
            return Some(0);
        }
        if self.slots.is_empty() {
            self.slots = vec![Slot::EMPTY; SLOTS].into();
        }
        if self.writes != self.store.writes() {
            self.writes = self.store.writes();
            // Every instruction is looked at again. After four thousand million writes a slot could pass for a new one.
            self.epoch = self.epoch.wrapping_add(1);
            if self.epoch == 0 {
                self.slots.fill(Slot::EMPTY);
            }
        }
        let epoch = u64::from(self.epoch) << 32;
        let slots: &mut [Slot; SLOTS] = (&mut *self.slots).try_into().expect("as many as were made");
        let x = regs.xpsr;
        let mut core = Core {
            r: regs.r,
            n: x & xpsr::N != 0,
            z: x & xpsr::Z != 0,
            c: x & xpsr::C != 0,
            v: x & xpsr::V != 0,
            it: (x >> 25 & 3 | x >> 8 & 0xfc) as u8,
            primask: regs.primask,
            in_handler: x & xpsr::EXCEPTION != 0,
            privileged: x & xpsr::EXCEPTION != 0 || regs.control & NPRIV == 0,
        };
        let mut pc = regs.r[15];
        let mut used = 0;
        while used < budget {
            let slot = &mut slots[pc as usize >> 1 & (SLOTS - 1)];
            let key = epoch | u64::from(pc);
            if slot.key != key && !slot.look(&self.bus, key) {
                break;
            }
            let next = pc.wrapping_add(u32::from(slot.len));
            let it = core.it;
            if it != 0 {
                if matches!(slot.op, Op::It { .. }) {
                    break; // Nobody's idea of a program.
                }
                core.it = if it & 7 == 0 { 0 } else { it & 0xe0 | it << 1 & 0x1f };
                if !core.passes(it >> 4) {
                    used += 1;
                    pc = next;
                    continue;
                }
            }
            match core.execute(&self.bus, pc, slot.op, it) {
                Some(Then::Next) => pc = next,
                Some(Then::Go(to)) => {
                    pc = to;
                    used += 2;
                }
                None => {
                    core.it = it;
                    break;
                }
            }
            used += u64::from(slot.cost);
        }
        if used > 0 {
            let mut after = regs;
            after.r = core.r;
            after.r[15] = pc;
            after.primask = core.primask;
            if regs.control & SPSEL != 0 && !core.in_handler {
                after.psp = core.r[13];
            } else {
                after.msp = core.r[13];
            }
            let flag = |on: bool, bit: u32| if on { bit } else { 0 };
            let it = u32::from(core.it);
            after.xpsr = x & !(xpsr::N | xpsr::Z | xpsr::C | xpsr::V | xpsr::IT_MASK)
                | flag(core.n, xpsr::N)
                | flag(core.z, xpsr::Z)
                | flag(core.c, xpsr::C)
                | flag(core.v, xpsr::V)
                | (it & 3) << 25
                | (it & 0xfc) << 8;
            cpu.set_regs(after);
            cpu.with_sys(|sys| {
                sys.tick_cyccnt(used);
                if sys.tick_systick(used) && sys.syst_csr & 2 != 0 {
                    sys.set_pending(Exception::SYSTICK, true);
                }
            });
        }
        Some(used)
    }
}

impl Slot {
    /// Make this the instruction at `pc`, the lower half of `key`. False if there is none in the flash.
    fn look(&mut self, bus: &Bus, key: u64) -> bool {
        let pc = key as u32;
        let offset = flash_offset(pc);
        if offset >= FLASH_LEN - 2 {
            return false;
        }
        let half =
            |at: u32| bus.flash.read_value(u64::from(at), Width::U16, Endian::Little).map_or(0, |v| v as u16);
        let first = half(offset);
        let wide = is_32bit(first);
        // A wide instruction begins with 0xE800 or more: no narrow one looks like it.
        let second = if wide { half(offset + 2) } else { 0 };
        let raw = if wide { u32::from(first) << 16 | u32::from(second) } else { u32::from(first) };
        if self.key as u32 != pc || self.raw != raw {
            let op = resolve(pc, first, second);
            *self = Slot { key, raw, len: if wide { 4 } else { 2 }, cost: op.cost(), op };
        }
        self.key = key;
        true
    }
}

impl Op {
    /// Cycles: one, and one for every access; a branch that is taken costs two more.
    const fn cost(self) -> u8 {
        match self {
            Op::Table { .. }
            | Op::Load { .. }
            | Op::LoadReg { .. }
            | Op::LoadAt { .. }
            | Op::Store { .. }
            | Op::StoreReg { .. }
            | Op::MulLong { .. } => 2,
            Op::LoadTwo { .. } | Op::StoreTwo { .. } | Op::Div { .. } => 3,
            Op::LoadMany { list, .. } | Op::StoreMany { list, .. } => 1 + list.count_ones() as u8,
            _ => 1,
        }
    }
}

/// How many cycles may pass before something else than the next instruction has to be done.
fn ready(cpu: &ArmV7m, cycles: u64) -> Option<u64> {
    if cpu.is_asleep() || cpu.is_locked_up() || cpu.reset_pending() {
        return None;
    }
    let (plain, pending, reset, tick) = cpu.with_sys(|sys| {
        // A trap for every odd address, or a guard on every access, is not for here.
        let plain = sys.ccr & ccr::UNALIGN_TRP == 0 && sys.mpu_ctrl & 1 == 0;
        let tick = match (sys.syst_csr & 1, sys.syst_rvr) {
            (0, _) | (_, 0) => u64::MAX,
            _ => u64::from(match sys.syst_cvr & 0xff_ffff {
                0 => sys.syst_rvr + 1,
                left => left,
            }),
        };
        (plain, sys.highest_pending(), sys.reset_requested, tick)
    });
    if reset {
        return None;
    }
    if !plain || pending.is_some_and(|(_, priority)| priority < cpu.execution_priority()) {
        return Some(0);
    }
    Some(cycles.min(tick))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;
    use rsemu::core::device::{Device, ResetKind};
    use rsemu::core::space::{AddressSpace, Perms, Region};
    use rsemu::cpu::arm::v7m::Config;

    /// Where the code under test is, and the RAM that its registers like to point to.
    const CODE: u32 = 0x0801_0000;
    const LEN: u32 = 4096;

    struct Chip {
        store: Arc<FlashStore>,
        sram: Arc<RamStore>,
        ccm: Arc<RamStore>,
        cpu: ArmV7m,
    }

    impl Chip {
        fn new() -> Chip {
            let store = Arc::new(FlashStore::blank());
            let sram = Arc::new(RamStore::new(u64::from(SRAM_LEN)));
            let ccm = Arc::new(RamStore::new(u64::from(CCM_LEN)));
            let space = AddressSpace::new("bus", 32);
            {
                let mut map = space.topology();
                let mut put = |name: &str, store: &Arc<RamStore>, base: u32, perms| {
                    map.map_with_perms(Region::ram(name, Arc::clone(store)), u64::from(base), perms).unwrap();
                };
                put("zero", store.array(), 0, Perms::RX);
                put("flash", store.array(), FLASH_BASE, Perms::RX);
                put("sram", &sram, SRAM_BASE, Perms::RWX);
                put("ccm", &ccm, CCM_BASE, Perms::RW);
            }
            let cpu = ArmV7m::new(Config::CORTEX_M4F.with_priority_bits(4));
            cpu.attach_space(Arc::new(space));
            Device::reset(&cpu, ResetKind::Cold);
            cpu.step();
            Chip { store, sram, ccm, cpu }
        }

        /// The RAM that can have been touched.
        fn ram(&self) -> Vec<u8> {
            let mut bytes = vec![0; 3 * LEN as usize];
            let (first, rest) = bytes.split_at_mut(LEN as usize);
            let (second, third) = rest.split_at_mut(LEN as usize);
            self.sram.read_at(0, first).unwrap();
            self.sram.read_at(u64::from(SRAM_LEN - LEN), second).unwrap();
            self.ccm.read_at(0, third).unwrap();
            bytes
        }
    }

    /// A halfword: any, but more often one that begins something that firmware consists of.
    fn half(dice: &mut SplitMix64) -> u16 {
        let any = dice.next_u64();
        let random = any as u16;
        match any >> 32 & 7 {
            // IT and its neighbours; loads, stores and branches of several registers; wide encodings.
            0 => 0xbf00 | random & 0xff,
            1 => 0xb400 | random & 0xfff,
            2 | 3 => 0xe800 | random & 0x17ff,
            // CPSID, and the first half of MRS.
            4 if random & 7 == 0 => 0xb672,
            4 if random & 7 == 1 => 0xf3ef,
            4 if random & 7 == 2 => 0x8010 | random >> 4 & 0xf00,
            _ => random,
        }
    }

    fn word(dice: &mut SplitMix64) -> u32 {
        let any = dice.next_u64();
        let near = any as u32 % LEN;
        match any >> 32 & 15 {
            0..=4 => SRAM_BASE + (near & !3),
            5 => SRAM_BASE + near,
            6 => SRAM_BASE + SRAM_LEN - LEN + near,
            7 => SRAM_BASE + SRAM_LEN - near % 24,
            8 => CCM_BASE + (near & !3),
            9 => (CODE + near) | 1,
            10 => near % 40,
            11 => (near % 40).wrapping_neg(),
            12 => [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX, 0xffff_fff9][near as usize % 6],
            _ => any as u32,
        }
    }

    /// Instructions drawn at random, from random registers: here and in the library the outcome is the same.
    #[test]
    fn an_instruction_does_here_what_it_does_in_the_library() {
        let (here, there) = (Chip::new(), Chip::new());
        let mut fast = Fast::new(here.store.clone(), here.sram.clone(), here.ccm.clone());
        let mut dice = SplitMix64::new(20_261_126);
        for chip in [&here, &there] {
            let mut noise = SplitMix64::new(1);
            let bytes: Vec<u8> = (0..SRAM_LEN).map(|_| noise.next_u64() as u8).collect();
            chip.sram.write_at(0, &bytes).unwrap();
            chip.ccm.write_at(0, &bytes[..CCM_LEN as usize]).unwrap();
        }
        let mut plain = std::collections::BTreeMap::<String, u32>::new();
        let mut refused = 0;
        for n in 0..200_000u32 {
            // Two instructions, the first of which may be an IT that governs the second.
            let mut halves: [u16; 4] = std::array::from_fn(|_| half(&mut dice));
            let any = dice.next_u64();
            match any & 15 {
                // Rare by chance: two registers without a shift, and a table of branches.
                0 => {
                    (halves[0], halves[1]) = (0xea00 | (any >> 8) as u16 & 0x1ff, (any >> 20) as u16 & 0x0f0f)
                }
                1 => {
                    (halves[0], halves[1]) =
                        (0xe8d0 | (any >> 8) as u16 & 15, 0xf000 | (any >> 20) as u16 & 0x1f)
                }
                _ => {}
            }
            let code: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
            let at = CODE + ((dice.next_u64() as u32 % LEN) & !1);
            let mut regs = here.cpu.regs();
            regs.r = std::array::from_fn(|_| word(&mut dice));
            regs.r[15] = at;
            (regs.msp, regs.psp) = (word(&mut dice) & !3, word(&mut dice) & !3);
            regs.control = dice.next_u64() as u32 & (SPSEL | NPRIV);
            regs.primask = n % 5 == 0;
            // Thread mode or a handler, any flags, now and then inside an IT block.
            regs.xpsr = dice.next_u64() as u32 & 0xf000_0000 | xpsr::T;
            if n % 3 == 0 {
                regs.xpsr |= 14;
            }
            if n % 4 == 0 {
                regs.xpsr |= dice.next_u64() as u32 & xpsr::IT_MASK;
            }
            for chip in [&here, &there] {
                chip.store.tamper(at - FLASH_BASE, &code);
                chip.cpu.set_regs(regs);
            }
            for step in 0..2 {
                let context = || format!("{n}, step {step}: {code:02x?} at {at:#x}, {regs:x?}");
                let op = {
                    let offset = flash_offset(here.cpu.pc());
                    let mut bytes = [0; 4];
                    here.store.read(offset.min(FLASH_LEN - 4), &mut bytes);
                    let halves = [0, 2].map(|i| u16::from_le_bytes([bytes[i], bytes[i + 1]]));
                    format!("{:?}", resolve(here.cpu.pc(), halves[0], halves[1]))
                };
                let cycles = fast.run(&here.cpu, 1).expect("it is awake");
                if cycles == 0 {
                    // Nothing has happened: what the library does with it is right by definition.
                    let (left, right) = (here.cpu.regs(), there.cpu.regs());
                    assert_eq!((left.r, left.xpsr), (right.r, right.xpsr), "{}", context());
                    refused += 1;
                    break;
                }
                assert_eq!(cycles, there.cpu.step(), "cycles of {}", context());
                let (left, right) = (here.cpu.regs(), there.cpu.regs());
                assert_eq!(format!("{left:x?}"), format!("{right:x?}"), "{op}: {}", context());
                *plain.entry(op.split([' ', '{']).next().unwrap_or_default().to_owned()).or_default() += 1;
            }
            if n % 500 == 0 || n == 199_999 {
                assert!(here.ram() == there.ram(), "RAM differs at or shortly before {n}");
            }
        }
        // Every kind was there, often.
        for kind in [
            "Nop",
            "Set",
            "SetTop",
            "Move",
            "AddValue",
            "AddReg",
            "SubReg",
            "EorReg",
            "AndReg",
            "OrrReg",
            "AddFlags",
            "SubFlags",
            "Mask",
            "ReadMask",
            "Compare",
            "CompareReg",
            "Value",
            "Reg",
            "Shifted",
            "ShiftReg",
            "Branch",
            "BranchIf",
            "Call",
            "Jump",
            "JumpCall",
            "IfZero",
            "Table",
            "It",
            "Load",
            "LoadReg",
            "LoadAt",
            "Store",
            "StoreReg",
            "LoadTwo",
            "StoreTwo",
            "LoadMany",
            "StoreMany",
            "Mul",
            "MulLong",
            "Div",
            "Extend",
            "Misc",
            "Bitfield",
        ] {
            assert!(plain.get(kind).is_some_and(|n| *n >= 5), "{kind} was seldom there: {plain:?}");
        }
        assert!(refused > 1_000, "faults, special registers and register windows are not plain: {refused}");
    }

    #[test]
    fn it_stops_where_something_else_is_due() {
        let chip = Chip::new();
        let mut fast = Fast::new(chip.store.clone(), chip.sram.clone(), chip.ccm.clone());
        let loop_here = [0xfe_u8, 0xe7]; // b .
        chip.store.tamper(CODE - FLASH_BASE, &loop_here);
        chip.cpu.set_pc(CODE);
        assert_eq!(fast.run(&chip.cpu, 100), Some(102), "34 taken branches");
        // A tick that is due in 31 cycles, and is taken before the next instruction once it is pending.
        chip.cpu.with_sys(|sys| (sys.syst_csr, sys.syst_rvr, sys.syst_cvr) = (3, 999, 31));
        assert_eq!(fast.run(&chip.cpu, 1_000), Some(33));
        assert_eq!(chip.cpu.with_sys(|sys| sys.syst_cvr), 998, "reloaded, and one cycle on");
        assert_eq!(fast.run(&chip.cpu, 1_000), Some(0));
        // Masked, it may wait.
        chip.cpu.set_regs(rsemu::cpu::arm::v7m::Regs { primask: true, ..chip.cpu.regs() });
        assert_eq!(fast.run(&chip.cpu, 9), Some(9));
        // Another instruction in its place, though it was decoded before.
        chip.store.tamper(CODE - FLASH_BASE, &[0x30, 0xbf]); // wfi
        assert_eq!(fast.run(&chip.cpu, 9), Some(0));
        chip.cpu.with_sys(|sys| sys.set_pending(Exception::SYSTICK, false));
        chip.cpu.step();
        assert_eq!(fast.run(&chip.cpu, 9), None, "asleep");
    }
}
