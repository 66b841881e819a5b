//! Packets on the serial line: `COBS(channel ‖ payload ‖ crc4) ‖ 0x00`, with
//! CRC-32/ISO-HDLC over channel ‖ payload, big-endian.
//!
//! A partial or corrupt packet is dropped and the next zero byte resynchronises.
//! The encoder adds no 01 after a last group of exactly 254 bytes; the decoder
//! accepts both forms. A decoded packet is at most [`MAX_PACKET`] bytes.

use cobs::{CobsEncoder, DecodeResult, DecoderState};
use crc::{CRC_32_ISO_HDLC, Crc};

use crate::error::Error;

/// The longest decoded packet, channel and CRC included.
pub const MAX_PACKET: usize = 2_048;
/// Channel byte and CRC.
const OVERHEAD: usize = 5;
/// The longest payload.
pub const MAX_PAYLOAD: usize = MAX_PACKET - OVERHEAD;

/// CRC-32/ISO-HDLC, also used by records and storage-secret slots. The 16-entry
/// form costs 64 bytes of flash; a line or a record is short.
pub(crate) const CRC32: Crc<u32, crc::NoTable> = Crc::<u32, crc::NoTable>::new(&CRC_32_ISO_HDLC);

/// CRC-32/ISO-HDLC of `bytes`, big-endian.
#[must_use]
pub fn crc32(bytes: &[u8]) -> [u8; 4] {
    CRC32.checksum(bytes).to_be_bytes()
}

/// A packet's channel. Unknown numbers are kept: a newer peer may add one, and
/// the receiver decides what to ignore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Channel(pub u8);

impl Channel {
    /// Station ↔ unit messages, see [`crate::control`].
    pub const CONTROL: Self = Self(1);
    /// Frames between unit and agent.
    pub const AGENT: Self = Self(2);
    /// Bytes of the TCP bridge.
    pub const TCP: Self = Self(3);
    /// Log records, see [`crate::control::LogRecord`].
    pub const LOG: Self = Self(4);
}

/// The number of bytes on the line for a payload of `len` bytes, at worst.
#[must_use]
pub const fn encoded_len(len: usize) -> usize {
    let decoded = len + OVERHEAD;
    // One code byte per started group of 254, and the terminating zero.
    decoded + decoded.div_ceil(254) + 1
}

/// The number of bytes on the line for the longest packet.
pub const MAX_ENCODED: usize = encoded_len(MAX_PAYLOAD);

/// Encodes one packet, terminating zero included; returns its length.
///
/// # Errors
/// [`Error::Length`] if the payload exceeds [`MAX_PAYLOAD`],
/// [`Error::BufferTooSmall`] if `out` is shorter than [`encoded_len`].
pub fn encode(channel: Channel, payload: &[u8], out: &mut [u8]) -> Result<usize, Error> {
    if payload.len() > MAX_PAYLOAD {
        return Err(Error::Length);
    }
    let out = out.get_mut(..encoded_len(payload.len())).ok_or(Error::BufferTooSmall)?;
    let mut digest = CRC32.digest();
    digest.update(&[channel.0]);
    digest.update(payload);
    let crc = digest.finalize().to_be_bytes();
    let len = {
        let mut encoder = CobsEncoder::new(out);
        for part in [&[channel.0][..], payload, &crc] {
            // An empty push would look at the slice's last element.
            if !part.is_empty() {
                encoder.push(part).map_err(|_| Error::BufferTooSmall)?;
            }
        }
        encoder.finalize()
    };
    *out.get_mut(len).ok_or(Error::BufferTooSmall)? = 0;
    Ok(len + 1)
}

/// A decoded packet. The payload is mutable so that a frame can be opened where
/// it arrived: the unit has no second buffer of this size.
#[derive(Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The channel.
    pub channel: Channel,
    /// The payload.
    pub payload: &'a mut [u8],
}

/// Checks the CRC of a decoded packet and splits it.
fn open_packet(decoded: &mut [u8]) -> Result<Packet<'_>, Error> {
    let (body, crc) = decoded.split_last_chunk_mut::<4>().ok_or(Error::PacketCrc)?;
    if crc32(body) != *crc {
        return Err(Error::PacketCrc);
    }
    let (channel, payload) = body.split_first_mut().ok_or(Error::PacketCrc)?;
    Ok(Packet { channel: Channel(*channel), payload })
}

/// Decodes one packet, terminating zero included, into `buf`: for captures and
/// tests; a line is read with [`Decoder`].
///
/// # Errors
/// [`Error::PacketCobs`] if it is cut or garbled, [`Error::PacketCrc`] if it is
/// empty or damaged, [`Error::Length`] if it does not fit `buf`.
pub fn decode<'b>(line: &[u8], buf: &'b mut [u8]) -> Result<Packet<'b>, Error> {
    let [encoded @ .., 0] = line else {
        return Err(Error::PacketCobs);
    };
    if encoded.is_empty() {
        return Err(Error::PacketCrc);
    }
    let report = cobs::decode(encoded, buf).map_err(|error| match error {
        cobs::DecodeError::TargetBufTooSmall => Error::Length,
        _ => Error::PacketCobs,
    })?;
    if report.parsed_size() != encoded.len() {
        return Err(Error::PacketCobs);
    }
    open_packet(buf.get_mut(..report.frame_size()).ok_or(Error::Length)?)
}

/// A streaming decoder. `N` is its buffer; [`MAX_PACKET`] holds every packet.
#[derive(Debug)]
pub struct Decoder<const N: usize = MAX_PACKET> {
    buf: [u8; N],
    len: usize,
    state: DecoderState,
    /// Set after an error in mid-packet: bytes are skipped up to the next zero.
    skipping: bool,
}

impl<const N: usize> Default for Decoder<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Decoder<N> {
    /// An empty decoder.
    #[must_use]
    pub const fn new() -> Self {
        Self { buf: [0; N], len: 0, state: DecoderState::Idle, skipping: false }
    }

    /// Forgets a partial packet: after an idle line, a reset, a reopened port.
    pub fn reset(&mut self) {
        self.len = 0;
        self.state = DecoderState::Idle;
        self.skipping = false;
    }

    /// Takes one byte from the line.
    ///
    /// `None`: nothing complete yet. `Some(Err(_))`: a packet was dropped; count
    /// it and go on feeding. Zero bytes between packets are ignored: a sender may
    /// start with one to flush noise.
    pub fn feed(&mut self, byte: u8) -> Option<Result<Packet<'_>, Error>> {
        if self.skipping {
            if byte == 0 {
                self.reset();
            }
            return None;
        }
        if byte == 0 && matches!(self.state, DecoderState::Idle) {
            return None;
        }
        match self.state.feed(byte) {
            Ok(DecodeResult::NoData | DecodeResult::DataStart) => None,
            Ok(DecodeResult::DataContinue(data)) => {
                // The N bound is the caller's, MAX_PACKET the protocol's.
                match self.buf.get_mut(self.len) {
                    Some(slot) if self.len < MAX_PACKET => {
                        *slot = data;
                        self.len += 1;
                        None
                    }
                    _ => {
                        self.reset();
                        self.skipping = true;
                        Some(Err(Error::Length))
                    }
                }
            }
            Ok(DecodeResult::DataComplete) => {
                let len = self.len;
                self.reset();
                Some(self.buf.get_mut(..len).ok_or(Error::Length).and_then(open_packet))
            }
            Err(_) => {
                // COBS fails on an early zero only, so the decoder is in step again.
                self.reset();
                Some(Err(Error::PacketCobs))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn encode_vec(channel: Channel, payload: &[u8]) -> Vec<u8> {
        let mut out = std::vec![0u8; encoded_len(payload.len())];
        let len = encode(channel, payload, &mut out).unwrap();
        out.truncate(len);
        out
    }

    #[test]
    fn every_length_round_trips_within_the_promised_size() {
        let mut decoder: Decoder = Decoder::new();
        for len in 0..=MAX_PAYLOAD {
            let payload: Vec<u8> = (0..len).map(|i| (i % 255 + 1) as u8).collect();
            let line = encode_vec(Channel::AGENT, &payload);
            assert!(line.len() <= encoded_len(len));
            assert_eq!(line.iter().filter(|b| **b == 0).count(), 1);
            let mut got = 0;
            for byte in line {
                if let Some(packet) = decoder.feed(byte) {
                    let packet = packet.unwrap();
                    assert_eq!(packet.channel, Channel::AGENT);
                    assert_eq!(packet.payload, payload);
                    got += 1;
                }
            }
            assert_eq!(got, 1);
        }
    }

    #[test]
    fn oversize_is_dropped_once_and_the_next_packet_is_heard() {
        let mut decoder: Decoder<64> = Decoder::new();
        let long = encode_vec(Channel::LOG, &[7; 200]);
        let short = encode_vec(Channel::CONTROL, &[1]);
        let mut results = Vec::new();
        for byte in long.into_iter().chain(short) {
            if let Some(r) = decoder.feed(byte) {
                results.push(r.map(|p| p.payload.to_vec()));
            }
        }
        assert_eq!(results, [Err(Error::Length), Ok(std::vec![1])]);
        assert_eq!(encode(Channel::LOG, &[0; MAX_PAYLOAD + 1], &mut [0; 4096]), Err(Error::Length));
        assert_eq!(encode(Channel::LOG, &[0; 4], &mut [0; 4]), Err(Error::BufferTooSmall));
    }
}
