//! A unit in the field gets new keys and moves between clouds: real firmware, real bridge, the station's own broker and a real
//! Mosquitto. PASS means that the broker saw its birth under the new key and refuses the old ones.
#![cfg(unix)]

#[path = "../../../station/tests/support/mosquitto.rs"]
mod mosquitto;

use keywright_e2e::{BATCH, Factory};
use mosquitto::{AGENT, AGENT_PASSWORD, Broker, certificates};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// Generations (agent key, cloud key) that the last PASS proved, and how many old keys were tried.
fn proved(factory: &Factory) -> (i64, i64, i64) {
    let text: String = factory
        .database()
        .query_row("SELECT proof FROM attempt WHERE outcome = 'PASS' ORDER BY id DESC LIMIT 1", [], |r| {
            r.get(0)
        })
        .expect("a pass");
    let proof: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(proof["birth_boot"].as_str().map(str::len), Some(16), "the broker saw its birth: {proof}");
    let number = |key: &str| proof[key].as_i64().expect("a number");
    (number("ak_gen"), number("ck_gen"), number("old_keys_refused"))
}

fn place(factory: &Factory) -> (String, i64) {
    let sql = "SELECT cloud, ck_leaving FROM enrolment";
    factory.database().query_row(sql, [], |r| Ok((r.get(0)?, r.get(1)?))).expect("an enrolment")
}

fn live_keys(factory: &Factory) -> i64 {
    let sql = "SELECT count(*) FROM key_assignment WHERE state = 'posted' AND retired_at_ms IS NULL";
    factory.database().query_row(sql, [], |r| r.get(0)).expect("a count")
}

/// A passed unit at the station's own broker, and a Mosquitto that the station knows as `plant`.
fn unit_between_two_clouds(seed: u64) -> (Factory, Broker) {
    let factory = Factory::new(1, 1, 2, seed);
    let broker = Broker::new();
    let home = factory.home();
    std::fs::write(home.join("broker.password"), AGENT_PASSWORD).expect("a file");
    let mut config = std::fs::read_to_string(home.join("station.toml")).expect("station.toml");
    config += &format!(
        "\n[cloud.plant]\nkind = \"mosquitto\"\nurl = \"mqtts://localhost:{}\"\nca = {:?}\nusername = {AGENT:?}\npassword_file = \"broker.password\"\n",
        broker.port,
        certificates().join("ca.pem").display().to_string(),
    );
    std::fs::write(home.join("station.toml"), config).expect("station.toml");

    (factory, broker)
}

#[test]
fn new_keys_and_another_cloud_and_back() {
    let (factory, broker) = unit_between_two_clouds(50);
    // Nothing to renew yet: a bare board is not made into a unit by asking for new keys.
    let bare = factory.run(&["unit", "rekey", "--batch", BATCH, "--json"]);
    assert_eq!(bare.status.code(), Some(3), "{}", String::from_utf8_lossy(&bare.stdout));
    assert!(String::from_utf8_lossy(&bare.stdout).contains("NothingToRenew"));
    assert_eq!(factory.bench.with_board(1, |b| b.flash_op_count()).expect("board"), 0);

    factory.run_line(&[1]).assert_passed(&[1]);
    assert_eq!(proved(&factory), (1, 1, 0));
    // A closed batch's units can be given new keys all the same.
    factory.ok(&["batch", "close", BATCH]);
    factory.ok(&["unit", "rekey", "--batch", BATCH, "--json"]);
    assert_eq!(proved(&factory), (2, 2, 1));
    factory.ok(&["unit", "rekey", "--batch", BATCH, "--key", "agent", "--json"]);
    assert_eq!(proved(&factory), (3, 2, 1));

    // A release that was stopped is given again: what is renewed already is proved and left as it is.
    let told = factory.ok(&["unit", "rekey", "--batch", BATCH, "--below", "3", "--json"]);
    assert_eq!(proved(&factory), (3, 3, 2), "the cloud key only");
    assert!(told.contains("\"left\":0"), "{told}");
    factory.ok(&["unit", "rekey", "--batch", BATCH, "--below", "3", "--json"]);
    assert_eq!((proved(&factory).0, proved(&factory).1), (3, 3));
    // As in the field: a message of the agent through the broker, heard by the unit's own session.
    factory.ok(&["unit", "rekey", "--batch", BATCH, "--key", "cloud", "--by-wake", "--json"]);
    assert_eq!((proved(&factory).0, proved(&factory).1), (3, 4));

    factory.ok(&["unit", "move", "--batch", BATCH, "--cloud", "plant", "--json"]);
    let (agent, cloud, refused) = proved(&factory);
    assert_eq!((agent, cloud), (3, 5));
    assert!(refused >= 2, "tried at the new place: {refused}");
    assert_eq!(place(&factory), (format!("mqtts://localhost:{}", broker.port), 0));
    factory.ok(&["unit", "move", "--batch", BATCH, "--cloud", "local", "--json"]);
    assert_eq!(proved(&factory).1, 6);
    assert_eq!(place(&factory).0, "mqtt://keywright.local:1883");

    let nowhere = factory.run(&["unit", "move", "--batch", BATCH, "--cloud", "moon", "--json"]);
    assert_eq!(nowhere.status.code(), Some(2));
    assert_eq!(live_keys(&factory), 2, "one live key of each kind");
}

/// The station is killed in the middle of moves, at each moment that changed something: after the key was staged, after the cloud and
/// the records committed it, in the proof. The next run goes on; the unit ends at one place with one identity.
#[test]
fn a_station_killed_in_the_middle_of_a_move_finishes_it() {
    let (factory, broker) = unit_between_two_clouds(51);
    factory.run_line(&[1]).assert_passed(&[1]);
    let plant = format!("mqtts://localhost:{}", broker.port);
    let moments = ["issued", "active", "restarting", "waiting for its login", "trying its old keys"];
    for (n, moment) in moments.into_iter().enumerate() {
        let (cloud, url) =
            if n % 2 == 0 { ("plant", plant.as_str()) } else { ("local", "mqtt://keywright.local:1883") };
        let before = proved(&factory);
        let command = ["unit", "move", "--batch", BATCH, "--cloud", cloud, "--json"];
        let mut child = factory
            .keywright(&command)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("keywright starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let reached = lines.map_while(Result::ok).any(|line| {
            let event: Value = serde_json::from_str(&line).expect("JSON");
            event["event"] == "progress"
                && event["label"].as_str().is_some_and(|label| label.contains(moment))
        });
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert!(reached, "never came to {moment:?}");

        factory.ok(&command);
        let after = proved(&factory);
        assert!(after.1 > before.1, "{moment}: {before:?} {after:?}");
        assert_eq!(place(&factory), (url.to_owned(), 0), "{moment}: nothing is left to retire");
        assert_eq!(live_keys(&factory), 2, "{moment}: one live key of each kind");
    }
}
