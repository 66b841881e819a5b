//! Handing out: `export`, `export log|revoke|exposed|verify`, `verify`, `import-check`.

use super::args;
use super::output::{CliError, Done, Exit, Out};
use super::people::{environment, first_line, prompt};
use super::{find_unit, interrupts};
use crate::export::{
    self, Destination, ExportError, ExportRequest, Format, ListKind, Protection, Recipient, SecondPerson,
    Selection, Stamp, receipt_path,
};
use crate::failure::{Failure, FailureCode};
use crate::people::Credential;
use crate::records::{ExportLogFilter, ExportRecord, ExposedUnit, Records, RecordsError};
use crate::secrets::{Passphrase, PassphraseSource};
use crate::station::{self, Station};
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::Path;

fn wrong(sentence: String) -> CliError {
    Failure::new(FailureCode::InvalidInput, sentence).into()
}

pub fn run(station: &Station, args: &args::Export, out: Out) -> Done {
    match &args.command {
        None => hand_out(station, &args.new, out),
        Some(args::ExportCommand::Log { batch, unit, recipient }) => {
            let filter = ExportLogFilter {
                batch: batch.as_deref().map(|b| station.records.batch_by_name(b)).transpose()?.map(|b| b.id),
                unit: unit.as_deref().map(|u| find_unit(station, u)).transpose()?.map(|u| u.id),
                recipient: recipient.as_deref().map(|r| r.trim().to_lowercase()),
            };
            let rows: Vec<_> = station.records.export_log(&filter)?.iter().map(log_row).collect();
            if rows.is_empty() {
                out.text("nothing was handed out");
            } else {
                out.table(&LOG_HEAD, &rows);
            }
            Ok(Exit::Pass)
        }
        Some(args::ExportCommand::Revoke { export, reason }) => {
            station.records.revoke_export(*export, &station.operator, reason)?;
            let exposed = station.records.exposed_units(*export)?;
            out.say(
                &json!({"event": "export-revoked", "number": export, "units": exposed.len()}),
                format_args!(
                    "export {export} is revoked; its recipient knows live keys of {} units{}",
                    exposed.len(),
                    if exposed.is_empty() {
                        ""
                    } else {
                        ": give them new keys (keywright unit rekey --batch B)"
                    }
                ),
            );
            show_exposed(&exposed, out);
            Ok(Exit::Pass)
        }
        Some(args::ExportCommand::Exposed { export }) => {
            one(station, *export)?;
            let exposed = station.records.exposed_units(*export)?;
            if exposed.is_empty() {
                out.text(format_args!("the recipient of export {export} knows no live key"));
            }
            show_exposed(&exposed, out);
            Ok(Exit::Pass)
        }
        Some(args::ExportCommand::Verify { file, receipt, key }) => {
            verify_receipt(file, receipt.as_deref(), key.as_deref(), out)
        }
    }
}

/// One export of the log.
fn one(station: &Station, number: i64) -> Result<ExportRecord, CliError> {
    let all = station.records.export_log(&ExportLogFilter::default())?;
    all.into_iter().find(|e| e.id == number).ok_or_else(|| {
        RecordsError::NotFound { what: "export", name: number.to_string(), list: "export log" }.into()
    })
}

const LOG_HEAD: [&str; 9] =
    ["EXPORT", "AT", "OPERATOR", "FORMAT", "UNITS", "KEYS OF", "PROTECTED BY", "TO", "STATE"];

fn log_row(export: &ExportRecord) -> (Vec<String>, serde_json::Value) {
    let revoked = export.revoked.as_ref();
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let object = json!({
        "event": "export-record", "number": export.id, "at": Stamp(export.at_ms), "operator": export.operator,
        "second_person": some(&export.second_person), "format": export.format, "file": export.file, "rows": export.rows,
        "selection": export.selection, "keys_of": export.keys_of, "sha256": export.sha256, "protection": export.protection,
        "reason": some(&export.reason), "recipients": export.recipients, "handed_to": some(&export.handed_to),
        "replaces": export.replaces,
        "revoked": revoked.map(|r| json!({"at": Stamp(r.at_ms), "by": r.by, "reason": r.reason})),
    });
    let mut to: Vec<String> = some(&export.handed_to).into_iter().collect();
    to.extend(export.recipients.iter().map(|r| r.chars().take(16).collect()));
    let operator = match some(&export.second_person) {
        Some(second) => format!("{}, {second}", export.operator),
        None => export.operator.clone(),
    };
    let state = revoked.map_or("in force".into(), |r| format!("revoked by {}: {}", r.by, r.reason));
    let cells = [
        export.id.to_string(),
        Stamp(export.at_ms).to_string(),
        operator,
        export.format.clone(),
        export.selection.clone(),
        export.keys_of.to_string(),
        match some(&export.reason) {
            Some(reason) => format!("{}: {reason}", export.protection),
            None => export.protection.clone(),
        },
        if to.is_empty() { "-".into() } else { to.join(" ") },
        state,
    ];
    (cells.into(), object)
}

fn show_exposed(exposed: &[ExposedUnit], out: Out) {
    let yes = |known: bool| if known { "known" } else { "-" }.to_owned();
    let rows: Vec<_> = exposed
        .iter()
        .map(|unit| {
            let object = json!({
                "event": "exposed-unit", "uid": unit.unit, "serial": unit.serial, "batch": unit.batch,
                "agent_key": unit.agent_key, "cloud_key": unit.cloud_key,
            });
            let cells = [
                unit.serial.clone(),
                unit.unit.to_string(),
                unit.batch.clone(),
                yes(unit.agent_key),
                yes(unit.cloud_key),
            ];
            (cells.into(), object)
        })
        .collect();
    if !rows.is_empty() {
        out.table(&["SERIAL", "UNIT", "BATCH", "AGENT KEY", "CLOUD KEY"], &rows);
    }
}

fn protection(args: &args::NewExport, now_ms: i64) -> Result<Protection, CliError> {
    if args.plain {
        return Ok(Protection::Plain { reason: args.reason.clone().unwrap_or_default() });
    }
    if let Some(fd) = args.password_fd {
        let password = Passphrase::read(&PassphraseSource::Fd(fd))?;
        return Ok(Protection::Password(password.into_text()));
    }
    if !args.openpgp.is_empty() {
        return Ok(Protection::OpenPgp(export::read_pgp_recipients(&args.openpgp, now_ms)?));
    }
    let mut recipients: Vec<Recipient> =
        args.recipient.iter().map(|r| r.parse()).collect::<Result<_, export::ExportError>>()?;
    for file in &args.recipients_file {
        recipients.extend(export::read_recipients(file)?);
    }
    Ok(if recipients.is_empty() { Protection::None } else { Protection::Age(recipients) })
}

/// Who is said to stand by, and what they show.
fn second(station: &Station, args: &args::NewExport) -> Result<SecondPerson, CliError> {
    let name = args.second.as_deref().map(str::trim).unwrap_or_default();
    if station.people.is_open() {
        return Ok(SecondPerson::Named(name.to_owned()));
    }
    if args.second_badge {
        let badge = match environment("KEYWRIGHT_SECOND_BADGE") {
            Some(badge) => badge,
            None => prompt("Scan the badge of the second person: ")?,
        };
        return Ok(SecondPerson::Shows(Credential::Badge(badge)));
    }
    if name.is_empty() {
        return Ok(SecondPerson::Nobody);
    }
    let pin = match (&args.second_pin_file, environment("KEYWRIGHT_SECOND_PIN")) {
        (Some(file), _) => first_line(file)?,
        (None, Some(pin)) => pin,
        (None, None) => prompt(&format!("PIN of {name}: "))?,
    };
    Ok(SecondPerson::Shows(Credential::Pin { name: name.to_owned(), pin }))
}

/// A refusal with the options that answer it.
fn with_options(error: ExportError) -> CliError {
    use ExportError as E;
    let mut failure = error.failure();
    let options = match error {
        E::Exists { .. } => "choose another --out, or say --overwrite",
        E::OneFileManyFormats { .. } | E::SameName { .. } => "--out",
        E::NeedsProtection { .. } => "--recipient, --openpgp, or --plain with --reason TEXT",
        E::AgainWithoutKeys(_) => {
            "--recipient, --openpgp, or --plain with --reason TEXT; --batch for a list without keys"
        }
        E::NeedsReason => "--reason TEXT",
        E::NeedsReceiver => "--to NAME",
        E::NeedsSecondPerson => "--second NAME, or --second-badge",
        E::Decrypt { .. } => "--identity FILE",
        _ => return failure.into(),
    };
    failure.sentence = format!("{} ({options})", failure.sentence);
    failure.into()
}

fn hand_out(station: &Station, args: &args::NewExport, out: Out) -> Done {
    let now_ms = station::now_ms();
    let mut selection = args.batch.as_ref().map_or_else(Selection::default, Selection::batch);
    for condition in &args.conditions {
        selection.and(condition).map_err(wrong)?;
    }
    let mut formats = args.format.clone();
    if let Some(number) = args.again {
        let before = one(station, number)?;
        selection = before.selection.parse().map_err(wrong)?;
        formats = vec![before.format.parse::<Format>().map_err(wrong)?];
    }
    if formats.is_empty() {
        formats.push(Format::Csv);
    }
    let source = station.export_source();
    if args.preview {
        for format in formats {
            show_preview(&export::preview(&source, &selection, format, 5)?, format, out);
        }
        return Ok(Exit::Pass);
    }
    let folder = station.home.join("exports");
    let destination = args.out.as_deref().map_or(Destination::Folder(folder), Destination::from_out);
    let protection = protection(args, now_ms)?;
    let without_keys = matches!(protection, Protection::None) && formats.iter().all(|f| f.is_canonical());
    if let Protection::OpenPgp(recipients) = &protection {
        for recipient in recipients {
            out.text(format_args!("sealed for {} ({})", recipient.owner(), recipient.fingerprint()));
        }
    }
    let second = second(station, args)?;
    let second_person =
        export::second_person(&station.people, &station.operator, &second, &selection.to_string())?;
    let request = ExportRequest {
        selection,
        formats,
        delimiter: args.delimiter,
        protection,
        handed_to: args.to.clone(),
        second_person,
        needs_second_person: station.config.second_person,
        replaces: args.again,
        station: station.config.name.clone(),
        destination,
        overwrite: args.overwrite,
        operator: station.operator.clone(),
        now_ms,
    };
    let signer = station.export_signer()?;
    let stop = interrupts();
    let bar = !out.json && std::io::stderr().is_terminal();
    let report = export::export(&source, &signer, &request, &mut |p| {
        if bar && (p.done == p.total || p.done % 256 == 0) {
            let _ = write!(std::io::stderr(), "\r{} of {} rows", p.done, p.total);
        }
        if stop.asked() > 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if bar {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    let report = report.map_err(with_options)?;
    let selection = report.record.selection.to_string();
    for file in &report.record.files {
        let path = report.folder.join(&file.name);
        let how = match (file.protected, report.record.protection) {
            (false, _) => "",
            (true, "plain") => ", KEYS IN CLEAR",
            (true, _) => ", encrypted",
        };
        out.say(
            &json!({
                "event": "export", "batch": args.batch, "selection": selection, "export": report.record.name,
                "number": file.number, "format": file.format, "file": path, "rows": file.rows, "sha256": file.sha256,
                "protected": file.protected, "superseded": file.superseded,
                "superseded_list": file.superseded_list.as_ref().map(|list| report.folder.join(list)), "signature": format!("{}.sig", path.display()), "receipt": receipt_path(&path),
            }),
            format_args!("{} (export {}, {} rows{how})", path.display(), file.number, file.rows),
        );
        match &file.superseded_list {
            Some(list) => out.text(format_args!(
                "{} logins of earlier lists count for nothing now; the importer can't end them, so do it by {}",
                file.superseded,
                report.folder.join(list).display()
            )),
            None if file.superseded > 0 => {
                out.text(format_args!("it ends {} logins of earlier lists", file.superseded));
            }
            None => {}
        }
    }
    if without_keys {
        out.text("no recipient was given, so no list with keys was written");
    }
    out.say(
        &json!({
            "event": "summary", "export": report.record.name, "batch": args.batch, "selection": selection,
            "passed": report.passed, "not_passed": report.not_passed, "without_unit": report.without_unit,
            "public_key": report.public_key, "protection": report.record.protection,
            "recipients": report.record.recipients, "files": report.record.files.len(),
        }),
        format_args!(
            "{} passed, {} not passed, {} attempts without a unit; public key {}",
            report.passed,
            report.not_passed,
            report.without_unit,
            report.public_key.display()
        ),
    );
    Ok(Exit::Pass)
}

fn show_preview(preview: &export::Preview, format: Format, out: Out) {
    let object = json!({
        "event": "export-preview", "format": format.word(), "rows": preview.rows, "passed": preview.passed,
        "first": preview.first,
    });
    let mut text = format!("{format}: {} rows", preview.rows);
    for row in &preview.first {
        text += &format!("\n\n{}", row.serial.as_deref().unwrap_or("(no unit)"));
        for field in row.fields.iter().filter(|f| !f.value.is_empty()) {
            text += &format!("\n  {:<40} {}", field.name, field.value);
        }
    }
    out.say(&object, text);
}

pub fn verify_receipt(file: &Path, receipt: Option<&Path>, key: Option<&Path>, out: Out) -> Done {
    let beside = file.parent().unwrap_or(Path::new("")).join("export.pub.pem");
    let key = export::parse_public_pem(key.unwrap_or(&beside))?;
    let path = receipt.map_or_else(|| receipt_path(file), Path::to_owned);
    let found = export::verify_receipt(file, &path, &key)?;
    let mut object = serde_json::to_value(&found).unwrap_or_default();
    object["event"] = json!("receipt");
    object["valid"] = json!(true);
    out.say(
        &object,
        format_args!(
            "{}: export {} of {}, {} rows, {}, by {}{} at {}; file and receipt fit",
            file.display(),
            found.export,
            found.station,
            found.rows,
            found.protection,
            found.operator,
            found.second_person.as_ref().map_or(String::new(), |second| format!(" and {second}")),
            found.at,
        ),
    );
    Ok(Exit::Pass)
}

/// A vendor's file against the records of the station that made it.
pub fn vendor_check(station: &Station, args: &args::ImportCheck, out: Out) -> Done {
    let Some(format) = args.format.filter(|f| !f.is_canonical()) else { return import_check(args, out) };
    let key = export::parse_public_pem(&args.key)?;
    let mut identities = Vec::new();
    for file in &args.identity {
        identities.extend(export::read_identities(file)?);
    }
    let beside = args.signature.clone().unwrap_or_else(|| {
        let mut name = args.file.clone().into_os_string();
        name.push(".sig");
        name.into()
    });
    let whole = args.signature.is_some() || beside.exists();
    if whole {
        export::verify_file(&args.file, &beside, &key)?;
    }
    let password = args
        .password_fd
        .map(|fd| Passphrase::read(&PassphraseSource::Fd(fd)))
        .transpose()?
        .map(|p| p.into_text());
    let rows =
        export::check_vendor_file(&args.file, format, &key, &identities, password, &station.export_source())
            .map_err(with_options)?;
    out.say(
        &json!({
            "event": "import-check", "file": args.file, "list": format.word(), "rows": rows, "whole_file_signed": whole,
        }),
        format_args!(
            "{}: {rows} rows, every value is what the records say{}",
            args.file.display(),
            if whole { " and the file is whole" } else { "; no .sig beside it, so missing rows can't be noticed" }
        ),
    );
    Ok(Exit::Pass)
}

pub fn verify(args: &args::Verify, out: Out) -> Done {
    let key = export::parse_public_pem(&args.key)?;
    let mut beside = args.file.clone().into_os_string();
    beside.push(".sig");
    let signature = args.signature.clone().unwrap_or_else(|| beside.into());
    export::verify_file(&args.file, &signature, &key)?;
    out.say(
        &json!({"event": "verify", "file": args.file, "signature": signature, "valid": true}),
        format_args!("{}: the signature fits", args.file.display()),
    );
    Ok(Exit::Pass)
}

pub fn import_check(args: &args::ImportCheck, out: Out) -> Done {
    let key = export::parse_public_pem(&args.key)?;
    let mut identities = Vec::new();
    for file in &args.identity {
        identities.extend(export::read_identities(file)?);
    }
    let checked =
        export::check_list(&args.file, &key, &identities, args.signature.as_deref()).map_err(with_options)?;
    let passed = checked.rows.iter().filter(|r| r.row.has_passed()).count();
    let with_keys = checked.rows.iter().filter(|r| r.secrets.is_some()).count();
    out.say(
        &json!({
            "event": "import-check", "file": args.file, "list": checked.kind, "rows": checked.rows.len(), "passed": passed,
            "with_keys": with_keys, "whole_file_signed": checked.whole_file_signed,
        }),
        format_args!(
            "{}: {} list, {} rows, {passed} passed{}; every row is signed{}",
            args.file.display(),
            if checked.kind == ListKind::Keys { "keys" } else { "units" },
            checked.rows.len(),
            if checked.kind == ListKind::Keys { format!(", {with_keys} with keys") } else { String::new() },
            if checked.whole_file_signed {
                " and the file is whole"
            } else {
                "; no .sig beside it, so missing rows can't be noticed"
            }
        ),
    );
    Ok(Exit::Pass)
}
