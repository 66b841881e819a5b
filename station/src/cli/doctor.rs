//! `doctor`: prints what [`crate::preflight`] finds.

use super::output::{Done, Exit, Out};
use crate::preflight::{self, Status};
use crate::station::Options;

/// Runs every check and prints it.
pub fn run(options: &Options, out: Out) -> Done {
    let checks = preflight::station(options);
    for check in &checks {
        say(check, out);
    }
    let count = |status| checks.iter().filter(|c| c.status == status).count();
    let (ok, warn, fail) = (count(Status::Ok), count(Status::Warn), count(Status::Fail));
    out.say(
        &serde_json::json!({"event": "summary", "ok": ok, "warn": warn, "fail": fail}),
        format_args!("{ok} ok, {warn} warnings, {fail} failures"),
    );
    Ok(if fail == 0 { Exit::Pass } else { Exit::Station })
}

/// One check, as an object or as a line with what to do below it.
pub(super) fn say(check: &preflight::Check, out: Out) {
    let sign = match check.status {
        Status::Ok => "ok  ",
        Status::Warn => "WARN",
        Status::Fail => "FAIL",
    };
    out.say(check, format_args!("{sign}  {:<11} {}", check.name.as_str(), check.detail));
    if let Some(remedy) = &check.remedy {
        out.text(format_args!("                  → {remedy}"));
    }
}
