//! One fixture on the screen.
//!
//! Invariant: whatever a tile says, it says in a word; colour and shape repeat it.

use super::icons::{self, Icon};
use super::layout::Density;
use super::said;
use super::state::{self, Seat, State};
use super::theme::{Palette, mono, palette, regular, strong};
use super::widgets::{self, Button, Loud};
use crate::failure::Failure;
use crate::i18n::{self, tr};
use crate::line::{FixtureView, RunningView, Step};
use crate::model::Outcome;
use egui::text::LayoutJob;
use egui::{Align2, Id, Rect, Role, Sense, Stroke, StrokeKind, Ui, WidgetInfo, pos2, vec2};
use std::time::{Duration, Instant};

/// What the operator did to a tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Pressed it with the pointer: start if that is the obvious thing, else look at it.
    Press,
    /// Named this fixture to start.
    Start,
    /// Cancel its unit.
    Cancel,
    /// Copy its failure.
    Copy(String),
}

/// What a tile is drawn from.
#[derive(Clone, Copy)]
pub struct Tile<'a> {
    /// Its place in the line, from 0.
    pub index: usize,
    /// The fixture.
    pub fixture: &'a FixtureView,
    /// What the window remembers of it.
    pub seat: &'a Seat,
    /// Whether it may be started by name.
    pub startable: bool,
    /// Whether units are locked here.
    pub locks: bool,
    /// Whether they get labels.
    pub labels: bool,
    /// A check of the station keeps it from starting.
    pub stopped: bool,
    /// The batch waits for the check of a sample.
    pub gated: bool,
    /// Boards that are put in start by themselves.
    pub auto: bool,
    /// How much room there is.
    pub density: Density,
    /// Scale of its words.
    pub scale: f32,
    /// The present.
    pub now: Instant,
}

/// The name of a step on screen.
pub fn step_name(step: Step) -> &'static str {
    match step {
        Step::Arrive => tr!("step-arrive"),
        Step::Flash => tr!("step-flash"),
        Step::AgentKey => tr!("step-agent-key"),
        Step::CloudKey => tr!("step-cloud-key"),
        Step::Prove => tr!("step-prove"),
        Step::Lock => tr!("step-lock"),
        Step::Label => tr!("step-label"),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Done,
    Now,
    Stopped,
    ToDo,
}

impl Mark {
    fn word(self) -> &'static str {
        match self {
            Self::Done => tr!("mark-done"),
            Self::Now => tr!("mark-now"),
            Self::Stopped => tr!("mark-stopped"),
            Self::ToDo => tr!("mark-to-do"),
        }
    }
}

impl<'a> Tile<'a> {
    /// The tile's id, by which keys find and move the focus.
    pub fn id(index: usize) -> Id {
        Id::unique("fixture tile").with(index)
    }

    /// The failure to explain, if any.
    pub fn failure(&self) -> Option<&'a Failure> {
        state::failure(self.fixture)
    }

    fn elapsed(&self) -> Option<Duration> {
        match (&self.fixture.running, &self.fixture.last, &self.fixture.trouble) {
            (Some(r), ..) => Some(self.now.saturating_duration_since(r.since)),
            (None, Some(l), None) => Some(Duration::try_from_secs_f64(l.seconds).unwrap_or_default()),
            _ => None,
        }
    }

    /// Serial and id of the unit the tile talks about.
    fn unit(&self) -> (Option<&'a str>, Option<String>) {
        match (&self.fixture.running, &self.fixture.last) {
            (Some(r), _) => (r.serial.as_deref(), r.unit.as_ref().map(state::short_id)),
            (None, Some(l)) => (l.serial.as_deref(), l.unit.as_ref().map(state::short_id)),
            _ => (None, None),
        }
    }

    /// The sentence a screen reader says.
    pub fn spoken(&self) -> String {
        let f = self.fixture;
        let state = match State::of(f) {
            State::Done(Outcome::Pass) => tr!("spoken-passed").to_owned(),
            State::Done(outcome) => state::outcome_word(outcome).to_owned(),
            other => other.word().to_lowercase(),
        };
        let mut said = if self.qa() {
            tr!("tile-spoken-qa", name = &f.name, state = state)
        } else {
            tr!("tile-spoken", name = &f.name, state = state)
        };
        let soon = match f {
            _ if f.waits_for_sample => Some(tr!("tile-held-sample")),
            _ if f.held => Some(tr!("tile-held")),
            _ if f.starts.is_some() => Some(tr!("tile-starts")),
            _ => None,
        };
        let mut add = |part: String| said = tr!("tile-list", first = said.as_str(), second = part);
        if let (Some(serial), _) = self.unit() {
            add(tr!("tile-spoken-serial", serial = serial));
        }
        if let Some(r) = &f.running {
            add(step_name(r.step).to_lowercase());
            add(said::label(&r.label).into_owned());
            add(tr!("tile-percent", value = percent(r.fraction)));
        }
        if let Some(soon) = soon {
            add(soon.to_lowercase());
        }
        if let Some(failure) = self.failure() {
            let (sentence, remedy) = i18n::failure(failure);
            let code = failure.code.to_string();
            add(tr!("tile-spoken-failure", code = code, sentence = sentence, remedy = remedy));
        }
        said
    }

    /// Draws it; returns what the operator did.
    pub fn show(&self, ui: &mut Ui, rect: Rect) -> Option<Act> {
        let p = palette(ui.ctx());
        let state = State::of(self.fixture);
        let tone = state.tone(p);
        let response = ui.interact(rect, Self::id(self.index), Sense::click());
        response.widget_info(|| WidgetInfo::labeled(Role::Button, true, self.spoken()));
        let radius = if self.density == Density::Full { 14.0 } else { 10.0 };
        let edge = match state {
            State::NoBoard => Stroke::NONE,
            State::Ready | State::Unknown => Stroke::new(1.0, p.border),
            _ => Stroke::new(2.0, tone.solid),
        };
        ui.painter().rect(rect, radius, p.surface, edge, StrokeKind::Inside);
        if state == State::NoBoard {
            let r = rect.shrink(1.0);
            let corners = [r.left_top(), r.right_top(), r.right_bottom(), r.left_bottom(), r.left_top()];
            ui.painter().extend(egui::Shape::dashed_line(&corners, Stroke::new(1.5, p.outline), 7.0, 6.0));
        } else if response.hovered() {
            ui.painter().rect_stroke(rect, radius, Stroke::new(2.0, tone.solid), StrokeKind::Inside);
        }
        let act = match self.density {
            Density::Full => self.full(ui, rect, p),
            Density::Compact | Density::Small => {
                self.compact(ui, rect, p);
                None
            }
        };
        if response.has_focus() {
            widgets::focus_ring(ui, rect, radius, p);
        }
        if response.gained_focus() {
            response.scroll_to_me(None);
        }
        act.or_else(|| {
            if !response.clicked() {
                None
            } else if response.clicked_by(egui::PointerButton::Primary) {
                Some(Act::Press)
            } else {
                Some(Act::Start)
            }
        })
    }

    /// Key cap, name and clock.
    fn title(&self, ui: &mut Ui, rect: Rect, size: f32, p: &Palette) {
        let mut x = rect.left();
        if self.index < 9 {
            let cap = Rect::from_min_size(pos2(x, rect.top()), vec2(rect.height(), rect.height()));
            ui.painter().rect(cap, size * 0.3, p.track, Stroke::new(1.0, p.outline), StrokeKind::Inside);
            let digit = (self.index + 1).to_string();
            ui.painter().text(cap.center(), Align2::CENTER_CENTER, digit, strong(size * 0.9), p.text);
            x = cap.right() + size * 0.5;
        }
        let mut right = rect.right();
        if let Some(elapsed) = self.elapsed().filter(|_| self.density != Density::Small) {
            let clock = state::clock(elapsed);
            let font = strong(size * 0.95);
            right -= widgets::width(ui, &clock, font.clone()) + 1.0;
            let place = Rect::from_min_max(pos2(right, rect.top()), rect.max);
            widgets::line(ui, place, Align2::RIGHT_CENTER, &clock, font, p.muted);
            right -= 6.0;
        }
        let place = Rect::from_min_max(pos2(x, rect.top()), pos2(right, rect.bottom()));
        let used = widgets::line(ui, place, Align2::LEFT_CENTER, &self.fixture.name, strong(size), p.text);
        if self.qa() {
            let rest = Rect::from_min_max(pos2(used.right() + size * 0.5, place.top()), place.max);
            widgets::line(
                ui,
                rest,
                Align2::LEFT_CENTER,
                tr!("tile-for-qa"),
                regular(size * 0.9),
                p.running.ink,
            );
        }
    }

    /// Whether it works, or worked last, for QA.
    fn qa(&self) -> bool {
        match (&self.fixture.running, &self.fixture.last) {
            (Some(running), _) => running.qa.is_some(),
            (None, last) => last.as_ref().is_some_and(|l| l.qa.is_some()),
        }
    }

    /// The band that is read across the room.
    fn band(&self, ui: &mut Ui, rect: Rect, size: f32, p: &Palette) {
        let state = State::of(self.fixture);
        let tone = state.tone(p);
        let (fill, ink) = if state.is_loud() { (tone.solid, tone.on_solid) } else { (tone.soft, tone.ink) };
        ui.painter().rect_filled(rect, (size * 0.4).min(10.0), fill);
        let side = size * 1.12;
        let small = self.density == Density::Small;
        let (edge, gap) = if small { (0.25, 0.25) } else { (0.5, 0.42) };
        let icon = Rect::from_min_size(
            pos2(rect.left() + size * edge, rect.center().y - side / 2.0),
            vec2(side, side),
        );
        let turn = self.elapsed().map_or(0.0, |e| (e.as_secs_f32() * 0.5).fract());
        icons::paint(ui.painter(), icon, state.icon(), ink, fill, turn);
        let mut right = rect.right() - size * if small { 0.2 } else { 0.4 };
        let left = icon.right() + size * gap;
        let word_width = widgets::width(ui, state.word(), strong(size));
        if let Some(r) = &self.fixture.running
            && self.density == Density::Full
        {
            let steps = self.steps_taken();
            let at = steps.iter().position(|s| *s == r.step).unwrap_or(0) + 1;
            let at = tr!("tile-step-of", at = at, of = steps.len());
            let font = regular(size * 0.58);
            let width = widgets::width(ui, &at, font.clone());
            if right - width - 8.0 >= left + word_width {
                let place =
                    Rect::from_min_max(pos2(right - width - 1.0, rect.top()), pos2(right, rect.bottom()));
                widgets::line(ui, place, Align2::RIGHT_CENTER, &at, font, ink);
                right = place.left() - 8.0;
            }
        }
        // The word is never cut: it shrinks instead.
        let room = (right - left).max(1.0);
        let size = size * (room / word_width.max(1.0)).min(1.0) * 0.999;
        let place = Rect::from_min_max(pos2(left, rect.top()), pos2(right + 1.0, rect.bottom()));
        widgets::line(ui, place, Align2::LEFT_CENTER, state.word(), strong(size), ink);
    }

    fn full(&self, ui: &mut Ui, rect: Rect, p: &Palette) -> Option<Act> {
        let s = self.scale;
        let inner = rect.shrink(14.0 * s);
        let slice = |top: f32, height: f32| {
            Rect::from_min_max(
                pos2(inner.left(), inner.top() + top * s),
                pos2(inner.right(), inner.top() + (top + height) * s),
            )
        };
        self.title(ui, slice(0.0, 22.0), 16.0 * s, p);
        self.band(ui, slice(29.0, 45.0), 24.0 * s, p);

        let (serial, id) = self.unit();
        let row = slice(80.0, 20.0);
        match (serial, State::of(self.fixture)) {
            (_, State::Trouble) => {}
            (Some(serial), _) => {
                widgets::line(ui, row, Align2::LEFT_CENTER, serial, strong(16.0 * s), p.text);
                if let Some(id) = id {
                    widgets::line(ui, row, Align2::RIGHT_CENTER, &id, mono(12.5 * s), p.muted);
                }
            }
            (None, State::Running | State::Cancelling) => {
                let text = tr!("tile-reading-id");
                widgets::line(ui, row, Align2::LEFT_CENTER, text, regular(14.5 * s), p.muted);
            }
            _ => {}
        }

        let foot = Rect::from_min_max(pos2(inner.left(), inner.bottom() - 34.0 * s), inner.max);
        let body = |top: f32| {
            Rect::from_min_max(
                pos2(inner.left(), inner.top() + top * s),
                pos2(inner.right(), foot.top() - 6.0 * s),
            )
        };
        match State::of(self.fixture) {
            State::Running | State::Cancelling => {
                if let Some(r) = &self.fixture.running {
                    self.steps(ui, body(106.0), p);
                    self.progress(ui, foot, r, p);
                }
            }
            State::Done(Outcome::Pass) => self.steps(ui, body(106.0), p),
            State::Trouble => self.explain(ui, body(84.0), p),
            State::Done(_) => {
                let top = if serial.is_some() { 103.0 } else { 83.0 };
                self.explain(ui, body(top), p);
            }
            State::NoBoard => {
                let then = if self.auto { tr!("tile-seat-auto") } else { tr!("tile-seat-then") };
                self.hint(ui, body(84.0), tr!("tile-seat"), then, p);
            }
            State::Ready | State::Unknown => {
                let key = match self.index {
                    _ if self.fixture.waits_for_sample => tr!("tile-held-sample").into(),
                    _ if self.fixture.held => tr!("tile-held").into(),
                    _ if self.fixture.starts.is_some() => tr!("tile-starts").into(),
                    _ if self.gated => tr!("tile-held-sample").into(),
                    _ if self.stopped => tr!("tile-stopped-check").into(),
                    i @ 0..9 if self.startable => tr!("tile-press-number", number = i + 1),
                    _ if self.startable => tr!("tile-press-space").into(),
                    _ => tr!("tile-waits").into(),
                };
                let found = if self.fixture.starts.is_some() {
                    tr!("tile-starts-still")
                } else if self.fixture.present.is_some() {
                    tr!("tile-detected")
                } else {
                    tr!("tile-blind")
                };
                self.hint(ui, body(84.0), &key, found, p);
            }
        }
        self.foot(ui, foot, p)
    }

    fn hint(&self, ui: &mut Ui, rect: Rect, first: &str, second: &str, p: &Palette) {
        let s = self.scale;
        let used = widgets::block(ui, rect, Align2::LEFT_TOP, first, strong(15.5 * s), p.text, 2);
        let rest = Rect::from_min_max(pos2(rect.left(), used.bottom() + 5.0 * s), rect.max);
        widgets::block(ui, rest, Align2::LEFT_TOP, second, regular(14.0 * s), p.muted, 2);
    }

    /// Code, sentence and remedy of the failure.
    fn explain(&self, ui: &mut Ui, rect: Rect, p: &Palette) {
        let s = self.scale;
        let Some(failure) = self.failure() else {
            let text = match State::of(self.fixture) {
                State::Done(Outcome::Aborted) => tr!("tile-stopped"),
                _ => tr!("tile-no-reason"),
            };
            widgets::block(ui, rect, Align2::LEFT_TOP, text, regular(14.5 * s), p.text, 2);
            return;
        };
        let tone = State::of(self.fixture).tone(p);
        let row = 19.0 * s;
        let rows = (rect.height() / row).floor().max(2.0) as usize;
        let for_remedy = if rows >= 4 { 2 } else { 1 };
        let (sentence, remedy) = i18n::failure(failure);
        let sentence = format!("{} {sentence}", failure.code);
        let used = widgets::block(
            ui,
            rect,
            Align2::LEFT_TOP,
            &sentence,
            regular(14.2 * s),
            tone.ink,
            (rows - for_remedy).clamp(1, 4),
        );
        let top = used.bottom() + 4.0 * s;
        let arrow = Rect::from_min_size(pos2(rect.left(), top + 2.5 * s), vec2(13.0 * s, 13.0 * s));
        icons::paint(ui.painter(), arrow, Icon::Arrow, p.text, p.surface, 0.0);
        let rest = Rect::from_min_max(pos2(arrow.right() + 6.0 * s, top), rect.max);
        let left = ((rest.height() / row).round() as usize).clamp(1, 3);
        widgets::block(ui, rest, Align2::LEFT_TOP, &remedy, strong(14.2 * s), p.text, left);
    }

    /// The steps of this order: one that it does not take would look done.
    fn steps_taken(&self) -> Vec<Step> {
        let taken = |step: &Step| match step {
            Step::Lock => self.locks,
            Step::Label => self.labels,
            _ => true,
        };
        Step::ALL.into_iter().filter(taken).collect()
    }

    /// The steps with their marks.
    fn steps(&self, ui: &mut Ui, rect: Rect, p: &Palette) {
        let s = self.scale;
        let passed = State::of(self.fixture) == State::Done(Outcome::Pass);
        let at = self.fixture.running.as_ref().map(|r| r.step).or(self.seat.step);
        let steps = self.steps_taken();
        let cell = rect.width() / steps.len() as f32;
        let y = rect.top() + 11.0 * s;
        let mark_of = |step: Step| match at {
            _ if passed => Mark::Done,
            Some(now) if step < now => Mark::Done,
            Some(now) if step == now && self.fixture.running.is_some() => Mark::Now,
            Some(now) if step == now => Mark::Stopped,
            _ => Mark::ToDo,
        };
        let center = |i: usize| pos2(rect.left() + cell * (i as f32 + 0.5), y);
        for i in 1..steps.len() {
            let done = mark_of(steps[i - 1]) == Mark::Done;
            let ink = if done { p.pass.solid } else { p.border };
            let (a, b) = (center(i - 1) + vec2(12.0 * s, 0.0), center(i) - vec2(12.0 * s, 0.0));
            ui.painter().line_segment([a, b], Stroke::new(2.0 * s, ink));
        }
        for (i, step) in steps.into_iter().enumerate() {
            let mark = mark_of(step);
            let square = Rect::from_center_size(center(i), vec2(18.0 * s, 18.0 * s));
            let painter = ui.painter();
            let ink = match mark {
                Mark::Done => {
                    icons::paint(painter, square, Icon::Check, p.pass.solid, p.surface, 0.0);
                    p.muted
                }
                Mark::Now => {
                    painter.circle_stroke(square.center(), 8.0 * s, Stroke::new(2.2 * s, p.running.solid));
                    painter.circle_filled(square.center(), 4.2 * s, p.running.solid);
                    p.running.ink
                }
                Mark::Stopped => {
                    icons::paint(painter, square, Icon::Cross, p.fail.solid, p.surface, 0.0);
                    p.fail.ink
                }
                Mark::ToDo => {
                    painter.circle_stroke(square.center(), 8.0 * s, Stroke::new(1.6 * s, p.outline));
                    p.muted
                }
            };
            let name = step_name(step);
            let font = if mark == Mark::Now { strong(12.0 * s) } else { regular(12.0 * s) };
            let mut galley = painter.layout_no_wrap(name.into(), font.clone(), ink);
            if galley.size().x > cell - 4.0 {
                let job = LayoutJob {
                    halign: egui::Align::Center,
                    ..LayoutJob::simple(name.replace(' ', "\n"), font, ink, f32::INFINITY)
                };
                galley = painter.layout_job(job);
                painter.galley(pos2(center(i).x, y + 13.0 * s), galley, ink);
            } else {
                painter.galley(pos2(center(i).x - galley.size().x / 2.0, y + 13.0 * s), galley, ink);
            }
            let all = Rect::from_min_max(
                pos2(center(i).x - cell / 2.0, rect.top()),
                pos2(center(i).x + cell / 2.0, y + 32.0 * s),
            );
            let response = ui.interact(all, ui.next_auto_id(), Sense::hover());
            ui.skip_ahead_auto_ids(1);
            response.widget_info(|| {
                WidgetInfo::labeled(Role::Label, true, tr!("mark-spoken", step = name, mark = mark.word()))
            });
        }
    }

    /// What is being done, how far it is, and the bar.
    fn progress(&self, ui: &mut Ui, foot: Rect, r: &RunningView, p: &Palette) {
        let s = self.scale;
        // The cancel button stands at the right end of the foot.
        let rect = Rect::from_min_max(foot.min, pos2(foot.right() - 92.0 * s, foot.bottom()));
        let tone = State::of(self.fixture).tone(p);
        let words =
            Rect::from_min_max(pos2(foot.left(), foot.top() - 20.0 * s), pos2(foot.right(), foot.top()));
        let done = tr!("tile-percent", value = percent(r.fraction));
        let font = strong(13.5 * s);
        let width = widgets::width(ui, &done, font.clone());
        widgets::line(ui, words, Align2::RIGHT_CENTER, &done, font, p.text);
        let label = Rect::from_min_max(words.min, pos2(words.right() - width - 6.0, words.bottom()));
        let text = match (r.resumed, said::label(&r.label)) {
            (true, label) => tr!("tile-resumed", label = label.as_ref()),
            (false, label) => label.into_owned(),
        };
        widgets::line(ui, label, Align2::LEFT_CENTER, &text, regular(13.5 * s), p.text);
        let bar = Rect::from_center_size(rect.center(), vec2(rect.width(), 9.0 * s));
        widgets::progress(ui, bar, r.fraction, tone, step_name(r.step));
    }

    /// Verdict and buttons.
    fn foot(&self, ui: &mut Ui, foot: Rect, p: &Palette) -> Option<Act> {
        let s = self.scale;
        let mut act = None;
        let mut right = foot.right();
        let mut place = |width: f32| {
            let r = Rect::from_min_max(pos2(right - width, foot.top()), pos2(right, foot.bottom()));
            right = r.left() - 8.0 * s;
            r
        };
        let name = &self.fixture.name;
        match self.buttons() {
            Buttons::Cancel { enabled } => {
                let button = Button {
                    text: tr!("tile-cancel"),
                    name: &tr!("tile-cancel-name", name = name),
                    icon: None,
                    loud: Loud::Quiet,
                    enabled,
                    size: 14.0 * s,
                };
                if button.show(ui, place(80.0 * s)).clicked() {
                    act = Some(Act::Cancel);
                }
            }
            Buttons::Start { again, loud } => {
                let (text, name, icon) = if again {
                    (tr!("tile-retry"), tr!("tile-retry-name", name = name), Icon::Retry)
                } else {
                    (tr!("tile-start"), tr!("tile-start-name", name = name), Icon::Play)
                };
                let button = Button {
                    text,
                    name: &name,
                    icon: Some(icon),
                    loud,
                    enabled: self.startable,
                    size: 14.0 * s,
                };
                let width = button.width(ui);
                if button.show(ui, place(width)).clicked() {
                    act = Some(Act::Start);
                }
            }
            Buttons::None => {}
        }
        if let Some(failure) = self.failure() {
            let button = Button {
                text: "",
                name: &tr!("tile-copy-name", name = name),
                icon: Some(Icon::Copy),
                loud: Loud::Quiet,
                enabled: true,
                size: 14.0 * s,
            };
            if button.show(ui, place(38.0 * s)).on_hover_text(tr!("tile-copy-hint")).clicked() {
                act = Some(Act::Copy(state::copy_text(self.fixture, failure)));
            }
        }
        // The button that says it makes the chip superfluous.
        let told = matches!(self.buttons(), Buttons::Start { again: true, .. });
        if let Some((word, icon)) = self.verdict().filter(|_| !told) {
            let tone = State::of(self.fixture).tone(p);
            widgets::chip(ui, pos2(foot.left(), foot.center().y), word, Some(icon), tone, 13.0 * s);
        }
        act
    }

    /// What follows from the result, in two or three words.
    pub fn verdict(&self) -> Option<(&'static str, Icon)> {
        match State::of(self.fixture) {
            State::Done(_) if self.fixture.waits_for_sample => {
                Some((tr!("tile-held-sample"), Icon::Hourglass))
            }
            State::Done(_) if self.fixture.held => Some((tr!("tile-held"), Icon::Play)),
            State::Done(_) if self.fixture.starts.is_some() => Some((tr!("tile-starts"), Icon::Play)),
            State::Done(Outcome::Pass) if self.seat.holds_last(self.fixture) => {
                Some((tr!("verdict-take-out"), Icon::Arrow))
            }
            State::Done(Outcome::Pass) if self.fixture.present == Some(false) => {
                Some((tr!("verdict-seat-next"), Icon::Board))
            }
            State::Done(Outcome::Pass) => Some((tr!("verdict-next-ready"), Icon::Board)),
            State::Done(_) if self.qa() => Some((tr!("verdict-units"), Icon::Arrow)),
            State::Done(_) if self.fixture.last.as_ref().is_some_and(state::retry) => {
                Some((tr!("verdict-retry"), Icon::Retry))
            }
            State::Done(Outcome::Error) => Some((tr!("verdict-help"), Icon::Person)),
            State::Done(_) => Some((tr!("verdict-qa"), Icon::Person)),
            _ => None,
        }
    }

    fn buttons(&self) -> Buttons {
        match State::of(self.fixture) {
            State::Running => Buttons::Cancel { enabled: true },
            State::Cancelling => Buttons::Cancel { enabled: false },
            State::Ready | State::Unknown => Buttons::Start { again: false, loud: Loud::Primary },
            State::Done(_) if self.fixture.present == Some(false) => Buttons::None,
            // The line would make a unit of it; what QA ordered is started again where it was ordered.
            State::Done(_) if self.qa() && self.seat.holds_last(self.fixture) => Buttons::None,
            State::Done(Outcome::Pass) => Buttons::Start { again: false, loud: Loud::Quiet },
            State::Done(_) if !self.seat.holds_last(self.fixture) => {
                Buttons::Start { again: false, loud: Loud::Primary }
            }
            State::Done(_) if self.fixture.last.as_ref().is_some_and(state::retry) => {
                Buttons::Start { again: true, loud: Loud::Quiet }
            }
            State::Done(_) | State::Trouble | State::NoBoard => Buttons::None,
        }
    }

    fn compact(&self, ui: &mut Ui, rect: Rect, p: &Palette) {
        let s = self.scale;
        let small = self.density == Density::Small;
        let (edge, gap, high, word) = if small { (6.0, 3.0, 27.0, 15.5) } else { (8.0, 5.0, 32.0, 16.5) };
        let inner = rect.shrink(edge * s);
        let title = Rect::from_min_size(inner.min, vec2(inner.width(), 17.0 * s));
        self.title(ui, title, 13.0 * s, p);
        let band =
            Rect::from_min_size(pos2(inner.left(), title.bottom() + gap * s), vec2(inner.width(), high * s));
        self.band(ui, band, word * s, p);
        let mut rest = Rect::from_min_max(pos2(inner.left(), band.bottom() + (gap - 1.0) * s), inner.max);
        let row = 16.0 * s;
        let (serial, _) = self.unit();
        let font = strong(12.5 * s);
        let state = State::of(self.fixture);
        if rest.height() < 10.0 * s {
            // No room for a line: the strip says it.
            if let Some(r) = &self.fixture.running {
                let bar = Rect::from_min_max(pos2(rest.left(), rest.bottom() - 4.0), rest.max);
                widgets::progress(ui, bar, r.fraction, state.tone(p), step_name(r.step));
            }
            return;
        }
        let soon = self.fixture.held || self.fixture.starts.is_some();
        let explains = self.failure().is_some() || self.fixture.running.is_some() || soon;
        if let Some(serial) = serial
            && state != State::Trouble
            && (!explains || rest.height() >= 2.0 * row)
        {
            let place = Rect::from_min_size(rest.min, vec2(rest.width(), row));
            widgets::line(ui, place, Align2::LEFT_CENTER, serial, font, p.text);
            rest.set_top(place.bottom());
        }
        if let Some(r) = &self.fixture.running {
            let bar =
                Rect::from_min_size(pos2(rest.left(), rest.bottom() - 5.0 * s), vec2(rest.width(), 5.0 * s));
            let top = (bar.top() - row).max(rest.top());
            let words = Rect::from_min_max(pos2(rest.left(), top), pos2(rest.right(), bar.top()));
            widgets::line(ui, words, Align2::LEFT_CENTER, &said::label(&r.label), regular(12.0 * s), p.text);
            widgets::progress(ui, bar, r.fraction, state.tone(p), step_name(r.step));
        } else if let Some(failure) = self.failure() {
            let (sentence, remedy) = i18n::failure(failure);
            let text = format!("{} {sentence}", failure.code);
            // A line may reach a little into the edge: half a sentence more is worth it.
            let rows = (((rest.height() + 3.0 * s) / (14.5 * s)) as usize).max(1);
            let rows = if rows > 2 { rows - 1 } else { rows };
            let ink = state.tone(p).ink;
            let used = widgets::block(ui, rest, Align2::LEFT_TOP, &text, regular(12.0 * s), ink, rows);
            let below = Rect::from_min_max(pos2(rest.left(), used.bottom() + 2.0 * s), rest.max);
            let rows = (below.height() / (14.5 * s)) as usize;
            if rows > 0 {
                let font = strong(12.0 * s);
                widgets::block(ui, below, Align2::LEFT_TOP, &remedy, font, p.text, rows);
            }
        } else {
            let text = match state {
                State::NoBoard => tr!("compact-seat"),
                State::Ready | State::Unknown if self.fixture.waits_for_sample => tr!("compact-held-sample"),
                State::Ready | State::Unknown if self.fixture.held => tr!("compact-held"),
                State::Ready | State::Unknown if self.fixture.starts.is_some() => tr!("compact-starts"),
                State::Ready | State::Unknown if self.gated => tr!("compact-held-sample"),
                State::Ready | State::Unknown if self.stopped => tr!("compact-stopped"),
                State::Ready | State::Unknown if self.startable && self.index < 9 => tr!("compact-number"),
                State::Ready | State::Unknown if self.startable => tr!("compact-space"),
                State::Ready | State::Unknown => tr!("compact-waits"),
                _ => self.verdict().map_or("", |(word, _)| word),
            };
            if !text.is_empty() && rest.height() >= 10.0 * s {
                let place = Rect::from_min_size(rest.min, vec2(rest.width(), row));
                widgets::line(ui, place, Align2::LEFT_CENTER, text, regular(12.0 * s), p.muted);
            }
        }
    }

    /// The fixture in full on one strip, below compact tiles.
    pub fn strip(&self, ui: &mut Ui, rect: Rect) -> Option<Act> {
        let p = palette(ui.ctx());
        ui.painter().rect(rect, 12.0, p.surface, Stroke::new(1.0, p.border), StrokeKind::Inside);
        let inner = rect.shrink2(vec2(14.0, 10.0));
        let left = Rect::from_min_size(inner.min, vec2(250.0, inner.height()));
        let wide = Tile { density: Density::Full, scale: 1.0, ..*self };
        wide.title(ui, Rect::from_min_size(left.min, vec2(left.width(), 20.0)), 15.0, p);
        let band = Rect::from_min_max(pos2(left.left(), left.top() + 26.0), left.max);
        wide.band(ui, band, 19.0, p);
        let foot = Rect::from_min_max(
            pos2(inner.right() - 270.0, inner.center().y - 18.0),
            pos2(inner.right(), inner.center().y + 18.0),
        );
        let middle = Rect::from_min_max(
            pos2(left.right() + 16.0, inner.top()),
            pos2(foot.left() - 12.0, inner.bottom()),
        );
        let (serial, id) = self.unit();
        let head = Rect::from_min_size(middle.min, vec2(middle.width(), 20.0));
        if let Some(serial) = serial.filter(|_| State::of(self.fixture) != State::Trouble) {
            let used = widgets::line(ui, head, Align2::LEFT_CENTER, serial, strong(15.0), p.text);
            if let Some(id) = id {
                let rest = Rect::from_min_max(pos2(used.right() + 12.0, head.top()), head.max);
                widgets::line(ui, rest, Align2::LEFT_CENTER, &id, mono(12.5), p.muted);
            }
        }
        let body = Rect::from_min_max(pos2(middle.left(), middle.top() + 23.0), middle.max);
        if self.failure().is_some() {
            wide.explain(ui, if serial.is_some() { body } else { middle }, p);
        } else if self.fixture.running.is_some() {
            wide.steps(ui, body, p);
        } else if let Some((word, _)) = self.verdict() {
            widgets::line(ui, body, Align2::LEFT_TOP, word, regular(14.5), p.muted);
        }
        if let Some(r) = &self.fixture.running {
            wide.progress(ui, foot, r, p);
        }
        wide.foot(ui, foot, p)
    }
}

enum Buttons {
    Cancel { enabled: bool },
    Start { again: bool, loud: Loud },
    None,
}

fn percent(fraction: f32) -> u32 {
    (fraction.clamp(0.0, 1.0) * 100.0).round() as u32
}

#[cfg(test)]
mod tests {
    use super::super::{layout, scripted, theme};
    use super::*;
    use crate::failure::FailureCode;
    use egui_kittest::{Harness, kittest::NodeT, kittest::Queryable};
    use std::cell::RefCell;
    use std::rc::Rc;

    type Acts = Rc<RefCell<Vec<Act>>>;

    fn shown(fixture: FixtureView, density: Density) -> (Harness<'static>, Acts) {
        let acts = Acts::default();
        let seen = acts.clone();
        let now = Instant::now();
        let mut seat = Seat::default();
        seat.observe(&fixture);
        let size = if density == Density::Full { layout::FULL } else { layout::COMPACT };
        let mut harness = Harness::builder()
            .with_size(vec2(400.0, 320.0))
            .with_context_setup(theme::install)
            .build_ui(move |ui| {
                let tile = Tile {
                    index: 2,
                    fixture: &fixture,
                    seat: &seat,
                    startable: true,
                    locks: true,
                    labels: false,
                    gated: false,
                    stopped: false,
                    auto: false,
                    density,
                    scale: 1.0,
                    now,
                };
                seen.borrow_mut().extend(tile.show(ui, Rect::from_min_size(pos2(10.0, 10.0), size)));
            });
        harness.run();
        (harness, acts)
    }

    #[test]
    fn every_state_is_visible_by_its_word_full_and_compact() {
        let now = Instant::now();
        let mut cancelling = scripted::running(3, Step::Flash, "erasing app", 0.2, now, 3);
        if let Some(r) = cancelling.running.as_mut() {
            r.cancelling = true;
        }
        let cases = [
            (scripted::idle(3, Some(false)), "No board"),
            (scripted::idle(3, Some(true)), "Board ready"),
            (scripted::idle(3, None), "Ready"),
            (scripted::running(3, Step::Flash, "writing app 312/512 KiB", 0.61, now, 3), "Running"),
            (cancelling, "Cancelling…"),
            (scripted::done(3, Outcome::Pass, None), "PASS"),
            (scripted::done(3, Outcome::Fail, Some(FailureCode::VerifyFailed)), "FAIL"),
            (scripted::done(3, Outcome::Error, Some(FailureCode::CloudRefused)), "ERROR"),
            (scripted::done(3, Outcome::Timeout, Some(FailureCode::DeviceSilent)), "TIMEOUT"),
            (scripted::done(3, Outcome::Aborted, Some(FailureCode::Cancelled)), "ABORTED"),
            (scripted::troubled(3, FailureCode::NoProbe, ""), "Can't be used"),
        ];
        for density in [Density::Full, Density::Compact] {
            for (fixture, word) in &cases {
                let (harness, _) = shown(fixture.clone(), density);
                harness.get_by_label(word);
                harness.get_by_label("Fixture 3");
            }
        }
    }

    #[test]
    fn a_failure_shows_code_sentence_remedy_and_verdict() {
        for code in FailureCode::ALL {
            let (harness, _) = shown(scripted::done(3, code.outcome(), Some(*code)), Density::Full);
            harness.get_by_label(&format!("{code} {}", code.sentence()));
            harness.get_by_label(code.remedy());
            match (code.is_permanent(), code.outcome()) {
                (false, _) => {}
                (true, Outcome::Error) => drop(harness.get_by_label("Station needs help")),
                (true, _) => drop(harness.get_by_label("Hand to QA")),
            }
            let again = harness.query_by_label("Try again Fixture 3").is_some();
            assert_eq!(again, !code.is_permanent(), "{code}");
        }
    }

    #[test]
    fn a_board_that_starts_by_itself_says_so_before_it_does() {
        for density in [Density::Full, Density::Compact] {
            for (mut fixture, words) in [
                (
                    scripted::idle(3, Some(true)),
                    ["Starts by itself", "Starts after the checks", "After the checks"],
                ),
                (
                    scripted::done(3, Outcome::Pass, None),
                    ["Starts by itself", "Starts after the checks", "Starts after the checks"],
                ),
            ] {
                fixture.starts = Some(Instant::now());
                shown(fixture.clone(), density).0.get_by_label(words[0]);
                let (harness, _) = shown(fixture.clone(), density);
                harness.get_by_label_contains("Fixture 3: ");
                harness.get_by_label_contains(", starts by itself");
                (fixture.starts, fixture.held) = (None, true);
                let word = if density == Density::Full { words[1] } else { words[2] };
                shown(fixture, density).0.get_by_label(word);
            }
        }
    }

    #[test]
    fn a_unit_that_may_be_tried_again_says_so_after_it_was_taken_out() {
        let mut fixture = scripted::done(3, Outcome::Timeout, Some(FailureCode::DeviceSilent));
        fixture.present = Some(false);
        let (harness, _) = shown(fixture, Density::Full);
        harness.get_by_label("May be tried again");
    }

    #[test]
    fn running_shows_its_steps_its_label_and_how_far_it_is() {
        let fixture = scripted::running(3, Step::AgentKey, "message 2 of 3", 0.66, Instant::now(), 75);
        let (harness, _) = shown(fixture, Density::Full);
        for label in [
            "Arrive: done",
            "Flash: done",
            "Agent key: in work",
            "Cloud key: to do",
            "Prove: to do",
            "Lock: to do",
            "message 2 of 3",
            "66 %",
            "KW429-01043",
            "3 of 6",
        ] {
            harness.get_by_label(label);
        }
        harness.get_by_label_contains("1:1");
    }

    #[test]
    fn a_screen_reader_hears_result_and_serial() {
        let (harness, _) = shown(scripted::done(3, Outcome::Pass, None), Density::Compact);
        harness.get_by_label("Fixture 3: passed, serial KW429-01043");
    }

    #[test]
    fn a_press_on_the_tile_is_one_act_and_the_copy_button_copies_only() {
        let (mut harness, acts) =
            shown(scripted::done(3, Outcome::Fail, Some(FailureCode::VerifyFailed)), Density::Full);
        harness.get_by_label("Copy the failure of Fixture 3").click();
        harness.run();
        let taken: Vec<Act> = acts.borrow_mut().drain(..).collect();
        assert!(matches!(taken.as_slice(), [Act::Copy(text)] if text.contains("K207")), "{taken:?}");
        harness.get_by_label("FAIL").click();
        harness.run();
        assert_eq!(acts.borrow_mut().drain(..).collect::<Vec<_>>(), [Act::Press]);
        harness.get_by_label("Try again Fixture 3").click();
        harness.run();
        assert_eq!(acts.borrow_mut().drain(..).collect::<Vec<_>>(), [Act::Start]);
    }

    #[test]
    fn cancelling_can_not_be_asked_for_twice() {
        let mut fixture = scripted::running(3, Step::Flash, "writing app", 0.2, Instant::now(), 3);
        let (mut harness, acts) = shown(fixture.clone(), Density::Full);
        harness.get_by_label("Cancel Fixture 3").click();
        harness.run();
        assert_eq!(acts.borrow().as_slice(), [Act::Cancel]);
        if let Some(r) = fixture.running.as_mut() {
            r.cancelling = true;
        }
        let (harness, _) = shown(fixture, Density::Full);
        assert!(harness.get_by_label("Cancel Fixture 3").accesskit_node().is_disabled());
    }
}
