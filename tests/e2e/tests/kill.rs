//! kill -9 of the station at every event: no unit is lost, none gets two live keys, the next start resumes it.

use keywright_e2e::Factory;
use std::sync::atomic::{AtomicUsize, Ordering};

fn name(event: &serde_json::Value) -> String {
    let part = |key: &str| event[key].as_str().unwrap_or_default();
    format!("{} {} {}", part("event"), part("step"), part("label"))
}

/// A clean run has at least this many different events.
const EVENTS: usize = 10;

#[test]
fn killed_at_every_event_the_next_start_resumes() {
    // Two factories at a time: most of a run is a board thinking.
    let next = AtomicUsize::new(1);
    let worker = || while killed_at(next.fetch_add(1, Ordering::Relaxed)) {};
    std::thread::scope(|scope| {
        scope.spawn(worker);
        scope.spawn(worker);
    });
}

/// Kills the station at the `kill_at`-th different event of a run and starts it again; false if a run has fewer.
/// Progress repeats by the hundred: the kill comes at the first of each name, whatever their order in this run.
fn killed_at(kill_at: usize) -> bool {
    let factory = Factory::new(1, 1, 2, 51);
    let mut line = factory.start_line(&[1]);
    let mut names: Vec<String> = Vec::new();
    while names.len() < kill_at {
        let Some(event) = line.next_event() else { break };
        let name = name(&event);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.len() < kill_at || names.last().is_some_and(|last| last.starts_with("summary")) {
        assert!(names.len() >= EVENTS, "a run has more events than {names:?}");
        line.finish().assert_code(Some(0));
        return false;
    }
    line.kill();
    let target = names.last().expect("kill_at is at least 1");

    let attempts = |outcome: &str| -> i64 {
        factory
            .database()
            .query_row("SELECT count(*) FROM attempt WHERE outcome IS ?1", [outcome], |row| row.get(0))
            .expect("count")
    };
    let again = factory.run_line(&[1]);
    assert_eq!(again.outcome(1), "PASS", "killed at {target:?}: {again:#?}");
    // Before the first step nothing may have begun yet, and after the last nothing is interrupted.
    if !["finished", "presence", "preflight"].iter().any(|event| target.starts_with(event)) {
        assert_eq!(attempts("ABORTED"), 1, "killed at {target:?}: the interrupted attempt is on record");
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
    true
}
