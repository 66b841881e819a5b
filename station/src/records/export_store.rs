//! What exports read and what they leave behind.

use super::RecordsError;
use super::sqlite::{Inner, now};
use crate::model::*;
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

/// Version of the canonical row; readers refuse what they do not know.
pub const EXPORT_SCHEMA_VERSION: u32 = 1;

/// The canonical record of one unit (or of one attempt that never learnt its unit's id), without secrets. Field names
/// are the column names of every list. `record_signature` is added by the export itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportRow {
    /// [`EXPORT_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Batch name.
    pub batch: String,
    /// Serial; empty if the unit was never identified.
    pub unit_serial: String,
    /// Hardware id, 24 hex digits; empty if never identified.
    pub mcu_uid: String,
    /// From the product order.
    pub part_number: String,
    /// From the product order.
    pub hw_revision: String,
    /// As the unit itself reported it, authenticated, with its first request; empty before.
    pub firmware_version: String,
    /// The pinned common image; empty before the first flash.
    pub firmware_sha256: String,
    /// Product order name.
    pub product_order: String,
    /// Names the live agent key; empty if there is none.
    pub agent_key_id: String,
    /// Names the live cloud key; empty if there is none.
    pub cloud_key_id: String,
    /// Region.
    pub region: u32,
    /// SHA-256 of the region certificate that the unit was given; empty before.
    pub anchor_fingerprint: String,
    /// Generation of the key record as the unit proved it; 0 before.
    pub key_generation: u32,
    /// [`UnitState`]'s word, or `unidentified`.
    pub state: String,
    /// Runs so far.
    pub attempts: u32,
    /// It passed at its first attempt.
    pub first_pass: bool,
    /// Station of the last attempt.
    pub station: String,
    /// Fixture of the last attempt.
    pub fixture: String,
    /// Operator of the last attempt.
    pub operator: String,
    /// Start of the last attempt, RFC 3339 UTC.
    pub started_at: String,
    /// End of the last attempt, RFC 3339 UTC; empty while it runs.
    pub ended_at: String,
    /// `PASS FAIL ERROR TIMEOUT ABORTED`, or empty while it runs.
    pub outcome: String,
    /// `K404` and the like; empty for a PASS.
    pub failure_code: String,
    /// RFC 3339 UTC, or empty.
    pub label_printed_at: String,
    /// The cloud identity `<uid>.<generation>` that the unit had before it was last re-provisioned, or empty.
    pub supersedes: String,
    /// Numbers of the exports that named this unit, oldest first, separated by spaces.
    pub exported_in: String,
}

impl ExportRow {
    /// The canonical columns, in order; `record_signature` follows them in every list.
    pub const COLUMNS: [&'static str; 27] = [
        "schema_version",
        "batch",
        "unit_serial",
        "mcu_uid",
        "part_number",
        "hw_revision",
        "firmware_version",
        "firmware_sha256",
        "product_order",
        "agent_key_id",
        "cloud_key_id",
        "region",
        "anchor_fingerprint",
        "key_generation",
        "state",
        "attempts",
        "first_pass",
        "station",
        "fixture",
        "operator",
        "started_at",
        "ended_at",
        "outcome",
        "failure_code",
        "label_printed_at",
        "supersedes",
        "exported_in",
    ];
}

/// A list about to be handed out.
#[derive(Clone, Debug)]
pub struct NewExport {
    /// The batch.
    pub batch: BatchId,
    /// `csv`, `jsonl`, …
    pub format: String,
    /// File name, without folders.
    pub file: String,
    /// Rows in it.
    pub rows: u32,
    /// SHA-256 of the file as it is handed out (encrypted), 64 hex digits.
    pub sha256: String,
    /// Who exported.
    pub operator: String,
    /// Fingerprints of the recipients' keys.
    pub recipients: Vec<String>,
    /// Units whose rows (and keys) it holds.
    pub units: Vec<UnitId>,
}

/// A list that was handed out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportRecord {
    /// Its number.
    pub id: i64,
    /// The batch.
    pub batch: BatchId,
    /// See [`NewExport::format`].
    pub format: String,
    /// See [`NewExport::file`].
    pub file: String,
    /// See [`NewExport::rows`].
    pub rows: u32,
    /// See [`NewExport::sha256`].
    pub sha256: String,
    /// Who exported.
    pub operator: String,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// Fingerprints of the recipients' keys.
    pub recipients: Vec<String>,
}

fn rfc3339(ms: Option<i64>) -> String {
    ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).map(|t| t.to_string()).unwrap_or_default()
}

const ROWS: &str = "
    SELECT b.name, u.serial, u.uid, p.part_number, p.hw_revision, e.firmware_version, p.image_sha256, p.name,
           (SELECT key_id FROM key_assignment WHERE unit = u.id AND purpose = 'agent' AND state = 'posted'
                   AND retired_at_ms IS NULL),
           (SELECT key_id FROM key_assignment WHERE unit = u.id AND purpose = 'cloud' AND state = 'posted'
                   AND retired_at_ms IS NULL),
           coalesce(nullif(e.region, 0), p.region), e.anchor_fingerprint, u.generation, u.state,
           (SELECT count(*) FROM attempt WHERE unit = u.id),
           (SELECT outcome FROM attempt WHERE unit = u.id ORDER BY id LIMIT 1),
           a.station, a.fixture, a.operator, a.started_at_ms, a.ended_at_ms, a.outcome, a.failure_code,
           u.label_printed_at_ms, u.supersedes,
           (SELECT group_concat(export, ' ') FROM (SELECT export FROM export_unit WHERE unit = u.id ORDER BY export))
    FROM unit u JOIN batch b ON b.id = u.batch JOIN product_order p ON p.id = b.po
    LEFT JOIN enrolment e ON e.unit = u.id
    LEFT JOIN attempt a ON a.id = (SELECT max(id) FROM attempt WHERE unit = u.id)
    WHERE u.batch = ?1 ORDER BY u.id";

const UNIDENTIFIED: &str = "
    SELECT b.name, NULL, NULL, p.part_number, p.hw_revision, NULL, p.image_sha256, p.name, NULL, NULL, p.region, NULL,
           0, 'unidentified', 1, NULL, a.station, a.fixture, a.operator, a.started_at_ms, a.ended_at_ms, a.outcome,
           a.failure_code, NULL, NULL, NULL
    FROM attempt a JOIN batch b ON b.id = a.batch JOIN product_order p ON p.id = b.po
    WHERE a.batch = ?1 AND a.unit IS NULL ORDER BY a.id";

fn row(r: &rusqlite::Row<'_>) -> rusqlite::Result<ExportRow> {
    let text = |at: usize| r.get::<_, Option<String>>(at).map(Option::unwrap_or_default);
    Ok(ExportRow {
        schema_version: EXPORT_SCHEMA_VERSION,
        batch: r.get(0)?,
        unit_serial: text(1)?,
        mcu_uid: r.get::<_, Option<[u8; 12]>>(2)?.map(hex::encode).unwrap_or_default(),
        part_number: r.get(3)?,
        hw_revision: r.get(4)?,
        firmware_version: text(5)?,
        firmware_sha256: text(6)?,
        product_order: r.get(7)?,
        agent_key_id: text(8)?,
        cloud_key_id: text(9)?,
        region: r.get(10)?,
        anchor_fingerprint: text(11)?,
        key_generation: r.get(12)?,
        state: r.get(13)?,
        attempts: r.get(14)?,
        first_pass: text(13)? == UnitState::Passed.as_str() && text(15)? == Outcome::Pass.as_str(),
        station: text(16)?,
        fixture: text(17)?,
        operator: text(18)?,
        started_at: rfc3339(r.get(19)?),
        ended_at: rfc3339(r.get(20)?),
        outcome: text(21)?,
        failure_code: r.get::<_, Option<u16>>(22)?.map(|code| format!("K{code:03}")).unwrap_or_default(),
        label_printed_at: rfc3339(r.get(23)?),
        supersedes: text(24)?,
        exported_in: text(25)?,
    })
}

impl Inner {
    pub(super) fn export_rows(&self, batch: BatchId) -> Result<Vec<ExportRow>, RecordsError> {
        self.read(|c| {
            let mut rows = Vec::new();
            for sql in [ROWS, UNIDENTIFIED] {
                for r in c.prepare_cached(sql)?.query_map([batch.0], row)? {
                    rows.push(r?);
                }
            }
            Ok(rows)
        })
    }

    pub(super) fn record_export(&self, new: NewExport) -> Result<i64, RecordsError> {
        let clock = self.clock.clone();
        self.write(move |tx| {
            let insert = |c: &Connection| -> rusqlite::Result<Result<i64, UnitId>> {
                c.prepare_cached(
                    "INSERT INTO export (batch, format, file, rows, sha256, operator, at_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute((
                    new.batch.0,
                    &new.format,
                    &new.file,
                    new.rows,
                    &new.sha256,
                    &new.operator,
                    now(&clock),
                ))?;
                let id = c.last_insert_rowid();
                for recipient in &new.recipients {
                    c.prepare_cached("INSERT OR IGNORE INTO export_recipient VALUES (?1, ?2)")?
                        .execute((id, recipient))?;
                }
                for unit in &new.units {
                    let row: Option<i64> = c
                        .prepare_cached("SELECT id FROM unit WHERE uid = ?1")?
                        .query_row([unit.0], |r| r.get(0))
                        .optional()?;
                    let Some(row) = row else { return Ok(Err(*unit)) };
                    c.prepare_cached("INSERT OR IGNORE INTO export_unit (unit, export) VALUES (?1, ?2)")?
                        .execute((row, id))?;
                }
                Ok(Ok(id))
            };
            insert(tx.connection).map_err(|e| tx.map(e))?.map_err(|unit| RecordsError::NotFound {
                what: "unit",
                name: unit.to_string(),
                list: "unit show",
            })
        })
    }

    pub(super) fn list_exports(&self, batch: BatchId) -> Result<Vec<ExportRecord>, RecordsError> {
        self.read(|c| {
            let mut exports = c
                .prepare_cached(
                    "SELECT id, format, file, rows, sha256, operator, at_ms FROM export WHERE batch = ?1 ORDER BY id",
                )?
                .query_map([batch.0], |r| {
                    Ok(ExportRecord {
                        id: r.get(0)?,
                        batch,
                        format: r.get(1)?,
                        file: r.get(2)?,
                        rows: r.get(3)?,
                        sha256: r.get(4)?,
                        operator: r.get(5)?,
                        at_ms: r.get(6)?,
                        recipients: Vec::new(),
                    })
                })?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            for export in &mut exports {
                export.recipients = c
                    .prepare_cached("SELECT fingerprint FROM export_recipient WHERE export = ?1 ORDER BY fingerprint")?
                    .query_map([export.id], |r| r.get(0))?
                    .collect::<rusqlite::Result<_>>()?;
            }
            Ok(exports)
        })
    }
}
