//! kill -9 of the station at every event: no unit is lost, none gets two live keys, the next start resumes it.

use keywright_e2e::Factory;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What an event is called, whatever the generation.
fn name(event: &serde_json::Value) -> String {
    let part = |key: &str| event[key].as_str().unwrap_or_default();
    format!("{} {} {}", part("event"), part("step"), part("label").replace(|c: char| c.is_ascii_digit(), ""))
}

/// A clean run has at least this many different events.
const EVENTS: usize = 10;

#[test]
fn killed_at_every_event_the_next_start_resumes() {
    // A clean run says which events there are.
    let clean = Factory::new(1, 1, 2, 51).run_line(&[1]);
    clean.assert_passed(&[1]);
    let mut targets: Vec<String> = Vec::new();
    for event in &clean.events {
        // What a unit complains of on a busy machine does not come every time.
        let complaint = event["label"].as_str().is_some_and(|label| label.starts_with("E0"));
        let name = name(event);
        if !targets.contains(&name) && !name.starts_with("summary") && !complaint {
            targets.push(name);
        }
    }
    assert!(targets.len() >= EVENTS, "a run has more events than {targets:?}");
    // Behind its flashing every board is the same.
    let exchange = targets.iter().position(|name| name.starts_with("step agent-key")).expect("an exchange");
    let flashed = Factory::flashed(2, 51);
    // Two factories at a time: most of a run is a board thinking.
    let next = AtomicUsize::new(0);
    let worker = || loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let Some(target) = targets.get(n) else { return };
        // Up to there the exchange is not what is tried, and the legacy one is ten times as quick on this chip.
        let factory = if n <= exchange { Factory::new(1, 1, 1, 51) } else { Factory::at(&flashed) };
        killed_at(&factory, target);
    };
    std::thread::scope(|scope| {
        scope.spawn(worker);
        scope.spawn(worker);
    });
}

/// Kills the station when this event first comes, and starts it again.
fn killed_at(factory: &Factory, target: &str) {
    let attempts = |sql: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM attempt WHERE {sql}");
        factory.database().query_row(&sql, [], |row| row.get(0)).expect("count")
    };
    let begun = attempts("true");
    let mut line = factory.start_line(&[1]);
    line.wait_for(|event| name(event) == target);
    line.kill();

    let again = factory.run_line(&[1]);
    assert_eq!(again.outcome(1), "PASS", "killed at {target:?}: {again:#?}");
    if !target.starts_with("finished") && !target.starts_with("presence") {
        let aborted = attempts("outcome = 'ABORTED'");
        assert_eq!(aborted, begun + 1, "killed at {target:?}: the interrupted attempt is on record");
    }
    let live: i64 = factory
        .database()
        .query_row(
            "SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM key_assignment
             WHERE state = 'posted' AND retired_at_ms IS NULL GROUP BY unit, purpose)",
            [],
            |row| row.get(0),
        )
        .expect("count");
    assert_eq!(live, 1, "killed at {target:?}: one live key of each kind");
    let units: i64 =
        factory.database().query_row("SELECT count(*) FROM unit", [], |row| row.get(0)).expect("count");
    assert_eq!(units, 1, "killed at {target:?}");
}
