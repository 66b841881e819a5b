//! `init`: the guide of the first start, for scripts. What it does is in [`first_run`].

use super::args::{self, Global};
use super::output::{Done, Exit, Out};
use super::people;
use crate::failure::{Failure, FailureCode};
use crate::first_run::{self, Facts, Wrote};
use crate::i18n::LanguageChoice;
use crate::people::{NewPerson, Right, Role};
use crate::settings::CloudDraft;
use crate::station::{Options, Station};
use serde_json::json;

/// `keywright init`: does what is missing, says what it wrote.
pub fn run(options: &Options, global: &Global, args: &args::Init, out: Out) -> Done {
    let mut wrote = 0;
    let mut say = |written: Vec<Wrote>| {
        for what in written {
            wrote += 1;
            let mut object = serde_json::to_value(&what).unwrap_or_default();
            object["event"] = json!("wrote");
            out.say(&object, format_args!("wrote {what}"));
        }
    };
    let fresh = !options.has_records();
    if fresh {
        // Before the records: the station's name stands in them.
        say(named(options, None, args)?);
    }
    let passphrase = options.passphrase()?;
    let (mut station, written) = first_run::open(options, &passphrase, args.keyring)?;
    say(written);
    if !fresh {
        people::log_in(&mut station, global)?;
        say(named(options, Some(&station), args)?);
    }
    let gated = |right, what: (&str, &str), detail, work: &mut dyn FnMut() -> first_run::Written| {
        first_run::gated(Some(&station), right, what, detail, work)
    };
    if !args.fixture.is_empty() {
        let names: Vec<_> = args.fixture.iter().map(|f| &f.name).collect();
        let mut all = options.load_config()?.fixtures;
        for new in &args.fixture {
            match all.iter_mut().find(|f| f.name == new.name) {
                Some(there) => there.clone_from(new),
                None => all.push(new.clone()),
            }
        }
        let what = ("settings-changed", "fixtures");
        say(gated(Right::Settings, what, json!({ "fixtures": names }), &mut || {
            first_run::set_fixtures(options, &all)
        })?);
    }
    let facts = Facts::look(options, Some(&station));
    let has_region = facts.anchors.as_ref().is_some_and(|shown| !shown.regions.is_empty());
    if let Some(region) = args.region.or((!has_region).then_some(1)) {
        let subject = format!("region {region}");
        say(gated(Right::Anchors, ("anchors-made", &subject), json!({}), &mut || {
            first_run::make_anchors(&station, region)
        })?);
    }
    let cloud = cloud(args);
    if let Some(cloud) = &cloud {
        say(gated(Right::Clouds, ("cloud-set", &cloud.name), json!({ "url": cloud.url }), &mut || {
            first_run::set_cloud(options, cloud, None)
        })?);
    }
    if let Some(image) = &args.image {
        let detail = json!({ "image": image.display().to_string() });
        say(gated(Right::Settings, ("settings-changed", "image"), detail, &mut || {
            first_run::set_image(options, image)
        })?);
    }
    if let Some(name) = &args.admin {
        if station.people.is_open() {
            let pin = people::new_pin(name, Some(Role::Admin), args.new_pin_file.as_deref())?;
            let admin = NewPerson { name: name.clone(), role: Role::Admin, pin, badge: None };
            say(vec![Wrote::Admin { name: station.people.add(&admin)?.name }]);
        } else if !station.people.list()?.iter().any(|p| p.name.eq_ignore_ascii_case(name.trim())) {
            return Err(Failure {
                code: FailureCode::InvalidInput,
                sentence: "People work at this station already".into(),
                remedy: "Add others with keywright people add NAME --role ROLE".into(),
            }
            .into());
        }
    }
    if let Some(cloud) = cloud.filter(|_| args.try_cloud) {
        let units = first_run::try_cloud(options, &cloud, None)?;
        out.say(
            &json!({ "event": "cloud", "name": cloud.name, "answers": true, "units": units }),
            format_args!("cloud {} answers and lets the agent in; it knows {units} units", cloud.name),
        );
    }
    let rehearsed = if args.rehearse { rehearse(options, out)? } else { Exit::Pass };
    out.say(
        &json!({ "event": "summary", "wrote": wrote }),
        if wrote == 0 {
            "everything was there; keywright doctor says what a shift still needs"
        } else {
            "keywright doctor says what a shift still needs"
        },
    );
    Ok(rehearsed)
}

/// Name and language, where they were given or nothing is there.
fn named(options: &Options, station: Option<&Station>, args: &args::Init) -> first_run::Written {
    let config = options.load_config()?;
    if args.name.is_none() && args.language.is_none() && options.config_path().exists() {
        return Ok(Vec::new());
    }
    let name = args.name.clone().unwrap_or(config.name);
    let language = match args.language.as_deref() {
        Some(tag) => LanguageChoice::ALL.into_iter().find(|l| l.as_str() == tag).unwrap_or_default(),
        None => config.language,
    };
    first_run::gated(station, Right::Settings, ("settings-changed", "name"), json!({ "name": name }), || {
        first_run::set_name(options, &name, language)
    })
}

fn cloud(args: &args::Init) -> Option<CloudDraft> {
    // As station.toml will mean them, wherever this was called.
    let path = |path: &std::path::PathBuf| {
        std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string()
    };
    let name = args.cloud.as_ref()?.trim().to_owned();
    Some(CloudDraft {
        was: None,
        url: args.cloud_url.clone().unwrap_or_default(),
        ca: args.cloud_ca.as_ref().map(path).unwrap_or_default(),
        username: args.cloud_user.clone(),
        password_file: args.cloud_password_file.as_ref().map(path).unwrap_or(format!("{name}.password")),
        name,
    })
}

#[cfg(feature = "hardware")]
fn rehearse(options: &Options, out: Out) -> Done {
    use crate::line::bench::Cancel;
    use crate::model::Outcome;
    use crate::rehearsal::{self, News};
    let config = options.load_config()?;
    let image = config.image.as_deref().ok_or_else(|| {
        Failure::new(FailureCode::NotSetUp, "station.toml names no image; give --image FILE")
    })?;
    let program = rehearsal::find_board(&config)?;
    let mut step = None;
    let report = rehearsal::run(&program, image, &Cancel::default(), |news| {
        if let News::Step(now, _) = news
            && step.replace(now) != Some(now)
        {
            out.say(&json!({ "event": "rehearsal-step", "step": now }), format_args!("rehearsal: {now:?}"));
        }
    })?;
    out.say(
        &json!({
            "event": "rehearsal", "outcome": report.outcome, "serial": report.serial, "seconds": report.seconds,
            "failure": report.failure, "image": report.image,
        }),
        format_args!(
            "rehearsal: {} with {} in {:.1} s{}",
            report.outcome.as_str(),
            report.image,
            report.seconds,
            report.failure.as_ref().map(|f| format!("; {f}")).unwrap_or_default()
        ),
    );
    Ok(if report.outcome == Outcome::Pass { Exit::Pass } else { Exit::UnitsFailed })
}

#[cfg(not(feature = "hardware"))]
fn rehearse(_: &Options, _: Out) -> Done {
    Err(Failure::new(FailureCode::PracticeBoardMissing, "this build reaches no probes").into())
}
