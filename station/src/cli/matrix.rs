//! `matrix`: the power-cut matrix that the window shows with F4.

use super::output::{Exit, Out};
use crate::matrix::{Outcomes, PowerCutMatrix};
use serde_json::json;

/// One row, and the same for scripts.
fn row(
    transition: &str,
    operations: Option<u64>,
    cut: &str,
    o: &Outcomes,
) -> (Vec<String>, serde_json::Value) {
    let numbers = [o.cuts(), o.kept, o.renewed, o.stranded, o.manual].map(|n| n.to_string());
    let operations_shown = operations.map(|n| n.to_string()).unwrap_or_default();
    let cells = [transition.to_owned(), operations_shown, cut.trim().to_owned()].into_iter().chain(numbers);
    let object = json!({
        "event": if operations.is_some() { "power-cuts" } else { "power-cuts-total" }, "transition": transition,
        "operations": operations, "cut": cut.trim(), "cuts": o.cuts(), "old_keys": o.kept, "new_keys": o.renewed,
        "stranded": o.stranded, "manual": o.manual,
    });
    (cells.collect(), object)
}

/// What was measured for this release.
pub fn run(out: Out) -> Exit {
    let matrix = PowerCutMatrix::released();
    let mut rows: Vec<_> = matrix
        .rows
        .iter()
        .flat_map(|r| r.classes.iter().map(|(cut, o)| row(&r.transition, Some(r.operations), cut, o)))
        .collect();
    let total = matrix.total();
    rows.push(row("all", None, "", &total));
    out.table(
        &["TRANSITION", "FLASH OPS", "CUT", "CUTS", "OLD KEYS", "NEW KEYS", "STRANDED", "MANUAL"],
        &rows,
    );
    out.say(
        &json!({
            "event": "power-cut-matrix", "firmware": matrix.firmware, "image_sha256": matrix.image_sha256, "seed": matrix.seed,
            "cuts": total.cuts(), "of": matrix.of,
        }),
        format_args!(
            "firmware {} ({}…), seed {}: {} of the {} cuts of a full run",
            matrix.firmware,
            matrix.image_sha256.get(..16).unwrap_or_default(),
            matrix.seed,
            total.cuts(),
            matrix.of
        ),
    );
    Exit::Pass
}
