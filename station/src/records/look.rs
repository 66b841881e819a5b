//! What the preflight asks of the records: quick, and the same however many units there are.

use super::sqlite::{Inner, map_error};
use super::*;
use rusqlite::OptionalExtension;

impl Inner {
    pub(super) fn last_proof(
        &self,
        unit: UnitId,
        before: AttemptId,
    ) -> Result<Option<ProofRecord>, RecordsError> {
        let found: Option<Option<String>> = self.read(|c| {
            c.prepare_cached(
                "SELECT a.proof FROM attempt a JOIN unit u ON u.id = a.unit
                 WHERE u.uid = ?1 AND a.id < ?2 ORDER BY a.id DESC LIMIT 1",
            )?
            .query_row((unit.0, before.0), |r| r.get(0))
            .optional()
        })?;
        // One that can't be read proves nothing: the unit is then proved again.
        Ok(found.flatten().and_then(|json| serde_json::from_str(&json).ok()))
    }
}

impl SqliteRecords {
    /// Whether the database takes writes now: a row is written over with what it says, durably.
    ///
    /// # Errors
    /// Why not: a full disk, a file that may not be written.
    pub fn check_writable(&self) -> Result<(), RecordsError> {
        self.0.write(|tx| {
            tx.connection
                .execute("UPDATE session SET station = station WHERE id = (SELECT max(id) FROM session)", [])
                .map(drop)
                .map_err(|e| map_error(tx.path, e))
        })
    }

    /// The newest time of an attempt, Unix milliseconds.
    ///
    /// # Errors
    /// Those of reading.
    pub fn newest_ms(&self) -> Result<Option<i64>, RecordsError> {
        self.0.read(|c| {
            c.query_row(
                "SELECT coalesce(ended_at_ms, started_at_ms) FROM attempt ORDER BY id DESC LIMIT 1",
                [],
                |r| r.get(0),
            )
            .optional()
        })
    }
}
