//! A line and a desk that only show: scenes for tests, for the design gallery (`cargo run --example line_view_demo`) and for
//! whoever changes a view. Commands are kept so that a test can read what the window asked for.

use crate::agent::Standing;
use crate::desk::{self, AlarmView, DeskHandle, UnitFile};
use crate::failure::{Failure, FailureCode};
use crate::line::{Command, FixtureView, LineHandle, ResultView, RunningView, Snapshot, Step};
use crate::model::*;
use crate::preflight::{Check, Name, Status};
use crate::records::{
    Alarm, AlarmOf, Attempt, AttemptWork, FoundUnit, IssuedKey, Reprovision, ReprovisionKind, Rma, RmaEnd,
    UnitEvent, UnitExport, UnitRecord, UnitsFound,
};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// One fixture in each state.
    Gallery,
    /// A quiet line of `n` fixtures with a board each.
    Ready(usize),
    /// `n` fixtures in every state, by turns.
    Busy(usize),
    /// A station without batches.
    NoBatch,
    /// A station without fixtures.
    NoFixtures,
    /// The batch is closed.
    Closed,
    /// The batch is paused.
    Paused,
    /// The station itself is in trouble.
    StationTrouble,
}

fn unit(n: usize) -> UnitId {
    let mut id = *b"\x00\x3a\x00\x1f\x31\x32\x51\x09\x33\x36\x00\x00";
    id[1] = id[1].wrapping_add(n as u8);
    id[11] = id[11].wrapping_add((n * 37) as u8);
    UnitId(id)
}

fn serial(n: usize) -> String {
    format!("KW429-{:05}", 1040 + n)
}

fn batch(id: i64, name: &str, quantity: u32, state: BatchState) -> Batch {
    Batch { id: BatchId(id), name: name.into(), po: PoId(1), quantity, state, terms: BatchTerms::default() }
}

/// The order of every scene.
pub fn order() -> ProductOrder {
    ProductOrder {
        id: PoId(1),
        name: "PO-2026-0417".into(),
        model: "KW-GATEWAY-429".into(),
        hw_revision: "C".into(),
        part_number: "900-1042".into(),
        quantity: 5000,
        region: 7,
        suite: 2,
        image_sha256: None,
        cloud_url: "mqtts://localhost".into(),
        lock: true,
        per_hour: 0,
        key_invalid_at_ms: None,
        label: LabelPolicy::None,
    }
}

/// An idle fixture.
pub fn idle(n: usize, present: Option<bool>) -> FixtureView {
    FixtureView { name: format!("Fixture {n}"), present, ..FixtureView::default() }
}

/// A fixture at work since `seconds` ago.
pub fn running(n: usize, step: Step, label: &str, fraction: f32, now: Instant, seconds: u64) -> FixtureView {
    let known = step != Step::Arrive;
    FixtureView {
        running: Some(RunningView {
            unit: known.then(|| unit(n)),
            serial: known.then(|| serial(n)),
            step,
            label: label.into(),
            fraction,
            since: now.checked_sub(Duration::from_secs(seconds)).unwrap_or(now),
            resumed: false,
            cancelling: false,
            qa: None,
            scan: None,
        }),
        ..idle(n, Some(true))
    }
}

/// A fixture whose unit ended.
pub fn done(n: usize, outcome: Outcome, code: Option<FailureCode>) -> FixtureView {
    FixtureView {
        last: Some(ResultView {
            unit: Some(unit(n)),
            serial: Some(serial(n)),
            outcome,
            failure: code.map(|c| Failure::new(c, "")),
            seconds: 21.4 + n as f64,
            qa: None,
        }),
        ..idle(n, Some(true))
    }
}

/// A fixture that can't be used.
pub fn troubled(n: usize, code: FailureCode, facts: &str) -> FixtureView {
    FixtureView { trouble: Some(Failure::new(code, facts)), ..idle(n, None) }
}

fn busy(n: usize, now: Instant) -> FixtureView {
    match (n - 1) % 12 {
        0 | 5 => done(n, Outcome::Pass, None),
        1 => running(n, Step::Flash, "writing app 312/512 KiB", 0.61, now, 14),
        2 => {
            let mut f = done(n, Outcome::Fail, Some(FailureCode::VerifyFailed));
            if let Some(failure) = f.last.as_mut().and_then(|l| l.failure.as_mut()) {
                *failure = Failure::new(FailureCode::VerifyFailed, "first difference at 0x08020400");
            }
            f
        }
        3 => idle(n, Some(true)),
        4 => running(n, Step::AgentKey, "message 2 of 3", 0.66, now, 22),
        6 => done(n, Outcome::Timeout, Some(FailureCode::DeviceSilent)),
        7 => idle(n, Some(false)),
        8 => done(n, Outcome::Error, Some(FailureCode::CloudRefused)),
        9 => running(n, Step::Prove, "challenge", 0.5, now, 31),
        10 => done(n, Outcome::Aborted, Some(FailureCode::Cancelled)),
        _ => troubled(n, FailureCode::NoProbe, "serial 066BFF343633464257"),
    }
}

/// A check that ended well, or badly with this code.
pub fn checked(name: Name, code: Option<FailureCode>, fixture: Option<usize>) -> Check {
    let failure = code.map(|code| Failure::new(code, "12 MiB"));
    Check {
        event: "check",
        name,
        status: if failure.is_some() { Status::Fail } else { Status::Ok },
        detail: failure.as_ref().map_or_else(|| "as it should be".into(), |f| f.sentence.clone()),
        remedy: failure.as_ref().map(|f| f.remedy.clone()),
        fixture,
        failure,
    }
}

/// The snapshot of a scene.
pub fn scene(scene: Scene, now: Instant) -> Snapshot {
    let mut s = Snapshot {
        station: "Bench 3".into(),
        operator: "Ana Petrović".into(),
        batch: Some((batch(1, "B-2041", 500, BatchState::Open), order())),
        counts: BatchCounts {
            planned: 500,
            passed: 312,
            failed: 9,
            scrapped: 2,
            in_progress: 3,
            first_pass: 301,
        },
        batches: vec![
            batch(1, "B-2041", 500, BatchState::Open),
            batch(2, "B-2042", 250, BatchState::Open),
            batch(3, "PILOT-07", 20, BatchState::Paused),
            batch(4, "B-2040", 500, BatchState::Closed),
        ],
        finished: (0..18).filter_map(|i| now.checked_sub(Duration::from_secs(20 + i * 31))).collect(),
        ..Snapshot::default()
    };
    s.fixtures = match scene {
        Scene::Gallery => {
            let mut cancelling = running(6, Step::CloudKey, "message 1 of 3", 0.33, now, 27);
            if let Some(r) = cancelling.running.as_mut() {
                r.cancelling = true;
                r.resumed = true;
            }
            let mut all: Vec<_> = [1, 2, 3, 4].into_iter().map(|n| busy(n, now)).collect();
            all.push(idle(5, Some(false)));
            all.push(cancelling);
            all.extend([7, 12].into_iter().enumerate().map(|(i, n)| {
                let mut f = busy(n, now);
                f.name = format!("Fixture {}", 7 + i);
                f
            }));
            all
        }
        Scene::Ready(n) => (1..=n).map(|n| idle(n, Some(true))).collect(),
        Scene::Busy(n) => (1..=n).map(|n| busy(n, now)).collect(),
        Scene::NoBatch => vec![idle(1, Some(true)), idle(2, Some(false))],
        Scene::NoFixtures => Vec::new(),
        Scene::Closed | Scene::Paused | Scene::StationTrouble => (1..=4).map(|n| busy(n, now)).collect(),
    };
    match scene {
        Scene::NoBatch => {
            s.batch = None;
            s.batches.clear();
            s.counts = BatchCounts::default();
            s.finished.clear();
        }
        Scene::Closed | Scene::Paused => {
            let state = if scene == Scene::Closed { BatchState::Closed } else { BatchState::Paused };
            if let Some((b, _)) = s.batch.as_mut() {
                b.state = state;
            }
            s.batches[0].state = state;
        }
        Scene::StationTrouble => {
            s.trouble = Some(Failure::new(FailureCode::RecordsFailed, "no space left on the disk"));
        }
        _ => {}
    }
    s
}

#[derive(Default)]
struct Shared {
    snapshot: Mutex<Arc<Snapshot>>,
    commands: Mutex<Vec<Command>>,
    wake: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
}

/// A line whose snapshots are set from outside. Clones show the same line.
#[derive(Clone, Default)]
pub struct ScriptedLine(Arc<Shared>);

impl ScriptedLine {
    /// A line that shows `snapshot`.
    pub fn new(snapshot: Snapshot) -> Self {
        let line = Self::default();
        line.show(snapshot);
        line
    }

    /// Shows another snapshot and wakes the window.
    pub fn show(&self, snapshot: Snapshot) {
        *self.0.snapshot.lock().unwrap_or_else(|e| e.into_inner()) = Arc::new(snapshot);
        if let Some(wake) = self.0.wake.lock().unwrap_or_else(|e| e.into_inner()).as_ref() {
            wake();
        }
    }

    /// Takes the commands that came so far.
    pub fn take(&self) -> Vec<Command> {
        std::mem::take(&mut self.0.commands.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

impl LineHandle for ScriptedLine {
    fn send(&self, command: Command) {
        self.0.commands.lock().unwrap_or_else(|e| e.into_inner()).push(command);
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        *self.0.wake.lock().unwrap_or_else(|e| e.into_inner()) = Some(wake);
    }
}

#[derive(Default)]
struct SharedDesk {
    snapshot: Mutex<Arc<desk::Snapshot>>,
    commands: Mutex<Vec<desk::Command>>,
    wake: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
}

/// A desk whose snapshots are set from outside. Clones show the same desk.
#[derive(Clone, Default)]
pub struct ScriptedDesk(Arc<SharedDesk>);

impl ScriptedDesk {
    /// A desk that shows `snapshot`.
    pub fn new(snapshot: desk::Snapshot) -> Self {
        let desk = Self::default();
        desk.show(snapshot);
        desk
    }

    /// Shows another snapshot and wakes the window.
    pub fn show(&self, snapshot: desk::Snapshot) {
        *self.0.snapshot.lock().unwrap_or_else(|e| e.into_inner()) = Arc::new(snapshot);
        if let Some(wake) = self.0.wake.lock().unwrap_or_else(|e| e.into_inner()).as_ref() {
            wake();
        }
    }

    /// Takes the commands that came so far.
    pub fn take(&self) -> Vec<desk::Command> {
        std::mem::take(&mut self.0.commands.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

impl DeskHandle for ScriptedDesk {
    fn send(&self, command: desk::Command) {
        // Somebody who only looks at the window finds something, too.
        if let desk::Command::Search(search) = &command {
            let mut now = (*self.snapshot()).clone();
            let mut answer = answer(search.number, &search.text, 120);
            (answer.found.from, answer.search) = (search.from, search.clone());
            now.search = Some(Arc::new(answer));
            self.show(now);
        }
        self.0.commands.lock().unwrap_or_else(|e| e.into_inner()).push(command);
    }

    fn snapshot(&self) -> Arc<desk::Snapshot> {
        self.0.snapshot.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        *self.0.wake.lock().unwrap_or_else(|e| e.into_inner()) = Some(wake);
    }
}

/// When the scenes' unit came back.
const CAME_BACK_MS: i64 = 1_790_000_000_000;

/// A unit that passed, failed an attempt and was given new keys once.
pub fn unit_file(state: UnitState) -> UnitFile {
    let id = unit(3);
    let at = |minutes: i64| CAME_BACK_MS + minutes * 60_000;
    let attempt = |n: i64, minutes: i64, outcome: Outcome, code: Option<FailureCode>| Attempt {
        id: AttemptId(n),
        batch: BatchId(1),
        unit: Some(id),
        fixture: format!("Fixture {}", 1 + n % 4),
        operator: "Ana Petrović".into(),
        station: "Bench 3".into(),
        started_at_ms: at(minutes),
        ended_at_ms: Some(at(minutes) + 24_000),
        outcome: Some(outcome),
        failure: code.map(|c| Failure::new(c, "")),
        proof: None,
        work: if n > 100 { AttemptWork::Update } else { AttemptWork::Make },
    };
    let event = |seq: i64, minutes: i64, kind: &str, detail: serde_json::Value| UnitEvent {
        seq,
        unit: id,
        attempt: None,
        at_ms: at(minutes),
        kind: kind.into(),
        detail,
    };
    let mut events = vec![
        event(1, -43_000, "arrived", json!({ "serial": serial(3) })),
        event(2, -43_000, "flash-begin", json!({})),
        event(3, -42_999, "flash-end", json!({ "image": "0.1.0" })),
        event(4, -42_999, "agent-key-issued", json!({ "generation": 1 })),
        event(5, -42_999, "agent-key-active", json!({ "generation": 1 })),
        event(6, -42_999, "cloud-key-issued", json!({ "generation": 1 })),
        event(7, -42_999, "cloud-key-active", json!({ "generation": 1 })),
        event(8, -42_998, "passed", json!({ "agent_key": 1, "cloud_key": 1 })),
        event(
            9,
            -60,
            "reprovision-ordered",
            json!({ "kind": "new-keys", "reason": "RMA 2291, SIM replaced", "operator": "Ana Petrović" }),
        ),
        event(10, -58, "agent-key-active", json!({ "generation": 2 })),
        event(11, -58, "cloud-key-active", json!({ "generation": 2 })),
        event(12, -57, "reprovisioned", json!({ "order": 1, "agent_key": 2, "cloud_key": 2 })),
    ];
    events.reverse();
    let (batch, order) = (batch(1, "B-2041", 500, BatchState::Open), order());
    let enrolled = state >= UnitState::AgentKey;
    let key = |purpose: &str, generation: u32, minutes: i64, live: bool| IssuedKey {
        purpose: purpose.into(),
        generation,
        state: "posted".into(),
        key_id: format!(
            "{:016x}",
            0x9f3c_51aa_0b7e_2d40_u64.wrapping_mul(u64::from(generation)) ^ purpose.len() as u64
        ),
        reserved_at_ms: at(minutes),
        settled_at_ms: Some(at(minutes) + 900),
        void_reason: None,
        retired_at_ms: (!live).then(|| at(-58)),
    };
    let record = UnitRecord {
        unit: Unit {
            id,
            batch: batch.id,
            serial: serial(3),
            state,
            generation: 3,
            attempts: 3,
            interrupted: false,
        },
        batch,
        orders: vec![reprovision(ReprovisionKind::NewKeys, false)],
        attempts: vec![
            attempt(812, -60, Outcome::Pass, None),
            attempt(17, -42_999, Outcome::Pass, None),
            attempt(16, -43_000, Outcome::Timeout, Some(FailureCode::DeviceSilent)),
        ],
        events,
        issued: vec![
            key("cloud", 2, -59, true),
            key("agent", 2, -59, true),
            key("cloud", 1, -42_999, false),
            key("agent", 1, -42_999, false),
        ],
        exports: vec![UnitExport {
            id: 4,
            at_ms: at(-40_000),
            format: "pskc".into(),
            file: "B-2041.pskc.xml".into(),
            operator: "Ana Petrović".into(),
            handed_to: "KW-GATEWAY-429".into(),
            protection: "password".into(),
            agent_key: 1,
            cloud_key: 1,
            revoked_at_ms: None,
        }],
        rmas: Vec::new(),
        firmware: Some("0.1.0".into()),
        anchor_fingerprint: Some("5d".repeat(32)),
        region: order.region,
        supersedes: Some(format!("{id}.1")),
        label: None,
        order,
    };
    let keys = Standing {
        enrolled,
        agent_key: 2 * u32::from(enrolled),
        cloud_key: 2 * u32::from(enrolled),
        region: record.region,
        ..Standing::default()
    };
    UnitFile { record, keys }
}

/// An RMA of the unit of [`unit_file`].
pub fn rma(open: bool) -> Rma {
    Rma {
        id: 1,
        number: "RMA-2291".into(),
        reason: "SIM".into(),
        note: String::new(),
        opened_by: "Ana Petrović".into(),
        opened_at_ms: CAME_BACK_MS - 7_200_000,
        closed: (!open).then(|| RmaEnd {
            finding: "SIM".into(),
            note: String::new(),
            by: "Ana Petrović".into(),
            at_ms: CAME_BACK_MS,
        }),
    }
}

/// The unit of [`unit_file`] after it was asked what it says of itself; it names another region than its record if it `differs`.
pub fn compared(differs: bool) -> UnitFile {
    let mut file = unit_file(UnitState::Passed);
    let said = crate::compare::Report {
        unit: file.unit.id,
        firmware: "0.1.0".into(),
        protocol: 1,
        stage: 5,
        suite: 2,
        area_a: 2,
        area_b: 0,
        generation: file.unit.generation,
        agent_key: 2,
        cloud_key: 2,
        region: file.region + u32::from(differs),
        order: hex::encode(file.order.po16()),
        last_failure: 0,
        reset_cause: 0x0c,
        uptime_ms: 12_300,
        ram_high_water: 22_932,
        cloud: 2,
    };
    let comparison = crate::compare::compare(&file, &said);
    let event = UnitEvent {
        seq: 13,
        unit: file.unit.id,
        attempt: None,
        at_ms: CAME_BACK_MS,
        kind: crate::compare::COMPARED.into(),
        detail: json!({ "operator": "Ana Petrović", "comparison": comparison }),
    };
    file.events.insert(0, event);
    file
}

/// The answer to a search for `text` with `count` hits, of which the first page is shown.
pub fn answer(number: u64, text: &str, count: u32) -> desk::Answer {
    let states = [
        UnitState::Passed,
        UnitState::Passed,
        UnitState::Quarantined,
        UnitState::Scrapped,
        UnitState::CloudKey,
    ];
    let found = |n: u32| FoundUnit {
        id: unit(n as usize),
        serial: serial(n as usize),
        batch: "B-2041".into(),
        state: states[n as usize % states.len()],
        attempts: 1 + n % 3,
        last_at_ms: Some(CAME_BACK_MS - i64::from(n) * 3_600_000),
        last_failure: (n % 3 == 1).then_some(304),
        rma: (n % 5 == 3).then(|| "RMA-2291".into()),
    };
    desk::Answer {
        search: desk::Search { number, text: text.into(), ..desk::Search::default() },
        found: UnitsFound {
            units: (0..count.min(desk::PAGE)).map(found).collect(),
            from: 0,
            count,
            exact: true,
            of: 3_401,
        },
    }
}

/// An order of QA for the unit of [`unit_file`].
pub fn reprovision(kind: ReprovisionKind, open: bool) -> Reprovision {
    let generation = if open { 2 } else { 1 };
    Reprovision {
        id: if open { 2 } else { 1 },
        kind,
        reason: "RMA 2291, SIM replaced".into(),
        operator: "Ana Petrović".into(),
        region: if kind == ReprovisionKind::MoveRegion { 8 } else { 0 },
        supersedes: format!("{}.{generation}", unit(3)),
        before: (generation, generation),
        after: (!open).then_some((2, 2)),
        opened_at_ms: CAME_BACK_MS - 3_600_000,
        revoked: false,
        ended_at_ms: (!open).then_some(CAME_BACK_MS - 3_500_000),
        done: !open,
    }
}

/// Alarms that nobody looked at: one about the unit of [`unit_file`], one about its order.
pub fn alarms() -> Vec<AlarmView> {
    let alarm = |id, of, kind: &str, count| Alarm {
        id,
        of,
        at_ms: CAME_BACK_MS,
        kind: kind.into(),
        detail: json!({}),
        count,
        seen: None,
    };
    vec![
        AlarmView { alarm: alarm(7, AlarmOf::Unit(unit(3)), "another-identity", 3), serial: Some(serial(3)) },
        AlarmView {
            alarm: alarm(8, AlarmOf::ProductOrder("PO-2026-0417".into()), "activation-rate", 1),
            serial: None,
        },
    ]
}

/// The desk with the unit of [`unit_file`] open.
pub fn desk(state: UnitState) -> desk::Snapshot {
    desk::Snapshot {
        file: Some(Arc::new(unit_file(state))),
        alarms: alarms(),
        regions: vec![7, 8, 9],
        ..desk::Snapshot::default()
    }
}
