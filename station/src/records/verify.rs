//! The walk over both histories and the people: every place that does not fit, not only the first.
//!
//! Invariants:
//! - A bad row ends nothing: the walk goes on from what stands in it, so each place is one that was touched by itself.
//! - What the station found when it opened is told together with what was touched since.

use super::RecordsError;
use super::people_store::{
    BROKEN, Broken, PersonRow, audit_rows, end_broken, head, last_row, person_rows, roll,
};
use super::sqlite::{Inner, event_chain};
use crate::secrets::StationKey;
use keywright_protocol::crypto;
use rusqlite::Connection;
use std::ops::ControlFlow;

/// Places that are told at most; a database that was written anew would else fill the memory.
const MOST: usize = 1000;
/// How often it is told how far the walk is, in rows.
const STEP: u64 = 512;

/// What a look at both histories found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Rows of the audit log that fit.
    pub audit: u64,
    /// Rows of the units' history that fit.
    pub events: u64,
    /// Every place that does not fit, the audit log's first.
    pub broken: Vec<Broken>,
    /// Places that were left out of `broken` because there are too many.
    pub left_out: u64,
}

impl Verified {
    fn add(&mut self, broken: Broken) {
        if self.broken.len() < MOST {
            self.broken.push(broken);
        } else {
            self.left_out += 1;
        }
    }

    /// All places that do not fit.
    pub fn places(&self) -> u64 {
        self.broken.len() as u64 + self.left_out
    }

    /// What to say of it in one sentence; `None`: everything is whole.
    pub fn summary(&self) -> Option<String> {
        let first = self.broken.first()?;
        Some(match self.places() {
            1 => first.to_string(),
            n => format!("{first}; {} more places don't fit", n - 1),
        })
    }
}

/// How far a look at the histories is, in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Rows that were looked at.
    pub done: u64,
    /// All rows.
    pub total: u64,
}

/// Asked now and then how far it is; whether to go on is the answer.
pub type Telling<'a> = &'a mut dyn FnMut(Looked) -> ControlFlow<()>;

struct Walk<'a> {
    found: Verified,
    looked: Looked,
    telling: Telling<'a>,
}

impl Walk<'_> {
    /// One more row; false: the walk is to end.
    fn step(&mut self) -> bool {
        self.looked.done += 1;
        // Rows may have come since they were counted.
        self.looked.total = self.looked.total.max(self.looked.done);
        !self.looked.done.is_multiple_of(STEP) || (self.telling)(self.looked).is_continue()
    }
}

impl Inner {
    /// Recomputes both chains and every person's seal, and compares the ends with their heads. `None`: it was told to stop.
    pub(crate) fn verify_all(&self, telling: Telling<'_>) -> Result<Option<Verified>, RecordsError> {
        let key = self.station_key();
        self.read(|c| {
            let rows = |table| Ok::<_, rusqlite::Error>(u64::try_from(last_row(c, table)?).unwrap_or(0));
            let looked = Looked { done: 0, total: rows("audit")? + rows("unit_event")? };
            let mut walk = Walk { found: Verified::default(), looked, telling };
            if (walk.telling)(looked).is_break() || !audit(c, &key, &mut walk)? {
                return Ok(None);
            }
            end_broken(c, &key, "audit", "audit-head")?.into_iter().for_each(|b| walk.found.add(b));
            let mut goes_on = true;
            event_chain(c, &mut |broken| {
                match broken {
                    None => walk.found.events += 1,
                    Some(broken) => walk.found.add(broken),
                }
                goes_on = walk.step();
                goes_on
            })?;
            if !goes_on {
                return Ok(None);
            }
            end_broken(c, &key, "unit_event", "event-head")?.into_iter().for_each(|b| walk.found.add(b));
            people(c, &key, &mut walk.found)?;
            Ok(Some(walk.found))
        })
    }
}

/// False: it was told to stop.
fn audit(c: &Connection, key: &StationKey, walk: &mut Walk<'_>) -> rusqlite::Result<bool> {
    // What stands in the row before, and what should stand there: where a row's own link was changed, the next follows the second.
    let (mut stood, mut should, mut expected) = ([0u8; 32], [0u8; 32], 1i64);
    let mut goes_on = true;
    audit_rows(c, |row| {
        let place = |what: String| Broken { table: "audit", row: row.seq, at_ms: Some(row.at_ms), what };
        let computed = row.link(key, &should);
        let fits = crypto::tags_equal(&computed, &row.chain)
            || crypto::tags_equal(&row.link(key, &stood), &row.chain);
        if row.seq != expected {
            walk.found.add(place(format!("row {expected} should be here; rows were removed or renumbered")));
        } else if !fits {
            walk.found.add(place("it is not as it was written".into()));
        } else {
            walk.found.audit += 1;
            if row.action() == BROKEN {
                let what = row.found().unwrap_or_else(|| "a history was found broken".into());
                walk.found.add(place(format!("the station found here, when it opened, that {what}")));
            }
        }
        (stood, should) = (row.chain, if fits { row.chain } else { computed });
        expected = row.seq.saturating_add(1);
        goes_on = walk.step();
        goes_on
    })?;
    Ok(goes_on)
}

fn people(c: &Connection, key: &StationKey, found: &mut Verified) -> rusqlite::Result<()> {
    let mut place = |row: i64, what: String| found.add(Broken { table: "person", row, at_ms: None, what });
    let rows = person_rows(c)?;
    let Some(mut roll) = roll(c, key)? else {
        place(0, "the sealed roll of people is missing or was not made by this station".into());
        let kept = head(c, key, "audit-head")?.map_or(0, |head| head.people);
        if (rows.len() as i64) < kept {
            place(0, format!("there were {kept} people, some are gone"));
        }
        return Ok(());
    };
    for row in rows {
        let newest = roll.remove(&row.person.id);
        if let Some(what) = wrong_with(&row, key, newest.as_ref()) {
            place(row.person.id, what);
        }
    }
    for id in roll.into_keys() {
        place(id, "somebody stood here who is gone".into());
    }
    Ok(())
}

/// What is wrong with a person's row, of which the roll knows this seal; `None`: it is as it was written last.
pub(super) fn wrong_with(row: &PersonRow, key: &StationKey, newest: Option<&[u8; 32]>) -> Option<String> {
    let name = &row.person.name;
    if !row.is_sealed(key) {
        return Some(format!("the row of {name:?} was changed outside Keywright"));
    }
    match newest {
        Some(seal) if crypto::tags_equal(seal, row.seal()) => None,
        Some(_) => Some(format!("an older row of {name:?} was put back outside Keywright")),
        None => Some(format!("the row of {name:?} was put in outside Keywright")),
    }
}
