//! The real program, called as a script calls it: exit codes, JSON shapes, refusals, and what it leaves on disk.

use keywright::failure::{Failure, FailureCode};
use keywright::model::{Outcome, UnitId};
use keywright::records::{Records, SqliteRecords};
use keywright::secrets::Passphrase;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const PASSPHRASE: &str = "correct horse battery";

/// A station home in a temporary folder.
struct Home(tempfile::TempDir);

/// What the program said and how it ended.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn objects(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON ({e}): {line}\n{}", self.err))
            })
            .collect()
    }
    fn of(&self, event: &str) -> Vec<Value> {
        self.objects().into_iter().filter(|o| o["event"] == event).collect()
    }
    fn one(&self, event: &str) -> Value {
        let mut found = self.of(event);
        assert_eq!(found.len(), 1, "one {event} in {}", self.out);
        found.remove(0)
    }
    /// The error object, whose exit code must be the real one.
    fn error(&self, code: i32, kind: &str) -> Value {
        let error = self.one("error");
        assert_eq!((self.code, error["code"].as_str()), (code, Some(kind)), "{}", self.out);
        assert_eq!(error["exit"], code);
        assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()));
        assert!(error["remedy"].as_str().is_some_and(|m| !m.is_empty()));
        error
    }
    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self
    }
}

fn said(output: Output) -> Said {
    Said {
        code: output.status.code().expect("no signal"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keywright"));
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env_remove("KEYWRIGHT_HOME")
        .env_remove("KEYWRIGHT_OPERATOR")
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY");
    command
}

fn run(args: &[&str]) -> Said {
    said(program(args).output().unwrap())
}

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    /// With anchors, a product order and an open batch.
    fn set_up() -> Self {
        let home = Self::new();
        home.demo(&["anchors", "init", "--region", "7"]).ok();
        home.demo(&["po", "new", "PO-1", "--model", "KW-GATEWAY-429", "--quantity", "5", "--region", "7"])
            .ok();
        home.demo(&["batch", "new", "B-1", "--po", "PO-1", "--quantity", "3"]).ok();
        home
    }
    fn path(&self) -> &Path {
        self.0.path()
    }
    fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
    fn home(&self) -> &str {
        self.path().to_str().unwrap()
    }
    /// In demo mode with `--json`.
    fn demo(&self, args: &[&str]) -> Said {
        run(&[&["--home", self.home(), "--demo", "--json", "--operator", "Ada"], args].concat())
    }
    /// With a passphrase on descriptor 0.
    fn with_passphrase(&self, passphrase: &str, args: &[&str]) -> Said {
        let mut child = program(&[&["--home", self.home(), "--json", "--passphrase-fd", "0"], args].concat())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that refuses earlier may not read it.
        let _ = writeln!(child.stdin.take().unwrap(), "{passphrase}");
        said(child.wait_with_output().unwrap())
    }
    fn config(&self, text: &str) {
        std::fs::write(self.at("station.toml"), text).unwrap();
    }
    fn checks(&self) -> (i32, Vec<Value>) {
        let said = self.demo(&["doctor"]);
        let summary = said.one("summary");
        let checks = said.of("check");
        let count = |s: &str| checks.iter().filter(|c| c["status"] == s).count() as u64;
        assert_eq!(summary["ok"], count("ok"));
        assert_eq!(summary["warn"], count("warn"));
        assert_eq!(summary["fail"], count("fail"));
        assert_eq!(said.code, if count("fail") == 0 { 0 } else { 4 });
        for check in &checks {
            let needs_remedy = check["status"] != "ok";
            assert_eq!(check["remedy"].as_str().is_some_and(|r| !r.is_empty()), needs_remedy, "{check}");
        }
        (said.code, checks)
    }
    /// Status and detail of one of doctor's checks.
    fn check(&self, name: &str) -> (String, String) {
        let (_, checks) = self.checks();
        let check =
            checks.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("no {name} in {checks:?}"));
        (check["status"].as_str().unwrap().into(), check["detail"].as_str().unwrap().into())
    }
    fn records(&self) -> SqliteRecords {
        SqliteRecords::open(&self.at("station.db"), "bench", &Passphrase::demo()).unwrap()
    }
}

#[test]
fn help_says_what_there_is_with_examples_and_exit_codes() {
    let help = run(&["--help"]).ok().out;
    for word in [
        "line",
        "batch",
        "po",
        "unit",
        "export",
        "verify",
        "anchors",
        "passphrase",
        "doctor",
        "Examples:",
        "Exit codes:",
    ] {
        assert!(help.contains(word), "{word} in {help}");
    }
    assert!(!help.contains("demo-recipient"));
    for command in [
        &["line", "run"][..],
        &["line", "fixtures"],
        &["batch", "new"],
        &["batch", "close"],
        &["po", "new"],
        &["unit", "show"],
        &["export"],
        &["export", "log"],
        &["export", "revoke"],
        &["export", "exposed"],
        &["export", "verify"],
        &["verify"],
        &["import-check"],
        &["anchors", "init"],
        &["passphrase", "store"],
        &["doctor"],
    ] {
        let text = run(&[command, &["--help"]].concat()).ok().out;
        assert!(text.contains("Usage: keywright"), "{text}");
    }
    assert!(run(&["--version"]).ok().out.starts_with("keywright "));
}

#[test]
fn usage_errors_are_two_in_words_and_in_json() {
    let plain = run(&["batch", "new"]);
    assert_eq!((plain.code, plain.out.as_str()), (2, ""));
    assert!(plain.err.contains("Usage:"), "{}", plain.err);
    run(&["--json", "line", "run"]).error(2, "K608");
    run(&["--json", "--no-such-option"]).error(2, "K608");
    run(&["--json", "line", "run", "--batch", "B", "--count", "0"]).error(2, "K608");
    run(&["--json", "--demo", "--passphrase-fd", "0", "doctor"]).error(2, "K608");
    let home = Home::set_up();
    for args in [
        &["batch", "show", "NONE"][..],
        &["po", "show", "NONE"],
        &["unit", "show", "NONE"],
        &["line", "run", "--batch", "NONE"],
        &["batch", "new", "B-2", "--po", "NONE", "--quantity", "1"],
        &["export", "--batch", "NONE"],
        &["export", "--batch", "B-1", "--recipient", "age1nonsense"],
    ] {
        let error = home.demo(args).error(2, "K608");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("NONE") || message.contains("age1nonsense"), "{error}");
    }
}

#[test]
fn an_error_in_words_names_what_to_do_next() {
    let home = Home::set_up();
    let plain = run(&["--home", home.home(), "--demo", "batch", "show", "NONE"]);
    assert_eq!((plain.code, plain.out.as_str()), (2, ""));
    assert!(plain.err.contains("keywright batch list"), "{}", plain.err);
}

#[test]
fn orders_and_batches_in_json() {
    let home = Home::set_up();
    let order = home.demo(&["po", "list"]).ok().one("po");
    for (key, value) in
        [("name", "PO-1"), ("model", "KW-GATEWAY-429"), ("cloud_url", "mqtt://keywright.local:1883")]
    {
        assert_eq!(order[key], value);
    }
    assert_eq!((&order["quantity"], &order["region"], &order["suite"]), (&5.into(), &7.into(), &2.into()));
    let batch = home.demo(&["batch", "list"]).ok().one("batch");
    assert_eq!(
        (batch["name"].as_str(), batch["state"].as_str(), batch["po"].as_str()),
        (Some("B-1"), Some("open"), Some("PO-1"))
    );
    assert_eq!((&batch["planned"], &batch["open"], &batch["passed"]), (&3.into(), &3.into(), &0.into()));
    for (verb, state) in [("pause", "paused"), ("open", "open"), ("close", "closed")] {
        assert_eq!(home.demo(&["batch", verb, "B-1"]).ok().one("batch")["state"], state);
    }
    assert_eq!(home.demo(&["po", "show", "PO-1"]).ok().one("batch")["state"], "closed");
    home.demo(&["batch", "new", "B-1", "--po", "PO-1", "--quantity", "1"]).error(5, "K606");
    let plain = run(&["--home", home.home(), "--demo", "batch", "list"]).ok();
    assert!(plain.out.starts_with("BATCH") && plain.out.contains("B-1"), "{}", plain.out);
}

#[test]
fn an_order_is_checked_as_the_window_checks_it_and_cloned() {
    let home = Home::set_up();
    let new = |name: &str, more: &[&str]| {
        let order = ["po", "new", name, "--model", "KW-METER", "--quantity", "20", "--label", "print"];
        home.demo(&[&order[..], more].concat())
    };
    let refused = |said: Said, exit, code: &str, words: &str| {
        let error = said.error(exit, code);
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    };
    refused(
        new("PO-2", &["--region", "99"]),
        2,
        "K608",
        "region: its keys are not on this station; here are 7",
    );
    refused(new("PO-2", &["--region", "7", "--cloud", "sky"]), 2, "K608", "no cloud sky; it has local");
    refused(
        new("po-1", &["--region", "7"]),
        5,
        "K606",
        "there is an order PO-1 already, and names must differ",
    );
    refused(new("PO 2", &["--region", "7"]), 2, "K608", "name: 1 to 16 letters");
    new("PO-2", &["--region", "7", "--per-hour", "90", "--no-lock"]).ok();
    let clone = home.demo(&["po", "clone", "PO-2", "--name", "PO-3", "--quantity", "7"]).ok().one("po");
    let expected = [("name", "PO-3"), ("model", "KW-METER"), ("label", "print")];
    expected.iter().for_each(|(key, value)| assert_eq!(clone[*key], *value));
    assert_eq!(
        (&clone["quantity"], &clone["per_hour"], &clone["lock"]),
        (&7.into(), &90.into(), &false.into())
    );
    let told = home.demo(&["audit", "list"]).ok().of("audit").into_iter();
    let row = told.into_iter().find(|e| e["subject"] == "PO-3").unwrap();
    assert_eq!((&row["action"], &row["detail"]["clone_of"]), (&"po-created".into(), &"PO-2".into()));
    let batch = |name: &str, order: &str, quantity: &str| {
        home.demo(&["batch", "new", name, "--po", order, "--quantity", quantity])
    };
    refused(batch("b-1", "PO-3", "5"), 5, "K606", "there is a batch B-1 already, and names must differ");
    refused(batch("B-9", "PO-3", "8"), 2, "K608", "batch_quantity: the order has 7 units left");
    batch("B-9", "PO-3", "7").ok();
    // The cloud of an order that has left station.toml is no other cloud.
    home.config(
        "[cloud.plant]\nkind = \"mosquitto\"\nurl = \"mqtts://plant:8883\"\nca = \"ca.pem\"\nusername = \"a\"\n\
         password_file = \"pw\"\n",
    );
    new("PO-4", &["--region", "7", "--cloud", "plant"]).ok();
    home.config("");
    let clone = ["po", "clone", "PO-4", "--name", "PO-5"];
    refused(
        home.demo(&clone),
        2,
        "K608",
        "cloud: station.toml names no cloud mqtts://plant:8883; it has local",
    );
    home.demo(&[&clone[..], &["--cloud", "local"]].concat()).ok();
}

#[test]
fn batches_are_cloned_opened_again_with_a_reason_and_have_a_timeline() {
    let home = Home::set_up();
    home.demo(&["batch", "clone", "B-1", "--name", "B-2"]).error(2, "K608");
    let pattern = ["--serial-pattern", "KW-{yy}-{n:4}-{c}", "--gray-release", "7"];
    home.demo(&[&["batch", "new", "B-3", "--po", "PO-1", "--quantity", "1"], &pattern[..]].concat()).ok();
    let clone = home.demo(&["batch", "clone", "B-3", "--name", "B-4"]).ok().one("batch");
    let made = clone["serial_pattern"].as_str().unwrap();
    assert!(made.starts_with("KW-") && made.ends_with("-{n:4}-{c}") && !made.contains("yy"), "{made}");
    assert_eq!((&clone["planned"], &clone["gray_release"]), (&1.into(), &7.into()));
    let bad = home.demo(&[
        "batch",
        "new",
        "B-5",
        "--po",
        "PO-1",
        "--quantity",
        "1",
        "--serial-pattern",
        "KW-{n:4}",
    ]);
    let bad = bad.error(2, "K608");
    assert!(bad["message"].as_str().unwrap().contains("character 9: it has no check character"), "{bad}");
    home.demo(&["batch", "close", "B-4", "--reason", "delivered"]).ok();
    let refused = home.demo(&["batch", "reopen", "B-4"]).error(2, "K608");
    assert!(refused["message"].as_str().unwrap().contains("wants a reason"), "{refused}");
    home.demo(&["batch", "reopen", "B-4", "--reason", "one was found"]).ok();
    let told: Vec<_> = home
        .demo(&["batch", "timeline", "B-4"])
        .ok()
        .of("order-event")
        .into_iter()
        .map(|e| (e["kind"].clone(), e["operator"].clone(), e["reason"].clone()))
        .collect();
    let row = |kind: &str, reason: &str| (kind.into(), "Ada".into(), reason.into());
    assert_eq!(told, [row("created", ""), row("closed", "delivered"), row("reopened", "one was found")]);
    let all = home.demo(&["po", "timeline", "PO-1"]).ok().of("order-event");
    assert_eq!(all.len(), 1 + 1 + 1 + 3, "the order, B-1, B-3, B-4");
    home.demo(&["batch", "approve", "B-4", "--yes"]).error(2, "K608");
}

#[test]
fn a_list_of_orders_is_imported_whole_and_a_product_key_only_encrypted() {
    let home = Home::set_up();
    let file = home.at("orders.csv");
    let file = file.to_str().unwrap();
    let head = "name,model,quantity,region,batch,serial_pattern,label\n";
    std::fs::write(file, format!("{head}PO-8,KW-METER,5,7,,,\nPO-9,KW-METER,5,9,W,,\n")).unwrap();
    let error = home.demo(&["po", "import", file]).error(2, "K608");
    assert!(error["message"].as_str().unwrap().contains("row 3, column region"), "{error}");
    assert_eq!(home.demo(&["po", "list"]).ok().of("po").len(), 1);
    std::fs::write(file, format!("{head}PO-8,KW-METER,5,7,,,\nPO-9,KW-METER,5,7,W,,print\n")).unwrap();
    assert_eq!(home.demo(&["po", "import", file, "--dry-run"]).ok().one("import")["taken"], false);
    let said = home.demo(&["po", "import", file]).ok();
    assert_eq!((said.of("po").len(), &said.one("import")["batches"]), (2, &1.into()));
    assert_eq!(home.demo(&["po", "show", "PO-9"]).ok().of("po")[0]["label"], "print");
    home.demo(&["po", "import", file]).error(2, "K608");
    // A product key comes encrypted to this station, and nothing of it is ever said.
    let recipient =
        home.demo(&["po", "key-recipient"]).ok().one("recipient")["recipient"].as_str().unwrap().to_owned();
    assert_eq!(home.demo(&["po", "key-recipient"]).ok().one("recipient")["recipient"], recipient.as_str());
    let secret = "5a".repeat(32);
    let encrypt = |text: &str| {
        let to: age::x25519::Recipient = recipient.parse().unwrap();
        age::encrypt(&to, text.as_bytes()).unwrap()
    };
    let new = |name: &str, bytes: &[u8]| {
        let key = home.at("key.age");
        std::fs::write(&key, bytes).unwrap();
        let key = key.to_str().unwrap().to_owned();
        let order = [
            "po",
            "new",
            name,
            "--model",
            "KW-METER",
            "--quantity",
            "5",
            "--region",
            "7",
            "--product-key",
            &key,
        ];
        let said = home.demo(&order);
        assert!(!said.out.contains(&secret) && !said.err.contains(&secret), "a secret was said");
        said
    };
    new("PO-K", &encrypt(&format!("{secret}\n"))).ok();
    new("PO-L", secret.as_bytes()).error(2, "K608");
    new("PO-L", &encrypt("5a5a")).error(2, "K608");
    new("PO-L", &encrypt(&"00".repeat(32))).error(4, "K502");
    let stranger = age::encrypt(&age::x25519::Identity::generate().to_public(), secret.as_bytes()).unwrap();
    new("PO-L", &stranger).error(2, "K608");
    let detail = &home.demo(&["po", "timeline", "PO-K"]).ok().of("order-event")[0]["detail"];
    assert_eq!(detail["product_key"], "imported");
}

#[test]
fn labels_are_tried_and_looked_at() {
    let home = Home::set_up();
    home.demo(&["label", "test"]).error(4, "K902");
    let printed = home.at("printed");
    std::fs::write(home.at("label.zpl"), "^XA^FH^FD$code^FS^XZ").unwrap();
    let config = |command: &str| {
        let text = format!(
            "[label]\ntemplate = \"label.zpl\"\ncommand = [\"sh\", \"-c\", \"{command}\", \"sh\", \"$file\"]\n"
        );
        home.config(&text);
    };
    config(&format!("cp $1 {}", printed.display()));
    home.demo(&["label", "test"]).ok().one("label");
    let text = std::fs::read_to_string(&printed).unwrap();
    assert!(text.starts_with("^XA^FH^FDKW1:TEST-00000X:0000000000000000:"), "{text}");
    config("echo no ribbon >&2; exit 1");
    let error = home.demo(&["label", "test"]).error(4, "K903");
    assert!(error["message"].as_str().unwrap().ends_with("no ribbon"), "{error}");
    home.demo(&["label", "check", "4006381333931"]).error(2, "K906");
    home.demo(&["label", "check", text.trim_start_matches("^XA^FH^FD").trim_end_matches("^FS^XZ")])
        .error(2, "K608");
    home.demo(&["label", "print", "NONE"]).error(2, "K608");
}

#[test]
fn a_closed_and_a_paused_batch_take_no_units() {
    let home = Home::set_up();
    for (verb, word) in [("pause", "paused"), ("close", "closed")] {
        home.demo(&["batch", verb, "B-1"]).ok();
        let error = home.demo(&["line", "run", "--batch", "B-1"]).error(5, "K601");
        assert!(error["message"].as_str().unwrap().contains(word), "{error}");
    }
}

#[test]
fn the_demo_says_loudly_that_its_passphrase_is_public() {
    let home = Home::set_up();
    let said = home.demo(&["batch", "list"]);
    assert!(said.err.contains("PUBLIC") && said.err.contains("keywright-demo"), "{}", said.err);
}

#[test]
fn a_wrong_passphrase_is_refused_and_nothing_repeats_it() {
    let home = Home::new();
    home.with_passphrase("short", &["anchors", "init", "--region", "7"]).error(2, "K608");
    home.with_passphrase(PASSPHRASE, &["anchors", "init", "--region", "7"]).ok();
    home.with_passphrase(PASSPHRASE, &["anchors", "show"]).ok();
    let wrong = home.with_passphrase("incorrect horse battery", &["batch", "list"]);
    wrong.error(5, "K612");
    assert!(!wrong.out.contains("horse") && !wrong.err.contains("horse"));
    home.demo(&["batch", "list"]).error(5, "K612");
    // Neither a file nor the log has the passphrase in it.
    let mut folders = vec![home.path().to_path_buf()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(13).any(|w| w == b"horse battery"), "{}", path.display());
            files += 1;
        }
    }
    assert!(files >= 3, "there was something to look at");
}

#[test]
fn no_passphrase_at_all_says_where_one_can_come_from() {
    // No terminal, no descriptor, and a keyring that has nothing for this folder.
    let home = Home::new();
    let mut command = program(&["--home", home.home(), "--json", "batch", "list"]);
    command.env_remove("DBUS_SESSION_BUS_ADDRESS");
    #[cfg(unix)]
    {
        // setsid: without a controlling terminal there is nobody to ask.
        let mut detached = Command::new("setsid");
        detached.arg("--wait").arg(command.get_program()).args(command.get_args());
        detached
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env_remove("DBUS_SESSION_BUS_ADDRESS");
        command = detached;
    }
    let error = said(command.output().unwrap()).error(2, "K608");
    assert!(error["remedy"].as_str().unwrap().contains("--passphrase-fd"), "{error}");
}

#[test]
fn an_unknown_key_in_station_toml_names_file_line_and_what_was_expected() {
    let home = Home::set_up();
    home.config("[station]\nname = \"a\"\nimages = \"x\"\n");
    let error = home.demo(&["batch", "list"]).error(4, "K701");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("station.toml:3:1") && message.contains("images") && message.contains("expected"),
        "{message}"
    );
    let (status, detail) = home.check("config");
    assert!(status == "fail" && detail.contains("station.toml:3:1"), "{detail}");
    let named = home.demo(&["--config", "/nonexistent/station.toml", "batch", "list"]);
    named.error(4, "K701");
}

#[test]
fn a_database_in_use_or_damaged_or_newer_is_a_station_fault() {
    let home = Home::set_up();
    {
        let _held = home.records();
        let error = home.demo(&["batch", "list"]).error(4, "K605");
        assert!(error["message"].as_str().unwrap().contains("locked"), "{error}");
    }
    let newer = rusqlite::Connection::open(home.at("station.db")).unwrap();
    newer.execute_batch("PRAGMA user_version = 999").unwrap();
    drop(newer);
    assert!(home.demo(&["batch", "list"]).error(4, "K605")["message"].as_str().unwrap().contains("999"));
    assert_eq!(home.check("database").0, "fail");
    for file in ["station.db", "station.db-wal", "station.db-shm"] {
        let _ = std::fs::remove_file(home.at(file));
    }
    std::fs::write(home.at("station.db"), vec![0x5A; 8192]).unwrap();
    assert!(home.demo(&["batch", "list"]).error(4, "K605")["message"].as_str().unwrap().contains("damaged"));
    assert_eq!(home.check("database").0, "fail");
}

#[test]
fn doctor_finds_each_thing_that_is_missing() {
    // A home that is not there: doctor must not make it.
    let home = Home::new();
    let gone = Home(tempfile::tempdir().unwrap());
    let inside = gone.at("not-yet");
    let said = run(&["--home", inside.to_str().unwrap(), "--demo", "--json", "doctor"]);
    assert_eq!(said.code, 4);
    assert!(said.of("check").iter().any(|c| c["name"] == "home" && c["status"] == "fail"));
    assert!(!inside.exists());
    // An empty home.
    assert_eq!(home.check("home").0, "ok");
    assert_eq!(home.check("disk").0, if cfg!(unix) { "ok" } else { "warn" });
    assert_eq!(home.check("config").0, "warn");
    assert_eq!(home.check("database").0, "warn");
    assert_eq!(home.check("anchors").0, "fail");
    assert_eq!(home.check("image").0, "fail");
    assert_eq!(home.check("clock").0, "ok");
    // Set up, with a fixture whose port is not there and an image that is not there.
    let home = Home::set_up();
    home.config(
        "[station]\nname = \"bench\"\nimage = \"none/common-image.json\"\n\n[[fixture]]\nname = \"1\"\nprobe = \"0483:374b:NONE\"\nserial = \"/nonexistent/tty\"\n",
    );
    assert_eq!(home.check("config").0, "ok");
    assert_eq!(home.check("database").0, "ok");
    assert_eq!(home.check("passphrase").0, "warn", "the demo's is public");
    assert_eq!(home.check("anchors").0, "ok");
    let (status, detail) = home.check("image");
    assert!(status == "fail" && detail.contains("K201"), "{detail}");
    if cfg!(feature = "hardware") {
        let (status, detail) = home.check("port");
        assert!(status == "fail" && detail.contains("/nonexistent/tty"), "{detail}");
        assert_eq!(home.check("probe").0, "fail");
    } else {
        assert_eq!(home.check("fixtures").0, "fail");
    }
    // The wrong passphrase.
    let own = Home::new();
    own.with_passphrase(PASSPHRASE, &["anchors", "init", "--region", "7"]).ok();
    let (status, detail) = own.check("passphrase");
    assert!(status == "fail" && detail.contains("K612"), "{detail}");
    assert_eq!(own.check("database").0, "ok");
    // Anchors taken away.
    for entry in std::fs::read_dir(home.at("anchors")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert_eq!(home.check("anchors").0, "fail");
}

#[test]
fn failures_and_attempts_without_a_unit_are_shown_exported_signed_and_checked() {
    let home = Home::set_up();
    let unit = UnitId([0xA1; 12]);
    {
        let records = home.records();
        let batch = records.batch_by_name("B-1").unwrap().id;
        let lost = records.begin_attempt(batch, "left", "Ada").unwrap();
        records
            .finish_attempt(lost, Outcome::Error, Some(&Failure::new(FailureCode::NoProbe, "")), None)
            .unwrap();
        let attempt = records.begin_attempt(batch, "left", "Ada").unwrap();
        records.bind_unit(attempt, unit).unwrap();
        records
            .finish_attempt(attempt, Outcome::Fail, Some(&Failure::new(FailureCode::FlashFailed, "")), None)
            .unwrap();
        // This one is left without an end, as a killed process leaves it.
        records.begin_attempt(batch, "right", "Ada").unwrap();
    }
    let shown = home.demo(&["unit", "show", &unit.to_string()]).ok();
    let serial = shown.one("unit")["serial"].as_str().unwrap().to_owned();
    assert_eq!(shown.one("attempt")["outcome"], "FAIL");
    assert!(!shown.of("unit-event").is_empty());
    assert_eq!(home.demo(&["unit", "show", &serial]).ok().one("unit")["uid"], unit.to_string());

    let recipient = home.demo(&["demo-recipient"]).ok().one("recipient");
    let key = recipient["recipient"].as_str().unwrap();
    assert_eq!(home.demo(&["demo-recipient"]).ok().one("recipient")["recipient"], key, "it stays the same");
    let out = home.at("lists");
    let arguments = [
        "export",
        "--batch",
        "B-1",
        "--format",
        "csv,jsonl",
        "--recipient",
        key,
        "--out",
        out.to_str().unwrap(),
    ];
    let exported = home.demo(&arguments).ok();
    let summary = exported.one("summary");
    assert_eq!(
        (&summary["passed"], &summary["not_passed"], &summary["without_unit"]),
        (&0.into(), &1.into(), &2.into())
    );
    let lists = exported.of("export");
    assert_eq!(lists.len(), 4);
    // The second one of a day has a name of its own; a name that was chosen is that one or none.
    assert!(
        home.demo(&arguments).ok().of("export").iter().all(|e| e["file"].as_str().unwrap().contains("-2."))
    );
    let file = lists[0]["file"].as_str().unwrap();
    let chosen = ["export", "--batch", "B-1", "--out", file];
    let error = home.demo(&chosen).error(2, "K683");
    assert!(error["message"].as_str().unwrap().contains("--overwrite"), "{error}");
    let pem = out.join("export.pub.pem");
    let identity = home.at("exports/demo-identity.txt");
    for list in &lists {
        let file = list["file"].as_str().unwrap();
        let check = ["--json", "verify", file, "--key", pem.to_str().unwrap()];
        run(&check).ok();
        let import = ["--json", "import-check", file, "--key", pem.to_str().unwrap()];
        if list["protected"] == true {
            run(&import).error(5, "K610");
        }
        let opened = run(&[&import[..], &["--identity", identity.to_str().unwrap()]].concat())
            .ok()
            .one("import-check");
        assert_eq!((&opened["rows"], &opened["whole_file_signed"]), (&3.into(), &true.into()));
        let mut bytes = std::fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(file, bytes).unwrap();
        run(&check).error(5, "K611");
    }
    let records = home.records();
    let batch = records.batch_by_name("B-1").unwrap().id;
    let recorded = records.list_exports(batch).unwrap();
    assert_eq!(recorded.len(), 8);
    for (row, list) in recorded.iter().zip(&lists) {
        assert_eq!((row.operator.as_str(), row.rows), ("Ada", 3));
        assert_eq!(list["sha256"], row.sha256.as_str());
        assert_eq!(row.recipients.len(), usize::from(list["protected"] == true));
    }
    assert_eq!(
        records.list_attempts(batch).unwrap()[2].outcome,
        Some(Outcome::Aborted),
        "the killed one was closed"
    );
}

#[test]
fn what_was_handed_out_is_logged_verified_repeated_and_revoked() {
    let home = Home::set_up();
    let out = home.at("lists");
    let out = out.to_str().unwrap();
    for (arguments, word) in [
        (&["--format", "dynsec"][..], "--plain"),
        (&["--format", "dynsec", "--plain"], "required arguments"),
        (&["--format", "dynsec", "--plain", "--reason", "test"], "--to"),
        (&["--format", "csv", "--where", "colour=red"], "colour"),
        (
            &["--format", "csv", "--openpgp", "/nonexistent.asc", "--recipient", "age1x"],
            "cannot be used with",
        ),
    ] {
        let error = home
            .demo(&[&["export", "--batch", "B-1", "--out", out][..], arguments].concat())
            .error(2, "K608");
        assert!(error["message"].as_str().unwrap().contains(word), "{error}");
    }
    home.demo(&["export"]).error(2, "K608");
    // No unit has passed: a form of others would be an empty file that is signed. None is written, none is in the log.
    for format in ["jws", "pskc", "azure-hub"] {
        let plain = [
            "export", "--batch", "B-1", "--format", format, "--plain", "--reason", "test", "--to", "A",
            "--out", out,
        ];
        home.demo(&plain).error(2, "K684");
    }
    assert!(!home.at("lists").exists());
    let shown = home.demo(&["export", "--batch", "B-1", "--format", "dynsec,csv", "--preview"]).ok();
    assert_eq!(shown.of("export-preview").len(), 2);
    assert!(home.demo(&["export", "log"]).ok().of("export-record").is_empty());
    let arguments =
        ["export", "--batch", "B-1", "--format", "jsonl", "--to", "Acme", "--second", "Bea", "--out", out];
    {
        let records = home.records();
        let batch = records.batch_by_name("B-1").unwrap().id;
        let attempt = records.begin_attempt(batch, "left", "Ada").unwrap();
        records.bind_unit(attempt, UnitId([0xA1; 12])).unwrap();
        let failure = Failure::new(FailureCode::FlashFailed, "");
        records.finish_attempt(attempt, Outcome::Fail, Some(&failure), None).unwrap();
    }
    let file = home.demo(&arguments).ok().one("export");
    let (path, number) = (file["file"].as_str().unwrap(), file["number"].to_string());
    let receipt = run(&["--json", "export", "verify", path]).ok().one("receipt");
    assert_eq!((&receipt["valid"], &receipt["second_person"]), (&true.into(), &"Bea".into()));
    run(&["--json", "export", "verify", path, "--receipt", path]).error(5, "K611");
    let pem = home.at("lists/export.pub.pem");
    let check = ["import-check", path, "--key", pem.to_str().unwrap()];
    assert_eq!(home.demo(&check).ok().one("import-check")["rows"], 1);
    let again = ["export", "--again", &number, "--out", out, "--overwrite"];
    let second = home.demo(&again).ok().one("export");
    assert_eq!(second["sha256"], file["sha256"], "the same units give the same file");
    let log = home.demo(&["export", "log", "--batch", "B-1"]).ok().of("export-record");
    assert_eq!(log.len(), 2);
    assert_eq!((&log[0]["handed_to"], &log[1]["replaces"]), (&"Acme".into(), &log[0]["number"]));
    let revoke = ["export", "revoke", &number, "--reason", "stolen"];
    assert_eq!(home.demo(&revoke).ok().one("export-revoked")["units"], 0);
    home.demo(&revoke).error(2, "K608");
    home.demo(&["export", "exposed", "99"]).error(2, "K608");
    let log = home.demo(&["export", "log"]).ok().of("export-record");
    assert_eq!((&log[0]["revoked"]["by"], &log[1]["revoked"]), (&"Ada".into(), &serde_json::Value::Null));
    // Two people, where station.toml says so: only for what holds keys.
    let toml = home.at("station.toml");
    let text = std::fs::read_to_string(&toml).unwrap_or_default();
    std::fs::write(&toml, format!("{text}\n[export]\nsecond_person = true\n")).unwrap();
    let key = home.demo(&["demo-recipient"]).ok().one("recipient")["recipient"].as_str().unwrap().to_owned();
    let alone = ["export", "--batch", "B-1", "--format", "csv", "--recipient", &key, "--out", out];
    let error = home.demo(&alone).error(5, "K685");
    assert!(error["message"].as_str().unwrap().contains("--second"), "{error}");
    home.demo(&[&alone[..], &["--second", "ada"]].concat()).error(5, "K685");
    home.demo(&[&alone[..], &["--second", "Bea"]].concat()).ok();
    home.demo(&["export", "--batch", "B-1", "--out", out]).ok();
}

#[test]
fn verifying_needs_a_key_and_a_signature() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f");
    std::fs::write(&file, "x").unwrap();
    let name = file.to_str().unwrap();
    run(&["--json", "verify", name, "--key", name]).error(2, "K608");
    run(&["--json", "verify", name, "--key", "/nonexistent.pem"]).error(4, "K609");
}

#[test]
fn without_a_display_the_window_says_so() {
    let home = Home::set_up();
    let said = home.demo(&[]);
    let error = said.error(2, "K608");
    assert!(error["remedy"].as_str().unwrap().contains("keywright"), "{error}");
}

#[test]
fn the_demo_recipient_exists_in_the_demo_only() {
    let home = Home::new();
    run(&["--home", home.home(), "--json", "demo-recipient"]).error(2, "K608");
}

#[test]
fn init_sets_a_station_up_once_and_says_what_it_wrote() {
    let home = Home::new();
    let image = home.at("image");
    std::fs::create_dir(&image).unwrap();
    let index = r#"{"format":1,"model":"KW-GATEWAY-429","version":"0.1.0","parts":[]}"#;
    std::fs::write(image.join("common-image.json"), index).unwrap();
    std::fs::write(home.at("plant.password"), "the broker's own word\n").unwrap();
    let password = home.at("plant.password").display().to_string();
    let args = [
        "init",
        "--name",
        "line-1",
        "--language",
        "zh-CN",
        "--region",
        "7",
        "--fixture",
        "left,1d50:6018:127.0.0.1:9,/dev/ttyX0",
        "--cloud",
        "plant",
        "--cloud-url",
        "mqtt://127.0.0.1:1",
        "--cloud-password-file",
        &password,
        "--image",
        image.to_str().unwrap(),
    ];
    let said = home.with_passphrase(PASSPHRASE, &args).ok();
    let wrote: Vec<_> = said.of("wrote").iter().map(|o| o["what"].as_str().unwrap().to_owned()).collect();
    assert_eq!(wrote, ["name", "records", "fixtures", "anchors", "cloud", "image"]);
    assert_eq!(said.one("summary")["wrote"], 6);
    let toml = std::fs::read_to_string(home.at("station.toml")).unwrap();
    assert!(!toml.contains("own word") && !said.out.contains("own word"), "{toml}");
    let config = keywright::config::Config::parse(&toml, &home.at("station.toml")).unwrap();
    assert_eq!((config.name.as_str(), config.fixtures.len(), config.clouds.len()), ("line-1", 1, 2));
    // Nothing twice; what is new is added to what is there.
    assert_eq!(home.with_passphrase(PASSPHRASE, &args).ok().one("summary")["wrote"], 0);
    let more = ["init", "--fixture", "right,1d50:6018:127.0.0.1:10,/dev/ttyX1", "--region", "8"];
    assert_eq!(home.with_passphrase(PASSPHRASE, &more).ok().one("summary")["wrote"], 2);
    let toml = std::fs::read_to_string(home.at("station.toml")).unwrap();
    let config = keywright::config::Config::parse(&toml, &home.at("station.toml")).unwrap();
    assert_eq!(config.fixtures.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["left", "right"]);
    // Every step stands in the audit log.
    let audit = home.with_passphrase(PASSPHRASE, &["audit", "list"]).ok();
    let actions: Vec<_> =
        audit.of("audit").iter().map(|o| o["action"].as_str().unwrap().to_owned()).collect();
    for action in ["settings-changed", "anchors-made", "cloud-set"] {
        assert!(actions.iter().any(|a| a == action), "{actions:?}");
    }
    home.with_passphrase("another one entirely", &["init"]).error(5, "K612");
}

#[test]
fn init_refuses_what_can_not_be_used_and_leaves_the_rest() {
    let home = Home::new();
    home.with_passphrase("short", &["init"]).error(2, "K608");
    home.demo(&["init", "--fixture", "left"]).error(2, "K608");
    home.demo(&["init", "--image", "nowhere/common-image.json"]).error(4, "K201");
    // The image was wrong, the rest is there.
    let said = home.demo(&["anchors", "show"]).ok();
    assert_eq!(said.of("anchor").len(), 2);
    home.demo(&["init", "--cloud", "plant", "--cloud-url", "nonsense"]).error(4, "K701");
    home.demo(&["init", "--rehearse"]).error(4, "K682");
    std::fs::write(home.at("pin"), "q7t5-amber\n").unwrap();
    let pin = home.at("pin").display().to_string();
    let said = home.demo(&["init", "--admin", "Ana", "--new-pin-file", &pin]).ok();
    assert_eq!(said.one("wrote")["what"], "admin");
    // From now on it wants a person.
    home.demo(&["init", "--region", "9"]).error(5, "K811");
    let said =
        home.demo(&["--person", "Ana", "--pin-file", &pin, "init", "--region", "9", "--admin", "ana"]).ok();
    assert_eq!(said.one("wrote")["what"], "anchors");
}

#[test]
fn the_power_cut_matrix_needs_no_station_and_adds_up() {
    let home = Home::new();
    let nowhere = home.at("none");
    let said = run(&["--home", nowhere.to_str().unwrap(), "--json", "matrix"]).ok();
    let (rows, total) = (said.of("power-cuts"), said.one("power-cuts-total"));
    let sum = |key: &str| rows.iter().map(|r| r[key].as_u64().unwrap()).sum::<u64>();
    for key in ["cuts", "old_keys", "new_keys", "stranded", "manual"] {
        assert_eq!(total[key].as_u64(), Some(sum(key)), "{key}");
    }
    assert_eq!(total["cuts"], said.one("power-cut-matrix")["cuts"]);
    assert!(sum("cuts") > 1_000 && rows.iter().any(|r| r["transition"] == "enrol"), "{}", said.out);
    assert!(!nowhere.exists(), "it only looks");
    let words = run(&["matrix"]).ok().out;
    assert!(words.starts_with("TRANSITION") && words.contains("cuts of a full run"), "{words}");
}

#[test]
fn units_are_found_taken_back_and_their_travelers_saved() {
    let home = Home::set_up();
    let (unit, other) = (UnitId([0xA1; 12]), UnitId([0xB2; 12]));
    {
        let records = home.records();
        let batch = records.batch_by_name("B-1").unwrap().id;
        for id in [unit, other] {
            let attempt = records.begin_attempt(batch, "left", "Ada").unwrap();
            records.bind_unit(attempt, id).unwrap();
            let code = if id == unit { FailureCode::DeviceSilent } else { FailureCode::FlashFailed };
            records.finish_attempt(attempt, code.outcome(), Some(&Failure::new(code, "")), None).unwrap();
        }
    }
    let found = |args: &[&str]| {
        let said = home.demo(&[&["unit", "find"], args].concat()).ok();
        let count = said.one("found-count");
        let units: Vec<_> =
            said.of("found").into_iter().map(|u| u["uid"].as_str().unwrap().to_owned()).collect();
        assert_eq!((&count["shown"], &count["of"]), (&units.len().into(), &2.into()));
        units
    };
    let (a, b) = (unit.to_string(), other.to_string());
    assert_eq!(found(&["B-1", "--batch", "B-1"]).len(), 2);
    assert_eq!(found(&["-1-00001"].map(|t| t.trim_start_matches('-'))), [a.as_str()]);
    for args in [
        &["K304"][..],
        &["--failure", "k304"],
        &["a1a1"],
        &["arrived", "0001"],
        &["--state", "arrived", "--failure", "K304"],
    ] {
        assert_eq!(found(args), [a.as_str()], "{args:?}");
    }
    assert_eq!(found(&["--failure", "K206"]), [b.as_str()]);
    assert_eq!(found(&["--limit", "1"]).len(), 1);
    assert!(found(&["K304", "K206", "nothing"]).is_empty() && found(&["--rma"]).is_empty());
    home.demo(&["unit", "find", "--failure", "K999"]).error(2, "K608");
    home.demo(&["unit", "find", "--batch", "B-9"]).error(2, "K608");

    let open = ["unit", "rma", "open", &a, "--number", "RMA-7", "--reason", "does not start"];
    assert_eq!(home.demo(&open).ok().one("rma")["number"], "RMA-7");
    home.demo(&open).error(5, "K660");
    assert_eq!((found(&["--rma"]), found(&["rma-7"])), (vec![a.clone()], vec![a.clone()]));
    let close = ["unit", "rma", "close", &a, "--finding", "a fuse"];
    assert_eq!(home.demo(&close).ok().one("rma")["finding"], "a fuse");
    home.demo(&close).error(5, "K661");
    assert_eq!(home.demo(&["unit", "show", &a]).ok().one("rma")["closed_by"], "Ada");
    home.demo(&["unit", "retest", &a, "--reason", "back"]).error(5, "K662");

    // What a scrap kills is said before anybody is asked; a note stands beside its reason.
    let asked = home.demo(&["unit", "scrap", &b, "--reason", "burnt"]).error(2, "K608");
    let sentence = asked["message"].as_str().unwrap();
    assert!(sentence.contains("it has no living key. It never comes back."), "{sentence}");
    let aside = ["unit", "quarantine", &b, "--reason", "burnt", "--note", "capacitor C4"];
    assert_eq!(home.demo(&aside).ok().one("unit")["state"], "quarantined");
    let told = home.demo(&["unit", "show", &b, "--traveler", "--only", "decision"]).ok();
    assert!(told.of("traveler-line").iter().any(|l| l["facts"]["note"] == "capacitor C4"), "{}", told.out);

    let traveler = home.demo(&["unit", "show", &a, "--traveler", "--only", "attempt,rma"]).ok();
    assert_eq!(traveler.one("traveler")["unit"]["hardware_id"], a.as_str());
    let lines: Vec<_> = traveler.of("traveler-line").into_iter().map(|l| l["what"].clone()).collect();
    assert_eq!(lines, ["attempt", "rma-opened", "rma-closed"]);
    let file = home.at("traveler.csv");
    let save = ["unit", "show", &a, "--traveler", "--as", "csv", "--save", file.to_str().unwrap()];
    home.demo(&save).ok();
    assert!(std::fs::read_to_string(&file).unwrap().contains("K304"));
    home.demo(&save).error(4, "K609");
    let logged = home.demo(&["audit", "list"]).ok();
    let actions: Vec<_> =
        logged.of("audit").into_iter().map(|e| e["action"].as_str().unwrap().to_owned()).collect();
    for action in ["unit-rma-opened", "unit-rma-closed", "unit-retest", "traveler-saved"] {
        assert!(actions.iter().any(|a| a == action), "{action} in {actions:?}");
    }
}
