//! Bare boards become units, and whatever comes back is an ordinary input.

use keywright_e2e::{BATCH, Factory};
use keywright_protocol::map;
use std::collections::HashSet;

#[test]
fn bare_boards_become_units_with_their_own_keys() {
    let factory = Factory::new(2, 2, 2, 11);
    let report = factory.run_line(&[1, 2]);
    report.assert_passed(&[1, 2]);

    // The records say what was checked.
    let database = factory.database();
    let proofs: Vec<String> = database
        .prepare("SELECT proof FROM attempt WHERE outcome = 'PASS'")
        .and_then(|mut q| q.query_map([], |row| row.get(0))?.collect())
        .expect("proofs");
    assert_eq!(proofs.len(), 2);
    for proof in &proofs {
        let proof: serde_json::Value = serde_json::from_str(proof).expect("JSON");
        assert_eq!(proof["cloud_mac_ok"], true, "{proof}");
        assert_eq!(proof["agent_mac_ok"], true, "{proof}");
        assert!(proof["generation"].as_u64() > Some(0), "{proof}");
    }

    // Two units, two ids, and no posted key twice.
    let ids: HashSet<String> = (1..=2).map(|n| factory.uid(n)).collect();
    assert_eq!(ids.len(), 2);
    let (rows, distinct): (i64, i64) = database
        .query_row(
            "SELECT count(*), count(DISTINCT key_id) FROM key_assignment WHERE state = 'posted'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .expect("assignments");
    assert_eq!((rows, distinct), (4, 4), "an agent key and a cloud key for each unit, all different");

    // The product key is gone from the chip, and so is its whole area or it holds the unit's own record.
    for n in 1..=2 {
        let b = factory
            .bench
            .with_board(n, |b| b.read_flash(map::KEY_AREA_B.base, 2048))
            .expect("board")
            .expect("flash");
        assert_ne!(b.get(5), Some(&1), "kind 1 (product key) still in area B of board {n}");
    }
}

#[test]
fn the_legacy_suite_works_as_well() {
    let factory = Factory::new(1, 1, 1, 12);
    factory.run_line(&[1]).assert_passed(&[1]);
}

#[test]
fn the_same_board_again_is_not_made_twice() {
    let factory = Factory::new(1, 1, 2, 13);
    factory.run_line(&[1]).assert_passed(&[1]);
    let before = factory
        .bench
        .with_board(1, |b| b.read_flash(map::FLASH_BASE, map::FLASH_LEN))
        .expect("board")
        .expect("flash");
    let keys = |factory: &Factory| -> i64 {
        factory
            .database()
            .query_row("SELECT count(*) FROM key_assignment", [], |row| row.get(0))
            .expect("count")
    };
    let issued = keys(&factory);

    let again = factory.run_line(&[1]);
    assert_eq!(again.outcome(1), "PASS", "{again:#?}");
    assert_eq!(keys(&factory), issued, "no new key was issued");
    let after = factory
        .bench
        .with_board(1, |b| b.read_flash(map::FLASH_BASE, map::FLASH_LEN))
        .expect("board")
        .expect("flash");
    assert!(before == after, "a finished unit's flash is left alone");
    assert!(!again.of("step").any(|e| e["step"] == "flash"), "{again:#?}");
}

#[test]
fn the_batch_takes_no_more_units_than_planned() {
    let factory = Factory::new(2, 1, 2, 14);
    factory.run_line(&[1]).assert_passed(&[1]);
    let second = factory.run_line(&[2]);
    assert_eq!(second.failure(2), "QuotaReached", "{second:#?}");
    assert_ne!(second.code, Some(0));
    let flash =
        factory.bench.with_board(2, |b| b.read_flash(map::FLASH_BASE, 4096)).expect("board").expect("flash");
    assert!(flash.iter().all(|byte| *byte == 0xFF), "the refused board was not touched");
}

#[test]
fn a_closed_batch_takes_none() {
    let factory = Factory::new(1, 1, 2, 15);
    factory.ok(&["batch", "close", BATCH]);
    let out = factory.run(&["line", "run", "--batch", BATCH, "--count", "1", "--json"]);
    assert_eq!(out.status.code(), Some(5), "{}", String::from_utf8_lossy(&out.stderr));
}
