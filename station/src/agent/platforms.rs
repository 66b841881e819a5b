//! The agent's view of real brokers: [`Cloud`] over the platforms of `station.toml`.
//!
//! Asking never blocks a fixture for long: a broker that does not confirm within [`PATIENCE`] is told as a failure, the request stays
//! queued at the platform, and the unit's exchange repeats itself until it is through.

use super::cloud::{Birth, Cloud, CloudState, Connected};
use crate::cloud::{
    Ack, CloudError, Clouds, Credential, Endpoint, Identity, Notice, Notices, Platform, Standing,
    cloud_failure, try_login,
};
use crate::config::CloudConfig;
use crate::failure::Failure;
use crate::model::UnitId;
use crate::records::SqliteRecords;
use keywright_protocol::CloudKey;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long one request may keep a unit waiting, unless told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(10);

type Births = Arc<Mutex<HashMap<UnitId, Birth>>>;

/// The platforms, and what they told.
pub struct PlatformCloud {
    clouds: Clouds,
    births: Births,
    patience: Duration,
}

/// What a unit publishes when it is born (`docs/cloud.md`). A newer unit may say more.
#[derive(Deserialize)]
struct BirthMessage {
    generation: u32,
    #[serde(default)]
    firmware: String,
    #[serde(default)]
    boot: String,
}

impl PlatformCloud {
    /// The platforms of a station. What they tell goes into these records: a login with the staged generation completes a
    /// lost confirmation.
    pub fn new(home: &Path, station: &str, configs: &[CloudConfig], records: SqliteRecords) -> Self {
        let births = Births::default();
        let heard = births.clone();
        let clouds = Clouds::new(home, station, configs, move |url, notices| {
            let (url, records, heard) = (url.to_owned(), records.clone(), heard.clone());
            let listener = std::thread::Builder::new().name("cloud-notices".into());
            // Without a thread nothing is heard: the line then waits for a birth in vain and says so.
            if let Err(error) = listener.spawn(move || listen(&url, &notices, &records, &heard)) {
                tracing::error!(%error, "no thread for the cloud's notices");
            }
        });
        Self { clouds, births, patience: PATIENCE }
    }

    /// One request keeps a unit waiting this long at most.
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// See [`Clouds::adopt`].
    ///
    /// # Errors
    /// As there.
    pub fn adopt(&self, url: &str, platform: Arc<dyn Platform>) -> Result<(), Failure> {
        self.clouds.adopt(url, platform)
    }

    fn standing(&self, at: &str, unit: UnitId) -> Result<Standing, Failure> {
        Ok(self.clouds.at(at)?.standing(unit))
    }
}

/// Ends when the platform stops.
fn listen(url: &str, notices: &Notices, records: &SqliteRecords, births: &Births) {
    while let Some(notice) = notices.wait() {
        match notice {
            Notice::Committed { identity } => {
                let Identity { unit, generation } = identity;
                let _guard = records.0.unit_guard(unit);
                if let Err(error) = records.0.confirm_cloud_key(unit, None, generation, None) {
                    // The unit's own confirmation is still to come, and is repeated until it is answered.
                    tracing::warn!(%error, %unit, generation, "a confirmation by login could not be recorded");
                }
            }
            Notice::Birth { unit, generation, payload } => {
                let Ok(message) = serde_json::from_slice::<BirthMessage>(&payload) else {
                    tracing::warn!(%unit, "a birth message that makes no sense");
                    continue;
                };
                let birth = Birth {
                    generation: generation.unwrap_or(message.generation),
                    boot: message.boot,
                    firmware: message.firmware,
                    at: Instant::now(),
                };
                tracing::info!(%unit, generation = birth.generation, "born");
                births.lock().unwrap_or_else(PoisonError::into_inner).insert(unit, birth);
            }
            Notice::Missing { identity } => {
                // The agent stages it again when the unit next comes (`EmbeddedAgent::bridge_target`).
                tracing::warn!(%identity, url, "the broker has lost an identity");
            }
            Notice::Down { cause } => tracing::warn!(%cause, url, "the cloud is down"),
            Notice::Up => tracing::info!(url, "the cloud is up"),
            Notice::Connected { .. } => {}
        }
    }
}

impl Cloud for PlatformCloud {
    fn prepare(&self, at: &str, unit: UnitId, generation: u32, key: &CloudKey) -> Result<(), Failure> {
        let platform = self.clouds.at(at)?;
        let staged = platform.stage(unit, generation, Credential::of(key)).wait(self.patience);
        staged.map(drop).map_err(|e| cloud_failure(&e))
    }

    fn activate(&self, at: &str, unit: UnitId, generation: u32) -> Result<bool, Failure> {
        match self.clouds.at(at)?.commit(unit, generation).wait(self.patience) {
            Ok(Ack::Applied | Ack::AlreadySo) => Ok(true),
            Ok(Ack::Stale | Ack::Committed) | Err(CloudError::NotStaged { .. }) => Ok(false),
            Err(error) => Err(cloud_failure(&error)),
        }
    }

    fn withdraw(&self, at: &str, unit: UnitId, generation: u32) -> Result<bool, Failure> {
        match self.clouds.at(at)?.withdraw(unit, generation).wait(PATIENCE) {
            Ok(Ack::Committed) => Ok(true),
            // A platform whose ledger never had it (or lost it) lets nobody in with it.
            Ok(Ack::Applied | Ack::AlreadySo | Ack::Stale) | Err(CloudError::NotStaged { .. }) => Ok(false),
            Err(error) => Err(cloud_failure(&error)),
        }
    }

    fn retire(&self, at: &str, unit: UnitId, generation: u32) -> Result<(), Failure> {
        self.clouds
            .at(at)?
            .retire(unit, generation)
            .wait(self.patience)
            .map(drop)
            .map_err(|e| cloud_failure(&e))
    }

    fn block(&self, at: &str, unit: UnitId) -> Result<(), Failure> {
        self.clouds.at(at)?.block(unit).wait(self.patience).map(drop).map_err(|e| cloud_failure(&e))
    }

    fn unblock(&self, at: &str, unit: UnitId) -> Result<(), Failure> {
        self.clouds.at(at)?.unblock(unit).wait(self.patience).map(drop).map_err(|e| cloud_failure(&e))
    }

    fn connect(&self, at: &str, unit: UnitId, generation: u32, key: &CloudKey) -> Result<Connected, Failure> {
        let platform = self.clouds.at(at)?;
        let staged = platform.standing(unit).staged() == Some(generation);
        let identity = Identity { unit, generation };
        let accepted = try_login(&platform.endpoint(), identity, &Credential::of(key), self.patience)
            .map_err(|e| cloud_failure(&e))?;
        Ok(Connected { accepted, committed: (accepted && staged).then_some(generation) })
    }

    fn state(&self, at: &str, unit: UnitId) -> Result<CloudState, Failure> {
        let standing = self.standing(at, unit)?;
        Ok(match (standing.active(), standing.staged()) {
            (None, None) => CloudState::Unknown,
            (old, Some(new)) => CloudState::Both { old: old.unwrap_or(0), new },
            (Some(generation), None) => CloudState::New { generation },
        })
    }

    fn endpoint(&self, at: &str) -> Result<Endpoint, Failure> {
        Ok(self.clouds.at(at)?.endpoint())
    }

    fn reach(&self, at: &str) -> Result<String, Failure> {
        let platform = self.clouds.at(at)?;
        // What waits already is asked again and again until it is answered: another question would only wait with it.
        if let Some(cause) = platform.health().cause {
            return Err(cloud_failure(&cause));
        }
        // Nobody has this id. The broker is asked for it all the same, under the agent's own name.
        platform.accepted(UnitId([0; 12])).wait(self.patience).map_err(|e| cloud_failure(&e))?;
        Ok(format!("{} at {at} answers", platform.name()))
    }

    fn places(&self) -> Vec<String> {
        self.clouds.running()
    }

    fn last_birth(&self, unit: UnitId) -> Option<Birth> {
        self.births.lock().unwrap_or_else(PoisonError::into_inner).get(&unit).cloned()
    }

    fn send(&self, at: &str, unit: UnitId, rest: &str, payload: &[u8]) -> Result<(), Failure> {
        let sent = self.clouds.at(at)?.send(unit, rest, payload).wait(self.patience);
        sent.map(drop).map_err(|e| cloud_failure(&e))
    }
}
