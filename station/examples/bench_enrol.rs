//! How many durable enrolments (INIT: messages 1 to 4) a second the embedded agent does.
//!
//! `cargo run --release -p keywright --no-default-features --example bench_enrol -- --json`
//!
//! Timed is the agent: from handing it a frame to having its answer, which is on disk by then. Not timed are the
//! units' own halves: their messages 1 are made before the first timed section, their messages 3 between the two. So
//! the figure is units ÷ (time for all messages 1 + time for all messages 3). Many devices: 256 callers at once, as an
//! agent with that many lines would see. One device: one enrolment after the other, each waiting for its own fsyncs.
//! The database lies in the system's temporary folder (`TMPDIR` for another disk).

#[path = "../tests/support/mod.rs"]
mod support;

use keywright::agent::{Agent, FrameContext};
use keywright_protocol::Suite;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use support::{Cut, Device, Station, unit_id};

const CALLERS: usize = 256;

fn station_with(units: u32, suite: Suite) -> (Station, Vec<Device>) {
    let station = Station::new(units, suite.number());
    let devices: Vec<_> = (1..=units).map(|n| station.device(unit_id(n), suite, u64::from(n))).collect();
    let ids: Vec<_> = devices.iter().map(|d| d.id).collect();
    // Arriving is the line's work, not the agent's; many at once so that it takes no longer than it must.
    std::thread::scope(|scope| {
        for chunk in ids.chunks(ids.len().div_ceil(CALLERS)) {
            let station = &station;
            scope.spawn(move || {
                for id in chunk {
                    station.arrive(*id);
                }
            });
        }
    });
    (station, devices)
}

/// Processor time of this process so far, all threads (Linux; elsewhere zero). On a shared machine it says more than the
/// wall clock: goals are met if it is below cores ÷ goal.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    // In ticks of 10 ms: USER_HZ is 100 on every Linux that user space sees.
    Duration::from_millis(10 * fields.filter_map(|f| f.parse::<u64>().ok()).sum::<u64>())
}

/// Hands every frame to the agent from many threads; the time, and the answers in order.
fn handle_all(station: &Station, frames: &[(FrameContext, Vec<u8>)]) -> (Duration, Vec<Vec<u8>>) {
    let answers = Mutex::new(vec![Vec::new(); frames.len()]);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let answers = &answers;
            scope.spawn(move || {
                let mine: Vec<_> = (caller..frames.len())
                    .step_by(CALLERS)
                    .map(|i| {
                        let (context, frame) = &frames[i];
                        let handled = station.agent.handle(*context, frame).expect("the station works");
                        (i, handled.reply.expect("answered"))
                    })
                    .collect();
                let mut all = answers.lock().expect("no caller panicked");
                for (i, reply) in mine {
                    all[i] = reply;
                }
            });
        }
    });
    (started.elapsed(), answers.into_inner().expect("no caller panicked"))
}

fn frames(station: &Station, devices: &mut [Device]) -> Vec<(FrameContext, Vec<u8>)> {
    devices.iter_mut().map(|d| (station.context(d.id), d.tick().expect("due"))).collect()
}

/// Enrolments a second, and the bytes on the wire of each.
fn many(units: u32, suite: Suite) -> (f64, f64) {
    let (station, mut devices) = station_with(units, suite);
    let (mut time, mut bytes) = (Duration::ZERO, 0);
    let mut busy = Duration::ZERO;
    for _ in 0..2 {
        let due = frames(&station, &mut devices);
        let before = cpu();
        let (took, answers) = handle_all(&station, &due);
        time += took;
        busy += cpu() - before;
        bytes += due.iter().map(|(_, frame)| frame.len()).chain(answers.iter().map(Vec::len)).sum::<usize>();
        for (device, answer) in devices.iter_mut().zip(answers) {
            device.deliver(answer, Cut::Never);
        }
    }
    for device in &devices {
        assert_eq!(device.done.len(), 1, "every unit is enrolled");
        station.assert_same_keys(device);
    }
    eprintln!(
        "{suite}: {:.0} µs of processor time an enrolment",
        busy.as_secs_f64() * 1e6 / f64::from(units)
    );
    (f64::from(units) / time.as_secs_f64(), bytes as f64 / f64::from(units))
}

fn one_at_a_time(units: u32, suite: Suite) -> f64 {
    let (station, mut devices) = station_with(units, suite);
    let mut time = Duration::ZERO;
    for device in &mut devices {
        for _ in 0..2 {
            let (context, frame) = (station.context(device.id), device.tick().expect("due"));
            let started = Instant::now();
            let handled = station.agent.handle(context, &frame).expect("the station works");
            time += started.elapsed();
            device.deliver(handled.reply.expect("answered"), Cut::Never);
        }
        assert_eq!(device.done.len(), 1);
    }
    f64::from(units) / time.as_secs_f64()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|a| a == "--json");
    let number = |name: &str, default: u32| {
        let at = arguments.iter().position(|a| a == name);
        at.and_then(|at| arguments.get(at + 1)).and_then(|v| v.parse().ok()).unwrap_or(default)
    };
    let (units, single) = (number("--units", 6000), number("--single", 300));
    let (legacy, hardened) = (many(units, Suite::Legacy), many(units, Suite::Hardened));
    let figures = [
        ("wire_bytes_suite1", legacy.1, "B", Some(544)),
        ("wire_bytes_suite2", hardened.1, "B", Some(1129)),
        ("enrolments_per_s_suite1", legacy.0.round(), "1/s", None),
        ("enrolments_per_s_suite2", hardened.0.round(), "1/s", Some(3000)),
        ("enrolments_per_s_one_device", one_at_a_time(single, Suite::Hardened).round(), "1/s", None),
    ];
    for (name, value, unit, goal) in figures {
        if json {
            println!("{}", serde_json::json!({ "name": name, "value": value, "unit": unit, "goal": goal }));
        } else {
            println!(
                "{name:32} {value:10} {unit}   goal {}",
                goal.map_or("-".into(), |g: u32| g.to_string())
            );
        }
    }
}
