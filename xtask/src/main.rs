//! `cargo xtask`: what CI runs is what you run.
//!
//! `demo` shows the whole product on virtual boards, `test` passes everything, `firmware` builds the common image,
//! `bench` prints the figures, `torture` cuts the power everywhere, `guide` writes the
//! user guide, `ci` is `test` behind the lints.

mod bench;
mod demo;
mod firmware;
mod fuzz;
mod guide;
mod panics;
mod setup;
mod test;
mod torture;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "One button for Keywright: demo, test, firmware, bench, fuzz, guide, ci"
)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the firmware, start virtual boards and open the station on them
    Demo(demo::DemoArgs),
    /// Run every test: format, firmware, all crates, window, headless demo, a minute of each fuzz target
    Test(test::TestArgs),
    /// Build boot and app and pack the common image into target/firmware
    Firmware,
    /// Measure; prints a table, or one JSON object per figure
    Bench(bench::BenchArgs),
    /// Fuzz what reads bytes from outside; see docs/fuzzing.md
    Fuzz(fuzz::FuzzArgs),
    /// Cut the power of virtual boards at every flash operation of every key change; see docs/reliability.md
    Torture(torture::TortureArgs),
    /// Write the user guide in docs/guide from a session in the real window
    Guide(guide::GuideArgs),
    /// What CI runs: lints, then test
    Ci,
}

fn main() -> ExitCode {
    let done = match Args::parse().task {
        Task::Demo(args) => demo::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Firmware => firmware::build().map(|image| {
            println!("{}", image.json.display());
            for part in &image.parts {
                println!("  {:4} {:>7} bytes at {:#010x}", part.name, part.length, part.address);
                for panic in &part.dead_panics {
                    println!("       panics only in theory: {} ({})", panic.caller, panic.proof);
                }
            }
            ExitCode::SUCCESS
        }),
        Task::Bench(args) => bench::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Torture(args) => torture::run(&args),
        Task::Guide(args) => guide::run(&args),
        Task::Ci => test::lints().and_then(|()| test::run(&test::TestArgs::default())),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(4)
    })
}

/// The workspace root, from this crate's place in it.
pub fn root() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

/// The target folder in use.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The cargo that runs us, in the workspace root.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The compiler of the same toolchain.
pub fn rustc() -> Command {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.current_dir(root());
    command
}

/// Runs a command to its end; a failure names the command.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().map_err(|e| anyhow::anyhow!("can't run `{shown}`: {e}"))?;
    anyhow::ensure!(status.success(), "`{shown}` failed ({status})");
    Ok(())
}

/// The command as a person would type it.
pub fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// A sentence on standard error, where it does not disturb `--json`.
pub fn say(line: impl std::fmt::Display) {
    eprintln!("xtask: {line}");
}
