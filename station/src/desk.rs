//! QA's desk: what the window knows of one unit, and what QA does to it.
//!
//! One thread reads the records and asks the agent, who may wait for a cloud; the window sends commands and reads a snapshot that is
//! swapped as a whole, as it does with the line. What needs the board goes to the line as [`line::Command::StartFor`]: the line's
//! own batch and work are never touched.
//!
//! Invariants:
//! - The order stands in the records before the board is started, and stays open until the records say that it is done.
//! - No key and no sealed content is in a snapshot: generations and ids only.

use crate::agent::{EmbeddedAgent, Standing};
use crate::compare;
use crate::failure::{Failure, FailureCode};
use crate::label::LabelCode;
use crate::line::{self, Event, Work};
use crate::model::*;
use crate::office::{self, Office};
use crate::people::{People, Right};
use crate::records::{
    Alarm, AlarmOf, NewReprovision, NewRma, Records, RecordsError, Reprovision, ReprovisionKind, UnitBook,
    UnitQuery, UnitRecord, UnitsFound, Why, serial,
};
use crate::station::{now_ms, records_failure};
use crate::traveler::{self, Form, Group};
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often alarms and the open unit are read again when nothing happens: another program may have changed them.
const REFRESH: Duration = Duration::from_secs(2);
/// Hits of a search on one page.
pub const PAGE: u32 = 50;

/// What QA does to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// New keys, asked for under those it has.
    NewKeys,
    /// Lost keys: they die, the chip is erased, it enrols again.
    NewStart,
    /// New cloud key and anchors of this region.
    MoveRegion(u32),
    /// Set aside.
    Quarantine,
    /// Back out of quarantine.
    Release,
    /// Out for ever.
    Scrap,
    /// Takes its open order back.
    Withdraw,
    /// Proves its keys once more.
    Retest,
    /// Asks it what it says of itself, and compares that with its record.
    Compare,
    /// It came back from a customer.
    OpenRma,
    /// What was found of it.
    CloseRma,
}

impl Act {
    /// The right that it needs.
    pub const fn right(self) -> Right {
        match self {
            Self::NewKeys | Self::NewStart | Self::MoveRegion(_) | Self::Withdraw => Right::Reprovision,
            Self::Quarantine => Right::Quarantine,
            Self::Release => Right::Release,
            Self::Scrap => Right::Scrap,
            Self::Retest | Self::Compare => Right::Retest,
            Self::OpenRma | Self::CloseRma => Right::Rma,
        }
    }

    /// What the audit log calls it; command line and window alike.
    pub const fn audit(self) -> &'static str {
        match self {
            Self::NewKeys | Self::NewStart | Self::MoveRegion(_) => "unit-reprovision",
            Self::Withdraw => "unit-reprovision-withdraw",
            Self::Quarantine => "unit-quarantine",
            Self::Release => "unit-release",
            Self::Scrap => "unit-scrap",
            Self::Retest => "unit-retest",
            Self::Compare => "unit-compared",
            Self::OpenRma => "unit-rma-opened",
            Self::CloseRma => "unit-rma-closed",
        }
    }

    /// The order of QA that it opens; `None`: it is done without the board.
    pub const fn kind(self) -> Option<(ReprovisionKind, u32)> {
        match self {
            Self::NewKeys => Some((ReprovisionKind::NewKeys, 0)),
            Self::NewStart => Some((ReprovisionKind::NewStart, 0)),
            Self::MoveRegion(region) => Some((ReprovisionKind::MoveRegion, region)),
            _ => None,
        }
    }

    /// The board must lie in a fixture.
    pub const fn needs_board(self) -> bool {
        self.kind().is_some() || matches!(self, Self::Retest | Self::Compare)
    }

    /// A person says why.
    pub const fn needs_reason(self) -> bool {
        !matches!(self, Self::Compare)
    }

    /// More than the reason may be said.
    pub const fn takes_note(self) -> bool {
        matches!(
            self,
            Self::OpenRma | Self::CloseRma | Self::Quarantine | Self::Release | Self::Scrap | Self::Retest
        )
    }

    /// The act that carries an open order out.
    pub const fn of(order: &Reprovision) -> Self {
        match order.kind {
            ReprovisionKind::NewKeys => Self::NewKeys,
            ReprovisionKind::NewStart => Self::NewStart,
            ReprovisionKind::MoveRegion => Self::MoveRegion(order.region),
        }
    }
}

/// One decision about one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The unit.
    pub unit: UnitId,
    /// What is to be done.
    pub act: Act,
    /// Why, in the operator's words.
    pub reason: String,
    /// Who authorises it.
    pub operator: String,
    /// Fixture (index) in which the board lies; only for what needs it.
    pub fixture: Option<usize>,
    /// Number of the RMA that is opened.
    pub number: String,
    /// What else is to be known of an RMA.
    pub note: String,
}

/// A search, as the field stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// Counts up with every search; an answer to an older one is not shown.
    pub number: u64,
    /// What was typed.
    pub text: String,
    /// Only in these states; empty: in any.
    pub states: Vec<UnitState>,
    /// Only with an open RMA.
    pub rma_open: bool,
    /// Hits before the page.
    pub from: u32,
}

impl Search {
    /// What the records are asked.
    pub fn query(&self) -> UnitQuery {
        let mut query = UnitQuery::parse(&self.text);
        query.states.extend(&self.states);
        query.rma_open |= self.rma_open;
        query
    }
}

/// Commands that go down to the desk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Open the unit with this hardware id or serial, as typed or scanned.
    Find(String),
    /// Search all units; the answer stands in [`Snapshot::search`].
    Search(Search),
    /// Save the traveler of the open unit as a file of the station's.
    SaveTraveler {
        /// Which lines; empty: all.
        groups: Vec<Group>,
        /// As what.
        form: Form,
    },
    /// Put the unit away.
    Leave,
    /// Carry out a decision.
    Decide(Decision),
    /// Orders and batches.
    Office(office::Command),
    /// The same for a form that waits for what becomes of it; the number comes back in the answer.
    Ask(u64, office::Command),
    /// Somebody looked at an alarm.
    SeeAlarm {
        /// Its row.
        id: i64,
        /// Who.
        operator: String,
    },
}

/// Everything that is known of a unit.
#[derive(Clone, Debug)]
pub struct UnitFile {
    /// What the records have of it.
    pub record: UnitRecord,
    /// Its keys as the agent has them.
    pub keys: Standing,
}

impl std::ops::Deref for UnitFile {
    type Target = UnitRecord;
    fn deref(&self) -> &UnitRecord {
        &self.record
    }
}

impl std::ops::DerefMut for UnitFile {
    fn deref_mut(&mut self) -> &mut UnitRecord {
        &mut self.record
    }
}

/// An alarm, and the serial of the unit it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmView {
    /// The alarm.
    pub alarm: Alarm,
    /// Serial of its unit.
    pub serial: Option<String>,
}

/// The newest word to the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// Nothing to say.
    #[default]
    Nothing,
    /// At work; what.
    Working(String),
    /// It is done; what.
    Done(String),
    /// It was refused or failed.
    Failed(Failure),
}

/// Work on a board that the desk started and that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The unit.
    pub unit: UnitId,
    /// Its serial.
    pub serial: String,
    /// Fixture (index).
    pub fixture: usize,
    /// What for.
    pub act: Act,
    /// The order that it carries out; 0: it needs none.
    pub order: i64,
    /// Who started it.
    pub operator: String,
}

/// The answer to a search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// What was asked.
    pub search: Search,
    /// What was found.
    pub found: UnitsFound,
}

/// Everything the window shows of the desk, replaced as a whole.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The open unit.
    pub file: Option<Arc<UnitFile>>,
    /// The answer to the newest search.
    pub search: Option<Arc<Answer>>,
    /// The newest word.
    pub told: Told,
    /// Alarms that nobody has looked at, newest first.
    pub alarms: Vec<AlarmView>,
    /// Regions whose keys are on this station, ascending.
    pub regions: Vec<u32>,
    /// What runs for QA.
    pub job: Option<Job>,
    /// Orders and batches.
    pub office: office::Snapshot,
}

/// What the window holds of the desk. Nothing here blocks.
pub trait DeskHandle: Send {
    /// Sends a command; it is carried out by the desk's own thread.
    fn send(&self, command: Command);
    /// The newest snapshot.
    fn snapshot(&self) -> Arc<Snapshot>;
    /// Calls `wake` after every change of the snapshot, from another thread.
    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>);
}

/// The line and the desk, as the window holds them.
pub type Handles = (Box<dyn line::LineHandle>, Box<dyn DeskHandle>);

/// The unit that a person or a scanner names: by hardware id, by serial, or by the square code on its label.
///
/// # Errors
/// Those of the records.
pub fn find(records: &dyn Records, name: &str) -> Result<Option<Unit>, RecordsError> {
    let code = name.parse::<LabelCode>().ok();
    let name = code.as_ref().map_or(name.trim(), LabelCode::serial);
    if let Ok(id) = name.parse::<UnitId>()
        && let Some(unit) = records.unit(id)?
    {
        return Ok(Some(unit));
    }
    if let Some(unit) = records.unit_by_serial(name)? {
        return Ok(Some(unit));
    }
    // Keyboards and scanners that change the case. Most serials are capitals; one with a batch's name in it has that name's letters.
    let capitals = name.to_uppercase();
    if capitals != name
        && let Some(unit) = records.unit_by_serial(&capitals)?
    {
        return Ok(Some(unit));
    }
    let mut found = None;
    for batch in records.list_batches()? {
        let pattern = match batch.terms.serial_pattern.as_str() {
            "" => serial::Pattern::usual(&batch.name),
            own => match serial::Pattern::read(own) {
                Ok(pattern) => pattern,
                Err(_) => continue,
            },
        };
        let Some(written) = pattern.recased(name).filter(|w| w != name && *w != capitals) else { continue };
        if let Some(unit) = records.unit_by_serial(&written)? {
            if found.as_ref().is_some_and(|other: &Unit| other.id != unit.id) {
                // It can be either: nobody guesses.
                return Ok(None);
            }
            found = Some(unit);
        }
    }
    Ok(found)
}

fn not_found(name: &str) -> Failure {
    let name = name.trim();
    let (sentence, remedy) = match (serial::parse(name), name.parse::<UnitId>()) {
        (Err(error @ serial::SerialError::Check { .. }), _) => (error.to_string(), "Read the label again"),
        (_, Ok(id)) => (
            format!("No unit with the hardware id {id} was ever here"),
            "Run it through its batch on the line, or look it up at the station that made it",
        ),
        _ => (
            format!("No unit has the hardware id or serial {name:?}"),
            "Scan the label again; a hardware id has 24 hex digits, a serial looks like B1-00042K",
        ),
    };
    Failure { code: FailureCode::InvalidInput, sentence, remedy: remedy.into() }
}

enum Message {
    Command(Command),
    Finished { qa: Option<UnitId>, attempt: AttemptId, unit: Option<UnitId>, failure: Option<Failure> },
    OnChange(Box<dyn Fn() + Send + Sync>),
    Stop,
}

/// The desk of a station; dropping it waits for the act in work.
pub struct Desk {
    messages: Sender<Message>,
    /// Number of the newest search: older ones that still wait are passed over.
    newest: Arc<AtomicU64>,
    snapshot: Arc<Mutex<Arc<Snapshot>>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

impl Desk {
    /// A desk over these records and this agent; boards are started through `start` in the line's `fixtures` (names, in the line's
    /// order), and `events` are the line's.
    ///
    /// # Errors
    /// `StationFault` if threads can't be started.
    pub fn new(
        records: Arc<dyn UnitBook>,
        agent: Arc<EmbeddedAgent>,
        fixtures: Vec<String>,
        start: impl Fn(line::Command) + Send + 'static,
        events: Receiver<Event>,
    ) -> Result<Self, Failure> {
        Self::with_office(records, agent, fixtures, start, events, None)
    }

    /// As [`Desk::new`], with orders and batches to enter and to decide about.
    ///
    /// # Errors
    /// `StationFault` if threads can't be started.
    pub fn with_office(
        records: Arc<dyn UnitBook>,
        agent: Arc<EmbeddedAgent>,
        fixtures: Vec<String>,
        start: impl Fn(line::Command) + Send + 'static,
        events: Receiver<Event>,
        office: Option<Office>,
    ) -> Result<Self, Failure> {
        Self::behind(records, agent, fixtures, start, events, office, None)
    }

    /// The same with a gate in front: only who may do something gets it done, and the audit log says so.
    ///
    /// # Errors
    /// As [`Desk::new`].
    pub fn behind(
        records: Arc<dyn UnitBook>,
        agent: Arc<EmbeddedAgent>,
        fixtures: Vec<String>,
        start: impl Fn(line::Command) + Send + 'static,
        events: Receiver<Event>,
        office: Option<Office>,
        people: Option<Arc<People>>,
    ) -> Result<Self, Failure> {
        Self::with_folder(records, agent, fixtures, start, events, office, people, None)
    }

    /// The same with a folder for travelers that are saved.
    ///
    /// # Errors
    /// As [`Desk::new`].
    #[allow(clippy::too_many_arguments, reason = "the parts of a station; each has its own type")]
    pub fn with_folder(
        records: Arc<dyn UnitBook>,
        agent: Arc<EmbeddedAgent>,
        fixtures: Vec<String>,
        start: impl Fn(line::Command) + Send + 'static,
        events: Receiver<Event>,
        office: Option<Office>,
        people: Option<Arc<People>>,
        folder: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let no_thread =
            |e: std::io::Error| Failure::new(FailureCode::StationFault, format!("no thread: {e}"));
        let (messages, inbox) = mpsc::channel();
        let told = messages.clone();
        // Ends with the line, which closes the channel.
        std::thread::Builder::new()
            .name("desk ear".into())
            .spawn(move || {
                for event in events {
                    if let Event::Finished { qa, attempt, unit, failure, .. } = event
                        && told.send(Message::Finished { qa, attempt, unit, failure }).is_err()
                    {
                        return;
                    }
                }
            })
            .map_err(no_thread)?;
        let first = Snapshot { regions: agent.regions(), ..Snapshot::default() };
        let snapshot = Arc::new(Mutex::new(Arc::new(first.clone())));
        let newest = Arc::new(AtomicU64::new(0));
        let office = office.map(|office| office.with_agent(agent.clone()));
        let mut clerk = Clerk {
            records,
            agent,
            people,
            fixtures,
            start: Box::new(start),
            office,
            folder,
            newest: newest.clone(),
            view: first,
            shown: snapshot.clone(),
            wakers: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("desk".into())
            .spawn(move || clerk.run(&inbox))
            .map_err(no_thread)?;
        Ok(Self { messages, newest, snapshot, thread: Some(thread) })
    }
}

impl DeskHandle for Desk {
    fn send(&self, command: Command) {
        if let Command::Search(search) = &command {
            self.newest.fetch_max(search.number, Ordering::Relaxed);
        }
        drop(self.messages.send(Message::Command(command)));
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        drop(self.messages.send(Message::OnChange(wake)));
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        drop(self.messages.send(Message::Stop));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The desk's thread.
struct Clerk {
    records: Arc<dyn UnitBook>,
    agent: Arc<EmbeddedAgent>,
    people: Option<Arc<People>>,
    fixtures: Vec<String>,
    start: Box<dyn Fn(line::Command) + Send>,
    office: Option<Office>,
    folder: Option<PathBuf>,
    newest: Arc<AtomicU64>,
    view: Snapshot,
    shown: Arc<Mutex<Arc<Snapshot>>>,
    wakers: Vec<Box<dyn Fn() + Send + Sync>>,
}

impl Clerk {
    fn run(&mut self, inbox: &Receiver<Message>) {
        self.look_around();
        self.publish();
        let mut looked = Instant::now();
        loop {
            match inbox.recv_timeout(REFRESH.saturating_sub(looked.elapsed())) {
                Ok(Message::Command(command)) => {
                    self.command(command);
                    self.publish();
                }
                Ok(Message::Finished { qa, attempt, unit, failure }) => {
                    self.finished(qa, attempt, unit, failure);
                    self.look_around();
                    self.publish();
                }
                Ok(Message::OnChange(wake)) => self.wakers.push(wake),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if looked.elapsed() >= REFRESH {
                if self.look_around() {
                    self.publish();
                }
                looked = Instant::now();
            }
        }
    }

    fn publish(&self) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(self.view.clone());
        for wake in &self.wakers {
            wake();
        }
    }

    fn tell(&mut self, told: Told) {
        self.view.told = told;
        self.publish();
    }

    /// Alarms, and the open unit if it has more history than is shown; true if anything changed.
    fn look_around(&mut self) -> bool {
        let office = match self.office.as_ref().map(|o| o.look(&mut self.view.office)) {
            None => false,
            Some(Ok(changed)) => changed,
            Some(Err(failure)) => {
                let told = Told::Failed(failure);
                let new = self.view.told != told;
                self.view.told = told;
                new
            }
        };
        // A region may have been made meanwhile.
        let regions = self.agent.regions();
        let more = regions != self.view.regions;
        self.view.regions = regions;
        self.look_at_units() || office || more
    }

    fn look_at_units(&mut self) -> bool {
        let read = || -> Result<_, RecordsError> {
            let mut alarms = Vec::new();
            for alarm in self.records.list_alarms(false)? {
                let serial = match &alarm.of {
                    AlarmOf::Unit(unit) => self.records.unit(*unit)?.map(|u| u.serial),
                    AlarmOf::ProductOrder(_) => None,
                };
                alarms.push(AlarmView { alarm, serial });
            }
            let mut again = None;
            if let Some(file) = &self.view.file {
                let newest = self.records.unit_events(file.unit.id)?.last().map(|e| e.seq);
                let unit = self.records.unit(file.unit.id)?;
                let seen = unit.map(|u| (u.state, u.attempts, u.interrupted));
                let shown = (file.unit.state, file.unit.attempts, file.unit.interrupted);
                if newest != file.events.first().map(|e| e.seq) || seen.is_some_and(|s| s != shown) {
                    again = Some(file.unit.id);
                }
            }
            Ok((alarms, again))
        };
        match read() {
            Ok((alarms, again)) => {
                let changed = alarms != self.view.alarms || again.is_some();
                self.view.alarms = alarms;
                if let Some(unit) = again {
                    self.open(unit);
                }
                changed
            }
            Err(error) => {
                let told = Told::Failed(records_failure(error));
                let new = self.view.told != told;
                self.view.told = told;
                new
            }
        }
    }

    fn read(&self, unit: UnitId) -> Result<Option<UnitFile>, Failure> {
        let Some(record) = self.records.unit_record(unit).map_err(records_failure)? else { return Ok(None) };
        let keys = self.agent.standing(unit)?;
        Ok(Some(UnitFile { record, keys }))
    }

    /// Answers a search, unless a newer one waits already.
    fn search(&mut self, search: Search) {
        if search.number < self.newest.load(Ordering::Relaxed) {
            return;
        }
        if let Some(Err(failure)) =
            self.people.as_ref().map(|p| p.demand(Right::SeeUnits, "units-searched", search.text.trim()))
        {
            self.view.search = None;
            self.view.told = Told::Failed(failure);
            return;
        }
        match self.records.find_units(&search.query(), search.from, PAGE) {
            Ok(found) => self.view.search = Some(Arc::new(Answer { search, found })),
            Err(error) => self.view.told = Told::Failed(records_failure(error)),
        }
    }

    /// Writes the traveler of the open unit into the station's folder.
    fn save_traveler(&self, groups: &[Group], form: Form) -> Result<Told, Failure> {
        let no_unit = || Failure::new(FailureCode::InvalidInput, "no unit is open");
        let file = self.view.file.as_ref().ok_or_else(no_unit)?;
        let folder = self
            .folder
            .as_ref()
            .ok_or_else(|| Failure::new(FailureCode::ExportIo, "this station has no folder for travelers"))?;
        // As it stands now, not as it was shown.
        let record = self.records.unit_record(file.unit.id).map_err(records_failure)?.ok_or_else(no_unit)?;
        let path = folder.join(traveler::file_name(&record, now_ms(), form));
        let detail = json!({ "file": path.display().to_string() });
        self.gate(Right::SeeUnits, ("traveler-saved", &record.unit.serial), detail, || {
            traveler::save(&record, groups, form, &path)
        })?;
        Ok(Told::Done(format!("The traveler of {} is saved: {}", record.unit.serial, path.display())))
    }

    /// Reads the unit into the snapshot; what is not to be read is told and leaves what was there.
    fn open(&mut self, unit: UnitId) {
        match self.read(unit) {
            Ok(file) => self.view.file = file.map(Arc::new),
            Err(failure) => self.view.told = Told::Failed(failure),
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Find(name) => {
                if name.trim().is_empty() {
                    return;
                }
                if let Some(Err(failure)) =
                    self.people.as_ref().map(|p| p.demand(Right::SeeUnits, "unit-looked-at", name.trim()))
                {
                    self.view.file = None;
                    self.view.told = Told::Failed(failure);
                    return;
                }
                match find(&*self.records, &name).map_err(records_failure) {
                    Ok(Some(unit)) => {
                        self.view.told = Told::Nothing;
                        self.open(unit.id);
                    }
                    Ok(None) => {
                        // The unit before must not be taken for the one that was just scanned.
                        self.view.file = None;
                        self.view.told = Told::Failed(not_found(&name));
                    }
                    Err(failure) => self.view.told = Told::Failed(failure),
                }
            }
            Command::Search(search) => self.search(search),
            Command::SaveTraveler { groups, form } => {
                self.view.told = self.save_traveler(&groups, form).unwrap_or_else(Told::Failed);
            }
            Command::Leave => {
                self.view.file = None;
                self.view.told = Told::Nothing;
            }
            Command::Decide(decision) => {
                let told = match self.decide(&decision) {
                    Ok(words) => words,
                    Err(failure) => Told::Failed(failure),
                };
                self.view.told = told;
                self.look_around();
                if self.view.file.as_ref().is_some_and(|f| f.unit.id == decision.unit) {
                    self.open(decision.unit);
                }
            }
            Command::Office(command) => drop(self.ask(command)),
            Command::Ask(ticket, command) => {
                let refused = self.ask(command);
                self.view.office.answer = Some(office::Answer { ticket, refused });
            }
            Command::SeeAlarm { id, operator } => {
                let (records, operator) = (self.records.clone(), self.operator(&operator));
                let seen = self.gate(Right::SeeUnits, ("alarm-seen", &id.to_string()), json!({}), || {
                    records.see_alarm(id, &operator).map_err(records_failure)
                });
                if let Err(failure) = seen {
                    self.view.told = Told::Failed(failure);
                }
                self.look_around();
            }
        }
    }

    /// Orders and batches, told; why it was refused, if it was.
    fn ask(&mut self, command: office::Command) -> Option<Failure> {
        let refused = match self.office(command) {
            Ok(Told::Nothing) => None,
            Ok(told) => {
                self.view.told = told;
                None
            }
            Err(failure) => {
                self.view.told = Told::Failed(failure.clone());
                Some(failure)
            }
        };
        self.look_around();
        refused
    }

    /// Orders and batches, through the gate.
    fn office(&mut self, mut command: office::Command) -> Result<Told, Failure> {
        let people = self.people.clone();
        let Some(office) = &mut self.office else { return Ok(Told::Nothing) };
        let Some(people) = people else { return office.carry_out(command, &mut self.view.office) };
        if let Some(operator) = command.operator_mut() {
            *operator = people.operator();
        }
        let need = office.need(&command)?;
        let view = &mut self.view.office;
        match need {
            office::Need::Nothing => office.carry_out(command, view),
            office::Need::Look(right) => {
                people.demand(right, "looked", "")?;
                office.carry_out(command, view)
            }
            office::Need::Act(right, action, subject, detail) => {
                people.act(right, (action, &subject), detail, || office.carry_out(command, view))
            }
        }
    }

    /// The name for the records: behind a gate it is never what the window says.
    fn operator(&self, told: &str) -> String {
        self.people.as_ref().map_or_else(|| told.to_owned(), |people| people.operator())
    }

    fn gate<T>(
        &self,
        right: Right,
        what: (&str, &str),
        detail: serde_json::Value,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        match &self.people {
            Some(people) => people.act(right, what, detail, work),
            None => work(),
        }
    }

    fn decide(&mut self, decision: &Decision) -> Result<Told, Failure> {
        let Decision { unit, act, reason, operator, fixture, number, note } = decision;
        let operator = &self.operator(operator);
        let row = self.records.unit(*unit).map_err(records_failure)?;
        let Some(row) = row else { return Err(not_found(&unit.to_string())) };
        let serial = &row.serial;
        let agent = self.agent.clone();
        if matches!(act, Act::OpenRma | Act::CloseRma) {
            let records = self.records.clone();
            let detail = json!({ "number": number, "reason": reason });
            let rma = self.gate(act.right(), (act.audit(), serial), detail, || {
                let done = if *act == Act::OpenRma {
                    let (number, reason, note) = (number.clone(), reason.clone(), note.clone());
                    records.open_rma(*unit, NewRma { number, reason, note, operator: operator.clone() })
                } else {
                    records.close_rma(*unit, reason, note, operator)
                };
                done.map_err(records_failure)
            })?;
            let words = if *act == Act::OpenRma { "came back under" } else { "is closed under" };
            return Ok(Told::Done(format!("{serial} {words} {}", rma.number)));
        }
        if act.needs_board() && act.kind().is_none() {
            return self.put_to_test(decision, &row, operator);
        }
        let Some((kind, region)) = act.kind() else {
            let (working, done) = match act {
                Act::Quarantine => ("Setting it aside", "is set aside; its cloud lets it in no more"),
                Act::Release => ("Letting it back", "is out of quarantine; its cloud lets it in again"),
                Act::Scrap => ("Scrapping it", "is taken out for ever; its keys are dead"),
                _ => ("Taking the order back", "has no open order; what the order did stays done"),
            };
            self.tell(Told::Working(format!("{working}: {serial}…")));
            let why = Why { reason: reason.clone(), note: note.clone() };
            self.gate(act.right(), (act.audit(), serial), json!({ "reason": reason }), || match act {
                Act::Quarantine => agent.quarantine(*unit, why, operator),
                Act::Release => agent.release(*unit, why, operator),
                Act::Scrap => agent.scrap(*unit, why, operator),
                _ => agent.withdraw_reprovision(*unit, reason, operator),
            })?;
            return Ok(Told::Done(format!("{serial} {done}")));
        };
        let (fixture, name) = self.free_fixture(*fixture)?;
        self.tell(Told::Working(format!("Ordering for {serial}…")));
        let new = NewReprovision { kind, reason: reason.clone(), operator: operator.clone(), region };
        let detail = json!({ "kind": kind, "region": region, "reason": reason, "fixture": name });
        let order =
            self.gate(act.right(), (act.audit(), serial), detail, || agent.reprovision(*unit, new))?;
        let batch = self.records.batch(row.batch).map_err(records_failure)?.name;
        self.view.job = Some(Job {
            unit: *unit,
            serial: serial.clone(),
            fixture,
            act: *act,
            order: order.id,
            operator: operator.clone(),
        });
        let work = Work::reprovision(*unit, kind);
        (self.start)(line::Command::StartFor { fixture, batch, work });
        Ok(Told::Working(format!("The order stands; {serial} is in work in fixture {name}")))
    }

    /// The fixture that was named, if nothing runs for QA.
    fn free_fixture(&self, fixture: Option<usize>) -> Result<(usize, String), Failure> {
        let wanted = |text: &str| Failure {
            code: FailureCode::InvalidInput,
            sentence: text.into(),
            remedy: "Say in which fixture the board lies".into(),
        };
        let fixture = fixture.ok_or_else(|| wanted("No fixture was named"))?;
        let name =
            self.fixtures.get(fixture).ok_or_else(|| wanted("The station has no such fixture"))?.clone();
        if let Some(job) = &self.view.job {
            return Err(Failure {
                code: FailureCode::InvalidInput,
                sentence: format!("{} is still in work for QA", job.serial),
                remedy: "Wait until it is done, or cancel it".into(),
            });
        }
        Ok((fixture, name))
    }

    /// A retest, or a comparison with the record: nothing is ordered that would have to be withdrawn.
    fn put_to_test(&mut self, decision: &Decision, row: &Unit, operator: &str) -> Result<Told, Failure> {
        let (unit, act, serial) = (decision.unit, decision.act, &row.serial);
        let (fixture, name) = self.free_fixture(decision.fixture)?;
        let records = self.records.clone();
        let detail = json!({ "reason": decision.reason, "fixture": name });
        self.gate(act.right(), (act.audit(), serial), detail, || match act {
            Act::Retest => {
                let why = Why { reason: decision.reason.clone(), note: decision.note.clone() };
                records.order_retest(unit, &why, operator).map_err(records_failure)
            }
            _ => Ok(()),
        })?;
        let batch = self.records.batch(row.batch).map_err(records_failure)?.name;
        let work = if act == Act::Retest { Work::Retest(unit) } else { Work::Compare(unit) };
        self.view.job =
            Some(Job { unit, serial: serial.clone(), fixture, act, order: 0, operator: operator.to_owned() });
        (self.start)(line::Command::StartFor { fixture, batch, work });
        let what = if act == Act::Retest { "is retested" } else { "is asked" };
        Ok(Told::Working(format!("{serial} {what} in fixture {name}")))
    }

    /// A retest or a comparison ended.
    fn tested(&self, job: &Job, failure: Option<Failure>) -> Told {
        match (failure, job.act) {
            (Some(failure), Act::Retest) => Told::Failed(Failure {
                sentence: format!("{} did not pass its retest: {}", job.serial, failure.sentence),
                ..failure
            }),
            (Some(failure), _) => Told::Failed(Failure {
                sentence: format!("{} was not compared: {}", job.serial, failure.sentence),
                ..failure
            }),
            (None, act) => match compare::settle(&*self.records, job.unit, &job.operator) {
                Err(failure) => Told::Failed(failure),
                Ok(comparison) => match comparison.differing().count() {
                    0 if act == Act::Retest => {
                        Told::Done(format!("{} proved its keys again; nothing of it was changed", job.serial))
                    }
                    0 => Told::Done(format!("{} reports what its record says", job.serial)),
                    n => Told::Failed(Failure::new(
                        FailureCode::UnitDiffers,
                        format!("{}, {n} fields", job.serial),
                    )),
                },
            },
        }
    }

    /// A unit ended on the line.
    fn finished(
        &mut self,
        qa: Option<UnitId>,
        attempt: AttemptId,
        unit: Option<UnitId>,
        failure: Option<Failure>,
    ) {
        let Some(job) = self.view.job.take_if(|job| qa == Some(job.unit)) else {
            if let Some(open) = self.view.file.as_ref().map(|f| f.unit.id)
                && unit == Some(open)
            {
                self.open(open);
            }
            return;
        };
        if job.order == 0 {
            self.view.told = self.tested(&job, failure);
            if self.view.file.as_ref().is_some_and(|f| f.unit.id == job.unit) {
                self.open(job.unit);
            }
            return;
        }
        let orders = self.records.reprovisions(job.unit).map_err(records_failure);
        let order = orders.map(|all| all.into_iter().find(|o| o.id == job.order));
        self.view.told = match (failure, order) {
            (Some(failure), _) if attempt.0 == 0 => Told::Failed(Failure {
                sentence: format!("{} did not start: {}", job.serial, failure.sentence),
                ..failure
            }),
            (Some(failure), _) => Told::Failed(Failure {
                sentence: format!("{} did not pass, its order stays open: {}", job.serial, failure.sentence),
                ..failure
            }),
            (None, Err(failure)) => Told::Failed(failure),
            (None, Ok(Some(order))) if order.done => {
                let (agent, cloud) = order.after.unwrap_or_default();
                Told::Done(format!(
                    "{} passed with agent key {agent} and cloud key {cloud}; {} opens nothing any more",
                    job.serial, order.supersedes
                ))
            }
            // It passed with a record that was staged before the order: the next one carries it out.
            (None, Ok(_)) => {
                let facts = format!("{}: its order is still open; carry it out again", job.serial);
                Told::Failed(Failure::new(FailureCode::UpdateRefused, facts))
            }
        };
        if self.view.file.as_ref().is_some_and(|f| f.unit.id == job.unit) {
            self.open(job.unit);
        }
    }
}
