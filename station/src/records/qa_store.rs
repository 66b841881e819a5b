//! What QA and the vendor decide about units and product keys: re-provisioning, quarantine, scrap, alarms, leaked keys.
//!
//! The agent decides the order of steps (`crate::agent::qa`); each function here is one transaction, and repeating it changes nothing.

use super::sqlite::{
    Inner, append_event, json, map_error, now, parse_word, refused, set_state, unit_and_state, word,
};
use super::unit_store::check_note;
use super::writer::Tx;
use super::*;
use crate::failure::FailureCode;
use rusqlite::OptionalExtension;
use serde_json::json;

/// The longest reason.
const REASON: usize = 500;

/// How a unit is re-provisioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReprovisionKind {
    /// New keys, asked for by the unit under the keys it has.
    NewKeys,
    /// It lost its keys: they die everywhere, then it is erased and enrols again.
    NewStart,
    /// New cloud key and anchors of another region, asked for under the keys it has.
    MoveRegion,
}

impl ReprovisionKind {
    /// The word in the database and in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NewKeys => "new-keys",
            Self::NewStart => "new-start",
            Self::MoveRegion => "move-region",
        }
    }
}

impl std::str::FromStr for ReprovisionKind {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        [Self::NewKeys, Self::NewStart, Self::MoveRegion]
            .into_iter()
            .find(|kind| kind.as_str() == s)
            .ok_or_else(|| format!("unknown kind of re-provisioning {s:?}"))
    }
}

/// One order of QA for one unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reprovision {
    /// Row.
    pub id: i64,
    /// How.
    pub kind: ReprovisionKind,
    /// Why, in the operator's words.
    pub reason: String,
    /// Who authorised it.
    pub operator: String,
    /// Where to, for a move; 0 = it stays.
    pub region: u32,
    /// The cloud identity that it replaces, `<uid>.<generation>`.
    pub supersedes: String,
    /// Agent and cloud key generations before.
    pub before: (u32, u32),
    /// Agent and cloud key generations after; `None` until it is done.
    pub after: Option<(u32, u32)>,
    /// Unix milliseconds.
    pub opened_at_ms: i64,
    /// A new start: the old identity is dead everywhere.
    pub revoked: bool,
    /// Unix milliseconds; `None` while it is open.
    pub ended_at_ms: Option<i64>,
    /// It was carried out; false while it is open, and for one that was withdrawn.
    pub done: bool,
}

/// A new order of QA.
#[derive(Clone, Debug)]
pub struct NewReprovision {
    /// How.
    pub kind: ReprovisionKind,
    /// Why.
    pub reason: String,
    /// Who.
    pub operator: String,
    /// Where to, for a move; 0 = it stays.
    pub region: u32,
}

/// What an alarm is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlarmOf {
    /// One unit.
    Unit(UnitId),
    /// A product order, by name.
    ProductOrder(String),
}

/// Something that a person must look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// Row.
    pub id: i64,
    /// What it is about.
    pub of: AlarmOf,
    /// When it happened last; Unix milliseconds.
    pub at_ms: i64,
    /// `another-identity`, `enrolled-again`, `cloud-key-unknown`, `invalid-product-key`, `activation-rate`,
    /// `activations-over-plan`.
    pub kind: String,
    /// Facts, never secrets.
    pub detail: serde_json::Value,
    /// How often.
    pub count: u32,
    /// Who looked at it, and when.
    pub seen: Option<(String, i64)>,
}

impl Alarm {
    /// One plain sentence.
    pub fn sentence(&self) -> String {
        let what = match self.kind.as_str() {
            "another-identity" => "shows another identity key than its own: somebody may imitate it",
            "enrolled-again" => "has its keys and asks for first ones again: its product key may have leaked",
            "cloud-key-unknown" => "claims a cloud key that it was never given",
            "invalid-product-key" => "asks under a product key that was made invalid",
            "activation-rate" => "enrols more units an hour than expected: its product key may have leaked",
            "activations-over-plan" => {
                "was asked for more units than were ordered: its product key may have leaked"
            }
            other => other,
        };
        match &self.of {
            AlarmOf::Unit(unit) => format!("unit {unit} {what}"),
            AlarmOf::ProductOrder(name) => format!("product order {name} {what}"),
        }
    }
}

/// What a leaked product key enrolled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Units enrolled since the moment, those in quarantine included.
    pub units: u32,
    /// Of them, those that had passed.
    pub passed: u32,
}

/// Why somebody decides about a unit; it stands in the unit's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Why {
    /// One to 500 printable characters.
    pub reason: String,
    /// What else is to be known; may be empty.
    pub note: String,
}

impl Why {
    /// The facts of the event: reason, who, and the note if there is one.
    pub(super) fn facts(&self, operator: &str) -> Result<serde_json::Value, RecordsError> {
        let (reason, note) = (check_reason(&self.reason)?, check_note(&self.note)?);
        let mut facts = json!({ "reason": reason, "operator": operator });
        if !note.is_empty() {
            facts["note"] = json!(note);
        }
        Ok(facts)
    }
}

impl From<&str> for Why {
    fn from(reason: &str) -> Self {
        Self { reason: reason.into(), note: String::new() }
    }
}

impl From<&String> for Why {
    fn from(reason: &String) -> Self {
        reason.as_str().into()
    }
}

pub(super) fn check_reason(reason: &str) -> Result<String, RecordsError> {
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > REASON || reason.chars().any(char::is_control) {
        return Err(refused(
            FailureCode::InvalidInput,
            format!("a reason has 1 to {REASON} printable characters"),
        ));
    }
    Ok(reason.to_owned())
}

const REPROVISIONS: &str = "
    SELECT r.id, r.kind, r.reason, r.operator, r.region, r.ak_before, r.ck_before, r.ak_after, r.ck_after, r.opened_at_ms,
           r.ended_at_ms, r.outcome, u.uid, r.revoked_at_ms IS NOT NULL
    FROM reprovision r JOIN unit u ON u.id = r.unit";

fn reprovision_row(r: &rusqlite::Row<'_>) -> rusqlite::Result<Reprovision> {
    let unit = UnitId(r.get(12)?);
    let ck_before: u32 = r.get(6)?;
    Ok(Reprovision {
        id: r.get(0)?,
        kind: word(r, 1)?,
        reason: r.get(2)?,
        operator: r.get(3)?,
        region: r.get(4)?,
        supersedes: format!("{unit}.{ck_before}"),
        before: (r.get(5)?, ck_before),
        after: r.get::<_, Option<u32>>(7)?.zip(r.get(8)?),
        opened_at_ms: r.get(9)?,
        revoked: r.get(13)?,
        ended_at_ms: r.get(10)?,
        done: r.get::<_, Option<String>>(11)?.as_deref() == Some("done"),
    })
}

pub(super) fn run(tx: &Tx<'_>, sql: &str, values: impl rusqlite::Params) -> Result<usize, RecordsError> {
    tx.connection.prepare_cached(sql).and_then(|mut s| s.execute(values)).map_err(|e| tx.map(e))
}

/// A unit passed: an order that is open for it is carried out if the keys it proved are newer than those it had.
pub(super) fn close_reprovision(
    tx: &mut Tx<'_>,
    unit: i64,
    attempt: AttemptId,
    (ak, ck): (u32, u32),
    at: i64,
) -> Result<(), RecordsError> {
    let done: Option<i64> = tx
        .connection
        .prepare_cached(
            "UPDATE reprovision SET ended_at_ms = max(opened_at_ms, ?2), outcome = 'done', ak_after = ?3, ck_after = ?4
             WHERE unit = ?1 AND ended_at_ms IS NULL AND ck_before < ?4 AND ak_before <= ?3
               AND (region = 0 OR region = (SELECT region FROM enrolment WHERE unit = ?1)) RETURNING id",
        )
        .and_then(|mut s| s.query_row((unit, at, ak, ck), |r| r.get(0)).optional())
        .map_err(|e| tx.map(e))?;
    let Some(id) = done else { return Ok(()) };
    let detail = json!({ "order": id, "agent_key": ak, "cloud_key": ck });
    append_event(tx, unit, Some(attempt.0), at, "reprovisioned", &detail)
}

impl Inner {
    /// Opens an order of QA. One of the same kind that is open already is the answer: it is gone on with.
    pub(crate) fn open_reprovision(
        &self,
        unit: UnitId,
        new: NewReprovision,
    ) -> Result<Reprovision, RecordsError> {
        let reason = check_reason(&new.reason)?;
        let clock = self.clock.clone();
        self.write(move |tx| {
            let (row, state) = unit_and_state(tx, unit)?;
            match state {
                UnitState::Quarantined => return Err(refused(FailureCode::Quarantined, unit)),
                UnitState::Scrapped => return Err(refused(FailureCode::Scrapped, unit)),
                _ => {}
            }
            let open = open_reprovision(tx, row)?;
            if let Some(open) = open {
                if (open.kind, open.region) == (new.kind, new.region) {
                    return Ok(open);
                }
                return Err(refused(
                    FailureCode::InvalidInput,
                    format!("unit {unit} has an open order already: {} ({})", open.kind.as_str(), open.reason),
                ));
            }
            let keys: Option<(u32, u32)> = tx
                .connection
                .prepare_cached("SELECT max(ak_cur, ak_next), ck_active FROM enrolment WHERE unit = ?1 AND state = 'active'")
                .and_then(|mut s| s.query_row([row], |r| Ok((r.get(0)?, r.get(1)?))).optional())
                .map_err(|e| tx.map(e))?;
            let Some((ak, ck)) = keys else {
                return Err(refused(FailureCode::NothingToRenew, format!("unit {unit}")));
            };
            let at = now(&clock);
            run(
                tx,
                "INSERT INTO reprovision (unit, kind, reason, operator, region, ak_before, ck_before, opened_at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                (row, new.kind.as_str(), &reason, &new.operator, new.region, ak, ck, at),
            )?;
            // What the lists will say, from the moment that the old identity is on its way out.
            run(tx, "UPDATE unit SET supersedes = ?2 WHERE id = ?1", (row, format!("{unit}.{ck}")))?;
            let detail = json!({
                "kind": new.kind.as_str(), "reason": reason, "operator": new.operator, "region": new.region,
                "agent_key": ak, "cloud_key": ck,
            });
            append_event(tx, row, None, at, "reprovision-ordered", &detail)?;
            open_reprovision(tx, row)?.ok_or_else(|| RecordsError::Other {
                path: tx.path.into(),
                detail: "the order of QA is not there after it was written".into(),
            })
        })
    }

    /// Takes an open order back. What it did stays done.
    pub(crate) fn withdraw_reprovision(
        &self,
        unit: UnitId,
        reason: &str,
        operator: &str,
    ) -> Result<(), RecordsError> {
        let (facts, clock) = (Why::from(reason).facts(operator)?, self.clock.clone());
        self.write(move |tx| {
            let at = now(&clock);
            let (row, _) = unit_and_state(tx, unit)?;
            withdraw(tx, row, &facts, at)
        })
    }

    /// The unit may start anew: its keys count for nothing at the agent (they are dead at the cloud already), generations go on.
    pub(crate) fn reopen(&self, unit: UnitId, order: i64) -> Result<(), RecordsError> {
        let clock = self.clock.clone();
        self.write(move |tx| {
            let at = now(&clock);
            let (row, state) = unit_and_state(tx, unit)?;
            let open = open_reprovision(tx, row)?;
            match open {
                Some(open) if open.id == order && open.kind == ReprovisionKind::NewStart => {
                    if open.revoked {
                        return Ok(());
                    }
                }
                _ => {
                    let facts = format!("unit {unit} has no order to start anew");
                    return Err(refused(FailureCode::InvalidInput, facts));
                }
            }
            run(tx, "UPDATE reprovision SET revoked_at_ms = ?2 WHERE id = ?1", (order, at))?;
            end_keys(tx, row, at, "unit starts anew")?;
            run(tx, "DELETE FROM pending WHERE unit = ?1", [row])?;
            run(
                tx,
                "UPDATE enrolment SET state = 'pending', dik_pub = NULL, ak_cur = 0, ak_next = 0, ck_active = 0, ck_staged = 0,
                        record_sealed = NULL, cloud = '', cloud_staged = '', cloud_wanted = '', cloud_leaving = '',
                        ck_leaving = 0, region = 0, region_staged = 0, region_wanted = 0 WHERE unit = ?1",
                [row],
            )?;
            // The chip may hold anything from here on, and the records explain all of it.
            set_state(tx, row, UnitState::Flashing)?;
            append_event(tx, row, None, at, "keys-revoked", &json!({ "order": order, "state": state.as_str() }))
        })
    }

    /// Sets a unit aside; the state it had is kept for its release.
    pub(crate) fn quarantine(&self, unit: UnitId, why: &Why, operator: &str) -> Result<(), RecordsError> {
        let (facts, clock) = (why.facts(operator)?, self.clock.clone());
        self.write(move |tx| {
            let (row, state) = unit_and_state(tx, unit)?;
            quarantine(tx, (row, state), unit, &facts, now(&clock))
        })
    }

    /// Ends a quarantine.
    pub(crate) fn release(&self, unit: UnitId, why: &Why, operator: &str) -> Result<(), RecordsError> {
        let (mut facts, clock) = (why.facts(operator)?, self.clock.clone());
        self.write(move |tx| {
            let (row, state) = unit_and_state(tx, unit)?;
            if state != UnitState::Quarantined {
                return Err(refused(
                    FailureCode::InvalidInput,
                    format!("unit {unit} is not in quarantine, it is {}", state.as_str()),
                ));
            }
            let before: Option<String> = tx
                .connection
                .prepare_cached("SELECT state_before FROM unit WHERE id = ?1")
                .and_then(|mut s| s.query_row([row], |r| r.get(0)))
                .map_err(|e| tx.map(e))?;
            // One that was set aside before there was a memory of it is looked at from the start.
            let before =
                before.map_or(Ok(UnitState::Flashing), |text| parse_word(&text, 0)).map_err(|e| tx.map(e))?;
            run(tx, "UPDATE unit SET state_before = NULL WHERE id = ?1", [row])?;
            set_state(tx, row, before)?;
            facts["state"] = json!(before.as_str());
            append_event(tx, row, None, now(&clock), "released", &facts)
        })
    }

    /// Takes a unit out for ever; an open order for it is withdrawn, its keys retire.
    pub(crate) fn scrap(&self, unit: UnitId, why: &Why, operator: &str) -> Result<(), RecordsError> {
        let (facts, clock) = (why.facts(operator)?, self.clock.clone());
        self.write(move |tx| {
            let at = now(&clock);
            let (row, state) = unit_and_state(tx, unit)?;
            if state == UnitState::Scrapped {
                return Ok(());
            }
            withdraw(tx, row, &facts, at)?;
            end_keys(tx, row, at, "unit scrapped")?;
            set_state(tx, row, UnitState::Scrapped)?;
            append_event(tx, row, None, at, "scrapped", &facts)
        })
    }

    /// The next cloud record of the unit brings anchors of this region; 0 = where it is.
    pub(crate) fn want_region(&self, unit: UnitId, region: u32) -> Result<(), RecordsError> {
        self.write(move |tx| {
            let (row, _) = unit_and_state(tx, unit)?;
            run(tx, "UPDATE enrolment SET region_wanted = ?2 WHERE unit = ?1", (row, region)).map(drop)
        })
    }

    /// Raises an alarm about a product order: one row per kind and facts, counted.
    pub(crate) fn raise_order_alarm(
        &self,
        po: PoId,
        kind: &'static str,
        detail: serde_json::Value,
    ) -> Result<(), RecordsError> {
        let clock = self.clock.clone();
        self.write(move |tx| alarm(tx, (None, Some(po.0)), now(&clock), kind, &detail).map(drop))
    }

    /// Makes a product key count for nothing, and puts what it enrolled since then in quarantine, all in one transaction. Returns
    /// every unit of it that is in quarantine now, for the cloud to block.
    pub(crate) fn invalidate_product_key(
        &self,
        po: PoId,
        since_ms: i64,
        reason: &str,
        operator: &str,
    ) -> Result<Vec<UnitId>, RecordsError> {
        let (reason, facts) = (check_reason(reason)?, Why::from(reason).facts(operator)?);
        let clock = self.clock.clone();
        self.write(move |tx| {
            let at = now(&clock);
            run(
                tx,
                "UPDATE product_order SET key_invalid_at_ms = ?2, key_invalid_reason = ?3
                 WHERE id = ?1 AND key_invalid_at_ms IS NULL",
                (po.0, at, &reason),
            )?;
            let units: Vec<(i64, [u8; 12], String)> = tx
                .connection
                .prepare_cached(
                    "SELECT u.id, u.uid, u.state FROM enrolment e JOIN unit u ON u.id = e.unit
                     WHERE e.po = ?1 AND e.enrolled_at_ms >= ?2 AND u.state <> 'scrapped' ORDER BY u.id",
                )
                .and_then(|mut s| {
                    s.query_map((po.0, since_ms), |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?.collect()
                })
                .map_err(|e| tx.map(e))?;
            let mut all = Vec::with_capacity(units.len());
            for (row, uid, state) in units {
                let state: UnitState = parse_word(&state, 0).map_err(|e| tx.map(e))?;
                quarantine(tx, (row, state), UnitId(uid), &facts, at)?;
                all.push(UnitId(uid));
            }
            Ok(all)
        })
    }
}

/// No key of the unit is live any more, and none ever will be that was only reserved.
fn end_keys(tx: &Tx<'_>, unit: i64, at: i64, why: &str) -> Result<(), RecordsError> {
    run(
        tx,
        "UPDATE key_assignment SET state = 'voided', settled_at_ms = ?2, void_reason = ?3
         WHERE unit = ?1 AND state = 'reserved'",
        (unit, at, why),
    )?;
    run(
        tx,
        "UPDATE key_assignment SET retired_at_ms = ?2 WHERE unit = ?1 AND state = 'posted' AND retired_at_ms IS NULL",
        (unit, at),
    )
    .map(drop)
}

/// What QA ordered for a unit, newest first.
pub(super) fn reprovisions_of(c: &rusqlite::Connection, unit: UnitId) -> rusqlite::Result<Vec<Reprovision>> {
    c.prepare_cached(&format!("{REPROVISIONS} WHERE u.uid = ?1 ORDER BY r.id DESC"))?
        .query_map([unit.0], reprovision_row)?
        .collect()
}

fn open_reprovision(tx: &Tx<'_>, unit: i64) -> Result<Option<Reprovision>, RecordsError> {
    tx.connection
        .prepare_cached(&format!("{REPROVISIONS} WHERE r.unit = ?1 AND r.ended_at_ms IS NULL"))
        .and_then(|mut s| s.query_row([unit], reprovision_row).optional())
        .map_err(|e| tx.map(e))
}

fn withdraw(tx: &mut Tx<'_>, unit: i64, facts: &serde_json::Value, at: i64) -> Result<(), RecordsError> {
    let changed = run(
        tx,
        "UPDATE reprovision SET ended_at_ms = max(opened_at_ms, ?2), outcome = 'withdrawn' WHERE unit = ?1 AND ended_at_ms IS NULL",
        (unit, at),
    )?;
    run(tx, "UPDATE enrolment SET region_wanted = 0 WHERE unit = ?1", [unit])?;
    if changed == 0 {
        return Ok(());
    }
    append_event(tx, unit, None, at, "reprovision-withdrawn", facts)
}

fn quarantine(
    tx: &mut Tx<'_>,
    (row, state): (i64, UnitState),
    unit: UnitId,
    facts: &serde_json::Value,
    at: i64,
) -> Result<(), RecordsError> {
    match state {
        UnitState::Quarantined => return Ok(()),
        UnitState::Scrapped => return Err(refused(FailureCode::Scrapped, unit)),
        _ => {}
    }
    run(tx, "UPDATE unit SET state_before = state WHERE id = ?1", [row])?;
    set_state(tx, row, UnitState::Quarantined)?;
    let mut facts = facts.clone();
    facts["state"] = json!(state.as_str());
    append_event(tx, row, None, at, "quarantined", &facts)
}

/// Raises an alarm about a unit or an order; how often it was raised by now. One that was looked at and happens again is new.
pub(super) fn alarm(
    tx: &Tx<'_>,
    (unit, po): (Option<i64>, Option<i64>),
    at: i64,
    kind: &str,
    detail: &serde_json::Value,
) -> Result<u32, RecordsError> {
    tracing::warn!(kind, %detail, "ALARM");
    tx.connection
        .prepare_cached(
            "INSERT INTO alarm (unit, po, at_ms, kind, detail) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (coalesce(unit, 0), coalesce(po, 0), kind, detail)
             DO UPDATE SET count = count + 1, at_ms = excluded.at_ms, seen_at_ms = NULL, seen_by = NULL
             RETURNING count",
        )
        .and_then(|mut s| s.query_row((unit, po, at, kind, detail.to_string()), |r| r.get(0)))
        .map_err(|e| tx.map(e))
}

impl Inner {
    pub(super) fn reprovisions(&self, unit: UnitId) -> Result<Vec<Reprovision>, RecordsError> {
        self.read(|c| {
            let mut orders = reprovisions_of(c, unit)?;
            orders.reverse();
            Ok(orders)
        })
    }

    pub(super) fn alarms(&self, seen_too: bool) -> Result<Vec<Alarm>, RecordsError> {
        self.read(|c| {
            c.prepare_cached(
                "SELECT a.id, u.uid, p.name, a.at_ms, a.kind, a.detail, a.count, a.seen_by, a.seen_at_ms
                 FROM alarm a LEFT JOIN unit u ON u.id = a.unit LEFT JOIN product_order p ON p.id = a.po
                 WHERE ?1 OR a.seen_at_ms IS NULL ORDER BY a.at_ms DESC, a.id DESC",
            )?
            .query_map([seen_too], |r| {
                let of = match r.get::<_, Option<[u8; 12]>>(1)? {
                    Some(unit) => AlarmOf::Unit(UnitId(unit)),
                    None => AlarmOf::ProductOrder(r.get(2)?),
                };
                Ok(Alarm {
                    id: r.get(0)?,
                    of,
                    at_ms: r.get(3)?,
                    kind: r.get(4)?,
                    detail: json(r, 5)?.unwrap_or_default(),
                    count: r.get(6)?,
                    seen: r.get::<_, Option<String>>(7)?.zip(r.get(8)?),
                })
            })?
            .collect()
        })
    }

    pub(super) fn see_alarm(&self, id: i64, operator: &str) -> Result<(), RecordsError> {
        let (operator, clock) = (operator.to_owned(), self.clock.clone());
        self.write(move |tx| {
            let at = now(&clock);
            let changed = run(
                tx,
                "UPDATE alarm SET seen_at_ms = coalesce(seen_at_ms, ?2), seen_by = coalesce(seen_by, ?3) WHERE id = ?1",
                (id, at, &operator),
            )?;
            if changed == 0 {
                return Err(RecordsError::NotFound { what: "alarm", name: id.to_string(), list: "alarms" });
            }
            Ok(())
        })
    }

    pub(super) fn product_key_reach(&self, po: PoId, since_ms: i64) -> Result<Reach, RecordsError> {
        self.read(|c| {
            c.query_row(
                "SELECT count(*), coalesce(sum(u.state = 'passed' OR u.state_before IS 'passed'), 0)
                 FROM enrolment e JOIN unit u ON u.id = e.unit
                 WHERE e.po = ?1 AND e.enrolled_at_ms >= ?2 AND u.state <> 'scrapped'",
                (po.0, since_ms),
                |r| Ok(Reach { units: r.get(0)?, passed: r.get(1)? }),
            )
        })
    }

    pub(super) fn expect_rate(&self, po: PoId, per_hour: u32) -> Result<(), RecordsError> {
        self.write(move |tx| {
            run(tx, "UPDATE product_order SET per_hour = ?2 WHERE id = ?1", (po.0, per_hour)).map(drop)
        })
    }
}

/// The order enrolled one more unit: told if it is faster than its vendor expects.
pub(super) fn watch_rate(tx: &Tx<'_>, po: PoId, at: i64) -> Result<(), RecordsError> {
    const HOUR_MS: i64 = 60 * 60 * 1000;
    let (expected, seen): (u32, u32) = tx
        .connection
        .prepare_cached(
            "SELECT per_hour, (SELECT count(*) FROM enrolment WHERE po = ?1 AND enrolled_at_ms > ?2)
             FROM product_order WHERE id = ?1",
        )
        .and_then(|mut s| s.query_row((po.0, at - HOUR_MS), |r| Ok((r.get(0)?, r.get(1)?))))
        .map_err(|e| map_error(tx.path, e))?;
    if expected > 0 && seen > expected {
        alarm(tx, (None, Some(po.0)), at, "activation-rate", &json!({ "expected_per_hour": expected }))?;
    }
    Ok(())
}
