//! How long a search over a million units takes, as a person types.
//!
//! `cargo run --release -p keywright --no-default-features --example bench_search -- --json`
//!
//! Timed is [`UnitBook::find_units`] as the window's desk calls it: a page of fifty hits with their count. The queries are what
//! people type, letter by letter, and the worst we know: parts that every serial has, parts that none has, two letters, a code that
//! a fiftieth of all units failed with, a state that nearly all are in, and several of these at once. The figure is the 99th
//! percentile of all of them, each asked several times in a mixed order. Not timed is filling the database: rows that the line would
//! have written in a million attempts, here by one transaction. It lies in the system's temporary folder (`TMPDIR` for another disk).

#[path = "../tests/support/mod.rs"]
mod support;

use keywright::records::{MOST_HITS, Records, UnitBook, UnitQuery};
use std::collections::BTreeMap;
use std::time::Instant;
use support::{Rng, Station};

const BATCHES: u32 = 20;
const ROUNDS: usize = 12;

/// Units of twenty batches; a fiftieth failed once, few are not passed.
fn fill(station: &Station, units: u32) {
    let mut sql = station.sql();
    sql.execute_batch("PRAGMA cache_size = -400000; PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF")
        .expect("pragmas");
    let tx = sql.transaction().expect("a transaction");
    for n in 1..=BATCHES {
        tx.execute(
            "INSERT INTO batch (id, name, po, quantity, state, created_at_ms) VALUES (?1, ?2, ?3, ?4, 'open', 1)",
            (100 + n, format!("B-{n:04}"), station.po.id.0, units),
        )
        .expect("a batch");
    }
    let mut dice = Rng(0x5ea7c4);
    let mut unit = tx
        .prepare("INSERT OR IGNORE INTO unit (id, uid, batch, serial, state, generation, created_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, 2, 1)")
        .expect("prepares");
    let mut attempt = tx
        .prepare(
            "INSERT INTO attempt (batch, unit, session, fixture, operator, station, started_at_ms, ended_at_ms, outcome,
                                  failure_code, failure, proof)
             VALUES (?1, ?2, 1, 'left', 'Ada', 'bench-1', ?3, ?3, ?4, ?5, ?6, ?7)",
        )
        .expect("prepares");
    let proof = r#"{"cloud_mac_ok":true,"agent_mac_ok":true}"#;
    let failure =
        r#"{"code":"DeviceSilent","sentence":"The board does not answer on its serial port","remedy":"-"}"#;
    let per_batch = units.div_ceil(BATCHES);
    for n in 0..units {
        let (batch, counter) = (n / per_batch + 1, n % per_batch + 1);
        // As the chip's makers number them: lot and wafer in common, coordinates of their own.
        let mut uid = *b"\0\0\0\0Q12\t36\0\0";
        uid[..4].copy_from_slice(&(dice.next() as u32).to_be_bytes());
        uid[8..].copy_from_slice(&n.to_be_bytes());
        let state = match dice.below(1000) {
            0 => "quarantined",
            1 => "scrapped",
            2..=4 => "cloud-key",
            _ => "passed",
        };
        let serial =
            format!("B-{batch:04}-{counter:05}{}", char::from(b"ACDEFHJKMNPRTVWXY"[(n % 17) as usize]));
        unit.execute((n + 1, uid, 100 + batch, serial, state)).expect("a unit");
        let at = 1_790_000_000_000_i64 + i64::from(n) * 1000;
        if dice.percent(2) {
            let code = [304, 304, 401, 206][dice.below(4) as usize];
            attempt
                .execute((100 + batch, n + 1, at - 500, "FAIL", Some(code), Some(failure), None::<&str>))
                .expect("an attempt");
        }
        if state == "passed" {
            attempt
                .execute((100 + batch, n + 1, at, "PASS", None::<u16>, None::<&str>, Some(proof)))
                .expect("an attempt");
        }
    }
    drop((unit, attempt));
    tx.commit().expect("commits");
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|a| a == "--json");
    let at = arguments.iter().position(|a| a == "--units");
    let units = at.and_then(|at| arguments.get(at + 1)).and_then(|v| v.parse().ok()).unwrap_or(1_000_000_u32);
    let station = Station::new(9, 2);
    let begin = Instant::now();
    fill(&station, units);
    eprintln!("{units} units in {:.1} s", begin.elapsed().as_secs_f64());
    let records = &station.records;
    // Letter by letter, as they are typed.
    let mut texts: Vec<String> = Vec::new();
    for whole in
        ["B-0007-01234", "00042", "b-0020-4999", "0a3f5131", "K304 B-0003", "-0000", "quarantined 0019"]
    {
        texts.extend((1..=whole.len()).map(|n| whole[..n].to_owned()));
    }
    let worst = [
        "",
        "zzzz",
        "B-",
        "B-0",
        "0-0",
        "000",
        "9-9999",
        "-04999",
        "passed",
        "passed 0001",
        "scrapped K304",
        "passed K304 0007-",
        "K304 quarantined",
        "K206 B-0011 4",
        "cloud-key K401",
        "K304 -0000",
        "513132",
        "00-00",
        "B-0 1 2 3 4",
    ];
    texts.extend(worst.map(str::to_owned));
    let batch = records.batch_by_name("B-0013").expect("a batch").id;
    let mut queries: Vec<(String, UnitQuery, u32)> =
        texts.iter().map(|text| (text.clone(), UnitQuery::parse(text), 0)).collect();
    for text in ["", "K304", "quarantined", "K304 passed", "499"] {
        queries.push((
            format!("{text} in one batch"),
            UnitQuery { batch: Some(batch), ..UnitQuery::parse(text) },
            0,
        ));
    }
    queries.push(("the last page".into(), UnitQuery::parse("B-0"), MOST_HITS as u32 - 50));
    let mut dice = Rng(7);
    let (mut all, mut by_query) = (Vec::new(), BTreeMap::<String, f64>::new());
    for _ in 0..ROUNDS {
        let mut left: Vec<_> = queries.iter().collect();
        while !left.is_empty() {
            let (text, query, from) = left.swap_remove(dice.below(left.len() as u64) as usize);
            let begin = Instant::now();
            let found = records.find_units(query, *from, 50).expect("finds");
            let took = begin.elapsed().as_secs_f64() * 1000.0;
            assert!(found.count as usize <= MOST_HITS && found.of == u64::from(units));
            all.push(took);
            let slowest = by_query.entry(text.clone()).or_default();
            *slowest = slowest.max(took);
        }
    }
    all.sort_by(f64::total_cmp);
    let of = |share: f64| all[((all.len() - 1) as f64 * share).round() as usize];
    let mut slowest: Vec<_> = by_query.into_iter().collect();
    slowest.sort_by(|a, b| b.1.total_cmp(&a.1));
    eprintln!("median {:.2} ms, 90 % {:.2} ms, most {:.2} ms", of(0.5), of(0.9), of(1.0));
    for (text, took) in slowest.iter().take(8) {
        eprintln!("{took:7.2} ms  {text:?}");
    }
    let value = (of(0.99) * 100.0).round() / 100.0;
    if json {
        println!(
            "{}",
            serde_json::json!({ "name": "search_ms_1m_units", "value": value, "unit": "ms", "goal": "<= 20" })
        );
    } else {
        println!("{:32} {value:10} ms   goal <= 20", "search_ms_1m_units");
    }
}
