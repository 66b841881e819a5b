//! “Check a file…” of the Exports view: signature, receipt and rows of a file that somebody brings, with the place of the first
//! difference.
//!
//! Invariant: it reads the clerk's snapshot and leaves one command; a typed password is wiped when it has been sent.

use super::copy;
use super::export_view::{ExportsState, Typed, format_name, heading, secret};
use super::files::{Files, Kind};
use super::settings_view::{path_row, row};
use super::theme::{Palette, Tone, regular, strong};
use crate::desk::Told;
use crate::export::clerk::Command;
use crate::export::{Format, Inspect, InspectedRows, Inspection, Verdict};
use crate::failure::Failure;
use crate::i18n::{number, tr};
use crate::secrets::Passphrase;
use egui::{RichText, Ui};
use std::path::PathBuf;

/// What was typed.
#[derive(Clone, Debug, Default)]
pub(super) struct CheckState {
    file: String,
    key: String,
    format: Option<Format>,
    identity: String,
    pub(super) password: Typed,
}

impl CheckState {
    fn order(&self) -> Box<Inspect> {
        let path = |text: &str| PathBuf::from(text.trim());
        Box::new(Inspect {
            file: path(&self.file),
            key: path(&self.key),
            format: self.format,
            identity: path(&self.identity),
            password: (!self.password.is_empty()).then(|| Passphrase::new(self.password.text())),
        })
    }
}

/// The panel.
pub(super) fn panel(ui: &mut Ui, state: &mut ExportsState, files: &Files, p: &Palette) {
    heading(ui, tr!("check-head"), tr!("check-how"), p);
    let busy = matches!(state.seen.told, Told::Working(_));
    egui::ScrollArea::vertical().id_salt("check a file").auto_shrink(false).show(ui, |ui| {
        let check = &mut state.check;
        path_row(ui, tr!("check-file"), &mut check.file, (files, Kind::File(&[])), (None, ""), p);
        let beside = (None, tr!("check-key-hint"));
        path_row(ui, tr!("check-key"), &mut check.key, (files, Kind::File(&["pem"])), beside, p);
        row(ui, tr!("check-form"), p, |ui, label| {
            let shown = check.format.map_or(tr!("check-form-receipt"), format_name);
            egui::ComboBox::from_id_salt("check form")
                .width(360.0)
                .selected_text(shown)
                .show_ui(ui, |ui| {
                    ui.selectable_value(&mut check.format, None, tr!("check-form-receipt"));
                    for format in Format::ALL {
                        ui.selectable_value(&mut check.format, Some(format), format_name(format));
                    }
                })
                .response
                .labelled_by(label);
        });
        let sealed = (None, tr!("check-identity-hint"));
        path_row(ui, tr!("check-identity"), &mut check.identity, (files, Kind::File(&[])), sealed, p);
        row(ui, tr!("check-password"), p, |ui, label| {
            secret(ui, &mut check.password, 360.0).labelled_by(label);
        });
        ui.add_space(6.0);
        ui.horizontal(|ui| {
            let go = egui::Button::new(RichText::new(tr!("check-go")).color(p.running.on_solid));
            let ready = !check.file.trim().is_empty() && !busy;
            if ui.add_enabled(ready, go.fill(p.running.solid)).clicked() {
                state.out.push(Command::Check(check.order()));
                check.password.wipe();
            }
            if check.file.trim().is_empty() {
                ui.label(RichText::new(tr!("check-no-file")).font(regular(14.5)).color(p.muted));
            }
        });
        ui.add_space(8.0);
        if let Some(found) = &state.seen.checked {
            shown(ui, found, p);
        }
    });
}

fn shown(ui: &mut Ui, found: &Inspection, p: &Palette) {
    let file = found.file.display().to_string();
    ui.label(RichText::new(&file).font(strong(15.0)).color(p.text));
    let signature =
        verdict(&found.signature, tr!("check-signature"), p, |()| tr!("check-signature-fits").into());
    let receipt = verdict(&found.receipt, tr!("check-receipt"), p, |receipt| {
        let second = receipt.second_person.as_ref().map_or(String::new(), |name| format!(" + {name}"));
        tr!(
            "check-receipt-fits",
            number = receipt.export.to_string(),
            station = &receipt.station,
            people = format!("{}{second}", receipt.operator),
            rows = number(receipt.rows),
            at = receipt.at.to_string()
        )
    });
    let rows =
        verdict(&found.rows, tr!("check-rows"), p, |InspectedRows { rows, with_keys, with_records }| {
            let (rows, keys) = (number(*rows), number(*with_keys));
            match with_records {
                true => tr!("check-rows-fit", rows = rows),
                false => tr!("check-rows-signed", rows = rows, keys = keys),
            }
        });
    let (tone, all) = match found.fits() {
        true => (p.pass, tr!("check-fits")),
        false => (p.fail, tr!("check-refused")),
    };
    let lines = [(tone, all.to_owned()), signature, receipt, rows];
    for (tone, line) in &lines {
        egui::Frame::new().fill(tone.soft).corner_radius(8).inner_margin(8).show(ui, |ui| {
            ui.set_width(ui.available_width());
            ui.add(egui::Label::new(RichText::new(line).font(regular(14.5)).color(tone.ink)).wrap());
        });
    }
    let text: Vec<&str> =
        [file.as_str()].into_iter().chain(lines.iter().map(|(_, line)| line.as_str())).collect();
    if ui.button(tr!("check-copy")).clicked() {
        ui.ctx().copy_text(text.join("\n"));
    }
}

fn verdict<T>(
    verdict: &Verdict<T>,
    name: &str,
    p: &Palette,
    fits: impl FnOnce(&T) -> String,
) -> (Tone, String) {
    let line = |told: String| tr!("check-line", name = name, told = told);
    match verdict {
        Verdict::Fits(found) => (p.pass, line(fits(found))),
        Verdict::Absent => (p.idle, line(tr!("check-absent").into())),
        Verdict::Refused(failure) => (p.fail, line(words(failure))),
    }
}

fn words(failure: &Failure) -> String {
    copy::told(failure)
}

#[cfg(test)]
mod tests {
    use super::super::line_view::Tab;
    use super::super::line_view::tests::{World, harness, type_into};
    use super::super::scripted::{Scene, scene};
    use super::*;
    use crate::export::clerk::Snapshot;
    use crate::failure::FailureCode;
    use egui_kittest::{Harness, kittest::NodeT, kittest::Queryable};
    use std::sync::Arc;
    use std::time::Instant;

    fn opened() -> Harness<'static, World> {
        let mut h = harness(scene(Scene::Ready(1), Instant::now()));
        h.state_mut().view.tab = Tab::Exports;
        h.run();
        h.get_by_label("Check a file…").click();
        h.run();
        h
    }

    #[test]
    fn a_file_is_named_and_looked_at_and_the_first_difference_is_shown() {
        let mut h = opened();
        h.get_by_label("Name a file");
        assert!(h.get_by_label("Check it").accesskit_node().is_disabled());
        type_into(&mut h, "File", "/stick/devices.txt");
        type_into(&mut h, "PSKC password", "correct horse battery");
        assert!(!format!("{:?}", h.state().view.exports).contains("horse"));
        h.get_by_label("Check it").click();
        h.run();
        let sent = h.state_mut().view.exports.take();
        let [Command::Check(order)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!((order.file.as_path(), order.format), (std::path::Path::new("/stick/devices.txt"), None));
        assert!(order.password.is_some() && h.state().view.exports.check.password.is_empty());
        let failure = Failure::new(FailureCode::ExportForged, "devices.txt row 7, field id: it is another");
        let found = Inspection {
            file: "/stick/devices.txt".into(),
            signature: Verdict::Fits(()),
            receipt: Verdict::Absent,
            rows: Verdict::Refused(failure),
        };
        h.state_mut().view.exports.seen =
            Arc::new(Snapshot { checked: Some(Arc::new(found)), ..Snapshot::default() });
        h.run();
        h.get_by_label("This file does not count");
        h.get_by_label("Signature: fits; the file is whole");
        h.get_by_label("Receipt: not there");
        h.get_by_label_contains("row 7, field id");
        h.get_by_label("Copy the result").click();
        h.run();
    }

    #[test]
    fn whole_files_say_what_was_compared() {
        let mut h = opened();
        let rows = |with_records| InspectedRows { rows: 312, with_keys: 300, with_records };
        for (with_records, words) in [
            (true, "Rows: 312 rows, every value is what the records say"),
            (false, "Rows: 312 rows, every one is signed; 300 with keys"),
        ] {
            let found = Inspection {
                file: "f".into(),
                signature: Verdict::Absent,
                receipt: Verdict::Absent,
                rows: Verdict::Fits(rows(with_records)),
            };
            h.state_mut().view.exports.seen =
                Arc::new(Snapshot { checked: Some(Arc::new(found)), ..Snapshot::default() });
            h.run();
            h.get_by_label("What was looked at fits");
            h.get_by_label(words);
        }
    }
}
