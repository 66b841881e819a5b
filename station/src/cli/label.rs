//! `label test|print|check`.

use super::args;
use super::find_unit;
use super::output::{Done, Exit, Out};
use crate::failure::{Failure, FailureCode};
use crate::label::{self, LabelCode, Printer};
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
        args::Label::Check { code } => check(station, code, out),
    }
}

fn print(station: &Station, name: &str, out: Out) -> Done {
    let unit = find_unit(station, name)?;
    let facts = station.records.label_facts(unit.id)?;
    let code = label::code_of(&facts)?;
    let printer = Printer::open(&station.config)?;
    printer.print(&facts, &station.operator, station::now_ms())?;
    let labels = station.records.label_printed(unit.id, None, &code.to_string(), &station.operator)?;
    let object = json!({
        "event": "label", "test": false, "sink": printer.place(), "uid": unit.id, "serial": unit.serial,
        "code": code.to_string(), "labels": labels,
    });
    let again = if labels > 1 {
        format!(", its label number {labels}: take the old ones off")
    } else {
        String::new()
    };
    out.say(&object, format_args!("the label of {} went to {}{again}", unit.serial, printer.place()));
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
            if newest { "" } else { ", the newest with another code: print it again" }
        ),
    );
    Ok(Exit::Pass)
}
