//! The serial link, over serialport: packets in, packets out.
//!
//! One reader thread per open port feeds the decoder, so that nothing is lost while the worker thinks; it ends with the
//! link. A pseudo-terminal has no modem lines (ENOTTY) and needs none: they are never touched.

use crate::config::PortDescription;
use crate::failure::{Failure, FailureCode};
use crate::line::bench::{Link, LinkStats, Received};
use keywright_protocol::serial::{Channel, Decoder, encode, encoded_len};
use serialport::{ErrorKind, SerialPort, SerialPortType};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

/// 115200 8N1 (docs/contracts.md).
const BAUD: u32 = 115_200;
/// How long the reader sleeps at most before it looks whether the link is still wanted.
const READ_SLICE: Duration = Duration::from_millis(50);
/// The longest packet takes 180 ms; a port that takes longer has lost its other end.
const WRITE_LIMIT: Duration = Duration::from_secs(2);

/// Every serial port on this PC.
pub fn list() -> Vec<PortDescription> {
    // serialport panics where the kernel has no tty class at all (some containers).
    if cfg!(target_os = "linux") && !std::path::Path::new("/sys/class/tty").is_dir() {
        return Vec::new();
    }
    let ports = serialport::available_ports().unwrap_or_default();
    ports
        .into_iter()
        .map(|port| match port.port_type {
            SerialPortType::UsbPort(usb) => PortDescription {
                path: port.port_name,
                usb: Some((usb.vid, usb.pid)),
                serial: usb.serial_number.filter(|s| !s.is_empty()),
            },
            _ => PortDescription { path: port.port_name, usb: None, serial: None },
        })
        .collect()
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Set by `clear`: the decoder forgets a partial packet.
    restart: AtomicBool,
    bytes: AtomicU64,
    packets: AtomicU64,
    dropped: AtomicU64,
}

/// An open port with packet framing.
pub struct SerialLink {
    path: String,
    port: Box<dyn SerialPort>,
    packets: Receiver<Result<Received, String>>,
    /// Why the reader ended; a lost port stays lost.
    gone: Option<String>,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for SerialLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SerialLink")
            .field("path", &self.path)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl SerialLink {
    /// Opens `path` for this station alone.
    ///
    /// # Errors
    /// `PortMissing` if it is not there or may not be used, `PortBusy` (with the holder's name, if the system tells)
    /// if another program has it.
    pub fn open(path: &str) -> Result<Self, Failure> {
        // On Unix the port is opened with TIOCEXCL and an exclusive flock; on Windows the open itself is exclusive.
        let opened = serialport::new(path, BAUD).timeout(READ_SLICE).open();
        let mut port = opened.map_err(|e| unopened(path, &e))?;
        let mut input = port.try_clone().map_err(|e| unopened(path, &e))?;
        // A time-out belongs to the handle, not to the port: reader and writer each have their own.
        port.set_timeout(WRITE_LIMIT).map_err(|e| unopened(path, &e))?;
        let shared = Arc::new(Shared::default());
        let (sender, packets) = mpsc::channel();
        let theirs = Arc::clone(&shared);
        let reader = std::thread::Builder::new()
            .name(format!("serial {path}"))
            .spawn(move || read_packets(&mut *input, &theirs, &sender))
            .map_err(|e| Failure::new(FailureCode::StationFault, format!("no thread for {path}: {e}")))?;
        Ok(Self {
            path: path.to_owned(),
            port,
            packets,
            gone: None,
            shared,
            reader: Some(reader),
            buffer: Vec::new(),
        })
    }

    fn lost(&self, why: impl std::fmt::Display) -> Failure {
        Failure::new(FailureCode::PortLost, format!("{}: {why}", self.path))
    }
}

fn read_packets(input: &mut dyn Read, shared: &Shared, packets: &Sender<Result<Received, String>>) {
    let mut decoder: Decoder = Decoder::new();
    let mut bytes = [0; 512];
    while !shared.stop.load(Ordering::Relaxed) {
        let got = match input.read(&mut bytes) {
            Ok(0) => {
                drop(packets.send(Err("end of file".into())));
                return;
            }
            Ok(n) => &bytes[..n],
            Err(e) if matches!(e.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::Interrupted) => {
                continue;
            }
            Err(e) => {
                drop(packets.send(Err(e.to_string())));
                return;
            }
        };
        if shared.restart.swap(false, Ordering::AcqRel) {
            decoder.reset();
        }
        shared.bytes.fetch_add(got.len() as u64, Ordering::Relaxed);
        for byte in got {
            match decoder.feed(*byte) {
                None => {}
                Some(Err(_)) => {
                    shared.dropped.fetch_add(1, Ordering::Relaxed);
                }
                Some(Ok(packet)) => {
                    shared.packets.fetch_add(1, Ordering::Relaxed);
                    let packet = Received { channel: packet.channel, payload: packet.payload.to_vec() };
                    if packets.send(Ok(packet)).is_err() {
                        return;
                    }
                }
            }
        }
    }
}

impl Link for SerialLink {
    fn send(&mut self, channel: Channel, payload: &[u8]) -> Result<(), Failure> {
        // A leading zero ends whatever half packet the unit may have seen while its pins were floating.
        self.buffer.clear();
        self.buffer.resize(1 + encoded_len(payload.len()), 0);
        let len = encode(channel, payload, &mut self.buffer[1..]).map_err(|e| {
            Failure::new(FailureCode::StationFault, format!("a packet of {} bytes: {e}", payload.len()))
        })?;
        let sent = self.port.write_all(&self.buffer[..=len]);
        sent.map_err(|e| self.lost(e))
    }

    fn receive(&mut self, wait: Duration) -> Result<Option<Received>, Failure> {
        // Not what the channel says afterwards: between its last word and its end the reader is silent for a moment.
        if let Some(why) = &self.gone {
            return Err(self.lost(why));
        }
        let why = match self.packets.recv_timeout(wait) {
            Ok(Ok(packet)) => return Ok(Some(packet)),
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Ok(Err(why)) => why,
            Err(RecvTimeoutError::Disconnected) => "its reader ended".into(),
        };
        let failure = self.lost(&why);
        self.gone = Some(why);
        Err(failure)
    }

    fn clear(&mut self) {
        self.shared.restart.store(true, Ordering::Release);
        while let Ok(packet) = self.packets.try_recv() {
            if let Err(why) = packet {
                self.gone = Some(why);
            }
        }
        for count in [&self.shared.bytes, &self.shared.packets, &self.shared.dropped] {
            count.store(0, Ordering::Relaxed);
        }
    }

    fn stats(&self) -> LinkStats {
        LinkStats {
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            packets: self.shared.packets.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
        }
    }
}

impl Drop for SerialLink {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}

fn unopened(path: &str, error: &serialport::Error) -> Failure {
    let there = cfg!(not(unix)) || std::path::Path::new(path).exists();
    match error.kind() {
        _ if !there => Failure::new(FailureCode::PortMissing, path),
        ErrorKind::Io(std::io::ErrorKind::NotFound) => Failure::new(FailureCode::PortMissing, path),
        ErrorKind::Io(std::io::ErrorKind::PermissionDenied) if cfg!(unix) => Failure::new(
            FailureCode::PortMissing,
            format!(
                "{path} may not be used by this user: install the udev rules 99-keywright.rules or join its group"
            ),
        ),
        // EBUSY from TIOCEXCL and a lock that somebody holds arrive as NoDevice; Windows says "access denied".
        ErrorKind::NoDevice | ErrorKind::Io(std::io::ErrorKind::PermissionDenied) => {
            let holders = holders(path);
            let by = if holders.is_empty() { String::new() } else { format!(" by {}", holders.join(", ")) };
            Failure::new(FailureCode::PortBusy, format!("{path} is held{by}"))
        }
        _ => Failure::new(FailureCode::PortMissing, format!("{path}: {error}")),
    }
}

/// Who has the port open, as `name (pid n)`: whoever holds its lock if the kernel knows one, else everybody who has
/// the file open and may be looked at.
#[cfg(target_os = "linux")]
fn holders(path: &str) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = std::fs::metadata(path) else { return Vec::new() };
    let name = |pid: u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let who = if pid == std::process::id() { "this station, " } else { "" };
        format!("{} ({who}pid {pid})", name.trim())
    };
    // `1: FLOCK  ADVISORY  WRITE 4711 00:18:5 0 EOF`: the sixth word is device:inode, of a file system's own device.
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let locked: Vec<_> = locks
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(4);
            let (pid, file) = (words.next()?, words.next()?);
            let mut id = file.split(':');
            let (major, minor) =
                (u32::from_str_radix(id.next()?, 16).ok()?, u32::from_str_radix(id.next()?, 16).ok()?);
            let same =
                rustix::fs::makedev(major, minor) == meta.dev() && id.next()?.parse() == Ok(meta.ino());
            same.then(|| pid.parse().ok()).flatten()
        })
        .map(name)
        .collect();
    if !locked.is_empty() {
        return locked;
    }
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|p| p.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        files.flatten().any(|f| {
            std::fs::metadata(f.path()).is_ok_and(|m| (m.dev(), m.ino()) == (meta.dev(), meta.ino()))
        })
    })
    .map(name)
    .collect()
}

#[cfg(not(target_os = "linux"))]
fn holders(_path: &str) -> Vec<String> {
    Vec::new()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use keywright_protocol::control::Control;
    use serialport::TTYPort;
    use std::time::Instant;

    /// A pseudo-terminal as the virtual board makes one: the "board" end and the port's name.
    fn board() -> (std::fs::File, String, rustix::fd::OwnedFd) {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = rustix::fs::open(
            &name,
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        (std::fs::File::from(master), name, slave)
    }

    fn packet(channel: Channel, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0; encoded_len(payload.len())];
        let len = encode(channel, payload, &mut out).unwrap();
        out.truncate(len);
        out
    }

    #[test]
    fn packets_both_ways_over_a_pseudo_terminal() {
        let (mut far, name, _slave) = board();
        let mut link = SerialLink::open(&name).unwrap();
        let mut noise = vec![0x55, 0xAA, 0x00];
        noise.extend(packet(Channel::AGENT, &[7; 600]));
        far.write_all(&noise).unwrap();
        let got = link.receive(Duration::from_secs(10)).unwrap().unwrap();
        assert_eq!((got.channel, got.payload), (Channel::AGENT, vec![7; 600]));
        assert_eq!(link.stats().packets, 1);
        assert_eq!(link.stats().dropped, 1);
        let mut out = [0; 8];
        let len = Control::Wake.encode(&mut out).unwrap();
        link.send(Channel::CONTROL, &out[..len]).unwrap();
        let expected = packet(Channel::CONTROL, &out[..len]);
        let mut seen = vec![0; expected.len() + 1];
        far.read_exact(&mut seen).unwrap();
        assert_eq!(seen[0], 0);
        assert_eq!(seen[1..], expected);
        link.clear();
        assert_eq!(link.stats(), LinkStats::default());
        assert_eq!(link.receive(Duration::ZERO).unwrap(), None);
    }

    #[test]
    fn missing_port() {
        let failure = SerialLink::open("/dev/tty-no-such-port").unwrap_err();
        println!("{failure}");
        assert_eq!(failure.code, FailureCode::PortMissing);
    }

    #[test]
    fn busy_port_names_its_holder() {
        let (_far, name, _slave) = board();
        let holder = TTYPort::open(&serialport::new(&name, BAUD)).unwrap();
        let failure = SerialLink::open(&name).unwrap_err();
        println!("{failure}");
        assert_eq!(failure.code, FailureCode::PortBusy);
        assert!(failure.sentence.contains(&format!("pid {}", std::process::id())), "{failure}");
        drop(holder);
        SerialLink::open(&name).unwrap();
    }

    #[test]
    fn vanished_port() {
        let (far, name, slave) = board();
        let mut link = SerialLink::open(&name).unwrap();
        drop((far, slave));
        let deadline = Instant::now() + Duration::from_secs(10);
        let failure = loop {
            match link.receive(Duration::from_millis(20)) {
                Err(failure) => break failure,
                Ok(_) => assert!(Instant::now() < deadline),
            }
        };
        println!("{failure}");
        assert_eq!(failure.code, FailureCode::PortLost);
        assert_eq!(link.receive(Duration::ZERO).unwrap_err().code, FailureCode::PortLost, "and it stays so");
    }

    #[test]
    fn babble_is_counted_and_survived() {
        let (mut far, name, _slave) = board();
        let mut link = SerialLink::open(&name).unwrap();
        let mut state = 0x1234_5678_u32;
        let noise: Vec<u8> = (0..3000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        far.write_all(&noise).unwrap();
        far.write_all(&[0]).unwrap();
        far.write_all(&packet(Channel::LOG, &[1; 7])).unwrap();
        let got = link.receive(Duration::from_secs(10)).unwrap().unwrap();
        assert_eq!(got.channel, Channel::LOG);
        assert!(link.stats().dropped > 0 && link.stats().bytes > 3000);
    }
}
