//! Eclipse Mosquitto with its dynamic security plugin, over its own control topic.
//!
//! ```text
//! control link   $CONTROL/dynamic-security/v1 ─▶   many commands in one message, one correlation for each
//!                $CONTROL/dynamic-security/v1/response ◀─
//! watch link     kw/+/birth, $SYS/broker/log/N ◀─  births, and the broker's own word on who logged in
//! ```
//! - Each unit has a role `kw.<uid>` with its topics; each generation is a client `<uid>.<generation>` bound to that
//!   client id, with the verifier of its password in its description. An existing client is verified against that
//!   and never overwritten.
//! - Mosquitto 2.0 rewrites its whole file for every changing command and serves nobody meanwhile, so a message carries
//!   a bounded number of commands.
//! - Logins come from the broker's log, not from what a unit says about itself: the thief of an old key could claim
//!   the new generation in a birth message and lock the true unit out.
//! - The watch link keeps its session at the broker, so what happens while the station is away is told later.

use super::credential::{Credential, Identity, Verifier};
use super::engine::{Backend, Engine, Evidence};
use super::error::CloudError;
use super::ledger::{Act, Room};
use super::mqtt::{Endpoint, Link, Login, Message};
use super::ticket::lock;
use super::{Adapter, DEFAULT_QUEUE};
use crate::model::UnitId;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const CONTROL: &str = "$CONTROL/dynamic-security/v1";
const RESPONSE: &str = "$CONTROL/dynamic-security/v1/response";
const LOG: &str = "$SYS/broker/log/N";
const BIRTHS: &str = "kw/+/birth";
/// Added to the response timeout for every command of a message: at 10,000 clients 2.0.11 needs 26 ms for each.
const PER_COMMAND: Duration = Duration::from_millis(200);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The watch link reads this long before it looks whether it should stop.
const WATCH: Duration = Duration::from_millis(250);
/// How long a look at an idle control link takes.
const LOOK: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_secs(3);

/// How to reach it.
#[derive(Clone, Debug)]
pub struct MosquittoConfig {
    /// Where this station's ledger of it lies (`<home>/cloud/mosquitto-<name>.journal`).
    pub ledger: PathBuf,
    /// The listener for units and for us.
    pub endpoint: Endpoint,
    /// The agent's user name; its role is in `docs/cloud.md`.
    pub username: String,
    /// Its password.
    pub password: Credential,
    /// Makes client ids unique when several stations use one broker.
    pub station: String,
    /// For one connection attempt and one answer.
    pub timeout: Duration,
    /// Most commands in one control message.
    pub commands_per_message: usize,
    /// Most requests that wait.
    pub queue: usize,
}

impl MosquittoConfig {
    /// Usual limits.
    pub fn new(ledger: PathBuf, endpoint: Endpoint, username: &str, password: Credential) -> Self {
        Self {
            ledger,
            endpoint,
            username: username.into(),
            password,
            station: "station".into(),
            timeout: Duration::from_secs(10),
            commands_per_message: 100,
            queue: DEFAULT_QUEUE,
        }
    }

    fn login(&self, role: &str, clean_session: bool) -> Login {
        Login {
            client_id: format!("keywright-{}-{role}", self.station),
            username: self.username.clone(),
            password: self.password.clone(),
            clean_session,
            keep_alive: KEEP_ALIVE,
        }
    }
}

/// A Mosquitto broker as a platform.
pub struct MosquittoPlatform {
    engine: Engine,
    endpoint: Endpoint,
    watch: Arc<Watch>,
    watcher: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for MosquittoPlatform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let endpoint = self.endpoint.to_string();
        f.debug_struct("MosquittoPlatform").field("endpoint", &endpoint).finish_non_exhaustive()
    }
}

impl MosquittoPlatform {
    /// Reads the ledger and begins to connect; the broker may come later.
    ///
    /// # Errors
    /// [`CloudError::Ledger`], [`CloudError::Damaged`].
    pub fn start(config: MosquittoConfig) -> Result<Self, CloudError> {
        let engine = Engine::open(&config.ledger, Room::default(), config.queue)?;
        let endpoint = config.endpoint.clone();
        let watch = Arc::new(Watch::default());
        let watcher = Watcher {
            config: config.clone(),
            watch: watch.clone(),
            evidence: engine.evidence(),
            online: HashMap::new(),
        };
        let thread = std::thread::Builder::new().name("cloud-watch".into());
        let handle = thread.spawn(move || watcher.run()).map_err(|e| CloudError::Ledger {
            path: config.ledger.display().to_string(),
            detail: format!("no thread for the watch link: {e}"),
        })?;
        let control = Control { config, dialogue: None, watch: watch.clone() };
        let platform = Self { engine, endpoint, watch, watcher: Mutex::new(Some(handle)) };
        platform.engine.start("mosquitto", Box::new(control))?;
        Ok(platform)
    }

    /// True once the broker's log has named a login: without `log_dest topic` in its configuration a lost
    /// confirmation is only completed by the unit's repeated message.
    pub fn sees_logins(&self) -> bool {
        self.watch.logins.load(Ordering::Relaxed)
    }
}

impl Adapter for MosquittoPlatform {
    const NAME: &'static str = "mosquitto";

    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    fn stop(&self) {
        self.watch.stop();
        self.engine.stop();
        if let Some(watcher) = lock(&self.watcher).take() {
            // A panic of the watcher was reported by its thread already.
            let _ = watcher.join();
        }
    }
}

impl Drop for MosquittoPlatform {
    fn drop(&mut self) {
        Adapter::stop(self);
    }
}

/// The control message that an administrator publishes once to `$CONTROL/dynamic-security/v1`: the agent's identity
/// and its role, and nothing more than it needs. (The control topic itself gives full power over the plugin.)
pub fn setup_message(username: &str, password: &Credential) -> zeroize::Zeroizing<String> {
    let acl =
        |kind: &str, topic: &str| json!({"acltype": kind, "topic": topic, "priority": 0, "allow": true});
    let mut acls = vec![acl("publishClientSend", CONTROL), acl("publishClientSend", "kw/+/down/#")];
    for topic in [RESPONSE, LOG, BIRTHS] {
        acls.push(acl("subscribePattern", topic));
        acls.push(acl("publishClientReceive", topic));
    }
    let message = json!({"commands": [
        {"command": "createRole", "rolename": "keywright-agent", "acls": acls},
        {"command": "createClient", "username": username, "password": password.expose(),
         "roles": [{"rolename": "keywright-agent", "priority": 1}]},
    ]});
    zeroize::Zeroizing::new(message.to_string())
}

fn correlation_tag() -> Result<String, CloudError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|e| CloudError::Invalid { what: format!("the system's randomness ({e})") })?;
    Ok(hex::encode(bytes))
}

// ---- control ----

struct Control {
    config: MosquittoConfig,
    dialogue: Option<Dialogue<Link>>,
    watch: Arc<Watch>,
}

/// What control messages travel on.
pub trait Talk {
    /// Publishes with QoS 1 and waits for the acknowledgement.
    ///
    /// # Errors
    /// The connection is of no use any more.
    fn publish(&mut self, topic: &str, payload: &[u8], timeout: Duration) -> Result<(), CloudError>;
    /// The next message, or `None` after `timeout`.
    ///
    /// # Errors
    /// The connection is of no use any more.
    fn receive(&mut self, timeout: Duration) -> Result<Option<Message>, CloudError>;
}

impl Talk for Link {
    fn publish(&mut self, topic: &str, payload: &[u8], timeout: Duration) -> Result<(), CloudError> {
        Link::publish(self, topic, payload, timeout)
    }

    fn receive(&mut self, timeout: Duration) -> Result<Option<Message>, CloudError> {
        Link::receive(self, timeout)
    }
}

/// The plugin's language, spoken over one connection: commands out, and what their responses mean.
pub struct Dialogue<T> {
    link: T,
    endpoint: String,
    timeout: Duration,
    commands_per_message: usize,
    /// Random per connection: every subscriber of the response topic sees every response, ours carry this.
    tag: String,
    next: u64,
    /// Units whose role the broker has, as far as this connection knows.
    roles: HashSet<UnitId>,
}

impl<T> std::fmt::Debug for Dialogue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialogue").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

#[derive(Debug, Deserialize)]
struct Responses {
    responses: Vec<Response>,
    #[serde(flatten)]
    _others: IgnoredFields,
}

/// Flattened into a struct, it keeps serde from taking a list for an object.
type IgnoredFields = HashMap<String, serde::de::IgnoredAny>;

#[derive(Clone, Debug, Deserialize)]
struct Response {
    #[serde(default)]
    command: String,
    error: Option<String>,
    data: Option<Value>,
    #[serde(rename = "correlationData")]
    correlation: Option<String>,
    #[serde(flatten)]
    _others: IgnoredFields,
}

impl Response {
    fn data(&self, path: &str) -> Option<&Value> {
        self.data.as_ref().and_then(|data| data.pointer(path))
    }
}

pub(crate) fn role_name(unit: UnitId) -> String {
    format!("kw.{unit}")
}

/// What a unit may do, as the plugin's ACLs; also what an existing role is compared with. Receiving and unsubscribing
/// are left to the plugin's defaults (checked at every connection): each ACL is in the file that 2.0 rewrites for
/// every command.
pub(crate) fn acls(unit: UnitId) -> Vec<Value> {
    let acl =
        |kind: &str, topic: String| json!({"acltype": kind, "topic": topic, "priority": 0, "allow": true});
    vec![
        acl("publishClientSend", format!("kw/{unit}/birth")),
        acl("publishClientSend", format!("kw/{unit}/up/#")),
        acl("subscribePattern", format!("kw/{unit}/down/#")),
    ]
}

pub(crate) fn description(verifier: Verifier) -> String {
    format!("keywright/1 {}", verifier.to_hex())
}

impl<T: Talk> Dialogue<T> {
    /// Over a connection that is subscribed to the response topic. `tag` is in the correlation of every command;
    /// after an error the dialogue is over, and the next one has another tag.
    pub fn new(link: T, endpoint: &str, timeout: Duration, commands_per_message: usize, tag: &str) -> Self {
        Self {
            link,
            endpoint: endpoint.into(),
            timeout,
            commands_per_message: commands_per_message.max(1),
            tag: tag.into(),
            next: 0,
            roles: HashSet::new(),
        }
    }

    /// The connection.
    pub fn link(&mut self) -> &mut T {
        &mut self.link
    }

    /// Runs commands, in messages of a bounded size; one response for each, in order.
    fn run(&mut self, commands: Vec<Value>) -> Result<Vec<Response>, CloudError> {
        let mut all = Vec::with_capacity(commands.len());
        let mut commands = commands.into_iter().peekable();
        while commands.peek().is_some() {
            let message: Vec<Value> = commands.by_ref().take(self.commands_per_message).collect();
            // If it fails, whether the commands were done is unknown: a new connection asks again.
            all.extend(self.message(message)?);
        }
        Ok(all)
    }

    fn message(&mut self, mut commands: Vec<Value>) -> Result<Vec<Response>, CloudError> {
        let endpoint = self.endpoint.clone();
        let count = commands.len();
        // Correlation → index and name of its command.
        let mut asked = HashMap::with_capacity(count);
        for (index, command) in commands.iter_mut().enumerate() {
            let correlation = format!("{}.{}", self.tag, self.next);
            self.next += 1;
            let name = command.get("command").and_then(Value::as_str).unwrap_or_default().to_owned();
            if let Some(fields) = command.as_object_mut() {
                fields.insert("correlationData".into(), correlation.clone().into());
            }
            asked.insert(correlation, (index, name));
        }
        let timeout = self.timeout + PER_COMMAND * u32::try_from(count).unwrap_or(u32::MAX);
        let payload = zeroize::Zeroizing::new(json!({"commands": commands}).to_string());
        let deadline = Instant::now() + timeout;
        self.link.publish(CONTROL, payload.as_bytes(), timeout)?;
        let mut got: Vec<Option<Response>> = vec![None; count];
        let mut open = count;
        while open > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(message) = self.link.receive(left)? else {
                return Err(CloudError::Slow {
                    endpoint,
                    what: format!("{open} of {count} commands"),
                    seconds: timeout.as_secs(),
                });
            };
            if message.topic != RESPONSE {
                continue;
            }
            let responses: Responses =
                serde_json::from_slice(&message.payload).map_err(|e| CloudError::Protocol {
                    endpoint: endpoint.clone(),
                    detail: format!("a control response: {e}"),
                })?;
            for response in responses.responses {
                let known = response.correlation.as_ref().and_then(|c| asked.get(c));
                // Another agent's response, or a late one of ours.
                let Some((index, name)) = known else { continue };
                let Some(slot) = got.get_mut(*index) else { continue };
                if response.command != *name {
                    let detail = format!("{:?} as the answer to {name}", response.command);
                    return Err(CloudError::Protocol { endpoint, detail });
                }
                if slot.is_none() {
                    open -= 1;
                    *slot = Some(response);
                }
            }
        }
        Ok(got.into_iter().flatten().collect())
    }

    /// The first words on a connection: whether the plugin's defaults are safe; returns the identities it has.
    ///
    /// # Errors
    /// [`CloudError::UnsafeDefaults`], [`CloudError::Protocol`], [`CloudError::Slow`], and the connection's.
    pub fn greet(&mut self) -> Result<HashSet<Identity>, CloudError> {
        let answers = self.run(vec![
            json!({"command": "getDefaultACLAccess"}),
            json!({
                "command": "listClients", "verbose": false, "count": -1, "offset": 0,
            }),
        ])?;
        answers.iter().try_for_each(|answer| self.plain(answer))?;
        self.check_defaults(&answers)?;
        Ok(names(&answers))
    }

    /// The plugin's defaults apply to every client beside its role: a broker that lets everybody publish and subscribe
    /// holds no unit to its own topics, and one that lets nobody receive tells them nothing.
    fn check_defaults(&self, answers: &[Response]) -> Result<(), CloudError> {
        let acls = answers.first().and_then(|a| a.data("/acls")).and_then(Value::as_array);
        let Some(acls) = acls else {
            return Err(CloudError::Protocol {
                endpoint: self.endpoint.clone(),
                detail: "no default access in its answer".into(),
            });
        };
        let wanted = [
            ("publishClientSend", false),
            ("subscribe", false),
            ("publishClientReceive", true),
            ("unsubscribe", true),
        ];
        for (kind, allow) in wanted {
            let is = |acl: &&Value| acl.get("acltype").and_then(Value::as_str) == Some(kind);
            let found = acls.iter().find(is).and_then(|acl| acl.get("allow")).and_then(Value::as_bool);
            if found != Some(allow) {
                let what = format!("{kind} must be {}", if allow { "allowed" } else { "denied" });
                return Err(CloudError::UnsafeDefaults { endpoint: self.endpoint.clone(), what });
            }
        }
        Ok(())
    }

    /// A command that never fails on a healthy broker.
    fn plain(&self, response: &Response) -> Result<(), CloudError> {
        match &response.error {
            None => Ok(()),
            Some(reason) => Err(CloudError::Protocol {
                endpoint: self.endpoint.clone(),
                detail: format!("{}: {reason}", response.command),
            }),
        }
    }

    fn commands(&self, act: &Act) -> Vec<Value> {
        match act {
            Act::Allow { identity, verifier, credential: Some(credential) } => {
                let unit = identity.unit;
                let name = identity.to_string();
                let create = json!({
                    "command": "createClient", "username": name, "clientid": name, "password": credential.expose(),
                    "textdescription": description(*verifier),
                    "roles": [{"rolename": role_name(unit), "priority": 1}],
                });
                if self.roles.contains(&unit) {
                    return vec![create];
                }
                vec![
                    json!({"command": "createRole", "rolename": role_name(unit), "acls": acls(unit)}),
                    create,
                ]
            }
            Act::Allow { identity, credential: None, .. } => vec![get_client(*identity)],
            Act::Remove { identity, last } => {
                let mut commands = vec![json!({"command": "deleteClient", "username": identity.to_string()})];
                if *last {
                    commands.push(json!({"command": "deleteRole", "rolename": role_name(identity.unit)}));
                }
                commands
            }
            Act::Suspend { identity } => {
                vec![json!({"command": "disableClient", "username": identity.to_string()})]
            }
            Act::Resume { identity } => {
                vec![json!({"command": "enableClient", "username": identity.to_string()})]
            }
        }
    }

    /// Is the client that the broker has the one that we would have made?
    fn verify_client(
        &self,
        identity: Identity,
        verifier: Verifier,
        answer: &Response,
    ) -> Result<(), CloudError> {
        match answer.error.as_deref() {
            None => {}
            Some("Client not found") => return Err(CloudError::Missing { identity }),
            Some(reason) => return Err(rejected(answer, identity, reason)),
        }
        let name = identity.to_string();
        let text = |path: &str| answer.data(path).and_then(Value::as_str);
        let role = role_name(identity.unit);
        let roles =
            answer.data("/client/roles").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let groups =
            answer.data("/client/groups").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let ours = text("/client/username") == Some(name.as_str())
            && text("/client/clientid") == Some(name.as_str())
            && text("/client/textdescription") == Some(description(verifier).as_str())
            && groups.is_empty()
            && matches!(roles, [only] if only.get("rolename").and_then(Value::as_str) == Some(role.as_str()));
        if ours { Ok(()) } else { Err(CloudError::Conflict { identity }) }
    }

    /// Does all of it, in order; one result for each, `Ok` only if the broker said so of every command it took.
    ///
    /// # Errors
    /// An outage: nothing is known, all is to be repeated over another connection.
    pub fn apply(&mut self, acts: &[Act]) -> Result<Vec<Result<(), CloudError>>, CloudError> {
        let per_act: Vec<Vec<Value>> = acts.iter().map(|act| self.commands(act)).collect();
        let lengths: Vec<usize> = per_act.iter().map(Vec::len).collect();
        let mut answers = self.run(per_act.into_iter().flatten().collect())?.into_iter();

        let mut results = Vec::with_capacity(acts.len());
        // What existed already, and must be ours: (act, its role too).
        let mut doubts: Vec<(usize, bool)> = Vec::new();
        for (index, (act, length)) in acts.iter().zip(lengths).enumerate() {
            let mine: Vec<Response> = answers.by_ref().take(length).collect();
            results.push(match act {
                Act::Allow { identity, verifier, credential: None } => match mine.first() {
                    Some(answer) => self.verify_client(*identity, *verifier, answer),
                    None => Err(CloudError::Missing { identity: *identity }),
                },
                Act::Allow { identity, .. } => {
                    let mut result = Ok(());
                    let (mut role, mut client) = (false, false);
                    for answer in &mine {
                        match (answer.command.as_str(), answer.error.as_deref()) {
                            (_, None) => {}
                            ("createRole", Some("Role already exists")) => role = true,
                            ("createClient", Some("Client already exists")) => client = true,
                            (_, Some(reason)) => result = Err(rejected(answer, *identity, reason)),
                        }
                    }
                    if result.is_ok() && (role || client) {
                        doubts.push((index, role));
                    } else if result.is_ok() {
                        self.roles.insert(identity.unit);
                    }
                    result
                }
                Act::Remove { identity, last } => {
                    if *last {
                        self.roles.remove(&identity.unit);
                    }
                    done(*identity, &mine)
                }
                Act::Suspend { identity } => done(*identity, &mine),
                Act::Resume { identity } => match mine.first().and_then(|a| a.error.as_deref()) {
                    Some("Client not found") => Err(CloudError::Missing { identity: *identity }),
                    _ => done(*identity, &mine),
                },
            });
        }

        // Verify, never overwrite.
        let mut questions = Vec::new();
        for (index, role) in &doubts {
            let Some(Act::Allow { identity, .. }) = acts.get(*index) else { continue };
            questions.push(get_client(*identity));
            if *role {
                questions.push(json!({"command": "getRole", "rolename": role_name(identity.unit)}));
            }
        }
        let mut answers = self.run(questions)?.into_iter();
        for (index, role) in doubts {
            let Some(Act::Allow { identity, verifier, .. }) = acts.get(index) else { continue };
            let Some(client) = answers.next() else { continue };
            let mut verdict = self.verify_client(*identity, *verifier, &client);
            if role {
                let same = answers.next().is_some_and(|answer| same_acls(&answer, identity.unit));
                if !same {
                    verdict = verdict.and(Err(CloudError::Conflict { identity: *identity }));
                }
            }
            if verdict.is_ok() {
                self.roles.insert(identity.unit);
            }
            if let Some(slot) = results.get_mut(index) {
                *slot = verdict;
            }
        }
        Ok(results)
    }

    /// Which of these the broker lets in now.
    ///
    /// # Errors
    /// As [`Dialogue::apply`].
    pub fn accepted(&mut self, identities: &[Identity]) -> Result<BTreeSet<u32>, CloudError> {
        let answers = self.run(identities.iter().map(|i| get_client(*i)).collect())?;
        let mut accepted = BTreeSet::new();
        for (identity, answer) in identities.iter().zip(&answers) {
            match answer.error.as_deref() {
                None if answer.data("/client/disabled") != Some(&Value::Bool(true)) => {
                    accepted.insert(identity.generation);
                }
                None | Some("Client not found") => {}
                Some(_) => self.plain(answer)?,
            }
        }
        Ok(accepted)
    }
}

fn get_client(identity: Identity) -> Value {
    json!({"command": "getClient", "username": identity.to_string()})
}

fn rejected(response: &Response, identity: Identity, reason: &str) -> CloudError {
    CloudError::Rejected {
        command: response.command.clone(),
        identity: identity.to_string(),
        reason: reason.into(),
    }
}

/// Our identities in the answer of `listClients`.
fn names(answers: &[Response]) -> HashSet<Identity> {
    let list = answers.iter().filter_map(|a| a.data("/clients")).filter_map(Value::as_array).flatten();
    list.filter_map(Value::as_str).filter_map(|name| name.parse().ok()).collect()
}

fn same_acls(answer: &Response, unit: UnitId) -> bool {
    let Some(have) = answer.data("/role/acls").and_then(Value::as_array).filter(|_| answer.error.is_none())
    else {
        return false;
    };
    let want = acls(unit);
    have.len() == want.len() && want.iter().all(|acl| have.contains(acl))
}

/// Logs in as the agent and says the first words.
fn open_dialogue(
    config: &MosquittoConfig,
    role: &str,
) -> Result<(Dialogue<Link>, HashSet<Identity>), CloudError> {
    let endpoint = config.endpoint.to_string();
    let mut link = Link::open(&config.endpoint, &config.login(role, true), config.timeout)?;
    let granted = link.subscribe(&[RESPONSE], config.timeout)?;
    if granted != [true] {
        return Err(CloudError::NotPermitted { endpoint, what: format!("read {RESPONSE}") });
    }
    let tag = correlation_tag()?;
    let mut dialogue = Dialogue::new(link, &endpoint, config.timeout, config.commands_per_message, &tag);
    let identities = dialogue.greet()?;
    Ok((dialogue, identities))
}

/// Whether this broker would do: logs in as the agent and asks what every connection asks first. Nothing is changed there, and a
/// station that works with it is not disturbed. Returns how many units it knows.
///
/// # Errors
/// As every connection; what is wrong is in it.
pub fn try_broker(config: &MosquittoConfig) -> Result<usize, CloudError> {
    let (_dialogue, identities) = open_dialogue(config, "try")?;
    Ok(identities.iter().map(|identity| identity.unit).collect::<HashSet<_>>().len())
}

impl Control {
    fn connect(&mut self) -> Result<HashSet<Identity>, CloudError> {
        let (dialogue, identities) = open_dialogue(&self.config, "control")?;
        self.dialogue = Some(dialogue);
        Ok(identities)
    }

    /// Over the connection that is there; an error ends it.
    fn over<R>(
        &mut self,
        act: impl FnOnce(&mut Dialogue<Link>) -> Result<R, CloudError>,
    ) -> Result<R, CloudError> {
        let Some(dialogue) = &mut self.dialogue else {
            let endpoint = self.config.endpoint.to_string();
            return Err(CloudError::Unreachable { endpoint, detail: "not connected".into() });
        };
        let result = act(dialogue);
        if result.is_err() {
            self.dialogue = None;
        }
        result
    }
}

impl Backend for Control {
    fn ready(&mut self) -> Result<Option<HashSet<Identity>>, CloudError> {
        if let Some(dialogue) = &mut self.dialogue {
            // Keeps the connection alive, and notices its end while nobody asks for anything.
            match dialogue.link().receive(LOOK) {
                Ok(_) => return Ok(None),
                Err(error) => {
                    self.dialogue = None;
                    tracing::warn!(%error, "the control link ended");
                }
            }
        }
        // Watching comes first: whatever this connection changes can have been seen from then on.
        self.watch.wait_until_watching(self.config.timeout)?;
        self.connect().map(Some)
    }

    fn apply(&mut self, acts: &[Act]) -> Result<Vec<Result<(), CloudError>>, CloudError> {
        self.over(|dialogue| dialogue.apply(acts))
    }

    fn send(&mut self, _unit: UnitId, topic: &str, payload: &[u8]) -> Result<(), CloudError> {
        let timeout = self.config.timeout;
        self.over(|dialogue| dialogue.link().publish(topic, payload, timeout))
    }

    fn accepted(&mut self, identities: &[Identity]) -> Result<BTreeSet<u32>, CloudError> {
        self.over(|dialogue| dialogue.accepted(identities))
    }
}

/// Done, or so already. What is already so differs by command: that there is no role says nothing of a client.
fn done(identity: Identity, answers: &[Response]) -> Result<(), CloudError> {
    for answer in answers {
        match (answer.command.as_str(), answer.error.as_deref()) {
            (_, None)
            | ("deleteClient" | "disableClient", Some("Client not found"))
            | ("deleteRole", Some("Role not found")) => {}
            (_, Some(reason)) => return Err(rejected(answer, identity, reason)),
        }
    }
    Ok(())
}

// ---- watch ----

#[derive(Debug, Default)]
struct Watch {
    state: Mutex<WatchState>,
    changed: Condvar,
    logins: AtomicBool,
}

#[derive(Debug, Default)]
struct WatchState {
    stop: bool,
    watching: bool,
    cause: Option<CloudError>,
}

impl Watch {
    fn stop(&self) {
        lock(&self.state).stop = true;
        self.changed.notify_all();
    }

    fn set(&self, watching: bool, cause: Option<CloudError>) {
        let mut state = lock(&self.state);
        state.watching = watching;
        state.cause = cause;
        self.changed.notify_all();
    }

    fn wait_until_watching(&self, timeout: Duration) -> Result<(), CloudError> {
        let waits = |s: &mut WatchState| !s.watching && !s.stop && s.cause.is_none();
        let (state, _) = self
            .changed
            .wait_timeout_while(lock(&self.state), timeout, waits)
            .unwrap_or_else(PoisonError::into_inner);
        match &state.cause {
            _ if state.watching => Ok(()),
            Some(cause) => Err(cause.clone()),
            None => Err(CloudError::Stopped),
        }
    }

    /// Pauses; `false` = stop.
    fn pause(&self, time: Duration) -> bool {
        let (state, _) = self
            .changed
            .wait_timeout_while(lock(&self.state), time, |s| !s.stop)
            .unwrap_or_else(PoisonError::into_inner);
        !state.stop
    }
}

struct Watcher {
    config: MosquittoConfig,
    watch: Arc<Watch>,
    evidence: Evidence,
    /// The generations that the log names as logged in.
    online: HashMap<UnitId, BTreeSet<u32>>,
}

impl Watcher {
    fn run(mut self) {
        let mut pause = Duration::from_millis(50);
        loop {
            let error = match self.watch_once(&mut pause) {
                Ok(()) => return,
                Err(error) => error,
            };
            self.watch.set(false, Some(error));
            if !self.watch.pause(pause) {
                return;
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// `Ok` = told to stop.
    fn watch_once(&mut self, pause: &mut Duration) -> Result<(), CloudError> {
        let config = &self.config;
        let mut link = Link::open(&config.endpoint, &config.login("watch", false), config.timeout)?;
        let granted = link.subscribe(&[LOG, BIRTHS], config.timeout)?;
        for (filter, granted) in [LOG, BIRTHS].into_iter().zip(granted) {
            if !granted {
                let what = format!("read {filter}");
                return Err(CloudError::NotPermitted { endpoint: config.endpoint.to_string(), what });
            }
        }
        *pause = Duration::from_millis(50);
        self.watch.set(true, None);
        while !lock(&self.watch.state).stop {
            if let Some(message) = link.receive(WATCH)? {
                self.heard(&message.topic, &message.payload);
            }
        }
        link.close();
        Ok(())
    }

    fn heard(&mut self, topic: &str, payload: &[u8]) {
        if topic == LOG {
            let Ok(line) = std::str::from_utf8(payload) else { return };
            match log_line(line) {
                Some(LogLine::LoggedIn(Some(identity))) => {
                    self.watch.logins.store(true, Ordering::Relaxed);
                    self.online.entry(identity.unit).or_default().insert(identity.generation);
                    self.evidence.login(identity);
                }
                Some(LogLine::LoggedIn(None)) => self.watch.logins.store(true, Ordering::Relaxed),
                Some(LogLine::Left(identity)) => {
                    if let Some(generations) = self.online.get_mut(&identity.unit) {
                        generations.remove(&identity.generation);
                        if generations.is_empty() {
                            self.online.remove(&identity.unit);
                        }
                    }
                }
                None => {}
            }
            return;
        }
        let unit = topic.strip_prefix("kw/").and_then(|t| t.strip_suffix("/birth"));
        let Some(unit) = unit.and_then(|u| u.parse::<UnitId>().ok()) else { return };
        // Two sessions of one unit can't be told apart by what they publish.
        let only = self.online.get(&unit).filter(|g| g.len() == 1).and_then(BTreeSet::first);
        self.evidence.birth(unit, only.copied(), payload.to_vec());
    }
}

#[derive(Debug, PartialEq, Eq)]
enum LogLine {
    /// A login, of one of our identities or of somebody else.
    LoggedIn(Option<Identity>),
    Left(Identity),
}

/// Reads `1700000000: New client connected from 127.0.0.1:1 as <client id> (p2, c1, k60, u'<user>').` and
/// `… Client <client id> disconnected.` Anchored at the start (behind a time stamp made of digits and its separators)
/// and at the end, and the client id must be the user name: nothing that a stranger can get logged reads as a login.
fn log_line(line: &str) -> Option<LogLine> {
    let stamp = |c: char| c.is_ascii_digit() || matches!(c, '-' | ':' | '.' | '+' | 'T' | 'Z' | ' ');
    let text = line.trim_start_matches(stamp);
    if let Some(rest) = text.strip_prefix("New client connected from ") {
        let (_, who) = rest.split_once(" as ")?;
        let (client, flags) = who.split_once(" (p")?;
        let user = flags.strip_suffix("').")?.rsplit_once(", u'")?.1;
        let identity = client.parse().ok().filter(|_| client == user);
        return Some(LogLine::LoggedIn(identity));
    }
    let rest = text.strip_prefix("Client ")?;
    let (client, end) = rest.split_once(' ')?;
    let left = ["disconnected", "been disconnected", "closed its connection", "has exceeded timeout"];
    if left.iter().any(|word| end.starts_with(word)) {
        return client.parse().ok().map(LogLine::Left);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_read_from_the_log_and_nothing_else_is() {
        let id: Identity = "0102030405060708090a0b0c.7".parse().unwrap();
        let line = |text: &str| log_line(&text.replace("ID", &id.to_string()));
        for stamp in ["1795251945: ", "2026-11-21T09:00:00: ", ""] {
            let login =
                format!("{stamp}New client connected from 127.0.0.1:37246 as ID (p2, c1, k60, u'ID').");
            assert_eq!(line(&login), Some(LogLine::LoggedIn(Some(id))), "{login}");
        }
        let not_ours = [
            "1: New client connected from 127.0.0.1:1 as admin (p2, c1, k60, u'admin').",
            "1: New client connected from 127.0.0.1:1 as ID (p2, c1, k60, u'admin').",
            "1: New client connected from 127.0.0.1:1 as x (p2, c1, k60, u'ID').",
        ];
        for text in not_ours {
            assert_eq!(line(text), Some(LogLine::LoggedIn(None)), "{text}");
        }
        assert_eq!(line("1: Client ID disconnected."), Some(LogLine::Left(id)));
        assert_eq!(line("1: Client ID closed its connection."), Some(LogLine::Left(id)));
        for text in [
            "1: New connection from 127.0.0.1:1 on port 8883.",
            "1: Client New client connected from 1 as ID (p2, c1, k60, u'ID'). disconnected, not authorised.",
            "1: Client <unknown> disconnected, not authorised.",
            "1: xNew client connected from 127.0.0.1:1 as ID (p2, c1, k60, u'ID').",
            "1: New client connected from 127.0.0.1:1 as ID (p2, c1, k60).",
            "",
        ] {
            assert_eq!(line(text), None, "{text}");
        }
    }

    /// A broker that answers each command by a rule: what it is given is the honest reply.
    struct Script {
        rule: fn(&mut Value),
        said: Vec<Value>,
    }

    impl Talk for Script {
        fn publish(&mut self, _: &str, payload: &[u8], _: Duration) -> Result<(), CloudError> {
            let message: Value = serde_json::from_slice(payload).unwrap();
            for command in message["commands"].as_array().unwrap() {
                let mut reply =
                    json!({"command": command["command"], "correlationData": command["correlationData"]});
                (self.rule)(&mut reply);
                self.said.push(reply);
            }
            Ok(())
        }

        fn receive(&mut self, _: Duration) -> Result<Option<Message>, CloudError> {
            if self.said.is_empty() {
                return Ok(None);
            }
            let payload = json!({"responses": std::mem::take(&mut self.said)}).to_string().into_bytes();
            Ok(Some(Message { topic: RESPONSE.into(), payload }))
        }
    }

    /// `Err`: the whole dialogue failed, which leaves everything open.
    fn applied(act: impl Fn(Identity) -> Act, rule: fn(&mut Value)) -> Result<bool, ()> {
        let identity: Identity = "0102030405060708090a0b0c.7".parse().unwrap();
        let script = Script { rule, said: Vec::new() };
        let mut talk = Dialogue::new(script, "a broker", Duration::from_secs(9), 100, "tag");
        talk.apply(&[act(identity)]).map(|results| results == [Ok(())]).map_err(drop)
    }

    #[test]
    fn a_command_is_done_only_if_its_own_reply_says_so() {
        let allow = |identity| {
            let credential = Credential::from_password("public".into());
            let verifier = credential.verifier(identity);
            Act::Allow { identity, verifier, credential: Some(credential) }
        };
        let remove = |identity| Act::Remove { identity, last: true };
        assert_eq!(applied(allow, |_| {}), Ok(true));
        assert_eq!(applied(remove, |_| {}), Ok(true));
        let gone = |reply: &mut Value| {
            let role = reply["command"] == "deleteRole";
            reply["error"] = if role { "Role not found" } else { "Client not found" }.into();
        };
        assert_eq!(applied(remove, gone), Ok(true));
        // The right words about the wrong thing.
        assert_eq!(applied(remove, |reply| reply["error"] = "Role not found".into()), Ok(false));
        assert_eq!(applied(remove, |reply| reply["error"] = "Client not found".into()), Ok(false));
        let crossed = |reply: &mut Value| {
            if reply["command"] == "createRole" {
                reply["error"] = "Client already exists".into();
            }
        };
        assert_eq!(applied(allow, crossed), Ok(false));
        // Another command's reply, another spelling of the correlation, a list in place of an object.
        assert_eq!(applied(remove, |reply| reply["command"] = "getClient".into()), Err(()));
        let spelt = |reply: &mut Value| {
            let correlation = reply["correlationData"].as_str().unwrap().replace('.', ".+");
            reply["correlationData"] = correlation.into();
        };
        assert_eq!(applied(remove, spelt), Err(()));
        let list =
            |reply: &mut Value| *reply = json!([reply["command"], null, null, reply["correlationData"]]);
        assert_eq!(applied(remove, list), Err(()));
    }

    #[test]
    fn a_foreign_role_is_not_taken_for_ours() {
        let unit = UnitId([5; 12]);
        let answer = |acls: Vec<Value>| -> Response {
            serde_json::from_value(json!({"command": "getRole", "data": {"role": {"acls": acls}}})).unwrap()
        };
        assert!(same_acls(&answer(acls(unit)), unit));
        let mut reversed = acls(unit);
        reversed.reverse();
        assert!(same_acls(&answer(reversed), unit));
        let mut wider = acls(unit);
        wider.push(json!({"acltype": "publishClientSend", "topic": "#", "priority": 0, "allow": true}));
        assert!(!same_acls(&answer(wider), unit));
        assert!(!same_acls(&answer(acls(UnitId([6; 12]))), unit));
        let refused = Response { error: Some("Role not found".into()), ..answer(acls(unit)) };
        assert!(!same_acls(&refused, unit));
    }
}
