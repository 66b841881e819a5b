//! The common image: what stage one flashes on every unit of a batch (docs/contracts.md).
//!
//! Everything about it is checked from the files alone, before a board is touched: product, lengths, digests,
//! vector tables, and that it is the image the product order began with.
//!
//! Invariant: a [`CommonImage`] that exists is whole, of the product that was asked for and inside its slots.

use crate::failure::{Failure, FailureCode};
use crate::model::ProductOrder;
use crate::orders::StationImage;
use keywright_protocol::map::{self, Region};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The format of `common-image.json` that this station reads.
const FORMAT: u32 = 1;
/// Bytes of the Cortex-M vector table in front of the image info: 16 system vectors and 91 interrupts (RM0090 §12).
const VECTOR_TABLE_LEN: usize = 0x1AC;
/// Core-coupled RAM, a legal home of the initial stack pointer (RM0090 §2.3.1).
const CCM: Region = Region { base: 0x1000_0000, len: 64 * 1024 };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    format: u32,
    model: String,
    version: String,
    parts: Vec<IndexPart>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexPart {
    name: String,
    file: String,
    address: u32,
    length: u32,
    sha256: String,
}

/// One part of the common image, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// `boot` or `app`.
    pub name: String,
    /// Where it goes.
    pub address: u32,
    /// Its bytes.
    pub data: Vec<u8>,
}

impl Part {
    /// First address past its bytes.
    pub fn end(&self) -> u32 {
        self.address + self.data.len() as u32
    }
}

/// The common image of a product order, whole and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommonImage {
    /// SHA-256 of `common-image.json`'s bytes, lower-case hex: the order's image hash.
    pub sha256: String,
    /// Device model it was built for.
    pub model: String,
    /// Its version, for people.
    pub version: String,
    /// `boot`, then `app`.
    pub parts: Vec<Part>,
}

impl CommonImage {
    /// Reads and checks the image at `path` (`common-image.json` or the folder that holds it) for `order`.
    ///
    /// # Errors
    /// `ImageMissing` if a file can't be read, `ImageTruncated` if a length or digest differs or the index makes
    /// no sense, `ImageWrongProduct` if the model is another, `ImageBadVector` if a vector table points outside,
    /// `ImageChanged` if the order began with another image.
    pub fn load(path: &Path, order: &ProductOrder) -> Result<Self, Failure> {
        let (path, sha256, index) = open_index(path)?;
        if index.format != FORMAT {
            return Err(Failure::new(
                FailureCode::ImageTruncated,
                format!("{} has format {}, this station reads {FORMAT}", path.display(), index.format),
            ));
        }
        if index.model != order.model {
            return Err(Failure::new(
                FailureCode::ImageWrongProduct,
                format!(
                    "{} is for {}, order {} is for {}",
                    path.display(),
                    index.model,
                    order.name,
                    order.model
                ),
            ));
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut parts = Vec::new();
        for (number, (name, slot)) in [("boot", map::BOOT), ("app", map::SLOT_A)].into_iter().enumerate() {
            let mut found = index.parts.iter().filter(|p| p.name == name);
            let (Some(part), None) = (found.next(), found.next()) else {
                return Err(Failure::new(
                    FailureCode::ImageTruncated,
                    format!("{} must name exactly one part {name}", path.display()),
                ));
            };
            parts.push(load_part(folder, part, slot, number as u8 + 1, order)?);
        }
        if index.parts.len() != parts.len() {
            let extra = index.parts.iter().find(|p| !parts.iter().any(|q| q.name == p.name));
            return Err(Failure::new(
                FailureCode::ImageTruncated,
                format!("{} names an unknown part {}", path.display(), extra.map_or("", |p| &p.name)),
            ));
        }
        if let Some(pinned) = &order.image_sha256
            && !pinned.eq_ignore_ascii_case(&sha256)
        {
            return Err(Failure::new(
                FailureCode::ImageChanged,
                format!("order {} began with {pinned}, {} is {sha256}", order.name, path.display()),
            ));
        }
        Ok(Self { sha256, model: index.model, version: index.version, parts })
    }
}

impl CommonImage {
    /// What the index at `path` says of its image, unchecked: for a form that binds an order to it.
    ///
    /// # Errors
    /// `ImageMissing`, `ImageTruncated`.
    pub fn glance(path: &Path) -> Result<StationImage, Failure> {
        let (_, sha256, index) = open_index(path)?;
        Ok(StationImage { sha256, version: index.version, model: index.model })
    }
}

/// The index file, its digest and what it says.
fn open_index(path: &Path) -> Result<(PathBuf, String, Index), Failure> {
    let path = if path.is_dir() { path.join("common-image.json") } else { path.to_path_buf() };
    let bytes = read(&path)?;
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let index = serde_json::from_slice(&bytes)
        .map_err(|e| Failure::new(FailureCode::ImageTruncated, format!("{}: {e}", path.display())))?;
    Ok((path, sha256, index))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|e| Failure::new(FailureCode::ImageMissing, format!("{}: {e}", path.display())))
}

fn load_part(
    folder: &Path,
    part: &IndexPart,
    slot: Region,
    number: u8,
    order: &ProductOrder,
) -> Result<Part, Failure> {
    // A part is a neighbour of its index: a name that leaves the folder is an altered index.
    let file = PathBuf::from(&part.file);
    if file.components().count() != 1 || file.file_name().is_none() {
        return Err(Failure::new(
            FailureCode::ImageTruncated,
            format!("part {} names {:?}, which is not a file beside the index", part.name, part.file),
        ));
    }
    let path = folder.join(file);
    let data = read(&path)?;
    let bad = |code, facts: String| Failure::new(code, format!("{}: {facts}", path.display()));
    if data.len() as u64 != u64::from(part.length) {
        return Err(bad(
            FailureCode::ImageTruncated,
            format!("{} bytes, the index says {}", data.len(), part.length),
        ));
    }
    let digest = hex::encode(Sha256::digest(&data));
    if !digest.eq_ignore_ascii_case(&part.sha256) {
        return Err(bad(
            FailureCode::ImageTruncated,
            format!("SHA-256 is {digest}, the index says {}", part.sha256),
        ));
    }
    let info_at = map::IMAGE_INFO_OFFSET as usize;
    let info = data.get(info_at..info_at + map::IMAGE_INFO_LEN).ok_or_else(|| {
        bad(FailureCode::ImageTruncated, format!("{} bytes can't hold an image info", data.len()))
    })?;
    if info[..8] != map::IMAGE_INFO_MAGIC {
        return Err(bad(FailureCode::ImageWrongProduct, "no Keywright image info in it".into()));
    }
    let model = String::from_utf8_lossy(&info[8..24]).trim_end_matches('\0').to_owned();
    if model != order.model {
        return Err(bad(
            FailureCode::ImageWrongProduct,
            format!("built for {model}, order {} is for {}", order.name, order.model),
        ));
    }
    if info[36] != number || part.address != slot.base {
        return Err(bad(
            FailureCode::ImageTruncated,
            format!(
                "part {} of kind {} at {:#010x} is not what belongs there",
                part.name, info[36], part.address
            ),
        ));
    }
    let linked = word(info, 28);
    let limit = if part.name == "boot" { map::STORAGE_SECRET.base } else { slot.end() };
    let end = u64::from(part.address) + data.len() as u64;
    if linked != part.address || end > u64::from(limit) {
        return Err(bad(
            FailureCode::ImageBadVector,
            format!(
                "linked for {linked:#010x} and ends at {end:#010x}; its slot is {:#010x}..{limit:#010x}",
                slot.base
            ),
        ));
    }
    check_vectors(&data, part.address).map_err(|facts| bad(FailureCode::ImageBadVector, facts))?;
    Ok(Part { name: part.name.clone(), address: part.address, data })
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// The initial stack pointer lies in RAM and is doubleword aligned; the reset vector and every other vector in use
/// is a Thumb address inside the part (ARMv7-M ARM B1.5.3).
fn check_vectors(data: &[u8], base: u32) -> Result<(), String> {
    if data.len() < VECTOR_TABLE_LEN {
        return Err("too short for a vector table".into());
    }
    let stack = word(data, 0);
    // The stack is full-descending: one past the end of RAM is a legal start, its first byte is not.
    let in_ram = |r: u32, len: u32| stack > r && stack <= r + len;
    if !(in_ram(map::RAM_BASE, map::RAM_LEN) || in_ram(CCM.base, CCM.len)) || !stack.is_multiple_of(8) {
        return Err(format!("initial stack pointer {stack:#010x} is not in RAM"));
    }
    let end = base + data.len() as u32;
    for (number, at) in (4..VECTOR_TABLE_LEN).step_by(4).enumerate() {
        let vector = word(data, at);
        let inside = vector & 1 == 1 && (base..end).contains(&(vector & !1));
        if !inside && (number == 0 || vector != 0) {
            let which =
                if number == 0 { "reset vector".to_owned() } else { format!("vector {}", number + 1) };
            return Err(format!("{which} {vector:#010x} lies outside {base:#010x}..{end:#010x}"));
        }
    }
    Ok(())
}

/// Everything stage one puts on a unit: the common image and the kind 1 record, the same bytes for the whole batch.
#[derive(Clone)]
pub struct StageOne {
    /// The common image.
    pub image: Arc<CommonImage>,
    record: Arc<Zeroizing<Vec<u8>>>,
}

impl std::fmt::Debug for StageOne {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StageOne").field("image", &self.image.sha256).field("record", &"[secret]").finish()
    }
}

impl StageOne {
    /// Joins image and record (which holds the product key).
    pub fn new(image: Arc<CommonImage>, record: Vec<u8>) -> Self {
        Self { image, record: Arc::new(Zeroizing::new(record)) }
    }

    /// The record's bytes, for key area B.
    pub fn record(&self) -> &[u8] {
        &self.record
    }

    /// What is written where, in ascending order: name for people, address, bytes.
    pub fn writes(&self) -> impl Iterator<Item = (&str, u32, &[u8])> {
        let parts = self.image.parts.iter().map(|p| (p.name.as_str(), p.address, p.data.as_slice()));
        parts.chain(std::iter::once(("product key", map::KEY_AREA_B.base, self.record())))
    }
}

/// Synthetic images for the tests of this crate and of its neighbours.
#[doc(hidden)]
pub mod synthetic {
    use super::*;

    /// A part with a legal vector table and image info, `len` bytes, filled with a pattern.
    pub fn part(model: &str, slot: Region, number: u8, len: usize) -> Vec<u8> {
        let mut data: Vec<u8> = (0..len).map(|i| (i * 7 + usize::from(number)) as u8).collect();
        data[..VECTOR_TABLE_LEN].fill(0);
        data[..4].copy_from_slice(&(map::RAM_BASE + map::RAM_LEN).to_le_bytes());
        data[4..8].copy_from_slice(&(slot.base + 0x400 + 1).to_le_bytes());
        let info = &mut data[map::IMAGE_INFO_OFFSET as usize..][..map::IMAGE_INFO_LEN];
        info.fill(0);
        info[..8].copy_from_slice(&map::IMAGE_INFO_MAGIC);
        info[8..8 + model.len()].copy_from_slice(model.as_bytes());
        info[25] = 1;
        info[28..32].copy_from_slice(&slot.base.to_le_bytes());
        info[32..36].copy_from_slice(&slot.len.to_le_bytes());
        info[36] = number;
        data
    }

    /// Writes an image for `model` into `dir`; returns the index's path.
    pub fn write(dir: &Path, model: &str) -> std::io::Result<PathBuf> {
        write_parts(
            dir,
            model,
            &part(model, map::BOOT, 1, 40 * 1024),
            &part(model, map::SLOT_A, 2, 90 * 1024),
        )
    }

    /// Writes an image of these two parts with a matching index.
    pub fn write_parts(dir: &Path, model: &str, boot: &[u8], app: &[u8]) -> std::io::Result<PathBuf> {
        std::fs::write(dir.join("boot.bin"), boot)?;
        std::fs::write(dir.join("app.bin"), app)?;
        let entry = |name: &str, address: u32, data: &[u8]| {
            serde_json::json!({"name": name, "file": format!("{name}.bin"), "address": address,
                "length": data.len(), "sha256": hex::encode(Sha256::digest(data))})
        };
        let index = serde_json::json!({"format": 1, "model": model, "version": "0.1.0",
            "parts": [entry("boot", map::BOOT.base, boot), entry("app", map::SLOT_A.base, app)]});
        let path = dir.join("common-image.json");
        std::fs::write(&path, index.to_string())?;
        Ok(path)
    }

    /// A product order for `model`.
    pub fn order(model: &str) -> ProductOrder {
        ProductOrder {
            id: crate::model::PoId(1),
            name: "PO-1".into(),
            model: model.into(),
            hw_revision: "A".into(),
            part_number: "P-1".into(),
            quantity: 10,
            region: 7,
            suite: 2,
            image_sha256: None,
            cloud_url: "mqtts://broker.example:8883".into(),
            lock: true,
            per_hour: 0,
            key_invalid_at_ms: None,
            label: crate::model::LabelPolicy::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use synthetic::*;

    const MODEL: &str = "KW-GATEWAY-429";

    fn code(result: Result<CommonImage, Failure>) -> FailureCode {
        let failure = result.unwrap_err();
        println!("{failure}");
        failure.code
    }

    #[test]
    fn whole_image_is_accepted_from_index_or_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), MODEL).unwrap();
        let image = CommonImage::load(&path, &order(MODEL)).unwrap();
        assert_eq!(CommonImage::load(dir.path(), &order(MODEL)).unwrap(), image);
        assert_eq!(image.sha256, hex::encode(Sha256::digest(std::fs::read(&path).unwrap())));
        assert_eq!(image.parts.iter().map(|p| p.address).collect::<Vec<_>>(), [0x0800_0000, 0x0802_0000]);
        let mut pinned = order(MODEL);
        pinned.image_sha256 = Some(image.sha256.to_uppercase());
        CommonImage::load(&path, &pinned).unwrap();
        let stage_one = StageOne::new(Arc::new(image), vec![0xAB; 300]);
        assert_eq!(
            stage_one.writes().map(|w| w.1).collect::<Vec<_>>(),
            [0x0800_0000, 0x0802_0000, 0x0811_0000]
        );
        assert!(!format!("{stage_one:?}").contains("171"), "the record holds the product key");
    }

    #[test]
    fn missing_files_and_another_product_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(code(CommonImage::load(dir.path(), &order(MODEL))), FailureCode::ImageMissing);
        let path = write(dir.path(), MODEL).unwrap();
        assert_eq!(code(CommonImage::load(&path, &order("KW-METER"))), FailureCode::ImageWrongProduct);
        // The index says one product, the part inside another.
        write_parts(
            dir.path(),
            MODEL,
            &part("KW-METER", map::BOOT, 1, 4096),
            &part(MODEL, map::SLOT_A, 2, 4096),
        )
        .unwrap();
        assert_eq!(code(CommonImage::load(&path, &order(MODEL))), FailureCode::ImageWrongProduct);
        std::fs::remove_file(dir.path().join("app.bin")).unwrap();
        write_parts(dir.path(), MODEL, &part(MODEL, map::BOOT, 1, 4096), &part(MODEL, map::SLOT_A, 2, 4096))
            .unwrap();
        std::fs::remove_file(dir.path().join("app.bin")).unwrap();
        assert_eq!(code(CommonImage::load(&path, &order(MODEL))), FailureCode::ImageMissing);
    }

    #[test]
    fn every_truncation_and_alteration_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), MODEL).unwrap();
        let whole = std::fs::read(dir.path().join("app.bin")).unwrap();
        for len in [0, 4, 0x1AC, 0x210, whole.len() - 1] {
            std::fs::write(dir.path().join("app.bin"), &whole[..len]).unwrap();
            assert_eq!(code(CommonImage::load(&path, &order(MODEL))), FailureCode::ImageTruncated, "{len}");
        }
        let mut altered = whole.clone();
        *altered.last_mut().unwrap() ^= 1;
        std::fs::write(dir.path().join("app.bin"), &altered).unwrap();
        assert_eq!(code(CommonImage::load(&path, &order(MODEL))), FailureCode::ImageTruncated);
        std::fs::write(dir.path().join("app.bin"), &whole).unwrap();
        let index = std::fs::read_to_string(&path).unwrap();
        for (from, to) in [
            ("\"format\":1", "\"format\":2"),
            ("\"app.bin\"", "\"../app.bin\""),
            ("\"name\":\"app\"", "\"name\":\"apq\""),
            ("}", ""),
        ] {
            assert!(index.contains(from));
            std::fs::write(&path, index.replacen(from, to, 1)).unwrap();
            assert_eq!(code(CommonImage::load(&path, &order(MODEL))), FailureCode::ImageTruncated, "{to}");
        }
        // An altered index that is consistent in itself is another image than the one pinned.
        let mut pinned = order(MODEL);
        pinned.image_sha256 = Some(hex::encode(Sha256::digest(&index)));
        std::fs::write(&path, index.replacen("0.1.0", "0.1.1", 1)).unwrap();
        assert_eq!(code(CommonImage::load(&path, &pinned)), FailureCode::ImageChanged);
    }

    #[test]
    fn vector_tables_outside_the_slot_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let boot = part(MODEL, map::BOOT, 1, 8192);
        let app = part(MODEL, map::SLOT_A, 2, 8192);
        let patched = |at: usize, value: u32| {
            let mut data = app.clone();
            data[at..at + 4].copy_from_slice(&value.to_le_bytes());
            data
        };
        let cases = [
            patched(0, 0x2003_0008),
            patched(0, 0x0802_0000),
            patched(0, 0x2000_0004),
            patched(4, 0),
            patched(4, map::SLOT_A.base + 0x400),
            patched(4, map::SLOT_B.base + 0x401),
            patched(4, map::SLOT_A.base + 8192 + 1),
            patched(8, map::BOOT.base + 0x401),
            patched(0x200 + 28, map::SLOT_B.base),
        ];
        for app in cases {
            let path = write_parts(dir.path(), MODEL, &boot, &app).unwrap();
            assert_eq!(code(CommonImage::load(&path, &order(MODEL))), FailureCode::ImageBadVector);
        }
        // Boot code may not reach into the storage-secret slots.
        let long = part(MODEL, map::BOOT, 1, 61 * 1024);
        let path = write_parts(dir.path(), MODEL, &long, &app).unwrap();
        assert_eq!(code(CommonImage::load(&path, &order(MODEL))), FailureCode::ImageBadVector);
    }
}
