//! The gate that every command goes through: who is logged in, whether they may, and the row in the audit log.
//!
//! Invariants:
//! - A try at a PIN is counted before it is looked at, so that killing the program gives no free tries.
//! - The row about an act is on disk before the act; one that then fails adds a row that says so.
//! - Nobody learns from the answer to a wrong try, or from how long it took, whether a name exists. A lock-out tells, and so does the
//!   lock screen, which lists the names: there, and only there, a person also reads how many tries are left ([`People::tries_left`]).

use super::pin::{Pin, PinCost, least_length};
use super::session::{
    FREE_TRIES, RATE_TRIES, RATE_WINDOW, Session, Who, left_of_lock_out, lock_out, tries_left,
};
use super::{Right, Role, same_name};
use crate::export::{ExportError, ExportSigner};
use crate::failure::{Failure, FailureCode};
use crate::records::{
    AuditEntry, AuditFilter, NewAudit, Person, PersonChange, PersonRow, RecordsError, SqliteRecords, Telling,
    Verified,
};
use crate::secrets::write_atomically;
use crate::station::{records_failure, secrets_failure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time from any beginning that never runs back; tests move it on.
pub type Ticks = Arc<dyn Fn() -> Duration + Send + Sync>;

/// What somebody shows a PIN or a badge for.
enum Proves<'a> {
    /// They begin to work.
    LogsIn,
    /// They stand by while another one does something.
    StandsBy {
        /// Who does it.
        operator: &'a str,
        /// What it is done to.
        subject: &'a str,
    },
}

/// What somebody shows to get in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A name and its PIN.
    Pin {
        /// The name.
        name: String,
        /// The PIN.
        pin: Pin,
    },
    /// A scanned badge.
    Badge(Pin),
}

/// A new person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPerson {
    /// The name in every record; never changes.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Their PIN.
    pub pin: Pin,
    /// Their badge, if they have one.
    pub badge: Option<Pin>,
}

/// Who did it, as the audit log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Actor {
    name: String,
    role: &'static str,
}

struct State {
    /// Nobody works here by name.
    open: bool,
    /// The name that an open station's records carry.
    operator: String,
    session: Session,
}

/// The people of one station, and who of them is logged in. Everything but [`People::permit`] and the like may wait for the disk.
pub struct People {
    records: SqliteRecords,
    cost: PinCost,
    ticks: Ticks,
    state: Mutex<State>,
    /// One try at a time, or ten at once would be one.
    tries: Mutex<()>,
}

impl std::fmt::Debug for People {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("People").field("open", &self.is_open()).finish_non_exhaustive()
    }
}

fn invalid(sentence: impl Into<String>, remedy: impl Into<String>) -> Failure {
    Failure { code: FailureCode::InvalidInput, sentence: sentence.into(), remedy: remedy.into() }
}

fn seconds(left: Duration) -> u64 {
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

/// How long, for people: `45 s`, `12 min`.
pub fn how_long(left: Duration) -> String {
    match seconds(left) {
        s if s < 120 => format!("{s} s"),
        s => format!("{} min", s.div_ceil(60)),
    }
}

impl People {
    /// The people in these records; `operator` is who works here while there are none.
    ///
    /// # Errors
    /// `HistoryBroken` if people were there and are gone; those of reading.
    pub fn new(records: SqliteRecords, operator: &str) -> Result<Self, Failure> {
        let began = Instant::now();
        Self::with(records, operator, PinCost::STATION, Arc::new(move || began.elapsed()))
    }

    /// With another cost of a PIN and another clock for idleness: for tests.
    ///
    /// # Errors
    /// As [`People::new`].
    pub fn with(
        records: SqliteRecords,
        operator: &str,
        cost: PinCost,
        ticks: Ticks,
    ) -> Result<Self, Failure> {
        let open = !records.0.has_people().map_err(records_failure)?;
        let state = State { open, operator: operator.to_owned(), session: Session::new(Duration::ZERO) };
        Ok(Self { records, cost, ticks, state: Mutex::new(state), tries: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; the state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody works here by name: everybody may do everything.
    pub fn is_open(&self) -> bool {
        self.state().open
    }

    /// Who works here, for the records; empty while nobody does.
    pub fn operator(&self) -> String {
        let state = self.state();
        if state.open {
            state.operator.clone()
        } else {
            state.session.who().map(|w| w.name.clone()).unwrap_or_default()
        }
    }

    /// Another name on an open station; on any other the name is that of who is logged in.
    pub fn set_operator(&self, name: &str) {
        let mut state = self.state();
        if state.open {
            state.operator = name.to_owned();
        }
    }

    /// Who is logged in, and whether the station is locked. An open station is never locked.
    pub fn session(&self) -> (Option<Who>, bool) {
        let state = self.state();
        (state.session.who().cloned(), !state.open && state.session.is_locked())
    }

    /// After how much idleness the station locks itself; zero = never.
    pub fn set_auto_lock(&self, after: Duration) {
        self.state().session.set_auto_lock(after);
    }

    /// Somebody typed or pressed something.
    pub fn touch(&self) {
        let now = (self.ticks)();
        self.state().session.touch(now);
    }

    /// Locks the station if nobody did anything for long enough; true if it just locked.
    pub fn tick(&self) -> bool {
        let now = (self.ticks)();
        let locked = {
            let mut state = self.state();
            !state.open && state.session.tick(now)
        };
        if locked {
            self.note("locked", "", json!({ "why": "idle" }));
        }
        locked
    }

    /// Locks the station now. What runs goes on.
    pub fn lock(&self) {
        if self.state().session.lock() {
            self.note("locked", "", json!({ "why": "asked" }));
        }
    }

    /// Whether this may be done now.
    ///
    /// # Errors
    /// `LoginNeeded`, `NotAllowed`.
    pub fn permit(&self, right: Option<Right>) -> Result<(), Failure> {
        let state = self.state();
        if state.open { Ok(()) } else { state.session.permit(right).map(drop) }
    }

    fn actor(&self) -> Actor {
        let state = self.state();
        match state.session.who() {
            _ if state.open => Actor { name: state.operator.clone(), role: "open" },
            Some(who) => Actor { name: who.name.clone(), role: who.role.as_str() },
            None => Actor { name: "nobody".into(), role: "none" },
        }
    }

    fn entry(&self, action: &str, subject: &str, detail: Value) -> NewAudit {
        let Actor { name, role } = self.actor();
        NewAudit { person: name, role, action: action.into(), subject: subject.into(), detail }
    }

    fn write(&self, entry: NewAudit) -> Result<(), Failure> {
        self.records.0.audit(entry).map(drop).map_err(records_failure)
    }

    /// Writes down what happened without asking for a right. Only for what has a record of its own as well.
    pub fn note(&self, action: &str, subject: &str, detail: Value) {
        if let Err(failure) = self.write(self.entry(action, subject, detail)) {
            tracing::error!(%failure, action, "the audit log can't be written");
        }
    }

    /// Whether this may be done now; a refusal is written down.
    ///
    /// # Errors
    /// As [`People::permit`].
    pub fn demand(&self, right: Right, action: &str, subject: &str) -> Result<(), Failure> {
        self.permit(Some(right)).inspect_err(|failure| {
            self.note(
                "refused",
                subject,
                json!({ "action": action, "right": right.words(), "code": failure.code.to_string() }),
            );
        })
    }

    /// Does something that a right is needed for. The row about it is on disk before; a refusal and a failure have one too.
    ///
    /// # Errors
    /// As [`People::permit`], that the audit log can't be written, and those of `work`.
    pub fn act<T, E>(
        &self,
        right: Right,
        (action, subject): (&str, &str),
        detail: Value,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<Failure> + AsFailure,
    {
        self.demand(right, action, subject)?;
        self.write(self.entry(action, subject, detail))?;
        work().inspect_err(|error| {
            let failed = json!({ "failed": error.code().to_string() });
            self.note(action, subject, failed);
        })
    }

    /// Refuses everybody while too many wrong names, PINs and badges were tried; the time now.
    fn not_too_often(&self) -> Result<i64, Failure> {
        let records = &self.records.0;
        let now = records.now();
        let window = i64::try_from(RATE_WINDOW.as_millis()).unwrap_or(i64::MAX);
        if records.failed_tries(now.saturating_sub(window), now).map_err(records_failure)? >= RATE_TRIES {
            return Err(Failure {
                code: FailureCode::LockedOut,
                sentence: "Too many wrong names, PINs and badges were tried at this station".into(),
                remedy: "Wait a minute, then try again".into(),
            });
        }
        Ok(now)
    }

    /// Lets somebody in; whoever was there before is out. What runs on the line goes on.
    ///
    /// # Errors
    /// `LoginFailed`, `LockedOut`; `InvalidInput` for a unit's label, which is no try; `HistoryBroken` if the person's row was changed
    /// or put back outside Keywright.
    pub fn login(&self, credential: &Credential) -> Result<Who, Failure> {
        self.prove(credential, &Proves::LogsIn)
    }

    /// A second person stands by while somebody works: they show their PIN or badge, and stay logged out. Wrong tries count as those of
    /// a login do.
    ///
    /// # Errors
    /// As [`People::login`]; `SecondPerson` if it is the one who works.
    pub fn stand_by(&self, credential: &Credential, operator: &str, subject: &str) -> Result<Who, Failure> {
        self.prove(credential, &Proves::StandsBy { operator, subject })
    }

    fn prove(&self, credential: &Credential, proves: &Proves<'_>) -> Result<Who, Failure> {
        let _one = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let (by, shown) = match credential {
            Credential::Pin { pin, .. } => ("pin", pin),
            Credential::Badge(badge) => ("badge", badge),
        };
        if shown.is_label() {
            // Whoever scans boards at a locked station tries nothing.
            return Err(super::pin::label_is_no_badge());
        }
        let now = self.not_too_often()?;
        let records = &self.records.0;
        let key = self.records.station_key();
        let row = match credential {
            _ if shown.is_too_long() || shown.is_empty() => Ok(None),
            Credential::Pin { name, .. } => records.person_named(name),
            Credential::Badge(badge) => records.person_of_badge(&badge.badge_mark(&key)),
        };
        let row = row.map_err(|error| {
            let failure = records_failure(error);
            if failure.code == FailureCode::HistoryBroken {
                let why =
                    json!({ "by": by, "why": "the person's row was touched", "what": failure.sentence });
                if let Err(failure) = self.outsider("", why) {
                    tracing::error!(%failure, "the audit log can't be written");
                }
            }
            failure
        })?;
        let Some(row) = row.filter(|row| row.person.active) else {
            self.cost.pretend();
            // What was typed as a name may be a PIN that was typed in the wrong field: it is written down nowhere.
            self.outsider("", json!({ "by": by, "why": "unknown or switched off" }))?;
            return Err(Failure::new(FailureCode::LoginFailed, ""));
        };
        self.let_in(row, proves, by, now, |row| match credential {
            Credential::Pin { pin, .. } => pin.fits(&key, &row.person.name, &row.pin),
            Credential::Badge(badge) => {
                row.badge.as_deref().is_some_and(|kept| badge.badge_fits(&key, &row.person.name, kept))
            }
        })
    }

    fn outsider(&self, subject: &str, detail: Value) -> Result<(), Failure> {
        self.write(NewAudit {
            person: "nobody".into(),
            role: "none",
            action: "login-failed".into(),
            subject: subject.into(),
            detail,
        })
    }

    fn let_in(
        &self,
        row: PersonRow,
        proves: &Proves<'_>,
        by: &str,
        now: i64,
        fits: impl FnOnce(&PersonRow) -> bool,
    ) -> Result<Who, Failure> {
        let Person { id, name, failures, .. } = row.person.clone();
        if matches!(proves, Proves::StandsBy { operator, .. } if same_name(operator, &name)) {
            return Err(ExportError::SamePerson.failure());
        }
        self.tried(&row, by, now, fits)?;
        let records = &self.records.0;
        if let Proves::StandsBy { operator, subject } = proves {
            let entry = NewAudit {
                person: name.clone(),
                role: row.person.role.as_str(),
                action: "stood-by".into(),
                subject: (*subject).to_owned(),
                detail: json!({ "by": by, "operator": operator, "second_person": name }),
            };
            let person =
                records.change_person(id, PersonChange::Right, Some(entry)).map_err(records_failure)?;
            return Ok(Who { id, name, role: person.role });
        }
        let before = self.session().0;
        let mut detail = json!({ "by": by });
        if let Some(other) = before.filter(|who| who.id != id) {
            detail["instead_of"] = json!(other.name);
        }
        if failures > 0 {
            detail["wrong_before"] = json!(failures);
        }
        let entry = NewAudit {
            person: name.clone(),
            role: row.person.role.as_str(),
            action: "login".into(),
            subject: name.clone(),
            detail,
        };
        let person = records.change_person(id, PersonChange::Right, Some(entry)).map_err(records_failure)?;
        let who = Who { id, name, role: person.role };
        let ticks = (self.ticks)();
        self.state().session.enter(who.clone(), ticks);
        Ok(who)
    }

    /// Counts a try, then looks at it; what is wrong with it is written down. The count is wiped by whoever goes on from here.
    fn tried(
        &self,
        row: &PersonRow,
        by: &str,
        now: i64,
        fits: impl FnOnce(&PersonRow) -> bool,
    ) -> Result<(), Failure> {
        let Person { id, name, failures, locked_until_ms, .. } = row.person.clone();
        let left = left_of_lock_out(failures, locked_until_ms, now);
        if !left.is_zero() {
            return Err(locked_out(&name, left));
        }
        let tried = failures.saturating_add(1);
        let out = lock_out(tried);
        let until = now.saturating_add(i64::try_from(out.as_millis()).unwrap_or(i64::MAX));
        let counted = PersonChange::Try { locked_until_ms: until };
        self.records.0.change_person(id, counted, None).map_err(records_failure)?;
        if fits(row) {
            return Ok(());
        }
        self.outsider(&name, json!({ "by": by, "tries_left": tries_left(tried) }))?;
        if out.is_zero() {
            return Err(Failure::new(FailureCode::LoginFailed, ""));
        }
        self.write(NewAudit {
            person: "nobody".into(),
            role: "none",
            action: "locked-out".into(),
            subject: name.clone(),
            detail: json!({ "seconds": seconds(out), "wrong": tried }),
        })?;
        Err(locked_out(&name, out))
    }

    /// Tries before the next lock-out of somebody whose name is no secret; `None` for a name that nobody has.
    pub(super) fn tries_left(&self, name: &str) -> Option<u32> {
        let row = self.records.0.person_named(name).ok()??;
        row.person.active.then(|| tries_left(row.person.failures))
    }

    /// Everybody, in the order they came.
    ///
    /// # Errors
    /// Those of reading.
    pub fn list(&self) -> Result<Vec<Person>, Failure> {
        self.records.persons().map_err(records_failure)
    }

    /// Adds a person. The first one is an admin, and is logged in with it.
    ///
    /// # Errors
    /// `NotAllowed`, `InvalidInput`, `NameTaken`.
    pub fn add(&self, new: &NewPerson) -> Result<Person, Failure> {
        let name = new.name.trim();
        self.demand(Right::ManagePeople, "person-added", name)?;
        let open = self.is_open();
        if open && new.role != Role::Admin {
            return Err(invalid(
                "The first person of a station is its admin",
                "Add the admin first: keywright people add NAME --role admin",
            ));
        }
        if name.is_empty() || name.chars().count() > 64 || name.chars().any(char::is_control) {
            return Err(invalid("A name has 1 to 64 printable characters", "Choose another name"));
        }
        new.pin.check_new(name, new.role)?;
        let badge = new.badge.as_ref().map(|badge| self.kept_badge(name, badge)).transpose()?;
        let pin = new.pin.keep(&self.records.station_key(), name, self.cost)?;
        let entry = self.entry("person-added", name, json!({ "role": new.role, "badge": badge.is_some() }));
        let person = self
            .records
            .0
            .add_person((name.to_owned(), new.role), pin, badge, entry)
            .map_err(records_failure)?;
        if open {
            let ticks = (self.ticks)();
            let mut state = self.state();
            state.open = false;
            state.session.enter(Who { id: person.id, name: person.name.clone(), role: person.role }, ticks);
        }
        Ok(person)
    }

    fn kept_badge(&self, name: &str, badge: &Pin) -> Result<(String, [u8; 16]), Failure> {
        badge.check_badge()?;
        let key = self.records.station_key();
        Ok((badge.keep_badge(&key, name, self.cost)?, badge.badge_mark(&key)))
    }

    fn find(&self, name: &str) -> Result<PersonRow, Failure> {
        let found = self.records.0.person_named(name).map_err(records_failure)?;
        found.ok_or_else(|| {
            records_failure(RecordsError::NotFound {
                what: "person",
                name: name.trim().into(),
                list: "people list",
            })
        })
    }

    fn change(
        &self,
        person: &Person,
        change: PersonChange,
        (action, detail): (&str, Value),
    ) -> Result<Person, Failure> {
        let entry = self.entry(action, &person.name, detail);
        let now = self.records.0.change_person(person.id, change, Some(entry)).map_err(records_failure)?;
        let who = now.active.then(|| Who { id: now.id, name: now.name.clone(), role: now.role });
        self.state().session.changed(now.id, who);
        Ok(now)
    }

    /// Gives a person another role. A technician's PIN may be too short for any other, so those need a new one with it.
    ///
    /// # Errors
    /// `NotAllowed`, `InvalidInput` (also for the last admin).
    pub fn set_role(&self, name: &str, role: Role, pin: Option<&Pin>) -> Result<Person, Failure> {
        self.demand(Right::ManagePeople, "role-changed", name)?;
        let row = self.find(name)?;
        let person = &row.person;
        if pin.is_none() && least_length(role) > least_length(person.role) {
            return Err(invalid(
                format!("{} needs a longer PIN for the role {role}", person.name),
                format!("Give a new one with it, of at least {} characters", least_length(role)),
            ));
        }
        let kept = pin
            .map(|pin| {
                pin.check_new(&person.name, role)?;
                pin.keep(&self.records.station_key(), &person.name, self.cost)
            })
            .transpose()?;
        let detail = json!({ "from": person.role, "to": role, "new_pin": kept.is_some() });
        self.change(person, PersonChange::Role(role, kept), ("role-changed", detail))
    }

    /// Gives a person another PIN; a lock-out ends with it. Everybody may change their own.
    ///
    /// # Errors
    /// `NotAllowed`, `InvalidInput`.
    pub fn set_pin(&self, name: &str, pin: &Pin) -> Result<Person, Failure> {
        let own = self.permit(None).is_ok()
            && self.session().0.is_some_and(|w| w.name.eq_ignore_ascii_case(name.trim()));
        if !own {
            self.demand(Right::ManagePeople, "pin-changed", name)?;
        }
        let row = self.find(name)?;
        pin.check_new(&row.person.name, row.person.role)?;
        let kept = pin.keep(&self.records.station_key(), &row.person.name, self.cost)?;
        self.change(&row.person, PersonChange::Pin(kept), ("pin-changed", json!({})))
    }

    /// Gives whoever is logged in another PIN. The one they have is asked for: the station may stand open for somebody else. A wrong one
    /// counts as a wrong login.
    ///
    /// # Errors
    /// `LoginNeeded`, `LoginFailed` if the old one is wrong, `LockedOut`, `InvalidInput`.
    pub fn change_own_pin(&self, old: &Pin, new: &Pin) -> Result<Person, Failure> {
        let _one = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        self.permit(None)?;
        let Some(who) = self.session().0 else {
            return Err(Failure::new(FailureCode::LoginNeeded, ""));
        };
        let now = self.not_too_often()?;
        let row = self.find(&who.name)?;
        // What can't be a new PIN is said before a try is spent.
        new.check_new(&row.person.name, row.person.role)?;
        let key = self.records.station_key();
        self.tried(&row, "own pin", now, |row| old.fits(&key, &row.person.name, &row.pin))?;
        let kept = new.keep(&key, &row.person.name, self.cost)?;
        self.change(&row.person, PersonChange::Pin(kept), ("pin-changed", json!({ "own": true })))
    }

    /// Gives an admin who can't log in any more a new PIN, and ends a lock-out. No right is asked for: it is for whoever just opened the
    /// station by typing its passphrase, and only `station::recover` calls it.
    pub(crate) fn recover(&self, name: &str, pin: &Pin) -> Result<Person, Failure> {
        pin.check_new(name, Role::Admin)?;
        let named = self.list()?.into_iter().find(|p| p.name.to_lowercase() == name.trim().to_lowercase());
        // What is kept hangs on the name; a row that does not exist is refused below.
        let name = named.map_or_else(|| name.trim().to_owned(), |person| person.name);
        let kept = pin.keep(&self.records.station_key(), &name, self.cost)?;
        let entry = NewAudit {
            person: "passphrase".into(),
            role: "station",
            action: "people-recovered".into(),
            subject: name.clone(),
            detail: json!({}),
        };
        self.records.0.recover_person(name, kept, entry).map_err(records_failure)
    }

    /// Gives a person a badge, or takes it away.
    ///
    /// # Errors
    /// `NotAllowed`, `InvalidInput`, `NameTaken` if it is another person's.
    pub fn set_badge(&self, name: &str, badge: Option<&Pin>) -> Result<Person, Failure> {
        self.demand(Right::ManagePeople, "badge-changed", name)?;
        let row = self.find(name)?;
        let kept = badge.map(|badge| self.kept_badge(&row.person.name, badge)).transpose()?;
        let detail = json!({ "badge": kept.is_some() });
        self.change(&row.person, PersonChange::Badge(kept), ("badge-changed", detail))
    }

    /// Switches a person off or on again. Nobody is ever removed.
    ///
    /// # Errors
    /// `NotAllowed`, `InvalidInput` for the last admin.
    pub fn set_active(&self, name: &str, active: bool) -> Result<Person, Failure> {
        let action = if active { "person-switched-on" } else { "person-switched-off" };
        self.demand(Right::ManagePeople, action, name)?;
        let row = self.find(name)?;
        self.change(&row.person, PersonChange::Active(active), (action, json!({})))
    }

    /// Ends a lock-out.
    ///
    /// # Errors
    /// `NotAllowed`, `InvalidInput`.
    pub fn unlock(&self, name: &str) -> Result<Person, Failure> {
        self.demand(Right::ManagePeople, "person-unlocked", name)?;
        let row = self.find(name)?;
        let detail = json!({ "wrong": row.person.failures });
        self.change(&row.person, PersonChange::Unlock, ("person-unlocked", detail))
    }

    /// The audit log, newest first.
    ///
    /// # Errors
    /// `NotAllowed`; those of reading.
    pub fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEntry>, Failure> {
        self.demand(Right::ReadAudit, "audit-read", "")?;
        self.records.audit_list(filter).map_err(records_failure)
    }

    /// Looks at every row of both histories. Everybody may: it tells no more than whether they are whole.
    ///
    /// # Errors
    /// Those of reading; what is broken is in the answer.
    pub fn verify(&self) -> Result<Verified, Failure> {
        self.records.verify_all().map_err(records_failure)
    }

    /// The same, saying now and then how far it is; `None`: it was told to stop.
    ///
    /// # Errors
    /// As [`People::verify`].
    pub fn verify_with(&self, telling: Telling<'_>) -> Result<Option<Verified>, Failure> {
        self.records.verify_with(telling).map_err(records_failure)
    }

    /// Writes the audit log to a file as JSON Lines, oldest first, with its signature and the public key beside it.
    ///
    /// # Errors
    /// `NotAllowed`, `InvalidInput` for a file that exists, `SecretsFailed` if it can't be written.
    pub fn export_audit(&self, file: &Path, signer: &ExportSigner) -> Result<Exported, Failure> {
        self.demand(Right::ExportAudit, "audit-exported", "")?;
        if file.exists() {
            return Err(invalid(format!("{} exists already", file.display()), "Name another file"));
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.write(self.entry("audit-exported", &name, json!({ "key": signer.fingerprint() })))?;
        let mut rows = self.records.audit_list(&AuditFilter::default()).map_err(records_failure)?;
        rows.reverse();
        let mut text = Vec::new();
        for row in &rows {
            let line = serde_json::to_vec(row).map_err(|e| {
                Failure::new(FailureCode::StationFault, format!("audit row {}: {e}", row.seq))
            })?;
            text.extend_from_slice(&line);
            text.push(b'\n');
        }
        let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)
            .map_err(|e| Failure::new(FailureCode::ExportIo, format!("{}: {e}", folder.display())))?;
        let mut signature = file.as_os_str().to_owned();
        signature.push(".sig");
        let signature = PathBuf::from(signature);
        let key = folder.join("export.pub.pem");
        write_atomically(&key, signer.public_pem().as_bytes()).map_err(secrets_failure)?;
        write_atomically(&signature, &signer.sign(&text)).map_err(secrets_failure)?;
        // Last, so that a file that is there is signed.
        write_atomically(file, &text).map_err(secrets_failure)?;
        Ok(Exported { file: file.to_owned(), signature, key, rows: rows.len() })
    }

    /// Wrong tries before a lock-out, for words on the screen.
    pub const fn free_tries() -> u32 {
        FREE_TRIES
    }
}

/// An audit log that was written to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The file.
    pub file: PathBuf,
    /// Its detached signature.
    pub signature: PathBuf,
    /// The public key.
    pub key: PathBuf,
    /// Rows in it.
    pub rows: usize,
}

fn locked_out(name: &str, left: Duration) -> Failure {
    Failure {
        code: FailureCode::LockedOut,
        sentence: format!("{name} is locked out after too many wrong tries, for another {}", how_long(left)),
        remedy: format!("Wait, or ask an admin to unlock: keywright people unlock {name:?}"),
    }
}

/// What [`People::act`] writes down of an error.
pub trait AsFailure {
    /// Its code.
    fn code(&self) -> FailureCode;
}

impl AsFailure for Failure {
    fn code(&self) -> FailureCode {
        self.code
    }
}
