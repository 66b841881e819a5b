//! What keeps the window quick and honest: counts that cost one look, a database that is looked at later, and an export clerk that says
//! what it does, can be stopped, and does one thing at a time.

#[cfg(feature = "gui")]
#[path = "../examples/support/flashing.rs"]
mod flashing;
#[path = "../examples/support/million.rs"]
mod million;
mod support;

use keywright::backup;
use keywright::desk::Told;
use keywright::export::clerk::{self, Clerk, Command, ExportHandle, Order, Wanted};
use keywright::export::{ExportSigner, Format, RecordsSource, Selection};
use keywright::failure::FailureCode;
use keywright::model::BatchCounts;
use keywright::people::People;
use keywright::records::{ExportLogFilter, Records};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use support::{Station, unit_id};

/// Long enough that it only ends a test that hangs.
const HANGS: Duration = Duration::from_secs(60);

/// The header's counts are kept by triggers, so that they cost one look however large the batch. Here every unit is looked at after each
/// of many random acts, and the two agree.
#[test]
fn counts_that_are_kept_are_counts_that_are_counted() {
    let station = Station::new(100, 2);
    let (sql, batch) = (station.sql(), station.batch.id.0);
    let mut dice = support::Rng(2026);
    let counted = || {
        let mut counts = BatchCounts { planned: 100, ..BatchCounts::default() };
        let mut units = sql.prepare("SELECT id, state FROM unit WHERE batch = ?1").unwrap();
        let mut attempts =
            sql.prepare("SELECT outcome, failure_code FROM attempt WHERE unit = ?1 ORDER BY id").unwrap();
        let units = units.query_map([batch], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?))).unwrap();
        for (id, state) in units.map(Result::unwrap) {
            let runs: Vec<(Option<String>, Option<u16>)> = attempts
                .query_map([id], |r| Ok((r.get(0)?, r.get(1)?)))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            match (state.as_str(), runs.last()) {
                ("scrapped", _) => counts.scrapped += 1,
                ("passed", _) => {
                    counts.passed += 1;
                    counts.first_pass +=
                        u32::from(runs.first().is_some_and(|r| r.0.as_deref() == Some("PASS")));
                }
                ("quarantined", _) => counts.failed += 1,
                (_, None | Some((None, _) | (_, Some(607)))) => counts.in_progress += 1,
                (_, Some((Some(outcome), _))) if outcome == "PASS" => counts.in_progress += 1,
                _ => counts.failed += 1,
            }
        }
        counts
    };
    let mut units = 0;
    for _ in 0..400 {
        let unit = 1 + dice.below(units.max(1)) as i64;
        match dice.below(6) {
            0 if units < 40 => {
                units += 1;
                let values = (units as i64, unit_id(units as u32).0, batch, format!("S-{units}"));
                sql.execute(
                    "INSERT INTO unit (id, uid, batch, serial, state, created_at_ms) VALUES (?1, ?2, ?3, ?4, 'arrived', 1)",
                    values,
                )
                .unwrap();
            }
            _ if units == 0 => {}
            1 | 2 => {
                // As the line does it: an attempt is opened before anybody knows whose it is.
                sql.execute(
                    "INSERT INTO attempt (batch, session, fixture, operator, station, started_at_ms)
                     VALUES (?1, 1, 'left', 'Ada', 'bench-1', 1)",
                    [batch],
                )
                .unwrap();
                let attempt = sql.last_insert_rowid();
                if dice.percent(90) {
                    sql.execute("UPDATE attempt SET unit = ?2 WHERE id = ?1", (attempt, unit)).unwrap();
                }
            }
            3 | 4 => {
                let (outcome, code) =
                    [("PASS", None), ("FAIL", Some(404)), ("ABORTED", Some(607)), ("ERROR", Some(101))]
                        [dice.below(4) as usize];
                let failure = code.map(|_: u16| "{}");
                let proof = code.is_none().then_some(r#"{"cloud_mac_ok":true,"agent_mac_ok":true}"#);
                sql.execute(
                    "UPDATE attempt SET ended_at_ms = 2, outcome = ?2, failure_code = ?3, failure = ?4, proof = ?5
                     WHERE id = (SELECT max(id) FROM attempt WHERE unit = ?1 AND outcome IS NULL)",
                    (unit, outcome, code, failure, proof),
                )
                .unwrap();
            }
            _ => {
                let state = ["flashing", "stage-one", "passed", "passed", "quarantined", "scrapped"]
                    [dice.below(6) as usize];
                sql.execute(
                    "UPDATE unit SET state = ?2 WHERE id = ?1 AND state <> 'scrapped'",
                    (unit, state),
                )
                .unwrap();
            }
        }
        assert_eq!(station.records.batch_counts(station.batch.id).unwrap(), counted());
    }
    // What a trigger refuses is not counted either.
    let before = counted();
    assert!(
        before.scrapped > 0 && before.passed > 0 && before.failed > 0 && before.in_progress > 0,
        "{before:?}"
    );
    assert!(sql.execute("UPDATE unit SET state = 'passed' WHERE state = 'scrapped'", []).is_err());
    assert_eq!(station.records.batch_counts(station.batch.id).unwrap(), before);
}

/// Opening a large database does not wait for a look at every page; so somebody else has to look, and what they find must count.
#[test]
fn the_database_is_looked_at_once_a_day_and_a_damaged_one_takes_nothing_more() {
    const HOUR: i64 = 3_600_000;
    let station = filled(400);
    let records = &station.records;
    let look = |hours: i64| backup::look_after(records, 1_795_250_400_123 + hours * HOUR);
    assert_eq!((look(0), look(23), look(24)), (Ok(true), Ok(false), Ok(true)));
    // The copy that a backup makes is looked at page by page.
    let at = 1_795_250_400_123 + 40 * HOUR;
    let folder = tempfile::tempdir().unwrap();
    backup::make(station.home.path(), records, folder.path(), at, |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!(look(50), Ok(false));
    assert!(records.damage().is_none());
    station.sql().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let path = station.home.path().join("station.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let half = bytes.len() / 4096 / 2 * 4096;
    bytes[half..].fill(0x5a);
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    let failure = look(70).expect_err("half of its pages are gone");
    assert_eq!(failure.code, FailureCode::RecordsFailed);
    assert!(records.damage().is_some());
    let refused = records.create_batch(station.po.id, "B2", 1).expect_err("nothing is written any more");
    assert!(refused.to_string().contains("station.db"), "{refused}");
}

/// A clerk that waits, after each change of its snapshot, until the test has looked at it.
struct Stepped {
    clerk: Clerk,
    changed: Receiver<()>,
    go: Sender<()>,
}

impl Stepped {
    fn new(station: &Station) -> Self {
        let clerk = Clerk::new(clerk::Office {
            source: RecordsSource { records: station.records.clone(), vault: station.records.key_vault() },
            people: Arc::new(People::new(station.records.clone(), "Ada").unwrap()),
            signer: Box::new(|| Ok(ExportSigner::from_seed(&[7; 32]))),
            station: "bench-1".into(),
            needs_second_person: false,
            folder: station.home.path().join("exports"),
            now_ms: || 1_795_250_400_123,
        })
        .unwrap();
        let (tell, changed) = channel();
        let (go, may) = channel::<()>();
        let may = std::sync::Mutex::new(may);
        clerk.on_change(Box::new(move || {
            let _ = tell.send(());
            // When the test has ended nobody answers, and the clerk goes on.
            let _ = may.lock().unwrap().recv();
        }));
        Self { clerk, changed, go }
    }

    /// The next snapshot; the clerk stands still until [`Stepped::on`].
    fn next(&self) -> Arc<clerk::Snapshot> {
        self.changed.recv_timeout(HANGS).expect("the clerk shows something");
        self.clerk.snapshot()
    }

    fn on(&self) {
        self.go.send(()).unwrap();
    }

    /// Lets it go on until it has nothing more to do with this command; all that it said.
    fn rest(&self, mut seen: Arc<clerk::Snapshot>) -> Vec<Arc<clerk::Snapshot>> {
        let mut all = Vec::new();
        loop {
            all.push(seen.clone());
            let over = seen.progress.is_none() && !matches!(seen.told, Told::Working(_));
            self.on();
            if over {
                return all;
            }
            seen = self.next();
        }
    }
}

fn order(format: Format, folder: &Path) -> Command {
    Command::Export(Box::new(Order {
        selection: Selection::batch("B1"),
        format,
        wanted: Wanted::Plain("the test reads it".into()),
        handed_to: "Acme Cloud".into(),
        second_person: String::new(),
        second_shows: None,
        operator: "Ada".into(),
        replaces: None,
        folder: folder.to_owned(),
    }))
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, |all| all.count())
}

fn filled(units: u32) -> Station {
    let station = Station::new(units, 2);
    million::fill(&station, units, million::Keys::Sealed);
    station
}

#[test]
fn the_clerk_shows_how_far_it_is_and_what_it_did() {
    let station = filled(300);
    let stepped = Stepped::new(&station);
    let out = station.home.path().join("a");
    stepped.clerk.send(order(Format::Jsonl, &out));
    let first = stepped.next();
    assert_eq!(first.told, Told::Working("Handing out".into()));
    assert_eq!(first.progress.map(|p| p.done), Some(0), "the bar is there before the first row");
    let all = stepped.rest(first);
    let mut before = 0;
    for progress in all.iter().filter_map(|s| s.progress) {
        assert!(progress.done >= before && progress.done <= progress.total, "{progress:?}");
        assert!(progress.total == 0 || progress.total == 600, "both lists: {progress:?}");
        before = progress.done;
    }
    let last = all.last().unwrap();
    assert_eq!(last.told, Told::Done("Export 1, 2 is written".into()));
    let done = last.done.as_ref().expect("files");
    assert_eq!(
        done.iter().map(|f| (f.number, f.rows, f.protected)).collect::<Vec<_>>(),
        [(1, 300, false), (2, 300, true)]
    );
    assert!(done.iter().all(|f| f.file.is_file() && f.receipt.is_file()));
    assert_eq!(
        last.log.iter().map(|e| (e.id, e.keys_of)).collect::<Vec<_>>(),
        [(2, 300), (1, 0)],
        "newest first"
    );
}

#[test]
fn a_cancelled_export_leaves_nothing_and_the_next_one_goes_through() {
    let station = filled(300);
    let stepped = Stepped::new(&station);
    let (a, b) = (station.home.path().join("a"), station.home.path().join("b"));
    stepped.clerk.send(order(Format::Jsonl, &a));
    let first = stepped.next();
    stepped.clerk.cancel();
    let all = stepped.rest(first);
    let Told::Failed(failure) = &all.last().unwrap().told else { panic!("{:?}", all.last().unwrap().told) };
    assert_eq!(failure.code, FailureCode::Cancelled);
    assert_eq!(files(&a), 0);
    assert!(station.records.export_log(&ExportLogFilter::default()).unwrap().is_empty());
    // Cancelling is for one export only.
    stepped.clerk.send(order(Format::Jsonl, &b));
    let all = stepped.rest(stepped.next());
    assert!(matches!(all.last().unwrap().told, Told::Done(_)), "{:?}", all.last().unwrap().told);
    assert!(files(&b) > 0);
}

#[test]
fn what_goes_wrong_is_told_and_leaves_nothing() {
    let station = filled(5);
    let stepped = Stepped::new(&station);
    let out = station.home.path().join("a");
    let Command::Export(mut bad) = order(Format::Dynsec, &out) else { unreachable!() };
    bad.wanted = Wanted::Age("age1nobody".into());
    stepped.clerk.send(Command::Export(bad));
    let all = stepped.rest(stepped.next());
    let Told::Failed(failure) = &all.last().unwrap().told else { panic!("it must be refused") };
    assert_eq!(failure.code, FailureCode::InvalidInput);
    assert!(failure.sentence.contains("age1nobody"), "{failure}");
    assert_eq!(files(&out), 0);
    // A file that is there is not replaced: the second of a day has a name of its own.
    for turn in 1..=2 {
        stepped.clerk.send(order(Format::Dynsec, &out));
        let all = stepped.rest(stepped.next());
        assert!(matches!(all.last().unwrap().told, Told::Done(_)), "{turn}");
        // File, signature and receipt each, and one public key.
        assert_eq!(files(&out), 3 * turn + 1);
    }
    assert_eq!(station.records.export_log(&ExportLogFilter::default()).unwrap().len(), 2);
}

#[test]
fn two_exports_follow_one_another() {
    let station = filled(50);
    let stepped = Stepped::new(&station);
    let (a, b) = (station.home.path().join("a"), station.home.path().join("b"));
    stepped.clerk.send(order(Format::Dynsec, &a));
    let first = stepped.next();
    // It is in work: what comes now waits.
    stepped.clerk.send(order(Format::AzureHub, &b));
    let all = stepped.rest(first);
    assert_eq!(all.last().unwrap().told, Told::Done("Export 1 is written".into()));
    assert_eq!(files(&b), 0, "the second has not begun");
    let second = stepped.next();
    assert_eq!(second.told, Told::Working("Handing out".into()));
    assert!(second.done.is_none(), "what the first did is no longer shown as the second's");
    let all = stepped.rest(second);
    assert_eq!(all.last().unwrap().told, Told::Done("Export 2 is written".into()));
    let of = |s: &clerk::Snapshot| s.log.iter().map(|e| e.format.clone()).collect::<Vec<_>>();
    assert_eq!(of(all.last().unwrap()), ["azure-hub", "dynsec"]);
}

/// A tile shows what its fixture reported with the next frame, and that frame is asked for at once: the line's own threads, the window's
/// own wakers, and one frame after each event. Only the probes are stand-ins: each says its next word when it is told to.
#[cfg(feature = "gui")]
#[test]
fn a_tile_is_new_one_frame_after_its_event() {
    use egui_kittest::{Harness, kittest::Queryable};
    use flashing::Flashing;
    use keywright::config::Config;
    use keywright::desk::Desk;
    use keywright::gui::{Options, Rhythm, Window};
    use keywright::line::bench::Bench;
    use keywright::line::worker::Timing;
    use keywright::line::{self, Event, Line, LineHandle, Snapshot};

    const FIXTURES: usize = 4;
    const EVENTS: usize = 60;

    /// The window's line, which the test looks at as well.
    struct Shared(Arc<Line>);
    impl LineHandle for Shared {
        fn send(&self, command: line::Command) {
            self.0.send(command);
        }
        fn snapshot(&self) -> Arc<Snapshot> {
            self.0.snapshot()
        }
        fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
            self.0.on_change(wake);
        }
    }

    let station = Station::new(10, 2);
    let folder = tempfile::tempdir().unwrap();
    let image = keywright::image::synthetic::write(folder.path(), &station.po.model).unwrap();
    let config = Config { image: Some(image), ..Config::default() };
    let mut say: Vec<Sender<String>> = Vec::new();
    let benches = (0..FIXTURES)
        .map(|n| {
            let (sender, words) = channel();
            say.push(sender);
            // Without a sender there is nothing more to say, and the attempt ends.
            let labels = Box::new(move || words.recv().ok());
            let bench: Box<dyn Bench> = Box::new(Flashing { unit: unit_id(n as u32), labels });
            (format!("Fixture {}", n + 1), bench)
        })
        .collect();
    let (records, agent) = (Arc::new(station.records.clone()), station.agent.clone());
    let line =
        Line::with_benches(records.clone(), agent.clone(), &config, benches, Timing::default()).unwrap();
    let line = Arc::new(line);
    let told = line.subscribe();
    line.send(line::Command::SetOperator("Ada".into()));
    line.send(line::Command::SelectBatch(station.batch.name.clone()));
    line.send(line::Command::StartAll);
    let names = (1..=FIXTURES).map(|n| format!("Fixture {n}")).collect();
    let desk = Desk::new(records, agent, names, line.commands(), line.subscribe()).unwrap();

    let (asked, frames) = channel();
    let (shown, mut desk) = (line.clone(), Some(desk));
    let mut h = Harness::builder().with_size([1280.0, 720.0]).build_ui_state(
        move |ui, window: &mut Option<Window>| {
            let ctx = ui.ctx().clone();
            let window = window.get_or_insert_with(|| {
                let handles = (
                    Box::new(Shared(shown.clone())) as Box<dyn LineHandle>,
                    Box::new(desk.take().expect("one window")) as Box<dyn keywright::desk::DeskHandle>,
                );
                Window::new(&ctx, handles, Options::default(), Rhythm::CARD)
            });
            window.logic(&ctx);
            window.ui(ui);
        },
        None,
    );
    h.ctx.set_request_repaint_callback(move |info| {
        let _ = asked.send(info.delay);
    });
    for n in 0..EVENTS {
        let fixture = n % FIXTURES;
        let word = format!("writing app {n}/{EVENTS} KiB");
        let _ = frames.try_iter().count();
        say[fixture].send(word.clone()).unwrap();
        loop {
            match told.recv_timeout(HANGS).expect("the event") {
                Event::Progress { label, .. } if label == word => break,
                Event::Finished { fixture, failure, .. } => panic!("{n}: {fixture}: {failure:?}"),
                _ => {}
            }
        }
        // The snapshot is published right after its event, and the window asks for its frame.
        let is_published = || {
            let running = line.snapshot().fixtures[fixture].running.clone();
            running.is_some_and(|running| running.label == word)
        };
        let mut soon = false;
        while !is_published() {
            let asked = frames.recv_timeout(Duration::from_millis(1));
            soon |= asked.is_ok_and(|delay| delay <= Rhythm::CARD.frame);
        }
        while !soon {
            soon = frames.recv_timeout(HANGS).expect("a frame is asked for") <= Rhythm::CARD.frame;
        }
        h.step();
        h.get_by_label(&word);
    }
    say.clear();
    drop(h);
}
