//! The foreman: figures and the end of a shift for the window, on a thread of its own.
//!
//! The window sends [`Command`]s and reads a [`Snapshot`] that is swapped as a whole. The command line calls the same functions.
//!
//! Invariants:
//! - Numbers are read only while the view is on the screen, and again only when something has ended. However many attempts there are,
//!   reading them takes at most a tenth of the thread's time.
//! - What changes something goes through [`People::act`]: the right is asked for, and the audit log has its row before.

use crate::backstage::{Backstage, Message, Outlet, Wake};
use crate::failure::{Failure, FailureCode};
use crate::figures::{Figures, Frame, Tally};
use crate::people::{People, Right};
use crate::records::{AttemptRange, EndShift, Records, SqliteRecords};
use crate::secrets::write_atomically;
use crate::shift::{Balance, Counts, Shift};
use crate::station::{records_failure, secrets_failure};
use jiff::{ToSpan, Zoned};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How often it is looked whether anything ended.
const LOOK: Duration = Duration::from_secs(1);
/// Between two readings pass at least so many times what the last one took.
const REST: u32 = 9;
/// Shifts that ended, in the window.
const PAST: u32 = 30;

/// Which attempts the figures are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Range {
    /// The open shift.
    #[default]
    Shift,
    /// Since midnight.
    Today,
    /// Today and the six days before.
    Week,
    /// All there are.
    All,
}

impl Range {
    /// Every range.
    pub const ALL: [Self; 4] = [Self::Shift, Self::Today, Self::Week, Self::All];

    /// The attempts it means at a moment; `None`: no shift is open.
    pub fn attempts(self, open: Option<&Shift>, now: &Zoned) -> Option<AttemptRange> {
        let since = |days: i64| {
            let day = now.start_of_day().unwrap_or_else(|_| now.clone());
            let begin = day.checked_sub(days.days()).unwrap_or(day);
            AttemptRange::Ended(begin.timestamp().as_millisecond(), i64::MAX)
        };
        match self {
            Self::Shift => open.map(AttemptRange::of),
            Self::Today => Some(since(0)),
            Self::Week => Some(since(6)),
            Self::All => Some(AttemptRange::ALL),
        }
    }
}

/// What the figures are of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// When.
    pub range: Range,
    /// Only this batch.
    pub batch: Option<String>,
    /// Only this fixture.
    pub fixture: Option<String>,
}

/// Form of a shift's sheet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sheet {
    /// For the printer.
    Text,
    /// For a spreadsheet.
    Csv,
}

impl Sheet {
    /// By the name of the file: `.csv`, or text.
    pub fn of(path: &Path) -> Self {
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) { Self::Csv } else { Self::Text }
    }

    /// Ending of its files.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Csv => "csv",
        }
    }
}

/// What the window asks of the foreman.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The view is on the screen, or no more.
    Watch(bool),
    /// Other figures.
    Show(Filter),
    /// Opens a shift before its first start.
    Begin,
    /// Ends the shift with this number.
    End {
        /// The one that was looked at.
        number: i64,
        /// What was counted.
        counted: Counts,
        /// Why, if something does not balance.
        reason: String,
    },
    /// Writes the sheet of the open shift; while none is open, of the one that ended here last.
    Save(Sheet),
    /// The newest word was read.
    Clear,
}

/// The newest word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// Nothing to say.
    #[default]
    Nothing,
    /// A shift was opened; its number.
    Begun(i64),
    /// A shift ended: its number, and how many differences its reason stands for.
    Ended(i64, usize),
    /// A sheet is in a file.
    Saved(PathBuf),
    /// It was refused or failed.
    Failed(Failure),
}

/// Everything the window shows of the foreman.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// What the figures are of.
    pub filter: Filter,
    /// Names of batches, newest first.
    pub batches: Vec<String>,
    /// The figures; `None`: not read yet, or there is no open shift to read them of.
    pub figures: Option<Arc<Figures>>,
    /// The open shift.
    pub balance: Option<Arc<Balance>>,
    /// The shift that ended here last, with its units.
    pub ended: Option<Arc<Balance>>,
    /// Shifts that ended, newest first; for those who may see them.
    pub past: Arc<Vec<Balance>>,
    /// Everything was read at least once.
    pub read: bool,
    /// The newest word.
    pub told: Told,
    /// How often the end of a shift was refused; the newest word says why.
    pub refused_ends: u64,
}

/// What the window holds of the foreman. Nothing here blocks.
pub trait ForemanHandle: Send {
    /// Sends a command; it is carried out by the foreman's own thread.
    fn send(&self, command: Command);
    /// The newest snapshot.
    fn snapshot(&self) -> Arc<Snapshot>;
    /// Calls `wake` after every change of the snapshot, from another thread.
    fn on_change(&self, wake: Wake);
}

/// The figures of a range, and of one batch or fixture of it.
///
/// # Errors
/// `InvalidInput` for a batch that is not there; those of reading.
pub fn figures(
    records: &SqliteRecords,
    range: AttemptRange,
    batch: Option<&str>,
    fixture: Option<&str>,
) -> Result<Figures, Failure> {
    let batch = batch.map(|name| records.batch_by_name(name)).transpose().map_err(records_failure)?;
    let offset_ms = i64::from(Zoned::now().offset().seconds()) * 1000;
    let mut tally = Tally::new(Frame { fixture: fixture.map(str::to_owned), offset_ms });
    records.attempt_rows(range, batch.map(|b| b.id), |row| tally.add(&row)).map_err(records_failure)?;
    Ok(tally.finish())
}

/// Opens a shift before its first start.
///
/// # Errors
/// Those of the gate and of the records.
pub fn begin(records: &SqliteRecords, people: &People) -> Result<Shift, Failure> {
    let operator = people.operator();
    people.act(Right::EndShift, ("shift-begun", ""), json!({}), || {
        records.begin_shift(&operator).map_err(records_failure)
    })
}

/// Ends a shift.
///
/// # Errors
/// Those of the gate and of [`SqliteRecords::end_shift`].
pub fn end(
    records: &SqliteRecords,
    people: &People,
    number: i64,
    counted: Counts,
    reason: &str,
) -> Result<Balance, Failure> {
    let end = EndShift { number, operator: people.operator(), counted, reason: reason.to_owned() };
    let detail = json!({ "counted": end.counted, "reason": end.reason });
    people.act(Right::EndShift, ("shift-ended", &number.to_string()), detail, || {
        records.end_shift(end).map_err(records_failure)
    })
}

/// Writes a shift's sheet.
///
/// # Errors
/// `ExportIo` with the file and the system's words.
pub fn write_sheet(balance: &Balance, station: &str, path: &Path) -> Result<(), Failure> {
    let io = |e: String| {
        Failure::new(FailureCode::ExportIo, format_args!("{} can't be written: {e}", path.display()))
    };
    let text = match Sheet::of(path) {
        Sheet::Text => balance.sheet(station),
        Sheet::Csv => balance.csv().map_err(|e| io(e.to_string()))?,
    };
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|e| io(e.to_string()))?;
    }
    write_atomically(path, text.as_bytes()).map_err(|e| io(secrets_failure(e).sentence))
}

/// The foreman of a station; dropping it waits for what is in work.
#[derive(Debug)]
pub struct Foreman(Backstage<Command, Snapshot>);

impl Foreman {
    /// A foreman over these records; sheets go to `folder`.
    ///
    /// # Errors
    /// `StationFault` if no thread can be started.
    pub fn new(records: Arc<SqliteRecords>, people: Arc<People>, folder: PathBuf) -> Result<Self, Failure> {
        let worker = |outlet| Worker {
            records,
            people,
            folder,
            view: Snapshot::default(),
            outlet,
            watched: false,
            pulse: None,
            rest_until: Instant::now(),
        };
        Backstage::start("foreman", Snapshot::default(), |inbox, outlet| worker(outlet).run(inbox)).map(Self)
    }
}

impl ForemanHandle for Foreman {
    fn send(&self, command: Command) {
        self.0.send(command);
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot()
    }

    fn on_change(&self, wake: Wake) {
        self.0.on_change(wake);
    }
}

struct Worker {
    records: Arc<SqliteRecords>,
    people: Arc<People>,
    folder: PathBuf,
    view: Snapshot,
    outlet: Outlet<Snapshot>,
    watched: bool,
    /// What the records and the gate were like when they were read last; `None`: they are to be read.
    pulse: Option<([i64; 5], String)>,
    rest_until: Instant,
}

impl Worker {
    fn run(&mut self, inbox: &Receiver<Message<Command>>) {
        loop {
            // Nobody looks: nothing is read until somebody does.
            let message = match self.watched {
                false => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                true => {
                    inbox.recv_timeout(LOOK.max(self.rest_until.saturating_duration_since(Instant::now())))
                }
            };
            match message {
                Ok(Message::Command(command)) => {
                    self.command(command);
                    self.look();
                    self.outlet.publish(&self.view);
                }
                Ok(Message::OnChange(wake)) => self.outlet.wake(wake),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    if self.look() {
                        self.outlet.publish(&self.view);
                    }
                }
            }
        }
    }

    /// Reads again if somebody looks and something changed; true if it did.
    fn look(&mut self) -> bool {
        if !self.watched {
            return false;
        }
        let began = Instant::now();
        match self.read() {
            Ok(read) => {
                if read {
                    self.rest_until = Instant::now() + began.elapsed() * REST;
                }
                read
            }
            Err(failure) => {
                let told = Told::Failed(failure);
                let new = self.view.told != told;
                self.view.told = told;
                new
            }
        }
    }

    fn read(&mut self) -> Result<bool, Failure> {
        let pulse = (self.records.pulse().map_err(records_failure)?, self.people.operator());
        if self.pulse.as_ref() == Some(&pulse) {
            return Ok(false);
        }
        let balance = self.records.shift_balance().map_err(records_failure)?;
        let range = self.view.filter.range.attempts(balance.as_ref().map(|b| &b.shift), &Zoned::now());
        let Filter { batch, fixture, .. } = &self.view.filter;
        let figures = match range {
            Some(range) => Some(figures(&self.records, range, batch.as_deref(), fixture.as_deref())?),
            None => None,
        };
        let batches = self.records.list_batches().map_err(records_failure)?;
        let past = match self.people.permit(Some(Right::SeeShifts)) {
            Ok(()) => self.records.shifts(PAST).map_err(records_failure)?,
            Err(_) => Vec::new(),
        };
        self.view.batches = batches.into_iter().map(|b| b.name).collect();
        self.view.balance = balance.map(Arc::new);
        self.view.figures = figures.map(Arc::new);
        self.view.past = Arc::new(past);
        self.view.read = true;
        self.pulse = Some(pulse);
        Ok(true)
    }

    fn command(&mut self, command: Command) {
        // What is shown may be older than the question: after every command it is read at once.
        if command != Command::Clear {
            self.pulse = None;
        }
        let told = match command {
            Command::Watch(on) => {
                self.watched = on;
                return;
            }
            Command::Show(filter) => {
                self.view.filter = filter;
                return;
            }
            Command::Clear => Ok(Told::Nothing),
            Command::Begin => begin(&self.records, &self.people).map(|shift| Told::Begun(shift.number)),
            Command::End { number, counted, reason } => {
                match end(&self.records, &self.people, number, counted, &reason) {
                    Ok(balance) => {
                        let differences = balance.shift.ended.as_ref().map_or(0, |e| e.differences.len());
                        self.view.ended = Some(Arc::new(balance));
                        Ok(Told::Ended(number, differences))
                    }
                    Err(failure) => {
                        self.view.refused_ends += 1;
                        Err(failure)
                    }
                }
            }
            Command::Save(sheet) => self.save(sheet).map(Told::Saved),
        };
        self.view.told = told.unwrap_or_else(Told::Failed);
    }

    fn save(&self, sheet: Sheet) -> Result<PathBuf, Failure> {
        let open = self.records.shift_balance().map_err(records_failure)?.map(Arc::new);
        let balance = open.or_else(|| self.view.ended.clone());
        let balance = balance.ok_or_else(|| Failure::new(FailureCode::NoShift, ""))?;
        let number = balance.shift.number;
        let path = self.folder.join(format!("shift-{number}.{}", sheet.extension()));
        let detail = json!({ "file": path.display().to_string() });
        self.people.act(Right::EndShift, ("shift-saved", &number.to_string()), detail, || {
            write_sheet(&balance, self.records.station(), &path)
        })?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_begin_at_midnight_on_the_wall() {
        let now: Zoned = "2026-11-26T06:30:00+01:00[Europe/Berlin]".parse().unwrap();
        let begin = |range: Range| match range.attempts(None, &now) {
            Some(AttemptRange::Ended(from, i64::MAX)) => {
                jiff::Timestamp::from_millisecond(from).unwrap().to_string()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(begin(Range::Today), "2026-11-25T23:00:00Z");
        assert_eq!(begin(Range::Week), "2026-11-19T23:00:00Z");
        assert_eq!(Range::All.attempts(None, &now), Some(AttemptRange::ALL));
        assert_eq!(Range::Shift.attempts(None, &now), None);
        let shift = Shift { number: 3, after_attempt: 41, ..Shift::default() };
        assert_eq!(Range::Shift.attempts(Some(&shift), &now), Some(AttemptRange::Numbers(41, i64::MAX)));
    }

    #[test]
    fn the_name_of_a_file_tells_its_form() {
        assert_eq!(Sheet::of(Path::new("a/shift-1.CSV")), Sheet::Csv);
        assert_eq!(Sheet::of(Path::new("shift-1.txt")), Sheet::Text);
        assert_eq!(Sheet::of(Path::new("shift")), Sheet::Text);
    }
}
