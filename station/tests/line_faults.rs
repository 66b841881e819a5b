//! Brokers, disks and serial lines that fail while a unit is at work on the line. The unit is the real firmware on a flash in memory
//! ([`board`]); records, agent, brokers and the line's worker are the product's own. What must hold, whatever fails: the attempt ends
//! with a code that says who erred; what the unit holds, the station knows; the next start finishes it; at rest its broker lets exactly
//! one identity in.
#![cfg(unix)]

#[path = "support/board.rs"]
mod board;
#[path = "support/mosquitto.rs"]
mod mosquitto;
#[path = "support/proxy.rs"]
mod proxy;
mod support;

use board::{Board, Fixture, Mischief};
use keywright::agent::{Agent, EmbeddedAgent, PlatformCloud};
use keywright::anchors::Anchors;
use keywright::cloud::{
    Ack, Credential, Endpoint, Health, Identity, LocalConfig, LocalPlatform, MosquittoConfig,
    MosquittoPlatform, Notices, Platform, Room, Standing, Ticket, try_login,
};
use keywright::config::{CloudConfig, CloudKind};
use keywright::failure::{Failure, FailureCode};
use keywright::image::synthetic;
use keywright::line::bench::Cancel;
use keywright::line::worker::{Order, Timing, Worker};
use keywright::line::{Event, Update, Work};
use keywright::model::*;
use keywright::records::{OpenOptions, Records, SqliteRecords};
use keywright::secrets::Passphrase;
use keywright_protocol::{CloudKey, crypto};
use mosquitto::{AGENT, AGENT_PASSWORD, Broker, LONG, eventually};
use proxy::{Manner, Proxy};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{AT, Rng, new_order, options};

/// For attempts that must pass: nothing waits so long on the good path.
const PATIENT: Timing = Timing {
    answer: LONG,
    ask_again: Duration::from_millis(20),
    exchange: LONG,
    suspicious: Duration::from_secs(1),
    pause: Duration::from_millis(1),
    cloud: LONG,
    power: LONG,
    scan: LONG,
    check_again: Duration::from_secs(15),
};
/// For attempts that can't pass while the fault lasts. The unit lives fifty times as fast.
const HASTY: Timing = Timing { cloud: Duration::from_secs(3), ..PATIENT };
/// How long the agent waits for a broker that is at fault.
const SOON: Duration = Duration::from_millis(500);

// ---- a plant ------------------------------------------------------------------------------------------------------

/// The station's own broker, found by its units through a proxy.
struct Behind {
    broker: LocalPlatform,
    door: Endpoint,
}

impl Platform for Behind {
    fn name(&self) -> &'static str {
        self.broker.name()
    }
    fn endpoint(&self) -> Endpoint {
        self.door.clone()
    }
    fn stage(&self, unit: UnitId, generation: u32, credential: Credential) -> Ticket {
        self.broker.stage(unit, generation, credential)
    }
    fn commit(&self, unit: UnitId, generation: u32) -> Ticket {
        self.broker.commit(unit, generation)
    }
    fn retire(&self, unit: UnitId, generation: u32) -> Ticket {
        self.broker.retire(unit, generation)
    }
    fn withdraw(&self, unit: UnitId, generation: u32) -> Ticket {
        self.broker.withdraw(unit, generation)
    }
    fn block(&self, unit: UnitId) -> Ticket {
        self.broker.block(unit)
    }
    fn unblock(&self, unit: UnitId) -> Ticket {
        self.broker.unblock(unit)
    }
    fn send(&self, unit: UnitId, rest: &str, payload: &[u8]) -> Ticket<Ack> {
        self.broker.send(unit, rest, payload)
    }
    fn accepted(&self, unit: UnitId) -> Ticket<BTreeSet<u32>> {
        self.broker.accepted(unit)
    }
    fn standing(&self, unit: UnitId) -> Standing {
        self.broker.standing(unit)
    }
    fn notices(&self) -> Notices {
        self.broker.notices()
    }
    fn health(&self) -> Health {
        self.broker.health()
    }
    fn stop(&self) {
        self.broker.stop();
    }
}

enum Kind {
    Local(Room),
    Mosquitto(Arc<Mutex<Broker>>),
}

/// What outlives a station: its folder, its brokers, and the proxy before them.
struct Plant {
    home: tempfile::TempDir,
    image: PathBuf,
    batch: Batch,
    kind: Kind,
    proxy: Arc<Proxy>,
}

/// How a station is started.
#[derive(Clone, Copy, Default)]
struct How {
    /// The agent waits this long for a broker; `None`: as long as it takes.
    patience: Option<Duration>,
    /// Room on the records' disk.
    max_pages: Option<u32>,
    /// Units and agent reach the broker without the proxy.
    direct: bool,
}

const HASTE: How = How { patience: Some(SOON), max_pages: None, direct: false };

impl Plant {
    fn new(suite: u8, kind: Kind) -> Self {
        let home = tempfile::tempdir().unwrap();
        let records = support::open(home.path());
        Anchors::init(home.path(), &records.station_key(), &[7]).unwrap();
        let order = new_order("PO-1", 100, suite);
        let image = synthetic::write(home.path(), &order.model).unwrap();
        let po = records.create_product_order(order).unwrap();
        let batch = records.create_batch(po.id, "B1", 100).unwrap();
        let to = match &kind {
            Kind::Local(_) => ([127, 0, 0, 1], 1).into(),
            Kind::Mosquitto(broker) => ([127, 0, 0, 1], broker.lock().unwrap().port).into(),
        };
        Self { home, image, batch, kind, proxy: Arc::new(Proxy::new(to)) }
    }

    fn local(suite: u8) -> Self {
        Self::new(suite, Kind::Local(Room::default()))
    }

    fn mosquitto() -> Self {
        Self::new(2, Kind::Mosquitto(Arc::new(Mutex::new(Broker::new()))))
    }

    fn broker(&self) -> Arc<Mutex<Broker>> {
        let Kind::Mosquitto(broker) = &self.kind else { panic!("this plant has no Mosquitto") };
        broker.clone()
    }

    fn room(&self) -> Room {
        let Kind::Local(room) = &self.kind else { panic!("Mosquitto's ledger has all the room there is") };
        room.clone()
    }

    fn ledger(&self) -> PathBuf {
        self.home.path().join("cloud/plant.journal")
    }

    /// Starts a station here; the one before has to be gone.
    fn station(&self, how: How) -> Station<'_> {
        let home = self.home.path();
        let mut records = None;
        eventually("the station before gives up its records", || {
            let options = OpenOptions { max_pages: how.max_pages, ..options() };
            records = SqliteRecords::open_with(&home.join("station.db"), options, &Passphrase::demo()).ok();
            records.is_some()
        });
        let records = records.unwrap();
        // On a full disk that waits for the next start.
        let _ = records.close_interrupted();
        let (platform, door) = self.platform(home, how.direct);
        let config = CloudConfig {
            name: "plant".into(),
            url: AT.into(),
            kind: CloudKind::Local { listen: self.proxy.address },
        };
        let cloud = PlatformCloud::new(home, "bench-1", &[config], records.clone());
        let cloud = cloud.with_patience(how.patience.unwrap_or(LONG));
        cloud.adopt(AT, platform.clone()).unwrap();
        let anchors = Anchors::open(home, &records.station_key()).unwrap();
        let agent = Arc::new(EmbeddedAgent::new(records.clone(), anchors, Arc::new(cloud)));
        Station { plant: self, records, agent, platform, door }
    }

    /// The platform, and the way in for those who want to see what the broker itself does.
    fn platform(&self, home: &Path, direct: bool) -> (Arc<dyn Platform>, Endpoint) {
        match &self.kind {
            Kind::Local(room) => {
                let config = LocalConfig { room: room.clone(), ..LocalConfig::new(self.ledger()) };
                let broker = LocalPlatform::start(&config).unwrap();
                self.proxy.lead_to(broker.address());
                let door = Endpoint::plain(broker.address());
                (Arc::new(Behind { broker, door: Endpoint::plain(self.proxy.address) }), door)
            }
            Kind::Mosquitto(broker) => {
                let door = broker.lock().unwrap().endpoint();
                let ca = std::fs::read(mosquitto::certificates().join("ca.pem")).unwrap();
                let behind = Endpoint::tls("localhost", self.proxy.address.port(), &ca).unwrap();
                let way = if direct { door.clone() } else { behind };
                let password = Credential::from_password(AGENT_PASSWORD.into());
                let ledger = home.join("cloud/plant.journal");
                let config = MosquittoConfig {
                    timeout: Duration::from_secs(2),
                    ..MosquittoConfig::new(ledger, way, AGENT, password)
                };
                (Arc::new(MosquittoPlatform::start(config).unwrap()), door)
            }
        }
    }
}

/// A station that runs.
struct Station<'a> {
    plant: &'a Plant,
    records: SqliteRecords,
    agent: Arc<EmbeddedAgent>,
    platform: Arc<dyn Platform>,
    door: Endpoint,
}

/// A moment of an attempt, by the words that the line says then.
type Moment = fn(&str) -> bool;

impl Station<'_> {
    /// One attempt; `at` is done when the line first says what `moment` waits for, before anything else happens.
    fn attempt(
        &self,
        board: &Arc<Mutex<Board>>,
        work: &Work,
        timing: Timing,
        moment: Moment,
        at: impl FnOnce() + Send + 'static,
    ) -> Result<(), Failure> {
        let at = Mutex::new(Some(at));
        let mut worker = Worker {
            fixture: "1".into(),
            bench: Box::new(Fixture(board.clone())),
            records: Arc::new(self.records.clone()),
            agent: self.agent.clone(),
            image: Some(self.plant.image.clone()),
            timing,
            labels: keywright::label::LabelDesk::default(),
            events: Box::new(move |event| {
                if let Event::Progress { label, .. } = &event
                    && moment(label)
                    && let Some(at) = at.lock().unwrap().take()
                {
                    at();
                }
            }),
        };
        let order = Order { batch: self.plant.batch.clone(), operator: "op".into(), work: work.clone() };
        let ended = worker.run(&order, &Cancel::default());
        if let Some(unit) = ended.unit {
            self.knows_what_it_holds(unit, board);
        }
        ended.failure.map_or(Ok(()), Err)
    }

    /// Nothing that was answered is lost: every key in the unit's record is in the station's books.
    fn knows_what_it_holds(&self, unit: UnitId, board: &Arc<Mutex<Board>>) {
        let id = |key: &[u8]| hex::encode(&crypto::sha256(&[b"keywright/key-id/v1", key])[..8]);
        let held = board.lock().unwrap().record(|view, _| {
            let agent = view.agent_key().map(|(g, key)| ("agent", g.0, id(key.expose())));
            let cloud = view.cloud_key().map(|(g, key)| ("cloud", g.0, id(key.expose())));
            [agent, cloud]
        });
        let sql = rusqlite::Connection::open(self.plant.home.path().join("station.db")).unwrap();
        for key in held.into_iter().flatten().flatten() {
            let known = sql.query_row(
                "SELECT count(*) FROM key_assignment k JOIN unit u ON u.id = k.unit
                 WHERE u.uid = ?1 AND k.purpose = ?2 AND k.generation = ?3 AND k.key_id = ?4",
                (unit.0, key.0, key.1, &key.2),
                |row| row.get(0),
            );
            assert_eq!(known, Ok(1), "{key:?} is in no book");
        }
    }

    fn passes(&self, board: &Arc<Mutex<Board>>, work: &Work) {
        if let Err(failure) = self.attempt(board, work, PATIENT, |_| false, || ()) {
            panic!("the fault is over: {failure}");
        }
        self.at_rest(board);
    }

    /// One identity, on every side: the unit's flash, the records, the ledger, and logins at the broker itself.
    fn at_rest(&self, board: &Arc<Mutex<Board>>) {
        let unit = Fixture(board.clone()).attached();
        let standing = self.agent.standing(unit).unwrap();
        assert_eq!((standing.cloud_staged, standing.cloud_leaving), (0, 0), "{standing:?}");
        let held = board.lock().unwrap().record(|view, owes| {
            assert!(!owes, "it owes nothing");
            (view.agent_key().map_or(0, |k| k.0.0), view.cloud_key().map_or(0, |k| k.0.0))
        });
        assert_eq!(held, Some((standing.agent_key, standing.cloud_key)));
        let keys = self.records.key_vault().unit_keys(unit).unwrap();
        let (agent, cloud) = (keys.agent.expect("an agent key"), keys.cloud.expect("a cloud key"));
        assert_eq!((agent.generation, cloud.generation), (standing.agent_key, standing.cloud_key));

        let accepted = self.platform.accepted(unit).wait(LONG).unwrap();
        assert_eq!(accepted, BTreeSet::from([cloud.generation]), "by the broker's own word");
        let key = Credential::of(&CloudKey::new(cloud.key.expose()).unwrap());
        let identity = Identity { unit, generation: cloud.generation };
        assert!(try_login(&self.door, identity, &key, LONG).unwrap(), "its key opens");
        let past = self.platform.standing(unit).highest() - 1;
        assert_eq!(self.agent.try_old_credentials(unit), Ok(past.min(4)), "and no key of before");
        self.records.verify_history().unwrap();
    }
}

impl Fixture {
    fn attached(mut self) -> UnitId {
        use keywright::line::bench::Bench;
        self.attach().unwrap().unit
    }
}

fn bare(n: u32) -> Arc<Mutex<Board>> {
    Board::bare(support::unit_id(n), u64::from(n) + 1)
}

fn cloud_key() -> Work {
    Work::Update(Update { cloud_key: true, ..Update::default() })
}

fn agent_key() -> Work {
    Work::Update(Update { agent_key: true, ..Update::default() })
}

/// Before the broker hears of a new cloud key, in an enrolment and in an update.
const BEFORE_STAGE: Moment = |label| {
    label.starts_with("agent key") && label.ends_with("active")
        || label.starts_with("asking the unit to renew")
};
/// The broker lets old and new in; the unit has not been told.
const BEFORE_ISSUED: Moment = |label| label.starts_with("cloud key") && label.ends_with("issued");
const AFTER_COMMIT: Moment = |label| label.starts_with("cloud key") && label.ends_with("active");
const LOGIN: Moment = |label| label == "waiting for its login at the cloud";

/// The failure blames the broker, and its remedy says so.
fn blames_the_broker(failure: &Failure, code: FailureCode) {
    println!("{failure}");
    assert_eq!(failure.code, code, "{failure}");
    assert!(failure.remedy.contains("broker"), "{failure}");
}

// ---- the broker ---------------------------------------------------------------------------------------------------

/// Mosquitto away, deaf, hanging up, or refusing the agent, when an enrolment and an update are about to stage or to commit.
#[test]
fn a_broker_that_fails_the_agent_ends_the_attempt_and_the_next_one_converges() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fault {
        Gone,
        Through(Manner),
        Refuses,
    }
    let faults = [
        (Fault::Gone, FailureCode::BrokerUnreachable),
        (Fault::Through(Manner::HangsUp), FailureCode::BrokerUnreachable),
        (Fault::Through(Manner::Deaf), FailureCode::BrokerUnreachable),
        (Fault::Refuses, FailureCode::CloudRefused),
    ];
    std::thread::scope(|scope| {
        for (n, (fault, code)) in (1..).zip(faults) {
            scope.spawn(move || {
                let plant = Plant::mosquitto();
                let board = bare(n);
                let direct = fault == Fault::Gone;
                for (work, moment) in
                    [(Work::Make, BEFORE_STAGE), (cloud_key(), BEFORE_STAGE), (cloud_key(), BEFORE_ISSUED)]
                {
                    let (broker, proxy) = (plant.broker(), plant.proxy.clone());
                    let account = |what: &str| {
                        format!(r#"{{"commands":[{{"command":"{what}Client","username":"{AGENT}"}}]}}"#)
                    };
                    let disable = account("disable");
                    let station = plant.station(How { direct, ..HASTE });
                    let failure = station.attempt(&board, &work, PATIENT, moment, move || match fault {
                        Fault::Gone => broker.lock().unwrap().kill(),
                        Fault::Through(manner) => proxy.set(manner),
                        Fault::Refuses => broker.lock().unwrap().administer(&disable),
                    });
                    blames_the_broker(&failure.expect_err("the broker failed"), code);
                    drop(station);
                    match fault {
                        Fault::Gone => plant.broker().lock().unwrap().start(),
                        Fault::Through(_) => plant.proxy.set(Manner::Through),
                        Fault::Refuses => plant.broker().lock().unwrap().administer(&account("enable")),
                    }
                    plant.station(How { direct, ..How::default() }).passes(&board, &work);
                }
            });
        }
    });
}

/// Mosquitto restarted at each moment of an activation: the attempt waits for it and passes. A slow one only costs time.
#[test]
fn a_broker_that_restarts_in_the_middle_of_an_activation_costs_nothing() {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let plant = Plant::mosquitto();
            let station = plant.station(How { direct: true, ..How::default() });
            let board = bare(1);
            for (n, moment) in [BEFORE_STAGE, BEFORE_ISSUED, AFTER_COMMIT, LOGIN].into_iter().enumerate() {
                let work = if n == 0 { Work::Make } else { cloud_key() };
                let broker = plant.broker();
                let restart = move || {
                    let mut broker = broker.lock().unwrap();
                    broker.kill();
                    broker.start();
                };
                if let Err(failure) = station.attempt(&board, &work, PATIENT, moment, restart) {
                    panic!("restarted at moment {n}: {failure}");
                }
                station.at_rest(&board);
            }
        });
        scope.spawn(|| {
            let plant = Plant::mosquitto();
            let station = plant.station(How::default());
            let board = bare(2);
            for work in [Work::Make, cloud_key()] {
                let proxy = plant.proxy.clone();
                let slow = move || proxy.set(Manner::Slow(Duration::from_millis(100)));
                station.attempt(&board, &work, PATIENT, BEFORE_STAGE, slow).unwrap();
                plant.proxy.set(Manner::Through);
                station.at_rest(&board);
            }
        });
    });
}

/// The unit can't log in: its broker hangs up or never answers. And one that cuts a login short now and then is only tried again.
#[test]
fn a_broker_that_fails_the_unit_is_blamed_and_one_that_stumbles_is_tried_again() {
    std::thread::scope(|scope| {
        for (n, manner) in [(1, Manner::HangsUp), (2, Manner::Deaf)] {
            scope.spawn(move || {
                let plant = Plant::local(2);
                let station = plant.station(How::default());
                let board = bare(n);
                for work in [Work::Make, cloud_key()] {
                    let proxy = plant.proxy.clone();
                    // Before the restart that the proof begins with: no session of before tells of a birth.
                    let moment: Moment = |label| label == "restarting";
                    let failure = station.attempt(&board, &work, HASTY, moment, move || proxy.set(manner));
                    blames_the_broker(&failure.expect_err("it can't log in"), FailureCode::BrokerUnreachable);
                    plant.proxy.set(Manner::Through);
                    station.passes(&board, &work);
                }
            });
        }
        scope.spawn(|| {
            let plant = Plant::local(2);
            let station = plant.station(How::default());
            let board = bare(3);
            for work in [Work::Make, cloud_key()] {
                plant.proxy.cut([0, 60, 130, 200]);
                station.passes(&board, &work);
            }
        });
    });
}

// ---- the disk -----------------------------------------------------------------------------------------------------

/// The ledger's disk fills up before a stage and before a commit, the last write torn: K605, and nothing is told to the broker that the
/// ledger does not have. With room again the waiting request goes through, or a station that was started anew asks again.
#[test]
fn a_ledger_on_a_full_disk_keeps_its_word_and_goes_on_when_there_is_room() {
    let cases = [
        (BEFORE_STAGE, 0, false),
        (BEFORE_STAGE, 40, true),
        (BEFORE_ISSUED, 0, true),
        (BEFORE_ISSUED, 90, false),
    ];
    std::thread::scope(|scope| {
        for (n, (moment, left, restarted)) in (1..).zip(cases) {
            scope.spawn(move || {
                let plant = Plant::local(2);
                let board = bare(n);
                // One that goes on must get its answers in time.
                let patience = if restarted { SOON } else { SOON * 6 };
                for work in [Work::Make, cloud_key()] {
                    let mut station = plant.station(How { patience: Some(patience), ..How::default() });
                    let (room, ledger) = (plant.room(), plant.ledger());
                    let fill = move || room.set(std::fs::metadata(&ledger).unwrap().len() + left);
                    let failure = station.attempt(&board, &work, PATIENT, moment, fill);
                    let failure = failure.expect_err("no room");
                    assert_eq!(failure.code, FailureCode::RecordsFailed, "{failure}");
                    assert!(failure.sentence.contains("the disk is full"), "{failure}");
                    if restarted {
                        drop(station);
                        plant.room().set(u64::MAX);
                        station = plant.station(How::default());
                    } else {
                        plant.room().set(u64::MAX);
                        eventually("the waiting request goes through", || {
                            station.platform.health().cause.is_none()
                        });
                    }
                    station.passes(&board, &work);
                }
            });
        }
    });
}

/// The records' disk has room for so many pages more and no further: wherever that ends an enrolment or an update, the failure says what
/// is wrong, what was answered stands, and with room again the same unit goes on.
#[test]
fn records_on_a_full_disk_lose_nothing_and_go_on_when_there_is_room() {
    let plant = Plant::local(1);
    let mut stopped = BTreeSet::new();
    let mut rng = Rng(5);
    for n in 1..=12 {
        let board = bare(n);
        for work in [Work::Make, cloud_key()] {
            let sql = rusqlite::Connection::open(plant.home.path().join("station.db")).unwrap();
            let pages: u32 = sql.query_row("PRAGMA page_count", [], |r| r.get(0)).unwrap();
            drop(sql);
            let more = rng.below(3) as u32;
            let station = plant.station(How { max_pages: Some(pages + more), ..HASTE });
            if let Err(failure) = station.attempt(&board, &work, PATIENT, |_| false, || ()) {
                assert_eq!(failure.code, FailureCode::RecordsFailed, "{failure}");
                assert!(failure.sentence.contains("free some space"), "{failure}");
                let unit = support::unit_id(n);
                let last = station.records.unit_events(unit).unwrap().pop().map(|event| event.kind);
                stopped.insert(format!("{work:?} behind {last:?}"));
                station.records.verify_history().unwrap();
            }
            drop(station);
            plant.station(How::default()).passes(&board, &work);
        }
    }
    println!("{stopped:#?}");
    assert!(stopped.len() >= 4, "it filled up at different moments: {stopped:#?}");
}

// ---- the line -----------------------------------------------------------------------------------------------------

/// An enrolment and both updates over a line that loses, damages, repeats, reorders and delays packets, each by itself and all at once,
/// both ways, the broker's included.
#[test]
fn every_key_change_gets_over_a_bad_line() {
    let mut lines: Vec<(String, [u64; 5])> = Mischief::ALL
        .into_iter()
        .map(|what| {
            let mut noise = [0; 5];
            noise[what as usize] = 20;
            (format!("{what:?}"), noise)
        })
        .collect();
    lines.push(("everything".into(), [6; 5]));
    std::thread::scope(|scope| {
        for (n, (name, noise)) in (1..).zip(lines) {
            scope.spawn(move || {
                let plant = Plant::local(1 + (n % 2) as u8);
                let station = plant.station(How::default());
                let board = bare(n);
                for (work, what) in [(Work::Make, "INIT"), (agent_key(), "AKU"), (cloud_key(), "CKU")] {
                    board.lock().unwrap().noise = noise;
                    let result = station.attempt(&board, &work, PATIENT, |_| false, || ());
                    if let Err(failure) = result {
                        panic!("{what} over a line with {name}: {failure}");
                    }
                    board.lock().unwrap().noise = [0; 5];
                    station.at_rest(&board);
                }
                let happened = board.lock().unwrap().happened;
                println!("{name}: {happened:?}");
                assert!(noise.iter().zip(happened).all(|(p, count)| (*p > 0) == (count > 0)), "{happened:?}");
            });
        }
    });
}
