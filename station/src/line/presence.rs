//! When does a board count as there, and when does a fixture start by itself: debouncing, without a clock.

use crate::model::UnitId;

/// Two looks in a row that agree.
const AGREE: u8 = 2;

/// What one fixture has seen lately.
#[derive(Clone, Copy, Debug, Default)]
pub struct Presence {
    present: Option<Option<UnitId>>,
    candidate: Option<UnitId>,
    streak: u8,
    /// The board that was last worked on and has not left since.
    done: Option<UnitId>,
}

/// What a look came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The board that was there has left.
    pub left: bool,
    /// A board is newly there.
    pub came: bool,
    /// A board is there that has not been worked on since it came.
    pub waiting: bool,
}

impl Presence {
    /// Takes one look.
    pub fn look(&mut self, now: Option<UnitId>) -> Seen {
        if self.streak > 0 && self.candidate == now {
            self.streak = (self.streak + 1).min(AGREE);
        } else {
            (self.candidate, self.streak) = (now, 1);
        }
        let mut seen = Seen::default();
        if self.streak >= AGREE && self.present != Some(now) {
            // A board exchanged for another between two looks has left and come.
            seen.left = now.is_none() || matches!(self.present, Some(Some(_)));
            seen.came = now.is_some();
            self.present = Some(now);
            if self.done != now {
                self.done = None;
            }
        }
        seen.waiting = matches!(self.present, Some(Some(unit)) if Some(unit) == now && self.done != now);
        seen
    }

    /// The fixture worked on this board (if it ever learnt which).
    pub fn worked_on(&mut self, unit: Option<UnitId>) {
        let there = unit.or(self.present.flatten());
        self.done = there;
        if there.is_some() {
            self.present = Some(there);
            (self.candidate, self.streak) = (there, AGREE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Option<UnitId> = Some(UnitId([1; 12]));
    const B: Option<UnitId> = Some(UnitId([2; 12]));

    #[test]
    fn one_look_is_not_enough() {
        let mut p = Presence::default();
        assert_eq!(p.look(A), Seen::default());
        assert_eq!(p.look(None), Seen::default());
        assert_eq!(p.look(A), Seen::default());
        assert_eq!(p.look(A), Seen { left: false, came: true, waiting: true });
        assert_eq!(p.look(A), Seen { left: false, came: false, waiting: true });
        assert_eq!(p.look(None), Seen::default(), "a contact that bounced");
        assert!(!p.look(A).left);
    }

    #[test]
    fn a_board_that_was_worked_on_waits_no_more_until_it_has_left() {
        let mut p = Presence::default();
        p.look(A);
        assert!(p.look(A).waiting);
        p.worked_on(A);
        assert_eq!(p.look(A), Seen::default());
        p.look(None);
        assert_eq!(p.look(None), Seen { left: true, came: false, waiting: false });
        p.look(A);
        assert_eq!(p.look(A), Seen { left: false, came: true, waiting: true });
    }

    #[test]
    fn another_board_between_two_looks() {
        let mut p = Presence::default();
        p.look(A);
        p.look(A);
        p.worked_on(A);
        assert_eq!(p.look(B), Seen::default());
        assert_eq!(p.look(B), Seen { left: true, came: true, waiting: true });
    }

    #[test]
    fn an_attempt_that_never_learnt_the_id_does_not_start_again_by_itself() {
        let mut p = Presence::default();
        p.look(A);
        p.look(A);
        p.worked_on(None);
        assert!(!p.look(A).waiting);
        assert!(!p.look(A).waiting);
    }
}
