//! The bench's stand-in for a unit's modem: one TCP connection at a time between the unit's serial line (channel 3) and its own
//! broker, TLS included where the platform has it.
//!
//! Invariants:
//! - a connection goes where the agent says ([`Agent::bridge_target`]) and nowhere else: what a unit asks for is checked first;
//! - nothing here makes the worker wait: name resolution, connecting, TLS and the socket live in a thread of the connection;
//! - memory is bounded: the queues between thread and worker and both ends of the pipe have limits, and who is full waits.

use crate::agent::Agent;
use crate::cloud::{CloudError, Dialled, Endpoint};
use crate::failure::{Failure, FailureCode};
use crate::model::UnitId;
use keywright_protocol::bridge::{CloseReason, MAX_BRIDGE, Packet, Pipe};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::time::{Duration, Instant};

/// Bytes on their way to the unit that it has not acknowledged; a unit takes less at once.
const TO_UNIT: usize = 1024;
/// What the bridge takes from a unit beyond what it has acknowledged: a few packets wait for the socket at most.
const WINDOW: u16 = 1024;
/// Pieces from the socket that wait for the worker, 512 bytes each.
const QUEUE: usize = 16;
/// How long connecting may take; a unit repeats its Open and gives up later than this.
const DIAL: Duration = Duration::from_secs(10);
/// How long the socket's thread waits for bytes before it looks at what the unit sent.
const SLICE: Duration = Duration::from_millis(10);

/// What the socket's thread tells.
enum News {
    Connected,
    Bytes(Vec<u8>),
    Failed(CloudError),
    Closed,
}

/// The connection of one unit.
struct Connection {
    id: u8,
    window: u16,
    pipe: Option<Pipe<TO_UNIT>>,
    /// Bytes from the socket that the pipe has no room for yet.
    held: Vec<u8>,
    news: Receiver<News>,
    to_socket: Sender<Vec<u8>>,
    /// Bytes sent to the thread that the socket has not taken; at most [`WINDOW`].
    queued: Arc<AtomicU16>,
    target: String,
    /// The broker has said something.
    answered: bool,
}

impl Connection {
    /// What a person should know of a broker that took the connection and then said nothing.
    fn deaf(&self) -> Option<Failure> {
        (self.pipe.is_some() && !self.answered).then(|| {
            let facts = format!("{} takes the connection and gives no answer", self.target);
            Failure::new(FailureCode::BrokerUnreachable, facts)
        })
    }
}

/// The bridge of one fixture; one connection at a time, as a modem's socket.
pub struct Bridge {
    agent: Arc<dyn Agent>,
    began: Instant,
    connection: Option<Connection>,
    /// What went wrong last: the reason if the unit never logs in.
    trouble: Option<Failure>,
    /// How the broker treated the last connection that there was, if not as one would expect.
    dropped: Option<Failure>,
}

impl std::fmt::Debug for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bridge").field("open", &self.connection.is_some()).finish_non_exhaustive()
    }
}

/// One packet for channel 3.
pub type Out = Vec<u8>;

fn encoded(packet: &Packet<'_>) -> Option<Out> {
    let mut bytes = vec![0; MAX_BRIDGE];
    let len = packet.encode(&mut bytes).ok()?;
    bytes.truncate(len);
    Some(bytes)
}

impl Bridge {
    /// A bridge without a connection.
    pub fn new(agent: Arc<dyn Agent>) -> Self {
        Self { agent, began: Instant::now(), connection: None, trouble: None, dropped: None }
    }

    /// Why the unit was last not connected, if it was not.
    pub fn trouble(&self) -> Option<&Failure> {
        self.trouble.as_ref()
    }

    /// Why the last connection came to nothing: the broker closed it, or never answered. A broker does the same to a unit that it
    /// refuses, so what the unit says of that comes first.
    pub fn dropped(&self) -> Option<&Failure> {
        self.dropped.as_ref()
    }

    /// The unit was reset, or another one lies here: its connection is gone.
    pub fn hang_up(&mut self) {
        (self.connection, self.dropped) = (None, None);
    }

    /// Ends the unit's connection; what tells the unit comes back.
    pub fn end(&mut self) -> Option<Out> {
        let id = self.connection.as_ref().map(|c| c.id)?;
        self.give_up();
        encoded(&Packet::Close { id, reason: CloseReason::DONE })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes a packet of channel 3 from `unit`; what is to be answered at once comes back. `Err` is a refusal that people must
    /// see; the unit has been told.
    pub fn receive(&mut self, unit: UnitId, bytes: &[u8]) -> (Option<Out>, Result<(), Failure>) {
        // A damaged packet is the line's doing, and is sent again.
        let Ok(packet) = Packet::parse(bytes) else { return (None, Ok(())) };
        match packet {
            Packet::Open { id, port, window, host } => self.open(unit, id, port, window, host),
            Packet::Close { id, .. } => {
                if self.connection.as_ref().is_some_and(|c| c.id == id) {
                    self.give_up();
                }
                (None, Ok(()))
            }
            Packet::Data { id, .. } | Packet::Ack { id, .. } => {
                let Some(connection) = self.connection.as_mut().filter(|c| c.id == id) else {
                    return (encoded(&Packet::Close { id, reason: CloseReason::BROKEN }), Ok(()));
                };
                let Some(pipe) = &mut connection.pipe else { return (None, Ok(())) };
                // What the socket has not taken yet counts against the window; the unit sends the rest again.
                let room = WINDOW.saturating_sub(connection.queued.load(Ordering::Acquire));
                let new = pipe.handle(&packet, room);
                if !new.is_empty() {
                    connection.queued.fetch_add(new.len() as u16, Ordering::AcqRel);
                    // A thread that is gone has said why: `poll` hears it.
                    let _ = connection.to_socket.send(new.to_vec());
                }
                (None, Ok(()))
            }
            Packet::Opened { .. } => (None, Ok(())),
        }
    }

    /// The unit has no more use for its connection.
    fn give_up(&mut self) {
        if let Some(deaf) = self.connection.take().and_then(|c| c.deaf()) {
            self.dropped = Some(deaf);
        }
    }

    fn open(
        &mut self,
        unit: UnitId,
        id: u8,
        port: u16,
        window: u16,
        host: &str,
    ) -> (Option<Out>, Result<(), Failure>) {
        if let Some(connection) = self.connection.as_ref().filter(|c| c.id == id) {
            // The same Open again: the line lost the answer, or it is still to come.
            let opened = connection.pipe.is_some().then_some(Packet::Opened { id, window: WINDOW });
            return (opened.as_ref().and_then(encoded), Ok(()));
        }
        self.give_up();
        match self.agent.bridge_target(unit, host, port) {
            Ok(endpoint) => {
                self.connection = Some(Connection::dial(id, window, endpoint));
                (None, Ok(()))
            }
            Err(failure) => {
                let refused = failure.code == FailureCode::BridgeRefused;
                let reason = if refused { CloseReason::REFUSED } else { CloseReason::UNREACHABLE };
                self.trouble = Some(failure.clone());
                (encoded(&Packet::Close { id, reason }), if refused { Err(failure) } else { Ok(()) })
            }
        }
    }

    /// What is due for the unit now: call it often while a unit is served.
    pub fn poll(&mut self) -> Vec<Out> {
        let now = self.now();
        let mut out = Vec::new();
        let Some(connection) = &mut self.connection else { return out };
        let id = connection.id;
        let mut end = None;
        // The socket is read no faster than the unit takes it.
        while connection.held.is_empty() && end.is_none() {
            match connection.news.try_recv() {
                Ok(News::Connected) => {
                    connection.pipe = Some(Pipe::new(id, connection.window, WINDOW));
                    self.trouble = None;
                    out.extend(encoded(&Packet::Opened { id, window: WINDOW }));
                }
                Ok(News::Bytes(bytes)) => {
                    (connection.held, connection.answered) = (bytes, true);
                    self.dropped = None;
                }
                Ok(News::Failed(error)) => {
                    let facts = format!("{}: {error}", connection.target);
                    self.trouble = Some(Failure::new(FailureCode::BrokerUnreachable, facts));
                    end = Some(CloseReason::UNREACHABLE);
                }
                Ok(News::Closed) | Err(TryRecvError::Disconnected) => {
                    let flushed = connection.pipe.as_ref().is_none_or(Pipe::is_flushed);
                    if !flushed {
                        break;
                    }
                    let facts = format!("{} closed the connection", connection.target);
                    self.dropped = Some(Failure::new(FailureCode::BrokerUnreachable, facts));
                    end = Some(CloseReason::DONE);
                }
                Err(TryRecvError::Empty) => break,
            }
            if let Some(pipe) = &mut connection.pipe {
                let taken = pipe.write(&connection.held);
                connection.held.drain(..taken);
            }
        }
        if let Some(pipe) = &mut connection.pipe {
            let taken = pipe.write(&connection.held);
            connection.held.drain(..taken);
            let mut bytes = [0; MAX_BRIDGE];
            loop {
                match pipe.poll(
                    now,
                    WINDOW.saturating_sub(connection.queued.load(Ordering::Acquire)),
                    &mut bytes,
                ) {
                    Ok(Some(len)) => out.push(bytes[..len].to_vec()),
                    Ok(None) => break,
                    Err(_) => {
                        end = Some(CloseReason::BROKEN);
                        break;
                    }
                }
            }
        }
        if let Some(reason) = end {
            out.extend(encoded(&Packet::Close { id, reason }));
            self.connection = None;
        }
        out
    }
}

impl Connection {
    fn dial(id: u8, window: u16, endpoint: Endpoint) -> Self {
        let (to_socket, from_unit) = channel();
        let queued = Arc::new(AtomicU16::new(0));
        let (tell, news) = sync_channel(QUEUE);
        let target = endpoint.to_string();
        let failed = tell.clone();
        let thread = std::thread::Builder::new().name(format!("bridge {target}"));
        if let Err(error) = thread.spawn({
            let queued = queued.clone();
            move || carry(&endpoint, &from_unit, &queued, &tell)
        }) {
            let endpoint = target.clone();
            let detail = error.to_string();
            let _ = failed.try_send(News::Failed(CloudError::Unreachable { endpoint, detail }));
        }
        Self { id, window, pipe: None, held: Vec::new(), news, to_socket, queued, target, answered: false }
    }
}

/// The socket's thread; it ends when either side does.
fn carry(endpoint: &Endpoint, from_unit: &Receiver<Vec<u8>>, queued: &AtomicU16, tell: &SyncSender<News>) {
    let mut socket: Dialled = match endpoint.dial(DIAL) {
        Ok(socket) => socket,
        Err(error) => return drop(tell.send(News::Failed(error))),
    };
    if socket.set_patience(SLICE).is_err() || tell.send(News::Connected).is_err() {
        return;
    }
    let mut buffer = [0; 512];
    loop {
        loop {
            match from_unit.try_recv() {
                Ok(bytes) => {
                    if socket.write(&bytes).is_err() {
                        return drop(tell.send(News::Closed));
                    }
                    queued.fetch_sub(bytes.len() as u16, Ordering::AcqRel);
                }
                Err(TryRecvError::Empty) => break,
                // The bridge hung up.
                Err(TryRecvError::Disconnected) => return,
            }
        }
        match socket.read(&mut buffer) {
            Ok(None) => {}
            Ok(Some(len)) => {
                if tell.send(News::Bytes(buffer[..len].to_vec())).is_err() {
                    return;
                }
            }
            Err(_) => return drop(tell.send(News::Closed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{Birth, FrameContext, Handled};
    use crate::model::{AttemptId, PoId, ProofRecord};
    use keywright_protocol::control::Proof;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};

    const UNIT: UnitId = UnitId([7; 12]);

    /// An agent that only knows where this unit's broker is.
    struct Way(SocketAddr);

    impl Agent for Way {
        fn handle(&self, _: FrameContext, _: &[u8]) -> Result<Handled, Failure> {
            unreachable!("the bridge relays no frames")
        }
        fn check_proof(&self, _: FrameContext, _: &[u8; 32], _: &Proof) -> Result<ProofRecord, Failure> {
            unreachable!("nor proofs")
        }
        fn stage_one_record(&self, _: PoId) -> Result<Vec<u8>, Failure> {
            unreachable!("nor records")
        }
        fn forget_unproved(&self, _: UnitId, _: AttemptId) -> Result<(), Failure> {
            unreachable!("and voids nothing")
        }
        fn bridge_target(&self, unit: UnitId, host: &str, port: u16) -> Result<Endpoint, Failure> {
            if (unit, host, port) == (UNIT, "broker.example", 1883) {
                Ok(Endpoint::plain(self.0))
            } else {
                Err(Failure::new(FailureCode::BridgeRefused, format!("{host}:{port}")))
            }
        }
        fn last_birth(&self, _: UnitId) -> Option<Birth> {
            None
        }
        fn try_old_credentials(&self, _: UnitId) -> Result<u32, Failure> {
            Ok(0)
        }
        fn order_update(&self, _: UnitId, _: Option<&str>) -> Result<(), Failure> {
            Ok(())
        }
        fn wake(&self, _: UnitId, _: &str) -> Result<(), Failure> {
            Ok(())
        }
    }

    fn packet(packet: Packet<'_>) -> Vec<u8> {
        encoded(&packet).unwrap()
    }

    fn open(id: u8, host: &str) -> Vec<u8> {
        packet(Packet::Open { id, port: 1883, window: 96, host })
    }

    /// The unit's end, over a line that loses packets by `dice`.
    fn talk(loss: u64, seed: u64) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Way(listener.local_addr().unwrap());
        // Says everything back, doubled, and hangs up at the end.
        let echo = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            let mut buffer = [0; 100];
            while all.len() < 5_000 {
                let len = socket.read(&mut buffer).unwrap();
                assert!(len > 0, "the bridge hung up early");
                all.extend_from_slice(&buffer[..len]);
                socket.write_all(&buffer[..len]).unwrap();
            }
            all
        });
        let mut state = seed;
        let mut lost = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % 100 < loss
        };
        let mut bridge = Bridge::new(Arc::new(server));
        let sent: Vec<u8> = (0..5_000_u32).map(|n| (n ^ (n >> 8)) as u8).collect();
        let (mut pipe, mut written, mut got): (Option<Pipe<192>>, _, _) = (None, 0, Vec::new());
        let began = Instant::now();
        let mut open_at = 0;
        // A clock of the unit's own that runs a hundred times as fast: time-outs cost little.
        let mut now = 0;
        while got.len() < sent.len() {
            assert!(began.elapsed() < Duration::from_secs(120), "stuck at {} of {}", got.len(), sent.len());
            let mut to_bridge = Vec::new();
            if pipe.is_none() && now >= open_at {
                to_bridge.push(open(1, "broker.example"));
                open_at = now + 3_000;
            }
            let mut bytes = [0; MAX_BRIDGE];
            if let Some(pipe) = &mut pipe {
                written += pipe.write(&sent[written..]);
                while let Ok(Some(len)) = pipe.poll(now, 96, &mut bytes) {
                    to_bridge.push(bytes[..len].to_vec());
                }
            }
            let mut to_unit = Vec::new();
            for bytes in to_bridge {
                if !lost() {
                    let (answer, told) = bridge.receive(UNIT, &bytes);
                    told.unwrap();
                    to_unit.extend(answer);
                }
            }
            to_unit.extend(bridge.poll());
            for bytes in to_unit.into_iter().filter(|_| !lost()) {
                match Packet::parse(&bytes).unwrap() {
                    Packet::Opened { id: 1, window } => {
                        pipe.get_or_insert_with(|| Pipe::new(1, window, 96));
                    }
                    Packet::Close { reason, .. } => panic!("closed: {reason}"),
                    packet => {
                        if let Some(pipe) = &mut pipe {
                            got.extend_from_slice(pipe.handle(&packet, 96));
                        }
                    }
                }
            }
            now += 100;
            std::thread::yield_now();
        }
        assert_eq!(got, sent);
        assert_eq!(echo.join().unwrap(), sent);
    }

    #[test]
    fn bytes_travel_both_ways_whole() {
        talk(0, 1);
    }

    #[test]
    fn bytes_travel_over_a_line_that_loses_a_tenth() {
        talk(10, 2);
    }

    fn reason(answer: Option<Out>) -> CloseReason {
        match Packet::parse(&answer.unwrap()).unwrap() {
            Packet::Close { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_but_the_units_own_broker_is_opened() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut bridge = Bridge::new(Arc::new(Way(listener.local_addr().unwrap())));
        for (unit, host) in [(UNIT, "127.0.0.1"), (UNIT, "evil.example"), (UnitId([8; 12]), "broker.example")]
        {
            let (answer, told) = bridge.receive(unit, &open(1, host));
            assert_eq!(told.unwrap_err().code, FailureCode::BridgeRefused);
            assert_eq!(reason(answer), CloseReason::REFUSED);
        }
        // Data of a connection that does not exist is told so; nonsense is dropped.
        let (answer, _) = bridge.receive(UNIT, &packet(Packet::Data { id: 9, offset: 0, bytes: b"x" }));
        assert_eq!(reason(answer), CloseReason::BROKEN);
        assert_eq!(bridge.receive(UNIT, &[0xFF; 40]).0, None);
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "nobody was called");
    }

    #[test]
    fn a_broker_that_is_away_is_told_to_the_unit_and_to_people() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut bridge = Bridge::new(Arc::new(Way(address)));
        bridge.receive(UNIT, &open(1, "broker.example")).1.unwrap();
        let began = Instant::now();
        let closed = loop {
            if let Some(packet) = bridge.poll().pop() {
                break packet;
            }
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::yield_now();
        };
        assert_eq!(reason(Some(closed)), CloseReason::UNREACHABLE);
        assert_eq!(bridge.trouble().unwrap().code, FailureCode::BrokerUnreachable);
    }
}
