//! What a broker says to the station: MQTT, and the control replies of Mosquitto's dynamic security.
//!
//! Promises: however the bytes are split, the same is made of them; a login, a subscription or a message counts as done only if the
//! broker answered that very request; a command counts as done only if its own reply, found by its correlation, names it
//! and holds no error, or the error that says that it was done before and a look at the broker agrees; an honest broker is understood.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use keywright::cloud::{
    Act, Answer, CloudError, Credential, Dialogue, Identity, Message, Question, Received, Step, Talk,
};
use keywright::model::UnitId;
use serde_json::{Value, json};

use crate::input::Input;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 3 {
        0 => stream(&mut input),
        _ => dialogue(&mut input),
    }
}

// ---- MQTT ----

/// What a client makes of a stream.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    steps: Vec<Step>,
    broken: bool,
    answers: Vec<(Question, Answer)>,
    messages: Vec<Message>,
}

fn listen(stream: &[u8], second: Question, mut sizes: Option<Input<'_>>) -> Heard {
    let (mut link, mut heard) = (Received::default(), Heard::default());
    let mut question = Question::Login;
    let mut rest = stream;
    while !rest.is_empty() {
        let size = sizes.as_mut().map_or(rest.len(), |sizes| 1 + usize::from(sizes.byte()) % 9);
        let (piece, tail) = rest.split_at(size.min(rest.len()));
        rest = tail;
        link.feed(piece);
        loop {
            match link.step() {
                Ok(Step::Starved) => break,
                Ok(step) => heard.steps.push(step),
                Err(error) => {
                    assert!(!error.is_empty() && link.answer().is_none());
                    heard.broken = true;
                    return heard;
                }
            }
            while let Some(message) = link.message() {
                heard.messages.push(message);
            }
            if let Some(answer) = link.answer() {
                heard.answers.push((question, answer));
                assert_eq!(link.answer(), None, "one answer");
                question = second;
                link.ask(second);
            }
        }
    }
    heard
}

/// Packets by the standard: first byte and body; what is behind the last whole one is left out.
fn packets(mut stream: &[u8]) -> Vec<(u8, &[u8])> {
    let mut all = Vec::new();
    while let Some((first, rest)) = stream.split_first() {
        let Some(last) = rest.iter().take(4).position(|b| b & 0x80 == 0) else { break };
        let len = rest[..=last].iter().rev().fold(0, |len, b| len << 7 | usize::from(b & 0x7f));
        let Some(body) = rest.get(last + 1..last + 1 + len) else { break };
        all.push((*first, body));
        stream = &rest[last + 1 + len..];
    }
    all
}

/// Topic, packet id and payload of a PUBLISH [3.3].
fn publish(first: u8, body: &[u8]) -> Option<(&[u8], [u8; 2], &[u8])> {
    let (len, rest) = body.split_first_chunk::<2>()?;
    let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    match first >> 1 & 3 {
        0 => Some((topic, [0; 2], rest)),
        _ => rest.split_first_chunk::<2>().map(|(id, payload)| (topic, *id, payload)),
    }
}

fn stream(input: &mut Input<'_>) {
    let flags = input.byte();
    let id = 1 + u16::from(input.byte() % 3);
    let filters = input.pick(4);
    let second = match flags % 3 {
        0 => Question::Message { id },
        1 => Question::Subscription { id, filters },
        _ => Question::Login,
    };
    let mut bytes = if flags & 0x40 == 0 { vec![0x20, 2, 0, 0] } else { Vec::new() };
    if flags & 0x80 == 0 {
        while !input.is_empty() {
            bytes.extend(built(input));
        }
    } else {
        bytes.extend_from_slice(input.rest());
    }
    let heard = listen(&bytes, second, None);
    assert_eq!(listen(&bytes, second, Some(Input::new(&bytes))), heard, "split otherwise, heard otherwise");

    let all = packets(&bytes);
    assert!(heard.steps.len() <= all.len());
    let mut messages = heard.messages.iter();
    for (n, (step, (first, body))) in heard.steps.iter().zip(&all).enumerate() {
        if n == 0 {
            assert_eq!(first >> 4, 2, "a broker answers the login first");
        }
        let owed = |kind: u8, id: [u8; 2]| Step::Owed(vec![kind, 2, id[0], id[1]]);
        let wanted = match first >> 4 {
            2 | 4 | 9 => Step::Taken,
            3 => {
                let (topic, id, payload) = publish(*first, body).expect("a PUBLISH that is none");
                let message = messages.next().expect("a message for each PUBLISH");
                assert_eq!((message.topic.as_bytes(), &message.payload[..]), (topic, payload));
                match first >> 1 & 3 {
                    0 => Step::Taken,
                    1 => owed(0x40, id),
                    _ => owed(0x50, id),
                }
            }
            6 => owed(0x70, [body[0], body[1]]),
            13 => Step::Pong,
            kind => panic!("kind {kind} to a client"),
        };
        assert_eq!(*step, wanted);
    }
    assert_eq!(messages.next(), None, "a message that nobody sent");
    for (n, (question, answer)) in heard.answers.iter().enumerate() {
        let taken = &all[..heard.steps.len()];
        let given = |kind: u8, id: u16, rest: &[u8]| {
            taken.iter().any(|(first, body)| *first == kind && **body == [&id.to_be_bytes(), rest].concat())
        };
        match (question, answer) {
            (Question::Login, Answer::LoggedIn) => {
                assert!(taken.iter().any(|(first, body)| *first == 0x20 && matches!(body, [0 | 1, 0])));
            }
            (Question::Login, Answer::Refused(why)) => {
                assert!(!why.is_empty());
                assert!(taken.iter().any(|(first, body)| *first == 0x20 && matches!(body, [_, 1..=5])));
            }
            (Question::Message { id }, Answer::Taken) => assert!(given(0x40, *id, &[])),
            (Question::Subscription { id, filters }, Answer::Granted(granted)) => {
                assert_eq!(granted.len(), *filters, "an answer for each filter");
                let found = taken.iter().any(|(first, body)| {
                    *first == 0x90
                        && body.len() == 2 + filters
                        && body.starts_with(&id.to_be_bytes())
                        && body[2..].iter().zip(granted).all(|(code, is)| (*code <= 2) == *is)
                });
                assert!(found, "granted by nobody");
            }
            other => panic!("{n}: an answer to another question: {other:?}"),
        }
    }
    // What is plainly fine is understood.
    if let Some((first, body)) = all.get(heard.steps.len()) {
        assert!(heard.broken, "a whole packet was left");
        let fine = match (first, body) {
            (0x20, [0, 0..=5]) => true,
            _ if heard.steps.is_empty() || second == Question::Login => false,
            (0x40, [a, b]) => (*a, *b) != (0, 0),
            (0xd0, []) => true,
            (0x30, _) => publish(*first, body)
                .is_some_and(|(topic, ..)| !topic.is_empty() && topic.iter().all(u8::is_ascii_alphanumeric)),
            _ => false,
        };
        // A length may be padded, which is not fine.
        let start: usize = all[..heard.steps.len()].iter().map(|(_, body)| body.len()).sum();
        let short = body.len() < 128 && bytes.len() == start + 2 * all.len() + body.len();
        assert!(!(fine && short), "a fine packet refused: {first:x} {body:x?}");
    }
}

/// A packet as a broker would build it.
fn built(input: &mut Input<'_>) -> Vec<u8> {
    let what = input.byte();
    let id = [0, input.byte() % 4];
    match what % 8 {
        0 => vec![0x20, 2, what >> 7, id[1] + (what >> 6 & 1) * 3],
        1 => vec![0x40, 2, id[0], id[1]],
        2 => {
            let codes = input.pick(4);
            let codes: Vec<u8> = (0..codes).map(|_| [0, 1, 2, 0x80, 3][input.pick(5)]).collect();
            [&[0x90, 2 + codes.len() as u8, id[0], id[1]][..], &codes].concat()
        }
        3 => vec![0xd0, 0],
        4 => vec![0x62, 2, id[0], id[1]],
        5 => vec![input.byte(), 2, id[0], id[1]],
        _ => {
            let (qos, len) = (what >> 5 & 3, input.pick(40));
            let topic: &[u8] =
                [&b"kw"[..], b"$CONTROL/dynamic-security/v1/response", b"a+", b""][input.pick(4)];
            let mut body = [&[0, topic.len() as u8][..], topic].concat();
            if qos > 0 {
                body.extend(id);
            }
            body.extend_from_slice(input.bytes(len));
            [&[0x30 | qos << 1, body.len() as u8][..], &body].concat()
        }
    }
}

// ---- the control dialogue ----

const CONTROL: &str = "$CONTROL/dynamic-security/v1";
const TAG: &str = "00112233";
const PER_MESSAGE: usize = 3;

/// The plugin, as its documentation has it, and a hand that changes what it says.
struct Broker<'a> {
    input: Input<'a>,
    /// Client → its data.
    clients: BTreeMap<String, Value>,
    roles: BTreeMap<String, Value>,
    unsafe_defaults: bool,
    honest: bool,
    waiting: VecDeque<Message>,
    /// Every command with its correlation.
    asked: Vec<(String, Value)>,
    /// What the station has heard: for each correlation, the first reply after its command.
    heard: BTreeMap<String, Value>,
}

impl Talk for Broker<'_> {
    fn publish(&mut self, topic: &str, payload: &[u8], _: Duration) -> Result<(), CloudError> {
        assert_eq!(topic, CONTROL);
        let message: Value = serde_json::from_slice(payload).expect("the station writes JSON");
        let commands = message["commands"].as_array().expect("commands");
        assert!((1..=PER_MESSAGE).contains(&commands.len()), "a bounded number of commands");
        let mut replies = Vec::new();
        for command in commands {
            let correlation = command["correlationData"].as_str().expect("a correlation").to_owned();
            assert!(self.asked.iter().all(|(known, _)| *known != correlation), "a correlation used twice");
            self.asked.push((correlation, command.clone()));
            replies.push(self.reply(command));
        }
        self.deliver(replies);
        Ok(())
    }

    fn receive(&mut self, _: Duration) -> Result<Option<Message>, CloudError> {
        let message = self.waiting.pop_front();
        if let Some(message) = message.as_ref().filter(|m| m.topic == format!("{CONTROL}/response")) {
            let said: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
            for reply in said["responses"].as_array().into_iter().flatten() {
                let Some(correlation) = reply["correlationData"].as_str() else { continue };
                if self.asked.iter().any(|(known, _)| known == correlation) {
                    self.heard.entry(correlation.into()).or_insert_with(|| reply.clone());
                }
            }
        }
        Ok(message)
    }
}

impl Broker<'_> {
    fn reply(&mut self, command: &Value) -> Value {
        let kind = command["command"].as_str().expect("a command");
        let text = |key: &str| command[key].as_str().unwrap_or_default().to_owned();
        let (client, role) = (text("username"), text("rolename"));
        let mut reply = json!({"command": kind, "correlationData": command["correlationData"]});
        let error = match kind {
            "createRole" if self.roles.contains_key(&role) => Some("Role already exists"),
            "createRole" => {
                self.roles.insert(role.clone(), json!({"rolename": role, "acls": command["acls"]}));
                None
            }
            "deleteRole" => self.roles.remove(&role).is_none().then_some("Role not found"),
            "getRole" => {
                reply["data"] = json!({"role": self.roles.get(&role)});
                (!self.roles.contains_key(&role)).then_some("Role not found")
            }
            "createClient" if self.clients.contains_key(&client) => Some("Client already exists"),
            "createClient" => {
                let mut data = command.clone();
                data["groups"] = json!([]);
                self.clients.insert(client, data);
                None
            }
            "deleteClient" => self.clients.remove(&client).is_none().then_some("Client not found"),
            "getClient" => {
                reply["data"] = json!({"client": self.clients.get(&client)});
                (!self.clients.contains_key(&client)).then_some("Client not found")
            }
            "disableClient" | "enableClient" => match self.clients.get_mut(&client) {
                Some(data) => {
                    data["disabled"] = (kind == "disableClient").into();
                    None
                }
                None => Some("Client not found"),
            },
            "listClients" => {
                reply["data"] = json!({"clients": self.clients.keys().collect::<Vec<_>>()});
                None
            }
            "getDefaultACLAccess" => {
                let acl = |kind: &str, allow: bool| json!({"acltype": kind, "allow": allow});
                reply["data"] = json!({"acls": [
                    acl("publishClientSend", self.unsafe_defaults), acl("publishClientReceive", true),
                    acl("subscribe", false), acl("unsubscribe", true),
                ]});
                None
            }
            other => panic!("the plugin has no command {other}"),
        };
        if let Some(error) = error {
            reply["error"] = error.into();
            reply.as_object_mut().expect("an object").remove("data");
        }
        reply
    }

    /// Puts replies on the way, changed by the input.
    fn deliver(&mut self, mut replies: Vec<Value>) {
        let mut topic = format!("{CONTROL}/response");
        let mut raw = None;
        for _ in 0..self.input.pick(4) {
            self.honest = false;
            let what = self.input.byte();
            let at = usize::from(what >> 4).checked_rem(replies.len()).unwrap_or(0);
            let Some(reply) = replies.get_mut(at).filter(|reply| reply.is_object()) else { break };
            match what % 13 {
                0 => drop(replies.remove(at)),
                1 => {
                    let errors = [
                        "Client already exists",
                        "Role already exists",
                        "Client not found",
                        "Role not found",
                        "",
                        "x",
                    ];
                    reply["error"] = errors[self.input.pick(errors.len())].into();
                }
                2 => drop(reply.as_object_mut().map(|reply| reply.remove("error"))),
                3 => reply["error"] = Value::Null,
                4 => {
                    reply["command"] =
                        ["createClient", "deleteClient", "getClient", "x"][self.input.pick(4)].into()
                }
                5 => {
                    let number = self.input.byte() % 12;
                    reply["correlationData"] = format!("{TAG}.{number}").into();
                }
                6 => {
                    reply["correlationData"] =
                        json!(["x", "", "00112234.0", "00112233.+1"][self.input.pick(4)])
                }
                7 => {
                    let copy = reply.clone();
                    replies.push(copy);
                }
                8 => {
                    let data = [
                        "/client/textdescription",
                        "/client/clientid",
                        "/client/roles",
                        "/client/groups",
                        "/client/disabled",
                        "/role/acls",
                        "/clients",
                        "/acls",
                    ][self.input.pick(8)];
                    let value = [json!(null), json!([]), json!("x"), json!(true), json!([{}, 1, "a"])]
                        [self.input.pick(5)]
                    .clone();
                    if let Some(place) = reply.get_mut("data").and_then(|d| d.pointer_mut(data)) {
                        *place = value;
                    }
                }
                9 => *reply = [json!(null), json!([]), json!("x"), json!({})][self.input.pick(4)].clone(),
                10 => {
                    let command = reply["command"].clone();
                    *reply = json!([command, null, null, reply["correlationData"]]);
                }
                11 => topic = ["kw/x/birth", CONTROL][self.input.pick(2)].into(),
                _ => {
                    let len = self.input.pick(64);
                    raw = Some(self.input.bytes(len).to_vec());
                }
            }
        }
        let one_by_one = self.input.pick(2) == 1;
        let payloads: Vec<Vec<u8>> = match raw {
            Some(raw) => vec![raw],
            None if one_by_one => {
                replies.iter().map(|reply| json!({"responses": [reply]}).to_string().into_bytes()).collect()
            }
            None => vec![json!({"responses": replies}).to_string().into_bytes()],
        };
        self.waiting.extend(payloads.into_iter().map(|payload| Message { topic: topic.clone(), payload }));
    }

    /// Replies to a command about this client or role, in order: what it says of errors, and the reply. Only those that
    /// name the command.
    fn replies(&self, kind: &str, key: &str, name: &str) -> Vec<(Option<String>, &Value)> {
        let asked = self.asked.iter().filter(|(_, command)| command["command"] == kind);
        asked
            .filter(|(_, command)| key.is_empty() || command[key] == name)
            .filter_map(|(correlation, _)| self.heard.get(correlation))
            .filter(|reply| reply.is_object() && reply["command"] == kind)
            .map(|reply| (reply["error"].as_str().map(str::to_owned), reply))
            .collect()
    }

    fn says(&self, kind: &str, key: &str, name: &str, fine: &[&str]) -> bool {
        let replies = self.replies(kind, key, name);
        replies.iter().any(|(error, reply)| match error {
            None => reply.get("error").is_none_or(Value::is_null),
            Some(error) => fine.contains(&error.as_str()),
        })
    }

    /// Whether a look at the broker shows this identity, as we would have made it.
    fn ours(&self, identity: Identity, verifier: &str) -> bool {
        let name = identity.to_string();
        self.replies("getClient", "username", &name).iter().any(|(error, reply)| {
            let client = &reply["data"]["client"];
            let roles = client["roles"].as_array();
            error.is_none()
                && client["username"] == name
                && client["clientid"] == name
                && client["textdescription"] == format!("keywright/1 {verifier}")
                && client["groups"].as_array().is_none_or(Vec::is_empty)
                && roles.is_some_and(|r| r.len() == 1 && r[0]["rolename"] == format!("kw.{}", identity.unit))
        })
    }
}

/// The ACLs of a unit's role, by `docs/cloud.md`.
fn role_acls(unit: UnitId) -> [(&'static str, String); 3] {
    [
        ("publishClientSend", format!("kw/{unit}/birth")),
        ("publishClientSend", format!("kw/{unit}/up/#")),
        ("subscribePattern", format!("kw/{unit}/down/#")),
    ]
}

fn acls_are(acls: &Value, unit: UnitId) -> bool {
    let Some(acls) = acls.as_array() else { return false };
    let wanted = role_acls(unit);
    acls.len() == wanted.len()
        && wanted.iter().all(|(kind, topic)| {
            acls.iter().any(|acl| acl["acltype"] == *kind && acl["topic"] == *topic && acl["allow"] == true)
        })
}

fn credential(identity: Identity) -> Credential {
    Credential::from_password(format!("{identity}, a public test password"))
}

fn dialogue(input: &mut Input<'_>) {
    let mut acts: Vec<(Act, Identity)> = Vec::new();
    let flags = input.byte();
    let (mut clients, mut roles) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..1 + input.pick(4) {
        let (what, who) = (input.byte(), input.byte());
        let identity = Identity { unit: UnitId([1 + who % 2; 12]), generation: 1 + u32::from(who >> 1) % 3 };
        if acts.iter().any(|(_, known)| *known == identity) {
            continue;
        }
        let (verifier, role) = (credential(identity).verifier(identity), format!("kw.{}", identity.unit));
        let name = identity.to_string();
        if what & 0x40 != 0 {
            // It is there already, perhaps as somebody else made it.
            let description =
                if what & 0x80 == 0 { format!("keywright/1 {}", verifier.to_hex()) } else { "x".into() };
            clients.insert(
                name.clone(),
                json!({"username": name, "clientid": name, "textdescription": description,
                "roles": [{"rolename": role, "priority": 1}], "groups": []}),
            );
        }
        if what & 0x20 != 0 {
            let mut acls: Vec<Value> = role_acls(identity.unit)
                .into_iter()
                .map(|(kind, topic)| json!({"acltype": kind, "topic": topic, "priority": 0, "allow": true}))
                .collect();
            if what & 0x10 != 0 {
                acls.pop();
            }
            roles.insert(role.clone(), json!({"rolename": role, "acls": acls}));
        }
        let act = match what % 6 {
            0 | 1 => Act::Allow { identity, verifier, credential: Some(credential(identity)) },
            2 => Act::Allow { identity, verifier, credential: None },
            3 => Act::Remove { identity, last: what & 8 != 0 },
            4 => Act::Suspend { identity },
            _ => Act::Resume { identity },
        };
        acts.push((act, identity));
    }
    let unsafe_defaults = flags % 8 == 7;
    let broker = Broker {
        input: *input,
        clients,
        roles,
        unsafe_defaults,
        honest: true,
        waiting: VecDeque::new(),
        asked: Vec::new(),
        heard: BTreeMap::new(),
    };
    let mut talk = Dialogue::new(broker, "a broker", Duration::from_secs(60), PER_MESSAGE, TAG);
    if flags & 0x80 != 0 && !greet(&mut talk) {
        return;
    }
    let list: Vec<Act> = acts.iter().map(|(act, _)| act.clone()).collect();
    let result = talk.apply(&list);
    let broker = talk.link();
    let Ok(results) = result else {
        assert!(!broker.honest, "an honest broker is understood: {result:?}");
        return;
    };
    assert_eq!(results.len(), acts.len());
    for ((act, identity), result) in acts.iter().zip(&results) {
        judge(broker, act, *identity, result);
    }
    let identities: Vec<Identity> = acts.iter().map(|(_, identity)| *identity).collect();
    // What was asked before says nothing about now.
    broker.heard.clear();
    broker.asked.iter_mut().for_each(|(_, command)| *command = Value::Null);
    let result = talk.accepted(&identities);
    let broker = talk.link();
    let Ok(accepted) = result else {
        assert!(!broker.honest, "an honest broker is understood: {result:?}");
        return;
    };
    let let_in: BTreeSet<u32> = identities
        .iter()
        .filter(|identity| {
            broker
                .replies("getClient", "username", &identity.to_string())
                .iter()
                .any(|(error, reply)| error.is_none() && reply["data"]["client"]["disabled"] != true)
        })
        .map(|identity| identity.generation)
        .collect();
    assert!(accepted.is_subset(&let_in), "let in by nobody: {accepted:?}");
    assert!(!broker.honest || accepted == let_in);
}

fn greet(talk: &mut Dialogue<Broker<'_>>) -> bool {
    let result = talk.greet();
    let broker = talk.link();
    match &result {
        Ok(names) => {
            let said = broker.replies("getDefaultACLAccess", "", "");
            let acls =
                said.iter().find(|(error, _)| error.is_none()).expect("the defaults").1["data"]["acls"]
                    .clone();
            let allowed = |kind: &str| {
                let acl =
                    acls.as_array().and_then(|acls| acls.iter().find(|acl| acl["acltype"] == kind).cloned());
                acl.map(|acl| acl["allow"].clone())
            };
            for (kind, safe) in [
                ("publishClientSend", false),
                ("subscribe", false),
                ("publishClientReceive", true),
                ("unsubscribe", true),
            ] {
                assert_eq!(allowed(kind), Some(safe.into()), "unsafe defaults taken");
            }
            let said = broker.replies("listClients", "", "");
            let list =
                &said.iter().find(|(error, _)| error.is_none()).expect("the list").1["data"]["clients"];
            for name in names {
                let name = name.to_string();
                assert!(list.as_array().is_some_and(|list| list.iter().any(|have| *have == name)));
            }
            assert!(!broker.honest || names.len() == broker.clients.len());
        }
        Err(CloudError::UnsafeDefaults { .. }) => assert!(!broker.honest || broker.unsafe_defaults),
        Err(_) => assert!(!broker.honest, "an honest broker is understood: {result:?}"),
    }
    result.is_ok()
}

fn judge(broker: &Broker<'_>, act: &Act, identity: Identity, result: &Result<(), CloudError>) {
    let (name, role) = (identity.to_string(), format!("kw.{}", identity.unit));
    let verifier = credential(identity).verifier(identity).to_hex();
    if result.is_err() {
        // An honest broker refuses only what was not there, or was not ours.
        let known = matches!(result, Err(CloudError::Missing { .. } | CloudError::Conflict { .. }));
        assert!(!broker.honest || known, "{result:?}");
        return;
    }
    match act {
        Act::Allow { credential: Some(_), .. } => {
            let made = broker.says("createClient", "username", &name, &[]);
            let there = broker.says("createClient", "username", &name, &["Client already exists"]);
            assert!(made || (there && broker.ours(identity, &verifier)), "allowed by nobody: {name}");
            let made = broker.says("createRole", "rolename", &role, &[]);
            let there = broker.says("createRole", "rolename", &role, &["Role already exists"]);
            let same = broker.replies("getRole", "rolename", &role).iter().any(|(error, reply)| {
                error.is_none() && acls_are(&reply["data"]["role"]["acls"], identity.unit)
            });
            assert!(made || (there && same), "no role for {name}");
            if broker.honest {
                let role = broker.roles.get(&role);
                assert!(role.is_none_or(|role| acls_are(&role["acls"], identity.unit)));
            }
        }
        Act::Allow { .. } => assert!(broker.ours(identity, &verifier), "there, by nobody's word: {name}"),
        Act::Remove { last, .. } => {
            assert!(broker.says("deleteClient", "username", &name, &["Client not found"]));
            assert!(!last || broker.says("deleteRole", "rolename", &role, &["Role not found"]));
            assert!(!broker.honest || !broker.clients.contains_key(&name));
        }
        Act::Suspend { .. } => {
            assert!(broker.says("disableClient", "username", &name, &["Client not found"]))
        }
        Act::Resume { .. } => assert!(broker.says("enableClient", "username", &name, &[])),
    }
}
