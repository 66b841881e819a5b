//! `cargo xtask torture`: cut the power of virtual boards everywhere, on the real firmware binary.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::{cargo, firmware, say, shown, target_dir};

/// Options of `torture`.
#[derive(Args)]
pub struct TortureArgs {
    /// So many cuts, spread evenly over all of them [default: all, for hours]
    #[arg(long, value_name = "N")]
    cuts: Option<usize>,
    /// Random instants on top of the flash operations
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    instants: u32,
    /// Everything follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Exchange: 1 legacy, 2 hardened (ten times as long)
    #[arg(long, default_value_t = 1)]
    suite: u8,
    /// Boards at a time [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Add every finished cut to FILE; a run with the same firmware and options goes on where it stops
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// JSON lines instead of a table
    #[arg(long)]
    json: bool,
}

/// Builds the firmware and tortures it; the matrix goes to `target/power-cut-matrix.json`.
pub fn run(args: &TortureArgs) -> Result<ExitCode> {
    crate::setup::ensure(&[crate::setup::Need::Build])?;
    say("firmware");
    let image = firmware::build()?;
    let mut torture = cargo();
    torture.args(["run", "--quiet", "--package", "keywright-torture", "--bin", "torture", "--"]);
    torture.arg("--image").arg(&image.json).arg("--out").arg(target_dir().join("power-cut-matrix.json"));
    torture.args(["--seed", &args.seed.to_string(), "--suite", &args.suite.to_string()]);
    torture.args(["--instants", &args.instants.to_string()]);
    if let Some(cuts) = args.cuts {
        torture.args(["--cuts", &cuts.to_string()]);
    }
    if let Some(threads) = args.threads {
        torture.args(["--threads", &threads.to_string()]);
    }
    if let Some(file) = &args.resume {
        torture.arg("--resume").arg(file);
    }
    if args.json {
        torture.arg("--json");
    }
    say(shown(&torture));
    // An interrupt is the torture's business: it finishes the cuts that have begun and writes what it has.
    ctrlc::set_handler(|| {}).context("interrupts can't be left to the torture")?;
    let status = torture.status().context("torture can't be started")?;
    // 1: a unit was not well; 130: stopped. Anything else that is not 0 has told what it is.
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(4)))
}
