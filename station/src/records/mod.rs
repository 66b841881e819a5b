//! Records: everything that happened, kept for ever.
//!
//! SQLite (WAL, STRICT tables, foreign keys); migrations live in `db/`. One writer thread; reads
//! never wait for it. Killing the process at any instant loses no unit: what a caller was told is
//! committed, is on disk.
//!
//! [`Records`] is what the rest of the station knows; [`SqliteRecords`] is the embedded implementation,
//! [`KeyVault`] the one way to unit keys in clear, [`serial`] the unit serials. Design: `docs/records.md`.

use crate::failure::Failure;
use crate::model::*;
use crate::secrets::Secret;
use serde::{Deserialize, Serialize};

mod agent_store;
mod export_store;
mod label_store;
mod look;
mod migrate;
mod order_store;
mod people_store;
mod qa_store;
mod readers;
mod search_store;
pub mod serial;
mod shift_store;
mod snapshot;
mod sqlite;
mod trust_store;
mod unit_store;
mod vault;
mod verify;
mod writer;

pub(crate) use agent_store::{
    AgentView, ConfirmKey, EnrolmentRow, IssueAgentKey, MAX_PENDING, NewPending, PendingRow, StageCloudKey,
};
pub use export_store::{
    EXPORT_SCHEMA_VERSION, ExportFilter, ExportKey, ExportLogFilter, ExportRecord, ExportRow, ExposedUnit,
    HandedUnit, NewExport, Revoked,
};
pub use label_store::LabelFacts;
pub use migrate::SCHEMA_VERSION;
pub use order_store::{NewBatch, OrderEvent};
pub use people_store::{AuditEntry, AuditFilter, Broken, NewAudit, Person};
pub(crate) use people_store::{PersonChange, PersonRow};
pub use qa_store::{Alarm, AlarmOf, NewReprovision, Reach, Reprovision, ReprovisionKind, Why};
pub use search_store::{FoundUnit, MOST_HITS, UnitQuery, UnitsFound};
pub use shift_store::{AttemptRange, EndShift};
pub(crate) use snapshot::keep_out;
pub use snapshot::{DatabaseFacts, check_database};
pub use sqlite::{Clock, OpenOptions, SqliteRecords, system_clock};
pub use trust_store::{BatchUnder, UnderFilter, UnitUnder};
pub use unit_store::{IssuedKey, NewRma, Rma, RmaEnd, UnitExport, UnitRecord};
pub use vault::{KeyVault, SecretBytes, UnitKey, UnitKeys};
pub use verify::{Looked, Telling, Verified};

/// A new product order.
#[derive(Clone, Debug, Default)]
pub struct NewProductOrder {
    /// See [`ProductOrder::name`].
    pub name: String,
    /// See [`ProductOrder::model`].
    pub model: String,
    /// Hardware revision.
    pub hw_revision: String,
    /// Part number.
    pub part_number: String,
    /// Units ordered.
    pub quantity: u32,
    /// Region.
    pub region: u32,
    /// Suite, 1 or 2.
    pub suite: u8,
    /// Connection URL for the cloud record.
    pub cloud_url: String,
    /// See [`ProductOrder::lock`].
    pub lock: bool,
    /// See [`ProductOrder::per_hour`].
    pub per_hour: u32,
    /// See [`ProductOrder::label`].
    pub label: LabelPolicy,
    /// The image it is bound to from the start; `None`: the one that its first flash brings.
    pub image_sha256: Option<String>,
    /// The vendor's product key; `None`: one is drawn.
    pub product_key: Option<Secret<32>>,
    /// Who enters it.
    pub operator: String,
}

/// One line of a unit's history.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnitEvent {
    /// Grows by one per event in the whole database; the order of truth, whatever the clock did.
    pub seq: i64,
    /// The unit.
    pub unit: UnitId,
    /// The attempt that caused it, if one did.
    pub attempt: Option<AttemptId>,
    /// Wall clock, Unix milliseconds.
    pub at_ms: i64,
    /// What happened: `arrived`, `flash-begin`, `flash-end`, `agent-key-issued`, …
    pub kind: String,
    /// Facts, never secrets.
    pub detail: serde_json::Value,
}

/// One run of one unit at one fixture.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// Row.
    pub id: AttemptId,
    /// The batch it ran under.
    pub batch: BatchId,
    /// `None` while the unit's id is not known.
    pub unit: Option<UnitId>,
    /// Fixture name.
    pub fixture: String,
    /// Operator.
    pub operator: String,
    /// Station name.
    pub station: String,
    /// Unix milliseconds.
    pub started_at_ms: i64,
    /// Unix milliseconds, never before the start; `None` while running or interrupted.
    pub ended_at_ms: Option<i64>,
    /// `None` while running or interrupted.
    pub outcome: Option<Outcome>,
    /// Failure code, sentence, remedy.
    pub failure: Option<Failure>,
    /// What was proved.
    pub proof: Option<ProofRecord>,
    /// What it was for.
    pub work: AttemptWork,
}

/// What an attempt was for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptWork {
    /// A unit in the making.
    #[default]
    Make,
    /// New keys for a unit that passed.
    Update,
    /// The proof of the keys that are there, once more.
    Retest,
}

impl AttemptWork {
    /// The word in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Make => "make",
            Self::Update => "update",
            Self::Retest => "retest",
        }
    }
}

/// The records as line, agent, export and UI use them. All calls block until durable; none may be
/// called from the UI thread except the `list_*`/`*_counts` reads of a snapshot worker.
pub trait Records: Send + Sync {
    /// Creates a product order and draws its product key (sealed at once).
    fn create_product_order(&self, new: NewProductOrder) -> Result<ProductOrder, RecordsError>;
    /// All product orders, newest first.
    fn list_product_orders(&self) -> Result<Vec<ProductOrder>, RecordsError>;
    /// One by row.
    fn product_order(&self, id: PoId) -> Result<ProductOrder, RecordsError>;
    /// One by name.
    fn product_order_by_name(&self, name: &str) -> Result<ProductOrder, RecordsError>;
    /// Pins the image of an order at its first flash; a different one later is refused.
    fn pin_image(&self, id: PoId, image_sha256: &str) -> Result<(), RecordsError>;
    /// Creates orders, each with its first batch if it has one; all of them or none. The batches' `po` is not looked at.
    fn create_orders(
        &self,
        orders: Vec<(NewProductOrder, Option<NewBatch>)>,
    ) -> Result<Vec<(ProductOrder, Option<Batch>)>, RecordsError>;
    /// Creates a batch under an order, its serials in the usual form.
    fn create_batch(&self, po: PoId, name: &str, quantity: u32) -> Result<Batch, RecordsError> {
        self.new_batch(NewBatch { po, name: name.into(), quantity, ..NewBatch::default() })
    }
    /// Creates a batch under an order; its quantity must fit what is left of the order, and its serials into their pattern.
    fn new_batch(&self, new: NewBatch) -> Result<Batch, RecordsError>;
    /// All batches, newest first.
    fn list_batches(&self) -> Result<Vec<Batch>, RecordsError>;
    /// One by name.
    fn batch_by_name(&self, name: &str) -> Result<Batch, RecordsError>;
    /// One by row.
    fn batch(&self, id: BatchId) -> Result<Batch, RecordsError>;
    /// Opens, pauses or closes, and writes down who and why. A closed batch opens again only with a reason.
    fn set_batch_state(
        &self,
        id: BatchId,
        state: BatchState,
        operator: &str,
        reason: &str,
    ) -> Result<(), RecordsError>;
    /// QA checked a sample: the gray-release gate opens for as many units again.
    fn approve_sample(&self, id: BatchId, operator: &str, note: &str) -> Result<(), RecordsError>;
    /// Units that passed last and that no approved sample stands for yet, newest first.
    fn sample(&self, id: BatchId, at_most: u32) -> Result<Vec<Unit>, RecordsError>;
    /// What was decided about an order and its batches, oldest first.
    fn order_events(&self, po: PoId, batch: Option<BatchId>) -> Result<Vec<OrderEvent>, RecordsError>;
    /// What a unit's label says, and what became of it.
    fn label_facts(&self, unit: UnitId) -> Result<LabelFacts, RecordsError>;
    /// A label with this code came out of the printer; how many have now.
    fn label_printed(
        &self,
        unit: UnitId,
        attempt: Option<AttemptId>,
        code: &str,
        operator: &str,
    ) -> Result<u32, RecordsError>;
    /// The code that was printed last was read back from the unit.
    fn label_scanned(
        &self,
        unit: UnitId,
        attempt: Option<AttemptId>,
        code: &str,
        operator: &str,
    ) -> Result<(), RecordsError>;
    /// What a look at the whole database found wrong, if anything; nothing is written then.
    fn damage(&self) -> Option<RecordsError> {
        None
    }
    /// Counts for the header.
    fn batch_counts(&self, id: BatchId) -> Result<BatchCounts, RecordsError>;
    /// Opens an attempt before anything touches the board.
    fn begin_attempt(&self, batch: BatchId, fixture: &str, operator: &str)
    -> Result<AttemptId, RecordsError>;
    /// Opens an attempt that gives a unit new keys. A batch that is closed or paused does not stand in its way: its units are out
    /// there, and their keys must be replaceable.
    fn begin_update(&self, batch: BatchId, fixture: &str, operator: &str) -> Result<AttemptId, RecordsError>;
    /// Opens an attempt that proves a unit's keys once more and changes none. Records that do not tell the two apart keep it as an
    /// update, which is all that it may touch.
    fn begin_retest(&self, batch: BatchId, fixture: &str, operator: &str) -> Result<AttemptId, RecordsError> {
        self.begin_update(batch, fixture, operator)
    }
    /// Ties the attempt to the unit whose id was read over SWD, creating the unit (with its serial) if it is
    /// new. Blank ids, units of another batch, quarantined and scrapped units and a full quota are refused.
    fn bind_unit(&self, attempt: AttemptId, unit: UnitId) -> Result<Unit, RecordsError>;
    /// One unit.
    fn unit(&self, id: UnitId) -> Result<Option<Unit>, RecordsError>;
    /// One unit by what its label says.
    fn unit_by_serial(&self, serial: &str) -> Result<Option<Unit>, RecordsError>;
    /// What QA ordered for a unit, oldest first.
    fn reprovisions(&self, unit: UnitId) -> Result<Vec<Reprovision>, RecordsError>;
    /// Alarms, newest first; without `seen_too` those that nobody has looked at.
    fn list_alarms(&self, seen_too: bool) -> Result<Vec<Alarm>, RecordsError>;
    /// Somebody looked at an alarm. It comes back if it happens again.
    fn see_alarm(&self, id: i64, operator: &str) -> Result<(), RecordsError>;
    /// Changes how many enrolments an hour the vendor expects; 0 = not said.
    fn expect_rate(&self, po: PoId, per_hour: u32) -> Result<(), RecordsError>;
    /// What an order's product key enrolled since a moment (Unix milliseconds).
    fn product_key_reach(&self, po: PoId, since_ms: i64) -> Result<Reach, RecordsError>;
    /// Passed units of a batch that have a key of a generation below this one: what a release of new keys has still to do.
    fn units_below(&self, batch: BatchId, generation: u32) -> Result<u32, RecordsError>;
    /// Units of a batch in the order they first arrived.
    fn list_units(&self, batch: BatchId) -> Result<Vec<Unit>, RecordsError>;
    /// Appends an event and, if given, moves the unit's state, in one transaction.
    fn unit_event(
        &self,
        unit: UnitId,
        attempt: Option<AttemptId>,
        kind: &str,
        detail: serde_json::Value,
        state: Option<UnitState>,
    ) -> Result<(), RecordsError>;
    /// The unit's history, oldest first.
    fn unit_events(&self, unit: UnitId) -> Result<Vec<UnitEvent>, RecordsError>;
    /// Ends an attempt. PASS needs a proof with both MACs true, a non-blank unit and a non-blank agent and
    /// cloud key assignment in state `posted`; anything less is refused.
    fn finish_attempt(
        &self,
        attempt: AttemptId,
        outcome: Outcome,
        failure: Option<&Failure>,
        proof: Option<&ProofRecord>,
    ) -> Result<(), RecordsError>;
    /// Attempts of a batch, oldest first.
    fn list_attempts(&self, batch: BatchId) -> Result<Vec<Attempt>, RecordsError>;
    /// What the newest attempt on a unit before `before` proved, if it proved anything: also one that did not pass.
    fn last_proof(&self, unit: UnitId, before: AttemptId) -> Result<Option<ProofRecord>, RecordsError>;
    /// Attempts without an end from an earlier process of this station; called once at start, marks them
    /// interrupted (outcome ABORTED, failure `STATION_STOPPED`) and returns them.
    fn close_interrupted(&self) -> Result<Vec<Attempt>, RecordsError>;
    /// The canonical rows of a batch: every unit, in the order of arrival, then every attempt that never learnt its
    /// unit's id. Failures are included; secrets are not (see [`KeyVault`]).
    fn export_rows(&self, batch: BatchId) -> Result<Vec<ExportRow>, RecordsError>;
    /// Records that a list was handed out, before it is: to whom, and its digest. Returns its number.
    fn record_export(&self, export: NewExport) -> Result<i64, RecordsError>;
    /// Exports of a batch, oldest first.
    fn list_exports(&self, batch: BatchId) -> Result<Vec<ExportRecord>, RecordsError>;
}

/// What QA reads and writes about units; the line needs none of it.
pub trait UnitBook: Records {
    /// Units that a query names: a page of at most `limit` of them, `from` hits into the list.
    fn find_units(&self, query: &UnitQuery, from: u32, limit: u32) -> Result<UnitsFound, RecordsError>;
    /// Everything about a unit, as of one moment; `None` if it was never here.
    fn unit_record(&self, unit: UnitId) -> Result<Option<UnitRecord>, RecordsError>;
    /// Somebody wants a unit retested, and why: it stands in its history before the board is started.
    fn order_retest(&self, unit: UnitId, why: &Why, operator: &str) -> Result<(), RecordsError>;
    /// A unit came back from a customer.
    fn open_rma(&self, unit: UnitId, new: NewRma) -> Result<Rma, RecordsError>;
    /// What was found of the unit that came back. It says so in its history, and the RMA is closed.
    fn close_rma(&self, unit: UnitId, finding: &str, note: &str, operator: &str)
    -> Result<Rma, RecordsError>;
}

/// Why the records refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordsError {
    /// Another process holds the write lock.
    #[error(
        "the database {path} is locked by another program; close the other Keywright on this PC and try again"
    )]
    Locked {
        /// The file.
        path: String,
    },
    /// The file or its folder can't be written.
    #[error("the database {path} is read-only; give this user write access to the file and its folder")]
    ReadOnly {
        /// The file.
        path: String,
    },
    /// No space.
    #[error("the disk that holds {path} is full; free some space, then start the unit again")]
    DiskFull {
        /// The file.
        path: String,
    },
    /// Not a database, or a damaged one.
    #[error("the database {path} is damaged ({detail}); restore the last backup, keep the damaged file")]
    Corrupt {
        /// The file.
        path: String,
        /// SQLite's words.
        detail: String,
    },
    /// Written by a newer Keywright.
    #[error("the database {path} has schema {found}, this program knows {known}; start the newer Keywright")]
    NewerSchema {
        /// The file.
        path: String,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The passphrase does not open the station key.
    #[error("wrong passphrase for {path}")]
    WrongPassphrase {
        /// The file.
        path: String,
    },
    /// No such row.
    #[error("no {what} {name:?}; `keywright {list}` lists them")]
    NotFound {
        /// The noun.
        what: &'static str,
        /// What was asked for.
        name: String,
        /// The command that lists them.
        list: &'static str,
    },
    /// A rule of the station forbids it (quota, closed batch, quarantine, duplicate name …).
    #[error("{0}")]
    Refused(Box<Failure>),
    /// Anything else that SQLite said.
    #[error("the database {path} failed: {detail}")]
    Other {
        /// The file.
        path: String,
        /// SQLite's words.
        detail: String,
    },
}
