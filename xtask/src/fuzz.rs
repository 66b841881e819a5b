//! `cargo xtask fuzz`: the fuzz targets, guided by coverage where the toolchain allows.
//!
//! With a nightly toolchain and cargo-fuzz: libFuzzer. Otherwise the same target bodies under a seeded mutator
//! on the pinned toolchain, which finds shallow faults only, and says so.
//!
//! Targets run side by side, one on each core; the output of each goes to `target/fuzz-logs` and is shown if it fails.

use std::collections::VecDeque;
use std::fs::File;
use std::num::NonZero;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

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
    /// How many targets run at a time; default: one on each core
    #[arg(long)]
    jobs: Option<NonZero<usize>>,
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
    let commands = if guided {
        crate::run(&mut nightly(&["fuzz", "build", "--fuzz-dir", "tests/fuzz"]))?;
        targets.iter().map(|target| Ok((target.as_str(), libfuzzer(target, args)?))).collect::<Result<_>>()?
    } else {
        let mut build = cargo();
        build.args(["build", "--package", "keywright-fuzz-targets", "--bin", "fuzz-stable"]);
        crate::run(&mut build)?;
        targets.iter().map(|target| (target.as_str(), stable(target, args))).collect()
    };
    all_of(commands, args)
}

/// The pass that `cargo xtask test` ends with: every target for a minute, from the same seed every time, with the
/// program that `cargo test` has built. What libFuzzer would need is measured in `docs/fuzzing.md`.
pub fn pass() -> Result<()> {
    let args = FuzzArgs { target: Vec::new(), seconds: 60, jobs: None, seed: 1, driver: Driver::Stable };
    let targets = targets()?;
    let commands = targets.iter().map(|target| (target.as_str(), stable(target, &args))).collect();
    all_of(commands, &args).map(drop)
}

/// Runs the commands, as many at a time as there are jobs.
fn all_of(commands: VecDeque<(&str, Command)>, args: &FuzzArgs) -> Result<ExitCode> {
    let count = commands.len();
    let cores = || std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let jobs = args.jobs.unwrap_or_else(cores).get().min(count);
    let logs = target_dir().join("fuzz-logs");
    std::fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
    say(format!("{count} targets, {} s each, {jobs} at a time; output in {}", args.seconds, logs.display()));
    let (waiting, broken) = (Mutex::new(commands), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((target, mut command)) = next else { return };
                    if let Err(error) = one(target, &mut command, &logs.join(format!("{target}.log"))) {
                        say(format!("{error:#}"));
                        broken.lock().unwrap_or_else(PoisonError::into_inner).push(target);
                    }
                }
            });
        }
    });
    let mut broken = broken.into_inner().unwrap_or_else(PoisonError::into_inner);
    broken.sort_unstable();
    ensure!(
        broken.is_empty(),
        "failed: {}. Inputs are in tests/fuzz/artifacts/<target>/; docs/fuzzing.md says what to do next",
        broken.join(", ")
    );
    say(format!("{count} targets, {} s each, no promise broken", args.seconds));
    Ok(ExitCode::SUCCESS)
}

/// Runs one target to its end; its output goes to `log`, and into the error.
fn one(target: &str, command: &mut Command, log: &Path) -> Result<()> {
    let began = Instant::now();
    let shown = shown(command);
    let file = File::create(log).with_context(|| log.display().to_string())?;
    let errors = file.try_clone().with_context(|| log.display().to_string())?;
    let status = command.stdin(Stdio::null()).stdout(file).stderr(errors).status();
    let status = status.with_context(|| format!("can't run `{shown}`"))?;
    let said = std::fs::read(log).with_context(|| log.display().to_string())?;
    let said = String::from_utf8_lossy(&said);
    ensure!(status.success(), "`{shown}` failed ({status}):\n{}", said.trim_end());
    say(format!("  {target:8} {:>4} s  {}", began.elapsed().as_secs(), summary(&said)));
    Ok(())
}

/// How much was tried, in the driver's words.
fn summary(said: &str) -> String {
    let units = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    match units {
        Some(units) => format!("{} inputs", units.trim()),
        None => said.lines().last().and_then(|line| line.split_once(": ")).map_or("", |line| line.1).into(),
    }
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

/// The nightly cargo, for the package outside of the workspace.
fn nightly(args: &[&str]) -> Command {
    // The cargo that runs us is the pinned one; the proxy takes the toolchain from its argument only if the
    // variables that the pinned one set are gone.
    let mut command = Command::new("cargo");
    command
        .current_dir(root())
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .env_remove("RUSTC")
        .env("CARGO_TARGET_DIR", target_dir().join("fuzz"))
        .arg("+nightly")
        .args(args);
    command
}

fn libfuzzer(target: &str, args: &FuzzArgs) -> Result<Command> {
    let folder = root().join("tests/fuzz");
    let (corpus, seeds) = (folder.join("corpus").join(target), folder.join("seeds").join(target));
    std::fs::create_dir_all(&corpus)?;
    let mut command = nightly(&["fuzz", "run", "--fuzz-dir", "tests/fuzz", target]);
    command
        .args([&corpus, &seeds])
        .arg("--")
        .arg(format!("-max_total_time={}", args.seconds))
        .arg(format!("-seed={}", args.seed))
        // An input that takes this long is a finding: bytes from a line must not stop a station.
        .args(["-timeout=20", "-print_final_stats=1", "-verbosity=0"]);
    Ok(command)
}

/// The development profile is optimised and checks arithmetic.
fn stable(target: &str, args: &FuzzArgs) -> Command {
    let mut command = Command::new(target_dir().join("debug/fuzz-stable"));
    command.current_dir(root()).arg(target).args([
        "--seconds",
        &args.seconds.to_string(),
        "--seed",
        &args.seed.to_string(),
    ]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_fails_shows_what_it_said() {
        let folder = std::env::temp_dir().join(format!("keywright-xtask-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let log = folder.join("bad.log");
        let error = one("bad", &mut shell("echo a promise is broken >&2; exit 1"), &log).unwrap_err();
        assert!(format!("{error:#}").ends_with("a promise is broken"), "{error:#}");
        one("good", &mut shell("echo good: 3 mutations"), &log).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_drivers_words_are_kept_short() {
        assert_eq!(summary("a panic\nline: 3 seeds, no promise broken\n"), "3 seeds, no promise broken");
        assert_eq!(summary("Done\nstat::number_of_executed_units: 461\nstat::x: 1\n"), "461 inputs");
        assert_eq!(summary(""), "");
    }
}
