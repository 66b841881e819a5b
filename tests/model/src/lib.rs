//! A model checker over Keywright's own code: the unit's engine and store, the agent side of the protocol crate and the
//! cloud's ledger, in a world that loses, doubles, reorders and replays frames, crashes the agent, and cuts the unit's
//! power inside every flash operation (PROTOCOL §5, §8). What is real and what is abstract: `docs/model.md`.
//!
//! ```text
//!   unit: Engine over Store over Image (nor, unit)          agent: exchange::agent under A1–A4 (agent)
//!        │  run = events: flash operation | sent frame            │
//!        └──────────────► Net: unordered, lossy ◄────────────────┘──► Cloud: the station's ledger (cloud)
//!                     system: State, Action, properties I1–I10, mutants
//! ```

pub mod agent;
pub mod check;
pub mod cloud;
/// The station's nouns, which the ledger is written in.
#[path = "../../../station/src/model.rs"]
pub mod model;
pub mod net;
pub mod nor;
pub mod system;
pub mod unit;
pub mod world;

use keywright_protocol::UnitId;

/// The one unit.
pub const UNIT: UnitId = UnitId(*b"\x00\x3a\x00\x27WRP 5532");

/// In every state and every reading, some valid record is accepted by agent and cloud.
pub const I1: &str = "I1 some record is accepted";
/// The cloud accepts {g} or {g, g+1}, g+1 being the next number that was not withdrawn.
pub const I2: &str = "I2 the accepted set is {g} or {g, g+1}";
/// A fault-free continuation converges.
pub const I3: &str = "I3 a fault-free continuation converges";
/// An area is erased only if the other one is committed and confirmed.
pub const I4: &str = "I4 only what is superseded is erased";
/// Nothing is sent under a key before its COMMIT is solid.
pub const I5: &str = "I5 no confirmation before COMMIT";
/// Where the peer has disabled the old key, the unit has COMMIT(new).
pub const I6: &str = "I6 disabled old, committed new";
/// The product key is erased only when an agent key is confirmed.
pub const I7: &str = "I7 product key erased, agent key confirmed";
/// Record generations strictly grow.
pub const I8: &str = "I8 generations grow";
/// At most one record is unconfirmed.
pub const I9: &str = "I9 at most one record is unconfirmed";
/// At most one cloud generation waits.
pub const I10: &str = "I10 at most one staged generation";

/// All invariants, in order.
pub const INVARIANTS: [&str; 10] = [I1, I2, I3, I4, I5, I6, I7, I8, I9, I10];

/// What is broken on purpose, one at a time: in the flash adaptor below the real store, in the model's agent, or in
/// the commands that reach the real ledger. The product's code is the same in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// Nothing.
    #[default]
    None,
    /// Both areas are one erase unit.
    SharedSector,
    /// Area A's addresses reach area B: one slot, written in place.
    SingleSlot,
    /// COMMIT reaches the cells only after the next frame has left.
    ConfirmBeforeCommit,
    /// The cloud disables the old key when the new one is given out (the paper's Fig. 5, step 3).
    DisableAtStep3,
    /// Programming a COMMIT that reads well already does nothing at boot.
    NoReadRepair,
    /// Every fresh U1 gets a new cloud generation, which replaces the staged one.
    RestagePerRequest,
    /// Programming COMMIT erases the other area, and BOTH may end by time-out.
    EarlyErase,
    /// Half of that one: only the time-out.
    TimeoutOnly,
    /// The cloud obeys a Commit however old it is.
    StaleCommit,
    /// N2 and TH2 are in RAM: a pending record comes back without them.
    VolatileN2,
    /// An agent that stages the next key and leaves an exchange open that a login has overtaken: not in the PROTOCOL's list,
    /// found by this model.
    LoginLeavesExchange,
    /// The agent forgets a cloud key's exchanges and refuses the key without asking the cloud.
    WithdrawUnasked,
    /// The cloud takes a cloud key back even if its unit has logged in with it.
    WithdrawBlindly,
    /// A withdrawal is not noted before the cloud is asked.
    WithdrawUnnoted,
    /// The unit reads every record's own number one too low.
    ForgottenGeneration,
    /// CONFIRM never reaches the cells.
    LostConfirm,
    /// The newest INIT replaces whatever the unit has.
    NewestRequestWins,
}
