//! The chain of trust as people look at it: root, regions, how many units hang on each, where the signing keys live, and what
//! rotates when. Window and command line are thin over it.
//!
//! Code map: [`Office`] reads and makes, [`Tree`] is what it read, [`Turn`] one thing that rotates; [`clerk`] is the thread behind
//! the window.
//!
//! Invariants:
//! - Nothing here holds a secret: facts of certificates, counts, places.
//! - A token is asked whether it is there when somebody looks; it is logged in to only to make keys and when somebody wants to know.

pub mod clerk;

use crate::agent::EmbeddedAgent;
use crate::anchors::{AnchorFacts, Anchors, CertFacts, KeyHome, NewHome, NewRegion, RegionFacts};
use crate::failure::Failure;
use crate::hsm::{Door, Seen};
use crate::records::{BatchUnder, SqliteRecords, UnderFilter, UnitUnder};
use crate::station::{anchors_failure, records_failure};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Seconds of a day.
pub const DAY: u64 = 86_400;
/// From this many days before its end a certificate wants to be looked after.
pub const SOON_DAYS: u64 = 90;
/// From this many days before its end it is urgent.
pub const URGENT_DAYS: u64 = 30;

/// How long something is still good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "days", rename_all = "kebab-case")]
pub enum Validity {
    /// It has no end.
    Endless,
    /// More than enough days.
    Calm(u64),
    /// At most [`SOON_DAYS`] days.
    Soon(u64),
    /// At most [`URGENT_DAYS`] days.
    Urgent(u64),
    /// It has ended, so many days ago.
    Ended(u64),
}

impl Validity {
    /// Of something that ends then (Unix seconds).
    pub const fn of(not_after: Option<u64>, now_s: u64) -> Self {
        let Some(end) = not_after else { return Self::Endless };
        if end < now_s {
            return Self::Ended((now_s - end) / DAY);
        }
        match (end - now_s) / DAY {
            days if days <= URGENT_DAYS => Self::Urgent(days),
            days if days <= SOON_DAYS => Self::Soon(days),
            days => Self::Calm(days),
        }
    }

    /// For the command line.
    pub fn words(self) -> String {
        match self {
            Self::Endless => "without end".into(),
            Self::Urgent(0) => "ends within a day".into(),
            Self::Calm(days) | Self::Soon(days) | Self::Urgent(days) => format!("ends in {days} days"),
            Self::Ended(0) => "ENDED today".into(),
            Self::Ended(days) => format!("ENDED {days} days ago"),
        }
    }

    /// Whether somebody should look.
    pub const fn wants_care(self) -> bool {
        matches!(self, Self::Soon(_) | Self::Urgent(_) | Self::Ended(_))
    }
}

/// Where keys live, for the command line.
pub fn home_words(home: &KeyHome) -> String {
    match home {
        KeyHome::Sealed { file } => format!("sealed file {file}"),
        KeyHome::Token { token, serial } => format!("PKCS#11 token {token} (serial {serial})"),
        KeyHome::Elsewhere => "not on this station".into(),
    }
}

/// The key that signs exports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExportKey {
    /// Unix seconds: when its sealed file was written.
    pub since: u64,
    /// The sealed file.
    pub file: String,
    /// SHA-256 of its public key, hex; `None`: the file can't be opened.
    pub fingerprint: Option<String>,
}

/// The token that station.toml names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenView {
    /// Its label.
    pub label: String,
    /// Whether it is plugged in.
    pub seen: Result<Seen, Failure>,
    /// A PIN for it is known; whether it is the right one shows at its first use.
    pub has_pin: bool,
}

/// The chain of trust of a station, without its units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Root and regions.
    pub anchors: AnchorFacts,
    /// Units by the region certificate that they were given.
    pub units: BTreeMap<String, u64>,
    /// The key that signs exports, once there is one.
    pub export: Option<ExportKey>,
    /// When it was read, Unix seconds.
    pub now_s: u64,
}

impl Tree {
    /// Units that were given this certificate.
    pub fn units_of(&self, cert: &CertFacts) -> u64 {
        self.units.get(&cert.fingerprint).copied().unwrap_or(0)
    }

    /// Units under any epoch of a region.
    pub fn units_in(&self, region: &RegionFacts) -> u64 {
        region.certs.iter().map(|c| self.units_of(c)).sum()
    }

    /// Units under every region of this station.
    pub fn all_units(&self) -> u64 {
        self.anchors.regions.iter().map(|r| self.units_in(r)).sum()
    }

    /// Units of a region that hold an epoch before the newest.
    pub fn behind(&self, region: &RegionFacts) -> u64 {
        region.certs.iter().skip(1).map(|c| self.units_of(c)).sum()
    }

    /// How long a certificate is still good for.
    pub const fn validity(&self, cert: &CertFacts) -> Validity {
        Validity::of(cert.not_after, self.now_s)
    }

    /// What rotates when: what ends first comes first, what has no end last.
    pub fn rotation(&self) -> Vec<Turn> {
        let mut turns = Vec::new();
        for region in &self.anchors.regions {
            let Some(newest) = region.certs.first() else { continue };
            let turn = |what| Turn { what, ends: newest.not_after, validity: self.validity(newest) };
            turns.push(turn(TurnOf::Region { region: region.region, epoch: newest.epoch }));
            // What has no end needs no second line.
            if newest.not_after.is_some() {
                turns.push(turn(TurnOf::Agent { region: region.region }));
            }
            let behind = self.behind(region);
            if behind > 0 {
                // They are good until the certificate that they hold ends.
                let oldest = region
                    .certs
                    .iter()
                    .skip(1)
                    .filter(|c| self.units_of(c) > 0)
                    .filter_map(|c| c.not_after)
                    .min();
                let what = TurnOf::Units { region: region.region, behind, epoch: newest.epoch };
                turns.push(Turn { what, ends: oldest, validity: Validity::of(oldest, self.now_s) });
            }
        }
        turns.push(Turn { what: TurnOf::Root, ends: None, validity: Validity::Endless });
        if let Some(export) = &self.export {
            let what = TurnOf::ExportKey { since: export.since };
            turns.push(Turn { what, ends: None, validity: Validity::Endless });
        }
        turns.sort_by_key(|t| (t.ends.unwrap_or(u64::MAX), !matches!(t.what, TurnOf::Units { .. })));
        turns
    }
}

/// What rotates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum TurnOf {
    /// A region's certificate.
    Region {
        /// The region.
        region: u32,
        /// Its newest epoch.
        epoch: u32,
    },
    /// The agent's certificates in a region, one per product order.
    Agent {
        /// The region.
        region: u32,
    },
    /// Units that hold an earlier epoch of their region than the newest.
    Units {
        /// The region.
        region: u32,
        /// How many.
        behind: u64,
        /// The epoch that they get.
        epoch: u32,
    },
    /// The root.
    Root,
    /// The key that signs exports.
    ExportKey {
        /// Unix seconds: since when it is used.
        since: u64,
    },
}

/// One thing that rotates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Turn {
    /// What.
    #[serde(flatten)]
    pub what: TurnOf,
    /// Unix seconds UTC; `None`: it has no end.
    pub ends: Option<u64>,
    /// How long that is.
    pub validity: Validity,
}

impl Turn {
    /// What it is, for the command line.
    pub fn name(&self) -> String {
        match self.what {
            TurnOf::Region { region, epoch } => format!("region {region}, epoch {epoch}"),
            TurnOf::Agent { region } => format!("agent's certificates in region {region}"),
            TurnOf::Units { region, behind, .. } => {
                format!("{behind} units of region {region} hold an earlier epoch")
            }
            TurnOf::Root => "root".into(),
            TurnOf::ExportKey { .. } => "export key".into(),
        }
    }

    /// What to do, for the command line.
    pub fn todo(&self) -> String {
        match self.what {
            TurnOf::Region { region, .. } if self.ends.is_none() => {
                format!("nothing; when you want new keys: keywright anchors rotate --region {region}")
            }
            TurnOf::Region { region, .. } => format!("before it ends: keywright anchors rotate --region {region}"),
            TurnOf::Agent { .. } => "nothing: they are made anew with their region's next epoch".into(),
            TurnOf::Units { epoch, .. } => {
                format!("renew their cloud keys, they get epoch {epoch} with them: keywright unit rekey --key cloud --batch B")
            }
            TurnOf::Root => "nothing: the next root is committed to in every unit; it is for the day this one is lost".into(),
            TurnOf::ExportKey { .. } => {
                "when you want another one: move anchors/export.sealed away, and tell recipients the new fingerprint".into()
            }
        }
    }
}

/// Where the chain of trust is read and made.
#[derive(Clone)]
pub struct Office {
    /// The station's home.
    pub home: PathBuf,
    /// Its records.
    pub records: Arc<SqliteRecords>,
    /// The way to its token.
    pub door: Arc<Door>,
    /// The agent that issues under what is made here; `None`: nobody issues in this process.
    pub agent: Option<Arc<EmbeddedAgent>>,
    /// The clock, Unix seconds.
    pub now_s: fn() -> u64,
}

impl std::fmt::Debug for Office {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Office").field("home", &self.home).finish_non_exhaustive()
    }
}

/// The PC's clock, Unix seconds.
pub fn now_s() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
}

impl Office {
    fn open(&self) -> Result<Anchors, Failure> {
        Anchors::open_with(&self.home, &self.records.station_key(), &self.door).map_err(anchors_failure)
    }

    /// The chain of trust; `None`: there are no anchors yet.
    ///
    /// # Errors
    /// `SecretsFailed` for a file that does not fit, those of the records.
    pub fn tree(&self) -> Result<Option<Tree>, Failure> {
        if !Anchors::exist(&self.home) {
            return Ok(None);
        }
        self.tree_of(&self.open()?).map(Some)
    }

    fn tree_of(&self, anchors: &Anchors) -> Result<Tree, Failure> {
        let file = "export.sealed";
        let written = std::fs::metadata(self.home.join("anchors").join(file)).and_then(|m| m.modified()).ok();
        let since = written.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).map(|d| d.as_secs());
        let fingerprint = since.and_then(|_| {
            let signer = crate::station::export_signer(&self.home, &self.records.station_key());
            signer
                .inspect_err(|failure| tracing::warn!(%failure, "the export key can't be opened"))
                .ok()
                .map(|signer| signer.fingerprint())
        });
        Ok(Tree {
            anchors: anchors.facts().clone(),
            units: self.records.units_by_anchor().map_err(records_failure)?.into_iter().collect(),
            export: since.map(|since| ExportKey { since, file: file.into(), fingerprint }),
            now_s: (self.now_s)(),
        })
    }

    /// The token that station.toml names; nobody logs in.
    pub fn token(&self) -> Option<TokenView> {
        let label = self.door.label()?;
        Some(TokenView {
            label: label.to_owned(),
            seen: self.door.look(label).map_err(Failure::from),
            has_pin: self.door.has_pin(),
        })
    }

    /// The batches under a region certificate.
    ///
    /// # Errors
    /// Those of the records.
    pub fn batches(&self, anchor: &str) -> Result<Vec<BatchUnder>, Failure> {
        self.records.batches_under(anchor).map_err(records_failure)
    }

    /// Units under a region certificate, as many as are asked for.
    ///
    /// # Errors
    /// Those of the records.
    pub fn units(&self, filter: &UnderFilter) -> Result<Vec<UnitUnder>, Failure> {
        self.records.units_under(filter).map_err(records_failure)
    }

    fn made(&self, anchors: Anchors) -> Result<Tree, Failure> {
        let tree = self.tree_of(&anchors)?;
        if let Some(agent) = &self.agent {
            agent.set_anchors(anchors);
        }
        Ok(tree)
    }

    /// Makes a region, and the root if there is none.
    ///
    /// # Errors
    /// `InvalidInput`; `NameTaken` if it is here already; what the token says.
    pub fn make(&self, new: &NewRegion) -> Result<Tree, Failure> {
        new.check().map_err(anchors_failure)?;
        let known = self.tree()?.is_some_and(|t| t.anchors.regions.iter().any(|r| r.region == new.region));
        if known {
            return Err(crate::anchors::AnchorsError::Exists { region: new.region }.into());
        }
        let anchors = Anchors::make(&self.home, &self.records.station_key(), &self.door, new);
        self.made(anchors.map_err(anchors_failure)?)
    }

    /// Gives a region its next epoch.
    ///
    /// # Errors
    /// `InvalidInput`, `AnchorsMissing`, what the token says.
    pub fn rotate(&self, region: u32, days: Option<u32>, home: NewHome) -> Result<Tree, Failure> {
        let key = self.records.station_key();
        let anchors = Anchors::rotate(&self.home, &key, &self.door, (region, days, home));
        self.made(anchors.map_err(anchors_failure)?)
    }

    /// Calls a region by another name.
    ///
    /// # Errors
    /// `InvalidInput`, `AnchorsMissing`.
    pub fn rename(&self, region: u32, name: &str) -> Result<Tree, Failure> {
        Anchors::rename(&self.home, region, name).map_err(anchors_failure)?;
        self.made(self.open()?)
    }

    /// Has every key of a region sign once: token, PIN and keys are there, and its certificate has not ended.
    ///
    /// # Errors
    /// What is missing.
    pub fn try_out(&self, region: u32) -> Result<(), Failure> {
        let anchors = self.open()?;
        let region = anchors.region(region)?;
        region.check_valid().and_then(|()| region.try_out()).map_err(anchors_failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn ends_are_told_in_days_and_early() {
        let at = |days: u64| Validity::of(Some(NOW + days * DAY), NOW);
        assert_eq!(Validity::of(None, NOW), Validity::Endless);
        assert_eq!(
            [at(91), at(90), at(31), at(30), at(0)].map(Validity::wants_care),
            [false, true, true, true, true]
        );
        assert_eq!(at(40).words(), "ends in 40 days");
        assert_eq!(at(0).words(), "ends within a day");
        assert_eq!(at(0), Validity::Urgent(0), "its last second counts");
        assert_eq!(Validity::of(Some(NOW - 1), NOW), Validity::Ended(0));
        assert_eq!(Validity::of(Some(NOW - 3 * DAY), NOW).words(), "ENDED 3 days ago");
    }

    fn cert(epoch: u32, not_after: Option<u64>) -> CertFacts {
        CertFacts {
            epoch,
            fingerprint: format!("{epoch:064x}"),
            public_key: String::new(),
            not_before: 0,
            not_after,
            home: KeyHome::Elsewhere,
        }
    }

    #[test]
    fn what_ends_first_comes_first_and_units_left_behind_are_counted() {
        let region = |number, certs| RegionFacts { region: number, name: String::new(), agent: None, certs };
        let anchors = AnchorFacts {
            root_epoch: 1,
            root_public_key: String::new(),
            root_fingerprint: String::new(),
            root_valid_from: 0,
            next_root_commitment: String::new(),
            bundle: String::new(),
            root_home: KeyHome::Elsewhere,
            regions: vec![
                region(1, vec![cert(11, None)]),
                region(
                    2,
                    vec![
                        cert(22, Some(NOW + 400 * DAY)),
                        cert(21, Some(NOW + 20 * DAY)),
                        cert(20, Some(NOW - DAY)),
                    ],
                ),
            ],
        };
        let units = [(21, 500), (22, 7), (11, 3)].map(|(n, units)| (format!("{n:064x}"), units));
        let export = Some(ExportKey { since: NOW - DAY, file: "export.sealed".into(), fingerprint: None });
        let tree = Tree { anchors, units: units.into(), export, now_s: NOW };
        assert_eq!((tree.all_units(), tree.units_in(&tree.anchors.regions[1])), (510, 507));
        let turns: Vec<_> = tree.rotation().iter().map(|t| (t.name(), t.validity)).collect();
        let expected = [
            // Nobody holds epoch 20 any more, so its end is nobody's.
            ("500 units of region 2 hold an earlier epoch", Validity::Urgent(20)),
            ("region 2, epoch 22", Validity::Calm(400)),
            ("agent's certificates in region 2", Validity::Calm(400)),
            ("region 1, epoch 11", Validity::Endless),
            ("root", Validity::Endless),
            ("export key", Validity::Endless),
        ];
        assert_eq!(turns, expected.map(|(name, validity)| (name.to_owned(), validity)));
        assert!(tree.rotation().iter().all(|t| !t.todo().is_empty()));
    }
}
