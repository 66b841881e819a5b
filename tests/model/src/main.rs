//! The large configuration: `cargo run -p keywright-model --release`, with `small` as argument the small one.

use std::process::ExitCode;

use keywright_model::Mutant;
use keywright_model::check::{Config, LARGE, SMALL, check};

fn main() -> ExitCode {
    let small = std::env::args().nth(1).is_some_and(|which| which == "small");
    let configs: &[Config] = if small { &SMALL } else { &LARGE };
    let mut whole = true;
    let mut states = 0;
    for config in configs {
        println!("{} {:?}", config.name, config.budget);
        let report = check(config, Mutant::None, None);
        print!("{report}");
        whole &= report.broken.is_empty();
        states += report.states;
    }
    println!("{states} states in all; {}", if whole { "every invariant holds" } else { "BROKEN" });
    if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
