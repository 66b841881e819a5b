//! `cargo xtask demo`: virtual boards that run the real firmware, and the station opened on them.

use crate::setup::Need;
use crate::{cargo, firmware, say, target_dir};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;

/// Options of `demo`.
#[derive(Args, Clone)]
pub struct DemoArgs {
    /// No window: run the batch, print the result
    #[arg(long)]
    headless: bool,
    /// Units to make (headless) or boards to put on the bench (window)
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=512))]
    units: u16,
    /// One JSON object per event on standard output, a summary last
    #[arg(long)]
    json: bool,
    /// Keep station.db, the boards' flash files and the exports in this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Seed of the boards' ids and of their random number generators
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl DemoArgs {
    /// The run that `test` ends with.
    pub fn smoke() -> Self {
        Self { headless: true, units: 3, json: true, keep: None, seed: 1 }
    }
}

/// The region, order and batch that the demo makes for itself.
const REGION: &str = "7";
const ORDER: &str = "PO-DEMO-429";
const BATCH: &str = "DEMO";
/// Boards in work at a time: each thinks with a core of this machine, and the station's time-outs are real.
const AT_ONCE: usize = 4;

/// Runs it.
pub fn run(args: &DemoArgs) -> Result<ExitCode> {
    if !args.headless && !display_is_there() {
        bail!(
            "no display found (neither WAYLAND_DISPLAY nor DISPLAY is set); run `cargo xtask demo --headless`"
        );
    }
    let needs: &[Need] = if args.headless { &[Need::Build] } else { &[Need::Build, Need::Window] };
    crate::setup::ensure(needs)?;
    say("building the firmware");
    let image = firmware::build()?;
    say("building the station and the virtual boards (the first time takes some minutes)");
    crate::run(cargo().args([
        "build",
        "--quiet",
        "--package",
        "keywright",
        "--package",
        "keywright-virtual-board",
        "--bins",
    ]))?;

    run_built(args, &image.json)
}

/// Runs it on programs that are built already.
pub fn run_built(args: &DemoArgs, image: &Path) -> Result<ExitCode> {
    let kept = args.keep.is_some();
    let dir = match &args.keep {
        Some(dir) => dir.clone(),
        None => target_dir().join("demo"),
    };
    if !kept && dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    }
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let dir = dir.canonicalize()?;
    if dir.join("station.db").exists() {
        bail!("{} already holds a station; choose an empty folder", dir.display());
    }

    let began = Instant::now();
    let boards = Boards::start(&dir, args)?;
    write_config(&dir, image, &boards.list)?;
    let station = Station { dir: &dir };
    station.quietly(&["anchors", "init", "--region", REGION])?;
    let quantity = args.units.to_string();
    station.quietly(&[
        "po",
        "new",
        ORDER,
        "--model",
        "KW-GATEWAY-429",
        "--quantity",
        &quantity,
        "--region",
        REGION,
        "--suite",
        "2",
    ])?;
    station.quietly(&["batch", "new", BATCH, "--po", ORDER, "--quantity", &quantity])?;

    if args.headless { headless(args, &station, image, &boards.list, began) } else { window(&station) }
}

fn display_is_there() -> bool {
    !cfg!(target_os = "linux")
        || ["WAYLAND_DISPLAY", "DISPLAY"]
            .iter()
            .any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()))
}

fn window(station: &Station<'_>) -> Result<ExitCode> {
    say("opening the window: press Space to start every board");
    let status = station.command(&[]).status().context("starting keywright")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::from(4) })
}

fn headless(
    args: &DemoArgs,
    station: &Station<'_>,
    image: &Path,
    boards: &[Value],
    began: Instant,
) -> Result<ExitCode> {
    let dir = station.dir;
    let (mut passed, mut failed, mut error, mut orderly) = (0, 0, 0, true);
    for group in boards.chunks(AT_ONCE) {
        // The bench of this group only: boards that are done are left alone and cost nothing.
        write_config(dir, image, group)?;
        let count = group.len().to_string();
        let names: Vec<String> = group.iter().map(|board| board["n"].to_string()).collect();
        let mut words = vec!["line", "run", "--batch", BATCH, "--count", &count, "--json", "--fixture"];
        words.extend(names.iter().map(String::as_str));
        let mut line =
            station.command(&words).stdout(Stdio::piped()).spawn().context("starting keywright")?;
        let mut summary = None;
        for text in BufReader::new(line.stdout.take().context("no output")?).lines() {
            let event: Value =
                serde_json::from_str(&text?).context("keywright printed a line that is not JSON")?;
            if event["event"] == "summary" {
                summary = Some(event);
            } else {
                tell(args, &event)?;
            }
        }
        let status = line.wait()?;
        let summary = summary.with_context(|| format!("the line ended without a summary ({status})"))?;
        let number = |key: &str| summary[key].as_u64().unwrap_or(0);
        passed += number("passed");
        failed += number("failed");
        error += number("error");
        orderly &= status.success();
    }
    let exported = export(args, station, dir)?;
    let planned = u64::from(args.units);
    let seconds = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    let last = json!({
        "event": "summary", "planned": planned, "passed": passed, "failed": failed, "error": error, "seconds": seconds,
    });
    if args.json {
        print_line(&last.to_string())?;
    } else {
        print_line(&format!(
            "{passed} of {planned} units passed, {failed} failed, {error} station errors, {seconds:.1} s; files in {}",
            dir.display()
        ))?;
    }
    let all = orderly && passed == planned && exported;
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

/// Exports the batch to a recipient that the demo makes (its private half stays beside the files, as the demo's
/// passphrase is public anyway) and checks what was written.
fn export(args: &DemoArgs, station: &Station<'_>, dir: &Path) -> Result<bool> {
    let mut all = true;
    let recipient = station.output(&["demo-recipient", "--json"])?;
    let recipient: Value = serde_json::from_str(recipient.trim())?;
    let key = recipient["recipient"].as_str().context("no recipient")?;
    let out = dir.join("exports");
    for format in ["csv", "jsonl"] {
        let text = station.output(&[
            "export",
            "--batch",
            BATCH,
            "--format",
            format,
            "--recipient",
            key,
            "--out",
            &out.display().to_string(),
            "--json",
        ])?;
        let mut written = false;
        for line in text.lines() {
            let event: Value = serde_json::from_str(line)?;
            written |= event["event"] == "export" || event["event"] == "summary";
            if event["event"] != "summary" {
                tell(args, &event)?;
            }
        }
        all &= written;
    }
    Ok(all)
}

fn tell(args: &DemoArgs, event: &Value) -> Result<()> {
    if args.json {
        return print_line(&event.to_string());
    }
    let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
    match event["event"].as_str() {
        Some("identified") => {
            print_line(&format!("fixture {}: unit {} ({})", text("fixture"), text("serial"), text("unit")))
        }
        Some("step") => print_line(&format!("fixture {}: {}", text("fixture"), text("step"))),
        Some("finished") => print_line(&format!(
            "fixture {}: {} {} in {:.1} s {}",
            text("fixture"),
            text("outcome"),
            text("serial"),
            event["seconds"].as_f64().unwrap_or(0.0),
            event["failure"]["sentence"].as_str().unwrap_or_default(),
        )),
        _ => Ok(()),
    }
}

/// A reader that hung up (`| head`) ends the demo quietly.
fn print_line(line: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("standard output was closed")
}

/// The station program on the demo's folder.
struct Station<'a> {
    dir: &'a Path,
}

impl Station<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary("keywright"));
        command.arg("--home").arg(self.dir).arg("--demo").args(args).stdin(Stdio::null());
        command
    }

    fn output(&self, args: &[&str]) -> Result<String> {
        let mut command = self.command(args);
        let out = command.stderr(Stdio::inherit()).output().context("starting keywright")?;
        ensure!(out.status.success(), "`{}` failed ({})", crate::shown(&command), out.status);
        Ok(String::from_utf8(out.stdout)?)
    }

    fn quietly(&self, args: &[&str]) -> Result<()> {
        self.output(args).map(drop)
    }
}

/// A program of this workspace, as the dev build left it.
pub fn binary(name: &str) -> PathBuf {
    target_dir().join("debug").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// The virtual boards; they lose power when this is dropped.
struct Boards {
    process: Child,
    list: Vec<Value>,
}

impl Boards {
    fn start(dir: &Path, args: &DemoArgs) -> Result<Self> {
        let mut process = Command::new(binary("virtual-board"))
            .args(["--count", &args.units.to_string(), "--seed", &args.seed.to_string(), "--dir"])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting virtual-board")?;
        let output = process.stdout.take().context("no output")?;
        let mut boards = Self { process, list: Vec::new() };
        for line in BufReader::new(output).lines() {
            let event: Value = serde_json::from_str(&line?)?;
            match event["event"].as_str() {
                Some("board") => boards.list.push(event),
                Some("ready") => return Ok(boards),
                _ => {}
            }
        }
        bail!("virtual-board ended before its boards were ready")
    }
}

impl Drop for Boards {
    fn drop(&mut self) {
        // An orderly end writes the flash files out; a board that hangs is killed.
        let asked = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(asked, rustix::process::Signal::TERM);
        let _ = self.process.wait();
    }
}

/// Writes the demo's `station.toml`: one fixture per virtual board given.
fn write_config(dir: &Path, image: &Path, boards: &[Value]) -> Result<()> {
    let mut text = String::from("# Written by `cargo xtask demo`: one fixture per virtual board.\n");
    text += &format!("[station]\nname = \"demo\"\nimage = {:?}\n", image.display().to_string());
    for board in boards {
        let field = |key: &str| board[key].as_str().context("virtual-board printed an incomplete board");
        let n = &board["n"];
        text += &format!(
            "\n[[fixture]]\nname = \"{n}\"\nprobe = {:?}\nserial = {:?}\n",
            field("probe")?,
            field("serial")?
        );
    }
    fs::write(dir.join("station.toml"), text)?;
    Ok(())
}
