//! One unit and all units: `unit find`, `unit show --traveler`, `unit retest`, `unit compare`, `unit rma`.

use super::args;
use super::output::{CliError, Done, Exit, Out};
use super::{find_unit, line};
use crate::compare::{self, Verdict};
use crate::export::Stamp;
use crate::failure::{Failure, FailureCode};
use crate::line::Work;
use crate::model::Unit;
use crate::records::{NewRma, Records, Rma, UnitBook, UnitQuery, Why};
use crate::station::Station;
use crate::traveler::{self, Form, Group};
use serde_json::json;
use std::path::Path;

fn word(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        other => other.unwrap_or_default().to_string(),
    }
}

fn none(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.to_owned() }
}

pub fn find(station: &Station, args: &args::UnitFind, out: Out) -> Done {
    let mut query = UnitQuery::parse(&args.text.join(" "));
    query.states.extend(&args.state);
    query.rma_open = args.rma;
    if let Some(code) = &args.failure {
        query.failure = UnitQuery::parse(code).failure;
        if query.failure.is_none() {
            return Err(Failure {
                code: FailureCode::InvalidInput,
                sentence: format!("No failure has the code {code:?}"),
                remedy: "A code looks like K304; keywright unit show lists those of a unit".into(),
            }
            .into());
        }
    }
    if let Some(batch) = &args.batch {
        query.batch = Some(station.records.batch_by_name(batch)?.id);
    }
    let found = station.records.find_units(&query, args.from, args.limit)?;
    let rows: Vec<_> = found
        .units
        .iter()
        .map(|u| {
            let code = u.last_failure.map(|n| format!("K{n}"));
            let last = u.last_at_ms.map(Stamp);
            let object = json!({
                "event": "found", "uid": u.id, "serial": u.serial, "batch": u.batch, "state": u.state, "attempts": u.attempts,
                "last_at": last, "last_failure": code, "rma": u.rma,
            });
            let cells = vec![
                u.serial.clone(),
                u.id.to_string(),
                u.batch.clone(),
                u.state.as_str().into(),
                u.attempts.to_string(),
                last.map_or("-".into(), |at| at.to_string()),
                code.unwrap_or_else(|| "-".into()),
                none(u.rma.as_deref().unwrap_or_default()),
            ];
            (cells, object)
        })
        .collect();
    if !rows.is_empty() {
        out.table(&["SERIAL", "UNIT", "BATCH", "STATE", "ATTEMPTS", "LAST", "CODE", "RMA"], &rows);
    }
    let words = match (found.exact, found.count) {
        (true, count) => format!("{} of {count} hits shown", rows.len()),
        (false, 0) => "too many units to look through, and none of the first fits; add a word".into(),
        (false, count) => {
            format!("{} of more than {count} hits shown, too many to look through; add a word", rows.len())
        }
    };
    out.say(
        &json!({ "event": "found-count", "shown": rows.len(), "from": found.from, "count": found.count, "exact": found.exact, "of": found.of }),
        format_args!("{words}; the station knows {} units", found.of),
    );
    Ok(Exit::Pass)
}

pub fn traveler(
    station: &Station,
    unit: &str,
    only: &[Group],
    form: Option<Form>,
    save: Option<&Path>,
    out: Out,
) -> Done {
    let unit = find_unit(station, unit)?;
    let record = station.records.unit_record(unit.id)?;
    let record =
        record.ok_or_else(|| Failure::new(FailureCode::InvalidInput, format!("no unit {}", unit.id)))?;
    if let Some(path) = save {
        traveler::save(&record, only, form.unwrap_or_default(), path)?;
        let object =
            json!({ "event": "traveler-saved", "serial": unit.serial, "file": path.display().to_string() });
        out.say(&object, format_args!("the traveler of {} is saved: {}", unit.serial, path.display()));
        return Ok(Exit::Pass);
    }
    if out.json {
        let head: serde_json::Map<_, _> =
            traveler::head(&record).into_iter().map(|(k, v)| (k.replace(' ', "_"), json!(v))).collect();
        out.object(&json!({ "event": "traveler", "unit": head }));
        for entry in traveler::entries(&record) {
            if only.is_empty() || only.contains(&entry.group) {
                let mut object = serde_json::to_value(&entry).unwrap_or_default();
                object["event"] = json!("traveler-line");
                out.object(&object);
            }
        }
    } else {
        out.text(traveler::write(&record, only, Form::Text).trim_end());
    }
    Ok(Exit::Pass)
}

pub fn retest(station: &Station, unit: &str, why: &Why, fixture: Option<&str>, out: Out) -> Done {
    let unit = find_unit(station, unit)?;
    station.records.order_retest(unit.id, why, &station.operator)?;
    let batch = station.records.batch(unit.batch)?;
    let exit = line::one(station, &batch.name, Work::Retest(unit.id), fixture, out)?;
    if exit != Exit::Pass {
        return Ok(exit);
    }
    tell(station, &unit, out)
}

pub fn compare(station: &Station, unit: &str, fixture: Option<&str>, out: Out) -> Done {
    let unit = find_unit(station, unit)?;
    let batch = station.records.batch(unit.batch)?;
    let exit = line::one(station, &batch.name, Work::Compare(unit.id), fixture, out)?;
    if exit != Exit::Pass {
        return Ok(exit);
    }
    tell(station, &unit, out)
}

/// What the unit reported, beside its record.
fn tell(station: &Station, unit: &Unit, out: Out) -> Done {
    let comparison = compare::settle(&*station.records, unit.id, &station.operator)?;
    let rows: Vec<_> = comparison
        .fields
        .iter()
        .map(|f| {
            let unit = if f.verdict == Verdict::NotReported { "not reported".into() } else { none(&f.unit) };
            let cells = vec![word(f.field), none(&f.record), unit, word(f.verdict)];
            let mut object = json!(f);
            object["event"] = json!("compared");
            (cells, object)
        })
        .collect();
    out.text("");
    out.table(&["FIELD", "RECORD", "UNIT", "VERDICT"], &rows);
    out.text("");
    let health: Vec<_> = comparison
        .health
        .iter()
        .map(|h| {
            let good = match h.good {
                Some(true) => "good",
                Some(false) => "look at it",
                None => "-",
            };
            let mut object = json!(h);
            object["event"] = json!("self-report");
            (vec![word(h.what), h.says.clone(), good.into()], object)
        })
        .collect();
    out.table(&["SELF-REPORT", "SAYS", "VERDICT"], &health);
    match comparison.differing().count() {
        0 => Ok(Exit::Pass),
        n => {
            let facts = format!("unit {}, {n} fields", unit.serial);
            Err(CliError { failure: Failure::new(FailureCode::UnitDiffers, facts), exit: Exit::UnitsFailed })
        }
    }
}

pub const RMA_HEAD: [&str; 8] = ["RMA", "OPENED", "BY", "STATE", "REASON", "NOTE", "FINDING", "CLOSING NOTE"];

pub fn rma_row(unit: &Unit, rma: &Rma) -> (Vec<String>, serde_json::Value) {
    let closed = rma.closed.as_ref();
    let object = json!({
        "event": "rma", "serial": unit.serial, "uid": unit.id, "number": rma.number, "reason": rma.reason, "note": rma.note,
        "opened_by": rma.opened_by, "opened_at": Stamp(rma.opened_at_ms), "finding": closed.map(|c| &c.finding),
        "closing_note": closed.map(|c| &c.note), "closed_by": closed.map(|c| &c.by), "closed_at": closed.map(|c| Stamp(c.at_ms)),
    });
    let state = closed.map_or("open".into(), |c| format!("closed {} by {}", Stamp(c.at_ms), c.by));
    let (finding, closing) = closed.map_or(("-", ""), |c| (&c.finding, &c.note));
    let opened = Stamp(rma.opened_at_ms).to_string();
    let cells = vec![
        rma.number.clone(),
        opened,
        rma.opened_by.clone(),
        state,
        rma.reason.clone(),
        none(&rma.note),
        finding.to_owned(),
        none(closing),
    ];
    (cells, object)
}

pub fn rma(station: &Station, command: &args::UnitRma, out: Out) -> Done {
    let operator = station.operator.clone();
    let (unit, rma, words) = match command {
        args::UnitRma::Open { unit, number, reason, note } => {
            let unit = find_unit(station, unit)?;
            let new = NewRma { number: number.clone(), reason: reason.clone(), note: note.clone(), operator };
            let rma = station.records.open_rma(unit.id, new)?;
            (unit, rma, "came back under")
        }
        args::UnitRma::Close { unit, finding, note } => {
            let unit = find_unit(station, unit)?;
            let rma = station.records.close_rma(unit.id, finding, note, &operator)?;
            (unit, rma, "is closed under")
        }
    };
    out.say(&rma_row(&unit, &rma).1, format_args!("unit {} {words} {}", unit.serial, rma.number));
    Ok(Exit::Pass)
}
