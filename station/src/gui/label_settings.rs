//! The label printer, among the settings.

use super::files::{Files, Kind};
use super::settings_view::{heading, path_row, row, text_row};
use super::theme::Palette;
use crate::i18n::tr;
use crate::settings::{Draft, Fault, Field, PrinterKind};
use egui::Ui;

fn kind_name(kind: PrinterKind) -> &'static str {
    match kind {
        PrinterKind::None => tr!("settings-printer-none"),
        PrinterKind::Tcp => tr!("settings-printer-tcp"),
        PrinterKind::Command => tr!("settings-printer-command"),
    }
}

/// The section.
pub(super) fn show(ui: &mut Ui, draft: &mut Draft, faults: &[(Field, Fault)], files: &Files, p: &Palette) {
    let fault = |field| faults.iter().find(|f| f.0 == field).map(|f| f.1);
    let label = &mut draft.label;
    heading(ui, tr!("settings-label"), p);
    row(ui, tr!("settings-printer"), p, |ui, _| {
        ui.spacing_mut().item_spacing.x = 14.0;
        for kind in PrinterKind::ALL {
            ui.radio_value(&mut label.kind, kind, kind_name(kind));
        }
    });
    let said = (fault(Field::LabelPrinter), "");
    match label.kind {
        PrinterKind::None => return,
        PrinterKind::Tcp => {
            let said = (said.0, tr!("settings-printer-address-hint"));
            text_row(ui, tr!("settings-printer-address"), &mut label.tcp, 260.0, said, p);
        }
        PrinterKind::Command => {
            let said = (said.0, tr!("settings-printer-program-hint"));
            text_row(ui, tr!("settings-printer-program"), &mut label.command, 360.0, said, p);
        }
    }
    let said = (fault(Field::LabelTemplate), tr!("settings-label-template-hint"));
    path_row(ui, tr!("settings-label-template"), &mut label.template, (files, Kind::File(&[])), said, p);
    let said = (fault(Field::LabelTimeout), tr!("settings-label-timeout-hint"));
    text_row(ui, tr!("settings-label-timeout"), &mut label.timeout, 90.0, said, p);
}
