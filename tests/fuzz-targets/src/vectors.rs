//! The protocol's test vectors, as the targets use them: genuine messages with the secrets behind them.

use std::sync::LazyLock;

use keywright_protocol::cert::{RegionFloor, Trust};
use keywright_protocol::{ProductOrder, PublicKey, Region, UnitId};
use serde_json::Value;

/// `tests/vectors/otak_kat.json`.
pub static KAT: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../vectors/otak_kat.json")).expect("the vectors are JSON")
});

/// The hex value of a key.
///
/// # Panics
/// If there is none: the vectors and the targets have drifted apart.
#[must_use]
pub fn bytes(object: &Value, key: &str) -> Vec<u8> {
    let text = object[key].as_str().unwrap_or_else(|| panic!("no {key} in the vectors"));
    hex::decode(text).unwrap_or_else(|e| panic!("{key}: {e}"))
}

/// As [`bytes`], of a fixed length.
///
/// # Panics
/// If it has another length.
#[must_use]
pub fn array<const N: usize>(object: &Value, key: &str) -> [u8; N] {
    bytes(object, key).try_into().unwrap_or_else(|v: Vec<u8>| panic!("{key} has {} bytes", v.len()))
}

/// As [`array`], a big-endian number.
#[must_use]
pub fn number(object: &Value, key: &str) -> u32 {
    u32::from_be_bytes(array(object, key))
}

/// As [`array`], a long big-endian number.
#[must_use]
pub fn long(object: &Value, key: &str) -> u64 {
    u64::from_be_bytes(array(object, key))
}

/// An array of cases.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn cases(key: &str) -> &'static [Value] {
    KAT[key].as_array().unwrap_or_else(|| panic!("no {key} in the vectors"))
}

/// An owned [`Trust`].
#[derive(Debug)]
pub struct OwnedTrust {
    root: PublicKey,
    root_epoch: u32,
    floors: Vec<RegionFloor>,
    time_floor: u64,
    order: ProductOrder,
    unit: UnitId,
    region: Region,
}

impl OwnedTrust {
    /// From a `trust` object of the vectors.
    #[must_use]
    pub fn new(v: &Value) -> Self {
        let floors = bytes(v, "min_epochs");
        Self {
            root: PublicKey(array(v, "root_pub")),
            root_epoch: number(v, "root_epoch"),
            floors: floors
                .as_chunks::<8>()
                .0
                .iter()
                .map(|&[a, b, c, d, e, f, g, h]| RegionFloor {
                    region: Region(u32::from_be_bytes([a, b, c, d])),
                    min_epoch: u32::from_be_bytes([e, f, g, h]),
                })
                .collect(),
            time_floor: long(v, "time_floor"),
            order: ProductOrder(array(v, "po")),
            unit: UnitId(array(v, "uid")),
            region: Region(number(v, "region")),
        }
    }

    /// As the protocol takes it.
    #[must_use]
    pub fn get(&self) -> Trust<'_> {
        Trust {
            root: &self.root,
            root_epoch: self.root_epoch,
            floors: &self.floors,
            time_floor: self.time_floor,
            order: self.order,
            unit: self.unit,
            region: self.region,
            region_cert: None,
        }
    }
}
