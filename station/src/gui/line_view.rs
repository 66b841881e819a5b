//! The Line view: what a technician sees all day.
//!
//! Invariants: it reads a snapshot and returns commands, nothing else; nothing on the way from one board to the next
//! opens a dialog; everything works without a mouse.

use super::Theme;
use super::batches_view::BatchesState;
use super::copy;
use super::export_view::ExportsState;
use super::files::Files;
use super::icons::{self, Icon};
use super::layout::{Density, Grid};
use super::line_ask::{self, LineAsk};
use super::no_fixtures;
use super::people_view::PeopleState;
use super::preflight_view::PreflightState;
use super::settings_view::{SettingsState, Wish};
use super::shift_view::ShiftState;
use super::state::{self, Seat, State};
use super::theme::{self, Palette, Tone, palette, regular, strong};
use super::tile::{Act, Tile};
use super::trust_view::TrustState;
use super::units_view::UnitsState;
use super::wedge::Wedge;
use super::widgets;
use crate::failure::Failure;
use crate::host;
use crate::i18n::{self, Language, tr};
use crate::line::{Command, Snapshot};
use crate::model::{BatchState, LabelPolicy};
use egui::{Align2, EventFilter, Key, Modifiers, Rect, Stroke, StrokeKind, Ui, UiBuilder, pos2, vec2};
use std::sync::Arc;
use std::time::Instant;

/// The open list of batches.
#[derive(Clone, Debug, Default)]
pub struct Picker {
    /// What was typed.
    pub query: String,
    /// The line that Enter takes.
    pub at: usize,
    /// The search field was given the keyboard.
    pub focused: bool,
}

/// They start the first fixtures.
const DIGITS: [Key; 9] =
    [Key::Num1, Key::Num2, Key::Num3, Key::Num4, Key::Num5, Key::Num6, Key::Num7, Key::Num8, Key::Num9];

/// What the window shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    /// The line: boards become units.
    Line,
    /// One unit: what QA does with it.
    Units,
    /// Who works here.
    People,
    /// What people did.
    Audit,
    /// Orders and batches.
    Batches,
    /// What leaves the station, and what left it.
    Exports,
    /// The line's figures and the end of a shift.
    Shift,
    /// Root, regions, and what rotates when.
    Trust,
}

/// What the window itself remembers; nothing of it is a fact about units.
#[derive(Clone, Debug)]
pub struct ViewState {
    /// The present, set before every frame.
    pub now: Instant,
    /// One per fixture.
    pub seats: Vec<Seat>,
    /// The batch list is open.
    pub picker: Option<Picker>,
    /// The operator's name is being edited.
    pub operator: Option<String>,
    /// The help is open.
    pub help: bool,
    /// The power-cut matrix is open.
    pub matrix: bool,
    /// The newest word to the operator; stays until the next key or press.
    pub notice: Option<String>,
    /// That word, if it says that something was copied: it needs no copying itself.
    pub copied: Option<String>,
    /// The window waits for running units before it closes.
    pub closing: bool,
    /// The fixture that the strip below compact tiles shows.
    pub shown: Option<usize>,
    /// What the window shows.
    pub tab: Tab,
    /// The list of alarms is open.
    pub alarms: bool,
    /// The Units view.
    pub units: UnitsState,
    /// Lock screen, people and audit log.
    pub people: PeopleState,
    /// Orders and batches.
    pub batches: BatchesState,
    /// What was typed and is not yet told apart: a code that is scanned, or a person's keys.
    pub wedge: Wedge,
    /// What is asked before something that can't be taken back.
    pub line_ask: Option<LineAsk>,
    /// What was scanned while no label was waited for: its history is offered.
    pub offered: Option<String>,
    /// Whether the station is ready.
    pub preflight: PreflightState,
    /// The Exports view.
    pub exports: ExportsState,
    /// The Shift view.
    pub shift: ShiftState,
    /// The Trust view.
    pub trust: TrustState,
    /// What the window speaks.
    pub language: Language,
    /// The settings, while they are shown.
    pub settings: Option<SettingsState>,
    /// There is a station.toml to show.
    pub has_settings: bool,
    /// Where it lies.
    pub settings_path: String,
    /// Files that were chosen in the system's dialogs.
    pub files: Files,
    /// There is a host: the station can be set up and opened again from here.
    pub has_host: bool,
    /// What it says.
    pub host: Arc<host::Snapshot>,
    /// What an empty line asks of it.
    pub(super) host_asks: Vec<host::Command>,
    /// What an empty line asks of the settings.
    pub(super) settings_asks: Vec<Wish>,
}

impl Default for ViewState {
    fn default() -> Self {
        Self {
            now: Instant::now(),
            seats: Vec::new(),
            picker: None,
            operator: None,
            help: false,
            matrix: false,
            notice: None,
            copied: None,
            closing: false,
            shown: None,
            tab: Tab::Line,
            alarms: false,
            units: UnitsState::default(),
            people: PeopleState::default(),
            batches: BatchesState::default(),
            wedge: Wedge::default(),
            line_ask: None,
            offered: None,
            preflight: PreflightState::default(),
            exports: ExportsState::default(),
            shift: ShiftState::default(),
            trust: TrustState::default(),
            language: Language::English,
            settings: None,
            has_settings: false,
            settings_path: String::new(),
            files: Files::default(),
            has_host: false,
            host: Arc::default(),
            host_asks: Vec::new(),
            settings_asks: Vec::new(),
        }
    }
}

impl ViewState {
    /// A window that shows this first.
    pub fn opening(tab: Tab) -> Self {
        let units = UnitsState { wants_focus: true, ..UnitsState::default() };
        Self { tab, units, ..Self::default() }
    }

    /// Takes in the newest snapshot.
    pub fn observe(&mut self, snapshot: &Snapshot) {
        self.seats.resize_with(snapshot.fixtures.len(), Seat::default);
        for (seat, fixture) in self.seats.iter_mut().zip(&snapshot.fixtures) {
            seat.observe(fixture);
        }
    }

    /// Says that something was copied.
    pub(super) fn say_copied(&mut self, what: String) {
        self.copied = Some(what.clone());
        self.notice = Some(what);
    }

    /// Light becomes dark and dark light.
    pub fn toggle_theme(&self, ctx: &egui::Context) {
        let next = if ctx.theme() == egui::Theme::Dark { Theme::Light } else { Theme::Dark };
        theme::choose(ctx, next);
    }
}

/// Where the line goes in the room that is left for it.
pub(super) struct Plan {
    room: Rect,
    grid: Grid,
    strip: Option<Rect>,
    focused: Option<usize>,
}

/// Says what stands in the way of the line, and lays out what is left of `room`.
pub(super) fn plan(ui: &mut Ui, mut room: Rect, snapshot: &Snapshot) -> Plan {
    batch_notices(ui, &mut room, snapshot, palette(ui.ctx()));
    let mut grid = Grid::new(snapshot.fixtures.len(), room.size());
    let mut strip = None;
    if grid.density != Density::Full {
        let rect = Rect::from_min_max(pos2(room.left(), room.bottom() - 92.0), room.max);
        room.max.y = rect.top() - 9.0;
        strip = Some(rect);
        grid = Grid::new(snapshot.fixtures.len(), room.size());
    }
    Plan { room, grid, strip, focused: focused_tile(ui, snapshot) }
}

/// Tiles, and the strip below compact ones.
pub(super) fn body(
    ui: &mut Ui,
    plan: &Plan,
    snapshot: &Snapshot,
    view: &mut ViewState,
    out: &mut Vec<Command>,
) {
    let p = palette(ui.ctx());
    let grid = &plan.grid;
    if snapshot.fixtures.is_empty() {
        no_fixtures::show(ui, plan.room, snapshot, view, p);
    } else {
        tiles(ui, plan.room, snapshot, view, grid, out);
    }
    offer_failures(ui, snapshot, plan.focused);
    let Some(rect) = plan.strip else { return };
    let hovered = ui.input(|i| i.pointer.hover_pos()).and_then(|at| {
        (0..snapshot.fixtures.len())
            .find(|i| ui.ctx().read_response(Tile::id(*i)).is_some_and(|r| r.rect.contains(at)))
    });
    // It stays when the pointer goes on to the strip's own buttons.
    view.shown = plan.focused.or(hovered).or(view.shown).filter(|i| *i < snapshot.fixtures.len());
    match view.shown {
        Some(i) => strip(ui, rect, i, snapshot, view, out),
        None => {
            let text = tr!("line-strip-empty");
            ui.painter().rect(rect, 12.0, p.surface, Stroke::new(1.0, p.border), StrokeKind::Inside);
            widgets::line(ui, rect, Align2::CENTER_CENTER, text, regular(15.0), p.muted);
        }
    }
}

/// Ctrl+C takes the failure of the tile in focus, or of all; each tile has a button of its own.
fn offer_failures(ui: &Ui, snapshot: &Snapshot, focused: Option<usize>) {
    for (i, fixture) in snapshot.fixtures.iter().enumerate() {
        if focused.is_none_or(|f| f == i)
            && let Some(failure) = state::failure(fixture)
        {
            copy::offer(ui, &state::copy_text(fixture, failure));
        }
    }
}

/// One fixture in full on one strip.
pub(super) fn strip(
    ui: &mut Ui,
    rect: Rect,
    index: usize,
    snapshot: &Snapshot,
    view: &mut ViewState,
    out: &mut Vec<Command>,
) {
    let grid = Grid::new(1, rect.size());
    if let Some(act) = tile(snapshot, view, index, &grid).strip(ui, rect) {
        carry_out(ui, snapshot, view, index, act, out);
    }
}

fn tile<'a>(snapshot: &'a Snapshot, view: &'a ViewState, index: usize, grid: &Grid) -> Tile<'a> {
    let fixture = &snapshot.fixtures[index];
    Tile {
        index,
        fixture,
        seat: &view.seats[index],
        startable: !view.closing && state::may_start(snapshot, fixture).is_ok(),
        locks: snapshot.batch.as_ref().is_none_or(|(_, order)| order.lock),
        labels: snapshot.batch.as_ref().is_some_and(|(_, order)| order.label != LabelPolicy::None),
        gated: snapshot.sample.is_some(),
        stopped: !snapshot.preflight.checking && snapshot.preflight.stops(index).is_some(),
        auto: snapshot.auto_start && !view.closing,
        density: grid.density,
        scale: grid.scale(),
        now: view.now,
    }
}

fn focused_tile(ui: &Ui, snapshot: &Snapshot) -> Option<usize> {
    let id = ui.ctx().memory(|m| m.focused())?;
    (0..snapshot.fixtures.len()).find(|i| Tile::id(*i) == id)
}

fn tiles(
    ui: &mut Ui,
    room: Rect,
    snapshot: &Snapshot,
    view: &mut ViewState,
    grid: &Grid,
    out: &mut Vec<Command>,
) {
    // The clip leaves room for focus rings at the edges.
    let count = snapshot.fixtures.len();
    let mut acts = Vec::new();
    ui.scope_builder(UiBuilder::new().max_rect(room), |ui| {
        ui.set_clip_rect(room.expand(7.0).intersect(ui.clip_rect()));
        use egui::scroll_area::ScrollBarVisibility::{AlwaysVisible, VisibleWhenNeeded};
        // Nobody looks for fixtures that are out of sight.
        let bar = if grid.height(count) > room.height() { AlwaysVisible } else { VisibleWhenNeeded };
        let area = egui::ScrollArea::vertical().id_salt("fixtures").auto_shrink(false);
        area.scroll_bar_visibility(bar).show(ui, |ui| {
            ui.set_clip_rect(room.expand(7.0));
            let (area, _) =
                ui.allocate_exact_size(vec2(room.width(), grid.height(count)), egui::Sense::hover());
            for i in 0..count {
                if let Some(act) = tile(snapshot, view, i, grid).show(ui, grid.rect(i, area.min)) {
                    acts.push((i, act));
                }
                // Arrows move between tiles and Esc cancels, so the focus must not run away with them.
                ui.memory_mut(|m| {
                    m.set_focus_lock_filter(
                        Tile::id(i),
                        EventFilter {
                            tab: false,
                            horizontal_arrows: true,
                            vertical_arrows: true,
                            escape: true,
                        },
                    );
                });
            }
        });
    });
    for (i, act) in acts {
        carry_out(ui, snapshot, view, i, act, out);
    }
}

fn carry_out(ui: &Ui, snapshot: &Snapshot, view: &mut ViewState, i: usize, act: Act, out: &mut Vec<Command>) {
    view.notice = None;
    match act {
        Act::Start => start(snapshot, view, i, out),
        Act::Press => {
            let fixture = &snapshot.fixtures[i];
            if state::sweeps(snapshot, fixture, &view.seats[i]) {
                start(snapshot, view, i, out);
            } else {
                ui.memory_mut(|m| m.request_focus(Tile::id(i)));
                if let Err(reason) = state::may_start(snapshot, fixture)
                    && fixture.running.is_none()
                {
                    view.notice = Some(reason);
                }
            }
        }
        Act::Cancel => out.push(Command::Cancel(i)),
        Act::Copy(text) => {
            ui.ctx().copy_text(text);
            view.say_copied(tr!("copied").into());
        }
    }
}

pub(super) fn start(snapshot: &Snapshot, view: &mut ViewState, i: usize, out: &mut Vec<Command>) {
    if view.closing {
        view.notice = Some(tr!("start-closing").into());
        return;
    }
    match snapshot.fixtures.get(i).map(|f| state::may_start(snapshot, f)) {
        Some(Ok(())) => out.push(Command::Start(i)),
        Some(Err(reason)) => view.notice = Some(reason),
        None => view.notice = Some(tr!("start-no-fixture", number = i + 1)),
    }
}

fn start_all(snapshot: &Snapshot, view: &mut ViewState, out: &mut Vec<Command>) {
    if view.closing {
        view.notice = Some(tr!("start-closing").into());
        return;
    }
    if let Some(refusal) = state::batch_refusal(snapshot) {
        view.notice = Some(refusal);
        return;
    }
    let before = out.len();
    for (i, fixture) in snapshot.fixtures.iter().enumerate() {
        if state::sweeps(snapshot, fixture, &view.seats[i]) {
            out.push(Command::Start(i));
        }
    }
    if out.len() == before {
        view.notice = Some(if snapshot.fixtures.iter().any(|f| f.running.is_some()) {
            tr!("start-all-running").into()
        } else {
            tr!("start-no-new-board").into()
        });
    }
}

/// The line's own keys.
pub(super) fn keys(
    ui: &mut Ui,
    snapshot: &Snapshot,
    view: &mut ViewState,
    plan: &Plan,
    out: &mut Vec<Command>,
) {
    let (focused, columns) = (plan.focused, plan.grid.columns);
    let pressed = |key: Key| ui.input(|i| i.key_pressed(key));
    let command = |key: Key| ui.input_mut(|i| i.consume_key(Modifiers::COMMAND, key));
    let escape = pressed(Key::Escape);
    if command(Key::A) {
        out.push(Command::AutoStart(!snapshot.auto_start));
    }
    let count = snapshot.fixtures.len();
    let plain = ui.input(|i| !i.modifiers.command && !i.modifiers.alt);
    if plain && ui.input(|i| i.events.iter().any(|e| matches!(e, egui::Event::Key { pressed: true, .. }))) {
        view.notice = None;
    }
    let nothing_focused = ui.ctx().memory(|m| m.focused().is_none());
    if plain && nothing_focused && pressed(Key::Space) {
        start_all(snapshot, view, out);
    }
    if plain {
        for (fixture, key) in DIGITS.into_iter().enumerate() {
            if pressed(key) {
                start(snapshot, view, fixture, out);
            }
        }
    }
    if escape {
        let running = |i: usize| snapshot.fixtures[i].running.as_ref().is_some_and(|r| !r.cancelling);
        match focused {
            // One that only waits has not begun.
            Some(i) if running(i) || snapshot.fixtures[i].held => out.push(Command::Cancel(i)),
            Some(i) => ui.memory_mut(|m| m.surrender_focus(Tile::id(i))),
            None if line_ask::running(snapshot).next().is_some() => {
                // The dialog would else hear it too, and be gone at once.
                ui.input_mut(|i| i.consume_key(Modifiers::NONE, Key::Escape));
                view.line_ask = Some(LineAsk::Cancel { focused: false });
            }
            None => out.extend((0..count).filter(|i| snapshot.fixtures[*i].held).map(Command::Cancel)),
        }
    }
    if count > 0 && plain && (nothing_focused || focused.is_some()) {
        let last = count - 1;
        let to = match focused {
            None => [Key::ArrowLeft, Key::ArrowRight, Key::ArrowUp, Key::ArrowDown]
                .into_iter()
                .any(pressed)
                .then_some(0),
            Some(at) if pressed(Key::ArrowLeft) => Some(at.saturating_sub(1)),
            Some(at) if pressed(Key::ArrowRight) => Some((at + 1).min(last)),
            Some(at) if pressed(Key::ArrowUp) => Some(at.checked_sub(columns).unwrap_or(at)),
            Some(at) if pressed(Key::ArrowDown) && at + columns <= last => Some(at + columns),
            Some(_) if pressed(Key::Home) => Some(0),
            Some(_) if pressed(Key::End) => Some(last),
            Some(_) => None,
        };
        if let Some(to) = to {
            ui.memory_mut(|m| {
                // egui would move the focus on by its own geometry in the same frame.
                m.move_focus(egui::FocusDirection::None);
                m.request_focus(Tile::id(to));
            });
        }
    }
}

pub(super) fn notice(ui: &mut Ui, room: &mut Rect, tone: Tone, icon: Icon, title: &str, text: &str) {
    strip_of(ui, room, tone, icon, (title, text), None);
}

/// An error, with a button that copies it.
pub(super) fn failed(ui: &mut Ui, room: &mut Rect, tone: Tone, failure: &Failure) {
    let (sentence, remedy) = i18n::failure(failure);
    let title = format!("{} {sentence}", failure.code);
    strip_of(ui, room, tone, Icon::Warning, (&title, &remedy), Some(&copy::told(failure)));
}

fn strip_of(
    ui: &mut Ui,
    room: &mut Rect,
    tone: Tone,
    icon: Icon,
    (title, text): (&str, &str),
    error: Option<&str>,
) {
    let p = palette(ui.ctx());
    let rect = Rect::from_min_size(room.min, vec2(room.width(), 46.0));
    ui.painter().rect(rect, 10.0, tone.soft, Stroke::new(1.0, tone.solid), StrokeKind::Inside);
    let square = Rect::from_center_size(pos2(rect.left() + 26.0, rect.center().y), vec2(22.0, 22.0));
    icons::paint(ui.painter(), square, icon, tone.ink, tone.soft, 0.0);
    let words =
        Rect::from_min_max(pos2(square.right() + 12.0, rect.top()), pos2(rect.right() - 14.0, rect.bottom()));
    let words = match error {
        Some(error) => copy::button(ui, words, error),
        None => words,
    };
    let used = widgets::line(ui, words, Align2::LEFT_CENTER, title, strong(15.5), tone.ink);
    let rest = Rect::from_min_max(pos2(used.right() + 12.0, words.top()), words.max);
    if rest.width() > 40.0 {
        widgets::line(ui, rest, Align2::LEFT_CENTER, text, regular(14.5), p.text);
    }
    room.min.y = rect.bottom() + 10.0;
}

/// What concerns the station as a whole.
pub(super) fn notices(ui: &mut Ui, room: &mut Rect, snapshot: &Snapshot, view: &ViewState) {
    let p = palette(ui.ctx());
    if view.closing {
        let text = tr!("line-closing-text");
        notice(ui, room, p.running, Icon::Turning, tr!("line-closing"), text);
    }
    if let Some(failure) = &snapshot.trouble {
        failed(ui, room, p.error, failure);
    }
}

/// What stands in the way of the line.
fn batch_notices(ui: &mut Ui, room: &mut Rect, snapshot: &Snapshot, p: &Palette) {
    let c = &snapshot.counts;
    // A scrapped unit leaves its place to another one; more than that can't be.
    if c.overfull() > 0 && snapshot.batch.is_some() {
        let counted = c.passed + c.failed + c.scrapped + c.in_progress;
        let title = tr!("line-no-balance", counted = counted, planned = c.planned);
        notice(ui, room, p.error, Icon::Warning, &title, tr!("line-no-balance-text"));
    }
    match &snapshot.batch {
        None if snapshot.batches.is_empty() => {
            notice(ui, room, p.running, Icon::Arrow, tr!("line-no-batch"), tr!("line-no-batch-text"));
        }
        None => {
            let (title, text) = (tr!("line-choose-batch"), tr!("line-choose-batch-text"));
            notice(ui, room, p.running, Icon::Arrow, title, text);
        }
        Some((batch, _)) => {
            let (title, text) = match batch.state {
                BatchState::Open => return,
                BatchState::Paused => {
                    (tr!("line-batch-paused", name = &batch.name), tr!("line-batch-paused-text"))
                }
                BatchState::Closed => {
                    (tr!("line-batch-closed", name = &batch.name), tr!("line-batch-closed-text"))
                }
            };
            notice(ui, room, p.error, Icon::Stop, &title, text);
        }
    }
}

/// What the keys do now, for the line.
pub(super) fn foot(snapshot: &Snapshot, view: &ViewState, plan: &Plan) -> String {
    let focused = plan.focused;
    let ready = (0..snapshot.fixtures.len())
        .filter(|i| state::sweeps(snapshot, &snapshot.fixtures[*i], &view.seats[*i]))
        .count();
    let running = snapshot.fixtures.iter().filter(|f| f.running.is_some()).count();
    match focused {
        Some(i) => {
            let f = &snapshot.fixtures[i];
            match State::of(f) {
                State::Running => tr!("foot-cancels", name = &f.name),
                State::Cancelling => tr!("foot-stops", name = &f.name),
                _ if state::may_start(snapshot, f).is_ok() => {
                    tr!("foot-starts", name = &f.name)
                }
                _ => tr!("foot-focused", name = &f.name),
            }
        }
        None if view.closing || state::batch_refusal(snapshot).is_some() => String::new(),
        None if ready == 1 => tr!("foot-starts-one").into(),
        None if ready > 1 => tr!("foot-starts-some", count = ready),
        None if running > 0 => tr!("foot-running", count = running),
        None if snapshot.fixtures.is_empty() => String::new(),
        None => tr!("foot-waiting").into(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::scripted::{self, Scene, scene};
    use super::super::shell::{Asked, Seen, window_view};
    use super::super::theme;
    use super::*;
    use crate::desk;
    use crate::failure::FailureCode;
    use crate::line::{FixtureView, Step};
    use crate::model::Outcome;
    use crate::people::office;
    use egui_kittest::{Harness, kittest::NodeT, kittest::Queryable};

    /// The view over one snapshot, with what it asked for.
    pub(crate) struct World {
        pub(crate) snapshot: Snapshot,
        pub(crate) desk: desk::Snapshot,
        pub(crate) people: office::Snapshot,
        pub(crate) view: ViewState,
        pub(crate) asked: Asked,
        /// The guide of the first start, if it is what the window shows.
        pub(crate) guide: Option<crate::host::Guide>,
    }

    impl World {
        pub(crate) fn new(snapshot: Snapshot) -> Self {
            Self {
                snapshot,
                desk: desk::Snapshot::default(),
                people: office::Snapshot::default(),
                view: ViewState::default(),
                asked: Asked::default(),
                guide: None,
            }
        }

        /// One frame.
        pub(crate) fn ui(&mut self, ui: &mut Ui) {
            if let Some(guide) = &self.guide {
                let mut state = super::super::FirstState::default();
                super::super::first_view::show(ui, guide, false, &mut state, &mut self.view);
                return;
            }
            let seen = Seen { line: &self.snapshot, desk: &self.desk, people: &self.people };
            let asked = window_view(ui, seen, &mut self.view);
            self.asked.line.extend(asked.line);
            self.asked.desk.extend(asked.desk);
            self.asked.people.extend(asked.people);
            self.asked.host.extend(asked.host);
            self.asked.touched |= asked.touched;
        }

        pub(crate) fn take(&mut self) -> Vec<Command> {
            std::mem::take(&mut self.asked.line)
        }

        pub(crate) fn asked_host(&mut self) -> Vec<crate::host::Command> {
            std::mem::take(&mut self.asked.host)
        }

        pub(crate) fn take_desk(&mut self) -> Vec<desk::Command> {
            std::mem::take(&mut self.asked.desk)
        }
    }

    pub(crate) fn sized(snapshot: Snapshot, size: egui::Vec2, theme: egui::Theme) -> Harness<'static, World> {
        let mut harness = Harness::builder()
            .with_size(size)
            .with_theme(theme)
            .with_step_dt(1.0 / 60.0)
            .with_max_steps(200)
            .with_context_setup(theme::install)
            .build_ui_state(|ui, world: &mut World| world.ui(ui), World::new(snapshot));
        harness.run();
        harness
    }

    pub(crate) fn harness(snapshot: Snapshot) -> Harness<'static, World> {
        sized(snapshot, vec2(1280.0, 720.0), egui::Theme::Light)
    }

    pub(crate) fn press(h: &mut Harness<'static, World>, keys: &[Key]) {
        for key in keys {
            h.key_press(*key);
            h.run();
        }
    }

    pub(crate) fn click(h: &mut Harness<'static, World>, label: &str) {
        h.get_by_label(label).click();
        h.run();
        h.run();
    }

    /// Types into the field of this name, and not into whatever else has it.
    pub(crate) fn type_into(h: &mut Harness<'static, World>, label: &str, text: &str) {
        use egui::accesskit::Role;
        let fields = [Role::TextInput, Role::PasswordInput, Role::MultilineTextInput];
        let field = fields.into_iter().find_map(|role| h.query_by_role_and_label(role, label));
        field.unwrap_or_else(|| panic!("there is no field {label:?}")).focus();
        h.run();
        h.event(egui::Event::Text(text.into()));
        h.run();
    }

    pub(crate) fn is_off(h: &Harness<'static, World>, label: &str) -> bool {
        h.get_by_label(label).accesskit_node().is_disabled()
    }

    /// The number in front of `word` on the screen.
    pub(crate) fn label_numbers(h: &Harness<'static, World>, word: &str) -> u32 {
        let node = h
            .root()
            .children_recursive()
            .filter_map(|n| n.accesskit_node().value().or(n.accesskit_node().label()))
            .find_map(|l| l.strip_suffix(&format!(" {word}")).and_then(|n| n.parse().ok()));
        node.unwrap_or_else(|| panic!("no number of {word} on the screen"))
    }

    fn ready(n: usize) -> Harness<'static, World> {
        harness(scene(Scene::Ready(n), Instant::now()))
    }

    fn with_fixtures(fixtures: Vec<FixtureView>) -> Harness<'static, World> {
        harness(Snapshot { fixtures, ..scene(Scene::Ready(0), Instant::now()) })
    }

    #[test]
    fn space_starts_every_fixture_with_a_board_and_no_other() {
        let now = Instant::now();
        let mut h = with_fixtures(vec![
            scripted::idle(1, Some(true)),
            scripted::idle(2, Some(false)),
            scripted::idle(3, None),
            scripted::running(4, Step::Flash, "writing app", 0.3, now, 4),
            scripted::troubled(5, FailureCode::NoProbe, ""),
            scripted::done(6, Outcome::Pass, None),
        ]);
        h.get_by_label("Space starts 2 boards");
        press(&mut h, &[Key::Space]);
        assert_eq!(h.state_mut().take(), [Command::Start(0), Command::Start(2)]);
    }

    #[test]
    fn space_with_nothing_to_start_says_why() {
        let mut h = with_fixtures(vec![scripted::idle(1, Some(false))]);
        press(&mut h, &[Key::Space]);
        assert_eq!(h.state_mut().take(), []);
        h.get_by_label_contains("No new board to start");
    }

    #[test]
    fn a_digit_starts_its_fixture_or_says_why_not() {
        let mut h = ready(4);
        press(&mut h, &[Key::Num3]);
        assert_eq!(h.state_mut().take(), [Command::Start(2)]);
        press(&mut h, &[Key::Num7]);
        assert_eq!(h.state_mut().take(), []);
        h.get_by_label_contains("There is no fixture 7");
        h.state_mut().snapshot.fixtures[1].present = Some(false);
        press(&mut h, &[Key::Num2]);
        assert_eq!(h.state_mut().take(), []);
        h.get_by_label_contains("No board in Fixture 2: seat one first");
    }

    #[test]
    fn arrows_enter_space_and_escape_work_on_the_tile_in_focus() {
        let mut h = ready(4);
        press(&mut h, &[Key::ArrowRight, Key::ArrowRight]);
        assert!(h.get_by_label("Fixture 2: board ready").is_focused());
        h.get_by_label_contains("Space or Enter starts Fixture 2");
        press(&mut h, &[Key::Enter]);
        assert_eq!(h.state_mut().take(), [Command::Start(1)]);
        press(&mut h, &[Key::Space]);
        assert_eq!(h.state_mut().take(), [Command::Start(1)], "only the tile in focus");
        press(&mut h, &[Key::End, Key::Home, Key::ArrowLeft]);
        assert!(h.get_by_label("Fixture 1: board ready").is_focused());
        press(&mut h, &[Key::Escape]);
        assert!(!h.get_by_label("Fixture 1: board ready").is_focused());
        press(&mut h, &[Key::Space]);
        assert_eq!(h.state_mut().take().len(), 4, "and all again");
    }

    #[test]
    fn tab_alone_reaches_every_tile() {
        let mut h = ready(3);
        let mut reached = std::collections::BTreeSet::new();
        for _ in 0..24 {
            press(&mut h, &[Key::Tab]);
            for n in 1..=3 {
                if h.get_by_label(&format!("Fixture {n}: board ready")).is_focused() {
                    reached.insert(n);
                }
            }
        }
        assert_eq!(reached.len(), 3);
    }

    #[test]
    fn escape_cancels_the_focused_unit_or_all_that_run() {
        let now = Instant::now();
        let mut cancelling = scripted::running(3, Step::Flash, "writing app", 0.5, now, 3);
        if let Some(r) = cancelling.running.as_mut() {
            r.cancelling = true;
        }
        let mut h = with_fixtures(vec![
            scripted::running(1, Step::Flash, "writing app", 0.3, now, 4),
            scripted::running(2, Step::Prove, "challenge", 0.3, now, 4),
            cancelling,
            scripted::idle(4, Some(true)),
        ]);
        press(&mut h, &[Key::Escape]);
        assert_eq!(h.state_mut().take(), [], "all of them are asked about first");
        h.get_by_label("Cancel 2 units").click();
        h.run();
        assert_eq!(h.state_mut().take(), [Command::Cancel(0), Command::Cancel(1)]);
        // The dialog had the keyboard.
        h.run();
        press(&mut h, &[Key::ArrowRight, Key::ArrowRight, Key::Escape]);
        assert_eq!(h.state_mut().take(), [Command::Cancel(1)]);
        h.get_by_label("Cancelling…");
    }

    #[test]
    fn a_press_starts_a_ready_board_and_only_looks_at_a_finished_one() {
        let mut h = with_fixtures(vec![
            scripted::idle(1, Some(true)),
            scripted::done(2, Outcome::Fail, Some(FailureCode::WrongChip)),
        ]);
        h.get_by_label("Board ready").click();
        h.run();
        assert_eq!(h.state_mut().take(), [Command::Start(0)]);
        h.get_by_label("FAIL").click();
        h.run();
        assert_eq!(h.state_mut().take(), []);
    }

    #[test]
    fn a_closed_or_paused_batch_is_named_and_starts_nothing() {
        for (which, word) in [(Scene::Closed, "closed"), (Scene::Paused, "paused")] {
            let mut h = harness(scene(which, Instant::now()));
            h.get_by_label(&format!("Batch B-2041 is {word}"));
            press(&mut h, &[Key::Space, Key::Num4]);
            assert_eq!(h.state_mut().take(), []);
            h.get_by_label("Waits for an open batch");
            assert!(h.get_by_label("Start Fixture 4").accesskit_node().is_disabled());
        }
    }

    #[test]
    fn empty_states_say_what_to_do() {
        let h = harness(scene(Scene::NoBatch, Instant::now()));
        h.get_by_label("No batch yet");
        h.get_by_label_contains("under Batches (Ctrl+3)");
        h.get_by_label("Seat a board in this fixture");
        let h = harness(scene(Scene::NoFixtures, Instant::now()));
        h.get_by_label("No fixtures");
        h.get_by_label_contains("station.toml");
        let h = harness(Snapshot { batch: None, ..scene(Scene::Gallery, Instant::now()) });
        h.get_by_label_contains("Press Ctrl+B");
    }

    #[test]
    fn a_station_in_trouble_says_what_and_what_to_do() {
        let h = harness(scene(Scene::StationTrouble, Instant::now()));
        h.get_by_label_contains("no space left on the disk");
        h.get_by_label_contains("nothing was lost");
    }

    #[test]
    fn counts_that_do_not_balance_are_not_hidden() {
        let mut snapshot = scene(Scene::Gallery, Instant::now());
        assert!(harness(snapshot.clone()).query_by_label_contains("don't balance").is_none());
        snapshot.counts.passed = 600;
        let h = harness(snapshot);
        h.get_by_label("The counts don't balance: 614 units of 500 planned");
    }

    #[test]
    fn help_opens_and_closes_by_key_and_cancels_nothing() {
        for key in [Key::F1, Key::Questionmark] {
            let mut h = harness(scene(Scene::Gallery, Instant::now()));
            press(&mut h, &[key]);
            h.get_by_label("start the fixture with that number");
            press(&mut h, &[Key::Escape]);
            assert!(h.query_by_label("start the fixture with that number").is_none());
            assert_eq!(h.state_mut().take(), []);
        }
    }

    #[test]
    fn the_power_cut_matrix_opens_and_closes_by_key() {
        let mut h = harness(scene(Scene::Gallery, Instant::now()));
        press(&mut h, &[Key::F4]);
        h.get_by_label("What a power cut can do");
        h.get_by_label("Stranded or manual");
        press(&mut h, &[Key::Escape]);
        assert!(h.query_by_label("What a power cut can do").is_none());
        assert_eq!(h.state_mut().take(), []);
    }

    #[test]
    fn the_last_result_stays_until_the_next_unit_starts() {
        let now = Instant::now();
        let mut h = with_fixtures(vec![scripted::done(1, Outcome::Pass, None)]);
        h.get_by_label("Take it out");
        h.state_mut().snapshot.fixtures[0].present = Some(false);
        h.run();
        h.get_by_label("PASS");
        h.get_by_label("Seat the next");
        h.state_mut().snapshot.fixtures[0].present = Some(true);
        h.run();
        h.get_by_label("PASS");
        h.get_by_label("Next is ready");
        let last = h.state().snapshot.fixtures[0].last.clone();
        h.state_mut().snapshot.fixtures[0] =
            FixtureView { last, ..scripted::running(1, Step::Arrive, "reading the chip", 0.1, now, 0) };
        h.run();
        assert!(h.query_by_label("PASS").is_none());
        h.get_by_label("Running");
    }

    #[test]
    fn a_failure_remembers_the_step_it_stopped_in() {
        let now = Instant::now();
        let mut h = with_fixtures(vec![scripted::running(1, Step::CloudKey, "message 1 of 3", 0.3, now, 9)]);
        h.get_by_label("Cloud key: in work");
        assert_eq!(h.state().view.seats[0].step, Some(Step::CloudKey));
        h.state_mut().snapshot.fixtures[0] =
            scripted::done(1, Outcome::Timeout, Some(FailureCode::ExchangeTimeout));
        h.run();
        assert_eq!(h.state().view.seats[0].step, Some(Step::CloudKey));
    }

    #[test]
    fn every_number_of_fixtures_is_on_screen_at_every_size_in_light_and_dark() {
        for (size, theme) in [
            (vec2(1280.0, 720.0), egui::Theme::Light),
            (vec2(1600.0, 900.0), egui::Theme::Dark),
            (vec2(3840.0, 2160.0), egui::Theme::Light),
        ] {
            for n in [1, 2, 5, 8, 13, 32] {
                let h = sized(scene(Scene::Busy(n), Instant::now()), size, theme);
                let screen = Rect::from_min_size(egui::Pos2::ZERO, size);
                for i in 1..=n {
                    let name = format!("Fixture {i}");
                    let node = h.get_by_label(&name);
                    assert!(screen.contains_rect(node.rect()), "{n} at {size:?}: {:?}", node.rect());
                }
            }
        }
    }

    #[test]
    fn in_the_smallest_window_all_thirty_two_are_in_sight_with_their_words() {
        for (language, word) in [(i18n::Language::English, "PASS"), (i18n::Language::Chinese, "通过")] {
            let size = vec2(1024.0, 640.0);
            let mut h = sized(scene(Scene::Busy(32), Instant::now()), size, egui::Theme::Light);
            h.state_mut().view.language = language;
            h.run();
            let strip = h.get_by_label_contains(if word == "PASS" { "in full" } else { "详情" }).rect();
            let mut last = Rect::NOTHING;
            for i in 1..=32 {
                let rect = h.get_by_label(&format!("Fixture {i}")).rect();
                assert!(rect.width() > 50.0 && rect.bottom() < strip.top(), "{i}: {rect:?} above {strip:?}");
                assert!(!rect.intersects(last), "{i}: {rect:?} on {last:?}");
                last = rect;
            }
            assert_eq!(h.get_all_by_label(word).count(), 6, "{language:?}");
        }
    }

    #[test]
    fn compact_tiles_show_the_one_in_focus_in_full() {
        let mut h = harness(scene(Scene::Busy(32), Instant::now()));
        h.get_by_label_contains("it is shown here in full");
        press(&mut h, &[Key::ArrowRight, Key::ArrowRight, Key::ArrowRight]);
        h.get_by_label("Try once more; if it happens again put the board aside");
        h.get_by_label("Copy the failure of Fixture 3").click();
        h.run();
        h.get_by_label_contains("Copied");
        h.get_by_label("Try again Fixture 3").click();
        h.run();
        assert_eq!(h.state_mut().take(), [Command::Start(2)]);
    }

    #[test]
    fn the_theme_is_switched_by_key_and_by_button() {
        let mut h = harness(scene(Scene::Gallery, Instant::now()));
        assert_eq!(h.ctx.theme(), egui::Theme::Light);
        h.key_press_modifiers(Modifiers::COMMAND, Key::D);
        h.run();
        assert_eq!(h.ctx.theme(), egui::Theme::Dark);
        h.get_by_label("Switch to the light theme").click();
        h.run();
        assert_eq!(h.ctx.theme(), egui::Theme::Light);
    }
}
