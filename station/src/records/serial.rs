//! Unit serials: `<batch>-<counter><check>`, for example `B7-00042K`.
//!
//! The counter has at least five digits and counts the units of the batch in the order they first arrived. The check
//! character is one of the 17 letters `ACDEFHJKMNPRTVWXY`: none looks like a digit or like another one (no B/8, G/6,
//! I/1, L/1, O/0, Q/0, S/5, U/V, Z/2). 17 is prime: with position weights 3^i mod 17 every single wrong digit and
//! every swap of two neighbouring different digits in the counter is found.

/// Letters of the check character.
pub const CHECK_ALPHABET: &[u8; 17] = b"ACDEFHJKMNPRTVWXY";

/// Why a text is no serial.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// It is not `<batch>-<digits><letter>`.
    #[error("{text:?} is no serial at character {position}: expected <batch>-<digits><letter>")]
    Shape {
        /// What was given.
        text: String,
        /// Where it stops being one, counted from 1.
        position: usize,
    },
    /// The last letter does not fit the rest.
    #[error("{text:?} is mistyped: its last character should be {expected}")]
    Check {
        /// What was given.
        text: String,
        /// The letter that fits.
        expected: char,
    },
}

fn check_letter(body: &str) -> char {
    let mut weight = 1u32;
    let mut sum = 0u32;
    // From the right, so that the counter's digits have the same weights whatever the batch is called.
    for byte in body.bytes().rev() {
        sum = (sum + weight * u32::from(byte)) % 17;
        weight = weight * 3 % 17;
    }
    char::from(CHECK_ALPHABET[sum as usize])
}

/// The serial of the `counter`th unit of a batch.
pub fn format(batch: &str, counter: u32) -> String {
    let body = format!("{batch}-{counter:05}");
    let check = check_letter(&body);
    body + check.encode_utf8(&mut [0; 4])
}

/// Takes a serial apart into batch and counter, checking its letter.
pub fn parse(text: &str) -> Result<(&str, u32), SerialError> {
    let shape = |position: usize| SerialError::Shape { text: text.into(), position };
    let dash = text.rfind('-').filter(|at| *at > 0).ok_or_else(|| shape(1))?;
    let tail = &text[dash + 1..];
    let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
    let end = dash + 1 + digits;
    if digits < 5 || text.len() != end + 1 || !text.is_char_boundary(end) {
        return Err(shape(end + 1));
    }
    let counter = tail[..digits].parse().map_err(|_| shape(dash + 2))?;
    let expected = check_letter(&text[..end]);
    if text.ends_with(expected) {
        Ok((&text[..dash], counter))
    } else {
        Err(SerialError::Check { text: text.into(), expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_round_trip_and_find_typing_errors() {
        for (batch, counter) in [("B7", 1), ("B7", 99_999), ("2025-W31-a", 100_000), ("x", u32::MAX)] {
            let serial = format(batch, counter);
            assert_eq!(parse(&serial), Ok((batch, counter)), "{serial}");
            let at = serial.rfind('-').unwrap() + 1;
            for i in at..serial.len() - 1 {
                for digit in b'0'..=b'9' {
                    let mut wrong = serial.clone().into_bytes();
                    if wrong[i] != digit {
                        wrong[i] = digit;
                        assert!(parse(std::str::from_utf8(&wrong).unwrap()).is_err());
                    }
                }
                if i + 1 < serial.len() - 1 {
                    let mut swapped = serial.clone().into_bytes();
                    swapped.swap(i, i + 1);
                    if swapped != serial.as_bytes() {
                        assert!(parse(std::str::from_utf8(&swapped).unwrap()).is_err());
                    }
                }
            }
        }
    }

    #[test]
    fn errors_name_the_place() {
        assert_eq!(parse("nodash"), Err(SerialError::Shape { text: "nodash".into(), position: 1 }));
        assert_eq!(parse("B7-12"), Err(SerialError::Shape { text: "B7-12".into(), position: 6 }));
        assert_eq!(parse("B7-0000é"), Err(SerialError::Shape { text: "B7-0000é".into(), position: 8 }));
        assert!(parse("B7-00001é").is_err());
        let good = format("B7", 1);
        let wrong = format!("{}?", &good[..good.len() - 1]);
        assert!(
            matches!(parse(&wrong), Err(SerialError::Check { expected, .. }) if good.ends_with(expected))
        );
    }

    #[test]
    fn check_letters_have_no_look_alikes() {
        for c in "0O1IL2Z5S6G8BQU".chars() {
            assert!(!CHECK_ALPHABET.contains(&(c as u8)));
        }
    }
}
