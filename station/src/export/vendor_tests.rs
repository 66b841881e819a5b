//! The forms of others: every one is read back to the records, its sample is true, and what is not borne out is refused.

use super::tests::{NOW, Source, all_files, contains, go, request, row, secrets, signer, visible};
use super::*;

const PASSWORD: &str = "correct horse battery staple";

fn vendor() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|f| !f.is_canonical())
}

/// Two units that passed and one that did not, plain enough for a published sample.
fn source() -> Source {
    let mut source = Source::default();
    for (number, state) in [(1, UnitState::Passed), (2, UnitState::StageOne), (3, UnitState::Passed)] {
        let mut row = row(number, state);
        row.part_number = Some("PN-15 & \"more\", <ok>".into());
        row.firmware_version = Some("1.2.3".into());
        row.agent_key_id = row.has_passed().then(|| format!("a9e27000000000{number:02x}"));
        row.cloud_key_id = row.has_passed().then(|| format!("c10d0000000000{number:02x}"));
        source.secrets.push((row.mcu_uid.unwrap(), secrets(number)));
        source.rows.push(row);
    }
    source
}

/// With a MAC key and a salt that are always the same.
fn context(signer: &ExportSigner, encrypted: bool) -> Context<'_> {
    let mut next = 0u8;
    let pskc = encrypted.then(|| {
        PskcCipher::new(PASSWORD, &mut |bytes| {
            for byte in bytes {
                next = next.wrapping_add(7);
                *byte = next;
            }
        })
    });
    Context {
        signer: Some(signer),
        verifier: Some(signer.public()),
        pskc,
        password: Some(Zeroizing::new(PASSWORD.into())),
        delimiter: Delimiter::Comma,
    }
}

fn write(source: &Source, format: Format, context: &Context<'_>) -> Result<Vec<u8>, ExportError> {
    let plan = Plan { format, protected: true, path: "sample".into() };
    let rows = source.all();
    let passed: Vec<usize> = (0..source.rows.len()).filter(|at| source.rows[*at].has_passed()).collect();
    let (mut out, mut units) = (Vec::new(), Vec::new());
    write_checked(&rows, context, &plan, &passed, &mut out, &mut units, &mut || Ok(()))?;
    assert_eq!(units.len(), passed.len());
    for unit in units {
        assert_eq!(unit.agent > 0, format.gives_agent_key());
        assert_eq!(unit.cloud > 0, format.gives_cloud_key());
    }
    Ok(out)
}

fn read(source: &Source, format: Format, context: &Context<'_>, text: &[u8]) -> Result<u64, ExportError> {
    check::compare_all(format, &mut &text[..], context, source, Path::new("sample"))
}

/// After a change on purpose, `KEYWRIGHT_BLESS=1 cargo test` writes the samples anew.
#[test]
fn every_format_reads_back_to_the_records_and_its_sample_is_true() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/formats");
    let (source, signer) = (source(), signer());
    let mut samples: Vec<(String, Vec<u8>)> = vec![("aws.template.json".into(), AWS_TEMPLATE.into())];
    for format in vendor() {
        for encrypted in [true, false] {
            let context = context(&signer, encrypted);
            let text = write(&source, format, &context).unwrap();
            assert_eq!(text, write(&source, format, &context).unwrap(), "{format}: the same every time");
            assert_eq!(read(&source, format, &context, &text).unwrap(), 2, "{format}");
            if format == Format::Pskc && !encrypted {
                samples.push(("pskc-plain.sample.xml".into(), text));
            } else if encrypted {
                samples.push((format!("{format}.sample.{}", format.extension()), text));
            }
        }
    }
    for (name, bytes) in samples {
        let path = folder.join(&name);
        if std::env::var_os("KEYWRIGHT_BLESS").is_some() {
            std::fs::write(&path, &bytes).unwrap();
        }
        let published = std::fs::read(&path).unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(&published), String::from_utf8_lossy(&bytes), "{name}");
    }
}

#[test]
fn no_unit_gives_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = source();
    source.rows.retain(|row| !row.has_passed());
    for format in Format::ALL {
        let mut asked = request(folder.path(), &[format], vec![]);
        asked.protection = Protection::Plain { reason: "test".into() };
        match (format.is_canonical(), go(&source, &asked)) {
            // The list says which units there are, and that none of them passed.
            (true, Ok(report)) => assert_eq!(report.record.files[0].rows, 1),
            (false, Err(error)) => {
                assert_eq!(error.failure().code, FailureCode::NothingToExport, "{format}: {error}");
                assert!(error.to_string().contains("batch=B7"), "{error}");
            }
            (_, other) => panic!("{format}: {other:?}"),
        }
    }
    assert!(
        visible(folder.path())
            .iter()
            .all(|n| n.contains("-units-") || n.contains("-keys-") || n == PUBLIC_KEY)
    );
    source.rows.clear();
    let asked = request(&folder.path().join("new"), &[Format::Csv], vec![]);
    assert!(matches!(go(&source, &asked), Err(ExportError::NoUnits { .. })));
    assert!(!folder.path().join("new").exists());
}

/// What AWS takes, from its API reference: independent of what our schema says.
#[test]
fn aws_takes_the_names_and_the_number_of_attributes() {
    let (mut source, signer) = (source(), signer());
    source.rows[0].batch = "B 7/ä".into();
    let text = write(&source, Format::Aws, &context(&signer, false)).unwrap();
    let plain = |text: &str, more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
    for line in std::str::from_utf8(&text).unwrap().lines() {
        let line: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        let name = line["ThingName"].as_str().unwrap();
        assert!(plain(name, ":_-") && (1..=128).contains(&name.len()), "{name}");
        for value in line.values().map(|v| v.as_str().unwrap()) {
            assert!(plain(value, "_.,@/:#-") && value.len() <= 800, "{value}");
        }
        // The client id of the unit, as docs/formats says how to get from one to the other.
        name.replacen(':', ".", 1).parse::<Identity>().unwrap();
    }
    let template: serde_json::Value = serde_json::from_str(AWS_TEMPLATE).unwrap();
    let thing = template["Resources"]["thing"]["Properties"].as_object().unwrap();
    let attributes = thing["AttributePayload"].as_object().unwrap();
    assert!(attributes.len() <= 3 && !thing.contains_key("ThingTypeName"), "three without a thing type");
    assert!(attributes.keys().all(|name| plain(name, "_.,@/:#-") && name.len() <= 128));
}

/// What a reader that knows namespaces sees: RFC 6030's own elements, and PKCS #5's parameters in none.
#[test]
fn the_parameters_of_pkcs_5_are_in_no_namespace() {
    use quick_xml::name::ResolveResult;
    let (source, signer) = (source(), signer());
    let text = write(&source, Format::Pskc, &context(&signer, true)).unwrap();
    let mut reader = quick_xml::NsReader::from_reader(&text[..]);
    let (mut buffer, mut bare, mut ours, mut inside) = (Vec::new(), Vec::new(), 0, false);
    loop {
        let (namespace, event) = reader.read_resolved_event_into(&mut buffer).unwrap();
        let (start, empty) = match &event {
            quick_xml::events::Event::Start(start) => (start, false),
            quick_xml::events::Event::Empty(start) => (start, true),
            quick_xml::events::Event::End(end) => {
                inside &= end.local_name().as_ref() != b"PBKDF2-params";
                continue;
            }
            quick_xml::events::Event::Eof => break,
            _ => continue,
        };
        let name = String::from_utf8(start.local_name().as_ref().to_vec()).unwrap();
        match namespace {
            ResolveResult::Unbound => bare.push(name),
            ResolveResult::Bound(found) => {
                assert!(!inside, "{name} is claimed by {found:?}");
                inside |= name == "PBKDF2-params" && !empty;
                ours += usize::from(found.as_ref() == b"urn:ietf:params:xml:ns:keyprov:pskc");
            }
            ResolveResult::Unknown(prefix) => panic!("{prefix:?}"),
        }
    }
    assert_eq!(bare, ["Salt", "Specified", "IterationCount", "KeyLength", "PRF"]);
    assert!(ours > 40, "{ours}");
}

/// Logins that newer keys took the place of end where the form can say it; otherwise a list beside the file names them.
#[test]
fn superseded_logins_end() {
    let (mut source, signer) = (source(), signer());
    let unit = source.rows[2].mcu_uid.unwrap();
    let old = Identity { unit, generation: 1 };
    source.superseded = vec![old];
    let folder = tempfile::tempdir().unwrap();
    for format in vendor() {
        let mut asked = request(&folder.path().join(format.word()), &[format], vec![]);
        asked.protection = Protection::Plain { reason: "test".into() };
        let report = go(&source, &asked).unwrap();
        let file = &report.record.files[0];
        let path = report.folder.join(&file.name);
        let text = std::fs::read_to_string(&path).unwrap();
        let receipt = verify_receipt(&path, &receipt_path(&path), &signer.public()).unwrap();
        assert_eq!(receipt.superseded.as_ref().map_or(0, |s| s.identities), file.superseded);
        let context = context(&signer, false);
        assert_eq!(read(&source, format, &context, text.as_bytes()).unwrap(), 2, "{format}");
        match format.retires() {
            Retires::InFile => {
                assert_eq!((file.superseded, &file.superseded_list), (1, &None), "{format}");
                assert_eq!(text.matches(&format!("\"{old}\"")).count(), 1, "{format}: {text}");
                // What is live is never ended, nor what is unknown.
                for (other, why) in [("2", "not superseded"), ("9", "not superseded")] {
                    let wrong = text.replace(&format!("\"{old}\""), &format!("\"{unit}.{other}\""));
                    let error = read(&source, format, &context, wrong.as_bytes()).unwrap_err().to_string();
                    assert!(error.contains(why), "{format}: {error}");
                }
            }
            Retires::Beside => {
                let list = report.folder.join(file.superseded_list.as_ref().unwrap());
                let separator = if format == Format::Aws { ":" } else { "." };
                assert_eq!(
                    std::fs::read_to_string(&list).unwrap(),
                    format!("{unit}{separator}1\n"),
                    "{format}"
                );
                assert!(!text.contains(&format!("{unit}{separator}1\"")), "{format}");
                std::fs::write(&list, "another\n").unwrap();
                assert!(verify_receipt(&path, &receipt_path(&path), &signer.public()).is_err(), "{format}");
            }
            Retires::ByItself | Retires::Never => assert_eq!(file.superseded, 0, "{format}"),
        }
    }
}

/// Everything that can be said of a file that somebody brings.
#[test]
fn a_file_is_looked_at_as_a_whole() {
    let (source, folder) = (source(), tempfile::tempdir().unwrap());
    let mut asked = request(folder.path(), &[Format::Dynsec, Format::Csv], vec![]);
    asked.protection = Protection::Plain { reason: "test".into() };
    let report = go(&source, &asked).unwrap();
    let at = |name: &str| folder.path().join(name);
    let look =
        |file: &Path| inspect(&Inspect { file: file.to_owned(), ..Inspect::default() }, &source).unwrap();
    for file in &report.record.files {
        let found = look(&at(&file.name));
        assert!(found.fits(), "{found:?}");
        let Verdict::Fits(rows) = found.rows else { panic!("{found:?}") };
        assert_eq!((rows.rows, rows.with_records), (file.rows, file.format == "dynsec"));
    }
    let dynsec = at(&report.record.files[0].name);
    let text = std::fs::read_to_string(&dynsec).unwrap();
    std::fs::write(&dynsec, text.replace("KW-00003", "KW-00004")).unwrap();
    // The receipt does not fit, so the form is said by who asks.
    let asked = Inspect { file: dynsec.clone(), format: Some(Format::Dynsec), ..Inspect::default() };
    let found = inspect(&asked, &source).unwrap();
    assert!(!found.fits());
    assert!(matches!((&found.signature, &found.receipt), (Verdict::Refused(_), Verdict::Refused(_))));
    let Verdict::Refused(failure) = found.rows else { panic!("it was altered") };
    assert!(failure.sentence.contains("row 2") && failure.sentence.contains("textname"), "{failure}");
    // A file without anything beside it says nothing.
    let bare = at("bare.csv");
    std::fs::write(&bare, "x").unwrap();
    let found = look(&bare);
    assert!(!found.fits() && found.rows == Verdict::Absent && found.receipt == Verdict::Absent);
}

#[test]
fn twenty_three_enrollments_are_three_calls() {
    let mut source = Source::default();
    for number in 1..=23 {
        source.rows.push(row(number, UnitState::Passed));
        source.secrets.push((UnitId([number; 12]), secrets(number)));
    }
    let signer = signer();
    let context = context(&signer, false);
    let text = write(&source, Format::AzureDps, &context).unwrap();
    let calls: Vec<serde_json::Value> =
        std::str::from_utf8(&text).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let sizes: Vec<_> = calls.iter().map(|c| c["enrollments"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [10, 10, 3]);
    assert_eq!(read(&source, Format::AzureDps, &context, &text).unwrap(), 23);
    // Eleven in one call are refused by the service, and by us.
    let one_call =
        String::from_utf8(text).unwrap().replace("],\"mode\":\"create\"}\n{\"enrollments\":[", ",");
    let error = read(&source, Format::AzureDps, &context, one_call.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("1 to 10"), "{error}");
}

/// Every value of the second row is changed once; the whole file is refused, and the place is named.
#[test]
fn one_wrong_value_refuses_the_file_and_names_row_and_field() {
    let (mut source, signer) = (source(), signer());
    for format in vendor() {
        let context = context(&signer, true);
        let text = write(&source, format, &context).unwrap();
        let unit = source.rows[2].mcu_uid.unwrap();
        let right = source.rows[2].clone();
        // Other keys than the records have.
        let keys = std::mem::replace(&mut source.secrets[2].1, secrets(9));
        let refused = |source: &Source| match read(source, format, &context, &text) {
            Err(ExportError::Misfit { row, column, why, .. }) => (row, column, why),
            other => panic!("{format}: {other:?}"),
        };
        if format != Format::Jws {
            let (row, column, why) = refused(&source);
            assert_eq!(row, 2, "{format}: {why}");
            assert!(column.is_some(), "{format}: {why}");
            for secret in [&keys.agent_key, &keys.cloud_key] {
                assert!(!why.contains(&hex::encode(&**secret)), "{format} repeats a key");
            }
        }
        source.secrets[2].1 = keys;
        // A unit that is no longer good, or was never here.
        source.rows[2].state = Some(UnitState::Quarantined);
        assert!(refused(&source).2.contains("not passed"), "{format}");
        source.rows[2] = right;
        let gone = source.rows.pop().unwrap();
        assert!(refused(&source).2.contains(&unit.to_string()), "{format}");
        source.rows.push(gone);
        // Cut in the middle.
        let cut = &text[..text.len() * 2 / 3];
        assert!(
            read(&source, format, &context, cut).is_err() || matches!(format, Format::Emqx),
            "{format}: cut"
        );
        // The same unit twice, where rows are lines.
        if matches!(format, Format::Aws | Format::AzureHub | Format::Thingsboard | Format::Emqx) {
            let last = text.split_inclusive(|b| *b == b'\n').next_back().unwrap();
            let twice = [&text[..], last].concat();
            let error = read(&source, format, &context, &twice).unwrap_err().to_string();
            assert!(error.contains("row 3") && error.contains("twice"), "{format}: {error}");
        }
    }
}

#[test]
fn an_altered_key_container_or_manifest_is_noticed() {
    let (source, signer) = (source(), signer());
    let context = context(&signer, true);
    let pskc = String::from_utf8(write(&source, Format::Pskc, &context).unwrap()).unwrap();
    let place =
        |text: &str, context: &Context<'_>| match read(&source, Format::Pskc, context, text.as_bytes()) {
            Err(ExportError::Misfit { row, column, .. }) => (row, column.unwrap_or_default()),
            other => panic!("{other:?}"),
        };
    let at = pskc.rfind("<xenc:CipherValue>").unwrap() + 18;
    let flip = |at: usize| {
        let other = if pskc.as_bytes()[at] == b'A' { "B" } else { "A" };
        format!("{}{other}{}", &pskc[..at], &pskc[at + 1..])
    };
    assert_eq!(place(&flip(at + 2), &context), (2, "ValueMAC".into()));
    let mac = pskc.rfind("<pskc:ValueMAC>").unwrap() + 15;
    assert_eq!(place(&flip(mac + 2), &context), (2, "ValueMAC".into()));
    assert_eq!(place(&pskc.replace("KW-00003", "KW-00004"), &context), (2, "agent.SerialNo".into()));
    let wrong = Context {
        password: Some(Zeroizing::new("another password".into())),
        ..super::vendor_tests::context(&signer, true)
    };
    assert_eq!(place(&pskc, &wrong), (1, "EncryptionKey".into()));
    let none = Context { password: None, ..super::vendor_tests::context(&signer, true) };
    assert_eq!(place(&pskc, &none), (1, "EncryptionKey".into()));

    let jws = String::from_utf8(write(&source, Format::Jws, &context).unwrap()).unwrap();
    let at = jws.rfind("\"payload\":\"").unwrap() + 14;
    let altered = format!("{}{}{}", &jws[..at], if &jws[at..=at] == "A" { "B" } else { "A" }, &jws[at + 1..]);
    match read(&source, Format::Jws, &context, altered.as_bytes()) {
        Err(ExportError::Misfit { row: 2, column: Some(column), .. }) => assert_eq!(column, "signature"),
        other => panic!("{other:?}"),
    }
    // The header that is not signed says no other unit than the payload that is.
    let (first, last) = (source.rows[0].mcu_uid.unwrap(), source.rows[2].mcu_uid.unwrap());
    let other = jws.replacen(&first.to_string(), &last.to_string(), 1);
    match read(&source, Format::Jws, &context, other.as_bytes()) {
        Err(ExportError::Misfit { row: 1, column: Some(column), .. }) => {
            assert_eq!(column, "header.uniqueId")
        }
        other => panic!("{other:?}"),
    }
    let stranger = ExportSigner::from_seed(&[1; 32]);
    let other = super::vendor_tests::context(&stranger, false);
    assert!(matches!(
        read(&source, Format::Jws, &other, jws.as_bytes()),
        Err(ExportError::Misfit { row: 1, .. })
    ));
}

#[test]
fn a_preview_shows_the_names_and_no_secret() {
    let source = source();
    for format in Format::ALL {
        let shown = preview(&source, &Selection::batch("B7"), format, 5).unwrap();
        assert_eq!(shown.passed, 2);
        assert_eq!(shown.rows, if format.is_canonical() { 3 } else { 2 });
        let text = serde_json::to_string(&shown).unwrap();
        assert_eq!(text.contains(HIDDEN), format.holds_secrets(), "{format}: {text}");
        for (unit, keys) in &source.secrets {
            let keys = LiveKeys { secrets: keys.clone(), agent_generation: 1, cloud_generation: 2 };
            let row = ListRow::default();
            let passed = Passed { row: &row, unit: *unit, keys: &keys };
            let [primary, secondary] = passed.azure_keys().unwrap();
            let hidden = [
                hex::encode(&keys.secrets.agent_key),
                hex::encode(&keys.secrets.cloud_key),
                formats::base64(&keys.secrets.agent_key).to_string(),
                formats::base64(&keys.secrets.cloud_key).to_string(),
                passed.credential().unwrap().expose().to_owned(),
                primary.to_string(),
                secondary.to_string(),
            ];
            for secret in hidden {
                assert!(!text.contains(&secret), "{format} shows a secret");
            }
        }
        let one = preview(&source, &Selection::batch("B7"), format, 1).unwrap();
        assert_eq!((one.first.len(), one.rows), (1, shown.rows));
    }
}

#[test]
fn a_file_with_keys_needs_protection_or_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let source = source();
    for format in vendor() {
        let mut asked = request(folder.path(), &[format], vec![]);
        let bare = go(&source, &asked);
        if !format.holds_secrets() {
            let report = bare.unwrap();
            assert!(report.record.files.iter().all(|f| !f.protected));
            let text = std::fs::read(folder.path().join(&report.record.files[0].name)).unwrap();
            for (_, keys) in &source.secrets {
                let password = crate::cloud::Credential::of(
                    &keywright_protocol::CloudKey::new(&keys.cloud_key).unwrap(),
                );
                assert!(!contains(&text, password.expose().as_bytes()), "{format}");
            }
            continue;
        }
        assert!(matches!(bare, Err(ExportError::NeedsProtection { .. })), "{format}: {bare:?}");
        asked.protection = Protection::Plain { reason: " ".into() };
        assert!(matches!(go(&source, &asked), Err(ExportError::NeedsReason)), "{format}");
        asked.protection = Protection::Plain { reason: "the importer can't decrypt".into() };
        asked.handed_to = None;
        assert!(matches!(go(&source, &asked), Err(ExportError::NeedsReceiver)), "{format}: nobody is named");
        asked.handed_to = Some("Acme".into());
        asked.needs_second_person = true;
        asked.second_person = None;
        assert!(matches!(go(&source, &asked), Err(ExportError::NeedsSecondPerson)), "{format}");
        for same in ["Ada", " ada", "ADA "] {
            asked.second_person = Some(same.into());
            assert!(matches!(go(&source, &asked), Err(ExportError::SamePerson)), "{format}: {same}");
        }
        asked.second_person = Some("Bea".into());
        let report = go(&source, &asked).unwrap();
        let file = folder.path().join(&report.record.files[0].name);
        let receipt = verify_receipt(&file, &receipt_path(&file), &signer().public()).unwrap();
        assert_eq!((receipt.protection.as_str(), receipt.keys_of, receipt.rows), ("plain", 2, 2));
        assert_eq!(receipt.reason.as_deref(), Some("the importer can't decrypt"));
        assert_eq!(
            (receipt.second_person.as_deref(), receipt.handed_to.as_deref()),
            (Some("Bea"), Some("Acme"))
        );
        assert_eq!(
            (receipt.first_unit.as_deref(), receipt.last_unit.as_deref()),
            (Some("KW-00001"), Some("KW-00003"))
        );
        assert_eq!(receipt.export, report.record.files[0].number);
    }
    let mut asked = request(folder.path(), &[Format::Dynsec], vec![]);
    asked.protection = Protection::Password(Zeroizing::new(PASSWORD.into()));
    assert!(matches!(go(&source, &asked), Err(ExportError::PasswordForPskcOnly { .. })));
    asked.formats = vec![Format::Pskc];
    asked.protection = Protection::Password(Zeroizing::new("short".into()));
    assert!(matches!(go(&source, &asked), Err(ExportError::Unsaid(_))));
    asked.overwrite = true;
    asked.protection = Protection::Password(Zeroizing::new(PASSWORD.into()));
    assert_eq!(format!("{:?}", asked.protection), "Protection(password, [])");
    let report = go(&source, &asked).unwrap();
    let file = folder.path().join(&report.record.files[0].name);
    let password = || Some(Zeroizing::new(PASSWORD.into()));
    let check = |password| check_vendor_file(&file, Format::Pskc, &signer().public(), &[], password, &source);
    assert_eq!(check(password()).unwrap(), 2);
    assert!(matches!(check(None), Err(ExportError::Misfit { .. })));
}

#[test]
fn cancelling_a_vendors_file_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let source = source();
    let mut asked = request(folder.path(), &vendor().collect::<Vec<_>>(), vec![]);
    asked.protection = Protection::Plain { reason: "test".into() };
    let total = 2 * vendor().count() as u64;
    for stop_at in [1, 4, total] {
        let result = export(&source, &signer(), &asked, &mut |p| {
            assert_eq!(p.total, total);
            if p.done == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(result, Err(ExportError::Cancelled)), "{result:?}");
        assert_eq!(all_files(folder.path()), Vec::<PathBuf>::new());
    }
    // What can't be written is said before anything has a name; a unit without a key id has no place in a key container.
    let mut source = source;
    source.rows[0].agent_key_id = None;
    let error = go(&source, &asked).unwrap_err();
    assert!(matches!(error, ExportError::Unwritable { format: Format::Pskc, .. }), "{error}");
    assert_eq!(all_files(folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn many_rows_keep_their_order_on_many_threads() {
    let mut source = Source::default();
    for number in 0..3000u32 {
        let mut one = row(1, UnitState::Passed);
        let mut id = [7; 12];
        id[..4].copy_from_slice(&number.to_be_bytes());
        (one.mcu_uid, one.unit_serial) = (Some(UnitId(id)), Some(format!("KW-{number:05}")));
        source.rows.push(one);
        source.secrets.push((UnitId(id), secrets(1)));
    }
    source.secrets.sort_by_key(|(unit, _)| *unit);
    let folder = tempfile::tempdir().unwrap();
    let report = go(&source, &request(folder.path(), &[Format::Aws, Format::Jsonl], vec![])).unwrap();
    let of = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    for (file, field) in report.record.files.iter().zip(["SerialNumber", "unit_serial"]) {
        let serials: Vec<String> = of(&file.name)
            .lines()
            .map(|l| {
                serde_json::from_str::<serde_json::Value>(l).unwrap()[field].as_str().unwrap().to_owned()
            })
            .collect();
        assert!(serials.len() == 3000 && serials.is_sorted(), "{}", file.name);
    }
    assert!(visible(folder.path()).contains(&"export-B7-aws-20261121.jsonl.template.json".to_owned()));
}

#[test]
fn a_receipt_is_for_one_file_and_bears_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let report = go(&source(), &request(folder.path(), &[Format::Jws], vec![])).unwrap();
    let file = folder.path().join(&report.record.files[0].name);
    let (path, key) = (receipt_path(&file), signer().public());
    let receipt = verify_receipt(&file, &path, &key).unwrap();
    assert_eq!((receipt.at, receipt.operator.as_str(), receipt.keys_of), (Stamp(NOW), "Ada", 0));
    assert_eq!(receipt.selection, "batch=B7");
    let text = std::fs::read_to_string(&path).unwrap();
    let refused = |text: &str| {
        std::fs::write(&path, text).unwrap();
        verify_receipt(&file, &path, &key).unwrap_err().to_string()
    };
    assert!(refused(&text.replace("\"Ada\"", "\"Eve\"")).contains("altered"));
    assert!(refused(&text.replace("\"rows\": 2", "\"rows\": 3")).contains("altered"));
    assert!(refused(&text.replacen('{', "{\"extra\":1,", 1)).contains("no receipt"));
    assert!(refused("{}").contains("128"));
    std::fs::write(&path, &text).unwrap();
    assert!(verify_receipt(&file, &path, &ExportSigner::from_seed(&[1; 32]).public()).is_err());
    std::fs::write(&file, "[]").unwrap();
    assert!(verify_receipt(&file, &path, &key).unwrap_err().to_string().contains("digests differ"));
}
