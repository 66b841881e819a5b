//! The cloud as the agent sees it: *old | both | new* for every unit (PROTOCOL §4).
//!
//! ```text
//! OLD{g} –prepare(g+1)→ BOTH{g, g+1} –activate(g+1), or a connection with g+1→ NEW{g+1}
//! ```
//! Two generations are two identities `<uid>.<generation>`, so the platform itself enforces the state. Message U3
//! leaves only after `prepare` returned, U7 only after `activate`. BOTH never ends by time-out; a connection with the
//! old key changes nothing.

use crate::failure::{Failure, FailureCode};
use crate::model::UnitId;
use crate::records::{RecordsError, SqliteRecords};
use keywright_protocol::CloudKey;
use keywright_protocol::crypto;

/// Where a unit stands at the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloudState {
    /// The cloud has no identity of it.
    Unknown,
    /// Old and new are both accepted; `old` is 0 for a unit's first key.
    Both {
        /// The generation in use.
        old: u32,
        /// The staged generation.
        new: u32,
    },
    /// One generation is accepted (NEW, which is OLD for the next round).
    New {
        /// It.
        generation: u32,
    },
}

/// What came of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The platform let the unit in.
    pub accepted: bool,
    /// The connection was the evidence that ended BOTH: this generation is the only one now, tell the agent.
    pub committed: Option<u32>,
}

/// A cloud platform. Every call is idempotent and durable when it returns.
pub trait Cloud: Send + Sync {
    /// Enables the identity of a new generation beside the current one. A generation below the highest staged one is
    /// refused.
    fn prepare(&self, unit: UnitId, generation: u32, key: &CloudKey) -> Result<(), Failure>;
    /// Makes a staged generation the only one. A stale generation is ignored: `false`, and the unit must not be told
    /// that it is active.
    fn activate(&self, unit: UnitId, generation: u32) -> Result<bool, Failure>;
    /// Disables the identity of one generation for good.
    fn retire(&self, unit: UnitId, generation: u32) -> Result<(), Failure>;
    /// Lets no identity of the unit in any more, until an operator lifts it.
    fn block(&self, unit: UnitId) -> Result<(), Failure>;
    /// A unit connects and shows a key.
    fn connect(&self, unit: UnitId, generation: u32, key: &CloudKey) -> Result<Connected, Failure>;
    /// Where the unit stands.
    fn state(&self, unit: UnitId) -> Result<CloudState, Failure>;
}

/// The registry in the station's own database: the first adapter. It keeps a verifier of each key, never the key.
#[derive(Clone, Debug)]
pub struct RegistryCloud {
    records: SqliteRecords,
}

impl RegistryCloud {
    /// The registry of these records.
    pub fn new(records: SqliteRecords) -> Self {
        Self { records }
    }
}

/// Keys are at least 128 random bits, so a plain hash gives nothing away.
fn verifier(key: &CloudKey) -> [u8; 32] {
    crypto::sha256(&[b"keywright/cloud-verifier/v1", key.expose()])
}

fn failure(error: RecordsError) -> Failure {
    match error {
        RecordsError::Refused(failure) => *failure,
        other => Failure::new(FailureCode::RecordsFailed, other),
    }
}

impl Cloud for RegistryCloud {
    fn prepare(&self, unit: UnitId, generation: u32, key: &CloudKey) -> Result<(), Failure> {
        self.records.cloud_prepare(unit, generation, verifier(key)).map_err(failure)
    }

    fn activate(&self, unit: UnitId, generation: u32) -> Result<bool, Failure> {
        self.records.cloud_activate(unit, generation).map_err(failure)
    }

    fn retire(&self, unit: UnitId, generation: u32) -> Result<(), Failure> {
        self.records.cloud_retire(unit, generation).map_err(failure)
    }

    fn block(&self, unit: UnitId) -> Result<(), Failure> {
        self.records.cloud_block(unit).map_err(failure)
    }

    fn connect(&self, unit: UnitId, generation: u32, key: &CloudKey) -> Result<Connected, Failure> {
        self.records.cloud_connect(unit, generation, verifier(key)).map_err(failure)
    }

    fn state(&self, unit: UnitId) -> Result<CloudState, Failure> {
        self.records.cloud_facts(unit).map(|facts| facts.state).map_err(failure)
    }
}
