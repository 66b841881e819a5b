//! What the line asks before something that can't be taken back: whether a sample is good, whether all that runs is to be cancelled.
//!
//! Invariant: nothing is decided by one key; Esc leaves everything as it is.

use super::line_view::ViewState;
use super::people_view;
use super::shell::Seen;
use super::theme::{Palette, regular, strong};
use super::widgets::{self, Button, Loud};
use crate::i18n::{self, tr};
use crate::line::{Command, Snapshot};
use crate::people::Right;
use egui::{Align2, Key, Modifiers, Rect, Sense, Ui, pos2, vec2};

/// The longest note: the serials of the sample stand before it.
const NOTE: usize = 300;

/// A question that is open.
#[derive(Clone, Debug)]
pub enum LineAsk {
    /// Whether the sample is good.
    Sample {
        /// The batch that it was asked of; another one has other papers.
        batch: String,
        /// What was seen.
        note: String,
        /// The field was given the keyboard.
        focused: bool,
    },
    /// Whether all that runs is to be cancelled.
    Cancel {
        /// The button was given the keyboard.
        focused: bool,
    },
}

impl LineAsk {
    /// Whether the sample of the chosen batch is good.
    pub fn sample(snapshot: &Snapshot) -> Option<Self> {
        let (batch, _) = snapshot.batch.as_ref()?;
        Some(Self::Sample { batch: batch.name.clone(), note: String::new(), focused: false })
    }

    /// It is still a question.
    fn stands(&self, snapshot: &Snapshot) -> bool {
        match self {
            Self::Sample { batch, .. } => {
                snapshot.sample.is_some() && snapshot.batch.as_ref().is_some_and(|(b, _)| b.name == *batch)
            }
            Self::Cancel { .. } => running(snapshot).next().is_some(),
        }
    }
}

/// Fixtures whose units can be cancelled.
pub(super) fn running(snapshot: &Snapshot) -> impl Iterator<Item = usize> {
    let stops = |f: &crate::line::FixtureView| f.running.as_ref().is_some_and(|r| !r.cancelling);
    snapshot.fixtures.iter().enumerate().filter(move |(_, f)| stops(f)).map(|(i, _)| i)
}

/// The dialog, while there is a question.
pub(super) fn show(ui: &mut Ui, seen: Seen<'_>, view: &mut ViewState, out: &mut Vec<Command>, p: &Palette) {
    let Some(mut ask) = view.line_ask.take().filter(|ask| ask.stands(seen.line)) else { return };
    let width = 560.0_f32.min(ui.max_rect().width() - 100.0);
    let mut over = false;
    let modal = widgets::modal(ui, "line ask", p, |ui| {
        ui.set_width(width);
        ui.spacing_mut().item_spacing.y = 8.0;
        over = match &mut ask {
            LineAsk::Sample { note, focused, .. } => sample(ui, width, seen, (note, focused), out, p),
            LineAsk::Cancel { focused } => cancel(ui, width, seen.line, focused, out, p),
        };
    });
    if !over && !modal.should_close() {
        view.line_ask = Some(ask);
    }
}

fn row(ui: &mut Ui, width: f32, height: f32) -> Rect {
    ui.allocate_exact_size(vec2(width, height), Sense::hover()).0
}

/// Buttons from the right; which was pressed. A reason why one is off is told by it.
fn buttons(ui: &mut Ui, width: f32, all: &[(Button<'_>, Option<&str>)]) -> Option<usize> {
    let r = row(ui, width, 40.0);
    let mut right = r.right();
    let mut pressed = None;
    for (n, (button, off)) in all.iter().enumerate() {
        let w = button.width(ui);
        let place = Rect::from_min_size(pos2(right - w, r.top()), vec2(w, 38.0));
        let response = button.show(ui, place);
        if widgets::say_why(ui, response, *off).clicked() {
            pressed = Some(n);
        }
        right = place.left() - 10.0;
    }
    pressed
}

const fn button<'a>(text: &'a str, name: &'a str, loud: Loud, enabled: bool) -> Button<'a> {
    Button { text, name, icon: None, loud, enabled, size: 14.5 }
}

/// Whether the sample is good; true when it was answered.
fn sample(
    ui: &mut Ui,
    width: f32,
    seen: Seen<'_>,
    (note, focused): (&mut String, &mut bool),
    out: &mut Vec<Command>,
    p: &Palette,
) -> bool {
    let (Some(sample), Some((batch, _))) = (&seen.line.sample, &seen.line.batch) else { return true };
    let command_enter = ui.input_mut(|i| i.consume_key(Modifiers::COMMAND, Key::Enter));
    let r = row(ui, width, 30.0);
    let title = tr!("sample-dialog-title", batch = batch.name.as_str());
    widgets::line(ui, r, Align2::LEFT_CENTER, &title, strong(20.0), p.text);
    let r = row(ui, width, 22.0);
    let text = tr!("sample-dialog-text", waiting = i18n::number(sample.waiting));
    widgets::line(ui, r, Align2::LEFT_CENTER, &text, regular(14.5), p.muted);
    for serial in &sample.serials {
        let r = row(ui, width, 24.0);
        let tone = Rect::from_center_size(pos2(r.left() + 9.0, r.center().y), vec2(8.0, 8.0));
        ui.painter().rect_filled(tone, 4.0, p.running.solid);
        let r = Rect::from_min_max(pos2(r.left() + 24.0, r.top()), r.max);
        widgets::line(ui, r, Align2::LEFT_CENTER, serial, strong(16.0), p.text);
    }
    ui.add_space(4.0);
    let label = ui.label(egui::RichText::new(tr!("sample-note")).font(strong(14.0)).color(p.text));
    let edit = egui::TextEdit::singleline(note)
        .hint_text(tr!("sample-note-hint"))
        .char_limit(NOTE)
        .font(regular(16.0))
        .desired_width(f32::INFINITY)
        .margin(vec2(10.0, 8.0));
    let field = ui.add(edit).labelled_by(label.id);
    if !std::mem::replace(focused, true) {
        field.request_focus();
    }
    let named = (!seen.line.operator.is_empty()).then_some(()).ok_or(tr!("need-operator"));
    let off = |right| seen.people.refusal(right).map(people_view::reason).or(named.err());
    let (approves, stops) = (off(Right::ApproveGate), off(Right::PauseBatch));
    let stops = stops.or(note.trim().is_empty().then_some(tr!("sample-stop-why")));
    ui.add_space(2.0);
    let approve =
        button(tr!("sample-approve"), tr!("sample-approve-name"), Loud::Primary, approves.is_none());
    let stop = button(tr!("sample-stop"), tr!("sample-stop-name"), Loud::Danger, stops.is_none());
    let back = button(tr!("sample-back"), tr!("sample-back"), Loud::Quiet, true);
    let mut pressed = buttons(ui, width, &[(approve, approves), (stop, stops), (back, None)]);
    let r = row(ui, width, 20.0);
    widgets::line(ui, r, Align2::LEFT_CENTER, tr!("sample-keys"), regular(13.0), p.muted);
    if command_enter && approves.is_none() {
        pressed = Some(0);
    }
    let operator = seen.line.operator.clone();
    match pressed {
        Some(0) => {
            // What was looked at stands in the timeline, and what was seen.
            let serials = sample.serials.join(", ");
            let note = match note.trim() {
                "" => serials,
                said => format!("{serials}: {said}"),
            };
            out.push(Command::ApproveSample { operator, note });
        }
        Some(1) => out.push(Command::StopBatch { operator, reason: note.trim().to_owned() }),
        Some(_) => {}
        None => return false,
    }
    true
}

/// Whether all that runs is to be cancelled; true when it was answered.
fn cancel(
    ui: &mut Ui,
    width: f32,
    snapshot: &Snapshot,
    focused: &mut bool,
    out: &mut Vec<Command>,
    p: &Palette,
) -> bool {
    let all: Vec<usize> = running(snapshot).collect();
    let label = snapshot.fixtures.iter().position(|f| f.running.as_ref().is_some_and(|r| r.scan.is_some()));
    let r = row(ui, width, 30.0);
    let title = tr!("cancel-title", count = all.len());
    widgets::line(ui, r, Align2::LEFT_CENTER, &title, strong(20.0), p.text);
    let r = row(ui, width, 42.0);
    widgets::block(ui, r, Align2::LEFT_TOP, tr!("cancel-text"), regular(14.5), p.muted, 2);
    let text = tr!("cancel-all", count = all.len());
    let only = label
        .filter(|_| all.len() > 1)
        .map(|i| tr!("cancel-label-only", fixture = &snapshot.fixtures[i].name));
    let mut offered = vec![
        (button(&text, &text, Loud::Danger, true), None),
        (button(tr!("cancel-back"), tr!("cancel-back"), Loud::Quiet, true), None),
    ];
    if let Some(only) = &only {
        // Where several run it is most likely this one that is meant.
        offered.insert(1, (button(only, only, Loud::Quiet, true), None));
    }
    if !std::mem::replace(focused, true) {
        let first = ui.scope_id().with(("button", text.as_str()));
        ui.memory_mut(|m| m.request_focus(first));
    }
    match (buttons(ui, width, &offered), label.filter(|_| only.is_some())) {
        (None, _) => return false,
        (Some(0), _) => out.extend(all.into_iter().map(Command::Cancel)),
        (Some(1), Some(label)) => out.push(Command::Cancel(label)),
        (Some(_), _) => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::line_view::tests::{World, harness, press};
    use super::super::scripted::{self, Scene, scene};
    use super::*;
    use crate::line::{SampleView, ScanView, Step};
    use egui_kittest::{Harness, kittest::NodeT, kittest::Queryable};
    use std::time::Instant;

    fn gate() -> Harness<'static, World> {
        let mut s = scene(Scene::Ready(1), Instant::now());
        s.sample =
            Some(SampleView { waiting: 50, serials: vec!["KW429-01050".into(), "KW429-01049".into()] });
        let mut h = harness(s);
        h.get_by_label("Check a sample: 50 units passed");
        h.get_by_label("Look at the sample: approve it or stop the batch").click();
        h.run();
        h.run();
        h
    }

    #[test]
    fn a_sample_is_approved_with_what_was_looked_at_and_what_was_seen() {
        let mut h = gate();
        for serial in ["KW429-01050", "KW429-01049"] {
            h.get_by_label(serial);
        }
        assert_eq!(h.state_mut().take(), [], "nothing is decided by opening it");
        h.event(egui::Event::Text("all well".into()));
        h.run();
        // A scanner's Enter decides nothing either.
        press(&mut h, &[Key::Enter]);
        assert_eq!(h.state_mut().take(), []);
        h.key_press_modifiers(Modifiers::COMMAND, Key::Enter);
        h.run();
        let note = "KW429-01050, KW429-01049: all well".to_owned();
        let operator = "Ana Petrović".to_owned();
        assert_eq!(h.state_mut().take(), [Command::ApproveSample { operator, note }]);
        assert!(h.query_by_label("Approve the sample").is_none(), "it is answered");
    }

    #[test]
    fn a_stop_wants_its_reason_and_esc_leaves_the_gate_as_it_is() {
        let mut h = gate();
        let stop = "Stop the batch: the sample is not good";
        assert!(h.get_by_label(stop).accesskit_node().is_disabled());
        h.event(egui::Event::Text("a bent pin".into()));
        h.run();
        h.get_by_label(stop).click();
        h.run();
        let (operator, reason) = ("Ana Petrović".to_owned(), "a bent pin".to_owned());
        assert_eq!(h.state_mut().take(), [Command::StopBatch { operator, reason }]);
        let mut h = gate();
        press(&mut h, &[Key::Escape]);
        assert_eq!(h.state_mut().take(), []);
        assert!(h.query_by_label("Approve the sample").is_none());
    }

    #[test]
    fn without_a_name_nothing_is_decided() {
        let mut h = gate();
        h.state_mut().snapshot.operator.clear();
        h.run();
        assert!(h.get_by_label("Approve the sample").accesskit_node().is_disabled());
        h.key_press_modifiers(Modifiers::COMMAND, Key::Enter);
        h.run();
        assert_eq!(h.state_mut().take(), []);
    }

    fn at_work(label: bool) -> Harness<'static, World> {
        let now = Instant::now();
        let mut s = scene(Scene::Ready(3), now);
        for n in 0..2 {
            s.fixtures[n] = scripted::running(n + 1, Step::Flash, "writing app", 0.3, now, 4);
        }
        if label && let Some(running) = &mut s.fixtures[1].running {
            running.scan = Some(ScanView { serial: "KW429-01042".into(), labels: 1, problem: None });
        }
        harness(s)
    }

    #[test]
    fn esc_asks_before_it_cancels_everything() {
        let mut h = at_work(false);
        press(&mut h, &[Key::Escape]);
        assert_eq!(h.state_mut().take(), []);
        h.get_by_label("Cancel 2 units in work?");
        press(&mut h, &[Key::Escape]);
        assert!(h.query_by_label("Cancel 2 units in work?").is_none());
        assert_eq!(h.state_mut().take(), []);
        press(&mut h, &[Key::Escape]);
        h.run();
        press(&mut h, &[Key::Enter]);
        assert_eq!(h.state_mut().take(), [Command::Cancel(0), Command::Cancel(1)]);
    }

    #[test]
    fn of_all_that_runs_the_one_with_the_label_can_be_cancelled_alone() {
        let mut h = at_work(true);
        press(&mut h, &[Key::Escape]);
        h.run();
        h.get_by_label("Only Fixture 2, which waits for its label").click();
        h.run();
        assert_eq!(h.state_mut().take(), [Command::Cancel(1)]);
    }
}
