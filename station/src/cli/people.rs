//! The gate in front of the commands, and `people …` and `audit …`.
//!
//! Invariant: which right a command needs and what the audit log calls it stand in [`need`] and nowhere else.

use super::args::{self, Command, ExportCommand, Global};
use super::output::{CliError, Done, Exit, Out};
use crate::desk::Act;
use crate::export::Stamp;
use crate::failure::{Failure, FailureCode};
use crate::model::BatchState;
use crate::people::{Credential, NewPerson, Pin, Right, Role};
use crate::records::{AuditFilter, Person, Records, SqliteRecords};
use crate::secrets::{Passphrase, SecretsError};
use crate::station::{self, Station, secrets_failure};
use crate::trust::clerk::home_word;
use serde_json::{Value, json};
use std::path::Path;
use zeroize::Zeroizing;

/// What a command needs of whoever gives it.
enum Need {
    /// It only looks at what everybody may see.
    Nobody,
    /// It only looks, but not everybody may.
    Look(Right),
    /// It looks after its right and its row in the audit log itself.
    Person,
    /// It changes something: the right, the action, what it is done to, facts.
    Act(Right, &'static str, String, Value),
}

fn need(command: &Command, records: &SqliteRecords) -> Need {
    use args::{Anchors, Audit, Batch, Label, Line, Po, Shift, Unit};
    let act =
        |right, action, subject: &str, detail| Need::Act(right, action, subject.trim().to_owned(), detail);
    let campaign = |c: &args::Campaign| json!({ "count": c.count, "fixtures": c.fixture });
    let qa = |act: Act, decision: &args::Decision| {
        Need::Act(
            act.right(),
            act.audit(),
            decision.unit.trim().to_owned(),
            json!({ "reason": decision.reason }),
        )
    };
    // What the window asks of the same step. Of a batch that is not there the command itself says so, to who may give it.
    let state = |name: &str, state, reason: &str| {
        let was = records.batch_by_name(name).map_or(BatchState::Open, |batch| batch.state);
        let (right, action) = crate::office::state_right(was, state);
        act(right, action, name, json!({ "reason": reason }))
    };
    match command {
        Command::Line(Line::Run(args)) => act(
            Right::RunLine,
            "line-run",
            &args.batch,
            json!({ "count": args.count, "fixtures": args.fixture }),
        ),
        Command::Shift(Shift::List { .. }) => Need::Look(Right::SeeShifts),
        Command::Shift(Shift::Start | Shift::End { .. }) => Need::Person,
        Command::Batch(Batch::New { name, po, quantity, .. }) => {
            act(Right::ManageBatches, "batch-created", name, json!({ "po": po, "quantity": quantity }))
        }
        Command::Batch(Batch::Clone { from, name, quantity }) => {
            let detail = json!({ "clone_of": from, "quantity": quantity });
            act(Right::ManageBatches, "batch-created", name, detail)
        }
        Command::Po(Po::Import { dry_run: true, .. } | Po::KeyRecipient) => Need::Look(Right::ManageOrders),
        Command::Po(Po::Import { file, .. }) => {
            act(Right::ManageOrders, "orders-imported", &file.display().to_string(), json!({}))
        }
        Command::Label(Label::Test) => act(Right::PrintLabels, "label-test", "", json!({})),
        Command::Label(Label::Print { unit }) => act(Right::PrintLabels, "label-printed", unit, json!({})),
        Command::Label(Label::Check { unit, code: Some(_) }) => {
            act(Right::PrintLabels, "label-read-back", unit, json!({}))
        }
        Command::Batch(Batch::Close { name, reason }) => state(name, BatchState::Closed, reason),
        Command::Batch(Batch::Pause { name, reason }) => state(name, BatchState::Paused, reason),
        Command::Batch(Batch::Open { name, reason }) => state(name, BatchState::Open, reason),
        Command::Batch(Batch::Approve { name, note, .. }) => {
            act(Right::ApproveGate, "sample-approved", name, json!({ "note": note }))
        }
        Command::Po(Po::New(new)) => act(
            Right::ManageOrders,
            "po-created",
            &new.name,
            json!({ "model": new.model, "quantity": new.quantity, "region": new.region, "suite": new.suite, "lock": !new.no_lock }),
        ),
        Command::Po(Po::Clone(new)) => {
            let detail = json!({ "clone_of": new.from, "quantity": new.quantity, "region": new.region, "cloud": new.cloud });
            act(Right::ManageOrders, "po-created", &new.name, detail)
        }
        Command::Po(Po::Expect { name, per_hour }) => {
            act(Right::ManageOrders, "po-expected", name, json!({ "per_hour": per_hour }))
        }
        Command::Po(Po::Invalidate(args)) => act(
            Right::InvalidateKey,
            "product-key-invalidated",
            &args.name,
            json!({ "since": args.since.to_string(), "reason": args.reason }),
        ),
        Command::Unit(Unit::Show { unit, save: Some(file), .. }) => {
            act(Right::SeeUnits, "traveler-saved", unit, json!({ "file": file.display().to_string() }))
        }
        Command::Unit(Unit::Show { .. } | Unit::Find(_)) => Need::Look(Right::SeeUnits),
        Command::Unit(Unit::Retest { unit, reason, fixture, .. }) => {
            let how = Act::Retest;
            act(how.right(), how.audit(), unit, json!({ "reason": reason, "fixture": fixture }))
        }
        Command::Unit(Unit::Compare { unit, fixture }) => {
            act(Act::Compare.right(), Act::Compare.audit(), unit, json!({ "fixture": fixture }))
        }
        Command::Unit(Unit::Rma(args::UnitRma::Open { unit, number, reason, .. })) => {
            let how = Act::OpenRma;
            act(how.right(), how.audit(), unit, json!({ "number": number, "reason": reason }))
        }
        Command::Unit(Unit::Rma(args::UnitRma::Close { unit, finding, .. })) => {
            act(Act::CloseRma.right(), Act::CloseRma.audit(), unit, json!({ "reason": finding }))
        }
        Command::Unit(Unit::Rekey { campaign: c, .. }) => {
            act(Right::Reprovision, "units-rekeyed", &c.batch, campaign(c))
        }
        Command::Unit(Unit::Move { cloud, campaign: c }) => {
            let mut detail = campaign(c);
            detail["cloud"] = json!(cloud);
            act(Right::Reprovision, "units-moved", &c.batch, detail)
        }
        Command::Unit(Unit::Reprovision(args)) => {
            let how = match args.move_region {
                _ if args.withdraw => Act::Withdraw,
                Some(region) => Act::MoveRegion(region),
                None if args.new_start => Act::NewStart,
                None => Act::NewKeys,
            };
            let (kind, region) = how.kind().unzip();
            let detail = json!({ "kind": kind, "region": region, "reason": args.reason });
            act(how.right(), how.audit(), &args.unit, detail)
        }
        Command::Unit(Unit::Quarantine(args)) => qa(Act::Quarantine, args),
        Command::Unit(Unit::Release(args)) => qa(Act::Release, args),
        Command::Unit(Unit::Scrap(args)) => qa(Act::Scrap, args),
        Command::Alarms(args) => match args.seen {
            Some(alarm) => act(Right::SeeUnits, "alarm-seen", &alarm.to_string(), json!({})),
            None => Need::Look(Right::SeeUnits),
        },
        Command::Export(args) => match &args.command {
            Some(ExportCommand::Revoke { export, reason }) => {
                act(Right::Export, "export-revoked", &export.to_string(), json!({ "reason": reason }))
            }
            Some(_) => Need::Look(Right::Export),
            None if args.new.preview => Need::Look(Right::Export),
            None => {
                let new = &args.new;
                let subject = match (&new.batch, new.again) {
                    (Some(batch), _) => batch.clone(),
                    (None, Some(number)) => format!("export {number} again"),
                    (None, None) => new.conditions.join(" "),
                };
                let recipients = new.recipient.len() + new.recipients_file.len() + new.openpgp.len();
                let detail = json!({
                    "recipients": recipients, "to": new.to, "second_person": new.second, "plain": new.plain, "reason": new.reason,
                });
                act(Right::Export, "list-exported", &subject, detail)
            }
        },
        Command::ImportCheck(_) => Need::Look(Right::Export),
        Command::Anchors(Anchors::Init(new)) => {
            let detail =
                json!({ "name": new.name, "days": new.valid_days, "keys": home_word(new.keys.into()) });
            act(Right::Anchors, "anchors-made", &format!("region {}", new.region), detail)
        }
        Command::Anchors(Anchors::Rotate { region, valid_days, keys, .. }) => {
            let detail = json!({ "days": valid_days, "keys": home_word((*keys).into()) });
            act(Right::Anchors, "region-rotated", &format!("region {region}"), detail)
        }
        Command::Anchors(Anchors::Name { region, name }) => {
            act(Right::Anchors, "region-named", &format!("region {region}"), json!({ "name": name }))
        }
        Command::Trust(_) => Need::Look(Right::SeeTrust),
        Command::Backup(args) if args.list => Need::Look(Right::Backup),
        Command::Backup(_) => act(Right::Backup, "backup-made", "", json!({})),
        Command::People(args::People::List) => Need::Look(Right::ManagePeople),
        // It does not come here: whoever knows the passphrase may, and nobody can log in.
        Command::People(args::People::Recover { .. }) => Need::Nobody,
        // Each of its steps is through the gate by itself.
        Command::Init(_) => Need::Person,
        Command::People(_) | Command::Audit(Audit::List { .. } | Audit::Export { .. }) => Need::Person,
        _ => Need::Nobody,
    }
}

/// Opens the station, lets the person in, asks for the right, writes the row and carries the command out.
pub fn through_gate(options: &station::Options, global: &Global, command: &Command, out: Out) -> Done {
    let mut station = Station::open(options)?;
    let need = need(command, &station.records);
    if !matches!(need, Need::Nobody) {
        log_in(&mut station, global)?;
    }
    match need {
        Need::Nobody | Need::Person => super::carry_out(&station, command, out),
        Need::Look(right) => {
            station.people.demand(right, "looked", "")?;
            super::carry_out(&station, command, out)
        }
        Need::Act(right, action, subject, detail) => {
            station.people.act(right, (action, &subject), detail, || super::carry_out(&station, command, out))
        }
    }
}

/// In front of a restore, which puts another database in the place of this one: who may, may. A database that does not open keeps
/// nobody from replacing it.
pub fn before_restore(options: &station::Options, global: &Global, file: &Path) -> Result<(), CliError> {
    if !SqliteRecords::lists_people(&options.records_path()) {
        return Ok(());
    }
    let mut station = match Station::open(options) {
        Ok(station) => station,
        Err(failure) if matches!(failure.code, FailureCode::RecordsFailed | FailureCode::HistoryBroken) => {
            tracing::warn!(%failure, "the station that is replaced does not open");
            return Ok(());
        }
        Err(failure) => return Err(failure.into()),
    };
    log_in(&mut station, global)?;
    let done: Result<(), CliError> =
        station.people.act(Right::Backup, ("restored", &file.display().to_string()), json!({}), || Ok(()));
    done
}

/// Lets in whoever the command line names. An open station lets everybody in.
pub fn log_in(station: &mut Station, global: &Global) -> Result<(), CliError> {
    if station.people.is_open() {
        return Ok(());
    }
    let credential = match &global.person {
        Some(name) => {
            let pin = match (&global.pin_file, environment("KEYWRIGHT_PIN")) {
                (Some(file), _) => first_line(file)?,
                (None, Some(pin)) => pin,
                (None, None) => prompt(&format!("PIN of {}: ", name.trim()))?,
            };
            Credential::Pin { name: name.trim().to_owned(), pin }
        }
        None => match environment("KEYWRIGHT_BADGE") {
            Some(badge) => Credential::Badge(badge),
            None => Credential::Badge(prompt("Scan your badge (or give --person NAME): ")?),
        },
    };
    station.people.login(&credential)?;
    station.operator = station.people.operator();
    Ok(())
}

pub(super) fn environment(name: &str) -> Option<Pin> {
    let text = Zeroizing::new(std::env::var(name).ok()?);
    (!text.trim().is_empty()).then(|| Pin::new(text))
}

/// The first line of a file, never printed.
pub(super) fn first_line(path: &Path) -> Result<Pin, CliError> {
    let refused = |detail: String| Failure {
        code: FailureCode::InvalidInput,
        sentence: format!("{} can't be read: {detail}", path.display()),
        remedy: "Name a file whose first line is the PIN or the badge".into(),
    };
    let file = std::fs::File::open(path).map_err(|e| refused(e.to_string()))?;
    let line = Passphrase::from_reader(file).map_err(|e| refused(e.to_string()))?;
    Ok(Pin::new(line.into_text()))
}

pub(super) fn prompt(text: &str) -> Result<Pin, CliError> {
    let typed = rpassword::prompt_password(text).map_err(|e| {
        tracing::debug!(error = %e, "no terminal to ask at");
        Failure::new(FailureCode::LoginNeeded, "this station has people, and nobody is here to be asked")
    })?;
    Ok(Pin::new(typed))
}

pub(super) fn new_pin(name: &str, role: Option<Role>, file: Option<&Path>) -> Result<Pin, CliError> {
    if let Some(file) = file {
        return first_line(file);
    }
    if let Some(pin) = environment("KEYWRIGHT_NEW_PIN") {
        return Ok(pin);
    }
    let pin = prompt(&format!("New PIN of {name}: "))?;
    if let Some(role) = role {
        pin.check_new(name, role)?;
    }
    if prompt("The same again: ")? != pin {
        let failure = secrets_failure(SecretsError::Mismatch);
        return Err(Failure { sentence: "The two PINs differ".into(), ..failure }.into());
    }
    Ok(pin)
}

const PERSON_HEAD: [&str; 6] = ["PERSON", "ROLE", "BADGE", "STATE", "WRONG TRIES", "SINCE"];

fn row(person: &Person) -> (Vec<String>, Value) {
    let locked = person.locked_until_ms > station::now_ms();
    let state = match (person.active, locked) {
        (false, _) => "off".to_owned(),
        (true, true) => format!("locked out until {}", Stamp(person.locked_until_ms)),
        (true, false) => "active".into(),
    };
    let object = json!({
        "event": "person", "name": person.name, "role": person.role, "badge": person.badge, "active": person.active,
        "wrong_tries": person.failures, "locked_until": locked.then_some(Stamp(person.locked_until_ms)),
        "since": Stamp(person.created_at_ms),
    });
    let cells = vec![
        person.name.clone(),
        person.role.as_str().into(),
        if person.badge { "yes" } else { "no" }.into(),
        state,
        person.failures.to_string(),
        Stamp(person.created_at_ms).to_string(),
    ];
    (cells, object)
}

/// `people …`.
pub fn people(station: &Station, command: &args::People, out: Out) -> Done {
    let people = &station.people;
    let say = |person: &Person, what: std::fmt::Arguments<'_>| {
        out.say(&row(person).1, format_args!("{} {what}", person.name));
        Ok(Exit::Pass)
    };
    match command {
        args::People::List => {
            let rows: Vec<_> = people.list()?.iter().map(row).collect();
            if rows.is_empty() {
                out.text(
                    "nobody works here by name: this station is open. keywright people add NAME --role admin",
                );
            } else {
                out.table(&PERSON_HEAD, &rows);
            }
            Ok(Exit::Pass)
        }
        args::People::Add { name, role, new_pin_file, badge, badge_file } => {
            // Before anything is asked: whoever may not must not be asked for a PIN.
            people.demand(Right::ManagePeople, "person-added", name)?;
            let pin = new_pin(name, Some(*role), new_pin_file.as_deref())?;
            let badge = match badge_file {
                Some(file) => Some(first_line(file)?),
                None if *badge => Some(prompt("Scan the badge: ")?),
                None => None,
            };
            let first = people.is_open();
            let person = people.add(&NewPerson { name: name.clone(), role: *role, pin, badge })?;
            say(
                &person,
                format_args!(
                    "works here as {}{}",
                    person.role,
                    if first { "; from now on every command wants --person" } else { "" }
                ),
            )
        }
        args::People::Role { name, role, new_pin_file } => {
            people.demand(Right::ManagePeople, "role-changed", name)?;
            let before = people.list()?.into_iter().find(|p| p.name.eq_ignore_ascii_case(name.trim()));
            let longer = before.is_some_and(|p| p.role == Role::Technician && *role != Role::Technician);
            let pin = match new_pin_file {
                None if !longer => None,
                file => Some(new_pin(name, Some(*role), file.as_deref())?),
            };
            say(&people.set_role(name, *role, pin.as_ref())?, format_args!("is {role} now"))
        }
        args::People::Pin { name, new_pin_file } => {
            let pin = new_pin(name, None, new_pin_file.as_deref())?;
            say(&people.set_pin(name, &pin)?, format_args!("has a new PIN"))
        }
        args::People::Badge { name, badge_file, remove } => {
            people.demand(Right::ManagePeople, "badge-changed", name)?;
            let badge = match badge_file {
                _ if *remove => None,
                Some(file) => Some(first_line(file)?),
                None => Some(match environment("KEYWRIGHT_NEW_BADGE") {
                    Some(badge) => badge,
                    None => prompt("Scan the badge: ")?,
                }),
            };
            let person = people.set_badge(name, badge.as_ref())?;
            say(&person, format_args!("has {}", if person.badge { "a new badge" } else { "no badge" }))
        }
        args::People::Deactivate { name } => {
            say(&people.set_active(name, false)?, format_args!("is switched off"))
        }
        args::People::Activate { name } => {
            say(&people.set_active(name, true)?, format_args!("can log in again"))
        }
        args::People::Unlock { name } => say(&people.unlock(name)?, format_args!("can try again")),
        args::People::Recover { .. } => Ok(Exit::Pass),
    }
}

/// `people recover`: no person is asked for, but the passphrase, before anything else.
pub fn recover(options: &station::Options, name: &str, file: Option<&Path>, out: Out) -> Done {
    let passphrase = options.typed_passphrase()?;
    options.check_passphrase(&passphrase)?;
    let pin = new_pin(name, Some(Role::Admin), file)?;
    let person = station::recover(options, &passphrase, name, &pin)?;
    out.say(
        &row(&person).1,
        format_args!("{} has a new PIN and can log in; the audit log has a row about it", person.name),
    );
    Ok(Exit::Pass)
}

/// `audit list` and `audit export`.
pub fn audit(station: &Station, command: &args::Audit, out: Out) -> Done {
    match command {
        args::Audit::List { by, action, subject, count, before } => {
            let filter = AuditFilter {
                person: by.clone(),
                action: action.clone(),
                subject: subject.clone(),
                before: i64::from(*before),
                limit: *count,
            };
            let rows: Vec<_> = station
                .people
                .audit(&filter)?
                .into_iter()
                .map(|entry| {
                    let mut object = serde_json::to_value(&entry).unwrap_or_default();
                    object["event"] = json!("audit");
                    object["at"] = json!(Stamp(entry.at_ms));
                    let cells = vec![
                        entry.seq.to_string(),
                        Stamp(entry.at_ms).to_string(),
                        entry.person,
                        entry.role,
                        entry.action,
                        entry.subject,
                        entry.detail.to_string(),
                    ];
                    (cells, object)
                })
                .collect();
            out.table(&["ROW", "AT", "PERSON", "ROLE", "ACTION", "SUBJECT", "DETAIL"], &rows);
            Ok(Exit::Pass)
        }
        args::Audit::Export { out: file } => {
            let done = station.people.export_audit(file, &station.export_signer()?)?;
            out.say(
                &json!({
                    "event": "audit-export", "file": done.file, "rows": done.rows, "signature": done.signature,
                    "public_key": done.key,
                }),
                format_args!("{} ({} rows); public key {}", done.file.display(), done.rows, done.key.display()),
            );
            Ok(Exit::Pass)
        }
        args::Audit::Verify => Ok(Exit::Pass),
    }
}

/// `audit verify`: needs the passphrase, but no person.
pub fn verify(options: &station::Options, out: Out) -> Done {
    let found = station::verify_histories(options)?;
    for broken in &found.broken {
        let mut object = serde_json::to_value(broken).unwrap_or_default();
        object["event"] = json!("broken");
        object["at"] = json!(broken.at_ms.map(Stamp));
        out.say(&object, format_args!("BROKEN  {broken}"));
    }
    out.say(
        &json!({ "event": "summary", "audit": found.audit, "events": found.events, "broken": found.places() }),
        format_args!("{} rows of the audit log and {} events of units fit", found.audit, found.events),
    );
    if found.left_out > 0 {
        out.text(format_args!("BROKEN  and {} more places", found.left_out));
    }
    match found.summary() {
        None => Ok(Exit::Pass),
        Some(broken) => Err(Failure::new(FailureCode::HistoryBroken, broken).into()),
    }
}
