//! The first start of a real station: set up by the command line, and one unit made for trial by the real line on a virtual board.

use keywright_e2e::{image, program};
use serde_json::Value;
use std::process::{Command, Stdio};

#[test]
fn a_rehearsal_makes_a_unit_and_leaves_the_station_as_it_was() {
    let home = tempfile::tempdir().expect("a folder");
    let init = |args: &[&str]| -> (i32, Vec<Value>, String) {
        let out = Command::new(program("keywright"))
            .arg("--home")
            .arg(home.path())
            .args(["--demo", "--json", "init"])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("keywright starts");
        let text = String::from_utf8(out.stdout).expect("UTF-8");
        let events = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
        (out.status.code().expect("no signal"), events, String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let image = image().display().to_string();
    let (code, events, errors) = init(&["--image", &image, "--rehearse"]);
    assert_eq!(code, 0, "{events:?}\n{errors}");
    let made = events.iter().find(|e| e["event"] == "rehearsal").expect("a rehearsal");
    assert_eq!(made["outcome"], "PASS", "{made}");
    assert!(made["serial"].as_str().is_some_and(|s| s.starts_with("REHEARSAL-")), "{made}");
    let steps: Vec<_> =
        events.iter().filter(|e| e["event"] == "rehearsal-step").filter_map(|e| e["step"].as_str()).collect();
    for step in ["arrive", "flash", "agent-key", "cloud-key", "prove", "lock"] {
        assert!(steps.contains(&step), "{steps:?}");
    }
    // The station itself made nothing: no unit, no order, no batch.
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let records =
        rusqlite::Connection::open_with_flags(home.path().join("station.db"), flags).expect("opens");
    for table in ["unit", "attempt", "batch", "product_order"] {
        let rows: i64 = records
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
            .expect("counted");
        assert_eq!(rows, 0, "{table}");
    }
    // A station whose board is named elsewhere says where it looked.
    let toml = std::fs::read_to_string(home.path().join("station.toml")).expect("station.toml");
    let toml = toml.replacen("[station]\n", "[station]\nvirtual_board = \"nowhere/board\"\n", 1);
    std::fs::write(home.path().join("station.toml"), toml).expect("written");
    let (code, events, _) = init(&["--rehearse"]);
    assert_eq!(code, 4);
    assert!(events.iter().any(|e| e["code"] == "K680"), "{events:?}");
}
