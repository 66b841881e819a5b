//! Words that come from the line and the records, which speak English, as the window says them. A word that is not known here is
//! shown as it came.

use crate::i18n::tr;
use crate::records::{Alarm, AlarmOf};
use std::borrow::Cow;

/// What happened to a unit, by the kind in the records.
pub(super) fn event(kind: &str) -> Cow<'_, str> {
    Cow::Borrowed(match kind {
        "arrived" => tr!("event-arrived"),
        "flash-begin" => tr!("event-flash-begin"),
        "flash-end" => tr!("event-flash-end"),
        "passed" => tr!("event-passed"),
        "agent-key-issued" => tr!("event-agent-key-issued"),
        "agent-key-active" => tr!("event-agent-key-active"),
        "agent-key-in-use" => tr!("event-agent-key-in-use"),
        "agent-key-voided" => tr!("event-agent-key-voided"),
        "cloud-key-reserved" => tr!("event-cloud-key-reserved"),
        "cloud-key-issued" => tr!("event-cloud-key-issued"),
        "cloud-key-active" => tr!("event-cloud-key-active"),
        "cloud-left" => tr!("event-cloud-left"),
        "keys-forgotten" => tr!("event-keys-forgotten"),
        "keys-revoked" => tr!("event-keys-revoked"),
        "move-ordered" => tr!("event-move-ordered"),
        "quarantined" => tr!("event-quarantined"),
        "released" => tr!("event-released"),
        "scrapped" => tr!("event-scrapped"),
        "reprovision-ordered" => tr!("event-reprovision-ordered"),
        "reprovision-withdrawn" => tr!("event-reprovision-withdrawn"),
        "reprovisioned" => tr!("event-reprovisioned"),
        "interrupted" => tr!("event-interrupted"),
        "attempt-ended" => tr!("event-attempt-ended"),
        "alarm" => tr!("event-alarm"),
        "retest-ordered" => tr!("event-retest-ordered"),
        "retested" => tr!("event-retested"),
        "reported" => tr!("event-reported"),
        "compared" => tr!("event-compared"),
        "rma-opened" => tr!("event-rma-opened"),
        "rma-closed" => tr!("event-rma-closed"),
        "label-printed" => tr!("event-label-printed"),
        "label-reprinted" => tr!("event-label-reprinted"),
        "label-scanned" => tr!("event-label-scanned"),
        "label-mismatch" => tr!("event-label-mismatch"),
        "reset" => tr!("event-reset"),
        "lock-begin" => tr!("event-lock-begin"),
        "lock-end" => tr!("event-lock-end"),
        "update-begin" => tr!("event-update-begin"),
        "update-end" => tr!("event-update-end"),
        "returned" => tr!("event-returned"),
        "device-log" => tr!("event-device-log"),
        "attempt" => tr!("story-attempt"),
        "key-made" => tr!("story-key-made"),
        "export" => tr!("story-export"),
        other => return Cow::Owned(other.replace('-', " ")),
    })
}

/// The name of a fact in an event.
pub(super) fn fact(name: &str) -> Cow<'_, str> {
    Cow::Borrowed(match name {
        "serial" => tr!("fact-serial"),
        "image" => tr!("fact-image"),
        "generation" => tr!("fact-generation"),
        "agent_key" => tr!("fact-agent-key"),
        "cloud_key" => tr!("fact-cloud-key"),
        "order" => tr!("fact-order"),
        "reason" => tr!("fact-reason"),
        "operator" => tr!("fact-operator"),
        "state" => tr!("fact-state"),
        "cloud" => tr!("fact-cloud"),
        "region" => tr!("fact-region"),
        "voided" => tr!("fact-voided"),
        "kind" => tr!("fact-kind"),
        "outcome" => tr!("fact-outcome"),
        "supersedes" => tr!("fact-supersedes"),
        "number" => tr!("fact-number"),
        "finding" => tr!("fact-finding"),
        "note" => tr!("fact-note"),
        "key" => tr!("fact-key"),
        "fingerprint" => tr!("fact-fingerprint"),
        "attempt" => tr!("fact-attempt"),
        "station" => tr!("fact-station"),
        "for" => tr!("fact-for"),
        "failure" => tr!("fact-failure"),
        "format" => tr!("fact-format"),
        "file" => tr!("fact-file"),
        "protection" => tr!("fact-protection"),
        "export" => tr!("fact-export"),
        "handed_to" => tr!("fact-to"),
        "confirmed_at" => tr!("fact-confirmed"),
        "replaced_at" => tr!("fact-replaced"),
        "old_keys_refused" => tr!("fact-refused"),
        "code" => tr!("fact-code"),
        "labels" => tr!("fact-labels"),
        "fixture" => tr!("fact-fixture"),
        "differs" => tr!("fact-differs"),
        "why" => tr!("fact-why"),
        "firmware" => tr!("fact-firmware"),
        "unit" => tr!("fact-unit"),
        "version" => tr!("fact-version"),
        "ms" => tr!("fact-ms"),
        other => return Cow::Owned(other.replace('_', " ")),
    })
}

/// The value of a fact.
pub(super) fn value(value: &str) -> &str {
    match value {
        "new-keys" => tr!("value-new-keys"),
        "new-start" => tr!("value-new-start"),
        "move-region" => tr!("value-move-region"),
        "agent" => tr!("value-agent"),
        "cloud" => tr!("value-cloud"),
        "make" => tr!("value-make"),
        "none" => tr!("value-none"),
        "plain" => tr!("value-plain"),
        "password" => tr!("value-password"),
        "update" => tr!("value-update"),
        "retest" => tr!("value-retest"),
        "live" => tr!("value-live"),
        "replaced" => tr!("value-replaced"),
        "given-up" => tr!("value-given-up"),
        "on-its-way" => tr!("value-on-its-way"),
        other => other,
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.strip_prefix(before)?.strip_suffix(after)
}

/// Where in the flash.
fn place(place: &str) -> &str {
    match place {
        "boot" => tr!("place-boot"),
        "key area A" => tr!("place-key-area-a"),
        "product key" => tr!("place-product-key"),
        "app" => tr!("place-app"),
        "boot journal" => tr!("place-boot-journal"),
        "trust store" => tr!("place-trust-store"),
        "flash" => tr!("place-flash"),
        other => other,
    }
}

/// What a fixture is doing; the line's own words if they are not known here.
pub(super) fn label(label: &str) -> Cow<'_, str> {
    let told = match label {
        "opening the serial port" => tr!("label-opening-the-serial-port"),
        "connecting to the chip" => tr!("label-connecting-to-the-chip"),
        "comparing the flash" => tr!("label-comparing-the-flash"),
        "locked: take its power away and give it back" => {
            tr!("label-locked-take-its-power-away-and-give-it-back")
        }
        "asking the unit to renew its key" => tr!("label-asking-the-unit-to-renew-its-key"),
        "its cloud tells it to renew its key" => tr!("label-its-cloud-tells-it-to-renew-its-key"),
        "restarting" => tr!("label-restarting"),
        "asking for the proof" => tr!("label-asking-for-the-proof"),
        "checking the proof" => tr!("label-checking-the-proof"),
        "waiting for its login at the cloud" => tr!("label-waiting-for-its-login-at-the-cloud"),
        "trying its old keys" => tr!("label-trying-its-old-keys"),
        "reading the option bytes" => tr!("label-reading-the-option-bytes"),
        "setting the option bytes" => tr!("label-setting-the-option-bytes"),
        "waiting for its turn at the printer" => tr!("label-turn"),
        "printing the label" => tr!("label-print"),
        "stick the label on and scan it" => tr!("label-scan"),
        "asking the unit what it says of itself" => tr!("label-ask"),
        "trying to read its flash" => tr!("label-trying-to-read-its-flash"),
        other => {
            return match numbered(other) {
                Some(told) => Cow::Owned(told),
                None => Cow::Borrowed(other),
            };
        }
    };
    Cow::Borrowed(told)
}

/// Labels that name a place or a generation.
fn numbered(label: &str) -> Option<String> {
    if let Some(at) = label.strip_prefix("erasing ") {
        return Some(tr!("label-erasing", place = place(at)));
    }
    if let Some(at) = label.strip_prefix("writing ") {
        return Some(tr!("label-writing", place = place(at)));
    }
    if let Some(at) = label.strip_prefix("reading back ") {
        return Some(tr!("label-reading-back", place = place(at)));
    }
    if let Some(n) = between(label, "agent key ", " issued") {
        return Some(tr!("label-agent-key-issued", generation = n));
    }
    if let Some(n) = between(label, "agent key ", " active") {
        return Some(tr!("label-agent-key-active", generation = n));
    }
    if let Some(n) = between(label, "cloud key ", " issued") {
        return Some(tr!("label-cloud-key-issued", generation = n));
    }
    if let Some(n) = between(label, "cloud key ", " active") {
        return Some(tr!("label-cloud-key-active", generation = n));
    }
    None
}

/// What a unit says of itself, in the words of the comparison; a word that is not known here as it came.
pub(super) fn says(says: &str) -> String {
    let one = |word: &str| match word {
        "blank" => tr!("says-blank"),
        "unconfirmed" => tr!("says-unconfirmed"),
        "active" => tr!("says-active"),
        "invalid" => tr!("says-invalid"),
        "retired" => tr!("says-retired"),
        "product key" => tr!("says-product-key"),
        "no cloud key" => tr!("says-no-cloud"),
        "logging in" => tr!("says-logging-in"),
        "logged in" => tr!("says-logged-in"),
        "login refused" => tr!("says-refused"),
        "power on" => tr!("says-power-on"),
        "reset pin" => tr!("says-reset-pin"),
        "software" => tr!("says-software"),
        "watchdog" | "window watchdog" => tr!("says-watchdog"),
        "brown-out" => tr!("says-brown-out"),
        "low power" => tr!("says-low-power"),
        "not said" => tr!("says-not-said"),
        _ => "",
    };
    let words: Vec<_> = says.split(", ").map(|word| (word, one(word))).collect();
    if words.iter().any(|(_, told)| told.is_empty()) {
        return says.to_owned();
    }
    let list = |first: String, second| tr!("tile-list", first = first, second = second);
    words.into_iter().map(|(_, told)| told.to_owned()).reduce(list).unwrap_or_default()
}

/// What the desk tells; its own words if they are not known here.
pub(super) fn told(told: &str) -> String {
    if let Some(serial) = between(told, "Setting it aside: ", "…") {
        return tr!("told-setting-aside", serial = serial);
    }
    if let Some(serial) = between(told, "Letting it back: ", "…") {
        return tr!("told-letting-back", serial = serial);
    }
    if let Some(serial) = between(told, "Scrapping it: ", "…") {
        return tr!("told-scrapping", serial = serial);
    }
    if let Some(serial) = between(told, "Taking the order back: ", "…") {
        return tr!("told-taking-back", serial = serial);
    }
    if let Some(serial) = between(told, "Ordering for ", "…") {
        return tr!("told-ordering", serial = serial);
    }
    if let Some(serial) = between(told, "", " is set aside; its cloud lets it in no more") {
        return tr!("told-set-aside", serial = serial);
    }
    if let Some(serial) = between(told, "", " is out of quarantine; its cloud lets it in again") {
        return tr!("told-let-back", serial = serial);
    }
    if let Some(serial) = between(told, "", " is taken out for ever; its keys are dead") {
        return tr!("told-scrapped", serial = serial);
    }
    if let Some(serial) = between(told, "", " has no open order; what the order did stays done") {
        return tr!("told-taken-back", serial = serial);
    }
    if let Some((serial, fixture)) =
        between(told, "The order stands; ", "").and_then(|t| t.split_once(" is in work in fixture "))
    {
        return tr!("told-order-stands", serial = serial, fixture = fixture);
    }
    if let Some((serial, rest)) =
        between(told, "", " opens nothing any more").and_then(|t| t.split_once(" passed with agent key "))
        && let Some((agent, rest)) = rest.split_once(" and cloud key ")
        && let Some((cloud, old)) = rest.split_once("; ")
    {
        return tr!("told-passed", serial = serial, agent = agent, cloud = cloud, old = old);
    }
    if let Some((serial, number)) = told.split_once(" came back under ") {
        return tr!("told-rma-opened", serial = serial, number = number);
    }
    if let Some((serial, number)) = told.split_once(" is closed under ") {
        return tr!("told-rma-closed", serial = serial, number = number);
    }
    if let Some((serial, fixture)) = told.split_once(" is retested in fixture ") {
        return tr!("told-retesting", serial = serial, fixture = fixture);
    }
    if let Some((serial, fixture)) = told.split_once(" is asked in fixture ") {
        return tr!("told-asking", serial = serial, fixture = fixture);
    }
    if let Some(serial) = between(told, "", " proved its keys again; nothing of it was changed") {
        return tr!("told-retested", serial = serial);
    }
    if let Some(serial) = between(told, "", " reports what its record says") {
        return tr!("told-compared", serial = serial);
    }
    if let Some((serial, file)) =
        between(told, "The traveler of ", "").and_then(|t| t.split_once(" is saved: "))
    {
        return tr!("told-traveler", serial = serial, file = file);
    }
    office(told).unwrap_or_else(|| told.to_owned())
}

/// What the office and the export clerk tell.
fn office(told: &str) -> Option<String> {
    match told {
        "Reading the records" => return Some(tr!("told-reading").into()),
        "Handing out" => return Some(tr!("told-handing-out").into()),
        "Looking at the file" => return Some(tr!("told-checking").into()),
        _ => {}
    }
    if let Some(numbers) = between(told, "Export ", " is written") {
        return Some(tr!("told-export-written", numbers = numbers));
    }
    if let Some(number) = between(told, "Export ", " is revoked") {
        return Some(tr!("told-export-revoked", number = number));
    }
    if let Some((order, count)) =
        between(told, "Order ", " enrolments an hour").and_then(|t| t.split_once(" expects "))
    {
        return Some(tr!("told-expects", order = order, count = count));
    }
    if let Some((order, rest)) = between(told, "The product key of ", " of them blocked at their cloud")
        .and_then(|t| t.split_once(" counts for nothing: "))
        && let Some((units, blocked)) = rest.split_once(" units are set aside, ")
    {
        return Some(tr!("told-key-dead", order = order, units = units, blocked = blocked));
    }
    if let Some((number, rest)) = between(told, "Label number ", "").and_then(|t| t.split_once(" of "))
        && let Some((serial, place)) = rest.split_once(" went to ")
    {
        return Some(tr!("told-label-printed", number = number, serial = serial, place = place));
    }
    if let Some(serial) = between(told, "The label of ", " is its own, and was read back") {
        return Some(tr!("told-label-read", serial = serial));
    }
    if let Some(rest) = between(told, "Order ", "") {
        if let Some((order, batch)) =
            between(rest, "", " are entered").and_then(|r| r.split_once(" and its batch "))
        {
            return Some(tr!("told-order-and-batch", order = order, batch = batch));
        }
        return Some(tr!("told-order-entered", order = between(rest, "", " is entered")?));
    }
    if let Some((batch, units)) = between(told, "Batch ", " units").and_then(|r| r.split_once(" is open: ")) {
        return Some(tr!("told-batch-made", batch = batch, units = units));
    }
    if let Some((batch, state)) = between(told, "Batch ", "").and_then(|r| r.rsplit_once(" is ")) {
        let state = match state {
            "open" => tr!("batch-open"),
            "paused" => tr!("batch-paused"),
            "closed" => tr!("batch-closed"),
            _ => return None,
        };
        return Some(tr!("told-batch-state", batch = batch, state = state));
    }
    if let Some(count) = between(told, "", " orders were taken") {
        return Some(tr!("told-orders-taken", count = count));
    }
    between(told, "A test label went to ", "").map(|place| tr!("told-test-label", place = place))
}

/// An alarm as a sentence.
pub(super) fn alarm(alarm: &Alarm, serial: Option<&str>) -> String {
    let what = match alarm.kind.as_str() {
        "another-identity" => tr!("alarm-another-identity"),
        "enrolled-again" => tr!("alarm-enrolled-again"),
        "cloud-key-unknown" => tr!("alarm-cloud-key-unknown"),
        "invalid-product-key" => tr!("alarm-invalid-product-key"),
        "activation-rate" => tr!("alarm-activation-rate"),
        "activations-over-plan" => tr!("alarm-activations-over-plan"),
        other => other,
    };
    match (&alarm.of, serial) {
        (AlarmOf::Unit(unit), Some(serial)) => {
            tr!("alarm-unit-serial", serial = serial, unit = unit.to_string(), what = what)
        }
        (AlarmOf::Unit(unit), None) => tr!("alarm-unit", unit = unit.to_string(), what = what),
        (AlarmOf::ProductOrder(name), _) => tr!("alarm-order", name = name, what = what),
    }
}

#[cfg(test)]
mod tests {
    use super::super::line_view::Tab;
    use super::super::line_view::tests::sized;
    use super::super::scripted::{self, Scene, scene};
    use crate::i18n::Language;
    use crate::model::UnitState;
    use egui::{Key, Modifiers, vec2};
    use egui_kittest::kittest::{NodeT, Queryable};
    use std::collections::BTreeSet;
    use std::time::Instant;

    /// Data: names, ids, files and what somebody typed. They are what they are in every language.
    const DATA: &[&str] = &[
        "Keywright",
        "line-1",
        "Ana Petrović",
        "KW-GATEWAY-429",
        "RMA 2291, SIM replaced",
        "PO-2026-0417",
        "pskc",
        "xml",
        "station.toml",
        "keywright",
        "Tab",
        "Enter",
        "Esc",
        "Ctrl",
        "Space",
    ];

    /// English words in a label that has no Chinese in it.
    fn english(label: &str) -> bool {
        let mut label = label.to_owned();
        for data in DATA {
            label = label.replace(data, "");
        }
        let chinese = label.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
        let words = label.split(|c: char| !c.is_alphanumeric());
        !chinese && words.filter(|w| w.len() >= 3 && w.chars().all(|c| c.is_ascii_lowercase())).count() > 0
    }

    #[test]
    fn what_is_told_with_names_and_numbers_is_the_same_in_english_and_nothing_of_it_is_english_in_chinese() {
        let labels = [
            "erasing app",
            "writing key area A",
            "reading back trust store",
            "agent key 2 issued",
            "cloud key 3 active",
        ];
        let tales: [&str; 25] = [
            "Setting it aside: B1-1…",
            "Ordering for B1-1…",
            "B1-1 is out of quarantine; its cloud lets it in again",
            "B1-1 has no open order; what the order did stays done",
            "The order stands; B1-1 is in work in fixture 2",
            "B1-1 passed with agent key 2 and cloud key 3; 0011.1 opens nothing any more",
            "B1-1 came back under 2291",
            "B1-1 is closed under 2291",
            "B1-1 is retested in fixture 2",
            "B1-1 is asked in fixture 2",
            "B1-1 proved its keys again; nothing of it was changed",
            "B1-1 reports what its record says",
            "The traveler of B1-1 is saved: 1",
            "Reading the records",
            "Handing out",
            "Export 12, 13 is written",
            "Export 12 is revoked",
            "Order 1 and its batch 2 are entered",
            "Order 1 is entered",
            "Batch 1 is open: 500 units",
            "Batch 1 is open",
            "Batch 1 is paused",
            "Batch 1 is closed",
            "12 orders were taken",
            "A test label went to 1:9100",
        ];
        for language in Language::ALL {
            let _spoken = crate::i18n::using(language);
            let told = labels.map(|l| (l, super::label(l).into_owned())).into_iter();
            for (given, told) in told.chain(tales.map(|t| (t, super::told(t)))) {
                match language {
                    Language::English => assert_eq!(given, told),
                    Language::Chinese => {
                        let words = told.split(|c: char| !c.is_ascii_alphanumeric());
                        assert_eq!(
                            words
                                .filter(|w| w.len() > 2 && w.is_ascii() && w.parse::<u32>().is_err())
                                .count(),
                            0,
                            "{told}"
                        );
                    }
                }
            }
        }
        let _chinese = crate::i18n::using(Language::Chinese);
        assert_eq!(super::label("what nobody knows"), "what nobody knows");
    }

    #[test]
    fn in_chinese_nothing_on_the_screen_is_english() {
        let mut found = BTreeSet::new();
        let scenes = [
            Scene::Gallery,
            Scene::Busy(32),
            Scene::Ready(1),
            Scene::NoBatch,
            Scene::NoFixtures,
            Scene::Closed,
            Scene::Paused,
            Scene::StationTrouble,
        ];
        for (i, which) in scenes.into_iter().enumerate() {
            for tab in [Tab::Line, Tab::Units] {
                let size = if i % 2 == 0 { vec2(1280.0, 800.0) } else { vec2(960.0, 600.0) };
                let mut h = sized(scene(which, Instant::now()), size, egui::Theme::Light);
                h.state_mut().view.language = Language::Chinese;
                h.state_mut().view.tab = tab;
                h.state_mut().desk = scripted::desk(UnitState::Passed);
                h.run();
                for key in [None, Some(Key::F1), Some(Key::F3), Some(Key::F4), Some(Key::B)] {
                    match key {
                        Some(Key::B) => h.key_press_modifiers(Modifiers::COMMAND, Key::B),
                        Some(key) => h.key_press(key),
                        None => {}
                    }
                    h.run();
                    for node in h.query_all_by(|_| true) {
                        let node = node.accesskit_node();
                        for text in [node.label(), node.description()].into_iter().flatten() {
                            if english(&text) {
                                found.insert(text);
                            }
                        }
                    }
                    h.key_press(Key::Escape);
                    h.run();
                }
            }
        }
        let found: Vec<_> = found.into_iter().collect();
        assert!(found.is_empty(), "{} labels:\n{}", found.len(), found.join("\n"));
    }
}
