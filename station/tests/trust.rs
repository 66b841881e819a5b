//! The chain of trust: what the clerk behind the view shows and makes, and signing keys in a real PKCS#11 token (SoftHSM2).
//!
//! SoftHSM reads its configuration from the environment when it is loaded, and a process can't change its own safely. So a test with
//! a token runs itself once more in a child that was given a token of its own.

mod support;

use keywright::agent::Agent;
use keywright::anchors::{Anchors, NewHome, NewRegion};
use keywright::failure::FailureCode;
use keywright::hsm::Door;
use keywright::people::{Credential, NewPerson, People, Pin, PinCost, Role};
use keywright::records::{AuditFilter, Records, UnderFilter};
use keywright::trust::clerk::{Clerk, Command, Done, Snapshot, Told, TrustHandle};
use keywright::trust::{Office, TurnOf};
use keywright_protocol::Suite;
use std::sync::{Arc, mpsc};
use support::*;

fn office(station: &Station, door: Arc<Door>) -> Office {
    Office {
        home: station.home.path().to_owned(),
        records: Arc::new(station.records.clone()),
        door,
        agent: Some(station.agent.clone()),
        now_s: keywright::trust::now_s,
    }
}

fn made(station: &Station, n: u32) -> Device {
    let id = unit_id(n);
    station.arrive(id);
    let mut device = station.device(id, Suite::Hardened, u64::from(n));
    station.complete(&mut device);
    device
}

#[test]
fn units_are_counted_grouped_and_found_under_the_certificate_that_they_were_given() {
    let station = Station::new(5, 2);
    let devices: Vec<_> = (1..=3).map(|n| made(&station, n)).collect();
    let office = office(&station, Door::nowhere());
    let first = office.tree().unwrap().unwrap();
    let old = first.anchors.regions[0].certs[0].clone();
    assert_eq!((first.units_of(&old), first.all_units()), (3, 3));
    // A new epoch: what is made from now on hangs on it, the others stay where they are.
    let tree = office.rotate(7, Some(400), NewHome::Sealed).unwrap();
    assert_eq!(tree.behind(&tree.anchors.regions[0]), 3);
    let fourth = made(&station, 4);
    let mut second = devices.into_iter().nth(1).unwrap();
    second.goal.push(keywright_protocol::Purpose::CloudKeyUpdate);
    station.complete(&mut second);
    let tree = office.tree().unwrap().unwrap();
    let region = &tree.anchors.regions[0];
    assert_eq!([tree.units_of(&region.certs[0]), tree.units_of(&region.certs[1])], [2, 2]);
    let behind = tree.rotation().into_iter().find_map(|t| match t.what {
        TurnOf::Units { behind, epoch, .. } => Some((behind, epoch)),
        _ => None,
    });
    assert_eq!(behind, Some((2, 2)));
    let new = &region.certs[0].fingerprint;
    let batches = office.batches(new).unwrap();
    assert_eq!((batches.len(), batches[0].batch.as_str(), batches[0].units), (1, "B1", 2));
    let find = |search: &str, batch: Option<&str>, limit| {
        let (anchor, batch) = (new.clone(), batch.map(str::to_owned));
        office.units(&UnderFilter { anchor, batch, search: search.into(), limit }).unwrap()
    };
    let all = find("", None, 10);
    assert_eq!(all.iter().map(|u| u.unit).collect::<Vec<_>>(), [second.id, fourth.id]);
    assert_eq!(find("", Some("B1"), 1).len(), 1, "no more than asked for");
    assert!(find("", Some("B2"), 10).is_empty());
    for search in [all[1].serial.clone(), all[1].serial.to_lowercase(), fourth.id.to_string()] {
        let found = find(&search, None, 10);
        assert_eq!(found.iter().map(|u| u.unit).collect::<Vec<_>>(), [fourth.id], "{search}");
    }
    assert_eq!(find(&fourth.id.to_string()[..8], None, 10).len(), 2, "ids begin alike");
    assert!(find("%", None, 10).is_empty());
    // The search goes through an index, and so does the counting.
    let plan = |sql: &str| -> String {
        let sql = format!("EXPLAIN QUERY PLAN {sql}");
        let db = station.sql();
        let mut statement = db.prepare(&sql).unwrap();
        let rows = statement.query_map([], |r| r.get::<_, String>(3)).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    };
    let counting = plan(
        "SELECT anchor_fingerprint, count(*) FROM enrolment WHERE anchor_fingerprint IS NOT NULL GROUP BY anchor_fingerprint",
    );
    assert!(counting.contains("COVERING INDEX enrolment_by_anchor"), "{counting}");
}

fn newest(clerk: &Clerk, waker: &mpsc::Receiver<()>, until: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    loop {
        let snapshot = clerk.snapshot();
        if until(&snapshot) {
            return snapshot;
        }
        waker.recv_timeout(std::time::Duration::from_secs(60)).expect("the clerk answers");
    }
}

#[test]
fn the_clerk_shows_what_somebody_may_see_and_makes_what_an_admin_may_make() {
    let station = Station::new(1, 2);
    let ticks = Arc::new(|| std::time::Duration::ZERO);
    let people = Arc::new(People::with(station.records.clone(), "Ada", PinCost::TEST, ticks).unwrap());
    let person = |name: &str, role, pin: &str| {
        let new = NewPerson { name: name.into(), role, pin: Pin::new(pin.to_owned()), badge: None };
        people.add(&new).unwrap();
    };
    person("Ana", Role::Admin, "729450");
    person("Tom", Role::Technician, "2580");
    person("Quin", Role::Qa, "quality7");
    let login = |name: &str, pin: &str| {
        people.login(&Credential::Pin { name: name.into(), pin: Pin::new(pin.to_owned()) }).unwrap();
    };
    let clerk = Clerk::new(office(&station, Door::nowhere()), people.clone()).unwrap();
    let (wake, woken) = mpsc::channel();
    clerk.on_change(Box::new(move || {
        let _ = wake.send(());
    }));
    login("Tom", "2580");
    clerk.send(Command::Watch(true));
    clerk.send(Command::Try { region: 7, pin: None });
    let seen = newest(&clerk, &woken, |s| s.answers == 1);
    assert!(seen.tree.is_none() && !seen.read, "nothing of it is in the snapshot");
    assert!(matches!(&seen.told, Told::Failed(f) if f.code == FailureCode::NotAllowed));
    login("Quin", "quality7");
    clerk.send(Command::Look);
    let seen = newest(&clerk, &woken, |s| s.tree.is_some());
    let tree = seen.tree.clone().unwrap();
    assert_eq!(tree.anchors.regions.len(), 1);
    let new = NewRegion { name: "Europe".into(), days: Some(30), ..NewRegion::plain(8) };
    clerk.send(Command::Make { new: new.clone(), pin: None });
    let seen = newest(&clerk, &woken, |s| s.answers == 2);
    assert!(matches!(&seen.told, Told::Failed(f) if f.code == FailureCode::NotAllowed), "{:?}", seen.told);
    assert_eq!(station.agent.regions(), [7]);
    login("Ana", "729450");
    clerk.send(Command::Make { new: new.clone(), pin: None });
    let seen = newest(&clerk, &woken, |s| s.answers == 3);
    assert_eq!(seen.told, Told::Done(Done::Made(8)));
    assert_eq!(station.agent.regions(), [7, 8], "the agent issues under it at once");
    clerk.send(Command::Make { new, pin: None });
    let seen = newest(&clerk, &woken, |s| s.answers == 4);
    assert!(matches!(&seen.told, Told::Failed(f) if f.code == FailureCode::NameTaken));
    for command in [
        Command::Rotate { region: 8, days: None, home: NewHome::Sealed, pin: None },
        Command::Rename { region: 8, name: "EU".into() },
        Command::Try { region: 8, pin: None },
        Command::Batches(tree.anchors.regions[0].certs[0].fingerprint.clone()),
    ] {
        clerk.send(command);
    }
    let seen = newest(&clerk, &woken, |s| !s.batches.is_empty());
    assert_eq!((seen.answers, &seen.told), (7, &Told::Done(Done::Tried(8))));
    let eu = seen.tree.as_ref().unwrap().anchors.regions[1].clone();
    assert_eq!((eu.name.as_str(), eu.certs[0].epoch), ("EU", 2));
    let mut log = people.audit(&AuditFilter::default()).unwrap();
    log.reverse();
    let log: Vec<_> = log.iter().map(|e| format!("{} {} {}", e.person, e.action, e.subject)).collect();
    for row in ["Ana anchors-made region 8", "Ana region-rotated region 8", "Ana region-named region 8"] {
        assert!(log.iter().any(|r| r == row), "{row} is not in {log:?}");
    }
    assert!(log.iter().filter(|r| r.contains("refused")).count() >= 2, "{log:?}");
    drop(clerk);
    assert!(station.records.verify_history().is_ok());
}

#[cfg(all(unix, feature = "pkcs11"))]
mod token {
    use super::*;
    use keywright::anchors::KeyHome;
    use keywright::config::TokenConfig;
    use keywright::hsm::{HsmError, PinSource, Tries};
    use keywright::secrets::Passphrase;
    use keywright_protocol::cert::Trust;
    use keywright_protocol::{ProductOrder, Region, UnitId as ProtocolUnitId};
    use serde_json::Value;
    use std::path::{Path, PathBuf};
    use std::process::{Command as Process, Stdio};

    // With letters that no hexadecimal digit has: it must not turn up in a digest by chance.
    const PIN: &str = "kw-730512";
    const LABEL: &str = "kw-factory";
    /// Where a child finds its own folder.
    const FOLDER: &str = "KEYWRIGHT_TEST_TOKEN";

    fn module() -> PathBuf {
        let places = [
            "/usr/lib/softhsm",
            "/usr/lib/x86_64-linux-gnu/softhsm",
            "/usr/lib64/pkcs11",
            "/usr/local/lib/softhsm",
        ];
        let found = places.iter().map(|p| Path::new(p).join("libsofthsm2.so")).find(|p| p.exists());
        found.expect("SoftHSM2 is installed (Debian: softhsm2)")
    }

    /// A new token in this folder.
    fn new_token(folder: &Path) {
        std::fs::create_dir(folder.join("tokens")).unwrap();
        let conf = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            folder.join("tokens").display()
        );
        std::fs::write(folder.join("softhsm2.conf"), conf).unwrap();
        let made = Process::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", LABEL, "--pin", PIN, "--so-pin", "51739846"])
            .env("SOFTHSM2_CONF", folder.join("softhsm2.conf"))
            .output()
            .expect("softhsm2-util runs (Debian: softhsm2)");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// Runs `body` in a child of this test program that has a token of its own.
    fn with_token(test: &str, body: impl FnOnce()) {
        if std::env::var_os(FOLDER).is_some() {
            return body();
        }
        let folder = tempfile::tempdir().unwrap();
        new_token(folder.path());
        let child = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("token::{test}"), "--nocapture"])
            .env(FOLDER, folder.path())
            .env("SOFTHSM2_CONF", folder.path().join("softhsm2.conf"))
            .env_remove("KEYWRIGHT_TOKEN_PIN")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
    }

    fn config(token: &str) -> Option<TokenConfig> {
        Some(TokenConfig { module: module(), token: token.into() })
    }

    fn door(pin: &str) -> Arc<Door> {
        let door = Door::new(config(LABEL), PinSource::default());
        door.give_pin(Passphrase::new(pin.into()));
        door
    }

    /// A station whose region 7, and whose root, live in the token.
    fn station(door: &Arc<Door>) -> Station {
        let home = tempfile::tempdir().unwrap();
        let records = open(home.path());
        let new = NewRegion { home: NewHome::Token, root_home: NewHome::Token, ..NewRegion::plain(7) };
        let anchors = Anchors::make(home.path(), &records.station_key(), door, &new).unwrap();
        let po = records.create_product_order(new_order("PO-1", 9, 2)).unwrap();
        let batch = records.create_batch(po.id, "B1", 9).unwrap();
        let agent = Arc::new(agent(home.path(), &records, anchors));
        Station { home, records, agent, po, batch }
    }

    /// What the unit holds verifies with the protocol's own verifier; the epoch of its region's certificate.
    fn verified(station: &Station, device: &Device) -> u32 {
        let view = device.view(device.preferred()).unwrap();
        let anchors = Anchors::open(station.home.path(), &station.records.station_key()).unwrap();
        let (root, unit) = (anchors.root(), ProtocolUnitId(device.id.0));
        let region_cert = view.region_cert().unwrap();
        let trust = Trust {
            root: &root.key,
            root_epoch: root.epoch,
            floors: &[],
            time_floor: 0,
            order: ProductOrder::from_text("PO-1").unwrap(),
            unit,
            region: Region(7),
            region_cert: None,
        };
        let region = trust.verify_region(&region_cert).unwrap();
        trust.verify_device_tier(&region, &view.device_cert().unwrap()).unwrap();
        region.fields().epoch
    }

    #[test]
    fn units_are_made_by_a_region_whose_keys_never_left_the_token() {
        with_token("units_are_made_by_a_region_whose_keys_never_left_the_token", || {
            let door = door(PIN);
            let station = station(&door);
            let mut device = made(&station, 1);
            station.assert_same_keys(&device);
            assert_eq!(verified(&station, &device), 1);
            let files = |station: &Station| {
                let mut names: Vec<_> = std::fs::read_dir(station.home.path().join("anchors"))
                    .unwrap()
                    .map(|e| e.unwrap().file_name().into_string().unwrap())
                    .collect();
                names.sort();
                names
            };
            // root-secret is what sealed regions are derived from; nothing of this root's or this region's keys is here.
            let expected = [
                "region-7.cert",
                "region-7.token",
                "root-secret.sealed",
                "root-signing.token",
                "root.bundle",
            ];
            assert_eq!(files(&station), expected);
            let key = station.records.station_key();
            let anchors = Anchors::open_with(station.home.path(), &key, &door).unwrap();
            let secret =
                keywright::secrets::SealedFile::at(station.home.path().join("anchors/root-secret.sealed"));
            let secret: [u8; 32] = secret.read(&key).unwrap().as_slice().try_into().unwrap();
            let derived = keywright_protocol::anchors::region_seed(&secret, Region(7), 1);
            let derived = keywright_protocol::IdentityKey::from_seed(&derived).public();
            assert_ne!(
                hex::encode(derived.0),
                anchors.facts().regions[0].certs[0].public_key,
                "it is not derived"
            );
            assert!(matches!(&anchors.facts().root_home, KeyHome::Token { token, .. } if token == LABEL));
            // The same unit gives the same certificate, in this process and in the next.
            let unit = ProtocolUnitId(device.id.0);
            let once = anchors.region(7).unwrap().device_cert(&unit).unwrap();
            let again = Anchors::open_with(station.home.path(), &key, &door).unwrap();
            assert_eq!(again.region(7).unwrap().device_cert(&unit).unwrap(), once);
            anchors.region(7).unwrap().try_out().unwrap();
            // The next epoch in the token, then one in a sealed file: the unit goes along with its cloud keys.
            let office = office(&station, door.clone());
            for (home, epoch) in [(NewHome::Token, 2), (NewHome::Sealed, 3)] {
                office.rotate(7, Some(30), home).unwrap();
                device.goal.push(keywright_protocol::Purpose::CloudKeyUpdate);
                station.complete(&mut device);
                assert_eq!(verified(&station, &device), epoch);
            }
            let tree = office.tree().unwrap().unwrap();
            let homes: Vec<_> = tree.anchors.regions[0]
                .certs
                .iter()
                .map(|c| matches!(c.home, KeyHome::Token { .. }))
                .collect();
            assert_eq!(homes, [false, true, true]);
            let token = office.token().unwrap();
            assert_eq!(token.seen.unwrap().label, LABEL);
        });
    }

    #[test]
    fn a_wrong_pin_is_tried_once_and_its_agent_says_why_it_is_silent() {
        with_token("a_wrong_pin_is_tried_once_and_its_agent_says_why_it_is_silent", || {
            let station = {
                let door = door(PIN);
                station(&door)
            };
            // A token is logged in to once in a program: it must be left before another PIN is looked at.
            let key = station.records.station_key();
            station.agent.set_anchors(Anchors::open(station.home.path(), &key).unwrap());
            let wrong = door("000000");
            let Err(HsmError::WrongPin { tries, .. }) = wrong.unlock(LABEL) else { panic!("it opened") };
            assert_eq!(tries, Tries::Fewer, "SoftHSM tells that a wrong one was given");
            assert!(matches!(wrong.unlock(LABEL), Err(HsmError::WrongPin { .. })));
            // The line hears it instead of a silent drop.
            station.agent.set_anchors(Anchors::open_with(station.home.path(), &key, &wrong).unwrap());
            station.arrive(unit_id(1));
            let mut device = station.device(unit_id(1), Suite::Hardened, 1);
            let frame = device.tick().unwrap();
            let failure = station.agent.handle(station.context(device.id), &frame).unwrap_err();
            assert_eq!(failure.code, FailureCode::TokenPinWrong, "{failure}");
            assert!(!failure.to_string().contains("000000"));
            // The right one, typed by somebody: the same unit goes on.
            wrong.give_pin(Passphrase::new(PIN.into()));
            station.complete(&mut device);
            assert_eq!(verified(&station, &device), 1);
            // Nobody gives one.
            let silent = Door::new(config(LABEL), PinSource::default());
            assert!(matches!(silent.unlock(LABEL), Err(HsmError::NoPin { .. })));
        });
    }

    #[test]
    fn an_absent_token_a_missing_key_and_an_exchanged_one_are_told_apart() {
        with_token("an_absent_token_a_missing_key_and_an_exchanged_one_are_told_apart", || {
            let door = door(PIN);
            let station = station(&door);
            let key = station.records.station_key();
            let absent = Door::new(config("other"), PinSource::default());
            let Err(HsmError::TokenAbsent { seen, .. }) = absent.look("other") else { panic!("it is there") };
            assert!(seen.contains(LABEL), "{seen}");
            let none = Door::new(
                Some(TokenConfig { module: "/lib/x86_64-linux-gnu/libm.so.6".into(), token: LABEL.into() }),
                PinSource::default(),
            );
            let Err(HsmError::Module { detail, .. }) = none.look(LABEL) else { panic!("a module") };
            assert!(detail.contains("PKCS#11") || detail.contains("not there"), "{detail}");
            let path = station.home.path().join("anchors/region-7.token");
            let text = std::fs::read(&path).unwrap();
            let issue = |change: &dyn Fn(&mut Value)| {
                let mut object: Value = serde_json::from_slice(&text).unwrap();
                change(&mut object);
                std::fs::write(&path, object.to_string()).unwrap();
                let anchors = Anchors::open_with(station.home.path(), &key, &door).unwrap();
                let tried = anchors.region(7).unwrap().device_cert(&ProtocolUnitId([5; 12]));
                std::fs::write(&path, &text).unwrap();
                keywright::failure::Failure::from(tried.unwrap_err())
            };
            let missing = issue(&|o| o["keys"]["region"]["id"] = "00".repeat(16).into());
            assert_eq!(missing.code, FailureCode::TokenKeyMissing, "{missing}");
            assert!(missing.sentence.contains("holds no key of region 7"), "{missing}");
            let exchanged = issue(&|o| o["keys"]["region"]["id"] = o["keys"]["agent"]["id"].clone());
            assert!(exchanged.sentence.contains("not from the key of region 7"), "{exchanged}");
            let other = issue(&|o| o["keys"]["units"]["public"] = "00".repeat(8).into());
            assert!(other.sentence.contains("secret of its units"), "{other}");
            let elsewhere = issue(&|o| o["token"] = "other".into());
            assert_eq!(elsewhere.code, FailureCode::TokenNotConfigured, "{elsewhere}");
        });
    }

    fn contains(folder: &Path, needle: &str) -> Option<PathBuf> {
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).find_map(|path| {
            if path.is_dir() {
                return contains(&path, needle);
            }
            let bytes = std::fs::read(&path).unwrap();
            bytes.windows(needle.len()).any(|w| w == needle.as_bytes()).then_some(path)
        })
    }

    #[test]
    fn the_program_makes_shows_tries_and_rotates_a_region_in_a_token() {
        let (folder, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        new_token(folder.path());
        let toml = format!("[pkcs11]\nmodule = {:?}\ntoken = {LABEL:?}\n", module());
        std::fs::write(home.path().join("station.toml"), toml).unwrap();
        let run = |pin: Option<&str>, args: &[&str]| -> (i32, Vec<Value>) {
            let mut command = Process::new(env!("CARGO_BIN_EXE_keywright"));
            command.args(["--demo", "--json", "--home"]).arg(home.path()).args(args).stdin(Stdio::null());
            command
                .env("SOFTHSM2_CONF", folder.path().join("softhsm2.conf"))
                .env_remove("KEYWRIGHT_TOKEN_PIN");
            if let Some(pin) = pin {
                command.env("KEYWRIGHT_TOKEN_PIN", pin);
            }
            let said = command.output().unwrap();
            let text = String::from_utf8(said.stdout).unwrap();
            let lines = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
            (said.status.code().unwrap(), lines)
        };
        let code = |(exit, lines): (i32, Vec<Value>)| {
            (exit, lines.last().unwrap()["code"].as_str().unwrap_or("").to_owned())
        };
        let init =
            ["anchors", "init", "--region", "7", "--name", "Europe", "--valid-days", "40", "--keys", "token"];
        assert_eq!(code(run(None, &init)), (4, "K672".into()));
        assert_eq!(code(run(Some("111111"), &init)), (5, "K673".into()));
        let (exit, made) = run(Some(PIN), &init);
        assert_eq!((exit, made.len()), (0, 2), "{made:?}");
        assert_eq!(run(Some(PIN), &init).0, 5, "it is here already");
        assert_eq!(
            run(None, &["anchors", "init", "--region", "7"]).0,
            0,
            "asked for nothing new it changes nothing"
        );
        let (exit, shown) = run(None, &["trust", "show"]);
        assert_eq!((exit, shown[0]["home"]["kind"].as_str()), (0, Some("sealed")));
        let region = &shown[1];
        assert_eq!(
            (region["name"].as_str(), region["home"]["token"].as_str()),
            (Some("Europe"), Some(LABEL))
        );
        assert_eq!(region["validity"]["kind"], "soon");
        assert_eq!(run(None, &["anchors", "show"]).1[1]["fingerprint"], region["fingerprint"]);
        let (exit, turns) = run(None, &["trust", "rotation"]);
        assert_eq!(
            (exit, turns[0]["what"].as_str(), turns[0]["validity"]["kind"].as_str()),
            (0, Some("region"), Some("soon"))
        );
        assert!(turns[0]["todo"].as_str().unwrap().contains("anchors rotate --region 7"));
        assert_eq!(code(run(None, &["trust", "check"])), (4, "K672".into()));
        assert_eq!(run(Some(PIN), &["trust", "check"]).0, 0);
        // Doctor asks the token only for what an order needs.
        run(None, &["po", "new", "PO-1", "--model", "KW-GATEWAY-429", "--quantity", "5", "--region", "7"]);
        let signing = |pin| {
            let (_, checks) = run(pin, &["doctor"]);
            let check =
                checks.into_iter().find(|c| c["name"] == "signing").expect("a line about signing keys");
            (check["status"].as_str().unwrap().to_owned(), check["detail"].as_str().unwrap().to_owned())
        };
        let (status, detail) = signing(None);
        assert!(status == "fail" && detail.contains("K672"), "{detail}");
        let (status, detail) = signing(Some(PIN));
        assert!(status == "warn" && detail.contains("ends in 3") && detail.contains(LABEL), "{detail}");
        assert_eq!(run(None, &["anchors", "rotate", "--region", "7"]).0, 2, "nobody confirms it");
        assert_eq!(run(Some(PIN), &["anchors", "rotate", "--region", "7", "--keys", "token", "--yes"]).0, 0);
        assert_eq!(run(None, &["anchors", "name", "--region", "7", "EU"]).0, 0);
        let (_, shown) = run(None, &["trust", "show"]);
        let told: Vec<_> = shown
            .iter()
            .filter(|r| r["role"] == "region")
            .map(|r| {
                (r["name"].as_str().unwrap(), r["epoch"].as_u64().unwrap(), r["newest"].as_bool().unwrap())
            })
            .collect();
        assert_eq!(told, [("EU", 2, true), ("EU", 1, false)]);
        let agents: Vec<_> = shown.iter().filter(|r| r["role"] == "agent").collect();
        let [agent] = &agents[..] else { panic!("one agent of the newest epoch: {shown:?}") };
        assert_eq!(agent["home"]["token"].as_str(), Some(LABEL));
        let (key, print) = (agent["public_key"].as_str().unwrap(), agent["fingerprint"].as_str().unwrap());
        assert_eq!(hex::encode(keywright_protocol::crypto::sha256(&[&hex::decode(key).unwrap()])), print);
        assert_eq!(run(None, &["trust", "units", "--region", "7", "--epoch", "3"]).0, 2);
        assert_eq!(run(None, &["trust", "units", "--region", "7"]), (0, vec![]));
        // The PIN is in none of the station's files, and station.toml does not take one.
        assert_eq!(contains(home.path(), PIN), None);
        let toml = format!("[pkcs11]\nmodule = {:?}\ntoken = {LABEL:?}\npin = \"{PIN}\"\n", module());
        std::fs::write(home.path().join("station.toml"), toml).unwrap();
        let (exit, refused) = run(None, &["trust", "show"]);
        let message = refused[0]["message"].as_str().unwrap();
        assert!(exit != 0 && message.contains("PIN does not belong") && !message.contains(PIN), "{message}");
    }
}
