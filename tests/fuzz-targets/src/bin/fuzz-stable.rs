//! Runs fuzz targets without libFuzzer: seeded mutations of the seed corpora, no coverage guidance.
//!
//! ```text
//! fuzz-stable TARGET [--seconds S] [--iterations N] [--seed X]     fuzz
//! fuzz-stable TARGET FILE…                                         run these inputs once
//! ```
//! An input that breaks a promise is written to `tests/fuzz/artifacts/TARGET/` and the program exits with 1.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use keywright_fuzz_targets::mutate::{Rng, mutate};
use keywright_fuzz_targets::{TARGETS, Target, seeds, target};

struct Options {
    target: &'static Target,
    files: Vec<PathBuf>,
    seconds: u64,
    iterations: u64,
    seed: u64,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, String> {
    let mut args = std::env::args().skip(1);
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    let name = args.next().ok_or_else(|| format!("which target? One of {}", names.join(", ")))?;
    let target = target(&name).ok_or_else(|| format!("no target {name}; there are {}", names.join(", ")))?;
    let mut options = Options { target, files: Vec::new(), seconds: 60, iterations: u64::MAX, seed: 1 };
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().ok_or_else(|| format!("{arg} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("{arg} needs a number, not {value}"))
        };
        match arg.as_str() {
            "--seconds" => options.seconds = number()?,
            "--iterations" => options.iterations = number()?,
            "--seed" => options.seed = number()?,
            file => options.files.push(file.into()),
        }
    }
    Ok(options)
}

fn run(options: &Options) -> Result<(), String> {
    let target = options.target;
    if !options.files.is_empty() {
        for file in &options.files {
            one(target, &read(file)?)?;
        }
        println!("{}: {} inputs, no promise broken", target.name, options.files.len());
        return Ok(());
    }
    let corpus = corpus(target)?;
    let (started, mut rng, mut count) = (Instant::now(), Rng::new(options.seed), 0u64);
    let limit = Duration::from_secs(options.seconds);
    for input in &corpus {
        one(target, input)?;
    }
    while count < options.iterations && started.elapsed() < limit {
        one(target, &mutate(&mut rng, &corpus, target.max_len))?;
        count += 1;
    }
    println!(
        "{}: {} seeds and {count} mutations (seed {}) in {:.1} s, no promise broken",
        target.name,
        corpus.len(),
        options.seed,
        started.elapsed().as_secs_f32()
    );
    Ok(())
}

fn corpus(target: &Target) -> Result<Vec<Vec<u8>>, String> {
    let folder = seeds::folder().join(target.name);
    let entries = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    // The order of a folder is not the same everywhere; the order of mutations must be.
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))
}

/// Runs one input; keeps it if it breaks a promise. The panic's own message is on standard error by then.
fn one(target: &Target, input: &[u8]) -> Result<(), String> {
    if std::panic::catch_unwind(|| (target.run)(input)).is_ok() {
        return Ok(());
    }
    let folder = seeds::folder().join("../artifacts").join(target.name);
    let hash = keywright_protocol::crypto::sha256(&[input]);
    let file = folder.join(format!("crash-{}", hex::encode(&hash[..8])));
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&file, input))
        .map_err(|e| format!("{}: {e}", file.display()))?;
    Err(format!("{}: a promise is broken; input in {}", target.name, file.display()))
}
