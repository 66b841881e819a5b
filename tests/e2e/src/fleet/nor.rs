//! A unit's flash in memory: only pages that were written exist, so that a thousand units fit.

use embedded_storage::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use keywright_protocol::map::{FLASH_BASE, FLASH_LEN, sector_of};

const PAGE: usize = 4096;

/// Two megabytes of NOR that counts its erases.
pub struct Nor {
    pages: Vec<Option<Box<[u8; PAGE]>>>,
    erases: u64,
}

/// Never happens: this flash does not wear.
#[derive(Clone, Copy, Debug)]
pub struct NorFault;

impl NorFlashError for NorFault {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl Nor {
    /// A flash that was flashed: blank but for `bytes` at `address`.
    pub fn preset(address: u32, bytes: &[u8]) -> Self {
        let mut nor = Self { pages: (0..FLASH_LEN as usize / PAGE).map(|_| None).collect(), erases: 0 };
        nor.program((address - FLASH_BASE) as usize, bytes);
        nor
    }

    /// Sectors erased since it was made.
    pub fn erases(&self) -> u64 {
        self.erases
    }

    fn program(&mut self, at: usize, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            let at = at + i;
            let page = self.pages[at / PAGE].get_or_insert_with(|| Box::new([0xFF; PAGE]));
            // Bits only fall without an erase.
            page[at % PAGE] &= byte;
        }
    }
}

impl ErrorType for Nor {
    type Error = NorFault;
}

impl ReadNorFlash for Nor {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFault> {
        let (mut at, mut rest) = (offset as usize, bytes);
        while !rest.is_empty() {
            let (part, left) = rest.split_at_mut(rest.len().min(PAGE - at % PAGE));
            match &self.pages[at / PAGE] {
                Some(page) => part.copy_from_slice(&page[at % PAGE..at % PAGE + part.len()]),
                None => part.fill(0xFF),
            }
            at += part.len();
            rest = left;
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        FLASH_LEN as usize
    }
}

impl NorFlash for Nor {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 16 * 1024;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFault> {
        let mut at = FLASH_BASE + from;
        while at < FLASH_BASE + to {
            let (_, sector) = sector_of(at).expect("inside flash");
            assert!(sector.base == at && sector.end() <= FLASH_BASE + to, "whole sectors only");
            let first = (sector.base - FLASH_BASE) as usize / PAGE;
            self.pages[first..first + sector.len as usize / PAGE].fill_with(|| None);
            self.erases += 1;
            at = sector.end();
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFault> {
        assert!(offset.is_multiple_of(4) && bytes.len().is_multiple_of(4), "whole words only");
        self.program(offset as usize, bytes);
        Ok(())
    }
}

impl MultiwriteNorFlash for Nor {}
