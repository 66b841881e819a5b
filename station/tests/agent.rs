//! The embedded agent against units of the protocol crate: both roles to the end, over good and bad links, killed
//! between any two steps, and everything it must refuse.

mod support;

use keywright::agent::cloud::{CloudState, Connected};
use keywright::agent::{Agent, Change, EmbeddedAgent, FrameContext, PlatformCloud, Point};
use keywright::anchors::Anchors;
use keywright::config::CloudConfig;
use keywright::failure::FailureCode;
use keywright::model::*;
use keywright::records::{AlarmOf, NewReprovision, Records, ReprovisionKind};
use keywright_protocol::{CloudKey, IdentityKey, Purpose, Suite};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use support::{AT, Cut, Device, Rng, Station, local_cloud, open, unit_id};

const WHOLE_LIFE: [Purpose; 4] =
    [Purpose::Init, Purpose::CloudKeyUpdate, Purpose::AgentKeyUpdate, Purpose::CloudKeyUpdate];

fn refused(change: &Change) -> FailureCode {
    match change {
        Change::Refused(failure) => failure.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Waits for what another thread does; a test that waits in vain fails.
fn eventually(mut done: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !done() {
        assert!(std::time::Instant::now() < end, "it never came");
        std::thread::yield_now();
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
                    let state = station.agent.cloud().state(AT, device.id).unwrap();
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
        ["enrolment", "pending", "key_assignment", "unit_event"]
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
fn an_evicted_cloud_exchange_is_refused_and_the_unit_gets_another_record() {
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
    for (frame, ck_gen) in frames.iter().zip([1, 1, 1, 2]) {
        assert_eq!(station.handle(device.id, frame).change, Change::CloudKeyIssued { ck_gen });
    }
    let nack = station.handle(device.id, &late).reply.expect("an authentic NACK");
    device.deliver(nack, Cut::Never);
    assert_eq!(device.refused, 1);
    station.complete(&mut device);
    station.assert_same_keys(&device);
    assert_eq!(station.agent.cloud().state(AT, device.id).unwrap(), CloudState::New { generation: 2 });
}

/// Another platform.
const THERE: &str = "mqtts://other.example:8883";

/// A unit that committed its second cloud key, four requests of it from before, and its message 3, which comes late.
struct Late {
    device: Device,
    old: CloudKey,
    new: CloudKey,
    stale: Vec<Vec<u8>>,
    confirm: Vec<u8>,
}

fn late(station: &Station, suite: Suite) -> Late {
    let mut device = arrived(station, 1, suite);
    device.goal =
        vec![Purpose::Init, Purpose::CloudKeyUpdate, Purpose::CloudKeyUpdate, Purpose::CloudKeyUpdate];
    while device.done.len() < 2 {
        station.round(&mut device);
    }
    let old = cloud_key(&device);
    let stale = (0..4).map(|_| device.fresh_request()).collect();
    let request = device.fresh_request();
    let handled = station.handle(device.id, &request);
    assert_eq!(handled.change, Change::CloudKeyIssued { ck_gen: 2 });
    device.deliver(handled.reply.expect("U3"), Cut::Never);
    let (new, confirm) = (cloud_key(&device), device.tick().expect("U4"));
    Late { device, old, new, stale, confirm }
}

impl Late {
    /// What the four stale requests are answered with.
    fn stale(&self, station: &Station) -> Vec<Change> {
        self.stale.iter().map(|frame| station.handle(self.device.id, frame).change).collect()
    }

    fn logs_in(&self, station: &Station, generation: u32, key: &CloudKey) -> bool {
        station.agent.cloud().connect(AT, self.device.id, generation, key).unwrap().accepted
    }

    fn log_in_with_the_new_key(&self, station: &Station) {
        assert!(self.logs_in(station, 2, &self.new));
        let cloud = station.agent.cloud();
        eventually(|| cloud.state(AT, self.device.id).unwrap() == CloudState::New { generation: 2 });
    }

    /// The late message 3 gets its message 4, the old key is out, and the unit goes on.
    fn acknowledged(mut self, station: &Station) {
        let reply = station.handle(self.device.id, &self.confirm).reply.expect("U7");
        self.device.deliver(reply, Cut::Never);
        assert_eq!((self.device.refused, self.device.done.len()), (0, 3), "no NACK");
        assert!(self.logs_in(station, 2, &self.new) && !self.logs_in(station, 1, &self.old));
        self.goes_on(station);
    }

    /// The late message 3 gets a NACK, when its key opens nothing any more and the old one still does.
    fn refused_late(mut self, station: &Station) {
        assert!(!self.logs_in(station, 2, &self.new) && self.logs_in(station, 1, &self.old));
        let reply = station.handle(self.device.id, &self.confirm).reply.expect("an authentic NACK");
        self.device.deliver(reply, Cut::Never);
        assert_eq!((self.device.refused, self.device.done.len()), (1, 2));
        assert!(self.logs_in(station, 1, &cloud_key(&self.device)), "the unit is back at the old key");
        let voided = "SELECT count(*) FROM key_assignment WHERE purpose = 'cloud' AND generation = 2 AND void_reason = 'evicted'";
        assert_eq!(station.count(voided), 1);
        self.goes_on(station);
    }

    fn goes_on(mut self, station: &Station) {
        station.complete(&mut self.device);
        station.assert_same_keys(&self.device);
        let state = station.agent.cloud().state(AT, self.device.id).unwrap();
        let CloudState::New { generation } = state else { panic!("{state:?}") };
        assert!(generation > 2 && self.logs_in(station, generation, &cloud_key(&self.device)));
        let past = station.agent.try_old_credentials(self.device.id).unwrap();
        assert_eq!(past, generation - 1, "all of them refused, the void ones as well");
        station.records.verify_history().unwrap();
    }
}

/// Gives the station clouds of its own whose notices reach nobody, as when they are lost with the process.
fn deafen(station: &mut Station) -> tempfile::TempDir {
    let other = CloudConfig { name: "other".into(), url: THERE.into(), ..local_cloud() };
    let elsewhere = tempfile::tempdir().unwrap();
    let nobody = open(elsewhere.path());
    let cloud = PlatformCloud::new(elsewhere.path(), "bench-1", &[local_cloud(), other], nobody);
    let anchors = Anchors::open(station.home.path(), &station.records.station_key()).unwrap();
    station.agent = Arc::new(EmbeddedAgent::new(station.records.clone(), anchors, Arc::new(cloud)));
    elsewhere
}

#[test]
fn a_cloud_key_that_its_unit_logged_in_with_outlives_the_eviction_of_its_exchange() {
    for (suite, hears) in [(Suite::Legacy, false), (Suite::Hardened, false), (Suite::Hardened, true)] {
        let mut station = Station::new(1, suite.number());
        let _elsewhere = (!hears).then(|| deafen(&mut station));
        let late = late(&station, suite);
        late.log_in_with_the_new_key(&station);
        let issued = if hears {
            eventually(|| station.count("SELECT ck_active FROM enrolment") == 2);
            [3, 3, 3, 3]
        } else {
            // The fifth exchange would push one out: now the cloud is asked, and says that the key is in use.
            [2, 2, 2, 3]
        };
        assert_eq!(late.stale(&station), issued.map(|ck_gen| Change::CloudKeyIssued { ck_gen }));
        late.acknowledged(&station);
    }
}

#[test]
fn a_cloud_key_that_nobody_logged_in_with_is_withdrawn_before_its_exchange_refused_late() {
    for suite in [Suite::Legacy, Suite::Hardened] {
        let station = Station::new(1, suite.number());
        let late = late(&station, suite);
        let issued = [2, 2, 2, 3].map(|ck_gen| Change::CloudKeyIssued { ck_gen });
        assert_eq!(late.stale(&station), issued);
        let state = station.agent.cloud().state(AT, late.device.id).unwrap();
        assert_eq!(state, CloudState::Both { old: 1, new: 3 });
        late.refused_late(&station);
    }
}

#[test]
fn a_move_whose_key_was_withdrawn_is_still_wanted() {
    let mut station = Station::new(1, 2);
    let _elsewhere = deafen(&mut station);
    let cloud = station.agent.cloud().clone();
    let mut device = arrived(&station, 1, Suite::Hardened);
    let id = device.id;
    device.goal = vec![Purpose::Init, Purpose::CloudKeyUpdate, Purpose::CloudKeyUpdate];
    while device.done.len() < 2 {
        station.round(&mut device);
    }
    station.agent.order_update(id, Some(THERE)).unwrap();
    let stale: Vec<_> = (0..4).map(|_| device.fresh_request()).collect();
    let request = device.fresh_request();
    device.deliver(station.handle(id, &request).reply.unwrap(), Cut::Never);
    let confirm = device.tick().unwrap();
    for (frame, ck_gen) in stale.iter().zip([2, 2, 2, 3]) {
        assert_eq!(station.handle(id, frame).change, Change::CloudKeyIssued { ck_gen });
    }
    assert_eq!(cloud.state(AT, id).unwrap(), CloudState::New { generation: 1 });
    assert_eq!(cloud.state(THERE, id).unwrap(), CloudState::Both { old: 0, new: 3 });
    device.deliver(station.handle(id, &confirm).reply.expect("an authentic NACK"), Cut::Never);
    assert_eq!(device.refused, 1);
    station.complete(&mut device);
    station.assert_same_keys(&device);
    assert_eq!(cloud.state(AT, id).unwrap(), CloudState::Unknown, "it has moved");
    assert_eq!(cloud.state(THERE, id).unwrap(), CloudState::New { generation: 3 });
}

#[test]
fn nothing_is_refused_before_the_cloud_has_answered() {
    for logged_in in [false, true] {
        let mut station = Station::new(1, 2);
        let _elsewhere = deafen(&mut station);
        let late = late(&station, Suite::Hardened);
        for frame in &late.stale[..3] {
            assert!(station.handle(late.device.id, frame).reply.is_some());
        }
        // The platform can't be reached.
        station.sql().execute("UPDATE enrolment SET cloud_staged = 'mqtts://gone.example:8883'", []).unwrap();
        for frame in [&late.stale[3], &late.confirm, &late.stale[0], &late.confirm] {
            let handled = station.handle(late.device.id, frame);
            assert_eq!((handled.reply, refused(&handled.change)), (None, FailureCode::CloudRefused));
        }
        assert!(late.logs_in(&station, 1, &late.old), "nothing has changed");
        station.sql().execute("UPDATE enrolment SET cloud_staged = ?1", [AT]).unwrap();
        if logged_in {
            late.log_in_with_the_new_key(&station);
            late.acknowledged(&station);
        } else {
            // What the cloud finishes first is refused or not by the very message 3; the key goes with it.
            let mut late = late;
            let reply = station.handle(late.device.id, &late.confirm).reply.expect("an authentic NACK");
            late.device.deliver(reply, Cut::Never);
            assert_eq!(late.device.refused, 1);
            assert!(!late.logs_in(&station, 2, &late.new) && late.logs_in(&station, 1, &late.old));
            late.goes_on(&station);
        }
    }
}

#[test]
fn a_withdrawal_that_was_cut_short_is_finished_before_anybody_hears_of_the_key() {
    for (point, logged_in) in [
        (Point::BeforeCloud, false),
        (Point::BeforeCloud, true),
        (Point::AfterCloud, false),
        (Point::AfterCloud, true),
    ] {
        let mut station = Station::new(1, 2);
        let _elsewhere = deafen(&mut station);
        let late = late(&station, Suite::Hardened);
        for frame in &late.stale[..3] {
            assert!(station.handle(late.device.id, frame).reply.is_some());
        }
        // After the cloud has withdrawn the key no login can use it: then it must have been before.
        if logged_in && point == Point::AfterCloud {
            late.log_in_with_the_new_key(&station);
        }
        let cloud = station.agent.cloud().clone();
        let anchors = || Anchors::open(station.home.path(), &station.records.station_key()).unwrap();
        let dying = EmbeddedAgent::new(station.records.clone(), anchors(), cloud.clone())
            .with_hook(move |at| assert_ne!(at, point, "the process dies here"));
        let context = station.context(late.device.id);
        let death = std::panic::AssertUnwindSafe(|| dying.handle(context, &late.stale[3]));
        assert!(std::panic::catch_unwind(death).is_err());
        station.agent = Arc::new(EmbeddedAgent::new(station.records.clone(), anchors(), cloud));
        if logged_in && point == Point::BeforeCloud {
            late.log_in_with_the_new_key(&station);
        }
        // An exchange of that key again: its cached answer must not bring a key back that is gone.
        let again = station.handle(late.device.id, &late.stale[0]).change;
        if logged_in {
            assert_eq!(again, Change::Nothing, "the cached answer of a key that counts");
            late.acknowledged(&station);
        } else {
            assert_eq!(again, Change::CloudKeyIssued { ck_gen: 3 });
            late.refused_late(&station);
        }
    }
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
        station.agent.cloud().state(AT, device.id).unwrap(),
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
    assert_eq!(station.agent.cloud().state(AT, id).unwrap(), CloudState::Unknown);
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
    assert_eq!(cloud.state(AT, id).unwrap(), CloudState::New { generation: 1 });
    // Stage 2: both are accepted; the confirmation is lost.
    let request = device.tick().unwrap();
    device.deliver(station.handle(id, &request).reply.unwrap(), Cut::Never);
    let new = key(&device);
    assert_eq!(cloud.state(AT, id).unwrap(), CloudState::Both { old: 1, new: 2 });
    let yes = Connected { accepted: true, committed: None };
    let no = Connected { accepted: false, committed: None };
    assert_eq!(cloud.connect(AT, id, 1, &old).unwrap(), yes, "the old key changes nothing");
    assert_eq!(cloud.state(AT, id).unwrap(), CloudState::Both { old: 1, new: 2 });
    assert_eq!(cloud.connect(AT, id, 2, &old).unwrap(), no, "generation and key belong together");
    assert!(!cloud.activate(AT, id, 7).unwrap(), "never staged");
    assert!(cloud.prepare(AT, id, 1, &new).is_err(), "a generation has one key");
    // The unit simply connects with what it has: the paper's second scenario.
    let connected = cloud.connect(AT, id, 2, &new).unwrap();
    assert_eq!(connected, Connected { accepted: true, committed: Some(2) });
    // The broker's word comes on a thread of its own.
    eventually(|| cloud.state(AT, id).unwrap() == CloudState::New { generation: 2 });
    // The ledger is written before the broker is told.
    eventually(|| cloud.connect(AT, id, 1, &old).unwrap() == no);
    assert!(!cloud.activate(AT, id, 1).unwrap(), "a stale commit is ignored");
    assert!(cloud.activate(AT, id, 2).unwrap(), "a repeated one is not an error");
    eventually(|| station.count("SELECT ck_active FROM enrolment") == 2);
    // The late confirmation still gets its acknowledgement.
    station.complete(&mut device);
    station.assert_same_keys(&device);
    cloud.block(AT, id).unwrap();
    assert_eq!(cloud.connect(AT, id, 2, &new).unwrap(), no);
    assert!(cloud.prepare(AT, id, 3, &CloudKey::new(&[9; 32]).unwrap()).is_err());
}

#[test]
fn a_stage_that_the_cloud_refuses_gives_the_unit_nothing() {
    let station = Station::new(1, 2);
    let mut device = arrived(&station, 1, Suite::Hardened);
    while device.done.is_empty() {
        station.round(&mut device);
    }
    station.agent.cloud().block(AT, device.id).unwrap();
    let handled = station.handle(device.id, &device.fresh_request());
    assert!(handled.reply.is_none());
    assert_eq!(refused(&handled.change), FailureCode::CloudRefused);
    assert_eq!(station.count("SELECT count(*) FROM pending WHERE purpose = 3"), 0);
}

/// Proves the unit's keys and records the PASS.
fn pass(station: &Station, device: &mut Device) {
    let attempt = station.arrive(device.id);
    let proof = device.prove(&[3; 32]);
    let record = station.agent.check_proof(station.context(device.id), &[3; 32], &proof).unwrap();
    station.records.finish_attempt(attempt, Outcome::Pass, None, Some(&record)).unwrap();
}

fn order(kind: ReprovisionKind, region: u32) -> NewReprovision {
    NewReprovision { kind, reason: "returned".into(), operator: "qa".into(), region }
}

fn cloud_key(device: &Device) -> CloudKey {
    device.view(device.preferred()).unwrap().cloud_key().unwrap().1
}

fn kinds(station: &Station, unit: UnitId) -> Vec<String> {
    station.records.unit_events(unit).unwrap().into_iter().map(|e| e.kind).collect()
}

/// Without QA's order a unit that lost its keys is refused and raised; with it the old identity dies first, everywhere.
#[test]
fn a_new_start_kills_the_old_identity_first() {
    let station = Station::new(1, 2);
    let cloud = station.agent.cloud().clone();
    let mut device = arrived(&station, 1, Suite::Hardened);
    station.complete(&mut device);
    pass(&station, &mut device);
    let (id, old) = (device.id, cloud_key(&device));
    let mut erased = station.device(id, Suite::Hardened, 99);
    let handled = station.handle(id, &erased.tick().unwrap());
    assert_eq!(refused(&handled.change), FailureCode::AlreadyEnrolled);
    let alarms = station.records.list_alarms(false).unwrap();
    assert_eq!((alarms[0].of.clone(), alarms[0].kind.as_str()), (AlarmOf::Unit(id), "another-identity"));
    assert!(cloud.connect(AT, id, 1, &old).unwrap().accepted);

    for _ in 0..2 {
        // The same command again goes on, whatever came of the first.
        let opened = station.agent.reprovision(id, order(ReprovisionKind::NewStart, 0)).unwrap();
        assert_eq!((opened.supersedes.as_str(), opened.before), (format!("{id}.1").as_str(), (1, 1)));
        assert!(!cloud.connect(AT, id, 1, &old).unwrap().accepted, "dead before there is a new one");
        assert_eq!(station.records.unit(id).unwrap().unwrap().state, UnitState::Flashing);
    }
    let other = station.agent.reprovision(id, order(ReprovisionKind::NewKeys, 0)).unwrap_err();
    assert_eq!(other.code, FailureCode::NothingToRenew);
    // What the old keys ask for is not answered any more.
    device.goal = WHOLE_LIFE.to_vec();
    let stale = device.fresh_request();
    assert!(station.handle(id, &stale).reply.is_none());
    let attempt = station.arrive(id);
    station.agent.forget_unproved(id, attempt).unwrap();
    erased.reboot();
    station.complete(&mut erased);
    station.assert_same_keys(&erased);
    // A command that comes late must not take the new keys away.
    station.agent.reprovision(id, order(ReprovisionKind::NewStart, 0)).unwrap();
    station.assert_same_keys(&erased);
    pass(&station, &mut erased);
    let done = station.records.reprovisions(id).unwrap().remove(0);
    assert_eq!((done.done, done.after), (true, Some((2, 2))), "generations only grow");
    assert!(!cloud.connect(AT, id, 1, &old).unwrap().accepted);
    assert!(cloud.connect(AT, id, 2, &cloud_key(&erased)).unwrap().accepted);
    assert_eq!(station.records.export_rows(station.batch.id).unwrap()[0].supersedes, format!("{id}.1"));
    let counts = station.records.batch_counts(station.batch.id).unwrap();
    assert_eq!((counts.passed, counts.failed, counts.open()), (1, 0, 0));
    let history = kinds(&station, id);
    for kind in ["alarm", "reprovision-ordered", "keys-revoked", "reprovisioned"] {
        assert!(history.iter().any(|k| k == kind), "{kind} in {history:?}");
    }
    station.records.verify_history().unwrap();
}

#[test]
fn new_keys_are_shown_before_the_old_ones_die() {
    let station = Station::new(1, 2);
    let cloud = station.agent.cloud().clone();
    let mut device = arrived(&station, 1, Suite::Hardened);
    station.complete(&mut device);
    let early = station.agent.reprovision(device.id, order(ReprovisionKind::NewKeys, 0)).unwrap_err();
    assert_eq!(early.code, FailureCode::NothingToRenew, "it has not passed");
    pass(&station, &mut device);
    let old = cloud_key(&device);
    let opened = station.agent.reprovision(device.id, order(ReprovisionKind::NewKeys, 0)).unwrap();
    assert!(cloud.connect(AT, device.id, 1, &old).unwrap().accepted, "it still needs it");
    pass(&station, &mut device);
    assert_eq!(
        station.records.reprovisions(device.id).unwrap(),
        [opened],
        "a proof of the old keys does not end it"
    );
    device.goal = WHOLE_LIFE.to_vec();
    station.complete(&mut device);
    pass(&station, &mut device);
    let done = station.records.reprovisions(device.id).unwrap().remove(0);
    assert_eq!(done.after, Some((2, 2)));
    assert!(!cloud.connect(AT, device.id, 1, &old).unwrap().accepted);
    for reason in ["", " ", "a\nb"] {
        let bad = NewReprovision { reason: reason.into(), ..order(ReprovisionKind::NewKeys, 0) };
        assert_eq!(station.agent.reprovision(device.id, bad).unwrap_err().code, FailureCode::InvalidInput);
    }
    // An order may be taken back.
    station.agent.reprovision(device.id, order(ReprovisionKind::NewKeys, 0)).unwrap();
    station.agent.withdraw_reprovision(device.id, "not needed", "qa").unwrap();
    let orders = station.records.reprovisions(device.id).unwrap();
    assert_eq!((orders.len(), orders[1].done, orders[1].ended_at_ms.is_some()), (2, false, true));
}

#[test]
fn quarantine_shuts_every_door_and_a_scrapped_unit_never_comes_back() {
    let station = Station::new(2, 2);
    let cloud = station.agent.cloud().clone();
    let mut device = arrived(&station, 1, Suite::Hardened);
    station.complete(&mut device);
    pass(&station, &mut device);
    let (id, key) = (device.id, cloud_key(&device));
    station.agent.quarantine(id, "label unreadable", "qa").unwrap();
    station.agent.quarantine(id, "again", "qa").unwrap();
    assert!(!cloud.connect(AT, id, 1, &key).unwrap().accepted);
    device.goal = WHOLE_LIFE.to_vec();
    let handled = station.handle(id, &device.fresh_request());
    assert_eq!(refused(&handled.change), FailureCode::Quarantined);
    let refusal = station.agent.reprovision(id, order(ReprovisionKind::NewStart, 0)).unwrap_err();
    assert_eq!(refusal.code, FailureCode::Quarantined);
    station.agent.release(id, "printed anew", "qa").unwrap();
    assert_eq!(station.records.unit(id).unwrap().unwrap().state, UnitState::Passed);
    assert!(cloud.connect(AT, id, 1, &key).unwrap().accepted);
    assert_eq!(station.agent.release(id, "x", "qa").unwrap_err().code, FailureCode::InvalidInput);

    station.agent.reprovision(id, order(ReprovisionKind::NewKeys, 0)).unwrap();
    station.agent.scrap(id, "burnt", "qa").unwrap();
    station.agent.scrap(id, "burnt", "qa").unwrap();
    assert!(!cloud.connect(AT, id, 1, &key).unwrap().accepted);
    assert!(!station.records.reprovisions(id).unwrap()[0].done, "its order is withdrawn");
    assert_eq!(station.count("SELECT count(*) FROM key_assignment WHERE retired_at_ms IS NULL"), 0);
    for code in [
        station.agent.release(id, "x", "qa").unwrap_err().code,
        station.agent.reprovision(id, order(ReprovisionKind::NewStart, 0)).unwrap_err().code,
    ] {
        assert!(matches!(code, FailureCode::Scrapped | FailureCode::InvalidInput), "{code}");
    }
    // It makes room for another.
    let mut next = arrived(&station, 2, Suite::Hardened);
    station.complete(&mut next);
    let counts = station.records.batch_counts(station.batch.id).unwrap();
    assert_eq!((counts.scrapped, counts.passed), (1, 0));
}

#[test]
fn a_leaked_product_key_is_noticed_and_shut_out() {
    let station = Station::new(3, 2);
    let cloud = station.agent.cloud().clone();
    station.records.expect_rate(station.po.id, 1).unwrap();
    let mut before = arrived(&station, 1, Suite::Hardened);
    station.complete(&mut before);
    pass(&station, &mut before);
    assert_eq!(station.records.list_alarms(false).unwrap(), [], "one an hour is expected");
    // The clock of the records, which the moment is compared with.
    let since = station.count("SELECT max(enrolled_at_ms) + 1 FROM enrolment");
    eventually(|| keywright::station::now_ms() > since);
    let mut after = arrived(&station, 2, Suite::Hardened);
    station.complete(&mut after);
    let alarms = station.records.list_alarms(false).unwrap();
    assert_eq!(alarms.len(), 1);
    assert_eq!((alarms[0].kind.as_str(), alarms[0].count), ("activation-rate", 1));
    assert_eq!(alarms[0].of, AlarmOf::ProductOrder("PO-1".into()));
    station.records.see_alarm(alarms[0].id, "qa").unwrap();
    assert_eq!(station.records.list_alarms(false).unwrap(), []);
    assert_eq!(station.records.list_alarms(true).unwrap()[0].seen.as_ref().unwrap().0, "qa");
    let mut third = arrived(&station, 3, Suite::Hardened);
    let request = third.tick().unwrap();
    assert!(station.handle(third.id, &request).reply.is_some());
    assert_eq!(station.records.list_alarms(false).unwrap()[0].count, 2, "it happened again");

    let reach = station.records.product_key_reach(station.po.id, since).unwrap();
    assert_eq!((reach.units, reach.passed), (2, 0));
    for _ in 0..2 {
        let done =
            station.agent.invalidate_product_key(station.po.id, since, "seen on a forum", "vendor").unwrap();
        assert_eq!((done.quarantined, done.blocked, done.left.len()), (2, 2, 0));
    }
    assert!(!cloud.connect(AT, after.id, 1, &cloud_key(&after)).unwrap().accepted);
    assert!(cloud.connect(AT, before.id, 1, &cloud_key(&before)).unwrap().accepted, "made before it leaked");
    assert_eq!(refused(&station.handle(third.id, &request).change), FailureCode::Quarantined);
    // What was made before keeps renewing its keys; only first keys are refused.
    before.goal = WHOLE_LIFE.to_vec();
    station.complete(&mut before);
    station.assert_same_keys(&before);
    let restart = station.agent.reprovision(before.id, order(ReprovisionKind::NewStart, 0)).unwrap_err();
    assert_eq!(restart.code, FailureCode::ProductKeyInvalid);
    before.reflash();
    let handled = station.handle(before.id, &before.tick().unwrap());
    assert_eq!(refused(&handled.change), FailureCode::ProductKeyInvalid);
    assert!(station.records.list_alarms(false).unwrap().iter().any(|a| a.kind == "invalid-product-key"));
    // A released unit works again; its order's key stays as dead as it was.
    station.agent.release(after.id, "looked at", "qa").unwrap();
    assert!(cloud.connect(AT, after.id, 1, &cloud_key(&after)).unwrap().accepted);
    let sql = station.sql().execute("UPDATE product_order SET key_invalid_at_ms = NULL", []);
    assert!(sql.is_err(), "{sql:?}");
}

#[test]
fn more_units_than_were_ordered_are_an_alarm() {
    let station = Station::new(1, 2);
    let mut first = arrived(&station, 1, Suite::Hardened);
    station.complete(&mut first);
    station
        .sql()
        .execute(
            "INSERT INTO unit (uid, batch, serial, state, created_at_ms) VALUES (?1, 1, 'smuggled', 'arrived', 0)",
            [unit_id(2).0],
        )
        .unwrap();
    let mut second = station.device(unit_id(2), Suite::Hardened, 2);
    assert_eq!(
        refused(&station.handle(unit_id(2), &second.tick().unwrap()).change),
        FailureCode::QuotaReached
    );
    let alarms = station.records.list_alarms(false).unwrap();
    assert_eq!(alarms[0].kind, "activations-over-plan");
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
    let agent = support::agent(home, &records, anchors).with_hook(move |_: Point| {
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
        let agent = support::agent(home.path(), &records, anchors);
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
