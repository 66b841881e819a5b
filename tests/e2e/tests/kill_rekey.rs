//! kill -9 of the station at every event of a new agent key and of a new cloud key, on the real firmware: the same command given again
//! finishes it, and the unit has one identity, on its chip, in the records and at its broker.
#![cfg(unix)]

use keywright_e2e::{BATCH, Factory};
use serde_json::Value;

/// What an event is called; those of later updates differ by their generations only.
fn name(event: &Value) -> String {
    let part = |key: &str| event[key].as_str().unwrap_or_default();
    format!("{} {} {}", part("event"), part("step"), part("label"))
}

/// An update has at least this many different events.
const EVENTS: usize = 14;

#[test]
fn killed_at_every_event_of_new_keys_the_same_command_finishes_it() {
    // Two stations at a time: most of a run is a board thinking.
    std::thread::scope(|scope| {
        for (key, seed) in [("agent", 81), ("cloud", 82)] {
            scope.spawn(move || every_event(key, seed));
        }
    });
}

/// One unit lives through all of it. From the moment it is asked for a new key until its proof begins, the command is given again after
/// each kill, and all sides are looked at. Before and behind that no key changes: there the next kill's run is the next start, and all
/// sides are looked at in the end.
fn every_event(key: &str, seed: u64) {
    // The legacy suite: the station sees the same events, and the chip is ten times as quick.
    let factory = Factory::new(1, 1, 1, seed);
    factory.run_line(&[1]).assert_passed(&[1]);
    let command = ["unit", "rekey", "--batch", BATCH, "--key", key, "--json"];
    let mut kills = 0;
    for kill_at in 1.. {
        let mut line = factory.start(&command);
        let mut names: Vec<String> = Vec::new();
        while names.len() < kill_at {
            let Some(event) = line.next_event() else { break };
            let name = name(&event);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.len() < kill_at || names.last().is_some_and(|last| last.starts_with("summary")) {
            assert!(names.len() >= EVENTS, "an update has more events than {names:?}");
            line.finish().assert_code(Some(0));
            at_rest(&factory, "the end", kills);
            break;
        }
        line.kill();
        let begun = |what: &str| names.iter().any(|name| name.starts_with(what));
        kills += i64::from(begun("started") && !begun("finished"));
        let target = names.last().expect("kill_at is at least 1");
        let told = |what: &str| names.iter().any(|name| name.ends_with(what));
        if !told("asking the unit to renew its key") || told("restarting") {
            continue;
        }
        let before = generations(&factory);
        let again = factory.start(&command).finish();
        assert_eq!(again.outcome(1), "PASS", "killed at {target:?}: {again:#?}");
        at_rest(&factory, target, kills);
        let after = generations(&factory);
        let renewed = if key == "agent" { after.0 > before.0 } else { after.1 > before.1 };
        assert!(renewed, "killed at {target:?}: {before:?} {after:?}");
    }
}

fn number(factory: &Factory, sql: &str) -> i64 {
    factory.database().query_row(sql, [], |row| row.get(0)).expect(sql)
}

/// Generations of the agent key and of the cloud key that the records hold to be the unit's. An agent key counts from its confirmation on;
/// the one before is let go when the unit first uses it (PROTOCOL §4 A3).
fn generations(factory: &Factory) -> (i64, i64) {
    let sql = "SELECT max(ak_cur, ak_next), ck_active FROM enrolment";
    factory.database().query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("an enrolment")
}

/// The unit proved the keys that the records hold, its broker saw it born with them and refused the ones before; nothing else waits or
/// lives anywhere.
fn at_rest(factory: &Factory, target: &str, kills: i64) {
    let sql = "SELECT proof FROM attempt WHERE outcome = 'PASS' ORDER BY id DESC LIMIT 1";
    let proof: String = factory.database().query_row(sql, [], |row| row.get(0)).expect("a pass");
    let proof: Value = serde_json::from_str(&proof).expect("JSON");
    let (agent, cloud) = generations(factory);
    assert_eq!((&proof["ak_gen"], &proof["ck_gen"]), (&agent.into(), &cloud.into()), "{target}: {proof}");
    assert_eq!(proof["birth_boot"].as_str().map(str::len), Some(16), "{target}: {proof}");
    assert_eq!(proof["old_keys_refused"], (cloud - 1).min(4), "{target}: {proof}");
    let waiting = "SELECT ck_staged + ck_leaving FROM enrolment";
    assert_eq!(number(factory, waiting), 0, "{target}: nothing waits");
    let live = "SELECT count(*) FROM key_assignment WHERE state = 'posted' AND retired_at_ms IS NULL";
    assert_eq!(number(factory, live), 2, "{target}: one live key of each kind");
    let aborted = "SELECT count(*) FROM attempt WHERE outcome = 'ABORTED'";
    // One may have been about to begin when an earlier event was told.
    assert!(number(factory, aborted) >= kills, "{target}: every interrupted attempt is on record");
    let open = "SELECT count(*) FROM attempt WHERE outcome IS NULL";
    assert_eq!(number(factory, open), 0, "{target}");
    // The broker's own ledger: its last word about the unit.
    let ledger = std::fs::read_to_string(factory.home().join("cloud/local.journal")).expect("a ledger");
    let last = ledger.lines().last().and_then(|line| line.split_once(' ')).expect("a line").1;
    let last: Value = serde_json::from_str(last).expect("JSON");
    let identities = last["standing"]["identities"].as_object().expect("identities");
    assert_eq!(identities.keys().collect::<Vec<_>>(), [&cloud.to_string()], "{target}: one identity");
}
