//! Each of PROTOCOL §5's mutants must fail: what it breaks, and in how many steps. A checker that finds nothing in them
//! would find nothing in the product.

use keywright_model::check::{Config, check};
use keywright_model::system::{Begin, Budget};
use keywright_model::{I1, I2, I3, I4, I5, I6, I7, I8, I9, I10, Mutant};

const ONE_CLOUD_KEY: Budget = Budget { cloud_updates: 1, ..Budget::NONE };

/// The mutant breaks `first`; the same budget without the mutant breaks nothing (a checker that always finds something
/// is as useless).
fn must_fail(mutant: Mutant, budget: Budget, breaks: &[&'static str]) {
    must_fail_from(Begin::Enrolled, mutant, budget, breaks);
}

fn must_fail_from(begin: Begin, mutant: Mutant, budget: Budget, breaks: &[&'static str]) {
    let config = Config { name: "mutant", begin, budget };
    for invariant in breaks {
        let report = check(&config, mutant, Some(invariant));
        let steps = report.steps_to_break(invariant);
        let path = report.broken.iter().find(|(name, ..)| name == invariant).map(|(.., path)| path.as_str());
        println!(
            "MUTANT {mutant:?} | {invariant} | {steps:?} steps, {} states\n{}",
            report.states,
            path.unwrap_or("")
        );
        assert!(steps.is_some_and(|steps| steps > 0), "{mutant:?} must break {invariant}: {report}");
    }
    let report = check(&config, Mutant::None, None);
    assert!(report.broken.is_empty() && report.states > 10, "without {mutant:?}: {report}");
}

#[test]
fn shared_sector() {
    must_fail(Mutant::SharedSector, Budget { cut: 1, ..ONE_CLOUD_KEY }, &[I1, I3, I4]);
}

#[test]
fn single_slot_in_place() {
    must_fail(Mutant::SingleSlot, Budget { agent_updates: 1, ..Budget::NONE }, &[I1, I4]);
}

#[test]
fn u4_before_commit() {
    must_fail(Mutant::ConfirmBeforeCommit, Budget { cut: 1, ..ONE_CLOUD_KEY }, &[I1, I5, I6]);
}

#[test]
fn disable_at_step_3() {
    must_fail(Mutant::DisableAtStep3, ONE_CLOUD_KEY, &[I1, I6]);
}

#[test]
fn no_read_repair() {
    must_fail(Mutant::NoReadRepair, Budget { cut: 1, ..ONE_CLOUD_KEY }, &[I1, I5, I6]);
}

#[test]
fn restage_per_u1() {
    must_fail(Mutant::RestagePerRequest, Budget { cut: 1, cloud_updates: 2, ..Budget::NONE }, &[I2, I10]);
}

#[test]
fn early_erase_and_both_time_out() {
    let budget = Budget { cloud: 1, ..ONE_CLOUD_KEY };
    must_fail(Mutant::EarlyErase, budget, &[I1, I4]);
    // It takes both halves to leave the unit without any key.
    let config = |budget| Config { name: "half a mutant", begin: Begin::Enrolled, budget };
    let erase = check(&config(ONE_CLOUD_KEY), Mutant::EarlyErase, None);
    assert_eq!((erase.steps_to_break(I1), erase.steps_to_break(I4).is_some()), (None, true), "{erase}");
    let time_out = check(&config(budget), Mutant::TimeoutOnly, None);
    assert_eq!(
        (time_out.steps_to_break(I1), time_out.steps_to_break(I3).is_some()),
        (None, true),
        "{time_out}"
    );
}

#[test]
fn stale_commit() {
    must_fail(Mutant::StaleCommit, Budget { cloud: 1, ..ONE_CLOUD_KEY }, &[I1]);
}

#[test]
fn volatile_n2() {
    must_fail(Mutant::VolatileN2, Budget { cut: 1, ..ONE_CLOUD_KEY }, &[I3]);
}

#[test]
fn newest_request_wins() {
    must_fail(Mutant::NewestRequestWins, Budget { replay: 1, agent_updates: 1, ..Budget::NONE }, &[I1, I6]);
}

// Withdrawing a cloud key (`docs/adr/0017-…`): each of its three parts is needed.

#[test]
fn a_withdrawal_that_asks_nobody() {
    must_fail(Mutant::WithdrawUnasked, Budget { evict: 1, ..ONE_CLOUD_KEY }, &[I1, I6]);
}

#[test]
fn a_withdrawal_that_compares_nothing() {
    must_fail(Mutant::WithdrawBlindly, Budget { evict: 1, ..ONE_CLOUD_KEY }, &[I1, I2]);
}

#[test]
fn a_withdrawal_that_is_not_noted_first() {
    must_fail(Mutant::WithdrawUnnoted, Budget { evict: 1, crash: 1, ..ONE_CLOUD_KEY }, &[I3]);
}

// Not in the list: teeth for the invariants that none of its mutants breaks.

#[test]
fn early_erase_of_the_product_key() {
    must_fail_from(Begin::StageOne, Mutant::EarlyErase, Budget::NONE, &[I4, I7]);
}

#[test]
fn generations_that_do_not_grow() {
    must_fail(Mutant::ForgottenGeneration, ONE_CLOUD_KEY, &[I8]);
}

#[test]
fn a_confirm_that_never_reaches_the_cells() {
    must_fail(Mutant::LostConfirm, Budget { cloud_updates: 2, ..Budget::NONE }, &[I9]);
}

/// Not in the list; the model found it while it was made.
#[test]
fn a_login_that_leaves_its_exchange_open() {
    must_fail(
        Mutant::LoginLeavesExchange,
        Budget { cut: 1, tick: 1, cloud_updates: 2, ..Budget::NONE },
        &[I3],
    );
}
