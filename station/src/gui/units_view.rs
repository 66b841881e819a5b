//! The Units view: a unit comes back, QA sees all that happened to it and decides.
//!
//! Invariants:
//! - Whatever a scanner types while no text is being edited goes into the search field; its Enter never decides anything.
//! - A control that is off says why.

use super::copy;
use super::decision::{self, Form, act_name, purpose, refusal};
use super::icons::{self, Icon};
use super::line_view::{self, ViewState};
use super::said;
use super::search_view;
use super::shell::{Asked, Seen};
use super::state;
use super::theme::{Palette, Tone, mono, palette, regular, strong};
use super::traveler_view::{self, Panel};
use super::unit_label;
use super::widgets::{self, Button, Loud};
use crate::desk::{self, Act, Told, UnitFile};
use crate::export::Stamp;
use crate::i18n::{self, date_time, tr};
use crate::line;
use crate::model::{Outcome, UnitState};
use crate::records::{Reprovision, ReprovisionKind};
use egui::{
    Align2, FontId, Id, Key, Rect, Role, Sense, Stroke, StrokeKind, Ui, UiBuilder, WidgetInfo, pos2, vec2,
};

/// What the window remembers of the Units view.
#[derive(Clone, Debug, Default)]
pub struct UnitsState {
    /// What stands in the search field.
    pub query: String,
    /// The decision that is being made.
    pub form: Option<Form>,
    /// The label that is being compared.
    pub label: Option<super::unit_label::LabelForm>,
    /// The search field is to get the keyboard.
    pub(super) wants_focus: bool,
    /// What is searched for besides the text, and which hit is chosen.
    pub search: search_view::SearchState,
    /// What is shown of the open unit.
    pub story: traveler_view::StoryState,
}

const fn search_id() -> &'static str {
    "unit search"
}

pub(super) fn state_word(state: UnitState) -> &'static str {
    match state {
        UnitState::Arrived => tr!("unit-state-arrived"),
        UnitState::Flashing => tr!("unit-state-flashing"),
        UnitState::StageOne => tr!("unit-state-stage-one"),
        UnitState::AgentKey => tr!("unit-state-agent-key"),
        UnitState::CloudKey => tr!("unit-state-cloud-key"),
        UnitState::Passed => tr!("unit-state-passed"),
        UnitState::Quarantined => tr!("unit-state-quarantined"),
        UnitState::Scrapped => tr!("unit-state-scrapped"),
    }
}

pub(super) const fn state_look(state: UnitState, p: &Palette) -> (Icon, Tone) {
    match state {
        UnitState::Passed => (Icon::Check, p.pass),
        UnitState::Quarantined => (Icon::Stop, p.error),
        UnitState::Scrapped => (Icon::Cross, p.fail),
        _ => (Icon::Board, p.ready),
    }
}

pub(super) const fn outcome_look(outcome: Outcome, p: &Palette) -> Tone {
    match outcome {
        Outcome::Pass => p.pass,
        Outcome::Fail => p.fail,
        Outcome::Error => p.error,
        Outcome::Timeout => p.timeout,
        Outcome::Aborted => p.aborted,
    }
}

/// Keys of the view itself.
pub fn keys(ui: &mut Ui, seen: Seen<'_>, view: &mut ViewState, out: &mut Asked) {
    let pressed = ui.input(|i| i.events.iter().any(|e| matches!(e, egui::Event::Key { pressed: true, .. })));
    if pressed {
        view.notice = None;
    }
    if ui.input(|i| i.key_pressed(Key::Escape)) {
        let searching = view.units.search.is_on(&view.units.query);
        view.units.query.clear();
        view.units.search.only = None;
        view.units.wants_focus = true;
        if searching {
            // The unit that was open before is there again.
        } else if seen.desk.file.is_some() || seen.desk.told != Told::Nothing {
            out.desk.push(desk::Command::Leave);
        }
    }
    search_view::keys(ui, view, seen);
    // A scanner does not know where the keyboard is: what it types is a search, unless a text is being edited.
    if !ui.ctx().text_edit_focused() {
        let typed: String = ui.input(|i| {
            i.events
                .iter()
                .filter_map(|e| match e {
                    egui::Event::Text(text) if !text.trim().is_empty() => Some(text.as_str()),
                    egui::Event::Paste(text) => Some(text.trim()),
                    _ => None,
                })
                .collect()
        });
        if !typed.is_empty() {
            view.units.query.push_str(&typed);
            view.units.wants_focus = true;
        }
    }
}

/// The view below the header.
pub fn body(ui: &mut Ui, room: Rect, seen: Seen<'_>, view: &mut ViewState, free: bool, out: &mut Asked) {
    let p = palette(ui.ctx());
    let mut room = room;
    let row = Rect::from_min_size(room.min, vec2(room.width(), 44.0));
    search(ui, row, seen, view, free, out, p);
    room.min.y = row.bottom() + 10.0;
    told(ui, &mut room, &seen.desk.told, p);
    let query = std::mem::take(&mut view.units.query);
    view.units.search.ask(&query, ui, out);
    view.units.query = query;
    match &seen.desk.file {
        _ if view.units.search.is_on(&view.units.query) => search_view::show(ui, room, seen, view, out, p),
        Some(file) => unit(ui, room, file, seen, view, out, p),
        None => empty(ui, room, seen, view, p),
    }
    if view.units.form.is_some() {
        match &seen.desk.file {
            Some(file) => decision::show(ui, room, file, seen, view, out, p),
            None => view.units.form = None,
        }
    }
    match &seen.desk.file {
        Some(file) if view.units.label.is_some() => unit_label::show(ui, file, seen, view, out, p),
        _ => view.units.label = None,
    }
}

fn search(
    ui: &mut Ui,
    row: Rect,
    seen: Seen<'_>,
    view: &mut ViewState,
    free: bool,
    out: &mut Asked,
    p: &Palette,
) {
    let field = Rect::from_min_size(row.min, vec2(480.0_f32.min(row.width() - 130.0), row.height()));
    ui.painter().rect(field, 9.0, p.surface, Stroke::new(1.0, p.outline), StrokeKind::Inside);
    let icon = Rect::from_center_size(pos2(field.left() + 22.0, field.center().y), vec2(18.0, 18.0));
    icons::paint(ui.painter(), icon, Icon::Search, p.muted, p.surface, 0.0);
    let inner = Rect::from_min_max(
        pos2(icon.right() + 8.0, field.top() + 2.0),
        pos2(field.right() - 8.0, field.bottom() - 2.0),
    );
    let edit = egui::TextEdit::singleline(&mut view.units.query)
        .id(Id::unique(search_id()))
        .hint_text(tr!("units-search-hint"))
        .char_limit(128)
        .frame(egui::Frame::NONE)
        .font(regular(16.0))
        .align(Align2::LEFT_CENTER)
        .desired_width(inner.width())
        .min_size(inner.size());
    let response = ui.put(inner, edit);
    ui.ctx().accesskit_node_builder(response.id, |node| node.set_label(tr!("units-search-name")));
    if response.has_focus() {
        widgets::focus_ring(ui, field, 9.0, p);
    }
    let entered = free && response.lost_focus() && ui.input(|i| i.key_pressed(Key::Enter));
    let nothing = free && ui.ctx().memory(|m| m.focused().is_none()) && !response.lost_focus();
    if view.units.wants_focus || (nothing && ui.ctx().cumulative_frame_nr() < 3) || entered {
        view.units.wants_focus = false;
        response.request_focus();
        let mut state = egui::text_edit::TextEditState::load(ui.ctx(), response.id).unwrap_or_default();
        let end = egui::text::CCursor::new(view.units.query.chars().count());
        state.cursor.set_char_range(Some(egui::text::CCursorRange::one(end)));
        state.store(ui.ctx(), response.id);
    }
    let find = Button {
        text: tr!("units-find"),
        name: tr!("units-find-name"),
        icon: None,
        loud: Loud::Primary,
        enabled: !view.units.query.trim().is_empty(),
        size: 15.0,
    };
    let place =
        Rect::from_min_size(pos2(field.right() + 10.0, row.top()), vec2(find.width(ui) + 12.0, row.height()));
    let go = find.show(ui, place).clicked() || entered;
    if go
        && view.units.search.is_on(&view.units.query)
        && let Some(id) = search_view::entered(view, seen)
    {
        // A hit that was chosen, or the only one; several are chosen among first.
        if !id.is_empty() {
            search_view::open(id, view, out);
        }
    } else if go && !view.units.query.trim().is_empty() {
        // Empty again, so that the next scan does not hang on to this one.
        let query = std::mem::take(&mut view.units.query);
        out.desk.push(desk::Command::Find(query.trim().to_owned()));
        view.units.wants_focus = true;
    }
}

/// The newest word of the desk, above what it is about.
pub(super) fn told(ui: &mut Ui, room: &mut Rect, told: &Told, p: &Palette) {
    let turn = (ui.input(|i| i.time) as f32 * 0.5).fract();
    let (tone, icon, title, text) = match told {
        Told::Nothing => return,
        Told::Working(what) => (p.running, Icon::Turning, said::told(what), String::new()),
        Told::Done(what) => (p.pass, Icon::Check, said::told(what), String::new()),
        Told::Failed(failure) => {
            let (sentence, remedy) = i18n::failure(failure);
            (p.fail, Icon::Warning, format!("{} {sentence}", failure.code), remedy)
        }
    };
    let height = if text.is_empty() { 44.0 } else { 60.0 };
    let rect = Rect::from_min_size(room.min, vec2(room.width(), height));
    ui.painter().rect(rect, 10.0, tone.soft, Stroke::new(1.0, tone.solid), StrokeKind::Inside);
    let square = Rect::from_center_size(pos2(rect.left() + 26.0, rect.center().y), vec2(22.0, 22.0));
    icons::paint(ui.painter(), square, icon, tone.ink, tone.soft, turn);
    let words = Rect::from_min_max(pos2(square.right() + 12.0, rect.top() + 8.0), rect.max - vec2(14.0, 8.0));
    let words = match told {
        Told::Failed(failure) => copy::button(ui, words, &copy::told(failure)),
        _ => words,
    };
    let upper =
        if text.is_empty() { words } else { Rect::from_min_size(words.min, vec2(words.width(), 22.0)) };
    let used = widgets::line(ui, upper, Align2::LEFT_CENTER, &title, strong(15.0), tone.ink);
    let lower = Rect::from_min_max(pos2(words.left(), words.bottom() - 20.0), words.max);
    if !text.is_empty() {
        widgets::line(ui, lower, Align2::LEFT_CENTER, &text, regular(14.0), p.text);
    }
    let response = ui.interact(used, ui.scope_id().with("told"), Sense::hover());
    ui.ctx().accesskit_node_builder(response.id, |node| {
        node.set_live(egui::accesskit::Live::Polite);
        node.set_value(title.clone());
    });
    room.min.y = rect.bottom() + 10.0;
}

fn empty(ui: &mut Ui, room: Rect, seen: Seen<'_>, view: &mut ViewState, p: &Palette) {
    let row = Rect::from_min_size(room.min, vec2(room.width(), 32.0));
    search_view::only(ui, row, view, p);
    let card = Rect::from_center_size(
        pos2(room.center().x, room.top() + room.height() * 0.42),
        vec2(660.0_f32.min(room.width()), 250.0_f32.min(room.height())),
    );
    ui.painter().rect(card, 16.0, p.surface, Stroke::new(1.0, p.border), StrokeKind::Inside);
    let icon = Rect::from_center_size(pos2(card.center().x, card.top() + 48.0), vec2(40.0, 40.0));
    icons::paint(ui.painter(), icon, Icon::Search, p.muted, p.surface, 0.0);
    let slice = |top: f32, height: f32| {
        Rect::from_min_size(pos2(card.left() + 28.0, card.top() + top), vec2(card.width() - 56.0, height))
    };
    widgets::line(ui, slice(78.0, 34.0), Align2::CENTER_CENTER, tr!("units-empty"), strong(22.0), p.text);
    let text = tr!("units-empty-text");
    widgets::block(ui, slice(116.0, 66.0), Align2::CENTER_TOP, text, regular(15.0), p.text, 3);
    let text = tr!("units-alarms", count = seen.desk.alarms.len());
    widgets::line(ui, slice(196.0, 28.0), Align2::CENTER_CENTER, &text, regular(14.0), p.muted);
}

fn unit(
    ui: &mut Ui,
    room: Rect,
    file: &UnitFile,
    seen: Seen<'_>,
    view: &mut ViewState,
    out: &mut Asked,
    p: &Palette,
) {
    let width = (room.width() * 0.34).clamp(370.0, 480.0);
    let left = Rect::from_min_size(room.min, vec2(width, room.height()));
    let mut right = Rect::from_min_max(pos2(left.right() + 14.0, room.top()), room.max);
    ui.painter().rect(left, 14.0, p.surface, Stroke::new(1.0, p.border), StrokeKind::Inside);
    ui.scope_builder(UiBuilder::new().max_rect(left.shrink2(vec2(16.0, 12.0))), |ui| {
        ui.set_clip_rect(left.shrink2(vec2(8.0, 2.0)).intersect(ui.clip_rect()));
        egui::ScrollArea::vertical().id_salt("unit facts").auto_shrink(false).show(ui, |ui| {
            ui.spacing_mut().item_spacing.y = 0.0;
            facts(ui, file, view, p);
            actions(ui, file, seen, view, p);
            unit_label::row(ui, file, seen, view, out, p);
        });
    });
    let works = |f: &line::FixtureView| {
        let running = f.running.as_ref().and_then(|r| r.qa);
        running.or(f.last.as_ref().filter(|_| f.running.is_none()).and_then(|l| l.qa)) == Some(file.unit.id)
    };
    if let Some(index) = seen.line.fixtures.iter().position(works) {
        let strip = Rect::from_min_size(right.min, vec2(right.width(), 96.0));
        line_view::strip(ui, strip, index, seen.line, view, &mut out.line);
        right.min.y = strip.bottom() + 10.0;
    }
    story(ui, right, file, seen, view, out, p);
}

fn facts(ui: &mut Ui, file: &UnitFile, view: &mut ViewState, p: &Palette) {
    let width = ui.available_width();
    let row = |ui: &mut Ui, height: f32| ui.allocate_exact_size(vec2(width, height), Sense::hover()).0;
    let unit = &file.unit;
    let r = row(ui, 36.0);
    let (icon, tone) = state_look(unit.state, p);
    let word = state_word(unit.state);
    let chip = widgets::width(ui, word, strong(13.0)) + 13.0 * 3.2;
    let serial = Rect::from_min_max(r.min, pos2(r.right() - chip - 6.0, r.bottom()));
    widgets::line(ui, serial, Align2::LEFT_CENTER, &unit.serial, strong(22.0), p.text);
    widgets::chip(ui, pos2(r.right() - chip, r.center().y), word, Some(icon), tone, 13.0);
    let keys = &file.keys;
    let generation = |n: u32| match n {
        0 => tr!("unit-key-none").to_owned(),
        n => tr!("unit-key-generation", generation = n),
    };
    let mut agent = generation(keys.agent_key);
    if keys.agent_key > 0 && !keys.enrolled {
        agent = tr!("unit-not-confirmed", key = agent);
    }
    let mut cloud = generation(keys.cloud_key);
    if keys.cloud_staged > 0 {
        cloud = tr!("unit-on-its-way", key = cloud, generation = keys.cloud_staged);
    }
    if keys.cloud_leaving > 0 {
        cloud = tr!("unit-left-behind", key = cloud, generation = keys.cloud_leaving);
    }
    let region = match keys.region_wanted {
        0 => keys.region.to_string(),
        wanted => tr!("unit-region-moves", region = keys.region, wanted = wanted),
    };
    let supersedes = file
        .orders
        .iter()
        .find(|o| o.done || o.ended_at_ms.is_none())
        .map_or_else(|| tr!("unit-supersedes-nothing").to_owned(), |o| o.supersedes.clone());
    let batch =
        tr!("unit-batch", batch = &file.batch.name, state = super::header::batch_word(file.batch.state));
    let order = &file.order;
    let order = tr!("unit-order", order = &order.name, model = &order.model, revision = &order.hw_revision);
    let attempts = match (unit.attempts, unit.interrupted) {
        (n, true) => tr!("unit-attempts-interrupted", count = n),
        (n, false) => n.to_string(),
    };
    let uid = unit.id.to_string();
    let all: [(&str, &str, FontId); 8] = [
        (tr!("unit-hardware-id"), &uid, mono(13.0)),
        (tr!("unit-batch-name"), &batch, regular(14.0)),
        (tr!("unit-product-order"), &order, regular(14.0)),
        (tr!("unit-agent-key"), &agent, regular(14.0)),
        (tr!("unit-cloud-key"), &cloud, regular(14.0)),
        (tr!("unit-region"), &region, regular(14.0)),
        (tr!("unit-supersedes"), &supersedes, mono(13.0)),
        (tr!("unit-attempts"), &attempts, regular(14.0)),
    ];
    for (i, (name, value, font)) in all.into_iter().enumerate() {
        let r = row(ui, 22.0);
        let (a, b) = (
            Rect::from_min_size(r.min, vec2(104.0, r.height())),
            Rect::from_min_max(pos2(r.left() + 108.0, r.top()), r.max),
        );
        widgets::line(ui, a, Align2::LEFT_CENTER, name, regular(13.5), p.muted);
        let b = if i == 0 { Rect::from_min_max(b.min, pos2(b.right() - 32.0, b.bottom())) } else { b };
        widgets::line(ui, b, Align2::LEFT_CENTER, value, font, p.text);
        if i == 0 {
            let copy = Button {
                text: "",
                name: tr!("unit-copy-id"),
                icon: Some(Icon::Copy),
                loud: Loud::Quiet,
                enabled: true,
                size: 12.0,
            };
            let place = Rect::from_min_size(pos2(r.right() - 28.0, r.top() - 2.0), vec2(28.0, 24.0));
            if copy.show(ui, place).on_hover_text(tr!("unit-copy")).clicked() {
                ui.ctx().copy_text(uid.clone());
                view.say_copied(tr!("copied").into());
            }
        }
    }
    row(ui, 8.0);
}

fn actions(ui: &mut Ui, file: &UnitFile, seen: Seen<'_>, view: &mut ViewState, p: &Palette) {
    let width = ui.available_width();
    let mut chosen = None;
    let mut button = |ui: &mut Ui, place: Rect, act: Act, text: &str, icon: Option<Icon>, loud: Loud| {
        let why = refusal(act, file, seen, view.closing);
        let shown = Button { text, name: text, icon, loud, enabled: why.is_none(), size: 14.0 };
        let response = shown.show(ui, place);
        if let Some(why) = &why {
            ui.ctx().accesskit_node_builder(response.id, |node| node.set_description(why.clone()));
        }
        if response.clicked() {
            chosen = Some(act);
        }
        response.on_hover_text(why.unwrap_or_else(|| purpose(act).into()));
    };
    if let Some(open) = file.open_order() {
        let (card, _) = ui.allocate_exact_size(vec2(width, 92.0), Sense::hover());
        ui.painter().rect(card, 10.0, p.running.soft, Stroke::new(1.0, p.running.solid), StrokeKind::Inside);
        let inner = card.shrink2(vec2(12.0, 8.0));
        let title = tr!("unit-open-order", act = act_name(Act::of(open)).to_lowercase());
        let first = Rect::from_min_size(inner.min, vec2(inner.width(), 20.0));
        widgets::line(ui, first, Align2::LEFT_CENTER, &title, strong(14.5), p.running.ink);
        let text = tr!("unit-order-by", operator = &open.operator, reason = &open.reason);
        let second = Rect::from_min_size(first.left_bottom(), vec2(inner.width(), 19.0));
        widgets::line(ui, second, Align2::LEFT_CENTER, &text, regular(13.5), p.text);
        let half = (inner.width() - 8.0) / 2.0;
        let place = Rect::from_min_size(pos2(inner.left(), inner.bottom() - 32.0), vec2(half, 32.0));
        button(ui, place, Act::of(open), tr!("unit-carry-out"), Some(Icon::Play), Loud::Primary);
        let place = place.translate(vec2(half + 8.0, 0.0));
        button(ui, place, Act::Withdraw, tr!("act-withdraw"), None, Loud::Quiet);
        ui.allocate_exact_size(vec2(width, 8.0), Sense::hover());
    }
    if let Some(rma) = file.open_rma() {
        let (card, _) = ui.allocate_exact_size(vec2(width, 92.0), Sense::hover());
        ui.painter().rect(card, 10.0, p.error.soft, Stroke::new(1.0, p.error.solid), StrokeKind::Inside);
        let inner = card.shrink2(vec2(12.0, 8.0));
        let first = Rect::from_min_size(inner.min, vec2(inner.width(), 20.0));
        let title = tr!("rma-open-card", number = &rma.number);
        widgets::line(ui, first, Align2::LEFT_CENTER, &title, strong(14.5), p.error.ink);
        let text = tr!("unit-order-by", operator = &rma.opened_by, reason = &rma.reason);
        let second = Rect::from_min_size(first.left_bottom(), vec2(inner.width(), 19.0));
        widgets::line(ui, second, Align2::LEFT_CENTER, &text, regular(13.5), p.text);
        let place = Rect::from_min_size(pos2(inner.left(), inner.bottom() - 32.0), vec2(inner.width(), 32.0));
        button(ui, place, Act::CloseRma, tr!("act-rma-close"), Some(Icon::Check), Loud::Quiet);
        ui.allocate_exact_size(vec2(width, 8.0), Sense::hover());
    }
    let quarantined = file.unit.state == UnitState::Quarantined;
    let mut grid: Vec<(Act, Option<Icon>)> = vec![
        (Act::NewKeys, Some(Icon::Key)),
        (Act::NewStart, Some(Icon::Retry)),
        (Act::MoveRegion(0), Some(Icon::Arrow)),
        (Act::Retest, Some(Icon::Play)),
        if quarantined { (Act::Release, Some(Icon::Check)) } else { (Act::Quarantine, Some(Icon::Stop)) },
        (Act::Scrap, Some(Icon::Cross)),
    ];
    if file.open_order().is_none() {
        grid.push((Act::Withdraw, None));
    } else {
        // What carries it out is above.
        let kind = file.open_order().map(|o| o.kind);
        grid.retain(|(act, _)| act.kind().is_none_or(|(k, _)| Some(k) != kind));
    }
    if file.open_rma().is_none() {
        grid.push((Act::OpenRma, None));
    }
    for pair in grid.chunks(2) {
        let (r, _) = ui.allocate_exact_size(vec2(width, 34.0), Sense::hover());
        let half = (width - 8.0) / 2.0;
        for (i, (act, icon)) in pair.iter().enumerate() {
            let place =
                Rect::from_min_size(pos2(r.left() + (half + 8.0) * i as f32, r.top()), vec2(half, 33.0));
            button(ui, place, *act, &act_name(*act), *icon, Loud::Quiet);
        }
        ui.allocate_exact_size(vec2(width, 4.0), Sense::hover());
    }
    // One reason for all of them is said where it can be read without a pointer.
    let on_line = grid.iter().filter(|(act, _)| *act != Act::OpenRma);
    let reasons: Vec<_> = on_line.map(|(act, _)| refusal(*act, file, seen, view.closing)).collect();
    if let Some(Some(first)) = reasons.first()
        && reasons.iter().all(|r| r.as_ref() == Some(first))
    {
        let (r, _) = ui.allocate_exact_size(vec2(width, 40.0), Sense::hover());
        widgets::block(ui, r, Align2::LEFT_TOP, first, regular(13.5), p.muted, 2);
    }
    if let Some(act) = chosen {
        let mut form = Form::new(file.unit.id, act, seen);
        if let Some(open) = file.open_order().filter(|open| Act::of(open) == act) {
            form.reason = open.reason.clone();
        }
        view.units.form = Some(form);
    }
}

/// One line of the story on the right.
pub(super) enum Line {
    /// A heading.
    Title(String),
    /// Names of columns.
    Head(&'static [Column]),
    /// A row of a table.
    Cells(&'static [Column], Vec<String>, Option<Tone>),
    /// Instead of a table.
    Words(&'static str),
    /// An empty line.
    Gap,
}

/// A column of the story.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    When,
    Order,
    By,
    State,
    Reason,
    Fixture,
    Outcome,
    Why,
    What,
    Facts,
    Key,
    Generation,
    Fingerprint,
    Export,
    To,
    File,
    Number,
    Finding,
    Named,
    Record,
    Unit,
    Verdict,
}

impl Field {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::When => tr!("column-when"),
            Self::Order => tr!("column-order"),
            Self::By => tr!("column-by"),
            Self::State => tr!("column-state"),
            Self::Reason => tr!("column-reason"),
            Self::Fixture => tr!("column-fixture"),
            Self::Outcome => tr!("column-outcome"),
            Self::Why => tr!("column-why"),
            Self::What => tr!("column-what"),
            Self::Facts => tr!("column-facts"),
            Self::Key => tr!("column-key"),
            Self::Generation => tr!("column-generation"),
            Self::Fingerprint => tr!("column-fingerprint"),
            Self::Export => tr!("column-export"),
            Self::To => tr!("column-to"),
            Self::File => tr!("column-file"),
            Self::Number => tr!("column-number"),
            Self::Finding => tr!("column-finding"),
            Self::Named => tr!("column-field"),
            Self::Record => tr!("column-record"),
            Self::Unit => tr!("column-unit"),
            Self::Verdict => tr!("column-verdict"),
        }
    }
}

/// A column, and its width; 0 takes what is left.
pub(super) type Column = (Field, f32);

/// A time is never cut: without its end it is another one.
pub(super) const WHEN: f32 = 140.0;

const ORDERS: &[Column] = &[
    (Field::When, WHEN),
    (Field::Order, 118.0),
    (Field::By, 84.0),
    (Field::State, 196.0),
    (Field::Reason, 0.0),
];
const ATTEMPTS: &[Column] = &[
    (Field::When, WHEN),
    (Field::Fixture, 96.0),
    (Field::By, 84.0),
    (Field::Outcome, 84.0),
    (Field::Why, 0.0),
];
const KEYS: &[Column] = &[
    (Field::When, WHEN),
    (Field::Key, 96.0),
    (Field::Generation, 88.0),
    (Field::Fingerprint, 158.0),
    (Field::State, 0.0),
];
const EXPORTS: &[Column] = &[
    (Field::When, WHEN),
    (Field::Export, 70.0),
    (Field::By, 84.0),
    (Field::To, 130.0),
    (Field::Facts, 170.0),
    (Field::File, 0.0),
];
const RMAS: &[Column] = &[
    (Field::When, WHEN),
    (Field::Number, 110.0),
    (Field::By, 84.0),
    (Field::Reason, 200.0),
    (Field::Finding, 0.0),
];
const HISTORY: &[Column] = &[(Field::When, WHEN), (Field::What, 178.0), (Field::Facts, 0.0)];

fn order_state(order: &Reprovision) -> String {
    match (order.ended_at_ms, order.done, order.after) {
        (None, ..) => tr!("order-open").into(),
        (_, true, Some((agent, cloud))) => tr!("order-done-keys", agent = agent, cloud = cloud),
        (_, true, None) => tr!("order-done").into(),
        (_, false, _) => tr!("order-withdrawn").into(),
    }
}

fn order_kind(order: &Reprovision) -> String {
    match order.kind {
        ReprovisionKind::MoveRegion => tr!("order-kind-move", region = order.region),
        ReprovisionKind::NewKeys => tr!("order-kind-keys").into(),
        ReprovisionKind::NewStart => tr!("order-kind-start").into(),
    }
}

/// Facts of an event as people read them: `reason RMA 88, operator ana`.
pub(super) fn detail(value: &serde_json::Value) -> String {
    let word = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => said::value(text).to_owned(),
        serde_json::Value::Array(all) => {
            let all: Vec<_> =
                all.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect();
            all.join(" ")
        }
        other => other.to_string(),
    };
    match value {
        serde_json::Value::Object(all) => {
            let parts: Vec<_> =
                all.iter().map(|(name, value)| format!("{} {}", said::fact(name), word(value))).collect();
            let list = |first: String, second| tr!("tile-list", first = first, second = second);
            parts.into_iter().reduce(list).unwrap_or_default()
        }
        serde_json::Value::Null => String::new(),
        other => word(other),
    }
}

fn lines(file: &UnitFile, time: fn(i64) -> String, p: &Palette) -> Vec<Line> {
    let mut all = Vec::new();
    all.push(Line::Title(tr!("story-orders", count = file.orders.len())));
    if file.orders.is_empty() {
        all.push(Line::Words(tr!("story-no-orders")));
    } else {
        all.push(Line::Head(ORDERS));
    }
    for o in &file.orders {
        let cells =
            vec![time(o.opened_at_ms), order_kind(o), o.operator.clone(), order_state(o), o.reason.clone()];
        all.push(Line::Cells(ORDERS, cells, None));
    }
    all.push(Line::Gap);
    all.push(Line::Title(tr!("story-attempts", count = file.attempts.len())));
    all.push(Line::Head(ATTEMPTS));
    for a in &file.attempts {
        let outcome = a.outcome.map_or_else(|| tr!("outcome-unfinished"), state::outcome_word);
        let why = match (&a.failure, &a.proof) {
            (Some(failure), _) => format!("{} {}", failure.code, i18n::failure(failure).0),
            (None, Some(proof)) => tr!(
                "story-proof",
                agent = proof.ak_gen,
                cloud = proof.ck_gen,
                refused = proof.old_keys_refused
            ),
            (None, None) => String::new(),
        };
        let cells = vec![time(a.started_at_ms), a.fixture.clone(), a.operator.clone(), outcome.into(), why];
        all.push(Line::Cells(ATTEMPTS, cells, a.outcome.map(|o| outcome_look(o, p))));
    }
    all.push(Line::Gap);
    all.push(Line::Title(tr!("story-rmas", count = file.rmas.len())));
    if file.rmas.is_empty() {
        all.push(Line::Words(tr!("story-no-rmas")));
    } else {
        all.push(Line::Head(RMAS));
    }
    for r in &file.rmas {
        let noted = |text: &str, note: &str| match note.trim() {
            "" => text.to_owned(),
            note => tr!("rma-with-note", text = text, note = note),
        };
        let finding = r
            .closed
            .as_ref()
            .map_or_else(|| tr!("rma-open-state").to_owned(), |c| noted(&c.finding, &c.note));
        let reason = noted(&r.reason, &r.note);
        let cells = vec![time(r.opened_at_ms), r.number.clone(), r.opened_by.clone(), reason, finding];
        all.push(Line::Cells(RMAS, cells, None));
    }
    if !file.issued.is_empty() {
        all.push(Line::Gap);
        all.push(Line::Title(tr!("story-keys", count = file.issued.len())));
        all.push(Line::Head(KEYS));
    }
    for k in &file.issued {
        let state = match (k.retired_at_ms, &k.void_reason, k.settled_at_ms) {
            (Some(at), ..) => tr!("key-replaced", at = time(at)),
            (_, Some(why), _) => tr!("key-given-up", why = why),
            (.., Some(_)) => tr!("key-live").into(),
            _ => tr!("key-on-its-way").into(),
        };
        let purpose = said::value(&k.purpose).to_owned();
        let cells = vec![time(k.reserved_at_ms), purpose, k.generation.to_string(), k.key_id.clone(), state];
        all.push(Line::Cells(KEYS, cells, None));
    }
    all.push(Line::Gap);
    all.push(Line::Title(tr!("story-exports", count = file.exports.len())));
    if file.exports.is_empty() {
        all.push(Line::Words(tr!("story-no-exports")));
    } else {
        all.push(Line::Head(EXPORTS));
    }
    for x in &file.exports {
        let protection = said::value(&x.protection);
        let facts = match x.revoked_at_ms {
            Some(_) => tr!("export-revoked", format = &x.format, protection = protection),
            None => tr!("export-handed", format = &x.format, protection = protection),
        };
        let (number, to) = (x.id.to_string(), x.handed_to.clone());
        let cells = vec![time(x.at_ms), number, x.operator.clone(), to, facts, x.file.clone()];
        all.push(Line::Cells(EXPORTS, cells, None));
    }
    all.push(Line::Gap);
    all.push(Line::Title(tr!("story-history", count = file.events.len())));
    all.push(Line::Head(HISTORY));
    for e in &file.events {
        all.push(Line::Cells(
            HISTORY,
            vec![time(e.at_ms), said::event(&e.kind).into_owned(), detail(&traveler_view::plain(&e.detail))],
            None,
        ));
    }
    all
}

/// Everything of the unit as a text for a report: tab-separated, times in UTC.
fn report(file: &UnitFile, p: &Palette) -> String {
    let unit = &file.unit;
    let keys = &file.keys;
    let mut text = [
        tr!("report-unit", serial = &unit.serial),
        tr!("report-id", id = unit.id.to_string()),
        tr!("report-batch", batch = &file.batch.name),
        tr!("report-state", state = unit.state.as_str()),
        tr!("report-keys", agent = keys.agent_key, cloud = keys.cloud_key, region = keys.region),
        String::new(),
    ]
    .join("\n");
    for line in lines(file, |at| Stamp(at).to_string(), p) {
        let row = match line {
            Line::Title(title) => format!("\n{title}"),
            Line::Head(columns) => columns.iter().map(|c| c.0.name()).collect::<Vec<_>>().join("\t"),
            Line::Cells(_, cells, _) => cells.join("\t"),
            Line::Words(words) => words.into(),
            Line::Gap => continue,
        };
        text += &row;
        text.push('\n');
    }
    text
}

/// What is known of the unit, in one of three ways.
fn story(
    ui: &mut Ui,
    rect: Rect,
    file: &UnitFile,
    seen: Seen<'_>,
    view: &mut ViewState,
    out: &mut Asked,
    p: &Palette,
) {
    ui.painter().rect(rect, 14.0, p.surface, Stroke::new(1.0, p.border), StrokeKind::Inside);
    let inner = rect.shrink2(vec2(16.0, 10.0));
    let head = Rect::from_min_size(inner.min, vec2(inner.width(), 30.0));
    let left = traveler_view::tabs(ui, head, view);
    let head = Rect::from_min_max(pos2(left + 8.0, head.top()), head.max);
    let body = Rect::from_min_max(
        pos2(inner.left(), head.bottom() + 6.0),
        // The scroll bar runs between the rows and the card's edge.
        pos2(rect.right() - 4.0, inner.bottom()),
    );
    match view.units.story.panel {
        Panel::Overview => overview(ui, head, body, file, view, p),
        Panel::Traveler => traveler_view::show(ui, head, body, file, view, out, p),
        Panel::Compare => {
            if traveler_view::compare(ui, head, body, file, seen, view, p) {
                view.units.form = Some(Form::new(file.unit.id, Act::Compare, seen));
            }
        }
    }
}

fn overview(ui: &mut Ui, head: Rect, body: Rect, file: &UnitFile, view: &mut ViewState, p: &Palette) {
    let inner = Rect::from_min_max(pos2(body.left(), head.top()), pos2(head.right(), body.bottom()));
    let copy = Button {
        text: tr!("story-copy"),
        name: tr!("story-copy-name"),
        icon: Some(Icon::Copy),
        loud: Loud::Quiet,
        enabled: true,
        size: 13.0,
    };
    let w = copy.width(ui);
    let place = Rect::from_min_size(pos2(inner.right() - w, inner.top()), vec2(w, 30.0));
    if copy.show(ui, place).on_hover_text(tr!("story-copy-hint")).clicked() {
        ui.ctx().copy_text(report(file, p));
        view.say_copied(tr!("story-copied", serial = &file.unit.serial));
    }
    let all = lines(file, date_time, p);
    if let Some(text) = rows(ui, body, inner.width(), ("story", file.unit.id.0), &all, p) {
        ui.ctx().copy_text(text);
        view.say_copied(tr!("story-row-copied").into());
    }
}

/// A list of lines; the one that was clicked, for the clipboard.
pub(super) fn rows(
    ui: &mut Ui,
    body: Rect,
    width: f32,
    salt: impl std::hash::Hash + std::fmt::Debug,
    all: &[Line],
    p: &Palette,
) -> Option<String> {
    const ROW: f32 = 25.0;
    let mut copied = None;
    ui.scope_builder(UiBuilder::new().max_rect(body), |ui| {
        ui.set_clip_rect(body.expand2(vec2(6.0, 0.0)).intersect(ui.clip_rect()));
        ui.spacing_mut().item_spacing.y = 0.0;
        egui::ScrollArea::vertical().id_salt(salt).auto_shrink(false).show_rows(
            ui,
            ROW,
            all.len(),
            |ui, range| {
                for line in &all[range] {
                    let sense = if matches!(line, Line::Cells(..)) { Sense::click() } else { Sense::hover() };
                    let (r, response) = ui.allocate_exact_size(vec2(width, ROW), sense);
                    match line {
                        Line::Gap => {}
                        Line::Title(title) => {
                            widgets::line(ui, r, Align2::LEFT_CENTER, title, strong(14.5), p.text);
                        }
                        Line::Words(words) => {
                            widgets::line(ui, r, Align2::LEFT_CENTER, words, regular(13.5), p.muted);
                        }
                        Line::Head(columns) => {
                            for (i, place) in cells(r, columns).into_iter().enumerate() {
                                let name = columns[i].0.name();
                                widgets::line(ui, place, Align2::LEFT_CENTER, name, regular(12.5), p.muted);
                            }
                            ui.painter().hline(r.x_range(), r.bottom() - 1.0, Stroke::new(1.0, p.border));
                        }
                        Line::Cells(columns, texts, tone) => {
                            let whole = texts.join(", ");
                            response.widget_info(|| WidgetInfo::labeled(Role::Button, true, &whole));
                            if response.hovered() || response.has_focus() {
                                ui.painter().rect_filled(r.expand2(vec2(4.0, 0.0)), 5.0, p.track);
                            }
                            if response.gained_focus() {
                                response.scroll_to_me(None);
                            }
                            for (i, place) in cells(r, columns).into_iter().enumerate() {
                                let (font, ink) = match tone {
                                    Some(tone) if columns[i].0 == Field::Outcome => (strong(13.5), tone.ink),
                                    _ if i == 0 => (regular(13.0), p.muted),
                                    _ => (regular(13.5), p.text),
                                };
                                widgets::line(ui, place, Align2::LEFT_CENTER, &texts[i], font, ink);
                            }
                            if response.clicked() {
                                copied = Some(texts.join("\t"));
                            }
                        }
                    }
                }
            },
        );
    });
    copied
}

/// Places of a row's cells.
fn cells(row: Rect, columns: &[Column]) -> Vec<Rect> {
    // In narrow windows the others share what is left.
    let fixed: f32 = columns.iter().map(|c| c.1).sum::<f32>() - WHEN;
    let squeeze = ((row.width() - WHEN - 120.0) / fixed).clamp(0.3, 1.0);
    let mut x = row.left();
    columns
        .iter()
        .map(|(_, width)| {
            let width = if *width == WHEN {
                WHEN
            } else if *width > 0.0 {
                width * squeeze
            } else {
                (row.right() - x).max(1.0)
            };
            let cell = Rect::from_min_size(pos2(x, row.top()), vec2((width - 8.0).max(1.0), row.height()));
            x += width;
            cell
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::line_view::Tab;
    use super::super::line_view::tests::{World, click, harness, is_off, press};
    use super::super::scripted::{self, Scene, scene, unit_file};
    use super::*;
    use crate::desk::{Command, Decision, Job};
    use crate::failure::{Failure, FailureCode};
    use egui::Modifiers;
    use egui_kittest::{Harness, kittest::NodeT, kittest::Queryable};
    use std::sync::Arc;
    use std::time::Instant;

    type H = Harness<'static, World>;

    fn units(desk: desk::Snapshot, fixtures: usize) -> H {
        let mut h = harness(scene(Scene::Ready(fixtures), Instant::now()));
        h.state_mut().desk = desk;
        press(&mut h, &[Key::F2]);
        h.run();
        h
    }

    fn open(state: UnitState, fixtures: usize) -> H {
        units(scripted::desk(state), fixtures)
    }

    fn with_order(kind: ReprovisionKind) -> H {
        let mut desk = scripted::desk(UnitState::Passed);
        let mut file = unit_file(UnitState::Passed);
        file.orders.insert(0, scripted::reprovision(kind, true));
        desk.file = Some(Arc::new(file));
        units(desk, 1)
    }

    fn type_in(h: &mut H, text: &str) {
        h.event(egui::Event::Text(text.into()));
        h.run();
    }

    /// Commands of the desk without those that only look.
    fn told_desk(h: &mut H) -> Vec<Command> {
        let mut all = h.state_mut().take_desk();
        all.retain(|c| !matches!(c, Command::Search(_)));
        all
    }

    fn searches(h: &mut H) -> Vec<desk::Search> {
        let all = h.state_mut().take_desk().into_iter();
        all.filter_map(|c| if let Command::Search(search) = c { Some(search) } else { None }).collect()
    }

    fn decided(h: &mut H) -> Decision {
        match h.state_mut().take_desk().as_slice() {
            [Command::Decide(decision)] => decision.clone(),
            other => panic!("one decision was expected, not {other:?}"),
        }
    }

    #[test]
    fn a_scanner_needs_no_pointer_and_starts_no_board() {
        let mut h = units(desk::Snapshot::default(), 2);
        h.get_by_label("Scan a unit that came back");
        let field = "Hardware id or serial of a unit";
        assert!(h.get_by_label(field).is_focused());
        for scan in ["KW429-01043", "003d001f313251093336006f"] {
            type_in(&mut h, scan);
            press(&mut h, &[Key::Enter]);
            assert_eq!(told_desk(&mut h), [Command::Find(scan.into())]);
            assert!(h.get_by_label(field).is_focused(), "ready for the next scan");
        }
        // The keyboard is anywhere else.
        h.ctx.memory_mut(|m| m.request_focus(Id::unique("elsewhere")));
        h.run();
        for key in ["K", "W", "1"] {
            type_in(&mut h, key);
        }
        press(&mut h, &[Key::Enter]);
        assert_eq!(told_desk(&mut h), [Command::Find("KW1".into())]);
        assert_eq!(h.state_mut().take(), [], "digits of a scan start no fixture");
    }

    #[test]
    fn what_is_not_found_says_what_to_do_and_escape_goes_back() {
        let mut h = units(
            desk::Snapshot {
                told: Told::Failed(Failure {
                    code: FailureCode::InvalidInput,
                    sentence: "No unit has the hardware id or serial \"X\"".into(),
                    remedy: "Scan the label again".into(),
                }),
                ..desk::Snapshot::default()
            },
            1,
        );
        h.get_by_label("K608 No unit has the hardware id or serial \"X\"");
        h.get_by_label("Scan the label again");
        press(&mut h, &[Key::Escape]);
        assert_eq!(h.state_mut().take_desk(), [Command::Leave]);
    }

    #[test]
    fn a_unit_shows_its_facts_its_orders_its_attempts_and_its_history_newest_first() {
        // Tall enough for all of its tables.
        let scene = scene(Scene::Ready(1), Instant::now());
        let mut h = super::super::line_view::tests::sized(scene, vec2(1280.0, 1400.0), egui::Theme::Light);
        h.state_mut().desk = scripted::desk(UnitState::Passed);
        press(&mut h, &[Key::F2]);
        h.run();
        for label in [
            "KW429-01043",
            "Passed",
            "003d001f313251093336006f",
            "B-2041, open",
            "PO-2026-0417, KW-GATEWAY-429 rev. C",
            "003d001f313251093336006f.1",
            "Orders of QA (1)",
            "done: agent 2, cloud 2",
            "RMA 2291, SIM replaced",
            "Attempts (3)",
            "K304 The board does not answer on its serial port",
            "Keys (4)",
            "Exports (1)",
            "It never came back from a customer",
            "History (12)",
        ] {
            h.get_by_label(label);
        }
        let time = date_time(unit_file(UnitState::Passed).attempts[0].started_at_ms);
        let whole = h.get_all_by_label(&time).next().expect("a time").rect().width();
        assert!(whole < WHEN - 9.0, "a time is cut: {whole}");
        let newest = h.get_by_label("reprovisioned").rect().top();
        assert!(newest < h.get_by_label("reprovision ordered").rect().top());
    }

    #[test]
    fn history_is_copied_whole_or_by_the_row_and_holds_no_more_than_is_shown() {
        let mut h = open(UnitState::Passed, 1);
        click(&mut h, "Copy all of the unit's history");
        h.get_by_label("Copied the history of KW429-01043");
        let text = report(&unit_file(UnitState::Passed), &super::super::theme::LIGHT);
        for part in ["Hardware id 003d001f313251093336006f", "When\tWhat\tFacts", "\treprovisioned\t", "Z\t"]
        {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        click(&mut h, "Copy the hardware id");
        h.get_by_label("Copied");
    }

    #[test]
    fn new_keys_need_a_reason_and_go_to_the_only_fixture() {
        let mut h = open(UnitState::Passed, 1);
        click(&mut h, "New keys");
        h.get_by_label("New keys, KW429-01043");
        assert!(h.get_by_label("Reason for this decision").is_focused());
        assert!(is_off(&h, "Order new keys"));
        h.get_by_label("Say why; it stands in the unit's history");
        type_in(&mut h, "RMA 2300");
        // A scanner's Enter decides nothing.
        press(&mut h, &[Key::Enter]);
        assert_eq!(h.state_mut().take_desk(), []);
        assert!(!is_off(&h, "Order new keys"));
        click(&mut h, "Order new keys");
        let unit = unit_file(UnitState::Passed).unit.id;
        let expected = Decision {
            unit,
            act: Act::NewKeys,
            reason: "RMA 2300".into(),
            operator: "Ana Petrović".into(),
            fixture: Some(0),
            number: String::new(),
            note: String::new(),
        };
        assert_eq!(decided(&mut h), expected);
        assert!(h.query_by_label("Order new keys").is_none(), "the dialog is gone");
        assert_eq!(h.state_mut().take(), []);
    }

    #[test]
    fn several_fixtures_must_be_told_apart_and_a_running_one_is_off() {
        let mut h = open(UnitState::Passed, 3);
        h.state_mut().snapshot.fixtures[0] =
            scripted::running(1, line::Step::Flash, "writing app", 0.2, Instant::now(), 3);
        click(&mut h, "New keys");
        type_in(&mut h, "RMA 1");
        h.get_by_label("Say in which fixture the board lies");
        assert!(is_off(&h, "fixture Fixture 1, running"));
        click(&mut h, "fixture Fixture 3, board seen");
        h.key_press_modifiers(Modifiers::COMMAND, Key::Enter);
        h.run();
        assert_eq!(decided(&mut h).fixture, Some(2));
    }

    #[test]
    fn a_new_start_says_in_numbers_what_dies_and_wants_a_yes() {
        let mut h = open(UnitState::Passed, 1);
        click(&mut h, "New start");
        h.get_by_label("This can't be undone");
        h.get_by_label("2 keys die at once: agent key generation 2; cloud key generation 2");
        h.get_by_label_contains("All of its flash is erased");
        type_in(&mut h, "erased in repair");
        h.get_by_label("Tick that you know what is destroyed");
        h.key_press_modifiers(Modifiers::COMMAND, Key::Enter);
        h.run();
        assert_eq!(h.state_mut().take_desk(), []);
        click(&mut h, "I have read this; what is destroyed is gone for good");
        click(&mut h, "Erase and start anew");
        let decision = decided(&mut h);
        assert_eq!((decision.act, decision.fixture), (Act::NewStart, Some(0)));
    }

    #[test]
    fn scrap_says_what_dies_and_needs_no_board() {
        let mut h = open(UnitState::Quarantined, 0);
        click(&mut h, "Scrap");
        h.get_by_label_contains("2 keys die at once");
        h.get_by_label_contains("1 unit leaves for ever");
        type_in(&mut h, "burnt");
        click(&mut h, "I have read this; what is destroyed is gone for good");
        click(&mut h, "Scrap it for ever");
        let decision = decided(&mut h);
        assert_eq!((decision.act, decision.fixture), (Act::Scrap, None));
    }

    #[test]
    fn a_move_chooses_among_the_regions_that_are_here() {
        let mut h = open(UnitState::Passed, 1);
        click(&mut h, "Move region");
        type_in(&mut h, "sold to region 9");
        h.get_by_label("Choose the region");
        assert!(h.query_by_label("region Region 7").is_none(), "it is there already");
        click(&mut h, "region Region 9");
        click(&mut h, "Order the move");
        assert_eq!(decided(&mut h).act, Act::MoveRegion(9));
        let mut desk = scripted::desk(UnitState::Passed);
        desk.regions = vec![7];
        let h = units(desk, 1);
        assert!(is_off(&h, "Move region"));
    }

    #[test]
    fn quarantine_release_and_withdraw_are_decided_with_a_reason() {
        for (state, button, go, act) in [
            (UnitState::Passed, "Quarantine", "Set it aside", Act::Quarantine),
            (UnitState::Quarantined, "Release", "Let it back", Act::Release),
        ] {
            let mut h = open(state, 1);
            click(&mut h, button);
            type_in(&mut h, "label unreadable");
            click(&mut h, go);
            let decision = decided(&mut h);
            assert_eq!((decision.act, decision.reason.as_str()), (act, "label unreadable"));
        }
        let mut h = with_order(ReprovisionKind::NewKeys);
        click(&mut h, "Withdraw");
        type_in(&mut h, "wrong unit");
        click(&mut h, "Withdraw the order");
        assert_eq!(decided(&mut h).act, Act::Withdraw);
    }

    #[test]
    fn an_open_order_is_carried_out_with_its_own_reason() {
        let mut h = with_order(ReprovisionKind::MoveRegion);
        h.get_by_label("Open order: move to region 8");
        assert!(is_off(&h, "New keys") && is_off(&h, "New start"));
        click(&mut h, "Carry it out");
        click(&mut h, "Order the move");
        let decision = decided(&mut h);
        let reason = "RMA 2291, SIM replaced";
        assert_eq!((decision.act, decision.reason.as_str()), (Act::MoveRegion(8), reason));
    }

    #[test]
    fn what_is_off_says_why() {
        let why = |h: &H, label: &str| {
            let node = h.get_by_label(label);
            assert!(node.accesskit_node().is_disabled(), "{label}");
            node.accesskit_node().description().unwrap_or_default()
        };
        let h = open(UnitState::Scrapped, 1);
        for label in ["New keys", "New start", "Move region", "Quarantine", "Scrap", "Withdraw"] {
            assert!(why(&h, label).contains("scrapped"), "{label}");
        }
        h.get_by_label("It was scrapped; it never comes back");
        let h = open(UnitState::Quarantined, 1);
        assert!(why(&h, "New keys").contains("release it first"));
        let h = open(UnitState::Arrived, 1);
        assert!(why(&h, "New start").contains("never given keys"));
        let h = open(UnitState::Passed, 0);
        assert!(why(&h, "New keys").contains("no fixture"));
        let mut h = open(UnitState::Passed, 1);
        h.state_mut().snapshot.operator.clear();
        h.run();
        assert!(why(&h, "Scrap").contains("who works here"));
        let mut desk = scripted::desk(UnitState::Passed);
        let unit = unit_file(UnitState::Passed).unit.clone();
        desk.job = Some(Job {
            unit: unit.id,
            serial: unit.serial.clone(),
            fixture: 0,
            act: Act::NewKeys,
            order: 1,
            operator: String::new(),
        });
        let h = units(desk, 2);
        assert!(why(&h, "Quarantine").contains("in work for QA"));
    }

    #[test]
    fn progress_and_result_are_shown_where_the_order_was_given() {
        let mut h = open(UnitState::Passed, 2);
        let unit = unit_file(UnitState::Passed).unit.id;
        let mut fixture = scripted::running(2, line::Step::Prove, "challenge", 0.5, Instant::now(), 9);
        if let Some(running) = fixture.running.as_mut() {
            running.qa = Some(unit);
        }
        h.state_mut().snapshot.fixtures[1] = fixture;
        h.run();
        h.get_by_label("challenge");
        h.get_by_label("for QA");
        click(&mut h, "Cancel Fixture 2");
        assert_eq!(h.state_mut().take(), [line::Command::Cancel(1)]);
        let mut fixture = scripted::done(2, Outcome::Timeout, Some(FailureCode::DeviceSilent));
        if let Some(last) = fixture.last.as_mut() {
            last.qa = Some(unit);
        }
        h.state_mut().snapshot.fixtures[1] = fixture;
        h.run();
        h.get_by_label("Goes on in Units (F2)");
        assert!(h.query_by_label("Try again Fixture 2").is_none(), "the line would make a unit of it");
        press(&mut h, &[Key::F2, Key::Space]);
        assert!(!h.state_mut().take().contains(&line::Command::Start(1)));
    }

    #[test]
    fn both_views_are_reached_by_key_and_by_tab_and_keep_their_keys_apart() {
        let mut h = open(UnitState::Passed, 2);
        press(&mut h, &[Key::Num1, Key::Space]);
        assert_eq!(h.state_mut().take(), []);
        for (key, tab) in [(Key::Num1, Tab::Line), (Key::Num2, Tab::Units)] {
            h.key_press_modifiers(Modifiers::COMMAND, key);
            h.run();
            assert_eq!(h.state().view.tab, tab);
        }
        click(&mut h, "Line");
        assert_eq!(h.state().view.tab, Tab::Line);
        h.get_by_label("Fixture 2: board ready");
        assert_eq!(h.state_mut().take(), []);
        press(&mut h, &[Key::Num2]);
        assert_eq!(h.state_mut().take(), [line::Command::Start(1)]);
        press(&mut h, &[Key::F2, Key::F2, Key::Space]);
        assert_eq!(h.state_mut().take().len(), 2, "the search field is gone and keeps no key");
    }

    #[test]
    fn alarms_are_counted_listed_looked_at_and_lead_to_their_unit() {
        let mut h = harness(scene(Scene::Ready(1), Instant::now()));
        assert!(h.query_by_label_contains("to look at").is_none());
        h.state_mut().desk.alarms = scripted::alarms();
        h.run();
        click(&mut h, "2 alarms to look at");
        let sentence = "Unit KW429-01043 (003d001f313251093336006f) shows another identity key than its own: \
                        somebody may imitate it";
        h.get_by_label(sentence);
        h.get_by_label_contains("3 times, last 20");
        press(&mut h, &[Key::Space]);
        assert_eq!(h.state_mut().take(), [], "no key reaches the line");
        click(&mut h, &format!("I looked at it: {sentence}"));
        let seen = Command::SeeAlarm { id: 7, operator: "Ana Petrović".into() };
        assert_eq!(h.state_mut().take_desk(), [seen]);
        click(&mut h, "Show the unit KW429-01043");
        assert_eq!(h.state_mut().take_desk(), [Command::Find("003d001f313251093336006f".into())]);
        assert_eq!((h.state().view.tab, h.state().view.alarms), (Tab::Units, false));
        press(&mut h, &[Key::F3]);
        h.get_by_label(sentence);
        press(&mut h, &[Key::Escape]);
        assert!(h.query_by_label(sentence).is_none());
    }

    /// The newest search is answered with so many hits.
    fn answered(h: &mut H, text: &str, count: u32) {
        let asked = searches(h).pop().expect("a search");
        assert_eq!(asked.text, text);
        let mut answer = scripted::answer(asked.number, text, count);
        answer.search = asked;
        h.state_mut().desk.search = Some(Arc::new(answer));
        h.run();
    }

    #[test]
    fn what_is_typed_is_asked_when_it_stands_still_and_hits_are_chosen_by_key() {
        let mut h = units(desk::Snapshot::default(), 1);
        type_in(&mut h, "10");
        type_in(&mut h, "4");
        let asked = searches(&mut h);
        assert_eq!(asked.last().map(|s| s.text.as_str()), Some("104"));
        assert!(asked.windows(2).all(|w| w[0].number < w[1].number));
        h.get_by_label("searching…");
        type_in(&mut h, "0");
        // The answer to what was typed before is not taken for the newest.
        let old = scripted::answer(asked.last().unwrap().number, "104", 7);
        h.state_mut().desk.search = Some(Arc::new(old));
        h.run();
        h.get_by_label("searching…");
        answered(&mut h, "1040", 3);
        h.get_by_label("3 of 3401 units");
        h.get_by_label("KW429-01041, Passed, batch B-2041");
        assert!(h.get_by_label("Hardware id or serial of a unit").is_focused());
        // Several: Enter chooses first and opens then.
        press(&mut h, &[Key::Enter]);
        assert_eq!(told_desk(&mut h), []);
        press(&mut h, &[Key::ArrowDown, Key::ArrowDown, Key::ArrowUp, Key::Enter]);
        let hit = scripted::answer(0, "", 3).found.units[1].id.to_string();
        assert_eq!(told_desk(&mut h), [Command::Find(hit)]);
        assert!(h.query_by_label("3 of 3401 units").is_none(), "the search is over");
    }

    #[test]
    fn pages_are_turned_filters_narrow_and_nothing_says_what_can_be_searched() {
        let mut h = units(desk::Snapshot::default(), 1);
        click(&mut h, "Only: In quarantine");
        let asked = searches(&mut h).pop().unwrap();
        assert_eq!((asked.text.as_str(), asked.states.as_slice()), ("", &[UnitState::Quarantined][..]));
        click(&mut h, "Only: Open RMA");
        let asked = searches(&mut h).pop().unwrap();
        assert!(asked.rma_open && asked.states.is_empty());
        click(&mut h, "Only: Open RMA");
        type_in(&mut h, "KW");
        answered(&mut h, "KW", 120);
        h.get_by_label("120 of 3401 units, 1 to 50");
        press(&mut h, &[Key::PageDown]);
        h.run();
        assert_eq!(searches(&mut h).pop().unwrap().from, 50);
        type_in(&mut h, "X");
        let mut none = scripted::answer(searches(&mut h).pop().unwrap().number, "KWX", 0);
        none.found.exact = true;
        h.state_mut().desk.search = Some(Arc::new(none));
        h.run();
        h.get_by_label("Nothing fits");
        h.get_by_label("0 of 3401 units");
        // What was not looked through to its end is not called nothing.
        let mut many = scripted::answer(h.state().desk.search.as_ref().unwrap().search.number, "KWX", 0);
        many.found.exact = false;
        h.state_mut().desk.search = Some(Arc::new(many));
        h.run();
        h.get_by_label("Too many units to look through");
        h.get_by_label("too many to look through; the station knows 3401 units");
        assert!(h.query_by_label("Nothing fits").is_none());
        press(&mut h, &[Key::Escape]);
        h.get_by_label("Scan a unit that came back");
    }

    #[test]
    fn the_traveler_is_filtered_copied_and_saved() {
        let mut h = open(UnitState::Passed, 1);
        click(&mut h, "Show: Traveler");
        assert_eq!(h.query_all_by_label("key made").count(), 4);
        assert!(h.query_all_by_label_contains("fingerprint").next().is_some());
        click(&mut h, "Only: Attempts");
        assert_eq!(h.query_all_by_label("key made").count(), 0);
        assert!(h.query_all_by_label_contains("K304 The board does not answer").next().is_some());
        click(&mut h, "Save the traveler as CSV");
        let save = Command::SaveTraveler {
            groups: vec![crate::traveler::Group::Attempt],
            form: crate::traveler::Form::Csv,
        };
        assert_eq!(told_desk(&mut h), [save]);
        click(&mut h, "Copy all of the unit's history");
        h.get_by_label("Copied the history of KW429-01043");
        h.get_by_label("Filter the traveler").focus();
        h.run();
        type_in(&mut h, "nothing like it");
        h.get_by_label("No line fits the filter");
        assert_eq!(searches(&mut h), [], "it is no search");
    }

    #[test]
    fn a_unit_is_taken_back_under_a_number_and_closed_with_a_finding() {
        let mut h = open(UnitState::Scrapped, 0);
        click(&mut h, "Took back (RMA)");
        assert!(h.get_by_label("Number of the RMA").is_focused());
        type_in(&mut h, "RMA-7");
        h.get_by_label("Say why; it stands in the unit's history");
        h.get_by_label("Reason for this decision").focus();
        h.run();
        type_in(&mut h, "does not start");
        click(&mut h, "Take it back");
        let decision = decided(&mut h);
        assert_eq!(
            (decision.act, decision.number.as_str(), decision.reason.as_str()),
            (Act::OpenRma, "RMA-7", "does not start")
        );
        let mut desk = scripted::desk(UnitState::Passed);
        let mut file = unit_file(UnitState::Passed);
        file.rmas = vec![scripted::rma(true)];
        desk.file = Some(Arc::new(file));
        let mut h = units(desk, 1);
        h.get_by_label("Open RMA RMA-2291");
        click(&mut h, "Close the RMA");
        type_in(&mut h, "a fuse");
        click(&mut h, "Close the RMA with this finding");
        assert_eq!(decided(&mut h).act, Act::CloseRma);
    }

    #[test]
    fn a_retest_needs_a_reason_and_a_comparison_shows_field_by_field() {
        let mut h = open(UnitState::Passed, 1);
        click(&mut h, "Retest");
        type_in(&mut h, "came back");
        click(&mut h, "Retest it");
        let decision = decided(&mut h);
        assert_eq!((decision.act, decision.fixture), (Act::Retest, Some(0)));
        click(&mut h, "Show: Record and unit");
        h.get_by_label("Nobody asked the unit yet");
        click(&mut h, "Ask the unit");
        click(&mut h, "Ask and compare");
        assert_eq!(decided(&mut h).act, Act::Compare);
        h.state_mut().desk.file = Some(Arc::new(scripted::compared(true)));
        h.run();
        h.get_by_label_contains("1 field differs");
        assert_eq!(
            h.query_all_by_label("not reported").count(),
            6,
            "the word and the verdict of three fields"
        );
        h.get_by_label("differs");
        click(&mut h, "What a power cut can do (F4)");
        h.get_by_label("What a power cut can do");
    }

    #[test]
    fn everything_fits_from_the_smallest_window_on() {
        use super::super::line_view::tests::sized;
        for size in [vec2(960.0, 600.0), vec2(1280.0, 720.0), vec2(1920.0, 1080.0)] {
            for theme in [egui::Theme::Light, egui::Theme::Dark] {
                let mut h = sized(scene(Scene::Ready(1), Instant::now()), size, theme);
                h.state_mut().desk = scripted::desk(UnitState::Passed);
                press(&mut h, &[Key::F2]);
                let screen = Rect::from_min_size(egui::Pos2::ZERO, size);
                for label in
                    ["Line", "Units", "2 alarms to look at", "New keys", "Scrap", "Withdraw", "Find the unit"]
                {
                    let rect = h.get_by_label(label).rect();
                    assert!(screen.contains_rect(rect), "{label} at {size:?}: {rect:?}");
                }
                let (units, batch) =
                    (h.get_by_label("Units").rect(), h.get_by_label_contains("Choose batch").rect());
                assert!(
                    units.right() <= batch.left()
                        && batch.right() <= h.get_by_label("2 alarms to look at").rect().left()
                );
                click(&mut h, "New start");
                let go = h.get_by_label("Erase and start anew").rect();
                assert!(screen.contains_rect(go), "{size:?}: {go:?}");
            }
        }
    }
}
