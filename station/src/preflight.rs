//! The preflight: everything that a shift needs, looked at before it begins, each with what to do about it.
//!
//! [`station`] looks at a station as it lies on the disk (`keywright doctor`), [`StationInspector`] at one that runs, before the first
//! board of a batch: the line asks it and starts nothing while a check fails ([`crate::line`]).
//!
//! Invariant: it makes no home, no database and no key, it prints nothing, and it attaches to no board. Opening the database enters a
//! session in it, as every program that opens it does.

use crate::agent::{Agent, EmbeddedAgent};
use crate::backup;
use crate::config::{CloudConfig, CloudKind, Config, Fixture};
use crate::failure::{Failure, FailureCode};
use crate::image::CommonImage;
use crate::label::{LabelDesk, Printer, Sink};
use crate::model::{Batch, LabelPolicy, PoId, ProductOrder};
use crate::records::SqliteRecords;
use crate::station::{self, Options, Preflight};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Less free space than this stops a shift: the records would fill the disk.
const MIN_FREE: u64 = 64 << 20;
/// Less than this is worth a word.
const LOW_FREE: u64 = 1 << 30;
/// A clock before this program was written, or far behind it, is not set.
const EARLIEST_MS: i64 = 1_767_225_600_000; // 2026-01-01
const LATEST_MS: i64 = 4_102_444_800_000; // 2100-01-01
/// How far the clock may stand before the last record: time servers step back a little.
const CLOCK_SLACK_MS: i64 = 2 * 60_000;

/// How long a probe's server, a broker or a printer may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// In order.
    Ok,
    /// Work can begin; look at it.
    Warn,
    /// Work can't begin.
    Fail,
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)*) => {
        /// What a check looks at; its word is stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Name { $($(#[$doc])* $name),* }

        impl Name {
            /// Every name.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }
        }
    };
}

names! {
    /// The home folder is there and can be written.
    Home = "home";
    /// Free space.
    Disk = "disk";
    /// station.toml.
    Config = "config";
    /// The database opens, is sound and takes writes.
    Database = "database";
    /// The passphrase opens it.
    Passphrase = "passphrase";
    /// Root and regions are there.
    Anchors = "anchors";
    /// The signing keys of the regions sign, and no certificate ends soon.
    Signing = "signing";
    /// The common image, whole, and the one of the order.
    Image = "image";
    /// The order's product key may still make units.
    ProductKey = "product-key";
    /// The agent can give the order's stage one and its region's anchors.
    Agent = "agent";
    /// The cloud of the order answers.
    Broker = "broker";
    /// The label printer and its template.
    Label = "label";
    /// Whether the order locks its units.
    Lock = "lock";
    /// Probes and ports are told apart.
    Fixtures = "fixtures";
    /// One fixture's probe.
    Probe = "probe";
    /// One fixture's serial port.
    Port = "port";
    /// There is a backup.
    Backup = "backup";
    /// The PC's clock.
    Clock = "clock";
}

impl Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Always `check`.
    pub event: &'static str,
    /// What was looked at.
    pub name: Name,
    /// How it ended.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What to do; absent when all is well.
    pub remedy: Option<String>,
    /// The fixture (index) that it is about; absent: it is about all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixture: Option<usize>,
    /// The same as a failure, which has a code and is said in every language; absent when all is well.
    #[serde(skip)]
    pub failure: Option<Failure>,
}

impl Check {
    fn ok(name: Name, detail: impl ToString) -> Self {
        let detail = detail.to_string();
        Self { event: "check", name, status: Status::Ok, detail, remedy: None, fixture: None, failure: None }
    }

    /// Not in order: in these words for the command line, by this failure everywhere else.
    fn not_ok(name: Name, status: Status, detail: impl ToString, failure: Failure) -> Self {
        let remedy = Some(failure.remedy.clone());
        Self { status, remedy, failure: Some(failure), ..Self::ok(name, detail) }
    }

    /// In words of its own; `code` says them in other languages.
    fn new(name: Name, status: Status, code: FailureCode, detail: impl ToString, remedy: &str) -> Self {
        let detail = detail.to_string();
        // The code's own remedy, which every language has; this one is for the command line.
        let failure = Failure::new(code, &detail);
        Self { remedy: Some(remedy.to_owned()), ..Self::not_ok(name, status, detail, failure) }
    }

    pub(crate) fn failed(name: Name, failure: &Failure) -> Self {
        let detail = format!("{} ({})", failure.sentence, failure.code);
        Self::not_ok(name, Status::Fail, detail, failure.clone())
    }

    fn of(name: Name, found: Result<String, Failure>) -> Self {
        match found {
            Ok(detail) => Self::ok(name, detail),
            Err(failure) => Self::failed(name, &failure),
        }
    }

    fn at(mut self, fixture: usize) -> Self {
        self.fixture = Some(fixture);
        self
    }

    /// Whether something can't begin because of it.
    pub fn fails(&self) -> bool {
        self.status == Status::Fail
    }

    /// Whether it keeps this fixture from starting.
    pub fn stops(&self, fixture: usize) -> bool {
        self.status == Status::Fail && self.fixture.is_none_or(|f| f == fixture)
    }
}

/// Looks at all of a station as it lies on the disk.
pub fn station(options: &Options) -> Vec<Check> {
    station_with(options, || station::preflight(options))
}

/// The same of a station that may be open here; `preflight` looks at what its passphrase protects.
pub fn station_with(options: &Options, preflight: impl FnOnce() -> Preflight) -> Vec<Check> {
    let home = &options.home;
    let mut checks = vec![writable(home), space(home)];
    let config = options.load_config();
    checks.push(match &config {
        Ok(config) if options.config_path().exists() => Check::ok(
            Name::Config,
            format_args!(
                "{}: station {:?}, {} fixtures",
                options.config_path().display(),
                config.name,
                config.fixtures.len()
            ),
        ),
        Ok(_) => Check::new(
            Name::Config,
            Status::Warn,
            FailureCode::ConfigInvalid,
            format_args!(
                "{} is not there; probes and ports are paired by themselves",
                options.config_path().display()
            ),
            "Run keywright init, or open the window: both write it",
        ),
        Err(failure) => Check::failed(Name::Config, failure),
    });
    let preflight = preflight();
    checks.extend(records(options, &preflight));
    let orders = preflight.orders.as_deref().unwrap_or_default();
    if let Ok(config) = &config {
        checks.push(image(config, orders, &preflight.running));
        let running: Vec<_> = orders.iter().filter(|o| preflight.running.contains(&o.id)).collect();
        checks.extend(running.iter().map(|order| product_key(order)));
        checks.extend(preflight.stage_one.into_iter().map(|found| Check::of(Name::Agent, found)));
        checks.extend(brokers(config, &running));
        checks.extend(printer(config, orders));
        checks.extend(lock(orders));
        checks.extend(fixtures(config));
        checks.push(match newest_backup(options, config) {
            Ok(path) => Check::ok(Name::Backup, path),
            Err(failure) => {
                let detail = failure.sentence.clone();
                Check::not_ok(Name::Backup, Status::Warn, detail, failure)
            }
        });
    }
    checks.push(clock(station::now_ms(), preflight.newest_ms));
    checks
}

/// What the line asks before the first board of a batch.
#[derive(Clone, Debug)]
pub struct Question {
    /// The batch.
    pub batch: Batch,
    /// Its order.
    pub order: ProductOrder,
    /// The fixtures (index) in which nothing runs: the ports of the others are in use, and in order.
    pub idle: Vec<usize>,
}

/// Who looks at the station for the line.
pub trait Inspect: Send + Sync {
    /// Looks at everything that the order needs. May take seconds; the line asks on a thread of its own.
    fn inspect(&self, question: &Question) -> Vec<Check>;
}

/// Looks at what a line knows by itself, without a station around it: image and printer.
#[derive(Debug)]
pub struct BareInspector {
    /// The common image.
    pub image: Option<PathBuf>,
    /// The printer.
    pub labels: LabelDesk,
}

impl Inspect for BareInspector {
    fn inspect(&self, question: &Question) -> Vec<Check> {
        let mut checks = Vec::new();
        if let Some(path) = &self.image {
            checks.push(image_of(path, &question.order));
        }
        checks.extend(desk(&self.labels, &question.order));
        checks
    }
}

/// Looks at a station that runs.
pub struct StationInspector {
    /// Its folder.
    pub home: PathBuf,
    /// Its configuration.
    pub config: Config,
    /// Its records.
    pub records: Arc<SqliteRecords>,
    /// Its agent.
    pub agent: Arc<EmbeddedAgent>,
    /// Its label printer; read again at each look, so that a template that was corrected holds at once.
    pub labels: LabelDesk,
    /// Its fixtures, in the line's order.
    pub fixtures: Vec<Fixture>,
}

impl std::fmt::Debug for StationInspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StationInspector").field("home", &self.home).finish_non_exhaustive()
    }
}

impl Inspect for StationInspector {
    fn inspect(&self, question: &Question) -> Vec<Check> {
        let order = &question.order;
        let mut checks = vec![writable(&self.home), space(&self.home)];
        let written = self.records.check_writable().map_err(station::records_failure);
        checks.push(Check::of(Name::Database, written.map(|()| "takes writes".to_owned())));
        checks.push(match &self.config.image {
            Some(path) => image_of(path, order),
            None => no_image(),
        });
        checks.push(product_key(order));
        checks.push(Check::of(Name::Agent, stage_one(&self.agent, order)));
        checks.push(Check::of(Name::Broker, self.agent.reach(&order.cloud_url)));
        if order.label != LabelPolicy::None {
            self.labels.take_printer(Printer::open(&self.config));
        }
        checks.extend(desk(&self.labels, order));
        checks.extend(lock(std::slice::from_ref(order)));
        for (index, fixture) in self.fixtures.iter().enumerate() {
            if question.idle.contains(&index) {
                // The line's own looks say whether there is a probe; a second look would be in their way.
                checks.push(port(fixture).at(index));
            }
        }
        let newest = self.records.newest_ms().ok().flatten();
        checks.push(clock(station::now_ms(), newest));
        checks
    }
}

fn writable(home: &Path) -> Check {
    let name = Name::Home;
    if !home.is_dir() {
        return Check::new(
            name,
            Status::Fail,
            FailureCode::HomeReadOnly,
            format_args!("{} is not there", home.display()),
            "Run keywright anchors init --region R; it makes the folder. Or name another with --home",
        );
    }
    match tempfile::tempfile_in(home) {
        Ok(_) => Check::ok(name, home.display()),
        Err(e) => Check::new(
            name,
            Status::Fail,
            FailureCode::HomeReadOnly,
            format_args!("{} can't be written: {e}", home.display()),
            FailureCode::HomeReadOnly.remedy(),
        ),
    }
}

fn space(home: &Path) -> Check {
    // The home may not be there yet; its nearest ancestor is on the same disk.
    let Some(free) = home.ancestors().find(|p| p.exists()).and_then(free_bytes) else {
        let detail = "the free space can't be read";
        return Check::new(
            Name::Disk,
            Status::Warn,
            FailureCode::NotChecked,
            detail,
            "Look at the disk yourself",
        );
    };
    space_of(free)
}

fn space_of(free: u64) -> Check {
    let status = match free {
        0..MIN_FREE => Status::Fail,
        MIN_FREE..LOW_FREE => Status::Warn,
        _ => return Check::ok(Name::Disk, format_args!("{} MiB free", free >> 20)),
    };
    let detail = format!("{} MiB free", free >> 20);
    Check::new(Name::Disk, status, FailureCode::DiskFull, detail, FailureCode::DiskFull.remedy())
}

#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

fn records(options: &Options, preflight: &Preflight) -> Vec<Check> {
    let mut checks = Vec::new();
    if !options.has_records() {
        checks.push(Check::new(
            Name::Database,
            Status::Warn,
            FailureCode::RecordsFailed,
            format_args!("{} is not there yet", options.records_path().display()),
            "Run keywright anchors init --region R; the database is made with it",
        ));
    } else {
        checks.push(Check::of(Name::Database, preflight.database.clone()));
    }
    if let Some(passphrase) = &preflight.passphrase {
        checks.push(match passphrase {
            Ok(detail) if options.demo => Check::new(
                Name::Passphrase,
                Status::Warn,
                FailureCode::InvalidInput,
                detail,
                "Fine for trying out; units that leave the house need a station with a passphrase of its own",
            ),
            found => Check::of(Name::Passphrase, found.clone()),
        });
    }
    checks.push(Check::of(Name::Anchors, preflight.anchors.clone()));
    checks.extend(preflight.signing.as_ref().map(|signing| match signing {
        Ok((detail, true)) => Check::new(
            Name::Signing,
            Status::Warn,
            FailureCode::RegionExpired,
            detail,
            "See what ends and what to do: Trust (Ctrl+6), or keywright trust rotation",
        ),
        Ok((detail, false)) => Check::ok(Name::Signing, detail),
        Err(failure) => Check::failed(Name::Signing, failure),
    }));
    checks
}

fn no_image() -> Check {
    Check::new(
        Name::Image,
        Status::Fail,
        FailureCode::ImageMissing,
        "station.toml names no image",
        "Add image = \"…/common-image.json\" under [station]; cargo xtask firmware builds one",
    )
}

/// The image of one order: whole, of its product, and the one that it is bound to.
fn image_of(path: &Path, order: &ProductOrder) -> Check {
    Check::of(
        Name::Image,
        CommonImage::load(path, order).map(|image| {
            format!("{} {} for order {}: {}", image.model, image.version, order.name, path.display())
        }),
    )
}

/// The image belongs to an order; without one only its presence can be looked at.
fn image(config: &Config, orders: &[ProductOrder], running: &[PoId]) -> Check {
    let name = Name::Image;
    let Some(path) = &config.image else { return no_image() };
    let loaded: Vec<_> = orders.iter().map(|o| (o, image_of(path, o))).collect();
    // An order in work that is bound to another image makes no units here.
    let refused = loaded.iter().find(|(order, check)| {
        let code = check.failure.as_ref().map(|f| f.code);
        let bound = matches!(code, Some(FailureCode::ImageChanged | FailureCode::ImageWrongProduct));
        running.contains(&order.id) && bound
    });
    if let Some((_, check)) = refused {
        return Check { status: Status::Warn, ..check.clone() };
    }
    if let Some((_, check)) = loaded.iter().find(|(_, check)| check.status == Status::Ok) {
        return check.clone();
    }
    match loaded.into_iter().next() {
        Some((_, check)) => check,
        None if path.exists() => Check::new(
            name,
            Status::Warn,
            FailureCode::NotChecked,
            format_args!("{} is there; no product order is there to check it against", path.display()),
            "Enter the product order under Batches (Ctrl+3), or with keywright po new",
        ),
        None => Check::new(
            name,
            Status::Fail,
            FailureCode::ImageMissing,
            format_args!("{} is not there", path.display()),
            "Check the path in station.toml, or build the image with cargo xtask firmware",
        ),
    }
}

/// Whether units may still be made under an order's key. A warning if not: units that have their keys go on, and a board that has none
/// is refused before anything is written.
fn product_key(order: &ProductOrder) -> Check {
    match order.key_invalid_at_ms {
        None => Check::ok(Name::ProductKey, format_args!("of order {} may make units", order.name)),
        Some(_) => {
            let failure = Failure::new(FailureCode::ProductKeyInvalid, &order.name);
            Check { status: Status::Warn, ..Check::failed(Name::ProductKey, &failure) }
        }
    }
}

/// Makes what every unit of the order gets first, and throws it away: the product key opens, and the region's anchors are here.
///
/// # Errors
/// `AnchorsMissing`, or why the key does not open.
pub(crate) fn stage_one(agent: &EmbeddedAgent, order: &ProductOrder) -> Result<String, Failure> {
    agent.stage_one_record(order.id)?;
    if !agent.regions().contains(&order.region) {
        let facts = format!("order {} goes to region {}", order.name, order.region);
        return Err(Failure::new(FailureCode::AnchorsMissing, facts));
    }
    Ok(format!("gives units of order {} their keys, and the anchors of region {}", order.name, order.region))
}

/// The clouds of the orders in work, as far as they can be looked at from outside: somebody answers at their address.
fn brokers(config: &Config, orders: &[&ProductOrder]) -> Vec<Check> {
    let wanted = |cloud: &&CloudConfig| orders.iter().any(|o| o.cloud_url == cloud.url);
    let mut checks: Vec<_> =
        config.clouds.iter().filter(wanted).map(|cloud| Check::of(Name::Broker, broker(cloud))).collect();
    let known = |order: &&&ProductOrder| config.clouds.iter().any(|c| c.url == order.cloud_url);
    for order in orders.iter().filter(|o| !known(o)) {
        let facts =
            format!("station.toml names no cloud at {}, where order {} goes", order.cloud_url, order.name);
        checks.push(Check::failed(Name::Broker, &Failure::new(FailureCode::CloudRefused, facts)));
    }
    checks
}

fn broker(cloud: &CloudConfig) -> Result<String, Failure> {
    match &cloud.kind {
        CloudKind::Local { .. } => Ok(format!("cloud {} is inside the station", cloud.name)),
        CloudKind::Mosquitto { host, port, ca, password_file, .. } => {
            for file in ca.iter().chain(std::iter::once(password_file)) {
                std::fs::File::open(file).map_err(|e| {
                    Failure::new(
                        FailureCode::ConfigInvalid,
                        format!("cloud {}, {}: {e}", cloud.name, file.display()),
                    )
                })?;
            }
            let address = format!("{host}:{port}");
            knock(&address).map_err(|e| {
                Failure::new(FailureCode::BrokerUnreachable, format!("cloud {}, {address}: {e}", cloud.name))
            })?;
            Ok(format!("cloud {} answers at {address}", cloud.name))
        }
    }
}

/// Whether somebody answers at an address; it is told nothing.
fn knock(address: &str) -> Result<(), String> {
    Sink::Tcp(address.to_owned()).reach(ANSWER).map_err(|e| e.to_string())
}

/// The label printer, if one is named or wanted; nothing is printed.
fn printer(config: &Config, orders: &[ProductOrder]) -> Option<Check> {
    let wanted = orders.iter().find(|o| o.label != LabelPolicy::None);
    if wanted.is_none() && config.label.is_none() {
        return None;
    }
    Some(label(Printer::open(config), LabelPolicy::Print))
}

/// The printer that the line has, for an order that wants labels.
fn desk(labels: &LabelDesk, order: &ProductOrder) -> Option<Check> {
    (order.label != LabelPolicy::None).then(|| label(labels.printer(), order.label))
}

fn label(printer: Result<Printer, Failure>, policy: LabelPolicy) -> Check {
    let name = Name::Label;
    let printer = match printer {
        Ok(printer) => printer,
        Err(failure) => return Check::failed(name, &failure),
    };
    if let Err(failure) = printer.reach(ANSWER) {
        return Check::failed(name, &failure);
    }
    if printer.has_code() {
        return Check::ok(name, printer.place());
    }
    Check::new(
        name,
        if policy == LabelPolicy::ScanBack { Status::Fail } else { Status::Warn },
        FailureCode::LabelTemplate,
        format_args!("{}; the template has no $code, so its labels can't be read back", printer.place()),
        "Put $code into a square code; assets/label.zpl shows how",
    )
}

/// Units that leave the line open are meant to be trials.
fn lock(orders: &[ProductOrder]) -> Option<Check> {
    let open: Vec<_> = orders.iter().filter(|o| !o.lock).map(|o| o.name.as_str()).collect();
    if orders.is_empty() {
        return None;
    }
    Some(if open.is_empty() {
        Check::ok(
            Name::Lock,
            "units are locked before they pass: read protection level 1, boot sectors write-protected",
        )
    } else {
        Check::new(
            Name::Lock,
            Status::Warn,
            FailureCode::UnitsStayOpen,
            format_args!("units of {} pass with their flash open to any debugger", open.join(", ")),
            FailureCode::UnitsStayOpen.remedy(),
        )
    })
}

/// What `keywright doctor` says about backups.
fn newest_backup(options: &Options, config: &Config) -> Result<String, Failure> {
    let folder = config.backup.folder_of(&options.home);
    let failure = |sentence: String| Failure {
        code: FailureCode::BackupFailed,
        sentence,
        remedy: "Run keywright backup, best to another disk (see [backup] in station.toml)".into(),
    };
    let Some((at_ms, path)) = backup::list(&folder, &config.name).into_iter().next() else {
        return Err(failure(format!("there is no backup of this station in {}", folder.display())));
    };
    let days = (station::now_ms() - at_ms) / 86_400_000;
    if days >= 7 {
        return Err(failure(format!("the newest backup is {days} days old: {}", path.display())));
    }
    Ok(format!("{}", path.display()))
}

#[cfg(feature = "hardware")]
fn fixtures(config: &Config) -> Vec<Check> {
    let fixtures = match station::fixtures(config) {
        Ok(fixtures) => fixtures,
        Err(failure) => return vec![Check::failed(Name::Fixtures, &failure)],
    };
    let list: Vec<_> = fixtures.iter().map(|f| format!("{} = {} + {}", f.name, f.probe, f.serial)).collect();
    let mut checks = vec![Check::ok(Name::Fixtures, list.join("; "))];
    checks.extend(fixtures.iter().enumerate().map(|(i, f)| probe(f).at(i)));
    checks.extend(fixtures.iter().enumerate().map(|(i, f)| port(f).at(i)));
    checks
}

#[cfg(not(feature = "hardware"))]
fn fixtures(_config: &Config) -> Vec<Check> {
    vec![Check::new(
        Name::Fixtures,
        Status::Fail,
        FailureCode::NoProbe,
        "this build of Keywright reaches no probes and no serial ports",
        "Install the build with hardware support",
    )]
}

/// Looks for the probe on the bus, or knocks at its address; no board is attached to.
#[cfg(feature = "hardware")]
fn probe(fixture: &Fixture) -> Check {
    let name = Name::Probe;
    let shown = format!("fixture {}: {}", fixture.name, fixture.probe);
    let mut parts = fixture.probe.splitn(3, ':');
    let (vid, pid, serial) =
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next());
    // A Black Magic Probe over TCP has HOST:PORT where others have a serial number.
    if let Some(address) = serial.filter(|s| s.contains(':')) {
        return if knock(address).is_ok() {
            Check::ok(name, shown)
        } else {
            let remedy = "Start the probe's server (a virtual board: virtual-board), or correct the address";
            let detail = format_args!("{shown}: nobody answers at {address}");
            Check::new(name, Status::Fail, FailureCode::NoProbe, detail, remedy)
        };
    }
    let number = |hex: &str| u16::from_str_radix(hex.split('-').next().unwrap_or_default(), 16).ok();
    let found = crate::hardware::probe::list();
    let is_it = |p: &crate::config::ProbeDescription| {
        Some(p.vid) == number(vid)
            && Some(p.pid) == number(pid)
            && serial.is_none_or(|s| p.serial.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(s)))
    };
    if found.iter().any(is_it) {
        return Check::ok(name, shown);
    }
    let mut check = Check::failed(name, &Failure::new(FailureCode::NoProbe, &shown));
    if !found.is_empty() {
        let there: Vec<_> = found.iter().map(|p| format!("{} ({})", p.selector(), p.product)).collect();
        check.detail = format!("{}; plugged in: {}", check.detail, there.join(", "));
    }
    check
}

/// Opens the port's file as the line will, without changing its settings.
fn port(fixture: &Fixture) -> Check {
    let name = Name::Port;
    let shown = format!("fixture {}: {}", fixture.name, fixture.serial);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // O_NOCTTY: a port must not become this program's terminal; O_NONBLOCK: a modem line must not hold us.
        let flags = rustix::fs::OFlags::NOCTTY.bits() | rustix::fs::OFlags::NONBLOCK.bits();
        let opened = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags as i32)
            .open(&fixture.serial);
        match opened {
            Ok(_) => Check::ok(name, shown),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Check::new(
                name,
                Status::Fail,
                FailureCode::PortMissing,
                format_args!("{shown}: this user may not use it"),
                "Add the user to the port's group (usually dialout), then log in again",
            ),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Check::new(
                name,
                Status::Fail,
                FailureCode::PortMissing,
                format_args!("{shown} is not there"),
                FailureCode::PortMissing.remedy(),
            ),
            Err(e) => Check::new(
                name,
                Status::Fail,
                FailureCode::PortBusy,
                format_args!("{shown}: {e}"),
                "Close the program that holds it",
            ),
        }
    }
    #[cfg(not(unix))]
    Check::new(
        name,
        Status::Warn,
        FailureCode::NotChecked,
        format_args!("{shown} was not looked at"),
        "Start a unit; the line says what is wrong",
    )
}

fn clock(now_ms: i64, newest_ms: Option<i64>) -> Check {
    let name = Name::Clock;
    let shown = crate::export::Stamp(now_ms);
    if !(EARLIEST_MS..LATEST_MS).contains(&now_ms) {
        let remedy = FailureCode::ClockWrong.remedy();
        return Check::new(
            name,
            Status::Fail,
            FailureCode::ClockWrong,
            format_args!("it says {shown}"),
            remedy,
        );
    }
    match newest_ms {
        Some(newest) if newest > now_ms + CLOCK_SLACK_MS => Check::new(
            name,
            Status::Warn,
            FailureCode::ClockWrong,
            format_args!("it says {shown}, but the records know of {}", crate::export::Stamp(newest)),
            "Set the system's clock; the records keep their order, but their times would run backwards",
        ),
        _ => Check::ok(name, shown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_checked_against_the_calendar_and_the_records() {
        let now = 1_795_250_400_000;
        assert_eq!(clock(now, None).status, Status::Ok);
        assert_eq!(clock(now, Some(now + 1000)).status, Status::Ok);
        assert_eq!(clock(now, Some(now + 3_600_000)).status, Status::Warn);
        assert_eq!(clock(0, None).status, Status::Fail);
        assert_eq!(clock(LATEST_MS, None).status, Status::Fail);
    }

    #[test]
    fn space_is_judged_in_three_steps() {
        assert_eq!(space_of(0).status, Status::Fail);
        assert_eq!(space_of(MIN_FREE).status, Status::Warn);
        assert_eq!(space_of(LOW_FREE).status, Status::Ok);
        assert!(space_of(0).remedy.is_some() && space_of(LOW_FREE).remedy.is_none());
    }

    #[test]
    fn a_missing_home_and_a_missing_port_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(writable(folder.path()).status, Status::Ok);
        let gone = writable(&folder.path().join("gone"));
        assert_eq!(gone.status, Status::Fail);
        assert!(gone.remedy.unwrap().contains("anchors init"));
        let path = folder.path().join("ttyX").display().to_string();
        let missing = port(&Fixture { name: "1".into(), probe: "0483:374b".into(), serial: path });
        assert_eq!(missing.status, if cfg!(unix) { Status::Fail } else { Status::Warn });
        assert!(missing.remedy.is_some());
    }
}
