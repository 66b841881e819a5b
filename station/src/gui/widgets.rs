//! The few widgets the window is built of, placed by rectangle.
//!
//! Every piece of text is also an AccessKit label and every control carries its name, so a screen reader (and a test)
//! meets the words an operator sees.

use super::icons::{self, Icon};
use super::theme::{Palette, Tone, palette, regular, strong};
use crate::i18n::tr;
use egui::epaint::text::{LayoutJob, TextFormat, TextWrapping};
use egui::{
    Align2, Color32, FontId, Rect, Response, Role, Sense, Stroke, StrokeKind, Ui, WidgetInfo, pos2, vec2,
};

/// One line of text inside `rect`, elided with an ellipsis if it does not fit; returns what it covers.
pub fn line(ui: &mut Ui, rect: Rect, align: Align2, text: &str, font: FontId, color: Color32) -> Rect {
    block(ui, rect, align, text, font, color, 1)
}

/// Wrapped text of at most `rows` rows inside `rect`; returns what it covers. Elided text shows itself in full under
/// the pointer.
pub fn block(
    ui: &mut Ui,
    rect: Rect,
    align: Align2,
    text: &str,
    font: FontId,
    color: Color32,
    rows: usize,
) -> Rect {
    let mut job = LayoutJob::single_section(text.to_owned(), TextFormat::simple(font, color));
    job.wrap = TextWrapping {
        max_width: rect.width().max(1.0),
        max_rows: rows,
        break_anywhere: rows == 1,
        overflow_character: Some('…'),
    };
    job.halign = align.x();
    let galley = ui.painter().layout_job(job);
    let size = galley.size();
    let covered = align.align_size_within_rect(size, rect);
    let anchor = match align.x() {
        egui::Align::Min => covered.left_top(),
        egui::Align::Center => covered.center_top(),
        egui::Align::Max => covered.right_top(),
    };
    let elided = galley.elided;
    ui.painter().galley(anchor, galley, color);
    let response = ui.interact(covered, ui.next_auto_id(), Sense::hover());
    ui.skip_ahead_auto_ids(1);
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, text));
    if elided {
        response.on_hover_text(text);
    }
    covered
}

/// Width that `text` takes on one line.
pub fn width(ui: &Ui, text: &str, font: FontId) -> f32 {
    ui.painter().layout_no_wrap(text.to_owned(), font, Color32::BLACK).size().x
}

/// The ring around what has the keyboard.
pub fn focus_ring(ui: &Ui, rect: Rect, radius: f32, p: &Palette) {
    ui.painter().rect_stroke(rect.expand(3.0), radius + 3.0, Stroke::new(3.0, p.focus), StrokeKind::Middle);
}

/// How loud a button is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loud {
    /// The one action of its place.
    Primary,
    /// What can't be undone, at the place where it is confirmed.
    Danger,
    /// Everything else.
    Quiet,
}

/// What a button shows and says.
#[derive(Clone, Copy, Debug)]
pub struct Button<'a> {
    /// The word on it; empty for an icon alone.
    pub text: &'a str,
    /// Its name for screen readers; begins with the word on it.
    pub name: &'a str,
    /// Left of the word.
    pub icon: Option<Icon>,
    /// How loud.
    pub loud: Loud,
    /// Whether it can be pressed.
    pub enabled: bool,
    /// Type size; padding follows it.
    pub size: f32,
}

impl Button<'_> {
    /// Width that shows the whole word.
    pub fn width(&self, ui: &Ui) -> f32 {
        let icon = if self.icon.is_some() { self.size * 1.1 } else { 0.0 };
        let text = if self.text.is_empty() { 0.0 } else { width(ui, self.text, strong(self.size)) };
        let gap = if icon > 0.0 && text > 0.0 { self.size * 0.5 } else { 0.0 };
        icon + gap + text + self.size * 1.7
    }

    /// Paints it into `rect`.
    pub fn show(&self, ui: &mut Ui, rect: Rect) -> Response {
        let p = palette(ui.ctx());
        let id = ui.scope_id().with(("button", self.name));
        let sense = if self.enabled { Sense::click() } else { Sense::hover() };
        let response = ui.interact(rect, id, sense);
        response.widget_info(|| WidgetInfo::labeled(Role::Button, self.enabled, self.name));
        let hot = self.enabled && (response.hovered() || response.is_pointer_button_down_on());
        let (fill, ink, edge) = match (self.loud, self.enabled) {
            (_, false) => (Color32::TRANSPARENT, p.muted, p.border),
            (Loud::Primary, true) if hot => (p.running.ink, p.surface, p.running.ink),
            (Loud::Primary, true) => (p.running.solid, p.running.on_solid, p.running.solid),
            (Loud::Danger, true) if hot => (p.fail.ink, p.surface, p.fail.ink),
            (Loud::Danger, true) => (p.fail.solid, p.fail.on_solid, p.fail.solid),
            (Loud::Quiet, true) if hot => (p.hover, p.text, p.outline),
            (Loud::Quiet, true) => (p.surface, p.text, p.outline),
        };
        let radius = (self.size * 0.55).min(10.0);
        ui.painter().rect(rect, radius, fill, Stroke::new(1.0, edge), StrokeKind::Inside);
        let font = strong(self.size);
        let text = width(ui, self.text, font.clone());
        let icon = if self.icon.is_some() { self.size * 1.1 } else { 0.0 };
        let gap = if icon > 0.0 && !self.text.is_empty() { self.size * 0.5 } else { 0.0 };
        let mut x = rect.center().x - (icon + gap + text) / 2.0;
        if let Some(which) = self.icon {
            let square = Rect::from_min_size(pos2(x, rect.center().y - icon / 2.0), vec2(icon, icon));
            icons::paint(ui.painter(), square, which, ink, fill, 0.0);
            x += icon + gap;
        }
        ui.painter().text(pos2(x, rect.center().y), Align2::LEFT_CENTER, self.text, font, ink);
        if response.has_focus() {
            focus_ring(ui, rect, radius, p);
        }
        if hot {
            ui.ctx().set_cursor_icon(egui::CursorIcon::PointingHand);
        }
        response
    }
}

/// A switch with its name beside it; shows on and off by place, colour and word.
pub fn switch(ui: &mut Ui, rect: Rect, on: bool, name: &str) -> Response {
    let p = palette(ui.ctx());
    let response = ui.interact(rect, ui.scope_id().with(("switch", name)), Sense::click());
    response.widget_info(|| WidgetInfo::selected(Role::Switch, true, on, name));
    let track = Rect::from_min_size(pos2(rect.left(), rect.center().y - 11.0), vec2(40.0, 22.0));
    let (fill, knob, edge) = if on {
        (p.running.solid, p.running.on_solid, p.running.solid)
    } else {
        (p.track, p.text, p.outline)
    };
    ui.painter().rect(track, 11.0, fill, Stroke::new(1.0, edge), StrokeKind::Inside);
    let x = if on { track.right() - 11.0 } else { track.left() + 11.0 };
    ui.painter().circle_filled(pos2(x, track.center().y), 7.5, knob);
    if response.has_focus() {
        focus_ring(ui, rect.expand(2.0), 8.0, p);
    }
    let words = Rect::from_min_max(pos2(track.right() + 8.0, rect.top()), rect.max);
    if words.width() <= 0.0 {
        // Its place tells it too.
        return response.on_hover_text(name);
    }
    let middle = words.center().y;
    ui.painter().text(pos2(words.left(), middle - 8.0), Align2::LEFT_CENTER, name, strong(13.5), p.text);
    let word = if on { tr!("switch-on") } else { tr!("switch-off") };
    ui.painter().text(pos2(words.left(), middle + 9.0), Align2::LEFT_CENTER, word, regular(12.5), p.muted);
    response
}

/// What stands where there is no data yet: what will be here, and what to do.
pub fn empty(ui: &mut Ui, room: Rect, (title, text): (&str, &str), p: &Palette) {
    let size = vec2(620.0_f32.min(room.width()), 130.0_f32.min(room.height()));
    let card = Rect::from_center_size(pos2(room.center().x, room.top() + room.height() * 0.35), size);
    let card = card.translate(vec2(0.0, (room.top() - card.top()).max(0.0)));
    ui.painter().rect(card, 16.0, p.surface, Stroke::new(1.0, p.border), StrokeKind::Inside);
    let inner = card.shrink2(vec2(24.0, 18.0));
    let upper = Rect::from_min_size(inner.min, vec2(inner.width(), 30.0));
    line(ui, upper, Align2::CENTER_CENTER, title, strong(20.0), p.text);
    let lower = Rect::from_min_max(pos2(inner.left(), upper.bottom() + 6.0), inner.max);
    block(ui, lower, Align2::CENTER_TOP, text, regular(15.0), p.muted, 3);
}

/// A small word in a tinted lozenge, left at `at`, centred on its y; returns what it covers.
pub fn chip(ui: &mut Ui, at: egui::Pos2, text: &str, icon: Option<Icon>, tone: Tone, size: f32) -> Rect {
    let font = strong(size);
    let text_width = width(ui, text, font.clone());
    let side = if icon.is_some() { size * 1.15 } else { 0.0 };
    let gap = if icon.is_some() { size * 0.45 } else { 0.0 };
    let pad = size * 0.75;
    let height = size * 1.85;
    let rect = Rect::from_min_size(
        pos2(at.x, at.y - height / 2.0),
        vec2(pad * 2.0 + side + gap + text_width, height),
    );
    ui.painter().rect_filled(rect, height / 2.0, tone.soft);
    if let Some(which) = icon {
        let square = Rect::from_min_size(pos2(rect.left() + pad, at.y - side / 2.0), vec2(side, side));
        icons::paint(ui.painter(), square, which, tone.ink, tone.soft, 0.0);
    }
    let words = Rect::from_min_max(pos2(rect.left() + pad + side + gap, rect.top()), rect.max);
    line(ui, words, Align2::LEFT_CENTER, text, font, tone.ink);
    rect
}

/// A progress bar; `name` is what it measures.
pub fn progress(ui: &mut Ui, rect: Rect, fraction: f32, tone: Tone, name: &str) {
    let p = palette(ui.ctx());
    let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
    let radius = rect.height() / 2.0;
    ui.painter().rect_filled(rect, radius, p.track);
    if fraction > 0.0 {
        let done = (rect.width() * fraction).max(rect.height());
        ui.painter().rect_filled(
            Rect::from_min_size(rect.min, vec2(done, rect.height())),
            radius,
            tone.solid,
        );
    }
    let response = ui.interact(rect, ui.next_auto_id(), Sense::hover());
    ui.skip_ahead_auto_ids(1);
    response.widget_info(|| {
        let mut info = WidgetInfo::labeled(Role::ProgressIndicator, true, name);
        info.value = Some(f64::from((fraction * 100.0).round()));
        info
    });
}

/// A button that is off says why: under the pointer, and to whoever listens.
pub fn say_why(ui: &Ui, response: Response, why: Option<&str>) -> Response {
    let Some(why) = why else { return response };
    ui.ctx().accesskit_node_builder(response.id, |node| node.set_description(why));
    response.on_hover_text(why)
}

/// A dialog in the middle of the window, over everything else.
pub fn modal<R>(ui: &Ui, name: &str, p: &Palette, add: impl FnOnce(&mut Ui) -> R) -> egui::ModalResponse<R> {
    let frame = egui::Frame::new()
        .fill(p.surface)
        .stroke(Stroke::new(1.0, p.border))
        .corner_radius(16)
        .inner_margin(egui::Margin::symmetric(24, 16));
    let id = egui::Id::unique(name);
    egui::Modal::new(id).area(egui::Modal::default_area(id).fade_in(false)).frame(frame).show(ui.ctx(), add)
}

/// A button that stays pressed says so to whoever listens.
pub fn say_toggled(ui: &Ui, response: &egui::Response, on: bool) {
    use egui::accesskit::Toggled;
    let state = if on { Toggled::True } else { Toggled::False };
    ui.ctx().accesskit_node_builder(response.id, |node| node.set_toggled(state));
}

#[cfg(test)]
mod tests {
    use super::*;
    use egui_kittest::{Harness, kittest::NodeT, kittest::Queryable};

    fn harness<'a>(show: impl FnMut(&mut Ui) + 'a) -> Harness<'a> {
        Harness::builder()
            .with_size(vec2(400.0, 200.0))
            .with_context_setup(super::super::theme::install)
            .build_ui(show)
    }

    #[test]
    fn text_that_does_not_fit_is_elided_but_read_in_full() {
        let mut drawn = Rect::NOTHING;
        let room = Rect::from_min_size(pos2(10.0, 10.0), vec2(80.0, 20.0));
        {
            let mut h = harness(|ui| {
                drawn = line(
                    ui,
                    room,
                    Align2::LEFT_CENTER,
                    "a sentence wider than its room",
                    regular(14.0),
                    Color32::BLACK,
                );
            });
            h.run();
            h.get_by_label("a sentence wider than its room");
        }
        assert!(drawn.width() <= room.width() + 0.5, "{drawn:?}");
    }

    #[test]
    fn a_button_that_is_off_says_so_and_does_nothing() {
        let mut clicks = 0;
        {
            let mut h = harness(|ui| {
                let button = Button {
                    text: "Start",
                    name: "Start fixture 1",
                    icon: Some(Icon::Play),
                    loud: Loud::Primary,
                    enabled: false,
                    size: 15.0,
                };
                let rect = Rect::from_min_size(pos2(10.0, 10.0), vec2(120.0, 36.0));
                if button.show(ui, rect).clicked() {
                    clicks += 1;
                }
            });
            h.run();
            assert!(h.get_by_label("Start fixture 1").accesskit_node().is_disabled());
            h.get_by_label("Start fixture 1").click();
            h.run();
        }
        assert_eq!(clicks, 0);
    }

    #[test]
    fn progress_never_leaves_its_track_and_tells_its_value() {
        for (given, told) in [(-1.0, "0"), (0.5, "50"), (7.0, "100"), (f32::NAN, "0")] {
            let mut h = harness(move |ui| {
                let rect = Rect::from_min_size(pos2(10.0, 10.0), vec2(120.0, 8.0));
                progress(ui, rect, given, palette(ui.ctx()).running, "writing app");
            });
            h.run();
            let node = h.get_by_label("writing app");
            assert_eq!(node.accesskit_node().numeric_value().map(|v| v.to_string()).as_deref(), Some(told));
        }
    }
}
