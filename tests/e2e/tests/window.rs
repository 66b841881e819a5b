//! The real window on a display without a monitor, driven by key presses, on virtual boards.

use keywright_e2e::{Factory, PATIENCE};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Five emulated boards and two painted windows at once are more than a small machine answers in time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An X server on a free display; ends with the test.
struct Display {
    server: Child,
    name: String,
}

impl Display {
    fn start(size: &str) -> Self {
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", &format!("{size}x24"), "-nolisten", "tcp"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb starts; the Debian package is xvfb");
        let mut number = String::new();
        BufReader::new(server.stdout.take().expect("piped"))
            .read_line(&mut number)
            .expect("a display number");
        Self { server, name: format!(":{}", number.trim()) }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DISPLAY", &self.name).env_remove("WAYLAND_DISPLAY");
        command
    }

    fn xdotool(&self, args: &[&str]) -> String {
        let out = self
            .command("xdotool")
            .args(args)
            .output()
            .expect("xdotool starts; the Debian package is xdotool");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn screenshot(&self, name: &str) -> PathBuf {
        let mut path = keywright_e2e::program("keywright");
        path.pop();
        path.pop();
        path.push("screenshots");
        std::fs::create_dir_all(&path).expect("a folder for screenshots");
        path.push(name);
        let taken = self
            .command("import")
            .args(["-window", "root"])
            .arg(&path)
            .status()
            .expect("import (imagemagick)");
        assert!(taken.success());
        path
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Waits, bounded, for a condition of the world outside.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what} did not happen in {PATIENCE:?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn space_turns_four_boards_into_units() {
    let _alone = alone();
    let factory = Factory::new(4, 4, 2, 61);
    let display = Display::start("1280x720");
    let mut window = display
        .command(keywright_e2e::program("keywright").to_str().expect("UTF-8 path"))
        .arg("--home")
        .arg(factory.home())
        .arg("--demo")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("keywright starts");
    let finished = |outcome: &str| -> i64 {
        factory
            .database()
            .query_row("SELECT count(*) FROM attempt WHERE outcome = ?1", [outcome], |row| row.get(0))
            .expect("count")
    };
    eventually("the window", || !display.xdotool(&["search", "--name", "Keywright"]).trim().is_empty());
    let id =
        display.xdotool(&["search", "--name", "Keywright"]).lines().next().unwrap_or_default().to_owned();
    // The first frame may come a moment after the window; a press that nobody saw is repeated, one that somebody saw
    // starts nothing twice, because running fixtures don't start.
    let started = || -> i64 {
        factory.database().query_row("SELECT count(*) FROM attempt", [], |row| row.get(0)).expect("count")
    };
    eventually("a start by Space", || {
        // Keys go to the focus, through XTEST: events sent to one window are marked as sent, and toolkits ignore those.
        // There is no window manager to give the focus, and a window that is not mapped yet can't take it.
        display.xdotool(&["windowfocus", &id]);
        display.xdotool(&["key", "space"]);
        let end = Instant::now() + std::time::Duration::from_secs(2);
        while Instant::now() < end {
            if started() > 0 {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        false
    });
    eventually("an end of four attempts", || {
        finished("PASS") + finished("FAIL") + finished("ERROR") + finished("TIMEOUT") >= 4
    });
    let picture = display.screenshot("line-1280x720.png");
    assert_eq!(finished("PASS"), 4, "all boards pass; see {}", picture.display());

    // A picture with something on it: many colours, not one.
    let colours = Command::new("identify").args(["-format", "%k"]).arg(&picture).output().expect("identify");
    let colours: u32 = String::from_utf8_lossy(&colours.stdout).trim().parse().expect("a number");
    assert!(colours > 50, "{} shows {colours} colours", picture.display());

    // The window closes in an orderly way and leaves a sound database.
    display.xdotool(&["windowfocus", &id]);
    display.xdotool(&["key", "ctrl+q"]);
    eventually("the end of the program", || window.try_wait().expect("wait").is_some());
    assert!(window.wait().expect("wait").success());
    let sound: String = factory
        .database()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("integrity_check");
    assert_eq!(sound, "ok");
}

/// A unit comes back and gets new keys without a pointer: scanned, ordered, carried out, and the line is as it was.
#[test]
fn new_keys_are_ordered_in_the_window() {
    let _alone = alone();
    let factory = Factory::new(1, 1, 2, 62);
    factory.run_line(&[1]).assert_passed(&[1]);
    factory.ok(&["batch", "close", keywright_e2e::BATCH]);
    let display = Display::start("1280x720");
    let mut window = display
        .command(keywright_e2e::program("keywright").to_str().expect("UTF-8 path"))
        .arg("--home")
        .arg(factory.home())
        .args(["--demo", "--operator", "Ana", "window", "--units"])
        .stdin(Stdio::null())
        .spawn()
        .expect("keywright starts");
    eventually("the window", || !display.xdotool(&["search", "--name", "Keywright"]).trim().is_empty());
    let id =
        display.xdotool(&["search", "--name", "Keywright"]).lines().next().unwrap_or_default().to_owned();
    let number = |sql: &str| -> i64 { factory.database().query_row(sql, [], |row| row.get(0)).expect(sql) };
    let ordered = || number("SELECT count(*) FROM reprovision") > 0;
    eventually("an order", || {
        // As often as it takes for the window to be there; an order that stands is not given twice.
        display.xdotool(&["windowfocus", &id]);
        // One key a frame: a software renderer paints seven a second.
        let key = |key: &str| {
            display.xdotool(&["key", key]);
            std::thread::sleep(std::time::Duration::from_millis(400));
        };
        key("Escape");
        display.xdotool(&["type", &factory.uid(1)]);
        key("Return");
        key("Tab");
        // Past the button that copies the id, to new keys.
        key("Tab");
        key("space");
        display.xdotool(&["type", "RMA 91"]);
        key("ctrl+Return");
        std::thread::sleep(std::time::Duration::from_millis(600));
        ordered()
    });
    eventually("its end", || number("SELECT count(*) FROM reprovision WHERE ended_at_ms IS NOT NULL") > 0);
    std::thread::sleep(std::time::Duration::from_secs(1));
    let picture = display.screenshot("units-1280x720.png");
    let done = "SELECT count(*) FROM reprovision WHERE outcome = 'done' AND kind = 'new-keys' AND reason = 'RMA 91' AND \
                operator = 'Ana' AND ak_after = 2 AND ck_after = 2";
    assert_eq!(number(done), 1, "see {}", picture.display());
    assert_eq!(number("SELECT count(*) FROM reprovision"), 1);
    display.xdotool(&["windowfocus", &id]);
    display.xdotool(&["key", "ctrl+q"]);
    eventually("the end of the program", || window.try_wait().expect("wait").is_some());
    assert!(window.wait().expect("wait").success());
}
