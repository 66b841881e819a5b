//! A factory in a folder: virtual boards on a bench, and the real `keywright` program pointed at them.
//!
//! The tests drive the program as a script or a person would, by its command line, and look at what it left: its
//! events, its database, the boards' flash. Nothing in the path is replaced: real probe-rs, a real serial port, the
//! real firmware binary.

#[cfg(unix)]
pub mod fleet;
pub mod guide;
pub mod screen;
pub mod session;

use keywright_protocol::map;
use keywright_virtual_board::{Bench, BenchConfig};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a condition on a board may take in real time before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// The batch that [`Factory::new`] opens.
pub const BATCH: &str = "B-1";
/// The product order that [`Factory::new`] makes.
pub const ORDER: &str = "PO-TEST";

/// Boards, a station home and the program.
pub struct Factory {
    /// The boards.
    pub bench: Bench,
    home: tempfile::TempDir,
    boards: u32,
}

impl Factory {
    /// `boards` bare boards in as many fixtures, anchors for region 7, an order and an open batch of `quantity` units
    /// under `suite`.
    pub fn new(boards: u32, quantity: u32, suite: u8, seed: u64) -> Self {
        Self::with(boards, quantity, suite, seed, &["--no-lock"])
    }

    /// The same with an order that locks its units, as orders do: a debugger's look then stops a unit until [`Self::power_cycle`].
    pub fn locking(boards: u32, quantity: u32, seed: u64) -> Self {
        Self::with(boards, quantity, 2, seed, &[])
    }

    fn with(boards: u32, quantity: u32, suite: u8, seed: u64, order: &[&str]) -> Self {
        let factory = Self::empty(boards, seed);
        factory.prepare(quantity, suite, order);
        factory
    }

    fn empty(boards: u32, seed: u64) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let config = BenchConfig { dir: Some(home.path().to_path_buf()), ..BenchConfig::new(boards, seed) };
        let bench = Bench::start(&config).expect("virtual boards start");
        let factory = Self { bench, home, boards };
        factory.write_config(&image());
        factory
    }

    /// Anchors, order and batch. They know nothing of boards, so what the program made of a request once is put into every later home.
    fn prepare(&self, quantity: u32, suite: u8, order: &[&str]) {
        static PREPARED: Mutex<BTreeMap<String, Vec<Kept>>> = Mutex::new(BTreeMap::new());
        let (count, suite) = (quantity.to_string(), suite.to_string());
        let mut new = vec!["po", "new", ORDER, "--model", "KW-GATEWAY-429", "--region", "7"];
        new.extend(["--quantity", &count, "--suite", &suite]);
        new.extend(order);
        let mut prepared = PREPARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(files) = prepared.get(&new.join(" ")) {
            return files.iter().for_each(|file| file.put(self.home()));
        }
        self.ok(&["anchors", "init", "--region", "7"]);
        self.ok(&new);
        self.ok(&["batch", "new", BATCH, "--po", ORDER, "--quantity", &count]);
        prepared.insert(new.join(" "), Kept::all(self.home()));
    }

    /// One bare board of a batch of one, flashed, and its station killed when the exchange began.
    pub fn flashed(suite: u8, seed: u64) -> Snapshot {
        let factory = Self::new(1, 1, suite, seed);
        let mut line = factory.start_line(&[1]);
        line.wait_for(|e| e["event"] == "step" && e["step"] == "agent-key");
        line.kill();
        factory.bench.cut_power(1).expect("board");
        let read = |b: &mut keywright_virtual_board::Board| b.read_flash(map::FLASH_BASE, map::FLASH_LEN);
        let flash = factory.bench.with_board(1, read).expect("board").expect("flash");
        Snapshot { seed, flash, files: Kept::all(factory.home()) }
    }

    /// The same board in the same fixture, before the same station, at that moment.
    pub fn at(snapshot: &Snapshot) -> Self {
        let factory = Self::empty(1, snapshot.seed);
        snapshot.files.iter().for_each(|file| file.put(factory.home()));
        factory.bench.cut_power(1).expect("board");
        let fill = |b: &mut keywright_virtual_board::Board| b.tamper(map::FLASH_BASE, &snapshot.flash);
        factory.bench.with_board(1, fill).expect("board").expect("inside the flash");
        factory.bench.power_on(1).expect("board");
        factory
    }

    /// Takes a board's power away and gives it back.
    pub fn power_cycle(&self, n: u32) {
        self.bench.cut_power(n).expect("board");
        self.bench.power_on(n).expect("board");
    }

    /// Writes `station.toml` with one fixture per board and `image` as the common image.
    pub fn write_config(&self, image: &Path) {
        let mut text = format!("[station]\nname = \"bench\"\nimage = {:?}\n", image.display().to_string());
        for n in 1..=self.boards {
            let fixture = self.bench.fixture(n).expect("fixture");
            let serial = fixture.link.expect("a bench with a folder has links");
            text += &format!(
                "\n[[fixture]]\nname = \"{n}\"\nprobe = {:?}\nserial = {:?}\n",
                fixture.probe,
                serial.display().to_string()
            );
        }
        std::fs::write(self.home().join("station.toml"), text).expect("station.toml");
    }

    /// The station's folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The program on this factory's home, in demo mode.
    pub fn keywright(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("keywright"));
        command.arg("--home").arg(self.home()).arg("--demo").args(args).stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.keywright(args).output().expect("keywright starts")
    }

    /// Runs it and expects success; standard output.
    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert!(
            out.status.success(),
            "keywright {args:?}: {}\n{}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).expect("UTF-8")
    }

    /// Starts `line run` on these fixtures.
    pub fn start_line(&self, fixtures: &[u32]) -> Line {
        let count = fixtures.len().to_string();
        let names: Vec<String> = fixtures.iter().map(u32::to_string).collect();
        let mut args = vec!["line", "run", "--batch", BATCH, "--count", &count, "--json"];
        for name in &names {
            args.extend(["--fixture", name]);
        }
        self.start(&args)
    }

    /// Runs a command that works on units, and takes the power of each away and gives it back when that is asked for.
    pub fn run_attended(&self, args: &[&str]) -> Report {
        let mut line = self.start(args);
        let mut events = Vec::new();
        while let Some(event) = line.next_event() {
            if event["label"].as_str().is_some_and(|l| l.starts_with("locked:")) {
                let fixture = event["fixture"].as_str().and_then(|f| f.parse().ok()).expect("a number");
                self.power_cycle(fixture);
            }
            events.push(event);
        }
        line.report(events)
    }

    /// Starts a command whose events are read as they come.
    pub fn start(&self, args: &[&str]) -> Line {
        let mut child = self
            .keywright(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("keywright starts");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut errors = child.stderr.take().expect("piped");
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = std::io::Read::read_to_string(&mut errors, &mut text);
            text
        });
        Line { child, lines, stderr: Some(stderr) }
    }

    /// Runs these fixtures once, to the end.
    pub fn run_line(&self, fixtures: &[u32]) -> Report {
        self.start_line(fixtures).finish()
    }

    /// The database, read-only.
    pub fn database(&self) -> rusqlite::Connection {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        rusqlite::Connection::open_with_flags(self.home().join("station.db"), flags)
            .expect("station.db opens")
    }

    /// The unit of board `n` as `unit show --json` prints it.
    pub fn unit(&self, n: u32) -> Value {
        let uid = self.uid(n);
        let text = self.ok(&["unit", "show", &uid, "--json"]);
        text.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|value| value["event"] == "unit")
            .unwrap_or_else(|| panic!("no unit in {text}"))
    }

    /// Hardware id of board `n`, hex.
    pub fn uid(&self, n: u32) -> String {
        self.bench.uid(n).expect("board").to_string()
    }
}

/// A board, and what its station's folder held.
pub struct Snapshot {
    seed: u64,
    flash: Vec<u8>,
    files: Vec<Kept>,
}

/// A file of a station's folder.
struct Kept {
    path: PathBuf,
    bytes: Vec<u8>,
    permissions: std::fs::Permissions,
}

impl Kept {
    /// Every file of the station under its folder. The boards' own and the configuration, which names their ports, are others' each time.
    fn all(home: &Path) -> Vec<Self> {
        let (mut folders, mut kept) = (vec![home.to_path_buf()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
                let (name, kind) = (entry.file_name(), entry.file_type().expect("a type"));
                let name = name.to_string_lossy();
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() && !name.starts_with("board-") && name != "station.toml" {
                    kept.push(Self {
                        path: entry.path().strip_prefix(home).expect("inside").to_owned(),
                        bytes: std::fs::read(entry.path()).expect("a file"),
                        permissions: entry.metadata().expect("a file").permissions(),
                    });
                }
            }
        }
        kept
    }

    fn put(&self, home: &Path) {
        let path = home.join(&self.path);
        std::fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
        std::fs::write(&path, &self.bytes).expect("a file");
        std::fs::set_permissions(&path, self.permissions.clone()).expect("its permissions");
    }
}

/// A running `line run`.
pub struct Line {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    stderr: Option<std::thread::JoinHandle<String>>,
}

impl Line {
    /// The next event; `None` at the end.
    pub fn next_event(&mut self) -> Option<Value> {
        let mut text = String::new();
        match self.lines.read_line(&mut text) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(serde_json::from_str(&text).unwrap_or_else(|e| panic!("not JSON ({e}): {text}"))),
        }
    }

    /// Reads events until one satisfies `wanted`.
    pub fn wait_for(&mut self, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let mut seen = Vec::new();
        while let Some(event) = self.next_event() {
            if wanted(&event) {
                return event;
            }
            seen.push(event.to_string());
        }
        panic!("the line ended before the awaited event; it said:\n{}\n{}", seen.join("\n"), self.errors());
    }

    fn errors(&mut self) -> String {
        self.stderr.take().and_then(|t| t.join().ok()).unwrap_or_default()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Reads to the end.
    pub fn finish(mut self) -> Report {
        let mut events = Vec::new();
        while let Some(event) = self.next_event() {
            events.push(event);
        }
        self.report(events)
    }

    fn report(mut self, events: Vec<Value>) -> Report {
        let status = self.child.wait().expect("wait");
        Report { events, code: status.code(), stderr: self.errors() }
    }
}

/// What a `line run` said.
#[derive(Debug)]
pub struct Report {
    /// Its events, the summary included.
    pub events: Vec<Value>,
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it said to people.
    pub stderr: String,
}

impl Report {
    /// The events of one kind.
    pub fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.events.iter().filter(move |e| e["event"] == kind)
    }

    /// The `finished` event of a fixture.
    pub fn finished(&self, fixture: u32) -> &Value {
        let name = fixture.to_string();
        self.of("finished")
            .find(|e| e["fixture"] == name.as_str())
            .unwrap_or_else(|| panic!("fixture {fixture} never finished: {self:#?}"))
    }

    /// The outcome word of a fixture.
    pub fn outcome(&self, fixture: u32) -> &str {
        self.finished(fixture)["outcome"].as_str().expect("an outcome")
    }

    /// The failure code of a fixture, `Kxxx`'s name as serialised.
    pub fn failure(&self, fixture: u32) -> &str {
        self.finished(fixture)["failure"]["code"].as_str().unwrap_or("none")
    }

    /// Panics with everything that was said unless the program ended with `code`.
    pub fn assert_code(&self, code: Option<i32>) {
        assert_eq!(self.code, code, "{self:#?}");
    }

    /// Panics with everything that was said unless these fixtures passed.
    pub fn assert_passed(&self, fixtures: &[u32]) {
        for fixture in fixtures {
            assert_eq!(self.outcome(*fixture), "PASS", "fixture {fixture}: {self:#?}");
        }
        self.assert_code(Some(0));
    }
}

/// A program of this workspace, beside the test's own binary.
pub fn program(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("own path");
    path.pop();
    if path.ends_with("deps") || path.ends_with("examples") {
        path.pop();
    }
    let path = path.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{} is missing; `cargo xtask test` builds it", path.display());
    path
}

/// The common image: from the environment, or where `cargo xtask firmware` leaves it.
pub fn image() -> PathBuf {
    let path = match std::env::var_os("KEYWRIGHT_COMMON_IMAGE") {
        Some(path) => PathBuf::from(path),
        None => program("keywright").with_file_name("../firmware/common-image.json"),
    };
    assert!(path.is_file(), "{} is missing; `cargo xtask firmware` builds it", path.display());
    path.canonicalize().expect("a path")
}
