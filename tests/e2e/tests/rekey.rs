//! A unit in the field gets new keys and moves between clouds: real firmware, real bridge, the station's own broker and a real
//! Mosquitto. PASS means that the broker saw its birth under the new key and refuses the old ones.
#![cfg(unix)]

#[path = "../../../station/tests/support/mosquitto.rs"]
mod mosquitto;

use keywright_e2e::{BATCH, Factory};
use mosquitto::{AGENT, AGENT_PASSWORD, Broker, certificates};
use serde_json::Value;

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

#[test]
fn new_keys_and_another_cloud_and_back() {
    let factory = Factory::new(1, 1, 2, 50);
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

    factory.ok(&["unit", "move", "--batch", BATCH, "--cloud", "plant", "--json"]);
    let (agent, cloud, refused) = proved(&factory);
    assert_eq!((agent, cloud), (3, 3));
    assert!(refused >= 2, "tried at the new place: {refused}");
    assert_eq!(place(&factory), (format!("mqtts://localhost:{}", broker.port), 0));
    factory.ok(&["unit", "move", "--batch", BATCH, "--cloud", "local", "--json"]);
    assert_eq!(proved(&factory).1, 4);
    assert_eq!(place(&factory).0, "mqtt://keywright.local:1883");

    let nowhere = factory.run(&["unit", "move", "--batch", BATCH, "--cloud", "moon", "--json"]);
    assert_eq!(nowhere.status.code(), Some(2));
    let live: i64 = factory
        .database()
        .query_row(
            "SELECT count(*) FROM key_assignment WHERE state = 'posted' AND retired_at_ms IS NULL",
            [],
            |r| r.get(0),
        )
        .expect("a count");
    assert_eq!(live, 2, "one live key of each kind");
}
