//! Why something was refused.
//!
//! One enum for the whole crate. The reason is exact so that tests can name it
//! and counters can tell causes apart; on the wire every refusal of an exchange
//! frame is one silent drop (an answer that depended on the reason would be an
//! oracle, PROTOCOL §1 W4).

use core::fmt;

/// The field of an authentic message whose value was not the expected one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldName {
    /// The unit id differs.
    UnitId,
    /// A nonce is not the one that was sent.
    Nonce,
    /// A generation does not match or does not grow.
    Generation,
    /// The key confirmation tag (KCT) does not prove the new key.
    KeyConfirmation,
    /// A byte that must be zero is not.
    Reserved,
    /// A status byte has no meaning here.
    Status,
    /// A hash names another record or frame.
    Hash,
    /// The product order differs.
    ProductOrder,
    /// The station differs from the registered one.
    Station,
    /// The identity key differs from the registered one.
    Identity,
    /// A value is outside what the field can mean (text, count, version).
    Value,
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FieldName::UnitId => "unit id",
            FieldName::Nonce => "nonce",
            FieldName::Generation => "generation",
            FieldName::KeyConfirmation => "key confirmation",
            FieldName::Reserved => "reserved bytes",
            FieldName::Status => "status",
            FieldName::Hash => "hash",
            FieldName::ProductOrder => "product order",
            FieldName::Station => "station",
            FieldName::Identity => "identity key",
            FieldName::Value => "value",
        })
    }
}

/// The reason for a refusal.
///
/// [`Error::reason`] is a stable short word for counters and test vectors;
/// `Display` is a sentence for a person: who erred, and what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A frame, packet, certificate or record has an impossible length.
    Length,
    /// A frame's magic, version or flags are not ours.
    Header,
    /// A frame of another suite, purpose or step than the state waits for.
    Unexpected {
        /// `suite << 8 | type` the state waits for.
        expected: u16,
        /// `suite << 8 | type` that came.
        got: u16,
    },
    /// X25519 gave the all-zero secret (RFC 7748 §6.1): the peer sent a point of small order.
    AllZeroShare,
    /// The HMAC tag is wrong: another key, another exchange or a damaged frame.
    Tag,
    /// PKCS#7 padding is wrong under a valid tag: the sender is defective.
    Padding,
    /// A field of an authentic message is not the expected one.
    Field(FieldName),
    /// An Ed25519 signature is wrong.
    Signature,
    /// The own signer (sealed file, token) did not sign.
    SignerUnavailable,
    /// The registered identity key is needed to check this message and is missing.
    IdentityUnknown,
    /// The certificate's version or reserved bytes are not ours.
    CertLayout,
    /// The certificate has another role than its place needs.
    CertRole,
    /// The certificate's issuer is not its parent's subject.
    CertIssuer,
    /// The certificate is for another product order, unit or model.
    CertScope,
    /// The certificate, or the chain, belongs to another region.
    Region,
    /// The certificate was vouched for by another root.
    CertRootEpoch,
    /// The certificate's own epoch is below the revocation floor.
    CertEpoch,
    /// The certificate ended before the time floor.
    CertExpired,
    /// The parent's signature over the certificate is wrong.
    CertSignature,
    /// A record's header is not ours or names another unit.
    RecordHeader,
    /// A record's header checksum is wrong (torn or never written).
    RecordCrc,
    /// A record's MAC is wrong (torn, tampered or another unit's).
    RecordMac,
    /// A record's TLV list is malformed or not allowed for its kind.
    RecordTlv,
    /// A record was written but never committed.
    CommitBlank,
    /// A record's COMMIT mark is torn: power failed during the commit.
    CommitTorn,
    /// A record was retired.
    Retired,
    /// The record that was committed is not the one this exchange made.
    CommitMismatch,
    /// A serial packet's CRC is wrong.
    PacketCrc,
    /// A serial packet is not valid COBS.
    PacketCobs,
    /// A root bundle's layout is not ours.
    BundleLayout,
    /// A root bundle does not follow the stored one.
    BundlePrevHash,
    /// A root bundle's key is not the one the stored bundle committed to.
    BundleNextCommit,
    /// A root bundle's epoch is not the next one.
    BundleEpoch,
    /// A revocation is for another root or not newer than the stored one.
    RevocationOrder,
    /// A block or tree does not hash to the signed root.
    Merkle,
    /// A deployment's sequence number is not newer than the stored one.
    DeploymentSequence,
    /// A relay envelope's counter did not grow.
    RelayCounter,
    /// The peer answered with an unauthenticated ERR; back off, change nothing.
    PeerBusy(u8),
    /// The suite is below the product order's minimum.
    SuiteBelowMinimum,
    /// A key or identity is all zero or all FF: a blank, never a secret.
    Blank,
    /// The caller's buffer cannot hold the result.
    BufferTooSmall,
    /// A control message's type is unknown.
    UnknownMessage {
        /// The type byte that came.
        got: u8,
    },
}

impl Error {
    /// The stable short word for this refusal, as used by the test vectors and
    /// by counters.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Error::Length => "length",
            Error::Header | Error::Unexpected { .. } | Error::RecordHeader => "header",
            Error::AllZeroShare => "all-zero share",
            Error::Tag => "tag",
            Error::Padding => "padding",
            Error::Field(_) => "field",
            Error::Signature => "signature",
            Error::SignerUnavailable => "signer unavailable",
            Error::IdentityUnknown => "identity unknown",
            Error::CertLayout => "cert layout",
            Error::CertRole => "cert role",
            Error::CertIssuer => "cert issuer",
            Error::CertScope => "cert scope",
            Error::Region => "region",
            Error::CertRootEpoch => "cert root epoch",
            Error::CertEpoch => "cert epoch",
            Error::CertExpired => "cert expired",
            Error::CertSignature => "cert signature",
            Error::RecordCrc | Error::PacketCrc => "crc",
            Error::RecordMac => "mac",
            Error::RecordTlv => "tlv",
            Error::CommitBlank => "commit blank",
            Error::CommitTorn => "commit torn",
            Error::Retired => "retired",
            Error::CommitMismatch => "commit mismatch",
            Error::PacketCobs => "cobs",
            Error::BundleLayout => "bundle layout",
            Error::BundlePrevHash => "bundle prev hash",
            Error::BundleNextCommit => "bundle next commit",
            Error::BundleEpoch => "bundle epoch",
            Error::RevocationOrder => "revocation seq or epoch",
            Error::Merkle => "merkle",
            Error::DeploymentSequence => "seq",
            Error::RelayCounter => "counter",
            Error::PeerBusy(_) => "peer busy",
            Error::SuiteBelowMinimum => "suite below minimum",
            Error::Blank => "blank",
            Error::BufferTooSmall => "buffer too small",
            Error::UnknownMessage { .. } => "unknown message",
        }
    }

    /// One of every variant, for the test that prints them and for documentation.
    pub const ALL: &'static [Error] = &[
        Error::Length,
        Error::Header,
        Error::Unexpected { expected: 0x0212, got: 0x0114 },
        Error::AllZeroShare,
        Error::Tag,
        Error::Padding,
        Error::Field(FieldName::UnitId),
        Error::Field(FieldName::Nonce),
        Error::Field(FieldName::Generation),
        Error::Field(FieldName::KeyConfirmation),
        Error::Field(FieldName::Reserved),
        Error::Field(FieldName::Status),
        Error::Field(FieldName::Hash),
        Error::Field(FieldName::ProductOrder),
        Error::Field(FieldName::Station),
        Error::Field(FieldName::Identity),
        Error::Field(FieldName::Value),
        Error::Signature,
        Error::SignerUnavailable,
        Error::IdentityUnknown,
        Error::CertLayout,
        Error::CertRole,
        Error::CertIssuer,
        Error::CertScope,
        Error::Region,
        Error::CertRootEpoch,
        Error::CertEpoch,
        Error::CertExpired,
        Error::CertSignature,
        Error::RecordHeader,
        Error::RecordCrc,
        Error::RecordMac,
        Error::RecordTlv,
        Error::CommitBlank,
        Error::CommitTorn,
        Error::Retired,
        Error::CommitMismatch,
        Error::PacketCrc,
        Error::PacketCobs,
        Error::BundleLayout,
        Error::BundlePrevHash,
        Error::BundleNextCommit,
        Error::BundleEpoch,
        Error::RevocationOrder,
        Error::Merkle,
        Error::DeploymentSequence,
        Error::RelayCounter,
        Error::PeerBusy(1),
        Error::SuiteBelowMinimum,
        Error::Blank,
        Error::BufferTooSmall,
        Error::UnknownMessage { got: 0x55 },
    ];
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Error::Length => {
                "the peer sent a message of an impossible length; if it repeats, check the line and the peer's version"
            }
            Error::Header => {
                "the peer sent something that is not one of our frames; check that both ends speak protocol version 1"
            }
            Error::Unexpected { expected, got } => {
                return write!(
                    f,
                    "the peer sent suite {} type 0x{:02x} while suite {} type 0x{:02x} was expected; it is at another step: let the exchange repeat",
                    got >> 8,
                    got & 0xff,
                    expected >> 8,
                    expected & 0xff
                );
            }
            Error::AllZeroShare => {
                "the peer sent an ephemeral key of small order; refuse it and treat the peer as hostile"
            }
            Error::Tag => {
                "the message is not authentic under the expected key; if it repeats, check that unit and agent hold the same product key"
            }
            Error::Padding => {
                "the peer made an authentic message with wrong padding; its implementation is defective"
            }
            Error::Field(name) => {
                return write!(
                    f,
                    "the peer sent an authentic message with a wrong {name}; it belongs to another exchange or its implementation is defective"
                );
            }
            Error::Signature => {
                "a signature is wrong; the sender does not hold the key it claims: do not trust it"
            }
            Error::SignerUnavailable => {
                "our own signing key did not sign; unlock or plug in the key store and try again"
            }
            Error::IdentityUnknown => {
                "no identity key is registered for this unit; enrol it before it updates its cloud key"
            }
            Error::CertLayout => "the certificate is not in our format; issue it again with this version",
            Error::CertRole => "the certificate was issued for another role; present the one for this role",
            Error::CertIssuer => {
                "the certificate was not issued by the presented region; present the matching chain"
            }
            Error::CertScope => {
                "the certificate is for another product order, unit or model; present the right one"
            }
            Error::Region => {
                "the certificate belongs to another region than the unit; use that region's agent"
            }
            Error::CertRootEpoch => {
                "the certificate was vouched for by another root; issue it under the current root or bring the unit the missing bundles"
            }
            Error::CertEpoch => "the certificate's epoch is revoked; issue a new one with a higher epoch",
            Error::CertExpired => "the certificate has expired; issue a new one",
            Error::CertSignature => "the certificate is not signed by its issuer; do not trust its owner",
            Error::RecordHeader => {
                "the record's header is not ours or names another unit; the area was copied or is damaged"
            }
            Error::RecordCrc => {
                "the record's header is damaged; power failed while it was written: use the other area"
            }
            Error::RecordMac => "the record is damaged or was tampered with; use the other area",
            Error::RecordTlv => {
                "the record's contents break its format; the writer is defective: write it again"
            }
            Error::CommitBlank => "the record was never committed; write it again",
            Error::CommitTorn => "power failed during the commit; the record does not count: write it again",
            Error::Retired => "the record was retired; use the other area",
            Error::CommitMismatch => {
                "the caller presented the commit of another record; commit the record of this exchange"
            }
            Error::PacketCrc => {
                "a serial packet was damaged on the line and dropped; check wiring and baud rate if it repeats"
            }
            Error::PacketCobs => {
                "a serial packet was cut or garbled and dropped; check wiring and baud rate if it repeats"
            }
            Error::BundleLayout => "the root bundle is not in our format; fetch it again",
            Error::BundlePrevHash => {
                "the root bundle does not follow the stored one; fetch the bundles in between"
            }
            Error::BundleNextCommit => {
                "the root bundle's key is not the one committed to; refuse it and alert the vendor"
            }
            Error::BundleEpoch => "the root bundle is not the next one; fetch the bundles in order",
            Error::RevocationOrder => "the revocation is old or for another root; fetch the current one",
            Error::Merkle => "the block does not belong to the signed image; fetch it again",
            Error::DeploymentSequence => "the deployment is older than the installed one; nothing to do",
            Error::RelayCounter => "the station repeated a relay counter; it must never reuse one",
            Error::PeerBusy(reason) => {
                return write!(f, "the peer is busy (ERR reason {reason}); back off and ask again");
            }
            Error::SuiteBelowMinimum => {
                "the suite is below the product order's minimum; use the order's suite"
            }
            Error::Blank => "a key or identity is all zero or all FF; it was never programmed: start over",
            Error::BufferTooSmall => {
                "our own buffer is too small for this message; raise it to the documented maximum"
            }
            Error::UnknownMessage { got } => {
                return write!(
                    f,
                    "the peer sent control message type 0x{got:02x}, which this version does not know; update the older end"
                );
            }
        };
        f.write_str(text)
    }
}

impl core::error::Error for Error {}
