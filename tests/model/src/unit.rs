//! The unit: the real engine over flash that is data.
//!
//! The engine holds secrets and cannot be cloned, and it is deterministic: a powered unit *is* what its flash read at
//! power-on, the number of its boot (which seeds its random numbers) and what it was given since. The next state comes
//! from running the engine again from power-on. What a run did is a list of flash operations and sent frames, in order;
//! a power cut is a prefix of that list, with the operation it hits half done.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use embedded_storage::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use keywright_device_fw::engine::{BACK_OFF_LAST, Engine, Facts};
use keywright_device_fw::traits::{Clock, Link, LinkFull, Rng, RngFault};
use keywright_protocol::control::LogRecord;
use keywright_protocol::crypto;
use keywright_protocol::map::FLASH_LEN;
use keywright_protocol::record::{
    HEADER_LEN, Kind, MARK_LEN, Mark, RecordState, RecordView, SECRET_SLOT_LEN, read_secret_slot,
};
use keywright_protocol::serial::{self, Channel, Packet};
use keywright_protocol::{AgentKey, CloudKey, DeviceFailure, Purpose, StorageSecret, StoreKey};

use crate::net::{Frame, Peer};
use crate::nor::{AREA_A, AREA_B, Image, MarkName, Op, SECRET, SECTORS, id_of, locate, other_area};
use crate::{Mutant, UNIT};

/// Something that happens to a powered unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The first poll after power-on.
    Boot,
    /// A frame of the agent arrives.
    Frame(Frame),
    /// So much time passes that whatever waits is due.
    Tick,
    /// Somebody asks for new keys.
    Start(Purpose),
}

/// What a unit did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A flash operation.
    Op(Op),
    /// A frame left.
    Sent(Frame),
}

// ---- the engine's surroundings ----

#[derive(Default)]
struct Chip {
    image: Image,
    events: Vec<Event>,
    mutant: Mutant,
    inbox: VecDeque<Vec<u8>>,
    draws: u64,
    failures: Vec<u16>,
    slot: Slot,
}

/// How area A looks when there is only one slot (a mutant).
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Slot {
    /// Blank.
    #[default]
    Hidden,
    /// Blank, and the next write clears the slot first.
    ToClear,
    /// What was just written in place.
    Shown,
}

impl Chip {
    /// One slot in place: what is meant for area A happens to area B. Area A reads as blank until it is written.
    fn is_alias(&self, sector: usize) -> bool {
        self.mutant == Mutant::SingleSlot && sector == AREA_A
    }

    fn read(&self, sector: usize, at: usize, out: &mut [u8]) {
        match (self.is_alias(sector), self.slot) {
            (false, _) => self.image.read(sector, at, out),
            (true, Slot::Shown) => self.image.read(AREA_B, at, out),
            (true, _) => out.fill(0xFF),
        }
    }

    fn operate(&mut self, op: Op) {
        self.image.apply(&op);
        self.events.push(Event::Op(op));
    }

    fn write(&mut self, sector: usize, at: usize, bytes: &[u8]) {
        let alias = self.is_alias(sector);
        let sector = if alias { AREA_B } else { sector };
        if alias && std::mem::replace(&mut self.slot, Slot::Shown) == Slot::ToClear {
            self.operate(Op::Erase { sectors: vec![sector] });
        }
        self.operate(Op::Write { sector, at, bytes: bytes.into() });
        if self.mutant == Mutant::EarlyErase
            && self.image.mark_at(sector, at, bytes.len()) == Some(MarkName::Commit)
            && let Some(other) = other_area(sector)
        {
            self.operate(Op::Erase { sectors: vec![other] });
        }
    }

    fn erase(&mut self, sector: usize) {
        if self.is_alias(sector) {
            self.slot = Slot::ToClear;
            return;
        }
        let mut sectors = vec![sector];
        if self.mutant == Mutant::SharedSector {
            sectors.extend(other_area(sector));
        }
        self.operate(Op::Erase { sectors });
    }
}

type Shared = Rc<RefCell<Chip>>;

struct Flash(Shared);

/// The unit used flash that no part of it may use.
#[derive(Clone, Copy, Debug)]
struct Outside;

impl NorFlashError for Outside {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::OutOfBounds
    }
}

impl ErrorType for Flash {
    type Error = Outside;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, out: &mut [u8]) -> Result<(), Outside> {
        let chip = self.0.borrow();
        let (sector, at) = locate(offset).ok_or(Outside)?;
        chip.read(sector, at, out);
        Ok(())
    }

    fn capacity(&self) -> usize {
        FLASH_LEN as usize
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 16 * 1024;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Outside> {
        let (sector, at) = locate(from).ok_or(Outside)?;
        assert!(at == 0 && to - from == SECTORS[sector].len, "whole sectors only");
        self.0.borrow_mut().erase(sector);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Outside> {
        assert!(offset.is_multiple_of(4) && bytes.len().is_multiple_of(4), "whole words only");
        let (sector, at) = locate(offset).ok_or(Outside)?;
        self.0.borrow_mut().write(sector, at, bytes);
        Ok(())
    }
}

impl MultiwriteNorFlash for Flash {}

struct Line {
    chip: Shared,
    arrived: Vec<u8>,
}

impl Link for Line {
    fn send(&mut self, channel: Channel, payload: &[u8]) -> Result<(), LinkFull> {
        let mut chip = self.chip.borrow_mut();
        match channel {
            Channel::AGENT => chip.events.push(Event::Sent(Frame::new(Peer::Agent, payload))),
            Channel::LOG => {
                let code = LogRecord::parse(payload).map_or(u16::MAX, |record| record.code);
                if code != 0 {
                    chip.failures.push(code);
                }
            }
            // No modem: logins are an action of the model.
            Channel::TCP => return Err(LinkFull),
            _ => {}
        }
        Ok(())
    }

    fn receive(&mut self) -> Option<Packet<'_>> {
        self.arrived = self.chip.borrow_mut().inbox.pop_front()?;
        Some(Packet { channel: Channel::AGENT, payload: &mut self.arrived })
    }

    fn dropped(&self) -> u32 {
        0
    }
}

struct Draws {
    chip: Shared,
    state: u64,
}

impl Rng for Draws {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), RngFault> {
        self.chip.borrow_mut().draws += 1;
        // SplitMix64: no two draws of any two boots are alike, which is all that the protocol asks of nonces here.
        out.fill_with(|| {
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.state;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ z >> 31) as u8
        });
        Ok(())
    }
}

struct Time(Rc<Cell<u64>>);

impl Clock for Time {
    fn now_ms(&self) -> u64 {
        self.0.get()
    }
}

/// A unit that runs.
pub struct Live {
    chip: Shared,
    now: Rc<Cell<u64>>,
    engine: Engine<Flash, Line, Draws, Time>,
}

impl Live {
    /// A unit that gets power now; nothing has run yet.
    pub fn new(image: Image, boot: u32, mutant: Mutant) -> Live {
        let lower = mutant == Mutant::ForgottenGeneration;
        let image = if lower { with_lower_generation(&image) } else { image };
        let chip = Rc::new(RefCell::new(Chip { image, mutant, ..Chip::default() }));
        let now = Rc::new(Cell::new(0));
        let facts = Facts {
            unit: UNIT,
            firmware: [1, 2, 3, 0],
            reset_cause: 0,
            ram_high_water: || 0,
            rekey_every_ms: 0,
        };
        let draws = Draws { chip: chip.clone(), state: u64::from(boot).wrapping_mul(0xd134_2543_de82_ef95) };
        let line = Line { chip: chip.clone(), arrived: Vec::new() };
        let engine = Engine::new(facts, Flash(chip.clone()), line, draws, Time(now.clone()));
        Live { chip, now, engine }
    }

    /// Whether the engine would take up an update now.
    pub fn start(&mut self, purpose: Purpose) -> Result<Vec<Event>, DeviceFailure> {
        self.engine.start_update(purpose)?;
        self.engine.poll();
        Ok(self.take_events())
    }

    /// Lets something happen; `None` if it cannot.
    pub fn feed(&mut self, input: &Input) -> Option<Vec<Event>> {
        match input {
            Input::Boot => {}
            Input::Frame(frame) => self.chip.borrow_mut().inbox.push_back(frame.bytes().to_vec()),
            Input::Tick => self.now.set(self.now.get() + 2 * BACK_OFF_LAST),
            Input::Start(purpose) => return self.start(*purpose).ok(),
        }
        self.engine.poll();
        Some(self.take_events())
    }

    fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.chip.borrow_mut().events)
    }

    /// Whether the active record still waits for its message 4.
    pub fn is_pending(&mut self) -> bool {
        self.engine.store().is_pending()
    }

    /// What flash reads now.
    pub fn image(&self) -> Image {
        self.chip.borrow().image.clone()
    }
}

// ---- a state of a unit ----

/// One record that counts, as an outside observer reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The record's own generation.
    pub generation: u32,
    /// Agent key; `None` in a product-key record.
    pub agent: Option<(u32, AgentKey)>,
    /// Cloud key, once there is one.
    pub cloud: Option<(u32, CloudKey)>,
    /// Confirmed; a product-key record waits for nobody.
    pub confirmed: bool,
}

/// The committed, not retired records of the key areas, highest generation first.
pub fn records(image: &Image) -> Vec<Seen> {
    records_in(image, |state| matches!(state, RecordState::Pending | RecordState::Confirmed))
}

fn records_in(image: &Image, wanted: impl Fn(RecordState) -> bool) -> Vec<Seen> {
    let key = store_key(image);
    let mut seen: Vec<Seen> = [AREA_A, AREA_B]
        .iter()
        .filter_map(|area| record_in(image, *area, key.as_ref()))
        .filter(|(_, state)| wanted(*state))
        .map(|(seen, _)| seen)
        .collect();
    seen.sort_by_key(|record| std::cmp::Reverse(record.generation));
    seen
}

fn store_key(image: &Image) -> Option<StoreKey> {
    let secret: Option<StorageSecret> =
        image.cells(SECRET).as_chunks::<SECRET_SLOT_LEN>().0.iter().find_map(|slot| read_secret_slot(slot).1);
    secret.map(|secret| StoreKey::derive(&UNIT, &secret))
}

fn record_in(image: &Image, area: usize, key: Option<&StoreKey>) -> Option<(Seen, RecordState)> {
    let cells = image.cells(area);
    let view = match RecordView::open_product_key(cells) {
        Ok((view, _)) => view,
        Err(_) => RecordView::parse(cells, &UNIT, key?).ok()?,
    };
    let state = view.state();
    Some((
        Seen {
            generation: view.generation().0,
            agent: view.agent_key().map(|(generation, key)| (generation.0, key)),
            cloud: view.cloud_key().map(|(generation, key)| (generation.0, key)),
            confirmed: view.kind() == Kind::ProductKey || state == RecordState::Confirmed,
        },
        state,
    ))
}

/// A unit that forgets N2 and TH2 with the power (a mutant): the pending records without them, well-formed otherwise.
fn without_n2(image: &Image) -> Image {
    edited(image, |state, bytes| {
        if state == RecordState::Pending {
            bytes[32..80].fill(0);
        }
    })
}

/// A unit that reads every record's own number one too low (a mutant).
fn with_lower_generation(image: &Image) -> Image {
    edited(image, |_, bytes| {
        if let Some((at, _)) = bytes[8..].split_first_chunk_mut() {
            *at = (u32::from_be_bytes(*at) - 1).to_be_bytes();
        }
    })
}

/// The unit's own records after an edit, well-formed.
fn edited(image: &Image, edit: impl Fn(RecordState, &mut [u8])) -> Image {
    let mut out = image.clone();
    let Some(key) = store_key(image) else { return out };
    for area in [AREA_A, AREA_B] {
        let cells = image.cells(area);
        let Ok(view) = RecordView::parse(cells, &UNIT, &key) else { continue };
        let marks: &[Mark] = match view.state() {
            RecordState::Pending => &[Mark::Commit],
            RecordState::Confirmed => &[Mark::Commit, Mark::Confirm],
            _ => continue,
        };
        let layout = view.layout();
        let mut bytes = cells[..layout.total_len()].to_vec();
        edit(view.state(), &mut bytes);
        let crc = serial::crc32(&bytes[..HEADER_LEN - 4]);
        bytes[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&crc);
        let mac = crypto::hmac(key.expose(), &[&bytes[..layout.mac_at()]]);
        bytes[layout.mac_at()..layout.body_len()].copy_from_slice(&mac);
        for mark in marks {
            let at = layout.mark_at(*mark);
            bytes[at..at + MARK_LEN].copy_from_slice(&mark.bytes(&mac));
        }
        out.preset(area, 0, &bytes);
    }
    out
}

/// What a unit is.
#[derive(Clone)]
pub struct Unit {
    /// Flash as it is now.
    image: Arc<Image>,
    /// What it was at power-on; `None` without power.
    powered: Option<Arc<Image>>,
    boot: u32,
    inputs: Vec<Input>,
    id: u128,
    view: Arc<View>,
}

/// What an observer sees of a unit.
#[derive(Debug)]
pub struct View {
    /// The records that count, as this boot reads flash (or, without power, as it was last read).
    pub now: Vec<Seen>,
    /// The records that count, in every reading of the weak cells.
    pub readings: Vec<Vec<Seen>>,
}

impl fmt::Debug for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records: Vec<String> = self
            .view
            .now
            .iter()
            .map(|r| {
                let (ak, ck) = (r.agent.as_ref().map_or(0, |a| a.0), r.cloud.as_ref().map_or(0, |c| c.0));
                format!("{}{}: ak {ak} ck {ck}", r.generation, if r.confirmed { "" } else { "?" })
            })
            .collect();
        let power = if self.powered.is_some() { "on" } else { "off" };
        write!(f, "Unit({power}, boot {}, {records:?}, {} inputs)", self.boot, self.inputs.len())
    }
}

/// What one input does to one unit.
pub struct Run {
    /// In order.
    pub events: Vec<Event>,
    /// The unit afterwards.
    pub after: Unit,
    /// What was broken on the way, by the name of the invariant.
    pub broken: Vec<&'static str>,
}

impl Unit {
    fn new(image: Image, powered: Option<Arc<Image>>, boot: u32, inputs: Vec<Input>) -> Unit {
        let id = id_of(&(image.id(), powered.as_ref().map(|image| image.id()), boot, &inputs));
        let view = View {
            now: records(&image),
            readings: (0..image.readings()).map(|reading| records(&image.as_read(reading))).collect(),
        };
        Unit { image: Arc::new(image), powered, boot, inputs, id, view: Arc::new(view) }
    }

    /// A unit without power.
    pub fn off(image: Image, boot: u32) -> Unit {
        Unit::new(image, None, boot, Vec::new())
    }

    /// Everything that decides what it does next.
    pub fn id(&self) -> u128 {
        self.id
    }

    /// Whether it has power.
    pub fn is_on(&self) -> bool {
        self.powered.is_some()
    }

    /// How often it was started.
    pub fn boots(&self) -> u32 {
        self.boot
    }

    /// Flash.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// What an observer sees.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The same unit after its power failed.
    pub fn cut(&self) -> Unit {
        Unit::off((*self.image).clone(), self.boot)
    }

    /// Flash as one boot reads it.
    pub fn at_power_on(&self, reading: usize, mutant: Mutant) -> Image {
        let image = self.image.as_read(reading);
        if mutant == Mutant::VolatileN2 { without_n2(&image) } else { image }
    }

    /// The engine, brought to where this unit is.
    pub fn revive(&self, mutant: Mutant) -> Option<Live> {
        let image = self.powered.as_ref()?;
        let mut live = Live::new((**image).clone(), self.boot, mutant);
        live.feed(&Input::Boot);
        for input in &self.inputs {
            live.feed(input);
        }
        Some(live)
    }

    /// The engine of this unit without power, given power.
    pub fn start(&self, reading: usize, mutant: Mutant) -> Live {
        Live::new(self.at_power_on(reading, mutant), self.boot + 1, mutant)
    }

    /// Gives power to a unit that has none.
    pub fn power_on(&self, reading: usize, mutant: Mutant) -> Run {
        let image = self.at_power_on(reading, mutant);
        let mut live = Live::new(image.clone(), self.boot + 1, mutant);
        let events = live.feed(&Input::Boot).unwrap_or_default();
        let events = rearranged(events, &image, true, mutant);
        let (after, broken) = judge(&image, &events);
        let powered = Some(Arc::new(image));
        Run { events, after: Unit::new(after, powered, self.boot + 1, Vec::new()), broken }
    }

    /// What an input does; `None` if it does nothing at all.
    pub fn give(&self, input: &Input, mutant: Mutant) -> Option<Run> {
        let mut live = self.revive(mutant)?;
        let before = {
            let mut chip = live.chip.borrow_mut();
            chip.failures.clear();
            chip.draws
        };
        let events = live.feed(input)?;
        let quiet = [0, DeviceFailure::FrameRefused.code(), DeviceFailure::ExchangeNotAuthentic.code()];
        {
            // A dropped frame leaves everything as it was: it is not part of what the unit is.
            let chip = live.chip.borrow();
            if events.is_empty()
                && chip.draws == before
                && !matches!(input, Input::Start(_))
                && chip.failures.iter().all(|code| quiet.contains(code))
            {
                return None;
            }
        }
        let events = rearranged(events, &self.image, false, mutant);
        let (image, broken) = judge(&self.image, &events);
        let mut inputs = self.inputs.clone();
        inputs.push(input.clone());
        Some(Run { events, after: Unit::new(image, self.powered.clone(), self.boot, inputs), broken })
    }
}

impl Run {
    /// Every place where power can fail in this run: before which event, and how far that one came.
    pub fn cuts(&self) -> Vec<Cut> {
        let mut cuts = Vec::new();
        for (at, event) in self.events.iter().enumerate() {
            if at > 0 {
                cuts.push(Cut { at, torn: None });
            }
            if let Event::Op(op) = event {
                cuts.extend(op.tears().iter().map(|torn| Cut { at, torn: Some(*torn) }));
            }
        }
        cuts
    }

    /// The frames that left before a cut, and the unit after it.
    pub fn cut(&self, before: &Image, boot: u32, cut: Cut) -> (Vec<Frame>, Unit) {
        let mut image = before.clone();
        let mut sent = Vec::new();
        for event in &self.events[..cut.at] {
            match event {
                Event::Op(op) => image.apply(op),
                Event::Sent(frame) => sent.push(frame.clone()),
            }
        }
        if let (Some(torn), Event::Op(op)) = (cut.torn, &self.events[cut.at]) {
            image.tear(op, torn);
        }
        (sent, Unit::off(image, boot))
    }

    /// All frames that left.
    pub fn sent(&self) -> impl Iterator<Item = &Frame> {
        self.events.iter().filter_map(|event| match event {
            Event::Sent(frame) => Some(frame),
            Event::Op(_) => None,
        })
    }
}

/// Where power fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cut {
    /// Before this event of the run …
    pub at: usize,
    /// … or inside of it.
    pub torn: Option<crate::nor::Torn>,
}

/// What the mutants among the flash adaptors make of a run.
fn rearranged(events: Vec<Event>, before: &Image, boot: bool, mutant: Mutant) -> Vec<Event> {
    let mut image = before.clone();
    let mut out = Vec::new();
    let mut held = None;
    for event in events {
        if let Event::Op(op) = &event {
            let mark = match op {
                Op::Write { sector, at, bytes } if other_area(*sector).is_some() => {
                    image.mark_at(*sector, *at, bytes.len())
                }
                _ => None,
            };
            let commit = mark == Some(MarkName::Commit);
            if mutant == Mutant::LostConfirm && mark == Some(MarkName::Confirm) {
                continue;
            }
            let mut there = [0; MARK_LEN];
            if let (true, Op::Write { sector, at, bytes }) = (commit, op) {
                image.read(*sector, *at, &mut there);
                if mutant == Mutant::NoReadRepair && boot && there[..] == bytes[..] {
                    continue;
                }
            }
            image.apply(op);
            if mutant == Mutant::ConfirmBeforeCommit && commit && !boot {
                held = Some(event);
                continue;
            }
        }
        let sent = matches!(event, Event::Sent(_));
        out.push(event);
        if sent {
            out.extend(held.take());
        }
    }
    out.extend(held);
    out
}

/// Does the operations, and looks at every step whether it was allowed.
fn judge(before: &Image, events: &[Event]) -> (Image, Vec<&'static str>) {
    let mut image = before.clone();
    let mut broken = Vec::new();
    let in_every_reading = |image: &Image, holds: &dyn Fn(&Image) -> bool| {
        (0..image.readings()).all(|reading| holds(&image.as_read(reading)))
    };
    for event in events {
        match event {
            Event::Op(op @ Op::Erase { sectors }) => {
                for area in [AREA_A, AREA_B] {
                    if !sectors.contains(&area) {
                        continue;
                    }
                    let other = if area == AREA_A { AREA_B } else { AREA_A };
                    let safe = in_every_reading(&image, &|image| {
                        record_in(image, other, store_key(image).as_ref()).is_some_and(|(seen, state)| {
                            matches!(state, RecordState::Pending | RecordState::Confirmed) && seen.confirmed
                        })
                    });
                    if !safe || sectors.contains(&other) {
                        broken.push(crate::I4);
                    }
                    let product_key = RecordView::open_product_key(image.cells(area)).is_ok();
                    if product_key && !records(&image).iter().any(|r| r.agent.is_some() && r.confirmed) {
                        broken.push(crate::I7);
                    }
                }
                image.apply(op);
            }
            Event::Op(op @ Op::Write { sector, at: 0, bytes }) if other_area(*sector).is_some() => {
                let again = image.cells(*sector).starts_with(bytes);
                if let Some((head, _)) = bytes.split_first_chunk::<HEADER_LEN>().filter(|_| !again) {
                    let generation = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
                    if records(&image).iter().any(|record| record.generation >= generation) {
                        broken.push(crate::I8);
                    }
                }
                image.apply(op);
            }
            Event::Op(op) => image.apply(op),
            Event::Sent(frame) => {
                if let Some((purpose, generation)) = frame.confirms() {
                    let committed = in_every_reading(&image, &|image| {
                        // A RETIRE that wavers brings a refused record back: its COMMIT is good, and the agent refuses
                        // it again.
                        let state =
                            |state| !matches!(state, RecordState::Uncommitted | RecordState::CommitTorn);
                        records_in(image, state).iter().any(|record| match purpose {
                            Purpose::CloudKeyUpdate => {
                                record.cloud.as_ref().is_some_and(|(g, _)| *g == generation)
                            }
                            _ => record.agent.as_ref().is_some_and(|(g, _)| *g == generation),
                        })
                    });
                    if !committed {
                        broken.push(crate::I5);
                    }
                }
            }
        }
    }
    (image, broken)
}
