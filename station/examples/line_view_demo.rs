//! Design gallery of the window: scripted lines in every state, no hardware, no records.
//!
//! `cargo run -p keywright --no-default-features --features gui --example line_view_demo -- busy 12 dark`
//! Words in any order: a scene (`gallery`, `ready`, `busy`, `nobatch`, `nofixtures`, `closed`, `paused`, `trouble`), a
//! number of fixtures, `units` (the Units view) with `unit`, `order`, `scrapped`, `notfound` or `working`, `alarms`, `light`,
//! `dark` or `contrast`, `failed`, `warned`, `checking` or `fine` (the checks), `auto` (boards that start by themselves), `chinese`, `150%`, `FILE.toml` with `settings`, `demo` (the banner), `WIDTHxHEIGHT`, and `FILE.png` to take a picture and close.

use keywright::desk::{Act, Job, Told};
use keywright::failure::{Failure, FailureCode};
use keywright::gui::scripted::{self, Scene, ScriptedDesk, ScriptedLine, scene};
use keywright::gui::{GuiError, Options, Screenshot, Tab, Theme, run};
use keywright::i18n::Language;
use keywright::line::Step;
use keywright::model::UnitState;
use keywright::preflight::{Check, Name, Status};
use keywright::records::ReprovisionKind;
use keywright::settings::StationFile;
use std::sync::Arc;
use std::time::Instant;

/// What the preflight found, two of it not in order if `bad` says how.
fn preflight(bad: Option<Status>) -> Vec<Check> {
    let mut checks: Vec<_> =
        [Name::Disk, Name::Database, Name::Image, Name::ProductKey, Name::Agent, Name::Clock]
            .into_iter()
            .map(|name| scripted::checked(name, None, None))
            .collect();
    if let Some(status) = bad {
        checks.push(scripted::checked(Name::Broker, Some(FailureCode::BrokerUnreachable), None));
        checks.push(scripted::checked(Name::Port, Some(FailureCode::PortMissing), Some(1)));
        checks.iter_mut().filter(|c| c.failure.is_some()).for_each(|c| c.status = status);
    }
    checks
}

fn main() -> Result<(), GuiError> {
    let (mut which, mut count, mut demo) = ("gallery".to_string(), 8, false);
    let mut desk = keywright::desk::Snapshot { regions: vec![7, 8, 9], ..Default::default() };
    let (mut works, mut auto, mut checks) = (false, false, String::new());
    let mut options = Options { title: "Keywright, design gallery".into(), ..Options::default() };
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "light" => options.theme = Theme::Light,
            "dark" => options.theme = Theme::Dark,
            "contrast" => options.theme = Theme::Contrast,
            "chinese" => options.language = Language::Chinese,
            percent if percent.ends_with('%') => {
                options.zoom = percent.trim_end_matches('%').parse().map_or(1.0, |n: f32| n / 100.0);
            }
            toml if toml.ends_with(".toml") => options.file = Some(StationFile::new(toml)),
            "settings" => options.settings = true,
            "demo" => demo = true,
            "units" => options.tab = Tab::Units,
            "failed" | "warned" | "checking" | "fine" => checks.clone_from(&word),
            "auto" => auto = true,
            "alarms" => desk.alarms = scripted::alarms(),
            "unit" => desk.file = Some(Arc::new(scripted::unit_file(UnitState::Passed))),
            "scrapped" => desk.file = Some(Arc::new(scripted::unit_file(UnitState::Scrapped))),
            "order" | "working" => {
                let mut file = scripted::unit_file(UnitState::Passed);
                file.orders.insert(0, scripted::reprovision(ReprovisionKind::NewStart, true));
                works = word == "working";
                if works {
                    let (unit, serial) = (file.unit.id, file.unit.serial.clone());
                    let (act, operator) = (Act::NewStart, String::new());
                    desk.job = Some(Job { unit, serial, fixture: 0, act, order: 2, operator });
                    desk.told = Told::Working(format!("The order stands; {} is in work", file.unit.serial));
                }
                desk.file = Some(Arc::new(file));
            }
            "compared" => desk.file = Some(Arc::new(scripted::compared(true))),
            "rma" => {
                let mut file = scripted::unit_file(UnitState::Passed);
                file.rmas = vec![scripted::rma(true)];
                desk.file = Some(Arc::new(file));
            }
            "notfound" => {
                desk.told = Told::Failed(Failure {
                    code: FailureCode::InvalidInput,
                    sentence: "No unit has the hardware id or serial \"B-2041-00017\"".into(),
                    remedy:
                        "Scan the label again; a hardware id has 24 hex digits, a serial looks like B1-00042K"
                            .into(),
                });
            }
            file if file.ends_with(".png") => {
                options.screenshot = Some(Screenshot { path: file.into(), then_close: true });
            }
            other => {
                let size = other.split_once('x').and_then(|(w, h)| Some([w.parse().ok()?, h.parse().ok()?]));
                if let Some(size) = size {
                    options.size = size;
                } else if let Ok(n) = other.parse() {
                    count = n;
                } else {
                    which = other.into();
                }
            }
        }
    }
    let which = match which.as_str() {
        "ready" => Scene::Ready(count),
        "busy" => Scene::Busy(count),
        "nobatch" => Scene::NoBatch,
        "nofixtures" => Scene::NoFixtures,
        "closed" => Scene::Closed,
        "paused" => Scene::Paused,
        "trouble" => Scene::StationTrouble,
        _ => Scene::Gallery,
    };
    let now = Instant::now();
    let mut snapshot = scene(which, now);
    snapshot.demo = demo;
    snapshot.preflight.checking = checks == "checking";
    snapshot.preflight.checks = Arc::new(match checks.as_str() {
        "failed" => preflight(Some(Status::Fail)),
        "warned" => preflight(Some(Status::Warn)),
        "fine" => preflight(None),
        _ => Vec::new(),
    });
    if auto {
        snapshot.auto_start = true;
        for (n, fixture) in snapshot.fixtures.iter_mut().enumerate().filter(|(_, f)| f.present == Some(true))
        {
            fixture.starts = Some(now);
            fixture.held = n == 0;
        }
    }
    if let (true, Some(file)) = (works, &desk.file) {
        let mut fixture = scripted::running(1, Step::Flash, "writing app 312/512 KiB", 0.61, now, 14);
        if let Some(running) = fixture.running.as_mut() {
            running.qa = Some(file.unit.id);
            (running.unit, running.serial) = (Some(file.unit.id), Some(file.unit.serial.clone()));
        }
        if let Some(first) = snapshot.fixtures.first_mut() {
            *first = fixture;
        }
    }
    run(
        (Box::new(ScriptedLine::new(snapshot)), Box::new(ScriptedDesk::new(desk))),
        None,
        None,
        None,
        None,
        options,
    )
}
