//! People and the audit log: who gets in, what each may do, and that a history which was touched says where.

mod support;

use keywright::desk::{self, Desk, DeskHandle};
use keywright::export::clerk::{self, Clerk, ExportHandle};
use keywright::export::{ExportSigner, Format, RecordsSource, Selection};
use keywright::failure::FailureCode;
use keywright::line::{self, LineHandle};
use keywright::model::{BatchState, LabelPolicy, UnitState};
use keywright::people::gate::Ticks;
use keywright::people::office::{self, Tools};
use keywright::people::{Credential, NewPerson, Office, People, PeopleHandle, Pin, PinCost, Right, Role};
use keywright::records::{AuditFilter, Broken, OpenOptions, Records, SqliteRecords};
use keywright::secrets::{KdfCost, Passphrase};
use keywright::station::{Options as StationOptions, Station as Opened};
use serde_json::json;
use std::io::{Seek, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use support::{Station, unit_id};

const START: i64 = 1_800_000_000_000;

/// A database whose clock stands still until it is moved.
struct Place {
    home: tempfile::TempDir,
    clock: Arc<AtomicI64>,
}

impl Place {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), clock: Arc::new(AtomicI64::new(START)) }
    }
    fn path(&self) -> PathBuf {
        self.home.path().join("station.db")
    }
    fn records(&self) -> SqliteRecords {
        let clock = self.clock.clone();
        let options = OpenOptions {
            cost: KdfCost::TEST,
            clock: Arc::new(move || clock.load(Ordering::Relaxed)),
            ..OpenOptions::new("bench-1")
        };
        SqliteRecords::open_with(&self.path(), options, &Passphrase::demo()).unwrap()
    }
    /// Idle time is the same clock.
    fn people(&self) -> People {
        let clock = self.clock.clone();
        let since = move || Duration::from_millis(clock.load(Ordering::Relaxed).abs_diff(START));
        let ticks: Ticks = Arc::new(since);
        People::with(self.records(), "Ada", PinCost::TEST, ticks).unwrap()
    }
    fn later(&self, seconds: i64) {
        self.clock.fetch_add(seconds * 1000, Ordering::Relaxed);
    }
    fn sql(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).unwrap()
    }
}

fn person(name: &str, role: Role, pin: &str) -> NewPerson {
    NewPerson { name: name.into(), role, pin: Pin::new(pin.to_owned()), badge: None }
}

fn pin(name: &str, pin: &str) -> Credential {
    Credential::Pin { name: name.into(), pin: Pin::new(pin.to_owned()) }
}

/// Ana the admin (729450), Tom the technician (2580, badge EMP-0042), Quin of QA (quality7).
fn staffed(place: &Place) -> People {
    let people = place.people();
    people.add(&person("Ana Petrović", Role::Admin, "729450")).unwrap();
    let badge = Some(Pin::new("EMP-0042".to_owned()));
    people.add(&NewPerson { badge, ..person("Tom", Role::Technician, "2580") }).unwrap();
    people.add(&person("Quin", Role::Qa, "quality7")).unwrap();
    people
}

fn actions(people: &People) -> Vec<String> {
    let mut all = people.audit(&AuditFilter::default()).unwrap();
    all.reverse();
    all.into_iter().map(|e| format!("{} {} {}", e.person, e.action, e.subject)).collect()
}

#[test]
fn an_open_station_closes_with_its_first_admin_and_stays_closed() {
    let place = Place::new();
    let people = place.people();
    assert!(people.is_open() && people.permit(Some(Right::Anchors)).is_ok());
    assert_eq!(people.operator(), "Ada");
    let early = people.add(&person("Tom", Role::Technician, "2580")).unwrap_err();
    assert_eq!(early.code, FailureCode::InvalidInput);
    assert!(early.remedy.contains("--role admin"), "{early}");
    people.add(&person("Ana Petrović", Role::Admin, "729450")).unwrap();
    assert!(!people.is_open());
    assert_eq!(people.operator(), "Ana Petrović", "whoever made the admin is logged in as it");
    drop(people);
    let people = place.people();
    assert!(!people.is_open());
    assert_eq!(people.permit(None).unwrap_err().code, FailureCode::LoginNeeded);
    // Whoever removes the people from the file does not open it again.
    drop(people);
    place.sql().execute_batch("DROP TRIGGER person_no_delete; DELETE FROM person").unwrap();
    let gone = People::new(place.records(), "Eve").unwrap_err();
    assert_eq!(gone.code, FailureCode::HistoryBroken);
    assert_eq!(place.records().verify_all().unwrap().broken[0].table, "person");
    // Neither does cutting the log with them: its end was sealed with their number.
    place.sql().execute_batch("DROP TRIGGER audit_no_delete; DELETE FROM audit").unwrap();
    assert_eq!(People::new(place.records(), "Eve").unwrap_err().code, FailureCode::HistoryBroken);
    place.sql().execute_batch("DELETE FROM audit; DELETE FROM meta WHERE key = 'audit-head'").unwrap();
    assert_eq!(People::new(place.records(), "Eve").unwrap_err().code, FailureCode::HistoryBroken);
}

#[test]
fn pins_and_badges_let_in_their_person_and_the_newest_login_counts() {
    let place = Place::new();
    let people = staffed(&place);
    let tom = people.login(&pin(" tom ", "2580")).unwrap();
    assert_eq!((tom.name.as_str(), tom.role), ("Tom", Role::Technician));
    assert_eq!(people.permit(Some(Right::Scrap)).unwrap_err().code, FailureCode::NotAllowed);
    people.login(&pin("Quin", "quality7")).unwrap();
    people.permit(Some(Right::Scrap)).unwrap();
    let badge = |text: &str| Credential::Badge(Pin::new(text.to_owned()));
    assert_eq!(people.login(&badge("EMP-0042")).unwrap().name, "Tom");
    assert_eq!(people.login(&badge("EMP-0043")).unwrap_err().code, FailureCode::LoginFailed);
    assert_eq!(people.login(&pin("Nobody", "2580")).unwrap_err().code, FailureCode::LoginFailed);
    assert_eq!(
        people.login(&pin("Tom", "EMP-0042")).unwrap_err().code,
        FailureCode::LoginFailed,
        "a badge is no PIN"
    );
    assert_eq!(people.login(&badge("2580")).unwrap_err().code, FailureCode::LoginFailed);
    assert_eq!(people.operator(), "Tom", "a failed try puts nobody out");
    people.login(&pin("Ana Petrović", "729450")).unwrap();
    let taken = people.set_badge("Quin", Some(&Pin::new("EMP-0042".to_owned()))).unwrap_err();
    assert!(taken.code == FailureCode::NameTaken && taken.sentence.contains("Tom"), "{taken}");
    people.set_badge("Tom", None).unwrap();
    assert!(people.login(&badge("EMP-0042")).is_err());
    // Nothing that anybody typed as a name, PIN or badge is kept in clear.
    drop(people);
    for file in ["station.db", "station.db-wal"] {
        let bytes = std::fs::read(place.home.path().join(file)).unwrap_or_default();
        for secret in ["quality7", "EMP-0042", "EMP-0043", "Nobody"] {
            assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{secret} in {file}");
        }
    }
}

#[test]
fn wrong_tries_lock_out_for_longer_and_longer_also_over_a_restart() {
    let place = Place::new();
    let mut people = staffed(&place);
    let wrong = |people: &People| people.login(&pin("Tom", "9517")).unwrap_err();
    // A name that nobody has is answered in the same words.
    let unknown = people.login(&pin("Tim", "9517")).unwrap_err();
    for _ in 0..4 {
        assert_eq!(wrong(&people), unknown);
    }
    drop(people);
    people = place.people();
    assert_eq!(wrong(&people).code, FailureCode::LockedOut, "tries are counted on disk");
    let right = || pin("Tom", "2580");
    assert_eq!(people.login(&right()).unwrap_err().code, FailureCode::LockedOut, "also the right PIN waits");
    place.later(29);
    assert!(people.login(&right()).unwrap_err().sentence.contains("another 1 s"));
    place.later(1);
    let failure = wrong(&people);
    assert!(failure.sentence.contains("60 s"), "{failure}");
    // A clock that is set back keeps nobody out for longer than that.
    place.later(-86_400);
    assert!(people.login(&right()).unwrap_err().sentence.contains("60 s"));
    place.later(86_400 + 60);
    people.login(&right()).unwrap();
    let tom = |people: &People| people.list().unwrap().into_iter().find(|p| p.name == "Tom").unwrap();
    assert_eq!(tom(&people).failures, 0, "the right PIN wiped the slate");
    drop(wrong(&people));
    // An admin ends it at once.
    (0..4).for_each(|_| drop(wrong(&people)));
    assert_eq!(people.login(&right()).unwrap_err().code, FailureCode::LockedOut);
    people.login(&pin("Ana Petrović", "729450")).unwrap();
    people.unlock("Tom").unwrap();
    people.login(&right()).unwrap();
}

#[test]
fn many_wrong_names_stop_all_tries_for_a_minute() {
    let place = Place::new();
    let people = staffed(&place);
    for n in 0..20 {
        assert_eq!(
            people.login(&pin(&format!("name {n}"), "2580")).unwrap_err().code,
            FailureCode::LoginFailed
        );
    }
    assert_eq!(people.login(&pin("Tom", "2580")).unwrap_err().code, FailureCode::LockedOut);
    place.later(61);
    people.login(&pin("Tom", "2580")).unwrap();
}

#[test]
fn people_are_looked_after_by_admins_and_the_last_admin_stays() {
    let place = Place::new();
    let people = staffed(&place);
    for failed in [
        people.set_role("Ana Petrović", Role::Qa, None).unwrap_err(),
        people.set_active("Ana Petrović", false).unwrap_err(),
    ] {
        assert!(
            failed.code == FailureCode::InvalidInput && failed.sentence.contains("last admin"),
            "{failed}"
        );
    }
    let longer = people.set_role("Tom", Role::Qa, None).unwrap_err();
    assert!(longer.remedy.contains("6 characters"), "{longer}");
    people.set_role("Tom", Role::Qa, Some(&Pin::new("hand2mouth".to_owned()))).unwrap();
    assert_eq!(people.add(&person("quin", Role::Qa, "quality8")).unwrap_err().code, FailureCode::NameTaken);
    assert_eq!(people.add(&person(" ", Role::Qa, "quality8")).unwrap_err().code, FailureCode::InvalidInput);
    people.set_active("Quin", false).unwrap();
    assert_eq!(people.login(&pin("Quin", "quality7")).unwrap_err().code, FailureCode::LoginFailed);
    assert_eq!(people.list().unwrap().len(), 3, "nobody is ever removed");
    people.set_active("Quin", true).unwrap();
    people.login(&pin("Quin", "quality7")).unwrap();
    // Everybody may change their own PIN, and nobody else's.
    people.set_pin("Quin", &Pin::new("quality9".to_owned())).unwrap();
    assert_eq!(
        people.set_pin("Tom", &Pin::new("quality9".to_owned())).unwrap_err().code,
        FailureCode::NotAllowed
    );
    assert_eq!(people.add(&person("Eve", Role::Admin, "evil00l")).unwrap_err().code, FailureCode::NotAllowed);
    assert!(people.login(&pin("Quin", "quality7")).is_err());
    people.login(&pin("Quin", "quality9")).unwrap();
    // The tables hold it, whoever writes.
    let sql = place.sql();
    for forbidden in [
        "DELETE FROM person",
        "UPDATE person SET name = 'Eve' WHERE id = 1",
        "UPDATE person SET role = 'qa' WHERE id = 1",
        "UPDATE person SET active = 0 WHERE id = 1",
        "UPDATE audit SET person = 'Eve'",
        "DELETE FROM audit",
        "INSERT INTO audit SELECT seq + 1000, at_ms, person, role, action, subject, detail, chain FROM audit LIMIT 1",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE seq = 1",
    ] {
        assert!(sql.execute_batch(forbidden).is_err(), "{forbidden}");
    }
    // A role that an editor gives counts for nothing.
    sql.execute_batch("UPDATE person SET role = 'admin' WHERE name = 'Quin'").unwrap();
    assert_eq!(people.login(&pin("Quin", "quality9")).unwrap_err().code, FailureCode::HistoryBroken);
    let broken = place_broken(&people);
    assert_eq!((broken[0].table, broken[0].row), ("person", 3));
}

fn place_broken(people: &People) -> Vec<Broken> {
    people.verify().unwrap().broken
}

#[test]
fn the_station_locks_itself_and_the_person_stays() {
    let place = Place::new();
    let people = staffed(&place);
    people.set_auto_lock(Duration::from_secs(600));
    people.login(&pin("Tom", "2580")).unwrap();
    place.later(500);
    people.touch();
    place.later(599);
    assert!(!people.tick());
    place.later(1);
    assert!(people.tick() && !people.tick(), "once");
    let (who, locked) = people.session();
    assert!(locked && who.unwrap().name == "Tom");
    assert_eq!(people.permit(Some(Right::RunLine)).unwrap_err().code, FailureCode::LoginNeeded);
    people.login(&pin("Quin", "quality7")).unwrap();
    people.lock();
    assert!(people.session().1);
    people.login(&pin("Ana Petrović", "729450")).unwrap();
    let told = actions(&people);
    assert_eq!(
        told[told.len() - 5..],
        [
            "Tom login Tom",
            "Tom locked ",
            "Quin login Quin",
            "Quin locked ",
            "Ana Petrović login Ana Petrović"
        ]
    );
}

#[test]
fn every_act_has_its_row_before_it_and_a_failure_another() {
    let place = Place::new();
    let people = staffed(&place);
    let rows = |people: &People| people.audit(&AuditFilter::default()).unwrap().len();
    let before = rows(&people);
    let done: Result<i32, keywright::failure::Failure> =
        people.act(Right::ManageBatches, ("batch-closed", "B-1"), json!({ "why": "full" }), || {
            assert_eq!(rows(&people), before + 1, "on disk before the act");
            Ok(7)
        });
    assert_eq!(done.unwrap(), 7);
    let failed: Result<(), _> = people.act(Right::Scrap, ("unit-scrap", "B1-1"), json!({}), || {
        Err(keywright::failure::Failure::new(FailureCode::Scrapped, ""))
    });
    assert_eq!(failed.unwrap_err().code, FailureCode::Scrapped);
    people.login(&pin("Tom", "2580")).unwrap();
    let refused: Result<(), keywright::failure::Failure> =
        people.act(Right::Scrap, ("unit-scrap", "B1-2"), json!({}), || panic!("he may not"));
    assert_eq!(refused.unwrap_err().code, FailureCode::NotAllowed);
    people.login(&pin("Ana Petrović", "729450")).unwrap();
    let of = |filter: AuditFilter| people.audit(&filter).unwrap();
    let scraps = of(AuditFilter { action: "SCRAP".into(), ..AuditFilter::default() });
    assert_eq!(scraps.len(), 2);
    assert_eq!(scraps[0].detail, json!({ "failed": "K604" }));
    let refused =
        of(AuditFilter { person: "tom".into(), action: "refused".into(), ..AuditFilter::default() });
    assert_eq!(
        (refused.len(), refused[0].subject.as_str(), refused[0].role.as_str()),
        (1, "B1-2", "technician")
    );
    assert_eq!(refused[0].detail["right"], "scrap units");
    let page = of(AuditFilter { before: refused[0].seq, limit: 2, ..AuditFilter::default() });
    assert_eq!(page.iter().map(|e| e.seq).collect::<Vec<_>>(), [refused[0].seq - 1, refused[0].seq - 2]);
}

/// Every column of a row, a missing row, two that changed places, and an end that was cut: each is found at its place.
#[test]
fn a_touched_audit_row_is_named_with_its_place() {
    let touched: [(&str, &str, &[i64]); 13] = [
        ("time", "UPDATE audit SET at_ms = at_ms + 1 WHERE seq = 4", &[4]),
        ("person", "UPDATE audit SET person = 'Eve' WHERE seq = 4", &[4]),
        ("role", "UPDATE audit SET role = 'qa' WHERE seq = 4", &[4]),
        ("action", "UPDATE audit SET action = 'login' WHERE seq = 4", &[4]),
        ("subject", "UPDATE audit SET subject = 'B-9' WHERE seq = 4", &[4]),
        ("detail", "UPDATE audit SET detail = '{}' WHERE seq = 4", &[4]),
        ("chain", "UPDATE audit SET chain = zeroblob(32) WHERE seq = 4", &[4]),
        (
            "a text moved to the next column",
            "UPDATE audit SET action = action || subject, subject = '' WHERE seq = 4",
            &[4],
        ),
        ("number", "UPDATE audit SET seq = 99 WHERE seq = 7", &[99, 99]),
        ("removed", "DELETE FROM audit WHERE seq = 4", &[5]),
        (
            "swapped",
            "UPDATE audit SET seq = 100 WHERE seq = 3; UPDATE audit SET seq = 3 WHERE seq = 5; UPDATE audit SET seq = 5 WHERE seq = 100",
            &[3, 4, 5, 6],
        ),
        (
            "written anew to the end",
            "UPDATE audit SET subject = 'B-9', chain = randomblob(32) WHERE seq >= 5",
            &[5, 6, 7, 7],
        ),
        (
            "at two places",
            "UPDATE audit SET subject = 'B-9' WHERE seq = 2; UPDATE audit SET person = 'Eve' WHERE seq = 6",
            &[2, 6],
        ),
    ];
    for (what, sql, places) in touched {
        let place = Place::new();
        let people = staffed(&place);
        for n in 0..4 {
            people.note("batch-closed", &format!("B-{n}"), json!({ "n": n }));
        }
        assert_eq!(place_broken(&people), [], "{what}");
        assert_eq!(people.verify().unwrap().audit, 7);
        let at = place.clock.load(Ordering::Relaxed);
        place.sql().execute_batch("DROP TRIGGER audit_no_update; DROP TRIGGER audit_no_delete").unwrap();
        place.sql().execute_batch(sql).unwrap();
        let broken = place_broken(&people);
        assert_eq!(broken.iter().map(|b| b.row).collect::<Vec<_>>(), places, "{what}: {broken:?}");
        assert!(broken.iter().all(|b| b.table == "audit"), "{what}: {broken:?}");
        assert!(broken[0].at_ms.is_some_and(|t| t == at || t == at + 1), "{what}: {broken:?}");
    }
}

#[test]
fn a_tail_that_was_cut_is_found_and_stays_found() {
    let place = Place::new();
    let people = staffed(&place);
    (0..4).for_each(|n| people.note("batch-closed", &format!("B-{n}"), json!({})));
    place.sql().execute_batch("DROP TRIGGER audit_no_delete; DELETE FROM audit WHERE seq > 5").unwrap();
    let broken = place_broken(&people);
    assert_eq!((broken[0].table, broken[0].row), ("audit", 5));
    assert!(broken[0].what.contains("rows 6 to 7 were removed"), "{broken:?}");
    // The next start writes on, and so seals the end anew; that it was broken stays in the log.
    drop(people);
    let people = place.people();
    people.login(&pin("Tom", "2580")).unwrap();
    for _ in 0..2 {
        let broken = place_broken(&people);
        assert_eq!((broken[0].table, broken[0].row), ("audit", 6));
        assert!(broken[0].what.contains("rows 6 to 7 were removed"), "{broken:?}");
    }
    drop(people);
    assert_eq!(place.records().verify_all().unwrap().broken.len(), 1, "it is said once");
    // What is touched after that is found all the same, before it as well as behind it.
    place.sql().execute_batch("DROP TRIGGER audit_no_update").unwrap();
    for row in [2, 7] {
        place.sql().execute("UPDATE audit SET person = 'Eve' WHERE seq = ?1", [row]).unwrap();
    }
    let found = place.records().verify_all().unwrap();
    assert_eq!(found.broken.iter().map(|b| b.row).collect::<Vec<_>>(), [2, 6, 7], "{found:?}");
    assert!(found.summary().unwrap().ends_with("2 more places don't fit"), "{found:?}");
}

/// The seal of an old row is as good as ever: only the roll knows that it is not the newest.
#[test]
fn a_person_who_was_put_back_with_an_editor_does_not_get_in() {
    type Change = fn(&People);
    let changes: [(&str, Change); 5] = [
        ("another role", |p| drop(p.set_role("Eve", Role::Technician, None).unwrap())),
        ("switched off", |p| drop(p.set_active("Eve", false).unwrap())),
        ("another PIN", |p| drop(p.set_pin("Eve", &Pin::new("other7".to_owned())).unwrap())),
        ("no badge", |p| drop(p.set_badge("Eve", None).unwrap())),
        ("locked out", |p| (0..5).for_each(|_| drop(p.login(&pin("Eve", "wrong")).unwrap_err()))),
    ];
    for (what, change) in changes {
        let place = Place::new();
        let mut people = staffed(&place);
        let badge = Some(Pin::new("EVE-0001".to_owned()));
        people.add(&NewPerson { badge, ..person("Eve", Role::Admin, "evil00l") }).unwrap();
        let sql = place.sql();
        sql.execute_batch("CREATE TEMP TABLE old AS SELECT * FROM person WHERE name = 'Eve'").unwrap();
        change(&people);
        assert_eq!(place_broken(&people), [], "{what}");
        sql.execute_batch(
            "UPDATE person SET (role, pin, badge, badge_mark, active, failures, locked_until_ms, seal)
             = (SELECT role, pin, badge, badge_mark, active, failures, locked_until_ms, seal FROM old) WHERE name = 'Eve'",
        )
        .unwrap();
        for again in [false, true] {
            if again {
                drop(people);
                people = place.people();
            }
            for credential in [pin("Eve", "evil00l"), Credential::Badge(Pin::new("EVE-0001".to_owned()))] {
                let refused = people.login(&credential).unwrap_err();
                assert!(
                    refused.code == FailureCode::HistoryBroken && refused.sentence.contains("Eve"),
                    "{refused}"
                );
            }
            let broken = place_broken(&people);
            assert_eq!(
                (broken.len(), broken[0].table, broken[0].row),
                (1, "person", 4),
                "{what}: {broken:?}"
            );
            assert!(broken[0].what.contains("older row of \"Eve\" was put back"), "{what}: {broken:?}");
            // Nobody else is kept out, and it stands in the log.
            people.login(&pin("Ana Petrović", "729450")).unwrap();
            let failed = AuditFilter { action: "login-failed".into(), ..AuditFilter::default() };
            assert!(people.audit(&failed).unwrap()[0].detail["what"].as_str().unwrap().contains("Eve"));
        }
    }
}

#[test]
fn the_roll_of_people_can_not_be_put_back_either() {
    let place = Place::new();
    let people = staffed(&place);
    let sql = place.sql();
    sql.execute_batch(
        "CREATE TEMP TABLE old AS SELECT * FROM meta WHERE key IN ('people-roll', 'audit-head')",
    )
    .unwrap();
    people.set_role("Quin", Role::Technician, None).unwrap();
    drop(people);
    // With a roll that does not fit its seal nobody gets in, and the next row that is written does not seal it.
    sql.execute_batch(
        "UPDATE meta SET value = (SELECT value FROM old WHERE old.key = meta.key) WHERE key = 'people-roll'",
    )
    .unwrap();
    let people = place.people();
    people.note("locked", "", json!({}));
    assert_eq!(people.login(&pin("Quin", "quality7")).unwrap_err().code, FailureCode::HistoryBroken);
    assert!(place_broken(&people)[0].what.contains("sealed roll of people"), "{:?}", place_broken(&people));
    drop(people);
    // Its seal is put back as well: that is the end of an older audit log.
    sql.execute_batch("UPDATE meta SET value = (SELECT value FROM old WHERE old.key = meta.key) WHERE key IN (SELECT key FROM old)")
        .unwrap();
    let people = place.people();
    assert!(
        place_broken(&people)
            .iter()
            .any(|b| b.table == "audit" && b.what.contains("was not written by this station"))
    );
    // A row that nobody wrote, and one that is gone.
    drop(people);
    let place = Place::new();
    let people = staffed(&place);
    let sql = place.sql();
    sql.execute_batch(
        "DROP TRIGGER person_no_delete; DROP TRIGGER person_identity; UPDATE person SET id = 9 WHERE name = 'Tom'",
    )
    .unwrap();
    let broken = place_broken(&people);
    assert_eq!(broken.iter().map(|b| b.row).collect::<Vec<_>>(), [9, 2], "{broken:?}");
}

/// Whoever has the passphrase gives an admin a new PIN; an editor makes nobody an admin by this way.
#[test]
fn an_admin_is_recovered_with_the_passphrase_and_nobody_else() {
    let home = tempfile::tempdir().unwrap();
    let options = StationOptions {
        home: home.path().to_owned(),
        config: None,
        passphrase_fd: None,
        token_pin_fd: None,
        demo: true,
        operator: String::new(),
    };
    let open = || Opened::open(&options).unwrap();
    let recover = |name: &str| {
        let new = Pin::new("recov7x".to_owned());
        keywright::station::recover(&options, &Passphrase::demo(), name, &new)
    };
    let station = open();
    station.people.add(&person("Ana", Role::Admin, "729450")).unwrap();
    station.people.add(&person("Eve", Role::Admin, "evil00l")).unwrap();
    station.people.add(&person("Tom", Role::Technician, "2580")).unwrap();
    let sql = rusqlite::Connection::open(options.records_path()).unwrap();
    sql.execute_batch("CREATE TEMP TABLE old AS SELECT * FROM person WHERE name = 'Eve'").unwrap();
    station.people.set_role("Eve", Role::Technician, None).unwrap();
    drop(station);
    // An old row, an edited one, and all of it without the seal.
    sql.execute_batch(
        "UPDATE person SET (role, seal) = (SELECT role, seal FROM old) WHERE name = 'Eve';
         UPDATE person SET role = 'admin' WHERE name = 'Tom'; UPDATE person SET failures = 9 WHERE name = 'Ana'",
    )
    .unwrap();
    for name in ["Eve", "Tom"] {
        assert_eq!(recover(name).unwrap_err().code, FailureCode::HistoryBroken, "{name}");
    }
    recover("Ana").unwrap();
    let wrong = keywright::station::recover(
        &options,
        &Passphrase::new("quite another one".to_owned()),
        "Ana",
        &Pin::new("recov7x".to_owned()),
    );
    assert_eq!(wrong.unwrap_err().code, FailureCode::WrongPassphrase);
    sql.execute_batch("DELETE FROM meta WHERE key = 'people-roll'").unwrap();
    assert_eq!(open().people.login(&pin("Ana", "recov7x")).unwrap_err().code, FailureCode::HistoryBroken);
    recover("Ana").unwrap();
    let station = open();
    station.people.login(&pin("Ana", "recov7x")).unwrap();
    let broken = station.people.verify().unwrap().broken;
    assert_eq!(
        broken.iter().map(|b| (b.table, b.row)).collect::<Vec<_>>(),
        [("person", 2), ("person", 3)],
        "{broken:?}"
    );
    let filter = AuditFilter { action: "people-recovered".into(), ..AuditFilter::default() };
    let rows: Vec<_> = station.people.audit(&filter).unwrap().into_iter().map(|r| r.detail).collect();
    assert_eq!(rows, [json!({ "people_sealed_anew": true }), json!({ "row_was_touched": true })]);
}

/// What schema 12 held of people is sealed once, and only if nobody cut the audit log.
#[test]
fn people_of_an_older_schema_are_sealed_with_the_upgrade() {
    for cut in [false, true] {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("station.db");
        let sql = rusqlite::Connection::open(&path).unwrap();
        sql.execute_batch(include_str!("../../db/fixtures/schema-8.sql")).unwrap();
        if cut {
            sql.execute_batch("DROP TRIGGER audit_no_delete; DELETE FROM audit WHERE seq = 16").unwrap();
        }
        let people =
            People::new(SqliteRecords::open(&path, "bench-1", &Passphrase::demo()).unwrap(), "").unwrap();
        let login = people.login(&pin("Ana", "729450"));
        if cut {
            assert_eq!(login.unwrap_err().code, FailureCode::HistoryBroken);
            continue;
        }
        login.unwrap();
        assert_eq!(place_broken(&people), []);
        sql.execute_batch("CREATE TEMP TABLE old AS SELECT * FROM person WHERE name = 'Ana'").unwrap();
        people.set_pin("Ana", &Pin::new("other7".to_owned())).unwrap();
        sql.execute_batch("UPDATE person SET (pin, seal) = (SELECT pin, seal FROM old) WHERE name = 'Ana'")
            .unwrap();
        assert_eq!(people.login(&pin("Ana", "729450")).unwrap_err().code, FailureCode::HistoryBroken);
    }
}

#[test]
fn a_look_at_the_histories_says_how_far_it_is_and_can_be_stopped() {
    let place = Place::new();
    let people = staffed(&place);
    (0..520).for_each(|n| people.note("batch-closed", &format!("B-{n}"), json!({})));
    let mut seen = Vec::new();
    let found = people.verify_with(&mut |looked| {
        seen.push((looked.done, looked.total));
        ControlFlow::Continue(())
    });
    assert_eq!(found.unwrap().unwrap().audit, 523);
    assert_eq!(seen, [(0, 523), (512, 523)]);
    let stopped = people.verify_with(&mut |looked| match looked.done {
        0 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    });
    assert_eq!(stopped.unwrap(), None);
}

#[test]
fn a_label_is_no_badge_and_costs_no_try() {
    let place = Place::new();
    let people = staffed(&place);
    let label = || Pin::new("KW1:B1-00001K:0123456789ABCDEF:0000".to_owned());
    let rows = actions(&people).len();
    for _ in 0..30 {
        for credential in [Credential::Badge(label()), Credential::Pin { name: "Tom".into(), pin: label() }] {
            let refused = people.login(&credential).unwrap_err();
            assert!(
                refused.code == FailureCode::InvalidInput && refused.sentence.contains("label"),
                "{refused}"
            );
        }
    }
    assert_eq!(actions(&people).len(), rows, "no try, no row");
    people.login(&pin("Tom", "2580")).unwrap();
    people.login(&pin("Ana Petrović", "729450")).unwrap();
    assert!(people.set_badge("Tom", Some(&label())).is_err());
}

#[test]
fn everybody_changes_their_own_pin_with_the_one_they_have() {
    let place = Place::new();
    let people = staffed(&place);
    people.login(&pin("Tom", "2580")).unwrap();
    let new = |text: &str| Pin::new(text.to_owned());
    let change = |old: &str, to: &str| people.change_own_pin(&new(old), &new(to));
    assert_eq!(change("2580", "1234").unwrap_err().code, FailureCode::InvalidInput);
    for _ in 0..4 {
        assert_eq!(change("9517", "7391").unwrap_err().code, FailureCode::LoginFailed);
    }
    assert_eq!(change("9517", "7391").unwrap_err().code, FailureCode::LockedOut, "no way to guess it here");
    assert_eq!(change("2580", "7391").unwrap_err().code, FailureCode::LockedOut);
    place.later(30);
    change("2580", "7391").unwrap();
    assert_eq!(people.login(&pin("Tom", "2580")).unwrap_err().code, FailureCode::LoginFailed);
    people.login(&pin("Tom", "7391")).unwrap();
    people.lock();
    assert_eq!(change("7391", "4826").unwrap_err().code, FailureCode::LoginNeeded);
}

#[test]
fn an_act_whose_row_can_not_be_written_is_not_done() {
    let station = Station::new(2, 2);
    station.arrive(unit_id(1));
    let people = Arc::new(
        People::with(station.records.clone(), "Ada", PinCost::TEST, Arc::new(|| Duration::ZERO)).unwrap(),
    );
    people.add(&person("Ana", Role::Admin, "729450")).unwrap();
    let clerk = Clerk::new(clerk::Office {
        source: RecordsSource { records: station.records.clone(), vault: station.records.key_vault() },
        people: people.clone(),
        signer: Box::new(|| Ok(ExportSigner::from_seed(&[7; 32]))),
        station: "bench-1".into(),
        needs_second_person: false,
        folder: station.home.path().join("exports"),
        now_ms: || START,
    })
    .unwrap();
    let (wake, changes) = mpsc::channel();
    let wake = Mutex::new(wake);
    clerk.on_change(Box::new(move || {
        let _ = wake.lock().unwrap().send(());
    }));
    let until = |done: &dyn Fn(&clerk::Snapshot) -> bool| {
        while !done(&clerk.snapshot()) {
            let told = changes.recv_timeout(Duration::from_secs(60));
            told.unwrap_or_else(|_| panic!("{:?}", clerk.snapshot().told));
        }
    };
    let order = |folder: &str| clerk::Order {
        selection: Selection::default(),
        format: Format::Csv,
        wanted: clerk::Wanted::Nothing,
        handed_to: "the vendor".into(),
        second_person: String::new(),
        second_shows: None,
        operator: "Ana".into(),
        replaces: None,
        folder: station.home.path().join(folder),
    };
    let sql = station.sql();
    sql.execute_batch(
        "CREATE TRIGGER full BEFORE INSERT ON audit WHEN NEW.action = 'list-exported' BEGIN SELECT RAISE(ABORT, 'full'); END",
    )
    .unwrap();
    clerk.send(clerk::Command::Export(Box::new(order("first"))));
    until(&|s| matches!(s.told, desk::Told::Failed(_)));
    assert!(!station.home.path().join("first").exists() && clerk.snapshot().log.is_empty());
    sql.execute_batch("DROP TRIGGER full").unwrap();
    clerk.send(clerk::Command::Export(Box::new(order("second"))));
    until(&|s| !s.log.is_empty() && matches!(s.told, desk::Told::Done(_)));
    // A revocation that fails has a second row.
    clerk.send(clerk::Command::Revoke { export: 99, operator: "Ana".into(), reason: "lost".into() });
    until(&|s| matches!(s.told, desk::Told::Failed(_)));
    let revoked = AuditFilter { action: "export-revoked".into(), ..AuditFilter::default() };
    let rows = people.audit(&revoked).unwrap();
    assert_eq!((rows.len(), &rows[1].detail), (2, &json!({ "reason": "lost" })));
    assert!(rows[0].detail["failed"].is_string(), "{rows:?}");
    assert!(actions(&people).contains(&"Ana list-exported all".to_owned()), "{:?}", actions(&people));
}

#[test]
fn the_units_history_has_a_sealed_end_too() {
    let station = Station::new(2, 2);
    station.arrive(unit_id(1));
    station.arrive(unit_id(2));
    let found = station.records.verify_all().unwrap();
    assert_eq!((found.broken.len(), found.events), (0, 2));
    let sql = station.sql();
    // The whole rest computed anew, as anybody can: a plain chain alone would not show it.
    sql.execute_batch("DROP TRIGGER unit_event_no_update; DROP TRIGGER unit_event_no_delete; DELETE FROM unit_event WHERE seq = 2")
        .unwrap();
    station.records.verify_history().unwrap();
    let broken = station.records.verify_all().unwrap().broken;
    assert_eq!((broken[0].table, broken[0].row), ("unit_event", 1));
    sql.execute_batch("DELETE FROM meta WHERE key = 'event-head'").unwrap();
    assert!(station.records.verify_all().unwrap().broken[0].what.contains("seal"));
    let Station { home, records, agent, .. } = station;
    drop((records, agent, sql));
    // An open station stays usable; what was found stays in the log.
    let records = support::open(home.path());
    let broken = records.verify_all().unwrap().broken;
    assert_eq!((broken.len(), broken[0].table, broken[0].row), (1, "audit", 1));
    assert!(People::new(records, "Ada").unwrap().is_open());
}

/// Schema 5 had no people and no seals: its history is taken as it is, and is sealed from then on.
#[test]
fn a_station_from_before_there_were_people_is_open() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("station.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(include_str!("../../db/fixtures/schema-5.sql"))
        .unwrap();
    let records = SqliteRecords::open(&path, "bench-1", &Passphrase::demo()).unwrap();
    let found = records.verify_all().unwrap();
    assert_eq!((found.broken.len(), found.events, found.audit), (0, 15, 0));
    assert_eq!(records.batch_counts(records.batch_by_name("B").unwrap().id).unwrap().passed, 1);
    assert!(People::new(records, "Ada").unwrap().is_open());
    let sql = rusqlite::Connection::open(&path).unwrap();
    sql.execute_batch("DROP TRIGGER unit_event_no_delete; DELETE FROM unit_event WHERE seq > 10").unwrap();
    let records = SqliteRecords::open(&path, "bench-1", &Passphrase::demo()).unwrap();
    assert!(records.verify_all().unwrap().broken[0].what.contains("rows 11 to 15"));
}

/// Schema 6 knew people; what they did, their PINs and the seals are as they were.
#[test]
fn people_from_before_there_were_labels_stay() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("station.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(include_str!("../../db/fixtures/schema-6.sql"))
        .unwrap();
    let records = SqliteRecords::open(&path, "bench-1", &Passphrase::demo()).unwrap();
    let found = records.verify_all().unwrap();
    assert_eq!((found.broken.len(), found.events, found.audit), (0, 15, 5));
    let batch = records.batch_by_name("B").unwrap();
    assert_eq!((batch.state, records.batch_counts(batch.id).unwrap().passed), (BatchState::Paused, 1));
    let people = People::new(records, "Eve").unwrap();
    assert!(!people.is_open());
    assert_eq!(people.login(&pin("Tom", "2580")).unwrap().role, Role::Technician);
    people.login(&pin("Ana", "729450")).unwrap();
    assert_eq!(actions(&people)[4], "Ana batch-paused B");
}

/// Schema 8 knew labels and what was handed out.
#[test]
fn orders_and_lists_of_schema_8_stay() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("station.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(include_str!("../../db/fixtures/schema-8.sql"))
        .unwrap();
    let records = SqliteRecords::open(&path, "bench-1", &Passphrase::demo()).unwrap();
    let found = records.verify_all().unwrap();
    assert_eq!((found.broken.len(), found.events, found.audit), (0, 15, 16));
    let batch = records.batch_by_name("B").unwrap();
    assert_eq!((batch.state, records.batch_counts(batch.id).unwrap().passed), (BatchState::Open, 1));
    let labelled = records.batch_by_name("B-8").unwrap();
    assert_eq!(records.product_order(labelled.po).unwrap().label, LabelPolicy::Print);
    let exports = records.list_exports(batch.id).unwrap();
    assert_eq!((exports.len(), exports[0].selection.as_str(), exports[0].rows), (1, "batch=B", 1));
    let people = People::new(records, "Eve").unwrap();
    people.login(&pin("Ana", "729450")).unwrap();
    assert_eq!(actions(&people)[14], "Ana list-exported B");
}

/// A line that only writes down what it is told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<line::Command>>>);

impl Told {
    fn take(&self) -> Vec<line::Command> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl LineHandle for Told {
    fn send(&self, command: line::Command) {
        self.0.lock().unwrap().push(command);
    }
    fn snapshot(&self) -> Arc<line::Snapshot> {
        Arc::default()
    }
    fn on_change(&self, _: Box<dyn Fn() + Send + Sync>) {}
}

/// Waits for the office to be where it should be; every change wakes it.
fn until(
    office: &Office,
    changes: &mpsc::Receiver<()>,
    what: &str,
    done: impl Fn(&office::Snapshot) -> bool,
) {
    while !done(&office.snapshot()) {
        changes
            .recv_timeout(Duration::from_secs(60))
            .unwrap_or_else(|_| panic!("{what}: {:?}", office.snapshot()));
    }
}

#[test]
fn behind_the_lock_screen_only_commands_wait() {
    use line::Command as C;
    let place = Place::new();
    let people = Arc::new(staffed(&place));
    people.set_auto_lock(Duration::from_secs(600));
    people.login(&pin("Tom", "2580")).unwrap();
    let (told, raw) = (Told::default(), Told::default());
    let to_line = raw.clone();
    let tools = Tools {
        line: Box::new(move |command| to_line.send(command)),
        signer: Box::new(|| Ok(ExportSigner::from_seed(&[7; 32]))),
        folder: place.home.path().join("exports"),
    };
    let office = Office::new(people.clone(), tools).unwrap();
    let (wake, changes) = mpsc::channel();
    let wake = Mutex::new(wake);
    office.on_change(Box::new(move || {
        let _ = wake.lock().unwrap().send(());
    }));
    let line = office.guard(Box::new(told.clone()));
    line.send(C::SelectBatch("B-1".into()));
    line.send(C::Start(0));
    line.send(C::SetOperator("Eve".into()));
    let work = line::Work::Make;
    line.send(C::StartFor { fixture: 1, batch: "B-1".into(), work });
    assert_eq!(told.take(), [C::SelectBatch("B-1".into()), C::Start(0)], "no other name, nothing of QA's");
    // Ten idle minutes: nothing is sent to the line, so what runs goes on.
    place.later(600);
    until(&office, &changes, "locked", |s| s.is_locked());
    line.send(C::Start(1));
    line.send(C::Cancel(0));
    line.send(C::AutoStart(true));
    assert_eq!((told.take(), raw.take()), (vec![], vec![]));
    // A wrong PIN, then the right one of somebody else: from now on units carry the other name.
    office.send(office::Command::Login(pin("Quin", "quality8")));
    until(&office, &changes, "refused", |s| matches!(s.told, office::Told::Failed(_)));
    office.send(office::Command::Login(pin("Quin", "quality7")));
    until(&office, &changes, "let in", |s| s.logins == 1 && !s.is_locked());
    assert_eq!(raw.take(), [C::SetOperator("Quin".into())]);
    line.send(C::Cancel(0));
    assert_eq!(told.take(), [C::Cancel(0)]);
    // What only others may see is not in QA's snapshot, and what is not QA's is refused in the library as well.
    assert!(office.snapshot().persons.is_empty());
    assert!(office.snapshot().refusal(Right::Export).is_some());
    office.send(office::Command::Unlock("Tom".into()));
    until(
        &office,
        &changes,
        "refused",
        |s| matches!(&s.told, office::Told::Failed(f) if f.code == FailureCode::NotAllowed),
    );
    office.send(office::Command::Lock);
    until(&office, &changes, "locked", |s| s.is_locked());
    office.send(office::Command::Login(pin("Ana Petrović", "729450")));
    until(&office, &changes, "let in", |s| s.logins == 2);
    assert_eq!(office.snapshot().persons.len(), 3);
    office.send(office::Command::Audit(AuditFilter { action: "refused".into(), ..AuditFilter::default() }));
    until(&office, &changes, "read", |s| !s.audit.is_empty());
    assert!(office.snapshot().audit.len() >= 5, "{:?}", office.snapshot().audit);
    office.send(office::Command::Verify);
    until(&office, &changes, "whole", |s| s.verified.as_ref().is_some_and(|v| v.broken.is_empty()));
    office.send(office::Command::Export);
    until(
        &office,
        &changes,
        "exported",
        |s| matches!(s.told, office::Told::Done(office::Done::Exported { rows, .. }) if rows > 10),
    );
    drop(line);
    drop(office);
    let told = actions(&people);
    for row in ["Tom batch-selected B-1", "Quin cancelled ", "Tom locked ", "nobody login-failed Quin"] {
        assert!(told.iter().any(|t| t == row), "{row} in {told:?}");
    }
}

#[test]
fn the_desk_asks_the_gate_and_names_who_is_logged_in() {
    let station = Station::new(2, 2);
    station.arrive(unit_id(1));
    let people =
        People::with(station.records.clone(), "Ada", PinCost::TEST, Arc::new(|| Duration::ZERO)).unwrap();
    people.add(&person("Ana", Role::Admin, "729450")).unwrap();
    people.add(&person("Tom", Role::Technician, "2580")).unwrap();
    people.add(&person("Quin", Role::Qa, "quality7")).unwrap();
    let people = Arc::new(people);
    let (_line, events) = mpsc::channel();
    let desk = Desk::behind(
        Arc::new(station.records.clone()),
        station.agent.clone(),
        vec!["left".into()],
        |_| {},
        events,
        None,
        Some(people.clone()),
    )
    .unwrap();
    let (wake, changes) = mpsc::channel();
    let wake = Mutex::new(wake);
    desk.on_change(Box::new(move || {
        let _ = wake.lock().unwrap().send(());
    }));
    let until = |done: &dyn Fn(&desk::Snapshot) -> bool| {
        while !done(&desk.snapshot()) {
            changes
                .recv_timeout(Duration::from_secs(60))
                .unwrap_or_else(|_| panic!("{:?}", desk.snapshot().told));
        }
    };
    let quarantine = |operator: &str| {
        desk.send(desk::Command::Decide(desk::Decision {
            unit: unit_id(1),
            act: desk::Act::Quarantine,
            reason: "smells burnt".into(),
            operator: operator.into(),
            fixture: None,
            number: String::new(),
            note: String::new(),
        }));
    };
    people.login(&pin("Tom", "2580")).unwrap();
    desk.send(desk::Command::Find(unit_id(1).to_string()));
    until(&|s| matches!(&s.told, desk::Told::Failed(f) if f.code == FailureCode::NotAllowed));
    assert!(desk.snapshot().file.is_none());
    desk.send(desk::Command::Leave);
    until(&|s| s.told == desk::Told::Nothing);
    quarantine("Quin");
    until(&|s| matches!(&s.told, desk::Told::Failed(f) if f.code == FailureCode::NotAllowed));
    people.login(&pin("Quin", "quality7")).unwrap();
    desk.send(desk::Command::Find(unit_id(1).to_string()));
    until(&|s| s.file.is_some());
    let unit = station.records.unit(unit_id(1)).unwrap().unwrap();
    assert_eq!(unit.state, UnitState::Arrived);
    quarantine("Eve");
    until(&|s| matches!(s.told, desk::Told::Done(_)));
    let event = station.records.unit_events(unit_id(1)).unwrap().pop().unwrap();
    assert_eq!((event.kind.as_str(), &event.detail["operator"]), ("quarantined", &json!("Quin")));
    people.login(&pin("Ana", "729450")).unwrap();
    let told = actions(&people);
    assert!(told.contains(&format!("Quin unit-quarantine {}", unit.serial)), "{told:?}");
    assert!(told.iter().any(|t| t.starts_with("Tom refused")), "{told:?}");
}

/// The program, as a script calls it.
struct Program<'a>(&'a Path);

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn objects(&self) -> Vec<serde_json::Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
    fn of(&self, event: &str) -> Vec<serde_json::Value> {
        self.objects().into_iter().filter(|o| o["event"] == event).collect()
    }
    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self
    }
    #[track_caller]
    fn error(&self, code: i32, kind: &str) -> serde_json::Value {
        let error = self.of("error").remove(0);
        assert_eq!((self.code, error["code"].as_str()), (code, Some(kind)), "{}", self.out);
        error
    }
}

impl Program<'_> {
    fn run(&self, person: Option<(&str, &str)>, env: &[(&str, &str)], args: &[&str]) -> Said {
        self.said(person, env, args, None)
    }

    /// With a text on standard input.
    fn given(&self, text: &str, env: &[(&str, &str)], args: &[&str]) -> Said {
        self.said(None, env, args, Some(text))
    }

    fn said(
        &self,
        person: Option<(&str, &str)>,
        env: &[(&str, &str)],
        args: &[&str],
        given: Option<&str>,
    ) -> Said {
        let mut command = Command::new("setsid");
        // Without a controlling terminal nobody can be asked.
        command.arg("--wait").arg(env!("CARGO_BIN_EXE_keywright"));
        command
            .args(["--home", self.0.to_str().unwrap(), "--json"])
            .args(if given.is_some() { None } else { Some("--demo") })
            .args(args)
            .stdin(Stdio::null());
        for name in ["HOME", "OPERATOR", "PERSON", "PIN", "BADGE", "NEW_PIN", "NEW_BADGE"] {
            command.env_remove(format!("KEYWRIGHT_{name}"));
        }
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        if let Some((name, pin)) = person {
            command.env("KEYWRIGHT_PERSON", name).env("KEYWRIGHT_PIN", pin);
        }
        let mut input = tempfile::tempfile().unwrap();
        if let Some(text) = given {
            input.write_all(text.as_bytes()).unwrap();
            input.rewind().unwrap();
            command.stdin(input);
        }
        let output = command.envs(env.iter().copied()).output().unwrap();
        Said {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

const ANA: Option<(&str, &str)> = Some(("Ana", "729450"));
const TOM: Option<(&str, &str)> = Some(("Tom", "2580"));
const VERA: Option<(&str, &str)> = Some(("Vera", "vendor77"));

#[cfg(unix)]
#[test]
fn the_command_line_asks_for_a_person_once_there_are_people() {
    let home = tempfile::tempdir().unwrap();
    let program = Program(home.path());
    let open = |args: &[&str]| program.run(None, &[], args);
    open(&["--operator", "Ada", "anchors", "init", "--region", "7"]).ok();
    open(&["people", "add", "Tom", "--role", "technician", "--new-pin-file", "/nonexistent"])
        .error(2, "K608");
    let weak =
        program.run(None, &[("KEYWRIGHT_NEW_PIN", "123456")], &["people", "add", "Ana", "--role", "admin"]);
    weak.error(2, "K608");
    assert!(!weak.out.contains("123456") && !weak.err.contains("123456"));
    let first = program
        .run(None, &[("KEYWRIGHT_NEW_PIN", "729450")], &["people", "add", "Ana", "--role", "admin"])
        .ok();
    assert_eq!(first.of("person")[0]["role"], "admin");
    // From now on nothing goes without a person, but looking does.
    let order = ["po", "new", "PO-1", "--model", "KW-GATEWAY-429", "--quantity", "5", "--region", "7"];
    open(&order).error(5, "K811");
    open(&["batch", "list"]).ok();
    open(&["audit", "verify"]).ok();
    open(&["audit", "list"]).error(5, "K811");
    let file = home.path().join("tom.pin");
    std::fs::write(&file, "2580\n").unwrap();
    let badge = home.path().join("tom.badge");
    std::fs::write(&badge, "EMP-0042\n").unwrap();
    let (file, badge) = (file.to_str().unwrap(), badge.to_str().unwrap());
    let add = ["people", "add", "Tom", "--role", "technician", "--new-pin-file", file, "--badge-file", badge];
    program.run(ANA, &[], &add).ok();
    program
        .run(ANA, &[("KEYWRIGHT_NEW_PIN", "vendor77")], &["people", "add", "Vera", "--role", "vendor"])
        .ok();
    program.run(TOM, &[], &order).error(5, "K810");
    let refused = program.run(TOM, &[], &["batch", "close", "B-1"]).error(5, "K810");
    assert!(refused["remedy"].as_str().unwrap().contains("Vendor engineer or Admin"), "{refused}");
    program.run(VERA, &[], &order).ok();
    program.run(VERA, &[], &["batch", "new", "B-1", "--po", "PO-1", "--quantity", "5"]).ok();
    program.run(VERA, &[], &["batch", "close", "B-1"]).ok();
    // Who opens a closed batch again is asked for the right of the window, and the log has the window's word for it.
    let quality = [("KEYWRIGHT_NEW_PIN", "quality7")];
    program.run(ANA, &quality, &["people", "add", "Quin", "--role", "qa"]).ok();
    let again = ["batch", "open", "B-1", "--reason", "one was found"];
    program.run(Some(("Quin", "quality7")), &[], &again).error(5, "K810");
    program.run(VERA, &[], &again).ok();
    let rows = program.run(ANA, &[], &["audit", "list", "--subject", "B-1"]).ok().of("audit");
    let newest = |n: usize| (rows[n]["person"].as_str().unwrap(), rows[n]["action"].as_str().unwrap());
    assert_eq!(
        [newest(0), newest(1), newest(2)],
        [("Vera", "batch-reopened"), ("Quin", "refused"), ("Vera", "batch-closed")]
    );
    program.run(VERA, &[], &["batch", "close", "B-1"]).ok();
    program.run(VERA, &[], &["anchors", "init", "--region", "8"]).error(5, "K810");
    // A PIN from a file, a badge from the environment, and wrong ones.
    program
        .run(None, &[], &["--person", "Tom", "--pin-file", file, "line", "run", "--batch", "B-1"])
        .error(5, "K601");
    program.run(None, &[("KEYWRIGHT_BADGE", "EMP-0042")], &["unit", "show", "X"]).error(5, "K810");
    let wrong = program.run(Some(("Tom", "9999")), &[], &["line", "run", "--batch", "B-1"]);
    let nobody = program.run(Some(("Tim", "9999")), &[], &["line", "run", "--batch", "B-1"]).error(5, "K812");
    assert_eq!(wrong.error(5, "K812")["message"], nobody["message"], "nobody learns whether there is a Tom");
    for _ in 0..4 {
        program.run(Some(("Tom", "9999")), &[], &["line", "run", "--batch", "B-1"]);
    }
    program.run(TOM, &[], &["line", "run", "--batch", "B-1"]).error(5, "K813");
    program.run(ANA, &[], &["people", "unlock", "Tom"]).ok();
    program.run(TOM, &[("KEYWRIGHT_NEW_PIN", "7391")], &["people", "pin", "Tom"]).ok();
    program.run(TOM, &[], &["people", "list"]).error(5, "K812");
    let listed = program.run(ANA, &[], &["people", "list"]).ok().of("person");
    assert_eq!(
        listed.iter().map(|p| p["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["Ana", "Tom", "Vera", "Quin"]
    );
    program.run(ANA, &[], &["people", "deactivate", "Ana"]).error(2, "K608");
    let new_pin = [("KEYWRIGHT_NEW_PIN", "recov7x")];
    // The last admin's PIN is lost: only whoever types the passphrase helps. The demo's is public, but must be typed too.
    let recover = ["people", "recover", "Ana"];
    assert_ne!(program.run(None, &new_pin, &recover).code, 0, "nobody typed the passphrase");
    let typed = |text: &str, who: &str| {
        program.given(text, &new_pin, &["--passphrase-fd", "0", "people", "recover", who])
    };
    assert_ne!(typed("another passphrase", "Ana").code, 0);
    typed(keywright::secrets::DEMO_PASSPHRASE, "Tom").error(2, "K608");
    program.run(ANA, &[], &["people", "list"]).ok();
    for _ in 0..5 {
        program.run(Some(("Ana", "999999")), &[], &["people", "list"]);
    }
    program.run(ANA, &[], &["people", "list"]).error(5, "K813");
    typed(keywright::secrets::DEMO_PASSPHRASE, "ana").ok();
    program.run(ANA, &[], &["people", "list"]).error(5, "K812");
    program.run(Some(("Ana", "recov7x")), &[("KEYWRIGHT_NEW_PIN", "729450")], &["people", "pin", "Ana"]).ok();
    let recovered = program.run(ANA, &[], &["audit", "list", "--action", "recovered"]).ok().of("audit");
    assert_eq!(
        (recovered[0]["subject"].as_str(), recovered[0]["role"].as_str(), recovered[0]["detail"].to_string()),
        (Some("Ana"), Some("station"), "{}".into())
    );
    // One page after the other.
    let seqs = |more: &[&str]| -> Vec<i64> {
        let args = [&["audit", "list", "--count", "2"], more].concat();
        program.run(ANA, &[], &args).ok().of("audit").iter().map(|r| r["seq"].as_i64().unwrap()).collect()
    };
    let first = seqs(&["--action", "po-"]);
    assert_eq!(seqs(&["--before", "7"]), [6, 5], "{first:?}");
    // Who did what.
    let rows = program.run(VERA, &[], &["audit", "list", "--by", "Vera"]).ok().of("audit");
    let told: Vec<_> =
        rows.iter().map(|r| (r["action"].as_str().unwrap(), r["subject"].as_str().unwrap())).collect();
    assert!(told.contains(&("batch-created", "B-1")) && told.contains(&("po-created", "PO-1")), "{told:?}");
    assert!(told.contains(&("refused", "region 8")), "{told:?}");
    let failed = program.run(ANA, &[], &["audit", "list", "--action", "locked-out"]).ok().of("audit");
    let subjects: Vec<_> = failed.iter().map(|row| row["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["Ana", "Tom"]);
    // Handed out, signed; and tampering is named with a non-zero exit.
    let out = home.path().join("audit.jsonl");
    let export = ["audit", "export", "--out", out.to_str().unwrap()];
    program.run(VERA, &[], &export).error(5, "K810");
    let exported = program.run(ANA, &[], &export).ok().of("audit-export").remove(0);
    assert_eq!(
        exported["rows"].as_u64().unwrap(),
        std::fs::read_to_string(&out).unwrap().lines().count() as u64
    );
    let key = home.path().join("export.pub.pem");
    open(&["verify", out.to_str().unwrap(), "--key", key.to_str().unwrap()]).ok();
    // Whole words only: any four digits turn up inside a digest sooner or later.
    let text = std::fs::read_to_string(&out).unwrap();
    let words: Vec<_> = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
    assert!(words.contains(&"Tom") && words.contains(&"B-1"), "{text}");
    for secret in ["729450", "2580", "7391", "vendor77", "EMP-0042", "9999"] {
        assert!(!words.contains(&secret), "{secret} is in the exported log");
    }
    let sql = rusqlite::Connection::open(home.path().join("station.db")).unwrap();
    sql.execute_batch("DROP TRIGGER audit_no_update; UPDATE audit SET person = 'Eve' WHERE seq = 3").unwrap();
    drop(sql);
    let verified = open(&["audit", "verify"]);
    verified.error(4, "K620");
    let broken = verified.of("broken");
    assert_eq!((broken[0]["table"].as_str(), broken[0]["row"].as_i64()), (Some("audit"), Some(3)));
    assert!(broken[0]["at"].as_str().is_some_and(|at| at.starts_with("20")), "{broken:?}");
}
