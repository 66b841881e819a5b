//! Flash for exhaustive cuts: an image small enough to copy and hash by the hundred thousand, a journal of what was
//! done to it, and every form in which one operation can be torn.
//!
//! A cut is not executed but constructed: until the power fails a unit cannot know that it will, so the flash at a
//! cut is the image before the operation with the operation torn. One run thus gives the states of all its cuts.
//!
//! Cells left between 0 and 1 (*weak*) are stored as this boot reads them; [`Image::settle`] decides anew.

use std::cell::RefCell;
use std::rc::Rc;

use embedded_storage::nor_flash::{ErrorType, MultiwriteNorFlash, NorFlash, ReadNorFlash};
use keywright_protocol::map::{self, FLASH_BASE, FLASH_LEN, Region};

use super::Dice;
use super::nor::NorFault;

/// The part of a region that the firmware programs. The rest reads as FF; programming it fails the test.
#[derive(Clone, Copy)]
pub struct Window {
    pub region: Region,
    pub len: usize,
    /// Where it lies in an image.
    pub at: usize,
}

const SECRETS: usize = 24 * 48;
const AREA: usize = 1024;
const TRUST: usize = 384;
const TOTAL: usize = SECRETS + 2 * AREA + 2 * TRUST;

pub const SECRET: usize = 0;
pub const AREAS: [usize; 2] = [1, 2];
pub const TRUSTS: [usize; 2] = [3, 4];
pub const WINDOWS: [Window; 5] = [
    Window { region: map::STORAGE_SECRET, len: SECRETS, at: 0 },
    Window { region: map::KEY_AREA_A, len: AREA, at: SECRETS },
    Window { region: map::KEY_AREA_B, len: AREA, at: SECRETS + AREA },
    Window { region: map::TRUST_STORE[0], len: TRUST, at: SECRETS + 2 * AREA },
    Window { region: map::TRUST_STORE[1], len: TRUST, at: SECRETS + 2 * AREA + TRUST },
];

/// How the weak cells read at the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// As the cut left them.
    AsIs,
    Zeros,
    Ones,
    Mixed(u64),
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Image {
    cells: [u8; TOTAL],
    /// Position and bits, ascending.
    weak: Vec<(u16, u8)>,
}

impl Image {
    pub fn blank() -> Image {
        Image { cells: [0xFF; TOTAL], weak: Vec::new() }
    }

    pub fn preset(&mut self, window: usize, bytes: &[u8]) {
        let at = WINDOWS[window].at;
        self.cells[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn window(&self, window: usize) -> &[u8] {
        let Window { at, len, .. } = WINDOWS[window];
        &self.cells[at..at + len]
    }

    pub fn is_blank(&self, window: usize) -> bool {
        self.window(window).iter().all(|byte| *byte == 0xFF)
    }

    pub fn has_weak(&self) -> bool {
        !self.weak.is_empty()
    }

    fn weak_at(&self, at: usize) -> u8 {
        self.weak.binary_search_by_key(&(at as u16), |cell| cell.0).map_or(0, |i| self.weak[i].1)
    }

    fn set(&mut self, at: usize, value: u8, weak: u8) {
        self.cells[at] = value;
        match (self.weak.binary_search_by_key(&(at as u16), |cell| cell.0), weak) {
            (Ok(i), 0) => drop(self.weak.remove(i)),
            (Ok(i), _) => self.weak[i].1 = weak,
            (Err(_), 0) => {}
            (Err(i), _) => self.weak.insert(i, (at as u16, weak)),
        }
    }

    /// Another start: the weak cells outside of `except` read anew.
    pub fn settle(&mut self, reads: Reads, except: &Op) {
        let mut dice = Dice(match reads {
            Reads::Mixed(seed) => seed,
            _ => 0,
        });
        for (at, mask) in &self.weak {
            if except.covers(usize::from(*at)) {
                continue;
            }
            let value = match reads {
                Reads::AsIs => continue,
                Reads::Zeros => 0,
                Reads::Ones => 0xFF,
                Reads::Mixed(_) => dice.next() as u8,
            };
            let cell = &mut self.cells[usize::from(*at)];
            *cell = *cell & !mask | value & mask;
        }
    }

    /// The image with all weak cells reading anew.
    pub fn settled(&self, reads: Reads) -> Image {
        let mut image = self.clone();
        image.settle(reads, &Op::Nothing);
        image
    }

    /// Whether an operation finds done what it does.
    pub fn keeps(&self, op: &Op) -> bool {
        match *op {
            Op::Word { at, wanted, .. } => (0..4).all(|i| {
                let at = usize::from(at) + i;
                (self.cells[at] | self.weak_at(at)) & !wanted[i] == 0
            }),
            _ => false,
        }
    }

    /// Does a whole operation. False if it asks for a 1 where a solid 0 is.
    pub fn apply(&mut self, op: &Op) -> bool {
        let mut fits = true;
        match *op {
            Op::Nothing => {}
            Op::Word { at, wanted, .. } => {
                for (i, wanted) in wanted.into_iter().enumerate() {
                    let at = usize::from(at) + i;
                    let (old, weak) = (self.cells[at], self.weak_at(at));
                    fits &= wanted & !old & !weak == 0;
                    self.set(at, old & wanted, weak & wanted);
                }
            }
            Op::Erase { window } => {
                let Window { at, len, .. } = WINDOWS[usize::from(window)];
                self.cells[at..at + len].fill(0xFF);
                self.weak.retain(|(cell, _)| !(at..at + len).contains(&usize::from(*cell)));
            }
        }
        fits
    }
}

/// One flash operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The pause before and after everything.
    Nothing,
    /// `run` words are written by the same call: a mark has 4, a secret slot 12, a body more.
    Word {
        at: u16,
        wanted: [u8; 4],
        run: u16,
    },
    Erase {
        window: u8,
    },
}

impl Op {
    fn covers(&self, at: usize) -> bool {
        match *self {
            Op::Nothing => false,
            Op::Word { at: first, .. } => (usize::from(first)..usize::from(first) + 4).contains(&at),
            Op::Erase { window } => {
                let Window { at: first, len, .. } = WINDOWS[usize::from(window)];
                (first..first + len).contains(&at)
            }
        }
    }

    /// The window it works in.
    pub fn window(&self) -> Option<usize> {
        match *self {
            Op::Nothing => None,
            Op::Word { at, .. } => WINDOWS.iter().rposition(|window| window.at <= usize::from(at)),
            Op::Erase { window } => Some(usize::from(window)),
        }
    }
}

/// What a cut made of an operation. The counters of these show that the simulator does not degrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    Nothing,
    Done,
    /// A word with one bit fallen, all but one, or a random part; the rest unmoved and solid.
    WordOneFallen,
    WordAllButOne,
    WordPart,
    /// A word with one bit in between, by what the others did and how it reads at the next start.
    WordOneWeak0,
    WordOneWeak1,
    WordFirstWeak0,
    WordFirstWeak1,
    WordAllWeak0,
    WordAllWeak1,
    WordMixed,
    /// An erase that reached some rows (of 16 bytes) and not others.
    EraseRows,
    /// Bits risen, unmoved and in between, at random.
    EraseMixed,
    /// All cells in between, reading as before or as erased.
    EraseAllWeakOld,
    EraseAllWeakBlank,
    /// One row or one bit in between, the rest erased.
    EraseRowWeakOld,
    EraseRowWeakBlank,
    EraseBitWeakOld,
    EraseBitWeakBlank,
}

impl Class {
    /// Of the forms that leave a word torn for good, one stands for all as a first cut of two.
    pub fn stands_for_others(self) -> bool {
        !matches!(
            self,
            Class::WordOneFallen
                | Class::WordAllButOne
                | Class::WordFirstWeak0
                | Class::WordOneWeak1
                | Class::WordMixed
                | Class::Done
        )
    }
}

pub const CLASSES: [Class; 20] = [
    Class::Nothing,
    Class::Done,
    Class::WordOneFallen,
    Class::WordAllButOne,
    Class::WordPart,
    Class::WordOneWeak0,
    Class::WordOneWeak1,
    Class::WordFirstWeak0,
    Class::WordFirstWeak1,
    Class::WordAllWeak0,
    Class::WordAllWeak1,
    Class::WordMixed,
    Class::EraseRows,
    Class::EraseMixed,
    Class::EraseAllWeakOld,
    Class::EraseAllWeakBlank,
    Class::EraseRowWeakOld,
    Class::EraseRowWeakBlank,
    Class::EraseBitWeakOld,
    Class::EraseBitWeakBlank,
];

/// How many forms of an operation are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// All of them.
    Full,
    /// At least one of every class.
    Classes,
    /// Nothing, done, and two classes in turn: for the words of a body, which are all read by one MAC.
    Few(u64),
}

/// Calls `each` with every form of `op`, torn on `before`. `seed` only picks bits.
pub fn torn(before: &Image, op: &Op, depth: Depth, seed: u64, mut each: impl FnMut(Class, Image)) {
    let mut dice = Dice(seed);
    each(Class::Nothing, before.clone());
    match *op {
        Op::Nothing => return,
        Op::Word { at, wanted, .. } => torn_word(before, at, wanted, depth, &mut dice, &mut each),
        Op::Erase { window } => torn_erase(before, usize::from(window), depth, &mut dice, &mut each),
    }
    let mut done = before.clone();
    done.apply(op);
    each(Class::Done, done);
}

fn torn_word(
    before: &Image,
    at: u16,
    wanted: [u8; 4],
    depth: Depth,
    dice: &mut Dice,
    each: &mut impl FnMut(Class, Image),
) {
    let at = usize::from(at);
    let old: [u8; 4] = std::array::from_fn(|i| before.cells[at + i]);
    let weak: [u8; 4] = std::array::from_fn(|i| before.weak_at(at + i));
    let (old, weak) = (u32::from_le_bytes(old), u32::from_le_bytes(weak));
    let falling = (old | weak) & !u32::from_le_bytes(wanted);
    let bits: Vec<u32> = (0..32).map(|bit| 1 << bit).filter(|bit| falling & bit != 0).collect();
    if bits.is_empty() {
        return;
    }
    // Each falling bit has fallen, is in between (and reads as 1 where `ones` says so), or has not moved.
    let mut form = |class, fallen: u32, between: u32, ones: u32| {
        let mut image = before.clone();
        let value = (old & !fallen & !between | between & ones).to_le_bytes();
        let weak = (weak & !fallen | between).to_le_bytes();
        for i in 0..4 {
            image.set(at + i, value[i], weak[i]);
        }
        each(class, image);
    };
    let picked = bits[dice.next() as usize % bits.len()];
    let some: &[u32] = if depth == Depth::Full { &bits } else { &[picked] };
    for (turn, class) in CLASSES[2..12].iter().enumerate() {
        if let Depth::Few(first) = depth
            && !(turn as u64 + 10 - first % 10).is_multiple_of(5)
        {
            continue;
        }
        match class {
            Class::WordOneFallen => some.iter().for_each(|bit| form(*class, *bit, 0, 0)),
            Class::WordAllButOne => some.iter().for_each(|bit| form(*class, falling & !bit, 0, 0)),
            Class::WordOneWeak0 => some.iter().for_each(|bit| form(*class, falling & !bit, *bit, 0)),
            Class::WordOneWeak1 => some.iter().for_each(|bit| form(*class, falling & !bit, *bit, *bit)),
            Class::WordFirstWeak0 => some.iter().for_each(|bit| form(*class, 0, *bit, 0)),
            Class::WordFirstWeak1 => some.iter().for_each(|bit| form(*class, 0, *bit, *bit)),
            Class::WordAllWeak0 => form(*class, 0, falling, 0),
            Class::WordAllWeak1 => form(*class, 0, falling, falling),
            _ => {
                for _ in 0..if depth == Depth::Full { 6 } else { 1 } {
                    let fallen = falling & dice.next() as u32;
                    let between = if *class == Class::WordMixed { falling & !fallen } else { 0 };
                    form(*class, fallen, between & dice.next() as u32, dice.next() as u32);
                }
            }
        }
    }
}

fn torn_erase(
    before: &Image,
    window: usize,
    depth: Depth,
    dice: &mut Dice,
    each: &mut impl FnMut(Class, Image),
) {
    let full = depth == Depth::Full;
    let Window { at: first, len, .. } = WINDOWS[window];
    let used: Vec<usize> =
        (first..first + len).filter(|at| before.cells[*at] != 0xFF || before.weak_at(*at) != 0).collect();
    let mut rows: Vec<usize> = used.iter().map(|at| at / 16).collect();
    rows.dedup();
    if rows.is_empty() {
        return;
    }
    // For each byte in use: which bits have risen, which are in between, and which of these read as 1.
    let mut form = |class, mut cell: Box<dyn FnMut(usize) -> (u8, u8, u8) + '_>| {
        let mut image = before.clone();
        for at in &used {
            let (old, weak) = (before.cells[*at], before.weak_at(*at));
            let (risen, between, ones) = cell(*at);
            // Only what was 0, or between, can be between.
            let between = between & !risen & (!old | weak);
            let value = (old | risen) & !between | between & ones;
            image.set(*at, value, weak & !risen | between);
        }
        each(class, image);
    };
    let some: Vec<usize> = if full { rows.clone() } else { vec![rows[dice.next() as usize % rows.len()]] };
    let all = |flag: bool| if flag { 0xFF } else { 0 };
    for row in &some {
        form(Class::EraseRows, Box::new(|at| (all(at / 16 == *row), 0, 0)));
        form(Class::EraseRows, Box::new(|at| (all(at / 16 != *row), 0, 0)));
        form(Class::EraseRows, Box::new(|at| (all(at / 16 <= *row), 0, 0)));
        form(Class::EraseRows, Box::new(|at| (all(at / 16 >= *row), 0, 0)));
        for (class, ones) in [(Class::EraseRowWeakOld, 0), (Class::EraseRowWeakBlank, 0xFF)] {
            form(class, Box::new(|at| (all(at / 16 != *row), all(at / 16 == *row), ones)));
        }
    }
    for (class, ones) in [(Class::EraseAllWeakOld, 0), (Class::EraseAllWeakBlank, 0xFF)] {
        form(class, Box::new(|_| (0, 0xFF, ones)));
    }
    for _ in 0..if full { 48 } else { 2 } {
        let cell = used[dice.next() as usize % used.len()];
        let zeros: Vec<u8> = (0..8).map(|bit| 1 << bit).filter(|bit| before.cells[cell] & bit == 0).collect();
        let bit = if zeros.is_empty() { 1 } else { zeros[dice.next() as usize % zeros.len()] };
        for (class, ones) in [(Class::EraseBitWeakOld, 0), (Class::EraseBitWeakBlank, 0xFF)] {
            let weak = |at: usize| if at == cell { bit } else { 0 };
            form(class, Box::new(|at| (!weak(at), weak(at), ones)));
        }
    }
    for progress in [10, 50, 90, 97, 99] {
        for _ in 0..if full { 4 } else { 1 } {
            form(
                Class::EraseMixed,
                Box::new(|_| {
                    let (mut risen, mut between) = (0, 0);
                    for bit in 0..8 {
                        if dice.chance(progress) {
                            risen |= 1 << bit;
                        } else if dice.chance(50) {
                            between |= 1 << bit;
                        }
                    }
                    (risen, between, dice.next() as u8)
                }),
            );
        }
    }
}

/// A chip with a journal.
pub struct Chip {
    pub image: Image,
    /// What was done, each with the agent's state (an index) at that time.
    pub journal: Vec<(Op, usize)>,
    pub agent: usize,
    /// Images at the start of each erase.
    pub erases: Vec<(usize, Image)>,
    /// Programming that asked for a 1 where a solid 0 was.
    pub raised: u32,
}

impl Chip {
    pub fn new(image: Image) -> Chip {
        Chip { image, journal: Vec::new(), agent: 0, erases: Vec::new(), raised: 0 }
    }

    fn perform(&mut self, op: Op) {
        if let Op::Erase { window } = op {
            self.erases.push((usize::from(window), self.image.clone()));
        }
        self.raised += u32::from(!self.image.apply(&op));
        self.journal.push((op, self.agent));
    }
}

/// The unit's hold on a chip that outlives it.
pub struct ChipHandle(pub Rc<RefCell<Chip>>);

fn window_of(offset: u32) -> Option<(usize, usize)> {
    let address = FLASH_BASE + offset;
    let index = WINDOWS.iter().position(|window| window.region.contains(address))?;
    Some((index, (address - WINDOWS[index].region.base) as usize))
}

impl ErrorType for ChipHandle {
    type Error = NorFault;
}

impl ReadNorFlash for ChipHandle {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFault> {
        bytes.fill(0xFF);
        let (window, from) = window_of(offset).expect("the firmware reads its own regions");
        let chip = self.0.borrow();
        if let Some(cells) = chip.image.window(window).get(from..) {
            let len = cells.len().min(bytes.len());
            bytes[..len].copy_from_slice(&cells[..len]);
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        FLASH_LEN as usize
    }
}

impl NorFlash for ChipHandle {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 16 * 1024;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFault> {
        let (window, _) = window_of(from).expect("the firmware erases its own regions");
        let region = WINDOWS[window].region;
        assert!(window != SECRET, "boot sectors are write-protected against erase");
        assert!(from + FLASH_BASE == region.base && to + FLASH_BASE == region.end(), "whole sectors only");
        self.0.borrow_mut().perform(Op::Erase { window: window as u8 });
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFault> {
        assert!(offset.is_multiple_of(4) && bytes.len().is_multiple_of(4), "whole words only");
        let (window, from) = window_of(offset).expect("the firmware programs its own regions");
        assert!(from + bytes.len() <= WINDOWS[window].len, "programmed outside of the window");
        let (words, _) = bytes.as_chunks::<4>();
        for (i, word) in words.iter().enumerate() {
            let at = (WINDOWS[window].at + from + 4 * i) as u16;
            self.0.borrow_mut().perform(Op::Word { at, wanted: *word, run: words.len() as u16 });
        }
        Ok(())
    }
}

impl MultiwriteNorFlash for ChipHandle {}
