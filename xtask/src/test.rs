//! `cargo xtask test`: everything a change must pass.

use crate::setup::Need;
use crate::{cargo, say};
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;

/// Options of `test`.
#[derive(Args, Default)]
pub struct TestArgs {
    /// Only this package (repeatable); default: the whole workspace
    #[arg(short, long)]
    package: Vec<String>,
}

/// Runs the tests.
pub fn run(args: &TestArgs) -> Result<ExitCode> {
    crate::setup::ensure(&[Need::Build, Need::Window, Need::WindowTests])?;
    say("format");
    crate::run(cargo().args(["fmt", "--all", "--check"]))?;
    say("firmware");
    let image = crate::firmware::build()?;
    for part in &image.parts {
        say(format!("  {} {} bytes, {} bytes of statics", part.name, part.length, part.ram_statics));
    }
    let mut test = cargo();
    test.arg("test").env("KEYWRIGHT_COMMON_IMAGE", &image.json);
    if args.package.is_empty() {
        test.arg("--workspace");
    }
    // One selection of packages in this whole run: another would resolve other features and compile everything twice.
    // `test` builds the programs that tests start as well.
    for package in &args.package {
        test.args(["--package", package]);
    }
    say(crate::shown(&test));
    crate::run(&mut test)?;
    if args.package.is_empty() {
        say("the demo, headless");
        let code = crate::demo::run_built(&crate::demo::DemoArgs::smoke(), &image.json)?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
        say("every fuzz target for a minute");
        crate::fuzz::pass()?;
    }
    say("all tests passed");
    Ok(ExitCode::SUCCESS)
}

/// The lints that CI holds on top of the tests.
pub fn lints() -> Result<()> {
    crate::setup::ensure(&[Need::Build])?;
    say("clippy");
    crate::run(cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}
