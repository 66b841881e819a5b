//! Key-area records, cloud records, secret slots, and the boot scan over damaged flash.
//!
//! Promises: a record counts only if it is genuine, byte for byte, and its COMMIT is exact; a TLV list that is
//! accepted says exactly what its bytes say; boot chooses the newest record that counts, never another one, and
//! never loses it, whatever else flash holds and wherever power fails.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::LazyLock;

use keywright_device_fw::store::Store;
use keywright_device_fw::traits::{Rng, RngFault};
use keywright_protocol::control::Stage;
use keywright_protocol::crypto;
use keywright_protocol::map::{self, FLASH_BASE, Region};
use keywright_protocol::record::{
    self, CloudRecord, CloudRecordParts, HEADER_LEN, Kind, MARK_LEN, MAX_PAYLOAD, MAX_RECORD, Mark,
    MarkState, RecordState, RecordView, SECRET_SLOT_LEN, SecretSlot, build_secret_slot, read_secret_slot,
};
use keywright_protocol::{Generation, Purpose, StoreKey, Suite, UnitId, serial};

use crate::input::Input;
use crate::support::agent::Agent;
use crate::support::nor::{Cut, Nor, NorHandle};
use crate::support::{Dice, UNIT, World};
use crate::vectors::{array, bytes, cases};

/// What the store reads and writes.
pub(crate) const REGIONS: [Region; 5] =
    [map::STORAGE_SECRET, map::KEY_AREA_A, map::KEY_AREA_B, map::TRUST_STORE[0], map::TRUST_STORE[1]];

/// A unit's flash at one moment of a genuine life.
pub(crate) struct Moment {
    pub suite: Suite,
    /// The contents of [`REGIONS`], blank ends cut off.
    pub regions: [Vec<u8>; 5],
    /// What the agent had put on the line and the unit had not read.
    pub line: Vec<u8>,
}

/// The life of one unit per suite, from stage one through INIT, CKU, AKU and another CKU.
pub(crate) static MOMENTS: LazyLock<Vec<Moment>> = LazyLock::new(|| {
    let mut moments: Vec<Moment> = Vec::new();
    for (suite, seed) in [(Suite::Hardened, 11), (Suite::Legacy, 12)] {
        let mut world = World::new(Agent::new(suite, seed), seed);
        for update in [None, Some(Purpose::AgentKeyUpdate), Some(Purpose::CloudKeyUpdate)] {
            if let Some(purpose) = update {
                world.unit().start_update(purpose).expect("an active unit takes a wish");
                // A wish alone does not leave the stage.
                world.step();
                keep(&mut moments, &world, suite);
            }
            assert!(world.run_until(48 * 3_600_000, |world| {
                keep(&mut moments, world, suite);
                let settled = !world.unit().store().is_pending();
                settled && world.unit().stage() == Stage::ACTIVE && world.wire.borrow().to_unit.is_empty()
            }));
        }
    }
    moments
});

fn keep(moments: &mut Vec<Moment>, world: &World, suite: Suite) {
    let nor = world.nor.borrow();
    let regions = REGIONS.map(|region| {
        let bytes = nor.bytes(region);
        let len = bytes.iter().rposition(|byte| *byte != 0xff).map_or(0, |last| last + 1);
        bytes[..len].to_vec()
    });
    let line: Vec<u8> = world.wire.borrow().to_unit.iter().copied().collect();
    let known = |m: &Moment| m.suite == suite && m.regions == regions && m.line == line;
    if !moments.iter().any(known) {
        moments.push(Moment { suite, regions, line });
    }
}

impl Moment {
    /// Flash as it is at this moment.
    pub fn flash(&self) -> Nor {
        let mut nor = Nor::new(1);
        for (region, bytes) in REGIONS.iter().zip(&self.regions) {
            nor.preset(region.base, bytes);
        }
        nor
    }
}

/// A record that really was written.
struct Genuine {
    kind: Kind,
    generation: u32,
    /// The secret under which it counts; `None` for kind 1.
    secret: Option<[u8; 32]>,
    /// Header, payload, MAC.
    body: Vec<u8>,
    mac: [u8; 32],
}

static GENUINE: LazyLock<Vec<Genuine>> = LazyLock::new(|| {
    let mut all: Vec<Genuine> = Vec::new();
    for moment in MOMENTS.iter() {
        let flash = moment.flash();
        let secret = flash.secret();
        for region in &REGIONS[1..] {
            let area = flash.bytes(*region);
            let key = secret.as_ref().map(|secret| StoreKey::derive(&UNIT, secret));
            let view = match (RecordView::open_product_key(area), &key) {
                (Ok((view, _)), _) => view,
                (Err(_), Some(key)) => match RecordView::parse(area, &UNIT, key) {
                    Ok(view) => view,
                    Err(_) => continue,
                },
                (Err(_), None) => continue,
            };
            let body = area[..view.layout().body_len()].to_vec();
            if all.iter().all(|g| g.body != body) {
                let secret = secret.as_ref().filter(|_| view.kind() != Kind::ProductKey);
                all.push(Genuine {
                    kind: view.kind(),
                    generation: view.generation().0,
                    secret: secret.map(|secret| *secret.expose()),
                    mac: *view.mac(),
                    body,
                });
            }
        }
    }
    all
});

/// A mark's bytes, from its definition.
fn mark_bytes(name: &str, mac: &[u8; 32]) -> [u8; MARK_LEN] {
    *crypto::sha256(&[name.as_bytes(), mac]).first_chunk().expect("32 bytes")
}

/// The genuine record that counts in an area, under a secret; an independent judgement.
fn counts(area: &[u8], secret: Option<&[u8; 32]>) -> Option<&'static Genuine> {
    let genuine = GENUINE.iter().find(|g| area.starts_with(&g.body))?;
    let marks = &area[genuine.body.len()..];
    let mine = genuine.secret.is_none() || genuine.secret.as_ref() == secret;
    let committed = marks[..16] == mark_bytes("COMMIT", &genuine.mac);
    let retired = marks[32..48] == mark_bytes("RETIRE", &genuine.mac);
    (mine && committed && !retired).then_some(genuine)
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 5 {
        0 => raw(input.rest()),
        1 => damaged(&mut input),
        2 => sealed(&mut input),
        3 => cloud(input.rest()),
        _ => boot(&mut input),
    }
}

/// Bytes from nowhere.
fn raw(data: &[u8]) {
    let key = StoreKey::from_bytes([0x44; 32]);
    assert!(RecordView::parse(data, &UNIT, &key).is_err(), "nobody has this key");
    assert!(record::read_valid(data, &UNIT, &key).is_err());
    if let Ok(len) = record::stored_len(data) {
        assert!((HEADER_LEN..=MAX_RECORD).contains(&len) && len % 16 == 0);
    }
    if let Ok((view, _)) = RecordView::open_product_key(data) {
        // Only the vectors' and the simulated batch's are known to this input.
        assert!(GENUINE.iter().any(|g| data.starts_with(&g.body)) || vector_of(data).is_some());
        assert_eq!(view.kind(), Kind::ProductKey);
    }
    let slot: [u8; SECRET_SLOT_LEN] = Input::new(data).array();
    match read_secret_slot(&slot) {
        (SecretSlot::Intact, Some(secret)) => {
            assert_eq!(build_secret_slot(&secret).expect("not blank"), slot);
        }
        (SecretSlot::Intact, None) | (SecretSlot::Torn | SecretSlot::Blank, Some(_)) => {
            panic!("half a secret")
        }
        (SecretSlot::Blank, None) => assert_eq!(slot, [0xff; SECRET_SLOT_LEN]),
        (SecretSlot::Torn, None) => assert_ne!(slot, [0xff; SECRET_SLOT_LEN]),
    }
}

struct Vector {
    bytes: Vec<u8>,
    unit: UnitId,
    key: StoreKey,
    product_key: bool,
}

static VECTORS: LazyLock<Vec<Vector>> = LazyLock::new(|| {
    let record = |case: &serde_json::Value| {
        let name = case["name"].as_str().expect("a name");
        Vector {
            bytes: bytes(case, "bytes"),
            unit: UnitId(array(&case["args"], "uid")),
            key: StoreKey::from_bytes(array(case, "k_store")),
            product_key: name.starts_with("kind1"),
        }
    };
    cases("records").iter().map(record).collect()
});

/// The vector whose body these bytes begin with.
fn vector_of(data: &[u8]) -> Option<&'static Vector> {
    VECTORS.iter().find(|v| {
        let body = v.bytes.len() - 3 * MARK_LEN;
        data.starts_with(&v.bytes[..body])
    })
}

/// Edits of the vectors' records: the body is all or nothing, each mark is exact, blank or torn.
fn damaged(input: &mut Input<'_>) {
    let vector = &VECTORS[input.pick(VECTORS.len())];
    let mut area = vector.bytes.clone();
    let others: Vec<&[u8]> = VECTORS.iter().map(|v| v.bytes.as_slice()).collect();
    input.edit(&mut area, &others);
    let parsed = RecordView::parse(&area, &vector.unit, &vector.key);
    let mine = vector_of(&area).filter(|v| v.key.expose() == vector.key.expose() && v.unit == vector.unit);
    let Ok(view) = parsed else {
        let whole = mine.is_some_and(|v| area.len() >= v.bytes.len());
        assert!(!whole, "a genuine record was refused");
        return;
    };
    assert!(mine.is_some(), "a record that nobody wrote was accepted");
    let layout = view.layout();
    let mac: [u8; 32] = *view.mac();
    let state = |mark: Mark, name: &str| {
        let at = layout.mark_at(mark);
        let bytes = &area[at..at + MARK_LEN];
        let expected = if bytes == mark_bytes(name, &mac) {
            MarkState::Set
        } else if bytes == [0xff; MARK_LEN] {
            MarkState::Blank
        } else {
            MarkState::Torn
        };
        assert_eq!(view.mark(mark), expected);
        expected
    };
    let commit = state(Mark::Commit, "COMMIT");
    let confirm = state(Mark::Confirm, "CONFIRM");
    let retire = state(Mark::Retire, "RETIRE");
    let expected = match (commit, confirm, retire) {
        (MarkState::Blank, ..) => RecordState::Uncommitted,
        (MarkState::Torn, ..) => RecordState::CommitTorn,
        (_, _, MarkState::Set) => RecordState::Retired,
        (_, MarkState::Set, _) => RecordState::Confirmed,
        _ => RecordState::Pending,
    };
    assert_eq!(view.state(), expected);
    let valid = matches!(expected, RecordState::Pending | RecordState::Confirmed);
    assert_eq!(view.committed().is_ok(), valid);
    assert_eq!(record::read_valid(&area, &vector.unit, &vector.key).is_ok(), valid);
    assert_eq!(RecordView::open_product_key(&area).is_ok(), vector.product_key);
}

/// Any payload under a right CRC and MAC: what only the unit itself could have written.
fn sealed(input: &mut Input<'_>) {
    let (kind, from) = (input.byte(), input.byte());
    let mut payload = match from % 4 {
        0 => Vec::new(),
        _ => {
            let base = &VECTORS[usize::from(from) % VECTORS.len()].bytes;
            let len = u32::from_be_bytes(base[12..16].try_into().expect("four bytes")) as usize;
            base[HEADER_LEN..HEADER_LEN + len].to_vec()
        }
    };
    let others: Vec<&[u8]> = VECTORS.iter().map(|v| v.bytes.as_slice()).collect();
    if from % 4 == 0 {
        payload.extend_from_slice(input.rest());
    } else {
        input.edit(&mut payload, &others);
    }
    let key = StoreKey::from_bytes([0x55; 32]);
    let mut area = vec![0; HEADER_LEN];
    area[..8].copy_from_slice(&[b'K', b'R', b'E', b'C', 1, kind % 8, 0, 112]);
    area[8..12].copy_from_slice(&9u32.to_be_bytes());
    area[12..16].copy_from_slice(&(payload.len() as u32).to_be_bytes());
    area[16..28].copy_from_slice(&UNIT.0);
    let crc = serial::crc32(&area[..108]);
    area[108..].copy_from_slice(&crc);
    area.extend_from_slice(&payload);
    area.resize(HEADER_LEN + payload.len().div_ceil(16) * 16, 0xff);
    let mac = crypto::hmac(key.expose(), &[&area]);
    area.extend_from_slice(&mac);
    area.resize(area.len() + 48, 0xff);
    let fits = payload.len() <= MAX_PAYLOAD;
    assert_eq!(record::stored_len(&area).is_ok(), fits && matches!(kind % 8, 1 | 2 | 3 | 5 | 6));
    let Ok(view) = RecordView::parse(&area, &UNIT, &key) else { return };
    assert!(fits);
    assert_eq!((view.kind() as u8, view.generation()), (kind % 8, Generation(9)));
    assert_eq!(view.state(), RecordState::Uncommitted);
    let list = tlvs(&payload).expect("an accepted list is a list");
    let get = |tag: u8| list.iter().find(|(t, _)| *t == tag).map(|(_, value)| *value);
    let (allowed, required): (&[u8], &[u8]) = match kind % 8 {
        1 => (&[8, 10, 11, 12], &[8, 10, 11]),
        2 => (&[1, 8, 9], &[1, 8]),
        3 => (&[1, 2, 3, 4, 6, 7, 8, 9], &[1, 2, 8]),
        5 => (&[11, 12, 13, 14, 15], &[11]),
        _ => (&[], &[]),
    };
    assert!(list.iter().all(|(tag, _)| allowed.contains(tag)));
    assert!(required.iter().all(|tag| get(*tag).is_some()));
    let numbered = |generation: Generation, key: &[u8]| [&generation.0.to_be_bytes()[..], key].concat();
    assert_eq!(view.agent_key().map(|(g, k)| numbered(g, k.expose())).as_deref(), get(1));
    assert_eq!(view.cloud_key().map(|(g, k)| numbered(g, k.expose())).as_deref(), get(2));
    assert_eq!(view.connection().map(str::as_bytes), get(3));
    assert_eq!(view.platform_cert(), get(4));
    assert_eq!(view.region_cert().map(|cert| cert.0.to_vec()).as_deref(), get(6));
    assert_eq!(view.device_cert().map(|cert| cert.0.to_vec()).as_deref(), get(7));
    let order =
        view.order().map(|o| [&o.order.0[..], &o.region.0.to_be_bytes(), &[o.minimum_suite]].concat());
    assert_eq!(order.as_deref(), get(8));
    assert_eq!(view.confirmation().is_some(), get(9).is_some(), "owed until CONFIRM is set");
    let root = view.root_anchor().map(|r| [&r.epoch.to_be_bytes()[..], &r.key.0].concat());
    assert_eq!(root.as_deref(), get(11));
    assert_eq!(view.bundle().map(|b| [b.hash, b.next_commit].concat()).as_deref(), get(12));
    let revoked = view.revocation().map(|r| [r.seq, r.region.0, r.min_epoch].map(u32::to_be_bytes).concat());
    assert_eq!(revoked.as_deref(), get(13));
    let floor = view.manifest_floor().map(|(seq, digest)| [&seq.to_be_bytes()[..], &digest].concat());
    assert_eq!(floor.as_deref(), get(14));
    assert_eq!(view.time_floor().map(|time| time.to_be_bytes().to_vec()).as_deref(), get(15));
    assert!(!format!("{view:?}").is_empty());
}

/// Reads a TLV list from its definition: `{u8 type, u16 len, value}`, ascending and unique.
fn tlvs(mut bytes: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut list: Vec<(u8, &[u8])> = Vec::new();
    while let [tag, high, low, rest @ ..] = bytes {
        let (value, tail) = rest.split_at_checked(usize::from(*high) << 8 | usize::from(*low))?;
        if list.last().is_some_and(|(last, _)| last >= tag) {
            return None;
        }
        list.push((*tag, value));
        bytes = tail;
    }
    bytes.is_empty().then_some(list)
}

/// A cloud record of any bytes: reading and building undo each other.
fn cloud(data: &[u8]) {
    let Ok(record) = CloudRecord::parse(data) else { return };
    let list = tlvs(data).expect("an accepted list is a list");
    assert!(list.iter().all(|(tag, _)| [2, 3, 4, 6, 7].contains(tag)));
    let (generation, key) = record.cloud_key().expect("a parsed record has a cloud key");
    let (region, device) = (record.region_cert(), record.device_cert());
    let parts = CloudRecordParts {
        generation,
        key: &key,
        connection: record.connection(),
        platform_cert: record.platform_cert(),
        region_cert: region.as_ref(),
        device_cert: device.as_ref(),
    };
    let mut out = vec![0; data.len()];
    match parts.build(&mut out) {
        Ok(len) => assert_eq!(&out[..len], data),
        // No key has generation 0; the unit refuses it because generations must grow.
        Err(_) => assert_eq!(generation, Generation::NONE),
    }
}

struct Draw(Dice);

impl Rng for Draw {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), RngFault> {
        out.fill_with(|| self.0.next() as u8);
        Ok(())
    }
}

/// The boot scan over a genuine moment's flash, edited, with a power cut at any operation of the first boot.
fn boot(input: &mut Input<'_>) {
    let moment = &MOMENTS[input.pick(MOMENTS.len())];
    let cut = match input.byte() {
        at if at & 1 == 1 => Some(Cut { at: u64::from(at >> 1), progress: u64::from(input.byte()) % 101 }),
        _ => None,
    };
    let mut nor = moment.flash();
    while !input.is_empty() {
        damage(input, &mut nor);
    }

    // What must happen, from flash as it now is: the first slot that is not torn decides about the secret. Before a
    // secret is drawn, one blank slot is given up; behind it the same rule holds.
    let slots = nor.bytes(map::STORAGE_SECRET).as_chunks::<SECRET_SLOT_LEN>().0;
    let mut slots = slots.iter().map(read_secret_slot).filter(|(state, _)| *state != SecretSlot::Torn);
    let stage_one = counts(nor.bytes(map::KEY_AREA_B), None).is_some_and(|g| g.kind == Kind::ProductKey);
    let deciding = slots.next().and_then(|first| match first {
        (SecretSlot::Blank, _) if stage_one => slots.next(),
        first => Some(first),
    });
    let secret = deciding.and_then(|(_, secret)| secret).map(|secret| *secret.expose());
    let chosen = |nor: &Nor| {
        let count = |region| counts(nor.bytes(region), secret.as_ref());
        // Stage one writes area B only; trust records do not belong here.
        let a = count(map::KEY_AREA_A).filter(|g| matches!(g.kind, Kind::AgentKey | Kind::AgentAndCloud));
        let b = count(map::KEY_AREA_B).filter(|g| g.kind != Kind::Trust);
        match (a, b) {
            (Some(a), Some(b)) if a.generation > b.generation => Some(a),
            (a, None) => a,
            (_, b) => b,
        }
    };
    let expected = chosen(&nor);

    nor.cut = cut;
    let nor = Rc::new(RefCell::new(nor));
    let rng = &mut Draw(Dice(7));
    // Twice: after a cut, and to see that a boot leaves nothing that the next one judges otherwise.
    for round in 0..2 {
        nor.borrow_mut().power_on();
        let mut store = Store::new(NorHandle(nor.clone()), UNIT);
        let result = store.boot(rng);
        let active = store.active().map(|view| *view.mac());
        let died = nor.borrow().dead;
        if let Some(mac) = active {
            assert_eq!(Some(mac), expected.map(|g| g.mac), "boot chose another record");
        }
        if result.is_ok() {
            assert!(active.is_some(), "a unit without a record is not ready");
            assert!(store.trust().is_some() && store.identity().is_some());
        } else if expected.is_some() && !died && round == 0 {
            // A boot that fails says so; it may not leave with the record gone, see below.
            assert!(active.is_some() || secret.is_none());
        }
        drop(store);
        nor.borrow_mut().power_on();
        let kept = chosen(&nor.borrow()).map(|g| g.mac);
        assert_eq!(
            kept,
            expected.map(|g| g.mac),
            "flash no longer shows the record that counted: {result:?}"
        );
        nor.borrow_mut().cut = None;
    }
}

/// One change to the regions the store reads.
fn damage(input: &mut Input<'_>, nor: &mut Nor) {
    let what = input.byte();
    let region = REGIONS[input.pick(REGIONS.len())];
    let (at, len) = (input.word() as u32 % 2_048, input.pick(64));
    let at = region.base + at.min(region.len - 64);
    let from = (at - region.base) as usize;
    match what % 6 {
        // Cells that fell, cells that were made up, cells that were erased.
        0 => {
            let mask = input.byte();
            let old = nor.bytes(region)[from];
            nor.preset(at, &[old & mask]);
        }
        1 => nor.preset(at, input.bytes(len)),
        2 => nor.preset(at, &vec![0xff; len]),
        // A whole region of another moment: another unit's life, an older state, the other suite's batch.
        3 => {
            let other = &MOMENTS[input.pick(MOMENTS.len())];
            let bytes = &other.regions[input.pick(REGIONS.len())];
            let bytes = &bytes[..bytes.len().min(region.len as usize)];
            nor.preset(region.base, &vec![0xff; 2_048]);
            nor.preset(region.base, bytes);
        }
        // A mark moved from elsewhere.
        4 => {
            let source = REGIONS[input.pick(REGIONS.len())];
            let start = (input.word() % 2_048) & !15;
            let mark: Vec<u8> = nor.bytes(source)[start..start + MARK_LEN].to_vec();
            nor.preset(region.base + (from as u32 & !15), &mark);
        }
        _ => nor.preset(region.base, &vec![0xff; 2_048]),
    }
    debug_assert!(region.base >= FLASH_BASE);
}
