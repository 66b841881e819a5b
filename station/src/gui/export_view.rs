//! The Exports view: a wizard from "which units" to the signed receipt, and the log of what was handed out.
//!
//! Invariants:
//! - It reads the clerk's snapshot and leaves commands; it never touches records, keys or the disk.
//! - What is secret is never shown: previews arrive hidden, a typed password is wiped when it has been sent.
//! - A step that can't be left says why.

use super::line_view::ViewState;
use super::theme::{Palette, Tone, mono, palette, regular, strong};
use super::units_view::local;
use crate::desk::Told;
use crate::export::clerk::{Command, Order, Snapshot, Wanted};
use crate::export::{Format, Selection};
use crate::model::UnitState;
use crate::secrets::Passphrase;
use egui::{Rect, RichText, Stroke, StrokeKind, Ui, UiBuilder, vec2};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroize;

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

    const fn name(self) -> &'static str {
        match self {
            Self::What => "Units",
            Self::Format => "Format",
            Self::Protection => "Protection",
            Self::Preview => "Preview",
            Self::File => "File",
            Self::Done => "Receipt",
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

/// What a file dialog was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pick {
    Key,
    Folder,
}

/// Where dialogs put what was chosen: they run on threads of their own, for they block.
type Picked = Arc<Mutex<Vec<(Pick, PathBuf)>>>;

/// A text that is wiped and never shown by `Debug`.
#[derive(Clone, Default)]
struct Typed(String);

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
    password: Typed,
    again: Typed,
    reason: String,
    to: String,
    second: String,
    folder: String,
    replaces: Option<i64>,
    revoke: Option<(i64, String)>,
    picked: Picked,
}

impl ExportsState {
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
            Protect::OpenPgp => Wanted::OpenPgp(self.keys.clone()),
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
            Step::Format => self.format.is_none().then(|| "Choose a format".into()),
            Step::Protection if !self.needs_protection() => None,
            Step::Protection => match self.protect {
                Protect::Age if self.age.trim().is_empty() => Some("Paste the vendor's age1… line".into()),
                Protect::OpenPgp if self.keys.is_empty() => {
                    Some("Choose the vendor's public key file".into())
                }
                Protect::Password if self.password.0.chars().count() < 12 => {
                    Some("The password has fewer than 12 characters".into())
                }
                Protect::Password if self.password.0 != self.again.0 => {
                    Some("The two passwords differ".into())
                }
                Protect::Plain if self.reason.trim().is_empty() => Some("Say why keys leave in clear".into()),
                Protect::Password | Protect::Plain if self.to.trim().is_empty() => {
                    Some("Say who receives it".into())
                }
                _ => None,
            },
            Step::Preview => match &self.seen.preview {
                None => Some("The records are being read".into()),
                Some(preview) if preview.rows == 0 => {
                    Some("No unit is like that; go back and choose others".into())
                }
                Some(_) => None,
            },
            Step::File if operator.is_empty() => {
                Some("Say first who works here: Operator, in the header".into())
            }
            Step::File if self.folder.trim().is_empty() => Some("Choose a folder".into()),
            Step::File if hands_out && self.seen.needs_second_person && self.second.trim().is_empty() => {
                Some("Two people hand out keys: say who stands by".into())
            }
            Step::File if !self.second.trim().is_empty() && self.second.trim() == operator => {
                Some("The second person is somebody else than the operator".into())
            }
            Step::File | Step::Done => None,
        }
    }

    fn order(&self, operator: &str) -> Option<Box<Order>> {
        Some(Box::new(Order {
            selection: self.selection().ok()?,
            format: self.format(),
            wanted: self.wanted(),
            handed_to: self.to.clone(),
            second_person: self.second.clone(),
            operator: operator.to_owned(),
            replaces: self.replaces,
            folder: PathBuf::from(self.folder.trim()),
        }))
    }

    fn restart(&mut self) {
        *self = Self { seen: self.seen.clone(), folder: self.folder.clone(), ..Self::default() };
        self.out.push(Command::Clear);
    }

    fn take_picked(&mut self) {
        let picked = std::mem::take(&mut *self.picked.lock().unwrap_or_else(PoisonError::into_inner));
        for (what, path) in picked {
            match what {
                Pick::Key if !self.keys.contains(&path) => self.keys.push(path),
                Pick::Key => {}
                Pick::Folder => self.folder = path.display().to_string(),
            }
        }
    }

    /// Opens a file dialog on a thread of its own.
    fn pick(&self, what: Pick, ctx: &egui::Context) {
        let (picked, ctx) = (self.picked.clone(), ctx.clone());
        std::thread::spawn(move || {
            let dialog = rfd::FileDialog::new();
            let chosen = match what {
                Pick::Key => {
                    dialog.set_title("The vendor's OpenPGP public key").pick_files().unwrap_or_default()
                }
                Pick::Folder => {
                    dialog.set_title("Folder for the exported files").pick_folder().into_iter().collect()
                }
            };
            let mut slot = picked.lock().unwrap_or_else(PoisonError::into_inner);
            slot.extend(chosen.into_iter().map(|path| (what, path)));
            ctx.request_repaint();
        });
    }
}

const fn title(format: Format) -> &'static str {
    match format {
        Format::Csv => "Canonical list, CSV",
        Format::Jsonl => "Canonical list, JSON Lines",
        Format::Aws => "AWS IoT bulk registration",
        Format::AzureHub => "Azure IoT Hub devices",
        Format::AzureDps => "Azure DPS enrollments",
        Format::Thingsboard => "ThingsBoard bulk provisioning",
        Format::Dynsec => "Mosquitto dynamic security",
        Format::Emqx => "EMQX users, CSV",
        Format::EmqxJson => "EMQX users, JSON",
        Format::Pskc => "PSKC key container",
        Format::Jws => "Signed manifest, JWS",
    }
}

const fn holds(format: Format) -> &'static str {
    match format {
        Format::Csv | Format::Jsonl => {
            "Every unit, failures included; with protection also a list with both keys of every passed unit"
        }
        Format::Aws => "Things and their attributes; no keys",
        Format::AzureHub | Format::AzureDps => "Derived symmetric keys",
        Format::Thingsboard | Format::Dynsec => "What the units log in with",
        Format::Emqx | Format::EmqxJson => "Salted hashes of 256-bit passwords",
        Format::Pskc => "Both keys of every unit",
        Format::Jws => "One signed entry per unit; no keys",
    }
}

/// The view below the header.
pub fn body(ui: &mut Ui, room: Rect, operator: &str, view: &mut ViewState) {
    let p = palette(ui.ctx());
    let state = &mut view.exports;
    state.take_picked();
    if state.folder.is_empty() {
        state.folder = state.seen.folder.display().to_string();
    }
    ui.painter().rect(room, 14.0, p.surface, Stroke::new(1.0, p.border), StrokeKind::Inside);
    ui.scope_builder(UiBuilder::new().max_rect(room.shrink2(vec2(22.0, 16.0))), |ui| {
        ui.horizontal(|ui| {
            for (log, name) in [(false, "New export"), (true, "Export log")] {
                if ui.selectable_label(state.log == log, name).clicked() {
                    state.log = log;
                }
            }
            if !state.log {
                ui.add_space(18.0);
                for step in Step::ALL {
                    let here = step == state.step;
                    let color = if here { p.text } else { p.muted };
                    let font = if here { strong(15.0) } else { regular(14.0) };
                    let number = Step::ALL.iter().position(|s| *s == step).unwrap_or(0) + 1;
                    ui.label(RichText::new(format!("{number} {}", step.name())).font(font).color(color));
                }
            }
        });
        told(ui, &state.seen.told, p);
        if state.log { log(ui, operator, state, p) } else { wizard(ui, operator, state, p) }
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
        Told::Working(what) => say(ui, p.running, what),
        Told::Done(what) => say(ui, p.pass, what),
        Told::Failed(failure) => {
            say(ui, p.fail, &format!("{} {}. {}", failure.code, failure.sentence, failure.remedy));
        }
    }
}

fn heading(ui: &mut Ui, text: &str, more: &str, p: &Palette) {
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

fn wizard(ui: &mut Ui, operator: &str, state: &mut ExportsState, p: &Palette) {
    // The export ended while its step was shown.
    if state.step == Step::File && state.seen.done.is_some() {
        state.step = Step::Done;
        for typed in [&mut state.password, &mut state.again] {
            typed.0.zeroize();
            typed.0.clear();
        }
    }
    let room = ui.available_height() - 64.0;
    egui::ScrollArea::vertical().id_salt("export step").max_height(room).auto_shrink(false).show(ui, |ui| {
        match state.step {
            Step::What => what(ui, state, p),
            Step::Format => formats(ui, state, p),
            Step::Protection => protection(ui, state, p),
            Step::Preview => previewed(ui, state, p),
            Step::File => file(ui, state, p),
            Step::Done => done(ui, state, p),
        }
    });
    ui.separator();
    let missing = state.missing(operator);
    let busy = state.seen.progress.is_some();
    ui.horizontal(|ui| {
        if state.step == Step::Done {
            if ui.button("Another export").clicked() {
                state.restart();
            }
            return;
        }
        if ui.add_enabled(state.step > Step::What && !busy, egui::Button::new("Back")).clicked() {
            state.step = state.step.back();
        }
        let name = if state.step == Step::File { "Export now" } else { "Next" };
        let go = egui::Button::new(RichText::new(name).color(p.running.on_solid)).fill(p.running.solid);
        if ui.add_enabled(missing.is_none() && !busy, go).clicked() {
            leave(state, operator);
        }
        if busy && ui.button("Cancel the export").clicked() {
            state.cancel = true;
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
            state.seen = Arc::new(Snapshot { preview: None, ..(*state.seen).clone() });
        }
        Step::File => {
            state.out.push(Command::Export(order));
            return;
        }
        _ => {}
    }
    state.step = state.step.next();
}

fn what(ui: &mut Ui, state: &mut ExportsState, p: &Palette) {
    if state.seen.batches.is_empty() {
        heading(
            ui,
            "There is nothing to hand out yet",
            "Make a batch and units first; then come back here.",
            p,
        );
        return;
    }
    heading(ui, "Which units?", "A batch, or all units that meet the conditions below.", p);
    let label = ui.label("Batch");
    let shown = if state.batch.is_empty() { "Any batch".to_owned() } else { state.batch.clone() };
    egui::ComboBox::from_id_salt("export batch")
        .width(320.0)
        .selected_text(shown)
        .show_ui(ui, |ui| {
            ui.selectable_value(&mut state.batch, String::new(), "Any batch");
            for batch in &state.seen.batches {
                ui.selectable_value(&mut state.batch, batch.clone(), batch);
            }
        })
        .response
        .labelled_by(label.id);
    ui.add_space(8.0);
    ui.label("State");
    ui.horizontal(|ui| {
        for (name, value) in [
            ("Any state", None),
            ("Passed", Some(UnitState::Passed)),
            ("In quarantine", Some(UnitState::Quarantined)),
            ("Scrapped", Some(UnitState::Scrapped)),
        ] {
            ui.radio_value(&mut state.state, value, name);
        }
    });
    ui.label("Last attempt");
    ui.horizontal(|ui| {
        for (name, value) in [("Any result", None), ("Failed", Some(true)), ("Did not fail", Some(false))] {
            ui.radio_value(&mut state.failed, value, name);
        }
    });
    text(ui, "Region", "any", &mut state.region, 120.0);
    text(ui, "Last attempt since", "2026-01-31", &mut state.since, 200.0);
    text(ui, "Last attempt before", "2026-02-28", &mut state.until, 200.0);
}

fn formats(ui: &mut Ui, state: &mut ExportsState, p: &Palette) {
    heading(ui, "In which form?", "", p);
    // All of them at once in the smallest window but one.
    (ui.spacing_mut().interact_size.y, ui.spacing_mut().item_spacing.y) = (26.0, 4.0);
    for format in Format::ALL {
        ui.horizontal(|ui| {
            if ui.radio(state.format == Some(format), title(format)).clicked() {
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

fn protection(ui: &mut Ui, state: &mut ExportsState, p: &Palette) {
    if !state.needs_protection() {
        heading(ui, "Nothing to protect", "Nobody can log in as a unit with this file. It is signed.", p);
        text(ui, "Who receives it", "for the log", &mut state.to, 360.0);
        return;
    }
    heading(ui, "Protected how?", "Whoever can open this file can log in as its units.", p);
    let format = state.format();
    ui.radio_value(&mut state.protect, Protect::Age, "Sealed for age recipients");
    ui.radio_value(&mut state.protect, Protect::OpenPgp, "Sealed for an OpenPGP key");
    if format == Format::Pskc {
        ui.radio_value(&mut state.protect, Protect::Password, "Keys encrypted under a password");
    }
    if format.is_canonical() {
        ui.radio_value(&mut state.protect, Protect::Without, "Only the list without keys");
    }
    ui.radio_value(&mut state.protect, Protect::Plain, "In clear, for a reason");
    ui.add_space(6.0);
    match state.protect {
        Protect::Age => {
            let label = ui.label("age recipients, one per line");
            ui.add(
                egui::TextEdit::multiline(&mut state.age)
                    .hint_text("age1…")
                    .desired_rows(3)
                    .desired_width(640.0),
            )
            .labelled_by(label.id);
        }
        Protect::OpenPgp => {
            if ui.button("Choose public key files…").clicked() {
                state.pick(Pick::Key, ui.ctx());
            }
            let mut gone = None;
            for (i, key) in state.keys.iter().enumerate() {
                ui.horizontal(|ui| {
                    ui.label(key.display().to_string());
                    if ui
                        .button(format!(
                            "Leave out {}",
                            key.file_name().unwrap_or_default().to_string_lossy()
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
                ("Password, at least 12 characters", &mut state.password),
                ("The same again", &mut state.again),
            ] {
                let label = ui.label(name);
                ui.add(
                    egui::TextEdit::singleline(&mut typed.0)
                        .password(true)
                        .char_limit(200)
                        .desired_width(360.0),
                )
                .labelled_by(label.id);
            }
            ui.label(
                RichText::new("Tell it by another way than the file").font(regular(14.0)).color(p.muted),
            );
        }
        Protect::Plain => {
            ui.label(
                RichText::new("Keys in clear are on disk until somebody wipes it")
                    .font(strong(14.5))
                    .color(p.fail.ink),
            );
            text(ui, "Why; it stands in the log and in the receipt", "", &mut state.reason, 640.0);
        }
        Protect::Without => {}
    }
    text(ui, "Who receives it", "for the log", &mut state.to, 360.0);
}

fn recipients(ui: &mut Ui, state: &ExportsState, p: &Palette) {
    for recipient in &state.seen.recipients {
        ui.label(RichText::new(format!("Sealed for {}", recipient.name)).font(regular(14.5)).color(p.text));
        ui.label(
            RichText::new(format!("Fingerprint {}", recipient.fingerprint)).font(mono(13.0)).color(p.muted),
        );
    }
}

fn previewed(ui: &mut Ui, state: &ExportsState, p: &Palette) {
    let Some(preview) = &state.seen.preview else {
        heading(ui, "Preview", "", p);
        return;
    };
    let rows = format!(
        "{} rows, {} units that passed. The first ones, secrets hidden:",
        preview.rows, preview.passed
    );
    heading(ui, "Preview", &rows, p);
    recipients(ui, state, p);
    for row in &preview.first {
        ui.add_space(6.0);
        ui.label(
            RichText::new(row.serial.as_deref().unwrap_or("An attempt without a unit")).font(strong(15.0)),
        );
        for field in row.fields.iter().filter(|f| !f.value.is_empty()) {
            ui.horizontal(|ui| {
                ui.spacing_mut().interact_size.y = 18.0;
                let color = if field.hidden { p.error.ink } else { p.text };
                ui.add_sized(
                    [330.0, 18.0],
                    egui::Label::new(RichText::new(&field.name).font(mono(13.0)).color(p.muted)).truncate(),
                );
                ui.add(
                    egui::Label::new(RichText::new(&field.value).font(mono(13.0)).color(color)).truncate(),
                );
            });
        }
    }
}

fn file(ui: &mut Ui, state: &mut ExportsState, p: &Palette) {
    heading(
        ui,
        "Where to?",
        "The file, its signature and its receipt get names of their own; nothing is replaced.",
        p,
    );
    text(ui, "Folder", "", &mut state.folder, 640.0);
    if ui.button("Choose the folder…").clicked() {
        state.pick(Pick::Folder, ui.ctx());
    }
    let asked = if state.seen.needs_second_person {
        "Second person, demanded here"
    } else {
        "Second person, if one stands by"
    };
    text(ui, asked, "", &mut state.second, 360.0);
    recipients(ui, state, p);
    if let Some(progress) = state.seen.progress {
        ui.add_space(10.0);
        let share = if progress.total == 0 { 0.0 } else { progress.done as f32 / progress.total as f32 };
        let bar = egui::ProgressBar::new(share).text(format!("{} of {} rows", progress.done, progress.total));
        let response = ui.add(bar.desired_width(640.0));
        ui.ctx().accesskit_node_builder(response.id, |node| node.set_label("Progress of the export"));
    }
}

fn done(ui: &mut Ui, state: &ExportsState, p: &Palette) {
    heading(ui, "Handed out", "Every file has a signature and a signed receipt beside it.", p);
    for file in state.seen.done.iter().flat_map(|d| d.iter()) {
        let kind = if file.protected { "with keys" } else { "without keys" };
        ui.label(
            RichText::new(format!("Export {}, {kind}, {} rows", file.number, file.rows)).font(strong(15.0)),
        );
        for (name, value) in [
            ("File", file.file.display().to_string()),
            ("Receipt", file.receipt.display().to_string()),
            ("SHA-256", file.sha256.clone()),
        ] {
            ui.horizontal(|ui| {
                ui.add_sized([80.0, 20.0], egui::Label::new(name));
                ui.add(egui::Label::new(RichText::new(&value).font(mono(13.0)).color(p.text)).truncate());
                if ui.button("Copy").on_hover_text(format!("Copy: {name}")).clicked() {
                    ui.ctx().copy_text(value.clone());
                }
            });
        }
    }
    recipients(ui, state, p);
}

fn log(ui: &mut Ui, operator: &str, state: &mut ExportsState, p: &Palette) {
    let log = state.seen.log.clone();
    if log.is_empty() {
        heading(
            ui,
            "Nothing was handed out yet",
            "Every file that leaves this station stands here, for ever.",
            p,
        );
        return;
    }
    heading(
        ui,
        "Who received which units' keys",
        "Newest first. Nothing here can be changed; a revocation is added.",
        p,
    );
    if let Some((export, units)) = &state.seen.exposed {
        let words = if units.is_empty() {
            format!("Nobody who has export {export} knows a live key")
        } else {
            let some: Vec<_> = units.iter().take(8).map(|u| u.serial.as_str()).collect();
            let more = if units.len() > some.len() { " …" } else { "" };
            format!(
                "Who has export {export} knows live keys of {} units; give them new ones: {}{more}",
                units.len(),
                some.join(", ")
            )
        };
        ui.label(RichText::new(words).font(strong(14.5)).color(p.error.ink));
    }
    if let Some((export, reason)) = &mut state.revoke {
        let export = *export;
        text(ui, &format!("Why is export {export} revoked?"), "stands in the log", reason, 520.0);
        let ready = !reason.trim().is_empty() && !operator.is_empty();
        let mut end = false;
        ui.horizontal(|ui| {
            let go = egui::Button::new(RichText::new("Revoke it for ever").color(p.fail.on_solid))
                .fill(p.fail.solid);
            if ui.add_enabled(ready, go).clicked() {
                let reason = reason.trim().to_owned();
                state.out.push(Command::Revoke { export, operator: operator.to_owned(), reason });
                end = true;
            }
            end |= ui.button("Do not revoke").clicked();
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
                    let second = if export.second_person.is_empty() {
                        String::new()
                    } else {
                        format!(" and {}", export.second_person)
                    };
                    let head = format!(
                        "Export {}: {}, {} rows, keys of {} units",
                        export.id, export.format, export.rows, export.keys_of
                    );
                    ui.label(RichText::new(head).font(strong(15.0)).color(p.text));
                    let to = if export.handed_to.is_empty() { "nobody named" } else { &export.handed_to };
                    let facts = format!(
                        "{} · {}{second} · {} · for {to} · {}",
                        local(export.at_ms),
                        export.operator,
                        export.selection,
                        export.protection
                    );
                    ui.label(RichText::new(facts).font(regular(14.0)).color(p.muted));
                    for fingerprint in &export.recipients {
                        ui.label(RichText::new(fingerprint).font(mono(12.5)).color(p.muted));
                    }
                    if let Some(revoked) = &export.revoked {
                        let words = format!("Revoked by {}: {}", revoked.by, revoked.reason);
                        ui.label(RichText::new(words).font(strong(14.0)).color(p.fail.ink));
                    }
                    ui.horizontal(|ui| {
                        if export.keys_of > 0
                            && ui.button(format!("Who is exposed by {}", export.id)).clicked()
                        {
                            state.out.push(Command::Exposed(export.id));
                        }
                        if export.revoked.is_none() && ui.button(format!("Revoke {}…", export.id)).clicked()
                        {
                            ask = Some(export.id);
                        }
                        if ui.button(format!("Export {} again", export.id)).clicked() {
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
mod tests {
    use super::super::line_view::Tab;
    use super::super::line_view::tests::{World, harness, sized};
    use super::super::scripted::{Scene, scene};
    use super::*;
    use crate::export::clerk::{HandedOut, RecipientView};
    use crate::export::{HIDDEN, Preview, PreviewField, PreviewRow, Progress};
    use crate::records::{ExportRecord, ExposedUnit, Revoked};
    use egui_kittest::{Harness, kittest::NodeT, kittest::Queryable};
    use std::time::Instant;

    type H = Harness<'static, World>;

    fn seen() -> Snapshot {
        Snapshot { batches: vec!["B-2041".into()], folder: "/exports".into(), ..Snapshot::default() }
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

    fn click(h: &mut H, label: &str) {
        h.get_by_label(label).click();
        h.run();
    }

    fn type_into(h: &mut H, label: &str, text: &str) {
        h.get_by_label(label).focus();
        h.run();
        h.get_by_label(label).type_text(text);
        h.run();
    }

    fn is_off(h: &H, label: &str) -> bool {
        h.get_by_label(label).accesskit_node().is_disabled()
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
            progress: Some(Progress { done: 100, total: 312 }),
            told: Told::Working("Handing out".into()),
            ..seen()
        };
        show(&mut h, working);
        h.get_by_label("Progress of the export");
        assert!(is_off(&h, "Back") && is_off(&h, "Export now"));
        click(&mut h, "Cancel the export");
        assert!(h.state().view.exports.cancel);
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
    fn the_log_says_who_and_when_and_revokes_with_a_reason() {
        let mut h = exports(seen());
        click(&mut h, "Export log");
        h.get_by_label("Nothing was handed out yet");
        let record = ExportRecord {
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
        };
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
        h.get_by_label_contains("knows live keys of 1 units; give them new ones: KW429-01043");
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
