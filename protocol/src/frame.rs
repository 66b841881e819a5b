//! The frame: header, lengths, sealing and opening.
//!
//! ```text
//! Frame = hdr(12) ‖ clear ‖ IV(16) ‖ CT ‖ TAG(32)
//! hdr : 0 "OK" | 2 ver=1 | 3 suite | 4 type=(purpose<<4)|step | 5 flags=0
//!       6 u16 body_len (frame length − 12) | 8 u32 xid
//! CT  = AES-256-CBC(Kenc, IV, PKCS7(pt))
//! TAG = HMAC(Kmac, hdr ‖ clear ‖ prev ‖ IV ‖ CT)
//! ```
//! The numbers of [`Suite`], [`Purpose`] and [`Step`] enter the key schedule:
//! they can never change.

use core::fmt;

use crate::cert::CERT_LEN;
use crate::crypto::{self, BLOCK, Hash, padded};
use crate::error::{Error, FieldName};
use crate::schedule::StepKeys;
use crate::wire::Writer;

/// Length of the header.
pub const HEADER_LEN: usize = 12;
/// Length of an ERR frame.
pub const ERR_LEN: usize = HEADER_LEN + 1;
/// Length of the tag.
pub const TAG_LEN: usize = 32;
/// The longest cloud record a U3 may carry, in bytes.
pub const MAX_CLOUD_RECORD: usize = 1_400;
/// The clear part of a suite 2 message 2 with its two certificates: e_A ‖ ncert ‖ certs ‖ SIG_A.
pub(crate) const CLEAR2_LEN: usize = 32 + 1 + 2 * CERT_LEN + 64;
/// The longest frame: a suite 2 U3 with a record of [`MAX_CLOUD_RECORD`] bytes.
pub const MAX_FRAME: usize = HEADER_LEN + CLEAR2_LEN + BLOCK + padded(52 + MAX_CLOUD_RECORD) + TAG_LEN;

// PROTOCOL §2: "453 + pad16(52+len) B"; and a frame fits a serial packet.
const _: () = assert!(MAX_FRAME == 453 + padded(52 + MAX_CLOUD_RECORD));
const _: () = assert!(MAX_FRAME + 5 <= crate::serial::MAX_PACKET);

const MAGIC: [u8; 2] = *b"OK";
const VERSION: u8 = 1;
/// The type byte of an ERR frame.
pub const TYPE_ERR: u8 = 0x7f;

/// The cipher suite of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Suite {
    /// Suite 1: the paper's flows, sound against outsiders only ("legacy").
    Legacy = 1,
    /// Suite 2: sound against one who knows the product key; forward secret.
    Hardened = 2,
}

impl Suite {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The suite of a number.
    ///
    /// # Errors
    /// [`Error::Header`] for a suite this version does not know.
    pub const fn from_number(number: u8) -> Result<Self, Error> {
        match number {
            1 => Ok(Self::Legacy),
            2 => Ok(Self::Hardened),
            _ => Err(Error::Header),
        }
    }

    /// Checks this suite against a product order's policy byte.
    ///
    /// # Errors
    /// [`Error::SuiteBelowMinimum`] if the order asks for more.
    pub const fn check_policy(self, minimum: u8) -> Result<(), Error> {
        if (self as u8) < minimum { Err(Error::SuiteBelowMinimum) } else { Ok(()) }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Suite::Legacy => "suite 1 (legacy)",
            Suite::Hardened => "suite 2 (hardened)",
        })
    }
}

/// What an exchange is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Purpose {
    /// INIT: the first agent key, under the product key.
    Init = 1,
    /// AKU: a new agent key, under the current one.
    AgentKeyUpdate = 2,
    /// CKU: a new cloud record, under the current agent key.
    CloudKeyUpdate = 3,
}

impl Purpose {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The purpose of a number.
    ///
    /// # Errors
    /// [`Error::Header`] for a purpose this version does not know.
    pub const fn from_number(number: u8) -> Result<Self, Error> {
        match number {
            1 => Ok(Self::Init),
            2 => Ok(Self::AgentKeyUpdate),
            3 => Ok(Self::CloudKeyUpdate),
            _ => Err(Error::Header),
        }
    }
}

/// A message's place in its exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Step {
    /// Message 1, from the unit (AK_REQ, CK_REQ).
    Request = 1,
    /// Message 2, from the agent (AK_RSP, CK_RSP).
    Response = 2,
    /// Message 3, from the unit (AK_CONF, CK_CONF).
    Confirm = 3,
    /// Message 4, from the agent (AK_ACK, CK_ACK).
    Ack = 4,
    /// An authentic refusal of a message 3.
    Nack = 5,
}

impl Step {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The step of a number.
    ///
    /// # Errors
    /// [`Error::Header`] for a step this version does not know.
    pub const fn from_number(number: u8) -> Result<Self, Error> {
        match number {
            1 => Ok(Self::Request),
            2 => Ok(Self::Response),
            3 => Ok(Self::Confirm),
            4 => Ok(Self::Ack),
            5 => Ok(Self::Nack),
            _ => Err(Error::Header),
        }
    }
}

/// Tells exchanges on one line apart. Drawn by the initiator, copied in replies,
/// never checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Xid(pub u32);

/// The frame type byte: `(purpose << 4) | step`.
#[must_use]
pub const fn type_byte(purpose: Purpose, step: Step) -> u8 {
    (purpose as u8) << 4 | step as u8
}

/// The header of a frame, in this crate's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The suite.
    pub suite: Suite,
    /// The purpose.
    pub purpose: Purpose,
    /// The step.
    pub step: Step,
    /// The exchange's number on the line.
    pub xid: Xid,
}

impl Header {
    /// The 12 bytes, for a frame of `HEADER_LEN + body_len` bytes.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] if the body is longer than 65,535 bytes.
    pub fn to_bytes(&self, body_len: usize) -> Result<[u8; HEADER_LEN], Error> {
        let len = u16::try_from(body_len).map_err(|_| Error::BufferTooSmall)?.to_be_bytes();
        let xid = self.xid.0.to_be_bytes();
        Ok([
            MAGIC[0],
            MAGIC[1],
            VERSION,
            self.suite.number(),
            type_byte(self.purpose, self.step),
            0,
            len[0],
            len[1],
            xid[0],
            xid[1],
            xid[2],
            xid[3],
        ])
    }
}

/// A frame whose header is well-formed and whose length fits: a raw view that
/// judges nothing else. Suite and type numbers that this version does not know
/// are kept.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    bytes: &'a [u8],
    header: &'a [u8; HEADER_LEN],
}

impl<'a> Frame<'a> {
    /// Looks at a frame.
    ///
    /// # Errors
    /// [`Error::Length`] if shorter than a header or not as long as it says,
    /// [`Error::Header`] if magic, version or flags are not ours.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, body) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(Error::Length)?;
        let [m0, m1, version, _, _, flags, l0, l1, ..] = *header;
        if usize::from(u16::from_be_bytes([l0, l1])) != body.len() {
            return Err(Error::Length);
        }
        if [m0, m1] != MAGIC || version != VERSION || flags != 0 {
            return Err(Error::Header);
        }
        Ok(Self { bytes, header })
    }

    /// The suite's number, known or not.
    #[must_use]
    pub const fn suite_number(&self) -> u8 {
        self.header[3]
    }

    /// The type byte, known or not.
    #[must_use]
    pub const fn type_number(&self) -> u8 {
        self.header[4]
    }

    /// The exchange's number on the line.
    #[must_use]
    pub const fn xid(&self) -> Xid {
        let h = self.header;
        Xid(u32::from_be_bytes([h[8], h[9], h[10], h[11]]))
    }

    /// Everything after the header.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.bytes.get(HEADER_LEN..).unwrap_or(&[])
    }

    /// The whole frame.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The reason byte, if this is an ERR frame.
    #[must_use]
    pub fn err_reason(&self) -> Option<u8> {
        match (self.type_number(), self.body()) {
            (TYPE_ERR, [reason]) => Some(*reason),
            _ => None,
        }
    }

    /// The header in this crate's terms.
    ///
    /// # Errors
    /// [`Error::PeerBusy`] for an ERR frame; [`Error::Header`] for a suite,
    /// purpose or step that this version does not know.
    pub fn header(&self) -> Result<Header, Error> {
        if let Some(reason) = self.err_reason() {
            return Err(Error::PeerBusy(reason));
        }
        let kind = self.type_number();
        Ok(Header {
            suite: Suite::from_number(self.suite_number())?,
            purpose: Purpose::from_number(kind >> 4)?,
            step: Step::from_number(kind & 0x0f)?,
            xid: self.xid(),
        })
    }

    /// Checks that this is the message a state waits for.
    ///
    /// # Errors
    /// [`Error::PeerBusy`] for ERR, [`Error::Unexpected`] with both types.
    pub fn expect(&self, suite: Suite, purpose: Purpose, step: Step) -> Result<(), Error> {
        if let Some(reason) = self.err_reason() {
            return Err(Error::PeerBusy(reason));
        }
        let expected = u16::from_be_bytes([suite.number(), type_byte(purpose, step)]);
        let got = u16::from_be_bytes([self.suite_number(), self.type_number()]);
        if expected == got { Ok(()) } else { Err(Error::Unexpected { expected, got }) }
    }
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("suite", &self.suite_number())
            .field("type", &self.type_number())
            .field("xid", &self.xid().0)
            .field("len", &self.bytes.len())
            .finish()
    }
}

/// ERR reason: busy, ask again later. All reasons are treated alike.
pub const ERR_BUSY: u8 = 1;

/// Builds the unauthenticated ERR that answers `frame`; 13 bytes.
///
/// # Errors
/// [`Error::BufferTooSmall`] if `out` is shorter than [`ERR_LEN`].
pub fn build_err(answered: &Frame<'_>, reason: u8, out: &mut [u8]) -> Result<usize, Error> {
    let xid = answered.xid().0.to_be_bytes();
    let mut w = Writer::new(out);
    w.put(&MAGIC)?;
    w.put(&[VERSION, answered.suite_number(), TYPE_ERR, 0, 0, 1])?;
    w.put(&xid)?;
    w.put(&[reason])?;
    Ok(w.len())
}

/// `prev` of steps 1 and 5.
pub(crate) const NO_PREV: Hash = [0; 32];

/// A frame under construction: header and clear part are written first, because
/// suite 2 hashes them before the keys of message 2 exist.
pub(crate) struct FrameBuilder<'a> {
    out: &'a mut [u8],
    clear_end: usize,
    pt_len: usize,
    total: usize,
}

impl<'a> FrameBuilder<'a> {
    pub(crate) fn begin(
        header: &Header,
        clear: &[&[u8]],
        clear_len: usize,
        pt_len: usize,
        out: &'a mut [u8],
    ) -> Result<Self, Error> {
        let body = clear_len + BLOCK + padded(pt_len) + TAG_LEN;
        let total = HEADER_LEN + body;
        let out = out.get_mut(..total).ok_or(Error::BufferTooSmall)?;
        let mut w = Writer::new(out);
        w.put(&header.to_bytes(body)?)?;
        for part in clear {
            w.put(part)?;
        }
        Ok(Self { out, clear_end: HEADER_LEN + clear_len, pt_len, total })
    }

    /// Header and the clear bytes written so far are the first bytes of this.
    pub(crate) fn prefix(&self, len: usize) -> Result<&[u8], Error> {
        self.out.get(..len).ok_or(Error::BufferTooSmall)
    }

    /// Appends a late part of the clear section, ending exactly at its end.
    pub(crate) fn put_clear_tail(&mut self, tail: &[u8]) -> Result<(), Error> {
        let start = self.clear_end.checked_sub(tail.len()).ok_or(Error::BufferTooSmall)?;
        self.out.get_mut(start..self.clear_end).ok_or(Error::BufferTooSmall)?.copy_from_slice(tail);
        Ok(())
    }

    pub(crate) fn seal(
        self,
        keys: &StepKeys,
        prev: &Hash,
        iv: &[u8; BLOCK],
        plaintext: &[&[u8]],
    ) -> Result<usize, Error> {
        let (head, rest) = self.out.split_at_mut_checked(self.clear_end).ok_or(Error::BufferTooSmall)?;
        let (iv_out, rest) = rest.split_first_chunk_mut::<BLOCK>().ok_or(Error::BufferTooSmall)?;
        let (ct, rest) = rest.split_at_mut_checked(padded(self.pt_len)).ok_or(Error::BufferTooSmall)?;
        let tag: &mut [u8; TAG_LEN] = rest.try_into().map_err(|_| Error::BufferTooSmall)?;
        *iv_out = *iv;
        let mut w = Writer::new(ct);
        for part in plaintext {
            w.put(part)?;
        }
        if w.len() != self.pt_len {
            return Err(Error::BufferTooSmall);
        }
        crypto::cbc_encrypt(keys.enc(), iv, ct, self.pt_len)?;
        *tag = crypto::hmac(keys.mac(), &[head, prev, iv, ct]);
        Ok(self.total)
    }
}

/// Where the parts of a frame lie, once its clear length is known.
pub(crate) struct Parts<'a> {
    pub(crate) head: &'a [u8],
    pub(crate) iv: &'a [u8; BLOCK],
    pub(crate) ct: &'a [u8],
    pub(crate) tag: &'a [u8; TAG_LEN],
}

/// Splits a frame; the ciphertext is whole blocks, at least one.
pub(crate) fn split(bytes: &[u8], clear_len: usize) -> Result<Parts<'_>, Error> {
    let (head, rest) = bytes.split_at_checked(HEADER_LEN + clear_len).ok_or(Error::Length)?;
    let (iv, rest) = rest.split_first_chunk::<BLOCK>().ok_or(Error::Length)?;
    let (ct, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(Error::Length)?;
    if ct.is_empty() || !ct.len().is_multiple_of(BLOCK) {
        return Err(Error::Length);
    }
    Ok(Parts { head, iv, ct, tag })
}

impl Parts<'_> {
    /// Verifies the tag; nothing is decrypted before it holds.
    pub(crate) fn verify(&self, keys: &StepKeys, prev: &Hash) -> Result<(), Error> {
        let computed = crypto::hmac(keys.mac(), &[self.head, prev, self.iv, self.ct]);
        if crypto::tags_equal(&computed, self.tag) { Ok(()) } else { Err(Error::Tag) }
    }

    /// Verifies, then decrypts into `scratch`.
    pub(crate) fn open<'s>(
        &self,
        keys: &StepKeys,
        prev: &Hash,
        scratch: &'s mut [u8],
    ) -> Result<&'s [u8], Error> {
        self.verify(keys, prev)?;
        // An authentic frame of a longer type cannot exist; a scratch buffer
        // sized for the type's exact plaintext is therefore enough.
        let buf = scratch.get_mut(..self.ct.len()).ok_or(Error::Length)?;
        buf.copy_from_slice(self.ct);
        let len = crypto::cbc_decrypt(keys.enc(), self.iv, buf)?;
        buf.get(..len).ok_or(Error::Padding)
    }
}

/// Verifies, then decrypts in the frame's own buffer; returns where the
/// plaintext lies, so that the clear part stays readable beside it.
pub(crate) fn open_in_place(
    bytes: &mut [u8],
    clear_len: usize,
    keys: &StepKeys,
    prev: &Hash,
) -> Result<core::ops::Range<usize>, Error> {
    let iv = {
        let parts = split(bytes, clear_len)?;
        parts.verify(keys, prev)?;
        *parts.iv
    };
    let start = HEADER_LEN + clear_len + BLOCK;
    let end = bytes.len().checked_sub(TAG_LEN).ok_or(Error::Length)?;
    let ct = bytes.get_mut(start..end).ok_or(Error::Length)?;
    let len = crypto::cbc_decrypt(keys.enc(), &iv, ct)?;
    Ok(start..start + len)
}

/// Checks a fixed-length field against the expected value in constant time.
pub(crate) fn same(name: FieldName, a: &[u8], b: &[u8]) -> Result<(), Error> {
    if crypto::tags_equal(a, b) { Ok(()) } else { Err(Error::Field(name)) }
}
