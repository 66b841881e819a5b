//! Living boards: the serial port, the control commands, and what survives a restart.

mod common;

use common::echo;
use keywright_virtual_board::control::{Control, command};
use keywright_virtual_board::{Activity, Bench, BenchConfig};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

fn start_echo(bench: &Bench, n: u32) {
    bench.with_board(n, |b| b.tamper(0x0800_0000, &echo()).map(|()| b.reset())).unwrap().unwrap();
    assert!(bench.wait_until(n, |b| b.activity() == Activity::Idle, LIMIT).unwrap());
}

/// Send `text` down a terminal and read as much back.
fn talk(path: &std::path::Path, text: &[u8]) -> Vec<u8> {
    let mut port = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    port.write_all(text).unwrap();
    let mut back = Vec::new();
    let mut buf = [0; 4096];
    while back.len() < text.len() {
        let mut fds = [PollFd::new(&port, PollFlags::IN)];
        let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
        let ready = poll(&mut fds, Some(&patience)).unwrap();
        assert_eq!(ready, 1, "{} of {} bytes came back", back.len(), text.len());
        let read = port.read(&mut buf).unwrap();
        back.extend_from_slice(&buf[..read]);
    }
    back
}

#[test]
fn the_terminal_is_a_raw_eight_bit_line() {
    let bench = Bench::start(&BenchConfig::new(1, 1)).unwrap();
    start_echo(&bench, 1);
    let text: Vec<u8> = (0..=255).cycle().take(2000).collect();
    assert!(talk(&bench.fixture(1).unwrap().serial, &text) == text);
}

#[test]
fn flash_and_links_survive_restart_and_unplugging() {
    let dir = tempfile::tempdir().unwrap();
    let config = BenchConfig { dir: Some(dir.path().to_owned()), ..BenchConfig::new(2, 3) };
    let bench = Bench::start(&config).unwrap();
    let uid = bench.uid(2).unwrap();
    start_echo(&bench, 2);
    let link = dir.path().join("board-2.tty");
    assert_eq!(talk(&link, b"before"), b"before");

    let probe = bench.fixture(2).unwrap().swd;
    bench.unplug(2).unwrap();
    assert!(!link.exists());
    bench.plug(2).unwrap();
    assert_eq!(bench.fixture(2).unwrap().swd, probe, "the probe keeps its address");
    assert_eq!(talk(&link, b"again"), b"again");

    drop(bench);
    assert!(!link.exists());
    let bench = Bench::start(&config).unwrap();
    assert_eq!(bench.uid(2).unwrap(), uid);
    assert!(bench.wait_until(2, |b| b.activity() == Activity::Idle, LIMIT).unwrap());
    assert_eq!(talk(&link, b"after"), b"after");
}

#[test]
fn swapping_moves_the_serial_line_with_the_board() {
    let bench = Bench::start(&BenchConfig::new(2, 4)).unwrap();
    start_echo(&bench, 1);
    bench.swap(1, 2).unwrap();
    assert_eq!(talk(&bench.fixture(2).unwrap().serial, b"moved"), b"moved");
    assert_eq!(bench.status(1).unwrap().fixture, Some(2));
    bench.place(2, None).unwrap();
    assert_eq!(bench.status(1).unwrap().fixture, None);
    bench.place(1, Some(1)).unwrap();
    assert_eq!(talk(&bench.fixture(1).unwrap().serial, b"home"), b"home");
    assert_eq!(bench.status(2).unwrap().fixture, None, "it was pushed out");
}

#[test]
fn power_cuts_in_a_living_board() {
    let bench = Bench::start(&BenchConfig::new(1, 5)).unwrap();
    start_echo(&bench, 1);
    bench.cut_power(1).unwrap();
    assert_eq!(bench.status(1).unwrap().activity, Activity::Off);
    bench.power_on(1).unwrap();
    assert!(bench.wait_until(1, |b| b.activity() == Activity::Idle, LIMIT).unwrap());
    assert_eq!(bench.status(1).unwrap().resets, 3, "power, reset button, power");
}

#[test]
fn an_idle_board_keeps_real_time() {
    let bench = Bench::start(&BenchConfig::new(1, 6)).unwrap();
    start_echo(&bench, 1);
    let (real, virt) = (std::time::Instant::now(), bench.with_board(1, |b| b.elapsed()).unwrap());
    assert!(bench.wait_until(1, |b| b.elapsed() > virt + Duration::from_millis(300), LIMIT).unwrap());
    let took = real.elapsed();
    assert!(took > Duration::from_millis(250), "{took:?}: it ran ahead");
}

#[test]
fn commands_answer_in_json_and_explain_refusals() {
    let bench = Bench::start(&BenchConfig::new(2, 7)).unwrap();
    let quit = AtomicBool::new(false);
    let say = |line: &str| command(&bench, line, &quit);
    let ok = |line: &str| assert_eq!(say(line)["ok"], true, "{line}: {}", say(line));
    let refused = |line: &str, why: &str| {
        let answer = say(line);
        assert_eq!(answer["ok"], false, "{line}");
        assert!(answer["error"].as_str().unwrap().contains(why), "{line}: {answer}");
    };
    assert_eq!(say("status")["result"].as_array().unwrap().len(), 2);
    assert_eq!(say("status 2")["uid"], bench.uid(2).unwrap().to_string());
    assert!(say("fixture 1")["probe"].as_str().unwrap().starts_with("1d50:6018:127.0.0.1:"));
    ok("tamper 1 0x08000010 2");
    assert_eq!(say("read 1 0x0800000f 4")["hex"], "ff0000ff");
    ok("cut-power 1 --at-flash-op 3 --progress 0.25 --seed 0x10");
    assert_eq!(bench.with_board(1, |b| b.armed_cut().unwrap().after).unwrap(), 3);
    ok("cut-power 1");
    ok("power-on 1");
    ok("reset 1");
    ok("protect 2 1");
    ok("idcode 2 0x10006413");
    ok("timing 2 realistic");
    ok("swap 1 2");
    ok("place 1 none");
    ok("place 1 2");
    ok("unplug 1");
    ok("plug 1");
    ok("save");
    assert!(say("help")["result"].as_array().unwrap().len() > 10);
    refused("status 3", "numbered 1 to 2");
    refused("status 0", "numbered 1 to 2");
    refused("status one", "not a number");
    refused("cut-power 1 --progress 2", "0 to 1");
    refused("cut-power 1 --progress 0.5", "which flash operation");
    refused("cut-power 1 --bang 1", "not an option");
    refused("tamper 1 0x08200000 1", "not inside the flash");
    refused("tamper 1 0x08000000 0xffffffff", "not inside the flash");
    refused("reset", "wrong arguments: reset N");
    refused("fly 1", "no command `fly`");
    ok("protect 2 2");
    refused("protect 2 0", "final");
    assert!(!quit.load(Ordering::Relaxed));
    ok("quit");
    assert!(quit.load(Ordering::Relaxed));
}

#[test]
fn the_control_socket_serves_several_people_and_refuses_a_second_owner() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let bench = Arc::new(Bench::start(&BenchConfig::new(1, 8)).unwrap());
    let quit = Arc::new(AtomicBool::new(false));
    let control = Control::start(&path, Arc::clone(&bench), Arc::clone(&quit)).unwrap();
    let ask = |line: &str| {
        let stream = UnixStream::connect(&path).unwrap();
        (&stream).write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer).unwrap();
        answer
    };
    let _held = UnixStream::connect(&path).unwrap();
    assert!(ask("status 1").contains("\"ok\":true"));
    assert!(Control::start(&path, Arc::clone(&bench), Arc::clone(&quit)).is_err());
    assert!(ask("reset 1").contains("\"ok\":true"));
    drop(control);
    assert!(!path.exists());
}
