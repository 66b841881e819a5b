//! The flash map of the STM32F429ZI profile (2 MiB, RM0090 §3.3 table 6): constants only.
//!
//! One erase unit per key area, in different banks, so that erasing one can never damage the
//! other and the CPU can run from one bank while the other is written.

/// Start of flash.
pub const FLASH_BASE: u32 = 0x0800_0000;
/// Bytes of flash.
pub const FLASH_LEN: u32 = 0x0020_0000;
/// Address of the 96-bit unique device id (RM0090 §39.1).
pub const UID_ADDRESS: u32 = 0x1FFF_7A10;
/// Address of the 16-bit flash size in KiB (RM0090 §39.2).
pub const FLASH_SIZE_ADDRESS: u32 = 0x1FFF_7A22;
/// Address of DBGMCU_IDCODE (RM0090 §38.6.1).
pub const DBGMCU_IDCODE_ADDRESS: u32 = 0xE004_2000;
/// DEV_ID of STM32F42x/43x in DBGMCU_IDCODE bits 0–11.
pub const DEV_ID_STM32F42X: u32 = 0x419;
/// Main SRAM.
pub const RAM_BASE: u32 = 0x2000_0000;
/// Bytes of main SRAM (SRAM1–3).
pub const RAM_LEN: u32 = 192 * 1024;

/// A contiguous run of whole sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub base: u32,
    /// Bytes.
    pub len: u32,
}

impl Region {
    /// First address past the region.
    pub const fn end(self) -> u32 {
        self.base + self.len
    }

    /// Whether `address` lies inside.
    pub const fn contains(self, address: u32) -> bool {
        address >= self.base && address < self.base + self.len
    }
}

/// Boot code, sectors 0–3, write-protected after provisioning; its last 4 KiB hold the storage-secret slots.
pub const BOOT: Region = Region { base: 0x0800_0000, len: 64 * 1024 };
/// Append-only slots of the storage secret (48 bytes each), the end of the boot sectors.
pub const STORAGE_SECRET: Region = Region { base: 0x0800_F000, len: 4 * 1024 };
/// Key area A, sector 4 (bank 1).
pub const KEY_AREA_A: Region = Region { base: 0x0801_0000, len: 64 * 1024 };
/// Key area B, sector 16 (bank 2); stage one writes the product key here.
pub const KEY_AREA_B: Region = Region { base: 0x0811_0000, len: 64 * 1024 };
/// Boot journal pair, sectors 12 and 13.
pub const BOOT_JOURNAL: [Region; 2] =
    [Region { base: 0x0810_0000, len: 16 * 1024 }, Region { base: 0x0810_4000, len: 16 * 1024 }];
/// Trust store pair, sectors 14 and 15.
pub const TRUST_STORE: [Region; 2] =
    [Region { base: 0x0810_8000, len: 16 * 1024 }, Region { base: 0x0810_C000, len: 16 * 1024 }];
/// Firmware slot A, sectors 5–8.
pub const SLOT_A: Region = Region { base: 0x0802_0000, len: 512 * 1024 };
/// Firmware slot B, sectors 17–20.
pub const SLOT_B: Region = Region { base: 0x0812_0000, len: 512 * 1024 };
/// Factory image, sectors 9–11.
pub const FACTORY: Region = Region { base: 0x080A_0000, len: 384 * 1024 };
/// Staging, sectors 21–23.
pub const STAGING: Region = Region { base: 0x081A_0000, len: 384 * 1024 };
/// Offset of the image info in a firmware part, behind its vector table.
pub const IMAGE_INFO_OFFSET: u32 = 0x200;
/// Magic of the image info.
pub const IMAGE_INFO_MAGIC: [u8; 8] = *b"KWIMAGE1";
/// Bytes of the image info.
pub const IMAGE_INFO_LEN: usize = 64;

/// The flash sector that holds `address` and its extent, or `None` outside flash.
pub const fn sector_of(address: u32) -> Option<(u8, Region)> {
    if address < FLASH_BASE || address >= FLASH_BASE + FLASH_LEN {
        return None;
    }
    let offset = address - FLASH_BASE;
    let bank = offset / 0x0010_0000;
    let inner = offset % 0x0010_0000;
    let (index, start, len) = if inner < 0x1_0000 {
        (inner / 0x4000, inner / 0x4000 * 0x4000, 0x4000)
    } else if inner < 0x2_0000 {
        (4, 0x1_0000, 0x1_0000)
    } else {
        (4 + inner / 0x2_0000, inner / 0x2_0000 * 0x2_0000, 0x2_0000)
    };
    Some(((bank * 12 + index) as u8, Region { base: FLASH_BASE + bank * 0x0010_0000 + start, len }))
}

/// The layout's promises, checked at compile time.
const _: () = {
    const fn whole_sectors(r: Region) -> bool {
        let (Some((_, first)), Some((_, last))) = (sector_of(r.base), sector_of(r.end() - 1)) else {
            return false;
        };
        first.base == r.base && last.end() == r.end()
    }
    assert!(whole_sectors(KEY_AREA_A) && whole_sectors(KEY_AREA_B));
    assert!(
        whole_sectors(SLOT_A) && whole_sectors(SLOT_B) && whole_sectors(FACTORY) && whole_sectors(STAGING)
    );
    assert!(whole_sectors(BOOT) && STORAGE_SECRET.end() == BOOT.end());
    // Different banks: read while write, and no shared erase unit.
    assert!(KEY_AREA_A.base < FLASH_BASE + 0x0010_0000 && KEY_AREA_B.base >= FLASH_BASE + 0x0010_0000);
};
