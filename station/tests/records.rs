//! The records: what they hold, what they refuse, and what survives locks, full disks, damage, kills and clocks.

mod support;

use keywright::failure::{Failure, FailureCode};
use keywright::model::*;
use keywright::records::{
    AlarmOf, ExportRow, HandedUnit, KeyVault, NewBatch, NewExport, NewProductOrder, OpenOptions, Reach,
    Records, RecordsError, SCHEMA_VERSION, SqliteRecords, serial,
};
use keywright::secrets::Passphrase;
use keywright_protocol::Suite;
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use support::{Station, new_order, open, options, unit_id};

fn refusal(error: RecordsError) -> FailureCode {
    match error {
        RecordsError::Refused(failure) => failure.code,
        other => panic!("expected a refusal, got {other}"),
    }
}

fn failure() -> Failure {
    Failure::new(FailureCode::DeviceSilent, "test")
}

fn open_again(home: &Path, with: OpenOptions) -> Result<SqliteRecords, RecordsError> {
    SqliteRecords::open_with(&home.join("station.db"), with, &Passphrase::demo())
}

/// A unit with both keys, its open attempt and a true proof.
fn proved(station: &Station, n: u32) -> (UnitId, AttemptId, ProofRecord) {
    let id = unit_id(n);
    let attempt = station.arrive(id);
    let mut device = station.device(id, Suite::Hardened, u64::from(n) + 1);
    station.complete(&mut device);
    let challenge = [0x11; 32];
    let proof = keywright::agent::Agent::check_proof(
        &*station.agent,
        station.context(id),
        &challenge,
        &device.prove(&challenge),
    )
    .unwrap();
    (id, attempt, proof)
}

/// An order that locks its units takes no PASS on the word of what was asked for.
#[test]
fn a_unit_of_a_locking_order_passes_with_the_lock_that_its_chip_showed() {
    let station = Station::new(4, 2);
    let records = &station.records;
    let order = NewProductOrder { lock: true, ..new_order("PO-L", 1, 2) };
    let order = records.create_product_order(order).unwrap();
    assert!(order.lock && records.product_order(order.id).unwrap().lock);
    let batch = records.create_batch(order.id, "BL", 1).unwrap();
    let id = unit_id(40);
    let attempt = records.begin_attempt(batch.id, "f", "op").unwrap();
    records.bind_unit(attempt, id).unwrap();
    let stage_one = keywright::agent::Agent::stage_one_record(&*station.agent, order.id).unwrap();
    let mut device = support::Device::new(id, Suite::Hardened, &stage_one, 5);
    let context = keywright::agent::FrameContext { batch: batch.id, unit: id, attempt: None };
    while !device.is_done() {
        let handled =
            keywright::agent::Agent::handle(&*station.agent, context, &device.tick().unwrap()).unwrap();
        device.deliver(handled.reply.unwrap(), support::Cut::Never);
    }
    let challenge = [3; 32];
    let mut proof =
        keywright::agent::Agent::check_proof(&*station.agent, context, &challenge, &device.prove(&challenge))
            .unwrap();
    let (open, locked) = ("0fffaaec 0fff0000".parse().unwrap(), "0ff055ec 0fff0000".parse().unwrap());
    let half: OptionBytes = "0fff55ec 0fff0000".parse().unwrap();
    for (observed, closed) in [
        (None, Some(true)),
        (Some(locked), None),
        (Some(locked), Some(false)),
        (Some(open), Some(true)),
        (Some(half), Some(true)),
    ] {
        proof.lock = LockRecord { asked: Some(locked), observed, closed };
        let refused = records.finish_attempt(attempt, Outcome::Pass, None, Some(&proof)).unwrap_err();
        assert_eq!(refusal(refused), FailureCode::LockFailed, "{:?}", proof.lock);
    }
    proof.lock = LockRecord { asked: None, observed: Some(locked), closed: Some(true) };
    records.finish_attempt(attempt, Outcome::Pass, None, Some(&proof)).unwrap();
    assert_eq!(records.list_attempts(batch.id).unwrap()[0].proof.as_ref().unwrap().lock, proof.lock);
    // What the paper says about locking does not change once units were made under it.
    let changed = station.sql().execute("UPDATE product_order SET locks = 0 WHERE name = 'PO-L'", []);
    assert!(changed.unwrap_err().to_string().contains("keeps its lock"));
}

#[test]
fn orders_and_batches_refuse_what_does_not_add_up() {
    let station = Station::new(10, 2);
    let records = &station.records;
    assert_eq!(
        refusal(records.create_product_order(new_order("PO-1", 1, 2)).unwrap_err()),
        FailureCode::NameTaken
    );
    assert_eq!(refusal(records.create_batch(station.po.id, "B1", 1).unwrap_err()), FailureCode::NameTaken);
    assert_eq!(refusal(records.create_batch(station.po.id, "B2", 1).unwrap_err()), FailureCode::InvalidInput);
    for bad in ["", "a name with spaces", "../B2", "-B2", "seventeen-letters"] {
        assert_eq!(
            refusal(records.create_product_order(new_order(bad, 1, 2)).unwrap_err()),
            FailureCode::InvalidInput
        );
    }
    assert_eq!(
        refusal(records.create_product_order(new_order("PO-0", 0, 2)).unwrap_err()),
        FailureCode::InvalidInput
    );
    assert_eq!(
        refusal(records.create_product_order(new_order("PO-0", 1, 3)).unwrap_err()),
        FailureCode::InvalidInput
    );
    let second = records.create_product_order(new_order("PO-2", 5, 1)).unwrap();
    records.create_batch(second.id, "C1", 3).unwrap();
    records.create_batch(second.id, "C2", 2).unwrap();
    assert_eq!(records.list_product_orders().unwrap()[0].name, "PO-2", "newest first");
    assert_eq!(records.product_order_by_name("PO-2").unwrap().id, second.id);
    assert_eq!(records.batch_by_name("C2").unwrap().quantity, 2);
    assert!(matches!(records.batch_by_name("none"), Err(RecordsError::NotFound { .. })));
    let (a, b) = ("ab".repeat(32), "cd".repeat(32));
    records.pin_image(second.id, &a).unwrap();
    records.pin_image(second.id, &a.to_uppercase()).unwrap();
    assert_eq!(refusal(records.pin_image(second.id, &b).unwrap_err()), FailureCode::ImageChanged);
    assert_eq!(records.product_order(second.id).unwrap().image_sha256, Some(a));
}

#[test]
fn binding_gives_serials_and_refuses_strangers() {
    let station = Station::new(2, 2);
    let records = &station.records;
    let begin = || records.begin_attempt(station.batch.id, "fixture-1", "op").unwrap();
    let attempt = begin();
    for blank in [[0; 12], [0xff; 12]] {
        assert_eq!(
            refusal(records.bind_unit(attempt, UnitId(blank)).unwrap_err()),
            FailureCode::BlankIdentity
        );
    }
    let unit = records.bind_unit(attempt, unit_id(1)).unwrap();
    assert_eq!(serial::parse(&unit.serial), Ok(("B1", 1)));
    assert_eq!((unit.state, unit.attempts, unit.interrupted), (UnitState::Arrived, 1, false));
    assert_eq!(
        records.bind_unit(attempt, unit_id(1)).unwrap().serial,
        unit.serial,
        "binding twice is no error"
    );
    assert_eq!(refusal(records.bind_unit(attempt, unit_id(2)).unwrap_err()), FailureCode::UnitSwapped);
    records.finish_attempt(attempt, Outcome::Timeout, Some(&failure()), None).unwrap();
    assert_eq!(
        refusal(records.bind_unit(attempt, unit_id(1)).unwrap_err()),
        FailureCode::InvalidInput,
        "it has ended"
    );
    let again = records.bind_unit(begin(), unit_id(1)).unwrap();
    assert_eq!((again.serial, again.attempts), (unit.serial, 2));
    assert_eq!(serial::parse(&records.bind_unit(begin(), unit_id(2)).unwrap().serial), Ok(("B1", 2)));
    assert_eq!(refusal(records.bind_unit(begin(), unit_id(3)).unwrap_err()), FailureCode::QuotaReached);
    records.unit_event(unit_id(2), None, "scrapped", json!({}), Some(UnitState::Scrapped)).unwrap();
    assert_eq!(refusal(records.bind_unit(begin(), unit_id(2)).unwrap_err()), FailureCode::Scrapped);
    let third = records.bind_unit(begin(), unit_id(3)).unwrap();
    assert_eq!(serial::parse(&third.serial), Ok(("B1", 3)), "a scrapped unit's serial never comes again");
    let counts = records.batch_counts(unit.batch).unwrap();
    let made = counts.passed + counts.failed + counts.scrapped + counts.open();
    assert_eq!(
        (counts.planned, counts.replaced(), counts.scrapped, made),
        (2, 1, 1, 3),
        "it stands in for a scrapped one"
    );
    assert_eq!(counts.overfull(), 0);
    let other_po = records.create_product_order(new_order("PO-2", 1, 2)).unwrap();
    let other = records.create_batch(other_po.id, "B2", 1).unwrap();
    let there = records.begin_attempt(other.id, "fixture-1", "op").unwrap();
    assert_eq!(refusal(records.bind_unit(there, unit_id(1)).unwrap_err()), FailureCode::OtherBatch);
    records.unit_event(unit_id(1), None, "quarantined", json!({}), Some(UnitState::Quarantined)).unwrap();
    assert_eq!(refusal(records.bind_unit(begin(), unit_id(1)).unwrap_err()), FailureCode::Quarantined);
    for state in [BatchState::Paused, BatchState::Closed] {
        records.set_batch_state(station.batch.id, state, "qa", "").unwrap();
        let refused = records.begin_attempt(station.batch.id, "fixture-1", "op").unwrap_err();
        assert_eq!(refusal(refused), FailureCode::BatchClosed);
    }
    let reopened = |reason| records.set_batch_state(station.batch.id, BatchState::Open, "qa", reason);
    assert_eq!(refusal(reopened(" ").unwrap_err()), FailureCode::InvalidInput, "why?");
    reopened("two boards were found").unwrap();
    begin();
}

#[test]
fn only_what_was_proved_passes() {
    let station = Station::new(3, 2);
    let records = &station.records;
    let (id, attempt, proof) = proved(&station, 1);
    let pass = |proof: Option<&ProofRecord>| records.finish_attempt(attempt, Outcome::Pass, None, proof);
    let bad = |change: &dyn Fn(&mut ProofRecord)| {
        let mut proof = proof.clone();
        change(&mut proof);
        refusal(pass(Some(&proof)).unwrap_err())
    };
    assert_eq!(refusal(pass(None).unwrap_err()), FailureCode::ProofFailed);
    assert_eq!(bad(&|p| p.cloud_mac_ok = false), FailureCode::ProofFailed);
    assert_eq!(bad(&|p| p.agent_mac_ok = false), FailureCode::ProofFailed);
    assert_eq!(bad(&|p| p.ak_gen = 2), FailureCode::ProofFailed);
    assert_eq!(bad(&|p| p.ck_gen = 0), FailureCode::ProofFailed);
    assert_eq!(bad(&|p| p.generation = 0), FailureCode::ProofFailed);
    assert_eq!(bad(&|p| p.challenge = "00".repeat(32)), FailureCode::ProofFailed);
    assert_eq!(bad(&|p| p.challenge = "short".into()), FailureCode::ProofFailed);
    let with_failure = records.finish_attempt(attempt, Outcome::Pass, Some(&failure()), Some(&proof));
    assert_eq!(refusal(with_failure.unwrap_err()), FailureCode::InvalidInput);
    let without = records.finish_attempt(attempt, Outcome::Fail, None, None);
    assert_eq!(refusal(without.unwrap_err()), FailureCode::InvalidInput);
    assert_eq!(
        refusal(records.unit_event(id, None, "cheat", json!({}), Some(UnitState::Passed)).unwrap_err()),
        FailureCode::InvalidInput,
        "an event passes nothing"
    );
    // A unit without keys, with a proof out of thin air.
    let bare = station.arrive(unit_id(2));
    let forged = records.finish_attempt(bare, Outcome::Pass, None, Some(&proof));
    assert_eq!(refusal(forged.unwrap_err()), FailureCode::ProofFailed);
    // And no unit at all.
    let empty = records.begin_attempt(station.batch.id, "fixture-1", "op").unwrap();
    assert!(records.finish_attempt(empty, Outcome::Pass, None, Some(&proof)).is_err());
    pass(Some(&proof)).unwrap();
    assert_eq!(refusal(pass(Some(&proof)).unwrap_err()), FailureCode::InvalidInput, "it has ended");
    let unit = records.unit(id).unwrap().unwrap();
    assert_eq!((unit.state, unit.generation), (UnitState::Passed, proof.generation));
    let kept = &records.list_attempts(station.batch.id).unwrap()[0];
    assert_eq!((kept.outcome, kept.proof.as_ref()), (Some(Outcome::Pass), Some(&proof)));
    // A done unit that comes again is an ordinary input.
    let again = records.begin_attempt(station.batch.id, "fixture-2", "op").unwrap();
    assert_eq!(records.bind_unit(again, id).unwrap().state, UnitState::Passed);
    // The tables hold the rule by themselves.
    let sql = station.sql();
    let raw = "UPDATE attempt SET outcome = 'PASS', ended_at_ms = started_at_ms WHERE id = ?1";
    assert!(sql.execute(raw, [bare.0]).is_err());
}

#[test]
fn a_blank_key_never_passes() {
    let station = Station::new(1, 2);
    let (id, attempt, proof) = proved(&station, 1);
    // Somebody with the passphrase and a database editor puts a sealed blank in place of the key.
    let key = station.records.station_key();
    let mut row = id.0.to_vec();
    row.extend_from_slice(&1u32.to_be_bytes());
    let place = keywright::secrets::SealFor { table: "key_assignment", row: &row, purpose: "cloud key" };
    let blank = key.seal(place, &[0xff; 32]).unwrap();
    let sql = station.sql();
    sql.execute_batch("DROP TRIGGER key_assignment_way").unwrap();
    sql.execute("UPDATE key_assignment SET key_sealed = ?1 WHERE purpose = 'cloud'", [blank]).unwrap();
    let refused = station.records.finish_attempt(attempt, Outcome::Pass, None, Some(&proof)).unwrap_err();
    assert_eq!(refusal(refused), FailureCode::BlankKey);
    // The agent's row in the cloud's place does not even open.
    sql.execute_batch(
        "UPDATE key_assignment SET key_sealed = (SELECT key_sealed FROM key_assignment WHERE purpose = 'agent')
         WHERE purpose = 'cloud'",
    )
    .unwrap();
    let vault: KeyVault = station.records.key_vault();
    assert!(matches!(vault.unit_keys(id), Err(RecordsError::Corrupt { .. })));
}

#[test]
fn counts_balance() {
    let station = Station::new(6, 2);
    let records = &station.records;
    let (_, first, proof) = proved(&station, 1);
    records.finish_attempt(first, Outcome::Pass, None, Some(&proof)).unwrap();
    let (id, second, proof) = proved(&station, 2);
    records.finish_attempt(second, Outcome::Error, Some(&failure()), None).unwrap();
    let retry = station.arrive(id);
    records.finish_attempt(retry, Outcome::Pass, None, Some(&proof)).unwrap();
    let third = station.arrive(unit_id(3));
    records.finish_attempt(third, Outcome::Fail, Some(&failure()), None).unwrap();
    station.arrive(unit_id(4));
    station.arrive(unit_id(5));
    records.unit_event(unit_id(5), None, "scrapped", json!({}), Some(UnitState::Scrapped)).unwrap();
    let counts = records.batch_counts(station.batch.id).unwrap();
    let expected =
        BatchCounts { planned: 6, passed: 2, failed: 1, scrapped: 1, in_progress: 1, first_pass: 1 };
    assert_eq!((counts, counts.open()), (expected, 2));
}

#[test]
fn history_only_grows_and_a_changed_row_is_found() {
    let station = Station::new(2, 2);
    let (id, attempt, proof) = proved(&station, 1);
    station.records.finish_attempt(attempt, Outcome::Pass, None, Some(&proof)).unwrap();
    station.arrive(unit_id(2));
    let sql = station.sql();
    sql.execute_batch("PRAGMA foreign_keys = ON").unwrap();
    for forbidden in [
        "UPDATE unit_event SET kind = 'nothing'",
        "DELETE FROM unit_event",
        "DELETE FROM attempt",
        "UPDATE attempt SET operator = 'somebody else' WHERE outcome IS NOT NULL",
        "UPDATE attempt SET unit = NULL WHERE unit IS NOT NULL",
        "DELETE FROM unit",
        "UPDATE unit SET serial = 'other'",
        "UPDATE unit SET uid = zeroblob(12)",
        "DELETE FROM key_assignment",
        "UPDATE key_assignment SET state = 'reserved', settled_at_ms = NULL",
        "UPDATE key_assignment SET key_sealed = zeroblob(72)",
        "INSERT INTO key_assignment (unit, purpose, generation, state, key_id, key_sealed, reserved_at_ms, settled_at_ms)
             VALUES (1, 'agent', 9, 'posted', '0123456789abcdef', zeroblob(72), 0, 0)",
        "INSERT INTO unit (uid, batch, serial, state, created_at_ms) VALUES (zeroblob(12), 1, 's', 'arrived', 0)",
        "INSERT INTO unit (uid, batch, serial, state, created_at_ms) VALUES (x'01', 1, 's', 'arrived', 0)",
        "UPDATE product_order SET product_key_sealed = zeroblob(72)",
        "DELETE FROM product_order",
        "DELETE FROM batch",
        "UPDATE enrolment SET ck_staged = 1, ck_active = 2",
    ] {
        assert!(sql.execute_batch(forbidden).is_err(), "{forbidden}");
    }
    let events = station.records.unit_events(id).unwrap();
    assert!(events.windows(2).all(|w| w[0].seq < w[1].seq));
    let count = station.records.verify_history().unwrap();
    assert_eq!(count as i64, station.count("SELECT count(*) FROM unit_event"));
    sql.execute_batch(
        "DROP TRIGGER unit_event_no_update; UPDATE unit_event SET detail = '{\"generation\":2}' WHERE seq = 3",
    )
    .unwrap();
    match station.records.verify_history() {
        Err(RecordsError::Corrupt { detail, .. }) => assert!(detail.contains("event 3"), "{detail}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_clock_that_jumps_back_spoils_no_order() {
    let home = tempfile::tempdir().unwrap();
    let time = Arc::new(AtomicI64::new(1_800_000_000_000));
    let clock = time.clone();
    let records = open_again(
        home.path(),
        OpenOptions { clock: Arc::new(move || clock.load(Ordering::SeqCst)), ..options() },
    )
    .unwrap();
    let po = records.create_product_order(new_order("PO-1", 5, 2)).unwrap();
    let batch = records.create_batch(po.id, "B1", 5).unwrap();
    let attempt = records.begin_attempt(batch.id, "fixture-1", "op").unwrap();
    records.bind_unit(attempt, unit_id(1)).unwrap();
    time.fetch_sub(86_400_000, Ordering::SeqCst);
    records
        .unit_event(unit_id(1), Some(attempt), "flash-begin", json!({}), Some(UnitState::Flashing))
        .unwrap();
    records.finish_attempt(attempt, Outcome::Fail, Some(&failure()), None).unwrap();
    let kept = &records.list_attempts(batch.id).unwrap()[0];
    assert_eq!(kept.ended_at_ms, Some(kept.started_at_ms), "never before its start");
    let events = records.unit_events(unit_id(1)).unwrap();
    let kinds: Vec<_> = events.iter().map(|e| e.kind.as_str()).collect();
    assert_eq!(kinds, ["arrived", "flash-begin", "attempt-ended"], "seq is the truth");
    assert!(events[1].at_ms < events[0].at_ms, "the clock is written down as it was");
    let next = records.begin_attempt(batch.id, "fixture-1", "op").unwrap();
    records.bind_unit(next, unit_id(1)).unwrap();
    assert_eq!(records.unit(unit_id(1)).unwrap().unwrap().attempts, 2);
    records.verify_history().unwrap();
}

#[test]
fn many_writers_share_commits_and_one_that_fails_takes_nobody_with_it() {
    let station = Station::new(400, 2);
    let records = &station.records;
    std::thread::scope(|scope| {
        for thread in 0..16u32 {
            scope.spawn(move || {
                for i in 0..25 {
                    let id = unit_id(thread * 25 + i);
                    let attempt =
                        records.begin_attempt(station.batch.id, &format!("f{thread}"), "op").unwrap();
                    records.bind_unit(attempt, id).unwrap();
                    let blank = records.bind_unit(attempt, unit_id(9_999));
                    assert_eq!(refusal(blank.unwrap_err()), FailureCode::UnitSwapped);
                    records.unit_event(id, Some(attempt), "note", json!({ "i": i }), None).unwrap();
                    assert!(records.unit_event(unit_id(9_999), None, "note", json!({}), None).is_err());
                }
            });
        }
    });
    assert_eq!(records.list_units(station.batch.id).unwrap().len(), 400);
    assert_eq!(records.verify_history().unwrap(), 800);
    let serials: std::collections::BTreeSet<_> =
        records.list_units(station.batch.id).unwrap().into_iter().map(|u| u.serial).collect();
    assert_eq!(serials.len(), 400);
    let over = records.begin_attempt(station.batch.id, "f", "op").unwrap();
    assert_eq!(refusal(records.bind_unit(over, unit_id(9_999)).unwrap_err()), FailureCode::QuotaReached);
}

#[test]
fn a_second_keywright_and_a_foreign_lock_are_named() {
    let station = Station::new(1, 2);
    let home = station.home.path();
    let second = open_again(home, options()).unwrap_err();
    assert!(matches!(second, RecordsError::Locked { .. }), "{second}");
    assert!(
        second.to_string().contains("station.db") && second.to_string().contains("close the other"),
        "{second}"
    );
    let Station { home, records, agent, .. } = station;
    drop((records, agent));
    let quick = || OpenOptions { busy_timeout: Duration::from_millis(20), ..options() };
    let records = open_again(home.path(), quick()).expect("the claim ended with the process's last handle");
    // Another program's transaction.
    let other = rusqlite::Connection::open(home.path().join("station.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let locked = records.create_product_order(new_order("PO-9", 1, 2)).unwrap_err();
    assert!(matches!(locked, RecordsError::Locked { .. }), "{locked}");
    assert_eq!(records.list_batches().unwrap().len(), 1, "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    records.create_product_order(new_order("PO-9", 1, 2)).expect("and writing, once the lock is gone");
}

#[test]
fn a_wrong_passphrase_opens_nothing_and_spoils_nothing() {
    let station = Station::new(1, 2);
    let Station { home, records, agent, .. } = station;
    drop((records, agent));
    let wrong = SqliteRecords::open_with(
        &home.path().join("station.db"),
        options(),
        &Passphrase::new("wrong one!".into()),
    );
    assert!(matches!(wrong, Err(RecordsError::WrongPassphrase { .. })));
    assert_eq!(open(home.path()).list_batches().unwrap().len(), 1);
    let fresh = tempfile::tempdir().unwrap();
    let weak = SqliteRecords::open_with(
        &fresh.path().join("station.db"),
        options(),
        &Passphrase::new("short".into()),
    );
    assert_eq!(refusal(weak.unwrap_err()), FailureCode::InvalidInput);
}

#[test]
fn a_damaged_a_foreign_and_a_newer_database_are_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("station.db");
    let unchanged = |expected: &dyn Fn(&RecordsError) -> bool| {
        let before = std::fs::read(&path).unwrap();
        let error = open_again(home.path(), options()).unwrap_err();
        assert!(expected(&error), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "not a byte is touched");
    };
    let corrupt = |e: &RecordsError| matches!(e, RecordsError::Corrupt { .. });
    std::fs::write(
        &path,
        b"this is no database, it is a shopping list; it is longer than a header so that SQLite looks",
    )
    .unwrap();
    unchanged(&corrupt);
    std::fs::remove_file(&path).unwrap();
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE wine (name TEXT)").unwrap();
    unchanged(&corrupt);
    std::fs::remove_file(&path).unwrap();
    {
        let records = open(home.path());
        let po = records.create_product_order(new_order("PO-1", 500, 2)).unwrap();
        let batch = records.create_batch(po.id, "B1", 500).unwrap();
        for n in 0..60 {
            let attempt = records.begin_attempt(batch.id, "fixture-1", "op").unwrap();
            records.bind_unit(attempt, unit_id(n)).unwrap();
        }
    }
    let whole = std::fs::read(&path).unwrap();
    let newer = rusqlite::Connection::open(&path).unwrap();
    newer.execute_batch(&format!("PRAGMA user_version = {}", SCHEMA_VERSION + 1)).unwrap();
    newer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(newer);
    unchanged(&|e| matches!(e, RecordsError::NewerSchema { found, known, .. } if *found == known + 1));
    // A page in the middle is overwritten, as a dying disk does.
    let mut torn = whole.clone();
    let middle = torn.len() / 4096 / 2 * 4096;
    torn[middle..middle + 4096].fill(0x5a);
    std::fs::write(&path, &torn).unwrap();
    let error = open_again(home.path(), options()).unwrap_err();
    assert!(corrupt(&error), "{error}");
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = open_again(home.path(), options()).unwrap_err();
    assert!(corrupt(&error), "{error}");
}

#[test]
fn a_full_disk_loses_nothing_that_was_answered_and_goes_on_when_there_is_room() {
    let station = Station::new(1, 2);
    let Station { home, records, agent, batch, .. } = station;
    drop((records, agent));
    let pages: u32 = {
        let sql = rusqlite::Connection::open(home.path().join("station.db")).unwrap();
        sql.query_row("PRAGMA page_count", [], |r| r.get(0)).unwrap()
    };
    let records = open_again(home.path(), OpenOptions { max_pages: Some(pages + 4), ..options() }).unwrap();
    let attempt = records.begin_attempt(batch.id, "fixture-1", "op").unwrap();
    records.bind_unit(attempt, unit_id(1)).unwrap();
    let filler = json!({ "text": "x".repeat(1500) });
    let mut kept = 0;
    let full = loop {
        match records.unit_event(unit_id(1), Some(attempt), "note", filler.clone(), None) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 1000, "the disk never filled");
    };
    assert!(matches!(full, RecordsError::DiskFull { .. }), "{full}");
    assert!(full.to_string().contains("free some space"), "{full}");
    assert_eq!(records.unit_events(unit_id(1)).unwrap().len(), kept + 1);
    assert!(records.verify_history().is_ok(), "the chain knows nothing of what was taken back");
    drop(records);
    let records = open(home.path());
    assert_eq!(records.unit_events(unit_id(1)).unwrap().len(), kept + 1);
    records.unit_event(unit_id(1), None, "note", filler, None).unwrap();
    records.verify_history().unwrap();
}

/// Runs this test again in a child with `name=value` in its environment; returns what it printed behind `SAYS `.
#[cfg(unix)]
fn child(test: &str, mut command: std::process::Command, home: &Path) -> Vec<String> {
    command.args(["--exact", test, "--nocapture"]).env("KEYWRIGHT_TEST_HOME", home);
    let output = command.stdin(std::process::Stdio::null()).output().expect("the child starts");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|l| l.split_once("SAYS ").map(|(_, said)| said.to_string()))
        .collect()
}

#[cfg(unix)]
fn test_home() -> Option<std::path::PathBuf> {
    std::env::var_os("KEYWRIGHT_TEST_HOME").map(Into::into)
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_grow_is_a_full_disk() {
    const TEST: &str = "a_file_that_may_not_grow_is_a_full_disk";
    if let Some(home) = test_home() {
        let records = open(&home);
        let batch = records.list_batches().unwrap()[0].id;
        let mut attempts = 0;
        let error = loop {
            match records.begin_attempt(batch, &"f".repeat(900), "op") {
                Ok(_) => attempts += 1,
                Err(error) => break error,
            }
        };
        println!("SAYS {} {attempts}", matches!(error, RecordsError::DiskFull { .. }));
        return;
    }
    let station = Station::new(1, 2);
    let Station { home, records, agent, .. } = station;
    drop((records, agent));
    // The shell ignores SIGXFSZ for its child, so that a write beyond the limit is an error, as a quota is.
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 512; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap());
    let said = child(TEST, command, home.path());
    let [line] = said.as_slice() else { panic!("{said:?}") };
    let (full, attempts) = line.split_once(' ').unwrap();
    assert_eq!(full, "true", "named as a full disk");
    let records = open(home.path());
    let kept = records.list_attempts(records.list_batches().unwrap()[0].id).unwrap().len();
    assert_eq!(kept.to_string(), attempts, "every answered attempt is there");
    assert!(kept > 0);
}

#[cfg(unix)]
#[test]
fn a_read_only_file_and_folder_are_named() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    const TEST: &str = "a_read_only_file_and_folder_are_named";
    if let Some(home) = test_home() {
        let error = open_again(&home, options()).map(drop).expect_err("read-only");
        println!("SAYS {}", matches!(error, RecordsError::ReadOnly { .. }));
        return;
    }
    let station = Station::new(1, 2);
    let Station { home, records, agent, .. } = station;
    drop((records, agent));
    let mode =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    // Permissions do not bind root: then the child runs as nobody, from a copy that nobody may read.
    let root = rustix::process::geteuid().is_root();
    let programs = tempfile::tempdir().unwrap();
    let program = programs.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    mode(programs.path(), 0o755);
    mode(&program, 0o755);
    let run = || {
        let mut command = std::process::Command::new(&program);
        command.current_dir("/");
        if root {
            command.uid(65_534).gid(65_534);
        }
        child(TEST, command, home.path())
    };
    for file in std::fs::read_dir(home.path()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            mode(&path, 0o444);
        }
    }
    mode(home.path(), 0o555);
    assert_eq!(run(), ["true"], "file and folder");
    mode(home.path(), 0o777);
    mode(&home.path().join("station.db.lock"), 0o666);
    assert_eq!(run(), ["true"], "the file alone");
    mode(home.path(), 0o700);
}

#[cfg(unix)]
#[test]
fn a_killed_station_finds_its_unit_interrupted_and_resumes_it() {
    const TEST: &str = "a_killed_station_finds_its_unit_interrupted_and_resumes_it";
    if let Some(home) = test_home() {
        let records = open(&home);
        let batch = records.list_batches().unwrap()[0].id;
        let bound = records.begin_attempt(batch, "fixture-1", "op").unwrap();
        records.bind_unit(bound, unit_id(1)).unwrap();
        records
            .unit_event(unit_id(1), Some(bound), "flash-begin", json!({}), Some(UnitState::Flashing))
            .unwrap();
        records.begin_attempt(batch, "fixture-2", "op").unwrap();
        println!("SAYS ready");
        std::io::stdout().flush().unwrap();
        // Nothing is closed, nothing is dropped.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        unreachable!("killed");
    }
    let station = Station::new(1, 2);
    let Station { home, records, agent, batch, .. } = station;
    drop((records, agent));
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", TEST, "--nocapture"]).env("KEYWRIGHT_TEST_HOME", home.path());
    let mut process = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(said.into_iter().any(|l| l.contains("SAYS ready")));
    assert!(!process.wait().unwrap().success());
    let records = open(home.path());
    assert!(records.unit(unit_id(1)).unwrap().unwrap().interrupted, "known before anything is closed");
    let closed = records.close_interrupted().unwrap();
    assert_eq!(closed.len(), 2);
    assert_eq!((closed[0].unit, closed[1].unit), (Some(unit_id(1)), None));
    for attempt in &closed {
        assert_eq!(attempt.outcome, Some(Outcome::Aborted));
        assert_eq!(attempt.failure.as_ref().unwrap().code, FailureCode::StationStopped);
    }
    assert!(records.close_interrupted().unwrap().is_empty());
    let unit = records.unit(unit_id(1)).unwrap().unwrap();
    assert!(unit.interrupted && unit.state == UnitState::Flashing);
    assert_eq!(records.batch_counts(batch.id).unwrap().in_progress, 1);
    let attempt = records.begin_attempt(batch.id, "fixture-1", "op").unwrap();
    assert!(records.close_interrupted().unwrap().is_empty(), "a running attempt is left alone");
    let resumed = records.bind_unit(attempt, unit_id(1)).unwrap();
    assert!(resumed.interrupted && resumed.state == UnitState::Flashing, "it goes on where it stopped");
    records.finish_attempt(attempt, Outcome::Fail, Some(&failure()), None).unwrap();
    assert!(!records.unit(unit_id(1)).unwrap().unwrap().interrupted);
    records.verify_history().unwrap();
}

#[test]
fn a_database_of_the_previous_schema_is_upgraded_whole() {
    let home = tempfile::tempdir().unwrap();
    let sql = rusqlite::Connection::open(home.path().join("station.db")).unwrap();
    sql.execute_batch(include_str!("../../db/fixtures/schema-1.sql")).unwrap();
    drop(sql);
    let records = open(home.path());
    let batch = records.batch_by_name("FIXTURE").unwrap();
    let units = records.list_units(batch.id).unwrap();
    assert_eq!(units.len(), 2);
    assert_eq!(serial::parse(&units[0].serial), Ok(("FIXTURE", 1)));
    let attempts = records.list_attempts(batch.id).unwrap();
    assert_eq!(attempts[0].failure.as_ref().unwrap().code, FailureCode::DeviceSilent);
    assert_eq!(records.verify_history().unwrap(), 3);
    assert_eq!(records.close_interrupted().unwrap().len(), 1);
    // The sealed product key still opens: a stage one record can be made from it.
    let anchors = keywright::anchors::Anchors::init(home.path(), &records.station_key(), &[7]).unwrap();
    let agent = support::agent(home.path(), &records, anchors);
    let stage_one = keywright::agent::Agent::stage_one_record(&agent, batch.po).unwrap();
    let mut device = support::Device::new(unit_id(1), Suite::Hardened, &stage_one, 1);
    let context = keywright::agent::FrameContext { batch: batch.id, unit: unit_id(1), attempt: None };
    let handled = keywright::agent::Agent::handle(&agent, context, &device.tick().unwrap()).unwrap();
    assert!(handled.reply.is_some(), "{:?}", handled.change);
    drop((agent, records));
    let sql = rusqlite::Connection::open(home.path().join("station.db")).unwrap();
    let version: i64 = sql.query_row("PRAGMA user_version", [], |r| r.get(0)).unwrap();
    assert_eq!(version, SCHEMA_VERSION);
}

/// Schema 2 knew no platforms: a unit of it counts as being where its order says, and a move leaves nothing behind to retire.
#[test]
fn a_unit_from_before_there_were_platforms_keeps_its_keys() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("station.db");
    let sql = rusqlite::Connection::open(&path).unwrap();
    sql.execute_batch(include_str!("../../db/fixtures/schema-2.sql")).unwrap();
    drop(sql);
    let records = SqliteRecords::open(&path, "bench-1", &keywright::secrets::Passphrase::demo()).unwrap();
    let batch = records.batch_by_name("B").unwrap();
    assert_eq!(records.batch_counts(batch.id).unwrap().passed, 1);
    let unit = records.list_units(batch.id).unwrap().remove(0);
    assert_eq!(unit.state, UnitState::Passed);
    let keys = records.key_vault().unit_keys(unit.id).unwrap();
    assert!(keys.agent.is_some() && keys.cloud.is_some(), "its keys still open");
    records.verify_history().unwrap();
    drop(records);
    let sql = rusqlite::Connection::open(&path).unwrap();
    let row = sql
        .query_row("SELECT cloud, cloud_staged, ck_leaving, ck_active FROM enrolment", [], |r| {
            Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get::<_, i64>(2)?, r.get::<_, i64>(3)?))
        })
        .unwrap();
    assert_eq!(row, (String::new(), String::new(), 0, 1));
}

/// Schema 3 knew no lock: its orders go on as they began, and what was passed under them stays passed.
#[test]
fn an_order_from_before_there_was_a_lock_leaves_its_units_open() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("station.db");
    let sql = rusqlite::Connection::open(&path).unwrap();
    sql.execute_batch(include_str!("../../db/fixtures/schema-3.sql")).unwrap();
    drop(sql);
    let records = SqliteRecords::open(&path, "bench-1", &Passphrase::demo()).unwrap();
    let batch = records.batch_by_name("B").unwrap();
    assert!(!records.product_order(batch.po).unwrap().lock);
    assert_eq!(records.list_units(batch.id).unwrap()[0].state, UnitState::Passed);
    let proof = records.list_attempts(batch.id).unwrap()[0].proof.clone().unwrap();
    assert_eq!(proof.lock, LockRecord::default(), "unknown, not open");
    records.verify_history().unwrap();
}

/// Schema 4 knew alarms about units only, and nobody could have looked at one.
#[test]
fn alarms_from_before_there_were_orders_of_qa_stay() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("station.db");
    let sql = rusqlite::Connection::open(&path).unwrap();
    sql.execute_batch(include_str!("../../db/fixtures/schema-4.sql")).unwrap();
    drop(sql);
    let records = SqliteRecords::open(&path, "bench-1", &Passphrase::demo()).unwrap();
    let batch = records.batch_by_name("B").unwrap();
    let unit = records.list_units(batch.id).unwrap().remove(0);
    let alarms = records.list_alarms(false).unwrap();
    assert_eq!((alarms.len(), alarms[0].kind.as_str(), alarms[0].count), (1, "enrolled-again", 2));
    assert_eq!(alarms[0].of, AlarmOf::Unit(unit.id));
    assert_eq!(records.reprovisions(unit.id).unwrap(), []);
    let order = records.product_order(batch.po).unwrap();
    assert_eq!((order.per_hour, order.key_invalid_at_ms), (0, None));
    assert_eq!(records.product_key_reach(order.id, 0).unwrap(), Reach { units: 1, passed: 1 });
    assert_eq!(records.product_key_reach(order.id, i64::MAX).unwrap(), Reach::default());
    records.verify_history().unwrap();
}

#[test]
fn export_rows_hold_every_unit_and_what_was_handed_out_is_known() {
    let station = Station::new(3, 2);
    let records = &station.records;
    records.pin_image(station.po.id, &"ab".repeat(32)).unwrap();
    let (id, attempt, proof) = proved(&station, 1);
    records.finish_attempt(attempt, Outcome::Pass, None, Some(&proof)).unwrap();
    let failed = station.arrive(unit_id(2));
    records.finish_attempt(failed, Outcome::Timeout, Some(&failure()), None).unwrap();
    let unknown = records.begin_attempt(station.batch.id, "fixture-9", "op").unwrap();
    records.finish_attempt(unknown, Outcome::Error, Some(&failure()), None).unwrap();
    let rows = records.export_rows(station.batch.id).unwrap();
    assert_eq!(rows.len(), 3);
    let (pass, fail, none) = (&rows[0], &rows[1], &rows[2]);
    assert_eq!(pass.mcu_uid, id.to_string());
    assert_eq!((pass.outcome.as_str(), pass.state.as_str(), pass.first_pass), ("PASS", "passed", true));
    assert_eq!((pass.firmware_version.as_str(), pass.region, pass.attempts), ("1.2.3", 7, 1));
    assert_eq!(
        (pass.agent_key_id.len(), pass.cloud_key_id.len(), pass.anchor_fingerprint.len()),
        (16, 16, 64)
    );
    assert_eq!(pass.key_generation, proof.generation);
    assert_eq!(
        (fail.outcome.as_str(), fail.failure_code.as_str(), fail.agent_key_id.as_str()),
        ("TIMEOUT", "K304", "")
    );
    assert_eq!(
        (none.state.as_str(), none.mcu_uid.as_str(), none.fixture.as_str()),
        ("unidentified", "", "fixture-9")
    );
    let object = serde_json::to_value(pass).unwrap();
    let mut names: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
    let mut columns = ExportRow::COLUMNS.to_vec();
    names.sort_unstable();
    columns.sort_unstable();
    assert_eq!(names, columns, "the row's fields are the columns");
    let export = |units: Vec<UnitId>| NewExport {
        batch: Some(station.batch.id),
        selection: "batch=B1".into(),
        protection: "age".into(),
        format: "jsonl".into(),
        file: "export-B1-units-20260101.jsonl.age".into(),
        rows: 3,
        sha256: "cd".repeat(32),
        operator: "op".into(),
        recipients: vec!["age1b".into(), "age1a".into(), "age1a".into()],
        units: units.into_iter().map(|unit| HandedUnit { unit, agent: 1, cloud: 1 }).collect(),
        ..NewExport::default()
    };
    let number = records.record_export(export(vec![id])).unwrap();
    assert!(
        records.record_export(export(vec![unit_id(77)])).is_err(),
        "an unknown unit takes the whole record back"
    );
    let known = records.list_exports(station.batch.id).unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!((known[0].id, &known[0].recipients), (number, &vec!["age1a".to_string(), "age1b".into()]));
    let rows = records.export_rows(station.batch.id).unwrap();
    assert_eq!(
        (rows[0].exported_in.as_str(), rows[1].exported_in.as_str()),
        (number.to_string().as_str(), "")
    );
}

// ---- labels, serials, orders and batches --------------------------------------------------------------------------

/// A unit of this batch with both keys, its open attempt and a true proof.
fn proved_in(station: &Station, po: PoId, batch: BatchId, n: u32) -> (UnitId, AttemptId, ProofRecord) {
    use keywright::agent::Agent;
    let id = unit_id(n);
    let attempt = station.records.begin_attempt(batch, "f", "op").unwrap();
    station.records.bind_unit(attempt, id).unwrap();
    let stage_one = station.agent.stage_one_record(po).unwrap();
    let mut device = support::Device::new(id, Suite::Hardened, &stage_one, u64::from(n));
    let context = keywright::agent::FrameContext { batch, unit: id, attempt: None };
    while !device.is_done() {
        let handled = station.agent.handle(context, &device.tick().unwrap()).unwrap();
        device.deliver(handled.reply.unwrap(), support::Cut::Never);
    }
    let proof = station.agent.check_proof(context, &[3; 32], &device.prove(&[3; 32])).unwrap();
    (id, attempt, proof)
}

/// The tables themselves let no unit pass whose label is not where its order wants it.
#[test]
fn a_unit_passes_with_the_label_that_its_order_wants() {
    let station = Station::new(4, 2);
    let records = &station.records;
    let order = |name: &str, label| {
        let new = NewProductOrder { label, operator: "Ana".into(), ..new_order(name, 2, 2) };
        let order = records.create_product_order(new).unwrap();
        assert_eq!(records.product_order(order.id).unwrap().label, label);
        let batch = records.create_batch(order.id, &format!("{name}-B"), 2).unwrap();
        (order.id, batch.id)
    };
    let (po, batch) = order("PO-S", LabelPolicy::ScanBack);
    let (id, attempt, proof) = proved_in(&station, po, batch, 50);
    let pass = || records.finish_attempt(attempt, Outcome::Pass, None, Some(&proof));
    let sql = station.sql();
    let raw = || {
        let proof = serde_json::to_string(&proof).unwrap();
        sql.execute(
            "UPDATE attempt SET outcome = 'PASS', ended_at_ms = started_at_ms, proof = ?2 WHERE id = ?1",
            (attempt.0, proof),
        )
    };
    assert_eq!(refusal(pass().unwrap_err()), FailureCode::PrintFailed);
    assert!(raw().unwrap_err().to_string().contains("with its label on it"));
    let facts = records.label_facts(id).unwrap();
    let code = keywright::label::code_of(&facts).unwrap().to_string();
    assert!(code.starts_with(&format!("KW1:{}:", facts.serial)), "{code}");
    let early = sql.execute("UPDATE unit SET label_scanned_at_ms = 1 WHERE label_code IS NULL", []);
    assert!(early.unwrap_err().to_string().contains("after it was printed"));
    assert_eq!(
        refusal(records.label_scanned(id, None, &code, "op").unwrap_err()),
        FailureCode::LabelMismatch,
        "nothing was printed"
    );
    assert_eq!(records.label_printed(id, Some(attempt), &code, "op").unwrap(), 1);
    assert_eq!(refusal(pass().unwrap_err()), FailureCode::ScanMissing);
    assert!(raw().is_err());
    assert_eq!(
        refusal(records.label_scanned(id, None, "KW1:x", "op").unwrap_err()),
        FailureCode::LabelMismatch
    );
    records.label_scanned(id, Some(attempt), &code, "op").unwrap();
    // Another label came out: that one was not read back.
    assert_eq!(records.label_printed(id, None, &code, "Mia").unwrap(), 2);
    assert_eq!(refusal(pass().unwrap_err()), FailureCode::ScanMissing);
    records.label_scanned(id, Some(attempt), &code, "op").unwrap();
    pass().unwrap();
    let facts = records.label_facts(id).unwrap();
    assert_eq!((facts.prints, facts.printed_code.as_deref()), (2, Some(code.as_str())));
    let events = records.unit_events(id).unwrap();
    let kinds: Vec<_> = events.iter().map(|e| e.kind.as_str()).filter(|k| k.starts_with("label")).collect();
    assert_eq!(kinds, ["label-printed", "label-scanned", "label-reprinted", "label-scanned"]);
    let again = events.iter().find(|e| e.kind == "label-reprinted").unwrap();
    assert_eq!((&again.detail["operator"], &again.detail["labels"]), (&"Mia".into(), &2.into()));
    let row = &records.export_rows(batch).unwrap()[0];
    assert!(!row.label_printed_at.is_empty());
    let changed = sql.execute("UPDATE product_order SET label = 'none' WHERE name = 'PO-S'", []);
    assert!(changed.unwrap_err().to_string().contains("keeps its label policy"));
    // Print alone wants no scan; no policy wants nothing.
    let (po, batch) = order("PO-P", LabelPolicy::Print);
    let (id, attempt, proof) = proved_in(&station, po, batch, 51);
    let pass = || records.finish_attempt(attempt, Outcome::Pass, None, Some(&proof));
    assert_eq!(refusal(pass().unwrap_err()), FailureCode::PrintFailed);
    records.label_printed(id, Some(attempt), "KW1:whatever", "op").unwrap();
    pass().unwrap();
    records.verify_history().unwrap();
}

#[test]
fn serials_of_one_pattern_are_counted_on_over_batches_and_never_meet_others() {
    let station = Station::new(10, 2);
    let records = &station.records;
    let order = records.create_product_order(new_order("PO-N", 2000, 2)).unwrap();
    let batch = |name: &str, quantity, pattern: &str| {
        records.new_batch(NewBatch {
            po: order.id,
            name: name.into(),
            quantity,
            serial_pattern: pattern.into(),
            ..NewBatch::default()
        })
    };
    let a = batch("A", 2, "KW-N{n:3}-{c}").unwrap();
    let b = batch("B", 2, "KW-N{n:3}-{c}").unwrap();
    let mut n = 100;
    let mut serial_in = |batch: &Batch| {
        n += 1;
        let attempt = records.begin_attempt(batch.id, "f", "op").unwrap();
        records.bind_unit(attempt, unit_id(n)).unwrap().serial
    };
    let serials = [serial_in(&a), serial_in(&b), serial_in(&a)];
    for (serial, counted) in serials.iter().zip(["KW-N001-", "KW-N002-", "KW-N003-"]) {
        assert!(serial.starts_with(counted), "{serials:?}");
    }
    for (name, quantity, pattern, what) in [
        ("C", 1, "KW-{n:4}-{c}", ""),
        ("D", 1, "KW-0{n:3}-{c}", "pattern KW-{n:4}-{c}"),
        ("E", 996, "KW-N{n:3}-{c}", "room for 995 more"),
        ("F", 1, "KW-{n:3}", "no check character"),
        ("G", 1, "B1-{n:5}{c}", "looks like"),
        ("H", 1, "KX-{n:3}-{c}", ""),
    ] {
        match batch(name, quantity, pattern) {
            Ok(_) => assert!(what.is_empty(), "{name}"),
            Err(RecordsError::Refused(failure)) => {
                assert!(failure.sentence.contains(what) && !what.is_empty(), "{failure}")
            }
            Err(other) => panic!("{other}"),
        }
    }
    // Whatever went wrong before, a spent pattern gives nothing out.
    station
        .sql()
        .execute("UPDATE serial_series SET next = 1000 WHERE pattern = 'KW-N{n:3}-{c}'", [])
        .unwrap();
    let attempt = records.begin_attempt(b.id, "f", "op").unwrap();
    assert_eq!(refusal(records.bind_unit(attempt, unit_id(200)).unwrap_err()), FailureCode::SerialsSpent);
    for forbidden in [
        "UPDATE serial_series SET next = 1",
        "DELETE FROM serial_series",
        "UPDATE batch SET serial_pattern = 'x'",
    ] {
        assert!(station.sql().execute(forbidden, []).is_err(), "{forbidden}");
    }
}

/// The station's own size counts where a batch has none.
#[test]
fn the_stations_gray_release_holds_for_batches_without_their_own() {
    let station = Station::new(4, 2);
    let records = &station.records;
    let order = records.create_product_order(new_order("PO-H", 9, 2)).unwrap();
    let new = NewBatch {
        po: order.id,
        name: "H".into(),
        quantity: 3,
        operator: "Ana".into(),
        ..NewBatch::default()
    };
    let batch = records.new_batch(new).unwrap();
    let begin = || records.begin_attempt(batch.id, "f", "op");
    begin().unwrap();
    records.set_gray_release(2);
    begin().unwrap();
    assert_eq!(refusal(begin().unwrap_err()), FailureCode::SampleDue);
    records.set_gray_release(0);
    begin().unwrap();
}

#[test]
fn the_gray_release_gate_and_the_timeline_of_a_batch() {
    let station = Station::new(4, 2);
    let records = &station.records;
    let order = records.create_product_order(new_order("PO-G", 9, 2)).unwrap();
    let new = NewBatch {
        po: order.id,
        name: "G".into(),
        quantity: 3,
        gray_release: 1,
        operator: "Ana".into(),
        ..NewBatch::default()
    };
    let batch = records.new_batch(new).unwrap();
    let (first, attempt, proof) = proved_in(&station, order.id, batch.id, 60);
    assert_eq!(refusal(records.approve_sample(batch.id, "Q", "").unwrap_err()), FailureCode::InvalidInput);
    records.finish_attempt(attempt, Outcome::Pass, None, Some(&proof)).unwrap();
    let begin = || records.begin_attempt(batch.id, "f", "op");
    assert_eq!(refusal(begin().unwrap_err()), FailureCode::SampleDue);
    assert_eq!(records.batch(batch.id).unwrap().sample_due(0), Some(1));
    let sample: Vec<_> = records.sample(batch.id, 3).unwrap().into_iter().map(|u| u.id).collect();
    assert_eq!(sample, [first]);
    // New keys for a unit out there wait for no sample.
    let update = records.begin_update(batch.id, "f", "op").unwrap();
    records.finish_attempt(update, Outcome::Fail, Some(&failure()), None).unwrap();
    // Nor is an open batch closed over units that nobody looked at.
    let close = records.set_batch_state(batch.id, BatchState::Closed, "Ana", "all done");
    assert_eq!(refusal(close.unwrap_err()), FailureCode::SampleDue);
    records.approve_sample(batch.id, "Quality", "looked at 1").unwrap();
    // Proved again is no new pass.
    let again = begin().unwrap();
    records.bind_unit(again, first).unwrap();
    records.finish_attempt(again, Outcome::Pass, None, Some(&proof)).unwrap();
    // One in work may pass: it fills the group.
    let one = begin().unwrap();
    assert_eq!(refusal(begin().unwrap_err()), FailureCode::SampleDue);
    records.finish_attempt(one, Outcome::Fail, Some(&failure()), None).unwrap();
    begin().unwrap();
    let set = |state, reason| records.set_batch_state(batch.id, state, "Ana", reason);
    set(BatchState::Paused, "shift ends").unwrap();
    set(BatchState::Paused, "").unwrap();
    set(BatchState::Open, "").unwrap();
    set(BatchState::Closed, "all done").unwrap();
    assert_eq!(records.batch(batch.id).unwrap().terms.closed_reason.as_deref(), Some("all done"));
    assert_eq!(refusal(set(BatchState::Paused, "x").unwrap_err()), FailureCode::BatchClosed);
    assert_eq!(refusal(set(BatchState::Open, "").unwrap_err()), FailureCode::InvalidInput);
    let sql = station.sql();
    let raw = sql.execute("UPDATE batch SET state = 'open' WHERE name = 'G'", []);
    assert!(raw.unwrap_err().to_string().contains("with a reason"));
    set(BatchState::Open, "one board was found").unwrap();
    let events = records.order_events(order.id, Some(batch.id)).unwrap();
    let told: Vec<_> =
        events.iter().map(|e| (e.kind.as_str(), e.operator.as_str(), e.reason.as_str())).collect();
    assert_eq!(
        told,
        [
            ("created", "Ana", ""),
            ("sample-approved", "Quality", "looked at 1"),
            ("paused", "Ana", "shift ends"),
            ("resumed", "Ana", ""),
            ("closed", "Ana", "all done"),
            ("reopened", "Ana", "one board was found"),
        ]
    );
    assert_eq!(
        records.order_events(order.id, None).unwrap().len(),
        events.len() + 1,
        "the order's own beginning"
    );
    for forbidden in [
        "UPDATE order_event SET operator = 'x'",
        "DELETE FROM order_event",
        "UPDATE batch SET approved = 0 WHERE name = 'G'",
        "UPDATE batch SET approved = passed + 1",
        "INSERT INTO order_event (po, at_ms, operator, kind) VALUES (1, 1, 'x', 'reopened')",
    ] {
        assert!(sql.execute(forbidden, []).is_err(), "{forbidden}");
    }
}

#[test]
fn a_list_of_orders_is_taken_whole_or_not_at_all_and_an_imported_key_is_kept_as_it_is() {
    let station = Station::new(4, 2);
    let records = &station.records;
    let batch = |name: &str, quantity| NewBatch { name: name.into(), quantity, ..NewBatch::default() };
    let (a, b) = (new_order("PO-A", 5, 2), new_order("PO-B", 5, 2));
    let bad = vec![(a.clone(), Some(batch("A1", 5))), (b.clone(), Some(batch("B2", 6)))];
    assert_eq!(refusal(records.create_orders(bad).unwrap_err()), FailureCode::InvalidInput);
    assert_eq!(records.list_product_orders().unwrap().len(), 1, "none of them");
    assert_eq!(records.list_batches().unwrap().len(), 1);
    let key = keywright::secrets::Secret::from_bytes([0x42; 32]);
    let hash = "AB".repeat(32);
    let b = NewProductOrder { product_key: Some(key.clone()), image_sha256: Some(hash.clone()), ..b };
    assert!(!format!("{b:?}").contains("66, 66"), "a secret in Debug");
    let made = records.create_orders(vec![(a, Some(batch("A1", 5))), (b, None)]).unwrap();
    assert_eq!(made[0].1.as_ref().unwrap().po, made[0].0.id);
    let order = &made[1].0;
    assert_eq!(order.image_sha256, Some(hash.to_lowercase()), "bound from the start");
    assert_eq!(
        refusal(records.pin_image(order.id, &"cd".repeat(32)).unwrap_err()),
        FailureCode::ImageChanged
    );
    let stage_one = keywright::agent::Agent::stage_one_record(&*station.agent, order.id).unwrap();
    assert!(stage_one.windows(32).any(|w| w == key.expose()), "its units are given the vendor's key");
    for blank in [[0; 32], [0xff; 32]] {
        let key = Some(keywright::secrets::Secret::from_bytes(blank));
        let new = NewProductOrder { product_key: key, ..new_order("PO-0", 1, 2) };
        assert_eq!(refusal(records.create_product_order(new).unwrap_err()), FailureCode::BlankKey);
    }
    let detail = &records.order_events(order.id, None).unwrap()[0].detail;
    assert_eq!(detail["product_key"], "imported");
}
