//! The line's worker and hub, run whole against an in-memory bench: every failure of a fixture, every power cut, every
//! kind of board that comes back. Only the hardware, the records' storage and the agent's cryptography are stand-ins.

use keywright::agent::{Agent, Birth, Change, FrameContext, Handled};
use keywright::cloud::Endpoint;
use keywright::config::Config;
use keywright::failure::{Failure, FailureCode};
use keywright::image::{StageOne, synthetic};
use keywright::label::desk::Said;
use keywright::label::{LabelCode, LabelConfig, LabelDesk, Printer, Sink};
use keywright::line::bench::{Bench, Cancel, Chip, Contents, FlashProgress, Link, LinkStats, Received};
use keywright::line::lock::{OptionRequest, ReadProtection, guard};
use keywright::line::worker::{Order, Timing, Worker};
use keywright::line::{Command, Event, Line, LineHandle, Step, Update, Work};
use keywright::model::*;
use keywright::preflight::{self, Check, Inspect, Name, Question};
use keywright::records::*;
use keywright_protocol::bridge::{MAX_BRIDGE, Packet};
use keywright_protocol::control::{
    AreaStatus, CONTROL_VERSION, Control, LogRecord, Proof, Severity, Stage, Status,
};
use keywright_protocol::serial::Channel;
use keywright_protocol::{DeviceFailure, Generation, ProductOrder as Po16, Region, UnitId as WireId};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

const MODEL: &str = "KW-GATEWAY-429";
const UID: UnitId = UnitId([0x3A; 12]);
const OTHER: UnitId = UnitId([0x5B; 12]);

const TIMING: Timing = Timing {
    answer: Duration::from_millis(1000),
    ask_again: Duration::from_millis(16),
    exchange: Duration::from_millis(2000),
    suspicious: Duration::from_millis(60),
    pause: Duration::from_millis(1),
    cloud: Duration::from_millis(300),
    power: Duration::from_millis(400),
    scan: Duration::from_millis(400),
    check_again: Duration::from_secs(3600),
};

/// A chip as it leaves its maker.
const OPEN: OptionBytes = OptionBytes { optcr: 0x0FFF_AAEC, optcr1: 0x0FFF_0000 };

// ---- the board and its fixture ------------------------------------------------------------------------------------

/// What goes wrong, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// This bench call fails once with this code.
    Call(&'static str, FailureCode),
    /// Power is cut when the unit has sent this many packets.
    CutAfter(u32),
    /// Power is cut in the middle of flashing.
    CutInFlash,
    /// Sends noise instead of packets.
    Babbles,
    /// Sends nothing.
    Silent,
    /// Sends a status of another version.
    OldStatus,
    /// Sends frames of another version.
    OldFrames,
    /// The port vanishes when this many packets came.
    PortLost(u32),
    /// The serial cable of another board.
    WiresCrossed,
    /// Another board lies in the fixture after this many resets.
    SwappedAfter(u32),
    /// Reports this failure instead of going on.
    Complains(DeviceFailure),
    /// Refuses to prove.
    RefusesProof,
    /// Programming option bytes changes nothing.
    LockIgnored,
    /// Its flash can be read whatever the option bytes say.
    ReadableWhenLocked,
    /// Nobody takes the locked unit's power away.
    NobodyThere,
}

#[derive(Debug)]
struct Board {
    chip: Chip,
    options: OptionBytes,
    /// A debugger has been at it while it was locked: it stands still until its power was off.
    shut: bool,
    powered: bool,
    image: bool,
    product_key: bool,
    keyed: bool,
    stage: Stage,
    order: [u8; 16],
    resets: u32,
    sent: u32,
    trouble: Option<Trouble>,
    /// What it says about its cloud when it is asked for its status.
    cloud_complaint: Option<DeviceFailure>,
    /// The host that it asks its modem for, at each status.
    opens: Option<&'static str>,
    /// Where its birth is told when its connection ends and it logs in once more.
    born_again: Option<Fakes>,
    calls: Vec<&'static str>,
    /// How often somebody looked whether it is there.
    looks: u32,
    out: VecDeque<Result<Received, Failure>>,
    noise: u64,
}

impl Board {
    fn blank() -> Arc<Mutex<Self>> {
        let chip = Chip { device: 0x419, revision: 0x2003, flash_kib: 2048, rdp: 0xAA, unit: UID };
        Arc::new(Mutex::new(Self {
            chip,
            options: OPEN,
            shut: false,
            powered: true,
            image: false,
            product_key: false,
            keyed: false,
            stage: Stage::EMPTY,
            order: synthetic::order(MODEL).po16(),
            resets: 0,
            sent: 0,
            trouble: None,
            cloud_complaint: None,
            opens: None,
            born_again: None,
            calls: Vec::new(),
            looks: 0,
            out: VecDeque::new(),
            noise: 0,
        }))
    }

    fn call(&mut self, name: &'static str) -> Result<(), Failure> {
        self.calls.push(name);
        if let Some(Trouble::Call(at, code)) = self.trouble
            && at == name
        {
            self.trouble = None;
            return Err(Failure::new(code, "injected"));
        }
        let by_wire = !matches!(name, "open_link" | "pull_reset");
        self.shut |= self.powered && by_wire && self.options.protection() == ReadProtection::Level1;
        if self.powered || name == "open_link" {
            Ok(())
        } else {
            Err(Failure::new(
                if name == "attach" { FailureCode::NoTarget } else { FailureCode::BoardUnplugged },
                "",
            ))
        }
    }

    fn uid(&self) -> UnitId {
        match self.trouble {
            Some(Trouble::SwappedAfter(n)) if self.resets > n => OTHER,
            _ => self.chip.unit,
        }
    }

    fn wire_uid(&self) -> WireId {
        WireId(if self.trouble == Some(Trouble::WiresCrossed) { OTHER.0 } else { self.uid().0 })
    }

    fn say(&mut self, channel: Channel, payload: Vec<u8>) {
        if !self.powered || !self.image || self.shut {
            return;
        }
        match self.trouble {
            Some(Trouble::Silent) => return,
            Some(Trouble::Babbles) => {
                self.noise += 1500;
                return;
            }
            Some(Trouble::CutAfter(n)) if self.sent >= n => {
                self.powered = false;
                return;
            }
            Some(Trouble::PortLost(n)) if self.sent >= n => {
                self.out.push_back(Err(Failure::new(FailureCode::PortLost, "injected")));
                return;
            }
            _ => {}
        }
        self.sent += 1;
        self.out.push_back(Ok(Received { channel, payload }));
    }

    fn control(&mut self, message: Control) {
        let mut bytes = [0; 128];
        let len = message.encode(&mut bytes).unwrap();
        let mut bytes = bytes[..len].to_vec();
        if self.trouble == Some(Trouble::OldStatus) && bytes[0] == 0x81 {
            bytes[1] = CONTROL_VERSION + 1;
        }
        self.say(Channel::CONTROL, bytes);
    }

    fn frame(&mut self, step: &str) {
        let version = if self.trouble == Some(Trouble::OldFrames) { 2 } else { 1 };
        let mut frame = vec![b'O', b'K', version, 2];
        frame.extend(step.bytes());
        self.say(Channel::AGENT, frame);
    }

    fn log(&mut self, failure: DeviceFailure, severity: Severity) {
        self.say(Channel::LOG, LogRecord { code: failure.code(), severity, detail: 7 }.to_bytes().to_vec());
    }

    /// What is due is sent: the heart of the unit's side.
    fn due(&mut self) {
        if let Some(Trouble::Complains(failure)) = self.trouble {
            return self.log(failure, Severity::ERROR);
        }
        match self.stage {
            Stage::PRODUCT_KEY => self.frame("M1"),
            Stage::AGENT_KEY_PENDING => self.frame("M3"),
            Stage::AGENT_KEY_ACTIVE => self.frame("U1"),
            Stage::CLOUD_KEY_PENDING => self.frame("U4"),
            _ => {}
        }
    }

    /// Its power goes and comes back.
    fn power_cycle(&mut self) {
        (self.shut, self.powered) = (false, true);
        self.out.clear();
        self.say(
            Channel::LOG,
            LogRecord { code: 0, severity: Severity::INFO, detail: 0 }.to_bytes().to_vec(),
        );
    }

    /// Somebody erased it: level 0, nothing on it.
    fn erased(&mut self) {
        (self.options, self.shut) = (OPEN, false);
        (self.image, self.product_key, self.keyed, self.stage) = (false, false, false, Stage::EMPTY);
    }

    fn use_cloud(&mut self) {
        if let Some(failure) = self.cloud_complaint {
            self.log(failure, Severity::WARN);
        }
        if let Some(host) = self.opens {
            let mut bytes = [0; MAX_BRIDGE];
            let len = Packet::Open { id: 1, port: 1883, window: 96, host }.encode(&mut bytes).unwrap();
            self.say(Channel::TCP, bytes[..len].to_vec());
        }
    }

    fn receive(&mut self, channel: Channel, payload: &[u8]) {
        if !self.powered || !self.image || self.shut {
            return;
        }
        if channel == Channel::TCP {
            if matches!(Packet::parse(payload), Ok(Packet::Close { .. }))
                && let Some(told) = self.born_again.take()
            {
                told.0.lock().unwrap().birth = Some((1, Duration::ZERO));
            }
            return;
        }
        if channel == Channel::CONTROL {
            match Control::decode(payload).unwrap() {
                Control::StatusRequest => {
                    let status = Status {
                        proto_ver: CONTROL_VERSION,
                        fw_ver: [0, 1, 0, 0],
                        unit: self.wire_uid(),
                        stage: self.stage,
                        suite: 2,
                        area_a: AreaStatus::BLANK,
                        area_b: AreaStatus::PRODUCT_KEY,
                        generation: Generation(1),
                        agent_key: Generation(u32::from(self.keyed)),
                        cloud_key: Generation(u32::from(self.stage == Stage::ACTIVE)),
                        region: Region(7),
                        order: Po16(self.order),
                        last_failure: 0,
                        reset_cause: 0,
                        uptime_ms: 5,
                        stack_high_water: 900,
                        cloud: keywright_protocol::control::CloudSession::NONE,
                    };
                    self.control(Control::Status(status));
                    self.due();
                }
                Control::Wake => {
                    if self.stage == Stage::ACTIVE {
                        self.use_cloud();
                    }
                    self.due();
                }
                Control::ProveRequest { challenge } => {
                    if self.trouble == Some(Trouble::RefusesProof) || self.stage != Stage::ACTIVE {
                        let failure = DeviceFailure::AreaMissing.code();
                        return self.control(Control::Refused { request: 0x02, failure });
                    }
                    self.control(Control::Proof(Proof {
                        unit: self.wire_uid(),
                        generation: Generation(3),
                        agent_key: Generation(1),
                        cloud_key: Generation(1),
                        mac_cloud: challenge,
                        mac_agent: challenge,
                    }));
                }
                other => panic!("a station never sends {other:?}"),
            }
        } else {
            let next = match &payload[4..] {
                b"M2" if self.stage == Stage::PRODUCT_KEY => Stage::AGENT_KEY_PENDING,
                b"M4" if self.stage == Stage::AGENT_KEY_PENDING => Stage::AGENT_KEY_ACTIVE,
                b"U3" if self.stage == Stage::AGENT_KEY_ACTIVE => Stage::CLOUD_KEY_PENDING,
                b"U7" if self.stage == Stage::CLOUD_KEY_PENDING => Stage::ACTIVE,
                _ => return,
            };
            self.stage = next;
            self.keyed = true;
            self.due();
        }
    }
}

struct FakeBench(Arc<Mutex<Board>>);

impl Bench for FakeBench {
    fn attach(&mut self) -> Result<Chip, Failure> {
        let mut board = self.0.lock().unwrap();
        board.call("attach")?;
        let rdp = if board.options == OPEN { board.chip.rdp } else { (board.options.optcr >> 8) as u8 };
        Ok(Chip { unit: board.uid(), rdp, ..board.chip })
    }

    fn inspect(&mut self, _: &StageOne) -> Result<Contents, Failure> {
        let mut board = self.0.lock().unwrap();
        board.call("inspect")?;
        assert!(!board.shut, "a locked chip's flash can't be read");
        Ok(Contents { image: board.image, product_key: board.product_key, keys: board.keyed })
    }

    fn flash(
        &mut self,
        stage_one: &StageOne,
        progress: &mut dyn FnMut(FlashProgress),
    ) -> Result<(), Failure> {
        let mut board = self.0.lock().unwrap();
        board.call("flash")?;
        assert!(!board.shut, "a locked chip can't be flashed");
        (board.image, board.product_key, board.keyed) = (false, false, false);
        let total = stage_one.writes().map(|w| w.2.len() as u64).sum();
        let mut done = 0;
        for (name, _, data) in stage_one.writes() {
            if board.trouble == Some(Trouble::CutInFlash) && name == "app" {
                board.powered = false;
                return Err(Failure::new(FailureCode::BoardUnplugged, "injected"));
            }
            done += data.len() as u64;
            progress(FlashProgress { label: format!("writing {name}"), done, total });
        }
        (board.image, board.product_key, board.stage) = (true, true, Stage::PRODUCT_KEY);
        Ok(())
    }

    fn restart(&mut self) -> Result<UnitId, Failure> {
        let mut board = self.0.lock().unwrap();
        board.call("restart")?;
        board.resets += 1;
        Ok(board.uid())
    }

    fn unit_now(&mut self) -> Result<UnitId, Failure> {
        let mut board = self.0.lock().unwrap();
        board.call("unit_now")?;
        Ok(board.uid())
    }

    fn option_bytes(&mut self) -> Result<OptionBytes, Failure> {
        let mut board = self.0.lock().unwrap();
        board.call("option_bytes")?;
        Ok(board.options)
    }

    fn set_option_bytes(
        &mut self,
        request: &OptionRequest,
        _: &mut dyn FnMut(FlashProgress),
    ) -> Result<OptionBytes, Failure> {
        guard(request.words())?;
        let mut board = self.0.lock().unwrap();
        board.call("set_option_bytes")?;
        if board.trouble != Some(Trouble::LockIgnored) {
            let opens = request.words().protection() == ReadProtection::Level0
                && board.options.protection() == ReadProtection::Level1;
            if opens {
                board.erased();
            }
            board.options = request.words();
        }
        board.shut = board.options.protection() == ReadProtection::Level1;
        Ok(board.options)
    }

    fn flash_is_closed(&mut self) -> Result<bool, Failure> {
        let mut board = self.0.lock().unwrap();
        board.call("flash_is_closed")?;
        Ok(board.shut && board.trouble != Some(Trouble::ReadableWhenLocked))
    }

    fn pull_reset(&mut self) -> Result<(), Failure> {
        let mut board = self.0.lock().unwrap();
        board.call("pull_reset")?;
        board.resets += 1;
        Ok(())
    }

    fn release(&mut self) {}

    fn presence(&mut self) -> Result<Option<UnitId>, Failure> {
        let mut board = self.0.lock().unwrap();
        board.looks += 1;
        Ok(board.powered.then(|| board.uid()))
    }

    fn open_link(&mut self) -> Result<Box<dyn Link>, Failure> {
        self.0.lock().unwrap().call("open_link")?;
        Ok(Box::new(FakeLink { board: Arc::clone(&self.0), stats: LinkStats::default() }))
    }
}

struct FakeLink {
    board: Arc<Mutex<Board>>,
    stats: LinkStats,
}

impl Link for FakeLink {
    fn send(&mut self, channel: Channel, payload: &[u8]) -> Result<(), Failure> {
        self.board.lock().unwrap().receive(channel, payload);
        Ok(())
    }

    fn receive(&mut self, wait: Duration) -> Result<Option<Received>, Failure> {
        let next = self.board.lock().unwrap().out.pop_front();
        match next {
            Some(Ok(packet)) => {
                self.stats.packets += 1;
                self.stats.bytes += packet.payload.len() as u64 + 6;
                Ok(Some(packet))
            }
            Some(Err(failure)) => Err(failure),
            None => {
                std::thread::park_timeout(wait.min(Duration::from_millis(5)));
                Ok(None)
            }
        }
    }

    fn clear(&mut self) {
        let mut board = self.board.lock().unwrap();
        board.out.retain(Result::is_err);
        board.noise = 0;
        self.stats = LinkStats::default();
    }

    fn stats(&self) -> LinkStats {
        LinkStats { bytes: self.stats.bytes + self.board.lock().unwrap().noise, ..self.stats }
    }
}

// ---- records and agent --------------------------------------------------------------------------------------------

#[derive(Default)]
struct Book {
    order: Option<ProductOrder>,
    batches: Vec<Batch>,
    units: BTreeMap<UnitId, Unit>,
    attempts: Vec<Attempt>,
    orders: Vec<Reprovision>,
    events: Vec<(UnitId, String)>,
    /// The n-th write fails.
    fail_write: Option<u32>,
    writes: u32,
    refuse_bind: Option<FailureCode>,
    forgotten: u32,
    proof: Option<ProofRecord>,
    refuse_frames: Option<FailureCode>,
    /// What the cloud told last of the unit: the generation, and how long ago.
    birth: Option<(u32, Duration)>,
    old_key_opens: bool,
    broker: Option<SocketAddr>,
    labels: BTreeMap<UnitId, LabelRow>,
    /// Units have been given another region's anchor.
    other_anchor: bool,
}

#[derive(Clone, Default)]
struct LabelRow {
    code: Option<String>,
    prints: u32,
    read_back: bool,
}

impl Book {
    fn write(&mut self) -> Result<(), RecordsError> {
        self.writes += 1;
        if self.fail_write == Some(self.writes) {
            return Err(RecordsError::DiskFull { path: "station.db".into() });
        }
        Ok(())
    }
}

#[derive(Clone)]
struct Fakes(Arc<Mutex<Book>>);

impl std::fmt::Debug for Fakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fakes")
    }
}

impl Fakes {
    fn new() -> Self {
        let batch = Batch {
            id: BatchId(1),
            name: "B1".into(),
            po: PoId(1),
            quantity: 4,
            state: BatchState::Open,
            terms: BatchTerms::default(),
        };
        let book = Book {
            birth: Some((1, Duration::ZERO)),
            order: Some(synthetic::order(MODEL)),
            batches: vec![batch],
            ..Book::default()
        };
        Self(Arc::new(Mutex::new(book)))
    }

    fn kinds(&self) -> Vec<String> {
        self.0.lock().unwrap().events.iter().map(|e| e.1.clone()).collect()
    }

    fn state(&self, unit: UnitId) -> Option<UnitState> {
        self.0.lock().unwrap().units.get(&unit).map(|u| u.state)
    }

    fn set_state(&self, unit: UnitId, state: UnitState) {
        self.0.lock().unwrap().units.get_mut(&unit).unwrap().state = state;
    }
}

fn no_such(what: &'static str) -> RecordsError {
    RecordsError::NotFound { what, name: String::new(), list: "batch list" }
}

impl Records for Fakes {
    fn create_product_order(&self, _: NewProductOrder) -> Result<ProductOrder, RecordsError> {
        Err(no_such("product order"))
    }
    fn list_product_orders(&self) -> Result<Vec<ProductOrder>, RecordsError> {
        Ok(self.0.lock().unwrap().order.iter().cloned().collect())
    }
    fn product_order(&self, _: PoId) -> Result<ProductOrder, RecordsError> {
        self.0.lock().unwrap().order.clone().ok_or_else(|| no_such("product order"))
    }
    fn product_order_by_name(&self, _: &str) -> Result<ProductOrder, RecordsError> {
        self.product_order(PoId(1))
    }
    fn pin_image(&self, _: PoId, sha256: &str) -> Result<(), RecordsError> {
        let mut book = self.0.lock().unwrap();
        book.write()?;
        if let Some(order) = &mut book.order {
            order.image_sha256 = Some(sha256.into());
        }
        Ok(())
    }
    fn create_orders(
        &self,
        _: Vec<(NewProductOrder, Option<NewBatch>)>,
    ) -> Result<Vec<(ProductOrder, Option<Batch>)>, RecordsError> {
        Err(no_such("product order"))
    }
    fn new_batch(&self, _: NewBatch) -> Result<Batch, RecordsError> {
        Err(no_such("product order"))
    }
    fn list_batches(&self) -> Result<Vec<Batch>, RecordsError> {
        Ok(self.0.lock().unwrap().batches.clone())
    }
    fn batch_by_name(&self, name: &str) -> Result<Batch, RecordsError> {
        let book = self.0.lock().unwrap();
        book.batches.iter().find(|b| b.name == name).cloned().ok_or_else(|| no_such("batch"))
    }
    fn batch(&self, id: BatchId) -> Result<Batch, RecordsError> {
        let book = self.0.lock().unwrap();
        book.batches.iter().find(|b| b.id == id).cloned().ok_or_else(|| no_such("batch"))
    }
    fn set_batch_state(&self, id: BatchId, state: BatchState, _: &str, _: &str) -> Result<(), RecordsError> {
        let mut book = self.0.lock().unwrap();
        book.batches.iter_mut().filter(|b| b.id == id).for_each(|b| b.state = state);
        Ok(())
    }
    fn approve_sample(&self, id: BatchId, operator: &str, note: &str) -> Result<(), RecordsError> {
        assert_eq!((operator, note), ("Quality", "three looked at"));
        let mut book = self.0.lock().unwrap();
        book.batches.iter_mut().filter(|b| b.id == id).for_each(|b| b.terms.approved = b.terms.passed);
        Ok(())
    }
    fn sample(&self, _: BatchId, _: u32) -> Result<Vec<Unit>, RecordsError> {
        let book = self.0.lock().unwrap();
        Ok(book.units.values().filter(|u| u.state == UnitState::Passed).cloned().collect())
    }
    fn order_events(&self, _: PoId, _: Option<BatchId>) -> Result<Vec<OrderEvent>, RecordsError> {
        Ok(Vec::new())
    }
    fn label_facts(&self, unit: UnitId) -> Result<LabelFacts, RecordsError> {
        let book = self.0.lock().unwrap();
        let row = book.units.get(&unit).ok_or_else(|| no_such("unit"))?;
        let order = book.order.as_ref().unwrap();
        let label = book.labels.get(&unit).cloned().unwrap_or_default();
        Ok(LabelFacts {
            unit,
            serial: row.serial.clone(),
            batch: "B1".into(),
            po: order.name.clone(),
            model: order.model.clone(),
            hw_revision: order.hw_revision.clone(),
            part_number: order.part_number.clone(),
            region: order.region,
            anchor_fingerprint: Some(if book.other_anchor { "b2" } else { "a1" }.repeat(32)),
            generation: 1,
            printed_at_ms: label.code.as_ref().map(|_| 1),
            printed_code: label.code,
            scanned_at_ms: label.read_back.then_some(2),
            prints: label.prints,
        })
    }
    fn label_printed(
        &self,
        unit: UnitId,
        _: Option<AttemptId>,
        code: &str,
        operator: &str,
    ) -> Result<u32, RecordsError> {
        let mut book = self.0.lock().unwrap();
        book.write()?;
        book.events.push((
            unit,
            if operator == "op" { "label-printed".into() } else { format!("label-printed by {operator}") },
        ));
        let label = book.labels.entry(unit).or_default();
        *label = LabelRow { code: Some(code.into()), prints: label.prints + 1, read_back: false };
        Ok(label.prints)
    }
    fn label_scanned(
        &self,
        unit: UnitId,
        _: Option<AttemptId>,
        code: &str,
        operator: &str,
    ) -> Result<(), RecordsError> {
        let mut book = self.0.lock().unwrap();
        book.write()?;
        let by = if operator == "op" { String::new() } else { format!(" by {operator}") };
        book.events.push((unit, format!("label-scanned{by}")));
        let label = book.labels.get_mut(&unit).unwrap();
        assert_eq!(label.code.as_deref(), Some(code));
        label.read_back = true;
        Ok(())
    }
    fn batch_counts(&self, _: BatchId) -> Result<BatchCounts, RecordsError> {
        let book = self.0.lock().unwrap();
        let passed = book.units.values().filter(|u| u.state == UnitState::Passed).count() as u32;
        Ok(BatchCounts { planned: 4, passed, ..BatchCounts::default() })
    }
    fn begin_attempt(
        &self,
        batch: BatchId,
        fixture: &str,
        operator: &str,
    ) -> Result<AttemptId, RecordsError> {
        let mut book = self.0.lock().unwrap();
        book.write()?;
        if book.batches.iter().any(|b| b.id == batch && b.state != BatchState::Open) {
            return Err(RecordsError::Refused(Box::new(Failure::new(FailureCode::BatchClosed, ""))));
        }
        let id = AttemptId(book.attempts.len() as i64 + 1);
        book.attempts.push(Attempt {
            id,
            batch,
            unit: None,
            fixture: fixture.into(),
            operator: operator.into(),
            station: "test".into(),
            started_at_ms: 0,
            ended_at_ms: None,
            outcome: None,
            failure: None,
            proof: None,
            work: AttemptWork::Make,
        });
        Ok(id)
    }
    fn begin_update(&self, batch: BatchId, fixture: &str, operator: &str) -> Result<AttemptId, RecordsError> {
        self.begin_attempt(batch, fixture, operator)
    }
    fn bind_unit(&self, attempt: AttemptId, unit: UnitId) -> Result<Unit, RecordsError> {
        let mut book = self.0.lock().unwrap();
        book.write()?;
        if let Some(code) = book.refuse_bind {
            return Err(RecordsError::Refused(Box::new(Failure::new(code, ""))));
        }
        let batch = book.attempts[attempt.0 as usize - 1].batch;
        book.attempts[attempt.0 as usize - 1].unit = Some(unit);
        let serial = format!("S-{}", book.units.len() + 1);
        let row = book.units.entry(unit).or_insert(Unit {
            id: unit,
            batch,
            serial,
            state: UnitState::Arrived,
            generation: 0,
            attempts: 0,
            interrupted: false,
        });
        row.attempts += 1;
        Ok(row.clone())
    }
    fn unit(&self, id: UnitId) -> Result<Option<Unit>, RecordsError> {
        Ok(self.0.lock().unwrap().units.get(&id).cloned())
    }
    fn unit_by_serial(&self, serial: &str) -> Result<Option<Unit>, RecordsError> {
        Ok(self.0.lock().unwrap().units.values().find(|u| u.serial == serial).cloned())
    }
    fn reprovisions(&self, _: UnitId) -> Result<Vec<Reprovision>, RecordsError> {
        Ok(self.0.lock().unwrap().orders.clone())
    }
    fn list_alarms(&self, _: bool) -> Result<Vec<Alarm>, RecordsError> {
        Ok(Vec::new())
    }
    fn see_alarm(&self, _: i64, _: &str) -> Result<(), RecordsError> {
        Err(no_such("alarm"))
    }
    fn expect_rate(&self, _: PoId, _: u32) -> Result<(), RecordsError> {
        Ok(())
    }
    fn product_key_reach(&self, _: PoId, _: i64) -> Result<Reach, RecordsError> {
        Ok(Reach::default())
    }
    fn units_below(&self, _: BatchId, _: u32) -> Result<u32, RecordsError> {
        Ok(0)
    }
    fn list_units(&self, _: BatchId) -> Result<Vec<Unit>, RecordsError> {
        Ok(self.0.lock().unwrap().units.values().cloned().collect())
    }
    fn unit_event(
        &self,
        unit: UnitId,
        _: Option<AttemptId>,
        kind: &str,
        detail: serde_json::Value,
        state: Option<UnitState>,
    ) -> Result<(), RecordsError> {
        let mut book = self.0.lock().unwrap();
        book.write()?;
        assert!(!detail.to_string().contains("165,165"), "a secret in the history");
        let row = book.units.get_mut(&unit).ok_or_else(|| no_such("unit"))?;
        if let Some(state) = state {
            assert_ne!(row.state, UnitState::Passed, "a passed unit never goes back to {state:?}");
            row.state = state;
        }
        book.events.push((unit, kind.into()));
        Ok(())
    }
    fn unit_events(&self, _: UnitId) -> Result<Vec<UnitEvent>, RecordsError> {
        Ok(Vec::new())
    }
    fn finish_attempt(
        &self,
        attempt: AttemptId,
        outcome: Outcome,
        failure: Option<&Failure>,
        proof: Option<&ProofRecord>,
    ) -> Result<(), RecordsError> {
        let mut book = self.0.lock().unwrap();
        book.write()?;
        let row = &mut book.attempts[attempt.0 as usize - 1];
        assert_eq!(row.outcome, None, "an attempt ends once");
        (row.outcome, row.failure, row.proof) = (Some(outcome), failure.cloned(), proof.cloned());
        let unit = row.unit;
        if outcome == Outcome::Pass {
            let proof = proof.unwrap();
            assert!(proof.agent_mac_ok && proof.cloud_mac_ok);
            if book.order.as_ref().is_some_and(|o| o.lock) {
                assert!(proof.lock.observed.is_some_and(OptionBytes::are_locked), "{:?}", proof.lock);
            }
            let label = book.labels.get(&unit.unwrap()).cloned().unwrap_or_default();
            match book.order.as_ref().unwrap().label {
                LabelPolicy::None => {}
                LabelPolicy::Print => assert!(label.code.is_some()),
                LabelPolicy::ScanBack => assert!(label.read_back),
            }
            let row = book.units.get_mut(&unit.unwrap()).unwrap();
            let new = std::mem::replace(&mut row.state, UnitState::Passed) != UnitState::Passed;
            let batch = row.batch;
            book.batches.iter_mut().filter(|b| b.id == batch).for_each(|b| b.terms.passed += u32::from(new));
        }
        Ok(())
    }
    fn last_proof(&self, unit: UnitId, before: AttemptId) -> Result<Option<ProofRecord>, RecordsError> {
        let book = self.0.lock().unwrap();
        let newest = book.attempts.iter().rev().find(|a| a.unit == Some(unit) && a.id < before);
        Ok(newest.and_then(|a| a.proof.clone()))
    }
    fn list_attempts(&self, _: BatchId) -> Result<Vec<Attempt>, RecordsError> {
        Ok(self.0.lock().unwrap().attempts.clone())
    }
    fn close_interrupted(&self) -> Result<Vec<Attempt>, RecordsError> {
        Ok(Vec::new())
    }
    fn export_rows(&self, _: BatchId) -> Result<Vec<ExportRow>, RecordsError> {
        Ok(Vec::new())
    }
    fn record_export(&self, _: NewExport) -> Result<i64, RecordsError> {
        Err(no_such("batch"))
    }
    fn list_exports(&self, _: BatchId) -> Result<Vec<ExportRecord>, RecordsError> {
        Ok(Vec::new())
    }
}

impl Agent for Fakes {
    fn handle(&self, context: FrameContext, frame: &[u8]) -> Result<Handled, Failure> {
        let mut book = self.0.lock().unwrap();
        if let Some(code) = book.refuse_frames {
            return Ok(Handled { reply: None, change: Change::Refused(Failure::new(code, "")) });
        }
        let (answer, change, state) = match &frame[4..] {
            b"M1" => ("M2", Change::AgentKeyIssued { ak_gen: 1 }, None),
            b"M3" => ("M4", Change::AgentKeyActive { ak_gen: 1 }, Some(UnitState::AgentKey)),
            b"U1" => ("U3", Change::CloudKeyIssued { ck_gen: 1 }, None),
            b"U4" => ("U7", Change::CloudKeyActive { ck_gen: 1 }, Some(UnitState::CloudKey)),
            _ => return Ok(Handled { reply: None, change: Change::Nothing }),
        };
        let unit = book.units.get_mut(&context.unit).unwrap();
        if let Some(state) = state.filter(|s| unit.state < *s) {
            unit.state = state;
        }
        let reply = [b"OK\x01\x02", answer.as_bytes()].concat();
        Ok(Handled { reply: Some(reply), change })
    }

    fn check_proof(
        &self,
        _: FrameContext,
        challenge: &[u8; 32],
        proof: &Proof,
    ) -> Result<ProofRecord, Failure> {
        assert!(challenge.iter().any(|b| *b != 0), "a fresh challenge");
        let given = self.0.lock().unwrap().proof.clone();
        Ok(given.unwrap_or(ProofRecord {
            challenge: format!("{challenge:02x?}"),
            generation: proof.generation.0,
            ak_gen: 1,
            ck_gen: 1,
            cloud_mac_ok: proof.mac_cloud == *challenge,
            agent_mac_ok: proof.mac_agent == *challenge,
            birth_boot: String::new(),
            old_keys_refused: 0,
            lock: LockRecord::default(),
        }))
    }

    fn stage_one_record(&self, _: PoId) -> Result<Vec<u8>, Failure> {
        Ok(vec![0xA5; 400])
    }

    fn forget_unproved(&self, unit: UnitId, _: AttemptId) -> Result<(), Failure> {
        let mut book = self.0.lock().unwrap();
        assert_ne!(book.units[&unit].state, UnitState::Passed);
        book.forgotten += 1;
        Ok(())
    }

    fn bridge_target(&self, _: UnitId, host: &str, port: u16) -> Result<Endpoint, Failure> {
        let book = self.0.lock().unwrap();
        match book.broker {
            Some(address) if host == "broker.example" => Ok(Endpoint::plain(address)),
            _ => Err(Failure::new(FailureCode::BridgeRefused, format!("{host}:{port}"))),
        }
    }

    fn last_birth(&self, _: UnitId) -> Option<Birth> {
        let book = self.0.lock().unwrap();
        let (generation, ago) = book.birth?;
        let at = Instant::now().checked_sub(ago)?;
        Some(Birth { generation, boot: "00112233aabbccdd".into(), firmware: "0.1.0".into(), at })
    }

    fn try_old_credentials(&self, _: UnitId) -> Result<u32, Failure> {
        match self.0.lock().unwrap().old_key_opens {
            true => Err(Failure::new(FailureCode::OldKeyAccepted, "")),
            false => Ok(2),
        }
    }

    fn order_update(&self, _: UnitId, _: Option<&str>) -> Result<(), Failure> {
        Ok(())
    }

    fn wake(&self, _: UnitId, _: &str) -> Result<(), Failure> {
        Ok(())
    }
}

// ---- the tests' own words -----------------------------------------------------------------------------------------

struct World {
    board: Arc<Mutex<Board>>,
    fakes: Fakes,
    image: PathBuf,
    work: Work,
    labels: LabelDesk,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let image = synthetic::write(dir.path(), MODEL).unwrap();
        Self {
            board: Board::blank(),
            fakes: Fakes::new(),
            image,
            work: Work::Make,
            labels: LabelDesk::default(),
            dir,
        }
    }

    fn with(trouble: Trouble) -> Self {
        let world = Self::new();
        world.board.lock().unwrap().trouble = Some(trouble);
        world
    }

    /// Power is back, nothing else is wrong any more.
    fn repair(&self) {
        let mut board = self.board.lock().unwrap();
        (board.powered, board.trouble, board.sent, board.resets) = (true, None, 0, 0);
        board.out.clear();
        board.noise = 0;
        self.fakes.0.lock().unwrap().fail_write = None;
    }

    fn run(&self) -> (Vec<Event>, Outcome, Option<FailureCode>) {
        self.run_with(&Cancel::default(), |_, _| {})
    }

    fn run_with(
        &self,
        cancel: &Cancel,
        on_event: impl Fn(&Event, &Cancel) + Send + 'static,
    ) -> (Vec<Event>, Outcome, Option<FailureCode>) {
        let (sender, receiver) = mpsc::channel();
        let (seen, board) = (cancel.clone(), Arc::clone(&self.board));
        self.board.lock().unwrap().calls.clear();
        let mut worker = Worker {
            fixture: "1".into(),
            bench: Box::new(FakeBench(Arc::clone(&self.board))),
            records: Arc::new(self.fakes.clone()),
            agent: Arc::new(self.fakes.clone()),
            image: Some(self.image.clone()),
            timing: TIMING,
            labels: self.labels.clone(),
            events: Box::new(move |event| {
                on_event(&event, &seen);
                // The person at the fixture does what is asked.
                if let Event::Progress { label, .. } = &event
                    && label.starts_with("locked:")
                {
                    let mut board = board.lock().unwrap();
                    if board.trouble != Some(Trouble::NobodyThere) {
                        board.power_cycle();
                    }
                }
                sender.send(event).unwrap();
            }),
        };
        let batch = self.fakes.batch(BatchId(1)).unwrap();
        let ended = worker.run(&Order { batch, operator: "op".into(), work: self.work.clone() }, cancel);
        let events: Vec<_> = receiver.try_iter().collect();
        check_order(&events);
        if let Some(failure) = &ended.failure {
            println!("{failure}");
        }
        let attempts = self.fakes.0.lock().unwrap().attempts.clone();
        if let Some(last) = attempts.last()
            && !events.iter().any(|e| matches!(e, Event::Station { .. }))
        {
            assert_eq!(last.outcome, Some(ended.outcome), "the record says what the event says");
            assert_eq!(last.failure.as_ref().map(|f| f.code), ended.failure.as_ref().map(|f| f.code));
        }
        (events, ended.outcome, ended.failure.map(|f| f.code))
    }

    fn fails(&self, code: FailureCode) {
        let (_, outcome, got) = self.run();
        assert_eq!(got, Some(code));
        assert_eq!(outcome, code.outcome());
    }

    fn passes(&self) -> Vec<Step> {
        let (events, outcome, code) = self.run();
        assert_eq!((outcome, code), (Outcome::Pass, None));
        assert_eq!(self.fakes.state(UID), Some(UnitState::Passed));
        steps(&events)
    }

    fn called(&self, name: &str) -> usize {
        self.board.lock().unwrap().calls.iter().filter(|c| **c == name).count()
    }
}

/// The steps of an order without labels.
const BARE: &[Step] = Step::ALL.split_at(6).0;

fn steps(events: &[Event]) -> Vec<Step> {
    events.iter().filter_map(|e| if let Event::Step { step, .. } = e { Some(*step) } else { None }).collect()
}

/// The promised order: Started first, steps ascending, exactly one Finished and it is last.
fn check_order(events: &[Event]) {
    let finished = events.iter().filter(|e| matches!(e, Event::Finished { .. })).count();
    assert_eq!(finished, 1);
    assert!(matches!(events.last(), Some(Event::Finished { .. })));
    assert!(matches!(events.first(), Some(Event::Started { .. } | Event::Station { .. })));
    assert!(steps(events).is_sorted(), "{:?}", steps(events));
    for event in events {
        serde_json::to_value(event).unwrap()["event"].as_str().unwrap();
    }
}

// ---- a unit's way -------------------------------------------------------------------------------------------------

#[test]
fn a_bare_board_becomes_a_unit() {
    let world = World::new();
    let (events, outcome, _) = world.run();
    assert_eq!(outcome, Outcome::Pass);
    assert_eq!(steps(&events), BARE);
    assert_eq!(world.fakes.kinds(), ["flash-begin", "flash-end", "reset", "lock-begin", "lock-end"]);
    let labels: Vec<_> = events
        .iter()
        .filter_map(|e| if let Event::Progress { label, .. } = e { Some(label.as_str()) } else { None })
        .collect();
    for label in ["writing app", "agent key 1 issued", "cloud key 1 active", "checking the proof"] {
        assert!(labels.contains(&label), "{label} in {labels:?}");
    }
    let Some(Event::Finished { step_seconds, seconds, serial, .. }) = events.last() else { panic!() };
    assert!(
        step_seconds[..BARE.len()].iter().all(|s| *s > 0.0) && step_seconds.iter().sum::<f64>() <= *seconds
    );
    assert_eq!(serial.as_deref(), Some("S-1"));
    let order = world.fakes.product_order(PoId(1)).unwrap();
    assert!(order.image_sha256.is_some(), "the first flash pins the image");
    assert_eq!(world.fakes.0.lock().unwrap().attempts[0].operator, "op");
}

#[test]
fn the_same_board_again_is_proved_again_and_never_flashed() {
    let world = World::new();
    world.passes();
    assert_eq!(world.passes(), [Step::Arrive, Step::Prove, Step::Lock]);
    assert_eq!(world.called("flash") + world.called("set_option_bytes"), 0);
    // Passed, but blank now: only QA may give it new keys.
    world.board.lock().unwrap().erased();
    world.fails(FailureCode::KeysGone);
    assert_eq!(world.called("flash"), 0);
}

/// QA ordered a new start for a locked unit: its chip is opened, which erases it, and it is made again. Another unit is left alone.
#[test]
fn a_reopened_unit_is_erased_and_made_again() {
    let mut world = World::new();
    world.passes();
    {
        let mut book = world.fakes.0.lock().unwrap();
        book.units.get_mut(&UID).unwrap().state = UnitState::Flashing;
        book.orders = vec![Reprovision {
            id: 1,
            kind: ReprovisionKind::NewStart,
            reason: "returned".into(),
            operator: "qa".into(),
            region: 0,
            supersedes: format!("{UID}.1"),
            before: (1, 1),
            after: None,
            opened_at_ms: 1,
            revoked: true,
            ended_at_ms: None,
            done: false,
        }];
    }
    world.work = Work::Reprovision { unit: OTHER, update: None };
    world.fails(FailureCode::OtherUnit);
    assert_eq!(world.called("flash") + world.called("set_option_bytes"), 0);
    world.work = Work::Reprovision { unit: UID, update: None };
    assert_eq!(world.passes(), BARE);
    assert_eq!(world.called("flash"), 1);
    assert_eq!(world.called("set_option_bytes"), 3, "opened, made writable, locked");
    assert_eq!(world.fakes.kinds().iter().filter(|k| k.starts_with("erase-")).count(), 2);
}

/// A retest proves what is there and changes nothing: a chip that was opened since, and a unit in the middle of a key change, are
/// told and left as they are.
#[test]
fn a_retest_changes_nothing() {
    let mut world = World::new();
    world.work = Work::Retest(UID);
    world.fails(FailureCode::RetestRefused);
    assert_eq!(world.called("flash"), 0, "a board that is no unit is not made one");
    world.work = Work::Make;
    world.passes();
    let frames = world.fakes.kinds().len();
    world.work = Work::Retest(OTHER);
    world.fails(FailureCode::OtherUnit);
    world.work = Work::Retest(UID);
    assert_eq!(world.passes(), [Step::Arrive, Step::Prove, Step::Lock]);
    assert_eq!(world.called("flash") + world.called("set_option_bytes"), 0);
    assert_eq!(world.fakes.kinds()[frames..], ["reported", "reset", "lock-end"]);
    let before = {
        let mut board = world.board.lock().unwrap();
        board.shut = false;
        std::mem::replace(&mut board.options, OPEN)
    };
    world.fails(FailureCode::LockFailed);
    assert_eq!(world.called("set_option_bytes"), 0, "it is not locked again");
    {
        let mut board = world.board.lock().unwrap();
        (board.options, board.stage) = (before, Stage::CLOUD_KEY_PENDING);
    }
    world.fails(FailureCode::RetestRefused);
    assert_eq!(world.board.lock().unwrap().stage, Stage::CLOUD_KEY_PENDING, "what it owes stays owed");
}

/// A look asks the serial port and nothing else: no attempt, no debugger.
#[test]
fn a_look_at_a_unit_touches_no_debugger_and_is_no_attempt() {
    let mut world = World::new();
    world.passes();
    let attempts = world.fakes.0.lock().unwrap().attempts.len();
    world.work = Work::Compare(UID);
    let (events, outcome, code) = world.run();
    assert_eq!((outcome, code), (Outcome::Pass, None));
    assert_eq!(steps(&events), [Step::Arrive]);
    for call in [
        "attach",
        "inspect",
        "unit_now",
        "option_bytes",
        "flash_is_closed",
        "restart",
        "set_option_bytes",
        "flash",
    ] {
        assert_eq!(world.called(call), 0, "{call}");
    }
    assert_eq!(world.fakes.0.lock().unwrap().attempts.len(), attempts);
    assert_eq!(world.fakes.kinds().last().map(String::as_str), Some("reported"));
    // In quarantine and scrapped as well: it is only asked.
    world.fakes.set_state(UID, UnitState::Scrapped);
    assert_eq!(world.run().1, Outcome::Pass);
}

#[test]
fn a_power_cut_anywhere_is_resumed() {
    // In flash, and after every packet the unit sends.
    let mut troubles = vec![Trouble::CutInFlash];
    troubles.extend((0..9).map(Trouble::CutAfter));
    let mut cuts = 0;
    for trouble in troubles {
        let world = World::with(trouble);
        let (events, outcome, code) = world.run();
        if outcome == Outcome::Pass {
            continue;
        }
        cuts += 1;
        assert_eq!(code, Some(FailureCode::BoardUnplugged), "{trouble:?}");
        let flashed = steps(&events).contains(&Step::AgentKey);
        world.repair();
        let again = world.passes();
        assert_eq!(world.called("flash"), usize::from(!flashed), "{trouble:?}: {again:?}");
    }
    assert!(cuts >= 7, "{cuts}");
}

#[test]
fn power_lost_at_each_call_of_the_probe() {
    for call in
        ["inspect", "flash", "restart", "unit_now", "option_bytes", "set_option_bytes", "flash_is_closed"]
    {
        for code in [FailureCode::BoardUnplugged, FailureCode::ProbeLost] {
            let world = World::with(Trouble::Call(call, code));
            world.fails(code);
            world.repair();
            world.passes();
        }
    }
}

#[test]
fn a_process_that_died_at_any_row_goes_on() {
    // The records refuse the n-th write, as a full disk does; the same rows are missing as after a kill.
    let mut refused = 0;
    for n in 1..20 {
        let world = World::new();
        world.fakes.0.lock().unwrap().fail_write = Some(n);
        let (events, outcome, code) = world.run();
        if outcome == Outcome::Pass {
            continue;
        }
        refused += 1;
        assert_eq!((outcome, code), (Outcome::Error, Some(FailureCode::RecordsFailed)), "{n}");
        let begun = !world.fakes.0.lock().unwrap().attempts.is_empty();
        if !begun {
            assert!(events.iter().any(|e| matches!(e, Event::Station { .. })));
            assert_eq!(world.called("attach"), 0, "no board is touched without an open attempt");
        }
        world.repair();
        world.passes();
    }
    assert!(refused >= 6, "{refused}");
}

#[test]
fn erased_before_it_passed_is_flashed_again_and_its_keys_are_voided() {
    let world = World::with(Trouble::CutAfter(4));
    world.fails(FailureCode::BoardUnplugged);
    world.repair();
    {
        let mut board = world.board.lock().unwrap();
        (board.image, board.product_key, board.keyed) = (false, false, false);
    }
    world.passes();
    assert_eq!(world.fakes.0.lock().unwrap().forgotten, 1);
}

#[test]
fn keys_of_another_station_are_not_erased() {
    let world = World::new();
    world.board.lock().unwrap().keyed = true;
    world.fails(FailureCode::ForeignKeys);
    assert_eq!(world.called("flash"), 0);
    // Keys under another product order.
    let world = World::with(Trouble::CutAfter(4));
    world.fails(FailureCode::BoardUnplugged);
    world.repair();
    world.board.lock().unwrap().order = [9; 16];
    world.fails(FailureCode::ForeignKeys);
}

#[test]
fn set_aside_units_stay_set_aside() {
    for (state, code) in
        [(UnitState::Quarantined, FailureCode::Quarantined), (UnitState::Scrapped, FailureCode::Scrapped)]
    {
        let world = World::new();
        world.passes();
        world.fakes.set_state(UID, state);
        world.fails(code);
        assert_eq!(world.called("flash"), 0);
    }
}

// ---- bad input ----------------------------------------------------------------------------------------------------

#[test]
fn probe_and_chip_troubles_touch_nothing() {
    for code in [FailureCode::AmbiguousProbes, FailureCode::WrongChip] {
        World::with(Trouble::Call("attach", code)).fails(code);
    }
    // Tried three times before it is said.
    let world = World::new();
    world.board.lock().unwrap().powered = false;
    world.fails(FailureCode::NoTarget);
    assert_eq!(world.called("attach"), 1, "the probe has made sure already");
    type Change = fn(&mut Chip);
    let chips: [(Change, FailureCode); 5] = [
        (|c| c.device = 0x413, FailureCode::WrongChip),
        // Locked, and no unit of ours: level 1, then level 2.
        (|c| c.rdp = 0x55, FailureCode::ReadProtected),
        (|c| c.rdp = 0xCC, FailureCode::ReadProtected),
        (|c| c.unit = UnitId([0; 12]), FailureCode::BlankIdentity),
        (|c| c.unit = UnitId([0xFF; 12]), FailureCode::BlankIdentity),
    ];
    for (change, code) in chips {
        let world = World::new();
        change(&mut world.board.lock().unwrap().chip);
        world.fails(code);
        assert_eq!(world.called("inspect") + world.called("flash") + world.called("restart"), 0);
        assert!(world.fakes.0.lock().unwrap().units.is_empty(), "no unit is made of it");
    }
}

#[test]
fn a_busy_probe_that_comes_free_is_waited_for() {
    let world = World::with(Trouble::Call("attach", FailureCode::ProbeBusy));
    world.passes();
    assert_eq!(world.called("attach"), 2);
}

#[test]
fn ports_missing_busy_and_vanished() {
    for code in [FailureCode::PortMissing, FailureCode::PortBusy] {
        let world = World::with(Trouble::Call("open_link", code));
        world.passes();
        assert_eq!(world.called("open_link"), 2, "one more try is enough here");
    }
    for n in 0..6 {
        let world = World::with(Trouble::PortLost(n));
        world.fails(FailureCode::PortLost);
        world.repair();
        world.passes();
    }
}

#[test]
fn a_bad_image_is_refused_before_the_board_is_touched() {
    let world = World::new();
    std::fs::write(world.image.with_file_name("app.bin"), b"short").unwrap();
    world.fails(FailureCode::ImageTruncated);
    assert!(world.board.lock().unwrap().calls.is_empty());
    let world = World::new();
    world.fakes.0.lock().unwrap().order.as_mut().unwrap().model = "KW-METER".into();
    world.fails(FailureCode::ImageWrongProduct);
    assert!(world.board.lock().unwrap().calls.is_empty());
    let world = World::new();
    world.fakes.0.lock().unwrap().order.as_mut().unwrap().image_sha256 = Some("00".repeat(32));
    world.fails(FailureCode::ImageChanged);
    assert!(world.board.lock().unwrap().calls.is_empty());
}

#[test]
fn devices_that_babble_stay_silent_or_speak_another_version() {
    for (trouble, code) in [
        (Trouble::Babbles, FailureCode::DeviceBabbles),
        (Trouble::Silent, FailureCode::DeviceSilent),
        (Trouble::OldStatus, FailureCode::ProtocolVersion),
        (Trouble::OldFrames, FailureCode::ProtocolVersion),
    ] {
        let world = World::with(trouble);
        world.fails(code);
        world.repair();
        world.passes();
    }
}

#[test]
fn swapped_boards_and_swapped_cables() {
    World::with(Trouble::WiresCrossed).fails(FailureCode::UidMismatch);
    for n in 0..2 {
        let world = World::with(Trouble::SwappedAfter(n));
        world.fails(FailureCode::UnitSwapped);
        assert_ne!(world.fakes.state(UID), Some(UnitState::Passed));
        assert_eq!(world.fakes.state(OTHER), None);
    }
}

#[test]
fn refusals_of_agent_and_records_end_the_attempt() {
    for code in [FailureCode::ProductKeyUnknown, FailureCode::QuotaReached, FailureCode::AlreadyEnrolled] {
        let world = World::new();
        world.fakes.0.lock().unwrap().refuse_frames = Some(code);
        world.fails(code);
    }
    for code in [FailureCode::QuotaReached, FailureCode::OtherBatch, FailureCode::Quarantined] {
        let world = World::new();
        world.fakes.0.lock().unwrap().refuse_bind = Some(code);
        world.fails(code);
        assert_eq!(world.called("flash"), 0);
    }
    let world = World::new();
    world.fakes.set_batch_state(BatchId(1), BatchState::Closed, "", "").unwrap();
    let (_, _, code) = world.run();
    assert_eq!(code, Some(FailureCode::BatchClosed));
    assert!(world.board.lock().unwrap().calls.is_empty());
}

#[test]
fn what_the_unit_complains_about_is_said_and_kept() {
    let world = World::with(Trouble::Complains(DeviceFailure::TrustRegion));
    world.fails(FailureCode::DeviceReported);
    assert!(world.fakes.kinds().contains(&"device-log".to_string()));
    let failure = world.fakes.0.lock().unwrap().attempts[0].failure.clone().unwrap();
    assert!(failure.sentence.contains("E0603"), "{failure}");
    let world = World::with(Trouble::RefusesProof);
    world.fails(FailureCode::DeviceReported);
}

#[test]
fn a_false_proof_never_passes() {
    for (agent, cloud) in [(false, true), (true, false), (false, false)] {
        let world = World::new();
        world.fakes.0.lock().unwrap().proof = Some(ProofRecord {
            challenge: String::new(),
            generation: 3,
            ak_gen: 1,
            ck_gen: 1,
            cloud_mac_ok: cloud,
            agent_mac_ok: agent,
            birth_boot: String::new(),
            old_keys_refused: 0,
            lock: LockRecord::default(),
        });
        world.fails(FailureCode::ProofFailed);
        assert_ne!(world.fakes.state(UID), Some(UnitState::Passed));
    }
}

#[test]
fn a_unit_that_does_not_use_its_key_never_passes() {
    // Silent, born with an older key, or born before the reset that the proof began with.
    for birth in [None, Some((2, Duration::ZERO)), Some((1, Duration::from_secs(3600)))] {
        let world = World::new();
        world.fakes.0.lock().unwrap().birth = birth;
        world.fails(FailureCode::CloudSilent);
        assert_ne!(world.fakes.state(UID), Some(UnitState::Passed), "{birth:?}");
        // The cloud hears of it after all: the unit is proved again and passes.
        world.fakes.0.lock().unwrap().birth = Some((1, Duration::ZERO));
        assert_eq!(world.passes(), [Step::Arrive, Step::Prove, Step::Lock]);
    }
    let world = World::new();
    world.fakes.0.lock().unwrap().birth = None;
    world.board.lock().unwrap().cloud_complaint = Some(DeviceFailure::CloudLoginRefused);
    world.fails(FailureCode::CloudKeyRefused);
    let world = World::new();
    world.fakes.0.lock().unwrap().old_key_opens = true;
    world.fails(FailureCode::OldKeyAccepted);
    assert_ne!(world.fakes.state(UID), Some(UnitState::Passed));
}

#[test]
fn a_unit_passes_locked_or_not_at_all() {
    for trouble in [Trouble::LockIgnored, Trouble::ReadableWhenLocked] {
        let world = World::with(trouble);
        world.fails(FailureCode::LockFailed);
        assert_eq!(world.fakes.state(UID), Some(UnitState::CloudKey));
        world.repair();
        world.passes();
    }
    // What was asked for and what was seen are two facts.
    let world = World::new();
    world.passes();
    let proof = world.fakes.0.lock().unwrap().attempts[0].proof.clone().unwrap();
    let locked = OptionRequest::lock(OPEN).unwrap().words();
    assert_eq!(proof.lock, LockRecord { asked: Some(locked), observed: Some(locked), closed: Some(true) });
    world.passes();
    let again = world.fakes.0.lock().unwrap().attempts[1].proof.clone().unwrap();
    assert_eq!(again.lock, LockRecord { asked: None, observed: Some(locked), closed: Some(true) });
    let text = serde_json::to_value(&again).unwrap();
    assert_eq!(text["lock"]["observed"], "0ff055ec 0fff0000");
    assert_eq!(serde_json::from_value::<ProofRecord>(text).unwrap(), again);
}

#[test]
fn an_order_without_a_lock_leaves_the_chip_open_and_says_what_it_saw() {
    let world = World::new();
    world.fakes.0.lock().unwrap().order.as_mut().unwrap().lock = false;
    assert_eq!(world.passes().last(), Some(&Step::Prove));
    assert_eq!(world.called("set_option_bytes"), 0);
    let proof = world.fakes.0.lock().unwrap().attempts[0].proof.clone().unwrap();
    assert_eq!(proof.lock, LockRecord { asked: None, observed: Some(OPEN), closed: None });
}

/// The look that tells a locked unit's id stops it: it goes on when its power was off, and is touched by nothing but its serial
/// port and its reset pin until it is proved.
#[test]
fn a_locked_unit_that_comes_back_is_asked_over_its_serial_port() {
    let world = World::new();
    world.passes();
    world.passes();
    let calls = world.board.lock().unwrap().calls.clone();
    let looks =
        ["attach", "pull_reset", "pull_reset", "unit_now", "option_bytes", "flash_is_closed", "unit_now"];
    assert_eq!(calls.iter().filter(|c| **c != "open_link").copied().collect::<Vec<_>>(), looks);
    // Nobody there to do it: said, and nothing is lost.
    world.board.lock().unwrap().trouble = Some(Trouble::NobodyThere);
    world.fails(FailureCode::PowerNeeded);
    world.repair();
    world.passes();
    // Stopped between its lock and its PASS.
    world.fakes.set_state(UID, UnitState::CloudKey);
    world.passes();
    // Locked before it can have been ours.
    world.fakes.set_state(UID, UnitState::AgentKey);
    world.fails(FailureCode::ForeignKeys);
    world.fakes.set_state(UID, UnitState::CloudKey);
    world.board.lock().unwrap().stage = Stage::EMPTY;
    world.fails(FailureCode::KeysGone);
}

/// The modem goes to the unit's own broker only; what else it asks for ends the attempt and stands in its history.
#[test]
fn a_unit_that_asks_for_another_broker_is_stopped() {
    let world = World::new();
    world.fakes.0.lock().unwrap().birth = None;
    world.board.lock().unwrap().opens = Some("evil.example");
    world.fails(FailureCode::BridgeRefused);
    assert!(world.fakes.kinds().contains(&"bridge-refused".to_string()));
}

#[test]
fn a_broker_that_is_away_is_the_stations_trouble() {
    let world = World::new();
    // A port that nobody listens on any more.
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    {
        let mut book = world.fakes.0.lock().unwrap();
        (book.birth, book.broker) = (None, Some(away));
    }
    world.board.lock().unwrap().opens = Some("broker.example");
    world.fails(FailureCode::BrokerUnreachable);
}

/// Its broker restarted and told nobody of the birth; the unit is logged in and would say no more.
#[test]
fn a_birth_that_got_lost_is_asked_for_once_more() {
    let world = World::new();
    let broker = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    {
        let mut book = world.fakes.0.lock().unwrap();
        (book.birth, book.broker) = (None, Some(broker.local_addr().unwrap()));
    }
    {
        let mut board = world.board.lock().unwrap();
        (board.opens, board.born_again) = (Some("broker.example"), Some(world.fakes.clone()));
    }
    world.passes();
}

/// Asking for new keys makes no units: what never passed, and what passed but lost its keys, is left as it is.
#[test]
fn only_a_unit_that_passed_gets_new_keys() {
    let update = Update { agent_key: true, cloud_key: true, ..Update::default() };
    let world = World { work: Work::Update(update.clone()), ..World::new() };
    world.fails(FailureCode::NothingToRenew);
    assert_eq!(world.called("flash"), 0);
    assert_eq!(world.fakes.state(UID), None, "not even a row");
    let mut world = World::new();
    world.passes();
    world.work = Work::Update(update);
    let mut board = world.board.lock().unwrap();
    (board.keyed, board.stage) = (false, Stage::PRODUCT_KEY);
    drop(board);
    world.fails(FailureCode::KeysGone);
    assert_eq!(world.called("flash"), 0);
}

#[test]
fn cancel_takes_effect_at_the_next_safe_point() {
    for at in BARE.iter().copied() {
        let world = World::new();
        let (events, outcome, code) = world.run_with(&Cancel::default(), move |event, cancel| {
            if matches!(event, Event::Step { step, .. } if *step == at) {
                cancel.cancel();
            }
        });
        assert_eq!((outcome, code), (Outcome::Aborted, Some(FailureCode::Cancelled)), "{at:?}");
        let flash_begun = world.fakes.kinds().contains(&"flash-begin".to_string());
        let flash_ended = world.fakes.kinds().contains(&"flash-end".to_string());
        assert_eq!(flash_begun, flash_ended, "never inside an act: {events:?}");
        world.repair();
        world.passes();
    }
}

// ---- labels -------------------------------------------------------------------------------------------------------

impl World {
    /// An order whose units get labels, printed by a shell command.
    fn labelled(policy: LabelPolicy, script: &str) -> Self {
        let mut world = Self::new();
        world.fakes.0.lock().unwrap().order.as_mut().unwrap().label = policy;
        std::fs::write(
            world.dir.path().join("label.zpl"),
            "^XA^FH^FD$code^FS^FH^FD$serial $operator^FS^XZ\n",
        )
        .unwrap();
        world.labels = LabelDesk::new(Printer::open(&world.config(script)));
        world
    }

    fn config(&self, script: &str) -> Config {
        let words = ["sh", "-c", script, "sh", "$file"].map(str::to_owned).to_vec();
        let label = LabelConfig {
            template: self.dir.path().join("label.zpl"),
            sink: Sink::Command(words),
            timeout: Duration::from_secs(20),
        };
        Config {
            image: Some(self.image.clone()),
            name: "test".into(),
            label: Some(label),
            ..Config::default()
        }
    }

    /// What came out of the printer.
    fn printed(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("printed")).unwrap_or_default()
    }

    fn printer(&self) -> String {
        format!("cat \"$1\" >> {}", self.dir.path().join("printed").display())
    }

    /// A world whose printer writes into a file of its own.
    fn with_printer(policy: LabelPolicy) -> Self {
        let mut world = Self::labelled(policy, "true");
        world.labels = LabelDesk::new(Printer::open(&world.config(&world.printer())));
        world
    }

    /// Runs with somebody at the fixture, who scans what `person` says: told how often it was asked and what is wrong.
    fn run_scanning(
        &self,
        person: impl Fn(usize, Option<FailureCode>) -> Option<Said> + Send + 'static,
    ) -> (Vec<Event>, Outcome, Option<FailureCode>) {
        let (desk, asked) = (self.labels.clone(), std::sync::atomic::AtomicUsize::new(0));
        self.run_with(&Cancel::default(), move |event, _| {
            if let Event::ScanWanted { problem, .. } = event {
                let n = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if let Some(said) = person(n, problem.as_ref().map(|p| p.code)) {
                    assert!(desk.say(said, "op"), "it listens");
                }
            }
        })
    }
}

fn code_of(serial: &str) -> String {
    LabelCode::new(serial, &"a1".repeat(32)).unwrap().to_string()
}

fn failure_of(world: &World) -> Failure {
    world.fakes.0.lock().unwrap().attempts.last().unwrap().failure.clone().unwrap()
}

#[test]
fn a_label_is_printed_before_the_pass_and_once() {
    let world = World::with_printer(LabelPolicy::Print);
    assert_eq!(world.passes(), Step::ALL);
    assert_eq!(world.printed(), format!("^XA^FH^FD{}^FS^FH^FDS-1 op^FS^XZ\n", code_of("S-1")));
    let kinds = world.fakes.kinds();
    assert_eq!(kinds[kinds.len() - 2..], ["lock-end", "label-printed"]);
    world.passes();
    assert_eq!(world.printed().lines().count(), 1, "a unit that has its label gets no second one");
    // An order without labels needs no printer.
    let world = World::new();
    world.passes();
}

#[test]
fn a_failed_print_leaves_the_unit_incomplete_and_a_retry_only_prints() {
    let mut world = World::labelled(LabelPolicy::Print, "echo 'out of paper' >&2; exit 7");
    world.fails(FailureCode::PrintFailed);
    assert!(failure_of(&world).sentence.contains("exit status: 7: out of paper"), "{}", failure_of(&world));
    assert_eq!(world.fakes.state(UID), Some(UnitState::CloudKey), "it has its keys and no PASS");
    assert_eq!(world.fakes.kinds().last().unwrap(), "label-failed");
    world.labels = LabelDesk::new(Printer::open(&world.config(&world.printer())));
    // Nobody has to take its power away: what was proved before its lock still holds.
    world.board.lock().unwrap().trouble = Some(Trouble::NobodyThere);
    assert_eq!(world.passes(), [Step::Arrive, Step::Label]);
    assert_eq!(world.called("flash") + world.called("set_option_bytes") + world.called("pull_reset"), 0);
    assert_eq!(world.printed().lines().count(), 1);
    {
        let book = world.fakes.0.lock().unwrap();
        let [first, second] = &book.attempts[..] else { panic!("two attempts") };
        assert_eq!(first.proof, second.proof, "it passes with what was proved then");
        assert!(book.events.iter().any(|(_, kind)| kind == "label-only"));
    }
    let issued = world.fakes.kinds().iter().filter(|k| *k == "flash-begin").count();
    assert_eq!(issued, 1, "nothing was made again");
    // No printer at all, and a template that can't be used.
    let world = World::new();
    world.fakes.0.lock().unwrap().order.as_mut().unwrap().label = LabelPolicy::Print;
    world.fails(FailureCode::PrinterMissing);
    let mut world = World::labelled(LabelPolicy::Print, "true");
    std::fs::write(world.dir.path().join("label.zpl"), "^XA^FD$code^FS").unwrap();
    world.labels = LabelDesk::new(Printer::open(&world.config("true")));
    world.fails(FailureCode::LabelTemplate);
    assert!(failure_of(&world).sentence.contains("label.zpl:1:7: "), "{}", failure_of(&world));
}

#[test]
fn a_unit_passes_when_its_own_label_was_read_back() {
    let world = World::with_printer(LabelPolicy::ScanBack);
    let (events, outcome, _) = world.run_scanning(|n, problem| match n {
        // A carton's code first: nothing is wrong with the unit.
        0 => Some(Said::Scan("4006381333931".into())),
        1 => {
            assert_eq!(problem, Some(FailureCode::LabelUnreadable));
            Some(Said::PrintAgain)
        }
        _ => Some(Said::Scan(code_of("S-1"))),
    });
    assert_eq!(outcome, Outcome::Pass);
    let labels: Vec<u32> = events
        .iter()
        .filter_map(|e| if let Event::ScanWanted { labels, .. } = e { Some(*labels) } else { None })
        .collect();
    assert_eq!(labels, [1, 1, 2]);
    assert_eq!(world.printed().lines().count(), 2);
    assert_eq!(world.fakes.kinds().last().unwrap(), "label-scanned");
    // It passed: another look at it wants no scan.
    let (_, outcome, _) = world.run_scanning(|_, _| panic!("nothing is to be scanned"));
    assert_eq!(outcome, Outcome::Pass);
}

#[test]
fn another_units_label_destroys_nothing_and_is_told_with_both_values() {
    let world = World::with_printer(LabelPolicy::ScanBack);
    let (_, outcome, code) = world.run_scanning(|_, _| Some(Said::Scan(code_of("S-2"))));
    assert_eq!((outcome, code), (Outcome::Fail, Some(FailureCode::LabelMismatch)));
    let failure = failure_of(&world);
    assert!(failure.sentence.contains("label S-2, unit S-1") && !failure.code.is_permanent(), "{failure}");
    assert_eq!(world.fakes.kinds().last().unwrap(), "label-mismatch");
    assert_eq!(world.fakes.state(UID), Some(UnitState::CloudKey));
    // Its own serial, but made for other anchors.
    let stale = LabelCode::new("S-1", &"b2".repeat(32)).unwrap().to_string();
    let (_, _, code) = world.run_scanning(move |_, _| Some(Said::Scan(stale.clone())));
    assert_eq!(code, Some(FailureCode::LabelMismatch));
    assert!(failure_of(&world).sentence.contains("A1A1A1A1A1A1A1A1"), "{}", failure_of(&world));
    // Nobody scans; then the right one, which is still there: no second label.
    let (_, outcome, code) = world.run_scanning(|_, _| None);
    assert_eq!((outcome, code), (Outcome::Timeout, Some(FailureCode::ScanMissing)));
    let (events, outcome, _) = world.run_scanning(|_, _| Some(Said::Scan(code_of("S-1").to_lowercase())));
    assert_eq!(outcome, Outcome::Pass);
    assert_eq!(steps(&events), [Step::Arrive, Step::Label]);
    assert_eq!(world.printed().lines().count(), 1);
    assert_eq!(world.called("flash") + world.called("set_option_bytes"), 0);
}

/// What was proved holds only as long as nothing has happened to the unit since: other option bytes, another attempt on it.
#[test]
fn a_unit_that_is_not_as_it_was_is_proved_again_before_its_label() {
    let mut world = World::labelled(LabelPolicy::Print, "exit 1");
    world.fails(FailureCode::PrintFailed);
    world.labels = LabelDesk::new(Printer::open(&world.config(&world.printer())));
    let before = world.board.lock().unwrap().options;
    // Still closed, but not by this station's word.
    world.board.lock().unwrap().options.optcr1 ^= 1 << 16;
    world.board.lock().unwrap().trouble = Some(Trouble::NobodyThere);
    world.fails(FailureCode::PowerNeeded);
    world.board.lock().unwrap().options = before;
    // That attempt proved nothing, so the next one asks the unit.
    world.fails(FailureCode::PowerNeeded);
    world.board.lock().unwrap().trouble = None;
    assert_eq!(world.passes(), [Step::Arrive, Step::Prove, Step::Lock, Step::Label]);
    // An open chip can be looked at, so it is asked each time.
    let mut world = World::labelled(LabelPolicy::Print, "exit 1");
    world.fakes.0.lock().unwrap().order.as_mut().unwrap().lock = false;
    world.fails(FailureCode::PrintFailed);
    assert_eq!(world.fakes.0.lock().unwrap().attempts[0].proof, None);
    world.labels = LabelDesk::new(Printer::open(&world.config(&world.printer())));
    assert_eq!(world.passes(), [Step::Arrive, Step::Prove, Step::Label]);
}

/// A unit that comes back keeps its label, unless it says something else now or QA's reason names it.
#[test]
fn units_that_come_back_get_a_label_when_theirs_is_wrong_or_asked_for() {
    let mut world = World::with_printer(LabelPolicy::Print);
    world.passes();
    let order = |reason: &str, opened_at_ms| Reprovision {
        id: 1,
        kind: ReprovisionKind::NewStart,
        reason: reason.into(),
        operator: "qa".into(),
        region: 0,
        supersedes: format!("{UID}.1"),
        before: (1, 1),
        after: None,
        opened_at_ms,
        revoked: true,
        ended_at_ms: None,
        done: false,
    };
    world.work = Work::Reprovision { unit: UID, update: None };
    let reopened = |reason: &str, opened_at_ms| {
        world.fakes.set_state(UID, UnitState::Flashing);
        world.fakes.0.lock().unwrap().orders = vec![order(reason, opened_at_ms)];
    };
    let labels = || world.printed().lines().count();
    reopened("dead radio", 5);
    assert_eq!(world.passes(), BARE);
    assert_eq!(labels(), 1, "the same serial, the same anchor: the label is right");
    reopened("Label scratched", 5);
    assert_eq!(world.passes(), Step::ALL);
    assert_eq!(labels(), 2);
    // Printed since the order: a retry prints no third one.
    reopened("label scratched", 0);
    assert_eq!(world.passes(), BARE);
    assert_eq!(labels(), 2);
    // It got another region's anchor.
    reopened("dead radio", 5);
    world.fakes.0.lock().unwrap().other_anchor = true;
    assert_eq!(world.passes(), Step::ALL);
    assert_eq!(labels(), 3);
}

/// The label is compared with the device that lies there when it is scanned, not with the one that began.
#[test]
fn a_board_swapped_before_the_scan_is_noticed() {
    let world = World::with_printer(LabelPolicy::ScanBack);
    let board = Arc::clone(&world.board);
    let (_, _, code) = world.run_scanning(move |_, _| {
        board.lock().unwrap().chip.unit = OTHER;
        Some(Said::Scan(code_of("S-1")))
    });
    assert_eq!(code, Some(FailureCode::UnitSwapped));
    assert_ne!(world.fakes.state(UID), Some(UnitState::Passed));
}

/// Who sticks a label on lifts the board for it: nothing ends, the board goes back and the label is scanned again.
#[test]
fn a_board_lifted_for_its_label_goes_back_and_passes() {
    let world = World::with_printer(LabelPolicy::ScanBack);
    let board = Arc::clone(&world.board);
    let (_, outcome, _) = world.run_scanning(move |n, problem| {
        let expected = if n == 1 { Some(FailureCode::BoardLifted) } else { None };
        assert_eq!(problem, expected);
        board.lock().unwrap().powered = n > 0;
        Some(Said::Scan(code_of("S-1")))
    });
    assert_eq!(outcome, Outcome::Pass);
    // The time limit holds for one that never goes back.
    let world = World::with_printer(LabelPolicy::ScanBack);
    let board = Arc::clone(&world.board);
    let (_, _, code) = world.run_scanning(move |n, _| {
        board.lock().unwrap().powered = false;
        (n == 0).then(|| Said::Scan(code_of("S-1")))
    });
    assert_eq!(code, Some(FailureCode::ScanMissing));
}

/// A unit is one person's, its label another's: each stands in the records under their own name.
#[test]
fn a_scan_is_recorded_under_the_name_of_who_is_there() {
    let world = World::with_printer(LabelPolicy::ScanBack);
    let benches = vec![("1".into(), Box::new(FakeBench(Arc::clone(&world.board))) as Box<dyn Bench>)];
    let records = Arc::new(world.fakes.clone());
    let timing = Timing { scan: Duration::from_secs(60), ..TIMING };
    let config = world.config(&world.printer());
    let line = Line::with_benches(records.clone(), records, &config, benches, timing).unwrap();
    let events = line.subscribe();
    line.send(Command::SetOperator("op".into()));
    line.send(Command::SelectBatch("B1".into()));
    line.send(Command::Start(0));
    let mut asked = 0;
    loop {
        match events.recv_timeout(Duration::from_secs(60)).expect("an event") {
            Event::ScanWanted { serial, .. } => {
                line.send(Command::SetOperator(["Mia", "Ana"][asked].into()));
                line.send(if asked == 0 { Command::PrintAgain } else { Command::Scan(code_of(&serial)) });
                asked += 1;
            }
            Event::Finished { outcome, .. } => break assert_eq!(outcome, Outcome::Pass),
            _ => {}
        }
    }
    let kinds = world.fakes.kinds();
    assert_eq!(
        kinds[kinds.len() - 3..],
        ["label-printed", "label-printed by Mia", "label-scanned by Ana"].map(String::from)
    );
    assert_eq!(world.fakes.0.lock().unwrap().attempts[0].operator, "op");
}

#[test]
fn cancelled_at_the_scan_the_unit_keeps_what_it_has() {
    let world = World::with_printer(LabelPolicy::ScanBack);
    let (_, outcome, _) = world.run_with(&Cancel::default(), |event, cancel| {
        if matches!(event, Event::ScanWanted { .. }) {
            cancel.cancel();
        }
    });
    assert_eq!(outcome, Outcome::Aborted);
    assert!(world.labels.is_free(), "the next unit has its turn");
    let (_, outcome, _) = world.run_scanning(|_, _| Some(Said::Scan(code_of("S-1"))));
    assert_eq!((outcome, world.printed().lines().count()), (Outcome::Pass, 1));
}

/// Two fixtures, one label out at a time; scans come as commands and go to the unit whose turn it is.
#[test]
fn on_the_line_one_label_is_out_at_a_time() {
    let world = World::with_printer(LabelPolicy::ScanBack);
    let second = Board::blank();
    second.lock().unwrap().chip.unit = OTHER;
    let benches = [Arc::clone(&world.board), second]
        .into_iter()
        .enumerate()
        .map(|(n, b)| ((n + 1).to_string(), Box::new(FakeBench(b)) as Box<dyn Bench>))
        .collect();
    let records = Arc::new(world.fakes.clone());
    let timing = Timing { scan: Duration::from_secs(60), ..TIMING };
    let config = world.config(&world.printer());
    let line = Line::with_benches(records.clone(), records, &config, benches, timing).unwrap();
    let events = line.subscribe();
    line.send(Command::Scan(code_of("S-1")));
    line.send(Command::SetOperator("op".into()));
    line.send(Command::SelectBatch("B1".into()));
    line.send(Command::StartAll);
    let mut scanned = 0;
    let mut ends = 0;
    let mut out = None;
    while ends < 2 {
        match events.recv_timeout(Duration::from_secs(60)).expect("an event") {
            Event::ScanWanted { fixture, serial, .. } => {
                assert_eq!(out.replace(fixture.clone()), None, "a second label while one is out");
                scanned += 1;
                assert_eq!(world.printed().lines().count(), scanned);
                let n: usize = fixture.parse().unwrap();
                wait_for("the tile", || {
                    let snapshot = line.snapshot();
                    snapshot.fixtures[n - 1].running.as_ref().is_some_and(|r| r.scan.is_some())
                });
                line.send(Command::Scan(code_of(&serial)));
            }
            Event::Finished { fixture, outcome, .. } => {
                assert_eq!((outcome, out.take()), (Outcome::Pass, Some(fixture)));
                ends += 1;
            }
            _ => {}
        }
    }
    assert_eq!(scanned, 2);
}

// ---- the hub ------------------------------------------------------------------------------------------------------

fn line(world: &World, boards: &[Arc<Mutex<Board>>], gray_release: u32) -> (Line, mpsc::Receiver<Event>) {
    let config =
        Config { image: Some(world.image.clone()), gray_release, name: "test".into(), ..Config::default() };
    let benches = boards
        .iter()
        .enumerate()
        .map(|(n, b)| ((n + 1).to_string(), Box::new(FakeBench(Arc::clone(b))) as Box<dyn Bench>))
        .collect();
    let records = Arc::new(world.fakes.clone());
    let line = Line::with_benches(records.clone(), records, &config, benches, TIMING).unwrap();
    let events = line.subscribe();
    (line, events)
}

fn finished(events: &mpsc::Receiver<Event>, count: usize) -> Vec<(String, Outcome, Option<FailureCode>)> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut ends = Vec::new();
    while ends.len() < count {
        let left = deadline.saturating_duration_since(Instant::now());
        match events.recv_timeout(left).expect("an end within 30 s") {
            Event::Finished { fixture, outcome, failure, .. } => {
                ends.push((fixture, outcome, failure.map(|f| f.code)))
            }
            _ => continue,
        }
    }
    ends
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn fixtures_run_in_parallel_and_the_snapshot_follows() {
    let world = World::new();
    let second = Board::blank();
    second.lock().unwrap().chip.unit = OTHER;
    let (line, events) = line(&world, &[Arc::clone(&world.board), second], 0);
    let (woken, wakes) = mpsc::channel();
    let woken = Mutex::new(woken);
    line.on_change(Box::new(move || {
        let _ = woken.lock().unwrap().send(());
    }));
    line.send(Command::SetOperator("Mia".into()));
    line.send(Command::SelectBatch("B1".into()));
    line.send(Command::StartAll);
    let mut ends = finished(&events, 2);
    ends.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(ends, [("1".into(), Outcome::Pass, None), ("2".into(), Outcome::Pass, None)]);
    wait_for("the snapshot shows both", || line.snapshot().finished.len() == 2);
    let snapshot = line.snapshot();
    assert_eq!((snapshot.station.as_str(), snapshot.operator.as_str()), ("test", "Mia"));
    assert_eq!(snapshot.counts.passed, 2);
    assert!(
        snapshot
            .fixtures
            .iter()
            .all(|f| f.running.is_none() && f.last.as_ref().unwrap().outcome == Outcome::Pass)
    );
    assert!(wakes.try_iter().count() > 0);
    line.send(Command::Shutdown);
}

#[test]
fn without_a_batch_nothing_starts_and_everybody_is_told() {
    let world = World::new();
    let (line, events) = line(&world, &[Arc::clone(&world.board)], 0);
    line.send(Command::Start(0));
    assert_eq!(finished(&events, 1), [("1".into(), Outcome::Error, Some(FailureCode::NoBatch))]);
    line.send(Command::SelectBatch("no such batch".into()));
    wait_for("a word about it", || {
        events
            .try_iter()
            .any(|e| matches!(e, Event::Station { failure } if failure.code == FailureCode::RecordsFailed))
    });
    line.send(Command::Start(7));
    line.send(Command::Cancel(7));
    assert!(world.fakes.0.lock().unwrap().attempts.is_empty());
}

/// QA's unit runs under its own batch for its own work; the line's batch and work are what they were, before, meanwhile and after.
#[test]
fn a_unit_started_for_qa_changes_nothing_else_on_the_line() {
    let world = World::new();
    let second = Board::blank();
    second.lock().unwrap().chip.unit = OTHER;
    // Every pass would pause the batch for a sample, if it counted.
    let (line, events) = line(&world, &[Arc::clone(&world.board), second], 1);
    world.fakes.0.lock().unwrap().batches.push(Batch {
        id: BatchId(2),
        name: "B2".into(),
        po: PoId(1),
        quantity: 4,
        state: BatchState::Open,
        terms: BatchTerms::default(),
    });
    line.send(Command::SelectBatch("B2".into()));
    let work = Work::Reprovision { unit: UID, update: None };
    let start = |fixture, batch: &str| {
        line.send(Command::StartFor { fixture, batch: batch.into(), work: work.clone() });
    };
    // In the wrong fixture.
    start(1, "B1");
    assert_eq!(finished(&events, 1)[0].2, Some(FailureCode::OtherUnit));
    start(0, "B1");
    // It is at work, and the fixture is not to be had twice.
    start(0, "B1");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let Event::Finished { attempt, outcome, failure, qa, .. } =
            events.recv_timeout(Duration::from_secs(30)).expect("an end")
        {
            assert_eq!(qa, Some(UID));
            seen.push((attempt.0 == 0, outcome, failure.map(|f| f.code)));
        }
    }
    assert_eq!(seen, [(true, Outcome::Aborted, Some(FailureCode::Cancelled)), (false, Outcome::Pass, None)]);
    start(0, "no such batch");
    assert_eq!(finished(&events, 1)[0].1, Outcome::Error);
    start(9, "B1");
    wait_for("the snapshot shows its end", || line.snapshot().fixtures[0].last.is_some());
    let snapshot = line.snapshot();
    assert_eq!(snapshot.batch.as_ref().unwrap().0.name, "B2");
    assert_eq!(snapshot.fixtures[0].last.as_ref().unwrap().qa, Some(UID));
    assert!(snapshot.finished.is_empty(), "it was counted when it was made");
    assert!(snapshot.batches.iter().all(|b| b.state == BatchState::Open), "no sample is due");
    let last = world.fakes.0.lock().unwrap().attempts.last().unwrap().batch;
    assert_eq!(last, BatchId(1), "under its own batch");
    // The line makes units as before.
    line.send(Command::Start(1));
    assert_eq!(finished(&events, 1), [("2".into(), Outcome::Pass, None)]);
    wait_for("the snapshot shows its end", || {
        line.snapshot().fixtures[1].last.as_ref().is_some_and(|l| l.outcome == Outcome::Pass)
    });
    assert_eq!(line.snapshot().fixtures[1].last.as_ref().unwrap().qa, None);
    assert_eq!(world.fakes.0.lock().unwrap().attempts.last().unwrap().batch, BatchId(2));
}

/// After each so many passes nothing starts until somebody has approved a sample, by whatever started it.
#[test]
fn the_gray_release_gate_shuts_until_a_sample_is_approved() {
    let world = World::new();
    let (line, events) = line(&world, &[Arc::clone(&world.board)], 1);
    line.send(Command::SelectBatch("B1".into()));
    line.send(Command::Start(0));
    assert_eq!(finished(&events, 1)[0].1, Outcome::Pass);
    wait_for("a sample is due", || line.snapshot().sample.is_some());
    let sample = line.snapshot().sample.clone().unwrap();
    assert_eq!((sample.waiting, sample.serials.as_slice()), (1, ["S-1".to_owned()].as_slice()));
    assert_eq!(world.fakes.batch(BatchId(1)).unwrap().state, BatchState::Open, "the gate is no pause");
    line.send(Command::Start(0));
    assert_eq!(finished(&events, 1)[0].2, Some(FailureCode::SampleDue));
    wait_for("it is said", || {
        line.snapshot().trouble.as_ref().is_some_and(|t| t.code == FailureCode::SampleDue)
    });
    let approve = Command::ApproveSample { operator: "Quality".into(), note: "three looked at".into() };
    line.send(approve);
    wait_for("the gate is open", || line.snapshot().sample.is_none() && line.snapshot().trouble.is_none());
    {
        let mut board = world.board.lock().unwrap();
        board.chip.unit = OTHER;
        board.erased();
    }
    line.send(Command::Start(0));
    assert_eq!(finished(&events, 1)[0].1, Outcome::Pass);
    wait_for("the next sample is due", || line.snapshot().sample.is_some());
    line.send(Command::StopBatch { operator: "Quality".into(), reason: "a bent pin".into() });
    line.send(Command::Start(0));
    assert_eq!(finished(&events, 1)[0].2, Some(FailureCode::BatchClosed));
    assert_eq!(world.fakes.batch(BatchId(1)).unwrap().state, BatchState::Paused);
}

/// What decides about a batch has its row in the audit log first: without the row it is not done.
#[test]
fn the_gate_opens_only_behind_its_row_in_the_audit_log() {
    use keywright::people::{NewPerson, People, Pin, PinCost, Role};
    use keywright::records::{AuditFilter, OpenOptions, SqliteRecords};
    use keywright::secrets::{KdfCost, Passphrase};
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("station.db");
    let options = OpenOptions { cost: KdfCost::TEST, ..OpenOptions::new("bench-1") };
    let records = SqliteRecords::open_with(&path, options, &Passphrase::demo()).unwrap();
    let people = Arc::new(People::with(records, "", PinCost::TEST, Arc::new(|| Duration::ZERO)).unwrap());
    let pin = Pin::new("729450".to_owned());
    people.add(&NewPerson { name: "Ana".into(), role: Role::Admin, pin, badge: None }).unwrap();
    let world = World::new();
    let (line, events) = line(&world, &[Arc::clone(&world.board)], 1);
    line.keep_audit(people.clone());
    line.send(Command::SelectBatch("B1".into()));
    line.send(Command::Start(0));
    assert_eq!(finished(&events, 1)[0].1, Outcome::Pass);
    wait_for("a sample is due", || line.snapshot().sample.is_some());
    let sql = rusqlite::Connection::open(&path).unwrap();
    sql.execute_batch("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END")
        .unwrap();
    let approve = || Command::ApproveSample { operator: "Quality".into(), note: "three looked at".into() };
    line.send(approve());
    wait_for("it is said", || {
        line.snapshot().trouble.as_ref().is_some_and(|t| t.code == FailureCode::RecordsFailed)
    });
    assert!(line.snapshot().sample.is_some(), "the gate is shut");
    sql.execute_batch("DROP TRIGGER full").unwrap();
    line.send(approve());
    wait_for("the gate is open", || line.snapshot().sample.is_none());
    line.send(Command::StopBatch { operator: "Ana".into(), reason: "a bent pin".into() });
    wait_for("it is paused", || world.fakes.batch(BatchId(1)).unwrap().state == BatchState::Paused);
    let rows = people.audit(&AuditFilter { subject: "B1".into(), ..AuditFilter::default() }).unwrap();
    let told: Vec<_> = rows.iter().map(|r| (r.action.as_str(), r.detail.to_string())).collect();
    assert_eq!(
        told,
        [
            ("batch-paused", r#"{"reason":"a bent pin"}"#.to_owned()),
            ("sample-approved", r#"{"note":"three looked at"}"#.to_owned())
        ]
    );
}

/// Units in work may all pass, so they count: what is started beyond the group waits, goes on after the approval, and is let go when the
/// batch is stopped. The last group is looked at like every other.
#[test]
fn a_group_never_outgrows_the_gate_however_many_fixtures_there_are() {
    let world = World::new();
    let another = |byte: u8| {
        let board = Board::blank();
        board.lock().unwrap().chip.unit = UnitId([byte; 12]);
        board
    };
    let (second, third) = (another(0x51), another(0x52));
    let (line, events) = line(&world, &[Arc::clone(&world.board), Arc::clone(&second), third], 2);
    line.send(Command::SelectBatch("B1".into()));
    line.send(Command::StartAll);
    let mut ends = finished(&events, 2);
    ends.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(ends, [("1".into(), Outcome::Pass, None), ("2".into(), Outcome::Pass, None)]);
    let waits = |n: usize| {
        let fixture = line.snapshot().fixtures[n].clone();
        (fixture.held, fixture.waits_for_sample)
    };
    wait_for("a sample is due", || line.snapshot().sample.is_some());
    assert_eq!(waits(2), (true, true));
    assert_eq!(world.fakes.0.lock().unwrap().attempts.len(), 2);
    line.send(Command::ApproveSample { operator: "Quality".into(), note: "three looked at".into() });
    assert_eq!(finished(&events, 1), [("3".into(), Outcome::Pass, None)]);
    wait_for("nothing waits", || waits(2) == (false, false));
    // One of the next two fills the group, and the batch with it.
    for (board, byte) in [(&world.board, 0x53), (&second, 0x54)] {
        let mut board = board.lock().unwrap();
        board.chip.unit = UnitId([byte; 12]);
        board.erased();
    }
    line.send(Command::Start(0));
    line.send(Command::Start(1));
    assert_eq!(finished(&events, 1), [("1".into(), Outcome::Pass, None)]);
    wait_for("the last group is looked at too", || line.snapshot().sample.is_some());
    assert_eq!((waits(1), line.snapshot().sample.as_ref().unwrap().waiting), ((true, true), 2));
    line.send(Command::StopBatch { operator: "Quality".into(), reason: "a bent pin".into() });
    assert_eq!(finished(&events, 1), [("2".into(), Outcome::Aborted, Some(FailureCode::Cancelled))]);
    wait_for("it is let go", || waits(1) == (false, false));
    assert_eq!(world.fakes.0.lock().unwrap().attempts.len(), 4);
}

#[test]
fn auto_start_runs_every_new_board_once() {
    let world = World::new();
    let (line, events) = line(&world, &[Arc::clone(&world.board)], 0);
    line.send(Command::SelectBatch("B1".into()));
    line.send(Command::AutoStart(true));
    assert_eq!(finished(&events, 1)[0].1, Outcome::Pass);
    // Another board takes its place: it starts by itself too.
    {
        let mut board = world.board.lock().unwrap();
        board.chip.unit = OTHER;
        board.erased();
    }
    assert_eq!(finished(&events, 1)[0].1, Outcome::Pass);
    assert_eq!(world.fakes.0.lock().unwrap().attempts.len(), 2);
    world.board.lock().unwrap().powered = false;
    wait_for("the empty fixture", || line.snapshot().fixtures[0].present == Some(false));
    assert_eq!(world.fakes.0.lock().unwrap().attempts.len(), 2);
}

/// Says what the test tells it, when the test tells it: one look after the other, in the order of their beginning.
struct Told(Mutex<(mpsc::Receiver<Vec<Check>>, mpsc::Sender<()>)>);

/// The test's end of it.
struct Teller {
    tell: mpsc::Sender<Vec<Check>>,
    begun: mpsc::Receiver<()>,
}

impl Teller {
    fn send(&self, checks: Vec<Check>) {
        self.tell.send(checks).unwrap();
    }
    /// A look has begun.
    fn begun(&self) {
        self.begun.recv_timeout(Duration::from_secs(30)).expect("a look");
    }
}

impl Inspect for Told {
    fn inspect(&self, question: &Question) -> Vec<Check> {
        assert_eq!(question.order.model, MODEL);
        let told = self.0.lock().unwrap();
        let _ = told.1.send(());
        told.0.recv().unwrap_or_default()
    }
}

fn failing(name: Name, code: FailureCode, fixture: Option<usize>) -> Check {
    let failure = Failure::new(code, "injected");
    let (detail, remedy) = (failure.sentence.clone(), Some(failure.remedy.clone()));
    Check {
        event: "check",
        name,
        status: preflight::Status::Fail,
        detail,
        remedy,
        fixture,
        failure: Some(failure),
    }
}

fn inspected(
    world: &World,
    boards: &[Arc<Mutex<Board>>],
    config: Config,
) -> (Line, mpsc::Receiver<Event>, Teller) {
    inspected_at(world, boards, config, TIMING)
}

fn inspected_at(
    world: &World,
    boards: &[Arc<Mutex<Board>>],
    config: Config,
    timing: Timing,
) -> (Line, mpsc::Receiver<Event>, Teller) {
    let benches = boards
        .iter()
        .enumerate()
        .map(|(n, b)| ((n + 1).to_string(), Box::new(FakeBench(Arc::clone(b))) as Box<dyn Bench>))
        .collect();
    let ((tell, told), (begins, begun)) = (mpsc::channel(), mpsc::channel());
    let inspector = Arc::new(Told(Mutex::new((told, begins))));
    let records = Arc::new(world.fakes.clone());
    let desk = (LabelDesk::default(), inspector as Arc<dyn Inspect>);
    let config = Config { image: Some(world.image.clone()), name: "test".into(), ..config };
    let line = Line::with_inspector(records.clone(), records, &config, benches, timing, desk).unwrap();
    let events = line.subscribe();
    (line, events, Teller { tell, begun })
}

fn attempts(world: &World) -> usize {
    world.fakes.0.lock().unwrap().attempts.len()
}

/// Several looks at a fixture pass, with whatever they set going.
fn some_looks(board: &Arc<Mutex<Board>>, n: u32) {
    let until = board.lock().unwrap().looks + n;
    wait_for("looks", || board.lock().unwrap().looks >= until);
}

/// A rule of the line, not of the window: whoever starts a unit, by hand or by putting it in, it does not begin while a check fails.
#[test]
fn no_board_starts_while_a_check_fails() {
    let world = World::new();
    let (line, events, tell) = inspected(&world, &[Arc::clone(&world.board)], Config::default());
    line.send(Command::SelectBatch("B1".into()));
    line.send(Command::Start(0));
    wait_for("it waits for the look at the station", || line.snapshot().fixtures[0].held);
    assert!(line.snapshot().preflight.checking);
    tell.begun();
    // A start that waits can be cancelled, and is void when another batch is chosen.
    line.send(Command::Cancel(0));
    assert_eq!(finished(&events, 1)[0].2, Some(FailureCode::Cancelled));
    line.send(Command::Start(0));
    line.send(Command::SelectBatch("B1".into()));
    assert_eq!(finished(&events, 1)[0].2, Some(FailureCode::Cancelled));
    line.send(Command::Start(0));
    tell.send(Vec::new());
    tell.send(vec![failing(Name::Disk, FailureCode::DiskFull, None)]);
    assert_eq!(finished(&events, 1)[0].2, Some(FailureCode::DiskFull), "what the first look said is void");
    wait_for("the snapshot says it", || {
        let preflight = &line.snapshot().preflight;
        !preflight.checking && preflight.stops(0).is_some()
    });
    line.send(Command::StartAll);
    assert_eq!(finished(&events, 1)[0], ("1".into(), Outcome::Error, Some(FailureCode::DiskFull)));
    line.send(Command::AutoStart(true));
    some_looks(&world.board, 4);
    assert_eq!(attempts(&world), 0);
    assert_eq!(line.snapshot().fixtures[0].starts, None);
    // Somebody has seen to it: the board that lies there starts by itself.
    line.send(Command::CheckAgain);
    tell.send(Vec::new());
    assert_eq!(finished(&events, 1)[0].1, Outcome::Pass);
    assert_eq!(attempts(&world), 1);
}

/// What is wrong with one fixture stops that one; what QA ordered needs no batch to be ready.
#[test]
fn a_check_of_one_fixture_stops_that_one_only() {
    let world = World::new();
    let second = Board::blank();
    second.lock().unwrap().chip.unit = OTHER;
    let (line, events, tell) = inspected(&world, &[Arc::clone(&world.board), second], Config::default());
    line.send(Command::SelectBatch("B1".into()));
    line.send(Command::StartAll);
    tell.send(vec![failing(Name::Port, FailureCode::PortMissing, Some(0))]);
    let mut ends = finished(&events, 2);
    ends.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(ends[0], ("1".into(), Outcome::Error, Some(FailureCode::PortMissing)));
    assert_eq!(ends[1], ("2".into(), Outcome::Pass, None));
    let work = Work::Reprovision { unit: UID, update: None };
    line.send(Command::StartFor { fixture: 0, batch: "B1".into(), work });
    assert_eq!(finished(&events, 1)[0].1, Outcome::Pass);
}

/// What fails is looked at again by the clock; as long as nothing is new, nobody is told and nothing is painted.
#[test]
fn a_look_that_the_clock_asked_for_is_told_if_it_is_news() {
    let world = World::new();
    let timing = Timing { check_again: Duration::from_millis(5), ..TIMING };
    let (line, events, tell) = inspected_at(&world, &[Arc::clone(&world.board)], Config::default(), timing);
    wait_for("the board is seen", || line.snapshot().fixtures[0].present == Some(true));
    line.send(Command::SelectBatch("B1".into()));
    let full = || {
        let mut check = failing(Name::Disk, FailureCode::DiskFull, None);
        check.detail = format!("{:?}", std::time::Instant::now());
        vec![check]
    };
    tell.begun();
    tell.send(full());
    // The first of the clock's own has begun: what the batch's choice changed is told.
    tell.begun();
    let painted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&painted);
    line.on_change(Box::new(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }));
    for _ in 0..5 {
        tell.send(full());
        tell.begun();
        assert!(!line.snapshot().preflight.checking);
    }
    assert_eq!(painted.load(std::sync::atomic::Ordering::Relaxed), 0);
    let preflights = |events: &mpsc::Receiver<Event>| {
        events.try_iter().filter(|e| matches!(e, Event::Preflight { .. })).count()
    };
    assert_eq!(preflights(&events), 1);
    // Whoever starts now waits for the look that is under way.
    line.send(Command::Start(0));
    wait_for("it waits", || line.snapshot().fixtures[0].held);
    tell.send(Vec::new());
    assert_eq!(finished(&events, 1)[0].1, Outcome::Pass);
}

/// A check that breaks off is a check that failed.
#[test]
fn a_look_at_the_station_that_breaks_off_stops_the_line_and_says_so() {
    struct Broken;
    impl Inspect for Broken {
        fn inspect(&self, _: &Question) -> Vec<Check> {
            panic!("a defect")
        }
    }
    let world = World::new();
    let records = Arc::new(world.fakes.clone());
    let benches = vec![("1".into(), Box::new(FakeBench(Arc::clone(&world.board))) as Box<dyn Bench>)];
    let desk = (LabelDesk::default(), Arc::new(Broken) as Arc<dyn Inspect>);
    let config = Config { image: Some(world.image.clone()), ..Config::default() };
    let line = Line::with_inspector(records.clone(), records, &config, benches, TIMING, desk).unwrap();
    let events = line.subscribe();
    line.send(Command::SelectBatch("B1".into()));
    line.send(Command::Start(0));
    assert_eq!(finished(&events, 1)[0].2, Some(FailureCode::NotChecked));
    assert_eq!(attempts(&world), 0);
}

/// Once per insertion: what lay there when the station began was not put in, what stays in is done, what comes back starts again.
#[test]
fn auto_start_starts_what_was_put_in_and_nothing_twice() {
    let world = World::new();
    let mut config = Config::default();
    (config.line.auto_start, config.line.debounce) = (true, Duration::from_millis(30));
    let (line, events, tell) = inspected(&world, &[Arc::clone(&world.board)], config);
    line.send(Command::SelectBatch("B1".into()));
    tell.send(Vec::new());
    some_looks(&world.board, 4);
    assert_eq!((attempts(&world), line.snapshot().auto_start), (0, true), "nobody put it in");
    world.board.lock().unwrap().powered = false;
    wait_for("it is gone", || line.snapshot().fixtures[0].present == Some(false));
    world.board.lock().unwrap().power_cycle();
    assert_eq!(finished(&events, 1)[0].1, Outcome::Pass);
    some_looks(&world.board, 3);
    assert_eq!(attempts(&world), 1, "it stays in");
    world.board.lock().unwrap().powered = false;
    wait_for("it is gone", || line.snapshot().fixtures[0].present == Some(false));
    world.board.lock().unwrap().erased();
    world.board.lock().unwrap().chip.unit = OTHER;
    world.board.lock().unwrap().power_cycle();
    assert_eq!(finished(&events, 1)[0].1, Outcome::Pass);
    assert_eq!(attempts(&world), 2);
}

#[test]
fn dropping_the_line_ends_what_runs_with_a_record() {
    let world = World::with(Trouble::Silent);
    let (line, events) = line(&world, &[Arc::clone(&world.board)], 0);
    line.send(Command::SelectBatch("B1".into()));
    line.send(Command::Start(0));
    wait_for("the start", || events.try_iter().any(|e| matches!(e, Event::Identified { .. })));
    drop(line);
    let book = world.fakes.0.lock().unwrap();
    assert!(book.attempts[0].outcome.is_some());
}
