//! The cloud: the station's own ledger, included as source, with a broker that always answers.

use crate::Mutant;
use crate::model::UnitId;
use credential::{Credential, Identity};
use keywright_protocol::CloudKey;
use ledger::{Ack, Decision, Standing};

#[allow(dead_code, reason = "the ledger uses a part of it")]
#[path = "../../../station/src/cloud/credential.rs"]
mod credential;
#[allow(dead_code, reason = "the ledger uses a part of it")]
#[path = "../../../station/src/cloud/error.rs"]
mod error;
#[allow(dead_code, reason = "the model has no journal and no broker")]
#[path = "../../../station/src/cloud/ledger.rs"]
mod ledger;

const UNIT: UnitId = UnitId(crate::UNIT.0);

fn identity(generation: u32) -> Identity {
    Identity { unit: UNIT, generation }
}

/// One unit's identities at the platform.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cloud {
    standing: Standing,
}

impl Cloud {
    fn take(&mut self, decision: Decision) -> Ack {
        // The broker does what it is told at once: what a broker loses is the business of the station's own tests.
        self.standing = decision.next.settled(|_| true);
        decision.ack
    }

    /// Lets a generation in beside the confirmed one. False: refused.
    pub fn stage(&mut self, generation: u32, key: &CloudKey, mutant: Mutant) -> bool {
        if mutant == Mutant::RestagePerRequest
            && let Some(staged) = self.standing.staged().filter(|staged| *staged != generation)
        {
            self.retire(staged);
        }
        match ledger::stage(&self.standing, identity(generation), &Credential::of(key)) {
            Ok(decision) => {
                self.take(decision);
                true
            }
            Err(_) => false,
        }
    }

    /// Makes a generation the only one. `Ok(false)`: stale, ignored. `Err`: refused.
    #[allow(clippy::result_unit_err, reason = "the caller only needs to know that the cloud did not do it")]
    pub fn commit(&mut self, generation: u32) -> Result<bool, ()> {
        let decision = ledger::commit(&self.standing, identity(generation)).map_err(drop)?;
        Ok(self.take(decision) != Ack::Stale)
    }

    /// A cloud that obeys every Commit, whatever came after it (a mutant).
    pub fn commit_blindly(&mut self, generation: u32, key: &CloudKey) {
        *self = Cloud::default();
        self.stage(generation, key, Mutant::None);
        // Cannot be refused: it was just staged.
        let _ = self.commit(generation);
    }

    /// The staged generation leaves, unless it was committed first: true, and nothing was done.
    pub fn withdraw(&mut self, generation: u32) -> bool {
        match ledger::withdraw(&self.standing, identity(generation)) {
            Ok(decision) => self.take(decision) == Ack::Committed,
            Err(_) => false,
        }
    }

    /// A generation leaves, whatever it is (mutants).
    pub fn retire(&mut self, generation: u32) {
        if let Ok(decision) = ledger::retire(&self.standing, identity(generation)) {
            self.take(decision);
        }
    }

    /// A unit logs in with a key. True if it is let in.
    pub fn log_in(&mut self, generation: u32, key: &CloudKey) -> bool {
        if !self.lets_in(generation, key) {
            return false;
        }
        if let Ok(decision) = ledger::logged_in(&self.standing, identity(generation)) {
            self.take(decision);
        }
        true
    }

    /// Whether a unit with this key would be let in.
    pub fn lets_in(&self, generation: u32, key: &CloudKey) -> bool {
        let wanted = Credential::of(key).verifier(identity(generation));
        self.standing.enabled_with_verifiers().any(|(g, verifier)| g == generation && verifier == wanted)
    }

    /// Every generation that is let in, ascending.
    pub fn enabled(&self) -> Vec<u32> {
        self.standing.enabled().collect()
    }

    /// The generation that waits for its confirmation.
    pub fn staged(&self) -> Option<u32> {
        self.standing.staged()
    }

    /// The confirmed generation.
    pub fn active(&self) -> Option<u32> {
        self.standing.active()
    }

    /// The highest generation ever staged.
    pub fn highest(&self) -> u32 {
        self.standing.highest()
    }

    /// Everything that decides what it does next.
    pub fn id(&self) -> u128 {
        let verifiers: Vec<(u32, String)> =
            self.standing.enabled_with_verifiers().map(|(g, verifier)| (g, verifier.to_hex())).collect();
        crate::nor::id_of(&(verifiers, self.standing.staged(), self.standing.active(), self.highest()))
    }
}
