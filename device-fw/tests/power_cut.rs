//! Every flash operation of INIT and of the first cloud key is cut once, and the unit must come out whole.

mod support;

use keywright_protocol::Suite;
use support::agent::Agent;
use support::nor::Cut;
use support::{Dice, Line, World};

fn operations_of_a_clean_run(suite: Suite) -> u64 {
    let mut world = World::new(Agent::new(suite, 1), 1);
    assert!(world.run_to_active());
    world.check_active();
    let operations = world.nor.borrow().operations;
    assert!(operations > 300, "a run has {operations} operations; the counter must count words");
    operations
}

fn every_operation_cut_once(suite: Suite, progress: [u64; 2]) {
    let operations = operations_of_a_clean_run(suite);
    for at in 0..operations {
        let progress = progress[(at % 2) as usize];
        let mut world = World::new(Agent::new(suite, 1), 1);
        world.nor.borrow_mut().cut = Some(Cut { at, progress });
        assert!(world.run_to_active(), "I3: cut at {at} with {progress} % does not converge: {:?}", world.logs);
        assert!(world.boots >= 2 || at + 1 >= operations, "the cut at {at} never came");
        world.check_active();
        let status = world.status();
        assert_eq!(status.agent_key.0, world.agent.active_agent_key().unwrap());
    }
}

#[test]
fn i1_i3_every_operation_cut_once_suite_2() {
    every_operation_cut_once(Suite::Hardened, [50, 90]);
}

#[test]
fn i1_i3_every_operation_cut_once_suite_1() {
    every_operation_cut_once(Suite::Legacy, [10, 97]);
}

/// Several cuts in a row on a line that loses, doubles, reorders and damages frames.
#[test]
fn i3_many_cuts_on_a_bad_line_converge() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let suite = if seed % 2 == 0 { Suite::Hardened } else { Suite::Legacy };
        let mut world = World::new(Agent::new(suite, seed), seed);
        world.line = Line { loss: 20, duplicate: 20, corrupt: 10, reorder: 20 };
        for _ in 0..4 {
            let at = world.nor.borrow().operations + dice.next() % 250;
            world.nor.borrow_mut().cut = Some(Cut { at, progress: dice.next() % 101 });
            let boots = world.boots;
            world.run_until(40_000, |w| w.boots > boots);
        }
        world.nor.borrow_mut().cut = None;
        world.line = Line { loss: 10, ..Line::default() };
        assert!(world.run_to_active(), "seed {seed}");
        world.check_active();
    }
}
