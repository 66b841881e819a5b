//! The wizard: a product order or a batch in the making.
//!
//! Invariant: what may be entered is decided in `orders`, not here; what was typed stays until the records have it.

use super::batches_view::{command_enter, dialog, muted, office, operator, title, words};
use super::copy;
use super::files::Kind;
use super::line_view::ViewState;
use super::sending::{Pressed, Sending};
use super::shell::{Asked, Seen};
use super::theme::{Palette, mono, regular};
use super::widgets::Loud;
use crate::i18n::tr;
use crate::office::Command;
use crate::orders::{self, Draft, Field, FieldError, Known};
use egui::{RichText, Ui};
use std::path::PathBuf;

/// An order or a batch in the making.
#[derive(Clone, Debug, Default)]
pub struct Wizard {
    /// The order that the batch is for; `None`: an order is made.
    pub order: Option<String>,
    /// What it is copied from.
    pub clone_of: Option<String>,
    /// Its fields.
    pub draft: Draft,
    /// Path of the vendor's encrypted product key; empty: one is drawn.
    pub key_file: String,
    /// Its fields as it was opened.
    pub(super) start: Draft,
    /// It was asked to what product keys are encrypted.
    pub(super) asked: bool,
    /// What became of it.
    pub(super) sending: Sending,
}

impl Wizard {
    /// One that begins with a copy.
    pub fn like(order: Option<String>, other: String, draft: Draft) -> Self {
        Self { order, clone_of: Some(other), start: draft.clone(), draft, ..Self::default() }
    }

    fn is_typed(&self) -> bool {
        self.draft != self.start || !self.key_file.trim().is_empty()
    }

    fn command(&self, operator: String) -> Command {
        let draft = self.draft.clone();
        match &self.order {
            Some(order) => {
                Command::NewBatch { order: order.clone(), draft, clone_of: self.clone_of.clone(), operator }
            }
            None => {
                let key = Some(self.key_file.trim()).filter(|f| !f.is_empty());
                Command::NewOrder { draft, product_key: key.map(PathBuf::from), operator }
            }
        }
    }
}

pub(super) fn field_name(field: Field) -> &'static str {
    match field {
        Field::Name => tr!("field-name"),
        Field::Model => tr!("field-model"),
        Field::HwRevision => tr!("field-hw-revision"),
        Field::PartNumber => tr!("field-part-number"),
        Field::Quantity => tr!("field-quantity"),
        Field::Region => tr!("field-region"),
        Field::Suite => tr!("field-suite"),
        Field::Cloud => tr!("field-cloud"),
        Field::Lock => tr!("field-lock"),
        Field::PerHour => tr!("field-per-hour"),
        Field::Label => tr!("field-label"),
        Field::Image => tr!("field-image"),
        Field::Batch => tr!("field-batch"),
        Field::BatchQuantity => tr!("field-batch-quantity"),
        Field::SerialPattern => tr!("field-serial-pattern"),
        Field::GrayRelease => tr!("field-gray-release"),
    }
}

fn hint(field: Field) -> &'static str {
    match field {
        Field::HwRevision => "A",
        Field::PartNumber => tr!("hint-part-number"),
        Field::PerHour => tr!("hint-per-hour"),
        Field::Image => tr!("hint-image"),
        Field::Batch => tr!("hint-batch"),
        Field::BatchQuantity => tr!("hint-batch-quantity"),
        Field::SerialPattern => "KW-{yy}{ww}-{n:5}-{c}",
        Field::GrayRelease => tr!("hint-gray-release"),
        _ => "",
    }
}

/// What may be chosen where nothing is to be typed, and the word for it; the first is what an empty field means.
fn choices(field: Field, known: &Known) -> Vec<(String, String)> {
    let plain = |text: String| (text.clone(), text);
    let fixed: &[(&str, &str)] = match field {
        Field::Suite => &[("2", tr!("choice-suite-hardened")), ("1", tr!("choice-suite-legacy"))],
        Field::Lock => &[("yes", tr!("choice-lock-yes")), ("no", tr!("choice-lock-no"))],
        Field::Label => &[
            ("none", tr!("choice-label-none")),
            ("print", tr!("choice-label-print")),
            ("print+scan-back", tr!("choice-label-scan")),
        ],
        Field::Cloud => return known.clouds.iter().map(|(name, _)| plain(name.clone())).collect(),
        Field::Region => return known.regions.iter().map(|r| plain(r.to_string())).collect(),
        _ => &[],
    };
    fixed.iter().map(|(code, word)| ((*code).to_owned(), (*word).to_owned())).collect()
}

/// The word for what stands in such a field.
pub(super) fn choice_word(field: Field, code: &str) -> String {
    let known = Known::default();
    let found = choices(field, &known).into_iter().find(|(c, _)| c == code);
    found.map_or_else(|| code.to_owned(), |(_, word)| word)
}

/// The dialog.
pub(super) fn show(ui: &Ui, seen: Seen<'_>, view: &mut ViewState, out: &mut Asked, p: &Palette) {
    let Some(mut form) = view.batches.wizard.take() else { return };
    if form.sending.is_done(seen.desk.office.answer.as_ref()) {
        return;
    }
    let unknown = form.order.is_none() && seen.desk.office.recipient.is_none();
    if unknown && !std::mem::replace(&mut form.asked, true) {
        office(out, Command::KeyRecipient);
    }
    let known = &seen.desk.office.known;
    let order = form.order.as_ref().and_then(|name| known.orders.iter().find(|o| o.name == *name));
    let errors: Vec<FieldError> = match (&form.order, order) {
        (None, _) => orders::check(&form.draft, known).err().unwrap_or_default(),
        (Some(_), Some(order)) => orders::check_batch(&form.draft, order, known).err().unwrap_or_default(),
        (Some(name), None) => {
            let what = tr!("wizard-no-order", order = name.as_str());
            vec![FieldError { field: Field::Batch, what, taken: false }]
        }
    };
    let wrong = match errors.len() {
        0 => None,
        1 => Some(tr!("wizard-wrong", field = field_name(errors[0].field), what = errors[0].what.as_str())),
        n => Some(tr!(
            "wizard-wrong-many",
            n = n.to_string(),
            field = field_name(errors[0].field),
            what = errors[0].what.as_str()
        )),
    };
    let off = operator(seen).map(str::to_owned).or(wrong);
    let enter = off.is_none() && command_enter(ui);
    let mut pressed = Pressed::default();
    let room = ui.max_rect().height();
    let closed = dialog(ui, "wizard", 820.0, p, |ui| {
        let what = match (&form.order, &form.clone_of) {
            (Some(order), Some(other)) => {
                tr!("wizard-batch-like", other = other.as_str(), order = order.as_str())
            }
            (Some(order), None) => tr!("wizard-batch", order = order.as_str()),
            (None, Some(other)) => tr!("wizard-order-like", other = other.as_str()),
            (None, None) => tr!("wizard-order").to_owned(),
        };
        ui.label(title(what, 20.0, p));
        if form.order.is_some() && form.clone_of.is_none() {
            ui.horizontal_wrapped(|ui| {
                ui.label(muted(tr!("batches-fact-order"), p));
                for order in &known.orders {
                    let chosen = form.order.as_ref() == Some(&order.name);
                    if ui.selectable_label(chosen, words(&order.name, p)).clicked() {
                        form.order = Some(order.name.clone());
                    }
                }
            });
        }
        egui::ScrollArea::vertical().max_height((room - 230.0).max(160.0)).auto_shrink([false, true]).show(
            ui,
            |ui| {
                egui::Grid::new("wizard fields")
                    .num_columns(3)
                    .spacing([16.0, 5.0])
                    .min_col_width(150.0)
                    .show(ui, |ui| fields(ui, &mut form, (known, &errors), seen, view, p));
            },
        );
        ui.add_space(4.0);
        ui.label(muted(off.clone().unwrap_or_else(|| tr!("wizard-right").to_owned()), p));
        let faults: Vec<_> = errors.iter().map(|e| format!("{}: {}", field_name(e.field), e.what)).collect();
        let word = if form.order.is_some() { tr!("wizard-create-batch") } else { tr!("wizard-create-order") };
        let go = (word, off.as_deref(), Loud::Primary);
        pressed = form.sending.foot(ui, go, p, |ui| copy::faults(ui, &faults));
    });
    if form.sending.goes(pressed, enter) {
        let command = form.command(seen.line.operator.clone());
        form.sending.send(command, out);
    }
    let typed = form.is_typed();
    if !form.sending.closes(pressed, closed, typed) {
        view.batches.wizard = Some(form);
    }
}

fn fields(
    ui: &mut Ui,
    form: &mut Wizard,
    (known, errors): (&Known, &[FieldError]),
    seen: Seen<'_>,
    view: &mut ViewState,
    p: &Palette,
) {
    let focus = form.sending.wants_focus();
    let fields = if form.order.is_some() { Field::BATCH } else { Field::ALL };
    for (n, field) in fields.iter().enumerate() {
        entry(ui, *field, &mut form.draft, known, focus && n == 0, p);
        match errors.iter().find(|e| e.field == *field) {
            Some(wrong) => {
                ui.label(RichText::new(&wrong.what).font(regular(13.0)).color(p.fail.ink));
            }
            None if *field == Field::SerialPattern => {
                let first = orders::first_serial(&form.draft, known);
                let text = first.map_or_else(String::new, |s| tr!("wizard-first-serial", serial = s));
                ui.label(muted(text, p)).on_hover_text(tr!("wizard-look-alikes"));
            }
            None => {
                ui.label("");
            }
        }
        ui.end_row();
    }
    if form.order.is_none() {
        let label = ui.label(muted(tr!("batches-fact-key"), p));
        let edit = egui::TextEdit::singleline(&mut form.key_file)
            .hint_text(tr!("wizard-key-hint"))
            .desired_width(280.0);
        ui.add(edit).labelled_by(label.id);
        ui.horizontal(|ui| {
            let field = tr!("batches-fact-key");
            view.files.button(ui, field, &mut form.key_file, Kind::File(&[]));
            recipient(ui, seen, view, p);
        });
        ui.end_row();
    }
}

/// To what the vendor encrypts a product key, and a button that copies it.
pub(super) fn recipient(ui: &mut Ui, seen: Seen<'_>, view: &mut ViewState, p: &Palette) {
    let Some(recipient) = &seen.desk.office.recipient else {
        ui.label(muted(tr!("wizard-key-how"), p));
        return;
    };
    let button = egui::Button::new(RichText::new(tr!("wizard-copy-recipient")).font(regular(13.0)));
    if ui.add(button).on_hover_text(recipient).clicked() {
        ui.ctx().copy_text(recipient.clone());
        view.say_copied(tr!("copied").into());
    }
    let short: String = recipient.chars().take(12).collect();
    let shown = ui.label(RichText::new(format!("{short}…")).font(mono(12.5)).color(p.text));
    ui.ctx().accesskit_node_builder(shown.id, |node| node.set_value(recipient.as_str()));
    shown.on_hover_text(recipient);
}

fn entry(ui: &mut Ui, field: Field, draft: &mut Draft, known: &Known, focus: bool, p: &Palette) {
    let name = field_name(field);
    let label = ui.label(muted(name, p));
    // A grid's cell is as wide as its column was; what is wider would be cut, or wrap into the next row.
    ui.vertical(|ui| {
        ui.set_width(300.0);
        cell(ui, field, (name, label.id), draft, known, focus, p);
    });
}

fn cell(
    ui: &mut Ui,
    field: Field,
    (name, label): (&str, egui::Id),
    draft: &mut Draft,
    known: &Known,
    focus: bool,
    p: &Palette,
) {
    let choices = choices(field, known);
    if choices.is_empty() {
        ui.horizontal(|ui| {
            let edit =
                egui::TextEdit::singleline(draft.text(field)).hint_text(hint(field)).desired_width(280.0);
            let edit = ui.add(edit).labelled_by(label);
            if focus {
                edit.request_focus();
            }
            if field == Field::Image
                && let Some(image) = &known.image
            {
                let text = tr!("wizard-bind", model = image.model.as_str(), version = image.version.as_str());
                if ui.button(RichText::new(text).font(regular(13.0))).clicked() {
                    *draft.text(field) = image.sha256.clone();
                }
            }
        });
        return;
    }
    ui.horizontal_wrapped(|ui| {
        for (n, (choice, word)) in choices.iter().enumerate() {
            let now = draft.get(field).to_owned();
            // An empty field means the first, where there is a usual value.
            let chosen = now == *choice || (now.is_empty() && n == 0 && field != Field::Region);
            let response = ui.selectable_label(chosen, words(word, p));
            response.widget_info(|| {
                egui::WidgetInfo::selected(egui::Role::RadioButton, true, chosen, format!("{name}: {word}"))
            });
            if response.clicked() {
                draft.text(field).clone_from(choice);
            }
        }
    });
}
