//! Figures of the line: how fast, how often at the first try, how long, and what for.
//!
//! Pure functions over attempts; the rows come from `records`, definitions and worked examples are in `docs/shift.md`.
//!
//! Invariants:
//! - Only attempts that make units and that ended are counted; new keys for units that passed are no work of the line.
//! - A cancelled attempt (ABORTED) says nothing about a unit: it is counted by itself and in no other figure.
//! - A unit is counted once, however often it was tried or passed.

use crate::failure::FailureCode;
use crate::model::Outcome;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

const MINUTE: i64 = 60_000;
/// The finest interval of a trend.
pub const QUARTER: i64 = 15 * MINUTE;
const HOUR: i64 = 4 * QUARTER;
const DAY: i64 = 24 * HOUR;

/// A pause longer than this is no time of work.
pub const PAUSE: i64 = QUARTER;
/// Units per hour are not told from fewer passes than this.
pub const FEWEST_PASSES: u32 = 3;
/// Bars of a histogram at most, the open one included.
pub const MOST_BARS: usize = 20;
/// Widths of a histogram's bars, seconds.
const WIDTHS: [u32; 13] = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 1800, 3600];

/// One attempt that made, or was to make, a unit, and that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Row of its unit; `None`: its id was never learnt.
    pub unit: Option<i64>,
    /// Fixture name.
    pub fixture: Arc<str>,
    /// Unix milliseconds.
    pub started_ms: i64,
    /// Unix milliseconds, never before the start.
    pub ended_ms: i64,
    /// How it ended.
    pub outcome: Outcome,
    /// Why not PASS.
    pub code: Option<u16>,
    /// No attempt of its unit before it came to an end that says something about the unit.
    pub first: bool,
}

/// What the figures are of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Only this fixture; the figures by fixture are of all.
    pub fixture: Option<String>,
    /// How far local time is ahead of UTC, so that hours and days are those on the wall.
    pub offset_ms: i64,
}

/// How long units took, from start to PASS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cycle {
    /// Half of them took no longer.
    pub median_ms: u32,
    /// Nine in ten took no longer.
    pub p90_ms: u32,
    /// Width of a bar.
    pub width_ms: u32,
    /// Passes by bar: bar `i` holds those of `i × width` and more, but less than `(i + 1) × width`.
    pub bars: Vec<u32>,
    /// The last bar has no upper end.
    pub open_ended: bool,
}

/// What came to an end within one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Interval {
    /// Its begin, Unix milliseconds.
    pub at_ms: i64,
    /// Units that passed.
    pub passed: u32,
    /// Attempts that ended with FAIL, ERROR or TIMEOUT.
    pub not_passed: u32,
    /// Units that had their first attempt.
    pub first_tries: u32,
    /// Of them those that passed.
    pub first_passes: u32,
}

impl Interval {
    /// First-pass yield, 0 to 1.
    pub fn first_pass_yield(&self) -> Option<f64> {
        share(self.first_passes, self.first_tries)
    }
}

/// One failure code and its part in all that did not pass.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cause {
    /// Its number.
    pub code: u16,
    /// Attempts that it ended.
    pub count: u32,
    /// Of all that did not pass, 0 to 1.
    pub share: f64,
    /// Together with the more frequent ones.
    pub cumulative: f64,
}

impl Cause {
    /// The code, if this program knows it.
    pub fn known(&self) -> Option<FailureCode> {
        FailureCode::ALL.iter().copied().find(|c| c.number() == self.code)
    }
}

/// One fixture's part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FixtureFigures {
    /// Its name.
    pub fixture: String,
    /// Attempts, cancelled ones too.
    pub attempts: u32,
    /// Units that passed in it.
    pub passed: u32,
    /// Attempts that ended with FAIL, ERROR or TIMEOUT.
    pub not_passed: u32,
    /// Units that had their first attempt in it.
    pub first_tries: u32,
    /// Of them those that passed.
    pub first_passes: u32,
    /// Half of its passes took no longer.
    pub median_ms: Option<u32>,
}

impl FixtureFigures {
    /// First-pass yield, 0 to 1.
    pub fn first_pass_yield(&self) -> Option<f64> {
        share(self.first_passes, self.first_tries)
    }
}

/// Everything that is told of a range.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Attempts that ended, cancelled ones too.
    pub attempts: u32,
    /// Units that passed.
    pub passed: u32,
    /// Attempts that ended with FAIL, ERROR or TIMEOUT.
    pub not_passed: u32,
    /// Attempts that were cancelled, or that ended with the station.
    pub cancelled: u32,
    /// Units that had their first attempt.
    pub first_tries: u32,
    /// Of them those that passed.
    pub first_passes: u32,
    /// Time of work: attempts and the pauses between them that are not longer than [`PAUSE`].
    pub worked_ms: i64,
    /// How long units took.
    pub cycle: Option<Cycle>,
    /// Length of the trend's intervals.
    pub interval_ms: i64,
    /// Intervals in which anything ended, oldest first.
    pub trend: Vec<Interval>,
    /// Why attempts did not pass, the most frequent first.
    pub causes: Vec<Cause>,
    /// By fixture, by name; of all fixtures, whichever was asked for.
    pub fixtures: Vec<FixtureFigures>,
}

impl Figures {
    /// Units that passed by hours of work; `None` below [`FEWEST_PASSES`].
    pub fn per_hour(&self) -> Option<f64> {
        (self.passed >= FEWEST_PASSES && self.worked_ms > 0)
            .then(|| f64::from(self.passed) * HOUR as f64 / self.worked_ms as f64)
    }

    /// First-pass yield, 0 to 1.
    pub fn first_pass_yield(&self) -> Option<f64> {
        share(self.first_passes, self.first_tries)
    }
}

fn share(part: u32, of: u32) -> Option<f64> {
    (of > 0).then(|| f64::from(part) / f64::from(of))
}

/// The smallest value that at least this share (percent) of all does not exceed: the nearest rank.
fn percentile(sorted: &[u32], percent: usize) -> Option<u32> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.max(1) - 1).copied()
}

#[derive(Default)]
struct Place {
    figures: FixtureFigures,
    cycles: Vec<u32>,
    passed: HashSet<i64>,
}

/// Takes rows one by one, so that a million of them need not be in memory.
#[derive(Default)]
pub struct Tally {
    frame: Frame,
    figures: Figures,
    passed: HashSet<i64>,
    cycles: Vec<u32>,
    spans: Vec<(i64, i64)>,
    quarters: BTreeMap<i64, Interval>,
    causes: BTreeMap<u16, u32>,
    places: HashMap<Arc<str>, Place>,
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tally").field("frame", &self.frame).finish_non_exhaustive()
    }
}

impl Tally {
    /// An empty one.
    pub fn new(frame: Frame) -> Self {
        Self { frame, ..Self::default() }
    }

    /// Takes one attempt in; the order does not matter.
    pub fn add(&mut self, row: &Row) {
        let took = u32::try_from((row.ended_ms - row.started_ms).max(0)).unwrap_or(u32::MAX);
        let pass = row.outcome == Outcome::Pass;
        let counts = row.outcome != Outcome::Aborted;
        let first = counts && row.first && row.unit.is_some();
        if !self.places.contains_key(&row.fixture) {
            let figures = FixtureFigures { fixture: row.fixture.to_string(), ..FixtureFigures::default() };
            self.places.insert(row.fixture.clone(), Place { figures, ..Place::default() });
        }
        if let Some(place) = self.places.get_mut(&row.fixture) {
            let here = &mut place.figures;
            here.attempts += 1;
            here.first_tries += u32::from(first);
            here.first_passes += u32::from(first && pass);
            here.not_passed += u32::from(counts && !pass);
            if let (true, Some(unit)) = (pass, row.unit) {
                here.passed += u32::from(place.passed.insert(unit));
                place.cycles.push(took);
            }
        }
        if self.frame.fixture.as_deref().is_some_and(|only| only != &*row.fixture) {
            return;
        }
        let all = &mut self.figures;
        all.attempts += 1;
        self.extend_work(row.started_ms, row.ended_ms);
        if !counts {
            self.figures.cancelled += 1;
            return;
        }
        let local = row.ended_ms + self.frame.offset_ms;
        let at_ms = local.div_euclid(QUARTER) * QUARTER - self.frame.offset_ms;
        let quarter = self.quarters.entry(at_ms).or_insert(Interval { at_ms, ..Interval::default() });
        let all = &mut self.figures;
        all.first_tries += u32::from(first);
        all.first_passes += u32::from(first && pass);
        quarter.first_tries += u32::from(first);
        quarter.first_passes += u32::from(first && pass);
        if pass {
            self.cycles.push(took);
            if row.unit.is_some_and(|unit| self.passed.insert(unit)) {
                all.passed += 1;
                quarter.passed += 1;
            }
        } else {
            all.not_passed += 1;
            quarter.not_passed += 1;
            if let Some(code) = row.code {
                *self.causes.entry(code).or_default() += 1;
            }
        }
    }

    /// Rows come nearly in order, so most join the newest span and a year of work is a list of its pauses.
    fn extend_work(&mut self, from: i64, to: i64) {
        match self.spans.last_mut() {
            Some((a, b)) if from >= *a - PAUSE && from <= *b + PAUSE => {
                *a = from.min(*a);
                *b = to.max(*b);
            }
            _ => self.spans.push((from, to)),
        }
    }

    /// The figures.
    pub fn finish(mut self) -> Figures {
        let mut all = self.figures;
        all.worked_ms = worked(&mut self.spans);
        all.cycle = cycle(&mut self.cycles);
        (all.interval_ms, all.trend) = trend(&self.quarters, self.frame.offset_ms);
        all.causes = causes(self.causes);
        all.fixtures = self
            .places
            .into_values()
            .map(|mut place| {
                place.cycles.sort_unstable();
                FixtureFigures { median_ms: percentile(&place.cycles, 50), ..place.figures }
            })
            .collect();
        all.fixtures.sort_by(|a, b| a.fixture.cmp(&b.fixture));
        all
    }
}

/// The figures of these attempts.
pub fn figures<'a>(rows: impl IntoIterator<Item = &'a Row>, frame: Frame) -> Figures {
    let mut tally = Tally::new(frame);
    rows.into_iter().for_each(|row| tally.add(row));
    tally.finish()
}

/// Length of what these spans cover, pauses up to [`PAUSE`] included.
fn worked(spans: &mut [(i64, i64)]) -> i64 {
    spans.sort_unstable();
    let (mut sum, mut current) = (0, None::<(i64, i64)>);
    for &(from, to) in spans.iter() {
        current = Some(match current {
            Some((a, b)) if from <= b + PAUSE => (a, to.max(b)),
            Some((a, b)) => {
                sum += b - a;
                (from, to)
            }
            None => (from, to),
        });
    }
    sum + current.map_or(0, |(a, b)| b - a)
}

fn cycle(cycles: &mut [u32]) -> Option<Cycle> {
    cycles.sort_unstable();
    let (median_ms, p90_ms) = (percentile(cycles, 50)?, percentile(cycles, 90)?);
    // A unit that somebody forgot in its fixture must not press all others into one bar.
    let most = percentile(cycles, 99)?;
    let fits = |seconds: &u32| (most / (seconds * 1000)) as usize + 1 < MOST_BARS;
    let width_ms = WIDTHS.iter().copied().find(fits).unwrap_or(WIDTHS[WIDTHS.len() - 1]) * 1000;
    let closed = ((most / width_ms) as usize + 1).min(MOST_BARS - 1);
    let open_ended = cycles.last().is_some_and(|last| (last / width_ms) as usize >= closed);
    let mut bars = vec![0; closed + usize::from(open_ended)];
    for took in cycles.iter() {
        bars[((took / width_ms) as usize).min(closed)] += 1;
    }
    Some(Cycle { median_ms, p90_ms, width_ms, bars, open_ended })
}

/// Quarters of an hour become hours, and hours days, as the range grows.
fn trend(quarters: &BTreeMap<i64, Interval>, offset_ms: i64) -> (i64, Vec<Interval>) {
    let (Some(first), Some(last)) = (quarters.keys().next(), quarters.keys().next_back()) else {
        return (QUARTER, Vec::new());
    };
    let interval = match last - first {
        span if span < 12 * HOUR => QUARTER,
        span if span < 3 * DAY => HOUR,
        _ => DAY,
    };
    let mut trend: Vec<Interval> = Vec::new();
    for quarter in quarters.values() {
        let at_ms = (quarter.at_ms + offset_ms).div_euclid(interval) * interval - offset_ms;
        match trend.last_mut() {
            Some(open) if open.at_ms == at_ms => {
                open.passed += quarter.passed;
                open.not_passed += quarter.not_passed;
                open.first_tries += quarter.first_tries;
                open.first_passes += quarter.first_passes;
            }
            _ => trend.push(Interval { at_ms, ..*quarter }),
        }
    }
    (interval, trend)
}

fn causes(counted: BTreeMap<u16, u32>) -> Vec<Cause> {
    let all: u32 = counted.values().sum();
    let mut list: Vec<_> = counted.into_iter().collect();
    list.sort_by_key(|(code, count)| (std::cmp::Reverse(*count), *code));
    let mut sum = 0;
    list.into_iter()
        .map(|(code, count)| {
            sum += count;
            let part = |n: u32| f64::from(n) / f64::from(all);
            Cause { code, count, share: part(count), cumulative: part(sum) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six in the morning, UTC.
    const SIX: i64 = 1_790_748_000_000;

    fn row(unit: i64, minute: f64, seconds: u32, outcome: Outcome, code: Option<FailureCode>) -> Row {
        let started_ms = SIX + (minute * 60_000.0) as i64;
        Row {
            unit: Some(unit).filter(|u| *u > 0),
            fixture: "left".into(),
            started_ms,
            ended_ms: started_ms + i64::from(seconds) * 1000,
            outcome,
            code: code.map(FailureCode::number),
            first: true,
        }
    }

    fn pass(unit: i64, minute: f64, seconds: u32) -> Row {
        row(unit, minute, seconds, Outcome::Pass, None)
    }

    fn again(row: Row) -> Row {
        Row { first: false, ..row }
    }

    fn of(rows: &[Row]) -> Figures {
        figures(rows, Frame::default())
    }

    #[test]
    fn six_is_six() {
        assert_eq!(SIX.rem_euclid(DAY), 6 * HOUR);
    }

    /// Worked by hand in docs/shift.md: five boards, one that failed once, one cancelled, one that was never read.
    #[test]
    fn the_example_of_the_document() {
        let silent = Some(FailureCode::DeviceSilent);
        let rows = [
            pass(1, 0.0, 20),
            row(2, 1.0, 30, Outcome::Timeout, silent),
            again(pass(2, 2.0, 24)),
            row(3, 3.0, 5, Outcome::Aborted, Some(FailureCode::Cancelled)),
            pass(3, 4.0, 22),
            row(4, 5.0, 40, Outcome::Fail, Some(FailureCode::VerifyFailed)),
            row(0, 6.0, 10, Outcome::Fail, Some(FailureCode::NoTarget)),
            again(row(4, 7.0, 60, Outcome::Timeout, silent)),
        ];
        let f = of(&rows);
        assert_eq!((f.attempts, f.passed, f.not_passed, f.cancelled), (8, 3, 4, 1));
        // Units 1, 2, 3 and 4 had a first attempt; 1 and 3 passed with it.
        assert_eq!((f.first_tries, f.first_passes, f.first_pass_yield()), (4, 2, Some(0.5)));
        // From 6:00 to 6:08 without a long pause: three units in eight minutes.
        assert_eq!(f.worked_ms, 8 * MINUTE);
        assert_eq!(f.per_hour(), Some(22.5));
        let cycle = f.cycle.unwrap();
        assert_eq!((cycle.median_ms, cycle.p90_ms), (22_000, 24_000));
        let causes: Vec<_> = f.causes.iter().map(|c| (c.code, c.count, c.share, c.cumulative)).collect();
        assert_eq!(causes, [(304, 2, 0.5, 0.5), (105, 1, 0.25, 0.75), (207, 1, 0.25, 1.0)]);
        assert_eq!(f.interval_ms, QUARTER);
        let only = Interval { at_ms: SIX, passed: 3, not_passed: 4, first_tries: 4, first_passes: 2 };
        assert_eq!(f.trend, [only]);
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        let f = of(&[]);
        assert_eq!((f.per_hour(), f.first_pass_yield(), f.cycle.as_ref()), (None, None, None));
        assert!(f.trend.is_empty() && f.causes.is_empty() && f.fixtures.is_empty());
        let f = of(&[row(1, 0.0, 5, Outcome::Aborted, Some(FailureCode::Cancelled))]);
        assert_eq!((f.attempts, f.cancelled, f.first_pass_yield()), (1, 1, None));
        assert!(f.trend.is_empty(), "a cancelled attempt is no bar");
        assert_eq!(of(&[pass(1, 0.0, 20), pass(2, 1.0, 20)]).per_hour(), None, "two passes are no speed");
    }

    #[test]
    fn a_unit_counts_once_however_often_it_passes() {
        let f = of(&[pass(1, 0.0, 60), again(pass(1, 5.0, 60)), again(pass(1, 9.0, 60))]);
        assert_eq!((f.passed, f.first_tries, f.first_passes), (1, 1, 1));
        assert_eq!(f.trend[0].passed, 1);
    }

    #[test]
    fn a_long_pause_is_no_work_and_a_short_one_is() {
        // 6:00–6:01, 6:16–6:17 (a pause of a quarter of an hour), 7:00–7:02: 17 minutes and 2.
        let f = of(&[pass(1, 0.0, 60), pass(2, 16.0, 60), pass(3, 60.0, 120)]);
        assert_eq!(f.worked_ms, 19 * MINUTE);
        // Two fixtures at a time do not make the hour longer, whichever row comes first.
        let f = of(&[pass(3, 60.0, 120), pass(2, 0.5, 60), pass(1, 0.0, 60)]);
        assert_eq!(f.worked_ms, 90_000 + 2 * MINUTE);
        // A clock that was set back while a row was written costs nothing and gains nothing.
        let f = of(&[pass(1, 0.0, 60), Row { ended_ms: SIX, ..pass(2, 0.0, 0) }]);
        assert_eq!(f.worked_ms, MINUTE);
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let ten: Vec<u32> = (1..=10).collect();
        assert_eq!([1, 50, 51, 90, 91, 100].map(|p| percentile(&ten, p).unwrap()), [1, 5, 6, 9, 10, 10]);
        assert_eq!(percentile(&[7], 90), Some(7));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn a_histogram_holds_every_pass_in_few_bars() {
        // 20 to 29 s, and one unit that somebody forgot for an hour.
        let mut rows: Vec<_> = (0..200).map(|i| pass(i + 1, i as f64, 20 + (i % 10) as u32)).collect();
        rows.push(pass(500, 300.0, 3600));
        let cycle = of(&rows).cycle.unwrap();
        assert_eq!((cycle.width_ms, cycle.open_ended), (2000, true));
        // 0–1 s … 28–29 s, and the open bar.
        assert_eq!(cycle.bars.len(), 16);
        assert_eq!(cycle.bars[10..], [40, 40, 40, 40, 40, 1]);
        assert_eq!(cycle.bars.iter().sum::<u32>(), 201);
        for seconds in [0, 1, 19, 20, 59, 600, 3599, 3600, 100_000, u32::MAX / 1000] {
            let cycle = of(&[pass(1, 0.0, seconds)]).cycle.unwrap();
            assert_eq!(cycle.bars.iter().sum::<u32>(), 1, "{seconds} s");
            assert!(cycle.bars.len() <= MOST_BARS, "{seconds} s: {cycle:?}");
        }
    }

    #[test]
    fn intervals_grow_with_the_range_and_follow_the_wall_clock() {
        let at = |hours: i64| pass(hours + 1, hours as f64 * 60.0, 30);
        assert_eq!(of(&[at(0), at(11)]).interval_ms, QUARTER);
        let hours = of(&[at(0), at(12), at(13)]);
        assert_eq!((hours.interval_ms, hours.trend.len()), (HOUR, 3));
        let rows = [at(0), at(17), at(18), at(100)];
        let days = of(&rows);
        assert_eq!((days.interval_ms, days.trend.len()), (DAY, 3), "6:00 and 23:00 are one day in UTC");
        // In India it is 11:30, and 17 hours later it is tomorrow.
        let frame = Frame { offset_ms: 5 * HOUR + HOUR / 2, ..Frame::default() };
        let india = figures(&rows, frame);
        let midnight = |t: &Interval| (t.at_ms + 5 * HOUR + HOUR / 2).rem_euclid(DAY);
        assert!(india.trend.iter().all(|t| midnight(t) == 0), "{:?}", india.trend);
        assert_eq!(india.trend.iter().map(|t| t.passed).collect::<Vec<_>>(), [1, 2, 1]);
    }

    #[test]
    fn one_fixture_is_told_apart_and_all_are_listed() {
        let right = |row: Row| Row { fixture: "right".into(), ..row };
        let rows = [
            pass(1, 0.0, 20),
            pass(2, 1.0, 30),
            pass(3, 2.0, 40),
            right(row(4, 0.0, 50, Outcome::Error, Some(FailureCode::PortLost))),
            right(again(pass(4, 2.0, 60))),
            right(row(5, 4.0, 1, Outcome::Aborted, Some(FailureCode::Cancelled))),
        ];
        let all = of(&rows);
        let line = |f: &FixtureFigures| {
            (f.fixture.clone(), f.attempts, f.passed, f.not_passed, f.first_pass_yield(), f.median_ms)
        };
        let fixtures: Vec<_> = all.fixtures.iter().map(line).collect();
        let expected = [
            ("left".to_owned(), 3, 3, 0, Some(1.0), Some(30_000)),
            ("right".to_owned(), 3, 1, 1, Some(0.0), Some(60_000)),
        ];
        assert_eq!(fixtures, expected);
        let only = figures(&rows, Frame { fixture: Some("right".into()), ..Frame::default() });
        assert_eq!((only.attempts, only.passed, only.not_passed, only.cancelled), (3, 1, 1, 1));
        assert_eq!(only.fixtures, all.fixtures);
    }
}
