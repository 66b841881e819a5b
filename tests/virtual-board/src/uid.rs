//! Unique device identifiers in ST's format (RM0090 §39.1): 96 bits holding the
//! die's X and Y position on the wafer, the wafer number and the lot number.

use sha2::{Digest, Sha256};
use std::fmt;

/// The 96-bit unique id, as the twelve bytes read from `0x1FFF7A10`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(pub [u8; 12]);

impl Uid {
    /// The id of board `n` of the family that `seed` names. Different boards of
    /// one family differ in die position, as neighbours on one wafer do.
    pub fn from_seed(seed: u64, n: u32) -> Uid {
        let mut hash = Sha256::new();
        hash.update(b"virtual-board uid");
        hash.update(seed.to_le_bytes());
        let lot = hash.clone().finalize();
        hash.update(n.to_le_bytes());
        let die = hash.finalize();
        let mut id = [0u8; 12];
        // X and Y in BCD-like small numbers; n in Y keeps ids distinct for certain.
        id[0] = die[0] & 0x3f;
        id[1] = (n >> 8) as u8;
        id[2] = n as u8;
        id[3] = die[1] & 0x3f;
        // Wafer number (1 to 25) and the lot in ASCII, as real parts show it.
        id[4] = 1 + lot[0] % 25;
        for (slot, byte) in id[5..12].iter_mut().zip(&lot[1..]) {
            const LOT: &[u8; 32] = b"0123456789ABCDEFGHJKLMNPQRSTUVWX";
            *slot = LOT[usize::from(byte & 31)];
        }
        Uid(id)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uid({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_of_a_family_differ_and_repeat() {
        let ids: std::collections::BTreeSet<Uid> = (1..=1000).map(|n| Uid::from_seed(3, n)).collect();
        assert_eq!(ids.len(), 1000);
        assert_eq!(Uid::from_seed(3, 5), Uid::from_seed(3, 5));
        assert_ne!(Uid::from_seed(3, 5), Uid::from_seed(4, 5));
    }
}
