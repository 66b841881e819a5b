//! `label test|print|check`.

use super::args;
use super::find_unit;
use super::output::{Done, Exit, Out};
use crate::failure::{Failure, FailureCode};
use crate::label::{self, LabelCode, Printer, hand};
use crate::model::{LabelPolicy, UnitState};
use crate::records::Records;
use crate::station::{self, Station};
use serde_json::json;

pub fn run(station: &Station, command: &args::Label, out: Out) -> Done {
    match command {
        args::Label::Test => {
            let printer = Printer::open(&station.config)?;
            printer.print(&label::test_facts(), &station.operator, station::now_ms())?;
            let object = json!({ "event": "label", "test": true, "sink": printer.place(), "code": null });
            out.say(&object, format_args!("a test label went to {}", printer.place()));
            Ok(Exit::Pass)
        }
        args::Label::Print { unit } => print(station, unit, out),
        args::Label::Check { unit, code: Some(code) } => read_back(station, unit, code, out),
        args::Label::Check { unit: code, code: None } => check(station, code, out),
    }
}

fn print(station: &Station, name: &str, out: Out) -> Done {
    let unit = find_unit(station, name)?;
    let printer = Printer::open(&station.config)?;
    let (code, labels) = hand::print(&*station.records, &printer, &unit, &station.operator)?;
    let object = json!({
        "event": "label", "test": false, "sink": printer.place(), "uid": unit.id, "serial": unit.serial,
        "code": code.to_string(), "labels": labels, "state": unit.state,
    });
    let mut more = String::new();
    if unit.state == UnitState::Quarantined {
        more += "; it is in quarantine, keep it there";
    }
    if labels > 1 {
        more += &format!("; this is its label number {labels}, take the old ones off");
    }
    let order = station.records.product_order(station.records.batch(unit.batch)?.po)?;
    if order.label == LabelPolicy::ScanBack {
        more += &format!("; then read it back: keywright label check {} CODE", unit.serial);
    }
    out.say(&object, format_args!("the label of {} went to {}{more}", unit.serial, printer.place()));
    Ok(Exit::Pass)
}

/// The label of a unit that somebody holds: the reading is written down.
fn read_back(station: &Station, name: &str, text: &str, out: Out) -> Done {
    let unit = find_unit(station, name)?;
    let facts = hand::read_back(&*station.records, &unit, text, &station.operator)?;
    let object = json!({
        "event": "label-check", "uid": unit.id, "serial": unit.serial, "state": unit.state, "labels": facts.prints,
        "read_back": facts.scanned_at_ms.map(crate::export::Stamp), "newest": true, "recorded": true,
    });
    let text =
        format!("the label is that of {} ({}); it stands in its record as read back", unit.serial, unit.id);
    out.say(&object, text);
    Ok(Exit::Pass)
}

fn check(station: &Station, text: &str, out: Out) -> Done {
    let read: LabelCode = text.parse().map_err(|e| Failure::new(FailureCode::LabelUnreadable, e))?;
    let unit = find_unit(station, read.serial())?;
    let facts = station.records.label_facts(unit.id)?;
    let code = label::code_of(&facts)?;
    label::compare(&read, &code)?;
    let newest = facts.printed_code.as_deref() == Some(code.to_string().as_str());
    let object = json!({
        "event": "label-check", "uid": unit.id, "serial": unit.serial, "anchor": code.anchor(), "state": unit.state,
        "labels": facts.prints, "read_back": facts.scanned_at_ms.map(crate::export::Stamp), "newest": newest,
        "recorded": false,
    });
    let anchor = code.anchor();
    out.say(
        &object,
        format_args!(
            "the label is that of {} ({}), {}, anchor {anchor}; {} labels were printed for it{}",
            unit.serial,
            unit.id,
            unit.state.as_str(),
            facts.prints,
            match newest {
                false => ", the newest with another code: print it again",
                true if hand::waits(&facts) => ", and the newest was not read back",
                true => "",
            }
        ),
    );
    Ok(Exit::Pass)
}
