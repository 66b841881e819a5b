//! An agent for one unit: the protocol crate's agent side under the rules of PROTOCOL §4, with knobs for
//! everything an agent can do wrong. What it persists it never loses.

use std::hash::{Hash, Hasher};

use keywright_protocol::cert::{Cert, CertFields, NEVER, Role, unit_scope, unit_subject};
use keywright_protocol::crypto::sha256;
use keywright_protocol::exchange::agent::{Credentials, Grant, Incoming, Pending, Request, Verdict, nack};
use keywright_protocol::exchange::{NackReason, ResponseEntropy};
use keywright_protocol::frame::{Frame, build_err};
use keywright_protocol::keys::{EphemeralSecret, Seed};
use keywright_protocol::record::{CloudRecord, CloudRecordParts, Order, RootAnchor, StageOne};
use keywright_protocol::schedule::KeyContext;
use keywright_protocol::{
    AgentKey, BaseKey, CloudKey, Generation, IdentityKey, MAX_FRAME, ProductKey, ProductOrder, PublicKey,
    Purpose, Region, Suite,
};

use super::{Dice, UNIT};

pub const REGION: u32 = 7;
pub const ROOT_EPOCH: u32 = 3;
pub const TIME: u64 = 1_800_000_000;
pub const BROKER: &str = "mqtts://broker.example:8883";

/// What this agent does wrong, one at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// Its chain is of another region.
    AgentOfOtherRegion,
    /// Its certificate is a station's.
    AgentRole,
    /// Its certificate is for another product order.
    AgentOrder,
    /// Its chain is of an older root.
    OldRoot,
    /// It signs with a key that its certificate does not name.
    AgentSignature,
    /// The cloud record's region certificate is of another region.
    RecordOfOtherRegion,
    /// The cloud record's device-tier certificate is another unit's.
    DeviceCertOfOtherUnit,
    /// The device-tier certificate is signed by another region's key.
    DeviceCertSignature,
    /// The cloud record brings no certificates at all.
    NoCerts,
    /// It says it is busy.
    Busy,
    /// It knows another product key.
    OtherProductKey,
    /// It speaks version 2 of the protocol.
    OtherVersion,
}

/// How an agent stands to a record of the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It takes the keys: as they are, or when their confirmation arrives.
    Accepted,
    /// Their confirmation will get an authentic NACK.
    Nacked,
    /// Nothing will ever come of them.
    Unknown,
}

#[derive(Clone)]
struct Entry {
    frame1_hash: [u8; 32],
    base: BaseKey,
    frame2: Vec<u8>,
    pending: Pending,
    /// Evicted entries earn a NACK.
    evicted: bool,
}

#[derive(Clone)]
pub struct Agent {
    pub suite: Suite,
    pub fault: Fault,
    /// Reject this many authentic message 3 with a message 4 REJECTED.
    pub reject: u32,
    /// Forget this many entries the moment they are issued, as if the table were full.
    pub evict_next: u32,
    /// Where cloud records send the unit: a region and a broker.
    pub destination: (u32, &'static str),
    /// The region of this agent's own chain; a confirmed move takes it along.
    home: u32,
    pub time: u64,
    pub frames: u64,
    pub cloud_active: u32,
    /// The highest cloud generation that was rejected: its number is spent.
    cloud_spent: u32,
    /// Message 1 requests answered freshly, by purpose number.
    pub issued: [u32; 4],
    dice: Dice,
    pub order: ProductOrder,
    pub product_key: ProductKey,
    root: IdentityKey,
    region: IdentityKey,
    agent: IdentityKey,
    agent_keys: Vec<(u32, AgentKey)>,
    active: Option<u32>,
    highest: u32,
    /// Generation, record, and the fault under which it was made.
    staged: Option<(u32, Vec<u8>, Fault)>,
    dik: Option<PublicKey>,
    entries: Vec<Entry>,
}

fn key(n: u8) -> IdentityKey {
    IdentityKey::from_seed(&Seed::from_bytes([n; 32]))
}

impl Agent {
    pub fn new(suite: Suite, seed: u64) -> Agent {
        Agent {
            suite,
            fault: Fault::None,
            reject: 0,
            evict_next: 0,
            destination: (REGION, BROKER),
            home: REGION,
            time: TIME,
            frames: 0,
            cloud_active: 0,
            cloud_spent: 0,
            issued: [0; 4],
            dice: Dice(seed ^ 0xa6e47),
            order: ProductOrder::from_text("PO-2025-000042").unwrap(),
            product_key: ProductKey::from_bytes([0x21; 32]),
            root: key(1),
            region: key(2),
            agent: key(3),
            agent_keys: Vec::new(),
            active: None,
            highest: 0,
            staged: None,
            dik: None,
            entries: Vec::new(),
        }
    }

    pub fn active_agent_key(&self) -> Option<u32> {
        self.active
    }

    pub fn agent_key(&self) -> Option<&AgentKey> {
        self.agent_keys.iter().find(|(generation, _)| Some(*generation) == self.active).map(|(_, key)| key)
    }

    pub fn cloud_key(&self, generation: u32) -> CloudKey {
        CloudKey::new(&sha256(&[b"fake cloud key", &generation.to_be_bytes()])).unwrap()
    }

    /// Forgets every pending entry, as an agent with a full table does.
    pub fn evict(&mut self) {
        for entry in &mut self.entries {
            entry.evicted = true;
        }
    }

    /// Other nonces and keys from here on, the same for the same `seed`.
    pub fn reseed(&mut self, seed: u64) {
        self.dice = Dice(seed ^ 0xa6e47);
    }

    /// The staged cloud generation; there is at most one.
    pub fn staged(&self) -> Option<u32> {
        self.staged.as_ref().map(|(generation, ..)| *generation)
    }

    /// How the agent and its cloud stand to what a record holds. `owed` is the confirmation of a pending one.
    pub fn standing(
        &self,
        owed: Option<(Purpose, &[u8; 32])>,
        agent: (u32, &AgentKey),
        cloud: u32,
    ) -> Standing {
        let Some((purpose, th2)) = owed else {
            let known = self.active == Some(agent.0) && self.agent_key() == Some(agent.1);
            return if known && self.cloud_active == cloud { Standing::Accepted } else { Standing::Unknown };
        };
        match self.entries.iter().find(|e| e.pending.purpose == purpose && e.pending.th2 == *th2) {
            Some(entry) if entry.evicted => Standing::Nacked,
            Some(entry) if entry.pending.agent_key == *agent.1 => {
                let (agent_fits, cloud_fits) = match purpose {
                    Purpose::CloudKeyUpdate => (
                        self.active == Some(agent.0),
                        self.cloud_active == cloud || self.staged() == Some(cloud),
                    ),
                    _ => (self.active.is_none_or(|active| active <= agent.0), self.cloud_active == cloud),
                };
                if agent_fits && cloud_fits { Standing::Accepted } else { Standing::Unknown }
            }
            _ => Standing::Unknown,
        }
    }

    /// Hashes all that decides what the agent will do, nonces to come aside.
    pub fn fingerprint(&self, state: &mut impl Hasher) {
        (self.reject, self.evict_next, self.time, self.cloud_active, self.cloud_spent).hash(state);
        (self.active, self.highest, self.staged(), self.home, self.destination).hash(state);
        self.dik.hash(state);
        for (generation, key) in &self.agent_keys {
            (generation, key.expose()).hash(state);
        }
        for entry in &self.entries {
            (entry.frame1_hash, entry.pending.th2, entry.evicted).hash(state);
        }
    }

    /// The kind 1 record of the batch.
    pub fn stage_one(&self) -> Vec<u8> {
        let mut out = vec![0; 2048];
        let len = StageOne {
            order: Order { order: self.order, region: Region(REGION), minimum_suite: self.suite.number() },
            product_key: &self.product_key,
            root: RootAnchor { epoch: ROOT_EPOCH, key: self.root.public() },
            bundle: None,
        }
        .build(&mut out)
        .unwrap();
        out.truncate(len);
        out
    }

    fn cert(
        &self,
        role: Role,
        issuer: u32,
        subject: u32,
        scope: [u8; 16],
        public: PublicKey,
        by: &IdentityKey,
    ) -> Cert {
        CertFields {
            role,
            issuer,
            subject,
            root_epoch: if self.fault == Fault::OldRoot { ROOT_EPOCH - 1 } else { ROOT_EPOCH },
            epoch: 1,
            not_before: 0,
            not_after: NEVER,
            public_key: public,
            scope,
        }
        .sign(by)
        .unwrap()
    }

    fn region_cert(&self, region: u32) -> Cert {
        self.cert(Role::Region, 0, region, [0; 16], self.region.public(), &self.root)
    }

    fn chain(&self) -> (Cert, Cert) {
        let region = if self.fault == Fault::AgentOfOtherRegion { self.home + 1 } else { self.home };
        let role = if self.fault == Fault::AgentRole { Role::Station } else { Role::Agent };
        let scope = if self.fault == Fault::AgentOrder { [9; 16] } else { self.order.0 };
        (self.region_cert(region), self.cert(role, region, 0x1001, scope, self.agent.public(), &self.region))
    }

    fn cloud_record(&self, generation: u32) -> Vec<u8> {
        let (to, broker) = self.destination;
        let region = if self.fault == Fault::RecordOfOtherRegion { to + 1 } else { to };
        let region_cert = self.region_cert(region);
        let mut unit = UNIT;
        if self.fault == Fault::DeviceCertOfOtherUnit {
            unit.0[11] ^= 1;
        }
        let signer = if self.fault == Fault::DeviceCertSignature { key(9) } else { self.region.clone() };
        let device_cert = self.cert(
            Role::DeviceTier,
            region,
            unit_subject(&unit),
            unit_scope(&unit),
            key(5).public(),
            &signer,
        );
        let with_certs = self.fault != Fault::NoCerts;
        let mut out = vec![0; 1400];
        let len = CloudRecordParts {
            generation: Generation(generation),
            key: &self.cloud_key(generation),
            connection: Some(broker),
            platform_cert: None,
            region_cert: with_certs.then_some(&region_cert),
            device_cert: with_certs.then_some(&device_cert),
        }
        .build(&mut out)
        .unwrap();
        out.truncate(len);
        out
    }

    /// One frame in, any number out.
    pub fn handle(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.frames += 1;
        let answer = match Incoming::peek(frame) {
            Ok(Incoming::Request { suite, purpose, kc }) => self.request(frame, suite, purpose, kc),
            Ok(Incoming::Confirm { purpose, generation, .. }) => self.confirm(frame, purpose, generation),
            Err(_) => None,
        };
        answer.into_iter().collect()
    }

    fn request(&mut self, frame: &[u8], suite: Suite, purpose: Purpose, kc: KeyContext) -> Option<Vec<u8>> {
        if suite != self.suite {
            return None;
        }
        if self.fault == Fault::Busy {
            let mut out = vec![0; 13];
            build_err(&Frame::parse(frame).ok()?, 1, &mut out).ok()?;
            return Some(out);
        }
        let hash = sha256(&[frame]);
        if let Some(entry) = self.entries.iter().find(|entry| entry.frame1_hash == hash && !entry.evicted) {
            return Some(entry.frame2.clone());
        }
        let base = match purpose {
            Purpose::Init if self.fault == Fault::OtherProductKey => {
                BaseKey::from(&ProductKey::from_bytes([0x22; 32]))
            }
            Purpose::Init => BaseKey::from(&self.product_key),
            // D5: a unit starts updates under a confirmed key only, and only the active one counts.
            _ if self.active == Some(kc.as_unit().1.0) => BaseKey::from(self.agent_key()?),
            _ => return None,
        };
        let request = Request::open(frame, &base, self.dik.as_ref()).ok()?;
        // A2: an active unit is not initialised again unless its registered identity signed.
        if purpose == Purpose::Init
            && self.active.is_some()
            && self.dik.is_some()
            && request.identity() != self.dik
        {
            return None;
        }
        let entropy = ResponseEntropy {
            n2: self.dice.bytes(),
            iv: self.dice.bytes(),
            ephemeral: EphemeralSecret::from_bytes(self.dice.bytes()),
        };
        // Suite 1 has no certificates; signing them would only cost time.
        let chain = (suite == Suite::Hardened).then(|| self.chain());
        let wrong = key(8);
        let signer = if self.fault == Fault::AgentSignature { &wrong } else { &self.agent };
        let credentials = chain.as_ref().map(|(region, agent)| Credentials { region, agent, signer });
        let new_key = AgentKey::from_bytes(self.dice.bytes());
        let grant = if purpose == Purpose::CloudKeyUpdate {
            // A4: at most one staged generation, the same one for every repeated request (I10).
            let next = self.cloud_active.max(self.cloud_spent) + 1;
            if self.staged.as_ref().is_none_or(|(_, _, fault)| *fault != self.fault) {
                self.staged = Some((next, self.cloud_record(next), self.fault));
            }
            let bytes = &self.staged.as_ref().unwrap().1;
            Grant::CloudRecord { record: CloudRecord::parse(bytes).unwrap() }
        } else {
            self.highest += 1;
            Grant::AgentKey { generation: Generation(self.highest), key: &new_key }
        };
        let mut out = vec![0; MAX_FRAME];
        let (len, pending) =
            request.respond(&grant, &base, credentials.as_ref(), &entropy, &mut out).unwrap();
        out.truncate(len);
        if purpose != Purpose::CloudKeyUpdate {
            self.agent_keys.push((self.highest, new_key));
        }
        self.issued[usize::from(purpose.number())] += 1;
        if self.fault == Fault::OtherVersion {
            out[2] = 2;
        }
        let evicted = self.evict_next > 0;
        self.evict_next -= u32::from(evicted);
        self.entries.push(Entry { frame1_hash: hash, base, frame2: out.clone(), pending, evicted });
        Some(out)
    }

    fn confirm(&mut self, frame: &[u8], purpose: Purpose, generation: Generation) -> Option<Vec<u8>> {
        let iv = self.dice.bytes();
        let of_this = |e: &&Entry| e.pending.purpose == purpose && e.pending.generation == generation;
        let mut live = self.entries.iter().filter(of_this).filter(|e| !e.evicted);
        let Some((pending, confirmed)) = live
            .find_map(|e| e.pending.open_confirm(frame).ok().map(|confirmed| (e.pending.clone(), confirmed)))
        else {
            // A staged generation may have several entries: one that opens under none of the others was evicted.
            return if self.entries.iter().filter(of_this).any(|e| e.evicted) {
                self.nack(frame, purpose, generation)
            } else {
                None
            };
        };
        let mut out = vec![0; 256];
        if self.reject > 0 {
            self.reject -= 1;
            let len = pending.ack(&confirmed, Verdict::Rejected, self.time, &iv, &mut out).unwrap();
            out.truncate(len);
            // Kept as a forgotten one: the unit may ask again, its RETIRE torn, and must hear a NACK then.
            for entry in &mut self.entries {
                entry.evicted |= entry.pending == pending;
            }
            if purpose == Purpose::CloudKeyUpdate {
                self.cloud_spent = generation.0;
                self.staged = None;
            }
            return Some(out);
        }
        match purpose {
            Purpose::CloudKeyUpdate => {
                // Compare-and-set: a stale commit changes nothing.
                if self.staged.as_ref().is_some_and(|(staged, ..)| *staged == generation.0) {
                    self.cloud_active = generation.0;
                    self.home = self.destination.0;
                    self.staged = None;
                } else if self.cloud_active != generation.0 {
                    return None;
                }
            }
            _ => {
                self.active = Some(self.active.unwrap_or(0).max(generation.0));
                self.dik = confirmed.identity().or(self.dik);
            }
        }
        let len = pending.ack(&confirmed, Verdict::Activated, self.time, &iv, &mut out).unwrap();
        out.truncate(len);
        Some(out)
    }

    fn nack(&mut self, frame: &[u8], purpose: Purpose, generation: Generation) -> Option<Vec<u8>> {
        // KC and base of that exchange's message 1: kept with the evicted entry here.
        let entry = self
            .entries
            .iter()
            .find(|e| e.evicted && e.pending.purpose == purpose && e.pending.generation == generation)?;
        let chain = (self.suite == Suite::Hardened).then(|| self.chain());
        let credentials =
            chain.as_ref().map(|(region, agent)| Credentials { region, agent, signer: &self.agent });
        let mut out = vec![0; 512];
        let iv = [3; 16];
        let len = nack(
            frame,
            &entry.pending.kc,
            &entry.base,
            NackReason::EVICTED,
            credentials.as_ref(),
            &iv,
            &mut out,
        )
        .unwrap();
        out.truncate(len);
        Some(out)
    }
}
