//! The real probe-rs, over the real TCP, against a living board.

mod common;

use common::{MS, echo};
use keywright_virtual_board::{Bench, BenchConfig, ReadProtection, Uid};
use probe_rs::flashing::DownloadOptions;
use probe_rs::probe::{DebugProbeSelector, WireProtocol, list::Lister};
use probe_rs::{MemoryInterface, Permissions, RegisterId, Session};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(5);

fn probe(bench: &Bench, n: u32) -> Result<probe_rs::probe::Probe, probe_rs::probe::DebugProbeError> {
    let selector: DebugProbeSelector = bench.fixture(n).unwrap().probe.parse().unwrap();
    let mut probe = Lister::new().open(selector)?;
    probe.select_protocol(WireProtocol::Swd)?;
    Ok(probe)
}

fn attach(bench: &Bench, n: u32) -> Session {
    probe(bench, n).unwrap().attach("STM32F429ZITx", Permissions::default()).unwrap()
}

fn flash(session: &mut Session, address: u64, image: &[u8]) -> Duration {
    let start = Instant::now();
    let mut loader = session.target().flash_loader();
    loader.add_data(address, image).unwrap();
    let mut options = DownloadOptions::new();
    options.verify = true;
    loader.commit(session, options).unwrap();
    start.elapsed()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()).take(len).collect()
}

#[test]
fn identify_the_chip() {
    let bench = Bench::start(&BenchConfig::new(1, 5)).unwrap();
    let mut session = attach(&bench, 1);
    let mut core = session.core(0).unwrap();
    let mut uid = [0; 12];
    core.read_8(0x1fff_7a10, &mut uid).unwrap();
    assert_eq!(Uid(uid), Uid::from_seed(5, 1));
    assert_eq!(core.read_word_32(0x1fff_7a20).unwrap() >> 16, 2048);
    assert_eq!(core.read_word_32(0xe004_2000).unwrap(), 0x2003_6419);
}

#[test]
fn flash_verify_run_halt_step() {
    let bench = Bench::start(&BenchConfig::new(1, 6)).unwrap();
    let mut session = attach(&bench, 1);
    let image = echo();
    flash(&mut session, 0x0800_0000, &image);
    assert_eq!(
        bench.with_board(1, |b| b.read_flash(0x0800_0000, image.len() as u32)).unwrap().unwrap(),
        image
    );

    let mut core = session.core(0).unwrap();
    core.reset_and_halt(LIMIT).unwrap();
    let pc: u64 = core.read_core_reg(core.program_counter()).unwrap();
    assert_eq!(pc, 0x0800_0200, "halted at the first instruction");
    core.step().unwrap();
    let after: u64 = core.read_core_reg(core.program_counter()).unwrap();
    assert_eq!(after, 0x0800_0204, "one 32-bit instruction further");
    core.write_core_reg(1u16, 0x1234_5678u32).unwrap();
    assert_eq!(core.read_core_reg::<u32>(1u16).unwrap(), 0x1234_5678);
    core.set_hw_breakpoint(0x0800_0208).unwrap();
    core.run().unwrap();
    core.wait_for_core_halted(LIMIT).unwrap();
    assert_eq!(core.read_core_reg::<u64>(core.program_counter()).unwrap(), 0x0800_0208);
    core.clear_hw_breakpoint(0x0800_0208).unwrap();
    core.run().unwrap();
    drop(core);
    // The program runs on: it answers on the serial line and can be halted in its sleep.
    let line = bench.with_board(1, |b| b.serial().clone()).unwrap();
    assert!(bench.wait_until(1, |b| b.activity() == keywright_virtual_board::Activity::Idle, LIMIT).unwrap());
    line.send(b"k");
    let tty = bench.fixture(1).unwrap().serial;
    let mut port = std::fs::File::open(tty).unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(&mut port, &mut byte).unwrap();
    assert_eq!(&byte, b"k");
    let mut core = session.core(0).unwrap();
    core.halt(LIMIT).unwrap();
    assert!(core.core_halted().unwrap());
}

#[test]
fn flash_both_banks_at_speed() {
    let bench = Bench::start(&BenchConfig::new(1, 7)).unwrap();
    let mut session = attach(&bench, 1);
    for (address, kib) in [(0x0801_0000u64, 64), (0x0812_0000, 512)] {
        let image = pattern(kib * 1024);
        let took = flash(&mut session, address, &image);
        println!("{kib} KiB at {address:#x}: {took:?}");
        let mut back = vec![0; image.len()];
        session.core(0).unwrap().read(address, &mut back).unwrap();
        assert!(back == image, "{kib} KiB at {address:#x}");
    }
    // Sectors that were not asked for are untouched.
    let rest = bench.with_board(1, |b| b.read_flash(0x0810_0000, 0x2_0000)).unwrap().unwrap();
    assert!(rest.iter().all(|b| *b == 0xff));
}

#[test]
fn attach_under_reset_stops_at_the_first_instruction() {
    let bench = Bench::start(&BenchConfig::new(1, 8)).unwrap();
    bench.with_board(1, |b| b.tamper(0x0800_0000, &echo()).map(|()| b.reset())).unwrap().unwrap();
    let mut session =
        probe(&bench, 1).unwrap().attach_under_reset("STM32F429ZITx", Permissions::default()).unwrap();
    let mut core = session.core(0).unwrap();
    core.wait_for_core_halted(LIMIT).unwrap();
    assert_eq!(core.read_core_reg::<u64>(core.program_counter()).unwrap(), 0x0800_0200);
}

#[test]
fn a_protected_chip_shows_its_name_but_not_its_flash() {
    let bench = Bench::start(&BenchConfig::new(1, 9)).unwrap();
    bench.with_board(1, |b| b.set_read_protection(ReadProtection::Level1)).unwrap();
    let mut session = attach(&bench, 1);
    let mut core = session.core(0).unwrap();
    assert_eq!(core.read_word_32(0x1fff_7a20).unwrap() >> 16, 2048);
    assert_eq!(core.read_word_32(0x4002_3c14).unwrap() >> 8 & 0xff, 0x55);
    assert!(core.read_word_32(0x0800_0000).is_err());
    bench.with_board(1, |b| b.set_read_protection(ReadProtection::Level0)).unwrap();
    assert_eq!(core.read_word_32(0x0800_0000).unwrap(), u32::MAX);
}

const OPTKEYR: u64 = 0x4002_3c08;
const SR: u64 = 0x4002_3c0c;
const OPTCR: u64 = 0x4002_3c14;

/// Programs FLASH_OPTCR as RM0090 §3.6.2 says, and resets so that it is loaded.
fn program_options(session: &mut Session, change: impl Fn(u32) -> u32) {
    let mut core = session.core(0).unwrap();
    for key in [0x0819_2a3b, 0x4c5d_6e7f] {
        core.write_word_32(OPTKEYR, key).unwrap();
    }
    let wanted = change(core.read_word_32(OPTCR).unwrap() & !3);
    core.write_word_32(OPTCR, wanted).unwrap();
    core.write_word_32(OPTCR, wanted | 2).unwrap();
    while core.read_word_32(SR).unwrap() >> 16 & 1 != 0 {}
    core.reset().unwrap();
    assert_eq!(core.read_word_32(OPTCR).unwrap() & !3, wanted);
}

const KEY_AREA: u64 = 0x0801_0000;

/// Everything that probe-rs offers for getting at the flash; what it got, if anything.
fn steal(mut session: Session) -> Vec<Vec<u8>> {
    let mut loot = Vec::new();
    let mut core = session.core(0).unwrap();
    for address in [KEY_AREA, KEY_AREA - 0x0800_0000, KEY_AREA - 8] {
        let (mut words, mut bytes) = ([0u32; 8], [0u8; 32]);
        if core.read_32(address, &mut words).is_ok() {
            loot.push(words.iter().flat_map(|w| w.to_le_bytes()).collect());
        }
        if core.read_8(address, &mut bytes).is_ok() {
            loot.push(bytes.to_vec());
        }
    }
    // Halted or not, from reset or not, the core itself copies for the thief: code in RAM, and code at address 0's alias.
    for halt in [false, true] {
        let stopped = if halt { core.reset_and_halt(LIMIT).is_ok() } else { core.halt(LIMIT).is_ok() };
        assert!(stopped, "the core answers to a debugger at level 1");
        // ldmia r0, {r2-r7}; stmia r1!, {r2-r7}; bkpt
        const RAM: u64 = 0x2000_1000;
        core.write_8(RAM, &[0xfc, 0xc8, 0xfc, 0xc1, 0x00, 0xbe]).unwrap();
        core.write_8(RAM + 0x100, &[0; 24]).unwrap();
        for (register, value) in [(0u16, KEY_AREA), (1, RAM + 0x100), (13, RAM + 0x800), (15, RAM)] {
            core.write_core_reg(RegisterId(register), value as u32).unwrap();
        }
        core.write_core_reg(RegisterId(16), 1u32 << 24).unwrap();
        // What an earlier theft left behind is none of this one's.
        (2..8).for_each(|n| core.write_core_reg(RegisterId(n), 0u32).unwrap());
        core.run().unwrap();
        let _ = core.wait_for_core_halted(Duration::from_millis(200));
        let mut copied = [0; 24];
        core.read_8(RAM + 0x100, &mut copied).unwrap();
        loot.push(copied.to_vec());
        let _ = core.halt(LIMIT);
        for n in 2..8u16 {
            let value: u32 = core.read_core_reg(RegisterId(n)).unwrap();
            loot.push(value.to_le_bytes().to_vec());
        }
    }
    loot
}

#[test]
fn a_locked_units_keys_cannot_be_read_and_regression_erases_them() {
    let bench = Bench::start(&BenchConfig::new(1, 12)).unwrap();
    // Not from its start: that is zeros, as is what a thief goes home with empty-handed.
    let secret = pattern(128).split_off(64);
    bench
        .with_board(1, |b| {
            b.tamper(0x0800_0000, &echo()).unwrap();
            b.tamper(KEY_AREA as u32, &secret).unwrap();
            b.reset();
        })
        .unwrap();
    // The ways work: before the lock each of them brings the secret home.
    let took = |loot: &[Vec<u8>]| {
        loot.iter().filter(|l| secret.windows(4).any(|w| l.windows(4).any(|x| x == w))).count()
    };
    assert!(took(&steal(attach(&bench, 1))) >= 8);

    let mut session = attach_when_free(&bench, 1);
    program_options(&mut session, |optcr| optcr & !0x000f_ff00 | 0x5500);
    let mut core = session.core(0).unwrap();
    // Sectors 0 to 3 and everything else refuse a debugger's erase as well.
    for key in [0x4567_0123, 0xcdef_89ab] {
        core.write_word_32(0x4002_3c04, key).unwrap();
    }
    for wish in [1 << 1 | 4 << 3, 1 << 2 | 1 << 15] {
        core.write_word_32(0x4002_3c10, wish | 1 << 16).unwrap();
        while core.read_word_32(SR).unwrap() >> 16 & 1 != 0 {}
    }
    drop(core);
    assert_eq!(took(&steal(session)), 0);
    let under_reset = probe_when_free(&bench, 1).attach_under_reset("STM32F429ZITx", Permissions::default());
    assert_eq!(under_reset.map_or(0, |s| took(&steal(s))), 0);
    assert_eq!(took(&steal(attach_when_free(&bench, 1))), 0);
    let kept = bench.with_board(1, |b| b.read_flash(KEY_AREA as u32, 64)).unwrap().unwrap();
    assert_eq!(kept, secret, "it is all still there");

    // A debugger was here: the unit stands still until its power has gone, and then works as before.
    bench.with_board(1, |b| b.reset()).unwrap();
    assert!(bench.with_board(1, |b| b.is_shut()).unwrap());
    bench.cut_power(1).unwrap();
    bench.power_on(1).unwrap();
    assert!(bench.wait_until(1, |b| b.activity() == keywright_virtual_board::Activity::Idle, LIMIT).unwrap());

    let mut session = attach_when_free(&bench, 1);
    program_options(&mut session, |optcr| optcr & !0xff00 | 0xaa00);
    let mut all = vec![0u8; 0x20_0000];
    session.core(0).unwrap().read(0x0800_0000, &mut all).unwrap();
    assert!(all.iter().all(|b| *b == 0xff), "level 0 again, and nothing left");
}

#[test]
fn level_2_answers_no_debugger() {
    let bench = Bench::start(&BenchConfig::new(1, 13)).unwrap();
    bench.with_board(1, |b| b.set_read_protection(ReadProtection::Level2)).unwrap();
    assert!(probe(&bench, 1).unwrap().attach("STM32F429ZITx", Permissions::default()).is_err());
}

fn probe_when_free(bench: &Bench, n: u32) -> probe_rs::probe::Probe {
    let end = Instant::now() + LIMIT;
    loop {
        match probe(bench, n) {
            Ok(probe) => return probe,
            Err(e) if Instant::now() > end => panic!("{e}"),
            Err(_) => std::thread::yield_now(),
        }
    }
}

#[test]
fn one_debugger_at_a_time_and_none_without_cables_or_power() {
    let bench = Bench::start(&BenchConfig::new(2, 10)).unwrap();
    let first = attach(&bench, 1);
    assert!(probe(&bench, 1).is_err(), "the probe is taken");
    drop(first);
    assert!(bench.wait_until(1, |_| true, MS).unwrap());
    let end = Instant::now() + LIMIT;
    while bench.status(1).unwrap().debugger && Instant::now() < end {
        std::thread::yield_now();
    }
    drop(attach(&bench, 1));

    bench.unplug(2).unwrap();
    let end = Instant::now() + LIMIT;
    while probe(&bench, 2).is_ok() && Instant::now() < end {}
    assert!(probe(&bench, 2).is_err(), "no probe on the host");
    bench.plug(2).unwrap();
    drop(attach(&bench, 2));
    let end = Instant::now() + LIMIT;
    while bench.status(2).unwrap().debugger && Instant::now() < end {
        std::thread::yield_now();
    }
    bench.cut_power(2).unwrap();
    assert!(
        probe(&bench, 2).unwrap().attach("STM32F429ZITx", Permissions::default()).is_err(),
        "a dead chip"
    );
}

#[test]
fn swapped_boards_are_found_in_each_others_fixtures() {
    let bench = Bench::start(&BenchConfig::new(2, 11)).unwrap();
    let uid = |fixture: u32| {
        let mut session = attach(&bench, fixture);
        let mut uid = [0; 12];
        session.core(0).unwrap().read_8(0x1fff_7a10, &mut uid).unwrap();
        Uid(uid)
    };
    assert_eq!(uid(1), bench.uid(1).unwrap());
    let mut session = attach_when_free(&bench, 2);
    bench.swap(1, 2).unwrap();
    assert!(session.core(0).and_then(|mut c| c.read_word_32(0x1fff_7a10)).is_err(), "its board went away");
    drop(session);
    let mut session = attach_when_free(&bench, 1);
    let mut bytes = [0; 12];
    session.core(0).unwrap().read_8(0x1fff_7a10, &mut bytes).unwrap();
    assert_eq!(Uid(bytes), bench.uid(2).unwrap());
}

fn attach_when_free(bench: &Bench, n: u32) -> Session {
    probe_when_free(bench, n).attach("STM32F429ZITx", Permissions::default()).unwrap()
}
