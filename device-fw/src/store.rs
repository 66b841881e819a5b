//! The key-area store: whole-snapshot records in two areas, one deciding write.
//!
//! ```text
//!  inactive area:  erase if not blank ─ header, payload, MAC ─ read back ─ COMMIT ─ read back
//!                                                                            │
//!                              (only now the caller may send message 3 / U4) ▼
//!                       message 4 / U7 ─ CONFIRM ─ read back ─ erase the other area
//!                       authentic NACK ─ RETIRE  ─ read back ─ the other area is active again
//! ```
//! Everything is decided from flash contents: [`Store::boot`] and every change end in the same scan.
//!
//! Invariants (tests name them; I1–I3, I6 and I10 need the peer and are shown by the engine's tests):
//! - I4 an area is erased only if the other one is committed and confirmed: all erases of key areas are in
//!   `erase_other`, which looks at the scan first. A product-key record counts as confirmed.
//! - I5 nothing is sent under a key before its COMMIT is verified: the only way to [`Committed`] is a record
//!   read back from flash; a pending record found at boot gets its COMMIT programmed again first.
//! - I7 product key erased ⇒ agent key confirmed, and its root anchor is safe in the trust pair.
//! - I8 generations strictly grow: the next one exceeds all that either area shows and all of this power cycle. (A
//!   retired record that was erased before a reset is forgotten: see docs/device-firmware.md.)
//! - I9 at most one unconfirmed record: `commit` refuses while one is pending.
//! - Torn COMMIT is no commit; torn CONFIRM or RETIRE counts as unset and is programmed again.
//! - Nothing here panics, whatever flash reads as.
//!
//! Weak cells, which read either way until they are programmed or erased whole: what a boot finds and is about to
//! rely on is programmed once more (zeros become solid), and what is about to be written on is erased first unless
//! the end of its erase was seen (ones are solid).
//!
//! Failure windows are named where the writes are. The flash has no ECC, so programming the same mark twice
//! is legal (hence [`MultiwriteNorFlash`]); a part with ECC needs a row per mark and another format number.
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

use embedded_storage::nor_flash::MultiwriteNorFlash;
use heapless::Deque;
use keywright_protocol::control::AreaStatus;
use keywright_protocol::exchange::Received;
use keywright_protocol::map::{self, FLASH_BASE, Region};
use keywright_protocol::record::{
    self, Committed, HEADER_LEN, Image, Kind, MARK_LEN, MAX_RECORD, Mark, MarkState, RecordState, RecordView,
    SECRET_SLOT_LEN, SecretSlot, TrustRecord, build_secret_slot, build_snapshot, read_secret_slot,
    read_valid,
};
use keywright_protocol::{
    BaseKey, DeviceFailure, Error, Generation, IdentityKey, ProductKey, Purpose, StorageSecret, StoreKey,
    UnitId,
};
use zeroize::Zeroize;

use crate::traits::{Rng, RngFault};

/// A time floor is raised only when it grows by more than this, in seconds.
///
/// Every message 4 carries the agent's time, and a raise costs a sector erase: at one a day the 10,000 cycles
/// of the data sheet (table 49) last 27 years; certificates end on days, not on seconds.
pub const TIME_FLOOR_STEP: u64 = 24 * 60 * 60;

/// One of the two key areas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// Bank 1. Erasing it stalls the CPU, which runs from the same bank.
    A,
    /// Bank 2; stage one writes the product key here.
    B,
}

impl Area {
    const fn other(self) -> Area {
        match self {
            Area::A => Area::B,
            Area::B => Area::A,
        }
    }

    const fn region(self) -> Region {
        match self {
            Area::A => map::KEY_AREA_A,
            Area::B => map::KEY_AREA_B,
        }
    }
}

/// What a scan found in one area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Blank,
    /// Torn, uncommitted, damaged, of another unit, or of a kind that does not belong here.
    Invalid,
    Retired,
    Valid {
        kind: Kind,
        confirmed: bool,
    },
}

/// Content and generation of one area; the generation of anything that has an intact record.
#[derive(Clone, Copy, Debug)]
struct Found {
    content: Content,
    generation: u32,
}

impl Found {
    const fn nothing(content: Content) -> Found {
        Found { content, generation: 0 }
    }

    const fn is_valid(&self) -> bool {
        matches!(self.content, Content::Valid { .. })
    }

    const fn is_confirmed(&self) -> bool {
        matches!(self.content, Content::Valid { confirmed: true, .. })
    }
}

/// What the active record holds, as the last scan found it: enough to say how far the unit is without checking
/// the record's MAC again, which the engine would otherwise do at every tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    /// An agent key.
    pub agent_key: bool,
    /// A cloud key, by its generation.
    pub cloud_key: Option<Generation>,
    /// The exchange whose confirmation is still owed.
    pub owed: Option<Purpose>,
}

type Buffer = [u8; MAX_RECORD];

/// Something the store repaired or could not do, for the log.
pub type Notice = (DeviceFailure, u32);

/// The store of one unit, over its whole flash.
pub struct Store<F> {
    flash: F,
    unit: UnitId,
    key: Option<StoreKey>,
    identity: Option<IdentityKey>,
    a: Found,
    b: Found,
    active: Option<Area>,
    holds: Option<Holds>,
    /// Copy of the active record, marks included.
    current: Buffer,
    /// Where records are built and read back.
    work: Buffer,
    /// Highest generation seen since reset, in records that may be gone by now (I8).
    highest: u32,
    trust: Option<TrustRecord>,
    trust_at: usize,
    trust_generation: u32,
    /// Regions known to be erased whole, by a bit each: this boot saw the end of the erase, or the unit never
    /// wrote before. Reading FF is no proof: a cut erase leaves cells that read as 1 now and as 0 some day.
    erased: u8,
    notices: Deque<Notice, 8>,
}

impl<F> Drop for Store<F> {
    fn drop(&mut self) {
        self.current.zeroize();
        self.work.zeroize();
    }
}

impl<F: MultiwriteNorFlash> Store<F> {
    /// A store that knows nothing yet; call [`Store::boot`].
    pub const fn new(flash: F, unit: UnitId) -> Store<F> {
        Store {
            flash,
            unit,
            key: None,
            identity: None,
            a: Found::nothing(Content::Blank),
            b: Found::nothing(Content::Blank),
            active: None,
            holds: None,
            current: [0xFF; MAX_RECORD],
            work: [0xFF; MAX_RECORD],
            highest: 0,
            trust: None,
            trust_at: 0,
            trust_generation: 0,
            erased: 0,
            notices: Deque::new(),
        }
    }

    /// Brings the store into a state from which an exchange can start or go on. May be called again after a
    /// failure; every step is idempotent.
    ///
    /// # Errors
    /// [`DeviceFailure::AreaMissing`] before stage one; a flash, RNG or secret-slot failure otherwise.
    pub fn boot<R: Rng>(&mut self, rng: &mut R) -> Result<(), DeviceFailure> {
        if self.unit.is_blank() {
            return Err(DeviceFailure::UnitIdBlank);
        }
        if self.key.is_none() {
            // Without a product key and without a secret there is nothing to be: leave flash as it is.
            let stage_one_done = matches!(
                inspect(&mut self.flash, Area::B.region(), &self.unit, None, &mut self.work)?.content,
                Content::Valid { kind: Kind::ProductKey, .. }
            );
            self.load_secret(rng, stage_one_done)?;
        }
        self.scan()?;
        self.scan_trust()?;
        self.found_trust()?;
        if self.active.is_none() {
            return Err(DeviceFailure::AreaMissing);
        }
        for (area, found) in [(Area::A, self.a), (Area::B, self.b)] {
            if matches!(found.content, Content::Invalid) {
                self.note(DeviceFailure::AreaInvalid, area.region().base);
            }
        }
        self.repair_marks()?;
        // A cut after CONFIRM left the old record, or a cut while writing left a torn one.
        self.erase_other()
    }

    /// The active record: highest committed, non-retired generation (D6).
    pub fn active(&self) -> Option<RecordView<'_>> {
        self.active?;
        open(&self.current, &self.unit, self.key.as_ref()).ok()
    }

    /// What the active record holds; cheap.
    pub const fn holds(&self) -> Option<Holds> {
        self.holds
    }

    /// The product key, while the unit still has it.
    pub fn product_key(&self) -> Option<ProductKey> {
        match self.active.map(|area| self.found(area).content)? {
            Content::Valid { kind: Kind::ProductKey, .. } => {
                RecordView::open_product_key(&self.current).ok().map(|(_, key)| key)
            }
            _ => None,
        }
    }

    /// Whether the active record still waits for its message 4 / U7.
    pub fn is_pending(&self) -> bool {
        self.active.is_some_and(|area| !self.found(area).is_confirmed())
    }

    /// The key under which the pending exchange began: the product key or the agent key of the *other* area
    /// for INIT and AKU, this record's own agent key for CKU (D2).
    ///
    /// It opens NACKs and nothing else. Where the other area no longer has it, a NACK would have nothing to go
    /// back to (I1), and the record's own agent key stands in so that message 3 goes out all the same.
    ///
    /// # Errors
    /// [`DeviceFailure::AreaInvalid`] if there is no key at all.
    pub fn pending_base(&mut self, purpose: Purpose) -> Result<BaseKey, DeviceFailure> {
        let area = self.active.ok_or(DeviceFailure::AreaMissing)?;
        load(&mut self.flash, area.other().region(), &mut self.work)?;
        let before = match purpose {
            Purpose::Init => {
                RecordView::open_product_key(&self.work).ok().map(|(_, key)| BaseKey::from(&key))
            }
            Purpose::AgentKeyUpdate => open(&self.work, &self.unit, self.key.as_ref())
                .ok()
                .and_then(|view| view.agent_key())
                .map(|(_, key)| BaseKey::from(&key)),
            Purpose::CloudKeyUpdate => None,
        };
        if let Some(key) = before {
            return Ok(key);
        }
        let (_, key) = open(&self.current, &self.unit, self.key.as_ref())?
            .agent_key()
            .ok_or(DeviceFailure::AreaInvalid)?;
        Ok(BaseKey::from(&key))
    }

    /// The unit's identity key, once there is a storage secret.
    pub fn identity(&self) -> Option<&IdentityKey> {
        self.identity.as_ref()
    }

    /// What the trust pair holds.
    pub fn trust(&self) -> Option<&TrustRecord> {
        self.trust.as_ref()
    }

    /// Proof that the active record is committed, read from flash again (I5).
    ///
    /// # Errors
    /// [`DeviceFailure::AreaInvalid`] if flash does not show it, a flash failure otherwise.
    pub fn committed(&mut self) -> Result<Committed, DeviceFailure> {
        let area = self.active.ok_or(DeviceFailure::AreaMissing)?;
        self.read_committed(area.region())
    }

    /// Commits what an exchange brought, as the new active, unconfirmed record.
    ///
    /// # Errors
    /// [`DeviceFailure::ExchangeInternal`] if a record is pending already (I9), a flash or format failure
    /// otherwise; the active record is untouched then.
    pub fn commit(&mut self, received: &Received<'_>) -> Result<Committed, DeviceFailure> {
        let area = self.active.ok_or(DeviceFailure::AreaMissing)?;
        if !self.found(area).is_confirmed() {
            return Err(DeviceFailure::ExchangeInternal);
        }
        let generation = self.highest.checked_add(1).ok_or(DeviceFailure::ExchangeInternal)?;
        let key = self.key.as_ref().ok_or(DeviceFailure::AreaMissing)?;
        let current = open(&self.current, &self.unit, Some(key))?;
        let image = build_snapshot(received, &current, Generation(generation), key, &mut self.work)?;
        let target = area.other().region();
        // Window: cut anywhere up to COMMIT leaves an area without a commit; boot erases it and asks again.
        let result = self
            .write_body(target, &image)
            // Window: cut inside COMMIT leaves it torn (no commit) or weak (repaired at boot). Either way
            // nothing has been sent, so the agent still accepts the old key.
            .and_then(|()| self.program_mark(target, &image, Mark::Commit))
            .and_then(|()| self.read_committed(target));
        self.scan()?;
        result
    }

    /// Message 4 / U7 came: the record is confirmed, the other area goes.
    ///
    /// # Errors
    /// A flash failure. The record stays pending then and the confirmation is asked for again.
    pub fn confirm(&mut self) -> Result<(), DeviceFailure> {
        // Window: cut inside CONFIRM leaves it torn = unset; message 3 is repeated, message 4 comes again.
        self.mark_active(Mark::Confirm)?;
        self.scan()?;
        if self.is_pending() {
            return Err(DeviceFailure::FlashReadBack);
        }
        // Window: cut inside the erase; boot finishes it, the active record is confirmed.
        self.erase_other()
    }

    /// An authentic NACK came: the pending record no longer counts (D4).
    ///
    /// # Errors
    /// A flash failure; [`DeviceFailure::ExchangeInternal`] if nothing is pending.
    pub fn retire(&mut self) -> Result<(), DeviceFailure> {
        let area = self.active.ok_or(DeviceFailure::AreaMissing)?;
        // D4 and I1: only a pending record, and only if the other one can take over.
        if self.found(area).is_confirmed() || !self.found(area.other()).is_confirmed() {
            return Err(DeviceFailure::ExchangeInternal);
        }
        // Window: cut inside RETIRE leaves it torn = unset; the agent NACKs the repeated message 3 again.
        self.mark_active(Mark::Retire)?;
        self.scan()?;
        if self.active == Some(area) { Err(DeviceFailure::FlashReadBack) } else { Ok(()) }
    }

    /// Raises the time floor if `time` (Unix seconds) is more than [`TIME_FLOOR_STEP`] above it.
    ///
    /// # Errors
    /// A flash failure; the old floor stays.
    pub fn raise_time_floor(&mut self, time: u64) -> Result<(), DeviceFailure> {
        let mut trust = self.trust.ok_or(DeviceFailure::TrustInvalid)?;
        if trust.time_floor.is_some_and(|floor| time.saturating_sub(floor) <= TIME_FLOOR_STEP) || time == 0 {
            return Ok(());
        }
        trust.time_floor = Some(time);
        self.write_trust(&trust)
    }

    /// How an area reads, for Status.
    pub fn area_status(&self, area: Area) -> AreaStatus {
        match self.found(area).content {
            Content::Blank => AreaStatus::BLANK,
            Content::Invalid => AreaStatus::INVALID,
            Content::Retired => AreaStatus::RETIRED,
            Content::Valid { kind: Kind::ProductKey, .. } => AreaStatus::PRODUCT_KEY,
            Content::Valid { confirmed: true, .. } => AreaStatus::ACTIVE,
            Content::Valid { confirmed: false, .. } => AreaStatus::UNCONFIRMED,
        }
    }

    /// Takes the oldest notice.
    pub fn take_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// The flash, for a host test that looks behind the store.
    pub fn flash(&mut self) -> &mut F {
        &mut self.flash
    }

    const fn found(&self, area: Area) -> &Found {
        match area {
            Area::A => &self.a,
            Area::B => &self.b,
        }
    }

    fn note(&mut self, failure: DeviceFailure, detail: u32) {
        if self.notices.is_full() {
            self.notices.pop_front();
        }
        // Cannot fail: room was made.
        let _ = self.notices.push_back((failure, detail));
    }

    // ---- reading ----

    fn scan(&mut self) -> Result<(), DeviceFailure> {
        let key = self.key.as_ref();
        self.a = inspect(&mut self.flash, Area::A.region(), &self.unit, key, &mut self.work)?;
        self.b = inspect(&mut self.flash, Area::B.region(), &self.unit, key, &mut self.work)?;
        // Stage one writes area B only; a product key elsewhere was not put there by the line.
        if matches!(self.a.content, Content::Valid { kind: Kind::ProductKey, .. }) {
            self.a.content = Content::Invalid;
        }
        for found in [&mut self.a, &mut self.b] {
            if matches!(found.content, Content::Valid { kind: Kind::Trust | Kind::Boot, .. }) {
                found.content = Content::Invalid;
            }
            self.highest = self.highest.max(found.generation);
        }
        self.active = match (self.a.is_valid(), self.b.is_valid()) {
            (true, true) if self.a.generation > self.b.generation => Some(Area::A),
            (_, true) => Some(Area::B),
            (true, false) => Some(Area::A),
            (false, false) => None,
        };
        if let Some(area) = self.active {
            load(&mut self.flash, area.region(), &mut self.current)?;
        }
        self.holds = self.active().map(|record| Holds {
            agent_key: record.agent_key().is_some(),
            cloud_key: record.cloud_key().map(|(generation, _)| generation),
            owed: record.confirmation().map(|owed| owed.purpose),
        });
        Ok(())
    }

    fn scan_trust(&mut self) -> Result<(), DeviceFailure> {
        self.trust = None;
        for (index, region) in map::TRUST_STORE.into_iter().enumerate() {
            let found = inspect(&mut self.flash, region, &self.unit, self.key.as_ref(), &mut self.work)?;
            let seen = self.trust_generation;
            self.trust_generation = seen.max(found.generation);
            if !matches!(found.content, Content::Valid { kind: Kind::Trust, .. }) {
                continue;
            }
            // inspect() left the record in `work`.
            if let Ok(view) = open(&self.work, &self.unit, self.key.as_ref())
                && (self.trust.is_none() || found.generation >= seen)
                && let Some(root) = view.root_anchor()
            {
                self.trust_at = index;
                self.trust = Some(TrustRecord {
                    root,
                    bundle: view.bundle(),
                    revocation: view.revocation(),
                    manifest_floor: view.manifest_floor(),
                    time_floor: view.time_floor(),
                });
            }
        }
        Ok(())
    }

    fn read_committed(&mut self, region: Region) -> Result<Committed, DeviceFailure> {
        let key = self.key.as_ref().ok_or(DeviceFailure::AreaMissing)?;
        load(&mut self.flash, region, &mut self.work)?;
        let (_, committed) =
            read_valid(&self.work, &self.unit, key).map_err(|_| DeviceFailure::FlashReadBack)?;
        Ok(committed)
    }

    // ---- the storage secret ----

    /// Loads the secret, or draws one if `may_draw`. The first intact slot wins.
    fn load_secret<R: Rng>(&mut self, rng: &mut R, may_draw: bool) -> Result<(), DeviceFailure> {
        let first = offset(map::STORAGE_SECRET.base);
        let end = offset(map::STORAGE_SECRET.end());
        let slot_len = SECRET_SLOT_LEN as u32;
        let mut at = first;
        let (mut spoiled, mut untouched) = (false, false);
        while at.saturating_add(slot_len) <= end {
            let mut slot = [0; SECRET_SLOT_LEN];
            self.flash.read(at, &mut slot).map_err(|_| DeviceFailure::FlashReadBack)?;
            match read_secret_slot(&slot) {
                (SecretSlot::Intact, Some(secret)) => {
                    if !may_draw || !spoiled && self.in_use(&secret)? {
                        slot.zeroize();
                        self.adopt(&secret);
                        return Ok(());
                    }
                    // Its draw was cut at the very end, or the spoiling of a torn slot at its start: it reads
                    // as intact today. Nothing was made under it but a torn trust record, which goes first.
                    for region in map::TRUST_STORE {
                        self.ensure_blank(region)?;
                    }
                    slot.zeroize();
                    self.program(at, &slot)?;
                }
                (SecretSlot::Blank, _) if !spoiled => {
                    if !may_draw {
                        return Err(DeviceFailure::AreaMissing);
                    }
                    // A draw that was cut in its first word may have left cells that read as 1 now: a secret
                    // that wants a 1 there would be lost with them. The first blank slot is given up, all its
                    // cells solid; the one behind it has never been touched.
                    self.program(at, &[0; SECRET_SLOT_LEN])?;
                    spoiled = true;
                    untouched = at == first;
                }
                (SecretSlot::Blank, _) => {
                    let mut bytes = [0; 32];
                    rng.fill(&mut bytes).map_err(rng_failure)?;
                    let secret = StorageSecret::from_bytes(bytes);
                    bytes.zeroize();
                    let slot = build_secret_slot(&secret).map_err(|_| DeviceFailure::RngSeed)?;
                    // Window: cut in here leaves a torn slot; the next boot spoils it and takes the next one.
                    if self.program(at, &slot).is_ok() && self.reads_as(at, &slot)? {
                        // Area A is not written before a secret is in use, nor anything before the first slot
                        // is given up: it is as the line erased it.
                        self.erased = bit(map::KEY_AREA_A);
                        if untouched {
                            self.erased |= bit(trust_region(0)) | bit(trust_region(1));
                        }
                        self.adopt(&secret);
                        return Ok(());
                    }
                    self.note(DeviceFailure::FlashReadBack, at);
                }
                _ => {
                    if may_draw {
                        // A torn slot with weak cells could read as intact one day and win over the slot in
                        // use, which would change the identity: all its ones go to zero.
                        self.program(at, &[0; SECRET_SLOT_LEN])?;
                    }
                }
            }
            at = at.saturating_add(slot_len);
        }
        Err(if may_draw { DeviceFailure::SecretSlotsFull } else { DeviceFailure::AreaMissing })
    }

    /// Whether anything was committed under this secret: the trust record is the first thing that is, and the boot
    /// that wrote it had seen the end of the draw.
    fn in_use(&mut self, secret: &StorageSecret) -> Result<bool, DeviceFailure> {
        let key = StoreKey::derive(&self.unit, secret);
        for region in [map::KEY_AREA_A, trust_region(0), trust_region(1)] {
            let found = inspect(&mut self.flash, region, &self.unit, Some(&key), &mut self.work)?;
            if found.is_valid() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn adopt(&mut self, secret: &StorageSecret) {
        self.key = Some(StoreKey::derive(&self.unit, secret));
        self.identity = Some(IdentityKey::derive(&self.unit, secret));
    }

    // ---- trust pair ----

    /// Makes the trust record from the product-key record, before anything could erase that (I7).
    fn found_trust(&mut self) -> Result<(), DeviceFailure> {
        if self.trust.is_some() {
            return Ok(());
        }
        if !matches!(self.b.content, Content::Valid { kind: Kind::ProductKey, .. }) {
            return if self.active.is_some() { Err(DeviceFailure::TrustInvalid) } else { Ok(()) };
        }
        load(&mut self.flash, Area::B.region(), &mut self.work)?;
        let (view, _) = RecordView::open_product_key(&self.work)?;
        let trust = TrustRecord {
            root: view.root_anchor().ok_or(DeviceFailure::TrustAnchorMissing)?,
            bundle: view.bundle(),
            revocation: None,
            manifest_floor: None,
            time_floor: None,
        };
        self.write_trust(&trust)
    }

    fn write_trust(&mut self, trust: &TrustRecord) -> Result<(), DeviceFailure> {
        let key = self.key.as_ref().ok_or(DeviceFailure::AreaMissing)?;
        let prev = if self.trust.is_some() { self.trust_generation } else { 0 };
        let generation = self.trust_generation.checked_add(1).ok_or(DeviceFailure::TrustInvalid)?;
        let image = trust.build(&self.unit, Generation(generation), Generation(prev), key, &mut self.work)?;
        // The writer only touches the other copy; with no valid copy either will do.
        let (index, other) = match (self.trust.is_some(), self.trust_at) {
            (true, 0) => (1, 0),
            _ => (0, 1),
        };
        let region = trust_region(index);
        self.write_body(region, &image)?;
        self.program_mark(region, &image, Mark::Commit)?;
        self.read_committed(region)?;
        self.program_mark(region, &image, Mark::Confirm)?;
        self.trust = Some(*trust);
        self.trust_at = index;
        self.trust_generation = generation;
        // What must never go back must not lie around either: an older floor could win if this copy decayed.
        self.ensure_blank(trust_region(other))
    }

    // ---- writing ----

    /// Read-repair and marks without a peer: see the module's head.
    fn repair_marks(&mut self) -> Result<(), DeviceFailure> {
        match self.active.map(|area| *self.found(area)) {
            Some(Found { content: Content::Valid { confirmed: false, .. }, .. }) => {
                // All of it, not COMMIT alone: a record whose COMMIT was torn comes back to life if the erase that
                // followed was cut before its cells moved and COMMIT reads as set now.
                let area = self.active.ok_or(DeviceFailure::AreaMissing)?;
                let len = open(&self.current, &self.unit, self.key.as_ref())?.layout().body_len();
                let body = self.current.get(..len).ok_or(DeviceFailure::RecordTooLong)?;
                self.flash
                    .write(offset(area.region().base), body)
                    .map_err(|_| DeviceFailure::FlashProgram)?;
                self.mark_active(Mark::Commit)?;
                self.read_committed(area.region()).map(|_| ())?;
            }
            Some(Found { content: Content::Valid { kind: Kind::ProductKey, .. }, .. }) => {
                let marks = open(&self.current, &self.unit, None)?.mark(Mark::Confirm);
                if marks != MarkState::Set {
                    self.mark_active(Mark::Commit)?;
                    self.mark_active(Mark::Confirm)?;
                }
            }
            _ => {}
        }
        // A trust record without CONFIRM: its writer was cut between the two marks.
        if self.trust.is_some() {
            let region = trust_region(self.trust_at);
            load(&mut self.flash, region, &mut self.work)?;
            let view = open(&self.work, &self.unit, self.key.as_ref())?;
            if view.state() == RecordState::Pending {
                let layout = view.layout();
                let marks = [Mark::Commit, Mark::Confirm].map(|mark| (mark, mark.bytes(view.mac())));
                let body = self.work.get(..layout.body_len()).ok_or(DeviceFailure::RecordTooLong)?;
                self.flash.write(offset(region.base), body).map_err(|_| DeviceFailure::FlashProgram)?;
                for (mark, bytes) in marks {
                    self.program(mark_offset(region, layout.mark_at(mark)), &bytes)?;
                }
            }
            let other = trust_region(usize::from(self.trust_at == 0));
            self.ensure_blank(other)?;
        }
        Ok(())
    }

    /// I4, I7: the one place where key areas are erased outside of a write.
    fn erase_other(&mut self) -> Result<(), DeviceFailure> {
        let Some(area) = self.active else { return Ok(()) };
        if !self.found(area).is_confirmed() || self.trust.is_none() {
            return Ok(());
        }
        if self.found(area.other()).content == Content::Blank {
            return Ok(());
        }
        // A CONFIRM whose last cells are weak reads as set today and as torn tomorrow, when the other record
        // would be gone: make it solid before what cannot be undone.
        self.mark_active(Mark::Confirm)?;
        self.erase(area.other().region())?;
        self.scan()
    }

    fn mark_active(&mut self, mark: Mark) -> Result<(), DeviceFailure> {
        let area = self.active.ok_or(DeviceFailure::AreaMissing)?;
        let view = open(&self.current, &self.unit, self.key.as_ref())?;
        let bytes = mark.bytes(view.mac());
        let at = mark_offset(area.region(), view.layout().mark_at(mark));
        self.program(at, &bytes)
    }

    fn program_mark(&mut self, region: Region, image: &Image, mark: Mark) -> Result<(), DeviceFailure> {
        let bytes: [u8; MARK_LEN] = image.mark(mark);
        let at = mark_offset(region, image.layout().mark_at(mark));
        self.program(at, &bytes)?;
        if self.reads_as(at, &bytes)? {
            return Ok(());
        }
        // Weak cells: the same programming once more is legal and usually enough.
        self.program(at, &bytes)?;
        if self.reads_as(at, &bytes)? { Ok(()) } else { Err(DeviceFailure::FlashReadBack) }
    }

    /// Header, payload and MAC of the record in `work`, read back.
    fn write_body(&mut self, region: Region, image: &Image) -> Result<(), DeviceFailure> {
        // Cells that a cut erase left in between would pass the read-back and decay after the commit.
        if self.erased & bit(region) == 0 || !is_blank(&mut self.flash, region)? {
            self.erase(region)?;
        }
        self.erased &= !bit(region);
        let len = image.layout().body_len();
        let at = offset(region.base);
        for attempt in 0..2 {
            if attempt > 0 {
                self.note(DeviceFailure::FlashReadBack, region.base);
                self.erase(region)?;
                self.erased &= !bit(region);
            }
            let body = self.work.get(..len).ok_or(DeviceFailure::RecordTooLong)?;
            let written = self.flash.write(at, body).is_ok();
            if written && matches(&mut self.flash, at, body)? {
                return Ok(());
            }
        }
        Err(DeviceFailure::FlashReadBack)
    }

    fn ensure_blank(&mut self, region: Region) -> Result<(), DeviceFailure> {
        // A blank area needs no erase: it would stall the CPU and wear the sector for nothing.
        if is_blank(&mut self.flash, region)? { Ok(()) } else { self.erase(region) }
    }

    fn erase(&mut self, region: Region) -> Result<(), DeviceFailure> {
        self.flash.erase(offset(region.base), offset(region.end())).map_err(|_| DeviceFailure::FlashErase)?;
        if !is_blank(&mut self.flash, region)? {
            return Err(DeviceFailure::FlashErase);
        }
        self.erased |= bit(region);
        Ok(())
    }

    fn program(&mut self, at: u32, bytes: &[u8]) -> Result<(), DeviceFailure> {
        self.flash.write(at, bytes).map_err(|_| DeviceFailure::FlashProgram)
    }

    fn reads_as(&mut self, at: u32, bytes: &[u8]) -> Result<bool, DeviceFailure> {
        matches(&mut self.flash, at, bytes)
    }
}

/// The failure number of an RNG fault.
pub const fn rng_failure(fault: RngFault) -> DeviceFailure {
    match fault {
        RngFault::Seed => DeviceFailure::RngSeed,
        RngFault::Clock => DeviceFailure::RngClock,
        RngFault::Repeated => DeviceFailure::RngRepeated,
        RngFault::Timeout => DeviceFailure::RngTimeout,
    }
}

const fn offset(address: u32) -> u32 {
    address.saturating_sub(FLASH_BASE)
}

fn mark_offset(region: Region, at: usize) -> u32 {
    offset(region.base).saturating_add(at as u32)
}

const fn trust_region(index: usize) -> Region {
    let [first, second] = map::TRUST_STORE;
    if index == 0 { first } else { second }
}

/// A region's bit in `Store::erased`.
const fn bit(region: Region) -> u8 {
    match region.base {
        base if base == map::KEY_AREA_A.base => 1,
        base if base == map::KEY_AREA_B.base => 2,
        base if base == trust_region(0).base => 4,
        _ => 8,
    }
}

/// Opens a record of any kind in a buffer.
fn open<'a>(buffer: &'a Buffer, unit: &UnitId, key: Option<&StoreKey>) -> Result<RecordView<'a>, Error> {
    match RecordView::open_product_key(buffer) {
        Ok((view, _)) => Ok(view),
        // Any other kind: a header that is not kind 1, or that names a unit.
        Err(error) => match key {
            Some(key) => RecordView::parse(buffer, unit, key),
            None => Err(error),
        },
    }
}

/// Copies the record at the start of `region` into `buffer`, the rest filled with FF. Returns false if there
/// is no intact header.
fn load<F: MultiwriteNorFlash>(
    flash: &mut F,
    region: Region,
    buffer: &mut Buffer,
) -> Result<bool, DeviceFailure> {
    buffer.fill(0xFF);
    let at = offset(region.base);
    let Some(header) = buffer.get_mut(..HEADER_LEN) else { return Ok(false) };
    flash.read(at, header).map_err(|_| DeviceFailure::FlashReadBack)?;
    let Ok(len) = record::stored_len(header) else { return Ok(false) };
    let Some(whole) = buffer.get_mut(..len) else { return Ok(false) };
    flash.read(at, whole).map_err(|_| DeviceFailure::FlashReadBack)?;
    Ok(true)
}

/// Reads a region as boot does; its record stays in `buffer`.
fn inspect<F: MultiwriteNorFlash>(
    flash: &mut F,
    region: Region,
    unit: &UnitId,
    key: Option<&StoreKey>,
    buffer: &mut Buffer,
) -> Result<Found, DeviceFailure> {
    if !load(flash, region, buffer)? {
        let blank = is_blank(flash, region)?;
        return Ok(Found::nothing(if blank { Content::Blank } else { Content::Invalid }));
    }
    let Ok(view) = open(buffer, unit, key) else { return Ok(Found::nothing(Content::Invalid)) };
    let kind = view.kind();
    let content = match view.state() {
        RecordState::Uncommitted | RecordState::CommitTorn => Content::Invalid,
        RecordState::Retired => Content::Retired,
        RecordState::Confirmed => Content::Valid { kind, confirmed: true },
        // Kinds 1 and 5 wait for nobody; their CONFIRM is only programmed again.
        RecordState::Pending => {
            Content::Valid { kind, confirmed: matches!(kind, Kind::ProductKey | Kind::Trust) }
        }
    };
    Ok(Found { content, generation: view.generation().0 })
}

fn is_blank<F: MultiwriteNorFlash>(flash: &mut F, region: Region) -> Result<bool, DeviceFailure> {
    let mut chunk = [0; 256];
    let mut at = offset(region.base);
    while at < offset(region.end()) {
        flash.read(at, &mut chunk).map_err(|_| DeviceFailure::FlashReadBack)?;
        // By words: a boot looks through all areas, and bytes take four times as long.
        if chunk.as_chunks::<4>().0.iter().any(|word| *word != [0xFF; 4]) {
            return Ok(false);
        }
        at = at.saturating_add(256);
    }
    Ok(true)
}

fn matches<F: MultiwriteNorFlash>(flash: &mut F, at: u32, bytes: &[u8]) -> Result<bool, DeviceFailure> {
    let mut at = at;
    for part in bytes.chunks(64) {
        let mut got = [0; 64];
        let Some(got) = got.get_mut(..part.len()) else { return Ok(false) };
        flash.read(at, got).map_err(|_| DeviceFailure::FlashReadBack)?;
        if got != part {
            return Ok(false);
        }
        at = at.saturating_add(part.len() as u32);
    }
    Ok(true)
}
