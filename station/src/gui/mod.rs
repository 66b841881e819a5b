//! The window (egui): reads snapshots, emits commands.
//!
//! Code map: [`window_view`] is all of it, a function of snapshots and the window's own small [`ViewState`]. In it:
//! - the line: `line_view` and `tile`, `scan_view` (what it waits for), `line_ask` (the sample, cancelling all), `wedge` (what a scanner
//!   types), `preflight_view` (whether the station is ready), `resume_view`, `no_fixtures`;
//! - orders: `batches_view`, `order_view`, `order_wizard`; units: `units_view`, `search_view`, `traveler_view`, `unit_label`, `decision`
//!   (what QA decides about them);
//! - lists: `export_view`, `check_view` (a file that somebody brings); `shift_view` with `plots`; `trust_view`;
//! - people: `lock_screen`, `people_view`, `audit_view`; setting up: `first_view` with `first_login`, `settings_view` with `line_settings`
//!   and `label_settings`.
//!
//! `shell` and `header` frame them, `widgets`, `theme`, `icons`, `layout` are their look, `state` and `said` their words, `sending` is what a
//! form does until its answer is there, `copy` and `files` are errors to take along and the system's dialogs. [`Window`] joins it to a
//! [`LineHandle`] and a [`DeskHandle`] and holds what is the window's alone (zoom, pictures, closing); [`run`] opens it on the screen.
//! [`scripted`] is a line that only shows, for tests and for the design gallery; `walk` and `pictures` are the tests of all views.
//!
//! Architecture invariants:
//! - Nothing here waits: snapshots are read, commands are sent, pictures are written by a thread of their own.
//! - Nothing here knows hardware, SQL or the network.
//! - A frame is painted because something changed, a key was pressed, or a clock on the screen moved on; an idle
//!   window paints nothing.

mod audit_view;
mod batches_view;
mod check_view;
mod copy;
mod decision;
mod export_view;
mod files;
mod first_login;
mod first_view;
mod header;
mod icons;
mod label_settings;
mod layout;
mod line_ask;
mod line_settings;
mod line_view;
mod lock_screen;
mod no_fixtures;
mod order_view;
mod order_wizard;
mod parked;
mod people_view;
#[cfg(test)]
mod pictures;
mod plots;
mod preflight_view;
mod resume_view;
mod said;
mod scan_view;
pub mod scripted;
mod search_view;
mod sending;
mod settings_view;
mod shell;
mod shift_view;
mod state;
mod theme;
mod tile;
mod traveler_view;
mod trust_view;
mod unit_label;
mod units_view;
#[cfg(test)]
mod walk;
mod wedge;
mod widgets;

pub use crate::config::Theme;
pub use audit_view::AuditState;
pub use batches_view::BatchesState;
pub use decision::Form;
pub use files::Files;
pub use first_view::FirstState;
pub use line_view::{Picker, Tab, ViewState};
pub use lock_screen::LockState;
pub use people_view::{Change as PersonChange, Form as PersonForm, PeopleState, Typed};
pub use preflight_view::PreflightState;
pub use settings_view::{Came, Later, SettingsState, Wish};
pub use shell::{Asked, Seen, window_view};
pub use shift_view::ShiftState;
pub use state::Seat;
pub use theme::{fonts, install};
pub use trust_view::TrustState;
pub use units_view::UnitsState;
pub use wedge::Wedge;

use crate::desk::{self, DeskHandle, Handles};
use crate::export::clerk::ExportHandle;
use crate::failure::{Failure, FailureCode};
use crate::foreman::ForemanHandle;
use crate::host::{self, HostHandle};
use crate::i18n::{self, Formats, Language, tr};
use crate::line::{Command, LineHandle, Snapshot};
use crate::people::Right;
use crate::people::office::{self, PeopleHandle};
use crate::settings::{Draft, NotWritten, Read, StationFile};
use crate::sound::Sound;
use crate::trust::clerk::TrustHandle;
use egui::{Context, Key, Modifiers, Ui, ViewportCommand};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How often the window paints while something goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// Changes of the line are painted at most this often; a flash reports hundreds of blocks a second.
    pub frame: Duration,
    /// How often the clocks of running units are painted.
    pub tick: Duration,
}

impl Rhythm {
    /// A graphics card paints.
    pub const CARD: Self = Self { frame: Duration::from_millis(33), tick: Duration::from_millis(100) };
    /// The processor paints, about 40 ms of it for a frame: most of it is left to the line.
    pub const SOFTWARE: Self = Self { frame: Duration::from_millis(150), tick: Duration::from_millis(500) };
}

/// How often station.toml is compared with what is shown of it.
const LOOK_AT_FILE: Duration = Duration::from_secs(2);

/// How often the speed of a standing line is computed again.
const SLOW_TICK: Duration = Duration::from_secs(15);

impl From<Theme> for egui::ThemePreference {
    fn from(theme: Theme) -> Self {
        match theme {
            Theme::System => Self::System,
            Theme::Light => Self::Light,
            Theme::Dark | Theme::Contrast => Self::Dark,
        }
    }
}

/// A picture to take by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screenshot {
    /// PNG to write; written beside it first and renamed, so it is never half there.
    pub path: PathBuf,
    /// Close the window when it is written.
    pub then_close: bool,
}

/// How to open the window.
#[derive(Clone, Debug)]
pub struct Options {
    /// Title of the window.
    pub title: String,
    /// Light or dark.
    pub theme: Theme,
    /// Text size on top of what the window chooses for its own size; 1 is normal, 0.5 to 3.
    pub zoom: f32,
    /// Size of the window in points before the desktop has its say.
    pub size: [f32; 2],
    /// Cover the whole screen.
    pub fullscreen: bool,
    /// Picture to take as soon as the window stands.
    pub screenshot: Option<Screenshot>,
    /// Folder of the pictures that F12 takes; made when the first is taken.
    pub pictures: PathBuf,
    /// What is shown first.
    pub tab: Tab,
    /// What the window speaks.
    pub language: Language,
    /// How it writes dates and numbers.
    pub formats: Formats,
    /// The station.toml that the settings show; without it there are no settings.
    pub file: Option<StationFile>,
    /// The settings are shown first.
    pub settings: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            title: "Keywright".into(),
            theme: Theme::System,
            zoom: 1.0,
            size: [1280.0, 800.0],
            fullscreen: false,
            screenshot: None,
            pictures: PathBuf::from("."),
            tab: Tab::Line,
            language: Language::English,
            formats: Formats::default(),
            file: None,
            settings: false,
        }
    }
}

/// Why no window opened.
#[derive(Debug, thiserror::Error)]
pub enum GuiError {
    /// There is no display at all.
    #[error(
        "no display found (neither DISPLAY nor WAYLAND_DISPLAY is set); run it from a graphical session, or with --headless"
    )]
    NoDisplay,
    /// There is one, but it does not answer.
    #[error("the display can't be opened: {0}; check DISPLAY or WAYLAND_DISPLAY, or run with --headless")]
    Display(String),
    /// The display has no graphics driver that can be used.
    #[error(
        "no usable graphics driver: {0}; install one (on Debian mesa-vulkan-drivers also works without a graphics card), or run with --headless"
    )]
    Graphics(String),
}

/// Whether the environment names a display, without opening it.
pub fn display_named(env: impl Fn(&str) -> Option<std::ffi::OsString>) -> bool {
    let set = |name| env(name).is_some_and(|v| !v.is_empty());
    !cfg!(all(unix, not(target_os = "macos")))
        || set("DISPLAY")
        || set("WAYLAND_DISPLAY")
        || set("WAYLAND_SOCKET")
}

/// Opens the window on a line and returns when it is closed. Call it on the main thread. Closing waits for running
/// units; the line is told [`Command::Shutdown`] before this returns.
///
/// # Errors
/// See [`GuiError`]; nothing was sent to the line then.
pub fn run(
    handles: Handles,
    people: Option<Box<dyn PeopleHandle>>,
    exports: Option<Box<dyn ExportHandle>>,
    foreman: Option<Box<dyn ForemanHandle>>,
    trust: Option<Box<dyn TrustHandle>>,
    options: Options,
) -> Result<(), GuiError> {
    open(options, move |ctx, options, rhythm| {
        let window = Window::new(ctx, handles, options, rhythm).with_people(ctx, people);
        window.with_exports(ctx, exports).with_foreman(ctx, foreman).with_trust(ctx, trust)
    })
}

/// The same on a host, which gives the window its line when there is one and another when its settings change.
///
/// # Errors
/// See [`GuiError`].
pub fn run_hosted(host: Box<dyn HostHandle>, options: Options) -> Result<(), GuiError> {
    open(options, move |ctx, options, rhythm| {
        Window::new(ctx, parked::handles(Arc::default(), Arc::default()), options, rhythm)
            .with_host(ctx, host)
    })
}

fn open(
    options: Options,
    make: impl FnOnce(&Context, Options, Rhythm) -> Window + 'static,
) -> Result<(), GuiError> {
    if !display_named(|name| std::env::var_os(name)) {
        return Err(GuiError::NoDisplay);
    }
    let mut viewport = egui::ViewportBuilder::default()
        .with_title(options.title.clone())
        .with_app_id("keywright")
        .with_inner_size(options.size)
        .with_min_inner_size([960.0, 600.0])
        .with_fullscreen(options.fullscreen);
    if let Ok(icon) = eframe::icon_data::from_png_bytes(ICON) {
        viewport = viewport.with_icon(icon);
    }
    // Dithering hides bands in gradients; there are none here, and a software renderer pays for it with every pixel.
    let native = eframe::NativeOptions { viewport, centered: true, dithering: false, ..Default::default() };
    eframe::run_native(
        "keywright",
        native,
        Box::new(move |creation| {
            let software = creation
                .wgpu_render_state
                .as_ref()
                .is_some_and(|state| state.adapter.get_info().device_type == eframe::wgpu::DeviceType::Cpu);
            let rhythm = if software { Rhythm::SOFTWARE } else { Rhythm::CARD };
            Ok(Box::new(make(&creation.egui_ctx, options, rhythm)))
        }),
    )
    .map_err(|error| match error {
        eframe::Error::Winit(e) => GuiError::Display(plainly(&e)),
        eframe::Error::WinitEventLoop(e) => GuiError::Display(plainly(&e)),
        other => GuiError::Graphics(other.to_string()),
    })
}

/// The window library's own words without the place in its source that it puts in front.
fn plainly(error: &dyn std::fmt::Display) -> String {
    let told = error.to_string();
    told.rsplit(": ").next().unwrap_or_default().trim().to_owned()
}

const ICON: &[u8] = include_bytes!("../../../assets/icons/keywright.png");

/// The window: a line, and what is the window's own.
pub struct Window {
    line: Box<dyn LineHandle>,
    desk: Box<dyn DeskHandle>,
    people: Option<Box<dyn PeopleHandle>>,
    exports: Option<Box<dyn ExportHandle>>,
    host: Option<Box<dyn HostHandle>>,
    /// It shows a line that was taken from the host, and not a parked one.
    has_line: bool,
    /// Settings were saved that hold when the station is opened again.
    reopen: bool,
    first: FirstState,
    foreman: Option<Box<dyn ForemanHandle>>,
    trust: Option<Box<dyn TrustHandle>>,
    snapshot: Arc<Snapshot>,
    file: Arc<desk::Snapshot>,
    office: Arc<office::Snapshot>,
    view: ViewState,
    zoom: f32,
    pictures: PathBuf,
    pending: Option<Screenshot>,
    frames: u32,
    written: Receiver<(PathBuf, Result<(), String>, bool)>,
    writer: Sender<(PathBuf, Result<(), String>, bool)>,
    closes: u32,
    clock: Arc<FrameClock>,
    rhythm: Rhythm,
    formats: Formats,
    toml: Option<StationFile>,
    wish: Option<Wish>,
    looked: Instant,
    /// What became of trying the sounds.
    heard: (Sender<Heard>, Receiver<Heard>),
}

/// Whether the sounds could be heard, or why not.
type Heard = Result<(), String>;

/// When the last frame began, so that a storm of changes is painted at a steady rate.
struct FrameClock {
    start: Instant,
    last: AtomicU64,
}

impl FrameClock {
    fn since_last(&self) -> Duration {
        let now = self.start.elapsed();
        now.saturating_sub(Duration::from_micros(self.last.load(Ordering::Relaxed)))
    }

    fn frame(&self) {
        self.last.store(self.start.elapsed().as_micros() as u64, Ordering::Relaxed);
    }
}

/// Asks for a frame from another thread, at the window's rhythm.
fn waker(ctx: &Context, clock: &Arc<FrameClock>, rhythm: Rhythm) -> Box<dyn Fn() + Send + Sync> {
    let (ctx, clock): (_, Weak<FrameClock>) = (ctx.clone(), Arc::downgrade(clock));
    Box::new(move || {
        let Some(clock) = clock.upgrade() else { return };
        match rhythm.frame.checked_sub(clock.since_last()) {
            Some(wait) if !wait.is_zero() => ctx.request_repaint_after(wait),
            _ => ctx.request_repaint(),
        }
    })
}

impl Window {
    /// Joins a line to a context: fonts and styles are installed, and every change of the line asks for a frame.
    pub fn new(ctx: &Context, (line, desk): Handles, options: Options, rhythm: Rhythm) -> Self {
        install(ctx);
        theme::choose(ctx, options.theme);
        ctx.options_mut(|o| {
            // Zoom is ours: it multiplies the one that follows the window's size.
            o.zoom_with_keyboard = false;
            o.fallback_theme = egui::Theme::Dark;
        });
        let clock = Arc::new(FrameClock { start: Instant::now(), last: AtomicU64::new(0) });
        let waker = |clock: &Arc<FrameClock>| waker(ctx, clock, rhythm);
        line.on_change(waker(&clock));
        desk.on_change(waker(&clock));
        let (writer, written) = channel();
        Self {
            snapshot: line.snapshot(),
            file: desk.snapshot(),
            line,
            desk,
            people: None,
            office: Arc::default(),
            exports: None,
            host: None,
            has_line: true,
            reopen: false,
            first: FirstState::default(),
            foreman: None,
            trust: None,
            view: ViewState {
                language: options.language,
                has_settings: options.file.is_some(),
                settings_path: options
                    .file
                    .as_ref()
                    .map(|f| f.path().display().to_string())
                    .unwrap_or_default(),
                ..ViewState::opening(options.tab)
            },
            zoom: if options.zoom.is_finite() { options.zoom.clamp(0.5, 3.0) } else { 1.0 },
            pictures: options.pictures,
            pending: options.screenshot,
            frames: 0,
            written,
            writer,
            closes: 0,
            clock,
            rhythm,
            formats: options.formats,
            toml: options.file,
            wish: options.settings.then_some(Wish::Open),
            looked: Instant::now(),
            heard: channel(),
        }
    }

    /// The same with people: a lock screen, and views for those who look after the station.
    pub fn with_people(mut self, ctx: &Context, people: Option<Box<dyn PeopleHandle>>) -> Self {
        if let Some(people) = &people {
            people.on_change(waker(ctx, &self.clock, self.rhythm));
            self.office = people.snapshot();
        }
        self.people = people;
        self
    }

    /// Joins the clerk that exports.
    pub fn with_exports(mut self, ctx: &Context, exports: Option<Box<dyn ExportHandle>>) -> Self {
        if let Some(exports) = &exports {
            exports.on_change(waker(ctx, &self.clock, self.rhythm));
            self.view.exports.seen = exports.snapshot();
        }
        self.exports = exports;
        self
    }

    /// Joins the host: the window begins without a line and takes the one that the host opens.
    pub fn with_host(mut self, ctx: &Context, host: Box<dyn HostHandle>) -> Self {
        host.on_change(waker(ctx, &self.clock, self.rhythm));
        (self.host, self.has_line, self.view.has_host) = (Some(host), false, true);
        // What is there already is in the first frame.
        self.look_at_host(ctx);
        self
    }

    /// Takes a station that the host opened, and gives the one that is there back when another is wanted and nothing runs.
    fn look_at_host(&mut self, ctx: &Context) {
        let Some(host) = &self.host else { return };
        self.view.host = host.snapshot();
        if let Some(opened) = host.take() {
            let host::Opened { handles: (line, desk), people, exports, foreman, trust, config } = opened;
            let wake = || waker(ctx, &self.clock, self.rhythm);
            line.on_change(wake());
            desk.on_change(wake());
            people.on_change(wake());
            exports.on_change(wake());
            foreman.on_change(wake());
            trust.on_change(wake());
            (self.snapshot, self.file) = (line.snapshot(), desk.snapshot());
            (self.office, self.view.exports.seen) = (people.snapshot(), exports.snapshot());
            (self.line, self.desk) = (line, desk);
            (self.people, self.exports) = (Some(people), Some(exports));
            (self.view.shift.seen, self.view.trust.seen) = (foreman.snapshot(), trust.snapshot());
            (self.foreman, self.trust) = (Some(foreman), Some(trust));
            self.has_line = true;
            self.view.language = config.language.language();
            self.formats = config.formats;
            let demo = if config.demo { " (demo)" } else { "" };
            ctx.send_viewport_cmd(ViewportCommand::Title(format!("Keywright: {}{demo}", config.name)));
            ctx.request_repaint();
        }
        if let Some(failure) = self.view.host.failure.as_ref().filter(|_| self.view.notice.is_none()) {
            let _spoken = i18n::using(self.view.language);
            let (sentence, remedy) = i18n::failure(failure);
            self.view.notice = Some(format!("{} {sentence}. {remedy}", failure.code));
        }
        let wanted = self.reopen || self.view.host.wants_reopen;
        let works =
            matches!(self.file.told, desk::Told::Working(_)) || self.view.exports.seen.progress.is_some();
        let runs = self.snapshot.fixtures.iter().any(|f| f.running.is_some());
        if wanted && self.has_line && !works && !runs && !self.view.closing {
            self.reopen = false;
            self.retire();
        }
    }

    /// Gives everything back to the host and shows what was last seen until there is something new.
    fn retire(&mut self) {
        let Some(host) = &self.host else { return };
        let (line, desk) = parked::handles(self.snapshot.clone(), self.file.clone());
        let handles = (std::mem::replace(&mut self.line, line), std::mem::replace(&mut self.desk, desk));
        let batch = self.snapshot.batch.as_ref().map(|(batch, _)| batch.name.clone());
        host.retire(host::Old {
            handles,
            people: self.people.take(),
            exports: self.exports.take(),
            foreman: self.foreman.take(),
            trust: self.trust.take(),
            batch,
        });
        self.has_line = false;
    }

    /// Joins the foreman: figures and the end of a shift.
    pub fn with_foreman(mut self, ctx: &Context, foreman: Option<Box<dyn ForemanHandle>>) -> Self {
        if let Some(foreman) = &foreman {
            foreman.on_change(waker(ctx, &self.clock, self.rhythm));
            self.view.shift.seen = foreman.snapshot();
        }
        self.foreman = foreman;
        self
    }

    /// Joins the clerk behind the Trust view.
    pub fn with_trust(mut self, ctx: &Context, trust: Option<Box<dyn TrustHandle>>) -> Self {
        if let Some(trust) = &trust {
            trust.on_change(waker(ctx, &self.clock, self.rhythm));
            self.view.trust.seen = trust.snapshot();
        }
        self.trust = trust;
        self
    }

    /// What happens whether or not the window is visible: reading the line, closing, finished pictures.
    pub fn logic(&mut self, ctx: &Context) {
        let _spoken = i18n::using(self.view.language);
        i18n::write_as(self.formats);
        self.view.now = Instant::now();
        self.look_at_host(ctx);
        self.snapshot = self.line.snapshot();
        self.file = self.desk.snapshot();
        if let Some(people) = &self.people {
            self.office = people.snapshot();
        }
        if let Some(exports) = &self.exports {
            self.view.exports.seen = exports.snapshot();
        }
        if let Some(foreman) = &self.foreman {
            self.view.shift.seen = foreman.snapshot();
        }
        if let Some(trust) = &self.trust {
            self.view.trust.seen = trust.snapshot();
        }
        self.view.observe(&self.snapshot);
        for (path, result, close) in self.written.try_iter().collect::<Vec<_>>() {
            self.view.notice = Some(match result {
                Ok(()) => tr!("picture-saved", path = path.display().to_string()),
                Err(e) => tr!("picture-not-saved", path = path.display().to_string(), error = e),
            });
            if close {
                ctx.send_viewport_cmd(ViewportCommand::Close);
                self.closes = 2;
            }
        }
        for heard in self.heard.1.try_iter() {
            self.view.notice = Some(match heard {
                Ok(()) => tr!("sounds-played").into(),
                Err(error) => tr!("sounds-not-played", error = error),
            });
        }
        self.closing(ctx);
        if self.view.settings.is_some() {
            if self.looked.elapsed() >= LOOK_AT_FILE {
                self.looked = Instant::now();
                self.look_at_file();
            }
            ctx.request_repaint_after(LOOK_AT_FILE);
        }
    }

    /// Somebody else may have changed station.toml while it is shown.
    fn look_at_file(&mut self) {
        let (Some(file), Some(state)) = (&self.toml, &mut self.view.settings) else { return };
        if !file.changed(&state.read) {
            return;
        }
        if state.is_changed() {
            state.outside = true;
        } else {
            match file.read() {
                Ok(read) => *state = SettingsState { came: Some(Came::Reread), ..SettingsState::new(read) },
                Err(failure) => state.came = Some(Came::Failed(failure)),
            }
        }
    }

    fn grant(&mut self, wish: Wish, ctx: &Context) {
        let _spoken = i18n::using(self.view.language);
        let Some(file) = &self.toml else { return };
        if let (Some(people), Wish::Open) = (&self.people, &wish)
            && let Err(failure) = people.permit(Right::Settings, "settings-opened")
        {
            let (sentence, remedy) = i18n::failure(&failure);
            self.view.settings = None;
            self.view.notice = Some(format!("{} {sentence}. {remedy}", failure.code));
            return;
        }
        match (wish, &mut self.view.settings) {
            (Wish::Open | Wish::Reload, shown) => match (file.read(), shown) {
                (Ok(read), shown) => *shown = Some(SettingsState::new(read)),
                (Err(failure), Some(state)) => state.came = Some(Came::Failed(failure)),
                (Err(failure), None) => {
                    let (sentence, remedy) = i18n::failure(&failure);
                    self.view.notice = Some(format!("{} {sentence}. {remedy}", failure.code));
                }
            },
            (Wish::Save, Some(state)) => match save(file, state, self.people.as_deref()) {
                Ok(read) => {
                    let window =
                        |draft: &Draft| (draft.language, draft.formats, draft.theme, draft.text_size);
                    let (old, new) = (&state.read.draft, &read.draft);
                    let same = Draft {
                        language: new.language,
                        formats: new.formats,
                        theme: new.theme,
                        text_size: new.text_size,
                        ..old.clone()
                    };
                    let later = match &self.host {
                        _ if same == *new => None,
                        Some(_) => Some(Later::WhenIdle),
                        None => Some(Later::NextStart),
                    };
                    self.reopen |= later == Some(Later::WhenIdle);
                    if window(old) != window(new) {
                        self.view.language = new.language.language();
                        self.formats = new.formats;
                        theme::choose(ctx, new.theme);
                        self.zoom = new.text_size as f32 / 100.0;
                    }
                    *state = SettingsState { came: Some(Came::Saved { later }), ..SettingsState::new(read) };
                }
                Err(NotWritten::ChangedOutside) => state.outside = true,
                Err(NotWritten::Failed(failure)) => state.came = Some(Came::Failed(failure)),
            },
            (Wish::TestSounds, Some(state)) => {
                let (told, again) = (self.heard.0.clone(), ctx.clone());
                let command = crate::sound::command(&state.read.config.line);
                let none = tr!("sounds-no-player");
                self.view.notice = Some(tr!("sounds-playing").into());
                // Nobody waits for a sound.
                std::thread::spawn(move || {
                    let played = command.ok_or_else(|| none.to_owned());
                    let played = played.and_then(|words| {
                        Sound::ALL.into_iter().try_for_each(|sound| crate::sound::play(&words, sound))
                    });
                    drop(told.send(played));
                    again.request_repaint();
                });
            }
            (Wish::Save | Wish::TestSounds, None) => {}
        }
        ctx.request_repaint();
    }

    /// A unit in work is finished first; asked again, it is cancelled at its next safe point; asked a third time, the
    /// window goes and the unit resumes at the next start.
    fn closing(&mut self, ctx: &Context) {
        let running: Vec<usize> = (0..self.snapshot.fixtures.len())
            .filter(|i| self.snapshot.fixtures[*i].running.is_some())
            .collect();
        if ctx.input(|i| i.viewport().close_requested()) {
            self.closes += 1;
            if running.is_empty() || self.closes > 2 {
                return;
            }
            ctx.send_viewport_cmd(ViewportCommand::CancelClose);
            self.view.closing = true;
            if self.closes == 2 {
                running.iter().for_each(|i| self.line.send(Command::Cancel(*i)));
            } else {
                self.line.send(Command::AutoStart(false));
            }
        } else if self.view.closing && running.is_empty() {
            self.closes = 3;
            ctx.send_viewport_cmd(ViewportCommand::Close);
        }
    }

    /// One frame.
    pub fn ui(&mut self, ui: &mut Ui) {
        self.clock.frame();
        let ctx = ui.ctx().clone();
        self.size_text(&ctx);
        if ctx.input(|i| i.key_pressed(Key::F11)) {
            let full = ctx.input(|i| i.viewport().fullscreen.unwrap_or(false));
            ctx.send_viewport_cmd(ViewportCommand::Fullscreen(!full));
        }
        if ctx.input_mut(|i| i.consume_key(egui::Modifiers::COMMAND, Key::Q)) {
            ctx.send_viewport_cmd(ViewportCommand::Close);
        }
        if let Some(wish) = self.wish.take() {
            self.grant(wish, &ctx);
        }
        let seen = Seen { line: &self.snapshot, desk: &self.file, people: &self.office };
        let host = self.view.host.clone();
        let asked = match &host.guide {
            Some(guide) if !self.office.is_locked() => {
                let asked = first_view::show(ui, guide, self.has_line, &mut self.first, &mut self.view);
                if asked.close {
                    ctx.send_viewport_cmd(ViewportCommand::Close);
                }
                Asked { touched: lock_screen::is_touched(ui), host: asked.host, ..Asked::default() }
            }
            _ => {
                self.first = FirstState::default();
                window_view(ui, seen, &mut self.view)
            }
        };
        if let Some(host) = &self.host {
            asked.host.into_iter().for_each(|command| host.send(command));
        }
        asked.line.into_iter().for_each(|command| self.line.send(command));
        asked.desk.into_iter().for_each(|command| self.desk.send(command));
        if let Some(people) = &self.people {
            if asked.touched {
                people.touch();
            }
            asked.people.into_iter().for_each(|command| people.send(command));
        }
        if let Some(exports) = &self.exports {
            self.view.exports.take().into_iter().for_each(|command| exports.send(command));
            if std::mem::take(&mut self.view.exports.cancel) {
                exports.cancel();
            }
        }
        if let Some(foreman) = &self.foreman {
            self.view.shift.take().into_iter().for_each(|command| foreman.send(command));
        }
        if let Some(trust) = &self.trust {
            self.view.trust.take().into_iter().for_each(|command| trust.send(command));
        }
        asked.settings.into_iter().for_each(|wish| self.grant(wish, &ctx));
        if ctx.input(|i| i.key_pressed(Key::F12)) {
            let name = format!("keywright-{}.png", jiff::Zoned::now().strftime("%Y%m%d-%H%M%S"));
            self.picture(&ctx, Screenshot { path: self.pictures.join(name), then_close: false });
        }
        self.frames += 1;
        match self.frames {
            // Once the second one begins, the first is on the screen.
            1 => ctx.request_repaint(),
            2 => {
                let ms = crate::station::uptime().as_millis() as u64;
                tracing::info!(ms, "the first frame is on the screen");
            }
            _ => {}
        }
        // Fonts and zoom settle in the first frames.
        if self.pending.is_some() {
            if self.frames > 4 {
                if let Some(shot) = self.pending.take() {
                    self.picture(&ctx, shot);
                }
            } else {
                ctx.request_repaint();
            }
        }
        let works = matches!(self.file.told, desk::Told::Working(_));
        if works || self.snapshot.fixtures.iter().any(|f| f.running.is_some()) {
            ctx.request_repaint_after(self.rhythm.tick);
        } else if !self.snapshot.finished.is_empty() && self.snapshot.counts.open() > 0 {
            ctx.request_repaint_after(SLOW_TICK);
        }
    }

    /// The window is read from arm's length, so its words grow with it: a 4K wall screen shows the same line larger,
    /// not smaller. Ctrl and plus, minus or zero change that to the operator's liking.
    fn size_text(&mut self, ctx: &Context) {
        let (larger, smaller, normal) = ctx.input_mut(|i| {
            (
                i.consume_key(Modifiers::COMMAND, Key::Equals)
                    || i.consume_key(Modifiers::COMMAND, Key::Plus),
                i.consume_key(Modifiers::COMMAND, Key::Minus),
                i.consume_key(Modifiers::COMMAND, Key::Num0),
            )
        });
        if larger {
            self.zoom = (self.zoom + 0.1).min(3.0);
        }
        if smaller {
            self.zoom = (self.zoom - 0.1).max(0.5);
        }
        if normal {
            self.zoom = 1.0;
        }
        let native = ctx.content_rect().size() * ctx.zoom_factor();
        let wanted = zoom_for(native) * self.zoom;
        if (wanted - ctx.zoom_factor()).abs() > 0.01 {
            ctx.set_zoom_factor(wanted);
        }
    }

    fn picture(&self, ctx: &Context, shot: Screenshot) {
        let (writer, again) = (self.writer.clone(), ctx.clone());
        ctx.request_screenshot(move |image| {
            // Encoding 4K takes longer than a frame may.
            std::thread::spawn(move || {
                let result = write_png(&shot.path, &image);
                // The window may be gone by now; the picture is not.
                let _ = writer.send((shot.path, result, shot.then_close));
                again.request_repaint();
            });
        });
        ctx.request_repaint();
    }
}

/// Writes the settings; where people work, behind a row in the audit log that says what changes.
fn save(
    file: &StationFile,
    state: &SettingsState,
    people: Option<&dyn PeopleHandle>,
) -> Result<Read, NotWritten> {
    let Some(people) = people else { return file.write(&state.read, &state.draft) };
    let mut written = None;
    let changes = file.changes(&state.read, &state.draft);
    let done = people.act(Right::Settings, "settings-changed", changes, &mut || {
        let result = file.write(&state.read, &state.draft);
        let failed = match &result {
            Ok(_) => Ok(()),
            Err(NotWritten::Failed(failure)) => Err(failure.clone()),
            Err(NotWritten::ChangedOutside) => {
                Err(Failure::new(FailureCode::ConfigInvalid, "somebody else changed the file meanwhile"))
            }
        };
        written = Some(result);
        failed
    });
    match (written, done) {
        (Some(result), _) => result,
        (None, Err(failure)) => Err(NotWritten::Failed(failure)),
        (None, Ok(())) => Err(NotWritten::ChangedOutside),
    }
}

/// Zoom that follows the window's size, in steps so that a resize does not draw every glyph anew.
fn zoom_for(native: egui::Vec2) -> f32 {
    let wanted = (native.x / 1600.0).min(native.y / 900.0).clamp(1.0, 4.0);
    (wanted * 20.0).floor() / 20.0
}

fn write_png(path: &Path, image: &egui::ColorImage) -> Result<(), String> {
    use eframe::icon_data::IconDataExt;
    let data = egui::IconData {
        rgba: image.pixels.iter().flat_map(|p| p.to_array()).collect(),
        width: image.size[0] as u32,
        height: image.size[1] as u32,
    };
    let png = data.to_png_bytes()?;
    let told = |e: std::io::Error| e.to_string();
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(told)?;
    }
    let part = path.with_extension("png.part");
    std::fs::write(&part, png).map_err(told)?;
    std::fs::rename(&part, path).map_err(told)
}

impl eframe::App for Window {
    fn logic(&mut self, ctx: &Context, _frame: &mut eframe::Frame) {
        Window::logic(self, ctx);
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        Window::ui(self, ui);
    }

    fn on_exit(&mut self) {
        self.line.send(Command::Shutdown);
    }
}

#[cfg(test)]
mod tests {
    use super::scripted::{Scene, ScriptedDesk, ScriptedLine, scene};
    use super::*;
    use egui_kittest::{Harness, kittest::Queryable};
    use std::ffi::OsString;

    fn window(line: &ScriptedLine, size: [f32; 2]) -> Harness<'static, Option<Window>> {
        let handle = line.clone();
        let mut harness = Harness::builder()
            .with_size(size)
            .with_step_dt(1.0 / 60.0)
            .with_max_steps(200)
            .with_context_setup(install)
            .build_ui_state(
                move |ui, window: &mut Option<Window>| {
                    let options = Options { theme: Theme::Light, ..Options::default() };
                    let ctx = ui.ctx().clone();
                    let window = window.get_or_insert_with(|| {
                        let desk = Box::new(ScriptedDesk::default());
                        Window::new(&ctx, (Box::new(handle.clone()), desk), options, Rhythm::CARD)
                    });
                    window.logic(&ctx);
                    window.ui(ui);
                },
                None,
            );
        harness.run();
        harness
    }

    fn request_close(h: &mut Harness<'static, Option<Window>>) {
        let id = egui::ViewportId::ROOT;
        h.input_mut().viewports.entry(id).or_default().events.push(egui::ViewportEvent::Close);
        h.step();
        h.input_mut().viewports.entry(id).or_default().events.clear();
    }

    fn close_commands(h: &Harness<'static, Option<Window>>) -> Vec<ViewportCommand> {
        let output = &h.output().viewport_output[&egui::ViewportId::ROOT];
        let closing =
            |c: &&ViewportCommand| matches!(c, ViewportCommand::Close | ViewportCommand::CancelClose);
        output.commands.iter().filter(closing).cloned().collect()
    }

    #[test]
    fn a_display_is_looked_for_before_anything_is_opened() {
        let env = |set: &'static [(&str, &str)]| {
            move |name: &str| set.iter().find(|(k, _)| *k == name).map(|(_, v)| OsString::from(v))
        };
        assert!(display_named(env(&[("DISPLAY", ":0")])));
        assert!(display_named(env(&[("WAYLAND_DISPLAY", "wayland-0")])));
        if cfg!(target_os = "linux") {
            assert!(!display_named(env(&[])));
            assert!(!display_named(env(&[("DISPLAY", "")])));
        }
        assert!(GuiError::NoDisplay.to_string().contains("--headless"));
    }

    #[test]
    fn a_display_that_does_not_answer_is_told_without_source_paths() {
        let told =
            plainly(&"os error at /home/x/src/linux/mod.rs:788: Failed to open connection to X server");
        assert_eq!(told, "Failed to open connection to X server");
        let whole = GuiError::Display(told).to_string();
        assert!(whole.contains("--headless") && !whole.contains(".rs"), "{whole}");
    }

    #[test]
    fn keys_reach_the_line_and_its_changes_reach_the_screen() {
        let now = Instant::now();
        let line = ScriptedLine::new(scene(Scene::Ready(2), now));
        let mut h = window(&line, [1280.0, 720.0]);
        h.key_press(Key::Space);
        h.run();
        assert_eq!(line.take(), [Command::Start(0), Command::Start(1)]);
        let mut running = scene(Scene::Ready(2), now);
        running.fixtures[0] = scripted::running(1, crate::line::Step::Flash, "erasing app", 0.1, now, 1);
        line.show(running);
        h.run();
        h.get_by_label("erasing app");
    }

    #[test]
    fn a_change_of_the_line_asks_for_a_frame_from_its_own_thread() {
        let line = ScriptedLine::new(scene(Scene::Ready(1), Instant::now()));
        let ctx = Context::default();
        let (asked, frames) = channel();
        ctx.set_request_repaint_callback(move |info| asked.send(info.delay).expect("the test listens"));
        let desk = ScriptedDesk::default();
        let handles: Handles = (Box::new(line.clone()), Box::new(desk));
        let window = Window::new(&ctx, handles, Options::default(), Rhythm::CARD);
        let _ = frames.try_iter().count();
        let other = line.clone();
        std::thread::spawn(move || other.show(scene(Scene::Busy(1), Instant::now())))
            .join()
            .expect("the line's thread");
        assert!(frames.try_iter().any(|delay| delay <= Rhythm::CARD.frame), "no frame was asked for");
        drop(window);
    }

    #[test]
    fn zoom_follows_the_window_and_the_operator() {
        assert_eq!(zoom_for(egui::vec2(1280.0, 720.0)), 1.0);
        assert_eq!(zoom_for(egui::vec2(1920.0, 1080.0)), 1.2);
        assert_eq!(zoom_for(egui::vec2(3840.0, 2160.0)), 2.4);
        assert_eq!(zoom_for(egui::vec2(3840.0, 720.0)), 1.0);
        let line = ScriptedLine::new(scene(Scene::Ready(1), Instant::now()));
        let mut h = window(&line, [1280.0, 720.0]);
        for (key, zoom) in [(Key::Equals, 1.1), (Key::Minus, 1.0), (Key::Minus, 0.9), (Key::Num0, 1.0)] {
            h.key_press_modifiers(Modifiers::COMMAND, key);
            h.run();
            let now = h.state().as_ref().expect("a window").zoom;
            assert!((now - zoom).abs() < 1e-5, "{key:?}: {now}");
        }
        assert_eq!(line.take(), [], "Ctrl+0 and its like start nothing");
    }

    #[test]
    fn closing_waits_for_running_units_then_cancels_then_goes() {
        let now = Instant::now();
        let mut busy = scene(Scene::Ready(2), now);
        busy.fixtures[1] = scripted::running(2, crate::line::Step::Flash, "erasing app", 0.1, now, 1);
        let line = ScriptedLine::new(busy);
        let mut h = window(&line, [1280.0, 720.0]);
        request_close(&mut h);
        assert_eq!(close_commands(&h), [ViewportCommand::CancelClose]);
        h.step();
        h.get_by_label("Finishing the running units");
        assert_eq!(line.take(), [Command::AutoStart(false)]);
        h.key_press(Key::Space);
        h.step();
        h.step();
        assert_eq!(line.take(), [], "nothing starts any more");
        request_close(&mut h);
        assert_eq!(line.take(), [Command::Cancel(1)]);
        line.show(scene(Scene::Ready(2), now));
        h.step();
        assert_eq!(close_commands(&h), [ViewportCommand::Close]);
    }

    #[test]
    fn an_idle_line_closes_at_once_and_an_idle_window_paints_nothing() {
        let mut quiet = scene(Scene::Ready(2), Instant::now());
        quiet.finished.clear();
        let line = ScriptedLine::new(quiet);
        let mut h = window(&line, [1280.0, 720.0]);
        let output = &h.output().viewport_output[&egui::ViewportId::ROOT];
        assert_eq!(output.repaint_delay, Duration::MAX);
        request_close(&mut h);
        assert_eq!(close_commands(&h), []);
    }

    #[test]
    fn a_picture_is_a_png_of_the_right_size_and_its_folder_is_made() {
        let folder = std::env::temp_dir().join(format!("keywright-picture-{}", std::process::id()));
        let path = folder.join("deep").join("window.png");
        let image = egui::ColorImage::filled([7, 5], egui::Color32::from_rgb(9, 200, 30));
        write_png(&path, &image).expect("written");
        let read = eframe::icon_data::from_png_bytes(&std::fs::read(&path).expect("read")).expect("a PNG");
        assert_eq!((read.width, read.height), (7, 5));
        assert_eq!(&read.rgba[..4], &[9, 200, 30, 255]);
        std::fs::remove_dir_all(folder).expect("cleaned up");
    }

    /// An audit log that can be written, or not, and what was put into it.
    struct Rows(bool, std::sync::Mutex<Vec<serde_json::Value>>);

    impl PeopleHandle for Rows {
        fn send(&self, _: office::Command) {}
        fn snapshot(&self) -> Arc<office::Snapshot> {
            Arc::default()
        }
        fn touch(&self) {}
        fn permit(&self, _: Right, _: &'static str) -> Result<(), Failure> {
            Ok(())
        }
        fn act(
            &self,
            right: Right,
            action: &'static str,
            detail: serde_json::Value,
            work: &mut dyn FnMut() -> Result<(), Failure>,
        ) -> Result<(), Failure> {
            assert_eq!((right, action), (Right::Settings, "settings-changed"));
            if !self.0 {
                return Err(Failure::new(FailureCode::DiskFull, ""));
            }
            self.1.lock().expect("rows").push(detail);
            work()
        }
        fn on_change(&self, _: Box<dyn Fn() + Send + Sync>) {}
    }

    #[test]
    fn settings_are_written_behind_a_row_that_says_what_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("station.toml");
        let text = "[station]\nname = \"line-1\" # ours\n";
        std::fs::write(&path, text).expect("written");
        let file = StationFile::new(&path);
        let mut state = SettingsState::new(file.read().expect("a good file"));
        state.draft.name = "line-2".into();
        let full = Rows(false, Default::default());
        assert!(matches!(
            save(&file, &state, Some(&full)),
            Err(NotWritten::Failed(failure)) if failure.code == FailureCode::DiskFull
        ));
        assert_eq!(std::fs::read_to_string(&path).expect("read"), text, "without the row nothing is changed");
        let rows = Rows(true, Default::default());
        save(&file, &state, Some(&rows)).expect("saved");
        assert_eq!(
            *rows.1.lock().expect("rows"),
            [serde_json::json!({ "station.name": ["line-1", "line-2"] })]
        );
        assert!(std::fs::read_to_string(&path).expect("read").contains("line-2"));
        // Somebody else was faster: the row is there, and the caller says why it failed.
        assert!(matches!(save(&file, &state, Some(&rows)), Err(NotWritten::ChangedOutside)));
    }

    #[test]
    fn the_icon_is_a_square_png() {
        let icon = eframe::icon_data::from_png_bytes(ICON).expect("a PNG");
        assert_eq!(icon.width, icon.height);
    }
}
