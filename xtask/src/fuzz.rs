//! `cargo xtask fuzz`: the fuzz targets, guided by coverage where the toolchain allows.
//!
//! With a nightly toolchain and cargo-fuzz: libFuzzer. Otherwise the same target bodies under a seeded mutator
//! on the pinned toolchain, which finds shallow faults only, and says so.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::{cargo, root, say, shown, target_dir};

/// Which driver runs the targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Driver {
    /// libFuzzer if nightly and cargo-fuzz are there, else stable
    #[default]
    Auto,
    /// libFuzzer, or fail
    Libfuzzer,
    /// Seeded mutations without coverage guidance
    Stable,
}

/// Options of `fuzz`.
#[derive(Args)]
pub struct FuzzArgs {
    /// Only this target (repeatable); default: all of them
    #[arg(long)]
    target: Vec<String>,
    /// Seconds per target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// First seed of the mutations
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// What drives the targets
    #[arg(long, value_enum, default_value_t)]
    driver: Driver,
}

/// Fuzzes.
pub fn run(args: &FuzzArgs) -> Result<ExitCode> {
    let missing = missing();
    let guided = match (args.driver, &missing) {
        (Driver::Stable, _) => false,
        (_, None) => true,
        (Driver::Auto, Some(what)) => {
            say(format!(
                "{what}; fuzzing without coverage guidance instead, which finds shallow faults only"
            ));
            false
        }
        (Driver::Libfuzzer, Some(what)) => anyhow::bail!("{what}"),
    };
    let all = targets()?;
    for target in &args.target {
        ensure!(all.contains(target), "no target {target}; there are {}", all.join(", "));
    }
    let targets = if args.target.is_empty() { &all } else { &args.target };
    let mut broken = Vec::new();
    for target in targets {
        let mut command = if guided { libfuzzer(target, args)? } else { stable(target, args) };
        say(shown(&command));
        // A build that fails and a promise that is broken look alike here; the output tells.
        if crate::run(&mut command).is_err() {
            broken.push(target.as_str());
        }
    }
    ensure!(
        broken.is_empty(),
        "failed: {}. Inputs are in tests/fuzz/artifacts/<target>/; docs/fuzzing.md says what to do next",
        broken.join(", ")
    );
    say(format!("{} targets, {} s each, no promise broken", targets.len(), args.seconds));
    Ok(ExitCode::SUCCESS)
}

/// The targets: whatever has seeds.
fn targets() -> Result<Vec<String>> {
    let folder = root().join("tests/fuzz/seeds");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// What coverage guidance lacks on this machine.
fn missing() -> Option<&'static str> {
    let works =
        |args: &[&str]| Command::new("cargo").args(args).output().is_ok_and(|out| out.status.success());
    if !works(&["+nightly", "--version"]) {
        Some("no nightly toolchain (`rustup toolchain install nightly`)")
    } else if !works(&["+nightly", "fuzz", "--version"]) {
        Some("no cargo-fuzz (`cargo install cargo-fuzz --locked`)")
    } else {
        None
    }
}

fn libfuzzer(target: &str, args: &FuzzArgs) -> Result<Command> {
    let folder = root().join("tests/fuzz");
    let (corpus, seeds) = (folder.join("corpus").join(target), folder.join("seeds").join(target));
    std::fs::create_dir_all(&corpus)?;
    // The cargo that runs us is the pinned one; the proxy takes the toolchain from its argument only if the
    // variables that the pinned one set are gone.
    let mut command = Command::new("cargo");
    command
        .current_dir(root())
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .env_remove("RUSTC")
        .env("CARGO_TARGET_DIR", target_dir().join("fuzz"))
        .args(["+nightly", "fuzz", "run", "--fuzz-dir", "tests/fuzz", target])
        .args([&corpus, &seeds])
        .arg("--")
        .arg(format!("-max_total_time={}", args.seconds))
        .arg(format!("-seed={}", args.seed))
        // An input that takes this long is a finding: bytes from a line must not stop a station.
        .args(["-timeout=20", "-print_final_stats=1", "-verbosity=0"]);
    Ok(command)
}

fn stable(target: &str, args: &FuzzArgs) -> Command {
    let mut command = cargo();
    command
        .args(["run", "--quiet", "--release", "--package", "keywright-fuzz-targets"])
        .args(["--bin", "fuzz-stable", "--", target])
        .args(["--seconds", &args.seconds.to_string(), "--seed", &args.seed.to_string()]);
    command
}
