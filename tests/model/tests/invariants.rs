//! The product keeps every invariant in every state of the small configuration.

use keywright_model::Mutant;
use keywright_model::check::{Config, SMALL, check};
use keywright_model::system::Action;

fn small(part: usize, at_least: usize, kinds: &[&str]) {
    let config: &Config = &SMALL[part];
    let report = check(config, Mutant::None, None);
    println!("{}\n{report}", config.name);
    assert!(report.broken.is_empty(), "{}: {report}", config.name);
    // Nothing above may hold because nothing happened.
    assert!(report.states >= at_least, "{}: only {} states", config.name, report.states);
    for kind in kinds {
        assert!(Action::KINDS.contains(kind));
        assert!(report.taken(kind) > 0, "{}: nobody did \"{kind}\"", config.name);
    }
    assert!(report.runs > 100 && report.continuations > 1_000, "{report}");
}

const ALWAYS: [&str; 3] = ["deliver to unit", "deliver to agent", "login"];
const ASKED: [&str; 4] = ["deliver to unit", "deliver to agent", "login", "start"];
const POWER: [&str; 3] = ["power cut", "power on", "deliver and cut"];

#[test]
fn power_cuts() {
    small(0, 15_000, &[&ASKED[..], &POWER, &["tick"]].concat());
}

#[test]
fn a_bad_line_and_a_crashing_agent() {
    small(1, 15_000, &[&ASKED[..], &POWER, &["deliver and crash", "drop", "duplicate"]].concat());
}

#[test]
fn refusals() {
    small(2, 20_000, &[&ASKED[..2], &POWER, &["start", "tick", "drop", "evict"]].concat());
}

#[test]
fn replays() {
    let more = ["deliver and crash", "replay to unit", "replay to agent", "old stage", "old commit", "tick"];
    small(3, 15_000, &[&ASKED[..], &more].concat());
}

#[test]
fn two_cuts() {
    small(4, 10_000, &[&ASKED[..], &POWER, &["power on and cut", "tick"]].concat());
}

#[test]
fn enrolment() {
    small(5, 20_000, &[&ALWAYS[..], &POWER, &["power on and cut", "tick"]].concat());
}

/// A key whose exchanges are forgotten while its unit may have logged in with it, or while a crash lost the cloud's
/// acknowledgement: the cloud decides which came first, and the unit is never sent back to a key that is shut out.
#[test]
fn exchanges_forgotten_after_their_key_was_committed() {
    let more = ["deliver and crash", "evict", "evict and crash", "drop", "tick"];
    small(6, 10_000, &[&ASKED[..], &more].concat());
}

#[test]
fn exchanges_forgotten_while_the_power_fails() {
    small(7, 3_000, &[&ASKED[..], &POWER, &["evict", "tick"]].concat());
}
