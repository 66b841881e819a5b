//! What exports read and what they leave behind.

use super::RecordsError;
use super::sqlite::{Inner, now, refused};
use crate::failure::FailureCode;
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

/// Which units a list is of; what is not said does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportFilter {
    /// Of this batch. With a batch and nothing else the attempts that never learnt their unit are rows too.
    pub batch: Option<BatchId>,
    /// In this state.
    pub state: Option<UnitState>,
    /// Of this region.
    pub region: Option<u32>,
    /// Whose last attempt began at this moment or later, Unix milliseconds.
    pub since_ms: Option<i64>,
    /// Whose last attempt began before this moment, Unix milliseconds.
    pub until_ms: Option<i64>,
    /// Whose last attempt ended with anything but PASS (or, `false`, with PASS).
    pub failed: Option<bool>,
}

/// A row of a list that is still to be read: small, so that the rows of a million units need not be in memory at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportKey {
    /// A unit.
    Unit {
        /// Its row in the records.
        row: i64,
        /// Whether it had passed when it was chosen.
        passed: bool,
    },
    /// An attempt that never learnt its unit's id.
    Attempt(i64),
}

/// A unit in a list, and which of its keys the list gives away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandedUnit {
    /// The unit.
    pub unit: UnitId,
    /// Generation of the agent key that stands in the list; 0 = none.
    pub agent: u32,
    /// Generation of the cloud key that stands in the list, itself or as what is derived from it; 0 = none.
    pub cloud: u32,
}

/// A list about to be handed out.
#[derive(Clone, Debug, Default)]
pub struct NewExport {
    /// The batch; `None`: units of any batch.
    pub batch: Option<BatchId>,
    /// Which units, in words.
    pub selection: String,
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
    /// `none`, `plain`, `age`, `openpgp` or `password`.
    pub protection: String,
    /// Why in clear; only with `plain`.
    pub reason: String,
    /// Who receives it, for people.
    pub handed_to: String,
    /// Who stood by, not the operator; empty: nobody.
    pub second_person: String,
    /// The export that this one repeats.
    pub replaces: Option<i64>,
    /// Fingerprints of the recipients' keys.
    pub recipients: Vec<String>,
    /// Units whose rows it holds.
    pub units: Vec<HandedUnit>,
}

/// A list that was handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportRecord {
    /// Its number.
    pub id: i64,
    /// See [`NewExport::batch`].
    pub batch: Option<BatchId>,
    /// See [`NewExport::selection`].
    pub selection: String,
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
    /// See [`NewExport::protection`].
    pub protection: String,
    /// See [`NewExport::reason`].
    pub reason: String,
    /// See [`NewExport::handed_to`].
    pub handed_to: String,
    /// See [`NewExport::second_person`].
    pub second_person: String,
    /// See [`NewExport::replaces`].
    pub replaces: Option<i64>,
    /// Units of which it gave a key away.
    pub keys_of: u32,
    /// Fingerprints of the recipients' keys.
    pub recipients: Vec<String>,
    /// Whether it was revoked.
    pub revoked: Option<Revoked>,
}

/// That an export was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Which exports to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportLogFilter {
    /// Of this batch.
    pub batch: Option<BatchId>,
    /// That hold this unit.
    pub unit: Option<UnitId>,
    /// That this recipient can open: its fingerprint or the beginning of it.
    pub recipient: Option<String>,
}

/// A unit of which an export gave away a key that is still live: a candidate for new keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExposedUnit {
    /// The unit.
    pub unit: UnitId,
    /// Its serial.
    pub serial: String,
    /// Name of its batch.
    pub batch: String,
    /// The agent key is known.
    pub agent_key: bool,
    /// The cloud key (or what is derived from it) is known.
    pub cloud_key: bool,
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
           u.label_printed_at_ms, u.supersedes, $exported_in
    FROM unit u JOIN batch b ON b.id = u.batch JOIN product_order p ON p.id = b.po
    LEFT JOIN enrolment e ON e.unit = u.id
    LEFT JOIN attempt a ON a.id = (SELECT max(id) FROM attempt WHERE unit = u.id)
    WHERE ";

/// The statement, with or without the exports that named a unit before: a list has its own name there.
fn rows(exported_in: bool) -> String {
    const EXPORTED_IN: &str = "(SELECT group_concat(export, ' ') FROM (SELECT export FROM export_unit WHERE unit = u.id ORDER BY export))";
    ROWS.replace("$exported_in", if exported_in { EXPORTED_IN } else { "NULL" })
}

/// The same units, without what stands in their rows.
const KEYS: &str = "
    SELECT u.id, u.state = 'passed'
    FROM unit u JOIN batch b ON b.id = u.batch JOIN product_order p ON p.id = b.po
    LEFT JOIN enrolment e ON e.unit = u.id
    LEFT JOIN attempt a ON a.id = (SELECT max(id) FROM attempt WHERE unit = u.id)
    WHERE ";

/// Cloud keys of such units that newer ones took the place of.
const SUPERSEDED: &str = "
    SELECT u.uid, k.generation
    FROM unit u JOIN batch b ON b.id = u.batch JOIN product_order p ON p.id = b.po
    LEFT JOIN enrolment e ON e.unit = u.id
    LEFT JOIN attempt a ON a.id = (SELECT max(id) FROM attempt WHERE unit = u.id)
    JOIN key_assignment k ON k.unit = u.id AND k.purpose = 'cloud' AND k.state = 'posted' AND k.retired_at_ms IS NOT NULL
    WHERE ";

const UNIDENTIFIED: &str = "
    SELECT b.name, NULL, NULL, p.part_number, p.hw_revision, NULL, p.image_sha256, p.name, NULL, NULL, p.region, NULL,
           0, 'unidentified', 1, NULL, a.station, a.fixture, a.operator, a.started_at_ms, a.ended_at_ms, a.outcome,
           a.failure_code, NULL, NULL, NULL
    FROM attempt a JOIN batch b ON b.id = a.batch JOIN product_order p ON p.id = b.po
    WHERE ";

const OF_BATCH: &str = "a.batch = ?1 AND a.unit IS NULL ORDER BY a.id";

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

const LOG: &str = "
    SELECT e.id, e.batch, e.selection, e.format, e.file, e.rows, e.sha256, e.operator, e.at_ms, e.protection, e.reason,
           e.handed_to, e.second_person, e.replaces, e.revoked_at_ms, e.revoked_by, e.revoke_reason, e.keys_of
    FROM export e WHERE ";

fn log_row(r: &rusqlite::Row<'_>) -> rusqlite::Result<ExportRecord> {
    let revoked = match r.get::<_, Option<i64>>(14)? {
        Some(at_ms) => Some(Revoked { at_ms, by: r.get(15)?, reason: r.get(16)? }),
        None => None,
    };
    Ok(ExportRecord {
        id: r.get(0)?,
        batch: r.get::<_, Option<i64>>(1)?.map(BatchId),
        selection: r.get(2)?,
        format: r.get(3)?,
        file: r.get(4)?,
        rows: r.get(5)?,
        sha256: r.get(6)?,
        operator: r.get(7)?,
        at_ms: r.get(8)?,
        protection: r.get(9)?,
        reason: r.get(10)?,
        handed_to: r.get(11)?,
        second_person: r.get(12)?,
        replaces: r.get(13)?,
        keys_of: r.get(17)?,
        recipients: Vec::new(),
        revoked,
    })
}

/// Conditions that are joined by AND, and what stands in them.
#[derive(Default)]
struct Where {
    terms: Vec<&'static str>,
    values: Vec<rusqlite::types::Value>,
}

impl Where {
    fn and(&mut self, term: &'static str, value: impl Into<rusqlite::types::Value>) {
        self.terms.push(term);
        self.values.push(value.into());
    }

    fn sql(&self, head: &str, tail: &str) -> String {
        let terms = if self.terms.is_empty() { "1".to_owned() } else { self.terms.join(" AND ") };
        format!("{head}{terms}{tail}")
    }
}

/// The units that a filter names, and the batch whose attempts without a unit belong to it as well.
fn units_of(filter: &ExportFilter) -> (Where, Option<BatchId>) {
    let mut units = Where::default();
    if let Some(batch) = filter.batch {
        units.and("u.batch = ?", batch.0);
    }
    if let Some(state) = filter.state {
        units.and("u.state = ?", state.as_str().to_owned());
    }
    if let Some(region) = filter.region {
        units.and("coalesce(nullif(e.region, 0), p.region) = ?", i64::from(region));
    }
    if let Some(since) = filter.since_ms {
        units.and("a.started_at_ms >= ?", since);
    }
    if let Some(until) = filter.until_ms {
        units.and("a.started_at_ms < ?", until);
    }
    match filter.failed {
        Some(true) => units.and("a.outcome <> ?", Outcome::Pass.as_str().to_owned()),
        Some(false) => units.and("a.outcome = ?", Outcome::Pass.as_str().to_owned()),
        None => {}
    }
    let whole_batch =
        filter.batch.filter(|b| *filter == ExportFilter { batch: Some(*b), ..ExportFilter::default() });
    (units, whole_batch)
}

impl Inner {
    pub(super) fn export_rows(&self, filter: &ExportFilter) -> Result<Vec<ExportRow>, RecordsError> {
        let (units, whole_batch) = units_of(filter);
        self.read(|c| {
            let mut all = Vec::new();
            let mut statement = c.prepare_cached(&units.sql(&rows(true), " ORDER BY u.id"))?;
            for r in statement.query_map(rusqlite::params_from_iter(&units.values), row)? {
                all.push(r?);
            }
            if let Some(batch) = whole_batch {
                for r in c.prepare_cached(&format!("{UNIDENTIFIED}{OF_BATCH}"))?.query_map([batch.0], row)? {
                    all.push(r?);
                }
            }
            Ok(all)
        })
    }

    /// Which rows [`Inner::export_rows`] would give, as of one moment.
    pub(super) fn export_keys(&self, filter: &ExportFilter) -> Result<Vec<ExportKey>, RecordsError> {
        let (units, whole_batch) = units_of(filter);
        self.read(|c| {
            let mut keys = Vec::new();
            let mut statement = c.prepare_cached(&units.sql(KEYS, " ORDER BY u.id"))?;
            for key in statement.query_map(rusqlite::params_from_iter(&units.values), |r| {
                Ok(ExportKey::Unit { row: r.get(0)?, passed: r.get(1)? })
            })? {
                keys.push(key?);
            }
            if let Some(batch) = whole_batch {
                let mut statement =
                    c.prepare_cached(&format!("SELECT a.id FROM attempt a WHERE {OF_BATCH}"))?;
                for key in statement.query_map([batch.0], |r| Ok(ExportKey::Attempt(r.get(0)?)))? {
                    keys.push(key?);
                }
            }
            Ok(keys)
        })
    }

    /// The rows of these keys, in this order, as they are now.
    pub(super) fn export_rows_at(&self, keys: &[ExportKey]) -> Result<Vec<ExportRow>, RecordsError> {
        self.read(|c| {
            let mut unit = c.prepare_cached(&format!("{}u.id = ?1", rows(false)))?;
            let mut attempt = c.prepare_cached(&format!("{UNIDENTIFIED}a.id = ?1"))?;
            keys.iter()
                .map(|key| match key {
                    ExportKey::Unit { row: id, .. } => unit.query_row([id], row),
                    ExportKey::Attempt(id) => attempt.query_row([id], row),
                })
                .collect()
        })
    }

    /// The rows of these units, in this order; `None` for a unit that is not here.
    pub(super) fn export_rows_of(&self, units: &[UnitId]) -> Result<Vec<Option<ExportRow>>, RecordsError> {
        self.read(|c| {
            let mut statement = c.prepare_cached(&format!("{}u.uid = ?1", rows(false)))?;
            units.iter().map(|unit| statement.query_row([unit.0], row).optional()).collect()
        })
    }

    pub(super) fn provisioned_at(&self, units: &[UnitId]) -> Result<Vec<Option<i64>>, RecordsError> {
        self.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT coalesce((SELECT min(a.ended_at_ms) FROM attempt a
                                  WHERE a.unit = k.unit AND a.outcome = 'PASS' AND a.ended_at_ms >= k.at), k.at)
                 FROM (SELECT k.unit, max(k.settled_at_ms) AS at FROM key_assignment k JOIN unit u ON u.id = k.unit
                       WHERE u.uid = ?1 AND k.state = 'posted' AND k.retired_at_ms IS NULL) k",
            )?;
            units.iter().map(|unit| statement.query_row([unit.0], |r| r.get(0))).collect()
        })
    }

    pub(super) fn superseded_identities(
        &self,
        filter: &ExportFilter,
    ) -> Result<Vec<(UnitId, u32)>, RecordsError> {
        let (mut units, _) = units_of(filter);
        units.terms.push(
            "u.state = 'passed' AND EXISTS (
               SELECT 1 FROM export_unit x JOIN export l ON l.id = x.export
               WHERE x.unit = u.id AND (x.ck = k.generation OR (x.ck = 0
                 AND l.at_ms BETWEEN k.settled_at_ms AND k.retired_at_ms
                 AND NOT (l.protection = 'none' AND l.format IN ('csv', 'jsonl')))))",
        );
        self.read(|c| {
            c.prepare_cached(&units.sql(SUPERSEDED, " ORDER BY u.id, k.generation"))?
                .query_map(rusqlite::params_from_iter(&units.values), |r| Ok((UnitId(r.get(0)?), r.get(1)?)))?
                .collect()
        })
    }

    pub(super) fn record_exports(&self, exports: Vec<NewExport>) -> Result<Vec<i64>, RecordsError> {
        let clock = self.clock.clone();
        self.write(move |tx| {
            let insert = |c: &Connection, new: &NewExport| -> rusqlite::Result<Result<i64, UnitId>> {
                let keys_of = new.units.iter().filter(|u| u.agent > 0 || u.cloud > 0).count();
                let keys_of = u32::try_from(keys_of).unwrap_or(u32::MAX);
                c.prepare_cached(
                    "INSERT INTO export (batch, selection, format, file, rows, sha256, operator, at_ms, protection, reason,
                                         handed_to, second_person, replaces, keys_of)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
                )?
                .execute(rusqlite::params![
                    new.batch.map(|b| b.0),
                    new.selection,
                    new.format,
                    new.file,
                    new.rows,
                    new.sha256,
                    new.operator,
                    now(&clock),
                    new.protection,
                    new.reason,
                    new.handed_to,
                    new.second_person,
                    new.replaces,
                    keys_of,
                ])?;
                let id = c.last_insert_rowid();
                for recipient in &new.recipients {
                    c.prepare_cached("INSERT OR IGNORE INTO export_recipient VALUES (?1, ?2)")?
                        .execute((id, recipient))?;
                }
                // Two plain statements: one that reads what it writes would open a savepoint of its own for every unit.
                let mut find = c.prepare_cached("SELECT id FROM unit WHERE uid = ?1")?;
                let mut add = c.prepare_cached("INSERT INTO export_unit (unit, export, ak, ck) VALUES (?1, ?2, ?3, ?4)")?;
                for handed in &new.units {
                    let Some(unit) = find.query_row([handed.unit.0], |r| r.get::<_, i64>(0)).optional()? else {
                        return Ok(Err(handed.unit));
                    };
                    add.execute((unit, id, handed.agent, handed.cloud))?;
                }
                Ok(Ok(id))
            };
            let mut numbers = Vec::with_capacity(exports.len());
            for new in &exports {
                let number = insert(tx.connection, new).map_err(|e| tx.map(e))?;
                numbers.push(number.map_err(|unit| RecordsError::NotFound {
                    what: "unit",
                    name: unit.to_string(),
                    list: "unit show",
                })?);
            }
            Ok(numbers)
        })
    }

    /// Changes whenever the log does: how many lists, how many of them revoked.
    pub(super) fn exports_mark(&self) -> Result<(i64, i64), RecordsError> {
        self.read(|c| {
            c.prepare_cached("SELECT count(*), count(revoked_at_ms) FROM export")?
                .query_row([], |r| Ok((r.get(0)?, r.get(1)?)))
        })
    }

    pub(super) fn list_exports(&self, filter: &ExportLogFilter) -> Result<Vec<ExportRecord>, RecordsError> {
        let mut which = Where::default();
        if let Some(batch) = filter.batch {
            which.and("e.batch = ?", batch.0);
        }
        if let Some(unit) = filter.unit {
            which.and(
                "e.id IN (SELECT x.export FROM export_unit x JOIN unit u ON u.id = x.unit WHERE u.uid = ?)",
                unit.0.to_vec(),
            );
        }
        if let Some(recipient) = &filter.recipient {
            which.and(
                "e.id IN (SELECT export FROM export_recipient WHERE instr(fingerprint, ?) = 1)",
                recipient.clone(),
            );
        }
        self.read(|c| {
            let mut exports = c
                .prepare_cached(&which.sql(LOG, " ORDER BY e.id"))?
                .query_map(rusqlite::params_from_iter(&which.values), log_row)?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            for export in &mut exports {
                export.recipients = c
                    .prepare_cached(
                        "SELECT fingerprint FROM export_recipient WHERE export = ?1 ORDER BY fingerprint",
                    )?
                    .query_map([export.id], |r| r.get(0))?
                    .collect::<rusqlite::Result<_>>()?;
            }
            Ok(exports)
        })
    }

    pub(super) fn exposed_units(&self, export: i64) -> Result<Vec<ExposedUnit>, RecordsError> {
        self.read(|c| {
            c.prepare_cached(
                "SELECT u.uid, u.serial, b.name,
                        EXISTS (SELECT 1 FROM key_assignment WHERE unit = u.id AND purpose = 'agent' AND generation = x.ak
                                AND state = 'posted' AND retired_at_ms IS NULL) AS agent,
                        EXISTS (SELECT 1 FROM key_assignment WHERE unit = u.id AND purpose = 'cloud' AND generation = x.ck
                                AND state = 'posted' AND retired_at_ms IS NULL) AS cloud
                 FROM export_unit x JOIN unit u ON u.id = x.unit JOIN batch b ON b.id = u.batch
                 WHERE x.export = ?1 AND (agent OR cloud) ORDER BY u.id",
            )?
            .query_map([export], |r| {
                Ok(ExposedUnit {
                    unit: UnitId(r.get(0)?),
                    serial: r.get(1)?,
                    batch: r.get(2)?,
                    agent_key: r.get(3)?,
                    cloud_key: r.get(4)?,
                })
            })?
            .collect()
        })
    }

    pub(super) fn revoke_export(&self, id: i64, operator: &str, reason: &str) -> Result<(), RecordsError> {
        let (clock, operator, reason) = (self.clock.clone(), operator.to_owned(), reason.trim().to_owned());
        if reason.is_empty() || reason.chars().count() > 500 {
            return Err(refused(FailureCode::InvalidInput, "a reason has 1 to 500 characters"));
        }
        self.write(move |tx| {
            let revoked: Option<Option<String>> = tx
                .connection
                .prepare_cached("SELECT revoked_by FROM export WHERE id = ?1")
                .and_then(|mut s| s.query_row([id], |r| r.get(0)).optional())
                .map_err(|e| tx.map(e))?;
            match revoked {
                None => Err(RecordsError::NotFound { what: "export", name: id.to_string(), list: "export log" }),
                Some(Some(by)) => Err(refused(
                    FailureCode::InvalidInput,
                    format_args!("export {id} was revoked already, by {by}"),
                )),
                Some(None) => tx
                    .connection
                    .prepare_cached(
                        "UPDATE export SET revoked_at_ms = ?2, revoked_by = ?3, revoke_reason = ?4 WHERE id = ?1",
                    )
                    .and_then(|mut s| s.execute((id, now(&clock), &operator, &reason)))
                    .map(drop)
                    .map_err(|e| tx.map(e)),
            }
        })
    }
}
