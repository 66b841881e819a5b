//! The seed corpora: made from the test vectors, checked in under `tests/fuzz/seeds`.
//!
//! `cargo run -p keywright-fuzz-targets --example seeds` writes them anew; a test holds the files to this.

use std::collections::BTreeSet;
use std::path::PathBuf;

use keywright_protocol::control::{
    AreaStatus, CONTROL_VERSION, CloudSession, Control, MAX_CONTROL, Proof, Stage, Status,
};
use keywright_protocol::{Generation, ProductOrder, Purpose, Region, UnitId};

use crate::records::MOMENTS;
use crate::vectors::{KAT, array, bytes, cases};

/// Where the corpora are: `tests/fuzz/seeds/<target>/<name>`.
#[must_use]
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds")
}

/// One seed: target, file name, bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// All seeds.
///
/// # Panics
/// If the vectors lack what the targets need.
#[must_use]
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    frames(&mut seeds);
    records(&mut seeds);
    serial(&mut seeds);
    control(&mut seeds);
    certs(&mut seeds);
    line(&mut seeds);
    probe(&mut seeds);
    bridge(&mut seeds);
    broker(&mut seeds);
    seeds
}

fn frames(seeds: &mut Vec<Seed>) {
    for (x, name) in (0u8..).zip(["s1_init", "s1_aku", "s1_cku", "s2_init", "s2_aku", "s2_cku"]) {
        for (receiver, which, step) in
            [(0, 0, "1"), (1, 0, "2"), (2, 0, "3"), (3, 0, "4"), (3, 1, "4_rejected"), (3, 2, "nack")]
        {
            // No edits: the genuine frame, from outside and from inside.
            seeds.push(("frames", format!("{name}_{step}_genuine"), vec![x, receiver, which, 1]));
            seeds.push(("frames", format!("{name}_{step}_sealed"), vec![x, receiver, which, 6]));
            // One bit of the IV, the tag's neighbourhood, and a plaintext field.
            let edit = [0, 0, 40, 3];
            seeds.push((
                "frames",
                format!("{name}_{step}_flip"),
                [&[x, receiver, which, 1][..], &edit].concat(),
            ));
            seeds.push((
                "frames",
                format!("{name}_{step}_insider"),
                [&[x, receiver, which, 6][..], &[2, 0, 14, 9]].concat(),
            ));
        }
        let frame = bytes(&KAT["exchanges"][name]["frames"], "frame1");
        seeds.push(("frames", format!("{name}_1_raw"), [&[x, 0, 0, 0][..], &frame].concat()));
    }
    // The first negative of every kind and suite.
    let mut seen = BTreeSet::new();
    for case in cases("negative") {
        let op = case["op"].as_str().expect("an op");
        let receiver = match op {
            "frame1" => 0,
            "frame2" => 1,
            "frame3" => 2,
            "frame4" | "nack" => 3,
            _ => continue,
        };
        let (suite, purpose) =
            (array::<1>(&case["args"], "suite")[0], array::<1>(&case["args"], "purpose")[0]);
        let expect = case["expect"].as_str().expect("a reason");
        if seen.insert((op, suite, expect)) {
            let name = format!("negative_s{suite}_{op}_{}", expect.replace(' ', "_"));
            let x = (suite - 1) * 3 + purpose - 1;
            seeds.push(("frames", name, [&[x, receiver, 0, 0][..], &bytes(case, "bytes")].concat()));
        }
    }
    let err = bytes(&KAT["err"], "bytes");
    seeds.push(("frames", "err".into(), [&[3, 1, 0, 0][..], &err].concat()));
}

fn records(seeds: &mut Vec<Seed>) {
    for (v, case) in (0u8..).zip(cases("records")) {
        let name = case["name"].as_str().expect("a name");
        let record = bytes(case, "bytes");
        if v < 3 {
            seeds.push(("records", format!("{name}_raw"), [&[0][..], &record].concat()));
        }
        seeds.push(("records", format!("{name}_whole"), vec![1, v]));
        seeds.push(("records", format!("{name}_flip"), vec![1, v, 0, 0, 120, 1]));
        // Kind byte and the number of a base that `sealed` maps to this vector.
        let base = if v % 4 == 0 { v + 7 } else { v };
        seeds.push(("records", format!("{name}_sealed"), vec![2, record[5], base]));
        seeds.push(("records", format!("{name}_sealed_edit"), vec![2, record[5], base, 2, 0, 2, 5]));
    }
    for name in ["s1_cku", "s2_cku"] {
        let record = bytes(&KAT["exchanges"][name]["inputs"], "record");
        seeds.push(("records", format!("cloud_{name}"), [&[3][..], &record].concat()));
    }
    for m in 0..u8::try_from(MOMENTS.len()).expect("a short life") {
        seeds.push(("records", format!("boot_{m:02}"), vec![4, m, 0]));
        seeds.push(("records", format!("boot_{m:02}_cut"), vec![4, m, 5, 50]));
        // An area of another moment on top of area A, and a bit lost in area B.
        seeds.push((
            "records",
            format!("boot_{m:02}_mixed"),
            vec![4, m, 0, 3, 1, 0, 0, 0, m.wrapping_add(3), 2],
        ));
        seeds.push(("records", format!("boot_{m:02}_bit"), vec![4, m, 0, 0, 2, 0, 130, 0, 0xfb]));
    }
}

fn serial(seeds: &mut Vec<Seed>) {
    let stream = bytes(&KAT["serial"]["stream"], "bytes");
    seeds.push(("serial", "stream".into(), [&[0][..], &stream].concat()));
    let packets = KAT["serial"]["packets"].as_object().expect("packets");
    let mut mixed = vec![2];
    for (name, case) in packets {
        let (payload, packet) = (bytes(case, "payload"), bytes(case, "packet"));
        let channel = array::<1>(case, "channel")[0];
        seeds.push(("serial", format!("{name}_packet"), [&[0][..], &packet].concat()));
        seeds.push(("serial", format!("{name}_payload"), [&[1, channel][..], &payload].concat()));
        let len = u16::try_from(payload.len()).expect("short").to_be_bytes();
        mixed.extend([&[channel & !1][..], &len, &payload, &[1, 0, 3, 7, 8, 9]].concat());
    }
    seeds.push(("serial", "mixed".into(), mixed));
    seeds.push(("serial", "longest".into(), [&[1, 2][..], &[0x55; 2_043]].concat()));
    seeds.push(("serial", "too_long".into(), [&[0][..], &[0xff; 2_400], &[0, 2, 1, 0]].concat()));
}

fn control_messages() -> [(&'static str, Control); 8] {
    let unit = UnitId(*b"\x00\x3a\x00\x27WRP 5532");
    let status = Status {
        proto_ver: CONTROL_VERSION,
        fw_ver: [1, 2, 3, 0],
        unit,
        stage: Stage::ACTIVE,
        suite: 2,
        area_a: AreaStatus::BLANK,
        area_b: AreaStatus::ACTIVE,
        generation: Generation(3),
        agent_key: Generation(1),
        cloud_key: Generation(1),
        region: Region(7),
        order: ProductOrder(*b"PO-2025-000042\0\0"),
        last_failure: 0x0101,
        reset_cause: 8,
        uptime_ms: 66_051,
        stack_high_water: 4_321,
        cloud: CloudSession::BORN,
    };
    let proof = Proof {
        unit,
        generation: Generation(3),
        agent_key: Generation(1),
        cloud_key: Generation(1),
        mac_cloud: [0xc1; 32],
        mac_agent: [0xa9; 32],
    };
    [
        ("status_request", Control::StatusRequest),
        ("status", Control::Status(status)),
        ("prove_request", Control::ProveRequest { challenge: [3; 32] }),
        ("proof", Control::Proof(proof)),
        ("wake", Control::Wake),
        ("reset", Control::Reset),
        ("update", Control::Update { purpose: Purpose::CloudKeyUpdate }),
        ("refused", Control::Refused { request: 2, failure: 0x0203 }),
    ]
}

fn encoded(message: &Control) -> Vec<u8> {
    let mut out = vec![0; MAX_CONTROL];
    let len = message.encode(&mut out).expect("MAX_CONTROL holds every message");
    out.truncate(len);
    out
}

fn control(seeds: &mut Vec<Seed>) {
    for (name, message) in control_messages() {
        seeds.push(("control", name.into(), encoded(&message)));
    }
    seeds.push(("control", "log".into(), vec![3, 4, 1, 10, 11, 12, 13]));
    seeds.push(("control", "unknown".into(), vec![0x55]));
}

fn certs(seeds: &mut Vec<Seed>) {
    // In the order of the target's objects: six certificates, three bundles, one of each other kind.
    for i in 0..12u8 {
        seeds.push(("certs", format!("object_{i:02}"), vec![0, i]));
        seeds.push(("certs", format!("object_{i:02}_flip"), vec![0, i, 0, 0, 33, 5]));
    }
    seeds.push(("certs", "cert_raw".into(), [&[2][..], &bytes(&cases("certificates")[0], "bytes")].concat()));
    seeds.push(("certs", "bundle_raw".into(), [&[2][..], &bytes(&cases("bundles")[0], "bytes")].concat()));
    seeds.push((
        "certs",
        "signed_cert".into(),
        [&[3, 1, 1, 0, 0, 3, 3, 2, 2, 7, 9, 9][..], &[0; 40]].concat(),
    ));
    seeds.push((
        "certs",
        "signed_bundle".into(),
        [&[4, 2, 1, 0, 0, 0, 1, 7, 0, 0, 0, 2][..], &[0, 0, 0, 4], &[5; 45], &[1, 5, 0]].concat(),
    ));
    seeds.push(("certs", "signed_revocation".into(), vec![5, 1, 7, 0, 0, 0, 3, 0, 0, 0, 9, 1, 1, 1]));
    seeds.push(("certs", "tree".into(), [&[6, 200][..], &[0xd0; 512], &[0, 0, 9, 1]].concat()));
    seeds.push(("certs", "tree_small".into(), vec![6, 0, 1, 2, 3]));
}

fn line(seeds: &mut Vec<Seed>) {
    for m in 0..u8::try_from(MOMENTS.len()).expect("a short life") {
        // Every recorded frame, unchanged; control messages; noise.
        seeds.push((
            "line",
            format!("replay_{m:02}"),
            (0..12).fold(vec![m], |mut v, f| {
                v.extend([2, f, 0]);
                v
            }),
        ));
        seeds.push(("line", format!("noise_{m:02}"), vec![m, 0, 4, 9, 0, 3, 0, 1, 2, 3, 79, 75, 1]));
    }
    for (name, message) in control_messages() {
        let body = encoded(&message);
        let len = u8::try_from(body.len()).expect("short");
        seeds.push(("line", format!("control_{name}"), [&[5, 1, 1, len][..], &body, &[3]].concat()));
    }
}

fn probe(seeds: &mut Vec<Seed>) {
    let raw = |name: &str, flags: u8, text: &str| {
        ("probe", name.to_owned(), [&[flags | 1], text.as_bytes()].concat())
    };
    let attach =
        "+#!SS#!GA#!HC#!Gf#!GV#!So20ffffffff#!So20ffffffff#!So020#!So08a5#!Si03#!Si20#!Si01#!Ad00ff0000#";
    let memory = "!AM000023000052022000000000000004\
                  0a0b0c0d#!Am0000230000522000000000000004#!Aa000001fc#!Aa000101fc#!AR00000004f0000000#";
    seeds.push(raw("attach", 0, attach));
    seeds.push(raw("attach_off", 2, attach));
    seeds.push(raw("attach_locked", 4, attach));
    seeds.push(raw("attach_empty", 0x18, attach));
    seeds.push(raw("memory", 0, memory));
    seeds.push(raw("memory_locked", 4, memory));
    seeds.push(raw(
        "bad",
        0,
        "!#!ZZ#!Am00#!Am0000230000522000000000ffffff#!AM000023000052022000000000000004zzzzzzzz#!!##!A",
    ));
    seeds.push(raw("not_text", 0, "!AM000023000052022000000000000002a\u{fffd}#!A\u{e9}#"));
    seeds.push((
        "probe",
        "built_memory".into(),
        vec![0, 7, 0, 0, 16, 8, 0, 4, 2, 4, 1, 2, 3, 4, 7, 8, 0, 4, 10, 0, 10, 1],
    ));
    seeds.push((
        "probe",
        "built_debug".into(),
        vec![0, 8, 9, 0, 2, 4, 3, 0, 0x5f, 0xa0, 3, 0, 4, 7, 9, 0, 4],
    ));
    seeds.push((
        "probe",
        "built_flash".into(),
        vec![0, 8, 5, 4, 2, 4, 0x23, 1, 0x67, 0x45, 8, 5, 4, 2, 4, 0xab, 0x89, 0xef, 0xcd],
    ));
}

fn bridge(seeds: &mut Vec<Seed>) {
    let mut put = |name: &str, bytes: &[&[u8]]| seeds.push(("bridge", name.into(), bytes.concat()));
    // Packets.
    put("open", &[&[0, 1, 7, 0x07, 0x5b, 0, 96], b"keywright.local"]);
    put("opened", &[&[0, 0x81, 7, 2, 0]]);
    put("data", &[&[0, 2, 7, 0, 0, 0, 9, 1, 2, 3]]);
    put("data_longest", &[&[0, 2, 7, 0xff, 0xff, 0xff, 0xf0], &[0x55; 256]]);
    put("data_too_long", &[&[0, 2, 7, 0, 0, 0, 0], &[0x55; 257]]);
    put("ack", &[&[0, 0x82, 7, 0, 0, 0, 12, 0, 0]]);
    put("close", &[&[0, 3, 7, 4]]);
    // Both ends: written and delivered; lost, and sent again; a window that closes and opens; overtaking.
    put("pair_clean", &[&[1, 0, 5, 0, 40, 0x80, 60, 2, 2, 0x82, 0x82, 0x82, 2]]);
    put("pair_lost", &[&[1, 0, 5, 0, 40, 4, 7, 130, 2, 4, 7, 130, 0x80, 200, 0x84, 0x87, 255, 0x82]]);
    put("pair_window", &[&[1, 4, 4, 0x80, 255, 1, 1, 0x82, 0x84, 2, 1, 0, 7, 130, 0x82, 2, 1, 3, 7, 130]]);
    put("pair_overtaking", &[&[1, 0, 5, 0x80, 255, 0x85, 0x86, 0x82, 0x86, 0x82, 6, 5, 2, 2, 2]]);
    put("pair_small", &[&[1, 2, 2, 0, 8, 0x80, 8, 2, 0x82, 2, 0x82]]);
    // One end, and Acks and bytes that make no sense.
    put("hostile_acks", &[&[2, 0, 0, 0, 200, 3, 8, 0, 0x83, 8, 1, 6, 126, 0x83, 7, 0, 3, 0, 5]]);
    put("hostile_late_ack", &[&[2, 0, 0, 0, 20, 3, 0, 1, 6, 126, 0x81, 8, 0]]);
    put("hostile_data", &[&[2, 0, 3, 2, 40], &[9; 40], &[0x82, 26, 20], &[8; 20], &[1, 1, 2, 3, 1, 2, 3]]);
    put("hostile_raw", &[&[2, 0, 0, 0, 90, 5, 8, 0x82, 7, 0, 0, 0, 90, 0, 0, 6, 255, 6, 255]]);
    // A unit: born, pinged, woken; refused; cut off; a broker that speaks out of turn.
    let born = [2, 0, 7, 4, 0, 0, 7, 4, 1, 3, 7];
    put("session_born", &[&[3, 0], &born]);
    put("session_pinged", &[&[3, 1], &born, &[1, 117, 49, 7, 4, 3, 1, 117, 49, 7, 1, 117, 49]]);
    put("session_woken", &[&[3, 0], &born, &[4, 4, 0, 0, 4, 5, 0, 1, 4, 0x0c, 0, 3, 1, 7]]);
    put("session_refused", &[&[3, 0, 2, 0, 7, 4, 0, 5, 1, 8, 0]]);
    put("session_closed", &[&[3, 0, 2, 0, 7, 8, 2, 1, 9, 0, 0]]);
    put("session_silent", &[&[3, 0, 2, 0, 1, 60, 0, 1, 60, 0, 1, 60, 0]]);
    put("session_small_window", &[&[3, 0, 2, 2, 0x47, 0, 0x47, 0, 6, 1, 6, 9, 0x27]]);
    put("session_full", &[&[3, 0, 2, 0, 0x8a, 0, 7, 0x0a, 1, 2, 88, 7, 4, 0, 0, 7, 4, 1, 3]]);
    put("session_rekeyed", &[&[3, 0], &born, &[0xeb, 0, 2, 0, 7, 4, 0, 0, 7, 4, 1, 3]]);
    put("session_too_early", &[&[3, 0, 0x12, 0, 0x14, 0, 0, 0x14, 1, 3]]);
    put("session_published_early", &[&[3, 0, 0x12, 0, 0x14, 0x0c, 0, 1, 0, 0]]);
    put("session_raw", &[&[3, 0, 2, 0, 3, 12, 0x20, 2, 0, 0, 0x40, 2, 0, 3, 0x30, 3, 0, 1, 7]]);
}

fn broker(seeds: &mut Vec<Seed>) {
    let mut put = |name: &str, bytes: &[&[u8]]| seeds.push(("broker", name.into(), bytes.concat()));
    // Flags, packet id and filters of what is asked behind the login; then packets that are built, or bytes.
    put("message", &[&[0, 0, 0, 0, 1, 2, 1, 1]]);
    put("subscription", &[&[0, 1, 0, 2, 2, 1, 2, 1, 3]]);
    put("subscription_short", &[&[0, 1, 0, 2, 2, 1, 1, 1]]);
    put(
        "messages",
        &[&[0, 0, 1, 0, 6, 0, 5, 0], b"12345", &[0x26, 2, 3, 1], b"abc", &[0x46, 3, 0, 0, 4, 3, 3, 0]],
    );
    put("refused", &[&[0, 0x42, 0, 0, 0x40, 2, 0, 0]]);
    put("out_of_turn", &[&[0, 0x40, 0, 0, 6, 0, 2, 0, 1, 2, 0, 0]]);
    put("no_broker", &[&[0, 0, 0, 0, 5, 1, 0x82]]);
    put("raw", &[&[0, 0x80, 0, 0, 0x40, 2, 0, 1, 0xd0, 0, 0x30, 5, 0, 2], b"kwx"]);
    put("raw_padded", &[&[0, 0x80, 0, 0, 0xd0, 0x80, 0, 0x40, 2, 0, 1]]);
    put("raw_version_5", &[&[0, 0xc0, 0, 0, 0x20, 3, 0, 0, 0]]);
    // Acts, then what is done to each of the plugin's messages: nothing, in these.
    put("allow", &[&[1, 0, 0, 0, 0]]);
    put("allow_two_of_a_unit", &[&[1, 0x80, 1, 0, 0, 0, 2, 0, 1]]);
    put("allow_again", &[&[1, 0, 0, 0x60, 0]]);
    put("allow_over_another", &[&[1, 0, 1, 0xe0, 0, 0x70, 1]]);
    put("allow_unseen", &[&[1, 0, 1, 2, 0, 0x42, 3]]);
    put("remove", &[&[1, 0x80, 2, 0x43, 0, 0x6b, 1, 3, 5]]);
    put("suspend_and_resume", &[&[1, 0, 3, 0x44, 0, 0x45, 1, 4, 2, 5, 3]]);
    put("unsafe_defaults", &[&[1, 0x87, 0, 0, 0]]);
    // One change each.
    for (n, name) in (0u8..).zip([
        "lost",
        "error",
        "no_error",
        "null_error",
        "other_command",
        "other_number",
        "foreign",
        "twice",
        "other_data",
        "no_object",
        "list",
        "other_topic",
        "raw_reply",
    ]) {
        put(&format!("edit_{name}"), &[&[1, 0, 1, 0x60, 0, 3, 3, 1, n, 1, 0, 1, n | 0x10, 2, 1]]);
    }
}
