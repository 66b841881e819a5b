//! The Exports view: a wizard from "which units" to the signed receipt, and the log of what was handed out.
//!
//! Invariants:
//! - It reads the clerk's snapshot and leaves commands; it never touches records, keys or the disk.
//! - What is secret is never shown: previews arrive hidden, a typed password is wiped when it has been sent.
//! - A step that can't be left says why.

use super::check_view::{self, CheckState};
use super::copy;
use super::files::{Files, Kind};
use super::line_view::ViewState;
use super::said;
use super::settings_view::path_row;
use super::theme::{Palette, Tone, mono, palette, regular, strong};
use crate::desk::Told;
use crate::export::clerk::{Command, Order, Snapshot, Wanted};
use crate::export::{Format, Phase, Selection};
use crate::i18n::{date_time, number, tr};
use crate::model::UnitState;
use crate::people::{Pin, same_name};
use crate::records::ExposedUnit;
use crate::secrets::Passphrase;
use egui::{Rect, RichText, Stroke, StrokeKind, Ui, UiBuilder, vec2};
use std::path::PathBuf;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// Steps of the wizard, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Which units.
    #[default]
    What,
    /// In which form.
    Format,
    /// Protected how.
    Protection,
    /// The first rows, secrets hidden.
    Preview,
    /// Where to, and who stands by.
    File,
    /// Receipt and fingerprints.
    Done,
}

impl Step {
    const ALL: [Self; 6] =
        [Self::What, Self::Format, Self::Protection, Self::Preview, Self::File, Self::Done];

    fn name(self) -> &'static str {
        match self {
            Self::What => tr!("exports-step-units"),
            Self::Format => tr!("exports-step-format"),
            Self::Protection => tr!("exports-step-protection"),
            Self::Preview => tr!("exports-step-preview"),
            Self::File => tr!("exports-step-file"),
            Self::Done => tr!("exports-step-receipt"),
        }
    }

    fn next(self) -> Self {
        Self::ALL.into_iter().find(|s| *s > self).unwrap_or(self)
    }

    fn back(self) -> Self {
        Self::ALL.into_iter().rev().find(|s| *s < self).unwrap_or(self)
    }
}

/// How secrets are protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protect {
    /// age.
    #[default]
    Age,
    /// OpenPGP.
    OpenPgp,
    /// PSKC password.
    Password,
    /// In clear.
    Plain,
    /// The list without keys.
    Without,
}

/// A text that is wiped and never shown by `Debug`.
#[derive(Clone, Default)]
pub(super) struct Typed(String);

impl Typed {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A copy, which whoever takes it wipes.
    pub(super) fn text(&self) -> String {
        self.0.clone()
    }

    pub(super) fn wipe(&mut self) {
        self.0.zeroize();
        self.0.clear();
    }
}

impl std::fmt::Debug for Typed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Typed(redacted)")
    }
}

impl Drop for Typed {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What the window remembers of the Exports view.
#[derive(Clone, Debug, Default)]
pub struct ExportsState {
    /// The clerk's newest snapshot, set before every frame.
    pub seen: Arc<Snapshot>,
    /// Commands for the clerk.
    pub out: Vec<Command>,
    /// The running export is to end.
    pub cancel: bool,
    step: Step,
    log: bool,
    checking: bool,
    pub(super) check: CheckState,
    batch: String,
    state: Option<UnitState>,
    failed: Option<bool>,
    region: String,
    since: String,
    until: String,
    format: Option<Format>,
    protect: Protect,
    age: String,
    keys: Vec<PathBuf>,
    key: String,
    password: Typed,
    again: Typed,
    reason: String,
    to: String,
    second: String,
    second_shows: Typed,
    folder: String,
    replaces: Option<i64>,
    revoke: Option<(i64, String)>,
    /// The line's batch was offered.
    offered: bool,
}

impl ExportsState {
    /// As it is at a step, or in the log: for whoever looks at all of them.
    #[cfg(test)]
    pub(super) fn at(step: Step, log: bool, format: Format, protect: Protect) -> Self {
        Self { step, log, format: Some(format), protect, ..Self::default() }
    }

    /// How many characters of a password it holds, and of the step it shows whether it is the first.
    #[cfg(test)]
    pub(super) fn left(&self) -> (usize, bool) {
        (self.password.0.len() + self.again.0.len(), self.step == Step::What)
    }

    /// The panel that looks at a file.
    #[cfg(test)]
    pub(super) fn checking() -> Self {
        Self { checking: true, ..Self::default() }
    }

    /// Wipes what was typed and is secret.
    pub fn wipe(&mut self) {
        for typed in [&mut self.password, &mut self.again, &mut self.second_shows, &mut self.check.password] {
            typed.wipe();
        }
    }

    /// The files with OpenPGP keys, the one that is still in its field included.
    fn key_files(&self) -> Vec<PathBuf> {
        let typed = Some(self.key.trim()).filter(|key| !key.is_empty()).map(PathBuf::from);
        let typed = typed.filter(|key| !self.keys.contains(key));
        self.keys.iter().cloned().chain(typed).collect()
    }

    /// Begins with the batch that the line works on; what somebody chose since stays.
    pub fn offer(&mut self, batch: Option<&str>) {
        if let Some(batch) = batch.filter(|_| !self.offered) {
            self.offered = true;
            self.batch = batch.to_owned();
        }
    }

    /// Takes what is to be sent.
    pub fn take(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.out)
    }

    fn selection(&self) -> Result<Selection, String> {
        let mut selection = Selection::default();
        if !self.batch.is_empty() {
            selection.batch = Some(self.batch.clone());
        }
        selection.state = self.state;
        selection.failed = self.failed;
        for (key, value) in [("region", &self.region), ("since", &self.since), ("until", &self.until)] {
            if !value.trim().is_empty() {
                selection.and(&format!("{key}={}", value.trim()))?;
            }
        }
        Ok(selection)
    }

    fn format(&self) -> Format {
        self.format.unwrap_or(Format::Csv)
    }

    fn needs_protection(&self) -> bool {
        self.format().holds_secrets()
    }

    fn wanted(&self) -> Wanted {
        if !self.needs_protection() {
            return Wanted::Nothing;
        }
        match self.protect {
            Protect::Age => Wanted::Age(self.age.clone()),
            Protect::OpenPgp => Wanted::OpenPgp(self.key_files()),
            Protect::Password => Wanted::Password(Passphrase::new(self.password.0.clone())),
            Protect::Plain => Wanted::Plain(self.reason.clone()),
            Protect::Without => Wanted::Nothing,
        }
    }

    /// Why this step can't be left yet.
    fn missing(&self, operator: &str) -> Option<String> {
        let hands_out = self.needs_protection() && self.protect != Protect::Without;
        match self.step {
            Step::What => self.selection().err(),
            Step::Format => self.format.is_none().then(|| tr!("exports-no-format").into()),
            Step::Protection if !self.needs_protection() => None,
            Step::Protection => match self.protect {
                Protect::Age if self.age.trim().is_empty() => Some(tr!("exports-no-recipient").into()),
                Protect::OpenPgp if self.key_files().is_empty() => Some(tr!("exports-no-key").into()),
                Protect::Password if self.password.0.chars().count() < 12 => {
                    Some(tr!("exports-short").into())
                }
                Protect::Password if self.password.0 != self.again.0 => Some(tr!("exports-differ").into()),
                Protect::Plain if self.reason.trim().is_empty() => Some(tr!("exports-no-reason").into()),
                Protect::Password | Protect::Plain if self.to.trim().is_empty() => {
                    Some(tr!("exports-no-to").into())
                }
                _ => None,
            },
            Step::Preview => match &self.seen.preview {
                None if matches!(self.seen.told, Told::Failed(_)) => Some(tr!("exports-go-back").into()),
                None => Some(tr!("exports-reading").into()),
                Some(preview) if preview.rows == 0 => Some(tr!("exports-no-unit").into()),
                Some(_) => None,
            },
            Step::File if operator.is_empty() => Some(tr!("exports-no-operator").into()),
            Step::File if self.folder.trim().is_empty() => Some(tr!("exports-no-folder").into()),
            Step::File if !self.second.trim().is_empty() && same_name(&self.second, operator) => {
                Some(tr!("exports-same-person").into())
            }
            Step::File
                if self.seen.has_people && !self.second.trim().is_empty() && self.second_shows.is_empty() =>
            {
                Some(tr!("exports-no-pin").into())
            }
            Step::File if hands_out && self.seen.needs_second_person && !self.stands_by() => {
                Some(tr!("exports-no-second").into())
            }
            Step::File | Step::Done => None,
        }
    }

    /// Somebody is said to stand by; whether they do is the clerk's to find out.
    fn stands_by(&self) -> bool {
        let shows = self.seen.has_people && !self.second_shows.is_empty();
        shows || (!self.seen.has_people && !self.second.trim().is_empty())
    }

    /// Is shown while a file is made.
    fn shows(&self) -> Option<Pin> {
        let here = self.step == Step::File && self.seen.has_people && !self.second_shows.is_empty();
        here.then(|| Pin::new(Zeroizing::new(self.second_shows.text())))
    }

    fn order(&self, operator: &str) -> Option<Box<Order>> {
        Some(Box::new(Order {
            selection: self.selection().ok()?,
            format: self.format(),
            wanted: self.wanted(),
            handed_to: self.to.clone(),
            second_person: self.second.clone(),
            second_shows: self.shows(),
            operator: operator.to_owned(),
            replaces: self.replaces,
            folder: PathBuf::from(self.folder.trim()),
        }))
    }

    /// The station was locked: what was typed and is secret is gone, and whoever comes back types it again.
    pub fn put_away(&mut self) {
        self.wipe();
        if self.protect == Protect::Password && self.step > Step::Protection && self.step != Step::Done {
            self.step = Step::Protection;
        }
    }

    /// Begins anew: for the next list, and for the next person.
    pub fn restart(&mut self) {
        *self = Self { seen: self.seen.clone(), folder: self.folder.clone(), ..Self::default() };
        self.out.push(Command::Clear);
    }
}

/// What a form is called.
pub(super) fn format_name(format: Format) -> &'static str {
    match format {
        Format::Csv => tr!("exports-title-csv"),
        Format::Jsonl => tr!("exports-title-jsonl"),
        Format::Aws => tr!("exports-title-aws"),
        Format::AzureHub => tr!("exports-title-hub"),
        Format::AzureDps => tr!("exports-title-dps"),
        Format::Thingsboard => tr!("exports-title-thingsboard"),
        Format::Dynsec => tr!("exports-title-dynsec"),
        Format::Emqx => tr!("exports-title-emqx"),
        Format::EmqxJson => tr!("exports-title-emqx-json"),
        Format::Pskc => tr!("exports-title-pskc"),
        Format::Jws => tr!("exports-title-jws"),
    }
}

fn holds(format: Format) -> &'static str {
    match format {
        Format::Csv | Format::Jsonl => {
            tr!("exports-holds-canonical")
        }
        Format::Aws => tr!("exports-holds-aws"),
        Format::Thingsboard => tr!("exports-holds-thingsboard"),
        Format::AzureHub | Format::AzureDps => tr!("exports-holds-azure"),
        Format::Dynsec => tr!("exports-holds-login"),
        Format::Emqx | Format::EmqxJson => tr!("exports-holds-hashes"),
        Format::Pskc => tr!("exports-holds-both"),
        Format::Jws => tr!("exports-holds-jws"),
    }
}

/// The view below the header.
pub fn body(ui: &mut Ui, room: Rect, operator: &str, view: &mut ViewState) {
    let p = palette(ui.ctx());
    let state = &mut view.exports;
    let files = &view.files;
    if state.folder.is_empty() {
        state.folder = state.seen.folder.display().to_string();
    }
    ui.painter().rect(room, 14.0, p.surface, Stroke::new(1.0, p.border), StrokeKind::Inside);
    ui.scope_builder(UiBuilder::new().max_rect(room.shrink2(vec2(22.0, 16.0))), |ui| {
        ui.horizontal(|ui| {
            for (log, checking, name) in [
                (false, false, tr!("exports-new")),
                (true, false, tr!("exports-log")),
                (false, true, tr!("exports-check")),
            ] {
                if ui.selectable_label((state.log, state.checking) == (log, checking), name).clicked() {
                    (state.log, state.checking) = (log, checking);
                }
            }
            if !state.log && !state.checking {
                ui.add_space(18.0);
                for step in Step::ALL {
                    let here = step == state.step;
                    let color = if here { p.text } else { p.muted };
                    let font = if here { strong(15.0) } else { regular(14.0) };
                    let place = Step::ALL.iter().position(|s| *s == step).unwrap_or(0) + 1;
                    ui.label(RichText::new(format!("{place} {}", step.name())).font(font).color(color));
                }
            }
        });
        told(ui, &state.seen.told, p);
        match (state.log, state.checking) {
            (true, _) => log(ui, operator, state, p),
            (_, true) => check_view::panel(ui, state, files, p),
            _ => wizard(ui, operator, state, files, p),
        }
    });
}

fn told(ui: &mut Ui, told: &Told, p: &Palette) {
    let say = |ui: &mut Ui, tone: Tone, text: &str| {
        egui::Frame::new().fill(tone.soft).corner_radius(8).inner_margin(10).show(ui, |ui| {
            ui.set_width(ui.available_width());
            let response = ui.label(RichText::new(text).font(strong(14.5)).color(tone.ink));
            ui.ctx().accesskit_node_builder(response.id, |node| node.set_live(egui::accesskit::Live::Polite));
        });
    };
    match told {
        Told::Nothing => {}
        Told::Working(what) => say(ui, p.running, &said::told(what)),
        Told::Done(what) => say(ui, p.pass, &said::told(what)),
        Told::Failed(failure) => {
            let text = copy::told(failure);
            ui.horizontal(|ui| {
                let room = ui.available_rect_before_wrap();
                let place = Rect::from_min_size(room.min, vec2(room.width(), 34.0));
                let left = copy::button(ui, place, &text);
                ui.scope_builder(
                    UiBuilder::new().max_rect(Rect::from_min_max(left.min, left.right_bottom())),
                    |ui| {
                        say(ui, p.fail, &text);
                    },
                );
            });
        }
    }
}

pub(super) fn heading(ui: &mut Ui, text: &str, more: &str, p: &Palette) {
    ui.add_space(6.0);
    ui.label(RichText::new(text).font(strong(20.0)).color(p.text));
    if !more.is_empty() {
        ui.label(RichText::new(more).font(regular(14.5)).color(p.muted));
    }
    ui.add_space(4.0);
}

/// A line to type into, with its name above it.
fn text(ui: &mut Ui, name: &str, hint: &'static str, value: &mut String, width: f32) {
    let label = ui.label(name);
    ui.add(egui::TextEdit::singleline(value).hint_text(hint).char_limit(500).desired_width(width))
        .labelled_by(label.id);
}

/// A field for what nobody else may read.
pub(super) fn secret(ui: &mut Ui, typed: &mut Typed, width: f32) -> egui::Response {
    ui.add(egui::TextEdit::singleline(&mut typed.0).password(true).char_limit(200).desired_width(width))
}

fn wizard(ui: &mut Ui, operator: &str, state: &mut ExportsState, files: &Files, p: &Palette) {
    // The export ended while its step was shown.
    if state.step == Step::File && state.seen.done.is_some() {
        state.step = Step::Done;
        state.wipe();
    }
    let room = ui.available_height() - 64.0;
    egui::ScrollArea::vertical().id_salt("export step").max_height(room).auto_shrink(false).show(ui, |ui| {
        match state.step {
            Step::What => what(ui, state, p),
            Step::Format => formats(ui, state, p),
            Step::Protection => protection(ui, state, files, p),
            Step::Preview => previewed(ui, state, p),
            Step::File => file(ui, state, files, p),
            Step::Done => done(ui, state, p),
        }
    });
    ui.separator();
    let missing = state.missing(operator);
    let busy = state.seen.progress.is_some();
    ui.horizontal(|ui| {
        if state.step == Step::Done {
            if ui.button(tr!("exports-another")).clicked() {
                state.restart();
            }
            return;
        }
        if ui.add_enabled(state.step > Step::What && !busy, egui::Button::new(tr!("exports-back"))).clicked()
        {
            state.step = state.step.back();
        }
        let name = if state.step == Step::File { tr!("exports-now") } else { tr!("exports-next") };
        let go = egui::Button::new(RichText::new(name).color(p.running.on_solid)).fill(p.running.solid);
        if ui.add_enabled(missing.is_none() && !busy, go).clicked() {
            leave(state, operator);
        }
        if let Some(progress) = state.seen.progress {
            // From the entry in the log on there is nothing that could be cancelled.
            let can = progress.phase < Phase::Recording;
            if ui.add_enabled(can, egui::Button::new(tr!("exports-cancel"))).clicked() {
                state.cancel = true;
            }
        }
        if let Some(why) = missing.filter(|_| !busy) {
            ui.label(RichText::new(why).font(regular(14.5)).color(p.muted));
        }
    });
}

/// Goes on from a step that misses nothing.
fn leave(state: &mut ExportsState, operator: &str) {
    let Some(order) = state.order(operator) else { return };
    match state.step {
        Step::Protection => {
            state.out.push(Command::Preview(order));
            // Until the clerk has answered, what it said before is not about this.
            let told = Told::Working("Reading the records".into());
            state.seen = Arc::new(Snapshot { preview: None, told, ..(*state.seen).clone() });
        }
        Step::File => {
            state.out.push(Command::Export(order));
            state.second_shows.wipe();
            return;
        }
        _ => {}
    }
    state.step = state.step.next();
}

fn what(ui: &mut Ui, state: &mut ExportsState, p: &Palette) {
    if state.seen.batches.is_empty() {
        heading(ui, tr!("exports-nothing"), tr!("exports-nothing-how"), p);
        return;
    }
    heading(ui, tr!("exports-which"), tr!("exports-which-how"), p);
    let label = ui.label(tr!("exports-batch"));
    let shown =
        if state.batch.is_empty() { tr!("exports-any-batch").to_owned() } else { state.batch.clone() };
    egui::ComboBox::from_id_salt("export batch")
        .width(320.0)
        .selected_text(shown)
        .show_ui(ui, |ui| {
            ui.selectable_value(&mut state.batch, String::new(), tr!("exports-any-batch"));
            for batch in &state.seen.batches {
                ui.selectable_value(&mut state.batch, batch.clone(), batch);
            }
        })
        .response
        .labelled_by(label.id);
    ui.add_space(8.0);
    ui.label(tr!("exports-state"));
    ui.horizontal(|ui| {
        for (name, value) in [
            (tr!("exports-any-state"), None),
            (tr!("exports-state-passed"), Some(UnitState::Passed)),
            (tr!("exports-state-quarantine"), Some(UnitState::Quarantined)),
            (tr!("exports-state-scrapped"), Some(UnitState::Scrapped)),
        ] {
            ui.radio_value(&mut state.state, value, name);
        }
    });
    ui.label(tr!("exports-last"));
    ui.horizontal(|ui| {
        for (name, value) in [
            (tr!("exports-any-result"), None),
            (tr!("exports-failed"), Some(true)),
            (tr!("exports-not-failed"), Some(false)),
        ] {
            ui.radio_value(&mut state.failed, value, name);
        }
    });
    text(ui, tr!("exports-region"), tr!("exports-any"), &mut state.region, 120.0);
    text(ui, tr!("exports-since"), "2026-01-31", &mut state.since, 200.0);
    text(ui, tr!("exports-until"), "2026-02-28", &mut state.until, 200.0);
}

fn formats(ui: &mut Ui, state: &mut ExportsState, p: &Palette) {
    heading(ui, tr!("exports-which-form"), "", p);
    // All of them at once in the smallest window but one.
    (ui.spacing_mut().interact_size.y, ui.spacing_mut().item_spacing.y) = (26.0, 4.0);
    for format in Format::ALL {
        ui.horizontal(|ui| {
            if ui.radio(state.format == Some(format), format_name(format)).clicked() {
                state.format = Some(format);
                let fits = |protect| match protect {
                    Protect::Password => format == Format::Pskc,
                    Protect::Without => format.is_canonical(),
                    _ => true,
                };
                if !fits(state.protect) {
                    state.protect = Protect::Age;
                }
            }
            let holds = RichText::new(holds(format)).font(regular(14.0)).color(p.muted);
            ui.add(egui::Label::new(holds).truncate());
        });
    }
}

fn protection(ui: &mut Ui, state: &mut ExportsState, files: &Files, p: &Palette) {
    if !state.needs_protection() {
        heading(ui, tr!("exports-no-secret"), tr!("exports-no-secret-how"), p);
        text(ui, tr!("exports-to"), tr!("exports-to-hint"), &mut state.to, 360.0);
        return;
    }
    heading(ui, tr!("exports-how"), tr!("exports-how-why"), p);
    let format = state.format();
    ui.radio_value(&mut state.protect, Protect::Age, tr!("exports-age"));
    ui.radio_value(&mut state.protect, Protect::OpenPgp, tr!("exports-openpgp"));
    if format == Format::Pskc {
        ui.radio_value(&mut state.protect, Protect::Password, tr!("exports-by-password"));
    }
    if format.is_canonical() {
        ui.radio_value(&mut state.protect, Protect::Without, tr!("exports-without"));
    }
    ui.radio_value(&mut state.protect, Protect::Plain, tr!("exports-plain"));
    ui.add_space(6.0);
    match state.protect {
        Protect::Age => {
            let label = ui.label(tr!("exports-age-field"));
            ui.add(
                egui::TextEdit::multiline(&mut state.age)
                    .hint_text("age1…")
                    .desired_rows(3)
                    .desired_width(640.0),
            )
            .labelled_by(label.id);
        }
        Protect::OpenPgp => {
            let hint = (None, tr!("exports-key-hint"));
            let kind = Kind::File(&["asc", "gpg", "pgp", "key"]);
            path_row(ui, tr!("exports-key"), &mut state.key, (files, kind), hint, p);
            let another = egui::Button::new(tr!("exports-key-add"));
            if ui.add_enabled(!state.key.trim().is_empty(), another).clicked() {
                state.keys = state.key_files();
                state.key.clear();
            }
            let mut gone = None;
            for (i, key) in state.keys.iter().enumerate() {
                ui.horizontal(|ui| {
                    ui.label(key.display().to_string());
                    if ui
                        .button(tr!(
                            "exports-leave-out",
                            name = key.file_name().unwrap_or_default().to_string_lossy().into_owned()
                        ))
                        .clicked()
                    {
                        gone = Some(i);
                    }
                });
            }
            if let Some(i) = gone {
                state.keys.remove(i);
            }
        }
        Protect::Password => {
            for (name, typed) in [
                (tr!("exports-password"), &mut state.password),
                (tr!("exports-password-again"), &mut state.again),
            ] {
                let label = ui.label(name);
                secret(ui, typed, 360.0).labelled_by(label.id);
            }
            ui.label(RichText::new(tr!("exports-password-how")).font(regular(14.0)).color(p.muted));
        }
        Protect::Plain => {
            ui.label(RichText::new(tr!("exports-plain-warning")).font(strong(14.5)).color(p.fail.ink));
            text(ui, tr!("exports-plain-why"), "", &mut state.reason, 640.0);
        }
        Protect::Without => {}
    }
    text(ui, tr!("exports-to"), tr!("exports-to-hint"), &mut state.to, 360.0);
}

fn recipients(ui: &mut Ui, state: &ExportsState, p: &Palette) {
    for recipient in &state.seen.recipients {
        ui.label(
            RichText::new(tr!("exports-sealed-for", name = &recipient.name))
                .font(regular(14.5))
                .color(p.text),
        );
        ui.label(
            RichText::new(tr!("exports-fingerprint", fingerprint = &recipient.fingerprint))
                .font(mono(13.0))
                .color(p.muted),
        );
    }
}

fn previewed(ui: &mut Ui, state: &ExportsState, p: &Palette) {
    let Some(preview) = &state.seen.preview else {
        heading(ui, tr!("exports-step-preview"), "", p);
        return;
    };
    let rows = tr!("exports-preview-rows", rows = number(preview.rows), passed = number(preview.passed));
    heading(ui, tr!("exports-step-preview"), &rows, p);
    recipients(ui, state, p);
    for row in &preview.first {
        ui.add_space(6.0);
        ui.label(RichText::new(row.serial.as_deref().unwrap_or(tr!("exports-no-serial"))).font(strong(15.0)));
        for field in row.fields.iter().filter(|f| !f.value.is_empty()) {
            ui.horizontal(|ui| {
                ui.spacing_mut().interact_size.y = 18.0;
                let color = if field.hidden { p.error.ink } else { p.text };
                let left = egui::Layout::left_to_right(egui::Align::Center);
                ui.allocate_ui_with_layout(vec2(330.0, 18.0), left, |ui| {
                    ui.set_width(330.0);
                    let name = RichText::new(&field.name).font(mono(13.0)).color(p.muted);
                    ui.add(egui::Label::new(name).truncate());
                });
                ui.add(
                    egui::Label::new(RichText::new(&field.value).font(mono(13.0)).color(color)).truncate(),
                );
            });
        }
    }
}

fn file(ui: &mut Ui, state: &mut ExportsState, files: &Files, p: &Palette) {
    heading(ui, tr!("exports-where"), tr!("exports-where-how"), p);
    path_row(ui, tr!("exports-folder"), &mut state.folder, (files, Kind::Folder), (None, ""), p);
    let asked =
        if state.seen.needs_second_person { tr!("exports-second-demanded") } else { tr!("exports-second") };
    text(ui, asked, "", &mut state.second, 360.0);
    if state.seen.has_people {
        let label = ui.label(tr!("exports-second-pin"));
        secret(ui, &mut state.second_shows, 360.0).labelled_by(label.id);
        ui.label(RichText::new(tr!("exports-second-how")).font(regular(14.0)).color(p.muted));
    }
    recipients(ui, state, p);
    if let (Some(preview), None) = (&state.seen.preview, state.seen.progress) {
        // What can't be taken back is said in numbers where it is decided.
        let (now, rows) = (tr!("exports-now"), number(preview.rows));
        let keys = state.needs_protection() && state.protect != Protect::Without;
        let words = match keys {
            true => tr!("exports-will", now = now, rows = rows, units = number(preview.passed)),
            false => tr!("exports-will-no-keys", now = now, rows = rows),
        };
        ui.add_space(8.0);
        ui.label(RichText::new(words).font(strong(14.5)).color(if keys { p.fail.ink } else { p.text }));
    }
    if let Some(progress) = state.seen.progress {
        ui.add_space(10.0);
        let share = if progress.total == 0 { 0.0 } else { progress.done as f32 / progress.total as f32 };
        let words = match progress.phase {
            Phase::Rows => {
                tr!("exports-rows-of", done = number(progress.done), total = number(progress.total))
            }
            Phase::Signing => tr!("exports-signing").into(),
            Phase::Recording => tr!("exports-recording").into(),
        };
        let bar = egui::ProgressBar::new(share).text(words);
        let response = ui.add(bar.desired_width(640.0));
        ui.ctx().accesskit_node_builder(response.id, |node| node.set_label(tr!("exports-progress-name")));
    }
}

fn done(ui: &mut Ui, state: &ExportsState, p: &Palette) {
    heading(ui, tr!("exports-done"), tr!("exports-done-how"), p);
    for file in state.seen.done.iter().flat_map(|d| d.iter()) {
        let kind = if file.protected { tr!("exports-with-keys") } else { tr!("exports-without-keys") };
        ui.label(
            RichText::new(tr!(
                "exports-handed-out",
                number = file.number.to_string(),
                kind = kind,
                rows = number(file.rows)
            ))
            .font(strong(15.0)),
        );
        for (name, value) in [
            (tr!("exports-step-file"), file.file.display().to_string()),
            (tr!("exports-step-receipt"), file.receipt.display().to_string()),
            ("SHA-256", file.sha256.clone()),
        ] {
            ui.horizontal(|ui| {
                ui.add_sized([80.0, 20.0], egui::Label::new(name));
                ui.add(egui::Label::new(RichText::new(&value).font(mono(13.0)).color(p.text)).truncate());
                let copy = ui.button(tr!("exports-copy"));
                // Several of them stand below one another.
                let what = tr!("exports-copy-what", name = format!("{name} {}", file.number));
                ui.ctx().accesskit_node_builder(copy.id, |node| node.set_label(what.clone()));
                if copy.on_hover_text(what).clicked() {
                    ui.ctx().copy_text(value.clone());
                }
            });
        }
    }
    recipients(ui, state, p);
}

/// The units whose live keys the recipient of an export knows: all of them, for somebody has to give each of them new keys.
fn exposed(ui: &mut Ui, export: i64, units: &[ExposedUnit], p: &Palette) {
    let words = match units.len() as u64 {
        0 => tr!("exports-exposed-none", number = export.to_string()),
        all => tr!("exports-exposed", number = export.to_string(), units = number(all)),
    };
    ui.label(RichText::new(words).font(strong(14.5)).color(p.error.ink));
    if units.is_empty() {
        return;
    }
    if ui.button(tr!("exports-exposed-copy")).clicked() {
        let serials: Vec<&str> = units.iter().map(|unit| unit.serial.as_str()).collect();
        ui.ctx().copy_text(serials.join("\n"));
    }
    let most = 120.0_f32.min(ui.available_height() / 3.0);
    let area =
        egui::ScrollArea::vertical().id_salt("exposed units").max_height(most).auto_shrink([false, true]);
    area.show_rows(ui, 18.0, units.len(), |ui, shown| {
        for unit in &units[shown] {
            let line = format!("{}   {}   {}", unit.serial, unit.unit, unit.batch);
            ui.add(egui::Label::new(RichText::new(line).font(mono(13.0)).color(p.text)).truncate());
        }
    });
}

fn log(ui: &mut Ui, operator: &str, state: &mut ExportsState, p: &Palette) {
    let log = state.seen.log.clone();
    if log.is_empty() {
        heading(ui, tr!("exports-log-empty"), tr!("exports-log-empty-how"), p);
        return;
    }
    heading(ui, tr!("exports-log-head"), tr!("exports-log-how"), p);
    if let Some((export, units)) = &state.seen.exposed {
        exposed(ui, *export, units, p);
    }
    if let Some((export, reason)) = &mut state.revoke {
        let export = *export;
        text(
            ui,
            &tr!("exports-revoke-why", number = export.to_string()),
            tr!("exports-revoke-hint"),
            reason,
            520.0,
        );
        if let Some(record) = log.iter().find(|e| e.id == export) {
            let to = if record.handed_to.is_empty() { tr!("exports-nobody") } else { &record.handed_to };
            let words = tr!(
                "exports-revoke-numbers",
                to = to,
                units = number(record.keys_of),
                rows = number(record.rows)
            );
            ui.label(RichText::new(words).font(regular(14.5)).color(p.text));
        }
        let ready = !reason.trim().is_empty() && !operator.is_empty();
        let mut end = false;
        ui.horizontal(|ui| {
            let go = egui::Button::new(RichText::new(tr!("exports-revoke-go")).color(p.fail.on_solid))
                .fill(p.fail.solid);
            if ui.add_enabled(ready, go).clicked() {
                let reason = reason.trim().to_owned();
                state.out.push(Command::Revoke { export, operator: operator.to_owned(), reason });
                end = true;
            }
            end |= ui.button(tr!("exports-revoke-no")).clicked();
        });
        if end {
            state.revoke = None;
        }
    }
    let (mut again, mut ask) = (None, None);
    egui::ScrollArea::vertical().id_salt("export log").auto_shrink(false).show(ui, |ui| {
        for export in log.iter() {
            egui::Frame::new().stroke(Stroke::new(1.0, p.border)).corner_radius(8).inner_margin(10).show(
                ui,
                |ui| {
                    ui.set_width(ui.available_width());
                    let people = if export.second_person.is_empty() {
                        export.operator.clone()
                    } else {
                        format!("{} + {}", export.operator, export.second_person)
                    };
                    let head = tr!(
                        "exports-record",
                        number = export.id.to_string(),
                        form = &export.format,
                        rows = number(export.rows),
                        units = number(export.keys_of)
                    );
                    ui.label(RichText::new(head).font(strong(15.0)).color(p.text));
                    let to =
                        if export.handed_to.is_empty() { tr!("exports-nobody") } else { &export.handed_to };
                    let facts = format!(
                        "{} · {people} · {} · → {to} · {}",
                        date_time(export.at_ms),
                        export.selection,
                        export.protection
                    );
                    ui.label(RichText::new(facts).font(regular(14.0)).color(p.muted));
                    if !export.reason.is_empty() {
                        let words = tr!("exports-because", reason = &export.reason);
                        ui.label(RichText::new(words).font(regular(14.0)).color(p.fail.ink));
                    }
                    for fingerprint in &export.recipients {
                        ui.label(RichText::new(fingerprint).font(mono(12.5)).color(p.muted));
                    }
                    if let Some(revoked) = &export.revoked {
                        let words = tr!("exports-revoked", by = &revoked.by, reason = &revoked.reason);
                        ui.label(RichText::new(words).font(strong(14.0)).color(p.fail.ink));
                    }
                    ui.horizontal(|ui| {
                        if export.keys_of > 0
                            && ui.button(tr!("exports-who", number = export.id.to_string())).clicked()
                        {
                            state.out.push(Command::Exposed(export.id));
                        }
                        if export.revoked.is_none()
                            && ui.button(tr!("exports-revoke", number = export.id.to_string())).clicked()
                        {
                            ask = Some(export.id);
                        }
                        if ui.button(tr!("exports-again", number = export.id.to_string())).clicked() {
                            again = Some(export.clone());
                        }
                    });
                },
            );
        }
    });
    if let Some(export) = ask {
        state.revoke = Some((export, String::new()));
    }
    if let Some(export) = again
        && let (Ok(selection), Ok(format)) =
            (export.selection.parse::<Selection>(), export.format.parse::<Format>())
    {
        state.restart();
        state.batch = selection.batch.unwrap_or_default();
        (state.state, state.failed) = (selection.state, selection.failed);
        state.region = selection.region.map(|r| r.to_string()).unwrap_or_default();
        state.since = selection.since.map(|t| t.to_string()).unwrap_or_default();
        state.until = selection.until.map(|t| t.to_string()).unwrap_or_default();
        state.format = Some(format);
        state.to = export.handed_to;
        state.replaces = Some(export.id);
        state.step = Step::Protection;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::line_view::Tab;
    use super::super::line_view::tests::{World, click, harness, is_off, sized, type_into};
    use super::super::scripted::{Scene, scene};
    use super::*;
    use crate::export::clerk::{HandedOut, RecipientView};
    use crate::export::{HIDDEN, Preview, PreviewField, PreviewRow, Progress};
    use crate::records::{ExportRecord, ExposedUnit, Revoked};
    use egui_kittest::{Harness, kittest::Queryable};
    use std::time::Instant;

    type H = Harness<'static, World>;

    fn seen() -> Snapshot {
        Snapshot { batches: vec!["B-2041".into()], folder: "/exports".into(), ..Snapshot::default() }
    }

    /// The wizard where the first rows are shown.
    pub(crate) fn previewed(view: &mut ViewState) {
        view.tab = Tab::Exports;
        (view.exports.step, view.exports.format) = (Step::Preview, Some(Format::Dynsec));
        let recipients = vec![RecipientView { name: "age1vendor".into(), fingerprint: "ab".repeat(32) }];
        view.exports.seen = Arc::new(Snapshot { preview: Some(Arc::new(preview())), recipients, ..seen() });
    }

    /// The last step, where people work by name.
    pub(crate) fn filing(view: &mut ViewState) {
        previewed(view);
        let state = &mut view.exports;
        (state.step, state.second) = (Step::File, "Bea".into());
        state.seen =
            Arc::new(Snapshot { needs_second_person: true, has_people: true, ..(*state.seen).clone() });
    }

    /// The log, with units that somebody knows.
    pub(crate) fn logged(view: &mut ViewState) {
        view.tab = Tab::Exports;
        view.exports.log = true;
        let unit = |n: u8| ExposedUnit {
            unit: crate::model::UnitId([n; 12]),
            serial: format!("KW429-{:05}", 1040 + u32::from(n)),
            batch: "B-2041".into(),
            agent_key: false,
            cloud_key: true,
        };
        let clear = ExportRecord {
            format: "thingsboard".into(),
            protection: "plain".into(),
            reason: "its import page can't decrypt".into(),
            recipients: Vec::new(),
            ..record()
        };
        let exposed = Some((17, Arc::new((1..=40).map(unit).collect())));
        let log = Arc::new(vec![clear, ExportRecord { id: 16, ..record() }]);
        view.exports.seen = Arc::new(Snapshot { log, exposed, ..seen() });
    }

    /// A file that was altered.
    pub(crate) fn checked(view: &mut ViewState) {
        use crate::export::{Inspection, Verdict};
        view.tab = Tab::Exports;
        view.exports = ExportsState::checking();
        let rows = crate::export::ExportError::Misfit {
            path: "/media/stick/devices.txt".into(),
            row: 7,
            column: Some("authentication.symmetricKey.primaryKey".into()),
            why: "this is not the unit's key".into(),
        };
        let found = Inspection {
            file: "/media/stick/devices.txt".into(),
            signature: Verdict::Fits(()),
            receipt: Verdict::Absent,
            rows: Verdict::Refused(rows.failure()),
        };
        view.exports.seen = Arc::new(Snapshot { checked: Some(Arc::new(found)), ..seen() });
    }

    fn record() -> ExportRecord {
        ExportRecord {
            id: 17,
            batch: None,
            selection: "batch=B-2041 & state=passed".into(),
            format: "dynsec.age".into(),
            file: "f".into(),
            rows: 312,
            sha256: "cd".repeat(32),
            operator: "Ana".into(),
            at_ms: 1_790_000_000_000,
            protection: "age".into(),
            reason: String::new(),
            handed_to: "Acme Cloud".into(),
            second_person: "Bea".into(),
            replaces: None,
            keys_of: 312,
            recipients: vec!["ab".repeat(32)],
            revoked: None,
        }
    }

    fn exports(snapshot: Snapshot) -> H {
        let mut h = harness(scene(Scene::Ready(1), Instant::now()));
        h.state_mut().view.tab = Tab::Exports;
        show(&mut h, snapshot);
        h
    }

    fn show(h: &mut H, snapshot: Snapshot) {
        h.state_mut().view.exports.seen = Arc::new(snapshot);
        h.run();
    }

    fn sent(h: &mut H) -> Vec<Command> {
        h.state_mut().view.exports.take()
    }

    fn preview() -> Preview {
        let field =
            |name: &str, value: &str, hidden| PreviewField { name: name.into(), value: value.into(), hidden };
        let fields =
            vec![field("1.username", "003d001f313251093336006f.2", false), field("1.password", HIDDEN, true)];
        Preview {
            rows: 312,
            passed: 312,
            first: vec![PreviewRow { serial: Some("KW429-01043".into()), fields }],
        }
    }

    #[test]
    fn a_station_without_batches_says_so() {
        let h = exports(Snapshot::default());
        h.get_by_label("There is nothing to hand out yet");
    }

    #[test]
    fn the_wizard_goes_from_units_to_receipt() {
        let mut h = exports(seen());
        h.get_by_label("Which units?");
        click(&mut h, "Passed");
        click(&mut h, "Next");
        assert!(is_off(&h, "Next"));
        h.get_by_label("Choose a format");
        click(&mut h, "Mosquitto dynamic security");
        click(&mut h, "Next");
        // A file with keys is not left unprotected.
        h.get_by_label("Paste the vendor's age1… line");
        assert!(is_off(&h, "Next"));
        type_into(&mut h, "age recipients, one per line", "age1vendor");
        type_into(&mut h, "Who receives it", "Acme Cloud");
        click(&mut h, "Next");
        let [Command::Preview(order)] = &sent(&mut h)[..] else { panic!("a preview is asked for") };
        assert_eq!((order.format, order.selection.state), (Format::Dynsec, Some(UnitState::Passed)));
        assert!(is_off(&h, "Next"), "nothing goes on before the records were read");
        let recipients = vec![RecipientView { name: "age1vendor".into(), fingerprint: "ab".repeat(32) }];
        show(
            &mut h,
            Snapshot { preview: Some(Arc::new(preview())), recipients: recipients.clone(), ..seen() },
        );
        h.get_by_label("KW429-01043");
        h.get_by_label(HIDDEN);
        h.get_by_label_contains(&"ab".repeat(32));
        click(&mut h, "Next");
        type_into(&mut h, "Second person, if one stands by", "Ana Petrović");
        h.get_by_label("The second person is somebody else than the operator");
        h.state_mut().view.exports.second = "Bea".into();
        h.run();
        click(&mut h, "Export now");
        let [Command::Export(order)] = &sent(&mut h)[..] else { panic!("an export is asked for") };
        assert_eq!((order.operator.as_str(), order.second_person.as_str()), ("Ana Petrović", "Bea"));
        assert_eq!(
            (order.handed_to.as_str(), order.folder.as_path()),
            ("Acme Cloud", std::path::Path::new("/exports"))
        );
        assert!(matches!(&order.wanted, Wanted::Age(text) if text == "age1vendor"));
        let working = Snapshot {
            progress: Some(Progress { phase: Phase::Rows, done: 100, total: 312 }),
            told: Told::Working("Handing out".into()),
            ..seen()
        };
        show(&mut h, working);
        h.get_by_label("Progress of the export");
        assert!(is_off(&h, "Back") && is_off(&h, "Export now"));
        click(&mut h, "Cancel the export");
        assert!(h.state().view.exports.cancel);
        // From the entry in the log on it can't be cancelled, and the bar says what is done.
        let recording = Progress { phase: Phase::Recording, done: 312, total: 312 };
        show(
            &mut h,
            Snapshot { progress: Some(recording), told: Told::Working("Handing out".into()), ..seen() },
        );
        assert!(is_off(&h, "Cancel the export"));
        let file = HandedOut {
            number: 17,
            file: "/exports/export-B-2041-dynsec-20261121.json.age".into(),
            receipt: "/exports/export-B-2041-dynsec-20261121.json.age.receipt.json".into(),
            rows: 312,
            sha256: "cd".repeat(32),
            protected: true,
        };
        show(&mut h, Snapshot { done: Some(Arc::new(vec![file])), recipients, ..seen() });
        h.get_by_label("Export 17, with keys, 312 rows");
        h.get_by_label_contains(".receipt.json");
        h.get_by_label_contains(&"ab".repeat(32));
        click(&mut h, "Another export");
        assert!(matches!(sent(&mut h)[..], [Command::Clear]));
        h.get_by_label("Which units?");
    }

    #[test]
    fn what_is_missing_is_said_for_every_protection() {
        let mut h = exports(seen());
        click(&mut h, "Next");
        click(&mut h, "PSKC key container");
        click(&mut h, "Next");
        for (choice, missing) in [
            ("Sealed for an OpenPGP key", "Choose the vendor's public key file"),
            ("Keys encrypted under a password", "The password has fewer than 12 characters"),
            ("In clear, for a reason", "Say why keys leave in clear"),
        ] {
            click(&mut h, choice);
            h.get_by_label(missing);
            assert!(is_off(&h, "Next"), "{choice}");
        }
        click(&mut h, "Keys encrypted under a password");
        type_into(&mut h, "Password, at least 12 characters", "correct horse battery");
        h.get_by_label("The two passwords differ");
        type_into(&mut h, "The same again", "correct horse battery");
        h.get_by_label("Say who receives it");
        let shown = format!("{:?}", h.state().view.exports);
        assert!(!shown.contains("horse"), "{shown}");
        type_into(&mut h, "Who receives it", "Acme");
        assert!(!is_off(&h, "Next"));
        click(&mut h, "Back");
        // Without secrets there is nothing to protect, and the password is not kept for another form.
        click(&mut h, "Signed manifest, JWS");
        click(&mut h, "Next");
        h.get_by_label("Nothing to protect");
        click(&mut h, "Next");
        assert!(
            matches!(&sent(&mut h)[..], [Command::Preview(order)] if matches!(order.wanted, Wanted::Nothing))
        );
    }

    #[test]
    fn a_second_person_is_demanded_where_the_station_says_so() {
        let demanding =
            || Snapshot { needs_second_person: true, preview: Some(Arc::new(preview())), ..seen() };
        let mut h = exports(demanding());
        h.state_mut().view.exports.format = Some(Format::Dynsec);
        h.state_mut().view.exports.step = Step::File;
        h.run();
        h.get_by_label("Two people hand out keys: say who stands by");
        assert!(is_off(&h, "Export now"));
        h.state_mut().view.exports.format = Some(Format::Jws);
        h.run();
        assert!(!is_off(&h, "Export now"), "a file without keys needs one person");
    }

    #[test]
    fn a_second_person_shows_a_pin_or_a_badge_where_people_work() {
        let demanding = || Snapshot {
            needs_second_person: true,
            has_people: true,
            preview: Some(Arc::new(preview())),
            ..seen()
        };
        let mut h = exports(demanding());
        h.state_mut().view.exports.format = Some(Format::Dynsec);
        h.state_mut().view.exports.step = Step::File;
        h.run();
        type_into(&mut h, "Second person, demanded here", "ana petrović");
        h.get_by_label("The second person is somebody else than the operator");
        h.state_mut().view.exports.second = "Bea".into();
        h.run();
        h.get_by_label("The second person shows a PIN or a badge");
        assert!(is_off(&h, "Export now"));
        type_into(&mut h, "Their PIN, or their badge", "4711 secret");
        assert!(!format!("{:?}", h.state().view.exports).contains("4711"));
        click(&mut h, "Export now");
        let [Command::Export(order)] = &sent(&mut h)[..] else { panic!("an export is asked for") };
        assert!(order.second_shows.as_ref() == Some(&Pin::new("4711 secret".to_owned())));
        assert!(!format!("{order:?}").contains("4711"), "a PIN is in no Debug output");
        assert!(h.state().view.exports.second_shows.is_empty(), "it is wiped when it has been sent");
        // A badge says itself whose it is.
        h.state_mut().view.exports.second.clear();
        h.run();
        h.get_by_label("Two people hand out keys: say who stands by");
        type_into(&mut h, "Their PIN, or their badge", "badge-1");
        assert!(!is_off(&h, "Export now"));
    }

    #[test]
    fn a_preview_that_failed_says_what_to_do_and_not_that_it_is_being_read() {
        let failure = crate::failure::Failure::new(crate::failure::FailureCode::InvalidInput, "no recipient");
        let mut h = exports(Snapshot { told: Told::Failed(failure), ..seen() });
        h.state_mut().view.exports.step = Step::Preview;
        h.run();
        h.get_by_label("Go back and correct what the message says");
        assert!(h.query_by_label("The records are being read").is_none());
        assert!(is_off(&h, "Next") && !is_off(&h, "Back"));
    }

    #[test]
    fn a_key_file_can_be_typed_and_several_are_listed() {
        let mut h = exports(seen());
        h.state_mut().view.exports.format = Some(Format::Dynsec);
        h.state_mut().view.exports.protect = Protect::OpenPgp;
        h.state_mut().view.exports.step = Step::Protection;
        h.run();
        type_into(&mut h, "Public key file", "/keys/a.asc");
        click(&mut h, "Add another key file");
        type_into(&mut h, "Public key file", "/keys/b.asc");
        click(&mut h, "Next");
        let [Command::Preview(order)] = &sent(&mut h)[..] else { panic!("a preview is asked for") };
        let Wanted::OpenPgp(files) = &order.wanted else { panic!("{:?}", order.wanted) };
        assert_eq!(files, &[PathBuf::from("/keys/a.asc"), PathBuf::from("/keys/b.asc")]);
    }

    #[test]
    fn the_log_says_who_and_when_and_revokes_with_a_reason() {
        let mut h = exports(seen());
        click(&mut h, "Export log");
        h.get_by_label("Nothing was handed out yet");
        let record = record();
        let revoked = ExportRecord {
            id: 16,
            revoked: Some(Revoked { at_ms: 1, by: "Ana".into(), reason: "laptop stolen".into() }),
            ..record.clone()
        };
        let unit = ExposedUnit {
            unit: crate::model::UnitId([7; 12]),
            serial: "KW429-01043".into(),
            batch: "B-2041".into(),
            agent_key: false,
            cloud_key: true,
        };
        show(
            &mut h,
            Snapshot {
                log: Arc::new(vec![record, revoked]),
                exposed: Some((16, Arc::new(vec![unit]))),
                ..seen()
            },
        );
        h.get_by_label("Export 17: dynsec.age, 312 rows, keys of 312 units");
        h.get_by_label("Revoked by Ana: laptop stolen");
        h.get_by_label_contains("knows live keys of 1 units; give them new ones:");
        assert!(h.query_by_label("Revoke 16…").is_none(), "once is enough");
        click(&mut h, "Revoke 17…");
        assert!(is_off(&h, "Revoke it for ever"));
        type_into(&mut h, "Why is export 17 revoked?", "vendor changed");
        click(&mut h, "Revoke it for ever");
        assert!(
            matches!(&sent(&mut h)[..], [Command::Revoke { export: 17, reason, .. }] if reason == "vendor changed")
        );
        click(&mut h, "Export 17 again");
        h.get_by_label("Protected how?");
        let state = &h.state().view.exports;
        assert_eq!(
            (state.replaces, state.format, state.batch.as_str()),
            (Some(17), Some(Format::Dynsec), "B-2041")
        );
        assert_eq!(state.state, Some(UnitState::Passed));
    }

    #[test]
    fn every_step_fits_the_smallest_window_and_no_key_reaches_the_line() {
        for size in [vec2(960.0, 600.0), vec2(1280.0, 720.0)] {
            for step in Step::ALL {
                let mut h = sized(scene(Scene::Ready(2), Instant::now()), size, egui::Theme::Dark);
                h.state_mut().view.tab = Tab::Exports;
                h.state_mut().view.exports.step = step;
                h.state_mut().view.exports.format = Some(Format::Pskc);
                show(&mut h, Snapshot { preview: Some(Arc::new(preview())), ..seen() });
                let screen = Rect::from_min_size(egui::Pos2::ZERO, size);
                let button = if step == Step::Done { "Another export" } else { "Back" };
                let place = h.get_by_label(button).rect();
                assert!(screen.contains_rect(place), "{step:?} at {size:?}: {place:?}");
                h.key_press(egui::Key::Space);
                h.key_press(egui::Key::Num1);
                h.run();
                assert_eq!(h.state_mut().take(), []);
            }
        }
    }
}
