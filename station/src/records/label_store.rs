//! What the records keep of labels: the code that was printed last, how often, and whether it was read back.

use super::sqlite::{Inner, append_event, map_error, now, refused, unit_and_state};
use super::*;
use crate::failure::FailureCode;
use rusqlite::OptionalExtension;
use serde_json::json;

/// What a unit's label says, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelFacts {
    /// The unit.
    pub unit: UnitId,
    /// Its serial.
    pub serial: String,
    /// Its batch.
    pub batch: String,
    /// Its product order.
    pub po: String,
    /// Model.
    pub model: String,
    /// Hardware revision.
    pub hw_revision: String,
    /// Part number.
    pub part_number: String,
    /// The region whose anchors it holds.
    pub region: u32,
    /// SHA-256 of the region certificate that it was given, hex; `None` before it was.
    pub anchor_fingerprint: Option<String>,
    /// Generation of the installed key record, as proved; 0 before.
    pub generation: u32,
    /// Code on the label that was printed last.
    pub printed_code: Option<String>,
    /// When; Unix milliseconds.
    pub printed_at_ms: Option<i64>,
    /// When that very label was read back.
    pub scanned_at_ms: Option<i64>,
    /// Labels printed for it, ever.
    pub prints: u32,
}

impl Inner {
    pub(super) fn label_facts(&self, unit: UnitId) -> Result<LabelFacts, RecordsError> {
        let found = self.read(|c| {
            c.prepare_cached(
                "SELECT u.serial, b.name, p.name, p.model, p.hw_revision, p.part_number,
                        coalesce(nullif(e.region, 0), p.region), e.anchor_fingerprint, u.generation, u.label_code,
                        u.label_printed_at_ms, u.label_scanned_at_ms,
                        (SELECT count(*) FROM unit_event WHERE unit = u.id AND kind IN ('label-printed', 'label-reprinted'))
                 FROM unit u JOIN batch b ON b.id = u.batch JOIN product_order p ON p.id = b.po
                 LEFT JOIN enrolment e ON e.unit = u.id WHERE u.uid = ?1",
            )?
            .query_row([unit.0], |r| {
                Ok(LabelFacts {
                    unit,
                    serial: r.get(0)?,
                    batch: r.get(1)?,
                    po: r.get(2)?,
                    model: r.get(3)?,
                    hw_revision: r.get(4)?,
                    part_number: r.get(5)?,
                    region: r.get(6)?,
                    anchor_fingerprint: r.get(7)?,
                    generation: r.get(8)?,
                    printed_code: r.get(9)?,
                    printed_at_ms: r.get(10)?,
                    scanned_at_ms: r.get(11)?,
                    prints: r.get(12)?,
                })
            })
            .optional()
        })?;
        found.ok_or_else(|| self.missing("unit", unit, "unit show"))
    }

    /// A label came out of the printer. Whatever was read back before was another label.
    pub(super) fn label_printed(
        &self,
        unit: UnitId,
        attempt: Option<AttemptId>,
        code: &str,
        operator: &str,
    ) -> Result<u32, RecordsError> {
        let (code, operator, clock) = (code.to_owned(), operator.to_owned(), self.clock.clone());
        self.write(move |tx| {
            let at = now(&clock);
            let (row, _) = unit_and_state(tx, unit)?;
            let before: u32 = tx
                .connection
                .prepare_cached(
                    "SELECT count(*) FROM unit_event WHERE unit = ?1 AND kind IN ('label-printed', 'label-reprinted')",
                )
                .and_then(|mut s| s.query_row([row], |r| r.get(0)))
                .map_err(|e| tx.map(e))?;
            tx.connection
                .prepare_cached(
                    "UPDATE unit SET label_printed_at_ms = ?2, label_code = ?3, label_scanned_at_ms = NULL WHERE id = ?1",
                )
                .and_then(|mut s| s.execute((row, at, &code)))
                .map_err(|e| map_error(tx.path, e))?;
            let kind = if before == 0 { "label-printed" } else { "label-reprinted" };
            let detail = json!({ "code": code, "operator": operator, "labels": before + 1 });
            append_event(tx, row, attempt.map(|a| a.0), at, kind, &detail)?;
            Ok(before + 1)
        })
    }

    /// The label was read back. Another code than the printed one is refused, and nothing changes.
    pub(super) fn label_scanned(
        &self,
        unit: UnitId,
        attempt: Option<AttemptId>,
        code: &str,
        operator: &str,
    ) -> Result<(), RecordsError> {
        let (code, operator, clock) = (code.to_owned(), operator.to_owned(), self.clock.clone());
        self.write(move |tx| {
            let at = now(&clock);
            let (row, _) = unit_and_state(tx, unit)?;
            let changed = tx
                .connection
                .prepare_cached("UPDATE unit SET label_scanned_at_ms = ?2 WHERE id = ?1 AND label_code = ?3")
                .and_then(|mut s| s.execute((row, at, &code)))
                .map_err(|e| tx.map(e))?;
            if changed == 0 {
                let facts = format!("unit {unit}: no label with the code {code} was printed for it");
                return Err(refused(FailureCode::LabelMismatch, facts));
            }
            let detail = json!({ "code": code, "operator": operator });
            append_event(tx, row, attempt.map(|a| a.0), at, "label-scanned", &detail)
        })
    }

    /// What the order wants of the label is done, or the unit does not pass.
    pub(super) fn check_label(&self, unit: UnitId, policy: LabelPolicy) -> Result<(), RecordsError> {
        if policy == LabelPolicy::None {
            return Ok(());
        }
        let facts = self.label_facts(unit)?;
        if facts.printed_at_ms.is_none() {
            return Err(refused(FailureCode::PrintFailed, format!("unit {} has no label", facts.serial)));
        }
        if policy == LabelPolicy::ScanBack && facts.scanned_at_ms.is_none() {
            let facts = format!("the label of unit {} was not read back", facts.serial);
            return Err(refused(FailureCode::ScanMissing, facts));
        }
        Ok(())
    }
}
