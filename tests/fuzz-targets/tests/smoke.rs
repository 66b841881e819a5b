//! Every target over its seeds and a fixed number of seeded mutations, on every change.

use keywright_fuzz_targets::mutate::{Rng, mutate};
use keywright_fuzz_targets::{Target, seeds, target};

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    seeds::all().into_iter().filter(|(of, ..)| *of == target.name).map(|(.., bytes)| bytes).collect()
}

fn smoke(name: &str) {
    let target = target(name).expect("a target of this name");
    let corpus = corpus(target);
    assert!(corpus.len() >= 9, "{name} has seeds");
    let mut rng = Rng::new(0x6b77);
    let mutations = (0..target.smoke).map(|_| mutate(&mut rng, &corpus, target.max_len));
    for input in corpus.iter().cloned().chain(mutations) {
        let result = std::panic::catch_unwind(|| (target.run)(&input));
        assert!(result.is_ok(), "{name}: a promise is broken by {}", hex::encode(&input));
    }
}

#[test]
fn frames() {
    smoke("frames");
}

#[test]
fn records() {
    smoke("records");
}

#[test]
fn serial() {
    smoke("serial");
}

#[test]
fn control() {
    smoke("control");
}

#[test]
fn certs() {
    smoke("certs");
}

#[test]
fn line() {
    smoke("line");
}

#[test]
fn probe() {
    smoke("probe");
}

#[test]
fn bridge() {
    smoke("bridge");
}

#[test]
fn broker() {
    smoke("broker");
}

#[test]
fn seeds_in_the_tree_are_what_the_vectors_give() {
    let folder = seeds::folder();
    let mut expected = 0;
    for (target, name, bytes) in seeds::all() {
        let file = folder.join(target).join(&name);
        let found = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert!(found == bytes, "{} differs: run the example `seeds`", file.display());
        expected += 1;
    }
    let files = std::fs::read_dir(&folder)
        .expect("seeds")
        .flat_map(|target| std::fs::read_dir(target.expect("a folder").path()).expect("a folder of seeds"));
    assert_eq!(files.count(), expected, "seeds that nobody makes");
}

/// The mutator must reach what the targets are for: changed inputs, of many lengths, the same on every machine.
#[test]
fn the_mutator_repeats_itself_only_on_purpose() {
    let corpus = [vec![0; 40], (0..200).collect()];
    let run = |seed| {
        let mut rng = Rng::new(seed);
        (0..500).map(|_| mutate(&mut rng, &corpus, 256)).collect::<Vec<_>>()
    };
    let first = run(1);
    assert_eq!(first, run(1));
    assert_ne!(first, run(2));
    let distinct: std::collections::BTreeSet<_> = first.iter().collect();
    assert!(distinct.len() > 450, "{}", distinct.len());
    assert!(first.iter().all(|input| input.len() <= 256));
}
