//! `anchors …` and `trust …`: the chain of trust, and what is made of it.

use super::args::{self, Keys};
use super::output::{CliError, Done, Exit, Out};
use super::{cell, qa, show_anchors};
use crate::anchors::{AnchorsError, KeyHome, NewHome, NewRegion, RegionFacts};
use crate::export::Stamp;
use crate::failure::{Failure, FailureCode};
use crate::records::UnderFilter;
use crate::station::{Station, anchors_failure};
use crate::trust::{Tree, Validity, home_words};
use serde_json::{Value, json};

impl From<Keys> for NewHome {
    fn from(keys: Keys) -> Self {
        match keys {
            Keys::Sealed => Self::Sealed,
            Keys::Token => Self::Token,
        }
    }
}

fn stamp(seconds: u64) -> Stamp {
    Stamp(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000))
}

/// The keys that a command needs may live in a token: its PIN is asked for before anything is written.
fn ask_pins(station: &Station, homes: &[NewHome]) {
    let mut labels = Vec::new();
    if homes.contains(&NewHome::Token) {
        labels.extend(station.door.label().map(str::to_owned));
    }
    if let Ok(Some(tree)) = station.trust().tree()
        && let KeyHome::Token { token, .. } = tree.anchors.root_home
    {
        labels.push(token);
    }
    labels.iter().for_each(|label| station.ask_token_pin(label));
}

/// `anchors init`, `rotate`, `name`; `show` needs no person and was done before.
pub fn anchors(station: &Station, command: &args::Anchors, out: Out) -> Done {
    let office = station.trust();
    match command {
        args::Anchors::Show => {}
        args::Anchors::Init(new) => {
            let region = NewRegion {
                region: new.region,
                name: new.name.trim().to_owned(),
                days: new.valid_days,
                home: new.keys.into(),
                root_home: new.root_keys.into(),
            };
            let known =
                office.tree()?.is_some_and(|t| t.anchors.regions.iter().any(|r| r.region == new.region));
            // Asked again for what is there it changes nothing; asked for something else it must not look as if it had done it.
            if !known {
                ask_pins(station, &[region.home, region.root_home]);
                office.make(&region)?;
            } else if region != NewRegion::plain(new.region) {
                return Err(Failure {
                    remedy: "Give it its next epoch with keywright anchors rotate, or a name with keywright anchors name"
                        .into(),
                    ..Failure::from(AnchorsError::Exists { region: new.region })
                }
                .into());
            }
        }
        args::Anchors::Rotate { region, valid_days, keys, yes } => {
            let tree = office.tree()?.ok_or_else(|| no_anchors(station))?;
            let facts = region_of(&tree, *region)?;
            let (units, epoch) = (tree.units_in(facts), facts.certs.first().map_or(0, |c| c.epoch));
            let question = format!(
                "Region {region} gets epoch {} with new keys; there is no way back. {units} units hold an earlier epoch and keep it until \
                 their cloud keys are renewed.",
                epoch + 1
            );
            if !qa::confirm(*yes, out, &question)? {
                return Err(qa::cancelled());
            }
            ask_pins(station, &[(*keys).into()]);
            office.rotate(*region, *valid_days, (*keys).into())?;
        }
        args::Anchors::Name { region, name } => {
            office.rename(*region, name)?;
        }
    }
    let anchors =
        crate::anchors::Anchors::open_with(&station.home, &station.records.station_key(), &station.door);
    Ok(show_anchors(&anchors.map_err(anchors_failure)?.show(), out))
}

fn no_anchors(station: &Station) -> Failure {
    AnchorsError::Missing { path: station.home.join("anchors").display().to_string() }.into()
}

fn region_of(tree: &Tree, region: u32) -> Result<&RegionFacts, CliError> {
    let found = tree.anchors.regions.iter().find(|r| r.region == region);
    found.ok_or_else(|| Failure::from(AnchorsError::NoRegion { region }).into())
}

/// `trust …`
pub fn run(station: &Station, command: &args::Trust, out: Out) -> Done {
    let office = station.trust();
    let tree = office.tree()?.ok_or_else(|| no_anchors(station))?;
    match command {
        args::Trust::Show => show(&tree, out),
        args::Trust::Rotation => {
            let rows: Vec<_> = tree
                .rotation()
                .iter()
                .map(|turn| {
                    let mut object = serde_json::to_value(turn).unwrap_or_default();
                    (object["event"], object["todo"]) = (json!("turn"), json!(turn.todo()));
                    object["ends"] = json!(turn.ends.map(stamp));
                    let ends = match turn.validity {
                        Validity::Endless => "-".to_owned(),
                        validity => validity.words(),
                    };
                    (vec![turn.name(), ends, turn.todo()], object)
                })
                .collect();
            out.table(&["WHAT", "ENDS", "WHAT TO DO"], &rows);
        }
        args::Trust::Units { region, epoch, batch, search, limit } => {
            let facts = region_of(&tree, *region)?;
            let cert = facts.certs.iter().find(|c| epoch.is_none_or(|e| e == c.epoch)).ok_or_else(|| {
                let epoch = epoch.unwrap_or_default();
                Failure::new(FailureCode::InvalidInput, format!("region {region} has no epoch {epoch}"))
            })?;
            let filter = UnderFilter {
                anchor: cert.fingerprint.clone(),
                batch: batch.clone(),
                search: search.clone(),
                limit: *limit,
            };
            let rows: Vec<_> = office
                .units(&filter)?
                .iter()
                .map(|unit| {
                    let mut object = serde_json::to_value(unit).unwrap_or_default();
                    (object["event"], object["epoch"]) = (json!("unit-under"), json!(cert.epoch));
                    let keys = ["serial", "unit", "batch", "state", "generation"];
                    (keys.iter().map(|k| cell(&object, k)).collect(), object)
                })
                .collect();
            out.table(&["SERIAL", "UNIT", "BATCH", "STATE", "GENERATION"], &rows);
        }
        args::Trust::Check { region } => {
            let regions: Vec<u32> = match region {
                Some(region) => vec![region_of(&tree, *region)?.region],
                None => tree.anchors.regions.iter().map(|r| r.region).collect(),
            };
            for region in regions {
                let home = region_of(&tree, region)?.certs.first().map(|c| c.home.clone());
                if let Some(KeyHome::Token { token, .. }) = &home {
                    station.ask_token_pin(token);
                }
                office.try_out(region)?;
                let place = home.as_ref().map(home_words).unwrap_or_default();
                out.say(
                    &json!({"event": "keys-tried", "region": region, "home": home}),
                    format_args!("region {region}: region, agent and units' keys work ({place})"),
                );
            }
        }
    }
    Ok(Exit::Pass)
}

fn show(tree: &Tree, out: Out) {
    let root = &tree.anchors;
    let object = json!({
        "event": "trust", "role": "root", "epoch": root.root_epoch, "fingerprint": root.root_fingerprint,
        "public_key": root.root_public_key, "valid_from": stamp(root.root_valid_from), "units": tree.all_units(),
        "next_root": root.next_root_commitment, "home": root.root_home,
    });
    out.say(
        &object,
        format_args!(
            "root, epoch {}, since {}: {} units\n  {}\n  {}",
            root.root_epoch,
            stamp(root.root_valid_from),
            tree.all_units(),
            root.root_fingerprint,
            home_words(&root.root_home)
        ),
    );
    for region in &root.regions {
        for (i, cert) in region.certs.iter().enumerate() {
            let (validity, units) = (tree.validity(cert), tree.units_of(cert));
            let mut object: Value = serde_json::to_value(cert).unwrap_or_default();
            (object["event"], object["role"]) = (json!("trust"), json!("region"));
            (object["region"], object["name"]) = (json!(region.region), json!(region.name));
            (object["not_before"], object["not_after"]) =
                (json!(stamp(cert.not_before)), json!(cert.not_after.map(stamp)));
            (object["validity"], object["units"], object["newest"]) =
                (json!(validity), json!(units), json!(i == 0));
            let name = if region.name.is_empty() { String::new() } else { format!(" {}", region.name) };
            out.say(
                &object,
                format_args!(
                    "region {}{name}, epoch {}, since {}, {}: {units} units\n  {}\n  {}",
                    region.region,
                    cert.epoch,
                    stamp(cert.not_before),
                    validity.words(),
                    cert.fingerprint,
                    home_words(&cert.home)
                ),
            );
            if let Some(agent) = region.agent.as_ref().filter(|_| i == 0) {
                let mut object = serde_json::to_value(agent).unwrap_or_default();
                (object["event"], object["role"]) = (json!("trust"), json!("agent"));
                object["region"] = json!(region.region);
                out.say(
                    &object,
                    format_args!(
                        "agent of region {}\n  {}\n  {}",
                        region.region,
                        agent.fingerprint,
                        home_words(&agent.home)
                    ),
                );
            }
        }
    }
    if let Some(key) = &tree.export {
        let object = json!({
            "event": "trust", "role": "export", "since": stamp(key.since), "fingerprint": key.fingerprint,
            "home": KeyHome::Sealed { file: key.file.clone() },
        });
        let fingerprint = key.fingerprint.as_deref().unwrap_or("the file can't be opened");
        out.say(
            &object,
            format_args!(
                "export key, since {}\n  {fingerprint}\n  sealed file {}",
                stamp(key.since),
                key.file
            ),
        );
    }
}

/// Keeps the token's PIN in the keyring, after the token took it.
#[cfg(feature = "keyring")]
pub fn store_pin(options: &crate::station::Options, out: Out) -> Done {
    use crate::hsm::{HsmError, PinSource};
    use crate::secrets::Passphrase;
    let config = options.load_config()?;
    let Some(token) = &config.token else {
        let error = HsmError::NotConfigured { label: "?".into(), why: "station.toml names none" };
        return Err(Failure::from(error).into());
    };
    let door = options.door(&config);
    let pin = match options.token_pin_fd {
        Some(fd) => Passphrase::read(&crate::secrets::PassphraseSource::Fd(fd))?,
        None => rpassword::prompt_password(format!("PIN of token {}: ", token.token))
            .map(Passphrase::new)
            .map_err(|e| Failure::new(FailureCode::TokenPinMissing, format!("the terminal: {e}")))?,
    };
    door.give_pin(pin.clone());
    let seen = door.unlock(&token.token).map_err(Failure::from)?;
    pin.store_in_keyring(&PinSource::entry(&options.keyring_entry()))?;
    out.say(
        &json!({"event": "token-pin", "stored": true, "token": seen.label}),
        format_args!("the PIN of token {} is in the keyring", seen.label),
    );
    Ok(Exit::Pass)
}
