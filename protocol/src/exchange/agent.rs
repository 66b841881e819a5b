//! The agent's side of an exchange: functions over data that live in a database.
//!
//! The rules that need memory are the caller's (PROTOCOL §4): persist before
//! every send, answer identical message 1 bytes with identical cached message 2
//! bytes ([`Request::frame_hash`] is the key), give every pending entry its own
//! generation, refuse an INIT for an active unit.
//!
//! One rule is easy to miss: a staged cloud generation can have several entries
//! (a repeated U1 gets the same record with a fresh N2), and the unit may hold
//! the record by any of them. None of them may be evicted alone, or the unit that
//! committed that one waits for ever: first the cloud withdraws the generation,
//! which it refuses if the unit has logged in with it, then all of them go. A
//! [`nack`] is only for a cloud generation that no cloud lets in.

use core::fmt;

use zeroize::Zeroize;

use super::{
    CLEAR_LEN, Iv, NackReason, Nonce, ResponseEntropy, STATUS_ACTIVATED, STATUS_REJECTED,
    STATUS_REQUEST_CLOUD, STATUS_SUCCESS, clear_of, sig_a_message, sig_dev_message, sig_nack_message,
    sig_req_message,
};
use crate::cert::{CERT_LEN, Cert};
use crate::crypto::{self, Hash};
use crate::error::{Error, FieldName};
use crate::frame::{
    CLEAR2_LEN, Frame, FrameBuilder, HEADER_LEN, Header, NO_PREV, Purpose, Step, Suite, Xid, same, split,
};
use crate::ids::{Generation, UnitId};
use crate::keys::{AgentKey, BaseKey, PublicKey, Signature, Signer};
use crate::record::CloudRecord;
use crate::schedule::{self, KeyContext, StepKeys, Th1Start};
use crate::wire::{Reader, Writer};

/// The longest plaintext the agent opens: a suite 2 message 1 with its identity key.
const SCRATCH: usize = 144;

/// What a frame for the agent claims to be. Nothing in it is authentic yet; it
/// says which key to look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A message 1.
    Request {
        /// Its suite; check it against the order's policy.
        suite: Suite,
        /// Its purpose.
        purpose: Purpose,
        /// Its key context: the order (INIT) or unit and agent-key generation.
        kc: KeyContext,
    },
    /// A message 3.
    Confirm {
        /// Its suite.
        suite: Suite,
        /// Its purpose.
        purpose: Purpose,
        /// The unit.
        unit: UnitId,
        /// The generation it confirms: with the unit, the pending entry's key.
        generation: Generation,
    },
}

impl Incoming {
    /// Looks at a frame.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Header`] if it is not one of ours;
    /// [`Error::Unexpected`] if it is not for an agent.
    pub fn peek(frame: &[u8]) -> Result<Self, Error> {
        let frame = Frame::parse(frame)?;
        let Header { suite, purpose, step, .. } = frame.header()?;
        let kc = KeyContext(Reader::new(frame.body()).array()?);
        match step {
            Step::Request => Ok(Incoming::Request { suite, purpose, kc }),
            Step::Confirm => {
                let (unit, generation) = kc.as_unit();
                Ok(Incoming::Confirm { suite, purpose, unit, generation })
            }
            Step::Response | Step::Ack | Step::Nack => {
                Err(frame.expect(suite, purpose, Step::Request).err().unwrap_or(Error::Header))
            }
        }
    }
}

/// What the agent signs with in suite 2: its chain and its key.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The region's certificate.
    pub region: &'a Cert,
    /// The agent's certificate under it, scoped to the product order.
    pub agent: &'a Cert,
    /// The agent's key.
    pub signer: &'a dyn Signer,
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("agent", &self.agent).finish_non_exhaustive()
    }
}

/// An authentic message 1.
#[derive(Clone, Debug)]
pub struct Request {
    header: Header,
    kc: KeyContext,
    unit: UnitId,
    n1: Nonce,
    firmware: [u8; 4],
    caps: u32,
    cloud_active: Generation,
    identity: Option<PublicKey>,
    e_d: Option<[u8; 32]>,
    frame_hash: Hash,
    th1: Th1Start,
}

impl Request {
    /// Opens a message 1 under its base key (INIT: the order's product key;
    /// updates: the unit's agent key of the generation in the key context).
    ///
    /// `registered` is the unit's registered identity key. A suite 2 CKU is
    /// checked against it; INIT and AKU carry their own, and whether it equals
    /// the registered one is for the caller to judge ([`Request::identity`]).
    ///
    /// # Errors
    /// The first check that fails; see [`Error`].
    pub fn open(frame1: &[u8], base: &BaseKey, registered: Option<&PublicKey>) -> Result<Self, Error> {
        let frame = Frame::parse(frame1)?;
        let header = frame.header()?;
        let Header { suite, purpose, .. } = header;
        frame.expect(suite, purpose, Step::Request)?;
        let hardened = suite == Suite::Hardened;
        let clear_len = if hardened { 48 } else { 16 };
        let parts = split(frame1, clear_len)?;
        let mut clear = Reader::new(frame.body());
        let kc = KeyContext(clear.array()?);
        let e_d = if hardened { Some(clear.array()?) } else { None };
        let keys = StepKeys::expand(&schedule::prk0(base), suite, purpose, Step::Request, &kc, &[])?;
        let mut scratch = [0u8; SCRATCH];
        let pt = parts.open(&keys, &NO_PREV, &mut scratch)?;
        let mut r = Reader::new(pt);
        let (unit, n1, firmware, caps, cloud_active);
        if purpose == Purpose::CloudKeyUpdate {
            if r.u8()? != STATUS_REQUEST_CLOUD {
                return Err(Error::Field(FieldName::Status));
            }
            r.zeros::<3>()?;
            n1 = r.array()?;
            cloud_active = Generation(r.u32()?);
            // D5: no update starts while one is unconfirmed.
            r.zeros::<4>()?;
            unit = kc.as_unit().0;
            (firmware, caps) = ([0; 4], 0);
        } else {
            unit = UnitId(r.array()?);
            n1 = r.array()?;
            firmware = r.array()?;
            caps = r.u32()?;
            cloud_active = Generation::NONE;
            if firmware[3] != 0 {
                return Err(Error::Field(FieldName::Reserved));
            }
        }
        let mut identity = None;
        if let Some(e_d) = &e_d {
            let key = if purpose == Purpose::CloudKeyUpdate {
                *registered.ok_or(Error::IdentityUnknown)?
            } else {
                PublicKey(r.array()?)
            };
            let signature = Signature(r.array()?);
            let message = sig_req_message(purpose.number(), &kc, e_d, &unit, &n1)?;
            crypto::verify(&key, &[&message], &signature)?;
            identity = Some(key);
            if crypto::x25519_small_order(e_d) {
                return Err(Error::AllZeroShare);
            }
        }
        r.finish()?;
        if purpose != Purpose::Init && unit != kc.as_unit().0 {
            return Err(Error::Field(FieldName::UnitId));
        }
        if unit.is_blank() {
            return Err(Error::Blank);
        }
        Ok(Self {
            header,
            kc,
            unit,
            n1,
            firmware,
            caps,
            cloud_active,
            identity,
            e_d,
            frame_hash: crypto::sha256(&[frame1]),
            th1: Th1Start::new(suite, frame1),
        })
    }

    /// The suite.
    #[must_use]
    pub const fn suite(&self) -> Suite {
        self.header.suite
    }

    /// The purpose.
    #[must_use]
    pub const fn purpose(&self) -> Purpose {
        self.header.purpose
    }

    /// The exchange's number on the line.
    #[must_use]
    pub const fn xid(&self) -> Xid {
        self.header.xid
    }

    /// The key context.
    #[must_use]
    pub const fn key_context(&self) -> KeyContext {
        self.kc
    }

    /// The unit.
    #[must_use]
    pub const fn unit(&self) -> UnitId {
        self.unit
    }

    /// N1.
    #[must_use]
    pub const fn n1(&self) -> &Nonce {
        &self.n1
    }

    /// Firmware version: major, minor, patch, 0; zero in CKU.
    #[must_use]
    pub const fn firmware(&self) -> [u8; 4] {
        self.firmware
    }

    /// Capability bits; a newer unit may set some.
    #[must_use]
    pub const fn capabilities(&self) -> u32 {
        self.caps
    }

    /// The unit's active cloud-key generation (CKU).
    #[must_use]
    pub const fn cloud_active(&self) -> Generation {
        self.cloud_active
    }

    /// The identity key whose signature was checked (suite 2).
    #[must_use]
    pub const fn identity(&self) -> Option<PublicKey> {
        self.identity
    }

    /// SHA-256 of the message: the idempotence key of the pending set.
    #[must_use]
    pub const fn frame_hash(&self) -> &Hash {
        &self.frame_hash
    }

    /// Writes message 2 and the entry that must be persisted before it is sent.
    /// `base` is the key the request was opened with.
    ///
    /// # Errors
    /// [`Error::SignerUnavailable`] without credentials in suite 2 or if they
    /// do not sign; [`Error::Field`] if the grant does not fit the purpose or its
    /// generation does not grow; [`Error::Blank`] for a blank key;
    /// [`Error::BufferTooSmall`] ([`crate::MAX_FRAME`] holds every message 2).
    pub fn respond(
        &self,
        grant: &Grant<'_>,
        base: &BaseKey,
        credentials: Option<&Credentials<'_>>,
        entropy: &ResponseEntropy,
        out: &mut [u8],
    ) -> Result<(usize, Pending), Error> {
        let Header { suite, purpose, .. } = self.header;
        let (generation, ak, record) = self.check_grant(grant, base)?;
        let header = Header { step: Step::Response, ..self.header };
        let (clear_len, pt_len) = (
            if suite == Suite::Hardened { CLEAR2_LEN } else { 0 },
            record.map_or(112, |record| 52 + record.len()),
        );
        let prk0 = schedule::prk0(base);
        let (builder, th1, keys) = match self.e_d {
            None => {
                let builder = FrameBuilder::begin(&header, &[], clear_len, pt_len, out)?;
                let th1 = self.th1.finish(&[]);
                let keys = StepKeys::expand(&prk0, suite, purpose, Step::Response, &self.kc, &th1)?;
                (builder, th1, keys)
            }
            Some(e_d) => {
                let credentials = credentials.ok_or(Error::SignerUnavailable)?;
                let e_a = crypto::x25519_public(&entropy.ephemeral);
                let clear: [&[u8]; 4] = [&e_a, &[2], &credentials.region.0, &credentials.agent.0];
                let mut builder = FrameBuilder::begin(&header, &clear, clear_len, pt_len, out)?;
                let hashed = builder.prefix(HEADER_LEN + 32 + 1 + 2 * CERT_LEN)?;
                let th1 = self.th1.finish(hashed);
                let sig_a = credentials.signer.sign(&sig_a_message(&th1)?)?;
                builder.put_clear_tail(&sig_a.0)?;
                let mut shared = crypto::x25519(&entropy.ephemeral, &e_d)?;
                let prk2 = schedule::prk2(&prk0, &shared);
                shared.zeroize();
                let ctx = crypto::sha256(&[&th1, &sig_a.0]);
                let keys = StepKeys::expand(&prk2, suite, purpose, Step::Response, &self.kc, &ctx)?;
                (builder, th1, keys)
            }
        };
        let generation_bytes = generation.0.to_be_bytes();
        let len = match record {
            None => {
                let mut preceding = [0u8; 80];
                let mut w = Writer::new(&mut preceding);
                for part in [&self.unit.0[..], &generation_bytes, &self.n1, &entropy.n2, ak.expose()] {
                    w.put(part)?;
                }
                let kct = schedule::key_confirmation(&ak, &th1, &preceding);
                let sealed = builder.seal(&keys, &th1, &entropy.iv, &[&preceding, &kct]);
                preceding.zeroize();
                sealed?
            }
            Some(record) => {
                let record_len = u16::try_from(record.len()).map_err(|_| Error::Length)?.to_be_bytes();
                builder.seal(
                    &keys,
                    &th1,
                    &entropy.iv,
                    &[&self.unit.0, &generation_bytes, &self.n1, &entropy.n2, &record_len, &[0, 0], record],
                )?
            }
        };
        let frame2 = out.get(..len).ok_or(Error::BufferTooSmall)?;
        Ok((
            len,
            Pending {
                suite,
                purpose,
                kc: self.kc,
                unit: self.unit,
                generation,
                agent_key: ak,
                n2: entropy.n2,
                th2: schedule::th2(suite, &th1, frame2),
                record_hash: record.map_or([0; 32], schedule::record_hash),
                identity: self.identity,
            },
        ))
    }

    fn check_grant<'g>(
        &self,
        grant: &Grant<'g>,
        base: &BaseKey,
    ) -> Result<(Generation, AgentKey, Option<&'g [u8]>), Error> {
        let (generation, floor, ak, record) = match (self.purpose(), grant) {
            (Purpose::Init, Grant::AgentKey { generation, key }) => {
                (*generation, Generation::NONE, (*key).clone(), None)
            }
            (Purpose::AgentKeyUpdate, Grant::AgentKey { generation, key }) => {
                (*generation, self.kc.as_unit().1, (*key).clone(), None)
            }
            (Purpose::CloudKeyUpdate, Grant::CloudRecord { record }) => (
                record.cloud_key()?.0,
                self.cloud_active,
                AgentKey::from_bytes(*base.expose()),
                Some(record.as_bytes()),
            ),
            _ => return Err(Error::Field(FieldName::Value)),
        };
        if ak.is_blank() {
            return Err(Error::Blank);
        }
        if generation <= floor {
            return Err(Error::Field(FieldName::Generation));
        }
        Ok((generation, ak, record))
    }
}

/// What the agent gives.
#[derive(Clone, Copy, Debug)]
pub enum Grant<'a> {
    /// INIT, AKU: a new agent key, with the highest generation ever issued + 1.
    AgentKey {
        /// Its generation.
        generation: Generation,
        /// The key.
        key: &'a AgentKey,
    },
    /// CKU: the staged cloud record; its generation is in it.
    CloudRecord {
        /// The record.
        record: CloudRecord<'a>,
    },
}

/// An issued key that waits for its message 3: what the agent persists before it
/// sends message 2, found again by (unit, generation) within its purpose. Keep
/// it after ACTIVE: a repeated message 3 gets its message 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The suite.
    pub suite: Suite,
    /// The purpose.
    pub purpose: Purpose,
    /// Message 1's key context.
    pub kc: KeyContext,
    /// The unit.
    pub unit: UnitId,
    /// The new key's generation.
    pub generation: Generation,
    /// AK*: the new agent key (INIT, AKU) or the current one (CKU).
    pub agent_key: AgentKey,
    /// N2.
    pub n2: Nonce,
    /// TH2.
    pub th2: Hash,
    /// H(record) for CKU, zero otherwise.
    pub record_hash: Hash,
    /// The identity key that signed message 1 (suite 2). An authentic message 3
    /// registers it.
    pub identity: Option<PublicKey>,
}

/// Proof that a message 3 was authentic: the unit has committed the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    n3: Nonce,
    th3: Hash,
    xid: Xid,
    identity: Option<PublicKey>,
}

impl Confirmed {
    /// N3.
    #[must_use]
    pub const fn n3(&self) -> &Nonce {
        &self.n3
    }

    /// TH3.
    #[must_use]
    pub const fn th3(&self) -> &Hash {
        &self.th3
    }

    /// The identity key to register: the unit proved it over TH2 (suite 2, INIT
    /// and AKU).
    #[must_use]
    pub const fn identity(&self) -> Option<PublicKey> {
        self.identity
    }
}

/// What message 4 says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The key is active.
    Activated,
    /// The key is refused; an authentic NACK.
    Rejected,
}

impl Pending {
    fn keys(&self, step: Step) -> Result<StepKeys, Error> {
        StepKeys::expand(
            &schedule::prk3(&self.th2, &self.agent_key),
            self.suite,
            self.purpose,
            step,
            &self.kc,
            &[],
        )
    }

    /// Opens a message 3 for this entry. An error never earns a NACK: only the
    /// absence of an entry for (unit, generation) does.
    ///
    /// # Errors
    /// The first check that fails; see [`Error`].
    pub fn open_confirm(&self, frame3: &[u8]) -> Result<Confirmed, Error> {
        let frame = Frame::parse(frame3)?;
        frame.expect(self.suite, self.purpose, Step::Confirm)?;
        let parts = split(frame3, CLEAR_LEN)?;
        let keys = self.keys(Step::Confirm)?;
        let mut scratch = [0u8; SCRATCH];
        let pt = parts.open(&keys, &self.th2, &mut scratch)?;
        let mut clear = Reader::new(frame.body());
        same(FieldName::UnitId, clear.bytes(12)?, &self.unit.0)?;
        if clear.u32()? != self.generation.0 {
            return Err(Error::Field(FieldName::Generation));
        }
        let mut r = Reader::new(pt);
        if r.u8()? != STATUS_SUCCESS {
            return Err(Error::Field(FieldName::Status));
        }
        r.zeros::<3>()?;
        same(FieldName::Nonce, r.bytes(16)?, &self.n2)?;
        let n3 = r.array()?;
        let mut identity = None;
        match (self.suite, self.purpose) {
            (_, Purpose::CloudKeyUpdate) => {
                same(FieldName::Hash, r.bytes(32)?, &self.record_hash)?;
            }
            (Suite::Hardened, _) => {
                let key = self.identity.ok_or(Error::IdentityUnknown)?;
                let signature = Signature(r.array()?);
                crypto::verify(&key, &[&sig_dev_message(&self.th2)?], &signature)?;
                identity = Some(key);
            }
            (Suite::Legacy, _) => {}
        }
        r.finish()?;
        Ok(Confirmed { n3, th3: schedule::th3(self.suite, &self.th2, frame3), xid: frame.xid(), identity })
    }

    /// Writes message 4 for an authentic message 3. `time` is Unix seconds UTC.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] (108 bytes).
    pub fn ack(
        &self,
        confirmed: &Confirmed,
        verdict: Verdict,
        time: u64,
        iv: &Iv,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let status = match verdict {
            Verdict::Activated => STATUS_ACTIVATED,
            Verdict::Rejected => STATUS_REJECTED,
        };
        let header = Header { suite: self.suite, purpose: self.purpose, step: Step::Ack, xid: confirmed.xid };
        FrameBuilder::begin(&header, &[&clear_of(&self.unit, self.generation)], CLEAR_LEN, 28, out)?.seal(
            &self.keys(Step::Ack)?,
            &confirmed.th3,
            iv,
            &[&[status, 0, 0, 0], &confirmed.n3, &time.to_be_bytes()],
        )
    }
}

/// Writes an authentic NACK for a message 3 that no entry answers to. KC and base
/// key are those of that exchange's message 1 (for updates try the current agent
/// key, then the next one).
///
/// # Errors
/// [`Error::Length`] or [`Error::Header`] if `frame3` is not a message 3,
/// [`Error::SignerUnavailable`] without credentials in suite 2,
/// [`Error::BufferTooSmall`] (476 bytes hold every NACK).
pub fn nack(
    frame3: &[u8],
    kc: &KeyContext,
    base: &BaseKey,
    reason: NackReason,
    credentials: Option<&Credentials<'_>>,
    iv: &Iv,
    out: &mut [u8],
) -> Result<usize, Error> {
    let frame = Frame::parse(frame3)?;
    let header = frame.header()?;
    frame.expect(header.suite, header.purpose, Step::Confirm)?;
    let clear: [u8; CLEAR_LEN] = Reader::new(frame.body()).array()?;
    let hash = crypto::sha256(&[frame3]);
    let signature;
    let tail: [&[u8]; 4] = match header.suite {
        Suite::Legacy => [&[]; 4],
        Suite::Hardened => {
            let credentials = credentials.ok_or(Error::SignerUnavailable)?;
            signature = credentials.signer.sign(&sig_nack_message(&hash, &clear)?)?;
            [&[2], &credentials.region.0, &credentials.agent.0, &signature.0]
        }
    };
    let parts: [&[u8]; 6] = [&[reason.0, 0, 0, 0], &hash, tail[0], tail[1], tail[2], tail[3]];
    let keys = StepKeys::expand(&schedule::prk0(base), header.suite, header.purpose, Step::Nack, kc, &hash)?;
    FrameBuilder::begin(
        &Header { step: Step::Nack, ..header },
        &[&clear],
        CLEAR_LEN,
        parts.iter().map(|p| p.len()).sum(),
        out,
    )?
    .seal(&keys, &NO_PREV, iv, &parts)
}
