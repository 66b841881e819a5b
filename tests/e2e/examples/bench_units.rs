//! What one unit costs on a virtual board: seconds by step, RAM, flashing through the station beside the plain call, and how
//! many units a station with eight fixtures gives new keys in a minute.
//!
//! `cargo xtask bench` runs it; it prints one JSON object per figure (`--rekey-only`: the last one only). Seconds are the host's and say something only beside
//! each other: `flash_ratio` is the station's whole flash step (look, erase, write, read back, product-key record) by a
//! plain `probe_rs::flashing` download with verify of the same image on the same blank virtual board in the same run.

use keywright_e2e::{BATCH, Factory, image};
use keywright_protocol::map;
use probe_rs::flashing::{DownloadOptions, FlashProgress, erase_all};
use probe_rs::probe::{DebugProbeSelector, WireProtocol, list::Lister};
use probe_rs::{Permissions, Session};
use serde_json::{Value, json};
use std::time::Instant;

/// Boards measured; the median counts.
const BOARDS: u32 = 5;
/// Boards that are given new keys side by side.
const REKEYED: u32 = 8;
/// How often; the quietest round counts, for whatever else runs on the machine only takes away.
const ROUNDS: u32 = 3;
/// `cortex_m_rt::STACK_PAINT_VALUE`: what the stack is painted with before `main`.
const PAINT: u32 = 0xCCCC_CCCC;

fn main() {
    if std::env::args().any(|a| a == "--rekey-only") {
        return rekey_figure();
    }
    let factory = Factory::new(BOARDS, BOARDS, 2, 71);
    let (mut plain, mut station) = (Vec::new(), Vec::new());
    let mut steps = [Vec::new(), Vec::new(), Vec::new()];
    for n in 1..=BOARDS {
        plain.push(flash_plainly(&factory, n));
        let report = factory.run_line(&[n]);
        report.assert_passed(&[n]);
        let seconds: Vec<f64> =
            serde_json::from_value(report.finished(n)["step_seconds"].clone()).expect("numbers");
        station.push(seconds[1]);
        steps[0].push(seconds[1]);
        steps[1].push(seconds[2] + seconds[3]);
        steps[2].push(seconds[4]);
    }
    let ratio = median(&mut station) / median(&mut plain);
    let [flash, exchange, prove] = steps.each_mut().map(|s| median(s));
    figure("unit_seconds_flash", json!(flash), "s", Value::Null);
    figure("unit_seconds_exchange", json!(exchange), "s", Value::Null);
    figure("unit_seconds_prove", json!(prove), "s", Value::Null);
    figure("flash_ratio", json!(ratio), "", json!("<= 1.10"));
    figure("ram_high_water_bytes", json!(ram_high_water(&factory)), "B", json!("<= 24576"));
    drop(factory);
    rekey_figure();
}

fn rekey_figure() {
    figure("units_rekeyed_per_min_8_boards", json!(rekeyed_per_minute()), "1/min", Value::Null);
}

/// Units a minute of `keywright unit rekey`, start of the program to its end: a new agent key and a new cloud key each,
/// proved after a reset, seen by the broker, the old ones tried. Only units that passed count: on a machine with too little left
/// for eight emulated chips, one may run out of the line's time.
fn rekeyed_per_minute() -> f64 {
    let factory = Factory::new(REKEYED, REKEYED, 2, 73);
    let all: Vec<u32> = (1..=REKEYED).collect();
    factory.run_line(&all).assert_passed(&all);
    let one_round = |_| {
        let began = Instant::now();
        let report = factory.start(&["unit", "rekey", "--batch", BATCH, "--json"]).finish();
        let seconds = began.elapsed().as_secs_f64();
        let passed = report.of("finished").filter(|e| e["outcome"] == "PASS").count();
        eprintln!("bench_units: {passed} of {REKEYED} units were given new keys in {seconds:.1} s");
        passed as f64 * 60.0 / seconds
    };
    (0..ROUNDS).map(one_round).fold(0.0, f64::max)
}

fn figure(name: &str, value: Value, unit: &str, goal: Value) {
    println!("{}", json!({ "name": name, "value": value, "unit": unit, "goal": goal }));
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn attach(factory: &Factory, n: u32) -> Session {
    let selector: DebugProbeSelector =
        factory.bench.fixture(n).expect("fixture").probe.parse().expect("a selector");
    let mut probe = Lister::new().open(selector).expect("the probe opens");
    probe.select_protocol(WireProtocol::Swd).expect("SWD");
    probe.attach("STM32F429ZITx", Permissions::new().allow_erase_all()).expect("attach")
}

/// Seconds of the plain call on a blank chip; the chip is blank again afterwards.
fn flash_plainly(factory: &Factory, n: u32) -> f64 {
    let json = image();
    let listed: Value = serde_json::from_slice(&std::fs::read(&json).expect("image")).expect("JSON");
    let mut session = attach(factory, n);
    let mut loader = session.target().flash_loader();
    for part in listed["parts"].as_array().expect("parts") {
        let file = json.with_file_name(part["file"].as_str().expect("file"));
        let bytes = std::fs::read(file).expect("part");
        loader.add_data(part["address"].as_u64().expect("address"), &bytes).expect("in flash");
    }
    let mut options = DownloadOptions::new();
    options.verify = true;
    let began = Instant::now();
    loader.commit(&mut session, options).expect("flashed");
    let seconds = began.elapsed().as_secs_f64();
    erase_all(&mut session, &mut FlashProgress::empty(), false).expect("erased");
    seconds
}

/// Statics and the deepest stack of the application, read from the RAM of a board that did a whole enrolment, its
/// proof included, since its last reset but one: the deepest of all boards counts.
fn ram_high_water(factory: &Factory) -> u32 {
    let statics: u32 = std::env::var("KEYWRIGHT_RAM_STATICS")
        .ok()
        .and_then(|v| v.parse().ok())
        .expect("KEYWRIGHT_RAM_STATICS");
    // Enrol once more without the reset that the proof forces: that would repaint the stack.
    let fresh = Factory::new(1, 1, 2, 72);
    let mut line = fresh.start_line(&[1]);
    let mut deepest = 0;
    while let Some(event) = line.next_event() {
        let _ = event;
        deepest = deepest.max(stack_depth(&fresh, 1));
    }
    for n in 1..=BOARDS {
        deepest = deepest.max(stack_depth(factory, n));
    }
    statics + deepest
}

/// Bytes of stack that lost their paint. The stack lies at the bottom of RAM (`device-fw/link/app.x`).
fn stack_depth(factory: &Factory, n: u32) -> u32 {
    const STACK: u32 = 16 * 1024;
    let mut bytes = vec![0; STACK as usize];
    factory.bench.with_board(n, |b| b.read_ram(map::RAM_BASE, &mut bytes)).expect("board").expect("RAM");
    let painted =
        bytes.chunks_exact(4).take_while(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]) == PAINT).count();
    // All or nothing painted: the application did not run.
    if painted == 0 { 0 } else { STACK - 4 * painted as u32 }
}
