//! The agent in the station's own process.
//!
//! What the wire shows and what a person sees are two things: a refusal is a silent drop (or an authentic NACK) on the
//! wire, and a [`Change::Refused`] with the reason for the line.
//!
//! Order of every answer: decide on one snapshot of the records → make keys and frame → **persist** → (cloud
//! acknowledges) → answer. Frames of one unit are handled one after the other (a lock per unit); frames of different
//! units run in parallel and share the commits of the one writer.

use super::cloud::{Cloud, CloudState};
use super::*;
use crate::anchors::{Anchors, SigningKey};
use crate::failure::FailureCode;
use crate::records::{
    AgentView, ConfirmKey, EnrolmentRow, IssueAgentKey, MAX_PENDING, NewPending, PendingRow, Records,
    RecordsError, SecretBytes, SqliteRecords, StageCloudKey,
};
use crate::secrets::{SecretsError, random};
use keywright_protocol::cert::Cert;
use keywright_protocol::crypto;
use keywright_protocol::exchange::agent::{Credentials, Grant, Incoming, Pending, Request, Verdict, nack};
use keywright_protocol::exchange::{NackReason, ResponseEntropy};
use keywright_protocol::keys::EphemeralSecret;
use keywright_protocol::record::{CloudRecord, CloudRecordParts, MAX_RECORD, Order, StageOne};
use keywright_protocol::schedule::KeyContext;
use keywright_protocol::{
    AgentKey, BaseKey, CloudKey, Error, Generation, MAX_CLOUD_RECORD, MAX_FRAME, ProductKey,
    ProductOrder as Po16, PublicKey, Purpose, Region, Suite, UnitId as ProtocolUnitId,
};
use serde_json::json;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use zeroize::Zeroizing;

/// Unauthentic requests of one unit after which a person is told that its product key is not ours: one damaged frame
/// must not, and a unit that repeats itself soon does.
const UNAUTHENTIC_BEFORE_TELLING: u32 = 3;

/// Moments between which a crash must cost nothing; see [`EmbeddedAgent::with_hook`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// Everything is computed, nothing is written.
    BeforePersist,
    /// The records have it, the cloud has not heard of it.
    BeforeCloud,
    /// The cloud has it, the records have not heard back.
    AfterCloud,
    /// All is written, the answer has not left.
    BeforeAnswer,
}

type Hook = Arc<dyn Fn(Point) + Send + Sync>;

/// What does not change between two frames of one product order. The keys inside wipe themselves.
pub(super) struct OrderMaterial {
    pub(super) po: ProductOrder,
    name: Po16,
    product_key: ProductKey,
    base: BaseKey,
}

/// What the agent shows to units of one order that are in one region.
struct RegionMaterial {
    region_cert: Cert,
    agent_cert: Cert,
    agent: SigningKey,
}

impl RegionMaterial {
    fn credentials(&self) -> Credentials<'_> {
        Credentials { region: &self.region_cert, agent: &self.agent_cert, signer: &self.agent }
    }
}

/// The agent on the station's own records.
pub struct EmbeddedAgent {
    pub(super) records: SqliteRecords,
    anchors: RwLock<Arc<Anchors>>,
    pub(super) cloud: Arc<dyn Cloud>,
    orders: RwLock<HashMap<i64, Arc<OrderMaterial>>>,
    regions: RwLock<HashMap<(i64, u32), Arc<RegionMaterial>>>,
    unauthentic: Mutex<HashMap<UnitId, u32>>,
    dropped: AtomicU64,
    nacks: AtomicU64,
    hook: Option<Hook>,
}

impl std::fmt::Debug for EmbeddedAgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedAgent").field("records", &self.records).finish_non_exhaustive()
    }
}

pub(super) fn told(error: RecordsError) -> Failure {
    match error {
        RecordsError::Refused(failure) => *failure,
        other => Failure::new(FailureCode::RecordsFailed, other),
    }
}

fn no_randomness(error: SecretsError) -> Failure {
    Failure::new(FailureCode::RecordsFailed, error)
}

fn damaged(detail: impl std::fmt::Display) -> Failure {
    Failure::new(FailureCode::RecordsFailed, detail)
}

/// The first 8 bytes of SHA-256("keywright/key-id/v1" ‖ key): names a key without showing it.
fn key_id(key: &[u8]) -> String {
    hex::encode(&crypto::sha256(&[b"keywright/key-id/v1", key])[..8])
}

fn agent_key(bytes: &SecretBytes) -> Result<AgentKey, Failure> {
    let key: [u8; 32] = bytes.expose().try_into().map_err(|_| damaged("an agent key has another length"))?;
    let key = AgentKey::from_bytes(key);
    if key.is_blank() { Err(Failure::new(FailureCode::BlankKey, "an agent key")) } else { Ok(key) }
}

fn cloud_key(unit: UnitId, bytes: &SecretBytes) -> Result<CloudKey, Failure> {
    CloudKey::new(bytes.expose())
        .map_err(|_| Failure::new(FailureCode::BlankKey, format!("unit {unit}: the cloud key")))
}

fn suite_of(number: u8) -> Result<Suite, Failure> {
    Suite::from_number(number).map_err(damaged)
}

const NOTHING: Handled = Handled { reply: None, change: Change::Nothing };

fn refuse(code: FailureCode, facts: impl std::fmt::Display) -> Handled {
    Handled { reply: None, change: Change::Refused(Failure::new(code, facts)) }
}

/// What a step of handling decided early: silence, a refusal for people, or trouble of the station.
enum Stop {
    Quiet,
    Tell(Failure),
    Trouble(Failure),
}

impl From<RecordsError> for Stop {
    fn from(error: RecordsError) -> Self {
        match error {
            RecordsError::Refused(failure) => Stop::Tell(*failure),
            other => Stop::Trouble(told(other)),
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Trouble(failure)
    }
}

/// An unauthentic or malformed frame.
impl From<Error> for Stop {
    fn from(_: Error) -> Self {
        Stop::Quiet
    }
}

impl EmbeddedAgent {
    /// An agent over these records and anchors, whose units log in at this cloud.
    pub fn new(records: SqliteRecords, anchors: Anchors, cloud: Arc<dyn Cloud>) -> Self {
        Self {
            records,
            anchors: RwLock::new(Arc::new(anchors)),
            cloud,
            orders: RwLock::default(),
            regions: RwLock::default(),
            unauthentic: Mutex::default(),
            dropped: AtomicU64::new(0),
            nacks: AtomicU64::new(0),
            hook: None,
        }
    }

    /// Calls `hook` at every [`Point`]: how the crash tests kill the process between any two of them.
    #[must_use]
    pub fn with_hook(mut self, hook: impl Fn(Point) + Send + Sync + 'static) -> Self {
        self.hook = Some(Arc::new(hook));
        self
    }

    /// The anchors as they are now.
    pub(super) fn anchors(&self) -> Arc<Anchors> {
        self.anchors.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A region or an epoch was made: what is issued from now on is issued under these.
    pub fn set_anchors(&self, anchors: Anchors) {
        *self.anchors.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(anchors);
        self.regions.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Frames dropped without an answer since start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The cloud behind this agent.
    pub fn cloud(&self) -> &Arc<dyn Cloud> {
        &self.cloud
    }

    /// The platform that one generation of a unit lives at.
    fn place(&self, unit: UnitId, generation: u32) -> Result<String, Failure> {
        let view = self.records.0.agent_view(unit).map_err(told)?;
        let Some(view) = view else {
            return Err(Failure::new(FailureCode::AgentRefused, format!("unit {unit}")));
        };
        let order = self.order(view.po)?;
        Ok(match &view.enrolment {
            Some(e) if generation == e.ck_staged && generation > 0 => e.cloud_staged.clone(),
            Some(e) if generation == e.ck_leaving && generation > 0 => e.cloud_leaving.clone(),
            Some(e) => active_place(e, &order).to_owned(),
            None => order.po.cloud_url.clone(),
        })
    }

    /// The end of a move: what the platform that the unit left still knows of it is retired. Repeating it changes nothing.
    fn leave(&self, unit: UnitId, enrolment: &EnrolmentRow) -> Result<(), Failure> {
        if enrolment.ck_leaving == 0 {
            return Ok(());
        }
        self.cloud.retire(&enrolment.cloud_leaving, unit, enrolment.ck_leaving)?;
        self.records.0.cloud_left(unit, enrolment.ck_leaving).map_err(told)
    }

    /// Makes the active generation's platform know what the records say: after a lost ledger, a broker restored from an old
    /// backup, or a database from before there were platforms.
    fn settle(&self, unit: UnitId, enrolment: &EnrolmentRow, at: &str) -> Result<(), Failure> {
        self.leave(unit, enrolment)?;
        let generation = enrolment.ck_active;
        if generation == 0 {
            return Ok(());
        }
        let known = match self.cloud.state(at, unit)? {
            CloudState::New { generation: known } => known == generation,
            CloudState::Both { old, new } => old == generation || new == generation,
            CloudState::Unknown => false,
        };
        if !known {
            let key = self.cloud_key_of(unit, generation)?;
            self.cloud.prepare(at, unit, generation, &key)?;
            self.cloud.activate(at, unit, generation)?;
        }
        Ok(())
    }

    fn cloud_key_of(&self, unit: UnitId, generation: u32) -> Result<CloudKey, Failure> {
        let bytes = self.records.key_vault().key(unit, "cloud", generation).map_err(told)?;
        cloud_key(unit, &bytes.ok_or_else(|| damaged(format!("unit {unit} has no cloud key {generation}")))?)
    }

    fn at(&self, point: Point) {
        if let Some(hook) = &self.hook {
            hook(point);
        }
    }

    pub(super) fn order(&self, po: PoId) -> Result<Arc<OrderMaterial>, Failure> {
        if let Some(known) = self.orders.read().unwrap_or_else(PoisonError::into_inner).get(&po.0) {
            return Ok(known.clone());
        }
        let order = self.records.product_order(po).map_err(told)?;
        let secret = self.records.key_vault().product_key(&order).map_err(told)?;
        let product_key = ProductKey::from_bytes(*secret.expose());
        let name = Po16(order.po16());
        self.anchors().region(order.region)?;
        let material =
            Arc::new(OrderMaterial { base: BaseKey::from(&product_key), product_key, name, po: order });
        self.orders.write().unwrap_or_else(PoisonError::into_inner).insert(po.0, material.clone());
        Ok(material)
    }

    fn region(&self, order: &OrderMaterial, region: u32) -> Result<Arc<RegionMaterial>, Failure> {
        let key = (order.po.id.0, region);
        if let Some(known) = self.regions.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            self.anchors().region(region)?.check_valid()?;
            return Ok(known.clone());
        }
        let all = self.anchors();
        let anchors = all.region(region)?;
        let material = Arc::new(RegionMaterial {
            region_cert: *anchors.cert(),
            agent_cert: anchors.agent_cert(&order.name)?,
            agent: anchors.agent_signer().clone(),
        });
        let mut known = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        // Another epoch may have come meanwhile; its material is made by whoever asks next.
        if Arc::ptr_eq(&all, &self.anchors()) {
            known.insert(key, material.clone());
        }
        Ok(material)
    }

    /// Why the agent did not sign, if that is why no frame was made.
    fn unsigned(material: &RegionMaterial, error: Error, code: FailureCode) -> Failure {
        match material.agent.trouble() {
            Some(trouble) if error == Error::SignerUnavailable => trouble.into(),
            _ => Failure::new(code, error),
        }
    }

    fn entropy() -> Result<ResponseEntropy, Failure> {
        Ok(ResponseEntropy {
            n2: random().map_err(no_randomness)?,
            iv: random().map_err(no_randomness)?,
            ephemeral: EphemeralSecret::from_bytes(random().map_err(no_randomness)?),
        })
    }

    fn agent_key_of(&self, unit: UnitId, generation: u32) -> Result<AgentKey, Stop> {
        let key = self.records.key_vault().key(unit, "agent", generation)?;
        Ok(agent_key(&key.ok_or(Stop::Quiet)?)?)
    }

    /// An INIT that is not authentic under the order's product key. The wire can't tell noise from a wrong key; a unit
    /// that keeps sending such requests has a wrong key.
    fn unauthentic_init(&self, unit: UnitId, order: &OrderMaterial) -> Stop {
        let mut counts = self.unauthentic.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(unit).or_default();
        *count += 1;
        if *count < UNAUTHENTIC_BEFORE_TELLING {
            return Stop::Quiet;
        }
        counts.remove(&unit);
        Stop::Tell(Failure::new(
            FailureCode::ProductKeyUnknown,
            format!("unit {unit} asks under another key than product order {}'s", order.po.name),
        ))
    }

    fn alarm(
        &self,
        context: FrameContext,
        kind: &'static str,
        detail: serde_json::Value,
    ) -> Result<(), Stop> {
        Ok(self.records.0.raise_alarm(context.unit, context.attempt, kind, detail)?)
    }

    fn request(
        &self,
        context: FrameContext,
        view: &AgentView,
        order: &OrderMaterial,
        frame: &[u8],
        (suite, purpose, kc): (Suite, Purpose, KeyContext),
    ) -> Result<Handled, Stop> {
        if suite.check_policy(order.po.suite).is_err() {
            return Err(Stop::Tell(Failure::new(
                FailureCode::AgentRefused,
                format!(
                    "unit {} asks in {suite}, order {} needs suite {}",
                    context.unit, order.po.name, order.po.suite
                ),
            )));
        }
        match purpose {
            Purpose::Init => self.init_request(context, view, order, frame, kc),
            Purpose::AgentKeyUpdate => self.update_request(context, view, order, frame, kc),
            Purpose::CloudKeyUpdate => self.cloud_request(context, view, order, frame, kc),
        }
    }

    /// The cached answer, if these very bytes were answered before.
    fn cached(&self, view: &AgentView, request: &Request) -> Result<Option<Handled>, Stop> {
        let purpose = request.purpose().number();
        let Some(row) =
            view.pending.iter().find(|p| p.h_frame1 == *request.frame_hash() && p.purpose == purpose)
        else {
            return Ok(None);
        };
        let reply = self.records.0.cached_frame2(row.id)?;
        Ok(Some(Handled { reply: Some(reply), change: Change::Nothing }))
    }

    fn init_request(
        &self,
        context: FrameContext,
        view: &AgentView,
        order: &OrderMaterial,
        frame: &[u8],
        kc: KeyContext,
    ) -> Result<Handled, Stop> {
        let unit = context.unit;
        if kc != KeyContext::order(&order.name) {
            return Err(Stop::Tell(Failure::new(
                FailureCode::ProductKeyUnknown,
                format!("unit {unit} asks under order {}, the batch is of {}", kc.as_order(), order.name),
            )));
        }
        let request = match Request::open(frame, &order.base, None) {
            Ok(request) => request,
            Err(Error::Tag) => return Err(self.unauthentic_init(unit, order)),
            Err(_) => return Err(Stop::Quiet),
        };
        self.check_unit(context, &request)?;
        self.unauthentic.lock().unwrap_or_else(PoisonError::into_inner).remove(&unit);
        if self.records.product_order(view.po)?.key_invalid_at_ms.is_some() {
            self.alarm(context, "invalid-product-key", json!({ "order": order.po.name }))?;
            return Err(Stop::Tell(Failure::new(FailureCode::ProductKeyInvalid, &order.po.name)));
        }
        // Closing a batch ends the product key's right to enrol, whatever was answered before. What a unit confirms was issued while
        // the batch was open, and what QA lets start anew was enrolled then.
        let enrolled = view.enrolment.as_ref().is_some_and(|e| e.active);
        if view.batch_state == BatchState::Closed && !enrolled && !self.may_start_anew(unit)? {
            let batch = self.records.batch(view.batch)?.name;
            return Err(Stop::Tell(Failure::new(
                FailureCode::EnrolmentEnded,
                format!("unit {unit}, batch {batch}"),
            )));
        }
        if let Some(handled) = self.cached(view, &request)? {
            return Ok(handled);
        }
        let identity = request.identity();
        match &view.enrolment {
            Some(enrolment) if enrolment.active => {
                // A2: ACTIVE is sticky; only the unit's own registered identity may ask again.
                let same = identity.is_some() && identity.map(|k| k.0) == enrolment.dik_pub;
                if !same {
                    let seen = identity.map(|k| k.to_string());
                    let kind = if seen.is_some() && enrolment.dik_pub.is_some() {
                        "another-identity"
                    } else {
                        "enrolled-again"
                    };
                    self.alarm(context, kind, json!({ "identity": seen }))?;
                    return Err(Stop::Tell(Failure::new(
                        FailureCode::AlreadyEnrolled,
                        format!("unit {unit}"),
                    )));
                }
            }
            _ => {}
        }
        self.issue_agent_key(context, view, order, &request, &order.base)
    }

    /// QA ordered a new start, and the old identity is dead everywhere.
    fn may_start_anew(&self, unit: UnitId) -> Result<bool, Stop> {
        let orders = self.records.reprovisions(unit)?;
        Ok(orders.iter().any(|o| o.ended_at_ms.is_none() && o.revoked))
    }

    fn update_request(
        &self,
        context: FrameContext,
        view: &AgentView,
        order: &OrderMaterial,
        frame: &[u8],
        kc: KeyContext,
    ) -> Result<Handled, Stop> {
        let (request, base, view) = self.open_update(context, view, frame, kc)?;
        if let Some(handled) = self.cached(&view, &request)? {
            return Ok(handled);
        }
        let registered = view.enrolment.as_ref().and_then(|e| e.dik_pub);
        if let (Some(registered), Some(seen)) = (registered, request.identity())
            && registered != seen.0
        {
            self.alarm(context, "another-identity", json!({ "identity": seen.to_string() }))?;
            return Err(Stop::Tell(Failure::new(
                FailureCode::AgentRefused,
                format!("unit {} shows another identity key than the registered one", context.unit),
            )));
        }
        self.issue_agent_key(context, &view, order, &request, &base)
    }

    /// Opens a message 1 under the unit's current or next agent key; one under the next ends the current (A3).
    fn open_update(
        &self,
        context: FrameContext,
        view: &AgentView,
        frame: &[u8],
        kc: KeyContext,
    ) -> Result<(Request, BaseKey, AgentView), Stop> {
        let (claimed, generation) = kc.as_unit();
        let enrolment = view.enrolment.as_ref().filter(|e| e.active).ok_or(Stop::Quiet)?;
        let known = generation.0 != 0 && [enrolment.ak_cur, enrolment.ak_next].contains(&generation.0);
        if claimed.0 != context.unit.0 || !known {
            return Err(Stop::Quiet);
        }
        let base = BaseKey::from(&self.agent_key_of(context.unit, generation.0)?);
        let registered = enrolment.dik_pub.map(PublicKey);
        let request = Request::open(frame, &base, registered.as_ref())?;
        self.check_unit(context, &request)?;
        let mut view = view.clone();
        if generation.0 == enrolment.ak_next {
            self.records.0.promote_agent_key(context.unit, context.attempt)?;
            if let Some(e) = view.enrolment.as_mut() {
                (e.ak_cur, e.ak_next) = (e.ak_next, 0);
            }
        }
        Ok((request, base, view))
    }

    fn check_unit(&self, context: FrameContext, request: &Request) -> Result<(), Stop> {
        if request.unit().0 == context.unit.0 {
            Ok(())
        } else {
            Err(Stop::Tell(Failure::new(
                FailureCode::UidMismatch,
                format!("the chip is {}, the frame is of {}", context.unit, request.unit()),
            )))
        }
    }

    fn issue_agent_key(
        &self,
        context: FrameContext,
        view: &AgentView,
        order: &OrderMaterial,
        request: &Request,
        base: &BaseKey,
    ) -> Result<Handled, Stop> {
        let unit = context.unit;
        let highest = view.enrolment.as_ref().map_or(0, |e| e.ak_highest);
        let generation =
            Generation(highest).next().ok_or_else(|| damaged("agent key generations are used up"))?;
        // `random` refuses a stuck source, so a blank key can't come from here; `respond` refuses one once more.
        let key = AgentKey::from_bytes(random().map_err(no_randomness)?);
        let region = self.region(order, region_of(view.enrolment.as_ref(), order))?;
        let credentials = region.credentials();
        let mut frame2 = vec![0u8; MAX_FRAME];
        let (len, pending) = request
            .respond(
                &Grant::AgentKey { generation, key: &key },
                base,
                Some(&credentials),
                &Self::entropy()?,
                &mut frame2,
            )
            .map_err(|e| Self::unsigned(&region, e, FailureCode::AgentRefused))?;
        frame2.truncate(len);
        let inner = &self.records.0;
        let [major, minor, patch, _] = request.firmware();
        let new = IssueAgentKey {
            unit,
            attempt: context.attempt,
            po: order.po.id,
            key_id: key_id(key.expose()),
            key_sealed: inner.seal_key(unit, "agent", generation.0, key.expose())?,
            firmware: format!("{major}.{minor}.{patch}"),
            pending: self.new_pending(unit, request, &pending, frame2.clone())?,
        };
        self.at(Point::BeforePersist);
        if let Err(error) = inner.issue_agent_key(new) {
            if let RecordsError::Refused(failure) = &error
                && failure.code == FailureCode::QuotaReached
            {
                inner.raise_order_alarm(
                    order.po.id,
                    "activations-over-plan",
                    json!({ "planned": order.po.quantity }),
                )?;
            }
            return Err(error.into());
        }
        self.at(Point::BeforeAnswer);
        Ok(Handled { reply: Some(frame2), change: Change::AgentKeyIssued { ak_gen: generation.0 } })
    }

    fn new_pending(
        &self,
        unit: UnitId,
        request: &Request,
        pending: &Pending,
        frame2: Vec<u8>,
    ) -> Result<NewPending, Stop> {
        let cloud = pending.purpose == Purpose::CloudKeyUpdate;
        Ok(NewPending {
            purpose: pending.purpose.number(),
            suite: pending.suite.number(),
            kc: pending.kc.0,
            generation: pending.generation.0,
            h_frame1: *request.frame_hash(),
            th2: pending.th2,
            n2_sealed: self.records.0.seal_n2(unit, request.frame_hash(), &pending.n2)?,
            dik_pub: pending.identity.map(|k| k.0),
            record: cloud.then_some(pending.record_hash),
            frame2,
        })
    }

    fn cloud_request(
        &self,
        context: FrameContext,
        view: &AgentView,
        order: &OrderMaterial,
        frame: &[u8],
        kc: KeyContext,
    ) -> Result<Handled, Stop> {
        let unit = context.unit;
        let (request, base, view) = self.open_update(context, view, frame, kc)?;
        let view = self.finish_withdrawal(context, view, order)?;
        if let Some(handled) = self.cached(&view, &request)? {
            return Ok(handled);
        }
        let mut enrolment = view.enrolment.clone().ok_or(Stop::Quiet)?;
        let claimed = request.cloud_active().0;
        if claimed != 0 && claimed == enrolment.ck_staged {
            // The unit has confirmed what we staged: only a cloud session can have told it, so ours was lost.
            if self.cloud.activate(&enrolment.cloud_staged, unit, claimed)? {
                self.records.0.confirm_cloud_key(unit, context.attempt, claimed, None)?;
                enrolment = self.records.0.agent_view(unit)?.and_then(|v| v.enrolment).ok_or(Stop::Quiet)?;
            }
        }
        if claimed > enrolment.ck_active {
            self.alarm(
                context,
                "cloud-key-unknown",
                json!({ "claimed": claimed, "active": enrolment.ck_active }),
            )?;
            return Err(Stop::Tell(Failure::new(
                FailureCode::AgentRefused,
                format!("unit {unit} claims cloud key {claimed}, {} is active", enrolment.ck_active),
            )));
        }
        let waits = |p: &&PendingRow| !p.confirmed && p.purpose == 3 && p.generation == enrolment.ck_staged;
        if enrolment.ck_staged > 0 && view.pending.iter().filter(waits).count() >= MAX_PENDING {
            // There is no room to remember one more exchange of this key, and the unit may hold the key by any of them.
            self.records.0.begin_withdrawal(unit, enrolment.ck_staged)?;
            enrolment.ck_evicted = enrolment.ck_staged;
            let view = AgentView { enrolment: Some(enrolment), ..view };
            enrolment = self.finish_withdrawal(context, view, order)?.enrolment.ok_or(Stop::Quiet)?;
        }
        let record = self.staged_record(context, order, &enrolment)?;
        let record = CloudRecord::parse(&record).map_err(|e| damaged(format!("the staged record: {e}")))?;
        let (generation, key) = record.cloud_key().map_err(damaged)?;
        // U3 leaves only after the cloud acknowledged the stage; asking it again changes nothing.
        self.at(Point::BeforeCloud);
        let at = record.connection().unwrap_or(&order.po.cloud_url);
        if let Err(failure) = self.cloud.prepare(at, unit, generation.0, &key) {
            return Err(if failure.code == FailureCode::RecordsFailed {
                failure.into()
            } else {
                Stop::Tell(failure)
            });
        }
        self.at(Point::AfterCloud);
        // The unit checks this message against the region it is in, whichever region the record takes it to.
        let region = self.region(order, region_of(Some(&enrolment), order))?;
        let credentials = region.credentials();
        let mut frame2 = vec![0u8; MAX_FRAME];
        let (len, pending) = request
            .respond(
                &Grant::CloudRecord { record },
                &base,
                Some(&credentials),
                &Self::entropy()?,
                &mut frame2,
            )
            .map_err(|e| Self::unsigned(&region, e, FailureCode::AgentRefused))?;
        frame2.truncate(len);
        let new = self.new_pending(unit, &request, &pending, frame2.clone())?;
        self.at(Point::BeforePersist);
        self.records.0.issue_cloud_key(unit, context.attempt, new)?;
        self.at(Point::BeforeAnswer);
        Ok(Handled { reply: Some(frame2), change: Change::CloudKeyIssued { ck_gen: generation.0 } })
    }

    /// The end of a withdrawal that was begun: the platform says whether the staged key goes, or whether its unit has logged in
    /// with it before; then the records follow. Until the platform has said so nobody is told anything about that key.
    fn finish_withdrawal(
        &self,
        context: FrameContext,
        view: AgentView,
        order: &OrderMaterial,
    ) -> Result<AgentView, Stop> {
        let Some(e) = view.enrolment.as_ref().filter(|e| e.ck_staged > 0 && e.ck_evicted == e.ck_staged)
        else {
            return Ok(view);
        };
        let (unit, generation) = (context.unit, e.ck_staged);
        let here = active_place(e, order);
        let at = if e.cloud_staged.is_empty() { here } else { &e.cloud_staged };
        self.at(Point::BeforeCloud);
        let committed = match self.cloud.withdraw(at, unit, generation) {
            Ok(committed) => committed,
            Err(failure) if failure.code == FailureCode::RecordsFailed => return Err(failure.into()),
            Err(failure) => return Err(Stop::Tell(failure)),
        };
        self.at(Point::AfterCloud);
        if committed {
            self.records.0.confirm_cloud_key(unit, context.attempt, generation, None)?;
        } else {
            let moves = e.cloud_wanted.is_empty() && at != here;
            let cloud = if moves { at } else { &e.cloud_wanted };
            let moves =
                e.region_wanted == 0 && e.region_staged > 0 && e.region_staged != region_of(Some(e), order);
            let region = if moves { e.region_staged } else { e.region_wanted };
            self.records.0.void_cloud_key(unit, context.attempt, generation, (cloud, region))?;
        }
        self.records.0.agent_view(unit)?.ok_or(Stop::Quiet)
    }

    /// The staged cloud record: the one that is staged (A4: the same for every repeated request), or a new one,
    /// reserved before anybody hears of it.
    fn staged_record(
        &self,
        context: FrameContext,
        order: &OrderMaterial,
        enrolment: &EnrolmentRow,
    ) -> Result<Zeroizing<Vec<u8>>, Stop> {
        let unit = context.unit;
        let inner = &self.records.0;
        if let Some(sealed) = &enrolment.record_sealed {
            return Ok(inner.open_record(unit, enrolment.ck_staged, sealed)?);
        }
        // One move at a time: the place that the unit left is done with before it goes on.
        self.leave(unit, enrolment)?;
        let at = match enrolment.cloud_wanted.as_str() {
            "" => active_place(enrolment, order),
            wanted => wanted,
        };
        let generation = Generation(enrolment.ck_highest)
            .next()
            .ok_or_else(|| damaged("cloud key generations are used up"))?;
        let secret: Zeroizing<[u8; 32]> = Zeroizing::new(random().map_err(no_randomness)?);
        let key = CloudKey::new(secret.as_ref())
            .map_err(|_| Failure::new(FailureCode::BlankKey, "a new cloud key"))?;
        let number = match enrolment.region_wanted {
            0 => region_of(Some(enrolment), order),
            wanted => wanted,
        };
        let anchors = self.anchors();
        let region = anchors.region(number).map_err(Failure::from)?;
        let device = region.device_cert(&ProtocolUnitId(unit.0)).map_err(Failure::from)?;
        let mut record = Zeroizing::new(vec![0u8; MAX_CLOUD_RECORD]);
        let len = CloudRecordParts {
            generation,
            key: &key,
            connection: Some(at),
            platform_cert: None,
            region_cert: Some(region.cert()),
            device_cert: Some(&device),
        }
        .build(&mut record)
        .map_err(damaged)?;
        record.truncate(len);
        let new = StageCloudKey {
            unit,
            attempt: context.attempt,
            generation: generation.0,
            key_id: key_id(key.expose()),
            key_sealed: inner.seal_key(unit, "cloud", generation.0, key.expose())?,
            record_sealed: inner.seal_record(unit, generation.0, &record)?,
            anchor_fingerprint: region.fingerprint(),
            cloud: at.to_owned(),
            region: number,
        };
        self.at(Point::BeforePersist);
        inner.stage_cloud_key(new)?;
        Ok(record)
    }

    fn pending_of(&self, unit: UnitId, row: &PendingRow) -> Result<Pending, Stop> {
        let purpose = Purpose::from_number(row.purpose).map_err(damaged)?;
        let kc = KeyContext(row.kc);
        let key_generation =
            if purpose == Purpose::CloudKeyUpdate { kc.as_unit().1.0 } else { row.generation };
        let n2: [u8; 16] = self
            .records
            .0
            .open_n2(unit, row)?
            .as_slice()
            .try_into()
            .map_err(|_| damaged("a pending nonce has another length"))?;
        Ok(Pending {
            suite: suite_of(row.suite)?,
            purpose,
            kc,
            unit: ProtocolUnitId(unit.0),
            generation: Generation(row.generation),
            agent_key: self.agent_key_of(unit, key_generation)?,
            n2,
            th2: row.th2,
            record_hash: row.record.unwrap_or_default(),
            identity: row.dik_pub.map(PublicKey),
        })
    }

    fn confirm(
        &self,
        context: FrameContext,
        view: &AgentView,
        order: &OrderMaterial,
        frame: &[u8],
        (suite, purpose, claimed, generation): (Suite, Purpose, ProtocolUnitId, Generation),
    ) -> Result<Handled, Stop> {
        let unit = context.unit;
        if claimed.0 != unit.0 {
            return Err(Stop::Tell(Failure::new(
                FailureCode::UidMismatch,
                format!("the chip is {unit}, the frame is of {claimed}"),
            )));
        }
        let finished;
        let view = if purpose == Purpose::CloudKeyUpdate {
            finished = self.finish_withdrawal(context, view.clone(), order)?;
            &finished
        } else {
            view
        };
        let mut known = false;
        for row in
            view.pending.iter().filter(|p| p.purpose == purpose.number() && p.generation == generation.0)
        {
            known = true;
            if row.suite != suite.number() {
                continue;
            }
            let pending = self.pending_of(unit, row)?;
            // Several exchanges may be about one staged cloud key: the tag says which one this answers.
            if let Ok(confirmed) = pending.open_confirm(frame) {
                return self.confirmed(context, (view, order), row, &pending, &confirmed);
            }
        }
        if known {
            // Never a NACK because a tag fails.
            return Err(Stop::Quiet);
        }
        if purpose == Purpose::CloudKeyUpdate {
            // A NACK sends the unit back to the key before, so it is only for a key that was issued and that no platform lets
            // in any more. (One above the highest is from a time that these records have lost.)
            let void = |e: &EnrolmentRow| {
                ![e.ck_staged, e.ck_active].contains(&generation.0) && generation.0 <= e.ck_highest
            };
            if !view.enrolment.as_ref().is_some_and(void) {
                return Err(Stop::Quiet);
            }
        }
        self.nack(view, order, frame, suite, purpose)
    }

    fn confirmed(
        &self,
        context: FrameContext,
        (view, order): (&AgentView, &OrderMaterial),
        row: &PendingRow,
        pending: &Pending,
        confirmed: &keywright_protocol::exchange::agent::Confirmed,
    ) -> Result<Handled, Stop> {
        let unit = context.unit;
        let inner = &self.records.0;
        let generation = pending.generation.0;
        let change = match (row.confirmed, pending.purpose) {
            // The unit did not hear message 4: it gets it again.
            (true, _) => Change::Nothing,
            (false, Purpose::CloudKeyUpdate) => {
                self.at(Point::BeforeCloud);
                // U7 leaves only after the cloud's acknowledgement of the commit.
                let at = match &view.enrolment {
                    Some(e) if e.ck_staged == generation => &e.cloud_staged,
                    Some(e) => active_place(e, order),
                    None => return Err(Stop::Quiet),
                };
                match self.cloud.activate(at, unit, generation) {
                    Ok(true) => {}
                    Ok(false) => return Err(Stop::Quiet),
                    Err(failure) if failure.code == FailureCode::RecordsFailed => return Err(failure.into()),
                    Err(failure) => return Err(Stop::Tell(failure)),
                }
                self.at(Point::AfterCloud);
                inner.confirm_cloud_key(unit, context.attempt, generation, Some(row.id))?;
                if let Some(enrolment) = inner.agent_view(unit)?.and_then(|v| v.enrolment)
                    && let Err(failure) = self.leave(unit, &enrolment)
                {
                    // The unit has its new key either way; the old place is asked again before anything else happens.
                    tracing::warn!(%failure, %unit, "the platform that the unit left does not answer");
                }
                Change::CloudKeyActive { ck_gen: generation }
            }
            (false, purpose) => {
                self.at(Point::BeforePersist);
                inner.confirm_agent_key(ConfirmKey {
                    unit,
                    attempt: context.attempt,
                    pending: row.id,
                    purpose: purpose.number(),
                    generation,
                    dik_pub: confirmed.identity().map(|k| k.0),
                })?;
                Change::AgentKeyActive { ak_gen: generation }
            }
        };
        let iv = random().map_err(no_randomness)?;
        let mut reply = vec![0u8; MAX_FRAME];
        let len = pending
            .ack(confirmed, Verdict::Activated, inner.unix_seconds(), &iv, &mut reply)
            .map_err(damaged)?;
        reply.truncate(len);
        self.at(Point::BeforeAnswer);
        Ok(Handled { reply: Some(reply), change })
    }

    /// An authentic refusal for a message 3 that no entry answers to.
    fn nack(
        &self,
        view: &AgentView,
        order: &OrderMaterial,
        frame: &[u8],
        suite: Suite,
        purpose: Purpose,
    ) -> Result<Handled, Stop> {
        let turn = self.nacks.fetch_add(1, Ordering::Relaxed);
        let (kc, base) = match purpose {
            Purpose::Init => (KeyContext::order(&order.name), order.base.clone()),
            Purpose::AgentKeyUpdate | Purpose::CloudKeyUpdate => {
                let enrolment = view.enrolment.as_ref().filter(|e| e.active).ok_or(Stop::Quiet)?;
                let Incoming::Confirm { unit, .. } = Incoming::peek(frame)? else { return Err(Stop::Quiet) };
                // Which key the exchange began under is not in message 3, and the unit repeats it until it is
                // answered: the current key and the next one take turns.
                let generation =
                    if enrolment.ak_next > 0 && turn % 2 == 1 { enrolment.ak_next } else { enrolment.ak_cur };
                let key = self.agent_key_of(UnitId(unit.0), generation)?;
                (KeyContext::unit(&unit, Generation(generation)), BaseKey::from(&key))
            }
        };
        // A unit that owes a confirmation trusts the region of the record that it committed: where it is, or where it was, or
        // is, to be taken. Those take turns, too.
        let mut regions = vec![region_of(view.enrolment.as_ref(), order)];
        if let Some(e) = view.enrolment.as_ref().filter(|_| purpose == Purpose::CloudKeyUpdate) {
            for region in [e.region_wanted, e.region_staged] {
                if region > 0 && !regions.contains(&region) {
                    regions.insert(0, region);
                }
            }
        }
        let turn = usize::try_from(turn / 2).unwrap_or_default() % regions.len();
        let region = self.region(order, regions[turn])?;
        let credentials = region.credentials();
        let credentials = (suite == Suite::Hardened).then_some(&credentials);
        let iv = random().map_err(no_randomness)?;
        let mut reply = vec![0u8; MAX_FRAME];
        let len = match nack(frame, &kc, &base, NackReason::EVICTED, credentials, &iv, &mut reply) {
            Err(error @ Error::SignerUnavailable) => {
                return Err(Self::unsigned(&region, error, FailureCode::AgentRefused).into());
            }
            made => made?,
        };
        reply.truncate(len);
        Ok(Handled { reply: Some(reply), change: Change::Nothing })
    }

    fn try_handle(&self, context: FrameContext, frame: &[u8]) -> Result<Handled, Stop> {
        let incoming = Incoming::peek(frame)?;
        let _guard = self.records.0.unit_guard(context.unit);
        let Some(view) = self.records.0.agent_view(context.unit)? else {
            return Ok(refuse(
                FailureCode::AgentRefused,
                format!("unit {} never arrived at this station", context.unit),
            ));
        };
        match view.state {
            UnitState::Quarantined => return Ok(refuse(FailureCode::Quarantined, context.unit)),
            UnitState::Scrapped => return Ok(refuse(FailureCode::Scrapped, context.unit)),
            _ if view.batch != context.batch => {
                return Ok(refuse(FailureCode::OtherBatch, format!("unit {}", context.unit)));
            }
            _ => {}
        }
        if view.enrolment.as_ref().is_some_and(|e| e.po != view.po.0) {
            return Err(Stop::Trouble(damaged("a unit is enrolled under another order than its batch's")));
        }
        let order = self.order(view.po)?;
        match incoming {
            Incoming::Request { suite, purpose, kc } => {
                self.request(context, &view, &order, frame, (suite, purpose, kc))
            }
            Incoming::Confirm { suite, purpose, unit, generation } => {
                self.confirm(context, &view, &order, frame, (suite, purpose, unit, generation))
            }
        }
    }
}

impl Agent for EmbeddedAgent {
    fn handle(&self, context: FrameContext, frame: &[u8]) -> Result<Handled, Failure> {
        match self.try_handle(context, frame) {
            Ok(handled) => Ok(handled),
            Err(Stop::Quiet) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                Ok(NOTHING)
            }
            Err(Stop::Tell(failure)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                Ok(Handled { reply: None, change: Change::Refused(failure) })
            }
            Err(Stop::Trouble(failure)) => Err(failure),
        }
    }

    fn check_proof(
        &self,
        context: FrameContext,
        challenge: &[u8; 32],
        proof: &Proof,
    ) -> Result<ProofRecord, Failure> {
        let unit = context.unit;
        let protocol_unit = ProtocolUnitId(unit.0);
        if proof.unit != protocol_unit {
            return Err(Failure::new(
                FailureCode::UidMismatch,
                format!("the chip is {unit}, the proof is of {}", proof.unit),
            ));
        }
        let _guard = self.records.0.unit_guard(unit);
        let view = self.records.0.agent_view(unit).map_err(told)?;
        let enrolment = view.and_then(|v| v.enrolment).ok_or_else(|| {
            Failure::new(FailureCode::ProofFailed, format!("unit {unit} was never given keys"))
        })?;
        let vault = self.records.key_vault();
        let key = |purpose, generation: u32, accepted: bool| -> Result<Option<SecretBytes>, Failure> {
            if generation == 0 || !accepted {
                Ok(None)
            } else {
                vault.key(unit, purpose, generation).map_err(told)
            }
        };
        let (ak, ck) = (proof.agent_key.0, proof.cloud_key.0);
        let agent = key("agent", ak, [enrolment.ak_cur, enrolment.ak_next].contains(&ak))?;
        let cloud = key("cloud", ck, ck == enrolment.ck_active)?;
        // A wrong MAC or generation is a finding about the unit, and goes on the record; a blank key is refused.
        let verdict = |checked: Result<(), Error>| match checked {
            Ok(()) => Ok(true),
            Err(Error::Blank) => Err(Failure::new(FailureCode::BlankKey, format!("unit {unit}"))),
            Err(_) => Ok(false),
        };
        let agent_mac_ok = match agent {
            Some(key) => {
                verdict(proof.verify_agent(challenge, &protocol_unit, proof.agent_key, &agent_key(&key)?))?
            }
            None => false,
        };
        let cloud_mac_ok = match cloud {
            Some(key) => verdict(proof.verify_cloud(
                challenge,
                &protocol_unit,
                proof.cloud_key,
                &cloud_key(unit, &key)?,
            ))?,
            None => false,
        };
        Ok(ProofRecord {
            challenge: hex::encode(challenge),
            generation: proof.generation.0,
            ak_gen: ak,
            ck_gen: ck,
            cloud_mac_ok,
            agent_mac_ok,
            birth_boot: String::new(),
            old_keys_refused: 0,
            lock: LockRecord::default(),
        })
    }

    fn stage_one_record(&self, po: PoId) -> Result<Vec<u8>, Failure> {
        let order = self.order(po)?;
        let anchors = self.anchors();
        let mut record = vec![0u8; MAX_RECORD];
        let len = StageOne {
            order: Order {
                order: order.name,
                region: Region(order.po.region),
                minimum_suite: order.po.suite,
            },
            product_key: &order.product_key,
            root: anchors.root(),
            bundle: Some(anchors.bundle()),
        }
        .build(&mut record)
        .map_err(damaged)?;
        record.truncate(len);
        Ok(record)
    }

    fn forget_unproved(&self, unit: UnitId, attempt: AttemptId) -> Result<(), Failure> {
        let _guard = self.records.0.unit_guard(unit);
        let Some(view) = self.records.0.agent_view(unit).map_err(told)? else { return Ok(()) };
        let Some(enrolment) = view.enrolment else { return Ok(()) };
        if view.state == UnitState::Passed {
            return Err(Failure::new(
                FailureCode::AlreadyEnrolled,
                format!("unit {unit} passed; only QA may open it for new keys"),
            ));
        }
        // The cloud first: a key that is void here must not open a door there. Repeating it changes nothing.
        self.retire_all(unit, &enrolment)?;
        self.records.0.forget_unproved(unit, attempt).map_err(told)
    }

    fn bridge_target(&self, unit: UnitId, host: &str, port: u16) -> Result<Endpoint, Failure> {
        let _guard = self.records.0.unit_guard(unit);
        let view = self.records.0.agent_view(unit).map_err(told)?;
        let (po, enrolment) = match view {
            Some(AgentView { po, enrolment: Some(enrolment), .. }) => (po, enrolment),
            _ => {
                return Err(Failure::new(
                    FailureCode::BridgeRefused,
                    format!("unit {unit} was never given a cloud key"),
                ));
            }
        };
        let order = self.order(po)?;
        let active = active_place(&enrolment, &order);
        let places = [active, enrolment.cloud_staged.as_str(), enrolment.cloud_leaving.as_str()];
        let asked = places.iter().find(|at| crate::cloud::address(at) == Some((host, port)));
        let at = *asked.ok_or_else(|| {
            Failure::new(
                FailureCode::BridgeRefused,
                format!("it asks for {host}:{port}, its broker is {active}"),
            )
        })?;
        if at == active {
            self.settle(unit, &enrolment, at)?;
        }
        self.cloud.endpoint(at)
    }

    fn last_birth(&self, unit: UnitId) -> Option<Birth> {
        self.cloud.last_birth(unit)
    }

    fn try_old_credentials(&self, unit: UnitId) -> Result<u32, Failure> {
        let _guard = self.records.0.unit_guard(unit);
        let view = self.records.0.agent_view(unit).map_err(told)?;
        let Some(AgentView { po, enrolment: Some(enrolment), .. }) = view else { return Ok(0) };
        let order = self.order(po)?;
        let active = active_place(&enrolment, &order).to_owned();
        self.settle(unit, &enrolment, &active)?;
        let mut places = self.cloud.places();
        if !places.contains(&active) {
            places.push(active);
        }
        let past = |g: &u32| *g != enrolment.ck_active && *g != enrolment.ck_staged;
        let newest = (1..=enrolment.ck_highest).rev().filter(past).take(OLD_KEYS_TRIED);
        let mut refused = 0;
        for generation in newest {
            let key = self.records.key_vault().past_cloud_key(unit, generation).map_err(told)?;
            // A number that was never given out has no key to try.
            let Some(key) = key else { continue };
            let key = cloud_key(unit, &key)?;
            for at in &places {
                if self.cloud.connect(at, unit, generation, &key)?.accepted {
                    return Err(Failure::new(
                        FailureCode::OldKeyAccepted,
                        format!("{at} still lets {unit}.{generation} in"),
                    ));
                }
                refused += 1;
            }
        }
        Ok(refused)
    }

    fn order_update(&self, unit: UnitId, cloud: Option<&str>) -> Result<(), Failure> {
        let _guard = self.records.0.unit_guard(unit);
        let view = self.records.0.agent_view(unit).map_err(told)?;
        let Some(AgentView { po, enrolment: Some(enrolment), .. }) = view else {
            return Err(Failure::new(FailureCode::AgentRefused, format!("unit {unit} was never given keys")));
        };
        let order = self.order(po)?;
        match cloud {
            // A platform that does not answer is said now, not when the unit stands half-way.
            Some(url) => self.cloud.endpoint(url).map(drop)?,
            None => return Ok(()),
        }
        let here = active_place(&enrolment, &order);
        let url = cloud.filter(|url| *url != here).unwrap_or("");
        self.records.0.want_cloud(unit, url).map_err(told)
    }

    fn wake(&self, unit: UnitId, update: &str) -> Result<(), Failure> {
        let view = self.records.0.agent_view(unit).map_err(told)?;
        let Some(AgentView { enrolment: Some(enrolment), .. }) = view else {
            return Err(Failure::new(FailureCode::AgentRefused, format!("unit {unit} was never given keys")));
        };
        let at = self.place(unit, enrolment.ck_active)?;
        self.cloud.send(&at, unit, "wake", update.as_bytes())
    }
}

/// How many of a unit's past keys are tried after a change.
const OLD_KEYS_TRIED: usize = 4;

/// The region that the unit's active record is of.
pub(super) fn region_of(enrolment: Option<&EnrolmentRow>, order: &OrderMaterial) -> u32 {
    match enrolment.map_or(0, |e| e.region) {
        0 => order.po.region,
        region => region,
    }
}

/// Where the unit's active generation lives.
pub(super) fn active_place<'a>(enrolment: &'a EnrolmentRow, order: &'a OrderMaterial) -> &'a str {
    if enrolment.cloud.is_empty() { &order.po.cloud_url } else { &enrolment.cloud }
}
