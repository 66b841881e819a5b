//! A unit compared with its record, over the wire: what its firmware says of itself beside what the station wrote down.
//!
//! The unit is asked over its serial port alone ([ADR 14](../../docs/adr/0014-a-locked-unit-is-not-looked-at.md)); the worker writes
//! what it said into the unit's history as `reported`, and [`settle`] compares that with the record as it stands and writes `compared`.
//!
//! Invariant: what the firmware does not report is called so, never guessed from something else. Nothing here is a proof: a status is
//! not authenticated. Whether the unit holds its keys is shown by a retest.

use crate::failure::{Failure, FailureCode};
use crate::line::worker::records_failure;
use crate::model::{ProductOrder, UnitId, UnitState};
use crate::records::{UnitBook, UnitRecord};
use keywright_protocol::DeviceFailure;
use keywright_protocol::control::{AreaStatus, CloudSession, Stage, Status};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The event in which a unit's own words are kept.
pub const REPORTED: &str = "reported";
/// The event in which a comparison is kept.
pub const COMPARED: &str = "compared";

/// A unit's status in words and numbers, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Hardware id on the wire.
    pub unit: UnitId,
    /// Firmware version.
    pub firmware: String,
    /// Version of its control messages.
    pub protocol: u8,
    /// How far it has come.
    pub stage: u8,
    /// Its suite; 0: it has no order.
    pub suite: u8,
    /// State of key area A.
    pub area_a: u8,
    /// State of key area B.
    pub area_b: u8,
    /// Generation of the preferred record.
    pub generation: u32,
    /// Generation of its agent key.
    pub agent_key: u32,
    /// Generation of its cloud key.
    pub cloud_key: u32,
    /// Its region; 0: it has no order.
    pub region: u32,
    /// The product order that it names, 16 bytes in hex.
    pub order: String,
    /// Number of its last failure since power-on; 0: none.
    pub last_failure: u16,
    /// Why it started last: the top byte of RCC_CSR.
    pub reset_cause: u8,
    /// Milliseconds since its reset.
    pub uptime_ms: u32,
    /// Bytes of RAM that were ever used.
    pub ram_high_water: u32,
    /// How it stands with its cloud.
    pub cloud: u8,
}

impl From<&Status> for Report {
    fn from(s: &Status) -> Self {
        let [major, minor, patch, _] = s.fw_ver;
        Self {
            unit: UnitId(s.unit.0),
            firmware: format!("{major}.{minor}.{patch}"),
            protocol: s.proto_ver,
            stage: s.stage.0,
            suite: s.suite,
            area_a: s.area_a.0,
            area_b: s.area_b.0,
            generation: s.generation.0,
            agent_key: s.agent_key.0,
            cloud_key: s.cloud_key.0,
            region: s.region.0,
            order: hex::encode(s.order.0),
            last_failure: s.last_failure,
            reset_cause: s.reset_cause,
            uptime_ms: s.uptime_ms,
            ram_high_water: s.stack_high_water,
            cloud: s.cloud.0,
        }
    }
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    /// The id on the wire.
    HardwareId,
    /// The order that it names.
    ProductOrder,
    /// Its suite.
    Suite,
    /// Its firmware's version.
    Firmware,
    /// How far it has come.
    Stage,
    /// Generation of the key record.
    Record,
    /// Generation of its agent key.
    AgentKey,
    /// Generation of its cloud key.
    CloudKey,
    /// Its region.
    Region,
    /// Fingerprint of its agent key.
    AgentFingerprint,
    /// Fingerprint of its cloud key.
    CloudFingerprint,
    /// Fingerprint of its region's anchors.
    Anchors,
}

/// How a field came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Both say the same.
    Same,
    /// They do not.
    Differs,
    /// The firmware does not report it.
    NotReported,
    /// The record does not say.
    NotRecorded,
}

/// One field beside the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// Which.
    pub field: Field,
    /// What the record says; empty if it says nothing.
    pub record: String,
    /// What the unit says; empty if it does not report it.
    pub unit: String,
    /// How it came out.
    pub verdict: Verdict,
}

/// One thing of the unit's own health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Key area A.
    AreaA,
    /// Key area B.
    AreaB,
    /// Its last failure since power-on.
    LastFailure,
    /// Its login at its cloud.
    Cloud,
    /// Why it started last.
    ResetCause,
    /// Since when it runs.
    Uptime,
    /// RAM that was ever used.
    Ram,
}

/// One line of the unit's report about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthLine {
    /// Which.
    pub what: Health,
    /// What it says.
    pub says: String,
    /// Whether that is as it should be; `None`: it is only told.
    pub good: Option<bool>,
}

/// A comparison, as it is kept in the unit's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Field by field.
    pub fields: Vec<Compared>,
    /// What the unit reports of itself.
    pub health: Vec<HealthLine>,
}

impl Comparison {
    /// Fields that differ.
    pub fn differing(&self) -> impl Iterator<Item = &Compared> {
        self.fields.iter().filter(|f| f.verdict == Verdict::Differs)
    }
}

/// The names of the bits of the top byte of RCC_CSR (RM0090 §7.3.21).
fn reset_cause(bits: u8) -> String {
    const NAMES: [(u8, &str); 7] = [
        (0x80, "low power"),
        (0x40, "window watchdog"),
        (0x20, "watchdog"),
        (0x10, "software"),
        (0x08, "power on"),
        (0x04, "reset pin"),
        (0x02, "brown-out"),
    ];
    let names: Vec<_> = NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    if names.is_empty() { "not said".into() } else { names.join(", ") }
}

/// Compares a unit's own words with its record. Pure.
pub fn compare(record: &UnitRecord, reported: &Report) -> Comparison {
    let order: &ProductOrder = &record.order;
    let mut fields = Vec::new();
    let mut add = |field, record: String, unit: String| {
        let verdict = match (record.is_empty(), record == unit) {
            (true, _) => Verdict::NotRecorded,
            (_, true) => Verdict::Same,
            _ => Verdict::Differs,
        };
        fields.push(Compared { field, record, unit, verdict });
    };
    add(Field::HardwareId, record.unit.id.to_string(), reported.unit.to_string());
    // A unit names its order by 16 bytes; zeroes are none.
    let named = if reported.order == hex::encode(order.po16()) {
        order.name.clone()
    } else if reported.order.bytes().all(|b| b == b'0') {
        "-".into()
    } else {
        let bytes = hex::decode(&reported.order).unwrap_or_default();
        let text: String = bytes.iter().take_while(|b| **b != 0).map(|b| char::from(*b)).collect();
        let readable = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
        if readable { text } else { reported.order.clone() }
    };
    add(Field::ProductOrder, order.name.clone(), named);
    add(Field::Suite, order.suite.to_string(), reported.suite.to_string());
    add(Field::Firmware, record.firmware.clone().unwrap_or_default(), reported.firmware.clone());
    // In quarantine or scrapped it is at the stage that it had: the record does not say which.
    let stage = match record.unit.state {
        UnitState::Passed => Stage::ACTIVE.to_string(),
        _ => String::new(),
    };
    add(Field::Stage, stage, Stage(reported.stage).to_string());
    let number = |n: u32| if n == 0 { String::new() } else { n.to_string() };
    let told = |n: u32| if n == 0 { "-".into() } else { n.to_string() };
    add(Field::Record, number(record.unit.generation), told(reported.generation));
    let live = |purpose: &str| record.live_key(purpose);
    add(Field::AgentKey, number(live("agent").map_or(0, |k| k.generation)), told(reported.agent_key));
    add(Field::CloudKey, number(live("cloud").map_or(0, |k| k.generation)), told(reported.cloud_key));
    add(Field::Region, number(record.region), told(reported.region));
    let fingerprints = [
        (Field::AgentFingerprint, live("agent").map(|k| k.key_id.clone())),
        (Field::CloudFingerprint, live("cloud").map(|k| k.key_id.clone())),
        (Field::Anchors, record.anchor_fingerprint.clone()),
    ];
    for (field, known) in fingerprints {
        let record = known.unwrap_or_default();
        fields.push(Compared { field, record, unit: String::new(), verdict: Verdict::NotReported });
    }

    let area = |area: u8| {
        let area = AreaStatus(area);
        (area.to_string(), Some(area != AreaStatus::INVALID))
    };
    let failure = match reported.last_failure {
        0 => ("-".to_owned(), Some(true)),
        code => {
            let text =
                DeviceFailure::from_code(code).map_or_else(|| format!("E{code:04x}"), |f| f.to_string());
            (text, Some(false))
        }
    };
    let cloud = CloudSession(reported.cloud);
    let login = match cloud {
        CloudSession::BORN => Some(true),
        CloudSession::REFUSED => Some(false),
        _ => None,
    };
    let health = [
        (Health::AreaA, area(reported.area_a)),
        (Health::AreaB, area(reported.area_b)),
        (Health::LastFailure, failure),
        (Health::Cloud, (cloud.to_string(), login)),
        (Health::ResetCause, (reset_cause(reported.reset_cause), None)),
        (Health::Uptime, (format!("{:.1} s", f64::from(reported.uptime_ms) / 1000.0), None)),
        (Health::Ram, (format!("{} B", reported.ram_high_water), None)),
    ];
    let health = health.into_iter().map(|(what, (says, good))| HealthLine { what, says, good }).collect();
    Comparison { fields, health }
}

/// The newest comparison that a unit's history holds, and when it was made.
pub fn newest(record: &UnitRecord) -> Option<(i64, Comparison)> {
    let event = record.events.iter().find(|e| e.kind == COMPARED)?;
    let comparison = serde_json::from_value(event.detail["comparison"].clone()).ok()?;
    Some((event.at_ms, comparison))
}

/// Compares what the unit reported last with its record, and writes it into its history.
///
/// # Errors
/// `DeviceSilent` if it never reported; those of the records.
pub fn settle(records: &dyn UnitBook, unit: UnitId, operator: &str) -> Result<Comparison, Failure> {
    let record = records.unit_record(unit).map_err(records_failure)?;
    let said = record.as_ref().and_then(|r| {
        let event = r.events.iter().find(|e| e.kind == REPORTED)?;
        serde_json::from_value::<Report>(event.detail.clone()).ok()
    });
    let (Some(record), Some(said)) = (record, said) else {
        return Err(Failure::new(FailureCode::DeviceSilent, format!("unit {unit} never reported")));
    };
    let comparison = compare(&record, &said);
    let differs: Vec<_> = comparison.differing().map(|f| f.field).collect();
    let detail = json!({ "operator": operator, "differs": differs, "comparison": comparison });
    records.unit_event(unit, None, COMPARED, detail, None).map_err(records_failure)?;
    Ok(comparison)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_causes_of_a_reset_are_named() {
        assert_eq!(reset_cause(0x0c), "power on, reset pin");
        assert_eq!(reset_cause(0x01), "not said");
    }
}
