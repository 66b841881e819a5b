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
        other => return Cow::Owned(other.replace('_', " ")),
    })
}

/// What a fixture is doing; the line's own words if they hold more than these.
pub(super) fn label(label: &str) -> &str {
    match label {
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
        "trying to read its flash" => tr!("label-trying-to-read-its-flash"),
        other => other,
    }
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
