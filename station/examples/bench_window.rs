//! What a frame of the window costs: processor time of the window's thread for one whole frame (the view and its tessellation; what a
//! graphics card does is not in it), while 32 fixtures flash and every one of them changes with every frame, over a database of a million
//! units in one batch.
//!
//! `cargo run --release -p keywright --no-default-features --features gui --example bench_window -- --json`
//!
//! Line, desk and export clerk are the real ones with their threads; only the probes are stand-ins that report progress for ever. Time is
//! that of the thread's own clock, so a busy machine does not count.

#[path = "support/flashing.rs"]
mod flashing;
#[path = "support/million.rs"]
mod million;
#[path = "../tests/support/mod.rs"]
mod support;

use flashing::{Flashing, stopped};
use keywright::config::Config;
use keywright::desk::{self, Desk};
use keywright::export::RecordsSource;
use keywright::export::clerk::{self, Clerk};
use keywright::gui::{Options, Rhythm, Tab, Theme, Window};
use keywright::image::synthetic;
use keywright::line::bench::Bench;
use keywright::line::worker::Timing;
use keywright::line::{Command, Event, Line, LineHandle, Step};
use keywright::office;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Station, unit_id};

/// Processor time of this thread.
fn cpu() -> Duration {
    #[cfg(unix)]
    {
        use rustix::time::{ClockId, clock_gettime};
        let t = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(t.tv_sec.unsigned_abs(), t.tv_nsec as u32)
    }
    #[cfg(not(unix))]
    {
        use std::sync::OnceLock;
        static BEGIN: OnceLock<Instant> = OnceLock::new();
        BEGIN.get_or_init(Instant::now).elapsed()
    }
}

/// Milliseconds of the 50th and the 99th percentile.
fn percentiles(mut all: Vec<f64>) -> (f64, f64) {
    all.sort_by(f64::total_cmp);
    let at = |share: f64| all[((all.len() as f64 * share).ceil() as usize).clamp(1, all.len()) - 1];
    (at(0.5), at(0.99))
}

struct Frames {
    ctx: egui::Context,
    window: Window,
    size: [f32; 2],
    time: f64,
}

impl Frames {
    fn frame(&mut self, events: Vec<egui::Event>) -> (Duration, Duration) {
        self.time += 1.0 / 60.0;
        let screen = egui::Rect::from_min_size(egui::Pos2::ZERO, self.size.into());
        let input =
            egui::RawInput { screen_rect: Some(screen), time: Some(self.time), events, ..Default::default() };
        let begin = cpu();
        let window = &mut self.window;
        let mut output = self.ctx.run_ui(input, |ui| {
            window.logic(&ui.ctx().clone());
            window.ui(ui);
        });
        let view = cpu();
        // No card takes them.
        output.textures_delta.clear();
        let shapes = self.ctx.tessellate(output.shapes, output.pixels_per_point);
        let done = cpu();
        assert!(!shapes.is_empty(), "a frame paints something");
        (view - begin, done - view)
    }

    fn key(&mut self, key: egui::Key) {
        let modifiers = egui::Modifiers::COMMAND;
        let event = |pressed| egui::Event::Key { key, physical_key: None, pressed, repeat: false, modifiers };
        self.frame(vec![event(true), event(false)]);
        // The views' own first look at the records.
        for _ in 0..20 {
            self.frame(Vec::new());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// So many frames, each with another snapshot of the line; milliseconds of view, of tessellation, of both.
    fn measure(&mut self, frames: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let mut all = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..frames {
            std::thread::sleep(Duration::from_millis(12));
            let (view, shapes) = self.frame(Vec::new());
            all.0.push(view.as_secs_f64() * 1000.0);
            all.1.push(shapes.as_secs_f64() * 1000.0);
            all.2.push((view + shapes).as_secs_f64() * 1000.0);
        }
        all
    }
}

/// Ends the flashing when it is dropped.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|a| a == "--json");
    let number = |name: &str, usual: usize| {
        let at = arguments.iter().position(|a| a == name);
        at.and_then(|at| arguments.get(at + 1)).and_then(|v| v.parse().ok()).unwrap_or(usual)
    };
    let (units, frames, fixtures) = (number("--units", 1_000_000), number("--frames", 600), 32);
    let figure = |name: &str, value: f64, goal: Option<&str>| {
        if json {
            println!("{}", serde_json::json!({ "name": name, "value": value, "unit": "ms", "goal": goal }));
        } else {
            println!("{name:36} {value:10.3} ms   {}", goal.unwrap_or_default());
        }
    };

    let begin = Instant::now();
    let station = Station::new(u32::try_from(units).expect("a number of units") + 1000, 2);
    million::fill(&station, units as u32, million::Keys::Zeros);
    eprintln!("{units} units are in the database after {:.1} s", begin.elapsed().as_secs_f64());

    let folder = tempfile::tempdir().expect("a temporary folder");
    let image = synthetic::write(folder.path(), &station.po.model).expect("an image");
    let config = Config { image: Some(image), name: "bench-1".into(), ..Config::default() };
    let stop = Arc::new(AtomicBool::new(false));
    let benches = (0..fixtures)
        .map(|n| {
            let unit = unit_id(units as u32 + 1 + n as u32);
            let (stop, mut done) = (stop.clone(), 0);
            let labels = move || {
                // Another label each time, or the line would keep most of them back.
                done = (done + 1) % 512;
                std::thread::sleep(Duration::from_millis(8));
                (!stop.load(Ordering::Relaxed)).then(|| format!("writing app {done}/512 KiB"))
            };
            let bench: Box<dyn Bench> = Box::new(Flashing { unit, labels: Box::new(labels) });
            (format!("Fixture {}", n + 1), bench)
        })
        .collect();
    let records = Arc::new(station.records.clone());
    let line =
        Line::with_benches(records.clone(), station.agent.clone(), &config, benches, Timing::default())
            .expect("a line");
    line.send(Command::SetOperator("Ada".into()));
    line.send(Command::SelectBatch(station.batch.name.clone()));
    let names = (0..fixtures).map(|n| format!("Fixture {}", n + 1)).collect();
    let read_key: office::ReadKey = Arc::new(|_| Err(stopped()));
    let orders = office::Office::new(records.clone(), config.clone(), Box::new(|| vec![7]), read_key);
    let (start, events) = (line.commands(), line.subscribe());
    let told = line.subscribe();
    let desk = Desk::with_office(records.clone(), station.agent.clone(), names, start, events, Some(orders))
        .expect("a desk");
    let clerk = Clerk::new(clerk::Office {
        source: RecordsSource { records: station.records.clone(), vault: station.records.key_vault() },
        people: Arc::new(keywright::people::People::new(station.records.clone(), "Ada").expect("people")),
        signer: Box::new(|| Err(stopped())),
        station: "bench-1".into(),
        needs_second_person: false,
        folder: folder.path().to_owned(),
        now_ms: keywright::station::now_ms,
    })
    .expect("a clerk");
    {
        use desk::DeskHandle;
        desk.send(desk::Command::Office(office::Command::Choose(Some(station.batch.name.clone()))));
        desk.send(desk::Command::Find(format!("B1-{:07}", units / 2)));
    }
    let commands = line.commands();
    let ctx = egui::Context::default();
    let options =
        Options { theme: Theme::Light, size: [1280.0, 720.0], tab: Tab::Line, ..Options::default() };
    let window = Window::new(&ctx, (Box::new(line), Box::new(desk)), options, Rhythm::CARD)
        .with_exports(&ctx, Some(Box::new(clerk)));
    let mut frames_of = Frames { ctx, window, size: [1280.0, 720.0], time: 0.0 };
    for _ in 0..30 {
        frames_of.frame(Vec::new());
        std::thread::sleep(Duration::from_millis(20));
    }
    // Whatever ends this, the fixtures stop: the line waits for them when it is dropped.
    let _stop = Stop(stop);
    commands(Command::StartAll);
    // All of them flash.
    let (mut busy, until) = (std::collections::BTreeSet::new(), Instant::now() + Duration::from_secs(60));
    while busy.len() < fixtures {
        let left = until.checked_duration_since(Instant::now()).expect("all fixtures flash within a minute");
        if let Ok(Event::Progress { fixture, step: Step::Flash, .. }) = told.recv_timeout(left) {
            busy.insert(fixture);
        }
    }
    let views = [
        ("", egui::Key::Num1),
        ("_units", egui::Key::Num2),
        ("_batches", egui::Key::Num3),
        ("_exports", egui::Key::Num4),
    ];
    for (view, key) in views {
        frames_of.key(key);
        let (layout, shapes, both) = frames_of.measure(frames);
        let (median, p99) = percentiles(both);
        figure(&format!("frame_ms_p99{view}"), p99, Some("<= 16"));
        figure(&format!("frame_ms_median{view}"), median, None);
        let ((layout, _), (shapes, _)) = (percentiles(layout), percentiles(shapes));
        // A fixture that stood still would have cost nothing.
        let (mut told_by, mut events) = (std::collections::BTreeSet::new(), 0_usize);
        for event in told.try_iter() {
            match event {
                Event::Progress { fixture, step: Step::Flash, .. } => {
                    events += 1;
                    told_by.insert(fixture);
                }
                Event::Finished { fixture, failure, .. } => panic!("{fixture} ended: {failure:?}"),
                _ => {}
            }
        }
        assert_eq!(told_by.len(), fixtures, "all of them flashed meanwhile");
        eprintln!(
            "view{view}: median of the view {layout:.3} ms, of the tessellation {shapes:.3} ms; {events} reports of progress"
        );
    }
}
