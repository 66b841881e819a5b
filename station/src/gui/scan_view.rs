//! What the line waits for a person to do: scan a label, check a sample.
//!
//! Invariant: what a scanner types is a scan, wherever the keyboard is, and starts no fixture: while a label is to be scanned it is that
//! label's, else it chooses the batch it names or has a unit's history offered.

use super::header;
use super::icons::{self, Icon};
use super::line_ask::LineAsk;
use super::line_view::{Tab, ViewState};
use super::shell::{self, Asked, Seen};
use super::theme::{Palette, Tone, palette, regular, strong};
use super::widgets::{self, Button, Loud};
use crate::desk;
use crate::failure::FailureCode;
use crate::i18n::{self, tr};
use crate::label::LabelCode;
use crate::line::{Command, ScanView, Snapshot};
use crate::people::Right;
use crate::records::serial;
use egui::{Align2, Rect, Sense, Stroke, StrokeKind, Ui, pos2, vec2};

/// The fixture that waits for a scan: its name and what it wants. One label is out at a time.
fn wanted(snapshot: &Snapshot) -> Option<(&str, &ScanView)> {
    snapshot.fixtures.iter().find_map(|f| Some((f.name.as_str(), f.running.as_ref()?.scan.as_ref()?)))
}

/// Takes what a scanner types before anything else on the screen sees it; a person's keys go on to where they belong.
/// `asks`: something is open that is answered first.
pub(super) fn take(ui: &mut Ui, seen: Seen<'_>, view: &mut ViewState, asks: bool, out: &mut Asked) {
    if ui.ctx().text_edit_focused() {
        return view.wedge.clear();
    }
    let label = wanted(seen.line).is_some();
    // Somebody whose scanner is broken may have the code from elsewhere.
    let mut pasted = None;
    if label {
        ui.input_mut(|i| {
            i.events.retain(|event| match event {
                egui::Event::Paste(text) => {
                    pasted = Some(text.trim().to_owned()).filter(|text| !text.is_empty());
                    false
                }
                _ => true,
            });
        });
    }
    let Some(code) = view.wedge.take(ui).or(pasted) else { return };
    view.notice = None;
    if label {
        out.line.push(Command::Scan(code));
    } else if asks {
        // Not what: it may have been meant for the dialog, a badge for one.
        view.notice = Some(tr!("scan-dialog-open").into());
    } else {
        plain(seen, view, code, out);
    }
}

/// What is scanned while no label is waited for chooses the batch it names or has its history offered, and starts nothing.
fn plain(seen: Seen<'_>, view: &mut ViewState, code: String, out: &mut Asked) {
    view.offered = None;
    let Ok(batch) = header::named(&seen.line.batches, &code) else {
        view.notice = Some(tr!("scan-batch-ambiguous", code = code));
        return;
    };
    if let Some(batch) = batch {
        if seen.line.batch.as_ref().is_some_and(|(chosen, _)| chosen.id == batch.id) {
            view.notice = Some(tr!("scan-batch-already", batch = batch.name.as_str()));
        } else if let Some(why) = seen.people.refusal(Right::RunLine) {
            view.notice = Some(super::people_view::reason(why).to_owned());
        } else {
            view.notice = Some(tr!("scan-batch", batch = batch.name.as_str()));
            out.line.push(Command::SelectBatch(batch.name.clone()));
        }
    } else if !may_be_a_unit(&code) {
        view.notice = Some(tr!("scan-nothing", code = code));
    } else if let Some(why) = seen.people.refusal(Right::SeeUnits) {
        let why = super::people_view::reason(why);
        view.notice = Some(tr!("scan-unit-not-for", code = shown(&code), why = why));
    } else if view.tab == Tab::Units {
        out.desk.push(desk::Command::Find(code));
    } else {
        view.offered = Some(code);
    }
}

/// Whether a code can be that of a unit: a label's, a hardware id, or a serial.
fn may_be_a_unit(code: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    code.parse::<LabelCode>().is_ok() || (code.len() <= serial::LONGEST && code.chars().all(fits))
}

/// A code as it is named to people: the serial of a label's.
fn shown(code: &str) -> String {
    code.parse::<LabelCode>().map_or_else(|_| code.to_owned(), |label| label.serial().to_owned())
}

/// Turns to the units with what was scanned on the line, if something was.
pub(super) fn take_offer(view: &mut ViewState, out: &mut Asked) {
    if let Some(code) = view.offered.take() {
        out.desk.push(desk::Command::Find(code));
    }
}

/// The history of what was scanned, offered.
pub(super) fn offer(ui: &mut Ui, room: &mut Rect, view: &mut ViewState, out: &mut Asked) {
    let p = palette(ui.ctx());
    let Some(code) = view.offered.as_deref().map(shown) else { return };
    let title = tr!("scan-unit", code = code.as_str());
    let open = button(tr!("scan-unit-open"), tr!("scan-unit-open-name"), Loud::Primary, true);
    let away = button(tr!("scan-unit-away"), tr!("scan-unit-away-name"), Loud::Quiet, true);
    match bar(
        ui,
        room,
        p.ready,
        Icon::Search,
        (&title, tr!("scan-unit-text")),
        &[(away, None), (open, None)],
        p,
    ) {
        Some(0) => view.offered = None,
        Some(_) => {
            take_offer(view, out);
            shell::turn_to(Tab::Units, view);
        }
        None => {}
    }
}

/// The bar that says that a label waits for its scan, in every view: whoever holds the label sees it.
pub(super) fn label_bar(
    ui: &mut Ui,
    room: &mut Rect,
    seen: Seen<'_>,
    view: &ViewState,
    out: &mut Vec<Command>,
) {
    let p = palette(ui.ctx());
    let Some((fixture, scan)) = wanted(seen.line) else { return };
    let title = tr!("scan-title", serial = scan.serial.as_str());
    let mut text = tr!("scan-text", fixture = fixture);
    if let Some(problem) = &scan.problem {
        let (sentence, remedy) = i18n::failure(problem);
        text = match problem.code {
            FailureCode::BoardLifted => {
                tr!("scan-board-lifted", problem = sentence, remedy = remedy, fixture = fixture)
            }
            _ => tr!("scan-problem", problem = sentence, fixture = fixture),
        };
    } else if scan.labels > 1 {
        text = tr!("scan-text-again", fixture = fixture, labels = scan.labels.to_string());
    }
    if !view.wedge.text().is_empty() {
        text = format!("{fixture}: {}", view.wedge.text());
    }
    let name = tr!("scan-print-again-name", serial = scan.serial.as_str());
    let again = (button(tr!("scan-print-again"), &name, Loud::Quiet, true), None);
    if bar(ui, room, p.running, Icon::Search, (&title, &text), &[again], p) == Some(0) {
        out.push(Command::PrintAgain);
    }
}

/// The bar of the gate, above the tiles: which units are to be looked at. What is decided is decided in a dialog.
pub(super) fn gate_bar(ui: &mut Ui, room: &mut Rect, seen: Seen<'_>, view: &mut ViewState) {
    let p = palette(ui.ctx());
    let (Some(sample), Some((batch, _))) = (&seen.line.sample, &seen.line.batch) else { return };
    let mut title = tr!("sample-title", waiting = i18n::number(sample.waiting));
    let text = tr!("sample-text", serials = sample.serials.join(", "), batch = batch.name.as_str());
    let refused = seen.people.refusal(Right::ApproveGate).map(super::people_view::reason);
    if let Some(why) = refused {
        title = format!("{title} ({why})");
    }
    let off = refused.or(seen.line.operator.is_empty().then_some(tr!("need-operator")));
    let open = button(tr!("sample-open"), tr!("sample-open-name"), Loud::Primary, off.is_none());
    if bar(ui, room, p.error, Icon::Stop, (&title, &text), &[(open, off)], p).is_some() {
        view.line_ask = LineAsk::sample(seen.line);
    }
}

pub(super) const fn button<'a>(text: &'a str, name: &'a str, loud: Loud, enabled: bool) -> Button<'a> {
    Button { text, name, icon: None, loud, enabled, size: 14.0 }
}

/// One bar: icon, words, buttons from the right; which button was pressed.
pub(super) fn bar(
    ui: &mut Ui,
    room: &mut Rect,
    tone: Tone,
    icon: Icon,
    (title, text): (&str, &str),
    buttons: &[(Button<'_>, Option<&str>)],
    p: &Palette,
) -> Option<usize> {
    let rect = Rect::from_min_size(room.min, vec2(room.width(), 58.0));
    ui.painter().rect(rect, 10.0, tone.soft, Stroke::new(1.0, tone.solid), StrokeKind::Inside);
    let square = Rect::from_center_size(pos2(rect.left() + 26.0, rect.center().y), vec2(22.0, 22.0));
    icons::paint(ui.painter(), square, icon, tone.ink, tone.soft, 0.0);
    let mut right = rect.right() - 12.0;
    let mut pressed = None;
    for (n, (button, off)) in buttons.iter().enumerate().rev() {
        let width = button.width(ui);
        let place = Rect::from_min_size(pos2(right - width, rect.center().y - 17.0), vec2(width, 34.0));
        let response = button.show(ui, place);
        if widgets::say_why(ui, response, *off).clicked() {
            pressed = Some(n);
        }
        right = place.left() - 8.0;
    }
    let words = Rect::from_min_max(
        pos2(square.right() + 12.0, rect.top() + 7.0),
        pos2(right - 8.0, rect.bottom() - 7.0),
    );
    let upper = Rect::from_min_size(words.min, vec2(words.width(), 22.0));
    let used = widgets::line(ui, upper, Align2::LEFT_CENTER, title, strong(15.5), tone.ink);
    let lower = Rect::from_min_max(pos2(words.left(), words.bottom() - 20.0), words.max);
    widgets::line(ui, lower, Align2::LEFT_CENTER, text, regular(14.0), p.text);
    let response = ui.interact(used, ui.scope_id().with(("bar", icon as u8)), Sense::hover());
    ui.ctx().accesskit_node_builder(response.id, |node| {
        node.set_live(egui::accesskit::Live::Polite);
        node.set_value(title.to_owned());
    });
    room.min.y = rect.bottom() + 10.0;
    pressed
}

#[cfg(test)]
mod tests {
    use super::super::line_view::tests::{World, harness, press};
    use super::super::scripted::{self, Scene, scene};
    use super::*;
    use crate::failure::Failure;
    use crate::line::Step;
    use egui::Key;
    use egui_kittest::{Harness, kittest::Queryable};
    use std::time::Instant;

    fn waiting(problem: Option<FailureCode>, labels: u32) -> Harness<'static, World> {
        let now = Instant::now();
        let mut s = scene(Scene::Ready(2), now);
        let mut fixture = scripted::running(2, Step::Label, "stick the label on and scan it", 0.6, now, 40);
        if let Some(running) = &mut fixture.running {
            let problem = problem.map(|code| Failure::new(code, "character 1 is \"4\""));
            running.scan = Some(ScanView { serial: "KW429-01042".into(), labels, problem });
        }
        s.fixtures[1] = fixture;
        if let Some((_, order)) = &mut s.batch {
            order.label = crate::model::LabelPolicy::ScanBack;
        }
        harness(s)
    }

    fn type_in(h: &mut Harness<'static, World>, text: &str) {
        for c in text.chars() {
            h.event(egui::Event::Text(c.to_string()));
        }
        h.run();
    }

    #[test]
    fn a_scan_goes_to_the_unit_that_waits_and_its_digits_start_nothing() {
        let code = "KW1:KW429-01042:12";
        let mut h = waiting(None, 1);
        h.get_by_label("Scan the label of KW429-01042");
        h.get_by_label("Fixture 2: stick it on, then scan it");
        h.get_by_label("Label: in work");
        type_in(&mut h, code);
        h.get_by_label("Fixture 2: KW1:KW429-01042:12");
        press(&mut h, &[Key::Enter]);
        assert_eq!(h.state_mut().take(), [Command::Scan(code.into())]);
        press(&mut h, &[Key::Enter]);
        assert_eq!(h.state_mut().take(), [], "nothing was scanned");
        scan(&mut h, code);
        assert_eq!(h.state_mut().take(), [Command::Scan(code.into())]);
    }

    /// A label may wait for minutes: the line goes on meanwhile.
    #[test]
    fn a_persons_keys_act_while_a_label_waits() {
        let mut h = waiting(None, 1);
        press(&mut h, &[Key::Num1]);
        assert_eq!(h.state_mut().take(), [Command::Start(0)]);
        press(&mut h, &[Key::Space]);
        assert_eq!(h.state_mut().take(), [Command::Start(0)]);
        // A key that was pressed by mistake does not spoil the scan that follows.
        scan(&mut h, "KW1:KW429-01042:12");
        assert_eq!(h.state_mut().take(), [Command::Scan("KW1:KW429-01042:12".into())]);
        press(&mut h, &[Key::ArrowRight, Key::Escape]);
        // Esc asks; see `line_ask`.
        press(&mut h, &[Key::Escape]);
        assert_eq!(h.state_mut().take(), []);
        h.get_by_label("Cancel the unit").click();
        h.run();
        assert_eq!(h.state_mut().take(), [Command::Cancel(1)]);
    }

    /// Whatever is on the screen, the label's scan goes to the unit that waits for it, and everybody sees that one waits.
    #[test]
    fn a_label_is_scanned_from_every_view_and_over_every_dialog() {
        type Put = fn(&mut super::super::line_view::ViewState);
        let places: [(&str, Put); 11] = [
            ("help", |v| v.help = true),
            ("alarms", |v| v.alarms = true),
            ("power cuts", |v| v.matrix = true),
            ("checks", |v| v.preflight.open = true),
            ("cancel", |v| v.line_ask = Some(LineAsk::Cancel { focused: false })),
            ("batches", |v| v.tab = Tab::Batches),
            ("exports", |v| v.tab = Tab::Exports),
            ("shift", |v| v.tab = Tab::Shift),
            ("trust", |v| v.tab = Tab::Trust),
            ("people", |v| v.tab = Tab::People),
            ("audit", |v| v.tab = Tab::Audit),
        ];
        // Letters and digits that mean something to the views below.
        let code = "kw1:te-1234:e1t2";
        for (place, put) in places {
            let mut h = waiting(None, 1);
            put(&mut h.state_mut().view);
            h.run();
            let before = format!("{:?}", h.state().view.shift);
            h.get_by_label("Scan the label of KW429-01042");
            scan(&mut h, code);
            assert_eq!(h.state_mut().take(), [Command::Scan(code.into())], "{place}");
            assert_eq!(format!("{:?}", h.state().view.shift), before, "{place}");
        }
    }

    #[test]
    fn a_scan_that_nothing_waits_for_acts_in_every_view_but_not_behind_a_dialog() {
        let mut h = on_the_line(false);
        for tab in [Tab::Shift, Tab::Batches, Tab::Trust] {
            h.state_mut().view.tab = tab;
            h.run();
            scan(&mut h, "B-2042");
            assert_eq!(h.state_mut().take(), [Command::SelectBatch("B-2042".into())], "{tab:?}");
        }
        h.state_mut().view.line_ask = Some(LineAsk::Cancel { focused: true });
        let now = Instant::now();
        h.state_mut().snapshot.fixtures[0] = scripted::running(1, Step::Flash, "writing app", 0.3, now, 4);
        h.run();
        scan(&mut h, "B-2042");
        assert_eq!(h.state_mut().take(), []);
        h.get_by_label_contains("Something was scanned. Close what is open");
    }

    /// Names that differ in capitals only were allowed once: the exact one is meant, and where none is, nobody guesses.
    #[test]
    fn a_scanned_batch_is_the_one_of_exactly_this_name() {
        let mut s = scene(Scene::Ready(1), Instant::now());
        let mut other = s.batches.iter().find(|b| b.name == "B-2042").unwrap().clone();
        other.name = "b-2042".into();
        s.batches.insert(0, other);
        let mut h = harness(s);
        for name in ["B-2042", "b-2042"] {
            scan(&mut h, name);
            assert_eq!(h.state_mut().take(), [Command::SelectBatch(name.into())]);
        }
        h.state_mut().snapshot.batches.retain(|b| b.name != "B-2042");
        for name in ["BX-1", "bX-1"] {
            let alike = crate::model::Batch { name: name.into(), ..h.state().snapshot.batches[0].clone() };
            h.state_mut().snapshot.batches.push(alike);
        }
        h.run();
        scan(&mut h, "bx-1");
        assert_eq!(h.state_mut().take(), []);
        h.get_by_label_contains("Several batches are named “bx-1”");
    }

    /// As a scanner types: keys and characters at once, then Enter.
    fn scan(h: &mut Harness<'static, World>, code: &str) {
        for c in code.chars() {
            if let Some(key) = Key::from_name(&c.to_string()) {
                for pressed in [true, false] {
                    let modifiers = egui::Modifiers::NONE;
                    h.event(egui::Event::Key { key, physical_key: None, pressed, repeat: false, modifiers });
                }
            }
            h.event(egui::Event::Text(c.to_string()));
        }
        h.key_press(Key::Enter);
        h.run();
    }

    fn on_the_line(focused: bool) -> Harness<'static, World> {
        let mut h = harness(scene(Scene::Ready(4), Instant::now()));
        if focused {
            press(&mut h, &[Key::ArrowRight]);
        }
        h
    }

    #[test]
    fn a_scan_on_the_line_starts_nothing_and_chooses_the_batch_it_names() {
        for focused in [false, true] {
            let mut h = on_the_line(focused);
            scan(&mut h, "b-2042");
            assert_eq!(h.state_mut().take(), [Command::SelectBatch("B-2042".into())]);
            h.get_by_label("Batch B-2042 was scanned and chosen");
            scan(&mut h, "B-2041");
            assert_eq!(h.state_mut().take(), []);
            h.get_by_label("Batch B-2041 is chosen already");
            scan(&mut h, "123456789");
            scan(&mut h, "12");
            assert_eq!(h.state_mut().take(), [], "digits of a code start nothing");
            scan(&mut h, "https://4.example/?1 2 3");
            assert_eq!(h.state_mut().take(), []);
        }
    }

    #[test]
    fn a_persons_digits_still_start_fixtures_one_after_the_other() {
        let mut h = on_the_line(false);
        for key in [Key::Num2, Key::Num3] {
            h.key_press(key);
        }
        h.run();
        assert_eq!(h.state_mut().take(), [Command::Start(1), Command::Start(2)]);
        // A code without an end is nothing.
        type_in(&mut h, "1234");
        for _ in 0..60 {
            h.step();
        }
        press(&mut h, &[Key::Enter]);
        assert_eq!(h.state_mut().take(), []);
    }

    #[test]
    fn a_units_code_on_the_line_has_its_history_offered_to_who_may_see_it() {
        let code = LabelCode::new("KW429-01042", &"a1".repeat(32)).expect("a code").to_string();
        for by_key in [true, false] {
            let mut h = on_the_line(false);
            scan(&mut h, &code);
            assert_eq!(h.state_mut().take(), []);
            h.get_by_label("KW429-01042 was scanned");
            if by_key {
                press(&mut h, &[Key::F2]);
            } else {
                h.get_by_label("Show the history of what was scanned").click();
                h.run();
            }
            assert_eq!(h.state_mut().take_desk(), [desk::Command::Find(code.clone())]);
            assert_eq!(h.state().view.tab, Tab::Units);
        }
        let mut h = on_the_line(false);
        let who = crate::people::Who { id: 1, name: "Tom".into(), role: crate::people::Role::Technician };
        h.state_mut().people.gate = crate::people::office::Gate::People { who: Some(who), locked: false };
        h.run();
        scan(&mut h, &code);
        h.get_by_label_contains("KW429-01042 is not a batch");
        press(&mut h, &[Key::F2]);
        assert_eq!(h.state_mut().take_desk(), []);
    }

    #[test]
    fn a_scan_into_the_batch_list_takes_the_batch_it_names_whatever_else_matches() {
        let mut s = scene(Scene::Ready(1), Instant::now());
        let mut longer = s.batches[0].clone();
        longer.name = "B-20421".into();
        s.batches.insert(0, longer);
        let mut h = harness(s);
        h.key_press_modifiers(egui::Modifiers::COMMAND, Key::B);
        h.run();
        h.run();
        scan(&mut h, "B-2042");
        assert_eq!(h.state_mut().take(), [Command::SelectBatch("B-2042".into())]);
    }

    #[test]
    fn what_is_no_label_is_said_and_a_spoilt_one_is_printed_again() {
        let mut h = waiting(Some(FailureCode::LabelUnreadable), 2);
        h.get_by_label_contains("That is no code of a label: character 1");
        h.get_by_label("Print the label of KW429-01042 again").click();
        h.run();
        assert_eq!(h.state_mut().take(), [Command::PrintAgain]);
        let h = waiting(None, 2);
        h.get_by_label_contains("label 2: take the old ones off");
    }
}
