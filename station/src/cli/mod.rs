//! The command line: what scripts and manufacturing execution systems call.
//!
//! Code map: [`args`] has the words, [`output`] what is said and the exit codes, [`line`] runs units, [`doctor`] is the
//! preflight, `people` the gate that every state-changing command goes through; the short commands are here. `docs/cli.md` is the promise to scripts.
//!
//! Invariants:
//! - Standard output holds results only; with `--json` it is one object per line and nothing else.
//! - No command prints, logs or takes a secret as an argument (arguments show in the system's process list).

pub mod args;
mod backup;
pub mod doctor;
mod export;
mod init;
mod label;
pub mod line;
pub mod logging;
mod matrix;
mod orders;
pub mod output;
mod people;
mod qa;
mod shift;
mod trust;
mod units;

use crate::export::{ExportError, Stamp};
use crate::failure::{Failure, FailureCode};
use crate::line::Update;
use crate::model::{Batch, BatchState, ProductOrder, Unit};
use crate::orders::{Draft, Field};
use crate::records::{Records, UnitBook, Why};
use crate::secrets::Passphrase;
use crate::station::{self, Station};
use args::{Cli, Command, Global};
use clap::Parser;
use output::{CliError, Done, Exit, Out};
use serde_json::json;
#[cfg(feature = "gui")]
use std::io::IsTerminal as _;
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Runs the program; the exit code is 0 all pass, 2 usage, 3 some units failed, 4 station fault, 5 refused.
pub fn main() -> ExitCode {
    // It counts from its first answer on.
    let _ = station::uptime();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let out = Out { json: cli.global.json };
    let exit = match run(&cli, out) {
        Ok(exit) => exit,
        Err(error) => {
            // To the log file; a person reads it once, below.
            tracing::info!(code = %error.failure.code, exit = error.exit as u8, "{}", error.failure.sentence);
            out.error(&error)
        }
    };
    ExitCode::from(exit as u8)
}

/// Help and version are answers; everything else that clap says is a usage error, in the form that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    let is_answer = !error.use_stderr();
    let json = std::env::args_os().any(|a| a == "--json");
    if json && !is_answer {
        let message = error.to_string();
        let sentence = message.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let failure = Failure {
            code: FailureCode::InvalidInput,
            sentence,
            remedy: "Run the command with --help".into(),
        };
        Out { json }.error(&CliError { failure, exit: Exit::Usage });
    } else {
        let _ = error.print();
    }
    ExitCode::from(if is_answer { Exit::Pass } else { Exit::Usage } as u8)
}

fn run(cli: &Cli, out: Out) -> Done {
    let global = &cli.global;
    match &cli.command {
        // These need no station: a recipient of lists, or a keeper of backups, runs them anywhere.
        Some(Command::Verify(args)) => return self::export::verify(args, out),
        Some(Command::Matrix) => return Ok(matrix::run(out)),
        Some(Command::ImportCheck(args)) if args.format.is_none() => {
            return self::export::import_check(args, out);
        }
        Some(Command::Export(args::Export {
            command: Some(args::ExportCommand::Verify { file, receipt, key }),
            ..
        })) => {
            return self::export::verify_receipt(file, receipt.as_deref(), key.as_deref(), out);
        }
        Some(Command::Backup(args::Backup { check: Some(file), .. })) => return backup::check(file, out),
        _ => {}
    }
    let options = options(global)?;
    // Doctor looks without touching: not even the log folder is made in a home that is not there.
    if !matches!(cli.command, Some(Command::Doctor)) {
        options.prepare_home()?;
        let logs = options.home.join("logs");
        logging::start(&logs, global.verbose);
        crate::crash::install(&logs);
    }
    if global.demo {
        let mut err = std::io::stderr().lock();
        let _ = writeln!(
            err,
            "keywright: DEMO MODE. Everything is sealed under the PUBLIC passphrase \"{}\": whoever has this folder \
             can read every key in it. Never use --demo for units that leave the house.",
            crate::secrets::DEMO_PASSPHRASE
        );
    }
    match &cli.command {
        #[cfg(feature = "gui")]
        None => window(&options, global, &args::Window::default()),
        #[cfg(not(feature = "gui"))]
        None => no_window(),
        #[cfg(feature = "gui")]
        Some(Command::Window(args)) => window(&options, global, args),
        Some(Command::Line(args::Line::Fixtures)) => line::fixtures(&options, out),
        Some(Command::Anchors(args::Anchors::Show)) => {
            Ok(show_anchors(&station::show_anchors(&options)?, out))
        }
        Some(Command::Restore(args)) => {
            people::before_restore(&options, global, &args.file)?;
            backup::restore(&options, args, out)
        }
        Some(Command::Audit(args::Audit::Verify)) => people::verify(&options, out),
        Some(Command::People(args::People::Recover { name, new_pin_file })) => {
            people::recover(&options, name, new_pin_file.as_deref(), out)
        }
        Some(Command::Passphrase(command)) => passphrase(&options, command, out),
        Some(Command::Doctor) => doctor::run(&options, out),
        Some(Command::Init(args)) => init::run(&options, global, args, out),
        Some(Command::DemoRecipient) => demo_recipient(&options, out),
        Some(Command::Verify(_)) => Ok(Exit::Pass),
        Some(command) => people::through_gate(&options, global, command, out),
    }
}

/// What the commands behind the gate do; `people` says who may.
fn carry_out(station: &Station, command: &Command, out: Out) -> Done {
    match command {
        Command::Line(args::Line::Run(args)) => line::run(station, args, out),
        Command::Line(args::Line::Stats(args)) => shift::stats(station, args, out),
        Command::Shift(command) => shift::run(station, command, out),
        Command::Batch(command) => batch(station, command, out),
        Command::Po(command) => po(station, command, out),
        Command::Unit(args::Unit::Show { unit, traveler: true, only, form, save }) => {
            units::traveler(station, unit, only, *form, save.as_deref(), out)
        }
        Command::Unit(args::Unit::Show { unit, .. }) => unit_show(station, unit, out),
        Command::Unit(args::Unit::Find(args)) => units::find(station, args, out),
        Command::Unit(args::Unit::Retest { unit, reason, note, fixture }) => {
            let why = Why { reason: reason.clone(), note: note.clone() };
            units::retest(station, unit, &why, fixture.as_deref(), out)
        }
        Command::Unit(args::Unit::Compare { unit, fixture }) => {
            units::compare(station, unit, fixture.as_deref(), out)
        }
        Command::Unit(args::Unit::Rma(command)) => units::rma(station, command, out),
        Command::Unit(args::Unit::Rekey { key, below, by_wake, campaign }) => {
            let update = Update {
                agent_key: *key != args::WhichKey::Cloud,
                cloud_key: *key != args::WhichKey::Agent,
                cloud: None,
                below: *below,
                by_wake: *by_wake,
            };
            line::update(station, campaign, update, out)
        }
        Command::Unit(args::Unit::Move { cloud, campaign }) => {
            let url = station.config.cloud_named(cloud)?.url.clone();
            let update = Update { cloud_key: true, cloud: Some(url), ..Update::default() };
            line::update(station, campaign, update, out)
        }
        Command::Unit(args::Unit::Reprovision(args)) => qa::reprovision(station, args, out),
        Command::Unit(args::Unit::Quarantine(args)) => qa::quarantine(station, args, out),
        Command::Unit(args::Unit::Release(args)) => qa::release(station, args, out),
        Command::Unit(args::Unit::Scrap(args)) => qa::scrap(station, args, out),
        Command::Alarms(args) => qa::alarms(station, args, out),
        Command::Export(args) => self::export::run(station, args, out),
        Command::ImportCheck(args) => self::export::vendor_check(station, args, out),
        Command::Anchors(command) => trust::anchors(station, command, out),
        Command::Trust(command) => trust::run(station, command, out),
        Command::Label(command) => label::run(station, command, out),
        Command::People(command) => people::people(station, command, out),
        Command::Audit(command) => people::audit(station, command, out),
        Command::Backup(args) => backup::make(station, args, out),
        // The rest needs no station, and was done before.
        _ => Ok(Exit::Pass),
    }
}

fn options(global: &Global) -> Result<station::Options, CliError> {
    let home = match &global.home {
        Some(home) => home.clone(),
        None => station::default_home().ok_or_else(|| {
            Failure::new(
                FailureCode::InvalidInput,
                "this system names no folder for a user's data; give --home DIR",
            )
        })?,
    };
    let operator = global.operator.clone().unwrap_or_else(station::system_user);
    if operator.trim().is_empty() || operator.chars().any(char::is_control) {
        return Err(Failure::new(
            FailureCode::InvalidInput,
            "the operator's name is empty or has control characters",
        )
        .into());
    }
    Ok(station::Options {
        home,
        config: global.config.clone(),
        passphrase_fd: global.passphrase_fd,
        token_pin_fd: global.token_pin_fd,
        demo: global.demo,
        operator: operator.trim().to_owned(),
    })
}

#[cfg(feature = "gui")]
fn window(options: &station::Options, global: &Global, args: &args::Window) -> Done {
    use crate::gui;
    // Before the station is opened: without a display there is nothing to open it for.
    let shown = |error: gui::GuiError| Failure {
        code: FailureCode::InvalidInput,
        sentence: error.to_string(),
        remedy: "Without a window keywright line run does the same work; keywright --help lists the commands"
            .into(),
    };
    if !gui::display_named(|name| std::env::var_os(name)) {
        return Err(CliError { failure: shown(gui::GuiError::NoDisplay), exit: Exit::Usage });
    }
    let config = options.load_config()?;
    // A descriptor gives the passphrase once: it is read here and nowhere else.
    let mut station = match options.has_records() {
        true => match options.passphrase_at_hand()? {
            Some(passphrase) => Some(Station::open_with(options, &passphrase)?),
            None if std::io::stdin().is_terminal() => Some(Station::open(options)?),
            None => None,
        },
        // The window asks: what was never set up is set up there, and what is locked is opened there.
        false => None,
    };
    if let Some(station) = station.as_mut().filter(|_| global.person.is_some()) {
        // A window that is opened for somebody opens with them; any other opens locked.
        people::log_in(station, global)?;
    }
    let host = crate::host::Host::start(options.clone(), station)?;
    let usual = gui::Options::default();
    let window = gui::Options {
        title: format!("Keywright: {}{}", config.name, if options.demo { " (demo)" } else { "" }),
        theme: match args.theme.as_deref() {
            Some("light") => gui::Theme::Light,
            Some("dark") => gui::Theme::Dark,
            Some("contrast") => gui::Theme::Contrast,
            Some(_) => gui::Theme::System,
            None => config.theme,
        },
        zoom: args.zoom.map_or(config.text_size as f32 / 100.0, |z| z.clamp(0.5, 3.0)),
        size: args.size.unwrap_or(usual.size),
        fullscreen: args.fullscreen,
        screenshot: args.screenshot.clone().map(|path| gui::Screenshot { path, then_close: args.then_close }),
        pictures: options.home.join("pictures"),
        tab: if args.units { gui::Tab::Units } else { gui::Tab::Line },
        language: config.language.language(),
        formats: config.formats,
        file: Some(crate::settings::StationFile::new(options.config_path())),
        settings: false,
    };
    gui::run_hosted(Box::new(host), window)
        .map_err(|error| CliError { failure: shown(error), exit: Exit::Station })?;
    Ok(Exit::Pass)
}

#[cfg(not(feature = "gui"))]
fn no_window() -> Done {
    Err(Failure {
        code: FailureCode::InvalidInput,
        sentence: "This build of Keywright has no window".into(),
        remedy: "Name a command (keywright --help lists them), or install the build with the window".into(),
    }
    .into())
}

/// A batch as scripts see it.
fn batch_object(
    station: &Station,
    batch: &Batch,
    orders: &[ProductOrder],
) -> Result<serde_json::Value, CliError> {
    let counts = station.records.batch_counts(batch.id)?;
    let order = orders.iter().find(|o| o.id == batch.po).map(|o| o.name.clone());
    Ok(json!({
        "event": "batch", "name": batch.name, "po": order, "state": batch.state.as_str(),
        "planned": counts.planned, "passed": counts.passed, "failed": counts.failed, "scrapped": counts.scrapped,
        "in_progress": counts.in_progress, "open": counts.open(), "replaced": counts.replaced(), "first_pass": counts.first_pass,
        "serial_pattern": batch.terms.serial_pattern, "gray_release": batch.terms.gate(station.config.gray_release),
        "sample_due": batch.sample_due(station.config.gray_release), "closed_reason": batch.terms.closed_reason,
    }))
}

fn cell(object: &serde_json::Value, key: &str) -> String {
    match &object[key] {
        serde_json::Value::Null => "-".into(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

const BATCH_HEAD: [&str; 7] = ["BATCH", "ORDER", "STATE", "PLANNED", "PASSED", "FAILED", "OPEN"];

fn batch_row(object: serde_json::Value) -> (Vec<String>, serde_json::Value) {
    let keys = ["name", "po", "state", "planned", "passed", "failed", "open"];
    (keys.iter().map(|k| cell(&object, k)).collect(), object)
}

fn batch(station: &Station, command: &args::Batch, out: Out) -> Done {
    let records = &station.records;
    let orders = records.list_product_orders()?;
    let show = |batch: &Batch| batch_object(station, batch, &orders).map(batch_row);
    let set = |name: &str, state: BatchState, reason: &str| -> Done {
        let batch = records.batch_by_name(name)?;
        records.set_batch_state(batch.id, state, &station.operator, reason)?;
        let row = show(&records.batch_by_name(name)?)?;
        // What it came to: closing ends the product key's right to enrol for what is open.
        let counts = records.batch_counts(batch.id)?;
        let numbers = match state {
            BatchState::Closed => format!(
                ": {} of {}{} units passed, {} failed, {} scrapped, {} can't be enrolled any more; batch open --reason takes it back",
                counts.passed,
                counts.planned,
                if counts.replaced() > 0 {
                    format!(" + {} replaced", counts.replaced())
                } else {
                    String::new()
                },
                counts.failed,
                counts.scrapped,
                counts.open()
            ),
            BatchState::Paused | BatchState::Open => String::new(),
        };
        out.say(&row.1, format_args!("batch {name} is {}{numbers}", state.as_str()));
        Ok(Exit::Pass)
    };
    let made = |draft: &Draft, order: &ProductOrder, clone_of: Option<&str>| -> Done {
        let batch = orders::batch(station, draft, order, clone_of)?;
        let order = orders.iter().find(|o| o.id == batch.po).map_or("-", |o| o.name.as_str());
        let text = format!("batch {} is open: {} units under {order}", batch.name, batch.quantity);
        out.say(&show(&batch)?.1, text);
        Ok(Exit::Pass)
    };
    match command {
        args::Batch::New { name, po, quantity, serial_pattern, gray_release } => {
            let draft = Draft::default()
                .with(Field::Batch, name)
                .with(Field::BatchQuantity, quantity)
                .with(Field::SerialPattern, serial_pattern)
                .with(Field::GrayRelease, gray_release);
            made(&draft, order_by_name(&orders, po)?, None)
        }
        args::Batch::Clone { from, name, quantity } => {
            let old = records.batch_by_name(from)?;
            let mut draft = Draft::like_batch(&old).with(Field::Batch, name);
            if let Some(quantity) = quantity {
                draft = draft.with(Field::BatchQuantity, quantity);
            }
            made(&draft, &records.product_order(old.po)?, Some(from))
        }
        args::Batch::List => {
            let rows = records.list_batches()?.iter().map(show).collect::<Result<Vec<_>, _>>()?;
            out.table(&BATCH_HEAD, &rows);
            Ok(Exit::Pass)
        }
        args::Batch::Show { name } => {
            let batch = records.batch_by_name(name)?;
            out.table(&BATCH_HEAD, &[show(&batch)?]);
            out.text("");
            let units: Vec<_> = records
                .list_units(batch.id)?
                .iter()
                .map(|u| {
                    let object = unit_object(u, name);
                    let keys = ["serial", "uid", "state", "generation", "attempts"];
                    (keys.iter().map(|k| cell(&object, k)).collect(), object)
                })
                .collect();
            out.table(&["SERIAL", "UNIT", "STATE", "GENERATION", "ATTEMPTS"], &units);
            Ok(Exit::Pass)
        }
        args::Batch::Close { name, reason } => set(name, BatchState::Closed, reason),
        args::Batch::Pause { name, reason } => set(name, BatchState::Paused, reason),
        args::Batch::Open { name, reason } => set(name, BatchState::Open, reason),
        args::Batch::Approve { name, note, yes } => orders::approve(station, name, note, *yes, out),
        args::Batch::Timeline { name } => {
            let batch = records.batch_by_name(name)?;
            orders::timeline(station, batch.po, Some(batch.id), out)
        }
    }
}

fn order_by_name<'a>(orders: &'a [ProductOrder], name: &str) -> Result<&'a ProductOrder, CliError> {
    orders.iter().find(|o| o.name == name).ok_or_else(|| {
        crate::records::RecordsError::NotFound { what: "product order", name: name.into(), list: "po list" }
            .into()
    })
}

fn order_row(order: &ProductOrder) -> (Vec<String>, serde_json::Value) {
    let object = json!({
        "event": "po", "name": order.name, "model": order.model, "hw_revision": order.hw_revision,
        "part_number": order.part_number, "quantity": order.quantity, "region": order.region, "suite": order.suite,
        "image_sha256": order.image_sha256, "cloud_url": order.cloud_url, "lock": order.lock, "per_hour": order.per_hour,
        "key_invalid_at": order.key_invalid_at_ms.map(Stamp), "label": order.label,
    });
    let keys = ["name", "model", "quantity", "region", "suite", "part_number", "lock", "cloud_url"];
    (keys.iter().map(|k| cell(&object, k)).collect(), object)
}

fn po(station: &Station, command: &args::Po, out: Out) -> Done {
    let records = &station.records;
    match command {
        args::Po::New(new) => orders::new(station, new, out),
        args::Po::Clone(args) => orders::clone(station, args, out),
        args::Po::List => {
            let rows: Vec<_> = records.list_product_orders()?.iter().map(order_row).collect();
            out.table(&["ORDER", "MODEL", "QUANTITY", "REGION", "SUITE", "PART", "LOCK", "CLOUD"], &rows);
            Ok(Exit::Pass)
        }
        args::Po::Show { name } => {
            let orders = records.list_product_orders()?;
            let order = order_by_name(&orders, name)?;
            out.table(
                &["ORDER", "MODEL", "QUANTITY", "REGION", "SUITE", "PART", "LOCK", "CLOUD"],
                &[order_row(order)],
            );
            out.text("");
            let batches = records
                .list_batches()?
                .iter()
                .filter(|b| b.po == order.id)
                .map(|b| batch_object(station, b, &orders).map(batch_row))
                .collect::<Result<Vec<_>, _>>()?;
            out.table(&BATCH_HEAD, &batches);
            Ok(Exit::Pass)
        }
        args::Po::Expect { name, per_hour } => {
            let order = records.product_order_by_name(name)?;
            records.expect_rate(order.id, *per_hour)?;
            let row = order_row(&records.product_order(order.id)?);
            out.say(&row.1, format_args!("product order {name}: {per_hour} enrolments an hour are expected"));
            Ok(Exit::Pass)
        }
        args::Po::Timeline { name } => {
            orders::timeline(station, records.product_order_by_name(name)?.id, None, out)
        }
        args::Po::Import { file, dry_run } => orders::import(station, file, *dry_run, out),
        args::Po::KeyRecipient => {
            let recipient = station.key_recipient()?;
            out.say(&json!({"event": "recipient", "recipient": recipient}), &recipient);
            Ok(Exit::Pass)
        }
        args::Po::Invalidate(args) => qa::invalidate(station, args, out),
    }
}

fn unit_object(unit: &Unit, batch: &str) -> serde_json::Value {
    json!({
        "event": "unit", "uid": unit.id, "serial": unit.serial, "batch": batch, "state": unit.state,
        "generation": unit.generation, "attempts": unit.attempts, "interrupted": unit.interrupted,
    })
}

/// The unit that a person or a scanner names: by hardware id or by serial.
fn find_unit(station: &Station, name: &str) -> Result<Unit, CliError> {
    let found = crate::desk::find(&*station.records, name)?;
    found.ok_or_else(|| {
        Failure {
            code: FailureCode::InvalidInput,
            sentence: format!("No unit has the hardware id or serial {:?}", name.trim()),
            remedy: "Run keywright batch show BATCH; it lists the batch's units".into(),
        }
        .into()
    })
}

fn unit_show(station: &Station, name: &str, out: Out) -> Done {
    let records = &station.records;
    let batches = records.list_batches()?;
    let unit = find_unit(station, name)?;
    let batch = batches.iter().find(|b| b.id == unit.batch).map_or("-", |b| b.name.as_str());
    let object = unit_object(&unit, batch);
    out.say(
        &object,
        format_args!(
            "unit {} ({}), batch {batch}: {}, generation {}, {} attempts{}\n",
            unit.serial,
            unit.id,
            unit.state.as_str(),
            unit.generation,
            unit.attempts,
            if unit.interrupted { ", interrupted: it goes on at its next start" } else { "" }
        ),
    );
    let mut attempts = records.unit_record(unit.id)?.map(|r| r.attempts).unwrap_or_default();
    attempts.reverse();
    let lock = attempts.iter().rev().find_map(|a| a.proof.as_ref().map(|p| p.lock));
    let attempts: Vec<_> = attempts
        .into_iter()
        .map(|a| {
            let object = json!({
                "event": "attempt", "attempt": a.id.0, "fixture": a.fixture, "operator": a.operator, "station": a.station,
                "started_at": Stamp(a.started_at_ms), "ended_at": a.ended_at_ms.map(Stamp),
                "outcome": a.outcome, "failure": a.failure, "proof": a.proof, "for": a.work,
            });
            let code = a.failure.as_ref().map_or("-".into(), |f| f.code.to_string());
            let keys = ["attempt", "started_at", "fixture", "operator", "outcome"];
            (keys.iter().map(|k| cell(&object, k)).chain([code]).collect(), object)
        })
        .collect();
    out.table(&["ATTEMPT", "STARTED", "FIXTURE", "OPERATOR", "OUTCOME", "CODE"], &attempts);
    if let Some(lock) = lock {
        out.text(format_args!("\nlock: {lock}"));
    }
    let orders: Vec<_> = records.reprovisions(unit.id)?.iter().map(qa::order_row).collect();
    if !orders.is_empty() {
        out.text("");
        out.table(&qa::ORDER_HEAD, &orders);
    }
    let rmas: Vec<_> = records.unit_record(unit.id)?.map(|r| r.rmas).unwrap_or_default();
    if !rmas.is_empty() {
        out.text("");
        out.table(&units::RMA_HEAD, &rmas.iter().map(|rma| units::rma_row(&unit, rma)).collect::<Vec<_>>());
    }
    out.text("");
    let history: Vec<_> = records
        .unit_events(unit.id)?
        .into_iter()
        .map(|e| {
            let object = json!({
                "event": "unit-event", "seq": e.seq, "at": Stamp(e.at_ms), "kind": e.kind,
                "attempt": e.attempt.map(|a| a.0), "detail": e.detail,
            });
            (["seq", "at", "kind", "detail"].iter().map(|k| cell(&object, k)).collect(), object)
        })
        .collect();
    out.table(&["SEQ", "AT", "WHAT", "DETAIL"], &history);
    Ok(Exit::Pass)
}

/// One object for the root, one per region.
fn show_anchors(shown: &crate::anchors::Shown, out: Out) -> Exit {
    let mut root = serde_json::to_value(shown).unwrap_or_default();
    root["event"] = json!("anchor");
    root["role"] = json!("root");
    if let Some(root) = root.as_object_mut() {
        root.remove("regions");
    }
    out.say(
        &root,
        format_args!(
            "root        epoch {}  fingerprint {}\n            next root {}",
            shown.root_epoch, shown.root_fingerprint, shown.next_root_commitment
        ),
    );
    for region in &shown.regions {
        let mut object = serde_json::to_value(region).unwrap_or_default();
        object["event"] = json!("anchor");
        object["role"] = json!("region");
        let until =
            region.not_after.map_or("without end".into(), |s| format!("until {}", Stamp(s as i64 * 1000)));
        out.say(
            &object,
            format_args!(
                "region {:<4} epoch {}  fingerprint {}  since {}, {until}\n            agent {}",
                region.region,
                region.epoch,
                region.fingerprint,
                Stamp(region.not_before as i64 * 1000),
                region.agent_public_key
            ),
        );
    }
    Exit::Pass
}

#[cfg(feature = "keyring")]
fn passphrase(options: &station::Options, command: &args::Passphrase, out: Out) -> Done {
    let entry = options.keyring_entry();
    match command {
        args::Passphrase::Store { token_pin: true } => return trust::store_pin(options, out),
        args::Passphrase::Forget { token_pin: true } => {
            Passphrase::forget_in_keyring(&crate::hsm::PinSource::entry(&entry))?;
            out.say(&json!({"event": "token-pin", "stored": false}), "the token's PIN is out of the keyring");
        }
        args::Passphrase::Store { token_pin: false } => {
            let passphrase = match options.passphrase_fd {
                Some(fd) => Passphrase::read(&crate::secrets::PassphraseSource::Fd(fd))?,
                None => Passphrase::read(&crate::secrets::PassphraseSource::Prompt {
                    twice: !options.has_records(),
                })?,
            };
            // Stored is only what opens this station: a typing error must show now, not at the next shift.
            options.check_passphrase(&passphrase)?;
            passphrase.store_in_keyring(&entry)?;
            out.say(&json!({"event": "passphrase", "stored": true}), "the passphrase is in the keyring");
        }
        args::Passphrase::Forget { token_pin: false } => {
            Passphrase::forget_in_keyring(&entry)?;
            out.say(&json!({"event": "passphrase", "stored": false}), "the passphrase is out of the keyring");
        }
    }
    Ok(Exit::Pass)
}

#[cfg(not(feature = "keyring"))]
fn passphrase(_: &station::Options, _: &args::Passphrase, _: Out) -> Done {
    // Naming the type keeps the import honest in every feature set.
    let _: Option<Passphrase> = None;
    Err(Failure {
        code: FailureCode::InvalidInput,
        sentence: "This build of Keywright has no keyring support".into(),
        remedy: "Use the prompt or --passphrase-fd N".into(),
    }
    .into())
}

/// Makes (once) and prints the recipient that the demo exports to.
fn demo_recipient(options: &station::Options, out: Out) -> Done {
    if !options.demo {
        return Err(Failure {
            code: FailureCode::InvalidInput,
            sentence: "The demo's recipient exists in demo mode only".into(),
            remedy: "Make a real one with age-keygen and keep its secret half away from this PC".into(),
        }
        .into());
    }
    let folder = options.home.join("exports");
    let path = folder.join("demo-identity.txt");
    let io = |e: std::io::Error| CliError::from(ExportError::Io { path: path.clone(), error: e });
    std::fs::create_dir_all(&folder).map_err(io)?;
    let identity: age::x25519::Identity = match std::fs::read_to_string(&path) {
        Ok(text) => text
            .lines()
            .find(|l| l.starts_with("AGE-SECRET-KEY-"))
            .and_then(|l| l.trim().parse().ok())
            .ok_or_else(|| io(std::io::Error::other("it holds no age identity; remove it")))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let identity = age::x25519::Identity::generate();
            let secret = identity.to_string();
            let text = zeroize::Zeroizing::new(format!(
                "# DEMO ONLY: opens the demo's key lists\n# public key: {}\n{}\n",
                identity.to_public(),
                age::secrecy::ExposeSecret::expose_secret(&secret)
            ));
            crate::secrets::write_atomically(&path, text.as_bytes())?;
            identity
        }
        Err(e) => return Err(io(e)),
    };
    let recipient = identity.to_public().to_string();
    out.say(&json!({"event": "recipient", "recipient": recipient, "identity": path}), &recipient);
    Ok(Exit::Pass)
}

/// How often Ctrl-C (or a request to end) was seen.
#[derive(Clone, Copy, Debug)]
pub struct Interrupts;

static INTERRUPTS: AtomicU32 = AtomicU32::new(0);
static LISTENING: AtomicBool = AtomicBool::new(false);

impl Interrupts {
    /// How often until now.
    pub fn asked(self) -> u32 {
        INTERRUPTS.load(Ordering::Relaxed)
    }
}

/// Takes over Ctrl-C: the first lets work come to its next safe point, the second ends the program at once.
pub fn interrupts() -> Interrupts {
    if !LISTENING.swap(true, Ordering::SeqCst) {
        let taken = ctrlc::set_handler(|| {
            if INTERRUPTS.fetch_add(1, Ordering::Relaxed) >= 1 {
                // The records are durable at every instant, so leaving at once loses no unit.
                std::process::exit(Exit::UnitsFailed as i32);
            }
        });
        if let Err(error) = taken {
            tracing::warn!(%error, "Ctrl-C can't be caught; it ends the program at once");
        }
    }
    Interrupts
}
