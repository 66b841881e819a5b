//! NOR flash as it fails: words tear, erases stop half-way, and cells left between 0 and 1 read either way.
//!
//! A cut is aimed at one operation (a word or a sector erase). After it the chip is dead until
//! [`Nor::power_on`], which decides anew how every weak cell reads during that boot.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use embedded_storage::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use keywright_protocol::map::{self, FLASH_BASE, FLASH_LEN, Region};
use keywright_protocol::record::{RecordView, SECRET_SLOT_LEN, read_secret_slot};
use keywright_protocol::{ProductKey, StorageSecret, StoreKey, UnitId};

use super::Dice;

/// What happens to the operation that the cut hits.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Index of the operation since the start of the test.
    pub at: u64,
    /// How far it came, in percent of its bits or words.
    pub progress: u64,
}

pub struct Nor {
    cells: Vec<u8>,
    /// Weak bits by byte offset: they are stored as this boot reads them.
    weak: BTreeMap<u32, u8>,
    dice: Dice,
    pub operations: u64,
    /// Where each operation went.
    pub history: Vec<u32>,
    pub cut: Option<Cut>,
    pub dead: bool,
    /// Times a write asked for 0 to 1.
    pub raised_bits: u64,
    /// Sectors erased, by first address.
    pub erased: Vec<u32>,
    /// Writes into this region fail, as worn or protected cells do.
    pub stuck: Option<Region>,
    /// The n-th word written into this region does not take, once, and nothing says so.
    pub lazy: Option<(Region, u32)>,
    /// The next erase is cut.
    pub cut_next_erase: bool,
    /// A cut leaves every cell that was to move in between.
    pub all_waver: bool,
    /// How every weak bit reads from the next boot on; otherwise the dice say, bit by bit.
    pub weak_reads: Option<bool>,
}

impl Nor {
    pub fn new(seed: u64) -> Nor {
        Nor {
            cells: vec![0xFF; FLASH_LEN as usize],
            weak: BTreeMap::new(),
            dice: Dice(seed ^ 0x5eed),
            operations: 0,
            history: Vec::new(),
            cut: None,
            dead: false,
            raised_bits: 0,
            erased: Vec::new(),
            stuck: None,
            lazy: None,
            cut_next_erase: false,
            all_waver: false,
            weak_reads: None,
        }
    }

    pub fn has_weak_cells(&self) -> bool {
        !self.weak.is_empty()
    }

    /// What the line's probe writes before the unit starts.
    pub fn preset(&mut self, address: u32, bytes: &[u8]) {
        let at = (address - FLASH_BASE) as usize;
        self.cells[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn power_on(&mut self) {
        self.dead = false;
        for (at, mask) in &self.weak {
            let reads_as = match self.weak_reads {
                Some(ones) => u8::from(ones).wrapping_neg(),
                None => self.dice.next() as u8,
            };
            let cell = &mut self.cells[*at as usize];
            *cell = *cell & !mask | reads_as & mask;
        }
    }

    pub fn bytes(&self, region: Region) -> &[u8] {
        let at = (region.base - FLASH_BASE) as usize;
        &self.cells[at..at + region.len as usize]
    }

    pub fn secret(&self) -> Option<StorageSecret> {
        self.bytes(map::STORAGE_SECRET)
            .as_chunks::<SECRET_SLOT_LEN>()
            .0
            .iter()
            .find_map(|slot| read_secret_slot(slot).1)
    }

    pub fn store_key(&self, unit: &UnitId) -> Option<StoreKey> {
        Some(StoreKey::derive(unit, &self.secret()?))
    }

    pub fn product_key(&self) -> Option<ProductKey> {
        RecordView::open_product_key(self.bytes(map::KEY_AREA_B)).ok().map(|(_, key)| key)
    }

    /// Counts an operation; `Some(progress)` if power fails in it.
    fn operation(&mut self, at: usize) -> Option<u64> {
        self.history.push(at as u32);
        let hit = self.cut.filter(|cut| cut.at == self.operations);
        self.operations += 1;
        hit.map(|cut| {
            self.dead = true;
            cut.progress
        })
    }

    fn set_cell(&mut self, at: usize, value: u8, weak: u8) {
        self.cells[at] = value;
        if weak == 0 {
            self.weak.remove(&(at as u32));
        } else {
            self.weak.insert(at as u32, weak);
        }
    }

    fn write_word(&mut self, at: usize, word: &[u8]) -> Result<(), NorFault> {
        if self.dead {
            return Err(NorFault);
        }
        let cut = self.operation(at);
        if self.stuck.is_some_and(|region| region.contains(FLASH_BASE + at as u32)) {
            return Err(NorFault);
        }
        if let Some((region, left)) = self.lazy.filter(|(region, _)| region.contains(FLASH_BASE + at as u32))
        {
            if left == 0 {
                self.lazy = None;
                return Ok(());
            }
            self.lazy = Some((region, left - 1));
        }
        for (i, wanted) in word.iter().enumerate() {
            let (old, weak) = (self.cells[at + i], self.weak.get(&((at + i) as u32)).copied().unwrap_or(0));
            self.raised_bits += u64::from((wanted & !old & !weak).count_ones());
            let falling = (old | weak) & !wanted;
            match cut {
                None => self.set_cell(at + i, old & wanted & !falling, weak & wanted),
                Some(progress) => {
                    // Each falling bit has fallen, not moved, or stays in between.
                    let (mut fallen, mut between) = (0u8, 0u8);
                    for bit in 0..8 {
                        if falling & 1 << bit == 0 {
                            continue;
                        }
                        // Late in the pulse no cell is where it was; those that have not fallen waver.
                        if self.all_waver {
                            between |= 1 << bit;
                        } else if self.dice.chance(progress) {
                            fallen |= 1 << bit;
                        } else if progress >= 80 || self.dice.chance(50) {
                            between |= 1 << bit;
                        }
                    }
                    self.set_cell(at + i, old & !fallen, weak & !fallen | between);
                }
            }
        }
        if cut.is_some() { Err(NorFault) } else { Ok(()) }
    }

    fn erase_sector(&mut self, sector: Region) -> Result<(), NorFault> {
        if self.dead {
            return Err(NorFault);
        }
        let at = (sector.base - FLASH_BASE) as usize;
        let mut cut = self.operation(at);
        if std::mem::take(&mut self.cut_next_erase) {
            self.dead = true;
            cut = Some(50);
        }
        self.erased.push(sector.base);
        let Some(progress) = cut else {
            self.cells[at..at + sector.len as usize].fill(0xFF);
            self.weak.retain(|offset, _| !(at..at + sector.len as usize).contains(&(*offset as usize)));
            return Ok(());
        };
        // All cells rise together; late in the erase most read as 1, some waver.
        for i in at..at + sector.len as usize {
            let old = self.cells[i];
            if old == 0xFF {
                continue;
            }
            let (mut risen, mut between) = (0u8, 0u8);
            for bit in 0..8 {
                if old & 1 << bit == 0 {
                    if self.all_waver {
                        between |= 1 << bit;
                    } else if self.dice.chance(progress) {
                        risen |= 1 << bit;
                    } else if self.dice.chance(30) {
                        between |= 1 << bit;
                    }
                }
            }
            self.set_cell(i, old | risen, between);
        }
        Err(NorFault)
    }
}

/// The operation failed, or there is no power.
#[derive(Clone, Copy, Debug)]
pub struct NorFault;

impl NorFlashError for NorFault {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

/// The unit's hold on a flash that outlives it.
pub struct NorHandle(pub Rc<RefCell<Nor>>);

impl ErrorType for NorHandle {
    type Error = NorFault;
}

impl ReadNorFlash for NorHandle {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFault> {
        let nor = self.0.borrow();
        if nor.dead {
            return Err(NorFault);
        }
        bytes.copy_from_slice(&nor.cells[offset as usize..offset as usize + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        FLASH_LEN as usize
    }
}

impl NorFlash for NorHandle {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 16 * 1024;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFault> {
        let mut at = FLASH_BASE + from;
        while at < FLASH_BASE + to {
            let (_, sector) = map::sector_of(at).expect("inside flash");
            assert!(sector.base == at && sector.end() <= FLASH_BASE + to, "whole sectors only");
            self.0.borrow_mut().erase_sector(sector)?;
            at = sector.end();
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFault> {
        assert!(offset.is_multiple_of(4) && bytes.len().is_multiple_of(4), "whole words only");
        for (i, word) in bytes.chunks(4).enumerate() {
            self.0.borrow_mut().write_word(offset as usize + 4 * i, word)?;
        }
        Ok(())
    }
}

impl MultiwriteNorFlash for NorHandle {}
