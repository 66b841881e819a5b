//! A rehearsal: one unit made for trial, by the real line and the real firmware, on a virtual board and in a home of its own.
//!
//! It shows that the image, the exchange and the program fit together before the first real board is touched. The home is temporary and
//! its passphrase public: nothing of the station is read but its image, nothing is written, and what was made is gone afterwards.

use crate::config::{Config, Fixture};
use crate::failure::{Failure, FailureCode};
use crate::hardware::HardwareBench;
use crate::image::CommonImage;
use crate::line::bench::{Bench, Cancel};
use crate::line::worker::Timing;
use crate::line::{Command, Event, Line, LineHandle, Step};
use crate::model::{LabelPolicy, Outcome};
use crate::records::{NewBatch, NewProductOrder, Records};
use crate::secrets::random;
use crate::station::{Options, Station, records_failure, secrets_failure};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// The program that plays a board.
const PROGRAM: &str = "virtual-board";
/// How long the board may take to be there.
const STARTS: Duration = Duration::from_secs(60);
/// How often it is looked whether somebody cancelled.
const LOOK: Duration = Duration::from_millis(100);
/// How long the board may take to end by itself.
#[cfg(unix)]
const ENDS: Duration = Duration::from_secs(5);
const REGION: u32 = 1;
const NAME: &str = "REHEARSAL";

/// Where a rehearsal is.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// A board is being started.
    Board,
    /// A home is being made for it.
    Home,
    /// The unit is in this step, so far of it (0 to 1).
    Step(Step, f32),
}

/// What it came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// How the unit ended.
    pub outcome: Outcome,
    /// Why not PASS.
    pub failure: Option<Failure>,
    /// Its serial.
    pub serial: Option<String>,
    /// Seconds by step, in order of [`Step::ALL`].
    pub step_seconds: [f64; Step::ALL.len()],
    /// Seconds in all.
    pub seconds: f64,
    /// Model and version of the image that was used.
    pub image: String,
}

/// The program that plays a board: the one that is named in station.toml, else the one beside this program.
///
/// # Errors
/// `PracticeBoardMissing` with where it was looked for.
pub fn find_board(config: &Config) -> Result<PathBuf, Failure> {
    let place = match &config.virtual_board {
        Some(path) => path.clone(),
        None => {
            let own = std::env::current_exe().unwrap_or_default();
            own.with_file_name(format!("{PROGRAM}{}", std::env::consts::EXE_SUFFIX))
        }
    };
    if place.is_file() {
        Ok(place)
    } else {
        Err(Failure::new(FailureCode::PracticeBoardMissing, format_args!("{} is not there", place.display())))
    }
}

fn failed(what: impl std::fmt::Display) -> Failure {
    Failure::new(FailureCode::RehearsalFailed, what)
}

/// Makes one unit of `image` on the board that `program` plays, and tells how far it is.
///
/// # Errors
/// `RehearsalFailed`, those of the image, `Cancelled`. A unit that fails is no error here: it is in the report.
pub fn run(
    program: &Path,
    image: &Path,
    cancel: &Cancel,
    mut tell: impl FnMut(News),
) -> Result<Report, Failure> {
    let glance = CommonImage::glance(image)?;
    let folder = tempfile::tempdir().map_err(|e| failed(format_args!("no temporary folder: {e}")))?;
    tell(News::Board);
    let board = Board::start(program, folder.path(), cancel)?;
    tell(News::Home);
    let options = Options {
        home: folder.path().join("home"),
        config: None,
        passphrase_fd: None,
        token_pin_fd: None,
        demo: true,
        operator: NAME.to_lowercase(),
    };
    let mut station = Station::open(&options)?;
    station.init_anchors(REGION)?;
    let order = NewProductOrder {
        name: NAME.into(),
        model: glance.model.clone(),
        hw_revision: "A".into(),
        part_number: NAME.into(),
        quantity: 1,
        region: REGION,
        suite: 2,
        cloud_url: crate::cloud::LOCAL_URL.into(),
        lock: true,
        per_hour: 0,
        label: LabelPolicy::None,
        image_sha256: Some(glance.sha256.clone()),
        product_key: None,
        operator: station.operator.clone(),
    };
    let order = station.records.create_product_order(order).map_err(records_failure)?;
    let batch = NewBatch {
        po: order.id,
        name: NAME.into(),
        quantity: 1,
        operator: station.operator.clone(),
        ..NewBatch::default()
    };
    station.records.new_batch(batch).map_err(records_failure)?;
    station.configure(&options, Config { image: Some(image.to_owned()), demo: true, ..Config::default() });
    cancel.check()?;
    let bench: Box<dyn Bench> = Box::new(HardwareBench::new(&board.fixture));
    let benches = vec![(board.fixture.name.clone(), bench)];
    let line = Line::with_benches(
        station.records.clone(),
        station.agent()?,
        &station.config,
        benches,
        Timing::default(),
    )?;
    let events = line.subscribe();
    line.send(Command::SetOperator(station.operator.clone()));
    line.send(Command::SelectBatch(NAME.into()));
    line.send(Command::Start(0));
    let report = watch(&line, &events, cancel, tell)?;
    Ok(Report { image: format!("{} {}", glance.model, glance.version), ..report })
}

/// Waits for the unit's end.
fn watch(
    line: &Line,
    events: &Receiver<Event>,
    cancel: &Cancel,
    mut tell: impl FnMut(News),
) -> Result<Report, Failure> {
    let mut asked = false;
    loop {
        if cancel.is_cancelled() && !asked {
            asked = true;
            line.send(Command::Cancel(0));
        }
        match events.recv_timeout(LOOK) {
            Ok(Event::Step { step, .. }) => tell(News::Step(step, 0.0)),
            Ok(Event::Progress { step, done, total, .. }) if total > 0 => {
                tell(News::Step(step, (done as f32 / total as f32).clamp(0.0, 1.0)));
            }
            Ok(Event::Finished { outcome, failure, serial, step_seconds, seconds, .. }) => {
                return Ok(Report { outcome, failure, serial, step_seconds, seconds, image: String::new() });
            }
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(failed("the line ended by itself")),
        }
    }
}

/// A virtual board; it loses power when this is dropped.
struct Board {
    process: Child,
    fixture: Fixture,
}

impl Board {
    fn start(program: &Path, folder: &Path, cancel: &Cancel) -> Result<Self, Failure> {
        let seed = u32::from_be_bytes(random::<4>().map_err(secrets_failure)?);
        let mut process = std::process::Command::new(program)
            .args(["--count", "1", "--seed", &seed.to_string(), "--dir"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| failed(format_args!("{} does not start: {e}", program.display())))?;
        let output = process.stdout.take();
        let nowhere = Fixture { name: NAME.to_lowercase(), probe: String::new(), serial: String::new() };
        // From here on the process ends with the board.
        let mut board = Self { process, fixture: nowhere };
        let (lines, said) = mpsc::channel();
        let reader = std::thread::Builder::new().name("rehearsal board".into());
        reader
            .spawn(move || {
                for line in output.into_iter().flat_map(|o| BufReader::new(o).lines()).map_while(Result::ok) {
                    if lines.send(line).is_err() {
                        return;
                    }
                }
            })
            .map_err(|e| failed(format_args!("no thread: {e}")))?;
        let until = Instant::now() + STARTS;
        loop {
            cancel.check()?;
            match said.recv_timeout(LOOK) {
                Ok(line) => {
                    let event: Value = serde_json::from_str(&line).unwrap_or_default();
                    let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
                    match event["event"].as_str() {
                        Some("board") => {
                            (board.fixture.probe, board.fixture.serial) = (text("probe"), text("serial"))
                        }
                        Some("ready") if !board.fixture.probe.is_empty() => return Ok(board),
                        _ => {}
                    }
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                Err(_) => {
                    return Err(failed(format_args!(
                        "{} gave no board: is it the right program?",
                        program.display()
                    )));
                }
            }
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // Asked first: an orderly end leaves no terminal behind.
        #[cfg(unix)]
        {
            let pid = rustix::process::Pid::from_child(&self.process);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let until = Instant::now() + ENDS;
            while Instant::now() < until {
                if !matches!(self.process.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(LOOK);
            }
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_that_is_not_there_is_named_with_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("boards");
        let config = Config { virtual_board: Some(place.clone()), ..Config::default() };
        let failure = find_board(&config).expect_err("it is not there");
        assert_eq!(failure.code, FailureCode::PracticeBoardMissing);
        assert!(failure.sentence.contains(&place.display().to_string()), "{failure}");
        std::fs::write(&place, "").expect("written");
        assert_eq!(find_board(&config), Ok(place));
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_is_no_board_is_told_and_does_not_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let cancel = Cancel::default();
        let told = Board::start(Path::new("/bin/true"), folder.path(), &cancel).err().expect("no board");
        assert_eq!(told.code, FailureCode::RehearsalFailed);
        cancel.cancel();
        let told = Board::start(Path::new("/bin/true"), folder.path(), &cancel).err().expect("cancelled");
        assert_eq!(told.code, FailureCode::Cancelled);
    }
}
