//! What the agent keeps: enrolments, pending exchanges, staged records, identities.
//!
//! The agent decides (`crate::agent`); this file stores what it decided, each decision in one transaction, and holds
//! what only a transaction can: quotas across units.

use super::qa_store::{alarm, watch_rate};
use super::sqlite::{
    Inner, append_event, assignment_seal, batch_state, now, pending_seal, refused, set_state, staged_seal,
    unit_and_state,
};
use super::writer::Tx;
use super::*;
use crate::failure::FailureCode;
use rusqlite::OptionalExtension;
use serde_json::json;
use std::sync::MutexGuard;
use zeroize::Zeroizing;

/// Pending exchanges of one unit and purpose at most (PROTOCOL §4).
pub(crate) const MAX_PENDING: usize = 4;

/// What the agent knows of one unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct EnrolmentRow {
    pub po: i64,
    pub active: bool,
    pub dik_pub: Option<[u8; 32]>,
    pub ak_cur: u32,
    pub ak_next: u32,
    pub ak_highest: u32,
    pub ck_active: u32,
    pub ck_staged: u32,
    pub ck_highest: u32,
    /// The staged generation that is being withdrawn: noted here before its platform is asked.
    pub ck_evicted: u32,
    pub record_sealed: Option<Vec<u8>>,
    /// URLs of platforms; empty = the order's (`cloud`) or none (the others).
    pub cloud: String,
    pub cloud_staged: String,
    pub cloud_wanted: String,
    pub cloud_leaving: String,
    pub ck_leaving: u32,
    /// Regions of the active record, the staged one and the next; 0 = the order's, none, and as it is.
    pub region: u32,
    pub region_staged: u32,
    pub region_wanted: u32,
}

/// One exchange that may still be asked about.
#[derive(Clone, Debug)]
pub(crate) struct PendingRow {
    pub id: i64,
    pub purpose: u8,
    pub suite: u8,
    pub kc: [u8; 16],
    pub generation: u32,
    pub h_frame1: [u8; 32],
    pub th2: [u8; 32],
    pub n2_sealed: Vec<u8>,
    pub dik_pub: Option<[u8; 32]>,
    pub record: Option<[u8; 32]>,
    pub confirmed: bool,
}

/// One snapshot of everything a frame of one unit depends on.
#[derive(Clone, Debug)]
pub(crate) struct AgentView {
    pub state: UnitState,
    pub batch: BatchId,
    pub batch_state: BatchState,
    pub po: PoId,
    pub enrolment: Option<EnrolmentRow>,
    pub pending: Vec<PendingRow>,
}

/// A new agent key and the exchange that brings it.
pub(crate) struct IssueAgentKey {
    pub unit: UnitId,
    pub attempt: Option<AttemptId>,
    pub po: PoId,
    pub pending: NewPending,
    pub key_id: String,
    pub key_sealed: Vec<u8>,
    pub firmware: String,
}

/// The exchange of a key that was issued.
pub(crate) struct NewPending {
    pub purpose: u8,
    pub suite: u8,
    pub kc: [u8; 16],
    pub generation: u32,
    pub h_frame1: [u8; 32],
    pub th2: [u8; 32],
    pub n2_sealed: Vec<u8>,
    pub dik_pub: Option<[u8; 32]>,
    pub record: Option<[u8; 32]>,
    pub frame2: Vec<u8>,
}

/// A cloud key reserved for staging.
pub(crate) struct StageCloudKey {
    pub unit: UnitId,
    pub attempt: Option<AttemptId>,
    pub generation: u32,
    pub key_id: String,
    pub key_sealed: Vec<u8>,
    pub record_sealed: Vec<u8>,
    pub anchor_fingerprint: String,
    /// URL of the platform it is staged at.
    pub cloud: String,
    /// Region of the anchors in it.
    pub region: u32,
}

/// An authentic message 3: what it confirms.
pub(crate) struct ConfirmKey {
    pub unit: UnitId,
    pub attempt: Option<AttemptId>,
    pub pending: i64,
    pub purpose: u8,
    pub generation: u32,
    pub dik_pub: Option<[u8; 32]>,
}

fn delete_pending(tx: &Tx<'_>, id: i64) -> Result<(), RecordsError> {
    tx.connection
        .prepare_cached("DELETE FROM pending WHERE id = ?1")
        .and_then(|mut s| s.execute([id]))
        .map(|_| ())
        .map_err(|e| tx.map(e))
}

fn void(
    tx: &Tx<'_>,
    unit: i64,
    purpose: &str,
    generation: u32,
    at: i64,
    reason: &str,
) -> Result<bool, RecordsError> {
    tx.connection
        .prepare_cached(
            "UPDATE key_assignment SET state = 'voided', settled_at_ms = ?4, void_reason = ?5
             WHERE unit = ?1 AND purpose = ?2 AND generation = ?3 AND state = 'reserved'",
        )
        .and_then(|mut s| s.execute((unit, purpose, generation, at, reason)))
        .map(|n| n > 0)
        .map_err(|e| tx.map(e))
}

/// Posts a reserved key; the key that was live until now is retired in the same step, so there is never a second one.
fn post(tx: &Tx<'_>, unit: i64, purpose: &str, generation: u32, at: i64) -> Result<(), RecordsError> {
    let map = |e| tx.map(e);
    tx.connection
        .prepare_cached(
            "UPDATE key_assignment SET retired_at_ms = ?4 WHERE unit = ?1 AND purpose = ?2 AND generation <> ?3
             AND state = 'posted' AND retired_at_ms IS NULL",
        )
        .and_then(|mut s| s.execute((unit, purpose, generation, at)))
        .map_err(map)?;
    let posted = tx
        .connection
        .prepare_cached(
            "UPDATE key_assignment SET state = 'posted', settled_at_ms = coalesce(settled_at_ms, ?4)
             WHERE unit = ?1 AND purpose = ?2 AND generation = ?3 AND state IN ('reserved', 'posted')",
        )
        .and_then(|mut s| s.execute((unit, purpose, generation, at)))
        .map_err(map)?;
    if posted == 1 {
        Ok(())
    } else {
        Err(RecordsError::Corrupt {
            path: tx.path.into(),
            detail: format!("the {purpose} key {generation} that the unit confirms was never reserved"),
        })
    }
}

fn insert_assignment(
    tx: &Tx<'_>,
    unit: i64,
    purpose: &str,
    generation: u32,
    key: (&str, &[u8]),
    at: i64,
) -> Result<(), RecordsError> {
    tx.connection
        .prepare_cached(
            "INSERT INTO key_assignment (unit, purpose, generation, state, key_id, key_sealed, reserved_at_ms)
             VALUES (?1, ?2, ?3, 'reserved', ?4, ?5, ?6)",
        )
        .and_then(|mut s| s.execute((unit, purpose, generation, key.0, key.1, at)))
        .map(|_| ())
        .map_err(|e| tx.map(e))
}

fn insert_pending(tx: &Tx<'_>, unit: i64, new: &NewPending) -> Result<(), RecordsError> {
    tx.connection
        .prepare_cached(
            "INSERT INTO pending (unit, purpose, suite, kc, generation, h_frame1, th2, n2_sealed, dik_pub, record,
                                  frame2, state)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 'pending')",
        )
        .and_then(|mut s| {
            s.execute(rusqlite::params![
                unit,
                new.purpose,
                new.suite,
                new.kc,
                new.generation,
                new.h_frame1,
                new.th2,
                new.n2_sealed,
                new.dik_pub,
                new.record,
                new.frame2
            ])
        })
        .map(|_| ())
        .map_err(|e| tx.map(e))
}

/// Makes room for one more pending exchange of an agent key: the oldest goes, and its key is voided. Exchanges of a cloud key
/// share their key and go together ([`Inner::void_cloud_key`]).
fn evict(
    tx: &mut Tx<'_>,
    unit: i64,
    attempt: Option<AttemptId>,
    purpose: u8,
    at: i64,
) -> Result<(), RecordsError> {
    let pending: Vec<(i64, u32)> = tx
        .connection
        .prepare_cached(
            "SELECT id, generation FROM pending WHERE unit = ?1 AND purpose = ?2 AND state = 'pending' ORDER BY id",
        )
        .and_then(|mut s| {
            s.query_map((unit, purpose), |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<rusqlite::Result<_>>()
        })
        .map_err(|e| tx.map(e))?;
    let surplus = (pending.len() + 1).saturating_sub(MAX_PENDING);
    for (id, generation) in pending.into_iter().take(surplus) {
        delete_pending(tx, id)?;
        if void(tx, unit, "agent", generation, at, "evicted")? {
            let detail = json!({ "generation": generation, "reason": "evicted" });
            append_event(tx, unit, attempt.map(|a| a.0), at, "agent-key-voided", &detail)?;
        }
    }
    Ok(())
}

fn touched(changed: rusqlite::Result<usize>, tx: &Tx<'_>) -> Result<(), RecordsError> {
    changed.map(|_| ()).map_err(|e| tx.map(e))
}

impl Inner {
    /// Everything a frame of this unit depends on, in one snapshot; `None` for a unit that never arrived.
    pub(crate) fn agent_view(&self, unit: UnitId) -> Result<Option<AgentView>, RecordsError> {
        self.read(|c| {
            let head = c
                .prepare_cached(
                    "SELECT u.id, u.state, b.id, b.state, b.po, e.po, e.state, e.dik_pub, e.ak_cur, e.ak_next,
                            e.ak_highest, e.ck_active, e.ck_staged, e.ck_highest, e.record_sealed, e.ck_evicted,
                            e.cloud, e.cloud_staged, e.cloud_wanted, e.cloud_leaving, e.ck_leaving, e.region, e.region_staged,
                            e.region_wanted
                     FROM unit u JOIN batch b ON b.id = u.batch LEFT JOIN enrolment e ON e.unit = u.id
                     WHERE u.uid = ?1",
                )?
                .query_row([unit.0], |r| {
                    let state: UnitState = r.get::<_, String>(1)?.parse().map_err(|e: String| {
                        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, e.into())
                    })?;
                    let enrolment = match r.get::<_, Option<i64>>(5)? {
                        None => None,
                        Some(po) => Some(EnrolmentRow {
                            po,
                            active: r.get::<_, String>(6)? == "active",
                            dik_pub: r.get(7)?,
                            ak_cur: r.get(8)?,
                            ak_next: r.get(9)?,
                            ak_highest: r.get(10)?,
                            ck_active: r.get(11)?,
                            ck_staged: r.get(12)?,
                            ck_highest: r.get(13)?,
                            record_sealed: r.get(14)?,
                            cloud: r.get(16)?,
                            cloud_staged: r.get(17)?,
                            cloud_wanted: r.get(18)?,
                            cloud_leaving: r.get(19)?,
                            ck_leaving: r.get(20)?,
                            ck_evicted: r.get(15)?,
                            region: r.get(21)?,
                            region_staged: r.get(22)?,
                            region_wanted: r.get(23)?,
                        }),
                    };
                    Ok((
                        r.get::<_, i64>(0)?,
                        AgentView {
                            state,
                            batch: BatchId(r.get(2)?),
                            batch_state: batch_state(&r.get::<_, String>(3)?, 3)?,
                            po: PoId(r.get(4)?),
                            enrolment,
                            pending: Vec::new(),
                        },
                    ))
                })
                .optional()?;
            let Some((row, mut view)) = head else { return Ok(None) };
            if view.enrolment.is_some() {
                view.pending = c
                    .prepare_cached(
                        "SELECT id, purpose, suite, kc, generation, h_frame1, th2, n2_sealed, dik_pub, record,
                                state = 'confirmed' FROM pending WHERE unit = ?1 ORDER BY id",
                    )?
                    .query_map([row], |r| {
                        Ok(PendingRow {
                            id: r.get(0)?,
                            purpose: r.get(1)?,
                            suite: r.get(2)?,
                            kc: r.get(3)?,
                            generation: r.get(4)?,
                            h_frame1: r.get(5)?,
                            th2: r.get(6)?,
                            n2_sealed: r.get(7)?,
                            dik_pub: r.get(8)?,
                            record: r.get(9)?,
                            confirmed: r.get(10)?,
                        })
                    })?
                    .collect::<rusqlite::Result<_>>()?;
            }
            Ok(Some(view))
        })
    }

    /// The cached message 2 of an exchange.
    pub(crate) fn cached_frame2(&self, pending: i64) -> Result<Vec<u8>, RecordsError> {
        self.read(|c| {
            c.prepare_cached("SELECT frame2 FROM pending WHERE id = ?1")?.query_row([pending], |r| r.get(0))
        })
    }

    /// Reserves an agent key and keeps its exchange. The first key of a unit counts against batch and order.
    pub(crate) fn issue_agent_key(&self, new: IssueAgentKey) -> Result<(), RecordsError> {
        let clock = self.clock.clone();
        self.write(move |tx| {
            let at = now(&clock);
            let (unit, _) = unit_and_state(tx, new.unit)?;
            let known = tx
                .connection
                .prepare_cached("UPDATE enrolment SET ak_highest = ?2, firmware_version = ?3 WHERE unit = ?1")
                .and_then(|mut s| s.execute((unit, new.pending.generation, &new.firmware)))
                .map_err(|e| tx.map(e))?;
            if known == 0 {
                let (name, enrolled, quantity, po_enrolled, po_quantity): (String, i64, i64, i64, i64) = tx
                    .connection
                    .prepare_cached(
                        "SELECT b.name, b.enrolled, b.quantity, (SELECT sum(enrolled) FROM batch WHERE po = b.po),
                                (SELECT quantity FROM product_order WHERE id = b.po)
                         FROM batch b JOIN unit u ON u.batch = b.id WHERE u.id = ?1",
                    )
                    .and_then(|mut s| {
                        s.query_row([unit], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?)))
                    })
                    .map_err(|e| tx.map(e))?;
                if enrolled >= quantity || po_enrolled >= po_quantity {
                    return Err(refused(
                        FailureCode::QuotaReached,
                        format!(
                            "batch {name} has {enrolled} of {quantity} units enrolled, its order {po_enrolled} of {po_quantity}"
                        ),
                    ));
                }
                touched(
                    tx.connection
                        .prepare_cached(
                            "INSERT INTO enrolment (unit, po, state, ak_highest, firmware_version, enrolled_at_ms)
                             VALUES (?1, ?2, 'pending', ?3, ?4, ?5)",
                        )
                        .and_then(|mut s| {
                            s.execute((unit, new.po.0, new.pending.generation, &new.firmware, at))
                        }),
                    tx,
                )?;
                watch_rate(tx, new.po, at)?;
            } else {
                evict(tx, unit, new.attempt, new.pending.purpose, at)?;
            }
            insert_assignment(
                tx,
                unit,
                "agent",
                new.pending.generation,
                (&new.key_id, &new.key_sealed),
                at,
            )?;
            insert_pending(tx, unit, &new.pending)?;
            let detail = json!({
                "generation": new.pending.generation, "suite": new.pending.suite, "key_id": new.key_id,
            });
            append_event(tx, unit, new.attempt.map(|a| a.0), at, "agent-key-issued", &detail)
        })
    }

    /// A unit confirmed its agent key: it is live, the exchanges it did not take are over.
    pub(crate) fn confirm_agent_key(&self, confirm: ConfirmKey) -> Result<(), RecordsError> {
        let clock = self.clock.clone();
        self.write(move |tx| {
            let at = now(&clock);
            let attempt = confirm.attempt.map(|a| a.0);
            let (unit, state) = unit_and_state(tx, confirm.unit)?;
            // Exchanges the unit did not take, and the confirmed one before: only the newest may be asked about again.
            let over: Vec<(i64, u32, bool)> = tx
                .connection
                .prepare_cached(
                    "SELECT id, generation, state = 'pending' FROM pending WHERE unit = ?1 AND purpose = ?2 AND id <> ?3",
                )
                .and_then(|mut s| {
                    s.query_map((unit, confirm.purpose, confirm.pending), |r| {
                        Ok((r.get(0)?, r.get(1)?, r.get(2)?))
                    })?
                    .collect::<rusqlite::Result<_>>()
                })
                .map_err(|e| tx.map(e))?;
            for (id, generation, waits) in over {
                delete_pending(tx, id)?;
                if waits && void(tx, unit, "agent", generation, at, "not taken")? {
                    let detail = json!({ "generation": generation, "reason": "not taken" });
                    append_event(tx, unit, attempt, at, "agent-key-voided", &detail)?;
                }
            }
            post(tx, unit, "agent", confirm.generation, at)?;
            touched(
                tx.connection
                    .prepare_cached("UPDATE pending SET state = 'confirmed' WHERE id = ?1")
                    .and_then(|mut s| s.execute([confirm.pending])),
                tx,
            )?;
            // INIT starts over: its key is the only one. An update keeps the old one until the new one is used.
            let sql = if confirm.purpose == 1 {
                "UPDATE enrolment SET state = 'active', ak_cur = ?2, ak_next = 0, dik_pub = coalesce(?3, dik_pub)
                 WHERE unit = ?1"
            } else {
                "UPDATE enrolment SET ak_next = ?2, dik_pub = coalesce(?3, dik_pub) WHERE unit = ?1"
            };
            touched(
                tx.connection
                    .prepare_cached(sql)
                    .and_then(|mut s| s.execute((unit, confirm.generation, confirm.dik_pub))),
                tx,
            )?;
            if matches!(state, UnitState::Arrived | UnitState::Flashing | UnitState::StageOne) {
                set_state(tx, unit, UnitState::AgentKey)?;
            }
            append_event(tx, unit, attempt, at, "agent-key-active", &json!({ "generation": confirm.generation }))
        })
    }

    /// A message under the next agent key arrived: the old one is no longer accepted (PROTOCOL §4 A3).
    pub(crate) fn promote_agent_key(
        &self,
        unit: UnitId,
        attempt: Option<AttemptId>,
    ) -> Result<(), RecordsError> {
        let clock = self.clock.clone();
        self.write(move |tx| {
            let (unit, _) = unit_and_state(tx, unit)?;
            touched(
                tx.connection
                    .prepare_cached(
                        "UPDATE enrolment SET ak_cur = ak_next, ak_next = 0 WHERE unit = ?1 AND ak_next > 0",
                    )
                    .and_then(|mut s| s.execute([unit])),
                tx,
            )?;
            append_event(tx, unit, attempt.map(|a| a.0), now(&clock), "agent-key-in-use", &json!({}))
        })
    }

    /// Reserves a cloud key and its record before the cloud hears of it.
    pub(crate) fn stage_cloud_key(&self, new: StageCloudKey) -> Result<(), RecordsError> {
        let clock = self.clock.clone();
        self.write(move |tx| {
            let at = now(&clock);
            let (unit, _) = unit_and_state(tx, new.unit)?;
            insert_assignment(tx, unit, "cloud", new.generation, (&new.key_id, &new.key_sealed), at)?;
            let staged = tx
                .connection
                .prepare_cached(
                    "UPDATE enrolment SET ck_staged = ?2, ck_highest = ?2, record_sealed = ?3, anchor_fingerprint = ?4,
                                          cloud_staged = ?5, cloud_wanted = '', region_staged = ?6, region_wanted = 0
                     WHERE unit = ?1 AND ck_staged = 0 AND ck_highest < ?2",
                )
                .and_then(|mut s| {
                    s.execute((
                        unit,
                        new.generation,
                        &new.record_sealed,
                        &new.anchor_fingerprint,
                        &new.cloud,
                        new.region,
                    ))
                })
                .map_err(|e| tx.map(e))?;
            if staged != 1 {
                return Err(RecordsError::Other {
                    path: tx.path.into(),
                    detail: format!("unit {} has a staged cloud key already", new.unit),
                });
            }
            // What waited for the active generation's message 3 was overtaken by a login: it waits no more, and is answered.
            touched(
                tx.connection
                    .prepare_cached(
                        "UPDATE pending SET state = 'confirmed' WHERE unit = ?1 AND purpose = 3 AND generation < ?2",
                    )
                    .and_then(|mut s| s.execute((unit, new.generation))),
                tx,
            )?;
            let detail = json!({ "generation": new.generation, "key_id": new.key_id });
            append_event(tx, unit, new.attempt.map(|a| a.0), at, "cloud-key-reserved", &detail)
        })
    }

    /// Notes that the staged cloud key is to be withdrawn, before its platform hears of it.
    pub(crate) fn begin_withdrawal(&self, unit: UnitId, generation: u32) -> Result<(), RecordsError> {
        self.write(move |tx| {
            let (unit, _) = unit_and_state(tx, unit)?;
            touched(
                tx.connection
                    .prepare_cached("UPDATE enrolment SET ck_evicted = ?2 WHERE unit = ?1 AND ck_staged = ?2")
                    .and_then(|mut s| s.execute((unit, generation))),
                tx,
            )
        })
    }

    /// The platform has withdrawn the staged cloud key: it is void, and so are its exchanges. Where it was to take the unit
    /// is wanted again.
    pub(crate) fn void_cloud_key(
        &self,
        unit: UnitId,
        attempt: Option<AttemptId>,
        generation: u32,
        (cloud, region): (&str, u32),
    ) -> Result<(), RecordsError> {
        let (clock, cloud) = (self.clock.clone(), cloud.to_owned());
        self.write(move |tx| {
            let at = now(&clock);
            let (unit, _) = unit_and_state(tx, unit)?;
            touched(
                tx.connection
                    .prepare_cached(
                        "UPDATE enrolment SET ck_staged = 0, ck_evicted = 0, record_sealed = NULL, cloud_staged = '',
                                cloud_wanted = ?3, region_staged = 0, region_wanted = ?4
                         WHERE unit = ?1 AND ck_staged = ?2",
                    )
                    .and_then(|mut s| s.execute((unit, generation, &cloud, region))),
                tx,
            )?;
            touched(
                tx.connection
                    .prepare_cached("DELETE FROM pending WHERE unit = ?1 AND purpose = 3 AND generation = ?2")
                    .and_then(|mut s| s.execute((unit, generation))),
                tx,
            )?;
            if void(tx, unit, "cloud", generation, at, "evicted")? {
                let detail = json!({ "generation": generation, "reason": "evicted" });
                append_event(tx, unit, attempt.map(|a| a.0), at, "cloud-key-voided", &detail)?;
            }
            Ok(())
        })
    }

    /// Keeps a cloud exchange after the cloud acknowledged the stage. The agent has seen to it that there is room.
    pub(crate) fn issue_cloud_key(
        &self,
        unit: UnitId,
        attempt: Option<AttemptId>,
        pending: NewPending,
    ) -> Result<(), RecordsError> {
        let clock = self.clock.clone();
        self.write(move |tx| {
            let at = now(&clock);
            let (unit, _) = unit_and_state(tx, unit)?;
            insert_pending(tx, unit, &pending)?;
            let detail = json!({ "generation": pending.generation, "suite": pending.suite });
            append_event(tx, unit, attempt.map(|a| a.0), at, "cloud-key-issued", &detail)
        })
    }

    /// The cloud committed a cloud key, by message or by a connection: it is live. Idempotent. `pending` is the
    /// exchange that confirmed it, if one did.
    pub(crate) fn confirm_cloud_key(
        &self,
        unit: UnitId,
        attempt: Option<AttemptId>,
        generation: u32,
        pending: Option<i64>,
    ) -> Result<(), RecordsError> {
        let clock = self.clock.clone();
        self.write(move |tx| {
            let at = now(&clock);
            let (unit, state) = unit_and_state(tx, unit)?;
            if let Some(pending) = pending {
                // The other exchanges were about the same or an older record; the unit can't send their message.
                touched(
                    tx.connection
                        .prepare_cached("DELETE FROM pending WHERE unit = ?1 AND purpose = 3 AND id <> ?2")
                        .and_then(|mut s| s.execute((unit, pending))),
                    tx,
                )?;
                touched(
                    tx.connection
                        .prepare_cached("UPDATE pending SET state = 'confirmed' WHERE id = ?1")
                        .and_then(|mut s| s.execute([pending])),
                    tx,
                )?;
            }
            let changed = tx
                .connection
                .prepare_cached(
                    // A row from before schema 3 does not say where its key is: it never moved.
                    "UPDATE enrolment SET
                        cloud_leaving = CASE WHEN ck_active > 0 AND cloud NOT IN ('', cloud_staged) THEN cloud ELSE cloud_leaving END,
                        ck_leaving = CASE WHEN ck_active > 0 AND cloud NOT IN ('', cloud_staged) THEN ck_active ELSE ck_leaving END,
                        cloud = cloud_staged, cloud_staged = '', ck_active = ?2, ck_staged = 0, record_sealed = NULL,
                        region = CASE WHEN region_staged > 0 THEN region_staged ELSE region END, region_staged = 0
                     WHERE unit = ?1 AND ck_staged = ?2",
                )
                .and_then(|mut s| s.execute((unit, generation)))
                .map_err(|e| tx.map(e))?;
            if changed == 0 {
                return Ok(());
            }
            post(tx, unit, "cloud", generation, at)?;
            if matches!(
                state,
                UnitState::Arrived | UnitState::Flashing | UnitState::StageOne | UnitState::AgentKey
            ) {
                set_state(tx, unit, UnitState::CloudKey)?;
            }
            let detail = json!({ "generation": generation, "by": if pending.is_some() { "message" } else { "connection" } });
            append_event(tx, unit, attempt.map(|a| a.0), at, "cloud-key-active", &detail)
        })
    }

    /// The next cloud key of the unit goes to this platform.
    pub(crate) fn want_cloud(&self, unit: UnitId, url: &str) -> Result<(), RecordsError> {
        let (clock, url) = (self.clock.clone(), url.to_owned());
        self.write(move |tx| {
            let at = now(&clock);
            let (row, _) = unit_and_state(tx, unit)?;
            let changed = tx
                .connection
                .prepare_cached(
                    "UPDATE enrolment SET cloud_wanted = ?2 WHERE unit = ?1 AND cloud_wanted <> ?2",
                )
                .and_then(|mut s| s.execute((row, &url)))
                .map_err(|e| tx.map(e))?;
            if changed == 0 {
                return Ok(());
            }
            append_event(tx, row, None, at, "move-ordered", &json!({ "cloud": url }))
        })
    }

    /// The platform that the unit left no longer knows it.
    pub(crate) fn cloud_left(&self, unit: UnitId, generation: u32) -> Result<(), RecordsError> {
        let clock = self.clock.clone();
        self.write(move |tx| {
            let at = now(&clock);
            let (row, _) = unit_and_state(tx, unit)?;
            let left: Option<String> = tx
                .connection
                .prepare_cached("SELECT cloud_leaving FROM enrolment WHERE unit = ?1 AND ck_leaving = ?2")
                .and_then(|mut s| s.query_row((row, generation), |r| r.get(0)).optional())
                .map_err(|e| tx.map(e))?;
            let Some(left) = left else { return Ok(()) };
            touched(
                tx.connection
                    .prepare_cached("UPDATE enrolment SET cloud_leaving = '', ck_leaving = 0 WHERE unit = ?1")
                    .and_then(|mut s| s.execute([row])),
                tx,
            )?;
            append_event(tx, row, None, at, "cloud-left", &json!({ "cloud": left, "generation": generation }))
        })
    }

    /// The unit was erased before it passed: what it never proved is voided; generations keep growing.
    pub(crate) fn forget_unproved(&self, unit: UnitId, attempt: AttemptId) -> Result<(), RecordsError> {
        let clock = self.clock.clone();
        self.write(move |tx| {
            let at = now(&clock);
            let (row, state) = unit_and_state(tx, unit)?;
            match state {
                UnitState::Passed => {
                    return Err(refused(
                        FailureCode::AlreadyEnrolled,
                        format!("unit {unit} passed; only QA may open it for new keys"),
                    ));
                }
                UnitState::Quarantined => return Err(refused(FailureCode::Quarantined, unit)),
                UnitState::Scrapped => return Err(refused(FailureCode::Scrapped, unit)),
                _ => {}
            }
            let map = |e| super::sqlite::map_error(tx.path, e);
            let proved: bool = tx
                .connection
                .prepare_cached("SELECT count(*) FROM attempt WHERE unit = ?1 AND outcome = 'PASS'")
                .and_then(|mut s| s.query_row([row], |r| r.get(0)))
                .map_err(map)?;
            let reopened: bool = tx
                .connection
                .prepare_cached(
                    "SELECT count(*) FROM reprovision WHERE unit = ?1 AND ended_at_ms IS NULL AND revoked_at_ms IS NOT NULL",
                )
                .and_then(|mut s| s.query_row([row], |r| r.get(0)))
                .map_err(map)?;
            if proved && !reopened {
                return Err(refused(FailureCode::AlreadyEnrolled, format!("unit {unit} passed before")));
            }
            let voided: Vec<(String, u32)> = tx
                .connection
                .prepare_cached(
                    "UPDATE key_assignment SET state = 'voided', settled_at_ms = ?2, void_reason = 'unit erased',
                            retired_at_ms = NULL
                     WHERE unit = ?1 AND state <> 'voided' AND retired_at_ms IS NULL RETURNING purpose, generation",
                )
                .and_then(|mut s| {
                    s.query_map((row, at), |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<rusqlite::Result<_>>()
                })
                .map_err(map)?;
            for sql in [
                "DELETE FROM pending WHERE unit = ?1",
                "UPDATE enrolment SET state = 'pending', dik_pub = NULL, ak_cur = 0, ak_next = 0, ck_active = 0,
                        ck_staged = 0, record_sealed = NULL WHERE unit = ?1",
            ] {
                tx.connection.prepare_cached(sql).and_then(|mut s| s.execute([row])).map_err(map)?;
            }
            if voided.is_empty() {
                return Ok(());
            }
            let keys: Vec<_> = voided.iter().map(|(purpose, g)| format!("{purpose} {g}")).collect();
            append_event(tx, row, Some(attempt.0), at, "keys-forgotten", &json!({ "voided": keys }))
        })
    }

    /// Raises an alarm about a unit: one row per kind and facts, counted, and an event the first time.
    pub(crate) fn raise_alarm(
        &self,
        unit: UnitId,
        attempt: Option<AttemptId>,
        kind: &'static str,
        detail: serde_json::Value,
    ) -> Result<(), RecordsError> {
        let clock = self.clock.clone();
        self.write(move |tx| {
            let at = now(&clock);
            let (unit, _) = unit_and_state(tx, unit)?;
            if alarm(tx, (Some(unit), None), at, kind, &detail)? == 1 {
                let detail = json!({ "alarm": kind, "facts": detail });
                append_event(tx, unit, attempt.map(|a| a.0), at, "alarm", &detail)?;
            }
            Ok(())
        })
    }

    pub(crate) fn unit_guard(&self, unit: UnitId) -> MutexGuard<'_, ()> {
        self.lock_unit(unit)
    }

    pub(crate) fn unix_seconds(&self) -> u64 {
        u64::try_from(self.now() / 1000).unwrap_or(0)
    }

    pub(crate) fn seal_key(
        &self,
        unit: UnitId,
        purpose: &'static str,
        generation: u32,
        key: &[u8],
    ) -> Result<Vec<u8>, RecordsError> {
        self.seal(&assignment_seal(unit, purpose, generation), key)
    }

    pub(crate) fn seal_n2(
        &self,
        unit: UnitId,
        h_frame1: &[u8; 32],
        n2: &[u8; 16],
    ) -> Result<Vec<u8>, RecordsError> {
        self.seal(&pending_seal(unit, h_frame1), n2)
    }

    pub(crate) fn open_n2(&self, unit: UnitId, row: &PendingRow) -> Result<Zeroizing<Vec<u8>>, RecordsError> {
        self.open_sealed(&pending_seal(unit, &row.h_frame1), &row.n2_sealed)
    }

    pub(crate) fn seal_record(
        &self,
        unit: UnitId,
        generation: u32,
        record: &[u8],
    ) -> Result<Vec<u8>, RecordsError> {
        self.seal(&staged_seal(unit, generation), record)
    }

    pub(crate) fn open_record(
        &self,
        unit: UnitId,
        generation: u32,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, RecordsError> {
        self.open_sealed(&staged_seal(unit, generation), sealed)
    }
}
