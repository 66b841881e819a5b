//! Boards that live by themselves: powered fixtures with a probe on TCP and a
//! serial port on a pseudo-terminal, run by a few threads.
//!
//! A *fixture* is a place (its TCP port and its terminal stay the same), a
//! *board* is what lies in it; [`Bench::swap`] and [`Bench::place`] change which
//! is where. Board `n` starts in fixture `n`.
//!
//! Time: a board with something to do runs as fast as the host allows. A board
//! that waits is held to real time and costs a wake-up every few milliseconds,
//! or ten a second if it has no timer running. A host that stalls never makes a
//! board's clock leap: more than a quarter of a second of it is lost.
//!
//! Locks: a fixture's and a board's are never held together.

use crate::board::{Activity, Board, BoardConfig, BoardError};
use crate::flash::{FlashStore, FlashTiming};
use crate::remote::{self, Remote};
use crate::serial::SerialLine;
use crate::uid::Uid;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use serde::Serialize;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How far a waiting board may run ahead of real time, which sets how often it wakes.
const LEAD: Duration = Duration::from_millis(10);
/// Lateness up to this is caught up, which costs a sleeping board nothing; beyond
/// it is forgotten, so that no firmware timeout runs down while the host stalls.
const FORGIVEN: Duration = Duration::from_millis(250);
/// How long a new debugger waits for the one before it to be gone.
const TAKEN: Duration = Duration::from_millis(500);
/// How often a board with no timer running is looked at.
const HEARTBEAT: Duration = Duration::from_millis(100);
/// Virtual time run between looks at the host, 125 µs: what a debugger waits for at most, at each of its packets.
const CHUNK: u64 = 2_000;
/// Virtual time a waiting board catches up between looks at the host, as long as a turn.
const CATCH_UP: u64 = 32_000;
/// Host time one board may hold a thread.
const TURN: Duration = Duration::from_millis(2);
/// Unread serial input kept per board; beyond it the terminal is not read.
const INPUT_LIMIT: usize = 16 * 1024;
/// Changed flash reaches its file at least this often while the board runs.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// What a bench is made of.
#[derive(Debug, Clone)]
pub struct BenchConfig {
    /// How many fixtures and boards.
    pub count: u32,
    /// Where flash images and terminal links live; `None` keeps flash in memory.
    pub dir: Option<PathBuf>,
    /// Names the family of boards: their ids, and everything random about them.
    pub seed: u64,
    /// How long flash operations take.
    pub timing: FlashTiming,
    /// Mixed into the chips' random number generators; `None` takes it from the
    /// host, so that a board restarted tomorrow does not draw today's keys.
    pub entropy: Option<u64>,
    /// Whether boards have power from the start.
    pub powered: bool,
}

impl BenchConfig {
    /// `count` powered boards in memory, everything fixed by `seed`.
    pub fn new(count: u32, seed: u64) -> BenchConfig {
        BenchConfig { count, dir: None, seed, timing: FlashTiming::FAST, entropy: Some(0), powered: true }
    }
}

/// How to reach a fixture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fixture {
    /// Its number, from 1.
    pub n: u32,
    /// probe-rs selector.
    pub probe: String,
    /// Address of the probe.
    pub swd: SocketAddr,
    /// The terminal that is its serial port now; changes when it is plugged again.
    pub serial: PathBuf,
    /// A link to that terminal which stays, if the bench has a directory.
    pub link: Option<PathBuf>,
}

/// One board's state, for people and scripts.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Board number.
    pub n: u32,
    /// Unique id.
    pub uid: String,
    /// Which fixture it lies in.
    pub fixture: Option<u32>,
    /// Whether that fixture's cables are plugged in.
    pub plugged: bool,
    /// Whether a debugger is connected to it.
    pub debugger: bool,
    /// What it is doing.
    pub activity: Activity,
    /// Program counter.
    pub pc: String,
    /// Virtual time since the start.
    pub virtual_ms: u64,
    /// Flash operations started so far.
    pub flash_ops: u64,
    /// Resets so far.
    pub resets: usize,
    /// Cause of the last one.
    pub last_reset: Option<crate::ResetCause>,
    /// Protection level in force.
    pub protection: crate::flash::ReadProtection,
}

/// What can go wrong with a bench.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// No such board or fixture.
    #[error("there is no board or fixture {n}: they are numbered 1 to {count}")]
    NoSuchBoard {
        /// What was asked for.
        n: u32,
        /// How many there are.
        count: u32,
    },
    /// The host refused a file, socket or terminal.
    #[error("{what}: {source}")]
    Host {
        /// What was being done.
        what: String,
        /// What the host said.
        source: io::Error,
    },
    /// The request makes no sense for the board.
    #[error(transparent)]
    Board(#[from] BoardError),
}

fn host(what: impl Into<String>) -> impl FnOnce(io::Error) -> BenchError {
    let what = what.into();
    move |source| BenchError::Host { what, source }
}

#[derive(Debug)]
struct Terminal {
    master: OwnedFd,
    /// Held so that the terminal lives, and keeps its settings, while nobody has it open.
    _slave: OwnedFd,
    path: PathBuf,
}

#[derive(Debug)]
struct Cables {
    listener: Arc<TcpListener>,
    terminal: Arc<Terminal>,
}

#[derive(Debug)]
struct Place {
    n: u32,
    address: SocketAddr,
    link: Option<PathBuf>,
    state: Mutex<PlaceState>,
}

#[derive(Debug)]
struct PlaceState {
    board: Option<usize>,
    cables: Option<Cables>,
    client: Option<(u64, TcpStream)>,
    sessions: u64,
    last_serial: PathBuf,
}

#[derive(Debug)]
struct Slot {
    board: Mutex<Board>,
    line: Arc<SerialLine>,
    uid: Uid,
    /// Threads that want the board: whoever runs it makes way for them.
    waiting: AtomicUsize,
    pace: Mutex<Pace>,
}

/// The tie between a board's clock and the host's.
#[derive(Debug, Clone, Copy)]
struct Pace {
    real: Instant,
    virt: Duration,
    due: Instant,
    saved: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    due: Instant,
    running: bool,
    kicked: bool,
}

#[derive(Debug)]
struct Inner {
    slots: Vec<Slot>,
    places: Vec<Place>,
    turns: Mutex<Vec<Turn>>,
    wake: Condvar,
    quit: AtomicBool,
    /// Written to make the I/O thread look at its sockets again.
    poke: OwnedFd,
    poked: OwnedFd,
}

/// A set of running boards in fixtures. Dropping it takes the power away and
/// saves the flash.
#[derive(Debug)]
pub struct Bench {
    inner: Arc<Inner>,
    threads: Vec<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in a caller's closure must not take the other boards with it.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Bench {
    /// Set up the fixtures, put the boards in and start running.
    ///
    /// # Errors
    /// The host refuses a port, terminal, file or thread.
    pub fn start(config: &BenchConfig) -> Result<Bench, BenchError> {
        let mut slots = Vec::new();
        let mut places = Vec::new();
        let entropy = config.entropy.map_or_else(host_entropy, Ok).map_err(host("reading /dev/urandom"))?;
        if let Some(dir) = &config.dir {
            std::fs::create_dir_all(dir).map_err(host(format!("creating {}", dir.display())))?;
        }
        for n in 1..=config.count {
            let store = match &config.dir {
                None => FlashStore::blank(),
                Some(dir) => {
                    let path = dir.join(format!("board-{n}.flash"));
                    FlashStore::open(&path)
                        .map_err(host(format!("opening flash image {}", path.display())))?
                }
            };
            let mut board_config = BoardConfig::new(config.seed, n);
            board_config.timing = config.timing;
            board_config.seed ^= entropy;
            let mut board = Board::new(board_config, Arc::new(store));
            if config.powered {
                board.power_on();
            }
            let now = Instant::now();
            slots.push(Slot {
                line: Arc::clone(board.serial()),
                uid: board.uid(),
                board: Mutex::new(board),
                waiting: AtomicUsize::new(0),
                pace: Mutex::new(Pace { real: now, virt: Duration::ZERO, due: now, saved: now }),
            });

            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .map_err(host("opening a TCP port for a probe"))?;
            let address = listener.local_addr().map_err(host("asking for the probe's port"))?;
            let link = config.dir.as_ref().map(|dir| dir.join(format!("board-{n}.tty")));
            let cables = cables(listener, link.as_deref())?;
            places.push(Place {
                n,
                address,
                link,
                state: Mutex::new(PlaceState {
                    board: Some(n as usize - 1),
                    last_serial: cables.terminal.path.clone(),
                    cables: Some(cables),
                    client: None,
                    sessions: 0,
                }),
            });
        }
        let (poked, poke) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK)
                .map_err(|e| host("making a pipe")(e.into()))?;
        let now = Instant::now();
        let inner = Arc::new(Inner {
            turns: Mutex::new(vec![Turn { due: now, running: false, kicked: false }; slots.len()]),
            slots,
            places,
            wake: Condvar::new(),
            quit: AtomicBool::new(false),
            poke,
            poked,
        });
        let workers = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(4)
            .min(config.count.max(1) as usize);
        let mut bench = Bench { inner, threads: Vec::new() };
        for _ in 0..workers {
            bench.spawn("boards", Inner::work)?;
        }
        bench.spawn("cables", Inner::serve_cables)?;
        Ok(bench)
    }

    fn spawn(&mut self, name: &str, run: fn(&Arc<Inner>)) -> Result<(), BenchError> {
        let inner = Arc::clone(&self.inner);
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || run(&inner))
            .map_err(host("starting a thread"))?;
        self.threads.push(thread);
        Ok(())
    }

    /// How many boards (and fixtures) there are.
    pub fn count(&self) -> u32 {
        self.inner.slots.len() as u32
    }

    /// How to reach fixture `n`.
    ///
    /// # Errors
    /// There is no such fixture.
    pub fn fixture(&self, n: u32) -> Result<Fixture, BenchError> {
        let place = self.place_of(n)?;
        let state = lock(&place.state);
        Ok(Fixture {
            n,
            probe: format!("1d50:6018:{}", place.address),
            swd: place.address,
            serial: state
                .cables
                .as_ref()
                .map_or_else(|| state.last_serial.clone(), |c| c.terminal.path.clone()),
            link: place.link.clone(),
        })
    }

    /// The unique id of board `n`.
    ///
    /// # Errors
    /// There is no such board.
    pub fn uid(&self, n: u32) -> Result<Uid, BenchError> {
        Ok(self.slot(n)?.uid)
    }

    /// Work on board `n` between two of its instructions. Keep it short: the
    /// board stands still meanwhile.
    ///
    /// # Errors
    /// There is no such board.
    pub fn with_board<R>(&self, n: u32, work: impl FnOnce(&mut Board) -> R) -> Result<R, BenchError> {
        self.slot(n)?;
        Ok(self.inner.with_board(n as usize - 1, work))
    }

    /// Wait, in real time, until `done` holds for board `n`. False after `limit`.
    ///
    /// # Errors
    /// There is no such board.
    pub fn wait_until(
        &self,
        n: u32,
        mut done: impl FnMut(&mut Board) -> bool,
        limit: Duration,
    ) -> Result<bool, BenchError> {
        let end = Instant::now() + limit;
        loop {
            if self.with_board(n, &mut done)? {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Take the power from board `n` now.
    ///
    /// # Errors
    /// There is no such board.
    pub fn cut_power(&self, n: u32) -> Result<(), BenchError> {
        self.with_board(n, Board::cut_power)
    }

    /// Cut the power of board `n` inside its `k`-th flash operation from now; see
    /// [`Board::cut_power_at_flash_op`].
    ///
    /// # Errors
    /// There is no such board.
    pub fn cut_power_at_flash_op(&self, n: u32, k: u64, progress: f64, seed: u64) -> Result<(), BenchError> {
        self.with_board(n, |b| b.cut_power_at_flash_op(k, progress, seed))
    }

    /// Give board `n` power.
    ///
    /// # Errors
    /// There is no such board.
    pub fn power_on(&self, n: u32) -> Result<(), BenchError> {
        self.with_board(n, Board::power_on)
    }

    /// Press the reset button of board `n`.
    ///
    /// # Errors
    /// There is no such board.
    pub fn reset(&self, n: u32) -> Result<(), BenchError> {
        self.with_board(n, Board::reset)
    }

    /// Flip every bit of `len` bytes of board `n`'s flash at bus address `address`.
    ///
    /// # Errors
    /// There is no such board, or the range is not inside its flash.
    pub fn tamper(&self, n: u32, address: u32, len: u32) -> Result<(), BenchError> {
        Ok(self.with_board(n, |b| {
            let bytes: Vec<u8> = b.read_flash(address, len)?.iter().map(|x| !x).collect();
            b.tamper(address, &bytes)
        })??)
    }

    /// The state of board `n`.
    ///
    /// # Errors
    /// There is no such board.
    pub fn status(&self, n: u32) -> Result<Status, BenchError> {
        self.slot(n)?;
        let index = n as usize - 1;
        let (fixture, plugged, debugger) = self
            .inner
            .places
            .iter()
            .find_map(|p| {
                let state = lock(&p.state);
                (state.board == Some(index))
                    .then(|| (Some(p.n), state.cables.is_some(), state.client.is_some()))
            })
            .unwrap_or((None, false, false));
        self.with_board(n, |b| Status {
            n,
            uid: b.uid().to_string(),
            fixture,
            plugged,
            debugger,
            activity: b.activity(),
            pc: format!("{:#010x}", b.pc()),
            virtual_ms: b.elapsed().as_millis() as u64,
            flash_ops: b.flash_op_count(),
            resets: b.resets().len(),
            last_reset: b.resets().last().copied(),
            protection: b.read_protection(),
        })
    }

    /// Exchange what lies in two fixtures. Both boards keep their power; both
    /// debuggers lose their target.
    ///
    /// # Errors
    /// There is no such fixture.
    pub fn swap(&self, a: u32, b: u32) -> Result<(), BenchError> {
        let (first, second) = (self.place_of(a)?, self.place_of(b)?);
        let one = first.lift();
        let two = second.lift();
        first.put(two);
        second.put(one);
        self.inner.poke();
        Ok(())
    }

    /// Put board `board` (or nothing) into fixture `fixture`, taking it from
    /// wherever it lies. What lay there before lies nowhere.
    ///
    /// # Errors
    /// There is no such board or fixture.
    pub fn place(&self, fixture: u32, board: Option<u32>) -> Result<(), BenchError> {
        let target = self.place_of(fixture)?;
        let index = board.map(|n| self.slot(n).map(|_| n as usize - 1)).transpose()?;
        for place in &self.inner.places {
            let holds = index.is_some() && lock(&place.state).board == index;
            if holds {
                place.lift();
            }
        }
        target.lift();
        target.put(index);
        self.inner.poke();
        Ok(())
    }

    /// Pull the cables of fixture `n`: its probe and its serial port vanish from
    /// the host. The board keeps its power.
    ///
    /// # Errors
    /// There is no such fixture.
    pub fn unplug(&self, n: u32) -> Result<(), BenchError> {
        let place = self.place_of(n)?;
        let mut state = lock(&place.state);
        if let Some((_, client)) = state.client.take() {
            let _ = client.shutdown(Shutdown::Both);
        }
        if state.cables.take().is_some()
            && let Some(link) = &place.link
        {
            let _ = std::fs::remove_file(link);
        }
        drop(state);
        self.inner.poke();
        Ok(())
    }

    /// Plug the cables of fixture `n` in again: the same probe address, a new
    /// terminal behind the same link.
    ///
    /// # Errors
    /// There is no such fixture, or the host refuses the port or terminal.
    pub fn plug(&self, n: u32) -> Result<(), BenchError> {
        let place = self.place_of(n)?;
        if lock(&place.state).cables.is_some() {
            return Ok(());
        }
        // The I/O thread may hold the old listener for another moment.
        let end = Instant::now() + Duration::from_secs(2);
        let listener = loop {
            match TcpListener::bind(place.address) {
                Ok(listener) => break listener,
                Err(e) if e.kind() == io::ErrorKind::AddrInUse && Instant::now() < end => {
                    self.inner.poke();
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(e) => return Err(host(format!("opening {} again", place.address))(e)),
            }
        };
        let cables = cables(listener, place.link.as_deref())?;
        let mut state = lock(&place.state);
        if let Some(board) = state.board {
            self.inner.slots[board].line.clear();
        }
        state.last_serial = cables.terminal.path.clone();
        state.cables = Some(cables);
        drop(state);
        self.inner.poke();
        Ok(())
    }

    /// Write every board's flash to its file.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn save(&self) -> Result<(), BenchError> {
        for n in 1..=self.count() {
            let store = self.with_board(n, |b| Arc::clone(b.flash()))?;
            store.flush().map_err(host(format!("saving the flash of board {n}")))?;
        }
        Ok(())
    }

    fn slot(&self, n: u32) -> Result<&Slot, BenchError> {
        (n as usize)
            .checked_sub(1)
            .and_then(|i| self.inner.slots.get(i))
            .ok_or(BenchError::NoSuchBoard { n, count: self.count() })
    }

    fn place_of(&self, n: u32) -> Result<&Place, BenchError> {
        (n as usize)
            .checked_sub(1)
            .and_then(|i| self.inner.places.get(i))
            .ok_or(BenchError::NoSuchBoard { n, count: self.count() })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.inner.quit.store(true, Ordering::Relaxed);
        self.inner.wake.notify_all();
        self.inner.poke();
        for place in &self.inner.places {
            if let Some((_, client)) = lock(&place.state).client.take() {
                let _ = client.shutdown(Shutdown::Both);
            }
            if let Some(link) = &place.link {
                let _ = std::fs::remove_file(link);
            }
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        for slot in &self.inner.slots {
            let mut board = lock(&slot.board);
            board.cut_power();
            if let Err(e) = board.flash().flush() {
                eprintln!("virtual-board: flash of {} not saved: {e}", slot.uid);
            }
        }
    }
}

fn host_entropy() -> io::Result<u64> {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn cables(listener: TcpListener, link: Option<&Path>) -> Result<Cables, BenchError> {
    listener.set_nonblocking(true).map_err(host("preparing the probe's port"))?;
    let terminal = Terminal::open().map_err(host("opening a pseudo-terminal"))?;
    if let Some(link) = link {
        // Replaced in one step, so that whoever opens it meets the old or the new one.
        let fresh = link.with_extension("tty.new");
        let _ = std::fs::remove_file(&fresh);
        std::os::unix::fs::symlink(&terminal.path, &fresh)
            .and_then(|()| std::fs::rename(&fresh, link))
            .map_err(host(format!("linking {}", link.display())))?;
    }
    Ok(Cables { listener: Arc::new(listener), terminal: Arc::new(terminal) })
}

impl Terminal {
    fn open() -> io::Result<Terminal> {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        let path = PathBuf::from(
            name.into_string().map_err(|_| io::Error::other("the terminal's name is not text"))?,
        );
        let slave = rustix::fs::open(&path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        // A serial line carries bytes, not lines of text.
        let mut settings = tcgetattr(&slave)?;
        settings.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &settings)?;
        rustix::fs::fcntl_setfl(&master, OFlags::NONBLOCK)?;
        rustix::io::fcntl_setfd(&master, rustix::io::FdFlags::CLOEXEC)?;
        Ok(Terminal { master, _slave: slave, path })
    }
}

impl Place {
    /// Take the board out; whoever debugged it loses it.
    fn lift(&self) -> Option<usize> {
        let mut state = lock(&self.state);
        if let Some((_, client)) = state.client.take() {
            let _ = client.shutdown(Shutdown::Both);
        }
        state.board.take()
    }

    fn put(&self, board: Option<usize>) {
        lock(&self.state).board = board;
    }
}

impl Inner {
    fn poke(&self) {
        let _ = rustix::io::write(&self.poke, &[1]);
    }

    fn with_board<R>(&self, index: usize, work: impl FnOnce(&mut Board) -> R) -> R {
        let slot = &self.slots[index];
        slot.waiting.fetch_add(1, Ordering::AcqRel);
        let mut board = lock(&slot.board);
        slot.waiting.fetch_sub(1, Ordering::AcqRel);
        let rested = board.at_rest();
        let result = work(&mut board);
        let rests = rested && board.at_rest();
        drop(board);
        if !rests {
            self.kick(index);
        }
        result
    }

    /// Something happened to a board: run it soon.
    fn kick(&self, index: usize) {
        let mut turns = lock(&self.turns);
        let turn = &mut turns[index];
        turn.kicked = true;
        turn.due = Instant::now();
        drop(turns);
        self.wake.notify_one();
    }

    // ---- running boards ---------------------------------------------------

    fn work(self: &Arc<Self>) {
        let mut turns = lock(&self.turns);
        while !self.quit.load(Ordering::Relaxed) {
            let now = Instant::now();
            let next = turns.iter().enumerate().filter(|(_, t)| !t.running).min_by_key(|(_, t)| t.due);
            match next.map(|(index, turn)| (index, turn.due)) {
                Some((index, due)) if due <= now => {
                    turns[index].running = true;
                    turns[index].kicked = false;
                    drop(turns);
                    let due = self.turn(index);
                    turns = lock(&self.turns);
                    let turn = &mut turns[index];
                    turn.running = false;
                    if !turn.kicked {
                        turn.due = due;
                    }
                }
                Some((_, due)) => {
                    turns =
                        self.wake.wait_timeout(turns, due - now).map_or_else(|e| e.into_inner().0, |(t, _)| t)
                }
                None => {
                    turns =
                        self.wake.wait_timeout(turns, HEARTBEAT).map_or_else(|e| e.into_inner().0, |(t, _)| t)
                }
            }
        }
    }

    /// Run one board for a while; says when it wants to run again.
    fn turn(&self, index: usize) -> Instant {
        let slot = &self.slots[index];
        // A mutex is not fair: this thread would take a busy board back before a debugger that waits has woken.
        while slot.waiting.load(Ordering::Acquire) > 0 && !self.quit.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        let start = Instant::now();
        let mut pace = *lock(&slot.pace);
        if start > pace.due + FORGIVEN {
            pace.real += start - pace.due;
        }
        let mut board = lock(&slot.board);
        let due = loop {
            let now = Instant::now();
            let wanted = pace.virt + now.saturating_duration_since(pace.real);
            let at = board.elapsed();
            match board.activity() {
                Activity::Busy => {
                    if wanted > at + FORGIVEN {
                        (pace.real, pace.virt) = (now, at);
                    }
                    board.run_cycles(CHUNK);
                }
                Activity::Off => {
                    (pace.real, pace.virt) = (now, at);
                    break now + HEARTBEAT;
                }
                _ if at < wanted + LEAD => {
                    // In pieces: a board that is behind may turn out to be busy, and must not keep the thread from
                    // others for all that it has to catch up.
                    let cycles = (wanted + LEAD - at).as_nanos() as u64 * 16 / 1000;
                    board.run_cycles(cycles.clamp(16, CATCH_UP));
                }
                _ => {
                    // Ahead of the clock: sleep until it has caught up, or until the next timer.
                    let next = board.next_event().saturating_sub(at).min(HEARTBEAT);
                    let caught_up = at.saturating_sub(wanted);
                    break now + caught_up.max(next.saturating_sub(LEAD));
                }
            }
            if slot.waiting.load(Ordering::Acquire) > 0
                || start.elapsed() > TURN
                || self.quit.load(Ordering::Relaxed)
            {
                break Instant::now();
            }
        };
        let store =
            (start > pace.saved + SAVE_EVERY && board.flash().is_dirty()).then(|| Arc::clone(board.flash()));
        drop(board);
        if let Some(store) = store {
            pace.saved = start;
            if let Err(e) = store.flush() {
                eprintln!("virtual-board: flash of {} not saved: {e}", slot.uid);
            }
        }
        pace.due = due;
        *lock(&slot.pace) = pace;
        self.deliver(index);
        due
    }

    /// Bring a board's serial output to the terminal of the fixture it lies in.
    fn deliver(&self, index: usize) {
        let line = &self.slots[index].line;
        if !line.has_output() {
            return;
        }
        let terminal = self.places.iter().find_map(|p| {
            let state = lock(&p.state);
            (state.board == Some(index)).then(|| state.cables.as_ref().map(|c| Arc::clone(&c.terminal)))
        });
        match terminal.flatten() {
            Some(terminal) => {
                line.drain_with(|bytes| rustix::io::write(&terminal.master, bytes).unwrap_or(0))
            }
            None => drop(line.take()), // Nothing is connected: the bytes are gone.
        }
    }

    // ---- cables -----------------------------------------------------------

    fn serve_cables(self: &Arc<Self>) {
        let mut buf = [0u8; 4096];
        while !self.quit.load(Ordering::Relaxed) {
            // Held while polled, so that a cable pulled meanwhile stays a valid descriptor.
            let plugged: Vec<_> = self
                .places
                .iter()
                .filter_map(|place| {
                    let state = lock(&place.state);
                    let cables = state.cables.as_ref()?;
                    Some((place, state.board, Arc::clone(&cables.listener), Arc::clone(&cables.terminal)))
                })
                .collect();
            let mut fds = vec![PollFd::new(&self.poked, PollFlags::IN)];
            for (_, board, listener, terminal) in &plugged {
                let full = board.is_some_and(|b| self.slots[b].line.pending() > INPUT_LIMIT);
                let late = board.is_some_and(|b| self.slots[b].line.has_output());
                let mut wanted = PollFlags::empty();
                wanted.set(PollFlags::IN, !full);
                wanted.set(PollFlags::OUT, late);
                fds.push(PollFd::new(listener, PollFlags::IN));
                fds.push(PollFd::new(&terminal.master, wanted));
            }
            let patience = rustix::event::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            if poll(&mut fds, Some(&patience)).is_err() {
                continue;
            }
            let ready: Vec<bool> =
                fds.iter().map(|fd| fd.revents().intersects(PollFlags::IN | PollFlags::OUT)).collect();
            drop(fds);
            if ready[0] {
                while rustix::io::read(&self.poked, &mut buf).is_ok_and(|n| n > 0) {}
            }
            for (i, (place, _, listener, terminal)) in plugged.iter().enumerate() {
                if ready[1 + 2 * i]
                    && let Ok((stream, _)) = listener.accept()
                {
                    self.admit(place.n as usize - 1, stream);
                }
                if ready[2 + 2 * i] {
                    let read = rustix::io::read(&terminal.master, &mut buf).unwrap_or(0);
                    // Asked now: boards may have been swapped while this waited.
                    let board = lock(&place.state).board;
                    if let Some(board) = board {
                        self.slots[board].line.send(&buf[..read]);
                        self.deliver(board);
                        self.kick(board);
                    }
                }
            }
        }
    }

    /// Take a debugger's connection, or say that the probe is taken.
    fn admit(self: &Arc<Self>, index: usize, stream: TcpStream) {
        let (Ok(()), Ok(()), Ok(held)) =
            (stream.set_nonblocking(false), stream.set_nodelay(true), stream.try_clone())
        else {
            return;
        };
        let inner = Arc::clone(self);
        let name = format!("probe-{}", self.places[index].n);
        // A thread that can't be had drops the connection, which is an answer too.
        let _ = std::thread::Builder::new().name(name).spawn(move || inner.serve(index, stream, held));
    }

    fn serve(&self, index: usize, mut stream: TcpStream, held: TcpStream) {
        // A debugger that hangs up and connects again at once is served, as on USB, where closing is done when it
        // returns: its old connection's thread needs a moment to see the end.
        let end = Instant::now() + TAKEN;
        let session = loop {
            let mut state = lock(&self.places[index].state);
            if state.client.is_none() {
                state.sessions += 1;
                state.client = Some((state.sessions, held));
                break state.sessions;
            }
            drop(state);
            if Instant::now() >= end || self.quit.load(Ordering::Relaxed) {
                // The handshake's error answer; the text is for people who connect by hand.
                let _ = stream.write_all(b"&E5#\nthis probe is in use by another debugger\n");
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        self.debug(index, session, stream);
        let mut state = lock(&self.places[index].state);
        if state.client.as_ref().is_some_and(|(s, _)| *s == session) {
            state.client = None;
        }
    }

    fn debug(&self, index: usize, session: u64, mut stream: TcpStream) {
        let mut remote = Remote::default();
        let mut buf = [0u8; 4096];
        loop {
            let read = match stream.read(&mut buf) {
                Ok(0) | Err(_) => return,
                Ok(read) => read,
            };
            let mut out = String::new();
            let mut lost = false;
            remote.feed(&buf[..read], |wire, packet| {
                let board = {
                    let state = lock(&self.places[index].state);
                    lost |= state.client.as_ref().is_none_or(|(s, _)| *s != session);
                    state.board
                };
                if lost {
                    return;
                }
                out += &match board {
                    Some(board) => self.with_board(board, |b| remote::answer(Some(b), wire, packet)),
                    None => remote::answer(None, wire, packet),
                };
            });
            if lost || stream.write_all(out.as_bytes()).is_err() {
                return;
            }
        }
    }
}
