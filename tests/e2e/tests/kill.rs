//! kill -9 of the station at every event: no unit is lost, none gets two live keys, the next start resumes it.

use keywright_e2e::Factory;

/// Events of a clean run of one unit, in order, as (event, step).
fn clean_run() -> Vec<String> {
    let factory = Factory::new(1, 1, 2, 51);
    let report = factory.run_line(&[1]);
    report.assert_passed(&[1]);
    // Progress repeats by the hundred; one of each label is enough to kill at.
    let mut names = Vec::new();
    for event in &report.events {
        let name = name(event);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn name(event: &serde_json::Value) -> String {
    let part = |key: &str| event[key].as_str().unwrap_or_default();
    format!("{} {} {}", part("event"), part("step"), part("label"))
}

#[test]
fn killed_at_every_event_the_next_start_resumes() {
    let names = clean_run();
    assert!(names.len() >= 8, "a run has more events than {names:?}");
    for target in &names {
        if target.starts_with("summary") {
            continue;
        }
        let factory = Factory::new(1, 1, 2, 51);
        let mut line = factory.start_line(&[1]);
        line.wait_for(|event| name(event) == *target);
        line.kill();

        let attempts = |outcome: &str| -> i64 {
            factory
                .database()
                .query_row("SELECT count(*) FROM attempt WHERE outcome IS ?1", [outcome], |row| row.get(0))
                .expect("count")
        };
        let again = factory.run_line(&[1]);
        assert_eq!(again.outcome(1), "PASS", "killed at {target:?}: {again:#?}");
        if !target.starts_with("finished") && !target.starts_with("presence") {
            assert_eq!(attempts("ABORTED"), 1, "killed at {target:?}: the interrupted attempt is on record");
        }
        let live: i64 = factory
            .database()
            .query_row(
                "SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM key_assignment WHERE state = 'posted' GROUP BY unit, purpose)",
                [],
                |row| row.get(0),
            )
            .expect("count");
        assert_eq!(live, 1, "killed at {target:?}: one live key of each kind");
        let units: i64 =
            factory.database().query_row("SELECT count(*) FROM unit", [], |row| row.get(0)).expect("count");
        assert_eq!(units, 1, "killed at {target:?}");
    }
}
