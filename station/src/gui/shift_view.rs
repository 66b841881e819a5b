//! The Shift view: how the line does, in numbers and pictures, and the end of a shift.
//!
//! Invariants: it reads the foreman's snapshot and leaves commands; what a picture shows is also said in words and, with T, in tables;
//! what can't be taken back is asked about with numbers, and a button that is off says why.

use super::batches_view::{command_enter, dialog, muted, press, title, words};
use super::line_view::{Tab, ViewState};
use super::plots::{self, Which};
use super::sending::{Pressed, Sending};
use super::shell::Seen;
use super::theme::{Palette, Tone, palette, regular, strong};
use super::{icons, people_view, widgets};
use crate::foreman::{Command, Filter, Range, Sheet, Snapshot, Told};
use crate::i18n::{self, number, tr};
use crate::people::Right;
use crate::shift::{Balance, BatchBalance, Counted, Counts, Difference, Standing};
use egui::{
    Align2, Id, Key, Rect, RichText, Role, Sense, Stroke, StrokeKind, Ui, UiBuilder, WidgetInfo, pos2, vec2,
};
use std::sync::Arc;

/// Height of a picture, at least.
const PICTURE: f32 = 200.0;
/// Height of the row of numbers.
const NUMBERS: f32 = 78.0;

/// What the window remembers of the Shift view.
#[derive(Clone, Debug, Default)]
pub struct ShiftState {
    /// The foreman's newest snapshot, set before every frame.
    pub seen: Arc<Snapshot>,
    /// Commands for the foreman.
    pub out: Vec<Command>,
    /// The end of the shift, while it is being made.
    pub form: Option<EndForm>,
    /// Tables instead of pictures.
    tables: bool,
    /// How far the keyboard wants to scroll down, points.
    scroll: f32,
    /// The foreman reads its numbers.
    watching: bool,
}

impl ShiftState {
    /// The commands that wait.
    pub fn take(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.out)
    }
}

/// The end of a shift in the making.
#[derive(Clone, Debug, Default)]
pub struct EndForm {
    number: i64,
    counted: Vec<(String, [String; 3])>,
    reason: String,
    sending: Sending,
}

impl EndForm {
    fn of(balance: &Balance) -> Self {
        let counted = balance.batches.iter().map(|b| (b.batch.clone(), Default::default())).collect();
        Self { number: balance.shift.number, counted, ..Self::default() }
    }

    /// Something was counted, or a reason given.
    fn is_typed(&self) -> bool {
        let counted = self.counted.iter().flat_map(|(_, typed)| typed).any(|text| !text.trim().is_empty());
        counted || !self.reason.trim().is_empty()
    }

    /// What was typed, if all of it are numbers.
    fn counts(&self) -> Option<Counts> {
        let number = |text: &str| match text.trim() {
            "" => Some(None),
            n => n.parse().ok().map(Some),
        };
        self.counted
            .iter()
            .map(|(batch, [passed, failed, scrapped])| {
                let counted =
                    Counted { passed: number(passed)?, failed: number(failed)?, scrapped: number(scrapped)? };
                Some((batch.clone(), counted))
            })
            .collect()
    }
}

/// Numbers are read only while they are on the screen.
pub(super) fn watch(view: &mut ViewState, locked: bool) {
    let shown = view.tab == Tab::Shift && view.settings.is_none() && !locked;
    if view.shift.watching != shown {
        view.shift.watching = shown;
        view.shift.out.push(Command::Watch(shown));
    }
}

fn show(view: &mut ViewState, change: impl FnOnce(&mut Filter)) {
    let mut filter = view.shift.seen.filter.clone();
    change(&mut filter);
    view.shift.out.push(Command::Show(filter));
}

/// Why the shift can't be ended; `None`: it can.
fn end_off(seen: Seen<'_>, view: &ViewState) -> Option<String> {
    if let Some(why) = seen.people.refusal(Right::EndShift) {
        return Some(people_view::reason(why).into());
    }
    if seen.line.operator.is_empty() {
        return Some(tr!("need-operator").into());
    }
    let Some(balance) = &view.shift.seen.balance else { return Some(tr!("shift-none-open").into()) };
    in_work(balance)
}

/// Which fixtures keep a shift from ending.
fn in_work(balance: &Balance) -> Option<String> {
    if balance.in_work.is_empty() {
        return None;
    }
    let fixtures: Vec<_> = balance
        .in_work
        .iter()
        .map(|w| w.serial.as_ref().map_or_else(|| w.fixture.clone(), |s| format!("{} ({s})", w.fixture)))
        .collect();
    Some(tr!("shift-in-work", fixtures = fixtures.join(", ")))
}

/// Keys of this view.
pub(super) fn keys(ui: &Ui, seen: Seen<'_>, view: &mut ViewState) {
    if ui.ctx().text_edit_focused() {
        return;
    }
    let pressed = |key: Key| ui.input(|i| i.key_pressed(key) && i.modifiers.is_none());
    if pressed(Key::T) {
        view.shift.tables = !view.shift.tables;
    }
    if pressed(Key::E) {
        match end_off(seen, view) {
            Some(why) => view.notice = Some(why),
            None => view.shift.form = view.shift.seen.balance.as_deref().map(EndForm::of),
        }
    }
    // What has the keyboard may want the arrows itself.
    if ui.memory(|m| m.focused()).is_none() {
        let page = ui.max_rect().height() * 0.6;
        let ways = [
            (Key::ArrowDown, 60.0),
            (Key::ArrowUp, -60.0),
            (Key::PageDown, page),
            (Key::PageUp, -page),
            (Key::End, f32::from(u16::MAX)),
            (Key::Home, -f32::from(u16::MAX)),
        ];
        view.shift.scroll = ways.iter().filter(|(key, _)| pressed(*key)).map(|(_, by)| by).sum();
    }
    for (key, range) in [Key::Num1, Key::Num2, Key::Num3, Key::Num4].into_iter().zip(Range::ALL) {
        if pressed(key) {
            show(view, |f| f.range = range);
        }
    }
}

/// The view below the header.
pub(super) fn body(ui: &mut Ui, mut room: Rect, seen: Seen<'_>, view: &mut ViewState) {
    let p = palette(ui.ctx());
    let snapshot = view.shift.seen.clone();
    told(ui, &mut room, &snapshot.told, view, p);
    head(ui, &mut room, seen, &snapshot, view, p);
    filters(ui, &mut room, &snapshot, view, p);
    let figures = snapshot.figures.as_ref().filter(|f| f.attempts > 0);
    match figures {
        None => empty(ui, room, &snapshot, p),
        Some(figures) => {
            ui.scope_builder(UiBuilder::new().max_rect(room), |ui| {
                ui.set_clip_rect(room.expand(2.0).intersect(ui.clip_rect()));
                egui::ScrollArea::vertical().id_salt("figures").auto_shrink(false).show(ui, |ui| {
                    all(ui, room.height(), seen, figures, &snapshot, view.shift.tables, p);
                    // After the tables, which have scrolls of their own and would take it.
                    let by = std::mem::take(&mut view.shift.scroll);
                    if by != 0.0 {
                        ui.scroll_with_delta(vec2(0.0, -by));
                    }
                });
            });
        }
    }
    if view.shift.form.is_some() {
        end(ui, seen, &snapshot, view, p);
    }
}

fn told(ui: &mut Ui, room: &mut Rect, told: &Told, view: &mut ViewState, p: &Palette) {
    let (tone, icon, first, second): (Tone, _, _, _) = match told {
        Told::Nothing => return,
        Told::Begun(number) => {
            (p.pass, icons::Icon::Check, tr!("shift-told-begun", number = *number), String::new())
        }
        Told::Ended(number, 0) => {
            (p.pass, icons::Icon::Check, tr!("shift-told-ended", number = *number), String::new())
        }
        Told::Ended(number, n) => {
            let text = tr!("shift-told-ended-differs", number = *number, count = *n);
            (p.error, icons::Icon::Check, text, String::new())
        }
        Told::Saved(path) => {
            let text = tr!("shift-told-saved", file = path.display().to_string());
            (p.pass, icons::Icon::Check, text, String::new())
        }
        Told::Failed(failure) => {
            let (sentence, remedy) = i18n::failure(failure);
            (p.fail, icons::Icon::Warning, format!("{} {sentence}", failure.code), remedy)
        }
    };
    let rect = Rect::from_min_size(room.min, vec2(room.width(), if second.is_empty() { 40.0 } else { 58.0 }));
    ui.painter().rect(rect, 10.0, tone.soft, Stroke::new(1.0, tone.solid), StrokeKind::Inside);
    let square = Rect::from_center_size(pos2(rect.left() + 24.0, rect.center().y), vec2(20.0, 20.0));
    icons::paint(ui.painter(), square, icon, tone.ink, tone.soft, 0.0);
    let close = widgets::Button {
        text: "×",
        name: tr!("shift-told-close"),
        icon: None,
        loud: widgets::Loud::Quiet,
        enabled: true,
        size: 14.0,
    };
    let place = Rect::from_center_size(pos2(rect.right() - 26.0, rect.center().y), vec2(30.0, 28.0));
    if close.show(ui, place).clicked() {
        view.shift.out.push(Command::Clear);
    }
    let words = Rect::from_min_max(
        pos2(square.right() + 12.0, rect.top() + 8.0),
        pos2(place.left() - 8.0, rect.bottom() - 8.0),
    );
    let words = match told {
        Told::Failed(failure) => super::copy::button(ui, words, &super::copy::told(failure)),
        _ => words,
    };
    let upper =
        if second.is_empty() { words } else { Rect::from_min_size(words.min, vec2(words.width(), 22.0)) };
    let used = widgets::line(ui, upper, Align2::LEFT_CENTER, &first, strong(15.0), tone.ink);
    if !second.is_empty() {
        let lower = Rect::from_min_max(pos2(words.left(), words.bottom() - 20.0), words.max);
        widgets::line(ui, lower, Align2::LEFT_CENTER, &second, regular(14.0), p.text);
    }
    let response = ui.interact(used, ui.scope_id().with("shift told"), Sense::hover());
    ui.ctx().accesskit_node_builder(response.id, |node| {
        node.set_live(egui::accesskit::Live::Polite);
        node.set_value(first.clone());
    });
    room.min.y = rect.bottom() + 8.0;
}

/// Which shift it is, and what can be done about it.
fn head(
    ui: &mut Ui,
    room: &mut Rect,
    seen: Seen<'_>,
    snapshot: &Snapshot,
    view: &mut ViewState,
    p: &Palette,
) {
    let bar = Rect::from_min_size(room.min, vec2(room.width(), 36.0));
    let name = match &snapshot.balance {
        Some(b) => tr!(
            "shift-open-since",
            number = b.shift.number,
            at = i18n::date_time(b.shift.opened_at_ms),
            by = b.shift.opened_by.as_str()
        ),
        None if snapshot.read => tr!("shift-none-open").into(),
        None => tr!("shift-reading").into(),
    };
    let mut left = bar.right();
    ui.scope_builder(UiBuilder::new().max_rect(bar), |ui| {
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            let gate = seen.people.refusal(Right::EndShift).map(people_view::reason);
            if snapshot.balance.is_some() {
                let off = end_off(seen, view);
                if press(ui, tr!("shift-end"), off.as_deref()) {
                    view.shift.form = snapshot.balance.as_deref().map(EndForm::of);
                }
            } else if press(ui, tr!("shift-begin"), gate) {
                view.shift.out.push(Command::Begin);
            }
            let none =
                (snapshot.balance.is_none() && snapshot.ended.is_none()).then_some(tr!("shift-none-open"));
            if press(ui, tr!("shift-save-csv"), gate.or(none)) {
                view.shift.out.push(Command::Save(Sheet::Csv));
            }
            if press(ui, tr!("shift-save"), gate.or(none)) {
                view.shift.out.push(Command::Save(Sheet::Text));
            }
            let text = if view.shift.tables { tr!("shift-pictures") } else { tr!("shift-tables") };
            if press(ui, text, None) {
                view.shift.tables = !view.shift.tables;
            }
            left = ui.min_rect().left();
        });
    });
    let words = Rect::from_min_max(bar.min, pos2(left - 10.0, bar.bottom()));
    widgets::line(ui, words, Align2::LEFT_CENTER, &name, strong(18.0), p.text);
    room.min.y = bar.bottom() + 4.0;
}

fn range_word(range: Range) -> &'static str {
    match range {
        Range::Shift => tr!("shift-range-shift"),
        Range::Today => tr!("shift-range-today"),
        Range::Week => tr!("shift-range-week"),
        Range::All => tr!("shift-range-all"),
    }
}

fn filters(ui: &mut Ui, room: &mut Rect, snapshot: &Snapshot, view: &mut ViewState, p: &Palette) {
    let bar = Rect::from_min_size(room.min, vec2(room.width(), 36.0));
    let filter = &snapshot.filter;
    ui.scope_builder(UiBuilder::new().max_rect(bar), |ui| {
        ui.horizontal_centered(|ui| {
            for range in Range::ALL {
                let chosen = filter.range == range;
                if ui.selectable_label(chosen, words(range_word(range), p)).clicked() && !chosen {
                    show(view, |f| f.range = range);
                }
            }
            ui.add_space(12.0);
            let batch = filter.batch.clone();
            let names = snapshot.batches.iter().map(String::as_str);
            if let Some(batch) = choose(ui, tr!("shift-filter-batch"), tr!("shift-all-batches"), batch, names)
            {
                show(view, |f| f.batch = batch);
            }
            let fixture = filter.fixture.clone();
            let known = snapshot.figures.iter().flat_map(|f| &f.fixtures).map(|f| f.fixture.as_str());
            if let Some(fixture) =
                choose(ui, tr!("shift-col-fixture"), tr!("shift-all-fixtures"), fixture, known)
            {
                show(view, |f| f.fixture = fixture);
            }
        });
    });
    room.min.y = bar.bottom() + 8.0;
}

/// All, or one of these; what was newly chosen.
fn choose<'a>(
    ui: &mut Ui,
    what: &'static str,
    all: &str,
    now: Option<String>,
    names: impl Iterator<Item = &'a str>,
) -> Option<Option<String>> {
    let mut chosen = now.clone();
    let text = now.as_deref().unwrap_or(all);
    let shown = egui::ComboBox::from_id_salt(what)
        .selected_text(RichText::new(text).font(regular(14.0)))
        .width(150.0)
        .show_ui(ui, |ui| {
            ui.selectable_value(&mut chosen, None, all);
            for name in names {
                ui.selectable_value(&mut chosen, Some(name.to_owned()), name);
            }
        });
    ui.ctx().accesskit_node_builder(shown.response.id, |node| node.set_label(what));
    (chosen != now).then_some(chosen)
}

fn empty(ui: &mut Ui, room: Rect, snapshot: &Snapshot, p: &Palette) {
    if !snapshot.read {
        // The title says that it is being read.
        return;
    }
    let (first, second) = match (snapshot.filter.range, snapshot.balance.is_some()) {
        (Range::Shift, false) => (tr!("shift-none-open"), tr!("shift-none-open-how")),
        (Range::Shift, true) => (tr!("shift-nothing-yet"), tr!("shift-empty")),
        _ => (tr!("shift-nothing-then"), tr!("shift-empty")),
    };
    let card = Rect::from_center_size(room.center(), vec2(680.0_f32.min(room.width()), 120.0));
    ui.painter().rect(card, 16.0, p.surface, Stroke::new(1.0, p.border), StrokeKind::Inside);
    let inner = card.shrink2(vec2(24.0, 16.0));
    let upper = Rect::from_min_size(inner.min, vec2(inner.width(), 34.0));
    widgets::line(ui, upper, Align2::CENTER_CENTER, first, strong(19.0), p.text);
    let lower = Rect::from_min_max(upper.left_bottom(), inner.max);
    widgets::block(ui, lower, Align2::CENTER_CENTER, second, regular(14.5), p.muted, 2);
}

/// One number with its word below, and a fact below that.
struct Number {
    value: String,
    word: &'static str,
    fact: String,
}

fn number_cards(f: &crate::figures::Figures) -> [Number; 5] {
    let dash = || "–".to_owned();
    let minutes = f.worked_ms / 60_000;
    let (median, p90) = f.cycle.as_ref().map_or_else(
        || (dash(), String::new()),
        |c| (plots::seconds(c.median_ms), tr!("shift-fact-p90", time = plots::seconds(c.p90_ms))),
    );
    [
        Number {
            value: number(f.passed),
            word: tr!("shift-units-passed"),
            fact: tr!("shift-fact-attempts", count = f.attempts, shown = number(f.attempts)),
        },
        Number {
            value: f.per_hour().map_or_else(dash, |h| format!("{h:.0}")),
            word: tr!("count-per-hour"),
            fact: tr!("shift-fact-worked", hours = minutes / 60, minutes = format!("{:02}", minutes % 60)),
        },
        Number {
            value: plots::percent(f.first_pass_yield()),
            word: tr!("count-yield"),
            fact: tr!("shift-fact-first", passed = number(f.first_passes), all = number(f.first_tries)),
        },
        Number { value: median, word: tr!("shift-median"), fact: p90 },
        Number {
            value: number(f.not_passed),
            word: tr!("shift-not-passed"),
            fact: tr!("shift-fact-cancelled", count = f.cancelled),
        },
    ]
}

fn all(
    ui: &mut Ui,
    height: f32,
    seen: Seen<'_>,
    figures: &crate::figures::Figures,
    snapshot: &Snapshot,
    tables: bool,
    p: &Palette,
) {
    let width = ui.available_width();
    let (row, _) = ui.allocate_exact_size(vec2(width, NUMBERS), Sense::hover());
    let cards = number_cards(figures);
    let gap = 10.0;
    let each = (width - gap * (cards.len() - 1) as f32) / cards.len() as f32;
    for (i, card) in cards.iter().enumerate() {
        let rect = Rect::from_min_size(
            pos2(row.left() + (each + gap) * i as f32, row.top()),
            vec2(each, row.height()),
        );
        ui.painter().rect(rect, 12.0, p.surface, Stroke::new(1.0, p.border), StrokeKind::Inside);
        let inner = rect.shrink2(vec2(12.0, 6.0));
        let painter = ui.painter_at(inner);
        painter.text(
            inner.left_top() + vec2(0.0, 15.0),
            Align2::LEFT_CENTER,
            &card.value,
            strong(23.0),
            p.text,
        );
        painter.text(
            inner.left_top() + vec2(0.0, 39.0),
            Align2::LEFT_CENTER,
            card.word,
            strong(13.0),
            p.text,
        );
        painter.text(
            inner.left_top() + vec2(0.0, 56.0),
            Align2::LEFT_CENTER,
            &card.fact,
            regular(12.5),
            p.muted,
        );
        let response = ui.interact(rect, ui.scope_id().with(("number", i)), Sense::hover());
        let spoken = tr!("count-spoken", value = card.value.as_str(), word = card.word);
        let fact = &card.fact;
        response.widget_info(|| {
            let text = if fact.is_empty() { spoken.clone() } else { format!("{spoken}, {fact}") };
            WidgetInfo::labeled(Role::Label, true, text)
        });
    }
    ui.add_space(4.0);
    // Four pictures fill the window; in a low one they keep their height and scroll.
    let rows = Which::ALL.chunks(2);
    let tall = ((height - NUMBERS - 28.0) / rows.len() as f32 - gap).max(PICTURE);
    for pair in rows {
        let tall = match tables {
            true => pair.iter().map(|which| which.table_height(figures)).fold(0.0, f32::max),
            false => tall,
        };
        let (row, _) = ui.allocate_exact_size(vec2(width, tall), Sense::hover());
        let half = (width - gap) / 2.0;
        for (i, which) in pair.iter().enumerate() {
            let rect = Rect::from_min_size(
                pos2(row.left() + (half + gap) * i as f32, row.top()),
                vec2(half, row.height()),
            );
            plots::card(ui, rect, *which, figures, tables, p);
        }
        ui.add_space(2.0);
    }
    fixtures(ui, width, figures, p);
    if seen.people.refusal(Right::SeeShifts).is_none() && !snapshot.past.is_empty() {
        past(ui, width, snapshot, p);
    }
}

/// A card as wide as the view, with a title and a table.
fn table(ui: &mut Ui, width: f32, name: &str, heads: &[&str], rows: &[Vec<String>], p: &Palette) {
    let tall = 52.0 + plots::ROW * (rows.len().min(8) + 1) as f32;
    let (rect, _) = ui.allocate_exact_size(vec2(width, tall), Sense::hover());
    ui.painter().rect(rect, 14.0, p.surface, Stroke::new(1.0, p.border), StrokeKind::Inside);
    let inner = rect.shrink2(vec2(14.0, 10.0));
    let head = Rect::from_min_size(inner.min, vec2(inner.width(), 20.0));
    widgets::line(ui, head, Align2::LEFT_CENTER, name, strong(15.0), p.text);
    let body = Rect::from_min_max(head.left_bottom() + vec2(0.0, 4.0), inner.max);
    let mut inside = ui.new_child(UiBuilder::new().max_rect(body).id_salt(name));
    inside.set_clip_rect(body.intersect(ui.clip_rect()));
    plots::grid(&mut inside, Id::unique(("shift table", name)), heads, rows, p);
}

fn fixtures(ui: &mut Ui, width: f32, figures: &crate::figures::Figures, p: &Palette) {
    let heads = [
        tr!("shift-col-fixture"),
        tr!("shift-col-attempts"),
        tr!("shift-col-passed"),
        tr!("shift-col-yield"),
        tr!("shift-col-not-passed"),
        tr!("shift-col-median"),
    ];
    let rows: Vec<Vec<String>> = figures
        .fixtures
        .iter()
        .map(|f| {
            vec![
                f.fixture.clone(),
                number(f.attempts),
                number(f.passed),
                plots::percent(f.first_pass_yield()),
                number(f.not_passed),
                f.median_ms.map_or_else(|| "–".into(), plots::seconds),
            ]
        })
        .collect();
    table(ui, width, tr!("shift-by-fixture"), &heads, &rows, p);
}

fn past(ui: &mut Ui, width: f32, snapshot: &Snapshot, p: &Palette) {
    let heads = [
        tr!("shift-col-shift"),
        tr!("shift-col-from"),
        tr!("shift-col-to"),
        tr!("shift-col-who"),
        tr!("shift-col-units"),
        tr!("shift-col-passed"),
        tr!("shift-col-failed"),
        tr!("shift-col-differences"),
        tr!("shift-col-reason"),
    ];
    let rows: Vec<Vec<String>> = snapshot
        .past
        .iter()
        .filter_map(|b| {
            let end = b.shift.ended.as_ref()?;
            let sum = |of: fn(&crate::shift::Trays) -> u32| {
                number(b.batches.iter().map(|b| of(&b.shift)).sum::<u32>())
            };
            Some(vec![
                b.shift.number.to_string(),
                i18n::date_time(b.shift.opened_at_ms),
                i18n::date_time(end.at_ms),
                end.by.clone(),
                sum(crate::shift::Trays::sum),
                sum(|t| t.passed),
                sum(|t| t.failed),
                end.differences.len().to_string(),
                end.reason.clone(),
            ])
        })
        .collect();
    table(ui, width, tr!("shift-past"), &heads, &rows, p);
}

fn tray_word(tray: Standing) -> &'static str {
    match tray {
        Standing::Passed => tr!("count-passed"),
        Standing::Failed => tr!("count-failed"),
        Standing::Scrapped => tr!("count-scrapped"),
        Standing::Unfinished => tr!("shift-unfinished"),
    }
}

/// A difference in the window's words.
fn difference(difference: &Difference) -> String {
    let list = |units: &[String]| units.join(", ");
    match difference {
        Difference::Counted { batch, tray, records, counted, units } => {
            let text = tr!(
                "shift-differs-counted",
                batch = batch.as_str(),
                tray = tray_word(*tray),
                counted = number(*counted),
                records = number(*records)
            );
            if units.is_empty() { text } else { tr!("shift-differs-units", text = text, units = list(units)) }
        }
        Difference::Unfinished { batch, units } => {
            tr!("shift-differs-unfinished", batch = batch.as_str(), units = list(units))
        }
        Difference::Unread(u) => tr!(
            "shift-differs-unread",
            fixture = u.fixture.as_str(),
            count = u.attempts,
            at = i18n::date_time(u.at_ms),
            code = format!("K{:03}", u.code)
        ),
        Difference::Overrun { batch, units } => {
            tr!("shift-differs-overrun", batch = batch.as_str(), count = *units)
        }
    }
}

/// Both equations of one batch.
fn equations(b: &BatchBalance) -> (String, String) {
    let planned = match b.replaced {
        0 => number(b.planned),
        n => tr!("shift-replaced", planned = number(b.planned), replaced = number(n)),
    };
    let whole = tr!(
        "shift-equation",
        planned = planned,
        passed = number(b.all.passed),
        failed = number(b.all.failed),
        scrapped = number(b.all.scrapped),
        open = number(b.open())
    );
    let mine = tr!(
        "shift-equation-shift",
        units = number(b.shift.sum()),
        passed = number(b.shift.passed),
        failed = number(b.shift.failed),
        scrapped = number(b.shift.scrapped),
        unfinished = number(b.shift.unfinished)
    );
    (whole, mine)
}

/// The end of a shift: what the records have, what is in the trays, and what differs.
fn end(ui: &mut Ui, seen: Seen<'_>, snapshot: &Snapshot, view: &mut ViewState, p: &Palette) {
    let Some(mut form) = view.shift.form.take() else { return };
    // Somebody else ended it, or it just ended.
    let Some(balance) = snapshot.balance.as_ref().filter(|b| b.shift.number == form.number) else { return };
    // It was refused: what was counted stays.
    if form.sending.is_sent()
        && form.sending.ticket() != snapshot.refused_ends + 1
        && let Told::Failed(failure) = &snapshot.told
    {
        form.sending.refuse(failure.clone());
    }
    let mut looked = Balance::clone(balance);
    let counts = form.counts();
    if let Some(counts) = &counts {
        // Batches come and go with the shift; what is counted for one that is gone is refused by the records.
        let _ = looked.count(counts);
    }
    for b in &balance.batches {
        if !form.counted.iter().any(|(name, _)| *name == b.batch) {
            form.counted.push((b.batch.clone(), Default::default()));
        }
    }
    let differences = looked.differences();
    let off = match end_off(seen, view) {
        Some(why) => Some(why),
        None if counts.is_none() => Some(tr!("shift-numbers-only").into()),
        None if !differences.is_empty() && form.reason.trim().is_empty() => {
            Some(tr!("shift-reason-why").into())
        }
        None => None,
    };
    let mut pressed = Pressed::default();
    let mut focus = form.sending.wants_focus();
    let room = ui.max_rect().size();
    let enter = off.is_none() && command_enter(ui);
    let closed = dialog(ui, "end of shift", 760.0_f32.min(room.x - 80.0), p, |ui| {
        ui.label(title(tr!("shift-end-title", number = form.number), 20.0, p));
        ui.label(muted(tr!("shift-end-how"), p));
        egui::ScrollArea::vertical().max_height((room.y - 330.0).max(150.0)).show(ui, |ui| {
            if balance.batches.is_empty() {
                ui.label(words(tr!("shift-end-nothing"), p));
            }
            for b in &balance.batches {
                let (whole, mine) = equations(b);
                ui.label(title(tr!("header-batch", name = b.batch.as_str()), 15.5, p));
                ui.label(words(whole, p));
                ui.label(words(mine, p));
                let Some((_, typed)) = form.counted.iter_mut().find(|(name, _)| *name == b.batch) else {
                    continue;
                };
                ui.horizontal(|ui| {
                    ui.label(muted(tr!("shift-counted"), p));
                    for (i, tray) in
                        [Standing::Passed, Standing::Failed, Standing::Scrapped].into_iter().enumerate()
                    {
                        let edit =
                            egui::TextEdit::singleline(&mut typed[i]).char_limit(7).desired_width(64.0);
                        let edit = ui.add(edit);
                        let name =
                            tr!("shift-counted-name", tray = tray_word(tray), batch = b.batch.as_str());
                        edit.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, &name));
                        if std::mem::take(&mut focus) {
                            edit.request_focus();
                        }
                        ui.label(words(tray_word(tray), p));
                        ui.add_space(6.0);
                    }
                });
                ui.add_space(6.0);
            }
            if differences.is_empty() {
                ui.label(RichText::new(tr!("shift-balances")).font(strong(14.5)).color(p.pass.ink));
            } else {
                let text = tr!("shift-differences", count = differences.len());
                ui.label(RichText::new(text).font(strong(14.5)).color(p.error.ink));
                for d in &differences {
                    ui.label(RichText::new(format!("• {}", difference(d))).font(regular(14.0)).color(p.text));
                }
            }
        });
        let label = ui.label(muted(
            if differences.is_empty() { tr!("ask-reason-optional") } else { tr!("shift-reason") },
            p,
        ));
        let edit = egui::TextEdit::singleline(&mut form.reason).char_limit(500).desired_width(f32::INFINITY);
        let edit = ui.add(edit).labelled_by(label.id);
        if std::mem::take(&mut focus) {
            edit.request_focus();
        }
        ui.label(muted(off.as_deref().unwrap_or(tr!("shift-end-final")), p));
        let go = (tr!("shift-end-go"), off.as_deref(), widgets::Loud::Danger);
        pressed = form.sending.foot(ui, go, p, |_| {});
    });
    if form.sending.goes(pressed, enter)
        && let Some(counted) = counts
    {
        let (number, reason) = (form.number, form.reason.trim().to_owned());
        view.shift.out.push(Command::End { number, counted, reason });
        form.sending.sent(snapshot.refused_ends + 1);
    }
    let typed = form.is_typed();
    if !form.sending.closes(pressed, closed, typed) {
        view.shift.form = Some(form);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::line_view::tests::{World, press as press_keys, sized, type_into};
    use super::super::lock_screen::tests::logged_in;
    use super::super::scripted::{Scene, scene};
    use super::*;
    use crate::failure::{Failure, FailureCode};
    use crate::figures::{Figures, Frame, Row, figures};
    use crate::i18n::Language;
    use crate::model::{BatchCounts, Outcome};
    use crate::people::Role as PersonRole;
    use crate::shift::{Ended, InWork, Shift, ShiftUnit};
    use egui::Modifiers;
    use egui_kittest::{Harness, kittest::NodeT, kittest::Queryable};
    use std::time::Instant;

    const NOON: i64 = 1_790_769_600_000;

    /// Three hours of work: 60 units, every tenth of which was silent at first.
    fn work() -> Figures {
        let mut rows = Vec::new();
        for i in 0..60_i64 {
            let row = |at: i64, seconds: i64, outcome, code: Option<FailureCode>, first| Row {
                unit: Some(i),
                fixture: if i % 2 == 0 { "left" } else { "right" }.into(),
                started_ms: NOON + at * 1000,
                ended_ms: NOON + (at + seconds) * 1000,
                outcome,
                code: code.map(FailureCode::number),
                first,
            };
            let slow = i % 10 == 0;
            if slow {
                rows.push(row(i * 180, 40, Outcome::Timeout, Some(FailureCode::DeviceSilent), true));
            }
            rows.push(row(i * 180 + 60, 20 + i % 7, Outcome::Pass, None, !slow));
        }
        figures(&rows, Frame::default())
    }

    fn unit(n: usize, standing: Standing) -> ShiftUnit {
        ShiftUnit { serial: format!("B-2041-{n:05}"), standing }
    }

    fn open_shift() -> Balance {
        let mut units: Vec<_> = (0..58).map(|n| unit(n, Standing::Passed)).collect();
        units.push(unit(58, Standing::Failed));
        units.push(unit(59, Standing::Failed));
        let counts =
            BatchCounts { planned: 500, passed: 312, failed: 9, scrapped: 2, in_progress: 0, first_pass: 0 };
        Balance {
            shift: Shift { number: 12, opened_at_ms: NOON, opened_by: "Ana".into(), ..Shift::default() },
            batches: vec![BatchBalance::new("B-2041", &counts, units)],
            ..Balance::default()
        }
    }

    /// The records of an open shift.
    pub(crate) fn snapshot() -> Snapshot {
        Snapshot {
            batches: vec!["B-2041".into(), "B-2040".into()],
            figures: Some(Arc::new(work())),
            balance: Some(Arc::new(open_shift())),
            read: true,
            ..Snapshot::default()
        }
    }

    fn of(seen: Snapshot, size: egui::Vec2) -> Harness<'static, World> {
        let mut h = sized(scene(Scene::Ready(2), Instant::now()), size, egui::Theme::Light);
        h.state_mut().view.shift.seen = Arc::new(seen);
        h.key_press_modifiers(Modifiers::COMMAND, Key::Num5);
        h.run();
        h.run();
        h
    }

    fn view(seen: Snapshot) -> Harness<'static, World> {
        of(seen, vec2(1280.0, 800.0))
    }

    fn asked(h: &mut Harness<'static, World>) -> Vec<Command> {
        h.state_mut().view.shift.take()
    }

    #[test]
    fn numbers_are_read_only_while_they_are_on_the_screen() {
        let mut h = view(Snapshot::default());
        assert_eq!(asked(&mut h), [Command::Watch(true)]);
        h.get_by_label("Reading the records");
        h.key_press_modifiers(Modifiers::COMMAND, Key::Num1);
        h.run();
        assert_eq!(asked(&mut h), [Command::Watch(false)]);
        h.key_press_modifiers(Modifiers::COMMAND, Key::Num5);
        h.run();
        assert_eq!(asked(&mut h), [Command::Watch(true)]);
        h.state_mut().people = logged_in(PersonRole::Technician);
        if let crate::people::office::Gate::People { locked, .. } = &mut h.state_mut().people.gate {
            *locked = true;
        }
        h.run();
        assert_eq!(asked(&mut h), [Command::Watch(false)], "behind the lock screen nothing is read");
        assert_eq!(h.state_mut().take(), [], "no key reached the line");
    }

    #[test]
    fn every_picture_is_told_in_words() {
        let h = view(snapshot());
        for label in [
            "Shift 12, open since ",
            "60 units passed, 66 attempts",
            "20 units per hour, in 2:5",
            "90.0 % first-pass yield, 54 of 60 units",
            "23.0 s cycle time, median, 9 in 10 within 26.0 s",
            "6 attempts did not pass, and 0 cancelled",
            "Units passed every 15 minutes: Most 5 from ",
            "First-pass yield: 90.0 % in all, lowest ",
            "Cycle time of units that passed: Half within 23.0 s, 9 in 10 within 26.0 s",
            "Why attempts did not pass: Most often K304 The board does not answer on its serial port: 100.0 %, 6 of 6",
        ] {
            h.get_by_label_contains(label);
        }
        h.get_by_label("By fixture");
        h.get_by_label("left");
    }

    #[test]
    fn t_shows_the_same_as_tables() {
        let mut h = view(snapshot());
        assert!(h.query_by_label("First attempts").is_none());
        press_keys(&mut h, &[Key::T]);
        for label in ["First attempts", "Passed at once", "22 to 24 s", "K304", "Together"] {
            h.get_by_label(label);
        }
        h.get_by_label("Pictures").click();
        h.run();
        assert!(h.query_by_label("First attempts").is_none());
    }

    #[test]
    fn the_keyboard_reaches_what_is_below() {
        let mut h = view(snapshot());
        let at = |h: &Harness<'static, World>| h.get_by_label("By fixture").rect().top();
        let (top, bottom) = (at(&h), 800.0 - 34.0);
        assert!(top > bottom - 40.0, "it begins out of sight: {top}");
        press_keys(&mut h, &[Key::PageDown]);
        h.run();
        assert!(at(&h) < bottom - 60.0, "{}", at(&h));
        press_keys(&mut h, &[Key::Home]);
        h.run();
        assert!((at(&h) - top).abs() < 1.0);
        assert_eq!(h.state_mut().take(), [], "nothing moved on the line");
    }

    #[test]
    fn the_range_is_chosen_by_key_and_by_mouse() {
        let mut h = view(snapshot());
        asked(&mut h);
        press_keys(&mut h, &[Key::Num3]);
        let filter = |range| Filter { range, ..Filter::default() };
        assert_eq!(asked(&mut h), [Command::Show(filter(Range::Week))]);
        h.get_by_label("Today").click();
        h.run();
        assert_eq!(asked(&mut h), [Command::Show(filter(Range::Today))]);
        assert_eq!(h.state_mut().take(), [], "a digit starts no fixture here");
        h.get_by_role_and_label(Role::ComboBox, "Batch").click();
        h.run();
        h.get_by_label("B-2040").click();
        h.run();
        let batch = Filter { batch: Some("B-2040".into()), ..Filter::default() };
        assert_eq!(asked(&mut h), [Command::Show(batch)]);
    }

    #[test]
    fn an_empty_view_says_what_will_be_here() {
        let mut h = view(Snapshot { read: true, ..Snapshot::default() });
        h.get_by_label_contains("The first start opens the next one by itself");
        assert!(h.get_by_label("Save sheet").accesskit_node().is_disabled());
        asked(&mut h);
        h.get_by_label("Start a shift").click();
        h.run();
        assert_eq!(asked(&mut h), [Command::Begin]);
        let nothing = Snapshot { figures: Some(Arc::default()), ..snapshot() };
        let h = view(nothing);
        h.get_by_label("No unit has ended yet");
        h.get_by_label_contains("As soon as units end");
    }

    #[test]
    fn a_shift_that_balances_ends_with_the_keyboard_alone() {
        let mut h = view(snapshot());
        asked(&mut h);
        press_keys(&mut h, &[Key::E]);
        h.run();
        h.get_by_label("End shift 12");
        h.get_by_label("Batch: planned 500 = 312 passed + 9 failed + 2 scrapped + 177 open");
        h.get_by_label("This shift: 60 units = 58 passed + 2 failed + 0 scrapped + 0 unfinished");
        h.get_by_label("Everything balances");
        // The first field has the keyboard.
        h.event(egui::Event::Text("58".into()));
        h.run();
        h.key_press_modifiers(Modifiers::COMMAND, Key::Enter);
        h.run();
        let counted = Counted { passed: Some(58), ..Counted::default() };
        let end =
            Command::End { number: 12, counted: vec![("B-2041".into(), counted)], reason: String::new() };
        assert_eq!(asked(&mut h), [end]);
        // It stays until the shift is over.
        h.get_by_label("End shift 12");
        h.state_mut().view.shift.seen =
            Arc::new(Snapshot { balance: None, told: Told::Ended(12, 0), ..snapshot() });
        h.run();
        assert!(h.query_by_label("End shift 12").is_none());
        assert_eq!(h.state_mut().take(), []);
    }

    #[test]
    fn a_difference_is_named_and_wants_a_reason() {
        let mut h = view(snapshot());
        h.get_by_label("End shift…").click();
        h.run();
        asked(&mut h);
        type_into(&mut h, "failed in the trays, batch B-2041", "1");
        h.get_by_label("1 difference");
        h.get_by_label_contains("failed: 1 counted, 2 in the records (B-2041-00058, B-2041-00059)");
        h.get_by_label("What does not balance needs a reason");
        assert!(h.get_by_label("End the shift").accesskit_node().is_disabled());
        h.key_press_modifiers(Modifiers::COMMAND, Key::Enter);
        h.run();
        assert_eq!(asked(&mut h), [], "not without a reason");
        type_into(&mut h, "Reason for the differences", "one is with QA");
        h.get_by_label("End the shift").click();
        h.run();
        let counted = Counted { failed: Some(1), ..Counted::default() };
        let counted = vec![("B-2041".to_owned(), counted)];
        let end = Command::End { number: 12, counted, reason: "one is with QA".into() };
        assert_eq!(asked(&mut h), std::slice::from_ref(&end));
        // What was told before is no answer to it; what is told with the refusal is, and all that was typed is still there.
        let busy = Told::Failed(Failure::new(FailureCode::ShiftBusy, "left"));
        h.state_mut().view.shift.seen = Arc::new(Snapshot { told: busy.clone(), ..snapshot() });
        h.run();
        assert!(h.get_by_label("End the shift").accesskit_node().is_disabled(), "it is on its way");
        let said = "K651 Units are still in work: left";
        let strip = h.query_all_by_label_contains(said).count();
        h.state_mut().view.shift.seen = Arc::new(Snapshot { told: busy, refused_ends: 1, ..snapshot() });
        h.run();
        h.run();
        assert!(h.query_all_by_label_contains(said).count() > strip, "it stands in the form as well");
        h.get_by_label("End the shift").click();
        h.run();
        assert_eq!(asked(&mut h), [end]);
    }

    #[test]
    fn what_is_no_number_is_said_and_escape_leaves_all_as_it_is() {
        let mut h = view(snapshot());
        press_keys(&mut h, &[Key::E]);
        asked(&mut h);
        type_into(&mut h, "scrapped in the trays, batch B-2041", "two");
        h.get_by_label("In the trays are whole numbers");
        assert!(h.get_by_label("End the shift").accesskit_node().is_disabled());
        press_keys(&mut h, &[Key::Escape]);
        h.run();
        h.get_by_label("Throw it away").click();
        h.run();
        assert!(h.query_by_label("End shift 12").is_none());
        assert_eq!(asked(&mut h), []);
    }

    #[test]
    fn units_in_work_keep_a_shift_open_and_are_named() {
        let mut balance = open_shift();
        let work = |fixture: &str, serial: Option<&str>| InWork {
            fixture: fixture.into(),
            serial: serial.map(str::to_owned),
        };
        balance.in_work = vec![work("left", Some("B-2041-00060")), work("right", None)];
        let mut h = view(Snapshot { balance: Some(Arc::new(balance)), ..snapshot() });
        assert!(h.get_by_label("End shift…").accesskit_node().is_disabled());
        press_keys(&mut h, &[Key::E]);
        h.get_by_label("Still in work: left (B-2041-00060), right");
        assert!(h.query_by_label("End shift 12").is_none());
    }

    #[test]
    fn shifts_that_ended_are_for_qa() {
        let mut ended = open_shift();
        ended.shift.ended = Some(Ended {
            at_ms: NOON + 1000,
            by: "Tom".into(),
            last_attempt: 9,
            differences: Vec::new(),
            reason: "night".into(),
        });
        let seen = Snapshot { past: Arc::new(vec![ended]), ..snapshot() };
        // High enough for everything.
        let mut h = of(seen, vec2(1280.0, 1400.0));
        h.state_mut().people = logged_in(PersonRole::Technician);
        h.run();
        assert!(h.query_by_label("Shifts that ended").is_none());
        assert!(!h.get_by_label("End shift…").accesskit_node().is_disabled(), "a technician ends a shift");
        h.state_mut().people = logged_in(PersonRole::Qa);
        h.run();
        // Another person begins at the line.
        h.key_press_modifiers(Modifiers::COMMAND, Key::Num5);
        h.run();
        h.get_by_label("Shifts that ended");
        h.get_by_label("night");
    }

    #[test]
    fn the_newest_word_is_said_and_put_away() {
        let failed = Told::Failed(Failure::new(FailureCode::ShiftBusy, "left"));
        let mut h = view(Snapshot { told: failed, ..snapshot() });
        h.get_by_label("K651 Units are still in work: left");
        asked(&mut h);
        h.get_by_label("× Put this away").click();
        h.run();
        assert_eq!(asked(&mut h), [Command::Clear]);
        let h = view(Snapshot { told: Told::Ended(12, 2), ..snapshot() });
        h.get_by_label("Shift 12 has ended with 2 differences and a reason");
    }

    #[test]
    fn it_speaks_chinese() {
        let mut h = view(snapshot());
        h.state_mut().view.language = Language::Chinese;
        h.run();
        h.get_by_label_contains("54 台");
        h.get_by_label_contains("未通过的原因：最多的是 K304 ");
        press_keys(&mut h, &[Key::E]);
        h.run();
        h.get_by_label("结束班次 12");
        h.get_by_label("批次：计划 500 = 通过 312 + 失败 9 + 报废 2 + 剩余 177");
        h.get_by_label("全部相符");
    }

    /// Nothing lies on top of anything, and nothing leaves the window, however small it is.
    #[test]
    fn small_windows_keep_every_picture_apart() {
        for size in [vec2(960.0, 600.0), vec2(1024.0, 640.0), vec2(1280.0, 800.0), vec2(1920.0, 1080.0)] {
            let h = of(snapshot(), size);
            let titles = [
                "Units passed every 15 minutes: ",
                "First-pass yield: ",
                "Cycle time of units that passed: ",
                "Why attempts did not pass: ",
            ];
            let rects: Vec<Rect> = titles.iter().map(|t| h.get_by_label_contains(t).rect()).collect();
            for (i, a) in rects.iter().enumerate() {
                assert!(a.left() >= 0.0 && a.right() <= size.x && a.height() >= 80.0, "{size:?}: {a:?}");
                for b in &rects[i + 1..] {
                    assert!(!a.shrink(1.0).intersects(b.shrink(1.0)), "{size:?}: {a:?} {b:?}");
                }
            }
            let buttons: Vec<Rect> =
                ["Tables", "Save sheet", "Save CSV", "End shift…"].map(|b| h.get_by_label(b).rect()).to_vec();
            assert!(buttons.windows(2).all(|w| w[0].right() <= w[1].left()), "{size:?}: {buttons:?}");
        }
    }
}
