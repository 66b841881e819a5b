//! `cargo xtask bench`: figures, printed and never asserted.

use crate::{cargo, firmware, say};
use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use std::process::{ExitCode, Stdio};

/// Options of `bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// One JSON object per figure instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs every benchmark and prints the figures.
pub fn run(args: &BenchArgs) -> Result<ExitCode> {
    crate::setup::ensure(&[crate::setup::Need::Build])?;
    say("building the firmware");
    let image = firmware::build()?;
    let mut figures = Vec::new();
    for part in &image.parts {
        let goal = if part.name == "boot" { 65_536 } else { 131_072 };
        figures.push(json!({
            "name": format!("{}_bytes", part.name), "value": part.length, "unit": "B", "goal": format!("<= {goal}"),
        }));
    }
    for (what, example) in
        [("the agent", "bench_enrol"), ("an export", "bench_export"), ("a search", "bench_search")]
    {
        say(format!("measuring {what} (release build)"));
        let run =
            ["run", "--quiet", "--release", "--package", "keywright", "--no-default-features", "--example"];
        figures.extend(figures_of(cargo().args(run).args([example, "--", "--json"]))?);
    }
    say("measuring frames of the window (release build)");
    let run = [
        "run",
        "--quiet",
        "--release",
        "--package",
        "keywright",
        "--no-default-features",
        "--features",
        "gui",
    ];
    figures.extend(figures_of(cargo().args(run).args(["--example", "bench_window", "--", "--json"]))?);
    say("measuring the start of the window, and its idling (release build)");
    // The whole program, as it is installed; the units below are measured without the window.
    crate::run(cargo().args(["build", "--quiet", "--release", "--package", "keywright", "--bins"]))?;
    let run = ["run", "--quiet", "--release", "--package", "keywright", "--no-default-features"];
    figures.extend(figures_of(cargo().args(run).args(["--example", "bench_start", "--", "--json"]))?);
    say("measuring units on virtual boards (release build)");
    // Without the window: it is not measured, and these features are the ones that the benchmarks' own library has.
    let features = ["--no-default-features", "--features", "hardware"];
    let build = ["build", "--quiet", "--release", "--package", "keywright", "--bins"];
    crate::run(cargo().args(build).args(features))?;
    let statics = image.parts.iter().find(|part| part.name == "app").map_or(0, |part| part.ram_statics);
    figures.extend(figures_of(
        cargo()
            .args(["run", "--quiet", "--release", "--package", "keywright-e2e", "--example", "bench_units"])
            .env("KEYWRIGHT_COMMON_IMAGE", &image.json)
            .env("KEYWRIGHT_RAM_STATICS", statics.to_string()),
    )?);
    say("measuring a fleet that gets new keys over a bad network (release build)");
    figures.extend(figures_of(cargo().args([
        "run",
        "--quiet",
        "--release",
        "--package",
        "keywright-e2e",
        "--example",
        "bench_fleet",
    ]))?);
    if args.json {
        for figure in &figures {
            println!("{figure}");
        }
    } else {
        println!("{:<42} {:>14} {:<6} {:<10} paper", "figure", "value", "unit", "goal");
        for figure in &figures {
            println!(
                "{:<42} {:>14} {:<6} {:<10} {}",
                figure["name"].as_str().unwrap_or_default(),
                shown(&figure["value"]),
                figure["unit"].as_str().unwrap_or_default(),
                shown(&figure["goal"]),
                shown(&figure["paper"]),
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        Value::Number(number) if number.is_f64() => format!("{:.3}", number.as_f64().unwrap_or(f64::NAN)),
        other => other.to_string(),
    }
}

fn figures_of(command: &mut std::process::Command) -> Result<Vec<Value>> {
    let out = command.stderr(Stdio::inherit()).output()?;
    anyhow::ensure!(out.status.success(), "`{}` failed ({})", crate::shown(command), out.status);
    String::from_utf8(out.stdout)?
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).with_context(|| format!("not a figure: {line}")))
        .collect()
}
