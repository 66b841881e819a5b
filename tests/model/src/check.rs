//! The configurations that are checked, and one way to check them: used by the tests and by the program.

use std::collections::BTreeSet;
use std::fmt;

use stateright::{Checker, HasDiscoveries, Model};

use crate::Mutant;
use crate::system::{Begin, Budget, System};

/// A name, a beginning, and what may go wrong.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Its name in docs and reports.
    pub name: &'static str,
    /// Where it begins.
    pub begin: Begin,
    /// What may go wrong and what is asked for.
    pub budget: Budget,
}

const fn enrolled(name: &'static str, budget: Budget) -> Config {
    Config { name, begin: Begin::Enrolled, budget }
}

/// The small configuration, in parts: each fault with each other one would be the large one. CI runs it.
pub const SMALL: [Config; 8] = [
    enrolled(
        "power: an agent key and a cloud key, a cut in every operation",
        Budget { cut: 1, tick: 1, agent_updates: 1, cloud_updates: 1, ..Budget::NONE },
    ),
    enrolled(
        "line: cut, loss, duplicate, crash",
        Budget { cut: 1, loss: 1, duplicate: 1, crash: 1, tick: 1, cloud_updates: 1, ..Budget::NONE },
    ),
    enrolled(
        "refusal: evicted exchanges, cut, loss",
        Budget {
            cut: 1,
            loss: 1,
            tick: 1,
            agent_updates: 1,
            cloud_updates: 1,
            evict: 1,
            logins: false,
            ..Budget::NONE
        },
    ),
    enrolled(
        "replay: old frames to both sides, old commands to the cloud",
        Budget { replay: 1, crash: 1, tick: 1, agent_updates: 1, cloud_updates: 1, cloud: 1, ..Budget::NONE },
    ),
    enrolled("two cuts, also while booting", Budget { cut: 2, tick: 1, cloud_updates: 1, ..Budget::NONE }),
    Config {
        name: "enrolment: from stage one to both keys, one cut",
        begin: Begin::StageOne,
        budget: Budget { cut: 1, tick: 1, ..Budget::NONE },
    },
    enrolled(
        "eviction: logins, crash, loss, two cloud keys",
        Budget { loss: 1, crash: 1, tick: 1, cloud_updates: 2, evict: 2, ..Budget::NONE },
    ),
    enrolled(
        "eviction: logins, a cut",
        Budget { cut: 1, tick: 1, cloud_updates: 1, evict: 1, ..Budget::NONE },
    ),
];

/// The large configuration: minutes in a release build.
pub const LARGE: [Config; 6] = [
    enrolled(
        "two cuts, an agent key and a cloud key",
        Budget { cut: 2, tick: 1, agent_updates: 1, cloud_updates: 1, ..Budget::NONE },
    ),
    enrolled(
        "refusal: two cuts, loss",
        Budget { cut: 2, loss: 1, tick: 1, cloud_updates: 1, evict: 1, logins: false, ..Budget::NONE },
    ),
    enrolled(
        "eviction: cut, loss, crash, logins",
        Budget { cut: 1, loss: 1, crash: 1, tick: 1, cloud_updates: 1, evict: 1, ..Budget::NONE },
    ),
    enrolled(
        "cut and replay",
        Budget { cut: 1, replay: 1, tick: 1, agent_updates: 1, cloud_updates: 1, cloud: 1, ..Budget::NONE },
    ),
    enrolled("three cuts", Budget { cut: 3, tick: 1, cloud_updates: 1, ..Budget::NONE }),
    Config { name: "enrolment, two cuts", begin: Begin::StageOne, budget: Budget { cut: 2, ..Budget::NONE } },
];

/// What a run of the checker came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Distinct states.
    pub states: usize,
    /// Steps of the longest shortest path.
    pub depth: usize,
    /// Different runs of the real engine.
    pub runs: usize,
    /// Different fault-free continuations followed to their end.
    pub continuations: usize,
    /// How often each kind of action led somewhere.
    pub taken: Vec<(&'static str, usize)>,
    /// What is broken: invariant, number of steps, and the steps with the state they end in.
    pub broken: Vec<(&'static str, usize, String)>,
}

impl Report {
    /// How often a kind of action led somewhere.
    pub fn taken(&self, kind: &str) -> usize {
        self.taken.iter().find(|(name, _)| *name == kind).map_or(0, |(_, n)| *n)
    }

    /// Steps to the nearest state that breaks an invariant.
    pub fn steps_to_break(&self, invariant: &str) -> Option<usize> {
        self.broken.iter().find(|(name, ..)| *name == invariant).map(|(_, steps, _)| *steps)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { states, depth, runs, continuations, .. } = self;
        writeln!(
            f,
            "{states} states, depth {depth}, {runs} runs of the engine, {continuations} continuations; taken: {:?}",
            self.taken
        )?;
        self.broken
            .iter()
            .try_for_each(|(name, steps, path)| writeln!(f, "BROKEN {name} in {steps} steps\n{path}"))
    }
}

/// Checks every state of a configuration, or, with `until`, as many as it takes to break that invariant.
///
/// Breadth first; with one thread, what is found first is nearest.
pub fn check(config: &Config, mutant: Mutant, until: Option<&'static str>) -> Report {
    let threads = if until.is_some() { 1 } else { 2 };
    let stop = until.map_or(HasDiscoveries::All, |name| HasDiscoveries::AllOf(BTreeSet::from([name])));
    let system = System::new(config.begin, config.budget, mutant);
    let checker = system.checker().threads(threads).finish_when(stop).spawn_bfs().join();
    let mut broken: Vec<_> = checker
        .discoveries()
        .into_iter()
        .map(|(name, path)| {
            let end = format!("{path}= {:?}\n", path.last_state());
            (name, path.into_actions().len(), end)
        })
        .collect();
    broken.sort_by_key(|(_, steps, _)| *steps);
    Report {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        runs: checker.model().runs(),
        continuations: checker.model().continuations(),
        taken: checker.model().taken(),
        broken,
    }
}
