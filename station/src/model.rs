//! The nouns of the station, as records, line, agent, export and UI all use them.

use serde::{Deserialize, Serialize};

/// 96-bit hardware id of a unit, as read over SWD (RM0090 §39.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId(pub [u8; 12]);

impl UnitId {
    /// All-zero or all-FF: an unread or erased identity, never a unit.
    pub fn is_blank(&self) -> bool {
        self.0.iter().all(|b| *b == 0) || self.0.iter().all(|b| *b == 0xFF)
    }
}

impl std::fmt::Display for UnitId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for UnitId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UnitId({self})")
    }
}

impl std::str::FromStr for UnitId {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 12];
        hex::decode_to_slice(s.trim(), &mut bytes)
            .map_err(|e| format!("a unit id is 24 hex digits, got {s:?}: {e}"))?;
        Ok(Self(bytes))
    }
}

impl Serialize for UnitId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UnitId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! row_id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub i64);
    )*};
}
row_id! {
    /// Row of a product order.
    PoId,
    /// Row of a batch.
    BatchId,
    /// Row of an attempt.
    AttemptId,
}

/// How an attempt ended (FIELD §3): FAIL = bad unit, ERROR = bad station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Outcome {
    /// The unit is proved and recorded.
    Pass,
    /// The unit is bad.
    Fail,
    /// The station, its cables or its files are bad.
    Error,
    /// Nobody answered in time.
    Timeout,
    /// The operator cancelled, or the station stopped.
    Aborted,
}

impl Outcome {
    /// The word on screen, in files and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Error => "ERROR",
            Self::Timeout => "TIMEOUT",
            Self::Aborted => "ABORTED",
        }
    }
}

impl std::str::FromStr for Outcome {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        [Self::Pass, Self::Fail, Self::Error, Self::Timeout, Self::Aborted]
            .into_iter()
            .find(|o| o.as_str() == s)
            .ok_or_else(|| format!("unknown outcome {s:?}"))
    }
}

/// How far a unit has come, in order. Written before and after every irreversible act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitState {
    /// Its id was read over SWD; nothing was written to it.
    Arrived,
    /// Flashing began; the chip may hold anything.
    Flashing,
    /// Common image and product key are on it, read back.
    StageOne,
    /// The agent key is confirmed.
    AgentKey,
    /// The cloud key is confirmed.
    CloudKey,
    /// Both keys were proved after a reset and the PASS is recorded.
    Passed,
    /// Set aside by QA or by an alarm; no key is issued to it.
    Quarantined,
    /// Taken out for ever.
    Scrapped,
}

impl UnitState {
    /// Every state, in order.
    pub const ALL: [Self; 8] = [
        Self::Arrived,
        Self::Flashing,
        Self::StageOne,
        Self::AgentKey,
        Self::CloudKey,
        Self::Passed,
        Self::Quarantined,
        Self::Scrapped,
    ];

    /// The word in the database and in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Arrived => "arrived",
            Self::Flashing => "flashing",
            Self::StageOne => "stage-one",
            Self::AgentKey => "agent-key",
            Self::CloudKey => "cloud-key",
            Self::Passed => "passed",
            Self::Quarantined => "quarantined",
            Self::Scrapped => "scrapped",
        }
    }
}

impl std::str::FromStr for UnitState {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|x| x.as_str() == s).ok_or_else(|| format!("unknown unit state {s:?}"))
    }
}

/// Whether a batch takes units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchState {
    /// Units may start.
    Open,
    /// No unit starts until somebody resumes it.
    Paused,
    /// Finished; exported lists are final, and the product key enrols none of its units any more.
    Closed,
}

impl BatchState {
    /// The word on screen, in files and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Paused => "paused",
            Self::Closed => "closed",
        }
    }
}

/// What a unit needs of its label before it passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LabelPolicy {
    /// Nothing.
    #[default]
    #[serde(rename = "none")]
    None,
    /// It is printed.
    #[serde(rename = "print")]
    Print,
    /// It is printed, stuck on, and read back with a scanner.
    #[serde(rename = "print+scan-back")]
    ScanBack,
}

impl LabelPolicy {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::None, Self::Print, Self::ScanBack];

    /// The word in the database, in files and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Print => "print",
            Self::ScanBack => "print+scan-back",
        }
    }
}

impl std::str::FromStr for LabelPolicy {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|x| x.as_str() == s)
            .ok_or_else(|| format!("a label policy is none, print or print+scan-back, got {s:?}"))
    }
}

/// What the vendor ordered. The product key stays sealed in the records.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProductOrder {
    /// Row.
    pub id: PoId,
    /// Name on paper, at most 16 ASCII characters; zero padded it is the protocol's PO16.
    pub name: String,
    /// Device model, at most 16 ASCII characters; the common image must carry the same.
    pub model: String,
    /// Hardware revision.
    pub hw_revision: String,
    /// Part number on the vendor's papers.
    pub part_number: String,
    /// Units ordered; the agent refuses the next.
    pub quantity: u32,
    /// Region the units go to.
    pub region: u32,
    /// Minimum and used suite: 1 (legacy) or 2 (hardened).
    pub suite: u8,
    /// SHA-256 of `common-image.json`; `None` until an image is pinned by the first flash.
    pub image_sha256: Option<String>,
    /// Connection URL that goes into the cloud record.
    pub cloud_url: String,
    /// Units are locked before they pass: read protection level 1, boot sectors write-protected.
    #[serde(default)]
    pub lock: bool,
    /// Enrolments an hour that the vendor expects at most; more raise an alarm. 0 = not said.
    #[serde(default)]
    pub per_hour: u32,
    /// Since when its product key counts for nothing (Unix milliseconds): it leaked.
    #[serde(default)]
    pub key_invalid_at_ms: Option<i64>,
    /// What its units need of their labels before they pass.
    #[serde(default)]
    pub label: LabelPolicy,
}

impl ProductOrder {
    /// The protocol's 16-byte PO: the name, zero padded.
    pub fn po16(&self) -> [u8; 16] {
        let mut po = [0; 16];
        for (to, from) in po.iter_mut().zip(self.name.bytes()) {
            *to = from;
        }
        po
    }
}

/// A counted lot of units made under one product order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Batch {
    /// Row.
    pub id: BatchId,
    /// Name on paper, unique.
    pub name: String,
    /// The order it belongs to.
    pub po: PoId,
    /// Units planned; quota of the batch.
    pub quantity: u32,
    /// Open, paused or closed.
    pub state: BatchState,
    /// How its units are numbered and sampled.
    #[serde(default)]
    pub terms: BatchTerms,
}

/// How a batch's units are numbered and sampled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchTerms {
    /// Pattern of its serials, dates and batch filled in; empty: `<batch>-<counter><check>`.
    pub serial_pattern: String,
    /// The same as it was entered.
    pub serial_form: String,
    /// After so many passes it waits until a sample is approved; 0 = what the station says.
    pub gray_release: u32,
    /// Units that passed when they were made, ever.
    pub passed: u32,
    /// How many of them approved samples stand for.
    pub approved: u32,
    /// Why it was closed last.
    pub closed_reason: Option<String>,
}

impl BatchTerms {
    /// Its own gray-release size, else the station's; 0 = no gate.
    pub const fn gate(&self, station: u32) -> u32 {
        if self.gray_release > 0 { self.gray_release } else { station }
    }

    /// Passes that no approved sample stands for.
    pub const fn unsampled(&self) -> u32 {
        self.passed.saturating_sub(self.approved)
    }
}

impl Batch {
    /// How many passes wait for a sample, if the gate is shut: those of a whole group, or of the last one, however small it is.
    pub const fn sample_due(&self, station: u32) -> Option<u32> {
        let waiting = self.terms.unsampled();
        let gate = self.terms.gate(station);
        let whole = waiting >= gate || self.terms.passed >= self.quantity;
        if gate > 0 && waiting > 0 && whole { Some(waiting) } else { None }
    }

    /// Whether one more unit may start beside those in work: each of them may pass, and a group never outgrows its gate.
    pub const fn has_room(&self, station: u32, in_work: u32) -> bool {
        let gate = self.terms.gate(station);
        gate == 0
            || (self.sample_due(station).is_none() && self.terms.unsampled().saturating_add(in_work) < gate)
    }
}

/// Counts of a batch; `planned + replaced = passed + failed + scrapped + open` always balances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchCounts {
    /// Planned units.
    pub planned: u32,
    /// Units whose latest attempt passed.
    pub passed: u32,
    /// Units whose latest finished attempt did not pass.
    pub failed: u32,
    /// Units scrapped.
    pub scrapped: u32,
    /// Units that began and have neither passed nor failed (running or interrupted).
    pub in_progress: u32,
    /// Units that passed at their first attempt.
    pub first_pass: u32,
}

impl BatchCounts {
    /// Units still to come to an end, in progress included.
    pub fn open(&self) -> u32 {
        (self.planned + self.replaced()).saturating_sub(self.passed + self.failed + self.scrapped)
    }

    /// Units made beyond the plan: each takes the place of one that was scrapped.
    pub fn replaced(&self) -> u32 {
        (self.passed + self.failed + self.scrapped + self.in_progress).saturating_sub(self.planned)
    }

    /// More units than the plan and its scrap have room for: the records and the bench don't tell the same story.
    pub fn overfull(&self) -> u32 {
        self.replaced().saturating_sub(self.scrapped)
    }
}

/// One unit as the records know it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unit {
    /// Hardware id.
    pub id: UnitId,
    /// Its batch.
    pub batch: BatchId,
    /// Serial within the vendor's numbering, given when the unit is first seen.
    pub serial: String,
    /// How far it has come.
    pub state: UnitState,
    /// Generation of the installed key record, as the unit proved it; 0 before.
    pub generation: u32,
    /// Attempts so far.
    pub attempts: u32,
    /// The last attempt has no end: the process died or the unit was pulled.
    pub interrupted: bool,
}

/// A chip's option bytes as FLASH_OPTCR and FLASH_OPTCR1 show them (RM0090 §3.9.10, §3.9.11), without their lock and start bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionBytes {
    /// User options, read protection, write protection of bank 1.
    pub optcr: u32,
    /// Write protection of bank 2.
    pub optcr1: u32,
}

impl std::fmt::Display for OptionBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x} {:08x}", self.optcr, self.optcr1)
    }
}

impl std::str::FromStr for OptionBytes {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let word = |text: &str| u32::from_str_radix(text, 16).map_err(|e| format!("option bytes {s:?}: {e}"));
        match s.split_once(' ') {
            Some((optcr, optcr1)) => Ok(Self { optcr: word(optcr)?, optcr1: word(optcr1)? }),
            None => Err(format!("option bytes are two words, got {s:?}")),
        }
    }
}

impl Serialize for OptionBytes {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OptionBytes {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The lock of a unit: what was asked of the chip and what the chip showed are two facts. Without either, it is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRecord {
    /// What this attempt asked for; `None`: nothing, the chip was left as it was.
    pub asked: Option<OptionBytes>,
    /// What the chip showed at the end, loaded by a reset after the last change; `None`: not looked at.
    pub observed: Option<OptionBytes>,
    /// A debugger's read of the flash was refused afterwards; `None`: not tried.
    pub closed: Option<bool>,
}

impl std::fmt::Display for LockRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.asked {
            Some(asked) => write!(f, "asked for {asked}, ")?,
            None => f.write_str("nothing asked for, ")?,
        }
        match self.observed {
            Some(seen) => write!(f, "seen {seen}")?,
            None => f.write_str("not looked at")?,
        }
        f.write_str(match self.closed {
            Some(true) => ", its flash is closed to a debugger",
            Some(false) => ", its flash can be READ by a debugger",
            None => ", reading its flash was not tried",
        })
    }
}

/// What was checked before a PASS (issue: proof before PASS).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofRecord {
    /// The challenge the station drew, hex.
    pub challenge: String,
    /// Record generation the unit reported.
    pub generation: u32,
    /// Agent key generation.
    pub ak_gen: u32,
    /// Cloud key generation.
    pub ck_gen: u32,
    /// MAC under the installed cloud key verified.
    pub cloud_mac_ok: bool,
    /// MAC under the agent key verified.
    pub agent_mac_ok: bool,
    /// The boot, as named in the birth message that the unit's broker told after the reset; empty in proofs from before there were
    /// brokers.
    #[serde(default)]
    pub birth_boot: String,
    /// Logins with keys that were replaced, all of them refused.
    #[serde(default)]
    pub old_keys_refused: u32,
    /// The chip's protection.
    #[serde(default)]
    pub lock: LockRecord,
}
