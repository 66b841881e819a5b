//! Orders and batches: what there is, what was decided about it, and the wizard that makes new ones.
//!
//! Invariants: a field that is wrong says so beside itself, and a button that is off says why; what can't be taken back is asked about
//! with numbers. What may be entered is decided in `orders`, not here.

use super::copy;
use super::files::Kind;
use super::line_view::{Tab, ViewState};
use super::order_view::{self, OrderForm};
use super::order_wizard;
use super::sending::{Pressed, Sending};
use super::shell::{Asked, Seen};
use super::theme::{Palette, mono, palette, regular, strong};
use super::units_view;
use super::widgets::{self, Button, Loud};
use crate::desk;
use crate::i18n::{self, tr};
use crate::label::preview::{self, Modules};
use crate::label::{self, LabelCode};
use crate::model::{Batch, BatchState, LabelPolicy, ProductOrder};
use crate::office::{BatchFile, Command, ListView};
use crate::orders::Draft;
use crate::people::Right;
use crate::records::OrderEvent;
use crate::records::serial::Pattern;
use egui::{Color32, Rect, RichText, Sense, Stroke, Ui, UiBuilder, Vec2, pos2, vec2};
use std::path::PathBuf;

pub use super::order_wizard::Wizard;

/// What the window remembers of orders and batches.
#[derive(Clone, Debug, Default)]
pub struct BatchesState {
    /// The wizard.
    pub wizard: Option<Wizard>,
    /// The question that waits for an answer.
    pub ask: Option<Ask>,
    /// A list that is being imported.
    pub import: Option<Import>,
    /// What is being decided about an order.
    pub order: Option<OrderForm>,
    /// The office reads its numbers.
    watching: bool,
}

impl BatchesState {
    /// A dialog is open.
    pub const fn is_asking(&self) -> bool {
        self.wizard.is_some() || self.ask.is_some() || self.import.is_some() || self.order.is_some()
    }
}

/// A decision about a batch.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The batch.
    pub batch: String,
    /// What it shall be.
    pub state: BatchState,
    /// Why.
    pub reason: String,
    /// What became of it.
    pub(super) sending: Sending,
}

impl Ask {
    /// The question whether this batch shall be that.
    pub fn new(batch: &str, state: BatchState) -> Self {
        Self { batch: batch.to_owned(), state, reason: String::new(), sending: Sending::default() }
    }
}

/// A list of orders that is being taken.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// Its path, as far as it is typed.
    pub path: String,
    pub(super) sending: Sending,
}

pub(super) fn office(out: &mut Asked, command: Command) {
    out.desk.push(desk::Command::Office(command));
}

/// The office reads its numbers only while they are on the screen.
pub fn watch(view: &mut ViewState, out: &mut Asked) {
    let shown = view.tab == Tab::Batches;
    if view.batches.watching != shown {
        view.batches.watching = shown;
        office(out, Command::Watch(shown));
    }
}

pub(super) fn words(text: impl Into<String>, p: &Palette) -> RichText {
    RichText::new(text).font(regular(14.0)).color(p.text)
}

pub(super) fn title(text: impl Into<String>, size: f32, p: &Palette) -> RichText {
    RichText::new(text).font(strong(size)).color(p.text)
}

pub(super) fn muted(text: impl Into<String>, p: &Palette) -> RichText {
    RichText::new(text).font(regular(13.0)).color(p.muted)
}

/// A button among others of its row: off with a reason.
pub(super) fn press(ui: &mut Ui, text: &str, off: Option<&str>) -> bool {
    press_as(ui, text, off, Loud::Quiet)
}

/// The same, as loud as what it does.
pub(super) fn press_as(ui: &mut Ui, text: &str, off: Option<&str>, loud: Loud) -> bool {
    let button = Button { text, name: text, icon: None, loud, enabled: off.is_none(), size: 14.0 };
    let (rect, _) = ui.allocate_exact_size(vec2(button.width(ui), 34.0), Sense::hover());
    let response = button.show(ui, rect);
    widgets::say_why(ui, response, off).clicked()
}

pub(super) fn operator(seen: Seen<'_>) -> Option<&'static str> {
    seen.line.operator.is_empty().then_some(tr!("need-operator"))
}

/// Why whoever is there can't do this.
pub(super) fn off(seen: Seen<'_>, right: Right) -> Option<&'static str> {
    seen.people.refusal(right).map(super::people_view::reason).or_else(|| operator(seen))
}

/// Why no test label can be printed.
pub(super) fn test_label_off(seen: Seen<'_>) -> Option<&'static str> {
    match &seen.desk.office.printer {
        Some(Err(_)) => Some(tr!("batches-no-printer")),
        _ => off(seen, Right::PrintLabels),
    }
}

/// Has a label printed that is no unit's.
pub(super) fn test_label(seen: Seen<'_>, out: &mut Asked) {
    office(out, Command::TestLabel { operator: seen.line.operator.clone() });
}

/// The right to bring a batch to a state.
fn right(file: &BatchFile, state: BatchState) -> Right {
    crate::office::state_right(file.batch.state, state).0
}

/// The view below the header.
pub fn body(ui: &mut Ui, room: Rect, seen: Seen<'_>, view: &mut ViewState, out: &mut Asked) {
    let p = palette(ui.ctx());
    let mut room = room;
    units_view::told(ui, &mut room, &seen.desk.told, p);
    let known = &seen.desk.office.known;
    let bar = Rect::from_min_size(room.min, vec2(room.width(), 40.0));
    ui.scope_builder(UiBuilder::new().max_rect(bar), |ui| {
        ui.horizontal_centered(|ui| {
            ui.label(title(tr!("batches-title"), 18.0, p));
            ui.add_space(12.0);
            let orders = seen.people.refusal(Right::ManageOrders).map(super::people_view::reason);
            let batches = seen.people.refusal(Right::ManageBatches).map(super::people_view::reason);
            if press(ui, tr!("batches-new-order"), orders) {
                view.batches.wizard = Some(Wizard::default());
            }
            let none = known.orders.is_empty().then_some(tr!("batches-no-order-yet"));
            if press(ui, tr!("batches-new-batch"), batches.or(none)) {
                let office = &seen.desk.office;
                let shown =
                    office.file.as_ref().map(|f| &f.order).or(office.order.as_ref().map(|o| &o.order));
                let order = shown.or(known.orders.first()).map(|o| o.name.clone());
                view.batches.wizard = Some(Wizard { order, ..Wizard::default() });
            }
            if press(ui, tr!("batches-import"), orders) {
                view.batches.import = Some(Import::default());
            }
            let printer = seen.desk.office.printer.as_ref();
            if press(ui, tr!("batches-test-label"), test_label_off(seen)) {
                test_label(seen, out);
            }
            let place = match printer {
                Some(Ok(place)) => tr!("batches-printer", place = place.as_str()),
                // No order may want labels: then this is no fault.
                Some(Err(failure)) if failure.code == crate::failure::FailureCode::PrinterMissing => {
                    tr!("batches-no-printer-how").into()
                }
                Some(Err(failure)) => tr!("batches-printer", place = i18n::failure(failure).0),
                None => String::new(),
            };
            ui.label(muted(place, p));
        });
    });
    room.min.y = bar.bottom() + 8.0;
    let width = (room.width() * 0.42).clamp(360.0, 620.0);
    let left = Rect::from_min_size(room.min, vec2(width, room.height()));
    let right = Rect::from_min_max(pos2(left.right() + 14.0, room.top()), room.max);
    card(ui, left, p, |ui| list(ui, seen, out, p));
    let shown = &seen.desk.office;
    card(ui, right, p, |ui| match (&shown.file, &shown.order) {
        (Some(file), _) => batch(ui, file, seen, view, p),
        (None, Some(file)) => order_view::facts(ui, file, seen, view, p),
        (None, None) => {
            ui.label(title(tr!("batches-none-chosen"), 16.0, p));
            let text = if known.orders.is_empty() { tr!("batches-empty") } else { tr!("batches-choose") };
            ui.label(muted(text, p));
        }
    });
    if view.batches.wizard.is_some() {
        order_wizard::show(ui, seen, view, out, p);
    } else if view.batches.order.is_some() {
        order_view::ask(ui, seen, view, out, p);
    } else if view.batches.ask.is_some() {
        ask(ui, seen, view, out, p);
    } else if view.batches.import.is_some() {
        import(ui, seen, view, out, p);
    }
}

fn card(ui: &mut Ui, rect: Rect, p: &Palette, add: impl FnOnce(&mut Ui)) {
    ui.painter().rect(rect, 14.0, p.surface, Stroke::new(1.0, p.border), egui::StrokeKind::Inside);
    let inner = rect.shrink2(vec2(16.0, 12.0));
    ui.scope_builder(UiBuilder::new().max_rect(inner), |ui| {
        ui.set_clip_rect(rect.shrink(2.0).intersect(ui.clip_rect()));
        ui.spacing_mut().item_spacing = vec2(8.0, 6.0);
        egui::ScrollArea::vertical().id_salt(rect.left() as i64).auto_shrink(false).show(ui, add);
    });
}

fn list(ui: &mut Ui, seen: Seen<'_>, out: &mut Asked, p: &Palette) {
    let office_view = &seen.desk.office;
    let chosen = office_view.file.as_ref().map(|f| f.batch.name.as_str());
    if office_view.known.orders.is_empty() {
        ui.label(title(tr!("batches-no-orders"), 16.0, p));
    }
    for order in &office_view.known.orders {
        let open = office_view.order.as_ref().is_some_and(|o| o.order.name == order.name);
        if order_view::row(ui, order, open, p).clicked() {
            office(out, Command::ChooseOrder(order.name.clone()));
        }
        let mut any = false;
        for batch in office_view.known.batches.iter().filter(|b| b.po == order.id) {
            any = true;
            if row(ui, batch, chosen == Some(batch.name.as_str()), p).clicked() {
                office(out, Command::Choose(Some(batch.name.clone())));
            }
        }
        if !any {
            ui.label(muted(tr!("batches-no-batch"), p));
        }
        ui.add_space(8.0);
    }
}

/// A batch in the list: its name, state, and how far it is.
fn row(ui: &mut Ui, batch: &Batch, chosen: bool, p: &Palette) -> egui::Response {
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 46.0), Sense::click());
    let (passed, quantity) = (i18n::number(batch.terms.passed), i18n::number(batch.quantity));
    let state = super::header::batch_word(batch.state);
    let name = batch.name.as_str();
    response.widget_info(|| {
        let text = tr!("batches-row", name = name, state = state, passed = &passed, quantity = &quantity);
        egui::WidgetInfo::selected(egui::Role::Button, true, chosen, text)
    });
    if chosen {
        ui.painter().rect(
            rect,
            8.0,
            p.running.soft,
            Stroke::new(1.0, p.running.ink),
            egui::StrokeKind::Inside,
        );
    } else if response.hovered() {
        ui.painter().rect_filled(rect, 8.0, p.hover);
    }
    if response.has_focus() {
        widgets::focus_ring(ui, rect, 8.0, p);
    }
    let inner = rect.shrink2(vec2(12.0, 6.0));
    let upper = Rect::from_min_max(inner.min, pos2(inner.right(), inner.top() + 20.0));
    let chip = super::header::batch_chip(ui, upper.right_center(), batch.state, p);
    let count = Rect::from_min_max(upper.min, pos2(chip.left() - 10.0, upper.bottom()));
    let text = tr!("batches-row-count", passed = &passed, quantity = &quantity);
    let at = egui::Align2::RIGHT_CENTER;
    let count = widgets::line(ui, count, at, &text, regular(13.0), p.muted);
    let title = Rect::from_min_max(upper.min, pos2(count.left() - 10.0, upper.bottom()));
    widgets::line(ui, title, egui::Align2::LEFT_CENTER, name, strong(15.0), p.text);
    let bar = Rect::from_min_max(pos2(inner.left(), inner.bottom() - 5.0), inner.max);
    let done = batch.terms.passed as f32 / batch.quantity.max(1) as f32;
    ui.painter().rect_filled(bar, 2.5, p.track);
    let part = (bar.width() * done.min(1.0)).max(if done > 0.0 { bar.height() } else { 0.0 });
    ui.painter().rect_filled(Rect::from_min_size(bar.min, vec2(part, bar.height())), 2.5, p.pass.solid);
    response
}

fn batch(ui: &mut Ui, file: &BatchFile, seen: Seen<'_>, view: &mut ViewState, p: &Palette) {
    let (batch, order, c) = (&file.batch, &file.order, &file.counts);
    ui.label(title(
        tr!("batches-head", name = batch.name.as_str(), state = super::header::batch_word(batch.state)),
        20.0,
        p,
    ));
    let open = c.open();
    let planned = match c.replaced() {
        0 => tr!("batches-planned", planned = i18n::number(c.planned)),
        n => tr!("batches-planned-replaced", planned = i18n::number(c.planned), replaced = i18n::number(n)),
    };
    let balance = tr!(
        "batches-balance",
        planned = planned,
        passed = i18n::number(c.passed),
        failed = i18n::number(c.failed),
        scrapped = i18n::number(c.scrapped),
        open = i18n::number(open)
    );
    ui.label(title(balance, 15.0, p));
    ui.horizontal_wrapped(|ui| {
        let off = |state| off(seen, right(file, state));
        let mut want = |state| {
            view.batches.ask = Some(Ask::new(&batch.name, state));
        };
        match batch.state {
            BatchState::Open => {
                if press(ui, tr!("batches-pause"), off(BatchState::Paused)) {
                    want(BatchState::Paused);
                }
                if press(ui, tr!("batches-close"), off(BatchState::Closed)) {
                    want(BatchState::Closed);
                }
            }
            BatchState::Paused => {
                if press(ui, tr!("batches-resume"), off(BatchState::Open)) {
                    want(BatchState::Open);
                }
                if press(ui, tr!("batches-close"), off(BatchState::Closed)) {
                    want(BatchState::Closed);
                }
            }
            BatchState::Closed => {
                if press(ui, tr!("batches-reopen"), off(BatchState::Open)) {
                    want(BatchState::Open);
                }
            }
        }
        let may = |right| seen.people.refusal(right).map(super::people_view::reason);
        if press(ui, tr!("batches-clone"), may(Right::ManageBatches)) {
            let draft = Draft::like_batch(batch);
            view.batches.wizard = Some(Wizard::like(Some(order.name.clone()), batch.name.clone(), draft));
        }
        if press(ui, tr!("batches-clone-order"), may(Right::ManageOrders)) {
            let draft = Draft::like(order, &seen.desk.office.known.clouds);
            view.batches.wizard = Some(Wizard::like(None, order.name.clone(), draft));
        }
    });
    let (code, serial) = sample_label(batch, order);
    ui.horizontal_top(|ui| {
        ui.vertical(|ui| {
            let gray = match batch.terms.gray_release {
                0 => tr!("batches-gray-station").to_owned(),
                n => tr!("batches-gray", n = i18n::number(n)),
            };
            let image = order
                .image_sha256
                .as_deref()
                .map_or(tr!("batches-image-later").to_owned(), |h| format!("{}…", &h[..16.min(h.len())]));
            let pattern = match batch.terms.serial_pattern.as_str() {
                "" => tr!("batches-usual-serials", batch = batch.name.as_str()),
                own => own.to_owned(),
            };
            egui::Grid::new("batch facts").num_columns(2).spacing([16.0, 4.0]).show(ui, |ui| {
                for (name, value) in [
                    (
                        tr!("batches-fact-order"),
                        format!("{}, {} rev. {}", order.name, order.model, order.hw_revision),
                    ),
                    (tr!("batches-fact-serials"), pattern),
                    (tr!("batches-fact-sample"), gray),
                    (tr!("batches-fact-label"), policy_word(order.label).to_owned()),
                    (tr!("batches-fact-image"), image),
                    (
                        tr!("batches-fact-key"),
                        if batch.state == BatchState::Closed {
                            tr!("batches-key-ended")
                        } else {
                            tr!("batches-key-enrols")
                        }
                        .into(),
                    ),
                ] {
                    ui.label(muted(name, p));
                    ui.label(words(value, p));
                    ui.end_row();
                }
            });
        });
        if order.label != LabelPolicy::None
            && let Some(modules) = code.as_ref().and_then(|c| preview::data_matrix(&c.to_string()))
        {
            ui.vertical(|ui| {
                square(ui, &modules, &tr!("batches-preview-name", serial = serial.as_str()));
                ui.label(RichText::new(serial).font(mono(12.0)).color(p.text));
                ui.label(muted(tr!("batches-preview"), p));
            });
        }
    });
    ui.add_space(6.0);
    ui.label(title(tr!("batches-timeline", count = file.events.len().to_string()), 15.0, p));
    timeline(ui, &file.events, &order.name, p);
}

/// What was decided about a batch and its order: when, about what, what, by whom and why.
pub(super) fn timeline(ui: &mut Ui, events: &[OrderEvent], order: &str, p: &Palette) {
    const ROW: f32 = 26.0;
    let heads = [
        tr!("timeline-when"),
        tr!("timeline-about"),
        tr!("timeline-what"),
        tr!("timeline-who"),
        tr!("timeline-why"),
    ];
    let shares = [0.22, 0.17, 0.22, 0.14, 0.25];
    let mut paint = |cells: [&str; 5], head: bool, striped: bool| {
        let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), ROW), Sense::hover());
        if striped {
            ui.painter().rect_filled(rect, 6.0, p.background);
        }
        let mut left = rect.left() + 6.0;
        for (cell, share) in cells.into_iter().zip(shares) {
            let width = (rect.width() - 12.0) * share;
            let place = Rect::from_min_size(pos2(left, rect.top()), vec2(width - 10.0, ROW));
            let (font, ink) = if head { (regular(13.0), p.muted) } else { (regular(14.0), p.text) };
            widgets::line(ui, place, egui::Align2::LEFT_CENTER, cell, font, ink);
            left += width;
        }
    };
    paint(heads, true, false);
    for (i, event) in events.iter().enumerate() {
        let about = event.batch.as_deref().unwrap_or(order);
        let (when, what) = (i18n::date_time(event.at_ms), event_word(&event.kind));
        paint([&when, about, &what, &event.operator, &event.reason], false, i % 2 == 0);
    }
}

/// What the square code of the batch's first unit would look like, with an anchor of zeros.
fn sample_label(batch: &Batch, order: &ProductOrder) -> (Option<LabelCode>, String) {
    let own = Pattern::read(&batch.terms.serial_pattern);
    let serial = own.unwrap_or_else(|_| Pattern::usual(&batch.name)).serial(1).unwrap_or_default();
    let facts = crate::records::LabelFacts {
        serial: serial.clone(),
        batch: batch.name.clone(),
        po: order.name.clone(),
        ..label::test_facts()
    };
    (label::code_of(&facts).ok(), serial)
}

/// A square code, always dark on light: a scanner must be able to read it from the screen.
fn square(ui: &mut Ui, modules: &Modules, name: &str) {
    const MODULE: f32 = 4.0;
    let side = (modules.width + 2) as f32 * MODULE;
    let (rect, response) = ui.allocate_exact_size(Vec2::splat(side), Sense::hover());
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, name));
    ui.painter().rect_filled(rect, 0.0, Color32::WHITE);
    for (i, _) in modules.dark.iter().enumerate().filter(|(_, dark)| **dark) {
        let (x, y) = (i % modules.width, i / modules.width);
        let at = rect.min + vec2((x + 1) as f32, (y + 1) as f32) * MODULE;
        ui.painter().rect_filled(Rect::from_min_size(at, Vec2::splat(MODULE)), 0.0, Color32::BLACK);
    }
}

/// A dialog in the middle; whether it shall close.
pub(super) fn dialog(ui: &Ui, name: &str, width: f32, p: &Palette, add: impl FnOnce(&mut Ui)) -> bool {
    let modal = widgets::modal(ui, name, p, |ui| {
        ui.set_width(width);
        ui.spacing_mut().item_spacing = vec2(8.0, 6.0);
        add(ui);
    });
    modal.should_close()
}

/// What an order wants of labels, in words.
pub(super) fn policy_word(policy: LabelPolicy) -> &'static str {
    match policy {
        LabelPolicy::None => tr!("label-policy-none"),
        LabelPolicy::Print => tr!("label-policy-print"),
        LabelPolicy::ScanBack => tr!("label-policy-scan"),
    }
}

/// What was decided, in words.
fn event_word(kind: &str) -> String {
    match kind {
        "created" => tr!("timeline-created").into(),
        "paused" => tr!("timeline-paused").into(),
        "resumed" => tr!("timeline-resumed").into(),
        "closed" => tr!("timeline-closed").into(),
        "reopened" => tr!("timeline-reopened").into(),
        "sample-approved" => tr!("timeline-sample-approved").into(),
        other => other.replace('-', " "),
    }
}

fn ask(ui: &Ui, seen: Seen<'_>, view: &mut ViewState, out: &mut Asked, p: &Palette) {
    let Some(mut question) = view.batches.ask.take() else { return };
    if question.sending.is_done(seen.desk.office.answer.as_ref()) {
        return;
    }
    let Some(file) = seen.desk.office.file.as_ref().filter(|f| f.batch.name == question.batch) else {
        return;
    };
    let c = &file.counts;
    let name = &question.batch;
    let numbers = tr!(
        "ask-numbers",
        passed = i18n::number(c.passed),
        failed = i18n::number(c.failed),
        scrapped = i18n::number(c.scrapped),
        running = i18n::number(c.in_progress),
        left = i18n::number(c.open().saturating_sub(c.in_progress))
    );
    let again = file.batch.state == BatchState::Closed;
    let (head, text, word) = match question.state {
        BatchState::Closed => (
            tr!("ask-close", name = name.as_str()),
            tr!("ask-close-text", numbers = numbers),
            tr!("ask-close-go"),
        ),
        BatchState::Paused => (
            tr!("ask-pause", name = name.as_str()),
            tr!("ask-pause-text", numbers = numbers),
            tr!("ask-pause-go"),
        ),
        BatchState::Open if again => (
            tr!("ask-reopen", name = name.as_str()),
            tr!("ask-reopen-text", numbers = numbers, open = i18n::number(c.open())),
            tr!("ask-reopen-go"),
        ),
        BatchState::Open => (tr!("ask-resume", name = name.as_str()), numbers, tr!("ask-resume-go")),
    };
    let off = match off(seen, right(file, question.state)) {
        Some(why) => Some(why),
        None if again && question.reason.trim().is_empty() => Some(tr!("ask-why")),
        None => None,
    };
    let enter = off.is_none() && command_enter(ui);
    let loud = if question.state == BatchState::Closed { Loud::Danger } else { Loud::Primary };
    let mut pressed = Pressed::default();
    let closed = dialog(ui, "ask about a batch", 560.0, p, |ui| {
        ui.label(title(head, 20.0, p));
        ui.label(words(text, p));
        let label = ui.label(muted(if again { tr!("ask-reason") } else { tr!("ask-reason-optional") }, p));
        let edit =
            egui::TextEdit::singleline(&mut question.reason).char_limit(500).desired_width(f32::INFINITY);
        let edit = ui.add(edit).labelled_by(label.id);
        if question.sending.wants_focus() {
            edit.request_focus();
        }
        if let Some(why) = off {
            ui.label(muted(why, p));
        }
        pressed = question.sending.foot(ui, (word, off, loud), p, |_| {});
    });
    if question.sending.goes(pressed, enter) {
        let (batch, state, reason) = (question.batch.clone(), question.state, question.reason.clone());
        let operator = seen.line.operator.clone();
        question.sending.send(Command::SetState { batch, state, operator, reason }, out);
    }
    let typed = !question.reason.trim().is_empty();
    if !question.sending.closes(pressed, closed, typed) {
        view.batches.ask = Some(question);
    }
}

/// Ctrl+Enter does what a dialog is for.
pub(super) fn command_enter(ui: &Ui) -> bool {
    ui.input_mut(|i| i.consume_key(egui::Modifiers::COMMAND, egui::Key::Enter))
}

fn import(ui: &Ui, seen: Seen<'_>, view: &mut ViewState, out: &mut Asked, p: &Palette) {
    let Some(mut form) = view.batches.import.take() else { return };
    if form.sending.is_done(seen.desk.office.answer.as_ref()) {
        return;
    }
    let read = seen.desk.office.list.as_ref();
    let off = match read {
        None => Some(tr!("import-first")),
        Some(list) if !list.errors.is_empty() => Some(tr!("import-correct")),
        Some(_) => operator(seen),
    };
    let enter = off.is_none() && command_enter(ui);
    let mut pressed = Pressed::default();
    let closed = dialog(ui, "import orders", 760.0, p, |ui| {
        ui.label(title(tr!("import-title"), 20.0, p));
        ui.label(muted(tr!("import-how"), p));
        ui.horizontal(|ui| {
            let label = ui.label(muted(tr!("import-file"), p));
            let edit = egui::TextEdit::singleline(&mut form.path).desired_width(440.0);
            let edit = ui.add(edit).labelled_by(label.id);
            if form.sending.wants_focus() {
                edit.request_focus();
            }
            let list = Kind::File(&["csv", "json"]);
            if view.files.button(ui, tr!("import-file"), &mut form.path, list) {
                office(out, Command::ReadList(PathBuf::from(form.path.trim())));
            }
            let off = form.path.trim().is_empty().then_some(tr!("import-name"));
            if press(ui, tr!("import-read"), off) {
                office(out, Command::ReadList(PathBuf::from(form.path.trim())));
            }
        });
        if let Some(list) = read {
            shown(ui, list, p);
        }
        let word =
            read.map_or(tr!("import-take").to_owned(), |l| tr!("import-take-n", n = l.orders.to_string()));
        pressed = form.sending.foot(ui, (&word, off, Loud::Primary), p, |_| {});
    });
    if form.sending.goes(pressed, enter) {
        form.sending.send(Command::TakeList { operator: seen.line.operator.clone() }, out);
    }
    let typed = read.is_some_and(|list| list.errors.is_empty());
    if form.sending.closes(pressed, closed, typed) {
        office(out, Command::LeaveList);
    } else {
        view.batches.import = Some(form);
    }
}

fn shown(ui: &mut Ui, list: &ListView, p: &Palette) {
    ui.label(muted(list.file.display().to_string(), p));
    egui::ScrollArea::vertical().max_height(300.0).auto_shrink([false, true]).show(ui, |ui| {
        if list.errors.is_empty() {
            ui.label(title(
                tr!("import-counts", orders = list.orders.to_string(), batches = list.batches.to_string()),
                15.0,
                p,
            ));
            egui::Grid::new("list").num_columns(5).striped(true).spacing([16.0, 4.0]).show(ui, |ui| {
                for head in [
                    tr!("batches-fact-order"),
                    tr!("field-model"),
                    tr!("field-quantity"),
                    tr!("field-region"),
                    tr!("field-batch"),
                ] {
                    ui.label(muted(head, p));
                }
                ui.end_row();
                for row in &list.rows {
                    for cell in row {
                        ui.label(words(cell, p));
                    }
                    ui.end_row();
                }
            });
        } else {
            ui.label(title(tr!("import-faults", n = list.errors.len().to_string()), 15.0, p));
            copy::faults(ui, &list.errors);
            for error in &list.errors {
                ui.label(RichText::new(error).font(regular(13.5)).color(p.fail.ink));
            }
        }
    });
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::line_view::tests::{World, click, harness, is_off, type_into};
    use super::super::scripted::{self, Scene, scene};
    use super::*;
    use crate::failure::{Failure, FailureCode};
    use crate::model::{BatchCounts, BatchTerms};
    use crate::office::Answer;
    use crate::orders::{Field, Known};
    use crate::records::OrderEvent;
    use egui::Key;
    use egui::accesskit::Role as Node;
    use egui_kittest::{Harness, kittest::Queryable};
    use std::sync::Arc;
    use std::time::Instant;

    type H = Harness<'static, World>;

    fn known() -> Known {
        let s = scene(Scene::Ready(1), Instant::now());
        let mut order = scripted::order();
        order.label = LabelPolicy::ScanBack;
        let mut batches = s.batches;
        batches[0].terms = BatchTerms { passed: 312, gray_release: 100, ..BatchTerms::default() };
        Known {
            orders: vec![order],
            batches,
            regions: vec![7, 8],
            clouds: vec![("local".into(), "mqtts://localhost".into())],
            now_ms: 1_795_700_000_000,
            ..Known::default()
        }
    }

    /// Orders and batches, one of them chosen.
    pub(crate) fn office(chosen: Option<usize>) -> crate::office::Snapshot {
        let known = known();
        let file = chosen.map(|n| {
            let event = |seq: i64, kind: &str, reason: &str, batch: Option<&str>| OrderEvent {
                seq,
                batch: batch.map(str::to_owned),
                at_ms: 1_795_700_000_000,
                operator: "Mia".into(),
                kind: kind.into(),
                reason: reason.into(),
                detail: serde_json::Value::Null,
            };
            let batch = known.batches[n].clone();
            let name = Some(batch.name.clone());
            let counts = BatchCounts {
                planned: 500,
                passed: 312,
                failed: 9,
                scrapped: 2,
                in_progress: 3,
                first_pass: 1,
            };
            let events = vec![
                event(3, "sample-approved", "looked at two", name.as_deref()),
                event(2, "created", "", name.as_deref()),
                event(1, "created", "", None),
            ];
            Arc::new(BatchFile { batch, order: known.orders[0].clone(), counts, events })
        });
        crate::office::Snapshot {
            known: Arc::new(known),
            file,
            printer: Some(Ok("printer zebra:9100".into())),
            ..Default::default()
        }
    }

    fn view(chosen: Option<usize>) -> H {
        let mut h = harness(scene(Scene::Ready(1), Instant::now()));
        h.state_mut().desk.office = office(chosen);
        h.key_press_modifiers(egui::Modifiers::COMMAND, Key::Num3);
        h.run();
        assert_eq!(asked(&mut h), [Command::Watch(true)]);
        h
    }

    /// What was asked of the office; the recipient, which every new order asks for, is looked at by itself.
    fn asked(h: &mut H) -> Vec<Command> {
        let (all, _) = sent(h);
        all.into_iter().filter(|c| *c != Command::KeyRecipient).collect()
    }

    /// The same with the number of the form that waits for its answer.
    fn sent(h: &mut H) -> (Vec<Command>, u64) {
        let mut number = 0;
        let all = h.state_mut().take_desk().into_iter().map(|c| match c {
            desk::Command::Office(c) => c,
            desk::Command::Ask(ticket, c) => {
                number = ticket;
                c
            }
            other => panic!("{other:?}"),
        });
        (all.collect(), number)
    }

    /// The office answers.
    fn answer(h: &mut H, ticket: u64, refused: Option<Failure>) {
        h.state_mut().desk.office.answer = Some(Answer { ticket, refused });
        h.run();
        h.run();
    }

    #[test]
    fn orders_and_batches_are_listed_with_counts_and_one_is_chosen() {
        let mut h = view(None);
        h.get_by_label("PO-2026-0417");
        h.get_by_label("5000 × KW-GATEWAY-429 rev. C, region 7, label print+scan-back");
        h.get_by_label("No batch is chosen");
        click(&mut h, "Batch B-2041, open, 312 of 500 passed");
        assert_eq!(asked(&mut h), [Command::Choose(Some("B-2041".into()))]);
        click(&mut h, "Print a test label");
        assert_eq!(asked(&mut h), [Command::TestLabel { operator: "Ana Petrović".into() }]);
        h.key_press_modifiers(egui::Modifiers::COMMAND, Key::Num1);
        h.run();
        assert_eq!(asked(&mut h), [Command::Watch(false)], "nobody looks any more");
    }

    #[test]
    fn a_batch_shows_its_balance_its_label_and_who_decided_what() {
        let h = view(Some(0));
        for label in [
            "Batch B-2041, open",
            "500 planned = 312 passed + 9 failed + 2 scrapped + 177 open",
            "after each 100 passes",
            "Timeline (3)",
            "sample approved",
            "looked at two",
        ] {
            h.get_by_label(label);
        }
        h.get_by_label_contains("Preview of a label's code: B-2041-00001");
    }

    #[test]
    fn closing_says_in_numbers_what_ends_and_opening_again_wants_a_reason() {
        let mut h = view(Some(0));
        click(&mut h, "Close…");
        h.get_by_label_contains(
            "312 passed, 9 failed, 2 scrapped, 3 in work, 174 not begun. No unit of it starts any more",
        );
        type_into(&mut h, "Reason (may stay empty)", "delivered");
        click(&mut h, "Close the batch");
        let close = |state, reason: &str| Command::SetState {
            batch: if state == BatchState::Closed { "B-2041" } else { "B-2040" }.into(),
            state,
            operator: "Ana Petrović".into(),
            reason: reason.into(),
        };
        let (all, ticket) = sent(&mut h);
        assert_eq!(all, [close(BatchState::Closed, "delivered")]);
        h.get_by_label("Working…");
        assert!(is_off(&h, "Close the batch"), "once is enough");
        // Somebody else's answer is none to this question.
        answer(&mut h, ticket + 1_000_000, None);
        h.get_by_label("Close the batch");
        answer(&mut h, ticket, None);
        assert!(h.query_by_label("Close the batch").is_none());
        let mut h = view(Some(3));
        click(&mut h, "Open again…");
        assert!(is_off(&h, "Open it again"));
        h.get_by_label("Say why; it stands in the batch's timeline");
        type_into(&mut h, "Reason", "one was found");
        click(&mut h, "Open it again");
        let (all, ticket) = sent(&mut h);
        assert_eq!(all, [close(BatchState::Open, "one was found")]);
        answer(&mut h, ticket, None);
        click(&mut h, "Open again…");
        click(&mut h, "Leave it");
        assert_eq!(asked(&mut h), []);
    }

    #[test]
    fn the_wizard_checks_as_one_types_and_says_why_it_is_off() {
        let mut h = view(None);
        click(&mut h, "New order…");
        h.get_by_label("New product order");
        assert!(is_off(&h, "Create the order"));
        h.get_by_label_contains("4 fields are wrong: first Name, 1 to 16 letters");
        type_into(&mut h, "Name", "PO-2026-0417");
        h.get_by_label("there is an order PO-2026-0417 already");
        type_into(&mut h, "Name", "B");
        type_into(&mut h, "Model", "KW-METER");
        type_into(&mut h, "Units ordered", "20");
        h.get_by_label_contains("Region: choose one: 7, 8");
        click(&mut h, "Region: 8");
        click(&mut h, "Label: print");
        type_into(&mut h, "Batch", "P1");
        type_into(&mut h, "Serial pattern", "KW-{n:5}");
        h.get_by_label("character 9: it has no check character: write {c}");
        type_into(&mut h, "Serial pattern", "-{c}");
        h.get_by_label("All fields are right");
        h.get_by_label_contains("first serial: KW-00001-");
        h.key_press_modifiers(egui::Modifiers::COMMAND, Key::Enter);
        h.run();
        let draft = Draft::default()
            .with(Field::Name, "PO-2026-0417B")
            .with(Field::Model, "KW-METER")
            .with(Field::Quantity, 20)
            .with(Field::Region, 8)
            .with(Field::Label, "print")
            .with(Field::Batch, "P1")
            .with(Field::SerialPattern, "KW-{n:5}-{c}");
        let operator = "Ana Petrović".to_owned();
        let (all, ticket) = sent(&mut h);
        let new = Command::NewOrder { draft, product_key: None, operator };
        assert_eq!(all, [Command::KeyRecipient, new.clone()], "asked once");
        // It comes back with all that was typed, and goes again.
        let failure = Failure::new(FailureCode::RecordsFailed, "the disk is full");
        answer(&mut h, ticket, Some(failure));
        h.get_by_label_contains("K605 The station can't write its records: the disk is full");
        click(&mut h, "Create the order");
        let (all, ticket) = sent(&mut h);
        assert_eq!(all, [new]);
        answer(&mut h, ticket, None);
        assert!(h.query_by_label("Create the order").is_none());
    }

    #[test]
    fn a_form_asks_before_it_throws_away_what_was_typed() {
        let mut h = view(None);
        click(&mut h, "New order…");
        assert!(h.get_by_role_and_label(Node::TextInput, "Name").is_focused());
        h.key_press(Key::Escape);
        h.run();
        assert!(h.query_by_label("New product order").is_none(), "nothing was typed");
        click(&mut h, "New order…");
        type_into(&mut h, "Name", "PO-9");
        h.key_press(Key::Escape);
        h.run();
        h.get_by_label("What was typed here is not kept. Leave it all the same?");
        h.key_press(Key::Escape);
        h.run();
        assert!(h.query_by_label("Throw it away").is_none(), "the question is taken back");
        click(&mut h, "Leave it");
        click(&mut h, "Go on with it");
        click(&mut h, "Leave it");
        click(&mut h, "Throw it away");
        assert!(h.query_by_label("New product order").is_none());
        assert_eq!(asked(&mut h), []);
    }

    #[test]
    fn a_vendor_sees_to_what_its_key_is_encrypted() {
        let mut h = view(None);
        h.state_mut().desk.office.recipient = Some("age1qyqszqgpqyqszqgpqyqszqgp".into());
        click(&mut h, "New order…");
        h.get_by_label("age1qyqszqgpqyqszqgpqyqszqgp");
        h.get_by_label("Copy recipient").click_accesskit();
        let mut copied = false;
        for _ in 0..3 {
            h.step();
            let commands = &h.output().platform_output.commands;
            copied |= commands
                .iter()
                .any(|c| matches!(c, egui::OutputCommand::CopyText(t) if t.starts_with("age1")));
        }
        assert!(copied);
    }

    #[test]
    fn a_clone_has_all_but_the_name() {
        let mut h = view(Some(0));
        click(&mut h, "Clone batch…");
        h.get_by_label("New batch like B-2041, under PO-2026-0417");
        type_into(&mut h, "Batch", "B-2050");
        click(&mut h, "Create the batch");
        let draft = Draft::default()
            .with(Field::Batch, "B-2050")
            .with(Field::BatchQuantity, 500)
            .with(Field::GrayRelease, 100);
        let expected = Command::NewBatch {
            order: "PO-2026-0417".into(),
            draft,
            clone_of: Some("B-2041".into()),
            operator: "Ana Petrović".into(),
        };
        let (all, ticket) = sent(&mut h);
        assert_eq!(all, [expected]);
        answer(&mut h, ticket, None);
        h.state_mut().snapshot.operator.clear();
        click(&mut h, "Clone order…");
        h.get_by_label("New order like PO-2026-0417");
        type_into(&mut h, "Name", "PO-2");
        assert!(is_off(&h, "Create the order"), "nobody is named");
    }

    #[test]
    fn a_list_is_read_shown_and_taken_or_refused_with_its_faults() {
        let mut h = view(None);
        click(&mut h, "Import orders…");
        assert!(is_off(&h, "Take the orders") && is_off(&h, "Read it"));
        type_into(&mut h, "File", "/tmp/orders.csv");
        click(&mut h, "Read it");
        assert_eq!(asked(&mut h), [Command::ReadList("/tmp/orders.csv".into())]);
        let mut list = ListView {
            file: "/tmp/orders.csv".into(),
            orders: 1,
            batches: 1,
            rows: vec![["PO-7", "KW-METER", "5", "7", "W1, 5"].map(str::to_owned)],
            errors: vec!["row 2, column region: a whole number".into()],
        };
        h.state_mut().desk.office.list = Some(Arc::new(list.clone()));
        h.run();
        h.get_by_label("row 2, column region: a whole number");
        assert!(is_off(&h, "Take 1 orders"));
        list.errors.clear();
        h.state_mut().desk.office.list = Some(Arc::new(list));
        h.run();
        h.get_by_label("W1, 5");
        click(&mut h, "Take 1 orders");
        let (all, ticket) = sent(&mut h);
        assert_eq!(all, [Command::TakeList { operator: "Ana Petrović".into() }]);
        answer(&mut h, ticket, Some(Failure::new(FailureCode::NameTaken, "product order PO-7")));
        h.get_by_label_contains("product order PO-7");
        h.get_by_label("W1, 5");
        click(&mut h, "Leave it");
        click(&mut h, "Throw it away");
        assert_eq!(asked(&mut h), [Command::LeaveList]);
    }
}
