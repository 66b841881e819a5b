//! The dialog in which QA decides about a unit, and what may be decided when.
//!
//! Invariants: nothing is decided without a reason and a name; what can't be undone says beforehand, in numbers, what it destroys.

use super::icons::{self, Icon};
use super::line_view::ViewState;
use super::shell::{Asked, Seen};
use super::theme::{Palette, regular, strong};
use super::widgets::{self, Button, Loud};
use crate::desk::{self, Act, Decision, UnitFile};
use crate::i18n::{self, tr};
use crate::model::{UnitId, UnitState};
use egui::{Align2, Id, Key, Modifiers, Rect, Role, Sense, Stroke, StrokeKind, Ui, WidgetInfo, pos2, vec2};

/// A decision that is being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// The unit.
    pub unit: UnitId,
    /// What is to be done; region 0 is not chosen yet.
    pub act: Act,
    /// Why.
    pub reason: String,
    /// Where the board lies.
    pub fixture: Option<usize>,
    /// Number of the RMA that is opened.
    pub number: String,
    /// What else is to be known of an RMA.
    pub note: String,
    /// It was read what this destroys.
    pub sure: bool,
    focused: bool,
}

/// What an act is called.
pub fn act_name(act: Act) -> String {
    match act {
        Act::NewKeys => tr!("act-new-keys").into(),
        Act::NewStart => tr!("act-new-start").into(),
        Act::MoveRegion(0) => tr!("act-move").into(),
        Act::MoveRegion(region) => tr!("act-move-to", region = region),
        Act::Quarantine => tr!("act-quarantine").into(),
        Act::Release => tr!("act-release").into(),
        Act::Scrap => tr!("act-scrap").into(),
        Act::Withdraw => tr!("act-withdraw").into(),
        Act::Retest => tr!("act-retest").into(),
        Act::Compare => tr!("act-compare").into(),
        Act::OpenRma => tr!("act-rma-open").into(),
        Act::CloseRma => tr!("act-rma-close").into(),
    }
}

/// Why this can't be done with the unit now, and what to do about it.
pub(super) fn refusal(act: Act, file: &UnitFile, seen: Seen<'_>, closing: bool) -> Option<String> {
    let state = file.unit.state;
    let board = act.needs_board();
    let open = file.open_order();
    // What was scrapped can still come back from a customer, and be asked what it is.
    let looks = matches!(act, Act::Compare | Act::OpenRma | Act::CloseRma);
    if state == UnitState::Scrapped && !looks {
        return Some(tr!("refusal-scrapped").into());
    }
    if let Some(why) = seen.people.refusal(act.right()) {
        return Some(super::people_view::reason(why).into());
    }
    if seen.line.operator.is_empty() {
        return Some(tr!("alarms-who").into());
    }
    if let Some(job) = seen.desk.job.as_ref().filter(|job| board || job.unit == file.unit.id) {
        return Some(tr!("refusal-in-work", serial = &job.serial));
    }
    match act {
        Act::Quarantine => (state == UnitState::Quarantined).then(|| tr!("refusal-is-quarantined").into()),
        Act::Release => (state != UnitState::Quarantined).then(|| tr!("refusal-not-quarantined").into()),
        Act::Scrap => None,
        Act::Withdraw => open.is_none().then(|| tr!("refusal-no-order").into()),
        Act::OpenRma => file.open_rma().map(|rma| tr!("refusal-rma-open", number = &rma.number)),
        Act::CloseRma => file.open_rma().is_none().then(|| tr!("refusal-no-rma").into()),
        Act::Retest if state == UnitState::Quarantined => Some(tr!("refusal-quarantined").into()),
        Act::Retest if state != UnitState::Passed => Some(tr!("refusal-not-passed").into()),
        Act::Retest | Act::Compare if closing => Some(tr!("start-closing").into()),
        Act::Retest | Act::Compare => seen.line.fixtures.is_empty().then(|| tr!("refusal-no-fixture").into()),
        Act::NewKeys | Act::NewStart | Act::MoveRegion(_) => {
            if state == UnitState::Quarantined {
                return Some(tr!("refusal-quarantined").into());
            }
            if closing {
                return Some(tr!("start-closing").into());
            }
            if seen.line.fixtures.is_empty() {
                return Some(tr!("refusal-no-fixture").into());
            }
            if let Some(open) = open {
                // Carrying the open order out.
                return (Act::of(open) != act).then(|| tr!("refusal-other-order").into());
            }
            if !file.keys.enrolled {
                return Some(tr!("refusal-no-keys").into());
            }
            if act == Act::NewStart {
                return file
                    .order
                    .key_invalid_at_ms
                    .map(|_| tr!("refusal-product-key", order = &file.order.name));
            }
            if state != UnitState::Passed {
                return Some(tr!("refusal-not-passed").into());
            }
            if matches!(act, Act::MoveRegion(_)) && seen.desk.regions.iter().all(|r| *r == file.keys.region) {
                return Some(tr!("refusal-one-region", region = file.keys.region));
            }
            None
        }
    }
}

/// What an act destroys, in numbers; empty for what destroys nothing at once.
fn deaths(act: Act, file: &UnitFile) -> Vec<String> {
    let keys = &file.keys;
    let mut living = Vec::new();
    if keys.agent_key > 0 {
        living.push(tr!("death-agent-key", generation = keys.agent_key));
    }
    if keys.cloud_key > 0 {
        living.push(tr!("death-cloud-key", generation = keys.cloud_key));
    }
    if keys.cloud_staged > 0 {
        living.push(tr!("death-cloud-staged", generation = keys.cloud_staged));
    }
    if keys.cloud_leaving > 0 {
        living.push(tr!("death-cloud-leaving", generation = keys.cloud_leaving));
    }
    let count = living.len();
    let all = living.into_iter().reduce(|first, second| tr!("death-list", first = first, second = second));
    let dead = all
        .map_or_else(|| tr!("death-none").to_owned(), |keys| tr!("death-keys", count = count, keys = keys));
    match act {
        Act::NewStart => vec![dead, tr!("death-flash").into(), tr!("death-cloud").into()],
        Act::Scrap => {
            let mut all = vec![dead, tr!("death-unit").into()];
            if file.open_order().is_some() {
                all.push(tr!("death-order").into());
            }
            all
        }
        _ => Vec::new(),
    }
}

/// What an act does, in a sentence or two.
pub(super) fn purpose(act: Act) -> &'static str {
    match act {
        Act::NewKeys => tr!("purpose-new-keys"),
        Act::NewStart => tr!("purpose-new-start"),
        Act::MoveRegion(_) => tr!("purpose-move"),
        Act::Quarantine => tr!("purpose-quarantine"),
        Act::Release => tr!("purpose-release"),
        Act::Scrap => tr!("purpose-scrap"),
        Act::Withdraw => tr!("purpose-withdraw"),
        Act::Retest => tr!("purpose-retest"),
        Act::Compare => tr!("purpose-compare"),
        Act::OpenRma => tr!("purpose-rma-open"),
        Act::CloseRma => tr!("purpose-rma-close"),
    }
}

fn verb(act: Act) -> &'static str {
    match act {
        Act::NewKeys => tr!("verb-new-keys"),
        Act::NewStart => tr!("verb-new-start"),
        Act::MoveRegion(_) => tr!("verb-move"),
        Act::Quarantine => tr!("verb-quarantine"),
        Act::Release => tr!("verb-release"),
        Act::Scrap => tr!("verb-scrap"),
        Act::Withdraw => tr!("verb-withdraw"),
        Act::Retest => tr!("verb-retest"),
        Act::Compare => tr!("verb-compare"),
        Act::OpenRma => tr!("verb-rma-open"),
        Act::CloseRma => tr!("verb-rma-close"),
    }
}

impl Form {
    pub(super) fn new(unit: UnitId, act: Act, seen: Seen<'_>) -> Self {
        let mut act = act;
        if act == Act::MoveRegion(0) {
            let here = seen.desk.file.as_ref().map_or(0, |f| f.keys.region);
            let mut others = seen.desk.regions.iter().filter(|r| **r != here);
            if let (Some(only), None) = (others.next(), others.next()) {
                act = Act::MoveRegion(*only);
            }
        }
        let fixture = (seen.line.fixtures.len() == 1).then_some(0);
        let (reason, number, note) = (String::new(), String::new(), String::new());
        Self { unit, act, reason, fixture, number, note, sure: false, focused: false }
    }

    fn destroys(&self) -> bool {
        matches!(self.act, Act::NewStart | Act::Scrap)
    }

    /// What is still missing.
    fn missing(&self, seen: Seen<'_>) -> Option<String> {
        if self.act == Act::MoveRegion(0) {
            return Some(tr!("missing-region").into());
        }
        if self.act == Act::OpenRma && self.number.trim().is_empty() {
            return Some(tr!("missing-number").into());
        }
        if self.act.needs_board() {
            match self.fixture.and_then(|i| seen.line.fixtures.get(i)) {
                None => return Some(tr!("missing-fixture").into()),
                Some(f) if f.running.is_some() => return Some(tr!("missing-running", name = &f.name)),
                Some(f) if f.trouble.is_some() => return Some(tr!("missing-trouble", name = &f.name)),
                Some(_) => {}
            }
        }
        if self.act.needs_reason() && self.reason.trim().is_empty() {
            return Some(tr!("missing-reason").into());
        }
        (self.destroys() && !self.sure).then(|| tr!("missing-tick").into())
    }
}

/// A line of text that somebody fills in.
fn field(ui: &mut Ui, id: &str, text: &mut String, hint: &str, most: usize, on: bool) -> egui::Response {
    let edit = egui::TextEdit::singleline(text)
        .id(Id::unique(id))
        .hint_text(hint)
        .char_limit(most)
        .interactive(on)
        .desired_width(f32::INFINITY)
        .margin(vec2(10.0, 8.0));
    ui.add(edit)
}

/// The dialog in which a decision is made.
pub(super) fn show(
    ui: &mut Ui,
    room: Rect,
    file: &UnitFile,
    seen: Seen<'_>,
    view: &mut ViewState,
    out: &mut Asked,
    p: &Palette,
) {
    let Some(mut form) = view.units.form.take() else { return };
    if form.unit != file.unit.id {
        return;
    }
    let carries = file.open_order().is_some_and(|open| Act::of(open) == form.act);
    let mut done = false;
    let mut back = false;
    let command_enter = ui.input_mut(|i| i.consume_key(Modifiers::COMMAND, Key::Enter));
    let modal = widgets::modal(ui, "decision", p, |ui| {
        let width = 580.0_f32.min(room.width() - 80.0);
        ui.set_width(width);
        ui.spacing_mut().item_spacing.y = 8.0;
        let row = |ui: &mut Ui, height: f32| ui.allocate_exact_size(vec2(width, height), Sense::hover()).0;
        let r = row(ui, 30.0);
        let title = if carries {
            let act = act_name(form.act).to_lowercase();
            tr!("decision-title-carry", act = act, serial = &file.unit.serial)
        } else {
            tr!("decision-title", act = act_name(form.act), serial = &file.unit.serial)
        };
        widgets::line(ui, r, Align2::LEFT_CENTER, &title, strong(20.0), p.text);
        let r = row(ui, 40.0);
        widgets::block(ui, r, Align2::LEFT_TOP, purpose(form.act), regular(14.5), p.muted, 2);
        let dies = deaths(form.act, file);
        if !dies.is_empty() {
            dying(ui, width, &dies, p);
        }
        if let Act::MoveRegion(chosen) = form.act
            && !carries
        {
            let r = row(ui, 20.0);
            let text = tr!("decision-where-to", region = file.keys.region);
            widgets::line(ui, r, Align2::LEFT_CENTER, &text, strong(14.5), p.text);
            let others: Vec<u32> =
                seen.desk.regions.iter().copied().filter(|r| *r != file.keys.region).collect();
            let options: Vec<_> = others
                .iter()
                .map(|r| (tr!("decision-region-name", region = *r), String::new(), None))
                .collect();
            let at = others.iter().position(|r| *r == chosen);
            if let Some(i) = choose(ui, width, tr!("decision-region"), &options, at, p) {
                form.act = Act::MoveRegion(others[i]);
            }
        }
        if form.act.needs_board() {
            let r = row(ui, 20.0);
            let text = tr!("decision-which-fixture");
            widgets::line(ui, r, Align2::LEFT_CENTER, text, strong(14.5), p.text);
            let options: Vec<_> = seen
                .line
                .fixtures
                .iter()
                .map(|f| {
                    let (word, off) = match (&f.running, &f.trouble, f.present) {
                        (Some(_), ..) => {
                            (tr!("decision-fixture-running"), Some(tr!("missing-running", name = &f.name)))
                        }
                        (_, Some(trouble), _) => {
                            let (sentence, remedy) = i18n::failure(trouble);
                            let code = trouble.code.to_string();
                            let told =
                                tr!("tile-spoken-failure", code = code, sentence = sentence, remedy = remedy);
                            (tr!("decision-fixture-trouble"), Some(told))
                        }
                        (.., Some(true)) => (tr!("decision-fixture-board"), None),
                        (.., Some(false)) => (tr!("decision-fixture-empty"), None),
                        (.., None) => ("", None),
                    };
                    (f.name.clone(), word.to_owned(), off)
                })
                .collect();
            egui::ScrollArea::vertical().id_salt("fixtures to choose").max_height(132.0).show(ui, |ui| {
                let bar = if options.len() > 12 { 14.0 } else { 0.0 };
                if let Some(i) = choose(ui, width - bar, tr!("decision-fixture"), &options, form.fixture, p) {
                    form.fixture = Some(i);
                }
            });
        }
        if form.act == Act::OpenRma {
            let r = row(ui, 20.0);
            widgets::line(ui, r, Align2::LEFT_CENTER, tr!("decision-number"), strong(14.5), p.text);
            let edit = field(ui, "number", &mut form.number, tr!("decision-number-hint"), 32, true);
            ui.ctx().accesskit_node_builder(edit.id, |node| node.set_label(tr!("decision-number-name")));
            if !form.focused {
                edit.request_focus();
                form.focused = true;
            }
        }
        if form.act.needs_reason() {
            let r = row(ui, 20.0);
            let operator = &seen.line.operator;
            let (text, hint) = match form.act {
                Act::OpenRma => (tr!("decision-symptom", operator = operator), tr!("decision-symptom-hint")),
                Act::CloseRma => (tr!("decision-finding", operator = operator), tr!("decision-finding-hint")),
                _ => (tr!("decision-why", operator = operator), tr!("decision-why-hint")),
            };
            widgets::line(ui, r, Align2::LEFT_CENTER, &text, strong(14.5), p.text);
            let edit = field(ui, "reason", &mut form.reason, hint, 500, !carries);
            ui.ctx().accesskit_node_builder(edit.id, |node| node.set_label(tr!("decision-why-name")));
            if !form.focused && !carries {
                edit.request_focus();
                form.focused = true;
            }
        }
        if form.act.takes_note() {
            let r = row(ui, 20.0);
            widgets::line(ui, r, Align2::LEFT_CENTER, tr!("decision-note"), strong(14.5), p.text);
            let edit = field(ui, "note", &mut form.note, tr!("decision-note-hint"), 500, true);
            ui.ctx().accesskit_node_builder(edit.id, |node| node.set_label(tr!("decision-note-name")));
        }
        if form.destroys() {
            let text = tr!("decision-sure");
            ui.scope(|ui| {
                // As large as the other controls.
                ui.spacing_mut().icon_width = 22.0;
                ui.spacing_mut().icon_width_inner = 14.0;
                ui.checkbox(&mut form.sure, egui::RichText::new(text).font(strong(14.5)));
            });
        }
        let r = row(ui, 40.0);
        let missing = form.missing(seen);
        let go = Button {
            text: verb(form.act),
            name: verb(form.act),
            icon: None,
            loud: if form.destroys() { Loud::Danger } else { Loud::Primary },
            enabled: missing.is_none(),
            size: 15.0,
        };
        let w = go.width(ui);
        let place = Rect::from_min_size(pos2(r.right() - w, r.top() + 2.0), vec2(w, 38.0));
        let pressed = go.show(ui, place);
        if missing.is_none() && (pressed.clicked() || command_enter) {
            done = true;
        }
        let cancel = Button {
            text: tr!("decision-back"),
            name: tr!("decision-back-name"),
            icon: None,
            loud: Loud::Quiet,
            enabled: true,
            size: 15.0,
        };
        let w = cancel.width(ui);
        let place = Rect::from_min_size(pos2(place.left() - w - 10.0, r.top() + 2.0), vec2(w, 38.0));
        back = cancel.show(ui, place).clicked();
        let hint = Rect::from_min_max(r.min, pos2(place.left() - 10.0, r.bottom()));
        match &missing {
            Some(missing) => {
                ui.ctx().accesskit_node_builder(pressed.id, |node| node.set_description(missing.clone()));
                widgets::line(ui, hint, Align2::LEFT_CENTER, missing, regular(13.5), p.error.ink);
                pressed.on_hover_text(missing);
            }
            None => {
                let text = tr!("decision-keys");
                widgets::line(ui, hint, Align2::LEFT_CENTER, text, regular(13.0), p.muted);
            }
        }
    });
    if done {
        out.desk.push(desk::Command::Decide(Decision {
            unit: form.unit,
            act: form.act,
            reason: form.reason.trim().to_owned(),
            operator: seen.line.operator.clone(),
            fixture: form.fixture.filter(|_| form.act.needs_board()),
            number: form.number.trim().to_owned(),
            note: form.note.trim().to_owned(),
        }));
        view.units.wants_focus = true;
    } else if back || modal.should_close() {
        view.units.wants_focus = true;
    } else {
        view.units.form = Some(form);
    }
}

fn dying(ui: &mut Ui, width: f32, dies: &[String], p: &Palette) {
    let words = width - 54.0;
    let font = regular(14.0);
    let lines: Vec<f32> = dies
        .iter()
        .map(|text| ui.painter().layout(text.clone(), font.clone(), p.text, words).size().y)
        .collect();
    let height = 42.0 + lines.iter().map(|h| h + 5.0).sum::<f32>();
    let (card, _) = ui.allocate_exact_size(vec2(width, height), Sense::hover());
    ui.painter().rect(card, 10.0, p.fail.soft, Stroke::new(1.0, p.fail.solid), StrokeKind::Inside);
    let inner = card.shrink2(vec2(14.0, 10.0));
    let icon = Rect::from_min_size(inner.min, vec2(18.0, 18.0));
    icons::paint(ui.painter(), icon, Icon::Warning, p.fail.ink, p.fail.soft, 0.0);
    let title = Rect::from_min_size(pos2(icon.right() + 8.0, inner.top()), vec2(words, 18.0));
    widgets::line(ui, title, Align2::LEFT_CENTER, tr!("decision-no-undo"), strong(14.5), p.fail.ink);
    let mut top = title.bottom() + 7.0;
    for (text, height) in dies.iter().zip(lines) {
        ui.painter().circle_filled(pos2(icon.center().x, top + 9.0), 2.5, p.fail.ink);
        let place = Rect::from_min_size(pos2(title.left(), top), vec2(words, height));
        widgets::block(ui, place, Align2::LEFT_TOP, text, font.clone(), p.text, 4);
        top += height + 5.0;
    }
}

/// Options side by side, one of them taken: name, word and, if it can't be taken, why.
fn choose(
    ui: &mut Ui,
    width: f32,
    what: &str,
    options: &[(String, String, Option<String>)],
    chosen: Option<usize>,
    p: &Palette,
) -> Option<usize> {
    let mut taken = None;
    let columns = if width > 500.0 { 4 } else { 3 };
    let cell = (width - 8.0 * (columns - 1) as f32) / columns as f32;
    for (start, group) in options.chunks(columns).enumerate() {
        let (r, _) = ui.allocate_exact_size(vec2(width, 38.0), Sense::hover());
        for (i, (name, word, off)) in group.iter().enumerate() {
            let index = start * columns + i;
            let place =
                Rect::from_min_size(pos2(r.left() + (cell + 8.0) * i as f32, r.top()), vec2(cell, 38.0));
            let sense = if off.is_some() { Sense::hover() } else { Sense::click() };
            let response = ui.interact(place, ui.scope_id().with((what, index)), sense);
            let on = chosen == Some(index);
            let said = if word.is_empty() {
                tr!("decision-option", what = what, name = name)
            } else {
                tr!("decision-option-word", what = what, name = name, word = word)
            };
            response.widget_info(|| WidgetInfo::selected(Role::RadioButton, off.is_none(), on, &said));
            let (fill, edge) = match (on, off.is_some(), response.hovered()) {
                (true, ..) => (p.running.soft, Stroke::new(2.0, p.running.solid)),
                (_, true, _) => (p.surface, Stroke::new(1.0, p.border)),
                (.., true) => (p.hover, Stroke::new(1.0, p.outline)),
                _ => (p.surface, Stroke::new(1.0, p.outline)),
            };
            ui.painter().rect(place, 8.0, fill, edge, StrokeKind::Inside);
            let ring = pos2(place.left() + 17.0, place.center().y);
            ui.painter().circle_stroke(
                ring,
                6.0,
                Stroke::new(1.5, if off.is_some() { p.border } else { p.outline }),
            );
            if on {
                ui.painter().circle_filled(ring, 3.5, p.running.solid);
            }
            let words =
                Rect::from_min_max(pos2(ring.x + 12.0, place.top() + 3.0), place.max - vec2(6.0, 3.0));
            let ink = if off.is_some() { p.muted } else { p.text };
            let upper = if word.is_empty() {
                words
            } else {
                Rect::from_min_max(words.min, pos2(words.right(), words.center().y + 2.0))
            };
            widgets::line(ui, upper, Align2::LEFT_CENTER, name, strong(14.0), ink);
            if !word.is_empty() {
                let lower = Rect::from_min_max(pos2(words.left(), words.center().y + 1.0), words.max);
                widgets::line(ui, lower, Align2::LEFT_CENTER, word, regular(12.0), p.muted);
            }
            if response.has_focus() {
                widgets::focus_ring(ui, place, 8.0, p);
            }
            if response.clicked() {
                taken = Some(index);
            }
            if let Some(why) = off {
                response.on_hover_text(why);
            }
        }
    }
    taken
}
