//! How soon the window stands, and what it costs while nothing happens: the program itself on a virtual screen, over a database of a
//! million units.
//!
//! `cargo build --release -p keywright && cargo run --release -p keywright --no-default-features --example bench_start -- --json`
//!
//! The first frame is counted from the start of the program; the stretching of the passphrase, slow on purpose, is told apart. Idle is
//! the processor time of the whole program over half a minute, in percent of one core, from five seconds after the first frame on. The
//! fixture's probe can't be reached: the dearest kind of idle, since it is tried again and again. Needs Linux and Xvfb, and the program
//! in the same target folder (or its path in `KEYWRIGHT_BIN`).

#[path = "support/million.rs"]
mod million;
#[path = "../tests/support/mod.rs"]
mod support;

use keywright::anchors::Anchors;
use keywright::records::{OpenOptions, Records, SqliteRecords};
use keywright::secrets::Passphrase;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::Station;

/// Ended when the value is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A virtual screen and its name.
fn screen() -> Option<(Running, String)> {
    let mut server = Command::new("Xvfb")
        .args(["-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut line = String::new();
    BufReader::new(server.stdout.take()?).read_line(&mut line).ok()?;
    Some((Running(server), format!(":{}", line.trim())))
}

/// A home with so many units, closed as it should be.
fn home(units: u32) -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a temporary folder");
    let records = SqliteRecords::open_with(
        &home.path().join("station.db"),
        OpenOptions::new("bench-1"),
        &Passphrase::demo(),
    )
    .expect("records");
    let anchors = Anchors::init(home.path(), &records.station_key(), &[7]).expect("anchors");
    let po = records.create_product_order(support::new_order("PO-1", units, 2)).expect("an order");
    let batch = records.create_batch(po.id, "B1", units).expect("a batch");
    let agent = Arc::new(support::agent(home.path(), &records, anchors));
    let station = Station { home, records, agent, po, batch };
    million::fill(&station, units, million::Keys::Zeros);
    let Station { home, .. } = station;
    let toml = "[station]\nname = \"bench-1\"\n[backup]\nevery_hours = 0\n\
                [[fixture]]\nname = \"left\"\nprobe = \"1d50:6018:127.0.0.1:9\"\nserial = \"/dev/ttyUSB9\"\n";
    std::fs::write(home.path().join("station.toml"), toml).expect("station.toml");
    home
}

/// The number of this name in the log line with these words.
fn logged(home: &Path, words: &str, name: &str) -> Option<f64> {
    let logs = std::fs::read_dir(home.join("logs")).ok()?.flatten().map(|e| e.path());
    let text: String = logs.filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    let line = text.lines().rev().find(|l| l.contains(words))?;
    serde_json::from_str::<serde_json::Value>(line).ok()?["fields"][name].as_f64()
}

/// Processor time of a process, in clock ticks of a hundredth of a second.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in brackets may hold blanks.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|a| a == "--json");
    let number = |name: &str, usual: u32| {
        let at = arguments.iter().position(|a| a == name);
        at.and_then(|at| arguments.get(at + 1)).and_then(|v| v.parse().ok()).unwrap_or(usual)
    };
    let (units, seconds) = (number("--units", 1_000_000), number("--seconds", 30));
    let figure = |name: &str, value: Option<f64>, unit: &str, goal: Option<&str>| {
        if json {
            let value = value.map(|v| (v * 100.0).round() / 100.0);
            println!("{}", serde_json::json!({ "name": name, "value": value, "unit": unit, "goal": goal }));
        } else {
            println!("{name:36} {value:?} {unit}   {}", goal.unwrap_or_default());
        }
    };
    let program = std::env::var_os("KEYWRIGHT_BIN").map(PathBuf::from).unwrap_or_else(|| {
        let me = std::env::current_exe().expect("a path");
        me.parent().and_then(Path::parent).expect("a target folder").join("keywright")
    });
    let Some((_screen, display)) = screen() else {
        eprintln!("there is no Xvfb: nothing was measured");
        figure("first_frame_ms", None, "ms", Some("<= 1000"));
        figure("idle_cpu_percent", None, "%", Some("<= 2"));
        return;
    };
    let home = home(units);
    eprintln!("{units} units are in the database");
    let begin = Instant::now();
    let child = Command::new(&program)
        .arg("--home")
        .arg(home.path())
        .args(["--demo", "window"])
        .env("DISPLAY", &display)
        .env_remove("WAYLAND_DISPLAY")
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("{} can't be started: {e}", program.display()));
    let child = Running(child);
    let words = "the first frame is on the screen";
    let first = loop {
        if let Some(ms) = logged(home.path(), words, "ms") {
            break ms;
        }
        assert!(begin.elapsed() < Duration::from_secs(120), "no frame within two minutes");
        std::thread::sleep(Duration::from_millis(20));
    };
    let unlock = logged(home.path(), "the passphrase is stretched", "ms").unwrap_or_default();
    let cpu = ticks(child.0.id()) as f64 * 10.0;
    figure("first_frame_ms", Some(first - unlock), "ms", Some("<= 1000"));
    figure("first_frame_unlock_ms", Some(unlock), "ms", None);
    figure("first_frame_cpu_ms", Some(cpu), "ms", None);
    std::thread::sleep(Duration::from_secs(5));
    let (before, since) = (ticks(child.0.id()), Instant::now());
    std::thread::sleep(Duration::from_secs(u64::from(seconds)));
    let used = (ticks(child.0.id()) - before) as f64 / 100.0;
    figure("idle_cpu_percent", Some(used / since.elapsed().as_secs_f64() * 100.0), "%", Some("<= 2"));
}
