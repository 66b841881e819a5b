//! How many units a second an export hands out: canonical JSON Lines, sealed for one age recipient.
//!
//! `cargo run --release -p keywright --no-default-features --example bench_export -- --json`
//!
//! Timed is [`keywright::export::export`] as the command line calls it, from reading the records to the last file's name on disk:
//! both lists of the form (without keys, and with the keys of every unit), every row signed, the second list sealed, both files
//! signed, receipts, and the export log with every unit in it. Not timed is filling the database: rows that the line would have
//! written in a hundred thousand attempts, here by one transaction, with keys sealed under the station key as the agent seals
//! them. The database and the lists lie in the system's temporary folder (`TMPDIR` for another disk).

#[path = "support/million.rs"]
mod million;
#[path = "../tests/support/mod.rs"]
mod support;

use keywright::export::{
    self, Delimiter, Destination, ExportRequest, ExportSigner, Format, Protection, RecordsSource, Selection,
};
use std::ops::ControlFlow;
use std::time::Instant;
use support::Station;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|a| a == "--json");
    let at = arguments.iter().position(|a| a == "--units");
    let units = at.and_then(|at| arguments.get(at + 1)).and_then(|v| v.parse().ok()).unwrap_or(100_000);
    let station = Station::new(units, 2);
    million::fill(&station, units, million::Keys::Sealed);
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
