//! A short, seeded selection of the torture, for every change. `cargo xtask torture` is the whole of it.

use keywright_torture::{Case, Clean, Cut, PROGRESS, Run, Torture, Transition, cases};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

fn image() -> PathBuf {
    match std::env::var_os("KEYWRIGHT_COMMON_IMAGE") {
        Some(path) => path.into(),
        None => {
            PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/firmware/common-image.json"))
        }
    }
}

/// Cuts of the short selection.
const CUTS: usize = 60;

#[test]
fn a_unit_cut_in_the_middle_of_anything_recovers_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run {
        image: image(),
        suite: 1,
        seed: 20_261_126,
        instants: 20,
        cuts: Some(CUTS),
        threads: 2,
        resume: Some(folder.path().join("results")),
    };
    // Somebody stops it on the way and goes on later.
    let stop = AtomicBool::new(false);
    let part = run.make(&stop, &|p| stop.store(p.done >= CUTS / 4, Ordering::Relaxed)).unwrap();
    let made = part.total().cuts() as usize;
    assert!((CUTS / 4..CUTS).contains(&made), "{made} cuts");
    let again = AtomicUsize::new(0);
    let matrix = run
        .make(&AtomicBool::new(false), &|p| {
            again.fetch_add(1, Ordering::Relaxed);
            assert!(p.done > made && p.of == CUTS);
        })
        .unwrap();
    assert_eq!(again.into_inner(), CUTS - made, "no cut is made twice");
    let total = matrix.total();
    assert_eq!(
        (total.cuts() as usize, total.stranded, total.manual),
        (CUTS, 0, 0),
        "{:#?}",
        matrix.casualties
    );
    assert!(matrix.of > 10_000, "a full run has {} cuts", matrix.of);
    assert!(total.kept > 0 && total.renewed > 0, "cuts before and behind the commit: {total:?}");
    assert_eq!(matrix.rows.len(), Transition::ALL.len());
    for row in &matrix.rows {
        assert!(
            row.operations > 100,
            "{} has {} operations: words must be counted",
            row.transition,
            row.operations
        );
        assert!(row.classes.values().map(|o| o.cuts()).sum::<u32>() > 0, "{} was never cut", row.transition);
    }
}

/// The hardened exchange, cut where it hurts most: in the words that decide.
#[test]
fn the_hardened_exchange_survives_cuts_around_its_commit() {
    let mut torture = Torture::new(&image(), 2, 7).unwrap();
    let clean = torture.clean(Transition::CloudKey).unwrap();
    for back in 0..3 {
        let cut = Cut::Operation { at: clean.operations - 9 + 4 * back, percent: 50, seed: back };
        let case = Case { transition: Transition::CloudKey, cut, again: None, cloud_first: back != 1 };
        let (outcomes, casualty) = torture.case(&case, &clean).unwrap();
        assert_eq!((outcomes.cuts(), casualty), (1, None), "{case:?}");
    }
}

/// A serial line that loses, repeats, damages and reorders packets of every channel, and cuts on top of it. When it is mended, nobody
/// is left outside.
#[test]
fn a_bad_line_costs_time_and_no_keys() {
    let mut torture = Torture::new(&image(), 1, 11).unwrap();
    let clean = torture.clean(Transition::CloudKey).unwrap();
    for (n, transition) in
        [Transition::AgentKey, Transition::Move, Transition::CloudKey].into_iter().enumerate()
    {
        torture.disturb(8);
        let cut = Cut::Operation { at: 60 * (n as u64 + 1), percent: 75, seed: n as u64 };
        let case = Case { transition, cut, again: None, cloud_first: n == 1 };
        let (outcomes, casualty) = torture.case(&case, &clean).unwrap();
        assert_eq!((outcomes.cuts(), casualty), (1, None), "{case:?}");
    }
    torture.clean(Transition::Move).unwrap();
}

/// A torture that could not tell a dead unit from a living one would be worth nothing.
#[test]
fn a_unit_whose_keys_are_gone_is_a_casualty() {
    let mut torture = Torture::new(&image(), 1, 9).unwrap();
    let clean = torture.clean(Transition::AgentKey).unwrap();
    torture.lose_its_keys();
    let cut = Cut::Instant { share: 5_000 };
    let case = Case { transition: Transition::AgentKey, cut, again: None, cloud_first: true };
    let (outcomes, casualty) = torture.case(&case, &clean).unwrap();
    let casualty = casualty.expect("nobody accepts it");
    assert_eq!((outcomes.stranded, casualty.stranded), (1, true), "{casualty:?}");
    // The next one is well again.
    let (outcomes, casualty) = torture.case(&case, &clean).unwrap();
    assert_eq!((outcomes.cuts(), outcomes.stranded, casualty), (1, 0, None));
}

#[test]
fn every_operation_of_every_transition_is_a_case() {
    let clean: Vec<Clean> = Transition::ALL
        .into_iter()
        .map(|transition| Clean { transition, operations: 10, takes: Duration::from_secs(1) })
        .collect();
    let all = cases(&clean, 1, 100, None);
    assert_eq!(all.len(), 6 * 10 * (PROGRESS.len() + 1) + 100);
    for clean in &clean {
        for at in 1..=10 {
            for percent in PROGRESS {
                let hit = |case: &&Case| {
                    case.transition == clean.transition
                        && matches!(case.cut, Cut::Operation { at: a, percent: p, .. } if (a, p) == (at, percent))
                };
                assert!(all.iter().any(|case| hit(&case)), "{:?} {at} {percent}", clean.transition);
            }
        }
    }
    assert_eq!(cases(&clean, 1, 100, Some(50)).len(), 50);
    assert_eq!(cases(&clean, 1, 100, None), all, "the seed decides");
    assert!(all.iter().filter(|c| c.again.is_some()).count() >= 60);
}
