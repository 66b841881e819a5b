//! The command line's words. What they do is in the modules beside this one; what they mean to a script (exit codes,
//! JSON) is in `docs/cli.md`.

use crate::anchors::MAX_DAYS;
use crate::export::{Delimiter, Format};
use crate::model::{LabelPolicy, UnitState};
use crate::people::Role;
use crate::shift::Counted;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  keywright                                        open the window
  keywright init --name line-1 --region 7 --image firmware/common-image.json
                                                   set the station up: passphrase, anchors, image
  keywright po new PO-2026-1 --model KW-GATEWAY-429 --quantity 500 --region 7
  keywright batch new B-0001 --po PO-2026-1 --quantity 100
  keywright doctor                                 what is missing, and what to do
  keywright line run --batch B-0001 --json         one unit on every fixture, events as JSON lines
  keywright export --batch B-0001 --format csv --recipient age1… --out lists/

Exit codes: 0 all pass · 2 usage · 3 some units failed · 4 station fault · 5 refused (rights, quota, batch closed)";

/// A factory station that gives every IoT device its own key. Without a command it opens the window.
#[derive(Debug, Parser)]
#[command(name = "keywright", version, about, after_help = EXAMPLES, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options that every command takes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The station's folder: station.toml, station.db, anchors, exports, logs
    #[arg(long, global = true, value_name = "DIR", env = "KEYWRIGHT_HOME")]
    pub home: Option<PathBuf>,
    /// The configuration, if it is not station.toml in the home folder
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One JSON object per line on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Read the passphrase from this open file descriptor, up to the first newline
    #[arg(long, global = true, value_name = "N")]
    pub passphrase_fd: Option<i32>,
    /// Read the PIN of the token with signing keys from this open file descriptor, up to the first newline
    #[arg(long, global = true, value_name = "N")]
    pub token_pin_fd: Option<i32>,
    /// Use the public demo passphrase: for trying out only, it protects nothing
    #[arg(long, global = true, conflicts_with = "passphrase_fd")]
    pub demo: bool,
    /// Who works here, on a station without people; stands in every record [default: the system's user]
    #[arg(long, global = true, value_name = "NAME", env = "KEYWRIGHT_OPERATOR")]
    pub operator: Option<String>,
    /// Who works here, on a station with people; the PIN is asked for, or comes from --pin-file or KEYWRIGHT_PIN
    #[arg(long, global = true, value_name = "NAME", env = "KEYWRIGHT_PERSON")]
    pub person: Option<String>,
    /// The PIN of --person, the first line of this file
    #[arg(long, global = true, value_name = "FILE", requires = "person")]
    pub pin_file: Option<PathBuf>,
    /// More on standard error: -v what happens, -vv details
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run units through the fixtures
    #[command(subcommand)]
    Line(Line),
    /// Shifts: how they balance, and their end
    #[command(subcommand)]
    Shift(Shift),
    /// Counted lots of units
    #[command(subcommand)]
    Batch(Batch),
    /// Product orders: what the vendor ordered
    #[command(subcommand)]
    Po(Po),
    /// One unit: its history, new keys, re-provisioning
    #[command(subcommand)]
    Unit(Unit),
    /// Labels: try the printer, print a unit's label again, look at what a scanner read
    #[command(subcommand)]
    Label(Label),
    /// What somebody must look at: enrolments that do not add up
    Alarms(Alarms),
    /// Hand out a batch: a signed list of units, and a list with their keys encrypted to its recipients
    Export(Export),
    /// Check the detached signature of an exported file
    Verify(Verify),
    /// Read an exported list back and check every row of it
    ImportCheck(ImportCheck),
    /// The root, the regions and the agent's certificate: make them, give them their next epoch
    #[command(subcommand)]
    Anchors(Anchors),
    /// The chain of trust: who vouches for how many units, where keys live, what rotates when
    #[command(subcommand)]
    Trust(Trust),
    /// The station passphrase in the system's keyring
    #[command(subcommand)]
    Passphrase(Passphrase),
    /// Who works here, and what they may do
    #[command(subcommand)]
    People(People),
    /// What people did, and whether the histories are whole
    #[command(subcommand)]
    Audit(Audit),
    /// Save the whole station to one file; work goes on meanwhile
    Backup(Backup),
    /// Put a backup in the place of a station, or into an empty home
    Restore(Restore),
    /// Set a station up, or complete one: what the guide in the window does, for scripts
    Init(Init),
    /// Check everything that a shift needs, and say what to do
    Doctor,
    /// What came of cutting a unit's power: transition × moment × outcome, measured on this release's firmware
    Matrix,
    /// Open the window with other than its usual settings
    #[cfg(feature = "gui")]
    Window(Window),
    /// The demo's own recipient: its secret half lies beside the exports
    #[command(hide = true)]
    DemoRecipient,
}

/// `keywright line …`
#[derive(Debug, Subcommand)]
pub enum Line {
    /// Start the board in every fixture and wait for all results
    #[command(after_help = "\
A board that is half done goes on from where it stopped. With more units than fixtures, a fixture starts again as soon
as another board lies in it. Ctrl-C cancels at the next safe point; a second Ctrl-C ends the program at once, and the
units go on at their next start.

Examples:
  keywright line run --batch B-0001
  keywright line run --batch B-0001 --count 50 --fixture left --fixture right --json")]
    Run(LineRun),
    /// The fixtures, their probes and their serial ports
    Fixtures,
    /// How fast the line is, how often units pass at once, how long they take, and why they fail
    #[command(after_help = "\
Without a range: the open shift, else the one that ended last. What each figure counts is in docs/shift.md.

Examples:
  keywright line stats
  keywright line stats --batch B-0001 --today --json
  keywright line stats --since 2026-11-26T06:00:00Z --fixture left")]
    Stats(LineStats),
}

/// `keywright line stats`
#[derive(Debug, Args)]
pub struct LineStats {
    /// Only this batch
    #[arg(long, value_name = "B")]
    pub batch: Option<String>,
    /// Only this fixture
    #[arg(long, value_name = "NAME")]
    pub fixture: Option<String>,
    /// What ended from this time on, RFC 3339
    #[arg(long, value_name = "TIME", conflicts_with_all = ["shift", "today", "all"])]
    pub since: Option<jiff::Timestamp>,
    /// What ended before this time, RFC 3339
    #[arg(long, value_name = "TIME", conflicts_with_all = ["shift", "today", "all"])]
    pub until: Option<jiff::Timestamp>,
    /// The shift with this number
    #[arg(long, value_name = "N", conflicts_with_all = ["today", "all"])]
    pub shift: Option<i64>,
    /// Since midnight
    #[arg(long, conflicts_with = "all")]
    pub today: bool,
    /// All there is
    #[arg(long)]
    pub all: bool,
}

/// `keywright shift …`
#[derive(Debug, Subcommand)]
pub enum Shift {
    /// Open a shift before its first start; the first start opens one by itself
    Start,
    /// How a shift stands, or how it ended
    Show {
        /// Its number [default: the open one, else the last]
        number: Option<i64>,
        /// Write its sheet to this file: .csv for a spreadsheet, anything else as text
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Count the trays and end the shift; it can't be opened again
    #[command(after_help = "\
Without --counted the records alone are looked at. What does not balance is named, and then wants a reason.

Examples:
  keywright shift end --counted B-0001=112,5,1
  keywright shift end --counted B-0001=112,4, --reason \"one board is with QA\" --out shift.txt --yes")]
    End {
        /// What lies in the trays of a batch: passed, failed, scrapped; an empty number was not counted
        #[arg(long, value_name = "B=P,F,S", value_parser = counted)]
        counted: Vec<(String, Counted)>,
        /// Why it ends although something does not balance
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
        /// Write its sheet to this file: .csv for a spreadsheet, anything else as text
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Shifts that ended, newest first
    List {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 20)]
        count: u32,
    },
}

fn counted(text: &str) -> Result<(String, Counted), String> {
    let wrong = || format!("expected BATCH=PASSED,FAILED,SCRAPPED such as B-0001=112,5,1, got {text:?}");
    let (batch, numbers) = text.split_once('=').ok_or_else(wrong)?;
    let number = |n: &str| match n.trim() {
        "" => Ok(None),
        n => n.parse().map(Some).map_err(|_| wrong()),
    };
    match numbers.split(',').collect::<Vec<_>>()[..] {
        [passed, failed, scrapped] if !batch.is_empty() => Ok((
            batch.to_owned(),
            Counted { passed: number(passed)?, failed: number(failed)?, scrapped: number(scrapped)? },
        )),
        _ => Err(wrong()),
    }
}

/// `keywright line run`
#[derive(Debug, Args)]
pub struct LineRun {
    /// The batch that the units belong to
    #[arg(long, value_name = "B")]
    pub batch: String,
    /// Units in all [default: one per fixture]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub count: Option<u32>,
    /// Only these fixtures, by name [default: all]
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub fixture: Vec<String>,
}

/// `keywright label …`
#[derive(Debug, Subcommand)]
pub enum Label {
    /// Print a label that is no unit's
    Test,
    /// Print a unit's label, again if it had one; its keys stay as they are
    #[command(after_help = "Example:\n  keywright label print B-0001-00042K --operator Mia")]
    Print {
        /// Its hardware id (24 hex digits) or its serial
        unit: String,
    },
    /// What a scanner read from a label: whose it is; with the unit, whether it is that unit's, and that is written down
    #[command(after_help = "\
With a unit and a code the label is compared with the unit's record, and counts as read back; a label that was printed again has to be.
With a code alone nothing is written down.

Examples:
  keywright label check B-0001-00042K KW1:B-0001-00042K:0123456789ABCDEF:1A2B --operator Mia
  keywright label check KW1:B-0001-00042K:0123456789ABCDEF:1A2B")]
    Check {
        /// The unit that has the label, by hardware id or serial; or the code alone
        #[arg(value_name = "UNIT-or-CODE")]
        unit: String,
        /// The text in the square code
        code: Option<String>,
    },
}

/// `keywright batch …`
#[derive(Debug, Subcommand)]
pub enum Batch {
    /// Open a batch under a product order
    #[command(after_help = "\
A serial pattern has digits, '-', '.', letters without look-alikes, and {n:5} the counter, {c} the check character, {batch},
{yy} {ww} {mm} the day on which the batch is made. Without one serials look like B-0001-00042K. A batch's name stands in them as it is.

Examples:
  keywright batch new B-0001 --po PO-2026-1 --quantity 100
  keywright batch new B-0002 --po PO-2026-1 --quantity 400 --serial-pattern 'KW-{yy}{ww}-{n:5}-{c}' --gray-release 50")]
    New {
        /// Its name, unique on this station
        name: String,
        /// The product order
        #[arg(long)]
        po: String,
        /// Units planned
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        quantity: u32,
        /// How its serials look [default: <batch>-<counter><check>]
        #[arg(long, value_name = "PATTERN", default_value = "", hide_default_value = true)]
        serial_pattern: String,
        /// Wait for the check of a sample after so many passes [default: what station.toml says]
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        gray_release: u32,
    },
    /// Open a batch like another: same order, quantity, serial pattern and gray-release size
    Clone {
        /// The batch to copy
        from: String,
        /// Name of the new one
        #[arg(long)]
        name: String,
        /// Units planned [default: as the other's]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        quantity: Option<u32>,
    },
    /// All batches, newest first
    List,
    /// One batch, its counts and its units
    Show {
        /// Its name
        name: String,
    },
    /// Finish it: no unit starts any more, and the product key enrols none of its units
    Close {
        /// Its name
        name: String,
        /// Why; stands in its timeline
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Let no unit start until it is opened again
    Pause {
        /// Its name
        name: String,
        /// Why; stands in its timeline
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Let units start again; a batch that was closed wants a reason
    #[command(visible_aliases = ["resume", "reopen"])]
    Open {
        /// Its name
        name: String,
        /// Why; stands in its timeline
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// A sample was checked: the gray-release gate opens for as many units again
    Approve {
        /// Its name
        name: String,
        /// What was looked at; stands in its timeline
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        note: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Who decided what about it, and why
    Timeline {
        /// Its name
        name: String,
    },
}

/// `keywright po …`
#[derive(Debug, Subcommand)]
pub enum Po {
    /// Enter a product order and draw its product key
    #[command(
        after_help = "Example:\n  keywright po new PO-2026-1 --model KW-GATEWAY-429 --quantity 500 --region 7"
    )]
    New(PoNew),
    /// Enter an order like another: all but its name, its image, its product key and its batches
    #[command(after_help = "Example:\n  keywright po clone PO-2026-1 --name PO-2026-2 --quantity 250")]
    Clone(PoClone),
    /// All product orders, newest first
    List,
    /// One product order and its batches
    Show {
        /// Its name
        name: String,
    },
    /// Who decided what about it and its batches, and why
    Timeline {
        /// Its name
        name: String,
    },
    /// Take a list of orders, CSV or JSON: all of them or none
    #[command(after_help = "\
The columns are those of docs/formats/orders.sample.csv; empty ones have their usual values. Errors name row and column.

Example:
  keywright po import orders.csv --dry-run")]
    Import {
        /// The list: .json, or CSV with , or ;
        file: PathBuf,
        /// Check it and take nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// The age recipient to which a vendor encrypts product keys for this station
    KeyRecipient,
    /// Say how many enrolments an hour to expect
    Expect {
        /// Its name
        name: String,
        /// More raise an alarm; 0: not said
        #[arg(long, value_name = "N")]
        per_hour: u32,
    },
    /// The product key leaked: make it count for nothing, and set aside what it enrolled
    Invalidate(PoInvalidate),
}

/// `keywright po new`
#[derive(Debug, Args)]
pub struct PoNew {
    /// Its name on paper, at most 16 ASCII characters
    pub name: String,
    /// Device model, at most 16 ASCII characters; the common image must carry the same
    #[arg(long)]
    pub model: String,
    /// Units ordered
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub quantity: u32,
    /// Region that the units go to
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    pub region: u32,
    /// Exchange: 2 hardened, 1 legacy (the paper's own)
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub suite: u8,
    /// Hardware revision
    #[arg(long, default_value = "A")]
    pub hw_revision: String,
    /// Part number on the vendor's papers [default: the model]
    #[arg(long)]
    pub part_number: Option<String>,
    /// The cloud that its units log in at, as station.toml names it
    #[arg(long, value_name = "NAME", default_value = "local")]
    pub cloud: String,
    /// Leave the chips open: no read protection, no write protection of the boot sectors. For trials only
    #[arg(long)]
    pub no_lock: bool,
    /// Enrolments an hour to expect at most: more raise an alarm, because the product key may have leaked [0: not said]
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub per_hour: u32,
    /// What a unit needs of its label before it passes: none, print or print+scan-back
    #[arg(long, value_name = "POLICY", default_value = "none")]
    pub label: LabelPolicy,
    /// Bind it to this image from the start: common-image.json, its folder, or its SHA-256 [default: the first flash binds it]
    #[arg(long, value_name = "FILE-or-HASH")]
    pub image: Option<String>,
    /// The vendor's product key: a file encrypted to what keywright po key-recipient says [default: one is drawn]
    #[arg(long, value_name = "FILE")]
    pub product_key: Option<PathBuf>,
}

/// `keywright po clone`
#[derive(Debug, Args)]
pub struct PoClone {
    /// The order to copy
    pub from: String,
    /// Name of the new one
    #[arg(long)]
    pub name: String,
    /// Units ordered [default: as the other's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub quantity: Option<u32>,
    /// Region that the units go to [default: as the other's]
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    pub region: Option<u32>,
    /// The cloud that its units log in at, as station.toml names it [default: as the other's]
    #[arg(long, value_name = "NAME")]
    pub cloud: Option<String>,
    /// The vendor's product key: a file encrypted to what keywright po key-recipient says [default: one is drawn]
    #[arg(long, value_name = "FILE")]
    pub product_key: Option<PathBuf>,
}

/// `keywright po invalidate`
#[derive(Debug, Args)]
#[command(after_help = "\
A product key is shared by all boards of its order, so one that leaked lets strangers enrol. From this command on the agent answers
nobody under it, the line makes no more units of the order, and every unit that was enrolled since the moment is in quarantine:
no key is issued to it and its cloud lets it in no more. `keywright unit release` lets the good ones back.

Example:
  keywright po invalidate PO-2026-1 --since 2026-11-26T06:00:00Z --reason \"seen on a forum\"")]
pub struct PoInvalidate {
    /// The product order
    pub name: String,
    /// Since when what it enrolled is not trusted, RFC 3339
    #[arg(long, value_name = "TIME")]
    pub since: jiff::Timestamp,
    /// Why; stands in every unit's history
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// `keywright unit …`
#[derive(Debug, Subcommand)]
pub enum Unit {
    /// Search all units: by any part of a serial, by the beginning of a hardware id, batch or RMA number, by failure code and state
    #[command(after_help = "\
What is typed is words, and all of them must fit. A word like K304 is a failure code (of any attempt), one like quarantined a state;
the square code of a label stands for its serial.

Examples:
  keywright unit find 00042
  keywright unit find K304 --batch B-0001
  keywright unit find --state quarantined --limit 500 --json")]
    Find(UnitFind),
    /// What the records know of a unit
    Show {
        /// Its hardware id (24 hex digits) or its serial
        unit: String,
        /// Its traveler: attempts, steps, keys by fingerprint, labels, decisions, RMAs and exports, in the order of time
        #[arg(long)]
        traveler: bool,
        /// Only these lines of the traveler (attempt, step, key, label, decision, rma, export)
        #[arg(long, value_name = "GROUP", value_delimiter = ',', requires = "traveler")]
        only: Vec<crate::traveler::Group>,
        /// The form of a traveler that is saved
        #[arg(long = "as", value_enum, value_name = "FORM", requires = "save")]
        form: Option<crate::traveler::Form>,
        /// Save the traveler as a new file
        #[arg(long, value_name = "FILE", requires = "traveler")]
        save: Option<PathBuf>,
    },
    /// Prove a unit's keys once more, with its login at its cloud; nothing of it is changed
    Retest {
        /// Its hardware id (24 hex digits) or its serial
        unit: String,
        /// Why; stands in its history
        #[arg(long)]
        reason: String,
        /// What else is to be known; stands in its history too
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
        /// The fixture that it lies in
        #[arg(long, value_name = "NAME")]
        fixture: Option<String>,
    },
    /// Ask a unit over its serial port what it says of itself, and compare that with its record
    Compare {
        /// Its hardware id (24 hex digits) or its serial
        unit: String,
        /// The fixture whose serial port it is connected to
        #[arg(long, value_name = "NAME")]
        fixture: Option<String>,
    },
    /// Units that come back from customers, by number
    #[command(subcommand)]
    Rma(UnitRma),
    /// A unit came back: new keys, a new start, or another region
    Reprovision(Reprovision),
    /// Set a unit aside: no key is issued to it, its cloud lets it in no more
    Quarantine(Decision),
    /// Let a unit back out of quarantine
    Release(Decision),
    /// Take a unit out for ever
    Scrap(Decision),
    /// Give the units in the fixtures new keys
    #[command(after_help = "\
The units lie in the fixtures and passed before; their batch may be closed. Each renews its keys under the ones it has, restarts, proves
the new ones, logs in at its cloud with them, and its old keys are tried there: they must be refused. A unit that loses power
on the way keeps a key that works; the next start goes on.

Examples:
  keywright unit rekey --batch B-0001
  keywright unit rekey --batch B-0001 --key cloud --count 400 --group 50 --stop-at-percent 5
  keywright unit rekey --batch B-0001 --below 2 --yes")]
    Rekey {
        /// Which keys
        #[arg(long, value_enum, default_value = "both")]
        key: WhichKey,
        /// Only units whose key is of a generation below this one: a release that was stopped is given again and goes on
        #[arg(long, value_name = "G", value_parser = clap::value_parser!(u32).range(1..))]
        below: Option<u32>,
        /// Tell the units by a message from their cloud, as the agent does in the field, instead of over the serial line
        #[arg(long)]
        by_wake: bool,
        /// Over how many units, and with what care
        #[command(flatten)]
        campaign: Campaign,
    },
    /// Move the units in the fixtures to another cloud
    #[command(after_help = "\
Each unit gets a cloud key for the new cloud, proves that it logs in there, and leaves the old one. Until then both let it in,
so that no failure on the way leaves it outside.

Example:
  keywright unit move --batch B-0001 --cloud plant")]
    Move {
        /// The cloud to go to, as station.toml names it
        #[arg(long, value_name = "NAME")]
        cloud: String,
        /// Over how many units, and with what care
        #[command(flatten)]
        campaign: Campaign,
    },
}

/// `keywright unit find`
#[derive(Debug, Args)]
pub struct UnitFind {
    /// Words that must all fit
    pub text: Vec<String>,
    /// Only of this batch
    #[arg(long, value_name = "NAME")]
    pub batch: Option<String>,
    /// Only units that ever failed with this code
    #[arg(long, value_name = "K304")]
    pub failure: Option<String>,
    /// Only in this state; may be given several times
    #[arg(long, value_name = "STATE")]
    pub state: Vec<UnitState>,
    /// Only with an open RMA
    #[arg(long)]
    pub rma: bool,
    /// So many hits at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=5000))]
    pub limit: u32,
    /// Leave out so many before them
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub from: u32,
}

/// `keywright unit rma`
#[derive(Debug, Subcommand)]
pub enum UnitRma {
    /// A unit came back
    Open {
        /// Its hardware id (24 hex digits) or its serial
        unit: String,
        /// The number under which it came back
        #[arg(long)]
        number: String,
        /// What the customer says of it
        #[arg(long)]
        reason: String,
        /// What else is to be known
        #[arg(long, default_value = "")]
        note: String,
    },
    /// What was found of a unit that came back
    Close {
        /// Its hardware id (24 hex digits) or its serial
        unit: String,
        /// What was found
        #[arg(long)]
        finding: String,
        /// What else is to be known
        #[arg(long, default_value = "")]
        note: String,
    },
}

/// `keywright alarms`
#[derive(Debug, Args)]
pub struct Alarms {
    /// Those that somebody looked at as well
    #[arg(long)]
    pub all: bool,
    /// Somebody looked at this one; it comes back if it happens again
    #[arg(long, value_name = "NUMBER")]
    pub seen: Option<i64>,
}

/// `keywright unit reprovision`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("how").args(["new_keys", "new_start", "move_region", "withdraw"]), after_help = "\
  --new-keys       the unit asks for new keys under those it has; the old ones die when it has shown the new ones. The default
  --new-start      it lost its keys: they die everywhere at once, then the chip is erased, flashed and enrolled again
  --move-region R  as --new-keys, and its anchors become those of region R

The unit lies in the fixture; nothing is done to another one that lies there. A command that was interrupted is given again: it
goes on where it stopped.

Examples:
  keywright unit reprovision B-0001-00042-K --reason \"returned, RMA 88\"
  keywright unit reprovision B-0001-00042-K --new-start --reason \"flash was erased in repair\" --fixture left --yes")]
pub struct Reprovision {
    /// Its hardware id (24 hex digits) or its serial, as a scanner types it
    pub unit: String,
    /// Why; stands in the unit's history
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// New keys, authenticated with the unit's own
    #[arg(long)]
    pub new_keys: bool,
    /// Erase it and enrol it again
    #[arg(long)]
    pub new_start: bool,
    /// New anchors and a new cloud key in this region
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    pub move_region: Option<u32>,
    /// Take an open order back
    #[arg(long)]
    pub withdraw: bool,
    /// Where the unit lies [default: the only fixture]
    #[arg(long, value_name = "NAME")]
    pub fixture: Option<String>,
    /// Give the order only; the unit is worked on later
    #[arg(long)]
    pub order_only: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// A decision about one unit.
#[derive(Debug, Args)]
pub struct Decision {
    /// Its hardware id (24 hex digits) or its serial
    pub unit: String,
    /// Why; stands in the unit's history
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// What else is to be known; stands in the unit's history too
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub note: String,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Which keys an update renews.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum WhichKey {
    /// The agent key.
    Agent,
    /// The cloud key.
    Cloud,
    /// Both, the agent key first.
    Both,
}

/// An update of many units.
#[derive(Debug, Args)]
pub struct Campaign {
    /// The batch that the units belong to
    #[arg(long, value_name = "B")]
    pub batch: String,
    /// Units in all [default: one per fixture]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub count: Option<u32>,
    /// Only these fixtures, by name [default: all]
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub fixture: Vec<String>,
    /// Stop for a check after each group of so many units
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub group: u32,
    /// Do not ask after each group: go on unless too many failed
    #[arg(long)]
    pub yes: bool,
    /// Stop when more than this share of the units so far failed
    #[arg(long, value_name = "P", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub stop_at_percent: u8,
}

/// `keywright export`
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
csv and jsonl are two lists: every unit without keys, and the same with the keys of passed units for the recipients. The other
formats are one file of the passed units. Every file gets a signature (.sig) and a signed receipt (.receipt.json), and stands in
the export log. Files that hold keys are sealed; without a recipient they are refused unless --plain says why.

  --format      what it is for                              holds keys
  csv, jsonl    the canonical rows                          the list with keys
  aws           AWS IoT bulk registration, with a template  no
  azure-hub     Azure IoT Hub devices.txt                   yes
  azure-dps     Azure DPS bulk enrollments, ten a line      yes
  thingsboard   ThingsBoard bulk provisioning               yes
  dynsec        Mosquitto dynamic security commands         yes
  emqx[-json]   EMQX users                                  hashes only
  pskc          RFC 6030 key container                      yes
  jws           signed manifest, JWS array                  no

Examples:
  keywright export --batch B-0001 --recipient age1… --out lists/
  keywright export --batch B-0001 --format dynsec,jws --openpgp vendor.asc --to \"Acme Cloud\" --second Bea
  keywright export --where state=passed --where region=7 --where since=2026-01-01 --format azure-dps --recipient age1…
  keywright export --batch B-0001 --format pskc --password-fd 3 --to \"Acme\" 3< password
  keywright export log --unit B-0001-00042-K
  keywright export revoke 17 --reason \"the vendor's PC was stolen\"
  openssl pkeyutl -verify -pubin -inkey export.pub.pem -rawin -in FILE -sigfile FILE.sig"
)]
pub struct Export {
    /// About what was handed out already
    #[command(subcommand)]
    pub command: Option<ExportCommand>,
    /// Which units, in what
    #[command(flatten)]
    pub new: NewExport,
}

/// What is to be handed out.
#[derive(Debug, Args)]
pub struct NewExport {
    /// The batch; open or closed
    #[arg(long, value_name = "B", required_unless_present_any = ["where_", "again"])]
    pub batch: Option<String>,
    /// Only units with this: state=…, region=…, since=TIME, until=TIME, failed=yes|no; may be given several times
    #[arg(long = "where", id = "where_", value_name = "KEY=VALUE")]
    pub conditions: Vec<String>,
    /// One or several, separated by commas [default: csv]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub format: Vec<Format>,
    /// age recipient (age1…); may be given several times
    #[arg(long, value_name = "R", conflicts_with_all = ["openpgp", "password_fd", "plain"])]
    pub recipient: Vec<String>,
    /// File with one age recipient per line
    #[arg(long, value_name = "FILE", conflicts_with_all = ["openpgp", "password_fd", "plain"])]
    pub recipients_file: Vec<PathBuf>,
    /// File with the recipient's OpenPGP public key; may be given several times
    #[arg(long, value_name = "FILE", conflicts_with_all = ["password_fd", "plain"])]
    pub openpgp: Vec<PathBuf>,
    /// PSKC only: read the password from this open file descriptor, up to the first newline
    #[arg(long, value_name = "N", conflicts_with = "plain")]
    pub password_fd: Option<i32>,
    /// Keys in clear. The reason is recorded
    #[arg(long, requires = "reason")]
    pub plain: bool,
    /// Why keys are handed out in clear
    #[arg(long, value_name = "TEXT", requires = "plain")]
    pub reason: Option<String>,
    /// Who receives it; stands in the receipt and in the log
    #[arg(long, value_name = "NAME")]
    pub to: Option<String>,
    /// Who stands by; stands in the receipt and in the log. On a station with people they give their PIN: KEYWRIGHT_SECOND_PIN, or asked for
    #[arg(long, value_name = "NAME")]
    pub second: Option<String>,
    /// File whose first line is the PIN of --second
    #[arg(long, value_name = "FILE", requires = "second")]
    pub second_pin_file: Option<PathBuf>,
    /// The second person shows a badge in the place of a name and a PIN: KEYWRIGHT_SECOND_BADGE, or asked for
    #[arg(long, conflicts_with = "second")]
    pub second_badge: bool,
    /// Repeat an export of the log: the same units and format as of now; recipients are named anew
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["batch", "where_", "format"])]
    pub again: Option<i64>,
    /// Show the first rows with all secrets hidden; nothing is written or recorded
    #[arg(long)]
    pub preview: bool,
    /// A folder, or a file name for the list (a sealed file gets .age or .gpg behind it) [default: exports in the home]
    #[arg(long, value_name = "FILE-or-DIR")]
    pub out: Option<PathBuf>,
    /// Between CSV fields: , or ;
    #[arg(long, default_value = ",")]
    pub delimiter: Delimiter,
    /// Replace files that exist
    #[arg(long)]
    pub overwrite: bool,
}

/// `keywright export …`
#[derive(Debug, Subcommand)]
pub enum ExportCommand {
    /// Who received which units' keys, and when
    Log {
        /// Only lists of this batch
        #[arg(long, value_name = "B")]
        batch: Option<String>,
        /// Only lists that hold this unit (hardware id or serial)
        #[arg(long, value_name = "UNIT")]
        unit: Option<String>,
        /// Only lists for this recipient (fingerprint, or its beginning)
        #[arg(long, value_name = "FINGERPRINT")]
        recipient: Option<String>,
    },
    /// Mark an export as revoked, and list the units whose live keys its recipient knows: candidates for new keys
    Revoke {
        /// Its number
        export: i64,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// List the units whose live keys the recipient of an export knows
    Exposed {
        /// Its number
        export: i64,
    },
    /// Check a file against its receipt; needs no station
    Verify {
        /// The file
        file: PathBuf,
        /// Its receipt [default: FILE.receipt.json]
        #[arg(long, value_name = "FILE")]
        receipt: Option<PathBuf>,
        /// The signer's public key [default: export.pub.pem beside the file]
        #[arg(long, value_name = "PEM")]
        key: Option<PathBuf>,
    },
}

/// `keywright verify`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keywright verify export-B1-units-20260131.csv --key export.pub.pem")]
pub struct Verify {
    /// The file
    pub file: PathBuf,
    /// The signer's public key, PEM
    #[arg(long, value_name = "PEM")]
    pub key: PathBuf,
    /// The signature [default: FILE.sig]
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
}

/// `keywright import-check`
#[derive(Debug, Args)]
#[command(after_help = "\
Reads canonical CSV (, or ;) and JSON Lines, with LF or CRLF, encrypted or not. One bad row refuses the whole list. With
--format, reads a file of that format on the station that made it and compares every value with the records.

Examples:
  keywright import-check export-B1-keys-20260131.csv.age --key export.pub.pem --identity vendor.key
  keywright import-check devices.txt --key export.pub.pem --format azure-hub")]
pub struct ImportCheck {
    /// The list
    pub file: PathBuf,
    /// The signer's public key, PEM
    #[arg(long, value_name = "PEM")]
    pub key: PathBuf,
    /// A vendor's format: every value is compared with the records of this station
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// PSKC: read the password from this open file descriptor, up to the first newline
    #[arg(long, value_name = "N", requires = "format")]
    pub password_fd: Option<i32>,
    /// age identity file that opens a protected list
    #[arg(long, value_name = "FILE")]
    pub identity: Vec<PathBuf>,
    /// The detached signature [default: FILE.sig, if it exists]
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
}

/// `keywright anchors …`
#[derive(Debug, Subcommand)]
pub enum Anchors {
    /// Make the root, a region and the agent's certificate; on a station that has a root, add the region
    #[command(after_help = "\
A region's number stands in every unit's certificates and stays for ever. With --keys token its keys are made in the token that
station.toml names under [pkcs11] and never leave it: lose the token, and the region needs a new epoch.

Examples:
  keywright anchors init --region 7
  keywright anchors init --region 8 --name Europe --valid-days 3650 --keys token")]
    Init(AnchorsInit),
    /// Give a region its next epoch: new keys and a new certificate; there is no way back
    #[command(after_help = "\
New units get the new epoch at once. Units that hold an earlier one get it with their next cloud key; until then theirs stays good
until it ends. See keywright trust rotation.

Example:
  keywright anchors rotate --region 7 --valid-days 3650 --yes")]
    Rotate {
        /// The region
        #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
        region: u32,
        /// How many days the new certificate is valid [default: without end]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_DAYS)))]
        valid_days: Option<u32>,
        /// Where the new keys live
        #[arg(long, value_enum, default_value_t)]
        keys: Keys,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Call a region by another name; an empty one takes it away
    Name {
        /// The region
        #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
        region: u32,
        /// The name
        name: String,
    },
    /// Fingerprints and validity of what this station holds
    Show,
}

/// `keywright anchors init`
#[derive(Debug, Args)]
pub struct AnchorsInit {
    /// The region
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    pub region: u32,
    /// What people call it
    #[arg(long, value_name = "NAME", default_value = "")]
    pub name: String,
    /// How many days its certificate is valid [default: without end]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_DAYS)))]
    pub valid_days: Option<u32>,
    /// Where its keys live
    #[arg(long, value_enum, default_value_t)]
    pub keys: Keys,
    /// Where the root's signing keys live, on a station that has no root yet
    #[arg(long, value_enum, default_value_t)]
    pub root_keys: Keys,
}

/// Where signing keys live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Keys {
    /// In sealed files in the station's home
    #[default]
    Sealed,
    /// In the token that station.toml names under [pkcs11]
    Token,
}

/// `keywright trust …`
#[derive(Debug, Subcommand)]
pub enum Trust {
    /// Root, regions and every epoch: fingerprint, validity, units that hold it, where its keys live
    Show,
    /// What rotates when, and what to do
    Rotation,
    /// Units under a region's certificate
    #[command(after_help = "\
Example:
  keywright trust units --region 7 --search 2026A00")]
    Units {
        /// The region
        #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
        region: u32,
        /// The epoch [default: the newest]
        #[arg(long, value_name = "N")]
        epoch: Option<u32>,
        /// Of this batch
        #[arg(long, value_name = "BATCH")]
        batch: Option<String>,
        /// Whose serial or hardware id begins so
        #[arg(long, value_name = "TEXT", default_value = "")]
        search: String,
        /// At most this many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
    },
    /// Have every key of a region sign once: token, PIN and keys are there
    Check {
        /// The region [default: every one]
        #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
        region: Option<u32>,
    },
}

/// `keywright backup`
#[derive(Debug, Args)]
#[command(after_help = "\
The file holds station.toml, the anchors, the clouds' ledgers and one consistent copy of the database. Keys in it are sealed
under the passphrase that the station has now: keep that, too. The window and `line run` make backups by themselves, see
[backup] in station.toml.

Examples:
  keywright backup
  keywright backup --to /media/usb
  keywright backup --check /media/usb/backup-line-1-20260131-083000.tar.gz")]
pub struct Backup {
    /// Folder to write to [default: that of station.toml, or backups in the home]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["check", "list"])]
    pub to: Option<PathBuf>,
    /// Read this backup whole and check it, instead of making one; needs no station
    #[arg(long, value_name = "FILE", conflicts_with = "list")]
    pub check: Option<PathBuf>,
    /// List the backups of this station
    #[arg(long)]
    pub list: bool,
}

/// `keywright restore`
#[derive(Debug, Args)]
#[command(after_help = "\
The backup is checked whole before anything is changed. What was in the home is moved to before-restore-<time> in it.
Units that were made or renewed after the backup know more than the restored records: they are refused, raised as alarms and
need an order of QA.

Example:
  keywright restore backups/backup-line-1-20260131-083000.tar.gz --replace")]
pub struct Restore {
    /// The backup
    pub file: PathBuf,
    /// Replace the station that is there
    #[arg(long)]
    pub replace: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// `keywright init`
#[derive(Debug, Args)]
#[command(after_help = "\
It does what is missing and leaves the rest as it is: run it again with more options at any time. A new station asks for a
passphrase twice, or takes it from --passphrase-fd. Every line of output is something that was written.

Examples:
  keywright init --name line-1 --region 7
  keywright init --fixture left,0483:374b:066DFF3,/dev/ttyACM0 --fixture right,0483:374b:0669FF5,/dev/ttyACM1
  keywright init --cloud plant --cloud-url mqtts://broker.example:8883 --cloud-ca plant-ca.pem --cloud-password-file plant.password
  keywright init --image firmware/common-image.json --rehearse")]
pub struct Init {
    /// The station's name, in every record
    #[arg(long)]
    pub name: Option<String>,
    /// What the window speaks
    #[arg(long, value_parser = ["system", "en", "zh-CN"])]
    pub language: Option<String>,
    /// Keep the passphrase in the system's keyring
    #[arg(long)]
    pub keyring: bool,
    /// The first admin; their PIN is asked for, or comes from --new-pin-file or KEYWRIGHT_NEW_PIN
    #[arg(long, value_name = "NAME")]
    pub admin: Option<String>,
    /// The admin's PIN, the first line of this file
    #[arg(long, value_name = "FILE", requires = "admin")]
    pub new_pin_file: Option<PathBuf>,
    /// A fixture: its name, its probe and its serial port; those that are there stay
    #[arg(long, value_name = "NAME,PROBE,PORT", value_parser = parse_fixture)]
    pub fixture: Vec<crate::config::Fixture>,
    /// The region to make keys for [default: 1, if there is none]
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    pub region: Option<u32>,
    /// A Mosquitto broker: its name in station.toml
    #[arg(long, value_name = "NAME", requires = "cloud_url")]
    pub cloud: Option<String>,
    /// Its address, as it stands in the units' records: mqtts://HOST:PORT
    #[arg(long, value_name = "URL", requires = "cloud")]
    pub cloud_url: Option<String>,
    /// Certificates of its CA, PEM
    #[arg(long, value_name = "FILE", requires = "cloud")]
    pub cloud_ca: Option<PathBuf>,
    /// The agent's user name there
    #[arg(long, value_name = "NAME", default_value = "keywright-agent", requires = "cloud")]
    pub cloud_user: String,
    /// The file whose first line is the agent's password there
    #[arg(long, value_name = "FILE", requires = "cloud")]
    pub cloud_password_file: Option<PathBuf>,
    /// Log in at the broker and ask what a start would ask
    #[arg(long, requires = "cloud")]
    pub try_cloud: bool,
    /// The common image: common-image.json or its folder
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// Make one unit for trial on a virtual board, in a home of its own
    #[arg(long)]
    pub rehearse: bool,
}

fn parse_fixture(text: &str) -> Result<crate::config::Fixture, String> {
    let mut parts = text.splitn(3, ',').map(|part| part.trim().to_owned());
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(probe), Some(serial)) if !serial.is_empty() => {
            Ok(crate::config::Fixture { name, probe, serial })
        }
        _ => Err("expected NAME,PROBE,PORT, such as left,0483:374b:066DFF3,/dev/ttyACM0".into()),
    }
}

/// `keywright passphrase …`
#[derive(Debug, Subcommand)]
pub enum Passphrase {
    /// Keep this station's passphrase in the system's keyring
    Store {
        /// Keep the PIN of the token with signing keys instead
        #[arg(long)]
        token_pin: bool,
    },
    /// Take it out of the keyring
    Forget {
        /// Take the token's PIN out instead
        #[arg(long)]
        token_pin: bool,
    },
}

/// `keywright people …`
#[derive(Debug, Subcommand)]
pub enum People {
    /// Add a person; the first one is the admin, and from then on every command wants a person
    #[command(after_help = "\
A technician's PIN has at least 4 characters, every other role's at least 6. It is asked for twice, or it is the first line of
--new-pin-file, or it is in KEYWRIGHT_NEW_PIN. It is never an argument: other users of the PC can read those.

Examples:
  keywright people add \"Ana Petrović\" --role admin
  keywright --person Ana people add Tom --role technician --badge")]
    Add {
        /// The name in every record; it never changes
        name: String,
        /// technician, qa, vendor or admin
        #[arg(long)]
        role: Role,
        /// The new person's PIN, the first line of this file
        #[arg(long, value_name = "FILE")]
        new_pin_file: Option<PathBuf>,
        /// Scan a badge for them
        #[arg(long, conflicts_with = "badge_file")]
        badge: bool,
        /// Their badge, the first line of this file
        #[arg(long, value_name = "FILE")]
        badge_file: Option<PathBuf>,
    },
    /// Everybody, and who is locked out
    List,
    /// Give a person another role; a technician needs a longer PIN with it
    Role {
        /// Whom
        name: String,
        /// technician, qa, vendor or admin
        role: Role,
        /// A new PIN with it, the first line of this file
        #[arg(long, value_name = "FILE")]
        new_pin_file: Option<PathBuf>,
    },
    /// Give a person a new PIN; a lock-out ends with it. Everybody may change their own
    Pin {
        /// Whose
        name: String,
        /// The new PIN, the first line of this file
        #[arg(long, value_name = "FILE")]
        new_pin_file: Option<PathBuf>,
    },
    /// Give a person a badge: it is scanned
    Badge {
        /// Whose
        name: String,
        /// The badge, the first line of this file
        #[arg(long, value_name = "FILE")]
        badge_file: Option<PathBuf>,
        /// Take the badge away
        #[arg(long, conflicts_with = "badge_file")]
        remove: bool,
    },
    /// Switch a person off: they can't log in any more, their records stay
    Deactivate {
        /// Whom
        name: String,
    },
    /// Let a person that was switched off log in again
    Activate {
        /// Whom
        name: String,
    },
    /// End a lock-out after too many wrong PINs
    Unlock {
        /// Whose
        name: String,
    },
    /// Give an admin who can't log in any more a new PIN: for whoever knows the station's passphrase
    #[command(after_help = "\
The last admin forgot the PIN, and nobody is left who could give a new one. This asks for the station's passphrase and for no person.
The passphrase is typed, or comes from --passphrase-fd; the keyring is not asked, nor is --demo enough. A lock-out ends. The audit log
has a row about it (people-recovered), which nobody can take away. Close the window first: it holds the database.

Example:
  keywright people recover \"Ana Petrović\"")]
    Recover {
        /// The admin
        name: String,
        /// The new PIN, the first line of this file
        #[arg(long, value_name = "FILE")]
        new_pin_file: Option<PathBuf>,
    },
}

/// `keywright audit …`
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// What people did, newest first
    List {
        /// Only of people whose name contains this
        #[arg(long, value_name = "TEXT", default_value = "")]
        by: String,
        /// Only actions that contain this
        #[arg(long, value_name = "TEXT", default_value = "")]
        action: String,
        /// Only about batches, orders, units and people whose name contains this
        #[arg(long, value_name = "TEXT", default_value = "")]
        subject: String,
        /// At most so many rows; 0: all
        #[arg(long, value_name = "N", default_value_t = 100)]
        count: u32,
        /// Only rows before this number: the last row of one page gives the next
        #[arg(long, value_name = "ROW", default_value_t = 0, hide_default_value = true)]
        before: u32,
    },
    /// Look at every row of the audit log and of the units' history; says where one does not fit
    Verify,
    /// Write the audit log to a file, signed as lists are
    #[command(after_help = "\
One JSON object per line, oldest first. Beside it: the signature (.sig) and the public key (export.pub.pem).

Examples:
  keywright --person Ana audit export --out audit-2026-11.jsonl
  keywright verify audit-2026-11.jsonl --key export.pub.pem")]
    Export {
        /// The file; it must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// `keywright window`
#[cfg(feature = "gui")]
#[derive(Debug, Default, Args)]
pub struct Window {
    /// light, dark, contrast or system [default: what station.toml says]
    #[arg(long, value_parser = ["system", "light", "dark", "contrast"])]
    pub theme: Option<String>,
    /// Cover the whole screen
    #[arg(long)]
    pub fullscreen: bool,
    /// Width and height in points, such as 1280x720
    #[arg(long, value_parser = size)]
    pub size: Option<[f32; 2]>,
    /// Text size on top of what the window chooses, 0.5 to 3
    #[arg(long, value_name = "F")]
    pub zoom: Option<f32>,
    /// Show the units that come back first, not the line
    #[arg(long)]
    pub units: bool,
    /// Write a picture of the window to this PNG file
    #[arg(long, value_name = "FILE")]
    pub screenshot: Option<PathBuf>,
    /// Close the window when the picture is written
    #[arg(long, requires = "screenshot")]
    pub then_close: bool,
}

#[cfg(feature = "gui")]
fn size(text: &str) -> Result<[f32; 2], String> {
    text.split_once('x')
        .and_then(|(w, h)| Some([w.parse().ok()?, h.parse().ok()?]))
        .filter(|s: &[f32; 2]| s.iter().all(|n| (100.0..=16_384.0).contains(n)))
        .ok_or_else(|| format!("expected WIDTHxHEIGHT such as 1280x720, got {text:?}"))
}
