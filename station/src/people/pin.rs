//! What a PIN must be, and how PINs and badges are kept.
//!
//! ```text
//! input = MAC(station key, "pin" or "badge", person's name, PIN or badge)
//! kept  = Argon2id(input, salt16, cost), PHC string form
//! mark  = the first 16 bytes of MAC(station key, "badge mark", badge)
//! ```
//! A four-digit PIN has ten thousand values, and no stretching makes that many enough. What keeps a stolen database from giving PINs
//! away is the station key in front: without the passphrase there is nothing to try against. Argon2id makes each try cost something
//! for whoever has both.

use super::Role;
use crate::failure::{Failure, FailureCode};
use crate::secrets::{SecretsError, StationKey, random};
use crate::station::secrets_failure;
use argon2::password_hash::{CustomizedPasswordHasher, PasswordVerifier};
use keywright_protocol::crypto;
use zeroize::Zeroizing;

/// The longest PIN or badge, in bytes.
pub const MAX_LEN: usize = 128;

/// A PIN or what a badge says: redacted, wiped when dropped.
#[derive(Clone)]
pub struct Pin(Zeroizing<String>);

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pin(redacted)")
    }
}

impl PartialEq for Pin {
    fn eq(&self, other: &Self) -> bool {
        crypto::tags_equal(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl Eq for Pin {}

impl Pin {
    /// Takes over a text; blanks around it are a scanner's or a file's.
    pub fn new(text: impl Into<Zeroizing<String>>) -> Self {
        let text = text.into();
        Self(Zeroizing::new(text.trim().to_owned()))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// It reads as the code of a unit's label: nobody's PIN and nobody's badge.
    pub fn is_label(&self) -> bool {
        crate::label::code::looks_like(&self.0)
    }

    /// Too long to be anybody's: not looked at.
    pub(super) fn is_too_long(&self) -> bool {
        self.0.len() > MAX_LEN
    }

    /// Refuses a PIN that is too short for the role, or that everybody tries first.
    ///
    /// # Errors
    /// `InvalidInput`, with what to do; the PIN is not in it.
    pub fn check_new(&self, name: &str, role: Role) -> Result<(), Failure> {
        let refuse = |sentence: String, remedy: &str| {
            Err(Failure { code: FailureCode::InvalidInput, sentence, remedy: remedy.into() })
        };
        let chars: Vec<char> = self.0.chars().collect();
        let least = least_length(role);
        if chars.len() < least {
            let what = if role == Role::Technician { "digits or letters" } else { "characters" };
            return refuse(
                format!("The PIN is too short for the role {role}"),
                &format!("Choose one of at least {least} {what}"),
            );
        }
        if self.is_too_long() || self.is_label() || chars.iter().any(|c| c.is_control()) {
            return refuse("The PIN can't be used".into(), "Choose one of at most 128 printable characters");
        }
        if is_weak(&chars) || (chars.len() >= 4 && name.to_lowercase() == self.0.to_lowercase()) {
            return refuse(
                "The PIN is one that everybody tries first".into(),
                "Choose one without runs (1234), repeats (0000, 1212) or the person's name",
            );
        }
        Ok(())
    }

    /// Refuses what can't be a badge.
    ///
    /// # Errors
    /// `InvalidInput`; the badge is not in it.
    pub fn check_badge(&self) -> Result<(), Failure> {
        if self.is_label() {
            return Err(label_is_no_badge());
        }
        if self.0.chars().count() < 6 || self.is_too_long() || self.0.chars().any(char::is_control) {
            return Err(Failure {
                code: FailureCode::InvalidInput,
                sentence: "The badge can't be used".into(),
                remedy: "Scan one that says 6 to 128 printable characters".into(),
            });
        }
        Ok(())
    }

    fn input(&self, key: &StationKey, purpose: &str, name: &str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(key.mac(purpose, &[name.to_lowercase().as_bytes(), self.0.as_bytes()]))
    }

    /// How it is kept as this person's PIN.
    ///
    /// # Errors
    /// `SecretsFailed` if the system gives no randomness or no memory.
    pub fn keep(&self, key: &StationKey, name: &str, cost: PinCost) -> Result<String, Failure> {
        cost.hash(&*self.input(key, "pin", name))
    }

    /// How it is kept as this person's badge.
    ///
    /// # Errors
    /// As [`Pin::keep`].
    pub fn keep_badge(&self, key: &StationKey, name: &str, cost: PinCost) -> Result<String, Failure> {
        cost.hash(&*self.input(key, "badge", name))
    }

    /// Whether `kept` was made of it.
    pub fn fits(&self, key: &StationKey, name: &str, kept: &str) -> bool {
        verify(&*self.input(key, "pin", name), kept)
    }

    /// Whether `kept` was made of it as a badge.
    pub fn badge_fits(&self, key: &StationKey, name: &str, kept: &str) -> bool {
        verify(&*self.input(key, "badge", name), kept)
    }

    /// Finds the person of a badge without trying every hash.
    pub fn badge_mark(&self, key: &StationKey) -> [u8; 16] {
        let mac = key.mac("badge mark", &[self.0.as_bytes()]);
        std::array::from_fn(|i| mac[i])
    }
}

/// A unit's label was scanned where a person was to show who they are.
pub(super) fn label_is_no_badge() -> Failure {
    Failure {
        code: FailureCode::InvalidInput,
        sentence: "That is a unit's label, not a badge".into(),
        remedy: "Scan your badge, or type your name".into(),
    }
}

/// The shortest PIN of a role, in characters.
pub const fn least_length(role: Role) -> usize {
    match role {
        Role::Technician => 4,
        _ => 6,
    }
}

/// Runs up or down, one character or one short piece again and again, and the words of every list.
fn is_weak(chars: &[char]) -> bool {
    let step = |by: i32| chars.windows(2).all(|w| w[1] as i32 - w[0] as i32 == by);
    // 7890 and 0987 are runs on a keypad.
    let digits: Option<Vec<u32>> = chars.iter().map(|c| c.to_digit(10)).collect();
    let wraps = |by: u32| digits.as_ref().is_some_and(|d| d.windows(2).all(|w| (w[0] + by) % 10 == w[1]));
    let piece = |n: usize| chars.len() > n && chars.iter().enumerate().all(|(i, c)| *c == chars[i % n]);
    let text: String = chars.iter().collect::<String>().to_lowercase();
    const WORDS: [&str; 10] = [
        "password",
        "passwort",
        "keywright",
        "qwerty",
        "qwertz",
        "azerty",
        "letmein",
        "welcome",
        "admin1",
        "147258",
    ];
    [-1, 0, 1].into_iter().any(step)
        || wraps(1)
        || wraps(9)
        || [2, 3, 4].into_iter().any(piece)
        || WORDS.iter().any(|word| text.starts_with(word) && text.chars().count() <= word.len() + 2)
}

/// What a try at a PIN costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes.
    pub passes: u32,
}

impl PinCost {
    /// 19 MiB, 2 passes, one lane: about 40 ms on a bench PC, so that a login is not waited for.
    pub const STATION: Self = Self { memory_kib: 19 * 1024, passes: 2 };
    /// The least that Argon2 takes, for tests. Protects nothing.
    pub const TEST: Self = Self { memory_kib: 8, passes: 1 };

    fn hash(self, input: &[u8]) -> Result<String, Failure> {
        let failed = |detail: String| secrets_failure(SecretsError::Parameters { detail });
        let params = argon2::Params::new(self.memory_kib, self.passes, 1, Some(32))
            .map_err(|e| failed(e.to_string()))?;
        let salt: [u8; 16] = random().map_err(secrets_failure)?;
        argon2::Argon2::default()
            .hash_password_customized(input, &salt, Some("argon2id"), None, params)
            .map(|kept| kept.to_string())
            .map_err(|e| failed(e.to_string()))
    }

    /// Takes as long as looking at a PIN does: for names that nobody has.
    pub fn pretend(self) {
        // The result is of no use to anybody; what counts is that it was made.
        let _ = self.hash(&[0x4b; 32]);
    }
}

fn verify(input: &[u8], kept: &str) -> bool {
    argon2::Argon2::default().verify_password(input, kept).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::{KdfCost, Passphrase};

    fn pin(text: &str) -> Pin {
        Pin::new(text.to_owned())
    }

    fn key() -> StationKey {
        StationKey::create(&Passphrase::demo(), KdfCost::TEST).unwrap()
    }

    #[test]
    fn short_and_trivial_pins_are_refused_with_what_to_do() {
        for weak in [
            "",
            "123",
            "0000",
            "1234",
            "4321",
            "9876",
            "7890",
            "0987",
            "1212",
            "123123",
            "abcd",
            "password1",
            "Qwerty",
            "147258",
        ] {
            let failure = pin(weak).check_new("Ada", Role::Technician).unwrap_err();
            assert_eq!(failure.code, FailureCode::InvalidInput);
            assert!(failure.remedy.starts_with("Choose one"), "{failure}");
            assert!(weak.len() < 5 || !failure.to_string().contains(weak), "it repeats the PIN: {failure}");
        }
        for good in ["2580", "7294", "0417", "k3ys", "correct horse"] {
            pin(good).check_new("Ada", Role::Technician).unwrap();
        }
        for role in [Role::Qa, Role::Vendor, Role::Admin] {
            let failure = pin("72945").check_new("Ada", role).unwrap_err();
            assert!(failure.remedy.contains("at least 6 characters"), "{failure}");
            pin("729450").check_new("Ada", role).unwrap();
        }
        assert!(pin("petrovic").check_new("Petrovic", Role::Admin).is_err(), "her own name");
        assert!(pin(&"7x".repeat(100)).check_new("Ada", Role::Admin).is_err());
        assert!(pin("12345").check_badge().is_err() && pin("EMP-004711").check_badge().is_ok());
    }

    #[test]
    fn what_is_kept_fits_only_this_pin_this_person_and_this_station() {
        let (here, there) = (key(), key());
        let kept = pin("729450").keep(&here, "Ada", PinCost::TEST).unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{kept}");
        assert!(pin(" 729450\n").fits(&here, "Ada", &kept), "blanks are the keyboard's");
        assert!(pin("729450").fits(&here, "ADA", &kept), "a name is the same in capitals");
        assert!(!pin("729451").fits(&here, "Ada", &kept));
        assert!(!pin("729450").fits(&here, "Eve", &kept), "moved to another person");
        assert!(!pin("729450").fits(&there, "Ada", &kept), "without this station's passphrase");
        assert!(!pin("729450").badge_fits(&here, "Ada", &kept));
        assert!(!pin("729450").fits(&here, "Ada", "$argon2id$damaged"));
        assert_ne!(pin("729450").keep(&here, "Ada", PinCost::TEST).unwrap(), kept, "salted");
        let badge = pin("EMP-004711").keep_badge(&here, "Ada", PinCost::TEST).unwrap();
        assert!(pin("EMP-004711").badge_fits(&here, "Ada", &badge));
        assert_eq!(pin("EMP-004711").badge_mark(&here), pin("EMP-004711").badge_mark(&here));
        assert_ne!(pin("EMP-004711").badge_mark(&here), pin("EMP-004711").badge_mark(&there));
        assert_ne!(pin("EMP-004711").badge_mark(&here), pin("EMP-004712").badge_mark(&here));
    }

    #[test]
    fn nothing_prints_a_pin() {
        assert_eq!(format!("{:?}", pin("729450")), "Pin(redacted)");
        PinCost::TEST.pretend();
    }
}
