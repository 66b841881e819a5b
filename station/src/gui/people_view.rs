//! The People view: who works here. And the dialog in which a person is added or changed, which is also how the first admin is made.
//!
//! Invariants: a PIN is never shown, and leaves the window's memory with the dialog; a control that is off says why.

use super::audit_view::AuditState;
use super::copy;
use super::line_view::ViewState;
use super::lock_screen::LockState;
use super::shell::{Asked, Seen};
use super::theme::{Palette, regular, strong};
use super::widgets::{self, Button, Loud};
use crate::failure::{Failure, FailureCode};
use crate::i18n::{self, tr};
use crate::people::office::{Command, Done, Refusal, Told};
use crate::people::{NewPerson, Pin, Right, Role, Who, pin};
use crate::records::Person;
use egui::{Align2, Key, Modifiers, Rect, RichText, Sense, Stroke, StrokeKind, Ui, pos2, vec2};
use zeroize::Zeroizing;

/// What is typed as a PIN or a badge: redacted, wiped when dropped.
#[derive(Clone, Default)]
pub struct Typed(pub(super) Zeroizing<String>);

impl std::fmt::Debug for Typed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Typed(redacted)")
    }
}

impl Typed {
    pub(super) fn pin(&self) -> Pin {
        Pin::new(self.0.clone())
    }
}

/// What the window remembers of people.
#[derive(Clone, Debug, Default)]
pub struct PeopleState {
    /// The lock screen.
    pub lock: LockState,
    /// A person who is being added or changed.
    pub form: Option<Form>,
    /// The menu below the person's name is open.
    pub menu: bool,
    /// The audit log.
    pub audit: AuditState,
}

/// What is done to a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The first one: the admin.
    First,
    /// Another one.
    Add,
    /// Another role.
    Role,
    /// A new PIN.
    Pin,
    /// A new badge.
    Badge,
    /// The own PIN.
    Own,
}

/// A person who is being added or changed.
#[derive(Clone, Debug)]
pub struct Form {
    change: Change,
    name: String,
    /// The role now; for a new person none.
    was: Option<Role>,
    role: Role,
    old: Typed,
    pin: Typed,
    again: Typed,
    badge: Typed,
    focused: bool,
    /// It is with the office, which had answered so many commands then.
    sent: Option<u64>,
    /// Why it was refused last.
    refused: Option<Failure>,
    /// The keyboard is to go back to the old PIN: it was wrong.
    wants_old: bool,
}

impl Form {
    /// A new person.
    pub fn add(first: bool) -> Self {
        let (change, role) =
            if first { (Change::First, Role::Admin) } else { (Change::Add, Role::Technician) };
        Self::of(change, String::new(), None, role)
    }

    /// A change of somebody.
    pub fn change(change: Change, person: &Person) -> Self {
        Self::of(change, person.name.clone(), Some(person.role), person.role)
    }

    /// The own PIN of whoever is logged in.
    pub fn own(who: &Who) -> Self {
        Self::of(Change::Own, who.name.clone(), Some(who.role), who.role)
    }

    /// As it is after a wrong try, with a new PIN that is too short.
    #[cfg(test)]
    pub(super) fn own_refused(who: &Who) -> Self {
        let mut form = Self::own(who);
        form.refused = Some(Failure::new(FailureCode::LoginFailed, "3 tries are left"));
        form.pin.0.push_str("25");
        form
    }

    fn of(change: Change, name: String, was: Option<Role>, role: Role) -> Self {
        let empty = Typed::default;
        Self {
            change,
            name,
            was,
            role,
            old: empty(),
            pin: empty(),
            again: empty(),
            badge: empty(),
            focused: false,
            sent: None,
            refused: None,
            wants_old: false,
        }
    }

    fn wants_pin(&self) -> bool {
        match self.change {
            Change::First | Change::Add | Change::Pin | Change::Own => true,
            Change::Role => self.was.is_some_and(|was| pin::least_length(self.role) > pin::least_length(was)),
            Change::Badge => false,
        }
    }

    fn wants_badge(&self) -> bool {
        matches!(self.change, Change::First | Change::Add | Change::Badge)
    }

    fn is_new(&self) -> bool {
        matches!(self.change, Change::First | Change::Add)
    }

    fn title(&self) -> String {
        match self.change {
            Change::First => tr!("people-create-admin").into(),
            Change::Add => tr!("people-add").into(),
            Change::Role => tr!("people-role-of", name = self.name.as_str()),
            Change::Pin => tr!("people-pin-of", name = self.name.as_str()),
            Change::Badge => tr!("people-badge-of", name = self.name.as_str()),
            Change::Own => tr!("people-own-pin").into(),
        }
    }

    /// What is wrong with the old PIN, the new one and the second one, for beside their fields. Nothing is said of what was not typed.
    fn beside(&self) -> [Option<String>; 3] {
        let typed = |text: &Typed| !text.0.trim().is_empty();
        let wrong = self.refused.as_ref().filter(|f| f.code == FailureCode::LoginFailed && !typed(&self.old));
        let left = |f: &Failure| f.sentence.rsplit(": ").next()?.split(' ').next()?.parse::<u32>().ok();
        let old = wrong.map(|failure| match left(failure) {
            Some(left) => tr!("people-own-wrong-tries", count = left),
            None => tr!("people-own-wrong").into(),
        });
        let new = if !typed(&self.pin) {
            None
        } else if typed(&self.old) && self.pin.pin() == self.old.pin() {
            Some(tr!("people-own-same").into())
        } else {
            self.weakness()
        };
        let again = (typed(&self.again) && self.again.pin() != self.pin.pin())
            .then(|| tr!("people-pin-twice").to_owned());
        [old, new, again]
    }

    /// Why the new PIN can't be one.
    fn weakness(&self) -> Option<String> {
        let least = pin::least_length(self.role);
        if self.pin.0.trim().chars().count() < least {
            return Some(tr!("people-missing-pin", count = least));
        }
        self.pin.pin().check_new(&self.name, self.role).is_err().then(|| tr!("people-pin-weak").into())
    }

    /// What is still missing.
    pub(super) fn missing(&self) -> Option<String> {
        if self.is_new() && self.name.trim().is_empty() {
            return Some(tr!("people-missing-name").into());
        }
        if self.change == Change::Own && self.old.pin().is_empty() {
            return Some(tr!("people-own-missing").into());
        }
        if self.wants_pin() {
            if let Some(weak) = self.weakness() {
                return Some(weak);
            }
            if self.change == Change::Own && self.pin.pin() == self.old.pin() {
                return Some(tr!("people-own-same").into());
            }
            if self.again.pin() != self.pin.pin() {
                return Some(tr!("people-pin-twice").into());
            }
        }
        let badge = self.badge.pin();
        if (self.change == Change::Badge || !badge.is_empty()) && badge.check_badge().is_err() {
            return Some(tr!("people-missing-badge").into());
        }
        if self.change == Change::Role && self.was == Some(self.role) {
            return Some(tr!("people-missing-role").into());
        }
        None
    }

    /// Its fields; the first gets the keyboard once.
    pub(super) fn fields(&mut self, ui: &mut Ui, p: &Palette) {
        let focus = !std::mem::replace(&mut self.focused, true);
        if self.is_new() {
            field(ui, tr!("people-name"), &mut self.name, false, focus, p);
        }
        if matches!(self.change, Change::Add | Change::Role) {
            ui.label(RichText::new(tr!("people-role")).font(strong(14.0)).color(p.text));
            ui.horizontal_wrapped(|ui| {
                for role in Role::ALL {
                    ui.radio_value(&mut self.role, role, RichText::new(role_name(role)).font(regular(15.0)));
                }
            });
        }
        if self.change == Change::Own {
            let beside = self.beside();
            let again = std::mem::take(&mut self.wants_old);
            let fields = [
                (tr!("people-own-old"), &mut self.old, focus || again),
                (tr!("people-own-new"), &mut self.pin, false),
                (tr!("people-pin-again"), &mut self.again, false),
            ];
            for ((name, text, focus), wrong) in fields.into_iter().zip(beside) {
                let response = field(ui, name, &mut text.0, true, focus, p);
                let (r, _) = ui.allocate_exact_size(vec2(ui.available_width(), 18.0), Sense::hover());
                if let Some(wrong) = wrong {
                    let ink = p.error.ink;
                    widgets::line(ui, r, Align2::LEFT_CENTER, &wrong, regular(13.0), ink);
                    ui.ctx().accesskit_node_builder(response.id, |node| node.set_description(wrong.clone()));
                }
            }
        } else if self.wants_pin() {
            let first = focus && !self.is_new();
            field(ui, tr!("people-pin"), &mut self.pin.0, true, first, p);
            field(ui, tr!("people-pin-again"), &mut self.again.0, true, false, p);
        }
        if self.wants_badge() {
            let name = if self.change == Change::Badge {
                tr!("people-badge-scan")
            } else {
                tr!("people-badge-optional")
            };
            let first = focus && self.change == Change::Badge;
            field(ui, name, &mut self.badge.0, true, first, p);
        }
    }

    pub(super) fn command(&self) -> Command {
        let (name, badge) = (self.name.trim().to_owned(), self.badge.pin());
        let badge = (!badge.is_empty()).then_some(badge);
        match self.change {
            Change::First | Change::Add => {
                Command::Add(NewPerson { name, role: self.role, pin: self.pin.pin(), badge })
            }
            Change::Role => {
                Command::SetRole { name, role: self.role, pin: self.wants_pin().then(|| self.pin.pin()) }
            }
            Change::Pin => Command::SetPin { name, pin: self.pin.pin() },
            Change::Badge => Command::SetBadge { name, badge },
            Change::Own => Command::SetOwnPin { old: self.old.pin(), new: self.pin.pin() },
        }
    }
}

/// A role's name in the window's language.
pub(super) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Technician => tr!("role-technician"),
        Role::Qa => tr!("role-qa"),
        Role::Vendor => tr!("role-vendor"),
        Role::Admin => tr!("role-admin"),
    }
}

/// Why something is off.
pub(super) fn reason(why: Refusal) -> &'static str {
    match why {
        Refusal::For(Role::Qa) => tr!("gate-only-qa"),
        Refusal::For(Role::Vendor) => tr!("gate-only-vendor"),
        Refusal::For(Role::Admin) => tr!("gate-only-admin"),
        Refusal::LogInFirst | Refusal::For(Role::Technician) => tr!("gate-log-in-first"),
    }
}

fn done(what: &Done) -> String {
    match what {
        Done::Added(name, role) => tr!("done-added", name = name.as_str(), role = role_name(*role)),
        Done::Role(name, role) => tr!("done-role", name = name.as_str(), role = role_name(*role)),
        Done::Pin(name) => tr!("done-pin", name = name.as_str()),
        Done::Badge(name, true) => tr!("done-badge", name = name.as_str()),
        Done::Badge(name, false) => tr!("done-no-badge", name = name.as_str()),
        Done::Active(name, true) => tr!("done-on", name = name.as_str()),
        Done::Active(name, false) => tr!("done-off", name = name.as_str()),
        Done::Unlocked(name) => tr!("done-unlocked", name = name.as_str()),
        Done::Whole(audit, events) => {
            tr!("done-whole", audit = i18n::number(*audit), events = i18n::number(*events))
        }
        Done::Exported { rows, file } => {
            tr!("done-exported", rows = i18n::number(*rows as u64), file = file.display().to_string())
        }
    }
}

/// The newest word of the office, as a strip; takes its room off the top.
pub(super) fn told(ui: &mut Ui, room: &mut Rect, told: &Told, p: &Palette) {
    let (tone, first, second) = match told {
        Told::Nothing => return,
        Told::Working => (p.running, tr!("told-working").to_owned(), String::new()),
        Told::Done(what) => (p.pass, done(what), String::new()),
        Told::Failed(failure) => {
            let (sentence, remedy) = i18n::failure(failure);
            (p.fail, format!("{} {sentence}", failure.code), remedy)
        }
    };
    let height = if second.is_empty() { 40.0 } else { 58.0 };
    let rect = Rect::from_min_size(room.min, vec2(room.width(), height));
    ui.painter().rect(rect, 10.0, tone.soft, Stroke::new(1.0, tone.solid), StrokeKind::Inside);
    let words = rect.shrink2(vec2(14.0, 8.0));
    let words = match told {
        Told::Failed(failure) => copy::button(ui, words, &copy::told(failure)),
        _ => words,
    };
    let upper = Rect::from_min_size(
        words.min,
        vec2(words.width(), if second.is_empty() { words.height() } else { 22.0 }),
    );
    widgets::line(ui, upper, Align2::LEFT_CENTER, &first, strong(15.0), tone.ink);
    if !second.is_empty() {
        let lower = Rect::from_min_max(pos2(words.left(), words.bottom() - 20.0), words.max);
        widgets::line(ui, lower, Align2::LEFT_CENTER, &second, regular(14.0), p.text);
    }
    room.min.y = rect.bottom() + 10.0;
}

/// A title row with buttons at its right end; returns which was pressed. A button that is off comes with its reason.
pub(super) fn title_row(
    ui: &mut Ui,
    room: &mut Rect,
    title: &str,
    buttons: &[(&str, Option<Refusal>)],
    p: &Palette,
) -> Option<usize> {
    let row = Rect::from_min_size(room.min, vec2(room.width(), 40.0));
    let mut right = row.right();
    let mut pressed = None;
    for (i, (text, off)) in buttons.iter().enumerate().rev() {
        let loud = if i == 0 { Loud::Primary } else { Loud::Quiet };
        let button = Button { text, name: text, icon: None, loud, enabled: off.is_none(), size: 15.0 };
        let width = button.width(ui);
        let response =
            button.show(ui, Rect::from_min_size(pos2(right - width, row.top()), vec2(width, 38.0)));
        right -= width + 8.0;
        if widgets::say_why(ui, response, off.map(reason)).clicked() {
            pressed = Some(i);
        }
    }
    let words = Rect::from_min_max(row.min, pos2(right - 8.0, row.bottom()));
    widgets::line(ui, words, Align2::LEFT_CENTER, title, strong(22.0), p.text);
    room.min.y = row.bottom() + 10.0;
    pressed
}

/// Says that a view is not for whoever is there.
pub(super) fn not_for(ui: &mut Ui, room: Rect, what: &str, why: Refusal, p: &Palette) {
    let why = reason(why);
    let card = Rect::from_center_size(room.center(), vec2(560.0_f32.min(room.width()), 110.0));
    ui.painter().rect(card, 16.0, p.surface, Stroke::new(1.0, p.border), StrokeKind::Inside);
    let inner = card.shrink2(vec2(24.0, 20.0));
    let (upper, lower) = inner.split_top_bottom_at_fraction(0.5);
    widgets::line(ui, upper, Align2::CENTER_CENTER, what, strong(20.0), p.text);
    widgets::line(ui, lower, Align2::CENTER_CENTER, why, regular(15.0), p.muted);
}

fn state(person: &Person, now_ms: i64) -> String {
    match (person.active, person.locked_until_ms > now_ms, person.failures) {
        (false, ..) => tr!("people-state-off").into(),
        (true, true, n) => tr!("people-state-locked", count = n),
        (true, false, 0) => tr!("people-state-ok").into(),
        (true, false, n) => tr!("people-state-tries", count = n),
    }
}

/// The view below the header.
pub(super) fn body(
    ui: &mut Ui,
    mut room: Rect,
    seen: Seen<'_>,
    view: &mut ViewState,
    out: &mut Asked,
    p: &Palette,
) {
    if let Some(why) = seen.people.refusal(Right::ManagePeople) {
        not_for(ui, room, tr!("people-title"), why, p);
        return;
    }
    if title_row(ui, &mut room, tr!("people-title"), &[(tr!("people-add"), None)], p).is_some() {
        view.people.form = Some(Form::add(seen.people.persons.is_empty()));
    }
    if view.people.form.is_none() {
        told(ui, &mut room, &seen.people.told, p);
    }
    if seen.people.persons.is_empty() {
        widgets::empty(ui, room, (tr!("people-none"), tr!("people-none-how")), p);
        return;
    }
    let now = crate::station::now_ms();
    ui.scope_builder(egui::UiBuilder::new().max_rect(room), |ui| {
        ui.set_clip_rect(room.expand(4.0).intersect(ui.clip_rect()));
        egui::ScrollArea::vertical().id_salt("people").auto_shrink(false).show(ui, |ui| {
            ui.spacing_mut().item_spacing.y = 8.0;
            for person in &seen.people.persons {
                row(ui, person, now, view, out, p);
            }
        });
    });
}

/// What a button of a person's row does.
enum Press {
    Form(Form),
    Send(Command),
}

fn row(ui: &mut Ui, person: &Person, now: i64, view: &mut ViewState, out: &mut Asked, p: &Palette) {
    let (card, _) = ui.allocate_exact_size(vec2(ui.available_width(), 62.0), Sense::hover());
    ui.painter().rect(card, 12.0, p.surface, Stroke::new(1.0, p.border), StrokeKind::Inside);
    let inner = card.shrink2(vec2(16.0, 8.0));
    let name = &person.name;
    let named = name.as_str();
    let form = |change| Press::Form(Form::change(change, person));
    let send = |command| Press::Send(command);
    let mut acts: Vec<(&str, String, Press)> = vec![
        (tr!("people-button-role"), tr!("people-role-of", name = named), form(Change::Role)),
        (tr!("people-button-pin"), tr!("people-pin-of", name = named), form(Change::Pin)),
        (tr!("people-button-badge"), tr!("people-badge-of", name = named), form(Change::Badge)),
    ];
    if person.badge {
        let take = Command::SetBadge { name: name.clone(), badge: None };
        acts.push((tr!("people-button-take"), tr!("people-take-name", name = named), send(take)));
    }
    if person.failures > 0 {
        let unlock = send(Command::Unlock(name.clone()));
        acts.push((tr!("people-button-unlock"), tr!("people-unlock-name", name = named), unlock));
    }
    let switch = send(Command::SetActive { name: name.clone(), active: !person.active });
    acts.push(if person.active {
        (tr!("people-button-off"), tr!("people-off-name", name = named), switch)
    } else {
        (tr!("people-button-on"), tr!("people-on-name", name = named), switch)
    });
    let mut right = inner.right();
    for (text, label, press) in acts.into_iter().rev() {
        let button = Button { text, name: &label, icon: None, loud: Loud::Quiet, enabled: true, size: 13.5 };
        let width = button.width(ui);
        let place = Rect::from_center_size(pos2(right - width / 2.0, inner.center().y), vec2(width, 34.0));
        right -= width + 6.0;
        if button.show(ui, place).clicked() {
            match press {
                Press::Form(form) => view.people.form = Some(form),
                Press::Send(command) => out.people.push(command),
            }
        }
    }
    let words = Rect::from_min_max(inner.min, pos2(right - 8.0, inner.bottom()));
    let (upper, lower) = words.split_top_bottom_at_fraction(0.52);
    widgets::line(ui, upper, Align2::LEFT_CENTER, name, strong(16.0), p.text);
    let badge = if person.badge { tr!("people-with-badge") } else { tr!("people-no-badge") };
    let text = tr!("people-line", role = role_name(person.role), badge = badge, state = state(person, now));
    widgets::line(
        ui,
        lower,
        Align2::LEFT_CENTER,
        &text,
        regular(13.5),
        if person.active { p.muted } else { p.error.ink },
    );
}

/// A field with its name above it; `secret` ones show dots.
pub(super) fn field(
    ui: &mut Ui,
    name: &str,
    text: &mut String,
    secret: bool,
    focus: bool,
    p: &Palette,
) -> egui::Response {
    let label = ui.label(RichText::new(name).font(strong(14.0)).color(p.text));
    let edit = egui::TextEdit::singleline(text)
        .password(secret)
        .char_limit(128)
        .font(regular(16.0))
        .desired_width(f32::INFINITY)
        .margin(vec2(10.0, 8.0));
    let response = ui.add(edit).labelled_by(label.id);
    if focus {
        response.request_focus();
    }
    response
}

/// The dialog, while there is one.
pub(super) fn form(ui: &mut Ui, seen: Seen<'_>, view: &mut ViewState, out: &mut Asked, p: &Palette) {
    let Some(mut form) = view.people.form.take() else { return };
    if form.sent.is_some_and(|before| seen.people.answered != before) {
        form.sent = None;
        match &seen.people.told {
            Told::Working | Told::Nothing => {}
            Told::Done(what) => {
                view.notice = Some(done(what));
                return;
            }
            Told::Failed(failure) => {
                form.refused = Some(failure.clone());
                if failure.code == FailureCode::LoginFailed {
                    (form.old, form.wants_old) = (Typed::default(), true);
                }
            }
        }
    }
    let enter = ui.input_mut(|i| i.consume_key(Modifiers::NONE, Key::Enter));
    let (mut go, mut back) = (false, false);
    let modal = widgets::modal(ui, "person form", p, |ui| {
        ui.set_width(460.0);
        ui.spacing_mut().item_spacing.y = 7.0;
        ui.label(RichText::new(form.title()).font(strong(20.0)).color(p.text));
        if form.change == Change::First {
            let text = tr!("people-no-way-back");
            ui.label(RichText::new(text).font(regular(14.5)).color(p.muted));
        }
        form.fields(ui, p);
        let mut hint = form.missing();
        // What stands beside its field is not said twice.
        let beside = form.change == Change::Own && form.beside().iter().any(Option::is_some);
        if beside {
            hint = None;
        } else if let (Some(failure), None) = (&form.refused, &hint)
            && form.sent.is_none()
        {
            let (sentence, remedy) = i18n::failure(failure);
            hint = Some(format!("{sentence}. {remedy}"));
        }
        ui.add_space(2.0);
        let (r, _) = ui.allocate_exact_size(vec2(460.0, 38.0), Sense::hover());
        widgets::block(
            ui,
            r,
            Align2::LEFT_CENTER,
            hint.as_deref().unwrap_or(" "),
            regular(13.5),
            p.error.ink,
            2,
        );
        let (r, _) = ui.allocate_exact_size(vec2(460.0, 40.0), Sense::hover());
        let text = match form.change {
            Change::First => tr!("people-create-admin"),
            Change::Add => tr!("people-add-do"),
            _ => tr!("people-save"),
        };
        let ready = form.missing().is_none() && form.sent.is_none();
        let button = Button { text, name: text, icon: None, loud: Loud::Primary, enabled: ready, size: 15.0 };
        let w = button.width(ui);
        let place = Rect::from_min_size(pos2(r.right() - w, r.top()), vec2(w, 38.0));
        go = button.show(ui, place).clicked() || (enter && ready);
        let button = Button {
            text: tr!("people-back"),
            name: tr!("people-back-name"),
            icon: None,
            loud: Loud::Quiet,
            enabled: true,
            size: 15.0,
        };
        let w = button.width(ui);
        back = button
            .show(ui, Rect::from_min_size(pos2(place.left() - w - 10.0, r.top()), vec2(w, 38.0)))
            .clicked();
    });
    if go {
        out.people.push(form.command());
        (form.sent, form.refused) = (Some(seen.people.answered), None);
    }
    if !(back || modal.should_close()) {
        view.people.form = Some(form);
    }
}

#[cfg(test)]
mod tests {
    use super::super::line_view::Tab;
    use super::super::line_view::tests::{harness, press, type_into};
    use super::super::lock_screen::tests::{logged_in, persons};
    use super::super::scripted::{Scene, scene};
    use super::*;
    use crate::people::office::{Gate, Snapshot};
    use egui_kittest::kittest::Queryable;
    use std::time::Instant;

    #[test]
    fn an_open_station_says_so_and_makes_its_admin() {
        let mut h = harness(scene(Scene::Ready(2), Instant::now()));
        assert!(h.query_by_label_contains("open station").is_none());
        h.state_mut().people = Snapshot { gate: Gate::Open, ..Snapshot::default() };
        h.run();
        h.get_by_label_contains("This is an open station");
        h.get_by_label("Create the admin").click();
        h.run();
        h.run();
        h.get_by_label_contains("Type the name");
        type_into(&mut h, "Name", "Ana");
        type_into(&mut h, "PIN", "123456");
        h.get_by_label_contains("everybody tries first");
        type_into(&mut h, "PIN", "x9");
        h.get_by_label_contains("Type the same PIN twice");
        type_into(&mut h, "The same PIN again", "123456x9");
        press(&mut h, &[Key::Enter]);
        let asked = std::mem::take(&mut h.state_mut().asked.people);
        assert_eq!(
            asked,
            [Command::Add(NewPerson {
                name: "Ana".into(),
                role: Role::Admin,
                pin: Pin::new("123456x9".to_owned()),
                badge: None
            })]
        );
        assert_eq!(h.state_mut().take(), [], "typing reached no fixture");
        // It closes when the office is done.
        h.state_mut().people.answered += 1;
        h.state_mut().people.told = Told::Done(Done::Added("Ana".into(), Role::Admin));
        h.run();
        assert!(h.query_by_label("The same PIN again").is_none());
    }

    #[test]
    fn the_admin_looks_after_everybody() {
        let mut h = harness(scene(Scene::Ready(1), Instant::now()));
        h.state_mut().people = Snapshot { persons: persons(), ..logged_in(Role::Admin) };
        h.state_mut().view.tab = Tab::People;
        h.run();
        h.get_by_label_contains("Technician, with badge, can log in, 3 wrong tries");
        h.get_by_label("Unlock Tom").click();
        h.run();
        h.get_by_label("Switch off Quin").click();
        h.run();
        let quin = |active| Command::SetActive { name: "Quin".into(), active };
        assert_eq!(
            std::mem::take(&mut h.state_mut().asked.people),
            [Command::Unlock("Tom".into()), quin(false)]
        );
        // A technician's new role wants a longer PIN.
        h.get_by_label("Role of Tom").click();
        h.run();
        h.run();
        assert!(h.query_by_label("PIN").is_none());
        h.get_by_label("QA").click();
        h.run();
        h.get_by_label_contains("at least 6 characters");
        type_into(&mut h, "PIN", "hand2mouth");
        type_into(&mut h, "The same PIN again", "hand2mouth");
        h.get_by_label("Save").click();
        h.run();
        assert_eq!(
            std::mem::take(&mut h.state_mut().asked.people),
            [Command::SetRole {
                name: "Tom".into(),
                role: Role::Qa,
                pin: Some(Pin::new("hand2mouth".to_owned()))
            }]
        );
        press(&mut h, &[Key::Escape]);
        h.get_by_label("Add a person").click();
        h.run();
        h.run();
        h.get_by_label("Add the person");
    }

    #[test]
    fn everybody_changes_their_own_pin_and_what_is_wrong_stands_beside_its_field() {
        let mut h = harness(scene(Scene::Ready(1), Instant::now()));
        h.state_mut().people = logged_in(Role::Technician);
        h.run();
        h.get_by_label("Person: Tom, Technician").click();
        h.run();
        h.run();
        h.get_by_label("My PIN…").click();
        h.run();
        h.run();
        h.get_by_label("Type the PIN that you have now");
        h.event(egui::Event::Text("2580".into()));
        h.run();
        type_into(&mut h, "My new PIN", "25");
        h.get_by_label("Choose a PIN of at least 4 characters");
        type_into(&mut h, "My new PIN", "80");
        h.get_by_label("Choose another one than you have now");
        type_into(&mut h, "My new PIN", "3");
        type_into(&mut h, "The same PIN again", "2580");
        h.get_by_label("Type the same PIN twice");
        type_into(&mut h, "The same PIN again", "3");
        press(&mut h, &[Key::Enter]);
        let pin = |text: &str| Pin::new(text.to_owned());
        let sent = || Command::SetOwnPin { old: pin("2580"), new: pin("25803") };
        assert_eq!(std::mem::take(&mut h.state_mut().asked.people), [sent()]);
        let wrong = Failure::new(FailureCode::LoginFailed, "3 tries are left");
        h.state_mut().people.answered += 1;
        h.state_mut().people.told = Told::Failed(wrong);
        h.run();
        h.run();
        h.get_by_label("That is not your PIN; 3 tries are left");
        // The keyboard is where the wrong one was.
        h.event(egui::Event::Text("2580".into()));
        h.run();
        assert!(h.query_by_label_contains("That is not your PIN").is_none());
        press(&mut h, &[Key::Enter]);
        assert_eq!(std::mem::take(&mut h.state_mut().asked.people), [sent()]);
        h.state_mut().people.answered += 1;
        h.state_mut().people.told = Told::Done(Done::Pin("Tom".into()));
        h.run();
        assert!(h.query_by_label("My new PIN").is_none());
        assert_eq!(h.state_mut().take(), [], "typing reached no fixture");
    }

    #[test]
    fn nobody_but_the_admin_sees_people() {
        for role in [Role::Technician, Role::Qa, Role::Vendor] {
            let mut h = harness(scene(Scene::Ready(1), Instant::now()));
            h.state_mut().people = logged_in(role);
            h.state_mut().view.tab = Tab::People;
            h.run();
            h.get_by_label("For Admin only");
            assert!(h.query_by_label("Add a person").is_none());
        }
    }

    #[test]
    fn nothing_prints_what_is_typed() {
        let mut form = Form::add(true);
        form.pin.0.push_str("729450");
        assert!(!format!("{form:?}").contains("729450"));
    }
}
