//! Where labels go: a command that prints a file, or a printer's raw TCP port.
//!
//! Everything has a time limit. A printer that took a label may still jam: whether it came out is what reading it back tells.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What a command says on standard error is kept up to here.
const STDERR: u64 = 4096;
/// How often a command is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// Stands in a command for the label's file.
pub const FILE: &str = "$file";

/// Where labels go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Program and arguments; `$file` in one of them is the label's file.
    Command(Vec<String>),
    /// `host:port`, raw.
    Tcp(String),
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(words) => f.write_str(&words.join(" ")),
            Self::Tcp(address) => write!(f, "printer {address}"),
        }
    }
}

/// Why a label did not go out; for people.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The command can't be run.
    #[error("can't be started: {0}")]
    Start(#[source] std::io::Error),
    /// The command failed.
    #[error("{status}{}", said(.stderr))]
    Status {
        /// Its exit status in words.
        status: String,
        /// The end of what it said.
        stderr: String,
    },
    /// It took too long.
    #[error("no end within {} s{}", .limit.as_secs_f32(), said(.stderr))]
    Slow {
        /// The limit.
        limit: Duration,
        /// The end of what it said.
        stderr: String,
    },
    /// The printer's name has no address.
    #[error("its name can't be resolved: {0}")]
    Name(String),
    /// The printer does not take the label.
    #[error("{what}: {error}")]
    Network {
        /// What was tried.
        what: &'static str,
        /// The system's words.
        error: std::io::Error,
    },
    /// The label's file can't be written.
    #[error("the label's file can't be written: {0}")]
    File(#[source] std::io::Error),
}

/// The last line that says something.
fn said(stderr: &str) -> String {
    let line = stderr.lines().map(str::trim).rfind(|l| !l.is_empty()).unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).take(300).collect();
    if line.is_empty() { String::new() } else { format!(": {line}") }
}

impl Sink {
    /// Sends one label.
    ///
    /// # Errors
    /// See [`SinkError`]; whatever it is, nobody may count on the label.
    pub fn send(&self, label: &[u8], limit: Duration) -> Result<(), SinkError> {
        match self {
            Self::Command(words) => command(words, ("keywright-label-", ".txt"), label, limit),
            Self::Tcp(address) => tcp(address, label, limit),
        }
    }
}

impl Sink {
    /// Whether labels could go there: the program is there, the printer's port answers. Nothing is sent.
    ///
    /// # Errors
    /// As [`Sink::send`].
    pub fn reach(&self, limit: Duration) -> Result<(), SinkError> {
        match self {
            Self::Command(words) => {
                let name = words.first().map(String::as_str).unwrap_or_default();
                let missing = || SinkError::Start(std::io::ErrorKind::NotFound.into());
                find_program(name).map(drop).ok_or_else(missing)
            }
            Self::Tcp(address) => dial(address, limit).map(drop),
        }
    }
}

/// Where the program of a command is, as the system would find it.
pub(crate) fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::path::Path::new(name);
    if path.components().count() > 1 {
        return is_program(path).then(|| path.to_path_buf());
    }
    std::env::split_paths(&std::env::var_os("PATH")?).find_map(|folder| {
        let here = folder.join(name);
        let with_ending = here.with_extension("exe");
        if is_program(&here) {
            Some(here)
        } else {
            (cfg!(windows) && is_program(&with_ending)).then_some(with_ending)
        }
    })
}

fn is_program(path: &std::path::Path) -> bool {
    let Ok(meta) = std::fs::metadata(path) else { return false };
    #[cfg(unix)]
    let runs = std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o111 != 0;
    #[cfg(not(unix))]
    let runs = true;
    meta.is_file() && runs
}

/// Runs a program on a file that holds these bytes, readable by this user only and gone afterwards, within a time limit. The file's
/// name begins with `prefix` and ends with `suffix`.
pub(crate) fn command(
    words: &[String],
    (prefix, suffix): (&str, &str),
    bytes: &[u8],
    limit: Duration,
) -> Result<(), SinkError> {
    let mut file =
        tempfile::Builder::new().prefix(prefix).suffix(suffix).tempfile().map_err(SinkError::File)?;
    file.write_all(bytes).and_then(|()| file.flush()).map_err(SinkError::File)?;
    let path = file.path().display().to_string();
    let mut words = words.iter().map(|w| w.replace(FILE, &path));
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // A group of its own: what it started ends with it.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().map_err(SinkError::Start)?;
    let (told, heard) = mpsc::channel();
    if let Some(stderr) = child.stderr.take() {
        // A thread of its own: a child of the child may hold the pipe open for ever.
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let mut stderr = stderr;
            drop(stderr.by_ref().take(STDERR).read_to_end(&mut text));
            drop(told.send(String::from_utf8_lossy(&text).into_owned()));
            drop(std::io::copy(&mut stderr, &mut std::io::sink()));
        });
    }
    let words_of = |wait: Duration| heard.recv_timeout(wait).unwrap_or_default();
    let until = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => {
                let stderr = words_of(Duration::from_secs(1));
                return Err(SinkError::Status { status: status.to_string(), stderr });
            }
            Ok(None) if Instant::now() < until => std::thread::sleep(LOOK.min(limit)),
            Ok(None) => {
                stop(&mut child);
                return Err(SinkError::Slow { limit, stderr: words_of(Duration::from_millis(200)) });
            }
            Err(error) => {
                stop(&mut child);
                return Err(SinkError::Start(error));
            }
        }
    }
}

fn stop(child: &mut std::process::Child) {
    #[cfg(unix)]
    if let Some(group) = rustix::process::Pid::from_raw(child.id() as i32) {
        // Gone already is as good.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    drop(child.kill());
    drop(child.wait());
}

fn tcp(address: &str, label: &[u8], limit: Duration) -> Result<(), SinkError> {
    let until = Instant::now() + limit;
    write_all(dial(address, limit)?, label, until, limit)
}

/// Connects to the first of a printer's addresses that answers; half a label may not go to one and half to another, so nothing is
/// tried once one has answered.
fn dial(address: &str, limit: Duration) -> Result<TcpStream, SinkError> {
    let until = Instant::now() + limit;
    let left = || until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let (told, heard) = mpsc::channel();
    let name = address.to_owned();
    // The system's resolver has no time limit.
    std::thread::spawn(move || {
        drop(told.send(name.to_socket_addrs().map(Iterator::collect::<Vec<SocketAddr>>)))
    });
    let addresses = match heard.recv_timeout(left()) {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => return Err(SinkError::Name(error.to_string())),
        Err(_) => return Err(SinkError::Slow { limit, stderr: String::new() }),
    };
    let mut last = SinkError::Name("it has no address".into());
    for address in addresses {
        match TcpStream::connect_timeout(&address, left()) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = SinkError::Network { what: "it can't be reached", error },
        }
    }
    Err(last)
}

fn write_all(mut stream: TcpStream, label: &[u8], until: Instant, limit: Duration) -> Result<(), SinkError> {
    let network =
        |error: std::io::Error| SinkError::Network { what: "it did not take the whole label", error };
    let mut sent = 0;
    while sent < label.len() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(SinkError::Slow { limit, stderr: String::new() });
        }
        stream.set_write_timeout(Some(left)).map_err(network)?;
        match stream.write(&label[sent..]) {
            Ok(0) => return Err(network(std::io::ErrorKind::WriteZero.into())),
            Ok(n) => sent += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                return Err(SinkError::Slow { limit, stderr: String::new() });
            }
            Err(e) => return Err(network(e)),
        }
    }
    stream.flush().and_then(|()| stream.shutdown(std::net::Shutdown::Write)).map_err(network)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(30);

    fn shell(script: &str) -> Sink {
        Sink::Command(["sh", "-c", script, "sh", FILE].map(str::to_owned).to_vec())
    }

    #[test]
    fn a_command_gets_the_label_as_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("printed");
        let sink = Sink::Command(vec!["cp".into(), FILE.into(), out.display().to_string()]);
        sink.send(b"^XA\xc3\xa9^XZ", LIMIT).unwrap();
        assert_eq!(std::fs::read(out).unwrap(), b"^XA\xc3\xa9^XZ");
    }

    #[test]
    fn a_command_that_fails_says_what_it_said() {
        let error = shell("echo first >&2; printf 'out of \\033labels\\n\\n' >&2; exit 3")
            .send(b"x", LIMIT)
            .unwrap_err();
        assert_eq!(error.to_string(), "exit status: 3: out of labels");
        let error = shell("kill -9 $$").send(b"x", LIMIT).unwrap_err();
        assert!(error.to_string().contains("signal: 9"), "{error}");
        let error = Sink::Command(vec!["/nonexistent/lp".into(), FILE.into()]).send(b"x", LIMIT).unwrap_err();
        assert!(error.to_string().starts_with("can't be started"), "{error}");
    }

    #[test]
    fn a_command_that_hangs_is_ended_with_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        // A child of the child holds the pipe; both must go.
        let script = format!("echo stuck >&2; sleep 600 & echo $! > {}; wait", pid.display());
        let error = shell(&script).send(b"x", Duration::from_secs(2)).unwrap_err();
        assert!(
            matches!(&error, SinkError::Slow { stderr, .. } if stderr.is_empty() || stderr.contains("stuck")),
            "{error:?}"
        );
        let pid: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        let gone = || {
            // A killed process that nobody has waited for yet is a zombie: it runs no more.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.rsplit(") ").next().is_some_and(|s| s.starts_with('Z'))
        };
        let until = Instant::now() + LIMIT;
        while !gone() {
            assert!(Instant::now() < until, "the child's child lives on");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_printer_gets_all_of_it_over_tcp() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let printer = std::thread::spawn(move || {
            let mut got = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut got).unwrap();
            got
        });
        let label = "^XA$^XZ".repeat(50_000);
        Sink::Tcp(address.clone()).send(label.as_bytes(), LIMIT).unwrap();
        assert_eq!(printer.join().unwrap(), label.as_bytes());
        // It is gone now.
        let error = Sink::Tcp(address).send(b"x", LIMIT).unwrap_err();
        assert!(error.to_string().starts_with("it can't be reached"), "{error}");
        let error = Sink::Tcp("no port here".into()).send(b"x", LIMIT).unwrap_err();
        assert!(matches!(error, SinkError::Name(_)), "{error}");
    }

    #[test]
    fn a_printer_that_takes_nothing_is_given_up_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // More than both ends' buffers hold; nobody reads.
        let label = vec![b'x'; 64 << 20];
        let error = Sink::Tcp(address).send(&label, Duration::from_millis(300)).unwrap_err();
        assert!(matches!(error, SinkError::Slow { .. }), "{error:?}");
        drop(listener);
    }
}
