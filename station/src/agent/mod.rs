//! The agent: the party that issues keys (PROTOCOL §4, seed 003 §IV).
//!
//! Invariants: persist before every send; identical frame 1 ⇒ identical cached frame 2; ACTIVE is sticky; at most
//! one staged cloud generation; the accepted set is {g} or {g, g+1}.

pub mod cloud;
mod embedded;
mod platforms;
mod qa;

pub use cloud::Birth;
pub use embedded::{EmbeddedAgent, Point};
pub use platforms::PlatformCloud;
pub use qa::{Invalidated, Standing};

use crate::cloud::Endpoint;
use crate::failure::Failure;
use crate::model::*;
use keywright_protocol::control::Proof;

/// Where a frame came from: what the station knows about the fixture it came out of.
#[derive(Clone, Copy, Debug)]
pub struct FrameContext {
    /// The batch that the line runs.
    pub batch: BatchId,
    /// The id the station read over SWD: the only attestation this chip allows. The agent refuses a frame whose
    /// decrypted id differs.
    pub unit: UnitId,
    /// The attempt, for the unit's history.
    pub attempt: Option<AttemptId>,
}

/// What the agent did with one frame.
#[derive(Debug)]
pub struct Handled {
    /// The frame to send back; `None` = silent drop.
    pub reply: Option<Vec<u8>>,
    /// What changed, for the line's progress.
    pub change: Change,
}

/// What changed at the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: dropped (counted inside), or a cached answer was repeated.
    Nothing,
    /// An agent key was issued and is pending.
    AgentKeyIssued {
        /// Its generation.
        ak_gen: u32,
    },
    /// The unit confirmed its agent key.
    AgentKeyActive {
        /// Its generation.
        ak_gen: u32,
    },
    /// A cloud key was staged at the cloud and issued.
    CloudKeyIssued {
        /// Its generation.
        ck_gen: u32,
    },
    /// The unit confirmed its cloud key and the cloud committed it.
    CloudKeyActive {
        /// Its generation.
        ck_gen: u32,
    },
    /// Refused for a reason that a person must see (quota, quarantine, enrolled before, unknown product key …).
    /// The wire still shows a silent drop or an authentic NACK.
    Refused(Failure),
}

/// The agent as the line sees it; embedded today, remote later: the station only relays opaque frames.
pub trait Agent: Send + Sync {
    /// Handles one frame from a unit. Everything that the reply promises is durable when this returns.
    fn handle(&self, context: FrameContext, frame: &[u8]) -> Result<Handled, Failure>;
    /// Checks a unit's proof of its installed keys against those issued; the keys never leave the agent.
    fn check_proof(
        &self,
        context: FrameContext,
        challenge: &[u8; 32],
        proof: &Proof,
    ) -> Result<ProofRecord, Failure>;
    /// The kind 1 record (product key, order, root anchor, bundle) for key area B, COMMIT and CONFIRM set: the same
    /// bytes for every unit of the product order (contracts: stage one).
    fn stage_one_record(&self, po: PoId) -> Result<Vec<u8>, Failure>;
    /// The unit was erased (its storage secret and keys are gone) before it ever passed: keys that it never proved
    /// are voided, so that it may enrol again. Refused for a unit that passed.
    fn forget_unproved(&self, unit: UnitId, attempt: AttemptId) -> Result<(), Failure>;
    /// Where the bench's bridge may connect this unit: its own broker and no other. Before it answers, the agent makes sure that
    /// the broker knows what the records say of the unit.
    fn bridge_target(&self, unit: UnitId, host: &str, port: u16) -> Result<Endpoint, Failure>;
    /// The newest birth of this unit that its broker told since the process began.
    fn last_birth(&self, unit: UnitId) -> Option<Birth>;
    /// Tries what the unit's past keys still open at its brokers. All of them refused: how many were tried.
    fn try_old_credentials(&self, unit: UnitId) -> Result<u32, Failure>;
    /// Orders an update of a unit's keys. The next cloud key goes to the platform with this URL; `None`: where the unit is.
    fn order_update(&self, unit: UnitId, cloud: Option<&str>) -> Result<(), Failure>;
    /// Tells a unit that is logged in to start an update (`agent-key`, `cloud-key`).
    fn wake(&self, unit: UnitId, update: &str) -> Result<(), Failure>;
}
