//! Every view as a picture, compared with those in `station/tests/snapshots/`.
//!
//! What words can tell is tested in each view's own file; here is what only a picture shows: colours, alignment, what overlaps, what is
//! cut. A view is one line of [`pictures`]; `UPDATE_SNAPSHOTS=1 cargo test --workspace --lib pictures` takes its pictures. They are
//! painted on the processor from scenes with fixed times, so they are the same on every machine.

use super::line_view::tests::World;
use super::scripted::{self, Scene, scene};
use super::traveler_view::Panel;
use super::{
    PersonForm, SettingsState, Tab, Theme, audit_view, batches_view, export_view, first_view, install,
    lock_screen, order_view, shift_view, theme, trust_view,
};
use crate::desk::Act;
use crate::failure::FailureCode;
use crate::first_run::{self, Facts};
use crate::i18n::Language;
use crate::line::{PreflightView, Step};
use crate::model::{LabelPolicy, UnitState};
use crate::people::{Role, office};
use crate::preflight::Name;
use crate::settings::StationFile;
use egui_kittest::Harness;
use keywright_pictures::{Raster, RgbaImage};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How a view is looked at.
struct Look {
    name: &'static str,
    /// Pixels.
    size: [f32; 2],
    /// Pixels of a point: what the window chooses for its size.
    scale: f32,
    theme: Theme,
    language: Language,
}

const LIGHT: Look = Look {
    name: "light",
    size: [1280.0, 800.0],
    scale: 1.0,
    theme: Theme::Light,
    language: Language::English,
};
const DARK: Look = Look { name: "dark", theme: Theme::Dark, ..LIGHT };
const CONTRAST: Look = Look { name: "contrast", theme: Theme::Contrast, ..LIGHT };
const SMALL: Look = Look { name: "small", size: [1024.0, 640.0], ..LIGHT };
const CHINESE: Look = Look { name: "chinese", language: Language::Chinese, ..LIGHT };
const WALL: Look = Look { name: "4k", size: [3840.0, 2160.0], scale: 2.4, theme: Theme::Dark, ..LIGHT };

/// For what stands in a main view: small is light as well.
const FEW: &[Look] = &[DARK, SMALL, CHINESE];
const MAIN: &[Look] = &[LIGHT, DARK, CONTRAST, SMALL, CHINESE];
/// 4K pictures are large files.
const ALL: &[Look] = &[LIGHT, DARK, CONTRAST, SMALL, CHINESE, WALL];

/// Sets a world up; it gets the present of its clocks.
type Arrange = fn(&mut World, Instant);

macro_rules! pictures {
    ($($name:ident: $looks:expr, $arrange:expr;)+) => {
        const VIEWS: &[(&str, &[Look])] = &[$((stringify!($name), $looks)),+];
        $(#[test] fn $name() { check(stringify!($name), $looks, $arrange); })+
    };
}

pictures! {
    line: MAIN, |w, now| w.snapshot = scene(Scene::Gallery, now);
    line_32: &[LIGHT, SMALL, WALL], |w, now| w.snapshot = scene(Scene::Busy(32), now);
    line_waits: FEW, waits;
    line_sample: FEW, |w, now| {
        waits(w, now);
        w.snapshot.fixtures[2].held = true;
        w.snapshot.fixtures[2].waits_for_sample = true;
        w.view.line_ask = super::line_ask::LineAsk::sample(&w.snapshot);
    };
    line_cancel: FEW, |w, now| {
        waits(w, now);
        w.snapshot.sample = None;
        w.snapshot.fixtures[0] = scripted::running(1, Step::Flash, "writing app", 0.3, now, 4);
        w.snapshot.counts = crate::model::BatchCounts { passed: 498, failed: 0, scrapped: 2, in_progress: 2, ..w.snapshot.counts };
        w.view.line_ask = Some(super::line_ask::LineAsk::Cancel { focused: false });
    };
    line_empty: FEW, |w, now| w.snapshot = scene(Scene::NoBatch, now);
    units: ALL, |w, _| (w.view.tab, w.desk) = (Tab::Units, scripted::desk(UnitState::Passed));
    units_decision: FEW, decision;
    units_empty: FEW, |w, _| w.view.tab = Tab::Units;
    units_found: FEW, |w, _| {
        (w.view.tab, w.desk) = (Tab::Units, scripted::desk(UnitState::Passed));
        w.view.units.query = "104".into();
        w.desk.search = Some(scripted::answer(1, "104", 60).into());
    };
    units_traveler: FEW, |w, _| {
        (w.view.tab, w.desk) = (Tab::Units, scripted::desk(UnitState::Passed));
        w.view.units.story.panel = Panel::Traveler;
    };
    units_compare: FEW, |w, _| {
        (w.view.tab, w.desk) = (Tab::Units, scripted::desk(UnitState::Passed));
        w.desk.file = Some(scripted::compared(true).into());
        w.view.units.story.panel = Panel::Compare;
    };
    batches: ALL, |w, _| (w.view.tab, w.desk.office) = (Tab::Batches, batches_view::tests::office(Some(0)));
    batches_wizard: FEW, wizard;
    batches_order: FEW, |w, _| (w.view.tab, w.desk.office) = (Tab::Batches, order_view::tests::office(true));
    batches_leaked: FEW, |w, _| {
        (w.view.tab, w.desk.office) = (Tab::Batches, order_view::tests::office(true));
        w.desk.office.reached = Some(order_view::tests::reached());
        w.view.batches.order = w.desk.office.order.as_deref().map(order_view::OrderForm::leaked);
    };
    exports: MAIN, |w, _| export_view::tests::previewed(&mut w.view);
    exports_file: FEW, |w, _| export_view::tests::filing(&mut w.view);
    exports_log: FEW, |w, _| export_view::tests::logged(&mut w.view);
    exports_check: FEW, |w, _| export_view::tests::checked(&mut w.view);
    lock: MAIN, |w, now| {
        w.snapshot = scene(Scene::Busy(4), now);
        w.people = lock_screen::tests::gate(Some(lock_screen::tests::who(Role::Technician)), true);
    };
    settings: MAIN, station_file;
    people: FEW, |w, _| {
        w.view.tab = Tab::People;
        w.people = office::Snapshot { persons: lock_screen::tests::persons(), ..lock_screen::tests::logged_in(Role::Admin) };
    };
    people_own_pin: FEW, |w, _| {
        w.people = lock_screen::tests::logged_in(Role::Technician);
        w.view.people.form = Some(PersonForm::own_refused(&lock_screen::tests::who(Role::Technician)));
    };
    person_menu: FEW, |w, _| {
        w.people = lock_screen::tests::logged_in(Role::Qa);
        w.view.people.menu = true;
    };
    audit_broken: FEW, |w, _| {
        w.view.tab = Tab::Audit;
        w.people = audit_view::tests::broken();
    };
    audit: FEW, |w, _| {
        w.view.tab = Tab::Audit;
        w.people = lock_screen::tests::logged_in(Role::Admin);
        w.people.audit = audit_view::tests::entries().into();
    };
    shift: MAIN, |w, _| (w.view.tab, w.view.shift.seen) = (Tab::Shift, shift_view::tests::snapshot().into());
    trust: MAIN, |w, _| {
        (w.view.tab, w.view.trust.seen) = (Tab::Trust, trust_view::tests::snapshot().into());
        w.people = lock_screen::tests::logged_in(Role::Admin);
    };
    preflight: FEW, |w, _| {
        let bad = scripted::checked(Name::Disk, Some(FailureCode::DiskFull), None);
        let checks = vec![scripted::checked(Name::Clock, None, None), bad].into();
        w.snapshot.preflight = PreflightView { checking: false, checks };
    };
    first: FEW, |w, _| {
        let facts = Facts { people: Some(0), anchors: None, has_anchors: false, rehearsed: false, ..first_view::tests::whole() };
        w.guide = Some(first_view::tests::at(first_run::Step::People, facts));
    };
    first_login: FEW, |w, _| w.guide = Some(first_view::tests::nobody());
    alarms: FEW, |w, _| (w.view.alarms, w.desk.alarms) = (true, scripted::alarms());
    help: FEW, |w, _| w.view.help = true;
}

/// A label is to be scanned and a sample to be checked.
fn waits(world: &mut World, now: Instant) {
    world.snapshot = scene(Scene::Ready(3), now);
    let mut fixture = scripted::running(2, Step::Label, "stick the label on and scan it", 0.6, now, 40);
    if let Some(running) = &mut fixture.running {
        running.scan = Some(crate::line::ScanView { serial: "KW429-01042".into(), labels: 1, problem: None });
    }
    world.snapshot.fixtures[1] = fixture;
    if let Some((_, order)) = &mut world.snapshot.batch {
        order.label = LabelPolicy::ScanBack;
    }
    let serials = vec!["KW429-01050".into(), "KW429-01049".into()];
    world.snapshot.sample = Some(crate::line::SampleView { waiting: 50, serials });
}

/// What dies is said before a unit starts anew.
fn decision(world: &mut World, _: Instant) {
    world.view.tab = Tab::Units;
    world.desk = scripted::desk(UnitState::Passed);
    let seen = super::Seen { line: &world.snapshot, desk: &world.desk, people: &world.people };
    let unit = scripted::unit_file(UnitState::Passed).unit.id;
    let mut form = super::Form::new(unit, Act::NewStart, seen);
    form.reason = "RMA 2291".into();
    world.view.units.form = Some(form);
}

/// An order with a field that is wrong.
fn wizard(world: &mut World, _: Instant) {
    world.view.tab = Tab::Batches;
    world.desk.office = batches_view::tests::office(Some(0));
    let mut wizard = batches_view::Wizard::default();
    *wizard.draft.text(crate::orders::Field::Name) = "PO-2026-0418".into();
    *wizard.draft.text(crate::orders::Field::Model) = "KW-METER".into();
    world.view.batches.wizard = Some(wizard);
}

fn station_file(world: &mut World, _: Instant) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("station.toml");
    std::fs::write(&path, include_str!("../../../assets/station.example.toml")).expect("written");
    world.view.settings = Some(SettingsState::new(StationFile::new(&path).read().expect("a good file")));
    world.view.has_settings = true;
    world.view.settings_path = "/srv/keywright/station.toml".into();
}

fn picture(look: &Look, arrange: impl FnOnce(&mut World, Instant)) -> RgbaImage {
    let now = Instant::now();
    let mut world = World::new(scene(Scene::Ready(2), now));
    world.view.now = now;
    world.view.language = look.language;
    arrange(&mut world, now);
    let (chosen, scale) = (look.theme, look.scale);
    let mut harness = Harness::builder()
        .with_size(egui::Vec2::from(look.size) / scale)
        .with_pixels_per_point(scale)
        .with_theme(if chosen == Theme::Light { egui::Theme::Light } else { egui::Theme::Dark })
        .with_step_dt(1.0 / 60.0)
        .with_max_steps(200)
        .with_render_cursor(false)
        .with_context_setup(move |ctx| {
            install(ctx);
            theme::choose(ctx, chosen);
        })
        .renderer(Raster::default())
        .build_ui_state(
            |ui, world: &mut World| {
                // All of the screen, as in the window: the harness leaves a margin.
                let screen = ui.ctx().content_rect();
                ui.set_clip_rect(screen);
                ui.scope_builder(egui::UiBuilder::new().max_rect(screen), |ui| world.ui(ui));
            },
            world,
        );
    // Dialogs find their size in the first frames.
    harness.run_steps(3);
    harness.render().expect("a picture")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots")
}

fn check(view: &str, looks: &[Look], arrange: Arrange) {
    let told: Vec<_> = looks
        .iter()
        .filter_map(|look| {
            let picture = picture(look, arrange);
            keywright_pictures::check(&folder(), &format!("{view}-{}", look.name), &picture).err()
        })
        .collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn every_picture_belongs_to_a_view() {
    let known: BTreeSet<_> = VIEWS
        .iter()
        .flat_map(|(view, looks)| looks.iter().map(move |look| format!("{view}-{}.png", look.name)))
        .collect();
    let kept = std::fs::read_dir(folder()).expect("the pictures").map(|e| e.expect("a file").file_name());
    let kept: BTreeSet<_> = kept.map(|name| name.to_string_lossy().into_owned()).collect();
    let left: Vec<_> =
        kept.difference(&known).filter(|n| !n.ends_with(".new.png") && !n.ends_with(".diff.png")).collect();
    assert!(left.is_empty(), "nothing takes these pictures any more: {left:?}");
}

#[test]
fn one_word_one_shade_and_one_pixel_are_noticed() {
    let gallery: fn(&mut World, Instant) = |w, now| w.snapshot = scene(Scene::Gallery, now);
    let before = picture(&LIGHT, gallery);
    let again = picture(&LIGHT, gallery);
    assert!(keywright_pictures::difference(&before, &again).is_none(), "the same scene is the same picture");
    let word = picture(&LIGHT, |w, now| {
        gallery(w, now);
        w.snapshot.fixtures[3].name = "Fixture A".into();
    });
    let found = keywright_pictures::difference(&before, &word).expect("another word");
    assert!((5..500).contains(&found.pixels), "{} pixels", found.pixels);
    let mut shade = before.clone();
    shade.get_pixel_mut(640, 400).0[2] ^= 0x10;
    assert_eq!(keywright_pictures::difference(&before, &shade).expect("another shade").pixels, 1);
}
