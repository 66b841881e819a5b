//! A very small Thumb-2 assembler (DDI 0403 A7.7) and the programs the tests run.
#![allow(dead_code)] // Each test binary uses its own part.

use keywright_virtual_board::{Board, BoardConfig, FlashStore};
use std::sync::Arc;
use std::time::Duration;

pub const MS: Duration = Duration::from_millis(1);

/// Code at `0x08000200` with a vector table before it.
#[derive(Default)]
pub struct Program {
    code: Vec<u16>,
    vectors: Vec<(usize, usize)>,
}

const CODE: u32 = 0x0800_0200;

impl Program {
    pub fn op(&mut self, half: u16) -> &mut Self {
        self.code.push(half);
        self
    }

    /// `rd = value`, as MOVW and MOVT.
    pub fn mov32(&mut self, rd: u16, value: u32) -> &mut Self {
        for (op, imm) in [(0xf240, value as u16), (0xf2c0, (value >> 16) as u16)] {
            let (i, imm4, imm3, imm8) = (imm >> 11 & 1, imm >> 12, imm >> 8 & 7, imm & 0xff);
            self.op(op | i << 10 | imm4).op(imm3 << 12 | rd << 8 | imm8);
        }
        self
    }

    /// `[address] = value`, using r0 and r1.
    pub fn poke(&mut self, address: u32, value: u32) -> &mut Self {
        self.mov32(0, address).mov32(1, value).op(0x6001)
    }

    /// `rt = [rn + off]`.
    pub fn ldr(&mut self, rt: u16, rn: u16, off: u16) -> &mut Self {
        self.op(0x6800 | (off / 4) << 6 | rn << 3 | rt)
    }

    /// `[rn + off] = rt`.
    pub fn str(&mut self, rt: u16, rn: u16, off: u16) -> &mut Self {
        self.op(0x6000 | (off / 4) << 6 | rn << 3 | rt)
    }

    /// Where the next instruction will be, for [`branch`](Self::branch).
    pub fn here(&self) -> usize {
        self.code.len()
    }

    /// `b target`.
    pub fn branch(&mut self, target: usize) -> &mut Self {
        let offset = target as i32 - (self.here() as i32 + 2);
        self.op(0xe000 | (offset as u16 & 0x7ff))
    }

    /// `b<cond> target`.
    pub fn branch_if(&mut self, cond: u16, target: usize) -> &mut Self {
        let offset = target as i32 - (self.here() as i32 + 2);
        self.op(0xd000 | cond << 8 | (offset as u16 & 0xff))
    }

    /// The handler of exception `number` starts here.
    pub fn handler(&mut self, number: usize) -> &mut Self {
        let at = self.here();
        self.vectors.push((number, at));
        self
    }

    /// Spin until `[r0 + off]` has no bit of `mask` (below 256) set after shifting right by `shift`.
    pub fn wait_clear(&mut self, off: u16, shift: u16, mask: u16) -> &mut Self {
        let top = self.here();
        self.ldr(2, 0, off);
        self.op(0x0800 | shift << 6 | 2 << 3 | 2); // lsrs r2, r2, #shift
        self.op(0x2300 | mask); // movs r3, #mask
        self.op(0x421a); // tst r2, r3
        self.branch_if(1, top) // bne
    }

    /// Address of instruction index `at`.
    pub fn address(at: usize) -> u32 {
        CODE + 2 * at as u32
    }

    /// The image, to be put at `0x08000000`.
    pub fn image(&self) -> Vec<u8> {
        let mut words = vec![CODE | 1; 128];
        words[0] = 0x2003_0000;
        for (number, at) in &self.vectors {
            words[*number] = Self::address(*at) | 1;
        }
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        bytes.extend(self.code.iter().flat_map(|h| h.to_le_bytes()));
        bytes
    }
}

pub const WFI: u16 = 0xbf30;
pub const BX_LR: u16 = 0x4770;
pub const FLASH_KEYR: u32 = 0x4002_3c04;
pub const FLASH_CR: u32 = 0x4002_3c10;

/// Turn USART1 on at 115200 on PA9/PA10, with the receive interrupt if asked for.
pub fn usart_on(p: &mut Program, interrupt: bool) {
    p.poke(0x4002_3830, 1).poke(0x4002_3844, 1 << 4);
    p.poke(0x4002_0000, 0xa828_0000).poke(0x4002_0024, 0x770);
    p.poke(0x4001_1008, 139).poke(0x4001_100c, 0x200c | if interrupt { 1 << 5 } else { 0 });
    if interrupt {
        p.poke(0xe000_e104, 1 << 5);
    }
}

/// Sleeps, and sends back every byte it receives.
pub fn echo() -> Vec<u8> {
    let mut p = Program::default();
    usart_on(&mut p, true);
    let top = p.here();
    p.op(WFI).branch(top);
    p.handler(16 + 37).mov32(0, 0x4001_1000).ldr(1, 0, 0).ldr(1, 0, 4).str(1, 0, 4).op(BX_LR);
    p.image()
}

/// Unlocks the flash, then runs `body`.
pub fn with_flash(body: impl FnOnce(&mut Program)) -> Vec<u8> {
    let mut p = Program::default();
    p.poke(FLASH_KEYR, 0x4567_0123).poke(FLASH_KEYR, 0xcdef_89ab);
    body(&mut p);
    let top = p.here();
    p.op(WFI).branch(top);
    p.image()
}

/// A board with `image` in its flash, in memory, without power.
pub fn board(image: &[u8]) -> Board {
    let store = Arc::new(FlashStore::blank());
    store.tamper(0, image);
    Board::new(BoardConfig::new(42, 1), store)
}
