//! The word about a session that did not end well: when, what was in work, where its report is; and the way back to the batch.

use super::icons::{self, Icon};
use super::line_view::ViewState;
use super::shell::Asked;
use super::theme::{palette, regular, strong};
use super::widgets::{self, Button, Loud};
use crate::host;
use crate::i18n::{self, tr};
use crate::line::{Command, Snapshot};
use crate::station::LeftBehind;
use egui::{Align2, Rect, Stroke, StrokeKind, Ui, pos2, vec2};

/// Units that are named; the rest are counted.
const NAMED: usize = 4;

fn units(left: &LeftBehind) -> String {
    if left.units.is_empty() {
        return tr!("resume-no-units").into();
    }
    let named: Vec<_> = left
        .units
        .iter()
        .take(NAMED)
        .map(|(fixture, serial)| match serial {
            Some(serial) => tr!("resume-unit", fixture = fixture.as_str(), serial = serial.as_str()),
            None => tr!("resume-unit-unknown", fixture = fixture.as_str()),
        })
        .collect();
    let more = left.units.len().saturating_sub(NAMED);
    let list = named.join(tr!("resume-between"));
    if more > 0 {
        tr!("resume-units-more", list = list, more = more)
    } else {
        tr!("resume-units", list = list)
    }
}

/// Takes its room off the top, while there is something to say.
pub(super) fn show(ui: &mut Ui, room: &mut Rect, line: &Snapshot, view: &mut ViewState, out: &mut Asked) {
    let snapshot = view.host.clone();
    let Some(left) = &snapshot.left_behind else { return };
    let p = palette(ui.ctx());
    let chosen = line.batch.as_ref().map(|(batch, _)| batch.name.as_str());
    let batch = left.batch.as_deref();
    let offered = batch.filter(|name| Some(*name) != chosen && line.batches.iter().any(|b| b.name == *name));
    let height = if left.report.is_some() { 108.0 } else { 84.0 };
    let rect = Rect::from_min_size(room.min, vec2(room.width(), height));
    ui.painter().rect(rect, 10.0, p.error.soft, Stroke::new(1.0, p.error.solid), StrokeKind::Inside);
    let icon = Rect::from_center_size(pos2(rect.left() + 26.0, rect.top() + 24.0), vec2(22.0, 22.0));
    icons::paint(ui.painter(), icon, Icon::Warning, p.error.ink, p.error.soft, 0.0);
    let mut right = rect.right() - 12.0;
    let mut button = |ui: &mut Ui, text: &str, loud: Loud| {
        let button = Button { text, name: text, icon: None, loud, enabled: true, size: 14.0 };
        let width = button.width(ui);
        let place = Rect::from_min_size(pos2(right - width, rect.top() + 10.0), vec2(width, 34.0));
        right = place.left() - 10.0;
        button.show(ui, place).clicked()
    };
    if button(ui, tr!("resume-understood"), Loud::Quiet) {
        out.host.push(host::Command::Understood);
    }
    if let Some(name) = offered
        && button(ui, &tr!("resume-batch", name = name), Loud::Primary)
    {
        out.line.push(Command::SelectBatch(name.to_owned()));
        out.host.push(host::Command::Understood);
    }
    let text = rect.left() + 50.0;
    let row = |top: f32, right: f32| {
        Rect::from_min_size(pos2(text, rect.top() + top), vec2((right - text).max(80.0), 24.0))
    };
    let at = i18n::date_time(left.started_at_ms);
    let title = match batch {
        Some(name) => tr!("resume-title-batch", at = at, name = name),
        None => tr!("resume-title", at = at),
    };
    widgets::line(ui, row(14.0, right), Align2::LEFT_CENTER, &title, strong(15.5), p.error.ink);
    let units = format!("{} {}", units(left), tr!("resume-safe"));
    widgets::line(ui, row(48.0, rect.right() - 14.0), Align2::LEFT_CENTER, &units, regular(14.5), p.text);
    if let Some(report) = &left.report {
        let copy = Button {
            text: tr!("resume-copy"),
            name: tr!("resume-copy"),
            icon: Some(Icon::Copy),
            loud: Loud::Quiet,
            enabled: true,
            size: 13.0,
        };
        let width = copy.width(ui);
        let place =
            Rect::from_min_size(pos2(rect.right() - 12.0 - width, rect.bottom() - 34.0), vec2(width, 28.0));
        let path = report.display().to_string();
        let words = tr!("resume-report", path = path.as_str());
        widgets::line(ui, row(75.0, place.left() - 8.0), Align2::LEFT_CENTER, &words, regular(13.5), p.muted);
        if copy.show(ui, place).clicked() {
            ui.ctx().copy_text(path);
            view.notice = Some(tr!("copied").into());
        }
    }
    room.min.y = rect.bottom() + 10.0;
}

#[cfg(test)]
mod tests {
    use super::super::line_view::tests::harness;
    use super::super::scripted::{Scene, scene};
    use super::*;
    use crate::host::Snapshot as HostSnapshot;
    use crate::i18n::Language;
    use egui_kittest::kittest::Queryable as _;
    use std::sync::Arc;
    use std::time::Instant;

    fn left() -> LeftBehind {
        LeftBehind {
            started_at_ms: 1_790_000_000_000,
            batch: Some("B-2042".into()),
            units: vec![("left".into(), Some("KW429-01041".into())), ("right".into(), None)],
            report: Some("/home/line/keywright/logs/crash-x.txt".into()),
        }
    }

    #[test]
    fn a_session_that_ended_badly_is_told_with_its_units_and_its_report_until_it_was_read() {
        let mut h = harness(scene(Scene::Ready(2), Instant::now()));
        h.state_mut().view.host =
            Arc::new(HostSnapshot { left_behind: Some(left()), ..HostSnapshot::default() });
        h.run();
        h.get_by_label_contains("it worked on batch B-2042");
        h.get_by_label_contains("left (KW429-01041), right (serial not known yet)");
        h.get_by_label_contains("/home/line/keywright/logs/crash-x.txt");
        h.get_by_label("Copy the path of the report").click();
        h.run();
        h.get_by_label_contains("Copied");
        h.get_by_label("Choose B-2042 again").click();
        h.run();
        assert_eq!(h.state_mut().take(), [Command::SelectBatch("B-2042".into())]);
        assert!(matches!(h.state_mut().asked_host()[..], [host::Command::Understood]));
        h.state_mut().view.host = Arc::default();
        h.run();
        assert!(h.query_by_label_contains("B-2042 again").is_none());
    }

    #[test]
    fn a_batch_that_is_chosen_already_is_not_offered_and_chinese_is_spoken() {
        let mut h = harness(scene(Scene::Ready(1), Instant::now()));
        let told = LeftBehind { batch: Some("B-2041".into()), units: Vec::new(), report: None, ..left() };
        h.state_mut().view.host =
            Arc::new(HostSnapshot { left_behind: Some(told), ..HostSnapshot::default() });
        h.state_mut().view.language = Language::Chinese;
        h.run();
        h.get_by_label_contains("当时正在处理批次 B-2041");
        assert!(h.query_by_label_contains("重新选择").is_none());
        h.get_by_label("知道了").click();
        h.run();
        assert!(matches!(h.state_mut().asked_host()[..], [host::Command::Understood]));
    }
}
