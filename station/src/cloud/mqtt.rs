//! A blocking MQTT 3.1.1 connection, plain or TLS: for the agent's own business at a broker, and for trying a unit's
//! credentials as the unit would.
//!
//! One thread owns one [`Link`]; nothing here reconnects. An error means that the connection is of no use any more.

use super::credential::{Credential, Identity};
use super::error::CloudError;
use super::wire::{Frames, encode};
use mqtt_proto::v3::{Connect, ConnectReturnCode, Packet, Publish, Subscribe, SubscribeReturnCode};
use mqtt_proto::{Pid, QoS, QosPid, TopicFilter, TopicName};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroize;

/// Longest packet taken from a broker: the answer to `listClients` of 100,000 identities fits.
const MAX_PACKET: usize = 8 << 20;

/// Where a broker is and how to trust it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
}

impl Endpoint {
    /// Without TLS: loopback and the bench only.
    pub fn plain(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port(), tls: None }
    }

    /// With TLS: the broker's certificate must be valid for `host` under one of the CA certificates (PEM).
    ///
    /// # Errors
    /// [`CloudError::Tls`] if there is no certificate in `ca_pem`.
    pub fn tls(host: &str, port: u16, ca_pem: &[u8]) -> Result<Self, CloudError> {
        let fail = |detail: String| CloudError::Tls { endpoint: format!("{host}:{port}"), detail };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem) {
            let certificate = certificate.map_err(|e| fail(format!("the CA file: {e}")))?;
            roots.add(certificate).map_err(|e| fail(format!("the CA file: {e}")))?;
        }
        if roots.is_empty() {
            return Err(fail("the CA file holds no certificate".into()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| fail(e.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { host: host.into(), port, tls: Some(Arc::new(config)) })
    }

    /// Without TLS, for a broker on this machine.
    ///
    /// # Errors
    /// [`CloudError::Tls`] if the host is any other machine, or has no address.
    pub fn unprotected(host: &str, port: u16) -> Result<Self, CloudError> {
        let here = (host, port).to_socket_addrs().is_ok_and(|mut found| {
            let first = found.next();
            first.is_some_and(|a| a.ip().is_loopback()) && found.all(|a| a.ip().is_loopback())
        });
        if here {
            Ok(Self { host: host.into(), port, tls: None })
        } else {
            let detail = "a broker on another machine needs TLS: name its CA file".into();
            Err(CloudError::Tls { endpoint: format!("{host}:{port}"), detail })
        }
    }

    /// A connection for a unit, TLS included if the platform has it: what travels inside is the unit's affair.
    ///
    /// # Errors
    /// [`CloudError::Unreachable`], [`CloudError::Tls`].
    pub fn dial(&self, patience: Duration) -> Result<Dialled, CloudError> {
        connect(self, Instant::now() + patience).map(Dialled)
    }

    /// The connection URL that goes into a unit's key area (TLV 3).
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "mqtts" } else { "mqtt" };
        format!("{scheme}://{self}")
    }

    fn unreachable(&self, detail: impl ToString) -> CloudError {
        CloudError::Unreachable { endpoint: self.to_string(), detail: detail.to_string() }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// An open connection to a broker, as bytes.
pub struct Dialled(Stream);

impl std::fmt::Debug for Dialled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dialled")
    }
}

impl Dialled {
    /// How long one [`Dialled::read`] waits.
    ///
    /// # Errors
    /// The system's.
    pub fn set_patience(&self, patience: Duration) -> std::io::Result<()> {
        self.0.socket().set_read_timeout(Some(patience.max(Duration::from_millis(1))))
    }

    /// What has come: `Ok(None)` if nothing did in time.
    ///
    /// # Errors
    /// The connection is over; also when the other side closed it.
    pub fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<Option<usize>> {
        match self.0.read(buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => Ok(Some(n)),
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// The connection is over.
    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes)
    }
}

/// Who logs in.
#[derive(Clone, Debug)]
pub struct Login {
    /// MQTT client id.
    pub client_id: String,
    /// MQTT user name.
    pub username: String,
    /// Its password.
    pub password: Credential,
    /// `false`: the broker keeps subscriptions and what arrives for them while we are away.
    pub clean_session: bool,
    /// Longest silence; half of it is when we ask whether the broker lives.
    pub keep_alive: Duration,
}

impl Login {
    /// A unit's login with one generation of its key.
    pub fn unit(identity: Identity, password: Credential) -> Self {
        let name = identity.to_string();
        Self {
            client_id: name.clone(),
            username: name,
            password,
            clean_session: true,
            keep_alive: Duration::from_secs(30),
        }
    }
}

/// A message from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its content.
    pub payload: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
}

/// One open connection.
pub struct Link {
    endpoint: Endpoint,
    stream: Stream,
    received: Received,
    next_id: Pid,
    keep_alive: Duration,
    sent: Instant,
    pinged: Option<Instant>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("endpoint", &self.endpoint.to_string()).finish_non_exhaustive()
    }
}

impl Link {
    /// Connects and logs in, within `timeout`.
    ///
    /// # Errors
    /// [`CloudError::Unreachable`], [`CloudError::Tls`], [`CloudError::LoginRefused`], [`CloudError::Slow`].
    pub fn open(endpoint: &Endpoint, login: &Login, timeout: Duration) -> Result<Self, CloudError> {
        let deadline = Instant::now() + timeout;
        let stream = connect(endpoint, deadline)?;
        let mut link = Self {
            endpoint: endpoint.clone(),
            stream,
            received: Received::default(),
            next_id: Pid::default(),
            keep_alive: login.keep_alive,
            sent: Instant::now(),
            pinged: None,
        };
        let seconds = u16::try_from(login.keep_alive.as_secs()).unwrap_or(u16::MAX);
        let mut packet = Connect::new(login.client_id.as_str().into(), seconds);
        packet.clean_session = login.clean_session;
        packet.username = Some(login.username.as_str().into());
        packet.password = Some(login.password.expose().as_bytes().to_vec().into());
        let packet = Packet::Connect(packet);
        let mut bytes = Vec::new();
        let fits = encode(&packet, &mut bytes);
        if let Packet::Connect(Connect { password: Some(password), .. }) = packet {
            // The only owner gets the allocation back, and can wipe it.
            Vec::from(password).zeroize();
        }
        let sent = if fits { link.stream.write_all(&bytes) } else { Err(ErrorKind::InvalidInput.into()) };
        bytes.zeroize();
        sent.map_err(|e| endpoint.unreachable(e))?;
        match link.wait(deadline, "the login", timeout)? {
            Answer::LoggedIn => Ok(link),
            answer => {
                let detail = if let Answer::Refused(detail) = answer { detail } else { "no login" };
                Err(CloudError::LoginRefused { endpoint: endpoint.to_string(), detail: detail.into() })
            }
        }
    }

    /// Subscribes with QoS 1; for each filter whether the broker granted it.
    pub fn subscribe(&mut self, filters: &[&str], timeout: Duration) -> Result<Vec<bool>, CloudError> {
        let topics = filters
            .iter()
            .map(|f| TopicFilter::try_from(*f).map(|f| (f, QoS::Level1)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| CloudError::Invalid { what: format!("a topic filter ({e})") })?;
        let id = self.id();
        self.received.ask(Question::Subscription { id: id.value(), filters: filters.len() });
        self.send(&Subscribe::new(id, topics).into())?;
        let deadline = Instant::now() + timeout;
        match self.wait(deadline, "a subscription", timeout)? {
            Answer::Granted(granted) => Ok(granted),
            _ => Ok(vec![false; filters.len()]),
        }
    }

    /// Publishes with QoS 1 and waits for the broker's acknowledgement. MQTT 3.1.1 has no way to say "denied" here:
    /// a broker acknowledges and drops.
    pub fn publish(&mut self, topic: &str, payload: &[u8], timeout: Duration) -> Result<(), CloudError> {
        let topic =
            TopicName::try_from(topic).map_err(|e| CloudError::Invalid { what: format!("a topic ({e})") })?;
        let id = self.id();
        self.received.ask(Question::Message { id: id.value() });
        self.send(&Publish::new(QosPid::Level1(id), topic, payload.to_vec().into()).into())?;
        let deadline = Instant::now() + timeout;
        self.wait(deadline, "a message", timeout).map(drop)
    }

    /// The next message, or `None` after `timeout`; keeps the connection alive meanwhile.
    pub fn receive(&mut self, timeout: Duration) -> Result<Option<Message>, CloudError> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(message) = self.received.message() {
                return Ok(Some(message));
            }
            if !self.pump(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Says goodbye, so that the broker does not count it as a failure.
    pub fn close(mut self) {
        // The connection ends either way.
        let _ = self.send(&Packet::Disconnect);
    }

    fn id(&mut self) -> Pid {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn wait(&mut self, deadline: Instant, what: &str, timeout: Duration) -> Result<Answer, CloudError> {
        loop {
            if let Some(answer) = self.received.answer() {
                return Ok(answer);
            }
            if !self.pump(deadline)? {
                return Err(self.slow(what, timeout));
            }
        }
    }

    fn slow(&self, what: &str, timeout: Duration) -> CloudError {
        CloudError::Slow {
            endpoint: self.endpoint.to_string(),
            what: what.into(),
            seconds: timeout.as_secs(),
        }
    }

    fn send(&mut self, packet: &Packet) -> Result<(), CloudError> {
        let mut bytes = Vec::new();
        if !encode(packet, &mut bytes) {
            return Err(CloudError::Invalid { what: "a message above MQTT's size limit".into() });
        }
        self.send_bytes(&bytes)
    }

    fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), CloudError> {
        self.stream.write_all(bytes).map_err(|e| self.endpoint.unreachable(e))?;
        self.sent = Instant::now();
        Ok(())
    }

    /// Takes one packet, or reads once. `false` = the deadline passed and nothing came.
    fn pump(&mut self, deadline: Instant) -> Result<bool, CloudError> {
        let step = self
            .received
            .step()
            .map_err(|detail| CloudError::Protocol { endpoint: self.endpoint.to_string(), detail })?;
        match step {
            Step::Starved => {}
            Step::Pong => {
                self.pinged = None;
                return Ok(true);
            }
            Step::Taken => return Ok(true),
            Step::Owed(bytes) => return self.send_bytes(&bytes).map(|()| true),
        }
        let now = Instant::now();
        let half = self.keep_alive / 2;
        match self.pinged {
            Some(since) if now.duration_since(since) >= half => {
                return Err(self.slow("a ping", half));
            }
            None if now.duration_since(self.sent) >= half => {
                self.pinged = Some(now);
                self.send(&Packet::Pingreq)?;
            }
            _ => {}
        }
        if now >= deadline {
            return Ok(false);
        }
        let next_ping = self.pinged.unwrap_or(self.sent) + half;
        let pause = deadline.min(next_ping).saturating_duration_since(now).max(Duration::from_millis(1));
        self.stream.socket().set_read_timeout(Some(pause)).map_err(|e| self.endpoint.unreachable(e))?;
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(self.endpoint.unreachable("it closed the connection")),
            Ok(read) => {
                self.received.feed(buffer.get(..read).unwrap_or_default());
                Ok(true)
            }
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                Ok(true)
            }
            Err(e) => Err(self.endpoint.unreachable(e)),
        }
    }
}

/// What a client waits for. There is one at a time, and a new one replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// May I in? Until this is answered a broker may say nothing else [3.2].
    Login,
    /// A subscription.
    Subscription {
        /// Its packet id.
        id: u16,
        /// How many filters it has; the answer has as many codes [3.9.3].
        filters: usize,
    },
    /// A message with QoS 1.
    Message {
        /// Its packet id.
        id: u16,
    },
}

/// The broker's answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The login is accepted.
    LoggedIn,
    /// The login is refused, and why.
    Refused(&'static str),
    /// For each filter whether it was granted.
    Granted(Vec<bool>),
    /// The message was taken.
    Taken,
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is no whole packet yet.
    Starved,
    /// One was taken.
    Taken,
    /// One was taken, and this is owed to the broker for it.
    Owed(Vec<u8>),
    /// The broker answered a ping.
    Pong,
}

/// The half of a [`Link`] without a socket: from the broker's bytes to messages and the answer to a question.
#[derive(Debug)]
pub struct Received {
    frames: Frames,
    inbox: VecDeque<Message>,
    question: Option<Question>,
    answer: Option<Answer>,
}

impl Default for Received {
    /// Nothing received, and a login asked for.
    fn default() -> Self {
        Self {
            frames: Frames::new(MAX_PACKET),
            inbox: VecDeque::new(),
            question: Some(Question::Login),
            answer: None,
        }
    }
}

impl Received {
    /// Waits for the answer to this from now on. What came before is none.
    pub fn ask(&mut self, question: Question) {
        self.question = Some(question);
        self.answer = None;
    }

    /// The answer, once.
    pub fn answer(&mut self) -> Option<Answer> {
        self.answer.take()
    }

    /// The next message, in the order in which they came.
    pub fn message(&mut self) -> Option<Message> {
        self.inbox.pop_front()
    }

    /// Bytes from the broker.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.frames.feed(bytes);
    }

    /// Takes the next packet.
    ///
    /// # Errors
    /// How the broker broke the protocol: the connection is of no use any more.
    pub fn step(&mut self) -> Result<Step, String> {
        let Some(packet) = self.frames.next().map_err(|e| e.to_string())? else { return Ok(Step::Starved) };
        let kind = packet.get_type();
        if self.question == Some(Question::Login) && !matches!(packet, Packet::Connack(_)) {
            return Err(format!("a {kind:?} before the answer to the login"));
        }
        let owed = match packet {
            Packet::Connack(connack) => {
                if self.question == Some(Question::Login) {
                    self.settle(match connack.code {
                        ConnectReturnCode::Accepted => Answer::LoggedIn,
                        ConnectReturnCode::UnacceptableProtocolVersion => {
                            Answer::Refused("protocol version not supported")
                        }
                        ConnectReturnCode::IdentifierRejected => Answer::Refused("client id rejected"),
                        ConnectReturnCode::ServerUnavailable => Answer::Refused("service not available"),
                        ConnectReturnCode::BadUserNameOrPassword => {
                            Answer::Refused("bad user name or password")
                        }
                        ConnectReturnCode::NotAuthorized => Answer::Refused("not authorised"),
                    });
                }
                None
            }
            Packet::Publish(publish) => {
                let message =
                    Message { topic: publish.topic_name.to_string(), payload: publish.payload.to_vec() };
                self.inbox.push_back(message);
                match publish.qos_pid {
                    QosPid::Level0 => None,
                    QosPid::Level1(id) => Some(Packet::Puback(id)),
                    QosPid::Level2(id) => Some(Packet::Pubrec(id)),
                }
            }
            Packet::Pubrel(id) => Some(Packet::Pubcomp(id)),
            Packet::Puback(id) => {
                if self.question == Some(Question::Message { id: id.value() }) {
                    self.settle(Answer::Taken);
                }
                None
            }
            Packet::Suback(suback) => {
                if let Some(Question::Subscription { id, filters }) = self.question
                    && id == suback.pid.value()
                {
                    if suback.topics.len() != filters {
                        return Err(format!("{} answers to {filters} topic filters", suback.topics.len()));
                    }
                    let granted = suback.topics.iter().map(|c| *c != SubscribeReturnCode::Failure).collect();
                    self.settle(Answer::Granted(granted));
                }
                None
            }
            Packet::Pingresp => return Ok(Step::Pong),
            _ => return Err(format!("a {kind:?} to a client")),
        };
        let Some(owed) = owed else { return Ok(Step::Taken) };
        let mut bytes = Vec::new();
        // Four bytes always fit.
        encode(&owed, &mut bytes);
        Ok(Step::Owed(bytes))
    }

    fn settle(&mut self, answer: Answer) {
        self.question = None;
        self.answer = Some(answer);
    }
}

fn connect(endpoint: &Endpoint, deadline: Instant) -> Result<Stream, CloudError> {
    let addresses =
        (endpoint.host.as_str(), endpoint.port).to_socket_addrs().map_err(|e| endpoint.unreachable(e))?;
    let mut last = endpoint.unreachable("the host name has no address");
    for address in addresses {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(socket) => return secure(endpoint, socket, deadline),
            Err(e) => last = endpoint.unreachable(e),
        }
    }
    Err(last)
}

fn secure(endpoint: &Endpoint, socket: TcpStream, deadline: Instant) -> Result<Stream, CloudError> {
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    // Small packets back and forth: waiting to fill a segment would cost 40 ms each.
    let ready = socket
        .set_nodelay(true)
        .and_then(|()| socket.set_write_timeout(Some(left.max(Duration::from_secs(5)))))
        .and_then(|()| socket.set_read_timeout(Some(left)));
    ready.map_err(|e| endpoint.unreachable(e))?;
    let Some(config) = &endpoint.tls else { return Ok(Stream::Plain(socket)) };
    let fail = |detail: String| CloudError::Tls { endpoint: endpoint.to_string(), detail };
    let name = ServerName::try_from(endpoint.host.clone()).map_err(|e| fail(e.to_string()))?;
    let connection = ClientConnection::new(config.clone(), name).map_err(|e| fail(e.to_string()))?;
    let mut stream = StreamOwned::new(connection, socket);
    while stream.conn.is_handshaking() {
        match stream.conn.complete_io(&mut stream.sock) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::InvalidData => return Err(fail(e.to_string())),
            // A broker that is just stopping resets the handshake: that is an outage, no question of trust.
            Err(e) => return Err(endpoint.unreachable(e)),
        }
    }
    Ok(Stream::Tls(Box::new(stream)))
}

/// Logs in as a unit would and leaves at once: `true` if the broker let it in. Never try the staged generation this
/// way: to the platform that is the unit's confirmation.
///
/// # Errors
/// Whatever kept the broker from answering; a refused login is `Ok(false)`.
pub fn try_login(
    endpoint: &Endpoint,
    identity: Identity,
    credential: &Credential,
    timeout: Duration,
) -> Result<bool, CloudError> {
    match Link::open(endpoint, &Login::unit(identity, credential.clone()), timeout) {
        Ok(link) => {
            link.close();
            Ok(true)
        }
        Err(CloudError::LoginRefused { .. }) => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(question: Question, bytes: &[u8]) -> (Received, Result<Step, String>) {
        let mut received = Received::default();
        received.ask(question);
        received.feed(bytes);
        let step = received.step();
        (received, step)
    }

    /// The watch link asks for two topics: one granted topic is not both.
    #[test]
    fn an_answer_for_fewer_filters_than_asked_grants_none() {
        let question = Question::Subscription { id: 1, filters: 2 };
        let (mut link, step) = received(question, &[0x90, 3, 0, 1, 1]);
        assert_eq!(step, Err("1 answers to 2 topic filters".into()));
        assert_eq!(link.answer(), None);
        let (mut link, step) = received(question, &[0x90, 4, 0, 1, 1, 0x80]);
        assert_eq!((step, link.answer()), (Ok(Step::Taken), Some(Answer::Granted(vec![true, false]))));
    }

    /// Packet ids count up, so a broker can guess the next one: what it acknowledges ahead of time it never saw.
    #[test]
    fn an_acknowledgement_counts_only_for_what_was_asked_before() {
        let (mut link, step) = received(Question::Message { id: 1 }, &[0x40, 2, 0, 2, 0x40, 2, 0, 1]);
        assert_eq!((step, link.answer()), (Ok(Step::Taken), None));
        link.ask(Question::Message { id: 2 });
        assert_eq!((link.step(), link.answer()), (Ok(Step::Taken), None));
    }

    #[test]
    fn the_answer_to_the_login_comes_first() {
        let (mut link, step) = received(Question::Login, b"\x30\x04\x00\x01ax\x20\x02\x00\x00");
        assert_eq!(step, Err("a Publish before the answer to the login".into()));
        assert_eq!((link.message(), link.answer()), (None, None));
    }
}
