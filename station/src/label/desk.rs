//! One label at a time.
//!
//! Two labels that lie on one bench can be stuck on each other's units, and reading both back would notice nothing. So a fixture that
//! has a label to print waits for its turn, and keeps it until its label was read back or given up; what is scanned meanwhile is
//! about that unit.

use super::Printer;
use crate::failure::{Failure, FailureCode};
use crate::line::bench::Cancel;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a waiting fixture sleeps before it looks for a cancel.
const LOOK: Duration = Duration::from_millis(50);

/// What a person says at the label desk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// This was scanned.
    Scan(String),
    /// The label is spoilt: print it again.
    PrintAgain,
}

#[derive(Debug, Default)]
struct State {
    /// Who waits, the one whose turn it is first.
    queue: VecDeque<u64>,
    next: u64,
    /// What was said, and by whom.
    said: VecDeque<(Said, String)>,
    /// The first of the queue listens.
    listens: bool,
}

#[derive(Debug)]
struct Shared {
    printer: Mutex<Result<Printer, Failure>>,
    state: Mutex<State>,
    changed: Condvar,
}

/// The station's label printer and the turn to use it; clones share it.
#[derive(Clone, Debug)]
pub struct LabelDesk(Arc<Shared>);

impl Default for LabelDesk {
    fn default() -> Self {
        Self::new(Err(Failure::new(FailureCode::PrinterMissing, "")))
    }
}

impl LabelDesk {
    /// A desk with this printer, or with the reason why there is none.
    pub fn new(printer: Result<Printer, Failure>) -> Self {
        let printer = Mutex::new(printer);
        Self(Arc::new(Shared { printer, state: Mutex::default(), changed: Condvar::new() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The printer.
    ///
    /// # Errors
    /// `PrinterMissing`, `LabelTemplate`.
    pub fn printer(&self) -> Result<Printer, Failure> {
        self.0.printer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another printer from now on, or the reason why there is none: a template that was corrected needs no new start.
    pub fn take_printer(&self, printer: Result<Printer, Failure>) {
        *self.0.printer.lock().unwrap_or_else(PoisonError::into_inner) = printer;
    }

    /// Waits until it is this fixture's turn.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn take_turn(&self, cancel: &Cancel) -> Result<Turn, Failure> {
        let mut state = self.state();
        let ticket = state.next;
        state.next += 1;
        state.queue.push_back(ticket);
        // From here on the place in the queue is given up however this ends.
        let turn = Turn { desk: self.clone(), ticket };
        while state.queue.front() != Some(&ticket) {
            if let Err(cancelled) = cancel.check() {
                drop(state);
                drop(turn);
                return Err(cancelled);
            }
            state = self.0.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        Ok(turn)
    }

    /// Whether it is nobody's turn.
    pub fn is_free(&self) -> bool {
        self.state().queue.is_empty()
    }

    /// Tells the fixture whose turn it is, and who says it; false if none listens, and nothing happened.
    pub fn say(&self, said: Said, by: &str) -> bool {
        let mut state = self.state();
        if !state.listens {
            return false;
        }
        state.said.push_back((said, by.to_owned()));
        self.0.changed.notify_all();
        true
    }
}

/// The right to have a label out; dropped, it is the next one's.
#[derive(Debug)]
pub struct Turn {
    desk: LabelDesk,
    ticket: u64,
}

impl Turn {
    /// From now on what is scanned is about this fixture's unit.
    pub fn listen(&self) {
        self.desk.state().listens = true;
    }

    /// What was said within `wait`, and by whom.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn hear(&self, wait: Duration, cancel: &Cancel) -> Result<Option<(Said, String)>, Failure> {
        let until = Instant::now() + wait;
        let mut state = self.desk.state();
        loop {
            cancel.check()?;
            if let Some(said) = state.said.pop_front() {
                return Ok(Some(said));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let shared = &self.desk.0;
            state =
                shared.changed.wait_timeout(state, LOOK.min(left)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.desk.state();
        if state.queue.front() == Some(&self.ticket) {
            // What was said to this one is not for the next.
            state.said.clear();
            state.listens = false;
        }
        state.queue.retain(|t| *t != self.ticket);
        self.desk.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_label_at_a_time_in_the_order_of_coming() {
        let desk = LabelDesk::default();
        let never = Cancel::default();
        let first = desk.take_turn(&never).unwrap();
        assert!(!desk.say(Said::PrintAgain, "Ana"), "nobody listens yet");
        first.listen();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut threads = Vec::new();
        for n in 0..3 {
            let (other, order) = (desk.clone(), order.clone());
            threads.push(std::thread::spawn(move || {
                let turn = other.take_turn(&Cancel::default()).unwrap();
                assert_eq!(
                    turn.hear(Duration::ZERO, &Cancel::default()),
                    Ok(None),
                    "not what was said to the first"
                );
                order.lock().unwrap().push(n);
            }));
            // In the queue before the next one comes.
            while desk.state().next < n + 2 {
                std::thread::yield_now();
            }
        }
        assert!(desk.say(Said::Scan("a".into()), "Ana") && desk.say(Said::Scan("b".into()), "Mia"));
        let heard = first.hear(Duration::from_secs(30), &never);
        assert_eq!(heard, Ok(Some((Said::Scan("a".into()), "Ana".into()))));
        assert!(order.lock().unwrap().is_empty());
        drop(first);
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
        assert!(desk.is_free() && !desk.say(Said::PrintAgain, "Ana"));
    }

    #[test]
    fn a_cancelled_fixture_leaves_the_queue() {
        let desk = LabelDesk::default();
        let (never, cancel) = (Cancel::default(), Cancel::default());
        let first = desk.take_turn(&never).unwrap();
        cancel.cancel();
        assert_eq!(desk.take_turn(&cancel).unwrap_err().code, FailureCode::Cancelled);
        assert_eq!(first.hear(Duration::from_secs(30), &cancel).unwrap_err().code, FailureCode::Cancelled);
        drop(first);
        drop(desk.take_turn(&never).unwrap());
    }
}
