//! Both cloud platforms by one suite, with real logins over real sockets.
//!
//! The embedded broker needs nothing. Mosquitto is the real one, as a process of its own with TLS on loopback: the
//! packages `mosquitto`, `mosquitto-clients` and `openssl` (Debian, Ubuntu).
#![cfg(unix)]

use keywright::cloud::{
    Ack, CloudError, Credential, Endpoint, Identity, Link, LocalConfig, LocalPlatform, Login,
    MosquittoConfig, MosquittoPlatform, Notice, Notices, Platform, birth_topic, down_topic, try_login,
};
use keywright::model::UnitId;
use keywright_protocol::CloudKey;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[path = "support/mosquitto.rs"]
mod broker;

use broker::{AGENT, AGENT_PASSWORD, Broker, LONG, certificates, eventually};

/// Long enough for a queued request to show that it is queued.
const SHORT: Duration = Duration::from_millis(300);

fn unit(n: u32) -> UnitId {
    let mut bytes = [0x4b; 12];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    UnitId(bytes)
}

fn credential(unit: UnitId, generation: u32) -> Credential {
    let mut key = [0u8; 32];
    key[..12].copy_from_slice(&unit.0);
    key[12..16].copy_from_slice(&generation.to_be_bytes());
    Credential::of(&CloudKey::new(&key).unwrap())
}

fn identity(unit: UnitId, generation: u32) -> Identity {
    Identity { unit, generation }
}

// ---- rigs ----

trait Rig {
    /// The platform, unless it is down with its broker.
    fn platform(&self) -> Option<&dyn Platform>;
    /// Takes the broker away without warning.
    fn cut(&mut self);
    /// Brings it back at the same place.
    fn mend(&mut self);

    fn cloud(&self) -> &dyn Platform {
        self.platform().expect("the platform is up")
    }

    fn stage(&self, unit: UnitId, generation: u32) -> Ack {
        self.cloud().stage(unit, generation, credential(unit, generation)).wait(LONG).unwrap()
    }

    fn commit(&self, unit: UnitId, generation: u32) -> Ack {
        self.cloud().commit(unit, generation).wait(LONG).unwrap()
    }

    fn accepted(&self, unit: UnitId) -> Vec<u32> {
        self.cloud().accepted(unit).wait(LONG).unwrap().into_iter().collect()
    }

    fn link(&self, unit: UnitId, generation: u32) -> Result<Link, CloudError> {
        let login = Login::unit(identity(unit, generation), credential(unit, generation));
        Link::open(&self.cloud().endpoint(), &login, LONG)
    }

    fn lets_in(&self, unit: UnitId, generation: u32) -> bool {
        let endpoint = self.cloud().endpoint();
        try_login(&endpoint, identity(unit, generation), &credential(unit, generation), LONG).unwrap()
    }
}

struct LocalRig {
    config: LocalConfig,
    platform: Option<LocalPlatform>,
    _folder: tempfile::TempDir,
}

impl LocalRig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = LocalConfig::new(folder.path().join("cloud/local.journal"));
        let platform = LocalPlatform::start(&config).unwrap();
        // A restarted station must be where its units look for it.
        config.listen = platform.address();
        Self { config, platform: Some(platform), _folder: folder }
    }
}

impl Rig for LocalRig {
    fn platform(&self) -> Option<&dyn Platform> {
        self.platform.as_ref().map(|p| p as &dyn Platform)
    }
    fn cut(&mut self) {
        self.platform = None;
    }
    fn mend(&mut self) {
        self.platform = Some(LocalPlatform::start(&self.config).unwrap());
    }
}

struct MosquittoRig {
    platform: Option<MosquittoPlatform>,
    broker: Broker,
    ledger: tempfile::TempDir,
}

impl MosquittoRig {
    fn new() -> Self {
        let mut rig = Self { platform: None, broker: Broker::new(), ledger: tempfile::tempdir().unwrap() };
        rig.platform = Some(MosquittoPlatform::start(rig.config()).unwrap());
        rig
    }

    fn config(&self) -> MosquittoConfig {
        let ledger = self.ledger.path().join("mosquitto.journal");
        let password = Credential::from_password(AGENT_PASSWORD.into());
        MosquittoConfig::new(ledger, self.broker.endpoint(), AGENT, password)
    }
}

impl Rig for MosquittoRig {
    fn platform(&self) -> Option<&dyn Platform> {
        self.platform.as_ref().map(|p| p as &dyn Platform)
    }
    fn cut(&mut self) {
        self.broker.kill();
    }
    fn mend(&mut self) {
        self.broker.start();
    }
}

// ---- the suite ----

fn committed(notices: &Notices, wanted: Identity) {
    let found = notices.find(LONG, |notice| match notice {
        Notice::Committed { identity } => Some(identity),
        _ => None,
    });
    assert_eq!(found, Some(wanted));
}

fn ended(link: &mut Link) {
    // A kicked session reads the end of its connection; a living one would read nothing until the time is over.
    assert!(matches!(link.receive(LONG), Err(CloudError::Unreachable { .. })), "the session still lives");
}

fn old_both_new(rig: &mut dyn Rig) {
    let u = unit(1);
    assert!(!rig.lets_in(u, 1), "unknown");
    assert_eq!(rig.stage(u, 1), Ack::Applied);
    assert_eq!(rig.commit(u, 1), Ack::Applied);
    assert!(rig.lets_in(u, 1), "old: the current generation");
    assert!(!rig.lets_in(u, 2), "old: not the next one");
    assert_eq!(rig.accepted(u), [1]);

    assert_eq!(rig.stage(u, 2), Ack::Applied);
    assert_eq!(rig.accepted(u), [1, 2]);
    assert!(rig.lets_in(u, 1), "both: the current generation");
    let mut old_session = rig.link(u, 1).unwrap();
    assert_eq!(rig.stage(u, 2), Ack::AlreadySo, "a repeated stage");
    assert_eq!(rig.commit(u, 1), Ack::Stale, "a stale commit");
    assert_eq!(rig.accepted(u), [1, 2], "neither changed anything");

    assert_eq!(rig.commit(u, 2), Ack::Applied);
    ended(&mut old_session);
    assert!(!rig.lets_in(u, 1), "new: the old generation is refused");
    assert!(rig.lets_in(u, 2), "new: the new one is let in");
    assert_eq!(rig.accepted(u), [2]);
    assert_eq!(rig.commit(u, 2), Ack::AlreadySo);
    assert_eq!(rig.commit(u, 1), Ack::Stale);
    let again = rig.cloud().stage(u, 1, credential(u, 1)).wait(LONG);
    assert_eq!(again, Err(CloudError::Past { identity: identity(u, 1), highest: 2 }));
    assert_eq!(rig.accepted(u), [2], "nothing returns");
}

fn a_login_with_the_new_key_is_the_confirmation(rig: &mut dyn Rig) {
    let u = unit(2);
    rig.stage(u, 1);
    rig.commit(u, 1);
    rig.stage(u, 2);
    let notices = rig.cloud().notices();
    let mut old_session = rig.link(u, 1).unwrap();
    let new_session = rig.link(u, 2).unwrap();
    committed(&notices, identity(u, 2));
    ended(&mut old_session);
    assert!(!rig.lets_in(u, 1));
    assert_eq!(rig.accepted(u), [2]);
    assert_eq!(rig.cloud().standing(u).active(), Some(2));
    assert_eq!(rig.commit(u, 2), Ack::AlreadySo, "the late confirmation");
    new_session.close();
    assert!(rig.lets_in(u, 2));
}

fn a_withdrawal_takes_back_what_nobody_has_used(rig: &mut dyn Rig) {
    let u = unit(2);
    let withdraw = |rig: &dyn Rig, g| rig.cloud().withdraw(u, g).wait(LONG);
    rig.stage(u, 1);
    rig.commit(u, 1);
    assert_eq!(withdraw(rig, 1), Ok(Ack::Committed));
    rig.stage(u, 2);
    assert_eq!(withdraw(rig, 2), Ok(Ack::Applied));
    assert!(!rig.lets_in(u, 2) && rig.lets_in(u, 1));
    assert_eq!(withdraw(rig, 2), Ok(Ack::AlreadySo));
    assert_eq!(rig.commit(u, 2), Ack::Stale, "too late");
    // The next one is used before anybody wants it back.
    rig.stage(u, 3);
    let notices = rig.cloud().notices();
    rig.link(u, 3).unwrap().close();
    committed(&notices, identity(u, 3));
    assert_eq!(withdraw(rig, 3), Ok(Ack::Committed));
    assert_eq!(rig.accepted(u), [3]);
    assert_eq!(withdraw(rig, 4), Err(CloudError::NotStaged { identity: identity(u, 4) }));
}

fn only_the_right_password_under_the_right_name(rig: &mut dyn Rig) {
    let (a, b) = (unit(3), unit(4));
    rig.stage(a, 1);
    rig.stage(b, 1);
    let endpoint = rig.cloud().endpoint();
    let try_as = |client: &str, user: &str, password: Credential| {
        let mut login = Login::unit(identity(a, 1), password);
        login.client_id = client.into();
        login.username = user.into();
        match Link::open(&endpoint, &login, LONG) {
            Ok(_) => true,
            Err(CloudError::LoginRefused { .. }) => false,
            Err(other) => panic!("{other}"),
        }
    };
    let (name_a, name_b) = (identity(a, 1).to_string(), identity(b, 1).to_string());
    assert!(!try_as(&name_a, &name_a, credential(b, 1)), "another unit's password");
    assert!(!try_as(&name_a, &name_a, Credential::from_password(String::new())), "no password");
    assert!(!try_as(&name_b, &name_a, credential(a, 1)), "under another client id");
    assert!(!try_as("anything", &name_a, credential(a, 1)), "under any other client id");
    assert!(!try_as(&name_a, &name_b, credential(a, 1)), "under another user name");
    assert!(!try_as(&name_a.to_uppercase(), &name_a.to_uppercase(), credential(a, 1)), "another spelling");
    assert!(try_as(&name_a, &name_a, credential(a, 1)));
    let other = rig.cloud().stage(b, 1, credential(a, 1)).wait(LONG);
    assert_eq!(other, Err(CloudError::OtherKey { identity: identity(b, 1) }));
    assert!(rig.lets_in(b, 1), "and nothing was overwritten");
}

fn units_keep_to_their_own_topics(rig: &mut dyn Rig) {
    let (a, b) = (unit(5), unit(6));
    for u in [a, b] {
        rig.stage(u, 1);
        rig.commit(u, 1);
    }
    let notices = rig.cloud().notices();
    let mut link_a = rig.link(a, 1).unwrap();
    let mut link_b = rig.link(b, 1).unwrap();
    let (own, others) = (down_topic(a, "#"), down_topic(b, "#"));
    let birth = birth_topic(a);
    let granted = link_a.subscribe(&[&own, &others, &birth, "#", "kw/+/down/#", "$SYS/#"], LONG).unwrap();
    assert_eq!(granted, [true, false, false, false, false, false]);
    assert_eq!(link_b.subscribe(&[&down_topic(b, "wake")], LONG).unwrap(), [true]);

    // Denied publishes are acknowledged and dropped; the unit's own birth behind them shows that they were handled.
    link_a.publish(&birth_topic(b), b"forged", LONG).unwrap();
    link_a.publish(&down_topic(b, "wake"), b"forged", LONG).unwrap();
    link_a
        .publish("$CONTROL/dynamic-security/v1", br#"{"commands":[{"command":"listClients"}]}"#, LONG)
        .unwrap();
    link_a.publish(&birth, b"born", LONG).unwrap();
    let first = notices.find(LONG, |notice| match notice {
        Notice::Birth { unit, generation, payload } => Some((unit, generation, payload)),
        _ => None,
    });
    assert_eq!(first, Some((a, Some(1), b"born".to_vec())), "the first birth that anybody saw");

    for (u, text) in [(a, "for a"), (b, "for b")] {
        assert_eq!(rig.cloud().send(u, "wake", text.as_bytes()).wait(LONG), Ok(Ack::Applied));
    }
    let got = link_a.receive(LONG).unwrap().unwrap();
    assert_eq!((got.topic, got.payload), (down_topic(a, "wake"), b"for a".to_vec()));
    let got = link_b.receive(LONG).unwrap().unwrap();
    assert_eq!((got.topic, got.payload), (down_topic(b, "wake"), b"for b".to_vec()));
    let wild = rig.cloud().send(a, "#", b"x").wait(LONG);
    assert!(matches!(wild, Err(CloudError::Invalid { .. })));
}

fn a_block_is_total_and_lifts(rig: &mut dyn Rig) {
    let u = unit(7);
    rig.stage(u, 1);
    rig.commit(u, 1);
    rig.stage(u, 2);
    let mut session = rig.link(u, 1).unwrap();
    assert_eq!(rig.cloud().block(u).wait(LONG), Ok(Ack::Applied));
    ended(&mut session);
    assert!(!rig.lets_in(u, 1) && !rig.lets_in(u, 2));
    assert_eq!(rig.accepted(u), Vec::<u32>::new());
    let staged = rig.cloud().stage(u, 2, credential(u, 2)).wait(LONG);
    assert_eq!(staged, Err(CloudError::Blocked { unit: u }));
    rig.cut();
    rig.mend();
    assert!(!rig.lets_in(u, 1), "a block outlives a restart");
    assert_eq!(rig.cloud().unblock(u).wait(LONG), Ok(Ack::Applied));
    assert_eq!(rig.accepted(u), [1, 2]);
    assert!(rig.lets_in(u, 1));
    assert_eq!(rig.cloud().retire(u, 2).wait(LONG), Ok(Ack::Applied));
    assert!(!rig.lets_in(u, 2) && rig.lets_in(u, 1));
    assert_eq!(rig.cloud().retire(u, 1).wait(LONG), Ok(Ack::Applied));
    assert_eq!(rig.accepted(u), Vec::<u32>::new());
    let unknown = unit(8);
    assert_eq!(rig.cloud().block(unknown).wait(LONG), Ok(Ack::Applied));
    let staged = rig.cloud().stage(unknown, 1, credential(unknown, 1)).wait(LONG);
    assert_eq!(staged, Err(CloudError::Blocked { unit: unknown }), "blocked before it was ever seen");
}

fn a_restart_in_the_middle_of_an_activation(rig: &mut dyn Rig) {
    let (confirmed, lost) = (unit(9), unit(10));
    for u in [confirmed, lost] {
        rig.stage(u, 1);
        rig.commit(u, 1);
        rig.stage(u, 2);
    }
    rig.cut();
    let early = rig.platform().map(|cloud| cloud.commit(confirmed, 2));
    if let (Some(ticket), Some(cloud)) = (&early, rig.platform()) {
        assert!(matches!(ticket.wait(SHORT), Err(CloudError::Pending { .. })));
        eventually("the outage is known", || cloud.health().cause.is_some());
        let told = ticket.wait(SHORT).unwrap_err().to_string();
        assert!(told.contains("can't be reached") && told.contains("stays queued"), "{told}");
    }
    rig.mend();
    let notices = rig.cloud().notices();
    let ticket = early.unwrap_or_else(|| rig.cloud().commit(confirmed, 2));
    assert_eq!(ticket.wait(LONG), Ok(Ack::Applied));
    assert!(!rig.lets_in(confirmed, 1) && rig.lets_in(confirmed, 2));

    // The other unit's confirmation was lost: both are let in after the restart, and its login completes it.
    assert_eq!(rig.accepted(lost), [1, 2]);
    assert!(rig.lets_in(lost, 1));
    assert!(rig.lets_in(lost, 2));
    committed(&notices, identity(lost, 2));
    assert!(!rig.lets_in(lost, 1) && rig.lets_in(lost, 2));
}

fn many_units(rig: &mut dyn Rig) {
    let units: u32 = std::env::var("KEYWRIGHT_CLOUD_UNITS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let cloud = rig.cloud();
    let name = cloud.name();
    let timed = |what: &str, generation: u32| {
        let begin = Instant::now();
        let tickets: Vec<_> = (0..units)
            .map(|n| unit(1_000 + n))
            .map(|u| match what {
                "stage" => cloud.stage(u, generation, credential(u, generation)),
                _ => cloud.commit(u, generation),
            })
            .collect();
        let asked = begin.elapsed();
        assert!(asked < Duration::from_secs(2), "asking must not wait for the broker: {asked:?}");
        for ticket in tickets {
            assert_eq!(ticket.wait(LONG * 5), Ok(Ack::Applied));
        }
        let rate = f64::from(units) / begin.elapsed().as_secs_f64();
        println!("{name}: {what} generation {generation} of {units} units: {rate:.0}/s");
    };
    timed("stage", 1);
    timed("commit", 1);
    timed("stage", 2);
    timed("commit", 2);
    for n in [0, units / 2, units - 1] {
        let u = unit(1_000 + n);
        assert!(rig.lets_in(u, 2) && !rig.lets_in(u, 1));
    }
}

macro_rules! both_platforms {
    ($($case:ident),* $(,)?) => {
        mod local {
            $(#[test] fn $case() { super::$case(&mut super::LocalRig::new()) })*
        }
        mod mosquitto {
            $(#[test] fn $case() { super::$case(&mut super::MosquittoRig::new()) })*
        }
    };
}
both_platforms!(
    old_both_new,
    a_login_with_the_new_key_is_the_confirmation,
    a_withdrawal_takes_back_what_nobody_has_used,
    only_the_right_password_under_the_right_name,
    units_keep_to_their_own_topics,
    a_block_is_total_and_lifts,
    a_restart_in_the_middle_of_an_activation,
    many_units,
);

// ---- moves ----

#[test]
fn a_batch_moves_to_mosquitto_and_back_and_loses_no_unit() {
    let local = LocalRig::new();
    let mosquitto = MosquittoRig::new();
    let units: Vec<UnitId> = (100..120).map(unit).collect();
    for u in &units {
        local.stage(*u, 1);
        local.commit(*u, 1);
    }
    let steps: [(&dyn Rig, &dyn Rig, u32); 2] = [(&local, &mosquitto, 2), (&mosquitto, &local, 3)];
    for (from, to, generation) in steps {
        for (n, u) in units.iter().enumerate() {
            let somewhere = || from.lets_in(*u, generation - 1);
            assert_eq!(to.stage(*u, generation), Ack::Applied);
            assert!(somewhere(), "the old platform still lets it in");
            if n % 2 == 0 {
                assert_eq!(to.commit(*u, generation), Ack::Applied);
            } else {
                // The confirmation is lost; the unit simply uses its new platform.
                let notices = to.cloud().notices();
                assert!(to.lets_in(*u, generation));
                committed(&notices, identity(*u, generation));
            }
            assert!(to.lets_in(*u, generation) && somewhere());
            assert_eq!(from.cloud().retire(*u, generation - 1).wait(LONG), Ok(Ack::Applied));
        }
        for u in &units {
            assert!(to.lets_in(*u, generation), "{u} at its new platform");
            assert!(!from.lets_in(*u, generation - 1), "{u} at its old platform");
            assert_eq!(from.accepted(*u), Vec::<u32>::new());
            assert_eq!(to.accepted(*u), [generation]);
        }
    }
}

// ---- Mosquitto's own faults ----

#[test]
fn a_broker_that_comes_later_finds_everything_queued_up_to_the_limit() {
    let mut rig = MosquittoRig::new();
    rig.platform = None;
    rig.cut();
    let platform = MosquittoPlatform::start(MosquittoConfig { queue: 40, ..rig.config() }).unwrap();
    rig.platform = Some(platform);
    let cloud = rig.cloud();
    // The worker takes the first request out of the queue and holds it; then the queue itself fills.
    let first = cloud.stage(unit(0), 1, credential(unit(0), 1));
    eventually("the worker holds the first", || cloud.health().waiting == 0);
    let tickets: Vec<_> = (1..=40).map(|n| cloud.stage(unit(n), 1, credential(unit(n), 1))).collect();
    let over = cloud.stage(unit(41), 1, credential(unit(41), 1)).wait(LONG);
    assert_eq!(over, Err(CloudError::QueueFull { capacity: 40 }));
    assert!(matches!(first.wait(SHORT), Err(CloudError::Pending { .. })));
    rig.mend();
    assert_eq!(first.wait(LONG), Ok(Ack::Applied));
    for (n, ticket) in (1u32..).zip(tickets) {
        assert_eq!(ticket.wait(LONG), Ok(Ack::Applied));
        assert_eq!(rig.accepted(unit(n)), [1]);
    }
    assert!(rig.lets_in(unit(40), 1));
}

#[test]
fn a_frozen_broker_is_slow_and_then_converges() {
    let mut rig = MosquittoRig::new();
    rig.platform = None;
    let config = MosquittoConfig { timeout: Duration::from_millis(500), ..rig.config() };
    rig.platform = Some(MosquittoPlatform::start(config).unwrap());
    let u = unit(11);
    rig.stage(u, 1);
    rig.commit(u, 1);
    rig.broker.signal("-STOP");
    let ticket = rig.cloud().stage(u, 2, credential(u, 2));
    eventually("the broker is found slow", || {
        matches!(
            ticket.wait(SHORT),
            Err(CloudError::Pending { cause: Some(cause), .. }) if matches!(*cause, CloudError::Slow { .. } | CloudError::Unreachable { .. })
        )
    });
    rig.broker.signal("-CONT");
    assert_eq!(ticket.wait(LONG), Ok(Ack::Applied));
    assert_eq!(rig.accepted(u), [1, 2]);
    assert!(rig.lets_in(u, 1));
}

#[test]
fn a_crash_between_the_ledger_and_the_broker_is_made_good() {
    let mut rig = MosquittoRig::new();
    let u = unit(12);
    rig.stage(u, 1);
    rig.commit(u, 1);
    rig.stage(u, 2);
    // The ledger takes the commit, the broker never hears of it, the station dies.
    rig.cut();
    let ticket = rig.cloud().commit(u, 2);
    eventually("the ledger has it", || rig.cloud().standing(u).active() == Some(2));
    rig.platform = None;
    assert_eq!(ticket.wait(LONG), Err(CloudError::Stopped));
    rig.mend();
    assert!(
        try_login(&rig.broker.endpoint(), identity(u, 1), &credential(u, 1), LONG).unwrap(),
        "the broker still knows the old identity"
    );
    rig.platform = Some(MosquittoPlatform::start(rig.config()).unwrap());
    eventually("the next start removes it", || rig.accepted(u) == [2]);
    assert!(!rig.lets_in(u, 1) && rig.lets_in(u, 2));
    eventually("and the ledger is settled", || !rig.cloud().standing(u).is_pending());
}

#[test]
fn a_restored_backup_brings_no_old_key_back_to_life_and_a_lost_identity_is_told() {
    let mut rig = MosquittoRig::new();
    let (u, v) = (unit(13), unit(14));
    rig.stage(u, 1);
    rig.commit(u, 1);
    let backup = std::fs::read(rig.broker.dynsec()).unwrap();
    rig.stage(u, 2);
    rig.commit(u, 2);
    rig.stage(v, 1);
    rig.commit(v, 1);
    let notices = rig.cloud().notices();
    rig.cut();
    std::fs::write(rig.broker.dynsec(), backup).unwrap();
    rig.mend();
    let missing: BTreeSet<Identity> = (0..2)
        .filter_map(|_| {
            notices.find(LONG, |notice| match notice {
                Notice::Missing { identity } => Some(identity),
                _ => None,
            })
        })
        .collect();
    assert_eq!(missing, BTreeSet::from([identity(u, 2), identity(v, 1)]));
    assert_eq!(rig.accepted(u), Vec::<u32>::new());
    assert!(!rig.lets_in(u, 1), "the old key stays dead");
    // What the agent does about it: the same generation again, with the same key.
    assert_eq!(rig.stage(u, 2), Ack::AlreadySo);
    assert_eq!(rig.stage(v, 1), Ack::AlreadySo);
    assert!(rig.lets_in(u, 2) && rig.lets_in(v, 1));
    assert!(!rig.lets_in(u, 1));
}

#[test]
fn a_foreign_identity_is_never_overwritten() {
    let rig = MosquittoRig::new();
    let u = unit(15);
    let name = identity(u, 1).to_string();
    rig.broker.administer(&format!(
        r#"{{"commands":[{{"command":"createClient","username":"{name}","password":"somebody else's"}}]}}"#
    ));
    let staged = rig.cloud().stage(u, 1, credential(u, 1)).wait(LONG);
    assert_eq!(staged, Err(CloudError::Conflict { identity: identity(u, 1) }));
    assert_eq!(
        rig.cloud().commit(u, 1).wait(LONG),
        Err(CloudError::NotStaged { identity: identity(u, 1) }),
        "what was not staged is not committed"
    );
    let theirs = Credential::from_password("somebody else's".into());
    assert!(try_login(&rig.broker.endpoint(), identity(u, 1), &theirs, LONG).unwrap(), "untouched");

    // A role that grants more than ours is as bad.
    let v = unit(16);
    rig.broker.administer(&format!(
        r##"{{"commands":[{{"command":"createRole","rolename":"kw.{v}","acls":[
            {{"acltype":"subscribePattern","topic":"#","priority":0,"allow":true}}]}}]}}"##
    ));
    let staged = rig.cloud().stage(v, 1, credential(v, 1)).wait(LONG);
    assert_eq!(staged, Err(CloudError::Conflict { identity: identity(v, 1) }));
}

#[test]
fn refusals_say_what_to_do() {
    let rig = MosquittoRig::new();
    let folder = tempfile::tempdir().unwrap();
    let cause = |config: MosquittoConfig, file: &str| {
        let platform =
            MosquittoPlatform::start(MosquittoConfig { ledger: folder.path().join(file), ..config }).unwrap();
        let ticket = platform.stage(unit(17), 1, credential(unit(17), 1));
        eventually("the cause is known", || platform.health().cause.is_some());
        let pending = ticket.wait(Duration::ZERO).unwrap_err();
        assert!(matches!(pending, CloudError::Pending { .. }), "{pending}");
        platform.health().cause.unwrap()
    };
    let wrong = Credential::from_password("wrong".into());
    let refused = cause(MosquittoConfig { password: wrong, ..rig.config() }, "a");
    assert!(matches!(refused, CloudError::LoginRefused { .. }), "{refused}");
    let other = std::fs::read(certificates().join("other.pem")).unwrap();
    let endpoint = Endpoint::tls("localhost", rig.broker.port, &other).unwrap();
    let untrusted = cause(MosquittoConfig { endpoint, ..rig.config() }, "b");
    assert!(matches!(untrusted, CloudError::Tls { .. }), "{untrusted}");
    rig.broker.administer(
        r#"{"commands":[{"command":"createClient","username":"weak","password":"weak","roles":[]}]}"#,
    );
    let weak = Credential::from_password("weak".into());
    let denied = cause(MosquittoConfig { username: "weak".into(), password: weak, ..rig.config() }, "c");
    assert!(matches!(denied, CloudError::NotPermitted { .. }), "{denied}");
    rig.broker.administer(
        r#"{"commands":[{"command":"setDefaultACLAccess","acls":[{"acltype":"publishClientSend","allow":true}]}]}"#,
    );
    let open = cause(MosquittoConfig { station: "second".into(), ..rig.config() }, "d");
    assert!(matches!(open, CloudError::UnsafeDefaults { .. }), "{open}");
    for error in [refused, untrusted, denied, open] {
        let text = error.to_string();
        assert!(error.is_outage() && text.contains("; ") && text.contains("localhost"), "{text}");
        assert!(!text.contains("wrong") && !text.contains(AGENT_PASSWORD), "{text}");
    }
}

#[test]
fn the_log_of_the_broker_is_what_tells_logins() {
    let rig = MosquittoRig::new();
    let u = unit(18);
    rig.stage(u, 1);
    rig.commit(u, 1);
    rig.stage(u, 2);
    let notices = rig.cloud().notices();
    // The thief of the old key claims the new generation in every way that is open to it.
    let mut thief = rig.link(u, 1).unwrap();
    let claim =
        format!("New client connected from 127.0.0.1:1 as {0} (p2, c1, k60, u'{0}').", identity(u, 2));
    thief.publish(&birth_topic(u), claim.as_bytes(), LONG).unwrap();
    thief.publish("$SYS/broker/log/N", claim.as_bytes(), LONG).unwrap();
    let login = Login {
        client_id: format!("x: {claim}"),
        ..Login::unit(identity(u, 2), Credential::from_password("guess".into()))
    };
    assert!(matches!(
        Link::open(&rig.cloud().endpoint(), &login, LONG),
        Err(CloudError::LoginRefused { .. })
    ));
    thief.publish(&birth_topic(u), b"last", LONG).unwrap();
    let mut logins = Vec::new();
    notices.find(LONG, |notice| match notice {
        Notice::Birth { payload, .. } if payload == b"last" => Some(()),
        Notice::Connected { identity } => {
            logins.push(identity);
            None
        }
        Notice::Committed { identity } => panic!("{identity} was never logged in"),
        _ => None,
    });
    assert_eq!(logins, [identity(u, 1)]);
    assert_eq!(rig.accepted(u), [1, 2]);
    assert!(rig.platform.as_ref().unwrap().sees_logins());
}

// ---- the embedded broker's own edges ----

#[test]
fn the_embedded_broker_listens_on_loopback_only_and_tells_its_port() {
    let rig = LocalRig::new();
    let address = rig.platform.as_ref().unwrap().address();
    assert!(address.ip().is_loopback() && address.port() != 0);
    assert_eq!(rig.cloud().endpoint().url(), format!("mqtt://{address}"));
    let folder = tempfile::tempdir().unwrap();
    let mut config = LocalConfig::new(folder.path().join("journal"));
    config.listen = "0.0.0.0:0".parse().unwrap();
    let error = LocalPlatform::start(&config).unwrap_err();
    assert!(error.to_string().contains("loopback"), "{error}");
    config.listen = address;
    assert!(
        matches!(LocalPlatform::start(&config), Err(CloudError::Unreachable { .. })),
        "the port is taken"
    );
}

#[test]
fn garbage_ends_one_connection_and_no_other() {
    let rig = LocalRig::new();
    let u = unit(20);
    rig.stage(u, 1);
    rig.commit(u, 1);
    let notices = rig.cloud().notices();
    let mut good = rig.link(u, 1).unwrap();
    let address = rig.platform.as_ref().unwrap().address();
    let mut version5 = b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc".to_vec();
    version5[1] = (version5.len() - 2) as u8;
    let cases: [(&[u8], &[u8]); 6] = [
        (b"GET / HTTP/1.1\r\n\r\n", b""),
        (&[0xff; 64], b""),
        (b"\xc0\x00", b""),
        (b"\x30\xff\xff\xff\x7f", b""),
        (b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03abc", b"\x20\x02\x00\x05"),
        (&version5, b"\x20\x02\x00\x01"),
    ];
    for (bytes, answer) in cases {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket.write_all(bytes).unwrap();
        let mut got = Vec::new();
        // Reset or end: both are the end of the connection.
        let _ = socket.read_to_end(&mut got);
        assert_eq!(got, answer, "{bytes:02x?}");
    }
    good.publish(&birth_topic(u), b"still here", LONG).unwrap();
    assert!(
        notices
            .find(LONG, |n| matches!(n, Notice::Birth { payload, .. } if payload == b"still here")
                .then_some(()))
            .is_some()
    );
}

#[test]
fn the_second_login_of_an_identity_takes_over() {
    let rig = LocalRig::new();
    let u = unit(21);
    rig.stage(u, 1);
    rig.commit(u, 1);
    let mut first = rig.link(u, 1).unwrap();
    let mut second = rig.link(u, 1).unwrap();
    ended(&mut first);
    assert_eq!(second.subscribe(&[&down_topic(u, "#")], LONG).unwrap(), [true]);
    rig.cloud().send(u, "wake", b"x").wait(LONG).unwrap();
    assert_eq!(second.receive(LONG).unwrap().unwrap().payload, b"x");
}

#[test]
fn a_silent_unit_is_disconnected_after_one_and_a_half_keep_alives() {
    let rig = LocalRig::new();
    let u = unit(22);
    rig.stage(u, 1);
    let name = identity(u, 1).to_string();
    let password = credential(u, 1);
    let mut packet = b"\x00\x04MQTT\x04\xc2\x00\x01".to_vec();
    for field in [&name, &name, password.expose()] {
        packet.extend_from_slice(&(field.len() as u16).to_be_bytes());
        packet.extend_from_slice(field.as_bytes());
    }
    let mut socket = TcpStream::connect(rig.platform.as_ref().unwrap().address()).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket.write_all(&[0x10, 0x80 | (packet.len() % 128) as u8, (packet.len() / 128) as u8]).unwrap();
    socket.write_all(&packet).unwrap();
    let begin = Instant::now();
    let mut got = Vec::new();
    socket.read_to_end(&mut got).unwrap();
    assert_eq!(got, [0x20, 0x02, 0x00, 0x00]);
    assert!(begin.elapsed() >= Duration::from_millis(1_500), "{:?}", begin.elapsed());
}

/// Somebody else's client: Eclipse Mosquitto's, against the embedded broker.
#[test]
fn a_client_that_we_did_not_write_is_served() {
    let rig = LocalRig::new();
    let u = unit(23);
    rig.stage(u, 1);
    rig.commit(u, 1);
    let notices = rig.cloud().notices();
    let address = rig.platform.as_ref().unwrap().address();
    let name = identity(u, 1).to_string();
    let client = |program: &str, password: &str| {
        let mut command = Command::new(program);
        command.args(["-V", "mqttv311", "-h", "127.0.0.1", "-p", &address.port().to_string()]);
        command.args(["-u", &name, "-i", &name, "-P", password]);
        command
    };
    let missing = "mosquitto_pub is missing: install the package `mosquitto-clients`";
    for qos in ["0", "1", "2"] {
        let payload = format!("born at qos {qos}");
        let mut publish = client("mosquitto_pub", credential(u, 1).expose());
        let out = publish.args(["-q", qos, "-t", &birth_topic(u), "-m", &payload]).output().expect(missing);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let seen = notices.find(LONG, |notice| match notice {
            Notice::Birth { unit, generation, payload } => Some((unit, generation, payload)),
            _ => None,
        });
        assert_eq!(seen, Some((u, Some(1), payload.into_bytes())));
    }
    let out = client("mosquitto_pub", "wrong").args(["-t", "x", "-m", "x"]).output().unwrap();
    assert_eq!(out.status.code(), Some(5), "not authorised: {}", String::from_utf8_lossy(&out.stderr));
    let out =
        client("mosquitto_sub", credential(u, 1).expose()).args(["-t", "#", "-W", "20"]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("All subscription requests were denied"), "{said}");

    let mut subscribe = client("mosquitto_sub", credential(u, 1).expose());
    let mut child = subscribe
        .args(["-q", "2", "-C", "1", "-W", "60", "-t", &down_topic(u, "#")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It does not tell when it has subscribed, so the message is repeated until it ends with the first one.
    eventually("it got the message", || {
        assert_eq!(rig.cloud().send(u, "wake", b"good morning").wait(LONG), Ok(Ack::Applied));
        child.try_wait().unwrap().is_some()
    });
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    assert_eq!(String::from_utf8(out.stdout).unwrap(), "good morning\n");
}

#[test]
fn a_thousand_sessions_at_once_are_served_and_ended() {
    let rig = LocalRig::new();
    let units: Vec<UnitId> = (2_000..3_000).map(unit).collect();
    let tickets: Vec<_> = units.iter().map(|u| rig.cloud().stage(*u, 1, credential(*u, 1))).collect();
    tickets.into_iter().for_each(|t| assert_eq!(t.wait(LONG), Ok(Ack::Applied)));
    // Two descriptors for each session: stay below the usual limit of 1,024.
    let some = &units[..350];
    let mut links: Vec<Link> = some.iter().map(|u| rig.link(*u, 1).unwrap()).collect();
    eventually("every login was taken as the confirmation", || {
        some.iter().all(|u| rig.cloud().standing(*u).active() == Some(1))
    });
    let blocks: Vec<_> = some.iter().map(|u| rig.cloud().block(*u)).collect();
    blocks.into_iter().for_each(|t| assert_eq!(t.wait(LONG), Ok(Ack::Applied)));
    links.iter_mut().for_each(ended);
    assert!(rig.lets_in(units[999], 1));
}

#[test]
fn stopping_refuses_what_waits_and_ends_the_notices() {
    let rig = LocalRig::new();
    let notices = rig.cloud().notices();
    let address = rig.platform.as_ref().unwrap().address();
    let cloud = rig.cloud();
    cloud.stop();
    assert_eq!(cloud.stage(unit(24), 1, credential(unit(24), 1)).wait(LONG), Err(CloudError::Stopped));
    assert_eq!(notices.next(LONG), None);
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    cloud.stop();
}
