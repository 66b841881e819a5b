//! The MQTT 3.1.1 broker inside the station: one thread, one event loop, every socket non-blocking.
//!
//! It is a bench broker and says so: units talk to the station and never to each other, so nothing is routed between
//! clients, retained, queued for the absent or published as a will. What it does, it does by the standard: QoS 0–2
//! from units, QoS 0–1 to them, keep-alive, take-over of a client id, refused subscriptions by SUBACK, a publish
//! without permission acknowledged and dropped (MQTT 3.1.1 §3.3.5).
//!
//! Invariants:
//! - A session exists only for an identity that the table let in at its CONNECT, and a kick that returned has ended
//!   every session of the identity: the table is changed first, the kick runs on the loop's own thread.
//! - One unit's bytes end at most its own connection: frames are bounded, output is bounded, and each connection gets
//!   a bounded turn.

use super::Table;
use crate::cloud::credential::{
    Credential, Identity, birth_topic, filter_is_valid, filter_matches, may_publish, may_subscribe,
};
use crate::cloud::engine::Evidence;
use crate::cloud::wire::{Frames, Malformed, encode};
use crate::model::UnitId;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use mqtt_proto::v3::{
    Connack, Connect, ConnectReturnCode, Packet, Publish, Suback, Subscribe, SubscribeReturnCode,
};
use mqtt_proto::{Pid, QoS, QosPid, TopicName};
use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use zeroize::Zeroize;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
/// How often keep-alives are checked.
const TICK: Duration = Duration::from_millis(500);
/// A connection that has not logged in by then is closed.
const LOGIN: Duration = Duration::from_secs(10);
/// Longest packet from a unit.
const MAX_PACKET: usize = 64 << 10;
/// Most bytes that wait for a unit that does not read.
const MAX_OUTPUT: usize = 256 << 10;
/// Bytes read from one connection before the next gets its turn.
const TURN: usize = 64 << 10;
/// Most subscriptions of one unit.
const MAX_FILTERS: usize = 16;
/// Most QoS 2 messages of one unit between PUBLISH and PUBREL.
const MAX_HELD: usize = 64;

enum Command {
    Kick(Vec<Identity>, Sender<()>),
    Deliver(UnitId, String, Vec<u8>),
    Stop,
}

/// A running broker; dropping it stops it.
#[derive(Debug)]
pub(super) struct Broker {
    address: SocketAddr,
    commands: Sender<Command>,
    waker: Arc<Waker>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Broker {
    /// Listens on `listen` (port 0: any free one) for at most `most` connections.
    pub fn start(
        listen: SocketAddr,
        most: usize,
        table: Arc<Table>,
        evidence: Evidence,
    ) -> std::io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(listen)?;
        let address = listener.local_addr()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (commands, inbox) = channel();
        let event_loop = Loop {
            poll,
            listener,
            inbox,
            table,
            evidence,
            most,
            clients: HashMap::new(),
            sessions: HashMap::new(),
            next_token: WAKER.0 + 1,
        };
        let thread = std::thread::Builder::new().name("cloud-broker".into()).spawn(|| event_loop.run())?;
        Ok(Self { address, commands, waker, thread: Mutex::new(Some(thread)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every session of these identities; returns when that is done. `false`: the broker is not running.
    pub fn kick(&self, identities: Vec<Identity>) -> bool {
        let (done, wait) = channel();
        self.tell(Command::Kick(identities, done)) && wait.recv().is_ok()
    }

    /// Publishes to the unit's sessions that subscribed to the topic. `false`: the broker is not running.
    pub fn deliver(&self, unit: UnitId, topic: &str, payload: &[u8]) -> bool {
        self.tell(Command::Deliver(unit, topic.into(), payload.into()))
    }

    /// Closes every connection and the listener.
    pub fn stop(&self) {
        self.tell(Command::Stop);
        if let Some(thread) = crate::cloud::ticket::lock(&self.thread).take() {
            // A panic of the loop was reported by its thread already.
            let _ = thread.join();
        }
    }

    fn tell(&self, command: Command) -> bool {
        self.commands.send(command).is_ok() && self.waker.wake().is_ok()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Session {
    identity: Identity,
    filters: Vec<(String, QoS)>,
    /// QoS 2 messages taken and not yet released: a repeated one is not taken twice.
    held: HashSet<Pid>,
    /// 1.5 keep-alives without a packet end the connection; `None` = never.
    silence: Option<Duration>,
    next_id: Pid,
}

struct Client {
    stream: TcpStream,
    peer: SocketAddr,
    frames: Frames,
    session: Option<Session>,
    output: Vec<u8>,
    heard: Instant,
    /// Close it once the output is sent.
    leaving: bool,
}

/// The connection ends now.
struct Gone;

struct Loop {
    poll: Poll,
    listener: TcpListener,
    inbox: Receiver<Command>,
    table: Arc<Table>,
    evidence: Evidence,
    most: usize,
    clients: HashMap<Token, Client>,
    sessions: HashMap<Identity, Token>,
    next_token: usize,
}

impl Loop {
    fn run(mut self) {
        let mut events = Events::with_capacity(256);
        let mut ticked = Instant::now();
        // Connections whose turn ended before their bytes did: edge-triggered polling will not name them again.
        let mut unread: Vec<Token> = Vec::new();
        loop {
            let pause = if unread.is_empty() { TICK } else { Duration::ZERO };
            match self.poll.poll(&mut events, Some(pause)) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "the embedded broker stops: polling failed");
                    return;
                }
            }
            let mut turns = std::mem::take(&mut unread);
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    WAKER => {}
                    token => {
                        if event.is_writable() {
                            self.flush(token);
                        }
                        if !turns.contains(&token) {
                            turns.push(token);
                        }
                    }
                }
            }
            for token in turns {
                if self.turn(token) {
                    unread.push(token);
                }
            }
            while let Ok(command) = self.inbox.try_recv() {
                match command {
                    Command::Kick(identities, done) => {
                        identities.iter().for_each(|identity| self.kick(*identity));
                        // The one who asked may have given up.
                        let _ = done.send(());
                    }
                    Command::Deliver(unit, topic, payload) => self.deliver(unit, &topic, &payload),
                    Command::Stop => return,
                }
            }
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.tick();
            }
        }
    }

    fn accept(&mut self) {
        loop {
            let (mut stream, peer) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    // Out of file descriptors, or a peer that was gone at once: the listener itself is fine.
                    tracing::warn!(%error, "the embedded broker could not take a connection");
                    return;
                }
            };
            if self.clients.len() >= self.most {
                tracing::warn!(%peer, most = self.most, "the embedded broker is full");
                continue;
            }
            let token = Token(self.next_token);
            self.next_token += 1;
            let both = Interest::READABLE | Interest::WRITABLE;
            if stream.set_nodelay(true).is_err()
                || self.poll.registry().register(&mut stream, token, both).is_err()
            {
                continue;
            }
            let client = Client {
                stream,
                peer,
                frames: Frames::new(MAX_PACKET),
                session: None,
                output: Vec::new(),
                heard: Instant::now(),
                leaving: false,
            };
            self.clients.insert(token, client);
        }
    }

    /// Reads until there is nothing more or the turn is over (`true`).
    fn turn(&mut self, token: Token) -> bool {
        let mut buffer = [0; 8 << 10];
        let mut read = 0;
        let more = loop {
            let Some(client) = self.clients.get_mut(&token) else { break false };
            if read >= TURN {
                break true;
            }
            match client.stream.read(&mut buffer) {
                Ok(0) => {
                    self.close(token);
                    break false;
                }
                Ok(n) => {
                    read += n;
                    client.heard = Instant::now();
                    client.frames.feed(buffer.get(..n).unwrap_or_default());
                    if self.packets(token).is_err() {
                        self.close(token);
                        break false;
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break false,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.close(token);
                    break false;
                }
            }
        };
        // A CONNECT passed through it.
        buffer.zeroize();
        self.flush(token);
        more
    }

    fn packets(&mut self, token: Token) -> Result<(), Gone> {
        loop {
            let Some(client) = self.clients.get_mut(&token) else { return Ok(()) };
            if client.leaving {
                return Ok(());
            }
            match client.frames.next() {
                Ok(None) => return Ok(()),
                Ok(Some(packet)) => self.packet(token, packet)?,
                Err(Malformed::Version) if client.session.is_none() => {
                    client.leave_with(ConnectReturnCode::UnacceptableProtocolVersion);
                    return Ok(());
                }
                Err(reason) => {
                    tracing::warn!(peer = %client.peer, %reason, "the embedded broker closes a connection");
                    return Err(Gone);
                }
            }
        }
    }

    fn packet(&mut self, token: Token, packet: Packet) -> Result<(), Gone> {
        let Some(client) = self.clients.get_mut(&token) else { return Ok(()) };
        let Some(session) = &mut client.session else {
            // MQTT 3.1.1 §3.1: the first packet is a CONNECT.
            return match packet {
                Packet::Connect(connect) => {
                    self.log_in(token, connect);
                    Ok(())
                }
                _ => Err(Gone),
            };
        };
        match packet {
            Packet::Publish(publish) => {
                let fresh = match publish.qos_pid {
                    QosPid::Level0 => true,
                    QosPid::Level1(id) => {
                        client.put(&Packet::Puback(id));
                        true
                    }
                    QosPid::Level2(id) => {
                        if session.held.len() >= MAX_HELD && !session.held.contains(&id) {
                            return Err(Gone);
                        }
                        let fresh = session.held.insert(id);
                        client.put(&Packet::Pubrec(id));
                        fresh
                    }
                };
                if let (true, Some(session)) = (fresh, &client.session) {
                    let identity = session.identity;
                    if !may_publish(identity.unit, &publish.topic_name) {
                        tracing::warn!(%identity, "a unit published outside its own topics; dropped");
                    } else if *publish.topic_name == *birth_topic(identity.unit) {
                        self.evidence.birth(
                            identity.unit,
                            Some(identity.generation),
                            publish.payload.to_vec(),
                        );
                    }
                }
            }
            Packet::Pubrel(id) => {
                session.held.remove(&id);
                client.put(&Packet::Pubcomp(id));
            }
            Packet::Subscribe(subscribe) => {
                let suback = session.subscribe(subscribe);
                client.put(&suback.into());
            }
            Packet::Unsubscribe(unsubscribe) => {
                session.filters.retain(|(have, _)| !unsubscribe.topics.iter().any(|t| **t == **have));
                client.put(&Packet::Unsuback(unsubscribe.pid));
            }
            Packet::Pingreq => client.put(&Packet::Pingresp),
            // Our own QoS 1 deliveries; they are not repeated, so nothing waits for this.
            Packet::Puback(_) => {}
            Packet::Disconnect => return Err(Gone),
            // A second CONNECT, or what only a server sends (MQTT 3.1.1 §3.1, §4.8).
            _ => return Err(Gone),
        }
        Ok(())
    }

    fn log_in(&mut self, token: Token, mut connect: Connect) {
        let password = connect.password.take().map(Vec::from).unwrap_or_default();
        let credential = String::from_utf8(password).map(Credential::from_password);
        let name = connect.username.as_deref().filter(|name| *name == &*connect.client_id);
        let identity = name.and_then(|name| name.parse::<Identity>().ok());
        let admitted = match (identity, credential) {
            (Some(identity), Ok(credential)) => {
                self.table.admits(identity, credential.verifier(identity)).then_some(identity)
            }
            (_, Err(e)) => {
                e.into_bytes().zeroize();
                None
            }
            _ => None,
        };
        let Some(client) = self.clients.get_mut(&token) else { return };
        let Some(identity) = admitted else {
            tracing::warn!(peer = %client.peer, "the embedded broker refused a login");
            client.leave_with(ConnectReturnCode::NotAuthorized);
            return;
        };
        let keep_alive = u32::from(connect.keep_alive);
        client.session = Some(Session {
            identity,
            filters: Vec::new(),
            held: HashSet::new(),
            silence: (keep_alive > 0).then(|| Duration::from_secs(1) * keep_alive * 3 / 2),
            next_id: Pid::default(),
        });
        client.put(&Connack::new(false, ConnectReturnCode::Accepted).into());
        // MQTT 3.1.1 §3.1.4: the client that was there under this id goes.
        if let Some(before) = self.sessions.insert(identity, token) {
            self.clients.remove(&before);
        }
        self.evidence.login(identity);
    }

    fn kick(&mut self, identity: Identity) {
        if let Some(token) = self.sessions.get(&identity).copied() {
            self.close(token);
        }
    }

    fn deliver(&mut self, unit: UnitId, topic: &str, payload: &[u8]) {
        let Ok(name) = TopicName::try_from(topic) else { return };
        let theirs: Vec<Token> =
            self.sessions.iter().filter(|(id, _)| id.unit == unit).map(|(_, token)| *token).collect();
        for token in theirs {
            let Some(client) = self.clients.get_mut(&token) else { continue };
            let Some(session) = &mut client.session else { continue };
            let wanted = session.filters.iter().filter(|(filter, _)| filter_matches(filter, topic));
            let qos_pid = match wanted.map(|(_, qos)| *qos).max() {
                None => continue,
                Some(QoS::Level0) => QosPid::Level0,
                Some(_) => {
                    let id = session.next_id;
                    session.next_id += 1;
                    QosPid::Level1(id)
                }
            };
            client.put(&Publish::new(qos_pid, name.clone(), payload.to_vec().into()).into());
            self.flush(token);
        }
    }

    fn flush(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let mut sent = 0;
        let gone = loop {
            let left = client.output.get(sent..).unwrap_or_default();
            if left.is_empty() {
                break client.leaving;
            }
            match client.stream.write(left) {
                Ok(0) => break true,
                Ok(n) => sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break left.len() > MAX_OUTPUT,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => break true,
            }
        };
        client.output.drain(..sent);
        if gone {
            self.close(token);
        }
    }

    fn close(&mut self, token: Token) {
        let Some(mut client) = self.clients.remove(&token) else { return };
        // The registration ends with the socket; deregistering only says so earlier.
        let _ = self.poll.registry().deregister(&mut client.stream);
        if let Some(session) = client.session
            && self.sessions.get(&session.identity) == Some(&token)
        {
            self.sessions.remove(&session.identity);
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let silent: Vec<Token> = self
            .clients
            .iter()
            .filter(|(_, client)| {
                let limit = client.session.as_ref().map_or(Some(LOGIN), |session| session.silence);
                limit.is_some_and(|limit| now.duration_since(client.heard) > limit)
            })
            .map(|(token, _)| *token)
            .collect();
        silent.into_iter().for_each(|token| self.close(token));
    }
}

impl Client {
    fn put(&mut self, packet: &Packet) {
        // Every packet that the broker makes is far below MQTT's limit.
        let fits = encode(packet, &mut self.output);
        debug_assert!(fits, "a packet of the broker's own");
    }

    fn leave_with(&mut self, code: ConnectReturnCode) {
        self.put(&Connack::new(false, code).into());
        self.leaving = true;
    }
}

impl Session {
    fn subscribe(&mut self, subscribe: Subscribe) -> Suback {
        let mut codes = Vec::with_capacity(subscribe.topics.len());
        for (filter, qos) in subscribe.topics {
            let known = self.filters.iter().position(|(have, _)| **have == *filter);
            let room = known.is_some() || self.filters.len() < MAX_FILTERS;
            if !room || !filter_is_valid(&filter) || !may_subscribe(self.identity.unit, &filter) {
                tracing::warn!(identity = %self.identity, "a unit asked for topics that are not its own");
                codes.push(SubscribeReturnCode::Failure);
                continue;
            }
            let granted = qos.min(QoS::Level1);
            codes.push(granted.into());
            match known.and_then(|at| self.filters.get_mut(at)) {
                Some((_, have)) => *have = granted,
                None => self.filters.push((filter.to_string(), granted)),
            }
        }
        Suback::new(subscribe.pid, codes)
    }
}
