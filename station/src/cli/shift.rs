//! `line stats` and `shift start|show|end|list`.

use super::args;
use super::output::{Done, Exit, Out};
use super::qa::{cancelled, confirm};
use crate::export::Stamp;
use crate::failure::{Failure, FailureCode};
use crate::figures::{Cycle, Figures};
use crate::foreman::{self, Range};
use crate::records::AttemptRange;
use crate::shift::Balance;
use crate::station::{Station, records_failure};
use serde_json::json;
use std::path::Path;

/// The open shift, else the one that ended last.
fn newest(station: &Station) -> Result<Option<Balance>, Failure> {
    let open = station.records.shift_balance().map_err(records_failure)?;
    let last = || station.records.shifts(1).map_err(records_failure).map(|mut all| all.pop());
    open.map_or_else(last, |open| Ok(Some(open)))
}

fn no_shift() -> Failure {
    Failure::new(FailureCode::NoShift, "no shift was ever opened")
}

/// `line stats`.
pub fn stats(station: &Station, args: &args::LineStats, out: Out) -> Done {
    let ms = |t: jiff::Timestamp| t.as_millisecond();
    let (range, of) = match (args.shift, args.since.or(args.until)) {
        (_, Some(_)) => {
            let range = AttemptRange::Ended(args.since.map_or(i64::MIN, ms), args.until.map_or(i64::MAX, ms));
            let (since, until) = (args.since.map(|t| t.to_string()), args.until.map(|t| t.to_string()));
            (range, json!({ "since": since, "until": until }))
        }
        (Some(number), None) => {
            let shift = station.records.shift(number)?.shift;
            (AttemptRange::of(&shift), json!({ "shift": number }))
        }
        (None, None) if args.all => (AttemptRange::ALL, json!({ "all": true })),
        (None, None) if args.today => {
            let range = Range::Today.attempts(None, &jiff::Zoned::now()).unwrap_or(AttemptRange::ALL);
            (range, json!({ "today": true }))
        }
        (None, None) => {
            let shift = newest(station)?.ok_or_else(no_shift)?.shift;
            (AttemptRange::of(&shift), json!({ "shift": shift.number }))
        }
    };
    let figures = foreman::figures(&station.records, range, args.batch.as_deref(), args.fixture.as_deref())?;
    let mut object = serde_json::to_value(&figures).unwrap_or_default();
    object["event"] = json!("figures");
    object["of"] = of;
    object["batch"] = json!(args.batch);
    object["fixture"] = json!(args.fixture);
    object["per_hour"] = json!(figures.per_hour());
    object["first_pass_yield"] = json!(figures.first_pass_yield());
    out.say(&object, told(&figures));
    Ok(Exit::Pass)
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".into(), |s| format!("{:.1} %", s * 100.0))
}

fn seconds(ms: u32) -> String {
    format!("{:.1} s", f64::from(ms) / 1000.0)
}

/// The figures for people.
fn told(f: &Figures) -> String {
    if f.attempts == 0 {
        return "nothing ended in this range".into();
    }
    let per_hour = f.per_hour().map_or_else(|| "-".into(), |h| format!("{h:.0}"));
    let mut text = format!(
        "units passed          {}\nunits per hour        {per_hour} ({} min of work)\nfirst-pass yield      {} ({} of {} units)\n\
         did not pass          {} attempts, {} cancelled",
        f.passed,
        f.worked_ms / 60_000,
        percent(f.first_pass_yield()),
        f.first_passes,
        f.first_tries,
        f.not_passed,
        f.cancelled
    );
    if let Some(Cycle { median_ms, p90_ms, width_ms, bars, open_ended }) = &f.cycle {
        text += &format!(
            "\ncycle time            {} median, 9 in 10 within {}",
            seconds(*median_ms),
            seconds(*p90_ms)
        );
        for (i, count) in bars.iter().enumerate().filter(|(_, count)| **count > 0) {
            let from = width_ms * i as u32 / 1000;
            let last = *open_ended && i + 1 == bars.len();
            let to = if last { "and more".into() } else { format!("to {}", from + width_ms / 1000) };
            text += &format!("\n  {from:>6} s {to:<10}  {count}");
        }
    }
    for cause in &f.causes {
        let sentence = cause.known().map_or("", FailureCode::sentence);
        text += &format!(
            "\nK{:03} {:>6}  {:>7}  {:>7}  {sentence}",
            cause.code,
            cause.count,
            percent(Some(cause.share)),
            percent(Some(cause.cumulative))
        );
    }
    for fixture in &f.fixtures {
        text += &format!(
            "\nfixture {}: {} passed, first-pass yield {}, {} did not pass, median {}",
            fixture.fixture,
            fixture.passed,
            percent(fixture.first_pass_yield()),
            fixture.not_passed,
            fixture.median_ms.map_or_else(|| "-".into(), seconds)
        );
    }
    text
}

/// A shift as scripts see it.
fn object(balance: &Balance) -> serde_json::Value {
    let shift = &balance.shift;
    let end = shift.ended.as_ref();
    let differences = end.map_or_else(|| balance.differences(), |e| e.differences.clone());
    let batches: Vec<_> = balance
        .batches
        .iter()
        .map(|b| {
            let mut object = serde_json::to_value(b).unwrap_or_default();
            object["open"] = json!(b.open());
            object
        })
        .collect();
    json!({
        "event": "shift", "number": shift.number, "open": end.is_none(), "opened_at": Stamp(shift.opened_at_ms),
        "opened_by": shift.opened_by, "ended_at": end.map(|e| Stamp(e.at_ms)), "ended_by": end.map(|e| &e.by),
        "reason": end.map(|e| &e.reason), "in_work": balance.in_work, "batches": batches, "differences": differences,
    })
}

fn say(station: &Station, balance: &Balance, file: Option<&Path>, out: Out) -> Done {
    if let Some(file) = file {
        foreman::write_sheet(balance, &station.config.name, file)?;
    }
    let mut object = object(balance);
    object["file"] = json!(file);
    out.say(&object, balance.sheet(&station.config.name).trim_end());
    Ok(Exit::Pass)
}

/// `shift …`.
pub fn run(station: &Station, command: &args::Shift, out: Out) -> Done {
    let records = &station.records;
    match command {
        args::Shift::Start => {
            let shift = foreman::begin(records, &station.people)?;
            let balance = records.shift(shift.number)?;
            let text = format!("shift {} is open since {}", shift.number, Stamp(shift.opened_at_ms));
            out.say(&object(&balance), text);
            Ok(Exit::Pass)
        }
        args::Shift::Show { number, out: file } => {
            let balance = match number {
                Some(number) => records.shift(*number)?,
                None => newest(station)?.ok_or_else(no_shift)?,
            };
            say(station, &balance, file.as_deref(), out)
        }
        args::Shift::End { counted, reason, out: file, yes } => {
            let open = records.shift_balance()?.ok_or_else(|| Failure::new(FailureCode::NoShift, ""))?;
            let number = open.shift.number;
            let mut looked = open;
            // A wrong name is told by the records, when they end the shift.
            let _ = looked.count(counted);
            let differences = looked.differences().len();
            let question = format!(
                "Shift {number} ends with {} units and {differences} differences, and can't be opened again.",
                looked.batches.iter().map(|b| b.shift.sum()).sum::<u32>()
            );
            if !confirm(*yes, out, &question)? {
                return Err(cancelled());
            }
            let ended = foreman::end(records, &station.people, number, counted.clone(), reason)?;
            say(station, &ended, file.as_deref(), out)
        }
        args::Shift::List { count } => {
            let rows: Vec<_> = records.shifts(*count)?.iter().map(row).collect();
            if rows.is_empty() {
                out.text("no shift has ended yet");
            } else {
                let head =
                    ["SHIFT", "OPENED", "ENDED", "BY", "UNITS", "PASSED", "FAILED", "DIFFERENCES", "REASON"];
                out.table(&head, &rows);
            }
            Ok(Exit::Pass)
        }
    }
}

fn row(balance: &Balance) -> (Vec<String>, serde_json::Value) {
    let shift = &balance.shift;
    let sum = |of: fn(&crate::shift::Trays) -> u32| {
        balance.batches.iter().map(|b| of(&b.shift)).sum::<u32>().to_string()
    };
    let end = shift.ended.as_ref();
    let cells = vec![
        shift.number.to_string(),
        Stamp(shift.opened_at_ms).to_string(),
        end.map_or_else(|| "-".into(), |e| Stamp(e.at_ms).to_string()),
        end.map_or_else(|| "-".into(), |e| e.by.clone()),
        sum(crate::shift::Trays::sum),
        sum(|t| t.passed),
        sum(|t| t.failed),
        end.map_or(0, |e| e.differences.len()).to_string(),
        end.map_or_else(String::new, |e| e.reason.clone()),
    ];
    (cells, object(balance))
}
