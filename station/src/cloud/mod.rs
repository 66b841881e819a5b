//! The cloud: where units log in with their cloud keys (PROTOCOL §4).
//!
//! A [`Platform`] keeps two identities of a unit apart, `<uid>.<generation>`, so the broker itself enforces
//! *old | both | new*. Two adapters: [`LocalPlatform`], an MQTT broker inside the station's process, and
//! [`MosquittoPlatform`], Eclipse Mosquitto with its dynamic security plugin. Both are one engine (queue, ledger,
//! back-off) over a thin backend, so they can't disagree about what a commit means.
//!
//! ```text
//! OLD{g} –stage(g+1)→ BOTH{g, g+1} –commit(g+1), or a login with g+1→ NEW{g+1}
//!                                  └─withdraw(g+1)→ OLD{g}
//! ```
//! Every operation returns a [`Ticket`] at once and is confirmed later; U3 leaves after the stage's confirmation, U7
//! after the commit's. Nothing here waits on the caller's thread, so no fixture ever stands still for a broker.

mod credential;
mod engine;
mod error;
mod hub;
mod ledger;
mod local;
mod mosquitto;
mod mqtt;
mod ticket;
mod wire;

use crate::model::UnitId;
use engine::Engine;
use std::collections::BTreeSet;

pub use credential::{Credential, Identity, Verifier, birth_topic, down_topic, may_publish, may_subscribe};
pub use engine::Health;
pub use error::CloudError;
pub use hub::{Clouds, LOCAL_URL, address, cloud_failure, try_mosquitto};
pub use ledger::{Ack, Act, Room, Standing};
pub use local::{LocalConfig, LocalPlatform};
pub use mosquitto::{Dialogue, MosquittoConfig, MosquittoPlatform, Talk, setup_message};
pub(crate) use mosquitto::{acls, description, role_name};
pub use mqtt::{Answer, Dialled, Endpoint, Link, Login, Message, Question, Received, Step, try_login};
pub use ticket::{Notice, Notices, Ticket};

/// Requests that wait at most, unless configured otherwise.
pub const DEFAULT_QUEUE: usize = 4096;

/// A cloud platform. Every request may be repeated; each is compared with the highest generation ever staged.
pub trait Platform: Send + Sync {
    /// `local`, `mosquitto`.
    fn name(&self) -> &'static str;
    /// Where units connect.
    fn endpoint(&self) -> Endpoint;
    /// Lets a new generation in beside the current one. Refused: a generation at or below the highest ever staged
    /// (unless it is let in already, with the same credential), a second staged one, a blocked unit.
    fn stage(&self, unit: UnitId, generation: u32, credential: Credential) -> Ticket;
    /// Makes the highest staged generation the only one; older ones are removed and their sessions ended.
    /// [`Ack::Stale`]: a past generation, nothing was done.
    fn commit(&self, unit: UnitId, generation: u32) -> Ticket;
    /// Removes one generation for good, whichever it is: the end of a move, or of a key that was never proved.
    fn retire(&self, unit: UnitId, generation: u32) -> Ticket;
    /// Takes a staged generation back for good, unless it was committed first ([`Ack::Committed`]: nothing was done).
    fn withdraw(&self, unit: UnitId, generation: u32) -> Ticket;
    /// Lets no identity of the unit in, until [`Platform::unblock`].
    fn block(&self, unit: UnitId) -> Ticket;
    /// Lifts a block.
    fn unblock(&self, unit: UnitId) -> Ticket;
    /// Publishes to `kw/<uid>/down/<rest>` (a wake, for example): handed to the broker, at most once per session.
    fn send(&self, unit: UnitId, rest: &str, payload: &[u8]) -> Ticket;
    /// The generations that the broker lets in now, by its own word.
    fn accepted(&self, unit: UnitId) -> Ticket<BTreeSet<u32>>;
    /// Where the unit stands by the ledger; at once.
    fn standing(&self, unit: UnitId) -> Standing;
    /// Logins, births and completed confirmations from now on.
    fn notices(&self) -> Notices;
    /// Whether the platform answers, and how much waits.
    fn health(&self) -> Health;
    /// Ends it; requests that wait are refused with [`CloudError::Stopped`].
    fn stop(&self);
}

/// What an adapter adds to the engine.
trait Adapter: Send + Sync {
    const NAME: &'static str;
    fn engine(&self) -> &Engine;
    fn endpoint(&self) -> Endpoint;
    fn stop(&self);
}

impl<A: Adapter> Platform for A {
    fn name(&self) -> &'static str {
        A::NAME
    }

    fn endpoint(&self) -> Endpoint {
        Adapter::endpoint(self)
    }

    fn stage(&self, unit: UnitId, generation: u32, credential: Credential) -> Ticket {
        self.engine().stage(Identity { unit, generation }, credential)
    }

    fn commit(&self, unit: UnitId, generation: u32) -> Ticket {
        self.engine().commit(Identity { unit, generation })
    }

    fn retire(&self, unit: UnitId, generation: u32) -> Ticket {
        self.engine().retire(Identity { unit, generation })
    }

    fn withdraw(&self, unit: UnitId, generation: u32) -> Ticket {
        self.engine().withdraw(Identity { unit, generation })
    }

    fn block(&self, unit: UnitId) -> Ticket {
        self.engine().block(unit, true)
    }

    fn unblock(&self, unit: UnitId) -> Ticket {
        self.engine().block(unit, false)
    }

    fn send(&self, unit: UnitId, rest: &str, payload: &[u8]) -> Ticket {
        let topic = down_topic(unit, rest);
        if rest.is_empty() || rest.contains(['#', '+', '\0']) || topic.len() > 256 {
            return Ticket::refused(CloudError::Invalid { what: format!("topic {rest:?}") });
        }
        self.engine().send(unit, topic, payload.into())
    }

    fn accepted(&self, unit: UnitId) -> Ticket<BTreeSet<u32>> {
        self.engine().accepted(unit)
    }

    fn standing(&self, unit: UnitId) -> Standing {
        self.engine().standing(unit)
    }

    fn notices(&self) -> Notices {
        self.engine().notices()
    }

    fn health(&self) -> Health {
        self.engine().health()
    }

    fn stop(&self) {
        Adapter::stop(self);
    }
}
