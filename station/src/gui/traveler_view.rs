//! The right half of an open unit: overview, traveler, or the record beside what the unit says of itself.

use super::icons::{self, Icon};
use super::line_view::ViewState;
use super::said;
use super::shell::{Asked, Seen};
use super::theme::{Palette, Tone, regular, strong};
use super::units_view::{Column, Field, Line, WHEN, detail, outcome_look, rows};
use super::widgets::{self, Button, Loud};
use super::{decision, state};
use crate::compare::{self, Comparison, Health, Verdict};
use crate::desk::{self, Act, UnitFile};
use crate::i18n::{date_time, tr};
use crate::traveler::{self, Entry, Form, Group};
use egui::{Align2, Id, Rect, Sense, Stroke, Ui, UiBuilder, pos2, vec2};
use serde_json::Value;

/// What is shown of a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Panel {
    /// Orders, attempts, RMAs, keys, exports, history; each a table.
    #[default]
    Overview,
    /// All of it in the order of time.
    Traveler,
    /// The record beside the unit.
    Compare,
}

/// What the window remembers of it.
#[derive(Clone, Debug, Default)]
pub struct StoryState {
    /// Which.
    pub panel: Panel,
    /// Only these lines of the traveler; empty: all.
    pub groups: Vec<Group>,
    /// Only lines with this text.
    pub filter: String,
}

/// The switch between the three; where it ends.
pub(super) fn tabs(ui: &mut Ui, head: Rect, view: &mut ViewState) -> f32 {
    let all = [
        (Panel::Overview, tr!("story-tab-overview")),
        (Panel::Traveler, tr!("story-tab-traveler")),
        (Panel::Compare, tr!("story-tab-compare")),
    ];
    let mut x = head.left();
    for (panel, text) in all {
        let on = view.units.story.panel == panel;
        let button = Button {
            text,
            name: &tr!("story-tab-name", what = text),
            icon: None,
            loud: if on { Loud::Primary } else { Loud::Quiet },
            enabled: true,
            size: 13.0,
        };
        let w = button.width(ui);
        let place = Rect::from_min_size(pos2(x, head.top()), vec2(w, head.height()));
        let response = button.show(ui, place);
        ui.ctx().accesskit_node_builder(response.id, |node| node.set_selected(on));
        if response.clicked() {
            view.units.story.panel = panel;
        }
        x += w + 6.0;
    }
    x
}

fn group_word(group: Group) -> &'static str {
    match group {
        Group::Attempt => tr!("group-attempt"),
        Group::Step => tr!("group-step"),
        Group::Key => tr!("group-key"),
        Group::Label => tr!("group-label"),
        Group::Decision => tr!("group-decision"),
        Group::Rma => tr!("group-rma"),
        Group::Export => tr!("group-export"),
    }
}

/// Facts without what has a place of its own.
pub(super) fn plain(facts: &Value) -> Value {
    let mut facts = facts.clone();
    if let Value::Object(all) = &mut facts {
        all.remove("comparison");
    }
    facts
}

const TRAVELER: &[Column] = &[
    (Field::When, WHEN),
    (Field::What, 150.0),
    (Field::By, 92.0),
    (Field::Outcome, 84.0),
    (Field::Facts, 0.0),
];

fn line(e: &Entry, p: &Palette) -> (Vec<String>, Option<Tone>) {
    let list = |first: String, second: String| tr!("tile-list", first = first, second = second);
    let facts = match &e.facts {
        // A failure's own words come first, in the language of the window.
        Value::Object(all) if !e.code.is_empty() => {
            let mut rest = all.clone();
            let said = rest.remove("failure").and_then(|f| f.as_str().map(str::to_owned)).unwrap_or_default();
            let first = format!("{} {said}", e.code);
            list(first, detail(&Value::Object(rest)))
        }
        facts => detail(facts),
    };
    let place = [
        e.fixture.clone(),
        e.seconds.map(|s| tr!("story-seconds", seconds = format!("{s:.1}"))).unwrap_or_default(),
    ];
    let place = place.into_iter().filter(|p| !p.is_empty()).reduce(list);
    let facts = match place {
        Some(place) => list(place, facts),
        None => facts,
    };
    let outcome = e.outcome.map(state::outcome_word).unwrap_or_default().to_owned();
    let cells = vec![date_time(e.at.0), said::event(&e.what).into_owned(), e.by.clone(), outcome, facts];
    (cells, e.outcome.map(|o| outcome_look(o, p)))
}

/// Everything in the order of time, newest first.
pub(super) fn show(
    ui: &mut Ui,
    head: Rect,
    body: Rect,
    file: &UnitFile,
    view: &mut ViewState,
    out: &mut Asked,
    p: &Palette,
) {
    let entries = traveler::entries(file);
    save_buttons(ui, head, file, view, out);
    let row = Rect::from_min_size(body.min, vec2(head.right() - body.left(), 28.0));
    filters(ui, row, &entries, view, p);
    let story = &view.units.story;
    let needle = story.filter.trim().to_lowercase();
    let mut all = vec![Line::Head(TRAVELER)];
    for e in entries.iter().rev() {
        if !story.groups.is_empty() && !story.groups.contains(&e.group) {
            continue;
        }
        let (cells, tone) = line(e, p);
        if needle.is_empty() || cells.iter().any(|c| c.to_lowercase().contains(&needle)) {
            all.push(Line::Cells(TRAVELER, cells, tone));
        }
    }
    if all.len() == 1 {
        all = vec![Line::Words(tr!("story-filtered-none"))];
    }
    let list = Rect::from_min_max(pos2(body.left(), row.bottom() + 6.0), body.max);
    if let Some(text) = rows(ui, list, row.width(), ("traveler", file.unit.id.0), &all, p) {
        ui.ctx().copy_text(text);
        view.notice = Some(tr!("story-row-copied").into());
    }
}

fn save_buttons(ui: &mut Ui, head: Rect, file: &UnitFile, view: &mut ViewState, out: &mut Asked) {
    let mut right = head.right();
    for form in Form::ALL.into_iter().rev() {
        let text = match form {
            Form::Text => "TXT",
            Form::Csv => "CSV",
            Form::Json => "JSON",
        };
        let name = tr!("story-save", form = text);
        let button = Button { text, name: &name, icon: None, loud: Loud::Quiet, enabled: true, size: 12.5 };
        let w = button.width(ui);
        let place = Rect::from_min_size(pos2(right - w, head.top()), vec2(w, head.height()));
        if button.show(ui, place).on_hover_text(name.as_str()).clicked() {
            let groups = view.units.story.groups.clone();
            out.desk.push(desk::Command::SaveTraveler { groups, form });
        }
        right -= w + 5.0;
    }
    let copy = Button {
        text: "",
        name: tr!("story-copy-name"),
        icon: Some(Icon::Copy),
        loud: Loud::Quiet,
        enabled: true,
        size: 13.0,
    };
    let place = Rect::from_min_size(pos2(right - 34.0, head.top()), vec2(34.0, head.height()));
    if copy.show(ui, place).on_hover_text(tr!("story-copy-hint")).clicked() {
        ui.ctx().copy_text(traveler::write(file, &view.units.story.groups, Form::Text));
        view.notice = Some(tr!("story-copied", serial = &file.unit.serial));
    }
}

fn filters(ui: &mut Ui, row: Rect, entries: &[Entry], view: &mut ViewState, p: &Palette) {
    let _ = p;
    let field = 150.0_f32.min(row.width() * 0.24);
    let mut x = row.left();
    for group in Group::ALL {
        let count = entries.iter().filter(|e| e.group == group).count();
        let on = view.units.story.groups.contains(&group);
        if count == 0 && !on {
            continue;
        }
        let text = format!("{} {count}", group_word(group));
        let button = Button {
            text: &text,
            name: &tr!("search-only-name", what = group_word(group)),
            icon: None,
            loud: if on { Loud::Primary } else { Loud::Quiet },
            enabled: true,
            size: 12.0,
        };
        let w = button.width(ui) - 6.0;
        if x + w > row.right() - field - 6.0 {
            break;
        }
        let response = button.show(ui, Rect::from_min_size(pos2(x, row.top()), vec2(w, row.height())));
        widgets::say_toggled(ui, &response, on);
        if response.clicked() {
            let groups = &mut view.units.story.groups;
            if on { groups.retain(|g| *g != group) } else { groups.push(group) }
        }
        x += w + 4.0;
    }
    let place = Rect::from_min_max(pos2(row.right() - field, row.top()), row.max);
    let edit = egui::TextEdit::singleline(&mut view.units.story.filter)
        .id(Id::unique("traveler filter"))
        .hint_text(tr!("story-filter-hint"))
        .char_limit(64)
        .font(regular(13.0))
        .desired_width(place.width());
    let response = ui.put(place, edit);
    ui.ctx().accesskit_node_builder(response.id, |node| node.set_label(tr!("story-filter")));
}

fn field_word(field: compare::Field) -> &'static str {
    use compare::Field;
    match field {
        Field::HardwareId => tr!("compare-field-hardware-id"),
        Field::ProductOrder => tr!("compare-field-product-order"),
        Field::Suite => tr!("compare-field-suite"),
        Field::Firmware => tr!("compare-field-firmware"),
        Field::Stage => tr!("compare-field-stage"),
        Field::Record => tr!("compare-field-record"),
        Field::AgentKey => tr!("compare-field-agent-key"),
        Field::CloudKey => tr!("compare-field-cloud-key"),
        Field::Region => tr!("compare-field-region"),
        Field::AgentFingerprint => tr!("compare-field-agent-fingerprint"),
        Field::CloudFingerprint => tr!("compare-field-cloud-fingerprint"),
        Field::Anchors => tr!("compare-field-anchors"),
    }
}

fn health_word(what: Health) -> &'static str {
    match what {
        Health::AreaA => tr!("health-area-a"),
        Health::AreaB => tr!("health-area-b"),
        Health::LastFailure => tr!("health-last-failure"),
        Health::Cloud => tr!("health-cloud"),
        Health::ResetCause => tr!("health-reset-cause"),
        Health::Uptime => tr!("health-uptime"),
        Health::Ram => tr!("health-ram"),
    }
}

/// The record beside the unit; whether somebody wants to ask it.
pub(super) fn compare(
    ui: &mut Ui,
    head: Rect,
    body: Rect,
    file: &UnitFile,
    seen: Seen<'_>,
    view: &mut ViewState,
    p: &Palette,
) -> bool {
    let why = decision::refusal(Act::Compare, file, seen, view.closing);
    let ask = Button {
        text: tr!("act-compare"),
        name: tr!("act-compare"),
        icon: Some(Icon::Search),
        loud: Loud::Quiet,
        enabled: why.is_none(),
        size: 13.0,
    };
    let w = ask.width(ui);
    let place = Rect::from_min_size(pos2(head.right() - w, head.top()), vec2(w, head.height()));
    let response = ask.show(ui, place);
    if let Some(why) = &why {
        ui.ctx().accesskit_node_builder(response.id, |node| node.set_description(why.clone()));
    }
    let asked = response.clicked();
    response.on_hover_text(why.unwrap_or_else(|| decision::purpose(Act::Compare).into()));
    match compare::newest(file) {
        Some((at, comparison)) => table(ui, body, at, &comparison, view, p),
        None => {
            let slice = |top: f32, height: f32| {
                Rect::from_min_size(
                    pos2(body.left() + 20.0, body.top() + top),
                    vec2(body.width() - 40.0, height),
                )
            };
            let text = tr!("compare-none");
            widgets::line(ui, slice(40.0, 30.0), Align2::CENTER_CENTER, text, strong(18.0), p.text);
            let text = tr!("compare-none-text");
            widgets::block(ui, slice(78.0, 66.0), Align2::CENTER_TOP, text, regular(14.5), p.muted, 3);
        }
    }
    asked
}

const ROW: f32 = 25.0;

fn table(ui: &mut Ui, body: Rect, at: i64, comparison: &Comparison, view: &mut ViewState, p: &Palette) {
    let differs = comparison.differing().count();
    let (tone, icon) = if differs == 0 { (p.pass, Icon::Check) } else { (p.fail, Icon::Cross) };
    ui.scope_builder(UiBuilder::new().max_rect(body), |ui| {
        ui.set_clip_rect(body.expand2(vec2(4.0, 0.0)).intersect(ui.clip_rect()));
        ui.spacing_mut().item_spacing.y = 0.0;
        egui::ScrollArea::vertical().id_salt("comparison").auto_shrink(false).show(ui, |ui| {
            let width = body.width() - 14.0;
            let row =
                |ui: &mut Ui, height: f32| ui.allocate_exact_size(vec2(width, height), Sense::hover()).0;
            let r = row(ui, 34.0);
            let square = Rect::from_center_size(pos2(r.left() + 10.0, r.center().y), vec2(18.0, 18.0));
            icons::paint(ui.painter(), square, icon, tone.ink, p.surface, 0.0);
            let first = tr!("compare-differs", count = differs);
            let when = tr!("compare-at", at = date_time(at));
            let text = tr!("tile-list", first = first, second = when);
            let words = Rect::from_min_max(pos2(square.right() + 8.0, r.top()), r.max);
            widgets::line(ui, words, Align2::LEFT_CENTER, &text, strong(14.5), tone.ink);
            let columns = |r: Rect| {
                let x = |share: f32| r.left() + r.width() * share;
                let cut = [0.0, 0.27, 0.53, 0.8, 1.0];
                [0, 1, 2, 3].map(|i| {
                    Rect::from_min_max(pos2(x(cut[i]), r.top()), pos2(x(cut[i + 1]) - 8.0, r.bottom()))
                })
            };
            let r = row(ui, ROW);
            let names = [Field::Named, Field::Record, Field::Unit, Field::Verdict].map(Field::name);
            for (place, name) in columns(r).into_iter().zip(names) {
                widgets::line(ui, place, Align2::LEFT_CENTER, name, regular(12.5), p.muted);
            }
            ui.painter().hline(r.x_range(), r.bottom() - 1.0, Stroke::new(1.0, p.border));
            for f in &comparison.fields {
                let r = row(ui, ROW);
                let (word, ink, icon) = match f.verdict {
                    Verdict::Same => (tr!("compare-same"), p.pass.ink, Some(Icon::Check)),
                    Verdict::Differs => (tr!("compare-differs-word"), p.fail.ink, Some(Icon::Cross)),
                    Verdict::NotReported => (tr!("compare-not-reported"), p.muted, None),
                    Verdict::NotRecorded => (tr!("compare-not-recorded"), p.muted, None),
                };
                let [a, b, c, d] = columns(r);
                widgets::line(ui, a, Align2::LEFT_CENTER, field_word(f.field), regular(13.5), p.muted);
                widgets::line(ui, b, Align2::LEFT_CENTER, &said::says(&f.record), regular(13.5), p.text);
                let unit = if f.verdict == Verdict::NotReported {
                    tr!("compare-not-reported").to_owned()
                } else {
                    said::says(&f.unit)
                };
                let told = if f.verdict == Verdict::NotReported { p.muted } else { p.text };
                widgets::line(ui, c, Align2::LEFT_CENTER, &unit, regular(13.5), told);
                verdict(ui, d, word, ink, icon, p);
            }
            row(ui, 10.0);
            let r = row(ui, 32.0);
            widgets::line(ui, r, Align2::LEFT_CENTER, tr!("compare-health"), strong(14.5), p.text);
            let text = tr!("compare-matrix");
            let matrix =
                Button { text, name: text, icon: None, loud: Loud::Quiet, enabled: true, size: 13.0 };
            let w = matrix.width(ui);
            let place = Rect::from_min_size(pos2(r.right() - w, r.top()), vec2(w, 28.0));
            if matrix.show(ui, place).clicked() {
                view.matrix = true;
            }
            for h in &comparison.health {
                let r = row(ui, ROW);
                let (word, ink, icon) = match h.good {
                    Some(true) => (tr!("compare-good"), p.pass.ink, Some(Icon::Check)),
                    Some(false) => (tr!("compare-look"), p.fail.ink, Some(Icon::Warning)),
                    None => (tr!("compare-told"), p.muted, None),
                };
                let [a, b, c, d] = columns(r);
                widgets::line(ui, a, Align2::LEFT_CENTER, health_word(h.what), regular(13.5), p.muted);
                let both = Rect::from_min_max(b.min, c.max);
                widgets::line(ui, both, Align2::LEFT_CENTER, &said::says(&h.says), regular(13.5), p.text);
                verdict(ui, d, word, ink, icon, p);
            }
            row(ui, 6.0);
        });
    });
}

fn verdict(ui: &mut Ui, place: Rect, word: &str, ink: egui::Color32, icon: Option<Icon>, p: &Palette) {
    let mut words = place;
    if let Some(icon) = icon {
        let square = Rect::from_center_size(pos2(place.left() + 8.0, place.center().y), vec2(14.0, 14.0));
        icons::paint(ui.painter(), square, icon, ink, p.surface, 0.0);
        words.min.x = square.right() + 6.0;
    }
    widgets::line(ui, words, Align2::LEFT_CENTER, word, strong(13.0), ink);
}
