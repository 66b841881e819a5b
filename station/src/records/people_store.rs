//! People and the audit log: the rows, their seals, and the ends of both chains.
//!
//! ```text
//! audit chain  = MAC(station key, "audit", chain before, seq, at, person, role, action, subject, detail)
//! audit-head   = seq8 ‖ chain32 ‖ people8 ‖ roll32 ‖ MAC(station key, "audit-head", the 80 bytes before)
//! event-head   = seq8 ‖ chain32 ‖ MAC(station key, "event-head", the 40 bytes before)
//! person.seal  = MAC(station key, "person", every column of the row)
//! people-roll  = (id8 ‖ person.seal) of everybody, by id; roll32 = MAC(station key, "people-roll", all of it)
//! ```
//! A seal says that the station wrote a row once, the roll that it is the newest. The roll's MAC stands in the audit log's head, so
//! an old roll can be put back only with the audit log of its time.
//!
//! Heads are written in the transaction that moves the end, so an end that is not where its head says was moved by somebody else.
//! When a station opens on such an end it says so in the audit log itself, where it stays.

use super::RecordsError;
use super::qa_store::run;
use super::sqlite::{Inner, SqliteRecords, map_error, now, refused};
use super::verify::{Telling, Verified, wrong_with};
use super::writer::Tx;
use crate::failure::{Failure, FailureCode};
use crate::people::Role;
use crate::secrets::StationKey;
use keywright_protocol::crypto;
use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// A person, without what would let anybody in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Person {
    /// Row.
    pub id: i64,
    /// The name in every record; never changes.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Whether they have a badge.
    pub badge: bool,
    /// Switched off: can't log in.
    pub active: bool,
    /// Wrong tries since the last right one.
    pub failures: u32,
    /// Locked out until then, Unix milliseconds.
    pub locked_until_ms: i64,
    /// Since when, Unix milliseconds.
    pub created_at_ms: i64,
}

/// A person with what a try is compared to.
#[derive(Clone)]
pub(crate) struct PersonRow {
    pub person: Person,
    pub pin: String,
    pub badge: Option<String>,
    mark: Option<[u8; 16]>,
    seal: [u8; 32],
}

impl PersonRow {
    /// Whether the station once wrote this row as it is.
    pub(super) fn is_sealed(&self, key: &StationKey) -> bool {
        crypto::tags_equal(&self.made_seal(key), &self.seal)
    }

    pub(super) const fn seal(&self) -> &[u8; 32] {
        &self.seal
    }

    fn made_seal(&self, key: &StationKey) -> [u8; 32] {
        let p = &self.person;
        key.mac(
            "person",
            &[
                &p.id.to_be_bytes(),
                p.name.as_bytes(),
                p.role.as_str().as_bytes(),
                self.pin.as_bytes(),
                self.badge.as_deref().unwrap_or_default().as_bytes(),
                self.mark.as_ref().map_or(&[][..], |m| m),
                &[u8::from(p.active)],
                &p.failures.to_be_bytes(),
                &p.locked_until_ms.to_be_bytes(),
                &p.created_at_ms.to_be_bytes(),
            ],
        )
    }
}

/// What changes of a person.
#[derive(Clone)]
pub(crate) enum PersonChange {
    /// Another role, and a PIN for it where the old one may be too short.
    Role(Role, Option<String>),
    /// Another PIN; a lock-out ends with it.
    Pin(String),
    /// Another badge, or none: how it is kept, and its mark.
    Badge(Option<(String, [u8; 16])>),
    /// Off or on.
    Active(bool),
    /// A lock-out ends.
    Unlock,
    /// One more try, counted before it is looked at.
    Try {
        /// Locked out until then, if it fails.
        locked_until_ms: i64,
    },
    /// It was the right one.
    Right,
}

/// One row of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    /// Its number; no number is left out.
    pub seq: i64,
    /// Wall clock, Unix milliseconds.
    pub at_ms: i64,
    /// Who did it.
    pub person: String,
    /// What they were then: a role, `open` (a station without people), `none` (did not get in), `station` (the program itself).
    pub role: String,
    /// What was done or refused.
    pub action: String,
    /// What it was done to: a batch, an order, a unit's serial, a person.
    pub subject: String,
    /// Facts, never secrets.
    pub detail: serde_json::Value,
    /// The end of the chain with this row, hex.
    pub chain: String,
}

/// What is written into the audit log.
#[derive(Clone, Debug)]
pub struct NewAudit {
    /// See [`AuditEntry::person`].
    pub person: String,
    /// See [`AuditEntry::role`].
    pub role: &'static str,
    /// See [`AuditEntry::action`].
    pub action: String,
    /// See [`AuditEntry::subject`].
    pub subject: String,
    /// See [`AuditEntry::detail`].
    pub detail: serde_json::Value,
}

/// Which rows of the audit log; empty fields match all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Part of the person's name.
    pub person: String,
    /// Part of the action.
    pub action: String,
    /// Part of the subject.
    pub subject: String,
    /// Only rows before this number; 0 = all.
    pub before: i64,
    /// At most so many; 0 = all.
    pub limit: u32,
}

/// Where a history does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// `audit`, `unit_event` or `person`.
    pub table: &'static str,
    /// The row's number; 0 if the place is the end of a table without rows.
    pub row: i64,
    /// The row's time, if it is there.
    pub at_ms: Option<i64>,
    /// What is wrong with it.
    pub what: String,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} row {}", self.table, self.row)?;
        if let Some(at) = self.at_ms {
            write!(f, " of {}", crate::export::Stamp(at))?;
        }
        write!(f, ": {}", self.what)
    }
}

const PERSONS: &str = "SELECT id, name, role, pin, badge, badge_mark, active, failures, locked_until_ms, created_at_ms, seal FROM person";

/// The person whose column holds this value, unchecked.
fn person_by(
    c: &rusqlite::Connection,
    column: &str,
    value: impl rusqlite::ToSql,
) -> rusqlite::Result<Option<PersonRow>> {
    c.prepare_cached(&format!("{PERSONS} WHERE {column} = ?1"))?.query_row([value], person_row).optional()
}

fn person_row(r: &rusqlite::Row<'_>) -> rusqlite::Result<PersonRow> {
    let badge: Option<String> = r.get(4)?;
    Ok(PersonRow {
        person: Person {
            id: r.get(0)?,
            name: r.get(1)?,
            role: super::sqlite::word(r, 2)?,
            badge: badge.is_some(),
            active: r.get(6)?,
            failures: r.get(7)?,
            locked_until_ms: r.get(8)?,
            created_at_ms: r.get(9)?,
        },
        pin: r.get(3)?,
        badge,
        mark: r.get(5)?,
        seal: r.get(10)?,
    })
}

pub(super) struct AuditRow {
    pub seq: i64,
    pub at_ms: i64,
    texts: [String; 5],
    pub chain: [u8; 32],
}

const AUDIT: &str = "SELECT seq, at_ms, person, role, action, subject, detail, chain FROM audit";

fn audit_row(r: &rusqlite::Row<'_>) -> rusqlite::Result<AuditRow> {
    Ok(AuditRow {
        seq: r.get(0)?,
        at_ms: r.get(1)?,
        texts: [r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?, r.get(6)?],
        chain: r.get(7)?,
    })
}

impl AuditRow {
    pub(super) fn action(&self) -> &str {
        &self.texts[2]
    }

    /// What a row about a broken history says of it.
    pub(super) fn found(&self) -> Option<String> {
        let detail: serde_json::Value = serde_json::from_str(&self.texts[4]).ok()?;
        Some(format!("{}: {}", self.texts[3], detail["what"].as_str()?))
    }

    pub(super) fn link(&self, key: &StationKey, last: &[u8; 32]) -> [u8; 32] {
        let [person, role, action, subject, detail] = &self.texts;
        key.mac(
            "audit",
            &[
                last,
                &self.seq.to_be_bytes(),
                &self.at_ms.to_be_bytes(),
                person.as_bytes(),
                role.as_bytes(),
                action.as_bytes(),
                subject.as_bytes(),
                detail.as_bytes(),
            ],
        )
    }

    fn entry(self) -> AuditEntry {
        let [person, role, action, subject, detail] = self.texts;
        AuditEntry {
            seq: self.seq,
            at_ms: self.at_ms,
            person,
            role,
            action,
            subject,
            // The table takes valid JSON only; whatever else is there was put there by somebody else, and is shown as it is.
            detail: serde_json::from_str(&detail).unwrap_or(serde_json::Value::String(detail)),
            chain: hex::encode(self.chain),
        }
    }
}

/// Where a chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    seq: i64,
    chain: [u8; 32],
}

impl End {
    fn of(c: &Connection, table: &'static str) -> rusqlite::Result<Self> {
        let end = c
            .prepare_cached(&format!("SELECT seq, chain FROM {table} ORDER BY seq DESC LIMIT 1"))?
            .query_row([], |r| Ok(Self { seq: r.get(0)?, chain: r.get(1)? }))
            .optional()?;
        Ok(end.unwrap_or(Self { seq: 0, chain: [0; 32] }))
    }
}

fn put(c: &Connection, key: &str, value: &[u8]) -> rusqlite::Result<()> {
    c.prepare_cached(
        "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )?
    .execute((key, value))
    .map(drop)
}

/// What a head says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    end: End,
    /// How many people there are; the audit log's only.
    pub people: i64,
    /// The MAC over the roll of people; `None` before schema 13, and after a head was lost.
    roll: Option<[u8; 32]>,
}

/// In the place of the MAC over a roll that nobody can vouch for.
const NO_ROLL: [u8; 32] = [0; 32];

fn seal_head(c: &Connection, key: &StationKey, name: &str, mut head: Vec<u8>) -> rusqlite::Result<()> {
    let mac = key.mac(name, &[&head]);
    head.extend_from_slice(&mac);
    put(c, name, &head)
}

fn put_audit_head(c: &Connection, key: &StationKey, head: &Head) -> rusqlite::Result<()> {
    let mut body = head.end.seq.to_be_bytes().to_vec();
    body.extend_from_slice(&head.end.chain);
    body.extend_from_slice(&head.people.to_be_bytes());
    body.extend_from_slice(&head.roll.unwrap_or(NO_ROLL));
    seal_head(c, key, "audit-head", body)
}

/// Reads a head; `None` if it is missing or was not written by this station.
pub(super) fn head(c: &Connection, key: &StationKey, name: &str) -> rusqlite::Result<Option<Head>> {
    let read = |value: Vec<u8>| {
        let (body, mac) = value.split_last_chunk::<32>()?;
        if !crypto::tags_equal(&key.mac(name, &[body]), mac) {
            return None;
        }
        let (seq, rest) = body.split_first_chunk::<8>()?;
        let (chain, rest) = rest.split_first_chunk::<32>()?;
        let (people, roll) = match rest.split_first_chunk::<8>() {
            Some((n, rest)) => (i64::from_be_bytes(*n), <[u8; 32]>::try_from(rest).ok()),
            None => (0, None),
        };
        let end = End { seq: i64::from_be_bytes(*seq), chain: *chain };
        Some(Head { end, people, roll: roll.filter(|roll| *roll != NO_ROLL) })
    };
    Ok(get(c, name)?.and_then(read))
}

fn get(c: &Connection, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    c.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |r| r.get(0)).optional()
}

/// Whose row was written last with which seal.
pub(super) type Roll = BTreeMap<i64, [u8; 32]>;

/// The roll of people; `None` if it is missing, or is not the one that the station wrote last.
pub(super) fn roll(c: &Connection, key: &StationKey) -> rusqlite::Result<Option<Roll>> {
    let Some(mac) = head(c, key, "audit-head")?.and_then(|head| head.roll) else { return Ok(None) };
    let roll =
        get(c, "people-roll")?.filter(|roll| crypto::tags_equal(&key.mac("people-roll", &[roll]), &mac));
    Ok(roll.map(|roll| {
        let entry = |e: &[u8; 40]| {
            let (id, seal) = e.split_at(8);
            (i64::from_be_bytes(id.try_into().unwrap_or_default()), seal.try_into().unwrap_or([0; 32]))
        };
        roll.as_chunks::<40>().0.iter().map(entry).collect()
    }))
}

/// Writes the roll, and the audit log's head with it.
fn put_roll(c: &Connection, key: &StationKey, roll: &Roll) -> rusqlite::Result<()> {
    let mut text = Vec::with_capacity(40 * roll.len());
    for (id, seal) in roll {
        text.extend_from_slice(&id.to_be_bytes());
        text.extend_from_slice(seal);
    }
    put(c, "people-roll", &text)?;
    let end = match head(c, key, "audit-head")? {
        Some(head) => head.end,
        None => End::of(c, "audit")?,
    };
    let people = i64::try_from(roll.len()).unwrap_or(i64::MAX);
    put_audit_head(c, key, &Head { end, people, roll: Some(key.mac("people-roll", &[&text])) })
}

/// The roll of the rows that are there, as far as the station wrote them.
fn roll_of_rows(c: &Connection, key: &StationKey) -> rusqlite::Result<Roll> {
    let sealed = person_rows(c)?.into_iter().filter(|row| row.is_sealed(key));
    Ok(sealed.map(|row| (row.person.id, row.seal)).collect())
}

pub(super) fn person_rows(c: &Connection) -> rusqlite::Result<Vec<PersonRow>> {
    c.prepare_cached(&format!("{PERSONS} ORDER BY id"))?.query_map([], person_row)?.collect()
}

/// Gives every row of the audit log to `each`, oldest first, until it says false.
pub(super) fn audit_rows(c: &Connection, mut each: impl FnMut(&AuditRow) -> bool) -> rusqlite::Result<()> {
    let mut statement = c.prepare_cached(&format!("{AUDIT} ORDER BY seq"))?;
    let mut rows = statement.query([])?;
    while let Some(r) = rows.next()? {
        if !each(&audit_row(r)?) {
            break;
        }
    }
    Ok(())
}

/// The number of a history's last row; 0 if it has none.
pub(super) fn last_row(c: &Connection, table: &'static str) -> rusqlite::Result<i64> {
    Ok(End::of(c, table)?.seq)
}

fn people(c: &Connection) -> rusqlite::Result<i64> {
    c.prepare_cached("SELECT count(*) FROM person")?.query_row([], |r| r.get(0))
}

/// The end of the units' history moved.
pub(super) fn seal_events(c: &Connection, key: &StationKey) -> rusqlite::Result<()> {
    let end = End::of(c, "unit_event")?;
    let mut body = end.seq.to_be_bytes().to_vec();
    body.extend_from_slice(&end.chain);
    seal_head(c, key, "event-head", body)
}

fn append(c: &Connection, key: &StationKey, at_ms: i64, new: &NewAudit) -> rusqlite::Result<i64> {
    let end = End::of(c, "audit")?;
    let texts = [
        new.person.clone(),
        new.role.to_owned(),
        new.action.clone(),
        new.subject.clone(),
        new.detail.to_string(),
    ];
    let mut row = AuditRow { seq: end.seq + 1, at_ms, texts, chain: [0; 32] };
    row.chain = row.link(key, &end.chain);
    let [person, role, action, subject, detail] = &row.texts;
    c.prepare_cached(
        "INSERT INTO audit (seq, at_ms, person, role, action, subject, detail, chain)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute((row.seq, at_ms, person, role, action, subject, detail, row.chain))?;
    // Who works here is carried on as it was sealed: a row that somebody else took away or put back must not be sealed by the next entry.
    let (people, roll) = match head(c, key, "audit-head")? {
        Some(head) => (head.people, head.roll),
        None => (people(c)?, None),
    };
    put_audit_head(c, key, &Head { end: End { seq: row.seq, chain: row.chain }, people, roll })?;
    Ok(row.seq)
}

/// What the end of a table says against its head; `None`: it is where it should be.
pub(super) fn end_broken(
    c: &Connection,
    key: &StationKey,
    table: &'static str,
    name: &str,
) -> rusqlite::Result<Option<Broken>> {
    let end = End::of(c, table)?;
    let at = |seq: i64| -> rusqlite::Result<Option<i64>> {
        c.prepare_cached(&format!("SELECT at_ms FROM {table} WHERE seq = ?1"))?
            .query_row([seq], |r| r.get(0))
            .optional()
    };
    let what = match head(c, key, name)? {
        None => "the seal of the table's end is missing or was not made by this station".to_owned(),
        Some(Head { end: kept, .. }) if kept == end => return Ok(None),
        Some(Head { end: kept, .. }) if kept.seq > end.seq => {
            format!(
                "the table ended with row {}; rows {} to {} were removed from its end",
                kept.seq,
                end.seq + 1,
                kept.seq
            )
        }
        Some(Head { end: kept, .. }) if kept.seq < end.seq => {
            format!("the table ended with row {}; what follows was not written by this station", kept.seq)
        }
        Some(_) => {
            "the end is not the one that this station wrote; a row up to here was rewritten".to_owned()
        }
    };
    Ok(Some(Broken { table, row: end.seq, at_ms: at(end.seq)?, what }))
}

/// Seals both ends as they are: of a database that is new, or that comes from a schema without seals.
pub(super) fn seal_ends(c: &Connection, key: &StationKey) -> rusqlite::Result<()> {
    let end = End::of(c, "audit")?;
    put_audit_head(c, key, &Head { end, people: people(c)?, roll: None })?;
    put_roll(c, key, &roll_of_rows(c, key)?)?;
    seal_events(c, key)
}

/// Writes the first roll of a database whose schema had none. Only if the end of its audit log is where the seal says: who puts an old
/// head back must not have old people sealed with it.
pub(super) fn seal_people(c: &Connection, key: &StationKey) -> rusqlite::Result<()> {
    match head(c, key, "audit-head")? {
        Some(head)
            if head.roll.is_none() && head.end == End::of(c, "audit")? && head.people == people(c)? =>
        {
            put_roll(c, key, &roll_of_rows(c, key)?)
        }
        _ => Ok(()),
    }
}

/// Called once when a database is opened, before anything is written to it: an end that is not where its seal says is written down
/// for good, because the next row would seal it anew.
pub(super) fn look_at_ends(c: &Connection, key: &StationKey, at_ms: i64) -> rusqlite::Result<()> {
    let tx = c.unchecked_transaction()?;
    for (table, name) in [("audit", "audit-head"), ("unit_event", "event-head")] {
        let Some(broken) = end_broken(&tx, key, table, name)? else { continue };
        tracing::error!(%broken, "HISTORY BROKEN");
        // How many people there were stood in the old seal.
        let people = head(&tx, key, "audit-head")?.map(|head| head.people);
        let detail = json!({ "table": table, "row": broken.row, "what": broken.what, "people": people });
        let new = NewAudit {
            person: "keywright".into(),
            role: "station",
            action: BROKEN.into(),
            subject: table.into(),
            detail,
        };
        append(&tx, key, at_ms, &new)?;
        if table == "unit_event" {
            seal_events(&tx, key)?;
        }
    }
    tx.commit()
}

/// The action of the row that says that a history was found broken.
pub(super) const BROKEN: &str = "history-broken";

fn broken_failure(broken: &Broken) -> RecordsError {
    RecordsError::Refused(Box::new(Failure::new(FailureCode::HistoryBroken, broken)))
}

impl Inner {
    /// Whether anybody works here by name. An empty table counts only if this station never had people.
    pub(crate) fn has_people(&self) -> Result<bool, RecordsError> {
        let key = self.station_key();
        let (count, ever) = self.read(|c| {
            let ever: bool = c
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM audit WHERE action = 'person-added')")?
                .query_row([], |r| r.get(0))?;
            let sealed = head(c, &key, "audit-head")?.map(|head| head.people);
            // A seal that was broken was replaced; what it said of people stands in the row about it.
            let broken: bool = c
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM audit WHERE action = ?1 AND subject = 'audit'
                                    AND coalesce(detail ->> 'people', 1) > 0)",
                )?
                .query_row([BROKEN], |r| r.get(0))?;
            Ok((people(c)?, ever || broken || sealed.is_none_or(|n| n > 0)))
        })?;
        match (count, ever) {
            (0, false) => Ok(false),
            (0, true) => {
                let what =
                    "all people are gone, or the history does not say that there never were any".into();
                Err(broken_failure(&Broken { table: "person", row: 0, at_ms: None, what }))
            }
            _ => Ok(true),
        }
    }

    /// Everybody, in the order they came.
    pub(crate) fn persons(&self) -> Result<Vec<Person>, RecordsError> {
        self.read(|c| {
            c.prepare_cached(&format!("{PERSONS} ORDER BY id"))?
                .query_map([], |r| Ok(person_row(r)?.person))?
                .collect()
        })
    }

    /// The person of a query, if the row is the one that the station wrote last.
    fn person_where(
        &self,
        condition: &str,
        value: impl rusqlite::ToSql,
    ) -> Result<Option<PersonRow>, RecordsError> {
        let key = self.station_key();
        let found = self.read(|c| {
            let row = person_by(c, condition, value)?;
            Ok(row.zip(Some(roll(c, &key)?)))
        })?;
        let Some((row, roll)) = found else { return Ok(None) };
        check_row(&row, &key, roll.as_ref())?;
        Ok(Some(row))
    }

    pub(crate) fn person_named(&self, name: &str) -> Result<Option<PersonRow>, RecordsError> {
        self.person_where("name", name.trim())
    }

    pub(crate) fn person_of_badge(&self, mark: &[u8; 16]) -> Result<Option<PersonRow>, RecordsError> {
        self.person_where("badge_mark", mark)
    }

    /// A new person, and the audit row about it, in one transaction.
    pub(crate) fn add_person(
        &self,
        (name, role): (String, Role),
        pin: String,
        badge: Option<(String, [u8; 16])>,
        audit: NewAudit,
    ) -> Result<Person, RecordsError> {
        let (clock, key) = (self.clock.clone(), self.station_key());
        self.write(move |tx| {
            let at = now(&clock);
            check_badge_free(tx, badge.as_ref().map(|b| &b.1), 0)?;
            let taken: bool = tx
                .connection
                .query_row("SELECT count(*) FROM person WHERE name = ?1", [&name], |r| r.get(0))
                .map_err(|e| tx.map(e))?;
            if taken {
                return Err(refused(FailureCode::NameTaken, format!("person {name}")));
            }
            let id: i64 = tx
                .connection
                .query_row("SELECT coalesce(max(id), 0) + 1 FROM person", [], |r| r.get(0))
                .map_err(|e| tx.map(e))?;
            let (badge, mark) = badge.unzip();
            let mut row = PersonRow {
                person: Person {
                    id,
                    name,
                    role,
                    badge: badge.is_some(),
                    active: true,
                    failures: 0,
                    locked_until_ms: 0,
                    created_at_ms: at,
                },
                pin,
                badge,
                mark,
                seal: [0; 32],
            };
            row.seal = row.made_seal(&key);
            let mut roll = roll(tx.connection, &key).map_err(|e| tx.map(e))?.ok_or_else(roll_lost)?;
            roll.insert(id, row.seal);
            put_roll(tx.connection, &key, &roll).map_err(|e| tx.map(e))?;
            run(
                tx,
                "INSERT INTO person (id, name, role, pin, badge, badge_mark, created_at_ms, seal)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                (id, &row.person.name, role.as_str(), &row.pin, &row.badge, row.mark, at, row.seal),
            )?;
            append(tx.connection, &key, at, &audit).map_err(|e| tx.map(e))?;
            Ok(row.person)
        })
    }

    /// Changes a person; the audit row about it, if there is one, in the same transaction. Returns the person as they are then.
    pub(crate) fn change_person(
        &self,
        id: i64,
        change: PersonChange,
        audit: Option<NewAudit>,
    ) -> Result<Person, RecordsError> {
        let (clock, key) = (self.clock.clone(), self.station_key());
        self.write(move |tx| {
            let at = now(&clock);
            let mut row = person_by(tx.connection, "id", id).map_err(|e| tx.map(e))?.ok_or_else(|| {
                RecordsError::NotFound { what: "person", name: id.to_string(), list: "people list" }
            })?;
            let roll = roll(tx.connection, &key).map_err(|e| tx.map(e))?;
            check_row(&row, &key, roll.as_ref())?;
            let mut roll = roll.ok_or_else(roll_lost)?;
            let p = &mut row.person;
            let unlock = |p: &mut Person| (p.failures, p.locked_until_ms) = (0, 0);
            match change {
                PersonChange::Role(role, pin) => {
                    p.role = role;
                    if let Some(pin) = pin {
                        row.pin = pin;
                    }
                }
                PersonChange::Pin(pin) => {
                    unlock(p);
                    row.pin = pin;
                }
                PersonChange::Badge(badge) => {
                    check_badge_free(tx, badge.as_ref().map(|b| &b.1), id)?;
                    p.badge = badge.is_some();
                    (row.badge, row.mark) = badge.unzip();
                }
                PersonChange::Active(active) => p.active = active,
                PersonChange::Unlock | PersonChange::Right => unlock(p),
                PersonChange::Try { locked_until_ms } => {
                    p.failures = p.failures.saturating_add(1);
                    p.locked_until_ms = locked_until_ms;
                }
            }
            let p = &row.person;
            let last_admin: bool = tx
                .connection
                .query_row(
                    "SELECT NOT EXISTS (SELECT 1 FROM person WHERE role = 'admin' AND active AND id <> ?1)",
                    [id],
                    |r| r.get(0),
                )
                .map_err(|e| tx.map(e))?;
            if last_admin && (p.role != Role::Admin || !p.active) {
                return Err(RecordsError::Refused(Box::new(Failure {
                    code: FailureCode::InvalidInput,
                    sentence: format!(
                        "{} is the last admin; without one nobody could look after the station",
                        p.name
                    ),
                    remedy: "Make somebody else an admin first: keywright people role NAME admin".into(),
                })));
            }
            write_row(tx, &key, &mut row, &mut roll)?;
            if let Some(audit) = audit {
                append(tx.connection, &key, at, &audit).map_err(|e| tx.map(e))?;
            }
            Ok(row.person)
        })
    }

    /// Appends to the audit log; the row's number.
    pub(crate) fn audit(&self, new: NewAudit) -> Result<i64, RecordsError> {
        let (clock, key) = (self.clock.clone(), self.station_key());
        self.write(move |tx| append(tx.connection, &key, now(&clock), &new).map_err(|e| tx.map(e)))
    }

    /// Tries that were refused between two moments, of all names and badges.
    pub(crate) fn failed_tries(&self, from_ms: i64, to_ms: i64) -> Result<u32, RecordsError> {
        self.read(|c| {
            c.prepare_cached(
                "SELECT count(*) FROM audit WHERE action = 'login-failed' AND at_ms > ?1 AND at_ms <= ?2",
            )?
            .query_row((from_ms, to_ms), |r| r.get(0))
        })
    }

    /// The newest rows that fit, newest first.
    pub(crate) fn audit_list(&self, filter: &AuditFilter) -> Result<Vec<AuditEntry>, RecordsError> {
        let before = if filter.before > 0 { filter.before } else { i64::MAX };
        let limit = if filter.limit > 0 { i64::from(filter.limit) } else { -1 };
        self.read(|c| {
            c.prepare_cached(&format!(
                "{AUDIT} WHERE seq < ?1 AND instr(lower(person), lower(?2)) AND instr(lower(action), lower(?3))
                 AND instr(lower(subject), lower(?4)) ORDER BY seq DESC LIMIT ?5"
            ))?
            .query_map((before, filter.person.trim(), filter.action.trim(), filter.subject.trim(), limit), |r| {
                Ok(audit_row(r)?.entry())
            })?
            .collect()
        })
    }

    /// Lets an admin in again who has no PIN any more: a new PIN, no lock-out, and the audit row about it. It asks for nothing: who may
    /// do this is whoever opened the station with its passphrase. A row that was touched becomes the newest one, and so does everybody's
    /// if the roll is lost; both stand in the audit row.
    pub(crate) fn recover_person(
        &self,
        name: String,
        pin: String,
        mut audit: NewAudit,
    ) -> Result<Person, RecordsError> {
        let (clock, key) = (self.clock.clone(), self.station_key());
        self.write(move |tx| {
            let at = now(&clock);
            let mut row = person_by(tx.connection, "name", name.trim())
                .map_err(|e| tx.map(e))?
                .ok_or(RecordsError::NotFound { what: "person", name, list: "people list" })?;
            let p = &row.person;
            if p.role != Role::Admin || !p.active {
                return Err(RecordsError::Refused(Box::new(Failure {
                    code: FailureCode::InvalidInput,
                    sentence: format!("{} is no admin who may log in", p.name),
                    remedy:
                        "Recover an admin; an admin gives everybody else a new PIN: keywright people pin NAME"
                            .into(),
                })));
            }
            let kept = roll(tx.connection, &key).map_err(|e| tx.map(e))?;
            if let Err(touched) = check_row(&row, &key, kept.as_ref()) {
                // An editor makes nobody an admin by this way either.
                if !log_agrees(tx.connection, &row.person).map_err(|e| tx.map(e))? {
                    return Err(touched);
                }
                if kept.is_some() || !row.is_sealed(&key) {
                    audit.detail["row_was_touched"] = json!(true);
                }
            }
            let mut roll = match kept {
                Some(roll) => roll,
                None => {
                    audit.detail["people_sealed_anew"] = json!(true);
                    let mut roll = Roll::new();
                    for row in person_rows(tx.connection).map_err(|e| tx.map(e))? {
                        let fits = row.is_sealed(&key)
                            && log_agrees(tx.connection, &row.person).map_err(|e| tx.map(e))?;
                        if fits {
                            roll.insert(row.person.id, row.seal);
                        }
                    }
                    roll
                }
            };
            (row.person.failures, row.person.locked_until_ms) = (0, 0);
            row.pin = pin;
            audit.subject = row.person.name.clone();
            write_row(tx, &key, &mut row, &mut roll)?;
            append(tx.connection, &key, at, &audit).map_err(|e| tx.map(e))?;
            Ok(row.person)
        })
    }
}

/// Whether the audit log says of a person the role that their row has, and whether they may log in.
fn log_agrees(c: &Connection, person: &Person) -> rusqlite::Result<bool> {
    let newest = |what: &str, actions: &str| -> rusqlite::Result<Option<String>> {
        let found = c
            .prepare_cached(&format!(
                "SELECT {what} FROM audit WHERE subject = ?1 AND action IN ({actions}) ORDER BY seq DESC LIMIT 1"
            ))?
            .query_row([&person.name], |r| r.get::<_, Option<String>>(0))
            .optional()?;
        Ok(found.flatten())
    };
    let role = newest("coalesce(detail ->> 'to', detail ->> 'role')", "'person-added', 'role-changed'")?;
    let switched = newest("action", "'person-switched-on', 'person-switched-off'")?;
    let active = switched.as_deref() != Some("person-switched-off");
    Ok(role.as_deref() == Some(person.role.as_str()) && active == person.active)
}

fn roll_lost() -> RecordsError {
    let what = "the sealed roll of people is missing or was not made by this station".into();
    broken_failure(&Broken { table: "person", row: 0, at_ms: None, what })
}

/// Refuses a row that is not the one that the station wrote last.
fn check_row(row: &PersonRow, key: &StationKey, roll: Option<&Roll>) -> Result<(), RecordsError> {
    let id = row.person.id;
    let newest = match roll {
        Some(roll) => roll.get(&id),
        None if row.is_sealed(key) => return Err(roll_lost()),
        None => None,
    };
    match wrong_with(row, key, newest) {
        Some(what) => Err(broken_failure(&Broken { table: "person", row: id, at_ms: None, what })),
        None => Ok(()),
    }
}

/// Seals a row that is there already, writes it and makes it the newest.
fn write_row(
    tx: &mut Tx<'_>,
    key: &StationKey,
    row: &mut PersonRow,
    roll: &mut Roll,
) -> Result<(), RecordsError> {
    row.seal = row.made_seal(key);
    roll.insert(row.person.id, row.seal);
    let p = &row.person;
    run(
        tx,
        "UPDATE person SET role = ?2, pin = ?3, badge = ?4, badge_mark = ?5, active = ?6, failures = ?7,
                locked_until_ms = ?8, seal = ?9 WHERE id = ?1",
        (
            p.id,
            p.role.as_str(),
            &row.pin,
            &row.badge,
            row.mark,
            p.active,
            p.failures,
            p.locked_until_ms,
            row.seal,
        ),
    )?;
    put_roll(tx.connection, key, roll).map_err(|e| tx.map(e))
}

fn check_badge_free(tx: &Tx<'_>, mark: Option<&[u8; 16]>, but: i64) -> Result<(), RecordsError> {
    let Some(mark) = mark else { return Ok(()) };
    let owner: Option<String> = tx
        .connection
        .query_row("SELECT name FROM person WHERE badge_mark = ?1 AND id <> ?2", (mark, but), |r| r.get(0))
        .optional()
        .map_err(|e| map_error(tx.path, e))?;
    match owner {
        None => Ok(()),
        Some(name) => Err(refused(FailureCode::NameTaken, format!("the badge is {name}'s"))),
    }
}

impl SqliteRecords {
    /// Whether a database lists people, without its passphrase and without a word about whether that is true; a file that can't be read
    /// lists none.
    pub(crate) fn lists_people(path: &std::path::Path) -> bool {
        let count = || {
            Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?.query_row(
                "SELECT count(*) FROM person",
                [],
                |r| r.get::<_, i64>(0),
            )
        };
        count().is_ok_and(|n| n > 0)
    }

    /// Recomputes both histories and looks at their ends; what does not fit is in the answer.
    ///
    /// # Errors
    /// Those of reading.
    pub fn verify_all(&self) -> Result<Verified, RecordsError> {
        Ok(self.0.verify_all(&mut |_| ControlFlow::Continue(()))?.unwrap_or_default())
    }

    /// The same, saying now and then how far it is; `None`: it was told to stop.
    ///
    /// # Errors
    /// Those of reading.
    pub fn verify_with(&self, telling: Telling<'_>) -> Result<Option<Verified>, RecordsError> {
        self.0.verify_all(telling)
    }

    /// Rows of the audit log, newest first.
    ///
    /// # Errors
    /// Those of reading.
    pub fn audit_list(&self, filter: &AuditFilter) -> Result<Vec<AuditEntry>, RecordsError> {
        self.0.audit_list(filter)
    }

    /// Everybody who works here, in the order they came.
    ///
    /// # Errors
    /// Those of reading.
    pub fn persons(&self) -> Result<Vec<Person>, RecordsError> {
        self.0.persons()
    }
}
