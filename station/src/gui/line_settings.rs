//! How the line starts and sounds, among the settings.

use super::settings_view::{Wish, heading, row, text_row};
use super::theme::Palette;
use crate::i18n::tr;
use crate::settings::{Draft, Fault, Field};
use egui::Ui;

/// The section; what is asked of the window, if something is.
pub(super) fn show(ui: &mut Ui, draft: &mut Draft, faults: &[(Field, Fault)], p: &Palette) -> Option<Wish> {
    let fault_of = |field| faults.iter().find(|f| f.0 == field).map(|f| f.1);
    let fault = fault_of(Field::Debounce);
    heading(ui, tr!("settings-line"), p);
    row(ui, tr!("settings-auto-start"), p, |ui, _| {
        ui.checkbox(&mut draft.auto_start, tr!("settings-auto-start-on"));
    });
    let said = (fault, tr!("settings-debounce-hint"));
    text_row(ui, tr!("settings-debounce"), &mut draft.debounce, 90.0, said, p);
    let mut wish = None;
    row(ui, tr!("settings-sounds"), p, |ui, _| {
        ui.spacing_mut().item_spacing.x = 14.0;
        ui.checkbox(&mut draft.sounds, tr!("settings-sounds-on"));
        if ui.button(tr!("settings-sounds-test")).clicked() {
            wish = Some(Wish::TestSounds);
        }
    });
    let said = (fault_of(Field::SoundCommand), tr!("settings-player-hint"));
    text_row(ui, tr!("settings-player"), &mut draft.sound_command, 260.0, said, p);
    wish
}
