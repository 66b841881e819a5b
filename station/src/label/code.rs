//! The text in a label's square code: `KW1:<serial>:<anchor>:<check>`.
//!
//! `anchor` is the first 16 hex digits of the SHA-256 of the region certificate that the unit was given, in capitals; `check` is the
//! first four hex digits of SHA-256(`keywright/label/v1` ‖ all before it, in capitals). Scanners that change the case of letters do no
//! harm. A scanner that types another keyboard's layout does, and is named by the place where the text goes wrong.
//!
//! The compatibility promise: `KW1` never changes its meaning.

use keywright_protocol::crypto;

/// Hex digits of the anchor's fingerprint.
pub const ANCHOR: usize = 16;
/// Hex digits of the check.
pub const CHECK: usize = 4;
const HEAD: &str = "KW1:";
/// Whether a text begins as a label's code, whatever follows.
pub fn looks_like(text: &str) -> bool {
    text.trim_start().get(..HEAD.len()).is_some_and(|head| head.eq_ignore_ascii_case(HEAD))
}

/// Longer is no serial of ours.
const LONGEST_SERIAL: usize = 48;

/// Why a text is no code of a label. Positions count characters from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Nothing was read.
    #[error("nothing was read")]
    Empty,
    /// It does not begin as one.
    #[error("character {position} is {found:?}, a label's code begins with KW1:")]
    Head {
        /// Where it stops being one.
        position: usize,
        /// What stands there; empty at the end.
        found: String,
    },
    /// The serial is empty, too long, or has a character that serials do not have.
    #[error("character {position} is {found:?}, expected a serial of letters, digits, '.', '_' and '-'")]
    Serial {
        /// Where.
        position: usize,
        /// What stands there; empty at the end.
        found: String,
    },
    /// The anchor's fingerprint is not 16 hex digits.
    #[error("character {position} is {found:?}, expected 16 hex digits of the anchor's fingerprint")]
    Anchor {
        /// Where.
        position: usize,
        /// What stands there; empty at the end.
        found: String,
    },
    /// The check is not four hex digits, or something follows it.
    #[error("character {position} is {found:?}, expected four hex digits and the end")]
    Tail {
        /// Where.
        position: usize,
        /// What stands there; empty at the end.
        found: String,
    },
    /// It was read wrongly: the check at this place does not fit what stands before it.
    #[error("the check at character {position} is {found}, what stands before it gives {expected}")]
    Check {
        /// Where the check begins.
        position: usize,
        /// What stands there.
        found: String,
        /// What fits.
        expected: String,
    },
}

/// What a label's square code says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelCode {
    serial: String,
    anchor: String,
}

fn serial_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-".contains(c)
}

fn check(body: &str) -> String {
    let digest = crypto::sha256(&[b"keywright/label/v1", body.to_ascii_uppercase().as_bytes()]);
    hex::encode_upper(&digest[..CHECK / 2])
}

impl LabelCode {
    /// The code of a serial and an anchor's fingerprint, of which the first 16 digits are used.
    ///
    /// # Errors
    /// As [`str::parse`] would give for it.
    pub fn new(serial: &str, fingerprint: &str) -> Result<Self, CodeError> {
        let anchor: String = fingerprint.chars().take(ANCHOR).collect::<String>().to_ascii_uppercase();
        Self { serial: serial.into(), anchor }.to_string().parse()
    }

    /// The unit's serial.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The first 16 hex digits of the anchor's fingerprint, in capitals.
    pub fn anchor(&self) -> &str {
        &self.anchor
    }

    fn body(&self) -> String {
        format!("{HEAD}{}:{}:", self.serial, self.anchor)
    }
}

impl std::fmt::Display for LabelCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = self.body();
        write!(f, "{body}{}", check(&body))
    }
}

impl std::str::FromStr for LabelCode {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(CodeError::Empty);
        }
        let chars: Vec<char> = text.chars().collect();
        let found = |at: usize| chars.get(at).map(char::to_string).unwrap_or_default();
        for (at, head) in HEAD.chars().enumerate() {
            if chars.get(at).is_none_or(|c| !c.eq_ignore_ascii_case(&head)) {
                return Err(CodeError::Head { position: at + 1, found: found(at) });
            }
        }
        let mut at = HEAD.len();
        while chars.get(at).is_some_and(|c| serial_char(*c)) && at - HEAD.len() < LONGEST_SERIAL {
            at += 1;
        }
        let serial: String = chars[HEAD.len()..at].iter().collect();
        if serial.is_empty() || chars.get(at) != Some(&':') {
            return Err(CodeError::Serial { position: at + 1, found: found(at) });
        }
        let begin = at + 1;
        at = begin;
        while chars.get(at).is_some_and(char::is_ascii_hexdigit) && at - begin < ANCHOR {
            at += 1;
        }
        if at - begin != ANCHOR || chars.get(at) != Some(&':') {
            return Err(CodeError::Anchor { position: at + 1, found: found(at) });
        }
        let anchor: String = chars[begin..at].iter().collect::<String>().to_ascii_uppercase();
        let begin = at + 1;
        at = begin;
        while chars.get(at).is_some_and(char::is_ascii_hexdigit) && at - begin < CHECK {
            at += 1;
        }
        if at - begin != CHECK || at != chars.len() {
            return Err(CodeError::Tail { position: at + 1, found: found(at) });
        }
        let given: String = chars[begin..at].iter().collect::<String>().to_ascii_uppercase();
        let code = Self { serial, anchor };
        let expected = check(&code.body());
        if given == expected {
            Ok(code)
        } else {
            Err(CodeError::Check { position: begin + 1, found: given, expected })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FINGERPRINT: &str = "0123456789abcdef00112233445566778899aabbccddeeff0011223344556677";

    #[test]
    fn golden() {
        // The promise to whoever reads labels elsewhere.
        let code = LabelCode::new("KW-2648-00042-K", FINGERPRINT).unwrap();
        assert_eq!(code.to_string(), "KW1:KW-2648-00042-K:0123456789ABCDEF:8696");
        assert_eq!(code.to_string().to_lowercase().parse::<LabelCode>().unwrap().anchor(), code.anchor());
        assert_eq!(format!(" {code}\r\n").parse(), Ok(code));
    }

    #[test]
    fn errors_name_place_and_what_was_found() {
        let good = LabelCode::new("B1-00001K", FINGERPRINT).unwrap().to_string();
        let error = |text: &str| text.parse::<LabelCode>().unwrap_err();
        assert_eq!(error(" "), CodeError::Empty);
        assert_eq!(error("KX1:"), CodeError::Head { position: 2, found: "X".into() });
        assert_eq!(error("KW"), CodeError::Head { position: 3, found: String::new() });
        // A scanner that types on a German keyboard.
        assert_eq!(error(&good.replace(':', "Ö")), CodeError::Head { position: 4, found: "Ö".into() });
        assert_eq!(error(&good.replace('-', "ß")), CodeError::Serial { position: 7, found: "ß".into() });
        assert_eq!(error("KW1::"), CodeError::Serial { position: 5, found: ":".into() });
        assert_eq!(error(&good[..20]), CodeError::Anchor { position: 21, found: String::new() });
        assert_eq!(
            error(&good.replace("0123", "01Z3")),
            CodeError::Anchor { position: 17, found: "Z".into() }
        );
        assert_eq!(
            error(&good[..good.len() - 1]),
            CodeError::Tail { position: good.len(), found: String::new() }
        );
        assert_eq!(
            error(&format!("{good}0")),
            CodeError::Tail { position: good.len() + 1, found: "0".into() }
        );
        let wrong = good.replace("00001", "00002");
        assert!(matches!(error(&wrong), CodeError::Check { position, .. } if position == good.len() - 3));
        assert!(LabelCode::new("B1-00001K", "abc").is_err() && LabelCode::new("", FINGERPRINT).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_code_or_an_error_inside_it(text in ".{0,80}") {
            match text.parse::<LabelCode>() {
                Ok(code) => prop_assert_eq!(code.to_string().to_uppercase(), text.trim().to_uppercase()),
                Err(CodeError::Empty) => {}
                Err(CodeError::Head { position, .. } | CodeError::Serial { position, .. } | CodeError::Anchor { position, .. }
                    | CodeError::Tail { position, .. } | CodeError::Check { position, .. }) => {
                    prop_assert!((1..=text.trim().chars().count() + 1).contains(&position));
                }
            }
        }

        #[test]
        fn one_wrong_character_is_found(at in 0usize..40, with in "[0-9A-Z]") {
            let good = LabelCode::new("KW-2648-00042-K", FINGERPRINT).unwrap().to_string();
            let at = at % good.len();
            let mut wrong = good.clone();
            wrong.replace_range(at..=at, &with);
            prop_assume!(wrong != good);
            // One in 65536 changes keeps the check; none of these does.
            prop_assert!(wrong.parse::<LabelCode>().is_err(), "{}", wrong);
        }
    }
}
