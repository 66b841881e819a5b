//! No panicking path in the firmware: a look at the linked image, where the optimiser has had its say.
//!
//! A panic on a unit is a reset in the middle of an exchange. Lints keep our own code free of `unwrap` and
//! indexing, but only the image shows what libraries bring along and which checks were proved away. So every
//! branch of the image is decoded (ARM DDI 0403 A7.7), and a way into the panic machinery is an error unless
//! [`ALLOWED`] names it with the proof that it is never taken.
//!
//! - *The machinery* is the panic handler, all of `core::panicking`, and every function of `core` or `alloc`
//!   that reaches those (`slice_index_fail`, `unwrap_failed`, …): found by what they call, not by a list of names.
//! - *A way in* is a direct branch of any width, an address put together by MOVW and MOVT, or a word of a literal
//!   pool, a table or a static that holds the address.
//! - Inlined code counts as the function that it was inlined into. The engine and most of the store are inlined
//!   into `main`, which therefore has to be free of panics altogether.
//! - Traps (`udf`) are not looked for: they come from `abort` and unreachable code, not from checks.

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, SymbolKind};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A call into the panic machinery that is known never to be taken.
#[derive(Debug)]
pub struct Allowance {
    /// The demangled name of the function it is in.
    pub caller: &'static str,
    /// The demangled name of what it calls.
    pub callee: &'static str,
    /// How many of these calls there are at most.
    pub calls: usize,
    /// Why they are never taken.
    pub proof: &'static str,
}

/// What `app` may contain. `boot` may contain nothing.
pub const ALLOWED: &[Allowance] = &[
    Allowance {
        caller: "aes::backends::soft::fixslice::utils::memshift32",
        callee: "core::panicking::panic_bounds_check",
        calls: 2,
        proof: "called by the AES-256 key schedule only, with loop counters over an array of 120 words; no index \
                depends on the key, so the known-answer tests take every one of them",
    },
    Allowance {
        caller: "aes::backends::soft::fixslice::utils::xor_columns",
        callee: "core::panicking::panic_bounds_check",
        calls: 2,
        proof: "as memshift32",
    },
    Allowance {
        caller: "keywright_protocol::crypto::library_verify",
        callee: "core::panicking::panic_bounds_check",
        calls: 1,
        proof: "curve25519-dalek's NafLookupTable5::select: eight entries, the index is half of an odd digit whose \
                magnitude is below 16, which the width-5 non-adjacent form of any scalar ensures",
    },
];

/// A way into the panic machinery.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// The function or object it is in.
    caller: String,
    /// The function of the machinery it leads to.
    callee: String,
    /// Where.
    site: u32,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` at {:#010x} leads to `{}`", self.caller, self.site, self.callee)
    }
}

/// Checks one ELF; returns the allowances that it needs.
///
/// # Errors
/// Names every way into the panic machinery that `allowed` does not have, and every allowance that is no longer
/// needed (so that the list can't outgrow the image, and a decoder that finds nothing is noticed).
pub fn check<'a>(elf: &[u8], allowed: &'a [Allowance]) -> Result<Vec<&'a Allowance>> {
    let found = Program::parse(elf)?.panic_entries();
    let mut used = vec![0; allowed.len()];
    let mut refused = Vec::new();
    for entry in &found {
        let allowance = allowed
            .iter()
            .zip(&mut used)
            .find(|(a, used)| a.caller == entry.caller && a.callee == entry.callee && **used < a.calls);
        match allowance {
            Some((_, used)) => *used += 1,
            None => refused.push(format!("  {entry}")),
        }
    }
    ensure!(
        refused.is_empty(),
        "the firmware can panic:\n{}\n\
         `arm-none-eabi-addr2line -ife <elf> <address>` shows the line. Rewrite it so that the check is an error \
         or vanishes; ALLOWED in xtask/src/panics.rs is for what provably never happens",
        refused.join("\n")
    );
    let stale: Vec<_> =
        allowed.iter().zip(&used).filter(|(_, used)| **used == 0).map(|(a, _)| a.caller).collect();
    ensure!(
        stale.is_empty(),
        "these no longer lead to a panic, take them out of ALLOWED in xtask/src/panics.rs: {}",
        stale.join(", ")
    );
    Ok(allowed.iter().collect())
}

/// An image as far as this check needs it.
#[derive(Default)]
struct Program {
    /// Every function and object, by address. Thumb bits are cleared.
    symbols: BTreeMap<u32, Vec<String>>,
    /// Where functions begin.
    functions: BTreeSet<u32>,
    /// Runs of instructions.
    code: Vec<(u32, Vec<u8>)>,
    /// Everything else: literal pools, constants, statics.
    data: Vec<(u32, Vec<u8>)>,
}

impl Program {
    fn parse(elf: &[u8]) -> Result<Self> {
        let file = object::File::parse(elf).context("not an object file")?;
        let mut program = Self::default();
        // Mapping symbols (ELF for the Arm Architecture §5.5.5): what is code and what is data among it.
        let mut mapping: BTreeMap<u32, bool> = BTreeMap::new();
        for symbol in file.symbols().filter(|symbol| !symbol.is_undefined()) {
            let (Ok(name), Ok(address)) = (symbol.name(), u32::try_from(symbol.address())) else { continue };
            if let Some(kind) = name.strip_prefix('$') {
                match kind.split('.').next() {
                    Some("t") => mapping.insert(address, true),
                    Some("d") => mapping.insert(address, false),
                    _ => None,
                };
                continue;
            }
            let address = match symbol.kind() {
                SymbolKind::Text => address & !1,
                SymbolKind::Data => address,
                _ => continue,
            };
            if symbol.kind() == SymbolKind::Text {
                program.functions.insert(address);
            }
            let name = format!("{:#}", rustc_demangle::demangle(name));
            program.symbols.entry(address).or_default().push(name);
        }
        ensure!(
            !program.functions.is_empty() && mapping.values().any(|is_code| *is_code),
            "the image has no symbols; it must not be stripped before this check"
        );
        for section in file.sections() {
            let SectionFlags::Elf { sh_flags: flags, .. } = section.flags() else { continue };
            let bytes = section.data().context("truncated ELF")?;
            if flags & u64::from(object::elf::SHF_ALLOC) == 0 || bytes.is_empty() {
                continue;
            }
            let start = u32::try_from(section.address())?;
            if flags & u64::from(object::elf::SHF_EXECINSTR) == 0 {
                program.data.push((start, bytes.to_vec()));
                continue;
            }
            let end = start + u32::try_from(bytes.len())?;
            let mut bounds: Vec<(u32, bool)> = mapping.range(start..end).map(|(a, c)| (*a, *c)).collect();
            // What no symbol claims is read both ways: nothing is overlooked for want of a symbol.
            if bounds.first().is_none_or(|(first, _)| *first > start) {
                bounds.insert(0, (start, true));
                let first = bounds.get(1).map_or(end, |(first, _)| *first);
                program.data.push((start, bytes[..(first - start) as usize].to_vec()));
            }
            let ends: Vec<u32> = bounds.iter().skip(1).map(|(at, _)| *at).chain([end]).collect();
            for ((from, is_code), to) in bounds.into_iter().zip(ends) {
                let run = bytes[(from - start) as usize..(to - start) as usize].to_vec();
                if is_code { &mut program.code } else { &mut program.data }.push((from, run));
            }
        }
        Ok(program)
    }

    /// The names of what `address` lies in.
    fn owner(&self, address: u32) -> String {
        match self.symbols.range(..=address).next_back() {
            Some((_, names)) => names.join(" = "),
            None => "code without a symbol".into(),
        }
    }

    /// Every reference to the start of a function: (where from, which).
    fn references(&self) -> Vec<(u32, u32)> {
        let mut found = Vec::new();
        for (start, bytes) in &self.code {
            // Halves of addresses that MOVW has put into registers.
            let mut low: [Option<u16>; 16] = [None; 16];
            let half = |at: usize| bytes.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
            let mut at = 0;
            while let Some(first) = half(at) {
                let site = start + at as u32;
                let second = half(at + 2).unwrap_or(0);
                let wide = is_wide(first);
                match decode(site, first, second) {
                    Some(Use::Branch(target)) => found.push((site, target)),
                    Some(Use::Low(register, value)) => low[register] = Some(value),
                    Some(Use::High(register, value)) => {
                        let whole = low[register].map(|low| u32::from(value) << 16 | u32::from(low));
                        found.extend(whole.filter(|a| a & 1 == 1).map(|address| (site, address & !1)));
                    }
                    None => {}
                }
                at += if wide { 4 } else { 2 };
            }
        }
        for (start, bytes) in &self.data {
            let skip = start.wrapping_neg() as usize % 4;
            for (n, word) in bytes.get(skip..).unwrap_or(&[]).chunks_exact(4).enumerate() {
                let value = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
                if value & 1 == 1 {
                    found.push((start + (skip + 4 * n) as u32, value & !1));
                }
            }
        }
        found.retain(|(_, target)| self.functions.contains(target));
        found
    }

    /// Every way from outside into the panic machinery.
    fn panic_entries(&self) -> Vec<Entry> {
        let references: Vec<(String, u32, u32)> =
            self.references().into_iter().map(|(site, to)| (self.owner(site), site, to)).collect();
        let mut machinery: BTreeSet<String> = self
            .functions
            .iter()
            .map(|address| self.owner(*address))
            .filter(|name| name.contains("rust_begin_unwind") || name.contains("core::panicking::"))
            .collect();
        loop {
            let more: Vec<&String> = references
                .iter()
                .filter(|(from, _, to)| is_core(from) && machinery.contains(&self.owner(*to)))
                .map(|(from, ..)| from)
                .filter(|from| !machinery.contains(*from))
                .collect();
            if more.is_empty() {
                break;
            }
            machinery.extend(more.into_iter().cloned());
        }
        let mut entries: Vec<Entry> = references
            .into_iter()
            .filter(|(caller, ..)| !machinery.contains(caller))
            .map(|(caller, site, to)| Entry { caller, callee: self.owner(to), site })
            .filter(|entry| machinery.contains(&entry.callee))
            .collect();
        entries.sort();
        entries
    }
}

/// Whether a function is of the language's own libraries: then not it is to blame but who calls it.
fn is_core(name: &str) -> bool {
    ["core::", "<core::", "alloc::", "<alloc::"].iter().any(|prefix| name.starts_with(prefix))
}

/// What an instruction tells about addresses of code.
#[derive(Debug, PartialEq, Eq)]
enum Use {
    /// A branch, with or without link.
    Branch(u32),
    /// MOVW: the low half of a register, the high half cleared.
    Low(usize, u16),
    /// MOVT: the high half of a register.
    High(usize, u16),
}

/// Whether a halfword is the first of a 32-bit instruction (A5.1).
const fn is_wide(first: u16) -> bool {
    first >> 11 >= 0b11101
}

/// Decodes the instruction at `at`. `second` is what follows `first`.
fn decode(at: u32, first: u16, second: u16) -> Option<Use> {
    let (one, two) = (u32::from(first), u32::from(second));
    let to = |offset: i32| Some(Use::Branch(at.wrapping_add(4).wrapping_add_signed(offset)));
    if !is_wide(first) {
        return match first >> 12 {
            // B<c> T1; conditions 14 and 15 are UDF and SVC.
            0b1101 if one >> 8 & 0xF < 14 => to(signed(one & 0xFF, 8) * 2),
            // B T2.
            0b1110 if one >> 11 & 1 == 0 => to(signed(one & 0x7FF, 11) * 2),
            // CBZ, CBNZ: forward only.
            0b1011 if one & 0x500 == 0x100 => to(((one >> 9 & 1) << 6 | (one >> 3 & 0x1F) << 1) as i32),
            _ => None,
        };
    }
    if first >> 11 != 0b11110 {
        return None;
    }
    let (s, j1, j2) = (one >> 10 & 1, two >> 13 & 1, two >> 11 & 1);
    if two >> 15 == 1 {
        return match (two >> 14 & 1, two >> 12 & 1) {
            // BL T1 and B.W T4: S:I1:I2:imm10:imm11, where I = NOT(J XOR S).
            (_, 1) => {
                let (i1, i2) = (!(j1 ^ s) & 1, !(j2 ^ s) & 1);
                let offset = s << 23 | i1 << 22 | i2 << 21 | (one & 0x3FF) << 11 | two & 0x7FF;
                to(signed(offset, 24) * 2)
            }
            // B<c>.W T3: S:J2:J1:imm6:imm11; the remaining conditions are system instructions.
            (0, 0) if one >> 6 & 0xF < 14 => {
                let offset = s << 19 | j2 << 18 | j1 << 17 | (one & 0x3F) << 11 | two & 0x7FF;
                to(signed(offset, 20) * 2)
            }
            _ => None,
        };
    }
    let register = (two >> 8 & 0xF) as usize;
    let value = ((one & 0xF) << 12 | (one >> 10 & 1) << 11 | (two >> 12 & 7) << 8 | two & 0xFF) as u16;
    match one & 0xFBF0 {
        0xF240 => Some(Use::Low(register, value)),
        0xF2C0 => Some(Use::High(register, value)),
        _ => None,
    }
}

/// The low `bits` of `value` as a two's complement number.
const fn signed(value: u32, bits: u32) -> i32 {
    ((value << (32 - bits)) as i32) >> (32 - bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: u32 = 0x0802_0000;
    const CONSTANTS: u32 = 0x0803_0000;

    /// Encodings as arm-none-eabi-objdump shows them.
    #[test]
    fn known_encodings_decode() {
        for (at, first, second, target) in [
            (0x0802_d584, 0xf7fa, 0xfcaf, 0x0802_7ee6), // bl, backward
            (0x0802_0272, 0xf007, 0xfcca, 0x0802_7c0a), // bl, forward
            (0x0802_076c, 0xf000, 0xbaf3, 0x0802_0d56), // b.w, forward
            (0x0802_123c, 0xf7ff, 0xbccf, 0x0802_0bde), // b.w, backward
            (0x0802_0400, 0xf4bf, 0xaf77, 0x0802_02f2), // bcs.w, backward
            (0x0802_0914, 0xf040, 0x80c0, 0x0802_0a98), // bne.w, forward
            (0x0802_e7be, 0xd1d7, 0, 0x0802_e770),      // bne.n, backward
            (0x0802_e776, 0xd22e, 0, 0x0802_e7d6),      // bcs.n, forward
            (0x0802_0250, 0xe7fb, 0, 0x0802_024a),      // b.n
            (0x0802_0366, 0xb3d3, 0, 0x0802_03de),      // cbz
            (0x0802_0418, 0xb108, 0, 0x0802_041e),      // cbz
        ] {
            assert_eq!(decode(at, first, second), Some(Use::Branch(target)), "{first:04x} {second:04x}");
        }
        assert_eq!(decode(0, 0xf642, 0x52fc), Some(Use::Low(2, 11772)));
        assert_eq!(decode(0, 0xf6c0, 0x0203), Some(Use::High(2, 2051)));
        assert_eq!(decode(0, 0xf2c2, 0x0200), Some(Use::High(2, 8192)));
        // push, it cs, stmdb, and.w, svc, udf, wfi, dsb: none leads anywhere.
        for (first, second) in [
            (0xb5f0, 0),
            (0xbf28, 0),
            (0xe92d, 0x0700),
            (0xf002, 0x050f),
            (0xdf00, 0),
            (0xdefe, 0),
            (0xbf30, 0),
            (0xf3bf, 0x8f4f),
        ] {
            assert_eq!(decode(0x0802_0000, first, second), None, "{first:04x} {second:04x}");
        }
    }

    #[test]
    fn a_branch_with_link_round_trips_over_its_whole_range() {
        for distance in [-(1 << 24), -(1 << 23) - 2, -4096, -2, 0, 2, 4094, 1 << 23, (1 << 24) - 2] {
            let [first, second] = bl(0x1000_0000, 0x1000_0004_u32.wrapping_add_signed(distance));
            let target = 0x1000_0004_u32.wrapping_add_signed(distance);
            assert_eq!(decode(0x1000_0000, first, second), Some(Use::Branch(target)), "{distance}");
        }
    }

    /// BL from `at` to `target`, written down apart from the decoder (A7.7.18).
    fn bl(at: u32, target: u32) -> [u16; 2] {
        let offset = target.wrapping_sub(at + 4);
        let bit = |n: u32| offset >> n & 1;
        let (s, i1, i2) = (bit(24), bit(23), bit(22));
        let (j1, j2) = (u32::from(i1 == s), u32::from(i2 == s));
        let first = 0xF000 | s << 10 | offset >> 12 & 0x3FF;
        let second = 0xD000 | j1 << 13 | j2 << 11 | offset >> 1 & 0x7FF;
        [first as u16, second as u16]
    }

    const NOP: u16 = 0xbf00;
    const RETURN: u16 = 0x4770;
    const PANIC: u32 = TEXT;
    const FAIL: u32 = TEXT + 4;
    const VICTIM: u32 = TEXT + 12;

    /// Panic function, a `core` function that calls it, and `body` as a function of ours behind them; `tail` is
    /// its literal pool, `constants` a table in another section.
    fn elf(body: &[u16], tail: &[u32], constants: &[u32]) -> Vec<u8> {
        let [first, second] = bl(FAIL, PANIC);
        let mut halves = vec![NOP, RETURN, first, second, NOP, NOP];
        halves.extend(body);
        let mut text: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
        let pool = TEXT + text.len() as u32;
        text.extend(tail.iter().flat_map(|word| word.to_le_bytes()));
        let rodata: Vec<u8> = constants.iter().flat_map(|word| word.to_le_bytes()).collect();

        let (mut strings, mut symbols) = (vec![0], vec![0; 16]);
        // Local symbols: type in the low half of `info` (0 none, 1 object, 2 function); then the section's number.
        for (name, value, info, section) in [
            ("$t", TEXT, 0, 1),
            ("$d", pool, 0, 1),
            ("_ZN4core9panicking9panic_fmt17h0123456789abcdefE", PANIC | 1, 2, 1),
            ("_ZN4core5slice5index16slice_index_fail17h0123456789abcdefE", FAIL | 1, 2, 1),
            ("_ZN3app4main17h0123456789abcdefE", VICTIM | 1, 2, 1),
            ("TABLE", CONSTANTS, 1, 2),
        ] {
            symbols.extend((strings.len() as u32).to_le_bytes());
            symbols.extend(u32::to_le_bytes(value));
            symbols.extend([0, 0, 0, 0, info, 0, section, 0]);
            strings.extend(name.bytes().chain([0]));
        }
        // Header, sections' bytes, section headers (type, flags, address, bytes, link, info, entry size).
        let none = Vec::new();
        let locals = (symbols.len() / 16) as u32;
        let sections = [
            ([0, 0, 0], &none, [0, 0, 0]),
            ([1, 6, TEXT], &text, [0, 0, 0]),
            ([1, 2, CONSTANTS], &rodata, [0, 0, 0]),
            ([2, 0, 0], &symbols, [4, locals, 16]),
            ([3, 0, 0], &strings, [0, 0, 0]),
        ];
        let (mut payload, mut headers) = (Vec::new(), Vec::new());
        for ([kind, flags, address], bytes, [link, info, size]) in sections {
            let offset = 52 + payload.len() as u32;
            for word in [0, kind, flags, address, offset, bytes.len() as u32, link, info, 4, size] {
                headers.extend(word.to_le_bytes());
            }
            payload.extend(bytes);
            payload.resize(payload.len().next_multiple_of(4), 0);
        }
        let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend([2, 0, 40, 0, 1, 0, 0, 0]);
        for word in [TEXT | 1, 0, 52 + payload.len() as u32, 0x0500_0000] {
            file.extend(word.to_le_bytes());
        }
        for half in [52_u16, 32, 0, 40, 5, 4] {
            file.extend(half.to_le_bytes());
        }
        file.extend(payload);
        file.extend(headers);
        file
    }

    fn refusal(elf: &[u8], allowed: &[Allowance]) -> String {
        check(elf, allowed).expect_err("the way into a panic was not seen").to_string()
    }

    #[test]
    fn code_that_cannot_panic_passes() {
        assert_eq!(check(&elf(&[NOP, RETURN], &[0x0802_1235], &[1, 2]), &[]).expect("clean").len(), 0);
    }

    #[test]
    fn every_way_into_a_panic_is_found() {
        let [first, second] = bl(VICTIM + 2, PANIC);
        let direct = refusal(&elf(&[NOP, first, second], &[], &[]), &[]);
        assert!(
            direct.contains("`app::main` at 0x0802000e leads to `core::panicking::panic_fmt`"),
            "{direct}"
        );
        // A core function counts by what it calls, whatever its name.
        let [first, second] = bl(VICTIM, FAIL);
        let through = refusal(&elf(&[first, second], &[], &[]), &[]);
        assert!(through.contains("leads to `core::slice::index::slice_index_fail`"), "{through}");
        // b.n to TEXT + 4; movw r0 and movt r0; a literal pool; a table elsewhere.
        let short = refusal(&elf(&[0xe7fa, NOP], &[], &[]), &[]);
        assert!(short.contains("`app::main` at 0x0802000c"), "{short}");
        let moved = refusal(&elf(&[0xf240, 0x0001, 0xf6c0, 0x0002], &[], &[]), &[]);
        assert!(moved.contains("`app::main` at 0x08020010"), "{moved}");
        let pool = refusal(&elf(&[NOP, RETURN], &[7, PANIC | 1], &[]), &[]);
        assert!(pool.contains("`app::main` at 0x08020014"), "{pool}");
        let table = refusal(&elf(&[NOP, RETURN], &[], &[0, FAIL | 1]), &[]);
        assert!(table.contains("`TABLE` at 0x08030004"), "{table}");
    }

    #[test]
    fn an_allowance_covers_its_own_calls_only_and_never_outlives_them() {
        const ONE: &[Allowance] = &[Allowance {
            caller: "app::main",
            callee: "core::panicking::panic_fmt",
            calls: 1,
            proof: "a test",
        }];
        let once = bl(VICTIM, PANIC);
        let twice = [once, bl(VICTIM + 4, PANIC)].concat();
        assert_eq!(check(&elf(&once, &[], &[]), ONE).expect("allowed").len(), 1);
        assert!(refusal(&elf(&twice, &[], &[]), ONE).contains("0x08020010"));
        assert!(refusal(&elf(&bl(VICTIM, FAIL), &[], &[]), ONE).contains("slice_index_fail"));
        assert!(refusal(&elf(&[NOP, RETURN], &[], &[]), ONE).contains("take them out"));
    }

    #[test]
    fn an_image_without_symbols_is_refused() {
        let mut stripped = elf(&[NOP, RETURN], &[], &[]);
        // The symbol table's section type becomes PROGBITS.
        let headers = u32::from_le_bytes([stripped[32], stripped[33], stripped[34], stripped[35]]) as usize;
        stripped[headers + 3 * 40 + 4] = 1;
        assert!(refusal(&stripped, &[]).contains("stripped"));
    }

    #[test]
    fn every_allowance_has_a_proof() {
        for allowance in ALLOWED {
            assert!(allowance.proof.len() > 10 && allowance.calls > 0, "{allowance:?}");
        }
    }
}
