//! station.toml as the window edits it: the file stays the source of truth, its comments and its order stay as they are.
//!
//! Invariants:
//! - What is written was checked as a whole by [`Config::parse`] first, so the window never leaves a file that does not open.
//! - A file that somebody else changed meanwhile is not overwritten.
//! - Only what was changed in the window is touched.

use crate::config::{self, Config, Theme};
use crate::failure::{Failure, FailureCode};
use crate::i18n::{Formats, LanguageChoice};
use crate::label::{LABEL_TIMEOUT, LabelConfig, Sink};
use std::path::{Path, PathBuf};
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value, value};

/// A fixture as it is being edited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FixtureDraft {
    /// Its place in the file; `None`: it is new.
    pub was: Option<usize>,
    /// Name.
    pub name: String,
    /// Probe selector.
    pub probe: String,
    /// Serial port.
    pub serial: String,
}

/// A Mosquitto broker as it is being edited. The broker inside the station needs no table and is not edited here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloudDraft {
    /// Its name in the file; `None`: it is new.
    pub was: Option<String>,
    /// Name.
    pub name: String,
    /// `mqtts://HOST:PORT`, as it stands in the units' records.
    pub url: String,
    /// Certificates of the broker's CA; empty for one on this machine.
    pub ca: String,
    /// The agent's user name.
    pub username: String,
    /// File with the agent's password; the password itself is never in station.toml.
    pub password_file: String,
}

/// Where labels go, as it is being edited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrinterKind {
    /// There is no printer.
    #[default]
    None,
    /// A printer on the network.
    Tcp,
    /// A program that takes the label's file.
    Command,
}

impl PrinterKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::None, Self::Tcp, Self::Command];
}

/// The label printer as it is being edited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelDraft {
    /// Where labels go.
    pub kind: PrinterKind,
    /// The template as the file names it.
    pub template: String,
    /// `HOST:PORT` of a printer on the network.
    pub tcp: String,
    /// Program and arguments with spaces between them; one that holds spaces stands in double quotes.
    pub command: String,
    /// Seconds that a label may take.
    pub timeout: String,
}

impl LabelDraft {
    fn of(config: Option<&LabelConfig>, template: String) -> Self {
        let (kind, tcp, command) = match config.map(|label| &label.sink) {
            None => (PrinterKind::None, String::new(), String::new()),
            Some(Sink::Tcp(address)) => (PrinterKind::Tcp, address.clone(), String::new()),
            Some(Sink::Command(words)) => (PrinterKind::Command, String::new(), words_in_line(words)),
        };
        let timeout = config.map_or(LABEL_TIMEOUT, |label| label.timeout).as_secs().to_string();
        Self { kind, template, tcp, command, timeout }
    }

    /// Every fault of a field.
    fn faults(&self) -> Vec<(Field, Fault)> {
        let mut all = Vec::new();
        if self.kind == PrinterKind::None {
            return all;
        }
        if self.template.trim().is_empty() {
            all.push((Field::LabelTemplate, Fault::Empty));
        }
        if self.kind == PrinterKind::Tcp && !config::fits_printer(self.tcp.trim()) {
            all.push((Field::LabelPrinter, Fault::Printer));
        }
        if self.kind == PrinterKind::Command
            && !words_of_line(&self.command).is_some_and(|words| config::fits_command(&words))
        {
            all.push((Field::LabelPrinter, Fault::Command));
        }
        if !self.timeout.trim().parse().is_ok_and(|n| config::LABEL_SECONDS.contains(&n)) {
            all.push((Field::LabelTimeout, Fault::LabelSeconds));
        }
        all
    }
}

/// Words with spaces between them. A backslash is one: it stands in the paths of some systems.
fn words_in_line(words: &[String]) -> String {
    let word = |w: &String| {
        if w.is_empty() || w.contains(char::is_whitespace) { format!("\"{w}\"") } else { w.clone() }
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// The words of a line; `None`: a quote is not closed.
fn words_of_line(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    (!quoted).then_some(words)
}

/// What the window may change, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Station name.
    pub name: String,
    /// The common image as the file names it; empty = none.
    pub image: String,
    /// Passes until a sample is checked.
    pub gray_release: String,
    /// Seconds an exchange may stand still.
    pub exchange_timeout: String,
    /// The window begins with auto-start on.
    pub auto_start: bool,
    /// Milliseconds that a board lies still before it starts by itself.
    pub debounce: String,
    /// Results are heard.
    pub sounds: bool,
    /// Fixtures; none = pair probes and ports at start.
    pub fixtures: Vec<FixtureDraft>,
    /// Language of the window.
    pub language: LanguageChoice,
    /// How the window writes dates and numbers.
    pub formats: Formats,
    /// Colours of the window.
    pub theme: Theme,
    /// Text size of the window in percent.
    pub text_size: u32,
    /// Minutes of idleness until the window locks itself; 0 = never.
    pub auto_lock: String,
    /// Lists with keys are handed out by two people only.
    pub second_person: bool,
    /// Folder of the backups as the file names it; empty = in the home.
    pub backup_folder: String,
    /// Hours between two backups; 0 = never by the clock.
    pub backup_hours: String,
    /// Backups that stay.
    pub backup_keep: String,
    /// Mosquitto brokers.
    pub clouds: Vec<CloudDraft>,
    /// The program that plays a board in rehearsals; empty = the one beside this program.
    pub virtual_board: String,
    /// The label printer.
    pub label: LabelDraft,
    /// What plays a sound, as [`LabelDraft::command`]; empty = a player that is found.
    pub sound_command: String,
    /// The PKCS#11 module of the token with signing keys as the file names it; empty = no token.
    pub token_module: String,
    /// The token's label.
    pub token_label: String,
}

/// A field of the draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Station name.
    Name,
    /// Passes until a sample.
    GrayRelease,
    /// Exchange time.
    ExchangeTimeout,
    /// Time that a board lies still.
    Debounce,
    /// Name of a fixture (index).
    FixtureName(usize),
    /// Probe of a fixture.
    Probe(usize),
    /// Serial port of a fixture.
    Serial(usize),
    /// Minutes until the lock.
    AutoLock,
    /// Hours between backups.
    BackupHours,
    /// Backups that stay.
    BackupKeep,
    /// Name of a cloud (index).
    CloudName(usize),
    /// Its address.
    CloudUrl(usize),
    /// Its CA certificate.
    CloudCa(usize),
    /// The agent's user name there.
    CloudUser(usize),
    /// The file with its password.
    CloudPassword(usize),
    /// Template of the labels.
    LabelTemplate,
    /// Address or command of the printer.
    LabelPrinter,
    /// Seconds that a label may take.
    LabelTimeout,
    /// The player of sounds.
    SoundCommand,
    /// The token's PKCS#11 module.
    TokenModule,
    /// The token's label.
    TokenLabel,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not 1 to 64 printable characters.
    Name,
    /// Not a whole number.
    Number,
    /// Not 5 to 3600 seconds.
    Seconds,
    /// Not 0 to 60000 milliseconds.
    Milliseconds,
    /// Not `VID:PID:SERIAL`.
    Probe,
    /// Empty.
    Port,
    /// Another fixture, or another cloud, has it.
    Twice,
    /// Not 0 to 1440 minutes.
    Minutes,
    /// Not 0 to 8784 hours.
    Hours,
    /// Not 1 to 10000.
    Keep,
    /// Not 1 to 32 small letters, digits and hyphens.
    CloudName,
    /// Not `mqtts://HOST:PORT`.
    Url,
    /// An `mqtts` address without a CA, or an `mqtt` address with one.
    Ca,
    /// Nothing is there.
    Empty,
    /// Not `HOST:PORT`.
    Printer,
    /// No program with `$file` among its arguments, or a quote that is not closed.
    Command,
    /// Not 1 to 300 seconds.
    LabelSeconds,
    /// Not 1 to 32 bytes.
    Token,
    /// Not a whole path.
    Absolute,
}

impl Draft {
    fn of(config: &Config, document: &DocumentMut) -> Self {
        let fixture = |(i, f): (usize, &config::Fixture)| FixtureDraft {
            was: Some(i),
            name: f.name.clone(),
            probe: f.probe.clone(),
            serial: f.serial.clone(),
        };
        // As the file names it: made absolute it would no longer move with its folder.
        let named = |table: &str, key: &str| {
            let item = document.get(table).and_then(|s| s.get(key)).and_then(Item::as_str);
            item.unwrap_or_default().to_owned()
        };
        let cloud = |cloud: &config::CloudConfig| {
            let table = document.get("cloud").and_then(|c| c.get(&cloud.name));
            let text = |key: &str| {
                table.and_then(|t| t.get(key)).and_then(Item::as_str).unwrap_or_default().to_owned()
            };
            matches!(cloud.kind, config::CloudKind::Mosquitto { .. }).then(|| CloudDraft {
                was: Some(cloud.name.clone()),
                name: cloud.name.clone(),
                url: text("url"),
                ca: text("ca"),
                username: text("username"),
                password_file: text("password_file"),
            })
        };
        Self {
            name: config.name.clone(),
            image: named("station", "image"),
            gray_release: config.gray_release.to_string(),
            exchange_timeout: config.exchange_timeout.as_secs().to_string(),
            auto_start: config.line.auto_start,
            debounce: config.line.debounce.as_millis().to_string(),
            sounds: config.line.sounds,
            fixtures: config.fixtures.iter().enumerate().map(fixture).collect(),
            language: config.language,
            formats: config.formats,
            theme: config.theme,
            text_size: config.text_size,
            auto_lock: (config.auto_lock.as_secs() / 60).to_string(),
            second_person: config.second_person,
            backup_folder: named("backup", "folder"),
            backup_hours: config.backup.every_hours.to_string(),
            backup_keep: config.backup.keep.to_string(),
            clouds: config.clouds.iter().filter_map(cloud).collect(),
            virtual_board: named("station", "virtual_board"),
            label: LabelDraft::of(config.label.as_ref(), named("label", "template")),
            sound_command: words_in_line(config.line.sound_command.as_deref().unwrap_or_default()),
            token_module: named("pkcs11", "module"),
            token_label: config.token.as_ref().map(|t| t.token.clone()).unwrap_or_default(),
        }
    }

    /// Every fault of a field.
    pub fn faults(&self) -> Vec<(Field, Fault)> {
        let mut all = Vec::new();
        if !config::fits_name(&self.name) {
            all.push((Field::Name, Fault::Name));
        }
        if self.gray_release.trim().parse::<u32>().is_err() {
            all.push((Field::GrayRelease, Fault::Number));
        }
        match self.exchange_timeout.trim().parse::<u64>() {
            Ok(seconds) if config::EXCHANGE_SECONDS.contains(&seconds) => {}
            _ => all.push((Field::ExchangeTimeout, Fault::Seconds)),
        }
        match self.debounce.trim().parse::<u64>() {
            Ok(ms) if config::DEBOUNCE_MS.contains(&ms) => {}
            _ => all.push((Field::Debounce, Fault::Milliseconds)),
        }
        for (i, f) in self.fixtures.iter().enumerate() {
            let before = &self.fixtures[..i];
            let (name, probe, serial) = (f.name.trim(), f.probe.trim(), f.serial.trim());
            if !config::fits_name(name) {
                all.push((Field::FixtureName(i), Fault::Name));
            } else if before.iter().any(|b| b.name.trim() == name) {
                all.push((Field::FixtureName(i), Fault::Twice));
            }
            if config::check_selector(probe).is_err() {
                all.push((Field::Probe(i), Fault::Probe));
            } else if before.iter().any(|b| b.probe.trim().eq_ignore_ascii_case(probe)) {
                all.push((Field::Probe(i), Fault::Twice));
            }
            if serial.is_empty() {
                all.push((Field::Serial(i), Fault::Port));
            } else if before.iter().any(|b| b.serial.trim() == serial) {
                all.push((Field::Serial(i), Fault::Twice));
            }
        }
        if !self.auto_lock.trim().parse().is_ok_and(|n| config::AUTO_LOCK_MINUTES.contains(&n)) {
            all.push((Field::AutoLock, Fault::Minutes));
        }
        if !self.backup_hours.trim().parse().is_ok_and(|n| config::BACKUP_HOURS.contains(&n)) {
            all.push((Field::BackupHours, Fault::Hours));
        }
        if !self.backup_keep.trim().parse().is_ok_and(|n| config::BACKUPS_KEPT.contains(&n)) {
            all.push((Field::BackupKeep, Fault::Keep));
        }
        for (i, cloud) in self.clouds.iter().enumerate() {
            let before = &self.clouds[..i];
            if before.iter().any(|b| b.name.trim() == cloud.name.trim()) {
                all.push((Field::CloudName(i), Fault::Twice));
            }
            if before.iter().any(|b| b.url.trim() == cloud.url.trim()) {
                all.push((Field::CloudUrl(i), Fault::Twice));
            }
            all.extend(cloud.faults().into_iter().map(|(field, fault)| (field(i), fault)));
        }
        all.extend(self.label.faults());
        if !self.sound_command.trim().is_empty()
            && !words_of_line(&self.sound_command).is_some_and(|words| config::fits_command(&words))
        {
            all.push((Field::SoundCommand, Fault::Command));
        }
        match (self.token_module.trim().is_empty(), self.token_label.trim().is_empty()) {
            (true, true) => {}
            (true, false) => all.push((Field::TokenModule, Fault::Empty)),
            (false, _) if !Path::new(self.token_module.trim()).is_absolute() => {
                all.push((Field::TokenModule, Fault::Absolute));
            }
            (false, _) if config::fits_token(&self.token_label) => {}
            (false, _) => all.push((Field::TokenLabel, Fault::Token)),
        }
        all
    }
}

/// A field of a list, once the place in it is known.
pub type FieldOf = fn(usize) -> Field;

impl CloudDraft {
    /// Every fault of a field; each field takes the cloud's place in the list.
    pub fn faults(&self) -> Vec<(FieldOf, Fault)> {
        let mut all: Vec<(FieldOf, Fault)> = Vec::new();
        let (name, url, ca) = (self.name.trim(), self.url.trim(), self.ca.trim());
        if !config::fits_cloud_name(name) || name == "local" {
            all.push((Field::CloudName, Fault::CloudName));
        }
        let fits = crate::cloud::address(url)
            .is_some_and(|(host, port)| !host.is_empty() && port > 0 && !host.contains(['/', ' ', '[']));
        if !fits || url.len() > 255 {
            all.push((Field::CloudUrl, Fault::Url));
        } else if url.starts_with("mqtts://") == ca.is_empty() {
            all.push((Field::CloudCa, Fault::Ca));
        }
        if self.username.trim().is_empty() {
            all.push((Field::CloudUser, Fault::Empty));
        }
        if self.password_file.trim().is_empty() {
            all.push((Field::CloudPassword, Fault::Empty));
        }
        all
    }
}

/// The file as it was read.
#[derive(Clone, Debug)]
pub struct Read {
    text: String,
    /// What it says.
    pub draft: Draft,
    /// The same, checked.
    pub config: Config,
}

/// What [`StationFile::change`] came to.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The file as it is now.
    pub read: Read,
    /// Whether anything was written.
    pub changed: bool,
}

/// Why nothing was written.
#[derive(Debug)]
pub enum NotWritten {
    /// Somebody else changed the file after it was read.
    ChangedOutside,
    /// It can't be read or written, or what was to be written can't be used.
    Failed(Failure),
}

impl From<Failure> for NotWritten {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// station.toml of a station.
#[derive(Clone, Debug)]
pub struct StationFile {
    path: PathBuf,
}

impl StationFile {
    /// The file at this path; it need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn invalid(&self, what: impl std::fmt::Display) -> Failure {
        Failure::new(FailureCode::ConfigInvalid, format!("{}: {what}", self.path.display()))
    }

    fn text(&self) -> Result<String, Failure> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => Ok(text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(e) => Err(self.invalid(e)),
        }
    }

    /// Reads it; a file that is not there says nothing.
    ///
    /// # Errors
    /// `ConfigInvalid` with line and column.
    pub fn read(&self) -> Result<Read, Failure> {
        let text = self.text()?;
        let config = Config::parse(&text, &self.path)?;
        let document: DocumentMut = text.parse().map_err(|e| self.invalid(e))?;
        Ok(Read { draft: Draft::of(&config, &document), config, text })
    }

    /// Whether it is no longer what was read.
    pub fn changed(&self, read: &Read) -> bool {
        self.text().is_ok_and(|text| text != read.text)
    }

    /// Writes what `draft` changes of what was read; returns the file as it is then.
    ///
    /// # Errors
    /// See [`NotWritten`]; the file is as it was.
    pub fn write(&self, read: &Read, draft: &Draft) -> Result<Read, NotWritten> {
        if self.changed(read) {
            return Err(NotWritten::ChangedOutside);
        }
        let mut document: DocumentMut = read.text.parse().map_err(|e| self.invalid(e))?;
        edit(&mut document, &read.draft, draft);
        let text = document.to_string();
        Config::parse(&text, &self.path)?;
        self.replace(&text).map_err(|e| self.invalid(e))?;
        Ok(self.read()?)
    }

    /// Whether [`StationFile::change`] would be taken; writes nothing. Returns the file as it is.
    ///
    /// # Errors
    /// `ConfigInvalid`.
    pub fn check(&self, change: impl FnOnce(&mut Draft)) -> Result<Read, Failure> {
        let read = self.read()?;
        let mut draft = read.draft.clone();
        change(&mut draft);
        let mut document: DocumentMut = read.text.parse().map_err(|e| self.invalid(e))?;
        edit(&mut document, &read.draft, &draft);
        Config::parse(&document.to_string(), &self.path)?;
        Ok(read)
    }

    /// What writing `draft` would change, for the audit log: keys with their old and new values.
    pub fn changes(&self, read: &Read, draft: &Draft) -> serde_json::Value {
        let Ok(mut document) = read.text.parse::<DocumentMut>() else { return serde_json::json!({}) };
        edit(&mut document, &read.draft, draft);
        crate::settings_changes::changes(&read.text, &document.to_string())
    }

    /// Changes the file as it is now, whoever wrote it last: for steps that know nothing of what stood there before.
    ///
    /// # Errors
    /// `ConfigInvalid`; the file is as it was.
    pub fn change(&self, change: impl FnOnce(&mut Draft)) -> Result<Changed, Failure> {
        let read = self.read()?;
        let mut draft = read.draft.clone();
        change(&mut draft);
        if draft == read.draft && self.path.exists() {
            return Ok(Changed { read, changed: false });
        }
        match self.write(&read, &draft) {
            Ok(read) => Ok(Changed { read, changed: true }),
            Err(NotWritten::Failed(failure)) => Err(failure),
            Err(NotWritten::ChangedOutside) => Err(self.invalid("it was changed at this very moment")),
        }
    }

    /// As a whole or not at all; rights stay as they were, and a link stays one.
    fn replace(&self, text: &str) -> std::io::Result<()> {
        use std::io::Write as _;
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut fresh = tempfile::NamedTempFile::new_in(folder)?;
        fresh.write_all(text.as_bytes())?;
        if let Ok(old) = std::fs::metadata(&path) {
            fresh.as_file().set_permissions(old.permissions())?;
        }
        fresh.as_file().sync_all()?;
        fresh.persist(&path).map_err(|e| e.error)?;
        Ok(())
    }
}

/// Sets a key and leaves what stands around its value, a comment for one, as it is.
fn set(table: &mut Table, key: &str, new: impl Into<Value>) {
    let mut new = new.into();
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        None => {
            table.insert(key, value(new));
        }
    }
}

fn section<'a>(document: &'a mut DocumentMut, name: &str) -> Option<&'a mut Table> {
    document.entry(name).or_insert_with(|| Item::Table(Table::new())).as_table_mut()
}

fn edit(document: &mut DocumentMut, old: &Draft, new: &Draft) {
    let trimmed = |text: &str| text.trim().to_owned();
    if (&old.name, &old.image, &old.gray_release, &old.exchange_timeout)
        != (&new.name, &new.image, &new.gray_release, &new.exchange_timeout)
        && let Some(station) = section(document, "station")
    {
        if old.name != new.name {
            set(station, "name", trimmed(&new.name));
        }
        if old.image != new.image {
            if new.image.trim().is_empty() {
                station.remove("image");
            } else {
                set(station, "image", trimmed(&new.image));
            }
        }
        for (key, old, new) in [
            ("gray_release", &old.gray_release, &new.gray_release),
            ("exchange_timeout_seconds", &old.exchange_timeout, &new.exchange_timeout),
        ] {
            if old != new
                && let Ok(number) = new.trim().parse::<i64>()
            {
                set(station, key, number);
            }
        }
    }
    if (old.auto_start, &old.debounce, old.sounds, &old.sound_command)
        != (new.auto_start, &new.debounce, new.sounds, &new.sound_command)
        && let Some(line) = section(document, "line")
    {
        if old.sound_command != new.sound_command {
            match words_of_line(&new.sound_command).filter(|words| !words.is_empty()) {
                Some(words) => set(line, "sound_command", words.into_iter().collect::<Array>()),
                None => drop(line.remove("sound_command")),
            }
        }
        if old.auto_start != new.auto_start {
            set(line, "auto_start", new.auto_start);
        }
        if old.debounce != new.debounce
            && let Ok(ms) = new.debounce.trim().parse::<i64>()
        {
            set(line, "debounce_ms", ms);
        }
        if old.sounds != new.sounds {
            set(line, "sounds", new.sounds);
        }
    }
    if (old.language, old.formats, old.theme, old.text_size)
        != (new.language, new.formats, new.theme, new.text_size)
        && let Some(window) = section(document, "window")
    {
        if old.formats.dates != new.formats.dates {
            set(window, "dates", new.formats.dates.as_str());
        }
        if old.formats.numbers != new.formats.numbers {
            set(window, "numbers", new.formats.numbers.as_str());
        }
        if old.language != new.language {
            set(window, "language", new.language.as_str());
        }
        if old.theme != new.theme {
            set(window, "theme", new.theme.as_str());
        }
        if old.text_size != new.text_size {
            set(window, "text_size", i64::from(new.text_size));
        }
    }
    if old.fixtures != new.fixtures {
        fixtures(document, &old.fixtures, &new.fixtures);
    }
    if old.virtual_board != new.virtual_board
        && let Some(station) = section(document, "station")
    {
        set_path(station, "virtual_board", &new.virtual_board);
    }
    let number = |text: &str| text.trim().parse::<i64>().ok();
    if old.auto_lock != new.auto_lock
        && let (Some(minutes), Some(people)) = (number(&new.auto_lock), section(document, "people"))
    {
        set(people, "auto_lock_minutes", minutes);
    }
    if old.second_person != new.second_person
        && let Some(export) = section(document, "export")
    {
        set(export, "second_person", new.second_person);
    }
    if (&old.backup_folder, &old.backup_hours, &old.backup_keep)
        != (&new.backup_folder, &new.backup_hours, &new.backup_keep)
        && let Some(backup) = section(document, "backup")
    {
        if old.backup_folder != new.backup_folder {
            set_path(backup, "folder", &new.backup_folder);
        }
        for (key, old, new) in [
            ("every_hours", &old.backup_hours, &new.backup_hours),
            ("keep", &old.backup_keep, &new.backup_keep),
        ] {
            if old != new
                && let Some(number) = number(new)
            {
                set(backup, key, number);
            }
        }
    }
    if old.clouds != new.clouds {
        clouds(document, &old.clouds, &new.clouds);
    }
    if old.label != new.label {
        label(document, &old.label, &new.label);
    }
    if (&old.token_module, &old.token_label) != (&new.token_module, &new.token_label) {
        if new.token_module.trim().is_empty() {
            document.remove("pkcs11");
        } else if let Some(token) = section(document, "pkcs11") {
            if old.token_module != new.token_module {
                set(token, "module", new.token_module.trim());
            }
            if old.token_label != new.token_label {
                set(token, "token", new.token_label.trim());
            }
        }
    }
}

fn label(document: &mut DocumentMut, old: &LabelDraft, new: &LabelDraft) {
    if new.kind == PrinterKind::None {
        document.remove("label");
        return;
    }
    let Some(table) = section(document, "label") else { return };
    if old.template != new.template {
        set(table, "template", new.template.trim());
    }
    match new.kind {
        PrinterKind::None => {}
        PrinterKind::Tcp => {
            table.remove("command");
            set(table, "tcp", new.tcp.trim());
        }
        PrinterKind::Command => {
            table.remove("tcp");
            // What can't be said in a line stays as it is until the line is changed.
            if (old.kind, &old.command) != (new.kind, &new.command) {
                let words = words_of_line(&new.command).unwrap_or_default();
                set(table, "command", words.into_iter().collect::<Array>());
            }
        }
    }
    if old.timeout != new.timeout
        && let Ok(seconds) = new.timeout.trim().parse::<i64>()
    {
        set(table, "timeout_seconds", seconds);
    }
}

/// An empty path is none at all.
fn set_path(table: &mut Table, key: &str, path: &str) {
    if path.trim().is_empty() {
        table.remove(key);
    } else {
        set(table, key, path.trim());
    }
}

fn clouds(document: &mut DocumentMut, old: &[CloudDraft], new: &[CloudDraft]) {
    let all = document.entry("cloud").or_insert_with(|| {
        let mut table = Table::new();
        // Only its members have a header.
        table.set_implicit(true);
        Item::Table(table)
    });
    let Some(all) = all.as_table_mut() else { return };
    for gone in old.iter().filter(|o| !new.iter().any(|n| n.was == o.was)) {
        all.remove(gone.was.as_deref().unwrap_or(&gone.name));
    }
    for cloud in new {
        let was = old.iter().find(|o| cloud.was.is_some() && o.was == cloud.was);
        if was == Some(cloud) {
            continue;
        }
        let kept = cloud.was.as_deref().and_then(|name| all.remove(name));
        let mut table = kept.and_then(|item| item.into_table().ok()).unwrap_or_default();
        set(&mut table, "kind", "mosquitto");
        set(&mut table, "url", cloud.url.trim());
        set_path(&mut table, "ca", &cloud.ca);
        set(&mut table, "username", cloud.username.trim());
        set(&mut table, "password_file", cloud.password_file.trim());
        all.insert(cloud.name.trim(), Item::Table(table));
    }
}

fn fixtures(document: &mut DocumentMut, old: &[FixtureDraft], new: &[FixtureDraft]) {
    // However it was written: tables, or a list of inline tables.
    let tables = document.remove("fixture").and_then(|item| item.into_array_of_tables().ok());
    let tables = tables.unwrap_or_default();
    let mut all = ArrayOfTables::new();
    for fixture in new {
        let mut table = fixture.was.and_then(|i| tables.get(i)).cloned().unwrap_or_default();
        let was = fixture.was.and_then(|i| old.get(i));
        for (key, text, before) in [
            ("name", &fixture.name, was.map(|w| &w.name)),
            ("probe", &fixture.probe, was.map(|w| &w.probe)),
            ("serial", &fixture.serial, was.map(|w| &w.serial)),
        ] {
            if before != Some(text) {
                set(&mut table, key, text.trim());
            }
        }
        all.push(table);
    }
    if !all.is_empty() {
        document.insert("fixture", Item::ArrayOfTables(all));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TEXT_SIZES;

    const EXAMPLE: &str = include_str!("../../assets/station.example.toml");

    fn file(text: &str) -> (tempfile::TempDir, StationFile) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("station.toml");
        std::fs::write(&path, text).expect("written");
        (folder, StationFile::new(path))
    }

    fn text(file: &StationFile) -> String {
        std::fs::read_to_string(file.path()).expect("read")
    }

    #[test]
    fn nothing_changed_is_nothing_written() {
        let (_folder, file) = file(EXAMPLE);
        let read = file.read().expect("the example");
        file.write(&read, &read.draft).expect("written");
        assert_eq!(text(&file), EXAMPLE);
    }

    #[test]
    fn a_printer_is_set_up_changed_and_taken_away() {
        let (_folder, file) = file(
            "[label]\ntemplate = \"label.zpl\" # ours\ncommand = [\"lp\", \"-o\", \"a b\", \"$file\"]\n",
        );
        let read = file.read().expect("a good file");
        let mut draft = read.draft.clone();
        assert_eq!(
            (draft.label.kind, draft.label.command.as_str()),
            (PrinterKind::Command, "lp -o \"a b\" $file")
        );
        for wrong in ["", "lp", "$file", "lp \"$file", "\"\" $file"] {
            draft.label.command = wrong.into();
            assert_eq!(draft.faults(), [(Field::LabelPrinter, Fault::Command)], "{wrong:?}");
        }
        draft.label.command = r#""C:\Program Files\print.exe" /d  $file"#.into();
        let read = file.write(&read, &draft).expect("written");
        let words = [r"C:\Program Files\print.exe", "/d", "$file"].map(String::from);
        assert_eq!(read.config.label.as_ref().map(|l| &l.sink), Some(&Sink::Command(words.into())));
        assert!(text(&file).contains("template = \"label.zpl\" # ours"), "{}", text(&file));

        draft = read.draft.clone();
        (draft.label.kind, draft.label.timeout) = (PrinterKind::Tcp, "301".into());
        let wrong = [(Field::LabelPrinter, Fault::Printer), (Field::LabelTimeout, Fault::LabelSeconds)];
        assert_eq!(draft.faults(), wrong);
        (draft.label.tcp, draft.label.timeout) = (" zebra:9100 ".into(), "20".into());
        assert_eq!(draft.faults(), []);
        let read = file.write(&read, &draft).expect("written");
        let label = read.config.label.as_ref().expect("a printer");
        assert_eq!((&label.sink, label.timeout.as_secs()), (&Sink::Tcp("zebra:9100".into()), 20));

        draft = read.draft.clone();
        draft.label.kind = PrinterKind::None;
        let read = file.write(&read, &draft).expect("written");
        assert_eq!((read.config.label, text(&file).trim()), (None, ""));
        draft = read.draft;
        (draft.label.kind, draft.label.tcp) = (PrinterKind::Tcp, "zebra:9100".into());
        assert_eq!(draft.faults(), [(Field::LabelTemplate, Fault::Empty)]);
    }

    #[test]
    fn a_token_and_a_player_are_named_and_taken_away() {
        let (_folder, file) = file("[line]\nsounds = true\n");
        let read = file.read().expect("a good file");
        let mut draft = read.draft.clone();
        (draft.token_label, draft.sound_command) = ("kw-factory".into(), "aplay".into());
        let wrong = [(Field::SoundCommand, Fault::Command), (Field::TokenModule, Fault::Empty)];
        assert_eq!(draft.faults(), wrong);
        (draft.token_module, draft.token_label) = ("token.so".into(), "x".repeat(33));
        assert_eq!(draft.faults()[1..], [(Field::TokenModule, Fault::Absolute)]);
        draft.token_module = "/usr/lib/token.so".into();
        draft.sound_command = "aplay -q $file".into();
        assert_eq!(draft.faults(), [(Field::TokenLabel, Fault::Token)]);
        draft.token_label = " kw-factory ".into();
        assert_eq!(draft.faults(), []);
        let read = file.write(&read, &draft).expect("written");
        let token = read.config.token.as_ref().expect("a token");
        assert_eq!(
            (token.module.as_path(), token.token.as_str()),
            (Path::new("/usr/lib/token.so"), "kw-factory")
        );
        let player = read.config.line.sound_command.as_deref().expect("a player");
        assert_eq!(player, ["aplay", "-q", "$file"]);
        draft = read.draft.clone();
        (draft.token_module, draft.token_label, draft.sound_command) = Default::default();
        let read = file.write(&read, &draft).expect("written");
        assert!(read.config.token.is_none() && read.config.line.sound_command.is_none());
        assert_eq!(text(&file), "[line]\nsounds = true\n");
    }

    #[test]
    fn a_change_touches_its_own_value_and_keeps_comments_and_order() {
        let (_folder, file) = file(EXAMPLE);
        let read = file.read().expect("the example");
        let mut draft = read.draft.clone();
        draft.name = "line-2".into();
        draft.gray_release = "50".into();
        draft.fixtures[1].name = "far right".into();
        let after = file.write(&read, &draft).expect("written");
        assert_eq!((after.config.name.as_str(), after.config.gray_release), ("line-2", 50));
        assert_eq!(after.config.fixtures[1].name, "far right");
        let expected = EXAMPLE
            .replace("name = \"line-1\"", "name = \"line-2\"")
            .replace("gray_release = 100", "gray_release = 50")
            .replace("name = \"right\"", "name = \"far right\"");
        assert_eq!(text(&file), expected);
        assert_eq!(after.draft, draft);
    }

    #[test]
    fn how_the_line_starts_and_sounds_is_written_into_its_own_table() {
        let (_folder, file) = file("[line]\n# a long one\nsound_command = [\"play\", \"$file\"]\n");
        let read = file.read().expect("a good file");
        assert_eq!(
            (read.draft.auto_start, read.draft.debounce.as_str(), read.draft.sounds),
            (false, "1000", false)
        );
        let mut draft = read.draft.clone();
        (draft.auto_start, draft.sounds) = (true, true);
        for wrong in ["", "-1", "60001", "soon"] {
            draft.debounce = wrong.into();
            assert_eq!(draft.faults(), [(Field::Debounce, Fault::Milliseconds)], "{wrong:?}");
        }
        draft.debounce = " 250 ".into();
        let after = file.write(&read, &draft).expect("written");
        let line = &after.config.line;
        assert!(line.auto_start && line.sounds && line.debounce == std::time::Duration::from_millis(250));
        assert_eq!(line.sound_command.as_deref(), Some(["play".to_owned(), "$file".to_owned()].as_slice()));
        assert!(text(&file).contains("# a long one"));
    }

    #[test]
    fn a_file_that_is_not_there_is_made_with_what_was_changed_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = StationFile::new(folder.path().join("station.toml"));
        let read = file.read().expect("the defaults");
        let mut draft = read.draft.clone();
        draft.language = LanguageChoice::Chinese;
        draft.theme = Theme::Contrast;
        draft.text_size = 150;
        draft.fixtures.push(FixtureDraft {
            was: None,
            name: "left".into(),
            probe: "0483:374b:066D".into(),
            serial: "/dev/ttyACM0".into(),
        });
        let after = file.write(&read, &draft).expect("written");
        assert_eq!(
            (after.config.language, after.config.theme, after.config.text_size),
            (LanguageChoice::Chinese, Theme::Contrast, 150)
        );
        assert_eq!(after.config.fixtures.len(), 1);
        assert!(!text(&file).contains("[station]"), "{}", text(&file));
    }

    #[test]
    fn fixtures_come_and_go_and_the_others_keep_their_comments() {
        let (_folder, file) = file(EXAMPLE);
        let read = file.read().expect("the example");
        let mut draft = read.draft.clone();
        draft.fixtures.remove(1);
        draft.fixtures.push(FixtureDraft {
            was: None,
            name: "third".into(),
            probe: "1fc9:0143:ABC".into(),
            serial: "COM7".into(),
        });
        let after = file.write(&read, &draft).expect("written");
        let names: Vec<_> = after.config.fixtures.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["left", "third"]);
        assert!(text(&file).contains("# On screen and in records."), "{}", text(&file));
        let mut none = after.draft.clone();
        none.fixtures.clear();
        assert!(file.write(&after, &none).expect("written").config.fixtures.is_empty());
    }

    #[test]
    fn a_list_of_inline_tables_is_edited_too() {
        let (_folder, file) =
            file("fixture = [{ name = \"a\", probe = \"0483:374b:1\", serial = \"COM1\" }]\n");
        let read = file.read().expect("read");
        let mut draft = read.draft.clone();
        draft.fixtures[0].serial = "COM2".into();
        assert_eq!(file.write(&read, &draft).expect("written").config.fixtures[0].serial, "COM2");
    }

    #[test]
    fn the_rest_of_the_file_goes_round_too() {
        let (_folder, file) = file(&format!("{EXAMPLE}\n[backup]\n# a disk of its own\nkeep = 3\n"));
        let read = file.read().expect("the example");
        assert_eq!((read.draft.backup_keep.as_str(), read.draft.auto_lock.as_str()), ("3", "10"));
        let mut draft = read.draft.clone();
        draft.auto_lock = "0".into();
        draft.second_person = true;
        draft.backup_folder = "/media/other".into();
        draft.backup_hours = "6".into();
        draft.backup_keep = "30".into();
        draft.virtual_board = "tools/virtual-board".into();
        draft.clouds.push(CloudDraft {
            was: None,
            name: "plant".into(),
            url: "mqtts://broker.example:8883".into(),
            ca: "plant-ca.pem".into(),
            username: "keywright-agent".into(),
            password_file: "plant.password".into(),
        });
        assert_eq!(draft.faults(), []);
        let after = file.write(&read, &draft).expect("written");
        assert_eq!(after.draft.clouds[0].was.as_deref(), Some("plant"));
        let same = Draft { clouds: after.draft.clouds.clone(), ..draft };
        assert_eq!(after.draft, same, "as it was written, so it is read");
        let backup = &after.config.backup;
        assert_eq!((backup.every_hours, backup.keep), (6, 30));
        assert!(after.config.auto_lock.is_zero() && after.config.second_person);
        assert!(text(&file).contains("# a disk of its own") && text(&file).contains("# In every record."));
        assert!(text(&file).contains("\n[cloud.plant]"), "{}", text(&file));
        // Another name, and then none.
        let mut draft = after.draft.clone();
        draft.clouds[0].name = "plant-2".into();
        draft.backup_folder.clear();
        let renamed = file.write(&after, &draft).expect("written");
        assert!(
            renamed.config.cloud_named("plant-2").is_ok() && renamed.config.cloud_named("plant").is_err()
        );
        assert_eq!(renamed.config.backup.folder, None);
        let none =
            file.write(&renamed, &Draft { clouds: Vec::new(), ..renamed.draft.clone() }).expect("written");
        assert_eq!(none.config.clouds.len(), 1, "the station's own");
    }

    #[test]
    fn a_broker_that_can_not_be_used_is_found_at_its_field() {
        let (_folder, file) = file(EXAMPLE);
        let mut draft = file.read().expect("the example").draft;
        let cloud = |name: &str, url: &str, ca: &str| CloudDraft {
            was: None,
            name: name.into(),
            url: url.into(),
            ca: ca.into(),
            username: "agent".into(),
            password_file: "p".into(),
        };
        draft.clouds = vec![
            cloud("local", "mqtts://a:8883", "ca.pem"),
            cloud("plant", "mqtts://b:8883", ""),
            cloud("plant", "http://c", ""),
            CloudDraft { username: String::new(), ..cloud("two", "mqtt://127.0.0.1:1883", "ca.pem") },
        ];
        draft.auto_lock = "1441".into();
        (draft.backup_hours, draft.backup_keep) = ("-1".into(), "0".into());
        assert_eq!(
            draft.faults(),
            [
                (Field::AutoLock, Fault::Minutes),
                (Field::BackupHours, Fault::Hours),
                (Field::BackupKeep, Fault::Keep),
                (Field::CloudName(0), Fault::CloudName),
                (Field::CloudCa(1), Fault::Ca),
                (Field::CloudName(2), Fault::Twice),
                (Field::CloudUrl(2), Fault::Url),
                (Field::CloudCa(3), Fault::Ca),
                (Field::CloudUser(3), Fault::Empty),
            ]
        );
    }

    #[test]
    fn what_somebody_else_wrote_meanwhile_is_kept() {
        let (_folder, file) = file(EXAMPLE);
        let read = file.read().expect("the example");
        std::fs::write(file.path(), "[station]\nname = \"other\"\n").expect("written");
        assert!(file.changed(&read));
        let mut draft = read.draft.clone();
        draft.name = "mine".into();
        assert!(matches!(file.write(&read, &draft), Err(NotWritten::ChangedOutside)));
        assert!(text(&file).contains("other"));
    }

    #[test]
    fn every_fault_is_found_at_its_field() {
        let (_folder, file) = file(EXAMPLE);
        let mut draft = file.read().expect("the example").draft;
        assert_eq!(draft.faults(), []);
        draft.name = " ".into();
        draft.gray_release = "many".into();
        draft.exchange_timeout = "4".into();
        draft.fixtures[1].name = "left".into();
        draft.fixtures[1].probe = "what".into();
        draft.fixtures[1].serial = draft.fixtures[0].serial.clone();
        draft.fixtures.push(FixtureDraft { name: "x".into(), ..FixtureDraft::default() });
        assert_eq!(
            draft.faults(),
            [
                (Field::Name, Fault::Name),
                (Field::GrayRelease, Fault::Number),
                (Field::ExchangeTimeout, Fault::Seconds),
                (Field::FixtureName(1), Fault::Twice),
                (Field::Probe(1), Fault::Probe),
                (Field::Serial(1), Fault::Twice),
                (Field::Probe(2), Fault::Probe),
                (Field::Serial(2), Fault::Port),
            ]
        );
    }

    #[test]
    fn what_can_not_be_used_is_never_written() {
        let (_folder, file) = file(EXAMPLE);
        let read = file.read().expect("the example");
        let mut draft = read.draft.clone();
        draft.fixtures[0].probe = "nonsense".into();
        assert!(matches!(file.write(&read, &draft), Err(NotWritten::Failed(_))));
        let mut draft = read.draft.clone();
        draft.text_size = TEXT_SIZES.end() + 1;
        assert!(matches!(file.write(&read, &draft), Err(NotWritten::Failed(_))));
        assert_eq!(text(&file), EXAMPLE);
    }

    #[cfg(unix)]
    #[test]
    fn rights_and_links_stay() {
        use std::os::unix::fs::PermissionsExt as _;
        let (folder, file) = file(EXAMPLE);
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o640)).expect("rights");
        let link = folder.path().join("link.toml");
        std::os::unix::fs::symlink(file.path(), &link).expect("a link");
        let linked = StationFile::new(&link);
        let read = linked.read().expect("read");
        let mut draft = read.draft.clone();
        draft.name = "by link".into();
        linked.write(&read, &draft).expect("written");
        assert!(std::fs::symlink_metadata(&link).expect("there").is_symlink());
        let mode = std::fs::metadata(file.path()).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert!(text(&file).contains("by link"));
    }
}
