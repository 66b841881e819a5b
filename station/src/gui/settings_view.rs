//! Settings: what station.toml says, read and changed in the window.
//!
//! Invariants: the file stays the source of truth, and nothing is written before somebody asks for it; a fault stands beside its
//! field; changes that were not saved are never dropped without a question.

use super::files::{Files, Kind};
use super::shell::{Asked, Seen};
use super::theme::{Palette, palette, regular, strong};
use super::widgets::{Button, Loud};
use super::{Theme, ViewState, label_settings, line_settings, line_view, people_view};
use crate::config::TEXT_SIZES;
use crate::failure::Failure;
use crate::i18n::{self, DateFormat, Formats, Language, LanguageChoice, NumberFormat, tr};
use crate::people::Right;
use crate::settings::{CloudDraft, Draft, Fault, Field, FixtureDraft, Read};
use egui::{Align2, Key, Modifiers, Rect, RichText, Stroke, StrokeKind, Ui, UiBuilder, pos2, vec2};

/// What the view asks of the window, which holds the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Read the file and show it.
    Open,
    /// Write what was changed.
    Save,
    /// Read the file again and drop what was changed.
    Reload,
    /// Play every sound once.
    TestSounds,
}

/// What came of the newest wish.
#[derive(Clone, Debug)]
pub enum Came {
    /// It is written.
    Saved {
        /// Some of it does not hold yet: when, is said.
        later: Option<Later>,
    },
    /// The file was changed by somebody else and read again.
    Reread,
    /// It was refused.
    Failed(Failure),
}

/// When something that was saved holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// As soon as no unit is in work: the line is opened again by itself.
    WhenIdle,
    /// From the next start on.
    NextStart,
}

/// The settings while they are shown.
#[derive(Clone, Debug)]
pub struct SettingsState {
    /// The file as it was read.
    pub read: Read,
    /// As it is being changed.
    pub draft: Draft,
    /// Somebody else changed the file, and there are changes here too.
    pub outside: bool,
    /// The newest word.
    pub came: Option<Came>,
    /// It was asked to close with changes that are not saved.
    pub(super) leaving: bool,
}

impl SettingsState {
    /// The file as it was just read.
    pub fn new(read: Read) -> Self {
        Self { draft: read.draft.clone(), read, outside: false, came: None, leaving: false }
    }

    /// Whether something is not saved.
    pub fn is_changed(&self) -> bool {
        self.draft != self.read.draft
    }
}

/// Whether whoever works here may change the settings; the reason if not. What is saved is asked once more where it is written.
fn may_change_settings(seen: Seen<'_>) -> Result<(), &'static str> {
    seen.people.refusal(Right::Settings).map_or(Ok(()), |why| Err(people_view::reason(why)))
}

/// Opens the settings, or asks to close them.
pub(super) fn toggle(view: &mut ViewState, out: &mut Asked) {
    if view.settings.is_some() {
        leave(view);
    } else if view.has_settings {
        out.settings.push(Wish::Open);
    }
}

fn leave(view: &mut ViewState) {
    if let Some(state) = &mut view.settings {
        if state.is_changed() && !state.leaving {
            state.leaving = true;
        } else if !state.is_changed() {
            view.settings = None;
        }
    }
}

/// Keys while the settings are shown.
pub(super) fn keys(ui: &mut Ui, view: &mut ViewState, out: &mut Asked) {
    if ui.input_mut(|i| i.consume_key(Modifiers::COMMAND, Key::S)) {
        save(view, out);
    }
    let escape = ui.input(|i| i.key_pressed(Key::Escape)) && !ui.ctx().text_edit_focused();
    if escape {
        match &mut view.settings {
            Some(state) if state.leaving => state.leaving = false,
            _ => leave(view),
        }
    }
}

fn save(view: &ViewState, out: &mut Asked) {
    if view.settings.as_ref().is_some_and(|s| s.is_changed() && !s.outside && s.draft.faults().is_empty()) {
        out.settings.push(Wish::Save);
    }
}

fn fault_text(fault: Fault) -> &'static str {
    match fault {
        Fault::Name => tr!("settings-fault-name"),
        Fault::Number => tr!("settings-fault-number"),
        Fault::Seconds => tr!("settings-fault-seconds"),
        Fault::Milliseconds => tr!("settings-fault-milliseconds"),
        Fault::Probe => tr!("settings-fault-probe"),
        Fault::Port => tr!("settings-fault-port"),
        Fault::Twice => tr!("settings-fault-twice"),
        Fault::Minutes => tr!("settings-fault-minutes"),
        Fault::Hours => tr!("settings-fault-hours"),
        Fault::Keep => tr!("settings-fault-keep"),
        Fault::CloudName => tr!("settings-fault-cloud-name"),
        Fault::Url => tr!("settings-fault-url"),
        Fault::Ca => tr!("settings-fault-ca"),
        Fault::Empty => tr!("settings-fault-empty"),
        Fault::Printer => tr!("settings-fault-printer"),
        Fault::Command => tr!("settings-fault-command"),
        Fault::LabelSeconds => tr!("settings-fault-label-seconds"),
        Fault::Token => tr!("settings-fault-token"),
        Fault::Absolute => tr!("settings-fault-absolute"),
    }
}

pub(super) fn language_name(choice: LanguageChoice) -> &'static str {
    match choice {
        LanguageChoice::System => tr!("settings-language-system"),
        LanguageChoice::English => Language::English.name(),
        LanguageChoice::Chinese => Language::Chinese.name(),
    }
}

/// What a choice looks like says more than its name.
fn sample(formats: Formats) -> (String, String) {
    // Noon of the last day of 2026, UTC: the same day nearly everywhere.
    const DAY: i64 = 1_798_718_400_000;
    let before = i18n::formats();
    i18n::write_as(formats);
    let samples = (i18n::date(DAY), i18n::decimal(12_345.6, 1));
    i18n::write_as(before);
    samples
}

fn date_sample(dates: DateFormat) -> String {
    let sample = sample(Formats { dates, ..Formats::default() }).0;
    if dates == DateFormat::Language { tr!("settings-as-language", sample = sample) } else { sample }
}

fn number_sample(numbers: NumberFormat) -> String {
    let sample = sample(Formats { numbers, ..Formats::default() }).1;
    if numbers == NumberFormat::Language { tr!("settings-as-language", sample = sample) } else { sample }
}

fn theme_name(theme: Theme) -> &'static str {
    match theme {
        Theme::System => tr!("settings-theme-system"),
        Theme::Light => tr!("settings-theme-light"),
        Theme::Dark => tr!("settings-theme-dark"),
        Theme::Contrast => tr!("settings-theme-contrast"),
    }
}

/// The settings in `room`, in place of the view below the header.
pub(super) fn show(ui: &mut Ui, room: Rect, seen: Seen<'_>, view: &mut ViewState, out: &mut Asked) {
    let p = palette(ui.ctx());
    let Some(mut state) = view.settings.take() else { return };
    let refused = may_change_settings(seen).err();
    let mut room = room;
    said(ui, &mut room, &state, refused);
    let foot = Rect::from_min_max(pos2(room.left(), room.bottom() - 46.0), room.max);
    let card = Rect::from_min_max(room.min, pos2(room.right(), foot.top() - 8.0));
    ui.painter().rect(card, 14.0, p.surface, Stroke::new(1.0, p.border), StrokeKind::Inside);
    let faults = state.draft.faults();
    ui.scope_builder(UiBuilder::new().max_rect(card.shrink2(vec2(20.0, 12.0))), |ui| {
        ui.set_clip_rect(card.shrink2(vec2(8.0, 4.0)).intersect(ui.clip_rect()));
        egui::ScrollArea::vertical().id_salt("settings").auto_shrink(false).show(ui, |ui| {
            ui.set_width(ui.available_width().min(900.0));
            if refused.is_some() {
                ui.disable();
            }
            window(ui, &mut state.draft, p);
            station(ui, &mut state.draft, &faults, &view.files, p);
            out.settings.extend(line_settings::show(ui, &mut state.draft, &faults, p));
            label_settings::show(ui, &mut state.draft, &faults, &view.files, p);
            fixtures(ui, &mut state.draft, &faults, p);
            work(ui, &mut state.draft, &faults, p);
            backup(ui, &mut state.draft, &faults, &view.files, p);
            clouds(ui, &mut state.draft, &faults, &view.files, p);
            token(ui, &mut state.draft, &faults, &view.files, p);
            paths(ui, view, out, p);
        });
    });
    view.settings = Some(state);
    buttons(ui, foot, view, refused.is_none() && faults.is_empty(), out);
}

/// What has to be said above the card.
fn said(ui: &mut Ui, room: &mut Rect, state: &SettingsState, refused: Option<&str>) {
    let p = palette(ui.ctx());
    use super::icons::Icon;
    if let Some(refused) = refused {
        line_view::notice(ui, room, p.error, Icon::Stop, tr!("settings-refused"), refused);
    }
    if state.outside {
        let (title, text) = (tr!("settings-outside"), tr!("settings-outside-text"));
        line_view::notice(ui, room, p.error, Icon::Warning, title, text);
    }
    if state.leaving {
        let (title, text) = (tr!("settings-unsaved"), tr!("settings-unsaved-text"));
        line_view::notice(ui, room, p.error, Icon::Warning, title, text);
    }
    match &state.came {
        Some(Came::Saved { later }) => {
            let text = match later {
                None => "",
                Some(Later::WhenIdle) => tr!("settings-saved-idle"),
                Some(Later::NextStart) => tr!("settings-saved-restart"),
            };
            line_view::notice(ui, room, p.pass, Icon::Check, tr!("settings-saved"), text);
        }
        Some(Came::Reread) => {
            line_view::notice(ui, room, p.running, Icon::Retry, tr!("settings-reread"), "");
        }
        Some(Came::Failed(failure)) => {
            line_view::failed(ui, room, p.fail, failure);
        }
        None => {}
    }
}

pub(super) fn heading(ui: &mut Ui, text: &str, p: &Palette) {
    ui.add_space(8.0);
    ui.label(RichText::new(text).font(strong(17.0)).color(p.text));
}

/// Width of the names on the left.
fn names(ui: &Ui) -> f32 {
    (ui.available_width() * 0.25).clamp(120.0, 190.0)
}

/// A row: what it is, the control, and beside it what is wrong or what it means.
pub(super) fn row(ui: &mut Ui, name: &str, p: &Palette, add: impl FnOnce(&mut Ui, egui::Id)) {
    let width = names(ui);
    ui.horizontal(|ui| {
        let left = egui::Layout::left_to_right(egui::Align::Center);
        let label = ui
            .allocate_ui_with_layout(vec2(width, 36.0), left, |ui| {
                ui.set_min_width(width);
                ui.add(egui::Label::new(RichText::new(name).font(regular(14.5)).color(p.muted)).wrap())
            })
            .inner;
        add(ui, label.id);
    });
}

pub(super) fn beside(ui: &mut Ui, fault: Option<Fault>, hint: &str, p: &Palette) {
    let (text, ink) = match fault {
        Some(fault) => (fault_text(fault), p.fail.ink),
        None => (hint, p.muted),
    };
    if fault.is_some() {
        super::copy::offer(ui, text);
    }
    if !text.is_empty() {
        ui.add(egui::Label::new(RichText::new(text).font(regular(13.5)).color(ink)).wrap());
    }
}

pub(super) fn text_row(
    ui: &mut Ui,
    name: &str,
    text: &mut String,
    width: f32,
    (fault, hint): (Option<Fault>, &str),
    p: &Palette,
) {
    // What has no room beside the field stands below it.
    let below = ui.available_width() - names(ui) - width < 230.0;
    row(ui, name, p, |ui, label| {
        let edit = egui::TextEdit::singleline(text)
            .char_limit(256)
            .desired_width(width.min(ui.available_width() - 24.0))
            .margin(vec2(10.0, 8.0))
            .show(ui)
            .response
            .response
            .labelled_by(label);
        if fault.is_some() {
            ui.painter().rect_stroke(edit.rect, 8.0, Stroke::new(2.0, p.fail.solid), StrokeKind::Outside);
            ui.ctx().accesskit_node_builder(edit.id, |node| {
                node.set_invalid(egui::accesskit::Invalid::True);
            });
        }
        if !below {
            beside(ui, fault, hint, p);
        }
    });
    if below {
        beside(ui, fault, hint, p);
    }
}

/// A text row whose text is a path: with a button that opens the system's dialog.
pub(super) fn path_row(
    ui: &mut Ui,
    name: &str,
    text: &mut String,
    (files, kind): (&Files, Kind),
    (fault, hint): (Option<Fault>, &str),
    p: &Palette,
) {
    row(ui, name, p, |ui, label| {
        let edit = egui::TextEdit::singleline(text)
            .char_limit(1024)
            .desired_width(360.0_f32.min(ui.available_width() - 140.0))
            .margin(vec2(10.0, 8.0))
            .show(ui)
            .response
            .response
            .labelled_by(label);
        if fault.is_some() {
            ui.painter().rect_stroke(edit.rect, 8.0, Stroke::new(2.0, p.fail.solid), StrokeKind::Outside);
            ui.ctx().accesskit_node_builder(edit.id, |node| {
                node.set_invalid(egui::accesskit::Invalid::True);
            });
        }
        files.button(ui, name, text, kind);
    });
    if fault.is_some() || !hint.is_empty() {
        let width = names(ui) + ui.spacing().item_spacing.x;
        ui.horizontal(|ui| {
            ui.spacing_mut().interact_size.y = 18.0;
            ui.add_space(width);
            beside(ui, fault, hint, p);
        });
    }
}

fn window(ui: &mut Ui, draft: &mut Draft, p: &Palette) {
    heading(ui, tr!("settings-window"), p);
    row(ui, tr!("settings-language"), p, |ui, _| {
        ui.spacing_mut().item_spacing.x = 14.0;
        for choice in LanguageChoice::ALL {
            ui.radio_value(&mut draft.language, choice, language_name(choice));
        }
    });
    row(ui, tr!("settings-dates"), p, |ui, _| {
        ui.spacing_mut().item_spacing.x = 14.0;
        for format in DateFormat::ALL {
            ui.radio_value(&mut draft.formats.dates, format, date_sample(format));
        }
    });
    row(ui, tr!("settings-numbers"), p, |ui, _| {
        ui.spacing_mut().item_spacing.x = 14.0;
        for format in NumberFormat::ALL {
            ui.radio_value(&mut draft.formats.numbers, format, number_sample(format));
        }
    });
    row(ui, tr!("settings-theme"), p, |ui, _| {
        ui.spacing_mut().item_spacing.x = 14.0;
        for theme in Theme::ALL {
            ui.radio_value(&mut draft.theme, theme, theme_name(theme));
        }
    });
    row(ui, tr!("settings-text-size"), p, |ui, label| {
        let slider = egui::Slider::new(&mut draft.text_size, TEXT_SIZES).step_by(10.0).suffix(" %");
        ui.add(slider).labelled_by(label);
        beside(ui, None, tr!("settings-text-size-hint"), p);
    });
}

fn station(ui: &mut Ui, draft: &mut Draft, faults: &[(Field, Fault)], files: &Files, p: &Palette) {
    let fault = |field| faults.iter().find(|f| f.0 == field).map(|f| f.1);
    heading(ui, tr!("settings-station"), p);
    let said = (fault(Field::Name), tr!("settings-name-hint"));
    text_row(ui, tr!("settings-name"), &mut draft.name, 260.0, said, p);
    let said = (None, tr!("settings-image-hint"));
    path_row(ui, tr!("settings-image"), &mut draft.image, (files, Kind::File(&["json"])), said, p);
    let said = (fault(Field::GrayRelease), tr!("settings-gray-hint"));
    text_row(ui, tr!("settings-gray"), &mut draft.gray_release, 90.0, said, p);
    let said = (fault(Field::ExchangeTimeout), tr!("settings-timeout-hint"));
    text_row(ui, tr!("settings-timeout"), &mut draft.exchange_timeout, 90.0, said, p);
    let said = (None, tr!("settings-virtual-board-hint"));
    let board = (files, Kind::File(&[]));
    path_row(ui, tr!("settings-virtual-board"), &mut draft.virtual_board, board, said, p);
}

/// What people may and what the window does by itself.
fn work(ui: &mut Ui, draft: &mut Draft, faults: &[(Field, Fault)], p: &Palette) {
    let fault = |field| faults.iter().find(|f| f.0 == field).map(|f| f.1);
    heading(ui, tr!("settings-work"), p);
    let said = (fault(Field::AutoLock), tr!("settings-auto-lock-hint"));
    text_row(ui, tr!("settings-auto-lock"), &mut draft.auto_lock, 90.0, said, p);
    row(ui, tr!("settings-second"), p, |ui, _| {
        ui.checkbox(&mut draft.second_person, tr!("settings-second-text"));
    });
}

fn backup(ui: &mut Ui, draft: &mut Draft, faults: &[(Field, Fault)], files: &Files, p: &Palette) {
    let fault = |field| faults.iter().find(|f| f.0 == field).map(|f| f.1);
    heading(ui, tr!("settings-backup"), p);
    let said = (None, tr!("settings-backup-folder-hint"));
    path_row(ui, tr!("settings-backup-folder"), &mut draft.backup_folder, (files, Kind::Folder), said, p);
    let said = (fault(Field::BackupHours), tr!("settings-backup-hours-hint"));
    text_row(ui, tr!("settings-backup-hours"), &mut draft.backup_hours, 90.0, said, p);
    let said = (fault(Field::BackupKeep), tr!("settings-backup-keep-hint"));
    text_row(ui, tr!("settings-backup-keep"), &mut draft.backup_keep, 90.0, said, p);
}

fn fixtures(ui: &mut Ui, draft: &mut Draft, faults: &[(Field, Fault)], p: &Palette) {
    let fault = |field| faults.iter().find(|f| f.0 == field).map(|f| f.1);
    heading(ui, tr!("settings-fixtures"), p);
    if draft.fixtures.is_empty() {
        ui.label(RichText::new(tr!("settings-no-fixtures")).font(regular(14.5)).color(p.muted));
    }
    let mut gone = None;
    for (i, fixture) in draft.fixtures.iter_mut().enumerate() {
        ui.push_id(("fixture", i), |ui| {
            let number = i + 1;
            ui.add_space(4.0);
            let said = (fault(Field::FixtureName(i)), "");
            let name = tr!("settings-fixture-name", number = number);
            text_row(ui, &name, &mut fixture.name, 260.0, said, p);
            let said = (fault(Field::Probe(i)), "");
            let name = tr!("settings-fixture-probe", number = number);
            text_row(ui, &name, &mut fixture.probe, 360.0, said, p);
            let said = (fault(Field::Serial(i)), "");
            let name = tr!("settings-fixture-port", number = number);
            text_row(ui, &name, &mut fixture.serial, 360.0, said, p);
            row(ui, "", p, |ui, _| {
                if ui.button(tr!("settings-fixture-remove", number = number)).clicked() {
                    gone = Some(i);
                }
            });
        });
    }
    if let Some(i) = gone {
        draft.fixtures.remove(i);
    }
    ui.horizontal_wrapped(|ui| {
        if ui.button(tr!("settings-fixture-add")).clicked() {
            draft.fixtures.push(FixtureDraft::default());
        }
        beside(ui, None, tr!("settings-fixture-hint"), p);
    });
}

fn clouds(ui: &mut Ui, draft: &mut Draft, faults: &[(Field, Fault)], files: &Files, p: &Palette) {
    heading(ui, tr!("settings-clouds"), p);
    ui.label(RichText::new(tr!("settings-clouds-hint")).font(regular(13.5)).color(p.muted));
    let mut gone = None;
    for (i, cloud) in draft.clouds.iter_mut().enumerate() {
        ui.push_id(("cloud", i), |ui| {
            ui.add_space(4.0);
            let fault = |field: fn(usize) -> Field| faults.iter().find(|f| f.0 == field(i)).map(|f| f.1);
            broker(ui, i + 1, cloud, &fault, files, p);
            row(ui, "", p, |ui, _| {
                if ui.button(tr!("settings-cloud-remove", number = i + 1)).clicked() {
                    gone = Some(i);
                }
            });
        });
    }
    if let Some(i) = gone {
        draft.clouds.remove(i);
    }
    if ui.button(tr!("settings-cloud-add")).clicked() {
        draft.clouds.push(CloudDraft::default());
    }
}

/// The fields of a Mosquitto broker.
fn broker(
    ui: &mut Ui,
    number: usize,
    cloud: &mut CloudDraft,
    fault: &dyn Fn(fn(usize) -> Field) -> Option<Fault>,
    files: &Files,
    p: &Palette,
) {
    let said = (fault(Field::CloudName), tr!("settings-cloud-name-hint"));
    text_row(ui, &tr!("settings-cloud-name", number = number), &mut cloud.name, 180.0, said, p);
    let said = (fault(Field::CloudUrl), tr!("settings-cloud-url-hint"));
    text_row(ui, &tr!("settings-cloud-url", number = number), &mut cloud.url, 360.0, said, p);
    let said = (fault(Field::CloudCa), "");
    let kind = (files, Kind::File(&["pem", "crt"]));
    path_row(ui, &tr!("settings-cloud-ca", number = number), &mut cloud.ca, kind, said, p);
    let said = (fault(Field::CloudUser), "");
    text_row(ui, &tr!("settings-cloud-user", number = number), &mut cloud.username, 260.0, said, p);
    let said = (fault(Field::CloudPassword), tr!("settings-cloud-password-hint"));
    let kind = (files, Kind::File(&[]));
    path_row(ui, &tr!("settings-cloud-password", number = number), &mut cloud.password_file, kind, said, p);
}

/// The token that may hold signing keys; its PIN is asked for, and never in the file.
fn token(ui: &mut Ui, draft: &mut Draft, faults: &[(Field, Fault)], files: &Files, p: &Palette) {
    let fault = |field| faults.iter().find(|f| f.0 == field).map(|f| f.1);
    heading(ui, tr!("settings-token"), p);
    let said = (fault(Field::TokenModule), tr!("settings-token-module-hint"));
    let kind = (files, Kind::File(&["so", "dll", "dylib"]));
    path_row(ui, tr!("settings-token-module"), &mut draft.token_module, kind, said, p);
    let said = (fault(Field::TokenLabel), tr!("settings-token-label-hint"));
    text_row(ui, tr!("settings-token-label"), &mut draft.token_label, 260.0, said, p);
}

fn paths(ui: &mut Ui, view: &mut ViewState, out: &mut Asked, p: &Palette) {
    heading(ui, tr!("settings-file"), p);
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new(&view.settings_path).font(super::theme::mono(13.5)).color(p.text));
        if ui.button(tr!("settings-copy-path")).clicked() {
            ui.ctx().copy_text(view.settings_path.clone());
            view.notice = Some(tr!("copied").into());
        }
    });
    ui.label(RichText::new(tr!("settings-file-hint")).font(regular(13.5)).color(p.muted));
    if view.has_host {
        heading(ui, tr!("settings-guide"), p);
        ui.horizontal_wrapped(|ui| {
            if ui.button(tr!("settings-guide-open")).clicked() {
                out.host.push(crate::host::Command::Guide);
            }
            ui.label(RichText::new(tr!("settings-guide-hint")).font(regular(13.5)).color(p.muted));
        });
    }
}

fn buttons(ui: &mut Ui, foot: Rect, view: &mut ViewState, usable: bool, out: &mut Asked) {
    let p = palette(ui.ctx());
    let Some(state) = &view.settings else { return };
    let (changed, outside, leaving) = (state.is_changed(), state.outside, state.leaving);
    let mut right = foot.right();
    let mut button = |ui: &mut Ui, text: &str, loud: Loud, enabled: bool| {
        let button = Button { text, name: text, icon: None, loud, enabled, size: 15.0 };
        let width = button.width(ui);
        let place = Rect::from_min_size(pos2(right - width, foot.top() + 4.0), vec2(width, 38.0));
        right = place.left() - 10.0;
        button.show(ui, place).clicked()
    };
    if button(ui, tr!("settings-save"), Loud::Primary, changed && usable && !outside) {
        save(view, out);
    }
    if changed || outside {
        let text = if outside { tr!("settings-reload") } else { tr!("settings-discard") };
        let loud = if outside || leaving { Loud::Danger } else { Loud::Quiet };
        if button(ui, text, loud, true) {
            out.settings.push(Wish::Reload);
        }
    }
    if button(ui, tr!("settings-close"), Loud::Quiet, true) {
        leave(view);
    }
    let words = Rect::from_min_max(foot.min, pos2(right, foot.bottom()));
    super::widgets::line(ui, words, Align2::LEFT_CENTER, tr!("settings-keys"), regular(13.5), p.muted);
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{Scene, ScriptedDesk, ScriptedLine, scene};
    use super::super::{Options, Rhythm, Window, install};
    use super::*;
    use crate::settings::StationFile;
    use egui_kittest::{Harness, kittest::Queryable};
    use std::time::Instant;

    const EXAMPLE: &str = include_str!("../../../assets/station.example.toml");

    struct Bench {
        folder: tempfile::TempDir,
        h: Harness<'static, Option<Window>>,
    }

    impl Bench {
        fn new(text: &str) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("station.toml");
            std::fs::write(&path, text).expect("written");
            let line = ScriptedLine::new(scene(Scene::Ready(1), Instant::now()));
            let mut h = Harness::builder()
                .with_size(vec2(1280.0, 2400.0))
                .with_step_dt(1.0 / 60.0)
                .with_max_steps(200)
                .with_context_setup(install)
                .build_ui_state(
                    move |ui, window: &mut Option<Window>| {
                        let ctx = ui.ctx().clone();
                        let window = window.get_or_insert_with(|| {
                            let config = crate::config::Config::load(&path).expect("the file");
                            let options = Options {
                                theme: config.theme,
                                language: config.language.language(),
                                file: Some(StationFile::new(&path)),
                                ..Options::default()
                            };
                            let desk = Box::new(ScriptedDesk::default());
                            Window::new(&ctx, (Box::new(line.clone()), desk), options, Rhythm::CARD)
                        });
                        window.logic(&ctx);
                        window.ui(ui);
                    },
                    None,
                );
            h.step();
            Self { folder, h }
        }

        fn open(text: &str) -> Self {
            let mut bench = Self::new(text);
            bench.h.key_press_modifiers(Modifiers::COMMAND, Key::Comma);
            bench.steps();
            bench
        }

        // An open settings view looks at its file again and again, so it never comes to rest.
        fn steps(&mut self) {
            for _ in 0..4 {
                self.h.step();
            }
        }

        fn click(&mut self, label: &str) {
            self.h.get_by_label(label).click();
            self.steps();
        }

        fn replace(&mut self, label: &str, text: &str) {
            self.h.get_by_label(label).click();
            self.steps();
            self.h.key_press_modifiers(Modifiers::COMMAND, Key::A);
            self.steps();
            self.h.event(egui::Event::Text(text.into()));
            self.steps();
        }

        fn file(&self) -> String {
            std::fs::read_to_string(self.folder.path().join("station.toml")).expect("read")
        }

        fn state(&self) -> Option<&SettingsState> {
            self.h.state().as_ref().expect("a window").view.settings.as_ref()
        }
    }

    #[test]
    fn a_name_is_changed_saved_and_its_comment_stays() {
        let mut bench = Bench::open(EXAMPLE);
        bench.h.get_by_label("Language");
        bench.replace("Station name", "line-7");
        assert_eq!(bench.file(), EXAMPLE, "nothing is written before it is asked for");
        bench.click("Save");
        bench.h.get_by_label("Saved in station.toml");
        assert_eq!(bench.file(), EXAMPLE.replace("\"line-1\"", "\"line-7\""));
        assert!(!bench.state().expect("still open").is_changed());
    }

    #[test]
    fn the_language_changes_at_once_and_back_again() {
        let mut bench = Bench::open("[window]\nlanguage = \"en\"\n");
        bench.click("简体中文");
        bench.h.get_by_label("Language");
        bench.click("Save");
        assert!(bench.h.query_by_label("Language").is_none());
        bench.h.get_by_label("语言");
        bench.h.get_by_label("设置");
        assert_eq!(bench.file(), "[window]\nlanguage = \"zh-CN\"\n");
        bench.click("English");
        bench.click("保存");
        bench.h.get_by_label("Language");
    }

    #[test]
    fn a_fault_stands_beside_its_field_in_both_languages_and_nothing_is_saved() {
        for (language, name, save, fault) in [
            ("en", "Fixture 1: probe", "Save", "VID:PID:SERIAL, such as 0483:374b:066DFF3"),
            ("zh-CN", "工位 1：探针", "保存", "格式为 VID:PID:SERIAL，例如 0483:374b:066DFF3"),
        ] {
            let text = format!("{EXAMPLE}\n[window]\nlanguage = \"{language}\"\n");
            let mut bench = Bench::open(&text);
            bench.replace(name, "what");
            let (field, said) = (bench.h.get_by_label(name).rect(), bench.h.get_by_label(fault).rect());
            assert!((field.center().y - said.center().y).abs() < 20.0, "{field:?} {said:?}");
            bench.click(save);
            assert_eq!(bench.file(), text);
        }
    }

    /// A player of one's own: the test hears what it was given.
    #[cfg(unix)]
    #[test]
    fn sounds_are_tried_and_how_the_line_starts_is_saved() {
        let folder = tempfile::tempdir().expect("a folder");
        let heard = folder.path().join("heard");
        let command = format!("head -c 4 \"$1\" >> {}", heard.display());
        let text = format!("[line]\nsound_command = [\"sh\", \"-c\", {command:?}, \"sh\", \"$file\"]\n");
        let mut bench = Bench::open(&text);
        bench.click("Test sounds");
        let until = Instant::now() + std::time::Duration::from_secs(30);
        while bench.h.query_by_label_contains("The sounds were played").is_none() {
            assert!(Instant::now() < until, "{:?}", std::fs::read(&heard));
            bench.steps();
        }
        assert_eq!(std::fs::read(&heard).expect("heard"), b"RIFFRIFFRIFF");
        bench.click("Begin with auto-start on");
        bench.replace("Lies still for", "1500");
        bench.click("Save");
        let read = StationFile::new(bench.folder.path().join("station.toml")).read().expect("a good file");
        assert!(read.config.line.auto_start && read.config.line.debounce.as_millis() == 1500);
    }

    #[test]
    fn fixtures_are_added_and_removed() {
        let mut bench = Bench::open(EXAMPLE);
        bench.click("Remove fixture 2");
        bench.click("Add a fixture");
        bench.replace("Fixture 2: name", "new");
        bench.replace("Fixture 2: probe", "0483:374b:NEW");
        bench.replace("Fixture 2: serial port", "COM9");
        bench.click("Save");
        let read = StationFile::new(bench.folder.path().join("station.toml")).read().expect("a good file");
        let names: Vec<_> = read.config.fixtures.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["left", "new"]);
        bench.h.get_by_label_contains("the rest from the next start on");
    }

    #[test]
    fn backups_brokers_and_the_lock_are_changed_and_files_chosen() {
        let mut bench = Bench::open(EXAMPLE);
        bench.replace("Lock after", "5");
        bench.replace("Every", "12");
        bench.click("Add a Mosquitto broker");
        bench.replace("Cloud 1: name", "plant");
        bench.replace("Cloud 1: address", "mqtt://127.0.0.1:1883");
        bench.replace("Cloud 1: user name", "keywright-agent");
        bench.replace("Cloud 1: password file", "plant.password");
        let window = bench.h.state_mut().as_mut().expect("a window");
        window.view.files.put("Common image", std::path::Path::new("/release/common-image.json"));
        window.view.files.put("Folder", std::path::Path::new("/media/other"));
        bench.steps();
        bench.click("Save");
        let read = StationFile::new(bench.folder.path().join("station.toml")).read().expect("a good file");
        let draft = &read.draft;
        assert_eq!((draft.auto_lock.as_str(), draft.backup_hours.as_str()), ("5", "12"));
        assert_eq!(
            (draft.image.as_str(), draft.backup_folder.as_str()),
            ("/release/common-image.json", "/media/other")
        );
        assert_eq!(read.config.clouds.len(), 2);
        bench.click("Remove cloud 1");
        bench.click("Save");
        let read = StationFile::new(bench.folder.path().join("station.toml")).read().expect("a good file");
        assert_eq!(read.config.clouds.len(), 1, "the station's own");
    }

    #[test]
    fn changes_that_are_not_saved_are_not_dropped_without_a_question() {
        let mut bench = Bench::open(EXAMPLE);
        bench.replace("Station name", "other");
        bench.click("Close");
        bench.h.get_by_label("There are changes that are not saved");
        assert!(bench.state().is_some());
        bench.click("Discard changes");
        assert_eq!(bench.state().expect("open").draft.name, "line-1");
        bench.click("Close");
        assert!(bench.state().is_none());
        bench.h.get_by_label("Fixture 1: board ready");
        assert_eq!(bench.file(), EXAMPLE);
    }

    #[test]
    fn a_file_changed_outside_is_read_again_or_asked_about() {
        let mut bench = Bench::open(EXAMPLE);
        let path = bench.folder.path().join("station.toml");
        let other = EXAMPLE.replace("line-1", "line-8");
        std::fs::write(&path, &other).expect("written");
        bench.h.state_mut().as_mut().expect("a window").look_at_file();
        bench.steps();
        assert_eq!(bench.state().expect("open").draft.name, "line-8");
        bench.replace("Station name", "mine");
        std::fs::write(&path, EXAMPLE).expect("written");
        bench.h.state_mut().as_mut().expect("a window").look_at_file();
        bench.steps();
        bench.h.get_by_label("station.toml was changed outside");
        assert_eq!(bench.state().expect("open").draft.name, "mine");
        bench.click("Read the file again");
        assert_eq!(bench.state().expect("open").draft.name, "line-1");
        assert_eq!(bench.file(), EXAMPLE);
    }

    #[test]
    fn a_window_without_a_file_has_no_settings_and_keys_in_them_start_nothing() {
        let mut bench = Bench::open(EXAMPLE);
        bench.h.key_press(Key::Space);
        bench.h.key_press(Key::Num1);
        bench.steps();
        assert!(bench.state().is_some());
        bench.h.key_press(Key::Escape);
        bench.steps();
        assert!(bench.state().is_none());
        let mut h = super::super::line_view::tests::harness(scene(Scene::Ready(1), Instant::now()));
        h.key_press_modifiers(Modifiers::COMMAND, Key::Comma);
        h.run();
        assert!(h.query_by_label("Language").is_none());
    }
}
