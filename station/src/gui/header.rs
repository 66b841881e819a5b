//! Batch, order, counts and speed, above the tiles.

use super::icons::{self, Icon};
use super::line_view::{Picker, Tab, ViewState};
use super::lock_screen;
use super::shell::{self, Asked, Seen};
use super::state;
use super::theme::{Palette, palette, regular, strong};
use super::widgets::{self, Button, Loud};
use crate::i18n::{number, tr};
use crate::line::{Command, Snapshot};
use crate::model::{Batch, BatchState};
use crate::people::Right;
use egui::{
    Align2, Color32, Id, Key, Modifiers, Rect, Role, Sense, Stroke, StrokeKind, Ui, WidgetInfo, pos2, vec2,
};

/// Height of the banner that says the passphrase is public.
const BANNER: f32 = 32.0;
/// Height of the row of controls.
const CONTROLS: f32 = 62.0;
/// Height of the row of counts.
const COUNTS: f32 = 70.0;

/// Height of the whole header.
pub fn height(snapshot: &Snapshot, tab: Tab) -> f32 {
    let banner = if snapshot.demo { BANNER } else { 0.0 };
    let counts = if has_counts(snapshot, tab) { COUNTS } else { 0.0 };
    banner + CONTROLS + counts
}

/// The counts are the line's.
fn has_counts(snapshot: &Snapshot, tab: Tab) -> bool {
    snapshot.batch.is_some() && tab == Tab::Line
}

/// The word for a batch's state.
pub fn batch_word(state: BatchState) -> &'static str {
    match state {
        BatchState::Open => tr!("batch-open"),
        BatchState::Paused => tr!("batch-paused"),
        BatchState::Closed => tr!("batch-closed"),
    }
}

/// The state of a batch in a lozenge whose right end is at `at`; returns what it covers.
pub(super) fn batch_chip(ui: &mut Ui, at: egui::Pos2, state: BatchState, p: &Palette) -> Rect {
    let tone = match state {
        BatchState::Open => p.pass,
        BatchState::Paused => p.error,
        BatchState::Closed => p.aborted,
    };
    let word = batch_word(state);
    let width = widgets::width(ui, word, strong(12.5)) + 20.0;
    widgets::chip(ui, pos2(at.x - width, at.y), word, None, tone, 12.5)
}

/// Draws the header into `rect`.
pub fn show(ui: &mut Ui, rect: Rect, seen: Seen<'_>, view: &mut ViewState, out: &mut Asked) {
    let snapshot = seen.line;
    let p = palette(ui.ctx());
    let mut top = rect.top();
    if snapshot.demo {
        let row = Rect::from_min_size(rect.min, vec2(rect.width(), BANNER));
        banner(ui, row, p);
        top += BANNER;
    }
    let surface = Rect::from_min_max(pos2(rect.left(), top), rect.max);
    ui.painter().rect_filled(surface, 0.0, p.surface);
    ui.painter().hline(surface.x_range(), surface.bottom(), Stroke::new(1.0, p.border));
    let row = Rect::from_min_size(surface.min, vec2(surface.width(), CONTROLS)).shrink2(vec2(16.0, 9.0));
    controls(ui, row, seen, view, out, p);
    if has_counts(snapshot, view.tab) && view.settings.is_none() {
        let line = surface.top() + CONTROLS;
        ui.painter().hline(row.x_range(), line, Stroke::new(1.0, p.border));
        let row = Rect::from_min_max(pos2(row.left(), line + 8.0), pos2(row.right(), surface.bottom() - 8.0));
        counts(ui, row, snapshot, view, p);
    }
}

fn banner(ui: &mut Ui, rect: Rect, p: &Palette) {
    let tone = p.error;
    ui.painter().rect_filled(rect, 0.0, tone.solid);
    let text = tr!("header-demo");
    // Hazard stripes on both ends: the banner must not pass for decoration.
    let words = widgets::width(ui, text, strong(14.5)).min(rect.width() - 80.0);
    let free = (rect.width() - words) / 2.0 - 16.0;
    let painter = ui.painter_at(rect);
    for end in [
        Rect::from_min_size(rect.min, vec2(free, BANNER)),
        Rect::from_min_size(pos2(rect.right() - free, rect.top()), vec2(free, BANNER)),
    ] {
        let painter = painter.with_clip_rect(end.intersect(rect));
        let mut x = end.left() - BANNER;
        while x < end.right() {
            painter.add(egui::Shape::convex_polygon(
                vec![
                    pos2(x, end.bottom()),
                    pos2(x + BANNER, end.top()),
                    pos2(x + BANNER + 14.0, end.top()),
                    pos2(x + 14.0, end.bottom()),
                ],
                tone.on_solid.gamma_multiply(0.22),
                Stroke::NONE,
            ));
            x += 34.0;
        }
    }
    widgets::line(
        ui,
        rect.shrink2(vec2(40.0, 0.0)),
        Align2::CENTER_CENTER,
        text,
        strong(14.5),
        tone.on_solid,
    );
}

/// A control of two lines: what it is and what it is set to.
fn two_lines(
    ui: &mut Ui,
    rect: Rect,
    name: &str,
    first: &str,
    second: &str,
    icon: Option<Icon>,
    p: &Palette,
) -> egui::Response {
    let response = ui.interact(rect, ui.scope_id().with(("two lines", name)), Sense::click());
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("{name}: {first}, {second}")));
    let hot = response.hovered();
    let fill = if hot { p.track } else { p.background };
    ui.painter().rect(rect, 9.0, fill, Stroke::new(1.0, p.outline), StrokeKind::Inside);
    let mut words = rect.shrink2(vec2(12.0, 4.0));
    if let Some(icon) = icon {
        let middle = if rect.width() < 60.0 { rect.center().x } else { rect.right() - 18.0 };
        let square = Rect::from_center_size(pos2(middle, rect.center().y), vec2(14.0, 14.0));
        icons::paint(ui.painter(), square, icon, p.muted, fill, 0.0);
        words.max.x = square.left() - 6.0;
    }
    let upper = Rect::from_min_max(words.min, pos2(words.right(), words.center().y + 2.0));
    let lower = Rect::from_min_max(pos2(words.left(), words.center().y), words.max);
    if words.width() > 16.0 {
        widgets::line(ui, upper, Align2::LEFT_CENTER, first, strong(15.5), p.text);
        widgets::line(ui, lower, Align2::LEFT_CENTER, second, regular(12.5), p.muted);
    }
    if response.has_focus() {
        widgets::focus_ring(ui, rect, 9.0, p);
    }
    response
}

/// A row narrower than this has room for signs where the tabs' words are.
const SIGNS_BELOW: f32 = 560.0;

/// What a tab's word has around it at the least.
const TAB_PADDING: f32 = 14.0;

/// Which view is shown; pressed to show another.
fn tabs(ui: &mut Ui, rect: Rect, seen: Seen<'_>, view: &mut ViewState, p: &Palette) {
    ui.painter().rect(rect, 9.0, p.track, Stroke::new(1.0, p.outline), StrokeKind::Inside);
    let tabs = [
        (Tab::Line, tr!("header-tab-line"), tr!("header-tab-line-hint"), "1"),
        (Tab::Units, tr!("header-tab-units"), tr!("header-tab-units-hint"), "2"),
        (Tab::Batches, tr!("header-tab-batches"), tr!("header-tab-batches-hint"), "3"),
        (Tab::Exports, tr!("header-tab-exports"), tr!("header-tab-exports-hint"), "4"),
        (Tab::Shift, tr!("header-tab-shift"), tr!("header-tab-shift-hint"), "5"),
        (Tab::Trust, tr!("header-tab-trust"), tr!("header-tab-trust-hint"), "6"),
    ];
    // Words as long as they have room, each as wide as it is; in the smallest windows the digits of their keys.
    let measure = |size: f32| tabs.map(|(_, name, ..)| widgets::width(ui, name, strong(size)));
    let tight = tabs.len() as f32 * TAB_PADDING;
    let size = [13.5, 12.5, 11.5]
        .into_iter()
        .find(|size| measure(*size).iter().sum::<f32>() + tight <= rect.width());
    let widths = size.map_or([0.0; 6], measure);
    let spare = (rect.width() - widths.iter().sum::<f32>()) / tabs.len() as f32;
    let mut left = rect.left();
    for ((tab, name, hint, sign), own) in tabs.into_iter().zip(widths) {
        let place = Rect::from_min_size(pos2(left, rect.top()), vec2(own + spare, rect.height()));
        left = place.right();
        let off = match tab {
            Tab::Units => seen.people.refusal(Right::SeeUnits),
            Tab::Exports => seen.people.refusal(Right::Export),
            Tab::Batches => seen.people.refusal(Right::PauseBatch),
            Tab::Trust => seen.people.refusal(Right::SeeTrust),
            _ => None,
        };
        let off = off.map(super::people_view::reason);
        let sense = if off.is_none() { Sense::click() } else { Sense::hover() };
        let response = ui.interact(place, ui.scope_id().with(("tab", name)), sense);
        let shown = view.tab == tab && view.settings.is_none();
        response.widget_info(|| WidgetInfo::selected(Role::Tab, off.is_none(), shown, name));
        if let Some(why) = off {
            ui.ctx().accesskit_node_builder(response.id, |node| node.set_description(why));
        }
        let knob = place.shrink(3.0);
        let ink = if shown {
            ui.painter().rect_filled(knob, 7.0, p.running.solid);
            p.running.on_solid
        } else {
            if response.hovered() && off.is_none() {
                ui.painter().rect_filled(knob, 7.0, p.hover);
            }
            if off.is_none() { p.text } else { p.muted }
        };
        let (word, size) = size.map_or((sign, 14.5), |size| (name, size));
        ui.painter().text(place.center(), Align2::CENTER_CENTER, word, strong(size), ink);
        if response.has_focus() {
            widgets::focus_ring(ui, knob, 7.0, p);
        }
        if response.on_hover_text(off.unwrap_or(hint)).clicked() {
            shell::turn_to(tab, view);
        }
    }
}

/// What waits for a look: icon, number and word.
fn bell(ui: &mut Ui, rect: Rect, text: &str, shown: &str, view: &mut ViewState, p: &Palette) {
    let response = ui.interact(rect, ui.scope_id().with("alarms"), Sense::click());
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, tr!("header-bell", alarms = text)));
    ui.painter().rect(rect, 9.0, p.fail.solid, Stroke::new(1.0, p.fail.solid), StrokeKind::Inside);
    let icon = Rect::from_center_size(pos2(rect.left() + 20.0, rect.center().y), vec2(18.0, 18.0));
    icons::paint(ui.painter(), icon, Icon::Bell, p.fail.on_solid, p.fail.solid, 0.0);
    let at = pos2(icon.right() + 7.0, rect.center().y);
    ui.painter().text(at, Align2::LEFT_CENTER, shown, strong(14.0), p.fail.on_solid);
    if response.has_focus() {
        widgets::focus_ring(ui, rect, 9.0, p);
    }
    if response.on_hover_text(tr!("header-bell-hint")).clicked() {
        view.alarms = !view.alarms;
    }
}

fn controls(ui: &mut Ui, row: Rect, seen: Seen<'_>, view: &mut ViewState, out: &mut Asked, p: &Palette) {
    let snapshot = seen.line;
    // The smallest windows show what is worked with, and leave out what is only said.
    let narrow = row.width() < 1150.0;
    // Large text in a small window: what can be told by a sign alone is.
    let tight = row.width() < 860.0;
    let quiet = seen.desk.alarms.is_empty();
    let sign = Rect::from_min_size(pos2(row.left(), row.center().y - 15.0), vec2(30.0, 30.0));
    let mut left = sign.right() + 10.0;
    if tight {
        left = row.left();
    } else {
        icons::paint(ui.painter(), sign, Icon::Key, p.running.solid, p.surface, 0.0);
    }
    if !narrow {
        let name = Rect::from_min_max(pos2(left, row.top() + 2.0), pos2(left + 100.0, row.center().y + 1.0));
        widgets::line(ui, name, Align2::LEFT_CENTER, "Keywright", strong(17.0), p.text);
        let station = Rect::from_min_max(pos2(left, row.center().y), pos2(left + 100.0, row.bottom() - 1.0));
        widgets::line(ui, station, Align2::LEFT_CENTER, &snapshot.station, regular(13.0), p.muted);
        left += 110.0;
    }
    let choice = Rect::from_min_size(
        pos2(left, row.center().y - 19.0),
        vec2(
            if row.width() < SIGNS_BELOW {
                144.0
            } else if tight {
                208.0
            } else if narrow && quiet {
                312.0
            } else if narrow {
                // What the bell needs in the smallest windows is left to it.
                (row.width() - 688.0).clamp(240.0, 312.0)
            } else {
                348.0
            },
            38.0,
        ),
    );
    tabs(ui, choice, seen, view, p);
    left = choice.right() + 12.0;

    let width = match (tight, narrow) {
        // Operator, switch, help and settings.
        (true, _) => {
            let bell = if quiet { 0.0 } else { 130.0 };
            (row.right() - left - 228.0 - bell).clamp(64.0, 190.0)
        }
        (_, true) if quiet => 150.0,
        (_, true) => (row.width() - 812.0).clamp(116.0, 146.0),
        _ => 200.0,
    };
    let batch = Rect::from_min_size(pos2(left, row.top()), vec2(width, row.height()));
    let (first, second) = match &snapshot.batch {
        Some((b, _)) => {
            let size = tr!("header-batch-size", units = number(b.quantity), state = batch_word(b.state));
            (tr!("header-batch", name = &b.name), size)
        }
        None if snapshot.batches.is_empty() => {
            (tr!("header-no-batch").into(), tr!("header-no-batch-how").into())
        }
        None => (
            tr!("header-choose-a-batch").into(),
            tr!("header-to-choose-from", count = snapshot.batches.len()),
        ),
    };
    let picker = two_lines(ui, batch, tr!("header-choose-batch"), &first, &second, Some(Icon::Down), p);
    if picker.clicked() {
        view.picker = if view.picker.is_none() { Some(Picker::default()) } else { None };
    }
    left = batch.right() + 14.0;

    let mut right = row.right();
    let mut place = |width: f32, height: f32| {
        let r = Rect::from_min_size(pos2(right - width, row.center().y - height / 2.0), vec2(width, height));
        right = r.left() - 8.0;
        r
    };
    let help = Button {
        text: "F1",
        name: tr!("header-help"),
        icon: None,
        loud: Loud::Quiet,
        enabled: true,
        size: 14.0,
    };
    if help.show(ui, place(42.0, 36.0)).on_hover_text(tr!("header-help-hint")).clicked() {
        view.help = !view.help;
    }
    if view.has_settings {
        let off = seen.people.refusal(Right::Settings).map(super::people_view::reason);
        let settings = Button {
            text: "",
            name: tr!("header-settings"),
            icon: Some(Icon::Gear),
            loud: if view.settings.is_some() { Loud::Primary } else { Loud::Quiet },
            enabled: off.is_none(),
            size: 14.0,
        };
        let hint = off.unwrap_or(tr!("header-settings-hint"));
        let response = settings.show(ui, place(42.0, 36.0));
        widgets::say_toggled(ui, &response, view.settings.is_some());
        if let Some(why) = off {
            ui.ctx().accesskit_node_builder(response.id, |node| node.set_description(why));
        }
        if response.on_hover_text(hint).clicked() {
            super::settings_view::toggle(view, out);
        }
    }
    // Where there is room for one of the two, colours are among the settings.
    if !(narrow && view.has_settings) {
        let dark = ui.ctx().theme() == egui::Theme::Dark;
        let theme = Button {
            text: "",
            name: if dark { tr!("header-theme-light") } else { tr!("header-theme-dark") },
            icon: Some(if dark { Icon::Sun } else { Icon::Moon }),
            loud: Loud::Quiet,
            enabled: true,
            size: 14.0,
        };
        if theme.show(ui, place(42.0, 36.0)).on_hover_text(tr!("header-theme-hint")).clicked() {
            view.toggle_theme(ui.ctx());
        }
    }
    let (what, who, role) = lock_screen::chip(seen);
    let width = match (tight, narrow) {
        (true, _) => 44.0,
        (_, true) => 124.0,
        _ => 158.0,
    };
    let operator = place(width, row.height());
    let response = two_lines(ui, operator, what, &who, &role, Some(Icon::Person), p);
    if response.clicked() && seen.people.who().is_some() {
        view.people.menu = !view.people.menu;
    } else if response.clicked() {
        view.operator = if view.operator.is_none() { Some(snapshot.operator.clone()) } else { None };
    }
    right_of(&mut right, 6.0);
    let width = if tight { 42.0 } else { 122.0 };
    let auto = Rect::from_min_size(pos2(right - width, row.center().y - 20.0), vec2(width, 40.0));
    if widgets::switch(ui, auto, snapshot.auto_start, tr!("header-auto-start"))
        .on_hover_text(tr!("header-auto-start-hint"))
        .clicked()
    {
        out.line.push(Command::AutoStart(!snapshot.auto_start));
    }
    right = auto.left() - 12.0;
    if !seen.desk.alarms.is_empty() {
        let text = shell::told(seen.desk.alarms.len());
        let count = seen.desk.alarms.len().to_string();
        // The words, or the number alone; without room for that F3 still leads there, and the Units view counts them.
        let wide = |shown: &str| widgets::width(ui, shown, strong(14.0)) + 50.0;
        let fits = |shown: &&str| right - wide(shown) >= left - 2.0;
        if let Some(shown) = [text.as_str(), &count].into_iter().find(fits) {
            let width = wide(shown);
            let place = Rect::from_min_size(pos2(right - width, row.center().y - 19.0), vec2(width, 38.0));
            bell(ui, place, &text, shown, view, p);
            right -= width + 12.0;
        }
    }

    if let Some((_, po)) = &snapshot.batch
        && right - left > 90.0
    {
        let words = Rect::from_min_max(pos2(left, row.top()), pos2(right, row.bottom()));
        let upper = Rect::from_min_max(words.min, pos2(words.right(), words.center().y + 1.0));
        let lower = Rect::from_min_max(pos2(words.left(), words.center().y), words.max);
        let first = tr!("header-order", order = &po.name, model = &po.model, revision = &po.hw_revision);
        let suite = match po.suite {
            1 => tr!("header-suite-legacy").into(),
            n => tr!("header-suite", suite = n),
        };
        let second = tr!("header-part", part = &po.part_number, region = po.region, suite = suite);
        widgets::line(ui, upper, Align2::LEFT_CENTER, &first, strong(14.0), p.text);
        widgets::line(ui, lower, Align2::LEFT_CENTER, &second, regular(12.5), p.muted);
    }

    if view.picker.is_some() {
        pick(ui, batch, snapshot, view, &mut out.line, p);
    }
    if view.operator.is_some() {
        name_operator(ui, operator, view, &mut out.line, p);
    }
    if view.people.menu {
        lock_screen::menu(ui, operator, seen, view, out, p);
    }
}

fn right_of(right: &mut f32, gap: f32) {
    *right -= gap;
}

pub(super) fn popup(
    ui: &Ui,
    name: &str,
    at: egui::Pos2,
    width: f32,
    p: &Palette,
    add: impl FnOnce(&mut Ui),
) -> Rect {
    egui::Area::new(Id::unique(name))
        .order(egui::Order::Foreground)
        .fade_in(false)
        .fixed_pos(at)
        .constrain(true)
        .show(ui.ctx(), |ui| {
            egui::Frame::new()
                .fill(p.surface)
                .stroke(Stroke::new(1.0, p.outline))
                .corner_radius(12)
                .inner_margin(12)
                .shadow(egui::epaint::Shadow {
                    offset: [0, 6],
                    blur: 24,
                    spread: 0,
                    color: Color32::from_black_alpha(70),
                })
                .show(ui, |ui| {
                    ui.set_width(width);
                    add(ui);
                });
        })
        .response
        .rect
}

/// Whether a press landed outside the popup and outside what opened it.
pub(super) fn pressed_outside(ui: &Ui, popup: Rect, opener: Rect) -> bool {
    ui.input(|i| {
        i.pointer.any_pressed()
            && i.pointer.interact_pos().is_some_and(|at| !popup.contains(at) && !opener.contains(at))
    })
}

/// Batches whose name contains every word of the query, in the line's own order.
fn matching<'a>(batches: &'a [Batch], query: &str) -> Vec<&'a Batch> {
    let query = query.to_lowercase();
    batches
        .iter()
        .filter(|b| {
            let all = format!("{} {}", b.name.to_lowercase(), batch_word(b.state));
            query.split_whitespace().all(|word| all.contains(word))
        })
        .collect()
}

/// The batch of this name. Names that differ in capitals only were allowed once, and scanners may lose them: the exact one is meant, else
/// the only one that it can be.
///
/// # Errors
/// It can be several.
pub(super) fn named<'a>(batches: &'a [Batch], name: &str) -> Result<Option<&'a Batch>, ()> {
    let name = name.trim();
    if let Some(exact) = batches.iter().find(|b| b.name == name) {
        return Ok(Some(exact));
    }
    let mut alike = batches.iter().filter(|b| b.name.eq_ignore_ascii_case(name));
    match (alike.next(), alike.next()) {
        (_, Some(_)) => Err(()),
        (only, None) => Ok(only),
    }
}

fn pick(
    ui: &mut Ui,
    opener: Rect,
    snapshot: &Snapshot,
    view: &mut ViewState,
    out: &mut Vec<Command>,
    p: &Palette,
) {
    let Some(mut picker) = view.picker.take() else { return };
    let mut found = matching(&snapshot.batches, &picker.query);
    let (up, down, enter) = ui.input_mut(|i| {
        (
            i.consume_key(Modifiers::NONE, Key::ArrowUp),
            i.consume_key(Modifiers::NONE, Key::ArrowDown),
            i.consume_key(Modifiers::NONE, Key::Enter),
        )
    });
    if down {
        picker.at += 1;
    }
    if up {
        picker.at = picker.at.saturating_sub(1);
    }
    picker.at = picker.at.min(found.len().saturating_sub(1));
    let mut chosen = None;
    let area = popup(ui, "batch picker", pos2(opener.left(), opener.bottom() + 6.0), 380.0, p, |ui| {
        let edit = egui::TextEdit::singleline(&mut picker.query)
            .hint_text(tr!("picker-search"))
            .desired_width(f32::INFINITY)
            .margin(vec2(10.0, 8.0));
        let search = ui.add(edit);
        ui.ctx().accesskit_node_builder(search.id, |node| node.set_label(tr!("picker-search")));
        if !picker.focused {
            search.request_focus();
            picker.focused = true;
        }
        if search.changed() {
            picker.at = 0;
            found = matching(&snapshot.batches, &picker.query);
        }
        ui.add_space(4.0);
        if snapshot.batches.is_empty() {
            ui.label(tr!("picker-none"));
        } else if found.is_empty() {
            ui.label(tr!("picker-no-match", query = picker.query.trim()));
        }
        egui::ScrollArea::vertical().max_height(320.0).show(ui, |ui| {
            ui.spacing_mut().item_spacing.y = 2.0;
            for (i, batch) in found.iter().enumerate() {
                let (rect, response) =
                    ui.allocate_exact_size(vec2(ui.available_width(), 44.0), Sense::click());
                let current = snapshot.batch.as_ref().is_some_and(|(b, _)| b.name == batch.name);
                response.widget_info(|| {
                    let name = tr!(
                        "picker-option",
                        name = &batch.name,
                        units = number(batch.quantity),
                        state = batch_word(batch.state)
                    );
                    WidgetInfo::selected(Role::ListBoxOption, true, current, name)
                });
                if i == picker.at {
                    ui.painter().rect_filled(rect, 8.0, p.running.soft);
                    if up || down {
                        response.scroll_to_me(None);
                    }
                } else if response.hovered() {
                    ui.painter().rect_filled(rect, 8.0, p.track);
                }
                let words = rect.shrink2(vec2(12.0, 0.0));
                let chip_width = batch_chip(ui, words.right_center(), batch.state, p).width();
                let text = tr!("picker-units", units = number(batch.quantity));
                let name = widgets::line(ui, words, Align2::LEFT_CENTER, &batch.name, strong(15.0), p.text);
                let rest = Rect::from_min_max(
                    pos2(name.right() + 10.0, words.top()),
                    pos2(words.right() - chip_width - 8.0, words.bottom()),
                );
                widgets::line(ui, rest, Align2::LEFT_CENTER, &text, regular(13.5), p.muted);
                if response.clicked() {
                    chosen = Some(batch.name.clone());
                }
            }
        });
        ui.add_space(2.0);
        ui.label(egui::RichText::new(tr!("picker-keys")).font(regular(12.5)).color(p.muted));
    });
    if enter {
        // A scanner's characters and its Enter come at once: what they name is known now, and is that and nothing longer.
        match named(&snapshot.batches, &picker.query) {
            // Whoever went down the list has chosen.
            Err(()) if picker.at == 0 => {
                view.notice = Some(tr!("scan-batch-ambiguous", code = picker.query.trim()));
            }
            exact => {
                let exact = exact.ok().flatten().or_else(|| found.get(picker.at).copied());
                chosen = exact.map(|b| b.name.clone());
            }
        }
    }
    if let Some(name) = chosen {
        out.push(Command::SelectBatch(name));
    } else if !pressed_outside(ui, area, opener) {
        view.picker = Some(picker);
    }
}

fn name_operator(ui: &mut Ui, opener: Rect, view: &mut ViewState, out: &mut Vec<Command>, p: &Palette) {
    let Some(mut name) = view.operator.take() else { return };
    let enter = ui.input_mut(|i| i.consume_key(Modifiers::NONE, Key::Enter));
    let area = popup(ui, "operator", pos2(opener.left() - 80.0, opener.bottom() + 6.0), 260.0, p, |ui| {
        let label = ui.label(tr!("operator-ask"));
        let edit = egui::TextEdit::singleline(&mut name)
            .hint_text(tr!("operator-hint"))
            .char_limit(64)
            .desired_width(f32::INFINITY)
            .margin(vec2(10.0, 8.0));
        let edit = ui.add(edit).labelled_by(label.id);
        if ui.ctx().memory(|m| m.focused()) != Some(edit.id) {
            edit.request_focus();
        }
        ui.label(egui::RichText::new(tr!("operator-keys")).font(regular(12.5)).color(p.muted));
    });
    if enter && !name.trim().is_empty() {
        out.push(Command::SetOperator(name.trim().to_owned()));
    } else if !pressed_outside(ui, area, opener) {
        view.operator = Some(name);
    }
}

fn counts(ui: &mut Ui, row: Rect, snapshot: &Snapshot, view: &ViewState, p: &Palette) {
    let c = &snapshot.counts;
    let mut x = row.left();
    let number = |ui: &mut Ui, x: f32, value: u32, word: &str, icon: Option<(Icon, Color32)>| {
        let font = strong(25.0);
        let text = crate::i18n::number(value);
        let caption_font = regular(13.0);
        let side = if icon.is_some() { 17.0 } else { 0.0 };
        let width = widgets::width(ui, &text, font.clone())
            .max(widgets::width(ui, word, caption_font.clone()) + side);
        let rect = Rect::from_min_max(pos2(x, row.top()), pos2(x + width + 2.0, row.bottom()));
        let middle = row.top() + row.height() * 0.6;
        let upper = Rect::from_min_max(rect.min, pos2(rect.right(), middle));
        let lower = Rect::from_min_max(pos2(rect.left(), middle), rect.max);
        ui.painter().text(upper.left_center(), Align2::LEFT_CENTER, &text, font, p.text);
        if let Some((icon, ink)) = icon {
            let square = Rect::from_center_size(pos2(lower.left() + 6.5, lower.center().y), vec2(13.0, 13.0));
            icons::paint(ui.painter(), square, icon, ink, p.surface, 0.0);
        }
        let at = pos2(lower.left() + side, lower.center().y);
        ui.painter().text(at, Align2::LEFT_CENTER, word, caption_font, p.muted);
        let response = ui.interact(rect, ui.next_auto_id(), Sense::hover());
        ui.skip_ahead_auto_ids(1);
        response.widget_info(|| {
            WidgetInfo::labeled(Role::Label, true, tr!("count-spoken", value = text.as_str(), word = word))
        });
        rect.right()
    };
    let sign = |ui: &mut Ui, x: f32, sign: &str| {
        let at = pos2(x + 15.0, row.top() + row.height() * 0.3);
        ui.painter().text(at, Align2::CENTER_CENTER, sign, regular(20.0), p.muted);
        x + 30.0
    };
    x = number(ui, x, c.planned, tr!("count-planned"), None);
    if c.replaced() > 0 {
        x = sign(ui, x, "+");
        x = number(ui, x, c.replaced(), tr!("count-replaced"), None);
    }
    x = sign(ui, x, "=");
    x = number(ui, x, c.passed, tr!("count-passed"), Some((Icon::Check, p.pass.solid)));
    x = sign(ui, x, "+");
    x = number(ui, x, c.failed, tr!("count-failed"), Some((Icon::Cross, p.fail.solid)));
    x = sign(ui, x, "+");
    x = number(ui, x, c.scrapped, tr!("count-scrapped"), None);
    x = sign(ui, x, "+");
    x = number(ui, x, c.open(), tr!("count-open"), None);

    let pace = state::pace(snapshot, view.now);
    let finished = c.passed + c.failed + c.scrapped;
    let first_pass = match finished {
        0 => "–".to_string(),
        n => tr!(
            "count-percent",
            value = crate::i18n::decimal(f64::from(c.first_pass) * 100.0 / f64::from(n), 1)
        ),
    };
    let per_hour = pace.per_hour.map_or_else(|| "–".into(), |h| format!("{h:.0}"));
    let left = match (c.open(), pace.left) {
        (0, _) if c.planned > 0 => tr!("count-done").into(),
        (_, Some(left)) => state::roughly(left),
        _ => "–".into(),
    };
    let mut right = row.right();
    for (value, word) in
        [(left, tr!("count-to-go")), (per_hour, tr!("count-per-hour")), (first_pass, tr!("count-yield"))]
    {
        let font = strong(20.0);
        let caption = regular(13.0);
        let width =
            widgets::width(ui, &value, font.clone()).max(widgets::width(ui, word, caption.clone())) + 2.0;
        // The counts come first; what has no room beside them is left out.
        if right - width < x + 12.0 {
            break;
        }
        let rect = Rect::from_min_max(pos2(right - width, row.top()), pos2(right, row.bottom()));
        let middle = row.top() + row.height() * 0.6;
        ui.painter().text(
            pos2(rect.left(), row.top() + row.height() * 0.3),
            Align2::LEFT_CENTER,
            &value,
            font,
            p.text,
        );
        ui.painter().text(
            pos2(rect.left(), (middle + row.bottom()) / 2.0),
            Align2::LEFT_CENTER,
            word,
            caption,
            p.muted,
        );
        let response = ui.interact(rect, ui.next_auto_id(), Sense::hover());
        ui.skip_ahead_auto_ids(1);
        response.widget_info(|| {
            WidgetInfo::labeled(Role::Label, true, tr!("count-spoken", value = value.as_str(), word = word))
        });
        right = rect.left() - 26.0;
    }

    let bar = Rect::from_min_max(pos2(x + 30.0, row.top()), pos2(right - 4.0, row.bottom()));
    if bar.width() < 90.0 || c.planned == 0 {
        return;
    }
    let track =
        Rect::from_center_size(pos2(bar.center().x, row.top() + row.height() * 0.3), vec2(bar.width(), 14.0));
    ui.painter().rect_filled(track, 7.0, p.track);
    let mut from = 0;
    for (n, color) in [(c.passed, p.pass.solid), (c.failed, p.fail.solid), (c.scrapped, p.aborted.solid)] {
        let at = |n: u32| track.left() + track.width() * (n as f32 / c.planned as f32).min(1.0);
        let part = Rect::from_x_y_ranges(at(from)..=at(from + n), track.y_range());
        // Corners are rounded by clipping the whole bar's shape to each part.
        ui.painter_at(part).rect_filled(track, 7.0, color);
        from += n;
    }
    let done = f64::from(finished) * 100.0 / f64::from(c.planned);
    let caption = Rect::from_min_max(pos2(bar.left(), row.top() + row.height() * 0.6), bar.max);
    let percent = format!("{done:.0}");
    let text = match c.in_progress {
        0 => tr!("count-batch-done", percent = percent),
        n => tr!("count-batch-done-unfinished", percent = percent, unfinished = n),
    };
    widgets::line(ui, caption, Align2::LEFT_CENTER, &text, regular(13.0), p.muted);
}

#[cfg(test)]
mod tests {
    use super::super::line_view::tests::{harness, label_numbers, press};
    use super::super::scripted::{Scene, scene};
    use super::*;
    use egui_kittest::kittest::Queryable;
    use std::time::Instant;

    #[test]
    fn the_header_balances_as_it_is_written() {
        let h = harness(scene(Scene::Gallery, Instant::now()));
        let of = |word: &str| label_numbers(&h, word);
        assert_eq!(of("planned"), of("passed") + of("failed") + of("scrapped") + of("open"));
        assert_eq!(of("planned"), 500);
        h.get_by_label("93.2 % first-pass yield");
        h.get_by_label("112 units per hour");
        h.get_by_label_contains("to go");
        h.get_by_label("65 % of the batch done, 3 unfinished");
    }

    /// A unit that was scrapped left its place to another one: both stand in the equation, and that is no alarm.
    #[test]
    fn the_header_balances_with_units_in_place_of_scrapped_ones() {
        let mut snapshot = scene(Scene::Ready(1), Instant::now());
        let counts =
            crate::model::BatchCounts { planned: 100, passed: 100, scrapped: 1, ..Default::default() };
        snapshot.counts = counts;
        let h = harness(snapshot.clone());
        let of = |word: &str| label_numbers(&h, word);
        assert_eq!(of("planned") + of("replaced"), of("passed") + of("failed") + of("scrapped") + of("open"));
        assert_eq!((of("replaced"), of("open")), (1, 0));
        assert!(h.query_by_label_contains("don't balance").is_none());
        // More than scrap can explain is one.
        snapshot.counts.passed = 101;
        let h = harness(snapshot);
        h.get_by_label_contains("The counts don't balance: 102 units of 100 planned");
    }

    #[test]
    fn nothing_is_said_about_speed_before_it_is_known() {
        let mut snapshot = scene(Scene::Gallery, Instant::now());
        snapshot.finished.clear();
        snapshot.counts = crate::model::BatchCounts { planned: 20, ..Default::default() };
        let h = harness(snapshot);
        for label in ["– to go", "– units per hour", "– first-pass yield", "20 open"] {
            h.get_by_label(label);
        }
    }

    #[test]
    fn the_demo_says_loudly_that_its_passphrase_is_public() {
        let mut snapshot = scene(Scene::Gallery, Instant::now());
        assert!(harness(snapshot.clone()).query_by_label_contains("keywright-demo").is_none());
        snapshot.demo = true;
        let h = harness(snapshot);
        h.get_by_label_contains("“keywright-demo” is public");
    }

    #[test]
    fn a_batch_is_picked_with_the_keyboard_alone() {
        let mut h = harness(scene(Scene::Gallery, Instant::now()));
        h.key_press_modifiers(Modifiers::COMMAND, Key::B);
        h.run();
        h.run();
        h.get_by_label("Batch PILOT-07, 20 units, paused");
        press(&mut h, &[Key::ArrowDown]);
        press(&mut h, &[Key::Enter]);
        assert_eq!(h.state_mut().take(), [Command::SelectBatch("B-2042".into())]);
        assert!(h.query_by_label("Batch PILOT-07, 20 units, paused").is_none(), "the list closed");
    }

    #[test]
    fn typing_searches_and_starts_nothing() {
        let mut h = harness(scene(Scene::Gallery, Instant::now()));
        h.get_by_label("Choose batch: Batch B-2041, 500 units, open").click();
        h.run();
        h.run();
        h.event(egui::Event::Text("2040".into()));
        press(&mut h, &[Key::Num2, Key::Num0, Key::Num4, Key::Space]);
        assert!(h.query_by_label("Batch B-2042, 250 units, open").is_none());
        h.get_by_label("Batch B-2040, 500 units, closed").click();
        h.run();
        assert_eq!(h.state_mut().take(), [Command::SelectBatch("B-2040".into())]);
    }

    #[test]
    fn a_search_without_result_says_so_and_escape_closes_it() {
        let mut h = harness(scene(Scene::Gallery, Instant::now()));
        h.key_press_modifiers(Modifiers::COMMAND, Key::B);
        h.run();
        h.run();
        h.event(egui::Event::Text("nothing like it".into()));
        h.run();
        h.get_by_label("No batch matches “nothing like it”");
        press(&mut h, &[Key::Escape]);
        assert!(h.query_by_label("No batch matches “nothing like it”").is_none());
        assert_eq!(h.state_mut().take(), [], "escape closed the list and cancelled nothing");
    }

    #[test]
    fn the_operator_is_named_and_auto_start_switched() {
        let mut h = harness(scene(Scene::Gallery, Instant::now()));
        h.get_by_label("Operator: Ana Petrović, Operator").click();
        h.run();
        h.run();
        h.event(egui::Event::Text(" II".into()));
        h.run();
        press(&mut h, &[Key::Enter]);
        assert_eq!(h.state_mut().take(), [Command::SetOperator("Ana Petrović II".into())]);
        h.get_by_label("Auto-start").click();
        h.run();
        assert_eq!(h.state_mut().take(), [Command::AutoStart(true)]);
    }

    #[test]
    fn the_order_is_shown_and_a_legacy_suite_is_named_legacy() {
        let mut snapshot = scene(Scene::Gallery, Instant::now());
        harness(snapshot.clone()).get_by_label("PO-2026-0417 · KW-GATEWAY-429 rev. C");
        if let Some((_, po)) = snapshot.batch.as_mut() {
            po.suite = 1;
        }
        harness(snapshot).get_by_label_contains("suite 1 (legacy)");
    }

    #[test]
    fn in_small_windows_with_large_text_nothing_lies_on_top_of_anything() {
        use super::super::line_view::tests::sized;
        use crate::i18n::{self, Language};
        for language in Language::ALL {
            for size in [vec2(480.0, 400.0), vec2(640.0, 400.0), vec2(800.0, 500.0), vec2(960.0, 600.0)] {
                for has_settings in [false, true] {
                    let _spoken = i18n::using(language);
                    let mut h = sized(scene(Scene::Gallery, Instant::now()), size, egui::Theme::Light);
                    h.state_mut().view.language = language;
                    h.state_mut().view.has_settings = has_settings;
                    h.run();
                    let mut places = vec![
                        h.get_by_label(tr!("header-tab-line")).rect(),
                        h.get_by_label(tr!("header-tab-units")).rect(),
                        h.get_by_label_contains(tr!("header-choose-batch")).rect(),
                        h.get_by_label(tr!("header-auto-start")).rect(),
                        h.get_by_label_contains(&format!("{}: Ana Petrović", tr!("header-operator"))).rect(),
                        h.get_by_label(tr!("header-help")).rect(),
                    ];
                    if has_settings {
                        places.push(h.get_by_label(tr!("header-settings")).rect());
                    }
                    places.sort_by(|a, b| a.left().total_cmp(&b.left()));
                    for pair in places.windows(2) {
                        assert!(pair[0].right() <= pair[1].left() + 0.5, "{language:?} {size:?}: {pair:?}");
                    }
                    assert!(
                        places.iter().all(|r| r.left() >= 0.0 && r.right() <= size.x),
                        "{size:?}: {places:?}"
                    );
                }
            }
        }
    }
}
