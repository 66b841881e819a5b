//! The packet layer of the serial line.
//!
//! Promises: what was encoded is decoded the same; a stream gives the same packets however it arrives in
//! pieces; the streaming decoder and the one-shot decoder agree on every packet between two zero bytes;
//! whatever came before, a zero byte puts the receiver in step.

use std::collections::VecDeque;

use keywright_device_fw::link::SerialLink;
use keywright_device_fw::traits::{BytePort, Link, LinkFull};
use keywright_protocol::Error;
use keywright_protocol::serial::{self, Channel, Decoder, MAX_ENCODED, MAX_PACKET, MAX_PAYLOAD};

use crate::input::Input;

type Packets = Vec<(u8, Vec<u8>)>;

/// Bytes that have arrived so far.
#[derive(Default)]
struct Port(VecDeque<u8>);

impl BytePort for Port {
    fn read(&mut self) -> Option<u8> {
        self.0.pop_front()
    }

    fn write(&mut self, _: &[u8]) -> Result<(), LinkFull> {
        Ok(())
    }
}

fn streamed(stream: &[u8]) -> (Packets, u32) {
    let mut decoder: Decoder = Decoder::new();
    let (mut packets, mut dropped) = (Vec::new(), 0);
    for byte in stream {
        match decoder.feed(*byte) {
            Some(Ok(packet)) => packets.push((packet.channel.0, packet.payload.to_vec())),
            Some(Err(_)) => dropped += 1,
            None => {}
        }
    }
    (packets, dropped)
}

/// The unit's own receive path, its bytes arriving in pieces of the sizes given.
fn in_pieces(stream: &[u8], sizes: &mut Input<'_>) -> (Packets, u32) {
    let mut link = SerialLink::new(Port::default());
    let (mut packets, mut rest) = (Vec::new(), stream);
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at((1 + usize::from(sizes.byte())).min(rest.len()));
        rest = tail;
        link.port().0.extend(piece);
        while !link.port().0.is_empty() {
            if let Some(packet) = link.receive() {
                packets.push((packet.channel.0, packet.payload.to_vec()));
            }
        }
    }
    (packets, link.dropped())
}

/// Every packet between two zero bytes on its own, through the one-shot decoder.
fn one_by_one(stream: &[u8]) -> (Packets, u32) {
    let mut packets = Vec::new();
    let mut dropped = 0;
    let mut rest = stream;
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        let (packet, tail) = rest.split_at(end + 1);
        rest = tail;
        if packet.len() == 1 {
            continue; // A zero byte between packets says nothing.
        }
        let mut buffer = [0; MAX_PACKET];
        match serial::decode(packet, &mut buffer) {
            Ok(packet) => packets.push((packet.channel.0, packet.payload.to_vec())),
            Err(_) => dropped += 1,
        }
    }
    // What is still open may be known to be too long already.
    let mut decoder: Decoder = Decoder::new();
    dropped += rest.iter().filter(|byte| matches!(decoder.feed(**byte), Some(Err(_)))).count() as u32;
    (packets, dropped)
}

fn encoded(channel: u8, payload: &[u8]) -> Vec<u8> {
    let mut line = vec![0xaa; serial::encoded_len(payload.len())];
    let len = serial::encode(Channel(channel), payload, &mut line).expect("encoded_len bytes are enough");
    assert!(len <= serial::encoded_len(payload.len()) && len <= MAX_ENCODED);
    line.truncate(len);
    assert_eq!(line.iter().position(|byte| *byte == 0), Some(len - 1), "one zero byte, at the end");
    line
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 3 {
        0 => {
            stream(input.rest(), &mut Input::new(data));
        }
        1 => {
            let channel = input.byte();
            round_trip(channel, input.rest());
        }
        _ => {
            // Whole packets with noise between them, as a line has them.
            let mut line = Vec::new();
            let mut whole = Packets::new();
            while !input.is_empty() {
                let (what, len) = (input.byte(), input.word() % (MAX_PAYLOAD + 1));
                let part = input.bytes(len);
                if what & 1 == 0 {
                    line.push(0);
                    line.extend(encoded(what, part));
                    whole.push((what, part.to_vec()));
                } else {
                    line.extend_from_slice(part);
                }
            }
            let (packets, _) = stream(&line, &mut Input::new(data));
            let mut heard = packets.iter();
            for packet in &whole {
                assert!(heard.any(|p| p == packet), "a whole packet behind a zero byte is heard, in order");
            }
        }
    }
}

fn stream(stream: &[u8], sizes: &mut Input<'_>) -> (Packets, u32) {
    let expected = streamed(stream);
    assert_eq!(in_pieces(stream, sizes), expected, "pieces");
    assert_eq!(one_by_one(stream), expected, "one-shot and streaming decoder");
    for (channel, payload) in &expected.0 {
        assert!(payload.len() <= MAX_PAYLOAD);
        round_trip(*channel, payload);
    }
    expected
}

fn round_trip(channel: u8, payload: &[u8]) {
    if payload.len() > MAX_PAYLOAD {
        let mut out = vec![0; 2 * payload.len() + 64];
        assert_eq!(serial::encode(Channel(channel), payload, &mut out), Err(Error::Length));
        return;
    }
    let line = encoded(channel, payload);
    let mut buffer = [0; MAX_PACKET];
    let packet = serial::decode(&line, &mut buffer).expect("what was encoded is a packet");
    assert_eq!((packet.channel.0, &*packet.payload), (channel, payload));
    let mut short = vec![0; line.len().min(serial::encoded_len(payload.len()) - 1)];
    assert_eq!(serial::encode(Channel(channel), payload, &mut short), Err(Error::BufferTooSmall));
}
