//! The list of hits below the search field of the Units view.
//!
//! What stands in the field is asked one frame after it stood still, of the desk's thread; an answer to something else is never taken
//! for the newest one. The keyboard stays in the field: arrows choose a hit, Enter opens it, Page Up and Page Down turn the page.

use super::icons::{self, Icon};
use super::line_view::ViewState;
use super::shell::{Asked, Seen};
use super::theme::{Palette, mono, regular, strong};
use super::units_view::{state_look, state_word};
use super::widgets::{self, Button, Loud};
use crate::desk::{self, Answer, PAGE, Search};
use crate::i18n::{date_time, number, tr};
use crate::model::UnitState;
use crate::records::FoundUnit;
use egui::{Align2, Key, Rect, Role, Sense, Stroke, StrokeKind, Ui, UiBuilder, WidgetInfo, pos2, vec2};

/// Which units only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// Set aside.
    Quarantined,
    /// Taken out.
    Scrapped,
    /// On their way.
    Unfinished,
    /// Back from a customer.
    Rma,
}

impl Only {
    const ALL: [Self; 4] = [Self::Quarantined, Self::Scrapped, Self::Unfinished, Self::Rma];

    fn word(self) -> &'static str {
        match self {
            Self::Quarantined => tr!("search-only-quarantined"),
            Self::Scrapped => tr!("search-only-scrapped"),
            Self::Unfinished => tr!("search-only-unfinished"),
            Self::Rma => tr!("search-only-rma"),
        }
    }

    fn states(self) -> &'static [UnitState] {
        match self {
            Self::Quarantined => &[UnitState::Quarantined],
            Self::Scrapped => &[UnitState::Scrapped],
            Self::Unfinished => {
                use UnitState::{AgentKey, Arrived, CloudKey, Flashing, StageOne};
                &[Arrived, Flashing, StageOne, AgentKey, CloudKey]
            }
            Self::Rma => &[],
        }
    }
}

/// What the window remembers of the search.
#[derive(Clone, Debug, Default)]
pub struct SearchState {
    /// Which units only.
    pub only: Option<Only>,
    /// Hits before the page.
    pub from: u32,
    /// The hit that Enter opens.
    pub chosen: Option<usize>,
    /// What stood there in the frame before.
    before: Search,
    /// What was asked last.
    asked: Search,
}

impl SearchState {
    /// Something is searched for.
    pub fn is_on(&self, query: &str) -> bool {
        !query.trim().is_empty() || self.only.is_some()
    }

    /// Asks what stands in the field, one frame after it stood still.
    pub fn ask(&mut self, query: &str, ui: &Ui, out: &mut Asked) {
        if !self.is_on(query) {
            // Whatever comes still is not the answer to what is typed next.
            (self.before, self.from, self.chosen) = (Search::default(), 0, None);
            self.asked = Search { number: self.asked.number, ..Search::default() };
            return;
        }
        let mut now = Search {
            number: 0,
            text: query.trim().to_owned(),
            states: self.only.map(|o| o.states().to_vec()).unwrap_or_default(),
            rma_open: self.only == Some(Only::Rma),
            from: self.from,
        };
        let other =
            |a: &Search, b: &Search| a.text != b.text || a.states != b.states || a.rma_open != b.rma_open;
        if other(&now, &self.before) {
            (self.from, now.from, self.chosen) = (0, 0, None);
        }
        if now != self.before {
            self.before = now;
            ui.ctx().request_repaint();
            return;
        }
        let number = self.asked.number;
        if now != (Search { number: 0, ..self.asked.clone() }) {
            now.number = number + 1;
            self.asked = now.clone();
            out.desk.push(desk::Command::Search(now));
        }
    }

    /// The answer to what was asked last, if it is there and what stands in the field is what was asked.
    pub fn answer<'a>(&self, query: &str, seen: Seen<'a>) -> Option<&'a Answer> {
        let answer = seen.desk.search.as_deref()?;
        (answer.search.number == self.asked.number && self.asked.text == query.trim()).then_some(answer)
    }
}

/// What Enter does with the hits: the hardware id to open, or a hit is only chosen.
pub(super) fn entered(view: &mut ViewState, seen: Seen<'_>) -> Option<String> {
    let state = &mut view.units.search;
    let answer = state.answer(&view.units.query, seen)?;
    let units = &answer.found.units;
    let text = answer.search.text.as_str();
    let named =
        |u: &FoundUnit| u.serial.eq_ignore_ascii_case(text) || u.id.to_string().eq_ignore_ascii_case(text);
    if let Some(unit) = state.chosen.and_then(|i| units.get(i)).or_else(|| units.iter().find(|u| named(u))) {
        return Some(unit.id.to_string());
    }
    if units.is_empty() {
        return None;
    }
    if let [only] = units.as_slice() {
        return Some(only.id.to_string());
    }
    state.chosen = Some(0);
    Some(String::new())
}

/// Arrows and pages.
pub(super) fn keys(ui: &Ui, view: &mut ViewState, seen: Seen<'_>) {
    let state = &mut view.units.search;
    if !state.is_on(&view.units.query) {
        return;
    }
    let Some(answer) = state.answer(&view.units.query, seen) else { return };
    let last = answer.found.units.len().checked_sub(1);
    ui.input(|i| {
        if i.key_pressed(Key::ArrowDown) {
            state.chosen = last.map(|last| state.chosen.map_or(0, |c| (c + 1).min(last)));
        }
        if i.key_pressed(Key::ArrowUp) {
            state.chosen = state.chosen.and_then(|c| c.checked_sub(1));
        }
        if i.key_pressed(Key::PageDown) && answer.found.from + PAGE < answer.found.count {
            (state.from, state.chosen) = (answer.found.from + PAGE, Some(0));
        }
        if i.key_pressed(Key::PageUp) && answer.found.from > 0 {
            (state.from, state.chosen) = (answer.found.from.saturating_sub(PAGE), Some(0));
        }
    });
}

/// The switches that narrow a search, from the right; returns where they begin.
pub(super) fn only(ui: &mut Ui, row: Rect, view: &mut ViewState, p: &Palette) -> f32 {
    let _ = p;
    let mut right = row.right();
    for which in Only::ALL.into_iter().rev() {
        let on = view.units.search.only == Some(which);
        let word = which.word();
        let button = Button {
            text: word,
            name: &tr!("search-only-name", what = word),
            icon: on.then_some(Icon::Check),
            loud: if on { Loud::Primary } else { Loud::Quiet },
            enabled: true,
            size: 13.0,
        };
        let w = button.width(ui);
        let place = Rect::from_min_size(pos2(right - w, row.top()), vec2(w, row.height()));
        let response = button.show(ui, place);
        widgets::say_toggled(ui, &response, on);
        if response.clicked() {
            view.units.search.only = (!on).then_some(which);
        }
        right -= w + 6.0;
    }
    right
}

const ROW: f32 = 34.0;

/// Columns: their place from the left as a share of the width, in the order of [`cells`].
struct Places {
    serial: f32,
    id: f32,
    batch: f32,
    state: f32,
    attempts: f32,
    last: f32,
    code: f32,
    rma: f32,
}

fn places(width: f32) -> Places {
    // The hardware id goes first where there is no room.
    let wide = width >= 1100.0;
    let id = if wide { 0.155 } else { f32::NAN };
    let (batch, state, attempts, last, code, rma) =
        if wide { (0.355, 0.475, 0.62, 0.685, 0.835, 0.895) } else { (0.2, 0.36, 0.53, 0.61, 0.79, 0.87) };
    Places { serial: 0.0, id, batch, state, attempts, last, code, rma }
}

fn place(row: Rect, from: f32, to: f32) -> Rect {
    let x = |share: f32| row.left() + 14.0 + (row.width() - 28.0) * share;
    Rect::from_min_max(pos2(x(from), row.top()), pos2((x(to) - 8.0).max(x(from) + 1.0), row.bottom()))
}

/// The hits, or why there are none.
pub(super) fn show(
    ui: &mut Ui,
    room: Rect,
    seen: Seen<'_>,
    view: &mut ViewState,
    out: &mut Asked,
    p: &Palette,
) {
    let head = Rect::from_min_size(room.min, vec2(room.width(), 32.0));
    let right = only(ui, head, view, p);
    let words = Rect::from_min_max(head.min, pos2(right - 8.0, head.bottom()));
    let fresh = view.units.search.answer(&view.units.query, seen);
    // Until the new answer is there the list stays, so that it does not flicker; the count says that it is not final.
    let shown = fresh.or(seen.desk.search.as_deref());
    let text = match fresh {
        None => tr!("search-asking").to_owned(),
        Some(answer) => {
            let found = &answer.found;
            let (count, of) = (number(found.count), number(found.of));
            let mut text = match (found.exact, found.count) {
                (true, _) => tr!("search-count", count = count, of = of),
                (false, 0) => tr!("search-count-unknown", of = of),
                (false, _) => tr!("search-count-more", count = count, of = of),
            };
            if found.count > PAGE {
                let to = found.from + found.units.len() as u32;
                let range = tr!("search-range", from = number(found.from + 1), to = number(to));
                text = tr!("tile-list", first = text, second = range);
            }
            text
        }
    };
    let used = widgets::line(ui, words, Align2::LEFT_CENTER, &text, strong(15.0), p.text);
    let response = ui.interact(used, ui.scope_id().with("search count"), Sense::hover());
    ui.ctx().accesskit_node_builder(response.id, |node| {
        node.set_live(egui::accesskit::Live::Polite);
        node.set_value(text.clone());
    });
    let card = Rect::from_min_max(pos2(room.left(), head.bottom() + 8.0), room.max);
    ui.painter().rect(card, 14.0, p.surface, Stroke::new(1.0, p.border), StrokeKind::Inside);
    let Some(answer) = shown else { return };
    if fresh.is_some() && answer.found.units.is_empty() {
        nothing(ui, card, answer.found.exact, p);
        return;
    }
    list(ui, card, answer, view, out, p);
}

/// No hit: because there is none, or because it was not among those that could be looked at.
fn nothing(ui: &mut Ui, card: Rect, exact: bool, p: &Palette) {
    let (title, text) = if exact {
        (tr!("search-none"), tr!("search-none-text"))
    } else {
        (tr!("search-too-many"), tr!("search-too-many-text"))
    };
    let middle = card.center().y.min(card.top() + 150.0);
    let icon = Rect::from_center_size(pos2(card.center().x, middle - 50.0), vec2(34.0, 34.0));
    icons::paint(ui.painter(), icon, Icon::Search, p.muted, p.surface, 0.0);
    let slice = |top: f32, height: f32| {
        Rect::from_min_size(pos2(card.left() + 28.0, middle + top), vec2(card.width() - 56.0, height))
    };
    widgets::line(ui, slice(-24.0, 30.0), Align2::CENTER_CENTER, title, strong(20.0), p.text);
    widgets::block(ui, slice(12.0, 60.0), Align2::CENTER_TOP, text, regular(14.5), p.muted, 3);
}

fn list(ui: &mut Ui, card: Rect, answer: &Answer, view: &mut ViewState, out: &mut Asked, p: &Palette) {
    let inner = card.shrink2(vec2(4.0, 6.0));
    let at = places(inner.width());
    let head = Rect::from_min_size(inner.min, vec2(inner.width(), 26.0));
    let names = [
        (at.serial, if at.id.is_nan() { at.batch } else { at.id }, tr!("column-serial")),
        (at.id, at.batch, tr!("column-id")),
        (at.batch, at.state, tr!("column-batch")),
        (at.state, at.attempts, tr!("column-state")),
        (at.attempts, at.last, tr!("column-attempts")),
        (at.last, at.code, tr!("column-last")),
        (at.code, at.rma, tr!("column-code")),
        (at.rma, 1.0, tr!("column-rma")),
    ];
    for (from, to, name) in names {
        if !from.is_nan() {
            widgets::line(ui, place(head, from, to), Align2::LEFT_CENTER, name, regular(12.5), p.muted);
        }
    }
    ui.painter().hline(inner.x_range(), head.bottom(), Stroke::new(1.0, p.border));
    let pages = answer.found.count > PAGE;
    let foot = if pages { 44.0 } else { 0.0 };
    let body = Rect::from_min_max(
        pos2(inner.left(), head.bottom() + 2.0),
        pos2(inner.right(), inner.bottom() - foot),
    );
    let mut opened = None;
    ui.scope_builder(UiBuilder::new().max_rect(body), |ui| {
        ui.set_clip_rect(body.intersect(ui.clip_rect()));
        ui.spacing_mut().item_spacing.y = 0.0;
        let salt = ("hits", answer.search.number);
        egui::ScrollArea::vertical().id_salt(salt).auto_shrink(false).show(ui, |ui| {
            for (i, unit) in answer.found.units.iter().enumerate() {
                let (r, response) = ui.allocate_exact_size(vec2(body.width() - 6.0, ROW), Sense::click());
                let chosen = view.units.search.chosen == Some(i);
                let spoken = tr!(
                    "search-hit",
                    serial = &unit.serial,
                    state = state_word(unit.state),
                    batch = &unit.batch
                );
                response.widget_info(|| WidgetInfo::selected(Role::Button, true, chosen, &spoken));
                if chosen || response.hovered() || response.has_focus() {
                    let fill = if chosen { p.running.soft } else { p.track };
                    ui.painter().rect_filled(r.shrink2(vec2(2.0, 1.0)), 7.0, fill);
                }
                if response.has_focus() {
                    widgets::focus_ring(ui, r.shrink(3.0), 7.0, p);
                }
                if chosen || response.gained_focus() {
                    response.scroll_to_me(None);
                }
                hit(ui, r, &at, unit, p);
                if response.clicked() {
                    opened = Some(unit.id.to_string());
                }
            }
        });
    });
    if pages {
        let row =
            Rect::from_min_max(pos2(inner.left() + 10.0, inner.bottom() - 38.0), inner.max - vec2(10.0, 4.0));
        turn(ui, row, answer, view);
    }
    if let Some(id) = opened {
        open(id, view, out);
    }
}

fn hit(ui: &mut Ui, r: Rect, at: &Places, unit: &FoundUnit, p: &Palette) {
    let to = if at.id.is_nan() { at.batch } else { at.id };
    widgets::line(ui, place(r, at.serial, to), Align2::LEFT_CENTER, &unit.serial, strong(14.5), p.text);
    if !at.id.is_nan() {
        let text = unit.id.to_string();
        widgets::line(ui, place(r, at.id, at.batch), Align2::LEFT_CENTER, &text, mono(12.5), p.muted);
    }
    widgets::line(ui, place(r, at.batch, at.state), Align2::LEFT_CENTER, &unit.batch, regular(13.5), p.text);
    let (icon, tone) = state_look(unit.state, p);
    let spot = place(r, at.state, at.attempts);
    let square = Rect::from_center_size(pos2(spot.left() + 8.0, spot.center().y), vec2(15.0, 15.0));
    icons::paint(ui.painter(), square, icon, tone.ink, p.surface, 0.0);
    let words = Rect::from_min_max(pos2(square.right() + 6.0, spot.top()), spot.max);
    widgets::line(ui, words, Align2::LEFT_CENTER, state_word(unit.state), strong(13.0), tone.ink);
    let attempts = unit.attempts.to_string();
    widgets::line(ui, place(r, at.attempts, at.last), Align2::LEFT_CENTER, &attempts, regular(13.5), p.text);
    let last = unit.last_at_ms.map(date_time).unwrap_or_default();
    widgets::line(ui, place(r, at.last, at.code), Align2::LEFT_CENTER, &last, regular(13.0), p.muted);
    let code = unit.last_failure.map(|n| format!("K{n}")).unwrap_or_default();
    widgets::line(ui, place(r, at.code, at.rma), Align2::LEFT_CENTER, &code, strong(13.0), p.fail.ink);
    let rma = unit.rma.as_deref().unwrap_or_default();
    widgets::line(ui, place(r, at.rma, 1.0), Align2::LEFT_CENTER, rma, regular(13.0), p.text);
}

fn turn(ui: &mut Ui, row: Rect, answer: &Answer, view: &mut ViewState) {
    let found = &answer.found;
    let mut right = row.right();
    let pages = [
        (tr!("search-after"), found.from + PAGE < found.count, found.from + PAGE),
        (tr!("search-before"), found.from > 0, found.from.saturating_sub(PAGE)),
    ];
    for (text, enabled, to) in pages {
        let button = Button { text, name: text, icon: None, loud: Loud::Quiet, enabled, size: 13.0 };
        let w = button.width(ui);
        let place = Rect::from_min_size(pos2(right - w, row.top()), vec2(w, row.height()));
        if button.show(ui, place).clicked() {
            (view.units.search.from, view.units.search.chosen) = (to, None);
        }
        right -= w + 8.0;
    }
}

/// Opens a hit; the search is over.
pub(super) fn open(id: String, view: &mut ViewState, out: &mut Asked) {
    view.units.query.clear();
    view.units.search.only = None;
    out.desk.push(desk::Command::Find(id));
    view.units.wants_focus = true;
}
