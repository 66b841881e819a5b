//! A unit's label in the Units view: printed again, and compared with what a scanner reads.
//!
//! Invariant: a scan reaches the field of this dialog and nothing else; what is not the unit's label leaves the field empty for the next.

use super::batches_view::{self, dialog, muted, title, words};
use super::line_view::ViewState;
use super::sending::{Pressed, Sending};
use super::shell::{Asked, Seen};
use super::theme::{Palette, regular};
use super::widgets::{self, Button, Loud};
use crate::desk::{self, UnitFile};
use crate::i18n::{self, tr};
use crate::model::{LabelPolicy, UnitId, UnitState};
use crate::office::Command;
use crate::people::Right;
use egui::{Align2, Key, Modifiers, Rect, Sense, Ui, pos2, vec2};

/// A label that is being compared.
#[derive(Clone, Debug)]
pub struct LabelForm {
    unit: UnitId,
    code: String,
    sending: Sending,
}

impl LabelForm {
    /// The label of this unit.
    pub fn new(unit: UnitId) -> Self {
        Self { unit, code: String::new(), sending: Sending::default() }
    }
}

/// Why the unit gets no label.
fn refusal(file: &UnitFile, seen: Seen<'_>) -> Option<&'static str> {
    if file.unit.state == UnitState::Scrapped {
        return Some(tr!("unit-label-scrapped"));
    }
    if file.anchor_fingerprint.is_none() {
        return Some(tr!("unit-label-no-anchor"));
    }
    batches_view::off(seen, Right::PrintLabels)
}

/// What is known of its label.
fn state(file: &UnitFile) -> String {
    let is_print = |kind: &str| matches!(kind, "label-printed" | "label-reprinted");
    let prints = file.events.iter().filter(|e| is_print(&e.kind)).count();
    // Newest first: what comes before the newest print came after it.
    let newest = file.events.iter().find(|e| is_print(&e.kind) || e.kind == "label-scanned");
    match newest {
        None => tr!("unit-label-none").into(),
        Some(event) if event.kind == "label-scanned" => {
            tr!("unit-label-read", count = prints, at = i18n::date_time(event.at_ms))
        }
        Some(_) if file.order.label == LabelPolicy::ScanBack => tr!("unit-label-waits", count = prints),
        Some(event) => tr!("unit-label-printed", count = prints, at = i18n::date_time(event.at_ms)),
    }
}

/// The two buttons below the others of a unit, and what is known of its label.
pub(super) fn row(
    ui: &mut Ui,
    file: &UnitFile,
    seen: Seen<'_>,
    view: &mut ViewState,
    out: &mut Asked,
    p: &Palette,
) {
    let width = ui.available_width();
    let why = refusal(file, seen);
    let (r, _) = ui.allocate_exact_size(vec2(width, 34.0), Sense::hover());
    let half = (width - 8.0) / 2.0;
    let mut chosen = None;
    for (i, text) in [tr!("unit-label-print"), tr!("unit-label-check")].into_iter().enumerate() {
        let place = Rect::from_min_size(pos2(r.left() + (half + 8.0) * i as f32, r.top()), vec2(half, 33.0));
        let enabled = why.is_none();
        let button = Button { text, name: text, icon: None, loud: Loud::Quiet, enabled, size: 14.0 };
        let response = button.show(ui, place);
        let response = widgets::say_why(ui, response, why);
        if response.clicked() {
            chosen = Some(i);
        }
        let purpose = if i == 0 { tr!("unit-label-print-hint") } else { tr!("unit-label-check-hint") };
        if why.is_none() {
            response.on_hover_text(purpose);
        }
    }
    let (unit, operator) = (file.unit.id, seen.line.operator.clone());
    match chosen {
        Some(0) => out.desk.push(desk::Command::Office(Command::PrintLabel { unit, operator })),
        Some(_) => {
            view.units.label = Some(LabelForm::new(unit));
        }
        None => {}
    }
    let (r, _) = ui.allocate_exact_size(vec2(width, 24.0), Sense::hover());
    widgets::line(ui, r, Align2::LEFT_CENTER, &state(file), regular(13.0), p.muted);
}

/// The dialog that waits for a scan.
pub(super) fn show(
    ui: &Ui,
    file: &UnitFile,
    seen: Seen<'_>,
    view: &mut ViewState,
    out: &mut Asked,
    p: &Palette,
) {
    let Some(mut form) = view.units.label.take() else { return };
    if form.unit != file.unit.id {
        return;
    }
    let waited = form.sending.is_sent();
    if form.sending.is_done(seen.desk.office.answer.as_ref()) {
        return;
    }
    if waited && !form.sending.is_sent() {
        // It was not this unit's, and the next scan must not hang on to it.
        form.code.clear();
    }
    let why = match refusal(file, seen) {
        None if form.code.trim().is_empty() => Some(tr!("unit-label-scan-first")),
        why => why,
    };
    let enter = ui.input_mut(|i| i.consume_key(Modifiers::NONE, Key::Enter));
    let mut pressed = Pressed::default();
    let closed = dialog(ui, "label of a unit", 560.0, p, |ui| {
        ui.label(title(tr!("unit-label-title", serial = &file.unit.serial), 20.0, p));
        ui.label(words(tr!("unit-label-how"), p));
        let label = ui.label(muted(tr!("unit-label-code"), p));
        let edit = egui::TextEdit::singleline(&mut form.code).char_limit(256).desired_width(f32::INFINITY);
        let edit = ui.add(edit).labelled_by(label.id);
        if form.sending.wants_focus() || (waited && !form.sending.is_sent()) {
            edit.request_focus();
        }
        let go = (tr!("unit-label-compare"), why, Loud::Primary);
        pressed = form.sending.foot(ui, go, p, |_| {});
    });
    if form.sending.goes(pressed, enter && why.is_none()) {
        let (unit, code) = (form.unit, form.code.trim().to_owned());
        let operator = seen.line.operator.clone();
        form.sending.send(Command::CheckLabel { unit, code, operator }, out);
    }
    if !form.sending.closes(pressed, closed, false) {
        view.units.label = Some(form);
    }
}

#[cfg(test)]
mod tests {
    use super::super::line_view::tests::{World, harness, press};
    use super::super::scripted::{self, Scene, scene};
    use super::*;
    use crate::failure::{Failure, FailureCode};
    use crate::office::Answer;
    use crate::records::UnitEvent;
    use egui_kittest::{Harness, kittest::NodeT, kittest::Queryable};
    use std::sync::Arc;
    use std::time::Instant;

    fn open(state: UnitState, events: &[&str]) -> Harness<'static, World> {
        let mut desk = scripted::desk(state);
        let mut file = scripted::unit_file(state);
        file.order.label = LabelPolicy::ScanBack;
        for kind in events {
            let (seq, unit) = (file.events.len() as i64 + 1, file.unit.id);
            let (kind, detail) = ((*kind).to_owned(), serde_json::Value::Null);
            file.events.insert(0, UnitEvent { seq, unit, attempt: None, at_ms: 1, kind, detail });
        }
        desk.file = Some(Arc::new(file));
        let mut h = harness(scene(Scene::Ready(1), Instant::now()));
        h.state_mut().desk = desk;
        press(&mut h, &[Key::F2]);
        h.run();
        h.state_mut().take_desk();
        h
    }

    fn office(h: &mut Harness<'static, World>) -> Vec<desk::Command> {
        let mut all = h.state_mut().take_desk();
        all.retain(|c| matches!(c, desk::Command::Office(_) | desk::Command::Ask(..)));
        all
    }

    #[test]
    fn a_label_is_printed_again_and_says_that_it_was_not_read_back() {
        let mut h = open(UnitState::Passed, &["label-printed", "label-scanned", "label-reprinted"]);
        h.get_by_label("2 labels, the newest was not read back");
        h.get_by_label("Print label").click();
        h.run();
        let (unit, operator) = (scripted::unit_file(UnitState::Passed).unit.id, "Ana Petrović".into());
        assert_eq!(office(&mut h), [desk::Command::Office(Command::PrintLabel { unit, operator })]);
        let h = open(UnitState::Passed, &["label-printed", "label-scanned"]);
        h.get_by_label_contains("One label, the newest was read back");
        let h = open(UnitState::Scrapped, &[]);
        assert!(h.get_by_label("Print label").accesskit_node().is_disabled());
        assert!(h.get_by_label("Check label…").accesskit_node().is_disabled());
    }

    #[test]
    fn a_scan_compares_and_a_wrong_one_makes_room_for_the_next() {
        let mut h = open(UnitState::Quarantined, &["label-printed"]);
        h.get_by_label("Check label…").click();
        h.run();
        h.run();
        assert!(h.get_by_label("Code on its label").is_focused());
        let scan = |h: &mut Harness<'static, World>, text: &str| {
            h.event(egui::Event::Text(text.into()));
            h.run();
            press(h, &[Key::Enter]);
            match office(h).as_slice() {
                [desk::Command::Ask(ticket, Command::CheckLabel { code, .. })] if code == text => *ticket,
                other => panic!("one comparison was expected, not {other:?}"),
            }
        };
        let ticket = scan(&mut h, "KW1:other");
        let refused = Some(Failure::new(FailureCode::LabelMismatch, "label A, unit B"));
        h.state_mut().desk.office.answer = Some(Answer { ticket, refused });
        h.run();
        h.run();
        h.get_by_label_contains("label A, unit B");
        let ticket = scan(&mut h, "KW1:own");
        h.state_mut().desk.office.answer = Some(Answer { ticket, refused: None });
        h.run();
        assert!(h.query_by_label("Code on its label").is_none());
        assert!(h.state_mut().take().is_empty(), "a scan reached no fixture");
    }
}
