//! Schema versions: numbered migrations from `db/migrations`, a newer schema refused.

use super::RecordsError;
use super::people_store::{seal_ends, seal_people};
use crate::secrets::StationKey;
use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};
use std::sync::Arc;

/// The schema this program writes (SQLite's `user_version`).
pub const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

const MIGRATIONS: &[&str] = &[
    include_str!("../../../db/migrations/0001_records.sql"),
    include_str!("../../../db/migrations/0002_agent.sql"),
    include_str!("../../../db/migrations/0003_clouds.sql"),
    include_str!("../../../db/migrations/0004_lock.sql"),
    include_str!("../../../db/migrations/0005_reprovision.sql"),
    include_str!("../../../db/migrations/0006_people.sql"),
    include_str!("../../../db/migrations/0007_labels.sql"),
    include_str!("../../../db/migrations/0008_exports.sql"),
    include_str!("../../../db/migrations/0009_shift.sql"),
    include_str!("../../../db/migrations/0010_units.sql"),
    include_str!("../../../db/migrations/0011_trust.sql"),
    include_str!("../../../db/migrations/0012_counts.sql"),
    include_str!("../../../db/migrations/0013_people.sql"),
];

/// The schema whose histories are sealed for the first time.
const SEALED_SINCE: usize = 6;
/// The schema that knows which row of a person is the newest.
const ROLL_SINCE: usize = 13;

/// Brings a database to [`SCHEMA_VERSION`]; each step is one transaction. `key` is that of a database that has one.
pub(super) fn to_latest(
    connection: &mut Connection,
    path: &str,
    key: Option<Arc<StationKey>>,
) -> Result<(), RecordsError> {
    let found = version(connection, path)?;
    if found > SCHEMA_VERSION {
        return Err(RecordsError::NewerSchema { path: path.into(), found, known: SCHEMA_VERSION });
    }
    if found == SCHEMA_VERSION {
        return Ok(());
    }
    let steps = MIGRATIONS.iter().enumerate().map(|(i, sql)| match key.clone() {
        Some(key) if i + 1 == SEALED_SINCE => {
            M::up_with_hook(sql, move |tx: &rusqlite::Transaction<'_>| Ok(seal_ends(tx, &key)?))
        }
        Some(key) if i + 1 == ROLL_SINCE => {
            M::up_with_hook(sql, move |tx: &rusqlite::Transaction<'_>| Ok(seal_people(tx, &key)?))
        }
        _ => M::up(sql),
    });
    Migrations::new(steps.collect()).to_latest(connection).map_err(|e| match e {
        rusqlite_migration::Error::RusqliteError { err, .. } => super::sqlite::map_error(path, err),
        other => RecordsError::Other { path: path.into(), detail: other.to_string() },
    })
}

/// The database's own schema version; refuses one that is newer than this program.
pub(super) fn check_readable(connection: &Connection, path: &str) -> Result<(), RecordsError> {
    let found = version(connection, path)?;
    if found > SCHEMA_VERSION {
        return Err(RecordsError::NewerSchema { path: path.into(), found, known: SCHEMA_VERSION });
    }
    Ok(())
}

fn version(connection: &Connection, path: &str) -> Result<i64, RecordsError> {
    connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|e| super::sqlite::map_error(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_apply_to_an_empty_database() {
        let mut connection = Connection::open_in_memory().unwrap();
        to_latest(&mut connection, "memory", None).unwrap();
        assert_eq!(version(&connection, "memory").unwrap(), SCHEMA_VERSION);
        to_latest(&mut connection, "memory", None).unwrap();
    }

    /// Exports from before schema 8 keep their numbers, recipients and units, and say which keys they gave away.
    #[test]
    fn exports_of_old_databases_keep_what_they_say() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("PRAGMA foreign_keys = ON").unwrap();
        Migrations::new(MIGRATIONS[..5].iter().map(|sql| M::up(sql)).collect())
            .to_latest(&mut connection)
            .unwrap();
        let (sealed, hash) = ("zeroblob(72)", "ab".repeat(32));
        connection
            .execute_batch(&format!(
                "INSERT INTO product_order (id, name, model, hw_revision, part_number, quantity, region, suite, cloud_url,
                                            product_key_sealed, created_at_ms)
                 VALUES (1, 'PO', 'M', 'A', 'P', 9, 7, 2, 'mqtts://x', {sealed}, 1);
                 INSERT INTO batch (id, name, po, quantity, state, created_at_ms) VALUES (1, 'B', 1, 9, 'open', 1);
                 INSERT INTO unit (id, uid, batch, serial, state, created_at_ms) VALUES (1, x'010101010101010101010101', 1, 'S', 'passed', 1);
                 INSERT INTO key_assignment (unit, purpose, generation, state, key_id, key_sealed, reserved_at_ms, settled_at_ms, retired_at_ms)
                 VALUES (1, 'agent', 1, 'posted', '0123456789abcdef', {sealed}, 1, 2, NULL),
                        (1, 'cloud', 1, 'posted', '0123456789abcdef', {sealed}, 1, 2, 50),
                        (1, 'cloud', 2, 'posted', '0123456789abcdef', {sealed}, 49, 50, NULL);
                 INSERT INTO export (id, batch, format, file, rows, sha256, operator, at_ms)
                 VALUES (4, 1, 'csv', 'f', 1, '{hash}', 'Ada', 40), (7, 1, 'csv.age', 'g', 1, '{hash}', 'Ada', 40);
                 INSERT INTO export_recipient VALUES (7, 'fp');
                 INSERT INTO export_unit (export, unit) VALUES (4, 1), (7, 1);"
            ))
            .unwrap();
        to_latest(&mut connection, "memory", None).unwrap();
        let all = |sql: &str| -> Vec<String> {
            let mut statement = connection.prepare(sql).unwrap();
            statement.query_map([], |r| r.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
        };
        assert_eq!(
            all("SELECT id || ' ' || selection || ' ' || protection FROM export ORDER BY id"),
            ["4 batch=B none", "7 batch=B age"]
        );
        // The second cloud key came later than the list.
        assert_eq!(
            all("SELECT export || ' ' || ak || ' ' || ck FROM export_unit ORDER BY export"),
            ["4 0 0", "7 1 1"]
        );
        assert_eq!(all("SELECT export || ' ' || fingerprint FROM export_recipient"), ["7 fp"]);
        assert_eq!(all("SELECT id || ' ' || keys_of FROM export ORDER BY id"), ["4 0", "7 1"]);
        assert_eq!(all("SELECT batch || ' ' || class || ' ' || units FROM batch_tally"), ["1 passed 1"]);
        let insert =
            "INSERT INTO export (batch, selection, format, file, rows, sha256, operator, at_ms, protection)
                      VALUES (NULL, 'all', 'jws', 'h', 0, ?1, 'Ada', 1, 'none')";
        connection.execute(insert, [&hash]).unwrap();
        assert_eq!(connection.last_insert_rowid(), 8, "a number is never given twice");
        assert!(
            connection.execute("INSERT INTO export_unit VALUES (99, 1, 0, 0)", []).is_err(),
            "foreign keys hold"
        );
    }
}
