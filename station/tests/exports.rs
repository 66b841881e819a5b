//! Exports of a real station, looked at by programs that we did not write: age, GnuPG, OpenSSL, xmllint, python-pskc, a JSON schema
//! validator, and a Mosquitto that lets the units in.
//!
//! Needs the Debian packages age, gnupg, libxml2-utils, pskc-utils, openssl, mosquitto and mosquitto-clients.
#![cfg(unix)]

mod support;

#[path = "support/mosquitto.rs"]
mod broker;

use broker::{Broker, LONG};
use keywright::agent::Agent;
use keywright::cloud::{Credential, Identity, try_login};
use keywright::export::{
    Delimiter, Destination, ExportReport, ExportRequest, ExportSigner, Format, PgpRecipient, Protection,
    RecordsSource, Selection, check_list, export, parse_public_pem, receipt_path, verify_receipt,
};
use keywright::failure::{Failure, FailureCode};
use keywright::model::{Outcome, UnitId};
use keywright::records::{ExportLogFilter, Records};
use keywright_protocol::{CloudKey, Suite};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::{Device, Station, unit_id};

/// A batch with units that passed and one that did not.
struct Made {
    station: Station,
    devices: Vec<Device>,
    out: tempfile::TempDir,
}

impl Made {
    fn new(passed: u32) -> Self {
        let station = Station::new(passed + 1, 2);
        let mut devices = Vec::new();
        for n in 1..=passed {
            let attempt = station.arrive(unit_id(n));
            let mut device = station.device(unit_id(n), Suite::Hardened, u64::from(n));
            station.complete(&mut device);
            let challenge = [0x11; 32];
            let proof =
                station.agent.check_proof(station.context(device.id), &challenge, &device.prove(&challenge));
            station.records.finish_attempt(attempt, Outcome::Pass, None, Some(&proof.unwrap())).unwrap();
            devices.push(device);
        }
        let failed = station.arrive(unit_id(passed + 1));
        let failure = Failure::new(FailureCode::FlashFailed, "");
        station.records.finish_attempt(failed, Outcome::Fail, Some(&failure), None).unwrap();
        Self { station, devices, out: tempfile::tempdir().unwrap() }
    }

    fn source(&self) -> RecordsSource {
        RecordsSource { records: self.station.records.clone(), vault: self.station.records.key_vault() }
    }

    fn export(&self, formats: &[Format], protection: Protection) -> ExportReport {
        let request = ExportRequest {
            selection: Selection::batch("B1"),
            formats: formats.to_vec(),
            delimiter: Delimiter::Comma,
            protection,
            handed_to: Some("Acme Cloud".into()),
            second_person: Some("Bea".into()),
            needs_second_person: true,
            replaces: None,
            station: "bench-1".into(),
            destination: Destination::Folder(self.out.path().to_owned()),
            overwrite: true,
            operator: "Ada".into(),
            now_ms: 1_795_250_400_123,
        };
        let signer = ExportSigner::from_seed(&[42; 32]);
        export(&self.source(), &signer, &request, &mut |_| ControlFlow::Continue(())).unwrap()
    }

    fn plain(&self, format: Format) -> PathBuf {
        let report = self.export(&[format], Protection::Plain { reason: "the test reads it".into() });
        self.out.path().join(&report.record.files.last().unwrap().name)
    }

    fn credential(&self, device: &Device) -> (Identity, Credential) {
        let view = device.view(device.preferred()).unwrap();
        let (generation, key) = view.cloud_key().unwrap();
        let key = CloudKey::new(key.expose()).unwrap();
        (Identity { unit: device.id, generation: generation.0 }, Credential::of(&key))
    }
}

fn tool(program: &str, package: &str) -> Command {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|d| d.join(program).is_file());
    assert!(found, "{program} is missing: install the package `{package}`");
    Command::new(program)
}

fn output(command: &mut Command) -> Vec<u8> {
    let out = command.stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// The schema of this name in docs/formats, and what it says of a value.
fn schema(name: &str) -> jsonschema::Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/formats").join(name);
    let schema = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    jsonschema::validator_for(&schema).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn valid(schema: &jsonschema::Validator, value: &serde_json::Value) {
    let errors: Vec<String> =
        schema.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:?} in {value}");
}

#[test]
fn mosquitto_takes_the_commands_and_lets_the_units_in() {
    let mut made = Made::new(3);
    let file = made.plain(Format::Dynsec);
    let text = std::fs::read_to_string(&file).unwrap();
    valid(&schema("dynsec.schema.json"), &serde_json::from_str(&text).unwrap());
    let broker = Broker::new();
    let endpoint = broker.endpoint();
    for device in &made.devices {
        let (identity, credential) = made.credential(device);
        assert!(!try_login(&endpoint, identity, &credential, LONG).unwrap(), "not yet");
    }
    broker.administer(&text);
    for device in &made.devices {
        let (identity, credential) = made.credential(device);
        assert!(try_login(&endpoint, identity, &credential, LONG).unwrap(), "{identity}");
        let wrong = Credential::from_password("0".repeat(64));
        assert!(!try_login(&endpoint, identity, &wrong, LONG).unwrap());
    }
    // The first unit gets a new cloud key. What the vendor has of it still works there, until the next list is imported.
    let (old, old_credential) = made.credential(&made.devices[0]);
    made.devices[0].goal.push(keywright_protocol::Purpose::CloudKeyUpdate);
    made.station.complete(&mut made.devices[0]);
    assert!(try_login(&endpoint, old, &old_credential, LONG).unwrap());
    let text = std::fs::read_to_string(made.plain(Format::Dynsec)).unwrap();
    valid(&schema("dynsec.schema.json"), &serde_json::from_str(&text).unwrap());
    assert_eq!(text.matches("deleteClient").count(), 1, "only what an earlier list made known");
    // What is there already is refused by itself and stays as it is: three roles and two clients.
    let answer = broker.tell(&text);
    assert_eq!(
        (answer.matches("error").count(), answer.matches("already exists").count()),
        (5, 5),
        "{answer}"
    );
    assert!(!try_login(&endpoint, old, &old_credential, LONG).unwrap(), "{old} is refused");
    for device in &made.devices {
        let (identity, credential) = made.credential(device);
        assert!(try_login(&endpoint, identity, &credential, LONG).unwrap(), "{identity}");
    }
    // The same as device identities of a hub, and as a list where an import can only add.
    let hub = std::fs::read_to_string(made.plain(Format::AzureHub)).unwrap();
    let lines: Vec<serde_json::Value> = hub.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    lines.iter().for_each(|line| valid(&schema("azure-hub.schema.json"), line));
    assert_eq!(lines[0], serde_json::json!({ "id": old.to_string(), "importMode": "delete" }));
    let report = made.export(&[Format::Emqx], Protection::None);
    let list = made.out.path().join(report.record.files[0].superseded_list.as_ref().unwrap());
    assert_eq!(std::fs::read_to_string(list).unwrap(), format!("{old}\n"));
}

#[test]
fn age_opens_what_is_sealed_for_its_recipient() {
    let made = Made::new(2);
    let identity = age::x25519::Identity::generate();
    let secret = identity.to_string();
    let key_file = made.out.path().join("vendor.key");
    std::fs::write(&key_file, age::secrecy::ExposeSecret::expose_secret(&secret)).unwrap();
    let recipient = || Protection::Age(vec![identity.to_public().to_string().parse().unwrap()]);
    let report = made.export(&[Format::Jsonl, Format::AzureHub], recipient());
    let pem = parse_public_pem(&report.public_key).unwrap();
    for file in report.record.files.iter().filter(|f| f.protected) {
        let path = made.out.path().join(&file.name);
        let clear = output(tool("age", "age").args(["-d", "-i"]).arg(&key_file).arg(&path));
        let receipt = verify_receipt(&path, &receipt_path(&path), &pem).unwrap();
        assert_eq!((receipt.keys_of, receipt.recipients.len()), (2, 1));
        let rows: Vec<serde_json::Value> =
            std::str::from_utf8(&clear).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let schema =
            schema(if file.format == "jsonl.age" { "row.schema.json" } else { "azure-hub.schema.json" });
        rows.iter().for_each(|row| valid(&schema, row));
        assert_eq!(rows.len() as u64, file.rows);
        if file.format == "jsonl.age" {
            let opened = check_list(&path, &pem, &[Box::new(identity.clone())], None).unwrap();
            assert_eq!(opened.rows.iter().filter(|r| r.secrets.is_some()).count(), 2);
        }
    }
}

#[test]
fn gnupg_opens_what_is_sealed_for_its_key() {
    let made = Made::new(2);
    let home = tempfile::Builder::new().prefix("gpg").tempdir_in("/tmp").unwrap();
    let gpg = |args: &[&str]| {
        let mut command = tool("gpg", "gnupg");
        command.arg("--homedir").arg(home.path()).args([
            "--batch",
            "--no-tty",
            "--pinentry-mode",
            "loopback",
        ]);
        output(command.args(["--passphrase", ""]).args(args))
    };
    gpg(&["--quick-generate-key", "Vendor <vendor@example.com>", "default", "default", "1d"]);
    let armored = home.path().join("vendor.asc");
    std::fs::write(&armored, gpg(&["--armor", "--export", "vendor@example.com"])).unwrap();
    let listed = String::from_utf8(gpg(&["--with-colons", "--list-keys"])).unwrap();
    let fingerprint =
        listed.lines().find_map(|l| l.strip_prefix("fpr:::::::::")).unwrap().trim_end_matches(':');
    let now = jiff::Timestamp::now().as_millisecond();
    let recipient = PgpRecipient::read(&armored, now).unwrap();
    assert_eq!(recipient.fingerprint(), fingerprint.to_lowercase());
    assert!(recipient.owner().contains("vendor@example.com"));
    let report = made.export(&[Format::Thingsboard, Format::Csv], Protection::OpenPgp(vec![recipient]));
    let clear = std::fs::read_to_string(made.plain(Format::Thingsboard)).unwrap();
    let files: Vec<_> = report.record.files.iter().filter(|f| f.protected).collect();
    assert_eq!(files.len(), 2);
    for file in files {
        assert!(file.name.ends_with(".csv.gpg") && report.record.recipients == [fingerprint.to_lowercase()]);
        let sealed = made.out.path().join(&file.name);
        let opened = String::from_utf8(gpg(&["--decrypt", sealed.to_str().unwrap()])).unwrap();
        if file.format == "thingsboard.gpg" {
            assert_eq!(opened, clear);
        } else {
            assert_eq!(opened.lines().count(), 4);
        }
    }
    // In a year and a bit, and with the secret half, it is refused.
    let later = PgpRecipient::read(&armored, now + 400 * 86_400_000).unwrap_err().to_string();
    assert!(later.contains("expired"), "{later}");
    let secret = home.path().join("secret.asc");
    std::fs::write(&secret, gpg(&["--armor", "--export-secret-keys", "vendor@example.com"])).unwrap();
    let refused = PgpRecipient::read(&secret, now).unwrap_err().to_string();
    assert!(refused.contains("secret half"), "{refused}");
    assert!(PgpRecipient::read(&report.public_key, now).unwrap_err().to_string().contains("no OpenPGP"));
}

#[test]
fn key_containers_follow_the_schema_and_open_elsewhere() {
    let made = Made::new(2);
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/pskc/pskc-schema.xsd");
    let validate = |file: &Path| {
        output(
            tool("xmllint", "libxml2-utils").args(["--nonet", "--noout", "--schema"]).arg(&vectors).arg(file),
        )
    };
    let password = "correct horse battery staple";
    let report = made.export(&[Format::Pskc], Protection::Password(zeroize::Zeroizing::new(password.into())));
    let encrypted = made.out.path().join(&report.record.files[0].name);
    validate(&encrypted);
    let expected: Vec<String> = made
        .devices
        .iter()
        .flat_map(|device| {
            let keys = made.station.records.key_vault().unit_keys(device.id).unwrap();
            [keys.agent.unwrap(), keys.cloud.unwrap()].map(|k| hex::encode(k.key.expose()))
        })
        .collect();
    let columns = ["-c", "id,secret", "-e", "hex"];
    let read = |file: &Path, extra: &[&str]| -> Vec<String> {
        let text = output(tool("pskc2csv", "pskc-utils").args(columns).args(extra).arg(file));
        let text = String::from_utf8(text).unwrap();
        text.lines().skip(1).map(|l| l.trim().rsplit(',').next().unwrap().to_owned()).collect()
    };
    assert_eq!(read(&encrypted, &["-p", password]), expected);
    let plain = made.plain(Format::Pskc);
    validate(&plain);
    assert_eq!(read(&plain, &[]), expected);
}

#[test]
fn manifests_are_json_web_signatures_for_openssl_too() {
    let made = Made::new(2);
    let records = &made.station.records;
    let attempts = records.list_attempts(made.station.batch.id).unwrap();
    let made_at = |unit: UnitId| {
        let at = attempts.iter().find(|a| a.unit == Some(unit)).and_then(|a| a.ended_at_ms);
        keywright::export::Stamp(at.unwrap()).to_string()
    };
    // The first unit is on the line again, to be tested once more.
    made.station.arrive(made.devices[0].id);
    let report = made.export(&[Format::Jws], Protection::None);
    let text = std::fs::read(made.out.path().join(&report.record.files[0].name)).unwrap();
    let manifest: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
    assert_eq!(manifest.len(), 2);
    let decode =
        |part: &str| base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, part).unwrap();
    let schema = schema("jws.schema.json");
    for (entry, device) in manifest.iter().zip(&made.devices) {
        let part = |name: &str| entry[name].as_str().unwrap();
        let (header, payload, signature) = (part("protected"), part("payload"), part("signature"));
        let signed = format!("{header}.{payload}");
        assert_eq!(entry["header"]["uniqueId"], device.id.to_string());
        let header: serde_json::Value = serde_json::from_slice(&decode(header)).unwrap();
        assert_eq!((&header["alg"], &header["kid"]), (&"EdDSA".into(), &report.record.signer.clone().into()));
        let payload: serde_json::Value = serde_json::from_slice(&decode(payload)).unwrap();
        valid(&schema, &payload);
        assert_eq!(payload["uniqueId"], device.id.to_string());
        // An attempt that runs moves the end of the latest one, not the day the unit was made.
        assert_eq!(payload["provisioningTimestamp"], made_at(device.id));
        let at = |name: &str| made.out.path().join(name);
        std::fs::write(at("signed"), signed).unwrap();
        std::fs::write(at("signature"), decode(signature)).unwrap();
        let mut verify = tool("openssl", "openssl");
        verify
            .args(["pkeyutl", "-verify", "-pubin", "-inkey"])
            .arg(&report.public_key)
            .args(["-rawin", "-in"]);
        output(verify.arg(at("signed")).arg("-sigfile").arg(at("signature")));
    }
}

#[test]
fn json_forms_follow_their_schemas() {
    let made = Made::new(12);
    let lines = |format| -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(made.plain(format)).unwrap();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    let (aws, dps) = (lines(Format::Aws), lines(Format::AzureDps));
    assert_eq!((aws.len(), dps.len()), (12, 2));
    let check =
        |name: &str, values: &[serde_json::Value]| values.iter().for_each(|v| valid(&schema(name), v));
    check("aws.schema.json", &aws);
    check("azure-dps.schema.json", &dps);
    let emqx: serde_json::Value =
        serde_json::from_slice(&std::fs::read(made.plain(Format::EmqxJson)).unwrap()).unwrap();
    check("emqx-json.schema.json", &[emqx]);
    // Every name in the file is a parameter of the template, and the other way round.
    let template: serde_json::Value = serde_json::from_str(keywright::export::AWS_TEMPLATE).unwrap();
    let names = |v: &serde_json::Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&aws[0]), names(&template["Parameters"]));
    // The schemas refuse something.
    let mut wrong = dps[1].clone();
    wrong["mode"] = "update".into();
    assert!(!schema("azure-dps.schema.json").is_valid(&wrong));
}

#[test]
fn the_log_says_who_knows_which_keys_until_they_are_new() {
    let mut made = Made::new(2);
    let recipient = |secret: &age::x25519::Identity| {
        Protection::Age(vec![secret.to_public().to_string().parse().unwrap()])
    };
    let (first, second) = (age::x25519::Identity::generate(), age::x25519::Identity::generate());
    let one = made.export(&[Format::AzureHub], recipient(&first));
    let two = made.export(&[Format::Jsonl], recipient(&second));
    let records = made.station.records.clone();
    let log = |filter| records.export_log(&filter).unwrap();
    let all = log(ExportLogFilter::default());
    assert_eq!(all.len(), 3);
    let hub = &all[0];
    assert_eq!((hub.format.as_str(), hub.protection.as_str(), hub.keys_of), ("azure-hub.age", "age", 2));
    assert_eq!(
        (hub.operator.as_str(), hub.second_person.as_str(), hub.handed_to.as_str()),
        ("Ada", "Bea", "Acme Cloud")
    );
    assert_eq!((all[1].protection.as_str(), all[1].keys_of, all[2].keys_of), ("none", 0, 2));
    let of = |recipients: &[String]| {
        log(ExportLogFilter { recipient: Some(recipients[0][..12].into()), ..ExportLogFilter::default() })
    };
    assert_eq!(of(&one.record.recipients).iter().map(|e| e.id).collect::<Vec<_>>(), [hub.id]);
    assert_eq!(of(&two.record.recipients).iter().map(|e| e.id).collect::<Vec<_>>(), [all[2].id]);
    let unit = |unit: UnitId| log(ExportLogFilter { unit: Some(unit), ..ExportLogFilter::default() }).len();
    // The unit that failed stands in the canonical lists only.
    assert_eq!((unit(unit_id(1)), unit(unit_id(3)), unit(unit_id(9))), (3, 2, 0));

    let exposed = |id| {
        let units = records.exposed_units(id).unwrap();
        units.iter().map(|u| (u.unit, u.agent_key, u.cloud_key)).collect::<Vec<_>>()
    };
    assert_eq!(exposed(hub.id), [(unit_id(1), false, true), (unit_id(2), false, true)]);
    assert_eq!(exposed(all[2].id), [(unit_id(1), true, true), (unit_id(2), true, true)]);
    assert_eq!(exposed(all[1].id), []);
    // The first unit gets a new cloud key: what was handed out of it is worth nothing now.
    let device = &mut made.devices[0];
    device.goal.push(keywright_protocol::Purpose::CloudKeyUpdate);
    made.station.complete(device);
    assert_eq!(exposed(hub.id), [(unit_id(2), false, true)]);
    assert_eq!(exposed(all[2].id), [(unit_id(1), true, false), (unit_id(2), true, true)]);

    records.revoke_export(hub.id, "Ada", "the vendor lost it").unwrap();
    let revoked = log(ExportLogFilter::default())[0].revoked.clone().unwrap();
    assert_eq!((revoked.by.as_str(), revoked.reason.as_str()), ("Ada", "the vendor lost it"));
    assert!(records.revoke_export(hub.id, "Ada", "again").is_err());
    assert!(records.revoke_export(all[2].id, "Ada", " ").is_err());
    assert!(records.revoke_export(77, "Ada", "none").unwrap_err().to_string().contains("export log"));
    // Nobody rewrites the log, not even by hand.
    let sql = made.station.sql();
    for change in [
        "UPDATE export SET handed_to = 'nobody' WHERE id = 2",
        "UPDATE export SET revoked_at_ms = NULL, revoked_by = NULL, revoke_reason = NULL WHERE id = 1",
        "DELETE FROM export WHERE id = 2",
        "UPDATE export_unit SET ck = 0",
        "DELETE FROM export_unit",
        "DELETE FROM export_recipient",
    ] {
        assert!(sql.execute(change, []).is_err(), "{change}");
    }
}

#[test]
fn a_query_chooses_units_and_not_attempts() {
    let made = Made::new(2);
    let rows = |conditions: &[&str]| {
        let mut selection = Selection::default();
        conditions.iter().for_each(|c| selection.and(c).unwrap());
        let source = made.source();
        keywright::export::preview(&source, &selection, Format::Csv, 9).map(|p| (p.rows, p.passed)).unwrap()
    };
    assert_eq!(rows(&[]), (3, 2));
    assert_eq!(rows(&["batch=B1"]), (3, 2));
    assert_eq!(rows(&["state=passed"]), (2, 2));
    assert_eq!(rows(&["batch=B1", "failed=yes"]), (1, 0));
    assert_eq!(rows(&["failed=no", "region=7"]), (2, 2));
    assert_eq!(rows(&["region=8"]), (0, 0));
    assert_eq!(rows(&["since=2100-01-01"]), (0, 0));
    assert_eq!(rows(&["until=2100-01-01", "since=2020-01-01"]), (3, 2));
}
