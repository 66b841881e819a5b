//! Which units hang on which region certificate: counted, grouped by batch, listed a page at a time.
//!
//! Invariant: nothing here reads more rows than are shown, except counting, which reads an index.

use super::RecordsError;
use super::sqlite::{Inner, SqliteRecords, word};
use crate::model::{UnitId, UnitState};
use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};

/// The units of one batch that were given one region certificate.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BatchUnder {
    /// Name of the batch.
    pub batch: String,
    /// Its units under this certificate.
    pub units: u64,
}

/// One unit under a region certificate.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct UnitUnder {
    /// Its serial.
    pub serial: String,
    /// Its hardware id.
    pub unit: UnitId,
    /// Its batch.
    pub batch: String,
    /// Where it stands.
    pub state: UnitState,
    /// Generation of its installed keys, as proved; 0 before.
    pub generation: u32,
}

/// Which units under a certificate are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnderFilter {
    /// SHA-256 of the region certificate, hex.
    pub anchor: String,
    /// Of this batch only.
    pub batch: Option<String>,
    /// Whose serial or hardware id begins so; empty: all.
    pub search: String,
    /// At most this many.
    pub limit: u32,
}

/// What comes after every text that begins with this one.
fn after(prefix: &str) -> String {
    format!("{prefix}\u{10ffff}")
}

/// The hardware ids that begin with these hex digits, as bounds; `None`: no id begins so.
fn id_range(digits: &str) -> Option<([u8; 12], [u8; 12])> {
    let digits = digits.trim();
    if digits.is_empty() || digits.len() > 24 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let fill = |with: char| {
        let mut whole = digits.to_owned();
        while whole.len() < 24 {
            whole.push(with);
        }
        let mut id = [0; 12];
        hex::decode_to_slice(whole, &mut id).ok().map(|()| id)
    };
    Some((fill('0')?, fill('f')?))
}

/// SQLite counts in signed numbers.
fn count(r: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    r.get::<_, i64>(column).map(|n| u64::try_from(n).unwrap_or(0))
}

fn unit(r: &Row<'_>) -> rusqlite::Result<UnitUnder> {
    Ok(UnitUnder {
        serial: r.get(0)?,
        unit: UnitId(r.get(1)?),
        batch: r.get(2)?,
        state: word(r, 3)?,
        generation: r.get(4)?,
    })
}

impl Inner {
    fn units_by_anchor(&self) -> Result<Vec<(String, u64)>, RecordsError> {
        self.read(|c| {
            c.prepare_cached(
                "SELECT anchor_fingerprint, count(*) FROM enrolment WHERE anchor_fingerprint IS NOT NULL
                 GROUP BY anchor_fingerprint",
            )?
            .query_map([], |r| Ok((r.get(0)?, count(r, 1)?)))?
            .collect()
        })
    }

    fn batches_under(&self, anchor: &str) -> Result<Vec<BatchUnder>, RecordsError> {
        self.read(|c| {
            c.prepare_cached(
                "SELECT b.name, n.units FROM batch b JOIN
                 (SELECT u.batch AS batch, count(*) AS units FROM enrolment e JOIN unit u ON u.id = e.unit
                  WHERE e.anchor_fingerprint = ?1 GROUP BY u.batch) n ON n.batch = b.id ORDER BY b.id DESC",
            )?
            .query_map([anchor], |r| Ok(BatchUnder { batch: r.get(0)?, units: count(r, 1)? }))?
            .collect()
        })
    }

    fn units_under(&self, filter: &UnderFilter) -> Result<Vec<UnitUnder>, RecordsError> {
        let mut sql = String::from(
            "SELECT u.serial, u.uid, b.name, u.state, u.generation
             FROM enrolment e CROSS JOIN unit u ON u.id = e.unit JOIN batch b ON b.id = u.batch
             WHERE e.anchor_fingerprint = ?",
        );
        let mut values = vec![Value::from(filter.anchor.clone())];
        let search = filter.search.trim();
        let narrow = !search.is_empty() || filter.batch.is_some();
        if narrow {
            // From the units' own indexes: few of a batch, or few with this beginning, of many under the certificate.
            sql = sql.replace(
                "enrolment e CROSS JOIN unit u ON u.id = e.unit",
                "unit u CROSS JOIN enrolment e ON e.unit = u.id",
            );
        }
        if let Some(batch) = &filter.batch {
            // The plus keeps the batch's index out of a search, which the beginning narrows more.
            sql += if search.is_empty() { " AND u.batch" } else { " AND +u.batch" };
            sql += " = (SELECT id FROM batch WHERE name = ?)";
            values.push(batch.clone().into());
        }
        if !search.is_empty() {
            // Serials are in capitals unless their pattern has other letters.
            let (typed, capitals) = (search.to_owned(), search.to_uppercase());
            sql += " AND (u.serial BETWEEN ? AND ? OR u.serial BETWEEN ? AND ?";
            for prefix in [typed, capitals] {
                values.extend([prefix.clone().into(), after(&prefix).into()]);
            }
            if let Some((least, most)) = id_range(search) {
                sql += " OR u.uid BETWEEN ? AND ?";
                values.extend([least.to_vec().into(), most.to_vec().into()]);
            }
            sql += ")";
        }
        // Ordered by arrival, a search would read every unit until it has enough; it comes in the order of its indexes.
        sql += if search.is_empty() { " ORDER BY u.id LIMIT ?" } else { " LIMIT ?" };
        values.push(i64::from(filter.limit).into());
        self.read(|c| c.prepare_cached(&sql)?.query_map(params_from_iter(values), unit)?.collect())
    }
}

impl SqliteRecords {
    /// How many units were given each region certificate, by its fingerprint.
    ///
    /// # Errors
    /// Those of reading.
    pub fn units_by_anchor(&self) -> Result<Vec<(String, u64)>, RecordsError> {
        self.0.units_by_anchor()
    }

    /// The batches with units under a region certificate, newest first.
    ///
    /// # Errors
    /// Those of reading.
    pub fn batches_under(&self, anchor: &str) -> Result<Vec<BatchUnder>, RecordsError> {
        self.0.batches_under(anchor)
    }

    /// Units under a region certificate, in the order they came.
    ///
    /// # Errors
    /// Those of reading.
    pub fn units_under(&self, filter: &UnderFilter) -> Result<Vec<UnitUnder>, RecordsError> {
        self.0.units_under(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_of_an_id_bounds_the_ids() {
        let (least, most) = id_range("0A0b0").unwrap();
        assert_eq!(
            (hex::encode(least), hex::encode(most)),
            ("0a0b0".to_owned() + &"0".repeat(19), "0a0b0".to_owned() + &"f".repeat(19))
        );
        assert_eq!(id_range(&"1".repeat(24)).map(|(a, b)| a == b), Some(true));
        for none in ["", "xyz", "B1-0001", &"1".repeat(25)] {
            assert_eq!(id_range(none), None, "{none}");
        }
        assert!("B1-0001" < after("B1").as_str() && "B2" > after("B1").as_str());
    }
}
