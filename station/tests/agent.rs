//! The embedded agent against units of the protocol crate: both roles to the end, over good and bad links, killed
//! between any two steps, and everything it must refuse.

mod support;

use keywright::agent::cloud::{CloudState, Connected};
use keywright::agent::{Agent, Change, EmbeddedAgent, FrameContext, Point};
use keywright::anchors::Anchors;
use keywright::failure::FailureCode;
use keywright::model::*;
use keywright::records::Records;
use keywright_protocol::{CloudKey, IdentityKey, Purpose, Suite};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use support::{Cut, Device, Rng, Station, open, unit_id};

const WHOLE_LIFE: [Purpose; 4] =
    [Purpose::Init, Purpose::CloudKeyUpdate, Purpose::AgentKeyUpdate, Purpose::CloudKeyUpdate];

fn refused(change: &Change) -> FailureCode {
    match change {
        Change::Refused(failure) => failure.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn arrived(station: &Station, n: u32, suite: Suite) -> Device {
    let id = unit_id(n);
    station.arrive(id);
    station.device(id, suite, u64::from(n) + 1)
}

#[test]
fn both_suites_run_to_a_proved_pass() {
    for suite in [Suite::Legacy, Suite::Hardened] {
        let station = Station::new(2, suite.number());
        let id = unit_id(1);
        let attempt = station.arrive(id);
        let mut device = station.device(id, suite, 1);
        let mut changes = Vec::new();
        while !device.is_done() {
            changes.push(station.round(&mut device));
        }
        assert_eq!(
            changes,
            [
                Change::AgentKeyIssued { ak_gen: 1 },
                Change::AgentKeyActive { ak_gen: 1 },
                Change::CloudKeyIssued { ck_gen: 1 },
                Change::CloudKeyActive { ck_gen: 1 },
            ]
        );
        assert_eq!(station.records.unit(id).unwrap().unwrap().state, UnitState::CloudKey);
        station.assert_same_keys(&device);
        let challenge = [0x5a; 32];
        let proof = device.prove(&challenge);
        let record = station.agent.check_proof(station.context(id), &challenge, &proof).unwrap();
        assert!(record.cloud_mac_ok && record.agent_mac_ok && record.generation > 0);
        let other = station.agent.check_proof(station.context(id), &[0x5b; 32], &proof).unwrap();
        assert!(!other.cloud_mac_ok && !other.agent_mac_ok, "a proof is of one challenge");
        let stranger = unit_id(2);
        let wrong = station.agent.check_proof(station.context(stranger), &challenge, &proof).unwrap_err();
        assert_eq!(wrong.code, FailureCode::UidMismatch);
        let mut future = proof;
        future.agent_key.0 += 1;
        let future = station.agent.check_proof(station.context(id), &challenge, &future).unwrap();
        assert!(!future.agent_mac_ok && future.cloud_mac_ok);
        station.records.finish_attempt(attempt, Outcome::Pass, None, Some(&record)).unwrap();
        assert_eq!(station.records.unit(id).unwrap().unwrap().state, UnitState::Passed);
        let kinds: Vec<_> = station.records.unit_events(id).unwrap().into_iter().map(|e| e.kind).collect();
        assert_eq!(
            kinds,
            [
                "arrived",
                "agent-key-issued",
                "agent-key-active",
                "cloud-key-reserved",
                "cloud-key-issued",
                "cloud-key-active",
                "passed"
            ]
        );
        station.records.verify_history().unwrap();
    }
}

#[test]
fn many_units_at_once_over_bad_links_end_with_the_same_keys_on_both_sides() {
    const UNITS: u32 = 96;
    let station = Station::new(UNITS, 1);
    let refusals = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8u32 {
            let (station, refusals) = (&station, &refusals);
            scope.spawn(move || {
                for n in (0..UNITS).filter(|n| n % 8 == thread) {
                    let suite = if n % 2 == 0 { Suite::Legacy } else { Suite::Hardened };
                    let mut device = arrived(station, n, suite);
                    device.goal = WHOLE_LIFE.to_vec();
                    bad_link(station, &mut device, u64::from(n));
                    refusals.fetch_add(device.refused as u32, Ordering::Relaxed);
                    station.assert_same_keys(&device);
                    let challenge = [n as u8 + 1; 32];
                    let proof = device.prove(&challenge);
                    let record =
                        station.agent.check_proof(station.context(device.id), &challenge, &proof).unwrap();
                    assert!(record.agent_mac_ok && record.cloud_mac_ok, "unit {n}");
                    let state = station.agent.cloud().state("", device.id).unwrap();
                    assert_eq!(state, CloudState::New { generation: record.ck_gen }, "unit {n}");
                }
            });
        }
    });
    assert_eq!(station.count("SELECT count(*) FROM enrolment WHERE state = 'active'"), i64::from(UNITS));
    assert_eq!(
        station.count("SELECT count(*) FROM key_assignment WHERE state = 'posted' AND retired_at_ms IS NULL"),
        2 * i64::from(UNITS)
    );
    assert_eq!(
        station.count("SELECT count(DISTINCT key_id) FROM key_assignment"),
        station.count("SELECT count(*) FROM key_assignment")
    );
    station.records.verify_history().unwrap();
}

/// Loses, repeats, delays, reorders and damages frames and cuts the unit's power; then lets it finish.
fn bad_link(station: &Station, device: &mut Device, seed: u64) {
    let mut rng = Rng(seed ^ 0x6c69_6e6b);
    let mut heard: Vec<Vec<u8>> = Vec::new();
    let mut late: VecDeque<Vec<u8>> = VecDeque::new();
    for step in 0..400 {
        let faults = if step < 60 { 1 } else { 0 };
        let Some(mut frame) = device.tick() else { return };
        heard.push(frame.clone());
        if rng.percent(10 * faults) {
            device.reboot();
        }
        if rng.percent(15 * faults) {
            continue;
        }
        if rng.percent(10 * faults) {
            let at = rng.below(frame.len() as u64) as usize;
            frame[at] ^= 1 << rng.below(8);
        }
        if rng.percent(15 * faults) {
            // An old frame again: whatever comes of it must not hurt.
            let old = heard[rng.below(heard.len() as u64) as usize].clone();
            late.extend(station.handle(device.id, &old).reply);
        }
        let Some(reply) = station.handle(device.id, &frame).reply else { continue };
        if rng.percent(15 * faults) {
            continue;
        }
        if rng.percent(10 * faults) {
            late.push_back(reply);
            continue;
        }
        let cut = match rng.below(20) {
            0 if faults > 0 => Cut::BeforeCommit,
            1 if faults > 0 => Cut::AfterCommit,
            _ => Cut::Never,
        };
        device.deliver(reply, cut);
        if let Some(old) = late.pop_front() {
            device.deliver(old, Cut::Never);
        }
    }
    panic!("unit {} did not finish: {:?}", device.id, device.done);
}

#[test]
fn a_damaged_frame_changes_nothing_and_earns_no_answer() {
    let station = Station::new(1, 2);
    let mut device = arrived(&station, 1, Suite::Hardened);
    let state = || {
        ["enrolment", "pending", "key_assignment", "unit_event", "cloud_identity"]
            .map(|table| station.count(&format!("SELECT count(*) FROM {table}")))
    };
    while !device.is_done() {
        let frame = device.tick().unwrap();
        let before = state();
        for bit in (0..frame.len() * 8).step_by(37) {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let handled = station.handle(device.id, &bad);
            // A changed (unit, generation) of a message 3 names no exchange: an authentic NACK of that very frame,
            // which the unit did not send. A changed xid is never checked; its answer is the cached one.
            let in_xid_or_generation = (64..96).contains(&bit) || (192..224).contains(&bit);
            assert!(handled.reply.is_none() || in_xid_or_generation, "bit {bit}");
        }
        for len in 0..frame.len() {
            assert!(station.handle(device.id, &frame[..len]).reply.is_none(), "cut to {len}");
        }
        assert_eq!(state(), before);
        station.round(&mut device);
    }
}

#[test]
fn the_same_request_gets_the_same_answer_and_a_fifth_one_evicts_the_first() {
    let station = Station::new(1, 2);
    let mut device = arrived(&station, 1, Suite::Hardened);
    let first = device.tick().unwrap();
    let answer = station.handle(device.id, &first).reply.unwrap();
    let again = station.handle(device.id, &first);
    assert_eq!((again.reply.as_ref(), again.change), (Some(&answer), Change::Nothing));
    // The unit commits the first key, but four younger requests (its own, before a reboot) come in behind it.
    let mut twin = station.device(device.id, Suite::Hardened, 2);
    twin.rng = Rng(77);
    device.deliver(answer, Cut::Never);
    let late = device.tick().unwrap();
    for n in 2..=5 {
        let change = station.handle(device.id, &twin.fresh_request());
        assert_eq!(change.change, Change::AgentKeyIssued { ak_gen: n });
    }
    assert_eq!(station.count("SELECT count(*) FROM pending WHERE state = 'pending'"), 4);
    assert_eq!(
        station.count("SELECT count(*) FROM key_assignment WHERE void_reason = 'evicted' AND generation = 1"),
        1
    );
    let nack = station.handle(device.id, &late);
    assert_eq!(nack.change, Change::Nothing);
    device.deliver(nack.reply.expect("an authentic NACK"), Cut::Never);
    assert_eq!(device.refused, 1, "the unit believed it");
    station.complete(&mut device);
    station.assert_same_keys(&device);
}

#[test]
fn an_evicted_cloud_exchange_is_refused_and_the_unit_gets_the_same_record() {
    let station = Station::new(1, 2);
    let mut device = arrived(&station, 1, Suite::Hardened);
    while device.done.is_empty() {
        station.round(&mut device);
    }
    let frames: Vec<_> = (0..4).map(|_| device.fresh_request()).collect();
    let first = device.fresh_request();
    let answer = station.handle(device.id, &first).reply.unwrap();
    device.deliver(answer, Cut::Never);
    let late = device.tick().unwrap();
    for frame in frames {
        assert_eq!(station.handle(device.id, &frame).change, Change::CloudKeyIssued { ck_gen: 1 });
    }
    let nack = station.handle(device.id, &late).reply.expect("an authentic NACK");
    device.deliver(nack, Cut::Never);
    assert_eq!(device.refused, 1);
    station.complete(&mut device);
    station.assert_same_keys(&device);
    assert_eq!(
        station.count("SELECT count(*) FROM key_assignment WHERE purpose = 'cloud'"),
        1,
        "staged once"
    );
}

#[test]
fn a_repeated_cloud_request_gets_the_same_record_under_a_fresh_nonce() {
    let station = Station::new(1, 2);
    let mut device = arrived(&station, 1, Suite::Hardened);
    while device.done.is_empty() {
        station.round(&mut device);
    }
    let a = station.handle(device.id, &device.fresh_request());
    let b = station.handle(device.id, &device.fresh_request());
    assert_eq!(
        (&a.change, &b.change),
        (&Change::CloudKeyIssued { ck_gen: 1 }, &Change::CloudKeyIssued { ck_gen: 1 })
    );
    assert_ne!(a.reply, b.reply);
    assert_eq!(
        station.count("SELECT count(DISTINCT record) FROM pending WHERE purpose = 3"),
        1,
        "one record"
    );
    assert_eq!(
        station.count("SELECT count(DISTINCT th2) FROM pending WHERE purpose = 3"),
        2,
        "two exchanges"
    );
    assert_eq!(
        station.agent.cloud().state("", device.id).unwrap(),
        CloudState::Both { old: 0, new: 1 },
        "the cloud knew before the unit did"
    );
    device.deliver(b.reply.unwrap(), Cut::Never);
    station.complete(&mut device);
}

#[test]
fn a_repeated_confirmation_gets_its_acknowledgement_again() {
    for suite in [Suite::Legacy, Suite::Hardened] {
        let station = Station::new(1, suite.number());
        let mut device = arrived(&station, 1, suite);
        for expected in 1..=2 {
            let request = device.tick().unwrap();
            device.deliver(station.handle(device.id, &request).reply.unwrap(), Cut::Never);
            for repeat in 0..3 {
                // The answer to all but the last is lost, the unit even reboots.
                let confirm = device.tick().unwrap();
                let handled = station.handle(device.id, &confirm);
                assert_eq!(handled.change == Change::Nothing, repeat > 0);
                let reply = handled.reply.expect("always acknowledged");
                if repeat == 2 {
                    device.deliver(reply, Cut::Never);
                } else {
                    device.reboot();
                }
            }
            assert_eq!(device.done.len(), expected);
        }
        station.assert_same_keys(&device);
    }
}

#[test]
fn active_is_sticky_but_the_registered_identity_may_start_over() {
    let station = Station::new(1, 2);
    let mut device = arrived(&station, 1, Suite::Hardened);
    station.complete(&mut device);
    let before = station.records.key_vault().unit_keys(device.id).unwrap().agent.unwrap();
    // Somebody who knows the product key, with an identity of his own.
    let mut thief = station.device(device.id, Suite::Hardened, 99);
    let handled = station.handle(device.id, &thief.tick().unwrap());
    assert!(handled.reply.is_none());
    assert_eq!(refused(&handled.change), FailureCode::AlreadyEnrolled);
    station.handle(device.id, &thief.tick().unwrap());
    assert_eq!(
        station.count("SELECT count FROM alarm WHERE kind = 'another-identity'"),
        2,
        "one alarm, counted"
    );
    let events = station.records.unit_events(device.id).unwrap();
    assert_eq!(events.iter().filter(|e| e.kind == "alarm").count(), 1);
    let after = station.records.key_vault().unit_keys(device.id).unwrap().agent.unwrap();
    assert_eq!((before.generation, before.key_id), (after.generation, after.key_id), "nothing moved");
    // The unit itself, flashed again: the storage secret, and so its identity, survived.
    device.reflash();
    station.complete(&mut device);
    station.assert_same_keys(&device);
    assert_eq!(station.records.key_vault().unit_keys(device.id).unwrap().agent.unwrap().generation, 2);

    let legacy = Station::new(1, 1);
    let mut device = arrived(&legacy, 1, Suite::Legacy);
    legacy.complete(&mut device);
    device.reflash();
    let handled = legacy.handle(device.id, &device.tick().unwrap());
    assert_eq!(refused(&handled.change), FailureCode::AlreadyEnrolled, "suite 1 has no identity to show");
}

#[test]
fn a_unit_erased_before_it_passed_may_enrol_again_and_one_that_passed_may_not() {
    let station = Station::new(1, 2);
    let id = unit_id(1);
    let attempt = station.arrive(id);
    let mut device = station.device(id, Suite::Hardened, 1);
    station.complete(&mut device);
    station.agent.forget_unproved(id, attempt).unwrap();
    station.agent.forget_unproved(id, attempt).unwrap();
    assert_eq!(station.count("SELECT count(*) FROM key_assignment WHERE state = 'voided'"), 2);
    assert_eq!(station.agent.cloud().state("", id).unwrap(), CloudState::Unknown);
    let mut erased = station.device(id, Suite::Hardened, 2);
    station.complete(&mut erased);
    station.assert_same_keys(&erased);
    let keys = station.records.key_vault().unit_keys(id).unwrap();
    assert_eq!(
        (keys.agent.unwrap().generation, keys.cloud.unwrap().generation),
        (2, 2),
        "generations only grow"
    );
    let proof = erased.prove(&[3; 32]);
    let record = station.agent.check_proof(station.context(id), &[3; 32], &proof).unwrap();
    station.records.finish_attempt(attempt, Outcome::Pass, None, Some(&record)).unwrap();
    let refusal = station.agent.forget_unproved(id, attempt).unwrap_err();
    assert_eq!(refusal.code, FailureCode::AlreadyEnrolled);
    station.assert_same_keys(&erased);
    // The first identity is gone for good.
    let old = station.handle(id, &station.device(id, Suite::Hardened, 1).tick().unwrap());
    assert_eq!(refused(&old.change), FailureCode::AlreadyEnrolled);
}

#[test]
fn refusals_name_their_reason_and_stay_silent_on_the_wire() {
    let station = Station::new(2, 2);
    let send = |context: FrameContext, frame: &[u8]| {
        let handled = station.agent.handle(context, frame).unwrap();
        assert!(handled.reply.is_none());
        refused(&handled.change)
    };
    // Never arrived.
    let nobody = station.device(unit_id(9), Suite::Hardened, 9).tick().unwrap();
    assert_eq!(send(station.context(unit_id(9)), &nobody), FailureCode::AgentRefused);
    // Two cables swapped.
    let mut device = arrived(&station, 1, Suite::Hardened);
    station.arrive(unit_id(2));
    let frame = device.tick().unwrap();
    assert_eq!(send(station.context(unit_id(2)), &frame), FailureCode::UidMismatch);
    // A weaker suite than ordered.
    let weak = station.device(unit_id(1), Suite::Legacy, 1).tick().unwrap();
    assert_eq!(send(station.context(unit_id(1)), &weak), FailureCode::AgentRefused);
    // Another batch than its own.
    let other = FrameContext { batch: BatchId(99), ..station.context(unit_id(1)) };
    assert_eq!(send(other, &frame), FailureCode::OtherBatch);
    // Flashed by a station that has another product key under the same order's name.
    let elsewhere = Station::new(1, 2);
    let mut foreign = elsewhere.device(unit_id(1), Suite::Hardened, 1);
    for _ in 0..2 {
        assert_eq!(
            station.handle(unit_id(1), &foreign.fresh_request()).change,
            Change::Nothing,
            "may be noise"
        );
    }
    assert_eq!(send(station.context(unit_id(1)), &foreign.fresh_request()), FailureCode::ProductKeyUnknown);
    // Under another order's name.
    let po = station.records.create_product_order(support::new_order("PO-2", 1, 2)).unwrap();
    let stage_one = station.agent.stage_one_record(po.id).unwrap();
    let mut misplaced = Device::new(unit_id(1), Suite::Hardened, &stage_one, 1);
    assert_eq!(send(station.context(unit_id(1)), &misplaced.tick().unwrap()), FailureCode::ProductKeyUnknown);
    // Set aside.
    station
        .records
        .unit_event(unit_id(1), None, "quarantined", serde_json::json!({}), Some(UnitState::Quarantined))
        .unwrap();
    assert_eq!(send(station.context(unit_id(1)), &frame), FailureCode::Quarantined);
    assert_eq!(station.count("SELECT count(*) FROM key_assignment"), 0, "nothing was issued");
}

#[test]
fn the_agent_holds_the_quota_by_itself() {
    let station = Station::new(2, 2);
    for n in 1..=2 {
        let mut device = arrived(&station, n, Suite::Hardened);
        station.complete(&mut device);
    }
    // A third unit in the books, as a careless importer would put it there: the line's own check is not the only one.
    station
        .sql()
        .execute(
            "INSERT INTO unit (uid, batch, serial, state, created_at_ms) VALUES (?1, 1, 'smuggled', 'arrived', 0)",
            [unit_id(3).0],
        )
        .unwrap();
    let mut third = station.device(unit_id(3), Suite::Hardened, 3);
    let handled = station.handle(unit_id(3), &third.tick().unwrap());
    assert!(handled.reply.is_none());
    assert_eq!(refused(&handled.change), FailureCode::QuotaReached);
    assert_eq!(station.count("SELECT count(*) FROM enrolment"), 2);
    // A scrapped unit makes room for its replacement.
    station
        .records
        .unit_event(unit_id(1), None, "scrapped", serde_json::json!({}), Some(UnitState::Scrapped))
        .unwrap();
    station.complete(&mut third);
}

#[test]
fn the_cloud_goes_old_both_new_and_believes_evidence_only() {
    let station = Station::new(1, 2);
    let cloud = station.agent.cloud().clone();
    let mut device = arrived(&station, 1, Suite::Hardened);
    device.goal = vec![Purpose::Init, Purpose::CloudKeyUpdate, Purpose::CloudKeyUpdate];
    let id = device.id;
    while device.done.len() < 2 {
        station.round(&mut device);
    }
    let key = |device: &Device| device.view(device.preferred()).unwrap().cloud_key().unwrap().1;
    let old = key(&device);
    assert_eq!(cloud.state("", id).unwrap(), CloudState::New { generation: 1 });
    // Stage 2: both are accepted; the confirmation is lost.
    let request = device.tick().unwrap();
    device.deliver(station.handle(id, &request).reply.unwrap(), Cut::Never);
    let new = key(&device);
    assert_eq!(cloud.state("", id).unwrap(), CloudState::Both { old: 1, new: 2 });
    let yes = Connected { accepted: true, committed: None };
    let no = Connected { accepted: false, committed: None };
    assert_eq!(station.agent.connect(id, 1, &old).unwrap(), yes, "the old key changes nothing");
    assert_eq!(cloud.state("", id).unwrap(), CloudState::Both { old: 1, new: 2 });
    assert_eq!(station.agent.connect(id, 2, &old).unwrap(), no, "generation and key belong together");
    assert!(!cloud.activate("", id, 7).unwrap(), "never staged");
    assert!(cloud.prepare("", id, 1, &old).is_err(), "older than the staged one");
    // The unit simply connects with what it has: the paper's second scenario.
    let connected = station.agent.connect(id, 2, &new).unwrap();
    assert_eq!(connected, Connected { accepted: true, committed: Some(2) });
    assert_eq!(cloud.state("", id).unwrap(), CloudState::New { generation: 2 });
    assert_eq!(station.agent.connect(id, 1, &old).unwrap(), no, "the old one is out");
    assert!(!cloud.activate("", id, 1).unwrap(), "a stale commit is ignored");
    assert!(cloud.activate("", id, 2).unwrap(), "a repeated one is not an error");
    assert_eq!(station.count("SELECT ck_active FROM enrolment"), 2, "the agent heard of it");
    // The late confirmation still gets its acknowledgement.
    station.complete(&mut device);
    station.assert_same_keys(&device);
    cloud.block("", id).unwrap();
    assert_eq!(station.agent.connect(id, 2, &new).unwrap(), no);
    assert!(cloud.prepare("", id, 3, &CloudKey::new(&[9; 32]).unwrap()).is_err());
}

#[test]
fn a_stage_that_the_cloud_refuses_gives_the_unit_nothing() {
    let station = Station::new(1, 2);
    let mut device = arrived(&station, 1, Suite::Hardened);
    while device.done.is_empty() {
        station.round(&mut device);
    }
    station.agent.cloud().block("", device.id).unwrap();
    let handled = station.handle(device.id, &device.fresh_request());
    assert!(handled.reply.is_none());
    assert_eq!(refused(&handled.change), FailureCode::CloudRefused);
    assert_eq!(station.count("SELECT count(*) FROM pending WHERE purpose = 3"), 0);
}

#[test]
fn an_update_with_another_identity_is_an_alarm() {
    let station = Station::new(1, 2);
    let mut device = arrived(&station, 1, Suite::Hardened);
    device.goal = vec![Purpose::Init, Purpose::AgentKeyUpdate];
    while device.done.is_empty() {
        station.round(&mut device);
    }
    let own = device.dik.clone();
    device.dik = IdentityKey::from_seed(&keywright_protocol::keys::Seed::from_bytes([1; 32]));
    let handled = station.handle(device.id, &device.fresh_request());
    assert_eq!(refused(&handled.change), FailureCode::AgentRefused);
    assert_eq!(station.count("SELECT count(*) FROM alarm"), 1);
    device.dik = own;
    device.reboot();
    station.complete(&mut device);
    station.assert_same_keys(&device);
}

#[test]
fn keys_are_sealed_at_rest() {
    let station = Station::new(1, 1);
    let mut device = arrived(&station, 1, Suite::Legacy);
    station.complete(&mut device);
    let keys = station.records.key_vault().unit_keys(device.id).unwrap();
    let (agent, cloud) = (keys.agent.unwrap().key, keys.cloud.unwrap().key);
    for entry in std::fs::read_dir(station.home.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            for key in [agent.expose(), cloud.expose()] {
                assert!(!bytes.windows(key.len()).any(|w| w == key), "{}", path.display());
            }
        }
    }
}

/// The child's side of the kill test: an agent on standard input and output that kills itself, for real, at the n-th
/// [`Point`] it reaches.
fn serve(home: &str) {
    let kill_at: u32 = std::env::var("KEYWRIGHT_TEST_KILL_AT").unwrap().parse().unwrap();
    let home = std::path::Path::new(home);
    let records = open(home);
    let anchors = Anchors::open(home, &records.station_key()).unwrap();
    let batch = records.list_batches().unwrap()[0].id;
    let reached = AtomicU32::new(0);
    let agent = EmbeddedAgent::new(records, anchors).with_hook(move |_: Point| {
        if reached.fetch_add(1, Ordering::SeqCst) + 1 == kill_at {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    });
    println!("READY");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (unit, frame) = line.split_once(' ').unwrap();
        let context = FrameContext { batch, unit: unit.parse().unwrap(), attempt: None };
        let handled = agent.handle(context, &hex::decode(frame).unwrap()).unwrap();
        println!("REPLY {}", handled.reply.map(hex::encode).unwrap_or_default());
    }
}

struct Child {
    process: std::process::Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Child {
    fn start(home: &std::path::Path, kill_at: u32) -> Self {
        let mut process = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed_between_any_two_steps_never_leaves_two_live_keys", "--nocapture"])
            .env("KEYWRIGHT_TEST_HOME", home)
            .env("KEYWRIGHT_TEST_KILL_AT", kill_at.to_string())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut child = Self { process, lines };
        child.next("READY").expect("the agent starts");
        child
    }

    /// The next line with this word; `None` if the process is gone.
    fn next(&mut self, word: &str) -> Option<String> {
        loop {
            let line = self.lines.next()?.ok()?;
            // The test harness writes its own words in front of the first line.
            if let Some(at) = line.find(word) {
                return Some(line[at + word.len()..].trim().to_string());
            }
        }
    }

    fn handle(&mut self, unit: UnitId, frame: &[u8]) -> Option<String> {
        writeln!(self.process.stdin.as_mut()?, "{unit} {}", hex::encode(frame)).ok()?;
        self.next("REPLY")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

#[test]
fn killed_between_any_two_steps_never_leaves_two_live_keys() {
    if let Ok(home) = std::env::var("KEYWRIGHT_TEST_HOME") {
        return serve(&home);
    }
    let mut kills = 0;
    for kill_at in 1.. {
        let (home, mut device, batch) = {
            let station = Station::new(1, 2);
            let mut device = arrived(&station, 1, Suite::Hardened);
            device.goal = WHOLE_LIFE.to_vec();
            let Station { home, batch, .. } = station;
            (home, device, batch)
        };
        let mut child = Child::start(home.path(), kill_at);
        let mut killed = false;
        for _ in 0..60 {
            let Some(frame) = device.tick() else { break };
            match child.handle(device.id, &frame) {
                Some(reply) if reply.is_empty() => {}
                Some(reply) => device.deliver(hex::decode(reply).unwrap(), Cut::Never),
                None => {
                    assert!(!killed, "only once");
                    killed = true;
                    drop(child);
                    child = Child::start(home.path(), u32::MAX);
                    // Now and then the board loses its power, too.
                    if kill_at % 2 == 0 {
                        device.reboot();
                    }
                }
            }
        }
        drop(child);
        assert!(device.is_done(), "killed at {kill_at}: {:?}", device.done);
        let records = open(home.path());
        let anchors = Anchors::open(home.path(), &records.station_key()).unwrap();
        let agent = EmbeddedAgent::new(records.clone(), anchors);
        let context = FrameContext { batch: batch.id, unit: device.id, attempt: None };
        let proof = agent.check_proof(context, &[8; 32], &device.prove(&[8; 32])).unwrap();
        assert!(proof.agent_mac_ok && proof.cloud_mac_ok, "killed at {kill_at}");
        let sql = rusqlite::Connection::open(home.path().join("station.db")).unwrap();
        let live: Vec<i64> = sql
            .prepare(
                "SELECT count(*) FROM key_assignment WHERE state = 'posted' AND retired_at_ms IS NULL
                 GROUP BY unit, purpose",
            )
            .unwrap()
            .query_map([], |r| r.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(live, [1, 1], "killed at {kill_at}");
        records.verify_history().unwrap();
        if !killed {
            break;
        }
        kills += 1;
    }
    // INIT 2 + 2, CKU 5 + 3, AKU 2 + 2, CKU 5 + 3.
    assert_eq!(kills, 24, "every point of a whole life was a place to die");
}
