//! Image info and the boot decision: is there something in the slot that may be started?
//!
//! Target-free, so that the same check runs in host tests and on the chip. `boot` decides from flash
//! contents alone. Signatures come with the update work; this layer only keeps the core from jumping
//! into nothing, which the hardware would answer with a lockup and a silent watchdog loop.

use keywright_protocol::map::{
    self, FLASH_BASE, IMAGE_INFO_LEN, IMAGE_INFO_MAGIC, IMAGE_INFO_OFFSET, RAM_BASE, RAM_LEN, Region,
};

/// Model name of this product, ASCII, zero padded.
pub const MODEL: [u8; 16] = pad16(b"KW-GATEWAY-429");

/// Firmware version `[major, minor, patch, 0]`, from the package version.
pub const VERSION: [u8; 4] = [
    decimal(env!("CARGO_PKG_VERSION_MAJOR")),
    decimal(env!("CARGO_PKG_VERSION_MINOR")),
    decimal(env!("CARGO_PKG_VERSION_PATCH")),
    0,
];

/// Which part of the common image a binary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// Boot code in sectors 0–3.
    Boot = 1,
    /// Application in slot A.
    App = 2,
}

/// Why a slot is not started. The order is the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotFault {
    /// The slot's first words read as erased flash.
    Empty,
    /// Initial stack pointer outside RAM or not 8-byte aligned.
    StackPointer,
    /// Reset vector outside the slot, inside its headers, or without the thumb bit.
    ResetVector,
    /// Image info magic, part, address or slot length do not fit.
    ImageInfo,
    /// Built for another model.
    Model,
}

/// Builds the 64 bytes of the image info (see `docs/contracts.md`).
pub const fn image_info(part: Part, region: Region) -> [u8; IMAGE_INFO_LEN] {
    let mut out = [0; IMAGE_INFO_LEN];
    copy(&mut out, 0, &IMAGE_INFO_MAGIC);
    copy(&mut out, 8, &MODEL);
    copy(&mut out, 24, &VERSION);
    copy(&mut out, 28, &region.base.to_le_bytes());
    copy(&mut out, 32, &region.len.to_le_bytes());
    out[36] = part as u8;
    out
}

/// Bytes at the start of a slot that [`check_slot`] looks at.
pub const HEAD_LEN: usize = IMAGE_INFO_OFFSET as usize + IMAGE_INFO_LEN;

/// Checks the first [`HEAD_LEN`] bytes of `region` as an app image. `Ok` is the reset vector.
pub fn check_slot(head: &[u8; HEAD_LEN], region: Region) -> Result<u32, SlotFault> {
    let (vectors, info) = head.split_at(IMAGE_INFO_OFFSET as usize);
    let sp = word(vectors, 0);
    let reset = word(vectors, 4);
    if sp == u32::MAX && reset == u32::MAX {
        return Err(SlotFault::Empty);
    }
    // The stack is full-descending, so its start may be one past the last RAM byte.
    if sp <= RAM_BASE || sp > RAM_BASE + RAM_LEN || !sp.is_multiple_of(8) {
        return Err(SlotFault::StackPointer);
    }
    // ARMv7-M takes a reset vector with bit 0 clear as a fault on the first instruction (ARM DDI 0403 B1.5.5).
    if reset & 1 == 0 || reset < region.base + HEAD_LEN as u32 || reset >= region.end() {
        return Err(SlotFault::ResetVector);
    }
    let wanted = image_info(Part::App, region);
    let fits = |range: core::ops::Range<usize>| info.get(range.clone()) == wanted.get(range);
    // Everything but the model and the version, which is the app's own.
    if !(fits(0..8) && fits(28..64)) {
        return Err(SlotFault::ImageInfo);
    }
    if !fits(8..24) {
        return Err(SlotFault::Model);
    }
    Ok(reset)
}

const _: () = assert!(map::SLOT_A.base > FLASH_BASE && map::SLOT_A.base.is_multiple_of(512));

fn word(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
        _ => u32::MAX,
    }
}

const fn copy(out: &mut [u8; IMAGE_INFO_LEN], at: usize, from: &[u8]) {
    let mut i = 0;
    while i < from.len() {
        out[at + i] = from[i];
        i += 1;
    }
}

const fn pad16(name: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    let mut i = 0;
    while i < name.len() {
        out[i] = name[i];
        i += 1;
    }
    out
}

const fn decimal(text: &str) -> u8 {
    let text = text.as_bytes();
    let mut value = 0u8;
    let mut i = 0;
    while i < text.len() {
        value = value * 10 + (text[i] - b'0');
        i += 1;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use keywright_protocol::map::SLOT_A;

    fn good() -> [u8; HEAD_LEN] {
        let mut head = [0; HEAD_LEN];
        head[..4].copy_from_slice(&0x2000_5000u32.to_le_bytes());
        head[4..8].copy_from_slice(&(SLOT_A.base + 0x241).to_le_bytes());
        head[0x200..].copy_from_slice(&image_info(Part::App, SLOT_A));
        head
    }

    #[test]
    fn a_good_head_gives_its_reset_vector() {
        assert_eq!(check_slot(&good(), SLOT_A), Ok(SLOT_A.base + 0x241));
    }

    #[test]
    fn each_fault_has_its_own_answer() {
        assert_eq!(check_slot(&[0xFF; HEAD_LEN], SLOT_A), Err(SlotFault::Empty));
        assert_eq!(check_slot(&[0; HEAD_LEN], SLOT_A), Err(SlotFault::StackPointer));
        for (at, bytes, fault) in [
            (0, 0x2003_0008u32.to_le_bytes(), SlotFault::StackPointer),
            (0, 0x2000_5004u32.to_le_bytes(), SlotFault::StackPointer),
            (4, (SLOT_A.base + 0x240).to_le_bytes(), SlotFault::ResetVector),
            (4, 0x0800_0241u32.to_le_bytes(), SlotFault::ResetVector),
            (4, (SLOT_A.base + 0x201).to_le_bytes(), SlotFault::ResetVector),
            (4, (SLOT_A.end() + 1).to_le_bytes(), SlotFault::ResetVector),
            (0x204, *b"AGE2", SlotFault::ImageInfo),
            (0x21C, 0x0800_0000u32.to_le_bytes(), SlotFault::ImageInfo),
            (0x224, [1, 0, 0, 0], SlotFault::ImageInfo),
            (0x228, [0, 0, 0, 1], SlotFault::ImageInfo),
            (0x208, *b"OTHR", SlotFault::Model),
        ] {
            let mut head = good();
            head[at..at + 4].copy_from_slice(&bytes);
            assert_eq!(check_slot(&head, SLOT_A), Err(fault), "{at:#x} {bytes:02x?}");
        }
    }

    #[test]
    fn another_version_of_the_app_still_boots() {
        let mut head = good();
        head[0x218] = 9;
        assert!(check_slot(&head, SLOT_A).is_ok());
    }
}
