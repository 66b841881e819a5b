//! A working day in the real window: an admin lets people in, a vendor engineer enters an order, a technician makes six units (one
//! board is pulled while it is flashed, one label is the wrong one), QA approves a sample and gives one unit new keys, the list leaves
//! the station, and everybody goes home. The boards are virtual; window, records, agent, broker, probe and serial ports are real.
//!
//! It is a test, and what it did is the user guide ([`crate::guide`]): each [`Page`] holds what was pressed and typed, in words, and
//! what the screen showed then. Nothing waits for a time: each step waits for what stands on the screen or in the records, and if it
//! does not come, the step is named and the screen is kept as a picture.

use crate::screen::{Done, Place, Screen, Stuck, Thing};
use keywright::i18n::{self, Language};
use keywright::label::LabelCode;
use keywright_virtual_board::{Bench, BenchConfig};
use rusqlite::Connection;
use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a step may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(150);
/// How long the window may take to answer a press.
const ANSWER: Duration = Duration::from_secs(40);
/// Size of the screen.
const SIZE: (i32, i32) = (1280, 800);
/// The window's title.
const TITLE: &str = "Keywright";
const ORDER: &str = "PO-2026-0042";
const BATCH: &str = "B-0042";
const FIXTURES: [&str; 3] = ["left", "middle", "right"];
/// The station's folder and the bench's, in the folder that the program is started in: pictures show no path of this machine.
const HOME: &str = "line-1";
const BENCH: &str = "bench";
/// Where the printer leaves labels; older ones get a number behind it.
const LABEL: &str = "printed.zpl";
/// So many flash operations into its first flash a board is pulled.
const PULLED_AT: u64 = 1_000;
/// Units of the order, one board each.
const UNITS: u32 = 6;

/// Whose work a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chapter {
    /// People, settings, histories.
    Admin,
    /// Orders, batches, exports.
    Vendor,
    /// The line.
    Technician,
    /// Samples, and units that come back.
    Qa,
}

/// Somebody who works at the station.
struct Person {
    name: &'static str,
    role: &'static str,
    pin: &'static str,
}

const ADA: Person = Person { name: "Ada", role: "role-admin", pin: "quartz-81-lamp" };
const VERA: Person = Person { name: "Vera", role: "role-vendor", pin: "harbour-5-tin" };
const TOM: Person = Person { name: "Tom", role: "role-technician", pin: "7293" };
const QUIN: Person = Person { name: "Quin", role: "role-qa", pin: "maple-64-bolt" };

/// One page of the guide.
#[derive(Clone, Debug)]
pub struct Page {
    /// Whose work it is.
    pub chapter: Chapter,
    /// What it is about.
    pub title: &'static str,
    /// What was done, a sentence each, Markdown.
    pub did: Vec<String>,
    /// What it means and what is seen.
    pub text: &'static str,
    /// The screen then.
    pub picture: PathBuf,
}

/// Why the day ended early.
#[derive(Debug)]
pub struct Failed {
    /// The page that was not reached.
    pub after: String,
    /// What did not happen.
    pub why: Stuck,
    /// The screen then.
    pub picture: PathBuf,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "after “{}”: {}; the screen: {}", self.after, self.why, self.picture.display())
    }
}

/// A text of the window.
fn word(key: &'static str) -> String {
    i18n::text(key).to_owned()
}

/// A text of the window with facts in it.
fn words(key: &'static str, facts: &[(&'static str, &str)]) -> String {
    let mut args = i18n::Args::new();
    for (name, value) in facts {
        // Numbers choose the plural.
        match value.parse::<i64>() {
            Ok(number) => args.set(*name, number),
            Err(_) => args.set(*name, (*value).to_owned()),
        }
    }
    i18n::format(key, &args)
}

/// The station and its bench.
struct Site {
    bench: Bench,
    folder: tempfile::TempDir,
}

impl Site {
    /// Six boards, three of them in fixtures; a printer that leaves the newest label in a file.
    fn new(language: Language) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = folder.path().join(BENCH);
        let config = BenchConfig { dir: Some(dir), ..BenchConfig::new(UNITS, 77) };
        let bench = Bench::start(&config).expect("virtual boards start");
        let site = Self { bench, folder };
        std::fs::create_dir(site.home()).expect("a folder");
        std::os::unix::fs::symlink(crate::image().parent().expect("a folder"), site.home().join("firmware"))
            .expect("a link to the image");
        let mut text = format!(
            "[station]\nname = \"line-1\"\nimage = \"firmware/common-image.json\"\n\n[window]\nlanguage = {:?}\ntheme = \"light\"\n\n[label]\ntemplate = \"label.zpl\"\ncommand = [\"cp\", \"--backup=numbered\", \"$file\", \"{LABEL}\"]\n",
            language.code()
        );
        for (n, name) in (1..).zip(FIXTURES) {
            let fixture = site.bench.fixture(n).expect("a fixture");
            let link = fixture.link.expect("a bench with a folder has links");
            let serial = format!("{BENCH}/{}", link.file_name().unwrap_or_default().to_string_lossy());
            text += &format!(
                "\n[[fixture]]\nname = {name:?}\nprobe = {:?}\nserial = {serial:?}\n",
                fixture.probe
            );
        }
        std::fs::write(site.home().join("station.toml"), text).expect("station.toml");
        std::fs::write(site.home().join("label.zpl"), "^XA^FH^FD$code^FS^FH^FD$serial^FS^XZ")
            .expect("a template");
        site
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join(HOME)
    }

    /// The code on the unit's label, once it was printed.
    fn printed(&self, serial: &str) -> Option<String> {
        let labels = std::fs::read_dir(self.folder.path()).ok()?.flatten().map(|entry| entry.path());
        let labels =
            labels.filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(LABEL)));
        labels.filter_map(|path| std::fs::read_to_string(path).ok()).find_map(|text| {
            let code = text.split("^FD").nth(1)?.split('^').next()?;
            code.contains(&format!(":{serial}:")).then(|| code.to_owned())
        })
    }

    fn records(&self) -> Connection {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        Connection::open_with_flags(self.home().join("station.db"), flags).expect("station.db opens")
    }

    fn number(&self, sql: &str) -> i64 {
        self.records().query_row(sql, [], |row| row.get(0)).unwrap_or(-1)
    }

    /// The serial of the unit in fixture or place `n`.
    fn serial(&self, board: u32) -> Done<String> {
        let uid = self.bench.uid(board).expect("a board").to_string();
        let sql = "SELECT serial FROM unit WHERE lower(hex(uid)) = lower(?1)";
        let read = self.records().query_row(sql, [uid], |row| row.get(0));
        read.map_err(|e| Stuck(format!("the serial of board {board}: {e}")))
    }

    /// The program on this station, with its passphrase on standard input.
    fn start(&self, mut command: Command, args: &[&str]) -> Child {
        command.current_dir(self.folder.path()).args(["--home", HOME, "--passphrase-fd", "0"]).args(args);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("keywright starts");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(b"a working day at the line\n").expect("the passphrase");
        child
    }

    /// Runs a command to its end.
    fn ok(&self, args: &[&str]) -> Done<String> {
        let mut command = Command::new(crate::program("keywright"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let out = self.start(command, args).wait_with_output();
        let out = out.map_err(|e| Stuck(format!("keywright {args:?}: {e}")))?;
        if out.status.success() {
            return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
        }
        Err(Stuck(format!("keywright {args:?}: {}", String::from_utf8_lossy(&out.stderr))))
    }
}

/// What was done since the last page.
#[derive(Default)]
struct Notes {
    did: Vec<String>,
    /// What the next picture points at.
    rings: Vec<Place>,
}

struct Session<'a> {
    site: Site,
    screen: Screen,
    folder: &'a Path,
    pages: Vec<Page>,
    chapter: Chapter,
    notes: RefCell<Notes>,
    progress: &'a mut dyn FnMut(&str),
}

impl Session<'_> {
    fn note(&self, what: String) {
        self.notes.borrow_mut().did.push(what);
    }

    /// Waits until something is called so.
    fn see(&self, name: &str) -> Done<Thing> {
        self.screen.find(&format!("{name:?}"), ANSWER, |thing| thing.name == name)
    }

    /// Waits until nothing is called so any more.
    fn gone(&self, name: &str) -> Done {
        let end = Instant::now() + ANSWER;
        while self.stands(name)? {
            if Instant::now() > end {
                return Err(Stuck(format!("{name:?} stays on the screen")));
            }
            std::thread::sleep(Duration::from_millis(120));
        }
        Ok(())
    }

    /// Waits, longer, until something that has this in its words is there.
    fn see_part(&self, part: &str) -> Done<Thing> {
        self.screen.find(&format!("… {part:?} …"), PATIENCE, |thing| thing.name.contains(part))
    }

    fn button(&self, name: &str) -> Done<Thing> {
        let wanted = |thing: &Thing| thing.name == name && thing.is_button() && thing.is_on();
        self.screen.find(&format!("a button {name:?} that is on"), ANSWER, wanted)
    }

    /// Presses what is called so.
    fn press(&self, name: &str) -> Done {
        self.screen.click(&self.button(name)?)?;
        self.note(format!("Press **{name}**."));
        Ok(())
    }

    /// The same, said in other words where the name on the screen is for screen readers.
    fn press_said(&self, name: &str, said: &str) -> Done {
        self.screen.click(&self.button(name)?)?;
        self.note(said.to_owned());
        Ok(())
    }

    /// Chooses one of several.
    fn choose(&self, name: &str) -> Done {
        let fits = |thing: &Thing| thing.name == name && thing.is_button() && thing.is_on();
        self.until_it_is(name, "chosen", fits, Thing::is_checked).map(drop)
    }

    /// Presses something until it is so: in a dialog that has just opened the first press may miss.
    fn until_it_is(
        &self,
        name: &str,
        how: &str,
        fits: impl Fn(&Thing) -> bool,
        so: impl Fn(&Thing) -> bool,
    ) -> Done<Thing> {
        let end = Instant::now() + ANSWER;
        loop {
            let thing = self.screen.find(&format!("{name:?}"), ANSWER, &fits)?;
            self.screen.reveal(&thing)?;
            self.screen.click(&thing)?;
            let pressed = |thing: &Thing| fits(thing) && so(thing);
            match self.screen.find(&format!("{name:?} {how}"), Duration::from_secs(4), pressed) {
                Err(stuck) if Instant::now() > end => return Err(stuck),
                Err(_) => {}
                Ok(thing) => return Ok(thing),
            }
        }
    }

    fn type_into(&self, name: &str, text: &str) -> Done {
        let field = self.until_it_is(
            name,
            "with the keyboard",
            |thing| thing.name == name && thing.is_field(),
            Screen::has_keyboard,
        )?;
        // A busy window may lose a character; then all of it is typed again, as a person would.
        for _ in 0..4 {
            self.typed(text)?;
            let end = Instant::now() + Duration::from_secs(4);
            while Instant::now() < end {
                if self.screen.length(&field)? == text.chars().count() as i32 {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            self.screen.xdotool(&["key", "ctrl+a", "sleep", "0.3", "key", "BackSpace", "sleep", "0.5"])?;
        }
        Err(Stuck(format!(
            "{name:?} does not take what is typed; it holds {} characters",
            self.screen.length(&field)?
        )))
    }

    fn typed(&self, text: &str) -> Done {
        self.screen.xdotool(&["type", "--delay", "8", "--", text])
    }

    /// Types into a field.
    fn fill(&self, name: &str, text: &str) -> Done {
        self.type_into(name, text)?;
        self.note(format!("Type `{text}` into **{name}**."));
        Ok(())
    }

    /// Types what nobody else reads.
    fn secret(&self, name: &str, text: &str) -> Done {
        self.type_into(name, text)?;
        self.note(format!("Type your PIN into **{name}**."));
        Ok(())
    }

    /// Presses keys, named as xdotool names them and as people do.
    fn key(&self, keys: &str, said: &str) -> Done {
        self.screen.xdotool(&["key", keys])?;
        self.note(format!("Press `{said}`."));
        Ok(())
    }

    /// Presses keys until the screen answers: a key that came before the window could hear it is lost.
    fn key_until(&self, keys: &str, said: &str, what: &str, there: impl Fn() -> Done<bool>) -> Done {
        let end = Instant::now() + ANSWER;
        self.key(keys, said)?;
        let mut pressed = Instant::now();
        while !there()? {
            if Instant::now() > end {
                return Err(Stuck(format!("{what} did not follow on {said}")));
            }
            if pressed.elapsed() > Duration::from_secs(8) {
                self.screen.xdotool(&["key", keys])?;
                pressed = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(120));
        }
        Ok(())
    }

    fn stands(&self, name: &str) -> Done<bool> {
        Ok(self.screen.look()?.iter().any(|thing| thing.name == name))
    }

    /// Waits for a condition of the records or the bench.
    fn until(&self, what: &str, there: impl Fn(&Site) -> bool) -> Done {
        let end = Instant::now() + PATIENCE;
        while !there(&self.site) {
            if Instant::now() > end {
                return Err(Stuck(format!("{what} did not happen in {PATIENCE:?}")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// The next picture has a ring around this.
    fn ring(&self, thing: Done<Thing>) -> Done {
        let place = self.screen.place(&thing?)?;
        self.notes.borrow_mut().rings.push(place);
        Ok(())
    }

    fn ring_button(&self, name: &str) -> Done {
        self.ring(self.button(name))
    }

    /// Ends a page: takes the picture of what is on the screen now.
    fn page(&mut self, title: &'static str, text: &'static str) -> Done {
        self.screen.away()?;
        // The pointer's traces are gone after another frame or two.
        std::thread::sleep(Duration::from_millis(450));
        let picture = self.folder.join(format!("{:02}.png", self.pages.len() + 1));
        self.screen.picture(&picture)?;
        let Notes { did, rings } = self.notes.take();
        draw(&picture, &rings)?;
        (self.progress)(title);
        self.pages.push(Page { chapter: self.chapter, title, did, text, picture });
        Ok(())
    }

    /// Somebody else takes the window over.
    fn hand_over(&self, to: &Person) -> Done {
        self.lock()?;
        self.log_in(to)?;
        self.notes.borrow_mut().did = vec!["Log in: `F8`, your name, your PIN.".into()];
        Ok(())
    }

    fn lock(&self) -> Done {
        self.key_until("F8", "F8", "the lock screen", || self.stands(&word("lock-field")))
    }

    /// What was done since the last picture belongs to its page.
    fn afterwards(&mut self) {
        let did = std::mem::take(&mut self.notes.borrow_mut().did);
        if let Some(page) = self.pages.last_mut() {
            page.did.extend(did);
        }
    }

    fn log_in(&self, person: &Person) -> Done {
        let role = word(person.role);
        self.press_said(
            &format!("{}, {role}", person.name),
            &format!("Press your name, **{}**.", person.name),
        )?;
        self.secret(&words("lock-pin", &[("name", person.name)]), person.pin)?;
        self.press(&word("lock-log-in"))?;
        self.see(&chip(person)).map(drop)
    }

    /// Scans something while the label of `serial` is waited for, until it is not waited for any more: then the next one's is.
    fn scan(&self, serial: &str, text: &str) -> Done {
        // As a scanner does: the end comes at once, or it is a code without one.
        self.screen.xdotool(&["type", "--delay", "8", "--args", "1", "--", text, "key", "Return"])?;
        self.gone(&words("scan-title", &[("serial", serial)]))
    }

    /// The unit whose label is waited for now: its board and its serial.
    fn wanted(&self) -> Done<(u32, String)> {
        let end = Instant::now() + PATIENCE;
        loop {
            // Units become known while one waits.
            let all = self.serials()?;
            let shown = self.screen.look()?;
            let waits = |serial: &str| {
                let title = words("scan-title", &[("serial", serial)]);
                shown.iter().any(|thing| thing.name == title)
            };
            if let Some(unit) = all.into_iter().find(|(_, serial)| waits(serial)) {
                return Ok(unit);
            }
            if Instant::now() > end {
                return Err(Stuck("no unit waits for the scan of its label".into()));
            }
            std::thread::sleep(Duration::from_millis(150));
        }
    }

    /// Boards and serials of the units so far.
    fn serials(&self) -> Done<Vec<(u32, String)>> {
        Ok((1..=UNITS).filter_map(|board| Some((board, self.site.serial(board).ok()?))).collect())
    }

    fn passed(&self) -> i64 {
        self.site.number("SELECT count(*) FROM unit WHERE state = 'passed'")
    }

    /// Scans each label that comes out until so many units have passed.
    fn scan_until_passed(&self, wanted: i64) -> Done {
        while self.passed() < wanted {
            let before = self.passed();
            let (_, serial) = self.wanted()?;
            self.until("a label from the printer", |site| site.printed(&serial).is_some())?;
            self.scan(&serial, &self.site.printed(&serial).unwrap_or_default())?;
            self.until("a pass after the scan of a label", |_| self.passed() > before)?;
        }
        Ok(())
    }

    /// A finished unit is locked: where the station must look into it again it asks for its power to be taken away. Does so whenever it
    /// asks, until `done`.
    fn attend(&self, board: u32, what: &str, done: impl Fn(&[Thing]) -> bool) -> Done {
        let asks = word("label-locked-take-its-power-away-and-give-it-back");
        let end = Instant::now() + PATIENCE;
        let mut asked = false;
        loop {
            let shown = self.screen.look()?;
            if done(&shown) {
                return Ok(());
            }
            let asking = shown.iter().any(|thing| thing.name.contains(&asks));
            if asking && !asked {
                self.site.bench.cut_power(board).expect("a board");
                self.site.bench.power_on(board).expect("a board");
                self.note(
                    "When the fixture asks for it, take the board's power away and give it back.".into(),
                );
            }
            asked = asking;
            if Instant::now() > end {
                return Err(Stuck(format!("{what} did not happen in {PATIENCE:?}")));
            }
            std::thread::sleep(Duration::from_millis(120));
        }
    }
}

/// What the header says of who works here.
fn chip(person: &Person) -> String {
    format!("{}: {}, {}", word("header-person"), person.name, word(person.role))
}

/// Rings around what the page is about, and as few bytes as a picture needs.
fn draw(picture: &Path, rings: &[Place]) -> Done {
    let mut command = Command::new("convert");
    command.arg(picture).args(["-fill", "none", "-stroke", "#E8590C", "-strokewidth", "3"]);
    for (left, top, width, height) in rings {
        let (right, bottom) = (left + width + 5, top + height + 5);
        command.args(["-draw", &format!("roundrectangle {},{} {right},{bottom} 9,9", left - 5, top - 5)]);
    }
    command
        .args(["+dither", "-colors", "96", "-strip", "-define", "png:compression-level=9"])
        .args(["-define", "png:compression-filter=0", "-define", "png:color-type=3"])
        .arg(picture);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        other => Err(Stuck(format!("convert (ImageMagick): {other:?}"))),
    }
}

/// Lives through the day; pictures are written to `folder`.
///
/// # Errors
/// The first step that did not come to its end.
pub fn run(
    language: Language,
    folder: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Page>, Box<Failed>> {
    let _spoken = i18n::using(language);
    let start = |why| Failed { after: "the start".into(), why, picture: PathBuf::new() };
    let site = Site::new(language);
    site.ok(&["anchors", "init", "--region", "7"]).map_err(start)?;
    let screen = Screen::start(SIZE).map_err(start)?;
    let mut session = Session {
        site,
        screen,
        folder,
        pages: Vec::new(),
        chapter: Chapter::Admin,
        notes: RefCell::default(),
        progress,
    };
    let mut command = session.screen.command(crate::program("keywright"));
    let log = std::fs::File::create(folder.join("window.log")).map_err(|e| start(Stuck(e.to_string())))?;
    command.stdout(Stdio::null()).stderr(log);
    let mut window = session.site.start(command, &["window", "--size", &format!("{}x{}", SIZE.0, SIZE.1)]);
    let done = day(&mut session, &mut window);
    let picture = folder.join("failed.png");
    if done.is_err() {
        let _ = session.screen.picture(&picture);
    }
    let _ = window.kill();
    let _ = window.wait();
    match done {
        Ok(()) => Ok(session.pages),
        Err(why) => {
            let after = session.pages.last().map_or("the start", |page| page.title).to_owned();
            Err(Box::new(Failed { after, why, picture }))
        }
    }
}

fn day(s: &mut Session<'_>, window: &mut Child) -> Done {
    people(s)?;
    order(s)?;
    line(s)?;
    sample(s)?;
    second_round(s)?;
    new_keys(s)?;
    export(s)?;
    end(s, window)
}

fn people(s: &mut Session<'_>) -> Done {
    s.chapter = Chapter::Admin;
    s.see_part(&word("open-banner"))?;
    s.screen.focus_window(TITLE)?;
    s.ring_button(&word("people-create-admin"))?;
    s.page(
        "A new station is open",
        "Until it has people, everybody may do everything, and the banner says so. Begin with the admin: the first person \
         is one, and there is no way back to an open station.",
    )?;
    s.press(&word("people-create-admin"))?;
    s.fill(&word("people-name"), ADA.name)?;
    s.secret(&word("people-pin"), ADA.pin)?;
    s.secret(&word("people-pin-again"), ADA.pin)?;
    s.ring_button(&word("people-create-admin"))?;
    s.page(
        "Make the admin",
        "A technician's PIN may have 4 characters, everybody else's has 6 or more. If your scanner reads badges, scan yours into the last \
         field.",
    )?;
    s.press(&word("people-create-admin"))?;
    s.until("the first person", |site| site.number("SELECT count(*) FROM person") == 1)?;
    s.gone(&word("people-pin-again"))?;
    s.see(&chip(&ADA))?;
    s.press_said(&chip(&ADA), "Press your name in the header.")?;
    s.press(&word("people-title"))?;
    let (add, go) = (word("people-add"), word("people-add-do"));
    for (n, person) in (2..).zip([&TOM, &QUIN, &VERA]) {
        s.screen.click(&s.button(&add)?)?;
        s.type_into(&word("people-name"), person.name)?;
        s.choose(&word(person.role))?;
        s.type_into(&word("people-pin"), person.pin)?;
        s.type_into(&word("people-pin-again"), person.pin)?;
        s.screen.click(&s.button(&go)?)?;
        s.until(person.name, |site| site.number("SELECT count(*) FROM person") == n)?;
        s.gone(&go)?;
        let (name, role) = (person.name, word(person.role));
        s.note(format!(
            "Press **{add}**, fill in name, role and PIN of **{name}**, {role}, and press **{go}**."
        ));
    }
    s.see_part(VERA.name)?;
    s.page(
        "Let people in",
        "Everybody has a role: each may do what the roles before it may. The buttons of a row change somebody's role, PIN or badge, and \
         switch them off.",
    )
}

fn order(s: &mut Session<'_>) -> Done {
    s.chapter = Chapter::Vendor;
    s.lock()?;
    s.see_part(VERA.name)?;
    s.page(
        "Take over from somebody",
        "`F8` hands the station to another person. The line stays in sight meanwhile. Press your name, or scan your badge.",
    )?;
    s.log_in(&VERA)?;
    s.key_until("ctrl+3", "Ctrl+3", "orders and batches", || s.stands(&word("batches-new-order")))?;
    s.press(&word("batches-new-order"))?;
    s.fill(&word("field-name"), ORDER)?;
    s.fill(&word("field-model"), "KW-GATEWAY-429")?;
    s.fill(&word("field-quantity"), &UNITS.to_string())?;
    let choose = |field: &str, choice: &str| {
        s.choose(&format!("{field}: {choice}"))?;
        s.note(format!("Choose **{choice}** as **{field}**."));
        Ok(())
    };
    choose(&word("field-region"), "7")?;
    choose(&word("field-label"), &word("choice-label-scan"))?;
    s.fill(&word("field-batch"), BATCH)?;
    s.fill(&word("field-serial-pattern"), "KW-{n:5}-{c}")?;
    s.fill(&word("field-gray-release"), "3")?;
    s.see(&word("wizard-right"))?;
    s.ring_button(&word("wizard-create-order"))?;
    s.page(
        "Enter an order",
        "An order says what is made; its units are made in batches, and the first batch can be made along with it. What is wrong \
         with a field stands beside it while you type. This batch prints a label for each unit and has it scanned, and stops after \
         each three units for a look at a sample.",
    )?;
    s.press(&word("wizard-create-order"))?;
    s.until("the batch", |site| site.number("SELECT count(*) FROM batch") == 1)?;
    s.gone(&word("wizard-create-order"))?;
    let row = words(
        "batches-row",
        &[("name", BATCH), ("state", &word("batch-open")), ("passed", "0"), ("quantity", &UNITS.to_string())],
    );
    s.press_said(&row, &format!("Press the batch **{BATCH}** in the list."))?;
    s.see(&words("batches-head", &[("name", BATCH), ("state", &word("batch-open"))]))?;
    s.page(
        "Look after a batch",
        "The equation must hold at any time: what was planned is passed, failed, scrapped or open. Below stand the serials, a preview \
         of the square code on the labels, and who decided what. The buttons pause, close and clone the batch.",
    )
}

fn line(s: &mut Session<'_>) -> Done {
    s.chapter = Chapter::Technician;
    s.hand_over(&TOM)?;
    s.key_until("ctrl+1", "Ctrl+1", "the line", || s.stands(&word("header-auto-start")))?;
    s.key_until("ctrl+b", "Ctrl+B", "the list of batches", || s.stands(&word("picker-keys")))?;
    s.typed(BATCH)?;
    s.note(format!("Type or scan `{BATCH}`."));
    let option = words(
        "picker-option",
        &[("name", BATCH), ("units", &UNITS.to_string()), ("state", &word("batch-open"))],
    );
    s.see_part(&option)?;
    s.page("Choose the batch", "Type a part of its name, or scan it from the papers; `Enter` takes it.")?;
    s.key("Return", "Enter")?;
    s.see(&words("foot-starts-some", &[("count", "3")]))?;
    s.page(
        "The line is ready",
        "Each fixture is a tile. It tells its state by word, shape and colour. At the top stand the counts of the batch, at the \
         bottom what `Space` would do now.",
    )?;
    // A hand will pull the board of the middle fixture in the middle of its flash.
    s.site.bench.cut_power_at_flash_op(2, PULLED_AT, 0.5, 7).expect("a board");
    s.key_until("space", "Space", "the start of three boards", || {
        Ok(s.site.number("SELECT count(*) FROM attempt") == 3)
    })?;
    s.until("the middle of a flash", |site| {
        !site.bench.with_board(2, |board| board.is_powered()).expect("a board")
    })?;
    s.site.bench.unplug(2).expect("a fixture");
    s.note("Somebody pulls the board out of the middle fixture while it is being flashed.".into());
    let ended =
        "SELECT count(*) FROM attempt WHERE fixture = 'middle' AND outcome IS NOT NULL AND outcome <> 'PASS'";
    s.until("the end of the pulled board's attempt", |site| site.number(ended) == 1)?;
    let flashed = |kind: &str| {
        let of = "SELECT count(*) FROM unit_event e JOIN attempt a ON a.unit = e.unit";
        s.site.number(&format!("{of} WHERE a.fixture = 'middle' AND e.kind = '{kind}'"))
    };
    if (flashed("flash-begin"), flashed("flash-end")) != (1, 0) {
        return Err(Stuck("the board was not pulled in the middle of its flash".into()));
    }
    s.page(
        "A board was pulled",
        "The tile says what happened, with a code, and what to do next. Nothing is lost: the records know how far the unit came, and \
         the other fixtures go on.",
    )?;

    // The wrong label first.
    let (board, serial) = s.wanted()?;
    s.page(
        "A label is to be scanned",
        "The label came out of the printer: stick it on the unit that is named, then scan it. One label is out at a time, so that \
         two units can't get each other's.",
    )?;
    let other = LabelCode::new("KW-00099-T", &"ab".repeat(32)).map_err(|e| Stuck(e.to_string()))?;
    s.scan(&serial, &other.to_string())?;
    s.note("Scan a label that belongs to another unit.".into());
    let refused = "SELECT count(*) FROM attempt WHERE outcome = 'FAIL' AND failure_code = 905";
    s.until("the refusal of the wrong label", |site| site.number(refused) == 1)?;
    let place = FIXTURES[board as usize - 1];
    s.page(
        "The wrong label",
        "The label must be the one of the chip that lies in the fixture. This one is not, so the unit has not passed. It keeps its \
         keys: take the wrong label off and start it again.",
    )?;
    // The label that waited behind it.
    s.scan_until_passed(1)?;
    s.note("Scan the label of the next unit.".into());
    s.key_until(&board.to_string(), &board.to_string(), "another attempt", || {
        let sql = format!("SELECT count(*) FROM attempt WHERE fixture = '{place}'");
        Ok(s.site.number(&sql) == 2)
    })?;
    let title = words("scan-title", &[("serial", &serial)]);
    s.attend(board, "another scan of its label", |shown| shown.iter().any(|thing| thing.name == title))?;
    s.scan_until_passed(2)?;
    s.note("Scan its own label.".into());
    s.page(
        "Its own label",
        "Started again by its number, the unit proved its keys once more and was asked for its own label. PASS: it logged in at its \
         cloud with its own keys.",
    )?;
    s.site.bench.plug(2).expect("a fixture");
    s.site.bench.power_on(2).expect("a board");
    s.note("Put the board back into the middle fixture.".into());
    s.key_until("2", "2", "another attempt", || {
        Ok(s.site.number("SELECT count(*) FROM attempt WHERE fixture = 'middle'") == 2)
    })?;
    s.scan_until_passed(3)?;
    s.note("Scan its label.".into());
    s.see_part(&words("sample-title", &[("waiting", "3")]))?;
    s.page(
        "Time for a sample",
        "The unit went on where it had stopped, and passed. After three units the gate is shut: no unit of the batch starts until \
         QA has looked at a sample. The bar says who may approve it.",
    )
}

fn sample(s: &mut Session<'_>) -> Done {
    s.chapter = Chapter::Qa;
    s.hand_over(&QUIN)?;
    s.press_said(&word("sample-open-name"), &format!("Press **{}**.", word("sample-open")))?;
    s.fill(&word("sample-note"), "three looked at, all well")?;
    s.ring_button(&word("sample-approve-name"))?;
    s.page(
        "Check a sample",
        "Take the units that are named and look at them. **Approve** opens the gate for as many units again, and stands in the batch's \
         timeline with your name and your note. **Stop the batch** is for a sample that is not good; it wants to know why.",
    )?;
    s.press_said(&word("sample-approve-name"), &format!("Press **{}**.", word("sample-approve")))?;
    s.until("the approval", |site| {
        site.number("SELECT count(*) FROM order_event WHERE kind = 'sample-approved'") == 1
    })?;
    s.afterwards();
    Ok(())
}

fn second_round(s: &mut Session<'_>) -> Done {
    s.chapter = Chapter::Technician;
    s.hand_over(&TOM)?;
    // A hand needs a moment between taking a board out and putting the next one in.
    for n in 1..=3 {
        s.site.bench.place(n, None).expect("a fixture");
    }
    s.gone(&word("verdict-take-out"))?;
    for n in 1..=3 {
        s.site.bench.place(n, Some(n + 3)).expect("a board");
    }
    s.note("Take the three units out and put new boards in.".into());
    s.see(&words("foot-starts-some", &[("count", "3")]))?;
    let before = s.site.number("SELECT count(*) FROM attempt");
    s.key_until("space", "Space", "the start of three boards", || {
        Ok(s.site.number("SELECT count(*) FROM attempt") == before + 3)
    })?;
    let begun = "SELECT count(*) FROM unit_event WHERE kind = 'flash-begin'";
    s.until("the flash of three more", |site| site.number(begun) >= 6)?;
    s.page(
        "What a unit goes through",
        "It is flashed, fetches its agent key and its cloud key, proves both at its cloud, is locked, and gets its label. Nothing is to \
         be done until the label comes.",
    )?;
    s.scan_until_passed(6)?;
    s.note("Scan each label.".into());
    s.page(
        "The batch is done",
        "Six planned, six passed, none open: the counts balance. The last group waits for its sample like every other.",
    )
}

fn new_keys(s: &mut Session<'_>) -> Done {
    s.chapter = Chapter::Qa;
    s.hand_over(&QUIN)?;
    s.press_said(&word("sample-open-name"), "Look at the sample of the last group.")?;
    s.button(&word("sample-approve-name"))?;
    s.key_until("ctrl+Return", "Ctrl+Enter", "the approval of the last group", || {
        Ok(s.site.number("SELECT count(*) FROM order_event WHERE kind = 'sample-approved'") == 2)
    })?;
    let serial = s.site.serial(6)?;
    s.key_until("F2", "F2", "the units", || s.stands(&word("units-search-name")))?;
    s.type_into(&word("units-search-name"), &serial)?;
    s.screen.xdotool(&["key", "Return"])?;
    s.note("Scan the label of the unit that came back, or type its serial and press `Enter`.".into());
    s.button(&word("act-new-keys"))?;
    s.page(
        "A unit comes back",
        "You see what it is, which keys it has, and all that ever happened to it. What may be decided is on, and what may not says why.",
    )?;
    s.press(&word("act-new-keys"))?;
    let lies = words("decision-option", &[("what", &word("decision-fixture")), ("name", FIXTURES[2])]);
    let option = s.screen.find(&format!("{lies:?} …"), ANSWER, |thing| {
        thing.is_button() && thing.is_on() && thing.name.starts_with(&lies)
    })?;
    s.choose(&option.name)?;
    s.note(format!("Say in which fixture it lies: **{}**.", FIXTURES[2]));
    s.fill(&word("decision-why-name"), "RMA 2291, back from a customer")?;
    s.ring_button(&word("verb-new-keys"))?;
    s.page(
        "Give it new keys",
        "Every decision wants a reason; it stands in the unit's history for ever. `Ctrl+Enter` does it, `Esc` goes back.",
    )?;
    s.key("ctrl+Return", "Ctrl+Enter")?;
    s.until("the order", |site| site.number("SELECT count(*) FROM reprovision") == 1)?;
    let done = "SELECT count(*) FROM reprovision WHERE outcome = 'done' AND ak_after = 2 AND ck_after = 2";
    s.attend(6, "new keys", |_| s.site.number(done) == 1)?;
    s.see_part(&words("unit-key-generation", &[("generation", "2")]))?;
    s.page(
        "The old keys are dead",
        "The unit proved its new keys at its cloud, and its old ones were tried there and refused. The line's own batch and counts \
         were not touched.",
    )
}

fn export(s: &mut Session<'_>) -> Done {
    s.chapter = Chapter::Vendor;
    let key = s.site.home().join("vendor.key");
    let out = Command::new("age-keygen").arg("-o").arg(&key).stderr(Stdio::piped()).output();
    let out = out.map_err(|e| Stuck(format!("age-keygen (the Debian package is age): {e}")))?;
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    let recipient = told.split_whitespace().find(|word| word.starts_with("age1"));
    let recipient = recipient.ok_or_else(|| Stuck(format!("age-keygen: {told}")))?.to_owned();
    s.hand_over(&VERA)?;
    s.key_until("ctrl+4", "Ctrl+4", "the exports", || s.stands(&word("exports-which")))?;
    s.press(&word("exports-next"))?;
    s.choose(&word("exports-title-csv"))?;
    s.note(format!("Choose **{}**.", word("exports-title-csv")));
    s.press(&word("exports-next"))?;
    s.type_into(&word("exports-age-field"), &recipient)?;
    s.note(format!("Paste the vendor's `age1…` line into **{}**.", word("exports-age-field")));
    s.fill(&word("exports-to"), "Acme Cloud")?;
    s.page(
        "Hand out keys",
        "A list with keys is sealed for whoever receives it, before it reaches the disk. The vendor made the pair and sent you the \
         public line; the station itself can't read the file again.",
    )?;
    s.press(&word("exports-next"))?;
    s.gone(&word("exports-age-field"))?;
    s.see_part(keywright::export::HIDDEN)?;
    s.page("Look before it leaves", "The first rows, every secret hidden, and the recipient's fingerprint.")?;
    s.press(&word("exports-next"))?;
    s.press(&word("exports-now"))?;
    s.see(&word("exports-done"))?;
    s.page(
        "The receipt",
        "Files, signed receipts and digests. Compare the fingerprint with the vendor by another way than the one the file takes.",
    )?;
    s.press(&word("exports-log"))?;
    s.see(&word("exports-log-head"))?;
    s.page(
        "Who has which keys",
        "The log says who handed out what, when, and for whom. An entry can be revoked, given again, and asked whose keys that \
         recipient knows.",
    )?;
    // The vendor can read it, and finds six units.
    let files = s.site.home().join("exports");
    let files = std::fs::read_dir(files).map_err(|e| Stuck(format!("exports: {e}")))?;
    let sealed =
        files.filter_map(|f| Some(f.ok()?.path())).find(|f| f.extension().is_some_and(|e| e == "age"));
    let sealed = sealed.ok_or_else(|| Stuck("no sealed list was written".into()))?;
    let read = Command::new("age").arg("-d").arg("-i").arg(&key).arg(&sealed).output();
    let read = read.map_err(|e| Stuck(format!("age: {e}")))?;
    let lines = String::from_utf8_lossy(&read.stdout).lines().count();
    if lines != UNITS as usize + 1 {
        return Err(Stuck(format!("the sealed list has {lines} lines, not a head and {UNITS} units")));
    }
    s.site.ok(&["export", "verify", &sealed.display().to_string()]).map(drop)
}

fn end(s: &mut Session<'_>, window: &mut Child) -> Done {
    s.chapter = Chapter::Admin;
    s.hand_over(&ADA)?;
    s.press_said(&chip(&ADA), "Press your name in the header.")?;
    s.press(&word("audit-title"))?;
    s.press(&word("audit-verify"))?;
    let whole = words("done-whole", &[("audit", "\u{1}"), ("events", "\u{1}")]);
    let whole = whole.split('\u{1}').next().unwrap_or_default().to_owned();
    s.see_part(&whole)?;
    s.page(
        "Who did what",
        "Every login and every act, with name and time. **Verify** looked at every row of the log and of the units' histories and found \
         them whole.",
    )?;
    s.key_until("ctrl+comma", "Ctrl+,", "the settings", || s.stands(&word("settings-name")))?;
    s.page(
        "Settings",
        "What stands in station.toml: language, colours, text size, the station and its fixtures.",
    )?;
    s.key_until("Escape", "Esc", "the end of the settings", || Ok(!s.stands(&word("settings-name"))?))?;
    s.key_until("F9", "F9", "the lock screen", || s.stands(&word("lock-locked")))?;
    s.page("Going home", "`F9` locks the station; nobody does anything under your name.")?;
    s.key_until("ctrl+q", "Ctrl+Q", "the end of the program", || Ok(s.screen.look()?.is_empty()))?;
    let end = Instant::now() + PATIENCE;
    let status = loop {
        match window.try_wait() {
            Ok(Some(status)) => break status,
            _ if Instant::now() > end => return Err(Stuck("the program does not end".into())),
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    if !status.success() {
        return Err(Stuck(format!("the program ended with {status}")));
    }
    let sound: String =
        s.site.records().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap_or_default();
    if sound != "ok" {
        return Err(Stuck(format!("the records: {sound}")));
    }
    s.site.ok(&["audit", "verify"]).map(drop)
}
