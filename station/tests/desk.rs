//! QA's desk on a station's real records and real agent; only the line is a stand-in.

mod support;

use keywright::agent::Agent;
use keywright::desk::{Act, Command, Decision, Desk, DeskHandle, Search, Snapshot, Told};
use keywright::failure::{Failure, FailureCode};
use keywright::line::{self, Event, Step, Update, Work};
use keywright::model::*;
use keywright::records::{Records, UnitBook};
use keywright::traveler::{Form, Group};
use keywright_protocol::{Purpose, Suite};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use support::{AT, Device, Station, new_order, unit_id};

struct World {
    station: Station,
    device: Device,
    desk: Desk,
    /// What the desk told the line, and how many orders were open then.
    told_line: Arc<Mutex<Vec<(line::Command, usize)>>>,
    line: mpsc::Sender<Event>,
}

impl World {
    /// One unit that passed.
    fn new() -> Self {
        let station = Station::new(2, 2);
        let id = unit_id(1);
        station.arrive(id);
        let mut device = station.device(id, Suite::Hardened, 2);
        station.complete(&mut device);
        pass(&station, &device);
        let told_line = Arc::new(Mutex::new(Vec::new()));
        let (line, events) = mpsc::channel();
        let (kept, records) = (told_line.clone(), station.records.clone());
        let start = move |command| {
            let open = records.reprovisions(id).unwrap().iter().filter(|o| o.ended_at_ms.is_none()).count();
            kept.lock().unwrap().push((command, open));
        };
        let fixtures = vec!["left".to_owned(), "right".to_owned()];
        let records = Arc::new(station.records.clone());
        let folder = Some(station.home.path().join("travelers"));
        let desk =
            Desk::with_folder(records, station.agent.clone(), fixtures, start, events, None, None, folder)
                .unwrap();
        Self { station, device, desk, told_line, line }
    }

    fn id(&self) -> UnitId {
        self.device.id
    }

    fn until(&self, what: &str, done: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let snapshot = self.desk.snapshot();
            if done(&snapshot) {
                return snapshot;
            }
            assert!(Instant::now() < deadline, "{what}: {:?}", snapshot.told);
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }

    fn find(&self, name: &str) -> Arc<Snapshot> {
        self.desk.send(Command::Leave);
        self.until("put away", |s| s.file.is_none() && s.told == Told::Nothing);
        self.desk.send(Command::Find(name.into()));
        self.until("an answer", |s| s.file.is_some() || matches!(s.told, Told::Failed(_)))
    }

    fn decide(&self, act: Act, reason: &str, fixture: Option<usize>) {
        let (reason, operator) = (reason.to_owned(), "ana".to_owned());
        let (number, note) = ("RMA-7".to_owned(), String::new());
        self.desk.send(Command::Decide(Decision {
            unit: self.id(),
            act,
            reason,
            operator,
            fixture,
            number,
            note,
        }));
    }

    fn done(&self, words: &str) -> Arc<Snapshot> {
        self.until(words, |s| matches!(&s.told, Told::Done(told) if told.contains(words)))
    }

    fn failed(&self, code: FailureCode) -> Failure {
        let snapshot =
            self.until("a failure", |s| matches!(&s.told, Told::Failed(failure) if failure.code == code));
        match &snapshot.told {
            Told::Failed(failure) => failure.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn ends(&self, attempt: i64, failure: Option<Failure>, qa: Option<UnitId>) {
        let finished = Event::Finished {
            fixture: "right".into(),
            attempt: AttemptId(attempt),
            unit: Some(self.id()),
            serial: None,
            outcome: failure.as_ref().map_or(Outcome::Pass, Failure::outcome),
            failure,
            step_seconds: [0.0; Step::ALL.len()],
            seconds: 1.0,
            qa,
        };
        self.line.send(finished).unwrap();
    }
}

/// Proves the unit's keys and records the PASS.
fn pass(station: &Station, device: &Device) {
    let attempt = station.arrive(device.id);
    let proof = device.prove(&[3; 32]);
    let record = station.agent.check_proof(station.context(device.id), &[3; 32], &proof).unwrap();
    station.records.finish_attempt(attempt, Outcome::Pass, None, Some(&record)).unwrap();
}

#[test]
fn a_unit_is_found_by_what_a_scanner_or_a_person_types() {
    let world = World::new();
    let serial = world.station.records.unit(world.id()).unwrap().unwrap().serial;
    let id = world.id().to_string();
    for name in [&id, &id.to_uppercase(), &format!(" {serial}\r\n"), &serial.to_lowercase()] {
        let snapshot = world.find(name);
        let file = snapshot.file.as_ref().unwrap_or_else(|| panic!("{name:?}: {:?}", snapshot.told));
        assert_eq!((file.unit.id, file.batch.name.as_str(), file.keys.living()), (world.id(), "B1", 2));
        assert_eq!(file.attempts.len(), 2);
        assert!(file.events.windows(2).all(|w| w[0].seq > w[1].seq), "newest first");
    }
    let mut mistyped = serial.clone();
    mistyped.replace_range(serial.len() - 2..serial.len() - 1, "7");
    for (name, word) in [
        (mistyped.as_str(), "mistyped"),
        ("ffffffffffffffffffffff01", "was ever here"),
        ("nonsense", "\"nonsense\""),
    ] {
        let snapshot = world.find(name);
        assert!(snapshot.file.is_none());
        let Told::Failed(failure) = &snapshot.told else { panic!("{:?}", snapshot.told) };
        assert!(failure.sentence.contains(word), "{}", failure.sentence);
    }
}

#[test]
fn new_keys_stand_as_an_order_before_the_board_starts_and_stay_open_until_they_are_proved() {
    let mut world = World::new();
    let id = world.id();
    world.find(&id.to_string());
    world.decide(Act::NewKeys, " ", Some(1));
    world.failed(FailureCode::InvalidInput);
    world.decide(Act::NewKeys, "RMA 7", None);
    world.failed(FailureCode::InvalidInput);
    assert!(world.told_line.lock().unwrap().is_empty(), "nothing was started");

    world.decide(Act::NewKeys, "RMA 7", Some(1));
    let snapshot = world.until("a job", |s| s.job.is_some());
    assert!(matches!(&snapshot.told, Told::Working(words) if words.contains("right")), "{:?}", snapshot.told);
    assert_eq!(snapshot.file.as_ref().unwrap().open_order().unwrap().reason, "RMA 7");
    let update = Some(Update { agent_key: true, cloud_key: true, ..Update::default() });
    let work = Work::Reprovision { unit: id, update };
    let start = line::Command::StartFor { fixture: 1, batch: "B1".into(), work };
    assert_eq!(*world.told_line.lock().unwrap(), [(start, 1)], "the order stood before");
    world.decide(Act::NewStart, "changed my mind", Some(0));
    assert!(world.failed(FailureCode::InvalidInput).sentence.contains("in work for QA"));

    // Another unit's end is not its end.
    world.ends(5, None, None);
    world.ends(6, Some(Failure::new(FailureCode::DeviceSilent, "")), Some(id));
    assert!(world.failed(FailureCode::DeviceSilent).sentence.contains("its order stays open"));
    let snapshot = world.until("no job", |s| s.job.is_none());
    assert!(snapshot.file.as_ref().unwrap().open_order().is_some());

    // The same again, and the unit gets its keys this time.
    world.decide(Act::NewKeys, "RMA 7", Some(1));
    world.until("a job", |s| s.job.is_some());
    let (station, device) = (&world.station, &mut world.device);
    device.goal.extend([Purpose::AgentKeyUpdate, Purpose::CloudKeyUpdate]);
    station.complete(device);
    pass(station, device);
    world.ends(7, None, Some(id));
    let snapshot = world.done("agent key 2 and cloud key 2");
    let file = snapshot.file.as_ref().unwrap();
    assert!(file.open_order().is_none() && file.orders[0].done);
    assert_eq!((file.keys.agent_key, file.keys.cloud_key), (2, 2));
}

#[test]
fn a_board_that_could_not_start_is_told() {
    let world = World::new();
    world.find(&world.id().to_string());
    world.decide(Act::NewKeys, "RMA 8", Some(1));
    world.until("a job", |s| s.job.is_some());
    world.ends(
        0,
        Some(Failure::new(FailureCode::Cancelled, "another unit runs in the fixture")),
        Some(world.id()),
    );
    assert!(world.failed(FailureCode::Cancelled).sentence.contains("did not start"));
    world.decide(Act::Withdraw, "wrong unit", None);
    let snapshot = world.done("has no open order");
    assert!(snapshot.file.as_ref().unwrap().open_order().is_none());
    let events = &snapshot.file.as_ref().unwrap().events;
    assert_eq!(
        (events[0].kind.as_str(), events[0].detail["reason"].as_str()),
        ("reprovision-withdrawn", Some("wrong unit"))
    );
}

#[test]
fn a_new_start_kills_the_keys_before_the_board_is_touched() {
    let world = World::new();
    let key = world.device.view(world.device.preferred()).unwrap().cloud_key().unwrap().1;
    let cloud = world.station.agent.cloud().clone();
    assert!(cloud.connect(AT, world.id(), 1, &key).unwrap().accepted);
    world.find(&world.id().to_string());
    world.decide(Act::NewStart, "erased in repair", Some(0));
    world.until("a job", |s| s.job.is_some());
    assert!(!cloud.connect(AT, world.id(), 1, &key).unwrap().accepted);
    let told = world.told_line.lock().unwrap();
    assert!(
        matches!(
            &told[0].0,
            line::Command::StartFor { fixture: 0, work: Work::Reprovision { update: None, .. }, .. }
        ),
        "{told:?}"
    );
}

#[test]
fn setting_aside_letting_back_and_scrapping_reach_the_cloud_and_start_nothing() {
    let world = World::new();
    let key = world.device.view(world.device.preferred()).unwrap().cloud_key().unwrap().1;
    let cloud = world.station.agent.cloud().clone();
    let opens = || cloud.connect(AT, world.id(), 1, &key).unwrap().accepted;
    world.find(&world.id().to_string());
    for (act, words, state, lets_in) in [
        (Act::Quarantine, "is set aside", UnitState::Quarantined, false),
        (Act::Release, "is out of quarantine", UnitState::Passed, true),
        (Act::Scrap, "is taken out for ever", UnitState::Scrapped, false),
    ] {
        world.decide(act, "sample", None);
        let snapshot = world.done(words);
        assert_eq!(snapshot.file.as_ref().unwrap().unit.state, state);
        assert_eq!(opens(), lets_in, "{act:?}");
    }
    world.decide(Act::Release, "x", None);
    world.failed(FailureCode::InvalidInput);
    assert!(world.told_line.lock().unwrap().is_empty());
}

#[test]
fn alarms_come_by_themselves_and_go_when_somebody_looked() {
    let world = World::new();
    let (woken, wakes) = mpsc::channel();
    let woken = Mutex::new(woken);
    world.desk.on_change(Box::new(move || {
        let _ = woken.lock().unwrap().send(());
    }));
    assert!(world.desk.snapshot().alarms.is_empty());
    // Somebody imitates the unit.
    let mut other = world.station.device(world.id(), Suite::Hardened, 99);
    world.station.handle(world.id(), &other.tick().unwrap());
    let snapshot = world.until("an alarm", |s| !s.alarms.is_empty());
    assert_eq!(snapshot.alarms[0].alarm.kind, "another-identity");
    assert!(snapshot.alarms[0].serial.is_some());
    assert!(wakes.try_iter().count() > 0, "the window is woken");
    world.desk.send(Command::SeeAlarm { id: snapshot.alarms[0].alarm.id, operator: "ana".into() });
    world.until("no alarm", |s| s.alarms.is_empty());
    assert_eq!(world.station.records.list_alarms(true).unwrap()[0].seen.as_ref().unwrap().0, "ana");
}

#[test]
fn a_unit_that_another_program_changes_is_read_again() {
    let world = World::new();
    world.find(&world.id().to_string());
    world.station.agent.quarantine(world.id(), "from the command line", "qa").unwrap();
    world.until("its new state", |s| s.file.as_ref().is_some_and(|f| f.unit.state == UnitState::Quarantined));
}

/// The window's other half: orders and batches, on real records.
#[test]
fn the_office_enters_orders_decides_about_batches_and_takes_lists() {
    use keywright::config::Config;
    use keywright::office::{Command as Ask, Office};
    use keywright::orders::{Draft, Field};
    let station = Station::new(2, 2);
    let records: Arc<dyn UnitBook> = Arc::new(station.records.clone());
    let read_key = Arc::new(|_: &std::path::Path| Ok(keywright::secrets::Secret::from_bytes([0x5a; 32])));
    let office = Office::new(records.clone(), Config::default(), Box::new(|| vec![7]), read_key);
    let (_line, events) = mpsc::channel();
    let desk =
        Desk::with_office(records, station.agent.clone(), vec![], |_| {}, events, Some(office)).unwrap();
    let until = |what: &str, done: &dyn Fn(&Snapshot) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !done(&desk.snapshot()) {
            assert!(Instant::now() < deadline, "{what}: {:?}", desk.snapshot().told);
            std::thread::park_timeout(Duration::from_millis(2));
        }
        desk.snapshot()
    };
    let ask = |command| desk.send(Command::Office(command));
    let told = |words: &str| {
        until(words, &|s| match &s.told {
            Told::Done(told) => told.contains(words),
            Told::Failed(failure) => failure.sentence.contains(words),
            _ => false,
        })
    };
    let operator = || "ana".to_owned();
    assert!(desk.snapshot().office.known.orders.is_empty(), "nobody looks");
    ask(Ask::Watch(true));
    let seen = until("the numbers", &|s| s.office.known.batches.len() == 1);
    assert!(seen.office.printer.as_ref().unwrap().is_err(), "there is no printer");
    let draft = Draft::default()
        .with(Field::Name, "PO-W")
        .with(Field::Model, "KW-METER")
        .with(Field::Quantity, 20)
        .with(Field::Region, 7)
        .with(Field::Batch, "W-1")
        .with(Field::BatchQuantity, 5);
    ask(Ask::NewOrder { draft: draft.clone(), product_key: Some("key.age".into()), operator: operator() });
    told("PO-W and its batch W-1");
    let seen = until("it is shown", &|s| s.office.file.as_ref().is_some_and(|f| f.batch.name == "W-1"));
    let file = seen.office.file.clone().unwrap();
    assert_eq!((file.counts.planned, file.events.len()), (5, 2));
    assert_eq!(file.events[1].detail["product_key"], "imported");
    ask(Ask::NewOrder { draft, product_key: None, operator: operator() });
    told("there is an order PO-W already");
    let clone = Draft::like_batch(&file.batch).with(Field::Batch, "W-2");
    ask(Ask::NewBatch {
        order: "PO-W".into(),
        draft: clone,
        clone_of: Some("W-1".into()),
        operator: operator(),
    });
    told("Batch W-2 is open");
    let set = |state, reason: &str| {
        ask(Ask::SetState { batch: "W-2".into(), state, operator: operator(), reason: reason.into() });
    };
    set(BatchState::Closed, "not needed");
    told("W-2 is closed");
    set(BatchState::Open, "");
    told("wants a reason");
    set(BatchState::Open, "needed after all");
    told("W-2 is open");
    let seen = until("its timeline", &|s| s.office.file.as_ref().is_some_and(|f| f.events.len() == 4));
    assert_eq!(seen.office.file.as_ref().unwrap().events[0].reason, "needed after all");
    let list = station.home.path().join("orders.csv");
    let rows = "name,model,quantity,region\nPO-X,KW,5,7\nPO-W,KW,5,7\n";
    std::fs::write(&list, rows).unwrap();
    ask(Ask::ReadList(list.clone()));
    let seen = until("the list", &|s| s.office.list.is_some());
    assert_eq!(
        seen.office.list.as_ref().unwrap().errors,
        ["row 3, column name: there is an order PO-W already"]
    );
    std::fs::write(&list, rows.replace("PO-W", "PO-Y")).unwrap();
    ask(Ask::ReadList(list));
    until("the list", &|s| s.office.list.as_ref().is_some_and(|l| l.errors.is_empty() && l.orders == 2));
    // Somebody was faster: the list stays, and says so with the form's own number.
    let again = Draft::default()
        .with(Field::Name, "PO-Y")
        .with(Field::Model, "KW")
        .with(Field::Quantity, 1)
        .with(Field::Region, 7);
    ask(Ask::NewOrder { draft: again, product_key: None, operator: operator() });
    let seen = told("Order PO-Y is entered");
    assert!(seen.office.list.is_some());
    desk.send(Command::Ask(41, Ask::TakeList { operator: operator() }));
    let seen = until("the answer", &|s| s.office.answer.as_ref().is_some_and(|a| a.ticket == 41));
    assert_eq!(seen.office.answer.as_ref().unwrap().refused.as_ref().unwrap().code, FailureCode::NameTaken);
    assert_eq!(seen.office.list.as_ref().unwrap().orders, 2);
    assert!(station.records.product_order_by_name("PO-X").is_err(), "all of it or nothing");
    let list = station.home.path().join("orders.csv");
    std::fs::write(&list, rows.replace("PO-W", "PO-Z")).unwrap();
    ask(Ask::ReadList(list));
    until("the list", &|s| {
        s.office.list.as_ref().is_some_and(|l| l.errors.is_empty() && l.rows[1][0] == "PO-Z")
    });
    ask(Ask::TakeList { operator: operator() });
    let seen = told("2 orders were taken");
    assert!(seen.office.list.is_none());
    // An order that has no batch is shown as well.
    ask(Ask::ChooseOrder("PO-Y".into()));
    let seen = until("the order", &|s| s.office.order.as_ref().is_some_and(|o| o.order.name == "PO-Y"));
    let file = seen.office.order.as_ref().unwrap();
    assert_eq!((file.left(), file.events.len(), file.enrolled.units), (1, 1, 0));
    assert!(seen.office.file.is_none(), "one thing at a time");
    ask(Ask::Expect { order: "PO-Y".into(), per_hour: 90, operator: operator() });
    until("the rate", &|s| s.office.order.as_ref().is_some_and(|o| o.order.per_hour == 90));
    ask(Ask::Reach { order: "PO-Y".into(), since_ms: 5 });
    let seen = until("the numbers", &|s| s.office.reached.as_ref().is_some_and(|r| r.since_ms == 5));
    assert_eq!(seen.office.reached.as_ref().unwrap().reach.units, 0);
    let leaked = Ask::Invalidate {
        order: "PO-Y".into(),
        since_ms: 5,
        reason: "seen on a forum".into(),
        operator: operator(),
    };
    ask(leaked);
    told("PO-Y counts for nothing: 0 units");
    assert!(station.records.product_order_by_name("PO-Y").unwrap().key_invalid_at_ms.is_some());
    let case = Draft::default().with(Field::Batch, "w-1").with(Field::BatchQuantity, 1);
    ask(Ask::NewBatch { order: "PO-W".into(), draft: case, clone_of: None, operator: operator() });
    told("differ in more than case");
    assert!(station.records.product_order_by_name("PO-Z").is_ok());
    ask(Ask::TestLabel { operator: operator() });
    told("no label printer");
}

/// Labels beside the line: a reprint makes the old reading void, and can be read back without a fixture.
#[test]
fn a_label_that_is_printed_again_is_compared_again() {
    use keywright::label::{Printer, Sink, Template, code_of, hand};
    let world = World::new();
    let records = &world.station.records;
    let unit = || records.unit(world.id()).unwrap().unwrap();
    let out = world.station.home.path().join("label");
    let command = vec!["cp".to_owned(), "$file".into(), out.display().to_string()];
    let template = Template::parse("^XA^FH^FD$code^FS^XZ").unwrap();
    let printer = Printer::new(template, Sink::Command(command), Duration::from_secs(30));
    let (code, labels) = hand::print(records, &printer, &unit(), "mia").unwrap();
    assert_eq!(labels, 1);
    assert!(std::fs::read_to_string(&out).unwrap().contains(&code.to_string()));
    assert!(hand::waits(&records.label_facts(world.id()).unwrap()));
    let read = hand::read_back(records, &unit(), &code.to_string(), "mia").unwrap();
    assert!(read.scanned_at_ms.is_some() && !hand::waits(&read));
    hand::print(records, &printer, &unit(), "mia").unwrap();
    assert!(hand::waits(&records.label_facts(world.id()).unwrap()), "another label lies there now");
    let other = keywright::label::LabelCode::new(&unit().serial, &"00".repeat(32)).unwrap().to_string();
    let wrong = hand::read_back(records, &unit(), &other, "mia").unwrap_err();
    assert_eq!(wrong.code, FailureCode::LabelMismatch);
    assert_eq!(
        hand::read_back(records, &unit(), "4006381333931", "mia").unwrap_err().code,
        FailureCode::LabelUnreadable
    );
    let newest = records.unit_events(world.id()).unwrap().pop().unwrap();
    assert_eq!((newest.kind.as_str(), &newest.detail["read"]), ("label-mismatch", &other.into()));
    // One in quarantine must be told from its neighbours; one that never comes back must not look as if it did.
    world.station.agent.quarantine(world.id(), "scratched", "qa").unwrap();
    hand::print(records, &printer, &unit(), "mia").unwrap();
    hand::read_back(records, &unit(), &code.to_string(), "mia").unwrap();
    world.station.agent.scrap(world.id(), "burnt", "qa").unwrap();
    assert_eq!(hand::print(records, &printer, &unit(), "mia").unwrap_err().code, FailureCode::Scrapped);
    let scrapped = hand::read_back(records, &unit(), &code.to_string(), "mia").unwrap_err();
    assert_eq!(scrapped.code, FailureCode::Scrapped);
    assert_eq!(records.label_facts(world.id()).unwrap().prints, 3);
    assert_eq!(code_of(&records.label_facts(world.id()).unwrap()).unwrap(), code);
}

#[test]
fn a_unit_is_found_by_the_code_on_its_label() {
    let station = Station::new(1, 2);
    station.arrive(unit_id(1));
    let serial = station.records.unit(unit_id(1)).unwrap().unwrap().serial;
    let code = keywright::label::LabelCode::new(&serial, &"ab".repeat(32)).unwrap().to_string();
    for text in [code.clone(), code.to_lowercase(), serial] {
        let found = keywright::desk::find(&station.records, &text).unwrap();
        assert_eq!(found.map(|u| u.id), Some(unit_id(1)), "{text}");
    }
    assert!(keywright::desk::find(&station.records, &code.replace("KW1", "KW2")).unwrap().is_none());
}

/// A serial has the letters of its batch's name; a scanner that raises the case finds it all the same, and never another one.
#[test]
fn a_serial_in_small_letters_is_found_by_a_scanner_that_raises_the_case() {
    let station = Station::new(1, 2);
    let records = &station.records;
    let po = records.create_product_order(new_order("PO-P", 5, 2)).unwrap().id;
    let batch = records.create_batch(po, "pilot-b", 1).unwrap();
    let attempt = records.begin_attempt(batch.id, "f", "Ana").unwrap();
    let serial = records.bind_unit(attempt, unit_id(7)).unwrap().serial;
    let find = |text: &str| keywright::desk::find(records, text).unwrap().map(|u| u.id);
    assert!(serial.starts_with("pilot-b-"));
    for text in [serial.to_uppercase(), serial.to_lowercase(), serial] {
        assert_eq!(find(&text), Some(unit_id(7)), "{text}");
    }
}

fn search(number: u64, text: &str) -> Command {
    Command::Search(Search { number, text: text.into(), ..Search::default() })
}

#[test]
fn a_search_is_answered_by_its_number_and_an_overtaken_one_is_passed_over() {
    let world = World::new();
    let serial = world.station.records.unit(world.id()).unwrap().unwrap().serial;
    // Nobody waits for the first hundred: each is overtaken by the next.
    for number in 1..=100 {
        world.desk.send(search(number, "nothing like it"));
    }
    world.desk.send(search(101, &serial[2..6]));
    let snapshot = world.until("an answer", |s| s.search.as_ref().is_some_and(|a| a.search.number == 101));
    let answer = snapshot.search.as_ref().unwrap();
    assert_eq!((answer.found.count, answer.found.units[0].id), (1, world.id()));
    // An older one that comes late changes nothing.
    world.desk.send(search(7, "late"));
    world.desk.send(search(102, "nothing"));
    let snapshot = world.until("an answer", |s| s.search.as_ref().is_some_and(|a| a.search.number == 102));
    assert_eq!(snapshot.search.as_ref().unwrap().found.count, 0);
    let only = Search { number: 103, states: vec![UnitState::Passed], ..Search::default() };
    world.desk.send(Command::Search(only));
    let snapshot = world.until("an answer", |s| s.search.as_ref().is_some_and(|a| a.search.number == 103));
    assert_eq!(snapshot.search.as_ref().unwrap().found.count, 1);
}

#[test]
fn a_unit_is_taken_back_and_closed_without_a_board() {
    let world = World::new();
    world.find(&world.id().to_string());
    world.decide(Act::CloseRma, "a fuse", None);
    world.failed(FailureCode::NoRma);
    world.decide(Act::OpenRma, "does not start", None);
    let snapshot = world.done("came back under RMA-7");
    assert_eq!(snapshot.file.as_ref().unwrap().open_rma().unwrap().reason, "does not start");
    world.decide(Act::OpenRma, "does not start", None);
    world.failed(FailureCode::RmaOpen);
    world.decide(Act::CloseRma, "a fuse", None);
    let snapshot = world.done("is closed under RMA-7");
    let file = snapshot.file.as_ref().unwrap();
    assert!(file.open_rma().is_none() && file.rmas[0].closed.as_ref().is_some_and(|c| c.finding == "a fuse"));
    assert!(world.told_line.lock().unwrap().is_empty(), "no board was started");
}

/// What the unit says of itself, as the worker writes it down.
fn reports(world: &World, region: u32) {
    let record = world.station.records.unit_record(world.id()).unwrap().unwrap();
    let said = serde_json::json!({
        "unit": world.id(), "firmware": record.firmware, "protocol": 1, "stage": 5, "suite": 2, "area_a": 2, "area_b": 0,
        "generation": record.unit.generation, "agent_key": 1, "cloud_key": 1, "region": region,
        "order": hex::encode(world.station.po.po16()), "last_failure": 0, "reset_cause": 4, "uptime_ms": 9, "ram_high_water": 9,
        "cloud": 2,
    });
    world.station.records.unit_event(world.id(), None, "reported", said, None).unwrap();
}

#[test]
fn a_retest_and_a_comparison_start_the_board_and_tell_what_came_of_it() {
    let world = World::new();
    let id = world.id();
    world.find(&id.to_string());
    world.decide(Act::Retest, "", Some(0));
    world.failed(FailureCode::InvalidInput);
    assert!(world.told_line.lock().unwrap().is_empty(), "without a reason nothing starts");
    world.decide(Act::Retest, "came back", Some(1));
    let snapshot = world.until("a job", |s| s.job.is_some());
    assert_eq!(snapshot.job.as_ref().unwrap().act, Act::Retest);
    assert_eq!(snapshot.file.as_ref().unwrap().events[0].kind, "retest-ordered", "before the board");
    let start = line::Command::StartFor { fixture: 1, batch: "B1".into(), work: Work::Retest(id) };
    assert_eq!(*world.told_line.lock().unwrap(), [(start, 0)]);
    world.ends(8, Some(Failure::new(FailureCode::ProofFailed, "")), Some(id));
    assert!(world.failed(FailureCode::ProofFailed).sentence.contains("did not pass its retest"));
    world.decide(Act::Retest, "came back", Some(1));
    world.until("a job", |s| s.job.is_some());
    reports(&world, 7);
    world.ends(9, None, Some(id));
    let snapshot = world.done("proved its keys again");
    assert_eq!(snapshot.file.as_ref().unwrap().events[0].kind, "compared");
    // A comparison needs no reason, and says which fields differ.
    world.decide(Act::Compare, "", Some(0));
    world.until("a job", |s| s.job.is_some());
    reports(&world, 8);
    world.ends(0, None, Some(id));
    assert!(world.failed(FailureCode::UnitDiffers).sentence.contains("1 fields"));
    let snapshot = world.until("no job", |s| s.job.is_none());
    let (_, comparison) = keywright::compare::newest(snapshot.file.as_ref().unwrap()).unwrap();
    assert_eq!(comparison.differing().count(), 1);
    assert!(matches!(
        world.told_line.lock().unwrap().last(),
        Some((line::Command::StartFor { work: Work::Compare(_), .. }, 0))
    ));
}

#[test]
fn a_traveler_is_saved_where_the_station_keeps_them() {
    let world = World::new();
    world.desk.send(Command::SaveTraveler { groups: Vec::new(), form: Form::Csv });
    world.failed(FailureCode::InvalidInput);
    world.find(&world.id().to_string());
    world.desk.send(Command::SaveTraveler { groups: vec![Group::Attempt], form: Form::Json });
    let snapshot = world.done("The traveler of");
    let Told::Done(words) = &snapshot.told else { panic!() };
    let path = words.split_once(": ").unwrap().1;
    let saved: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(saved["lines"].as_array().unwrap().iter().all(|l| l["group"] == "attempt"));
}
