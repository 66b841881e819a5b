//! The lock screen, the menu below the person's name, and the banner of an open station.
//!
//! The line stays in sight beside the card: units go on, only commands wait. Nothing that is pressed or typed here reaches the line.
//!
//! A scanner types a badge and Enter wherever the keyboard is: what comes faster than anybody types is a badge, whichever field it
//! falls into.

use super::copy;
use super::files::Files;
use super::header;
use super::line_view::{Tab, ViewState};
use super::people_view::{self, Form, Typed};
use super::shell::{self, Asked, Seen};
use super::theme::{Palette, palette, regular, strong};
use super::wedge::Wedge;
use super::widgets::{self, Button, Loud};
use crate::failure::FailureCode;
use crate::i18n::{self, tr};
use crate::people::office::{Command, Gate, Told};
use crate::people::{Credential, Right, Role};
use egui::{
    Align2, Key, Modifiers, Rect, Response, Role as AccessRole, Sense, Stroke, StrokeKind, Ui, UiBuilder,
    WidgetInfo, pos2, vec2,
};
use std::time::{Duration, Instant};

/// Height of the banner of an open station.
pub(super) const BANNER: f32 = 40.0;
/// A scanner is done by then; nobody types six characters so fast.
const SCAN: Duration = Duration::from_millis(350);
/// The shortest text that can be a scan.
const SCAN_LEN: usize = 6;

/// What the window remembers of the lock screen.
#[derive(Clone, Debug, Default)]
pub struct LockState {
    /// The name that was picked.
    name: Option<String>,
    /// Name or badge, as it is typed.
    who: Typed,
    /// The PIN.
    pin: Typed,
    /// When the first character of the field came.
    began: Option<Instant>,
    /// The field is to get the keyboard.
    wants_focus: bool,
    /// The login that the window has taken in.
    logins: u64,
    /// Whose work the window shows.
    person: Option<i64>,
    was_locked: bool,
    /// It is being locked for somebody else: whoever goes is not offered first.
    switching: bool,
    /// A unit's label was scanned here, which says nothing of a person.
    label: bool,
}

/// Whether somebody typed, pressed or moved something.
pub(super) fn is_touched(ui: &Ui) -> bool {
    ui.input(|i| {
        i.events.iter().any(|e| {
            matches!(
                e,
                egui::Event::Key { .. }
                    | egui::Event::Text(_)
                    | egui::Event::Paste(_)
                    | egui::Event::PointerMoved(_)
                    | egui::Event::PointerButton { .. }
                    | egui::Event::MouseWheel { .. }
                    | egui::Event::Touch { .. }
            )
        })
    })
}

/// Takes in who is there: another person does not find what the one before left open.
pub(super) fn observe(ctx: &egui::Context, seen: Seen<'_>, view: &mut ViewState) {
    let lock = &mut view.people.lock;
    let locked = seen.people.is_locked();
    if locked && !lock.was_locked {
        let name = seen.people.who().filter(|_| !lock.switching).map(|who| who.name.clone());
        *lock =
            LockState { name, wants_focus: true, was_locked: true, switching: false, ..std::mem::take(lock) };
        lock.pin = Typed::default();
        view.people.form = None;
        view.people.menu = false;
        view.trust.put_away();
        view.exports.put_away();
        // A dialog that chooses a file outlives the lock.
        view.files = Files::default();
        forget_typed(ctx, view);
    }
    let lock = &mut view.people.lock;
    if !locked && let Some(who) = seen.people.who() {
        lock.was_locked = false;
        if lock.person != Some(who.id) || lock.logins != seen.people.logins {
            let other = lock.person.is_some_and(|before| before != who.id);
            *lock = LockState { person: Some(who.id), logins: seen.people.logins, ..LockState::default() };
            if other {
                view.units = super::units_view::UnitsState::default();
                view.people.audit = super::audit_view::AuditState::default();
                view.batches = super::batches_view::BatchesState::default();
                view.exports.restart();
                view.offered = None;
                view.files = Files::default();
                view.shift.form = None;
                view.settings = None;
                view.tab = Tab::Line;
                forget_typed(ctx, view);
            }
        }
    }
}

/// What is half typed or half scanned is nobody else's, and neither is what text fields keep to take a change back.
fn forget_typed(ctx: &egui::Context, view: &mut ViewState) {
    view.wedge = Wedge::default();
    ctx.data_mut(|data| data.remove_by_type::<egui::text_edit::TextEditState>());
}

/// F8 and F9; true if one of them was pressed.
pub(super) fn keys(ui: &Ui, seen: Seen<'_>, view: &mut ViewState, out: &mut Asked) -> bool {
    if seen.people.who().is_none() {
        return false;
    }
    let (switch, lock) = ui.input(|i| (i.key_pressed(Key::F8), i.key_pressed(Key::F9)));
    if switch || lock {
        leave(view, out, switch);
    }
    switch || lock
}

fn leave(view: &mut ViewState, out: &mut Asked, switch: bool) {
    out.people.push(Command::Lock);
    view.people.menu = false;
    view.people.lock.switching = switch;
}

/// An open station says that it is one, and what to do about it.
pub(super) fn banner(ui: &mut Ui, rect: Rect, view: &mut ViewState, p: &Palette) {
    ui.painter().rect_filled(rect, 0.0, p.error.soft);
    ui.painter().hline(rect.x_range(), rect.bottom(), Stroke::new(1.0, p.error.solid));
    let button = Button {
        text: tr!("people-create-admin"),
        name: tr!("people-create-admin"),
        icon: None,
        loud: Loud::Primary,
        enabled: view.people.form.is_none(),
        size: 13.5,
    };
    let width = button.width(ui);
    let place =
        Rect::from_center_size(pos2(rect.right() - 16.0 - width / 2.0, rect.center().y), vec2(width, 28.0));
    if button.show(ui, place).clicked() {
        view.people.form = Some(Form::add(true));
    }
    let words =
        Rect::from_min_max(pos2(rect.left() + 16.0, rect.top()), pos2(place.left() - 12.0, rect.bottom()));
    widgets::line(ui, words, Align2::LEFT_CENTER, tr!("open-banner"), strong(14.5), p.error.ink);
}

/// What opens below the person's name in the header.
pub(super) fn menu(
    ui: &mut Ui,
    opener: Rect,
    seen: Seen<'_>,
    view: &mut ViewState,
    out: &mut Asked,
    p: &Palette,
) {
    let mut chosen = None;
    let items: [(&str, &str, Option<Right>); 5] = [
        (tr!("menu-switch"), "F8", None),
        (tr!("menu-lock"), "F9", None),
        (tr!("menu-own-pin"), "", None),
        (tr!("people-title"), "Ctrl+7", Some(Right::ManagePeople)),
        (tr!("audit-title"), "Ctrl+8", Some(Right::ReadAudit)),
    ];
    let area =
        header::popup(ui, "person menu", pos2(opener.left() - 60.0, opener.bottom() + 6.0), 230.0, p, |ui| {
            ui.spacing_mut().item_spacing.y = 4.0;
            for (i, (text, key, right)) in items.iter().enumerate() {
                let why = right.and_then(|right| seen.people.refusal(right)).map(people_view::reason);
                let (r, _) = ui.allocate_exact_size(vec2(ui.available_width(), 38.0), Sense::hover());
                let sense = if why.is_some() { Sense::hover() } else { Sense::click() };
                let response = ui.interact(r, ui.scope_id().with(("person menu", i)), sense);
                response.widget_info(|| WidgetInfo::labeled(AccessRole::MenuItem, why.is_none(), *text));
                if response.hovered() && why.is_none() {
                    ui.painter().rect_filled(r, 8.0, p.hover);
                }
                let inner = r.shrink2(vec2(12.0, 0.0));
                let ink = if why.is_some() { p.muted } else { p.text };
                let at = if why.is_some() {
                    pos2(inner.left(), inner.center().y - 8.0)
                } else {
                    inner.left_center()
                };
                ui.painter().text(at, Align2::LEFT_CENTER, *text, strong(15.0), ink);
                ui.painter().text(inner.right_center(), Align2::RIGHT_CENTER, *key, regular(13.0), p.muted);
                if let Some(why) = why {
                    let lower = Rect::from_min_max(pos2(inner.left(), inner.center().y), inner.max);
                    widgets::line(ui, lower, Align2::LEFT_CENTER, why, regular(12.0), p.muted);
                }
                if response.has_focus() {
                    widgets::focus_ring(ui, r.shrink(2.0), 8.0, p);
                }
                if response.clicked() {
                    chosen = Some(i);
                }
            }
        });
    let escape = ui.input(|i| i.key_pressed(Key::Escape));
    match chosen {
        Some(0) => leave(view, out, true),
        Some(1) => leave(view, out, false),
        Some(2) => view.people.form = seen.people.who().map(Form::own),
        Some(3) => shell::turn_to(Tab::People, view),
        Some(4) => shell::turn_to(Tab::Audit, view),
        _ if escape || header::pressed_outside(ui, area, opener) => view.people.menu = false,
        _ => return,
    }
    view.people.menu = false;
}

/// The whole window while it is locked.
pub(super) fn show(ui: &mut Ui, seen: Seen<'_>, view: &mut ViewState, out: &mut Asked) {
    let p = palette(ui.ctx());
    let all = ui.max_rect();
    ui.painter().rect_filled(all, 0.0, p.background);
    (view.help, view.alarms, view.matrix) = (false, false, false);
    (view.picker, view.operator) = (None, None);
    let width = (all.width() * 0.3).clamp(340.0, 420.0);
    let card = Rect::from_min_max(pos2(all.right() - width, all.top()), all.max);
    let left = Rect::from_min_max(all.min, pos2(card.left(), all.bottom()));
    let kept = std::mem::replace(&mut view.tab, Tab::Line);
    let settings = view.settings.take();
    ui.scope_builder(UiBuilder::new().max_rect(left).id_salt("behind the lock"), |ui| {
        // It is to be read, so it is not dimmed; it takes no press.
        ui.visuals_mut().disabled_alpha = 1.0;
        ui.disable();
        ui.set_clip_rect(left);
        let mut nothing = Asked::default();
        shell::framed(ui, seen, view, false, &mut nothing);
    });
    view.tab = kept;
    view.settings = settings;
    ui.painter().rect_filled(card, 0.0, p.surface);
    ui.painter().vline(card.left(), card.y_range(), Stroke::new(1.0, p.border));
    ui.scope_builder(UiBuilder::new().max_rect(card.shrink2(vec2(22.0, 20.0))).id_salt("lock card"), |ui| {
        ui.spacing_mut().item_spacing.y = 8.0;
        login(ui, seen, view, out, p);
    });
}

/// Name and PIN, or a badge: what stands in the card.
pub(super) fn login(ui: &mut Ui, seen: Seen<'_>, view: &mut ViewState, out: &mut Asked, p: &Palette) {
    let width = ui.available_width();
    let row = |ui: &mut Ui, height: f32| ui.allocate_exact_size(vec2(width, height), Sense::hover()).0;
    let running = seen.line.fixtures.iter().filter(|f| f.running.is_some()).count();
    let r = row(ui, 34.0);
    let title = if seen.people.who().is_some() { tr!("lock-locked") } else { tr!("lock-who") };
    widgets::line(ui, r, Align2::LEFT_CENTER, title, strong(24.0), p.text);
    let says = match (seen.people.who(), running) {
        (Some(who), 0) => tr!("lock-logged-in", name = who.name.as_str()),
        (Some(who), n) => tr!("lock-units", count = n, name = who.name.as_str()),
        (None, _) => tr!("lock-pick").into(),
    };
    let r = row(ui, 22.0);
    widgets::line(ui, r, Align2::LEFT_CENTER, &says, regular(15.0), p.muted);
    refusal(ui, width, seen, view, p);
    let enter = ui.input_mut(|i| i.consume_key(Modifiers::NONE, Key::Enter));
    let escape = ui.input(|i| i.key_pressed(Key::Escape));
    let working = seen.people.told == Told::Working;
    // Only a name that is still there: somebody may have been switched off meanwhile.
    let picked =
        view.people.lock.name.clone().filter(|name| seen.people.names.iter().any(|(n, _)| n == name));
    match picked {
        None => pick(ui, width, seen, view, enter, out, p),
        Some(name) => {
            if escape {
                back(view);
                return;
            }
            pin(ui, width, &name, (enter, working), view, out, p);
        }
    }
}

/// What went wrong, and for how long nobody is looked at.
fn refusal(ui: &mut Ui, width: f32, seen: Seen<'_>, view: &ViewState, p: &Palette) {
    if view.people.lock.label {
        let (card, _) = ui.allocate_exact_size(vec2(width, 62.0), Sense::hover());
        ui.painter().rect(card, 10.0, p.running.soft, Stroke::new(1.0, p.running.solid), StrokeKind::Inside);
        let words = card.shrink2(vec2(12.0, 8.0));
        widgets::block(ui, words, Align2::LEFT_CENTER, tr!("lock-label"), regular(14.0), p.running.ink, 2);
        return;
    }
    let Told::Failed(failure) = &seen.people.told else { return };
    let left = seen.people.wait_until.and_then(|until| until.checked_duration_since(view.now));
    let (first, second) = match (failure.code, left) {
        (FailureCode::LockedOut, Some(left)) => {
            ui.ctx().request_repaint_after(Duration::from_millis(500));
            let seconds = left.as_secs() + 1;
            (tr!("lock-too-many").to_owned(), tr!("lock-again", seconds = seconds))
        }
        // The lock-out is over; what it said is no longer true.
        (FailureCode::LockedOut, None) if seen.people.wait_until.is_some() => return,
        _ => i18n::failure(failure),
    };
    let (card, _) = ui.allocate_exact_size(vec2(width, 78.0), Sense::hover());
    ui.painter().rect(card, 10.0, p.fail.soft, Stroke::new(1.0, p.fail.solid), StrokeKind::Inside);
    let inner =
        copy::button(ui, card.shrink2(vec2(12.0, 8.0)), &format!("{} {first}. {second}", failure.code));
    let upper = Rect::from_min_size(inner.min, vec2(inner.width(), 22.0));
    let lower = Rect::from_min_max(pos2(inner.left(), upper.bottom() + 2.0), inner.max);
    let used = widgets::line(ui, upper, Align2::LEFT_CENTER, &first, strong(15.0), p.fail.ink);
    widgets::block(ui, lower, Align2::LEFT_TOP, &second, regular(13.5), p.text, 2);
    let response = ui.interact(used, ui.scope_id().with("refusal"), Sense::hover());
    ui.ctx().accesskit_node_builder(response.id, |node| {
        node.set_live(egui::accesskit::Live::Assertive);
        node.set_value(first.clone());
    });
}

fn back(view: &mut ViewState) {
    let lock = &mut view.people.lock;
    *lock = LockState {
        name: None,
        who: Typed::default(),
        pin: Typed::default(),
        began: None,
        wants_focus: true,
        ..lock.clone()
    };
}

/// Whether the text that was just entered came from a scanner.
fn is_scan(lock: &LockState, text: &str, now: Instant) -> bool {
    text.trim().chars().count() >= SCAN_LEN
        && lock.began.is_some_and(|began| now.duration_since(began) < SCAN)
}

/// Notes when a field got its first character.
fn watch(lock: &mut LockState, response: &Response, empty: bool, now: Instant) {
    if empty {
        lock.began = None;
    } else if response.changed() && lock.began.is_none() {
        lock.began = Some(now);
    }
}

fn pick(
    ui: &mut Ui,
    width: f32,
    seen: Seen<'_>,
    view: &mut ViewState,
    enter: bool,
    out: &mut Asked,
    p: &Palette,
) {
    let now = view.now;
    let lock = &mut view.people.lock;
    let typed = lock.who.0.trim().to_lowercase();
    let fitting: Vec<(String, Role)> =
        seen.people.names.iter().filter(|(name, _)| name.to_lowercase().contains(&typed)).cloned().collect();
    // What begins no name is a badge: it is not shown.
    let secret = fitting.is_empty();
    let focus = std::mem::take(&mut lock.wants_focus);
    let response = people_view::field(ui, tr!("lock-field"), &mut lock.who.0, secret, focus, p);
    watch(lock, &response, lock.who.0.is_empty(), now);
    if ui.ctx().memory(|m| m.focused().is_none()) {
        response.request_focus();
    }
    let mut chosen = None;
    if enter && !lock.who.0.trim().is_empty() {
        let exact = fitting.iter().find(|(name, _)| name.to_lowercase() == typed);
        match (exact, &fitting[..]) {
            (Some((name, _)), _) => chosen = Some(name.clone()),
            (None, [(name, _)]) if !is_scan(lock, &lock.who.0, now) => chosen = Some(name.clone()),
            _ if lock.who.pin().is_label() => {
                lock.label = true;
                lock.who = Typed::default();
                lock.began = None;
            }
            _ => {
                lock.label = false;
                out.people.push(Command::Login(Credential::Badge(lock.who.pin())));
                lock.who = Typed::default();
                lock.began = None;
            }
        }
    }
    egui::ScrollArea::vertical().id_salt("names").auto_shrink([false, false]).show(ui, |ui| {
        ui.spacing_mut().item_spacing.y = 6.0;
        for (name, role) in &fitting {
            let (r, _) = ui.allocate_exact_size(vec2(width - 12.0, 50.0), Sense::hover());
            let response = ui.interact(r, ui.scope_id().with(("name", name)), Sense::click());
            response.widget_info(|| {
                WidgetInfo::labeled(
                    AccessRole::Button,
                    true,
                    format!("{name}, {}", people_view::role_name(*role)),
                )
            });
            let fill = if response.hovered() { p.hover } else { p.background };
            ui.painter().rect(r, 10.0, fill, Stroke::new(1.0, p.outline), StrokeKind::Inside);
            let (upper, lower) = r.shrink2(vec2(14.0, 5.0)).split_top_bottom_at_fraction(0.55);
            ui.painter().text(upper.left_center(), Align2::LEFT_CENTER, name, strong(16.0), p.text);
            ui.painter().text(
                lower.left_center(),
                Align2::LEFT_CENTER,
                people_view::role_name(*role),
                regular(13.0),
                p.muted,
            );
            if response.has_focus() {
                widgets::focus_ring(ui, r, 10.0, p);
            }
            if response.clicked() {
                chosen = Some(name.clone());
            }
        }
    });
    if let Some(name) = chosen {
        let lock = &mut view.people.lock;
        *lock = LockState {
            name: Some(name),
            who: Typed::default(),
            began: None,
            wants_focus: true,
            label: false,
            ..lock.clone()
        };
        ui.ctx().request_repaint();
    }
}

fn pin(
    ui: &mut Ui,
    width: f32,
    name: &str,
    (enter, working): (bool, bool),
    view: &mut ViewState,
    out: &mut Asked,
    p: &Palette,
) {
    let now = view.now;
    let lock = &mut view.people.lock;
    let focus = std::mem::take(&mut lock.wants_focus);
    let response = people_view::field(ui, &tr!("lock-pin", name = name), &mut lock.pin.0, true, focus, p);
    watch(lock, &response, lock.pin.0.is_empty(), now);
    if ui.ctx().memory(|m| m.focused().is_none()) {
        response.request_focus();
    }
    let mut go = enter;
    let cell = vec2((width - 16.0) / 3.0, 54.0);
    for keys in
        [["1", "2", "3"], ["4", "5", "6"], ["7", "8", "9"], [tr!("lock-clear"), "0", tr!("lock-log-in")]]
    {
        let (r, _) = ui.allocate_exact_size(vec2(width, cell.y), Sense::hover());
        for (i, key) in keys.into_iter().enumerate() {
            let place = Rect::from_min_size(pos2(r.left() + (cell.x + 8.0) * i as f32, r.top()), cell);
            let enters = key == tr!("lock-log-in");
            let loud = if enters { Loud::Primary } else { Loud::Quiet };
            let digit = key.len() == 1;
            let name = if digit { tr!("lock-digit", digit = key) } else { key.to_owned() };
            let enabled = !working && (!enters || !lock.pin.0.is_empty());
            let size = if digit { 20.0 } else { 15.0 };
            if !(Button { text: key, name: &name, icon: None, loud, enabled, size }).show(ui, place).clicked()
            {
                continue;
            }
            match key {
                _ if enters => go = true,
                digit_key if digit => lock.pin.0.push_str(digit_key),
                _ => lock.pin = Typed::default(),
            }
            response.request_focus();
        }
    }
    let (r, _) = ui.allocate_exact_size(vec2(width, 38.0), Sense::hover());
    let other = Button {
        text: tr!("lock-another"),
        name: tr!("lock-another"),
        icon: None,
        loud: Loud::Quiet,
        enabled: true,
        size: 14.0,
    };
    let other = other.show(ui, r).clicked();
    if go && lock.pin.pin().is_label() {
        lock.label = true;
        lock.pin = Typed::default();
        lock.began = None;
    }
    if go && !working && !lock.pin.0.is_empty() {
        lock.label = false;
        let credential = if is_scan(lock, &lock.pin.0, now) && enter {
            Credential::Badge(lock.pin.pin())
        } else {
            Credential::Pin { name: name.to_owned(), pin: lock.pin.pin() }
        };
        out.people.push(Command::Login(credential));
        lock.pin = Typed::default();
        lock.began = None;
        // The field's memory of what was typed goes with it.
        egui::text_edit::TextEditState::default().store(ui.ctx(), response.id);
    }
    if other {
        back(view);
    }
}

/// The name of what the person chip shows: who, and as what.
pub(super) fn chip(seen: Seen<'_>) -> (&'static str, String, String) {
    match &seen.people.gate {
        Gate::People { who: Some(who), .. } => {
            (tr!("header-person"), who.name.clone(), people_view::role_name(who.role).into())
        }
        Gate::People { who: None, .. } => {
            (tr!("header-person"), tr!("header-nobody").into(), tr!("header-person").into())
        }
        _ => {
            let operator = &seen.line.operator;
            let who = if operator.is_empty() { tr!("header-nobody").into() } else { operator.clone() };
            (tr!("header-operator"), who, tr!("header-operator").into())
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::line_view::tests::{World, harness, press};
    use super::super::scripted::{Scene, scene};
    use super::*;
    use crate::failure::Failure;
    use crate::line;
    use crate::people::office::Snapshot;
    use crate::people::{Pin, Who};
    use crate::records::Person;
    use egui_kittest::{Harness, kittest::NodeT, kittest::Queryable};

    /// Everybody at the test's station.
    pub(crate) fn persons() -> Vec<Person> {
        let person = |id, name: &str, role, badge, failures| Person {
            id,
            name: name.into(),
            role,
            badge,
            active: true,
            failures,
            locked_until_ms: 0,
            created_at_ms: 1_790_000_000_000,
        };
        vec![
            person(1, "Ana Petrović", Role::Admin, false, 0),
            person(2, "Tom", Role::Technician, true, 3),
            person(3, "Quin", Role::Qa, false, 0),
            person(4, "Vera", Role::Vendor, false, 0),
        ]
    }

    pub(crate) fn who(role: Role) -> Who {
        let person = persons().into_iter().find(|p| p.role == role).expect("one of each");
        Who { id: person.id, name: person.name, role }
    }

    pub(crate) fn gate(who: Option<Who>, locked: bool) -> Snapshot {
        let names = persons().into_iter().map(|p| (p.name, p.role)).collect();
        Snapshot { gate: Gate::People { who, locked }, names, ..Snapshot::default() }
    }

    /// Somebody of this role is there.
    pub(crate) fn logged_in(role: Role) -> Snapshot {
        gate(Some(who(role)), false)
    }

    fn locked(who: Option<Who>) -> Harness<'static, World> {
        let now = Instant::now();
        let mut snapshot = scene(Scene::Ready(3), now);
        snapshot.fixtures[1] =
            super::super::scripted::running(2, crate::line::Step::Flash, "writing app", 0.4, now, 9);
        let mut h = harness(snapshot);
        h.state_mut().people = gate(who, true);
        h.run();
        h
    }

    fn asked(h: &mut Harness<'static, World>) -> Vec<Command> {
        std::mem::take(&mut h.state_mut().asked.people)
    }

    fn slowly(h: &mut Harness<'static, World>, text: &str) {
        for c in text.chars() {
            h.event(egui::Event::Text(c.into()));
            h.run();
            h.state_mut().view.now += Duration::from_millis(200);
        }
    }

    #[test]
    fn a_locked_station_shows_its_line_and_takes_no_command() {
        let mut h = locked(Some(who(Role::Technician)));
        h.get_by_label("Locked");
        h.get_by_label("1 unit goes on for Tom");
        h.get_by_label("writing app");
        press(&mut h, &[Key::Space, Key::Num1, Key::F3, Key::F1]);
        h.key_press_modifiers(Modifiers::COMMAND, Key::B);
        h.run();
        h.get_by_label("Auto-start").click();
        h.run();
        h.get_by_label("Fixture 1: board ready").click();
        h.run();
        assert_eq!(h.state_mut().take(), []);
        assert_eq!(asked(&mut h), []);
        assert!(h.get_by_label("Auto-start").accesskit_node().is_disabled());
        assert!(h.query_by_label("Keys").is_none(), "help stays closed");
    }

    #[test]
    fn a_name_is_picked_and_the_pin_typed_or_pressed() {
        let mut h = locked(None);
        h.get_by_label("Who works here?");
        slowly(&mut h, "qui");
        assert!(h.query_by_label("Tom, Technician").is_none(), "typing narrows the list");
        press(&mut h, &[Key::Enter]);
        h.get_by_label("PIN of Quin");
        h.run();
        slowly(&mut h, "quality7");
        press(&mut h, &[Key::Enter]);
        let pin = |name: &str, pin: &str| {
            Command::Login(Credential::Pin { name: name.into(), pin: Pin::new(pin.to_owned()) })
        };
        assert_eq!(asked(&mut h), [pin("Quin", "quality7")]);
        press(&mut h, &[Key::Escape]);
        h.get_by_label("Tom, Technician").click();
        h.run();
        h.run();
        for digit in ["2", "5", "8", "0"] {
            h.get_by_label(&format!("Digit {digit}")).click();
            h.run();
        }
        h.get_by_label("Log in").click();
        h.run();
        assert_eq!(asked(&mut h), [pin("Tom", "2580")]);
        h.get_by_label("Another person").click();
        h.run();
        h.get_by_label("Vera, Vendor engineer");
        assert_eq!(h.state_mut().take(), [], "no digit reached a fixture");
    }

    #[test]
    fn a_scanned_badge_counts_in_every_field() {
        let badge = || Command::Login(Credential::Badge(Pin::new("EMP-0042".to_owned())));
        let mut h = locked(None);
        for field in ["name", "pin"] {
            h.event(egui::Event::Text("EMP-0042".into()));
            h.run();
            press(&mut h, &[Key::Enter]);
            assert_eq!(asked(&mut h), [badge()], "{field}");
            if field == "name" {
                h.get_by_label("Tom, Technician").click();
                h.run();
                h.run();
            }
        }
    }

    #[test]
    fn a_wrong_pin_says_how_many_tries_are_left_and_a_lock_out_counts_down() {
        let mut h = locked(None);
        let wrong = Failure::new(FailureCode::LoginFailed, "3 tries are left");
        h.state_mut().people.told = Told::Failed(wrong);
        h.run();
        h.get_by_label_contains("3 tries are left");
        let now = h.state().view.now;
        h.state_mut().people.told = Told::Failed(Failure::new(FailureCode::LockedOut, "Tom"));
        h.state_mut().people.wait_until = Some(now + Duration::from_millis(29_500));
        h.step();
        h.get_by_label("Try again in 30 s, or ask an admin to unlock");
        h.state_mut().view.now = now + Duration::from_secs(20);
        h.step();
        h.get_by_label("Try again in 10 s, or ask an admin to unlock");
        h.state_mut().view.now = now + Duration::from_secs(30);
        h.step();
        assert!(h.query_by_label_contains("Too many wrong tries").is_none());
    }

    #[test]
    fn the_person_is_in_the_header_and_can_be_switched_with_a_key() {
        let mut h = harness(scene(Scene::Ready(1), Instant::now()));
        h.state_mut().people = logged_in(Role::Qa);
        h.run();
        h.get_by_label("Person: Quin, QA");
        press(&mut h, &[Key::F9]);
        assert_eq!(asked(&mut h), [Command::Lock]);
        press(&mut h, &[Key::F8]);
        assert_eq!(asked(&mut h), [Command::Lock]);
        h.state_mut().people = gate(Some(who(Role::Qa)), true);
        h.run();
        h.get_by_label("Vera, Vendor engineer");
        // The same person finds their work again, another one does not.
        h.state_mut().view.tab = Tab::Units;
        h.state_mut().people = Snapshot { logins: 1, ..logged_in(Role::Qa) };
        h.run();
        assert_eq!(h.state().view.tab, Tab::Units);
        h.state_mut().people = Snapshot { logins: 2, ..logged_in(Role::Vendor) };
        h.run();
        assert_eq!(h.state().view.tab, Tab::Line);
    }

    #[test]
    fn a_label_that_is_scanned_at_the_lock_is_no_badge() {
        let mut h = locked(None);
        for field in ["name", "pin"] {
            h.event(egui::Event::Text("kw1:KW429-01042:0123456789ABCDEF:12AB".into()));
            h.run();
            press(&mut h, &[Key::Enter]);
            assert_eq!(asked(&mut h), [], "{field}");
            h.get_by_label_contains("That is a unit's label");
            if field == "name" {
                h.get_by_label("Tom, Technician").click();
                h.run();
                h.run();
            }
        }
        slowly(&mut h, "2580");
        press(&mut h, &[Key::Enter]);
        assert_eq!(asked(&mut h).len(), 1);
        h.run();
        assert!(h.query_by_label_contains("That is a unit's label").is_none());
    }

    #[test]
    fn the_next_person_finds_no_list_of_the_last_one_and_nobody_a_password() {
        use super::super::export_view::{ExportsState, Protect, Step};
        let mut h = harness(scene(Scene::Ready(1), Instant::now()));
        h.state_mut().people = logged_in(Role::Vendor);
        h.run();
        h.state_mut().view.exports =
            ExportsState::at(Step::Protection, false, crate::export::Format::Pskc, Protect::Password);
        h.state_mut().view.tab = Tab::Exports;
        h.run();
        for field in ["Password, at least 12 characters", "The same again"] {
            h.get_by_label(field).focus();
            h.run();
            h.event(egui::Event::Text("correct horse battery".into()));
            h.run();
        }
        assert_eq!(h.state().view.exports.left(), (42, false));
        h.state_mut().view.offered = Some("KW1:KW429-01042".into());
        h.state_mut().people = gate(Some(who(Role::Vendor)), true);
        h.run();
        assert_eq!(
            h.state().view.exports.left(),
            (0, false),
            "whoever comes back finds the list, not the password"
        );
        // What the fields keep to take a change back is gone too.
        let kept = h.ctx.data_mut(|data| data.count::<egui::text_edit::TextEditState>());
        assert!(kept <= 1, "only the lock screen's own field: {kept}");
        h.state_mut().people = Snapshot { logins: 1, ..logged_in(Role::Admin) };
        h.run();
        assert_eq!(h.state().view.exports.left(), (0, true));
        assert_eq!(h.state().view.offered, None);
        assert!(
            matches!(h.state().view.exports.out[..], [crate::export::clerk::Command::Clear]),
            "the clerk forgets its preview"
        );
    }

    #[test]
    fn each_role_finds_what_it_may_and_the_reason_for_what_it_may_not() {
        for (role, units, audit, people) in [
            (Role::Technician, false, false, false),
            (Role::Qa, true, false, false),
            (Role::Vendor, true, true, false),
            (Role::Admin, true, true, true),
        ] {
            let mut h = harness(scene(Scene::Ready(1), Instant::now()));
            h.state_mut().people = logged_in(role);
            h.run();
            press(&mut h, &[Key::Space]);
            assert_eq!(h.state_mut().take(), [line::Command::Start(0)], "{role} runs the line");
            assert_eq!(h.get_by_label("Units").accesskit_node().is_disabled(), !units, "{role}");
            press(&mut h, &[Key::F2]);
            assert_eq!(h.query_by_label("For QA, Vendor engineer or Admin only").is_some(), !units, "{role}");
            press(&mut h, &[Key::F2]);
            let chip = format!("Person: {}, {role}", who(role).name);
            h.get_by_label(&chip).click();
            h.run();
            h.run();
            assert_eq!(h.get_by_label("Audit log").accesskit_node().is_disabled(), !audit, "{role}");
            assert_eq!(h.get_by_label("People").accesskit_node().is_disabled(), !people, "{role}");
            h.get_by_label("My PIN…");
            h.get_by_label("Lock").click();
            h.run();
            assert_eq!(asked(&mut h), [Command::Lock]);
            for (key, tab) in [(Key::Num7, Tab::People), (Key::Num8, Tab::Audit)] {
                h.key_press_modifiers(Modifiers::COMMAND, key);
                h.run();
                assert_eq!(h.state().view.tab, tab);
            }
        }
    }

    #[test]
    fn orders_and_samples_are_for_those_who_may() {
        let mut snapshot = scene(Scene::Ready(1), Instant::now());
        snapshot.sample = Some(line::SampleView { waiting: 50, serials: vec!["KW429-01050".into()] });
        for (role, approves, batches, orders) in [
            (Role::Technician, false, false, false),
            (Role::Qa, true, true, false),
            (Role::Vendor, true, true, true),
        ] {
            let mut h = harness(snapshot.clone());
            h.state_mut().people = logged_in(role);
            h.run();
            h.get_by_label("Look at the sample: approve it or stop the batch").click();
            h.run();
            h.key_press_modifiers(Modifiers::COMMAND, Key::Enter);
            h.run();
            assert_eq!(h.state_mut().take().len(), usize::from(approves), "{role}");
            h.key_press_modifiers(Modifiers::COMMAND, Key::Num3);
            h.run();
            assert_eq!(
                h.query_by_label("For QA, Vendor engineer or Admin only").is_some(),
                !batches,
                "{role}"
            );
            if batches {
                assert_eq!(h.get_by_label("New order…").accesskit_node().is_disabled(), !orders, "{role}");
            }
        }
    }
}
