//! NOR flash as data: what each cell reads, which cells waver, and every operation as something that can be cut.
//!
//! Only the sectors that hold keys exist, and of each only the part that a record can cover; everything else reads as
//! erased, and a write there is an error of the product that ends the run.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use keywright_protocol::map::{self, FLASH_BASE, Region};
use keywright_protocol::record::{HEADER_LEN, MARK_LEN, stored_len};

/// Bytes kept of each sector; no record is longer.
const WINDOW: usize = 2_048;

/// The sectors of the model: storage secret, key areas A and B, trust pair.
pub const SECTORS: [Region; 5] =
    [map::STORAGE_SECRET, map::KEY_AREA_A, map::KEY_AREA_B, map::TRUST_STORE[0], map::TRUST_STORE[1]];
/// Index of the storage secret in [`SECTORS`].
pub const SECRET: usize = 0;
/// Index of key area A in [`SECTORS`].
pub const AREA_A: usize = 1;
/// Index of key area B in [`SECTORS`].
pub const AREA_B: usize = 2;

/// The other key area, if `sector` is one.
pub const fn other_area(sector: usize) -> Option<usize> {
    match sector {
        AREA_A => Some(AREA_B),
        AREA_B => Some(AREA_A),
        _ => None,
    }
}

/// Where an offset from the start of flash lies.
pub fn locate(offset: u32) -> Option<(usize, usize)> {
    let address = FLASH_BASE + offset;
    SECTORS
        .iter()
        .position(|sector| sector.contains(address))
        .map(|sector| (sector, (address - SECTORS[sector].base) as usize))
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Sector {
    /// As this boot reads them.
    cells: Vec<u8>,
    /// Bits that may read otherwise at the next boot.
    weak: Vec<u8>,
}

/// All sectors.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Image(Vec<Arc<Sector>>);

impl Default for Image {
    fn default() -> Image {
        let blank = Arc::new(Sector { cells: vec![0xFF; WINDOW], weak: vec![0; WINDOW] });
        Image(vec![blank; SECTORS.len()])
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({:016x})", self.id() as u64)
    }
}

/// 128 bits that stand for a value; std's hasher is the same in every run.
pub fn id_of(value: &impl Hash) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        value.hash(&mut hasher);
        hasher.finish()
    };
    u128::from(half(1)) << 64 | u128::from(half(2))
}

/// A mark of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MarkName {
    /// COMMIT.
    Commit,
    /// CONFIRM.
    Confirm,
    /// RETIRE.
    Retire,
}

/// One operation of the flash.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Op {
    /// Programs bytes: ones may become zeros.
    Write {
        /// Index in [`SECTORS`].
        sector: usize,
        /// Offset in the sector.
        at: usize,
        /// What it shall read.
        bytes: Arc<[u8]>,
    },
    /// Erases one sector, or two that are one erase unit (a mutant).
    Erase {
        /// Indices in [`SECTORS`].
        sectors: Vec<usize>,
    },
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Write { sector, at, bytes } => write!(f, "write {sector}+{at:#x}, {} bytes", bytes.len()),
            Op::Erase { sectors } => write!(f, "erase {sectors:?}"),
        }
    }
}

/// How far a cut operation came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Torn {
    /// The first half is done, in whole words.
    Half,
    /// Write: the first word wavers, nothing behind it was touched.
    FirstWavers,
    /// Write: all is done but the last word, which wavers.
    LastWavers,
    /// Erase: every cell that was to rise wavers. (Words are programmed one by one, a sector is erased at once.)
    AllWaver,
    /// Erase: only the last programmed row has risen: a record without its last mark.
    LastRowRisen,
}

impl Op {
    /// The ways in which power can fail inside of it.
    pub fn tears(&self) -> &'static [Torn] {
        match self {
            Op::Write { .. } => &[Torn::FirstWavers, Torn::Half, Torn::LastWavers],
            Op::Erase { .. } => &[Torn::Half, Torn::AllWaver, Torn::LastRowRisen],
        }
    }
}

impl Image {
    /// A short name of the contents, weak cells included.
    pub fn id(&self) -> u128 {
        id_of(self)
    }

    /// What one sector reads.
    pub fn cells(&self, sector: usize) -> &[u8] {
        &self.0[sector].cells
    }

    /// Reads through the sectors; outside of them flash is erased.
    pub fn read(&self, sector: usize, at: usize, out: &mut [u8]) {
        let known = self.0[sector].cells.get(at..).unwrap_or(&[]);
        let len = known.len().min(out.len());
        out[..len].copy_from_slice(&known[..len]);
        out[len..].fill(0xFF);
    }

    /// Changes bytes as no flash could: the line's probe before the first boot, and mutants.
    pub fn preset(&mut self, sector: usize, at: usize, bytes: &[u8]) {
        Arc::make_mut(&mut self.0[sector]).cells[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Which mark of the record in `sector` a write goes to.
    pub fn mark_at(&self, sector: usize, at: usize, len: usize) -> Option<MarkName> {
        let total = stored_len(&self.0[sector].cells[..HEADER_LEN]).ok()?;
        if len != MARK_LEN {
            return None;
        }
        [MarkName::Retire, MarkName::Confirm, MarkName::Commit]
            .into_iter()
            .enumerate()
            .find(|(i, _)| total - (i + 1) * MARK_LEN == at)
            .map(|(_, name)| name)
    }

    fn write(&mut self, sector: usize, at: usize, bytes: &[u8]) {
        let sector = Arc::make_mut(&mut self.0[sector]);
        for (i, wanted) in bytes.iter().enumerate() {
            sector.cells[at + i] &= wanted;
            sector.weak[at + i] &= wanted;
        }
    }

    /// Each bit that `bytes` would program is left between 0 and 1.
    fn waver(&mut self, sector: usize, at: usize, bytes: &[u8]) {
        let sector = Arc::make_mut(&mut self.0[sector]);
        for (i, wanted) in bytes.iter().enumerate() {
            sector.weak[at + i] |= sector.cells[at + i] & !wanted;
        }
    }

    /// Does a whole operation.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Write { sector, at, bytes } => self.write(*sector, *at, bytes),
            Op::Erase { sectors } => {
                for sector in sectors {
                    let sector = Arc::make_mut(&mut self.0[*sector]);
                    sector.cells.fill(0xFF);
                    sector.weak.fill(0);
                }
            }
        }
    }

    /// Does as much of an operation as power lasted for.
    pub fn tear(&mut self, op: &Op, torn: Torn) {
        match op {
            Op::Write { sector, at, bytes } => {
                let last = bytes.len() - 4;
                match torn {
                    Torn::Half => self.write(*sector, *at, &bytes[..bytes.len() / 8 * 4]),
                    Torn::FirstWavers => self.waver(*sector, *at, &bytes[..4]),
                    _ => {
                        self.write(*sector, *at, &bytes[..last]);
                        self.waver(*sector, *at + last, &bytes[last..]);
                    }
                }
            }
            Op::Erase { sectors } => {
                for sector in sectors {
                    let sector = Arc::make_mut(&mut self.0[*sector]);
                    let Some(end) = sector.cells.iter().rposition(|cell| *cell != 0xFF) else { continue };
                    let row = end / MARK_LEN * MARK_LEN;
                    match torn {
                        Torn::Half => {
                            sector.cells[..end / 2].fill(0xFF);
                            sector.weak[..end / 2].fill(0);
                        }
                        Torn::LastRowRisen => {
                            sector.cells[row..].fill(0xFF);
                            sector.weak[row..].fill(0);
                        }
                        _ => {
                            for (weak, cell) in sector.weak.iter_mut().zip(&sector.cells) {
                                *weak |= !cell;
                            }
                        }
                    }
                }
            }
        }
    }

    fn weak_sectors(&self) -> Vec<usize> {
        (0..self.0.len()).filter(|s| self.0[*s].weak.iter().any(|weak| *weak != 0)).collect()
    }

    /// How many ways there are for the next boot to read this: each sector's wavering cells all as 0 or all as 1.
    /// (Anything in between is a torn mark or record, and [`Torn::Half`] makes those.)
    pub fn readings(&self) -> usize {
        1 << self.weak_sectors().len()
    }

    /// One of the [`Image::readings`]. The cells stay weak until they are programmed or erased.
    pub fn as_read(&self, reading: usize) -> Image {
        let mut image = self.clone();
        for (bit, index) in self.weak_sectors().into_iter().enumerate() {
            let ones = reading & 1 << bit != 0;
            let sector = Arc::make_mut(&mut image.0[index]);
            for (cell, weak) in sector.cells.iter_mut().zip(&sector.weak) {
                *cell = if ones { *cell | weak } else { *cell & !weak };
            }
        }
        image
    }
}
