//! The thread behind the window's lock screen, people and audit log: it reads records and looks at PINs, which takes a while on
//! purpose. The window sends commands and reads a snapshot that is swapped as a whole, as it does with the line and the desk.
//!
//! Invariants:
//! - No PIN and no badge is in a snapshot.
//! - Locking never reaches the line: what runs goes on, only commands wait for a person.
//! - Nobody waits for a look at the histories: it has a thread of its own, and can be stopped.

use super::gate::{Credential, NewPerson, People};
use super::pin::Pin;
use super::session::{Who, left_of_lock_out};
use super::{Right, Role};
use crate::export::ExportSigner;
use crate::export::clerk::{self, ExportHandle};
use crate::failure::{Failure, FailureCode};
use crate::line::{self, LineHandle};
use crate::records::{AuditEntry, AuditFilter, Looked, Person, Verified};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often idleness is looked at.
const TICK: Duration = Duration::from_millis(500);
/// How often a look at the histories shows how far it is.
const SHOW: Duration = Duration::from_millis(100);
/// Rows of the audit log that the window shows at once.
pub const AUDIT_ROWS: u32 = 500;

/// Commands that go down to the office.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Let somebody in.
    Login(Credential),
    /// Lock now.
    Lock,
    /// A new person; the first one is the admin.
    Add(NewPerson),
    /// Another role, with a new PIN where the old one may be too short.
    SetRole {
        /// Whose.
        name: String,
        /// Which.
        role: Role,
        /// The new PIN.
        pin: Option<Pin>,
    },
    /// Another PIN.
    SetPin {
        /// Whose.
        name: String,
        /// The new one.
        pin: Pin,
    },
    /// Another PIN for whoever is logged in.
    SetOwnPin {
        /// The one they have.
        old: Pin,
        /// The new one.
        new: Pin,
    },
    /// Another badge, or none.
    SetBadge {
        /// Whose.
        name: String,
        /// The new one.
        badge: Option<Pin>,
    },
    /// Switch a person off or on.
    SetActive {
        /// Whom.
        name: String,
        /// On.
        active: bool,
    },
    /// End a lock-out.
    Unlock(String),
    /// Read the audit log.
    Audit(AuditFilter),
    /// Look at every row of both histories.
    Verify,
    /// End that look before its end.
    StopVerify,
    /// Write the audit log to a file.
    Export,
}

/// Who may command the station now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// There is no office: a line that only shows.
    #[default]
    None,
    /// Nobody works here by name; everybody may do everything.
    Open,
    /// People work here.
    People {
        /// Who is logged in.
        who: Option<Who>,
        /// Commands wait for somebody.
        locked: bool,
    },
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Somebody works here now.
    Added(String, Role),
    /// Somebody has another role.
    Role(String, Role),
    /// Somebody has a new PIN.
    Pin(String),
    /// Somebody has another badge, or none.
    Badge(String, bool),
    /// Somebody was switched on or off.
    Active(String, bool),
    /// A lock-out ended.
    Unlocked(String),
    /// Both histories are whole: rows of the audit log, events of units.
    Whole(u64, u64),
    /// The audit log is in a file.
    Exported {
        /// Rows.
        rows: usize,
        /// The file.
        file: PathBuf,
    },
}

/// Why something can't be done by who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody is there.
    LogInFirst,
    /// It is for this role and those that may do more.
    For(Role),
}

/// The newest word to whoever asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// Nothing to say.
    #[default]
    Nothing,
    /// A PIN is looked at, or a change is written.
    Working,
    /// It is done; what.
    Done(Done),
    /// It was refused or failed.
    Failed(Failure),
}

/// Everything the window shows of people, replaced as a whole.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Who may command the station.
    pub gate: Gate,
    /// Names that can log in, as the lock screen lists them.
    pub names: Vec<(String, Role)>,
    /// The newest word.
    pub told: Told,
    /// Commands that were carried out or refused: an older word is no answer to whoever sends another.
    pub answered: u64,
    /// Grows with every login; the lock screen starts anew.
    pub logins: u64,
    /// The person who was refused last is locked out until then.
    pub wait_until: Option<Instant>,
    /// Everybody, for an admin.
    pub persons: Vec<Person>,
    /// The audit log, newest first, as it was asked for.
    pub audit: Arc<Vec<AuditEntry>>,
    /// What the last look at the histories found.
    pub verified: Option<Verified>,
    /// How far the look at the histories is, while there is one.
    pub verifying: Option<Looked>,
}

impl Snapshot {
    /// Why this can't be done by who is there now; `None`: it can.
    pub fn refusal(&self, right: Right) -> Option<Refusal> {
        match &self.gate {
            Gate::None | Gate::Open => None,
            Gate::People { who: Some(who), locked: false } if super::allows(who.role, right) => None,
            Gate::People { who: Some(_), locked: false } => Some(Refusal::For(right.least())),
            Gate::People { .. } => Some(Refusal::LogInFirst),
        }
    }

    /// Whether commands wait for somebody to log in.
    pub fn is_locked(&self) -> bool {
        matches!(&self.gate, Gate::People { who, locked } if *locked || who.is_none())
    }

    /// Who is logged in, locked or not.
    pub fn who(&self) -> Option<&Who> {
        match &self.gate {
            Gate::People { who, .. } => who.as_ref(),
            _ => None,
        }
    }
}

/// What the window holds of the office. Nothing here blocks.
pub trait PeopleHandle: Send {
    /// Sends a command; it is carried out by the office's own thread.
    fn send(&self, command: Command);
    /// The newest snapshot.
    fn snapshot(&self) -> Arc<Snapshot>;
    /// Somebody typed or pressed something.
    fn touch(&self);
    /// Whether whoever is there may do this now; a look at memory. What was done is written down.
    ///
    /// # Errors
    /// `LoginNeeded`, `NotAllowed`.
    fn permit(&self, right: Right, action: &'static str) -> Result<(), Failure>;
    /// Does something that is done at once, with its row in the audit log on disk before it, and another if it fails. It waits for the
    /// disk: only for what is rare, and does not take long.
    ///
    /// # Errors
    /// As [`PeopleHandle::permit`], that the audit log can't be written, and those of `work`.
    fn act(
        &self,
        right: Right,
        action: &'static str,
        detail: serde_json::Value,
        work: &mut dyn FnMut() -> Result<(), Failure>,
    ) -> Result<(), Failure>;
    /// Calls `wake` after every change of the snapshot, from another thread.
    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>);
}

enum Message {
    Command(Command),
    Note(&'static str, String, serde_json::Value),
    Changed,
    Looked(Looked),
    Verified(Result<Option<Verified>, Failure>),
    OnChange(Box<dyn Fn() + Send + Sync>),
    Stop,
}

/// What an office needs of its station.
pub struct Tools {
    /// Sends commands to the line: who is logged in becomes its operator.
    pub line: Box<dyn Fn(line::Command) + Send>,
    /// The export key, for the audit log's signature.
    pub signer: Box<dyn Fn() -> Result<ExportSigner, Failure> + Send>,
    /// Where exports go.
    pub folder: PathBuf,
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tools").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The office of a station; dropping it waits for what is in work.
pub struct Office {
    people: Arc<People>,
    messages: Sender<Message>,
    snapshot: Arc<Mutex<Arc<Snapshot>>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Office {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Office").finish_non_exhaustive()
    }
}

impl Office {
    /// An office over these people.
    ///
    /// # Errors
    /// `StationFault` if no thread can be started.
    pub fn new(people: Arc<People>, tools: Tools) -> Result<Self, Failure> {
        let (messages, inbox) = mpsc::channel();
        let snapshot = Arc::new(Mutex::default());
        let mut clerk = Clerk {
            people: people.clone(),
            tools,
            view: Snapshot::default(),
            filter: AuditFilter { limit: AUDIT_ROWS, ..AuditFilter::default() },
            shown: Arc::clone(&snapshot),
            wakers: Vec::new(),
            office: messages.clone(),
            look: None,
        };
        // The first frame shows the lock screen, never a moment of an open station.
        clerk.refresh();
        clerk.publish();
        let thread = std::thread::Builder::new()
            .name("office".into())
            .spawn(move || clerk.run(&inbox))
            .map_err(|e| Failure::new(FailureCode::StationFault, format!("no thread: {e}")))?;
        Ok(Self { people, messages, snapshot, thread: Some(thread) })
    }

    /// The line, with the gate in front of it: commands that whoever is there may not give do not arrive.
    pub fn guard(&self, line: Box<dyn LineHandle>) -> Box<dyn LineHandle> {
        Box::new(Guarded { line, people: self.people.clone(), office: self.messages.clone() })
    }

    /// The clerk that exports, with the gate in front of it; what is handed out bears the name of who is logged in.
    pub fn guard_exports(&self, clerk: Box<dyn ExportHandle>) -> Box<dyn ExportHandle> {
        Box::new(GuardedClerk { clerk, people: self.people.clone(), office: self.messages.clone() })
    }
}

/// The clerk that exports, behind the gate.
struct GuardedClerk {
    clerk: Box<dyn ExportHandle>,
    people: Arc<People>,
    office: Sender<Message>,
}

impl ExportHandle for GuardedClerk {
    fn send(&self, mut command: clerk::Command) {
        use clerk::Command as C;
        if let C::Clear = command {
            return self.clerk.send(command);
        }
        if let Err(failure) = self.people.permit(Some(Right::Export)) {
            let detail = json!({ "right": Right::Export.words(), "code": failure.code.to_string() });
            drop(self.office.send(Message::Note("refused", String::new(), detail)));
            return;
        }
        match &mut command {
            C::Export(order) => {
                // The clerk writes the rows: before the list is written, not before it is asked for.
                order.operator = self.people.operator();
            }
            C::Revoke { operator, .. } => *operator = self.people.operator(),
            C::Preview(_) | C::Exposed(_) | C::Check(_) | C::Clear => {}
        }
        self.clerk.send(command);
    }

    fn cancel(&self) {
        self.clerk.cancel();
    }

    fn snapshot(&self) -> Arc<clerk::Snapshot> {
        self.clerk.snapshot()
    }

    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.clerk.on_change(wake);
    }
}

impl PeopleHandle for Office {
    fn send(&self, command: Command) {
        drop(self.messages.send(Message::Command(command)));
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn touch(&self) {
        self.people.touch();
    }

    fn permit(&self, right: Right, action: &'static str) -> Result<(), Failure> {
        let permitted = self.people.permit(Some(right));
        let note = match &permitted {
            Ok(()) => Message::Note(action, String::new(), json!({})),
            Err(failure) => {
                let detail =
                    json!({ "action": action, "right": right.words(), "code": failure.code.to_string() });
                Message::Note("refused", String::new(), detail)
            }
        };
        drop(self.messages.send(note));
        permitted
    }

    fn act(
        &self,
        right: Right,
        action: &'static str,
        detail: serde_json::Value,
        work: &mut dyn FnMut() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.people.act(right, (action, ""), detail, work)
    }

    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        drop(self.messages.send(Message::OnChange(wake)));
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        drop(self.messages.send(Message::Stop));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A line behind the gate. The look at the gate is a look at memory. What decides about a batch is written down by the line itself,
/// before it is done; what is told to the line and can be taken back at once has its row beside the act, written by the office.
struct Guarded {
    line: Box<dyn LineHandle>,
    people: Arc<People>,
    office: Sender<Message>,
}

impl LineHandle for Guarded {
    fn send(&self, mut command: line::Command) {
        use line::Command as C;
        if let C::ApproveSample { operator, .. } | C::StopBatch { operator, .. } = &mut command {
            *operator = self.people.operator();
        }
        let right = match &command {
            // Closing the window is no command to the station: it waits for what runs, and no unit is lost.
            C::Shutdown | C::AutoStart(false) => None,
            C::StartFor { .. } | C::SetWork(_) => Some(Right::Reprovision),
            C::SetOperator(_) if !self.people.is_open() => return,
            C::ApproveSample { .. } => Some(Right::ApproveGate),
            C::StopBatch { .. } => Some(Right::PauseBatch),
            C::SelectBatch(_)
            | C::SetOperator(_)
            | C::Start(_)
            | C::StartAll
            | C::Cancel(_)
            | C::Scan(_)
            | C::PrintAgain
            | C::CheckAgain
            | C::AutoStart(true) => Some(Right::RunLine),
        };
        if let Some(right) = right
            && let Err(failure) = self.people.permit(Some(right))
        {
            let code = json!({ "right": right.words(), "code": failure.code.to_string() });
            drop(self.office.send(Message::Note("refused", String::new(), code)));
            return;
        }
        // A unit that is started has a record with the person in it; what else the line is told has none.
        let note = match &command {
            C::SelectBatch(name) => Some(("batch-selected", name.clone(), json!({}))),
            C::PrintAgain => Some(("label-printed-again", String::new(), json!({}))),
            C::AutoStart(on) => Some(("auto-start", String::new(), json!({ "on": on }))),
            C::Cancel(fixture) => Some(("cancelled", String::new(), json!({ "fixture": fixture }))),
            _ => None,
        };
        if let Some((action, subject, detail)) = note {
            drop(self.office.send(Message::Note(action, subject, detail)));
        }
        if let C::SetOperator(name) = &command {
            self.people.set_operator(name);
            drop(self.office.send(Message::Changed));
        }
        self.line.send(command);
    }

    fn snapshot(&self) -> Arc<line::Snapshot> {
        self.line.snapshot()
    }

    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.line.on_change(wake);
    }
}

/// Until when a person is locked out, if they are.
pub(crate) fn locked_until(people: &People, name: &str) -> Option<Instant> {
    let person = people.list().ok()?.into_iter().find(|p| p.name.eq_ignore_ascii_case(name.trim()))?;
    let left = left_of_lock_out(person.failures, person.locked_until_ms, crate::station::now_ms());
    (!left.is_zero()).then(|| Instant::now() + left)
}

/// The office's thread.
struct Clerk {
    people: Arc<People>,
    tools: Tools,
    view: Snapshot,
    filter: AuditFilter,
    shown: Arc<Mutex<Arc<Snapshot>>>,
    wakers: Vec<Box<dyn Fn() + Send + Sync>>,
    /// Its own letterbox, for the thread that looks at the histories.
    office: Sender<Message>,
    look: Option<Look>,
}

/// A look at the histories that is on its way; dropping it ends it.
struct Look {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Look {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Clerk {
    fn run(&mut self, inbox: &Receiver<Message>) {
        loop {
            match inbox.recv_timeout(TICK) {
                Ok(Message::Command(command)) => {
                    self.view.told = Told::Working;
                    self.publish();
                    self.view.told = match self.command(command) {
                        Ok(told) => told,
                        Err(failure) => Told::Failed(failure),
                    };
                    self.view.answered += 1;
                    self.refresh();
                    self.publish();
                }
                Ok(Message::Note(action, subject, detail)) => self.people.note(action, &subject, detail),
                Ok(Message::Changed) => {
                    self.refresh();
                    self.publish();
                }
                Ok(Message::Looked(looked)) => {
                    self.view.verifying = self.look.is_some().then_some(looked);
                    self.publish();
                }
                Ok(Message::Verified(found)) => {
                    self.looked(found);
                    self.publish();
                }
                Ok(Message::OnChange(wake)) => self.wakers.push(wake),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.people.tick() {
                self.view.told = Told::Nothing;
                self.refresh();
                self.publish();
            }
        }
    }

    fn publish(&self) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(self.view.clone());
        for wake in &self.wakers {
            wake();
        }
    }

    /// Reads who is there; what only some may see is taken away from all others.
    fn refresh(&mut self) {
        let (who, locked) = self.people.session();
        self.view.gate = if self.people.is_open() { Gate::Open } else { Gate::People { who, locked } };
        match self.people.list() {
            Ok(persons) => {
                self.view.names =
                    persons.iter().filter(|p| p.active).map(|p| (p.name.clone(), p.role)).collect();
                let sees =
                    self.view.gate != Gate::Open && self.people.permit(Some(Right::ManagePeople)).is_ok();
                self.view.persons = if sees { persons } else { Vec::new() };
            }
            Err(failure) => self.view.told = Told::Failed(failure),
        }
        if self.people.permit(Some(Right::ReadAudit)).is_err() {
            self.view.audit = Arc::default();
        }
    }

    fn command(&mut self, command: Command) -> Result<Told, Failure> {
        let people = self.people.clone();
        match command {
            Command::Login(credential) => {
                self.view.wait_until = None;
                match people.login(&credential) {
                    Ok(who) => {
                        self.view.logins += 1;
                        self.view.verified = None;
                        (self.tools.line)(line::Command::SetOperator(who.name));
                    }
                    Err(failure) => {
                        let Credential::Pin { name, .. } = &credential else { return Err(failure) };
                        if failure.code == FailureCode::LockedOut {
                            self.view.wait_until = locked_until(&people, name);
                        }
                        return Err(self.with_tries(failure, name));
                    }
                }
                Ok(Told::Nothing)
            }
            Command::Lock => {
                people.lock();
                Ok(Told::Nothing)
            }
            Command::Add(new) => {
                let first = people.is_open();
                let person = people.add(&new)?;
                if first {
                    self.view.logins += 1;
                    (self.tools.line)(line::Command::SetOperator(person.name.clone()));
                }
                Ok(Told::Done(Done::Added(person.name, person.role)))
            }
            Command::SetRole { name, role, pin } => {
                let person = people.set_role(&name, role, pin.as_ref())?;
                Ok(Told::Done(Done::Role(person.name, person.role)))
            }
            Command::SetPin { name, pin } => {
                let person = people.set_pin(&name, &pin)?;
                Ok(Told::Done(Done::Pin(person.name)))
            }
            Command::SetOwnPin { old, new } => {
                let name = people.session().0.map(|who| who.name).unwrap_or_default();
                let person = people.change_own_pin(&old, &new).map_err(|f| self.with_tries(f, &name))?;
                Ok(Told::Done(Done::Pin(person.name)))
            }
            Command::SetBadge { name, badge } => {
                let person = people.set_badge(&name, badge.as_ref())?;
                Ok(Told::Done(Done::Badge(person.name, person.badge)))
            }
            Command::SetActive { name, active } => {
                let person = people.set_active(&name, active)?;
                Ok(Told::Done(Done::Active(person.name, active)))
            }
            Command::Unlock(name) => {
                let person = people.unlock(&name)?;
                Ok(Told::Done(Done::Unlocked(person.name)))
            }
            Command::Audit(filter) => {
                self.filter = AuditFilter { limit: AUDIT_ROWS, ..filter };
                self.read_audit()?;
                Ok(Told::Nothing)
            }
            Command::Verify => self.begin_look(),
            Command::StopVerify => {
                if let Some(look) = &self.look {
                    look.stop.store(true, Ordering::Relaxed);
                }
                Ok(Told::Nothing)
            }
            Command::Export => {
                let day = crate::export::Stamp(crate::station::now_ms()).to_string().replace([':', '-'], "");
                let file = self.tools.folder.join(format!("audit-{}.jsonl", &day[..15.min(day.len())]));
                let signer = (self.tools.signer)()?;
                let exported = people.export_audit(&file, &signer)?;
                self.read_audit()?;
                Ok(Told::Done(Done::Exported { rows: exported.rows, file: exported.file }))
            }
        }
    }

    /// Says how many tries are left. Here the names are in sight, so that tells nobody anything new.
    fn with_tries(&self, failure: Failure, name: &str) -> Failure {
        match self.people.tries_left(name).filter(|_| failure.code == FailureCode::LoginFailed) {
            Some(1) => Failure::new(FailureCode::LoginFailed, "1 try is left"),
            Some(left @ 2..) => Failure::new(FailureCode::LoginFailed, format!("{left} tries are left")),
            _ => failure,
        }
    }

    fn begin_look(&mut self) -> Result<Told, Failure> {
        if self.look.is_some() {
            return Ok(Told::Nothing);
        }
        let (people, office) = (self.people.clone(), self.office.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let stops = stop.clone();
        let thread = std::thread::Builder::new().name("histories".into()).spawn(move || {
            let mut shown = None::<Instant>;
            let found = people.verify_with(&mut |looked| {
                if shown.is_none_or(|at| at.elapsed() >= SHOW) {
                    shown = Some(Instant::now());
                    drop(office.send(Message::Looked(looked)));
                }
                if stops.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            drop(office.send(Message::Verified(found)));
        });
        let thread =
            thread.map_err(|e| Failure::new(FailureCode::StationFault, format!("no thread: {e}")))?;
        self.look = Some(Look { stop, thread: Some(thread) });
        self.view.verified = None;
        self.view.verifying = Some(Looked::default());
        Ok(Told::Nothing)
    }

    /// The look at the histories came to its end.
    fn looked(&mut self, found: Result<Option<Verified>, Failure>) {
        (self.look, self.view.verifying) = (None, None);
        let told = match found {
            Ok(Some(found)) => {
                let told = match found.summary() {
                    None => Told::Done(Done::Whole(found.audit, found.events)),
                    Some(broken) => Told::Failed(Failure::new(FailureCode::HistoryBroken, broken)),
                };
                self.view.verified = Some(found);
                told
            }
            Ok(None) => return,
            Err(failure) => Told::Failed(failure),
        };
        // Whoever stands before the lock screen asked for nothing.
        if !self.view.is_locked() {
            self.view.told = told;
        }
    }

    fn read_audit(&mut self) -> Result<(), Failure> {
        self.view.audit = Arc::new(self.people.audit(&self.filter)?);
        Ok(())
    }
}
