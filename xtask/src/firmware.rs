//! The common image: boot and app for the STM32F429, packed as `docs/contracts.md` says, and refused if it can
//! panic (see `panics`).

use crate::{cargo, panics, target_dir};
use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSegment, ObjectSymbol};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

use crate::setup::CHIP_TARGET as TRIPLE;
const INFO_OFFSET: usize = 0x200;
const INFO_MAGIC: &[u8] = b"KWIMAGE1";

/// What `build` leaves in `target/firmware`.
pub struct CommonImage {
    /// `common-image.json`.
    pub json: PathBuf,
    /// Its parts.
    pub parts: Vec<Part>,
}

/// One part of the common image.
pub struct Part {
    /// `boot` or `app`.
    pub name: &'static str,
    /// Where it is flashed.
    pub address: u64,
    /// Bytes of the raw binary.
    pub length: usize,
    /// Bytes of statics (.data and .bss) in RAM.
    pub ram_statics: u64,
    /// The ways into a panic that it still has, each proved never to be taken.
    pub dead_panics: Vec<&'static panics::Allowance>,
}

/// Builds both binaries and packs them.
pub fn build() -> Result<CommonImage> {
    crate::setup::ensure(&[crate::setup::Need::Build, crate::setup::Need::ChipTarget])?;
    crate::run(cargo().args([
        "build",
        "--quiet",
        "--package",
        "keywright-device-fw",
        "--profile",
        "firmware",
        "--target",
        TRIPLE,
        "--features",
        "target",
        "--bins",
    ]))
    .context("building the firmware")?;
    let out = target_dir().join("firmware");
    fs::create_dir_all(&out)?;
    let mut parts = Vec::new();
    let mut listed = Vec::new();
    let mut identity: Option<(String, String)> = None;
    let images: [(_, u64, &'static [panics::Allowance]); 2] =
        [("boot", 0x0800_0000, &[]), ("app", 0x0802_0000, panics::ALLOWED)];
    for (name, address, allowed) in images {
        let elf = target_dir().join(TRIPLE).join("firmware").join(name);
        let bytes = fs::read(&elf).with_context(|| elf.display().to_string())?;
        fs::write(out.join(format!("{name}.elf")), &bytes)?;
        let (flat, ram_statics) =
            flatten(&bytes, address).with_context(|| format!("{name} does not fit its slot"))?;
        let dead_panics = panics::check(&bytes, allowed).with_context(|| elf.display().to_string())?;
        let info = flat.get(INFO_OFFSET..INFO_OFFSET + 64).context("no image info")?;
        ensure!(info.starts_with(INFO_MAGIC), "{name} carries no image info at {INFO_OFFSET:#x}");
        let model = String::from_utf8(info[8..24].iter().copied().take_while(|b| *b != 0).collect())?;
        let version = format!("{}.{}.{}", info[24], info[25], info[26]);
        match &identity {
            None => identity = Some((model, version)),
            Some(first) => {
                ensure!(*first == (model, version), "boot and app name different models or versions")
            }
        }
        listed.push(serde_json::json!({
            "name": name,
            "file": format!("{name}.bin"),
            "address": address,
            "length": flat.len(),
            "sha256": hex::encode(Sha256::digest(&flat)),
        }));
        write_if_changed(&out.join(format!("{name}.bin")), &flat)?;
        parts.push(Part { name, address, length: flat.len(), ram_statics, dead_panics });
    }
    let (model, version) = identity.context("no parts")?;
    let manifest = serde_json::json!({"format": 1, "model": model, "version": version, "parts": listed});
    let json = out.join("common-image.json");
    write_if_changed(&json, (serde_json::to_string_pretty(&manifest)? + "\n").as_bytes())?;
    Ok(CommonImage { json, parts })
}

/// Keeps modification times when nothing changed.
fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).ok().as_deref() != Some(bytes) {
        fs::write(path, bytes).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// The loadable bytes of an ELF from `base` on, by load (not run) address, gaps filled with FF as erased flash reads;
/// and the bytes of RAM that statics take.
fn flatten(elf: &[u8], base: u64) -> Result<(Vec<u8>, u64)> {
    let file = object::read::elf::ElfFile32::<object::Endianness>::parse(elf)?;
    let mut flat = Vec::new();
    for segment in file.elf_program_headers() {
        let endian = file.endian();
        let (load, size, kind) =
            (segment.p_paddr.get(endian), segment.p_filesz.get(endian), segment.p_type.get(endian));
        if kind != object::elf::PT_LOAD || size == 0 {
            continue;
        }
        let start =
            u64::from(load).checked_sub(base).with_context(|| format!("segment at {load:#x}"))? as usize;
        let from = segment.p_offset.get(endian) as usize;
        let data = elf.get(from..from + size as usize).context("truncated ELF")?;
        if flat.len() < start + data.len() {
            flat.resize(start + data.len(), 0xFF);
        }
        flat[start..start + data.len()].copy_from_slice(data);
    }
    ensure!(!flat.is_empty(), "no loadable bytes");
    while flat.len() % 4 != 0 {
        flat.push(0xFF);
    }
    let symbol = |name: &str| file.symbols().find(|s| s.name() == Ok(name)).map(|s| s.address());
    let statics = match (symbol("__sdata"), symbol("__ebss")) {
        (Some(start), Some(end)) => end.saturating_sub(start),
        _ => file.segments().filter(|s| s.address() >= 0x2000_0000).map(|s| s.size()).sum(),
    };
    Ok((flat, statics))
}
