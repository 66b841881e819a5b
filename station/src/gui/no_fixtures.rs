//! A line without fixtures: what to do, and what goes on by itself meanwhile.

use super::icons::{self, Icon};
use super::line_view::ViewState;
use super::settings_view::Wish;
use super::theme::{Palette, regular, strong};
use super::widgets::{self, Button, Loud};
use crate::host;
use crate::i18n::{self, tr};
use crate::line::Snapshot;
use egui::{Align2, Rect, Stroke, StrokeKind, Ui, pos2, vec2};

/// The card in the middle of the line's room.
pub(super) fn show(ui: &mut Ui, room: Rect, snapshot: &Snapshot, view: &mut ViewState, p: &Palette) {
    let size = vec2(680.0_f32.min(room.width()), 300.0_f32.min(room.height()));
    let card = Rect::from_center_size(room.center(), size);
    ui.painter().rect(card, 16.0, p.surface, Stroke::new(1.0, p.border), StrokeKind::Inside);
    let icon = Rect::from_center_size(pos2(card.center().x, card.top() + 46.0), vec2(44.0, 44.0));
    icons::paint(ui.painter(), icon, Icon::Empty, p.muted, p.surface, 0.0);
    let slice = |top: f32, height: f32| {
        Rect::from_min_size(pos2(card.left() + 24.0, card.top() + top), vec2(card.width() - 48.0, height))
    };
    let title = tr!("line-no-fixtures");
    widgets::line(ui, slice(76.0, 34.0), Align2::CENTER_CENTER, title, strong(23.0), p.text);
    let why = match &snapshot.no_fixtures {
        Some(failure) => {
            let (sentence, remedy) = i18n::failure(failure);
            format!("{} {sentence}\n{remedy}", failure.code)
        }
        None => tr!("line-no-fixtures-text").to_owned(),
    };
    widgets::block(ui, slice(112.0, 62.0), Align2::CENTER_TOP, &why, regular(15.0), p.text, 3);
    let text = if view.has_host { tr!("line-no-fixtures-looks") } else { tr!("line-no-fixtures-doctor") };
    // In the smallest windows the buttons come right below the reason.
    if card.height() > 290.0 {
        widgets::block(ui, slice(180.0, 40.0), Align2::CENTER_TOP, text, regular(14.0), p.muted, 2);
    }
    if !view.has_host {
        return;
    }
    let buttons = [
        (tr!("line-no-fixtures-guide"), Loud::Primary),
        (tr!("line-no-fixtures-look"), Loud::Quiet),
        (tr!("line-no-fixtures-settings"), Loud::Quiet),
    ]
    .map(|(text, loud)| Button { text, name: text, icon: None, loud, enabled: true, size: 14.5 });
    let widths = buttons.map(|button| button.width(ui));
    let all: f32 = widths.iter().sum::<f32>() + 20.0;
    let mut left = card.center().x - all / 2.0;
    for (i, (button, width)) in buttons.into_iter().zip(widths).enumerate() {
        let place = Rect::from_min_size(pos2(left, card.bottom() - 62.0), vec2(width, 38.0));
        left = place.right() + 10.0;
        if !button.show(ui, place).clicked() {
            continue;
        }
        match i {
            0 => view.host_asks.push(host::Command::Guide),
            1 => {
                view.host_asks.push(host::Command::Look);
                view.notice = Some(tr!("line-no-fixtures-looked").into());
            }
            _ => view.settings_asks.push(Wish::Open),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::line_view::tests::{harness, press};
    use super::super::scripted::{Scene, scene};
    use super::*;
    use crate::failure::{Failure, FailureCode};
    use egui::Key;
    use egui_kittest::kittest::Queryable as _;
    use std::time::Instant;

    #[test]
    fn a_line_without_fixtures_says_why_and_offers_what_helps() {
        let mut snapshot = scene(Scene::NoFixtures, Instant::now());
        snapshot.no_fixtures = Some(Failure::new(FailureCode::NoProbe, "is it plugged in?"));
        let mut h = harness(snapshot);
        h.state_mut().view.has_host = true;
        h.run();
        h.get_by_label("No fixtures");
        h.get_by_label_contains("K101 No debug probe found: is it plugged in?");
        h.get_by_label("Look again").click();
        h.run();
        assert!(matches!(h.state_mut().asked_host()[..], [host::Command::Look]));
        h.get_by_label_contains("Nothing new yet");
        // By the keyboard alone.
        let mut reached = false;
        for _ in 0..30 {
            press(&mut h, &[Key::Tab]);
            if h.get_by_label("Name fixtures…").is_focused() {
                reached = true;
                press(&mut h, &[Key::Enter]);
                break;
            }
        }
        assert!(reached && matches!(h.state_mut().asked_host()[..], [host::Command::Guide]));
    }
}
