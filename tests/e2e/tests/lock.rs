//! A finished unit is locked: real option bytes over real probe-rs. What comes back of it is asked over its serial port, and its
//! keys are out of a debugger's reach whatever that tries.

use keywright_e2e::{BATCH, Factory, ORDER, PATIENCE};
use keywright_protocol::map;
use keywright_virtual_board::ReadProtection;
use probe_rs::probe::{DebugProbeSelector, WireProtocol, list::Lister};
use probe_rs::{MemoryInterface, Permissions, Session};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Level 1 and the four boot sectors, everything else as the chip came (RM0090 §3.9.10).
const LOCKED: &str = "0ff055ec 0fff0000";

fn proof(factory: &Factory) -> Value {
    let sql = "SELECT proof FROM attempt WHERE outcome = 'PASS' ORDER BY id DESC LIMIT 1";
    let text: String = factory.database().query_row(sql, [], |r| r.get(0)).expect("a pass");
    serde_json::from_str(&text).expect("JSON")
}

/// The bytes of both key areas and the storage-secret slots, as they lie in flash.
fn secrets(factory: &Factory) -> Vec<(u32, Vec<u8>)> {
    [map::KEY_AREA_A, map::KEY_AREA_B, map::STORAGE_SECRET]
        .into_iter()
        .map(|r| {
            (
                r.base,
                factory.bench.with_board(1, |b| b.read_flash(r.base, 1024)).expect("board").expect("flash"),
            )
        })
        .collect()
}

fn attach(factory: &Factory) -> Session {
    let selector: DebugProbeSelector =
        factory.bench.fixture(1).expect("fixture").probe.parse().expect("a selector");
    let end = Instant::now() + PATIENCE;
    // The station that just ended may still be hanging up.
    let mut probe = loop {
        match Lister::new().open(selector.clone()) {
            Ok(probe) => break probe,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    };
    probe.select_protocol(WireProtocol::Swd).expect("SWD");
    probe.attach("STM32F429ZITx", Permissions::default()).expect("a locked chip still names itself")
}

#[test]
fn a_locked_units_keys_are_out_of_reach_and_it_is_proved_again_when_it_comes_back() {
    let factory = Factory::locking(1, 1, 60);
    let report = factory.run_line(&[1]);
    report.assert_passed(&[1]);
    assert!(report.of("step").any(|e| e["step"] == "lock"), "{report:#?}");
    let lock = &proof(&factory)["lock"];
    assert_eq!(
        (&lock["asked"], &lock["observed"], &lock["closed"]),
        (&LOCKED.into(), &LOCKED.into(), &true.into())
    );
    let shown = factory.ok(&["unit", "show", &factory.uid(1)]);
    assert!(shown.contains(&format!("asked for {LOCKED}, seen {LOCKED}")), "{shown}");

    // There is something to steal, and no way to it.
    let kept = secrets(&factory);
    let written = kept.iter().filter(|(_, bytes)| bytes.iter().any(|b| *b != 0xFF)).count();
    assert!(written >= 2, "a key area and the storage secret");
    let mut session = attach(&factory);
    let mut core = session.core(0).expect("core");
    for step in 0..2 {
        for (at, _) in &kept {
            for address in [u64::from(*at), u64::from(*at - map::FLASH_BASE)] {
                let mut bytes = [0; 64];
                assert!(core.read(address, &mut bytes).is_err(), "{address:#x} could be read");
                assert!(core.read_word_32(address).is_err(), "{address:#x} could be read");
                assert!(bytes.iter().all(|b| *b == 0));
            }
        }
        if step == 0 {
            core.reset_and_halt(Duration::from_secs(2)).expect("the core itself obeys");
        }
    }
    drop(core);
    drop(session);
    assert_eq!(secrets(&factory), kept, "and nothing was lost in trying");

    // The board comes back: a person gives its power back when the station asks, and it is proved and not flashed.
    let again = factory.run_attended(&["line", "run", "--batch", BATCH, "--count", "1", "--json"]);
    again.assert_passed(&[1]);
    assert!(!again.of("step").any(|e| e["step"] == "flash"), "{again:#?}");
    let lock = &proof(&factory)["lock"];
    assert_eq!((&lock["asked"], &lock["observed"]), (&Value::Null, &LOCKED.into()), "asked for once only");

    // New keys, several times: nothing that the firmware writes lies in a protected sector.
    for generation in 2..=3 {
        factory.run_attended(&["unit", "rekey", "--batch", BATCH, "--json"]).assert_passed(&[1]);
        let proof = proof(&factory);
        assert_eq!((&proof["ak_gen"], &proof["ck_gen"]), (&generation.into(), &generation.into()), "{proof}");
        assert!(proof["old_keys_refused"].as_i64() > Some(0), "{proof}");
    }
    let complaints: i64 = factory
        .database()
        .query_row("SELECT count(*) FROM unit_event WHERE kind = 'device-log'", [], |r| r.get(0))
        .expect("a count");
    assert_eq!(complaints, 0, "the unit had nothing to complain about");
}

#[test]
fn killed_between_the_lock_and_the_pass_it_goes_on() {
    let factory = Factory::locking(1, 1, 61);
    let mut line = factory.start_line(&[1]);
    line.wait_for(|e| e["label"] == "trying to read its flash");
    line.kill();
    assert_eq!(factory.bench.with_board(1, |b| b.read_protection()).expect("board"), ReadProtection::Level1);
    let again = factory.run_attended(&["line", "run", "--batch", BATCH, "--count", "1", "--json"]);
    again.assert_passed(&[1]);
    assert!(!again.of("step").any(|e| e["step"] == "flash"), "{again:#?}");
    assert_eq!(proof(&factory)["lock"]["observed"], LOCKED);
}

#[test]
fn a_chip_that_somebody_else_locked_is_left_as_it_is() {
    let factory = Factory::locking(1, 1, 62);
    factory.bench.with_board(1, |b| b.set_read_protection(ReadProtection::Level1)).expect("board");
    let report = factory.run_line(&[1]);
    assert_eq!(report.failure(1), "ReadProtected", "{report:#?}");
    factory.bench.with_board(1, |b| b.set_read_protection(ReadProtection::Level2)).expect("board");
    let report = factory.run_line(&[1]);
    assert_ne!(report.outcome(1), "PASS", "{report:#?}");
    // An order says what becomes of its units, once and for all.
    let orders = factory.ok(&["po", "show", ORDER, "--json"]);
    assert!(orders.contains("\"lock\":true"), "{orders}");
}
