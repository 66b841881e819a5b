//! Shifts and figures over real records: what opens and ends a shift, that it always adds up, and what scripts see of it.

mod support;

use keywright::failure::{Failure, FailureCode};
use keywright::figures::{Frame, Row, figures};
use keywright::foreman::{self, Command as Order, Filter, Foreman, ForemanHandle, Range, Sheet, Told};
use keywright::model::*;
use keywright::people::{Credential, NewPerson, People, Pin, PinCost, Role};
use keywright::records::{
    AttemptRange, AuditFilter, EndShift, NewBatch, OpenOptions, Records, RecordsError, SqliteRecords,
};
use keywright::secrets::{KdfCost, Passphrase};
use keywright::shift::{Balance, Counted, Difference, Standing, Trays};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use support::{Rng, new_order, unit_id};

const SIX: i64 = 1_790_748_000_000;

/// Records whose clock stands still until it is moved.
struct Bench {
    home: tempfile::TempDir,
    records: SqliteRecords,
    clock: Arc<AtomicI64>,
    batch: BatchId,
    sql: rusqlite::Connection,
}

impl Bench {
    fn new(quantity: u32) -> Self {
        let home = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicI64::new(SIX));
        let told = clock.clone();
        let options = OpenOptions {
            cost: KdfCost::TEST,
            clock: Arc::new(move || told.load(Ordering::Relaxed)),
            ..OpenOptions::new("bench-1")
        };
        let path = home.path().join("station.db");
        let records = SqliteRecords::open_with(&path, options, &Passphrase::demo()).unwrap();
        let po = records.create_product_order(new_order("PO-1", 1000, 2)).unwrap();
        let new = NewBatch { po: po.id, name: "B1".into(), quantity, ..NewBatch::default() };
        let batch = records.new_batch(new).unwrap().id;
        let sql = rusqlite::Connection::open(path).unwrap();
        Self { home, records, clock, batch, sql }
    }

    fn later(&self, seconds: i64) {
        self.clock.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    fn now(&self) -> i64 {
        self.clock.load(Ordering::Relaxed)
    }

    fn start(&self, fixture: &str, unit: Option<u32>) -> AttemptId {
        let attempt = self.records.begin_attempt(self.batch, fixture, "Ana").unwrap();
        if let Some(unit) = unit {
            self.records.bind_unit(attempt, unit_id(unit)).unwrap();
        }
        attempt
    }

    fn fail(&self, attempt: AttemptId, code: FailureCode) {
        let failure = Failure::new(code, "");
        self.records.finish_attempt(attempt, failure.outcome(), Some(&failure), None).unwrap();
    }

    /// As the records write it after a proof, which these tests are not about.
    fn pass(&self, attempt: AttemptId, unit: u32) {
        let proof = r#"{"cloud_mac_ok":true,"agent_mac_ok":true}"#;
        self.sql
            .execute(
                "UPDATE attempt SET ended_at_ms = max(started_at_ms, ?2), outcome = 'PASS', proof = ?3 WHERE id = ?1",
                (attempt.0, self.now(), proof),
            )
            .unwrap();
        self.sql.execute("UPDATE unit SET state = 'passed' WHERE uid = ?1", [unit_id(unit).0]).unwrap();
    }

    fn make(&self, fixture: &str, unit: u32, seconds: i64) {
        let attempt = self.start(fixture, Some(unit));
        self.later(seconds);
        self.pass(attempt, unit);
    }

    fn balance(&self) -> Balance {
        self.records.shift_balance().unwrap().expect("a shift is open")
    }

    fn end(&self, counted: Counted, reason: &str) -> Result<Balance, RecordsError> {
        let number = self.records.open_shift().unwrap().map_or(0, |s| s.number);
        self.records.end_shift(EndShift {
            number,
            operator: "Ana".into(),
            counted: vec![("B1".into(), counted)],
            reason: reason.into(),
        })
    }

    fn serial(&self, unit: u32) -> String {
        self.records.unit(unit_id(unit)).unwrap().unwrap().serial
    }
}

fn refusal(error: RecordsError) -> Failure {
    match error {
        RecordsError::Refused(failure) => *failure,
        other => panic!("expected a refusal, got {other}"),
    }
}

#[test]
fn the_first_start_opens_a_shift_and_a_person_ends_it() {
    let bench = Bench::new(10);
    assert_eq!(bench.records.open_shift().unwrap(), None);
    assert_eq!(refusal(bench.end(Counted::default(), "").unwrap_err()).code, FailureCode::NoShift);
    bench.make("left", 1, 20);
    let shift = bench.records.open_shift().unwrap().unwrap();
    assert_eq!((shift.number, shift.opened_at_ms, shift.opened_by.as_str()), (1, SIX, "Ana"));
    // A unit in work keeps it open, and its fixture is named.
    let running = bench.start("right", Some(2));
    let busy = refusal(bench.end(Counted::default(), "").unwrap_err());
    assert_eq!(
        (busy.code, busy.sentence.as_str()),
        (FailureCode::ShiftBusy, "Units are still in work: right")
    );
    assert_eq!(bench.balance().in_work[0].serial, Some(bench.serial(2)));
    bench.fail(running, FailureCode::VerifyFailed);
    let trays = Trays { passed: 1, failed: 1, scrapped: 0, unfinished: 0 };
    assert_eq!(bench.balance().batches[0].shift, trays);
    // What was counted is compared; a difference wants a reason.
    let counted = Counted { passed: Some(1), failed: Some(0), scrapped: Some(0) };
    let differs = refusal(bench.end(counted, "  ").unwrap_err());
    assert_eq!(differs.code, FailureCode::ShiftDiffers);
    assert!(differs.sentence.contains(&bench.serial(2)), "{differs}");
    assert!(bench.records.open_shift().unwrap().is_some(), "a refusal changes nothing");
    let ended = bench.end(counted, "it is with QA").unwrap();
    let end = ended.shift.ended.as_ref().unwrap();
    assert_eq!((end.by.as_str(), end.reason.as_str(), end.differences.len()), ("Ana", "it is with QA", 1));
    // It is kept as it was told, and a second end finds nothing.
    let kept = bench.records.shift(1).unwrap();
    assert_eq!(kept.shift, ended.shift);
    assert_eq!((kept.batches[0].all, kept.batches[0].counted), (ended.batches[0].all, counted));
    assert_eq!(refusal(bench.end(counted, "again").unwrap_err()).code, FailureCode::NoShift);
    // The next start opens the next one, though the clock went back.
    bench.later(-3600);
    bench.make("left", 3, 20);
    let next = bench.balance();
    assert_eq!((next.shift.number, next.batches[0].shift.sum()), (2, 1), "unit 3 alone");
    let of = |n: i64| AttemptRange::of(&bench.records.shift(n).unwrap().shift);
    let passed = |range| foreman::figures(&bench.records, range, None, None).unwrap().passed;
    assert_eq!((passed(of(1)), passed(of(2)), passed(AttemptRange::ALL)), (1, 1, 2));
    // Another one than the one that was looked at is not ended in its place.
    let stale = EndShift { number: 1, operator: "Ana".into(), ..EndShift::default() };
    assert_eq!(refusal(bench.records.end_shift(stale).unwrap_err()).code, FailureCode::NoShift);
    assert_eq!(bench.records.shifts(10).unwrap().len(), 1);
}

#[test]
fn a_shift_can_be_opened_before_its_first_start() {
    let bench = Bench::new(10);
    bench.make("left", 1, 20);
    bench.end(Counted::default(), "").unwrap();
    let begun = bench.records.begin_shift("Tom").unwrap();
    assert_eq!((begun.number, begun.opened_by.as_str()), (2, "Tom"));
    assert_eq!(bench.records.begin_shift("Eve").unwrap(), begun, "it is open already");
    assert_eq!(bench.balance().batches, [], "what came before is not of it");
    bench.make("left", 2, 20);
    assert_eq!(bench.balance().batches[0].shift.passed, 1);
    // New keys for units that are out there open no shift and are no work of one.
    bench.end(Counted::default(), "").unwrap();
    let update = bench.records.begin_update(bench.batch, "left", "Ana").unwrap();
    assert_eq!(bench.records.open_shift().unwrap(), None);
    bench.fail(update, FailureCode::UpdateRefused);
    assert_eq!(foreman::figures(&bench.records, AttemptRange::ALL, None, None).unwrap().attempts, 2);
}

#[test]
fn boards_that_never_told_their_id_are_named_unless_they_did_at_last() {
    let bench = Bench::new(10);
    let silent = |fixture: &str| {
        let attempt = bench.start(fixture, None);
        bench.later(5);
        bench.fail(attempt, FailureCode::NoTarget);
    };
    silent("left");
    silent("left");
    silent("right");
    // Seated better, the board at the left is read.
    bench.make("left", 1, 20);
    // The station's own faults are no boards.
    let attempt = bench.start("third", None);
    bench.fail(attempt, FailureCode::NoProbe);
    let differences = bench.balance().differences();
    assert!(
        matches!(&differences[..], [Difference::Unread(u)] if (u.fixture.as_str(), u.attempts, u.code) == ("right", 1, 105)),
        "{differences:?}"
    );
    assert_eq!(refusal(bench.end(Counted::default(), "").unwrap_err()).code, FailureCode::ShiftDiffers);
    bench.end(Counted::default(), "one bad connector").unwrap();
}

#[test]
fn the_tables_keep_what_ended() {
    let bench = Bench::new(10);
    bench.make("left", 1, 20);
    let open = |sql: &str| bench.sql.execute(sql, []).map_err(|e| e.to_string());
    // While something is in work nobody ends it, whichever program tries.
    let running = bench.start("left", Some(2));
    let by_hand = "UPDATE shift SET ended_at_ms = 1, ended_by = 'x', last_attempt = 9, differences = '[]'";
    assert!(open(by_hand).unwrap_err().contains("nothing is in work"));
    bench.fail(running, FailureCode::VerifyFailed);
    assert!(open("UPDATE shift SET opened_by = 'Eve'").is_err());
    assert!(
        open("UPDATE shift SET ended_at_ms = 1, ended_by = 'x', last_attempt = 9, differences = '[1]'")
            .is_err(),
        "a difference without a reason"
    );
    assert!(open("INSERT INTO shift (opened_at_ms, opened_by, after_attempt) VALUES (1, 'x', 0)").is_err());
    bench.end(Counted::default(), "").unwrap();
    for sql in [
        "UPDATE shift SET reason = 'x'",
        "DELETE FROM shift",
        "UPDATE shift_batch SET passed = 9",
        "DELETE FROM shift_batch",
        "INSERT INTO shift_batch VALUES (1, 1, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, NULL, NULL, NULL)",
    ] {
        assert!(open(sql).is_err(), "{sql}");
    }
}

/// What the test itself knows of a unit.
#[derive(Clone, Copy, Default)]
struct Known {
    passed: bool,
    aside: bool,
    scrapped: bool,
    running: bool,
    stopped: bool,
    worked: bool,
    told: bool,
}

impl Known {
    fn standing(self) -> Standing {
        match self {
            Self { scrapped: true, .. } => Standing::Scrapped,
            Self { aside: true, .. } => Standing::Failed,
            Self { passed: true, .. } => Standing::Passed,
            Self { running: true, .. } | Self { stopped: true, .. } => Standing::Unfinished,
            _ => Standing::Failed,
        }
    }
}

/// Any history of any line: the balance is what a simple book of our own says, both equations hold after every step, and the figures
/// that the records give are those of the same rows counted in memory.
#[test]
fn it_adds_up_over_random_histories() {
    for seed in [7, 1234] {
        let bench = Bench::new(9);
        let mut dice = Rng(seed);
        let mut book: BTreeMap<u32, Known> = BTreeMap::new();
        let mut running: BTreeMap<&str, (AttemptId, Option<u32>, i64)> = BTreeMap::new();
        let (mut rows, mut mine, mut shifts) = (Vec::<Row>::new(), Vec::<Row>::new(), 0);
        for step in 0..130 {
            bench.later(dice.below(90) as i64);
            let fixture = ["left", "middle", "right"][dice.below(3) as usize];
            match running.remove(fixture) {
                None if dice.percent(70) => {
                    let busy: BTreeSet<_> = running.values().filter_map(|(_, unit, _)| *unit).collect();
                    let scrapped = book.values().filter(|k| k.scrapped).count();
                    let unit = dice.below(12) as u32;
                    let known = book.get(&unit).copied().unwrap_or_default();
                    let room = book.contains_key(&unit) || book.len() - scrapped < 9;
                    let fits = !busy.contains(&unit) && !known.scrapped && !known.aside && room;
                    let unit = Some(unit).filter(|_| fits && dice.percent(90));
                    let attempt = bench.start(fixture, unit);
                    if let Some(unit) = unit {
                        let known = book.entry(unit).or_default();
                        (known.running, known.worked, known.stopped) = (true, true, false);
                    }
                    running.insert(fixture, (attempt, unit, bench.now()));
                }
                None => {
                    // QA works on what lies still.
                    let busy: BTreeSet<_> = running.values().filter_map(|(_, unit, _)| *unit).collect();
                    let still: Vec<u32> = book
                        .iter()
                        .filter(|(u, k)| !busy.contains(u) && !k.scrapped)
                        .map(|(u, _)| *u)
                        .collect();
                    if let Some(unit) = still.get(dice.below(still.len().max(1) as u64) as usize)
                        && dice.percent(40)
                    {
                        let (state, kind) = if dice.percent(50) {
                            (UnitState::Scrapped, "scrapped")
                        } else {
                            (UnitState::Quarantined, "quarantined")
                        };
                        bench.records.unit_event(unit_id(*unit), None, kind, json!({}), Some(state)).unwrap();
                        let known = book.get_mut(unit).unwrap();
                        (known.scrapped, known.aside) =
                            (state == UnitState::Scrapped, state == UnitState::Quarantined);
                    }
                }
                Some((attempt, unit, started_ms)) => {
                    let code = match dice.below(10) {
                        0..5 => None,
                        5 => Some(FailureCode::Cancelled),
                        6 => Some(FailureCode::StationStopped),
                        7 => Some(FailureCode::DeviceSilent),
                        8 => Some(FailureCode::PortLost),
                        _ => Some(FailureCode::VerifyFailed),
                    };
                    let outcome = match (unit, code) {
                        (Some(unit), None) => {
                            bench.pass(attempt, unit);
                            Outcome::Pass
                        }
                        (_, code) => {
                            let code = code.unwrap_or(FailureCode::NoTarget);
                            bench.fail(attempt, code);
                            code.outcome()
                        }
                    };
                    let code = (outcome != Outcome::Pass).then(|| code.unwrap_or(FailureCode::NoTarget));
                    let mut first = false;
                    if let Some(known) = unit.and_then(|u| book.get_mut(&u)) {
                        known.running = false;
                        known.passed |= outcome == Outcome::Pass;
                        known.stopped = code == Some(FailureCode::StationStopped);
                        first = !known.told;
                        known.told |= outcome != Outcome::Aborted;
                    }
                    let row = Row {
                        unit: unit.map(i64::from),
                        fixture: fixture.into(),
                        started_ms,
                        ended_ms: bench.now(),
                        outcome,
                        code: code.map(FailureCode::number),
                        first,
                    };
                    rows.push(row.clone());
                    mine.push(row);
                }
            }
            let Some(balance) = bench.records.shift_balance().unwrap() else { continue };
            for b in &balance.batches {
                let (left, right) = b.sides();
                assert_eq!(left, right, "seed {seed}, step {step}: {b:?}");
                let expected = |worked: bool| {
                    let all = book.values().filter(|k| !worked || k.worked);
                    let count = |s| all.clone().filter(|k| k.standing() == s).count() as u32;
                    Trays {
                        passed: count(Standing::Passed),
                        failed: count(Standing::Failed),
                        scrapped: count(Standing::Scrapped),
                        unfinished: count(Standing::Unfinished),
                    }
                };
                assert_eq!(b.all, expected(false), "seed {seed}, step {step}");
                assert_eq!(b.shift, expected(true), "seed {seed}, step {step}");
                assert!(b.replaced <= b.all.scrapped);
            }
            assert_eq!(balance.in_work.len(), running.len());
            if running.is_empty() && dice.percent(30) {
                let read = |range, batch| foreman::figures(&bench.records, range, batch, None).unwrap();
                let offset_ms = i64::from(jiff::Zoned::now().offset().seconds()) * 1000;
                let counted = |rows: &[Row]| figures(rows, Frame { offset_ms, ..Frame::default() });
                assert_eq!(
                    read(AttemptRange::of(&balance.shift), None),
                    counted(&mine),
                    "seed {seed}, step {step}"
                );
                for range in [AttemptRange::ALL, AttemptRange::Ended(SIX, bench.now() + 1)] {
                    assert_eq!(read(range, None), counted(&rows), "seed {seed}, step {step}");
                    assert_eq!(read(range, Some("B1")), counted(&rows));
                }
                let ended = bench.end(Counted::default(), "as it is").unwrap();
                let kept = bench.records.shift(ended.shift.number).unwrap();
                let plain =
                    |b: &Balance| b.batches.iter().map(|b| (b.all, b.shift, b.sides())).collect::<Vec<_>>();
                assert_eq!(plain(&kept), plain(&ended));
                assert_eq!(kept.shift.ended.unwrap().differences, balance.differences());
                book.values_mut().for_each(|k| k.worked = false);
                mine.clear();
                shifts += 1;
            }
        }
        assert!(shifts >= 3, "seed {seed} ended {shifts} shifts only");
    }
}

/// The window's foreman: reads when somebody looks, reads again when a unit ends, ends the shift for who is logged in.
#[test]
fn the_foreman_follows_the_line_and_asks_the_gate() {
    let bench = Bench::new(10);
    bench.make("left", 1, 20);
    let people = Arc::new(
        People::with(bench.records.clone(), "Ada", PinCost::TEST, Arc::new(|| Duration::ZERO)).unwrap(),
    );
    let person = |name: &str, role, pin: &str| NewPerson {
        name: name.into(),
        role,
        pin: Pin::new(pin.to_owned()),
        badge: None,
    };
    people.add(&person("Ana", Role::Admin, "729450")).unwrap();
    people.add(&person("Tom", Role::Technician, "2580")).unwrap();
    people.add(&person("Quin", Role::Qa, "quality7")).unwrap();
    let login = |name: &str, pin: &str| {
        people.login(&Credential::Pin { name: name.into(), pin: Pin::new(pin.to_owned()) }).unwrap();
    };
    people.lock();
    let folder = bench.home.path().join("exports");
    let foreman = Foreman::new(Arc::new(bench.records.clone()), people.clone(), folder.clone()).unwrap();
    let (changed, changes) = mpsc::channel();
    foreman.on_change(Box::new(move || changed.send(()).unwrap_or_default()));
    let until = |what: &dyn Fn(&foreman::Snapshot) -> bool| {
        while !what(&foreman.snapshot()) {
            let told = changes.recv_timeout(Duration::from_secs(60));
            told.unwrap_or_else(|_| panic!("{:?}", foreman.snapshot()));
        }
    };
    foreman.send(Order::Watch(true));
    until(&|s| s.figures.as_ref().is_some_and(|f| f.passed == 1));
    // A unit ends, and the numbers follow by themselves.
    bench.make("right", 2, 30);
    until(&|s| s.figures.as_ref().is_some_and(|f| f.passed == 2));
    assert_eq!(foreman.snapshot().balance.as_ref().unwrap().batches[0].shift.passed, 2);
    foreman.send(Order::Show(Filter { fixture: Some("left".into()), range: Range::All, batch: None }));
    until(&|s| s.figures.as_ref().is_some_and(|f| f.passed == 1 && f.fixtures.len() == 2));
    let end = |passed: u32, reason: &str| {
        let counted = Counted { passed: Some(passed), ..Counted::default() };
        foreman.send(Order::End { number: 1, counted: vec![("B1".into(), counted)], reason: reason.into() });
    };
    let failed = |code| move |s: &foreman::Snapshot| matches!(&s.told, Told::Failed(f) if f.code == code);
    end(2, "");
    until(&failed(FailureCode::LoginNeeded));
    login("Tom", "2580");
    end(3, "");
    until(&failed(FailureCode::ShiftDiffers));
    end(3, "one of yesterday");
    until(&|s| s.told == Told::Ended(1, 1));
    assert!(foreman.snapshot().balance.is_none());
    assert!(foreman.snapshot().past.is_empty(), "ended shifts are for QA");
    foreman.send(Order::Save(Sheet::Csv));
    until(&|s| s.told == Told::Saved(folder.join("shift-1.csv")));
    let csv = std::fs::read_to_string(folder.join("shift-1.csv")).unwrap();
    assert!(
        csv.lines().nth(1).unwrap().ends_with(",Tom,B1,10,0,2,0,0,0,8,2,0,0,0,3,,,one of yesterday"),
        "{csv}"
    );
    login("Quin", "quality7");
    foreman.send(Order::Clear);
    until(&|s| s.past.len() == 1);
    foreman.send(Order::Begin);
    until(&|s| s.told == Told::Begun(2));
    assert_eq!(foreman.snapshot().refused_ends, 2);
    foreman.send(Order::Save(Sheet::Text));
    until(&|s| s.told == Told::Saved(folder.join("shift-2.txt")));
    login("Ana", "729450");
    let mut told = people.audit(&AuditFilter::default()).unwrap();
    told.reverse();
    let acts: Vec<_> = told
        .iter()
        .filter(|e| e.action.starts_with("shift") || e.action == "refused")
        .map(|e| format!("{} {} {}", e.person, e.action, e.subject))
        .collect();
    // The refused end has its row, the one that did not balance two: before it, and that it failed.
    let expected = [
        "Ana refused 1",
        "Tom shift-ended 1",
        "Tom shift-ended 1",
        "Tom shift-ended 1",
        "Tom shift-saved 1",
        "Quin shift-begun ",
        "Quin shift-saved 2",
    ];
    assert_eq!(acts, expected);
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    #[track_caller]
    fn one(&self, event: &str) -> Value {
        let all: Vec<Value> = self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut found: Vec<_> = all.into_iter().filter(|o| o["event"] == event).collect();
        assert_eq!(found.len(), 1, "one {event} in {}\n{}", self.out, self.err);
        found.remove(0)
    }
    #[track_caller]
    fn ok(self, event: &str) -> Value {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self.one(event)
    }
    #[track_caller]
    fn error(self, code: i32, kind: &str) -> Value {
        let error = self.one("error");
        assert_eq!((self.code, error["code"].as_str()), (code, Some(kind)), "{}", self.out);
        error
    }
}

fn run(home: &Path, person: Option<(&str, &str)>, args: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keywright"));
    for name in ["HOME", "OPERATOR", "PERSON", "PIN", "BADGE", "NEW_PIN", "NEW_BADGE"] {
        command.env_remove(format!("KEYWRIGHT_{name}"));
    }
    command.args(["--home", home.to_str().unwrap(), "--demo", "--json", "--operator", "Ada"]).args(args);
    if let Some((name, pin)) = person {
        command.env("KEYWRIGHT_PERSON", name).env("KEYWRIGHT_PIN", pin);
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn scripts_read_figures_and_end_shifts() {
    let bench = Bench::new(10);
    for unit in 1..=3 {
        bench.make("left", unit, 20);
    }
    let attempt = bench.start("right", Some(4));
    bench.later(30);
    bench.fail(attempt, FailureCode::DeviceSilent);
    let (serial, last) =
        (bench.serial(4), jiff::Timestamp::from_millisecond(bench.now()).unwrap().to_string());
    let Bench { home, records, sql, .. } = bench;
    drop((records, sql));
    let (home, folder) = (home.path(), home.path().display().to_string());
    let figures = run(home, None, &["line", "stats"]).ok("figures");
    assert_eq!(figures["of"], json!({ "shift": 1 }));
    assert_eq!((figures["passed"].as_u64(), figures["first_pass_yield"].as_f64()), (Some(3), Some(0.75)));
    assert_eq!(figures["causes"][0]["code"], 304);
    assert_eq!(figures["cycle"]["median_ms"], 20_000);
    let right =
        run(home, None, &["line", "stats", "--all", "--batch", "B1", "--fixture", "right"]).ok("figures");
    assert_eq!((right["attempts"].as_u64(), right["passed"].as_u64()), (Some(1), Some(0)));
    let after = run(home, None, &["line", "stats", "--since", &last]).ok("figures");
    assert_eq!(after["attempts"], 1, "what ended at that very moment is after it");
    run(home, None, &["line", "stats", "--batch", "B9"]).error(2, "K608");
    run(home, None, &["line", "stats", "--today", "--all"]).error(2, "K608");
    let open = run(home, None, &["shift", "show"]).ok("shift");
    assert_eq!((open["number"].as_i64(), open["open"].as_bool()), (Some(1), Some(true)));
    assert_eq!(
        open["batches"][0]["shift"],
        json!({"passed": 3, "failed": 1, "scrapped": 0, "unfinished": 0})
    );
    assert_eq!(open["batches"][0]["open"], 6);
    // Nobody is here to say yes, a wrong count, a batch that is none of it, a difference without a reason.
    run(home, None, &["shift", "end"]).error(2, "K608");
    run(home, None, &["shift", "end", "--yes", "--counted", "B1=3"]).error(2, "K608");
    run(home, None, &["shift", "end", "--yes", "--counted", "B2=1,,"]).error(2, "K608");
    let differs = run(home, None, &["shift", "end", "--yes", "--counted", "B1=3,0,"]).error(5, "K653");
    assert!(differs["message"].as_str().unwrap().contains(&serial), "{differs}");
    let sheet = format!("{folder}/shift.txt");
    let end = ["shift", "end", "--yes", "--counted", "B1=3,0,", "--reason", "with QA", "--out", &sheet];
    let ended = run(home, None, &end).ok("shift");
    assert_eq!((ended["ended_by"].as_str(), ended["reason"].as_str()), (Some("Ada"), Some("with QA")));
    assert_eq!(ended["differences"][0]["difference"], "counted");
    let text = std::fs::read_to_string(&sheet).unwrap();
    assert!(
        text.contains("planned 10 = 3 passed + 1 failed + 0 scrapped + 0 unfinished + 6 not started"),
        "{text}"
    );
    assert!(text.contains(&serial) && text.contains("Reason: with QA"), "{text}");
    run(home, None, &["shift", "end", "--yes"]).error(5, "K652");
    assert_eq!(run(home, None, &["shift", "list"]).ok("shift")["number"], 1);
    assert_eq!(
        run(home, None, &["line", "stats"]).ok("figures")["passed"],
        3,
        "the last one, if none is open"
    );
    assert_eq!(run(home, None, &["shift", "start"]).ok("shift")["number"], 2);
    run(home, None, &["shift", "show", "9"]).error(2, "K608");
    // With people: everybody reads, a technician ends, QA sees what ended.
    let add = |name: &str, role: &str, pin: &str, by: Option<(&str, &str)>| {
        let file = home.join(format!("{name}.pin"));
        std::fs::write(&file, format!("{pin}\n")).unwrap();
        let file = file.display().to_string();
        run(home, by, &["people", "add", name, "--role", role, "--new-pin-file", &file]).ok("person");
    };
    let (ana, tom) = (Some(("Ana", "729450")), Some(("Tom", "2580")));
    add("Ana", "admin", "729450", None);
    add("Tom", "technician", "2580", ana);
    run(home, None, &["line", "stats", "--all"]).ok("figures");
    run(home, None, &["shift", "show", "1"]).ok("shift");
    run(home, None, &["shift", "end", "--yes"]).error(5, "K811");
    run(home, tom, &["shift", "list"]).error(5, "K810");
    assert_eq!(run(home, tom, &["shift", "end", "--yes"]).ok("shift")["ended_by"], "Tom");
    let rows = run(home, ana, &["audit", "list", "--action", "shift-ended", "--by", "Tom"]).ok("audit");
    assert_eq!(rows["subject"], "2");
}

/// Schema 12 knew shifts, returns and the search; all of it is there after an upgrade.
#[test]
fn shifts_and_returns_of_schema_12_stay() {
    use keywright::records::{UnitBook, UnitQuery};
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("station.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(include_str!("../../db/fixtures/schema-12.sql"))
        .unwrap();
    let records = SqliteRecords::open(&path, "bench-1", &Passphrase::demo()).unwrap();
    let found = records.verify_all().unwrap();
    assert_eq!((found.broken.len(), found.events, found.audit), (0, 17, 38));
    let ended: Vec<_> = records.shifts(10).unwrap().iter().map(|b| b.shift.number).collect();
    assert_eq!((ended, records.open_shift().unwrap().map(|s| s.number)), (vec![1], Some(2)));
    let batch = records.batch_by_name("B").unwrap();
    let counts = records.batch_counts(batch.id).unwrap();
    assert_eq!((counts.passed, counts.failed), (0, 1), "it lies in quarantine");
    let units = records.find_units(&UnitQuery::parse("RMA-7 quarantined"), 0, 10).unwrap().units;
    assert_eq!(units.iter().map(|u| u.serial.as_str()).collect::<Vec<_>>(), ["B-00001E"]);
    assert_eq!(units[0].rma.as_deref(), Some("RMA-7"));
}
