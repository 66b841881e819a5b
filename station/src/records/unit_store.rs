//! One unit as QA reads it: all that is kept about it, as of one moment, and the units that came back from a customer (RMA).
//!
//! Invariant: no key and nothing sealed is read here; keys show as purpose, generation and fingerprint.

use super::qa_store::{Why, check_reason, run};
use super::sqlite::{
    ATTEMPT_COLUMNS, BATCH_COLUMNS, Inner, PO_COLUMNS, UNIT_COLUMNS, append_event, attempt_row, batch_row,
    now, po_row, refused, unit_and_state, unit_row,
};
use super::*;
use crate::failure::FailureCode;
use rusqlite::{Connection, OptionalExtension};
use serde_json::json;

/// The longest number of an RMA.
const NUMBER: usize = 32;
/// The longest note.
const NOTE: usize = 500;

/// A key that was made for a unit, by its fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedKey {
    /// `agent` or `cloud`.
    pub purpose: String,
    /// Its generation.
    pub generation: u32,
    /// `reserved`, `posted` or `voided`.
    pub state: String,
    /// Names the key and tells nothing of it.
    pub key_id: String,
    /// When it was reserved; Unix milliseconds.
    pub reserved_at_ms: i64,
    /// When the unit confirmed it, or when it was given up.
    pub settled_at_ms: Option<i64>,
    /// Why it was given up.
    pub void_reason: Option<String>,
    /// Since when a newer one stands in its place.
    pub retired_at_ms: Option<i64>,
}

/// That a unit was in a list that was handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitExport {
    /// Number of the export.
    pub id: i64,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// Format.
    pub format: String,
    /// File name.
    pub file: String,
    /// Who exported.
    pub operator: String,
    /// To whom.
    pub handed_to: String,
    /// How it was protected.
    pub protection: String,
    /// Generation of the agent key that it gave away; 0: none.
    pub agent_key: u32,
    /// Generation of the cloud key that it gave away; 0: none.
    pub cloud_key: u32,
    /// Since when it is revoked.
    pub revoked_at_ms: Option<i64>,
}

/// A unit that came back from a customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rma {
    /// Row.
    pub id: i64,
    /// Its number, as customer and vendor know it.
    pub number: String,
    /// What the customer says of it.
    pub reason: String,
    /// What else is to be known.
    pub note: String,
    /// Who took it back.
    pub opened_by: String,
    /// Unix milliseconds.
    pub opened_at_ms: i64,
    /// What was found; `None` while it is open.
    pub closed: Option<RmaEnd>,
}

/// How an RMA ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RmaEnd {
    /// What was found.
    pub finding: String,
    /// What else is to be known.
    pub note: String,
    /// By whom.
    pub by: String,
    /// Unix milliseconds.
    pub at_ms: i64,
}

/// A unit comes back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRma {
    /// See [`Rma::number`].
    pub number: String,
    /// See [`Rma::reason`].
    pub reason: String,
    /// See [`Rma::note`].
    pub note: String,
    /// Who takes it back.
    pub operator: String,
}

/// Everything that is kept about a unit; lists are newest first.
#[derive(Clone, Debug)]
pub struct UnitRecord {
    /// The unit.
    pub unit: Unit,
    /// Its batch.
    pub batch: Batch,
    /// Its product order.
    pub order: ProductOrder,
    /// Orders of QA.
    pub orders: Vec<Reprovision>,
    /// Attempts.
    pub attempts: Vec<Attempt>,
    /// History.
    pub events: Vec<UnitEvent>,
    /// Keys that were made for it.
    pub issued: Vec<IssuedKey>,
    /// Lists that named it.
    pub exports: Vec<UnitExport>,
    /// When it came back from customers.
    pub rmas: Vec<Rma>,
    /// Firmware version as the unit itself reported it, authenticated, with its first request.
    pub firmware: Option<String>,
    /// SHA-256 of the region certificate that it was given, hex.
    pub anchor_fingerprint: Option<String>,
    /// The region of its anchors, or of its product order before it has any.
    pub region: u32,
    /// The cloud identity that it had before its last order of QA.
    pub supersedes: Option<String>,
    /// Code on the label that was printed last.
    pub label: Option<String>,
}

impl UnitRecord {
    /// The order of QA that waits to be carried out.
    pub fn open_order(&self) -> Option<&Reprovision> {
        self.orders.iter().find(|o| o.ended_at_ms.is_none())
    }

    /// The key of a purpose (`agent`, `cloud`) that counts now.
    pub fn live_key(&self, purpose: &str) -> Option<&IssuedKey> {
        self.issued.iter().find(|k| k.purpose == purpose && k.state == "posted" && k.retired_at_ms.is_none())
    }

    /// The RMA that is open.
    pub fn open_rma(&self) -> Option<&Rma> {
        self.rmas.iter().find(|r| r.closed.is_none())
    }
}

const RMAS: &str = "SELECT id, number, reason, note, opened_by, opened_at_ms, finding, closing_note, closed_by, closed_at_ms FROM rma";

fn rma_row(r: &rusqlite::Row<'_>) -> rusqlite::Result<Rma> {
    let finding: Option<String> = r.get(6)?;
    Ok(Rma {
        id: r.get(0)?,
        number: r.get(1)?,
        reason: r.get(2)?,
        note: r.get(3)?,
        opened_by: r.get(4)?,
        opened_at_ms: r.get(5)?,
        closed: finding
            .map(|finding| {
                Ok::<_, rusqlite::Error>(RmaEnd { finding, note: r.get(7)?, by: r.get(8)?, at_ms: r.get(9)? })
            })
            .transpose()?,
    })
}

fn all<T>(
    c: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
    row: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    c.prepare_cached(sql)?.query_map(values, row)?.collect()
}

pub(super) fn check_note(note: &str) -> Result<String, RecordsError> {
    let note = note.trim();
    if note.chars().count() > NOTE || note.chars().any(char::is_control) {
        let facts = format!("a note has at most {NOTE} printable characters");
        return Err(refused(FailureCode::InvalidInput, facts));
    }
    Ok(note.to_owned())
}

fn check_number(number: &str) -> Result<String, RecordsError> {
    let number = number.trim();
    let long = number.chars().count();
    if long == 0 || long > NUMBER || number.chars().any(|c| c.is_control() || c.is_whitespace()) {
        let facts =
            format!("an RMA number has 1 to {NUMBER} printable characters and no space, got {number:?}");
        return Err(refused(FailureCode::InvalidInput, facts));
    }
    Ok(number.to_owned())
}

impl Inner {
    pub(super) fn unit_record(&self, unit: UnitId) -> Result<Option<UnitRecord>, RecordsError> {
        let session = self.session;
        self.read(|c| {
            let row = c
                .prepare_cached(
                    "SELECT u.id, e.firmware_version, e.anchor_fingerprint, u.supersedes, u.label_code, coalesce(e.region, 0)
                     FROM unit u LEFT JOIN enrolment e ON e.unit = u.id WHERE u.uid = ?1",
                )?
                .query_row([unit.0], |r| Ok((r.get::<_, i64>(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get::<_, u32>(5)?)))
                .optional()?;
            let Some((row, firmware, anchor_fingerprint, supersedes, label, region)) = row else { return Ok(None) };
            let unit_now = c
                .prepare_cached(&format!("{UNIT_COLUMNS} WHERE u.id = ?1"))?
                .query_row((row, 0, session), unit_row)?;
            let batch = c
                .prepare_cached(&format!("{BATCH_COLUMNS} WHERE id = ?1"))?
                .query_row([unit_now.batch.0], batch_row)?;
            let order =
                c.prepare_cached(&format!("{PO_COLUMNS} WHERE id = ?1"))?.query_row([batch.po.0], po_row)?;
            Ok(Some(UnitRecord {
                orders: super::qa_store::reprovisions_of(c, unit)?,
                attempts: all(
                    c,
                    &format!("{ATTEMPT_COLUMNS} WHERE a.unit = ?1 ORDER BY a.id DESC"),
                    [row],
                    attempt_row,
                )?,
                events: super::sqlite::events_of(c, unit)?,
                issued: all(
                    c,
                    "SELECT purpose, generation, state, key_id, reserved_at_ms, settled_at_ms, void_reason, retired_at_ms
                     FROM key_assignment WHERE unit = ?1 ORDER BY id DESC",
                    [row],
                    |r| {
                        Ok(IssuedKey {
                            purpose: r.get(0)?,
                            generation: r.get(1)?,
                            state: r.get(2)?,
                            key_id: r.get(3)?,
                            reserved_at_ms: r.get(4)?,
                            settled_at_ms: r.get(5)?,
                            void_reason: r.get(6)?,
                            retired_at_ms: r.get(7)?,
                        })
                    },
                )?,
                exports: all(
                    c,
                    "SELECT e.id, e.at_ms, e.format, e.file, e.operator, e.handed_to, e.protection, x.ak, x.ck, e.revoked_at_ms
                     FROM export_unit x JOIN export e ON e.id = x.export WHERE x.unit = ?1 ORDER BY e.id DESC",
                    [row],
                    |r| {
                        Ok(UnitExport {
                            id: r.get(0)?,
                            at_ms: r.get(1)?,
                            format: r.get(2)?,
                            file: r.get(3)?,
                            operator: r.get(4)?,
                            handed_to: r.get(5)?,
                            protection: r.get(6)?,
                            agent_key: r.get(7)?,
                            cloud_key: r.get(8)?,
                            revoked_at_ms: r.get(9)?,
                        })
                    },
                )?,
                rmas: all(c, &format!("{RMAS} WHERE unit = ?1 ORDER BY id DESC"), [row], rma_row)?,
                region: if region == 0 { order.region } else { region },
                unit: unit_now,
                batch,
                order,
                firmware,
                anchor_fingerprint,
                supersedes,
                label,
            }))
        })
    }

    pub(super) fn order_retest(&self, unit: UnitId, why: &Why, operator: &str) -> Result<(), RecordsError> {
        let (facts, clock) = (why.facts(operator)?, self.clock.clone());
        self.write(move |tx| {
            let (row, state) = unit_and_state(tx, unit)?;
            if state != UnitState::Passed {
                let is = format!("unit {unit} is {}, not passed", state.as_str());
                return Err(refused(FailureCode::RetestRefused, is));
            }
            append_event(tx, row, None, now(&clock), "retest-ordered", &facts)
        })
    }

    pub(super) fn open_rma(&self, unit: UnitId, new: NewRma) -> Result<Rma, RecordsError> {
        let (number, reason, note) =
            (check_number(&new.number)?, check_reason(&new.reason)?, check_note(&new.note)?);
        let clock = self.clock.clone();
        self.write(move |tx| {
            let at = now(&clock);
            let (row, _) = unit_and_state(tx, unit)?;
            let known: Vec<Rma> =
                all(tx.connection, &format!("{RMAS} WHERE unit = ?1"), [row], rma_row).map_err(|e| tx.map(e))?;
            if let Some(open) = known.iter().find(|r| r.closed.is_none()) {
                let facts = format!("unit {unit} is open under {} already", open.number);
                return Err(refused(FailureCode::RmaOpen, facts));
            }
            if let Some(before) = known.iter().find(|r| r.number.eq_ignore_ascii_case(&number)) {
                let facts = format!("unit {unit} came back under {} before", before.number);
                return Err(refused(FailureCode::NameTaken, facts));
            }
            run(
                tx,
                "INSERT INTO rma (unit, number, reason, note, opened_at_ms, opened_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                (row, &number, &reason, &note, at, &new.operator),
            )?;
            let mut detail = json!({ "number": number, "reason": reason, "operator": new.operator });
            if !note.is_empty() {
                detail["note"] = json!(note);
            }
            append_event(tx, row, None, at, "rma-opened", &detail)?;
            newest_rma(tx, row)
        })
    }

    pub(super) fn close_rma(
        &self,
        unit: UnitId,
        finding: &str,
        note: &str,
        operator: &str,
    ) -> Result<Rma, RecordsError> {
        let (finding, note) = (check_reason(finding)?, check_note(note)?);
        let (operator, clock) = (operator.to_owned(), self.clock.clone());
        self.write(move |tx| {
            let at = now(&clock);
            let (row, _) = unit_and_state(tx, unit)?;
            let number: Option<String> = tx
                .connection
                .prepare_cached(
                    "UPDATE rma SET finding = ?2, closing_note = ?3, closed_by = ?4, closed_at_ms = max(opened_at_ms, ?5)
                     WHERE unit = ?1 AND closed_at_ms IS NULL RETURNING number",
                )
                .and_then(|mut s| s.query_row((row, &finding, &note, &operator, at), |r| r.get(0)).optional())
                .map_err(|e| tx.map(e))?;
            let Some(number) = number else {
                return Err(refused(FailureCode::NoRma, format!("unit {unit}")));
            };
            let mut detail = json!({ "number": number, "finding": finding, "operator": operator });
            if !note.is_empty() {
                detail["note"] = json!(note);
            }
            append_event(tx, row, None, at, "rma-closed", &detail)?;
            newest_rma(tx, row)
        })
    }
}

fn newest_rma(tx: &super::writer::Tx<'_>, unit: i64) -> Result<Rma, RecordsError> {
    tx.connection
        .prepare_cached(&format!(
            "{RMAS} WHERE unit = ?1 ORDER BY coalesce(closed_at_ms, opened_at_ms) DESC, id DESC LIMIT 1"
        ))
        .and_then(|mut s| s.query_row([unit], rma_row))
        .map_err(|e| tx.map(e))
}

impl UnitBook for SqliteRecords {
    fn find_units(&self, query: &UnitQuery, from: u32, limit: u32) -> Result<UnitsFound, RecordsError> {
        self.0.find_units(query, from, limit)
    }

    fn unit_record(&self, unit: UnitId) -> Result<Option<UnitRecord>, RecordsError> {
        self.0.unit_record(unit)
    }

    fn order_retest(&self, unit: UnitId, why: &Why, operator: &str) -> Result<(), RecordsError> {
        self.0.order_retest(unit, why, operator)
    }

    fn open_rma(&self, unit: UnitId, new: NewRma) -> Result<Rma, RecordsError> {
        self.0.open_rma(unit, new)
    }

    fn close_rma(
        &self,
        unit: UnitId,
        finding: &str,
        note: &str,
        operator: &str,
    ) -> Result<Rma, RecordsError> {
        self.0.close_rma(unit, finding, note, operator)
    }
}
