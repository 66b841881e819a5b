//! Labels: what stands on them, how they are printed, and what a scanner reads back.
//!
//! Code map: [`template`] reads the text with `$placeholders` and fills it in, [`code`] is the text in the square code, [`sink`]
//! brings a file to a printer, [`desk`] lets one label at a time out on the bench, [`hand`] prints and reads back beside the line. Formats and settings: `docs/labels.md`.
//!
//! Invariants:
//! - A label holds no secret: serial, hardware id, papers, and a fingerprint of the region's anchor.
//! - A value can't become a printer's command: templates are checked when they are loaded, values are escaped.
//! - Printing touches no key. What failed to print is printed again, and nothing else is done again.

pub mod code;
pub mod desk;
pub mod hand;
#[cfg(feature = "gui")]
pub mod preview;
pub mod sink;
pub mod template;

pub use code::{CodeError, LabelCode};
pub use desk::LabelDesk;
pub use sink::Sink;
pub use template::{Template, TemplateError};

use crate::config::Config;
use crate::failure::{Failure, FailureCode};
use crate::model::UnitId;
use crate::records::LabelFacts;
use std::path::PathBuf;
use std::time::Duration;

/// How long a printer may take for a label if `station.toml` says nothing.
pub const LABEL_TIMEOUT: Duration = Duration::from_secs(15);

/// `[label]` in `station.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelConfig {
    /// The template.
    pub template: PathBuf,
    /// Where labels go.
    pub sink: Sink,
    /// How long a printer may take for one.
    pub timeout: Duration,
}

/// A template and a printer, ready.
#[derive(Clone, Debug)]
pub struct Printer {
    template: Template,
    sink: Sink,
    timeout: Duration,
}

impl Printer {
    /// Reads the template.
    ///
    /// # Errors
    /// `PrinterMissing` if the station has none, `LabelTemplate` with file, line and column.
    pub fn open(config: &Config) -> Result<Self, Failure> {
        let Some(label) = &config.label else {
            return Err(Failure::new(FailureCode::PrinterMissing, ""));
        };
        let text = std::fs::read_to_string(&label.template).map_err(|e| {
            Failure::new(FailureCode::LabelTemplate, format!("{}: {e}", label.template.display()))
        })?;
        let template = Template::parse(&text).map_err(|e| {
            Failure::new(FailureCode::LabelTemplate, format!("{}:{e}", label.template.display()))
        })?;
        Ok(Self { template, sink: label.sink.clone(), timeout: label.timeout })
    }

    /// A printer of these parts.
    pub const fn new(template: Template, sink: Sink, timeout: Duration) -> Self {
        Self { template, sink, timeout }
    }

    /// Where its labels go, in words.
    pub fn place(&self) -> String {
        self.sink.to_string()
    }

    /// Whether the printer can be reached; nothing is printed.
    ///
    /// # Errors
    /// `PrintFailed` with why not.
    pub fn reach(&self, limit: Duration) -> Result<(), Failure> {
        self.sink
            .reach(limit)
            .map_err(|e| Failure::new(FailureCode::PrintFailed, format!("{}: {e}", self.sink)))
    }

    /// Whether its labels have the square code that can be read back.
    pub fn has_code(&self) -> bool {
        self.template.has_code()
    }

    /// Prints one label.
    ///
    /// # Errors
    /// `PrintFailed` with the printer's own words; nothing is known of a label then.
    pub fn print(&self, facts: &LabelFacts, operator: &str, now_ms: i64) -> Result<(), Failure> {
        let text = self.template.fill(&values(facts, operator, now_ms)?);
        self.sink
            .send(text.as_bytes(), self.timeout)
            .map_err(|e| Failure::new(FailureCode::PrintFailed, format!("{}: {e}", self.sink)))
    }
}

/// The code that belongs on a unit's label.
///
/// # Errors
/// `InvalidInput` for a unit that has no anchor yet: it is not finished.
pub fn code_of(facts: &LabelFacts) -> Result<LabelCode, Failure> {
    let anchor = facts.anchor_fingerprint.as_deref().ok_or_else(|| Failure {
        code: FailureCode::InvalidInput,
        sentence: format!("Unit {} has no region anchor yet, so its label can't be made", facts.serial),
        remedy: "Let it finish on the line first".into(),
    })?;
    LabelCode::new(&facts.serial, anchor).map_err(|e| Failure::new(FailureCode::StationFault, e))
}

/// The values of a template's placeholders, by name.
fn values(facts: &LabelFacts, operator: &str, now_ms: i64) -> Result<template::Values, Failure> {
    let code = code_of(facts)?;
    let at =
        jiff::Timestamp::from_millisecond(now_ms).unwrap_or_default().to_zoned(jiff::tz::TimeZone::system());
    Ok(template::Values {
        serial: facts.serial.clone(),
        uid: facts.unit.to_string(),
        batch: facts.batch.clone(),
        po: facts.po.clone(),
        model: facts.model.clone(),
        hw_revision: facts.hw_revision.clone(),
        part_number: facts.part_number.clone(),
        region: facts.region.to_string(),
        anchor: code.anchor().to_owned(),
        operator: operator.to_owned(),
        date: at.strftime("%Y-%m-%d").to_string(),
        time: at.strftime("%H:%M").to_string(),
        code: code.to_string(),
    })
}

/// Whether a reason in somebody's words asks for a label: it names one.
pub fn is_named_in(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    reason.contains("label") || reason.contains("标签")
}

/// What a test label shows: clearly no unit's.
pub fn test_facts() -> LabelFacts {
    LabelFacts {
        unit: UnitId(*b"TEST-LABEL!!"),
        serial: "TEST-00000X".into(),
        batch: "TEST".into(),
        po: "TEST".into(),
        model: "TEST-LABEL".into(),
        hw_revision: "0".into(),
        part_number: "^~_ TEST".into(),
        region: 0,
        anchor_fingerprint: Some("0".repeat(64)),
        generation: 0,
        printed_code: None,
        printed_at_ms: None,
        scanned_at_ms: None,
        prints: 0,
    }
}

/// Compares what a scanner read from a label with the record of the device that answered.
///
/// # Errors
/// `LabelMismatch` with both values, never more than stands on labels.
pub fn compare(read: &LabelCode, record: &LabelCode) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    if !read.serial().eq_ignore_ascii_case(record.serial()) {
        wrong.push(format!("label {}, unit {}", read.serial(), record.serial()));
    }
    if read.anchor() != record.anchor() {
        wrong.push(format!("label's anchor {}, unit's anchor {}", read.anchor(), record.anchor()));
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::new(FailureCode::LabelMismatch, wrong.join("; "))) }
}
