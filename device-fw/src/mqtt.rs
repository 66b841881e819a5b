//! As much of MQTT 3.1.1 (OASIS standard, 29 October 2014) as a unit needs: it logs in, says that it was born, listens
//! to one topic filter and keeps the session alive. Sections in brackets are the standard's.
//!
//! Written here, because no kept `no_std` crate does it: see `docs/adr/0012-own-mqtt-codec.md`.
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

use heapless::Vec;

/// The longest packet a unit sends: CONNECT with a 24-digit id, a ten-digit generation and 64 digits of password.
pub const MAX_SEND: usize = 176;
/// The longest packet a unit looks into; longer ones are skipped whole.
pub const MAX_RECEIVE: usize = 96;

/// Session stays alive this many seconds after the last packet [3.1.2.10].
pub const KEEP_ALIVE_S: u16 = 60;

/// A packet being written.
pub type Out = Vec<u8, MAX_SEND>;

/// It does not fit: a caller's mistake, answered instead of a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

fn put(out: &mut Out, bytes: &[u8]) -> Result<(), TooLong> {
    out.extend_from_slice(bytes).map_err(|_| TooLong)
}

fn put_field(out: &mut Out, bytes: &[u8]) -> Result<(), TooLong> {
    let len = u16::try_from(bytes.len()).map_err(|_| TooLong)?;
    put(out, &len.to_be_bytes())?;
    put(out, bytes)
}

/// Fixed header [2.2]: type and flags, then the remaining length in groups of seven bits, the lowest first [2.2.3].
fn header(out: &mut Out, first: u8, remaining: usize) -> Result<(), TooLong> {
    out.clear();
    put(out, &[first])?;
    let low = (remaining & 0x7F) as u8;
    match remaining >> 7 {
        0 => put(out, &[low]),
        high @ 1..=0x7F => put(out, &[low | 0x80, high as u8]),
        _ => Err(TooLong),
    }
}

fn sum(parts: &[usize]) -> usize {
    parts.iter().fold(0, |all, part| all.saturating_add(*part))
}

/// CONNECT [3.1]: clean session, user name (the client id as well) and password.
///
/// # Errors
/// [`TooLong`].
pub fn connect(out: &mut Out, identity: &[u8], password: &[u8]) -> Result<(), TooLong> {
    let fields = sum(&[2, identity.len(), 2, identity.len(), 2, password.len()]);
    header(out, 0x10, sum(&[10, fields]))?;
    put(out, b"\x00\x04MQTT\x04\xC2")?;
    put(out, &KEEP_ALIVE_S.to_be_bytes())?;
    put_field(out, identity)?;
    put_field(out, identity)?;
    put_field(out, password)
}

/// PUBLISH [3.3] with QoS 1.
///
/// # Errors
/// [`TooLong`].
pub fn publish(out: &mut Out, id: u16, topic: &[u8], payload: &[u8]) -> Result<(), TooLong> {
    header(out, 0x32, sum(&[2, topic.len(), 2, payload.len()]))?;
    put_field(out, topic)?;
    put(out, &id.to_be_bytes())?;
    put(out, payload)
}

/// SUBSCRIBE [3.8] to one filter with QoS 0: a wake that is lost is repeated by who wants it.
///
/// # Errors
/// [`TooLong`].
pub fn subscribe(out: &mut Out, id: u16, filter: &[u8]) -> Result<(), TooLong> {
    header(out, 0x82, sum(&[2, 2, filter.len(), 1]))?;
    put(out, &id.to_be_bytes())?;
    put_field(out, filter)?;
    put(out, &[0])
}

/// PUBACK [3.4].
///
/// # Errors
/// Never in practice.
pub fn puback(out: &mut Out, id: u16) -> Result<(), TooLong> {
    header(out, 0x40, 2)?;
    put(out, &id.to_be_bytes())
}

/// PINGREQ [3.12].
///
/// # Errors
/// Never in practice.
pub fn pingreq(out: &mut Out) -> Result<(), TooLong> {
    header(out, 0xC0, 0)
}

/// What a broker sends to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// CONNACK [3.2]: 0 is accepted, 4 and 5 refuse the identity.
    Connack(u8),
    /// PUBACK.
    Puback(u16),
    /// SUBACK [3.9] with its one return code; 0x80 refuses.
    Suback(u16, u8),
    /// PINGRESP.
    Pingresp,
    /// PUBLISH; `id` if it wants a PUBACK.
    Publish {
        /// Topic.
        topic: &'a [u8],
        /// Payload.
        payload: &'a [u8],
        /// Packet id of QoS 1.
        id: Option<u16>,
    },
    /// Something else, or something too long: passed over.
    Other,
}

/// The broker breaks the protocol: the session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Cuts a stream of bytes into packets.
#[derive(Debug, Default)]
pub struct Receiver {
    packet: Vec<u8, MAX_RECEIVE>,
    /// Where the body starts; 0 while the fixed header is incomplete.
    body: usize,
    /// Bytes of the body still to come.
    left: usize,
}

impl Receiver {
    /// Nothing received yet.
    pub const fn new() -> Receiver {
        Receiver { packet: Vec::new(), body: 0, left: 0 }
    }

    /// Takes one byte; true when it completed a packet, which [`Receiver::packet`] then shows.
    ///
    /// # Errors
    /// [`Malformed`] for a length of more than four bytes [2.2.3].
    pub fn feed(&mut self, byte: u8) -> Result<bool, Malformed> {
        if self.body != 0 && self.left == 0 {
            *self = Receiver::new();
        }
        // What does not fit is counted and dropped; its length is known from the header.
        let _ = self.packet.push(byte);
        if self.body == 0 {
            let at = self.packet.len();
            if at < 2 {
                return Ok(false);
            }
            let shift = at.saturating_sub(2).saturating_mul(7) as u32;
            self.left |= usize::from(byte & 0x7F).wrapping_shl(shift);
            if byte & 0x80 != 0 {
                return if at > 4 { Err(Malformed) } else { Ok(false) };
            }
            self.body = at;
        } else {
            self.left = self.left.saturating_sub(1);
        }
        Ok(self.left == 0)
    }

    /// The packet that [`Receiver::feed`] completed.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn packet(&self) -> Result<Incoming<'_>, Malformed> {
        let first = *self.packet.first().ok_or(Malformed)?;
        if self.packet.is_full() {
            return Ok(Incoming::Other);
        }
        let body = self.packet.get(self.body..).ok_or(Malformed)?;
        let number = |bytes: &[u8]| match bytes {
            [a, b, ..] => Ok(u16::from_be_bytes([*a, *b])),
            _ => Err(Malformed),
        };
        // Flags other than a PUBLISH's are 0, or the connection ends [2.2.2].
        match (first, body) {
            (0x20, [_, code]) => Ok(Incoming::Connack(*code)),
            (0x40, [_, _]) => Ok(Incoming::Puback(number(body)?)),
            (0x90, [_, _, code]) => Ok(Incoming::Suback(number(body)?, *code)),
            (0xD0, []) => Ok(Incoming::Pingresp),
            (0x20..=0x2F | 0x40..=0x4F | 0x90..=0x9F | 0xD0..=0xDF, _) => Err(Malformed),
            (0x30..=0x3F, _) => {
                let (topic, rest) = body
                    .get(2..)
                    .and_then(|b| b.split_at_checked(number(body).ok()?.into()))
                    .ok_or(Malformed)?;
                match first & 0x06 {
                    0 => Ok(Incoming::Publish { topic, payload: rest, id: None }),
                    2 => {
                        let payload = rest.get(2..).ok_or(Malformed)?;
                        // No packet has id 0 [2.3.1], and neither would its PUBACK.
                        let id = Some(number(rest)?).filter(|id| *id != 0).ok_or(Malformed)?;
                        Ok(Incoming::Publish { topic, payload, id: Some(id) })
                    }
                    // Nobody subscribed to QoS 2.
                    _ => Err(Malformed),
                }
            }
            _ => Ok(Incoming::Other),
        }
    }
}

/// Host and port of a record's URL: `mqtt://host[:port]` or `mqtts://host[:port]`, where the modem does TLS.
pub fn address(url: &str) -> Option<(&str, u16)> {
    let (rest, standard) = match url.strip_prefix("mqtts://") {
        Some(rest) => (rest, 8883),
        None => (url.strip_prefix("mqtt://")?, 1883),
    };
    // By `get` throughout: a slice of text that might not end on a character's border is a panic path.
    let authority = match rest.bytes().position(|b| b == b'/') {
        Some(end) => rest.get(..end)?,
        None => rest,
    };
    let colon = authority.bytes().rposition(|b| b == b':');
    // An IPv6 address stands in brackets; its colons are not a port's.
    let (host, port) = match (colon, authority.bytes().last()) {
        (Some(at), last) if last != Some(b']') => {
            (authority.get(..at)?, authority.get(at.checked_add(1)?..)?.parse().ok()?)
        }
        _ => (authority, standard),
    };
    if host.is_empty() || port == 0 { None } else { Some((host, port)) }
}
