//! The agent: the protocol crate's real agent side under the rules of PROTOCOL §4, in the order of the station's
//! embedded agent: decide → keys and frame → persist → cloud → answer.
//!
//! What it persists is one cloneable value. Its random numbers follow from what they are for, so that the order in
//! which unrelated frames arrive does not make different states.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use keywright_protocol::crypto::sha256;
use keywright_protocol::exchange::agent::{Confirmed, Grant, Incoming, Pending, Request, Verdict, nack};
use keywright_protocol::exchange::{NackReason, ResponseEntropy};
use keywright_protocol::keys::EphemeralSecret;
use keywright_protocol::record::{CloudRecord, CloudRecordParts};
use keywright_protocol::schedule::KeyContext;
use keywright_protocol::{
    AgentKey, BaseKey, CloudKey, Generation, MAX_CLOUD_RECORD, MAX_FRAME, Purpose, Suite,
};

use crate::cloud::Cloud;
use crate::nor::id_of;
use crate::world::{self, TIME};
use crate::{Mutant, UNIT};

/// Exchanges kept per purpose.
const MAX_PENDING: usize = 4;

/// Moments between which a crash must cost nothing, as in the station's embedded agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// Everything is computed, nothing is written.
    BeforePersist,
    /// The records have it, the cloud has not heard of it.
    BeforeCloud,
    /// The cloud has it, the records have not heard back.
    AfterCloud,
    /// All is written, the answer has not left.
    BeforeAnswer,
}

impl Point {
    /// All of them.
    pub const ALL: [Point; 4] =
        [Point::BeforePersist, Point::BeforeCloud, Point::AfterCloud, Point::BeforeAnswer];
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Not authentic, not known, not allowed, or the cloud refused.
    Quiet,
    /// The process died at the point asked for.
    Crashed,
}

/// A refused frame: nobody is told why.
impl From<keywright_protocol::Error> for Stop {
    fn from(_: keywright_protocol::Error) -> Stop {
        Stop::Quiet
    }
}

#[derive(Clone)]
struct Entry {
    frame1_hash: [u8; 32],
    frame2: Arc<[u8]>,
    pending: Pending,
    confirmed: bool,
}

/// What the agent keeps about one unit.
#[derive(Clone, Default)]
pub struct Agent {
    mutant: Mutant,
    crash: Option<Point>,
    active: bool,
    ak_cur: u32,
    ak_next: u32,
    ak_highest: u32,
    agent_keys: BTreeMap<u32, AgentKey>,
    ck_active: u32,
    ck_highest: u32,
    /// The staged generation whose withdrawal has begun.
    ck_evicted: u32,
    staged: Option<(u32, Arc<[u8]>)>,
    entries: Vec<Entry>,
    /// Exchanges ever answered: what is drawn for one of them is never drawn again.
    issued: u32,
    /// Which key the next NACK of an update is made under; not persisted.
    next_turn: bool,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Agent { ak_cur, ak_next, ck_active, .. } = self;
        let waiting: Vec<_> =
            self.entries.iter().map(|e| (e.pending.purpose, e.pending.generation.0, e.confirmed)).collect();
        write!(f, "Agent(ak {ak_cur} next {ak_next}, ck {ck_active}, {waiting:?})")
    }
}

/// The cloud key of a generation.
pub fn cloud_key(generation: u32) -> CloudKey {
    CloudKey::new(&sha256(&[b"the model's cloud key", &generation.to_be_bytes()]))
        .expect("a hash is a key of good length")
}

fn drawn<const N: usize>(what: &str, of: &[u8]) -> [u8; N] {
    let hash = sha256(&[what.as_bytes(), of]);
    std::array::from_fn(|i| hash[i])
}

impl Agent {
    /// An agent that knows the product order of the unit, and that has never heard of the unit.
    pub fn new(mutant: Mutant) -> Agent {
        Agent { mutant, ..Agent::default() }
    }

    /// The same records under other rules.
    pub fn with_mutant(&self, mutant: Mutant) -> Agent {
        Agent { mutant, ..self.clone() }
    }

    /// Everything that decides what it does next.
    pub fn id(&self) -> u128 {
        let entries: Vec<_> = self
            .entries
            .iter()
            .map(|e| (e.frame1_hash, e.pending.purpose.number(), e.pending.generation.0, e.confirmed))
            .collect();
        let keys: Vec<_> = self.agent_keys.iter().map(|(g, key)| (*g, *key.expose())).collect();
        id_of(&(
            (self.active, self.ak_cur, self.ak_next, self.ak_highest, keys),
            (self.ck_active, self.ck_highest, self.ck_evicted, &self.staged),
            entries,
            (self.issued, self.next_turn),
        ))
    }

    /// The newest confirmed agent-key generation; 0 before the first.
    pub fn newest_agent_key(&self) -> u32 {
        self.ak_cur.max(self.ak_next)
    }

    /// The oldest agent-key generation that is accepted.
    pub fn oldest_agent_key(&self) -> u32 {
        self.ak_cur
    }

    /// The confirmed cloud-key generation.
    pub fn cloud_active(&self) -> u32 {
        self.ck_active
    }

    /// Whether requests under this agent key are answered.
    pub fn accepts(&self, generation: u32, key: &AgentKey) -> bool {
        self.active
            && generation != 0
            && [self.ak_cur, self.ak_next].contains(&generation)
            && self.agent_keys.get(&generation) == Some(key)
    }

    /// Cloud-key generations that wait: staged, or issued and not confirmed.
    pub fn waiting_cloud_keys(&self) -> Vec<u32> {
        let issued = self.entries.iter().filter(|e| e.pending.purpose == Purpose::CloudKeyUpdate);
        let mut waiting: Vec<u32> = issued
            .filter(|e| !e.confirmed)
            .map(|e| e.pending.generation.0)
            .chain(self.staged.as_ref().map(|(g, _)| *g))
            .filter(|g| *g > self.ck_active)
            .collect();
        waiting.sort_unstable();
        waiting.dedup();
        waiting
    }

    /// The agent-key generations ever issued.
    pub fn agent_highest(&self) -> u32 {
        self.ak_highest
    }

    fn at(&self, point: Point) -> Result<(), Stop> {
        if self.crash == Some(point) { Err(Stop::Crashed) } else { Ok(()) }
    }

    /// Takes one frame; the process may die at `crash`.
    ///
    /// # Errors
    /// [`Stop`]; what was persisted before it stays.
    pub fn handle(&mut self, cloud: &mut Cloud, frame: &[u8], crash: Option<Point>) -> Result<Vec<u8>, Stop> {
        self.crash = crash;
        let answer = match Incoming::peek(frame) {
            Ok(Incoming::Request { suite: Suite::Legacy, purpose, kc }) => {
                self.request(cloud, frame, purpose, kc)
            }
            Ok(Incoming::Confirm { suite: Suite::Legacy, purpose, unit, generation }) if unit == UNIT => {
                self.confirm(cloud, frame, purpose, generation)
            }
            _ => Err(Stop::Quiet),
        };
        self.crash = None;
        if answer == Err(Stop::Crashed) {
            self.next_turn = false;
        }
        answer
    }

    fn request(
        &mut self,
        cloud: &mut Cloud,
        frame: &[u8],
        purpose: Purpose,
        kc: KeyContext,
    ) -> Result<Vec<u8>, Stop> {
        if purpose == Purpose::Init {
            return self.init_request(frame, kc);
        }
        let (claimed, generation) = kc.as_unit();
        let known = self.active
            && claimed == UNIT
            && generation.0 != 0
            && [self.ak_cur, self.ak_next].contains(&generation.0);
        let key = self.agent_keys.get(&generation.0).filter(|_| known).ok_or(Stop::Quiet)?;
        let base = BaseKey::from(key);
        let request = Request::open(frame, &base, None)?;
        if request.unit() != UNIT {
            return Err(Stop::Quiet);
        }
        // A3: a message under the next key ends the current one.
        if generation.0 == self.ak_next {
            (self.ak_cur, self.ak_next) = (self.ak_next, 0);
        }
        if purpose == Purpose::CloudKeyUpdate {
            self.finish_withdrawal(cloud)?;
        }
        if let Some(cached) = self.cached(&request) {
            return Ok(cached);
        }
        if purpose == Purpose::AgentKeyUpdate {
            self.issue_agent_key(&request, &base)
        } else {
            self.issue_cloud_key(cloud, &request, &base)
        }
    }

    /// A1: identical bytes, identical answer.
    fn cached(&self, request: &Request) -> Option<Vec<u8>> {
        let same =
            |e: &&Entry| e.frame1_hash == *request.frame_hash() && e.pending.purpose == request.purpose();
        self.entries.iter().find(same).map(|e| e.frame2.to_vec())
    }

    fn init_request(&mut self, frame: &[u8], kc: KeyContext) -> Result<Vec<u8>, Stop> {
        if kc != KeyContext::order(&world::order()) {
            return Err(Stop::Quiet);
        }
        let base = BaseKey::from(&world::product_key());
        let request = Request::open(frame, &base, None)?;
        if request.unit() != UNIT {
            return Err(Stop::Quiet);
        }
        // A2: ACTIVE is sticky. (Suite 1 knows no identity keys that could open it again.)
        if self.active && self.mutant != Mutant::NewestRequestWins {
            return Err(Stop::Quiet);
        }
        if let Some(cached) = self.cached(&request).filter(|_| self.mutant != Mutant::NewestRequestWins) {
            return Ok(cached);
        }
        let answer = self.issue_agent_key(&request, &base)?;
        if self.mutant == Mutant::NewestRequestWins && self.active {
            (self.ak_cur, self.ak_next) = (self.ak_highest, 0);
        }
        Ok(answer)
    }

    fn seed(&self, request: &Request) -> [u8; 32] {
        sha256(&[request.frame_hash(), &self.issued.to_be_bytes()])
    }

    fn respond(
        &self,
        request: &Request,
        grant: &Grant<'_>,
        base: &BaseKey,
    ) -> Result<(Vec<u8>, Pending), Stop> {
        let hash = &self.seed(request);
        let entropy = ResponseEntropy {
            n2: drawn("n2", hash),
            iv: drawn("iv 2", hash),
            ephemeral: EphemeralSecret::from_bytes(drawn("unused in suite 1", hash)),
        };
        let mut frame2 = vec![0; MAX_FRAME];
        let (len, pending) = request.respond(grant, base, None, &entropy, &mut frame2)?;
        frame2.truncate(len);
        Ok((frame2, pending))
    }

    fn keep(&mut self, request: &Request, pending: Pending, frame2: &[u8]) {
        let purpose = pending.purpose;
        while purpose != Purpose::CloudKeyUpdate && self.waiting(purpose).count() >= MAX_PENDING {
            self.evict_oldest(purpose);
        }
        self.issued += 1;
        self.entries.push(Entry {
            frame1_hash: *request.frame_hash(),
            frame2: frame2.into(),
            pending,
            confirmed: false,
        });
    }

    fn waiting(&self, purpose: Purpose) -> impl Iterator<Item = usize> + '_ {
        self.entries
            .iter()
            .enumerate()
            .filter(move |(_, e)| e.pending.purpose == purpose && !e.confirmed)
            .map(|(i, _)| i)
    }

    /// A fifth request of a purpose comes: of agent keys the oldest exchange goes; a cloud key is withdrawn with all of its
    /// exchanges, unless the unit has it already. False: nothing waits. (The fifth exchange itself is left out.)
    pub fn evict(&mut self, cloud: &mut Cloud, purpose: Purpose, crash: Option<Point>) -> bool {
        if purpose != Purpose::CloudKeyUpdate {
            return crash.is_none() && self.evict_oldest(purpose);
        }
        if self.waiting(purpose).next().is_none() {
            return false;
        }
        self.crash = crash;
        let done = self.withdraw(cloud);
        self.crash = None;
        self.next_turn &= crash.is_none();
        done.is_ok() == crash.is_none()
    }

    fn evict_oldest(&mut self, purpose: Purpose) -> bool {
        let Some(index) = self.waiting(purpose).next() else { return false };
        let generation = self.entries.remove(index).pending.generation.0;
        self.agent_keys.remove(&generation);
        true
    }

    /// The staged cloud key is withdrawn: noted, then asked of the cloud, then done.
    fn withdraw(&mut self, cloud: &mut Cloud) -> Result<(), Stop> {
        let Some((generation, _)) = self.staged else { return Ok(()) };
        if self.mutant != Mutant::WithdrawUnnoted {
            self.ck_evicted = generation;
            return self.finish_withdrawal(cloud);
        }
        self.ask_withdrawal(cloud, generation)
    }

    /// Finishes a withdrawal that was begun.
    fn finish_withdrawal(&mut self, cloud: &mut Cloud) -> Result<(), Stop> {
        match self.staged {
            Some((generation, _)) if generation == self.ck_evicted => self.ask_withdrawal(cloud, generation),
            _ => Ok(()),
        }
    }

    fn ask_withdrawal(&mut self, cloud: &mut Cloud, generation: u32) -> Result<(), Stop> {
        self.at(Point::BeforeCloud)?;
        let committed = match self.mutant {
            // Forgets what it gave out and does not ask anybody.
            Mutant::WithdrawUnasked => false,
            // The cloud takes the key back even if its unit has logged in with it.
            Mutant::WithdrawBlindly => {
                cloud.retire(generation);
                false
            }
            _ => cloud.withdraw(generation),
        };
        self.at(Point::AfterCloud)?;
        if committed {
            self.cloud_key_confirmed(generation);
        } else {
            (self.staged, self.ck_evicted) = (None, 0);
            let of_it = |e: &Entry| {
                e.pending.purpose == Purpose::CloudKeyUpdate && e.pending.generation.0 == generation
            };
            self.entries.retain(|e| !of_it(e));
        }
        Ok(())
    }

    fn issue_agent_key(&mut self, request: &Request, base: &BaseKey) -> Result<Vec<u8>, Stop> {
        let generation = self.ak_highest + 1;
        let key = AgentKey::from_bytes(drawn(&format!("agent key {generation}"), &self.seed(request)));
        let grant = Grant::AgentKey { generation: Generation(generation), key: &key };
        let (frame2, pending) = self.respond(request, &grant, base)?;
        self.at(Point::BeforePersist)?;
        self.ak_highest = generation;
        self.agent_keys.insert(generation, key);
        self.keep(request, pending, &frame2);
        self.at(Point::BeforeAnswer)?;
        Ok(frame2)
    }

    fn issue_cloud_key(
        &mut self,
        cloud: &mut Cloud,
        request: &Request,
        base: &BaseKey,
    ) -> Result<Vec<u8>, Stop> {
        let claimed = request.cloud_active().0;
        // The unit has confirmed what we staged: only a cloud session can have told it, so ours was lost.
        if claimed != 0
            && self.staged.as_ref().is_some_and(|(staged, _)| *staged == claimed)
            && cloud.commit(claimed).map_err(|()| Stop::Quiet)?
        {
            self.cloud_key_confirmed(claimed);
        }
        if claimed > self.ck_active {
            return Err(Stop::Quiet);
        }
        if self.waiting(Purpose::CloudKeyUpdate).count() >= MAX_PENDING {
            self.withdraw(cloud)?;
        }
        let (generation, bytes) = self.staged_record()?;
        // U3 leaves only after the cloud acknowledged the stage; asking it again changes nothing.
        self.at(Point::BeforeCloud)?;
        if !cloud.stage(generation, &cloud_key(generation), self.mutant) {
            return Err(Stop::Quiet);
        }
        if self.mutant == Mutant::DisableAtStep3 {
            // The paper's Fig. 5: the old identity is disabled when the new one is given out.
            let _ = cloud.commit(generation);
        }
        self.at(Point::AfterCloud)?;
        let record = CloudRecord::parse(&bytes)?;
        let (frame2, pending) = self.respond(request, &Grant::CloudRecord { record }, base)?;
        self.at(Point::BeforePersist)?;
        self.keep(request, pending, &frame2);
        self.at(Point::BeforeAnswer)?;
        Ok(frame2)
    }

    /// A4: the staged record, the same for every repeated request; or a new one, kept before anybody hears of it.
    fn staged_record(&mut self) -> Result<(u32, Arc<[u8]>), Stop> {
        if self.mutant != Mutant::RestagePerRequest
            && let Some(staged) = &self.staged
        {
            return Ok(staged.clone());
        }
        let generation = self.ck_highest + 1;
        // Later records copy what does not change from the unit's active one; the first one brings the certificates.
        let certs = (self.ck_active == 0).then(world::unit_certs);
        let mut bytes = vec![0; MAX_CLOUD_RECORD];
        let len = CloudRecordParts {
            generation: Generation(generation),
            key: &cloud_key(generation),
            connection: certs.is_some().then_some("mqtts://broker.example:8883"),
            platform_cert: None,
            region_cert: certs.as_ref().map(|(region, _)| region),
            device_cert: certs.as_ref().map(|(_, device)| device),
        }
        .build(&mut bytes)?;
        bytes.truncate(len);
        self.at(Point::BeforePersist)?;
        let staged: (u32, Arc<[u8]>) = (generation, bytes.into());
        self.ck_highest = generation;
        self.staged = Some(staged.clone());
        if self.mutant != Mutant::LoginLeavesExchange && self.mutant != Mutant::RestagePerRequest {
            // What a login overtook waits no more; a message 3 of it that comes late is answered.
            for entry in &mut self.entries {
                entry.confirmed |= entry.pending.purpose == Purpose::CloudKeyUpdate;
            }
        }
        Ok(staged)
    }

    fn confirm(
        &mut self,
        cloud: &mut Cloud,
        frame: &[u8],
        purpose: Purpose,
        generation: Generation,
    ) -> Result<Vec<u8>, Stop> {
        if purpose == Purpose::CloudKeyUpdate {
            self.finish_withdrawal(cloud)?;
        }
        let mut known = false;
        for index in 0..self.entries.len() {
            let pending = &self.entries[index].pending;
            if pending.purpose != purpose || pending.generation != generation {
                continue;
            }
            known = true;
            // Several exchanges may be about one staged cloud key: the tag says which one this answers.
            if let Ok(confirmed) = pending.open_confirm(frame) {
                return self.confirmed(cloud, frame, index, &confirmed);
            }
        }
        if known {
            // Never a NACK because a tag fails.
            return Err(Stop::Quiet);
        }
        let staged = self.staged.as_ref().map_or(0, |(staged, _)| *staged);
        if purpose == Purpose::CloudKeyUpdate
            && ([staged, self.ck_active].contains(&generation.0) || generation.0 > self.ck_highest)
        {
            // Only a key that was issued and that the cloud lets in no more is refused.
            return Err(Stop::Quiet);
        }
        self.nack(frame, purpose)
    }

    fn confirmed(
        &mut self,
        cloud: &mut Cloud,
        frame: &[u8],
        index: usize,
        confirmed: &Confirmed,
    ) -> Result<Vec<u8>, Stop> {
        let entry = self.entries[index].clone();
        let (purpose, generation) = (entry.pending.purpose, entry.pending.generation.0);
        match (entry.confirmed, purpose) {
            // The unit did not hear message 4: it gets it again.
            (true, _) => {}
            (false, Purpose::CloudKeyUpdate) => {
                self.at(Point::BeforeCloud)?;
                // U7 leaves only after the cloud's acknowledgement of the commit.
                match cloud.commit(generation) {
                    Ok(true) => {}
                    Ok(false) | Err(()) => return Err(Stop::Quiet),
                }
                self.at(Point::AfterCloud)?;
                self.exchange_over(index);
                self.cloud_key_confirmed(generation);
            }
            (false, Purpose::Init | Purpose::AgentKeyUpdate) => {
                self.at(Point::BeforePersist)?;
                let void: Vec<u32> = self
                    .waiting(purpose)
                    .filter(|i| *i != index)
                    .map(|i| self.entries[i].pending.generation.0)
                    .collect();
                self.exchange_over(index);
                self.agent_keys.retain(|g, _| !void.contains(g));
                if purpose == Purpose::Init {
                    (self.active, self.ak_cur, self.ak_next) = (true, generation, 0);
                } else {
                    self.ak_next = generation;
                }
            }
        }
        let mut reply = vec![0; MAX_FRAME];
        let len = entry.pending.ack(
            confirmed,
            Verdict::Activated,
            TIME,
            &drawn("iv 4", &sha256(&[frame])),
            &mut reply,
        )?;
        reply.truncate(len);
        self.at(Point::BeforeAnswer)?;
        Ok(reply)
    }

    /// One exchange is confirmed; every other one of its purpose is over.
    fn exchange_over(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        entry.confirmed = true;
        let (purpose, hash) = (entry.pending.purpose, entry.frame1_hash);
        self.entries.retain(|e| e.pending.purpose != purpose || e.frame1_hash == hash);
    }

    /// The cloud says that the unit logged in with a generation.
    pub fn login_seen(&mut self, generation: u32) {
        self.cloud_key_confirmed(generation);
    }

    /// The cloud committed a generation.
    fn cloud_key_confirmed(&mut self, generation: u32) {
        if self.staged.as_ref().is_some_and(|(staged, _)| *staged == generation) {
            self.ck_active = generation;
            self.staged = None;
        }
    }

    /// An authentic refusal for a message 3 that no entry answers to.
    fn nack(&mut self, frame: &[u8], purpose: Purpose) -> Result<Vec<u8>, Stop> {
        let (kc, base) = match purpose {
            Purpose::Init => (KeyContext::order(&world::order()), BaseKey::from(&world::product_key())),
            Purpose::AgentKeyUpdate | Purpose::CloudKeyUpdate => {
                if !self.active {
                    return Err(Stop::Quiet);
                }
                // Which key the exchange began under is not in message 3: the current and the next one take turns.
                let turn = self.next_turn;
                self.next_turn = !turn;
                let generation = if self.ak_next > 0 && turn { self.ak_next } else { self.ak_cur };
                let key = self.agent_keys.get(&generation).ok_or(Stop::Quiet)?;
                (KeyContext::unit(&UNIT, Generation(generation)), BaseKey::from(key))
            }
        };
        let mut reply = vec![0; MAX_FRAME];
        let iv = drawn("iv 5", &sha256(&[frame, base.expose()]));
        let len = nack(frame, &kc, &base, NackReason::EVICTED, None, &iv, &mut reply)?;
        reply.truncate(len);
        Ok(reply)
    }
}
