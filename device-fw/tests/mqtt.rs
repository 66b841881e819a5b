//! The unit's MQTT packets against the bytes of the standard's own examples and rules.
use keywright_device_fw::mqtt::{self, Incoming, MAX_RECEIVE, Malformed, Out, Receiver, TooLong};
use proptest::prelude::*;

#[test]
fn packets_are_the_standards() {
    let mut out = Out::new();
    mqtt::connect(&mut out, b"ab", b"secret").unwrap();
    assert_eq!(out[..], *b"\x10\x1a\x00\x04MQTT\x04\xc2\x00\x3c\x00\x02ab\x00\x02ab\x00\x06secret");
    mqtt::publish(&mut out, 10, b"a/b", b"hi").unwrap();
    assert_eq!(out[..], *b"\x32\x09\x00\x03a/b\x00\x0ahi");
    mqtt::subscribe(&mut out, 10, b"a/#").unwrap();
    assert_eq!(out[..], *b"\x82\x08\x00\x0a\x00\x03a/#\x00");
    mqtt::puback(&mut out, 0x1234).unwrap();
    assert_eq!(out[..], [0x40, 2, 0x12, 0x34]);
    mqtt::pingreq(&mut out).unwrap();
    assert_eq!(out[..], [0xC0, 0]);
}

/// Two bytes of length, the low one first [2.2.3]: the longest identity and its password.
#[test]
fn the_longest_login_fits() {
    let mut out = Out::new();
    let identity = [b'f'; 24 + 1 + 10];
    mqtt::connect(&mut out, &identity, &[b'0'; 64]).unwrap();
    assert_eq!(out[..3], [0x10, 0x80 | 22, 1], "150 = 22 + 1 * 128");
    assert_eq!(out.len(), 3 + 150);
    assert_eq!(mqtt::connect(&mut out, &[b'f'; 80], &[b'0'; 64]), Err(TooLong));
}

fn take(bytes: &[u8]) -> Vec<Result<String, Malformed>> {
    let mut receiver = Receiver::new();
    let mut all = Vec::new();
    for byte in bytes {
        match receiver.feed(*byte) {
            Ok(true) => all.push(receiver.packet().map(|p| format!("{p:?}"))),
            Ok(false) => {}
            Err(e) => all.push(Err(e)),
        }
    }
    all
}

#[test]
fn packets_are_cut_from_the_stream() {
    let mut bytes = b"\x20\x02\x00\x05\x90\x03\x00\x01\x80\x40\x02\x00\x07\xd0\x00".to_vec();
    bytes.extend(b"\x30\x07\x00\x03a/bhi\x32\x09\x00\x03a/b\x00\x09hi");
    let seen: Vec<_> = take(&bytes).into_iter().map(Result::unwrap).collect();
    let publish = |id| Incoming::Publish { topic: b"a/b", payload: b"hi", id };
    let wanted = [
        Incoming::Connack(5),
        Incoming::Suback(1, 0x80),
        Incoming::Puback(7),
        Incoming::Pingresp,
        publish(None),
        publish(Some(9)),
    ];
    assert_eq!(seen, wanted.map(|p| format!("{p:?}")));
}

#[test]
fn long_packets_are_skipped_and_broken_ones_end_the_session() {
    let mut bytes = vec![0x30, 0x80 | 44, 2];
    bytes.extend([b'x'; 300]);
    bytes.extend(b"\xd0\x00");
    assert_eq!(take(&bytes), [Ok("Other".to_owned()), Ok("Pingresp".to_owned())]);
    for bad in [
        &b"\x20\x01\x00"[..],
        b"\x40\x00",
        b"\x30\x01\x00",
        b"\x30\x02\x00\x09",
        b"\x36\x04\x00\x00\x00\x01",
        b"\x28\x02\x00\x00",
        b"\x32\x05\x00\x01a\x00\x00",
    ] {
        assert_eq!(take(bad), [Err(Malformed)], "{bad:?}");
    }
    assert_eq!(take(&[0x30, 0x80, 0x80, 0x80, 0x80]).last(), Some(&Err(Malformed)));
}

#[test]
fn addresses() {
    for (url, wanted) in [
        ("mqtt://keywright.local:1883", Some(("keywright.local", 1883))),
        ("mqtt://10.0.0.7", Some(("10.0.0.7", 1883))),
        ("mqtts://broker.example/x", Some(("broker.example", 8883))),
        ("mqtts://[::1]:99", Some(("[::1]", 99))),
        ("mqtts://[::1]", Some(("[::1]", 8883))),
        ("http://x", None),
        ("mqtt://", None),
        ("mqtt://:5", None),
        ("mqtt://a:0", None),
        ("mqtt://a:b", None),
        ("mqtt://a:70000", None),
    ] {
        assert_eq!(mqtt::address(url), wanted, "{url}");
    }
}

proptest! {
    /// Whatever a broker sends: no panic, and every packet ends where its length says.
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        take(&bytes);
    }

    #[test]
    fn what_follows_a_packet_of_any_length_is_heard(len in 0_usize..2_000) {
        let mut bytes = vec![0x30];
        let mut rest = len;
        loop {
            let low = (rest & 0x7F) as u8;
            rest >>= 7;
            bytes.push(low | if rest > 0 { 0x80 } else { 0 });
            if rest == 0 { break; }
        }
        bytes.extend(vec![0; len]);
        bytes.extend(b"\xd0\x00");
        let seen = take(&bytes);
        prop_assert_eq!(seen.len(), 2);
        prop_assert_eq!(&seen[1], &Ok("Pingresp".to_owned()));
        if len > MAX_RECEIVE { prop_assert_eq!(&seen[0], &Ok("Other".to_owned())); }
    }
}
