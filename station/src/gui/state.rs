//! What a fixture's state is called, and when a unit may start: one place for tiles, keys and header.

use super::icons::Icon;
use super::preflight_view;
use super::theme::{Palette, Tone};
use crate::failure::Failure;
use crate::i18n::{self, tr};
use crate::line::{FixtureView, ResultView, Snapshot, Step};
use crate::model::{BatchState, Outcome};
use std::time::{Duration, Instant};

/// State of a fixture as its tile shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The fixture can't be used.
    Trouble,
    /// Nothing in it.
    NoBoard,
    /// It may hold a board; nobody can tell before the start.
    Unknown,
    /// A board waits.
    Ready,
    /// In work.
    Running,
    /// In work until the next safe point.
    Cancelling,
    /// The last unit ended so.
    Done(Outcome),
}

impl State {
    /// State of one fixture.
    pub fn of(fixture: &FixtureView) -> Self {
        match (&fixture.running, &fixture.trouble, &fixture.last, fixture.present) {
            (Some(running), ..) if running.cancelling => Self::Cancelling,
            (Some(_), ..) => Self::Running,
            (None, Some(_), ..) => Self::Trouble,
            (None, None, Some(last), _) => Self::Done(last.outcome),
            (None, None, None, Some(true)) => Self::Ready,
            (None, None, None, Some(false)) => Self::NoBoard,
            (None, None, None, None) => Self::Unknown,
        }
    }

    /// The word on the tile.
    pub fn word(self) -> &'static str {
        match self {
            Self::Trouble => tr!("state-trouble"),
            Self::NoBoard => tr!("state-no-board"),
            Self::Unknown => tr!("state-unknown"),
            Self::Ready => tr!("state-ready"),
            Self::Running => tr!("state-running"),
            Self::Cancelling => tr!("state-cancelling"),
            Self::Done(outcome) => outcome_word(outcome),
        }
    }

    /// The shape on the tile.
    pub const fn icon(self) -> Icon {
        match self {
            Self::Trouble | Self::Done(Outcome::Error) => Icon::Warning,
            Self::NoBoard => Icon::Empty,
            Self::Unknown | Self::Ready => Icon::Board,
            Self::Running | Self::Cancelling => Icon::Turning,
            Self::Done(Outcome::Pass) => Icon::Check,
            Self::Done(Outcome::Fail) => Icon::Cross,
            Self::Done(Outcome::Timeout) => Icon::Hourglass,
            Self::Done(Outcome::Aborted) => Icon::Stop,
        }
    }

    /// The colours on the tile.
    pub const fn tone(self, p: &Palette) -> Tone {
        match self {
            Self::Trouble | Self::Done(Outcome::Error) => p.error,
            Self::NoBoard => p.idle,
            Self::Unknown | Self::Ready => p.ready,
            Self::Running => p.running,
            Self::Cancelling | Self::Done(Outcome::Aborted) => p.aborted,
            Self::Done(Outcome::Pass) => p.pass,
            Self::Done(Outcome::Fail) => p.fail,
            Self::Done(Outcome::Timeout) => p.timeout,
        }
    }

    /// Whether the band is painted at full strength: results and troubles are read across the room.
    pub const fn is_loud(self) -> bool {
        matches!(self, Self::Done(_) | Self::Trouble)
    }
}

/// The word for an outcome on screen.
pub fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => tr!("outcome-pass"),
        Outcome::Fail => tr!("outcome-fail"),
        Outcome::Error => tr!("outcome-error"),
        Outcome::Timeout => tr!("outcome-timeout"),
        Outcome::Aborted => tr!("outcome-aborted"),
    }
}

/// What the window remembers of a fixture between snapshots, because a snapshot holds only the present.
#[derive(Clone, Debug, Default)]
pub struct Seat {
    /// The board of the last result was seen to leave.
    pub changed: bool,
    /// The step the last unit was seen in.
    pub step: Option<Step>,
}

impl Seat {
    /// Takes in the newest view of the fixture.
    pub fn observe(&mut self, fixture: &FixtureView) {
        match &fixture.running {
            Some(running) => {
                self.step = Some(running.step);
                self.changed = false;
            }
            None if fixture.present == Some(false) => self.changed = true,
            None => {}
        }
    }

    /// Whether the fixture still holds the board of its last result.
    pub fn holds_last(&self, fixture: &FixtureView) -> bool {
        fixture.last.is_some() && fixture.present == Some(true) && !self.changed
    }
}

/// Why no unit may start now, whatever the fixture.
pub fn batch_refusal(snapshot: &Snapshot) -> Option<String> {
    match &snapshot.batch {
        None => Some(tr!("start-no-batch").into()),
        Some((batch, _)) => match batch.state {
            BatchState::Open if snapshot.sample.is_some() => Some(tr!("start-sample").into()),
            BatchState::Open => preflight_view::refusal(snapshot),
            BatchState::Paused => Some(tr!("start-batch-paused", name = &batch.name)),
            BatchState::Closed => Some(tr!("start-batch-closed", name = &batch.name)),
        },
    }
}

/// Whether the operator may start `fixture` by naming it; the reason if not.
pub fn may_start(snapshot: &Snapshot, fixture: &FixtureView) -> Result<(), String> {
    let name = &fixture.name;
    if fixture.running.is_some() {
        return Err(tr!("start-running", name = name));
    }
    if fixture.waits_for_sample {
        return Err(tr!("start-held-sample", name = name));
    }
    if fixture.held {
        return Err(tr!("start-held", name = name));
    }
    if let Some(refusal) = batch_refusal(snapshot) {
        return Err(refusal);
    }
    let index = snapshot.fixtures.iter().position(|f| f.name == fixture.name);
    if !snapshot.preflight.checking
        && let Some(check) = index.and_then(|i| snapshot.preflight.stops(i))
    {
        let (sentence, remedy) = preflight_view::words(check);
        return Err(tr!("start-check", sentence = sentence, remedy = remedy));
    }
    if let Some(trouble) = &fixture.trouble {
        return Err(tr!("start-trouble", name = name, remedy = i18n::failure(trouble).1));
    }
    if fixture.present == Some(false) {
        return Err(tr!("start-no-board", name = name));
    }
    Ok(())
}

/// Whether Space (all ready fixtures) takes `fixture`. A finished board that is still seated is left alone, except
/// after a failure that a second try may cure; naming the fixture starts it all the same.
pub fn sweeps(snapshot: &Snapshot, fixture: &FixtureView, seat: &Seat) -> bool {
    may_start(snapshot, fixture).is_ok()
        && match &fixture.last {
            Some(last) if seat.holds_last(fixture) => retry(last),
            _ => true,
        }
}

/// Whether the same unit may simply be tried again.
pub fn retry(last: &ResultView) -> bool {
    // The line would make a unit of it: what QA ordered is started again where it was ordered.
    if last.qa.is_some() {
        return false;
    }
    match &last.failure {
        Some(failure) => !failure.code.is_permanent(),
        None => last.outcome == Outcome::Aborted,
    }
}

/// `0:07`, `12:30`, `1:02:03`.
pub fn clock(elapsed: Duration) -> String {
    let s = elapsed.as_secs();
    match s / 3600 {
        0 => format!("{}:{:02}", s / 60, s % 60),
        h => format!("{h}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

/// First and last digits of a unit id: enough to tell two boards apart, short enough to read aloud.
pub fn short_id(unit: &crate::model::UnitId) -> String {
    let all = unit.to_string();
    format!("{}…{}", &all[..4], &all[all.len() - 6..])
}

/// The failure that a fixture's tile explains, if any.
pub fn failure(fixture: &FixtureView) -> Option<&Failure> {
    match State::of(fixture) {
        State::Trouble => fixture.trouble.as_ref(),
        State::Done(_) => fixture.last.as_ref().and_then(|l| l.failure.as_ref()),
        _ => None,
    }
}

/// A failure as it goes onto the clipboard: everything QA needs, nothing secret.
pub fn copy_text(fixture: &FixtureView, failure: &Failure) -> String {
    let unit = fixture.last.as_ref().filter(|_| fixture.trouble.is_none());
    let serial = unit.and_then(|l| l.serial.as_deref()).unwrap_or(tr!("copied-unknown"));
    let id = unit.and_then(|l| l.unit).map_or_else(|| tr!("copied-unknown").into(), |u| u.to_string());
    let (sentence, remedy) = i18n::failure(failure);
    let again = if failure.code.is_permanent() { tr!("copied-permanent") } else { tr!("copied-retry") };
    [
        tr!("copied-failure", code = failure.code.to_string(), sentence = sentence, remedy = remedy),
        tr!("copied-outcome", outcome = outcome_word(failure.outcome()), again = again),
        tr!("copied-fixture", name = &fixture.name),
        tr!("copied-serial", serial = serial),
        tr!("copied-unit", unit = id),
    ]
    .join("\n")
}

/// Speed of the line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// Passed units per hour.
    pub per_hour: Option<f64>,
    /// Until the batch's open units are done.
    pub left: Option<Duration>,
}

/// Speed over the newest 20 passes of this session. It counts the time since the newest pass too, so it falls while
/// the line stands still; with fewer than three passes nothing is said.
pub fn pace(snapshot: &Snapshot, now: Instant) -> Pace {
    let mut passes: Vec<Instant> = snapshot.finished.iter().copied().filter(|t| *t <= now).collect();
    passes.sort_unstable();
    let newest = &passes[passes.len().saturating_sub(20)..];
    if newest.len() < 3 {
        return Pace::default();
    }
    let seconds = now.duration_since(newest[0]).as_secs_f64();
    if seconds < 1.0 {
        return Pace::default();
    }
    let per_second = (newest.len() - 1) as f64 / seconds;
    let left = f64::from(snapshot.counts.open()) / per_second;
    Pace { per_hour: Some(per_second * 3600.0), left: Duration::try_from_secs_f64(left).ok() }
}

/// `3 h 20 min`, `25 min`, `under a minute`.
pub fn roughly(left: Duration) -> String {
    let minutes = left.as_secs().div_ceil(60);
    match (minutes / 60, minutes % 60) {
        _ if left.as_secs() < 60 => tr!("time-under-minute").into(),
        (0, m) => tr!("time-minutes", minutes = m),
        (h, _) if h >= 48 => tr!("time-days", days = h.div_ceil(24)),
        (h, 0) => tr!("time-hours", hours = h),
        (h, m) => tr!("time-hours-minutes", hours = h, minutes = m),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureCode;
    use crate::gui::scripted::{self, Scene};
    use crate::model::UnitId;

    #[test]
    fn every_state_has_a_word_and_no_two_outcomes_share_word_shape_or_colour() {
        let outcomes = [Outcome::Pass, Outcome::Fail, Outcome::Error, Outcome::Timeout, Outcome::Aborted];
        for (i, a) in outcomes.iter().map(|o| State::Done(*o)).enumerate() {
            assert!(!a.word().is_empty());
            for b in outcomes[..i].iter().map(|o| State::Done(*o)) {
                assert_ne!(a.word(), b.word());
                assert_ne!(a.icon(), b.icon());
                assert_ne!(a.tone(&super::super::theme::LIGHT), b.tone(&super::super::theme::LIGHT));
                assert_ne!(a.tone(&super::super::theme::DARK), b.tone(&super::super::theme::DARK));
            }
        }
    }

    #[test]
    fn space_leaves_a_finished_board_alone_until_it_was_changed() {
        let now = Instant::now();
        let snapshot = scripted::scene(Scene::Gallery, now);
        let mut fixture = scripted::done(1, Outcome::Pass, None);
        let mut seat = Seat::default();
        seat.observe(&fixture);
        assert!(!sweeps(&snapshot, &fixture, &seat), "the passed board is still seated");
        assert!(may_start(&snapshot, &fixture).is_ok(), "but its number starts it");
        fixture.present = Some(false);
        seat.observe(&fixture);
        assert!(!sweeps(&snapshot, &fixture, &seat), "nothing to start");
        fixture.present = Some(true);
        seat.observe(&fixture);
        assert!(sweeps(&snapshot, &fixture, &seat), "another board");
    }

    #[test]
    fn space_tries_a_transient_failure_again_and_not_a_permanent_one() {
        let snapshot = scripted::scene(Scene::Gallery, Instant::now());
        for (code, again) in [(FailureCode::NoTarget, true), (FailureCode::WrongChip, false)] {
            let fixture = scripted::done(1, code.outcome(), Some(code));
            let mut seat = Seat::default();
            seat.observe(&fixture);
            assert_eq!(sweeps(&snapshot, &fixture, &seat), again, "{code}");
        }
    }

    #[test]
    fn pace_needs_three_passes_and_falls_while_nothing_passes() {
        let start = Instant::now();
        let mut snapshot = scripted::scene(Scene::Gallery, start);
        snapshot.finished = vec![start, start + Duration::from_secs(60)];
        assert_eq!(pace(&snapshot, start + Duration::from_secs(60)), Pace::default());
        snapshot.finished.push(start + Duration::from_secs(120));
        let fast = pace(&snapshot, start + Duration::from_secs(120)).per_hour.expect("three passes");
        assert!((fast - 60.0).abs() < 1e-6, "{fast}");
        let slow = pace(&snapshot, start + Duration::from_secs(240)).per_hour.expect("three passes");
        assert!((slow - 30.0).abs() < 1e-6, "{slow}");
    }

    #[test]
    fn times_read_as_people_say_them() {
        for (s, told) in [(7, "0:07"), (750, "12:30"), (3723, "1:02:03")] {
            assert_eq!(clock(Duration::from_secs(s)), told);
        }
        for (s, told) in
            [(5, "under a minute"), (61, "2 min"), (3600, "1 h"), (12_000, "3 h 20 min"), (200_000, "3 days")]
        {
            assert_eq!(roughly(Duration::from_secs(s)), told);
        }
    }

    #[test]
    fn a_copied_failure_names_code_unit_and_fixture() {
        let fixture = scripted::done(3, Outcome::Fail, Some(FailureCode::VerifyFailed));
        let last = fixture.last.as_ref().expect("a result");
        let text = copy_text(&fixture, last.failure.as_ref().expect("a failure"));
        for part in ["K207", "Fixture 3", last.serial.as_deref().expect("a serial"), "Try once more"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(text.contains(&last.unit.expect("a unit").to_string()));
        assert_eq!(short_id(&UnitId([0xab; 12])), "abab…ababab");
    }
}
