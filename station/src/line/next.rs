//! What to do next with a unit: one pure function over what the records say and what the chip says.
//!
//! A unit that comes back half-done, twice, to another fixture or next week is an ordinary input. The match names
//! every case, so that a new state does not compile until somebody has decided about it.

use crate::failure::{Failure, FailureCode};
use crate::model::UnitState;
use keywright_protocol::control::{Stage, Status};

/// The unit as the records know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitRecordView {
    /// How far it had come.
    pub state: UnitState,
    /// It belongs to the batch that runs here.
    pub same_batch: bool,
    /// The chip is at read protection level 1: nothing can be written to its flash, and opening it erases all.
    pub locked: bool,
    /// QA ordered a new start: its keys are dead everywhere, and whatever the chip holds may be erased.
    pub reopened: bool,
}

/// How far the unit itself says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// No product key.
    NoProductKey,
    /// Product key, no agent key.
    ProductKey,
    /// Agent key committed, its confirmation owed.
    AgentKeyPending,
    /// Agent key active.
    AgentKeyActive,
    /// Cloud key committed, its confirmation owed.
    CloudKeyPending,
    /// Both keys active.
    Active,
    /// A stage this station does not know.
    Unknown(u8),
}

impl From<Stage> for Reported {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::EMPTY => Self::NoProductKey,
            Stage::PRODUCT_KEY => Self::ProductKey,
            Stage::AGENT_KEY_PENDING => Self::AgentKeyPending,
            Stage::AGENT_KEY_ACTIVE => Self::AgentKeyActive,
            Stage::CLOUD_KEY_PENDING => Self::CloudKeyPending,
            Stage::ACTIVE => Self::Active,
            Stage(other) => Self::Unknown(other),
        }
    }
}

/// The unit as the fixture sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceStatus {
    /// Blank, half-flashed or with other firmware; no keys of a unit on it.
    Empty,
    /// Without our image, but a key area holds a unit's keys.
    EmptyKeyed,
    /// Stage one is whole, byte for byte; the unit has not been asked.
    StageOne,
    /// Our image with a unit's keys; the unit has not been asked.
    Keyed,
    /// Read-protected: what the flash holds only the unit itself can say. It has not been asked.
    Locked,
    /// It was asked and did not answer.
    Silent,
    /// It answered.
    Reported {
        /// How far it is.
        stage: Reported,
        /// It names this batch's product order (or none).
        same_order: bool,
    },
}

impl DeviceStatus {
    /// From what the probe read.
    pub fn seen(contents: &super::bench::Contents) -> Self {
        match (contents.image, contents.keys, contents.product_key) {
            (true, true, _) => Self::Keyed,
            (true, false, true) => Self::StageOne,
            (false, true, _) => Self::EmptyKeyed,
            (true, false, false) | (false, false, _) => Self::Empty,
        }
    }

    /// From what the unit said.
    pub fn reported(status: &Status, po16: &[u8; 16]) -> Self {
        let none = status.order.0 == [0; 16];
        Self::Reported { stage: status.stage.into(), same_order: none || status.order.0 == *po16 }
    }
}

/// What the worker does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Take the lock off, which erases all of the flash.
    Erase,
    /// Stage one. With `forget`, keys that the unit never proved are voided afterwards.
    Flash {
        /// Keys may have been issued to what is erased now.
        forget: bool,
    },
    /// Stage one is on the chip already: record it. `forget` as above.
    Adopt {
        /// Keys may have been issued to what was erased.
        forget: bool,
    },
    /// Let it run and ask it.
    Ask,
    /// Relay until the agent key is active.
    AgentKey,
    /// Relay until the cloud key is active.
    CloudKey,
    /// Reset, challenge, check, lock: the end.
    Prove,
    /// Not here, not now.
    Refuse(Refusal),
}

/// Why a unit is not worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another batch's.
    OtherBatch,
    /// Set aside.
    Quarantined,
    /// Taken out for ever.
    Scrapped,
    /// Keys on the chip that this station's records do not explain.
    ForeignKeys,
    /// It passed, but the chip no longer holds what was proved.
    KeysGone,
    /// No answer on the serial port.
    Silent,
    /// It speaks of a stage this station does not know.
    UnknownStage(u8),
}

impl Refusal {
    /// As people read it.
    pub fn failure(self) -> Failure {
        match self {
            Self::OtherBatch => Failure::new(FailureCode::OtherBatch, ""),
            Self::Quarantined => Failure::new(FailureCode::Quarantined, ""),
            Self::Scrapped => Failure::new(FailureCode::Scrapped, ""),
            Self::ForeignKeys => Failure::new(FailureCode::ForeignKeys, ""),
            Self::KeysGone => Failure::new(FailureCode::KeysGone, ""),
            Self::Silent => Failure::new(FailureCode::DeviceSilent, ""),
            Self::UnknownStage(n) => {
                Failure::new(FailureCode::ProtocolVersion, format!("it reports stage {n}"))
            }
        }
    }
}

/// Decides. Pure; every case is named.
pub fn next_step(record: &UnitRecordView, device: &DeviceStatus) -> NextStep {
    use DeviceStatus::{Empty, EmptyKeyed, Keyed, Locked, Reported as Says, Silent, StageOne as Whole};
    use NextStep::{Adopt, AgentKey, Ask, CloudKey, Erase, Flash, Prove, Refuse};
    use Reported::{
        Active, AgentKeyActive, AgentKeyPending, CloudKeyPending, NoProductKey, ProductKey, Unknown,
    };
    use UnitState::*;

    if !record.same_batch {
        return Refuse(Refusal::OtherBatch);
    }
    let step = match (record.state, *device) {
        // Set aside: nothing on the chip changes that.
        (Quarantined, Empty | EmptyKeyed | Whole | Keyed | Locked | Silent | Says { .. }) => {
            Refuse(Refusal::Quarantined)
        }
        (Scrapped, Empty | EmptyKeyed | Whole | Keyed | Locked | Silent | Says { .. }) => {
            Refuse(Refusal::Scrapped)
        }

        // Whoever does not answer can't be helped from here.
        (Arrived | Flashing | StageOne | UnitState::AgentKey | UnitState::CloudKey | Passed, Silent) => {
            Refuse(Refusal::Silent)
        }
        // Its keys belong to another order than its record.
        (
            Arrived | Flashing | StageOne | UnitState::AgentKey | UnitState::CloudKey | Passed,
            Says { same_order: false, .. },
        ) => Refuse(Refusal::ForeignKeys),
        (
            Arrived | Flashing | StageOne | UnitState::AgentKey | UnitState::CloudKey | Passed,
            Says { stage: Unknown(n), same_order: true },
        ) => Refuse(Refusal::UnknownStage(n)),

        // Its lock was this station's own, and QA said what becomes of it.
        (Flashing, Locked) if record.reopened => Erase,
        // This station locks a unit after its keys were proved, so one that never had both was locked by somebody else.
        (Arrived | Flashing | StageOne | UnitState::AgentKey, Locked) => Refuse(Refusal::ForeignKeys),
        // Stopped between its lock and its PASS, or back from the field: only the unit knows.
        (UnitState::CloudKey | Passed, Locked) => Ask,

        // New here. Keys on it are somebody else's: erasing them is not ours to decide.
        (Arrived, Empty | Says { stage: NoProductKey, same_order: true }) => Flash { forget: false },
        (Arrived, Whole | Says { stage: ProductKey, same_order: true }) => Adopt { forget: false },
        (
            Arrived,
            EmptyKeyed
            | Keyed
            | Says { stage: AgentKeyPending | AgentKeyActive | CloudKeyPending | Active, same_order: true },
        ) => Refuse(Refusal::ForeignKeys),

        // Flashing began: the chip may hold anything, the record before it explains all of it. The process may have
        // died after the last byte and before the row that says so, or before the first erase.
        (Flashing, Whole | Says { stage: ProductKey, same_order: true }) => Adopt { forget: true },
        (
            Flashing,
            Empty
            | EmptyKeyed
            | Keyed
            | Says {
                stage: NoProductKey | AgentKeyPending | AgentKeyActive | CloudKeyPending | Active,
                same_order: true,
            },
        ) => Flash { forget: true },

        // Stage one is recorded but no longer on the chip: erased before it ever passed.
        (
            StageOne | UnitState::AgentKey | UnitState::CloudKey,
            Empty | EmptyKeyed | Says { stage: NoProductKey, same_order: true },
        ) => Flash { forget: true },
        // On its way: ask it.
        (StageOne, Whole | Keyed) | (UnitState::AgentKey | UnitState::CloudKey, Keyed) => Ask,
        // The agent key was confirmed, yet the chip is as stage one left it: it was erased and flashed elsewhere.
        (UnitState::AgentKey | UnitState::CloudKey, Whole) => Adopt { forget: true },
        // The unit knows best how far it is: the process may have died before the row that says so. The proof decides.
        (
            StageOne | UnitState::AgentKey | UnitState::CloudKey,
            Says { stage: ProductKey | AgentKeyPending, same_order: true },
        ) => AgentKey,
        (
            StageOne | UnitState::AgentKey | UnitState::CloudKey,
            Says { stage: AgentKeyActive | CloudKeyPending, same_order: true },
        ) => CloudKey,
        (
            StageOne | UnitState::AgentKey | UnitState::CloudKey | Passed,
            Says { stage: Active, same_order: true },
        ) => Prove,

        // It passed and stopped in the middle of an update: the confirmation it owes is relayed to its end. (One that was erased and
        // enrols anew shows the same stage; the agent does not let it.)
        (Passed, Says { stage: AgentKeyPending | CloudKeyPending, same_order: true }) => CloudKey,
        // Its keys are in the field or on a list, so a new set needs QA's order.
        (Passed, Keyed) => Ask,
        (
            Passed,
            Empty
            | EmptyKeyed
            | Whole
            | Says { stage: NoProductKey | ProductKey | AgentKeyActive, same_order: true },
        ) => Refuse(Refusal::KeysGone),
    };
    match step {
        // Whatever a locked unit says it has lost: only QA may erase it.
        Flash { .. } | Adopt { .. } if record.locked => Refuse(Refusal::KeysGone),
        step => step,
    }
}

#[cfg(test)]
mod tests {
    use super::super::bench::Contents;
    use super::*;

    /// One column per device status, in the order of [`statuses`].
    fn statuses() -> Vec<DeviceStatus> {
        let says = |stage| DeviceStatus::Reported { stage, same_order: true };
        vec![
            DeviceStatus::Empty,
            DeviceStatus::EmptyKeyed,
            DeviceStatus::StageOne,
            DeviceStatus::Keyed,
            DeviceStatus::Locked,
            DeviceStatus::Silent,
            says(Reported::NoProductKey),
            says(Reported::ProductKey),
            says(Reported::AgentKeyPending),
            says(Reported::AgentKeyActive),
            says(Reported::CloudKeyPending),
            says(Reported::Active),
            says(Reported::Unknown(9)),
            DeviceStatus::Reported { stage: Reported::Active, same_order: false },
        ]
    }

    /// F flash, F! flash and forget, A adopt, A! adopt and forget, ? ask, a agent key, c cloud key, P prove,
    /// refusals: k foreign keys, g keys gone, s silent, v version, q quarantined, x scrapped.
    fn letter(step: NextStep) -> &'static str {
        match step {
            NextStep::Erase => "E",
            NextStep::Flash { forget: false } => "F",
            NextStep::Flash { forget: true } => "F!",
            NextStep::Adopt { forget: false } => "A",
            NextStep::Adopt { forget: true } => "A!",
            NextStep::Ask => "?",
            NextStep::AgentKey => "a",
            NextStep::CloudKey => "c",
            NextStep::Prove => "P",
            NextStep::Refuse(Refusal::OtherBatch) => "o",
            NextStep::Refuse(Refusal::Quarantined) => "q",
            NextStep::Refuse(Refusal::Scrapped) => "x",
            NextStep::Refuse(Refusal::ForeignKeys) => "k",
            NextStep::Refuse(Refusal::KeysGone) => "g",
            NextStep::Refuse(Refusal::Silent) => "s",
            NextStep::Refuse(Refusal::UnknownStage(9)) => "v",
            NextStep::Refuse(Refusal::UnknownStage(_)) => "wrong stage",
        }
    }

    #[test]
    fn the_whole_table() {
        //                       empty keyed whole keys+img locked silent | none pk  ak?  ak  ck? active unknown other order
        let table = [
            (UnitState::Arrived, "F k A k k s F A k k k k v k"),
            (UnitState::Flashing, "F! F! A! F! k s F! A! F! F! F! F! v k"),
            (UnitState::StageOne, "F! F! ? ? k s F! a a c c P v k"),
            (UnitState::AgentKey, "F! F! A! ? k s F! a a c c P v k"),
            (UnitState::CloudKey, "F! F! A! ? ? s F! a a c c P v k"),
            (UnitState::Passed, "g g g ? ? s g g c g c P v k"),
            (UnitState::Quarantined, "q q q q q q q q q q q q q q"),
            (UnitState::Scrapped, "x x x x x x x x x x x x x x"),
        ];
        assert_eq!(table.map(|row| row.0), UnitState::ALL);
        for (state, expected) in table {
            let record = UnitRecordView { state, same_batch: true, locked: false, reopened: false };
            let got: Vec<_> = statuses().iter().map(|d| letter(next_step(&record, d))).collect();
            assert_eq!(got.join(" "), expected, "{state:?}");
            for device in statuses() {
                let other = UnitRecordView { state, same_batch: false, locked: false, reopened: false };
                assert_eq!(next_step(&other, &device), NextStep::Refuse(Refusal::OtherBatch));
            }
        }
    }

    /// QA's order opens a locked chip whose keys are dead, and nothing else does.
    #[test]
    fn only_a_reopened_unit_is_erased() {
        for state in UnitState::ALL {
            for device in statuses() {
                for (locked, reopened) in [(false, false), (true, false), (false, true), (true, true)] {
                    let record = UnitRecordView { state, same_batch: true, locked, reopened };
                    let erased = next_step(&record, &device) == NextStep::Erase;
                    let expected = reopened && state == UnitState::Flashing && device == DeviceStatus::Locked;
                    assert_eq!(erased, expected, "{record:?} {device:?}");
                }
            }
        }
    }

    /// Whatever the chip holds, following the steps ends: no pair sends the worker round in a circle.
    #[test]
    fn every_unit_comes_to_an_end() {
        for state in UnitState::ALL {
            for start in statuses() {
                let mut record = UnitRecordView { state, same_batch: true, locked: false, reopened: false };
                let mut device = start;
                let mut steps = 0;
                loop {
                    match next_step(&record, &device) {
                        NextStep::Flash { .. } | NextStep::Adopt { .. } => {
                            record.state = UnitState::StageOne;
                            device = DeviceStatus::StageOne;
                        }
                        NextStep::Erase => device = DeviceStatus::Empty,
                        NextStep::Ask => {
                            let keyed = matches!(device, DeviceStatus::Keyed | DeviceStatus::Locked);
                            let stage = if keyed { Reported::Active } else { Reported::ProductKey };
                            device = DeviceStatus::Reported { stage, same_order: true };
                        }
                        NextStep::AgentKey => {
                            device =
                                DeviceStatus::Reported { stage: Reported::AgentKeyActive, same_order: true };
                        }
                        NextStep::CloudKey => {
                            device = DeviceStatus::Reported { stage: Reported::Active, same_order: true };
                        }
                        NextStep::Prove | NextStep::Refuse(_) => break,
                    }
                    steps += 1;
                    assert!(steps <= 5, "{state:?} {start:?}");
                }
            }
        }
    }

    /// A unit that passed is never erased, and keys of unknown origin are never erased.
    #[test]
    fn nothing_that_matters_is_erased() {
        for device in statuses() {
            let passed = next_step(
                &UnitRecordView {
                    state: UnitState::Passed,
                    same_batch: true,
                    locked: false,
                    reopened: false,
                },
                &device,
            );
            assert!(!matches!(passed, NextStep::Flash { .. } | NextStep::Adopt { .. }), "{device:?}");
        }
        for device in [DeviceStatus::EmptyKeyed, DeviceStatus::Keyed] {
            let step = next_step(
                &UnitRecordView {
                    state: UnitState::Arrived,
                    same_batch: true,
                    locked: false,
                    reopened: false,
                },
                &device,
            );
            assert_eq!(step, NextStep::Refuse(Refusal::ForeignKeys));
        }
    }

    /// A locked chip takes no flashing: what would erase it elsewhere hands it to QA.
    #[test]
    fn a_locked_unit_is_never_flashed() {
        for state in UnitState::ALL {
            for device in statuses() {
                let open = next_step(
                    &UnitRecordView { state, same_batch: true, locked: false, reopened: false },
                    &device,
                );
                let locked = next_step(
                    &UnitRecordView { state, same_batch: true, locked: true, reopened: false },
                    &device,
                );
                match open {
                    NextStep::Flash { .. } | NextStep::Adopt { .. } => {
                        assert_eq!(locked, NextStep::Refuse(Refusal::KeysGone));
                    }
                    same => assert_eq!(locked, same),
                }
            }
        }
    }

    #[test]
    fn contents_become_a_status() {
        let seen = |image, product_key, keys| DeviceStatus::seen(&Contents { image, product_key, keys });
        assert_eq!(seen(false, false, false), DeviceStatus::Empty);
        assert_eq!(seen(false, true, false), DeviceStatus::Empty, "half-flashed");
        assert_eq!(seen(true, false, false), DeviceStatus::Empty, "another order's product key, or none");
        assert_eq!(seen(true, true, false), DeviceStatus::StageOne);
        for product_key in [false, true] {
            assert_eq!(seen(true, product_key, true), DeviceStatus::Keyed);
            assert_eq!(seen(false, product_key, true), DeviceStatus::EmptyKeyed);
        }
    }
}
