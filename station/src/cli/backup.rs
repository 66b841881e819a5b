//! `backup` and `restore`.

use super::args;
use super::output::{Done, Exit, Out};
use super::qa::{cancelled, confirm};
use crate::backup::{self, Manifest};
use crate::export::Stamp;
use crate::station::{Options, Station, now_ms};
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::Path;

fn object(event: &str, path: &Path, manifest: &Manifest) -> serde_json::Value {
    json!({
        "event": event, "file": path, "station": manifest.station, "made_at": Stamp(manifest.made_at_ms),
        "version": manifest.version, "schema": manifest.database.schema, "units": manifest.database.units,
        "attempts": manifest.database.attempts, "events": manifest.database.events, "files": manifest.files.len(),
    })
}

fn holds(manifest: &Manifest) -> String {
    let d = &manifest.database;
    format!("{} units, {} attempts, {} events, {} files", d.units, d.attempts, d.events, manifest.files.len())
}

pub fn make(station: &Station, args: &args::Backup, out: Out) -> Done {
    let folder = args.to.clone().unwrap_or_else(|| station.config.backup.folder_of(&station.home));
    if args.list {
        let rows: Vec<_> = backup::list(&folder, station.records.station())
            .into_iter()
            .map(|(at_ms, path)| {
                let bytes = path.metadata().map_or(0, |m| m.len());
                let object =
                    json!({"event": "backup", "file": path, "made_at": Stamp(at_ms), "bytes": bytes});
                (vec![Stamp(at_ms).to_string(), bytes.to_string(), path.display().to_string()], object)
            })
            .collect();
        if rows.is_empty() {
            out.text(format_args!("no backup of this station in {}", folder.display()));
        } else {
            out.table(&["MADE", "BYTES", "FILE"], &rows);
        }
        return Ok(Exit::Pass);
    }
    let interrupts = super::interrupts();
    let shown = std::io::stderr().is_terminal() && !out.json;
    let progress = |done: u64, all: u64| {
        if shown {
            let _ = write!(std::io::stderr(), "\r{} %", done * 100 / all.max(1));
        }
        if interrupts.asked() > 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let made = backup::make(&station.home, &station.records, &folder, now_ms(), progress);
    if shown {
        let _ = write!(std::io::stderr(), "\r     \r");
    }
    let made = made?;
    let mut said = object("backup", &made.path, &made.manifest);
    said["bytes"] = json!(made.bytes);
    out.say(&said, format_args!("{}: {}, {} bytes", made.path.display(), holds(&made.manifest), made.bytes));
    Ok(Exit::Pass)
}

pub fn check(file: &Path, out: Out) -> Done {
    let manifest = backup::check(file)?;
    out.say(
        &object("backup-checked", file, &manifest),
        format_args!(
            "{} is whole: station {:?}, made {}, {}",
            file.display(),
            manifest.station,
            Stamp(manifest.made_at_ms),
            holds(&manifest)
        ),
    );
    Ok(Exit::Pass)
}

pub fn restore(options: &Options, args: &args::Restore, out: Out) -> Done {
    let manifest = backup::check(&args.file)?;
    if options.has_records() && args.replace {
        let what = format!(
            "The station in {} goes back to {} ({}). What happened since then stays in before-restore-… in its folder only.",
            options.home.display(),
            Stamp(manifest.made_at_ms),
            holds(&manifest),
        );
        if !confirm(args.yes, out, &what)? {
            return Err(cancelled());
        }
    }
    let restored = backup::restore(&args.file, &options.home, args.replace, now_ms())?;
    let mut said = object("restored", &args.file, &restored.manifest);
    said["home"] = json!(options.home);
    said["aside"] = json!(restored.aside);
    out.say(&said, format_args!("restored to {}: {}", options.home.display(), holds(&restored.manifest)));
    if let Some(aside) = &restored.aside {
        out.text(format_args!("what was there is in {}", aside.display()));
    }
    out.text("next: keywright doctor");
    Ok(Exit::Pass)
}
