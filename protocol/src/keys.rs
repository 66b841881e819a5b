//! Secrets as types: they redact themselves, are wiped when dropped and compare
//! in constant time. `expose` is the one way to the bytes, so that every use can
//! be found.

use core::fmt;

use ed25519_dalek::{Signer as _, SigningKey};
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::crypto;
use crate::error::Error;
use crate::ids::UnitId;

macro_rules! secret32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Takes over the bytes; wipe the source.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The secret bytes. Never log, print or store them unsealed.
            #[must_use]
            pub const fn expose(&self) -> &[u8; 32] {
                &self.0
            }

            /// True for all-00 and all-FF: never programmed, never a secret.
            #[must_use]
            pub fn is_blank(&self) -> bool {
                bool::from(self.0.ct_eq(&[0; 32]) | self.0.ct_eq(&[0xff; 32]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }

        impl ConstantTimeEq for $name {
            fn ct_eq(&self, other: &Self) -> Choice {
                self.0.ct_eq(&other.0)
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.ct_eq(other).into()
            }
        }

        impl Eq for $name {}
    };
}

secret32! {
    /// PK: the key every unit of a batch carries after stage one. The
    /// manufacturer knows it.
    ProductKey
}
secret32! {
    /// AK: a unit's own key, known to the unit and the agent only.
    AgentKey
}
secret32! {
    /// Drawn by the unit's own RNG on first boot; root of its identity key and
    /// of its store key. Never leaves the unit.
    StorageSecret
}
secret32! {
    /// K_store: the key of a record's MAC (PROTOCOL §5).
    StoreKey
}
secret32! {
    /// The base key of an exchange: the product key for INIT, the *current*
    /// agent key for updates.
    BaseKey
}
secret32! {
    /// A pseudorandom key of the schedule (PRK0, PRK2, PRK3).
    Prk
}
secret32! {
    /// A single-use X25519 secret; clamped when used.
    EphemeralSecret
}
secret32! {
    /// An Ed25519 seed (RFC 8032 §5.1.5).
    Seed
}

impl From<&ProductKey> for BaseKey {
    fn from(key: &ProductKey) -> Self {
        Self(key.0)
    }
}

impl From<&AgentKey> for BaseKey {
    fn from(key: &AgentKey) -> Self {
        Self(key.0)
    }
}

impl StoreKey {
    /// The store key of one unit: `Expand(Extract(salt = UID, secret), "OTAK/store/v1", 32)`.
    #[must_use]
    pub fn derive(unit: &UnitId, secret: &StorageSecret) -> Self {
        Self(crypto::derive(&unit.0, &secret.0, &[b"OTAK/store/v1"]))
    }

    /// The store key of kind 1 records: UID zero and the product key in place of
    /// the storage secret, so that the line can write one image for a whole
    /// batch. It gives integrity only.
    #[must_use]
    pub fn of_batch(key: &ProductKey) -> Self {
        Self(crypto::derive(&[0; 12], &key.0, &[b"OTAK/store/v1"]))
    }
}

/// The longest cloud key, in bytes.
pub const MAX_CLOUD_KEY: usize = 64;
/// The shortest cloud key, in bytes: 128 bits.
pub const MIN_CLOUD_KEY: usize = 16;

/// CK: the key a unit shows to the cloud, 16 to 64 bytes (platforms differ).
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct CloudKey {
    bytes: [u8; MAX_CLOUD_KEY],
    len: u8,
}

impl CloudKey {
    /// Copies the key.
    ///
    /// # Errors
    /// [`Error::Length`] outside 16..=64 bytes, [`Error::Blank`] for all-00 or
    /// all-FF.
    pub fn new(key: &[u8]) -> Result<Self, Error> {
        if key.len() < MIN_CLOUD_KEY {
            return Err(Error::Length);
        }
        let mut bytes = [0; MAX_CLOUD_KEY];
        bytes.get_mut(..key.len()).ok_or(Error::Length)?.copy_from_slice(key);
        let out = Self { bytes, len: u8::try_from(key.len()).map_err(|_| Error::Length)? };
        if out.is_blank() {
            return Err(Error::Blank);
        }
        Ok(out)
    }

    /// The secret bytes. Never log, print or store them unsealed.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// True for all-00 and all-FF.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        crypto::is_blank(self.expose())
    }
}

impl fmt::Debug for CloudKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CloudKey(redacted)")
    }
}

impl PartialEq for CloudKey {
    fn eq(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl Eq for CloudKey {}

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// The compressed point.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// An Ed25519 signature, R ‖ S.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(")?;
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        f.write_str(")")
    }
}

/// Whoever can sign with Ed25519: a key in memory, a sealed file, a PKCS#11
/// token. The message is passed whole because tokens want it so; the longest
/// one of an exchange is 97 bytes.
pub trait Signer {
    /// The key that verifies what [`Signer::sign`] makes.
    fn public_key(&self) -> PublicKey;

    /// Signs `message` (RFC 8032, pure Ed25519).
    ///
    /// # Errors
    /// [`Error::SignerUnavailable`] if the key cannot be used now.
    fn sign(&self, message: &[u8]) -> Result<Signature, Error>;
}

/// An Ed25519 key in memory: a unit's identity key (DIK), and on hosts an
/// agent's, station's, region's or root's key.
#[derive(Clone)]
pub struct IdentityKey(SigningKey);

impl IdentityKey {
    /// The key of a seed (RFC 8032 §5.1.5).
    #[must_use]
    pub fn from_seed(seed: &Seed) -> Self {
        Self(SigningKey::from_bytes(&seed.0))
    }

    /// A unit's identity key:
    /// seed = `Expand(Extract(salt = UID, storage secret), "OTAK/dik/v1", 32)`.
    #[must_use]
    pub fn derive(unit: &UnitId, secret: &StorageSecret) -> Self {
        Self::from_seed(&Seed(crypto::derive(&unit.0, &secret.0, &[b"OTAK/dik/v1"])))
    }

    /// The key that verifies this one's signatures.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }
}

impl Signer for IdentityKey {
    fn public_key(&self) -> PublicKey {
        self.public()
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, Error> {
        Ok(Signature(self.0.try_sign(message).map_err(|_| Error::SignerUnavailable)?.to_bytes()))
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityKey({}, redacted)", self.public())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::format;

    #[test]
    fn debug_never_shows_a_secret() {
        let key = [0xa5; 32];
        let id = IdentityKey::from_seed(&Seed::from_bytes(key));
        for text in [
            format!("{:?}", ProductKey::from_bytes(key)),
            format!("{:?}", AgentKey::from_bytes(key)),
            format!("{:?}", CloudKey::new(&key).unwrap()),
            format!("{:?}", StorageSecret::from_bytes(key)),
            format!("{:?}", EphemeralSecret::from_bytes(key)),
            format!("{id:?}"),
        ] {
            assert!(text.contains("redacted"), "{text}");
            assert!(!text.contains("a5a5") && !text.contains("165"), "{text}");
        }
    }

    #[test]
    fn blanks_are_never_keys() {
        for blank in [[0; 32], [0xff; 32]] {
            assert!(AgentKey::from_bytes(blank).is_blank());
            assert_eq!(CloudKey::new(&blank), Err(Error::Blank));
        }
        let mut almost = [0; 32];
        almost[31] = 1;
        assert!(!AgentKey::from_bytes(almost).is_blank());
        assert_eq!(CloudKey::new(&[1; 15]), Err(Error::Length));
        assert_eq!(CloudKey::new(&[1; 65]), Err(Error::Length));
        assert_eq!(CloudKey::new(&[1; 64]).unwrap().expose(), [1; 64]);
    }
}
