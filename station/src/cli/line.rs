//! `line run`: units through fixtures without a window, for scripts and for people.
//!
//! Invariants:
//! - Every unit that was started comes to its `finished` event before the summary, Ctrl-C or not.
//! - The numbers of the summary are counted from those events, never assumed.

use super::args;
use super::output::{CliError, Done, Exit, Out};
use crate::failure::{Failure, FailureCode};
use crate::line::{Command, Event, LineHandle, Update, Work};
use crate::model::{BatchState, LabelPolicy, Outcome};
use crate::preflight::Status;
use crate::records::Records;
use crate::station::{self, Station};
use serde::Serialize;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::io::{IsTerminal, Write};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How often Ctrl-C is looked for while nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Summary {
    planned: u32,
    passed: u32,
    failed: u32,
    error: u32,
    timeout: u32,
    aborted: u32,
    seconds: f64,
}

impl Summary {
    /// The exit code: refused before failed before station fault, because that is the order in which a script can do
    /// something about it.
    fn exit(&self, refused: bool) -> Exit {
        if self.passed == self.planned {
            Exit::Pass
        } else if refused {
            Exit::Refused
        } else if self.failed + self.timeout + self.aborted == 0 && self.error > 0 {
            Exit::Station
        } else {
            Exit::UnitsFailed
        }
    }
}

/// What one fixture is doing, as far as this command cares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    /// A unit was started and has not finished.
    running: bool,
    /// It has begun: before, it may wait for a sample that nobody here can approve.
    begun: bool,
    /// The board of the last unit still lies in it.
    used: bool,
}

/// Which unit starts where: as many at once as there are fixtures, each fixture again when another board lies in it.
#[derive(Debug)]
struct Plan {
    places: HashMap<String, (usize, Place)>,
    to_start: u32,
    cancelled: bool,
    /// Units are made, so nothing starts while the preflight fails.
    makes: bool,
}

impl Plan {
    fn new(fixtures: &[(usize, String)], count: u32) -> Self {
        let places = fixtures.iter().map(|(i, name)| (name.clone(), (*i, Place::default()))).collect();
        Self { places, to_start: count, cancelled: false, makes: false }
    }

    /// The fixtures to start now.
    fn first(&mut self) -> Vec<usize> {
        let mut order: Vec<_> = self.places.values_mut().collect();
        order.sort_by_key(|(index, _)| *index);
        let mut start = Vec::new();
        for (index, place) in order {
            if self.to_start == 0 {
                break;
            }
            if place.used || place.running {
                continue;
            }
            self.to_start -= 1;
            *place = Place { running: true, begun: false, used: true };
            start.push(*index);
        }
        start
    }

    /// A unit finished in a fixture. One that was never identified may never have lain there: the next board to be
    /// seen is another.
    fn finished(&mut self, fixture: &str, identified: bool) {
        if let Some((_, place)) = self.places.get_mut(fixture) {
            *place = Place { running: false, begun: false, used: identified };
        }
    }

    /// A board came or went; the fixture to start, if there is one.
    fn presence(&mut self, fixture: &str, present: bool) -> Option<usize> {
        let (index, place) = self.places.get_mut(fixture)?;
        if !present {
            place.used = false;
            return None;
        }
        if place.running || place.used || self.cancelled || self.to_start == 0 {
            return None;
        }
        self.to_start -= 1;
        *place = Place { running: true, begun: false, used: true };
        Some(*index)
    }

    fn begun(&mut self, fixture: &str) {
        if let Some((_, place)) = self.places.get_mut(fixture) {
            place.begun = true;
        }
    }

    /// Started, and held back by the line.
    fn waiting(&self) -> Vec<usize> {
        self.places.values().filter(|(_, p)| p.running && !p.begun).map(|(i, _)| *i).collect()
    }

    fn running(&self) -> impl Iterator<Item = usize> + '_ {
        self.places.values().filter(|(_, p)| p.running).map(|(i, _)| *i)
    }

    fn is_over(&self) -> bool {
        (self.to_start == 0 || self.cancelled) && self.running().next().is_none()
    }
}

/// Runs it.
pub fn run(station: &Station, args: &args::LineRun, out: Out) -> Done {
    let batch = station.records.batch_by_name(&args.batch)?;
    if batch.state != BatchState::Open {
        let state = batch.state.as_str();
        return Err(Failure::new(FailureCode::BatchClosed, format_args!("{} is {state}", batch.name)).into());
    }
    let _backups = station.keep_backups()?;
    station.mark.set_batch(Some(&batch.name));
    for attempt in &station.interrupted {
        out.object(&json!({
            "event": "interrupted", "attempt": attempt.id, "fixture": attempt.fixture, "unit": attempt.unit,
        }));
    }
    if !station.interrupted.is_empty() {
        out.text(format_args!(
            "{} units were interrupted when the station last stopped; they go on when they are started again",
            station.interrupted.len()
        ));
    }
    let fixtures = station::fixtures(&station.config)?;
    let chosen = choose(&fixtures.iter().map(|f| f.name.clone()).collect::<Vec<_>>(), &args.fixture)?;
    let planned = args.count.unwrap_or(chosen.len() as u32);
    let stop = super::interrupts();
    let (line, events) = station.start_line()?;
    line.send(Command::SetOperator(station.operator.clone()));
    line.send(Command::SelectBatch(batch.name.clone()));
    let order = station.records.product_order(batch.po)?;
    let scans = (order.label == LabelPolicy::ScanBack).then(scans);
    let mut plan = Plan { makes: true, ..Plan::new(&chosen, planned) };
    let ran = follow(&*line, &events, scans.as_ref(), &mut plan, out, &|| stop.asked());
    line.send(Command::Shutdown);
    Ok(ran.report(out))
}

/// What a scanner types on standard input, line by line; it ends with the program.
fn scans() -> mpsc::Receiver<String> {
    let (typed, scans) = mpsc::channel();
    // Nothing can wake a thread that reads a terminal; it holds nothing that matters.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            match line {
                Ok(line) if line.trim().is_empty() => {}
                Ok(line) if typed.send(line.trim().to_owned()).is_ok() => {}
                _ => return,
            }
        }
    });
    scans
}

/// What a line of standard input asks for: a word, or what was scanned.
fn scanned(line: String) -> Command {
    if line.eq_ignore_ascii_case("print") { Command::PrintAgain } else { Command::Scan(line) }
}

/// `unit rekey` and `unit move`: new keys for the units in the fixtures, group by group.
pub fn update(station: &Station, campaign: &args::Campaign, update: Update, out: Out) -> Done {
    let batch = station.records.batch_by_name(&campaign.batch)?;
    let below = update.below;
    let fixtures = station::fixtures(&station.config)?;
    let chosen = choose(&fixtures.iter().map(|f| f.name.clone()).collect::<Vec<_>>(), &campaign.fixture)?;
    let planned = campaign.count.unwrap_or(chosen.len() as u32);
    let stop = super::interrupts();
    let (line, events) = station.start_line()?;
    line.send(Command::SetOperator(station.operator.clone()));
    line.send(Command::SelectBatch(batch.name.clone()));
    line.send(Command::SetWork(Work::Update(update)));
    let order = station.records.product_order(batch.po)?;
    // Whoever answers questions between groups can't scan on the same line.
    let scans = (order.label == LabelPolicy::ScanBack && campaign.yes).then(scans);
    let (mut all, mut plan) = (Ran::default(), Plan::new(&chosen, 0));
    while all.summary.planned < planned && !all.fault && stop.asked() == 0 {
        let group = campaign.group.min(planned - all.summary.planned);
        plan.to_start = group;
        all.add(follow(&*line, &events, scans.as_ref(), &mut plan, out, &|| stop.asked()));
        let (done, failed) = (all.summary.planned, all.summary.planned - all.summary.passed);
        out.say(
            &json!({ "event": "group", "units": done, "passed": all.summary.passed, "failed": failed, "left": planned - done }),
            format_args!("{done} of {planned} units done, {failed} of them failed"),
        );
        if u64::from(failed) * 100 > u64::from(campaign.stop_at_percent) * u64::from(done) {
            let facts = format!("{failed} of {done} units, more than {} %", campaign.stop_at_percent);
            out.error(&Failure::new(FailureCode::TooManyFailed, facts).into());
            break;
        }
        if done < planned && !campaign.yes && !go_on(out)? {
            break;
        }
    }
    line.send(Command::Shutdown);
    if let Some(below) = below {
        let left = station.records.units_below(batch.id, below)?;
        out.say(
            &json!({ "event": "campaign", "batch": batch.name, "below": below, "left": left }),
            format_args!("{left} units of batch {} have a key below generation {below}", batch.name),
        );
    }
    all.summary.planned = planned;
    Ok(all.report(out))
}

/// One unit in one fixture, for QA.
pub fn one(station: &Station, batch: &str, work: Work, fixture: Option<&str>, out: Out) -> Done {
    let names: Vec<_> = station::fixtures(&station.config)?.into_iter().map(|f| f.name).collect();
    let wanted: Vec<_> = fixture.map(str::to_owned).into_iter().collect();
    if wanted.is_empty() && names.len() > 1 {
        return Err(Failure {
            code: FailureCode::InvalidInput,
            sentence: "This station has several fixtures".into(),
            remedy: format!("Say where the unit lies: --fixture {}", names.join(" or --fixture ")),
        }
        .into());
    }
    let chosen = choose(&names, &wanted)?;
    let stop = super::interrupts();
    let (line, events) = station.start_line()?;
    line.send(Command::SetOperator(station.operator.clone()));
    line.send(Command::SelectBatch(batch.to_owned()));
    line.send(Command::SetWork(work));
    // What QA orders may change what stands on the label.
    let order = station.records.product_order(station.records.batch_by_name(batch)?.po)?;
    let scans = (order.label == LabelPolicy::ScanBack).then(scans);
    let ran = follow(&*line, &events, scans.as_ref(), &mut Plan::new(&chosen, 1), out, &|| stop.asked());
    line.send(Command::Shutdown);
    Ok(ran.report(out))
}

/// Asks whoever sits at the terminal; a script must have said `--yes`.
fn go_on(out: Out) -> Result<bool, CliError> {
    if out.json || !std::io::stdin().is_terminal() {
        return Err(Failure {
            code: FailureCode::SampleDue,
            sentence: "The group is done and nobody is here to check a sample".into(),
            remedy: "Check it, then run the command again for the rest; --yes goes on without a check".into(),
        }
        .into());
    }
    super::output::ask("Check a sample. Go on with the next group?")
}

fn choose(all: &[String], wanted: &[String]) -> Result<Vec<(usize, String)>, CliError> {
    let named = all.iter().cloned().enumerate();
    if wanted.is_empty() {
        return Ok(named.collect());
    }
    if let Some(unknown) = wanted.iter().find(|w| !all.contains(w)) {
        return Err(Failure {
            code: FailureCode::InvalidInput,
            sentence: format!("No fixture is named {unknown:?}"),
            remedy: format!("The fixtures are: {}", all.join(", ")),
        }
        .into());
    }
    Ok(named.filter(|(_, name)| wanted.contains(name)).collect())
}

fn follow(
    line: &dyn LineHandle,
    events: &mpsc::Receiver<Event>,
    scans: Option<&mpsc::Receiver<String>>,
    plan: &mut Plan,
    out: Out,
    stop: &dyn Fn() -> u32,
) -> Ran {
    let began = Instant::now();
    let planned = plan.to_start;
    let mut summary = Summary { planned, ..Summary::default() };
    let (mut refused, mut fault) = (false, false);
    let mut passed = HashSet::new();
    let mut people = People { bar: !out.json && std::io::stderr().is_terminal(), ..People::default() };
    for fixture in plan.first() {
        line.send(Command::Start(fixture));
    }
    // A script may write a scan before it is wanted: it waits for the unit that wants it.
    let mut wanted = 0_u32;
    while !plan.is_over() && !fault {
        while wanted > 0
            && let Some(text) = scans.and_then(|s| s.try_recv().ok())
        {
            wanted -= 1;
            line.send(scanned(text));
        }
        if stop() > 0 && !plan.cancelled {
            plan.cancelled = true;
            for fixture in plan.running() {
                line.send(Command::Cancel(fixture));
            }
        }
        let event = match events.recv_timeout(TICK) {
            Ok(event) => event,
            Err(mpsc::RecvTimeoutError::Timeout) => continue,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                out.error(&Failure::new(FailureCode::StationFault, "the line ended").into());
                fault = true;
                continue;
            }
        };
        // Progress comes many times a second; a script that wants it reads it, a person sees one line.
        if out.json {
            out.object(&event);
        } else {
            people.tell(out, &event);
        }
        match &event {
            Event::Presence { fixture, present } => {
                if let Some(fixture) = plan.presence(fixture, *present) {
                    line.send(Command::Start(fixture));
                }
            }
            Event::ScanWanted { .. } => wanted = 1,
            Event::Started { fixture, .. } => plan.begun(fixture),
            // The gate has shut, and whoever could open it needs the station that this run holds: what waits is let go.
            Event::Station { failure } if plan.makes && failure.code == FailureCode::SampleDue => {
                let waiting = plan.waiting();
                refused |= plan.to_start > 0 || !waiting.is_empty();
                plan.to_start = 0;
                for fixture in waiting {
                    line.send(Command::Cancel(fixture));
                }
            }
            // What was started hears why not; no other board can do better.
            Event::Preflight { checks, .. }
                if plan.makes && checks.iter().any(|c| c.fails() && c.fixture.is_none()) =>
            {
                plan.to_start = 0;
            }
            Event::Finished { fixture, unit, outcome, failure, .. } => {
                wanted = 0;
                plan.finished(fixture, unit.is_some());
                match outcome {
                    // The same board put in again is still one unit.
                    Outcome::Pass if unit.is_some_and(|u| !passed.insert(u)) => plan.to_start += 1,
                    Outcome::Pass => summary.passed += 1,
                    Outcome::Fail => summary.failed += 1,
                    Outcome::Error => summary.error += 1,
                    Outcome::Timeout => summary.timeout += 1,
                    Outcome::Aborted => summary.aborted += 1,
                }
                if let Some(failure) = failure
                    && CliError::from(failure.clone()).exit == Exit::Refused
                {
                    refused = true;
                    // The batch takes no more: units that were not begun can't pass either.
                    if matches!(
                        failure.code,
                        FailureCode::QuotaReached
                            | FailureCode::BatchClosed
                            | FailureCode::SampleDue
                            | FailureCode::SerialsSpent
                    ) {
                        plan.to_start = 0;
                    }
                }
            }
            // A worker that is gone finishes nothing any more.
            Event::Station { failure } if failure.code == FailureCode::StationFault => fault = true,
            _ => {}
        }
    }
    summary.seconds = began.elapsed().as_secs_f64();
    Ran { summary, refused, fault }
}

/// How a run went.
#[derive(Clone, Copy, Debug, Default)]
struct Ran {
    summary: Summary,
    refused: bool,
    fault: bool,
}

impl Ran {
    fn add(&mut self, other: Ran) {
        let (all, more) = (&mut self.summary, other.summary);
        all.planned += more.planned;
        all.passed += more.passed;
        all.failed += more.failed;
        all.error += more.error;
        all.timeout += more.timeout;
        all.aborted += more.aborted;
        all.seconds += more.seconds;
        self.refused |= other.refused;
        self.fault |= other.fault;
    }

    /// Tells the summary; the exit code.
    fn report(mut self, out: Out) -> Exit {
        let summary = &mut self.summary;
        summary.seconds = (summary.seconds * 1000.0).round() / 1000.0;
        let mut object = serde_json::to_value(*summary).unwrap_or_default();
        object["event"] = json!("summary");
        // In an attempt, bad unit or silent unit are both a unit that did not pass: the script's `failed` counts them.
        object["failed"] = json!(summary.failed + summary.timeout + summary.aborted);
        out.say(
            &object,
            format_args!(
                "{} of {} passed, {} failed, {} timed out, {} aborted, {} station errors, {:.1} s",
                summary.passed,
                summary.planned,
                summary.failed,
                summary.timeout,
                summary.aborted,
                summary.error,
                summary.seconds
            ),
        );
        if self.fault { Exit::Station } else { summary.exit(self.refused) }
    }
}

/// The same events for a person.
#[derive(Debug, Default)]
struct People {
    bar: bool,
    shown: usize,
}

impl People {
    fn tell(&mut self, out: Out, event: &Event) {
        if let Event::Progress { fixture, label, done, total, .. } = event {
            if self.bar {
                let text = format!("{fixture}: {label} {}%", done * 100 / (*total).max(1));
                let _ = write!(std::io::stderr(), "\r{text:<width$}", width = self.shown);
                self.shown = text.chars().count();
            }
            return;
        }
        if self.bar && self.shown > 0 {
            let _ = write!(std::io::stderr(), "\r{:<width$}\r", "", width = self.shown);
            self.shown = 0;
        }
        match event {
            // A look at a unit is no attempt.
            Event::Started { attempt, .. } if attempt.0 == 0 => {}
            Event::Started { fixture, attempt, .. } => {
                out.text(format_args!("{fixture}: attempt {} began", attempt.0))
            }
            Event::Identified { fixture, unit, serial, resumed, .. } => out.text(format_args!(
                "{fixture}: unit {serial} ({unit}){}",
                if *resumed { ", goes on from where it stopped" } else { "" }
            )),
            Event::Step { fixture, step, .. } => {
                let word = serde_json::to_value(step).unwrap_or_default();
                out.text(format_args!("{fixture}: {}", word.as_str().unwrap_or_default()));
            }
            Event::Finished { fixture, serial, outcome, failure, seconds, .. } => {
                let serial = serial.as_deref().unwrap_or("unknown unit");
                out.text(format_args!("{fixture}: {} {serial} in {seconds:.1} s", outcome.as_str()));
                if let Some(failure) = failure {
                    out.text(format_args!(
                        "{fixture}:   {} ({})\n{fixture}:   → {}",
                        failure.sentence, failure.code, failure.remedy
                    ));
                }
            }
            Event::Presence { fixture, present } => {
                out.text(format_args!(
                    "{fixture}: {}",
                    if *present { "a board lies in it" } else { "empty" }
                ));
            }
            Event::Station { failure } => out.text(format_args!("station: {failure}")),
            Event::ScanWanted { fixture, serial, labels, problem, .. } => {
                if let Some(problem) = problem {
                    out.text(format_args!("{fixture}: {problem}"));
                }
                out.text(format_args!(
                    "{fixture}: scan the label of {serial} (label {labels}), or type print for another one"
                ));
            }
            Event::Preflight { checks, .. } => {
                for check in checks.iter().filter(|c| c.status != Status::Ok) {
                    super::doctor::say(check, out);
                }
            }
            Event::Progress { .. } => {}
        }
    }
}

/// `line fixtures`.
pub fn fixtures(options: &station::Options, out: Out) -> Done {
    let config = options.load_config()?;
    let rows: Vec<_> = station::fixtures(&config)?
        .into_iter()
        .enumerate()
        .map(|(index, f)| {
            let object = json!({
                "event": "fixture", "index": index, "name": f.name, "probe": f.probe, "serial": f.serial,
                "configured": !config.fixtures.is_empty(),
            });
            (vec![f.name, f.probe, f.serial], object)
        })
        .collect();
    out.table(&["FIXTURE", "PROBE", "SERIAL PORT"], &rows);
    Ok(Exit::Pass)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::{Snapshot, Step};
    use crate::model::{AttemptId, UnitId};
    use std::sync::{Arc, Mutex};

    type Answer = Box<dyn Fn(&Command) -> Vec<Event> + Send + Sync>;

    /// Plays back a script: every command is answered with the events it lists.
    struct Scripted {
        events: mpsc::Sender<Event>,
        sent: Mutex<Vec<Command>>,
        answer: Answer,
    }

    impl LineHandle for Scripted {
        fn send(&self, command: Command) {
            for event in (self.answer)(&command) {
                self.events.send(event).unwrap();
            }
            self.sent.lock().unwrap().push(command);
        }
        fn snapshot(&self) -> Arc<Snapshot> {
            Arc::default()
        }
        fn on_change(&self, _wake: Box<dyn Fn() + Send + Sync>) {}
    }

    fn finished(fixture: &str, outcome: Outcome, code: Option<FailureCode>) -> Event {
        // A unit of its own each time.
        static NEXT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(1);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        finished_unit(fixture, Some(UnitId([number; 12])), outcome, code)
    }

    fn finished_unit(
        fixture: &str,
        unit: Option<UnitId>,
        outcome: Outcome,
        code: Option<FailureCode>,
    ) -> Event {
        Event::Finished {
            fixture: fixture.into(),
            attempt: AttemptId(1),
            unit,
            serial: None,
            outcome,
            failure: code.map(|c| Failure::new(c, "")),
            step_seconds: [0.0; Step::ALL.len()],
            seconds: 1.0,
            qa: None,
        }
    }

    fn play(
        fixtures: &[&str],
        planned: u32,
        stop: &dyn Fn() -> u32,
        answer: impl Fn(&Command) -> Vec<Event> + Send + Sync + 'static,
    ) -> (Exit, Vec<Command>) {
        let (sender, events) = mpsc::channel();
        let line = Scripted { events: sender, sent: Mutex::default(), answer: Box::new(answer) };
        let chosen: Vec<_> = fixtures.iter().map(|f| (*f).to_owned()).enumerate().collect();
        let out = Out { json: true };
        let exit = follow(&line, &events, None, &mut Plan::new(&chosen, planned), out, stop).report(out);
        (exit, line.sent.into_inner().unwrap())
    }

    #[test]
    fn every_fixture_starts_once_and_again_only_with_another_board() {
        let exchange = |present| Event::Presence { fixture: "a".into(), present };
        let (exit, sent) = play(&["a", "b"], 3, &|| 0, move |command| match command {
            Command::Start(0) => vec![
                // The same board still lies there: it must not start twice.
                finished("a", Outcome::Pass, None),
                exchange(true),
                exchange(false),
                exchange(true),
            ],
            Command::Start(_) => vec![finished("b", Outcome::Pass, None)],
            _ => vec![],
        });
        // The second start of "a" is answered in full as well; the run is over before its presence events matter.
        assert_eq!(exit, Exit::Pass);
        assert_eq!(sent, [Command::Start(0), Command::Start(1), Command::Start(0)]);
    }

    #[test]
    fn fewer_units_than_fixtures_start_the_first_ones() {
        let (exit, sent) = play(&["a", "b", "c"], 2, &|| 0, |command| match command {
            Command::Start(0) => vec![finished("a", Outcome::Pass, None)],
            Command::Start(1) => vec![finished("b", Outcome::Pass, None)],
            _ => vec![],
        });
        assert_eq!((exit, sent), (Exit::Pass, vec![Command::Start(0), Command::Start(1)]));
    }

    #[test]
    fn exit_codes_tell_bad_units_bad_stations_and_refusals_apart() {
        let one = |outcome, code| play(&["a"], 1, &|| 0, move |_| vec![finished("a", outcome, Some(code))]).0;
        assert_eq!(one(Outcome::Fail, FailureCode::ProofFailed), Exit::UnitsFailed);
        assert_eq!(one(Outcome::Timeout, FailureCode::DeviceSilent), Exit::UnitsFailed);
        assert_eq!(one(Outcome::Error, FailureCode::NoProbe), Exit::Station);
        assert_eq!(one(Outcome::Error, FailureCode::QuotaReached), Exit::Refused);
    }

    #[test]
    fn a_fixture_that_was_empty_starts_when_a_board_comes() {
        let first = std::sync::atomic::AtomicBool::new(true);
        let (exit, sent) = play(&["a"], 2, &|| 0, move |command| match command {
            Command::Start(_) if first.swap(false, std::sync::atomic::Ordering::Relaxed) => vec![
                finished_unit("a", None, Outcome::Fail, Some(FailureCode::NoTarget)),
                Event::Presence { fixture: "a".into(), present: true },
            ],
            Command::Start(_) => vec![finished("a", Outcome::Pass, None)],
            _ => vec![],
        });
        assert_eq!((exit, sent), (Exit::UnitsFailed, vec![Command::Start(0), Command::Start(0)]));
    }

    #[test]
    fn the_same_board_put_in_again_is_one_unit() {
        let starts = std::sync::atomic::AtomicU8::new(0);
        let (exit, sent) = play(&["a"], 2, &|| 0, move |command| match command {
            Command::Start(_) => {
                let n = starts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let unit = UnitId([if n < 2 { 0x77 } else { 0x78 }; 12]);
                vec![
                    finished_unit("a", Some(unit), Outcome::Pass, None),
                    Event::Presence { fixture: "a".into(), present: false },
                    Event::Presence { fixture: "a".into(), present: true },
                ]
            }
            _ => vec![],
        });
        assert_eq!((exit, sent.len()), (Exit::Pass, 3));
    }

    #[test]
    fn a_worker_that_is_gone_ends_the_run() {
        let (exit, _) = play(&["a"], 1, &|| 0, |_| {
            vec![Event::Station { failure: Failure::new(FailureCode::StationFault, "") }]
        });
        assert_eq!(exit, Exit::Station);
    }

    #[test]
    fn a_full_batch_starts_nothing_more() {
        let (exit, sent) =
            play(&["a"], 5, &|| 0, |_| vec![finished("a", Outcome::Error, Some(FailureCode::QuotaReached))]);
        assert_eq!((exit, sent), (Exit::Refused, vec![Command::Start(0)]));
    }

    /// One of two was held back when the gate shut: it is let go, the run ends, and says that it was refused.
    #[test]
    fn what_waits_for_a_sample_is_let_go_and_the_run_ends() {
        let (sender, events) = mpsc::channel();
        let answer = |command: &Command| match command {
            Command::Start(0) => vec![
                Event::Started { fixture: "a".into(), attempt: AttemptId(1), batch: "B".into() },
                Event::Station { failure: Failure::new(FailureCode::SampleDue, "") },
                finished("a", Outcome::Pass, None),
            ],
            Command::Cancel(1) => {
                vec![finished_unit("b", None, Outcome::Aborted, Some(FailureCode::Cancelled))]
            }
            _ => vec![],
        };
        let line = Scripted { events: sender, sent: Mutex::default(), answer: Box::new(answer) };
        let chosen = [(0, "a".to_owned()), (1, "b".to_owned())];
        let mut plan = Plan { makes: true, ..Plan::new(&chosen, 5) };
        let ran = follow(&line, &events, None, &mut plan, Out { json: true }, &|| 0);
        assert_eq!((ran.summary.passed, ran.summary.aborted), (1, 1));
        assert_eq!(ran.report(Out { json: true }), Exit::Refused);
        let sent = line.sent.into_inner().unwrap();
        assert_eq!(sent, [Command::Start(0), Command::Start(1), Command::Cancel(1)]);
    }

    #[test]
    fn ctrl_c_cancels_what_runs_and_waits_for_it() {
        let (exit, sent) = play(&["a"], 4, &|| 1, |command| match command {
            Command::Cancel(_) => vec![finished("a", Outcome::Aborted, Some(FailureCode::Cancelled))],
            _ => vec![],
        });
        assert_eq!((exit, sent), (Exit::UnitsFailed, vec![Command::Start(0), Command::Cancel(0)]));
    }

    #[test]
    fn unknown_fixtures_are_refused_with_the_known_ones() {
        let all = ["left".to_owned(), "right".to_owned()];
        let error = choose(&all, &["middle".into()]).unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        assert!(error.failure.remedy.contains("left, right"));
        assert_eq!(choose(&all, &["right".into()]).unwrap(), [(1, "right".to_owned())]);
        assert_eq!(choose(&all, &[]).unwrap().len(), 2);
    }
}
