//! The line: one worker per fixture takes a bare board and gives back a unit.
//!
//! Nothing is made before the station was looked at ([`crate::preflight`]): a start waits for the look at its batch, and is refused with
//! the failure and its remedy while a check fails that concerns its fixture.
//!
//! Order of events of one attempt: `Started`, then for each step of
//! arrive → flash → agent key → cloud key → prove → lock → label one `Step` followed by any number of `Progress`, then exactly
//! one `Finished`. Steps that the unit has already behind it are skipped, never repeated.

pub mod bench;
pub mod bridge;
mod hub;
pub mod lock;
pub mod next;
mod presence;
pub mod worker;

pub use hub::Line;

use crate::failure::Failure;
use crate::model::*;
use crate::preflight::{Check, Status};
use crate::records::ReprovisionKind;
use serde::{Deserialize, Serialize};

/// What a fixture is doing, in the order of a unit's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Attach, check the chip, read its id, look up its record.
    Arrive,
    /// Stage one: common image and product key, read back.
    Flash,
    /// The agent key.
    AgentKey,
    /// The cloud key and the region's anchors.
    CloudKey,
    /// Reset, challenge, MACs.
    Prove,
    /// Read protection and write protection of the boot sectors, read back.
    Lock,
    /// The label: printed, stuck on, read back; as far as the order wants it.
    Label,
}

impl Work {
    /// The unit that QA ordered it for.
    pub fn qa(&self) -> Option<UnitId> {
        match self {
            Self::Reprovision { unit, .. } | Self::Retest(unit) | Self::Compare(unit) => Some(*unit),
            Self::Make | Self::Update(_) => None,
        }
    }
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 7] =
        [Self::Arrive, Self::Flash, Self::AgentKey, Self::CloudKey, Self::Prove, Self::Lock, Self::Label];
}

/// New keys for units that passed before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// A new agent key.
    pub agent_key: bool,
    /// A new cloud key.
    pub cloud_key: bool,
    /// URL of the platform that the new cloud key is for; `None`: where the unit is.
    pub cloud: Option<String>,
    /// Only keys of a generation below this one: what has been renewed already is proved and left as it is, so that a release that
    /// was stopped goes on where it was.
    pub below: Option<u32>,
    /// The unit is told by a message from its cloud instead of over its serial line.
    pub by_wake: bool,
}

/// What the line does with the units that are started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Work {
    /// Makes units of bare boards.
    #[default]
    Make,
    /// Gives units new keys.
    Update(Update),
    /// Carries out QA's order for one unit, and touches no other.
    Reprovision {
        /// The unit.
        unit: UnitId,
        /// New keys, asked for under those it has; `None`: it starts anew.
        update: Option<Update>,
    },
    /// Proves the keys of this unit once more, with its login at its cloud; no key and no lock changes.
    Retest(UnitId),
    /// Asks this unit what it says of itself, over its serial port alone. No attempt: it proves nothing and changes nothing.
    Compare(UnitId),
}

impl Work {
    /// What the line does for an order of QA.
    pub fn reprovision(unit: UnitId, kind: ReprovisionKind) -> Self {
        let update = (kind != ReprovisionKind::NewStart).then(|| Update {
            // A move brings a cloud record; the agent key has nothing to do with the region.
            agent_key: kind == ReprovisionKind::NewKeys,
            cloud_key: true,
            ..Update::default()
        });
        Self::Reprovision { unit, update }
    }
}

/// Commands that go down to the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Choose the batch that the next units run under.
    SelectBatch(String),
    /// Who works here; stands in every record.
    SetOperator(String),
    /// What the next units are started for.
    SetWork(Work),
    /// Start the unit in a fixture (index).
    Start(usize),
    /// Start one unit for other work and under another batch than the line has. Both stay as they are for everything else, so
    /// nothing has to be put back afterwards, whatever comes in between.
    StartFor {
        /// Fixture (index).
        fixture: usize,
        /// Name of the unit's own batch.
        batch: String,
        /// What it is started for.
        work: Work,
    },
    /// Start every idle fixture.
    StartAll,
    /// Cancel the unit in a fixture; takes effect at the next safe point.
    Cancel(usize),
    /// This was scanned from a label; it is about the unit that waits for it.
    Scan(String),
    /// The label of the unit that waits for its scan is spoilt: print it again.
    PrintAgain,
    /// A sample was checked: the gray-release gate of the chosen batch opens for as many units again.
    ApproveSample {
        /// Who checked it.
        operator: String,
        /// What they have to say of it.
        note: String,
    },
    /// The sample is not good: the chosen batch is paused.
    StopBatch {
        /// Who stops it.
        operator: String,
        /// Why.
        reason: String,
    },
    /// Start by itself when a board was put in and lies still. Switched on, it takes what lies there already as well.
    AutoStart(bool),
    /// Look at the station again: something was done about what failed.
    CheckAgain,
    /// Finish what runs, then stop the workers.
    Shutdown,
}

/// Events that come up from the line.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A board appeared in or left a fixture.
    Presence {
        /// Fixture name.
        fixture: String,
        /// Whether a board answers.
        present: bool,
    },
    /// An attempt began.
    Started {
        /// Fixture name.
        fixture: String,
        /// Attempt.
        attempt: AttemptId,
        /// Batch name.
        batch: String,
    },
    /// The unit's id is known.
    Identified {
        /// Fixture name.
        fixture: String,
        /// Attempt.
        attempt: AttemptId,
        /// Hardware id.
        unit: UnitId,
        /// Serial.
        serial: String,
        /// It began earlier and goes on from where it stopped.
        resumed: bool,
    },
    /// A step began.
    Step {
        /// Fixture name.
        fixture: String,
        /// Attempt.
        attempt: AttemptId,
        /// Which.
        step: Step,
    },
    /// Progress within a step, per flash region while flashing.
    Progress {
        /// Fixture name.
        fixture: String,
        /// Attempt.
        attempt: AttemptId,
        /// Which step.
        step: Step,
        /// What is being done, for people (`erasing app`, `writing app`, …).
        label: String,
        /// Done, in `total`'s unit (bytes while flashing, messages while exchanging).
        done: u64,
        /// Of how many.
        total: u64,
    },
    /// The station was looked at for a batch. While something fails, what it concerns is not started.
    Preflight {
        /// Batch name.
        batch: String,
        /// Whether every fixture may start.
        ready: bool,
        /// What was looked at.
        checks: Vec<Check>,
    },
    /// The unit waits for the scan of its label. Comes again with what was wrong when something else was scanned.
    ScanWanted {
        /// Fixture name.
        fixture: String,
        /// Attempt.
        attempt: AttemptId,
        /// Serial on the label.
        serial: String,
        /// Labels printed for the unit.
        labels: u32,
        /// Why what was scanned is no code of a label.
        #[serde(skip_serializing_if = "Option::is_none")]
        problem: Option<Failure>,
    },
    /// The attempt ended; the record was written before this event, unless the failure is that it could not be. An
    /// attempt that could not even be opened has number 0.
    Finished {
        /// Fixture name.
        fixture: String,
        /// Attempt.
        attempt: AttemptId,
        /// Unit, if it was ever identified.
        unit: Option<UnitId>,
        /// Serial, if it was ever identified.
        serial: Option<String>,
        /// Outcome.
        outcome: Outcome,
        /// Why not PASS.
        failure: Option<Failure>,
        /// Seconds by step, in order of [`Step::ALL`]; 0 for skipped steps.
        step_seconds: [f64; Step::ALL.len()],
        /// Seconds in all.
        seconds: f64,
        /// It was started for QA's order for this unit, whichever lay there.
        #[serde(skip_serializing_if = "Option::is_none")]
        qa: Option<UnitId>,
    },
    /// The station itself has a problem (a probe vanished, the database filled up).
    Station {
        /// What and what to do.
        failure: Failure,
    },
}

/// A fixture as the window draws it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FixtureView {
    /// Name from station.toml.
    pub name: String,
    /// Whether a board answers in it; `None` = unknown.
    pub present: Option<bool>,
    /// The attempt in work.
    pub running: Option<RunningView>,
    /// The last result; stays until the next unit starts.
    pub last: Option<ResultView>,
    /// The fixture can't be used now.
    pub trouble: Option<Failure>,
    /// It was started and waits until the station was looked at, or until a sample was.
    pub held: bool,
    /// It waits for the sample: its group is full, and all of it passed or is in work.
    pub waits_for_sample: bool,
    /// A board lies in it that starts by itself, at this time at the earliest.
    pub starts: Option<std::time::Instant>,
}

/// An attempt in work.
#[derive(Clone, Debug, PartialEq)]
pub struct RunningView {
    /// Unit, once known.
    pub unit: Option<UnitId>,
    /// Serial, once known.
    pub serial: Option<String>,
    /// Step in work.
    pub step: Step,
    /// What is being done.
    pub label: String,
    /// 0..=1 within the step.
    pub fraction: f32,
    /// When it began.
    pub since: std::time::Instant,
    /// It goes on from an earlier attempt.
    pub resumed: bool,
    /// Cancel was asked for.
    pub cancelling: bool,
    /// It carries out QA's order for this unit.
    pub qa: Option<UnitId>,
    /// It waits for the scan of its label.
    pub scan: Option<ScanView>,
}

/// A unit that waits for the scan of its label.
#[derive(Clone, Debug, PartialEq)]
pub struct ScanView {
    /// Serial on the label.
    pub serial: String,
    /// Labels printed for the unit.
    pub labels: u32,
    /// Why what was scanned last is no code of a label.
    pub problem: Option<Failure>,
}

/// A batch whose gray-release gate is shut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleView {
    /// Passes since the last sample.
    pub waiting: u32,
    /// The units to look at, newest first.
    pub serials: Vec<String>,
}

/// The last result.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultView {
    /// Unit.
    pub unit: Option<UnitId>,
    /// Serial.
    pub serial: Option<String>,
    /// Outcome.
    pub outcome: Outcome,
    /// Why not PASS.
    pub failure: Option<Failure>,
    /// Seconds it took.
    pub seconds: f64,
    /// It was QA's order for this unit, whichever lay there.
    pub qa: Option<UnitId>,
}

/// What was found before the first board of the chosen batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreflightView {
    /// It is being looked at; what stands here is from before.
    pub checking: bool,
    /// Every check, of the chosen batch.
    pub checks: std::sync::Arc<Vec<Check>>,
}

impl PreflightView {
    /// What keeps this fixture (index) from starting.
    pub fn stops(&self, fixture: usize) -> Option<&Check> {
        self.checks.iter().find(|c| c.stops(fixture))
    }

    /// The checks that ended so.
    pub fn with(&self, status: Status) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(move |c| c.status == status)
    }
}

/// Everything the Line view needs, replaced as a whole; the window only reads it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Station name.
    pub station: String,
    /// Operator.
    pub operator: String,
    /// The selected batch and its order.
    pub batch: Option<(Batch, ProductOrder)>,
    /// Its counts.
    pub counts: BatchCounts,
    /// Names of batches to pick from, open ones first.
    pub batches: Vec<Batch>,
    /// One per fixture.
    pub fixtures: Vec<FixtureView>,
    /// Auto-start is on.
    pub auto_start: bool,
    /// Finish times of the passes of this session (for units per hour and ETA).
    pub finished: Vec<std::time::Instant>,
    /// The chosen batch waits for the check of a sample.
    pub sample: Option<SampleView>,
    /// Whether the station is ready for the chosen batch.
    pub preflight: PreflightView,
    /// A station problem to show in the header.
    pub trouble: Option<Failure>,
    /// Why the line has no fixtures; it is looked for them again and again.
    pub no_fixtures: Option<Failure>,
    /// The station runs on the public demo passphrase.
    pub demo: bool,
}

/// What the window holds of the line: send commands, read the newest snapshot. Nothing here blocks.
pub trait LineHandle: Send {
    /// Sends a command; it is carried out by the line's own threads.
    fn send(&self, command: Command);
    /// The newest snapshot.
    fn snapshot(&self) -> std::sync::Arc<Snapshot>;
    /// Calls `wake` after every change of the snapshot, from another thread (for a repaint).
    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>);
}
