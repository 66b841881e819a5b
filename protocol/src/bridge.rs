//! Channel 3: one TCP connection of a unit, carried over the serial line by whoever stands in for its modem.
//!
//! ```text
//! 01 Open   id u8, port u16, window u16, host (1..=253 ASCII)   unit → bridge; each connection has a new id
//! 81 Opened id u8, window u16                                   bridge → unit: connected
//! 02 Data   id u8, offset u32, bytes (≤ 256, may be none)       both ways; offset = bytes of this direction before
//! 82 Ack    id u8, next u32, window u16                         both ways; next = bytes taken in order so far
//! 03 Close  id u8, reason u8                                    both ways
//! ```
//! `window` is what the sender of the packet will take beyond what it has acknowledged. Packets may be lost, repeated,
//! damaged (and then dropped by the framing) or late: data is sent again from the last acknowledged byte until it is
//! taken, in order, once. A Data without bytes asks for an Ack. An Open that comes again under the same id is the same one: it is
//! answered again. An Open under another id ends whatever was open.
//!
//! [`Pipe`] is both ends of it, without I/O and without a clock of its own. What travels inside is not protected by
//! the bridge; the unit's own protocol has to.

use core::fmt;

use heapless::Deque;

use crate::error::{Error, FieldName};
use crate::wire::{Reader, Writer};

/// The most bytes in one Data packet.
pub const MAX_DATA: usize = 256;
/// The longest host name (RFC 1035 §2.3.4, without the trailing dot).
pub const MAX_HOST: usize = 253;
/// The longest packet.
pub const MAX_BRIDGE: usize = 6 + MAX_DATA;
const _: () = assert!(1 + 1 + 2 + 2 + MAX_HOST <= MAX_BRIDGE);
/// Milliseconds after which unacknowledged bytes are sent again: twice what a full packet and its Ack take at 115,200 baud on
/// a line that carries other packets too.
pub const RESEND_MS: u64 = 500;
/// Repetitions without any Ack after which the other end counts as gone.
pub const MAX_REPEATS: u8 = 10;

const OPEN: u8 = 0x01;
const OPENED: u8 = 0x81;
const DATA: u8 = 0x02;
const ACK: u8 = 0x82;
const CLOSE: u8 = 0x03;

/// Why a connection ended. Unknown numbers of a newer peer are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseReason(pub u8);

impl CloseReason {
    /// One side is done.
    pub const DONE: Self = Self(0);
    /// Not the broker this unit may reach.
    pub const REFUSED: Self = Self(1);
    /// The broker cannot be reached.
    pub const UNREACHABLE: Self = Self(2);
    /// The connection broke, or the other end no longer answers.
    pub const BROKEN: Self = Self(3);
    /// Nothing travelled for too long.
    pub const IDLE: Self = Self(4);
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::DONE => "done",
            Self::REFUSED => "refused: not this unit's broker",
            Self::UNREACHABLE => "the broker cannot be reached",
            Self::BROKEN => "the connection broke",
            Self::IDLE => "idle",
            Self(other) => return write!(f, "unknown reason {other}"),
        })
    }
}

/// One packet of channel 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Unit: connect me.
    Open {
        /// Number of the connection, another for each.
        id: u8,
        /// TCP port.
        port: u16,
        /// Bytes the unit will take at first.
        window: u16,
        /// Host name or address, 1 to [`MAX_HOST`] printable ASCII characters.
        host: &'a str,
    },
    /// Bridge: you are connected.
    Opened {
        /// The connection.
        id: u8,
        /// Bytes the bridge will take at first.
        window: u16,
    },
    /// Bytes of the connection.
    Data {
        /// The connection.
        id: u8,
        /// Bytes of this direction before these.
        offset: u32,
        /// At most [`MAX_DATA`].
        bytes: &'a [u8],
    },
    /// What was taken so far.
    Ack {
        /// The connection.
        id: u8,
        /// Bytes taken in order.
        next: u32,
        /// Bytes that will be taken beyond them.
        window: u16,
    },
    /// The end.
    Close {
        /// The connection.
        id: u8,
        /// Why.
        reason: CloseReason,
    },
}

impl<'a> Packet<'a> {
    /// Reads a packet.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::UnknownMessage`], [`Error::Field`] for a host that is no name.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        let packet = match r.u8()? {
            OPEN => {
                let (id, port, window) = (r.u8()?, r.u16()?, r.u16()?);
                let host = r.rest();
                if !(1..=MAX_HOST).contains(&host.len()) || !host.iter().all(u8::is_ascii_graphic) {
                    return Err(Error::Field(FieldName::Value));
                }
                let host = core::str::from_utf8(host).map_err(|_| Error::Field(FieldName::Value))?;
                return Ok(Packet::Open { id, port, window, host });
            }
            DATA => {
                let (id, offset) = (r.u8()?, r.u32()?);
                let bytes = r.rest();
                if bytes.len() > MAX_DATA {
                    return Err(Error::Length);
                }
                return Ok(Packet::Data { id, offset, bytes });
            }
            OPENED => Packet::Opened { id: r.u8()?, window: r.u16()? },
            ACK => Packet::Ack { id: r.u8()?, next: r.u32()?, window: r.u16()? },
            CLOSE => Packet::Close { id: r.u8()?, reason: CloseReason(r.u8()?) },
            got => return Err(Error::UnknownMessage { got }),
        };
        r.finish()?;
        Ok(packet)
    }

    /// Writes the packet; returns its length (at most [`MAX_BRIDGE`]).
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`]; [`Error::Length`] or [`Error::Field`] for what [`Packet::parse`] would refuse.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        let mut w = Writer::new(out);
        match self {
            Packet::Open { id, port, window, host } => {
                if !(1..=MAX_HOST).contains(&host.len()) || !host.bytes().all(|b| b.is_ascii_graphic()) {
                    return Err(Error::Field(FieldName::Value));
                }
                w.put(&[OPEN, *id])?;
                w.put(&port.to_be_bytes())?;
                w.put(&window.to_be_bytes())?;
                w.put(host.as_bytes())?;
            }
            Packet::Opened { id, window } => {
                w.put(&[OPENED, *id])?;
                w.put(&window.to_be_bytes())?;
            }
            Packet::Data { id, offset, bytes } => {
                if bytes.len() > MAX_DATA {
                    return Err(Error::Length);
                }
                w.put(&[DATA, *id])?;
                w.put(&offset.to_be_bytes())?;
                w.put(bytes)?;
            }
            Packet::Ack { id, next, window } => {
                w.put(&[ACK, *id])?;
                w.put(&next.to_be_bytes())?;
                w.put(&window.to_be_bytes())?;
            }
            Packet::Close { id, reason } => w.put(&[CLOSE, *id, reason.0])?,
        }
        Ok(w.len())
    }

    /// The connection it is about.
    #[must_use]
    pub const fn id(&self) -> u8 {
        match self {
            Packet::Open { id, .. }
            | Packet::Opened { id, .. }
            | Packet::Data { id, .. }
            | Packet::Ack { id, .. }
            | Packet::Close { id, .. } => *id,
        }
    }
}

/// The other end did not answer [`MAX_REPEATS`] times: close with [`CloseReason::BROKEN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// One end of an open connection: what was not acknowledged yet, and how far the other side's bytes were taken.
///
/// `TX` is how many bytes may wait for their acknowledgement. What is received is handed to the caller at once and never
/// stored; the caller says how much it can take.
#[derive(Debug)]
pub struct Pipe<const TX: usize> {
    id: u8,
    /// Bytes from offset `acked` on.
    waiting: Deque<u8, TX>,
    acked: u32,
    /// How many of `waiting` are under way, since the last repetition.
    sent: usize,
    /// How many of `waiting` were ever sent: a late Ack may be for any of them.
    reach: usize,
    /// What the other end takes beyond `acked`.
    window: usize,
    resend_at: Option<u64>,
    repeats: u8,
    taken: u32,
    ack_due: bool,
    /// The window that the other end knows of.
    told: u16,
}

impl<const TX: usize> Pipe<TX> {
    /// A connection that was just opened: the other end takes `window` bytes, and knows that this one takes `told`.
    #[must_use]
    pub const fn new(id: u8, window: u16, told: u16) -> Self {
        Self {
            id,
            waiting: Deque::new(),
            acked: 0,
            sent: 0,
            reach: 0,
            window: window as usize,
            resend_at: None,
            repeats: 0,
            taken: 0,
            ack_due: false,
            told,
        }
    }

    /// Number of the connection.
    #[must_use]
    pub const fn id(&self) -> u8 {
        self.id
    }

    /// How many bytes [`Pipe::write`] takes now.
    #[must_use]
    pub fn room(&self) -> usize {
        TX.saturating_sub(self.waiting.len())
    }

    /// Whether everything written was taken by the other end.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Queues bytes, as many as there is room for; returns how many.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0_usize;
        for byte in bytes {
            if self.waiting.push_back(*byte).is_err() {
                break;
            }
            taken = taken.wrapping_add(1);
        }
        taken
    }

    /// Takes a Data or Ack packet of this connection. `room` is how many bytes the caller can take now; what is
    /// returned is for the caller to take, all of it.
    pub fn handle<'a>(&mut self, packet: &Packet<'a>, room: u16) -> &'a [u8] {
        match *packet {
            Packet::Data { id, offset, bytes } if id == self.id => {
                // Whatever came: the other end learns how far this one is.
                self.ack_due = true;
                let known = self.taken.wrapping_sub(offset) as usize;
                match bytes.get(known..) {
                    // A gap, or all of it known: `known` is huge for a packet from the future.
                    None | Some([]) => &[],
                    Some(new) => {
                        let new = new.get(..usize::from(room)).unwrap_or(new);
                        self.taken = self.taken.wrapping_add(new.len() as u32);
                        new
                    }
                }
            }
            Packet::Ack { id, next, window } if id == self.id => {
                let more = next.wrapping_sub(self.acked) as usize;
                // Late Acks wrap to huge numbers; nobody can take what was never sent.
                if more <= self.reach {
                    for _ in 0..more {
                        self.waiting.pop_front();
                    }
                    self.reach = self.reach.wrapping_sub(more);
                    self.sent = self.sent.saturating_sub(more);
                    self.acked = next;
                    self.window = usize::from(window);
                    self.repeats = 0;
                    // What is still under way gets a fresh time-out; a closed window is asked about from time to time.
                    self.resend_at = None;
                }
                &[]
            }
            _ => &[],
        }
    }

    /// The next packet to send, if one is due at `now` (milliseconds, never going back). `room` as in [`Pipe::handle`].
    ///
    /// # Errors
    /// [`Gone`] when the other end has not answered for [`MAX_REPEATS`] repetitions.
    pub fn poll(&mut self, now: u64, room: u16, out: &mut [u8; MAX_BRIDGE]) -> Result<Option<usize>, Gone> {
        // A window that was closed and opens again is told, or the other end waits for its time-out.
        if self.told == 0 && room > 0 {
            self.ack_due = true;
        }
        if self.ack_due {
            self.ack_due = false;
            self.told = room;
            let ack = Packet::Ack { id: self.id, next: self.taken, window: room };
            return Ok(ack.encode(out).ok());
        }
        let late = self.resend_at.is_some_and(|at| now >= at);
        if late {
            if self.repeats >= MAX_REPEATS {
                return Err(Gone);
            }
            self.repeats = self.repeats.wrapping_add(1);
            self.sent = 0;
        }
        let left = self.waiting.len().min(self.window).saturating_sub(self.sent);
        let len = left.min(MAX_DATA);
        let stuck = len == 0 && !self.waiting.is_empty();
        if len == 0 && !(late && stuck) {
            if stuck && self.resend_at.is_none() {
                self.resend_at = Some(now.saturating_add(RESEND_MS));
            }
            return Ok(None);
        }
        let mut bytes = [0; MAX_DATA];
        for (to, from) in bytes.iter_mut().zip(self.waiting.iter().skip(self.sent).take(len)) {
            *to = *from;
        }
        let offset = self.acked.wrapping_add(self.sent as u32);
        let data = Packet::Data { id: self.id, offset, bytes: bytes.get(..len).unwrap_or(&[]) };
        self.sent = self.sent.wrapping_add(len);
        self.reach = self.reach.max(self.sent);
        if late || self.resend_at.is_none() {
            self.resend_at = Some(now.saturating_add(RESEND_MS));
        }
        Ok(data.encode(out).ok())
    }

    /// When [`Pipe::poll`] should be called at the latest, if nothing arrives before.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        if self.waiting.is_empty() { None } else { self.resend_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    extern crate std;

    fn round(packet: Packet<'_>) {
        let mut out = [0; MAX_BRIDGE];
        let len = packet.encode(&mut out).unwrap();
        assert_eq!(Packet::parse(&out[..len]), Ok(packet));
        for short in 0..len {
            if let Ok(other) = Packet::parse(&out[..short]) {
                // Only the open-ended kinds have shorter siblings.
                assert!(matches!(other, Packet::Open { .. } | Packet::Data { .. }), "{packet:?} {short}");
            }
        }
    }

    #[test]
    fn packets_come_back_as_they_went() {
        round(Packet::Open { id: 7, port: 1883, window: 96, host: "keywright.local" });
        round(Packet::Opened { id: 7, window: 512 });
        round(Packet::Data { id: 7, offset: 0xFFFF_FFF0, bytes: &[1, 2, 3] });
        round(Packet::Data { id: 7, offset: 0, bytes: &[] });
        round(Packet::Data { id: 7, offset: 0, bytes: &[9; MAX_DATA] });
        round(Packet::Ack { id: 7, next: 12, window: 0 });
        round(Packet::Close { id: 7, reason: CloseReason(200) });
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(Packet::parse(&[]), Err(Error::Length));
        assert_eq!(Packet::parse(&[0x44, 1]), Err(Error::UnknownMessage { got: 0x44 }));
        assert_eq!(Packet::parse(&[CLOSE, 1, 2, 3]), Err(Error::Length));
        assert_eq!(Packet::parse(&[OPEN, 1, 0, 80, 0, 9]), Err(Error::Field(FieldName::Value)));
        assert_eq!(Packet::parse(b"\x01\x01\0\x50\0\x09a b"), Err(Error::Field(FieldName::Value)));
        assert_eq!(Packet::parse(&[DATA; 6 + MAX_DATA + 1]), Err(Error::Length));
        let mut out = [0; MAX_BRIDGE];
        let host = core::str::from_utf8(&[b'a'; MAX_HOST + 1]).unwrap();
        let open = Packet::Open { id: 1, port: 1, window: 1, host };
        assert_eq!(open.encode(&mut out), Err(Error::Field(FieldName::Value)));
    }

    /// SplitMix64.
    struct Dice(u64);

    impl Dice {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        fn chance(&mut self, percent: u64) -> bool {
            self.next() % 100 < percent
        }
    }

    struct End {
        pipe: Pipe<384>,
        to_send: Vec<u8>,
        written: usize,
        got: Vec<u8>,
        room: u16,
    }

    /// Both directions at once over a line that loses, doubles and delays packets, with receivers that are full from
    /// time to time: everything arrives once and in order, or the pipe says that the other end is gone.
    #[test]
    fn bytes_arrive_once_and_in_order_over_a_bad_line() {
        let mut whole = 0;
        for seed in 0..3_000_u64 {
            let mut dice = Dice(seed);
            let loss = dice.next() % 35;
            let mut ends: Vec<End> = (0..2)
                .map(|_| {
                    let len = (dice.next() % 3_000) as usize;
                    End {
                        pipe: Pipe::new(3, 200, 200),
                        to_send: (0..len).map(|_| dice.next() as u8).collect(),
                        written: 0,
                        got: Vec::new(),
                        room: 200,
                    }
                })
                .collect();
            let mut lines: [VecDeque<(u64, Vec<u8>)>; 2] = [VecDeque::new(), VecDeque::new()];
            let mut gone = false;
            let mut now = 0;
            'run: while now < 600_000 {
                for side in 0..2 {
                    let end = &mut ends[side];
                    if dice.chance(5) {
                        end.room = [0, 1, 30, 200, 256][(dice.next() % 5) as usize];
                    }
                    end.written += end.pipe.write(&end.to_send[end.written..]);
                    let mut out = [0; MAX_BRIDGE];
                    loop {
                        match end.pipe.poll(now, end.room, &mut out) {
                            Ok(Some(len)) => {
                                for _ in 0..1 + u64::from(dice.chance(10)) {
                                    if !dice.chance(loss) {
                                        let due = now + 5 + dice.next() % 60;
                                        lines[side].push_back((due, out[..len].to_vec()));
                                    }
                                }
                            }
                            Ok(None) => break,
                            Err(Gone) => {
                                gone = true;
                                break 'run;
                            }
                        }
                    }
                }
                for side in 0..2 {
                    // Not sorted: what is due later may overtake.
                    let due: Vec<_> =
                        lines[side].iter().filter(|p| p.0 <= now).map(|p| p.1.clone()).collect();
                    lines[side].retain(|p| p.0 > now);
                    let end = &mut ends[1 - side];
                    for bytes in due {
                        let packet = Packet::parse(&bytes).unwrap();
                        let new = end.pipe.handle(&packet, end.room);
                        assert!(new.len() <= usize::from(end.room));
                        end.got.extend_from_slice(new);
                    }
                }
                if (0..2).all(|s| ends[s].got.len() == ends[1 - s].to_send.len() && ends[s].pipe.is_flushed())
                {
                    break;
                }
                now += 10;
            }
            for side in 0..2 {
                let (got, sent) = (&ends[side].got, &ends[1 - side].to_send);
                assert!(sent.starts_with(got), "seed {seed}: not what was sent");
                assert!(
                    gone || got.len() == sent.len(),
                    "seed {seed}: stuck at {} of {}",
                    got.len(),
                    sent.len()
                );
            }
            whole += u32::from(!gone);
        }
        // A pipe gives up after ten losses in a row, which a third of loss brings about rarely.
        assert!(whole > 2_900, "{whole} of 3000 came through");
    }

    #[test]
    fn a_silent_peer_is_given_up() {
        let mut pipe: Pipe<64> = Pipe::new(1, 10, 10);
        assert_eq!(pipe.write(&[1; 100]), 64);
        let mut out = [0; MAX_BRIDGE];
        let (mut now, mut packets) = (0, 0);
        let end = loop {
            match pipe.poll(now, 10, &mut out) {
                Ok(Some(_)) => packets += 1,
                Ok(None) => now = pipe.deadline().unwrap().max(now + 1),
                Err(gone) => break gone,
            }
        };
        assert_eq!((end, packets), (Gone, 1 + u32::from(MAX_REPEATS)));
        assert_eq!(now, RESEND_MS * (1 + u64::from(MAX_REPEATS)));
    }

    /// The window closed while bytes were under way, and the Ack for them comes after they were to be sent again: it
    /// counts, or the other end, which has them, would never say anything else.
    #[test]
    fn an_ack_for_bytes_of_an_earlier_try_counts() {
        let mut pipe: Pipe<64> = Pipe::new(1, 64, 10);
        pipe.write(&[1; 20]);
        let mut out = [0; MAX_BRIDGE];
        assert!(pipe.poll(0, 10, &mut out).unwrap().is_some());
        pipe.handle(&Packet::Ack { id: 1, next: 10, window: 0 }, 10);
        assert_eq!(pipe.poll(1, 10, &mut out), Ok(None));
        let late = pipe.deadline().unwrap();
        let len = pipe.poll(late, 10, &mut out).unwrap().unwrap();
        assert_eq!(
            Packet::parse(&out[..len]),
            Ok(Packet::Data { id: 1, offset: 10, bytes: &[] }),
            "a question"
        );
        pipe.handle(&Packet::Ack { id: 1, next: 20, window: 9 }, 10);
        assert!(pipe.is_flushed());
    }

    /// An Ack from nowhere, or of bytes never sent, moves nothing.
    #[test]
    fn false_acks_move_nothing() {
        let mut pipe: Pipe<64> = Pipe::new(1, 64, 10);
        pipe.write(&[1; 20]);
        for next in [1, 20, 21, u32::MAX] {
            pipe.handle(&Packet::Ack { id: 1, next, window: 9 }, 10);
            pipe.handle(&Packet::Ack { id: 2, next: 0, window: 9 }, 10);
        }
        assert!(!pipe.is_flushed());
        let mut out = [0; MAX_BRIDGE];
        let len = pipe.poll(0, 10, &mut out).unwrap().unwrap();
        assert_eq!(Packet::parse(&out[..len]), Ok(Packet::Data { id: 1, offset: 0, bytes: &[1; 20] }));
        assert!(pipe.handle(&Packet::Data { id: 1, offset: 5, bytes: &[7; 4] }, 10).is_empty(), "a gap");
        assert!(pipe.handle(&Packet::Data { id: 2, offset: 0, bytes: &[7; 4] }, 10).is_empty(), "a stranger");
    }
}
