//! The file of results: one line that says which run it is, then one line for every finished cut. A run that was stopped, by a
//! person or by its own power, goes on from it.

use crate::{Clean, Transition};
use anyhow::{Context, Result, bail, ensure};
use keywright::matrix::{Casualty, Outcomes, PowerCutMatrix};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What decides which cuts a run consists of, and what is cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Exchange.
    pub suite: u8,
    /// Everything follows from it.
    pub seed: u64,
    /// Random instants on top of the flash operations.
    pub instants: u32,
    /// So many cuts, spread evenly over all of them; all, if there is no number.
    pub cuts: Option<usize>,
    /// SHA-256 of the common image.
    pub image_sha256: String,
    /// Its version.
    pub firmware: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Measured {
    transition: String,
    operations: u64,
    takes_ns: u64,
}

/// The first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Head {
    torture: u32,
    #[serde(flatten)]
    selection: Selection,
    /// The cuts follow from these as well, so they are not measured again.
    clean: Vec<Measured>,
}

/// Every other line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// Number of the case.
    pub case: usize,
    /// What came of it.
    #[serde(flatten)]
    pub outcomes: Outcomes,
    /// The unit, if it was not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub casualty: Option<Casualty>,
    /// How long the run had taken until then, pauses not counted.
    pub seconds: f64,
}

/// What an earlier run left.
#[derive(Debug)]
pub struct Earlier {
    /// The transitions without a cut.
    pub clean: Vec<Clean>,
    /// The finished cuts.
    pub finished: Vec<Finished>,
}

/// An open file of results.
#[derive(Debug)]
pub struct Results {
    file: File,
    path: PathBuf,
}

const FORMAT: u32 = 1;

impl Results {
    /// Opens `path` and reads what is in it, if there is such a file.
    ///
    /// # Errors
    /// It is no file of results, or of another run.
    pub fn open(path: &Path, selection: &Selection) -> Result<(Self, Option<Earlier>)> {
        let shown = path.display();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e).with_context(|| format!("{shown} can't be read")),
        };
        // A run that lost its power may have left half a line.
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .with_context(|| format!("{shown} can't be written"))?;
        let mut lines = text[..whole].lines().enumerate();
        let earlier = match lines.next() {
            None => {
                ensure!(
                    text.is_empty() || text.starts_with("{\"torture\":"),
                    "{shown} is no file of torture results: name another file"
                );
                None
            }
            Some((_, first)) => {
                let head: Head = serde_json::from_str(first)
                    .with_context(|| format!("{shown} is no file of torture results: name another file"))?;
                ensure!(
                    head.torture == FORMAT,
                    "{shown} is of format {}, this program writes {FORMAT}: begin another file",
                    head.torture
                );
                same(path, &head.selection, selection)?;
                let finished = lines
                    .map(|(n, line)| {
                        serde_json::from_str(line).with_context(|| {
                            format!("{shown} is damaged at line {}: begin another file", n + 1)
                        })
                    })
                    .collect::<Result<Vec<Finished>>>()?;
                Some(Earlier { clean: head.measured()?, finished })
            }
        };
        file.set_len(whole as u64)?;
        let mut results = Self { file, path: path.to_owned() };
        std::io::Seek::seek(&mut results.file, std::io::SeekFrom::End(0))?;
        Ok((results, earlier))
    }

    /// Writes the first line of a new run.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn begin(&mut self, selection: &Selection, clean: &[Clean]) -> Result<()> {
        let clean = clean
            .iter()
            .map(|c| Measured {
                transition: c.transition.name().to_owned(),
                operations: c.operations,
                takes_ns: c.takes.as_nanos() as u64,
            })
            .collect();
        self.line(&Head { torture: FORMAT, selection: selection.clone(), clean })
    }

    /// Adds a finished cut.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn add(&mut self, finished: &Finished) -> Result<()> {
        self.line(finished)
    }

    fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_string(value)?;
        line.push('\n');
        // One write: a line is there or not, whatever becomes of this process.
        self.file
            .write_all(line.as_bytes())
            .with_context(|| format!("{} can't be written", self.path.display()))
    }
}

impl Head {
    fn measured(&self) -> Result<Vec<Clean>> {
        self.clean
            .iter()
            .map(|m| {
                let transition = Transition::ALL.into_iter().find(|t| t.name() == m.transition);
                Ok(Clean {
                    transition: transition
                        .with_context(|| format!("no transition is called {}", m.transition))?,
                    operations: m.operations,
                    takes: Duration::from_nanos(m.takes_ns),
                })
            })
            .collect()
    }
}

/// Refuses to go on with another run than the one that was begun.
fn same(path: &Path, begun: &Selection, now: &Selection) -> Result<()> {
    let shown = path.display();
    if begun.image_sha256 != now.image_sha256 {
        bail!(
            "{shown} was begun with firmware {} (image {}), this one is {} (image {}): cuts of two firmwares make no matrix. \
             Finish it with the firmware that it was begun with, or begin another file",
            begun.firmware,
            &begun.image_sha256[..12.min(begun.image_sha256.len())],
            now.firmware,
            &now.image_sha256[..12.min(now.image_sha256.len())],
        );
    }
    let all = |cuts: Option<usize>| cuts.map_or("all".to_owned(), |n| n.to_string());
    let pairs = [
        ("--seed", begun.seed.to_string(), now.seed.to_string()),
        ("--suite", begun.suite.to_string(), now.suite.to_string()),
        ("--instants", begun.instants.to_string(), now.instants.to_string()),
        ("--cuts", all(begun.cuts), all(now.cuts)),
    ];
    for (option, was, is) in pairs {
        ensure!(
            was == is,
            "{shown} was begun with {option} {was}, not {is}: use the same, or begin another file"
        );
    }
    Ok(())
}

/// Enters what an earlier run finished; the seconds it took.
pub fn enter(matrix: &mut PowerCutMatrix, all: &[crate::Case], finished: &[Finished]) -> Result<f64> {
    for f in finished {
        let case =
            all.get(f.case).with_context(|| format!("the results name case {}, of {}", f.case, all.len()))?;
        matrix.enter(case.transition.name(), &case.class(), &f.outcomes);
        matrix.casualties.extend(f.casualty.clone());
    }
    Ok(finished.iter().map(|f| f.seconds).fold(0.0, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection() -> Selection {
        Selection {
            suite: 1,
            seed: 7,
            instants: 10,
            cuts: None,
            image_sha256: "a5".repeat(32),
            firmware: "1.2.3".into(),
        }
    }

    fn finished(case: usize) -> Finished {
        let outcomes = Outcomes { kept: 1, ..Outcomes::default() };
        Finished { case, outcomes, casualty: None, seconds: case as f64 / 2.0 }
    }

    #[test]
    fn a_run_goes_on_where_it_stopped_and_half_a_line_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results");
        let clean =
            [Clean { transition: Transition::Move, operations: 174, takes: Duration::from_millis(1_234) }];
        let (mut results, earlier) = Results::open(&path, &selection()).unwrap();
        assert!(earlier.is_none());
        results.begin(&selection(), &clean).unwrap();
        results.add(&finished(3)).unwrap();
        let casualty =
            Casualty { transition: "move".into(), cut: "c".into(), seen: "s".into(), stranded: true };
        let dead = Outcomes { stranded: 1, ..Outcomes::default() };
        results.add(&Finished { outcomes: dead, casualty: Some(casualty.clone()), ..finished(1) }).unwrap();
        drop(results);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], b"{\"case\":2,\"kept\":1,"].concat()).unwrap();

        let (mut results, earlier) = Results::open(&path, &selection()).unwrap();
        let earlier = earlier.unwrap();
        assert_eq!(earlier.clean[0].operations, 174);
        assert_eq!(earlier.clean[0].takes, Duration::from_millis(1_234));
        assert_eq!(earlier.finished.iter().map(|f| f.case).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(earlier.finished[1].casualty, Some(casualty));
        results.add(&finished(2)).unwrap();
        drop(results);
        let (_, earlier) = Results::open(&path, &selection()).unwrap();
        assert_eq!(earlier.unwrap().finished.len(), 3, "the half line is gone, the next one is whole");
    }

    #[test]
    fn another_run_is_refused_and_told_which() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results");
        let (mut results, _) = Results::open(&path, &selection()).unwrap();
        results.begin(&selection(), &[]).unwrap();
        let refused = |other: Selection| Results::open(&path, &other).unwrap_err().to_string();
        let firmware =
            refused(Selection { image_sha256: "b6".repeat(32), firmware: "1.2.4".into(), ..selection() });
        assert!(
            firmware.contains("1.2.3") && firmware.contains("1.2.4") && firmware.contains("b6b6b6"),
            "{firmware}"
        );
        assert!(refused(Selection { seed: 8, ..selection() }).contains("--seed 7"));
        assert!(refused(Selection { cuts: Some(340), ..selection() }).contains("--cuts all"));
        assert!(refused(Selection { instants: 9, ..selection() }).contains("--instants 10"));
        std::fs::write(&path, "milk, eggs\n").unwrap();
        assert!(refused(selection()).contains("no file of torture results"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "milk, eggs\n", "and left alone");
        std::fs::write(&path, "milk, eggs").unwrap();
        assert!(refused(selection()).contains("no file of torture results"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "milk, eggs");
    }
}
