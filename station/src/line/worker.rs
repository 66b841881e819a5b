//! One fixture's worker: takes the unit that lies in it from wherever it is to PASS, or says why not.
//!
//! Invariants:
//! - An attempt is open in the records before anything touches the board, and it always gets its end.
//! - Every irreversible act (flashing, voiding keys, passing) has a row before it and a row after it. What the agent
//!   does has its rows written by the agent.
//! - Cancel takes effect between acts, never inside one.
//! - The worker that is tested is the worker that runs: hardware is behind [`Bench`] and [`Link`].

use super::bench::{Bench, Cancel, Link, Received, Retry};
use super::bridge::Bridge;
use super::lock::OptionRequest;
use super::next::{DeviceStatus, NextStep, Refusal, Reported, UnitRecordView, next_step};
use super::{Event, Step, Update, Work};
use crate::agent::{Agent, Birth, Change, FrameContext};
use crate::compare::{self, Report};
use crate::failure::{Failure, FailureCode};
use crate::image::{CommonImage, StageOne};
use crate::label::desk::{Said, Turn};
use crate::label::{self, LabelCode, LabelDesk};
use crate::model::{
    AttemptId, Batch, LabelPolicy, LockRecord, Outcome, ProductOrder, ProofRecord, Unit, UnitId, UnitState,
};
use crate::records::{Records, RecordsError};
use keywright_protocol::control::{
    CONTROL_VERSION, Control, LogRecord, MAX_CONTROL, Proof, Severity, Status,
};
use keywright_protocol::failure::Persistence;
use keywright_protocol::serial::Channel;
use keywright_protocol::{DeviceFailure, Generation, Purpose};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// First byte of a Status on channel 1, whatever its version.
const STATUS_TYPE: u8 = 0x81;
/// So many bytes without one valid packet are babble, not noise.
const BABBLE: u64 = 4096;
/// Below this, what came before silence was noise of a starting chip.
const NOISE: u64 = 64;
/// Numbers of the unit's failures that are about its cloud (`DeviceFailure`).
const CLOUD_GROUP: u16 = 8;
/// Parts of the step that proves.
const PROVE_PARTS: u64 = 5;
/// A worker that needs more steps than this goes round in circles.
const MAX_STEPS: u32 = 16;
/// How long one look at the line takes at most: a cancel is seen, and the bridge served, this often.
const LISTEN: Duration = Duration::from_millis(50);
/// Progress within one label is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);

/// Seconds by step.
type Seconds = [f64; Step::ALL.len()];
const NO_SECONDS: Seconds = [0.0; Step::ALL.len()];

/// How long the worker waits for what.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// For the first answer after a reset.
    pub answer: Duration,
    /// Between two requests that were not answered.
    pub ask_again: Duration,
    /// How long an exchange may stand still.
    pub exchange: Duration,
    /// Silence after which the probe is asked whether the board is still there.
    pub suspicious: Duration,
    /// Pause between two tries on hardware.
    pub pause: Duration,
    /// For the login at its cloud after the proof.
    pub cloud: Duration,
    /// For a person to take a locked unit's power away and give it back.
    pub power: Duration,
    /// For a person to stick the label on and scan it.
    pub scan: Duration,
    /// Between two looks of the preflight while a check fails: somebody may have seen to it.
    pub check_again: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(15),
            ask_again: Duration::from_secs(2),
            exchange: Duration::from_secs(60),
            suspicious: Duration::from_secs(6),
            pause: Duration::from_millis(500),
            cloud: Duration::from_secs(45),
            power: Duration::from_secs(120),
            scan: Duration::from_secs(300),
            check_again: Duration::from_secs(15),
        }
    }
}

/// What a worker works with, the same for every attempt.
pub struct Worker {
    /// Fixture name.
    pub fixture: String,
    /// Probe and port.
    pub bench: Box<dyn Bench>,
    /// The records.
    pub records: Arc<dyn Records>,
    /// The agent.
    pub agent: Arc<dyn Agent>,
    /// The common image.
    pub image: Option<PathBuf>,
    /// Waiting times.
    pub timing: Timing,
    /// The label printer and the turn to use it.
    pub labels: LabelDesk,
    /// Where events go.
    pub events: Box<dyn Fn(Event) + Send>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("fixture", &self.fixture).finish_non_exhaustive()
    }
}

/// Under whose batch and name a unit runs.
#[derive(Clone, Debug)]
pub struct Order {
    /// The batch.
    pub batch: Batch,
    /// The person.
    pub operator: String,
    /// What for.
    pub work: Work,
}

/// How an attempt ended, as told in its `Finished` event.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The unit, if it was ever identified.
    pub unit: Option<UnitId>,
    /// Its outcome.
    pub outcome: Outcome,
    /// Why not PASS.
    pub failure: Option<Failure>,
}

/// A refusal of the records, as people read it.
pub(crate) fn records_failure(error: RecordsError) -> Failure {
    match error {
        RecordsError::Refused(failure) => *failure,
        other => Failure::new(FailureCode::RecordsFailed, other),
    }
}

impl Worker {
    /// Runs one attempt to its end; `Finished` is its last event.
    pub fn run(&mut self, order: &Order, cancel: &Cancel) -> Ended {
        let began = Instant::now();
        let (batch, fixture, operator) = (order.batch.id, &self.fixture, &order.operator);
        let opened = match order.work {
            Work::Make => self.records.begin_attempt(batch, fixture, operator),
            // A batch that is closed does not stand in the way of units that come back.
            Work::Update(_) | Work::Reprovision { .. } => self.records.begin_update(batch, fixture, operator),
            Work::Retest(_) => self.records.begin_retest(batch, fixture, operator),
            Work::Compare(_) => Ok(AttemptId(0)),
        };
        let id = match opened {
            Ok(id) => id,
            Err(error) => {
                let failure = records_failure(error);
                (self.events)(Event::Station { failure: failure.clone() });
                return self.tell_end(AttemptId(0), order.work.qa(), None, Err(failure), NO_SECONDS, began);
            }
        };
        (self.events)(Event::Started {
            fixture: self.fixture.clone(),
            attempt: id,
            batch: order.batch.name.clone(),
        });
        let mut run = Run {
            id,
            order,
            cancel,
            po: None,
            unit: None,
            link: None,
            step: None,
            seconds: NO_SECONDS,
            locked: false,
            complaint: None,
            told: None,
            held: None,
            proof: None,
            bridge: Bridge::new(self.agent.clone()),
            cloud_complaint: None,
            seen_since: Instant::now(),
            worker: self,
        };
        // A defect in this program must cost one attempt, not the fixture; what a panic left behind is dropped here.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match order.work {
            Work::Compare(unit) => run.look(unit).map(|()| None),
            _ => run.drive().map(Some),
        }));
        let mut result = result.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Err(Failure::new(FailureCode::StationFault, text))
        });
        run.close_step();
        let (unit, seconds, kept) = (run.unit.take(), run.seconds, run.proof.take());
        drop(run);
        self.bench.release();

        if id.0 == 0 {
            // A look is no attempt; what the unit said stands in its history.
            return self.tell_end(id, order.work.qa(), unit, result.map(drop), seconds, began);
        }
        let (outcome, failure, proof) = match &result {
            Ok(proof) => (Outcome::Pass, None, proof.as_ref()),
            // What was proved of a locked unit holds for the next start, which then has only the label to do.
            Err(failure) => (failure.outcome(), Some(failure), kept.as_ref()),
        };
        // The operator's cancel does not cancel the record of it.
        let written = Retry { tries: 3, pause: self.timing.pause }.run(&Cancel::default(), |_| {
            self.records.finish_attempt(id, outcome, failure, proof).map_err(records_failure)
        });
        if let Err(failure) = written {
            (self.events)(Event::Station { failure: failure.clone() });
            if result.is_ok() {
                result = Err(failure);
            }
        }
        self.tell_end(id, order.work.qa(), unit, result.map(drop), seconds, began)
    }

    fn tell_end(
        &self,
        attempt: AttemptId,
        qa: Option<UnitId>,
        unit: Option<Unit>,
        result: Result<(), Failure>,
        step_seconds: Seconds,
        began: Instant,
    ) -> Ended {
        let failure = result.err();
        let outcome = failure.as_ref().map_or(Outcome::Pass, Failure::outcome);
        (self.events)(Event::Finished {
            fixture: self.fixture.clone(),
            attempt,
            unit: unit.as_ref().map(|u| u.id),
            serial: unit.as_ref().map(|u| u.serial.clone()),
            outcome,
            failure: failure.clone(),
            step_seconds,
            seconds: began.elapsed().as_secs_f64(),
            qa,
        });
        Ended { unit: unit.map(|u| u.id), outcome, failure }
    }
}

/// Where an exchange shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// Both keys active.
    Enrolled,
    /// This key active, and newer than `from`; the unit was asked over its serial line if `asked`, else by its cloud.
    Renewed { purpose: Purpose, from: Generation, asked: bool },
}

impl Order {
    /// Nothing on the unit may change.
    const fn is_retest(&self) -> bool {
        matches!(self.work, Work::Retest(_))
    }

    /// The update that a unit is started for, if it is.
    fn update(&self) -> Option<&Update> {
        match &self.work {
            Work::Update(update) => Some(update),
            Work::Reprovision { update, .. } => update.as_ref(),
            Work::Make | Work::Retest(_) | Work::Compare(_) => None,
        }
    }
}

/// What a unit said, checked as far as the station can.
enum Heard {
    Status(Status),
    Proof(Proof),
    Refused { request: u8, failure: u16 },
    Frame(Vec<u8>),
    Other,
}

/// One attempt on its way.
struct Run<'a> {
    worker: &'a mut Worker,
    id: AttemptId,
    order: &'a Order,
    cancel: &'a Cancel,
    po: Option<ProductOrder>,
    unit: Option<Unit>,
    link: Option<Box<dyn Link>>,
    step: Option<(Step, Instant)>,
    seconds: Seconds,
    /// The chip is at read protection level 1. A debugger's look stops it until its power was off, so from the first answer on
    /// it is reached by its serial port and its reset pin alone, and looked at again only when all else is done.
    locked: bool,
    /// The last permanent error that the unit itself reported.
    complaint: Option<LogRecord>,
    told: Option<(String, Instant)>,
    /// The last frame that came while something else was waited for: it is answered when the exchange begins.
    held: Option<Vec<u8>>,
    /// What was proved of a unit that is locked and lacks its label only.
    proof: Option<ProofRecord>,
    /// The unit's modem while it lies here.
    bridge: Bridge,
    /// The last thing the unit said about its cloud.
    cloud_complaint: Option<LogRecord>,
    /// When it was last let run from its reset: a birth from before it says nothing.
    seen_since: Instant,
}

impl Run<'_> {
    fn drive(&mut self) -> Result<ProofRecord, Failure> {
        self.begin_step(Step::Arrive);
        let po = self.worker.records.product_order(self.order.batch.po).map_err(records_failure)?;
        let path = self.worker.image.clone().ok_or_else(|| {
            Failure::new(FailureCode::ImageMissing, "station.toml names no image ([station] image = …)")
        })?;
        // Files and ports first: whatever is wrong with them is said before a board is touched.
        let image = Arc::new(CommonImage::load(&path, &po)?);
        let retry = Retry { tries: 3, pause: self.worker.timing.pause };
        self.progress(Step::Arrive, "opening the serial port", 0, 3);
        self.link = Some(retry.run(self.cancel, |_| self.worker.bench.open_link())?);
        self.progress(Step::Arrive, "connecting to the chip", 1, 3);
        // Only what may pass by itself is tried again: an empty fixture takes the probe seconds to be sure of.
        let chip = retry.run(self.cancel, |_| match self.worker.bench.attach() {
            Err(failure) if failure.code != FailureCode::NoTarget => Err(failure),
            settled => Ok(settled),
        })??;
        chip.check()?;
        self.locked = chip.is_locked();
        if self.locked && self.worker.records.unit(chip.unit).map_err(records_failure)?.is_none() {
            return Err(Failure::new(FailureCode::ReadProtected, format!("level 1 (RDP {:#04x})", chip.rdp)));
        }
        if let Some(unit) = self.order.work.qa()
            && chip.unit != unit
        {
            // Before anything is written down about it: it is not this one's turn.
            return Err(Failure::new(
                FailureCode::OtherUnit,
                format!("{} lies there, {unit} is wanted", chip.unit),
            ));
        }
        if self.order.update().is_some() {
            // A board that is no unit yet must not become one by being asked for new keys.
            let known = self.worker.records.unit(chip.unit).map_err(records_failure)?;
            if known.is_none_or(|u| u.state != UnitState::Passed) {
                return Err(Failure::new(FailureCode::NothingToRenew, chip.unit));
            }
        }
        if self.order.is_retest() {
            let known = self.worker.records.unit(chip.unit).map_err(records_failure)?;
            let state = known.map_or("not known here", |u| u.state.as_str());
            if state != UnitState::Passed.as_str() {
                let facts = format!("unit {} is {state}, not passed", chip.unit);
                return Err(Failure::new(FailureCode::RetestRefused, facts));
            }
        }
        let unit = self.worker.records.bind_unit(self.id, chip.unit).map_err(records_failure)?;
        (self.worker.events)(Event::Identified {
            fixture: self.worker.fixture.clone(),
            attempt: self.id,
            unit: unit.id,
            serial: unit.serial.clone(),
            resumed: unit.attempts > 1 || unit.interrupted,
        });
        self.unit = Some(unit);
        let record = self.worker.agent.stage_one_record(po.id)?;
        self.po = Some(po);
        if let Some(proof) = self.lacks_its_label_only()? {
            self.proof = Some(proof.clone());
            self.label()?;
            return Ok(proof);
        }
        let stage_one = StageOne::new(image, record);
        self.progress(Step::Arrive, "comparing the flash", 2, 3);
        let mut device = if self.locked {
            DeviceStatus::Locked
        } else {
            let contents = self.worker.bench.inspect(&stage_one).map_err(|f| self.who_is_there(f))?;
            DeviceStatus::seen(&contents)
        };
        for _ in 0..MAX_STEPS {
            self.cancel.check()?;
            let known = self.refresh()?;
            let record = UnitRecordView {
                state: known.state,
                same_batch: known.batch == self.order.batch.id,
                locked: self.locked,
                reopened: known.state == UnitState::Flashing && self.is_reopened()?,
            };
            let step = next_step(&record, &device);
            if self.order.update().is_some()
                && !matches!(step, NextStep::Ask | NextStep::CloudKey | NextStep::Prove)
            {
                let NextStep::Refuse(refusal) = step else {
                    return Err(Failure::new(FailureCode::NothingToRenew, format!("unit {}", known.serial)));
                };
                return Err(refusal.failure());
            }
            if self.order.is_retest()
                && !matches!(step, NextStep::Ask | NextStep::Prove | NextStep::Refuse(_))
            {
                let facts =
                    format!("unit {} stands in the middle of a key change; give it new keys", known.serial);
                return Err(Failure::new(FailureCode::RetestRefused, facts));
            }
            tracing::debug!(fixture = self.worker.fixture, unit = %known.id, ?record, ?device, ?step, "next");
            if let (NextStep::Flash { .. } | NextStep::Adopt { .. }, Some(po)) = (step, &self.po)
                && po.key_invalid_at_ms.is_some()
            {
                // Units that have their keys go on; none is made under this one any more.
                return Err(Failure::new(FailureCode::ProductKeyInvalid, &po.name));
            }
            device = match step {
                NextStep::Erase => self.erase(&stage_one)?,
                NextStep::Flash { forget } => self.flash(&stage_one, forget)?,
                NextStep::Adopt { forget } => self.adopt(forget)?,
                NextStep::Ask => {
                    if device == DeviceStatus::StageOne {
                        self.begin_step(Step::AgentKey);
                    }
                    self.ask()?
                }
                NextStep::AgentKey => self.exchange(Step::AgentKey, &Goal::Enrolled)?,
                NextStep::CloudKey => self.exchange(Step::CloudKey, &Goal::Enrolled)?,
                NextStep::Prove => {
                    if let Some(update) = self.order.update() {
                        self.update(update)?;
                    }
                    let proof = self.prove()?;
                    let proof = self.lock(proof)?;
                    if self.locked {
                        self.proof = Some(proof.clone());
                    }
                    self.label()?;
                    return Ok(proof);
                }
                NextStep::Refuse(Refusal::Silent) => return Err(self.silence()),
                NextStep::Refuse(refusal) => return Err(refusal.failure()),
            };
        }
        Err(Failure::new(
            FailureCode::StationFault,
            format!("no end after {MAX_STEPS} steps, last {device:?}"),
        ))
    }

    /// Asks the unit what it says of itself. No debugger looks at it: a locked unit would stand still afterwards (ADR 14).
    fn look(&mut self, unit: UnitId) -> Result<(), Failure> {
        const PARTS: u64 = 2;
        self.begin_step(Step::Arrive);
        let known = self.worker.records.unit(unit).map_err(records_failure)?;
        let known = known.ok_or_else(|| {
            Failure::new(FailureCode::InvalidInput, format!("no unit {unit} was ever here"))
        })?;
        let (events, fixture) = (&self.worker.events, self.worker.fixture.clone());
        let serial = known.serial.clone();
        events(Event::Identified { fixture, attempt: self.id, unit, serial, resumed: false });
        self.unit = Some(known);
        let retry = Retry { tries: 3, pause: self.worker.timing.pause };
        self.progress(Step::Arrive, "opening the serial port", 0, PARTS);
        self.link = Some(retry.run(self.cancel, |_| self.worker.bench.open_link())?);
        self.progress(Step::Arrive, "asking the unit what it says of itself", 1, PARTS);
        let timing = self.worker.timing;
        let (pull_at, began) = (Instant::now() + timing.ask_again * 2, Instant::now());
        let (mut pulled, mut wanted) = (false, false);
        let (mut ask_at, mut until) = (Instant::now(), Instant::now() + timing.answer);
        let status = loop {
            self.cancel.check()?;
            let now = Instant::now();
            if now >= until {
                return Err(Failure::new(
                    if wanted { FailureCode::PowerNeeded } else { FailureCode::DeviceSilent },
                    "",
                ));
            }
            if now >= pull_at && !pulled {
                // It may have been stopped by a look for boards. Its pin wakes one that is not locked; where there is no pin,
                // there is its power.
                pulled = true;
                self.worker.bench.release();
                match self.worker.bench.pull_reset() {
                    Ok(()) => self.link()?.clear(),
                    Err(failure) => tracing::debug!(%failure, "its reset was not pulled"),
                }
            }
            if now >= began + timing.answer / 2 && !wanted {
                (wanted, until) = (true, now + timing.power);
                self.progress(Step::Arrive, "locked: take its power away and give it back", 0, 0);
            }
            if now >= ask_at {
                self.send(Control::StatusRequest)?;
                ask_at = now + timing.ask_again / 2;
            }
            if let Some(Heard::Status(status)) = self.listen(LISTEN)? {
                break status;
            }
        };
        self.event(compare::REPORTED, json!(Report::from(&status)), None)
    }

    fn id(&self) -> UnitId {
        self.unit.as_ref().map_or(UnitId([0; 12]), |u| u.id)
    }

    fn refresh(&mut self) -> Result<Unit, Failure> {
        let known = self.worker.records.unit(self.id()).map_err(records_failure)?;
        let known = known.ok_or_else(|| {
            Failure::new(FailureCode::RecordsFailed, format!("unit {} has no row", self.id()))
        })?;
        self.unit = Some(known.clone());
        Ok(known)
    }

    fn event(&self, kind: &str, detail: serde_json::Value, state: Option<UnitState>) -> Result<(), Failure> {
        // A look has no attempt.
        let attempt = (self.id.0 > 0).then_some(self.id);
        self.worker.records.unit_event(self.id(), attempt, kind, detail, state).map_err(records_failure)
    }

    /// QA ordered a new start, and the old identity is dead everywhere.
    fn is_reopened(&self) -> Result<bool, Failure> {
        let orders = self.worker.records.reprovisions(self.id()).map_err(records_failure)?;
        Ok(orders.iter().any(|o| o.ended_at_ms.is_none() && o.revoked))
    }

    /// Takes the lock off a unit whose keys are dead: the chip erases all of its flash first, and then takes writes again.
    fn erase(&mut self, stage_one: &StageOne) -> Result<DeviceStatus, Failure> {
        self.begin_step(Step::Flash);
        let before = self.worker.bench.option_bytes()?;
        self.event("erase-begin", json!({ "before": before }), None)?;
        let request = OptionRequest::erase_and_open(before)?;
        let (id, fixture) = (self.id, self.worker.fixture.clone());
        let Worker { bench, events, .. } = &mut *self.worker;
        let mut tell = |p: super::bench::FlashProgress| {
            events(Event::Progress {
                fixture: fixture.clone(),
                attempt: id,
                step: Step::Flash,
                label: p.label,
                done: p.done,
                total: p.total,
            });
        };
        let open = bench.set_option_bytes(&request, &mut tell)?;
        let writable = bench.set_option_bytes(&OptionRequest::writable(open)?, &mut tell)?;
        self.still_there()?;
        self.event("erase-end", json!({ "observed": writable }), None)?;
        self.locked = false;
        let contents = self.worker.bench.inspect(stage_one).map_err(|f| self.who_is_there(f))?;
        Ok(DeviceStatus::seen(&contents))
    }

    fn flash(&mut self, stage_one: &StageOne, forget: bool) -> Result<DeviceStatus, Failure> {
        self.begin_step(Step::Flash);
        if let Some(po) = &self.po {
            self.worker.records.pin_image(po.id, &stage_one.image.sha256).map_err(records_failure)?;
        }
        self.event(
            "flash-begin",
            json!({ "image": stage_one.image.sha256, "version": stage_one.image.version }),
            Some(UnitState::Flashing),
        )?;
        let began = Instant::now();
        let Self { worker, told, id, .. } = self;
        let (events, fixture) = (&worker.events, &worker.fixture);
        let done = worker.bench.flash(stage_one, &mut |p| {
            // Thousands of pages a minute: tell what a person can see.
            let due =
                told.as_ref().is_none_or(|(label, at)| *label != p.label || at.elapsed() >= PROGRESS_EVERY);
            if due || p.done == p.total {
                *told = Some((p.label.clone(), Instant::now()));
                events(Event::Progress {
                    fixture: fixture.clone(),
                    attempt: *id,
                    step: Step::Flash,
                    label: p.label,
                    done: p.done,
                    total: p.total,
                });
            }
        });
        if let Err(failure) = done {
            let failure = self.who_is_there(failure);
            self.event("flash-failed", json!({ "failure": failure.code.to_string() }), None)?;
            return Err(failure);
        }
        if forget {
            self.worker.agent.forget_unproved(self.id(), self.id)?;
        }
        self.event(
            "flash-end",
            json!({ "image": stage_one.image.sha256, "ms": began.elapsed().as_millis() as u64 }),
            Some(UnitState::StageOne),
        )?;
        Ok(DeviceStatus::StageOne)
    }

    fn adopt(&mut self, forget: bool) -> Result<DeviceStatus, Failure> {
        if forget {
            self.worker.agent.forget_unproved(self.id(), self.id)?;
        }
        self.event("stage-one-found", json!({}), Some(UnitState::StageOne))?;
        Ok(DeviceStatus::StageOne)
    }

    /// Resets the unit, lets it run and makes sure that it is still the same one.
    fn restart(&mut self) -> Result<(), Failure> {
        let unit = if self.locked {
            self.worker.bench.pull_reset()?;
            None
        } else {
            Some(self.worker.bench.restart()?)
        };
        // What the pins said while nobody drove them means nothing, and what was said before the reset is void.
        self.seen_since = Instant::now();
        self.held = None;
        self.bridge.hang_up();
        if let Some(link) = &mut self.link {
            link.clear();
        }
        match unit {
            Some(unit) => self.same_unit(unit),
            None => Ok(()),
        }
    }

    /// Brings a locked unit back to life: the look that told its id has stopped it (RM0090 §3.6.3), and only its power-on
    /// starts it again. One that speaks without has a milder chip.
    fn revive(&mut self) -> Result<(), Failure> {
        self.worker.bench.release();
        self.restart()?;
        let timing = self.worker.timing;
        let (ask_at, until) = (Instant::now() + timing.ask_again, Instant::now() + timing.power);
        let mut asked = false;
        loop {
            self.cancel.check()?;
            if let Some(heard) = self.listen(LISTEN)? {
                if let Heard::Frame(frame) = heard {
                    self.held = Some(frame);
                }
                return Ok(());
            }
            let now = Instant::now();
            if now >= until {
                return Err(Failure::new(FailureCode::PowerNeeded, ""));
            }
            if now >= ask_at && !asked {
                asked = true;
                let step = self.step.map_or(Step::Arrive, |(step, _)| step);
                self.progress(step, "locked: take its power away and give it back", 0, 0);
            }
        }
    }

    fn same_unit(&self, now: UnitId) -> Result<(), Failure> {
        if now == self.id() {
            Ok(())
        } else {
            Err(Failure::new(FailureCode::UnitSwapped, format!("{} began, {now} is there now", self.id())))
        }
    }

    fn ask(&mut self) -> Result<DeviceStatus, Failure> {
        if self.locked {
            self.revive()?
        } else {
            self.restart()?
        }
        let po16 = self.po.as_ref().map(ProductOrder::po16).unwrap_or_default();
        let status = self.request(Control::StatusRequest, |heard| match heard {
            Heard::Status(status) => Some(Ok(*status)),
            _ => None,
        })?;
        if let (true, Some(status)) = (self.order.is_retest(), &status) {
            self.event(compare::REPORTED, json!(Report::from(status)), None)?;
        }
        Ok(status.map_or(DeviceStatus::Silent, |status| DeviceStatus::reported(&status, &po16)))
    }

    /// Sends a request until it is answered; `None` if it never is. Nothing that changes keys happens outside an
    /// exchange: the last frame that comes meanwhile is held for it (making a new one costs the unit a second).
    fn request<T>(
        &mut self,
        request: Control,
        mut answer: impl FnMut(&Heard) -> Option<Result<T, Failure>>,
    ) -> Result<Option<T>, Failure> {
        let until = Instant::now() + self.worker.timing.answer;
        // A unit that was just reset does not listen yet, and half a request would count as a damaged packet: it
        // speaks first, and is asked then.
        let settled = self.link()?.stats().packets > 0;
        let pause = self.worker.timing.ask_again / 2;
        let (mut asked, mut ask_at) = (false, Instant::now() + if settled { Duration::ZERO } else { pause });
        loop {
            self.cancel.check()?;
            let now = Instant::now();
            if now >= until {
                return Ok(None);
            }
            if now >= ask_at {
                self.send(request)?;
                (asked, ask_at) = (true, now + pause);
            }
            let Some(heard) = self.listen(ask_at.min(until).saturating_duration_since(now))? else {
                continue;
            };
            if !asked {
                ask_at = Instant::now();
            }
            if let Some(result) = answer(&heard) {
                return result.map(Some);
            }
            if let Heard::Frame(frame) = heard {
                self.held = Some(frame);
            }
        }
    }

    fn send(&mut self, message: Control) -> Result<(), Failure> {
        let mut bytes = [0; MAX_CONTROL];
        let len = message
            .encode(&mut bytes)
            .map_err(|e| Failure::new(FailureCode::StationFault, format!("a control message: {e}")))?;
        self.link()?.send(Channel::CONTROL, &bytes[..len])
    }

    fn link(&mut self) -> Result<&mut dyn Link, Failure> {
        match &mut self.link {
            Some(link) => Ok(&mut **link),
            None => Err(Failure::new(FailureCode::StationFault, "no serial link")),
        }
    }

    /// The next thing the unit says within `wait` (a slice of it, so that a cancel is seen soon).
    fn listen(&mut self, wait: Duration) -> Result<Option<Heard>, Failure> {
        for packet in self.bridge.poll() {
            self.link()?.send(Channel::TCP, &packet)?;
        }
        let link = self.link()?;
        let packet = link.receive(wait.min(LISTEN))?;
        let stats = link.stats();
        match packet {
            Some(packet) => self.hear(packet).map(Some),
            None if stats.bytes >= BABBLE && stats.packets == 0 => Err(self.babble()),
            None => Ok(None),
        }
    }

    fn babble(&mut self) -> Failure {
        let stats = self.link.as_ref().map(|l| l.stats()).unwrap_or_default();
        Failure::new(FailureCode::DeviceBabbles, format!("{} bytes, no valid packet", stats.bytes))
    }

    fn hear(&mut self, packet: Received) -> Result<Heard, Failure> {
        let bytes = packet.payload;
        match packet.channel {
            Channel::CONTROL => {
                if bytes.first() == Some(&STATUS_TYPE)
                    && let Some(version) = bytes.get(1)
                    && *version != CONTROL_VERSION
                {
                    return Err(Failure::new(
                        FailureCode::ProtocolVersion,
                        format!("the unit speaks version {version}, this station {CONTROL_VERSION}"),
                    ));
                }
                match Control::decode(&bytes) {
                    Ok(Control::Status(status)) => {
                        self.check_wire_id(UnitId(status.unit.0))?;
                        Ok(Heard::Status(status))
                    }
                    Ok(Control::Proof(proof)) => {
                        self.check_wire_id(UnitId(proof.unit.0))?;
                        Ok(Heard::Proof(proof))
                    }
                    Ok(Control::Refused { request, failure }) => Ok(Heard::Refused { request, failure }),
                    Ok(_) => Ok(Heard::Other),
                    Err(error) => {
                        tracing::debug!(%error, "a control message that makes no sense");
                        Ok(Heard::Other)
                    }
                }
            }
            Channel::AGENT => match bytes.as_slice() {
                // docs/protocol.md, frame header: "OK", version.
                [b'O', b'K', version, ..] if *version != 1 => Err(Failure::new(
                    FailureCode::ProtocolVersion,
                    format!("the unit's frames have version {version}, this station reads 1"),
                )),
                _ => Ok(Heard::Frame(bytes)),
            },
            Channel::TCP => {
                let (answer, told) = self.bridge.receive(self.id(), &bytes);
                if let Some(answer) = answer {
                    self.link()?.send(Channel::TCP, &answer)?;
                }
                if let Err(refused) = told {
                    self.event("bridge-refused", json!({ "failure": refused.sentence }), None)?;
                    return Err(refused);
                }
                Ok(Heard::Other)
            }
            Channel::LOG => {
                if let Ok(record) = LogRecord::parse(&bytes) {
                    self.note(record)?;
                }
                Ok(Heard::Other)
            }
            _ => Ok(Heard::Other),
        }
    }

    /// A log record of the unit: warnings and errors go into its history.
    fn note(&mut self, record: LogRecord) -> Result<(), Failure> {
        if record.severity < Severity::WARN || record.code == 0 {
            return Ok(());
        }
        let known = DeviceFailure::from_code(record.code);
        if record.code >> 8 == CLOUD_GROUP {
            self.cloud_complaint = Some(record);
        }
        let text = device_text(record.code);
        self.event(
            "device-log",
            json!({ "code": format!("E{:04x}", record.code), "severity": record.severity.0, "detail": record.detail, "text": text }),
            None,
        )?;
        if let Some((step, _)) = self.step {
            self.progress(step, &text, 0, 0);
        }
        let permanent = known.is_some_and(|f| f.persistence() == Persistence::Permanent);
        if record.severity >= Severity::ERROR && permanent {
            self.complaint = Some(record);
        }
        Ok(())
    }

    /// The id on the wire must be that of the chip under the probe.
    fn check_wire_id(&mut self, wire: UnitId) -> Result<(), Failure> {
        if wire == self.id() {
            return Ok(());
        }
        if let Work::Compare(unit) = self.order.work {
            return Err(Failure::new(FailureCode::OtherUnit, format!("{wire} answers, {unit} is wanted")));
        }
        // Cables swapped, or boards? The probe knows.
        if let Ok(now) = self.worker.bench.unit_now() {
            self.same_unit(now)?;
        }
        Err(Failure::new(FailureCode::UidMismatch, format!("chip {}, wire {wire}", self.id())))
    }

    /// Gives a unit that passed new keys, one after the other: it asks for each itself, under the key it has.
    fn update(&mut self, update: &Update) -> Result<(), Failure> {
        let id = self.id();
        if update.cloud_key {
            self.worker.agent.order_update(id, update.cloud.as_deref())?;
        }
        let wanted = [
            (update.agent_key, Purpose::AgentKeyUpdate, Step::AgentKey, "agent"),
            (update.cloud_key, Purpose::CloudKeyUpdate, Step::CloudKey, "cloud"),
        ];
        for (_, purpose, step, word) in wanted.into_iter().filter(|w| w.0) {
            self.begin_step(step);
            self.progress(step, "asking the unit to renew its key", 0, 4);
            self.event("update-begin", json!({ "key": word, "cloud": update.cloud }), None)?;
            let key = |status: &Status| match purpose {
                Purpose::AgentKeyUpdate => status.agent_key,
                _ => status.cloud_key,
            };
            // Said before anything changed: the new key must be newer than this one.
            let from = self.request(Control::StatusRequest, |heard| match heard {
                Heard::Status(status) => Some(Ok(key(status))),
                _ => None,
            })?;
            let Some(from) = from else { return Err(self.silence()) };
            if update.below.is_some_and(|below| from.0 >= below) {
                self.event("update-skipped", json!({ "key": word, "generation": from.0 }), None)?;
                continue;
            }
            if update.by_wake {
                self.wait_for_birth(self.seen_since, None)?;
                self.progress(step, "its cloud tells it to renew its key", 0, 4);
                self.worker.agent.wake(id, &format!("{word}-key"))?;
            } else {
                self.ask_for(purpose)?;
            }
            let goal = Goal::Renewed { purpose, from, asked: !update.by_wake };
            let reported = self.exchange(step, &goal)?;
            if !matches!(reported, DeviceStatus::Reported { stage: Reported::Active, same_order: true }) {
                return Err(Failure::new(FailureCode::UpdateRefused, format!("it reports {reported:?}")));
            }
            self.event("update-end", json!({ "key": word }), None)?;
        }
        Ok(())
    }

    /// Asks the unit to renew a key. On a bad line the question comes twice, and its second coming finds the unit at work: a busy unit
    /// has started, with this key or with another first.
    fn ask_for(&mut self, purpose: Purpose) -> Result<(), Failure> {
        let question = Control::Update { purpose };
        let answer = self.request(question, |heard| match heard {
            Heard::Status(_) => Some(Ok(())),
            Heard::Refused { request, failure } if *request == question.type_byte() => {
                let busy = *failure == DeviceFailure::ExchangeBusy.code();
                let refused = || Failure::new(FailureCode::UpdateRefused, device_text(*failure));
                Some(if busy { Ok(()) } else { Err(refused()) })
            }
            _ => None,
        })?;
        answer.ok_or_else(|| self.silence())
    }

    /// Relays frames between unit and agent until the unit reports that it is where it should be.
    fn exchange(&mut self, first: Step, goal: &Goal) -> Result<DeviceStatus, Failure> {
        self.begin_step(first);
        let po16 = self.po.as_ref().map(ProductOrder::po16).unwrap_or_default();
        let context = FrameContext { batch: self.order.batch.id, unit: self.id(), attempt: Some(self.id) };
        let timing = self.worker.timing;
        let mut step = first;
        let mut until = Instant::now() + timing.exchange;
        let mut patience = timing.ask_again;
        let mut ask_at = Instant::now() + patience;
        let mut heard_at = Instant::now();
        let mut last = None;
        let mut messages = 0;
        if self.held.is_none() {
            // Somebody listens: what the unit has to say, it says now.
            self.send(Control::Wake)?;
        }
        loop {
            self.cancel.check()?;
            let now = Instant::now();
            if self.complaint.is_some() {
                // It says itself that it won't go on; give it a moment to prove the opposite.
                until = until.min(now + timing.ask_again * 2);
            }
            if now >= until {
                return Err(self.stalled(last));
            }
            if now >= ask_at {
                // Every request makes the unit repeat what it waits for: ask less and less often.
                self.send(Control::StatusRequest)?;
                patience = (patience * 2).min(timing.ask_again * 4);
                ask_at = now + patience;
            }
            let heard = match self.held.take() {
                Some(frame) => Some(Heard::Frame(frame)),
                None => self.listen(ask_at.min(until).saturating_duration_since(now))?,
            };
            let Some(heard) = heard else {
                if heard_at.elapsed() >= timing.suspicious && !self.locked {
                    let there = self.worker.bench.unit_now();
                    self.worker.bench.release();
                    self.same_unit(there?)?;
                    heard_at = Instant::now();
                }
                continue;
            };
            heard_at = Instant::now();
            match heard {
                Heard::Status(status) => {
                    let reported = DeviceStatus::reported(&status, &po16);
                    if last != Some(status.stage) {
                        last = Some(status.stage);
                        until = Instant::now() + timing.exchange;
                    }
                    let DeviceStatus::Reported { stage, same_order: true } = reported else {
                        return Ok(reported);
                    };
                    if let Goal::Renewed { purpose, from, asked } = goal {
                        let now = match purpose {
                            Purpose::AgentKeyUpdate => status.agent_key,
                            _ => status.cloud_key,
                        };
                        // Before the new key is committed the unit is as active as it was.
                        let renewed = now > *from;
                        match stage {
                            Reported::Active if renewed => return Ok(reported),
                            Reported::Active => {
                                if *asked && messages == 0 {
                                    // What it answered was something else: the question never came, or it had another key to renew.
                                    self.send(Control::Update { purpose: *purpose })?;
                                }
                            }
                            Reported::AgentKeyPending | Reported::CloudKeyPending => {}
                            _ => return Ok(reported),
                        }
                        continue;
                    }
                    match stage {
                        Reported::ProductKey | Reported::AgentKeyPending => {}
                        Reported::AgentKeyActive | Reported::CloudKeyPending => step = Step::CloudKey,
                        Reported::NoProductKey | Reported::Active | Reported::Unknown(_) => {
                            return Ok(reported);
                        }
                    }
                    self.begin_step(step);
                }
                Heard::Frame(frame) => {
                    let handled = self.worker.agent.handle(context, &frame)?;
                    if let Some(reply) = handled.reply {
                        self.link()?.send(Channel::AGENT, &reply)?;
                        messages += 2;
                    }
                    patience = timing.ask_again;
                    ask_at = Instant::now() + patience;
                    let label = match &handled.change {
                        Change::Nothing => continue,
                        Change::Refused(failure) => return Err(failure.clone()),
                        Change::AgentKeyIssued { ak_gen } => format!("agent key {ak_gen} issued"),
                        Change::AgentKeyActive { ak_gen } => {
                            ask_at = Instant::now() + timing.ask_again / 8;
                            format!("agent key {ak_gen} active")
                        }
                        Change::CloudKeyIssued { ck_gen } => {
                            if *goal == Goal::Enrolled {
                                step = Step::CloudKey;
                                self.begin_step(step);
                            }
                            format!("cloud key {ck_gen} issued")
                        }
                        Change::CloudKeyActive { ck_gen } => {
                            // The last message is on its way: the unit has only to store it.
                            ask_at = Instant::now() + timing.ask_again / 8;
                            format!("cloud key {ck_gen} active")
                        }
                    };
                    self.complaint = None;
                    until = Instant::now() + timing.exchange;
                    self.progress(step, &label, messages.min(4), 4);
                    let done = match handled.change {
                        Change::AgentKeyActive { .. } => Some(Purpose::AgentKeyUpdate),
                        Change::CloudKeyActive { .. } => Some(Purpose::CloudKeyUpdate),
                        _ => None,
                    };
                    if let (Goal::Renewed { purpose, .. }, Some(done)) = (goal, done)
                        && done != *purpose
                    {
                        messages = 0;
                    }
                    if *goal == Goal::Enrolled && matches!(handled.change, Change::AgentKeyActive { .. }) {
                        (step, messages) = (Step::CloudKey, 0);
                        self.begin_step(step);
                    }
                }
                Heard::Proof(_) | Heard::Refused { .. } | Heard::Other => {}
            }
        }
    }

    fn prove(&mut self) -> Result<ProofRecord, Failure> {
        self.begin_step(Step::Prove);
        self.progress(Step::Prove, "restarting", 0, PROVE_PARTS);
        self.event("reset", json!({ "why": "proof" }), None)?;
        let reset_at = Instant::now();
        self.restart()?;
        let mut challenge = [0; 32];
        getrandom::fill(&mut challenge).map_err(|e| {
            Failure::new(FailureCode::StationFault, format!("no random numbers from the system: {e}"))
        })?;
        self.progress(Step::Prove, "asking for the proof", 1, PROVE_PARTS);
        let proof = self.request(Control::ProveRequest { challenge }, |heard| match heard {
            Heard::Proof(proof) => Some(Ok(*proof)),
            Heard::Refused { request, failure }
                if *request == (Control::ProveRequest { challenge }).type_byte() =>
            {
                Some(Err(Failure::new(FailureCode::DeviceReported, device_text(*failure))))
            }
            _ => None,
        })?;
        let Some(proof) = proof else { return Err(self.silence()) };
        if !self.locked {
            self.still_there()?;
        }
        self.progress(Step::Prove, "checking the proof", 2, PROVE_PARTS);
        let context = FrameContext { batch: self.order.batch.id, unit: self.id(), attempt: Some(self.id) };
        let record = self.worker.agent.check_proof(context, &challenge, &proof)?;
        if !(record.cloud_mac_ok && record.agent_mac_ok) {
            let which = match (record.agent_mac_ok, record.cloud_mac_ok) {
                (false, false) => "neither key's MAC is right",
                (false, true) => "the agent key's MAC is wrong",
                _ => "the cloud key's MAC is wrong",
            };
            return Err(Failure::new(FailureCode::ProofFailed, which));
        }
        self.birth(record, reset_at)
    }

    /// The unit uses what it was given: it must log in at its cloud with the key that it just proved, in this very boot, and no
    /// key that was replaced may open anything.
    fn birth(&mut self, mut record: ProofRecord, since: Instant) -> Result<ProofRecord, Failure> {
        self.progress(Step::Prove, "waiting for its login at the cloud", 3, PROVE_PARTS);
        let birth = self.wait_for_birth(since, Some(record.ck_gen))?;
        self.progress(Step::Prove, "trying its old keys", 4, PROVE_PARTS);
        record.birth_boot = birth.boot;
        record.old_keys_refused = self.worker.agent.try_old_credentials(self.id())?;
        if self.locked {
            self.still_there()?;
        }
        Ok(record)
    }

    /// Waits until its broker has told of the unit's birth, with this key or with any.
    fn wait_for_birth(&mut self, since: Instant, generation: Option<u32>) -> Result<Birth, Failure> {
        let until = Instant::now() + self.worker.timing.cloud;
        let mut wake_at = Instant::now();
        let mut again_at = Some(Instant::now() + self.worker.timing.cloud / 2);
        loop {
            self.cancel.check()?;
            let birth = self.worker.agent.last_birth(self.id());
            if let Some(birth) =
                birth.filter(|b| b.at >= since && generation.is_none_or(|g| g == b.generation))
            {
                return Ok(birth);
            }
            let now = Instant::now();
            if now >= until {
                return Err(self.unborn());
            }
            if again_at.is_some_and(|at| now >= at) {
                // A broker that restarted between the two may have told nobody of the birth: the unit logs in once more.
                again_at = None;
                if let Some(close) = self.bridge.end() {
                    self.link()?.send(Channel::TCP, &close)?;
                }
            }
            if now >= wake_at {
                // A modem that was away when the unit first tried is there now.
                self.send(Control::Wake)?;
                wake_at = now + self.worker.timing.ask_again * 2;
            }
            if let Some(Heard::Frame(frame)) = self.listen(LISTEN)? {
                self.held = Some(frame);
            }
        }
    }

    /// Boards may have been swapped while the unit worked; its own word is not enough.
    fn still_there(&mut self) -> Result<(), Failure> {
        let now = self.worker.bench.unit_now()?;
        self.same_unit(now)
    }

    /// Closes the chip behind the proof, and writes down apart what was asked of it and what it shows.
    fn lock(&mut self, mut proof: ProofRecord) -> Result<ProofRecord, Failure> {
        if !self.po.as_ref().is_some_and(|po| po.lock) {
            proof.lock.observed = Some(self.worker.bench.option_bytes()?);
            return Ok(proof);
        }
        self.begin_step(Step::Lock);
        self.progress(Step::Lock, "reading the option bytes", 0, 3);
        let now = self.worker.bench.option_bytes()?;
        self.cancel.check()?;
        let mut lock = LockRecord { asked: None, observed: Some(now), closed: None };
        if !now.are_locked() && self.order.is_retest() {
            // It was opened since it passed. A retest finds that out; it puts nothing right.
            return Err(Failure::new(FailureCode::LockFailed, format!("its lock is gone, it shows {now}")));
        }
        if !now.are_locked() {
            let request = OptionRequest::lock(now)?;
            lock.asked = Some(request.words());
            self.progress(Step::Lock, "setting the option bytes", 1, 3);
            self.event("lock-begin", json!({ "asked": lock.asked, "before": now }), None)?;
            match self.worker.bench.set_option_bytes(&request, &mut |_| {}) {
                Ok(observed) => lock.observed = Some(observed),
                Err(failure) => {
                    let failure = self.who_is_there(failure);
                    let detail = json!({ "asked": lock.asked, "failure": failure.code.to_string() });
                    self.event("lock-failed", detail, None)?;
                    return Err(failure);
                }
            }
        }
        self.progress(Step::Lock, "trying to read its flash", 2, 3);
        lock.closed = Some(self.worker.bench.flash_is_closed()?);
        self.still_there()?;
        self.event("lock-end", json!(lock), None)?;
        let observed = lock.observed.filter(|o| o.are_locked());
        if observed.is_none() || lock.closed != Some(true) {
            let facts = format!(
                "asked for {}, it shows {}, its flash {}",
                lock.asked.map_or("nothing".into(), |a| a.to_string()),
                lock.observed.map_or("nothing".into(), |o| o.to_string()),
                if lock.closed == Some(true) { "is closed" } else { "can be read" },
            );
            return Err(Failure::new(FailureCode::LockFailed, facts));
        }
        self.locked = true;
        proof.lock = lock;
        Ok(proof)
    }

    /// What was proved of this unit, if all but its label was done and nobody has been at it since: the newest attempt on it proved
    /// its keys, locked it and ended at the label. A locked chip keeps what it was proved with, and its option bytes are compared once
    /// more. So nothing is asked of the unit, which would want its power taken away for the answer.
    fn lacks_its_label_only(&mut self) -> Result<Option<ProofRecord>, Failure> {
        let makes = self.order.work == Work::Make
            || matches!(self.order.work, Work::Reprovision { update: None, .. });
        let labels = self.po.as_ref().is_some_and(|po| po.label != LabelPolicy::None);
        let Some(unit) = self.unit.as_ref().filter(|_| makes && labels && self.locked) else {
            return Ok(None);
        };
        if unit.state != UnitState::CloudKey || unit.batch != self.order.batch.id {
            return Ok(None);
        }
        let Some(proof) = self.worker.records.last_proof(unit.id, self.id).map_err(records_failure)? else {
            return Ok(None);
        };
        let now = self.worker.bench.option_bytes().map_err(|f| self.who_is_there(f))?;
        let as_it_was =
            now.are_locked() && proof.lock.observed == Some(now) && proof.lock.closed == Some(true);
        if as_it_was {
            self.still_there()?;
            self.event("label-only", json!({ "observed": now }), None)?;
        }
        Ok(Some(proof).filter(|_| as_it_was))
    }

    /// Prints what the order wants printed and has it read back. The unit has its keys and its lock; whatever goes wrong here costs it
    /// neither, and the next start comes straight back to this.
    fn label(&mut self) -> Result<(), Failure> {
        let policy = self.po.as_ref().map_or(LabelPolicy::None, |po| po.label);
        // A retest leaves everything as it is.
        if policy == LabelPolicy::None || self.order.is_retest() {
            return Ok(());
        }
        let facts = self.label_facts()?;
        let code = label::code_of(&facts)?;
        // New keys leave a label where it is, as long as it says what is so, and QA does not want another.
        let printed = facts.printed_code.as_deref() == Some(code.to_string().as_str())
            && !self.label_is_wanted(&facts)?;
        if printed && (policy == LabelPolicy::Print || facts.scanned_at_ms.is_some()) {
            return Ok(());
        }
        self.begin_step(Step::Label);
        // Before anybody waits for a printer that is not there.
        self.worker.labels.printer()?;
        self.progress(Step::Label, "waiting for its turn at the printer", 0, 3);
        let desk = self.worker.labels.clone();
        let turn = desk.take_turn(self.cancel)?;
        if !printed {
            self.print(&code, &self.order.operator)?;
        }
        if policy == LabelPolicy::ScanBack {
            self.read_back(&turn, &code)?;
        }
        Ok(())
    }

    /// QA's order for this unit speaks of its label, and none was printed since.
    fn label_is_wanted(&self, facts: &crate::records::LabelFacts) -> Result<bool, Failure> {
        if self.order.work.qa().is_none() {
            return Ok(false);
        }
        let orders = self.worker.records.reprovisions(self.id()).map_err(records_failure)?;
        let open = orders.iter().find(|o| o.ended_at_ms.is_none());
        Ok(open.is_some_and(|order| {
            label::is_named_in(&order.reason)
                && facts.printed_at_ms.is_none_or(|printed| printed < order.opened_at_ms)
        }))
    }

    fn label_facts(&self) -> Result<crate::records::LabelFacts, Failure> {
        self.worker.records.label_facts(self.id()).map_err(records_failure)
    }

    fn print(&self, code: &LabelCode, operator: &str) -> Result<(), Failure> {
        self.progress(Step::Label, "printing the label", 1, 3);
        let facts = self.label_facts()?;
        let printed = self.worker.labels.printer()?.print(&facts, operator, crate::station::now_ms());
        if let Err(failure) = printed {
            self.event("label-failed", json!({ "failure": failure.sentence }), None)?;
            return Err(failure);
        }
        let records = &self.worker.records;
        records
            .label_printed(self.id(), Some(self.id), &code.to_string(), operator)
            .map(drop)
            .map_err(records_failure)
    }

    /// Waits for the scan and compares three things: what the label says, the device that lies here, and the record of that device.
    fn read_back(&mut self, turn: &Turn, code: &LabelCode) -> Result<(), Failure> {
        let until = Instant::now() + self.worker.timing.scan;
        turn.listen();
        let mut problem = None;
        loop {
            self.want_scan(problem.take())?;
            let said = turn.hear(until.saturating_duration_since(Instant::now()), self.cancel)?;
            let (said, by) = said.map_or((None, String::new()), |(said, by)| (Some(said), by));
            // An open station may have nobody's name.
            let by = if by.is_empty() { &self.order.operator } else { &by };
            let read: LabelCode = match said {
                None => {
                    let facts = format!("{} was waited for", code.serial());
                    return Err(Failure::new(FailureCode::ScanMissing, facts));
                }
                Some(Said::PrintAgain) => {
                    self.print(code, by)?;
                    continue;
                }
                Some(Said::Scan(text)) => match text.parse() {
                    Ok(read) => read,
                    Err(error) => {
                        // A carton's or an operator's code: nothing is wrong with the unit.
                        problem = Some(Failure::new(FailureCode::LabelUnreadable, error));
                        continue;
                    }
                },
            };
            // The device answers for itself: whose label this must be is asked of the chip that lies here now, not of what began.
            let now = self.worker.bench.unit_now();
            self.worker.bench.release();
            let now = match now {
                // Whoever sticks a label on may lift the board for it: that ends nothing, and what was scanned waits for the board.
                Err(away) if matches!(away.code, FailureCode::NoTarget | FailureCode::BoardUnplugged) => {
                    problem = Some(Failure::new(FailureCode::BoardLifted, ""));
                    continue;
                }
                now => now?,
            };
            self.same_unit(now)?;
            let record = self.worker.records.label_facts(now).map_err(records_failure)?;
            let compared = label::compare(&read, &label::code_of(&record)?);
            if let Err(failure) = compared {
                let detail =
                    json!({ "read": read.to_string(), "expected": code.to_string(), "operator": by });
                self.event("label-mismatch", detail, None)?;
                return Err(failure);
            }
            return self
                .worker
                .records
                .label_scanned(now, Some(self.id), &code.to_string(), by)
                .map_err(records_failure);
        }
    }

    fn want_scan(&self, problem: Option<Failure>) -> Result<(), Failure> {
        let facts = self.label_facts()?;
        self.progress(Step::Label, "stick the label on and scan it", 2, 3);
        (self.worker.events)(Event::ScanWanted {
            fixture: self.worker.fixture.clone(),
            attempt: self.id,
            serial: facts.serial,
            labels: facts.prints,
            problem,
        });
        Ok(())
    }

    /// Why a unit with proved keys never logged in.
    fn unborn(&mut self) -> Failure {
        if let Some(trouble) = self.bridge.trouble() {
            return trouble.clone();
        }
        match self.cloud_complaint.and_then(|record| DeviceFailure::from_code(record.code)) {
            Some(DeviceFailure::CloudLoginRefused) => Failure::new(FailureCode::CloudKeyRefused, ""),
            _ if let Some(dropped) = self.bridge.dropped() => dropped.clone(),
            Some(complaint) => Failure::new(FailureCode::CloudSilent, complaint),
            None => Failure::new(FailureCode::CloudSilent, ""),
        }
    }

    /// Why nobody answered.
    fn silence(&mut self) -> Failure {
        if let Some(complaint) = self.complaint {
            return Failure::new(FailureCode::DeviceReported, device_text(complaint.code));
        }
        match self.worker.bench.unit_now() {
            Err(failure) => return failure,
            Ok(now) => {
                if let Err(failure) = self.same_unit(now) {
                    return failure;
                }
            }
        }
        let stats = self.link.as_ref().map(|l| l.stats()).unwrap_or_default();
        if stats.packets == 0 && stats.bytes >= NOISE {
            self.babble()
        } else if stats.packets > 0 {
            Failure::new(
                FailureCode::DeviceSilent,
                format!("{} packets came, none of them an answer", stats.packets),
            )
        } else {
            Failure::new(FailureCode::DeviceSilent, "")
        }
    }

    /// Why an exchange stood still.
    fn stalled(&mut self, last: Option<keywright_protocol::control::Stage>) -> Failure {
        let silence = self.silence();
        let spoke = self.link.as_ref().is_some_and(|l| l.stats().packets > 0);
        if silence.code == FailureCode::DeviceSilent && spoke {
            let stage = last.map_or("it never said how far it is".into(), |s| format!("it last said: {s}"));
            Failure::new(FailureCode::ExchangeTimeout, stage)
        } else {
            silence
        }
    }

    /// A failure of the probe in the middle of work: was the board swapped under it?
    fn who_is_there(&mut self, failure: Failure) -> Failure {
        if matches!(failure.code, FailureCode::BoardUnplugged | FailureCode::ProbeLost) {
            return failure;
        }
        match self.worker.bench.unit_now() {
            Ok(now) => self.same_unit(now).err().unwrap_or(failure),
            Err(_) => failure,
        }
    }

    fn begin_step(&mut self, step: Step) {
        if self.step.is_some_and(|(now, _)| now == step) {
            return;
        }
        self.close_step();
        self.step = Some((step, Instant::now()));
        (self.worker.events)(Event::Step { fixture: self.worker.fixture.clone(), attempt: self.id, step });
    }

    fn close_step(&mut self) {
        if let Some((step, since)) = self.step.take() {
            self.seconds[step as usize] += since.elapsed().as_secs_f64();
        }
    }

    fn progress(&self, step: Step, label: &str, done: u64, total: u64) {
        (self.worker.events)(Event::Progress {
            fixture: self.worker.fixture.clone(),
            attempt: self.id,
            step,
            label: label.to_owned(),
            done,
            total,
        });
    }
}

fn device_text(code: u16) -> String {
    DeviceFailure::from_code(code)
        .map_or_else(|| format!("E{code:04x}, not known to this station"), |f| f.to_string())
}
