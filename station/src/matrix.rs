//! The power-cut matrix: what came of cutting a unit's power at each moment of each transition.
//!
//! `cargo xtask torture` measures it on the real firmware binary and writes `target/power-cut-matrix.json`; the last run is
//! kept with the program, for people who ask what a power cut can do. How it is judged: `docs/reliability.md`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The last run that was kept; `docs/reliability.md` says how much of a full one it is.
const RELEASED: &str = include_str!("../../assets/power-cut-matrix.json");

/// What came of the cuts of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// Recovered by itself with the keys it had before; the update is asked for again.
    pub kept: u32,
    /// Recovered by itself with the new keys.
    pub renewed: u32,
    /// No key of it was accepted any more.
    pub stranded: u32,
    /// It has an accepted key and yet needs a person.
    pub manual: u32,
}

impl Outcomes {
    /// Cuts in all.
    pub const fn cuts(&self) -> u32 {
        self.kept + self.renewed + self.stranded + self.manual
    }

    /// Adds the outcomes of another run.
    pub const fn add(&mut self, other: &Self) {
        self.kept += other.kept;
        self.renewed += other.renewed;
        self.stranded += other.stranded;
        self.manual += other.manual;
    }
}

/// One transition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// `enrol`, `agent-key`, …
    pub transition: String,
    /// Flash operations of a run without a cut: words programmed and sectors erased.
    pub operations: u64,
    /// By class of cut: `boundary`, `5 %` … `95 %`, `instant`, `in recovery`.
    pub classes: BTreeMap<String, Outcomes>,
}

/// A unit that was not well afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Casualty {
    /// The transition.
    pub transition: String,
    /// Where it was cut.
    pub cut: String,
    /// What was seen.
    pub seen: String,
    /// It had no accepted key.
    pub stranded: bool,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PowerCutMatrix {
    /// Everything follows from it.
    pub seed: u64,
    /// SHA-256 of the common image that was cut.
    pub image_sha256: String,
    /// Its version.
    pub firmware: String,
    /// The rows.
    pub rows: Vec<Row>,
    /// Units that were not well.
    pub casualties: Vec<Casualty>,
    /// Seconds it took.
    pub seconds: f64,
    /// Cuts of a full run of this firmware. A selection, or a run that was stopped, holds fewer.
    #[serde(default)]
    pub of: u32,
}

impl PowerCutMatrix {
    /// The last run that was kept with the program.
    ///
    /// # Panics
    /// Never: a test reads it.
    pub fn released() -> Self {
        serde_json::from_str(RELEASED).unwrap_or_default()
    }

    /// Everything in one line.
    pub fn total(&self) -> Outcomes {
        let mut total = Outcomes::default();
        self.rows.iter().flat_map(|row| row.classes.values()).for_each(|outcomes| total.add(outcomes));
        total
    }

    /// Enters one cut.
    pub fn enter(&mut self, transition: &str, class: &str, outcomes: &Outcomes) {
        let at = self.rows.iter().position(|row| row.transition == transition).unwrap_or_else(|| {
            self.rows.push(Row { transition: transition.to_owned(), ..Row::default() });
            self.rows.len() - 1
        });
        self.rows[at].classes.entry(class.to_owned()).or_default().add(outcomes);
    }

    /// A table for people: transition × class of cut × outcome.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<12} {:>6}  {:<12} {:>6} {:>9} {:>9} {:>9} {:>7}\n",
            "transition", "ops", "cut", "cuts", "old keys", "new keys", "stranded", "manual"
        );
        for row in &self.rows {
            for (class, o) in &row.classes {
                let _ = writeln!(
                    text,
                    "{:<12} {:>6}  {:<12} {:>6} {:>9} {:>9} {:>9} {:>7}",
                    row.transition,
                    row.operations,
                    class,
                    o.cuts(),
                    o.kept,
                    o.renewed,
                    o.stranded,
                    o.manual
                );
            }
        }
        let total = self.total();
        let _ = writeln!(
            text,
            "{:<12} {:>6}  {:<12} {:>6} {:>9} {:>9} {:>9} {:>7}",
            "all",
            "",
            "",
            total.cuts(),
            total.kept,
            total.renewed,
            total.stranded,
            total.manual
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_released_matrix_reads_and_nobody_was_stranded() {
        let matrix: PowerCutMatrix = serde_json::from_str(RELEASED).unwrap();
        let total = matrix.total();
        assert!((1_000..=matrix.of).contains(&total.cuts()), "{total:?} of {}", matrix.of);
        assert_eq!((total.stranded, total.manual, matrix.casualties.len()), (0, 0, 0));
        assert!(matrix.rows.len() >= 6 && matrix.table().lines().count() > matrix.rows.len());
    }

    #[test]
    fn outcomes_add_up() {
        let mut matrix = PowerCutMatrix::default();
        matrix.enter("agent-key", "5 %", &Outcomes { kept: 1, ..Outcomes::default() });
        matrix.enter("agent-key", "5 %", &Outcomes { renewed: 1, ..Outcomes::default() });
        matrix.enter("move", "boundary", &Outcomes { stranded: 1, ..Outcomes::default() });
        assert_eq!(matrix.total(), Outcomes { kept: 1, renewed: 1, stranded: 1, manual: 0 });
        assert_eq!(matrix.rows[0].classes["5 %"].cuts(), 2);
    }
}
