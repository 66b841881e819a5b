//! When does a board count as there, and when does a fixture start by itself: debouncing on a clock that is handed in.

use crate::model::UnitId;
use std::time::Duration;

/// Looks in a row that agree.
const AGREE: u8 = 2;

/// What one fixture has seen lately.
#[derive(Clone, Copy, Debug)]
pub struct Presence {
    /// How long a board lies still before it may start by itself.
    debounce: Duration,
    present: Option<Option<UnitId>>,
    candidate: Option<UnitId>,
    streak: u8,
    /// When the candidate was first seen.
    since: Duration,
    /// The board that was last worked on and has not left since.
    done: Option<UnitId>,
    /// The board was put in while somebody looked; what lay there at the first look was not.
    inserted: bool,
}

/// What a look came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The board that was there has left.
    pub left: bool,
    /// A board is newly there.
    pub came: bool,
    /// A board is there that has not been worked on since it came: how long it has still to lie there before it may start by itself.
    pub waiting: Option<Duration>,
    /// It was put in since the first look.
    pub inserted: bool,
}

impl Presence {
    /// A fixture nobody has looked at.
    pub const fn new(debounce: Duration) -> Self {
        Self {
            debounce,
            present: None,
            candidate: None,
            streak: 0,
            since: Duration::ZERO,
            done: None,
            inserted: false,
        }
    }

    /// Takes one look, `at` by a clock that never runs back.
    pub fn look(&mut self, now: Option<UnitId>, at: Duration) -> Seen {
        if self.streak > 0 && self.candidate == now {
            self.streak = (self.streak + 1).min(AGREE);
        } else {
            (self.candidate, self.streak, self.since) = (now, 1, at);
        }
        let mut seen = Seen::default();
        if self.streak >= AGREE && self.present != Some(now) {
            // A board exchanged for another between two looks has left and come.
            seen.left = now.is_none() || matches!(self.present, Some(Some(_)));
            seen.came = now.is_some();
            self.inserted = self.present.is_some();
            self.present = Some(now);
            if self.done != now {
                self.done = None;
            }
        }
        let there = matches!(self.present, Some(Some(unit)) if Some(unit) == now && self.done != now);
        if there {
            seen.waiting = Some(self.debounce.saturating_sub(at.saturating_sub(self.since)));
            seen.inserted = self.inserted;
        }
        seen
    }

    /// The fixture worked on this board (if it ever learnt which).
    pub fn worked_on(&mut self, unit: Option<UnitId>, at: Duration) {
        let there = unit.or(self.present.flatten());
        self.done = there;
        if there.is_some() {
            self.present = Some(there);
            (self.candidate, self.streak, self.since) = (there, AGREE, at);
        } else if self.present.is_none() {
            // Nothing lay there: whatever comes now was put in.
            self.present = Some(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Option<UnitId> = Some(UnitId([1; 12]));
    const B: Option<UnitId> = Some(UnitId([2; 12]));
    const RIPE: Option<Duration> = Some(Duration::ZERO);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// A look every 100 ms.
    struct Fixture(Presence, u64);

    impl Fixture {
        fn new(debounce: u64) -> Self {
            Self(Presence::new(ms(debounce)), 0)
        }
        fn look(&mut self, now: Option<UnitId>) -> Seen {
            self.1 += 100;
            self.0.look(now, ms(self.1))
        }
        fn worked_on(&mut self, unit: Option<UnitId>) {
            self.0.worked_on(unit, ms(self.1));
        }
    }

    #[test]
    fn one_look_is_not_enough() {
        let mut p = Fixture::new(0);
        assert_eq!(p.look(A), Seen::default());
        assert_eq!(p.look(None), Seen::default());
        assert_eq!(p.look(A), Seen::default());
        assert_eq!(p.look(A), Seen { left: false, came: true, waiting: RIPE, inserted: false });
        assert_eq!(p.look(A), Seen { left: false, came: false, waiting: RIPE, inserted: false });
        assert_eq!(p.look(None), Seen::default(), "a contact that bounced");
        assert!(!p.look(A).left);
    }

    #[test]
    fn a_board_must_lie_still_for_the_whole_time() {
        let mut p = Fixture::new(500);
        p.look(None);
        p.look(None);
        p.look(A);
        assert_eq!(p.look(A), Seen { left: false, came: true, waiting: Some(ms(400)), inserted: true });
        assert_eq!(p.look(A).waiting, Some(ms(300)));
        // It is pushed down once more: the time begins again.
        assert_eq!(p.look(None).waiting, None);
        assert_eq!(p.look(A).waiting, Some(ms(500)));
        for left in [400, 300, 200, 100, 0, 0] {
            assert_eq!(p.look(A).waiting, Some(ms(left)));
        }
    }

    #[test]
    fn a_board_that_was_worked_on_waits_no_more_until_it_has_left() {
        let mut p = Fixture::new(0);
        p.look(A);
        assert!(p.look(A).waiting.is_some());
        p.worked_on(A);
        assert_eq!(p.look(A), Seen::default());
        p.look(None);
        assert_eq!(p.look(None), Seen { left: true, ..Seen::default() });
        p.look(A);
        assert_eq!(
            p.look(A),
            Seen { left: false, came: true, waiting: RIPE, inserted: true },
            "the same board again"
        );
    }

    #[test]
    fn another_board_between_two_looks() {
        let mut p = Fixture::new(0);
        p.look(A);
        p.look(A);
        p.worked_on(A);
        assert_eq!(p.look(B), Seen::default());
        assert_eq!(p.look(B), Seen { left: true, came: true, waiting: RIPE, inserted: true });
    }

    #[test]
    fn an_attempt_that_never_learnt_the_id_does_not_start_again_by_itself() {
        let mut p = Fixture::new(0);
        p.look(A);
        p.look(A);
        p.worked_on(None);
        assert_eq!(p.look(A).waiting, None);
        assert_eq!(p.look(A).waiting, None);
        // Started on an empty fixture: the board that then comes is put in.
        let mut p = Fixture::new(0);
        p.worked_on(None);
        p.look(A);
        assert!(p.look(A).inserted);
    }
}
