//! Search over all units, travelers, RMAs and comparisons, on real records.

mod support;

use keywright::agent::Agent;
use keywright::compare::{self, Field, Report, Verdict};
use keywright::failure::{Failure, FailureCode};
use keywright::model::*;
use keywright::records::*;
use keywright::traveler::{self, Form, Group};
use keywright_protocol::Suite;
use serde_json::json;
use std::collections::HashSet;
use support::{Device, Rng, Station, unit_id};

fn refusal<T: std::fmt::Debug>(result: Result<T, RecordsError>) -> FailureCode {
    match result {
        Err(RecordsError::Refused(failure)) => failure.code,
        other => panic!("a refusal was expected: {other:?}"),
    }
}

/// Units by SQL, as the line would have left them: serials of two batches, every tenth failed, some not passed.
fn many(station: &Station, units: u32) {
    let mut sql = station.sql();
    let tx = sql.transaction().unwrap();
    tx.execute(
        "INSERT INTO batch (id, name, po, quantity, state, created_at_ms) VALUES (50, 'PILOT', 1, 99999, 'open', 1)",
        [],
    )
    .unwrap();
    let mut dice = Rng(11);
    for n in 1..=units {
        let batch = if n % 3 == 0 { 50 } else { station.batch.id.0 };
        let state =
            ["passed", "passed", "quarantined", "passed", "cloud-key", "scrapped", "passed"][n as usize % 7];
        let mut uid: [u8; 12] = dice.array();
        uid[0] = 0x3a;
        tx.execute(
            "INSERT INTO unit (id, uid, batch, serial, state, created_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, 1)",
            (n, uid, batch, format!("{}-{n:05}K", if batch == 50 { "Pilot" } else { "B1" }), state),
        )
        .unwrap();
        if n % 10 == 0 {
            let code = if n % 20 == 0 { 304 } else { 401 };
            tx.execute(
                "INSERT INTO attempt (batch, unit, session, fixture, operator, station, started_at_ms, ended_at_ms, outcome,
                                      failure_code, failure)
                 VALUES (?1, ?2, 1, 'left', 'Ada', 'bench-1', 1000, 2000, 'FAIL', ?3, '{}')",
                (batch, n, code),
            )
            .unwrap();
        }
    }
    tx.commit().unwrap();
}

/// What a query must find, by looking at every unit.
fn by_hand(station: &Station, query: &UnitQuery) -> Vec<String> {
    let sql = station.sql();
    let failures: HashSet<(i64, u16)> = sql
        .prepare("SELECT unit, failure_code FROM attempt WHERE failure_code IS NOT NULL AND unit IS NOT NULL")
        .unwrap()
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let mut all = sql
        .prepare("SELECT u.id, u.serial, lower(hex(u.uid)), u.state, u.batch, b.name FROM unit u JOIN batch b ON b.id = u.batch")
        .unwrap();
    let rows = all
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, BatchId(r.get(4)?), r.get(5)?)))
        .unwrap();
    let mut found = Vec::new();
    for row in rows {
        let (id, serial, uid, state, batch, name): (i64, String, String, String, BatchId, String) =
            row.unwrap();
        let fits = |word: &String| {
            let (upper, own) = (word.to_uppercase(), serial.to_uppercase());
            let part = if word.len() >= 3 { own.contains(&upper) } else { own.starts_with(&upper) };
            part || uid.starts_with(&word.to_lowercase()) || name.starts_with(word.as_str())
        };
        let failed = |code: &u16| failures.contains(&(id, *code));
        let stated = query.states.is_empty() || query.states.iter().any(|s| s.as_str() == state);
        if stated
            && query.words.iter().all(fits)
            && query.batch.is_none_or(|b| b == batch)
            && query.failure.as_ref().is_none_or(failed)
        {
            found.push(serial);
        }
    }
    found.sort();
    found
}

#[test]
fn every_query_finds_what_looking_at_every_unit_finds() {
    let station = Station::new(9, 2);
    many(&station, 2_000);
    let uid = station
        .sql()
        .query_row("SELECT lower(hex(uid)) FROM unit WHERE id = 77", [], |r| r.get::<_, String>(0))
        .unwrap();
    let texts = [
        "B1",
        "B1-0",
        "b1-0004",
        "pilot",
        "PILOT",
        "Pilot-000",
        "00042",
        "42K",
        "0042k",
        "999",
        "zzz",
        "3a",
        &uid,
        &uid[..5],
        "K304",
        "K401 quarantined",
        "quarantined",
        "scrapped 00",
        "passed",
        "passed K304",
        "cloud-key K304",
        "K304 B1 004",
        "0-0",
        "\"",
        "'; DROP TABLE unit; --",
        "%",
        "_",
        "*",
        "B1-* OR 1",
        "你好你好",
    ];
    for batch in [None, Some(station.batch.id), Some(BatchId(50))] {
        for text in texts {
            let query = UnitQuery { batch, ..UnitQuery::parse(text) };
            let found = station.records.find_units(&query, 0, 5_000).unwrap();
            let mut serials: Vec<_> = found.units.iter().map(|u| u.serial.clone()).collect();
            serials.sort();
            assert_eq!(serials, by_hand(&station, &query), "{text:?} in {batch:?}");
            assert_eq!(
                (found.count as usize, found.exact, found.of),
                (serials.len(), true, 2_000),
                "{text:?}"
            );
        }
    }
}

#[test]
fn more_than_can_be_counted_says_so_and_pages_go_on_where_they_ended() {
    let station = Station::new(99_999, 2);
    many(&station, MOST_HITS as u32 + 700);
    let query = UnitQuery::parse("");
    let found = station.records.find_units(&query, 0, 50).unwrap();
    assert_eq!((found.count as usize, found.exact, found.units.len()), (MOST_HITS, false, 50));
    let next = station.records.find_units(&query, 50, 50).unwrap();
    assert!(found.units.iter().all(|u| !next.units.contains(u)));
    assert_eq!(next.units.len(), 50);
    // A narrow way answers exactly, however wide the others are.
    let query = UnitQuery::parse("B1 00210");
    let found = station.records.find_units(&query, 0, 50).unwrap();
    assert_eq!(
        (found.exact, found.units.iter().map(|u| u.serial.as_str()).collect::<Vec<_>>()),
        (true, by_hand(&station, &query).iter().map(String::as_str).collect())
    );
    // What all ways lead to too many of is counted as far as it was looked at.
    let found = station.records.find_units(&UnitQuery::parse("passed"), 0, 10).unwrap();
    assert!(!found.exact && found.count > 1_000, "{}", found.count);
    // New units are found at once.
    station.arrive(unit_id(9));
    let serial = station.records.unit(unit_id(9)).unwrap().unwrap().serial;
    assert_eq!(
        station.records.find_units(&UnitQuery::parse(&serial[1..]), 0, 5).unwrap().units[0].id,
        unit_id(9)
    );
}

/// Units of one batch, so many of them failed with K304 and so many set aside.
fn batch_of(station: &Station, (id, name): (i64, &str), units: u32, failed: u32, aside: u32) {
    let mut sql = station.sql();
    let tx = sql.transaction().unwrap();
    let first: u32 = tx.query_row("SELECT coalesce(max(id), 0) FROM unit", [], |r| r.get(0)).unwrap();
    tx.execute(
        "INSERT INTO batch (id, name, po, quantity, state, created_at_ms) VALUES (?1, ?2, 1, 99999, 'open', 1)",
        (id, name),
    )
    .unwrap();
    for n in 1..=units {
        let mut uid = [0xcc; 12];
        uid[8..].copy_from_slice(&(first + n).to_be_bytes());
        // Both kinds lie where a walk from either end comes to them last.
        let middle = units / 2;
        let state = if n > middle && n <= middle + aside { "quarantined" } else { "passed" };
        tx.execute(
            "INSERT INTO unit (id, uid, batch, serial, state, created_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, 1)",
            (first + n, uid, id, format!("{name}-{n:05}K"), state),
        )
        .unwrap();
        if n <= middle && n + failed > middle {
            tx.execute(
                "INSERT INTO attempt (batch, unit, session, fixture, operator, station, started_at_ms, ended_at_ms, outcome,
                                      failure_code, failure)
                 VALUES (?1, ?2, 1, 'left', 'Ada', 'bench-1', 1000, 2000, 'FAIL', 304, '{}')",
                (id, first + n),
            )
            .unwrap();
        }
    }
    tx.commit().unwrap();
}

#[test]
fn a_word_that_names_a_large_batch_and_a_code_or_a_state_are_exact_together() {
    let station = Station::new(9, 2);
    batch_of(&station, (50, "BIG"), 6_000, 10, 7);
    batch_of(&station, (51, "ELSEWHERE"), 6_200, 3_000, 3_000);
    batch_of(&station, (52, "GO"), 5_200, 4, 3);
    let texts = [
        ("BIG K304", 10),
        ("K304 big", 10),
        ("bi k304", 10),
        ("IG- K304", 10),
        ("BIG-0 K304", 10),
        ("BIG quarantined", 7),
        ("quarantined BIG-", 7),
        ("GO K304", 4),
        ("GO quarantined scrapped", 3),
        // The narrower word leads, not the longer one.
        ("ELSEWHERE 06199", 1),
        ("BIG quarantined K304", 0),
    ];
    for (text, hits) in texts {
        let query = UnitQuery::parse(text);
        let found = station.records.find_units(&query, 0, 100).unwrap();
        let mut serials: Vec<_> = found.units.iter().map(|u| u.serial.clone()).collect();
        serials.sort();
        assert_eq!(serials, by_hand(&station, &query), "{text:?}");
        assert_eq!((found.count, found.exact), (hits, true), "{text:?}");
    }
    // Where every way is too long the answer does not claim to be all: nobody reads it as "there is none".
    let query = UnitQuery::parse("K304 quarantined");
    let found = station.records.find_units(&query, 0, 100).unwrap();
    assert!(!found.exact, "{found:?}");
    // What is walked for a word with a code are the two indexes, never a table.
    let sql = station.sql();
    for (statement, index) in [
        (
            "SELECT unit FROM attempt WHERE failure_code = 304 AND batch = 50 AND unit IS NOT NULL ORDER BY unit DESC LIMIT 9",
            "attempt_by_failure (failure_code=? AND batch=? AND unit>?)",
        ),
        (
            "SELECT id FROM unit WHERE state = 'quarantined' AND state <> 'passed' AND batch = 50 ORDER BY id DESC LIMIT 9",
            "unit_not_passed (state=? AND batch=?)",
        ),
    ] {
        let mut plan = sql.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
        let plan: Vec<String> = plan.query_map([], |r| r.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
        assert!(plan.len() == 1 && plan[0].contains("COVERING INDEX") && plan[0].contains(index), "{plan:?}");
    }
}

/// A unit that passed.
fn passed(station: &Station) -> Device {
    let id = unit_id(1);
    let attempt = station.arrive(id);
    let mut device = station.device(id, Suite::Hardened, 2);
    station.complete(&mut device);
    let proof = device.prove(&[3; 32]);
    let record = station.agent.check_proof(station.context(id), &[3; 32], &proof).unwrap();
    station.records.finish_attempt(attempt, Outcome::Pass, None, Some(&record)).unwrap();
    device
}

fn came_back(number: &str) -> NewRma {
    NewRma {
        number: number.into(),
        reason: "does not start".into(),
        note: "sent by DHL".into(),
        operator: "Quin".into(),
    }
}

#[test]
fn a_unit_comes_back_once_at_a_time_and_is_closed_with_a_finding() {
    let station = Station::new(2, 2);
    let unit = passed(&station).id;
    let records = &station.records;
    for number in ["", "RMA 7", "x\ny", &"9".repeat(33)] {
        assert_eq!(
            refusal(records.open_rma(unit, came_back(number))),
            FailureCode::InvalidInput,
            "{number:?}"
        );
    }
    let nothing = NewRma { reason: " ".into(), ..came_back("RMA-7") };
    assert_eq!(refusal(records.open_rma(unit, nothing)), FailureCode::InvalidInput);
    assert_eq!(refusal(records.close_rma(unit, "a fuse", "", "Quin")), FailureCode::NoRma);
    let rma = records.open_rma(unit, came_back("RMA-7")).unwrap();
    assert_eq!((rma.number.as_str(), rma.opened_by.as_str(), &rma.closed), ("RMA-7", "Quin", &None));
    assert_eq!(refusal(records.open_rma(unit, came_back("RMA-8"))), FailureCode::RmaOpen);
    // Found by its number, and by being open.
    let query = UnitQuery { rma_open: true, ..UnitQuery::default() };
    for query in [UnitQuery::parse("rma-"), UnitQuery::parse("RMA-7"), query.clone()] {
        let found = records.find_units(&query, 0, 9).unwrap();
        assert_eq!(
            found.units.iter().map(|u| (u.id, u.rma.as_deref())).collect::<Vec<_>>(),
            [(unit, Some("RMA-7"))]
        );
    }
    let rma = records.close_rma(unit, "a fuse", "replaced", "Ada").unwrap();
    let end = rma.closed.unwrap();
    assert_eq!((end.finding.as_str(), end.note.as_str(), end.by.as_str()), ("a fuse", "replaced", "Ada"));
    assert!(records.find_units(&query, 0, 9).unwrap().units.is_empty());
    assert_eq!(
        records.find_units(&UnitQuery::parse("RMA-7"), 0, 9).unwrap().count,
        1,
        "closed ones are found"
    );
    assert_eq!(refusal(records.open_rma(unit, came_back("rma-7"))), FailureCode::NameTaken);
    records.open_rma(unit, came_back("RMA-9")).unwrap();
    let kinds: Vec<_> = records.unit_events(unit).unwrap().into_iter().map(|e| e.kind).collect();
    assert_eq!(
        kinds.iter().filter(|k| k.starts_with("rma-")).collect::<Vec<_>>(),
        ["rma-opened", "rma-closed", "rma-opened"]
    );
    // The table itself keeps what is closed.
    let sql = station.sql();
    for statement in [
        "DELETE FROM rma",
        "UPDATE rma SET finding = 'nothing' WHERE number = 'RMA-7'",
        "UPDATE rma SET closed_at_ms = NULL, closed_by = NULL, finding = NULL, closing_note = NULL WHERE number = 'RMA-7'",
        "UPDATE rma SET reason = 'other' WHERE number = 'RMA-9'",
    ] {
        assert!(sql.execute(statement, []).is_err(), "{statement}");
    }
}

#[test]
fn a_traveler_has_everything_in_order_and_no_key() {
    let station = Station::new(2, 2);
    let device = passed(&station);
    let unit = device.id;
    let records = &station.records;
    let failed = station.arrive(unit);
    records
        .finish_attempt(failed, Outcome::Timeout, Some(&Failure::new(FailureCode::DeviceSilent, "")), None)
        .unwrap();
    let export = NewExport {
        batch: Some(station.batch.id),
        selection: "batch=B1".into(),
        format: "csv.age".into(),
        file: "B1.csv.age".into(),
        rows: 1,
        sha256: "ab".repeat(32),
        operator: "=Vera".into(),
        protection: "age".into(),
        handed_to: "Plant 2".into(),
        recipients: vec!["fp".into()],
        units: vec![HandedUnit { unit, agent: 1, cloud: 1 }],
        ..NewExport::default()
    };
    records.record_export(export).unwrap();
    records.open_rma(unit, came_back("RMA-7")).unwrap();
    station.agent.quarantine(unit, "smells burnt", "Quin").unwrap();
    let record = records.unit_record(unit).unwrap().unwrap();
    let entries = traveler::entries(&record);
    assert!(entries.windows(2).all(|w| w[0].at.0 <= w[1].at.0), "in the order of time");
    let of = |group: Group| entries.iter().filter(|e| e.group == group).collect::<Vec<_>>();
    let attempts = of(Group::Attempt);
    assert_eq!(
        attempts.iter().map(|e| e.outcome).collect::<Vec<_>>(),
        [Some(Outcome::Pass), Some(Outcome::Timeout)]
    );
    assert_eq!(
        (attempts[1].code.as_str(), attempts[1].fixture.as_str(), attempts[1].by.as_str()),
        ("K304", "fixture-1", "op")
    );
    assert!(attempts.iter().all(|e| e.seconds.is_some()));
    let made: Vec<_> = entries.iter().filter(|e| e.what == "key-made").collect();
    assert_eq!(made.len(), 2);
    let live = records.key_vault().unit_keys(unit).unwrap();
    let ids = [live.agent.as_ref().unwrap().key_id.clone(), live.cloud.as_ref().unwrap().key_id.clone()];
    assert!(made.iter().all(|e| ids.contains(&e.facts["fingerprint"].as_str().unwrap().to_owned())));
    assert_eq!(of(Group::Decision)[0].by, "Quin");
    assert_eq!(of(Group::Rma)[0].facts["number"], "RMA-7");
    assert_eq!(of(Group::Export)[0].facts["handed_to"], "Plant 2");
    let keys = [live.agent.unwrap().key.expose().to_vec(), live.cloud.unwrap().key.expose().to_vec()];
    for form in Form::ALL {
        let text = traveler::write(&record, &[], form);
        for part in ["RMA-7", "K304", "smells burnt", "Plant 2", &ids[0], &record.unit.serial] {
            // A spreadsheet has lines only; the head is for people and programs.
            assert!(
                text.contains(part) || (form == Form::Csv && part == record.unit.serial),
                "{part} is not in {form:?}"
            );
        }
        assert!(keys.iter().all(|k| !text.contains(&hex::encode(k))), "a key in {form:?}");
        let only = traveler::write(&record, &[Group::Rma], form);
        assert!(only.contains("rma-opened") && !only.contains("smells burnt"), "{only}");
    }
    let csv = traveler::write(&record, &[], Form::Csv);
    assert!(csv.contains(",'=Vera,"), "what a person typed is no formula");
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    assert_eq!(reader.records().map(|r| r.unwrap().len()).collect::<Vec<_>>(), vec![9; entries.len()]);
    let whole: serde_json::Value = serde_json::from_str(&traveler::write(&record, &[], Form::Json)).unwrap();
    assert_eq!(whole["lines"].as_array().unwrap().len(), entries.len());
    assert_eq!(whole["unit"]["serial"], record.unit.serial.as_str());
    // A file that is there is left alone.
    let path = station.home.path().join("travelers").join(traveler::file_name(
        &record,
        1_790_000_000_000,
        Form::Text,
    ));
    assert!(
        path.file_name().unwrap().to_str().unwrap().ends_with("Z.txt") || path.extension().unwrap() == "txt"
    );
    traveler::save(&record, &[], Form::Text, &path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), traveler::write(&record, &[], Form::Text));
    assert_eq!(traveler::save(&record, &[], Form::Text, &path).unwrap_err().code, FailureCode::ExportIo);
}

#[test]
fn a_retest_is_an_attempt_of_its_own_kind_and_counts_no_unit_twice() {
    let station = Station::new(2, 2);
    let device = passed(&station);
    let records = &station.records;
    assert_eq!(refusal(records.order_retest(device.id, &"".into(), "Quin")), FailureCode::InvalidInput);
    let long = Why { reason: "came back".into(), note: "n".repeat(501) };
    assert_eq!(refusal(records.order_retest(device.id, &long, "Quin")), FailureCode::InvalidInput);
    let why = Why { reason: "came back".into(), note: "smells of smoke".into() };
    records.order_retest(device.id, &why, "Quin").unwrap();
    let before = records.batch(station.batch.id).unwrap().terms.passed;
    let attempt = records.begin_retest(station.batch.id, "left", "Quin").unwrap();
    records.bind_unit(attempt, device.id).unwrap();
    let proof = device.prove(&[4; 32]);
    let proof = station.agent.check_proof(station.context(device.id), &[4; 32], &proof).unwrap();
    records.finish_attempt(attempt, Outcome::Pass, None, Some(&proof)).unwrap();
    assert_eq!(records.batch(station.batch.id).unwrap().terms.passed, before);
    let record = records.unit_record(device.id).unwrap().unwrap();
    assert_eq!(
        record.attempts.iter().map(|a| a.work).collect::<Vec<_>>(),
        [AttemptWork::Retest, AttemptWork::Make]
    );
    let kinds: Vec<_> = record.events.iter().map(|e| e.kind.as_str()).collect();
    assert_eq!(kinds[0], "retested");
    assert!(kinds.contains(&"retest-ordered"));
    let ordered = record.events.iter().find(|e| e.kind == "retest-ordered").unwrap();
    assert_eq!(ordered.detail["note"], "smells of smoke");
    assert!(station.sql().execute("UPDATE attempt SET retest = 0", []).is_err(), "it keeps what it was for");
    let why = Why { reason: "burnt".into(), note: "capacitor C4".into() };
    station.agent.quarantine(device.id, why.clone(), "Quin").unwrap();
    station
        .agent
        .release(device.id, Why { reason: "repaired".into(), note: "C4 is new".into() }, "Quin")
        .unwrap();
    station.agent.quarantine(device.id, why, "Quin").unwrap();
    // Each stands in the traveler, a note beside its reason.
    let record = records.unit_record(device.id).unwrap().unwrap();
    for form in [Form::Text, Form::Csv, Form::Json] {
        let text = traveler::write(&record, &[Group::Decision], form);
        for part in ["burnt", "capacitor C4", "C4 is new"] {
            assert!(text.contains(part), "{part} is not in {form:?}");
        }
    }
    assert_eq!(refusal(records.order_retest(device.id, &"again".into(), "Quin")), FailureCode::RetestRefused);
}

#[test]
fn a_unit_is_compared_field_by_field_and_what_it_does_not_report_is_called_so() {
    let station = Station::new(2, 2);
    let device = passed(&station);
    let records = &station.records;
    let record = records.unit_record(device.id).unwrap().unwrap();
    let said = Report {
        unit: device.id,
        firmware: record.firmware.clone().unwrap(),
        protocol: 1,
        stage: 5,
        suite: 2,
        area_a: 2,
        area_b: 0,
        generation: record.unit.generation,
        agent_key: 1,
        cloud_key: 1,
        region: 7,
        order: hex::encode(station.po.po16()),
        last_failure: 0,
        reset_cause: 0x0c,
        uptime_ms: 1500,
        ram_high_water: 20_000,
        cloud: 2,
    };
    let compared = compare::compare(&record, &said);
    assert_eq!(compared.differing().count(), 0, "{compared:?}");
    let verdict = |c: &compare::Comparison, f: Field| c.fields.iter().find(|x| x.field == f).unwrap().verdict;
    for field in [Field::AgentFingerprint, Field::CloudFingerprint, Field::Anchors] {
        assert_eq!(verdict(&compared, field), Verdict::NotReported);
    }
    assert!(compared.health.iter().all(|h| h.good != Some(false)));
    // Each field that differs is found, and no other.
    let other = [
        (Field::HardwareId, Report { unit: unit_id(2), ..said.clone() }),
        (Field::ProductOrder, Report { order: hex::encode(*b"PO-OTHER\0\0\0\0\0\0\0\0"), ..said.clone() }),
        (Field::Suite, Report { suite: 1, ..said.clone() }),
        (Field::Firmware, Report { firmware: "9.9.9".into(), ..said.clone() }),
        (Field::Stage, Report { stage: 1, ..said.clone() }),
        (Field::Record, Report { generation: 99, ..said.clone() }),
        (Field::AgentKey, Report { agent_key: 0, ..said.clone() }),
        (Field::CloudKey, Report { cloud_key: 2, ..said.clone() }),
        (Field::Region, Report { region: 8, ..said.clone() }),
    ];
    for (field, said) in &other {
        let compared = compare::compare(&record, said);
        assert_eq!(compared.differing().map(|f| f.field).collect::<Vec<_>>(), [*field]);
    }
    let ill = Report { area_b: 3, last_failure: 0x0203, cloud: 3, ..said.clone() };
    let ill = compare::compare(&record, &ill);
    assert_eq!(ill.health.iter().filter(|h| h.good == Some(false)).count(), 3);
    // It needs the unit's word, and stands in its history afterwards.
    assert_eq!(compare::settle(records, device.id, "Quin").unwrap_err().code, FailureCode::DeviceSilent);
    records.unit_event(device.id, None, compare::REPORTED, json!(other[8].1), None).unwrap();
    let settled = compare::settle(records, device.id, "Quin").unwrap();
    assert_eq!(settled.differing().count(), 1);
    let record = records.unit_record(device.id).unwrap().unwrap();
    assert_eq!(record.events[0].detail["differs"], json!(["region"]));
    assert_eq!(compare::newest(&record).unwrap().1, settled);
}
