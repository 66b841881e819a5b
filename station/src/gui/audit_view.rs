//! The Audit view: what people did, newest first, and whether both histories are whole.
//!
//! Invariant: it shows what the office read, and asks again only when somebody asks.

use super::line_view::ViewState;
use super::people_view::{field, not_for, title_row, told};
use super::shell::{Asked, Seen};
use super::theme::{Palette, mono, regular, strong};
use super::widgets::{self, Button, Loud};
use super::{copy, said};
use crate::i18n::{self, tr};
use crate::people::Right;
use crate::people::office::{AUDIT_ROWS, Command};
use crate::records::{AuditFilter, Looked, Verified};
use egui::{Align2, Rect, Sense, Stroke, StrokeKind, Ui, UiBuilder, pos2, vec2};

/// What the window remembers of the audit log.
#[derive(Clone, Debug, Default)]
pub struct AuditState {
    /// What is looked for.
    pub filter: AuditFilter,
    /// The filter that was asked for last; `None`: nothing was.
    asked: Option<AuditFilter>,
}

/// A column's name, and its share of the width.
fn columns() -> [(&'static str, f32); 6] {
    [
        (tr!("audit-row"), 0.06),
        (tr!("audit-when"), 0.16),
        (tr!("audit-person"), 0.15),
        (tr!("audit-action"), 0.15),
        (tr!("audit-subject"), 0.16),
        (tr!("audit-facts"), 0.32),
    ]
}
const ROW: f32 = 26.0;

/// The view below the header.
pub(super) fn body(
    ui: &mut Ui,
    mut room: Rect,
    seen: Seen<'_>,
    view: &mut ViewState,
    out: &mut Asked,
    p: &Palette,
) {
    if let Some(why) = seen.people.refusal(Right::ReadAudit) {
        not_for(ui, room, tr!("audit-title"), why, p);
        return;
    }
    let looks = seen.people.verifying.is_some();
    let buttons = [
        (if looks { tr!("audit-stop") } else { tr!("audit-verify") }, None),
        (tr!("audit-export"), seen.people.refusal(Right::ExportAudit)),
        (tr!("audit-again"), None),
    ];
    match title_row(ui, &mut room, tr!("audit-title"), &buttons, p) {
        Some(0) if looks => out.people.push(Command::StopVerify),
        Some(0) => out.people.push(Command::Verify),
        Some(1) => out.people.push(Command::Export),
        Some(_) => view.people.audit.asked = None,
        None => {}
    }
    match &seen.people.verifying {
        Some(looked) => progress(ui, &mut room, looked, p),
        None => told(ui, &mut room, &seen.people.told, p),
    }
    if let Some(found) = &seen.people.verified {
        places(ui, &mut room, found, p);
    }
    let fields = Rect::from_min_size(room.min, vec2(room.width(), 66.0));
    let state = &mut view.people.audit;
    let mut before = state.filter.before;
    let third = (fields.width() - 24.0) / 3.0;
    for (i, (name, text)) in [
        (tr!("audit-by-person"), &mut state.filter.person),
        (tr!("audit-by-action"), &mut state.filter.action),
        (tr!("audit-about"), &mut state.filter.subject),
    ]
    .into_iter()
    .enumerate()
    {
        let place = Rect::from_min_size(
            pos2(fields.left() + (third + 12.0) * i as f32, fields.top()),
            vec2(third, fields.height()),
        );
        ui.scope_builder(UiBuilder::new().max_rect(place).id_salt(("audit filter", i)), |ui| {
            if field(ui, name, text, false, false, p).changed() {
                // Another question begins with its newest answers.
                before = 0;
            }
        });
    }
    state.filter.before = before;
    if state.asked.as_ref() != Some(&state.filter) {
        state.asked = Some(state.filter.clone());
        out.people.push(Command::Audit(state.filter.clone()));
    }
    room.min.y = fields.bottom() + 8.0;
    rows(ui, room, &mut view.people.audit.filter, seen, p);
}

/// How far the look at the histories is.
fn progress(ui: &mut Ui, room: &mut Rect, looked: &Looked, p: &Palette) {
    let rect = Rect::from_min_size(room.min, vec2(room.width(), 40.0));
    ui.painter().rect(rect, 10.0, p.running.soft, Stroke::new(1.0, p.running.solid), StrokeKind::Inside);
    let share = looked.done as f32 / looked.total.max(1) as f32;
    let bar = Rect::from_min_size(
        pos2(rect.left() + 1.0, rect.bottom() - 5.0),
        vec2((rect.width() - 2.0) * share, 4.0),
    );
    ui.painter().rect_filled(bar, 2.0, p.running.solid);
    let text = tr!("audit-looking", done = i18n::number(looked.done), total = i18n::number(looked.total));
    let words = rect.shrink2(vec2(14.0, 6.0));
    widgets::line(ui, words, Align2::LEFT_CENTER, &text, strong(15.0), p.running.ink);
    room.min.y = rect.bottom() + 10.0;
}

/// Every place that does not fit, where there is more than the one that the strip above tells.
fn places(ui: &mut Ui, room: &mut Rect, found: &Verified, p: &Palette) {
    if found.broken.len() < 2 {
        return;
    }
    const LINE: f32 = 22.0;
    let lines = found.broken.len() + usize::from(found.left_out > 0);
    let shown = lines.min(6) as f32;
    let rect = Rect::from_min_size(room.min, vec2(room.width(), 46.0 + LINE * shown));
    ui.painter().rect(rect, 10.0, p.surface, Stroke::new(1.0, p.fail.solid), StrokeKind::Inside);
    let mut inner = rect.shrink2(vec2(14.0, 8.0));
    let head = Rect::from_min_size(inner.min, vec2(inner.width(), 26.0));
    let mut all: Vec<String> = found.broken.iter().map(ToString::to_string).collect();
    let more = (found.left_out > 0).then(|| tr!("audit-places-more", count = found.left_out));
    all.extend(more);
    let words = copy::button(ui, head, &all.join("\n"));
    let title = tr!("audit-places", count = found.places());
    widgets::line(ui, words, Align2::LEFT_CENTER, &title, strong(15.0), p.fail.ink);
    inner.min.y = head.bottom() + 4.0;
    ui.scope_builder(UiBuilder::new().max_rect(inner), |ui| {
        ui.set_clip_rect(inner.intersect(ui.clip_rect()));
        ui.spacing_mut().item_spacing.y = 0.0;
        egui::ScrollArea::vertical().id_salt("broken places").auto_shrink(false).show_rows(
            ui,
            LINE,
            all.len(),
            |ui, range| {
                for text in &all[range] {
                    let (line, _) = ui.allocate_exact_size(vec2(inner.width() - 16.0, LINE), Sense::hover());
                    widgets::line(ui, line, Align2::LEFT_CENTER, text, regular(13.5), p.text);
                }
            },
        );
    });
    room.min.y = rect.bottom() + 10.0;
}

/// The foot of the rows: which page it is, and the way to the others.
fn pages(ui: &mut Ui, foot: Rect, filter: &mut AuditFilter, seen: Seen<'_>, p: &Palette) {
    let all = &seen.people.audit;
    let oldest = all.last().filter(|_| all.len() >= AUDIT_ROWS as usize).map(|entry| entry.seq);
    let mut right = foot.right();
    for (text, to) in [
        (tr!("audit-older"), oldest.filter(|seq| *seq > 1)),
        (tr!("audit-newer"), (filter.before > 0).then_some(0)),
    ] {
        let button =
            Button { text, name: text, icon: None, loud: Loud::Quiet, enabled: to.is_some(), size: 13.5 };
        let width = button.width(ui);
        let place = Rect::from_min_size(pos2(right - width, foot.top()), vec2(width, foot.height()));
        right -= width + 8.0;
        if let (true, Some(before)) = (button.show(ui, place).clicked(), to) {
            filter.before = before;
        }
    }
    let text = match (filter.before, all.first(), all.last()) {
        (1.., Some(newest), Some(oldest)) => tr!("audit-page", oldest = oldest.seq, newest = newest.seq),
        _ => tr!("audit-newest", count = AUDIT_ROWS),
    };
    let words = Rect::from_min_max(foot.min, pos2(right - 8.0, foot.bottom()));
    widgets::line(ui, words, Align2::LEFT_CENTER, &text, regular(13.0), p.muted);
}

fn rows(ui: &mut Ui, room: Rect, filter: &mut AuditFilter, seen: Seen<'_>, p: &Palette) {
    let cells = |line: Rect| {
        let mut x = line.left();
        columns().map(|(_, share)| {
            let width = line.width() * share;
            let cell = Rect::from_min_size(pos2(x, line.top()), vec2(width - 8.0, line.height()));
            x += width;
            cell
        })
    };
    let head = Rect::from_min_size(room.min, vec2(room.width() - 16.0, ROW));
    for (cell, (name, _)) in cells(head).into_iter().zip(columns()) {
        widgets::line(ui, cell, Align2::LEFT_CENTER, name, strong(13.5), p.muted);
    }
    let all = &seen.people.audit;
    let mut below = Rect::from_min_max(pos2(room.left(), head.bottom() + 2.0), room.max);
    if all.len() >= AUDIT_ROWS as usize || filter.before > 0 {
        let foot = Rect::from_min_max(pos2(below.left(), below.bottom() - 28.0), below.max);
        pages(ui, foot, filter, seen, p);
        below.max.y = foot.top() - 4.0;
    }
    if all.is_empty() && *filter == AuditFilter::default() {
        widgets::empty(ui, below, (tr!("audit-empty"), tr!("audit-empty-how")), p);
        return;
    }
    if all.is_empty() {
        widgets::line(ui, below, Align2::CENTER_TOP, tr!("audit-none"), regular(15.0), p.muted);
        return;
    }
    let broken: Vec<i64> = seen
        .people
        .verified
        .iter()
        .flat_map(|v| &v.broken)
        .filter(|b| b.table == "audit")
        .map(|b| b.row)
        .collect();
    ui.scope_builder(UiBuilder::new().max_rect(below), |ui| {
        ui.set_clip_rect(below.intersect(ui.clip_rect()));
        ui.spacing_mut().item_spacing.y = 0.0;
        egui::ScrollArea::vertical().id_salt("audit").auto_shrink(false).show_rows(
            ui,
            ROW,
            all.len(),
            |ui, range| {
                for entry in &all[range] {
                    let (line, _) = ui.allocate_exact_size(vec2(room.width() - 16.0, ROW), Sense::hover());
                    let bad = broken.contains(&entry.seq);
                    if bad {
                        ui.painter().rect_filled(line, 4.0, p.fail.soft);
                    } else if entry.seq % 2 == 0 {
                        ui.painter().rect_filled(line, 4.0, p.surface);
                    }
                    let facts = match entry.detail.as_object() {
                        Some(facts) => facts
                            .iter()
                            .map(|(key, value)| match value.as_str() {
                                Some(text) => format!("{} {text}", said::fact(key)),
                                None => format!("{} {value}", said::fact(key)),
                            })
                            .collect::<Vec<_>>()
                            .join(", "),
                        None => entry.detail.to_string(),
                    };
                    let number = if bad { format!("{} !", entry.seq) } else { entry.seq.to_string() };
                    let person = format!("{} ({})", entry.person, entry.role);
                    let texts = [
                        number,
                        i18n::date_time(entry.at_ms),
                        person,
                        entry.action.clone(),
                        entry.subject.clone(),
                        facts,
                    ];
                    let ink = if bad { p.fail.ink } else { p.text };
                    for (i, (cell, text)) in cells(line).into_iter().zip(texts).enumerate() {
                        if !text.is_empty() {
                            let font = if i == 0 { mono(13.0) } else { regular(13.5) };
                            widgets::line(ui, cell, Align2::LEFT_CENTER, &text, font, ink);
                        }
                    }
                }
            },
        );
    });
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::line_view::Tab;
    use super::super::line_view::tests::{World, harness};
    use super::super::lock_screen::tests::logged_in;
    use super::super::scripted::{Scene, scene};
    use super::*;
    use crate::failure::{Failure, FailureCode};
    use crate::people::Role;
    use crate::people::office::{Snapshot, Told};
    use crate::records::{AuditEntry, Broken};
    use egui_kittest::{Harness, kittest::NodeT, kittest::Queryable};
    use serde_json::json;
    use std::sync::Arc;
    use std::time::Instant;

    /// Newest first.
    pub(crate) fn entries() -> Vec<AuditEntry> {
        let entry = |seq, person: &str, role: &str, action: &str, subject: &str, detail| AuditEntry {
            seq,
            at_ms: 1_790_000_000_000 + seq * 1000,
            person: person.into(),
            role: role.into(),
            action: action.into(),
            subject: subject.into(),
            detail,
            chain: "00".repeat(32),
        };
        vec![
            entry(3, "Quin", "qa", "unit-scrap", "KW429-01043", json!({ "reason": "burnt" })),
            entry(2, "nobody", "none", "login-failed", "Tom", json!({ "tries_left": 4 })),
            entry(1, "Ana", "admin", "person-added", "Tom", json!({ "role": "technician" })),
        ]
    }

    /// A look found four places; the page is not the newest, and full.
    pub(crate) fn broken() -> Snapshot {
        let place = |table, row, what: &str| Broken { table, row, at_ms: None, what: what.into() };
        let broken = vec![
            place("audit", 1202, "it is not as it was written"),
            place("audit", 1204, "row 1203 should be here; rows were removed or renumbered"),
            place("unit_event", 88_120, "it, or the one before it, is not as it was written"),
            place("person", 3, "an older row of \"Quin\" was put back outside Keywright"),
        ];
        let found = Verified { audit: 1200, events: 88_000, broken, left_out: 0 };
        let failure = Failure::new(FailureCode::HistoryBroken, found.summary().expect("places"));
        let row = |n: usize| {
            let kind = entries().remove(n % 3);
            AuditEntry { seq: 1500 - n as i64, ..kind }
        };
        Snapshot {
            audit: Arc::new((0..500).map(row).collect()),
            verified: Some(found),
            told: Told::Failed(failure),
            ..logged_in(Role::Admin)
        }
    }

    fn open(role: Role, audit: Vec<AuditEntry>) -> Harness<'static, World> {
        let mut h = harness(scene(Scene::Ready(1), Instant::now()));
        h.state_mut().people = Snapshot { audit: Arc::new(audit), ..logged_in(role) };
        h.state_mut().view.tab = Tab::Audit;
        h.run();
        h
    }

    fn asked(h: &mut Harness<'static, World>) -> Vec<Command> {
        std::mem::take(&mut h.state_mut().asked.people)
    }

    #[test]
    fn rows_are_read_once_and_again_when_the_filter_changes() {
        let mut h = open(Role::Vendor, entries());
        assert_eq!(asked(&mut h), [Command::Audit(AuditFilter::default())]);
        h.get_by_label("unit-scrap");
        h.get_by_label("Quin (qa)");
        h.get_by_label("reason burnt");
        h.get_by_label("tries left 4");
        h.run();
        assert_eq!(asked(&mut h), [], "once");
        h.get_by_label("By action").focus();
        h.run();
        h.event(egui::Event::Text("login".into()));
        h.run();
        let filter = AuditFilter { action: "login".into(), ..AuditFilter::default() };
        assert_eq!(asked(&mut h), [Command::Audit(filter)]);
        assert_eq!(h.state_mut().take(), [], "typing started nothing");
        h.state_mut().people.audit = Arc::default();
        h.run();
        h.get_by_label("No row fits");
    }

    #[test]
    fn a_broken_row_is_marked_and_told() {
        let mut h = open(Role::Vendor, entries());
        h.get_by_label("Verify").click();
        h.run();
        assert!(asked(&mut h).contains(&Command::Verify));
        let broken = Broken {
            table: "audit",
            row: 2,
            at_ms: Some(1_790_000_002_000),
            what: "it is not as it was written".into(),
        };
        h.state_mut().people.told = Told::Failed(Failure::new(FailureCode::HistoryBroken, &broken));
        h.state_mut().people.verified =
            Some(Verified { audit: 1, broken: vec![broken], ..Verified::default() });
        h.run();
        h.get_by_label_contains("audit row 2 of ");
        h.get_by_label("2 !");
    }

    #[test]
    fn every_place_is_told_and_a_look_shows_how_far_it_is_and_stops() {
        let mut h = open(Role::Vendor, entries());
        asked(&mut h);
        h.state_mut().people.verifying = Some(Looked { done: 512, total: 20_000 });
        h.run();
        h.get_by_label("Looking at row 512 of 20,000 of both histories");
        h.get_by_label("Stop").click();
        h.run();
        assert_eq!(asked(&mut h), [Command::StopVerify]);
        let place =
            |table, row| Broken { table, row, at_ms: None, what: "it is not as it was written".into() };
        let broken = vec![place("audit", 2), place("unit_event", 7), place("person", 3)];
        h.state_mut().people.verifying = None;
        h.state_mut().people.verified = Some(Verified { broken, left_out: 4, ..Verified::default() });
        h.run();
        h.get_by_label("7 places do not fit");
        h.get_by_label("unit_event row 7: it is not as it was written");
        h.get_by_label("and 4 more");
        h.event(egui::Event::Copy);
        h.step();
        let copied = h.output().platform_output.commands.iter().any(
            |c| matches!(c, egui::OutputCommand::CopyText(t) if t.contains("person row 3") && t.contains("and 4 more")),
        );
        assert!(copied);
    }

    #[test]
    fn older_rows_are_a_page_away() {
        let row = |seq| AuditEntry { seq, ..entries().remove(0) };
        let all: Vec<_> = (1..=700).rev().map(row).collect();
        let mut h = open(Role::Vendor, all[..500].to_vec());
        asked(&mut h);
        h.get_by_label("The newest 500 rows that fit; the export has all");
        h.get_by_label("Older").click();
        h.run();
        assert_eq!(asked(&mut h), [Command::Audit(AuditFilter { before: 201, ..AuditFilter::default() })]);
        h.state_mut().people.audit = Arc::new(all[500..].to_vec());
        h.run();
        h.get_by_label("Rows 1 to 200");
        assert!(h.get_by_label("Older").accesskit_node().is_disabled());
        h.get_by_label("Newest").click();
        h.run();
        assert_eq!(asked(&mut h), [Command::Audit(AuditFilter::default())]);
        // Another question begins at its newest answer.
        h.state_mut().view.people.audit.filter.before = 201;
        h.get_by_label("By person").focus();
        h.run();
        h.event(egui::Event::Text("q".into()));
        h.run();
        let filter = AuditFilter { person: "q".into(), ..AuditFilter::default() };
        assert_eq!(asked(&mut h).pop(), Some(Command::Audit(filter)));
    }

    #[test]
    fn the_export_is_the_admins_and_the_log_is_not_for_everybody() {
        let mut h = open(Role::Vendor, entries());
        assert!(h.get_by_label("Export").accesskit_node().is_disabled());
        let mut admin = open(Role::Admin, entries());
        admin.get_by_label("Export").click();
        admin.run();
        assert!(asked(&mut admin).contains(&Command::Export));
        h = open(Role::Qa, entries());
        h.get_by_label("For Vendor engineer or Admin only");
        assert!(h.query_by_label("unit-scrap").is_none());
        assert_eq!(asked(&mut h), [], "nothing is read for QA");
    }
}
