//! Why a cloud platform did not do what was asked: who erred, and what to do next.

use super::credential::Identity;
use crate::model::UnitId;

/// A failure of a cloud platform or of its adapter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloudError {
    /// No connection.
    #[error(
        "the broker at {endpoint} can't be reached ({detail}); check that it runs and that address and network are right"
    )]
    Unreachable {
        /// Host and port.
        endpoint: String,
        /// The system's words.
        detail: String,
    },
    /// It answered, and does not let us in.
    #[error(
        "the broker at {endpoint} refused the login ({detail}); check user name and password in the station's configuration"
    )]
    LoginRefused {
        /// Host and port.
        endpoint: String,
        /// The broker's words.
        detail: String,
    },
    /// It let us in and then said nothing.
    #[error(
        "the broker at {endpoint} gave no answer to {what} within {seconds} s; check its load, and that the agent's identity may use $CONTROL/dynamic-security"
    )]
    Slow {
        /// Host and port.
        endpoint: String,
        /// What we waited for.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// Our own identity lacks a permission.
    #[error(
        "the broker at {endpoint} does not let the agent's identity {what}; give it the role in docs/cloud.md"
    )]
    NotPermitted {
        /// Host and port.
        endpoint: String,
        /// The denied act.
        what: String,
    },
    /// The broker's defaults would let units do more than their role says, or keep them from what it says.
    #[error(
        "the broker at {endpoint} has unsuitable default access ({what}), and that applies beside every unit's role; set it with `mosquitto_ctrl dynsec setDefaultACLAccess`"
    )]
    UnsafeDefaults {
        /// Host and port.
        endpoint: String,
        /// The default and what it must be.
        what: String,
    },
    /// Certificate or trust settings.
    #[error(
        "the secure connection to {endpoint} failed ({detail}); check the CA file and the broker's certificate"
    )]
    Tls {
        /// Host and port.
        endpoint: String,
        /// The library's words.
        detail: String,
    },
    /// It broke the protocol.
    #[error("the broker at {endpoint} answered against the protocol ({detail}); check its version")]
    Protocol {
        /// Host and port.
        endpoint: String,
        /// What was wrong.
        detail: String,
    },
    /// It understood a command and refused it.
    #[error(
        "the broker refused {command} for {identity} ({reason}); check its dynamic-security file and its free disk space"
    )]
    Rejected {
        /// The command.
        command: String,
        /// For whom.
        identity: String,
        /// The broker's words.
        reason: String,
    },
    /// The name is taken by something that we did not make.
    #[error(
        "the broker already has another identity {identity}; find out who made it, then retire that generation"
    )]
    Conflict {
        /// The name.
        identity: Identity,
    },
    /// The broker lost an identity that should be there.
    #[error("the broker has lost identity {identity}; stage the same generation again")]
    Missing {
        /// The name.
        identity: Identity,
    },
    /// A commit of what was never staged.
    #[error("generation {} of unit {} was never staged here; stage it first", identity.generation, identity.unit)]
    NotStaged {
        /// The identity.
        identity: Identity,
    },
    /// Another generation waits for its confirmation: at most one is staged (invariant I10).
    #[error("unit {unit} still has generation {staged} staged; commit or retire that one first")]
    Unconfirmed {
        /// The unit.
        unit: UnitId,
        /// The waiting generation.
        staged: u32,
    },
    /// The same generation with another password.
    #[error("generation {} of unit {} was staged before with another key; issue a new generation", identity.generation, identity.unit)]
    OtherKey {
        /// The identity.
        identity: Identity,
    },
    /// An older generation than the highest staged one, or one that was retired.
    #[error("generation {} of unit {} is past (the highest staged one is {highest}); issue a new generation", identity.generation, identity.unit)]
    Past {
        /// The identity.
        identity: Identity,
        /// The highest ever staged.
        highest: u32,
    },
    /// Blocked by an operator.
    #[error("unit {unit} is blocked at the cloud; lift the block first")]
    Blocked {
        /// The unit.
        unit: UnitId,
    },
    /// Generation 0 or a topic that is none.
    #[error("{what} can't be used; this is a fault of the program that asked")]
    Invalid {
        /// What.
        what: String,
    },
    /// More is waiting than the adapter holds.
    #[error("{capacity} requests are waiting for the cloud already; wait until the broker answers again")]
    QueueFull {
        /// The queue's length.
        capacity: usize,
    },
    /// Not done yet; it stays queued and nothing is lost.
    #[error("the cloud has not confirmed within {seconds} s{}; the request stays queued", cause.as_ref().map(|c| format!(" ({c})")).unwrap_or_default())]
    Pending {
        /// How long was waited.
        seconds: u64,
        /// What stands in the way, if known.
        cause: Option<Box<CloudError>>,
    },
    /// The adapter was stopped with the request unfinished.
    #[error("the cloud adapter was stopped before it finished; ask again after the next start")]
    Stopped,
    /// The ledger can't be written.
    #[error("the cloud ledger {path} can't be used ({detail}); check free disk space and permissions")]
    Ledger {
        /// The file.
        path: String,
        /// The system's words.
        detail: String,
    },
    /// The ledger is damaged.
    #[error("the cloud ledger {path} is damaged at line {line}; restore it from a backup")]
    Damaged {
        /// The file.
        path: String,
        /// Line, from 1.
        line: usize,
    },
}

impl CloudError {
    /// True if the fault may end by itself, so that the same request is worth repeating.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::LoginRefused { .. }
                | Self::Slow { .. }
                | Self::NotPermitted { .. }
                | Self::UnsafeDefaults { .. }
                | Self::Tls { .. }
                | Self::Protocol { .. }
                | Self::Ledger { .. }
                | Self::Pending { .. }
        )
    }
}
