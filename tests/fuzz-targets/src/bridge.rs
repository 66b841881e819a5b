//! Channel 3: its packets, both ends of a connection, and the unit's session with its broker inside.
//!
//! Promises: packets decode and encode as the table in `docs/protocol.md` says, and nothing else decodes; whatever
//! arrives, an end sends no byte beyond the window it was given and hands over each byte once and in order; over a
//! line that has become good again everything arrives; what leaves a unit is MQTT 3.1.1 from a login on, and it calls itself
//! logged in only after the broker took its login and its birth.

use std::collections::VecDeque;
use std::sync::LazyLock;

use keywright_device_fw::cloud::Session;
use keywright_device_fw::mqtt;
use keywright_device_fw::traits::{Link, LinkFull};
use keywright_protocol::bridge::{CloseReason, MAX_BRIDGE, MAX_REPEATS, Packet, Pipe, RESEND_MS};
use keywright_protocol::control::CloudSession;
use keywright_protocol::record::RecordView;
use keywright_protocol::serial::{self, Channel};
use keywright_protocol::{Error, StoreKey, crypto};
use serde_json::Value;

use crate::input::Input;
use crate::records::{MOMENTS, REGIONS};
use crate::support::UNIT;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 4 {
        0 => packet(input.rest()),
        1 => pair(&mut input),
        2 => hostile(&mut input),
        _ => session(&mut input),
    }
}

// ---- packets, by the table ----

/// A packet, read by the table.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Open { id: u8, port: u16, window: u16, host: Vec<u8> },
    Opened { id: u8, window: u16 },
    Data { id: u8, offset: u32, bytes: Vec<u8> },
    Ack { id: u8, next: u32, window: u16 },
    Close { id: u8, reason: u8 },
}

fn read(bytes: &[u8]) -> Option<Said> {
    let word = |a: u8, b: u8| u16::from_be_bytes([a, b]);
    let graphic = |host: &[u8]| host.iter().all(|b| (0x21..=0x7e).contains(b));
    Some(match *bytes {
        [0x01, id, a, b, c, d, ref host @ ..] if (1..=253).contains(&host.len()) && graphic(host) => {
            Said::Open { id, port: word(a, b), window: word(c, d), host: host.to_vec() }
        }
        [0x81, id, a, b] => Said::Opened { id, window: word(a, b) },
        [0x02, id, a, b, c, d, ref bytes @ ..] if bytes.len() <= 256 => {
            Said::Data { id, offset: u32::from_be_bytes([a, b, c, d]), bytes: bytes.to_vec() }
        }
        [0x82, id, a, b, c, d, e, f] => {
            Said::Ack { id, next: u32::from_be_bytes([a, b, c, d]), window: word(e, f) }
        }
        [0x03, id, reason] => Said::Close { id, reason },
        _ => return None,
    })
}

fn said(packet: &Packet<'_>) -> Said {
    match *packet {
        Packet::Open { id, port, window, host } => {
            Said::Open { id, port, window, host: host.as_bytes().to_vec() }
        }
        Packet::Opened { id, window } => Said::Opened { id, window },
        Packet::Data { id, offset, bytes } => Said::Data { id, offset, bytes: bytes.to_vec() },
        Packet::Ack { id, next, window } => Said::Ack { id, next, window },
        Packet::Close { id, reason } => Said::Close { id, reason: reason.0 },
    }
}

fn encoded(packet: &Packet<'_>) -> Vec<u8> {
    let mut out = [0; MAX_BRIDGE];
    let len = packet.encode(&mut out).expect("MAX_BRIDGE holds every packet");
    out[..len].to_vec()
}

fn packet(bytes: &[u8]) {
    let packet = Packet::parse(bytes);
    assert_eq!(packet.as_ref().ok().map(said), read(bytes), "decoded otherwise than the table says");
    if let Ok(packet) = packet {
        assert_eq!(encoded(&packet), bytes, "decode and encode undo each other");
        assert!(bytes.len() <= serial::MAX_PAYLOAD);
        let mut short = vec![0; bytes.len() - 1];
        assert_eq!(packet.encode(&mut short), Err(Error::BufferTooSmall));
        if let Packet::Close { reason, .. } = packet {
            assert!(!reason.to_string().is_empty());
        }
    }
    // What cannot be decoded cannot be encoded.
    let mut out = [0; MAX_BRIDGE];
    if let Ok(host) = std::str::from_utf8(bytes) {
        let open = [&[1, 7, 0, 80, 0, 96], bytes].concat();
        let packet = Packet::Open { id: 7, port: 80, window: 96, host };
        assert_eq!(packet.encode(&mut out).ok().map(|len| out[..len].to_vec()), read(&open).map(|_| open));
    }
    let data = [&[2, 7, 0, 0, 0, 9], bytes].concat();
    let packet = Packet::Data { id: 7, offset: 9, bytes };
    assert_eq!(packet.encode(&mut out).ok().map(|len| out[..len].to_vec()), read(&data).map(|_| data));
}

// ---- one end of a connection ----

/// What an end may send and must hand over, from the packets that pass alone.
#[derive(Debug)]
struct Judge {
    id: u8,
    /// Every byte that it sent, by offset.
    stream: Vec<u8>,
    acked: usize,
    window: usize,
    taken: usize,
}

impl Judge {
    const fn new(id: u8, window: u16) -> Self {
        Self { id, stream: Vec::new(), acked: 0, window: window as usize, taken: 0 }
    }

    /// It sends this while it can take `room` bytes.
    fn sends(&mut self, packet: &[u8], room: u16) {
        match read(packet).expect("only well-formed packets leave") {
            Said::Data { id, offset, bytes } => {
                let (start, end) = (offset as usize, offset as usize + bytes.len());
                assert_eq!(id, self.id);
                assert!(start >= self.acked, "{start} was acknowledged, up to {}", self.acked);
                assert!(start <= self.stream.len(), "bytes {}..{start} were left out", self.stream.len());
                let limit = self.acked + self.window;
                assert!(bytes.is_empty() || end <= limit, "byte {end} is beyond the window, {limit}");
                let known = &self.stream[start..end.min(self.stream.len())];
                assert!(bytes.starts_with(known), "sent again, and not the same");
                self.stream.extend_from_slice(&bytes[known.len()..]);
            }
            Said::Ack { id, next, window } => {
                assert_eq!((id, next as usize, window), (self.id, self.taken, room));
            }
            other => panic!("no end of an open connection sends {other:?}"),
        }
    }

    /// It is told this; returns what it must hand over, and whether this moved it on.
    fn hears(&mut self, packet: &Said, room: u16) -> (Vec<u8>, bool) {
        match packet {
            Said::Data { id, offset, bytes } if *id == self.id => {
                let known = (self.taken as u32).wrapping_sub(*offset);
                let new = bytes.get(known as usize..).unwrap_or(&[]);
                let new = &new[..new.len().min(room.into())];
                self.taken += new.len();
                (new.to_vec(), false)
            }
            Said::Ack { id, next, window } if *id == self.id => {
                let sane = (self.acked..=self.stream.len()).contains(&(*next as usize));
                if sane {
                    (self.acked, self.window) = (*next as usize, usize::from(*window));
                }
                (Vec::new(), sane)
            }
            _ => (Vec::new(), false),
        }
    }
}

struct End<const TX: usize> {
    pipe: Pipe<TX>,
    judge: Judge,
    written: Vec<u8>,
    got: Vec<u8>,
    room: u16,
    /// When nothing waited, or an Ack last came.
    heard_at: u64,
}

impl<const TX: usize> End<TX> {
    fn new(window: u16, room: u16) -> Self {
        Self {
            pipe: Pipe::new(7, window, room),
            judge: Judge::new(7, window),
            written: Vec::new(),
            got: Vec::new(),
            room,
            heard_at: 0,
        }
    }

    fn write(&mut self, now: u64, len: usize) {
        if self.pipe.is_flushed() {
            self.heard_at = now;
        }
        let from = self.written.len();
        let bytes: Vec<u8> = (from..from + len).map(|n| (n ^ n >> 8) as u8).collect();
        let room = self.pipe.room();
        let taken = self.pipe.write(&bytes);
        assert_eq!(taken, len.min(room));
        self.written.extend_from_slice(&bytes[..taken]);
    }

    /// Sends what is due; `false` if it gave up.
    fn poll(&mut self, now: u64, line: &mut VecDeque<Vec<u8>>) -> bool {
        let mut out = [0; MAX_BRIDGE];
        for _ in 0..16 {
            match self.pipe.poll(now, self.room, &mut out) {
                Ok(Some(len)) => {
                    self.judge.sends(&out[..len], self.room);
                    line.push_back(out[..len].to_vec());
                }
                Ok(None) => {
                    assert!(self.written.starts_with(&self.judge.stream), "sent what nobody wrote");
                    return true;
                }
                Err(_) => {
                    let silence = now - self.heard_at;
                    assert!(silence >= RESEND_MS * u64::from(MAX_REPEATS), "gave up after {silence} ms");
                    return false;
                }
            }
        }
        panic!("an end that never stops sending");
    }

    fn hears(&mut self, now: u64, bytes: &[u8]) {
        let Some(packet) = read(bytes) else {
            assert!(Packet::parse(bytes).is_err());
            return;
        };
        let (new, moved) = self.judge.hears(&packet, self.room);
        if moved {
            self.heard_at = now;
        }
        let packet = Packet::parse(bytes).expect("by the table");
        assert_eq!(self.pipe.handle(&packet, self.room), new, "each byte once, in order");
        self.got.extend_from_slice(&new);
        assert_eq!(self.pipe.is_flushed(), self.judge.acked == self.written.len());
    }
}

const WINDOWS: [u16; 6] = [96, 0, 1, 30, 256, 1_024];

/// Both ends, over a line that loses, repeats and delays packets until the input ends, and is good from then on.
fn pair(input: &mut Input<'_>) {
    let windows = [WINDOWS[input.pick(6)], WINDOWS[input.pick(6)]];
    // The sizes of the unit and of the bridge.
    let (mut unit, mut bridge) =
        (End::<192>::new(windows[1], windows[0]), End::<1_024>::new(windows[0], windows[1]));
    let mut lines: [VecDeque<Vec<u8>>; 2] = Default::default();
    let mut now = 0;
    while !input.is_empty() {
        let what = input.byte();
        let side = usize::from(what >> 7);
        let line = &mut lines[side];
        match what % 8 {
            0 => {
                let len = 4 * input.pick(256);
                if side == 0 { unit.write(now, len) } else { bridge.write(now, len) }
            }
            1 => {
                let room = WINDOWS[input.pick(6)];
                if side == 0 { unit.room = room } else { bridge.room = room }
            }
            2 | 3 => {
                if let Some(packet) = line.pop_front() {
                    if side == 0 { bridge.hears(now, &packet) } else { unit.hears(now, &packet) }
                }
            }
            4 => drop(line.pop_front()),
            5 => line.extend(line.front().cloned()),
            6 => line.rotate_left(1.min(line.len())),
            _ => now += 4 * input.pick(256) as u64,
        }
        if what & 8 == 0 && !(unit.poll(now, &mut lines[0]) && bridge.poll(now, &mut lines[1])) {
            return;
        }
    }
    (unit.room, bridge.room) = (96, 1_024);
    lines = Default::default();
    for _ in 0..2_000 {
        if !(unit.poll(now, &mut lines[0]) && bridge.poll(now, &mut lines[1])) {
            return;
        }
        for packet in std::mem::take(&mut lines[0]) {
            bridge.hears(now, &packet);
        }
        for packet in std::mem::take(&mut lines[1]) {
            unit.hears(now, &packet);
        }
        if unit.pipe.is_flushed() && bridge.pipe.is_flushed() {
            assert!(unit.got == bridge.written && bridge.got == unit.written, "not what was sent");
            return;
        }
        now += 10;
    }
    panic!("a good line, and not everything arrives");
}

/// One end, and anything at all from the other.
fn hostile(input: &mut Input<'_>) {
    let (window, room) = (WINDOWS[input.pick(6)], WINDOWS[input.pick(6)]);
    let mut end = End::<192>::new(window, room);
    let mut now = 0;
    while !input.is_empty() {
        let what = input.byte();
        let id = if what & 0x40 == 0 { 7 } else { input.byte() };
        match what % 7 {
            0 => end.write(now, input.pick(256)),
            1 => end.room = WINDOWS[input.pick(6)],
            2 => {
                let at = end.judge.taken as u32;
                let offset = if what & 0x80 == 0 { at } else { (at + 16).wrapping_sub(input.byte().into()) };
                let len = input.pick(256);
                let bytes = input.bytes(len);
                end.hears(now, &encoded(&Packet::Data { id, offset, bytes }));
            }
            3 | 4 => {
                let at = if what & 0x80 == 0 { end.judge.acked } else { end.judge.stream.len() } as u32;
                let next = (at + 8).wrapping_sub(input.byte() as u32 % 16);
                end.hears(now, &encoded(&Packet::Ack { id, next, window: WINDOWS[input.pick(6)] }));
            }
            5 => {
                let len = input.pick(64);
                end.hears(now, input.bytes(len));
            }
            _ => now += 4 * input.pick(256) as u64,
        }
        if !end.poll(now, &mut VecDeque::new()) {
            return;
        }
    }
}

// ---- the unit's session ----

/// Areas with a cloud key and an address, and the key that opens them.
static RECORDS: LazyLock<Vec<(Vec<u8>, StoreKey)>> = LazyLock::new(|| {
    let mut all: Vec<(Vec<u8>, StoreKey)> = Vec::new();
    for moment in MOMENTS.iter() {
        let flash = moment.flash();
        let Some(secret) = flash.secret() else { continue };
        let key = StoreKey::derive(&UNIT, &secret);
        for region in &REGIONS[1..3] {
            let area = flash.bytes(*region).to_vec();
            let whole = RecordView::parse(&area, &UNIT, &key)
                .is_ok_and(|view| view.cloud_key().is_some() && view.connection().is_some());
            if whole && all.iter().all(|(known, _)| *known != area) {
                all.push((area, key.clone()));
            }
        }
    }
    assert!(!all.is_empty(), "a life without a cloud");
    all
});

/// What left the unit. A full ring loses a packet; the unit knows.
#[derive(Default)]
struct Wire {
    out: Vec<(Channel, Vec<u8>, bool)>,
    full: bool,
}

impl Link for Wire {
    fn send(&mut self, channel: Channel, payload: &[u8]) -> Result<(), LinkFull> {
        self.out.push((channel, payload.to_vec(), self.full));
        if self.full { Err(LinkFull) } else { Ok(()) }
    }

    fn receive(&mut self) -> Option<serial::Packet<'_>> {
        None
    }

    fn dropped(&self) -> u32 {
        0
    }
}

const FIRMWARE: [u8; 4] = [1, 2, 3, 0];
const BOOT: [u8; 8] = *b"\x00\x01\x02\x03\x04\x05\x06\x07";
/// What a unit takes at once, by its Open.
const TAKES: u16 = 96;

/// A unit, and everything that passed between it and its modem.
struct Unit {
    session: Session,
    wire: Wire,
    record: usize,
    now: u64,
    id: Option<u8>,
    judge: Option<Judge>,
    /// What the broker said in this connection.
    heard: Vec<u8>,
    refused: bool,
}

impl Unit {
    fn view(record: usize) -> RecordView<'static> {
        let (area, key) = &RECORDS[record];
        RecordView::parse(area, &UNIT, key).expect("genuine")
    }

    fn poll(&mut self) {
        let record = self.record;
        let _ = self.session.poll(self.now, &BOOT, || Some(Self::view(record)), &mut self.wire);
        self.check();
    }

    fn hears(&mut self, bytes: &[u8]) {
        if let (Some(packet), Some(id)) = (read(bytes), self.id) {
            match (&packet, &mut self.judge) {
                (Said::Opened { id: of, window }, judge @ None) if *of == id => {
                    *judge = Some(Judge::new(id, *window));
                }
                (Said::Close { id: of, .. }, _) if *of == id => (self.id, self.judge) = (None, None),
                (_, Some(judge)) => self.heard.extend(judge.hears(&packet, TAKES).0),
                _ => {}
            }
        }
        if let Some((0x20, body)) = packets(&self.heard).first() {
            self.refused |= matches!(body[..], [_, 4 | 5]);
        }
        let _ = self.session.receive(bytes, self.now, &mut self.wire);
        self.check();
    }

    /// In order, as a stream has it.
    fn broker(&mut self, bytes: &[u8]) {
        let Some(judge) = &self.judge else { return };
        let packet = encoded(&Packet::Data { id: judge.id, offset: judge.taken as u32, bytes });
        self.hears(&packet);
    }

    fn ack(&mut self, window: u16) {
        let Some(judge) = &self.judge else { return };
        let next = judge.stream.len() as u32;
        self.hears(&encoded(&Packet::Ack { id: judge.id, next, window }));
    }

    fn check(&mut self) {
        let view = Self::view(self.record);
        for (channel, bytes, lost) in std::mem::take(&mut self.wire.out) {
            assert_eq!(channel, Channel::TCP);
            match read(&bytes).expect("only well-formed packets leave") {
                Said::Open { id, port, window, host } => {
                    let url = view.connection().expect("an address");
                    let host = String::from_utf8(host).expect("printable");
                    let at = if port == 1883 { host.clone() } else { format!("{host}:{port}") };
                    assert!(url.ends_with(&format!("//{at}")) || url.ends_with(&format!("//{host}:{port}")));
                    assert_eq!(window, TAKES);
                    if !lost && self.id != Some(id) {
                        (self.id, self.judge) = (Some(id), None);
                        self.heard.clear();
                    }
                }
                Said::Close { id, .. } => {
                    assert!(self.id.is_none_or(|open| open == id));
                    (self.id, self.judge) = (None, None);
                }
                _ => self.judge.as_mut().expect("no bytes without a connection").sends(&bytes, TAKES),
            }
        }
        let from_broker = packets(&self.heard);
        let accepted = matches!(from_broker.first(), Some((0x20, body)) if matches!(body[..], [_, 0]));
        if let Some(judge) = &self.judge {
            mqtt_leaves(&judge.stream, &view, accepted.then_some(&from_broker));
        }
        match self.session.state() {
            CloudSession::BORN => {
                assert!(self.judge.is_some() && accepted, "a session that no broker accepted");
                assert!(from_broker.iter().any(|(kind, _)| *kind == 0x40), "a birth that nobody took");
            }
            CloudSession::REFUSED => assert!(self.refused, "refused, and by whom?"),
            state => assert_eq!(state, CloudSession::TRYING),
        }
        if self.session.generation() != 0 {
            assert_eq!(Some(self.session.generation()), view.cloud_key().map(|(generation, _)| generation.0));
        }
    }
}

/// Whole packets of an MQTT stream: first byte and body.
fn packets(mut stream: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some((first, rest)) = stream.split_first() {
        let Some(last) = rest.iter().take(4).position(|b| b & 0x80 == 0) else { break };
        let len = rest[..=last].iter().rev().fold(0, |len, b| len << 7 | usize::from(b & 0x7f));
        let Some(body) = rest.get(last + 1..last + 1 + len) else { break };
        all.push((*first, body.to_vec()));
        stream = &rest[last + 1 + len..];
    }
    all
}

fn field(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).expect("short");
    [&len.to_be_bytes(), bytes].concat()
}

/// Holds what left a unit to MQTT 3.1.1 and to the table in `docs/cloud.md`; whether its birth is among it, and under which id.
/// `broker`: what a broker that accepted the login said.
fn mqtt_leaves(stream: &[u8], view: &RecordView<'_>, broker: Option<&Vec<(u8, Vec<u8>)>>) -> Option<Vec<u8>> {
    let uid = hex::encode(UNIT.0);
    let (generation, key) = view.cloud_key().expect("a cloud key");
    let generation = generation.0;
    let identity = format!("{uid}.{generation}");
    let password = hex::encode(crypto::derive(b"OTAK/v1/mqtt", key.expose(), &[b"password"]));
    let login = [
        &b"\x00\x04MQTT\x04\xc2\x00\x3c"[..],
        &field(identity.as_bytes()),
        &field(identity.as_bytes()),
        &field(password.as_bytes()),
    ]
    .concat();
    let (mut birth, mut rest) = (None, stream.len());
    for (n, (first, body)) in packets(stream).into_iter().enumerate() {
        rest -= 1 + body.len() + if body.len() < 128 { 1 } else { 2 };
        if n == 0 {
            assert!(first == 0x10 && body == login, "a session begins with a login");
            continue;
        }
        let broker = broker.expect("nothing leaves before the broker has accepted the login");
        match (first, &body[..]) {
            (0x82, [a, b, filter @ ..]) => {
                assert!((*a, *b) != (0, 0), "a packet id");
                assert_eq!(filter, [&field(format!("kw/{uid}/down/#").as_bytes())[..], &[0]].concat());
            }
            (0x32, _) => {
                let topic = field(format!("kw/{uid}/birth").as_bytes());
                let (id, said) = body.strip_prefix(&topic[..]).expect("its own topic").split_at(2);
                assert!(id != [0, 0] && birth.is_none(), "one birth, with a packet id");
                let said: Value = serde_json::from_slice(said).expect("JSON");
                assert_eq!(said["generation"], generation);
                assert_eq!((&said["firmware"], &said["boot"]), (&"1.2.3".into(), &"0001020304050607".into()));
                birth = Some(id.to_vec());
            }
            (0x40, [a, b]) => {
                assert!((*a, *b) != (0, 0), "a packet id");
                let asked = broker.iter().any(|(kind, body)| {
                    let topic = body.first_chunk().map_or(0, |len| usize::from(u16::from_be_bytes(*len)));
                    *kind & 0xf6 == 0x32 && body.get(2 + topic..4 + topic) == Some(&[*a, *b])
                });
                assert!(asked, "an acknowledgement of nothing");
            }
            (0xc0, []) => {}
            other => panic!("a unit never sends {other:x?}"),
        }
    }
    assert!(rest < mqtt::MAX_SEND, "no packet in what left");
    birth
}

fn session(input: &mut Input<'_>) {
    let record = input.pick(RECORDS.len());
    let mut unit = Unit {
        session: Session::new(UNIT, FIRMWARE),
        wire: Wire::default(),
        record,
        now: 0,
        id: None,
        judge: None,
        heard: Vec::new(),
        refused: false,
    };
    unit.poll();
    while !input.is_empty() {
        let what = input.byte();
        let id = if what & 0x40 == 0 { unit.id.unwrap_or(0) } else { input.byte() };
        let window = WINDOWS[usize::from(what >> 5) % 6];
        match what % 12 {
            0 => unit.poll(),
            1 => unit.now += input.word() as u64,
            2 => unit.hears(&encoded(&Packet::Opened { id, window: WINDOWS[input.pick(6)] })),
            3 => {
                let len = input.pick(64);
                unit.broker(input.bytes(len));
            }
            4 | 5 => {
                let bytes = built(input);
                unit.broker(&bytes);
            }
            6 => {
                let at = unit.judge.as_ref().map_or(0, |judge| judge.acked) as u32;
                let next = at.wrapping_add(input.byte().into());
                unit.hears(&encoded(&Packet::Ack { id, next, window }));
            }
            7 => unit.ack(window),
            8 => unit.hears(&encoded(&Packet::Close { id, reason: CloseReason(input.byte() % 6) })),
            9 => {
                let len = input.pick(64);
                unit.hears(input.bytes(len));
            }
            10 => unit.wire.full = what & 0x80 != 0,
            _ if what & 0x80 == 0 => unit.session.hurry(unit.now),
            _ => {
                unit.session.rekeyed(unit.now, &mut unit.wire);
                unit.check();
            }
        }
        if what & 0x10 == 0 {
            unit.poll();
        }
    }
    if unit.session.state() != CloudSession::BORN {
        return;
    }
    // Whatever the modem still had to take: the birth is in it, and the broker took that one.
    unit.wire.full = false;
    for _ in 0..8 {
        unit.ack(1_024);
        unit.poll();
        if unit.session.state() != CloudSession::BORN {
            return;
        }
    }
    let judge = unit.judge.as_ref().expect("a session has a connection");
    let broker = packets(&unit.heard);
    let birth = mqtt_leaves(&judge.stream, &Unit::view(record), Some(&broker)).expect("born without a birth");
    assert!(broker.iter().any(|(kind, body)| *kind == 0x40 && *body == birth), "a birth that nobody took");
}

/// A packet as a broker would build it.
fn built(input: &mut Input<'_>) -> Vec<u8> {
    let what = input.byte();
    match what % 6 {
        0 => vec![0x20, 2, 0, input.byte() % 7],
        1 => vec![0x40, 2, 0, input.byte() % 5],
        2 => vec![0x90, 3, 0, 2, [0, 0x80][input.pick(2)]],
        3 => vec![0xd0, 0],
        _ => {
            let qos = what >> 3 & 3;
            let topic = format!("kw/{}/down/{}", hex::encode(UNIT.0), ["wake", "x"][input.pick(2)]);
            let mut body = field(topic.as_bytes());
            if qos > 0 {
                body.extend([0, input.byte() % 4]);
            }
            body.extend_from_slice([&b"agent-key"[..], b"cloud-key", b"", &[b'x'; 60]][input.pick(4)]);
            let mut packet = vec![0x30 | qos << 1, body.len() as u8];
            packet.extend(body);
            packet
        }
    }
}
