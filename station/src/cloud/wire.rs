//! MQTT 3.1.1 packets in and out of byte streams. The codec is `mqtt-proto`'s; the frame limits are ours.
//!
//! A frame is cut out by its own length before it is decoded, so no packet can read into the next one, and what the
//! decoder makes of it must be exactly as long as the frame: trailing bytes and padded lengths are refused.

use mqtt_proto::v3::{Header, Packet, Suback, SubscribeReturnCode};
use mqtt_proto::{Error, IoErrorKind, Protocol};
use zeroize::Zeroize;

/// Longest fixed header: type and four length bytes.
const MAX_HEADER: usize = 5;

/// Why a stream is no MQTT 3.1.1.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// A frame longer than the limit.
    TooLong,
    /// Another version of the protocol.
    Version,
    /// Anything else.
    Packet,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooLong => "a packet above the size limit",
            Self::Version => "another protocol version than MQTT 3.1.1",
            Self::Packet => "a malformed packet",
        })
    }
}

/// Cuts a byte stream into packets. What was read is wiped: a CONNECT carries a password.
#[derive(Debug)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    limit: usize,
}

impl Frames {
    /// `limit`: the longest frame taken, in bytes, header included.
    pub fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole packet.
    pub fn next(&mut self) -> Result<Option<Packet>, Malformed> {
        let Some(length) = self.length()? else { return Ok(None) };
        let Some(frame) = self.bytes.get(..length) else { return Ok(None) };
        let packet = match Packet::decode(frame) {
            Ok(Some(packet)) if packet.encode_len() == Ok(length) => Ok(Some(packet)),
            Ok(_) => Err(Malformed::Packet),
            Err(Error::UnexpectedProtocol(Protocol::V500) | Error::InvalidProtocol(..)) => {
                Err(Malformed::Version)
            }
            Err(_) => Err(Malformed::Packet),
        };
        if let Some(read) = self.bytes.get_mut(..length) {
            read.zeroize();
        }
        self.bytes.drain(..length);
        packet
    }

    /// The first frame's length, once its header is there.
    fn length(&self) -> Result<Option<usize>, Malformed> {
        let head = self.bytes.get(..self.bytes.len().min(MAX_HEADER)).unwrap_or_default();
        match Header::decode(head) {
            Ok(header) => {
                // `total_len` of a decoded header counts the length bytes only, so add the type byte and the body.
                let varint = head.iter().skip(1).position(|b| b & 0x80 == 0).ok_or(Malformed::Packet)? + 1;
                let length = 1 + varint + header.remaining_len as usize;
                if length > self.limit { Err(Malformed::TooLong) } else { Ok(Some(length)) }
            }
            Err(Error::IoError(IoErrorKind::UnexpectedEof)) if head.len() < MAX_HEADER => Ok(None),
            Err(_) => Err(Malformed::Packet),
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// Appends a packet; `false` if it can't be said in MQTT (over 256 MiB).
pub(super) fn encode(packet: &Packet, out: &mut Vec<u8>) -> bool {
    match packet.encode() {
        Ok(bytes) => {
            let start = out.len();
            out.extend_from_slice(bytes.as_ref());
            if let Packet::Suback(suback) = packet {
                refuse(suback, out.get_mut(start..).unwrap_or_default());
            }
            true
        }
        Err(_) => false,
    }
}

/// `mqtt-proto` 0.4.0 writes the return code "failure" as its position in the enumeration (3), which no client takes
/// for a refusal; MQTT 3.1.1 §3.9.3 says 0x80. The codes are the last bytes of the packet.
fn refuse(suback: &Suback, bytes: &mut [u8]) {
    for (code, byte) in suback.topics.iter().rev().zip(bytes.iter_mut().rev()) {
        if *code == SubscribeReturnCode::Failure {
            *byte = 0x80;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt_proto::v3::{Connect, Publish};
    use mqtt_proto::{Pid, QosPid, TopicName};
    use proptest::prelude::*;

    fn publish(payload: &[u8]) -> Packet {
        let topic = TopicName::try_from("kw/x/birth").unwrap();
        let pid = QosPid::Level1(Pid::try_from(7).unwrap());
        Publish::new(pid, topic, payload.to_vec().into()).into()
    }

    fn bytes(packet: &Packet) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(encode(packet, &mut out));
        out
    }

    #[test]
    fn packets_come_out_however_the_stream_is_cut() {
        let packets = [
            publish(b"a"),
            Packet::Pingreq,
            publish(&[9; 300]),
            Connect::new("a".into(), 9).into(),
            Packet::Disconnect,
        ];
        let stream: Vec<u8> = packets.iter().flat_map(bytes).collect();
        for step in 1..stream.len() {
            let mut frames = Frames::new(1_000);
            let mut got = Vec::new();
            for piece in stream.chunks(step) {
                frames.feed(piece);
                while let Some(packet) = frames.next().unwrap() {
                    got.push(packet);
                }
            }
            assert_eq!(got, packets, "in pieces of {step}");
        }
    }

    #[test]
    fn a_refused_subscription_is_said_as_the_standard_says() {
        use SubscribeReturnCode::{Failure, MaxLevel0, MaxLevel1};
        let suback = Suback::new(Pid::try_from(9).unwrap(), vec![Failure, MaxLevel1, Failure, MaxLevel0]);
        assert_eq!(bytes(&suback.into()), [0x90, 0x06, 0x00, 0x09, 0x80, 0x01, 0x80, 0x00]);
    }

    #[test]
    fn what_is_no_mqtt_is_refused() {
        let refused = |bytes: &[u8]| {
            let mut frames = Frames::new(100);
            frames.feed(bytes);
            frames.next().unwrap_err()
        };
        assert_eq!(refused(&bytes(&publish(&[0; 100]))), Malformed::TooLong);
        assert_eq!(refused(&[0x30, 0xff, 0xff, 0xff, 0xff]), Malformed::Packet);
        assert_eq!(refused(&[0x00, 0x00]), Malformed::Packet);
        assert_eq!(refused(&[0xc0, 0x01, 0x00]), Malformed::Packet, "a ping with a body");
        assert_eq!(refused(&[0xc0, 0x80, 0x00]), Malformed::Packet, "a padded length");
        assert_eq!(refused(&[0x40, 0x02, 0x00, 0x00]), Malformed::Packet, "packet id 0");
        assert_eq!(refused(&[0x32, 0x03, 0x00, 0x05, b'a']), Malformed::Packet, "a topic that ends early");
        let mut version5 = bytes(&Connect::new("a".into(), 9).into());
        version5[8] = 5;
        assert_eq!(refused(&version5), Malformed::Version);
        let mut longer = bytes(&Connect::new("a".into(), 9).into());
        longer[1] += 1;
        longer.push(0);
        assert_eq!(refused(&longer), Malformed::Packet, "a byte behind the last field");
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused_without_a_panic(
            mut stream in proptest::collection::vec(any::<u8>(), 0..200),
            kind in 1u8..15,
            flags in 0u8..16,
            body in 0u8..60,
        ) {
            if let Some(first) = stream.first_mut() { *first = kind << 4 | flags; }
            if let Some(second) = stream.get_mut(1) { *second = body; }
            let mut frames = Frames::new(128);
            frames.feed(&stream);
            let mut packets = 0;
            while let Ok(Some(_)) = frames.next() { packets += 1; }
            prop_assert!(packets <= stream.len() / 2);
        }
    }
}
