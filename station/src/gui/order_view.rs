//! A product order: its row in the list, what is known of it, and what is decided about it.
//!
//! Invariant: making a product key invalid is confirmed with the numbers of units that it enrolled since the very moment that stands in
//! the field; until they are counted the button is off.

use super::batches_view::{
    command_enter, dialog, muted, off, office, policy_word, press, timeline, title, words,
};
use super::line_view::ViewState;
use super::order_wizard::{Wizard, choice_word};
use super::people_view;
use super::sending::{Pressed, Sending};
use super::shell::{Asked, Seen};
use super::theme::{Palette, regular, strong};
use super::widgets::{self, Loud};
use crate::i18n::{self, tr};
use crate::model::ProductOrder;
use crate::office::{Command, OrderFile};
use crate::orders::{Draft, Field};
use crate::people::Right;
use egui::{Align2, Rect, RichText, Sense, Stroke, StrokeKind, Ui, pos2, vec2};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What is decided about an order.
#[derive(Clone, Debug)]
pub struct OrderForm {
    /// Its name.
    order: String,
    what: What,
    reason: String,
    sending: Sending,
}

#[derive(Clone, Debug)]
enum What {
    /// How many enrolments an hour to expect: as it is typed, and as it was.
    Expect(String, String),
    /// Its product key leaked: since when, as it is typed, and for which moment the numbers were asked.
    Leaked(String, Option<i64>),
}

/// How a moment is typed and shown: on the clock of this PC.
const MOMENT: &str = "%Y-%m-%d %H:%M";

impl OrderForm {
    /// How many enrolments an hour to expect.
    pub fn expect(order: &ProductOrder) -> Self {
        let now = if order.per_hour > 0 { order.per_hour.to_string() } else { String::new() };
        Self::of(order, What::Expect(now.clone(), now))
    }

    /// Its product key leaked: until somebody knows better, everything that it ever enrolled is in doubt.
    pub fn leaked(file: &OrderFile) -> Self {
        Self::of(&file.order, What::Leaked(moment_text(file.created_at_ms), None))
    }

    fn of(order: &ProductOrder, what: What) -> Self {
        Self { order: order.name.clone(), what, reason: String::new(), sending: Sending::default() }
    }
}

fn moment_text(ms: i64) -> String {
    let at = Timestamp::from_millisecond(ms).unwrap_or_default();
    at.to_zoned(TimeZone::system()).strftime(MOMENT).to_string()
}

/// The moment in a field, Unix milliseconds: as [`MOMENT`], or as the command line takes it.
fn moment_of(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.as_millisecond());
    }
    let at = jiff::civil::DateTime::strptime(MOMENT, text).ok()?;
    Some(at.to_zoned(TimeZone::system()).ok()?.timestamp().as_millisecond())
}

/// An order in the list: its name, and what was ordered.
pub(super) fn row(ui: &mut Ui, order: &ProductOrder, chosen: bool, p: &Palette) -> egui::Response {
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 46.0), Sense::click());
    let name = order.name.as_str();
    response.widget_info(|| {
        let text = tr!("order-row", name = name);
        egui::WidgetInfo::selected(egui::Role::Button, true, chosen, text)
    });
    if chosen {
        let edge = Stroke::new(1.0, p.running.ink);
        ui.painter().rect(rect, 8.0, p.running.soft, edge, StrokeKind::Inside);
    } else if response.hovered() {
        ui.painter().rect_filled(rect, 8.0, p.hover);
    }
    if response.has_focus() {
        widgets::focus_ring(ui, rect, 8.0, p);
    }
    let inner = rect.shrink2(vec2(12.0, 3.0));
    let upper = Rect::from_min_size(inner.min, vec2(inner.width(), 21.0));
    widgets::line(ui, upper, Align2::LEFT_CENTER, name, strong(15.0), p.text);
    let key = if order.key_invalid_at_ms.is_some() { tr!("batches-key-dead") } else { "" };
    let facts = tr!(
        "batches-order-facts",
        quantity = i18n::number(order.quantity),
        model = order.model.as_str(),
        revision = order.hw_revision.as_str(),
        region = order.region.to_string(),
        label = policy_word(order.label),
        key = key
    );
    let lower = Rect::from_min_max(pos2(inner.left(), upper.bottom()), inner.max);
    widgets::line(ui, lower, Align2::LEFT_CENTER, &facts, regular(13.0), p.muted);
    response
}

/// Everything of the chosen order.
pub(super) fn facts(ui: &mut Ui, file: &OrderFile, seen: Seen<'_>, view: &mut ViewState, p: &Palette) {
    let order = &file.order;
    ui.label(title(tr!("order-head", name = order.name.as_str()), 20.0, p));
    let planned: u64 = file.batches.iter().map(|b| u64::from(b.quantity)).sum();
    let balance = tr!(
        "order-balance",
        ordered = i18n::number(order.quantity),
        planned = i18n::number(planned),
        left = i18n::number(file.left())
    );
    ui.label(title(balance, 15.0, p));
    let may = |right| seen.people.refusal(right).map(people_view::reason);
    let dead = order.key_invalid_at_ms.map(|_| tr!("order-key-is-dead"));
    ui.horizontal_wrapped(|ui| {
        let spent = (file.left() == 0).then_some(tr!("order-nothing-left"));
        if press(ui, tr!("order-new-batch"), may(Right::ManageBatches).or(dead).or(spent)) {
            view.batches.wizard = Some(Wizard { order: Some(order.name.clone()), ..Wizard::default() });
        }
        if press(ui, tr!("batches-clone-order"), may(Right::ManageOrders)) {
            let draft = Draft::like(order, &seen.desk.office.known.clouds);
            view.batches.wizard = Some(Wizard::like(None, order.name.clone(), draft));
        }
        if press(ui, tr!("order-expect"), off(seen, Right::ManageOrders)) {
            view.batches.order = Some(OrderForm::expect(order));
        }
        if press(ui, tr!("order-leaked"), off(seen, Right::InvalidateKey)) {
            view.batches.order = Some(OrderForm::leaked(file));
        }
    });
    ui.add_space(4.0);
    let named = seen.desk.office.known.clouds.iter().find(|(_, url)| *url == order.cloud_url);
    let cloud = match named {
        Some((name, url)) => tr!("order-cloud", name = name.as_str(), url = url.as_str()),
        None => tr!("order-cloud-gone", url = order.cloud_url.as_str()),
    };
    let image = order.image_sha256.as_deref().map_or_else(
        || tr!("batches-image-later").to_owned(),
        |hash| format!("{}…", &hash[..16.min(hash.len())]),
    );
    let from = file.events.iter().rev().find(|e| e.batch.is_none() && e.kind == "created");
    let imported = from.is_some_and(|e| e.detail["product_key"] == "imported");
    let key = match order.key_invalid_at_ms {
        Some(at) => tr!("order-key-dead-since", at = i18n::date_time(at)),
        None if imported => tr!("order-key-imported", units = i18n::number(file.enrolled.units)),
        None => tr!("order-key-drawn", units = i18n::number(file.enrolled.units)),
    };
    let expected = match order.per_hour {
        0 => tr!("hint-per-hour").to_owned(),
        n => tr!("order-expects", count = i18n::number(n)),
    };
    let model = tr!("order-model", model = order.model.as_str(), revision = order.hw_revision.as_str());
    egui::Grid::new("order facts").num_columns(2).spacing([16.0, 4.0]).show(ui, |ui| {
        for (name, value) in [
            (tr!("field-model"), model),
            (tr!("field-part-number"), order.part_number.clone()),
            (tr!("field-region"), order.region.to_string()),
            (tr!("field-suite"), choice_word(Field::Suite, &order.suite.to_string())),
            (tr!("field-cloud"), cloud),
            (tr!("field-lock"), choice_word(Field::Lock, if order.lock { "yes" } else { "no" })),
            (tr!("field-label"), choice_word(Field::Label, order.label.as_str())),
            (tr!("field-image"), image),
            (tr!("batches-fact-key"), key),
            (tr!("field-per-hour"), expected),
        ] {
            ui.label(muted(name, p));
            ui.label(words(value, p));
            ui.end_row();
        }
    });
    if file.batches.is_empty() {
        ui.add_space(6.0);
        ui.label(muted(tr!("order-no-batch"), p));
    }
    ui.add_space(6.0);
    ui.label(title(tr!("batches-timeline", count = file.events.len().to_string()), 15.0, p));
    timeline(ui, &file.events, &order.name, p);
}

/// The dialog in which something is decided about an order.
pub(super) fn ask(ui: &Ui, seen: Seen<'_>, view: &mut ViewState, out: &mut Asked, p: &Palette) {
    let Some(mut form) = view.batches.order.take() else { return };
    if form.sending.is_done(seen.desk.office.answer.as_ref()) {
        return;
    }
    let stays = match form.what {
        What::Expect(..) => expect(ui, &mut form, seen, out, p),
        What::Leaked(..) => leaked(ui, &mut form, seen, out, p),
    };
    if stays {
        view.batches.order = Some(form);
    }
}

fn expect(ui: &Ui, form: &mut OrderForm, seen: Seen<'_>, out: &mut Asked, p: &Palette) -> bool {
    let OrderForm { order, what: What::Expect(text, before), sending, .. } = form else { return false };
    let per_hour = match text.trim() {
        "" => Some(0),
        n => n.parse::<u32>().ok(),
    };
    let why = match per_hour {
        None => Some(tr!("order-expect-number")),
        Some(_) => off(seen, Right::ManageOrders),
    };
    let enter = why.is_none() && command_enter(ui);
    let mut pressed = Pressed::default();
    let closed = dialog(ui, "enrolments an hour", 560.0, p, |ui| {
        ui.label(title(tr!("order-expect-title", order = order.as_str()), 20.0, p));
        ui.label(words(tr!("order-expect-text"), p));
        let label = ui.label(muted(tr!("field-per-hour"), p));
        let edit = egui::TextEdit::singleline(text).hint_text(tr!("hint-per-hour")).char_limit(10);
        let edit = ui.add(edit.desired_width(180.0)).labelled_by(label.id);
        if sending.wants_focus() {
            edit.request_focus();
        }
        if let Some(why) = why {
            ui.label(muted(why, p));
        }
        pressed = sending.foot(ui, (tr!("order-expect-go"), why, Loud::Primary), p, |_| {});
    });
    if sending.goes(pressed, enter)
        && let Some(per_hour) = per_hour
    {
        let operator = seen.line.operator.clone();
        sending.send(Command::Expect { order: order.clone(), per_hour, operator }, out);
    }
    !sending.closes(pressed, closed, text != before)
}

fn leaked(ui: &Ui, form: &mut OrderForm, seen: Seen<'_>, out: &mut Asked, p: &Palette) -> bool {
    let OrderForm { order, what: What::Leaked(text, asked), reason, sending } = form else { return false };
    let since = moment_of(text);
    if let Some(since_ms) = since.filter(|_| since != *asked) {
        *asked = since;
        office(out, Command::Reach { order: order.clone(), since_ms });
    }
    let counted = seen.desk.office.reached.as_ref();
    let reach = counted.filter(|r| r.order == *order && Some(r.since_ms) == since).map(|r| r.reach);
    let why = match (since, reach) {
        (None, _) => Some(tr!("order-leaked-moment")),
        (Some(_), None) => Some(tr!("order-leaked-counting")),
        _ if reason.trim().is_empty() => Some(tr!("order-leaked-why")),
        _ => off(seen, Right::InvalidateKey),
    };
    let mut pressed = Pressed::default();
    let closed = dialog(ui, "leaked product key", 620.0, p, |ui| {
        ui.label(title(tr!("order-leaked-title", order = order.as_str()), 20.0, p));
        ui.label(words(tr!("order-leaked-text"), p));
        let label = ui.label(muted(tr!("order-leaked-since"), p));
        let edit = egui::TextEdit::singleline(text).hint_text("2026-11-26 06:00").desired_width(240.0);
        ui.add(edit).labelled_by(label.id);
        let numbers = reach.map(|r| {
            tr!(
                "order-leaked-numbers",
                units = i18n::number(r.units),
                passed = i18n::number(r.passed),
                since = i18n::date_time(since.unwrap_or_default())
            )
        });
        let shown = RichText::new(numbers.as_deref().unwrap_or(" ")).font(strong(15.0));
        ui.label(shown.color(p.fail.ink));
        let label = ui.label(muted(tr!("ask-reason"), p));
        let edit = egui::TextEdit::singleline(reason).char_limit(500).desired_width(f32::INFINITY);
        let edit = ui.add(edit).labelled_by(label.id);
        if sending.wants_focus() {
            edit.request_focus();
        }
        ui.label(muted(why.unwrap_or(tr!("order-leaked-final")), p));
        pressed = sending.foot(ui, (tr!("order-leaked-go"), why, Loud::Danger), p, |_| {});
    });
    // What can't be taken back is pressed, never entered by a key that is held too long.
    if sending.goes(pressed, false)
        && let Some(since_ms) = since
    {
        let (order, reason) = (order.clone(), reason.trim().to_owned());
        let operator = seen.line.operator.clone();
        sending.send(Command::Invalidate { order, since_ms, reason, operator }, out);
    }
    !sending.closes(pressed, closed, !reason.trim().is_empty())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::batches_view::tests::office as with_batch;
    use super::super::line_view::tests::{World, click, harness, is_off, type_into};
    use super::super::scripted::{Scene, scene};
    use super::*;
    use crate::desk;
    use crate::office::{Reached, Snapshot};
    use crate::records::{OrderEvent, Reach};
    use egui::Key;
    use egui_kittest::{Harness, kittest::Queryable};
    use std::sync::Arc;
    use std::time::Instant;

    const MADE: i64 = 1_795_600_000_000;

    /// An order that is shown in full, without a batch or with those of the other scenes.
    pub(crate) fn office(batches: bool) -> Snapshot {
        let mut seen = with_batch(None);
        let order = seen.known.orders[0].clone();
        let event = OrderEvent {
            seq: 1,
            batch: None,
            at_ms: MADE,
            operator: "Vera".into(),
            kind: "created".into(),
            reason: String::new(),
            detail: serde_json::json!({ "product_key": "imported" }),
        };
        let mut all = seen.known.batches.clone();
        all.retain(|b| batches && b.po == order.id);
        let enrolled = Reach { units: 340, passed: 312 };
        let file = OrderFile { order, batches: all, enrolled, created_at_ms: MADE, events: vec![event] };
        seen.order = Some(Arc::new(file));
        seen
    }

    /// The moment that the form of a leaked key begins with.
    fn since() -> i64 {
        moment_of(&moment_text(MADE)).expect("a moment")
    }

    /// What the key enrolled since the order was made.
    pub(crate) fn reached() -> Reached {
        Reached { order: "PO-2026-0417".into(), since_ms: since(), reach: Reach { units: 340, passed: 312 } }
    }

    type H = Harness<'static, World>;

    fn view(seen: Snapshot) -> H {
        let mut h = harness(scene(Scene::Ready(1), Instant::now()));
        h.state_mut().desk.office = seen;
        h.key_press_modifiers(egui::Modifiers::COMMAND, Key::Num3);
        h.run();
        h.state_mut().take_desk();
        h
    }

    fn asked(h: &mut H) -> Vec<Command> {
        let all = h.state_mut().take_desk().into_iter();
        all.filter_map(|c| match c {
            desk::Command::Office(c) | desk::Command::Ask(_, c) => Some(c),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn an_order_without_a_batch_is_chosen_and_shows_all_that_is_known_of_it() {
        let mut h = view(with_batch(None));
        click(&mut h, "Product order PO-2026-0417");
        assert_eq!(asked(&mut h), [Command::ChooseOrder("PO-2026-0417".into())]);
        let mut seen = office(false);
        // Its cloud has left station.toml.
        Arc::make_mut(&mut seen.known).clouds = vec![("plant".into(), "mqtts://plant:8883".into())];
        let mut h = view(seen);
        for label in [
            "5000 ordered = 0 in batches + 5000 left",
            "hardened (2)",
            "locked (yes)",
            "print and scan back",
            "the vendor's; 340 units enrolled with it",
            "It has no batch yet; “New batch of it…” makes one",
            "Timeline (1)",
        ] {
            h.get_by_label(label);
        }
        h.get_by_label_contains("no longer in station.toml");
        click(&mut h, "New batch of it…");
        h.get_by_label("New batch under PO-2026-0417");
        h.key_press(Key::Escape);
        h.run();
        click(&mut h, "Clone order…");
        h.get_by_label("New order like PO-2026-0417");
        h.get_by_label("station.toml names no cloud mqtts://localhost; it has plant");
    }

    #[test]
    fn what_an_order_expects_is_a_number_or_nothing() {
        let mut h = view(office(true));
        click(&mut h, "Expect…");
        type_into(&mut h, "Enrolments an hour", "many");
        assert!(is_off(&h, "Expect this many"));
        h.get_by_label("A whole number, or nothing");
        click(&mut h, "Leave it");
        click(&mut h, "Throw it away");
        click(&mut h, "Expect…");
        type_into(&mut h, "Enrolments an hour", "120");
        click(&mut h, "Expect this many");
        let (order, operator) = ("PO-2026-0417".to_owned(), "Ana Petrović".to_owned());
        assert_eq!(asked(&mut h), [Command::Expect { order, per_hour: 120, operator }]);
    }

    #[test]
    fn a_leaked_key_is_made_invalid_only_over_the_numbers_of_that_very_moment() {
        let mut h = view(office(true));
        click(&mut h, "Product key leaked…");
        let since_ms = since();
        let order = || "PO-2026-0417".to_owned();
        assert_eq!(asked(&mut h), [Command::Reach { order: order(), since_ms }]);
        type_into(&mut h, "Reason", "seen on a forum");
        assert!(is_off(&h, "Make the key invalid"), "nothing is counted yet");
        let reached =
            |since_ms| Some(Reached { order: order(), since_ms, reach: Reach { units: 340, passed: 312 } });
        h.state_mut().desk.office.reached = reached(since_ms + 1);
        h.run();
        assert!(is_off(&h, "Make the key invalid"), "counted since another moment");
        h.state_mut().desk.office.reached = reached(since_ms);
        h.run();
        h.get_by_label_contains("340 units enrolled since");
        click(&mut h, "Make the key invalid");
        let (reason, operator) = ("seen on a forum".to_owned(), "Ana Petrović".to_owned());
        assert_eq!(asked(&mut h), [Command::Invalidate { order: order(), since_ms, reason, operator }]);
    }

    #[test]
    fn a_moment_is_typed_as_it_is_shown() {
        let ms = MADE / 60_000 * 60_000;
        assert_eq!(moment_of(&moment_text(ms)), Some(ms));
        assert_eq!(moment_of("2026-11-26T06:00:00Z"), Some(1_795_672_800_000));
        for wrong in ["", "yesterday", "2026-13-01 00:00", "2026-11-26"] {
            assert_eq!(moment_of(wrong), None, "{wrong}");
        }
    }
}
