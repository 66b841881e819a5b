//! The STM32F429's two flash banks and their controller (RM0090 §3).
//!
//! Invariants:
//! - Only an erase turns a 0 into a 1; programming only turns 1 into 0.
//! - Every operation is counted when it starts; a cut armed on operation `k`
//!   leaves that operation part-done and no later one begun.
//! - What an interrupted operation leaves behind depends on (operation,
//!   progress, seed) alone.
//! - The array and the option bytes outlive power and the machine; nothing else does.
//! - Option bytes are in force from the reset after they were programmed (RM0090 §3.9.10: loaded at reset release), except
//!   that going back to level 0 erases the array at once. Level 2 is final.
//!
//! The emulator library's own F4 flash decodes four bits of SNB and completes
//! every operation at once: on a 2 MiB part it would erase the wrong sector, and
//! it could not be interrupted. Hence this one.

use crate::rng::SplitMix64;
use rsemu::core::space::RamStore;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Where the array appears in the address space.
pub const FLASH_BASE: u32 = 0x0800_0000;
/// Bytes in the array: two banks of 1 MiB.
pub const FLASH_LEN: u32 = 0x0020_0000;
/// Bytes in one bank.
pub const BANK_LEN: u32 = FLASH_LEN / 2;
/// Sectors in the array, twelve to a bank.
pub const SECTORS: u8 = 24;

/// Reset value of FLASH_OPTCR on the F42x (RM0090 §3.9.10).
const OPTCR_DEFAULT: u32 = 0x0fff_aaed;
/// Reset value of FLASH_OPTCR1.
const OPTCR1_DEFAULT: u32 = 0x0fff_0000;

/// Offset and length in bytes of sector `n` (0 to 23), RM0090 table 6.
pub fn sector(n: u8) -> (u32, u32) {
    let within = match n % 12 {
        i @ 0..=3 => (u32::from(i) * 0x4000, 0x4000),
        4 => (0x1_0000, 0x1_0000),
        i => (0x2_0000 * (u32::from(i) - 4), 0x2_0000),
    };
    (within.0 + if n >= 12 { BANK_LEN } else { 0 }, within.1)
}

/// The sector that holds byte `offset` of the array.
pub fn sector_at(offset: u32) -> u8 {
    let bank = (offset / BANK_LEN) as u8 * 12;
    bank + match offset % BANK_LEN {
        o @ 0..=0xffff => (o / 0x4000) as u8,
        0x1_0000..=0x1_ffff => 4,
        o => (4 + o / 0x2_0000) as u8,
    }
}

/// How long operations take, in cycles of the 16 MHz core clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlashTiming {
    /// One program access of up to a double word.
    pub program: u64,
    /// Erase of a 16 KiB sector.
    pub erase_16k: u64,
    /// Erase of a 64 KiB sector.
    pub erase_64k: u64,
    /// Erase of a 128 KiB sector.
    pub erase_128k: u64,
    /// Erase of one bank.
    pub erase_bank: u64,
    /// Programming of the option bytes.
    pub options: u64,
}

impl FlashTiming {
    /// Datasheet typical values at 32-bit parallelism (DS9405 table 49): a word
    /// takes 16 µs, sectors 0.25 s, 0.55 s and 1 s, a bank 8 s.
    pub const REALISTIC: FlashTiming = FlashTiming {
        program: 256,
        erase_16k: 4_000_000,
        erase_64k: 8_800_000,
        erase_128k: 16_000_000,
        erase_bank: 128_000_000,
        options: 400_000,
    };
    /// Words as on the chip, erases a hundred to two hundred times faster, so that tests are quick while
    /// every BSY wait is still walked through.
    pub const FAST: FlashTiming = FlashTiming {
        program: 256,
        erase_16k: 32_000,
        erase_64k: 64_000,
        erase_128k: 80_000,
        erase_bank: 640_000,
        options: 16_000,
    };
}

/// The option bytes that outlive power (RM0090 §3.6), as OPTCR and OPTCR1 show
/// them with the lock and start bits cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionBytes {
    /// USER, RDP and nWRP for bank 1.
    pub optcr: u32,
    /// nWRP for bank 2.
    pub optcr1: u32,
}

impl Default for OptionBytes {
    fn default() -> Self {
        OptionBytes { optcr: OPTCR_DEFAULT & !3, optcr1: OPTCR1_DEFAULT }
    }
}

/// The chip's read-out protection level (RM0090 §3.6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadProtection {
    /// RDP = 0xAA: no protection.
    Level0,
    /// Any other value: a debugger cannot reach the flash; going back to level 0 erases it.
    Level1,
    /// RDP = 0xCC: debugging is off for good.
    Level2,
}

impl OptionBytes {
    /// The protection level the RDP byte stands for.
    pub fn protection(&self) -> ReadProtection {
        match self.optcr >> 8 & 0xff {
            0xaa => ReadProtection::Level0,
            0xcc => ReadProtection::Level2,
            _ => ReadProtection::Level1,
        }
    }

    /// The same bytes at another protection level.
    pub fn with_protection(mut self, level: ReadProtection) -> Self {
        let rdp = match level {
            ReadProtection::Level0 => 0xaa,
            ReadProtection::Level1 => 0x55,
            ReadProtection::Level2 => 0xcc,
        };
        self.optcr = self.optcr & !0xff00 | rdp << 8;
        self
    }

    fn write_protected(&self, sector: u8) -> bool {
        let nwrp = if sector < 12 { self.optcr >> 16 } else { self.optcr1 >> 16 };
        nwrp & 1 << (sector % 12) == 0
    }
}

/// What a board keeps without power: the array and the option bytes, in memory
/// and, if it has a path, in `<path>` (raw bytes) and `<path>.options`.
#[derive(Debug)]
pub struct FlashStore {
    array: Arc<RamStore>,
    /// How often the array was written to.
    writes: AtomicU64,
    path: Option<PathBuf>,
    options: Mutex<(OptionBytes, bool)>,
}

impl FlashStore {
    /// A blank chip that lives in memory only.
    pub fn blank() -> FlashStore {
        let array = RamStore::new(u64::from(FLASH_LEN));
        array.fill(0, u64::from(FLASH_LEN), 0xff).expect("the range is the array");
        array.clear_dirty();
        FlashStore {
            array: Arc::new(array),
            writes: AtomicU64::new(0),
            path: None,
            options: Mutex::new((OptionBytes::default(), false)),
        }
    }

    /// The chip kept in `path`; a file that is not there yet becomes a blank one.
    ///
    /// # Errors
    /// The file cannot be read or created, or its length is not that of the array.
    pub fn open(path: &Path) -> io::Result<FlashStore> {
        let mut store = FlashStore::blank();
        match File::open(path) {
            Ok(mut file) => {
                let mut bytes = Vec::with_capacity(FLASH_LEN as usize);
                file.read_to_end(&mut bytes)?;
                if bytes.len() != FLASH_LEN as usize {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!(
                            "{} holds {} bytes, a board's flash has {FLASH_LEN}: it is not a flash image, choose another directory",
                            path.display(),
                            bytes.len()
                        ),
                    ));
                }
                store.array.write_at(0, &bytes).expect("length was checked");
                store.array.clear_dirty();
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                File::create(path)?.write_all(&vec![0xff; FLASH_LEN as usize])?;
            }
            Err(e) => return Err(e),
        }
        store.path = Some(path.to_owned());
        let text = match std::fs::read_to_string(store.options_path().expect("path was set")) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e),
        };
        let mut words = text.split_whitespace().filter_map(|w| u32::from_str_radix(w, 16).ok());
        if let (Some(optcr), Some(optcr1)) = (words.next(), words.next()) {
            store.options = Mutex::new((OptionBytes { optcr, optcr1 }, false));
        }
        Ok(store)
    }

    /// The file behind this store, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn options_path(&self) -> Option<PathBuf> {
        self.path.as_ref().map(|p| {
            let mut name = p.clone().into_os_string();
            name.push(".options");
            name.into()
        })
    }

    /// Fill `buf` from array offset `offset`.
    ///
    /// # Panics
    /// The range leaves the array.
    pub fn read(&self, offset: u32, buf: &mut [u8]) {
        self.array.read_at(u64::from(offset), buf).expect("range inside the flash array");
    }

    /// Put `bytes` at array offset `offset` whatever flash rules say: what a
    /// thief with the board on a bench, or a failing cell, does.
    ///
    /// # Panics
    /// The range leaves the array.
    pub fn tamper(&self, offset: u32, bytes: &[u8]) {
        self.array.write_at(u64::from(offset), bytes).expect("range inside the flash array");
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the array was written to: as long as this is the same, so is the array.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// The option bytes as they would be loaded at the next reset.
    pub fn options(&self) -> OptionBytes {
        self.options.lock().expect("no panics under this lock").0
    }

    /// Replace the option bytes, as a programmer would before the board reaches the line. The only way out of level 2: another
    /// chip.
    pub fn set_options(&self, options: OptionBytes) {
        *self.options.lock().expect("no panics under this lock") = (options, true);
    }

    /// Whether anything is waiting to be written to the file.
    pub fn is_dirty(&self) -> bool {
        self.path.is_some()
            && (self.array.dirty_page_count() > 0
                || self.options.lock().expect("no panics under this lock").1)
    }

    /// Write changed pages and option bytes to the file, if there is one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn flush(&self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        if self.array.dirty_page_count() > 0 {
            let file = OpenOptions::new().write(true).open(path)?;
            let size = self.array.page_size();
            let mut dirty = Vec::new();
            self.array.for_each_dirty_page(|page| dirty.push(page));
            let mut buf = vec![0u8; size as usize];
            for page in dirty {
                // Taken before it is read: a write in between marks it again.
                self.array.take_page_dirty(page);
                self.read((page * size) as u32, &mut buf);
                file.write_all_at(&buf, page * size)?;
            }
        }
        let mut options = self.options.lock().expect("no panics under this lock");
        if options.1 {
            let OptionBytes { optcr, optcr1 } = options.0;
            std::fs::write(self.options_path().expect("path is set"), format!("{optcr:08x} {optcr1:08x}\n"))?;
            options.1 = false;
        }
        Ok(())
    }

    pub(crate) fn array(&self) -> &Arc<RamStore> {
        &self.array
    }

    fn edit64(&self, offset: u32, len: u32, mut f: impl FnMut(u64) -> u64) {
        let mut word = [0u8; 8];
        for at in (offset..offset + len).step_by(8) {
            self.read(at, &mut word);
            let old = u64::from_le_bytes(word);
            let new = f(old);
            if new != old {
                self.tamper(at, &new.to_le_bytes());
            }
        }
    }
}

impl Drop for FlashStore {
    fn drop(&mut self) {
        if let Err(e) = self.flush() {
            eprintln!("virtual-board: flash image not saved: {e}");
        }
    }
}

/// A power cut waiting for a flash operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ArmedCut {
    /// How many more operations start before the light goes out; 1 means the next one.
    pub after: u64,
    /// How far that operation gets, 0 to 1.
    pub progress: f64,
    /// Which cells had been reached.
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Program { offset: u32, data: u64, len: u8 },
    Sector(u8),
    Banks { first: bool, second: bool },
    Options { new: OptionBytes, erase: bool },
}

#[derive(Debug, Clone, Copy)]
struct Operation {
    kind: Kind,
    start: u64,
    end: u64,
}

const KEY1: u32 = 0x4567_0123;
const KEY2: u32 = 0xcdef_89ab;
const OPTKEY1: u32 = 0x0819_2a3b;
const OPTKEY2: u32 = 0x4c5d_6e7f;

/// Bits of FLASH_SR (RM0090 §3.9.7).
pub mod sr {
    /// End of operation, set only while EOPIE is.
    pub const EOP: u32 = 1 << 0;
    /// Operation error, set only while ERRIE is.
    pub const OPERR: u32 = 1 << 1;
    /// Write protection error.
    pub const WRPERR: u32 = 1 << 4;
    /// Programming alignment error.
    pub const PGAERR: u32 = 1 << 5;
    /// Programming parallelism error.
    pub const PGPERR: u32 = 1 << 6;
    /// Programming sequence error.
    pub const PGSERR: u32 = 1 << 7;
    /// Busy.
    pub const BSY: u32 = 1 << 16;
}

/// Bits of FLASH_CR (RM0090 §3.9.8).
pub mod cr {
    /// Programming.
    pub const PG: u32 = 1 << 0;
    /// Sector erase.
    pub const SER: u32 = 1 << 1;
    /// Mass erase of bank 1.
    pub const MER: u32 = 1 << 2;
    /// Mass erase of bank 2.
    pub const MER1: u32 = 1 << 15;
    /// Start.
    pub const STRT: u32 = 1 << 16;
    /// End of operation interrupt enable.
    pub const EOPIE: u32 = 1 << 24;
    /// Error interrupt enable.
    pub const ERRIE: u32 = 1 << 25;
    /// Lock.
    pub const LOCK: u32 = 1 << 31;
    /// Everything software may set.
    pub(super) const WRITABLE: u32 = 0x0301_83ff;
}

/// What a register write leads to beyond the register itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing more.
    Done,
    /// The operation an armed cut was waiting for has been interrupted.
    PowerLost,
}

/// The flash interface registers and the operation under way.
#[derive(Debug)]
pub(crate) struct FlashController {
    store: Arc<FlashStore>,
    timing: FlashTiming,
    acr: u32,
    keys: u8,
    optkeys: u8,
    /// A wrong key locks the register until the next reset (RM0090 §3.5.1).
    locked_out: bool,
    opt_locked_out: bool,
    cr: u32,
    sr: u32,
    optcr: u32,
    optcr1: u32,
    /// Option bytes in force since the last reset.
    loaded: OptionBytes,
    /// A debugger has been at a chip of level 1: nothing is read, erased or programmed any more (RM0090 §3.6.3).
    shut: bool,
    op: Option<Operation>,
    count: u64,
    armed: Option<ArmedCut>,
}

impl FlashController {
    pub fn new(store: Arc<FlashStore>, timing: FlashTiming) -> Self {
        let loaded = store.options();
        FlashController {
            store,
            timing,
            acr: 0,
            keys: 0,
            optkeys: 0,
            locked_out: false,
            opt_locked_out: false,
            cr: cr::LOCK,
            sr: 0,
            optcr: loaded.optcr | 1,
            optcr1: loaded.optcr1,
            loaded,
            shut: false,
            op: None,
            count: 0,
            armed: None,
        }
    }

    /// Registers to their reset values; an operation under way is abandoned as
    /// far as it got, which RM0090 §3.5 allows to leave anything behind.
    pub fn reset(&mut self, now: u64, seed: u64) {
        self.interrupt(now, seed);
        let loaded = self.store.options();
        (self.acr, self.keys, self.optkeys) = (0, 0, 0);
        (self.locked_out, self.opt_locked_out) = (false, false);
        (self.cr, self.sr) = (cr::LOCK, 0);
        (self.optcr, self.optcr1, self.loaded) = (loaded.optcr | 1, loaded.optcr1, loaded);
    }

    /// Stop the operation under way, if any, where it stands at `now`.
    pub fn interrupt(&mut self, now: u64, seed: u64) {
        if let Some(op) = self.op.take() {
            let span = (op.end - op.start).max(1) as f64;
            let progress = now.saturating_sub(op.start) as f64 / span;
            self.apply_part(op.kind, progress, seed ^ self.count);
        }
    }

    /// Whether the array is closed to everybody; see [`Board`](crate::Board).
    pub fn set_shut(&mut self, shut: bool) {
        self.shut = shut;
    }

    pub fn set_timing(&mut self, timing: FlashTiming) {
        self.timing = timing;
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn arm(&mut self, cut: Option<ArmedCut>) {
        self.armed = cut;
    }

    pub fn armed(&self) -> Option<ArmedCut> {
        self.armed
    }

    pub fn loaded_options(&self) -> OptionBytes {
        self.loaded
    }

    /// When the operation under way ends.
    pub fn busy_until(&self) -> Option<u64> {
        self.op.map(|op| op.end)
    }

    /// Whether code or data in the bank of array offset `offset` must wait:
    /// a bank answers no read while it is written (RM0090 §3.5.2).
    pub fn stalls(&self, offset: u32) -> bool {
        let second = offset >= BANK_LEN;
        match self.op.map(|op| op.kind) {
            None => false,
            Some(Kind::Program { offset, .. }) => (offset >= BANK_LEN) == second,
            Some(Kind::Sector(n)) => (n >= 12) == second,
            Some(Kind::Banks { first, second: other }) => {
                if second {
                    other
                } else {
                    first
                }
            }
            Some(Kind::Options { .. }) => true,
        }
    }

    pub fn irq(&self) -> bool {
        self.cr & cr::EOPIE != 0 && self.sr & sr::EOP != 0
            || self.cr & cr::ERRIE != 0 && self.sr & sr::OPERR != 0
    }

    /// Finish the operation whose time has come.
    pub fn advance(&mut self, now: u64) {
        if self.op.is_some_and(|op| op.end <= now) {
            self.finish();
        }
    }

    fn finish(&mut self) {
        let Some(op) = self.op.take() else { return };
        self.apply_part(op.kind, 1.0, 0);
        self.cr &= !cr::STRT;
        self.optcr &= !2;
        if self.cr & cr::EOPIE != 0 {
            self.sr |= sr::EOP;
        }
    }

    pub fn read(&self, offset: u32) -> u32 {
        match offset {
            0x00 => self.acr,
            0x0c => self.sr | if self.op.is_some() { sr::BSY } else { 0 },
            0x10 => self.cr,
            0x14 => self.optcr,
            0x18 => self.optcr1,
            _ => 0, // KEYR and OPTKEYR read as zero.
        }
    }

    pub fn write(&mut self, offset: u32, value: u32, now: u64) -> Effect {
        match offset {
            0x00 => self.acr = value & 0x1f0f,
            0x04 => self.key(value),
            0x08 => self.option_key(value),
            0x0c => {
                self.sr &=
                    !(value & (sr::EOP | sr::OPERR | sr::WRPERR | sr::PGAERR | sr::PGPERR | sr::PGSERR))
            }
            0x10 => return self.write_cr(value, now),
            0x14 => return self.write_optcr(value, now),
            0x18 if self.optcr & 1 == 0 => self.optcr1 = value & 0x0fff_0000,
            _ => {}
        }
        Effect::Done
    }

    fn key(&mut self, value: u32) {
        match (self.locked_out, self.keys, value) {
            (false, 0, KEY1) => self.keys = 1,
            (false, 1, KEY2) => {
                self.keys = 0;
                self.cr &= !cr::LOCK;
            }
            (false, ..) => (self.locked_out, self.keys) = (true, 0),
            _ => {}
        }
    }

    fn option_key(&mut self, value: u32) {
        match (self.opt_locked_out, self.optkeys, value) {
            (false, 0, OPTKEY1) => self.optkeys = 1,
            (false, 1, OPTKEY2) => {
                self.optkeys = 0;
                self.optcr &= !1;
            }
            (false, ..) => (self.opt_locked_out, self.optkeys) = (true, 0),
            _ => {}
        }
    }

    fn fail(&mut self, bit: u32) -> Effect {
        self.sr |= bit;
        if self.cr & cr::ERRIE != 0 {
            self.sr |= sr::OPERR;
        }
        self.cr &= !cr::STRT;
        Effect::Done
    }

    fn write_cr(&mut self, value: u32, now: u64) -> Effect {
        if self.cr & cr::LOCK != 0 {
            return Effect::Done; // Locked: writes are ignored until the keys are given.
        }
        if value & cr::LOCK != 0 {
            self.cr |= cr::LOCK;
            return Effect::Done;
        }
        // A write while busy holds the bus until the operation ends (§3.9.8), so
        // by the time it takes effect the controller is free.
        let start = self.op.map_or(now, |op| op.end);
        if self.op.is_some() {
            self.finish();
        }
        self.cr = value & cr::WRITABLE;
        if value & cr::STRT == 0 {
            return Effect::Done;
        }
        if self.shut {
            return self.fail(sr::WRPERR);
        }
        let (ser, mer, mer1) = (value & cr::SER != 0, value & cr::MER != 0, value & cr::MER1 != 0);
        let kind = if ser && (mer || mer1) {
            return self.fail(sr::PGSERR);
        } else if ser {
            // Five bits: 0 to 11 are bank 1, 0b10000 + n bank 2 (§3.9.8).
            let n = match value >> 3 & 0x1f {
                n @ 0..=11 => n as u8,
                n @ 16..=27 => n as u8 - 4,
                _ => return self.fail(sr::PGSERR),
            };
            if self.loaded.write_protected(n) {
                return self.fail(sr::WRPERR);
            }
            Kind::Sector(n)
        } else if mer || mer1 {
            let protected =
                |range: std::ops::Range<u8>| range.into_iter().any(|n| self.loaded.write_protected(n));
            if mer && protected(0..12) || mer1 && protected(12..24) {
                return self.fail(sr::WRPERR);
            }
            Kind::Banks { first: mer, second: mer1 }
        } else {
            return self.fail(sr::PGSERR);
        };
        self.begin(kind, start)
    }

    fn write_optcr(&mut self, value: u32, now: u64) -> Effect {
        if self.optcr & 1 != 0 {
            return Effect::Done;
        }
        if value & 1 != 0 {
            self.optcr |= 1;
            return Effect::Done;
        }
        let start = self.op.map_or(now, |op| op.end);
        if self.op.is_some() {
            self.finish();
        }
        self.optcr = value & 0xcfff_fffc;
        if value & 2 == 0 {
            return Effect::Done;
        }
        // What is programmed counts, whether a reset has loaded it yet or not: there is no way round the erase.
        let old = self.store.options();
        let level = old.protection();
        if level == ReadProtection::Level2 {
            return self.fail(sr::WRPERR); // Level 2 freezes the option bytes for good.
        }
        let mut new = OptionBytes { optcr: self.optcr, optcr1: self.optcr1 };
        let erase = level == ReadProtection::Level1 && new.protection() == ReadProtection::Level0;
        if erase {
            // The other option bytes stay as they were, write protection included (RM0090 §3.6.3).
            new = old.with_protection(ReadProtection::Level0);
        }
        self.optcr |= 2;
        self.begin(Kind::Options { new, erase }, start)
    }

    /// A write to the array itself, `bytes` long (1, 2, 4 or 8).
    pub fn program(&mut self, offset: u32, bytes: &[u8], now: u64) -> Effect {
        let start = self.op.map_or(now, |op| op.end);
        if self.op.is_some() {
            self.finish();
        }
        if self.cr & cr::LOCK != 0 || self.cr & cr::PG == 0 || self.cr & (cr::SER | cr::MER | cr::MER1) != 0 {
            return self.fail(sr::PGSERR);
        }
        if bytes.len() != 1 << (self.cr >> 8 & 3) {
            return self.fail(sr::PGPERR);
        }
        if offset as usize % 16 + bytes.len() > 16 {
            return self.fail(sr::PGAERR); // Must not leave a 128-bit row (§3.5.4).
        }
        if self.shut || self.loaded.write_protected(sector_at(offset)) {
            return self.fail(sr::WRPERR);
        }
        let mut data = [0xff; 8];
        data[..bytes.len()].copy_from_slice(bytes);
        self.begin(Kind::Program { offset, data: u64::from_le_bytes(data), len: bytes.len() as u8 }, start)
    }

    fn begin(&mut self, kind: Kind, start: u64) -> Effect {
        self.count += 1;
        if let Some(cut) = &mut self.armed {
            cut.after = cut.after.saturating_sub(1);
            if cut.after == 0 {
                let cut = *cut;
                self.armed = None;
                self.apply_part(kind, cut.progress, cut.seed);
                return Effect::PowerLost;
            }
        }
        let t = &self.timing;
        let length = match kind {
            Kind::Program { .. } => t.program,
            Kind::Sector(n) => match sector(n).1 {
                0x4000 => t.erase_16k,
                0x1_0000 => t.erase_64k,
                _ => t.erase_128k,
            },
            Kind::Banks { .. } => t.erase_bank,
            Kind::Options { erase, .. } => t.options + if erase { t.erase_bank } else { 0 },
        };
        self.op = Some(Operation { kind, start, end: start + length.max(1) });
        Effect::Done
    }

    /// Leave `kind` done as far as `progress` says: every cell that would have
    /// changed has changed with that probability.
    fn apply_part(&mut self, kind: Kind, progress: f64, seed: u64) {
        let mut rng = SplitMix64::new(seed);
        let mut erase =
            |offset: u32, len: u32| self.store.edit64(offset, len, |old| old | rng.mask(progress));
        match kind {
            Kind::Program { offset, data, len } => {
                let mut old = [0u8; 8];
                self.store.read(offset, &mut old[..usize::from(len)]);
                let reached = rng.mask(progress);
                let new = u64::from_le_bytes(old) & (data | !reached);
                self.store.tamper(offset, &new.to_le_bytes()[..usize::from(len)]);
            }
            Kind::Sector(n) => {
                let (offset, len) = sector(n);
                erase(offset, len);
            }
            Kind::Banks { first, second } => {
                if first {
                    erase(0, BANK_LEN);
                }
                if second {
                    erase(BANK_LEN, BANK_LEN);
                }
            }
            Kind::Options { new, erase: all } => {
                if all {
                    erase(0, FLASH_LEN);
                }
                // Option bytes are one row: they are the old ones until it is done.
                if progress >= 1.0 {
                    self.store.set_options(new);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unlocked() -> (Arc<FlashStore>, FlashController) {
        let store = Arc::new(FlashStore::blank());
        let mut flash = FlashController::new(Arc::clone(&store), FlashTiming::FAST);
        flash.write(4, KEY1, 0);
        flash.write(4, KEY2, 0);
        assert_eq!(flash.read(0x10) & cr::LOCK, 0);
        (store, flash)
    }

    fn word(store: &FlashStore, offset: u32) -> u32 {
        let mut b = [0; 4];
        store.read(offset, &mut b);
        u32::from_le_bytes(b)
    }

    const PG32: u32 = cr::PG | 2 << 8;

    #[test]
    fn sector_map_is_the_reference_manual_s() {
        assert_eq!(sector(0), (0, 0x4000));
        assert_eq!(sector(4), (0x1_0000, 0x1_0000));
        assert_eq!(sector(5), (0x2_0000, 0x2_0000));
        assert_eq!(sector(11), (0xe_0000, 0x2_0000));
        assert_eq!(sector(12), (0x10_0000, 0x4000));
        assert_eq!(sector(16), (0x11_0000, 0x1_0000));
        assert_eq!(sector(23), (0x1e_0000, 0x2_0000));
        for n in 0..SECTORS {
            let (offset, len) = sector(n);
            assert_eq!((sector_at(offset), sector_at(offset + len - 1)), (n, n));
        }
    }

    #[test]
    fn erase_of_a_bank_two_sector_takes_the_fifth_snb_bit() {
        let (store, mut flash) = unlocked();
        for n in 0..SECTORS {
            store.tamper(sector(n).0, &[0; 4]);
        }
        flash.write(0x10, cr::SER | 0b10100 << 3 | cr::STRT, 0);
        flash.advance(u64::MAX);
        for n in 0..SECTORS {
            assert_eq!(word(&store, sector(n).0), if n == 16 { u32::MAX } else { 0 }, "sector {n}");
        }
        flash.write(0x10, cr::SER | 12 << 3 | cr::STRT, 0);
        assert_ne!(flash.read(0x0c) & sr::PGSERR, 0, "SNB 12 is reserved on this part");
        assert!(flash.busy_until().is_none());
    }

    #[test]
    fn busy_lasts_as_long_as_the_operation_and_content_changes_at_its_end() {
        let (store, mut flash) = unlocked();
        flash.write(0x10, PG32, 0);
        flash.program(0x100, &0x1234_5678u32.to_le_bytes(), 1000);
        assert_ne!(flash.read(0x0c) & sr::BSY, 0);
        flash.advance(1000 + FlashTiming::FAST.program - 1);
        assert_eq!((flash.read(0x0c) & sr::BSY != 0, word(&store, 0x100)), (true, u32::MAX));
        flash.advance(1000 + FlashTiming::FAST.program);
        assert_eq!((flash.read(0x0c) & sr::BSY != 0, word(&store, 0x100)), (false, 0x1234_5678));
    }

    #[test]
    fn programming_only_clears_bits() {
        let (store, mut flash) = unlocked();
        flash.write(0x10, PG32, 0);
        flash.program(0, &0xffff_00ffu32.to_le_bytes(), 0);
        flash.program(0, &0x00ff_ff00u32.to_le_bytes(), 0);
        flash.advance(u64::MAX);
        assert_eq!(word(&store, 0), 0x00ff_0000);
    }

    #[test]
    fn width_must_match_psize_and_stay_in_a_row() {
        let (store, mut flash) = unlocked();
        flash.write(0x10, PG32, 0);
        flash.program(0, &[0; 2], 0);
        assert_ne!(flash.read(0x0c) & sr::PGPERR, 0);
        flash.program(0x0e, &[0; 4], 0);
        assert_ne!(flash.read(0x0c) & sr::PGAERR, 0);
        flash.write(0x0c, sr::PGPERR | sr::PGAERR, 0);
        assert_eq!(flash.read(0x0c), 0);
        assert_eq!(word(&store, 0), u32::MAX);
    }

    #[test]
    fn locked_or_unprepared_writes_are_sequence_errors_and_a_wrong_key_locks_out() {
        let store = Arc::new(FlashStore::blank());
        let mut flash = FlashController::new(Arc::clone(&store), FlashTiming::FAST);
        flash.program(0, &[0; 4], 0);
        assert_ne!(flash.read(0x0c) & sr::PGSERR, 0);
        flash.write(4, KEY2, 0);
        flash.write(4, KEY1, 0);
        flash.write(4, KEY2, 0);
        assert_ne!(flash.read(0x10) & cr::LOCK, 0, "locked until reset after a wrong key");
        flash.reset(0, 0);
        flash.write(4, KEY1, 0);
        flash.write(4, KEY2, 0);
        assert_eq!(flash.read(0x10) & cr::LOCK, 0);
        assert_eq!(word(&store, 0), u32::MAX);
    }

    #[test]
    fn end_of_operation_and_error_flags_follow_their_interrupt_enables() {
        let (_, mut flash) = unlocked();
        flash.write(0x10, PG32, 0);
        flash.program(0, &[0; 4], 0);
        flash.advance(u64::MAX - 1);
        assert_eq!(flash.read(0x0c) & sr::EOP, 0);
        flash.write(0x10, PG32 | cr::EOPIE | cr::ERRIE, 0);
        flash.program(4, &[0; 4], 0);
        flash.advance(u64::MAX - 1);
        assert_ne!(flash.read(0x0c) & sr::EOP, 0);
        assert!(flash.irq());
        flash.program(8, &[0; 1], 0);
        assert_ne!(flash.read(0x0c) & sr::OPERR, 0);
    }

    #[test]
    fn a_torn_word_is_between_old_and_new_and_repeats_from_its_seed() {
        let torn = |seed: u64| {
            let (store, mut flash) = unlocked();
            flash.arm(Some(ArmedCut { after: 2, progress: 0.5, seed }));
            flash.write(0x10, PG32, 0);
            assert_eq!(flash.program(0, &[0; 4], 0), Effect::Done);
            assert_eq!(flash.program(4, &[0; 4], 0), Effect::PowerLost);
            assert_eq!((flash.count(), word(&store, 0), word(&store, 8)), (2, 0, u32::MAX));
            word(&store, 4)
        };
        assert_eq!(torn(1), torn(1));
        assert!((0..20).any(|seed| !matches!(torn(seed), 0 | u32::MAX)));
        assert!((0..20).any(|seed| torn(seed) != torn(0)));
    }

    #[test]
    fn a_part_done_erase_sets_about_its_progress_of_the_cells() {
        let (store, mut flash) = unlocked();
        let (offset, len) = sector(4);
        store.tamper(offset, &vec![0; len as usize]);
        flash.write(0x10, cr::SER | 4 << 3 | cr::STRT, 0);
        flash.interrupt(FlashTiming::FAST.erase_64k / 4, 99);
        let mut bytes = vec![0; len as usize];
        store.read(offset, &mut bytes);
        let ones: u32 = bytes.iter().map(|b| b.count_ones()).sum();
        let density = f64::from(ones) / f64::from(len * 8);
        assert!((density - 0.25).abs() < 0.02, "{density}");
    }

    fn unlock(flash: &mut FlashController) {
        for (register, keys) in [(4, [KEY1, KEY2]), (8, [OPTKEY1, OPTKEY2])] {
            for key in keys {
                flash.write(register, key, 0);
            }
        }
    }

    const DONE: u64 = u64::MAX - 1;
    /// Level 1, sectors 0 to 3 write-protected.
    const LOCKED: u32 = OPTCR_DEFAULT & !3 & !0x000f_ff00 | 0x5500;

    #[test]
    fn protection_comes_into_force_with_the_reset_and_goes_with_the_content() {
        let (store, mut flash) = unlocked();
        store.tamper(0, &[1; 4]);
        store.tamper(0x11_0000, &[2; 4]);
        unlock(&mut flash);
        flash.write(0x14, LOCKED | 2, 0);
        flash.advance(DONE);
        assert_eq!(store.options().protection(), ReadProtection::Level1);
        assert_eq!(flash.loaded_options().protection(), ReadProtection::Level0, "not loaded yet");
        flash.reset(0, 0);
        assert_eq!((flash.read(0x14), flash.loaded_options()), (LOCKED | 1, store.options()));
        unlock(&mut flash);
        // Program, sector erase and mass erase leave a protected sector alone; its neighbours work.
        flash.write(0x10, PG32, 0);
        flash.program(0xc000, &[0; 4], 0);
        assert_ne!(flash.read(0x0c) & sr::WRPERR, 0);
        for wish in [cr::SER | 3 << 3, cr::MER] {
            flash.write(0x0c, sr::WRPERR, 0);
            flash.write(0x10, wish | cr::STRT, 0);
            assert_ne!(flash.read(0x0c) & sr::WRPERR, 0);
        }
        flash.write(0x10, PG32, 0);
        flash.program(0x1_0000, &[0; 4], 0);
        flash.advance(DONE);
        assert_eq!(
            [word(&store, 0), word(&store, 0xc000), word(&store, 0x1_0000)],
            [0x0101_0101, u32::MAX, 0]
        );
        // Back to level 0: the chip pays with all its content, write-protected sectors too, and at once.
        unlock(&mut flash);
        flash.write(0x14, OPTCR_DEFAULT & !3 | 2, 0);
        flash.advance(DONE);
        let mut all = vec![0; FLASH_LEN as usize];
        store.read(0, &mut all);
        assert!(all.iter().all(|b| *b == 0xff));
        assert_eq!(store.options().optcr, LOCKED & !0xff00 | 0xaa00, "write protection is still there");
    }

    #[test]
    fn there_is_no_way_round_the_erase() {
        // Raised and taken back before any reset.
        let (store, mut flash) = unlocked();
        store.tamper(0, &[1; 4]);
        unlock(&mut flash);
        flash.write(0x14, LOCKED | 2, 0);
        flash.advance(DONE);
        flash.write(0x14, OPTCR_DEFAULT & !3 | 2, 0);
        flash.advance(DONE);
        assert_eq!(word(&store, 0), u32::MAX);
        // Cut half-way: the level stays until everything is gone.
        store.set_options(OptionBytes { optcr: LOCKED, optcr1: OPTCR1_DEFAULT });
        store.tamper(0, &vec![0; FLASH_LEN as usize]);
        flash.reset(0, 0);
        unlock(&mut flash);
        flash.write(0x14, OPTCR_DEFAULT & !3 | 2, 0);
        let end = flash.busy_until().unwrap();
        flash.interrupt(end - end / 10, 7);
        assert_eq!(store.options().protection(), ReadProtection::Level1);
    }

    #[test]
    fn level_2_is_final() {
        let (store, mut flash) = unlocked();
        store.tamper(0, &[1; 4]);
        unlock(&mut flash);
        flash.write(0x14, OPTCR_DEFAULT & !3 & !0xff00 | 0xcc00 | 2, 0);
        flash.advance(DONE);
        for level in [0xaa00, 0x5500] {
            flash.reset(0, 0);
            unlock(&mut flash);
            flash.write(0x14, OPTCR_DEFAULT & !3 & !0xff00 | level | 2, 0);
            flash.advance(DONE);
            assert_ne!(flash.read(0x0c) & sr::WRPERR, 0);
            assert_eq!(store.options().protection(), ReadProtection::Level2);
        }
        assert_eq!(word(&store, 0), 0x0101_0101);
    }

    #[test]
    fn the_array_survives_in_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("board-1.flash");
        let store = FlashStore::open(&path).unwrap();
        store.tamper(0x1f_fffc, &[1, 2, 3, 4]);
        store.set_options(OptionBytes::default().with_protection(ReadProtection::Level1));
        drop(store);
        let store = FlashStore::open(&path).unwrap();
        assert_eq!(word(&store, 0x1f_fffc), 0x0403_0201);
        assert_eq!(store.options().protection(), ReadProtection::Level1);
        std::fs::write(&path, b"short").unwrap();
        assert!(FlashStore::open(&path).unwrap_err().to_string().contains("not a flash image"));
    }
}
