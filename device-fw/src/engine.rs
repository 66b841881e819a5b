//! What a unit does, as a machine without I/O of its own: [`Engine::poll`] does whatever is due over the
//! flash, the link, the clock and the random numbers it was given.
//!
//! ```text
//!  boot ─ scan ─┬─ product key only ───────── INIT: M1 → M2 → commit → M3 → M4 → confirm ─┐
//!               ├─ pending record ─ resume ──────────────────────── M3 → M4 → confirm ─┤
//!               ├─ agent key, no cloud key ── CKU: U1 → U3 → commit → U4 → U7 → confirm ◄┘
//!               └─ both, confirmed ────────── idle; answers control; start_update() for AKU and CKU
//!  beside it, from the first cloud key on: the session with the cloud (`cloud`)
//! ```
//! Rules kept (PROTOCOL §3):
//! - D1 message 3 exists only after [`Received::commit`](keywright_protocol::exchange::Received::commit) took a
//!   `Committed` that was read from flash.
//! - D2 a pending record is resumed after every boot, for ever, with a back-off of 0.5 s … 1 h.
//! - D3 only an authentic message 4 confirms; D4 only an authentic NACK or REJECTED retires; a time-out or an
//!   ERR does neither.
//! - D5 nothing new starts while a record is pending.
//! - Every failure is a [`DeviceFailure`] on the log channel; nothing tells the peer of an exchange why its
//!   frame was dropped (§2).
//!
//! Control messages are not authenticated: they can make the unit answer or hurry, never change a key.
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

use core::mem;

use embedded_storage::nor_flash::MultiwriteNorFlash;
use heapless::Deque;
use keywright_protocol::bridge::MAX_BRIDGE;
use keywright_protocol::cert::{Cert, RegionFloor, Trust};
use keywright_protocol::control::{
    CONTROL_VERSION, CloudSession, Control, LogRecord, MAX_CONTROL, Proof, Severity, Stage, Status,
};
use keywright_protocol::exchange::{
    ConfirmEntropy, Content, Ending, ExpectAck, ExpectResponse, RequestEntropy, Start,
};
use keywright_protocol::failure::Persistence;
use keywright_protocol::keys::EphemeralSecret;
use keywright_protocol::record::{CloudRecord, Order, RecordView};
use keywright_protocol::serial::Channel;
use keywright_protocol::{
    DeviceFailure, Error, Generation, ProductOrder, PublicKey, Purpose, Region, Suite, UnitId, Xid,
};
use zeroize::Zeroize;

use crate::cloud::{Session, Wish};
use crate::store::{Area, Store, rng_failure};
use crate::traits::{Clock, Link, Rng};

/// First pause of the back-off, in milliseconds. Ten times what an exchange of two frames takes on a 115,200-baud line with an
/// agent that syncs to disk, so that hardly a frame is repeated that was not lost; and short enough that a unit whose frame is lost
/// three times in a row, as two in a thousand are at 5 %, has waited 3.5 s.
pub const BACK_OFF_FIRST: u64 = 500;
/// Longest pause of the back-off, in milliseconds.
pub const BACK_OFF_LAST: u64 = 60 * 60 * 1_000;
/// How often the same message 1 is sent before a fresh one is made. Identical bytes get the identical, cached
/// answer (A1), which is right for a lossy line and wrong for ever after an agent's mistake.
const SENDS_PER_REQUEST: u32 = 4;
/// The longest message 1.
const MAX_REQUEST: usize = 252;

/// What the unit knows about itself when it starts.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The hardware id.
    pub unit: UnitId,
    /// Firmware version: major, minor, patch, 0.
    pub firmware: [u8; 4],
    /// Top byte of RCC_CSR.
    pub reset_cause: u8,
    /// Bytes of RAM ever used, statics and stack; asked only when a Status is due, because measuring walks
    /// the painted stack.
    pub ram_high_water: fn() -> u32,
    /// Milliseconds of uptime after which an active unit asks for new keys by itself, the agent key and the cloud
    /// key in turn; 0 = only when asked.
    pub rekey_every_ms: u64,
}

/// How often units renew a key in the field unless told otherwise: every 30 days.
pub const REKEY_EVERY_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// What the caller of [`Engine::poll`] has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing is due before this time (ms since reset) unless a packet arrives.
    SleepUntil(u64),
    /// The station asked for a reset: let the link drain, then reset.
    Reset,
}

enum Exchange {
    Idle,
    Requested(ExpectResponse),
    Committed(ExpectAck),
}

/// The unit.
pub struct Engine<F, L, R, C> {
    facts: Facts,
    clock: C,
    store: Store<F>,
    link: L,
    rng: R,
    exchange: Exchange,
    session: Session,
    /// The cloud-key generation that `session` is about.
    session_key: Option<Generation>,
    /// Names this boot in the birth message.
    boot: [u8; 8],
    /// When the last update was confirmed, or the unit started.
    updated_at: u64,
    scheduled: Purpose,
    /// Message 1 as sent, for an identical repetition.
    request: heapless::Vec<u8, MAX_REQUEST>,
    sends: u32,
    /// An update asked for by [`Engine::start_update`].
    wanted: Option<Purpose>,
    ready: bool,
    pause: u64,
    sent_at: u64,
    due_at: u64,
    /// One ERR per message sent may lengthen the pause; more would let anybody silence the unit.
    err_heard: bool,
    reset_asked: bool,
    dropped_seen: u32,
    dropped_at: u64,
    last_failure: u16,
    log: Deque<LogRecord, 16>,
}

/// What certificates are checked against, copied out of the store so that the store can be written while it
/// is in use.
struct TrustFacts {
    root: PublicKey,
    root_epoch: u32,
    floor: Option<RegionFloor>,
    time_floor: u64,
    order: ProductOrder,
    unit: UnitId,
    region: Region,
    region_cert: Option<Cert>,
}

impl TrustFacts {
    fn trust(&self) -> Trust<'_> {
        Trust {
            root: &self.root,
            root_epoch: self.root_epoch,
            floors: self.floor.as_slice(),
            time_floor: self.time_floor,
            order: self.order,
            unit: self.unit,
            region: self.region,
            region_cert: self.region_cert.as_ref(),
        }
    }
}

/// The region a record binds its unit to: its region certificate's, or the order's before there is one.
fn region_of(record: &RecordView<'_>, order: &Order) -> (Region, Option<Cert>) {
    let cert = record.region_cert();
    let region = cert.as_ref().and_then(|cert| cert.fields().ok()).map(|fields| Region(fields.subject));
    (region.unwrap_or(order.region), cert)
}

impl<F: MultiwriteNorFlash, L: Link, R: Rng, C: Clock> Engine<F, L, R, C> {
    /// A unit that has not looked at its flash yet; the first [`Engine::poll`] does.
    pub const fn new(facts: Facts, flash: F, link: L, rng: R, clock: C) -> Engine<F, L, R, C> {
        Engine {
            store: Store::new(flash, facts.unit),
            session: Session::new(facts.unit, facts.firmware),
            session_key: None,
            boot: [0; 8],
            updated_at: 0,
            scheduled: Purpose::AgentKeyUpdate,
            facts,
            clock,
            link,
            rng,
            exchange: Exchange::Idle,
            request: heapless::Vec::new(),
            sends: 0,
            wanted: None,
            ready: false,
            pause: BACK_OFF_FIRST,
            sent_at: 0,
            due_at: 0,
            err_heard: false,
            reset_asked: false,
            dropped_seen: 0,
            dropped_at: 0,
            last_failure: 0,
            log: Deque::new(),
        }
    }

    /// Does everything that is due.
    ///
    /// The clock is read again for every step: verifying a message 2 takes more than a second of a 16 MHz
    /// core, and a pause that began before it would be over when it ends.
    pub fn poll(&mut self) -> Action {
        if !self.ready && self.clock.now_ms() >= self.due_at {
            self.boot();
        }
        while self.receive() {}
        self.watch_line();
        self.keep_schedule();
        if self.ready && self.clock.now_ms() >= self.due_at {
            self.act();
        }
        // After the exchange: its frames find room on the line first.
        self.attend_cloud();
        while let Some((failure, detail)) = self.store.take_notice() {
            self.report(failure, detail);
        }
        self.flush_log();
        if self.reset_asked {
            return Action::Reset;
        }
        let exchange = if self.is_due() { self.due_at } else { u64::MAX };
        let cloud = if self.session_key.is_some() { self.session.due_at() } else { u64::MAX };
        Action::SleepUntil(exchange.min(cloud).min(self.scheduled_at()))
    }

    /// Puts a failure on the log channel and into Status.
    pub fn report(&mut self, failure: DeviceFailure, detail: u32) {
        self.last_failure = failure.code();
        let severity = match failure.persistence() {
            Persistence::Transient => Severity::WARN,
            Persistence::Permanent => Severity::ERROR,
        };
        self.push_log(LogRecord { code: failure.code(), severity, detail });
    }

    /// Asks for a new agent key or a new cloud key under the current agent key. It survives no reset: whoever
    /// asked asks again.
    ///
    /// # Errors
    /// [`DeviceFailure::ExchangeBusy`] while a record is pending or an exchange runs (D5),
    /// [`DeviceFailure::AreaMissing`] before there is an agent key.
    pub fn start_update(&mut self, purpose: Purpose) -> Result<(), DeviceFailure> {
        let agent_key = self.store.active().and_then(|record| record.agent_key());
        if agent_key.is_none() || purpose == Purpose::Init {
            return Err(DeviceFailure::AreaMissing);
        }
        if self.store.is_pending() || !matches!(self.exchange, Exchange::Idle) {
            return Err(DeviceFailure::ExchangeBusy);
        }
        self.wanted = Some(purpose);
        self.progress();
        Ok(())
    }

    /// How far the unit has come.
    pub fn stage(&self) -> Stage {
        let Some(holds) = self.store.holds() else { return Stage::EMPTY };
        match (holds.agent_key, holds.cloud_key.is_some(), self.store.is_pending()) {
            (false, ..) => Stage::PRODUCT_KEY,
            (true, false, true) => Stage::AGENT_KEY_PENDING,
            (true, false, false) => Stage::AGENT_KEY_ACTIVE,
            (true, true, true) => match holds.owed {
                Some(Purpose::AgentKeyUpdate) => Stage::AGENT_KEY_PENDING,
                _ => Stage::CLOUD_KEY_PENDING,
            },
            (true, true, false) => Stage::ACTIVE,
        }
    }

    /// How the unit stands with its cloud.
    pub fn cloud_state(&self) -> CloudSession {
        if self.session_key.is_some() { self.session.state() } else { CloudSession::NONE }
    }

    /// The store, for tests that look inside.
    pub const fn store(&mut self) -> &mut Store<F> {
        &mut self.store
    }

    /// The link, for callers that own its other end.
    pub const fn link(&mut self) -> &mut L {
        &mut self.link
    }

    // ---- time ----

    fn boot(&mut self) {
        match self.store.boot(&mut self.rng).and_then(|()| draw(&mut self.rng)) {
            Ok(boot) => {
                self.boot = boot;
                self.ready = true;
                self.progress();
            }
            Err(failure) => {
                self.report(failure, 0);
                self.back_off();
            }
        }
    }

    /// Something moved: what comes next is due at once.
    fn progress(&mut self) {
        self.pause = BACK_OFF_FIRST;
        self.due_at = self.clock.now_ms();
        self.push_log(LogRecord { code: 0, severity: Severity::INFO, detail: u32::from(self.stage().0) });
    }

    fn back_off(&mut self) {
        let now = self.clock.now_ms();
        self.sent_at = now;
        self.err_heard = false;
        self.due_at = now.saturating_add(self.pause);
        self.pause = self.pause.saturating_mul(2).min(BACK_OFF_LAST);
    }

    /// Somebody listens. Not faster than the first pause: a station may ask for Status ten times a second.
    fn wake(&mut self) {
        self.pause = BACK_OFF_FIRST;
        let now = self.clock.now_ms();
        self.due_at = self.due_at.min(now.max(self.sent_at.saturating_add(BACK_OFF_FIRST)));
        self.session.hurry(now);
    }

    /// When the next update is due by the calendar of uptime.
    fn scheduled_at(&self) -> u64 {
        if self.facts.rekey_every_ms == 0 || self.wanted.is_some() || self.stage() != Stage::ACTIVE {
            u64::MAX
        } else {
            self.updated_at.saturating_add(self.facts.rekey_every_ms)
        }
    }

    fn keep_schedule(&mut self) {
        let now = self.clock.now_ms();
        if self.ready && now >= self.scheduled_at() {
            // Whether or not it starts, the next one is a period away.
            self.updated_at = now;
            if self.start_update(self.scheduled).is_ok() {
                self.scheduled = match self.scheduled {
                    Purpose::AgentKeyUpdate => Purpose::CloudKeyUpdate,
                    _ => Purpose::AgentKeyUpdate,
                };
            }
        }
    }

    /// The session with the cloud: it follows whatever cloud key the active record holds, pending or confirmed.
    fn attend_cloud(&mut self) {
        let key = self.store.holds().and_then(|holds| holds.cloud_key);
        if !self.ready || key.is_none() && self.session_key.is_none() {
            return;
        }
        let now = self.clock.now_ms();
        if key != self.session_key {
            self.session_key = key;
            self.session.rekeyed(now, &mut self.link);
        }
        if key.is_none() {
            return;
        }
        let Engine { session, store, link, boot, .. } = self;
        if let Err(failure) = session.poll(now, boot, || store.active(), link) {
            let generation = self.session.generation();
            self.report(failure, generation);
        }
    }

    fn is_due(&self) -> bool {
        !self.ready || !matches!(self.exchange, Exchange::Idle) || self.next_purpose().is_some()
    }

    /// What to ask for when nothing is pending. The record decides, then the wish.
    fn next_purpose(&self) -> Option<Purpose> {
        match self.stage() {
            Stage::PRODUCT_KEY => Some(Purpose::Init),
            Stage::AGENT_KEY_ACTIVE => Some(self.wanted.unwrap_or(Purpose::CloudKeyUpdate)),
            Stage::ACTIVE => self.wanted,
            _ => None,
        }
    }

    // ---- what is due ----

    fn act(&mut self) {
        let result = match &self.exchange {
            Exchange::Requested(_) if self.sends < SENDS_PER_REQUEST => {
                self.report(DeviceFailure::ExchangeNoAnswer, self.sends);
                Ok(())
            }
            Exchange::Requested(_) | Exchange::Idle if !self.store.is_pending() => {
                match self.next_purpose() {
                    Some(purpose) => self.make_request(purpose),
                    None => return,
                }
            }
            Exchange::Requested(_) | Exchange::Idle => self.resume(),
            Exchange::Committed(_) => Ok(()),
        };
        let result = result.and_then(|()| self.send());
        if let Err(failure) = result {
            self.report(failure, 0);
            self.back_off();
        }
    }

    fn make_request(&mut self, purpose: Purpose) -> Result<(), DeviceFailure> {
        self.exchange = Exchange::Idle;
        self.request.clear();
        self.sends = 0;
        let record = self.store.active().ok_or(DeviceFailure::AreaMissing)?;
        let order = record.order().ok_or(DeviceFailure::AreaInvalid)?;
        let suite = Suite::from_number(order.minimum_suite)?;
        let unit = &self.facts.unit;
        let start = match (purpose, record.agent_key()) {
            (Purpose::Init, _) => {
                let key = self.store.product_key().ok_or(DeviceFailure::ProductKeyBlank)?;
                Start::init(suite, &order.order, &key, unit)?
            }
            (Purpose::AgentKeyUpdate, Some((generation, key))) => {
                Start::agent_key_update(suite, unit, generation, &key)?
            }
            (Purpose::CloudKeyUpdate, Some((generation, key))) => {
                let cloud = record.cloud_key().map_or(Generation::NONE, |(generation, _)| generation);
                Start::cloud_key_update(suite, unit, generation, &key, cloud)?
            }
            (_, None) => return Err(DeviceFailure::AreaInvalid),
        };
        let entropy = RequestEntropy {
            xid: Xid(u32::from_be_bytes(draw(&mut self.rng)?)),
            n1: draw(&mut self.rng)?,
            iv: draw(&mut self.rng)?,
            ephemeral: EphemeralSecret::from_bytes(draw(&mut self.rng)?),
        };
        let identity = self.store.identity().ok_or(DeviceFailure::AreaMissing)?;
        let [major, minor, patch, _] = self.facts.firmware;
        self.request.resize_default(MAX_REQUEST).map_err(|_| DeviceFailure::ExchangeInternal)?;
        let (len, state) = start.request(identity, [major, minor, patch], entropy, &mut self.request)?;
        self.request.truncate(len);
        self.exchange = Exchange::Requested(state);
        Ok(())
    }

    /// D2: rebuild message 3 from the pending record.
    fn resume(&mut self) -> Result<(), DeviceFailure> {
        let owed = self.store.active().and_then(|record| record.confirmation());
        let purpose = owed.ok_or(DeviceFailure::AreaInvalid)?.purpose;
        // I5: not from the copy in RAM alone, the commit is looked up in flash again.
        self.store.committed()?;
        let base = self.store.pending_base(purpose)?;
        let xid = Xid(u32::from_be_bytes(draw(&mut self.rng)?));
        let record = self.store.active().ok_or(DeviceFailure::AreaMissing)?;
        self.exchange = Exchange::Committed(ExpectAck::resume(&record, base, xid)?);
        Ok(())
    }

    /// Sends the message of the current state and starts the next pause.
    fn send(&mut self) -> Result<(), DeviceFailure> {
        let sent = match &mut self.exchange {
            Exchange::Requested(_) => self.link.send(Channel::AGENT, &self.request),
            Exchange::Committed(state) => {
                let mut frame = [0; MAX_REQUEST];
                let entropy = ConfirmEntropy { n3: draw(&mut self.rng)?, iv: draw(&mut self.rng)? };
                let identity = self.store.identity().ok_or(DeviceFailure::AreaMissing)?;
                let len = state.confirm(identity, &entropy, &mut frame)?;
                self.link.send(Channel::AGENT, frame.get(..len).ok_or(DeviceFailure::ExchangeInternal)?)
            }
            Exchange::Idle => return Ok(()),
        };
        if sent.is_err() {
            // The transmit ring is full of what is being sent; a moment later it is not.
            self.due_at = self.clock.now_ms().saturating_add(100);
            return Ok(());
        }
        self.sends = self.sends.saturating_add(1);
        self.back_off();
        Ok(())
    }

    // ---- what arrives ----

    /// Handles one packet; false if there was none.
    fn receive(&mut self) -> bool {
        let Some(packet) = self.link.receive() else { return false };
        match packet.channel {
            Channel::CONTROL => {
                let first = packet.payload.first().copied().unwrap_or(0);
                let message = Control::decode(packet.payload);
                self.control(message, first);
            }
            Channel::AGENT => {
                let exchange = mem::replace(&mut self.exchange, Exchange::Idle);
                let facts = trust_facts(&self.store, &self.facts.unit);
                let (next, outcome) = match facts {
                    Some(facts) => take_frame(exchange, packet.payload, &facts, &mut self.store),
                    None => (exchange, Outcome::Nothing),
                };
                // Whatever was decrypted in place is a secret of the unit.
                packet.payload.zeroize();
                self.exchange = next;
                self.conclude(outcome);
            }
            Channel::TCP => {
                let now = self.clock.now_ms();
                // The link is borrowed by its packet; what the session answers goes out of a copy.
                let mut bytes = [0; MAX_BRIDGE];
                let len = packet.payload.len();
                match bytes.get_mut(..len) {
                    Some(copy) => copy.copy_from_slice(packet.payload),
                    // Longer than any packet of the bridge.
                    None => return true,
                }
                match self.session.receive(bytes.get(..len).unwrap_or(&[]), now, &mut self.link) {
                    Ok(Some(Wish::Update(purpose))) => {
                        // A unit that is busy has heard it all the same.
                        let _ = self.start_update(purpose);
                    }
                    Ok(None) => {}
                    Err(failure) => self.report(failure, 0),
                }
            }
            // Log records only travel the other way, and a newer station may know channels that we do not.
            _ => {}
        }
        true
    }

    fn conclude(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Nothing => {}
            Outcome::Committed => {
                self.sends = 0;
                self.progress();
            }
            Outcome::Confirmed { time } => {
                self.wanted = None;
                self.updated_at = self.clock.now_ms();
                if let Err(failure) = self.store.raise_time_floor(time) {
                    self.report(failure, 0);
                }
                self.progress();
            }
            // The back-off goes on: an agent that refuses again and again is not hurried.
            Outcome::Retired(failure, detail) => self.report(failure, detail),
            Outcome::Failed(failure) => {
                self.report(failure, 0);
                self.sends = SENDS_PER_REQUEST;
            }
            Outcome::Dropped(Error::PeerBusy(reason)) => {
                if !self.err_heard {
                    self.err_heard = true;
                    self.report(DeviceFailure::ExchangeBusy, u32::from(reason));
                    self.due_at = self.due_at.max(self.clock.now_ms().saturating_add(self.pause));
                }
            }
            Outcome::Dropped(reason) => {
                let failure = DeviceFailure::from(reason);
                self.report(failure, 0);
                // Authentic but wrong: the agent would give the same cached answer to the same request.
                if !matches!(failure, DeviceFailure::FrameRefused | DeviceFailure::ExchangeNotAuthentic) {
                    self.sends = SENDS_PER_REQUEST;
                }
            }
        }
    }

    fn control(&mut self, message: Result<Control, Error>, first: u8) {
        let answer = match message {
            Ok(Control::StatusRequest) => {
                self.wake();
                Control::Status(self.status())
            }
            Ok(Control::Wake) => {
                self.wake();
                return;
            }
            Ok(Control::Reset) => {
                self.reset_asked = true;
                return;
            }
            Ok(Control::Update { purpose }) => match self.start_update(purpose) {
                Ok(()) => Control::Status(self.status()),
                Err(failure) => Control::Refused { request: first, failure: failure.code() },
            },
            Ok(Control::ProveRequest { challenge }) => match self.prove(&challenge) {
                Ok(proof) => Control::Proof(proof),
                Err(failure) => {
                    self.report(failure, 0);
                    Control::Refused { request: first, failure: failure.code() }
                }
            },
            // Our own kinds of answer, echoed back by a crossed wire: never answer an answer.
            Ok(Control::Status(_) | Control::Proof(_) | Control::Refused { .. }) => return,
            Err(reason) => {
                let failure = match reason {
                    Error::UnknownMessage { .. } => DeviceFailure::ControlUnknown,
                    _ => DeviceFailure::FrameRefused,
                };
                self.report(failure, u32::from(first));
                Control::Refused { request: first, failure: failure.code() }
            }
        };
        let mut out = [0; MAX_CONTROL];
        if let Ok(len) = answer.encode(&mut out)
            && let Some(bytes) = out.get(..len)
        {
            // A full ring loses the answer; the station's request is repeated, and a backlog is no place for
            // an old Status.
            let _ = self.link.send(Channel::CONTROL, bytes);
        }
    }

    fn status(&self) -> Status {
        let record = self.store.active();
        let order = record.as_ref().and_then(RecordView::order);
        let generation = |g: Option<Generation>| g.unwrap_or(Generation::NONE);
        Status {
            proto_ver: CONTROL_VERSION,
            fw_ver: self.facts.firmware,
            unit: self.facts.unit,
            stage: self.stage(),
            suite: order.as_ref().map_or(0, |order| order.minimum_suite),
            area_a: self.store.area_status(Area::A),
            area_b: self.store.area_status(Area::B),
            generation: generation(record.as_ref().map(RecordView::generation)),
            agent_key: generation(record.as_ref().and_then(|r| r.agent_key()).map(|(g, _)| g)),
            cloud_key: generation(record.as_ref().and_then(|r| r.cloud_key()).map(|(g, _)| g)),
            region: match (&record, &order) {
                (Some(record), Some(order)) => region_of(record, order).0,
                _ => Region(0),
            },
            order: order.map_or(ProductOrder([0; 16]), |order| order.order),
            last_failure: self.last_failure,
            reset_cause: self.facts.reset_cause,
            uptime_ms: self.clock.now_ms() as u32,
            stack_high_water: (self.facts.ram_high_water)(),
            cloud: self.cloud_state(),
        }
    }

    fn prove(&mut self, challenge: &[u8; 32]) -> Result<Proof, DeviceFailure> {
        // A proof speaks for what is installed: flash is read again and its MAC checked, not only our copy.
        self.store.committed()?;
        let record = self.store.active().ok_or(DeviceFailure::AreaMissing)?;
        let (agent_generation, agent) = record.agent_key().ok_or(DeviceFailure::AreaMissing)?;
        let (cloud_generation, cloud) = record.cloud_key().ok_or(DeviceFailure::AreaMissing)?;
        Ok(Proof::compute(
            challenge,
            &self.facts.unit,
            record.generation(),
            (agent_generation, &agent),
            (cloud_generation, &cloud),
        ))
    }

    // ---- log ----

    /// Damaged packets, at most one record a second however much the line babbles.
    fn watch_line(&mut self) {
        let dropped = self.link.dropped();
        let now = self.clock.now_ms();
        if dropped != self.dropped_seen && now >= self.dropped_at {
            self.dropped_seen = dropped;
            self.dropped_at = now.saturating_add(1_000);
            self.report(DeviceFailure::PacketDropped, dropped);
        }
    }

    fn push_log(&mut self, record: LogRecord) {
        if self.log.is_full() {
            // The newest say most; the first ones have had their chance to leave.
            self.log.pop_front();
        }
        // Cannot fail: room was made.
        let _ = self.log.push_back(record);
    }

    fn flush_log(&mut self) {
        while let Some(record) = self.log.front() {
            if self.link.send(Channel::LOG, &record.to_bytes()).is_err() {
                return;
            }
            self.log.pop_front();
        }
    }
}

fn draw<const N: usize, R: Rng>(rng: &mut R) -> Result<[u8; N], DeviceFailure> {
    let mut out = [0; N];
    rng.fill(&mut out).map_err(rng_failure)?;
    Ok(out)
}

/// What a frame came to, without anything borrowed from it.
enum Outcome {
    /// No exchange waits for anything.
    Nothing,
    Dropped(Error),
    /// A new record is committed, message 3 is due.
    Committed,
    Confirmed {
        time: u64,
    },
    Retired(DeviceFailure, u32),
    /// The frame was good, we were not.
    Failed(DeviceFailure),
}

fn trust_facts<F: MultiwriteNorFlash>(store: &Store<F>, unit: &UnitId) -> Option<TrustFacts> {
    let record = store.active()?;
    let order = record.order()?;
    let trust = store.trust()?;
    let (region, region_cert) = region_of(&record, &order);
    Some(TrustFacts {
        root: trust.root.key,
        root_epoch: trust.root.epoch,
        floor: trust
            .revocation
            .map(|revocation| RegionFloor { region: revocation.region, min_epoch: revocation.min_epoch }),
        time_floor: trust.time_floor.unwrap_or(0),
        order: order.order,
        unit: *unit,
        region,
        region_cert,
    })
}

fn take_frame<F: MultiwriteNorFlash>(
    exchange: Exchange,
    frame: &mut [u8],
    facts: &TrustFacts,
    store: &mut Store<F>,
) -> (Exchange, Outcome) {
    match exchange {
        // A repeated answer to something long done.
        Exchange::Idle => (Exchange::Idle, Outcome::Nothing),
        Exchange::Requested(state) => match state.handle(frame, &facts.trust()) {
            Err(dropped) => (Exchange::Requested(dropped.state), Outcome::Dropped(dropped.reason)),
            Ok(received) => {
                let result = match received.content() {
                    Content::AgentKey(_) => Ok(()),
                    Content::CloudRecord(record) => check_first_certs(record, facts, store),
                };
                let committed = result.and_then(|()| store.commit(&received));
                match committed.and_then(|proof| received.commit(&proof).map_err(DeviceFailure::from)) {
                    Ok(state) => (Exchange::Committed(state), Outcome::Committed),
                    Err(failure) => (Exchange::Idle, Outcome::Failed(failure)),
                }
            }
        },
        Exchange::Committed(state) => match state.handle(frame, &facts.trust()) {
            Err(dropped) => (Exchange::Committed(dropped.state), Outcome::Dropped(dropped.reason)),
            Ok(Ending::Activated(activated)) => match store.confirm() {
                Ok(()) => (Exchange::Idle, Outcome::Confirmed { time: activated.time() }),
                Err(failure) => (Exchange::Idle, Outcome::Failed(failure)),
            },
            Ok(Ending::Refused(refused)) => match store.retire() {
                Ok(()) => {
                    let (failure, detail) = match refused.nack() {
                        Some(reason) => (DeviceFailure::ExchangeNacked, u32::from(reason.0)),
                        None => (DeviceFailure::ExchangeRejected, 0),
                    };
                    (Exchange::Idle, Outcome::Retired(failure, detail))
                }
                Err(failure) => (Exchange::Idle, Outcome::Failed(failure)),
            },
        },
    }
}

/// The protocol verifies the certificates that a cloud record brings. A unit asks for more: after the commit
/// it must hold both, and the first ones must be of the region it was ordered for; only a unit that already
/// has a region certificate can be moved.
fn check_first_certs<F: MultiwriteNorFlash>(
    record: &CloudRecord<'_>,
    facts: &TrustFacts,
    store: &Store<F>,
) -> Result<(), DeviceFailure> {
    let current = store.active().ok_or(DeviceFailure::AreaMissing)?;
    if let (None, Some(cert)) = (&facts.region_cert, record.region_cert()) {
        let subject = cert.fields()?.subject;
        if subject != facts.region.0 {
            return Err(DeviceFailure::TrustRegion);
        }
    }
    let has_region = facts.region_cert.is_some() || record.region_cert().is_some();
    let has_device = current.device_cert().is_some() || record.device_cert().is_some();
    if has_region && has_device { Ok(()) } else { Err(DeviceFailure::TrustRole) }
}
