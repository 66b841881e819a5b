//! Failures as people on the line read them: a stable code, one plain sentence, what to do next.
//!
//! The compatibility promise: a code never changes its meaning and is never reused.

use crate::model::Outcome;
use serde::{Deserialize, Serialize};

/// One failure of one attempt or command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable code.
    pub code: FailureCode,
    /// One plain sentence: who erred, with the facts.
    pub sentence: String,
    /// What to do next.
    pub remedy: String,
}

impl Failure {
    /// A failure with the code's own sentence and remedy, and the facts appended.
    pub fn new(code: FailureCode, facts: impl std::fmt::Display) -> Self {
        let facts = facts.to_string();
        let sentence = if facts.is_empty() {
            code.sentence().to_string()
        } else {
            format!("{}: {facts}", code.sentence())
        };
        Self { code, sentence, remedy: code.remedy().to_string() }
    }

    /// The outcome it gives an attempt.
    pub fn outcome(&self) -> Outcome {
        self.code.outcome()
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}. {}.", self.code, self.sentence, self.remedy)
    }
}

impl std::error::Error for Failure {}

macro_rules! failure_codes {
    ($( $(#[$doc:meta])* $name:ident = $number:literal, $outcome:ident, $permanence:ident, $sentence:literal, $remedy:literal; )*) => {
        /// Every failure the station can name. `Kxxx`: 1 probe and chip, 2 image and flash, 3 serial and device,
        /// 4 exchange and agent, 5 proof, 6 records, 7 configuration, 8 operator, 9 labels.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum FailureCode { $( #[doc = $sentence] $(#[$doc])* $name = $number, )* }

        impl FailureCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
            /// Its number.
            pub const fn number(self) -> u16 { self as u16 }
            /// The plain sentence, without a trailing period.
            pub const fn sentence(self) -> &'static str { match self { $(Self::$name => $sentence),* } }
            /// What to do next, without a trailing period.
            pub const fn remedy(self) -> &'static str { match self { $(Self::$name => $remedy),* } }
            /// The outcome of an attempt that ends with it.
            pub const fn outcome(self) -> Outcome { match self { $(Self::$name => Outcome::$outcome),* } }
            /// Whether the same unit may simply be tried again.
            pub const fn is_permanent(self) -> bool { match self { $(Self::$name => permanence!($permanence)),* } }
        }
    };
}
macro_rules! permanence {
    (permanent) => {
        true
    };
    (retry) => {
        false
    };
}

failure_codes! {
    NoProbe = 101, Error, retry, "No debug probe found", "Plug the probe in and check its USB cable";
    ProbeBusy = 102, Error, retry, "The debug probe is in use by another program", "Close the other program, then try again";
    ProbeLost = 103, Error, retry, "The debug probe stopped answering", "Check the probe's cable, then try again";
    AmbiguousProbes = 104, Error, permanent, "Two probes look the same, so the fixture can't be told apart", "Name each fixture's probe and port in station.toml";
    NoTarget = 105, Fail, retry, "No chip answers on SWD", "Seat the board in the fixture and check its power";
    WrongChip = 106, Fail, permanent, "This is not the chip the product order names", "Put the board aside; check that it belongs to this batch";
    ReadProtected = 107, Fail, permanent, "The chip is read-protected, so somebody locked it before", "Hand the board to QA for re-provisioning";
    UidMismatch = 108, Fail, permanent, "The id on the wire is not the id of the chip in the fixture", "Two cables are swapped: check which serial port belongs to this fixture";
    BlankIdentity = 109, Fail, permanent, "The chip has no usable id (all zero or all FF)", "Put the board aside as defective";
    UnitSwapped = 110, Error, retry, "Another board is in the fixture than the one that started", "Put the first board back or start the new one by itself";
    ForeignKeys = 111, Fail, permanent, "The chip carries keys that this station did not issue", "Hand the board to QA; it may belong to another station or order";
    KeysGone = 112, Fail, permanent, "The unit passed before, but its keys are no longer on the chip", "Hand it to QA for re-provisioning";
    LockFailed = 113, Fail, retry, "The chip did not take its lock", "Try once more; if it happens again put the board aside";
    OptionBytesRefused = 114, Error, permanent, "The station does not set such option bytes", "Put the board aside; send this message to the vendor";
    PowerNeeded = 115, Timeout, retry, "The unit is locked and a debugger has looked at it, so it stands still until its power was off", "Start it again; when it asks, take the board's power away and give it back";

    ImageMissing = 201, Error, permanent, "The common image can't be read", "Check the path in station.toml or build it again";
    ImageWrongProduct = 202, Error, permanent, "The common image belongs to another product", "Choose the image of this product order";
    ImageTruncated = 203, Error, permanent, "The common image is incomplete or altered", "Copy it again from the release";
    ImageBadVector = 204, Error, permanent, "The image's vector table points outside its slot", "Take the image as it was released; this one can't start";
    ImageChanged = 205, Error, permanent, "The common image is not the one this product order began with", "Use the first image or open a new product order";
    FlashFailed = 206, Fail, retry, "The chip refused to erase or program", "Try once more; if it happens again put the board aside";
    VerifyFailed = 207, Fail, retry, "The flash reads back differently from what was written", "Try once more; if it happens again put the board aside";
    BoardUnplugged = 208, Error, retry, "The board or its power went away", "Seat the board again and start it; it resumes by itself";

    PortMissing = 301, Error, retry, "The serial port is not there", "Check the cable and the port's name in station.toml";
    PortBusy = 302, Error, retry, "The serial port is in use", "Close the program that holds it, then try again";
    PortLost = 303, Error, retry, "The serial port vanished while in use", "Check the cable, then start the unit again; it resumes";
    DeviceSilent = 304, Timeout, retry, "The board does not answer on its serial port", "Check the serial wiring (TX/RX), then try again";
    DeviceBabbles = 305, Fail, retry, "The board sends bytes that make no sense", "Check baud rate and ground wire; flash it again";
    ProtocolVersion = 306, Fail, permanent, "The board speaks another protocol version", "Use the station release that matches this firmware";
    DeviceReported = 307, Fail, retry, "The board reported a failure", "Follow the code's entry in the user guide";

    ExchangeTimeout = 401, Timeout, retry, "The key exchange did not finish in time", "Start the unit again; it resumes where it stopped";
    ProductKeyUnknown = 402, Error, permanent, "The agent does not know this product key", "Check that the product order was imported on this agent";
    QuotaReached = 403, Error, permanent, "The batch already has all the units it was planned for", "Close the batch or raise its quantity with the vendor";
    AlreadyEnrolled = 404, Fail, permanent, "The agent has already given this unit its keys", "Hand it to QA for re-provisioning";
    AgentRefused = 405, Fail, permanent, "The agent refused the unit", "Hand it to QA with this code";
    CloudRefused = 406, Error, retry, "The cloud refused the unit or this station", "Do what the message says about the broker, then try again";
    AnchorsMissing = 407, Error, permanent, "The region's signing keys are not on this station", "Make or import the region under Trust (Ctrl+6), or run keywright anchors init";

    BridgeRefused = 408, Fail, permanent, "The unit asks for another broker than its own", "Hand it to QA with this code: its record and the station's do not agree";
    OldKeyAccepted = 409, Error, retry, "A key that was replaced still opens the cloud", "Check the broker's accounts, then try again; do not ship the unit";

    EnrolmentEnded = 411, Error, permanent, "The unit's batch is closed, so its product key enrols no unit any more", "Open the batch again with a reason, or put the board into another batch";
    ProductKeyInvalid = 410, Error, permanent, "The order's product key was made invalid", "Ask the vendor for a new product order; nothing more is made under this one";

    ProofFailed = 501, Fail, permanent, "The unit can't prove the keys that were issued to it", "Put it aside; hand it to QA";
    BlankKey = 502, Fail, permanent, "A key reads all zero or all FF", "Put the unit aside; hand it to QA";

    CloudSilent = 503, Timeout, retry, "The unit did not log in at its cloud", "Try again; if it happens again check its broker, and that the order's cloud is the right one";
    CloudKeyRefused = 504, Fail, permanent, "The cloud does not accept the unit's key", "Put the unit aside; hand it to QA";
    BrokerUnreachable = 505, Error, retry, "The station can't reach the unit's broker", "Check that the broker runs and that the network is up, then try again";

    BatchClosed = 601, Error, permanent, "The batch does not take units", "Open it again or choose another batch";
    OtherBatch = 602, Fail, permanent, "This unit belongs to another batch", "Put it back into its own batch";
    Quarantined = 603, Fail, permanent, "This unit is in quarantine", "Hand it to QA";
    Scrapped = 604, Fail, permanent, "This unit was scrapped", "Take it out of the line";
    RecordsFailed = 605, Error, retry, "The station can't write its records", "Do what the message says, then start the unit again; nothing was lost";
    NameTaken = 606, Error, permanent, "That name is already used", "Choose another name";
    StationStopped = 607, Aborted, retry, "The station stopped while this unit was in work", "Start the unit again; it resumes where it stopped";
    InvalidInput = 608, Error, permanent, "That value can't be used", "Correct it and try again";
    ExportIo = 609, Error, retry, "An export file can't be read or written", "Check the folder, its rights and its free space, then export again";
    ExportUnreadable = 610, Error, permanent, "The list can't be opened", "Use the secret key of one of its recipients, or ask for the file again";
    ExportForged = 611, Error, permanent, "The list is not as it was signed", "Do not use it; ask the sender for it again";
    WrongPassphrase = 612, Error, retry, "The passphrase does not open this station", "Type it again, or store the right one with keywright passphrase store";
    SecretsFailed = 613, Error, permanent, "The station's secrets can't be opened", "Do what the message says; if a file is damaged, restore it from a backup";

    NothingToRenew = 614, Fail, permanent, "The unit has no keys that could be renewed", "Run it through its batch first; if it passed before, hand it to QA";
    UpdateRefused = 615, Fail, retry, "The unit does not start an update", "Try again in a minute; if it happens again hand it to QA";
    TooManyFailed = 616, Error, permanent, "Too many units failed, so the release was stopped", "Find out why the failed units failed, then start the release again: it goes on where it stopped";

    HistoryBroken = 620, Error, permanent, "The history was changed behind the station's back", "Keep the files as they are, restore the last backup, and find out who had access to this PC";

    OtherUnit = 617, Fail, retry, "Another unit lies in the fixture than the one that was ordered", "Put the right unit in, then start it again";

    BackupFailed = 640, Error, retry, "The backup can't be made", "Do what the message says, then run keywright backup again; the station's own files are as they were";
    RestoreRefused = 641, Error, permanent, "That backup can't be restored", "Take another backup; nothing of this station was changed";

    PracticeBoardMissing = 680, Error, retry, "There is no virtual board to rehearse with", "Put the program virtual-board beside keywright, or name it in the settings; docs/virtual-board.md says how it is made";
    RehearsalFailed = 681, Error, retry, "The rehearsal can't be run", "Do what the message says, then rehearse again; the station's own records are not touched by it";
    FileExists = 683, Error, permanent, "A file of that name is there already", "Move it away, or choose another folder or another name";
    NothingToExport = 684, Error, permanent, "No unit that was chosen can stand in the file", "Choose other units, or export when some of them have passed";
    SecondPerson = 685, Error, permanent, "Two people hand out keys", "Let a second person who works here show a PIN or a badge; it can't be the operator";
    NotSetUp = 682, Error, retry, "The station is not set up so far", "Do the earlier steps first: open the window, or run keywright init";
    ShiftBusy = 651, Error, retry, "Units are still in work", "Wait until the fixtures that the message names are done, or cancel them, then end the shift";
    NoShift = 652, Error, permanent, "That shift is not open", "Look at the open one again; if there is none, the next start opens it";
    ShiftDiffers = 653, Error, permanent, "The shift does not balance", "Look for what the message names; what can't be found needs a reason";
    TokenModule = 670, Error, permanent, "The PKCS#11 module can't be used", "Install the token's software, or correct module under [pkcs11] in station.toml";
    TokenAbsent = 671, Error, retry, "The token with the signing keys is not there", "Plug the token in, or correct token under [pkcs11] in station.toml, then try again";
    TokenPinMissing = 672, Error, retry, "Nobody gave the PIN of the token", "Give it with --token-pin-fd N or KEYWRIGHT_TOKEN_PIN, or keep it with keywright passphrase store --token-pin";
    TokenPinWrong = 673, Error, permanent, "The PIN is not the token's", "Give the right PIN yourself before anything tries again: the token counts wrong ones";
    TokenLocked = 674, Error, permanent, "The token has locked its PIN", "Have its security officer unlock it with the tool that came with it; no key is lost";
    TokenMechanism = 675, Error, permanent, "The token can't make or use such keys", "Take a token that does Ed25519 and HMAC-SHA-256, or keep the region's keys in a sealed file";
    TokenKeyMissing = 676, Error, permanent, "The signing key is not in the token", "Plug in the token that the region was made in; if it is lost, give the region a new epoch";
    TokenFailed = 677, Error, retry, "The token does not do what it should", "Unplug it and plug it in again; if it happens again ask its maker with this message";
    TokenNotConfigured = 678, Error, permanent, "This station does not know the token with the signing keys", "Name module and token under [pkcs11] in station.toml; docs/trust.md shows how";
    RegionExpired = 679, Error, permanent, "The region's certificate has ended", "Give the region a new epoch under Trust (Ctrl+6), or with keywright anchors rotate --region R";
    RmaOpen = 660, Error, permanent, "The unit is open under an RMA number already", "Close that one with what was found, then take the unit back again";
    NoRma = 661, Error, permanent, "No RMA is open for the unit", "Open one with keywright unit rma open, or in the Units view";
    RetestRefused = 662, Fail, permanent, "The unit can't be retested as it is", "Do what the message says first, then retest it";
    UnitDiffers = 663, Fail, permanent, "The unit does not report what its record says", "Look at the fields that differ; retest it, and if it fails hand it to QA";

    ConfigInvalid = 701, Error, permanent, "The configuration can't be used", "Correct station.toml where the message points";
    NoBatch = 702, Error, permanent, "No batch is chosen", "Choose the batch that the units belong to, then start again";
    SampleDue = 703, Error, permanent, "The batch waits for the check of a sample", "Look at the units that are named, then approve the sample or stop the batch";
    StationFault = 704, Error, retry, "The station's own program failed", "Start the unit again; if it happens again send the log to the vendor";

    DiskFull = 705, Error, retry, "The disk of the station's folder is nearly full", "Free some space on the disk of the home folder";
    ClockWrong = 706, Error, retry, "The PC's clock can't be right", "Set the system's clock";
    HomeReadOnly = 707, Error, retry, "The station's folder can't be written", "Give this user write access to the folder and everything in it";
    UnitsStayOpen = 708, Error, permanent, "Units of this order pass with their flash open to any debugger", "Enter a new product order without --no-lock for units that leave the house";
    NotChecked = 709, Error, retry, "Something could not be looked at before the start", "Look at it yourself, then check again";
    BoardLifted = 710, Error, retry, "The board does not lie in its fixture", "Put the board back, then scan its label again";

    SerialsSpent = 618, Error, permanent, "The batch's serials are used up", "Close the batch; make one whose serial pattern has more digits";
    Cancelled = 801, Aborted, retry, "The operator cancelled", "Start the unit again when ready";
    NotAllowed = 810, Error, permanent, "This person may not do that", "Ask somebody who may";
    LoginNeeded = 811, Error, retry, "Nobody is logged in", "Say who works here: --person NAME and the PIN, or log in at the window";
    LoginFailed = 812, Error, retry, "Name, PIN or badge is wrong", "Try again; an admin gives a new PIN under People, or with keywright people pin NAME";
    LockedOut = 813, Error, retry, "Too many wrong tries", "Wait, or ask an admin to unlock you under People, or with keywright people unlock NAME";

    LabelTemplate = 901, Error, permanent, "The label's template can't be used", "Correct the template where the message points";
    PrinterMissing = 902, Error, permanent, "The order wants labels and the station has no label printer", "Write a [label] table into station.toml; docs/labels.md shows one";
    PrintFailed = 903, Error, retry, "The label was not printed", "See to the printer, then start the unit again; it prints only, its keys stay";
    ScanMissing = 904, Timeout, retry, "Nobody read the label back", "Start the unit again and scan its label when it asks";
    LabelMismatch = 905, Fail, retry, "The label that was read is not this unit's", "Take that label off, stick the unit's own on and start it again; print a new one if it is lost";
    LabelUnreadable = 906, Error, retry, "That is no code of a label", "Scan the square code again; check that the scanner types English";
}

impl std::fmt::Display for FailureCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "K{:03}", self.number())
    }
}
