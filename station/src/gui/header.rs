//! Batch, order, counts and speed, above the tiles.

use super::icons::{self, Icon};
use super::line_view::{Picker, Tab, ViewState};
use super::shell::{self, Asked, Seen};
use super::state;
use super::theme::{Palette, palette, regular, strong};
use super::widgets::{self, Button, Loud};
use crate::line::{Command, Snapshot};
use crate::model::{Batch, BatchState};
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
pub const fn batch_word(state: BatchState) -> &'static str {
    match state {
        BatchState::Open => "open",
        BatchState::Paused => "paused",
        BatchState::Closed => "closed",
    }
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
    if has_counts(snapshot, view.tab) {
        let line = surface.top() + CONTROLS;
        ui.painter().hline(row.x_range(), line, Stroke::new(1.0, p.border));
        let row = Rect::from_min_max(pos2(row.left(), line + 8.0), pos2(row.right(), surface.bottom() - 8.0));
        counts(ui, row, snapshot, view, p);
    }
}

fn banner(ui: &mut Ui, rect: Rect, p: &Palette) {
    let tone = p.error;
    ui.painter().rect_filled(rect, 0.0, tone.solid);
    let text = "DEMO: the passphrase “keywright-demo” is public, so anybody can open these keys. Never ship these units";
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
        let square = Rect::from_center_size(pos2(rect.right() - 18.0, rect.center().y), vec2(14.0, 14.0));
        icons::paint(ui.painter(), square, icon, p.muted, fill, 0.0);
        words.max.x = square.left() - 6.0;
    }
    let upper = Rect::from_min_max(words.min, pos2(words.right(), words.center().y + 2.0));
    let lower = Rect::from_min_max(pos2(words.left(), words.center().y), words.max);
    widgets::line(ui, upper, Align2::LEFT_CENTER, first, strong(15.5), p.text);
    widgets::line(ui, lower, Align2::LEFT_CENTER, second, regular(12.5), p.muted);
    if response.has_focus() {
        widgets::focus_ring(ui, rect, 9.0, p);
    }
    response
}

/// Which view is shown; pressed to show another.
fn tabs(ui: &mut Ui, rect: Rect, view: &mut ViewState, p: &Palette) {
    ui.painter().rect(rect, 9.0, p.track, Stroke::new(1.0, p.outline), StrokeKind::Inside);
    let third = rect.width() / 3.0;
    for (i, (tab, name, hint)) in [
        (Tab::Line, "Line", "Make units (F2, Ctrl+1)"),
        (Tab::Units, "Units", "Units that come back (F2, Ctrl+2)"),
        (Tab::Exports, "Exports", "Hand out units and keys (Ctrl+3)"),
    ]
    .into_iter()
    .enumerate()
    {
        let place =
            Rect::from_min_size(pos2(rect.left() + third * i as f32, rect.top()), vec2(third, rect.height()));
        let response = ui.interact(place, ui.scope_id().with(("tab", name)), Sense::click());
        let shown = view.tab == tab;
        response.widget_info(|| WidgetInfo::selected(Role::Tab, true, shown, name));
        let knob = place.shrink(3.0);
        let ink = if shown {
            ui.painter().rect_filled(knob, 7.0, p.running.solid);
            p.running.on_solid
        } else {
            if response.hovered() {
                ui.painter().rect_filled(knob, 7.0, p.hover);
            }
            p.text
        };
        ui.painter().text(place.center(), Align2::CENTER_CENTER, name, strong(14.5), ink);
        if response.has_focus() {
            widgets::focus_ring(ui, knob, 7.0, p);
        }
        if response.on_hover_text(hint).clicked() {
            shell::turn_to(tab, view);
        }
    }
}

/// What waits for a look: icon, number and word.
fn bell(ui: &mut Ui, rect: Rect, text: &str, view: &mut ViewState, p: &Palette) {
    let response = ui.interact(rect, ui.scope_id().with("alarms"), Sense::click());
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("{text} to look at")));
    ui.painter().rect(rect, 9.0, p.fail.solid, Stroke::new(1.0, p.fail.solid), StrokeKind::Inside);
    let icon = Rect::from_center_size(pos2(rect.left() + 20.0, rect.center().y), vec2(18.0, 18.0));
    icons::paint(ui.painter(), icon, Icon::Bell, p.fail.on_solid, p.fail.solid, 0.0);
    let at = pos2(icon.right() + 7.0, rect.center().y);
    ui.painter().text(at, Align2::LEFT_CENTER, text, strong(14.0), p.fail.on_solid);
    if response.has_focus() {
        widgets::focus_ring(ui, rect, 9.0, p);
    }
    if response.on_hover_text("What happened, and to which unit (F3)").clicked() {
        view.alarms = !view.alarms;
    }
}

fn controls(ui: &mut Ui, row: Rect, seen: Seen<'_>, view: &mut ViewState, out: &mut Asked, p: &Palette) {
    let snapshot = seen.line;
    // The smallest windows show what is worked with, and leave out what is only said.
    let narrow = row.width() < 1150.0;
    let sign = Rect::from_min_size(pos2(row.left(), row.center().y - 15.0), vec2(30.0, 30.0));
    icons::paint(ui.painter(), sign, Icon::Key, p.running.solid, p.surface, 0.0);
    let mut left = sign.right() + 10.0;
    if !narrow {
        let name = Rect::from_min_max(pos2(left, row.top() + 2.0), pos2(left + 100.0, row.center().y + 1.0));
        widgets::line(ui, name, Align2::LEFT_CENTER, "Keywright", strong(17.0), p.text);
        let station = Rect::from_min_max(pos2(left, row.center().y), pos2(left + 100.0, row.bottom() - 1.0));
        widgets::line(ui, station, Align2::LEFT_CENTER, &snapshot.station, regular(13.0), p.muted);
        left += 110.0;
    }
    let choice = Rect::from_min_size(
        pos2(left, row.center().y - 19.0),
        vec2(if narrow { 192.0 } else { 207.0 }, 38.0),
    );
    tabs(ui, choice, view, p);
    left = choice.right() + 12.0;

    let batch =
        Rect::from_min_size(pos2(left, row.top()), vec2(if narrow { 150.0 } else { 236.0 }, row.height()));
    let (first, second) = match &snapshot.batch {
        Some((b, _)) => {
            (format!("Batch {}", b.name), format!("{} units, {}", b.quantity, batch_word(b.state)))
        }
        None if snapshot.batches.is_empty() => ("No batch".into(), "see below how to make one".into()),
        None => ("Choose a batch".into(), format!("{} to choose from", snapshot.batches.len())),
    };
    let picker = two_lines(ui, batch, "Choose batch", &first, &second, Some(Icon::Down), p);
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
        name: "Help: keys and states",
        icon: None,
        loud: Loud::Quiet,
        enabled: true,
        size: 14.0,
    };
    if help.show(ui, place(42.0, 36.0)).on_hover_text("Keys and states").clicked() {
        view.help = !view.help;
    }
    let dark = ui.ctx().theme() == egui::Theme::Dark;
    let theme = Button {
        text: "",
        name: if dark { "Switch to the light theme" } else { "Switch to the dark theme" },
        icon: Some(if dark { Icon::Sun } else { Icon::Moon }),
        loud: Loud::Quiet,
        enabled: true,
        size: 14.0,
    };
    if theme.show(ui, place(42.0, 36.0)).on_hover_text("Light or dark (Ctrl+D)").clicked() {
        view.toggle_theme(ui.ctx());
    }
    let who = if snapshot.operator.is_empty() { "Nobody yet" } else { snapshot.operator.as_str() };
    let operator = place(if narrow { 124.0 } else { 158.0 }, row.height());
    let response = two_lines(ui, operator, "Operator", who, "Operator", Some(Icon::Person), p);
    if response.clicked() {
        view.operator = if view.operator.is_none() { Some(snapshot.operator.clone()) } else { None };
    }
    right_of(&mut right, 6.0);
    let auto = Rect::from_min_size(pos2(right - 122.0, row.center().y - 20.0), vec2(122.0, 40.0));
    if widgets::switch(ui, auto, snapshot.auto_start, "Auto-start")
        .on_hover_text("Start every board by itself when it is detected (Ctrl+A)")
        .clicked()
    {
        out.line.push(Command::AutoStart(!snapshot.auto_start));
    }
    right = auto.left() - 12.0;
    if !seen.desk.alarms.is_empty() {
        let text = shell::told(seen.desk.alarms.len());
        let width = widgets::width(ui, &text, strong(14.0)) + 50.0;
        bell(
            ui,
            Rect::from_min_size(pos2(right - width, row.center().y - 19.0), vec2(width, 38.0)),
            &text,
            view,
            p,
        );
        right -= width + 12.0;
    }

    if let Some((_, po)) = &snapshot.batch
        && right - left > 110.0
    {
        let words = Rect::from_min_max(pos2(left, row.top()), pos2(right, row.bottom()));
        let upper = Rect::from_min_max(words.min, pos2(words.right(), words.center().y + 1.0));
        let lower = Rect::from_min_max(pos2(words.left(), words.center().y), words.max);
        let first = format!("{} · {} rev. {}", po.name, po.model, po.hw_revision);
        let suite = if po.suite == 1 { "suite 1 (legacy)".into() } else { format!("suite {}", po.suite) };
        let second = format!("Part {} · region {} · {suite}", po.part_number, po.region);
        widgets::line(ui, upper, Align2::LEFT_CENTER, &first, strong(14.0), p.text);
        widgets::line(ui, lower, Align2::LEFT_CENTER, &second, regular(12.5), p.muted);
    }

    if view.picker.is_some() {
        pick(ui, batch, snapshot, view, &mut out.line, p);
    }
    if view.operator.is_some() {
        name_operator(ui, operator, view, &mut out.line, p);
    }
}

fn right_of(right: &mut f32, gap: f32) {
    *right -= gap;
}

fn popup(ui: &Ui, name: &str, at: egui::Pos2, width: f32, p: &Palette, add: impl FnOnce(&mut Ui)) -> Rect {
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
fn pressed_outside(ui: &Ui, popup: Rect, opener: Rect) -> bool {
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
    let mut chosen = if enter { found.get(picker.at).map(|b| b.name.clone()) } else { None };
    let area = popup(ui, "batch picker", pos2(opener.left(), opener.bottom() + 6.0), 380.0, p, |ui| {
        let edit = egui::TextEdit::singleline(&mut picker.query)
            .hint_text("Search batches")
            .desired_width(f32::INFINITY)
            .margin(vec2(10.0, 8.0));
        let search = ui.add(edit);
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
            ui.label("There is no batch yet. Make one with “keywright batch new”");
        } else if found.is_empty() {
            ui.label(format!("No batch matches “{}”", picker.query.trim()));
        }
        egui::ScrollArea::vertical().max_height(320.0).show(ui, |ui| {
            ui.spacing_mut().item_spacing.y = 2.0;
            for (i, batch) in found.iter().enumerate() {
                let (rect, response) =
                    ui.allocate_exact_size(vec2(ui.available_width(), 44.0), Sense::click());
                let current = snapshot.batch.as_ref().is_some_and(|(b, _)| b.name == batch.name);
                response.widget_info(|| {
                    let name = format!(
                        "Batch {}, {} units, {}",
                        batch.name,
                        batch.quantity,
                        batch_word(batch.state)
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
                let tone = match batch.state {
                    BatchState::Open => p.pass,
                    BatchState::Paused => p.error,
                    BatchState::Closed => p.aborted,
                };
                let word = batch_word(batch.state);
                let chip_width = widgets::width(ui, word, strong(12.5)) + 20.0;
                widgets::chip(ui, pos2(words.right() - chip_width, words.center().y), word, None, tone, 12.5);
                let text = format!("{} units", batch.quantity);
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
        ui.label(
            egui::RichText::new("↑ ↓ choose, Enter selects, Esc closes").font(regular(12.5)).color(p.muted),
        );
    });
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
        let label = ui.label("Who works here? It stands in every record");
        let edit = egui::TextEdit::singleline(&mut name)
            .hint_text("Name or badge")
            .char_limit(64)
            .desired_width(f32::INFINITY)
            .margin(vec2(10.0, 8.0));
        let edit = ui.add(edit).labelled_by(label.id);
        if ui.ctx().memory(|m| m.focused()) != Some(edit.id) {
            edit.request_focus();
        }
        ui.label(egui::RichText::new("Enter saves, Esc closes").font(regular(12.5)).color(p.muted));
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
        let text = value.to_string();
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
        response.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("{value} {word}")));
        rect.right()
    };
    let sign = |ui: &mut Ui, x: f32, sign: &str| {
        let at = pos2(x + 15.0, row.top() + row.height() * 0.3);
        ui.painter().text(at, Align2::CENTER_CENTER, sign, regular(20.0), p.muted);
        x + 30.0
    };
    x = number(ui, x, c.planned, "planned", None);
    x = sign(ui, x, "=");
    x = number(ui, x, c.passed, "passed", Some((Icon::Check, p.pass.solid)));
    x = sign(ui, x, "+");
    x = number(ui, x, c.failed, "failed", Some((Icon::Cross, p.fail.solid)));
    x = sign(ui, x, "+");
    x = number(ui, x, c.scrapped, "scrapped", None);
    x = sign(ui, x, "+");
    x = number(ui, x, c.open(), "open", None);

    let pace = state::pace(snapshot, view.now);
    let finished = c.passed + c.failed + c.scrapped;
    let first_pass = match finished {
        0 => "–".to_string(),
        n => format!("{:.1} %", f64::from(c.first_pass) * 100.0 / f64::from(n)),
    };
    let per_hour = pace.per_hour.map_or_else(|| "–".into(), |h| format!("{h:.0}"));
    let left = match (c.open(), pace.left) {
        (0, _) if c.planned > 0 => "done".into(),
        (_, Some(left)) => state::roughly(left),
        _ => "–".into(),
    };
    let mut right = row.right();
    for (value, word) in [(left, "to go"), (per_hour, "units per hour"), (first_pass, "first-pass yield")] {
        let font = strong(20.0);
        let caption = regular(13.0);
        let width =
            widgets::width(ui, &value, font.clone()).max(widgets::width(ui, word, caption.clone())) + 2.0;
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
        response.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("{value} {word}")));
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
    let mut text = format!("{done:.0} % of the batch done");
    if c.in_progress > 0 {
        text += &format!(", {} unfinished", c.in_progress);
    }
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
}
