//! The key-area record (PROTOCOL §5) and the cloud record inside U3.
//!
//! ```text
//!   0 "KREC" | 4 fmt=1 | 5 kind | 6 u16 hdr_len=112 | 8 u32 generation | 12 u32 payload_len
//!  16 UID12 | 28 u32 prev_generation | 32 N2_16 | 48 TH2_32 | 80 reserved 28 × 00
//! 108 u32 CRC-32/ISO-HDLC over bytes 0..107
//! 112 payload, then FF to a multiple of 16
//!   e MAC32 | e+32 COMMIT16 | e+48 CONFIRM16 | e+64 RETIRE16      e = 112 + ceil16(payload_len)
//! ```
//!
//! Invariants of the format (the store's own are in PROTOCOL §5, I1–I10):
//! - A record is a whole snapshot; an update copies what it does not change.
//! - Every mark is 16 bytes that follow from the MAC, so a mark cannot be made
//!   for a record that was not written whole, nor moved to another one.
//! - Writing order: erase → header, payload, MAC → read back → COMMIT → read
//!   back. Nothing is sent under a key before [`Committed`] exists for it, and
//!   only a read record with an exact COMMIT mark yields one.
//! - A mark is set only if exact; a torn COMMIT is no commit, a torn CONFIRM or
//!   RETIRE counts as unset and is programmed again.

use core::fmt;

use crate::cert::{CERT_LEN, Cert, Trust, Verified};
use crate::crypto::{self, Hash};
use crate::error::{Error, FieldName};
use crate::exchange::{Content, Received};
use crate::frame::{MAX_CLOUD_RECORD, Purpose, Suite};
use crate::ids::{Generation, ProductOrder, Region, UnitId};
use crate::keys::{AgentKey, CloudKey, ProductKey, PublicKey, StorageSecret, StoreKey};
use crate::schedule::{self, KeyContext};
use crate::serial;
use crate::wire::{Reader, Writer};

/// Length of a record's header.
pub const HEADER_LEN: usize = 112;
/// Length of a mark.
pub const MARK_LEN: usize = 16;
/// MAC and three marks behind the payload.
const TRAILER_LEN: usize = 32 + 3 * MARK_LEN;
const MAGIC: &[u8; 4] = b"KREC";

const fn ceil16(len: usize) -> usize {
    len.div_ceil(16) * 16
}

/// The longest payload: a cloud record of the greatest length, the agent key,
/// the order and the confirmation to send.
pub const MAX_PAYLOAD: usize = MAX_CLOUD_RECORD + (3 + 36) + (3 + ORDER_LEN) + (3 + CONFIRMATION_LEN);
/// The longest record in flash, marks included.
pub const MAX_RECORD: usize = HEADER_LEN + ceil16(MAX_PAYLOAD) + TRAILER_LEN;

const ORDER_LEN: usize = 21;
const CONFIRMATION_LEN: usize = 51;

/// What a record holds. The numbers are stored: they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Written by the station at stage one; the same for the whole batch.
    ProductKey = 1,
    /// An agent key, no cloud key yet.
    AgentKey = 2,
    /// Agent key and cloud key.
    AgentAndCloud = 3,
    /// The trust store.
    Trust = 5,
    /// The boot journal.
    Boot = 6,
}

impl Kind {
    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::ProductKey),
            2 => Some(Self::AgentKey),
            3 => Some(Self::AgentAndCloud),
            5 => Some(Self::Trust),
            6 => Some(Self::Boot),
            _ => None,
        }
    }

    /// TLV types a record of this kind may hold, as a bit set.
    const fn allowed(self) -> u16 {
        const fn set(types: &[u8]) -> u16 {
            let mut bits = 0;
            let mut i = 0;
            while i < types.len() {
                #[allow(clippy::indexing_slicing, reason = "evaluated at compile time only")]
                let t = types[i];
                bits |= 1 << t;
                i += 1;
            }
            bits
        }
        match self {
            Kind::ProductKey => const { set(&[8, 10, 11, 12]) },
            Kind::AgentKey => const { set(&[1, 8, 9]) },
            Kind::AgentAndCloud => const { set(&[1, 2, 3, 4, 6, 7, 8, 9]) },
            Kind::Trust => const { set(&[11, 12, 13, 14, 15]) },
            Kind::Boot => 0,
        }
    }

    /// TLV types a record of this kind must hold, as a bit set.
    const fn required(self) -> u16 {
        match self {
            Kind::ProductKey => 1 << 8 | 1 << 10 | 1 << 11,
            Kind::AgentKey => 1 << 1 | 1 << 8,
            Kind::AgentAndCloud => 1 << 1 | 1 << 2 | 1 << 8,
            Kind::Trust => 1 << 11,
            Kind::Boot => 0,
        }
    }
}

/// The type of a TLV. The numbers are stored and sent: they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Tag {
    /// u32 ak_gen ‖ AK32.
    AgentKey = 1,
    /// u32 ck_gen ‖ key (16 to 64 bytes).
    CloudKey = 2,
    /// UTF-8 URL of the platform.
    Connection = 3,
    /// The platform's CA or certificate, as the platform gives it.
    PlatformCert = 4,
    /// The unit's region certificate.
    RegionCert = 6,
    /// The unit's device-tier certificate.
    DeviceCert = 7,
    /// PO16 ‖ u32 region ‖ u8 minimum suite.
    Order = 8,
    /// suite1 purpose1 ‖ u8 len ‖ KC16 ‖ H(record)32; read only while CONFIRM is unset.
    Confirmation = 9,
    /// PK32.
    ProductKey = 10,
    /// u32 epoch ‖ root_pub32.
    RootAnchor = 11,
    /// H(bundle)32 ‖ next_commit32.
    Bundle = 12,
    /// seq4 ‖ region4 ‖ min_epoch4.
    Revocation = 13,
    /// u64 seq ‖ digest32.
    ManifestFloor = 14,
    /// u64 Unix seconds.
    TimeFloor = 15,
}

impl Tag {
    const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::AgentKey,
            2 => Self::CloudKey,
            3 => Self::Connection,
            4 => Self::PlatformCert,
            6 => Self::RegionCert,
            7 => Self::DeviceCert,
            8 => Self::Order,
            9 => Self::Confirmation,
            10 => Self::ProductKey,
            11 => Self::RootAnchor,
            12 => Self::Bundle,
            13 => Self::Revocation,
            14 => Self::ManifestFloor,
            15 => Self::TimeFloor,
            _ => return None,
        })
    }

    fn value_fits(self, value: &[u8]) -> bool {
        match self {
            Tag::AgentKey | Tag::RootAnchor => value.len() == 36,
            Tag::CloudKey => value.split_at_checked(4).is_some_and(|(_, key)| CloudKey::new(key).is_ok()),
            Tag::Connection => !value.is_empty() && core::str::from_utf8(value).is_ok(),
            Tag::PlatformCert => !value.is_empty(),
            Tag::RegionCert | Tag::DeviceCert => value.len() == CERT_LEN,
            Tag::Order => value.len() == ORDER_LEN,
            Tag::Confirmation => Confirmation::parse(value).is_ok(),
            Tag::ProductKey => value.len() == 32,
            Tag::Bundle => value.len() == 64,
            Tag::Revocation => value.len() == 12,
            Tag::ManifestFloor => value.len() == 40,
            Tag::TimeFloor => value.len() == 8,
        }
    }
}

/// A TLV list: `{u8 type, u16 len, value}`, ascending and unique.
#[derive(Clone, Copy)]
struct Tlvs<'a>(&'a [u8]);

impl<'a> Tlvs<'a> {
    fn check(bytes: &'a [u8], allowed: u16, required: u16) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        let mut seen = 0u16;
        while !r.is_empty() {
            let (tag, value) = Self::read(&mut r)?;
            let bit = 1u16 << (tag as u8);
            // Ascending and unique: no bit at or above this one has been seen.
            if seen >= bit || allowed & bit == 0 || !tag.value_fits(value) {
                return Err(Error::RecordTlv);
            }
            seen |= bit;
        }
        if seen & required != required {
            return Err(Error::RecordTlv);
        }
        Ok(Self(bytes))
    }

    fn read(r: &mut Reader<'a>) -> Result<(Tag, &'a [u8]), Error> {
        let mut inner = || -> Result<(u8, &'a [u8]), Error> {
            let tag = r.u8()?;
            let len = r.u16()?;
            Ok((tag, r.bytes(usize::from(len))?))
        };
        let (number, value) = inner().map_err(|_| Error::RecordTlv)?;
        Ok((Tag::from_number(number).ok_or(Error::RecordTlv)?, value))
    }

    fn get(&self, wanted: Tag) -> Option<&'a [u8]> {
        let mut r = Reader::new(self.0);
        while !r.is_empty() {
            let (tag, value) = Self::read(&mut r).ok()?;
            if tag == wanted {
                return Some(value);
            }
        }
        None
    }

    fn generation(&self, tag: Tag) -> Option<Generation> {
        let (generation, _) = self.get(tag)?.split_first_chunk::<4>()?;
        Some(Generation(u32::from_be_bytes(*generation)))
    }

    fn cloud_key(&self) -> Option<(Generation, CloudKey)> {
        let (_, key) = self.get(Tag::CloudKey)?.split_at_checked(4)?;
        Some((self.generation(Tag::CloudKey)?, CloudKey::new(key).ok()?))
    }

    fn cert(&self, tag: Tag) -> Option<Cert> {
        Cert::from_slice(self.get(tag)?).ok()
    }

    fn text(&self, tag: Tag) -> Option<&'a str> {
        core::str::from_utf8(self.get(tag)?).ok()
    }
}

/// The record of a U3: what the cloud side gives a unit. A TLV list of types 2
/// (mandatory), 3, 4, 6 and 7; absent ones are copied forward from the active
/// record.
#[derive(Clone, Copy)]
pub struct CloudRecord<'a> {
    bytes: &'a [u8],
    tlvs: Tlvs<'a>,
}

impl fmt::Debug for CloudRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloudRecord({} bytes, redacted)", self.bytes.len())
    }
}

impl<'a> CloudRecord<'a> {
    const ALLOWED: u16 = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7;

    /// Reads a cloud record.
    ///
    /// # Errors
    /// [`Error::Length`] above [`MAX_CLOUD_RECORD`], [`Error::RecordTlv`] if the
    /// list is malformed, holds another type or lacks the cloud key.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_CLOUD_RECORD {
            return Err(Error::Length);
        }
        Ok(Self { bytes, tlvs: Tlvs::check(bytes, Self::ALLOWED, 1 << 2)? })
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// H("OTAK/rec" ‖ record), as U4 and TLV 9 carry it.
    #[must_use]
    pub fn hash(&self) -> Hash {
        schedule::record_hash(self.bytes)
    }

    /// The cloud key and its generation.
    ///
    /// # Errors
    /// None for a parsed record; the signature keeps callers free of unwraps.
    pub fn cloud_key(&self) -> Result<(Generation, CloudKey), Error> {
        self.tlvs.cloud_key().ok_or(Error::RecordTlv)
    }

    /// The platform's URL, if the record changes it.
    #[must_use]
    pub fn connection(&self) -> Option<&'a str> {
        self.tlvs.text(Tag::Connection)
    }

    /// The platform's certificate, if the record changes it.
    #[must_use]
    pub fn platform_cert(&self) -> Option<&'a [u8]> {
        self.tlvs.get(Tag::PlatformCert)
    }

    /// The region certificate, if the record changes it.
    #[must_use]
    pub fn region_cert(&self) -> Option<Cert> {
        self.tlvs.cert(Tag::RegionCert)
    }

    /// The unit's device-tier certificate, if the record changes it.
    #[must_use]
    pub fn device_cert(&self) -> Option<Cert> {
        self.tlvs.cert(Tag::DeviceCert)
    }

    /// Verifies the certificates the record brings, before anything is written:
    /// the region's under the root, the unit's under that region (or under the
    /// stored region certificate if the record brings none). A record may move
    /// the unit to another region; then it must bring both.
    ///
    /// # Errors
    /// As [`Trust::verify`]; [`Error::CertIssuer`] if there is no region
    /// certificate to check the unit's against, or the region changes without a
    /// device-tier certificate of the new one.
    pub fn verify_certs(&self, trust: &Trust<'_>) -> Result<(), Error> {
        let new_region: Option<Verified> = match self.region_cert() {
            Some(cert) => Some(trust.verify_any_region(&cert)?),
            None => None,
        };
        match (self.device_cert(), new_region) {
            (Some(device), Some(region)) => trust.verify_device_tier(&region, &device).map(|_| ()),
            (Some(device), None) => {
                let stored = trust.region_cert.ok_or(Error::CertIssuer)?;
                let region = trust.verify_any_region(stored)?;
                trust.verify_device_tier(&region, &device).map(|_| ())
            }
            (None, Some(region)) if region.subject() != trust.region.0 => Err(Error::CertIssuer),
            (None, _) => Ok(()),
        }
    }
}

/// What a cloud record is made of; absent parts stay as they are on the unit.
#[derive(Clone, Copy, Debug)]
pub struct CloudRecordParts<'a> {
    /// The new cloud key's generation.
    pub generation: Generation,
    /// The new cloud key.
    pub key: &'a CloudKey,
    /// The platform's URL.
    pub connection: Option<&'a str>,
    /// The platform's certificate.
    pub platform_cert: Option<&'a [u8]>,
    /// The unit's region certificate.
    pub region_cert: Option<&'a Cert>,
    /// The unit's device-tier certificate.
    pub device_cert: Option<&'a Cert>,
}

impl CloudRecordParts<'_> {
    /// Writes the TLV list; returns its length.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] or [`Error::Length`] if it is too long,
    /// [`Error::RecordTlv`] for an empty part or generation 0.
    pub fn build(&self, out: &mut [u8]) -> Result<usize, Error> {
        let mut w = Writer::new(out);
        if self.generation == Generation::NONE {
            return Err(Error::RecordTlv);
        }
        put_tlv(&mut w, Tag::CloudKey, &[&self.generation.0.to_be_bytes(), self.key.expose()])?;
        if let Some(url) = self.connection {
            put_tlv(&mut w, Tag::Connection, &[url.as_bytes()])?;
        }
        if let Some(cert) = self.platform_cert {
            put_tlv(&mut w, Tag::PlatformCert, &[cert])?;
        }
        if let Some(cert) = self.region_cert {
            put_tlv(&mut w, Tag::RegionCert, &[&cert.0])?;
        }
        if let Some(cert) = self.device_cert {
            put_tlv(&mut w, Tag::DeviceCert, &[&cert.0])?;
        }
        CloudRecord::parse(w.written())?;
        Ok(w.len())
    }
}

fn put_tlv(w: &mut Writer<'_>, tag: Tag, parts: &[&[u8]]) -> Result<(), Error> {
    let len = parts.iter().map(|p| p.len()).sum::<usize>();
    w.put(&[tag as u8])?;
    w.put(&u16::try_from(len).map_err(|_| Error::Length)?.to_be_bytes())?;
    parts.iter().try_for_each(|p| w.put(p))
}

/// TLV 8: what the unit was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The product order.
    pub order: ProductOrder,
    /// The region the batch is made for.
    pub region: Region,
    /// The weakest suite the order allows (1 or 2).
    pub minimum_suite: u8,
}

/// TLV 11: the root that the unit trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootAnchor {
    /// The root's epoch.
    pub epoch: u32,
    /// The root's key.
    pub key: PublicKey,
}

/// TLV 12: the last accepted root bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundleState {
    /// H(bundle).
    pub hash: Hash,
    /// H(next root's key).
    pub next_commit: Hash,
}

/// TLV 13: the last accepted revocation, as it concerns the unit's region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationState {
    /// Sequence number of the last accepted revocation.
    pub seq: u32,
    /// The unit's region.
    pub region: Region,
    /// The lowest valid epoch of that region's certificate.
    pub min_epoch: u32,
}

/// TLV 9: the confirmation that a pending record still owes the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// The suite of the exchange.
    pub suite: Suite,
    /// Its purpose.
    pub purpose: Purpose,
    /// Its key context: message 1's.
    pub kc: KeyContext,
    /// H(record) for CKU, zero otherwise.
    pub record_hash: Hash,
}

impl Confirmation {
    fn to_bytes(self) -> Result<[u8; CONFIRMATION_LEN], Error> {
        let mut out = [0; CONFIRMATION_LEN];
        let mut w = Writer::new(&mut out);
        w.put(&[self.suite.number(), self.purpose.number(), 16])?;
        w.put(&self.kc.0)?;
        w.put(&self.record_hash)?;
        Ok(out)
    }

    fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        let suite = Suite::from_number(r.u8()?)?;
        let purpose = Purpose::from_number(r.u8()?)?;
        if r.u8()? != 16 {
            return Err(Error::RecordTlv);
        }
        let out = Self { suite, purpose, kc: KeyContext(r.array()?), record_hash: r.array()? };
        r.finish()?;
        Ok(out)
    }
}

/// The three marks behind a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mark {
    /// The record counts. The last write of a commit.
    Commit,
    /// The peer knows it; the other area may be erased.
    Confirm,
    /// The peer refused it; it no longer counts.
    Retire,
}

impl Mark {
    const fn text(self) -> &'static [u8] {
        match self {
            Mark::Commit => b"COMMIT",
            Mark::Confirm => b"CONFIRM",
            Mark::Retire => b"RETIRE",
        }
    }

    /// The mark's 16 bytes for a record with this MAC: `H("MARK" ‖ MAC)[..16]`
    /// with MARK the mark's name.
    #[must_use]
    pub fn bytes(self, mac: &Hash) -> [u8; MARK_LEN] {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = crypto::sha256(&[self.text(), mac]);
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }
}

/// How a mark reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MarkState {
    /// All FF: never programmed.
    Blank,
    /// Exact.
    Set,
    /// Anything else: power failed while it was programmed. Counts as unset.
    Torn,
}

/// Where things lie in a record with a payload of a given length; offsets from
/// the start of the area, in bytes. All are multiples of 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    payload_len: usize,
}

impl Layout {
    const fn new(payload_len: usize) -> Self {
        Self { payload_len }
    }

    /// `e`: where the MAC begins.
    #[must_use]
    pub const fn mac_at(&self) -> usize {
        HEADER_LEN + ceil16(self.payload_len)
    }

    /// The length of header, payload, padding and MAC: what is written and read
    /// back before COMMIT.
    #[must_use]
    pub const fn body_len(&self) -> usize {
        self.mac_at() + 32
    }

    /// Where a mark lies.
    #[must_use]
    pub const fn mark_at(&self, mark: Mark) -> usize {
        self.body_len()
            + match mark {
                Mark::Commit => 0,
                Mark::Confirm => MARK_LEN,
                Mark::Retire => 2 * MARK_LEN,
            }
    }

    /// The length of the record, marks included.
    #[must_use]
    pub const fn total_len(&self) -> usize {
        self.body_len() + 3 * MARK_LEN
    }
}

/// How a record stands, by its marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordState {
    /// Written whole, COMMIT never programmed: does not count.
    Uncommitted,
    /// COMMIT is torn: does not count, nothing was ever sent under it.
    CommitTorn,
    /// Committed, not confirmed: the confirmation is still owed.
    Pending,
    /// Committed and confirmed.
    Confirmed,
    /// Retired: does not count any more.
    Retired,
}

/// Proof that a record was read back from where it lives with an exact COMMIT
/// mark (D1, I5). It remembers which record that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    pub(crate) th2: Hash,
    pub(crate) n2: [u8; 16],
    generation: Generation,
}

impl Committed {
    /// The committed record's own generation.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }
}

/// A record whose header, MAC and payload are verified. Its marks may say
/// anything; see [`RecordView::state`].
#[derive(Clone, Copy)]
pub struct RecordView<'a> {
    kind: Kind,
    generation: Generation,
    prev_generation: Generation,
    unit: UnitId,
    n2: &'a [u8; 16],
    th2: &'a Hash,
    tlvs: Tlvs<'a>,
    mac: &'a Hash,
    marks: &'a [u8; 3 * MARK_LEN],
    layout: Layout,
}

impl fmt::Debug for RecordView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordView")
            .field("kind", &self.kind)
            .field("generation", &self.generation.0)
            .field("unit", &self.unit)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// How many bytes of an area a record covers, from its first [`HEADER_LEN`]
/// bytes alone: tells a caller that copies from flash how much to read.
///
/// # Errors
/// [`Error::Length`] if fewer bytes are given, [`Error::RecordCrc`] if the
/// header is torn or blank, [`Error::RecordHeader`] if it is not ours or claims
/// more than [`MAX_RECORD`].
pub fn stored_len(header: &[u8]) -> Result<usize, Error> {
    parse_header(header).map(|h| h.layout.total_len())
}

struct RawHeader<'a> {
    kind: Kind,
    generation: u32,
    unit: UnitId,
    prev: u32,
    n2: &'a [u8; 16],
    th2: &'a Hash,
    layout: Layout,
}

fn parse_header(bytes: &[u8]) -> Result<RawHeader<'_>, Error> {
    let (header, _) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(Error::Length)?;
    let (covered, crc) = header.split_last_chunk::<4>().ok_or(Error::Length)?;
    if serial::crc32(covered) != *crc {
        return Err(Error::RecordCrc);
    }
    let mut r = Reader::new(covered);
    if r.array_ref::<4>()? != MAGIC || r.u8()? != 1 {
        return Err(Error::RecordHeader);
    }
    let kind = Kind::from_number(r.u8()?).ok_or(Error::RecordHeader)?;
    if usize::from(r.u16()?) != HEADER_LEN {
        return Err(Error::RecordHeader);
    }
    let generation = r.u32()?;
    let payload_len = usize::try_from(r.u32()?).map_err(|_| Error::RecordHeader)?;
    let unit = UnitId(r.array()?);
    let prev = r.u32()?;
    let n2 = r.array_ref()?;
    let th2 = r.array_ref()?;
    r.zeros::<28>().map_err(|_| Error::RecordHeader)?;
    if payload_len > MAX_PAYLOAD {
        return Err(Error::RecordHeader);
    }
    Ok(RawHeader { kind, generation, unit, prev, n2, th2, layout: Layout::new(payload_len) })
}

impl<'a> RecordView<'a> {
    /// Reads and verifies a record at the start of `area` (which may be longer),
    /// whatever its marks say.
    ///
    /// `unit` is the reader's own id; kind 1 records name no unit and are opened
    /// with `UnitId([0; 12])` and [`StoreKey::of_batch`] — or, when the product
    /// key is what the reader is after, with [`RecordView::open_product_key`].
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::RecordCrc`], [`Error::RecordHeader`],
    /// [`Error::RecordMac`], [`Error::RecordTlv`], in the order of the checks.
    pub fn parse(area: &'a [u8], unit: &UnitId, key: &StoreKey) -> Result<Self, Error> {
        Self::open(area, unit, |_, _| Ok(key.clone()))
    }

    /// Reads a kind 1 record: the product key inside is its own MAC key's root,
    /// so this gives integrity (against a torn write), not authenticity.
    ///
    /// # Errors
    /// As [`RecordView::parse`]; [`Error::Blank`] if the product key is blank.
    pub fn open_product_key(area: &'a [u8]) -> Result<(Self, ProductKey), Error> {
        let view = Self::open(area, &UnitId([0; 12]), |kind, tlvs| {
            if kind != Kind::ProductKey {
                return Err(Error::RecordHeader);
            }
            let bytes = tlvs.get(Tag::ProductKey).ok_or(Error::RecordTlv)?;
            let key = ProductKey::from_bytes(bytes.try_into().map_err(|_| Error::RecordTlv)?);
            if key.is_blank() {
                return Err(Error::Blank);
            }
            Ok(StoreKey::of_batch(&key))
        })?;
        let bytes = view.tlvs.get(Tag::ProductKey).ok_or(Error::RecordTlv)?;
        let key = ProductKey::from_bytes(bytes.try_into().map_err(|_| Error::RecordTlv)?);
        Ok((view, key))
    }

    fn open(
        area: &'a [u8],
        unit: &UnitId,
        key: impl FnOnce(Kind, &Tlvs<'a>) -> Result<StoreKey, Error>,
    ) -> Result<Self, Error> {
        let header = parse_header(area)?;
        if header.unit != *unit {
            return Err(Error::RecordHeader);
        }
        let layout = header.layout;
        let (covered, trailer) = area.split_at_checked(layout.mac_at()).ok_or(Error::Length)?;
        let (mac, trailer) = trailer.split_first_chunk::<32>().ok_or(Error::Length)?;
        let (marks, _) = trailer.split_first_chunk::<{ 3 * MARK_LEN }>().ok_or(Error::Length)?;
        let payload = covered.get(HEADER_LEN..HEADER_LEN + layout.payload_len).ok_or(Error::Length)?;
        let key = key(header.kind, &Tlvs(payload))?;
        if !crypto::tags_equal(&crypto::hmac(key.expose(), &[covered]), mac) {
            return Err(Error::RecordMac);
        }
        let tlvs = Tlvs::check(payload, header.kind.allowed(), header.kind.required())?;
        Ok(Self {
            kind: header.kind,
            generation: Generation(header.generation),
            prev_generation: Generation(header.prev),
            unit: header.unit,
            n2: header.n2,
            th2: header.th2,
            tlvs,
            mac,
            marks,
            layout,
        })
    }

    /// What the record holds.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The record's own generation.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// The generation of the record it was made from.
    #[must_use]
    pub const fn prev_generation(&self) -> Generation {
        self.prev_generation
    }

    /// The unit it belongs to; zero in kind 1.
    #[must_use]
    pub const fn unit(&self) -> UnitId {
        self.unit
    }

    /// N2 of the exchange that made it.
    #[must_use]
    pub const fn n2(&self) -> &'a [u8; 16] {
        self.n2
    }

    /// TH2 of the exchange that made it.
    #[must_use]
    pub const fn th2(&self) -> &'a Hash {
        self.th2
    }

    /// The MAC, from which the marks follow.
    #[must_use]
    pub const fn mac(&self) -> &'a Hash {
        self.mac
    }

    /// Where its parts lie.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// How one mark reads.
    #[must_use]
    pub fn mark(&self, mark: Mark) -> MarkState {
        let at = self.layout.mark_at(mark) - self.layout.body_len();
        let bytes = self.marks.get(at..at + MARK_LEN).unwrap_or(&[]);
        if bytes == mark.bytes(self.mac) {
            MarkState::Set
        } else if bytes.iter().all(|b| *b == 0xff) {
            MarkState::Blank
        } else {
            MarkState::Torn
        }
    }

    /// How the record stands.
    #[must_use]
    pub fn state(&self) -> RecordState {
        match (self.mark(Mark::Commit), self.mark(Mark::Retire)) {
            (MarkState::Blank, _) => RecordState::Uncommitted,
            (MarkState::Torn, _) => RecordState::CommitTorn,
            (MarkState::Set, MarkState::Set) => RecordState::Retired,
            (MarkState::Set, _) => match self.mark(Mark::Confirm) {
                MarkState::Set => RecordState::Confirmed,
                _ => RecordState::Pending,
            },
        }
    }

    /// Proof that the record is committed and not retired. Read the record from
    /// the flash it was written to, not from the buffer it was built in.
    ///
    /// # Errors
    /// [`Error::CommitBlank`], [`Error::CommitTorn`] or [`Error::Retired`].
    pub fn committed(&self) -> Result<Committed, Error> {
        match self.state() {
            RecordState::Uncommitted => Err(Error::CommitBlank),
            RecordState::CommitTorn => Err(Error::CommitTorn),
            RecordState::Retired => Err(Error::Retired),
            RecordState::Pending | RecordState::Confirmed => {
                Ok(Committed { th2: *self.th2, n2: *self.n2, generation: self.generation })
            }
        }
    }

    /// The agent key and its generation (kinds 2 and 3).
    #[must_use]
    pub fn agent_key(&self) -> Option<(Generation, AgentKey)> {
        let (_, key) = self.tlvs.get(Tag::AgentKey)?.split_at_checked(4)?;
        Some((self.tlvs.generation(Tag::AgentKey)?, AgentKey::from_bytes(key.try_into().ok()?)))
    }

    /// The cloud key and its generation (kind 3).
    #[must_use]
    pub fn cloud_key(&self) -> Option<(Generation, CloudKey)> {
        self.tlvs.cloud_key()
    }

    /// The platform's URL (kind 3).
    #[must_use]
    pub fn connection(&self) -> Option<&'a str> {
        self.tlvs.text(Tag::Connection)
    }

    /// The platform's certificate (kind 3).
    #[must_use]
    pub fn platform_cert(&self) -> Option<&'a [u8]> {
        self.tlvs.get(Tag::PlatformCert)
    }

    /// The unit's region certificate (kind 3).
    #[must_use]
    pub fn region_cert(&self) -> Option<Cert> {
        self.tlvs.cert(Tag::RegionCert)
    }

    /// The unit's device-tier certificate (kind 3).
    #[must_use]
    pub fn device_cert(&self) -> Option<Cert> {
        self.tlvs.cert(Tag::DeviceCert)
    }

    /// What the unit was made for (kinds 1, 2 and 3).
    #[must_use]
    pub fn order(&self) -> Option<Order> {
        let mut r = Reader::new(self.tlvs.get(Tag::Order)?);
        Some(Order {
            order: ProductOrder(r.array().ok()?),
            region: Region(r.u32().ok()?),
            minimum_suite: r.u8().ok()?,
        })
    }

    /// The confirmation the record owes; `None` once CONFIRM is set.
    #[must_use]
    pub fn confirmation(&self) -> Option<Confirmation> {
        if self.mark(Mark::Confirm) == MarkState::Set {
            return None;
        }
        Confirmation::parse(self.tlvs.get(Tag::Confirmation)?).ok()
    }

    /// The root anchor (kinds 1 and 5).
    #[must_use]
    pub fn root_anchor(&self) -> Option<RootAnchor> {
        let mut r = Reader::new(self.tlvs.get(Tag::RootAnchor)?);
        Some(RootAnchor { epoch: r.u32().ok()?, key: PublicKey(r.array().ok()?) })
    }

    /// The last accepted root bundle (kinds 1 and 5).
    #[must_use]
    pub fn bundle(&self) -> Option<BundleState> {
        let mut r = Reader::new(self.tlvs.get(Tag::Bundle)?);
        Some(BundleState { hash: r.array().ok()?, next_commit: r.array().ok()? })
    }

    /// The last accepted revocation (kind 5).
    #[must_use]
    pub fn revocation(&self) -> Option<RevocationState> {
        let mut r = Reader::new(self.tlvs.get(Tag::Revocation)?);
        Some(RevocationState { seq: r.u32().ok()?, region: Region(r.u32().ok()?), min_epoch: r.u32().ok()? })
    }

    /// The manifest floor: sequence number and manifest digest (kind 5).
    #[must_use]
    pub fn manifest_floor(&self) -> Option<(u64, Hash)> {
        let mut r = Reader::new(self.tlvs.get(Tag::ManifestFloor)?);
        Some((r.u64().ok()?, r.array().ok()?))
    }

    /// The time floor, Unix seconds UTC (kind 5).
    #[must_use]
    pub fn time_floor(&self) -> Option<u64> {
        Reader::new(self.tlvs.get(Tag::TimeFloor)?).u64().ok()
    }
}

/// Reads an area as boot does: valid = crc ∧ MAC ∧ COMMIT set ∧ RETIRE not set.
///
/// # Errors
/// As [`RecordView::parse`] and [`RecordView::committed`].
pub fn read_valid<'a>(
    area: &'a [u8],
    unit: &UnitId,
    key: &StoreKey,
) -> Result<(RecordView<'a>, Committed), Error> {
    let view = RecordView::parse(area, unit, key)?;
    let committed = view.committed()?;
    Ok((view, committed))
}

/// A record built in a buffer: header, payload, padding, MAC, and blank marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    layout: Layout,
    mac: Hash,
}

impl Image {
    /// Where its parts lie. The first [`Layout::body_len`] bytes of the buffer
    /// are what must be written before COMMIT.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// The bytes of one of its marks.
    #[must_use]
    pub fn mark(&self, mark: Mark) -> [u8; MARK_LEN] {
        mark.bytes(&self.mac)
    }
}

struct Builder<'a> {
    w: Writer<'a>,
    kind: Kind,
}

struct NewHeader<'a> {
    kind: Kind,
    generation: Generation,
    prev: Generation,
    unit: &'a UnitId,
    n2: &'a [u8; 16],
    th2: &'a Hash,
}

impl<'a> Builder<'a> {
    /// Leaves room for length and CRC, which are known at the end only.
    fn begin(header: &NewHeader<'_>, out: &'a mut [u8]) -> Result<Self, Error> {
        let mut w = Writer::new(out);
        w.put(MAGIC)?;
        w.put(&[1, header.kind as u8])?;
        w.put(&(HEADER_LEN as u16).to_be_bytes())?;
        w.put(&header.generation.0.to_be_bytes())?;
        w.fill(0, 4)?;
        w.put(&header.unit.0)?;
        w.put(&header.prev.0.to_be_bytes())?;
        w.put(header.n2)?;
        w.put(header.th2)?;
        w.fill(0, 28 + 4)?;
        Ok(Self { w, kind: header.kind })
    }

    fn tlv(&mut self, tag: Tag, parts: &[&[u8]]) -> Result<(), Error> {
        put_tlv(&mut self.w, tag, parts)
    }

    fn copy(&mut self, tag: Tag, value: Option<&[u8]>) -> Result<(), Error> {
        value.map_or(Ok(()), |v| self.tlv(tag, &[v]))
    }

    fn order(&mut self, order: &Order) -> Result<(), Error> {
        self.tlv(Tag::Order, &[&order.order.0, &order.region.0.to_be_bytes(), &[order.minimum_suite]])
    }

    fn finish(mut self, key: &StoreKey) -> Result<Image, Error> {
        let payload_len = self.w.len() - HEADER_LEN;
        if payload_len > MAX_PAYLOAD {
            return Err(Error::Length);
        }
        let layout = Layout::new(payload_len);
        self.w.fill(0xff, layout.mac_at() - self.w.len())?;
        let kind = self.kind;
        let len = u32::try_from(payload_len).map_err(|_| Error::Length)?.to_be_bytes();
        let written = self.w.finish_mut();
        written.get_mut(12..16).ok_or(Error::BufferTooSmall)?.copy_from_slice(&len);
        let (covered, rest) = written.split_at_mut_checked(HEADER_LEN - 4).ok_or(Error::BufferTooSmall)?;
        let (crc, payload) = rest.split_first_chunk_mut::<4>().ok_or(Error::BufferTooSmall)?;
        *crc = serial::crc32(covered);
        // The builder may not make what the reader would refuse.
        let payload = payload.get(..payload_len).ok_or(Error::BufferTooSmall)?;
        Tlvs::check(payload, kind.allowed(), kind.required())?;
        let (covered, trailer) =
            written.split_at_mut_checked(layout.mac_at()).ok_or(Error::BufferTooSmall)?;
        let mac = crypto::hmac(key.expose(), &[covered]);
        let trailer = trailer.get_mut(..TRAILER_LEN).ok_or(Error::BufferTooSmall)?;
        let mut w = Writer::new(trailer);
        w.put(&mac)?;
        w.fill(0xff, 3 * MARK_LEN)?;
        Ok(Image { layout, mac })
    }
}

/// What the station writes at stage one, the same for a whole batch.
#[derive(Clone, Copy, Debug)]
pub struct StageOne<'a> {
    /// What the units are made for.
    pub order: Order,
    /// The batch's product key.
    pub product_key: &'a ProductKey,
    /// The root anchor.
    pub root: RootAnchor,
    /// The last root bundle; without one the unit cannot follow a root rotation.
    pub bundle: Option<BundleState>,
}

impl StageOne<'_> {
    /// Builds the kind 1 record, COMMIT and CONFIRM included (its writer needs no
    /// answer); returns its length. The marks are separate flash rows: a station
    /// that programs the whole image at once verifies it by read-back.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`], [`Error::Blank`] for a blank product key, order
    /// or root.
    pub fn build(&self, out: &mut [u8]) -> Result<usize, Error> {
        if self.product_key.is_blank() || self.order.order.is_blank() || crypto::is_blank(&self.root.key.0) {
            return Err(Error::Blank);
        }
        let mut b = Builder::begin(
            &NewHeader {
                kind: Kind::ProductKey,
                generation: Generation(1),
                prev: Generation::NONE,
                unit: &UnitId([0; 12]),
                n2: &[0; 16],
                th2: &[0; 32],
            },
            out,
        )?;
        b.order(&self.order)?;
        b.tlv(Tag::ProductKey, &[self.product_key.expose()])?;
        b.tlv(Tag::RootAnchor, &[&self.root.epoch.to_be_bytes(), &self.root.key.0])?;
        if let Some(bundle) = &self.bundle {
            b.tlv(Tag::Bundle, &[&bundle.hash, &bundle.next_commit])?;
        }
        let image = b.finish(&StoreKey::of_batch(self.product_key))?;
        set_marks(out, &image, &[Mark::Commit, Mark::Confirm])?;
        Ok(image.layout.total_len())
    }
}

/// Writes marks into a buffer that holds a built record.
fn set_marks(out: &mut [u8], image: &Image, marks: &[Mark]) -> Result<(), Error> {
    for mark in marks {
        let at = image.layout.mark_at(*mark);
        out.get_mut(at..at + MARK_LEN).ok_or(Error::BufferTooSmall)?.copy_from_slice(&image.mark(*mark));
    }
    Ok(())
}

/// What the trust store keeps; it only ever grows (kind 5).
#[derive(Clone, Copy, Debug)]
pub struct TrustRecord {
    /// The root anchor.
    pub root: RootAnchor,
    /// The last accepted bundle.
    pub bundle: Option<BundleState>,
    /// The last accepted revocation.
    pub revocation: Option<RevocationState>,
    /// Sequence number and digest of the newest manifest.
    pub manifest_floor: Option<(u64, Hash)>,
    /// Unix seconds UTC, raised by every message 4.
    pub time_floor: Option<u64>,
}

impl TrustRecord {
    /// Builds the record with blank marks; its writer programs COMMIT, reads
    /// back, then CONFIRM.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    pub fn build(
        &self,
        unit: &UnitId,
        generation: Generation,
        prev: Generation,
        key: &StoreKey,
        out: &mut [u8],
    ) -> Result<Image, Error> {
        let mut b = Builder::begin(
            &NewHeader { kind: Kind::Trust, generation, prev, unit, n2: &[0; 16], th2: &[0; 32] },
            out,
        )?;
        b.tlv(Tag::RootAnchor, &[&self.root.epoch.to_be_bytes(), &self.root.key.0])?;
        if let Some(v) = &self.bundle {
            b.tlv(Tag::Bundle, &[&v.hash, &v.next_commit])?;
        }
        if let Some(v) = &self.revocation {
            b.tlv(
                Tag::Revocation,
                &[&v.seq.to_be_bytes(), &v.region.0.to_be_bytes(), &v.min_epoch.to_be_bytes()],
            )?;
        }
        if let Some((seq, digest)) = &self.manifest_floor {
            b.tlv(Tag::ManifestFloor, &[&seq.to_be_bytes(), digest])?;
        }
        if let Some(time) = &self.time_floor {
            b.tlv(Tag::TimeFloor, &[&time.to_be_bytes()])?;
        }
        b.finish(key)
    }
}

/// Builds the snapshot that commits what an exchange brought: new parts from
/// `received`, everything else copied from `current` (the kind 1 record at INIT,
/// the active record later), the confirmation it owes in TLV 9. Marks are blank.
///
/// `generation` must exceed every generation either area ever held (I8).
///
/// # Errors
/// [`Error::Field`] if `generation` does not grow, [`Error::RecordTlv`] if
/// `current` lacks a part, [`Error::Length`] or [`Error::BufferTooSmall`] if the
/// snapshot does not fit.
pub fn build_snapshot(
    received: &Received<'_>,
    current: &RecordView<'_>,
    generation: Generation,
    key: &StoreKey,
    out: &mut [u8],
) -> Result<Image, Error> {
    if generation <= current.generation {
        return Err(Error::Field(FieldName::Generation));
    }
    let (new_agent_key, cloud) = match received.content() {
        Content::AgentKey(key) => (Some(key), None),
        Content::CloudRecord(record) => (None, Some(record)),
    };
    let has_cloud = cloud.is_some() || current.tlvs.get(Tag::CloudKey).is_some();
    let mut b = Builder::begin(
        &NewHeader {
            kind: if has_cloud { Kind::AgentAndCloud } else { Kind::AgentKey },
            generation,
            prev: current.generation,
            unit: &received.unit(),
            n2: received.n2(),
            th2: received.th2(),
        },
        out,
    )?;
    match new_agent_key {
        Some(key) => b.tlv(Tag::AgentKey, &[&received.generation().0.to_be_bytes(), key.expose()])?,
        None => b.copy(Tag::AgentKey, current.tlvs.get(Tag::AgentKey))?,
    }
    for tag in [Tag::CloudKey, Tag::Connection, Tag::PlatformCert, Tag::RegionCert, Tag::DeviceCert] {
        let new = cloud.and_then(|record| record.tlvs.get(tag));
        b.copy(tag, new.or_else(|| current.tlvs.get(tag)))?;
    }
    b.copy(Tag::Order, current.tlvs.get(Tag::Order))?;
    b.tlv(Tag::Confirmation, &[&received.confirmation().to_bytes()?])?;
    b.finish(key)
}

/// Length of a storage-secret slot.
pub const SECRET_SLOT_LEN: usize = 48;

/// A slot of the append-only storage-secret log: `secret32 ‖ crc4 ‖ mark12`. The
/// first intact slot wins, a torn one is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretSlot {
    /// All FF: free.
    Blank,
    /// Neither blank nor intact: power failed while it was written.
    Torn,
    /// Intact.
    Intact,
}

fn secret_mark(secret: &[u8; 32]) -> [u8; 12] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = crypto::sha256(&[b"SECRET", secret]);
    [a, b, c, d, e, f, g, h, i, j, k, l]
}

/// The bytes of a slot for `secret`. Write it in ascending order; the mark is last.
///
/// # Errors
/// [`Error::Blank`] if the secret is blank: the RNG is not working.
pub fn build_secret_slot(secret: &StorageSecret) -> Result<[u8; SECRET_SLOT_LEN], Error> {
    if secret.is_blank() {
        return Err(Error::Blank);
    }
    let mut out = [0; SECRET_SLOT_LEN];
    let mut w = Writer::new(&mut out);
    w.put(secret.expose())?;
    w.put(&serial::crc32(secret.expose()))?;
    w.put(&secret_mark(secret.expose()))?;
    Ok(out)
}

/// Reads a slot; the secret is there only if the slot is intact.
#[must_use]
pub fn read_secret_slot(slot: &[u8; SECRET_SLOT_LEN]) -> (SecretSlot, Option<StorageSecret>) {
    if slot.iter().all(|b| *b == 0xff) {
        return (SecretSlot::Blank, None);
    }
    let mut r = Reader::new(slot);
    let (Ok(secret), Ok(crc), Ok(mark)) = (r.array::<32>(), r.array::<4>(), r.array::<12>()) else {
        return (SecretSlot::Torn, None);
    };
    let intact = serial::crc32(&secret) == crc && secret_mark(&secret) == mark;
    let secret = StorageSecret::from_bytes(secret);
    if intact && !secret.is_blank() { (SecretSlot::Intact, Some(secret)) } else { (SecretSlot::Torn, None) }
}
