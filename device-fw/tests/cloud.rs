//! The unit's session with its cloud, over a modem and a broker that this file plays; the line between them may be bad.

mod support;

use keywright_device_fw::mqtt;
use keywright_protocol::bridge::{CloseReason, MAX_BRIDGE, Packet, Pipe};
use keywright_protocol::control::{CloudSession, Control, Stage};
use keywright_protocol::serial::Channel;
use keywright_protocol::{DeviceFailure, Purpose, Suite, crypto};
use support::agent::Agent;
use support::{Dice, UNIT, World};

const UID: &str = "003a00275752502035353332";
const SECOND: u64 = 1_000;

/// What the broker saw and how it answers.
#[derive(Default)]
struct Broker {
    logins: Vec<(String, String)>,
    births: Vec<String>,
    subscriptions: Vec<String>,
    refuse: Option<u8>,
    /// Packets to send to the unit.
    out: Vec<u8>,
    input: Vec<u8>,
}

fn field(bytes: &[u8]) -> (&[u8], &[u8]) {
    let len = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    (&bytes[2..2 + len], &bytes[2 + len..])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

impl Broker {
    fn feed(&mut self, bytes: &[u8]) {
        self.input.extend(bytes);
        while self.input.len() >= 2 {
            let (len, at) = match self.input[1] {
                low if low < 0x80 => (usize::from(low), 2),
                low if self.input.len() > 2 => {
                    (usize::from(low & 0x7F) + 128 * usize::from(self.input[2]), 3)
                }
                _ => return,
            };
            if self.input.len() < at + len {
                return;
            }
            let packet: Vec<u8> = self.input.drain(..at + len).collect();
            self.packet(packet[0], &packet[at..]);
        }
    }

    fn packet(&mut self, first: u8, body: &[u8]) {
        match first {
            0x10 => {
                assert_eq!(body[..8], *b"\x00\x04MQTT\x04\xC2");
                let (id, rest) = field(&body[10..]);
                let (user, rest) = field(rest);
                let (password, rest) = field(rest);
                assert_eq!((id, rest), (user, &[][..]));
                self.logins.push((text(user), text(password)));
                self.out.extend([0x20, 2, 0, self.refuse.unwrap_or(0)]);
            }
            0x82 => {
                self.subscriptions.push(text(field(&body[2..]).0));
                self.out.extend([0x90, 3, body[0], body[1], 0]);
            }
            0x32 => {
                let (topic, rest) = field(body);
                assert_eq!(text(topic), format!("kw/{UID}/birth"));
                self.births.push(text(&rest[2..]));
                self.out.extend([0x40, 2, rest[0], rest[1]]);
            }
            0xC0 => self.out.extend([0xD0, 0]),
            other => panic!("a unit never sends {other:#x}"),
        }
    }

    fn wake(&mut self, payload: &[u8]) {
        let topic = format!("kw/{UID}/down/wake");
        self.out.extend([0x30, (2 + topic.len() + payload.len()) as u8, 0, topic.len() as u8]);
        self.out.extend(topic.as_bytes());
        self.out.extend(payload);
    }
}

/// The modem: what the station's bridge does, in virtual time.
struct Modem {
    pipe: Option<Pipe<512>>,
    broker: Broker,
    opened: Vec<(String, u16)>,
    answer: Result<(), CloseReason>,
    /// What the broker says before it is asked.
    greeting: Vec<u8>,
    /// So many Acks are lost first.
    lost_acks: u32,
    loss: u64,
    dice: Dice,
}

impl Modem {
    fn new(loss: u64, seed: u64) -> Modem {
        Modem {
            pipe: None,
            broker: Broker::default(),
            opened: Vec::new(),
            answer: Ok(()),
            greeting: Vec::new(),
            lost_acks: 0,
            loss,
            dice: Dice(seed),
        }
    }

    fn send(&mut self, world: &mut World, packet: &Packet<'_>) {
        let mut out = [0; MAX_BRIDGE];
        let len = packet.encode(&mut out).unwrap();
        self.send_bytes(world, &out[..len]);
    }

    fn send_bytes(&mut self, world: &mut World, bytes: &[u8]) {
        if !self.dice.chance(self.loss) {
            world.send(Channel::TCP, bytes);
        }
    }

    fn serve(&mut self, world: &mut World) {
        for bytes in std::mem::take(&mut world.bridge) {
            if self.dice.chance(self.loss) {
                continue;
            }
            match Packet::parse(&bytes).expect("whole packets") {
                Packet::Open { id, .. } if self.pipe.as_ref().is_some_and(|pipe| pipe.id() == id) => {
                    self.send(world, &Packet::Opened { id, window: 300 });
                }
                Packet::Open { id, port, window, host } => {
                    self.opened.push((host.to_owned(), port));
                    self.broker.input.clear();
                    self.broker.out.clear();
                    match self.answer {
                        Ok(()) => {
                            self.pipe = Some(Pipe::new(id, window, 300));
                            self.broker.out.clone_from(&self.greeting);
                            self.send(world, &Packet::Opened { id, window: 300 });
                        }
                        Err(reason) => self.send(world, &Packet::Close { id, reason }),
                    }
                }
                Packet::Close { .. } => self.pipe = None,
                packet => {
                    if let Some(pipe) = &mut self.pipe {
                        let new = pipe.handle(&packet, 300).to_vec();
                        self.broker.feed(&new);
                    }
                }
            }
        }
        let mut out = [0; MAX_BRIDGE];
        loop {
            let Some(pipe) = &mut self.pipe else { return };
            let taken = pipe.write(&self.broker.out);
            self.broker.out.drain(..taken);
            match pipe.poll(world.now, 300, &mut out) {
                Ok(Some(_)) if out[0] == 0x82 && self.lost_acks > 0 => self.lost_acks -= 1,
                Ok(Some(len)) => self.send_bytes(world, &out[..len]),
                Ok(None) => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    /// The world and this modem, until `done`.
    fn run(&mut self, world: &mut World, ms: u64, mut done: impl FnMut(&mut World, &Modem) -> bool) -> bool {
        let mut left = ms;
        for _ in 0..1_000_000 {
            let before = (world.now, world.boots);
            world.step();
            self.serve(world);
            if done(world, self) {
                return true;
            }
            let passed = if world.boots == before.1 { world.now - before.0 } else { 0 };
            match left.checked_sub(passed) {
                Some(rest) if rest > 0 => left = rest,
                _ => return false,
            }
        }
        panic!("no end in sight");
    }

    fn born(&mut self, world: &mut World, ms: u64) -> bool {
        self.run(world, ms, |world, _| world.unit().cloud_state() == CloudSession::BORN)
    }
}

fn password(world: &World, generation: u32) -> String {
    let key = world.agent.cloud_key(generation);
    hex::encode(crypto::derive(b"OTAK/v1/mqtt", key.expose(), &[b"password"]))
}

#[test]
fn a_unit_logs_in_with_its_cloud_key_and_is_born() {
    for suite in [Suite::Legacy, Suite::Hardened] {
        let mut world = World::new(Agent::new(suite, 1), 1);
        let mut modem = Modem::new(0, 1);
        assert!(modem.born(&mut world, 60 * SECOND), "{:?}", world.logs);
        assert_eq!(modem.opened, [("broker.example".to_owned(), 8883)]);
        assert_eq!(modem.broker.logins, [(format!("{UID}.1"), password(&world, 1))]);
        assert_eq!(modem.broker.subscriptions, [format!("kw/{UID}/down/#")]);
        let birth: serde_json::Value = serde_json::from_str(&modem.broker.births[0]).unwrap();
        assert_eq!((&birth["generation"], &birth["firmware"]), (&1.into(), &"1.2.3".into()));
        assert_eq!(birth["boot"].as_str().unwrap().len(), 16);
        assert_eq!(world.status().cloud, CloudSession::BORN);
        // Pings keep it alive; nothing is opened again.
        modem.run(&mut world, 3_600 * SECOND, |_, _| false);
        assert_eq!(modem.opened.len(), 1);
        assert_eq!(world.unit().cloud_state(), CloudSession::BORN);
        // Another boot is another birth.
        world.power_on();
        assert!(modem.born(&mut world, 60 * SECOND));
        let again: serde_json::Value = serde_json::from_str(&modem.broker.births[1]).unwrap();
        assert_ne!(birth["boot"], again["boot"]);
    }
}

#[test]
fn over_a_line_that_loses_every_fifth_packet_it_is_born_all_the_same() {
    for seed in 0..40 {
        let mut world = World::new(Agent::new(Suite::Hardened, seed), seed);
        let mut modem = Modem::new(20, seed);
        assert!(modem.born(&mut world, 3_600 * SECOND), "seed {seed}: {:?}", world.logs);
        let (user, key) = modem.broker.logins.last().unwrap();
        assert_eq!((user.as_str(), key), (&*format!("{UID}.1"), &password(&world, 1)));
    }
}

#[test]
fn a_wake_starts_an_update_and_the_new_key_logs_in() {
    for (payload, agent, cloud) in
        [(&b"agent-key"[..], 2, 1), (b"cloud-key", 1, 2), (b"", 1, 2), (b"nonsense", 1, 1)]
    {
        let mut world = World::new(Agent::new(Suite::Hardened, 2), 2);
        let mut modem = Modem::new(0, 2);
        assert!(modem.born(&mut world, 60 * SECOND));
        modem.broker.wake(payload);
        modem.run(&mut world, 20 * SECOND, |_, _| false);
        assert!(world.run_to_active());
        let status = world.status();
        assert_eq!((status.agent_key.0, status.cloud_key.0), (agent, cloud), "{payload:?}");
        assert!(modem.born(&mut world, 60 * SECOND));
        let (user, key) = modem.broker.logins.last().unwrap();
        assert_eq!((user.as_str(), key), (&*format!("{UID}.{cloud}"), &password(&world, cloud)));
        assert_eq!(modem.broker.logins.len(), cloud as usize, "only a new cloud key is a new identity");
        world.check_active();
    }
}

#[test]
fn a_control_message_starts_updates_one_at_a_time() {
    for purpose in [Purpose::AgentKeyUpdate, Purpose::CloudKeyUpdate] {
        let mut world = World::new(Agent::new(Suite::Hardened, 3), 3);
        // Before there is an agent key there is nothing to update.
        world.control(&Control::Update { purpose });
        assert!(world.run_until(SECOND, |w| !w.answers.is_empty()));
        let missing = DeviceFailure::AreaMissing.code();
        assert_eq!(world.answers[0], Control::Refused { request: 5, failure: missing });
        assert!(world.run_to_active());
        world.answers.clear();
        world.control(&Control::Update { purpose });
        world.control(&Control::Update { purpose });
        assert!(world.run_until(60 * SECOND, |w| w.answers.len() == 2));
        assert!(matches!(world.answers[0], Control::Status(_)));
        assert!(world.run_until(60 * SECOND, |w| w.unit().stage() == Stage::ACTIVE
            && w.agent.active_agent_key().unwrap() + w.agent.cloud_active == 3));
        world.run_until(60 * SECOND, |_| false);
        world.check_active();
    }
}

#[test]
fn the_calendar_renews_both_keys_in_turn() {
    let mut world = World::new(Agent::new(Suite::Hardened, 4), 4);
    world.rekey_every_ms = 24 * 3_600 * SECOND;
    world.power_on();
    let mut modem = Modem::new(0, 4);
    assert!(modem.born(&mut world, 60 * SECOND));
    modem.run(&mut world, 5 * 24 * 3_600 * SECOND, |_, _| false);
    let keys = (world.agent.active_agent_key(), world.agent.cloud_active);
    assert!(matches!(keys, (Some(3), 3) | (Some(4), 3)), "{keys:?}");
    world.check_active();
}

#[test]
fn refusals_are_told_by_number_and_tried_again_later() {
    let told = [
        (Some(5), Ok(()), DeviceFailure::CloudLoginRefused, CloudSession::REFUSED),
        (Some(4), Ok(()), DeviceFailure::CloudLoginRefused, CloudSession::REFUSED),
        (Some(3), Ok(()), DeviceFailure::CloudUnreachable, CloudSession::TRYING),
        (None, Err(CloseReason::REFUSED), DeviceFailure::CloudNotAllowed, CloudSession::TRYING),
        (None, Err(CloseReason::UNREACHABLE), DeviceFailure::CloudUnreachable, CloudSession::TRYING),
    ];
    for (refuse, answer, failure, state) in told {
        let mut world = World::new(Agent::new(Suite::Legacy, 5), 5);
        let mut modem = Modem::new(0, 5);
        (modem.broker.refuse, modem.answer) = (refuse, answer);
        assert!(modem.run(&mut world, 60 * SECOND, |w, _| w.logged(failure)), "{failure}");
        assert_eq!(world.unit().cloud_state(), state);
        // Doubling from a second: an hour costs at most a dozen tries, and each is told.
        modem.run(&mut world, 3_600 * SECOND, |_, _| false);
        assert!((5..=14).contains(&modem.opened.len()), "{failure}: {}", modem.opened.len());
        (modem.broker.refuse, modem.answer) = (None, Ok(()));
        // Somebody listens: it comes at once.
        world.control(&Control::Wake);
        assert!(modem.born(&mut world, 10 * SECOND), "{failure}");
        world.check_active();
    }
}

/// The evidence for a lost confirmation: a pending cloud key logs in although the agent's last message never came.
/// Accepted without a login, and a birth acknowledged that was never sent: whoever says that is no broker.
#[test]
fn a_broker_that_answers_before_it_is_asked_gets_no_session() {
    // The last: a message that wants to be acknowledged, and a login is to be the first word of a session.
    for greeting in
        [&b"\x20\x02\x00\x00\x40\x02\x00\x03"[..], b"\x20\x02\x00\x00", b"\x32\x05\x00\x01a\x00\x01"]
    {
        let mut world = World::new(Agent::new(Suite::Hardened, 1), 1);
        let mut modem = Modem::new(0, 1);
        modem.greeting = greeting.to_vec();
        assert!(modem.run(&mut world, 600 * SECOND, |_, modem| modem.opened.len() > 2), "it tries");
        assert_eq!(modem.broker.logins.len() + modem.broker.births.len(), 0);
        assert!(!modem.born(&mut world, 60 * SECOND), "born, and nobody logged in");
    }
}

/// The broker's answer overtakes the Ack for the login: the birth waits for its room and is not given up.
#[test]
fn a_birth_behind_a_login_without_an_ack_comes_all_the_same() {
    let mut world = World::new(Agent::new(Suite::Hardened, 1), 1);
    let mut modem = Modem::new(0, 1);
    modem.lost_acks = 1;
    assert!(modem.born(&mut world, 60 * SECOND), "{:?}", world.logs);
    assert_eq!((modem.opened.len(), modem.broker.logins.len(), modem.broker.births.len()), (1, 1, 1));
}

#[test]
fn a_pending_cloud_key_logs_in() {
    let mut world = World::new(Agent::new(Suite::Hardened, 6), 6);
    let mut modem = Modem::new(0, 6);
    assert!(modem.run(&mut world, 60 * SECOND, |w, _| w.agent.cloud_active == 1));
    world.line.loss = 100;
    world.wire.borrow_mut().to_unit.clear();
    assert!(modem.born(&mut world, 60 * SECOND));
    assert_eq!(world.unit().stage(), Stage::CLOUD_KEY_PENDING, "a login is no confirmation for the unit");
    assert_eq!(modem.broker.logins, [(format!("{UID}.1"), password(&world, 1))]);
    world.line.loss = 0;
    assert!(world.run_to_active());
    world.check_active();
}

#[test]
fn a_broker_that_talks_nonsense_or_falls_silent_costs_a_new_session() {
    for seed in 0..30 {
        let mut world = World::new(Agent::new(Suite::Legacy, 7), 7);
        let mut modem = Modem::new(0, seed);
        assert!(modem.born(&mut world, 60 * SECOND));
        let mut dice = Dice(seed);
        if seed % 2 == 0 {
            modem.broker.out.extend([0x20, 1, 0]);
        } else {
            let noise = dice.next() % 200;
            modem.broker.out.extend((0..noise).map(|_| dice.next() as u8));
        }
        modem.run(&mut world, 20 * SECOND, |_, _| false);
        modem.pipe = None;
        modem.run(&mut world, 300 * SECOND, |_, _| false);
        assert!(modem.born(&mut world, 300 * SECOND), "seed {seed}: {:?}", world.logs.last());
        assert_eq!(world.unit().stage(), Stage::ACTIVE);
    }
    assert_eq!(mqtt::address("mqtts://broker.example:8883"), Some(("broker.example", 8883)));
    assert_eq!(hex::encode(UNIT.0), UID);
}
