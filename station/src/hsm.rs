//! Signing keys in a hardware security module, reached through PKCS#11. The vendor's module is a library that is loaded at run time.
//!
//! ```text
//! station.toml [pkcs11]   which module, which token; never a PIN
//! region-<n>.token        which objects in the token are that region's, public
//! token                   Ed25519 pairs (CKM_EDDSA) and secrets for HMAC-SHA-256, made in it, not extractable
//! ```
//!
//! Invariants:
//! - A key is made in the token and never leaves it; one that a token made extractable is destroyed again.
//! - Every signature that a token gives is verified before it is used: a faulty or exchanged token is found here, not in the field.
//! - A PIN that was refused is not tried again by itself, and the last try is a person's: a program must not lock a token.
//! - No PIN is in an error, a log or a file.

use crate::config::TokenConfig;
use crate::failure::{Failure, FailureCode};
use crate::secrets::{Passphrase, PassphraseSource};
use keywright_protocol::{PublicKey, Signature, Signer, crypto};
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};

/// What is signed to see whether a key is there; it is no message of the protocol.
const TRIAL: &[u8] = b"keywright/trial/v1\0";
/// The environment's variable with the PIN, for services.
pub const PIN_VARIABLE: &str = "KEYWRIGHT_TOKEN_PIN";

/// What a token says of the tries that are left; PKCS#11 knows no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tries {
    /// Nothing was said.
    Unsaid,
    /// A wrong PIN was given since the last right one.
    Fewer,
    /// The next wrong one locks it.
    Last,
}

impl std::fmt::Display for Tries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unsaid => "the token does not say how many tries are left",
            Self::Fewer => "fewer tries are left than before",
            Self::Last => "ONE TRY IS LEFT, then the token locks itself",
        })
    }
}

/// Why a token does not do what it should.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HsmError {
    /// The module is not there or is no PKCS#11 module.
    #[error("{path}: {detail}")]
    Module {
        /// The library.
        path: String,
        /// The system's words.
        detail: String,
    },
    /// No slot holds the token.
    #[error("no slot holds a token named {label:?}; {seen}")]
    TokenAbsent {
        /// Its label.
        label: String,
        /// What is there instead.
        seen: String,
    },
    /// Nobody gave a PIN.
    #[error("token {label:?} needs its PIN, and nothing gave one")]
    NoPin {
        /// The token.
        label: String,
    },
    /// The PIN is not the token's.
    #[error("token {label:?} refused the PIN; {tries}")]
    WrongPin {
        /// The token.
        label: String,
        /// What the token says of further tries.
        tries: Tries,
    },
    /// Too many wrong PINs.
    #[error("token {label:?} has locked its PIN")]
    Locked {
        /// The token.
        label: String,
    },
    /// The token has no such algorithm.
    #[error("token {label:?} can't do {what}")]
    Mechanism {
        /// The token.
        label: String,
        /// The mechanism.
        what: &'static str,
    },
    /// The key is not in the token.
    #[error("token {label:?} holds no {what}")]
    KeyMissing {
        /// The token.
        label: String,
        /// Whose key.
        what: String,
    },
    /// What the token gave is not from the key in the certificate.
    #[error("token {label:?} gave a result that is not from the {what}")]
    OtherKey {
        /// The token.
        label: String,
        /// Whose key.
        what: String,
    },
    /// Anything else.
    #[error("token {label:?} failed at {during}: {detail}")]
    Failed {
        /// The token.
        label: String,
        /// The call.
        during: &'static str,
        /// The module's words.
        detail: String,
    },
    /// station.toml names no token, or another one.
    #[error("the key lives in token {label:?}, and {why}")]
    NotConfigured {
        /// The token.
        label: String,
        /// What is missing.
        why: &'static str,
    },
}

impl HsmError {
    /// Its code.
    pub const fn code(&self) -> FailureCode {
        match self {
            Self::Module { .. } => FailureCode::TokenModule,
            Self::TokenAbsent { .. } => FailureCode::TokenAbsent,
            Self::NoPin { .. } => FailureCode::TokenPinMissing,
            Self::WrongPin { .. } => FailureCode::TokenPinWrong,
            Self::Locked { .. } => FailureCode::TokenLocked,
            Self::Mechanism { .. } => FailureCode::TokenMechanism,
            Self::KeyMissing { .. } | Self::OtherKey { .. } => FailureCode::TokenKeyMissing,
            Self::Failed { .. } => FailureCode::TokenFailed,
            Self::NotConfigured { .. } => FailureCode::TokenNotConfigured,
        }
    }
}

impl From<HsmError> for Failure {
    fn from(error: HsmError) -> Self {
        Failure::new(error.code(), error)
    }
}

/// Where the PIN may come from when nobody typed it, in this order: a descriptor, the environment, the keyring.
#[derive(Clone, Debug, Default)]
pub struct PinSource {
    /// An inherited descriptor.
    pub fd: Option<i32>,
    /// The keyring's entry of this station's home; `None`: the keyring is not asked.
    pub keyring: Option<String>,
}

impl PinSource {
    /// The keyring's entry for the token's PIN.
    pub fn entry(station: &str) -> String {
        format!("{station}#token")
    }

    fn read(&self) -> Option<Passphrase> {
        if let Some(fd) = self.fd {
            return match Passphrase::read(&PassphraseSource::Fd(fd)) {
                Ok(pin) => Some(pin),
                Err(error) => {
                    tracing::warn!(%error, "the token's PIN");
                    None
                }
            };
        }
        if let Some(pin) = std::env::var(PIN_VARIABLE).ok().filter(|pin| !pin.is_empty()) {
            return Some(Passphrase::new(pin));
        }
        let station = Self::entry(self.keyring.as_deref()?);
        Passphrase::read(&PassphraseSource::Keyring { station }).ok()
    }
}

/// Whether a PIN may be tried: the last try is a person's.
#[cfg(any(test, feature = "pkcs11"))]
const fn may_try(tries: Tries, typed: bool) -> bool {
    typed || !matches!(tries, Tries::Last)
}

/// A token as its slot shows it; nobody has to log in for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Its label.
    pub label: String,
    /// Number of its slot.
    pub slot: u64,
    /// Its serial number.
    pub serial: String,
    /// What it is.
    pub model: String,
}

/// The objects of one key: what finds it in the token.
pub type KeyId = [u8; 16];

#[derive(Default)]
struct State {
    pin: Option<(Passphrase, bool)>,
    /// The PIN was refused: nothing is tried until somebody gives another.
    refused: Option<HsmError>,
    #[cfg(feature = "pkcs11")]
    open: Option<pkcs11::Open>,
}

/// The way to a token: it is opened when it is first needed, logged in once, and opened again after it was away.
pub struct Door {
    config: Option<TokenConfig>,
    pins: PinSource,
    state: Mutex<State>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Door {
    /// The door of a station; without a `[pkcs11]` table it leads nowhere, and says so.
    pub fn new(config: Option<TokenConfig>, pins: PinSource) -> Arc<Self> {
        Arc::new(Self { config, pins, state: Mutex::default() })
    }

    /// A door that leads nowhere.
    pub fn nowhere() -> Arc<Self> {
        Self::new(None, PinSource::default())
    }

    /// The token that station.toml names.
    pub fn label(&self) -> Option<&str> {
        self.config.as_ref().map(|c| c.token.as_str())
    }

    /// Takes a PIN that somebody typed; it is used from now on.
    pub fn give_pin(&self, pin: Passphrase) {
        let mut state = self.state();
        state.pin = Some((pin, true));
        state.refused = None;
    }

    /// Whether a PIN is known, without asking the token about it.
    pub fn has_pin(&self) -> bool {
        let mut state = self.state();
        self.find_pin(&mut state);
        state.pin.is_some()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; a session that was lost is opened anew.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find_pin(&self, state: &mut State) {
        if state.pin.is_none() {
            state.pin = self.pins.read().map(|pin| (pin, false));
        }
    }

    /// The configuration, if it is about the token that a key lives in.
    fn config_for(&self, label: &str) -> Result<&TokenConfig, HsmError> {
        let not = |why| HsmError::NotConfigured { label: label.to_owned(), why };
        if cfg!(not(feature = "pkcs11")) {
            return Err(not("this build of Keywright has no PKCS#11 support"));
        }
        match &self.config {
            None => Err(not("station.toml names none")),
            Some(config) if config.token != label => Err(not("station.toml names another one")),
            Some(config) => Ok(config),
        }
    }
}

/// A key in a token. It implements the protocol's [`Signer`]; why it could not sign is kept for whoever asks.
#[derive(Clone)]
pub struct TokenSigner {
    door: Arc<Door>,
    label: String,
    id: KeyId,
    public: PublicKey,
    what: String,
    trouble: Arc<Mutex<Option<HsmError>>>,
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSigner")
            .field("token", &self.label)
            .field("what", &self.what)
            .finish_non_exhaustive()
    }
}

impl TokenSigner {
    /// The key with this id in this token; `public` is what its certificate says.
    pub fn new(door: Arc<Door>, label: &str, id: KeyId, public: PublicKey, what: String) -> Self {
        Self { door, label: label.to_owned(), id, public, what, trouble: Arc::default() }
    }

    /// Why the last signature failed.
    pub fn trouble(&self) -> Option<HsmError> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Signs something that is no message, to see whether token, PIN and key are there.
    ///
    /// # Errors
    /// What is missing.
    pub fn try_out(&self) -> Result<(), HsmError> {
        self.signature(TRIAL).map(drop)
    }

    fn signature(&self, message: &[u8]) -> Result<Signature, HsmError> {
        let signature = self.door.sign(&self.label, &self.id, message, &self.what)?;
        crypto::verify(&self.public, &[message], &signature)
            .map_err(|_| HsmError::OtherKey { label: self.label.clone(), what: self.what.clone() })?;
        Ok(signature)
    }
}

impl Signer for TokenSigner {
    fn public_key(&self) -> PublicKey {
        self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, keywright_protocol::Error> {
        let signed = self.signature(message);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = signed.as_ref().err().cloned();
        signed.map_err(|error| {
            tracing::warn!(%error, "a token did not sign");
            keywright_protocol::Error::SignerUnavailable
        })
    }
}

#[cfg(not(feature = "pkcs11"))]
impl Door {
    /// Looks for a token.
    ///
    /// # Errors
    /// Always: this build has no PKCS#11 support.
    pub fn look(&self, label: &str) -> Result<Seen, HsmError> {
        self.config_for(label).map(|_| unreachable_token(label))?
    }

    /// Logs in.
    ///
    /// # Errors
    /// As [`Door::look`].
    pub fn unlock(&self, label: &str) -> Result<Seen, HsmError> {
        self.look(label)
    }

    pub(crate) fn make_key_pair(&self, label: &str, _: &KeyId, _: &str) -> Result<PublicKey, HsmError> {
        Err(self.look(label).err().unwrap_or_else(|| no_support(label)))
    }

    pub(crate) fn make_secret(&self, label: &str, _: &KeyId, _: &str) -> Result<(), HsmError> {
        Err(self.look(label).err().unwrap_or_else(|| no_support(label)))
    }

    pub(crate) fn sign(&self, label: &str, _: &KeyId, _: &[u8], _: &str) -> Result<Signature, HsmError> {
        Err(self.look(label).err().unwrap_or_else(|| no_support(label)))
    }

    pub(crate) fn mac(&self, label: &str, _: &KeyId, _: &[u8], _: &str) -> Result<[u8; 32], HsmError> {
        Err(self.look(label).err().unwrap_or_else(|| no_support(label)))
    }

    pub(crate) fn destroy(&self, _: &str, _: &KeyId) {}
}

#[cfg(not(feature = "pkcs11"))]
fn no_support(label: &str) -> HsmError {
    HsmError::NotConfigured { label: label.to_owned(), why: "this build of Keywright has no PKCS#11 support" }
}

#[cfg(not(feature = "pkcs11"))]
fn unreachable_token(label: &str) -> Result<Seen, HsmError> {
    Err(no_support(label))
}

#[cfg(feature = "pkcs11")]
mod pkcs11 {
    use super::*;
    use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
    use cryptoki::error::{Error, RvError};
    use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
    use cryptoki::mechanism::{Mechanism, MechanismType};
    use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
    use cryptoki::session::{Session, UserType};
    use cryptoki::slot::{Slot, TokenInfo};
    use cryptoki::types::AuthPin;
    use std::collections::HashMap;
    use std::path::{Path, PathBuf};

    /// id-Ed25519 (RFC 8410), and the curve's name for modules from before PKCS#11 3.1.
    const CURVES: [&[u8]; 2] = [b"\x06\x03\x2b\x65\x70", b"\x13\x0cedwards25519"];
    /// A module is initialised once in a process.
    static MODULES: Mutex<Option<HashMap<PathBuf, Pkcs11>>> = Mutex::new(None);

    /// A session that is logged in, and the objects found in it.
    pub(super) struct Open {
        session: Session,
        seen: Seen,
        found: HashMap<(KeyId, bool), ObjectHandle>,
    }

    fn module(path: &Path) -> Result<Pkcs11, HsmError> {
        let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
        let modules = modules.get_or_insert_default();
        if let Some(known) = modules.get(path) {
            return Ok(known.clone());
        }
        let refused = |detail: String| HsmError::Module { path: path.display().to_string(), detail };
        let loaded = Pkcs11::new(path).map_err(|e| match e {
            Error::LibraryLoading(_) if !path.exists() => refused("it is not there".into()),
            Error::LibraryLoading(e) => refused(format!("it can't be loaded: {e}")),
            Error::MissingSymbol(_) => refused("it is no PKCS#11 module".into()),
            other => refused(other.to_string()),
        })?;
        match loaded.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(other) => return Err(refused(other.to_string())),
        }
        modules.insert(path.to_owned(), loaded.clone());
        Ok(loaded)
    }

    fn failed(label: &str, during: &'static str) -> impl Fn(Error) -> HsmError {
        let label = label.to_owned();
        move |error| HsmError::Failed { label: label.clone(), during, detail: plain(&error) }
    }

    /// The module's code without the library's explanation of it.
    fn plain(error: &Error) -> String {
        match error {
            Error::Pkcs11(code, call) => format!("{call}: {code:?}"),
            other => other.to_string(),
        }
    }

    /// The session is gone, not the key: worth one new session.
    const fn is_lost(error: &Error) -> bool {
        matches!(
            error,
            Error::Pkcs11(
                RvError::SessionHandleInvalid
                    | RvError::SessionClosed
                    | RvError::DeviceRemoved
                    | RvError::DeviceError
                    | RvError::TokenNotPresent
                    | RvError::UserNotLoggedIn
                    | RvError::ObjectHandleInvalid
                    | RvError::KeyHandleInvalid
                    | RvError::OperationActive,
                _
            )
        )
    }

    fn tries(info: &TokenInfo) -> Tries {
        if info.user_pin_final_try() {
            Tries::Last
        } else if info.user_pin_count_low() {
            Tries::Fewer
        } else {
            Tries::Unsaid
        }
    }

    /// What went wrong inside one piece of work with an open session.
    enum Trouble {
        Token(Error),
        Said(HsmError),
    }

    impl From<Error> for Trouble {
        fn from(error: Error) -> Self {
            Self::Token(error)
        }
    }

    impl Open {
        fn find(
            &mut self,
            id: &KeyId,
            public: bool,
            class: ObjectClass,
        ) -> Result<Option<ObjectHandle>, Error> {
            if let Some(known) = self.found.get(&(*id, public)) {
                return Ok(Some(*known));
            }
            let template = [Attribute::Class(class), Attribute::Token(true), Attribute::Id(id.to_vec())];
            let found = self.session.find_objects(&template)?.into_iter().next();
            if let Some(handle) = found {
                self.found.insert((*id, public), handle);
            }
            Ok(found)
        }

        fn use_key(
            &mut self,
            id: &KeyId,
            class: ObjectClass,
            mechanism: &Mechanism<'_>,
            message: &[u8],
            what: &str,
        ) -> Result<Vec<u8>, Trouble> {
            let key = self.find(id, false, class)?.ok_or_else(|| {
                Trouble::Said(HsmError::KeyMissing { label: self.seen.label.clone(), what: what.to_owned() })
            })?;
            Ok(self.session.sign(mechanism, key, message)?)
        }

        /// Whether the token kept its promise; one that did not loses the key again.
        fn keeps(&self, key: ObjectHandle) -> Result<bool, Error> {
            let told =
                self.session.get_attributes(key, &[AttributeType::Extractable, AttributeType::Sensitive])?;
            Ok(told.contains(&Attribute::Extractable(false)) && told.contains(&Attribute::Sensitive(true)))
        }
    }

    /// An Ed25519 point as tokens give it: in an OCTET STRING, in a BIT STRING, or bare.
    pub(super) fn point(bytes: &[u8]) -> Option<PublicKey> {
        let bare = match bytes {
            [0x04, 0x20, rest @ ..] | [0x03, 0x21, 0x00, rest @ ..] if rest.len() == 32 => rest,
            _ => bytes,
        };
        bare.try_into().ok().map(PublicKey)
    }

    impl Door {
        fn slot(&self, label: &str) -> Result<(Pkcs11, Slot, TokenInfo), HsmError> {
            let config = self.config_for(label)?;
            let module = module(&config.module)?;
            let slots = module.get_slots_with_token().map_err(failed(label, "looking for its slot"))?;
            let mut others = Vec::new();
            for slot in slots {
                let Ok(info) = module.get_token_info(slot) else { continue };
                if info.label() == label {
                    return Ok((module, slot, info));
                }
                if info.token_initialized() {
                    others.push(format!("{:?}", info.label()));
                }
            }
            let seen = match others.len() {
                0 => "no token is plugged in".to_owned(),
                _ => format!("plugged in: {}", others.join(", ")),
            };
            Err(HsmError::TokenAbsent { label: label.to_owned(), seen })
        }

        /// Looks for a token; nobody logs in.
        ///
        /// # Errors
        /// That module or token is missing, or that station.toml names no or another token.
        pub fn look(&self, label: &str) -> Result<Seen, HsmError> {
            self.slot(label).map(|(_, slot, info)| seen(slot, &info))
        }

        /// Logs in, if nobody did yet.
        ///
        /// # Errors
        /// As [`Door::look`], and what the token says of the PIN.
        pub fn unlock(&self, label: &str) -> Result<Seen, HsmError> {
            self.with(label, "logging in", |open| Ok(open.seen.clone()))
        }

        fn open(&self, label: &str, state: &mut State) -> Result<(), HsmError> {
            if let Some(refused) = &state.refused {
                return Err(refused.clone());
            }
            let (module, slot, info) = self.slot(label)?;
            let locked = || HsmError::Locked { label: label.to_owned() };
            if info.user_pin_locked() {
                return Err(locked());
            }
            let session = module.open_rw_session(slot).map_err(failed(label, "opening a session"))?;
            self.find_pin(state);
            let no_pin = || HsmError::NoPin { label: label.to_owned() };
            let (pin, typed) = state.pin.clone().ok_or_else(no_pin)?;
            if !may_try(tries(&info), typed) {
                return Err(HsmError::WrongPin { label: label.to_owned(), tries: Tries::Last });
            }
            let auth = AuthPin::from(pin.into_text().to_string());
            match session.login(UserType::User, Some(&auth)) {
                Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
                Err(Error::Pkcs11(code, _)) => {
                    let wrong = match code {
                        RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange => {
                            let now = module.get_token_info(slot).map_or(Tries::Unsaid, |info| tries(&info));
                            HsmError::WrongPin { label: label.to_owned(), tries: now }
                        }
                        RvError::PinLocked => locked(),
                        other => {
                            let detail = format!("{other:?}");
                            return Err(HsmError::Failed {
                                label: label.to_owned(),
                                during: "logging in",
                                detail,
                            });
                        }
                    };
                    state.pin = None;
                    state.refused = Some(wrong.clone());
                    return Err(wrong);
                }
                Err(other) => return Err(failed(label, "logging in")(other)),
            }
            state.open = Some(Open { session, seen: seen(slot, &info), found: HashMap::new() });
            Ok(())
        }

        /// Works with the open token; a session that was lost (the token was pulled, the module restarted) is opened anew, once.
        fn with<T>(
            &self,
            label: &str,
            during: &'static str,
            mut work: impl FnMut(&mut Open) -> Result<T, Trouble>,
        ) -> Result<T, HsmError> {
            self.config_for(label)?;
            let mut state = self.state();
            for fresh in [false, true] {
                if state.open.is_none() {
                    self.open(label, &mut state)?;
                }
                let Some(open) = state.open.as_mut() else { continue };
                match work(open) {
                    Ok(done) => return Ok(done),
                    Err(Trouble::Said(error)) => return Err(error),
                    Err(Trouble::Token(error)) => {
                        // The next one starts from the beginning, whatever it was.
                        state.open = None;
                        if fresh || !is_lost(&error) {
                            return Err(failed(label, during)(error));
                        }
                    }
                }
            }
            Err(HsmError::Failed { label: label.to_owned(), during, detail: "no session".into() })
        }

        fn can(&self, label: &str, wanted: &[(MechanismType, &'static str)]) -> Result<(), HsmError> {
            let (module, slot, _) = self.slot(label)?;
            let all = module.get_mechanism_list(slot).map_err(failed(label, "listing its mechanisms"))?;
            match wanted.iter().find(|(kind, _)| !all.contains(kind)) {
                Some((_, what)) => Err(HsmError::Mechanism { label: label.to_owned(), what }),
                None => Ok(()),
            }
        }

        /// Makes an Ed25519 pair in the token, sees that it can't leave it, and that it signs.
        pub(crate) fn make_key_pair(
            &self,
            label: &str,
            id: &KeyId,
            name: &str,
        ) -> Result<PublicKey, HsmError> {
            let pair = "Ed25519 (CKM_EC_EDWARDS_KEY_PAIR_GEN and CKM_EDDSA)";
            self.can(
                label,
                &[(MechanismType::ECC_EDWARDS_KEY_PAIR_GEN, pair), (MechanismType::EDDSA, pair)],
            )?;
            let (id, during) = (*id, "making a key pair");
            let public = self.with(label, during, |open| {
                let template = |class| {
                    vec![
                        Attribute::Class(class),
                        Attribute::Token(true),
                        Attribute::Id(id.to_vec()),
                        Attribute::Label(name.as_bytes().to_vec()),
                    ]
                };
                let mut private = template(ObjectClass::PRIVATE_KEY);
                private.extend([
                    Attribute::Private(true),
                    Attribute::Sensitive(true),
                    Attribute::Extractable(false),
                    Attribute::Sign(true),
                ]);
                let mut made = None;
                for curve in CURVES {
                    let mut public = template(ObjectClass::PUBLIC_KEY);
                    public.extend([
                        Attribute::Private(false),
                        Attribute::Verify(true),
                        Attribute::EcParams(curve.to_vec()),
                    ]);
                    let pair =
                        open.session.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &private);
                    match pair {
                        Ok(pair) => {
                            made = Some(pair);
                            break;
                        }
                        // This module knows the curve by its other name.
                        Err(Error::Pkcs11(
                            RvError::CurveNotSupported
                            | RvError::AttributeValueInvalid
                            | RvError::MechanismParamInvalid
                            | RvError::GeneralError
                            | RvError::FunctionFailed,
                            _,
                        )) => {}
                        Err(other) => return Err(other.into()),
                    }
                }
                let (shown, kept) = made.ok_or_else(|| {
                    Trouble::Said(HsmError::Mechanism { label: open.seen.label.clone(), what: pair })
                })?;
                let told = open.session.get_attributes(shown, &[AttributeType::EcPoint])?;
                let public = told.iter().find_map(|a| match a {
                    Attribute::EcPoint(bytes) => point(bytes),
                    _ => None,
                });
                match public {
                    Some(public) if open.keeps(kept)? => Ok(public),
                    _ => {
                        for object in [shown, kept] {
                            let _ = open.session.destroy_object(object);
                        }
                        Err(Trouble::Said(HsmError::Failed {
                            label: open.seen.label.clone(),
                            during: "making a key pair",
                            detail: "the key could leave the token, or its public half can't be read".into(),
                        }))
                    }
                }
            })?;
            let signature = self.sign(label, &id, TRIAL, name)?;
            if crypto::verify(&public, &[TRIAL], &signature).is_err() {
                self.destroy(label, &id);
                return Err(HsmError::OtherKey { label: label.to_owned(), what: name.to_owned() });
            }
            Ok(public)
        }

        /// Makes a secret for HMAC-SHA-256 in the token, and sees that it can't leave it.
        pub(crate) fn make_secret(&self, label: &str, id: &KeyId, name: &str) -> Result<(), HsmError> {
            let what = "HMAC-SHA-256 (CKM_GENERIC_SECRET_KEY_GEN and CKM_SHA256_HMAC)";
            let wanted = [(MechanismType::GENERIC_SECRET_KEY_GEN, what), (MechanismType::SHA256_HMAC, what)];
            self.can(label, &wanted)?;
            self.with(label, "making a secret", |open| {
                let template = [
                    Attribute::Class(ObjectClass::SECRET_KEY),
                    Attribute::KeyType(KeyType::GENERIC_SECRET),
                    Attribute::Token(true),
                    Attribute::Private(true),
                    Attribute::Sensitive(true),
                    Attribute::Extractable(false),
                    Attribute::Sign(true),
                    Attribute::ValueLen(32.into()),
                    Attribute::Id(id.to_vec()),
                    Attribute::Label(name.as_bytes().to_vec()),
                ];
                let made = open.session.generate_key(&Mechanism::GenericSecretKeyGen, &template)?;
                if open.keeps(made)? {
                    return Ok(());
                }
                let _ = open.session.destroy_object(made);
                Err(Trouble::Said(HsmError::Failed {
                    label: open.seen.label.clone(),
                    during: "making a secret",
                    detail: "the key could leave the token".into(),
                }))
            })
        }

        pub(crate) fn sign(
            &self,
            label: &str,
            id: &KeyId,
            message: &[u8],
            what: &str,
        ) -> Result<Signature, HsmError> {
            let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519));
            let bytes = self.with(label, "signing", |open| {
                open.use_key(id, ObjectClass::PRIVATE_KEY, &mechanism, message, what)
            })?;
            let other = || HsmError::OtherKey { label: label.to_owned(), what: what.to_owned() };
            bytes.try_into().map(Signature).map_err(|_| other())
        }

        pub(crate) fn mac(
            &self,
            label: &str,
            id: &KeyId,
            message: &[u8],
            what: &str,
        ) -> Result<[u8; 32], HsmError> {
            let bytes = self.with(label, "deriving", |open| {
                open.use_key(id, ObjectClass::SECRET_KEY, &Mechanism::Sha256Hmac, message, what)
            })?;
            let bytes = zeroize::Zeroizing::new(bytes);
            let other = || HsmError::OtherKey { label: label.to_owned(), what: what.to_owned() };
            bytes.as_slice().try_into().map_err(|_| other())
        }

        /// Takes objects of a key that nothing was certified for out of the token again; what is left does no harm.
        pub(crate) fn destroy(&self, label: &str, id: &KeyId) {
            let gone = self.with(label, "cleaning up", |open| {
                let all = open.session.find_objects(&[Attribute::Token(true), Attribute::Id(id.to_vec())])?;
                open.found.retain(|(known, _), _| known != id);
                for object in all {
                    open.session.destroy_object(object)?;
                }
                Ok(())
            });
            if let Err(error) = gone {
                tracing::warn!(%error, "objects of a key that is not used stay in the token");
            }
        }
    }

    fn seen(slot: Slot, info: &TokenInfo) -> Seen {
        Seen {
            label: info.label().to_owned(),
            slot: slot.id(),
            serial: info.serial_number().to_owned(),
            model: info.model().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> TokenConfig {
        TokenConfig { module: "/nowhere/libtoken.so".into(), token: "factory".into() }
    }

    #[test]
    fn the_last_try_is_a_persons() {
        assert!(may_try(Tries::Unsaid, false) && may_try(Tries::Fewer, false));
        assert!(!may_try(Tries::Last, false) && may_try(Tries::Last, true));
    }

    #[test]
    fn every_error_has_a_code_of_its_own_and_none_shows_a_pin() {
        let label = || "factory".to_owned();
        let all = [
            HsmError::Module { path: "/m".into(), detail: "it is not there".into() },
            HsmError::TokenAbsent { label: label(), seen: "no token is plugged in".into() },
            HsmError::NoPin { label: label() },
            HsmError::WrongPin { label: label(), tries: Tries::Last },
            HsmError::Locked { label: label() },
            HsmError::Mechanism { label: label(), what: "Ed25519" },
            HsmError::KeyMissing { label: label(), what: "key of region 7".into() },
            HsmError::Failed { label: label(), during: "signing", detail: "DeviceError".into() },
            HsmError::NotConfigured { label: label(), why: "station.toml names none" },
        ];
        let mut codes: Vec<_> = all.iter().map(|e| e.code().number()).collect();
        codes.dedup();
        assert_eq!(codes, [670, 671, 672, 673, 674, 675, 676, 677, 678]);
        assert!(Failure::from(all[3].clone()).sentence.contains("ONE TRY IS LEFT"));
        let door = Door::new(Some(config()), PinSource::default());
        door.give_pin(Passphrase::new("730512".into()));
        let signer = TokenSigner::new(door.clone(), "factory", [1; 16], PublicKey([2; 32]), "key".into());
        assert!(!format!("{door:?} {signer:?}").contains("730512"));
    }

    #[cfg(feature = "pkcs11")]
    #[test]
    fn what_is_missing_is_named_before_anything_is_tried() {
        let door = Door::new(Some(config()), PinSource::default());
        let Err(HsmError::Module { path, detail }) = door.look("factory") else { panic!("no module") };
        assert_eq!((path.as_str(), detail.as_str()), ("/nowhere/libtoken.so", "it is not there"));
        assert!(matches!(door.look("other"), Err(HsmError::NotConfigured { .. })));
        assert!(matches!(Door::nowhere().look("factory"), Err(HsmError::NotConfigured { .. })));
        let signer = TokenSigner::new(door, "factory", [1; 16], PublicKey([2; 32]), "key of region 7".into());
        assert!(signer.trouble().is_none());
        assert_eq!(signer.sign(b"x"), Err(keywright_protocol::Error::SignerUnavailable));
        assert!(matches!(signer.trouble(), Some(HsmError::Module { .. })));
    }

    #[cfg(feature = "pkcs11")]
    #[test]
    fn a_point_is_read_as_any_token_gives_it() {
        let key = [7u8; 32];
        for head in [&[0x04, 0x20][..], &[0x03, 0x21, 0x00], &[]] {
            assert_eq!(pkcs11::point(&[head, &key].concat()), Some(PublicKey(key)));
        }
        assert_eq!(pkcs11::point(&key[1..]), None);
        assert_eq!(pkcs11::point(&[&[0x04, 0x21][..], &key].concat()), None);
    }
}
