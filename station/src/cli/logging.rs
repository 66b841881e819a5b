//! What happened, for whoever has to find out why: standard error in the measure of `-v`, and one file per day in the
//! home's `logs/`. Only this program's own words are kept below warnings: other crates log what they move, and what
//! they move may be keys.

use std::fs::{File, OpenOptions};
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Mutex;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// Days of log files that stay.
const KEPT_FILES: usize = 30;

/// Starts logging; a log that can't be written is said, and does not stop the station.
pub fn start(folder: &Path, verbose: u8) {
    let own = |level| Targets::new().with_default(LevelFilter::WARN).with_target("keywright", level);
    let stderr = match verbose {
        0 => own(LevelFilter::WARN).with_default(LevelFilter::ERROR),
        1 => own(LevelFilter::INFO),
        _ => own(LevelFilter::DEBUG),
    };
    let terminal = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time();
    let file = open(folder);
    let trouble = file.as_ref().err().map(ToString::to_string);
    let file = file.ok().map(|file| {
        tracing_subscriber::fmt::layer()
            .json()
            .with_writer(Mutex::new(file))
            .with_filter(own(LevelFilter::INFO))
    });
    // A second start in one process (tests) keeps the first.
    let _ = tracing_subscriber::registry().with(terminal.with_filter(stderr)).with(file).try_init();
    if let Some(trouble) = trouble {
        tracing::warn!(folder = %folder.display(), trouble, "no log file is written");
    }
}

fn open(folder: &Path) -> std::io::Result<File> {
    std::fs::create_dir_all(folder)?;
    let day = crate::export::Stamp(crate::station::now_ms()).to_string()[..10].to_owned();
    let file =
        OpenOptions::new().append(true).create(true).open(folder.join(format!("keywright-{day}.jsonl")))?;
    let mut old: Vec<_> = std::fs::read_dir(folder)?
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("keywright-")))
        .collect();
    old.sort();
    for path in old.iter().rev().skip(KEPT_FILES) {
        std::fs::remove_file(path)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_of_files_stays() {
        let folder = tempfile::tempdir().unwrap();
        for day in 1..=40 {
            std::fs::write(
                folder.path().join(format!("keywright-2020-{:02}-{:02}.jsonl", 1 + day / 28, 1 + day % 28)),
                "",
            )
            .unwrap();
        }
        std::fs::write(folder.path().join("mine.txt"), "").unwrap();
        open(folder.path()).unwrap();
        let names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), KEPT_FILES + 1);
        assert!(names.iter().any(|n| n == "mine.txt"));
    }
}
