//! How a list that holds keys is protected, and from whom.

use super::{ExportError, Recipient};
use pgp::composed::{Deserializable, MessageBuilder, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::sym::SymmetricKeyAlgorithm;
use pgp::packet::SignatureType;
use pgp::types::KeyDetails;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use zeroize::Zeroizing;

/// The protection of an export's secrets.
pub enum Protection {
    /// Nothing that holds secrets is written (the canonical forms give their list without keys).
    None,
    /// Sealed with age for these recipients.
    Age(Vec<Recipient>),
    /// Sealed with OpenPGP for these keys.
    OpenPgp(Vec<PgpRecipient>),
    /// The keys in a PSKC container are encrypted under a password.
    Password(Zeroizing<String>),
    /// In clear, because a person says so.
    Plain {
        /// Why; it is recorded.
        reason: String,
    },
}

impl std::fmt::Debug for Protection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Protection({}, {:?})", self.word(), self.fingerprints())
    }
}

impl Protection {
    /// The word in the records and in receipts.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Age(_) => "age",
            Self::OpenPgp(_) => "openpgp",
            Self::Password(_) => "password",
            Self::Plain { .. } => "plain",
        }
    }

    /// Fingerprints of the recipients' keys.
    pub fn fingerprints(&self) -> Vec<String> {
        match self {
            Self::Age(recipients) => recipients.iter().map(Recipient::fingerprint).collect(),
            Self::OpenPgp(recipients) => recipients.iter().map(|r| r.fingerprint().to_owned()).collect(),
            Self::None | Self::Password(_) | Self::Plain { .. } => Vec::new(),
        }
    }

    /// What is put behind the name of a sealed file.
    pub(super) const fn suffix(&self) -> &'static str {
        match self {
            Self::Age(_) => ".age",
            Self::OpenPgp(_) => ".gpg",
            Self::None | Self::Password(_) | Self::Plain { .. } => "",
        }
    }

    /// Lets `body` write, and writes what it wrote to `file`, sealed.
    pub(super) fn seal(
        &self,
        path: &Path,
        file: &mut std::fs::File,
        body: &mut dyn FnMut(&mut dyn Write) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let io = |e| ExportError::io(path, e);
        match self {
            Self::None | Self::Password(_) | Self::Plain { .. } => {
                let mut out = BufWriter::new(file);
                body(&mut out)?;
                out.flush().map_err(io)
            }
            Self::Age(recipients) => {
                let recipients = recipients.iter().map(|r| &*r.inner as &dyn age::Recipient);
                let encryptor = age::Encryptor::with_recipients(recipients)
                    .map_err(|e| ExportError::Encrypt(e.to_string()))?;
                let mut out = encryptor.wrap_output(BufWriter::new(file)).map_err(io)?;
                body(&mut out)?;
                out.finish().and_then(|mut out| out.flush()).map_err(io)
            }
            Self::OpenPgp(recipients) => {
                // The library draws what it seals, we push: a thread and a channel turn one into the other.
                std::thread::scope(|scope| {
                    let (mut pipe, feed) = feed();
                    let sealing = scope.spawn(move || -> Result<(), ExportError> {
                        let failed = |e: pgp::errors::Error| ExportError::Encrypt(e.to_string());
                        let random = rand_core::OsRng;
                        let mut builder = MessageBuilder::from_reader("", feed)
                            .seipd_v1(random, SymmetricKeyAlgorithm::AES256);
                        for recipient in recipients {
                            builder.encrypt_to_key(random, &recipient.subkey).map_err(failed)?;
                        }
                        let mut out = BufWriter::new(file);
                        builder.to_writer(random, &mut out).map_err(failed)?;
                        out.flush().map_err(|e| ExportError::io(path, e))
                    });
                    let written = body(&mut pipe);
                    drop(pipe);
                    let sealed = sealing
                        .join()
                        .unwrap_or_else(|_| Err(ExportError::Encrypt("the OpenPGP library failed".into())));
                    // If sealing ended early, writing failed only because nobody read on.
                    match (sealed, written) {
                        (Err(sealing), Err(ExportError::Io { .. }) | Ok(())) => Err(sealing),
                        (_, written) => written,
                    }
                })
            }
        }
    }
}

/// Bytes on their way from one thread to another; wiped when read.
pub(super) struct Pipe(SyncSender<Zeroizing<Vec<u8>>>);

/// The reading end of a [`Pipe`].
pub(super) struct Feed {
    chunks: Receiver<Zeroizing<Vec<u8>>>,
    chunk: Zeroizing<Vec<u8>>,
    at: usize,
}

/// A pipe of a few chunks.
pub(super) fn feed() -> (Pipe, Feed) {
    let (sender, chunks) = sync_channel(64);
    (Pipe(sender), Feed { chunks, chunk: Zeroizing::default(), at: 0 })
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .send(Zeroizing::new(bytes.to_vec()))
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Read for Feed {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.chunk.len() {
            match self.chunks.recv() {
                Ok(chunk) => (self.chunk, self.at) = (chunk, 0),
                Err(_) => return Ok(0),
            }
        }
        let n = out.len().min(self.chunk.len() - self.at);
        out[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// An OpenPGP key that lists are sealed for.
pub struct PgpRecipient {
    fingerprint: String,
    owner: String,
    subkey: SignedPublicSubKey,
}

impl std::fmt::Debug for PgpRecipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PgpRecipient({})", self.fingerprint)
    }
}

impl PgpRecipient {
    /// Reads a public key, armored or binary, and takes its subkey for encryption: bound to the key, neither revoked nor
    /// expired at `now_ms`.
    ///
    /// # Errors
    /// `Recipient` with the reason.
    pub fn read(path: &Path, now_ms: i64) -> Result<Self, ExportError> {
        let bytes = std::fs::read(path).map_err(|e| ExportError::io(path, e))?;
        let refuse =
            |why: &str| ExportError::Recipient { given: path.display().to_string(), why: why.into() };
        if bytes.windows(17).any(|w| w == b"PRIVATE KEY BLOCK") {
            return Err(refuse(
                "that is the secret half; give the public key (gpg --export), and treat the secret as known to others",
            ));
        }
        let (key, _) = SignedPublicKey::from_reader_single(&bytes[..])
            .map_err(|e| refuse(&format!("it is no OpenPGP public key: {e}")))?;
        key.verify_bindings().map_err(|e| refuse(&format!("its own signatures do not fit: {e}")))?;
        if !key.details.revocation_signatures.is_empty() {
            return Err(refuse("the key was revoked; ask its owner for the new one"));
        }
        let now = u64::try_from(now_ms / 1000).unwrap_or(0);
        let ended = |created: u64, life: Option<u64>| {
            life.is_some_and(|life| life > 0 && created.saturating_add(life) <= now)
        };
        let own = key.details.users.iter().flat_map(|u| &u.signatures).chain(&key.details.direct_signatures);
        let created = u64::from(key.created_at().as_secs());
        let newest = own.filter(|s| s.key_expiration_time().is_some()).max_by_key(|s| s.created());
        if ended(created, newest.and_then(|s| s.key_expiration_time()).map(|d| u64::from(d.as_secs()))) {
            return Err(refuse("the key has expired; ask its owner for the new one"));
        }
        let usable = |subkey: &&SignedPublicSubKey| {
            let revoked = subkey.signatures.iter().any(|s| s.typ() == Some(SignatureType::SubkeyRevocation));
            let binding = subkey.signatures.iter().max_by_key(|s| s.created());
            let Some(binding) = binding.filter(|_| !revoked) else { return false };
            let flags = binding.key_flags();
            let life = binding.key_expiration_time().map(|d| u64::from(d.as_secs()));
            subkey.algorithm().can_encrypt()
                && (flags.encrypt_comms() || flags.encrypt_storage())
                && !ended(u64::from(subkey.created_at().as_secs()), life)
        };
        let subkey = key.public_subkeys.iter().filter(usable).max_by_key(|s| s.created_at()).cloned();
        let subkey = subkey.ok_or_else(|| refuse("it has no subkey for encryption that is in force"))?;
        let owner = key.details.users.first().map(|u| String::from_utf8_lossy(u.id.id()).into_owned());
        Ok(Self { fingerprint: key.fingerprint().to_string(), owner: owner.unwrap_or_default(), subkey })
    }

    /// Fingerprint of the primary key, lower-case hex: what the records keep.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Who the key says it belongs to.
    pub fn owner(&self) -> &str {
        &self.owner
    }
}

/// Reads the recipients of several key files.
pub fn read_pgp_recipients(paths: &[PathBuf], now_ms: i64) -> Result<Vec<PgpRecipient>, ExportError> {
    paths.iter().map(|path| PgpRecipient::read(path, now_ms)).collect()
}
