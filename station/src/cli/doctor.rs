//! The preflight: everything that a shift needs, looked at before it begins, each with what to do about it.
//!
//! Invariant: doctor makes no home, no database and no key, and it attaches to no board. Opening the database enters a
//! session in it, as every program that opens it does.

use super::output::{Done, Exit, Out};
use crate::config::{Config, Fixture};
use crate::failure::{Failure, FailureCode};
use crate::image::CommonImage;
use crate::label::Printer;
use crate::model::{LabelPolicy, PoId, ProductOrder};
use crate::station::{self, Options, Preflight};
use serde::Serialize;
use std::path::Path;

/// Less free space than this stops a shift: the records would fill the disk.
const MIN_FREE: u64 = 64 << 20;
/// Less than this is worth a word.
const LOW_FREE: u64 = 1 << 30;
/// A clock before this program was written, or far behind it, is not set.
const EARLIEST_MS: i64 = 1_767_225_600_000; // 2026-01-01
const LATEST_MS: i64 = 4_102_444_800_000; // 2100-01-01
/// How far the clock may stand before the last record: time servers step back a little.
const CLOCK_SLACK_MS: i64 = 2 * 60_000;

/// How long a probe's server may take to answer.
#[cfg(feature = "hardware")]
const PROBE_ANSWER: std::time::Duration = std::time::Duration::from_secs(2);

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// In order.
    Ok,
    /// Work can begin; look at it.
    Warn,
    /// Work can't begin.
    Fail,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Always `check`.
    pub event: &'static str,
    /// What was looked at; stable.
    pub name: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What to do; absent when all is well.
    pub remedy: Option<String>,
}

impl Check {
    fn new(name: &'static str, status: Status, detail: impl ToString, remedy: &str) -> Self {
        let remedy = (status != Status::Ok).then(|| remedy.to_owned());
        Self { event: "check", name, status, detail: detail.to_string(), remedy }
    }

    fn ok(name: &'static str, detail: impl ToString) -> Self {
        Self::new(name, Status::Ok, detail, "")
    }

    fn failed(name: &'static str, failure: &Failure) -> Self {
        Self::new(name, Status::Fail, format!("{} ({})", failure.sentence, failure.code), &failure.remedy)
    }
}

/// Runs every check and prints it.
pub fn run(options: &Options, out: Out) -> Done {
    let checks = checks(options);
    for check in &checks {
        let sign = match check.status {
            Status::Ok => "ok  ",
            Status::Warn => "WARN",
            Status::Fail => "FAIL",
        };
        out.say(check, format_args!("{sign}  {:<11} {}", check.name, check.detail));
        if let Some(remedy) = &check.remedy {
            out.text(format_args!("                  → {remedy}"));
        }
    }
    let count = |status| checks.iter().filter(|c| c.status == status).count();
    let (ok, warn, fail) = (count(Status::Ok), count(Status::Warn), count(Status::Fail));
    out.say(
        &serde_json::json!({"event": "summary", "ok": ok, "warn": warn, "fail": fail}),
        format_args!("{ok} ok, {warn} warnings, {fail} failures"),
    );
    Ok(if fail == 0 { Exit::Pass } else { Exit::Station })
}

/// Every check of a station that is not open here.
fn checks(options: &Options) -> Vec<Check> {
    checks_with(options, || station::preflight(options))
}

/// Every check of a station; `preflight` looks at what its passphrase protects.
pub fn checks_with(options: &Options, preflight: impl FnOnce() -> Preflight) -> Vec<Check> {
    let home = &options.home;
    let mut checks = vec![writable(home), space(home)];
    let config = options.load_config();
    checks.push(match &config {
        Ok(config) if options.config_path().exists() => Check::ok(
            "config",
            format_args!(
                "{}: station {:?}, {} fixtures",
                options.config_path().display(),
                config.name,
                config.fixtures.len()
            ),
        ),
        Ok(_) => Check::new(
            "config",
            Status::Warn,
            format_args!(
                "{} is not there; probes and ports are paired by themselves",
                options.config_path().display()
            ),
            "Run keywright init, or open the window: both write it",
        ),
        Err(failure) => Check::failed("config", failure),
    });
    let preflight = preflight();
    checks.extend(records(options, &preflight));
    let orders = preflight.orders.as_deref().unwrap_or_default();
    if let Ok(config) = &config {
        checks.push(image(config, orders, &preflight.running));
        checks.extend(printer(config, orders));
        checks.extend(lock(orders));
        checks.extend(fixtures(config));
        checks.push(match super::backup::newest(options, config) {
            Ok(path) => Check::ok("backup", path),
            Err(failure) => Check::new("backup", Status::Warn, failure.sentence, &failure.remedy),
        });
    }
    checks.push(clock(station::now_ms(), preflight.newest_ms));
    checks
}

fn writable(home: &Path) -> Check {
    let name = "home";
    if !home.is_dir() {
        return Check::new(
            name,
            Status::Fail,
            format_args!("{} is not there", home.display()),
            "Run keywright anchors init --region R; it makes the folder. Or name another with --home",
        );
    }
    match tempfile::tempfile_in(home) {
        Ok(_) => Check::ok(name, home.display()),
        Err(e) => Check::new(
            name,
            Status::Fail,
            format_args!("{} can't be written: {e}", home.display()),
            "Give this user write access to the folder and everything in it",
        ),
    }
}

fn space(home: &Path) -> Check {
    let name = "disk";
    // The home may not be there yet; its nearest ancestor is on the same disk.
    let Some(free) = home.ancestors().find(|p| p.exists()).and_then(free_bytes) else {
        return Check::new(name, Status::Warn, "the free space can't be read", "Look at the disk yourself");
    };
    space_of(free)
}

fn space_of(free: u64) -> Check {
    let status = match free {
        0..MIN_FREE => Status::Fail,
        MIN_FREE..LOW_FREE => Status::Warn,
        _ => Status::Ok,
    };
    Check::new(
        "disk",
        status,
        format_args!("{} MiB free", free >> 20),
        "Free some space on the disk of the home folder",
    )
}

#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

fn records(options: &Options, preflight: &Preflight) -> Vec<Check> {
    let mut checks = Vec::new();
    if !options.has_records() {
        checks.push(Check::new(
            "database",
            Status::Warn,
            format_args!("{} is not there yet", options.records_path().display()),
            "Run keywright anchors init --region R; the database is made with it",
        ));
    } else {
        checks.push(match &preflight.database {
            Ok(detail) => Check::ok("database", detail),
            Err(failure) => Check::failed("database", failure),
        });
    }
    if let Some(passphrase) = &preflight.passphrase {
        checks.push(match passphrase {
            Ok(detail) if options.demo => Check::new(
                "passphrase",
                Status::Warn,
                detail,
                "Fine for trying out; units that leave the house need a station with a passphrase of its own",
            ),
            Ok(detail) => Check::ok("passphrase", detail),
            Err(failure) => Check::failed("passphrase", failure),
        });
    }
    checks.push(match &preflight.anchors {
        Ok(detail) => Check::ok("anchors", detail),
        Err(failure) => Check::failed("anchors", failure),
    });
    checks
}

/// The image belongs to an order; without one only its presence can be looked at.
fn image(config: &Config, orders: &[ProductOrder], running: &[PoId]) -> Check {
    let name = "image";
    let Some(path) = &config.image else {
        return Check::new(
            name,
            Status::Fail,
            "station.toml names no image",
            "Add image = \"…/common-image.json\" under [station]; cargo xtask firmware builds one",
        );
    };
    let loaded: Vec<_> = orders.iter().map(|o| (o, CommonImage::load(path, o))).collect();
    // An order in work that is bound to another image makes no units here.
    let refused = loaded.iter().find(|(o, i)| {
        let bound =
            |f: &Failure| matches!(f.code, FailureCode::ImageChanged | FailureCode::ImageWrongProduct);
        running.contains(&o.id) && i.as_ref().is_err_and(bound)
    });
    if let Some((_, Err(failure))) = refused {
        return Check::new(
            name,
            Status::Warn,
            format_args!("{} ({})", failure.sentence, failure.code),
            &failure.remedy,
        );
    }
    if let Some((order, image)) = loaded.iter().find_map(|(o, i)| Some((o, i.as_ref().ok()?))) {
        return Check::ok(
            name,
            format_args!("{} {} for order {}: {}", image.model, image.version, order.name, path.display()),
        );
    }
    match loaded.into_iter().next() {
        Some((_, Err(failure))) => Check::failed(name, &failure),
        _ if path.exists() => Check::new(
            name,
            Status::Warn,
            format_args!("{} is there; no product order is there to check it against", path.display()),
            "Enter the product order with keywright po new",
        ),
        _ => Check::new(
            name,
            Status::Fail,
            format_args!("{} is not there", path.display()),
            "Check the path in station.toml, or build the image with cargo xtask firmware",
        ),
    }
}

/// The label printer, if one is named or wanted; nothing is printed.
fn printer(config: &Config, orders: &[ProductOrder]) -> Option<Check> {
    let name = "label";
    let wanted = orders.iter().find(|o| o.label != LabelPolicy::None);
    if wanted.is_none() && config.label.is_none() {
        return None;
    }
    Some(match Printer::open(config) {
        Ok(printer) if printer.has_code() => Check::ok(name, printer.place()),
        Ok(printer) => Check::new(
            name,
            Status::Warn,
            format_args!("{}; the template has no $code, so its labels can't be read back", printer.place()),
            "Put $code into a square code; assets/label.zpl shows how",
        ),
        Err(failure) => Check::failed(name, &failure),
    })
}

/// Units that leave the line open are meant to be trials.
fn lock(orders: &[ProductOrder]) -> Option<Check> {
    let open: Vec<_> = orders.iter().filter(|o| !o.lock).map(|o| o.name.as_str()).collect();
    if orders.is_empty() {
        return None;
    }
    Some(if open.is_empty() {
        Check::ok(
            "lock",
            "units are locked before they pass: read protection level 1, boot sectors write-protected",
        )
    } else {
        Check::new(
            "lock",
            Status::Warn,
            format_args!("units of {} pass with their flash open to any debugger", open.join(", ")),
            "Enter a new product order without --no-lock for units that leave the house",
        )
    })
}

#[cfg(feature = "hardware")]
fn fixtures(config: &Config) -> Vec<Check> {
    let fixtures = match station::fixtures(config) {
        Ok(fixtures) => fixtures,
        Err(failure) => return vec![Check::failed("fixtures", &failure)],
    };
    let list: Vec<_> = fixtures.iter().map(|f| format!("{} = {} + {}", f.name, f.probe, f.serial)).collect();
    let mut checks = vec![Check::ok("fixtures", list.join("; "))];
    checks.extend(fixtures.iter().map(probe));
    checks.extend(fixtures.iter().map(port));
    checks
}

#[cfg(not(feature = "hardware"))]
fn fixtures(_config: &Config) -> Vec<Check> {
    vec![Check::new(
        "fixtures",
        Status::Fail,
        "this build of Keywright reaches no probes and no serial ports",
        "Install the build with hardware support",
    )]
}

/// Looks for the probe on the bus, or knocks at its address; no board is attached to.
#[cfg(feature = "hardware")]
fn probe(fixture: &Fixture) -> Check {
    let name = "probe";
    let shown = format!("fixture {}: {}", fixture.name, fixture.probe);
    let mut parts = fixture.probe.splitn(3, ':');
    let (vid, pid, serial) =
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next());
    // A Black Magic Probe over TCP has HOST:PORT where others have a serial number.
    if let Some(address) = serial.filter(|s| s.contains(':')) {
        use std::net::ToSocketAddrs;
        let answers = address.to_socket_addrs().is_ok_and(|mut found| {
            found.any(|a| std::net::TcpStream::connect_timeout(&a, PROBE_ANSWER).is_ok())
        });
        return if answers {
            Check::ok(name, shown)
        } else {
            let remedy = "Start the probe's server (a virtual board: virtual-board), or correct the address";
            Check::new(name, Status::Fail, format_args!("{shown}: nobody answers at {address}"), remedy)
        };
    }
    let number = |hex: &str| u16::from_str_radix(hex.split('-').next().unwrap_or_default(), 16).ok();
    let found = crate::hardware::probe::list();
    let is_it = |p: &crate::config::ProbeDescription| {
        Some(p.vid) == number(vid)
            && Some(p.pid) == number(pid)
            && serial.is_none_or(|s| p.serial.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(s)))
    };
    if found.iter().any(is_it) {
        return Check::ok(name, shown);
    }
    let mut check = Check::failed(name, &Failure::new(crate::failure::FailureCode::NoProbe, &shown));
    if !found.is_empty() {
        let there: Vec<_> = found.iter().map(|p| format!("{} ({})", p.selector(), p.product)).collect();
        check.detail = format!("{}; plugged in: {}", check.detail, there.join(", "));
    }
    check
}

/// Opens the port's file as the line will, without changing its settings.
#[cfg_attr(not(feature = "hardware"), allow(dead_code))]
fn port(fixture: &Fixture) -> Check {
    let name = "port";
    let shown = format!("fixture {}: {}", fixture.name, fixture.serial);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // O_NOCTTY: a port must not become this program's terminal; O_NONBLOCK: a modem line must not hold us.
        let flags = rustix::fs::OFlags::NOCTTY.bits() | rustix::fs::OFlags::NONBLOCK.bits();
        let opened = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags as i32)
            .open(&fixture.serial);
        match opened {
            Ok(_) => Check::ok(name, shown),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Check::new(
                name,
                Status::Fail,
                format_args!("{shown}: this user may not use it"),
                "Add the user to the port's group (usually dialout), then log in again",
            ),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Check::new(
                name,
                Status::Fail,
                format_args!("{shown} is not there"),
                "Check the cable and the port's name in station.toml",
            ),
            Err(e) => Check::new(
                name,
                Status::Fail,
                format_args!("{shown}: {e}"),
                "Close the program that holds it",
            ),
        }
    }
    #[cfg(not(unix))]
    Check::new(
        name,
        Status::Warn,
        format_args!("{shown} was not looked at"),
        "Start a unit; the line says what is wrong",
    )
}

fn clock(now_ms: i64, newest_ms: Option<i64>) -> Check {
    let name = "clock";
    let shown = crate::export::Stamp(now_ms);
    if !(EARLIEST_MS..LATEST_MS).contains(&now_ms) {
        return Check::new(name, Status::Fail, format_args!("it says {shown}"), "Set the system's clock");
    }
    match newest_ms {
        Some(newest) if newest > now_ms + CLOCK_SLACK_MS => Check::new(
            name,
            Status::Warn,
            format_args!("it says {shown}, but the records know of {}", crate::export::Stamp(newest)),
            "Set the system's clock; the records keep their order, but their times would run backwards",
        ),
        _ => Check::ok(name, shown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_checked_against_the_calendar_and_the_records() {
        let now = 1_795_250_400_000;
        assert_eq!(clock(now, None).status, Status::Ok);
        assert_eq!(clock(now, Some(now + 1000)).status, Status::Ok);
        assert_eq!(clock(now, Some(now + 3_600_000)).status, Status::Warn);
        assert_eq!(clock(0, None).status, Status::Fail);
        assert_eq!(clock(LATEST_MS, None).status, Status::Fail);
    }

    #[test]
    fn space_is_judged_in_three_steps() {
        assert_eq!(space_of(0).status, Status::Fail);
        assert_eq!(space_of(MIN_FREE).status, Status::Warn);
        assert_eq!(space_of(LOW_FREE).status, Status::Ok);
        assert!(space_of(0).remedy.is_some() && space_of(LOW_FREE).remedy.is_none());
    }

    #[test]
    fn a_missing_home_and_a_missing_port_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(writable(folder.path()).status, Status::Ok);
        let gone = writable(&folder.path().join("gone"));
        assert_eq!(gone.status, Status::Fail);
        assert!(gone.remedy.unwrap().contains("anchors init"));
        let path = folder.path().join("ttyX").display().to_string();
        let missing = port(&Fixture { name: "1".into(), probe: "0483:374b".into(), serial: path });
        assert_eq!(missing.status, if cfg!(unix) { Status::Fail } else { Status::Warn });
        assert!(missing.remedy.is_some());
    }
}
