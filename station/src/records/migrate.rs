//! Schema versions: numbered migrations from `db/migrations`, a newer schema refused.

use super::RecordsError;
use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

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
];

/// Brings a database to [`SCHEMA_VERSION`]; each step is one transaction.
pub(super) fn to_latest(connection: &mut Connection, path: &str) -> Result<(), RecordsError> {
    let found = version(connection, path)?;
    if found > SCHEMA_VERSION {
        return Err(RecordsError::NewerSchema { path: path.into(), found, known: SCHEMA_VERSION });
    }
    if found == SCHEMA_VERSION {
        return Ok(());
    }
    Migrations::new(MIGRATIONS.iter().map(|sql| M::up(sql)).collect()).to_latest(connection).map_err(|e| {
        match e {
            rusqlite_migration::Error::RusqliteError { err, .. } => super::sqlite::map_error(path, err),
            other => RecordsError::Other { path: path.into(), detail: other.to_string() },
        }
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
        to_latest(&mut connection, "memory").unwrap();
        assert_eq!(version(&connection, "memory").unwrap(), SCHEMA_VERSION);
        to_latest(&mut connection, "memory").unwrap();
    }
}
