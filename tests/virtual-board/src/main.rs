//! `virtual-board`: boards to practise on, without hardware.

use anyhow::{Context, Result};
use clap::Parser;
use keywright_virtual_board::{Bench, BenchConfig, FlashTiming, control::Control};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Emulated STM32F429 boards: a Black Magic Probe on TCP and a serial port each.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// How many boards.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    count: u32,
    /// Where flash images (board-N.flash) and terminal links (board-N.tty) are kept; without it boards forget everything.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Names the boards: the same seed gives the same unique ids.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Path of the control socket; by default `control.sock` in the directory, if there is one.
    #[arg(long)]
    control: Option<PathBuf>,
    /// How long flash operations take: `fast`, or `realistic` as in the datasheet.
    #[arg(long, default_value = "fast", value_parser = ["fast", "realistic"])]
    flash_timing: String,
    /// Make the chips' random numbers depend on this alone, so that runs repeat. Never for real keys.
    #[arg(long)]
    entropy: Option<u64>,
    /// Start with the power off.
    #[arg(long)]
    off: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut config = BenchConfig::new(arguments.count, arguments.seed);
    config.dir = arguments.dir.clone();
    config.entropy = arguments.entropy;
    config.powered = !arguments.off;
    config.timing =
        if arguments.flash_timing == "realistic" { FlashTiming::REALISTIC } else { FlashTiming::FAST };
    let bench = Arc::new(Bench::start(&config).context("the boards could not be started")?);

    let quit = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&quit)).context("installing a signal handler")?;
    }
    let path = arguments.control.or_else(|| Some(arguments.dir?.join("control.sock")));
    let control = match &path {
        Some(path) => Some(
            Control::start(path, Arc::clone(&bench), Arc::clone(&quit))
                .with_context(|| format!("control socket {}", path.display()))?,
        ),
        None => None,
    };

    let mut out = std::io::stdout();
    for n in 1..=bench.count() {
        let fixture = bench.fixture(n)?;
        let flash = bench.with_board(n, |b| b.flash().path().map(ToOwned::to_owned))?;
        let line = serde_json::json!({
            "event": "board", "n": n, "probe": fixture.probe, "swd": fixture.swd.to_string(), "serial": fixture.serial,
            "tty": fixture.link, "uid": bench.uid(n)?.to_string(), "flash": flash,
        });
        writeln!(out, "{line}")?;
    }
    writeln!(out, "{}", serde_json::json!({ "event": "ready", "control": path }))?;
    out.flush()?;

    while !quit.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(control);
    bench.save().context("saving the flash images")?;
    Ok(())
}
