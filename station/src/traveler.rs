//! The traveler of a unit: everything that is kept about it as one list in the order of time, and that list as text, CSV or JSON.
//!
//! Invariant: it is made of [`UnitRecord`] alone, in which there is no key: keys show by purpose, generation and fingerprint.

use crate::export::Stamp;
use crate::failure::{Failure, FailureCode};
use crate::model::Outcome;
use crate::records::UnitRecord;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// A run at a fixture.
    Attempt,
    /// A step, or what the unit said.
    Step,
    /// A key: made, confirmed, replaced, given up.
    Key,
    /// A label.
    Label,
    /// What QA decided.
    Decision,
    /// It came back from a customer.
    Rma,
    /// A list that names it was handed out.
    Export,
}

impl Group {
    /// Every group.
    pub const ALL: [Self; 7] =
        [Self::Attempt, Self::Step, Self::Key, Self::Label, Self::Decision, Self::Rma, Self::Export];

    /// The word in files and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempt => "attempt",
            Self::Step => "step",
            Self::Key => "key",
            Self::Label => "label",
            Self::Decision => "decision",
            Self::Rma => "rma",
            Self::Export => "export",
        }
    }

    /// The group of an event in the history.
    fn of_event(kind: &str) -> Self {
        match kind {
            "reprovision-ordered"
            | "reprovision-withdrawn"
            | "reprovisioned"
            | "quarantined"
            | "released"
            | "scrapped"
            | "move-ordered"
            | "retest-ordered"
            | "retested" => Self::Decision,
            _ if kind.starts_with("rma-") => Self::Rma,
            _ if kind.starts_with("label-") => Self::Label,
            _ if ["agent-key-", "cloud-key-", "keys-", "update-"].iter().any(|p| kind.starts_with(p)) => {
                Self::Key
            }
            _ => Self::Step,
        }
    }
}

impl std::str::FromStr for Group {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|g| g.as_str() == s).ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|g| g.as_str()).collect();
            format!("a line of a traveler is one of {}, got {s:?}", all.join(", "))
        })
    }
}

/// One line of a traveler.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// When.
    pub at: Stamp,
    /// What it is about.
    pub group: Group,
    /// What happened: the kind of the event, or `attempt`, `key-made`, `export`.
    pub what: String,
    /// Who.
    pub by: String,
    /// In which fixture.
    pub fixture: String,
    /// How the attempt ended.
    pub outcome: Option<Outcome>,
    /// Code of its failure.
    pub code: String,
    /// Seconds that it took.
    pub seconds: Option<f64>,
    /// The facts.
    pub facts: Value,
}

impl Entry {
    /// The facts as one line: `generation 2, reason RMA 88`.
    pub fn facts_line(&self) -> String {
        let word = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Array(_) | Value::Object(_) => value.to_string(),
            other => other.to_string(),
        };
        match &self.facts {
            Value::Object(all) => {
                let parts: Vec<_> = all
                    .iter()
                    .map(|(name, value)| format!("{} {}", name.replace('_', " "), word(value)))
                    .collect();
                parts.join(", ")
            }
            Value::Null => String::new(),
            other => word(other),
        }
    }
}

/// Everything about a unit, oldest first.
pub fn entries(record: &UnitRecord) -> Vec<Entry> {
    let plain = |at_ms: i64, group: Group, what: &str, facts: Value| Entry {
        at: Stamp(at_ms),
        group,
        what: what.into(),
        by: String::new(),
        fixture: String::new(),
        outcome: None,
        code: String::new(),
        seconds: None,
        facts,
    };
    // What is equal in time stays in the order in which it was written: an attempt comes before its steps.
    let mut all = Vec::new();
    for a in record.attempts.iter().rev() {
        let mut facts = Map::new();
        facts.insert("attempt".into(), json!(a.id.0));
        facts.insert("for".into(), json!(a.work.as_str()));
        facts.insert("station".into(), json!(a.station));
        if let Some(failure) = &a.failure {
            facts.insert("failure".into(), json!(failure.sentence));
        }
        if let Some(proof) = &a.proof {
            facts.insert("agent_key".into(), json!(proof.ak_gen));
            facts.insert("cloud_key".into(), json!(proof.ck_gen));
            facts.insert("old_keys_refused".into(), json!(proof.old_keys_refused));
        }
        all.push(Entry {
            by: a.operator.clone(),
            fixture: a.fixture.clone(),
            outcome: a.outcome,
            code: a.failure.as_ref().map(|f| f.code.to_string()).unwrap_or_default(),
            seconds: a.ended_at_ms.map(|end| (end - a.started_at_ms) as f64 / 1000.0),
            ..plain(a.started_at_ms, Group::Attempt, "attempt", Value::Object(facts))
        });
    }
    for key in record.issued.iter().rev() {
        let state = match (key.state.as_str(), key.retired_at_ms) {
            ("posted", None) => "live",
            ("posted", Some(_)) => "replaced",
            ("voided", _) => "given-up",
            _ => "on-its-way",
        };
        let mut facts = json!({ "key": key.purpose, "generation": key.generation, "fingerprint": key.key_id, "state": state });
        if let Some(at) = key.settled_at_ms.filter(|_| key.state == "posted") {
            facts["confirmed_at"] = json!(Stamp(at));
        }
        if let Some(at) = key.retired_at_ms {
            facts["replaced_at"] = json!(Stamp(at));
        }
        if let Some(why) = &key.void_reason {
            facts["why"] = json!(why);
        }
        all.push(plain(key.reserved_at_ms, Group::Key, "key-made", facts));
    }
    for e in record.events.iter().rev() {
        let mut facts = e.detail.clone();
        let by = facts.get("operator").and_then(Value::as_str).unwrap_or_default().to_owned();
        if let Value::Object(facts) = &mut facts {
            facts.remove("operator");
            // The comparison has a place of its own.
            facts.remove("comparison");
        }
        all.push(Entry { by, ..plain(e.at_ms, Group::of_event(&e.kind), &e.kind, facts) });
    }
    for x in record.exports.iter().rev() {
        let mut facts =
            json!({ "export": x.id, "format": x.format, "file": x.file, "protection": x.protection });
        let more = [
            ("handed_to", (!x.handed_to.is_empty()).then(|| json!(x.handed_to))),
            ("agent_key", (x.agent_key > 0).then(|| json!(x.agent_key))),
            ("cloud_key", (x.cloud_key > 0).then(|| json!(x.cloud_key))),
            ("revoked_at", x.revoked_at_ms.map(|at| json!(Stamp(at)))),
        ];
        for (name, value) in more {
            if let Some(value) = value {
                facts[name] = value;
            }
        }
        all.push(Entry { by: x.operator.clone(), ..plain(x.at_ms, Group::Export, "export", facts) });
    }
    all.sort_by_key(|e| e.at.0);
    all
}

/// What stands at the head of a traveler.
pub fn head(record: &UnitRecord) -> Vec<(&'static str, String)> {
    let unit = &record.unit;
    let key = |purpose: &str| {
        record
            .live_key(purpose)
            .map_or_else(String::new, |k| format!("generation {}, {}", k.generation, k.key_id))
    };
    let mut all = vec![
        ("serial", unit.serial.clone()),
        ("hardware id", unit.id.to_string()),
        ("state", unit.state.as_str().into()),
        ("batch", record.batch.name.clone()),
        ("product order", record.order.name.clone()),
        ("model", format!("{} rev. {}", record.order.model, record.order.hw_revision)),
        ("firmware", record.firmware.clone().unwrap_or_default()),
        ("firmware image", record.order.image_sha256.clone().unwrap_or_default()),
        ("agent key", key("agent")),
        ("cloud key", key("cloud")),
        ("region", record.region.to_string()),
        ("anchors", record.anchor_fingerprint.clone().unwrap_or_default()),
        ("supersedes", record.supersedes.clone().unwrap_or_default()),
        ("label", record.label.clone().unwrap_or_default()),
    ];
    if let Some(rma) = record.open_rma() {
        all.push(("open RMA", format!("{}: {}", rma.number, rma.reason)));
    }
    all.retain(|(_, value)| !value.is_empty());
    all
}

/// In which form a traveler is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Form {
    /// Text for a report, times in UTC.
    #[default]
    Text,
    /// One row per line, for a spreadsheet.
    Csv,
    /// One document.
    Json,
}

impl Form {
    /// Every form.
    pub const ALL: [Self; 3] = [Self::Text, Self::Csv, Self::Json];

    /// The end of a file's name.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }
}

/// The columns of the CSV form.
const COLUMNS: [&str; 9] = ["at", "group", "what", "by", "fixture", "outcome", "code", "seconds", "facts"];

/// A traveler with the lines of these groups (none named: of all), in one of its forms.
pub fn write(record: &UnitRecord, groups: &[Group], form: Form) -> String {
    let mut lines = entries(record);
    lines.retain(|e| groups.is_empty() || groups.contains(&e.group));
    match form {
        Form::Text => {
            let mut text = String::new();
            for (name, value) in head(record) {
                let _ = writeln!(text, "{name:<16}{value}");
            }
            text.push('\n');
            for e in &lines {
                let seconds = e.seconds.map(|s| format!("{s:.1} s")).unwrap_or_default();
                let outcome = e.outcome.map(Outcome::as_str).unwrap_or_default();
                let parts =
                    [outcome, &e.code, &e.fixture, &e.by, &seconds, &e.facts_line()].map(str::to_owned);
                let parts: Vec<_> = parts.into_iter().filter(|p| !p.is_empty()).collect();
                let _ =
                    writeln!(text, "{}  {:<10}{:<24}{}", e.at, e.group.as_str(), e.what, parts.join("; "));
            }
            text
        }
        Form::Csv => {
            let mut out = csv::Writer::from_writer(Vec::new());
            let mut rows = vec![COLUMNS.map(str::to_owned)];
            rows.extend(lines.iter().map(|e| {
                [
                    e.at.to_string(),
                    e.group.as_str().into(),
                    e.what.clone(),
                    inert(&e.by),
                    inert(&e.fixture),
                    e.outcome.map(|o| o.as_str().to_owned()).unwrap_or_default(),
                    e.code.clone(),
                    e.seconds.map(|s| s.to_string()).unwrap_or_default(),
                    if e.facts.is_null() { String::new() } else { e.facts.to_string() },
                ]
            }));
            for row in rows {
                // Into memory: nothing can fail.
                let _ = out.write_record(&row);
            }
            String::from_utf8(out.into_inner().unwrap_or_default()).unwrap_or_default()
        }
        Form::Json => {
            let head: Map<String, Value> = head(record)
                .into_iter()
                .map(|(name, value)| (name.replace(' ', "_"), json!(value)))
                .collect();
            let whole = json!({ "unit": head, "lines": lines, "rmas": record.rmas, "orders": record.orders });
            let mut text = serde_json::to_string_pretty(&whole).unwrap_or_default();
            text.push('\n');
            text
        }
    }
}

/// Writes a traveler into a new file.
///
/// # Errors
/// `ExportIo` with the file's name; one that is there already is left alone.
pub fn save(
    record: &UnitRecord,
    groups: &[Group],
    form: Form,
    path: &std::path::Path,
) -> Result<(), Failure> {
    use std::io::Write as _;
    let told = |e: std::io::Error| Failure::new(FailureCode::ExportIo, format!("{}: {e}", path.display()));
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(told)?;
    }
    let mut file = std::fs::File::create_new(path).map_err(told)?;
    file.write_all(write(record, groups, form).as_bytes()).and_then(|()| file.sync_all()).map_err(told)
}

/// A cell that a spreadsheet takes for text: names are typed by people, and one that begins like a formula would be one.
fn inert(cell: &str) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell.to_owned() }
}

/// The name of the file that a traveler is saved under.
pub fn file_name(record: &UnitRecord, now_ms: i64, form: Form) -> String {
    let stamp: String =
        Stamp(now_ms).to_string().chars().filter(|c| c.is_ascii_alphanumeric()).take(15).collect();
    let serial: String = record.unit.serial.chars().map(|c| if c == '/' { '_' } else { c }).collect();
    format!("{serial}-{stamp}.{}", form.extension())
}
