//! `station.toml`: the station's name, its image and its fixtures; and the pairing of probes with serial ports when
//! no fixture is named.
//!
//! A fixture that can't be told apart is never guessed: a wrong pair would put one unit's id on another unit's record.

use crate::failure::{Failure, FailureCode};
use crate::i18n::{DateFormat, Formats, LanguageChoice, NumberFormat};
use crate::label::{LABEL_TIMEOUT, LabelConfig, Sink};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// Text sizes of the window, in percent.
pub const TEXT_SIZES: RangeInclusive<u32> = 80..=200;

/// How long a board lies still before it starts by itself, in milliseconds.
pub(crate) const DEBOUNCE_MS: RangeInclusive<u64> = 0..=60_000;
/// Seconds that a printer may take for a label.
pub(crate) const LABEL_SECONDS: RangeInclusive<u64> = 1..=300;

/// How long an exchange may stand still, in seconds.
pub(crate) const EXCHANGE_SECONDS: RangeInclusive<u64> = 5..=3600;

/// Minutes of idleness until the window locks itself; 0 = never.
pub(crate) const AUTO_LOCK_MINUTES: RangeInclusive<u64> = 0..=24 * 60;

/// Hours between two backups; 0 = never by the clock.
pub(crate) const BACKUP_HOURS: RangeInclusive<u32> = 0..=24 * 366;

/// Backups that stay.
pub(crate) const BACKUPS_KEPT: RangeInclusive<u32> = 1..=10_000;

/// Colours of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Theme {
    /// What the desktop says; dark if it says nothing.
    #[default]
    System,
    /// Light.
    Light,
    /// Dark.
    Dark,
    /// White on black, every text at 7:1.
    Contrast,
}

impl Theme {
    /// Every theme.
    pub const ALL: [Self; 4] = [Self::System, Self::Light, Self::Dark, Self::Contrast];

    /// The word in station.toml.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
            Self::Contrast => "contrast",
        }
    }
}

/// The station's configuration, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Station name, in every record.
    pub name: String,
    /// The common image: `common-image.json` or its folder.
    pub image: Option<PathBuf>,
    /// Fixtures in the order of the file; empty = pair probes and ports at start.
    pub fixtures: Vec<Fixture>,
    /// After this many passes the batch waits for the check of a sample (gray release); 0 = never.
    pub gray_release: u32,
    /// How long an exchange may stand still before the attempt ends.
    pub exchange_timeout: Duration,
    /// The clouds that units may be sent to; never empty.
    pub clouds: Vec<CloudConfig>,
    /// After how much idleness the window locks itself; zero = never.
    pub auto_lock: Duration,
    /// The label printer, if there is one.
    pub label: Option<LabelConfig>,
    /// How the line starts and sounds.
    pub line: LineConfig,
    /// Lists with keys are handed out by two people only.
    pub second_person: bool,
    /// What the window speaks; the command line speaks English.
    pub language: LanguageChoice,
    /// How dates and numbers are written in the window.
    pub formats: Formats,
    /// Backups by the clock.
    pub backup: BackupConfig,
    /// The token that may hold signing keys, if there is one.
    pub token: Option<TokenConfig>,
    /// Colours of the window.
    pub theme: Theme,
    /// Text size of the window in percent.
    pub text_size: u32,
    /// The program that plays a board in rehearsals; absent: the one beside this program.
    pub virtual_board: Option<PathBuf>,
    /// The station runs on the public demo passphrase (set by the command line, never by the file).
    pub demo: bool,
}

/// How the line starts and sounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineConfig {
    /// The window begins with auto-start on.
    pub auto_start: bool,
    /// How long a board lies still before it starts by itself.
    pub debounce: Duration,
    /// Results are heard.
    pub sounds: bool,
    /// What plays a sound, `$file` among its words; absent: a player that is found.
    pub sound_command: Option<Vec<String>>,
}

impl Default for LineConfig {
    fn default() -> Self {
        Self { auto_start: false, debounce: Duration::from_millis(1000), sounds: false, sound_command: None }
    }
}

/// The hardware security module that may hold signing keys. Its PIN is never in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenConfig {
    /// The PKCS#11 module, a library of the token's maker.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
}

/// Where and how often the station is backed up while it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupConfig {
    /// The folder; absent: `backups` in the home. A relative one was relative to the configuration's folder.
    pub folder: Option<PathBuf>,
    /// Hours between two backups; 0 = never by the clock.
    pub every_hours: u32,
    /// This many stay; older ones are removed.
    pub keep: u32,
}

impl Default for BackupConfig {
    fn default() -> Self {
        Self { folder: None, every_hours: 24, keep: 14 }
    }
}

impl BackupConfig {
    /// The folder in use.
    pub fn folder_of(&self, home: &Path) -> PathBuf {
        self.folder.clone().unwrap_or_else(|| home.join("backups"))
    }
}

/// A cloud platform that units log in at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudConfig {
    /// Name on the command line, and of its ledger.
    pub name: String,
    /// The URL in the units' records.
    pub url: String,
    /// What it is.
    pub kind: CloudKind,
}

/// What a cloud platform is, and how the station reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloudKind {
    /// The broker in the station's own process.
    Local {
        /// Loopback address and port; 0 takes any free one.
        listen: SocketAddr,
    },
    /// Mosquitto with its dynamic security plugin.
    Mosquitto {
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// Certificates of its CA, PEM; without it the broker must run on this machine.
        ca: Option<PathBuf>,
        /// The agent's user name there.
        username: String,
        /// File with the agent's password.
        password_file: PathBuf,
    },
}

impl CloudConfig {
    /// The broker inside the station: what a station has that names none.
    pub fn local() -> Self {
        Self {
            name: "local".into(),
            url: crate::cloud::LOCAL_URL.into(),
            kind: CloudKind::Local { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) },
        }
    }
}

/// One position: a probe and a serial port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixture {
    /// Name on screen and in records.
    pub name: String,
    /// Probe selector `VID:PID[:SERIAL]` (hex ids); for a Black Magic Probe over TCP the serial is `HOST:PORT`.
    pub probe: String,
    /// Serial port, `/dev/tty…` or `COM…`.
    pub serial: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "station".into(),
            image: None,
            fixtures: Vec::new(),
            gray_release: 0,
            exchange_timeout: Duration::from_secs(60),
            clouds: vec![CloudConfig::local()],
            auto_lock: Duration::from_secs(10 * 60),
            label: None,
            line: LineConfig::default(),
            second_person: false,
            language: LanguageChoice::System,
            formats: Formats::default(),
            backup: BackupConfig::default(),
            token: None,
            theme: Theme::System,
            text_size: 100,
            virtual_board: None,
            demo: false,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    window: Option<WindowTable>,
    station: Option<StationTable>,
    backup: Option<BackupTable>,
    #[serde(default)]
    fixture: Vec<FixtureTable>,
    #[serde(default)]
    cloud: BTreeMap<Spanned<String>, Spanned<CloudTable>>,
    people: Option<PeopleTable>,
    label: Option<Spanned<LabelTable>>,
    line: Option<LineTable>,
    pkcs11: Option<TokenTable>,
    #[serde(default)]
    export: ExportTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeopleTable {
    auto_lock_minutes: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelTable {
    template: Spanned<PathBuf>,
    command: Option<Spanned<Vec<String>>>,
    tcp: Option<Spanned<String>>,
    timeout_seconds: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineTable {
    auto_start: Option<bool>,
    debounce_ms: Option<Spanned<u64>>,
    sounds: Option<bool>,
    sound_command: Option<Spanned<Vec<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenTable {
    module: Spanned<PathBuf>,
    token: Spanned<String>,
    /// Named only to be refused with a word about where it belongs.
    pin: Option<Spanned<serde::de::IgnoredAny>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportTable {
    #[serde(default)]
    second_person: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupTable {
    folder: Option<Spanned<PathBuf>>,
    every_hours: Option<Spanned<u32>>,
    keep: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum CloudTable {
    Local { listen: Option<SocketAddr> },
    Mosquitto { url: String, ca: Option<PathBuf>, username: String, password_file: PathBuf },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StationTable {
    name: Option<Spanned<String>>,
    image: Option<Spanned<PathBuf>>,
    virtual_board: Option<Spanned<PathBuf>>,
    gray_release: Option<u32>,
    exchange_timeout_seconds: Option<Spanned<u64>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WindowTable {
    language: LanguageChoice,
    dates: DateFormat,
    numbers: NumberFormat,
    theme: Theme,
    text_size: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FixtureTable {
    name: Spanned<String>,
    probe: Spanned<String>,
    serial: Spanned<String>,
}

impl Config {
    /// Reads `path`; a file that is not there means the defaults (pairing by itself).
    ///
    /// # Errors
    /// `ConfigInvalid` with file, line, column, what was found and what was expected.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(Failure::new(FailureCode::ConfigInvalid, format!("{}: {e}", path.display()))),
        }
    }

    /// The cloud of this name.
    ///
    /// # Errors
    /// `InvalidInput` with the names there are.
    pub fn cloud_named(&self, name: &str) -> Result<&CloudConfig, Failure> {
        self.clouds.iter().find(|c| c.name == name).ok_or_else(|| {
            let names: Vec<_> = self.clouds.iter().map(|c| c.name.as_str()).collect();
            Failure::new(
                FailureCode::InvalidInput,
                format!("station.toml names no cloud {name:?}; it has {}", names.join(", ")),
            )
        })
    }

    /// Checks the text of `path`. A relative image path is relative to the file's folder.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, Failure> {
        let at = |offset: usize, what: &str| {
            let (line, column) = position(text, offset);
            Failure::new(FailureCode::ConfigInvalid, format!("{}:{line}:{column}: {what}", path.display()))
        };
        let file: File = toml::from_str(text).map_err(|e| {
            let span = e.span().unwrap_or(0..0);
            let found = text.get(span.clone()).unwrap_or("").lines().next().unwrap_or("").trim();
            let message = e.message().trim().replace('\n', ", ");
            // serde's own words already name what was found for wrong types and unknown keys.
            let what = if found.is_empty() || message.contains(found) {
                message
            } else {
                format!("{message}, found `{found}`")
            };
            at(span.start, &what)
        })?;
        let mut config = Self { second_person: file.export.second_person, ..Self::default() };
        if let Some(station) = file.station {
            if let Some(name) = station.name {
                config.name = name_of(&name, "station").map_err(|what| at(name.span().start, &what))?;
            }
            if let Some(image) = station.image {
                if image.get_ref().as_os_str().is_empty() {
                    return Err(at(
                        image.span().start,
                        "found an empty path, expected that of common-image.json",
                    ));
                }
                config.image = Some(path.parent().unwrap_or(Path::new(".")).join(image.into_inner()));
            }
            if let Some(program) = station.virtual_board {
                if program.get_ref().as_os_str().is_empty() {
                    return Err(at(
                        program.span().start,
                        "found an empty path, expected that of virtual-board",
                    ));
                }
                config.virtual_board =
                    Some(path.parent().unwrap_or(Path::new(".")).join(program.into_inner()));
            }
            config.gray_release = station.gray_release.unwrap_or(0);
            if let Some(seconds) = station.exchange_timeout_seconds {
                if !EXCHANGE_SECONDS.contains(seconds.get_ref()) {
                    return Err(at(
                        seconds.span().start,
                        "found a time out of range, expected 5 to 3600 seconds",
                    ));
                }
                config.exchange_timeout = Duration::from_secs(seconds.into_inner());
            }
        }
        if let Some(minutes) = file.people.and_then(|people| people.auto_lock_minutes) {
            if !AUTO_LOCK_MINUTES.contains(minutes.get_ref()) {
                return Err(at(
                    minutes.span().start,
                    "found a time out of range, expected 1 to 1440 minutes, or 0 for never",
                ));
            }
            config.auto_lock = Duration::from_secs(minutes.into_inner() * 60);
        }
        if let Some(backup) = file.backup {
            if let Some(folder) = backup.folder {
                if folder.get_ref().as_os_str().is_empty() {
                    return Err(at(folder.span().start, "found an empty path, expected that of a folder"));
                }
                config.backup.folder =
                    Some(path.parent().unwrap_or(Path::new(".")).join(folder.into_inner()));
            }
            if let Some(hours) = backup.every_hours {
                if !BACKUP_HOURS.contains(hours.get_ref()) {
                    return Err(at(
                        hours.span().start,
                        "found more than a year, expected 1 to 8784 hours, or 0 for never",
                    ));
                }
                config.backup.every_hours = hours.into_inner();
            }
            if let Some(keep) = backup.keep {
                if !BACKUPS_KEPT.contains(keep.get_ref()) {
                    return Err(at(
                        keep.span().start,
                        "found a number out of range, expected 1 to 10000 backups",
                    ));
                }
                config.backup.keep = keep.into_inner();
            }
        }
        if let Some(line) = file.line {
            config.line = line_of(line).map_err(|(offset, what)| at(offset, &what))?;
        }
        if let Some(table) = file.pkcs11 {
            if let Some(pin) = table.pin {
                let what = "a PIN does not belong into this file; give it with --token-pin-fd or in KEYWRIGHT_TOKEN_PIN, or keep it with keywright passphrase store --token-pin";
                return Err(at(pin.span().start, what));
            }
            let (module, token) = (table.module.get_ref(), table.token.get_ref().trim());
            if !module.is_absolute() {
                let what = "found a relative path, expected the whole one, such as \"/usr/lib/softhsm/libsofthsm2.so\"";
                return Err(at(table.module.span().start, what));
            }
            // A label has 32 bytes in PKCS#11.
            if !fits_token(token) {
                return Err(at(table.token.span().start, "expected the token's label, 1 to 32 bytes"));
            }
            config.token = Some(TokenConfig { module: module.clone(), token: token.to_owned() });
        }
        let window = file.window.unwrap_or_default();
        (config.language, config.theme) = (window.language, window.theme);
        config.formats = Formats { dates: window.dates, numbers: window.numbers };
        if let Some(percent) = window.text_size {
            if !TEXT_SIZES.contains(percent.get_ref()) {
                let (least, most) = (TEXT_SIZES.start(), TEXT_SIZES.end());
                let what = format!("found a text size out of range, expected {least} to {most} percent");
                return Err(at(percent.span().start, &what));
            }
            config.text_size = percent.into_inner();
        }
        for table in file.fixture {
            let name = name_of(&table.name, "fixture").map_err(|what| at(table.name.span().start, &what))?;
            let probe = table.probe.get_ref().trim().to_owned();
            check_selector(&probe).map_err(|what| at(table.probe.span().start, &what))?;
            let serial = table.serial.get_ref().trim().to_owned();
            if serial.is_empty() {
                return Err(at(
                    table.serial.span().start,
                    "found an empty name, expected a serial port such as \"/dev/ttyACM0\"",
                ));
            }
            let same =
                |what: &str, other: &Fixture| format!("fixture {:?} already has this {what}", other.name);
            for other in &config.fixtures {
                if other.name == name {
                    return Err(at(
                        table.name.span().start,
                        &format!("found a second fixture {name:?}, expected another name"),
                    ));
                }
                if other.probe.eq_ignore_ascii_case(&probe) {
                    return Err(at(table.probe.span().start, &same("probe", other)));
                }
                if other.serial == serial {
                    return Err(at(table.serial.span().start, &same("serial port", other)));
                }
            }
            config.fixtures.push(Fixture { name, probe, serial });
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        for (name, table) in file.cloud {
            let cloud = cloud_of(name.get_ref(), table.get_ref(), folder)
                .map_err(|what| at(name.span().start, &format!("cloud {:?}: {what}", name.get_ref())))?;
            if let Some(other) = config.clouds.iter().find(|c| c.url == cloud.url && c.name != cloud.name) {
                return Err(at(
                    name.span().start,
                    &format!("cloud {:?} already has this address", other.name),
                ));
            }
            // A table of this name takes the place of the built-in one.
            config.clouds.retain(|c| c.name != cloud.name);
            config.clouds.push(cloud);
        }
        if let Some(table) = file.label {
            let begin = table.span().start;
            config.label = Some(
                label_of(table.into_inner(), begin, folder).map_err(|(offset, what)| at(offset, &what))?,
            );
        }
        Ok(config)
    }
}

/// Whether this may be the name of a station or of a fixture.
pub(crate) fn fits_name(name: &str) -> bool {
    let name = name.trim();
    !name.is_empty() && name.len() <= 64 && !name.chars().any(char::is_control)
}

fn name_of(name: &Spanned<String>, noun: &str) -> Result<String, String> {
    let text = name.get_ref().trim();
    if !fits_name(text) {
        return Err(format!(
            "found {:?}, expected a {noun} name of 1 to 64 printable characters",
            name.get_ref()
        ));
    }
    Ok(text.to_owned())
}

/// Whether this is a program and its arguments, the file's place among them.
pub(crate) fn fits_command(words: &[String]) -> bool {
    let holds_file = |word: &String| word.contains(crate::label::sink::FILE);
    words.first().is_some_and(|w| !w.trim().is_empty() && !holds_file(w)) && words.iter().any(holds_file)
}

/// Whether this may be the label of a token: 1 to 32 bytes, as PKCS#11 has room for.
pub(crate) fn fits_token(label: &str) -> bool {
    fits_name(label) && label.trim().len() <= 32
}

/// Whether this is `HOST:PORT`.
pub(crate) fn fits_printer(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains([' ', '/']) && port.parse::<u16>().is_ok_and(|p| p > 0)
    })
}

/// A program and its arguments.
fn command_of(command: Spanned<Vec<String>>) -> Result<Vec<String>, (usize, String)> {
    if !fits_command(command.get_ref()) {
        let what = "expected a program and its arguments, \"$file\" among them";
        return Err((command.span().start, what.into()));
    }
    Ok(command.into_inner())
}

fn line_of(table: LineTable) -> Result<LineConfig, (usize, String)> {
    let mut line = LineConfig {
        auto_start: table.auto_start.unwrap_or(false),
        sounds: table.sounds.unwrap_or(false),
        sound_command: table.sound_command.map(command_of).transpose()?,
        ..LineConfig::default()
    };
    if let Some(ms) = table.debounce_ms {
        if !DEBOUNCE_MS.contains(ms.get_ref()) {
            return Err((
                ms.span().start,
                "found a time out of range, expected 0 to 60000 milliseconds".into(),
            ));
        }
        line.debounce = Duration::from_millis(ms.into_inner());
    }
    Ok(line)
}

fn label_of(table: LabelTable, begin: usize, folder: &Path) -> Result<LabelConfig, (usize, String)> {
    let sink = match (table.command, table.tcp) {
        (Some(_), Some(tcp)) => {
            return Err((tcp.span().start, "found command and tcp, expected one of them".into()));
        }
        (None, None) => {
            return Err((begin, "expected command = [\"lp\", …, \"$file\"] or tcp = \"HOST:9100\"".into()));
        }
        (Some(command), None) => Sink::Command(command_of(command)?),
        (None, Some(tcp)) => {
            if !fits_printer(tcp.get_ref()) {
                return Err((
                    tcp.span().start,
                    format!("found {:?}, expected HOST:PORT such as \"zebra:9100\"", tcp.get_ref()),
                ));
            }
            Sink::Tcp(tcp.into_inner())
        }
    };
    let mut timeout = LABEL_TIMEOUT;
    if let Some(seconds) = table.timeout_seconds {
        if !LABEL_SECONDS.contains(seconds.get_ref()) {
            return Err((
                seconds.span().start,
                "found a time out of range, expected 1 to 300 seconds".into(),
            ));
        }
        timeout = Duration::from_secs(seconds.into_inner());
    }
    if table.template.get_ref().as_os_str().is_empty() {
        return Err((table.template.span().start, "found an empty path, expected that of a template".into()));
    }
    Ok(LabelConfig { template: folder.join(table.template.into_inner()), sink, timeout })
}

/// Whether this may be the name of a cloud.
pub(crate) fn fits_cloud_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.len() <= 32 && name.chars().all(fits)
}

fn cloud_of(name: &str, table: &CloudTable, folder: &Path) -> Result<CloudConfig, String> {
    if !fits_cloud_name(name) {
        return Err("expected a name of 1 to 32 small letters, digits and hyphens".into());
    }
    match table {
        CloudTable::Local { listen } => {
            let listen = listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
            if !listen.ip().is_loopback() {
                return Err(format!(
                    "found listen = {listen}, expected a loopback address: it speaks without TLS"
                ));
            }
            Ok(CloudConfig {
                name: name.into(),
                url: crate::cloud::LOCAL_URL.into(),
                kind: CloudKind::Local { listen },
            })
        }
        CloudTable::Mosquitto { url, ca, username, password_file } => {
            // A unit reads the same address (`device-fw/src/mqtt.rs`), so it must be one.
            let tls = url.starts_with("mqtts://");
            let (host, port) = crate::cloud::address(url)
                .ok_or_else(|| format!("found url {url:?}, expected mqtts://HOST:PORT"))?;
            if host.is_empty() || port == 0 || url.len() > 255 || host.contains(['/', ' ', '[']) {
                return Err(format!("found url {url:?}, expected mqtts://HOST:PORT"));
            }
            if tls != ca.is_some() {
                return Err(if tls {
                    "an mqtts:// address needs ca = the broker's CA certificate, PEM".into()
                } else {
                    "an mqtt:// address uses no ca; write mqtts:// for TLS".into()
                });
            }
            Ok(CloudConfig {
                name: name.into(),
                url: url.clone(),
                kind: CloudKind::Mosquitto {
                    host: host.into(),
                    port,
                    ca: ca.as_ref().map(|p| folder.join(p)),
                    username: username.clone(),
                    password_file: folder.join(password_file),
                },
            })
        }
    }
}

/// Line and column, both from 1; columns count characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

pub(crate) fn check_selector(selector: &str) -> Result<(), String> {
    let mut parts = selector.splitn(3, ':');
    let hex16 =
        |s: Option<&str>| s.is_some_and(|s| (1..=4).contains(&s.len()) && u16::from_str_radix(s, 16).is_ok());
    let vendor = parts.next();
    let product = parts.next().map(|p| p.split_once('-').map_or(p, |(id, _)| id));
    if hex16(vendor) && hex16(product) && parts.next().is_none_or(|s| !s.is_empty()) {
        Ok(())
    } else {
        Err(format!("found {selector:?}, expected a probe as VID:PID:SERIAL, such as \"0483:374b:066DFF3\""))
    }
}

/// A debug probe as the USB bus describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeDescription {
    /// USB vendor.
    pub vid: u16,
    /// USB product.
    pub pid: u16,
    /// USB serial number, if it has one.
    pub serial: Option<String>,
    /// What it calls itself.
    pub product: String,
}

impl ProbeDescription {
    /// The selector that opens it.
    pub fn selector(&self) -> String {
        match &self.serial {
            Some(serial) => format!("{:04x}:{:04x}:{serial}", self.vid, self.pid),
            None => format!("{:04x}:{:04x}", self.vid, self.pid),
        }
    }

    fn number(&self) -> Option<&str> {
        self.serial.as_deref().filter(|s| !s.is_empty())
    }
}

/// A serial port as the system describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortDescription {
    /// Its name.
    pub path: String,
    /// USB vendor and product, if it is on USB.
    pub usb: Option<(u16, u16)>,
    /// USB serial number.
    pub serial: Option<String>,
}

/// Pairs probes with serial ports: same device (vendor, product and USB serial number) first; a single probe and a
/// single USB port in all are a pair too. Anything that could be two ways is refused.
///
/// # Errors
/// `NoProbe`, `AmbiguousProbes` (two that look the same, or several ports for one probe), `PortMissing`.
pub fn pair(probes: &[ProbeDescription], ports: &[PortDescription]) -> Result<Vec<Fixture>, Failure> {
    if probes.is_empty() {
        return Err(Failure::new(
            FailureCode::NoProbe,
            "is it plugged in, and do the udev rules let this user use it?",
        ));
    }
    for (i, probe) in probes.iter().enumerate() {
        let twin = probes[..i]
            .iter()
            .find(|p| (p.vid, p.pid) == (probe.vid, probe.pid) && p.number() == probe.number());
        if let Some(twin) = twin {
            let number = twin.number().map_or("no serial number".into(), |n| format!("serial number {n}"));
            return Err(Failure::new(
                FailureCode::AmbiguousProbes,
                format!("two {} ({:04x}:{:04x}) with {number}", twin.product, twin.vid, twin.pid),
            ));
        }
    }
    let usb_ports: Vec<_> = ports.iter().filter(|p| p.usb.is_some()).collect();
    let mut sorted: Vec<_> = probes.iter().collect();
    sorted.sort_by_key(|p| p.selector());
    let mut fixtures = Vec::new();
    for (n, probe) in sorted.iter().enumerate() {
        let own: Vec<_> = usb_ports
            .iter()
            .filter(|p| {
                p.usb == Some((probe.vid, probe.pid))
                    && p.serial.as_deref().filter(|s| !s.is_empty()) == probe.number()
            })
            .collect();
        let port = match own.as_slice() {
            [port] => port,
            [] if probes.len() == 1 && usb_ports.len() == 1 => &usb_ports[0],
            [] => {
                return Err(Failure::new(
                    FailureCode::PortMissing,
                    format!("no serial port belongs to probe {} ({})", probe.selector(), probe.product),
                ));
            }
            several => {
                let names: Vec<_> = several.iter().map(|p| p.path.as_str()).collect();
                return Err(Failure::new(
                    FailureCode::AmbiguousProbes,
                    format!("probe {} has several serial ports: {}", probe.selector(), names.join(", ")),
                ));
            }
        };
        fixtures.push(Fixture {
            name: (n + 1).to_string(),
            probe: probe.selector(),
            serial: port.path.clone(),
        });
    }
    Ok(fixtures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let failure = Config::parse(text, Path::new("/etc/kw/station.toml")).unwrap_err();
        assert_eq!(failure.code, FailureCode::ConfigInvalid);
        println!("{failure}");
        failure.sentence
    }

    #[test]
    fn the_example_is_valid() {
        let text = include_str!("../../assets/station.example.toml");
        let config = Config::parse(text, Path::new("/home/op/station.toml")).unwrap();
        assert_eq!(config.fixtures.len(), 2);
        assert!(config.image.unwrap().starts_with("/home/op"));
    }

    #[test]
    fn virtual_and_real_fixtures() {
        let text = "[station]\nname = \"demo\"\nimage = \"/fw/common-image.json\"\n\n[[fixture]]\nname = \"1\"\n\
                    probe = \"1d50:6018:127.0.0.1:4321\"\nserial = \"/dev/pts/7\"\n\n[[fixture]]\nname = \"2\"\n\
                    probe = \"0483:374b:066DFF\"\nserial = \"COM3\"\n";
        let config = Config::parse(text, Path::new("station.toml")).unwrap();
        assert_eq!(config.image.as_deref(), Some(Path::new("/fw/common-image.json")));
        assert_eq!(config.fixtures[0].probe, "1d50:6018:127.0.0.1:4321");
        assert_eq!(config.fixtures[1].serial, "COM3");
        assert_eq!(Config::parse("", Path::new("x")).unwrap(), Config::default());
        assert_eq!(Config::load(Path::new("/nonexistent/station.toml")).unwrap(), Config::default());
    }

    #[test]
    fn a_label_printer_is_a_command_or_an_address() {
        let parse = |text: &str| Config::parse(text, Path::new("/home/op/station.toml"));
        let text = "[label]\ntemplate = \"label.zpl\"\ncommand = [\"lp\", \"-d\", \"zebra\", \"$file\"]\n";
        let label = parse(text).unwrap().label.unwrap();
        assert_eq!(label.template, Path::new("/home/op/label.zpl"));
        assert_eq!(
            (label.sink.to_string(), label.timeout),
            ("lp -d zebra $file".into(), Duration::from_secs(15))
        );
        let text = "[label]\ntemplate = \"/x.zpl\"\ntcp = \"zebra:9100\"\ntimeout_seconds = 3\n";
        assert_eq!(parse(text).unwrap().label.unwrap().sink, Sink::Tcp("zebra:9100".into()));
        for (text, place, what) in [
            ("[label]\ntemplate = \"x\"\n", ":1:1:", "expected command"),
            ("[label]\ntemplate = \"x\"\ncommand = [\"lp\"]\n", ":3:11:", "$file"),
            ("[label]\ntemplate = \"x\"\ncommand = [\"$file\"]\n", ":3:11:", "a program"),
            (
                "[label]\ntemplate = \"x\"\ncommand = [\"a\", \"$file\"]\ntcp = \"a:1\"\n",
                ":4:7:",
                "one of them",
            ),
            ("[label]\ntemplate = \"x\"\ntcp = \"zebra\"\n", ":3:7:", "HOST:PORT"),
            ("[label]\ntemplate = \"\"\ntcp = \"z:1\"\n", ":2:12:", "empty path"),
            ("[label]\ntemplate = \"x\"\ntcp = \"z:1\"\ntimeout_seconds = 0\n", ":4:19:", "1 to 300"),
            ("[label]\ntcp = \"z:1\"\n", ":", "template"),
            ("[label]\ntemplate = \"x\"\ntcp = \"z:1\"\nprinter = 1\n", ":4:1:", "printer"),
        ] {
            let sentence = refused(text);
            assert!(sentence.contains(place) && sentence.contains(what), "{sentence}");
        }
    }

    #[test]
    fn clouds_by_name() {
        let local = Config::parse("", Path::new("x")).unwrap();
        assert_eq!(local.clouds, [CloudConfig::local()]);
        let text = "[cloud.plant]\nkind = \"mosquitto\"\nurl = \"mqtts://broker.example:9883\"\nca = \"ca.pem\"\n\
                    username = \"agent\"\npassword_file = \"pw\"\n[cloud.local]\nkind = \"local\"\nlisten = \"127.0.0.1:1883\"\n";
        let config = Config::parse(text, Path::new("/home/op/station.toml")).unwrap();
        let plant = config.cloud_named("plant").unwrap();
        assert_eq!(plant.url, "mqtts://broker.example:9883");
        let CloudKind::Mosquitto { host, port, ca, password_file, .. } = &plant.kind else {
            panic!("{plant:?}")
        };
        assert_eq!((host.as_str(), *port), ("broker.example", 9883));
        assert_eq!(ca.as_deref(), Some(Path::new("/home/op/ca.pem")));
        assert_eq!(password_file, Path::new("/home/op/pw"));
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 1883));
        assert_eq!(config.cloud_named("local").unwrap().kind, CloudKind::Local { listen });
        let failure = config.cloud_named("moon").unwrap_err();
        assert_eq!(failure.code, FailureCode::InvalidInput);
        assert!(failure.sentence.contains("plant"), "{failure}");
        let broker = "kind = \"mosquitto\"\nusername = \"a\"\npassword_file = \"p\"\n";
        for (text, says) in [
            ("[cloud.x]\nkind = \"iot\"\n".to_owned(), "iot"),
            ("[cloud.X]\nkind = \"local\"\n".to_owned(), "small letters"),
            ("[cloud.x]\nkind = \"local\"\nlisten = \"0.0.0.0:1\"\n".to_owned(), "loopback"),
            (format!("[cloud.x]\n{broker}url = \"http://x\"\nca = \"c\"\n"), "mqtts://HOST:PORT"),
            (format!("[cloud.x]\n{broker}url = \"mqtts://x:1\"\n"), "needs ca"),
            (format!("[cloud.x]\n{broker}url = \"mqtt://x:1\"\nca = \"c\"\n"), "no ca"),
            (format!("[cloud.x]\n{broker}url = \"mqtts://x:0\"\nca = \"c\"\n"), "mqtts://HOST:PORT"),
            ("[cloud.x]\nkind = \"local\"\n".to_owned(), "already has this address"),
            ("[cloud.x]\nkind = \"local\"\nport = 1\n".to_owned(), "port"),
        ] {
            let said = refused(&text);
            assert!(said.contains(says), "{text}: {said}");
        }
    }

    #[test]
    fn unknown_keys_and_wrong_types_name_the_place() {
        let fixture = "[[fixture]]\nname = \"1\"\nprobe = \"0483:374b\"\nserial = \"/dev/ttyACM0\"\n";
        let cases: &[(String, &str, &[&str])] = &[
            ("[station]\nname = \"a\"\nimages = \"x\"\n".into(), ":3:1:", &["images", "expected", "image"]),
            ("[station]\nname = 7\n".into(), ":2:8:", &["7", "expected a string"]),
            ("[people]\nauto_lock_minutes = 1441\n".into(), ":2:21:", &["out of range", "0 for never"]),
            ("[people]\nauto_lock = 1\n".into(), ":2:1:", &["auto_lock_minutes"]),
            ("[station]\ngray_release = -1\n".into(), ":2:16:", &["-1", "expected u32"]),
            ("[station]\ngray_release = \"many\"\n".into(), ":2:16:", &["many", "expected u32"]),
            ("[station]\nexchange_timeout_seconds = 1\n".into(), ":2:28:", &["5 to 3600"]),
            ("[fixture]\nname = \"1\"\n".into(), ":1:1:", &["expected a sequence"]),
            (
                "[[fixture]]\nname = \"1\"\nprobe = \"0483:374b\"\n".into(),
                ":1:1:",
                &["missing field `serial`"],
            ),
            (
                "[[fixture]]\nname = \"1\"\nprobe = \"stlink\"\nserial = \"x\"\n".into(),
                ":3:9:",
                &["stlink", "VID:PID"],
            ),
            (
                format!("{fixture}\n[[fixture]]\nname = \"1\"\nprobe = \"0483:374c\"\nserial = \"y\"\n"),
                ":7:8:",
                &["second"],
            ),
            (
                format!("{fixture}\n[[fixture]]\nname = \"2\"\nprobe = \"0483:374B\"\nserial = \"y\"\n"),
                ":8:9:",
                &["probe"],
            ),
            (
                format!(
                    "{fixture}\n[[fixture]]\nname = \"2\"\nprobe = \"0483:374c\"\nserial = \"/dev/ttyACM0\"\n"
                ),
                ":9:10:",
                &["serial"],
            ),
            ("[station]\nname = \"a\nimage = 1\n".into(), ":2:", &["string"]),
            ("[station]\nname = \"\"\n".into(), ":2:8:", &["1 to 64"]),
        ];
        for (text, place, words) in cases {
            let sentence = refused(text);
            assert!(sentence.contains(&format!("/etc/kw/station.toml{place}")), "{place} in {sentence}");
            for word in *words {
                assert!(sentence.contains(word), "{word:?} in {sentence}");
            }
        }
    }

    fn probe(serial: Option<&str>) -> ProbeDescription {
        ProbeDescription {
            vid: 0x0483,
            pid: 0x374b,
            serial: serial.map(Into::into),
            product: "ST-LINK/V2-1".into(),
        }
    }

    fn port(path: &str, serial: Option<&str>) -> PortDescription {
        PortDescription { path: path.into(), usb: Some((0x0483, 0x374b)), serial: serial.map(Into::into) }
    }

    fn pair_code(probes: &[ProbeDescription], ports: &[PortDescription]) -> FailureCode {
        let failure = pair(probes, ports).unwrap_err();
        println!("{failure}");
        failure.code
    }

    #[test]
    fn pairs_by_usb_serial_number_whatever_the_order() {
        let fixtures = pair(
            &[probe(Some("B")), probe(Some("A"))],
            &[port("/dev/ttyACM0", Some("B")), port("/dev/ttyACM1", Some("A"))],
        )
        .unwrap();
        assert_eq!(
            fixtures[0],
            Fixture { name: "1".into(), probe: "0483:374b:A".into(), serial: "/dev/ttyACM1".into() }
        );
        assert_eq!(
            fixtures[1],
            Fixture { name: "2".into(), probe: "0483:374b:B".into(), serial: "/dev/ttyACM0".into() }
        );
    }

    #[test]
    fn never_guesses() {
        let plain = PortDescription { path: "/dev/ttyS0".into(), usb: None, serial: None };
        assert_eq!(pair_code(&[], &[port("/dev/ttyACM0", Some("A"))]), FailureCode::NoProbe);
        assert_eq!(
            pair_code(&[probe(None), probe(None)], &[port("/dev/ttyACM0", None), port("/dev/ttyACM1", None)]),
            FailureCode::AmbiguousProbes
        );
        assert_eq!(pair_code(&[probe(None), probe(Some(""))], &[]), FailureCode::AmbiguousProbes);
        assert_eq!(pair_code(&[probe(Some("A")), probe(Some("A"))], &[]), FailureCode::AmbiguousProbes);
        assert_eq!(
            pair_code(
                &[probe(Some("A"))],
                &[port("/dev/ttyACM0", Some("A")), port("/dev/ttyACM1", Some("A"))]
            ),
            FailureCode::AmbiguousProbes
        );
        assert_eq!(pair_code(&[probe(Some("A"))], &[plain]), FailureCode::PortMissing);
        assert_eq!(
            pair_code(&[probe(Some("A")), probe(Some("B"))], &[port("/dev/ttyACM0", Some("A"))]),
            FailureCode::PortMissing
        );
    }

    #[test]
    fn how_the_line_starts_and_sounds_is_checked() {
        let parse = |text: &str| Config::parse(text, Path::new("station.toml")).unwrap().line;
        assert_eq!(parse(""), LineConfig::default());
        let line = parse(
            "[line]\nauto_start = true\ndebounce_ms = 0\nsounds = true\nsound_command = ['play', '$file']",
        );
        assert!(line.auto_start && line.sounds && line.debounce.is_zero());
        assert_eq!(line.sound_command.unwrap(), ["play", "$file"]);
        for (text, place) in [
            (
                "[line]\ndebounce_ms = 60001",
                ":2:15: found a time out of range, expected 0 to 60000 milliseconds",
            ),
            ("[line]\nsound_command = ['play']", ":2:17: expected a program and its arguments"),
            ("[line]\nsound_command = ['$file']", ":2:17: expected a program and its arguments"),
            ("[line]\nloud = true", "unknown field `loud`"),
        ] {
            let said = refused(text);
            assert!(said.contains(place), "{said}");
        }
    }

    #[test]
    fn one_probe_and_one_port_are_a_pair() {
        let ftdi = PortDescription {
            path: "/dev/ttyUSB0".into(),
            usb: Some((0x0403, 0x6001)),
            serial: Some("F".into()),
        };
        let fixtures = pair(&[probe(Some("A"))], std::slice::from_ref(&ftdi)).unwrap();
        assert_eq!(fixtures[0].serial, "/dev/ttyUSB0");
        let fixtures = pair(&[probe(None)], &[port("/dev/ttyACM0", None)]).unwrap();
        assert_eq!(fixtures[0].probe, "0483:374b");
        assert_eq!(
            pair_code(&[probe(Some("A"))], &[ftdi, port("/dev/ttyACM9", Some("Z"))]),
            FailureCode::PortMissing
        );
    }
}
