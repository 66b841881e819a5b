//! Labels by hand, beside the line: printed again, and compared with a unit that somebody holds.
//!
//! A new print makes the old reading void, here as on the line. What is read back here counts as on the line: the person says which unit
//! it is, the label says which unit it was made for, and the record of the unit says what must stand on it.

use super::{LabelCode, Printer, code_of, compare};
use crate::failure::{Failure, FailureCode};
use crate::model::{Unit, UnitState};
use crate::records::{LabelFacts, Records};
use crate::station::{now_ms, records_failure};
use serde_json::json;

/// A unit that never comes back gets no label that could be stuck on another one. One in quarantine does: it has to be told from its
/// neighbours for as long as it waits.
fn not_scrapped(unit: &Unit) -> Result<(), Failure> {
    match unit.state {
        UnitState::Scrapped => Err(Failure {
            code: FailureCode::Scrapped,
            sentence: format!("Unit {} was scrapped, so it gets no label", unit.serial),
            remedy: "Destroy the labels that are left of it".into(),
        }),
        _ => Ok(()),
    }
}

/// Prints a unit's label, again if it had one; how many there were.
///
/// # Errors
/// `Scrapped`, those of the printer and of the records. What did not come out of the printer is written down nowhere.
pub fn print(
    records: &dyn Records,
    printer: &Printer,
    unit: &Unit,
    operator: &str,
) -> Result<(LabelCode, u32), Failure> {
    not_scrapped(unit)?;
    let facts = records.label_facts(unit.id).map_err(records_failure)?;
    let code = code_of(&facts)?;
    printer.print(&facts, operator, now_ms())?;
    let labels =
        records.label_printed(unit.id, None, &code.to_string(), operator).map_err(records_failure)?;
    Ok((code, labels))
}

/// Compares what was read from the label of this unit with its record, and writes down that it was read back.
///
/// # Errors
/// `LabelUnreadable`; `Scrapped`; `LabelMismatch`, which stands in the unit's history, and the reading that there was stays; those of the
/// records.
pub fn read_back(
    records: &dyn Records,
    unit: &Unit,
    text: &str,
    operator: &str,
) -> Result<LabelFacts, Failure> {
    let read: LabelCode = text.parse().map_err(|e| Failure::new(FailureCode::LabelUnreadable, e))?;
    not_scrapped(unit)?;
    let code = code_of(&records.label_facts(unit.id).map_err(records_failure)?)?;
    if let Err(failure) = compare(&read, &code) {
        let detail = json!({ "read": read.to_string(), "expected": code.to_string(), "operator": operator });
        records.unit_event(unit.id, None, "label-mismatch", detail, None).map_err(records_failure)?;
        return Err(failure);
    }
    records.label_scanned(unit.id, None, &code.to_string(), operator).map_err(records_failure)?;
    records.label_facts(unit.id).map_err(records_failure)
}

/// Whether the label that was printed last still waits for being read back.
pub const fn waits(facts: &LabelFacts) -> bool {
    facts.printed_at_ms.is_some() && facts.scanned_at_ms.is_none()
}
