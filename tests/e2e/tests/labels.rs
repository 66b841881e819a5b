//! A real label printer's port, a scanner on standard input, and a board that passes with its own label only.

use keywright_e2e::{Factory, ORDER};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::mpsc;

/// Runs one unit; whatever is to be scanned is what `scan` makes of the label that came out of the printer.
fn run(factory: &Factory, scan: impl Fn(&Value) -> String) -> Vec<Value> {
    let mut child = factory
        .keywright(&["line", "run", "--batch", "B-L", "--count", "1", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("keywright starts");
    let mut scanner = child.stdin.take().expect("piped");
    let mut events = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        let event: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        if event["event"] == "scan-wanted" {
            writeln!(scanner, "{}", scan(&event)).expect("it reads");
        }
        events.push(event);
    }
    child.wait().expect("an end");
    events
}

fn finished(events: &[Value]) -> (&str, &str) {
    let end = events.iter().find(|e| e["event"] == "finished").expect("an end");
    (end["outcome"].as_str().expect("an outcome"), end["failure"]["code"].as_str().unwrap_or("none"))
}

#[test]
fn a_board_passes_with_its_own_label_and_with_no_other() {
    let factory = Factory::new(1, 1, 2, 91);
    let printer = TcpListener::bind("127.0.0.1:0").expect("a port");
    let config = factory.home().join("station.toml");
    let mut text = std::fs::read_to_string(&config).expect("station.toml");
    let address = printer.local_addr().expect("an address");
    text += &format!("\n[label]\ntemplate = \"label.zpl\"\ntcp = \"{address}\"\n");
    std::fs::write(&config, text).expect("written");
    std::fs::write(factory.home().join("label.zpl"), "^XA^FH^FD$code^FS^FH^FD$serial^FS^XZ")
        .expect("written");
    let (out, labels) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in printer.incoming() {
            let mut label = String::new();
            stream.expect("a connection").read_to_string(&mut label).expect("a label");
            // The preflight knocks; a printer prints nothing for nothing.
            if !label.is_empty() && out.send(label).is_err() {
                return;
            }
        }
    });
    let order = ["po", "new", "PO-L", "--model", "KW-GATEWAY-429", "--region", "7", "--quantity", "1"];
    factory.ok(&[&order[..], &["--no-lock", "--label", "print+scan-back"]].concat());
    assert_ne!(ORDER, "PO-L");
    factory.ok(&[
        "batch",
        "new",
        "B-L",
        "--po",
        "PO-L",
        "--quantity",
        "1",
        "--serial-pattern",
        "KW-{n:5}-{c}",
    ]);
    let read = |label: &str| {
        label.split("^FD").nth(1).expect("a code").split('^').next().expect("its end").to_owned()
    };

    // The label of a unit that is not there.
    let other = keywright::label::LabelCode::new("KW-00002-A", &"ab".repeat(32)).expect("a code").to_string();
    let events = run(&factory, |_| other.clone());
    assert_eq!(finished(&events), ("FAIL", "LabelMismatch"), "{events:#?}");
    let label = labels.try_recv().expect("one label");
    let keys = "SELECT count(*) FROM key_assignment";
    let count = |sql: &str| -> i64 { factory.database().query_row(sql, [], |r| r.get(0)).expect(sql) };
    let issued = count(keys);
    assert_eq!(count("SELECT count(*) FROM unit WHERE state = 'passed'"), 0);

    // A carton first, then its own: no new keys, no second label.
    let carton = std::cell::Cell::new(true);
    let events = run(&factory, |_| if carton.replace(false) { "4006381333931".into() } else { read(&label) });
    assert_eq!(finished(&events), ("PASS", "none"), "{events:#?}");
    let wanted: Vec<_> = events.iter().filter(|e| e["event"] == "scan-wanted").collect();
    assert_eq!(wanted.len(), 2, "{events:#?}");
    assert_eq!(
        (wanted[1]["problem"]["code"].as_str(), &wanted[1]["labels"]),
        (Some("LabelUnreadable"), &1.into())
    );
    assert!(labels.try_recv().is_err(), "one label is enough");
    assert_eq!(count(keys), issued, "printing and scanning touch no key");
    let unit: String = factory.ok(&["label", "check", &read(&label), "--json"]);
    let told: Value = serde_json::from_str(unit.lines().next().expect("a line")).expect("JSON");
    assert_eq!((told["uid"].as_str(), &told["newest"]), (Some(factory.uid(1).as_str()), &true.into()));
}

/// A printer that failed costs a locked board nothing: it is printed for, and nobody takes its power away.
#[test]
fn a_locked_board_that_lacks_its_label_only_is_asked_nothing() {
    let factory = Factory::new(1, 1, 2, 92);
    let (config, printed) = (factory.home().join("station.toml"), factory.home().join("printed"));
    let mut text = std::fs::read_to_string(&config).expect("station.toml");
    text += "\n[label]\ntemplate = \"label.zpl\"\ncommand = ['sh', '-c', 'exit 1', 'sh', '$file']\n";
    std::fs::write(&config, &text).expect("written");
    std::fs::write(factory.home().join("label.zpl"), "^XA^FH^FD$serial^FS^XZ").expect("written");
    let order = ["po", "new", "PO-L", "--model", "KW-GATEWAY-429", "--region", "7", "--quantity", "1"];
    factory.ok(&[&order[..], &["--label", "print"]].concat());
    factory.ok(&["batch", "new", "B-L", "--po", "PO-L", "--quantity", "1"]);
    let events = run(&factory, |_| panic!("nothing is to be scanned"));
    assert_eq!(finished(&events), ("ERROR", "PrintFailed"), "{events:#?}");
    let keys = "SELECT count(*) FROM key_assignment";
    let count = |sql: &str| -> i64 { factory.database().query_row(sql, [], |r| r.get(0)).expect(sql) };
    let issued = count(keys);

    let prints = format!("cat \"$1\" >> {}", printed.display());
    std::fs::write(&config, text.replace("exit 1", &prints)).expect("written");
    let events = run(&factory, |_| panic!("nothing is to be scanned"));
    assert_eq!(finished(&events), ("PASS", "none"), "{events:#?}");
    assert!(!events.iter().any(|e| e["label"].as_str().is_some_and(|l| l.starts_with("locked:"))));
    let steps: Vec<_> = events.iter().filter(|e| e["event"] == "step").map(|e| &e["step"]).collect();
    assert_eq!(steps, ["arrive", "label"]);
    assert_eq!(std::fs::read_to_string(printed).expect("a label").matches("^XA").count(), 1);
    assert_eq!(count(keys), issued, "printing touches no key");
    let ready = events.iter().find(|e| e["event"] == "preflight").expect("the station was looked at");
    assert_eq!((&ready["ready"], ready["checks"].as_array().map(Vec::len)), (&true.into(), Some(11)));
}
