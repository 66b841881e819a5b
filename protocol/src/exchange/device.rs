//! The unit's side of an exchange.

use core::fmt;

use zeroize::Zeroize;

use super::{
    CLEAR_LEN, ConfirmEntropy, NackReason, Nonce, RequestEntropy, STATUS_ACTIVATED, STATUS_REJECTED,
    STATUS_REQUEST_CLOUD, STATUS_SUCCESS, agent_key_of, clear_of, read_certs, sig_a_message, sig_dev_message,
    sig_nack_message, sig_req_message,
};
use crate::cert::Trust;
use crate::crypto::{self, Hash};
use crate::error::{Error, FieldName};
use crate::frame::{
    CLEAR2_LEN, Frame, FrameBuilder, HEADER_LEN, Header, NO_PREV, Purpose, Step, Suite, Xid, open_in_place,
    same,
};
use crate::ids::{Generation, ProductOrder, UnitId};
use crate::keys::{AgentKey, BaseKey, EphemeralSecret, IdentityKey, ProductKey, Signature, Signer};
use crate::record::{CloudRecord, Committed, Confirmation, RecordState, RecordView};
use crate::schedule::{self, KeyContext, StepKeys, Th1Start};
use crate::wire::Reader;

/// A refused frame: the state it was offered to, unchanged, and the reason. The
/// reason is for counters; the peer hears nothing.
#[derive(Debug)]
pub struct Dropped<S> {
    /// The state, as it was.
    pub state: S,
    /// Why the frame was refused.
    pub reason: Error,
}

/// What every state of one exchange knows.
#[derive(Clone)]
struct Context {
    suite: Suite,
    purpose: Purpose,
    kc: KeyContext,
    unit: UnitId,
    xid: Xid,
    /// BK: the product key or the current agent key.
    base: BaseKey,
}

impl Context {
    fn header(&self, step: Step) -> Header {
        Header { suite: self.suite, purpose: self.purpose, step, xid: self.xid }
    }

    fn keys(&self, prk: &crate::keys::Prk, step: Step, ctx: &[u8]) -> Result<StepKeys, Error> {
        StepKeys::expand(prk, self.suite, self.purpose, step, &self.kc, ctx)
    }

    /// AK* where no new agent key was brought: the current one.
    fn current_agent_key(&self) -> AgentKey {
        AgentKey::from_bytes(*self.base.expose())
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("suite", &self.suite)
            .field("purpose", &self.purpose)
            .field("unit", &self.unit)
            .field("xid", &self.xid.0)
            .finish_non_exhaustive()
    }
}

/// An exchange that has not begun: what the unit wants.
#[derive(Debug)]
pub struct Start {
    ctx: Context,
    /// Generation of the active cloud key; only CKU sends it.
    cloud_active: Generation,
}

impl Start {
    /// INIT: ask for the first agent key under the product key.
    ///
    /// # Errors
    /// [`Error::Blank`] for a blank id, order or key.
    pub fn init(
        suite: Suite,
        order: &ProductOrder,
        product_key: &ProductKey,
        unit: &UnitId,
    ) -> Result<Self, Error> {
        if order.is_blank() {
            return Err(Error::Blank);
        }
        Self::new(
            suite,
            Purpose::Init,
            KeyContext::order(order),
            unit,
            BaseKey::from(product_key),
            Generation::NONE,
        )
    }

    /// AKU: ask for a new agent key under the current one.
    ///
    /// # Errors
    /// [`Error::Blank`] for a blank id or key.
    pub fn agent_key_update(
        suite: Suite,
        unit: &UnitId,
        current: Generation,
        agent_key: &AgentKey,
    ) -> Result<Self, Error> {
        Self::new(
            suite,
            Purpose::AgentKeyUpdate,
            KeyContext::unit(unit, current),
            unit,
            BaseKey::from(agent_key),
            Generation::NONE,
        )
    }

    /// CKU: ask for a cloud record under the current agent key. `cloud_active`
    /// is the active cloud key's generation, [`Generation::NONE`] without one.
    ///
    /// # Errors
    /// [`Error::Blank`] for a blank id or key.
    pub fn cloud_key_update(
        suite: Suite,
        unit: &UnitId,
        current: Generation,
        agent_key: &AgentKey,
        cloud_active: Generation,
    ) -> Result<Self, Error> {
        Self::new(
            suite,
            Purpose::CloudKeyUpdate,
            KeyContext::unit(unit, current),
            unit,
            BaseKey::from(agent_key),
            cloud_active,
        )
    }

    fn new(
        suite: Suite,
        purpose: Purpose,
        kc: KeyContext,
        unit: &UnitId,
        base: BaseKey,
        cloud_active: Generation,
    ) -> Result<Self, Error> {
        if unit.is_blank() || base.is_blank() {
            return Err(Error::Blank);
        }
        Ok(Self { ctx: Context { suite, purpose, kc, unit: *unit, xid: Xid::default(), base }, cloud_active })
    }

    /// Writes message 1 and waits for message 2. `firmware` is major, minor,
    /// patch. The same message 1 may be sent again while its state lives.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] (252 bytes hold every message 1).
    pub fn request(
        self,
        identity: &IdentityKey,
        firmware: [u8; 3],
        entropy: RequestEntropy,
        out: &mut [u8],
    ) -> Result<(usize, ExpectResponse), Error> {
        let RequestEntropy { xid, n1, iv, ephemeral } = entropy;
        let mut ctx = self.ctx;
        ctx.xid = xid;
        let hardened = ctx.suite == Suite::Hardened;
        let cloud = ctx.purpose == Purpose::CloudKeyUpdate;
        let (e_d, dik, signature);
        let (clear, tail): ([&[u8]; 2], [&[u8]; 2]);
        if hardened {
            e_d = crypto::x25519_public(&ephemeral);
            dik = identity.public();
            signature =
                identity.sign(&sig_req_message(ctx.purpose.number(), &ctx.kc, &e_d, &ctx.unit, &n1)?)?;
            clear = [&ctx.kc.0, &e_d];
            tail = [if cloud { &[] } else { &dik.0 }, &signature.0];
        } else {
            clear = [&ctx.kc.0, &[]];
            tail = [&[], &[]];
        }
        let [major, minor, patch] = firmware;
        let version = [major, minor, patch, 0];
        let active = self.cloud_active.0.to_be_bytes();
        let parts: [&[u8]; 6] = if cloud {
            [&[STATUS_REQUEST_CLOUD, 0, 0, 0], &n1, &active, &[0; 4], tail[0], tail[1]]
        } else {
            [&ctx.unit.0, &n1, &version, &[0; 4], tail[0], tail[1]]
        };
        let keys = ctx.keys(&schedule::prk0(&ctx.base), Step::Request, &[])?;
        let len = FrameBuilder::begin(
            &ctx.header(Step::Request),
            &clear,
            clear.iter().map(|p| p.len()).sum(),
            parts.iter().map(|p| p.len()).sum(),
            out,
        )?
        .seal(&keys, &NO_PREV, &iv, &parts)?;
        let frame1 = out.get(..len).ok_or(Error::BufferTooSmall)?;
        let th1 = Th1Start::new(ctx.suite, frame1);
        Ok((len, ExpectResponse { ctx, n1, ephemeral, th1, cloud_active: self.cloud_active }))
    }
}

/// Message 1 is sent; message 2 is awaited.
#[derive(Debug)]
pub struct ExpectResponse {
    ctx: Context,
    n1: Nonce,
    ephemeral: EphemeralSecret,
    th1: Th1Start,
    cloud_active: Generation,
}

/// What a message 2 brought.
pub enum Content<'f> {
    /// INIT, AKU: the new agent key.
    AgentKey(AgentKey),
    /// CKU: the new cloud record, in the frame's buffer. Wipe the buffer when
    /// the record has been copied.
    CloudRecord(CloudRecord<'f>),
}

impl fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Content::AgentKey(_) => "AgentKey(redacted)",
            Content::CloudRecord(_) => "CloudRecord(redacted)",
        })
    }
}

impl ExpectResponse {
    /// Restores the state after the caller kept its parts, as test vectors do.
    /// `ephemeral` is unused in suite 1.
    #[must_use]
    pub fn from_frame1(start: Start, n1: Nonce, ephemeral: EphemeralSecret, frame1: &[u8]) -> Self {
        let xid = Frame::parse(frame1).map(|f| f.xid()).unwrap_or_default();
        let th1 = Th1Start::new(start.ctx.suite, frame1);
        Self { ctx: Context { xid, ..start.ctx }, n1, ephemeral, th1, cloud_active: start.cloud_active }
    }

    /// Takes a frame that may be message 2; opens it in its own buffer.
    ///
    /// # Errors
    /// [`Dropped`] with the unchanged state for anything but the authentic
    /// message 2 of this exchange.
    #[allow(
        clippy::result_large_err,
        reason = "the error is the state itself, which has nowhere else to live without allocation"
    )]
    pub fn handle<'f>(self, frame: &'f mut [u8], trust: &Trust<'_>) -> Result<Received<'f>, Dropped<Self>> {
        match self.open(frame, trust) {
            Ok(opened) => Ok(Received { ctx: self.ctx, opened }),
            Err(reason) => Err(Dropped { state: self, reason }),
        }
    }

    fn open<'f>(&self, frame: &'f mut [u8], trust: &Trust<'_>) -> Result<Opened<'f>, Error> {
        let ctx = &self.ctx;
        Frame::parse(frame)?.expect(ctx.suite, ctx.purpose, Step::Response)?;
        let prk0 = schedule::prk0(&ctx.base);
        let (th1, keys, clear_len) = match ctx.suite {
            Suite::Legacy => {
                let th1 = self.th1.finish(&[]);
                (th1, ctx.keys(&prk0, Step::Response, &th1)?, 0)
            }
            Suite::Hardened => {
                let hashed = frame.get(..HEADER_LEN + CLEAR2_LEN - 64).ok_or(Error::Length)?;
                let mut r = Reader::new(frame.get(HEADER_LEN..).ok_or(Error::Length)?);
                let e_a = r.array_ref::<32>()?;
                read_certs(&mut r)?;
                let sig_a = r.array_ref::<64>()?;
                let mut shared = crypto::x25519(&self.ephemeral, e_a)?;
                let th1 = self.th1.finish(hashed);
                let prk2 = schedule::prk2(&prk0, &shared);
                shared.zeroize();
                let step_ctx = crypto::sha256(&[&th1, sig_a]);
                (th1, ctx.keys(&prk2, Step::Response, &step_ctx)?, CLEAR2_LEN)
            }
        };
        let th2 = schedule::th2(ctx.suite, &th1, frame);
        let pt = open_in_place(frame, clear_len, &keys, &th1)?;
        if ctx.suite == Suite::Hardened {
            let mut r = Reader::new(frame.get(HEADER_LEN + 32..).ok_or(Error::Length)?);
            let (region, agent) = read_certs(&mut r)?;
            let sig_a = Signature(r.array()?);
            let key = agent_key_of(&region, &agent, trust)?;
            crypto::verify(&key, &[&sig_a_message(&th1)?], &sig_a)?;
        }
        match ctx.purpose {
            Purpose::Init | Purpose::AgentKeyUpdate => {
                let pt = frame.get_mut(pt).ok_or(Error::Length)?;
                let opened = self.agent_key(pt, &th1, th2);
                pt.zeroize();
                opened
            }
            Purpose::CloudKeyUpdate => {
                let frame: &'f [u8] = frame;
                self.cloud_record(frame.get(pt).ok_or(Error::Length)?, th2, trust)
            }
        }
    }

    /// UID ‖ gen4 ‖ N1 ‖ N2: the same in every message 2.
    fn common(&self, r: &mut Reader<'_>) -> Result<(Generation, Nonce), Error> {
        same(FieldName::UnitId, r.bytes(12)?, &self.ctx.unit.0)?;
        let generation = Generation(r.u32()?);
        same(FieldName::Nonce, r.bytes(16)?, &self.n1)?;
        Ok((generation, r.array()?))
    }

    fn agent_key<'f>(&self, pt: &[u8], th1: &Hash, th2: Hash) -> Result<Opened<'f>, Error> {
        let (preceding, kct) = pt.split_first_chunk::<80>().ok_or(Error::Length)?;
        let mut r = Reader::new(preceding);
        if kct.len() != 32 {
            return Err(Error::Length);
        }
        let (generation, n2) = self.common(&mut r)?;
        let key = AgentKey::from_bytes(r.array()?);
        let floor = match self.ctx.purpose {
            Purpose::Init => Generation::NONE,
            _ => self.ctx.kc.as_unit().1,
        };
        if generation <= floor {
            return Err(Error::Field(FieldName::Generation));
        }
        let expected = schedule::key_confirmation(&key, th1, preceding);
        same(FieldName::KeyConfirmation, &expected, kct)?;
        if key.is_blank() {
            return Err(Error::Blank);
        }
        Ok(Opened { generation, n2, th2, record_hash: [0; 32], content: Content::AgentKey(key) })
    }

    fn cloud_record<'f>(&self, pt: &'f [u8], th2: Hash, trust: &Trust<'_>) -> Result<Opened<'f>, Error> {
        let mut r = Reader::new(pt);
        let (generation, n2) = self.common(&mut r)?;
        let len = usize::from(r.u16()?);
        r.zeros::<2>()?;
        let bytes = r.bytes(len)?;
        r.finish()?;
        let record = CloudRecord::parse(bytes)?;
        if record.cloud_key()?.0 != generation || generation <= self.cloud_active {
            return Err(Error::Field(FieldName::Generation));
        }
        record.verify_certs(trust)?;
        Ok(Opened { generation, n2, th2, record_hash: record.hash(), content: Content::CloudRecord(record) })
    }
}

struct Opened<'f> {
    generation: Generation,
    n2: Nonce,
    th2: Hash,
    record_hash: Hash,
    content: Content<'f>,
}

/// An authentic message 2: what it brought must be committed before message 3
/// may be sent (D1). See [`crate::record::build_snapshot`].
pub struct Received<'f> {
    ctx: Context,
    opened: Opened<'f>,
}

impl fmt::Debug for Received<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("exchange", &self.ctx)
            .field("generation", &self.opened.generation.0)
            .field("content", &self.opened.content)
            .finish_non_exhaustive()
    }
}

impl<'f> Received<'f> {
    /// What message 2 brought.
    #[must_use]
    pub const fn content(&self) -> &Content<'f> {
        &self.opened.content
    }

    /// The unit.
    #[must_use]
    pub const fn unit(&self) -> UnitId {
        self.ctx.unit
    }

    /// The new key's generation: the agent key's for INIT and AKU, the cloud
    /// key's for CKU.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.opened.generation
    }

    /// N2, to be persisted in the record's header.
    #[must_use]
    pub const fn n2(&self) -> &Nonce {
        &self.opened.n2
    }

    /// TH2, to be persisted in the record's header.
    #[must_use]
    pub const fn th2(&self) -> &Hash {
        &self.opened.th2
    }

    /// What TLV 9 persists.
    #[must_use]
    pub const fn confirmation(&self) -> Confirmation {
        Confirmation {
            suite: self.ctx.suite,
            purpose: self.ctx.purpose,
            kc: self.ctx.kc,
            record_hash: self.opened.record_hash,
        }
    }

    /// Goes on once the record of this exchange is committed.
    ///
    /// # Errors
    /// [`Error::CommitMismatch`] if `committed` is of another exchange.
    pub fn commit(self, committed: &Committed) -> Result<ExpectAck, Error> {
        if committed.th2 != self.opened.th2 || committed.n2 != self.opened.n2 {
            return Err(Error::CommitMismatch);
        }
        let ak = match self.opened.content {
            Content::AgentKey(key) => key,
            Content::CloudRecord(_) => self.ctx.current_agent_key(),
        };
        Ok(ExpectAck {
            ctx: self.ctx,
            generation: self.opened.generation,
            n2: self.opened.n2,
            th2: self.opened.th2,
            record_hash: self.opened.record_hash,
            ak,
            sent: None,
        })
    }
}

/// The record is committed; the agent must hear of it, and answer.
pub struct ExpectAck {
    ctx: Context,
    generation: Generation,
    n2: Nonce,
    th2: Hash,
    record_hash: Hash,
    /// AK*.
    ak: AgentKey,
    /// The latest message 3 since boot; answers to older ones are refused.
    sent: Option<Sent>,
}

#[derive(Clone, Copy)]
struct Sent {
    n3: Nonce,
    th3: Hash,
    frame3_hash: Hash,
}

impl fmt::Debug for ExpectAck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpectAck")
            .field("exchange", &self.ctx)
            .field("generation", &self.generation.0)
            .field("sent", &self.sent.is_some())
            .finish_non_exhaustive()
    }
}

/// Proof that the agent activated the pending key: CONFIRM may be programmed and
/// the other area erased (D3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activated {
    generation: Generation,
    time: u64,
}

impl Activated {
    /// The activated key's generation.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// The agent's time, Unix seconds UTC: raises the unit's time floor.
    #[must_use]
    pub const fn time(&self) -> u64 {
        self.time
    }
}

/// Proof that the agent refused the pending key: the record may be retired (D4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    generation: Generation,
    nack: Option<NackReason>,
}

impl Refused {
    /// The refused key's generation.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// The reason of a NACK; `None` for a message 4 that says REJECTED.
    #[must_use]
    pub const fn nack(&self) -> Option<NackReason> {
        self.nack
    }
}

/// How an exchange ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The new key is active.
    Activated(Activated),
    /// The new key is refused; the old state stays.
    Refused(Refused),
}

impl ExpectAck {
    /// Rebuilds the state from a pending record after a reboot (D2). `base` is
    /// the exchange's base key: the product key for INIT, for updates the agent
    /// key that was current when it began (AKU: the other area's; CKU: this
    /// record's own). `xid` is drawn afresh.
    ///
    /// # Errors
    /// As [`RecordView::committed`]; [`Error::RecordTlv`] if the record owes no
    /// confirmation; [`Error::Blank`] for a blank base key.
    pub fn resume(record: &RecordView<'_>, base: BaseKey, xid: Xid) -> Result<Self, Error> {
        record.committed()?;
        let owed = match record.state() {
            RecordState::Pending => record.confirmation().ok_or(Error::RecordTlv)?,
            _ => return Err(Error::RecordTlv),
        };
        if base.is_blank() {
            return Err(Error::Blank);
        }
        let (ak_generation, ak) = record.agent_key().ok_or(Error::RecordTlv)?;
        let generation = match owed.purpose {
            Purpose::Init | Purpose::AgentKeyUpdate => ak_generation,
            Purpose::CloudKeyUpdate => record.cloud_key().ok_or(Error::RecordTlv)?.0,
        };
        Ok(Self {
            ctx: Context {
                suite: owed.suite,
                purpose: owed.purpose,
                kc: owed.kc,
                unit: record.unit(),
                xid,
                base,
            },
            generation,
            n2: *record.n2(),
            th2: *record.th2(),
            record_hash: owed.record_hash,
            ak,
            sent: None,
        })
    }

    /// The purpose of the exchange.
    #[must_use]
    pub const fn purpose(&self) -> Purpose {
        self.ctx.purpose
    }

    /// The pending key's generation.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Writes message 3 with a fresh N3. Repeat it with growing pauses, for ever
    /// (D2); only the answer to the latest one counts.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] (188 bytes hold every message 3).
    pub fn confirm(
        &mut self,
        identity: &IdentityKey,
        entropy: &ConfirmEntropy,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let ctx = &self.ctx;
        let signature;
        let tail: &[u8] = match (ctx.suite, ctx.purpose) {
            (_, Purpose::CloudKeyUpdate) => &self.record_hash,
            (Suite::Hardened, _) => {
                signature = identity.sign(&sig_dev_message(&self.th2)?)?;
                &signature.0
            }
            (Suite::Legacy, _) => &[],
        };
        let parts: [&[u8]; 4] = [&[STATUS_SUCCESS, 0, 0, 0], &self.n2, &entropy.n3, tail];
        let keys = ctx.keys(&schedule::prk3(&self.th2, &self.ak), Step::Confirm, &[])?;
        let len = FrameBuilder::begin(
            &ctx.header(Step::Confirm),
            &[&clear_of(&ctx.unit, self.generation)],
            CLEAR_LEN,
            parts.iter().map(|p| p.len()).sum(),
            out,
        )?
        .seal(&keys, &self.th2, &entropy.iv, &parts)?;
        self.note_sent(entropy.n3, out.get(..len).ok_or(Error::BufferTooSmall)?);
        Ok(len)
    }

    fn note_sent(&mut self, n3: Nonce, frame3: &[u8]) {
        self.sent = Some(Sent {
            n3,
            th3: schedule::th3(self.ctx.suite, &self.th2, frame3),
            frame3_hash: crypto::sha256(&[frame3]),
        });
    }

    /// Takes a frame that may be message 4 or a NACK; opens it in its own buffer.
    ///
    /// # Errors
    /// [`Dropped`] with the unchanged state for anything but an authentic answer
    /// to the latest message 3 sent since boot.
    #[allow(
        clippy::result_large_err,
        reason = "the error is the state itself, which has nowhere else to live without allocation"
    )]
    pub fn handle(self, frame: &mut [u8], trust: &Trust<'_>) -> Result<Ending, Dropped<Self>> {
        match self.open(frame, trust) {
            Ok(ending) => Ok(ending),
            Err(reason) => Err(Dropped { state: self, reason }),
        }
    }

    fn open(&self, frame: &mut [u8], trust: &Trust<'_>) -> Result<Ending, Error> {
        let ctx = &self.ctx;
        let view = Frame::parse(frame)?;
        let nack = view.type_number() == crate::frame::type_byte(ctx.purpose, Step::Nack);
        let step = if nack { Step::Nack } else { Step::Ack };
        view.expect(ctx.suite, ctx.purpose, step)?;
        // Before a message 3 there is nothing an answer could be to.
        let sent = self.sent.ok_or(Error::Tag)?;
        let (prk, prev, step_ctx): (_, &Hash, &[u8]) = if nack {
            (schedule::prk0(&ctx.base), &NO_PREV, &sent.frame3_hash)
        } else {
            (schedule::prk3(&self.th2, &self.ak), &sent.th3, &[])
        };
        let keys = ctx.keys(&prk, step, step_ctx)?;
        let pt = open_in_place(frame, CLEAR_LEN, &keys, prev)?;
        let clear = frame.get(HEADER_LEN..HEADER_LEN + CLEAR_LEN).ok_or(Error::Length)?;
        let expected_clear = clear_of(&ctx.unit, self.generation);
        let (unit, generation) = clear.split_at_checked(12).ok_or(Error::Length)?;
        let mut r = Reader::new(frame.get(pt).ok_or(Error::Length)?);
        let ending = if nack {
            let reason = NackReason(r.u8()?);
            r.zeros::<3>()?;
            same(FieldName::Hash, r.bytes(32)?, &sent.frame3_hash)?;
            if ctx.suite == Suite::Hardened {
                let (region, agent) = read_certs(&mut r)?;
                let key = agent_key_of(&region, &agent, trust)?;
                let message = sig_nack_message(&sent.frame3_hash, &expected_clear)?;
                crypto::verify(&key, &[&message], &Signature(r.array()?))?;
            }
            Ending::Refused(Refused { generation: self.generation, nack: Some(reason) })
        } else {
            let status = r.u8()?;
            r.zeros::<3>()?;
            same(FieldName::Nonce, r.bytes(16)?, &sent.n3)?;
            let time = r.u64()?;
            match status {
                STATUS_ACTIVATED => Ending::Activated(Activated { generation: self.generation, time }),
                STATUS_REJECTED => Ending::Refused(Refused { generation: self.generation, nack: None }),
                _ => return Err(Error::Field(FieldName::Status)),
            }
        };
        r.finish()?;
        let (own_unit, own_generation) = expected_clear.split_at(12);
        same(FieldName::UnitId, unit, own_unit)?;
        same(FieldName::Generation, generation, own_generation)?;
        Ok(ending)
    }
}

/// Everything that rebuilds an [`ExpectAck`] with a message 3 on the way; for
/// test vectors and for simulations.
#[doc(hidden)]
#[derive(Debug)]
pub struct SentConfirm<'a> {
    /// The suite.
    pub suite: Suite,
    /// The purpose.
    pub purpose: Purpose,
    /// The key context.
    pub kc: KeyContext,
    /// The unit.
    pub unit: UnitId,
    /// The base key.
    pub base: BaseKey,
    /// AK*.
    pub ak: AgentKey,
    /// The pending generation.
    pub generation: Generation,
    /// TH2.
    pub th2: Hash,
    /// N3.
    pub n3: Nonce,
    /// The message 3 that was sent.
    pub frame3: &'a [u8],
}

impl From<SentConfirm<'_>> for ExpectAck {
    fn from(sent: SentConfirm<'_>) -> Self {
        let mut state = Self {
            ctx: Context {
                suite: sent.suite,
                purpose: sent.purpose,
                kc: sent.kc,
                unit: sent.unit,
                xid: Frame::parse(sent.frame3).map(|f| f.xid()).unwrap_or_default(),
                base: sent.base,
            },
            generation: sent.generation,
            n2: [0; 16],
            th2: sent.th2,
            record_hash: [0; 32],
            ak: sent.ak,
            sent: None,
        };
        state.note_sent(sent.n3, sent.frame3);
        state
    }
}
