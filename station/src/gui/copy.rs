//! What can be copied from the screen: every error has a button that copies it, and Ctrl+C copies all that are shown.
//!
//! Whoever paints an error calls [`button`] (or [`offer`], where a button of its own does it already). The texts of a frame
//! wait in the context's memory until its end: a view does not have to hand them on through its callers.
//!
//! Invariant: what is being typed or chosen in a text field has Ctrl+C first.

use super::icons::Icon;
use super::line_view::ViewState;
use super::theme::regular;
use super::widgets::{Button, Loud};
use crate::failure::Failure;
use crate::i18n::{self, tr};
use egui::{Id, Rect, Ui};

/// Width that [`button`] takes.
pub(super) const WIDTH: f32 = 34.0;

fn place() -> Id {
    Id::unique("errors on the screen")
}

/// A failure in one piece, as it goes to whoever is asked for help.
pub(super) fn told(failure: &Failure) -> String {
    let (sentence, remedy) = i18n::failure(failure);
    format!("{} {sentence}. {remedy}", failure.code)
}

/// What the button is called: by the code, for the words stand beside it.
fn name(text: &str) -> String {
    let code = text.split([' ', ':']).next().unwrap_or_default();
    let coded = code.len() == 4 && code.starts_with('K') && code[1..].bytes().all(|b| b.is_ascii_digit());
    if coded { tr!("copy-error", code = code) } else { tr!("copy-notice").into() }
}

/// Begins a frame: nothing is shown yet.
pub(super) fn begin(ui: &Ui) {
    ui.data_mut(|data| data.remove::<Vec<String>>(place()));
}

/// The text stands on the screen and is an error.
pub(super) fn offer(ui: &Ui, text: &str) {
    ui.data_mut(|data| {
        let all = data.get_temp_mut_or_default::<Vec<String>>(place());
        if !all.iter().any(|t| t == text) {
            all.push(text.to_owned());
        }
    });
}

/// A button that copies an error, at the right end of `rect`; what is left of `rect` for the words.
pub(super) fn button(ui: &mut Ui, rect: Rect, text: &str) -> Rect {
    offer(ui, text);
    let middle = egui::pos2(rect.right() - WIDTH / 2.0, rect.center().y);
    let square = Rect::from_center_size(middle, egui::vec2(WIDTH, 30.0_f32.min(rect.height())));
    let button = Button {
        text: "",
        name: &name(text),
        icon: Some(Icon::Copy),
        loud: Loud::Quiet,
        enabled: true,
        size: 13.0,
    };
    if button.show(ui, square).on_hover_text(tr!("copy-error-hint")).clicked() {
        ui.ctx().copy_text(text.to_owned());
    }
    Rect::from_min_max(rect.min, egui::pos2(square.left() - 8.0, rect.bottom()))
}

/// Ends a frame: Ctrl+C takes what was shown.
pub(super) fn end(ui: &Ui, view: &mut ViewState) {
    let asked = ui.input(|i| i.events.iter().any(|e| matches!(e, egui::Event::Copy)));
    if !asked || ui.ctx().text_edit_focused() {
        return;
    }
    let all = ui.data_mut(|data| data.get_temp::<Vec<String>>(place())).unwrap_or_default();
    view.say_copied(if all.is_empty() {
        tr!("copied-no-error").into()
    } else {
        ui.ctx().copy_text(all.join("\n"));
        tr!("copied-errors", count = all.len())
    });
}

/// A button in words that copies all faults of a form, where Ctrl+C is the text fields'.
pub(super) fn faults(ui: &mut Ui, faults: &[String]) {
    if faults.is_empty() {
        return;
    }
    let all = faults.join("\n");
    offer(ui, &all);
    let name = tr!("copy-faults", count = faults.len());
    let button = egui::Button::new(egui::RichText::new(name).font(regular(13.0)));
    if ui.add(button).clicked() {
        ui.ctx().copy_text(all);
    }
}

#[cfg(test)]
mod tests {
    use super::super::line_view::Tab;
    use super::super::line_view::tests::{World, harness};
    use super::super::scripted::{self, Scene, ScriptedLine, scene};
    use super::*;
    use crate::failure::FailureCode;
    use crate::people::office::Gate;
    use crate::{desk, people};
    use egui_kittest::{Harness, kittest::Queryable};
    use std::sync::Arc;
    use std::time::Instant;

    type H = Harness<'static, World>;

    fn trust() -> crate::trust::clerk::Snapshot {
        super::super::trust_view::tests::snapshot()
    }

    fn guide(step: crate::first_run::Step) -> crate::host::Guide {
        super::super::first_view::tests::at(step, super::super::first_view::tests::whole())
    }

    fn copied(h: &H) -> Option<String> {
        let commands = &h.output().platform_output.commands;
        commands.iter().find_map(|c| match c {
            egui::OutputCommand::CopyText(text) => Some(text.clone()),
            _ => None,
        })
    }

    fn ctrl_c(h: &mut H) -> Option<String> {
        h.event(egui::Event::Copy);
        h.step();
        let text = copied(h);
        // What it says about it stands in the footer from the next frame on.
        h.run();
        text
    }

    /// Every place that shows an error: Ctrl+C copies it whole, and so does its button.
    #[test]
    fn every_error_is_copied_by_key_and_by_button() {
        let failure = || Failure::new(FailureCode::RecordsFailed, "no space left on the disk");
        let text = told(&failure());
        assert!(text.starts_with("K"), "{text}");
        type Put = fn(&mut World, Failure);
        let places: [(&str, Tab, Put); 13] = [
            ("the station's trouble", Tab::Line, |w, f| w.snapshot.trouble = Some(f)),
            ("the desk", Tab::Units, |w, f| w.desk.told = desk::Told::Failed(f)),
            ("orders and batches", Tab::Batches, |w, f| w.desk.told = desk::Told::Failed(f)),
            ("the clerk", Tab::Exports, |w, f| {
                let seen =
                    crate::export::clerk::Snapshot { told: desk::Told::Failed(f), ..Default::default() };
                w.view.exports.seen = Arc::new(seen);
            }),
            ("the foreman", Tab::Shift, |w, f| {
                let seen =
                    crate::foreman::Snapshot { told: crate::foreman::Told::Failed(f), ..Default::default() };
                w.view.shift.seen = Arc::new(seen);
            }),
            ("the chain of trust", Tab::Trust, |w, f| {
                let told = crate::trust::clerk::Told::Failed(f);
                w.view.trust.seen = Arc::new(crate::trust::clerk::Snapshot { told, ..trust() });
            }),
            ("anchors that can't be read", Tab::Trust, |w, f| {
                w.view.trust.seen = Arc::new(crate::trust::clerk::Snapshot { trouble: Some(f), ..trust() });
            }),
            ("a token that is not there", Tab::Trust, |w, f| {
                let token = crate::trust::TokenView { label: "kw".into(), seen: Err(f), has_pin: false };
                w.view.trust.seen = Arc::new(crate::trust::clerk::Snapshot { token: Some(token), ..trust() });
            }),
            ("a step of the guide", Tab::Line, |w, f| {
                let told = crate::host::Told::Failed(f);
                w.guide = Some(crate::host::Guide { told, ..guide(crate::first_run::Step::Name) });
            }),
            ("a board for the rehearsal", Tab::Line, |w, f| {
                let board = Some(Err(f));
                w.guide = Some(crate::host::Guide { board, ..guide(crate::first_run::Step::Rehearsal) });
            }),
            ("the guide's summary", Tab::Line, |w, f| {
                let check = scripted::checked(crate::preflight::Name::Disk, Some(f.code), None);
                let check = crate::preflight::Check { failure: Some(f), ..check };
                let checks = vec![check];
                w.guide = Some(crate::host::Guide { checks, ..guide(crate::first_run::Step::Summary) });
            }),
            ("people", Tab::People, |w, f| w.people.told = people::office::Told::Failed(f)),
            ("the audit log", Tab::Audit, |w, f| w.people.told = people::office::Told::Failed(f)),
        ];
        for (place, tab, put) in places {
            let mut h = harness(scene(Scene::Ready(2), Instant::now()));
            h.state_mut().people.gate = Gate::Open;
            h.state_mut().view.tab = tab;
            put(h.state_mut(), failure());
            h.run();
            assert_eq!(ctrl_c(&mut h).as_deref(), Some(text.as_str()), "{place}: the key");
            h.run();
            h.get_by_label("Copy error K605").click();
            h.step();
            h.step();
            let by_button = copied(&h);
            assert!(by_button.is_none_or(|t| t == text), "{place}: another text");
        }
    }

    #[test]
    fn the_button_copies_what_stands_beside_it() {
        let mut h = harness(scene(Scene::StationTrouble, Instant::now()));
        let text = told(h.state().snapshot.trouble.as_ref().expect("the station is in trouble"));
        h.get_by_label(&format!("Copy error {}", &text[..4])).click();
        let mut all = Vec::new();
        for _ in 0..3 {
            h.step();
            all.extend(copied(&h));
        }
        assert_eq!(all, [text]);
    }

    #[test]
    fn failures_of_tiles_are_copied_together_and_one_in_focus_alone() {
        let now = Instant::now();
        let mut snapshot = scene(Scene::Ready(3), now);
        snapshot.fixtures[0] =
            scripted::done(1, crate::model::Outcome::Fail, Some(FailureCode::VerifyFailed));
        snapshot.fixtures[2] = scripted::troubled(3, FailureCode::NoProbe, "serial 1");
        let mut h = harness(snapshot);
        let both = ctrl_c(&mut h).expect("two failures");
        assert!(both.contains("K207") && both.contains("Fixture 3"), "{both}");
        h.get_by_label("2 errors are copied");
        h.ctx.memory_mut(|m| m.request_focus(super::super::tile::Tile::id(2)));
        h.run();
        let one = ctrl_c(&mut h).expect("one failure");
        assert!(!one.contains("K207") && one.contains("Fixture 3"), "{one}");
    }

    #[test]
    fn without_an_error_the_key_says_so_and_a_text_field_keeps_it() {
        let mut h = harness(scene(Scene::Ready(1), Instant::now()));
        assert_eq!(ctrl_c(&mut h), None);
        h.get_by_label("There is no error on the screen to copy");
        h.state_mut().view.tab = Tab::Units;
        h.state_mut().desk.told = desk::Told::Failed(Failure::new(FailureCode::NoTarget, ""));
        h.state_mut().view.units.query = "KW429".into();
        h.run();
        h.get_by_label("Hardware id or serial of a unit").focus();
        h.run();
        assert_ne!(
            ctrl_c(&mut h),
            Some(told(&Failure::new(FailureCode::NoTarget, ""))),
            "the field has the key"
        );
        let _ = ScriptedLine::default();
    }
}
