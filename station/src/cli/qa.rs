//! Units that come back and keys that leak: `unit reprovision|quarantine|release|scrap`, `po invalidate`, `alarms`.

use super::args;
use super::output::{CliError, Done, Exit, Out};
use super::{find_unit, line};
use crate::export::Stamp;
use crate::failure::{Failure, FailureCode};
use crate::line::Work;
use crate::model::{Unit, UnitState};
use crate::records::{AlarmOf, NewReprovision, Records, Reprovision, ReprovisionKind, Why};
use crate::station::Station;
use serde_json::json;
use std::io::IsTerminal;

pub const ORDER_HEAD: [&str; 6] = ["ORDER OF QA", "GIVEN", "OPERATOR", "SUPERSEDES", "STATE", "REASON"];

pub fn order_row(order: &Reprovision) -> (Vec<String>, serde_json::Value) {
    let state = match (order.ended_at_ms, order.done, order.after) {
        (None, ..) => "open".into(),
        (_, true, Some((agent, cloud))) => format!("done: agent key {agent}, cloud key {cloud}"),
        (_, true, None) => "done".into(),
        (_, false, _) => "withdrawn".into(),
    };
    let object = json!({
        "event": "reprovision", "order": order.id, "kind": order.kind, "reason": order.reason, "operator": order.operator,
        "region": order.region, "supersedes": order.supersedes, "before": order.before, "after": order.after,
        "opened_at": Stamp(order.opened_at_ms), "ended_at": order.ended_at_ms.map(Stamp), "done": order.done,
    });
    let kind = match order.kind {
        ReprovisionKind::MoveRegion => format!("move-region {}", order.region),
        other => other.as_str().into(),
    };
    let cells = [
        kind,
        Stamp(order.opened_at_ms).to_string(),
        order.operator.clone(),
        order.supersedes.clone(),
        state,
    ];
    (cells.into_iter().chain([order.reason.clone()]).collect(), object)
}

/// What can't be undone is asked about first; a script must have said `--yes`.
pub(super) fn confirm(yes: bool, out: Out, what: &str) -> Result<bool, CliError> {
    if yes {
        return Ok(true);
    }
    if out.json || !std::io::stdin().is_terminal() {
        return Err(Failure {
            code: FailureCode::InvalidInput,
            sentence: format!("{what} Nobody is here to confirm it"),
            remedy: "Give the command again with --yes".into(),
        }
        .into());
    }
    super::output::ask(&format!("{what} Go on?"))
}

pub(super) fn cancelled() -> CliError {
    Failure::new(FailureCode::Cancelled, "nothing was changed").into()
}

/// The unit as it is now, for people and scripts.
fn tell(station: &Station, unit: &Unit, out: Out, what: &str) -> Done {
    let now = station.records.unit(unit.id)?.unwrap_or_else(|| unit.clone());
    let batch = station.records.batch(now.batch)?;
    let object = super::unit_object(&now, &batch.name);
    out.say(&object, format_args!("unit {} ({}) {what}; it is {}", now.serial, now.id, now.state.as_str()));
    Ok(Exit::Pass)
}

/// The keys that a new start or a scrap kills, by name and generation.
fn dying(station: &Station, unit: &Unit) -> Result<String, CliError> {
    let keys = station.agent()?.standing(unit.id)?;
    Ok(match keys.living() {
        0 => "it has no living key".into(),
        1 => format!("1 key dies everywhere at once ({})", keys.living_words()),
        n => format!("{n} keys die everywhere at once ({})", keys.living_words()),
    })
}

pub fn reprovision(station: &Station, args: &args::Reprovision, out: Out) -> Done {
    let unit = find_unit(station, &args.unit)?;
    if args.withdraw {
        station.agent()?.withdraw_reprovision(unit.id, &args.reason, &station.operator)?;
        return tell(station, &unit, out, "has no open order");
    }
    let (kind, region) = match args.move_region {
        Some(region) => (ReprovisionKind::MoveRegion, region),
        None if args.new_start => (ReprovisionKind::NewStart, 0),
        None => (ReprovisionKind::NewKeys, 0),
    };
    if kind == ReprovisionKind::NewStart {
        let what = format!(
            "Unit {} ({}) is {}: {}. All of its flash is erased.",
            unit.serial,
            unit.id,
            unit.state.as_str(),
            dying(station, &unit)?
        );
        if !confirm(args.yes, out, &what)? {
            return Err(cancelled());
        }
    }
    let new =
        NewReprovision { kind, reason: args.reason.clone(), operator: station.operator.clone(), region };
    let order = station.agent()?.reprovision(unit.id, new)?;
    let (_, object) = order_row(&order);
    out.say(
        &object,
        format_args!("unit {}: {} ordered, supersedes {}", unit.serial, kind.as_str(), order.supersedes),
    );
    if args.order_only {
        return Ok(Exit::Pass);
    }
    let batch = station.records.batch(unit.batch)?;
    let work = Work::reprovision(unit.id, kind);
    let exit = line::one(station, &batch.name, work, args.fixture.as_deref(), out)?;
    let done = station.records.reprovisions(unit.id)?.into_iter().find(|o| o.id == order.id);
    if let Some(order) = done {
        let (cells, object) = order_row(&order);
        out.say(&object, format_args!("unit {}: {} is {}", unit.serial, cells[0], cells[4]));
        if exit == Exit::Pass && !order.done {
            // It passed with a record that was staged before the order: the next one carries it out.
            return Err(
                Failure::new(FailureCode::UpdateRefused, "the order is still open; give it again").into()
            );
        }
    }
    Ok(exit)
}

fn why(args: &args::Decision) -> Why {
    Why { reason: args.reason.clone(), note: args.note.clone() }
}

pub fn quarantine(station: &Station, args: &args::Decision, out: Out) -> Done {
    let unit = find_unit(station, &args.unit)?;
    station.agent()?.quarantine(unit.id, why(args), &station.operator)?;
    tell(station, &unit, out, "is set aside; its cloud lets it in no more")
}

pub fn release(station: &Station, args: &args::Decision, out: Out) -> Done {
    let unit = find_unit(station, &args.unit)?;
    station.agent()?.release(unit.id, why(args), &station.operator)?;
    tell(station, &unit, out, "is out of quarantine")
}

pub fn scrap(station: &Station, args: &args::Decision, out: Out) -> Done {
    let unit = find_unit(station, &args.unit)?;
    if unit.state != UnitState::Scrapped {
        let open = station.records.reprovisions(unit.id)?.iter().any(|order| order.ended_at_ms.is_none());
        let what = format!(
            "Unit {} ({}) is {}: {}. It never comes back.{}",
            unit.serial,
            unit.id,
            unit.state.as_str(),
            dying(station, &unit)?,
            if open { " The open order of QA is withdrawn." } else { "" }
        );
        if !confirm(args.yes, out, &what)? {
            return Err(cancelled());
        }
    }
    station.agent()?.scrap(unit.id, why(args), &station.operator)?;
    tell(station, &unit, out, "is taken out for ever")
}

pub fn invalidate(station: &Station, args: &args::PoInvalidate, out: Out) -> Done {
    let order = station.records.product_order_by_name(&args.name)?;
    let since = args.since.as_millisecond();
    let reach = station.records.product_key_reach(order.id, since)?;
    let what = format!(
        "Nothing more is made under order {}, and the {} units that it enrolled since {} ({} of them passed) are set aside.",
        order.name,
        reach.units,
        Stamp(since),
        reach.passed
    );
    if !confirm(args.yes, out, &what)? {
        return Err(cancelled());
    }
    let done = station.agent()?.invalidate_product_key(order.id, since, &args.reason, &station.operator)?;
    out.say(
        &json!({
            "event": "product-key-invalid", "po": order.name, "since": Stamp(since), "quarantined": done.quarantined,
            "blocked": done.blocked, "left": done.left,
        }),
        format_args!(
            "product order {}: its key counts for nothing; {} units are in quarantine, {} of them blocked at their cloud",
            order.name, done.quarantined, done.blocked
        ),
    );
    match done.left.first() {
        None => Ok(Exit::Pass),
        Some((unit, why)) => {
            let facts =
                format!("{} units, the first is {unit}: {why}; give the command again", done.left.len());
            Err(Failure::new(FailureCode::CloudRefused, facts).into())
        }
    }
}

pub fn alarms(station: &Station, args: &args::Alarms, out: Out) -> Done {
    if let Some(id) = args.seen {
        station.records.see_alarm(id, &station.operator)?;
    }
    let alarms = station.records.list_alarms(args.all)?;
    if alarms.is_empty() {
        out.text("no alarms");
    }
    let rows: Vec<_> = alarms
        .iter()
        .map(|alarm| {
            let of = match &alarm.of {
                AlarmOf::Unit(unit) => json!({ "unit": unit }),
                AlarmOf::ProductOrder(name) => json!({ "po": name }),
            };
            let seen = alarm.seen.as_ref().map(|(by, at)| json!({ "by": by, "at": Stamp(*at) }));
            let object = json!({
                "event": "alarm", "alarm": alarm.id, "of": of, "kind": alarm.kind, "at": Stamp(alarm.at_ms),
                "count": alarm.count, "detail": alarm.detail, "sentence": alarm.sentence(), "seen": seen,
            });
            let seen = alarm.seen.as_ref().map_or("-".to_owned(), |(by, _)| by.clone());
            let cells = [alarm.id.to_string(), Stamp(alarm.at_ms).to_string(), alarm.count.to_string(), seen];
            (cells.into_iter().chain([alarm.sentence()]).collect(), object)
        })
        .collect();
    if !rows.is_empty() {
        out.table(&["ALARM", "LAST", "TIMES", "SEEN BY", "WHAT"], &rows);
    }
    Ok(Exit::Pass)
}
