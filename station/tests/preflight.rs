//! The preflight of a station that runs: all is well, and then each thing that a shift needs is taken away.

mod support;

use keywright::agent::{EmbeddedAgent, PlatformCloud};
use keywright::anchors::Anchors;
use keywright::config::{CloudConfig, CloudKind, Config, Fixture};
use keywright::failure::FailureCode;
use keywright::image::synthetic;
use keywright::label::{LabelConfig, LabelDesk, Printer, Sink};
use keywright::model::{LabelPolicy, ProductOrder};
use keywright::preflight::{Check, Inspect, Name, Question, StationInspector, Status};
use keywright::records::Records;
use std::sync::Arc;
use std::time::Duration;
use support::Station;

struct World {
    station: Station,
    inspector: StationInspector,
    order: ProductOrder,
}

impl World {
    fn new() -> Self {
        let station = Station::new(5, 2);
        let home = station.home.path().to_path_buf();
        let image = synthetic::write(&home, &station.po.model).expect("an image");
        // A file stands in for a serial port: it can be opened as one is.
        let port = home.join("port");
        std::fs::write(&port, "").expect("written");
        let serial = port.display().to_string();
        let fixture = |name: &str| Fixture {
            name: name.into(),
            probe: format!("0483:374b:{name}"),
            serial: serial.clone(),
        };
        let fixtures = vec![fixture("left"), fixture("right")];
        let config = Config { image: Some(image), ..Config::default() };
        let inspector = StationInspector {
            home,
            records: Arc::new(station.records.clone()),
            agent: station.agent.clone(),
            labels: LabelDesk::new(Printer::open(&config)),
            config,
            fixtures,
        };
        let order = ProductOrder { lock: true, ..station.po.clone() };
        Self { station, inspector, order }
    }

    fn look(&self, idle: &[usize]) -> Vec<Check> {
        let question =
            Question { batch: self.station.batch.clone(), order: self.order.clone(), idle: idle.to_vec() };
        self.inspector.inspect(&question)
    }

    /// The one thing that is not in order.
    fn wrong(&self) -> (Name, Status, FailureCode) {
        let checks = self.look(&[0, 1]);
        let wrong: Vec<_> = checks.iter().filter(|c| c.status != Status::Ok).collect();
        let [check] = &wrong[..] else { panic!("one of {wrong:#?}") };
        let failure = check.failure.as_ref().expect("a failure");
        assert!(!failure.remedy.is_empty() && check.remedy.as_ref().is_some_and(|r| !r.is_empty()));
        (check.name, check.status, failure.code)
    }

    fn printer(&mut self, template: &str, sink: Sink) {
        let path = self.inspector.home.join("label.zpl");
        std::fs::write(&path, template).expect("written");
        let limit = Duration::from_secs(5);
        self.inspector.config.label = Some(LabelConfig { template: path, sink, timeout: limit });
    }
}

const LABEL: &str = "^XA^FH^FD$code^FS^XZ";

#[test]
fn all_is_well_and_every_thing_was_looked_at() {
    let world = World::new();
    let checks = world.look(&[0, 1]);
    assert!(checks.iter().all(|c| c.status == Status::Ok && c.failure.is_none()), "{checks:#?}");
    let names: Vec<_> = checks.iter().map(|c| c.name.as_str()).collect();
    let all = [
        "home",
        "disk",
        "database",
        "image",
        "product-key",
        "agent",
        "broker",
        "lock",
        "port",
        "port",
        "clock",
    ];
    assert_eq!(names, all);
    // The port of a fixture at work is in use, and in order.
    let ports = |idle: &[usize]| world.look(idle).iter().filter_map(|c| c.fixture).collect::<Vec<_>>();
    assert_eq!((ports(&[0, 1]), ports(&[1]), ports(&[])), (vec![0, 1], vec![1], vec![]));
    assert_eq!(world.station.count("SELECT count(*) FROM attempt"), 0, "it leaves nothing behind");
}

#[test]
fn each_thing_that_an_order_needs_is_missed_by_its_name() {
    let mut world = World::new();
    let order = world.order.clone();
    world.order.image_sha256 = Some("ab".repeat(32));
    assert_eq!(world.wrong(), (Name::Image, Status::Fail, FailureCode::ImageChanged));
    world.order = ProductOrder { key_invalid_at_ms: Some(1), ..order.clone() };
    assert_eq!(world.wrong(), (Name::ProductKey, Status::Warn, FailureCode::ProductKeyInvalid));
    world.order = ProductOrder { region: 9, ..order.clone() };
    assert_eq!(world.wrong(), (Name::Agent, Status::Fail, FailureCode::AnchorsMissing));
    world.order = ProductOrder { cloud_url: "mqtt://elsewhere:1883".into(), ..order.clone() };
    assert_eq!(world.wrong(), (Name::Broker, Status::Fail, FailureCode::CloudRefused));
    world.order = ProductOrder { lock: false, ..order.clone() };
    assert_eq!(world.wrong(), (Name::Lock, Status::Warn, FailureCode::UnitsStayOpen), "work may begin");
    world.order = order;
    let app = world.inspector.home.join("app.bin");
    let whole = std::fs::read(&app).expect("read");
    std::fs::write(&app, &whole[..whole.len() - 1]).expect("written");
    assert_eq!(world.wrong(), (Name::Image, Status::Fail, FailureCode::ImageTruncated));
    std::fs::write(&app, whole).expect("written");
    let stop = "CREATE TRIGGER stop BEFORE UPDATE ON session BEGIN SELECT raise(FAIL, 'no space'); END";
    world.station.sql().execute_batch(stop).expect("a trigger");
    assert_eq!(world.wrong(), (Name::Database, Status::Fail, FailureCode::RecordsFailed));
    world.station.sql().execute_batch("DROP TRIGGER stop").expect("dropped");
    world.inspector.fixtures[1].serial = world.inspector.home.join("gone").display().to_string();
    if cfg!(unix) {
        assert_eq!(world.wrong(), (Name::Port, Status::Fail, FailureCode::PortMissing));
        let checks = world.look(&[0, 1]);
        assert_eq!((0..2).map(|i| checks.iter().any(|c| c.stops(i))).collect::<Vec<_>>(), [false, true]);
    }
}

#[test]
fn the_printer_is_looked_at_as_the_order_wants_it_and_again_after_the_remedy() {
    let mut world = World::new();
    world.order.label = LabelPolicy::ScanBack;
    assert_eq!(world.wrong(), (Name::Label, Status::Fail, FailureCode::PrinterMissing));
    let dead = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("an address");
    world.printer(LABEL, Sink::Tcp(dead.to_string()));
    assert_eq!(world.wrong(), (Name::Label, Status::Fail, FailureCode::PrintFailed));
    world.printer(LABEL, Sink::Command(vec!["/nonexistent/lp".into(), "$file".into()]));
    assert_eq!(world.wrong(), (Name::Label, Status::Fail, FailureCode::PrintFailed));
    let printer = std::net::TcpListener::bind("127.0.0.1:0").expect("a printer");
    world.printer("^XA^FD$code^FS", Sink::Tcp(printer.local_addr().expect("an address").to_string()));
    assert_eq!(world.wrong(), (Name::Label, Status::Fail, FailureCode::LabelTemplate));
    // A template without the code: fine to print, nothing to read back.
    std::fs::write(world.inspector.home.join("label.zpl"), "^XA^FH^FD$serial^FS^XZ").expect("written");
    assert_eq!(world.wrong(), (Name::Label, Status::Fail, FailureCode::LabelTemplate));
    world.order.label = LabelPolicy::Print;
    assert_eq!(world.wrong(), (Name::Label, Status::Warn, FailureCode::LabelTemplate));
    // Corrected while the station runs: it holds at once, for the line as well.
    world.order.label = LabelPolicy::ScanBack;
    std::fs::write(world.inspector.home.join("label.zpl"), LABEL).expect("written");
    assert!(world.look(&[0]).iter().all(|c| c.status == Status::Ok));
    assert!(world.inspector.labels.printer().expect("a printer").has_code());
    // An order without labels asks for no printer.
    world.inspector.config.label = None;
    world.order.label = LabelPolicy::None;
    assert!(world.look(&[0]).iter().all(|c| c.status == Status::Ok && c.name != Name::Label));
}

/// A broker that is away is the station's trouble and named as such, and asking again does not pile up questions.
#[test]
fn a_broker_that_does_not_answer_is_named() {
    let mut world = World::new();
    let home = world.inspector.home.clone();
    std::fs::write(home.join("password"), "secret").expect("written");
    let dead = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("an address");
    let url = format!("mqtt://{dead}");
    let kind = CloudKind::Mosquitto {
        host: dead.ip().to_string(),
        port: dead.port(),
        ca: None,
        username: "agent".into(),
        password_file: home.join("password"),
    };
    let cloud = CloudConfig { name: "plant".into(), url: url.clone(), kind };
    let records = world.station.records.clone();
    let anchors = Anchors::open(&home, &records.station_key()).expect("anchors");
    let cloud = PlatformCloud::new(&home, "bench-1", &[cloud], records.clone());
    let cloud = cloud.with_patience(Duration::from_secs(2));
    world.inspector.agent = Arc::new(EmbeddedAgent::new(records, anchors, Arc::new(cloud)));
    world.order.cloud_url = url;
    for _ in 0..2 {
        assert_eq!(world.wrong(), (Name::Broker, Status::Fail, FailureCode::BrokerUnreachable));
    }
}

/// The newest time of the records is asked of one row, not of every attempt there ever was.
#[test]
fn the_records_tell_their_newest_time() {
    let world = World::new();
    let records = &world.station.records;
    assert_eq!(records.newest_ms().expect("read"), None);
    records.begin_attempt(world.station.batch.id, "left", "Ada").expect("begun");
    let began = records.list_attempts(world.station.batch.id).expect("read")[0].started_at_ms;
    assert_eq!(records.newest_ms().expect("read"), Some(began));
}
