//! Torture: the release firmware on a virtual board, cut at every flash operation of every key change, inside it, at random
//! instants, and again while it recovers. After each cut: power on, let it recover, log in at the broker.
//!
//! A unit lives through thousands of cuts, one transition after the other, as a unit in the field would; only enrolments begin with
//! a new one. A cut is judged by what anybody can see: the unit's own word, the agent's check of its proof, and the broker that lets
//! it in.

pub mod results;
pub mod rig;

use anyhow::{Context, Result, ensure};
use keywright::agent::{Agent, FrameContext};
use keywright::matrix::{Casualty, Outcomes, PowerCutMatrix};
use keywright::model::BatchId;
use keywright_protocol::control::Control;
use keywright_protocol::{Purpose, map};
use results::{Finished, Results, Selection};
use rig::{Ended, PLACES, Rig, Serve, Subject};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Virtual time that a unit gets to settle. By itself it backs off up to an hour; every look at it hurries it.
const RECOVERY: Duration = Duration::from_secs(5 * 60);
/// Virtual time that one transition may take.
const TRANSITION: Duration = Duration::from_secs(10 * 60);
/// How far an operation has come when it is cut, in percent. 0 is the boundary before it.
pub const PROGRESS: [u32; 6] = [0, 5, 25, 50, 75, 95];

/// What changes in the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// From stage one to both keys: INIT and the first cloud key.
    Enrol,
    /// A new agent key (AKU).
    AgentKey,
    /// A new cloud key at the same platform (CKU).
    CloudKey,
    /// A new cloud key at another platform.
    Move,
    /// The agent has forgotten the exchange: an authentic NACK, RETIRE, and another try.
    Retire,
    /// A new agent key and a raised time floor: the trust pair is written.
    Trust,
}

impl Transition {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Enrol, Self::AgentKey, Self::CloudKey, Self::Move, Self::Retire, Self::Trust];

    /// Its name in the matrix.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enrol => "enrol",
            Self::AgentKey => "agent-key",
            Self::CloudKey => "cloud-key",
            Self::Move => "move",
            Self::Retire => "retire",
            Self::Trust => "trust",
        }
    }

    const fn purpose(self) -> Purpose {
        match self {
            Self::CloudKey | Self::Move => Purpose::CloudKeyUpdate,
            _ => Purpose::AgentKeyUpdate,
        }
    }
}

/// Where the power fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cut {
    /// In the n-th flash operation of the transition (1 is the first), so many percent of the way through it.
    Operation {
        /// Which.
        at: u64,
        /// How far.
        percent: u32,
        /// Which cells it had reached.
        seed: u64,
    },
    /// At an instant, as a share of the transition's duration in 1/10,000.
    Instant {
        /// When.
        share: u32,
    },
}

/// One case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case {
    /// What changes.
    pub transition: Transition,
    /// The first cut.
    pub cut: Cut,
    /// Another one in the n-th flash operation after the power came back, so many percent of the way through it.
    pub again: Option<(u64, u32)>,
    /// After the power came back the broker is reached before the agent is, or the other way round.
    pub cloud_first: bool,
}

impl Case {
    fn class(&self) -> String {
        match (self.again, self.cut) {
            (Some(_), _) => "in recovery".into(),
            (None, Cut::Operation { percent: 0, .. }) => "boundary".into(),
            (None, Cut::Operation { percent, .. }) if PROGRESS.contains(&percent) => format!("{percent:2} %"),
            (None, _) => "instant".into(),
        }
    }
}

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n.max(1)
    }
}

/// A transition without a cut: what it writes and how long it takes.
#[derive(Clone, Copy, Debug)]
pub struct Clean {
    /// The transition.
    pub transition: Transition,
    /// Flash operations.
    pub operations: u64,
    /// Virtual time.
    pub takes: Duration,
}

/// A rig and the unit that lives on it.
pub struct Torture {
    rig: Rig,
    subject: Subject,
    place: usize,
}

impl Torture {
    /// Enrols a unit to be tortured.
    ///
    /// # Errors
    /// Whatever keeps the station from working.
    pub fn new(image: &Path, suite: u8, seed: u64) -> Result<Self> {
        let mut rig = Rig::new(image, suite, seed)?;
        let subject = Self::enrolled(&mut rig)?;
        Ok(Self { rig, subject, place: 0 })
    }

    /// SHA-256 and version of the image.
    pub fn image(&self) -> (&str, &str) {
        (&self.rig.image.sha256, &self.rig.image.version)
    }

    /// In the next case this share of the packets, in percent, is lost on the serial line until the cut, and as many are repeated,
    /// damaged and overtaken, each way.
    pub const fn disturb(&mut self, percent: u64) {
        self.subject.noise = percent;
    }

    /// Erases both key areas, as no power cut can: for a test of the judgement.
    ///
    /// # Panics
    /// Never: the areas are inside the flash.
    pub fn lose_its_keys(&mut self) {
        self.subject.board.cut_power();
        for area in [map::KEY_AREA_A, map::KEY_AREA_B] {
            self.subject.board.tamper(area.base, &vec![0xFF; area.len as usize]).expect("inside the flash");
        }
        self.subject.board.power_on();
    }

    fn enrolled(rig: &mut Rig) -> Result<Subject> {
        let mut subject = rig.unit()?;
        subject.power_on();
        let ended = subject.run(TRANSITION, |s| s.is_settled() && s.logged_in().is_some())?;
        ensure!(ended == Ended::Done, "a unit without any cut did not enrol: {ended:?} {:?}", subject.status);
        Ok(subject)
    }

    /// Runs a transition without a cut.
    ///
    /// # Errors
    /// It did not come to its end.
    pub fn clean(&mut self, transition: Transition) -> Result<Clean> {
        self.prepare(transition)?;
        let (operations, since) = (self.subject.board.flash_op_count(), self.subject.board.elapsed());
        let ended = self.carry_out(transition)?;
        ensure!(ended == Ended::Done, "{transition:?} without a cut: {ended:?} {:?}", self.subject.status);
        let clean = Clean {
            transition,
            operations: self.subject.board.flash_op_count() - operations,
            takes: self.subject.board.elapsed() - since,
        };
        let end = Case { transition, cut: Cut::Instant { share: 10_000 }, again: None, cloud_first: true };
        let seen = self.settle(&end)?;
        ensure!(seen.is_ok(), "{transition:?} without a cut: {seen:?}");
        Ok(clean)
    }

    /// Everything before the first flash operation of the transition.
    fn prepare(&mut self, transition: Transition) -> Result<()> {
        let Self { rig, subject, place } = self;
        match transition {
            Transition::Enrol => {
                *subject = rig.unit()?;
                *place = 0;
                subject.power_on();
            }
            Transition::Move => {
                *place = 1 - *place;
                rig.agent.order_update(subject.unit, Some(PLACES[*place]))?;
            }
            Transition::Trust => rig.a_day_later(),
            Transition::AgentKey | Transition::CloudKey | Transition::Retire => {}
        }
        Ok(())
    }

    /// The transition itself, until it is done or dark.
    fn carry_out(&mut self, transition: Transition) -> Result<Ended> {
        let subject = &mut self.subject;
        if transition == Transition::Enrol {
            return subject.run(TRANSITION, Subject::is_settled);
        }
        let before = subject.generations();
        let renewed = move |s: &Subject| {
            let (agent, cloud) = s.generations();
            s.is_settled()
                && match transition.purpose() {
                    Purpose::CloudKeyUpdate => cloud > before.1,
                    _ => agent > before.0,
                }
        };
        if transition == Transition::Retire {
            return self.evicted(renewed);
        }
        subject.control(&Control::Update { purpose: transition.purpose() });
        subject.run(TRANSITION, renewed)
    }

    /// Four requests of earlier boots reach the agent only now, behind the exchange whose key the unit has committed: it is the
    /// oldest of five, and the agent forgets it.
    fn evicted(&mut self, renewed: impl Fn(&Subject) -> bool) -> Result<Ended> {
        let subject = &mut self.subject;
        let update = Control::Update { purpose: Purpose::AgentKeyUpdate };
        let mut stale = Vec::new();
        // The power that is taken here is not the cut of the case: that one stays armed for what the flash sees.
        let armed = subject.board.armed_cut();
        for _ in 0..4 {
            subject.power_on();
            subject.serve.agent = false;
            let up = subject.run(TRANSITION, |s| s.is_settled())?;
            ensure!(up == Ended::Done, "it does not come up: {up:?}");
            subject.control(&update);
            let asked = subject.run(TRANSITION, |s| !s.kept.is_empty())?;
            ensure!(asked == Ended::Done, "it does not ask for an update: {asked:?}");
            stale.push(std::mem::take(&mut subject.kept));
        }
        subject.power_on();
        let up = subject.run(TRANSITION, |s| s.is_settled())?;
        ensure!(up == Ended::Done, "it does not come up: {up:?}");
        if let Some(cut) = armed {
            subject.board.cut_power_at_flash_op(cut.after, cut.progress, cut.seed);
        }
        subject.control(&update);
        let asked = subject.run(TRANSITION, |s| !s.kept.is_empty())?;
        if asked != Ended::Done {
            return Ok(asked);
        }
        // It commits, and shows that it did. A unit that was busy while the answer came asks again.
        while let Some(frame) = (!subject.kept.is_empty()).then(|| subject.kept.remove(0)) {
            if frame.get(4).is_some_and(|b| b & 0xF == 3) {
                break;
            }
            subject.forward(&frame)?;
            let shown = subject.run(TRANSITION, |s| !s.kept.is_empty())?;
            if shown != Ended::Done {
                return Ok(shown);
            }
        }
        for frame in stale.iter().filter_map(|frames| frames.first()) {
            subject.replay(frame)?;
        }
        subject.kept.clear();
        subject.serve = Serve::default();
        subject.run(TRANSITION, renewed)
    }

    /// One case; what came of it. A unit that was not well is replaced by a new one.
    ///
    /// # Errors
    /// The station itself failed: that is no outcome of a unit.
    pub fn case(&mut self, case: &Case, clean: &Clean) -> Result<(Outcomes, Option<Casualty>)> {
        self.prepare(case.transition)?;
        let before = if case.transition == Transition::Enrol { (0, 0) } else { self.subject.generations() };
        let limit = match case.cut {
            Cut::Operation { at, percent, seed } => {
                self.subject.board.cut_power_at_flash_op(at, f64::from(percent) / 100.0, seed);
                None
            }
            Cut::Instant { share } => Some(clean.takes * share / 10_000),
        };
        match limit {
            Some(limit) if case.transition != Transition::Retire => {
                // To the instant, wherever it stands.
                let subject = &mut self.subject;
                if case.transition != Transition::Enrol {
                    subject.control(&Control::Update { purpose: case.transition.purpose() });
                }
                subject.run(limit, |_| false)?;
            }
            _ => {
                // Operations that this run does not reach (an area that was blank already) cut after its end.
                self.carry_out(case.transition)?;
            }
        }
        self.subject.serve = Serve::default();
        // Faults end: then everything must converge.
        self.subject.noise = 0;
        let seen = self.settle(case)?;
        let mut outcomes = Outcomes::default();
        let casualty = match seen {
            Ok(generations) => {
                if generations > before {
                    outcomes.renewed = 1;
                } else {
                    outcomes.kept = 1;
                }
                None
            }
            Err((seen, stranded)) => {
                if stranded {
                    outcomes.stranded = 1;
                } else {
                    outcomes.manual = 1;
                }
                let (transition, cut) = (case.transition.name().to_owned(), format!("{case:?}"));
                self.subject = Self::enrolled(&mut self.rig).context("a unit after a casualty")?;
                self.place = 0;
                Some(Casualty { transition, cut, seen, stranded })
            }
        };
        Ok((outcomes, casualty))
    }

    /// Power on, let it recover, log in, prove. `Err`: what is wrong, and whether nobody accepts it.
    #[allow(clippy::type_complexity, reason = "two ways to be unwell")]
    fn settle(&mut self, case: &Case) -> Result<Result<(u32, u32), (String, bool)>> {
        let subject = &mut self.subject;
        subject.power_on();
        if let Some((at, percent)) = case.again {
            subject.board.cut_power_at_flash_op(at, f64::from(percent) / 100.0, at ^ u64::from(percent));
            // One that has nothing to write any more lives on; the power goes all the same.
            subject.serve.cloud = case.cloud_first;
            subject.run(Duration::from_secs(5), |s| s.is_settled() && s.logged_in().is_some())?;
            subject.power_on();
        }
        if case.cloud_first {
            // The agent is away. Whatever key the unit holds, its cloud lets it in; without one it has nowhere to go yet.
            subject.serve = Serve { agent: false, cloud: true };
            subject.run(Duration::from_secs(3), |s| s.logged_in().is_some())?;
            let holds_one = subject.generations().1 > 0;
            if holds_one && subject.logged_in().is_none() {
                subject.run(Duration::from_secs(120), |s| s.logged_in().is_some())?;
                if subject.logged_in().is_none() {
                    return Ok(Err((format!("its cloud does not let it in: {:?}", subject.status), true)));
                }
            }
            subject.kept.clear();
        }
        subject.serve = Serve::default();
        let ended = subject.run(RECOVERY, |s| {
            s.is_settled() && s.logged_in().is_some_and(|generation| generation == s.generations().1)
        })?;
        if ended != Ended::Done {
            // Is there any key that still opens a door?
            let accepted = subject.logged_in().is_some();
            return Ok(Err((format!("{ended:?} after {RECOVERY:?}: {:?}", subject.status), !accepted)));
        }
        let challenge = [0xA5; 32];
        subject.control(&Control::ProveRequest { challenge });
        subject.run(Duration::from_secs(60), |s| s.proof.is_some())?;
        let Some(proof) = subject.proof else {
            return Ok(Err(("it proves nothing".into(), false)));
        };
        let context = FrameContext { batch: BatchId(0), unit: subject.unit, attempt: None };
        let checked = self.rig.agent.check_proof(context, &challenge, &proof)?;
        if !(checked.agent_mac_ok && checked.cloud_mac_ok) {
            return Ok(Err((format!("its proof is refused: {checked:?}"), !checked.agent_mac_ok)));
        }
        // Nothing that was replaced opens anything.
        if let Err(failure) = self.rig.agent.try_old_credentials(subject.unit) {
            return Ok(Err((failure.to_string(), false)));
        }
        Ok(Ok(subject.generations()))
    }
}

/// The cases of a whole run: every operation of every transition × every progress, each operation once more with a second cut in
/// the recovery, and `instants` random instants; thinned evenly to `cuts`, if that is fewer.
pub fn cases(clean: &[Clean], seed: u64, instants: u32, cuts: Option<usize>) -> Vec<Case> {
    let mut dice = Dice(seed);
    let mut all = Vec::new();
    for clean in clean {
        for at in 1..=clean.operations {
            for percent in PROGRESS {
                let cut = Cut::Operation { at, percent, seed: dice.roll() };
                let cloud_first = dice.below(2) == 0;
                all.push(Case { transition: clean.transition, cut, again: None, cloud_first });
            }
            let percent = PROGRESS[dice.below(6) as usize];
            let cut = Cut::Operation { at, percent, seed: dice.roll() };
            let again = Some((1 + dice.below(40), PROGRESS[dice.below(6) as usize]));
            let cloud_first = dice.below(2) == 0;
            all.push(Case { transition: clean.transition, cut, again, cloud_first });
        }
    }
    for _ in 0..instants {
        let transition = Transition::ALL[dice.below(6) as usize];
        let cut = match transition {
            // Its instants would fall into the boots that it begins with.
            Transition::Retire => {
                Cut::Operation { at: 1 + dice.below(200), percent: dice.below(100) as u32, seed: dice.roll() }
            }
            _ => Cut::Instant { share: dice.below(10_001) as u32 },
        };
        all.push(Case { transition, cut, again: None, cloud_first: dice.below(2) == 0 });
    }
    match cuts {
        Some(cuts) if cuts < all.len() => {
            // Evenly over everything, at an offset that the seed chooses.
            let step = all.len() as f64 / cuts as f64;
            let offset = dice.below(step.max(1.0) as u64) as f64;
            (0..cuts).map(|i| all[((i as f64 * step + offset) as usize).min(all.len() - 1)]).collect()
        }
        _ => all,
    }
}

/// The order in which cases are run: in several passes through all transitions. Whenever a run stops, what it has is spread
/// evenly over everything; and within a pass, the units live through one transition after the other.
fn in_passes(cases: usize) -> Vec<usize> {
    const PASSES: usize = 8;
    (0..PASSES).flat_map(|pass| (pass..cases).step_by(PASSES)).collect()
}

/// A run to be made.
#[derive(Clone, Debug)]
pub struct Run {
    /// The common image.
    pub image: PathBuf,
    /// Exchange: 1 legacy, 2 hardened.
    pub suite: u8,
    /// Everything follows from it.
    pub seed: u64,
    /// Random instants on top of the flash operations.
    pub instants: u32,
    /// So many cuts, spread evenly over all of them; all, if there is no number.
    pub cuts: Option<usize>,
    /// Boards at a time.
    pub threads: usize,
    /// The file of results: what is in it is not done again.
    pub resume: Option<PathBuf>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Finished cuts, those of earlier runs included.
    pub done: usize,
    /// All of the selection.
    pub of: usize,
    /// Units without an accepted key.
    pub stranded: u32,
    /// Units that need a person.
    pub manual: u32,
    /// What is left will take about so long, at the pace of this run.
    pub left: Duration,
}

impl Run {
    /// Makes it, until it is done or `stop` says so: then cuts that have begun are finished, and the matrix is a partial one.
    ///
    /// # Errors
    /// The station itself failed, a unit without any cut did not come to its end, or the file of results is of another run.
    pub fn make(&self, stop: &AtomicBool, progress: &(dyn Fn(Progress) + Sync)) -> Result<PowerCutMatrix> {
        let began = Instant::now();
        let mut first = Torture::new(&self.image, self.suite, self.seed)?;
        let (sha, firmware) = (first.image().0.to_owned(), first.image().1.to_owned());
        let selection = Selection {
            suite: self.suite,
            seed: self.seed,
            instants: self.instants,
            cuts: self.cuts,
            image_sha256: sha.clone(),
            firmware: firmware.clone(),
        };
        let (mut results, earlier) = match &self.resume {
            Some(path) => {
                let (results, earlier) = Results::open(path, &selection)?;
                (Some(results), earlier)
            }
            None => (None, None),
        };
        let mut matrix =
            PowerCutMatrix { seed: self.seed, image_sha256: sha, firmware, ..PowerCutMatrix::default() };
        let (clean, finished) = match earlier {
            Some(earlier) => (earlier.clean, earlier.finished),
            None => {
                let clean =
                    Transition::ALL.into_iter().map(|t| first.clean(t)).collect::<Result<Vec<_>>>()?;
                if let Some(results) = &mut results {
                    results.begin(&selection, &clean)?;
                }
                (clean, Vec::new())
            }
        };
        drop(first);
        for clean in &clean {
            matrix.enter(clean.transition.name(), "boundary", &Outcomes::default());
            if let Some(row) = matrix.rows.last_mut() {
                row.operations = clean.operations;
            }
        }
        let all = cases(&clean, self.seed, self.instants, self.cuts);
        matrix.of = u32::try_from(cases(&clean, self.seed, self.instants, None).len())?;
        let before = results::enter(&mut matrix, &all, &finished)?;
        let done: std::collections::BTreeSet<usize> = finished.iter().map(|f| f.case).collect();
        let todo: Vec<usize> = in_passes(all.len()).into_iter().filter(|at| !done.contains(at)).collect();

        let next = AtomicUsize::new(0);
        let shared = Mutex::new((matrix, results, 0_usize));
        let failed = AtomicBool::new(false);
        let on_the_way = Instant::now();
        let work = |n: usize| -> Result<()> {
            let mut torture = Torture::new(&self.image, self.suite, self.seed ^ (n as u64 + 1) << 40)?;
            while !stop.load(Ordering::Relaxed) && !failed.load(Ordering::Relaxed) {
                let Some(&at) = todo.get(next.fetch_add(1, Ordering::Relaxed)) else { return Ok(()) };
                let case = &all[at];
                let clean = clean.iter().find(|c| c.transition == case.transition).context("measured")?;
                let (outcomes, casualty) =
                    torture.case(case, clean).with_context(|| format!("case {at}: {case:?}"))?;
                let mut shared = shared.lock().expect("no panics under this lock");
                let (matrix, results, made) = &mut *shared;
                matrix.enter(case.transition.name(), &case.class(), &outcomes);
                matrix.casualties.extend(casualty.clone());
                if let Some(results) = results {
                    let seconds = before + began.elapsed().as_secs_f64();
                    results.add(&Finished { case: at, outcomes, casualty, seconds })?;
                }
                *made += 1;
                let total = matrix.total();
                progress(Progress {
                    done: done.len() + *made,
                    of: all.len(),
                    stranded: total.stranded,
                    manual: total.manual,
                    left: on_the_way.elapsed().mul_f64((todo.len() - *made) as f64 / *made as f64),
                });
            }
            Ok(())
        };
        std::thread::scope(|scope| -> Result<()> {
            let workers: Vec<_> = (0..self.threads.max(1).min(todo.len()))
                .map(|n| {
                    let (work, failed) = (&work, &failed);
                    scope.spawn(move || {
                        // One that fails must not let the others work for hours in vain.
                        work(n).inspect_err(|_| failed.store(true, Ordering::Relaxed))
                    })
                })
                .collect();
            let ends: Vec<_> =
                workers.into_iter().map(|w| w.join().expect("a worker's panic is this program's")).collect();
            ends.into_iter().collect()
        })?;
        let (mut matrix, ..) = shared.into_inner().expect("no panics under this lock");
        matrix.seconds = before + began.elapsed().as_secs_f64();
        Ok(matrix)
    }
}
