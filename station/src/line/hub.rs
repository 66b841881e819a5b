//! The line: one worker thread per fixture, one hub thread that keeps the snapshot and hands out commands and events.
//!
//! Nothing here blocks its caller: commands go into a channel, the snapshot is swapped as a whole. Reads of the
//! records for the header happen on the hub's thread.

use super::bench::{Bench, Cancel};
use super::presence::{Presence, Seen};
use super::worker::{Order, Timing, Worker, records_failure};
use super::{
    Command, Event, FixtureView, LineHandle, PreflightView, ResultView, RunningView, SampleView, ScanView,
    Snapshot, Step, Work,
};
use crate::agent::Agent;
use crate::config::Config;
use crate::failure::{Failure, FailureCode};
use crate::label::desk::Said;
use crate::label::{LabelDesk, Printer};
use crate::model::{AttemptId, BatchId, BatchState, Outcome, UnitId};
use crate::people::{People, Right};
use crate::preflight::{BareInspector, Check, Inspect, Name, Question};
use crate::records::{Records, RecordsError};
use serde_json::json;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often an idle fixture is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(700);
/// How often a fixture that can't be used is tried again.
const LOOK_AT_TROUBLE: Duration = Duration::from_secs(3);
/// How often the header's numbers are read again when nothing happens: another program may have made a batch.
const REFRESH: Duration = Duration::from_secs(2);

/// Two looks at a board that is to start by itself are at least so far apart.
const SHORTEST_LOOK: Duration = Duration::from_millis(20);

/// Units of a sample that are named.
const SAMPLE: u32 = 3;
/// Finish times kept for units per hour, which looks at the newest 20: every snapshot carries them.
const FINISHED_KEPT: usize = 100;

enum Message {
    Command(Command),
    Event(usize, Event),
    Presence(usize, Seen, Option<bool>),
    Trouble(usize, Option<Failure>),
    /// What a look at the station came to.
    Looked(u64, Vec<Check>),
    Subscribe(Sender<Event>),
    OnChange(Box<dyn Fn() + Send + Sync>),
    NoFixtures(Failure),
    People(Arc<People>),
    Stop,
}

enum Task {
    Run(Box<Order>, Cancel),
    Stop,
}

/// The line of a station; dropping it cancels what runs and waits for its records.
pub struct Line {
    messages: Sender<Message>,
    snapshot: Arc<Mutex<Arc<Snapshot>>>,
    hub: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

impl Line {
    /// The line on real fixtures. Before the first board of a batch it asks `inspector`.
    ///
    /// # Errors
    /// `StationFault` if threads can't be started.
    #[cfg(feature = "hardware")]
    pub fn new(
        records: Arc<dyn Records>,
        agent: Arc<dyn Agent>,
        config: &Config,
        fixtures: &[crate::config::Fixture],
        labels: LabelDesk,
        inspector: Arc<dyn Inspect>,
    ) -> Result<Self, Failure> {
        let benches = fixtures
            .iter()
            .map(|f| (f.name.clone(), Box::new(crate::hardware::HardwareBench::new(f)) as Box<dyn Bench>))
            .collect();
        let timing = Timing { exchange: config.exchange_timeout, ..Timing::default() };
        Self::with_inspector(records, agent, config, benches, timing, (labels, inspector))
    }

    /// Why there are no fixtures, for whoever looks at the line.
    pub fn say_no_fixtures(&self, why: Failure) {
        drop(self.messages.send(Message::NoFixtures(why)));
    }

    /// The line on any benches, by fixture name. Before the first board of a batch it looks at the image and the printer.
    ///
    /// # Errors
    /// `StationFault` if threads can't be started.
    pub fn with_benches(
        records: Arc<dyn Records>,
        agent: Arc<dyn Agent>,
        config: &Config,
        benches: Vec<(String, Box<dyn Bench>)>,
        timing: Timing,
    ) -> Result<Self, Failure> {
        // A template that can't be used is said when a label is wanted, and by the preflight: orders without labels go on.
        let labels = LabelDesk::new(Printer::open(config));
        let inspector = Arc::new(BareInspector { image: config.image.clone(), labels: labels.clone() });
        Self::with_inspector(records, agent, config, benches, timing, (labels, inspector))
    }

    /// The line on any benches, with its label desk and who looks at the station before the first board of a batch.
    ///
    /// # Errors
    /// `StationFault` if threads can't be started.
    pub fn with_inspector(
        records: Arc<dyn Records>,
        agent: Arc<dyn Agent>,
        config: &Config,
        benches: Vec<(String, Box<dyn Bench>)>,
        timing: Timing,
        (labels, inspector): (LabelDesk, Arc<dyn Inspect>),
    ) -> Result<Self, Failure> {
        let no_thread =
            |e: std::io::Error| Failure::new(FailureCode::StationFault, format!("no thread: {e}"));
        let (messages, inbox) = mpsc::channel();
        let first = Snapshot {
            station: config.name.clone(),
            demo: config.demo,
            auto_start: config.line.auto_start,
            fixtures: benches
                .iter()
                .map(|(name, _)| FixtureView { name: name.clone(), ..FixtureView::default() })
                .collect(),
            ..Snapshot::default()
        };
        let debounce = config.line.debounce;
        let mut places = Vec::new();
        for (index, (fixture, bench)) in benches.into_iter().enumerate() {
            let (tasks, queue) = mpsc::channel();
            let told = messages.clone();
            let worker = Worker {
                fixture: fixture.clone(),
                bench,
                records: Arc::clone(&records),
                agent: Arc::clone(&agent),
                image: config.image.clone(),
                timing,
                labels: labels.clone(),
                events: Box::new(move |event| drop(told.send(Message::Event(index, event)))),
            };
            let told = messages.clone();
            let thread = std::thread::Builder::new()
                .name(format!("fixture {fixture}"))
                .spawn(move || serve(worker, index, debounce, &queue, &told))
                .map_err(no_thread)?;
            places.push(Place {
                fixture,
                tasks,
                thread: Some(thread),
                running: None,
                held: false,
                sweep: false,
            });
        }
        let snapshot = Arc::new(Mutex::new(Arc::new(first.clone())));
        let mut hub = Hub {
            records,
            places,
            view: first,
            shown: Arc::clone(&snapshot),
            subscribers: Vec::new(),
            wakers: Vec::new(),
            gray_release: config.gray_release,
            sample_told: false,
            inspector,
            messages: messages.clone(),
            round: 0,
            quietly: false,
            check_again: timing.check_again,
            checked: Instant::now(),
            looking: Vec::new(),
            labels,
            work: Work::default(),
            stopping: false,
            people: None,
        };
        let hub = std::thread::Builder::new()
            .name("line".into())
            .spawn(move || hub.run(&inbox))
            .map_err(no_thread)?;
        Ok(Self { messages, snapshot, hub: Some(hub) })
    }

    /// Sends commands from another thread; what is sent when the line is gone is lost.
    pub fn commands(&self) -> impl Fn(Command) + Send + 'static {
        let messages = self.messages.clone();
        move |command| drop(messages.send(Message::Command(command)))
    }

    /// Whose acts are written down: what decides about a batch has its row in the audit log before it is done.
    pub fn keep_audit(&self, people: Arc<People>) {
        drop(self.messages.send(Message::People(people)));
    }

    /// Every event from now on.
    pub fn subscribe(&self) -> Receiver<Event> {
        let (sender, receiver) = mpsc::channel();
        drop(self.messages.send(Message::Subscribe(sender)));
        receiver
    }
}

impl LineHandle for Line {
    fn send(&self, command: Command) {
        drop(self.messages.send(Message::Command(command)));
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        drop(self.messages.send(Message::OnChange(wake)));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        drop(self.messages.send(Message::Stop));
        if let Some(hub) = self.hub.take() {
            drop(hub.join());
        }
    }
}

/// A fixture's thread: runs what it is told to, looks for boards in between.
fn serve(
    mut worker: Worker,
    index: usize,
    debounce: Duration,
    queue: &Receiver<Task>,
    told: &Sender<Message>,
) {
    let mut presence = Presence::new(debounce);
    let began = Instant::now();
    let mut waits = false;
    let mut wait = Duration::ZERO;
    let mut trouble: Option<FailureCode> = None;
    loop {
        match queue.recv_timeout(wait) {
            Ok(Task::Run(order, cancel)) => {
                let ended = worker.run(&order, &cancel);
                presence.worked_on(ended.unit, began.elapsed());
                waits = false;
                let gone = matches!(
                    ended.failure.as_ref().map(|f| f.code),
                    Some(FailureCode::NoTarget | FailureCode::BoardUnplugged | FailureCode::NoProbe)
                );
                wait = if gone { Duration::ZERO } else { LOOK_EVERY };
            }
            Ok(Task::Stop) | Err(RecvTimeoutError::Disconnected) => {
                worker.bench.release();
                return;
            }
            Err(RecvTimeoutError::Timeout) => match worker.bench.presence() {
                Ok(unit) => {
                    if trouble.take().is_some() {
                        drop(told.send(Message::Trouble(index, None)));
                    }
                    let seen = presence.look(unit, began.elapsed());
                    // A board that no longer waits is told as well.
                    if seen != Seen::default() || waits {
                        let present = if seen.came {
                            Some(true)
                        } else if seen.left {
                            Some(false)
                        } else {
                            None
                        };
                        drop(told.send(Message::Presence(index, seen, present)));
                    }
                    waits = seen.waiting.is_some();
                    wait = match seen.waiting {
                        Some(left) if !left.is_zero() => left.clamp(SHORTEST_LOOK, LOOK_EVERY),
                        _ => LOOK_EVERY,
                    };
                }
                Err(failure) => {
                    if trouble != Some(failure.code) {
                        trouble = Some(failure.code);
                        drop(told.send(Message::Trouble(index, Some(failure))));
                    }
                    wait = LOOK_AT_TROUBLE;
                }
            },
        }
    }
}

struct Place {
    fixture: String,
    tasks: Sender<Task>,
    thread: Option<JoinHandle<()>>,
    running: Option<Running>,
    /// It was started and waits for the look at the station, or for the sample before its group.
    held: bool,
    /// Auto-start takes the board that lies there, though nobody saw it put in.
    sweep: bool,
}

struct Running {
    cancel: Cancel,
    work: Work,
    batch: BatchId,
}

struct Hub {
    records: Arc<dyn Records>,
    places: Vec<Place>,
    view: Snapshot,
    shown: Arc<Mutex<Arc<Snapshot>>>,
    subscribers: Vec<Sender<Event>>,
    wakers: Vec<Box<dyn Fn() + Send + Sync>>,
    gray_release: u32,
    /// It was said that the sample is due.
    sample_told: bool,
    inspector: Arc<dyn Inspect>,
    messages: Sender<Message>,
    /// The newest look at the station; what an older one says is void.
    round: u64,
    checked: Instant,
    /// The look that is under way is the clock's: nobody waits for it, and nothing turns on the screen.
    quietly: bool,
    check_again: Duration,
    looking: Vec<JoinHandle<()>>,
    labels: LabelDesk,
    work: Work,
    /// Whose acts are written down.
    people: Option<Arc<People>>,
    stopping: bool,
}

impl Hub {
    fn run(&mut self, inbox: &Receiver<Message>) {
        self.refresh();
        self.publish();
        let mut refreshed = Instant::now();
        while !(self.stopping && self.places.iter().all(|p| p.running.is_none())) {
            let mut changed = false;
            let mut wait = REFRESH.saturating_sub(refreshed.elapsed());
            if self.looks_again() {
                wait = wait.min(self.check_again.saturating_sub(self.checked.elapsed()));
            }
            match inbox.recv_timeout(wait) {
                Ok(message) => changed |= self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // Progress of many fixtures comes in bursts: one snapshot for all that is there.
            while let Ok(message) = inbox.try_recv() {
                changed |= self.take(message);
            }
            if refreshed.elapsed() >= REFRESH {
                refreshed = Instant::now();
                changed |= self.refresh();
                changed |= self.go_on();
            }
            if self.looks_again() && self.checked.elapsed() >= self.check_again {
                self.quietly = self.look();
            }
            if changed {
                self.publish();
            }
        }
        for look in self.looking.drain(..) {
            drop(look.join());
        }
        for place in &mut self.places {
            drop(place.tasks.send(Task::Stop));
            if let Some(thread) = place.thread.take() {
                drop(thread.join());
            }
        }
    }

    fn publish(&self) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(self.view.clone());
        for wake in &self.wakers {
            wake();
        }
    }

    fn tell(&mut self, event: &Event) {
        self.subscribers.retain(|s| s.send(event.clone()).is_ok());
    }

    fn trouble(&mut self, failure: Failure) {
        self.tell(&Event::Station { failure: failure.clone() });
        self.view.trouble = Some(failure);
    }

    /// Reads the header's numbers; true if any changed. A record store that can't be read is told once.
    fn refresh(&mut self) -> bool {
        let read = self.records.list_batches().and_then(|mut batches| {
            batches.sort_by_key(|b| b.state != BatchState::Open);
            let chosen = match &self.view.batch {
                None => None,
                Some((batch, _)) => {
                    let batch = self.records.batch_by_name(&batch.name)?;
                    let order = self.records.product_order(batch.po)?;
                    let counts = self.records.batch_counts(batch.id)?;
                    let sample = match batch.sample_due(self.gray_release) {
                        Some(waiting) if batch.state == BatchState::Open => {
                            let units = self.records.sample(batch.id, SAMPLE)?;
                            Some(SampleView {
                                waiting,
                                serials: units.into_iter().map(|u| u.serial).collect(),
                            })
                        }
                        _ => None,
                    };
                    Some((batch, order, counts, sample))
                }
            };
            Ok((batches, chosen))
        });
        match self.records.damage().map_or(read, Err) {
            Ok((batches, chosen)) => {
                let counts = chosen.as_ref().map(|c| c.2).unwrap_or_default();
                let sample = chosen.as_ref().and_then(|c| c.3.clone());
                let key = |b: &crate::model::Batch| (b.id, b.name.clone(), b.quantity, b.state);
                let changed = counts != self.view.counts
                    || sample != self.view.sample
                    || !batches.iter().map(key).eq(self.view.batches.iter().map(key))
                    || chosen.as_ref().map(|c| key(&c.0)) != self.view.batch.as_ref().map(|c| key(&c.0))
                    || chosen.as_ref().map(|c| &c.1.image_sha256)
                        != self.view.batch.as_ref().map(|c| &c.1.image_sha256);
                self.view.counts = counts;
                self.sample_told &= sample.is_some();
                self.view.sample = sample;
                self.view.batches = batches;
                self.view.batch = chosen.map(|(batch, order, ..)| (batch, order));
                changed
            }
            Err(error) => {
                let failure = records_failure(error);
                let new = self.view.trouble.as_ref() != Some(&failure);
                if new {
                    self.trouble(failure);
                }
                new
            }
        }
    }

    /// Takes one message; true if the snapshot changed.
    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Command(command) => self.command(command),
            Message::Subscribe(subscriber) => {
                self.subscribers.push(subscriber);
                false
            }
            Message::OnChange(wake) => {
                self.wakers.push(wake);
                false
            }
            Message::People(people) => {
                self.people = Some(people);
                false
            }
            Message::NoFixtures(why) => {
                self.view.no_fixtures = Some(why);
                true
            }
            Message::Event(index, event) => {
                self.show(index, &event);
                if let Event::Finished { outcome, .. } = &event {
                    // All of it before anybody is told: who hears of the end may start the next unit at once.
                    let ran = self.places[index].running.take().map(|r| r.work);
                    self.refresh();
                    if *outcome == Outcome::Pass && ran == Some(Work::Make) {
                        self.gray_release();
                    }
                }
                self.tell(&event);
                if matches!(event, Event::Finished { .. }) {
                    // It left room in its group, or its pass filled it.
                    self.go_on();
                }
                true
            }
            Message::Presence(index, seen, present) => {
                let fixture = self.places[index].fixture.clone();
                if let Some(present) = present {
                    self.view.fixtures[index].present = Some(present);
                    if seen.left && seen.came {
                        self.tell(&Event::Presence { fixture: fixture.clone(), present: false });
                    }
                    self.tell(&Event::Presence { fixture, present });
                }
                if seen.left {
                    self.places[index].sweep = false;
                    if self.view.fixtures[index].waits_for_sample {
                        // Nothing lies there to be started when the sample is approved.
                        self.let_go_of(index);
                    }
                }
                let before = self.view.fixtures[index].starts;
                let counts = seen.inserted || self.places[index].sweep;
                match seen.waiting.filter(|_| counts && self.starts_by_itself(index)) {
                    Some(left) if left.is_zero() => {
                        self.start(index);
                        return true;
                    }
                    // The time does not move with every look at it.
                    Some(left) => {
                        self.view.fixtures[index].starts =
                            before.or_else(|| Instant::now().checked_add(left));
                    }
                    None => self.view.fixtures[index].starts = None,
                }
                present.is_some() || before != self.view.fixtures[index].starts
            }
            Message::Looked(round, checks) => self.looked(round, checks),
            Message::Trouble(index, failure) => {
                if let Some(failure) = &failure {
                    self.tell(&Event::Station { failure: failure.clone() });
                    self.view.fixtures[index].present = None;
                }
                self.view.fixtures[index].trouble = failure;
                true
            }
            Message::Stop => {
                self.stopping = true;
                self.let_go();
                for place in &self.places {
                    if let Some(running) = &place.running {
                        running.cancel.cancel();
                    }
                }
                false
            }
        }
    }

    fn command(&mut self, command: Command) -> bool {
        match command {
            Command::SelectBatch(name) => {
                let found = self.records.batch_by_name(&name).and_then(|batch| {
                    let order = self.records.product_order(batch.po)?;
                    Ok((batch, order))
                });
                match found {
                    Ok(found) => {
                        // Who started a unit meant the batch before.
                        self.let_go();
                        if self.view.batch.as_ref().is_none_or(|(batch, _)| batch.id != found.0.id) {
                            self.view.preflight = PreflightView::default();
                        }
                        self.view.batch = Some(found);
                        self.view.trouble = None;
                        self.view.finished.clear();
                        self.refresh();
                        self.check();
                    }
                    Err(error) => self.trouble(records_failure(error)),
                }
            }
            Command::SetOperator(name) => self.view.operator = name,
            Command::SetWork(work) => self.work = work,
            Command::Start(index) => self.start(index),
            Command::StartFor { fixture, batch, work } => self.start_for(fixture, &batch, work),
            Command::StartAll => (0..self.places.len()).for_each(|index| self.start(index)),
            Command::CheckAgain if self.view.preflight.checking => return false,
            Command::CheckAgain => self.check(),
            Command::Cancel(index) if self.places.get(index).is_some_and(|p| p.held) => {
                self.let_go_of(index);
            }
            Command::Cancel(index) => {
                if let Some(running) = self.places.get(index).and_then(|p| p.running.as_ref()) {
                    running.cancel.cancel();
                    if let Some(running) = &mut self.view.fixtures[index].running {
                        running.cancelling = true;
                    }
                }
            }
            Command::AutoStart(on) => {
                self.view.auto_start = on;
                for (place, view) in self.places.iter_mut().zip(&mut self.view.fixtures) {
                    place.sweep = on;
                    view.starts = None;
                }
            }
            // Who is there now, not who started the unit.
            Command::Scan(text) => return self.labels.say(Said::Scan(text), &self.view.operator),
            Command::PrintAgain => return self.labels.say(Said::PrintAgain, &self.view.operator),
            Command::ApproveSample { operator, note } => {
                let row = (Right::ApproveGate, "sample-approved", json!({ "note": note }));
                self.about_batch(row, |records, batch| records.approve_sample(batch, &operator, &note));
            }
            Command::StopBatch { operator, reason } => {
                let row = (Right::PauseBatch, "batch-paused", json!({ "reason": reason }));
                self.about_batch(row, |records, batch| {
                    records.set_batch_state(batch, BatchState::Paused, &operator, &reason)
                });
            }
            Command::Shutdown => {
                self.stopping = true;
                self.let_go();
            }
        }
        true
    }

    fn start(&mut self, index: usize) {
        let Some(place) = self.places.get(index) else { return };
        if place.running.is_some() || self.stopping {
            return;
        }
        let Some((batch, _)) = &self.view.batch else {
            let failure = Failure::new(FailureCode::NoBatch, "");
            self.trouble(failure.clone());
            self.refuse(index, None, failure);
            return;
        };
        if self.work == Work::Make && self.view.sample.is_some() {
            // Who waits for it already goes on waiting.
            if !self.view.fixtures[index].waits_for_sample {
                let failure = sample_due(&self.view, &batch.name);
                self.refuse(index, None, failure);
            }
            return;
        }
        if self.work == Work::Make {
            if self.view.preflight.checking || self.quietly {
                return self.hold(index, false);
            }
            if let Some(check) = self.view.preflight.stops(index) {
                let failure = check.failure.clone();
                self.refuse(
                    index,
                    None,
                    failure.unwrap_or_else(|| Failure::new(FailureCode::NotChecked, "")),
                );
                return;
            }
            if batch.state == BatchState::Open && !batch.has_room(self.gray_release, self.in_work(batch.id)) {
                return self.hold(index, true);
            }
        }
        let order =
            Order { batch: batch.clone(), operator: self.view.operator.clone(), work: self.work.clone() };
        self.launch(index, order);
    }

    fn start_for(&mut self, index: usize, batch: &str, work: Work) {
        let Some(place) = self.places.get(index) else { return };
        if place.running.is_some() || self.stopping {
            let facts = if self.stopping { "the station stops" } else { "another unit runs in the fixture" };
            self.refuse(index, work.qa(), Failure::new(FailureCode::Cancelled, facts));
            return;
        }
        match self.records.batch_by_name(batch) {
            Ok(batch) => self.launch(index, Order { batch, operator: self.view.operator.clone(), work }),
            Err(error) => self.refuse(index, work.qa(), records_failure(error)),
        }
    }

    /// Whoever started a unit waits for an end, so there is one, without an attempt.
    fn refuse(&mut self, index: usize, qa: Option<UnitId>, failure: Failure) {
        let finished = Event::Finished {
            fixture: self.places[index].fixture.clone(),
            attempt: AttemptId(0),
            unit: None,
            serial: None,
            outcome: failure.outcome(),
            failure: Some(failure),
            step_seconds: [0.0; Step::ALL.len()],
            seconds: 0.0,
            qa,
        };
        self.tell(&finished);
    }

    fn launch(&mut self, index: usize, order: Order) {
        let (cancel, work, batch) = (Cancel::default(), order.work.clone(), order.batch.id);
        let qa = work.qa();
        let place = &mut self.places[index];
        if place.tasks.send(Task::Run(Box::new(order), cancel.clone())).is_err() {
            let failure = Failure::new(FailureCode::StationFault, "the fixture's worker has ended");
            self.trouble(failure.clone());
            self.refuse(index, qa, failure);
            return;
        }
        place.running = Some(Running { cancel, work, batch });
        self.release(index);
        let view = &mut self.view.fixtures[index];
        view.starts = None;
        view.last = None;
        view.trouble = None;
        view.running = Some(RunningView {
            unit: None,
            serial: None,
            step: Step::Arrive,
            label: String::new(),
            fraction: 0.0,
            since: Instant::now(),
            resumed: false,
            cancelling: false,
            qa,
            scan: None,
        });
    }

    /// Shows a worker's event in the snapshot.
    fn show(&mut self, index: usize, event: &Event) {
        let view = &mut self.view.fixtures[index];
        match event {
            Event::Started { .. } => {
                view.present = Some(true);
                self.view.trouble = None;
            }
            Event::Identified { unit, serial, resumed, .. } => {
                if let Some(running) = &mut view.running {
                    (running.unit, running.serial, running.resumed) =
                        (Some(*unit), Some(serial.clone()), *resumed);
                }
            }
            Event::Step { step, .. } => {
                if let Some(running) = &mut view.running {
                    (running.step, running.fraction, running.scan) = (*step, 0.0, None);
                    running.label.clear();
                }
            }
            Event::Progress { step, label, done, total, .. } => {
                if let Some(running) = &mut view.running {
                    running.step = *step;
                    running.label.clone_from(label);
                    if *total > 0 {
                        running.fraction = (*done as f32 / *total as f32).clamp(0.0, 1.0);
                    }
                }
            }
            Event::ScanWanted { serial, labels, problem, .. } => {
                if let Some(running) = &mut view.running {
                    running.scan =
                        Some(ScanView { serial: serial.clone(), labels: *labels, problem: problem.clone() });
                }
            }
            Event::Finished { unit, serial, outcome, failure, seconds, qa, .. } => {
                view.running = None;
                view.last = Some(ResultView {
                    unit: *unit,
                    serial: serial.clone(),
                    outcome: *outcome,
                    failure: failure.clone(),
                    seconds: *seconds,
                    qa: *qa,
                });
                // What QA gives back was counted when it was made.
                if *outcome == Outcome::Pass && qa.is_none() {
                    if self.view.finished.len() >= FINISHED_KEPT {
                        self.view.finished.remove(0);
                    }
                    self.view.finished.push(Instant::now());
                }
            }
            Event::Station { failure } => self.view.trouble = Some(failure.clone()),
            Event::Presence { .. } | Event::Preflight { .. } => {}
        }
    }

    /// Looks at the station for the chosen batch, on a thread of its own.
    fn check(&mut self) {
        self.quietly = false;
        self.view.preflight.checking = self.look();
    }

    /// What fails is looked at again by the clock: somebody may have seen to it.
    fn looks_again(&self) -> bool {
        let looks = self.view.preflight.checking || self.quietly;
        let fails = self.view.preflight.checks.iter().any(Check::fails);
        !looks && !self.stopping && self.view.batch.is_some() && fails
    }

    /// Begins to look at the station; whether somebody looks now.
    fn look(&mut self) -> bool {
        let Some((batch, order)) = self.view.batch.clone() else { return false };
        self.round += 1;
        self.checked = Instant::now();
        let idle = (0..self.places.len()).filter(|i| self.places[*i].running.is_none()).collect();
        let question = Question { batch, order, idle };
        let (inspector, told, round) = (self.inspector.clone(), self.messages.clone(), self.round);
        let look = move || {
            // A defect in a check must not leave the line waiting for ever.
            let found =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| inspector.inspect(&question)));
            let found = found.unwrap_or_else(|_| vec![not_checked("a check broke off; the log has more")]);
            drop(told.send(Message::Looked(round, found)));
        };
        self.looking.retain(|look| !look.is_finished());
        match std::thread::Builder::new().name("preflight".into()).spawn(look) {
            Ok(thread) => self.looking.push(thread),
            Err(error) => drop(
                self.messages.send(Message::Looked(round, vec![not_checked(&format!("no thread: {error}"))])),
            ),
        }
        true
    }

    /// What the station looks like; those who wait start, or hear why not. What the clock asked for is told if it is news.
    fn looked(&mut self, round: u64, mut checks: Vec<Check>) -> bool {
        if round != self.round {
            return false;
        }
        // A port that came into use meanwhile says that it is in use.
        checks.retain(|c| c.fixture.is_none_or(|f| self.places.get(f).is_some_and(|p| p.running.is_none())));
        self.checked = Instant::now();
        // Its words may say another number each time: the free space, the clock.
        let told = |checks: &[Check]| {
            let told =
                checks.iter().map(|c| (c.name, c.fixture, c.status, c.failure.as_ref().map(|f| f.code)));
            told.collect::<Vec<_>>()
        };
        let quietly = std::mem::take(&mut self.quietly);
        let news = !quietly || told(&checks) != told(&self.view.preflight.checks);
        if news {
            let batch = self.view.batch.as_ref().map(|(b, _)| b.name.clone()).unwrap_or_default();
            let ready = !checks.iter().any(Check::fails);
            self.tell(&Event::Preflight { batch, ready, checks: checks.clone() });
        }
        self.view.preflight = PreflightView { checking: false, checks: Arc::new(checks) };
        let mut held = false;
        for index in 0..self.places.len() {
            // Who waits for a sample goes on waiting, and its check is the gate's.
            if self.places[index].held && !(self.view.fixtures[index].waits_for_sample && self.shut()) {
                held = true;
                self.release(index);
                self.start(index);
            }
        }
        news || held
    }

    /// It starts by itself as soon as nothing is in the way any more.
    fn hold(&mut self, index: usize, waits_for_sample: bool) {
        self.places[index].held = true;
        let view = &mut self.view.fixtures[index];
        (view.held, view.waits_for_sample, view.starts) = (true, waits_for_sample, None);
    }

    fn release(&mut self, index: usize) {
        self.places[index].held = false;
        let view = &mut self.view.fixtures[index];
        (view.held, view.waits_for_sample) = (false, false);
    }

    /// One who waits is not started any more.
    fn let_go_of(&mut self, index: usize) {
        self.release(index);
        self.refuse(index, None, Failure::new(FailureCode::Cancelled, "it had not begun"));
    }

    /// Those who wait are not started any more.
    fn let_go(&mut self) {
        for index in 0..self.places.len() {
            if self.places[index].held {
                self.let_go_of(index);
            }
        }
    }

    /// Units of the batch that may still become passes of its group.
    fn in_work(&self, batch: BatchId) -> u32 {
        let makes = |r: &Running| r.batch == batch && r.work == Work::Make;
        self.places.iter().filter(|p| p.running.as_ref().is_some_and(makes)).count() as u32
    }

    /// Nothing more of the chosen batch starts before a sample was looked at.
    fn shut(&self) -> bool {
        self.view.batch.as_ref().is_some_and(|(b, _)| !b.has_room(self.gray_release, self.in_work(b.id)))
    }

    /// Those who wait for a sample start, as far as their group has room, or are let go if the batch was stopped; whether any did.
    fn go_on(&mut self) -> bool {
        let mut any = false;
        for index in 0..self.places.len() {
            if !self.view.fixtures[index].waits_for_sample {
                continue;
            }
            let open = self.view.batch.as_ref().is_some_and(|(b, _)| b.state == BatchState::Open);
            if !open {
                self.let_go_of(index);
            } else if self.shut() {
                break;
            } else {
                self.release(index);
                self.start(index);
            }
            any = true;
        }
        any
    }

    /// Whether a board in this fixture may start without anybody's word: as if somebody started it, and nothing is asked first.
    fn starts_by_itself(&self, index: usize) -> bool {
        let view = &self.view;
        view.auto_start
            && !self.stopping
            && self.work == Work::Make
            && self.places[index].running.is_none()
            && !self.places[index].held
            && view.fixtures[index].trouble.is_none()
            && view.batch.as_ref().is_some_and(|(batch, _)| batch.state == BatchState::Open)
            && view.sample.is_none()
            && !view.preflight.checking
            && view.preflight.stops(index).is_none()
    }

    /// The gate has just shut: said once, and shown until somebody has checked a sample.
    fn gray_release(&mut self) {
        // The clock's refresh may have seen it before the end of the attempt did: whether it was told is remembered, not seen.
        let (Some(_), Some((batch, _)), false) = (&self.view.sample, &self.view.batch, self.sample_told)
        else {
            return;
        };
        let failure = sample_due(&self.view, &batch.name);
        self.sample_told = true;
        self.trouble(failure);
    }

    /// What QA decides about the chosen batch.
    /// Decides about the batch; where people work, behind its row in the audit log.
    fn about_batch(
        &mut self,
        (right, action, detail): (Right, &str, serde_json::Value),
        act: impl FnOnce(&dyn Records, BatchId) -> Result<(), RecordsError>,
    ) {
        let Some((batch, _)) = &self.view.batch else {
            return self.trouble(Failure::new(FailureCode::NoBatch, ""));
        };
        let act = || act(&*self.records, batch.id).map_err(records_failure);
        let done = match &self.people {
            Some(people) => people.act(right, (action, &batch.name), detail, act),
            None => act(),
        };
        match done {
            Ok(()) => {
                self.view.trouble = self.view.trouble.take().filter(|t| t.code != FailureCode::SampleDue);
                self.refresh();
                self.go_on();
            }
            Err(failure) => self.trouble(failure),
        }
    }
}

fn sample_due(view: &Snapshot, batch: &str) -> Failure {
    let waiting = view.sample.as_ref().map_or(0, |s| s.waiting);
    Failure::new(FailureCode::SampleDue, format!("{waiting} units of batch {batch} passed"))
}

fn not_checked(facts: &str) -> Check {
    Check::failed(Name::Fixtures, &Failure::new(FailureCode::NotChecked, facts))
}
