//! How many units a second an export hands out: canonical JSON Lines, sealed for one age recipient.
//!
//! `cargo run --release -p keywright --no-default-features --example bench_export -- --json`
//!
//! Timed is [`keywright::export::export`] as the command line calls it, from reading the records to the last file's name on disk:
//! both lists of the form (without keys, and with the keys of every unit), every row signed, the second list sealed, both files
//! signed, receipts, and the export log with every unit in it. Not timed is filling the database: rows that the line would have
//! written in a hundred thousand attempts, here by one transaction, with keys sealed under the station key as the agent seals
//! them. The database and the lists lie in the system's temporary folder (`TMPDIR` for another disk).

#[path = "../tests/support/mod.rs"]
mod support;

use keywright::export::{
    self, Delimiter, Destination, ExportRequest, ExportSigner, Format, Protection, RecordsSource, Selection,
};
use keywright::model::UnitId;
use keywright::secrets::SealFor;
use sha2::{Digest, Sha256};
use std::ops::ControlFlow;
use std::time::Instant;
use support::{Station, unit_id};

/// The line's and the agent's rows of units that passed.
fn fill(station: &Station, units: u32) {
    let key = station.records.station_key();
    let sealed = |unit: UnitId, kind: &str, secret: &[u8; 32]| {
        let row = [&unit.0[..], &1u32.to_be_bytes()].concat();
        let purpose = if kind == "agent" { "agent key" } else { "cloud key" };
        let what = SealFor { table: "key_assignment", row: &row, purpose };
        let id = hex::encode(&Sha256::digest([b"keywright/key-id/v1", &secret[..]].concat())[..8]);
        (id, key.seal(what, secret).expect("seals"))
    };
    let mut sql = station.sql();
    let tx = sql.transaction().expect("a transaction");
    let proof = r#"{"cloud_mac_ok":true,"agent_mac_ok":true}"#;
    for n in 1..=units {
        let unit = unit_id(n);
        let row = i64::from(n);
        tx.execute(
            "INSERT INTO unit (id, uid, batch, serial, state, generation, created_at_ms) VALUES (?1, ?2, ?3, ?4, 'passed', 2, 1)",
            (row, unit.0, station.batch.id.0, format!("B1-{n:06}")),
        )
        .expect("a unit");
        tx.execute(
            "INSERT INTO attempt (batch, unit, session, fixture, operator, station, started_at_ms, ended_at_ms, outcome, proof)
             VALUES (?1, ?2, 1, 'left', 'Ada', 'bench-1', 1000, 2000, 'PASS', ?3)",
            (station.batch.id.0, row, proof),
        )
        .expect("an attempt");
        tx.execute(
            "INSERT INTO enrolment (unit, po, state, ak_cur, ak_highest, ck_active, ck_highest, firmware_version,
                                    anchor_fingerprint)
             VALUES (?1, ?2, 'active', 1, 1, 1, 1, '1.2.3', ?3)",
            (row, station.po.id.0, "ab".repeat(32)),
        )
        .expect("an enrolment");
        for kind in ["agent", "cloud"] {
            let secret: [u8; 32] = Sha256::digest(format!("{kind} {n}").as_bytes()).into();
            let (id, sealed) = sealed(unit, kind, &secret);
            tx.execute(
                "INSERT INTO key_assignment (unit, purpose, generation, state, key_id, key_sealed, reserved_at_ms, settled_at_ms)
                 VALUES (?1, ?2, 1, 'posted', ?3, ?4, 1, 2)",
                (row, kind, id, sealed),
            )
            .expect("a key");
        }
    }
    tx.commit().expect("commits");
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|a| a == "--json");
    let at = arguments.iter().position(|a| a == "--units");
    let units = at.and_then(|at| arguments.get(at + 1)).and_then(|v| v.parse().ok()).unwrap_or(100_000);
    let station = Station::new(units, 2);
    fill(&station, units);
    let source = RecordsSource { records: station.records.clone(), vault: station.records.key_vault() };
    let signer = ExportSigner::from_seed(&[7; 32]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut best = f64::MAX;
    for round in 0..3 {
        let recipient =
            age::x25519::Identity::generate().to_public().to_string().parse().expect("a recipient");
        let request = ExportRequest {
            selection: Selection::batch(&station.batch.name),
            formats: vec![Format::Jsonl],
            delimiter: Delimiter::Comma,
            protection: Protection::Age(vec![recipient]),
            handed_to: None,
            second_person: None,
            needs_second_person: false,
            replaces: None,
            station: "bench-1".into(),
            destination: Destination::Folder(folder.path().join(round.to_string())),
            overwrite: false,
            operator: "Ada".into(),
            now_ms: 1_795_250_400_123,
        };
        let begin = Instant::now();
        let report =
            export::export(&source, &signer, &request, &mut |_| ControlFlow::Continue(())).expect("exports");
        let took = begin.elapsed().as_secs_f64();
        assert_eq!((report.passed, report.not_passed), (u64::from(units), 0));
        eprintln!("round {round}: {took:.2} s");
        best = best.min(took);
    }
    let value = (f64::from(units) / best).round();
    if json {
        println!(
            "{}",
            serde_json::json!({ "name": "export_units_per_s", "value": value, "unit": "1/s", "goal": 20_000 })
        );
    } else {
        println!("{:32} {value:10} 1/s   goal 20000", "export_units_per_s");
    }
}
