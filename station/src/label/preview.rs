//! The square code as the window shows it.

use datamatrix::{DataMatrix, SymbolList};
use qrcode::{EcLevel, QrCode};

/// A square code: rows of modules, dark or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modules {
    /// Modules in a row.
    pub width: usize,
    /// All of them, row by row.
    pub dark: Vec<bool>,
}

/// The text as a Data Matrix; `None` if it is too long for one.
pub fn data_matrix(text: &str) -> Option<Modules> {
    let map = DataMatrix::encode(text.as_bytes(), SymbolList::default().enforce_square()).ok()?.bitmap();
    Some(Modules { width: map.width(), dark: map.bits().to_vec() })
}

/// The text as a QR code, as the example template has it; `None` if it is too long for one.
pub fn qr(text: &str) -> Option<Modules> {
    let code = QrCode::with_error_correction_level(text, EcLevel::Q).ok()?;
    let width = code.width();
    let dark = code.into_colors().into_iter().map(|c| c == qrcode::Color::Dark).collect();
    Some(Modules { width, dark })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_reads_back_and_has_its_size() {
        let text = crate::label::code_of(&crate::label::test_facts()).unwrap().to_string();
        let matrix = data_matrix(&text).unwrap();
        assert_eq!(matrix.dark.len(), matrix.width * matrix.width);
        assert_eq!(DataMatrix::decode(&matrix.dark, matrix.width).unwrap(), text.as_bytes());
        let qr = qr(&text).unwrap();
        assert_eq!(qr.dark.len(), qr.width * qr.width);
        // A finder pattern in three corners: a dark line of seven, light beside it.
        let at = |x: usize, y: usize| qr.dark[y * qr.width + x];
        for x in [0, qr.width - 7] {
            assert!((0..7).all(|i| at(x + i, 0)) && !at(if x == 0 { 7 } else { x - 1 }, 0));
        }
        assert!(data_matrix(&"x".repeat(5000)).is_none());
    }
}
