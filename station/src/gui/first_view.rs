//! The guide of the first start: steps on the left, the step that is shown on the right. What it does is done by the host; this shows what
//! came of it.
//!
//! Invariants: it reads a snapshot and returns commands; what is typed as a secret is in types that redact, and is wiped when it was sent;
//! everything works without a mouse.

use super::ViewState;
use super::copy;
use super::files::Kind;
use super::first_login;
use super::icons::{self, Icon};
use super::people_view::{self, Form, Typed};
use super::preflight_view;
use super::settings_view::{heading, language_name, path_row, row, text_row};
use super::theme::{Palette, Tone, mono, palette, regular, strong};
use super::tile::step_name;
use super::widgets::{self, Button, Loud};
use crate::config::{CloudKind, Fixture};
use crate::failure::Failure;
use crate::first_run::{self, Given, Standing, Step, Strength, Wrote};
use crate::host::{Broker, Command, Guide, Rehearsal, Stage, Told};
use crate::i18n::{self, LanguageChoice, tr};
use crate::line;
use crate::people::office;
use crate::preflight::Status;
use crate::secrets::Passphrase;
use crate::settings::{CloudDraft, Fault, Field};
use egui::{
    Align2, Key, Modifiers, Rect, RichText, Sense, Stroke, StrokeKind, Ui, UiBuilder, WidgetInfo, pos2, vec2,
};
use std::path::PathBuf;

/// Width of the steps on the left.
const RAIL: f32 = 262.0;

/// What is typed and not sent yet.
#[derive(Clone, Debug)]
pub struct FirstState {
    /// The step whose fields are loaded.
    at: Option<Step>,
    name: String,
    language: LanguageChoice,
    pass: Typed,
    again: Typed,
    keep: bool,
    admin: Form,
    fixture: Fixture,
    /// So many fixtures were there when the fields were made ready for the next.
    fixtures: usize,
    /// Probe and port were typed or picked by hand: what appears does not replace them.
    by_hand: bool,
    region: String,
    mosquitto: bool,
    cloud: CloudDraft,
    password: Typed,
    image: String,
    /// Somebody is asked to log in.
    logs_in: bool,
}

impl Default for FirstState {
    fn default() -> Self {
        Self {
            at: None,
            name: String::new(),
            language: LanguageChoice::default(),
            pass: Typed::default(),
            again: Typed::default(),
            keep: false,
            admin: Form::add(true),
            fixture: Fixture { name: String::new(), probe: String::new(), serial: String::new() },
            fixtures: 0,
            by_hand: false,
            region: "1".into(),
            mosquitto: false,
            cloud: CloudDraft::default(),
            password: Typed::default(),
            image: String::new(),
            logs_in: false,
        }
    }
}

impl FirstState {
    /// Takes what the station has into the fields of a step that is newly shown.
    fn arrive(&mut self, guide: &Guide) {
        let facts = &guide.facts;
        if self.at == Some(guide.progress.at) {
            return;
        }
        *self = Self { at: Some(guide.progress.at), logs_in: self.logs_in, ..Self::default() };
        let config = &facts.config;
        self.name = if facts.has_file { config.name.clone() } else { tr!("first-name-example").into() };
        self.language = config.language;
        self.next_fixture(&config.fixtures);
        if let Some(first) = facts.anchors.as_ref().and_then(|shown| shown.regions.first()) {
            self.region = first.region.to_string();
        }
        self.image = config.image.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let mosquitto = config.clouds.iter().find(|c| matches!(c.kind, CloudKind::Mosquitto { .. }));
        self.mosquitto = mosquitto.is_some();
        self.cloud = match mosquitto.map(|cloud| (cloud, &cloud.kind)) {
            Some((cloud, CloudKind::Mosquitto { ca, username, password_file, .. })) => CloudDraft {
                was: Some(cloud.name.clone()),
                name: cloud.name.clone(),
                url: cloud.url.clone(),
                ca: ca.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
                username: username.clone(),
                password_file: password_file.display().to_string(),
            },
            _ => CloudDraft {
                name: "plant".into(),
                username: "keywright-agent".into(),
                password_file: "plant.password".into(),
                ..CloudDraft::default()
            },
        };
    }

    /// Makes the fields ready for the next fixture.
    fn next_fixture(&mut self, have: &[Fixture]) {
        self.fixture =
            Fixture { name: first_run::next_name(have), probe: String::new(), serial: String::new() };
        (self.fixtures, self.by_hand) = (have.len(), false);
    }

    fn password(&self) -> Option<Passphrase> {
        (!self.password.0.is_empty()).then(|| Passphrase::new(self.password.0.to_string()))
    }
}

/// What the guide asks for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Of the host.
    pub host: Vec<Command>,
    /// The window is to be closed: there is nothing else to show yet.
    pub close: bool,
}

/// The name of a step.
fn title(step: Step) -> &'static str {
    match step {
        Step::Name => tr!("first-step-name"),
        Step::Key => tr!("first-step-key"),
        Step::People => tr!("first-step-people"),
        Step::Fixtures => tr!("first-step-fixtures"),
        Step::Anchors => tr!("first-step-anchors"),
        Step::Cloud => tr!("first-step-cloud"),
        Step::Image => tr!("first-step-image"),
        Step::Rehearsal => tr!("first-step-rehearsal"),
        Step::Summary => tr!("first-step-summary"),
    }
}

/// What it is for.
fn why(step: Step) -> &'static str {
    match step {
        Step::Name => tr!("first-why-name"),
        Step::Key => tr!("first-why-key"),
        Step::People => tr!("first-why-people"),
        Step::Fixtures => tr!("first-why-fixtures"),
        Step::Anchors => tr!("first-why-anchors"),
        Step::Cloud => tr!("first-why-cloud"),
        Step::Image => tr!("first-why-image"),
        Step::Rehearsal => tr!("first-why-rehearsal"),
        Step::Summary => tr!("first-why-summary"),
    }
}

fn standing_word(standing: Standing) -> &'static str {
    match standing {
        Standing::Done => tr!("first-done"),
        Standing::Left => tr!("first-left"),
        Standing::Open => tr!("first-open"),
        Standing::Waits => tr!("first-waits"),
    }
}

fn standing_look(standing: Standing, p: &Palette) -> (Icon, Tone) {
    match standing {
        Standing::Done => (Icon::Check, p.pass),
        Standing::Left => (Icon::Stop, p.idle),
        Standing::Open => (Icon::Empty, p.running),
        Standing::Waits => (Icon::Hourglass, p.idle),
    }
}

/// What a step wrote, in the window's language.
fn wrote(what: &Wrote) -> String {
    let path = |path: &PathBuf| path.display().to_string();
    let short = |hex: &str| hex.get(..16).unwrap_or(hex).to_owned();
    match what {
        Wrote::Name { name, file } => tr!("first-wrote-name", name = name.as_str(), file = path(file)),
        Wrote::Records { file } => tr!("first-wrote-records", file = path(file)),
        Wrote::Keyring => tr!("first-wrote-keyring").into(),
        Wrote::Admin { name } => tr!("first-wrote-admin", name = name.as_str()),
        Wrote::Fixtures { count, file } => tr!("first-wrote-fixtures", count = *count, file = path(file)),
        Wrote::Anchors { region, root, folder } => {
            tr!("first-wrote-anchors", region = region.to_string(), root = short(root), folder = path(folder))
        }
        Wrote::Cloud { name, url, file } => {
            tr!("first-wrote-cloud", name = name.as_str(), url = url.as_str(), file = path(file))
        }
        Wrote::Password { file } => tr!("first-wrote-password", file = path(file)),
        Wrote::Image { model, version, file, .. } => {
            tr!("first-wrote-image", model = model.as_str(), version = version.as_str(), file = path(file))
        }
    }
}

/// The guide in the whole of `ui`; `has_line`: there is a line to go back to.
pub(super) fn show(
    ui: &mut Ui,
    guide: &Guide,
    has_line: bool,
    state: &mut FirstState,
    view: &mut ViewState,
) -> Asked {
    let _spoken = i18n::using(view.language);
    let p = palette(ui.ctx());
    let mut out = Asked::default();
    if state.at != Some(guide.progress.at) {
        view.copied = None;
    }
    state.arrive(guide);
    first_login::observe(guide.login.as_ref(), &mut state.logs_in, view);
    copy::begin(ui);
    let all = ui.max_rect();
    ui.painter().rect_filled(all, 0.0, p.background);
    let left = Rect::from_min_size(all.min, vec2(RAIL, all.height()));
    let right = Rect::from_min_max(pos2(left.right(), all.top()), all.max).shrink2(vec2(18.0, 16.0));
    rail(ui, left, guide, has_line, &mut out, p);
    if ui.input_mut(|i| i.consume_key(Modifiers::COMMAND, Key::D)) {
        view.toggle_theme(ui.ctx());
    }
    let foot = Rect::from_min_max(pos2(right.left(), right.bottom() - 44.0), right.max);
    let mut card = Rect::from_min_max(right.min, pos2(right.right(), foot.top() - 10.0));
    ui.painter().rect(card, 14.0, p.surface, Stroke::new(1.0, p.border), StrokeKind::Inside);
    card = card.shrink2(vec2(24.0, 16.0));
    let at = guide.progress.at;
    ui.scope_builder(UiBuilder::new().max_rect(card).id_salt(("first", at)), |ui| {
        ui.set_clip_rect(card.expand(8.0).intersect(ui.clip_rect()));
        egui::ScrollArea::vertical().id_salt(("first step", at)).auto_shrink(false).show(ui, |ui| {
            ui.set_width(ui.available_width().min(880.0));
            ui.spacing_mut().item_spacing.y = 8.0;
            let number = tr!("first-number", number = at.number(), of = Step::ALL.len());
            ui.label(RichText::new(number).font(regular(13.5)).color(p.muted));
            ui.label(RichText::new(title(at)).font(strong(24.0)).color(p.text));
            if let Some(login) = &guide.login {
                out.host.extend(first_login::show(ui, login, view, p));
                return;
            }
            ui.add(egui::Label::new(RichText::new(why(at)).font(regular(15.0)).color(p.text)).wrap());
            told(ui, &guide.told, p);
            if let Some(failure) = &guide.facts.file_failure {
                failed(ui, p.fail, failure, p);
            }
            match at {
                Step::Name => name(ui, guide, state, view, &mut out, p),
                Step::Key => key(ui, guide, state, &mut out, p),
                Step::People => people(ui, guide, state, &mut out, p),
                Step::Fixtures => fixtures(ui, guide, state, &mut out, p),
                Step::Anchors => anchors(ui, guide, state, &mut out, p),
                Step::Cloud => cloud(ui, guide, state, view, &mut out, p),
                Step::Image => image(ui, guide, state, view, &mut out, p),
                Step::Rehearsal => rehearsal(ui, guide, &mut out, p),
                Step::Summary => summary(ui, guide, p),
            }
        });
    });
    footer(ui, foot, guide, view, &mut out, p);
    if !out.host.is_empty() {
        view.copied = None;
    }
    copy::end(ui, view);
    out
}

/// The steps, and the way out.
fn rail(ui: &mut Ui, rect: Rect, guide: &Guide, has_line: bool, out: &mut Asked, p: &Palette) {
    ui.painter().rect_filled(rect, 0.0, p.surface);
    ui.painter().vline(rect.right(), rect.y_range(), Stroke::new(1.0, p.border));
    let inner = rect.shrink2(vec2(14.0, 16.0));
    let sign = Rect::from_min_size(inner.min + vec2(4.0, 2.0), vec2(26.0, 26.0));
    icons::paint(ui.painter(), sign, Icon::Key, p.running.ink, p.surface, 0.0);
    let words =
        Rect::from_min_max(pos2(sign.right() + 10.0, inner.top()), pos2(inner.right(), inner.top() + 30.0));
    widgets::line(ui, words, Align2::LEFT_CENTER, tr!("first-title"), strong(19.0), p.text);
    let bottom = inner.bottom() - 92.0;
    let height = ((bottom - inner.top() - 46.0) / Step::ALL.len() as f32 - 4.0).clamp(34.0, 48.0);
    for (i, step) in Step::ALL.into_iter().enumerate() {
        let top = inner.top() + 46.0 + i as f32 * (height + 4.0);
        let place = Rect::from_min_size(pos2(inner.left(), top), vec2(inner.width(), height));
        let standing = guide.progress.standing(step, &guide.facts);
        let shown = guide.progress.at == step;
        let word = if step == Step::Summary { "" } else { standing_word(standing) };
        let name = if word.is_empty() {
            format!("{}. {}", step.number(), title(step))
        } else {
            format!("{}. {}: {word}", step.number(), title(step))
        };
        let free = guide.login.is_none();
        let sense = if free { Sense::click() } else { Sense::hover() };
        let response = ui.interact(place, ui.scope_id().with(("first step", i)), sense);
        response.widget_info(|| WidgetInfo::selected(egui::Role::Button, free, shown, &name));
        let fill = if shown {
            p.running.soft
        } else if response.hovered() && free {
            p.hover
        } else {
            p.surface
        };
        ui.painter().rect_filled(place, 10.0, fill);
        let (icon, tone) = standing_look(standing, p);
        let square = Rect::from_center_size(pos2(place.left() + 20.0, place.center().y), vec2(20.0, 20.0));
        if step == Step::Summary {
            icons::paint(ui.painter(), square, Icon::Arrow, p.muted, fill, 0.0);
        } else {
            icons::paint(ui.painter(), square, icon, tone.ink, fill, 0.0);
        }
        let ink = if shown { p.running.ink } else { p.text };
        let text = pos2(square.right() + 10.0, place.center().y);
        if word.is_empty() || height < 40.0 {
            ui.painter().text(text, Align2::LEFT_CENTER, title(step), strong(14.5), ink);
        } else {
            ui.painter().text(text - vec2(0.0, 9.0), Align2::LEFT_CENTER, title(step), strong(14.5), ink);
            ui.painter().text(text + vec2(0.0, 9.0), Align2::LEFT_CENTER, word, regular(12.0), p.muted);
        }
        if response.has_focus() {
            widgets::focus_ring(ui, place, 10.0, p);
        }
        if response.clicked() {
            out.host.push(Command::Go(step));
        }
    }
    let goes_on = has_line || guide.facts.can_open();
    let text = if goes_on { tr!("first-leave") } else { tr!("first-leave-close") };
    let leave = Button { text, name: text, icon: None, loud: Loud::Quiet, enabled: true, size: 14.0 };
    let place = Rect::from_min_size(pos2(inner.left(), inner.bottom() - 36.0), vec2(inner.width(), 36.0));
    if leave.show(ui, place).clicked() {
        out.host.push(Command::Leave);
        out.close = !goes_on;
    }
    let words =
        Rect::from_min_max(pos2(inner.left() + 4.0, bottom + 8.0), pos2(inner.right(), place.top() - 6.0));
    widgets::block(ui, words, Align2::LEFT_BOTTOM, tr!("first-leave-text"), regular(12.5), p.muted, 2);
}

/// Back and on.
fn footer(ui: &mut Ui, rect: Rect, guide: &Guide, view: &ViewState, out: &mut Asked, p: &Palette) {
    // Unless the step itself took it.
    let onward = ui.input_mut(|i| i.consume_key(Modifiers::COMMAND, Key::Enter));
    let at = guide.progress.at;
    let standing = guide.progress.standing(at, &guide.facts);
    let done = matches!(standing, Standing::Done | Standing::Left);
    let works = guide.told == Told::Working
        || matches!(guide.rehearsal, Rehearsal::Running(_))
        || guide.login.is_some();
    let (text, enabled) = match at {
        Step::Summary => (tr!("first-finish"), guide.facts.can_open()),
        _ if standing == Standing::Done => (tr!("first-on"), true),
        _ if at.may_be_left() => (skip(at), true),
        _ => (tr!("first-on"), done),
    };
    let enabled = enabled && !works;
    let loud = if done || at == Step::Summary { Loud::Primary } else { Loud::Quiet };
    let on = Button { text, name: text, icon: None, loud, enabled, size: 15.0 };
    let width = on.width(ui);
    let place = Rect::from_min_size(pos2(rect.right() - width, rect.top() + 4.0), vec2(width, 40.0));
    if on.show(ui, place).clicked() || (onward && enabled) {
        out.host.push(if at == Step::Summary { Command::Finish } else { Command::On });
    }
    let mut left = place.left();
    if at != Step::Name {
        let text = tr!("first-back");
        let back = Button { text, name: text, icon: None, loud: Loud::Quiet, enabled: !works, size: 15.0 };
        let width = back.width(ui);
        let place = Rect::from_min_size(pos2(left - width - 10.0, rect.top() + 4.0), vec2(width, 40.0));
        left = place.left();
        if back.show(ui, place).clicked() {
            out.host.push(Command::Back);
        }
    }
    let words = Rect::from_min_max(rect.min, pos2(left - 10.0, rect.bottom()));
    match &view.copied {
        Some(copied) => widgets::line(ui, words, Align2::LEFT_CENTER, copied, strong(14.0), p.running.ink),
        None => widgets::line(ui, words, Align2::LEFT_CENTER, tr!("first-keys"), regular(13.0), p.muted),
    };
}

/// What going on means for a step that is not done.
fn skip(step: Step) -> &'static str {
    match step {
        Step::People => tr!("first-skip-people"),
        Step::Fixtures => tr!("first-skip-fixtures"),
        Step::Cloud => tr!("first-skip-cloud"),
        _ => tr!("first-skip"),
    }
}

/// The newest word, above the fields.
fn told(ui: &mut Ui, told: &Told, p: &Palette) {
    match told {
        Told::Nothing => {}
        Told::Working => said(ui, p.running, Icon::Turning, tr!("first-working"), "", p),
        Told::Wrote(list) if list.is_empty() => {
            said(ui, p.pass, Icon::Check, tr!("first-wrote-nothing"), "", p)
        }
        Told::Wrote(list) => {
            for what in list {
                said(ui, p.pass, Icon::Check, &wrote(what), "", p);
            }
        }
        Told::Failed(failure) => {
            failed(ui, p.fail, failure, p);
        }
    }
}

/// A failure as a strip, with the button that copies it.
fn failed(ui: &mut Ui, tone: Tone, failure: &Failure, p: &Palette) {
    let (sentence, remedy) = i18n::failure(failure);
    let first = format!("{} {sentence}", failure.code);
    strip(ui, (tone, Icon::Warning), (&first, &remedy), Some(&copy::told(failure)), p);
}

/// A strip that says something; it is as high as its words.
fn said(ui: &mut Ui, tone: Tone, icon: Icon, first: &str, second: &str, p: &Palette) {
    strip(ui, (tone, icon), (first, second), None, p);
}

fn strip(
    ui: &mut Ui,
    (tone, icon): (Tone, Icon),
    (first, second): (&str, &str),
    copied: Option<&str>,
    p: &Palette,
) {
    let frame = egui::Frame::new()
        .fill(tone.soft)
        .stroke(Stroke::new(1.0, tone.solid))
        .corner_radius(10)
        .inner_margin(egui::Margin::symmetric(12, 8));
    frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.horizontal_top(|ui| {
            let (r, _) = ui.allocate_exact_size(vec2(20.0, 20.0), Sense::hover());
            icons::paint(ui.painter(), r, icon, tone.ink, tone.soft, 0.0);
            let room = ui.available_rect_before_wrap();
            ui.vertical(|ui| {
                if let Some(text) = copied {
                    let button = Rect::from_min_size(room.min, vec2(room.width(), 30.0));
                    let left = copy::button(ui, button, text);
                    ui.set_max_width(left.width());
                }
                ui.spacing_mut().item_spacing.y = 2.0;
                ui.add(egui::Label::new(RichText::new(first).font(strong(14.5)).color(tone.ink)).wrap());
                if !second.is_empty() {
                    ui.add(egui::Label::new(RichText::new(second).font(regular(14.0)).color(p.text)).wrap());
                }
            });
        });
    });
}

fn note(ui: &mut Ui, text: &str, p: &Palette) {
    ui.add(egui::Label::new(RichText::new(text).font(regular(14.0)).color(p.muted)).wrap());
}

/// An action of a step. The loud one is done by Ctrl+Enter too, as long as the step is not.
fn press(ui: &mut Ui, text: &str, loud: Loud, enabled: bool) -> bool {
    let button = Button { text, name: text, icon: None, loud, enabled, size: 15.0 };
    let (place, _) = ui.allocate_exact_size(vec2(button.width(ui), 38.0), Sense::hover());
    let loud = loud == Loud::Primary && enabled;
    button.show(ui, place).clicked()
        || (loud && ui.input_mut(|i| i.consume_key(Modifiers::COMMAND, Key::Enter)))
}

/// A step that has what it does in it is quieter.
fn loudness(guide: &Guide) -> Loud {
    match guide.progress.standing(guide.progress.at, &guide.facts) {
        Standing::Done => Loud::Quiet,
        _ => Loud::Primary,
    }
}

fn works(guide: &Guide) -> bool {
    guide.told == Told::Working
}

fn name(
    ui: &mut Ui,
    guide: &Guide,
    state: &mut FirstState,
    view: &mut ViewState,
    out: &mut Asked,
    p: &Palette,
) {
    row(ui, tr!("settings-language"), p, |ui, _| {
        ui.spacing_mut().item_spacing.x = 14.0;
        for choice in LanguageChoice::ALL {
            if ui.radio_value(&mut state.language, choice, language_name(choice)).changed() {
                // At once: who looks for a language can't read the others.
                view.language = choice.language();
            }
        }
    });
    let fits = crate::config::fits_name(&state.name);
    let said = ((!fits).then_some(Fault::Name), tr!("settings-name-hint"));
    text_row(ui, tr!("settings-name"), &mut state.name, 260.0, said, p);
    if press(ui, tr!("first-name-write"), loudness(guide), fits && !works(guide)) {
        out.host.push(Command::Name { name: state.name.clone(), language: state.language });
    }
}

fn key(ui: &mut Ui, guide: &Guide, state: &mut FirstState, out: &mut Asked, p: &Palette) {
    let facts = &guide.facts;
    if facts.open {
        said(ui, p.pass, Icon::Key, tr!("first-key-open"), tr!("first-key-lost"), p);
        return;
    }
    if let Some(given) = facts.given {
        let text = match given {
            Given::Descriptor => tr!("first-key-given-fd"),
            Given::Demo => tr!("first-key-given-demo"),
            Given::Keyring => tr!("first-key-given-keyring"),
        };
        let tone = if given == Given::Demo { p.error } else { p.running };
        said(ui, tone, Icon::Key, text, "", p);
        if press(ui, tr!("first-key-use"), Loud::Primary, !works(guide)) {
            out.host.push(Command::Key { passphrase: None, keep: false });
        }
        return;
    }
    let fresh = !facts.has_records;
    note(ui, if fresh { tr!("first-key-new") } else { tr!("first-key-there") }, p);
    ui.scope(|ui| {
        ui.set_max_width(420.0);
        people_view::field(ui, tr!("first-key-passphrase"), &mut state.pass.0, true, false, p);
        if fresh {
            people_view::field(ui, tr!("first-key-again"), &mut state.again.0, true, false, p);
        }
    });
    let typed = Passphrase::new(state.pass.0.to_string());
    let strength = first_run::strength(&typed);
    if fresh && !state.pass.0.is_empty() {
        let (text, ink) = match strength {
            Strength::Short => (tr!("first-key-short"), p.fail.ink),
            Strength::Fair => (tr!("first-key-fair"), p.error.ink),
            Strength::Good => (tr!("first-key-good"), p.pass.ink),
        };
        ui.add(egui::Label::new(RichText::new(text).font(strong(14.0)).color(ink)).wrap());
    }
    let same = state.pass.0 == state.again.0;
    if fresh && !state.again.0.is_empty() && !same {
        ui.label(RichText::new(tr!("first-key-differ")).font(strong(14.0)).color(p.fail.ink));
    }
    ui.checkbox(&mut state.keep, tr!("first-key-keep"));
    note(ui, tr!("first-key-keep-text"), p);
    let usable = if fresh { strength > Strength::Short && same } else { !state.pass.0.is_empty() };
    let text = if fresh { tr!("first-key-make") } else { tr!("first-key-unlock") };
    if press(ui, text, Loud::Primary, usable && !works(guide)) {
        out.host.push(Command::Key { passphrase: Some(typed), keep: state.keep });
        (state.pass, state.again) = (Typed::default(), Typed::default());
        // What the fields remember for undo goes too.
        ui.ctx().memory_mut(|m| m.data.remove_by_type::<egui::text_edit::TextEditState>());
    }
    if fresh {
        said(ui, p.error, Icon::Warning, tr!("first-key-lost"), "", p);
    }
}

fn people(ui: &mut Ui, guide: &Guide, state: &mut FirstState, out: &mut Asked, p: &Palette) {
    if let Some(count) = guide.facts.people.filter(|count| *count > 0) {
        said(
            ui,
            p.pass,
            Icon::Person,
            &tr!("first-people-there", count = count),
            tr!("first-people-more"),
            p,
        );
        return;
    }
    note(ui, tr!("people-no-way-back"), p);
    ui.scope(|ui| {
        ui.set_max_width(420.0);
        state.admin.fields(ui, p);
    });
    let missing = state.admin.missing();
    if let Some(missing) = &missing {
        ui.add(egui::Label::new(RichText::new(missing).font(regular(13.5)).color(p.error.ink)).wrap());
    }
    if press(ui, tr!("people-create-admin"), Loud::Primary, missing.is_none() && !works(guide))
        && let office::Command::Add(new) = state.admin.command()
    {
        out.host.push(Command::Admin(new));
        state.admin = Form::add(true);
        ui.ctx().memory_mut(|m| m.data.remove_by_type::<egui::text_edit::TextEditState>());
    }
}

fn fixtures(ui: &mut Ui, guide: &Guide, state: &mut FirstState, out: &mut Asked, p: &Palette) {
    let have = &guide.facts.config.fixtures;
    if state.fixtures != have.len() {
        // That one is in the file: the fields are for the next.
        state.next_fixture(have);
    }
    for (i, fixture) in have.iter().enumerate() {
        ui.horizontal(|ui| {
            let (r, _) = ui.allocate_exact_size(vec2(20.0, 30.0), Sense::hover());
            let square = Rect::from_center_size(r.center(), vec2(18.0, 18.0));
            icons::paint(ui.painter(), square, Icon::Check, p.pass.ink, p.surface, 0.0);
            ui.label(RichText::new(&fixture.name).font(strong(15.0)).color(p.text));
            let parts = format!("{} · {}", fixture.probe, fixture.serial);
            ui.add(egui::Label::new(RichText::new(parts).font(mono(13.0)).color(p.muted)).truncate());
            let text = tr!("first-fixture-remove");
            let button = ui.add_enabled(!works(guide), egui::Button::new(text));
            let name = tr!("first-fixture-remove-name", name = fixture.name.as_str());
            button.widget_info(|| WidgetInfo::labeled(egui::Role::Button, true, &name));
            if button.clicked() {
                let mut rest = have.clone();
                rest.remove(i);
                out.host.push(Command::Fixtures(rest));
            }
        });
    }
    heading(ui, &tr!("first-fixture-next", number = have.len() + 1), p);
    // What appeared alone is it; what was there before may be.
    let (probe, port) = guide.new.pair();
    if !state.by_hand {
        state.fixture.probe = probe.map(|p| p.selector()).unwrap_or_default();
        state.fixture.serial = port.map(|p| p.path.clone()).unwrap_or_default();
    }
    let (icon, tone, text) = match (probe, port) {
        (Some(_), Some(_)) => (Icon::Check, p.pass, tr!("first-plug-both")),
        (Some(_), None) => (Icon::Board, p.running, tr!("first-plug-probe")),
        (None, Some(_)) => (Icon::Board, p.running, tr!("first-plug-port")),
        (None, None) => (Icon::Turning, p.running, tr!("first-plug-now")),
    };
    said(ui, tone, icon, text, "", p);
    let shown = (guide.plugged.probes.len(), guide.plugged.ports.len());
    if shown != (0, 0) {
        note(ui, &tr!("first-plugged", probes = shown.0, ports = shown.1), p);
        ui.horizontal_wrapped(|ui| {
            for probe in &guide.plugged.probes {
                let name = format!("{} ({})", probe.product, probe.selector());
                if ui.selectable_label(state.fixture.probe == probe.selector(), name).clicked() {
                    state.fixture.probe = probe.selector();
                    state.by_hand = true;
                }
            }
            for port in &guide.plugged.ports {
                if ui.selectable_label(state.fixture.serial == port.path, &port.path).clicked() {
                    state.fixture.serial.clone_from(&port.path);
                    state.by_hand = true;
                }
            }
        });
    }
    let taken = |what: &dyn Fn(&Fixture) -> bool| have.iter().any(what).then_some(Fault::Twice);
    let f = &state.fixture;
    let fault_name = if crate::config::fits_name(&f.name) {
        taken(&|h| h.name == f.name.trim())
    } else {
        Some(Fault::Name)
    };
    let fault_probe = if f.probe.trim().is_empty() {
        None
    } else if crate::config::check_selector(f.probe.trim()).is_err() {
        Some(Fault::Probe)
    } else {
        taken(&|h| h.probe.eq_ignore_ascii_case(f.probe.trim()))
    };
    let fault_serial = taken(&|h| h.serial == f.serial.trim());
    let before = (f.probe.clone(), f.serial.clone());
    text_row(ui, tr!("first-fixture-name"), &mut state.fixture.name, 180.0, (fault_name, ""), p);
    let said = (fault_probe, tr!("first-fixture-probe-hint"));
    text_row(ui, tr!("first-fixture-probe"), &mut state.fixture.probe, 380.0, said, p);
    let said = (fault_serial, tr!("first-fixture-port-hint"));
    text_row(ui, tr!("first-fixture-port"), &mut state.fixture.serial, 380.0, said, p);
    state.by_hand |= before != (state.fixture.probe.clone(), state.fixture.serial.clone());
    let whole = !state.fixture.probe.trim().is_empty() && !state.fixture.serial.trim().is_empty();
    let right = fault_name.is_none() && fault_probe.is_none() && fault_serial.is_none();
    ui.horizontal(|ui| {
        if press(ui, tr!("first-fixture-write"), Loud::Primary, whole && right && !works(guide)) {
            let mut all = have.clone();
            let trim = |text: &str| text.trim().to_owned();
            let f = &state.fixture;
            all.push(Fixture { name: trim(&f.name), probe: trim(&f.probe), serial: trim(&f.serial) });
            out.host.push(Command::Fixtures(all));
        }
        if press(ui, tr!("first-fixture-anew"), Loud::Quiet, !works(guide)) {
            state.by_hand = false;
            out.host.push(Command::Watch);
        }
    });
}

fn anchors(ui: &mut Ui, guide: &Guide, state: &mut FirstState, out: &mut Asked, p: &Palette) {
    if let Some(shown) = &guide.facts.anchors {
        let root = shown.root_fingerprint.get(..32).unwrap_or_default();
        ui.label(RichText::new(tr!("first-anchors-root", fingerprint = root)).font(mono(13.5)).color(p.text));
        for region in &shown.regions {
            let fingerprint = region.fingerprint.get(..32).unwrap_or_default();
            let text =
                tr!("first-anchors-region", region = region.region.to_string(), fingerprint = fingerprint);
            ui.label(RichText::new(text).font(mono(13.5)).color(p.text));
        }
    }
    let region = state.region.trim().parse::<u32>().ok().filter(|n| *n > 0);
    let said = (region.is_none().then_some(Fault::Number), tr!("first-anchors-region-hint"));
    text_row(ui, tr!("first-anchors-field"), &mut state.region, 120.0, said, p);
    if press(ui, tr!("first-anchors-make"), loudness(guide), region.is_some() && !works(guide))
        && let Some(region) = region
    {
        out.host.push(Command::Anchors(region));
    }
    note(ui, tr!("first-anchors-keep"), p);
}

fn cloud(
    ui: &mut Ui,
    guide: &Guide,
    state: &mut FirstState,
    view: &mut ViewState,
    out: &mut Asked,
    p: &Palette,
) {
    ui.radio_value(&mut state.mosquitto, false, tr!("first-cloud-local"));
    ui.radio_value(&mut state.mosquitto, true, tr!("first-cloud-mosquitto"));
    if !state.mosquitto {
        note(ui, tr!("first-cloud-local-text"), p);
        return;
    }
    let mut checked = state.cloud.clone();
    if checked.password_file.trim().is_empty() {
        checked.password_file = format!("{}.password", checked.name.trim());
    }
    let faults = checked.faults();
    let fault =
        |field: fn(usize) -> Field| faults.iter().find(|(f, _)| f(0) == field(0)).map(|(_, fault)| *fault);
    // What is not begun is not wrong yet.
    let begun = |text: &str, fault: Option<Fault>| fault.filter(|_| !text.trim().is_empty());
    let cloud = &mut state.cloud;
    let said_name = (fault(Field::CloudName), tr!("settings-cloud-name-hint"));
    text_row(ui, tr!("first-cloud-name"), &mut cloud.name, 180.0, said_name, p);
    let url = (begun(&cloud.url, fault(Field::CloudUrl)), tr!("settings-cloud-url-hint"));
    text_row(ui, tr!("first-cloud-url"), &mut cloud.url, 340.0, url, p);
    let ca = (begun(&cloud.url, fault(Field::CloudCa)), "");
    path_row(ui, tr!("first-cloud-ca"), &mut cloud.ca, (&view.files, Kind::File(&["pem", "crt"])), ca, p);
    text_row(ui, tr!("first-cloud-user"), &mut cloud.username, 260.0, (fault(Field::CloudUser), ""), p);
    ui.scope(|ui| {
        ui.set_max_width(420.0);
        people_view::field(ui, tr!("first-cloud-password"), &mut state.password.0, true, false, p);
    });
    note(ui, &tr!("first-cloud-password-file", file = checked.password_file.as_str()), p);
    let right = faults.is_empty() && !works(guide);
    let has_password = !state.password.0.is_empty() || checked.was.is_some();
    ui.horizontal(|ui| {
        if press(ui, tr!("first-cloud-write"), loudness(guide), right && has_password) {
            out.host.push(Command::Cloud(checked.clone(), state.password()));
        }
        let tries = guide.broker == Broker::Trying;
        if press(ui, tr!("first-cloud-try"), Loud::Quiet, right && has_password && !tries) {
            out.host.push(Command::TryCloud(checked.clone(), state.password()));
        }
    });
    match &guide.broker {
        Broker::None => {}
        Broker::Trying => said(ui, p.running, Icon::Turning, tr!("first-cloud-trying"), "", p),
        Broker::Answers(units) => {
            said(ui, p.pass, Icon::Check, &tr!("first-cloud-answers", count = *units), "", p);
        }
        Broker::Failed(failure) => {
            failed(ui, p.fail, failure, p);
        }
    }
}

fn image(
    ui: &mut Ui,
    guide: &Guide,
    state: &mut FirstState,
    view: &mut ViewState,
    out: &mut Asked,
    p: &Palette,
) {
    let files = (&view.files, Kind::File(&["json"]));
    path_row(ui, tr!("settings-image"), &mut state.image, files, (None, tr!("first-image-hint")), p);
    let named = !state.image.trim().is_empty();
    if press(ui, tr!("first-image-write"), loudness(guide), named && !works(guide)) {
        out.host.push(Command::Image(PathBuf::from(state.image.trim())));
    }
    match &guide.facts.image {
        Some(Ok(image)) => {
            heading(ui, tr!("first-image-now"), p);
            for (name, text) in [
                (tr!("first-image-model"), image.model.as_str()),
                (tr!("first-image-version"), image.version.as_str()),
                (tr!("first-image-hash"), image.sha256.as_str()),
            ] {
                row(ui, name, p, |ui, _| {
                    ui.add(egui::Label::new(RichText::new(text).font(mono(13.5)).color(p.text)).truncate());
                });
            }
        }
        Some(Err(failure)) => {
            failed(ui, p.fail, failure, p);
        }
        None => note(ui, tr!("first-image-none"), p),
    }
}

fn rehearsal(ui: &mut Ui, guide: &Guide, out: &mut Asked, p: &Palette) {
    let mut ready = matches!(guide.facts.image, Some(Ok(_)));
    if !ready {
        said(ui, p.error, Icon::Warning, tr!("first-rehearsal-image"), "", p);
    }
    match &guide.board {
        Some(Err(failure)) => {
            ready = false;
            failed(ui, p.error, failure, p);
        }
        Some(Ok(path)) => note(ui, &tr!("first-rehearsal-board", path = path.display().to_string()), p),
        None => {}
    }
    if let Rehearsal::Running(stage) = &guide.rehearsal {
        let (word, fraction) = match stage {
            Stage::Board => (tr!("first-rehearsal-starts").to_owned(), 0.02),
            Stage::Home => (tr!("first-rehearsal-home").to_owned(), 0.06),
            Stage::Step(step, fraction) => {
                let of = line::Step::ALL.len() as f32;
                (step_name(*step).to_owned(), 0.1 + 0.9 * (*step as usize as f32 + fraction) / of)
            }
        };
        ui.label(RichText::new(&word).font(strong(15.0)).color(p.text));
        let (bar, _) = ui.allocate_exact_size(vec2(ui.available_width().min(520.0), 12.0), Sense::hover());
        widgets::progress(ui, bar, fraction, p.running, &word);
        if press(ui, tr!("first-rehearsal-stop"), Loud::Quiet, true) {
            out.host.push(Command::CancelRehearsal);
        }
        return;
    }
    if press(ui, tr!("first-rehearsal-run"), loudness(guide), ready) {
        out.host.push(Command::Rehearse);
    }
    match &guide.rehearsal {
        Rehearsal::Ended(made) if made.passed => {
            let seconds = format!("{:.1}", made.seconds);
            let text = tr!("first-rehearsal-passed", serial = made.serial.as_str(), seconds = seconds);
            said(
                ui,
                p.pass,
                Icon::Check,
                &text,
                &tr!("first-rehearsal-image-was", image = made.image.as_str()),
                p,
            );
        }
        Rehearsal::Ended(made) => {
            let (sentence, remedy) = made.failure.as_ref().map(i18n::failure).unwrap_or_default();
            let first = tr!("first-rehearsal-failed", why = sentence);
            let copied = made.failure.as_ref().map(copy::told);
            strip(ui, (p.fail, Icon::Cross), (&first, &remedy), copied.as_deref(), p);
        }
        Rehearsal::Failed(failure) => {
            failed(ui, p.fail, failure, p);
        }
        Rehearsal::None | Rehearsal::Running(_) => {}
    }
    note(ui, tr!("first-rehearsal-apart"), p);
}

fn summary(ui: &mut Ui, guide: &Guide, p: &Palette) {
    // Nobody by name and the station's own broker are choices, not gaps.
    let chosen = |step: Step| matches!(step, Step::People | Step::Cloud | Step::Summary);
    let lacks = |step: &Step| match guide.progress.standing(*step, &guide.facts) {
        Standing::Done => false,
        Standing::Left => !chosen(*step),
        Standing::Open | Standing::Waits => *step != Step::Summary,
    };
    let left: Vec<_> = Step::ALL.into_iter().filter(lacks).map(title).collect();
    if left.is_empty() {
        said(ui, p.pass, Icon::Check, tr!("first-summary-all"), tr!("first-summary-next"), p);
    } else {
        let list = left.join(tr!("resume-between"));
        let text = tr!("first-summary-left", list = list);
        let next = if guide.facts.can_open() { tr!("first-summary-next") } else { tr!("first-summary-must") };
        said(ui, p.error, Icon::Warning, &text, next, p);
    }
    for check in &guide.checks {
        let (icon, tone) = match check.status {
            Status::Ok => (Icon::Check, p.pass),
            Status::Warn => (Icon::Warning, p.error),
            Status::Fail => (Icon::Cross, p.fail),
        };
        ui.horizontal_top(|ui| {
            let (r, _) = ui.allocate_exact_size(vec2(20.0, 22.0), Sense::hover());
            let square = Rect::from_center_size(r.center(), vec2(18.0, 18.0));
            icons::paint(ui.painter(), square, icon, tone.ink, p.surface, 0.0);
            let (r, _) = ui.allocate_exact_size(vec2(150.0, 22.0), Sense::hover());
            widgets::line(ui, r, Align2::LEFT_CENTER, preflight_view::name(check.name), strong(14.0), p.text);
            let room = ui.available_rect_before_wrap();
            ui.vertical(|ui| {
                if let Some(failure) = &check.failure {
                    let button = Rect::from_min_size(room.min, vec2(room.width(), 26.0));
                    let left = copy::button(ui, button, &copy::told(failure));
                    ui.set_max_width(left.width());
                }
                ui.spacing_mut().item_spacing.y = 1.0;
                let (detail, remedy) = match &check.failure {
                    Some(failure) => {
                        let (sentence, remedy) = i18n::failure(failure);
                        (format!("{} {sentence}", failure.code), Some(remedy))
                    }
                    None => (check.detail.clone(), check.remedy.clone()),
                };
                ui.add(egui::Label::new(RichText::new(detail).font(regular(13.5)).color(p.text)).wrap());
                if let Some(remedy) = &remedy {
                    let remedy = RichText::new(format!("→ {remedy}")).font(regular(13.5)).color(p.muted);
                    ui.add(egui::Label::new(remedy).wrap());
                }
            });
        });
    }
}

#[cfg(test)]
#[path = "first_tests.rs"]
pub(super) mod tests;
