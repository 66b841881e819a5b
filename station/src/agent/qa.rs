//! Units that come back, and product keys that leak: in which order an old identity dies.
//!
//! - New keys, another region: the unit asks under the keys it has, so those die *last*, when it has shown the new ones.
//! - New start, scrap, quarantine: nobody can ask for the unit, so its identity dies *first*, at the cloud before the records: a key
//!   that counts for nothing here must open no door there.
//!
//! Every step is in the records before the next one begins, and repeating all of them changes nothing: whoever was interrupted gives
//! the same command again.

use super::embedded::{EmbeddedAgent, active_place, region_of, told};
use crate::failure::{Failure, FailureCode};
use crate::model::{PoId, UnitId, UnitState};
use crate::records::{AgentView, EnrolmentRow, NewReprovision, Records, Reprovision, ReprovisionKind, Why};
use serde::Serialize;

/// What came of making a product key invalid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Invalidated {
    /// Units that are in quarantine now.
    pub quarantined: u32,
    /// Of them, those that their cloud lets in no more.
    pub blocked: u32,
    /// Units whose cloud did not answer, and why: give the command again.
    pub left: Vec<(UnitId, String)>,
}

/// What the agent has of a unit: numbers, never keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Its agent key counts.
    pub enrolled: bool,
    /// Generation of its agent key; 0: none.
    pub agent_key: u32,
    /// Generation of its cloud key; 0: none.
    pub cloud_key: u32,
    /// Generation of the cloud key that is on its way to it; 0: none.
    pub cloud_staged: u32,
    /// Generation of the cloud key that it leaves behind at another platform; 0: none.
    pub cloud_leaving: u32,
    /// Region whose anchors it has, or will get first.
    pub region: u32,
    /// Region that it is to move to; 0: it stays.
    pub region_wanted: u32,
}

impl Standing {
    /// Keys that open anything, here or at a cloud.
    pub fn living(&self) -> u32 {
        [self.agent_key, self.cloud_key, self.cloud_staged, self.cloud_leaving]
            .iter()
            .map(|generation| u32::from(*generation > 0))
            .sum()
    }

    /// The same by name, for the command line: `agent key 1, cloud key 2`.
    pub fn living_words(&self) -> String {
        let keys = [
            ("agent key", self.agent_key),
            ("cloud key", self.cloud_key),
            ("cloud key on its way", self.cloud_staged),
            ("cloud key at the cloud it leaves", self.cloud_leaving),
        ];
        let living: Vec<_> =
            keys.iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{what} {n}")).collect();
        living.join(", ")
    }
}

impl EmbeddedAgent {
    /// Whether the cloud with this URL answers now, in words.
    ///
    /// # Errors
    /// What the cloud's platform says, or that the station has none there.
    pub fn reach(&self, url: &str) -> Result<String, Failure> {
        self.cloud().reach(url)
    }

    /// Regions whose keys are on this station, ascending.
    pub fn regions(&self) -> Vec<u32> {
        self.anchors().regions().collect()
    }

    /// What the agent has of a unit.
    ///
    /// # Errors
    /// `InvalidInput` for one that was never here, `RecordsFailed`.
    pub fn standing(&self, unit: UnitId) -> Result<Standing, Failure> {
        let Some(view) = self.records.0.agent_view(unit).map_err(told)? else {
            return Err(Failure::new(FailureCode::InvalidInput, format!("no unit {unit} was ever here")));
        };
        let order = self.records.product_order(view.po).map_err(told)?;
        let Some(enrolment) = view.enrolment else {
            return Ok(Standing { region: order.region, ..Standing::default() });
        };
        Ok(Standing {
            enrolled: enrolment.active,
            agent_key: enrolment.ak_cur.max(enrolment.ak_next),
            cloud_key: enrolment.ck_active,
            cloud_staged: enrolment.ck_staged,
            cloud_leaving: enrolment.ck_leaving,
            region: if enrolment.region == 0 { order.region } else { enrolment.region },
            region_wanted: enrolment.region_wanted,
        })
    }

    fn known(&self, unit: UnitId) -> Result<(AgentView, EnrolmentRow), Failure> {
        match self.records.0.agent_view(unit).map_err(told)? {
            Some(mut view) => match view.enrolment.take() {
                Some(enrolment) => Ok((view, enrolment)),
                None => Err(Failure::new(FailureCode::NothingToRenew, format!("unit {unit}"))),
            },
            None => Err(Failure::new(FailureCode::InvalidInput, format!("no unit {unit} was ever here"))),
        }
    }

    /// Retires every identity of the unit wherever one may still live.
    pub(super) fn retire_all(&self, unit: UnitId, enrolment: &EnrolmentRow) -> Result<(), Failure> {
        let order = self.order(PoId(enrolment.po))?;
        let living = [
            (enrolment.ck_staged, enrolment.cloud_staged.as_str()),
            (enrolment.ck_leaving, enrolment.cloud_leaving.as_str()),
            (enrolment.ck_active, active_place(enrolment, &order)),
        ];
        for (generation, at) in living {
            if generation > 0 {
                self.cloud.retire(at, unit, generation)?;
            }
        }
        Ok(())
    }

    /// The platforms that may know the unit.
    fn places_of(&self, enrolment: &EnrolmentRow) -> Result<Vec<String>, Failure> {
        let order = self.order(PoId(enrolment.po))?;
        let mut places = vec![active_place(enrolment, &order).to_owned()];
        for at in [&enrolment.cloud_staged, &enrolment.cloud_leaving] {
            if !at.is_empty() && !places.contains(at) {
                places.push(at.clone());
            }
        }
        Ok(places)
    }

    /// Opens an order of QA for a unit, and does what can be done without the unit. The same order given again goes on where it
    /// stopped.
    ///
    /// # Errors
    /// `InvalidInput` for a unit or a reason that can't be, `NothingToRenew`, `Quarantined`, `Scrapped`, `ProductKeyInvalid`,
    /// `AnchorsMissing`, `CloudRefused` or `BrokerUnreachable` if the old identity could not be retired.
    pub fn reprovision(&self, unit: UnitId, new: NewReprovision) -> Result<Reprovision, Failure> {
        let _guard = self.records.0.unit_guard(unit);
        let (view, enrolment) = self.known(unit)?;
        match new.kind {
            ReprovisionKind::MoveRegion => {
                // A region whose keys are not here is said now, not when the unit stands half-way.
                self.anchors().region(new.region)?.check_valid()?;
                let order = self.order(PoId(enrolment.po))?;
                if region_of(Some(&enrolment), &order) == new.region {
                    return Err(Failure::new(
                        FailureCode::InvalidInput,
                        format!("unit {unit} is in region {} already", new.region),
                    ));
                }
            }
            // It will ask for a first key again, and nobody answers under an invalid one.
            ReprovisionKind::NewStart => {
                let order = self.records.product_order(view.po).map_err(told)?;
                if order.key_invalid_at_ms.is_some() {
                    return Err(Failure::new(FailureCode::ProductKeyInvalid, order.name));
                }
            }
            ReprovisionKind::NewKeys => {}
        }
        if new.kind != ReprovisionKind::NewStart && view.state != UnitState::Passed {
            return Err(Failure::new(
                FailureCode::NothingToRenew,
                format!("unit {unit} is {}, not passed", view.state.as_str()),
            ));
        }
        let order = self.records.0.open_reprovision(unit, new).map_err(told)?;
        match order.kind {
            ReprovisionKind::NewKeys => {}
            ReprovisionKind::MoveRegion => self.records.0.want_region(unit, order.region).map_err(told)?,
            ReprovisionKind::NewStart => {
                if !order.revoked {
                    self.retire_all(unit, &enrolment)?;
                }
                self.records.0.reopen(unit, order.id).map_err(told)?;
            }
        }
        Ok(order)
    }

    /// Takes back an order that is still open. What it did stays done.
    ///
    /// # Errors
    /// `InvalidInput` for a reason that can't be, `RecordsFailed`.
    pub fn withdraw_reprovision(&self, unit: UnitId, reason: &str, operator: &str) -> Result<(), Failure> {
        let _guard = self.records.0.unit_guard(unit);
        self.records.0.withdraw_reprovision(unit, reason, operator).map_err(told)
    }

    /// Sets a unit aside: no key is issued to it, and its cloud lets it in no more.
    ///
    /// # Errors
    /// `Scrapped`, `InvalidInput`; `BrokerUnreachable` if the cloud was not reached: it is in quarantine here all the same.
    pub fn quarantine(&self, unit: UnitId, why: impl Into<Why>, operator: &str) -> Result<(), Failure> {
        let why = &why.into();
        let _guard = self.records.0.unit_guard(unit);
        // The agent is silent from here on; a cloud that does not answer now is asked by the same command later.
        self.records.0.quarantine(unit, why, operator).map_err(told)?;
        self.block(unit)
    }

    fn block(&self, unit: UnitId) -> Result<(), Failure> {
        let view = self.records.0.agent_view(unit).map_err(told)?;
        if let Some(enrolment) = view.and_then(|v| v.enrolment) {
            for at in self.places_of(&enrolment)? {
                self.cloud.block(&at, unit)?;
            }
        }
        Ok(())
    }

    /// Ends a quarantine; the unit is what it was before.
    ///
    /// # Errors
    /// `InvalidInput`, `CloudRefused`, `BrokerUnreachable`.
    pub fn release(&self, unit: UnitId, why: impl Into<Why>, operator: &str) -> Result<(), Failure> {
        let why = &why.into();
        let _guard = self.records.0.unit_guard(unit);
        let view = self.records.0.agent_view(unit).map_err(told)?;
        let quarantined = view.as_ref().is_some_and(|v| v.state == UnitState::Quarantined);
        if let Some(enrolment) = view.filter(|_| quarantined).and_then(|v| v.enrolment) {
            for at in self.places_of(&enrolment)? {
                self.cloud.unblock(&at, unit)?;
            }
        }
        self.records.0.release(unit, why, operator).map_err(told)
    }

    /// Takes a unit out for ever.
    ///
    /// # Errors
    /// `InvalidInput`; `BrokerUnreachable` if the cloud was not reached: it is in quarantine until the command is given again.
    pub fn scrap(&self, unit: UnitId, why: impl Into<Why>, operator: &str) -> Result<(), Failure> {
        let why = &why.into();
        let _guard = self.records.0.unit_guard(unit);
        let view = self.records.0.agent_view(unit).map_err(told)?;
        let state = view.as_ref().map(|v| v.state);
        if let Some(enrolment) = view.and_then(|v| v.enrolment)
            && state != Some(UnitState::Scrapped)
        {
            self.records.0.quarantine(unit, why, operator).map_err(told)?;
            self.retire_all(unit, &enrolment)?;
            for at in self.places_of(&enrolment)? {
                self.cloud.block(&at, unit)?;
            }
        }
        self.records.0.scrap(unit, why, operator).map_err(told)
    }

    /// A product key leaked (seed 003 §VII): it counts for nothing any more, and what it enrolled since `since_ms` (Unix
    /// milliseconds) is in quarantine, here and at the cloud. May be repeated.
    ///
    /// # Errors
    /// `InvalidInput`, `RecordsFailed`. Clouds that did not answer are in the report.
    pub fn invalidate_product_key(
        &self,
        po: PoId,
        since_ms: i64,
        reason: &str,
        operator: &str,
    ) -> Result<Invalidated, Failure> {
        let units = self.records.0.invalidate_product_key(po, since_ms, reason, operator).map_err(told)?;
        let mut report = Invalidated { quarantined: units.len() as u32, ..Invalidated::default() };
        for unit in units {
            let _guard = self.records.0.unit_guard(unit);
            match self.block(unit) {
                Ok(()) => report.blocked += 1,
                Err(failure) => report.left.push((unit, failure.sentence)),
            }
        }
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn living_keys_are_named_and_counted_alike() {
        let keys = Standing { agent_key: 3, cloud_key: 2, cloud_leaving: 1, ..Standing::default() };
        assert_eq!(keys.living_words(), "agent key 3, cloud key 2, cloud key at the cloud it leaves 1");
        assert_eq!((keys.living(), Standing::default().living_words().as_str()), (3, ""));
    }
}
