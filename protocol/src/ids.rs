//! Identities that are not secret.

use core::fmt;
use core::str::FromStr;

use crate::error::{Error, FieldName};

fn all(bytes: &[u8], value: u8) -> bool {
    bytes.iter().all(|b| *b == value)
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], Error> {
    let mut out = [0u8; N];
    let mut digits = text.bytes();
    for byte in &mut out {
        for _ in 0..2 {
            let digit = match digits.next().ok_or(Error::Length)? {
                c @ b'0'..=b'9' => c.wrapping_sub(b'0'),
                c @ b'a'..=b'f' => c.wrapping_sub(b'a').wrapping_add(10),
                c @ b'A'..=b'F' => c.wrapping_sub(b'A').wrapping_add(10),
                _ => return Err(Error::Field(FieldName::Value)),
            };
            *byte = byte.wrapping_shl(4) | digit;
        }
    }
    if digits.next().is_some() {
        return Err(Error::Length);
    }
    Ok(out)
}

/// A unit's 96-bit hardware id, in the order of its addresses
/// (STM32F4: 12 bytes at `0x1FFF_7A10`, RM0090 §39.1).
///
/// Shown and parsed as 24 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitId(pub [u8; 12]);

impl UnitId {
    /// The bytes, in address order.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }

    /// True for all-00 and all-FF: what a dead bus or an empty fixture reads as,
    /// never a unit.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        all(&self.0, 0) || all(&self.0, 0xff)
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnitId({self})")
    }
}

impl FromStr for UnitId {
    type Err = Error;

    /// Parses 24 hex digits of either case.
    ///
    /// # Errors
    /// [`Error::Length`] for another number of digits, [`Error::Field`] for a
    /// character that is not a hex digit.
    fn from_str(text: &str) -> Result<Self, Error> {
        parse_hex(text).map(Self)
    }
}

/// A product order's 16-byte name: printable ASCII, padded with zero bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProductOrder(pub [u8; 16]);

impl ProductOrder {
    /// The bytes as they travel.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Makes the name from text of 1 to 16 printable ASCII characters.
    ///
    /// # Errors
    /// [`Error::Length`] if empty or too long, [`Error::Field`] for a character
    /// outside `!`..=`~`.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        let mut out = [0u8; 16];
        if text.is_empty() {
            return Err(Error::Length);
        }
        out.get_mut(..text.len()).ok_or(Error::Length)?.copy_from_slice(text.as_bytes());
        if text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(out))
        } else {
            Err(Error::Field(FieldName::Value))
        }
    }

    /// The text, if this is a name [`ProductOrder::from_text`] could have made.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        let len = self.0.iter().position(|b| *b == 0).unwrap_or(16);
        let (text, padding) = self.0.split_at_checked(len)?;
        let printable = !text.is_empty() && text.iter().all(u8::is_ascii_graphic);
        (printable && all(padding, 0)).then(|| core::str::from_utf8(text).ok()).flatten()
    }

    /// True for all-00 and all-FF.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        all(&self.0, 0) || all(&self.0, 0xff)
    }
}

impl fmt::Display for ProductOrder {
    /// The text, or 32 hex digits where the bytes are not text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_text() {
            Some(text) => f.write_str(text),
            None => write_hex(f, &self.0),
        }
    }
}

impl fmt::Debug for ProductOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProductOrder({self})")
    }
}

/// A counter that only grows: of agent keys, of cloud keys, or of records.
/// 0 means "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u32);

impl Generation {
    /// No generation.
    pub const NONE: Self = Self(0);

    /// The next generation, or `None` after 2³² of them.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A region's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region(pub u32);

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn unit_id_round_trips_and_refuses() {
        let id: UnitId = "003a00275752500820353532".parse().unwrap();
        assert_eq!(id.to_string(), "003a00275752500820353532");
        assert_eq!("003A00275752500820353532".parse::<UnitId>().unwrap(), id, "either case");
        assert_eq!("003a".parse::<UnitId>(), Err(Error::Length));
        assert_eq!("003a0027575250082035353200".parse::<UnitId>(), Err(Error::Length));
        assert_eq!("003a0027575250082035353g".parse::<UnitId>(), Err(Error::Field(FieldName::Value)));
        assert!(UnitId([0; 12]).is_blank() && UnitId([0xff; 12]).is_blank());
        assert!(!id.is_blank());
    }

    #[test]
    fn product_order_is_text_or_hex() {
        let po = ProductOrder::from_text("PO-2025-000042").unwrap();
        assert_eq!(po.to_string(), "PO-2025-000042");
        assert_eq!(ProductOrder::from_text(""), Err(Error::Length));
        assert_eq!(ProductOrder::from_text("12345678901234567"), Err(Error::Length));
        assert!(ProductOrder::from_text("a b").is_err());
        assert_eq!(ProductOrder([1; 16]).to_string().len(), 32);
        let mut embedded_zero = *po.as_bytes();
        embedded_zero[15] = b'x';
        assert_eq!(ProductOrder(embedded_zero).as_text(), None);
    }
}
