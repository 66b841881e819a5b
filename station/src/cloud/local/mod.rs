//! The platform inside the station: needs no installation, and is the default.

mod broker;

use super::credential::{Identity, Verifier};
use super::engine::{Backend, Engine};
use super::error::CloudError;
use super::ledger::{Act, Room};
use super::mqtt::Endpoint;
use super::{Adapter, DEFAULT_QUEUE};
use crate::model::UnitId;
use broker::Broker;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

/// How to run it.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// Where its ledger lies (`<home>/cloud/local.journal`).
    pub ledger: PathBuf,
    /// How large the ledger may grow.
    pub room: Room,
    /// Address and port; port 0 takes any free one. Loopback only: it speaks without TLS.
    pub listen: SocketAddr,
    /// Most connections at once.
    pub connections: usize,
    /// Most requests that wait.
    pub queue: usize,
}

impl LocalConfig {
    /// Loopback, any free port.
    pub fn new(ledger: PathBuf) -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { ledger, room: Room::default(), listen, connections: 4096, queue: DEFAULT_QUEUE }
    }
}

/// The embedded broker and its ledger.
pub struct LocalPlatform {
    // The engine stops first: its worker uses the broker.
    engine: Engine,
    broker: Arc<Broker>,
}

impl std::fmt::Debug for LocalPlatform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalPlatform").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl LocalPlatform {
    /// Reads the ledger, lets in whom it names, then listens.
    ///
    /// # Errors
    /// [`CloudError::Ledger`], [`CloudError::Damaged`]; [`CloudError::Unreachable`] if the address can't be had or
    /// is not loopback.
    pub fn start(config: &LocalConfig) -> Result<Self, CloudError> {
        let fail = |detail: String| CloudError::Unreachable { endpoint: config.listen.to_string(), detail };
        if !config.listen.ip().is_loopback() {
            return Err(fail("the embedded broker has no TLS and listens on loopback only".into()));
        }
        let engine = Engine::open(&config.ledger, config.room.clone(), config.queue)?;
        let table = Arc::new(Table::default());
        for (unit, standing) in engine.standings() {
            for (generation, verifier) in standing.enabled_with_verifiers() {
                let entry = Seat { verifier, suspended: standing.is_blocked() };
                table.write(|seats| seats.insert(Identity { unit, generation }, entry));
            }
        }
        let broker = Broker::start(config.listen, config.connections, table.clone(), engine.evidence())
            .map_err(|e| fail(e.to_string()))?;
        let broker = Arc::new(broker);
        engine.start("local", Box::new(Local { table, broker: broker.clone(), known: false }))?;
        Ok(Self { engine, broker })
    }

    /// Where it listens; the port is the real one.
    pub fn address(&self) -> SocketAddr {
        self.broker.address()
    }
}

impl Adapter for LocalPlatform {
    const NAME: &'static str = "local";

    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::plain(self.address())
    }

    fn stop(&self) {
        self.engine.stop();
        self.broker.stop();
    }
}

impl Drop for LocalPlatform {
    fn drop(&mut self) {
        Adapter::stop(self);
    }
}

#[derive(Debug)]
struct Seat {
    verifier: Verifier,
    suspended: bool,
}

/// Whom the broker lets in.
#[derive(Debug, Default)]
struct Table(RwLock<HashMap<Identity, Seat>>);

impl Table {
    fn admits(&self, identity: Identity, shown: Verifier) -> bool {
        let seats = self.0.read().unwrap_or_else(PoisonError::into_inner);
        seats.get(&identity).is_some_and(|seat| seat.verifier == shown && !seat.suspended)
    }

    fn write<T>(&self, change: impl FnOnce(&mut HashMap<Identity, Seat>) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Local {
    table: Arc<Table>,
    broker: Arc<Broker>,
    known: bool,
}

impl Local {
    fn stopped(&self) -> CloudError {
        CloudError::Unreachable {
            endpoint: self.broker.address().to_string(),
            detail: "the embedded broker is not running; restart the station".into(),
        }
    }
}

impl Backend for Local {
    fn ready(&mut self) -> Result<Option<HashSet<Identity>>, CloudError> {
        if std::mem::replace(&mut self.known, true) {
            return Ok(None);
        }
        Ok(Some(self.table.write(|seats| seats.keys().copied().collect())))
    }

    fn apply(&mut self, acts: &[Act]) -> Result<Vec<Result<(), CloudError>>, CloudError> {
        let mut kicked = Vec::new();
        let results = self.table.write(|seats| {
            let mut one = |act: &Act| match act {
                Act::Allow { identity, verifier, .. } => {
                    seats
                        .entry(*identity)
                        .and_modify(|seat| seat.verifier = *verifier)
                        .or_insert(Seat { verifier: *verifier, suspended: false });
                    Ok(())
                }
                Act::Remove { identity, .. } => {
                    seats.remove(identity);
                    kicked.push(*identity);
                    Ok(())
                }
                Act::Suspend { identity } | Act::Resume { identity } => {
                    let suspended = matches!(act, Act::Suspend { .. });
                    if suspended {
                        kicked.push(*identity);
                    }
                    match seats.get_mut(identity) {
                        Some(seat) => {
                            seat.suspended = suspended;
                            Ok(())
                        }
                        None => Err(CloudError::Missing { identity: *identity }),
                    }
                }
            };
            acts.iter().map(&mut one).collect()
        });
        if !kicked.is_empty() && !self.broker.kick(kicked) {
            return Err(self.stopped());
        }
        Ok(results)
    }

    fn send(&mut self, unit: UnitId, topic: &str, payload: &[u8]) -> Result<(), CloudError> {
        if self.broker.deliver(unit, topic, payload) { Ok(()) } else { Err(self.stopped()) }
    }

    fn accepted(&mut self, identities: &[Identity]) -> Result<BTreeSet<u32>, CloudError> {
        Ok(self.table.write(|seats| {
            let admitted = |i: &&Identity| seats.get(i).is_some_and(|seat| !seat.suspended);
            identities.iter().filter(admitted).map(|i| i.generation).collect()
        }))
    }
}
