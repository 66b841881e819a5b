//! A shift: what was worked on between two ends, and whether it balances.
//!
//! Pure: the rows come from `records`, the words on the screen from the window. What each number means: `docs/shift.md`.
//!
//! ```text
//! batch: planned + replaced = passed + failed + scrapped + unfinished + not started
//! shift:         worked on  = passed + failed + scrapped + unfinished
//! ```
//!
//! Invariants:
//! - A unit stands in exactly one tray, told by [`Standing::of`], which the line's header uses too; so both equations always hold.
//! - What can still differ is the world: a board that nobody could read, a unit that never came to its end, a tray that holds another
//!   number. Each such [`Difference`] is named, and a shift with one ends with a reason only.

use crate::export::Stamp;
use crate::model::{BatchCounts, Outcome, UnitState};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// Units that are named beside a tray that was counted differently; more are not named one by one.
const NAMED: usize = 50;

/// Where a unit stands, as far as counts go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It passed, whatever a later look at it ran into.
    Passed,
    /// Its latest attempt did not pass, or it was set aside.
    Failed,
    /// Taken out for ever.
    Scrapped,
    /// It was begun and has neither passed nor failed: in work, interrupted, or opened again by QA.
    Unfinished,
}

impl Standing {
    /// Every standing, in the order of the equation.
    pub const ALL: [Self; 4] = [Self::Passed, Self::Failed, Self::Scrapped, Self::Unfinished];

    /// By the unit's state and its latest attempt: its outcome (`None`: in work, or there is none), and whether the station stopped
    /// under it.
    pub fn of(state: UnitState, latest: Option<Outcome>, stopped: bool) -> Self {
        match (state, latest) {
            (UnitState::Scrapped, _) => Self::Scrapped,
            (UnitState::Passed, _) => Self::Passed,
            (UnitState::Quarantined, _) => Self::Failed,
            (_, None) => Self::Unfinished,
            // Passed once, and opened again by QA.
            (_, Some(last)) if stopped || last == Outcome::Pass => Self::Unfinished,
            (_, Some(_)) => Self::Failed,
        }
    }

    /// The word in files and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Scrapped => "scrapped",
            Self::Unfinished => "unfinished",
        }
    }
}

/// A unit that a shift worked on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShiftUnit {
    /// Its serial.
    pub serial: String,
    /// Where it stands.
    pub standing: Standing,
}

/// Units by where they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trays {
    /// See [`Standing::Passed`].
    pub passed: u32,
    /// See [`Standing::Failed`].
    pub failed: u32,
    /// See [`Standing::Scrapped`].
    pub scrapped: u32,
    /// See [`Standing::Unfinished`].
    pub unfinished: u32,
}

impl Trays {
    /// Of these units.
    pub fn of(units: &[ShiftUnit]) -> Self {
        let count = |s| u32::try_from(units.iter().filter(|u| u.standing == s).count()).unwrap_or(u32::MAX);
        Self {
            passed: count(Standing::Passed),
            failed: count(Standing::Failed),
            scrapped: count(Standing::Scrapped),
            unfinished: count(Standing::Unfinished),
        }
    }

    /// All of them.
    pub const fn sum(&self) -> u32 {
        self.passed + self.failed + self.scrapped + self.unfinished
    }

    /// Those in one tray.
    pub const fn get(&self, tray: Standing) -> u32 {
        match tray {
            Standing::Passed => self.passed,
            Standing::Failed => self.failed,
            Standing::Scrapped => self.scrapped,
            Standing::Unfinished => self.unfinished,
        }
    }
}

/// What somebody counted in the trays; `None`: that tray was not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Units in the tray of those that passed.
    pub passed: Option<u32>,
    /// Units in the tray of those that failed.
    pub failed: Option<u32>,
    /// Units in the scrap.
    pub scrapped: Option<u32>,
}

impl Counted {
    fn trays(&self) -> [(Standing, Option<u32>); 3] {
        [
            (Standing::Passed, self.passed),
            (Standing::Failed, self.failed),
            (Standing::Scrapped, self.scrapped),
        ]
    }
}

/// One batch of a shift.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchBalance {
    /// Its name.
    pub batch: String,
    /// Units planned.
    pub planned: u32,
    /// Units made in place of scrapped ones, beyond what was planned.
    pub replaced: u32,
    /// Where the batch's units stand.
    #[serde(flatten)]
    pub all: Trays,
    /// Units that have not begun yet.
    pub not_started: u32,
    /// Where those stand that this shift worked on.
    pub shift: Trays,
    /// What was counted.
    pub counted: Counted,
    /// What this shift worked on; empty when it is read from the records of a shift that ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<ShiftUnit>,
}

impl BatchBalance {
    /// Of a batch's counts and the units that the shift worked on.
    pub fn new(batch: impl Into<String>, counts: &BatchCounts, units: Vec<ShiftUnit>) -> Self {
        let all = Trays {
            passed: counts.passed,
            failed: counts.failed,
            scrapped: counts.scrapped,
            unfinished: counts.in_progress,
        };
        Self {
            batch: batch.into(),
            planned: counts.planned,
            replaced: all.sum().saturating_sub(counts.planned),
            not_started: counts.planned.saturating_sub(all.sum()),
            all,
            shift: Trays::of(&units),
            counted: Counted::default(),
            units,
        }
    }

    /// Unfinished ones and those that have not begun: what is still open, as the line's header counts it.
    pub const fn open(&self) -> u32 {
        self.all.unfinished + self.not_started
    }

    /// Both sides of the equation; equal, or the records are damaged.
    pub const fn sides(&self) -> (u32, u32) {
        (self.planned + self.replaced, self.all.passed + self.all.failed + self.all.scrapped + self.open())
    }

    fn serials(&self, standing: Standing) -> Vec<String> {
        self.units.iter().filter(|u| u.standing == standing).map(|u| u.serial.clone()).collect()
    }
}

/// Starts at one fixture whose boards never told their id, with none after them that did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// Fixture name.
    pub fixture: String,
    /// How many starts.
    pub attempts: u32,
    /// When the last of them ended, Unix milliseconds.
    pub at_ms: i64,
    /// Its failure code.
    pub code: u16,
}

/// What does not balance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "difference", rename_all = "kebab-case")]
pub enum Difference {
    /// A tray holds another number than the records.
    Counted {
        /// The batch.
        batch: String,
        /// Which tray.
        tray: Standing,
        /// Units in it by the records.
        records: u32,
        /// Units that were counted.
        counted: u32,
        /// What the records have in that tray; empty if they are too many to name.
        units: Vec<String>,
    },
    /// Units that were begun and have neither passed nor failed.
    Unfinished {
        /// The batch.
        batch: String,
        /// Their serials.
        units: Vec<String>,
    },
    /// The fixture had a board that the records do not know.
    Unread(Unread),
    /// More units than the plan and its replacements allow.
    Overrun {
        /// The batch.
        batch: String,
        /// How many too many.
        units: u32,
    },
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Counted { batch, tray, records, counted, units } => {
                let tray = tray.as_str();
                write!(f, "batch {batch}: {counted} {tray} were counted, the records have {records}")?;
                if units.is_empty() { Ok(()) } else { write!(f, " ({})", units.join(", ")) }
            }
            Self::Unfinished { batch, units } => {
                write!(f, "batch {batch}: begun, but neither passed nor failed: {}", units.join(", "))
            }
            Self::Unread(Unread { fixture, attempts, at_ms, code }) => write!(
                f,
                "fixture {fixture}: {attempts} starts of a board that never told its id, the last at {} (K{code:03})",
                Stamp(*at_ms)
            ),
            Self::Overrun { batch, units } => write!(f, "batch {batch}: {units} units more than planned"),
        }
    }
}

/// How a shift ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// Who ended it.
    pub by: String,
    /// The last attempt of it.
    pub last_attempt: i64,
    /// What did not balance.
    pub differences: Vec<Difference>,
    /// Why it was ended all the same; may be empty if everything balanced.
    pub reason: String,
}

/// A shift.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shift {
    /// Its number.
    pub number: i64,
    /// Unix milliseconds.
    pub opened_at_ms: i64,
    /// Who gave its first start, or opened it by name.
    pub opened_by: String,
    /// Attempts with a higher number are of it.
    pub after_attempt: i64,
    /// `None`: it is open.
    pub ended: Option<Ended>,
}

/// A fixture in which something is in work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InWork {
    /// Fixture name.
    pub fixture: String,
    /// Serial of its unit, once known.
    pub serial: Option<String>,
}

/// A shift with its balance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// The shift.
    pub shift: Shift,
    /// What keeps it from ending.
    pub in_work: Vec<InWork>,
    /// By batch, by name.
    pub batches: Vec<BatchBalance>,
    /// Boards that the records do not know.
    pub unread: Vec<Unread>,
}

/// What was counted, by batch name.
pub type Counts = Vec<(String, Counted)>;

impl Balance {
    /// Takes in what was counted; a batch that the shift did not work on is answered with its name.
    ///
    /// # Errors
    /// The name of the first batch that is none of the shift's.
    pub fn count(&mut self, counts: &Counts) -> Result<(), String> {
        for (name, counted) in counts {
            match self.batches.iter_mut().find(|b| b.batch == *name) {
                Some(batch) => batch.counted = *counted,
                None => return Err(name.clone()),
            }
        }
        Ok(())
    }

    /// What does not balance.
    pub fn differences(&self) -> Vec<Difference> {
        let mut found = Vec::new();
        for b in &self.batches {
            for (tray, counted) in b.counted.trays() {
                let records = b.shift.get(tray);
                if let Some(counted) = counted.filter(|c| *c != records) {
                    let mut units = b.serials(tray);
                    if units.len() > NAMED {
                        units.clear();
                    }
                    found.push(Difference::Counted { batch: b.batch.clone(), tray, records, counted, units });
                }
            }
            let units = b.serials(Standing::Unfinished);
            if !units.is_empty() {
                found.push(Difference::Unfinished { batch: b.batch.clone(), units });
            }
            // Only a scrapped unit leaves its place to another one.
            let over = b.replaced.saturating_sub(b.all.scrapped);
            if over > 0 {
                found.push(Difference::Overrun { batch: b.batch.clone(), units: over });
            }
        }
        found.extend(self.unread.iter().cloned().map(Difference::Unread));
        found
    }

    /// The sheet that is printed and put into the tray.
    pub fn sheet(&self, station: &str) -> String {
        let mut text = String::new();
        let shift = &self.shift;
        let mut line = |words: std::fmt::Arguments<'_>| {
            // Writing into a String can't fail.
            let _ = writeln!(text, "{words}");
        };
        line(format_args!("SHIFT {} of station {station}", shift.number));
        line(format_args!("opened  {} by {}", Stamp(shift.opened_at_ms), shift.opened_by));
        match &shift.ended {
            Some(end) => line(format_args!("ended   {} by {}", Stamp(end.at_ms), end.by)),
            None => line(format_args!("not ended yet")),
        }
        for b in &self.batches {
            let (all, trays) = (&b.all, &b.shift);
            line(format_args!("\nBatch {}", b.batch));
            let replaced = if b.replaced > 0 { format!(" + {} replaced", b.replaced) } else { String::new() };
            line(format_args!(
                "  planned {}{replaced} = {} passed + {} failed + {} scrapped + {} unfinished + {} not started",
                b.planned, all.passed, all.failed, all.scrapped, all.unfinished, b.not_started
            ));
            line(format_args!(
                "  this shift: {} units = {} passed + {} failed + {} scrapped + {} unfinished",
                trays.sum(),
                trays.passed,
                trays.failed,
                trays.scrapped,
                trays.unfinished
            ));
            let count = |n: Option<u32>| n.map_or_else(|| "___".into(), |n| n.to_string());
            line(format_args!(
                "  counted:    {} passed, {} failed, {} scrapped",
                count(b.counted.passed),
                count(b.counted.failed),
                count(b.counted.scrapped)
            ));
            for standing in Standing::ALL {
                let units = b.serials(standing);
                if !units.is_empty() {
                    line(format_args!("  {}: {}", standing.as_str(), units.join(" ")));
                }
            }
        }
        let differences = match &shift.ended {
            Some(end) => end.differences.clone(),
            None => self.differences(),
        };
        if differences.is_empty() {
            line(format_args!("\nEverything balances."));
        } else {
            line(format_args!("\nDifferences"));
            differences.iter().for_each(|d| line(format_args!("  {d}")));
        }
        if let Some(end) = shift.ended.as_ref().filter(|e| !e.reason.is_empty()) {
            line(format_args!("Reason: {}", end.reason));
        }
        line(format_args!("\nSigned: ____________________"));
        text
    }

    /// The same for a spreadsheet: one row a batch.
    ///
    /// # Errors
    /// Never in practice: rows go into memory.
    pub fn csv(&self) -> Result<String, csv::Error> {
        let mut out = csv::Writer::from_writer(Vec::new());
        out.write_record(CSV_COLUMNS)?;
        let end = self.shift.ended.as_ref();
        for b in &self.batches {
            let count = |n: Option<u32>| n.map_or_else(String::new, |n| n.to_string());
            let mut row = vec![
                self.shift.number.to_string(),
                Stamp(self.shift.opened_at_ms).to_string(),
                end.map_or_else(String::new, |e| Stamp(e.at_ms).to_string()),
                end.map_or_else(String::new, |e| e.by.clone()),
                b.batch.clone(),
            ];
            let numbers = [
                b.planned,
                b.replaced,
                b.all.passed,
                b.all.failed,
                b.all.scrapped,
                b.all.unfinished,
                b.not_started,
                b.shift.passed,
                b.shift.failed,
                b.shift.scrapped,
                b.shift.unfinished,
            ];
            row.extend(numbers.iter().map(u32::to_string));
            row.extend([b.counted.passed, b.counted.failed, b.counted.scrapped].map(count));
            row.push(end.map_or_else(String::new, |e| e.reason.clone()));
            out.write_record(&row)?;
        }
        let bytes = out.into_inner().map_err(|e| csv::Error::from(std::io::Error::other(e.to_string())))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Columns of [`Balance::csv`].
pub const CSV_COLUMNS: [&str; 20] = [
    "shift",
    "opened_at",
    "ended_at",
    "ended_by",
    "batch",
    "planned",
    "replaced",
    "passed",
    "failed",
    "scrapped",
    "unfinished",
    "not_started",
    "shift_passed",
    "shift_failed",
    "shift_scrapped",
    "shift_unfinished",
    "counted_passed",
    "counted_failed",
    "counted_scrapped",
    "reason",
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn units(standings: &[Standing]) -> Vec<ShiftUnit> {
        let unit = |(i, s): (usize, &Standing)| ShiftUnit { serial: format!("S-{i}"), standing: *s };
        standings.iter().enumerate().map(unit).collect()
    }

    fn counts(planned: u32, all: &[Standing]) -> BatchCounts {
        let trays = Trays::of(&units(all));
        BatchCounts {
            planned,
            passed: trays.passed,
            failed: trays.failed,
            scrapped: trays.scrapped,
            in_progress: trays.unfinished,
            first_pass: 0,
        }
    }

    #[test]
    fn a_unit_stands_where_its_state_and_its_latest_attempt_say() {
        use Outcome::{Aborted, Fail, Pass};
        use UnitState::{Arrived, CloudKey, Passed, Quarantined, Scrapped};
        for (state, latest, stopped, standing) in [
            (Passed, Some(Pass), false, Standing::Passed),
            // A look at a passed unit that went wrong takes nothing away.
            (Passed, Some(Fail), false, Standing::Passed),
            (Passed, None, false, Standing::Passed),
            (Quarantined, Some(Pass), false, Standing::Failed),
            (Scrapped, Some(Pass), false, Standing::Scrapped),
            (Arrived, None, false, Standing::Unfinished),
            (CloudKey, Some(Fail), false, Standing::Failed),
            (CloudKey, Some(Aborted), false, Standing::Failed),
            (CloudKey, Some(Aborted), true, Standing::Unfinished),
            (CloudKey, Some(Pass), false, Standing::Unfinished),
        ] {
            assert_eq!(Standing::of(state, latest, stopped), standing, "{state:?} {latest:?} {stopped}");
        }
    }

    #[test]
    fn a_scrapped_unit_that_was_replaced_raises_the_plan() {
        use Standing::{Passed, Scrapped};
        let b = BatchBalance::new("B", &counts(2, &[Passed, Passed, Scrapped]), Vec::new());
        assert_eq!((b.planned, b.replaced, b.open(), b.sides()), (2, 1, 0, (3, 3)));
        let balance = Balance { batches: vec![b], ..Balance::default() };
        assert_eq!(balance.differences(), []);
        let over = BatchBalance::new("B", &counts(2, &[Passed, Passed, Passed]), Vec::new());
        let balance = Balance { batches: vec![over], ..Balance::default() };
        assert_eq!(balance.differences(), [Difference::Overrun { batch: "B".into(), units: 1 }]);
    }

    #[test]
    fn differences_name_what_causes_them() {
        use Standing::{Failed, Passed, Unfinished};
        let all = [Passed, Passed, Failed, Unfinished];
        let mut balance = Balance {
            batches: vec![BatchBalance::new("B", &counts(10, &all), units(&all))],
            unread: vec![Unread { fixture: "left".into(), attempts: 2, at_ms: 0, code: 105 }],
            ..Balance::default()
        };
        let counted = Counted { passed: Some(2), failed: Some(3), scrapped: None };
        balance.count(&vec![("B".into(), counted)]).unwrap();
        let told: Vec<_> = balance.differences().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "batch B: 3 failed were counted, the records have 1 (S-2)",
                "batch B: begun, but neither passed nor failed: S-3",
                "fixture left: 2 starts of a board that never told its id, the last at 1970-01-01T00:00:00.000Z (K105)",
            ]
        );
        assert_eq!(balance.count(&vec![("other".into(), counted)]), Err("other".into()));
        let sheet = balance.sheet("line-1");
        assert!(
            sheet.contains("planned 10 = 2 passed + 1 failed + 0 scrapped + 1 unfinished + 6 not started")
        );
        assert!(sheet.contains("counted:    2 passed, 3 failed, ___ scrapped"), "{sheet}");
        assert!(told.iter().all(|d| sheet.contains(d.as_str())), "{sheet}");
        let csv = balance.csv().unwrap();
        let row = csv.lines().nth(1).unwrap();
        assert!(row.ends_with("B,10,0,2,1,0,1,6,2,1,0,1,2,3,,"), "{row}");
        assert_eq!(row.split(',').count(), CSV_COLUMNS.len());
    }

    #[test]
    fn a_balance_goes_through_json_whole() {
        let all = [Standing::Passed, Standing::Failed];
        let balance = Balance {
            batches: vec![BatchBalance::new("B", &counts(3, &all), units(&all))],
            ..Balance::default()
        };
        let text = serde_json::to_string(&balance).unwrap();
        assert_eq!(serde_json::from_str::<Balance>(&text).unwrap(), balance, "{text}");
    }

    proptest! {
        /// Whatever happened to whichever units, both equations hold, and only counting can make more differences.
        #[test]
        fn it_always_adds_up(
            planned in 1u32..40,
            all in prop::collection::vec(0usize..4, 0..60),
            worked in 0usize..60,
            counted in (prop::option::of(0u32..40), prop::option::of(0u32..40), prop::option::of(0u32..40)),
        ) {
            let all: Vec<_> = all.into_iter().map(|i| Standing::ALL[i]).collect();
            let mine = units(&all[..worked.min(all.len())]);
            let b = BatchBalance::new("B", &counts(planned, &all), mine.clone());
            let (left, right) = b.sides();
            prop_assert_eq!(left, right);
            prop_assert_eq!(b.shift.sum() as usize, mine.len());
            prop_assert!(b.replaced == 0 || b.not_started == 0);
            let mut balance = Balance { batches: vec![b], ..Balance::default() };
            let before = balance.differences();
            let counted = Counted { passed: counted.0, failed: counted.1, scrapped: counted.2 };
            balance.count(&vec![("B".into(), counted)]).unwrap();
            let trays = balance.batches[0].shift;
            let off = [(counted.passed, trays.passed), (counted.failed, trays.failed), (counted.scrapped, trays.scrapped)];
            let off = off.iter().filter(|(c, t)| c.is_some_and(|c| c != *t)).count();
            prop_assert_eq!(balance.differences().len(), before.len() + off);
        }
    }
}
