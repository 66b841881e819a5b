//! The agent, its brokers and one unit, joined without a probe: the real firmware on a virtual board, the real agent on real
//! records, the station's own brokers, and the station's own bridge as the unit's modem.
//!
//! Virtual time stands still while the agent or a broker works, so nothing here depends on how fast this machine is.

use crate::Dice;
use anyhow::{Context, Result, anyhow};
use keywright::agent::{Agent, EmbeddedAgent, FrameContext, PlatformCloud};
use keywright::anchors::Anchors;
use keywright::config::{CloudConfig, CloudKind};
use keywright::image::{CommonImage, StageOne};
use keywright::line::bridge::Bridge;
use keywright::model::{Batch, ProductOrder, UnitId};
use keywright::records::{NewProductOrder, OpenOptions, Records, SqliteRecords};
use keywright::secrets::{KdfCost, Passphrase};
use keywright_protocol::bridge::Packet;
use keywright_protocol::control::{Control, MAX_CONTROL, Proof, Stage, Status};
use keywright_protocol::map::FLASH_BASE;
use keywright_protocol::serial::{self, Channel, Decoder};
use keywright_virtual_board::{Activity, Board, BoardConfig, FlashStore};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// URLs by which units know the two platforms that they move between.
pub const PLACES: [&str; 2] = ["mqtt://one.torture:1883", "mqtt://two.torture:1883"];
/// One look at the unit.
const SLICE: Duration = Duration::from_millis(2);
/// One look at a unit that sleeps.
const IDLE_SLICE: Duration = Duration::from_millis(50);
/// The longest pause between two looks at what the unit says of itself.
const LONGEST: Duration = Duration::from_secs(20);
/// How long virtual time stands still for a broker's answer that may not come. Nearly all come, within a millisecond, unless this
/// machine has other things to do: then a unit that is kept waiting in its own time tries again, and everything takes longer still.
const BROKER_PATIENCE: Duration = Duration::from_secs(2);
/// The pause between two looks whether it has answered. On a busy machine, whoever sleeps is woken sooner than whoever yields.
const BROKER_BREATH: Duration = Duration::from_micros(50);

/// Records, anchors, agent, brokers and the image: what units share.
pub struct Rig {
    /// The agent.
    pub agent: Arc<EmbeddedAgent>,
    /// Its records.
    pub records: SqliteRecords,
    /// The image that is cut.
    pub image: Arc<CommonImage>,
    stage_one: StageOne,
    batch: Batch,
    /// Added to the clock of the records, in milliseconds.
    clock: Arc<AtomicI64>,
    seed: u64,
    made: u32,
    _home: tempfile::TempDir,
}

impl Rig {
    /// A station on a temporary folder, with an order under `suite`.
    pub fn new(image: &Path, suite: u8, seed: u64) -> Result<Self> {
        let home = home()?;
        let clock = Arc::new(AtomicI64::new(0));
        let offset = clock.clone();
        let options = OpenOptions {
            cost: KdfCost::TEST,
            clock: Arc::new(move || keywright::station::now_ms() + offset.load(Ordering::Relaxed)),
            ..OpenOptions::new("torture")
        };
        let records =
            SqliteRecords::open_with(&home.path().join("station.db"), options, &Passphrase::demo())?;
        let anchors = Anchors::init(home.path(), &records.station_key(), &[7])
            .map_err(|e| anyhow!("the anchors: {e}"))?;
        let order = records.create_product_order(NewProductOrder {
            name: "PO-TORTURE".into(),
            model: "KW-GATEWAY-429".into(),
            hw_revision: "A".into(),
            part_number: "KW-GATEWAY-429".into(),
            quantity: 1_000_000,
            region: 7,
            suite,
            cloud_url: PLACES[0].into(),
            lock: false,
            per_hour: 0,
        })?;
        let batch = records.create_batch(order.id, "TORTURE", order.quantity)?;
        let clouds = PLACES.map(|url| CloudConfig {
            name: url[7..10].into(),
            url: url.into(),
            kind: CloudKind::Local { listen: ([127, 0, 0, 1], 0).into() },
        });
        let cloud = PlatformCloud::new(home.path(), "torture", &clouds, records.clone());
        let agent = Arc::new(EmbeddedAgent::new(records.clone(), anchors, Arc::new(cloud)));
        let image = Arc::new(load(image, &order)?);
        let stage_one = StageOne::new(image.clone(), agent.stage_one_record(order.id)?);
        Ok(Self { agent, records, image, stage_one, batch, clock, seed, made: 0, _home: home })
    }

    /// A unit after stage one, without power: the flash as the line leaves it.
    pub fn unit(&mut self) -> Result<Subject> {
        self.made += 1;
        let config = BoardConfig::new(self.seed, self.made);
        let unit = UnitId(config.uid.0);
        let store = Arc::new(FlashStore::blank());
        for (_, address, bytes) in self.stage_one.writes() {
            store.tamper(address - FLASH_BASE, bytes);
        }
        let attempt = self.records.begin_attempt(self.batch.id, "torture", "torture")?;
        self.records.bind_unit(attempt, unit)?;
        let agent: Arc<dyn Agent> = self.agent.clone();
        Ok(Subject {
            board: Board::new(config, store),
            unit,
            context: FrameContext { batch: self.batch.id, unit, attempt: None },
            bridge: Bridge::new(agent.clone()),
            agent,
            decoder: Decoder::new(),
            noise: 0,
            dice: Dice(self.seed ^ u64::from(self.made)),
            held: None,
            serve: Serve::default(),
            status: None,
            proof: None,
            kept: Vec::new(),
            awaiting: None,
            ask_at: Duration::ZERO,
            born: Instant::now(),
            on_at: Duration::ZERO,
        })
    }

    /// Lets the agent's clock run ahead: units then raise their time floor, a write to the trust pair.
    pub fn a_day_later(&self) {
        self.clock.fetch_add(36 * 60 * 60 * 1_000, Ordering::Relaxed);
    }
}

/// A folder for the records; in memory where there is such a place, because no disk is tortured here.
fn home() -> Result<tempfile::TempDir> {
    const PREFIX: &str = "keywright-torture-";
    Ok(tempfile::TempDir::with_prefix_in(PREFIX, "/dev/shm")
        .or_else(|_| tempfile::TempDir::with_prefix(PREFIX))?)
}

fn load(path: &Path, order: &ProductOrder) -> Result<CommonImage> {
    CommonImage::load(path, order).with_context(|| format!("{}", path.display()))
}

/// Who answers the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serve {
    /// Frames go to the agent and its answers back; otherwise they are kept.
    pub agent: bool,
    /// The modem works.
    pub cloud: bool,
}

impl Default for Serve {
    fn default() -> Self {
        Self { agent: true, cloud: true }
    }
}

/// Why [`Subject::run`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// What was waited for is so.
    Done,
    /// An armed cut has struck.
    Dark,
    /// Time is over.
    Late,
}

/// One unit on the bench.
pub struct Subject {
    /// The board.
    pub board: Board,
    /// Its id.
    pub unit: UnitId,
    /// Who answers.
    pub serve: Serve,
    /// The last Status of this boot.
    pub status: Option<Status>,
    /// The last proof of this boot.
    pub proof: Option<Proof>,
    /// Frames that were not handed to the agent.
    pub kept: Vec<Vec<u8>>,
    /// How often, in percent, a packet is lost, and how often it is repeated, damaged or overtaken, each way.
    pub noise: u64,
    dice: Dice,
    held: Option<Vec<u8>>,
    context: FrameContext,
    agent: Arc<dyn Agent>,
    bridge: Bridge,
    decoder: Decoder,
    awaiting: Option<Instant>,
    ask_at: Duration,
    born: Instant,
    on_at: Duration,
}

impl Subject {
    /// Gives it power; whatever was on the wires is gone.
    pub fn power_on(&mut self) {
        self.board.cut_power();
        self.board.serial().clear();
        self.decoder.reset();
        self.held = None;
        self.bridge.hang_up();
        (self.status, self.proof, self.awaiting) = (None, None, None);
        self.kept.clear();
        self.born = Instant::now();
        self.on_at = self.board.elapsed();
        self.board.power_on();
        self.ask_at = self.board.elapsed() + Duration::from_millis(20);
    }

    /// Sends a control message.
    pub fn control(&mut self, message: &Control) {
        let mut bytes = [0; MAX_CONTROL];
        let len = message.encode(&mut bytes).expect("a control message fits");
        self.send(Channel::CONTROL, &bytes[..len]);
    }

    fn send(&mut self, channel: Channel, payload: &[u8]) {
        let mut line = vec![0; serial::encoded_len(payload.len())];
        let len = serial::encode(channel, payload, &mut line).expect("a packet fits");
        line.truncate(len);
        if self.happens() {
            return;
        }
        if self.happens() {
            let bit = self.dice.below(8 * line.len() as u64) as usize;
            line[bit / 8] ^= 1 << (bit % 8);
        }
        if self.happens() {
            self.board.serial().send(&line);
        }
        if self.held.is_none() && self.happens() {
            // The next one overtakes it.
            self.held = Some(line);
            return;
        }
        self.board.serial().send(&line);
        if let Some(late) = self.held.take() {
            self.board.serial().send(&late);
        }
    }

    fn happens(&mut self) -> bool {
        self.noise > 0 && self.dice.below(100) < self.noise
    }

    /// Hands a frame to the agent that was kept from it; the answer is lost on the way.
    pub fn replay(&mut self, frame: &[u8]) -> Result<()> {
        self.agent.handle(self.context, frame)?;
        Ok(())
    }

    /// Sends a kept frame on to the agent and its answer to the unit.
    pub fn forward(&mut self, frame: &[u8]) -> Result<()> {
        if let Some(reply) = self.agent.handle(self.context, frame)?.reply {
            self.send(Channel::AGENT, &reply);
        }
        Ok(())
    }

    /// Runs until `done`, a cut or `limit` of virtual time.
    pub fn run(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> Result<Ended> {
        let end = self.board.elapsed() + limit;
        loop {
            if done(self) {
                return Ok(Ended::Done);
            }
            if !self.board.is_powered() {
                return Ok(Ended::Dark);
            }
            if self.board.elapsed() >= end {
                return Ok(Ended::Late);
            }
            for packet in self.bridge.poll() {
                if !matches!(Packet::parse(&packet), Ok(Packet::Ack { .. })) {
                    self.awaiting = None;
                }
                self.send(Channel::TCP, &packet);
            }
            let quiet = self.board.activity() == Activity::Idle && self.board.serial().pending() == 0;
            if quiet && self.awaiting.is_some_and(|since| since.elapsed() < BROKER_PATIENCE) {
                // The broker is real, and gets real time to answer.
                std::thread::sleep(BROKER_BREATH);
                continue;
            }
            if self.board.elapsed() >= self.ask_at {
                // Asked ever less often: each request makes the unit repeat what it waits for.
                self.control(&Control::StatusRequest);
                let up = self.board.elapsed() - self.on_at;
                self.ask_at = self.board.elapsed() + (up / 4).clamp(Duration::from_millis(300), LONGEST);
            }
            self.board.run_for(if quiet { IDLE_SLICE } else { SLICE });
            self.hear()?;
        }
    }

    fn hear(&mut self) -> Result<()> {
        let mut packets = Vec::new();
        for byte in self.board.serial().take() {
            // What a board says while it loses its power may be half a packet.
            if let Some(Ok(packet)) = self.decoder.feed(byte) {
                packets.push((packet.channel, packet.payload.to_vec()));
            }
        }
        if !self.board.is_powered() {
            // What left the board before the lights went out has arrived: the agent may act on it, the unit hears no answer.
            for (channel, payload) in packets {
                if channel == Channel::AGENT && self.serve.agent {
                    self.agent.handle(self.context, &payload)?;
                }
            }
            return Ok(());
        }
        let mut heard = Vec::new();
        for packet in packets {
            if self.happens() {
                continue;
            }
            if self.happens() {
                heard.push(packet.clone());
            }
            let at = if self.happens() { heard.len().saturating_sub(1) } else { heard.len() };
            heard.insert(at, packet);
        }
        for (channel, payload) in heard {
            match channel {
                Channel::CONTROL => match Control::decode(&payload) {
                    Ok(Control::Status(status)) => self.status = Some(status),
                    Ok(Control::Proof(proof)) => self.proof = Some(proof),
                    _ => {}
                },
                Channel::AGENT if self.serve.agent => self.forward(&payload)?,
                Channel::AGENT => self.kept.push(payload),
                Channel::TCP if self.serve.cloud => {
                    // An acknowledgement is the end of a word, not a question.
                    if matches!(Packet::parse(&payload), Ok(Packet::Open { .. } | Packet::Data { .. })) {
                        self.awaiting = Some(Instant::now());
                    }
                    let (answer, _) = self.bridge.receive(self.unit, &payload);
                    if let Some(answer) = answer {
                        self.send(Channel::TCP, &answer);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Active, and nothing pending, by its own word in this boot.
    pub fn is_settled(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.stage == Stage::ACTIVE)
    }

    /// Agent and cloud key generations, by its own word in this boot.
    pub fn generations(&self) -> (u32, u32) {
        self.status.as_ref().map_or((0, 0), |s| (s.agent_key.0, s.cloud_key.0))
    }

    /// The cloud-key generation with which the unit logged in since its power came back.
    pub fn logged_in(&self) -> Option<u32> {
        self.agent.last_birth(self.unit).filter(|b| b.at >= self.born).map(|b| b.generation)
    }
}
