//! Boards, cables and chips that are not what they should be: a clear code, and nothing lost.

use keywright_e2e::{Factory, PATIENCE, Snapshot};
use keywright_protocol::map;
use keywright_virtual_board::ReadProtection;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The head of flash, which every stage one writes.
fn untouched(factory: &Factory, n: u32) -> bool {
    let flash = factory
        .bench
        .with_board(n, |b| b.read_flash(map::FLASH_BASE, 0x4_0000))
        .expect("board")
        .expect("flash");
    flash.iter().all(|byte| *byte == 0xFF)
}

#[test]
fn another_chip_is_refused_before_anything_is_written() {
    let factory = Factory::new(1, 1, 2, 21);
    // DEV_ID 0x413 is an STM32F405/407 (RM0090 §38.6.1).
    factory.bench.with_board(1, |b| b.set_idcode(0x1001_6413)).expect("board");
    let report = factory.run_line(&[1]);
    assert_eq!((report.outcome(1), report.failure(1)), ("FAIL", "WrongChip"), "{report:#?}");
    assert!(untouched(&factory, 1));
}

#[test]
fn a_read_protected_chip_is_refused_before_anything_is_written() {
    let factory = Factory::new(1, 1, 2, 22);
    factory.bench.with_board(1, |b| b.set_read_protection(ReadProtection::Level1)).expect("board");
    let report = factory.run_line(&[1]);
    assert_eq!((report.outcome(1), report.failure(1)), ("FAIL", "ReadProtected"), "{report:#?}");
    assert!(untouched(&factory, 1));
}

#[test]
fn a_pulled_cable_and_a_missing_probe_say_so() {
    let factory = Factory::new(1, 1, 2, 23);
    factory.bench.unplug(1).expect("unplug");
    let report = factory.run_line(&[1]);
    assert_eq!((report.outcome(1), report.failure(1)), ("ERROR", "PortMissing"), "{report:#?}");
    factory.bench.plug(1).expect("plug");

    // The serial port is there, the probe is not: nothing listens at its address.
    let config = factory.home().join("station.toml");
    let good = std::fs::read_to_string(&config).expect("station.toml");
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
    let address = factory.bench.fixture(1).expect("fixture").swd.to_string();
    std::fs::write(&config, good.replace(&address, &free.to_string())).expect("station.toml");
    let report = factory.run_line(&[1]);
    assert_eq!((report.outcome(1), report.failure(1)), ("ERROR", "NoProbe"), "{report:#?}");

    // With the right probe again, the same board goes through.
    std::fs::write(&config, good).expect("station.toml");
    factory.run_line(&[1]).assert_passed(&[1]);
}

#[test]
fn an_empty_fixture_says_so() {
    let factory = Factory::new(1, 1, 2, 24);
    factory.bench.place(1, None).expect("place");
    let report = factory.run_line(&[1]);
    assert_eq!(report.failure(1), "NoTarget", "{report:#?}");
}

#[test]
fn two_boards_swapped_in_the_middle_get_no_foreign_keys() {
    let factory = Factory::new(2, 2, 2, 25);
    let mut line = factory.start_line(&[1, 2]);
    // Both units are known to the line before the hand comes.
    let mut exchanging = 0;
    line.wait_for(|e| {
        exchanging += u32::from(e["event"] == "step" && e["step"] == "agent-key");
        exchanging == 2
    });
    factory.bench.swap(1, 2).expect("swap");
    // The attempts that were running end without PASS. The line then sees another board in each fixture and may start
    // it there in the same run: it goes on from where it stopped.
    let report = line.finish();
    for attempt in [1, 2] {
        let first = report.of("finished").find(|e| e["attempt"] == attempt).expect("both attempts end");
        assert_ne!(first["outcome"], "PASS", "a swapped board must not pass: {report:#?}");
    }
    // Nothing is lost: each board, where it lies now, is or becomes a unit.
    factory.run_line(&[1, 2]).assert_passed(&[1, 2]);
    assert_eq!([factory.unit(1)["state"].as_str(), factory.unit(2)["state"].as_str()], [Some("passed"); 2]);
    let doubles: i64 = factory
        .database()
        .query_row(
            "SELECT count(*) FROM (SELECT unit FROM key_assignment WHERE state = 'posted' GROUP BY unit, purpose HAVING count(*) > 1)",
            [],
            |row| row.get(0),
        )
        .expect("count");
    assert_eq!(doubles, 0, "no unit holds two live keys of one kind");
}

/// Two factories at a time, whichever tests run: a board thinks most of a run, and more of them than cores only make each other late.
fn two_at_a_time<T: Send>(cases: Vec<T>, work: impl Fn(T) + Sync) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let cases = Mutex::new(cases.into_iter());
    let worker = || {
        while let Some(case) = { cases.lock().unwrap_or_else(PoisonError::into_inner).next() } {
            work(case);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(worker);
        scope.spawn(worker);
    });
}

/// A board after stage one, before its exchange: what comes later begins there.
fn flashed() -> &'static Snapshot {
    static FLASHED: OnceLock<Snapshot> = OnceLock::new();
    FLASHED.get_or_init(|| Factory::flashed(2, 40))
}

#[test]
fn a_board_pulled_at_each_step_resumes() {
    two_at_a_time(vec!["flash", "agent-key", "cloud-key", "prove"], |step| {
        let factory = if step == "flash" { Factory::new(1, 1, 2, 31) } else { Factory::at(flashed()) };
        let mut line = factory.start_line(&[1]);
        line.wait_for(|e| e["event"] == "step" && e["step"] == step);
        factory.bench.unplug(1).expect("unplug");
        factory.bench.cut_power(1).expect("power");
        let report = line.finish();
        assert_ne!(report.outcome(1), "PASS", "pulled at {step}: {report:#?}");
        assert_ne!(report.failure(1), "none", "pulled at {step}: {report:#?}");
        factory.bench.plug(1).expect("plug");
        factory.bench.power_on(1).expect("power");
        let again = factory.run_line(&[1]);
        assert_eq!(again.outcome(1), "PASS", "pulled at {step}: {again:#?}");
    });
}

#[test]
fn power_cut_inside_each_flash_operation_of_the_key_exchange_resumes() {
    // A clean run counts the flash operations of stage two.
    let count = {
        let factory = Factory::at(flashed());
        let mut line = factory.start_line(&[1]);
        line.wait_for(|e| e["event"] == "step" && e["step"] == "agent-key");
        let before = factory.bench.with_board(1, |b| b.flash_op_count()).expect("board");
        line.finish().assert_passed(&[1]);
        factory.bench.with_board(1, |b| b.flash_op_count()).expect("board") - before
    };
    assert!(count > 20, "stage two programs two records: {count}");
    // A spread of cuts.
    two_at_a_time((0..6).collect(), |part: u64| {
        let k = 1 + part * (count - 1) / 5;
        let factory = Factory::at(flashed());
        let mut line = factory.start_line(&[1]);
        line.wait_for(|e| e["event"] == "step" && e["step"] == "agent-key");
        factory.bench.cut_power_at_flash_op(1, k, 0.4, 40 + part).expect("arm");
        // The board loses power on its own in the middle of the run; the line notices or the run had ended.
        let report = line.finish();
        let cut = factory.bench.with_board(1, |b| !b.is_powered()).expect("board");
        if cut {
            assert_ne!(report.outcome(1), "PASS", "cut at operation {k} of {count}: {report:#?}");
        }
        factory.bench.power_on(1).expect("power");
        assert!(
            factory.bench.wait_until(1, |b| b.is_powered(), PATIENCE).expect("board"),
            "the board has power again"
        );
        let again = factory.run_line(&[1]);
        assert_eq!(again.outcome(1), "PASS", "cut at operation {k} of {count}: {again:#?}");
    });
}
