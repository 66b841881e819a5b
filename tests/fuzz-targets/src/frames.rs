//! Frames against both roles of the exchange.
//!
//! Input: exchange, receiver, kind of sender, then what the sender does. The sender is either an outsider, who
//! has no key (raw bytes, or edits of genuine frames), or an insider, who seals a plaintext of his own under
//! the right keys: what a hostile agent, unit or manufacturer could send. Promises:
//! - an outsider's frame is accepted only if it is the genuine one, byte for byte;
//! - an insider's frame is accepted only if its fields say what they must;
//! - a refused frame leaves the state as it was: the genuine one is still taken, with the same outcome.

use std::sync::LazyLock;

use keywright_protocol::crypto::{self, Hash};
use keywright_protocol::exchange::agent::{Incoming, Pending, Request};
use keywright_protocol::exchange::device::SentConfirm;
use keywright_protocol::exchange::{Content, Ending, ExpectAck, ExpectResponse, Start};
use keywright_protocol::frame::{self, Frame, HEADER_LEN, TAG_LEN, type_byte};
use keywright_protocol::keys::{EphemeralSecret, Seed, Signer};
use keywright_protocol::schedule::{self, KeyContext, StepKeys, Th1Start};
use keywright_protocol::{
    AgentKey, BaseKey, Error, Generation, IdentityKey, ProductKey, PublicKey, Purpose, Suite, UnitId,
};
use serde_json::Value;

use crate::input::Input;
use crate::vectors::{KAT, OwnedTrust, array, bytes, long, number};

/// Who looks at a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiver {
    /// The agent, for a message 1.
    Request,
    /// The unit, for a message 2.
    Response,
    /// The agent, for a message 3.
    Confirm,
    /// The unit, for a message 4 or a NACK.
    Ending,
}

const RECEIVERS: [Receiver; 4] = [Receiver::Request, Receiver::Response, Receiver::Confirm, Receiver::Ending];

/// What an accepted frame said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Accepted {
    Request {
        unit: UnitId,
        n1: [u8; 16],
        firmware: [u8; 4],
        caps: u32,
        cloud: u32,
        identity: Option<[u8; 32]>,
    },
    Response {
        generation: u32,
        n2: [u8; 16],
        content: Vec<u8>,
    },
    Confirm {
        n3: [u8; 16],
        identity: Option<[u8; 32]>,
    },
    Activated {
        generation: u32,
        time: u64,
    },
    Refused {
        generation: u32,
        nack: Option<u8>,
    },
}

/// One exchange of the vectors: its frames and every secret behind them.
struct Exchange {
    suite: Suite,
    purpose: Purpose,
    kc: KeyContext,
    unit: UnitId,
    base: [u8; 32],
    ak: [u8; 32],
    generation: Generation,
    cloud_active: Generation,
    n1: [u8; 16],
    n2: [u8; 16],
    n3: [u8; 16],
    th1: Hash,
    th2: Hash,
    th3: Hash,
    e_d: [u8; 32],
    e_d_public: [u8; 32],
    shared: Hash,
    record_hash: Hash,
    identity: IdentityKey,
    agent: IdentityKey,
    trust: OwnedTrust,
    time: u64,
    reason: u8,
    /// Kenc ‖ Kmac of steps 1 to 5.
    keys: [[u8; 64]; 5],
    /// Messages 1, 2, 3, 4, 4 rejected, NACK.
    frames: [Vec<u8>; 6],
    plaintexts: [Vec<u8>; 6],
}

static EXCHANGES: LazyLock<Vec<Exchange>> = LazyLock::new(|| {
    ["s1_init", "s1_aku", "s1_cku", "s2_init", "s2_aku", "s2_cku"]
        .map(|name| Exchange::new(&KAT["exchanges"][name]))
        .into()
});

impl Exchange {
    fn new(x: &Value) -> Self {
        let (i, d) = (&x["inputs"], &x["derived"]);
        let suite = Suite::from_number(bytes(i, "suite")[0]).expect("a known suite");
        let purpose = Purpose::from_number(bytes(i, "purpose")[0]).expect("a known purpose");
        let (hardened, cloud) = (suite == Suite::Hardened, purpose == Purpose::CloudKeyUpdate);
        let key = |name: &str| IdentityKey::from_seed(&Seed::from_bytes(array(i, name)));
        let trust = &KAT["exchanges"]["s2_init"]["inputs"]["trust"];
        Self {
            suite,
            purpose,
            kc: KeyContext(array(i, "kc")),
            unit: UnitId(array(i, "uid")),
            base: array(i, "bk"),
            ak: array(i, "ak"),
            generation: Generation(number(i, "gen")),
            cloud_active: if cloud { Generation(number(i, "ck_active")) } else { Generation::NONE },
            n1: array(i, "n1"),
            n2: array(i, "n2"),
            n3: array(i, "n3"),
            th1: array(d, "th1"),
            th2: array(d, "th2"),
            th3: array(d, "th3"),
            e_d: if hardened { array(i, "e_d") } else { [0; 32] },
            e_d_public: if hardened { array(i, "e_d_pub") } else { [0; 32] },
            shared: if hardened { array(d, "ss") } else { [0; 32] },
            record_hash: if cloud { schedule::record_hash(&bytes(i, "record")) } else { [0; 32] },
            identity: key("dik_seed"),
            agent: key("agent_seed"),
            trust: OwnedTrust::new(trust),
            time: long(i, "time8"),
            reason: bytes(i, "reason")[0],
            keys: ["k1", "k2", "k3", "k4", "k5"].map(|k| array(d, k)),
            frames: ["frame1", "frame2", "frame3", "frame4", "frame4_rejected", "frame5_nack"]
                .map(|f| bytes(&x["frames"], f)),
            plaintexts: ["pt1", "pt2", "pt3", "pt4", "pt4_rejected", "pt5"]
                .map(|p| bytes(&x["plaintexts"], p)),
        }
    }

    fn hardened(&self) -> bool {
        self.suite == Suite::Hardened
    }

    fn cloud(&self) -> bool {
        self.purpose == Purpose::CloudKeyUpdate
    }

    /// The genuine frames a receiver takes, as indices.
    fn genuine(receiver: Receiver) -> &'static [usize] {
        match receiver {
            Receiver::Request => &[0],
            Receiver::Response => &[1],
            Receiver::Confirm => &[2],
            Receiver::Ending => &[3, 4, 5],
        }
    }

    /// What the genuine frame says.
    fn said(&self, which: usize) -> Accepted {
        let generation = self.generation.0;
        let p = &self.plaintexts[which];
        let identity = self.hardened().then(|| self.identity.public().0);
        match which {
            0 if self.cloud() => Accepted::Request {
                unit: self.unit,
                n1: self.n1,
                firmware: [0; 4],
                caps: 0,
                cloud: self.cloud_active.0,
                identity,
            },
            0 => Accepted::Request {
                unit: self.unit,
                n1: self.n1,
                firmware: field(p, 28),
                caps: u32::from_be_bytes(field(p, 32)),
                cloud: 0,
                identity,
            },
            1 if self.cloud() => Accepted::Response { generation, n2: self.n2, content: p[52..].to_vec() },
            1 => Accepted::Response { generation, n2: self.n2, content: self.ak.to_vec() },
            2 => Accepted::Confirm { n3: self.n3, identity: identity.filter(|_| !self.cloud()) },
            3 => Accepted::Activated { generation, time: self.time },
            4 => Accepted::Refused { generation, nack: None },
            _ => Accepted::Refused { generation, nack: Some(self.reason) },
        }
    }

    fn start(&self) -> Start {
        let (generation, ak) = (self.kc.as_unit().1, AgentKey::from_bytes(self.base));
        match self.purpose {
            Purpose::Init => {
                Start::init(self.suite, &self.kc.as_order(), &ProductKey::from_bytes(self.base), &self.unit)
            }
            Purpose::AgentKeyUpdate => Start::agent_key_update(self.suite, &self.unit, generation, &ak),
            Purpose::CloudKeyUpdate => {
                Start::cloud_key_update(self.suite, &self.unit, generation, &ak, self.cloud_active)
            }
        }
        .expect("the vectors hold no blanks")
    }

    fn waiting(&self) -> ExpectResponse {
        let ephemeral = EphemeralSecret::from_bytes(self.e_d);
        ExpectResponse::from_frame1(self.start(), self.n1, ephemeral, &self.frames[0])
    }

    fn pending(&self) -> Pending {
        Pending {
            suite: self.suite,
            purpose: self.purpose,
            kc: self.kc,
            unit: self.unit,
            generation: self.generation,
            agent_key: AgentKey::from_bytes(self.ak),
            n2: self.n2,
            th2: self.th2,
            record_hash: self.record_hash,
            identity: self.hardened().then(|| self.identity.public()),
        }
    }

    fn owing(&self) -> ExpectAck {
        ExpectAck::from(SentConfirm {
            suite: self.suite,
            purpose: self.purpose,
            kc: self.kc,
            unit: self.unit,
            base: BaseKey::from_bytes(self.base),
            ak: AgentKey::from_bytes(self.ak),
            generation: self.generation,
            th2: self.th2,
            n3: self.n3,
            frame3: &self.frames[2],
        })
    }

    /// Offers a frame; if it is refused, shows that the state is still good for the genuine one.
    fn offer(&self, receiver: Receiver, frame: &[u8]) -> Result<Accepted, Error> {
        match receiver {
            Receiver::Request => {
                let registered: PublicKey = self.identity.public();
                let open = |frame: &[u8]| {
                    let r = Request::open(frame, &BaseKey::from_bytes(self.base), Some(&registered))?;
                    if (r.suite(), r.purpose()) != (self.suite, self.purpose) {
                        // A request says itself what it is. One of another suite or purpose can be authentic under this base
                        // only if it is the genuine one of an exchange that has the same base.
                        assert!(
                            EXCHANGES.iter().any(|x| x.base == self.base && x.frames[0] == frame),
                            "a request that nobody sent: {:?} {:?}",
                            r.suite(),
                            r.purpose()
                        );
                        return Err(Error::Header);
                    }
                    Ok(Accepted::Request {
                        unit: r.unit(),
                        n1: *r.n1(),
                        firmware: r.firmware(),
                        caps: r.capabilities(),
                        cloud: r.cloud_active().0,
                        identity: r.identity().map(|key| key.0),
                    })
                };
                open(frame)
            }
            Receiver::Response => {
                let mut buffer = frame.to_vec();
                match self.waiting().handle(&mut buffer, &self.trust.get()) {
                    Ok(received) => Ok(response(&received)),
                    Err(dropped) => {
                        let mut genuine = self.frames[1].clone();
                        let received = dropped
                            .state
                            .handle(&mut genuine, &self.trust.get())
                            .expect("a refused frame changes nothing");
                        assert_eq!(response(&received), self.said(1));
                        Err(dropped.reason)
                    }
                }
            }
            Receiver::Confirm => {
                let pending = self.pending();
                let confirmed = pending.open_confirm(frame)?;
                Ok(Accepted::Confirm { n3: *confirmed.n3(), identity: confirmed.identity().map(|key| key.0) })
            }
            Receiver::Ending => match self.owing().handle(&mut frame.to_vec(), &self.trust.get()) {
                Ok(ending) => Ok(ending_of(&ending)),
                Err(dropped) => {
                    let ending = dropped
                        .state
                        .handle(&mut self.frames[3].clone(), &self.trust.get())
                        .expect("a refused frame changes nothing");
                    assert_eq!(ending_of(&ending), self.said(3));
                    Err(dropped.reason)
                }
            },
        }
    }

    /// Seals a plaintext as one who has all the keys of this step would.
    fn seal(&self, which: usize, plaintext: &[u8]) -> Vec<u8> {
        let genuine = &self.frames[which];
        let clear_len = match (which, self.hardened()) {
            (0, true) => 48,
            (0, false) => 16,
            (1, true) => 393,
            (1, false) => 0,
            _ => 16,
        };
        let padded = plaintext.len() / 16 * 16 + 16;
        let mut head = genuine[..HEADER_LEN + clear_len].to_vec();
        let body = u16::try_from(clear_len + 16 + padded + TAG_LEN).expect("inputs are short");
        head[6..8].copy_from_slice(&body.to_be_bytes());
        let (prev, keys) = match which {
            0 => ([0; 32], self.keys[0]),
            1 if self.hardened() => {
                // The transcript covers the length, so a hostile agent signs anew.
                let th1 = Th1Start::new(self.suite, &self.frames[0]).finish(&head[..341]);
                let signature = self.agent.sign(&[&b"OTAK2-AUTH\0"[..], &th1].concat()).expect("seeded");
                head[341..].copy_from_slice(&signature.0);
                let prk2 = schedule::prk2(&schedule::prk0(&BaseKey::from_bytes(self.base)), &self.shared);
                let step = frame::Step::Response;
                let ctx = crypto::sha256(&[&th1, &signature.0]);
                let keys = StepKeys::expand(&prk2, self.suite, self.purpose, step, &self.kc, &ctx)
                    .expect("64 bytes are below HKDF's limit");
                let mut both = [0; 64];
                both[..32].copy_from_slice(keys.enc());
                both[32..].copy_from_slice(keys.mac());
                (th1, both)
            }
            1 => (self.th1, self.keys[1]),
            2 => (self.th2, self.keys[2]),
            3 | 4 => (self.th3, self.keys[3]),
            _ => ([0; 32], self.keys[4]),
        };
        let (enc, mac) = keys.split_first_chunk::<32>().expect("64 bytes");
        let iv = [0x17; 16];
        let mut ct = plaintext.to_vec();
        ct.resize(padded, 0);
        crypto::cbc_encrypt(enc, &iv, &mut ct, plaintext.len()).expect("room for the padding");
        let tag = crypto::hmac(mac, &[&head, &prev, &iv, &ct]);
        [&head[..], &iv, &ct, &tag].concat()
    }

    /// The transcript that a sealed message 2 of this plaintext length has.
    fn th1_of(&self, frame2: &[u8]) -> Hash {
        let hashed = if self.hardened() { &frame2[..341] } else { &[][..] };
        Th1Start::new(self.suite, &self.frames[0]).finish(hashed)
    }

    /// What an insider's frame must say to be accepted; an independent reading of the field tables.
    fn judge(&self, which: usize, p: &[u8], frame: &[u8]) -> Option<Accepted> {
        let genuine = &self.plaintexts[which];
        let generation = self.generation.0;
        match which {
            0 => {
                let signed = |at: usize, unit: &[u8], n1: &[u8]| {
                    let purpose = [self.purpose.number()];
                    let message =
                        [b"OTAK2-REQ\0", &purpose[..], &self.kc.0, &self.e_d_public, unit, n1].concat();
                    // Ed25519 is deterministic: one key has one signature for a message in the vectors' code.
                    !self.hardened() || p[at..] == self.identity.sign(&message).expect("seeded").0
                };
                let identity = self.hardened().then(|| self.identity.public().0);
                if self.cloud() {
                    let len = if self.hardened() { 92 } else { 28 };
                    let good = p.len() == len
                        && p[..4] == [0x10, 0, 0, 0]
                        && p[24..28] == [0; 4]
                        && signed(28, &self.unit.0, &p[4..20]);
                    return good.then(|| Accepted::Request {
                        unit: self.unit,
                        n1: field(p, 4),
                        firmware: [0; 4],
                        caps: 0,
                        cloud: u32::from_be_bytes(field(p, 20)),
                        identity,
                    });
                }
                let len = if self.hardened() { 132 } else { 36 };
                let good = p.len() == len
                    && p[31] == 0
                    && (self.purpose == Purpose::Init || p[..12] == self.unit.0)
                    && p[..12].iter().any(|b| *b != 0)
                    && p[..12].iter().any(|b| *b != 0xff)
                    && (!self.hardened() || p[36..68] == self.identity.public().0)
                    && signed(68.min(p.len()), &p[..12], &p[12..28]);
                good.then(|| Accepted::Request {
                    unit: UnitId(field(p, 0)),
                    n1: field(p, 12),
                    firmware: field(p, 28),
                    caps: u32::from_be_bytes(field(p, 32)),
                    cloud: 0,
                    identity,
                })
            }
            1 => {
                if p.len() < 52 || p[..12] != self.unit.0 || p[16..32] != self.n1 {
                    return None;
                }
                let generation = u32::from_be_bytes(field(p, 12));
                let n2 = field(p, 32);
                if self.cloud() {
                    let record = &p[52..];
                    let len = usize::from(u16::from_be_bytes(field(p, 48)));
                    // The record's own rules are the target `records`'; here it must be the one whose
                    // certificates verify, under the right generation, or one that brings none.
                    let own = record.get(3..7).map(|g| g == &p[12..16]);
                    let good = len == record.len()
                        && p[50..52] == [0, 0]
                        && own == Some(true)
                        && generation > self.cloud_active.0;
                    return good.then(|| Accepted::Response { generation, n2, content: record.to_vec() });
                }
                let floor = if self.purpose == Purpose::Init { 0 } else { self.kc.as_unit().1.0 };
                let key = AgentKey::from_bytes(field(p, 48.min(p.len() - 32)));
                let good = p.len() == 112
                    && generation > floor
                    && !crypto::is_blank(&p[48..80])
                    && p[80..] == schedule::key_confirmation(&key, &self.th1_of(frame), &field(p, 0));
                good.then(|| Accepted::Response { generation, n2, content: p[48..80].to_vec() })
            }
            2 => {
                let good = p.len() == genuine.len() && p[..20] == genuine[..20] && p[36..] == genuine[36..];
                good.then(|| match self.said(2) {
                    Accepted::Confirm { identity, .. } => Accepted::Confirm { n3: field(p, 20), identity },
                    other => other,
                })
            }
            3 | 4 => {
                let good = p.len() == 28 && p[1..4] == [0; 3] && p[4..20] == self.n3;
                match p.first() {
                    Some(2) if good => {
                        Some(Accepted::Activated { generation, time: u64::from_be_bytes(field(p, 20)) })
                    }
                    Some(3) if good => Some(Accepted::Refused { generation, nack: None }),
                    _ => None,
                }
            }
            _ => {
                let good = p.len() == genuine.len() && p[1..] == genuine[1..];
                good.then(|| Accepted::Refused { generation, nack: Some(p[0]) })
            }
        }
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the caller looked at the length")
}

fn response(received: &keywright_protocol::exchange::Received<'_>) -> Accepted {
    Accepted::Response {
        generation: received.generation().0,
        n2: *received.n2(),
        content: match received.content() {
            Content::AgentKey(key) => key.expose().to_vec(),
            Content::CloudRecord(record) => record.as_bytes().to_vec(),
        },
    }
}

fn ending_of(ending: &Ending) -> Accepted {
    match ending {
        Ending::Activated(a) => Accepted::Activated { generation: a.generation().0, time: a.time() },
        Ending::Refused(r) => {
            Accepted::Refused { generation: r.generation().0, nack: r.nack().map(|reason| reason.0) }
        }
    }
}

/// What everybody does with a frame before looking for a key.
fn look(frame: &[u8]) {
    let peeked = Incoming::peek(frame);
    let Ok(view) = Frame::parse(frame) else {
        assert!(peeked.is_err(), "peek is no laxer than parse");
        return;
    };
    assert_eq!(view.bytes(), frame);
    assert!(!format!("{view:?}").is_empty());
    if let (Ok(header), Ok(_)) = (view.header(), peeked) {
        let again = header.to_bytes(frame.len() - HEADER_LEN).expect("the length came from two bytes");
        assert_eq!(again, frame[..HEADER_LEN], "a header that was understood is written the same way");
        assert_eq!(view.type_number(), type_byte(header.purpose, header.step));
    }
    let mut out = [0; frame::ERR_LEN];
    let len = frame::build_err(&view, frame::ERR_BUSY, &mut out).expect("13 bytes");
    let answer = Frame::parse(&out[..len]).expect("an ERR is a frame");
    assert_eq!((answer.err_reason(), answer.xid()), (Some(frame::ERR_BUSY), view.xid()));
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let x = &EXCHANGES[input.pick(EXCHANGES.len())];
    let receiver = RECEIVERS[input.pick(RECEIVERS.len())];
    let genuine = Exchange::genuine(receiver);
    let which = genuine[input.pick(genuine.len())];
    let how = input.byte();
    match how % 4 {
        0 => outsider(x, receiver, input.rest()),
        1 => {
            let mut frame = x.frames[which].clone();
            let others: Vec<&[u8]> =
                EXCHANGES.iter().flat_map(|x| x.frames.iter().map(Vec::as_slice)).collect();
            input.edit(&mut frame, &others);
            // Half of the time the length is put right, or nothing but length errors would be seen.
            if how & 4 != 0
                && let Ok(len) = u16::try_from(frame.len().saturating_sub(HEADER_LEN))
                && let Some(at) = frame.get_mut(6..8)
            {
                at.copy_from_slice(&len.to_be_bytes());
            }
            outsider(x, receiver, &frame);
        }
        _ => {
            let mut plaintext = x.plaintexts[which].clone();
            let others: Vec<&[u8]> =
                EXCHANGES.iter().flat_map(|x| x.plaintexts.iter().map(Vec::as_slice)).collect();
            input.edit(&mut plaintext, &others);
            if how & 4 != 0 {
                repair(x, which, &mut plaintext);
            }
            insider(x, receiver, which, &plaintext);
        }
    }
}

/// Makes again what the plaintext's own fields protect, as its sender could.
fn repair(x: &Exchange, which: usize, p: &mut [u8]) {
    match which {
        0 if x.hardened() && p.len() == if x.cloud() { 92 } else { 132 } => {
            let (unit, n1): (&[u8], &[u8]) =
                if x.cloud() { (&x.unit.0, &p[4..20]) } else { (&p[..12], &p[12..28]) };
            let purpose = [x.purpose.number()];
            let message = [b"OTAK2-REQ\0", &purpose[..], &x.kc.0, &x.e_d_public, unit, n1].concat();
            let signature = x.identity.sign(&message).expect("seeded");
            let at = p.len() - 64;
            p[at..].copy_from_slice(&signature.0);
        }
        1 if !x.cloud() && p.len() == 112 => {
            let th1 = x.th1_of(&x.seal(1, p));
            let key = AgentKey::from_bytes(field(p, 48));
            let kct = schedule::key_confirmation(&key, &th1, &field(p, 0));
            p[80..].copy_from_slice(&kct);
        }
        1 if x.cloud() && p.len() >= 52 => {
            if let Ok(len) = u16::try_from(p.len() - 52) {
                p[48..50].copy_from_slice(&len.to_be_bytes());
            }
        }
        _ => {}
    }
}

fn outsider(x: &Exchange, receiver: Receiver, frame: &[u8]) {
    look(frame);
    let expected = Exchange::genuine(receiver).iter().find(|which| x.frames[**which] == frame);
    match (x.offer(receiver, frame), expected) {
        (Ok(said), Some(which)) => assert_eq!(said, x.said(*which)),
        (Ok(said), None) => panic!("{receiver:?} accepted a frame that nobody sent: {said:?}"),
        (Err(error), Some(_)) => panic!("{receiver:?} refused the genuine frame: {error:?}"),
        (Err(_), None) => {}
    }
}

fn insider(x: &Exchange, receiver: Receiver, which: usize, plaintext: &[u8]) {
    let frame = x.seal(which, plaintext);
    look(&frame);
    let expected = x.judge(which, plaintext, &frame);
    match (x.offer(receiver, &frame), expected) {
        (Ok(said), expected) => assert_eq!(Some(said), expected, "accepted against the field table"),
        // A cloud record must also pass its own rules.
        (Err(_), Some(_)) if which == 1 && x.cloud() && plaintext != x.plaintexts[1] => {}
        (Err(error), Some(said)) => panic!("{receiver:?} refused {said:?}: {error:?}"),
        (Err(_), None) => {}
    }
}
