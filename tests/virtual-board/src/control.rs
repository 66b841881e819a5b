//! The control socket: one text command per line in, one JSON object per line out.
//!
//! Every answer has `"ok"`; a refused command says why and how to say it right.

use crate::bench::Bench;
use crate::flash::{FlashTiming, ReadProtection};
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The commands, as `help` lists them.
pub const COMMANDS: &[(&str, &str)] = &[
    ("status [N]", "what board N, or every board, is doing"),
    ("fixture [N]", "how to reach fixture N, or every fixture"),
    (
        "cut-power N [--at-flash-op K [--progress P] [--seed S]]",
        "take the power away, now or inside the K-th flash operation from now, P (0 to 1) of the way through",
    ),
    ("power-on N", "give it back"),
    ("reset N", "press the reset button"),
    ("tamper N ADDRESS LENGTH", "flip every bit of LENGTH bytes of flash at ADDRESS"),
    ("read N ADDRESS LENGTH", "show flash content, whatever protection says"),
    ("unplug N", "pull fixture N's probe and serial cables out of the host"),
    ("plug N", "put them back"),
    ("swap A B", "exchange the boards in two fixtures"),
    ("place FIXTURE BOARD|none", "put a board into a fixture, or empty it"),
    ("protect N 0|1|2", "deliver board N with this read protection level"),
    ("idcode N VALUE", "let board N show another chip's DBGMCU_IDCODE"),
    ("timing N fast|realistic", "how long flash operations take on board N"),
    ("save", "write flash images to their files now"),
    ("help", "this list"),
    ("quit", "cut all power, save flash images and end"),
];

/// Serves commands until it is dropped or told to quit.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    quit: Arc<AtomicBool>,
}

impl Control {
    /// Listen on a Unix socket at `path`; a dead socket left there is replaced.
    ///
    /// # Errors
    /// The socket cannot be made, or another process serves it.
    pub fn start(path: &Path, bench: Arc<Bench>, quit: Arc<AtomicBool>) -> io::Result<Control> {
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!(
                    "{} is served by another virtual-board: quit that one or choose another --control path",
                    path.display()
                ),
            ));
        }
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        let control = Control { path: path.to_owned(), quit: Arc::clone(&quit) };
        std::thread::Builder::new().name("control".into()).spawn(move || {
            for stream in listener.incoming() {
                if quit.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (bench, quit) = (Arc::clone(&bench), Arc::clone(&quit));
                let _ = std::thread::Builder::new()
                    .name("control-client".into())
                    .spawn(move || serve(&stream, &bench, &quit));
            }
        })?;
        Ok(control)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.quit.store(true, Ordering::Relaxed);
        let _ = UnixStream::connect(&self.path); // Wakes the listener, which then ends.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn serve(stream: &UnixStream, bench: &Bench, quit: &AtomicBool) {
    let mut writer = stream;
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        if line.trim().is_empty() {
            continue;
        }
        let answer = command(bench, &line, quit);
        if writeln!(writer, "{answer}").is_err() || quit.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Carry out one command line. `quit` is set by the command of that name.
pub fn command(bench: &Bench, line: &str, quit: &AtomicBool) -> Value {
    let words: Vec<&str> = line.split_whitespace().collect();
    match run(bench, &words, quit) {
        Ok(Value::Object(mut fields)) => {
            fields.insert("ok".into(), true.into());
            Value::Object(fields)
        }
        Ok(value) => json!({ "ok": true, "result": value }),
        Err(error) => json!({ "ok": false, "error": error }),
    }
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("`{text}` is not a number: write it in decimal or as 0x…"))
}

fn small(text: &str) -> Result<u32, String> {
    u32::try_from(number(text)?).map_err(|_| format!("`{text}` is too large: it must fit 32 bits"))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn run(bench: &Bench, words: &[&str], quit: &AtomicBool) -> Result<Value, String> {
    let done = Ok(json!({}));
    match words {
        ["status"] => (1..=bench.count())
            .map(|n| bench.status(n).map(|s| json!(s)).map_err(text))
            .collect::<Result<Vec<_>, _>>()
            .map(Value::from),
        ["status", n] => Ok(json!(bench.status(small(n)?).map_err(text)?)),
        ["fixture"] => (1..=bench.count())
            .map(|n| bench.fixture(n).map(|f| json!(f)).map_err(text))
            .collect::<Result<Vec<_>, _>>()
            .map(Value::from),
        ["fixture", n] => Ok(json!(bench.fixture(small(n)?).map_err(text)?)),
        ["cut-power", n] => bench.cut_power(small(n)?).map_err(text).and(done),
        ["cut-power", n, options @ ..] => {
            let (mut op, mut progress, mut seed) = (None, 0.5, 0);
            for pair in options.chunks(2) {
                match pair {
                    ["--at-flash-op", k] => op = Some(number(k)?),
                    ["--progress", p] => {
                        progress =
                            p.parse().ok().filter(|p| (0.0..=1.0).contains(p)).ok_or_else(|| {
                                format!("`{p}` is not a progress: give a number from 0 to 1")
                            })?;
                    }
                    ["--seed", s] => seed = number(s)?,
                    [other, ..] => {
                        return Err(format!(
                            "`{other}` is not an option of cut-power, or misses its value; see `help`"
                        ));
                    }
                    [] => {}
                }
            }
            let op = op
                .filter(|k| *k > 0)
                .ok_or("say which flash operation: --at-flash-op K, 1 being the next one")?;
            bench.cut_power_at_flash_op(small(n)?, op, progress, seed).map_err(text).and(done)
        }
        ["power-on", n] => bench.power_on(small(n)?).map_err(text).and(done),
        ["reset", n] => bench.reset(small(n)?).map_err(text).and(done),
        ["tamper", n, address, len] => {
            bench.tamper(small(n)?, small(address)?, small(len)?).map_err(text).and(done)
        }
        ["read", n, address, len] => {
            let (address, len) = (small(address)?, small(len)?);
            let bytes =
                bench.with_board(small(n)?, |b| b.read_flash(address, len)).map_err(text)?.map_err(text)?;
            Ok(
                json!({ "address": format!("{address:#010x}"), "hex": bytes.iter().map(|b| format!("{b:02x}")).collect::<String>() }),
            )
        }
        ["unplug", n] => bench.unplug(small(n)?).map_err(text).and(done),
        ["plug", n] => {
            let n = small(n)?;
            bench.plug(n).map_err(text)?;
            Ok(json!(bench.fixture(n).map_err(text)?))
        }
        ["swap", a, b] => bench.swap(small(a)?, small(b)?).map_err(text).and(done),
        ["place", fixture, "none"] => bench.place(small(fixture)?, None).map_err(text).and(done),
        ["place", fixture, board] => {
            bench.place(small(fixture)?, Some(small(board)?)).map_err(text).and(done)
        }
        ["protect", n, level] => {
            let level = match *level {
                "0" => ReadProtection::Level0,
                "1" => ReadProtection::Level1,
                "2" => ReadProtection::Level2,
                other => return Err(format!("`{other}` is not a protection level: 0, 1 or 2")),
            };
            let n = small(n)?;
            if bench.with_board(n, |b| b.read_protection()).map_err(text)? == ReadProtection::Level2 {
                return Err(format!(
                    "board {n} is at level 2, which is final: put another board there, or delete its files and start again"
                ));
            }
            bench.with_board(n, |b| b.set_read_protection(level)).map_err(text).and(done)
        }
        ["idcode", n, value] => {
            let value = small(value)?;
            bench.with_board(small(n)?, |b| b.set_idcode(value)).map_err(text).and(done)
        }
        ["timing", n, which] => {
            let timing = match *which {
                "fast" => FlashTiming::FAST,
                "realistic" => FlashTiming::REALISTIC,
                other => return Err(format!("`{other}` is not a timing: fast or realistic")),
            };
            bench.with_board(small(n)?, |b| b.set_flash_timing(timing)).map_err(text).and(done)
        }
        ["save"] => bench.save().map_err(text).and(done),
        ["help"] => {
            Ok(COMMANDS.iter().map(|(usage, what)| json!({ "usage": usage, "does": what })).collect())
        }
        ["quit"] => {
            quit.store(true, Ordering::Relaxed);
            done
        }
        [] => Err("empty command: `help` lists what there is".into()),
        [name, ..] => Err(match COMMANDS.iter().find(|(usage, _)| usage.split(' ').next() == Some(name)) {
            Some((usage, _)) => format!("wrong arguments: {usage}"),
            None => format!("there is no command `{name}`: `help` lists what there is"),
        }),
    }
}
