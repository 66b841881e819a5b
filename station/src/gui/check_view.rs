//! “Check a file…” of the Exports view: signature, receipt and rows of a file that somebody brings, with the place of the first
//! difference.
//!
//! Invariant: it reads the clerk's snapshot and leaves one command; a typed password is wiped when it has been sent.

use super::export_view::{ExportsState, Typed, format_name, heading, secret};
use super::files::{Files, Kind};
use super::settings_view::{path_row, row};
use super::theme::{Palette, Tone, regular, strong};
use super::copy;
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
    let signature = verdict(&found.signature, tr!("check-signature"), p, |()| tr!("check-signature-fits").into());
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
    let rows = verdict(&found.rows, tr!("check-rows"), p, |InspectedRows { rows, with_keys, with_records }| {
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
    let text: Vec<&str> = [file.as_str()].into_iter().chain(lines.iter().map(|(_, line)| line.as_str())).collect();
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
