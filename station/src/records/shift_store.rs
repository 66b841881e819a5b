//! Shifts, and the attempts that the line's figures are made of.
//!
//! A shift is a range of attempt numbers, so that a clock that jumps moves no unit from one shift to another. The first start opens one
//! (trigger `shift_opens`); here it is read, balanced and ended.

use super::order_store::reason_of;
use super::sqlite::{Inner, SqliteRecords, count_batch, json, now, parse_word, refused, word};
use super::*;
use crate::failure::FailureCode;
use crate::figures::Row;
use crate::shift::{
    Balance, BatchBalance, Counted, Counts, Ended, InWork, Shift, ShiftUnit, Standing, Trays, Unread,
};
use rusqlite::{Connection, OptionalExtension};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Which attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptRange {
    /// Those with a number above the first, up to the second.
    Numbers(i64, i64),
    /// Those that ended from the first moment on, before the second (Unix milliseconds).
    Ended(i64, i64),
}

impl AttemptRange {
    /// All there are.
    pub const ALL: Self = Self::Ended(i64::MIN, i64::MAX);

    /// Those of a shift.
    pub fn of(shift: &Shift) -> Self {
        Self::Numbers(shift.after_attempt, shift.ended.as_ref().map_or(i64::MAX, |e| e.last_attempt))
    }
}

/// No earlier attempt of the unit says anything about it. Most units have no earlier one, which the index tells by itself.
const FIRST: &str =
    "a.unit IS NOT NULL AND NOT EXISTS (SELECT 1 FROM attempt b WHERE b.unit = a.unit AND b.id < a.id AND b.kind = 'make'
                                        AND b.outcome <> 'ABORTED')";

fn figures_sql(range: AttemptRange, one_batch: bool) -> String {
    let columns = format!(
        "SELECT a.unit, a.fixture, a.started_at_ms, a.ended_at_ms, a.outcome, a.failure_code, {FIRST}"
    );
    let wanted = match (range, one_batch) {
        (AttemptRange::Numbers(..), false) => "FROM attempt a WHERE a.id > ?1 AND a.id <= ?2 AND ?3 IS NULL",
        (AttemptRange::Numbers(..), true) => "FROM attempt a WHERE a.id > ?1 AND a.id <= ?2 AND a.batch = ?3",
        (AttemptRange::Ended(..), false) => {
            "FROM attempt a INDEXED BY attempt_figures
             WHERE a.batch IN (SELECT id FROM batch WHERE ?3 IS NULL) AND a.ended_at_ms >= ?1 AND a.ended_at_ms < ?2"
        }
        (AttemptRange::Ended(..), true) => {
            "FROM attempt a INDEXED BY attempt_figures WHERE a.batch = ?3 AND a.ended_at_ms >= ?1 AND a.ended_at_ms < ?2"
        }
    };
    format!("{columns} {wanted} AND a.kind = 'make' AND a.ended_at_ms IS NOT NULL")
}

const SHIFT_COLUMNS: &str = "SELECT id, opened_at_ms, opened_by, after_attempt, ended_at_ms, ended_by, last_attempt, differences, reason FROM shift";

fn shift_row(r: &rusqlite::Row<'_>) -> rusqlite::Result<Shift> {
    let ended = match r.get::<_, Option<i64>>(4)? {
        None => None,
        Some(at_ms) => Some(Ended {
            at_ms,
            by: r.get(5)?,
            last_attempt: r.get(6)?,
            differences: json(r, 7)?.unwrap_or_default(),
            reason: r.get(8)?,
        }),
    };
    Ok(Shift {
        number: r.get(0)?,
        opened_at_ms: r.get(1)?,
        opened_by: r.get(2)?,
        after_attempt: r.get(3)?,
        ended,
    })
}

fn open_shift(c: &Connection) -> rusqlite::Result<Option<Shift>> {
    c.prepare_cached(&format!("{SHIFT_COLUMNS} WHERE ended_at_ms IS NULL"))?
        .query_row([], shift_row)
        .optional()
}

/// What a shift that ended left behind.
fn kept(c: &Connection, shift: Shift) -> rusqlite::Result<Balance> {
    let batches = c
        .prepare_cached(
            "SELECT b.name, s.planned, s.replaced, s.passed, s.failed, s.scrapped, s.unfinished, s.not_started,
                    s.shift_passed, s.shift_failed, s.shift_scrapped, s.shift_unfinished,
                    s.counted_passed, s.counted_failed, s.counted_scrapped
             FROM shift_batch s JOIN batch b ON b.id = s.batch WHERE s.shift = ?1 ORDER BY b.name",
        )?
        .query_map([shift.number], |r| {
            let trays = |at: usize| -> rusqlite::Result<Trays> {
                Ok(Trays {
                    passed: r.get(at)?,
                    failed: r.get(at + 1)?,
                    scrapped: r.get(at + 2)?,
                    unfinished: r.get(at + 3)?,
                })
            };
            Ok(BatchBalance {
                batch: r.get(0)?,
                planned: r.get(1)?,
                replaced: r.get(2)?,
                all: trays(3)?,
                not_started: r.get(7)?,
                shift: trays(8)?,
                counted: Counted { passed: r.get(12)?, failed: r.get(13)?, scrapped: r.get(14)? },
                units: Vec::new(),
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Balance { shift, batches, ..Balance::default() })
}

/// How an open shift stands.
fn balance(c: &Connection, shift: Shift) -> rusqlite::Result<Balance> {
    let AttemptRange::Numbers(after, last) = AttemptRange::of(&shift) else {
        return Ok(Balance { shift, ..Balance::default() });
    };
    let in_work = c
        .prepare_cached(
            "SELECT a.fixture, u.serial FROM attempt a LEFT JOIN unit u ON u.id = a.unit WHERE a.outcome IS NULL ORDER BY a.fixture",
        )?
        .query_map([], |r| Ok(InWork { fixture: r.get(0)?, serial: r.get(1)? }))?
        .collect::<rusqlite::Result<_>>()?;
    // A batch whose boards were never read is one of the shift's as well: its plan is looked at.
    let mut batches: BTreeMap<i64, Vec<ShiftUnit>> = c
        .prepare_cached("SELECT DISTINCT batch FROM attempt WHERE id > ?1 AND id <= ?2 AND kind = 'make'")?
        .query_map([after, last], |r| Ok((r.get(0)?, Vec::new())))?
        .collect::<rusqlite::Result<_>>()?;
    let mut units = c.prepare_cached(
        "SELECT u.batch, u.serial, u.state, l.outcome, l.failure_code
         FROM (SELECT DISTINCT unit FROM attempt WHERE id > ?1 AND id <= ?2 AND kind = 'make' AND unit IS NOT NULL) w
         JOIN unit u ON u.id = w.unit LEFT JOIN attempt l ON l.id = (SELECT max(id) FROM attempt WHERE unit = u.id)
         ORDER BY u.id",
    )?;
    let mut rows = units.query([after, last])?;
    while let Some(r) = rows.next()? {
        let standing = standing(r, 2, 3, 4)?;
        batches.entry(r.get(0)?).or_default().push(ShiftUnit { serial: r.get(1)?, standing });
    }
    let mut list = Vec::with_capacity(batches.len());
    for (batch, units) in batches {
        let (name, planned): (String, u32) = c
            .prepare_cached("SELECT name, quantity FROM batch WHERE id = ?1")?
            .query_row([batch], |r| Ok((r.get(0)?, r.get(1)?)))?;
        list.push(BatchBalance::new(name, &count_batch(c, batch, planned)?, units));
    }
    list.sort_by(|a, b| a.batch.cmp(&b.batch));
    Ok(Balance { unread: unread(c, after, last)?, shift, in_work, batches: list })
}

/// Where a unit stands, from its state and its latest attempt's outcome and code.
pub(super) fn standing(
    r: &rusqlite::Row<'_>,
    state: usize,
    outcome: usize,
    code: usize,
) -> rusqlite::Result<Standing> {
    let latest = r.get::<_, Option<String>>(outcome)?.map(|t| parse_word(&t, outcome)).transpose()?;
    let stopped = r.get::<_, Option<u16>>(code)? == Some(FailureCode::StationStopped.number());
    Ok(Standing::of(word(r, state)?, latest, stopped))
}

/// Starts that ended by the board's fault before it told its id. The next board at that fixture that does is taken for the same one,
/// seated better. A board that the records refused (K6xx: quarantined, scrapped, of another batch) did tell its id.
fn unread(c: &Connection, after: i64, last: i64) -> rusqlite::Result<Vec<Unread>> {
    let mut by_fixture: BTreeMap<String, Unread> = BTreeMap::new();
    let mut statement = c.prepare_cached(
        "SELECT fixture, unit IS NOT NULL, outcome IN ('FAIL', 'TIMEOUT') AND failure_code NOT BETWEEN 600 AND 699,
                ended_at_ms, failure_code FROM attempt
         WHERE id > ?1 AND id <= ?2 AND kind = 'make' ORDER BY id",
    )?;
    let mut rows = statement.query([after, last])?;
    while let Some(r) = rows.next()? {
        let fixture: String = r.get(0)?;
        if r.get(1)? {
            by_fixture.remove(&fixture);
        } else if r.get::<_, Option<bool>>(2)? == Some(true) {
            let (at_ms, code) = (r.get(3)?, r.get(4)?);
            let found =
                by_fixture.entry(fixture.clone()).or_insert(Unread { fixture, attempts: 0, at_ms, code });
            (found.attempts, found.at_ms, found.code) = (found.attempts + 1, at_ms, code);
        }
    }
    Ok(by_fixture.into_values().collect())
}

/// The end of a shift, as somebody wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndShift {
    /// The number of the shift that was looked at: another one is not ended in its place.
    pub number: i64,
    /// Who ends it.
    pub operator: String,
    /// What was counted.
    pub counted: Counts,
    /// Why it ends although something does not balance; may be empty if everything does.
    pub reason: String,
}

fn no_shift(facts: impl std::fmt::Display) -> RecordsError {
    refused(FailureCode::NoShift, facts)
}

impl SqliteRecords {
    /// Hands every attempt of a range to `each`: those that made, or were to make, a unit, and that ended. The order is not told.
    ///
    /// # Errors
    /// Those of reading.
    pub fn attempt_rows(
        &self,
        range: AttemptRange,
        batch: Option<BatchId>,
        mut each: impl FnMut(Row),
    ) -> Result<(), RecordsError> {
        let (AttemptRange::Numbers(from, to) | AttemptRange::Ended(from, to)) = range;
        self.0.read(|c| {
            let mut statement = c.prepare_cached(&figures_sql(range, batch.is_some()))?;
            let mut rows = statement.query((from, to, batch.map(|b| b.0)))?;
            let mut fixtures: HashMap<String, Arc<str>> = HashMap::new();
            while let Some(r) = rows.next()? {
                let name = r.get_ref(1)?.as_str()?;
                let fixture = match fixtures.get(name) {
                    Some(known) => known.clone(),
                    None => fixtures.entry(name.to_owned()).or_insert_with(|| name.into()).clone(),
                };
                each(Row {
                    unit: r.get(0)?,
                    fixture,
                    started_ms: r.get(2)?,
                    ended_ms: r.get(3)?,
                    outcome: parse_word(r.get_ref(4)?.as_str()?, 4)?,
                    code: r.get(5)?,
                    first: r.get(6)?,
                });
            }
            Ok(())
        })
    }

    /// Something that differs after every start, end and change of a unit, and costs next to nothing to read.
    ///
    /// # Errors
    /// Those of reading.
    pub fn pulse(&self) -> Result<[i64; 5], RecordsError> {
        self.0.read(|c| {
            c.prepare_cached(
                "SELECT coalesce((SELECT max(id) FROM attempt), 0), coalesce((SELECT max(seq) FROM unit_event), 0),
                        (SELECT count(*) FROM attempt WHERE outcome IS NULL), coalesce((SELECT max(id) FROM shift), 0),
                        (SELECT count(*) FROM shift WHERE ended_at_ms IS NULL)",
            )?
            .query_row([], |r| Ok([r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?]))
        })
    }

    /// The shift that is open.
    ///
    /// # Errors
    /// Those of reading.
    pub fn open_shift(&self) -> Result<Option<Shift>, RecordsError> {
        self.0.read(open_shift)
    }

    /// How the open shift stands; `None`: none is open.
    ///
    /// # Errors
    /// Those of reading.
    pub fn shift_balance(&self) -> Result<Option<Balance>, RecordsError> {
        self.0.read(|c| open_shift(c)?.map(|shift| balance(c, shift)).transpose())
    }

    /// A shift by its number: as it stands, or as it ended.
    ///
    /// # Errors
    /// `NotFound`; those of reading.
    pub fn shift(&self, number: i64) -> Result<Balance, RecordsError> {
        let found = self.0.read(|c| {
            let shift = c
                .prepare_cached(&format!("{SHIFT_COLUMNS} WHERE id = ?1"))?
                .query_row([number], shift_row)
                .optional()?;
            match shift {
                Some(shift) if shift.ended.is_some() => kept(c, shift).map(Some),
                Some(shift) => balance(c, shift).map(Some),
                None => Ok(None),
            }
        })?;
        found.ok_or_else(|| self.0.missing("shift", number, "shift list"))
    }

    /// Shifts that ended, newest first.
    ///
    /// # Errors
    /// Those of reading.
    pub fn shifts(&self, at_most: u32) -> Result<Vec<Balance>, RecordsError> {
        self.0.read(|c| {
            let ended: Vec<Shift> = c
                .prepare_cached(&format!(
                    "{SHIFT_COLUMNS} WHERE ended_at_ms IS NOT NULL ORDER BY id DESC LIMIT ?1"
                ))?
                .query_map([at_most], shift_row)?
                .collect::<rusqlite::Result<_>>()?;
            ended.into_iter().map(|shift| kept(c, shift)).collect()
        })
    }

    /// Opens a shift before its first start; one that is open stays the open one.
    ///
    /// # Errors
    /// Those of writing.
    pub fn begin_shift(&self, operator: &str) -> Result<Shift, RecordsError> {
        let (operator, clock) = (operator.to_owned(), self.0.clock.clone());
        self.0.write(move |tx| {
            let c = tx.connection;
            if let Some(shift) = open_shift(c).map_err(|e| tx.map(e))? {
                return Ok(shift);
            }
            c.execute(
                "INSERT INTO shift (opened_at_ms, opened_by, after_attempt)
                 VALUES (?1, ?2, coalesce((SELECT max(id) FROM attempt), 0))",
                (now(&clock), &operator),
            )
            .map_err(|e| tx.map(e))?;
            open_shift(c).map_err(|e| tx.map(e))?.ok_or_else(|| no_shift(""))
        })
    }

    /// Ends the open shift, with its balance as it is at that moment and what was counted.
    ///
    /// # Errors
    /// `NoShift`; `ShiftBusy` with the fixtures that are in work; `ShiftDiffers` with what does not balance, if no reason is given.
    pub fn end_shift(&self, end: EndShift) -> Result<Balance, RecordsError> {
        let reason = reason_of(&end.reason)?;
        let clock = self.0.clock.clone();
        self.0.write(move |tx| {
            let c = tx.connection;
            let map = |e| tx.map(e);
            let shift = open_shift(c).map_err(map)?.ok_or_else(|| no_shift(""))?;
            if shift.number != end.number {
                return Err(no_shift(format_args!("number {} has ended already", end.number)));
            }
            let mut balance = balance(c, shift).map_err(map)?;
            if !balance.in_work.is_empty() {
                let fixtures: Vec<_> = balance.in_work.iter().map(|w| w.fixture.as_str()).collect();
                return Err(refused(FailureCode::ShiftBusy, fixtures.join(", ")));
            }
            balance.count(&end.counted).map_err(|batch| {
                let facts = format!("batch {batch}: this shift did not work on it");
                refused(FailureCode::InvalidInput, facts)
            })?;
            let differences = balance.differences();
            if !differences.is_empty() && reason.is_empty() {
                let told: Vec<_> = differences.iter().map(ToString::to_string).collect();
                return Err(refused(FailureCode::ShiftDiffers, told.join("; ")));
            }
            let last_attempt: i64 = c
                .query_row("SELECT coalesce(max(id), 0) FROM attempt", [], |r| r.get(0))
                .map_err(map)?;
            for b in &balance.batches {
                keep(c, balance.shift.number, b).map_err(map)?;
            }
            let kept = serde_json::to_string(&differences)
                .map_err(|e| RecordsError::Other { path: tx.path.into(), detail: e.to_string() })?;
            let at_ms = now(&clock);
            c.execute(
                "UPDATE shift SET ended_at_ms = ?2, ended_by = ?3, last_attempt = ?4, differences = ?5, reason = ?6 WHERE id = ?1",
                (balance.shift.number, at_ms, &end.operator, last_attempt, &kept, &reason),
            )
            .map_err(map)?;
            balance.shift.ended = Some(Ended { at_ms, by: end.operator, last_attempt, differences, reason });
            Ok(balance)
        })
    }
}

fn keep(c: &Connection, shift: i64, b: &BatchBalance) -> rusqlite::Result<()> {
    c.prepare_cached(
        "INSERT INTO shift_batch (shift, batch, planned, replaced, passed, failed, scrapped, unfinished, not_started, shift_passed,
                                  shift_failed, shift_scrapped, shift_unfinished, counted_passed, counted_failed, counted_scrapped)
         VALUES (?1, (SELECT id FROM batch WHERE name = ?2), ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    )?
    .execute(rusqlite::params![
        shift,
        b.batch,
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
        b.counted.passed,
        b.counted.failed,
        b.counted.scrapped,
    ])
    .map(drop)
}

impl Inner {
    /// How SQLite finds the rows of the figures: for the test that it never reads a whole table.
    #[cfg(test)]
    fn figures_plan(&self, range: AttemptRange, one_batch: bool) -> Vec<String> {
        self.read(|c| {
            c.prepare(&format!("EXPLAIN QUERY PLAN {}", figures_sql(range, one_batch)))?
                .query_map((0, i64::MAX, one_batch.then_some(1)), |r| r.get(3))?
                .collect()
        })
        .expect("a plan")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::{KdfCost, Passphrase};

    #[test]
    fn figures_are_read_by_indexes_and_without_the_proofs() {
        let home = tempfile::tempdir().unwrap();
        let options = OpenOptions { cost: KdfCost::TEST, ..OpenOptions::new("bench-1") };
        let records =
            SqliteRecords::open_with(&home.path().join("station.db"), options, &Passphrase::demo()).unwrap();
        for one_batch in [false, true] {
            let plan = records.0.figures_plan(AttemptRange::ALL, one_batch).join("\n");
            assert!(
                plan.contains("SEARCH a USING COVERING INDEX attempt_figures (batch=? AND ended_at_ms>? AND ended_at_ms<?)"),
                "{plan}"
            );
            let shift = records.0.figures_plan(AttemptRange::Numbers(0, 9), one_batch).join("\n");
            let by = match one_batch {
                true => "SEARCH a USING INDEX attempt_by_batch (batch=? AND id>? AND id<?)",
                false => "SEARCH a USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
            };
            assert!(shift.contains(by), "{shift}");
            for plan in [plan, shift] {
                assert!(plan.contains("SEARCH b USING INDEX attempt_by_unit (unit=? AND id<?)"), "{plan}");
                let scans: Vec<_> = plan.lines().filter(|l| l.starts_with("SCAN")).collect();
                // Batches are few; all others are looked up.
                assert!(scans.iter().all(|l| l.starts_with("SCAN batch")), "{plan}");
            }
        }
    }
}
