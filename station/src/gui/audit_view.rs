//! The Audit view: what people did, newest first, and whether both histories are whole.
//!
//! Invariant: it shows what the office read, and asks again only when somebody asks.

use super::line_view::ViewState;
use super::people_view::{field, not_for, title_row, told};
use super::shell::{Asked, Seen};
use super::theme::{Palette, mono, regular, strong};
use super::{said, widgets};
use crate::i18n::{self, tr};
use crate::people::Right;
use crate::people::office::{AUDIT_ROWS, Command};
use crate::records::AuditFilter;
use egui::{Align2, Rect, Sense, Ui, UiBuilder, pos2, vec2};

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
        (tr!("audit-when"), 0.13),
        (tr!("audit-person"), 0.15),
        (tr!("audit-action"), 0.15),
        (tr!("audit-subject"), 0.16),
        (tr!("audit-facts"), 0.35),
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
    let buttons = [
        (tr!("audit-verify"), None),
        (tr!("audit-export"), seen.people.refusal(Right::ExportAudit)),
        (tr!("audit-again"), None),
    ];
    match title_row(ui, &mut room, tr!("audit-title"), &buttons, p) {
        Some(0) => out.people.push(Command::Verify),
        Some(1) => out.people.push(Command::Export),
        Some(_) => view.people.audit.asked = None,
        None => {}
    }
    told(ui, &mut room, &seen.people.told, p);
    let fields = Rect::from_min_size(room.min, vec2(room.width(), 66.0));
    let state = &mut view.people.audit;
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
            field(ui, name, text, false, false, p);
        });
    }
    if state.asked.as_ref() != Some(&state.filter) {
        state.asked = Some(state.filter.clone());
        out.people.push(Command::Audit(state.filter.clone()));
    }
    room.min.y = fields.bottom() + 8.0;
    rows(ui, room, &view.people.audit.filter, seen, p);
}

fn rows(ui: &mut Ui, room: Rect, filter: &AuditFilter, seen: Seen<'_>, p: &Palette) {
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
    if all.len() >= AUDIT_ROWS as usize {
        let foot = Rect::from_min_max(pos2(below.left(), below.bottom() - 22.0), below.max);
        let text = tr!("audit-newest", count = AUDIT_ROWS);
        widgets::line(ui, foot, Align2::LEFT_CENTER, &text, regular(13.0), p.muted);
        below.max.y = foot.top() - 2.0;
    }
    if all.is_empty() && filter == &AuditFilter::default() {
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
    use crate::records::{AuditEntry, Broken, Verified};
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
        h.state_mut().people.verified = Some(Verified { audit: 1, events: 0, broken: vec![broken] });
        h.run();
        h.get_by_label_contains("audit row 2 of ");
        h.get_by_label("2 !");
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
