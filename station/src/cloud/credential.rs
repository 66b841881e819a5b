//! Identities and passwords of units at a broker.
//!
//! ```text
//! identity = <uid as 24 hex digits>.<generation, decimal>      user name and client id alike
//! password = hex(Expand(Extract("OTAK/v1/mqtt", cloud key), "password", 32))
//! birth    = kw/<uid>/birth     up = kw/<uid>/up/#     down = kw/<uid>/down/#
//! ```
//! The cloud key itself never travels: a broker that leaks its password store gives nobody the key that the exchange
//! is built on. The unit derives the same password with the same functions.

use crate::model::UnitId;
use keywright_protocol::{CloudKey, crypto};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// HKDF salt of broker passwords.
const SALT: &[u8] = b"OTAK/v1/mqtt";
/// HKDF info of broker passwords.
const INFO: &[u8] = b"password";
/// Domain of [`Verifier`].
const VERIFIER: &[u8] = b"keywright/mqtt-verifier/v1";

/// A password for a broker: redacted in `Debug`, wiped when dropped.
#[derive(Clone)]
pub struct Credential(Zeroizing<String>);

impl Credential {
    /// What a unit with this cloud key logs in with: 64 lower-case hex digits.
    pub fn of(key: &CloudKey) -> Self {
        let mut bytes = crypto::derive(SALT, key.expose(), &[INFO]);
        let password = Zeroizing::new(hex::encode(bytes));
        bytes.zeroize();
        Self(password)
    }

    /// A password from elsewhere (the agent's own login at an external broker).
    pub fn from_password(password: String) -> Self {
        Self(Zeroizing::new(password))
    }

    /// The password. Never log, print or store it unsealed.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What a broker or a ledger keeps of it. A unit's password carries 256 random bits, so a plain hash gives
    /// nothing away; the identity is part of it, so a verifier can't be moved to another unit or generation.
    pub fn verifier(&self, identity: Identity) -> Verifier {
        Verifier(crypto::sha256(&[
            VERIFIER,
            &identity.unit.0,
            &identity.generation.to_be_bytes(),
            self.0.as_bytes(),
        ]))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(redacted)")
    }
}

/// Hash of an identity and its password; compared in constant time.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Verifier([u8; 32]);

impl Verifier {
    /// Lower-case hex, for a broker's description field.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl PartialEq for Verifier {
    fn eq(&self, other: &Self) -> bool {
        crypto::tags_equal(&self.0, &other.0)
    }
}
impl Eq for Verifier {}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(..)")
    }
}

impl From<Verifier> for String {
    fn from(verifier: Verifier) -> Self {
        verifier.to_hex()
    }
}

impl TryFrom<String> for Verifier {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(&text, &mut bytes).map_err(|e| format!("a verifier is 64 hex digits: {e}"))?;
        Ok(Self(bytes))
    }
}

/// One generation of one unit's cloud key, as a broker knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The unit.
    pub unit: UnitId,
    /// The cloud key's generation, from 1.
    pub generation: u32,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.unit, self.generation)
    }
}

impl std::str::FromStr for Identity {
    type Err = ();
    /// Exactly what `Display` writes: no upper case, no leading zeros, no generation 0. One unit has one spelling, so
    /// no second name can pass a check that the first one fails.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (unit, generation) = text.split_once('.').ok_or(())?;
        let identity =
            Self { unit: unit.parse().map_err(drop)?, generation: generation.parse().map_err(drop)? };
        if identity.generation == 0 || identity.to_string() != text { Err(()) } else { Ok(identity) }
    }
}

/// Where a unit publishes its birth message.
pub fn birth_topic(unit: UnitId) -> String {
    format!("kw/{unit}/birth")
}

/// A topic below the unit's `down` branch.
pub fn down_topic(unit: UnitId, rest: &str) -> String {
    format!("kw/{unit}/down/{rest}")
}

/// True if the unit may publish there: its birth topic and everything below (and at) its `up` branch.
pub fn may_publish(unit: UnitId, topic: &str) -> bool {
    let Some(rest) = own_branch(unit, topic) else { return false };
    rest == "birth" || rest == "up" || rest.starts_with("up/")
}

/// True if everything the filter can ever match lies in the unit's `down` branch: the first three levels are literal.
pub fn may_subscribe(unit: UnitId, filter: &str) -> bool {
    let Some(rest) = own_branch(unit, filter) else { return false };
    rest == "down" || rest.starts_with("down/")
}

fn own_branch(unit: UnitId, topic: &str) -> Option<&str> {
    topic.strip_prefix("kw/")?.strip_prefix(unit.to_string().as_str())?.strip_prefix('/')
}

/// True if a well-formed filter matches a topic (MQTT 3.1.1 §4.7); topics that begin with `$` are not our concern.
pub fn filter_matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for level in filter.split('/') {
        match (level, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (want, Some(got)) if want == got => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// True if a filter is well formed (MQTT 3.1.1 §4.7.1): `#` only as the whole last level, `+` only as a whole level.
pub fn filter_is_valid(filter: &str) -> bool {
    let levels: Vec<&str> = filter.split('/').collect();
    !filter.is_empty()
        && !filter.contains('\0')
        && levels.iter().enumerate().all(|(i, level)| match *level {
            "#" => i + 1 == levels.len(),
            "+" => true,
            other => !other.contains(['#', '+']),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: UnitId = UnitId([0x11; 12]);

    #[test]
    fn a_password_is_the_derived_key_in_hex_and_never_printed() {
        let key = CloudKey::new(&[7; 32]).unwrap();
        let credential = Credential::of(&key);
        let prk = crypto::hmac(b"OTAK/v1/mqtt", &[&[7; 32]]);
        // RFC 5869: one block of output is HMAC(prk, info ‖ 01).
        assert_eq!(credential.expose(), hex::encode(crypto::hmac(&prk, &[b"password", &[1]])));
        assert_eq!(format!("{credential:?}"), "Credential(redacted)");
        let first = Identity { unit: UNIT, generation: 1 };
        let second = Identity { unit: UNIT, generation: 2 };
        assert!(credential.verifier(first) == credential.verifier(first));
        assert!(credential.verifier(first) != credential.verifier(second));
    }

    #[test]
    fn an_identity_has_one_spelling() {
        let name = "0102030405060708090a0b0c.7";
        let identity: Identity = name.parse().unwrap();
        assert_eq!(identity.generation, 7);
        assert_eq!(identity.to_string(), name);
        for bad in [
            "0102030405060708090A0B0C.7",
            "0102030405060708090a0b0c.07",
            "0102030405060708090a0b0c.0",
            "0102030405060708090a0b0c.+7",
            "0102030405060708090a0b0c.4294967296",
            "0102030405060708090a0b0c",
            " 0102030405060708090a0b0c.7",
            "0102030405060708090a0b0c.7.7",
            "0102.7",
            "",
        ] {
            assert!(bad.parse::<Identity>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_unit_keeps_to_its_own_branch() {
        let own = |rest: &str| format!("kw/{UNIT}/{rest}");
        for good in ["birth", "up", "up/", "up/a/b"] {
            assert!(may_publish(UNIT, &own(good)), "{good}");
        }
        for bad in ["", "birth/x", "births", "down", "down/x", "upper", "up2/x"] {
            assert!(!may_publish(UNIT, &own(bad)), "{bad}");
        }
        for bad in ["kw/222222222222222222222222/birth", "kw/birth", "birth", "$SYS/x", "kw//birth"] {
            assert!(!may_publish(UNIT, bad), "{bad}");
        }
        for good in ["down", "down/#", "down/+/x", "down/wake"] {
            assert!(may_subscribe(UNIT, &own(good)), "{good}");
        }
        for bad in ["#", "+", "up/#", "birth", "downs/#"] {
            assert!(!may_subscribe(UNIT, &own(bad)), "{bad}");
        }
        for bad in ["#", "kw/#", "kw/+/down/#", "+/+/down/#", "kw/222222222222222222222222/down/#"] {
            assert!(!may_subscribe(UNIT, bad), "{bad}");
        }
    }

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic, matches) in [
            ("a/b", "a/b", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/+", "a", false),
            ("a/+", "a/b", true),
            ("a/+/c", "a/b/c", true),
            ("a/+/c", "a/b/d", false),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
            ("#", "a/b", true),
            ("+/+", "/b", true),
        ] {
            assert_eq!(filter_matches(filter, topic), matches, "{filter} {topic}");
        }
        for bad in ["", "a#", "#/a", "a/#/b", "a+/b", "a/b+"] {
            assert!(!filter_is_valid(bad), "{bad}");
        }
        for good in ["#", "+", "a/+/b/#", "/", "a//b"] {
            assert!(filter_is_valid(good), "{good}");
        }
    }
}
