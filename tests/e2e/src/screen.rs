//! A screen without a monitor and one window on it, used as a person uses it: keys and the mouse go through the X server, and what
//! stands on the screen is read as a screen reader reads it, over AT-SPI. So things are found by the words that stand on them, not by
//! their place, and what has no name can't be used.
//!
//! The accessibility registry is this program itself: a bus of its own, so that no desktop is needed and none is disturbed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use zbus::blocking::Connection;
use zbus::zvariant::OwnedObjectPath;

const ROOT: &str = "/org/a11y/atspi/accessible/root";
const CACHE: &str = "/org/a11y/atspi/cache";
/// Between looks at the screen.
const LOOK: Duration = Duration::from_millis(120);
/// A click is held so long: a software renderer paints seven frames a second, and press and release shall be in two of them.
const HELD: &str = "0.2";

/// Why a step did not come to its end.
#[derive(Debug)]
pub struct Stuck(pub String);

impl std::fmt::Display for Stuck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Stuck {}

/// A result of a step.
pub type Done<T = ()> = Result<T, Stuck>;

fn stuck<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> Stuck + '_ {
    move |e| Stuck(format!("{what}: {e}"))
}

/// Something on the screen.
#[derive(Clone, Debug)]
pub struct Thing {
    /// What it is called or says.
    pub name: String,
    path: OwnedObjectPath,
    acts: bool,
    states: u64,
}

impl Thing {
    // Numbers of AT-SPI's states.
    const CHECKED: u32 = 4;
    const EDITABLE: u32 = 7;
    const ENABLED: u32 = 8;
    const FOCUSED: u32 = 12;
    const SELECTED: u32 = 23;

    const fn is(&self, state: u32) -> bool {
        self.states & (1 << state) != 0
    }

    /// It can be used now.
    pub const fn is_on(&self) -> bool {
        self.is(Self::ENABLED)
    }

    /// A text can be typed into it.
    pub const fn is_field(&self) -> bool {
        self.is(Self::EDITABLE)
    }

    /// Something happens when it is pressed.
    pub const fn is_button(&self) -> bool {
        self.acts && !self.is_field()
    }

    /// It is ticked or chosen.
    pub const fn is_checked(&self) -> bool {
        self.is(Self::CHECKED) || self.is(Self::SELECTED)
    }
}

/// A place on the screen: left, top, width, height.
pub type Place = (i32, i32, i32, i32);

/// A row of AT-SPI's cache: object, application, parent, place among its siblings, children, interfaces, name, role, description,
/// states.
type Item = (Reference, Reference, Reference, i32, i32, Vec<String>, String, u32, String, Vec<u32>);
type Reference = (String, OwnedObjectPath);

/// The X server, the bus, and what the window told it.
pub struct Screen {
    server: Child,
    daemon: Child,
    bus: Connection,
    /// The window's name on the bus.
    window: Arc<Mutex<Option<String>>>,
    display: String,
    address: String,
    size: (i32, i32),
    _folder: tempfile::TempDir,
}

struct Status;

#[zbus::interface(name = "org.a11y.Status")]
impl Status {
    #[zbus(property)]
    fn is_enabled(&self) -> bool {
        true
    }

    #[zbus(property)]
    fn screen_reader_enabled(&self) -> bool {
        false
    }
}

struct Socket(Arc<Mutex<Option<String>>>);

#[zbus::interface(name = "org.a11y.atspi.Socket")]
impl Socket {
    fn embed(&self, plug: Reference, #[zbus(connection)] bus: &zbus::Connection) -> (Reference,) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(plug.0);
        let us = bus.unique_name().map(ToString::to_string).unwrap_or_default();
        ((us, OwnedObjectPath::try_from(ROOT).unwrap_or_default()),)
    }
}

fn first_line(child: &mut Child, program: &str, package: &str) -> Done<String> {
    let mut line = String::new();
    let out = child.stdout.take().ok_or_else(|| Stuck(format!("{program} has no output")))?;
    BufReader::new(out).read_line(&mut line).map_err(stuck(program))?;
    if line.trim().is_empty() {
        return Err(Stuck(format!("{program} did not start; the Debian package is {package}")));
    }
    Ok(line.trim().to_owned())
}

fn spawned(command: &mut Command, package: &str) -> Done<Child> {
    let program = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| Stuck(format!("{program}: {e}; the Debian package is {package}")))
}

/// A bus that everybody on it may use; nobody else knows its address.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:dir=FOLDER</listen><auth>EXTERNAL</auth><policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>"#;

impl Screen {
    /// A screen of `width` × `height` pixels.
    ///
    /// # Errors
    /// What does not start, and the package that brings it.
    pub fn start((width, height): (i32, i32)) -> Done<Self> {
        let mut server = spawned(
            Command::new("Xvfb").args([
                "-displayfd",
                "1",
                "-screen",
                "0",
                &format!("{width}x{height}x24"),
                "-nolisten",
                "tcp",
            ]),
            "xvfb",
        )?;
        let display = format!(":{}", first_line(&mut server, "Xvfb", "xvfb")?);
        let folder = tempfile::tempdir().map_err(stuck("a folder for the bus"))?;
        let config = folder.path().join("bus.conf");
        let text = BUS.replace("FOLDER", &folder.path().display().to_string());
        std::fs::write(&config, text).map_err(stuck("bus.conf"))?;
        let mut daemon = spawned(
            Command::new("dbus-daemon")
                .arg(format!("--config-file={}", config.display()))
                .args(["--nofork", "--print-address=1"]),
            "dbus-daemon",
        )?;
        let address = first_line(&mut daemon, "dbus-daemon", "dbus-daemon")?;
        let window = Arc::<Mutex<Option<String>>>::default();
        let bus = (|| {
            zbus::blocking::connection::Builder::address(address.as_str())?
                .serve_at("/org/a11y/bus", Status)?
                .serve_at(ROOT, Socket(window.clone()))?
                .name("org.a11y.Bus")?
                .name("org.a11y.atspi.Registry")?
                .method_timeout(Duration::from_secs(20))
                .build()
        })()
        .map_err(stuck("the bus"))?;
        Ok(Self { server, daemon, bus, window, display, address, size: (width, height), _folder: folder })
    }

    /// A command whose windows come up here.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env("DISPLAY", &self.display)
            .env("DBUS_SESSION_BUS_ADDRESS", &self.address)
            .env("AT_SPI_BUS_ADDRESS", &self.address)
            .env_remove("WAYLAND_DISPLAY");
        command
    }

    /// Puts this screen's displays and buses into a command's environment.
    pub fn xdotool(&self, args: &[&str]) -> Done {
        let out = self.command("xdotool").args(args).output();
        let out = out.map_err(stuck("xdotool (the Debian package is xdotool)"))?;
        if out.status.success() {
            return Ok(());
        }
        Err(Stuck(format!("xdotool {args:?}: {}", String::from_utf8_lossy(&out.stderr))))
    }

    /// Everything on the screen; nothing until a window is there.
    ///
    /// # Errors
    /// The window does not answer.
    pub fn look(&self) -> Done<Vec<Thing>> {
        let Some(window) = self.window.lock().unwrap_or_else(PoisonError::into_inner).clone() else {
            return Ok(Vec::new());
        };
        let reply =
            self.bus.call_method(Some(window.as_str()), CACHE, Some("org.a11y.atspi.Cache"), "GetItems", &());
        // A window that has just closed says nothing any more.
        let Ok(reply) = reply else { return Ok(Vec::new()) };
        let items: Vec<Item> = reply.body().deserialize().map_err(stuck("what stands on the screen"))?;
        let things = items.into_iter().filter(|item| !item.6.is_empty());
        Ok(things
            .map(|((_, path), _, _, _, _, interfaces, name, _, _, states)| Thing {
                name,
                path,
                acts: interfaces.iter().any(|i| i == "org.a11y.atspi.Action"),
                states: states.iter().rev().fold(0, |all, part| all << 32 | u64::from(*part)),
            })
            .collect())
    }

    fn ask<R>(&self, thing: &Thing, member: &str, body: u32) -> Done<R>
    where
        R: for<'d> serde::Deserialize<'d> + zbus::zvariant::Type,
    {
        let window = self.window.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default();
        let interface = Some("org.a11y.atspi.Component");
        let reply = if member == "GrabFocus" {
            self.bus.call_method(Some(window.as_str()), &thing.path, interface, member, &())
        } else {
            self.bus.call_method(Some(window.as_str()), &thing.path, interface, member, &body)
        };
        let reply = reply.map_err(|e| Stuck(format!("{member} of {:?}: {e}", thing.name)))?;
        reply.body().deserialize().map_err(|e| Stuck(format!("{member} of {:?}: {e}", thing.name)))
    }

    /// Where it is, in the window's pixels.
    ///
    /// # Errors
    /// It is gone.
    pub fn place(&self, thing: &Thing) -> Done<Place> {
        self.ask::<(Place,)>(thing, "GetExtents", 1).map(|(place,)| place)
    }

    /// How many characters stand in a field.
    ///
    /// # Errors
    /// It is gone, or is no field.
    pub fn length(&self, field: &Thing) -> Done<i32> {
        let window = self.window.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default();
        let wanted = ("org.a11y.atspi.Text", "CharacterCount");
        let interface = Some("org.freedesktop.DBus.Properties");
        let reply = self.bus.call_method(Some(window.as_str()), &field.path, interface, "Get", &wanted);
        let reply = reply.map_err(|e| Stuck(format!("the text of {:?}: {e}", field.name)))?;
        let value: zbus::zvariant::OwnedValue =
            reply.body().deserialize().map_err(stuck("the text of a field"))?;
        i32::try_from(value).map_err(stuck("the text of a field"))
    }

    /// Waits until something fits; `what` is said if it never does.
    ///
    /// # Errors
    /// Nothing fits within the patience; what stood on the screen instead.
    pub fn find(&self, what: &str, patience: Duration, fits: impl Fn(&Thing) -> bool) -> Done<Thing> {
        let end = Instant::now() + patience;
        loop {
            let all = self.look()?;
            // What is painted last lies on top.
            if let Some(thing) = all.iter().rev().find(|thing| fits(thing)) {
                return Ok(thing.clone());
            }
            if Instant::now() > end {
                let mut names: Vec<_> = all.iter().map(|thing| thing.name.as_str()).collect();
                names.dedup();
                return Err(Stuck(format!("{what} is not on the screen; there is: {}", names.join(" | "))));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Scrolls a thing to where it can be seen, if it stands in something that scrolls.
    ///
    /// # Errors
    /// It is gone.
    pub fn reveal(&self, thing: &Thing) -> Done {
        // 6: anywhere where it can be seen.
        self.ask::<bool>(thing, "ScrollTo", 6)?;
        self.settled(thing).map(drop)
    }

    /// Where it is once it stays there: a dialog finds its place in its first frames.
    fn settled(&self, thing: &Thing) -> Done<Place> {
        let mut before = self.place(thing)?;
        loop {
            std::thread::sleep(2 * LOOK);
            let now = self.place(thing)?;
            if now == before {
                return Ok(now);
            }
            before = now;
        }
    }

    /// Presses a thing with the mouse, in its middle.
    ///
    /// # Errors
    /// It is gone, or outside of the window.
    pub fn click(&self, thing: &Thing) -> Done<Place> {
        let mut place = self.settled(thing)?;
        if !self.contains(place) {
            self.reveal(thing)?;
            place = self.place(thing)?;
        }
        if !self.contains(place) {
            return Err(Stuck(format!("{:?} stays outside of the window: {place:?}", thing.name)));
        }
        let (left, top, width, height) = place;
        let (x, y) = ((left + width / 2).to_string(), (top + height / 2).to_string());
        self.xdotool(&["mousemove", &x, &y, "sleep", HELD, "mousedown", "1", "sleep", HELD, "mouseup", "1"])?;
        Ok(place)
    }

    const fn contains(&self, (left, top, width, height): Place) -> bool {
        left >= 0 && top >= 0 && left + width <= self.size.0 && top + height <= self.size.1 && width > 0
    }

    /// Takes the pointer where it hovers over nothing.
    ///
    /// # Errors
    /// xdotool fails.
    pub fn away(&self) -> Done {
        self.xdotool(&["mousemove", &(self.size.0 - 1).to_string(), &(self.size.1 - 1).to_string()])
    }

    /// Gives the window the keyboard: there is no window manager that would.
    ///
    /// # Errors
    /// There is no such window.
    pub fn focus_window(&self, title: &str) -> Done {
        self.xdotool(&["search", "--sync", "--onlyvisible", "--name", title, "windowfocus"])
    }

    /// Whether the keyboard is there.
    pub const fn has_keyboard(thing: &Thing) -> bool {
        thing.is(Thing::FOCUSED)
    }

    /// Takes a picture of the whole screen.
    ///
    /// # Errors
    /// `import` of ImageMagick fails.
    pub fn picture(&self, path: &Path) -> Done {
        let taken = self.command("import").args(["-window", "root"]).arg(path).status();
        let taken = taken.map_err(stuck("import (the Debian package is imagemagick)"))?;
        if taken.success() { Ok(()) } else { Err(Stuck(format!("import: {taken}"))) }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.daemon] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
