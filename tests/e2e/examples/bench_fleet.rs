//! What new keys cost: bytes and erases of one update, and a thousand units at once over a bad network.
//!
//! `cargo xtask bench` runs it; it prints one JSON object per figure. docs/benchmarks.md says what each figure is.
//!
//! The agent is a process of its own (this program, started again with `agent`), so that its memory and processor time
//! are not mixed with those of the thousand units.

#[cfg(unix)]
fn main() {
    unix::main();
}

#[cfg(not(unix))]
fn main() {
    eprintln!("bench_fleet runs on Unix");
}

#[cfg(unix)]
mod unix {
    use keywright::secrets::KdfCost;
    use keywright_e2e::fleet::{Addresses, Fleet, Office, Outcome, Service, Waiting};
    use keywright_protocol::Purpose;
    use serde_json::{Value, json};
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
    use std::sync::Arc;
    use std::time::Duration;

    /// Units that get a new key at once, as in the paper's smallest fleet.
    const FLEET: u32 = 1_000;
    /// Units that the agent knows then: the paper's largest fleet.
    const KNOWN: u32 = 10_000;
    /// Frames lost in each direction, percent.
    const LOSS: u64 = 5;
    /// Units enrolled at a time.
    const WAVE: u32 = 500;
    /// Threads of the agent's service.
    const WORKERS: usize = 64;
    /// Updates of the unit whose bytes and erases are counted, of each kind.
    const UPDATES: u32 = 10;
    /// Seed of everything that the units and the network draw.
    const SEED: u64 = 2025;

    /// Of the paper's evaluation (seed 003, §V): the firmware, its delta, and its own figures.
    const PAPER_IMAGE: f64 = 32.1e6;
    const PAPER_DELTA: f64 = 0.2 * PAPER_IMAGE;
    const PAPER_SECONDS: &str = "1026";
    const PAPER_RSS: &str = "434.2";

    pub fn main() {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let number = |name: &str, default: u32| {
            let at = arguments.iter().position(|a| a == name);
            at.and_then(|at| arguments.get(at + 1)).and_then(|v| v.parse().ok()).unwrap_or(default)
        };
        let (units, workers) = (number("--known", KNOWN), number("--workers", WORKERS as u32));
        if arguments.first().is_some_and(|a| a == "agent") {
            return agent(units, number("--suite", 2) as u8, workers as usize);
        }
        one_unit(2, "");
        one_unit(1, "_suite1");
        let fleet = number("--fleet", FLEET).min(units);
        hardened(units, fleet, workers);
        legacy(fleet, workers);
    }

    fn figure(name: &str, value: Value, unit: &str, goal: Value, paper: Value) {
        let _ = writeln!(
            std::io::stdout(),
            "{}",
            json!({ "name": name, "value": value, "unit": unit, "goal": goal, "paper": paper })
        );
    }

    fn plain(name: &str, value: Value, unit: &str) {
        figure(name, value, unit, Value::Null, Value::Null);
    }

    /// Bytes and erases of one unit's updates over a good network. The agent is in this process: only it can make a month pass.
    fn one_unit(suite: u8, suffix: &str) {
        let office = Arc::new(Office::new(1, suite, KdfCost::TEST));
        office.arrive(0..1);
        let service = Service::start(&office, 1);
        let Addresses { line, field } = service.addresses();
        let mut fleet = Fleet::new(0..1, office.stage_one(), SEED);
        fleet.enrol(line, 1);
        let mut erases = [0, 0];
        for (pause, erased) in
            [Duration::ZERO, Duration::from_secs(30 * 24 * 3600)].into_iter().zip(&mut erases)
        {
            for purpose in [Purpose::AgentKeyUpdate, Purpose::CloudKeyUpdate] {
                let mut bytes = Vec::new();
                for _ in 0..UPDATES {
                    office.pass_time(pause);
                    let outcome = fleet.rekey(purpose, field, 0, Waiting::Skipped);
                    *erased += outcome.erases;
                    bytes.push(outcome.traffic.bytes);
                }
                bytes.dedup();
                assert_eq!(bytes.len(), 1, "an update has one length");
                if pause.is_zero() {
                    let kind = if purpose == Purpose::AgentKeyUpdate { "aku" } else { "cku" };
                    plain(&format!("wire_bytes_{kind}{suffix}"), json!(bytes[0]), "B");
                }
            }
        }
        if suite == 2 {
            let [today, monthly] = erases.map(|e| json!(e as f64 / f64::from(2 * UPDATES)));
            figure("erases_per_update", today, "", json!("<= 1"), Value::Null);
            plain("erases_per_update_30_days_apart", monthly, "");
        }
    }

    /// The default suite, with everything measured.
    fn hardened(known: u32, size: u32, workers: u32) {
        let mut agent = AgentProcess::start(known, 2, workers);
        let mut fleet = agent.enrol_fleet(size);
        agent.enrol_others(size, known);
        let enrolled = agent.status();
        eprintln!("bench_fleet: agent with {known} units enrolled: {enrolled}");

        let (cku, cku_cpu) = agent.rekey(&mut fleet, Purpose::CloudKeyUpdate, Waiting::Skipped);
        let after = agent.status();
        eprintln!("bench_fleet: agent after {size} of them were given new keys: {after}");
        let (aku, _) = agent.rekey(&mut fleet, Purpose::AgentKeyUpdate, Waiting::Skipped);
        let (real, _) = agent.rekey(&mut fleet, Purpose::CloudKeyUpdate, Waiting::Real);

        let mb = |status: &Value, key: &str| {
            status[key].as_f64().map_or(Value::Null, |kib| json!(kib * 1024.0 / 1e6))
        };
        figure("agent_rss_mb_10k_units", mb(&after, "rss_kib"), "MB", json!("<= 60"), json!(PAPER_RSS));
        plain("agent_rss_peak_mb_10k_units", mb(&after, "peak_kib"), "MB");

        let name = |rest: &str| format!("rekey_1000_devices_5pct_loss_{rest}");
        let seconds = |time: Duration| json!(time.as_secs_f64());
        figure(&name("s"), seconds(cku.wall), "s", json!("<= 5"), json!(PAPER_SECONDS));
        plain(&name("agent_cpu_s"), json!(cku_cpu), "s");
        plain(&name("slowest_device_s"), seconds(cku.slowest_unit), "s");
        figure(&name("no_skipping_s"), seconds(real.wall), "s", json!("<= 5"), json!(PAPER_SECONDS));
        plain(&name("bytes"), json!(cku.traffic.bytes), "B");
        plain(&name("frames"), json!(cku.traffic.frames), "");
        plain(&name("frames_lost"), json!(cku.traffic.lost), "");
        plain(&name("aku_s"), seconds(aku.wall), "s");
        plain(&name("aku_bytes"), json!(aku.traffic.bytes), "B");
        let (full, delta) = (PAPER_IMAGE * f64::from(size), PAPER_DELTA * f64::from(size));
        let bytes = cku.traffic.bytes as f64;
        plain("baseline_full_image_bytes", json!(full as u64), "B");
        plain("baseline_20pct_delta_bytes", json!(delta as u64), "B");
        plain("baseline_full_image_by_rekey_bytes", json!((full / bytes).round() as u64), "");
        plain("baseline_20pct_delta_by_rekey_bytes", json!((delta / bytes).round() as u64), "");
    }

    /// Suite 1, the paper's own exchange made sound: time and bytes.
    fn legacy(size: u32, workers: u32) {
        let mut agent = AgentProcess::start(size, 1, workers);
        let mut fleet = agent.enrol_fleet(size);
        let (cku, _) = agent.rekey(&mut fleet, Purpose::CloudKeyUpdate, Waiting::Skipped);
        plain("rekey_1000_devices_5pct_loss_suite1_s", json!(cku.wall.as_secs_f64()), "s");
        plain("rekey_1000_devices_5pct_loss_suite1_bytes", json!(cku.traffic.bytes), "B");
    }

    /// The agent in its own process.
    struct AgentProcess {
        child: Child,
        stdin: ChildStdin,
        lines: BufReader<ChildStdout>,
        addresses: Addresses,
        stage_one: Vec<u8>,
    }

    impl AgentProcess {
        fn start(units: u32, suite: u8, workers: u32) -> Self {
            let mut child = Command::new(std::env::current_exe().expect("own path"))
                .args(["agent", "--known", &units.to_string(), "--suite", &suite.to_string()])
                .args(["--workers", &workers.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("the agent starts");
            let stdin = child.stdin.take().expect("piped");
            let mut lines = BufReader::new(child.stdout.take().expect("piped"));
            let hello = answer(&mut lines);
            let address = |key: &str| hello[key].as_str().and_then(|a| a.parse().ok()).expect("an address");
            let addresses = Addresses { line: address("line"), field: address("field") };
            let stage_one = serde_json::from_value(hello["stage_one"].clone()).expect("bytes");
            Self { child, stdin, lines, addresses, stage_one }
        }

        fn status(&mut self) -> Value {
            self.stdin.write_all(b"\n").expect("the agent runs");
            answer(&mut self.lines)
        }

        fn enrol_fleet(&mut self, size: u32) -> Fleet {
            let mut fleet = Fleet::new(0..size, &self.stage_one, SEED);
            fleet.enrol(self.addresses.line, WAVE as usize);
            fleet
        }

        /// Units that are enrolled and then not heard of.
        fn enrol_others(&mut self, from: u32, to: u32) {
            for first in (from..to).step_by(WAVE as usize) {
                let wave = first..(first + WAVE).min(to);
                Fleet::new(wave, &self.stage_one, SEED).enrol(self.addresses.line, WAVE as usize);
            }
        }

        /// A round, and the processor time that the agent took for it.
        fn rekey(&mut self, fleet: &mut Fleet, purpose: Purpose, waiting: Waiting) -> (Outcome, f64) {
            let before = self.status();
            let outcome = fleet.rekey(purpose, self.addresses.field, LOSS, waiting);
            let after = self.status();
            let cpu = |status: &Value| status["cpu_s"].as_f64().unwrap_or(f64::NAN);
            let cpu = cpu(&after) - cpu(&before);
            eprintln!(
                "bench_fleet: {purpose:?} {waiting:?}: {outcome:?}, agent {cpu:.2} s of processor time"
            );
            (outcome, cpu)
        }
    }

    impl Drop for AgentProcess {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn answer(lines: &mut BufReader<ChildStdout>) -> Value {
        let mut line = String::new();
        lines.read_line(&mut line).expect("the agent speaks");
        serde_json::from_str(&line).expect("the agent speaks JSON")
    }

    /// The agent process: says where it listens, then how it is doing for every line it reads, until there are no more.
    fn agent(units: u32, suite: u8, workers: usize) {
        let office = Arc::new(Office::new(units, suite, KdfCost::STATION));
        office.arrive(0..units);
        let service = Service::start(&office, workers);
        let Addresses { line, field } = service.addresses();
        println!(
            "{}",
            json!({ "line": line.to_string(), "field": field.to_string(), "stage_one": office.stage_one() })
        );
        for line in std::io::stdin().lines() {
            if line.is_err() {
                break;
            }
            let status = json!({
                "rss_kib": memory("VmRSS:"), "peak_kib": memory("VmHWM:"), "anonymous_kib": memory("RssAnon:"),
                "cpu_s": cpu().as_secs_f64(), "dropped": office.dropped(), "database_bytes": office.database_bytes(),
            });
            println!("{status}");
        }
    }

    /// A figure of this process in KiB, as Linux tells it.
    fn memory(key: &str) -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// Processor time of this process so far, all threads (Linux; elsewhere zero).
    fn cpu() -> Duration {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        // In ticks of 10 ms: USER_HZ is 100 on every Linux that user space sees.
        Duration::from_millis(10 * fields.filter_map(|f| f.parse::<u64>().ok()).sum::<u64>())
    }
}
