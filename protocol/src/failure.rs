//! Failures of a unit, numbered.
//!
//! The numbers are a compatibility promise: they appear in the station's
//! records, in log records and in `Refused`. A number never changes its meaning
//! and is never used again. Groups: `0x01xx` power and clock, `0x02xx` flash and
//! store, `0x03xx` random numbers, `0x04xx` link and frames, `0x05xx` exchange,
//! `0x06xx` trust and certificates, `0x07xx` boot.

use core::fmt;

use crate::error::Error;

/// Whether doing the same again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// May pass by itself or with a retry.
    Transient,
    /// Needs a person or another input.
    Permanent,
}

macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $persistence:ident, $meaning:literal, $action:literal;)*) => {
        /// A numbered failure of a unit.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u16)]
        pub enum DeviceFailure {
            $(#[doc = concat!($meaning, ". Next: ", $action, ".")] $name = $code,)*
        }

        impl DeviceFailure {
            /// Every failure, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The failure of a number, if this version knows it.
            #[must_use]
            pub const fn from_code(code: u16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// What happened, in one line without a period.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// What to do next, in one line without a period.
            #[must_use]
            pub const fn next_action(self) -> &'static str {
                match self { $(Self::$name => $action,)* }
            }

            /// Whether doing the same again can help.
            #[must_use]
            pub const fn persistence(self) -> Persistence {
                match self { $(Self::$name => Persistence::$persistence,)* }
            }
        }
    };
}

failures! {
    PowerBrownOut = 0x0101, Transient, "the supply fell below the brown-out level", "check the fixture's supply and contacts, then start the unit again";
    ClockFailed = 0x0102, Permanent, "the core clock did not start or lock", "replace the unit's crystal or set the unit aside";
    WatchdogReset = 0x0103, Transient, "the independent watchdog reset the unit", "let it go on; if it repeats, set the unit aside and report the log";

    FlashErase = 0x0201, Permanent, "a sector did not erase", "try once more; then set the unit aside: its flash is worn or protected";
    FlashProgram = 0x0202, Permanent, "a flash word did not take its value", "try once more; then set the unit aside: its flash is worn or protected";
    FlashReadBack = 0x0203, Permanent, "flash reads back other bytes than were written", "try once more; then set the unit aside";
    FlashProtected = 0x0204, Permanent, "the sector is write-protected", "remove the write protection of the key areas, then start over";
    AreaMissing = 0x0205, Permanent, "no key area holds a valid record", "run stage one again";
    AreaInvalid = 0x0206, Transient, "a key area holds a damaged record; the other one is used", "nothing: the unit repairs it with the next update";
    RecordTooLong = 0x0207, Permanent, "a record does not fit the key area's format", "shorten the cloud record";
    SecretSlotsFull = 0x0208, Permanent, "every storage-secret slot is used and none is intact", "erase the boot sectors and run stage one again";
    ProductKeyBlank = 0x0209, Permanent, "the product key in the key area is blank", "run stage one again with a real product key";
    TrustInvalid = 0x020a, Permanent, "neither trust-store sector holds a valid record", "run stage one again";
    UnitIdBlank = 0x020b, Permanent, "the hardware id reads all 00 or all FF", "set the unit aside: the chip is not genuine or not working";

    RngSeed = 0x0301, Transient, "the random number generator reported a seed error", "restart the unit; if it repeats, set it aside";
    RngClock = 0x0302, Permanent, "the random number generator reported a clock error", "set the unit aside: its clock tree is wrong";
    RngRepeated = 0x0303, Permanent, "the random number generator repeated a word", "set the unit aside: no key may be made on it";
    RngTimeout = 0x0304, Transient, "the random number generator gave no word in time", "restart the unit; if it repeats, set it aside";

    LinkOverrun = 0x0401, Transient, "bytes were lost on the serial line", "lower the baud rate or check the cable if it repeats";
    LinkFraming = 0x0402, Transient, "the serial line had framing or noise errors", "check ground, cable and baud rate";
    PacketDropped = 0x0403, Transient, "a serial packet was damaged and dropped", "nothing: the sender repeats it";
    FrameRefused = 0x0404, Transient, "a frame was malformed or of another step", "nothing: the exchange repeats";
    ControlUnknown = 0x0405, Permanent, "a control message of unknown type arrived", "update the older of station and firmware";

    ExchangeNotAuthentic = 0x0501, Transient, "a message was not authentic under the unit's key", "check that the agent holds this order's product key";
    ExchangeFieldWrong = 0x0502, Transient, "an authentic message carried a wrong field", "nothing: the exchange repeats; if it persists, check the agent's version";
    ExchangeRejected = 0x0503, Permanent, "the agent rejected the pending key", "nothing: the unit drops it and asks again";
    ExchangeNacked = 0x0504, Transient, "the agent no longer holds the pending key", "nothing: the unit drops it and asks again";
    ExchangeNoAnswer = 0x0505, Transient, "the agent did not answer", "check the line to the agent; the unit keeps asking";
    ExchangeBusy = 0x0506, Transient, "the agent is busy", "nothing: the unit backs off and asks again";
    ExchangeSuite = 0x0507, Permanent, "the agent offers a weaker suite than the order allows", "use the order's suite";
    ExchangeShareZero = 0x0508, Permanent, "the agent sent an ephemeral key of small order", "treat the line as hostile and alert the vendor";
    ExchangeInternal = 0x0509, Permanent, "the exchange could not build its message", "report the firmware version and the log to the vendor";

    TrustSignature = 0x0601, Permanent, "a signature of the agent or of a certificate is wrong", "check which agent the line is connected to";
    TrustRole = 0x0602, Permanent, "a certificate has the wrong role, issuer or scope", "give the agent the certificate of this order";
    TrustRegion = 0x0603, Permanent, "the agent belongs to another region", "use the agent of the unit's region";
    TrustEpoch = 0x0604, Permanent, "a certificate is of an old root or a revoked epoch", "issue the certificate again";
    TrustExpired = 0x0605, Permanent, "a certificate has expired", "issue the certificate again";
    TrustBundle = 0x0606, Permanent, "a root bundle does not follow the stored one", "send the bundles in order";
    TrustAnchorMissing = 0x0607, Permanent, "no root anchor was flashed at stage one", "run stage one again";

    BootImageInvalid = 0x0701, Permanent, "the firmware's vector table lies outside its slot", "flash the image again";
    BootHardFault = 0x0702, Transient, "the firmware faulted and was reset", "report the log to the vendor if it repeats";
    BootPanic = 0x0703, Transient, "the firmware stopped on an internal error and was reset", "report the log to the vendor";
    BootStackLow = 0x0704, Permanent, "the stack came too close to its limit", "report the firmware version to the vendor";

    CloudAddress = 0x0801, Permanent, "the record names no broker that the unit can reach", "give the product order a cloud with an mqtt:// or mqtts:// address";
    CloudUnreachable = 0x0802, Transient, "the unit's broker cannot be reached", "check the broker and the way to it; the unit keeps trying";
    CloudNotAllowed = 0x0803, Transient, "the bridge does not let the unit reach its broker", "check which cloud the unit's order names";
    CloudLoginRefused = 0x0804, Transient, "the broker does not accept the unit's cloud key", "compare the unit's cloud-key generation with the agent's; the unit keeps trying";
    CloudBroken = 0x0805, Transient, "the session with the broker broke", "nothing: the unit connects again";
}

impl DeviceFailure {
    /// The stable number.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for DeviceFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "E{:04x}: {}; {}", self.code(), self.meaning(), self.next_action())
    }
}

impl core::error::Error for DeviceFailure {}

impl From<Error> for DeviceFailure {
    /// The failure that a refusal amounts to on a unit.
    fn from(error: Error) -> Self {
        match error {
            Error::Length | Error::Header | Error::Unexpected { .. } => Self::FrameRefused,
            Error::AllZeroShare => Self::ExchangeShareZero,
            Error::Tag | Error::Padding => Self::ExchangeNotAuthentic,
            Error::Field(_) => Self::ExchangeFieldWrong,
            Error::Signature | Error::CertSignature => Self::TrustSignature,
            Error::CertLayout | Error::CertRole | Error::CertIssuer | Error::CertScope => Self::TrustRole,
            Error::Region => Self::TrustRegion,
            Error::CertRootEpoch | Error::CertEpoch => Self::TrustEpoch,
            Error::CertExpired => Self::TrustExpired,
            Error::RecordHeader
            | Error::RecordCrc
            | Error::RecordMac
            | Error::CommitBlank
            | Error::CommitTorn
            | Error::Retired => Self::AreaInvalid,
            Error::RecordTlv => Self::RecordTooLong,
            Error::PacketCrc | Error::PacketCobs => Self::PacketDropped,
            Error::BundleLayout
            | Error::BundlePrevHash
            | Error::BundleNextCommit
            | Error::BundleEpoch
            | Error::RevocationOrder
            | Error::Merkle
            | Error::DeploymentSequence => Self::TrustBundle,
            Error::PeerBusy(_) => Self::ExchangeBusy,
            Error::SuiteBelowMinimum => Self::ExchangeSuite,
            Error::Blank => Self::ProductKeyBlank,
            Error::UnknownMessage { .. } => Self::ControlUnknown,
            Error::SignerUnavailable
            | Error::IdentityUnknown
            | Error::CommitMismatch
            | Error::RelayCounter
            | Error::BufferTooSmall => Self::ExchangeInternal,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::BTreeSet;
    use std::string::ToString;

    #[test]
    fn numbers_are_unique_grouped_and_round_trip() {
        let codes: BTreeSet<u16> = DeviceFailure::ALL.iter().map(|f| f.code()).collect();
        assert_eq!(codes.len(), DeviceFailure::ALL.len());
        assert!(DeviceFailure::ALL.is_sorted());
        for failure in DeviceFailure::ALL {
            assert!((0x01..=0x08).contains(&(failure.code() >> 8)), "{failure}");
            assert_ne!(failure.code() & 0xff, 0, "{failure}");
            assert_eq!(DeviceFailure::from_code(failure.code()), Some(*failure));
            for text in [failure.meaning(), failure.next_action()] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{failure}");
            }
            std::println!("{failure}");
        }
        assert_eq!(DeviceFailure::from_code(0), None);
    }

    #[test]
    fn meanings_are_distinct() {
        let texts: BTreeSet<_> = DeviceFailure::ALL.iter().map(ToString::to_string).collect();
        let meanings: BTreeSet<_> = DeviceFailure::ALL.iter().map(|f| f.meaning()).collect();
        assert_eq!(texts.len(), DeviceFailure::ALL.len());
        assert_eq!(meanings.len(), DeviceFailure::ALL.len());
    }
}
