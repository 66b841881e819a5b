//! `cargo xtask guide`: the user guide in docs/guide, written by a session in the real window.

use crate::setup::Need;
use crate::{cargo, firmware, say, target_dir};
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Options of `guide`.
#[derive(Args)]
pub struct GuideArgs {
    /// Write it here
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Lives through a working day on virtual boards and writes what happened.
pub fn run(args: &GuideArgs) -> Result<ExitCode> {
    crate::setup::ensure(&[Need::Build, Need::Window, Need::WindowTests])?;
    say("firmware");
    let image = firmware::build()?;
    // As the tests select it, so that nothing is compiled twice.
    say("the station, and a working day in its window");
    crate::run(cargo().args(["build", "--quiet", "--workspace"]).args([
        "--bin",
        "keywright",
        "--bin",
        "guide",
        "--test",
        "session",
    ]))?;
    let out = args.out.clone().unwrap_or_else(|| crate::root().join("docs/guide"));
    let mut guide = Command::new(target_dir().join("debug").join("guide"));
    let status = guide
        .arg(&out)
        .env("KEYWRIGHT_COMMON_IMAGE", &image.json)
        .status()
        .context("starting the session")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::from(4) })
}
