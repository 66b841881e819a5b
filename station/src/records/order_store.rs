//! Product orders and batches: made, cloned, paused, closed, opened again, sampled; and who decided it.

use super::serial::{Day, Pattern};
use super::sqlite::{
    BATCH_COLUMNS, Inner, PO_COLUMNS, UNIT_COLUMNS, batch_row, check_name, check_text, json, map_secrets,
    now, po_row, product_key_seal, refused, unit_row,
};
use super::writer::Tx;
use super::*;
use crate::failure::FailureCode;
use rusqlite::OptionalExtension;
use serde_json::json;
use std::sync::atomic::Ordering;

/// A reason has at most so many characters.
const REASON: usize = 500;

/// A new batch.
#[derive(Clone, Debug)]
pub struct NewBatch {
    /// The order it is made under.
    pub po: PoId,
    /// Its name.
    pub name: String,
    /// Units planned.
    pub quantity: u32,
    /// Pattern of its serials (see [`serial`]); empty: the usual form.
    pub serial_pattern: String,
    /// Passes between two samples; 0: what the station says.
    pub gray_release: u32,
    /// Who makes it.
    pub operator: String,
    /// The batch that it was copied from.
    pub clone_of: Option<String>,
}

impl Default for NewBatch {
    fn default() -> Self {
        Self {
            po: PoId(0),
            name: String::new(),
            quantity: 0,
            serial_pattern: String::new(),
            gray_release: 0,
            operator: String::new(),
            clone_of: None,
        }
    }
}

/// One decision about an order or a batch of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderEvent {
    /// The order of truth.
    pub seq: i64,
    /// The batch it is about; `None`: the order itself.
    pub batch: Option<String>,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// Who.
    pub operator: String,
    /// `created`, `paused`, `resumed`, `closed`, `reopened`, `sample-due`, `sample-approved`.
    pub kind: String,
    /// Why, if somebody said so.
    pub reason: String,
    /// Facts.
    pub detail: serde_json::Value,
}

/// A reason in one line; empty is for the caller to judge.
pub(super) fn reason_of(text: &str) -> Result<String, RecordsError> {
    let text = text.trim();
    if text.chars().count() > REASON || text.chars().any(char::is_control) {
        let facts = format!("a reason has at most {REASON} printable characters");
        return Err(refused(FailureCode::InvalidInput, facts));
    }
    Ok(text.to_owned())
}

struct Told<'a> {
    operator: &'a str,
    kind: &'a str,
    reason: &'a str,
    detail: serde_json::Value,
}

fn append(tx: &Tx<'_>, po: i64, batch: Option<i64>, at: i64, told: &Told<'_>) -> Result<(), RecordsError> {
    tx.connection
        .prepare_cached(
            "INSERT INTO order_event (po, batch, at_ms, operator, kind, reason, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .and_then(|mut s| {
            s.execute((po, batch, at, told.operator, told.kind, told.reason, told.detail.to_string()))
        })
        .map(|_| ())
        .map_err(|e| tx.map(e))
}

/// What can be said of an order without looking at others.
fn check_order(new: &NewProductOrder) -> Result<Option<String>, RecordsError> {
    check_name("product order's name", &new.name, 16)?;
    check_name("model", &new.model, 16)?;
    check_text("a hardware revision", &new.hw_revision, 64)?;
    check_text("a part number", &new.part_number, 64)?;
    check_text("a cloud URL", &new.cloud_url, 255)?;
    if new.quantity == 0 || new.region == 0 || !(1..=2).contains(&new.suite) {
        return Err(refused(
            FailureCode::InvalidInput,
            format!(
                "quantity {} and region {} start at 1, suite {} is 1 (legacy) or 2 (hardened)",
                new.quantity, new.region, new.suite
            ),
        ));
    }
    if new.product_key.as_ref().is_some_and(|k| keywright_protocol::crypto::is_blank(k.expose())) {
        return Err(refused(FailureCode::BlankKey, format!("the product key of order {}", new.name)));
    }
    new.image_sha256.as_deref().map(image_hash).transpose()
}

/// An image hash as it is kept.
pub(super) fn image_hash(text: &str) -> Result<String, RecordsError> {
    let hash = text.to_ascii_lowercase();
    if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(hash)
    } else {
        Err(refused(FailureCode::InvalidInput, "an image hash has 64 hex digits"))
    }
}

/// Names that differ only in case are one name: files and scanners do not tell them apart.
fn name_taken(what: &str, new: &str, other: &str) -> RecordsError {
    let facts = match new == other {
        true => format!("{what} {new}"),
        false => format!("{what} {new}: there is {other}, and names must differ in more than case"),
    };
    refused(FailureCode::NameTaken, facts)
}

fn insert_order(
    tx: &Tx<'_>,
    new: &NewProductOrder,
    (sealed, image): (&[u8], Option<&str>),
    at: i64,
) -> Result<ProductOrder, RecordsError> {
    let taken: Option<String> = tx
        .connection
        .query_row("SELECT name FROM product_order WHERE name = ?1 COLLATE NOCASE", [&new.name], |r| r.get(0))
        .optional()
        .map_err(|e| tx.map(e))?;
    if let Some(other) = taken {
        return Err(name_taken("product order", &new.name, &other));
    }
    tx.connection
        .execute(
            "INSERT INTO product_order (name, model, hw_revision, part_number, quantity, region, suite, cloud_url,
                                        product_key_sealed, created_at_ms, locks, per_hour, label, image_sha256)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            rusqlite::params![
                new.name,
                new.model,
                new.hw_revision,
                new.part_number,
                new.quantity,
                new.region,
                new.suite,
                new.cloud_url,
                sealed,
                at,
                new.lock,
                new.per_hour,
                new.label.as_str(),
                image
            ],
        )
        .map_err(|e| tx.map(e))?;
    let id = tx.connection.last_insert_rowid();
    let detail = json!({
        "quantity": new.quantity, "region": new.region, "suite": new.suite, "label": new.label.as_str(),
        "product_key": if new.product_key.is_some() { "imported" } else { "drawn" }, "image_sha256": image,
    });
    append(tx, id, None, at, &Told { operator: &new.operator, kind: "created", reason: "", detail })?;
    tx.connection.query_row(&format!("{PO_COLUMNS} WHERE id = ?1"), [id], po_row).map_err(|e| tx.map(e))
}

/// What a batch's serials look like; empty: the usual form.
fn pattern_of(new: &NewBatch, at: i64) -> Result<Option<Pattern>, RecordsError> {
    if new.serial_pattern.trim().is_empty() {
        return Ok(None);
    }
    Pattern::parse(new.serial_pattern.trim(), &new.name, Day::at(at))
        .map(Some)
        .map_err(|e| refused(FailureCode::InvalidInput, e))
}

/// Serials of the new batch must be its own, and there must be enough of them.
fn check_serials(tx: &Tx<'_>, new: &NewBatch, own: Option<&Pattern>) -> Result<(), RecordsError> {
    let others: Vec<(String, String)> = tx
        .connection
        .prepare_cached("SELECT DISTINCT iif(serial_pattern = '', name, ''), serial_pattern FROM batch")
        .and_then(|mut s| s.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect())
        .map_err(|e| tx.map(e))?;
    let usual = Pattern::usual(&new.name);
    let mine = own.unwrap_or(&usual);
    let text = own.map(Pattern::to_string).unwrap_or_default();
    for (batch, pattern) in others {
        if own.is_some() && pattern == text {
            continue;
        }
        let theirs = if pattern.is_empty() {
            Pattern::usual(&batch)
        } else {
            Pattern::read(&pattern)
                .map_err(|e| RecordsError::Corrupt { path: tx.path.into(), detail: e.to_string() })?
        };
        if mine.meets(&theirs) {
            let whose =
                if batch.is_empty() { format!("the pattern {pattern}") } else { format!("batch {batch}") };
            return Err(refused(
                FailureCode::InvalidInput,
                format!("serials of batch {} could be those of {whose}; choose another pattern", new.name),
            ));
        }
    }
    let Some(own) = own else { return Ok(()) };
    let (next, promised): (i64, i64) = tx
        .connection
        .query_row(
            "SELECT coalesce((SELECT next FROM serial_series WHERE pattern = ?1), 1),
                    (SELECT coalesce(sum(max(quantity - units, 0)), 0) FROM batch WHERE serial_pattern = ?1 AND state <> 'closed')",
            [&text],
            |r| Ok((r.get(0)?, r.get(1)?)),
        )
        .map_err(|e| tx.map(e))?;
    let left = i64::from(own.room()) - (next - 1) - promised;
    if left < i64::from(new.quantity) {
        return Err(refused(
            FailureCode::InvalidInput,
            format!(
                "the pattern {text} has room for {} more serials, batch {} has {} units; give {{n}} more digits",
                left.max(0),
                new.name,
                new.quantity
            ),
        ));
    }
    Ok(())
}

fn insert_batch(tx: &Tx<'_>, new: &NewBatch, order: &ProductOrder, at: i64) -> Result<Batch, RecordsError> {
    check_name("batch's name", &new.name, 32)?;
    if new.quantity == 0 {
        return Err(refused(FailureCode::InvalidInput, "a batch has at least one unit"));
    }
    let pattern = pattern_of(new, at)?;
    let (taken, planned): (Option<String>, i64) = tx
        .connection
        .query_row(
            "SELECT (SELECT name FROM batch WHERE name = ?2 COLLATE NOCASE LIMIT 1),
                    (SELECT coalesce(sum(quantity), 0) FROM batch WHERE po = ?1)",
            (order.id.0, &new.name),
            |r| Ok((r.get(0)?, r.get(1)?)),
        )
        .map_err(|e| tx.map(e))?;
    if let Some(other) = taken {
        return Err(name_taken("batch", &new.name, &other));
    }
    let left = i64::from(order.quantity) - planned;
    if i64::from(new.quantity) > left {
        return Err(refused(
            FailureCode::InvalidInput,
            format!(
                "order {} has {left} of {} units left, asked for {}",
                order.name, order.quantity, new.quantity
            ),
        ));
    }
    check_serials(tx, new, pattern.as_ref())?;
    let pattern = pattern.map(|p| p.to_string()).unwrap_or_default();
    tx.connection
        .execute(
            "INSERT INTO batch (name, po, quantity, state, created_at_ms, serial_pattern, serial_form, gray_release)
             VALUES (?1, ?2, ?3, 'open', ?4, ?5, ?6, ?7)",
            (&new.name, order.id.0, new.quantity, at, &pattern, new.serial_pattern.trim(), new.gray_release),
        )
        .map_err(|e| tx.map(e))?;
    let id = tx.connection.last_insert_rowid();
    let detail = json!({
        "quantity": new.quantity, "serial_pattern": pattern, "gray_release": new.gray_release, "clone_of": new.clone_of,
    });
    append(
        tx,
        order.id.0,
        Some(id),
        at,
        &Told { operator: &new.operator, kind: "created", reason: "", detail },
    )?;
    tx.connection.query_row(&format!("{BATCH_COLUMNS} WHERE id = ?1"), [id], batch_row).map_err(|e| tx.map(e))
}

/// The serial of the next new unit of a batch, used up by asking.
pub(super) fn next_serial(tx: &Tx<'_>, batch: i64, name: &str, counter: u32) -> Result<String, RecordsError> {
    let pattern: String = tx
        .connection
        .prepare_cached("SELECT serial_pattern FROM batch WHERE id = ?1")
        .and_then(|mut s| s.query_row([batch], |r| r.get(0)))
        .map_err(|e| tx.map(e))?;
    if pattern.is_empty() {
        tx.connection
            .prepare_cached("UPDATE batch SET next_serial = next_serial + 1 WHERE id = ?1")
            .and_then(|mut s| s.execute([batch]))
            .map_err(|e| tx.map(e))?;
        return Ok(serial::format(name, counter));
    }
    let own = Pattern::read(&pattern)
        .map_err(|e| RecordsError::Corrupt { path: tx.path.into(), detail: e.to_string() })?;
    let counter: u32 = tx
        .connection
        .prepare_cached(
            "INSERT INTO serial_series (pattern, next) VALUES (?1, 2)
             ON CONFLICT (pattern) DO UPDATE SET next = next + 1 RETURNING next - 1",
        )
        .and_then(|mut s| s.query_row([&pattern], |r| r.get(0)))
        .map_err(|e| tx.map(e))?;
    own.serial(counter).ok_or_else(|| {
        refused(
            FailureCode::SerialsSpent,
            format!("batch {name}, pattern {pattern}: {} were given out", own.room()),
        )
    })
}

impl Inner {
    pub(super) fn create_orders(
        &self,
        orders: Vec<(NewProductOrder, Option<NewBatch>)>,
    ) -> Result<Vec<(ProductOrder, Option<Batch>)>, RecordsError> {
        let mut ready = Vec::with_capacity(orders.len());
        for (new, batch) in orders {
            let image = check_order(&new)?;
            let key = match &new.product_key {
                Some(key) => key.clone(),
                None => Secret::<32>::random().map_err(|e| map_secrets(&self.display, e))?,
            };
            let sealed = self.seal(&product_key_seal(&new.name), key.expose())?;
            ready.push((new, batch, sealed, image));
        }
        let clock = self.clock.clone();
        self.write(move |tx| {
            let at = now(&clock);
            let mut made = Vec::with_capacity(ready.len());
            for (new, batch, sealed, image) in &ready {
                let order = insert_order(tx, new, (sealed, image.as_deref()), at)?;
                let batch = batch.as_ref().map(|b| insert_batch(tx, b, &order, at)).transpose()?;
                made.push((order, batch));
            }
            Ok(made)
        })
    }

    pub(super) fn new_batch(&self, new: NewBatch) -> Result<Batch, RecordsError> {
        let clock = self.clock.clone();
        self.write(move |tx| {
            let order = tx
                .connection
                .query_row(&format!("{PO_COLUMNS} WHERE id = ?1"), [new.po.0], po_row)
                .optional()
                .map_err(|e| tx.map(e))?;
            let order = order.ok_or_else(|| RecordsError::NotFound {
                what: "product order",
                name: new.po.0.to_string(),
                list: "po list",
            })?;
            insert_batch(tx, &new, &order, now(&clock))
        })
    }

    pub(super) fn set_batch_state(
        &self,
        id: BatchId,
        state: BatchState,
        operator: &str,
        reason: &str,
    ) -> Result<(), RecordsError> {
        let (operator, reason, clock) = (operator.to_owned(), reason_of(reason)?, self.clock.clone());
        let gray_release = self.gray_release.load(Ordering::Relaxed);
        self.write(move |tx| {
            let old = tx
                .connection
                .query_row(&format!("{BATCH_COLUMNS} WHERE id = ?1"), [id.0], batch_row)
                .map_err(|e| tx.map(e))?;
            let kind = match (old.state, state) {
                (a, b) if a == b => return Ok(()),
                // What nobody looked at is approved, or the batch is stopped with a reason; then it may be closed.
                (BatchState::Open, BatchState::Closed)
                    if old.terms.gate(gray_release) > 0 && old.terms.unsampled() > 0 =>
                {
                    let facts = format!("{} units of batch {} passed", old.terms.unsampled(), old.name);
                    return Err(refused(FailureCode::SampleDue, facts));
                }
                (BatchState::Closed, BatchState::Open) => {
                    if reason.is_empty() {
                        let facts = format!("batch {} was closed; opening it again wants a reason", old.name);
                        return Err(refused(FailureCode::InvalidInput, facts));
                    }
                    "reopened"
                }
                (BatchState::Closed, _) => {
                    return Err(refused(FailureCode::BatchClosed, format!("batch {}: it is closed", old.name)));
                }
                (_, BatchState::Paused) => "paused",
                (_, BatchState::Open) => "resumed",
                (_, BatchState::Closed) => "closed",
            };
            let detail = json!({ "passed": old.terms.passed });
            let told = Told { operator: &operator, kind, reason: &reason, detail };
            append(tx, old.po.0, Some(id.0), now(&clock), &told)?;
            tx.connection
                .execute(
                    "UPDATE batch SET state = ?2, closed_reason = iif(?2 = 'closed', ?3, closed_reason) WHERE id = ?1",
                    (id.0, state.as_str(), &reason),
                )
                .map(|_| ())
                .map_err(|e| tx.map(e))
        })
    }

    pub(super) fn approve_sample(&self, id: BatchId, operator: &str, note: &str) -> Result<(), RecordsError> {
        let (operator, note, clock) = (operator.to_owned(), reason_of(note)?, self.clock.clone());
        self.write(move |tx| {
            let old = tx
                .connection
                .query_row(&format!("{BATCH_COLUMNS} WHERE id = ?1"), [id.0], batch_row)
                .map_err(|e| tx.map(e))?;
            let waiting = old.terms.passed.saturating_sub(old.terms.approved);
            if waiting == 0 {
                return Err(refused(
                    FailureCode::InvalidInput,
                    format!("no unit of batch {} passed since the last sample", old.name),
                ));
            }
            tx.connection
                .execute("UPDATE batch SET approved = passed WHERE id = ?1", [id.0])
                .map_err(|e| tx.map(e))?;
            let detail = json!({ "units": waiting, "passed": old.terms.passed });
            let told = Told { operator: &operator, kind: "sample-approved", reason: &note, detail };
            append(tx, old.po.0, Some(id.0), now(&clock), &told)
        })
    }

    pub(super) fn sample(&self, batch: &Batch, at_most: u32) -> Result<Vec<Unit>, RecordsError> {
        let waiting = batch.terms.passed.saturating_sub(batch.terms.approved).min(at_most);
        let session = self.session;
        self.read(|c| {
            c.prepare_cached(&format!(
                "{UNIT_COLUMNS}
                 JOIN (SELECT m.id AS passed_by, m.unit FROM attempt m JOIN unit w ON w.id = m.unit
                       WHERE m.batch = ?1 AND m.outcome = 'PASS' AND m.kind = 'make' AND w.state = 'passed'
                         AND m.id = (SELECT max(id) FROM attempt WHERE unit = m.unit AND outcome = 'PASS' AND kind = 'make')
                       ORDER BY m.id DESC LIMIT ?4) newest ON newest.unit = u.id
                 ORDER BY newest.passed_by DESC"
            ))?
            .query_map((batch.id.0, 0, session, waiting), unit_row)?
            .collect()
        })
    }

    pub(super) fn order_events(
        &self,
        po: PoId,
        batch: Option<BatchId>,
    ) -> Result<Vec<OrderEvent>, RecordsError> {
        self.read(|c| {
            c.prepare_cached(
                "SELECT e.seq, b.name, e.at_ms, e.operator, e.kind, e.reason, e.detail
                 FROM order_event e LEFT JOIN batch b ON b.id = e.batch
                 WHERE e.po = ?1 AND (?2 IS NULL OR e.batch = ?2) ORDER BY e.seq",
            )?
            .query_map((po.0, batch.map(|b| b.0)), |r| {
                Ok(OrderEvent {
                    seq: r.get(0)?,
                    batch: r.get(1)?,
                    at_ms: r.get(2)?,
                    operator: r.get(3)?,
                    kind: r.get(4)?,
                    reason: r.get(5)?,
                    detail: json(r, 6)?.unwrap_or_default(),
                })
            })?
            .collect()
        })
    }
}
