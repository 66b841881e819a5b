//! A unit comes back: new keys, another region, a new start, scrap. Real firmware, real probe, the station's own broker; after each
//! change the credentials it had are tried and must be refused.
#![cfg(unix)]

use keywright_e2e::{BATCH, Factory, ORDER};
use keywright_protocol::map;
use keywright_virtual_board::ReadProtection;
use serde_json::Value;

/// Generations (agent key, cloud key) that the last PASS proved, and how many old keys were tried in vain.
fn proved(factory: &Factory) -> (i64, i64, i64) {
    let sql = "SELECT proof FROM attempt WHERE outcome = 'PASS' ORDER BY id DESC LIMIT 1";
    let text: String = factory.database().query_row(sql, [], |r| r.get(0)).expect("a pass");
    let proof: Value = serde_json::from_str(&text).expect("JSON");
    let number = |key: &str| proof[key].as_i64().expect("a number");
    (number("ak_gen"), number("ck_gen"), number("old_keys_refused"))
}

fn number(factory: &Factory, sql: &str) -> i64 {
    factory.database().query_row(sql, [], |r| r.get(0)).expect(sql)
}

/// A finished, locked unit through everything that QA can do with it, and the station killed where it hurts most.
#[test]
fn a_locked_unit_gets_new_keys_another_region_and_a_new_start() {
    let factory = Factory::locking(1, 1, 70);
    factory.ok(&["anchors", "init", "--region", "8"]);
    factory.run_line(&[1]).assert_passed(&[1]);
    let uid = factory.uid(1);
    let reprovision = |how: &[&str]| {
        let mut args = vec!["unit", "reprovision", &uid, "--reason", "RMA 88", "--yes", "--json"];
        args.extend(how);
        factory.run_attended(&args)
    };
    reprovision(&[]).assert_passed(&[1]);
    let (agent, cloud, refused) = proved(&factory);
    assert_eq!((agent, cloud), (2, 2));
    assert!(refused > 0);

    reprovision(&["--move-region", "8"]).assert_passed(&[1]);
    assert_eq!(proved(&factory).1, 3);
    assert_eq!(number(&factory, "SELECT region FROM enrolment"), 8);
    // It goes on in its new region: the agent speaks with that region's certificate now, and the unit believes no other.
    reprovision(&["--new-keys"]).assert_passed(&[1]);
    assert_eq!((proved(&factory).0, proved(&factory).1), (3, 4));
    // Tried once more without a change, and asked what it says of itself: over the wire, as a debugger's look would stop it.
    factory.run_attended(&["unit", "retest", &uid, "--reason", "RMA 88", "--json"]).assert_passed(&[1]);
    assert_eq!((proved(&factory).0, proved(&factory).1), (3, 4));
    let said = factory.run_attended(&["unit", "compare", &uid, "--json"]);
    said.assert_code(Some(0));
    for field in ["hardware-id", "agent-key", "cloud-key", "region", "suite"] {
        let found =
            said.of("compared").find(|c| c["field"] == field).unwrap_or_else(|| panic!("{field}: {said:#?}"));
        assert_eq!(found["verdict"], "same", "{found}");
    }
    let again = factory.run(&["unit", "reprovision", &uid, "--reason", "x", "--move-region", "8", "--json"]);
    assert_eq!(again.status.code(), Some(2), "it is there already");
    let unknown =
        factory.run(&["unit", "reprovision", &uid, "--reason", "x", "--move-region", "9", "--json"]);
    assert_ne!(unknown.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&unknown.stdout).contains("K407"));

    // A new start: confirmed only by saying so, and killed right behind the erase.
    let unsaid = factory.run(&["unit", "reprovision", &uid, "--new-start", "--reason", "x", "--json"]);
    assert_eq!(unsaid.status.code(), Some(2));
    let args = ["unit", "reprovision", &uid, "--new-start", "--reason", "RMA 88", "--yes", "--json"];
    let mut line = factory.start(&args);
    line.wait_for(|e| e["label"].as_str().is_some_and(|l| l.starts_with("writing")));
    line.kill();
    let open = factory.bench.with_board(1, |b| b.read_protection()).expect("board");
    assert_eq!(
        open,
        ReadProtection::Level0,
        "its lock is off, and with it went everything that was in its flash"
    );
    let report = factory.run_attended(&args);
    report.assert_passed(&[1]);
    let (agent, cloud, refused) = proved(&factory);
    assert_eq!((agent, cloud), (4, 5), "generations only grow");
    assert!(refused > 0, "what it had before opens nothing");
    assert_eq!(number(&factory, "SELECT region FROM enrolment"), 7, "it began again where its order goes");
    let locked = factory.bench.with_board(1, |b| b.read_protection()).expect("board");
    assert_eq!(locked, ReadProtection::Level1);

    let shown = factory.ok(&["unit", "show", &uid]);
    for text in
        ["new-start", "move-region 8", "RMA 88", &format!("{uid}.4"), "done: agent key 4, cloud key 5"]
    {
        assert!(shown.contains(text), "{text} in {shown}");
    }
    assert_eq!(number(&factory, "SELECT count(*) FROM reprovision WHERE outcome = 'done'"), 4);
    let live = "SELECT count(*) FROM key_assignment WHERE state = 'posted' AND retired_at_ms IS NULL";
    assert_eq!(number(&factory, live), 2, "one live key of each kind");
}

/// Two open boards: one lost its keys in repair, the other has nothing to do with it.
#[test]
fn a_unit_that_lost_its_keys_starts_anew_by_order_only() {
    let factory = Factory::new(2, 2, 2, 71);
    factory.run_line(&[1, 2]).assert_passed(&[1, 2]);
    factory.ok(&["batch", "close", BATCH]);
    let (one, two) = (factory.uid(1), factory.uid(2));
    // A repair shop erased it.
    let lost = |b: &mut keywright_virtual_board::Board| {
        b.cut_power();
        for region in [map::KEY_AREA_A, map::KEY_AREA_B, map::STORAGE_SECRET] {
            b.tamper(region.base, &vec![0xFF; region.len as usize]).expect("inside the flash");
        }
        b.power_on();
    };
    factory.bench.with_board(1, lost).expect("board");
    factory.ok(&["batch", "open", BATCH, "--reason", "a unit came back"]);
    let refused = factory.run_line(&[1]);
    assert_eq!(refused.failure(1), "KeysGone", "{refused:#?}");
    let said = factory.start(&["unit", "compare", &one, "--fixture", "1", "--json"]).finish();
    said.assert_code(Some(3));
    assert!(said.of("compared").any(|c| c["verdict"] == "differs"), "{said:#?}");
    factory.ok(&["batch", "close", BATCH]);

    let operations = factory.bench.with_board(2, |b| b.flash_op_count()).expect("board");
    let base =
        ["unit", "reprovision", &one, "--new-start", "--reason", "erased in repair", "--yes", "--json"];
    let ask = |fixture: &str| factory.start(&[&base[..], &["--fixture", fixture]].concat()).finish();
    let nowhere = factory.run(&base);
    assert!(String::from_utf8_lossy(&nowhere.stdout).contains("--fixture"), "two fixtures: it must be said");
    let wrong = ask("2");
    assert_eq!(wrong.failure(2), "OtherUnit", "{wrong:#?}");
    assert_eq!(factory.bench.with_board(2, |b| b.flash_op_count()).expect("board"), operations, "left alone");
    ask("1").assert_passed(&[1]);
    let (agent, cloud, refused) = proved(&factory);
    assert_eq!((agent, cloud), (2, 2));
    assert!(refused > 0);

    // Set aside, let back, taken out.
    let decide =
        |what: &str, unit: &str| factory.ok(&["unit", what, unit, "--reason", "sample", "--yes", "--json"]);
    factory.ok(&["batch", "open", BATCH, "--reason", "a unit came back"]);
    decide("quarantine", &two);
    assert_eq!(factory.run_line(&[2]).failure(2), "Quarantined");
    decide("release", &two);
    factory.run_line(&[2]).assert_passed(&[2]);
    decide("scrap", &two);
    assert_eq!(factory.run_line(&[2]).failure(2), "Scrapped");
    assert_eq!(factory.unit(2)["state"], "scrapped");

    // The product key leaked: what it enrolled is shut out, and nothing more is made under it.
    let leaked = [
        "po",
        "invalidate",
        ORDER,
        "--since",
        "2020-01-01T00:00:00Z",
        "--reason",
        "on a forum",
        "--yes",
        "--json",
    ];
    let told = factory.ok(&leaked);
    assert!(told.contains("\"quarantined\":1") && told.contains("\"blocked\":1"), "{told}");
    assert_eq!(factory.run_line(&[1]).failure(1), "Quarantined");
    decide("release", &one);
    factory.run_line(&[1]).assert_passed(&[1]);
    factory.bench.with_board(1, lost).expect("board");
    let restart =
        factory.run(&["unit", "reprovision", &one, "--new-start", "--reason", "x", "--yes", "--json"]);
    assert!(String::from_utf8_lossy(&restart.stdout).contains("K410"));
}
