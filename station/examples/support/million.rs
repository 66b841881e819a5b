//! A database with very many units in one batch, made by one transaction: the rows that the line and the agent would have written.

use crate::support::{Station, unit_id};
use keywright::model::UnitId;
use sha2::{Digest, Sha256};

/// What stands in the sealed columns.
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "every example uses its own part")]
pub enum Keys {
    /// Keys sealed under the station key, as the agent seals them: exports open them.
    Sealed,
    /// Zeros of the right length, where nobody opens them: a million of them take seconds, not minutes.
    Zeros,
}

/// Fills the station's batch with units that passed; every 50th failed instead.
pub fn fill(station: &Station, units: u32, keys: Keys) {
    use keywright::secrets::SealFor;
    let key = station.records.station_key();
    let sealed = |unit: UnitId, kind: &str, secret: &[u8; 32]| {
        let row = [&unit.0[..], &1u32.to_be_bytes()].concat();
        let purpose = if kind == "agent" { "agent key" } else { "cloud key" };
        let what = SealFor { table: "key_assignment", row: &row, purpose };
        let id = hex::encode(&Sha256::digest([b"keywright/key-id/v1", &secret[..]].concat())[..8]);
        (id, key.seal(what, secret).expect("seals"))
    };
    let mut sql = station.sql();
    sql.execute_batch("PRAGMA cache_size = -400000; PRAGMA synchronous = OFF").expect("pragmas");
    let tx = sql.transaction().expect("a transaction");
    {
        let mut unit = tx
            .prepare(
                "INSERT INTO unit (id, uid, batch, serial, state, generation, created_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, 2, 1)",
            )
            .expect("a statement");
        let mut attempt = tx
            .prepare(
                "INSERT INTO attempt (batch, unit, session, fixture, operator, station, started_at_ms, ended_at_ms, outcome,
                                      failure_code, failure, proof)
                 VALUES (?1, ?2, 1, 'left', 'Ada', 'bench-1', ?3, ?3 + 20000, ?4, ?5, ?6, ?7)",
            )
            .expect("a statement");
        let mut enrolment = tx
            .prepare(
                "INSERT INTO enrolment (unit, po, state, ak_cur, ak_highest, ck_active, ck_highest, firmware_version,
                                        anchor_fingerprint)
                 VALUES (?1, ?2, 'active', 1, 1, 1, 1, '1.2.3', ?3)",
            )
            .expect("a statement");
        let mut assignment = tx
            .prepare(
                "INSERT INTO key_assignment (unit, purpose, generation, state, key_id, key_sealed, reserved_at_ms, settled_at_ms)
                 VALUES (?1, ?2, 1, 'posted', ?3, ?4, 1, 2)",
            )
            .expect("a statement");
        let proof = r#"{"cloud_mac_ok":true,"agent_mac_ok":true}"#;
        let (batch, po, anchor) = (station.batch.id.0, station.po.id.0, "ab".repeat(32));
        for n in 1..=units {
            let id = unit_id(n);
            let row = i64::from(n);
            let good = keys == Keys::Sealed || n % 50 != 0;
            let at = 1_700_000_000_000 + row * 20_000;
            let state = if good { "passed" } else { "stage-one" };
            unit.execute((row, id.0, batch, format!("B1-{n:07}"), state)).expect("a unit");
            if !good {
                let failure = r#"{"code":404,"sentence":"x","remedy":"y"}"#;
                attempt
                    .execute((batch, row, at, "FAIL", 404, failure, Option::<&str>::None))
                    .expect("an attempt");
                continue;
            }
            attempt
                .execute((batch, row, at, "PASS", Option::<u16>::None, Option::<&str>::None, proof))
                .expect("an attempt");
            enrolment.execute((row, po, &anchor)).expect("an enrolment");
            for kind in ["agent", "cloud"] {
                let (id, sealed) = match keys {
                    Keys::Zeros => (format!("{n:016x}"), vec![0; 72]),
                    Keys::Sealed => {
                        sealed(id, kind, &Sha256::digest(format!("{kind} {n}").as_bytes()).into())
                    }
                };
                assignment.execute((row, kind, id, sealed)).expect("a key");
            }
        }
    }
    tx.commit().expect("commits");
}
