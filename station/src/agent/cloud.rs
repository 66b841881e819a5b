//! The cloud as the agent sees it: *old | both | new* for every unit (PROTOCOL §4).
//!
//! ```text
//! OLD{g} –prepare(g+1)→ BOTH{g, g+1} –activate(g+1), or a connection with g+1→ NEW{g+1}
//!                                    └─withdraw(g+1), if neither happened→ OLD{g}
//! ```
//! Two generations are two identities `<uid>.<generation>`, so the platform itself enforces the state. Message U3
//! leaves only after `prepare` returned, U7 only after `activate`. BOTH never ends by time-out; a connection with the
//! old key changes nothing.

use crate::cloud::Endpoint;
use crate::failure::Failure;
use crate::model::UnitId;
use keywright_protocol::CloudKey;
use std::time::Instant;

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

/// The cloud platforms of an agent. Every call is idempotent and durable when it returns. `at` is the URL by which units know
/// their platform (TLV 3 of their record).
pub trait Cloud: Send + Sync {
    /// Enables the identity of a new generation beside the current one. A generation below the highest staged one is
    /// refused.
    fn prepare(&self, at: &str, unit: UnitId, generation: u32, key: &CloudKey) -> Result<(), Failure>;
    /// Makes a staged generation the only one. A stale generation is ignored: `false`, and the unit must not be told
    /// that it is active.
    fn activate(&self, at: &str, unit: UnitId, generation: u32) -> Result<bool, Failure>;
    /// Disables a staged generation for good, unless it is the active one by now: `true`, and nothing was done. The platform
    /// decides, so of a withdrawal and a login that meet, one comes first for everybody.
    fn withdraw(&self, at: &str, unit: UnitId, generation: u32) -> Result<bool, Failure>;
    /// Disables the identity of one generation for good.
    fn retire(&self, at: &str, unit: UnitId, generation: u32) -> Result<(), Failure>;
    /// Lets no identity of the unit in any more, until an operator lifts it.
    fn block(&self, at: &str, unit: UnitId) -> Result<(), Failure>;
    /// Lifts a block.
    fn unblock(&self, at: &str, unit: UnitId) -> Result<(), Failure>;
    /// Somebody connects and shows a key: asked of the platform itself, by a login.
    fn connect(&self, at: &str, unit: UnitId, generation: u32, key: &CloudKey) -> Result<Connected, Failure>;
    /// Where the unit stands.
    fn state(&self, at: &str, unit: UnitId) -> Result<CloudState, Failure>;
    /// How to reach the platform, for whoever stands in for a unit's modem.
    fn endpoint(&self, at: &str) -> Result<Endpoint, Failure>;
    /// Whether the platform answers now, in words. Asks it; waits as long as for any other request.
    fn reach(&self, at: &str) -> Result<String, Failure> {
        self.endpoint(at).map(|_| at.to_owned())
    }
    /// URLs of the platforms in use.
    fn places(&self) -> Vec<String>;
    /// The newest birth of this unit that the platform told.
    fn last_birth(&self, unit: UnitId) -> Option<Birth>;
    /// Publishes to a unit that is logged in (`kw/<uid>/down/<rest>`).
    fn send(&self, at: &str, unit: UnitId, rest: &str, payload: &[u8]) -> Result<(), Failure>;
}

/// A unit said that it was born, and the platform knows which of its identities said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Birth {
    /// Cloud-key generation of the session, from the platform where it tells it, else from the message.
    pub generation: u32,
    /// Names the boot: drawn by the unit at each start.
    pub boot: String,
    /// Firmware version.
    pub firmware: String,
    /// When it was heard.
    pub at: Instant,
}
