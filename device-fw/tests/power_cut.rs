//! Every flash operation of INIT and of the first cloud key is cut once, and the unit must come out whole.

mod support;

use keywright_protocol::{Purpose, Suite};
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

/// `progress`: how far the operation came, in percent. 0 and 100 matter as much as what lies between: nothing
/// happened, or all of it did and the unit does not know.
fn every_operation_cut_once(suite: Suite) {
    let operations = operations_of_a_clean_run(suite);
    for progress in [0, 10, 50, 90, 97, 100] {
        for at in 0..operations {
            let seed = 1 + at * 101 + progress;
            let mut world = World::new(Agent::new(suite, seed), seed);
            world.nor.borrow_mut().cut = Some(Cut { at, progress });
            assert!(
                world.run_to_active(),
                "I3: cut at {at} with {progress} % does not converge: {:?}",
                world.logs
            );
            assert_eq!(world.boots, 2, "the cut at {at} never came");
            world.check_active();
            let status = world.status();
            assert_eq!(Some(status.agent_key.0), world.agent.active_agent_key());
            assert_eq!(status.cloud_key.0, 1, "I10: no second cloud generation was staged");
        }
    }
}

#[test]
fn i1_i3_every_operation_cut_once_suite_2() {
    every_operation_cut_once(Suite::Hardened);
}

#[test]
fn i1_i3_every_operation_cut_once_suite_1() {
    every_operation_cut_once(Suite::Legacy);
}

/// Several cuts in a row on a line that loses, doubles, reorders and damages frames.
#[test]
fn i3_many_cuts_on_a_bad_line_converge() {
    for seed in 0..600 {
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
        let done = world.run_to_active();
        assert!(done, "seed {seed}: {:?} {:?}", world.records(), world.logs.last());
        world.check_active();
    }
}

/// Weak cells: whatever a cut left between 0 and 1 may read otherwise at the next start. From the moment the
/// agent relies on a key, every later start must find it (I1, I6), and the identity must stay the same.
#[test]
fn i6_what_the_agent_relies_on_survives_any_number_of_restarts() {
    // The last word of a 16-byte row decides: a mark, a slot or a body is complete with it, or nearly so.
    let history = {
        let mut world = World::new(Agent::new(Suite::Hardened, 1), 1);
        assert!(world.run_to_active());
        world.nor.borrow().history.clone()
    };
    let last_words: Vec<u64> =
        (0..history.len()).filter(|i| history[*i] % 16 == 12).map(|i| i as u64).collect();
    assert!(last_words.len() > 80, "{last_words:?}");
    let mut shaky = 0;
    for &at in &last_words {
        for progress in (60..100).step_by(3) {
            let seed = at * 101 + progress;
            let mut world = World::new(Agent::new(Suite::Hardened, seed), seed);
            world.nor.borrow_mut().cut = Some(Cut { at, progress });
            assert!(world.run_until(3_600_000, |w| w.boots == 2), "the cut at {at} never came");
            shaky += u64::from(world.nor.borrow().has_weak_cells());
            // Stop the moment the agent has activated something, before the unit can have heard of it.
            let before = (world.agent.active_agent_key(), world.agent.cloud_active);
            world.run_until(3_600_000, |w| (w.agent.active_agent_key(), w.agent.cloud_active) != before);
            let relied = (world.agent.active_agent_key().unwrap_or(0), world.agent.cloud_active);
            let secret = world.nor.borrow().secret().map(|secret| *secret.expose());
            for _ in 0..6 {
                world.power_on();
                let records = world.records();
                let accepted = |r: &support::Seen| r.committed && r.agent >= relied.0 && r.cloud >= relied.1;
                assert!(
                    relied == (0, 0) || records.iter().any(accepted),
                    "cut at {at}, {progress} %: the agent relies on {relied:?}, flash holds {records:?}"
                );
                assert_eq!(world.nor.borrow().secret().map(|secret| *secret.expose()), secret, "cut at {at}");
            }
            assert!(world.run_to_active(), "cut at {at}, {progress} %");
            world.check_active();
            assert_eq!(world.agent.cloud_active, 1, "cut at {at}, {progress} %: a key was lost");
        }
    }
    assert!(shaky > 100, "the simulator must leave weak cells behind: {shaky}");
}

/// A write that looks done and is not: only the read-back can tell.
#[test]
fn a_word_that_did_not_take_is_found_before_the_commit() {
    for area in [keywright_protocol::map::KEY_AREA_A, keywright_protocol::map::KEY_AREA_B] {
        for word in [0, 1, 20, 40, 60] {
            let mut world = World::new(Agent::new(Suite::Hardened, 1), 1);
            world.nor.borrow_mut().lazy = Some((area, word));
            assert!(world.run_to_active());
            assert!(world.nor.borrow().lazy.is_none(), "the fault never struck");
            world.check_active();
            assert!(world.logged(keywright_protocol::DeviceFailure::FlashReadBack));
            assert_eq!(world.boots, 1);
        }
    }
}

/// Weak cells that read alike for a whole boot and otherwise in the next: found by the model checker (`docs/model.md`).
fn shaky_world() -> World {
    let mut world = World::new(Agent::new(Suite::Legacy, 1), 1);
    assert!(world.run_to_active());
    let mut nor = world.nor.borrow_mut();
    nor.all_waver = true;
    nor.weak_reads = Some(true);
    drop(nor);
    world
}

fn relied_on_after_restart(mut world: World, generation: u32) {
    assert!(world.run_until(3_600_000, |w| w.agent.cloud_active == generation), "{:?}", world.logs);
    let reads = world.nor.borrow().weak_reads.map(|ones| !ones);
    world.nor.borrow_mut().weak_reads = reads;
    world.power_on();
    let records = world.records();
    assert!(
        records.iter().any(|r| r.committed && r.cloud == generation),
        "I1: the agent relies on cloud key {generation}, flash holds {records:?}"
    );
    assert!(world.run_to_active());
    world.check_active();
}

/// An erase that was cut can look finished. A record written over its weak cells is read back well today, and gone
/// tomorrow, with the other area erased on its strength.
#[test]
fn i1_an_area_that_only_reads_as_blank_is_erased_before_it_is_written() {
    let mut world = shaky_world();
    world.unit().start_update(Purpose::CloudKeyUpdate).unwrap();
    world.nor.borrow_mut().cut_next_erase = true;
    assert!(world.run_until(3_600_000, |w| w.boots == 2), "the erase after CONFIRM never came");
    assert!(world.nor.borrow().has_weak_cells());
    assert!(world.run_to_active());
    assert_eq!((world.records().len(), world.agent.cloud_active), (1, 2), "the other area reads as blank");
    world.unit().start_update(Purpose::CloudKeyUpdate).unwrap();
    relied_on_after_restart(world, 3);
}

/// A torn COMMIT has the record erased at boot; if that is cut as well, the record can read as pending after all, and
/// all of it wavers, not the mark alone.
#[test]
fn i1_a_pending_record_is_programmed_whole_before_anything_is_sent_under_it() {
    let last_word_of_commit = {
        let mut twin = shaky_world();
        twin.unit().start_update(Purpose::CloudKeyUpdate).unwrap();
        let frames = twin.agent.frames;
        assert!(twin.run_until(60_000, |w| w.agent.frames == frames + 2), "message 3 never came");
        let operations = twin.nor.borrow().history.len();
        // Message 3 leaves right behind COMMIT, and message 4 has CONFIRM programmed only after it.
        operations as u64 - 1
    };
    let mut world = shaky_world();
    world.nor.borrow_mut().cut = Some(Cut { at: last_word_of_commit, progress: 50 });
    world.nor.borrow_mut().cut_next_erase = true;
    // The update's own erase of an area that this boot did not erase must not be the one that is cut.
    let erased_already = world.nor.borrow().erased.len();
    world.unit().start_update(Purpose::CloudKeyUpdate).unwrap();
    assert!(world.run_until(60_000, |w| w.boots == 2), "COMMIT was never cut");
    assert_eq!(world.nor.borrow().erased.len(), erased_already);
    world.nor.borrow_mut().weak_reads = Some(false);
    assert!(world.run_until(60_000, |w| w.boots == 3), "the torn record's erase was never cut");
    assert_eq!(world.records().iter().filter(|r| r.committed).count(), 2, "{:?}", world.records());
    relied_on_after_restart(world, 2);
}

/// A slot whose first word was cut can read as blank; a secret in it could lose bits one day, and with it the store key
/// and the identity.
#[test]
fn a_storage_secret_never_lies_on_weak_cells() {
    // One slot is spoiled, the next one is written: 12 words each.
    for at in 0..24 {
        for ones in [true, false] {
            let mut world = World::new(Agent::new(Suite::Legacy, 1), 1);
            let mut nor = world.nor.borrow_mut();
            nor.all_waver = true;
            nor.weak_reads = Some(ones);
            nor.cut = Some(Cut { at, progress: 50 });
            drop(nor);
            assert!(world.run_to_active(), "cut at {at}");
            assert_eq!(world.boots, 2);
            let secret = world.nor.borrow().secret().map(|secret| *secret.expose());
            for reads in [!ones, ones] {
                world.nor.borrow_mut().weak_reads = Some(reads);
                world.power_on();
                assert_eq!(world.nor.borrow().secret().map(|secret| *secret.expose()), secret, "cut at {at}");
                assert!(world.run_to_active(), "cut at {at}");
                world.check_active();
            }
        }
    }
}
