//! The Trust view: root, regions and their epochs with what hangs on each, what rotates when, and the making of regions.
//!
//! Invariants:
//! - It reads the clerk's snapshot and leaves commands; it never touches keys, tokens or records.
//! - What can't be undone is said, and agreed to, before anything is made. A typed PIN is wiped when it has been sent.
//! - Nothing is told by its colour alone: what ends has a word and a shape.

use super::batches_view::{dialog, muted, press, title, words};
use super::copy;
use super::icons::Icon;
use super::line_view::{Tab, ViewState};
use super::people_view::{Typed, field, reason, title_row};
use super::shell::{self, Asked, Seen};
use super::theme::{Palette, Tone, mono, palette, regular, strong};
use super::widgets::{self, Button, Loud};
use crate::anchors::{CertFacts, KeyHome, MAX_DAYS, MAX_NAME, NewHome, NewRegion, RegionFacts};
use crate::desk;
use crate::failure::Failure;
use crate::i18n::{self, date, number, tr};
use crate::model::UnitId;
use crate::people::Right;
use crate::records::{UnderFilter, UnitUnder};
use crate::secrets::Passphrase;
use crate::trust::clerk::{Command, Done, MOST, PAGE, Snapshot, Told};
use crate::trust::{Tree, Turn, TurnOf, Validity};
use egui::{Align2, Rect, RichText, Role, Sense, Stroke, StrokeKind, Ui, UiBuilder, WidgetInfo, pos2, vec2};
use std::sync::Arc;

/// Height of one unit's row.
const ROW: f32 = 24.0;

/// What a dialog is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Make,
    Rotate(u32),
    Name(u32),
    Try(u32),
}

/// An open dialog.
#[derive(Clone, Debug)]
struct Form {
    kind: Kind,
    number: String,
    name: String,
    days: String,
    home: NewHome,
    root_home: NewHome,
    pin: Typed,
    sure: bool,
    focused: bool,
    /// It was sent when so many answers had come.
    sent: Option<u64>,
}

impl Form {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            number: String::new(),
            name: String::new(),
            days: String::new(),
            home: NewHome::Sealed,
            root_home: NewHome::Sealed,
            pin: Typed::default(),
            sure: false,
            focused: false,
            sent: None,
        }
    }

    fn days(&self) -> Result<Option<u32>, ()> {
        match self.days.trim() {
            "" => Ok(None),
            text => match text.parse() {
                Ok(days) if (1..=MAX_DAYS).contains(&days) => Ok(Some(days)),
                _ => Err(()),
            },
        }
    }

    /// Whether a token is asked, so that its PIN matters.
    fn asks_token(&self, tree: Option<&Tree>) -> bool {
        let is_token = |home: &KeyHome| matches!(home, KeyHome::Token { .. });
        let root = tree.is_some_and(|t| is_token(&t.anchors.root_home));
        match self.kind {
            Kind::Name(_) => false,
            Kind::Try(region) => newest(tree, region).is_some_and(|c| is_token(&c.home)),
            Kind::Rotate(_) => root || self.home == NewHome::Token,
            Kind::Make => {
                root || self.home == NewHome::Token || (tree.is_none() && self.root_home == NewHome::Token)
            }
        }
    }

    fn missing(&self, seen: &Snapshot) -> Option<&'static str> {
        let tree = seen.tree.as_deref();
        if self.kind == Kind::Make {
            match self.number.trim().parse::<u32>() {
                Ok(n) if n > 0 => {
                    if tree.is_some_and(|t| t.anchors.regions.iter().any(|r| r.region == n)) {
                        return Some(tr!("trust-number-taken"));
                    }
                }
                _ => return Some(tr!("trust-number-bad")),
            }
        }
        if matches!(self.kind, Kind::Make | Kind::Name(_))
            && (self.name.trim().chars().count() > MAX_NAME || self.name.chars().any(char::is_control))
        {
            return Some(tr!("trust-name-bad"));
        }
        if self.days().is_err() {
            return Some(tr!("trust-days-bad"));
        }
        if self.asks_token(tree) {
            match &seen.token {
                None => return Some(tr!("trust-no-token")),
                Some(token) if !token.has_pin && self.pin.0.is_empty() => return Some(tr!("trust-no-pin")),
                Some(_) => {}
            }
        }
        (matches!(self.kind, Kind::Make | Kind::Rotate(_)) && !self.sure).then_some(tr!("trust-not-sure"))
    }

    fn command(&self) -> Option<Command> {
        let pin = (!self.pin.0.is_empty()).then(|| Passphrase::new(self.pin.0.to_string()));
        let days = self.days().ok()?;
        Some(match self.kind {
            Kind::Make => Command::Make {
                new: NewRegion {
                    region: self.number.trim().parse().ok()?,
                    name: self.name.trim().to_owned(),
                    days,
                    home: self.home,
                    root_home: self.root_home,
                },
                pin,
            },
            Kind::Rotate(region) => Command::Rotate { region, days, home: self.home, pin },
            Kind::Name(region) => Command::Rename { region, name: self.name.trim().to_owned() },
            Kind::Try(region) => Command::Try { region, pin },
        })
    }
}

/// What the window remembers of the Trust view.
#[derive(Clone, Debug, Default)]
pub struct TrustState {
    /// The clerk's newest snapshot, set before every frame.
    pub seen: Arc<Snapshot>,
    /// Commands for the clerk.
    pub out: Vec<Command>,
    watching: bool,
    /// Fingerprint of the certificate that is open.
    open: Option<String>,
    batch: Option<String>,
    search: String,
    form: Option<Form>,
    /// A unit that was pressed: its file is opened.
    wanted: Option<UnitId>,
}

impl TrustState {
    /// Takes what is to be sent.
    pub fn take(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.out)
    }

    /// The station was locked: another person finds nothing open, and no PIN that was typed.
    pub fn put_away(&mut self) {
        *self = Self {
            seen: self.seen.clone(),
            watching: self.watching,
            out: vec![Command::LeaveUnits],
            ..Self::default()
        };
    }

    /// A decision is made or left before anything else.
    pub fn is_asking(&self) -> bool {
        self.form.is_some()
    }

    fn ask_units(&mut self, limit: u32) {
        let Some(anchor) = self.open.clone() else { return };
        if self.batch.is_none() && self.search.trim().is_empty() {
            self.out.push(Command::LeaveUnits);
            return;
        }
        let (batch, search) = (self.batch.clone(), self.search.trim().to_owned());
        self.out.push(Command::Units(UnderFilter { anchor, batch, search, limit }));
    }

    fn toggle(&mut self, fingerprint: &str) {
        let was = self.open.as_deref() == Some(fingerprint);
        (self.batch, self.search) = (None, String::new());
        self.out.push(Command::LeaveUnits);
        self.open = (!was).then(|| fingerprint.to_owned());
        if let Some(anchor) = &self.open {
            self.out.push(Command::Batches(anchor.clone()));
        }
    }
}

/// The clerk reads only while somebody looks.
pub fn watch(view: &mut ViewState) {
    let shown = view.tab == Tab::Trust && view.settings.is_none();
    if view.trust.watching != shown {
        view.trust.watching = shown;
        view.trust.out.push(Command::Watch(shown));
    }
}

fn newest(tree: Option<&Tree>, region: u32) -> Option<&CertFacts> {
    tree?.anchors.regions.iter().find(|r| r.region == region)?.certs.first()
}

fn validity_words(validity: Validity) -> String {
    match validity {
        Validity::Endless => tr!("trust-endless").into(),
        Validity::Urgent(0) => tr!("trust-ends-today").into(),
        Validity::Calm(days) | Validity::Soon(days) | Validity::Urgent(days) => {
            tr!("trust-ends", days = days)
        }
        Validity::Ended(0) => tr!("trust-ended-today").into(),
        Validity::Ended(days) => tr!("trust-ended", days = days),
    }
}

fn validity_look(validity: Validity, p: &Palette) -> (Option<Icon>, Tone) {
    match validity {
        Validity::Endless | Validity::Calm(_) => (None, p.idle),
        Validity::Soon(_) => (Some(Icon::Hourglass), p.error),
        Validity::Urgent(_) => (Some(Icon::Warning), p.error),
        Validity::Ended(_) => (Some(Icon::Cross), p.fail),
    }
}

fn home_words(home: &KeyHome) -> String {
    match home {
        KeyHome::Sealed { file } => tr!("trust-home-sealed", file = file),
        KeyHome::Token { token, serial } => tr!("trust-home-token", token = token, serial = serial),
        KeyHome::Elsewhere => tr!("trust-home-elsewhere").into(),
    }
}

fn day(seconds: u64) -> String {
    date(i64::try_from(seconds).unwrap_or(i64::MAX / 1000).saturating_mul(1000))
}

fn units_words(count: u64) -> String {
    tr!("trust-units", count = count, number = number(count))
}

fn region_name(region: &RegionFacts) -> String {
    match region.name.as_str() {
        "" => tr!("trust-region", region = region.region),
        name => tr!("trust-region-named", region = region.region, name = name),
    }
}

/// A chip in the flow of a row.
fn chip(ui: &mut Ui, text: &str, icon: Option<Icon>, tone: Tone) {
    let size = 13.0_f32;
    let icon_room = if icon.is_some() { size * 1.6 } else { 0.0 };
    let width = widgets::width(ui, text, strong(size)) + size * 1.5 + icon_room;
    let (rect, _) = ui.allocate_exact_size(vec2(width, size * 1.9), Sense::hover());
    widgets::chip(ui, pos2(rect.left(), rect.center().y), text, icon, tone, size);
}

/// A button in the flow of a row, with a name of its own.
fn act(ui: &mut Ui, text: &str, name: &str, off: Option<&'static str>) -> bool {
    let button = Button { text, name, icon: None, loud: Loud::Quiet, enabled: off.is_none(), size: 13.5 };
    let (rect, _) = ui.allocate_exact_size(vec2(button.width(ui), 30.0), Sense::hover());
    let response = button.show(ui, rect);
    widgets::say_why(ui, response, off).clicked()
}

fn card(ui: &mut Ui, p: &Palette, edge: Stroke, add: impl FnOnce(&mut Ui)) {
    egui::Frame::new()
        .fill(p.surface)
        .stroke(edge)
        .corner_radius(12)
        .inner_margin(egui::Margin::symmetric(16, 12))
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            ui.spacing_mut().item_spacing = vec2(8.0, 5.0);
            add(ui);
        });
}

/// The newest word in a bar above everything.
fn told(ui: &mut Ui, room: &mut Rect, told: &Told, p: &Palette) {
    let Told::Failed(failure) = told else { return };
    let (sentence, remedy) = i18n::failure(failure);
    let rect = Rect::from_min_size(room.min, vec2(room.width(), 58.0));
    ui.painter().rect(rect, 10.0, p.fail.soft, Stroke::new(1.0, p.fail.solid), StrokeKind::Inside);
    let inner = copy::button(ui, rect.shrink2(vec2(14.0, 8.0)), &copy::told(failure));
    let (upper, lower) = inner.split_top_bottom_at_fraction(0.52);
    let text = format!("{} {sentence}", failure.code);
    widgets::line(ui, upper, Align2::LEFT_CENTER, &text, strong(15.0), p.fail.ink);
    widgets::line(ui, lower, Align2::LEFT_CENTER, &remedy, regular(14.0), p.text);
    room.min.y = rect.bottom() + 10.0;
}

/// The view below the header; whoever may not see it does not come here.
pub(super) fn body(ui: &mut Ui, mut room: Rect, seen: Seen<'_>, view: &mut ViewState, out: &mut Asked) {
    let p = palette(ui.ctx());
    let state = view.trust.seen.clone();
    let makes = seen.people.refusal(Right::Anchors);
    if title_row(ui, &mut room, tr!("trust-title"), &[(tr!("trust-new-region"), makes)], p).is_some() {
        view.trust.form = Some(Form::new(Kind::Make));
        view.trust.out.push(Command::Clear);
    }
    if view.trust.form.is_none() {
        told(ui, &mut room, &state.told, p);
    }
    if let Some(failure) = &state.trouble {
        told(ui, &mut room, &Told::Failed(failure.clone()), p);
        return;
    }
    let Some(tree) = state.tree.clone() else {
        empty(ui, room, state.read, p);
        return;
    };
    let (left, right) = room.split_left_right_at_fraction(if room.width() < 1100.0 { 0.6 } else { 0.64 });
    let left = Rect::from_min_max(left.min, pos2(left.right() - 8.0, left.bottom()));
    let right = Rect::from_min_max(pos2(right.left() + 8.0, right.top()), right.max);
    let pane = |ui: &mut Ui, rect: Rect, name: &str, add: &mut dyn FnMut(&mut Ui)| {
        ui.scope_builder(UiBuilder::new().max_rect(rect), |ui| {
            ui.set_clip_rect(rect.expand(4.0).intersect(ui.clip_rect()));
            egui::ScrollArea::vertical().id_salt(name).auto_shrink(false).show(ui, |ui| {
                ui.spacing_mut().item_spacing.y = 10.0;
                // Room for the bar, so that it covers no word.
                ui.set_width(ui.available_width() - 12.0);
                add(ui);
            });
        });
    };
    let refusal = makes.map(reason);
    pane(ui, left, "trust tree", &mut |ui| {
        root(ui, &tree, view, p);
        for region in &tree.anchors.regions {
            self::region(ui, &tree, region, view, refusal, p);
        }
        export_key(ui, &tree, view, p);
    });
    pane(ui, right, "trust rotation", &mut |ui| {
        rotation(ui, &tree, p);
        token(ui, &state, p);
    });
    if let Some(unit) = view.trust.wanted.take() {
        out.desk.push(desk::Command::Find(unit.to_string()));
        shell::turn_to(Tab::Units, view);
    }
}

fn empty(ui: &mut Ui, room: Rect, read: bool, p: &Palette) {
    let card = Rect::from_center_size(room.center(), vec2(640.0_f32.min(room.width()), 170.0));
    ui.painter().rect(card, 16.0, p.surface, Stroke::new(1.0, p.border), StrokeKind::Inside);
    let inner = card.shrink2(vec2(28.0, 20.0));
    let head = Rect::from_min_size(inner.min, vec2(inner.width(), 34.0));
    let (first, second) = if read {
        (tr!("trust-empty"), tr!("trust-empty-text"))
    } else {
        (tr!("trust-reading"), tr!("trust-reading-text"))
    };
    widgets::line(ui, head, Align2::CENTER_CENTER, first, strong(20.0), p.text);
    let rest = Rect::from_min_max(pos2(inner.left(), head.bottom() + 8.0), inner.max);
    widgets::block(ui, rest, Align2::CENTER_TOP, second, regular(15.0), p.muted, 4);
}

/// The fingerprint in groups that can be compared aloud, and a button that copies it.
fn fingerprint(ui: &mut Ui, whole: &str, of: &str, view: &mut ViewState, p: &Palette) {
    ui.horizontal(|ui| {
        let button = Button {
            text: tr!("trust-copy"),
            name: &tr!("trust-copy-name", of = of),
            icon: Some(Icon::Copy),
            loud: Loud::Quiet,
            enabled: true,
            size: 12.5,
        };
        let width = button.width(ui);
        let room = ui.available_width() - width - 8.0;
        let (words, _) = ui.allocate_exact_size(vec2(room.max(60.0), 26.0), Sense::hover());
        widgets::line(ui, words, Align2::LEFT_CENTER, whole, mono(12.5), p.muted);
        let (rect, _) = ui.allocate_exact_size(vec2(width, 26.0), Sense::hover());
        if button.show(ui, rect).on_hover_text(whole).clicked() {
            ui.ctx().copy_text(whole.to_owned());
            view.notice = Some(tr!("copied").into());
        }
    });
}

fn root(ui: &mut Ui, tree: &Tree, view: &mut ViewState, p: &Palette) {
    let facts = &tree.anchors;
    card(ui, p, Stroke::new(1.0, p.outline), |ui| {
        ui.horizontal_wrapped(|ui| {
            ui.label(title(tr!("trust-root"), 18.0, p));
            chip(ui, &tr!("trust-epoch", epoch = facts.root_epoch), None, p.running);
            chip(ui, &validity_words(Validity::Endless), None, p.idle);
            ui.label(words(units_words(tree.all_units()), p));
        });
        fingerprint(ui, &facts.root_fingerprint, tr!("trust-root"), view, p);
        ui.label(muted(
            tr!("trust-since", day = day(facts.root_valid_from), home = home_words(&facts.root_home)),
            p,
        ));
    });
}

/// The key that signs lists: no unit trusts it, recipients do.
fn export_key(ui: &mut Ui, tree: &Tree, view: &mut ViewState, p: &Palette) {
    card(ui, p, Stroke::new(1.0, p.border), |ui| {
        ui.label(title(tr!("trust-export-key"), 17.0, p));
        let Some(key) = &tree.export else {
            ui.label(muted(tr!("trust-export-none"), p));
            return;
        };
        match &key.fingerprint {
            Some(whole) => fingerprint(ui, whole, tr!("trust-export-key"), view, p),
            None => drop(ui.label(words(tr!("trust-export-closed"), p))),
        }
        let home = KeyHome::Sealed { file: key.file.clone() };
        ui.label(muted(tr!("trust-since", day = day(key.since), home = home_words(&home)), p));
    });
}

fn region(
    ui: &mut Ui,
    tree: &Tree,
    region: &RegionFacts,
    view: &mut ViewState,
    off: Option<&'static str>,
    p: &Palette,
) {
    let edge = match region.certs.first().map(|c| tree.validity(c)) {
        Some(Validity::Ended(_)) => Stroke::new(2.0, p.fail.solid),
        Some(validity) if validity.wants_care() => Stroke::new(2.0, p.error.solid),
        _ => Stroke::new(1.0, p.border),
    };
    card(ui, p, edge, |ui| {
        let name = region_name(region);
        for (i, cert) in region.certs.iter().enumerate() {
            if i > 0 {
                ui.separator();
            }
            let of = tr!("trust-epoch-of", epoch = cert.epoch, region = name.as_str());
            ui.horizontal_wrapped(|ui| {
                if i == 0 {
                    ui.label(title(&name, 17.0, p));
                }
                chip(
                    ui,
                    &tr!("trust-epoch", epoch = cert.epoch),
                    None,
                    if i == 0 { p.running } else { p.idle },
                );
                let validity = tree.validity(cert);
                let (icon, tone) = validity_look(validity, p);
                chip(ui, &validity_words(validity), icon, tone);
                if i > 0 {
                    ui.label(muted(tr!("trust-earlier"), p));
                }
            });
            fingerprint(ui, &cert.fingerprint, &of, view, p);
            let agent = region.agent.as_ref().filter(|_| i == 0);
            let period = match cert.not_after {
                Some(end) => tr!("trust-from-until", from = day(cert.not_before), until = day(end)),
                None => tr!("trust-from", from = day(cert.not_before)),
            };
            ui.label(muted(format!("{period} · {}", home_words(&cert.home)), p));
            if let Some(agent) = agent {
                let of = tr!("trust-agent-of", region = name.as_str());
                ui.label(words(tr!("trust-agent", home = home_words(&agent.home)), p));
                fingerprint(ui, &agent.fingerprint, &of, view, p);
            }
            ui.horizontal_wrapped(|ui| {
                let units = tree.units_of(cert);
                ui.label(words(units_words(units), p));
                let open = view.trust.open.as_deref() == Some(&cert.fingerprint);
                let (text, label) = if open {
                    (tr!("trust-hide-units"), tr!("trust-hide-units-of", of = of.as_str()))
                } else {
                    (tr!("trust-show-units"), tr!("trust-show-units-of", of = of.as_str()))
                };
                let none = (units == 0 && !open).then_some(tr!("trust-no-units"));
                if act(ui, text, &label, none) {
                    view.trust.toggle(&cert.fingerprint);
                }
                if i == 0 {
                    let number = region.region;
                    let mut ask = None;
                    if act(ui, tr!("trust-try"), &tr!("trust-try-of", region = name.as_str()), None) {
                        ask = Some(Form::new(Kind::Try(number)));
                    }
                    if act(ui, tr!("trust-name"), &tr!("trust-name-of", region = name.as_str()), off) {
                        ask = Some(Form { name: region.name.clone(), ..Form::new(Kind::Name(number)) });
                    }
                    if act(ui, tr!("trust-rotate"), &tr!("trust-rotate-of", region = name.as_str()), off) {
                        ask = Some(Form::new(Kind::Rotate(number)));
                    }
                    if let Some(form) = ask {
                        view.trust.form = Some(form);
                        view.trust.out.push(Command::Clear);
                    }
                }
            });
            if view.trust.open.as_deref() == Some(&cert.fingerprint) {
                under(ui, cert, view, p);
            }
        }
    });
}

/// Batches and units below an open certificate.
fn under(ui: &mut Ui, cert: &CertFacts, view: &mut ViewState, p: &Palette) {
    let state = &mut view.trust;
    let Some(batches) = state.seen.batches.get(&cert.fingerprint).cloned() else {
        ui.label(muted(tr!("trust-counting"), p));
        return;
    };
    ui.add_space(2.0);
    ui.horizontal(|ui| {
        let label = ui.label(muted(tr!("trust-search"), p));
        let edit = egui::TextEdit::singleline(&mut state.search).char_limit(64).desired_width(220.0);
        if ui.add(edit).labelled_by(label.id).changed() {
            state.ask_units(PAGE);
        }
    });
    ui.horizontal_wrapped(|ui| {
        for batch in batches.iter() {
            let chosen = state.batch.as_deref() == Some(&batch.batch);
            let text = tr!(
                "trust-batch",
                batch = batch.batch.as_str(),
                count = batch.units,
                number = number(batch.units)
            );
            if ui.selectable_label(chosen, RichText::new(text).font(regular(14.0))).clicked() {
                state.batch = (!chosen).then(|| batch.batch.clone());
                state.ask_units(PAGE);
            }
        }
    });
    let Some(found) = state.seen.units.clone().filter(|found| found.0.anchor == cert.fingerprint) else {
        return;
    };
    let (filter, units) = (&found.0, &found.1);
    if units.is_empty() {
        ui.label(muted(tr!("trust-none-found"), p));
        return;
    }
    ui.scope(|ui| {
        ui.spacing_mut().item_spacing.y = 0.0;
        egui::ScrollArea::vertical()
            .id_salt("units under")
            .max_height(ROW * 10.0)
            .auto_shrink([false, true])
            .show_rows(ui, ROW, units.len(), |ui, range| {
                for unit in &units[range] {
                    if unit_row(ui, unit, p) {
                        state.wanted = Some(unit.unit);
                    }
                }
            });
    });
    let full = units.len() as u32 >= filter.limit;
    ui.horizontal_wrapped(|ui| {
        let shown = number(units.len() as u64);
        match full {
            false => ui.label(muted(units_words(units.len() as u64), p)),
            true => ui.label(muted(tr!("trust-shown-first", count = shown), p)),
        };
        if full && filter.limit < MOST && act(ui, tr!("trust-more"), tr!("trust-more"), None) {
            let limit = filter.limit + PAGE;
            state.ask_units(limit);
        }
    });
}

/// True: it was pressed.
fn unit_row(ui: &mut Ui, unit: &UnitUnder, p: &Palette) -> bool {
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), ROW), Sense::hover());
    let response = ui.interact(rect, ui.scope_id().with(("unit under", unit.unit)), Sense::click());
    let name = tr!("trust-open-unit", serial = unit.serial.as_str());
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
    if response.hovered() || response.has_focus() {
        ui.painter().rect_filled(rect, 6.0, p.hover);
    }
    if response.has_focus() {
        widgets::focus_ring(ui, rect.shrink(3.0), 6.0, p);
    }
    let cells = [
        (unit.serial.clone(), 0.0, 0.30, strong(13.5), p.text),
        (unit.unit.to_string(), 0.30, 0.68, mono(12.5), p.muted),
        (unit.batch.clone(), 0.68, 0.84, regular(13.5), p.text),
        (super::units_view::state_word(unit.state).to_owned(), 0.84, 1.0, regular(13.5), p.text),
    ];
    for (text, from, to, font, color) in cells {
        let x = |f: f32| rect.left() + rect.width() * f;
        let cell = Rect::from_min_max(pos2(x(from), rect.top()), pos2(x(to) - 8.0, rect.bottom()));
        widgets::line(ui, cell, Align2::LEFT_CENTER, &text, font, color);
    }
    response.clicked()
}

fn turn_words(tree: &Tree, turn: &Turn) -> (String, String) {
    let name = |number: u32| {
        let found = tree.anchors.regions.iter().find(|r| r.region == number);
        found.map_or_else(|| tr!("trust-region", region = number), region_name)
    };
    match turn.what {
        TurnOf::Region { region, epoch } => (
            tr!("trust-turn-region", region = name(region), epoch = epoch),
            if turn.ends.is_some() { tr!("trust-turn-region-do") } else { tr!("trust-turn-region-endless") }
                .into(),
        ),
        TurnOf::Agent { region } => {
            (tr!("trust-turn-agent", region = name(region)), tr!("trust-turn-agent-do").into())
        }
        TurnOf::Units { region, behind, epoch } => (
            tr!("trust-turn-units", region = name(region), count = behind, number = number(behind)),
            tr!("trust-turn-units-do", epoch = epoch),
        ),
        TurnOf::Root => (tr!("trust-turn-root").into(), tr!("trust-turn-root-do").into()),
        TurnOf::ExportKey { since } => {
            (tr!("trust-turn-export", day = day(since)), tr!("trust-turn-export-do").into())
        }
    }
}

fn rotation(ui: &mut Ui, tree: &Tree, p: &Palette) {
    card(ui, p, Stroke::new(1.0, p.border), |ui| {
        ui.label(title(tr!("trust-rotation"), 17.0, p));
        for (i, turn) in tree.rotation().iter().enumerate() {
            if i > 0 {
                ui.separator();
            }
            let (what, todo) = turn_words(tree, turn);
            ui.label(RichText::new(what).font(strong(14.5)).color(p.text));
            let (icon, tone) = validity_look(turn.validity, p);
            ui.horizontal_wrapped(|ui| {
                chip(ui, &validity_words(turn.validity), icon, tone);
                if let Some(end) = turn.ends {
                    ui.label(muted(day(end), p));
                }
            });
            ui.label(muted(todo, p));
        }
    });
}

fn token(ui: &mut Ui, state: &Snapshot, p: &Palette) {
    card(ui, p, Stroke::new(1.0, p.border), |ui| {
        ui.label(title(tr!("trust-token"), 17.0, p));
        let Some(token) = &state.token else {
            ui.label(muted(tr!("trust-token-none"), p));
            return;
        };
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new(&token.label).font(strong(14.5)).color(p.text));
            match &token.seen {
                Ok(_) => chip(ui, tr!("trust-token-there"), Some(Icon::Check), p.pass),
                Err(failure) => chip(ui, &failure.code.to_string(), Some(Icon::Warning), p.error),
            }
        });
        match &token.seen {
            Ok(seen) => {
                let slot =
                    tr!("trust-token-slot", slot = seen.slot, serial = &seen.serial, model = &seen.model);
                ui.label(muted(slot, p));
                let pin = if token.has_pin { tr!("trust-token-pin") } else { tr!("trust-token-no-pin") };
                ui.label(muted(pin, p));
            }
            Err(failure) => wrong(ui, failure, p),
        }
    });
}

/// A failure in the flow of a card or a dialog, with the button that copies it.
fn wrong(ui: &mut Ui, failure: &Failure, p: &Palette) {
    let text = copy::told(failure);
    let whole = ui.available_rect_before_wrap();
    let room = copy::button(ui, Rect::from_min_size(whole.min, vec2(whole.width(), 30.0)), &text);
    ui.scope(|ui| {
        ui.set_max_width(room.width());
        let words = RichText::new(text).font(regular(14.0)).color(p.fail.ink);
        ui.set_min_height(room.height());
        ui.add(egui::Label::new(words).wrap());
    });
}

fn done(what: &Done) -> String {
    match what {
        Done::Made(region) => tr!("trust-done-made", region = region),
        Done::Rotated(region) => tr!("trust-done-rotated", region = region),
        Done::Renamed(region) => tr!("trust-done-renamed", region = region),
        Done::Tried(region) => tr!("trust-done-tried", region = region),
    }
}

/// The dialog, while there is one.
pub(super) fn form(ui: &Ui, view: &mut ViewState, p: &Palette) {
    let Some(mut form) = view.trust.form.take() else { return };
    let seen = view.trust.seen.clone();
    if form.sent.is_some_and(|before| seen.answers > before) {
        if let Told::Done(what) = &seen.told {
            view.notice = Some(done(what));
            view.trust.out.push(Command::Clear);
            return;
        }
        // It was refused; it can be tried again, with another PIN.
        form.sent = None;
    }
    let tree = seen.tree.as_deref();
    let name = |number: u32| {
        let found = tree.and_then(|t| t.anchors.regions.iter().find(|r| r.region == number));
        found.map_or_else(|| tr!("trust-region", region = number), region_name)
    };
    let (mut go, mut leave) = (false, false);
    let closed = dialog(ui, "trust form", 560.0, p, |ui| {
        let first = !std::mem::replace(&mut form.focused, true);
        let (head, word) = match form.kind {
            Kind::Make => (tr!("trust-make").to_owned(), tr!("trust-make-go")),
            Kind::Rotate(region) => (tr!("trust-rotate-of", region = name(region)), tr!("trust-rotate-go")),
            Kind::Name(region) => (tr!("trust-name-of", region = name(region)), tr!("trust-name-go")),
            Kind::Try(region) => (tr!("trust-try-of", region = name(region)), tr!("trust-try-go")),
        };
        ui.label(title(head, 20.0, p));
        match form.kind {
            Kind::Make => {
                field(ui, tr!("trust-field-number"), &mut form.number, false, first, p);
                field(ui, tr!("trust-field-name"), &mut form.name, false, false, p);
            }
            Kind::Name(_) => {
                field(ui, tr!("trust-field-name"), &mut form.name, false, first, p);
            }
            Kind::Rotate(_) => {}
            Kind::Try(_) => {
                ui.label(words(tr!("trust-try-text"), p));
            }
        }
        if matches!(form.kind, Kind::Make | Kind::Rotate(_)) {
            field(ui, tr!("trust-field-days"), &mut form.days, false, first && form.kind != Kind::Make, p);
            let label = seen.token.as_ref().map(|t| t.label.as_str());
            homes(ui, tr!("trust-field-home"), &mut form.home, label, p);
            if form.kind == Kind::Make && tree.is_none() {
                homes(ui, tr!("trust-field-root-home"), &mut form.root_home, label, p);
            }
        }
        if form.asks_token(tree)
            && let Some(token) = &seen.token
        {
            let text = if token.has_pin {
                tr!("trust-field-pin-known", token = &token.label)
            } else {
                tr!("trust-field-pin", token = &token.label)
            };
            field(ui, &text, &mut form.pin.0, true, first && matches!(form.kind, Kind::Try(_)), p);
        }
        match form.kind {
            Kind::Make => {
                ui.label(words(tr!("trust-make-text"), p));
                ui.checkbox(&mut form.sure, RichText::new(tr!("trust-sure")).font(strong(14.0)));
            }
            Kind::Rotate(region) => {
                let found =
                    tree.and_then(|t| Some((t, t.anchors.regions.iter().find(|r| r.region == region)?)));
                let (units, epoch) = found.map_or((0, 1), |(t, r)| (t.units_in(r), r.certs[0].epoch));
                ui.label(words(
                    tr!("trust-rotate-text", count = units, number = number(units), epoch = epoch + 1),
                    p,
                ));
                ui.checkbox(&mut form.sure, RichText::new(tr!("trust-sure")).font(strong(14.0)));
            }
            Kind::Name(_) | Kind::Try(_) => {}
        }
        let missing = if form.sent.is_some() { Some(tr!("told-working")) } else { form.missing(&seen) };
        match (&seen.told, missing) {
            (Told::Failed(failure), _) if form.sent.is_none() => {
                wrong(ui, failure, p);
            }
            (_, Some(why)) => {
                ui.label(muted(why, p));
            }
            _ => {}
        }
        ui.horizontal(|ui| {
            go = press(ui, word, missing);
            leave = press(ui, tr!("dialog-leave"), None);
        });
    });
    if go && let Some(command) = form.command() {
        view.trust.out.push(command);
        form.pin = Typed::default();
        form.sent = Some(seen.answers);
    }
    if !(leave || closed) {
        view.trust.form = Some(form);
    }
}

/// Where keys are to live; the token is a choice only where there is one.
fn homes(ui: &mut Ui, name: &str, home: &mut NewHome, token: Option<&str>, p: &Palette) {
    ui.label(RichText::new(name).font(strong(14.0)).color(p.text));
    ui.horizontal_wrapped(|ui| {
        ui.radio_value(home, NewHome::Sealed, RichText::new(tr!("trust-choose-sealed")).font(regular(15.0)));
        let text = match token {
            Some(token) => tr!("trust-choose-token", token = token),
            None => tr!("trust-choose-no-token").into(),
        };
        let text = RichText::new(text).font(regular(15.0));
        ui.add_enabled_ui(token.is_some(), |ui| ui.radio_value(home, NewHome::Token, text));
    });
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::line_view::tests::{World, click, is_off, press, sized, type_into};
    use super::super::lock_screen::tests::logged_in;
    use super::super::scripted::{Scene, scene};
    use super::*;
    use crate::anchors::{AgentFacts, AnchorFacts};
    use crate::failure::FailureCode;
    use crate::hsm::Seen as Token;
    use crate::i18n::Language;
    use crate::model::UnitState;
    use crate::people::Role;
    use crate::records::BatchUnder;
    use crate::trust::{DAY, ExportKey, TokenView};
    use egui::Key;
    use egui_kittest::{Harness, kittest::Queryable};
    use std::time::Instant;

    type H = Harness<'static, World>;

    const NOW: u64 = 1_795_000_000;

    fn cert(epoch: u32, days: Option<u64>, home: KeyHome) -> CertFacts {
        CertFacts {
            epoch,
            fingerprint: format!("{epoch}a").repeat(32),
            public_key: "ab".repeat(32),
            not_before: NOW - 100 * DAY,
            not_after: days.map(|d| NOW + d * DAY),
            home,
        }
    }

    /// A root, two regions and a token.
    pub(crate) fn snapshot() -> Snapshot {
        let sealed = |file: &str| KeyHome::Sealed { file: file.into() };
        let token = KeyHome::Token { token: "kw-factory".into(), serial: "a3c1".into() };
        let region = |region, name: &str, certs| RegionFacts {
            region,
            name: name.into(),
            agent: (region == 7).then(|| AgentFacts {
                public_key: "ef".repeat(32),
                fingerprint: "5c".repeat(32),
                home: sealed("agent-7.sealed"),
            }),
            certs,
        };
        let anchors = AnchorFacts {
            root_epoch: 1,
            root_public_key: "cd".repeat(32),
            root_fingerprint: "0f".repeat(32),
            root_valid_from: NOW - 100 * DAY,
            next_root_commitment: String::new(),
            bundle: String::new(),
            root_home: sealed("root-signing.sealed"),
            regions: vec![
                region(
                    7,
                    "Europe",
                    vec![cert(2, Some(40), token), cert(1, Some(3), sealed("region-7.sealed"))],
                ),
                region(8, "", vec![cert(3, None, KeyHome::Elsewhere)]),
            ],
        };
        let units = [("2a".repeat(32), 312_040), ("1a".repeat(32), 5)].into_iter().collect();
        let export = Some(ExportKey {
            since: NOW - 10 * DAY,
            file: "export.sealed".into(),
            fingerprint: Some("e0".repeat(32)),
        });
        let token =
            Token { label: "kw-factory".into(), slot: 3, serial: "a3c1".into(), model: "SoftHSM v2".into() };
        Snapshot {
            read: true,
            tree: Some(Arc::new(Tree { anchors, units, export, now_s: NOW })),
            token: Some(TokenView { label: "kw-factory".into(), seen: Ok(token), has_pin: false }),
            ..Snapshot::default()
        }
    }

    fn trust_in(size: egui::Vec2, snapshot: Snapshot, role: Role, language: Language) -> H {
        let mut h = sized(scene(Scene::Ready(1), Instant::now()), size, egui::Theme::Light);
        h.state_mut().people = logged_in(role);
        h.state_mut().view.tab = Tab::Trust;
        h.state_mut().view.language = language;
        h.state_mut().view.trust.seen = Arc::new(snapshot);
        h.run();
        h
    }

    fn trust(snapshot: Snapshot, role: Role) -> H {
        trust_in(vec2(1280.0, 1400.0), snapshot, role, Language::English)
    }

    fn show(h: &mut H, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = (*h.state().view.trust.seen).clone();
        change(&mut snapshot);
        h.state_mut().view.trust.seen = Arc::new(snapshot);
        h.run();
    }

    fn sent(h: &mut H) -> Vec<String> {
        h.state_mut().view.trust.take().iter().map(|c| format!("{c:?}")).collect()
    }

    #[test]
    fn every_node_tells_epoch_end_units_and_home() {
        let mut h = trust(snapshot(), Role::Qa);
        assert_eq!(sent(&mut h), ["Watch(true)"]);
        for label in ["Region 7 · Europe", "Region 8", "Root", "What rotates when", "312,045 units"] {
            h.get_all_by_label(label).next().unwrap_or_else(|| panic!("no {label}"));
        }
        for part in [
            "keys in token kw-factory, serial a3c1",
            "keys in the sealed file region-7.sealed",
            "keys not on this station",
            "Agent: keys in the sealed file agent-7.sealed",
            "keys in the sealed file export.sealed",
            "5 units of Region 7 · Europe hold an earlier epoch",
            "Renew their cloud keys; they get epoch 2",
            "Slot 3, serial a3c1, SoftHSM v2",
        ] {
            h.get_all_by_label_contains(part).next().unwrap_or_else(|| panic!("no {part}"));
        }
        assert_eq!(h.get_all_by_label("ends in 40 days").count(), 3, "region, its turn and its agent's");
        assert_eq!(h.get_all_by_label("ends in 3 days").count(), 2);
        click(&mut h, "Copy the fingerprint of epoch 2 of Region 7 · Europe");
        for (of, whole) in [("the agent of Region 7 · Europe", "5c"), ("Export key", "e0")] {
            h.get_by_label(&format!("Copy the fingerprint of {of}"));
            h.get_by_label(&whole.repeat(32));
        }
        let copied = h
            .output()
            .platform_output
            .commands
            .iter()
            .any(|c| matches!(c, egui::OutputCommand::CopyText(text) if *text == "2a".repeat(32)));
        assert!(copied || h.state().view.notice.is_some());
        // QA looks; making is the admin's.
        assert!(
            is_off(&h, "New region…")
                && is_off(&h, "Next epoch of Region 8")
                && !is_off(&h, "Try the keys of Region 8")
        );
        h.state_mut().view.tab = Tab::Line;
        h.run();
        assert_eq!(sent(&mut h), ["Watch(false)"], "nothing is read while nobody looks");
    }

    #[test]
    fn units_are_read_when_they_are_asked_for_and_a_page_at_a_time() {
        let mut h = trust(snapshot(), Role::Qa);
        sent(&mut h);
        assert!(is_off(&h, "Show the units under epoch 3 of Region 8"), "nobody has it");
        click(&mut h, "Show the units under epoch 2 of Region 7 · Europe");
        let anchor = "2a".repeat(32);
        assert_eq!(sent(&mut h), ["LeaveUnits".to_owned(), format!("Batches({anchor:?})")]);
        h.get_by_label("Counting…");
        let batch = BatchUnder { batch: "B-2041".into(), units: 312_040 };
        show(&mut h, |s| drop(s.batches.insert(anchor.clone(), Arc::new(vec![batch]))));
        click(&mut h, "B-2041 · 312,040 units");
        let filter = UnderFilter {
            anchor: anchor.clone(),
            batch: Some("B-2041".into()),
            search: String::new(),
            limit: PAGE,
        };
        assert_eq!(sent(&mut h), [format!("{:?}", Command::Units(filter.clone()))]);
        let unit = |n: u8| UnitUnder {
            serial: format!("2026A{n:04}"),
            unit: UnitId([n; 12]),
            batch: "B-2041".into(),
            state: UnitState::Passed,
            generation: 2,
        };
        let units: Vec<_> = (1..=100).map(unit).collect();
        show(&mut h, |s| s.units = Some(Arc::new((filter.clone(), units))));
        h.get_by_label("2026A0001");
        assert!(h.query_by_label("2026A0090").is_none(), "what is not on the screen is not drawn");
        // A unit leads to its file.
        click(&mut h, "Open unit 2026A0002");
        assert_eq!(h.state().view.tab, Tab::Units);
        assert_eq!(h.state_mut().take_desk(), [desk::Command::Find(UnitId([2; 12]).to_string())]);
        h.state_mut().view.tab = Tab::Trust;
        h.run();
        sent(&mut h);
        h.get_by_label("The first 100; search for the others");
        click(&mut h, "Show more");
        let more = UnderFilter { limit: 2 * PAGE, ..filter.clone() };
        assert_eq!(sent(&mut h), [format!("{:?}", Command::Units(more))]);
        type_into(&mut h, "Serial or hardware id begins with", "2026A0042");
        let search = UnderFilter { search: "2026A0042".into(), ..filter };
        assert_eq!(sent(&mut h), [format!("{:?}", Command::Units(search))]);
        show(&mut h, |s| {
            s.units = Some(Arc::new((UnderFilter { anchor, ..UnderFilter::default() }, vec![])))
        });
        h.get_by_label("No unit here begins so");
        assert_eq!(h.state_mut().take(), [], "typing reached no fixture");
    }

    #[test]
    fn an_admin_makes_a_region_after_agreeing_to_what_cannot_be_undone() {
        let mut h = trust(snapshot(), Role::Admin);
        sent(&mut h);
        click(&mut h, "New region…");
        assert_eq!(sent(&mut h), ["Clear"]);
        h.get_by_label("Type the region's number, from 1");
        type_into(&mut h, "Number, from 1", "7");
        h.get_by_label("This region is here already");
        h.get_by_label("Number, from 1").focus();
        h.run();
        press(&mut h, &[Key::Backspace]);
        type_into(&mut h, "Number, from 1", "9");
        type_into(&mut h, "Valid for days (empty: without end)", "0");
        h.get_by_label("Type 1 to 36525 days, or nothing for no end");
        press(&mut h, &[Key::Backspace]);
        type_into(&mut h, "Valid for days (empty: without end)", "3650");
        type_into(&mut h, "Name (may stay empty)", "Asia");
        click(&mut h, "Token kw-factory");
        h.get_by_label("Type the token's PIN");
        type_into(&mut h, "PIN of token kw-factory", "730512");
        h.get_by_label("Tick that you have read it");
        assert!(is_off(&h, "Make the region"));
        assert!(!format!("{:?}", h.state().view.trust).contains("730512"));
        click(&mut h, "I have read this");
        click(&mut h, "Make the region");
        let commands = h.state_mut().view.trust.take();
        let [Command::Make { new, pin: Some(_) }] = &commands[..] else { panic!("{commands:?}") };
        let wanted = NewRegion {
            region: 9,
            name: "Asia".into(),
            days: Some(3650),
            home: NewHome::Token,
            root_home: NewHome::Sealed,
        };
        assert_eq!(*new, wanted);
        assert!(!format!("{commands:?}").contains("730512"));
        // The PIN was wrong: the dialog stays, says so, and wants another one.
        assert!(is_off(&h, "Make the region"), "it waits");
        let wrong = Failure::new(FailureCode::TokenPinWrong, "");
        show(&mut h, |s| (s.told, s.answers) = (Told::Failed(wrong), 1));
        h.get_by_label_contains("K673 ");
        type_into(&mut h, "PIN of token kw-factory", "111111");
        click(&mut h, "Make the region");
        // The old refusal is not taken for the new answer.
        h.get_by_label("Make the region");
        show(&mut h, |s| (s.told, s.answers) = (Told::Done(Done::Made(9)), 2));
        assert!(h.query_by_label("Make the region").is_none());
        assert_eq!(h.state().view.notice.as_deref(), Some("Region 9 is made; orders can name it"));
    }

    #[test]
    fn the_next_epoch_says_what_happens_to_units() {
        let mut h = trust(snapshot(), Role::Admin);
        sent(&mut h);
        click(&mut h, "Next epoch of Region 7 · Europe");
        h.get_by_label_contains(
            "312,045 units hold an earlier epoch; they get epoch 3 with their next cloud keys",
        );
        assert!(is_off(&h, "Make the epoch"));
        click(&mut h, "I have read this");
        click(&mut h, "Make the epoch");
        assert_eq!(sent(&mut h)[1..], ["Rotate { region: 7, days: None, home: Sealed, pin: None }"]);
        press(&mut h, &[Key::Escape]);
        click(&mut h, "Name Region 8");
        type_into(&mut h, "Name (may stay empty)", "Asia");
        click(&mut h, "Save the name");
        assert!(sent(&mut h).iter().any(|c| c == "Rename { region: 8, name: \"Asia\" }"));
    }

    #[test]
    fn a_technician_is_told_who_may_look_and_a_station_without_anchors_what_to_do() {
        let h = trust(snapshot(), Role::Technician);
        h.get_by_label("Chain of trust");
        assert!(
            h.query_by_label("What rotates when").is_none()
                && h.query_by_label_contains("Region 7").is_none()
        );
        let h = trust(Snapshot { read: true, ..Snapshot::default() }, Role::Admin);
        h.get_by_label("No root and no region yet");
        h.get_by_label_contains("New region… makes the first region");
        assert!(!is_off(&h, "New region…"));
        let h = trust(Snapshot::default(), Role::Qa);
        h.get_by_label("Reading the anchors…");
        let trouble = Some(Failure::new(FailureCode::SecretsFailed, ""));
        let h = trust(Snapshot { read: true, trouble, ..Snapshot::default() }, Role::Qa);
        h.get_by_label_contains("K613 ");
    }

    #[test]
    fn the_view_speaks_chinese_and_stays_inside_a_small_window() {
        for (size, language) in
            [(vec2(1280.0, 720.0), Language::Chinese), (vec2(1024.0, 640.0), Language::English)]
        {
            let h = trust_in(size, snapshot(), Role::Admin, language);
            let words = match language {
                Language::Chinese => ["信任链", "轮换计划", "区域 7 · Europe", "40 天后到期"],
                Language::English => {
                    ["Chain of trust", "What rotates when", "Region 7 · Europe", "ends in 40 days"]
                }
            };
            for word in words {
                let node = h.get_all_by_label(word).next().unwrap_or_else(|| panic!("no {word}"));
                let rect = node.rect();
                assert!(rect.left() >= 0.0 && rect.right() <= size.x, "{word}: {rect:?}");
            }
        }
    }

    #[test]
    fn control_six_leads_here() {
        let mut h = trust(snapshot(), Role::Qa);
        h.state_mut().view.tab = Tab::Line;
        h.run();
        h.key_press_modifiers(egui::Modifiers::COMMAND, Key::Num6);
        h.run();
        assert_eq!(h.state().view.tab, Tab::Trust);
    }
}
