//! Secrets at rest: the passphrase, the station key made from it, and the sealing of rows and files.
//!
//! ```text
//! master     = Argon2id(passphrase, salt16, cost)                    (RFC 9106; cost and salt are stored beside it)
//! seal key   = Expand(Extract("keywright/station/v1", master), "seal", 32)
//! check      = Expand(Extract("keywright/station/v1", master), "check", 32)
//! mac key    = Expand(Extract("keywright/station/v1", master), "mac", 32)
//! sealed     = nonce24 ‖ XChaCha20-Poly1305(seal key, nonce, AAD, plaintext)
//! AAD        = "keywright/seal/v1" ‖ three times (u32 length ‖ bytes): table, row, purpose
//! ```
//!
//! Invariants:
//! - What is sealed for one table, row and purpose opens nowhere else, so rows can't be swapped by an editor.
//! - A wrong passphrase is told apart from damage by the check value, before anything is opened.
//! - Nothing in this file can be printed: every type that holds a secret redacts itself and is wiped when dropped.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use keywright_protocol::crypto;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The public passphrase of `--demo`. It protects nothing, and the demo says so.
pub const DEMO_PASSPHRASE: &str = "keywright-demo";
/// The shortest passphrase that a new station accepts, in characters.
pub const MIN_PASSPHRASE: usize = 8;
/// The longest passphrase read from anywhere, in bytes.
const MAX_PASSPHRASE: u64 = 1024;
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;

/// Why a secret can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretsError {
    /// The passphrase does not open the station key.
    #[error("wrong passphrase; type it again, or use the one this station was set up with")]
    WrongPassphrase,
    /// It could not be read from where it should come from.
    #[error("the passphrase could not be read from {source_name}: {detail}")]
    PassphraseUnavailable {
        /// Prompt, file descriptor, keyring.
        source_name: String,
        /// The system's words.
        detail: String,
    },
    /// Empty or too short to protect anything.
    #[error("the passphrase has {got} characters; choose one of at least {MIN_PASSPHRASE}")]
    TooShort {
        /// Its length.
        got: usize,
    },
    /// The two prompts differ.
    #[error("the two passphrases differ; type the same one twice")]
    Mismatch,
    /// A sealed value does not open: altered, cut, moved from another row, or sealed under another station's key.
    #[error(
        "the sealed {what} does not open: it was altered, moved or sealed by another station; restore it from a backup"
    )]
    Damaged {
        /// Table, row and purpose, or a file's name.
        what: String,
    },
    /// Argon2 parameters that this program refuses.
    #[error("the station key's parameters can't be used ({detail}); restore the database from a backup")]
    Parameters {
        /// What was wrong.
        detail: String,
    },
    /// The operating system gave no randomness.
    #[error("the operating system gave no random bytes: {detail}; restart the PC")]
    NoRandomness {
        /// The system's words.
        detail: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}; check that the folder exists and that this user may use it")]
    File {
        /// The file.
        path: String,
        /// The system's words.
        source: std::io::Error,
    },
}

/// Fills a buffer with the operating system's randomness. A blank result is refused: a source that gives all zero or
/// all FF bytes is broken, and a key made from it would be no key.
pub fn random_fill(out: &mut [u8]) -> Result<(), SecretsError> {
    getrandom::fill(out).map_err(|e| SecretsError::NoRandomness { detail: e.to_string() })?;
    if out.len() >= 16 && crypto::is_blank(out) {
        out.zeroize();
        return Err(SecretsError::NoRandomness { detail: "the source is stuck".into() });
    }
    Ok(())
}

/// `N` random bytes, see [`random_fill`].
pub fn random<const N: usize>() -> Result<[u8; N], SecretsError> {
    let mut out = [0; N];
    random_fill(&mut out)?;
    Ok(out)
}

/// Secret bytes of a fixed length: redacted in `Debug`, wiped when dropped, compared in constant time.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    /// Takes over the bytes; wipe the source.
    pub const fn from_bytes(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// Fresh randomness.
    pub fn random() -> Result<Self, SecretsError> {
        let mut secret = Self([0; N]);
        random_fill(&mut secret.0)?;
        Ok(secret)
    }

    /// Copies from a slice of exactly `N` bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes. Never log, print or store them unsealed.
    pub const fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// All zero or all FF: never a secret.
    pub fn is_blank(&self) -> bool {
        crypto::is_blank(&self.0)
    }
}

impl<const N: usize> std::fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret<{N}>(redacted)")
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        crypto::tags_equal(&self.0, &other.0)
    }
}

impl<const N: usize> Eq for Secret<N> {}

/// A passphrase: redacted, wiped when dropped.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(redacted)")
    }
}

impl Passphrase {
    /// Takes over a text.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The public one of the demo.
    pub fn demo() -> Self {
        Self::new(DEMO_PASSPHRASE.into())
    }

    /// Whether this is the public one of the demo, which protects nothing.
    pub fn is_public_demo(&self) -> bool {
        self.0.as_str() == DEMO_PASSPHRASE
    }

    /// Its text, to be kept as something else that is wiped: a PIN, the password of a key container.
    pub fn into_text(self) -> Zeroizing<String> {
        self.0
    }

    /// Refuses one that protects nothing; for new stations.
    pub fn check_strength(&self) -> Result<(), SecretsError> {
        let got = self.0.chars().count();
        if got < MIN_PASSPHRASE { Err(SecretsError::TooShort { got }) } else { Ok(()) }
    }

    /// Reads it from a source.
    pub fn read(source: &PassphraseSource) -> Result<Self, SecretsError> {
        match source {
            PassphraseSource::Demo => Ok(Self::demo()),
            PassphraseSource::Prompt { twice } => Self::prompt(*twice),
            PassphraseSource::Fd(fd) => Self::from_fd(*fd),
            PassphraseSource::Keyring { station } => Self::from_keyring(station),
        }
    }

    fn prompt(twice: bool) -> Result<Self, SecretsError> {
        let ask = |text: &str| {
            rpassword::prompt_password(text).map(Self::new).map_err(|e| SecretsError::PassphraseUnavailable {
                source_name: "the terminal".into(),
                detail: e.to_string(),
            })
        };
        let first = ask("Station passphrase: ")?;
        if twice {
            first.check_strength()?;
            let second = ask("The same again: ")?;
            if !crypto::tags_equal(first.0.as_bytes(), second.0.as_bytes()) {
                return Err(SecretsError::Mismatch);
            }
        }
        Ok(first)
    }

    /// Reads up to the first newline or the end of an open file descriptor (`--passphrase-fd N`). The descriptor is
    /// opened anew through the system's own table, so it stays the caller's.
    #[cfg(unix)]
    fn from_fd(fd: i32) -> Result<Self, SecretsError> {
        let fail = |detail: String| SecretsError::PassphraseUnavailable {
            source_name: format!("file descriptor {fd}"),
            detail,
        };
        if fd < 0 {
            return Err(fail("not a descriptor".into()));
        }
        let file = std::fs::File::open(format!("/dev/fd/{fd}")).map_err(|e| fail(e.to_string()))?;
        Self::from_reader(file).map_err(|e| fail(e.to_string()))
    }

    #[cfg(not(unix))]
    fn from_fd(fd: i32) -> Result<Self, SecretsError> {
        Err(SecretsError::PassphraseUnavailable {
            source_name: format!("file descriptor {fd}"),
            detail: "this system has none; use the prompt or the keyring".into(),
        })
    }

    /// Reads up to the first newline or the end.
    pub fn from_reader(reader: impl Read) -> std::io::Result<Self> {
        // The buffer must never grow by reallocation, which would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_PASSPHRASE as usize + 1));
        reader.take(MAX_PASSPHRASE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_PASSPHRASE {
            return Err(std::io::Error::other("longer than 1,024 bytes"));
        }
        let line = bytes.split(|b| *b == b'\n').next().unwrap_or(&[]);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Err(std::io::Error::other("it is empty"));
        }
        let text = std::str::from_utf8(line).map_err(|_| std::io::Error::other("it is not UTF-8"))?;
        Ok(Self::new(text.to_owned()))
    }

    #[cfg(feature = "keyring")]
    fn from_keyring(station: &str) -> Result<Self, SecretsError> {
        let entry = keyring::v1::Entry::new(KEYRING_SERVICE, station).map_err(keyring_error)?;
        entry.get_password().map(Self::new).map_err(keyring_error)
    }

    #[cfg(not(feature = "keyring"))]
    fn from_keyring(_station: &str) -> Result<Self, SecretsError> {
        Err(SecretsError::PassphraseUnavailable {
            source_name: "the keyring".into(),
            detail: "this build has no keyring support; use the prompt or --passphrase-fd".into(),
        })
    }

    /// Keeps the passphrase in the operating system's keyring (`keywright passphrase store`).
    #[cfg(feature = "keyring")]
    pub fn store_in_keyring(&self, station: &str) -> Result<(), SecretsError> {
        let entry = keyring::v1::Entry::new(KEYRING_SERVICE, station).map_err(keyring_error)?;
        entry.set_password(&self.0).map_err(keyring_error)
    }

    /// Takes the passphrase out of the operating system's keyring.
    #[cfg(feature = "keyring")]
    pub fn forget_in_keyring(station: &str) -> Result<(), SecretsError> {
        let entry = keyring::v1::Entry::new(KEYRING_SERVICE, station).map_err(keyring_error)?;
        entry.delete_credential().map_err(keyring_error)
    }
}

#[cfg(feature = "keyring")]
const KEYRING_SERVICE: &str = "keywright";

#[cfg(feature = "keyring")]
fn keyring_error(error: keyring::v1::Error) -> SecretsError {
    SecretsError::PassphraseUnavailable { source_name: "the keyring".into(), detail: error.to_string() }
}

/// Where the passphrase comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PassphraseSource {
    /// Ask on the terminal, without echo; `twice` for a new one.
    Prompt {
        /// Ask again and compare.
        twice: bool,
    },
    /// An inherited file descriptor.
    Fd(i32),
    /// The operating system's keyring, one entry per station home.
    Keyring {
        /// The entry's name: the station home's path.
        station: String,
    },
    /// The public one of the demo.
    Demo,
}

/// What Argon2id costs (RFC 9106 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KdfCost {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl KdfCost {
    /// 64 MiB, 3 passes, one lane: RFC 9106's second recommendation with one lane, about 0.2 s on a bench PC.
    pub const STATION: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 };
    /// The least that Argon2 takes: for tests that open hundreds of databases. Protects nothing.
    pub const TEST: Self = Self { memory_kib: 8, passes: 1, lanes: 1 };

    fn check(self) -> Result<Self, SecretsError> {
        // An editor of the file must not be able to make opening take all memory.
        if self.memory_kib > 4 * 1024 * 1024 || self.passes > 64 || self.lanes > 64 {
            return Err(SecretsError::Parameters { detail: "a cost is out of range".into() });
        }
        Ok(self)
    }
}

/// How to make the station key again from the passphrase: cost, salt and check value. Not secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecipe {
    /// Argon2id's cost.
    pub cost: KdfCost,
    /// Its salt.
    pub salt: [u8; 16],
    /// Tells a wrong passphrase from damage.
    pub check: [u8; 32],
}

impl KeyRecipe {
    /// Length of the bytes.
    pub const LEN: usize = 1 + 12 + 16 + 32;

    /// `01 ‖ memory4 ‖ passes4 ‖ lanes4 ‖ salt16 ‖ check32`.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[0] = 1;
        out[1..5].copy_from_slice(&self.cost.memory_kib.to_be_bytes());
        out[5..9].copy_from_slice(&self.cost.passes.to_be_bytes());
        out[9..13].copy_from_slice(&self.cost.lanes.to_be_bytes());
        out[13..29].copy_from_slice(&self.salt);
        out[29..].copy_from_slice(&self.check);
        out
    }

    /// Reads [`KeyRecipe::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SecretsError> {
        let bytes: &[u8; Self::LEN] = bytes
            .try_into()
            .map_err(|_| SecretsError::Parameters { detail: format!("{} bytes", bytes.len()) })?;
        if bytes[0] != 1 {
            return Err(SecretsError::Parameters { detail: format!("version {}", bytes[0]) });
        }
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut recipe = Self {
            cost: KdfCost { memory_kib: word(1), passes: word(5), lanes: word(9) }.check()?,
            salt: [0; 16],
            check: [0; 32],
        };
        recipe.salt.copy_from_slice(&bytes[13..29]);
        recipe.check.copy_from_slice(&bytes[29..]);
        Ok(recipe)
    }
}

/// What a sealed value belongs to; part of its authentication.
#[derive(Clone, Copy, Debug)]
pub struct SealFor<'a> {
    /// Table or kind of file.
    pub table: &'a str,
    /// The row's own key.
    pub row: &'a [u8],
    /// What the value is for.
    pub purpose: &'a str,
}

impl SealFor<'_> {
    fn aad(&self) -> Vec<u8> {
        let mut aad = b"keywright/seal/v1".to_vec();
        for part in [self.table.as_bytes(), self.row, self.purpose.as_bytes()] {
            aad.extend_from_slice(&(part.len() as u32).to_be_bytes());
            aad.extend_from_slice(part);
        }
        aad
    }
}

/// The station key, unlocked. Dropping it wipes it.
pub struct StationKey {
    cipher: XChaCha20Poly1305,
    mac: Secret<32>,
    recipe: KeyRecipe,
}

impl std::fmt::Debug for StationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StationKey(redacted)")
    }
}

impl StationKey {
    /// A new key: a fresh salt, this passphrase.
    pub fn create(passphrase: &Passphrase, cost: KdfCost) -> Result<Self, SecretsError> {
        let salt = random()?;
        let (cipher, mac, check) = Self::stretch(passphrase, cost, &salt)?;
        Ok(Self { cipher, mac, recipe: KeyRecipe { cost, salt, check } })
    }

    /// The key of a recipe.
    pub fn open(passphrase: &Passphrase, recipe: &KeyRecipe) -> Result<Self, SecretsError> {
        let (cipher, mac, check) = Self::stretch(passphrase, recipe.cost.check()?, &recipe.salt)?;
        if crypto::tags_equal(&check, &recipe.check) {
            Ok(Self { cipher, mac, recipe: recipe.clone() })
        } else {
            Err(SecretsError::WrongPassphrase)
        }
    }

    fn stretch(
        passphrase: &Passphrase,
        cost: KdfCost,
        salt: &[u8; 16],
    ) -> Result<(XChaCha20Poly1305, Secret<32>, [u8; 32]), SecretsError> {
        let parameters = |e: argon2::Error| SecretsError::Parameters { detail: e.to_string() };
        let params =
            argon2::Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(parameters)?;
        let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let mut master = Zeroizing::new([0u8; 32]);
        argon.hash_password_into(passphrase.0.as_bytes(), salt, master.as_mut()).map_err(parameters)?;
        let seal = Zeroizing::new(crypto::derive(b"keywright/station/v1", master.as_ref(), &[b"seal"]));
        let mac = Secret(crypto::derive(b"keywright/station/v1", master.as_ref(), &[b"mac"]));
        let check = crypto::derive(b"keywright/station/v1", master.as_ref(), &[b"check"]);
        Ok((XChaCha20Poly1305::new((&*seal).into()), mac, check))
    }

    /// A MAC that only this station can make, over parts of any length, for one purpose.
    pub fn mac(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut message = Zeroizing::new(b"keywright/mac/v1".to_vec());
        for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
            message.extend_from_slice(&(part.len() as u64).to_be_bytes());
            message.extend_from_slice(part);
        }
        crypto::hmac(self.mac.expose(), &[&message])
    }

    /// How to make it again from the passphrase.
    pub fn recipe(&self) -> &KeyRecipe {
        &self.recipe
    }

    /// Seals a value for one row: nonce, ciphertext, tag; 40 bytes longer than the plaintext.
    pub fn seal(&self, what: SealFor<'_>, plaintext: &[u8]) -> Result<Vec<u8>, SecretsError> {
        let nonce: [u8; NONCE_LEN] = random()?;
        let aad = what.aad();
        let sealed = self
            .cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: plaintext, aad: &aad })
            .map_err(|_| SecretsError::Damaged { what: what.purpose.into() })?;
        let mut out = Vec::with_capacity(NONCE_LEN + sealed.len());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    /// Opens a value of one row.
    pub fn open_sealed(&self, what: SealFor<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretsError> {
        let damaged = || SecretsError::Damaged { what: format!("{} in {}", what.purpose, what.table) };
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
        if body.len() < TAG_LEN {
            return Err(damaged());
        }
        let aad = what.aad();
        self.cipher
            .decrypt(&XNonce::from(*nonce), Payload { msg: body, aad: &aad })
            .map(Zeroizing::new)
            .map_err(|_| damaged())
    }

    /// Opens a value of exactly `N` bytes.
    pub fn open_secret<const N: usize>(
        &self,
        what: SealFor<'_>,
        sealed: &[u8],
    ) -> Result<Secret<N>, SecretsError> {
        let plain = self.open_sealed(what, sealed)?;
        Secret::from_slice(&plain)
            .ok_or_else(|| SecretsError::Damaged { what: format!("{} in {}", what.purpose, what.table) })
    }
}

const FILE_MAGIC: &[u8; 8] = b"KWSEAL1\n";

/// A sealed file: `"KWSEAL1\n" ‖ key recipe ‖ sealed value`. The recipe travels with the file, so that the passphrase
/// alone opens a backup of it.
#[derive(Clone, Debug)]
pub struct SealedFile {
    path: PathBuf,
}

impl SealedFile {
    /// Names a file; nothing is touched.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether these are the bytes of a sealed file.
    pub fn is_sealed(bytes: &[u8]) -> bool {
        bytes.starts_with(FILE_MAGIC)
    }

    /// The file's own name is what its content is sealed for, so two files can't be exchanged.
    fn row(&self) -> Vec<u8> {
        self.path.file_name().map(|n| n.as_encoded_bytes().to_vec()).unwrap_or_default()
    }

    fn damaged(&self) -> SecretsError {
        SecretsError::Damaged { what: self.path.display().to_string() }
    }

    /// Writes it as a whole or not at all: temporary file, fsync, rename, fsync of the folder.
    pub fn write(&self, key: &StationKey, plaintext: &[u8]) -> Result<(), SecretsError> {
        let row = self.row();
        let sealed = key.seal(SealFor { table: "file", row: &row, purpose: "content" }, plaintext)?;
        let mut bytes = FILE_MAGIC.to_vec();
        bytes.extend_from_slice(&key.recipe.to_bytes());
        bytes.extend_from_slice(&sealed);
        write_atomically(&self.path, &bytes)
    }

    /// Reads and opens it with an unlocked key.
    pub fn read(&self, key: &StationKey) -> Result<Zeroizing<Vec<u8>>, SecretsError> {
        let (recipe, sealed) = self.parts()?;
        // Another salt is another key: the file came from another station.
        if recipe != key.recipe {
            return Err(self.damaged());
        }
        let row = self.row();
        key.open_sealed(SealFor { table: "file", row: &row, purpose: "content" }, &sealed)
            .map_err(|_| self.damaged())
    }

    /// Reads and opens it with the passphrase alone (a backup, another station).
    pub fn read_with_passphrase(&self, passphrase: &Passphrase) -> Result<Zeroizing<Vec<u8>>, SecretsError> {
        let (recipe, _) = self.parts()?;
        self.read(&StationKey::open(passphrase, &recipe)?)
    }

    fn parts(&self) -> Result<(KeyRecipe, Vec<u8>), SecretsError> {
        let bytes = std::fs::read(&self.path)
            .map_err(|source| SecretsError::File { path: self.path.display().to_string(), source })?;
        let rest = bytes.strip_prefix(FILE_MAGIC).ok_or_else(|| self.damaged())?;
        let (recipe, sealed) = rest.split_at_checked(KeyRecipe::LEN).ok_or_else(|| self.damaged())?;
        Ok((KeyRecipe::from_bytes(recipe)?, sealed.to_vec()))
    }
}

/// Writes a file as a whole or not at all, readable by this user only: temporary file in the same folder, fsync,
/// rename, fsync of the folder.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), SecretsError> {
    let file = |source: std::io::Error| SecretsError::File { path: path.display().to_string(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // tempfile creates with mode 0600.
    let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(file)?;
    temporary.write_all(bytes).map_err(file)?;
    temporary.as_file().sync_all().map_err(file)?;
    temporary.persist(path).map_err(|e| file(e.error))?;
    #[cfg(unix)]
    std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: SealFor<'static> = SealFor { table: "t", row: b"r1", purpose: "p" };

    fn key() -> StationKey {
        StationKey::create(&Passphrase::demo(), KdfCost::TEST).unwrap()
    }

    #[test]
    fn nothing_prints_a_secret() {
        let text = format!(
            "{:?} {:?} {:?}",
            Secret::<4>::from_bytes([0xa5; 4]),
            Passphrase::new("hunter2hunter2".into()),
            key()
        );
        assert!(!text.contains("a5") && !text.contains("165") && !text.contains("hunter"), "{text}");
        assert_eq!(text.matches("redacted").count(), 3);
    }

    #[test]
    fn a_sealed_value_opens_only_in_its_own_place() {
        let key = key();
        let sealed = key.seal(ROW, b"secret").unwrap();
        assert_eq!(key.open_sealed(ROW, &sealed).unwrap().as_slice(), b"secret");
        for elsewhere in [
            SealFor { table: "u", ..ROW },
            SealFor { row: b"r2", ..ROW },
            SealFor { purpose: "q", ..ROW },
            // Length prefixes: shifting a byte between two parts is another place.
            SealFor { table: "tr", row: b"1", purpose: "p" },
        ] {
            assert!(key.open_sealed(elsewhere, &sealed).is_err());
        }
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(key.open_sealed(ROW, &bad).is_err(), "byte {at}");
        }
        assert!(key.open_sealed(ROW, &sealed[..30]).is_err());
        assert_ne!(key.seal(ROW, b"secret").unwrap(), sealed, "nonces are fresh");
    }

    #[test]
    fn a_mac_is_of_its_purpose_its_parts_and_its_station() {
        let key = key();
        let mac = key.mac("p", &[b"ab", b"c"]);
        assert_eq!(key.mac("p", &[b"ab", b"c"]), mac);
        for other in [key.mac("q", &[b"ab", b"c"]), key.mac("p", &[b"a", b"bc"]), key.mac("p", &[b"abc"])] {
            assert_ne!(other, mac);
        }
        let elsewhere = StationKey::create(&Passphrase::demo(), KdfCost::TEST).unwrap();
        assert_ne!(elsewhere.mac("p", &[b"ab", b"c"]), mac, "another salt");
    }

    #[test]
    fn the_recipe_makes_the_same_key_and_a_wrong_passphrase_is_named() {
        let first = key();
        let recipe = KeyRecipe::from_bytes(&first.recipe().to_bytes()).unwrap();
        let again = StationKey::open(&Passphrase::demo(), &recipe).unwrap();
        assert_eq!(again.open_sealed(ROW, &first.seal(ROW, b"x").unwrap()).unwrap().as_slice(), b"x");
        let wrong = StationKey::open(&Passphrase::new("keywright-dem0".into()), &recipe);
        assert!(matches!(wrong, Err(SecretsError::WrongPassphrase)));
        let mut bytes = recipe.to_bytes();
        bytes[1] = 0xff;
        assert!(matches!(KeyRecipe::from_bytes(&bytes), Err(SecretsError::Parameters { .. })));
    }

    #[test]
    fn sealed_files_are_private_bound_to_their_name_and_open_with_the_passphrase() {
        let folder = tempfile::tempdir().unwrap();
        let key = key();
        let a = SealedFile::at(folder.path().join("a.sealed"));
        a.write(&key, b"alpha").unwrap();
        assert_eq!(a.read(&key).unwrap().as_slice(), b"alpha");
        assert_eq!(a.read_with_passphrase(&Passphrase::demo()).unwrap().as_slice(), b"alpha");
        assert!(!std::fs::read(a.path()).unwrap().windows(5).any(|w| w == b"alpha"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(a.path()).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let b = SealedFile::at(folder.path().join("b.sealed"));
        std::fs::copy(a.path(), b.path()).unwrap();
        assert!(matches!(b.read(&key), Err(SecretsError::Damaged { .. })), "moved to another name");
        a.write(&key, b"beta").unwrap();
        assert_eq!(a.read(&key).unwrap().as_slice(), b"beta");
        let names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "no temporary file stays: {names:?}");
    }

    #[test]
    fn passphrases_are_read_to_the_first_newline() {
        let read = |bytes: &[u8]| Passphrase::from_reader(bytes);
        assert_eq!(read(b"correct horse\r\nnext").unwrap().0.as_str(), "correct horse");
        assert_eq!(read(b"no newline").unwrap().0.as_str(), "no newline");
        assert!(read(b"").is_err() && read(b"\n").is_err() && read(&[0xff, 0xfe]).is_err());
        assert!(read(&[b'a'; 2000]).is_err());
        assert!(matches!(
            Passphrase::new("short".into()).check_strength(),
            Err(SecretsError::TooShort { got: 5 })
        ));
        Passphrase::demo().check_strength().unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_file_descriptor_gives_the_passphrase() {
        use std::os::fd::AsRawFd;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"from a descriptor\n").unwrap();
        let read = Passphrase::read(&PassphraseSource::Fd(file.as_raw_fd())).unwrap();
        assert_eq!(read.0.as_str(), "from a descriptor");
        assert!(Passphrase::read(&PassphraseSource::Fd(-1)).is_err());
        assert!(Passphrase::read(&PassphraseSource::Fd(9999)).is_err());
    }
}
