//! Who is logged in, when the station locks itself, and how long a wrong PIN locks a person out: no clock but the one that is given,
//! no I/O.

use super::{Right, Role, allows, not_allowed};
use crate::failure::{Failure, FailureCode};
use serde::Serialize;
use std::time::Duration;

/// A person, as records and audit log carry them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Who {
    /// Row.
    pub id: i64,
    /// The name in every record.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

/// Wrong tries before a person is locked out.
pub const FREE_TRIES: u32 = 5;
/// The first lock-out; every further wrong try doubles it.
const FIRST_LOCK_OUT: Duration = Duration::from_secs(30);
/// No lock-out is longer.
pub const LONGEST_LOCK_OUT: Duration = Duration::from_secs(60 * 60);
/// Wrong tries of all names and badges together in [`RATE_WINDOW`], after which nobody is looked at.
pub const RATE_TRIES: u32 = 20;
/// See [`RATE_TRIES`].
pub const RATE_WINDOW: Duration = Duration::from_secs(60);

/// How long a person is locked out after so many wrong tries in a row.
pub fn lock_out(failures: u32) -> Duration {
    let Some(over) = failures.checked_sub(FREE_TRIES) else { return Duration::ZERO };
    let factor = 1u32.checked_shl(over).filter(|_| over < 16).unwrap_or(u32::MAX);
    FIRST_LOCK_OUT.saturating_mul(factor).min(LONGEST_LOCK_OUT)
}

/// What is left of a lock-out. A clock that was set back must not make it longer than it was.
pub fn left_of_lock_out(failures: u32, locked_until_ms: i64, now_ms: i64) -> Duration {
    let left = u64::try_from(locked_until_ms.saturating_sub(now_ms)).unwrap_or(0);
    Duration::from_millis(left).min(lock_out(failures))
}

/// Tries that are left before the next lock-out.
pub const fn tries_left(failures: u32) -> u32 {
    FREE_TRIES.saturating_sub(failures)
}

/// Who is logged in. Time is the caller's, from any beginning; it never runs back.
#[derive(Clone, Debug)]
pub struct Session {
    who: Option<Who>,
    locked: bool,
    active: Duration,
    auto_lock: Duration,
}

impl Session {
    /// Nobody yet; locks itself after so much idleness, zero = never.
    pub const fn new(auto_lock: Duration) -> Self {
        Self { who: None, locked: false, active: Duration::ZERO, auto_lock }
    }

    /// Sets how long it takes to lock itself; zero = never.
    pub const fn set_auto_lock(&mut self, after: Duration) {
        self.auto_lock = after;
    }

    /// Somebody got in.
    pub fn enter(&mut self, who: Who, now: Duration) {
        *self = Self { who: Some(who), locked: false, active: now, ..self.clone() };
    }

    /// Who is logged in, locked or not.
    pub const fn who(&self) -> Option<&Who> {
        self.who.as_ref()
    }

    /// Whether commands wait for somebody.
    pub const fn is_locked(&self) -> bool {
        self.locked || self.who.is_none()
    }

    /// Somebody typed or pressed something.
    pub fn touch(&mut self, now: Duration) {
        if !self.locked {
            self.active = self.active.max(now);
        }
    }

    /// Locks now; true if it was not locked.
    pub fn lock(&mut self) -> bool {
        let was_open = self.who.is_some() && !self.locked;
        self.locked = true;
        was_open
    }

    /// Locks if nobody did anything for long enough; true if it just locked.
    pub fn tick(&mut self, now: Duration) -> bool {
        let idle = now.saturating_sub(self.active);
        !self.auto_lock.is_zero() && idle >= self.auto_lock && self.lock()
    }

    /// The person changed while logged in; `None`: they may work here no more.
    pub fn changed(&mut self, id: i64, now: Option<Who>) {
        if self.who.as_ref().is_some_and(|who| who.id == id) {
            self.locked |= now.is_none();
            self.who = now;
        }
    }

    /// Whether this may be done now, and by whom.
    ///
    /// # Errors
    /// `LoginNeeded`, `NotAllowed`.
    pub fn permit(&self, right: Option<Right>) -> Result<Who, Failure> {
        match (&self.who, right) {
            (Some(_), _) if self.locked => {
                Err(Failure::new(FailureCode::LoginNeeded, "the station is locked"))
            }
            (None, _) => Err(Failure::new(FailureCode::LoginNeeded, "")),
            (Some(who), Some(right)) if !allows(who.role, right) => Err(not_allowed(who, right)),
            (Some(who), _) => Ok(who.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn who(id: i64, role: Role) -> Who {
        Who { id, name: format!("p{id}"), role }
    }

    #[test]
    fn lock_outs_grow_and_end() {
        let seconds: Vec<u64> = (0..14).map(|n| lock_out(n).as_secs()).collect();
        assert_eq!(seconds, [0, 0, 0, 0, 0, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(lock_out(u32::MAX), LONGEST_LOCK_OUT);
        assert_eq!((tries_left(0), tries_left(4), tries_left(9)), (5, 1, 0));
        assert_eq!(left_of_lock_out(5, 31_000, 1_000), Duration::from_secs(30));
        assert_eq!(left_of_lock_out(5, 31_000, 31_000), Duration::ZERO);
        // A clock that was set back a year does not lock anybody out for a year.
        assert_eq!(left_of_lock_out(6, 1_800_000_000_000, 0), MINUTE);
        assert_eq!(left_of_lock_out(0, 1_800_000_000_000, 0), Duration::ZERO);
    }

    #[test]
    fn it_locks_itself_after_idle_minutes_and_the_person_stays() {
        let mut session = Session::new(10 * MINUTE);
        assert!(session.is_locked() && !session.tick(100 * MINUTE), "nobody is there to be locked out");
        session.enter(who(1, Role::Qa), 100 * MINUTE);
        session.touch(105 * MINUTE);
        assert!(!session.tick(114 * MINUTE) && !session.is_locked());
        assert!(session.tick(115 * MINUTE) && session.is_locked());
        assert!(!session.tick(116 * MINUTE), "told once");
        assert_eq!(session.who().map(|w| w.id), Some(1), "the line goes on under the same name");
        session.touch(117 * MINUTE);
        assert!(session.is_locked(), "a key press does not unlock");
        assert_eq!(session.permit(Some(Right::RunLine)).unwrap_err().code, FailureCode::LoginNeeded);
        session.enter(who(2, Role::Technician), 118 * MINUTE);
        assert_eq!(session.permit(Some(Right::RunLine)).unwrap().id, 2);
        assert_eq!(session.permit(Some(Right::Scrap)).unwrap_err().code, FailureCode::NotAllowed);
        let mut never = Session::new(Duration::ZERO);
        never.enter(who(1, Role::Qa), Duration::ZERO);
        assert!(!never.tick(Duration::MAX));
    }

    #[test]
    fn who_is_switched_off_is_out_at_once_and_a_new_role_counts_at_once() {
        let mut session = Session::new(Duration::ZERO);
        session.enter(who(1, Role::Admin), Duration::ZERO);
        session.changed(2, None);
        session.changed(1, Some(who(1, Role::Technician)));
        assert_eq!(session.permit(Some(Right::Settings)).unwrap_err().code, FailureCode::NotAllowed);
        session.changed(1, None);
        assert_eq!(session.permit(None).unwrap_err().code, FailureCode::LoginNeeded);
    }
}
