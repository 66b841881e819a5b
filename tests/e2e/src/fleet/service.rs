//! The other end: the embedded agent on its records and its local cloud platform, behind two UDP sockets.

use super::unit_id;
use keywright::agent::{Agent, EmbeddedAgent, FrameContext, PlatformCloud};
use keywright::anchors::Anchors;
use keywright::config::{CloudConfig, CloudKind};
use keywright::model::{BatchId, UnitId};
use keywright::records::{NewProductOrder, OpenOptions, Records, SqliteRecords, system_clock};
use keywright::secrets::{KdfCost, Passphrase};
use keywright_protocol::exchange::agent::Incoming;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

/// The URL in the units' records.
const CLOUD: &str = "mqtt://keywright.local:1883";
/// Receive buffer asked for: a thousand frames that arrive at once must wait somewhere.
const RECEIVE_BUFFER: usize = 4 << 20;

/// As many open files as this process may have: every unit has a socket.
pub(super) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Best effort: too few is told by the socket that can't be had.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// An agent in a folder of its own, with one order and one batch.
pub struct Office {
    home: tempfile::TempDir,
    records: SqliteRecords,
    agent: EmbeddedAgent,
    batch: BatchId,
    stage_one: Vec<u8>,
    later_ms: Arc<AtomicI64>,
}

impl Office {
    /// A fresh office that may enrol `units` units under `suite`. `cost` is what its passphrase costs to stretch.
    pub fn new(units: u32, suite: u8, cost: KdfCost) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let (later_ms, clock) = (Arc::new(AtomicI64::new(0)), system_clock());
        let later = later_ms.clone();
        let options = OpenOptions {
            cost,
            clock: Arc::new(move || clock() + later.load(Ordering::Relaxed)),
            ..OpenOptions::new("fleet")
        };
        let path = home.path().join("station.db");
        let records = SqliteRecords::open_with(&path, options, &Passphrase::demo()).expect("records");
        let anchors = Anchors::init(home.path(), &records.station_key(), &[7]).expect("anchors");
        let order = NewProductOrder {
            name: "PO-FLEET".into(),
            model: "KW-GATEWAY-429".into(),
            hw_revision: "B".into(),
            part_number: "PN-1".into(),
            quantity: units,
            region: 7,
            suite,
            cloud_url: CLOUD.into(),
            lock: false,
            per_hour: 0,
            ..NewProductOrder::default()
        };
        let po = records.create_product_order(order).expect("an order").id;
        let batch = records.create_batch(po, "B-FLEET", units).expect("a batch").id;
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let local =
            CloudConfig { name: "local".into(), url: CLOUD.into(), kind: CloudKind::Local { listen } };
        let cloud = PlatformCloud::new(home.path(), "fleet", &[local], records.clone());
        let agent = EmbeddedAgent::new(records.clone(), anchors, Arc::new(cloud));
        let stage_one = agent.stage_one_record(po).expect("the stage one record");
        Self { home, records, agent, batch, stage_one, later_ms }
    }

    /// What the line writes into key area B of every unit.
    pub fn stage_one(&self) -> &[u8] {
        &self.stage_one
    }

    /// Its records.
    pub fn records(&self) -> &SqliteRecords {
        &self.records
    }

    /// Frames that the agent dropped without an answer.
    pub fn dropped(&self) -> u64 {
        self.agent.dropped()
    }

    /// Lets time pass for the agent.
    pub fn pass_time(&self, time: Duration) {
        let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        self.later_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Size of the database with its log.
    pub fn database_bytes(&self) -> u64 {
        let size = |name| std::fs::metadata(self.home.path().join(name)).map_or(0, |m| m.len());
        size("station.db") + size("station.db-wal")
    }

    /// These units arrive at the station: the line's work, not the agent's.
    pub fn arrive(&self, numbers: std::ops::Range<u32>) {
        let numbers: Vec<u32> = numbers.collect();
        std::thread::scope(|scope| {
            // Many callers share a commit.
            for part in numbers.chunks(numbers.len().div_ceil(32).max(1)) {
                scope.spawn(move || {
                    for n in part {
                        let attempt =
                            self.records.begin_attempt(self.batch, "fixture-1", "op").expect("begins");
                        self.records.bind_unit(attempt, unit_id(*n)).expect("binds");
                    }
                });
            }
        });
    }

    fn answer(&self, unit: UnitId, frame: &[u8]) -> Option<Vec<u8>> {
        let context = FrameContext { batch: self.batch, unit, attempt: None };
        match self.agent.handle(context, frame) {
            Ok(handled) => handled.reply,
            // The unit asks again; a benchmark must not hide it.
            Err(failure) => {
                eprintln!("{unit}: {failure}");
                None
            }
        }
    }
}

/// Where a service listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// For units on a line: the id that the station read, then the frame.
    pub line: SocketAddr,
    /// For units in the field: the frame. The unit is the one that the frame claims; the agent checks it.
    pub field: SocketAddr,
}

/// An office that answers on loopback.
pub struct Service {
    addresses: Addresses,
    stop: Arc<AtomicBool>,
    workers: Vec<std::thread::JoinHandle<()>>,
}

impl Service {
    /// Answers with `workers` threads a socket: that many units at most share one commit.
    pub fn start(office: &Arc<Office>, workers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let mut listen = |on_line: bool| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
            // Best effort: what does not fit is lost, and sent again.
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
            socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
            let address = socket.local_addr().expect("an address");
            let socket = Arc::new(socket);
            for _ in 0..workers {
                let (office, socket, stop) = (office.clone(), socket.clone(), stop.clone());
                threads.push(std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        serve_one(&office, &socket, on_line);
                    }
                }));
            }
            address
        };
        let addresses = Addresses { line: listen(true), field: listen(false) };
        Self { addresses, stop, workers: threads }
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

fn serve_one(office: &Office, socket: &UdpSocket, on_line: bool) {
    let mut buffer = [0; 2048];
    // A time-out is how a worker sees that it is to stop.
    let Ok((len, from)) = socket.recv_from(&mut buffer) else { return };
    let bytes = &buffer[..len];
    let asked = if on_line {
        bytes.split_first_chunk().map(|(id, frame)| (UnitId(*id), frame))
    } else {
        claimed(bytes).map(|unit| (unit, bytes))
    };
    let Some((unit, frame)) = asked else { return };
    if let Some(reply) = office.answer(unit, frame) {
        // Lost if the network is full; the unit asks again.
        let _ = socket.send_to(&reply, from);
    }
}

/// The unit that an update's frame is of, by its own word.
fn claimed(frame: &[u8]) -> Option<UnitId> {
    match Incoming::peek(frame).ok()? {
        Incoming::Request { kc, .. } => Some(UnitId(kc.as_unit().0.0)),
        Incoming::Confirm { unit, .. } => Some(UnitId(unit.0)),
    }
}
