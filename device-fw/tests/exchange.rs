//! The unit against an agent, end to end: good runs, wrong peers, bad lines, control messages.

mod support;

use keywright_device_fw::engine::{BACK_OFF_FIRST, BACK_OFF_LAST};
use keywright_device_fw::traits::RngFault;
use keywright_protocol::cert::Trust;
use keywright_protocol::control::{AreaStatus, Control, Proof, Stage};
use keywright_protocol::exchange::{RequestEntropy, Start};
use keywright_protocol::keys::EphemeralSecret;
use keywright_protocol::serial::Channel;
use keywright_protocol::{DeviceFailure, Generation, MAX_FRAME, Purpose, Region, Suite, Xid, map};
use support::agent::{Agent, Fault, REGION, TIME};
use support::{Dice, Line, UNIT, World};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

fn both_suites(test: impl Fn(Suite)) {
    for suite in [Suite::Legacy, Suite::Hardened] {
        test(suite);
    }
}

fn prove(world: &mut World) -> Result<Proof, u16> {
    world.answers.clear();
    world.control(&Control::ProveRequest { challenge: [7; 32] });
    assert!(world.run_until(MINUTE, |w| !w.answers.is_empty()), "no answer to a challenge");
    match world.answers[0] {
        Control::Proof(proof) => Ok(proof),
        Control::Refused { request: 2, failure } => Err(failure),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_unit_gets_its_keys_and_proves_them() {
    both_suites(|suite| {
        let mut world = World::new(Agent::new(suite, 1), 1);
        assert_eq!(world.status().stage, Stage::PRODUCT_KEY);
        assert!(world.run_to_active());
        world.check_active();
        let status = world.status();
        assert_eq!(status.stage, Stage::ACTIVE);
        assert_eq!((status.unit, status.suite, status.region.0), (UNIT, suite.number(), 7));
        // Stage one in B, agent key in A, cloud snapshot in B again; A is blank.
        assert_eq!((status.area_a, status.area_b), (AreaStatus::BLANK, AreaStatus::ACTIVE));
        assert_eq!((status.generation.0, status.agent_key.0, status.cloud_key.0), (3, 1, 1));
        assert_eq!((status.last_failure, status.reset_cause, status.stack_high_water), (0, 8, 4321));
        let proof = prove(&mut world).unwrap();
        let agent = world.agent.agent_key().unwrap().clone();
        proof.verify_agent(&[7; 32], &UNIT, Generation(1), &agent).unwrap();
        proof.verify_cloud(&[7; 32], &UNIT, Generation(1), &world.agent.cloud_key(1)).unwrap();
        assert_eq!(world.unit().store().trust().unwrap().time_floor, Some(TIME));
        // There is no modem in this world.
        let silent = [0, DeviceFailure::CloudUnreachable.code()];
        assert!(world.logs.iter().all(|record| silent.contains(&record.code)), "a clean run logs no failure");
        assert_eq!(world.boots, 1);
    });
}

#[test]
fn updates_swap_areas_and_grow_generations() {
    both_suites(|suite| {
        let mut world = World::new(Agent::new(suite, 2), 2);
        assert!(world.run_to_active());
        for (purpose, agent_key, cloud_key) in [
            (Purpose::AgentKeyUpdate, 2, 1),
            (Purpose::CloudKeyUpdate, 2, 2),
            (Purpose::AgentKeyUpdate, 3, 2),
        ] {
            let before = world.status();
            world.unit().start_update(purpose).unwrap();
            let done = (agent_key, cloud_key);
            assert!(world.run_until(HOUR, |w| {
                w.agent.active_agent_key() == Some(done.0)
                    && w.agent.cloud_active == done.1
                    && w.unit().stage() == Stage::ACTIVE
            }));
            world.run_until(HOUR, |_| false);
            world.check_active();
            let after = world.status();
            assert_eq!((after.agent_key.0, after.cloud_key.0), done, "{purpose:?}");
            assert!(after.generation > before.generation, "I8");
            assert_eq!((after.area_a, after.area_b), (before.area_b, before.area_a), "the areas swap");
            // What an update does not bring is copied forward.
            assert_eq!(after.region.0, 7);
            prove(&mut world).unwrap();
        }
    });
}

#[test]
fn an_update_survives_a_cut_at_every_operation() {
    let start = |seed| {
        let mut world = World::new(Agent::new(Suite::Hardened, seed), seed);
        assert!(world.run_to_active());
        world
    };
    let update = |world: &mut World| {
        world.unit().start_update(Purpose::AgentKeyUpdate).unwrap();
    };
    let (first, last) = {
        let mut world = start(3);
        let first = world.nor.borrow().operations;
        update(&mut world);
        world.run_until(HOUR, |_| false);
        (first, world.nor.borrow().operations)
    };
    assert!(last > first + 100);
    for at in first..last {
        let mut world = start(3);
        world.nor.borrow_mut().cut = Some(support::nor::Cut { at, progress: at % 101 });
        update(&mut world);
        world.run_until(HOUR, |w| w.boots == 2);
        // The wish is gone with the reset; what was committed goes on by itself.
        assert!(world.run_to_active(), "cut at {at}");
        world.check_active();
    }
}

#[test]
fn a_lossy_line_only_costs_time() {
    for seed in 0..100 {
        let suite = if seed % 2 == 0 { Suite::Hardened } else { Suite::Legacy };
        let mut world = World::new(Agent::new(suite, seed), seed);
        world.line = Line { loss: 40, duplicate: 30, corrupt: 10, reorder: 30 };
        assert!(world.run_to_active(), "seed {seed}");
        world.line = Line::default();
        world.check_active();
        assert_eq!(world.boots, 1);
    }
}

/// A wrong peer: nothing is committed, the log says which failure, and the right peer is still welcome.
#[test]
fn a_wrong_agent_changes_nothing() {
    for (fault, failure) in [
        (Fault::AgentOfOtherRegion, DeviceFailure::TrustRegion),
        (Fault::AgentRole, DeviceFailure::TrustRole),
        (Fault::AgentOrder, DeviceFailure::TrustRole),
        (Fault::OldRoot, DeviceFailure::TrustEpoch),
        (Fault::AgentSignature, DeviceFailure::TrustSignature),
        (Fault::Busy, DeviceFailure::ExchangeBusy),
        (Fault::OtherProductKey, DeviceFailure::ExchangeNoAnswer),
        (Fault::OtherVersion, DeviceFailure::FrameRefused),
    ] {
        let mut world = World::new(Agent::new(Suite::Hardened, 4), 4);
        world.agent.fault = fault;
        world.run_until(10 * MINUTE, |_| false);
        assert_eq!(world.status().stage, Stage::PRODUCT_KEY, "{fault:?}");
        assert_eq!(world.status().area_a, AreaStatus::BLANK, "{fault:?} wrote");
        assert!(world.logged(failure), "{fault:?}: {:?}", world.logs);
        assert!(world.agent.active_agent_key().is_none());
        world.agent.fault = Fault::None;
        assert!(world.run_to_active(), "{fault:?}: the right agent later");
        world.check_active();
    }
}

#[test]
fn a_wrong_cloud_record_is_not_committed() {
    both_suites(|suite| {
        for (fault, failure) in [
            (Fault::RecordOfOtherRegion, DeviceFailure::TrustRegion),
            (Fault::DeviceCertOfOtherUnit, DeviceFailure::TrustRole),
            (Fault::DeviceCertSignature, DeviceFailure::TrustSignature),
            (Fault::NoCerts, DeviceFailure::TrustRole),
        ] {
            let mut world = World::new(Agent::new(suite, 5), 5);
            world.agent.fault = fault;
            world.run_until(10 * MINUTE, |_| false);
            assert_eq!(world.status().stage, Stage::AGENT_KEY_ACTIVE, "{suite:?} {fault:?}");
            assert_eq!(world.agent.cloud_active, 0, "{fault:?}");
            assert!(world.logged(failure), "{fault:?}: {:?}", world.logs);
            assert_eq!(prove(&mut world), Err(DeviceFailure::AreaMissing.code()));
            world.agent.fault = Fault::None;
            assert!(world.run_to_active(), "{fault:?}: the right record later");
            world.check_active();
        }
    });
}

#[test]
fn d4_a_nack_drops_the_pending_record_and_the_unit_asks_again() {
    both_suites(|suite| {
        let mut world = World::new(Agent::new(suite, 6), 6);
        // Message 3 is lost, the unit reboots, and meanwhile the agent has forgotten.
        assert!(world.run_until(HOUR, |w| {
            w.line.loss = if w.agent.frames >= 1 { 100 } else { 0 };
            w.unit().store().is_pending()
        }));
        world.agent.evict();
        world.power_on();
        world.line = Line::default();
        assert!(world.run_to_active());
        world.check_active();
        assert!(world.logged(DeviceFailure::ExchangeNacked));
        assert_eq!(world.agent.issued[1], 2);
        assert_eq!(world.status().agent_key.0, 2);
    });
}

#[test]
fn d4_a_rejection_drops_the_pending_record() {
    both_suites(|suite| {
        let mut world = World::new(Agent::new(suite, 7), 7);
        world.agent.reject = 2;
        assert!(world.run_to_active());
        world.check_active();
        assert!(world.logged(DeviceFailure::ExchangeRejected));
    });
}

#[test]
fn d2_a_pending_record_is_confirmed_however_long_it_takes() {
    let mut world = World::new(Agent::new(Suite::Hardened, 8), 8);
    assert!(world.run_until(HOUR, |w| {
        w.line.loss = if w.agent.frames >= 1 { 100 } else { 0 };
        w.unit().store().is_pending()
    }));
    // A dead line for a week, with reboots: never dropped on time-out (D4), still asking at least once an hour.
    for _ in 0..7 {
        world.power_on();
        let before = world.logs.len();
        world.run_until(24 * HOUR, |_| false);
        assert!(world.unit().store().is_pending());
        assert_eq!(world.status().stage, Stage::AGENT_KEY_PENDING);
        assert!(world.logs.len() > before);
    }
    world.line = Line::default();
    let heard = world.agent.frames;
    assert!(
        world.run_until(BACK_OFF_LAST + MINUTE, |w| w.agent.frames > heard),
        "asks at least once an hour"
    );
    assert!(world.run_to_active());
    world.check_active();
    assert_eq!(world.agent.issued[1], 1, "no second agent key was issued");
}

#[test]
fn d5_nothing_new_starts_while_a_record_is_pending() {
    let mut world = World::new(Agent::new(Suite::Legacy, 9), 9);
    assert_eq!(world.unit().start_update(Purpose::CloudKeyUpdate), Err(DeviceFailure::AreaMissing));
    world.run_until(HOUR, |w| {
        w.line.loss = if w.agent.frames >= 1 { 100 } else { 0 };
        w.unit().store().is_pending()
    });
    assert_eq!(world.unit().start_update(Purpose::AgentKeyUpdate), Err(DeviceFailure::ExchangeBusy));
}

/// The guard itself, behind the engine's own (D5): a second answer, authentic and for another request, reaches
/// the store while a record waits for its message 4.
#[test]
fn i9_the_store_refuses_a_second_record_while_one_is_pending() {
    let mut world = World::new(Agent::new(Suite::Legacy, 17), 17);
    assert!(world.run_until(HOUR, |w| {
        w.line.loss = if w.agent.frames >= 1 { 100 } else { 0 };
        w.unit().store().is_pending()
    }));

    let (order, product_key) = (world.agent.order, world.agent.product_key.clone());
    let start = Start::init(Suite::Legacy, &order, &product_key, &UNIT).unwrap();
    let entropy = RequestEntropy {
        xid: Xid(99),
        n1: [0x31; 16],
        iv: [0x32; 16],
        ephemeral: EphemeralSecret::from_bytes([0x33; 32]),
    };
    let mut frame1 = [0; MAX_FRAME];
    let (len, waiting) = {
        let identity = world.unit().store().identity().unwrap();
        start.request(identity, [0, 1, 0], entropy, &mut frame1).unwrap()
    };
    let mut frame2 = world.agent.handle(&frame1[..len]).remove(0);
    let root = world.unit().store().trust().unwrap().root;
    let trust = Trust {
        root: &root.key,
        root_epoch: root.epoch,
        floors: &[],
        time_floor: 0,
        order,
        unit: UNIT,
        region: Region(REGION),
        region_cert: None,
    };
    let received = waiting.handle(&mut frame2, &trust).unwrap();

    let areas = |world: &World| {
        let nor = world.nor.borrow();
        (nor.bytes(map::KEY_AREA_A).to_vec(), nor.bytes(map::KEY_AREA_B).to_vec())
    };
    let before = areas(&world);
    assert_eq!(world.unit().store().commit(&received).map(|_| ()), Err(DeviceFailure::ExchangeInternal));
    assert!(areas(&world) == before, "a refused commit touched a key area");

    // The same record is welcome where nothing is pending: the refusal was the guard's.
    let mut fresh = World::new(Agent::new(Suite::Legacy, 17), 18);
    assert!(fresh.run_until(MINUTE, |w| w.unit().store().trust().is_some()));
    assert!(!fresh.unit().store().is_pending());
    fresh.unit().store().commit(&received).unwrap();
    assert!(fresh.unit().store().is_pending());
}

#[test]
fn back_off_grows_and_a_wake_clears_it() {
    let mut world = World::new(Agent::new(Suite::Legacy, 10), 10);
    world.line.loss = 100;
    world.run_until(8 * HOUR, |_| false);
    let quiet = world.now;
    let asked = world.logs.iter().filter(|r| r.code == DeviceFailure::ExchangeNoAnswer.code()).count();
    assert!((8..40).contains(&asked), "{asked} repetitions in eight hours");
    world.line = Line::default();
    world.control(&Control::Wake);
    assert!(world.run_until(2_000, |w| w.agent.frames > 0), "a wake is answered within two seconds");
    assert!(world.now < quiet + 2_000);
    assert!(world.run_to_active());
    // Ten Status requests a second must not make ten messages 1 a second: one in a first pause at most.
    let mut world = World::new(Agent::new(Suite::Legacy, 11), 11);
    world.line.loss = 100;
    for _ in 0..50 {
        world.control(&Control::StatusRequest);
        world.step();
        world.now += 100;
    }
    let sent = world.logs.iter().filter(|r| r.code == DeviceFailure::ExchangeNoAnswer.code()).count() as u64;
    let pauses = world.now / BACK_OFF_FIRST;
    assert!((2..=pauses).contains(&sent), "{sent} repetitions in {pauses} first pauses");
}

#[test]
fn babble_is_dropped_and_reported_and_the_unit_goes_on() {
    for seed in 0..50 {
        let mut dice = Dice(seed);
        let mut world = World::new(Agent::new(Suite::Hardened, seed), seed);
        for _ in 0..40 {
            let noise: Vec<u8> = (0..dice.next() % 400).map(|_| dice.next() as u8).collect();
            world.wire.borrow_mut().to_unit.extend(noise);
            // Whole packets of nonsense as well, on every channel.
            let junk: Vec<u8> = (0..dice.next() % 700).map(|_| dice.next() as u8).collect();
            world.wire.borrow_mut().to_unit.push_back(0);
            world.send(Channel((dice.next() % 6) as u8), &junk);
            world.step();
        }
        world.run_until(10_000, |_| false);
        assert!(world.logged(DeviceFailure::PacketDropped), "seed {seed}");
        assert!(world.run_to_active(), "seed {seed}");
        world.check_active();
        assert_eq!(world.boots, 1, "a Reset needs its exact message");
    }
}

#[test]
fn control_messages_unknown_or_too_long_are_refused_by_number() {
    let mut world = World::new(Agent::new(Suite::Legacy, 12), 12);
    assert!(world.run_to_active());
    for (message, failure) in
        [(&[0x55u8][..], DeviceFailure::ControlUnknown), (&[1, 0], DeviceFailure::FrameRefused)]
    {
        world.answers.clear();
        world.send(Channel::CONTROL, message);
        assert!(world.run_until(MINUTE, |w| !w.answers.is_empty()));
        assert_eq!(world.answers[0], Control::Refused { request: message[0], failure: failure.code() });
    }
    // An answer is never answered: two units on a crossed wire would talk for ever.
    world.answers.clear();
    world.control(&Control::Refused { request: 1, failure: 1 });
    world.run_until(MINUTE, |_| false);
    assert!(world.answers.is_empty());
    world.control(&Control::Reset);
    assert!(world.run_until(MINUTE, |w| w.boots == 2));
    assert_eq!(world.status().stage, Stage::ACTIVE);
}

#[test]
fn without_stage_one_the_unit_says_so_and_writes_nothing() {
    let mut world = World::new(Agent::new(Suite::Hardened, 13), 13);
    world.nor.borrow_mut().preset(map::KEY_AREA_B.base, &[0xFF; 1024]);
    world.power_on();
    let status = world.status();
    assert_eq!(
        (status.stage, status.area_a, status.area_b),
        (Stage::EMPTY, AreaStatus::BLANK, AreaStatus::BLANK)
    );
    world.run_until(HOUR, |_| false);
    assert!(world.logged(DeviceFailure::AreaMissing));
    assert_eq!(world.nor.borrow().operations, 0);
    assert_eq!(world.agent.frames, 0);
}

#[test]
fn a_damaged_product_key_record_is_not_used() {
    let mut world = World::new(Agent::new(Suite::Hardened, 14), 14);
    // One bit of the product key: the MAC no longer fits.
    let at = map::KEY_AREA_B.base + 112 + 27;
    world.nor.borrow_mut().preset(at, &[0]);
    world.power_on();
    assert_eq!(world.status().stage, Stage::EMPTY);
    assert_eq!(world.nor.borrow().operations, 0);
}

#[test]
fn an_rng_fault_stops_everything_until_it_is_gone() {
    for (fault, failure) in [
        (RngFault::Seed, DeviceFailure::RngSeed),
        (RngFault::Clock, DeviceFailure::RngClock),
        (RngFault::Repeated, DeviceFailure::RngRepeated),
        (RngFault::Timeout, DeviceFailure::RngTimeout),
    ] {
        let mut world = World::new(Agent::new(Suite::Hardened, 15), 15);
        world.rng_faults.borrow_mut().extend([fault; 5]);
        assert!(world.run_until(HOUR, |w| w.rng_faults.borrow().is_empty()));
        assert_eq!(world.agent.frames, 0, "nothing is sent without randomness");
        assert!(world.logged(failure));
        assert!(world.run_to_active());
        world.check_active();
    }
}

#[test]
fn worn_flash_is_a_failure_by_number_and_the_old_key_stays() {
    let mut world = World::new(Agent::new(Suite::Hardened, 16), 16);
    world.nor.borrow_mut().stuck = Some(map::KEY_AREA_A);
    world.run_until(HOUR, |_| false);
    assert!(world.logged(DeviceFailure::FlashReadBack), "{:?}", world.logs);
    assert_eq!(world.status().stage, Stage::PRODUCT_KEY);
    assert!(world.nor.borrow().product_key().is_some(), "I7");
    assert!(world.agent.active_agent_key().is_none(), "I6");
}

#[test]
fn the_time_floor_grows_by_days_and_never_falls() {
    let mut world = World::new(Agent::new(Suite::Legacy, 17), 17);
    assert!(world.run_to_active());
    for (time, floor) in [
        (TIME + 3_600, TIME),
        (TIME + 86_400, TIME),
        (TIME + 86_401, TIME + 86_401),
        (TIME, TIME + 86_401),
        (0, TIME + 86_401),
    ] {
        world.agent.time = time;
        let erased = world.nor.borrow().erased.len();
        let before = world.agent.active_agent_key();
        world.unit().start_update(Purpose::AgentKeyUpdate).unwrap();
        assert!(world.run_until(HOUR, |w| w.agent.active_agent_key() > before));
        world.run_until(HOUR, |_| false);
        assert_eq!(world.unit().store().trust().unwrap().time_floor, Some(floor), "after {time}");
        let trust_erases = world.nor.borrow().erased[erased..]
            .iter()
            .filter(|base| map::TRUST_STORE.iter().any(|region| region.base == **base))
            .count();
        assert_eq!(trust_erases, usize::from(time == TIME + 86_401), "a floor that stays costs no erase");
    }
    world.power_on();
    world.step();
    assert_eq!(world.unit().store().trust().unwrap().time_floor, Some(TIME + 86_401));
}
