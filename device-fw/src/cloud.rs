//! The unit's session with its cloud: MQTT over the bridge that stands in for its modem (`docs/cloud.md`).
//!
//! ```text
//!  Resting ─ due ─▶ Opening ─ Opened ─▶ LoggingIn ─ CONNACK 0 ─▶ Announcing ─ PUBACK ─▶ Born ─ ping … ─┐
//!     ▲                │ Close, time-out     │ CONNACK 4, 5            │ time-out               │ broken  │
//!     └── back-off 1 s … 1 h ◀───────────────┴─────────────────────────┴────────────────────────┴─────────┘
//! ```
//! The identity is `<uid>.<cloud-key generation>`, the password follows from the cloud key; the key itself never leaves.
//! A pending cloud key logs in as well: that login is evidence for the agent that the key was stored (PROTOCOL §4).
//! Nothing that arrives here changes a key; a wake only starts an exchange, which authenticates itself.
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

use core::fmt::Write;

use heapless::String;
use keywright_protocol::bridge::{CloseReason, MAX_BRIDGE, Packet, Pipe};
use keywright_protocol::control::CloudSession;
use keywright_protocol::record::RecordView;
use keywright_protocol::serial::Channel;
use keywright_protocol::{DeviceFailure, Purpose, UnitId, crypto};
use zeroize::Zeroize;

use crate::mqtt::{self, Incoming, Malformed, Receiver, TooLong};
use crate::traits::Link;

/// Bytes on their way to the broker: a login, or a subscription and a birth message.
const TX: usize = 192;
/// What the unit takes at once; it looks at every byte as it comes, so this only bounds what is under way.
const WINDOW: u16 = 96;
/// First and last pause between two tries, in milliseconds.
const PAUSE_FIRST: u64 = 1_000;
const PAUSE_LAST: u64 = 60 * 60 * 1_000;
/// How long one step of the way to Born may take: a modem's connect includes name resolution and TLS.
const STEP_MS: u64 = 15_000;
/// An Open that nobody answers is repeated this often, in case the line lost it.
const OPENS: u8 = 5;
const OPEN_AGAIN_MS: u64 = STEP_MS / OPENS as u64;
/// Half of the keep-alive: one lost ping ends nothing.
const PING_MS: u64 = mqtt::KEEP_ALIVE_S as u64 * 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Resting,
    Opening,
    LoggingIn,
    Announcing,
    Born,
    /// A ping was sent and not answered yet.
    Pinged,
}

/// What a session wants of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The agent asks for this update.
    Update(Purpose),
}

/// The unit's one session.
pub struct Session {
    unit: UnitId,
    firmware: [u8; 4],
    phase: Phase,
    refused: bool,
    id: u8,
    opens: u8,
    pipe: Option<Pipe<TX>>,
    receiver: Receiver,
    packet_id: u16,
    /// A PUBACK that is owed.
    owed: Option<u16>,
    generation: u32,
    pause: u64,
    due_at: u64,
}

impl Session {
    /// A session of this unit that has not begun.
    pub const fn new(unit: UnitId, firmware: [u8; 4]) -> Session {
        Session {
            unit,
            firmware,
            phase: Phase::Resting,
            refused: false,
            id: 0,
            opens: 0,
            pipe: None,
            receiver: Receiver::new(),
            packet_id: 0,
            owed: None,
            generation: 0,
            pause: PAUSE_FIRST,
            due_at: 0,
        }
    }

    /// How it stands, for Status.
    pub const fn state(&self) -> CloudSession {
        match self.phase {
            Phase::Born | Phase::Pinged => CloudSession::BORN,
            Phase::Resting if self.refused => CloudSession::REFUSED,
            _ => CloudSession::TRYING,
        }
    }

    /// When [`Session::poll`] is due at the latest.
    pub fn due_at(&self) -> u64 {
        match self.pipe.as_ref().and_then(Pipe::deadline) {
            Some(at) => self.due_at.min(at),
            None => self.due_at,
        }
    }

    /// Somebody listens, or the key changed: what is due is due now, but never faster than the first pause.
    pub fn hurry(&mut self, now: u64) {
        self.pause = PAUSE_FIRST;
        if self.phase == Phase::Resting {
            self.due_at = self.due_at.min(now.saturating_add(PAUSE_FIRST));
        }
    }

    /// The record changed: a session under another identity ends, and the new one begins.
    pub fn rekeyed(&mut self, now: u64, link: &mut impl Link) {
        if self.phase != Phase::Resting {
            self.close(CloseReason::DONE, link);
        }
        self.refused = false;
        self.pause = PAUSE_FIRST;
        self.due_at = now;
    }

    /// The cloud-key generation of the session that runs; 0 if none.
    pub const fn generation(&self) -> u32 {
        match self.phase {
            Phase::Resting => 0,
            _ => self.generation,
        }
    }

    fn close(&mut self, reason: CloseReason, link: &mut impl Link) {
        let mut out = [0; MAX_BRIDGE];
        if let Ok(len) = (Packet::Close { id: self.id, reason }).encode(&mut out) {
            // A Close that is lost is made up for: the bridge forgets a connection when the next one opens.
            let _ = link.send(Channel::TCP, out.get(..len).unwrap_or(&[]));
        }
        self.forget();
    }

    fn forget(&mut self) {
        self.phase = Phase::Resting;
        self.pipe = None;
        self.owed = None;
        self.receiver = Receiver::new();
    }

    /// The connection is gone: rest, and try again later.
    fn rest(&mut self, now: u64) {
        self.forget();
        self.due_at = now.saturating_add(self.pause);
        self.pause = self.pause.saturating_mul(2).min(PAUSE_LAST);
    }

    /// Does what is due. `record` is the active record, looked at only when a session begins; `boot` names this boot.
    ///
    /// # Errors
    /// What a person should know; the session goes on by itself.
    pub fn poll<'r>(
        &mut self,
        now: u64,
        boot: &[u8; 8],
        record: impl FnOnce() -> Option<RecordView<'r>>,
        link: &mut impl Link,
    ) -> Result<(), DeviceFailure> {
        if now >= self.due_at {
            match self.phase {
                Phase::Resting => {
                    self.id = self.id.wrapping_add(1);
                    self.opens = 0;
                    // Whatever happens, the next try comes later.
                    self.rest(now);
                    return self.open(now, record, link);
                }
                Phase::Opening if self.opens < OPENS => return self.open(now, record, link),
                Phase::Born => {
                    self.phase = Phase::Pinged;
                    self.due_at = now.saturating_add(STEP_MS);
                    let mut out = mqtt::Out::new();
                    let made = mqtt::pingreq(&mut out);
                    self.write(made, &mut out)?;
                }
                Phase::Opening => {
                    self.close(CloseReason::UNREACHABLE, link);
                    self.rest(now);
                    return Err(DeviceFailure::CloudUnreachable);
                }
                Phase::LoggingIn | Phase::Announcing | Phase::Pinged => {
                    self.close(CloseReason::BROKEN, link);
                    self.rest(now);
                    return Err(DeviceFailure::CloudBroken);
                }
            }
        }
        if let Some(id) = self.owed.take() {
            let mut out = mqtt::Out::new();
            let made = mqtt::puback(&mut out, id);
            self.write(made, &mut out)?;
        }
        // The login is made when the connection is there: the password is in memory only while it travels.
        if self.phase == Phase::LoggingIn && self.packet_id == 0 {
            self.log_in(record)?;
        }
        // Behind the login there is no room for it: the broker's answer can overtake the modem's Ack.
        let flushed = self.pipe.as_ref().is_some_and(Pipe::is_flushed);
        if self.phase == Phase::Announcing && self.packet_id == 1 && flushed {
            self.announce(boot)?;
        }
        self.send_waiting(now, link)
    }

    fn send_waiting(&mut self, now: u64, link: &mut impl Link) -> Result<(), DeviceFailure> {
        let mut out = [0; MAX_BRIDGE];
        // At most what two packets need: the exchange shares the line, and its frames must find room.
        for _ in 0..2 {
            let Some(pipe) = &mut self.pipe else { return Ok(()) };
            match pipe.poll(now, WINDOW, &mut out) {
                Ok(Some(len)) => {
                    // A full ring loses the packet, as a bad line would: it is sent again.
                    let sent = link.send(Channel::TCP, out.get(..len).unwrap_or(&[]));
                    out.zeroize();
                    if sent.is_err() {
                        return Ok(());
                    }
                }
                Ok(None) => return Ok(()),
                Err(_) => {
                    self.close(CloseReason::BROKEN, link);
                    self.rest(now);
                    return Err(DeviceFailure::CloudBroken);
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, made: Result<(), TooLong>, out: &mut mqtt::Out) -> Result<(), DeviceFailure> {
        let fits = match (made, &mut self.pipe) {
            (Ok(()), Some(pipe)) if pipe.room() >= out.len() => pipe.write(out) == out.len(),
            _ => false,
        };
        out.as_mut_slice().zeroize();
        if fits { Ok(()) } else { Err(DeviceFailure::CloudBroken) }
    }

    fn open<'r>(
        &mut self,
        now: u64,
        record: impl FnOnce() -> Option<RecordView<'r>>,
        link: &mut impl Link,
    ) -> Result<(), DeviceFailure> {
        let record = record();
        let url = record.as_ref().and_then(RecordView::connection);
        let Some((host, port)) = url.and_then(mqtt::address) else {
            return Err(DeviceFailure::CloudAddress);
        };
        let mut out = [0; MAX_BRIDGE];
        let len = (Packet::Open { id: self.id, port, window: WINDOW, host })
            .encode(&mut out)
            .map_err(|_| DeviceFailure::CloudAddress)?;
        if link.send(Channel::TCP, out.get(..len).unwrap_or(&[])).is_ok() {
            self.phase = Phase::Opening;
            self.opens = self.opens.saturating_add(1);
            self.due_at = now.saturating_add(OPEN_AGAIN_MS);
        }
        Ok(())
    }

    fn log_in<'r>(&mut self, record: impl FnOnce() -> Option<RecordView<'r>>) -> Result<(), DeviceFailure> {
        self.packet_id = 1;
        let Some((generation, key)) = record().and_then(|record| record.cloud_key()) else {
            return Err(DeviceFailure::AreaInvalid);
        };
        self.generation = generation.0;
        let mut secret = crypto::derive(b"OTAK/v1/mqtt", key.expose(), &[b"password"]);
        let mut password = hex(&secret);
        secret.zeroize();
        let mut identity: String<40> = String::new();
        let told = self.name(&mut identity).and_then(|()| write!(identity, ".{}", generation.0));
        let mut out = mqtt::Out::new();
        let made =
            told.map_err(|_| TooLong).and_then(|()| mqtt::connect(&mut out, identity.as_bytes(), &password));
        password.zeroize();
        self.write(made, &mut out)
    }

    fn name<const N: usize>(&self, out: &mut String<N>) -> core::fmt::Result {
        self.unit.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }

    fn announce(&mut self, boot: &[u8; 8]) -> Result<(), DeviceFailure> {
        let mut topic: String<40> = String::new();
        let mut payload: String<96> = String::new();
        let mut out = mqtt::Out::new();
        let made =
            write!(topic, "kw/").and_then(|()| self.name(&mut topic)).and_then(|()| write!(topic, "/down/#"));
        let made = made.map_err(|_| TooLong).and_then(|()| mqtt::subscribe(&mut out, 2, topic.as_bytes()));
        self.write(made, &mut out)?;
        topic.clear();
        let [major, minor, patch, _] = self.firmware;
        let made = write!(topic, "kw/")
            .and_then(|()| self.name(&mut topic))
            .and_then(|()| write!(topic, "/birth"))
            .and_then(|()| {
                let generation = self.generation;
                write!(
                    payload,
                    "{{\"generation\":{generation},\"firmware\":\"{major}.{minor}.{patch}\",\"boot\":\""
                )
            })
            .and_then(|()| boot.iter().try_for_each(|byte| write!(payload, "{byte:02x}")))
            .and_then(|()| write!(payload, "\"}}"));
        let made = made
            .map_err(|_| TooLong)
            .and_then(|()| mqtt::publish(&mut out, 3, topic.as_bytes(), payload.as_bytes()));
        self.write(made, &mut out)?;
        self.packet_id = 3;
        Ok(())
    }

    /// Takes one packet of channel 3.
    ///
    /// # Errors
    /// As [`Session::poll`].
    pub fn receive(
        &mut self,
        bytes: &[u8],
        now: u64,
        link: &mut impl Link,
    ) -> Result<Option<Wish>, DeviceFailure> {
        // What makes no sense is the line's fault and is sent again.
        let Ok(packet) = Packet::parse(bytes) else { return Ok(None) };
        if packet.id() != self.id || self.phase == Phase::Resting {
            return Ok(None);
        }
        match packet {
            Packet::Opened { window, .. } if self.phase == Phase::Opening => {
                self.pipe = Some(Pipe::new(self.id, window, WINDOW));
                self.phase = Phase::LoggingIn;
                self.packet_id = 0;
                self.due_at = now.saturating_add(STEP_MS);
                Ok(None)
            }
            Packet::Close { reason, .. } => {
                let opening = self.phase == Phase::Opening;
                self.rest(now);
                Err(match reason {
                    CloseReason::REFUSED => DeviceFailure::CloudNotAllowed,
                    CloseReason::UNREACHABLE => DeviceFailure::CloudUnreachable,
                    _ if opening => DeviceFailure::CloudUnreachable,
                    _ => DeviceFailure::CloudBroken,
                })
            }
            Packet::Data { .. } | Packet::Ack { .. } => {
                let Some(pipe) = &mut self.pipe else { return Ok(None) };
                let new = pipe.handle(&packet, WINDOW);
                let mut wish = None;
                for byte in new {
                    match self.receiver.feed(*byte) {
                        Ok(false) => {}
                        Ok(true) => wish = self.packet(now, link)?.or(wish),
                        Err(Malformed) => return self.broken(now, link),
                    }
                    if self.phase == Phase::Resting {
                        break;
                    }
                }
                Ok(wish)
            }
            Packet::Open { .. } | Packet::Opened { .. } => Ok(None),
        }
    }

    fn broken<T>(&mut self, now: u64, link: &mut impl Link) -> Result<T, DeviceFailure> {
        self.close(CloseReason::BROKEN, link);
        self.rest(now);
        Err(DeviceFailure::CloudBroken)
    }

    fn packet(&mut self, now: u64, link: &mut impl Link) -> Result<Option<Wish>, DeviceFailure> {
        let packet = match self.receiver.packet() {
            Ok(packet) => packet,
            Err(Malformed) => return self.broken(now, link),
        };
        match (self.phase, packet) {
            // An answer before the login left, or something before that answer [3.2]: no broker says that.
            (Phase::LoggingIn, _) if self.packet_id == 0 => self.broken(now, link),
            (Phase::LoggingIn, Incoming::Connack(0)) => {
                self.refused = false;
                self.phase = Phase::Announcing;
                self.due_at = now.saturating_add(STEP_MS);
                Ok(None)
            }
            (Phase::LoggingIn, Incoming::Connack(code)) => {
                self.close(CloseReason::DONE, link);
                self.rest(now);
                // Bad user name or password, not authorised [3.2.2.3]; the others are the broker's own trouble.
                self.refused = matches!(code, 4 | 5);
                Err(if self.refused {
                    DeviceFailure::CloudLoginRefused
                } else {
                    DeviceFailure::CloudUnreachable
                })
            }
            (Phase::LoggingIn, _) => self.broken(now, link),
            // Only for a birth that was written: `announce` follows the login at the next poll.
            (Phase::Announcing, Incoming::Puback(3)) if self.packet_id == 3 => {
                self.phase = Phase::Born;
                self.pause = PAUSE_FIRST;
                self.due_at = now.saturating_add(PING_MS);
                Ok(None)
            }
            (Phase::Pinged, Incoming::Pingresp) => {
                self.phase = Phase::Born;
                self.due_at = now.saturating_add(PING_MS);
                Ok(None)
            }
            (_, Incoming::Publish { topic, payload, id }) => {
                let wish = match (topic.ends_with(b"/down/wake"), payload) {
                    (true, b"agent-key") => Some(Wish::Update(Purpose::AgentKeyUpdate)),
                    (true, b"cloud-key" | b"") => Some(Wish::Update(Purpose::CloudKeyUpdate)),
                    _ => None,
                };
                self.owed = id;
                Ok(wish)
            }
            _ => Ok(None),
        }
    }
}

fn hex(bytes: &[u8; 32]) -> [u8; 64] {
    let digit = |n: u8| if n < 10 { n.wrapping_add(b'0') } else { n.wrapping_add(b'a' - 10) };
    let mut out = [0; 64];
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        if let [high, low] = pair {
            (*high, *low) = (digit(byte >> 4), digit(byte & 15));
        }
    }
    out
}
