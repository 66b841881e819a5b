//! The export clerk: one thread that previews, exports and revokes for the window, which sends commands and reads a snapshot that
//! is swapped as a whole, as it does with the line and with QA's desk.
//!
//! Invariants:
//! - No key is in a snapshot: a preview has its secrets hidden, a receipt has none.
//! - One export at a time; it is cancelled between two rows and leaves nothing.

use super::{
    Delimiter, Destination, ExportError, ExportRequest, ExportSigner, Format, Inspect, Inspection, Preview,
    Progress, Protection, Recipient, RecordsSource, SecondPerson, Selection, inspect, preview,
    read_pgp_recipients, receipt_path, second_person,
};
use crate::backstage::{Backstage, Message, Outlet, Wake};
use crate::desk::Told;
use crate::failure::Failure;
use crate::people::{Credential, People, Pin, Right};
use crate::records::{ExportLogFilter, ExportRecord, ExposedUnit, Records};
use crate::secrets::Passphrase;
use crate::station::records_failure;
use serde_json::json;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How often the log is read again when nothing happens: another program may have exported.
const REFRESH: Duration = Duration::from_secs(5);
/// How often a running export shows how far it is.
const SHOW: Duration = Duration::from_millis(100);

/// The protection that was chosen, as it was typed; recipients are read by the clerk.
#[derive(Clone, Debug, Default)]
pub enum Wanted {
    /// No secrets leave.
    #[default]
    Nothing,
    /// age recipients, one per line or separated by blanks.
    Age(String),
    /// Files with OpenPGP public keys.
    OpenPgp(Vec<PathBuf>),
    /// The password of a PSKC container.
    Password(Passphrase),
    /// In clear, and why.
    Plain(String),
}

impl Order {
    fn second(&self) -> SecondPerson {
        let name = self.second_person.trim();
        match self.second_shows.clone() {
            Some(badge) if name.is_empty() => SecondPerson::Shows(Credential::Badge(badge)),
            Some(pin) => SecondPerson::Shows(Credential::Pin { name: name.to_owned(), pin }),
            None if name.is_empty() => SecondPerson::Nobody,
            None => SecondPerson::Named(name.to_owned()),
        }
    }
}

impl Wanted {
    fn protection(&self, now_ms: i64) -> Result<Protection, ExportError> {
        Ok(match self {
            Self::Nothing => Protection::None,
            Self::Age(text) => {
                let recipients: Vec<Recipient> =
                    text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
                if recipients.is_empty() {
                    return Err(ExportError::Unsaid("no recipient was named: paste the vendor's age1… line"));
                }
                Protection::Age(recipients)
            }
            Self::OpenPgp(files) if files.is_empty() => {
                return Err(ExportError::Unsaid(
                    "no key file was chosen: choose the vendor's OpenPGP public key",
                ));
            }
            Self::OpenPgp(files) => Protection::OpenPgp(read_pgp_recipients(files, now_ms)?),
            Self::Password(password) => Protection::Password(password.clone().into_text()),
            Self::Plain(reason) => Protection::Plain { reason: reason.clone() },
        })
    }
}

/// What is to be handed out.
#[derive(Clone, Debug)]
pub struct Order {
    /// Which units.
    pub selection: Selection,
    /// In which form.
    pub format: Format,
    /// Protected how.
    pub wanted: Wanted,
    /// Who receives it.
    pub handed_to: String,
    /// Who stands by.
    pub second_person: String,
    /// What they show, on a station with people: the PIN of who is named, or a badge if nobody is.
    pub second_shows: Option<Pin>,
    /// Who exports.
    pub operator: String,
    /// The export that it repeats.
    pub replaces: Option<i64>,
    /// Where to.
    pub folder: PathBuf,
}

impl Order {
    /// What the audit log says of it.
    fn audit(&self) -> serde_json::Value {
        let wanted = match &self.wanted {
            Wanted::Nothing => "none",
            Wanted::Age(_) => "age",
            Wanted::OpenPgp(_) => "openpgp",
            Wanted::Password(_) => "password",
            Wanted::Plain(_) => "plain",
        };
        json!({ "to": self.handed_to, "second_person": self.second_person, "protection": wanted })
    }
}

/// Commands that go to the clerk.
#[derive(Clone, Debug)]
pub enum Command {
    /// Show what an order would hold, and for whom it would be sealed.
    Preview(Box<Order>),
    /// Hand it out.
    Export(Box<Order>),
    /// Mark an export as revoked.
    Revoke {
        /// Its number.
        export: i64,
        /// By whom.
        operator: String,
        /// Why.
        reason: String,
    },
    /// Show which units' live keys the recipient of an export knows.
    Exposed(i64),
    /// Look at a file that somebody brings.
    Check(Box<Inspect>),
    /// Put the last order away.
    Clear,
}

/// A recipient as the window shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientView {
    /// The age line, or the OpenPGP key's owner.
    pub name: String,
    /// What the log keeps.
    pub fingerprint: String,
}

/// A file that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedOut {
    /// The export's number.
    pub number: i64,
    /// The file.
    pub file: PathBuf,
    /// Its receipt.
    pub receipt: PathBuf,
    /// Rows in it.
    pub rows: u64,
    /// SHA-256, hex.
    pub sha256: String,
    /// It holds secrets.
    pub protected: bool,
}

/// Everything that the window shows of exports.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Names of the batches, newest first.
    pub batches: Vec<String>,
    /// Keys go out by two people only.
    pub needs_second_person: bool,
    /// People work here by name: a second person shows a PIN or a badge.
    pub has_people: bool,
    /// Where files go if nobody says otherwise.
    pub folder: PathBuf,
    /// What the last order would hold.
    pub preview: Option<Arc<Preview>>,
    /// For whom it would be sealed.
    pub recipients: Vec<RecipientView>,
    /// How far the running export is.
    pub progress: Option<Progress>,
    /// What was handed out last.
    pub done: Option<Arc<Vec<HandedOut>>>,
    /// The newest word.
    pub told: Told,
    /// What was handed out, newest first.
    pub log: Arc<Vec<ExportRecord>>,
    /// What [`Command::Check`] found.
    pub checked: Option<Arc<Inspection>>,
    /// The units that [`Command::Exposed`] or a revocation found, and of which export.
    pub exposed: Option<(i64, Arc<Vec<ExposedUnit>>)>,
}

/// What the window holds of the clerk. Nothing here blocks.
pub trait ExportHandle: Send {
    /// Sends a command; it is carried out by the clerk's own thread.
    fn send(&self, command: Command);
    /// Ends the running export before its next row.
    fn cancel(&self);
    /// The newest snapshot.
    fn snapshot(&self) -> Arc<Snapshot>;
    /// Calls `wake` after every change of the snapshot, from another thread.
    fn on_change(&self, wake: Wake);
}

/// The clerk of a station; dropping it cancels an export in work and waits for it.
#[derive(Debug)]
pub struct Clerk {
    backstage: Backstage<Command, Snapshot>,
    cancel: Arc<AtomicBool>,
}

/// What a clerk works with.
pub struct Office {
    /// The station's records and keys.
    pub source: RecordsSource,
    /// Who works here.
    pub people: Arc<People>,
    /// Draws or opens the export signing key.
    pub signer: Box<dyn Fn() -> Result<ExportSigner, Failure> + Send>,
    /// Name of the station.
    pub station: String,
    /// Keys go out by two people only.
    pub needs_second_person: bool,
    /// Where files go if nobody says otherwise.
    pub folder: PathBuf,
    /// The clock.
    pub now_ms: fn() -> i64,
}

impl Clerk {
    /// A clerk over this office.
    ///
    /// # Errors
    /// `StationFault` if no thread can be started.
    pub fn new(office: Office) -> Result<Self, Failure> {
        let first = Snapshot {
            needs_second_person: office.needs_second_person,
            has_people: !office.people.is_open(),
            folder: office.folder.clone(),
            ..Snapshot::default()
        };
        let cancel = Arc::new(AtomicBool::new(false));
        let (view, cancels) = (first.clone(), cancel.clone());
        let worker = |outlet| Worker { office, view, outlet, cancel: cancels, mark: None };
        let backstage = Backstage::start("export clerk", first, |inbox, outlet| worker(outlet).run(inbox))?;
        Ok(Self { backstage, cancel })
    }
}

impl ExportHandle for Clerk {
    fn send(&self, command: Command) {
        self.backstage.send(command);
    }

    fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.backstage.snapshot()
    }

    fn on_change(&self, wake: Wake) {
        self.backstage.on_change(wake);
    }
}

impl Drop for Clerk {
    fn drop(&mut self) {
        self.cancel();
    }
}

struct Worker {
    office: Office,
    view: Snapshot,
    outlet: Outlet<Snapshot>,
    cancel: Arc<AtomicBool>,
    /// That of the log as it was read.
    mark: Option<(i64, i64)>,
}

impl Worker {
    fn run(&mut self, inbox: &Receiver<Message<Command>>) {
        self.look_around();
        self.outlet.publish(&self.view);
        let mut looked = Instant::now();
        loop {
            match inbox.recv_timeout(REFRESH.saturating_sub(looked.elapsed())) {
                Ok(Message::Command(command)) => {
                    self.command(command);
                    self.look_around();
                    self.outlet.publish(&self.view);
                }
                Ok(Message::OnChange(wake)) => self.outlet.wake(wake),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    if self.look_around() {
                        self.outlet.publish(&self.view);
                    }
                    looked = Instant::now();
                }
            }
        }
    }

    /// Batches and log; true if they changed.
    fn look_around(&mut self) -> bool {
        let records = &self.office.source.records;
        let read = records.list_batches().and_then(|batches| {
            let mark = records.export_log_mark()?;
            // The log grows for years and is looked at every few seconds: it is read again when there is something new.
            let log = match self.mark == Some(mark) {
                true => None,
                false => {
                    let mut log = records.export_log(&ExportLogFilter::default())?;
                    log.reverse();
                    Some(log)
                }
            };
            Ok((batches.into_iter().map(|b| b.name).collect::<Vec<_>>(), mark, log))
        });
        match read {
            Ok((batches, mark, log)) => {
                let has_people = !self.office.people.is_open();
                let changed =
                    self.view.batches != batches || self.view.has_people != has_people || log.is_some();
                self.view.has_people = has_people;
                self.view.batches = batches;
                self.mark = Some(mark);
                if let Some(log) = log {
                    self.view.log = Arc::new(log);
                }
                changed
            }
            Err(error) => {
                self.view.told = Told::Failed(records_failure(error));
                true
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Clear => {
                self.view.preview = None;
                self.view.done = None;
                self.view.exposed = None;
                self.view.checked = None;
                self.view.recipients.clear();
                self.view.told = Told::Nothing;
            }
            Command::Check(order) => {
                self.view.checked = None;
                self.view.told = Told::Working("Looking at the file".into());
                self.outlet.publish(&self.view);
                self.view.told = match inspect(&order, &self.office.source) {
                    Ok(found) => {
                        self.view.checked = Some(Arc::new(found));
                        Told::Nothing
                    }
                    Err(error) => Told::Failed(error.failure()),
                };
            }
            Command::Preview(order) => {
                (self.view.preview, self.view.done) = (None, None);
                self.view.recipients.clear();
                self.view.told = Told::Working("Reading the records".into());
                self.outlet.publish(&self.view);
                match self.look_at(&order) {
                    Ok((preview, recipients)) => {
                        self.view.preview = Some(Arc::new(preview));
                        self.view.recipients = recipients;
                        self.view.told = Told::Nothing;
                    }
                    Err(failure) => self.view.told = Told::Failed(failure),
                }
            }
            Command::Export(order) => {
                self.cancel.store(false, Ordering::Relaxed);
                self.view.done = None;
                self.view.told = Told::Working("Handing out".into());
                self.view.progress = Some(Progress::default());
                self.outlet.publish(&self.view);
                let about = (order.selection.to_string(), order.audit());
                match self.act("list-exported", about, |worker| worker.export(*order)) {
                    Ok(done) => {
                        let numbers: Vec<_> = done.iter().map(|d| d.number.to_string()).collect();
                        self.view.told = Told::Done(format!("Export {} is written", numbers.join(", ")));
                        self.view.done = Some(Arc::new(done));
                    }
                    Err(failure) => self.view.told = Told::Failed(failure),
                }
                self.view.progress = None;
            }
            Command::Exposed(export) => self.expose(export),
            Command::Revoke { export, operator, reason } => {
                let about = (export.to_string(), json!({ "reason": reason }));
                let revoked = self.act("export-revoked", about, |worker| {
                    let records = &worker.office.source.records;
                    records.revoke_export(export, &operator, &reason).map_err(records_failure)
                });
                match revoked {
                    Ok(()) => {
                        self.view.told = Told::Done(format!("Export {export} is revoked"));
                        self.expose(export);
                    }
                    Err(failure) => self.view.told = Told::Failed(failure),
                }
            }
        }
    }

    /// Does something behind its row in the audit log.
    fn act<T>(
        &mut self,
        action: &str,
        (subject, detail): (String, serde_json::Value),
        work: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let people = self.office.people.clone();
        people.act(Right::Export, (action, &subject), detail, || work(self))
    }

    fn expose(&mut self, export: i64) {
        match self.office.source.records.exposed_units(export) {
            Ok(units) => self.view.exposed = Some((export, Arc::new(units))),
            Err(error) => self.view.told = Told::Failed(records_failure(error)),
        }
    }

    fn look_at(&self, order: &Order) -> Result<(Preview, Vec<RecipientView>), Failure> {
        let protection = order.wanted.protection((self.office.now_ms)()).map_err(|e| e.failure())?;
        let recipients = match &protection {
            Protection::Age(all) => all
                .iter()
                .map(|r| RecipientView { name: r.as_str().into(), fingerprint: r.fingerprint() })
                .collect(),
            Protection::OpenPgp(all) => all
                .iter()
                .map(|r| RecipientView { name: r.owner().into(), fingerprint: r.fingerprint().into() })
                .collect(),
            _ => Vec::new(),
        };
        let preview =
            preview(&self.office.source, &order.selection, order.format, 5).map_err(|e| e.failure())?;
        Ok((preview, recipients))
    }

    fn export(&mut self, order: Order) -> Result<Vec<HandedOut>, Failure> {
        let now_ms = (self.office.now_ms)();
        let protection = order.wanted.protection(now_ms).map_err(|e| e.failure())?;
        let subject = order.selection.to_string();
        let second = second_person(&self.office.people, &order.operator, &order.second(), &subject)?;
        let some = |text: String| Some(text).filter(|t| !t.trim().is_empty());
        let request = ExportRequest {
            protection,
            selection: order.selection,
            formats: vec![order.format],
            delimiter: Delimiter::Comma,
            handed_to: some(order.handed_to),
            second_person: second,
            needs_second_person: self.office.needs_second_person,
            replaces: order.replaces,
            station: self.office.station.clone(),
            destination: Destination::Folder(order.folder),
            overwrite: false,
            operator: order.operator,
            now_ms,
        };
        let signer = (self.office.signer)()?;
        let (cancel, mut shown) = (self.cancel.clone(), Instant::now());
        let (view, outlet) = (&mut self.view, &self.outlet);
        let report = super::export(&self.office.source, &signer, &request, &mut |progress| {
            // A phase is shown at once: cancelling ends with one.
            let phase = view.progress.is_some_and(|shown| shown.phase != progress.phase);
            if phase || shown.elapsed() >= SHOW {
                shown = Instant::now();
                view.progress = Some(progress);
                outlet.publish(view);
            }
            if cancel.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .map_err(|e| e.failure())?;
        let files = report.record.files.iter().map(|file| {
            let path = report.folder.join(&file.name);
            HandedOut {
                number: file.number,
                receipt: receipt_path(&path),
                file: path,
                rows: file.rows,
                sha256: file.sha256.clone(),
                protected: file.protected,
            }
        });
        Ok(files.collect())
    }
}
