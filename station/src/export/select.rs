//! Which units a list is of: a batch, or a query.

use super::Stamp;
use crate::model::UnitState;
use std::fmt;

/// What is not said does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Units of this batch.
    pub batch: Option<String>,
    /// In this state.
    pub state: Option<UnitState>,
    /// Of this region.
    pub region: Option<u32>,
    /// Whose last attempt began at this moment or later.
    pub since: Option<Stamp>,
    /// Whose last attempt began before this moment.
    pub until: Option<Stamp>,
    /// Whose last attempt failed, or did not.
    pub failed: Option<bool>,
}

impl Selection {
    /// A whole batch.
    pub fn batch(name: impl Into<String>) -> Self {
        Self { batch: Some(name.into()), ..Self::default() }
    }

    /// Whether it is a batch and nothing else.
    pub fn is_whole_batch(&self) -> bool {
        self.batch.is_some() && *self == Self { batch: self.batch.clone(), ..Self::default() }
    }

    /// What stands in file names: the batch, `<batch>.part`, or `query`.
    pub fn label(&self) -> String {
        match &self.batch {
            Some(batch) if self.is_whole_batch() => batch.clone(),
            Some(batch) => format!("{batch}.part"),
            None => "query".into(),
        }
    }

    /// Adds one condition, `key=value`.
    ///
    /// # Errors
    /// What was expected.
    pub fn and(&mut self, condition: &str) -> Result<(), String> {
        let (key, value) = condition.split_once('=').ok_or_else(|| {
            format!("a condition is KEY=VALUE with the key batch, state, region, since, until or failed, got {condition:?}")
        })?;
        let value = value.trim();
        // A day is its first moment.
        let moment = || if value.len() == 10 { format!("{value}T00:00:00Z").parse() } else { value.parse() };
        match key.trim() {
            "batch" => self.batch = Some(value.to_owned()),
            "state" => self.state = Some(value.parse()?),
            "region" => {
                let region = value.parse::<u32>().ok().filter(|r| *r > 0);
                self.region =
                    Some(region.ok_or_else(|| format!("a region is a number from 1, got {value:?}"))?);
            }
            "since" => self.since = Some(moment()?),
            "until" => self.until = Some(moment()?),
            "failed" => {
                self.failed = Some(match value {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(format!("failed is yes or no, got {value:?}")),
                });
            }
            other => {
                return Err(format!(
                    "units are chosen by batch, state, region, since, until or failed, not by {other:?}"
                ));
            }
        }
        Ok(())
    }
}

/// The words that the records keep; [`Selection::from_str`] reads them.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            self.batch.as_ref().map(|b| format!("batch={b}")),
            self.state.map(|s| format!("state={}", s.as_str())),
            self.region.map(|r| format!("region={r}")),
            self.since.map(|t| format!("since={t}")),
            self.until.map(|t| format!("until={t}")),
            self.failed.map(|yes| format!("failed={}", if yes { "yes" } else { "no" })),
        ];
        let words: Vec<String> = words.into_iter().flatten().collect();
        f.write_str(if words.is_empty() { "all" } else { "" })?;
        // A batch's name may hold blanks, so a line feed would be clearer to machines; people read it more often.
        f.write_str(&words.join(" & "))
    }
}

impl std::str::FromStr for Selection {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut selection = Self::default();
        if text != "all" {
            for condition in text.split(" & ") {
                selection.and(condition)?;
            }
        }
        Ok(selection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_survives_its_words_and_names_its_files() {
        let mut some = Selection::batch("B 7");
        assert_eq!((some.label().as_str(), some.is_whole_batch()), ("B 7", true));
        for condition in
            ["state=passed", "region=7", "since=2026-01-31", "until=2026-02-01T08:30:00.000Z", "failed=no"]
        {
            some.and(condition).unwrap();
        }
        assert_eq!(some.label(), "B 7.part");
        assert_eq!(some.to_string().parse::<Selection>().unwrap(), some);
        assert_eq!(some.since.unwrap().to_string(), "2026-01-31T00:00:00.000Z");
        let all = Selection::default();
        assert_eq!((all.to_string().as_str(), all.label().as_str()), ("all", "query"));
        assert_eq!("all".parse::<Selection>().unwrap(), all);
        for bad in ["state", "state=gone", "region=0", "colour=red", "failed=maybe", "since=yesterday"] {
            assert!(Selection::default().and(bad).is_err(), "{bad}");
        }
    }
}
