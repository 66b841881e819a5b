//! What frames both views: header, keys that work everywhere, notices, footer, help and the list of alarms.
//!
//! Invariants: it reads snapshots and returns commands, nothing else; everything works without a mouse; while a list, the help or a
//! dialog is open, no key reaches the line.

use super::audit_view;
use super::batches_view;
use super::copy;
use super::export_view;
use super::header;
use super::icons::{self, Icon};
use super::line_ask;
use super::line_view::{self, Picker, Tab, ViewState};
use super::lock_screen;
use super::people_view;
use super::preflight_view;
use super::resume_view;
use super::said;
use super::scan_view;
use super::settings_view::{self, Wish};
use super::shift_view;
use super::state::State;
use super::theme::{Palette, palette, regular, strong};
use super::trust_view;
use super::units_view;
use super::widgets::{self, Button, Loud};
use crate::desk;
use crate::host;
use crate::i18n::{self, tr};
use crate::line;
use crate::people::Right;
use crate::people::office::{self, Gate};
use crate::records::AlarmOf;
use egui::{Align2, Key, Modifiers, Rect, Stroke, StrokeKind, Ui, pos2, vec2};

/// What there is to show.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The line.
    pub line: &'a line::Snapshot,
    /// QA's desk.
    pub desk: &'a desk::Snapshot,
    /// Who works here.
    pub people: &'a office::Snapshot,
}

/// What the operator asked for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Of the line.
    pub line: Vec<line::Command>,
    /// Of the desk.
    pub desk: Vec<desk::Command>,
    /// Of the office.
    pub people: Vec<office::Command>,
    /// A key was pressed or the mouse was moved.
    pub touched: bool,
    /// Of the window, which holds the settings.
    pub settings: Vec<Wish>,
    /// Of the station as a whole.
    pub host: Vec<host::Command>,
}

/// Draws the window into the whole of `ui`; returns what the operator asked for.
pub fn window_view(ui: &mut Ui, seen: Seen<'_>, view: &mut ViewState) -> Asked {
    let _spoken = i18n::using(view.language);
    let mut out = Asked { touched: lock_screen::is_touched(ui), ..Asked::default() };
    copy::begin(ui);
    shown(ui, seen, view, &mut out);
    copy::end(ui, view);
    out
}

fn shown(ui: &mut Ui, seen: Seen<'_>, view: &mut ViewState, out: &mut Asked) {
    view.observe(seen.line);
    lock_screen::observe(ui.ctx(), seen, view);
    if seen.people.is_locked() {
        lock_screen::show(ui, seen, view, out);
        shift_view::watch(view, true);
        return;
    }
    // Before anything else sees the keys: a scanner does not know what is on the screen.
    let asks = is_asking(view) || view.settings.is_some();
    scan_view::take(ui, seen, view, asks, out);
    // Whatever is open: the station can be locked.
    let leaves = lock_screen::keys(ui, seen, view, out);
    let free = keys(ui, view, out) && !leaves;
    framed(ui, seen, view, free, out);
    batches_view::watch(view, out);
    shift_view::watch(view, false);
    trust_view::watch(view);
    let p = palette(ui.ctx());
    if view.alarms {
        alarms(ui, seen, view, out, p);
    }
    if view.matrix {
        matrix(ui, view, p);
    }
    if view.help {
        help(ui, view, p);
    }
    people_view::form(ui, seen, view, out, p);
    trust_view::form(ui, view, p);
    line_ask::show(ui, seen, view, &mut out.line, p);
}

/// A decision is made or left before anything else.
fn is_asking(view: &ViewState) -> bool {
    view.units.form.is_some()
        || view.batches.is_asking()
        || view.people.form.is_some()
        || view.people.menu
        || view.shift.form.is_some()
        || view.trust.is_asking()
        || view.line_ask.is_some()
        || view.units.label.is_some()
}

/// Header, view and footer; `free`: the view may have the keys.
pub(super) fn framed(ui: &mut Ui, seen: Seen<'_>, view: &mut ViewState, free: bool, out: &mut Asked) {
    let p = palette(ui.ctx());
    let mut all = ui.max_rect();
    ui.painter().rect_filled(all, 0.0, p.background);
    if seen.people.gate == Gate::Open {
        let banner = Rect::from_min_size(all.min, vec2(all.width(), lock_screen::BANNER));
        lock_screen::banner(ui, banner, view, p);
        all.min.y = banner.bottom();
    }
    let head = Rect::from_min_size(
        all.min,
        vec2(
            all.width(),
            header::height(seen.line, if view.settings.is_some() { Tab::Units } else { view.tab }),
        ),
    );
    let foot = Rect::from_min_max(pos2(all.left(), all.bottom() - 34.0), all.max);
    let mut room = Rect::from_min_max(
        pos2(all.left() + 16.0, head.bottom() + 12.0),
        pos2(all.right() - 16.0, foot.top() - 10.0),
    );
    line_view::notices(ui, &mut room, seen.line, view);
    scan_view::label_bar(ui, &mut room, seen, view, &mut out.line);
    scan_view::offer(ui, &mut room, view, out);
    match view.tab {
        _ if view.settings.is_some() => {
            header::show(ui, head, seen, view, out);
            settings_view::show(ui, room, seen, view, out);
            footer(ui, foot, view, "", tr!("foot-keys-settings"), p);
        }
        Tab::Line => {
            resume_view::show(ui, &mut room, seen.line, view, out);
            scan_view::gate_bar(ui, &mut room, seen, view);
            preflight_view::show(ui, &mut room, seen, view, out);
            let free = free && !preflight_view::keys(ui, seen, view, &mut out.line);
            let plan = line_view::plan(ui, room, seen.line);
            if free {
                line_view::keys(ui, seen.line, view, &plan, &mut out.line);
            }
            header::show(ui, head, seen, view, out);
            line_view::body(ui, &plan, seen.line, view, &mut out.line);
            out.host.append(&mut view.host_asks);
            out.settings.extend(std::mem::take(&mut view.settings_asks));
            let says = line_view::foot(seen.line, view, &plan);
            footer(ui, foot, view, &says, tr!("foot-keys-line"), p);
        }
        Tab::Units if let Some(why) = seen.people.refusal(Right::SeeUnits) => {
            header::show(ui, head, seen, view, out);
            people_view::not_for(ui, room, tr!("gate-units"), why, p);
            footer(ui, foot, view, "", tr!("foot-keys-people"), p);
        }
        Tab::People | Tab::Audit => {
            header::show(ui, head, seen, view, out);
            match view.tab {
                Tab::People => people_view::body(ui, room, seen, view, out, p),
                _ => audit_view::body(ui, room, seen, view, out, p),
            }
            footer(ui, foot, view, "", tr!("foot-keys-people"), p);
        }
        Tab::Units => {
            if free {
                units_view::keys(ui, seen, view, out);
            }
            header::show(ui, head, seen, view, out);
            units_view::body(ui, room, seen, view, free, out);
            let running = seen.line.fixtures.iter().filter(|f| f.running.is_some()).count();
            let says = match running {
                0 => String::new(),
                n => tr!("foot-fixtures-running", count = n),
            };
            footer(ui, foot, view, &says, tr!("foot-keys-units"), p);
        }
        Tab::Batches if let Some(why) = seen.people.refusal(Right::PauseBatch) => {
            header::show(ui, head, seen, view, out);
            people_view::not_for(ui, room, tr!("header-tab-batches-hint"), why, p);
            footer(ui, foot, view, "", tr!("foot-keys-people"), p);
        }
        Tab::Batches => {
            header::show(ui, head, seen, view, out);
            batches_view::body(ui, room, seen, view, out);
            footer(ui, foot, view, "", tr!("foot-keys-batches"), p);
        }
        Tab::Trust if let Some(why) = seen.people.refusal(Right::SeeTrust) => {
            header::show(ui, head, seen, view, out);
            people_view::not_for(ui, room, tr!("trust-title"), why, p);
            footer(ui, foot, view, "", tr!("foot-keys-people"), p);
        }
        Tab::Trust => {
            header::show(ui, head, seen, view, out);
            trust_view::body(ui, room, seen, view, out);
            footer(ui, foot, view, "", tr!("foot-keys-trust"), p);
        }
        Tab::Exports if let Some(why) = seen.people.refusal(Right::Export) => {
            header::show(ui, head, seen, view, out);
            people_view::not_for(ui, room, tr!("header-tab-exports-hint"), why, p);
            footer(ui, foot, view, "", tr!("foot-keys-people"), p);
        }
        Tab::Exports => {
            header::show(ui, head, seen, view, out);
            view.exports.offer(seen.line.batch.as_ref().map(|(batch, _)| batch.name.as_str()));
            export_view::body(ui, room, &seen.line.operator, view);
            footer(ui, foot, view, "", tr!("foot-keys-exports"), p);
        }
        Tab::Shift => {
            if free {
                shift_view::keys(ui, seen, view);
            }
            header::show(ui, head, seen, view, out);
            shift_view::body(ui, room, seen, view);
            footer(ui, foot, view, "", tr!("foot-keys-shift"), p);
        }
    }
}

/// Shows the other view.
pub fn turn_to(tab: Tab, view: &mut ViewState) {
    if view.tab != tab {
        view.tab = tab;
        view.notice = None;
        view.units.wants_focus = true;
    }
}

/// Keys that work in both views; whether the view below may have the others.
fn keys(ui: &mut Ui, view: &mut ViewState, out: &mut Asked) -> bool {
    let pressed = |key: Key| ui.input(|i| i.key_pressed(key));
    let command = |key: Key| ui.input_mut(|i| i.consume_key(Modifiers::COMMAND, key));
    if command(Key::D) {
        view.toggle_theme(ui.ctx());
    }
    if is_asking(view) {
        return false;
    }
    if command(Key::Comma) {
        settings_view::toggle(view, out);
        return false;
    }
    if view.settings.is_some() {
        settings_view::keys(ui, view, out);
        return false;
    }
    let mut to = None;
    if command(Key::Num1) {
        to = Some(Tab::Line);
    }
    if command(Key::Num2) {
        to = Some(Tab::Units);
    }
    if command(Key::Num3) {
        to = Some(Tab::Batches);
    }
    if command(Key::Num4) {
        to = Some(Tab::Exports);
    }
    if command(Key::Num5) {
        to = Some(Tab::Shift);
    }
    if command(Key::Num6) {
        to = Some(Tab::Trust);
    }
    if command(Key::Num7) {
        to = Some(Tab::People);
    }
    if command(Key::Num8) {
        to = Some(Tab::Audit);
    }
    if pressed(Key::F2) {
        // What was scanned is offered by this very key, wherever it is.
        let units = view.tab == Tab::Line || view.offered.is_some();
        to = Some(if units { Tab::Units } else { Tab::Line });
    }
    if let Some(tab) = to {
        if tab == Tab::Units {
            scan_view::take_offer(view, out);
        }
        turn_to(tab, view);
        // The other view's keys are its own from the next frame on.
        return false;
    }
    if command(Key::B) {
        view.picker = if view.picker.is_none() { Some(Picker::default()) } else { None };
        (view.operator, view.help, view.alarms) = (None, false, false);
    }
    if pressed(Key::F3) {
        view.alarms = !view.alarms;
        view.help = false;
        return false;
    }
    if pressed(Key::F4) {
        view.matrix = !view.matrix;
        (view.help, view.alarms) = (false, false);
        return false;
    }
    if pressed(Key::F1) {
        view.help = !view.help;
        return false;
    }
    let open = view.matrix || view.help || view.alarms || view.preflight.open;
    if open || view.picker.is_some() || view.operator.is_some() {
        if pressed(Key::Escape) {
            (view.help, view.alarms, view.matrix) = (false, false, false);
            view.preflight.open = false;
            (view.picker, view.operator) = (None, None);
        }
        return false;
    }
    let types = ui.ctx().text_edit_focused();
    if pressed(Key::Questionmark) && !types {
        view.help = true;
        return false;
    }
    true
}

fn footer(ui: &mut Ui, rect: Rect, view: &ViewState, says: &str, keys: &str, p: &Palette) {
    ui.painter().rect_filled(rect, 0.0, p.surface);
    ui.painter().hline(rect.x_range(), rect.top(), Stroke::new(1.0, p.border));
    let inner = rect.shrink2(vec2(16.0, 0.0));
    let width = widgets::width(ui, keys, regular(13.5)) + 2.0;
    let right =
        Rect::from_min_max(pos2((inner.right() - width).max(inner.center().x), inner.top()), inner.max);
    widgets::line(ui, right, Align2::RIGHT_CENTER, keys, regular(13.5), p.muted);
    let left = Rect::from_min_max(inner.min, pos2(right.left() - 16.0, inner.bottom()));
    if let Some(notice) = &view.notice {
        // Some are refusals; whoever is asked for help wants their very words.
        let left = match view.copied.as_ref() == Some(notice) {
            true => left,
            false => copy::button(ui, left, notice),
        };
        let used = widgets::line(ui, left, Align2::LEFT_CENTER, notice, strong(14.0), p.running.ink);
        let response = ui.interact(used, ui.scope_id().with("notice"), egui::Sense::hover());
        ui.ctx().accesskit_node_builder(response.id, |node| {
            node.set_live(egui::accesskit::Live::Polite);
            node.set_value(notice.clone());
        });
    } else if !says.is_empty() {
        widgets::line(ui, left, Align2::LEFT_CENTER, says, strong(14.0), p.text);
    }
}

/// What the header's bell opens.
fn alarms(ui: &mut Ui, seen: Seen<'_>, view: &mut ViewState, out: &mut Asked, p: &Palette) {
    let room = ui.max_rect().size();
    let mut open = None;
    let modal = widgets::modal(ui, "alarms", p, |ui| {
        let width = 720.0_f32.min(room.x - 120.0);
        ui.set_width(width);
        ui.spacing_mut().item_spacing.y = 8.0;
        let (r, _) = ui.allocate_exact_size(vec2(width, 32.0), egui::Sense::hover());
        widgets::line(ui, r, Align2::LEFT_CENTER, &told(seen.desk.alarms.len()), strong(20.0), p.text);
        if seen.desk.alarms.is_empty() {
            let (r, _) = ui.allocate_exact_size(vec2(width, 44.0), egui::Sense::hover());
            let text = tr!("alarms-none-text");
            widgets::block(ui, r, Align2::LEFT_TOP, text, regular(14.5), p.muted, 2);
        }
        egui::ScrollArea::vertical().max_height((room.y - 200.0).max(160.0)).show(ui, |ui| {
            let width = ui.available_width();
            for shown in &seen.desk.alarms {
                let alarm = &shown.alarm;
                let (r, _) = ui.allocate_exact_size(vec2(width, 92.0), egui::Sense::hover());
                ui.painter().rect(r, 10.0, p.fail.soft, Stroke::new(1.0, p.fail.solid), StrokeKind::Inside);
                let inner = r.shrink2(vec2(14.0, 9.0));
                let bell = Rect::from_min_size(inner.min + vec2(0.0, 2.0), vec2(20.0, 20.0));
                icons::paint(ui.painter(), bell, Icon::Bell, p.fail.ink, p.fail.soft, 0.0);
                let words = Rect::from_min_max(pos2(bell.right() + 10.0, inner.top()), inner.max);
                let sentence = said::alarm(alarm, shown.serial.as_deref());
                let top = Rect::from_min_max(words.min, pos2(words.right(), words.bottom() - 34.0));
                widgets::block(ui, top, Align2::LEFT_TOP, &sentence, strong(14.5), p.text, 2);
                let not_for = seen.people.refusal(Right::SeeUnits);
                let seen_button = Button {
                    text: tr!("alarms-looked"),
                    name: &tr!("alarms-looked-name", sentence = sentence.as_str()),
                    icon: None,
                    loud: Loud::Quiet,
                    enabled: !seen.line.operator.is_empty() && not_for.is_none(),
                    size: 13.5,
                };
                let w = seen_button.width(ui);
                let place =
                    Rect::from_min_size(pos2(words.right() - w, words.bottom() - 30.0), vec2(w, 30.0));
                let pressed = seen_button.show(ui, place);
                if pressed.clicked() {
                    let operator = seen.line.operator.clone();
                    out.desk.push(desk::Command::SeeAlarm { id: alarm.id, operator });
                }
                if let Some(why) = not_for {
                    pressed.on_hover_text(people_view::reason(why));
                } else if seen.line.operator.is_empty() {
                    pressed.on_hover_text(tr!("alarms-who"));
                }
                let mut right = place.left() - 8.0;
                if let AlarmOf::Unit(unit) = &alarm.of {
                    let jump = Button {
                        text: tr!("alarms-show-unit"),
                        name: &tr!(
                            "alarms-show-unit-name",
                            unit = shown.serial.clone().unwrap_or_else(|| unit.to_string())
                        ),
                        icon: Some(Icon::Arrow),
                        loud: Loud::Quiet,
                        enabled: true,
                        size: 13.5,
                    };
                    let w = jump.width(ui);
                    let place = Rect::from_min_size(pos2(right - w, words.bottom() - 30.0), vec2(w, 30.0));
                    if jump.show(ui, place).clicked() {
                        open = Some(unit.to_string());
                    }
                    right = place.left() - 8.0;
                }
                let text = tr!("alarms-times", count = alarm.count, at = i18n::date_time(alarm.at_ms));
                let place = Rect::from_min_max(
                    pos2(words.left(), words.bottom() - 30.0),
                    pos2(right, words.bottom()),
                );
                widgets::line(ui, place, Align2::LEFT_CENTER, &text, regular(13.5), p.muted);
            }
        });
        let (r, _) = ui.allocate_exact_size(vec2(width, 24.0), egui::Sense::hover());
        let text = tr!("alarms-foot");
        widgets::line(ui, r, Align2::LEFT_CENTER, text, regular(13.0), p.muted);
    });
    if let Some(unit) = open {
        out.desk.push(desk::Command::Find(unit));
        turn_to(Tab::Units, view);
        view.alarms = false;
    } else if modal.should_close() {
        view.alarms = false;
    }
}

/// The count in words, for bell and list alike.
pub fn told(alarms: usize) -> String {
    tr!("alarms-count", count = alarms)
}

fn key_help() -> Vec<(&'static str, &'static str)> {
    vec![
        (tr!("help-space-key"), tr!("help-space")),
        ("1 … 9", tr!("help-number")),
        ("Enter", tr!("help-enter")),
        ("Esc", tr!("help-esc")),
        (tr!("help-arrows-key"), tr!("help-arrows")),
        ("F2", tr!("help-f2")),
        ("Ctrl+3", tr!("help-batches")),
        ("Ctrl+4", tr!("help-exports")),
        ("Ctrl+5", tr!("help-shift")),
        ("Ctrl+6", tr!("help-trust")),
        ("Ctrl+7  Ctrl+8", tr!("help-people")),
        ("F5  F6", tr!("help-checks")),
        ("F3", tr!("help-f3")),
        ("F4", tr!("help-f4")),
        ("Ctrl+B", tr!("help-batch")),
        ("Ctrl+C", tr!("help-copy")),
        ("Ctrl+A", tr!("help-auto")),
        ("Ctrl+D", tr!("help-theme")),
        ("Ctrl+=  Ctrl+-  Ctrl+0", tr!("help-zoom")),
        ("Ctrl+,", tr!("help-settings")),
        ("F8  F9", tr!("help-lock")),
        ("F11", tr!("help-f11")),
        ("Ctrl+Q", tr!("help-quit")),
        ("F12", tr!("help-f12")),
        ("F1  ?", tr!("help-help")),
    ]
}

/// The power-cut matrix that was measured for this release.
fn matrix(ui: &mut Ui, view: &mut ViewState, p: &Palette) {
    let modal = widgets::modal(ui, "matrix", p, |ui| {
        let measured = crate::matrix::PowerCutMatrix::released();
        let total = measured.total();
        ui.set_width(700.0);
        ui.label(egui::RichText::new(tr!("matrix-title")).font(strong(20.0)).color(p.text));
        let text = tr!(
            "matrix-text",
            firmware = &measured.firmware,
            cuts = total.cuts(),
            of = measured.of,
            kept = total.kept,
            renewed = total.renewed,
            stranded = total.stranded,
            manual = total.manual
        );
        ui.label(egui::RichText::new(text).font(regular(14.5)).color(p.text));
        ui.add_space(8.0);
        egui::ScrollArea::vertical().max_height(420.0).auto_shrink([false, true]).show(ui, |ui| {
            egui::Grid::new("matrix-cells")
                .num_columns(6)
                .min_row_height(24.0)
                .spacing([24.0, 4.0])
                .striped(true)
                .show(ui, |ui| {
                    let heads = [
                        tr!("matrix-transition"),
                        tr!("matrix-cut"),
                        tr!("matrix-cuts"),
                        tr!("matrix-old"),
                        tr!("matrix-new"),
                        tr!("matrix-stranded"),
                    ];
                    for head in heads {
                        ui.label(egui::RichText::new(head).font(strong(13.5)).color(p.muted));
                    }
                    ui.end_row();
                    for row in &measured.rows {
                        for (class, o) in &row.classes {
                            let cells = [
                                row.transition.clone(),
                                class.clone(),
                                o.cuts().to_string(),
                                o.kept.to_string(),
                                o.renewed.to_string(),
                                (o.stranded + o.manual).to_string(),
                            ];
                            for cell in cells {
                                ui.label(egui::RichText::new(cell).font(regular(13.5)).color(p.text));
                            }
                            ui.end_row();
                        }
                    }
                });
        });
        ui.add_space(8.0);
        let how = tr!("matrix-how");
        ui.label(egui::RichText::new(how).font(regular(13.5)).color(p.muted));
    });
    if modal.should_close() {
        view.matrix = false;
    }
}

fn help(ui: &mut Ui, view: &mut ViewState, p: &Palette) {
    use crate::model::Outcome::{Aborted, Error, Fail, Pass, Timeout};
    let meanings = [
        (State::Done(Pass), tr!("help-pass")),
        (State::Done(Fail), tr!("help-fail")),
        (State::Done(Error), tr!("help-error")),
        (State::Done(Timeout), tr!("help-timeout")),
        (State::Done(Aborted), tr!("help-aborted")),
    ];
    let room = ui.max_rect().size();
    // Side by side where there is room: all of it is in sight in the smallest windows too, and else it scrolls.
    let (columns, wide) =
        if room.x >= 940.0 { (2, (room.x - 70.0).min(1000.0)) } else { (1, (room.x - 80.0).min(600.0)) };
    let modal = widgets::modal(ui, "help", p, |ui| {
        ui.set_width(wide);
        let keys = key_help();
        let lines = keys.len().div_ceil(columns);
        let needed = 36.0 + 24.0 * lines as f32 + 40.0 + 28.0 * meanings.len() as f32 + 34.0;
        let height = needed.min(room.y - 70.0);
        // The modal would else stay as small as it was before it was filled.
        ui.set_height(height);
        egui::ScrollArea::vertical().max_height(height).show(ui, |ui| {
            let width = ui.available_width();
            let row = |ui: &mut Ui, height: f32| {
                ui.allocate_exact_size(vec2(width, height), egui::Sense::hover()).0
            };
            ui.spacing_mut().item_spacing.y = 2.0;
            let r = row(ui, 34.0);
            widgets::line(ui, r, Align2::LEFT_CENTER, tr!("help-keys"), strong(20.0), p.text);
            let part = width / columns as f32;
            // The second column holds the longest keys.
            let wide_names = [if columns == 1 { 170.0 } else { 105.0 }, 160.0];
            for line in 0..lines {
                let r = row(ui, 22.0);
                for (column, names) in wide_names.into_iter().enumerate().take(columns) {
                    let Some((key, does)) = keys.get(column * lines + line) else { continue };
                    let left = r.left() + part * column as f32;
                    let a = Rect::from_min_size(pos2(left, r.top()), vec2(names - 10.0, 22.0));
                    let b =
                        Rect::from_min_max(pos2(left + names, r.top()), pos2(left + part - 10.0, r.bottom()));
                    widgets::line(ui, a, Align2::LEFT_CENTER, key, strong(14.0), p.running.ink);
                    widgets::line(ui, b, Align2::LEFT_CENTER, does, regular(14.0), p.text);
                }
            }
            let r = row(ui, 40.0);
            widgets::line(ui, r, Align2::LEFT_CENTER, tr!("help-results"), strong(20.0), p.text);
            for (state, means) in meanings {
                let r = row(ui, 26.0);
                let tone = state.tone(p);
                let at = pos2(r.left(), r.center().y);
                widgets::chip(ui, at, state.word(), Some(state.icon()), tone, 13.0);
                let b = Rect::from_min_max(pos2(r.left() + 180.0, r.top()), r.max);
                widgets::line(ui, b, Align2::LEFT_CENTER, means, regular(14.5), p.text);
            }
            let r = row(ui, 32.0);
            let text = tr!("help-safe");
            widgets::line(ui, r, Align2::LEFT_BOTTOM, text, regular(13.5), p.muted);
        });
    });
    if modal.should_close() {
        view.help = false;
    }
}
