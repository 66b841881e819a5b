//! Whether the station is ready for the chosen batch, above the tiles: what fails with what to do about it, what is worth a word, and a
//! short word when all is well.

use super::batches_view;
use super::icons::{self, Icon};
use super::line_view::ViewState;
use super::scan_view::{bar, button};
use super::shell::{Asked, Seen};
use super::theme::{Palette, Tone, palette, regular, strong};
use super::units_view;
use super::widgets::{self, Button, Loud};
use crate::i18n::{self, tr};
use crate::line::{Command, PreflightView, Snapshot};
use crate::people::Right;
use crate::preflight::{Check, Name, Status};
use egui::{Align2, Key, Rect, Stroke, StrokeKind, Ui, pos2, vec2};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the word that all is well stays.
const FINE_FOR: Duration = Duration::from_secs(6);

/// What the window remembers of the preflight.
#[derive(Clone, Debug, Default)]
pub struct PreflightState {
    /// The list of checks is open.
    pub open: bool,
    /// What was seen last, and when it was new.
    seen: Option<(Arc<Vec<Check>>, Instant)>,
    /// The warnings of what was seen last were put away.
    hidden: bool,
    /// A test label was asked for from the list of checks: what came of it is said there.
    tested: bool,
}

impl PreflightState {
    /// Takes in the newest snapshot: what is new is shown anew.
    fn observe(&mut self, preflight: &PreflightView, now: Instant) {
        let known = self.seen.as_ref().is_some_and(|(checks, _)| **checks == *preflight.checks);
        if !known {
            self.seen = Some((preflight.checks.clone(), now));
            self.hidden = false;
        }
    }

    fn is_new(&self, now: Instant) -> bool {
        self.seen.as_ref().is_some_and(|(_, at)| now.saturating_duration_since(*at) < FINE_FOR)
    }
}

/// What a check looks at, in words.
pub(super) fn name(name: Name) -> &'static str {
    match name {
        Name::Home => tr!("check-home"),
        Name::Disk => tr!("check-disk"),
        Name::Config => tr!("check-config"),
        Name::Database => tr!("check-database"),
        Name::Passphrase => tr!("check-passphrase"),
        Name::Anchors => tr!("check-anchors"),
        Name::Signing => tr!("check-signing"),
        Name::Image => tr!("check-image"),
        Name::ProductKey => tr!("check-product-key"),
        Name::Agent => tr!("check-agent"),
        Name::Broker => tr!("check-broker"),
        Name::Label => tr!("check-label"),
        Name::Lock => tr!("check-lock"),
        Name::Fixtures => tr!("check-fixtures"),
        Name::Probe => tr!("check-probe"),
        Name::Port => tr!("check-port"),
        Name::Backup => tr!("check-backup"),
        Name::Clock => tr!("check-clock"),
    }
}

/// Sentence and remedy of a check that is not in order, in the window's language.
pub(super) fn words(check: &Check) -> (String, String) {
    match &check.failure {
        Some(failure) => {
            let (sentence, remedy) = i18n::failure(failure);
            (format!("{} {sentence}", failure.code), remedy)
        }
        None => (check.detail.clone(), check.remedy.clone().unwrap_or_default()),
    }
}

/// What keeps every fixture from starting, in one sentence.
pub(super) fn refusal(snapshot: &Snapshot) -> Option<String> {
    if snapshot.preflight.checking {
        return None;
    }
    let check = snapshot.preflight.checks.iter().find(|c| c.fails() && c.fixture.is_none())?;
    let (sentence, remedy) = words(check);
    Some(tr!("start-check", sentence = sentence, remedy = remedy))
}

/// The bar above the tiles, and the list it opens.
pub(super) fn show(ui: &mut Ui, room: &mut Rect, seen: Seen<'_>, view: &mut ViewState, out: &mut Asked) {
    let p = palette(ui.ctx());
    let snapshot = seen.line;
    let Some((batch, _)) = &snapshot.batch else { return };
    let preflight = &snapshot.preflight;
    view.preflight.observe(preflight, view.now);
    let first = preflight.with(Status::Fail).next();
    let failed = preflight.with(Status::Fail).count();
    let warned = preflight.with(Status::Warn).count();
    let off = seen.people.refusal(Right::RunLine);
    let again = button(
        tr!("check-again"),
        tr!("check-again-name"),
        Loud::Primary,
        !preflight.checking && off.is_none(),
    );
    let list = button(tr!("check-list"), tr!("check-list-name"), Loud::Quiet, true);
    if let Some(check) = first {
        let (sentence, remedy) = words(check);
        let of = check.fixture.and_then(|i| snapshot.fixtures.get(i)).map(|f| f.name.as_str());
        let title = match of {
            Some(fixture) => tr!("check-failed-fixture", fixture = fixture, sentence = sentence),
            None => tr!("check-failed", name = name(check.name), sentence = sentence),
        };
        let mut text = remedy;
        if preflight.checking {
            text = tr!("check-looks-again", remedy = text);
        } else if failed > 1 {
            text = tr!("check-more", remedy = text, more = failed - 1);
        }
        match bar(ui, room, p.error, Icon::Stop, (&title, &text), &[(list, None), (again, None)], p) {
            Some(0) => (view.preflight.open, view.preflight.tested) = (true, false),
            Some(_) => out.line.push(Command::CheckAgain),
            None => {}
        }
    } else if preflight.checking {
        let held = snapshot.fixtures.iter().filter(|f| f.held && !f.waits_for_sample).count();
        let text = match held {
            0 => tr!("check-looks-text").to_owned(),
            n => tr!("check-looks-held", count = n),
        };
        bar(ui, room, p.running, Icon::Turning, (tr!("check-looks"), &text), &[], p);
    } else if let Some(check) = preflight.with(Status::Warn).next().filter(|_| !view.preflight.hidden) {
        let (sentence, remedy) = words(check);
        let title = tr!("check-warned", count = warned, name = name(check.name), sentence = sentence);
        let hide = button(tr!("check-hide"), tr!("check-hide-name"), Loud::Quiet, true);
        match bar(ui, room, p.timeout, Icon::Warning, (&title, &remedy), &[(list, None), (hide, None)], p) {
            Some(0) => (view.preflight.open, view.preflight.tested) = (true, false),
            Some(_) => view.preflight.hidden = true,
            None => {}
        }
    } else if !preflight.checks.is_empty() && warned == 0 && view.preflight.is_new(view.now) {
        let text = tr!("check-fine", count = preflight.checks.len(), batch = batch.name.as_str());
        fine(ui, room, &text, p);
        ui.ctx().request_repaint_after(FINE_FOR);
    }
    if view.preflight.open {
        checks(ui, seen, view, out, p);
    }
}

/// All is well: a slim line that goes by itself.
fn fine(ui: &mut Ui, room: &mut Rect, text: &str, p: &Palette) {
    let rect = Rect::from_min_size(room.min, vec2(room.width(), 30.0));
    ui.painter().rect(rect, 8.0, p.pass.soft, Stroke::new(1.0, p.pass.solid), StrokeKind::Inside);
    let square = Rect::from_center_size(pos2(rect.left() + 20.0, rect.center().y), vec2(16.0, 16.0));
    icons::paint(ui.painter(), square, Icon::Check, p.pass.ink, p.pass.soft, 0.0);
    let words = Rect::from_min_max(pos2(square.right() + 10.0, rect.top()), rect.max);
    widgets::line(ui, words, Align2::LEFT_CENTER, text, strong(14.0), p.pass.ink);
    room.min.y = rect.bottom() + 8.0;
}

/// Every check with what was found.
fn checks(ui: &mut Ui, seen: Seen<'_>, view: &mut ViewState, out: &mut Asked, p: &Palette) {
    let snapshot = seen.line;
    let preflight = &snapshot.preflight;
    let screen = ui.ctx().content_rect().size();
    let mut asked = None;
    let modal = widgets::modal(ui, "preflight", p, |ui| {
        let width = 760.0_f32.min(screen.x - 120.0);
        ui.set_width(width);
        ui.spacing_mut().item_spacing.y = 6.0;
        let (r, _) = ui.allocate_exact_size(vec2(width, 32.0), egui::Sense::hover());
        let batch = snapshot.batch.as_ref().map_or("", |(b, _)| b.name.as_str());
        widgets::line(ui, r, Align2::LEFT_CENTER, &tr!("check-title", batch = batch), strong(20.0), p.text);
        egui::ScrollArea::vertical().max_height((screen.y - 220.0).max(160.0)).show(ui, |ui| {
            let width = ui.available_width();
            // What is wrong first.
            let mut sorted: Vec<&Check> = preflight.checks.iter().collect();
            sorted.sort_by_key(|c| match c.status {
                Status::Fail => 0,
                Status::Warn => 1,
                Status::Ok => 2,
            });
            for check in sorted {
                row(ui, width, check, snapshot, p);
            }
        });
        if view.preflight.tested {
            let (mut r, _) = ui.allocate_exact_size(vec2(width, 62.0), egui::Sense::hover());
            units_view::told(ui, &mut r, &seen.desk.told, p);
        }
        let (foot, _) = ui.allocate_exact_size(vec2(width, 40.0), egui::Sense::hover());
        let mut right = foot.right();
        let off = seen.people.refusal(Right::RunLine);
        // Whoever sets up the printer sees what comes out of it, without an order and without a unit.
        let prints = batches_view::test_label_off(seen);
        for (n, (text, loud, enabled)) in [
            (tr!("check-again"), Loud::Primary, !preflight.checking && off.is_none()),
            (tr!("check-close"), Loud::Quiet, true),
            (tr!("batches-test-label"), Loud::Quiet, prints.is_none()),
        ]
        .into_iter()
        .enumerate()
        {
            let button = Button { text, name: text, icon: None, loud, enabled, size: 14.5 };
            let w = button.width(ui);
            let place = Rect::from_min_size(pos2(right - w, foot.top() + 4.0), vec2(w, 34.0));
            let response = button.show(ui, place);
            if widgets::say_why(ui, response, prints.filter(|_| n == 2)).clicked() {
                asked = Some(n);
            }
            right = place.left() - 8.0;
        }
        let keys = Rect::from_min_max(foot.min, pos2(right, foot.bottom()));
        let text = if preflight.checking { tr!("check-looks") } else { tr!("check-keys") };
        widgets::line(ui, keys, Align2::LEFT_CENTER, text, regular(13.0), p.muted);
    });
    let again = !preflight.checking && seen.people.refusal(Right::RunLine).is_none();
    if again && ui.input(|i| i.key_pressed(Key::F5)) {
        out.line.push(Command::CheckAgain);
    }
    match asked {
        Some(0) => out.line.push(Command::CheckAgain),
        Some(1) => view.preflight.open = false,
        Some(_) => {
            view.preflight.tested = true;
            batches_view::test_label(seen, out);
        }
        None if modal.should_close() => view.preflight.open = false,
        None => {}
    }
}

fn row(ui: &mut Ui, width: f32, check: &Check, snapshot: &Snapshot, p: &Palette) {
    let (tone, icon, word): (Tone, Icon, &str) = match check.status {
        Status::Ok => (p.pass, Icon::Check, tr!("check-ok")),
        Status::Warn => (p.timeout, Icon::Warning, tr!("check-warn")),
        Status::Fail => (p.error, Icon::Stop, tr!("check-fail")),
    };
    let height = if check.status == Status::Ok { 30.0 } else { 62.0 };
    let (r, _) = ui.allocate_exact_size(vec2(width, height), egui::Sense::hover());
    if check.status != Status::Ok {
        ui.painter().rect(r, 8.0, tone.soft, Stroke::new(1.0, tone.solid), StrokeKind::Inside);
    }
    let inner = r.shrink2(vec2(10.0, 4.0));
    let upper = Rect::from_min_size(inner.min, vec2(inner.width(), 22.0));
    let chip = widgets::chip(ui, pos2(upper.left(), upper.center().y), word, Some(icon), tone, 12.5);
    let of = check.fixture.and_then(|i| snapshot.fixtures.get(i)).map(|f| f.name.as_str());
    let what = match of {
        Some(fixture) => tr!("check-of-fixture", fixture = fixture, name = name(check.name)),
        None => name(check.name).to_owned(),
    };
    let left = (chip.right() + 10.0).max(inner.left() + 96.0);
    let heads = Rect::from_min_max(pos2(left, upper.top()), pos2(left + 190.0, upper.bottom()));
    widgets::line(ui, heads, Align2::LEFT_CENTER, &what, strong(14.0), p.text);
    let rest = Rect::from_min_max(pos2(heads.right() + 8.0, upper.top()), upper.max);
    if check.status == Status::Ok {
        widgets::line(ui, rest, Align2::LEFT_CENTER, &check.detail, regular(13.5), p.muted);
        return;
    }
    let (sentence, remedy) = words(check);
    widgets::line(ui, rest, Align2::LEFT_CENTER, &sentence, regular(13.5), tone.ink);
    let lower = Rect::from_min_max(pos2(left, upper.bottom() + 4.0), inner.max);
    let arrow = Rect::from_min_size(pos2(lower.left(), lower.top() + 4.0), vec2(13.0, 13.0));
    icons::paint(ui.painter(), arrow, Icon::Arrow, p.text, tone.soft, 0.0);
    let lower = Rect::from_min_max(pos2(arrow.right() + 6.0, lower.top()), lower.max);
    widgets::block(ui, lower, Align2::LEFT_TOP, &remedy, strong(13.5), p.text, 2);
}

/// Keys of the preflight, for the line: true if the line's own must not see what was pressed.
pub(super) fn keys(ui: &Ui, seen: Seen<'_>, view: &mut ViewState, out: &mut Vec<Command>) -> bool {
    let pressed = |key: Key| ui.input(|i| i.key_pressed(key));
    if pressed(Key::F5)
        && seen.line.batch.is_some()
        && !seen.line.preflight.checking
        && seen.people.refusal(Right::RunLine).is_none()
    {
        out.push(Command::CheckAgain);
    }
    if pressed(Key::F6) && !seen.line.preflight.checks.is_empty() {
        (view.preflight.open, view.preflight.tested) = (true, false);
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::line_view::tests::{World, harness, press};
    use super::super::scripted::{Scene, checked, scene};
    use super::*;
    use crate::failure::{Failure, FailureCode};
    use crate::i18n::Language;
    use egui_kittest::{Harness, kittest::NodeT, kittest::Queryable};

    fn with(checks: Vec<Check>, checking: bool) -> Harness<'static, World> {
        let mut s = scene(Scene::Ready(2), Instant::now());
        s.preflight = PreflightView { checking, checks: Arc::new(checks) };
        harness(s)
    }

    #[test]
    fn a_check_that_fails_is_named_with_its_remedy_and_starts_are_refused() {
        let mut h = with(
            vec![checked(Name::Clock, None, None), checked(Name::Disk, Some(FailureCode::DiskFull), None)],
            false,
        );
        h.get_by_label("Disk space: K705 The disk of the station's folder is nearly full: 12 MiB");
        h.get_by_label("Free some space on the disk of the home folder");
        press(&mut h, &[Key::Num1, Key::Space]);
        assert_eq!(h.state_mut().take(), []);
        h.get_by_label_contains("A check failed: K705");
        assert!(h.get_by_label("Start Fixture 1").accesskit_node().is_disabled());
        assert_eq!(h.get_all_by_label("Waits: a check failed").count(), 2);
        h.get_by_label("Look at the station again").click();
        h.run();
        press(&mut h, &[Key::F5]);
        assert_eq!(h.state_mut().take(), [Command::CheckAgain, Command::CheckAgain]);
    }

    #[test]
    fn what_is_wrong_with_one_fixture_stops_that_one_only() {
        let mut h = with(vec![checked(Name::Port, Some(FailureCode::PortMissing), Some(1))], false);
        h.get_by_label("Fixture 2: K301 The serial port is not there: 12 MiB");
        press(&mut h, &[Key::Space]);
        assert_eq!(h.state_mut().take(), [Command::Start(0)]);
        press(&mut h, &[Key::Num2]);
        assert_eq!(h.state_mut().take(), []);
    }

    #[test]
    fn while_it_is_looked_at_a_start_waits_and_is_told_so() {
        let mut h = with(Vec::new(), true);
        h.get_by_label("Looking at the station before the first board");
        press(&mut h, &[Key::Num1]);
        assert_eq!(h.state_mut().take(), [Command::Start(0)]);
        h.state_mut().snapshot.fixtures[0].held = true;
        h.run();
        h.get_by_label("1 fixture starts as soon as all is well");
        h.get_by_label("Starts after the checks");
        press(&mut h, &[Key::Num1]);
        assert_eq!(h.state_mut().take(), [], "once is enough");
    }

    #[test]
    fn all_is_well_is_said_for_a_moment_and_warnings_until_they_are_put_away() {
        let mut h = with(vec![checked(Name::Clock, None, None)], false);
        h.get_by_label("Ready for B-2041: 1 check, nothing wrong");
        let later = h.state().view.now + FINE_FOR;
        h.state_mut().view.now = later;
        h.run();
        assert!(h.query_by_label_contains("Ready for B-2041").is_none());
        let mut h = with(vec![checked(Name::Lock, Some(FailureCode::UnitsStayOpen), None)], false);
        let checks = Arc::make_mut(&mut h.state_mut().snapshot.preflight.checks);
        checks[0].status = Status::Warn;
        h.run();
        h.get_by_label_contains("1 warning. Lock: K708");
        press(&mut h, &[Key::Num1]);
        assert_eq!(h.state_mut().take(), [Command::Start(0)], "work may begin");
        h.get_by_label("Put the warnings away").click();
        h.run();
        assert!(h.query_by_label_contains("1 warning").is_none());
    }

    /// A technician has no Batches view, and sets the printer up all the same.
    #[test]
    fn a_test_label_is_printed_from_the_list_of_checks() {
        let mut h = with(vec![checked(Name::Clock, None, None)], false);
        h.state_mut().desk.office.printer = Some(Ok("zebra:9100".into()));
        press(&mut h, &[Key::F6]);
        h.get_by_label("Print a test label").click();
        h.run();
        let operator = "Ana Petrović".into();
        let wanted = crate::desk::Command::Office(crate::office::Command::TestLabel { operator });
        assert_eq!(h.state_mut().take_desk(), [wanted]);
        h.state_mut().desk.told =
            crate::desk::Told::Failed(Failure::new(FailureCode::PrintFailed, "out of paper"));
        h.run();
        h.get_by_label_contains("out of paper");
    }

    #[test]
    fn the_list_of_checks_opens_by_key_in_both_languages_and_starts_nothing() {
        for (language, title) in
            [(Language::English, "Checks for B-2041"), (Language::Chinese, "批次 B-2041 的检查")]
        {
            let mut h = with(Name::ALL.iter().map(|n| checked(*n, None, None)).collect(), false);
            h.state_mut().view.language = language;
            press(&mut h, &[Key::F6]);
            h.get_by_label(title);
            press(&mut h, &[Key::Num1, Key::F5, Key::Escape]);
            assert!(h.query_by_label(title).is_none());
            assert_eq!(h.state_mut().take(), [Command::CheckAgain]);
        }
    }
}
