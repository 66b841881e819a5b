//! When the program ends as it should not: a report for whoever looks for the cause, and a word at the next start.
//!
//! A report is `logs/crash-<time>.txt`: version, system, thread, place, message, backtrace. It holds no secret, by two
//! means: types of secrets can't be formatted, and everything in a message that looks like a key (long runs of hex, base64 or bech32
//! letters) is replaced before it is written.
//!
//! A file `running.json` is in the home for as long as a session works there. One that is found at a start, when the
//! records can be claimed, is of a session that was killed or lost its power.

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Reports that stay.
const KEPT: usize = 20;
const RUNNING: &str = "running.json";
/// Shorter runs than this are names, numbers and times.
const SECRET_RUN: usize = 24;

/// From now on a panic anywhere leaves a report in `folder`, besides what it says on standard error.
pub fn install(folder: &Path) {
    let folder = folder.to_owned();
    let one_at_a_time = Mutex::new(());
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // A panic while a report is written, or a poisoned lock, must not keep the program from ending.
        if let Ok(_guard) = one_at_a_time.try_lock() {
            let message = info.payload_as_str().unwrap_or("(no message)");
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            let thread = std::thread::current();
            let trace = std::backtrace::Backtrace::force_capture().to_string();
            let text =
                report(crate::station::now_ms(), thread.name().unwrap_or("?"), &place, message, &trace);
            if let Some(path) = write(&folder, crate::station::now_ms(), &text) {
                tracing::error!(report = %path.display(), "this program failed; a report was written");
            }
        }
        before(info);
    }));
}

fn report(at_ms: i64, thread: &str, place: &str, message: &str, trace: &str) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "Keywright {} on {} {}, {}\nthread {thread}, {place}\n\n{}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
        crate::export::Stamp(at_ms),
        hide_secrets(message),
    );
    // Names of functions and files; they are long and hold no data.
    text.push_str(trace);
    text
}

/// The text with everything that may be a key replaced.
pub fn hide_secrets(text: &str) -> String {
    let of_a_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '-' | '_');
    let mut hidden = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let run = rest.find(|c| !of_a_key(c)).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(run);
        // A path's parts are words of their own; a word without digits is a name.
        let suspect = |part: &str| part.len() >= SECRET_RUN && part.bytes().any(|b| b.is_ascii_digit());
        if suspect(word) && (word.len() >= 2 * SECRET_RUN || word.split('/').any(suspect)) {
            hidden.push_str("[hidden]");
        } else {
            hidden.push_str(word);
        }
        let stop = tail.chars().next().map_or(0, char::len_utf8);
        hidden.push_str(&tail[..stop]);
        rest = &tail[stop..];
    }
    // Byte arrays as `{:?}` writes them.
    let mut out = String::with_capacity(hidden.len());
    let mut rest = hidden.as_str();
    while let Some(open) = rest.find('[') {
        let Some(close) = rest[open..].find(']').map(|n| open + n) else { break };
        let inner = &rest[open + 1..close];
        let numbers = inner.split(',').filter(|n| n.trim().parse::<u64>().is_ok()).count();
        out.push_str(&rest[..open]);
        out.push_str(if numbers >= 8 { "[hidden]" } else { &rest[open..=close] });
        rest = &rest[close + 1..];
    }
    out + rest
}

fn write(folder: &Path, at_ms: i64, text: &str) -> Option<PathBuf> {
    std::fs::create_dir_all(folder).ok()?;
    let name = crate::export::Stamp(at_ms).to_string().replace(':', "-");
    let path = folder.join(format!("crash-{name}.txt"));
    std::fs::write(&path, text).ok()?;
    let mut reports = reports(folder);
    reports.sort();
    for old in reports.iter().rev().skip(KEPT) {
        let _ = std::fs::remove_file(old);
    }
    Some(path)
}

fn reports(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("crash-")))
        .collect()
}

/// How the session before this one ended, if not as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastEnd {
    /// When that session began, Unix milliseconds.
    pub started_at_ms: i64,
    /// The batch that it worked on.
    pub batch: Option<String>,
    /// What it wrote about its end; absent if it was killed or the power failed.
    pub report: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
struct Session {
    pid: u32,
    started_at_ms: i64,
    batch: Option<String>,
}

/// This session's mark in the home; gone when the session ends well. A home that can't be written costs the mark, not the work.
#[derive(Debug)]
pub struct Mark {
    path: PathBuf,
    session: Mutex<(i64, Option<String>)>,
}

impl Mark {
    /// Leaves a mark, and says what an earlier one tells. The caller has claimed the records, so the earlier session is over.
    pub fn leave(home: &Path, at_ms: i64) -> (Self, Option<LastEnd>) {
        let path = home.join(RUNNING);
        let before = std::fs::read(&path).ok().map(|bytes| match serde_json::from_slice::<Session>(&bytes) {
            Ok(session) => LastEnd {
                report: reports(&home.join("logs"))
                    .into_iter()
                    .filter(|p| {
                        let name = p.file_name().unwrap_or_default().to_string_lossy().into_owned();
                        let since = crate::export::Stamp(session.started_at_ms).to_string().replace(':', "-");
                        name > format!("crash-{since}")
                    })
                    .max(),
                started_at_ms: session.started_at_ms,
                batch: session.batch,
            },
            // Cut while it was written: the session had hardly begun.
            Err(_) => LastEnd { started_at_ms: at_ms, batch: None, report: None },
        });
        let mark = Self { path, session: Mutex::new((at_ms, None)) };
        mark.save();
        (mark, before)
    }

    /// The batch that is worked on, for the next start's offer to go on with it.
    pub fn set_batch(&self, batch: Option<&str>) {
        if let Ok(mut session) = self.session.lock() {
            if session.1.as_deref() == batch {
                return;
            }
            session.1 = batch.map(str::to_owned);
        }
        self.save();
    }

    fn save(&self) {
        let Ok(session) = self.session.lock() else { return };
        let session = Session { pid: std::process::id(), started_at_ms: session.0, batch: session.1.clone() };
        let saved = serde_json::to_vec(&session)
            .map_err(std::io::Error::other)
            .and_then(|bytes| std::fs::write(&self.path, bytes));
        if let Err(error) = saved {
            tracing::debug!(path = %self.path.display(), %error, "no mark of this session");
        }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_key_is_hidden_and_words_stay() {
        for (text, shown) in [
            ("index out of bounds: the len is 3 but the index is 7", None),
            ("unit 1f0c5a2e3b4d5e6f70812a3b (KW1-0000-7)", Some("unit [hidden] (KW1-0000-7)")),
            ("key 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff.", Some("key [hidden].")),
            ("AGE-SECRET-KEY-1QL3Z7HJY54PW3HYWW5AYYFG7ZQGVC7W3J2ELW8ZMRJ2KG5SFN9AQMCAC8P", Some("[hidden]")),
            ("password=c2VjcmV0IHNlY3JldCBzZWNyZXQxMjM0NTY3ODkwMTI=", Some("[hidden]")),
            ("left: [1, 2, 3, 4, 5, 6, 7, 8, 9]", Some("left: [hidden]")),
            ("left: [1, 2]", None),
            ("no file /home/line/keywright/station.toml", None),
            ("thread 'fixture-left' in keywright::line::worker::Worker::exchange_stage_two", None),
            ("工位 left: 密钥 00112233445566778899aabbccddeeff", Some("工位 left: 密钥 [hidden]")),
        ] {
            assert_eq!(hide_secrets(text), shown.unwrap_or(text));
        }
    }

    #[test]
    fn reports_name_the_place_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let text =
            report(0, "fixture-left", "src/x.rs:1:2", "key 00112233445566778899aabbccddeeff", "  0: main");
        assert!(text.contains("1970-01-01T00:00:00.000Z") && text.contains("src/x.rs:1:2"), "{text}");
        assert!(!text.contains("00112233"), "{text}");
        for n in 0..30 {
            write(folder.path(), n * 1000, &text).unwrap();
        }
        let mut left = reports(folder.path());
        left.sort();
        assert_eq!(left.len(), KEPT);
        assert!(left[0].to_string_lossy().contains("00-00-10"), "{:?}", left[0]);
    }

    #[test]
    fn a_session_that_was_cut_off_is_told_once() {
        let home = tempfile::tempdir().unwrap();
        let (mark, before) = Mark::leave(home.path(), 1_000);
        assert_eq!(before, None);
        mark.set_batch(Some("B-0001"));
        std::mem::forget(mark);
        write(&home.path().join("logs"), 500, "older").unwrap();
        let newer = write(&home.path().join("logs"), 2_000, "its own").unwrap();
        let (mark, before) = Mark::leave(home.path(), 9_000);
        let told = LastEnd { started_at_ms: 1_000, batch: Some("B-0001".into()), report: Some(newer) };
        assert_eq!(before, Some(told));
        drop(mark);
        let (mark, before) = Mark::leave(home.path(), 10_000);
        assert_eq!(before, None);
        drop(mark);
        std::fs::write(home.path().join(RUNNING), "{").unwrap();
        let (_mark, before) = Mark::leave(home.path(), 11_000);
        assert_eq!(before.unwrap().batch, None);
    }
}
