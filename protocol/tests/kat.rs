//! Every case of `otak_kat.json`, byte for byte, through the public API.

mod common;

use common::{array, bytes, read_json, u32_of, u64_of};
use keywright_protocol::anchors::{self, Bundle, NewBundle, Revocation};
use keywright_protocol::cert::{Cert, RegionFloor, Role, Trust};
use keywright_protocol::chain::Deployment;
use keywright_protocol::crypto;
use keywright_protocol::exchange::agent::{self, Credentials, Grant, Incoming, Pending, Request, Verdict};
use keywright_protocol::exchange::device::SentConfirm;
use keywright_protocol::exchange::{
    ConfirmEntropy, Content, Ending, ExpectAck, ExpectResponse, NackReason, RequestEntropy, ResponseEntropy,
    Start,
};
use keywright_protocol::frame::{self, Frame, Step};
use keywright_protocol::keys::{EphemeralSecret, Seed};
use keywright_protocol::merkle;
use keywright_protocol::record::{
    self, BundleState, CloudRecord, CloudRecordParts, Kind, Mark, MarkState, Order, RecordView,
    RevocationState, RootAnchor, StageOne, TrustRecord,
};
use keywright_protocol::relay::{Envelope, StationId, Token};
use keywright_protocol::schedule::{self, KeyContext, StepKeys, Th1Start};
use keywright_protocol::serial::{self, Channel, Decoder};
use keywright_protocol::{
    AgentKey, BaseKey, Error, Generation, IdentityKey, MAX_FRAME, ProductKey, ProductOrder, PublicKey,
    Purpose, Region, StorageSecret, StoreKey, Suite, UnitId, Xid,
};
use serde_json::Value;

fn kat() -> Value {
    read_json("otak_kat.json")
}

/// An owned [`Trust`].
struct TrustBox {
    root: PublicKey,
    root_epoch: u32,
    floors: Vec<RegionFloor>,
    time_floor: u64,
    order: ProductOrder,
    unit: UnitId,
    region: Region,
}

impl TrustBox {
    fn new(v: &Value) -> Self {
        Self {
            root: PublicKey(array(v, "root_pub")),
            root_epoch: u32_of(v, "root_epoch"),
            floors: bytes(v, "min_epochs")
                .chunks_exact(8)
                .map(|c| RegionFloor {
                    region: Region(u32::from_be_bytes(c[..4].try_into().unwrap())),
                    min_epoch: u32::from_be_bytes(c[4..].try_into().unwrap()),
                })
                .collect(),
            time_floor: u64_of(v, "time_floor"),
            order: ProductOrder(array(v, "po")),
            unit: UnitId(array(v, "uid")),
            region: Region(u32_of(v, "region")),
        }
    }

    fn get(&self) -> Trust<'_> {
        Trust {
            root: &self.root,
            root_epoch: self.root_epoch,
            floors: &self.floors,
            time_floor: self.time_floor,
            order: self.order,
            unit: self.unit,
            region: self.region,
            region_cert: None,
        }
    }
}

fn default_trust(kat: &Value) -> TrustBox {
    TrustBox::new(&kat["exchanges"]["s2_init"]["inputs"]["trust"])
}

fn seed_key(v: &Value, key: &str) -> IdentityKey {
    IdentityKey::from_seed(&Seed::from_bytes(array(v, key)))
}

fn suite(v: &Value) -> Suite {
    Suite::from_number(bytes(v, "suite")[0]).unwrap()
}

fn purpose(v: &Value) -> Purpose {
    Purpose::from_number(bytes(v, "purpose")[0]).unwrap()
}

fn start(
    suite: Suite,
    purpose: Purpose,
    kc: KeyContext,
    base: &[u8; 32],
    unit: &UnitId,
    cloud_active: Generation,
) -> Start {
    let ak = AgentKey::from_bytes(*base);
    match purpose {
        Purpose::Init => {
            let pk = ProductKey::from_bytes(*base);
            Start::init(suite, &kc.as_order(), &pk, unit)
        }
        Purpose::AgentKeyUpdate => Start::agent_key_update(suite, unit, kc.as_unit().1, &ak),
        Purpose::CloudKeyUpdate => Start::cloud_key_update(suite, unit, kc.as_unit().1, &ak, cloud_active),
    }
    .unwrap()
}

#[test]
fn derived_keys() {
    let kat = kat();
    let i = &kat["exchanges"]["s2_init"]["inputs"];
    let unit = UnitId(array(i, "uid"));
    let secret = StorageSecret::from_bytes(array(i, "storage_secret"));
    let dik = IdentityKey::derive(&unit, &secret);
    assert_eq!(dik.public().0, array(i, "dik_pub"));
    assert_eq!(seed_key(i, "dik_seed").public(), dik.public());
    assert_eq!(*StoreKey::derive(&unit, &secret).expose(), array(i, "k_store"));
    let region = anchors::region_seed(
        &array(i, "root_secret"),
        Region(u32_of(i, "region_id")),
        u32_of(i, "region_epoch"),
    );
    assert_eq!(*region.expose(), array(i, "region_seed"));
    let device = anchors::device_seed(&region, &unit, u32_of(i, "device_epoch"));
    assert_eq!(*device.expose(), array(i, "device_seed"));
    for (seed, public) in [
        ("root_seed", "root_pub"),
        ("region_seed", "region_pub"),
        ("agent_seed", "agent_pub"),
        ("device_seed", "device_pub"),
        ("station_seed", "station_pub"),
        ("signer_seed", "signer_pub"),
    ] {
        assert_eq!(seed_key(i, seed).public().0, array(i, public), "{seed}");
    }
}

/// Opens a frame with the vector's keys and compares clear part and plaintext.
fn check_inside(name: &str, bytes_: &[u8], clear: &[u8], k: &[u8; 64], prev: &[u8], pt: &[u8]) {
    let body = &bytes_[12..];
    let (got_clear, rest) = body.split_at(clear.len());
    assert_eq!(got_clear, clear, "{name}: clear");
    let (iv, rest) = rest.split_first_chunk::<16>().unwrap();
    let (ct, tag) = rest.split_last_chunk::<32>().unwrap();
    let computed = crypto::hmac(&k[32..], &[&bytes_[..12 + clear.len()], prev, iv, ct]);
    assert_eq!(computed, *tag, "{name}: tag");
    let mut ct = ct.to_vec();
    let len = crypto::cbc_decrypt(k[..32].try_into().unwrap(), iv, &mut ct).unwrap();
    assert_eq!(&ct[..len], pt, "{name}: plaintext");
}

/// Runs one exchange of the vectors in both roles on top of `current`; returns
/// the committed snapshot.
fn run_exchange(kat: &Value, name: &str, current: &[u8], record_generation: u32) -> Vec<u8> {
    let x = &kat["exchanges"][name];
    let (i, d, f) = (&x["inputs"], &x["derived"], &x["frames"]);
    let (suite, purpose) = (suite(i), purpose(i));
    let hardened = suite == Suite::Hardened;
    let cloud = purpose == Purpose::CloudKeyUpdate;
    let unit = UnitId(array(i, "uid"));
    let kc = KeyContext(array(i, "kc"));
    let base_bytes: [u8; 32] = array(i, "bk");
    let base = BaseKey::from_bytes(base_bytes);
    let secret = StorageSecret::from_bytes(array(i, "storage_secret"));
    let store = StoreKey::derive(&unit, &secret);
    let dik = IdentityKey::derive(&unit, &secret);
    let ephemeral = |key: &str| EphemeralSecret::from_bytes(if hardened { array(i, key) } else { [0; 32] });
    let trust = if hardened { TrustBox::new(&i["trust"]) } else { default_trust(kat) };
    let generation = Generation(u32_of(i, "gen"));
    let ak = AgentKey::from_bytes(array(i, "ak"));

    // The contexts are what the constructors make.
    match purpose {
        Purpose::Init => assert_eq!(kc, KeyContext::order(&ProductOrder(array(i, "po")))),
        _ => assert_eq!(kc, KeyContext::unit(&unit, kc.as_unit().1)),
    }

    // Message 1.
    let cloud_active = if cloud { Generation(u32_of(i, "ck_active")) } else { Generation::NONE };
    let fw: [u8; 3] = if cloud { [0; 3] } else { bytes(i, "fw")[..3].try_into().unwrap() };
    let mut out = vec![0u8; MAX_FRAME];
    let (n, waiting) = start(suite, purpose, kc, &base_bytes, &unit, cloud_active)
        .request(
            &dik,
            fw,
            RequestEntropy {
                xid: Xid(u32_of(i, "xid")),
                n1: array(i, "n1"),
                iv: array(i, "iv1"),
                ephemeral: ephemeral("e_d"),
            },
            &mut out,
        )
        .unwrap();
    let frame1 = out[..n].to_vec();
    assert_eq!(frame1, bytes(f, "frame1"), "{name} frame1");

    // Message 2.
    assert_eq!(Incoming::peek(&frame1).unwrap(), Incoming::Request { suite, purpose, kc });
    let registered = dik.public();
    let request = Request::open(&frame1, &base, Some(&registered)).unwrap();
    assert_eq!(request.unit(), unit);
    assert_eq!(*request.n1(), array(i, "n1"));
    assert_eq!(request.identity(), hardened.then_some(registered));
    assert_eq!(request.cloud_active(), cloud_active);
    if !cloud {
        assert_eq!(request.firmware(), array(i, "fw"));
        assert_eq!(request.capabilities(), u32_of(i, "caps"));
    }
    let agent_signer = seed_key(i, "agent_seed");
    let chain: Vec<Cert> = bytes(&kat["exchanges"]["s2_init"]["inputs"], "certs")
        .chunks_exact(148)
        .map(|c| Cert::from_slice(c).unwrap())
        .collect();
    let credentials = Credentials { region: &chain[0], agent: &chain[1], signer: &agent_signer };
    let credentials = hardened.then_some(&credentials);
    let record_bytes = if cloud { bytes(i, "record") } else { vec![] };
    let grant = if cloud {
        Grant::CloudRecord { record: CloudRecord::parse(&record_bytes).unwrap() }
    } else {
        Grant::AgentKey { generation, key: &ak }
    };
    let (n, pending) = request
        .respond(
            &grant,
            &base,
            credentials,
            &ResponseEntropy { n2: array(i, "n2"), iv: array(i, "iv2"), ephemeral: ephemeral("e_a") },
            &mut out,
        )
        .unwrap();
    let frame2 = out[..n].to_vec();
    assert_eq!(frame2, bytes(f, "frame2"), "{name} frame2");
    assert_eq!(pending.th2, array(d, "th2"));
    assert_eq!(pending.generation, generation);
    assert_eq!(pending.agent_key, ak);

    // The unit takes it, commits and reads back.
    let mut buffer = frame2.clone();
    let received = waiting.handle(&mut buffer, &trust.get()).unwrap();
    assert_eq!(received.generation(), generation);
    assert_eq!(*received.th2(), array(d, "th2"));
    assert_eq!(*received.n2(), array(i, "n2"));
    match received.content() {
        Content::AgentKey(key) => assert_eq!(*key, ak),
        Content::CloudRecord(record) => assert_eq!(record.as_bytes(), record_bytes),
    }
    let current_view = match RecordView::open_product_key(current) {
        Ok((view, _)) => view,
        Err(_) => RecordView::parse(current, &unit, &store).unwrap(),
    };
    let mut area = vec![0xffu8; record::MAX_RECORD];
    let image =
        record::build_snapshot(&received, &current_view, Generation(record_generation), &store, &mut area)
            .unwrap();
    area.truncate(image.layout().total_len());
    assert_eq!(
        record::read_valid(&area, &unit, &store).unwrap_err(),
        Error::CommitBlank,
        "nothing counts before COMMIT"
    );
    let at = image.layout().mark_at(Mark::Commit);
    area[at..at + 16].copy_from_slice(&image.mark(Mark::Commit));
    let (view, committed) = record::read_valid(&area, &unit, &store).unwrap();
    let mut live = received.commit(&committed).unwrap();
    let mut resumed =
        ExpectAck::resume(&view, BaseKey::from_bytes(base_bytes), Xid(u32_of(i, "xid"))).unwrap();

    // Message 3, live and after a reboot.
    let entropy = ConfirmEntropy { n3: array(i, "n3"), iv: array(i, "iv3") };
    let n = live.confirm(&dik, &entropy, &mut out).unwrap();
    let frame3 = out[..n].to_vec();
    assert_eq!(frame3, bytes(f, "frame3"), "{name} frame3");
    let n = resumed.confirm(&dik, &entropy, &mut out).unwrap();
    assert_eq!(out[..n], frame3, "{name} frame3 after a reboot");

    // Messages 4 and NACK.
    assert_eq!(Incoming::peek(&frame3).unwrap(), Incoming::Confirm { suite, purpose, unit, generation });
    let confirmed = pending.open_confirm(&frame3).unwrap();
    assert_eq!(*confirmed.n3(), array(i, "n3"));
    assert_eq!(*confirmed.th3(), array(d, "th3"));
    assert_eq!(confirmed.identity(), (hardened && !cloud).then_some(registered));
    let time = u64_of(i, "time8");
    let n = pending.ack(&confirmed, Verdict::Activated, time, &array(i, "iv4"), &mut out).unwrap();
    let frame4 = out[..n].to_vec();
    assert_eq!(frame4, bytes(f, "frame4"), "{name} frame4");
    let iv = array(i, "iv4_rejected");
    let n = pending.ack(&confirmed, Verdict::Rejected, time, &iv, &mut out).unwrap();
    let frame4_rejected = out[..n].to_vec();
    assert_eq!(frame4_rejected, bytes(f, "frame4_rejected"), "{name}");
    let reason = NackReason(bytes(i, "reason")[0]);
    let n = agent::nack(&frame3, &kc, &base, reason, credentials, &array(i, "iv5"), &mut out).unwrap();
    let frame5 = out[..n].to_vec();
    assert_eq!(frame5, bytes(f, "frame5_nack"), "{name}");

    let sent = || {
        let mut state =
            ExpectAck::resume(&view, BaseKey::from_bytes(base_bytes), Xid(u32_of(i, "xid"))).unwrap();
        state.confirm(&dik, &entropy, &mut vec![0u8; MAX_FRAME]).unwrap();
        state
    };
    match live.handle(&mut frame4.clone(), &trust.get()).unwrap() {
        Ending::Activated(a) => assert_eq!((a.generation(), a.time()), (generation, time)),
        other => panic!("{name}: {other:?}"),
    }
    for (mut refusal, nack) in [(frame4_rejected.clone(), None), (frame5.clone(), Some(reason))] {
        match sent().handle(&mut refusal, &trust.get()).unwrap() {
            Ending::Refused(r) => assert_eq!((r.generation(), r.nack()), (generation, nack)),
            other => panic!("{name}: {other:?}"),
        }
    }

    // Every intermediate, computed by the schedule's own functions.
    let prk0 = schedule::prk0(&base);
    assert_eq!(*prk0.expose(), array(d, "prk0"), "{name} prk0");
    let message2 = if hardened { &frame2[..341] } else { &[][..] };
    let th1 = Th1Start::new(suite, &frame1).finish(message2);
    assert_eq!(th1, array(d, "th1"), "{name} th1");
    let keys = |prk: &keywright_protocol::keys::Prk, step, ctx: &[u8]| {
        let k = StepKeys::expand(prk, suite, purpose, step, &kc, ctx).unwrap();
        [*k.enc(), *k.mac()].concat()
    };
    let k2 = if hardened {
        let ss = crypto::x25519(&ephemeral("e_a"), &array(i, "e_d_pub")).unwrap();
        assert_eq!(ss, array(d, "ss"), "{name} ss");
        let prk2 = schedule::prk2(&prk0, &ss);
        assert_eq!(*prk2.expose(), array(d, "prk2"), "{name} prk2");
        let ctx = crypto::sha256(&[&th1, &frame2[341..405]]);
        keys(&prk2, Step::Response, &ctx)
    } else {
        keys(&prk0, Step::Response, &th1)
    };
    let th2 = schedule::th2(suite, &th1, &frame2);
    let prk3 = schedule::prk3(&th2, &ak);
    assert_eq!(*prk3.expose(), array(d, "prk3"), "{name} prk3");
    if !cloud {
        let pt2 = bytes(&x["plaintexts"], "pt2");
        let kct = schedule::key_confirmation(&ak, &th1, pt2[..80].try_into().unwrap());
        assert_eq!(kct, array(d, "kct"), "{name} kct");
    }
    let h3 = crypto::sha256(&[&frame3]);
    for (k, got) in [
        ("k1", keys(&prk0, Step::Request, &[])),
        ("k2", k2),
        ("k3", keys(&prk3, Step::Confirm, &[])),
        ("k4", keys(&prk3, Step::Ack, &[])),
        ("k5", keys(&prk0, Step::Nack, &h3)),
    ] {
        assert_eq!(got, bytes(d, k), "{name} {k}");
    }
    let th3 = schedule::th3(suite, &th2, &frame3);
    let zero = [0u8; 32];
    for (frame, clear, k, prev, pt) in [
        (&frame1, "clear1", "k1", &zero, "pt1"),
        (&frame2, "clear2", "k2", &th1, "pt2"),
        (&frame3, "clear3", "k3", &th2, "pt3"),
        (&frame4, "clear4", "k4", &th3, "pt4"),
        (&frame4_rejected, "clear4", "k4", &th3, "pt4_rejected"),
        (&frame5, "clear5", "k5", &zero, "pt5"),
    ] {
        let (clear, pt) = (bytes(&x["clear"], clear), bytes(&x["plaintexts"], pt));
        check_inside(name, frame, &clear, &array(d, k), prev, &pt);
    }
    area
}

fn record_named<'a>(kat: &'a Value, name: &str) -> &'a Value {
    kat["records"].as_array().unwrap().iter().find(|r| r["name"] == name).unwrap()
}

#[test]
fn exchanges_both_roles_and_the_records_they_make() {
    let kat = kat();
    let kind1 = bytes(record_named(&kat, "kind1_product_key"), "bytes");

    let init = run_exchange(&kat, "s1_init", &kind1, 2);
    let aku = run_exchange(&kat, "s1_aku", &init, 4);
    run_exchange(&kat, "s1_cku", &aku, 5);

    let init = run_exchange(&kat, "s2_init", &kind1, 2);
    assert_eq!(init, bytes(record_named(&kat, "kind2_pending_s2_init"), "bytes"));
    let aku = run_exchange(&kat, "s2_aku", &init, 4);
    let cku = run_exchange(&kat, "s2_cku", &aku, 5);
    assert_eq!(cku, bytes(record_named(&kat, "kind3_pending_s2_cku"), "bytes"));
}

#[test]
fn wire_bytes_are_what_the_protocol_promises() {
    let kat = kat();
    let sum = |name: &str| -> usize {
        (1..=4).map(|n| bytes(&kat["exchanges"][name]["frames"], &format!("frame{n}")).len()).sum()
    };
    assert_eq!(sum("s1_init"), 544);
    assert_eq!(sum("s2_init"), 1_129);
}

#[test]
fn err_frame() {
    let kat = kat();
    let err = &kat["err"];
    let frame1 = bytes(&kat["exchanges"]["s2_init"]["frames"], "frame1");
    let mut out = [0; frame::ERR_LEN];
    let answered = Frame::parse(&frame1).unwrap();
    let n = frame::build_err(&answered, frame::ERR_BUSY, &mut out).unwrap();
    let expected = bytes(err, "bytes");
    // The vector answers the frame with its own xid; build for that one.
    let mut named = frame1.clone();
    named[8..12].copy_from_slice(&bytes(err, "xid"));
    named[3] = expected[3];
    let answered = Frame::parse(&named).unwrap();
    assert_eq!(frame::build_err(&answered, bytes(err, "reason")[0], &mut out), Ok(n));
    assert_eq!(out[..n], expected);
    let parsed = Frame::parse(&expected).unwrap();
    assert_eq!(parsed.err_reason(), Some(1));
    assert_eq!(parsed.header(), Err(Error::PeerBusy(1)));
}

fn role(v: &Value) -> Role {
    match bytes(v, "role")[0] {
        1 => Role::Region,
        2 => Role::Agent,
        3 => Role::Station,
        4 => Role::DeviceTier,
        5 => Role::FirmwareSigner,
        other => panic!("role {other}"),
    }
}

fn verify_cert(cert: &[u8], args: &Value) -> Result<(), Error> {
    let trust = TrustBox::new(&args["trust"]);
    trust
        .get()
        .verify(
            &Cert::from_slice(cert)?,
            role(args),
            u32_of(args, "issuer"),
            &array(args, "scope"),
            &PublicKey(array(args, "signer_pub")),
        )
        .map(|_| ())
}

#[test]
fn certificates_verify_and_are_reproduced() {
    let kat = kat();
    let i = &kat["exchanges"]["s2_init"]["inputs"];
    let (root, region) = (seed_key(i, "root_seed"), seed_key(i, "region_seed"));
    for case in kat["certificates"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let cert = Cert::from_slice(&bytes(case, "bytes")).unwrap();
        verify_cert(&cert.0, &case["args"]).unwrap_or_else(|e| panic!("{name}: {e}"));
        let fields = cert.fields().unwrap();
        let issuer = match fields.role {
            Role::Region | Role::FirmwareSigner => &root,
            _ => &region,
        };
        assert_eq!(fields.sign(issuer).unwrap(), cert, "{name}");
        let trust = TrustBox::new(&case["args"]["trust"]);
        let trust = trust.get();
        let region_cert = Cert::from_slice(&bytes(&kat["certificates"][0], "bytes")).unwrap();
        let verified = trust.verify_region(&region_cert).unwrap();
        match fields.role {
            Role::Region => assert_eq!(verified.subject(), fields.subject),
            Role::Agent => {
                trust.verify_agent_chain(&region_cert, &cert).unwrap();
            }
            Role::Station => {
                trust.verify_station(&verified, &cert).unwrap();
                assert_eq!(
                    trust.verify_agent_chain(&region_cert, &cert),
                    Err(Error::CertRole),
                    "a station is no agent"
                );
            }
            Role::DeviceTier => {
                trust.verify_device_tier(&verified, &cert).unwrap();
            }
            Role::FirmwareSigner => {
                trust.verify_firmware_signer(&cert, &array(i, "model")).unwrap();
            }
        }
    }
}

fn relay_verify(bytes_: &[u8], a: &Value) -> Result<Envelope, Error> {
    Envelope::verify(
        bytes_,
        &PublicKey(array(a, "station_pub")),
        &StationId { region: Region(u32_of(a, "region_id")), station: u32_of(a, "station_id") },
        &ProductOrder(array(a, "po")),
        &bytes(a, "frame1"),
        u64_of(a, "last_counter"),
    )
}

#[test]
fn relay_envelope() {
    let kat = kat();
    let (case, i) = (&kat["relay"], &kat["relay"]["inputs"]);
    let envelope = Envelope {
        station: StationId { region: Region(u32_of(i, "region_id")), station: u32_of(i, "station_id") },
        order: ProductOrder(array(i, "po")),
        token: Token::from_bytes(array(i, "token")),
        counter: u64_of(i, "counter"),
        unit: UnitId(array(i, "uid")),
        identity: PublicKey(array(i, "dik_pub")),
        frame1_hash: crypto::sha256(&[&bytes(i, "frame1")]),
    };
    let signed = envelope.sign(&seed_key(i, "station_seed")).unwrap();
    assert_eq!(signed[..], bytes(case, "bytes"));
    assert_eq!(relay_verify(&signed, &case["args"]), Ok(envelope.clone()));
    assert_eq!(Envelope::peek_station(&signed), Ok(envelope.station));
}

fn bundle_verify<'a>(b: &'a [u8], a: &Value) -> Result<Bundle<'a>, Error> {
    Bundle::verify(
        b,
        &RootAnchor { epoch: u32_of(a, "root_epoch"), key: PublicKey(array(a, "root_pub")) },
        &BundleState { hash: array(a, "prev_hash"), next_commit: array(a, "next_commit") },
    )
}

#[test]
fn bundles_verify_in_a_row_and_are_reproduced() {
    let kat = kat();
    let cases = kat["bundles"].as_array().unwrap();
    let first = &cases[0]["args"];
    let mut anchor =
        RootAnchor { epoch: u32_of(first, "root_epoch"), key: PublicKey(array(first, "root_pub")) };
    let mut state = BundleState { hash: array(first, "prev_hash"), next_commit: array(first, "next_commit") };
    for case in cases {
        let b = bytes(case, "bytes");
        let verified = bundle_verify(&b, &case["args"]).unwrap();
        // A unit that slept walks the bundles one by one to the same state.
        let walked = Bundle::verify(&b, &anchor, &state).unwrap();
        (anchor, state) = (*walked.anchor(), *walked.state());
        assert_eq!(*verified.state(), state);
        assert_eq!(state.hash, array(case, "hash"));
        let next = seed_key(case, "next_root_seed").public();
        assert_eq!(state.next_commit, crypto::sha256(&[&next.0]));
        let floors: Vec<RegionFloor> = verified.floors().iter().collect();
        let (mut scratch, mut out) = (vec![0; b.len()], vec![0; b.len()]);
        let n = NewBundle {
            epoch: anchor.epoch,
            prev: array(&case["args"], "prev_hash"),
            next_commit: state.next_commit,
            valid_from: verified.valid_from(),
            floors: &floors,
        }
        .sign(&seed_key(case, "old_root_seed"), &seed_key(case, "new_root_seed"), &mut scratch, &mut out)
        .unwrap();
        assert_eq!(out[..n], b);
        assert_eq!(n, anchors::bundle_len(floors.len()));
    }
}

fn revocation_verify<'a>(b: &'a [u8], a: &Value) -> Result<Revocation<'a>, Error> {
    let anchor = RootAnchor { epoch: u32_of(a, "root_epoch"), key: PublicKey(array(a, "root_pub")) };
    Revocation::verify(b, &anchor, u32_of(a, "seq"))
}

#[test]
fn revocation() {
    let kat = kat();
    let case = &kat["revocation"];
    let b = bytes(case, "bytes");
    let verified = revocation_verify(&b, &case["args"]).unwrap();
    assert_eq!(verified.seq(), 9);
    assert_eq!(verified.floors().min_epoch(Region(7)), Some(3));
    assert_eq!(verified.floors().min_epoch(Region(8)), None);
    let floors: Vec<RegionFloor> = verified.floors().iter().collect();
    let (mut scratch, mut out) = (vec![0; b.len()], vec![0; b.len()]);
    let root = seed_key(case, "root_seed");
    let epoch = u32_of(&case["args"], "root_epoch");
    let n = anchors::sign_revocation(9, epoch, &floors, &root, &mut scratch, &mut out).unwrap();
    assert_eq!(out[..n], b);
    assert_eq!(n, anchors::revocation_len(floors.len()));
}

fn chain_verify(b: &[u8], a: &Value) -> Result<Deployment, Error> {
    let trust = TrustBox::new(&a["trust"]);
    Deployment::verify(b, &trust.get(), u64_of(a, "stored_seq"), &array(a, "stored_digest"))
}

#[test]
fn deployment_chain() {
    let kat = kat();
    let (case, i) = (&kat["chain"], &kat["chain"]["inputs"]);
    let deployment = Deployment {
        unit: UnitId(array(i, "uid")),
        image_sha256: array(i, "image_sha"),
        merkle_root: array(i, "merkle_root"),
        manifest_digest: array(i, "manifest_digest"),
        seq: u64_of(i, "seq64"),
        security_counter: u32_of(i, "security_counter"),
    };
    let signed =
        deployment.sign(&Cert(array(i, "t_cert")), &Cert(array(i, "r_cert")), &seed_key(i, "dev")).unwrap();
    assert_eq!(signed[..], bytes(case, "bytes"));
    assert_eq!(chain_verify(&signed, &case["args"]), Ok(deployment));
    // The same deployment again is accepted, which makes a repeat harmless.
    let trust = default_trust(&kat);
    let again = Deployment::verify(&signed, &trust.get(), deployment.seq, &deployment.manifest_digest);
    assert_eq!(again, Ok(deployment));
}

/// The image of the vectors' rule.
fn image(len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 32);
    for i in 0u32.. {
        if out.len() >= len {
            break;
        }
        out.extend(crypto::sha256(&[b"OTAK-KAT/image", &i.to_be_bytes()]));
    }
    out.truncate(len);
    out
}

#[test]
fn merkle_trees() {
    let kat = kat();
    for (name, case) in kat["merkle"]["cases"].as_object().unwrap() {
        let image = image(u64_of(case, "len") as usize);
        if case.get("image").is_some() {
            assert_eq!(image, bytes(case, "image"), "{name}");
        }
        assert_eq!(crypto::sha256(&[&image]), array(case, "sha256"), "{name}");
        let leaves: Vec<[u8; 32]> = image.chunks(1024).map(merkle::leaf).collect();
        assert_eq!(leaves.concat(), bytes(case, "leaves"), "{name}");
        let groups: Vec<[u8; 32]> =
            (0..).zip(leaves.chunks(32)).map(|(g, l)| merkle::group(g, l).unwrap()).collect();
        assert_eq!(groups.concat(), bytes(case, "groups"), "{name}");
        let root = array(case, "root");
        assert_eq!(merkle::root_of(&image), Ok(root), "{name}");
        merkle::verify_image(&root, &image).unwrap();
        merkle::verify_groups(&root, image.len() as u64, &groups).unwrap();
        for (g, (leaves, blocks)) in leaves.chunks(32).zip(image.chunks(32 * 1024)).enumerate() {
            merkle::verify_group(&groups[g], g as u32, leaves).unwrap();
            for (leaf, block) in leaves.iter().zip(blocks.chunks(1024)) {
                merkle::verify_block(leaf, block).unwrap();
            }
        }
        let mut wrong = groups.clone();
        wrong[0][0] ^= 1;
        assert_eq!(merkle::verify_groups(&root, image.len() as u64, &wrong), Err(Error::Merkle));
        assert_eq!(merkle::verify_groups(&root, image.len() as u64 + 1, &groups), Err(Error::Merkle));
    }
}

#[test]
fn records_read_and_are_reproduced() {
    let kat = kat();
    for case in kat["records"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let area = bytes(case, "bytes");
        let unit = UnitId(array(&case["args"], "uid"));
        let secret: [u8; 32] = array(&case["args"], "secret");
        let store = StoreKey::derive(&unit, &StorageSecret::from_bytes(secret));
        assert_eq!(*store.expose(), array(case, "k_store"), "{name}");
        let (view, _) = record::read_valid(&area, &unit, &store).unwrap();
        assert_eq!(record::stored_len(&area), Ok(area.len()), "{name}");
        for (key, mark) in [("COMMIT", Mark::Commit), ("CONFIRM", Mark::Confirm), ("RETIRE", Mark::Retire)] {
            let expected = match case["marks"][key].as_str().unwrap() {
                "set" => MarkState::Set,
                "blank" => MarkState::Blank,
                "torn" => MarkState::Torn,
                other => panic!("{other}"),
            };
            assert_eq!(view.mark(mark), expected, "{name} {key}");
            if expected == MarkState::Set {
                let at = view.layout().mark_at(mark);
                assert_eq!(area[at..at + 16], mark.bytes(view.mac()), "{name} {key}");
            }
        }
        let mut out = vec![0u8; record::MAX_RECORD];
        match view.kind() {
            Kind::ProductKey => {
                let (_, key) = RecordView::open_product_key(&area).unwrap();
                assert_eq!(*key.expose(), secret);
                let n = StageOne {
                    order: view.order().unwrap(),
                    product_key: &key,
                    root: view.root_anchor().unwrap(),
                    bundle: view.bundle(),
                }
                .build(&mut out)
                .unwrap();
                assert_eq!(out[..n], area, "{name}");
            }
            Kind::Trust => {
                let image = TrustRecord {
                    root: view.root_anchor().unwrap(),
                    bundle: view.bundle(),
                    revocation: view.revocation(),
                    manifest_floor: view.manifest_floor(),
                    time_floor: view.time_floor(),
                }
                .build(&unit, view.generation(), view.prev_generation(), &store, &mut out)
                .unwrap();
                let n = image.layout().body_len();
                assert_eq!(out[..n], area[..n], "{name}");
                assert_eq!(
                    view.revocation(),
                    Some(RevocationState { seq: 9, region: Region(7), min_epoch: 3 })
                );
            }
            // Kinds 2 and 3 are reproduced by the exchanges that make them.
            Kind::AgentKey | Kind::AgentAndCloud | Kind::Boot => {
                assert_eq!(
                    view.order(),
                    Some(Order {
                        order: ProductOrder(*b"PO-2025-000042\0\0"),
                        region: Region(7),
                        minimum_suite: 2
                    })
                );
                assert_eq!(
                    view.confirmation().is_none(),
                    view.mark(Mark::Confirm) == MarkState::Set,
                    "{name}: TLV 9 is read only while CONFIRM is unset"
                );
            }
        }
    }
}

#[test]
fn cloud_record_is_reproduced() {
    let kat = kat();
    let i = &kat["exchanges"]["s2_cku"]["inputs"];
    let raw = bytes(i, "record");
    let record = CloudRecord::parse(&raw).unwrap();
    let (generation, key) = record.cloud_key().unwrap();
    assert_eq!(generation.0, u32_of(i, "gen"));
    assert_eq!(record.connection(), Some("mqtts://cloud.example:8883"));
    record.verify_certs(&TrustBox::new(&i["trust"]).get()).unwrap();
    let mut out = vec![0; raw.len()];
    let n = CloudRecordParts {
        generation,
        key: &key,
        connection: record.connection(),
        platform_cert: record.platform_cert(),
        region_cert: record.region_cert().as_ref(),
        device_cert: record.device_cert().as_ref(),
    }
    .build(&mut out)
    .unwrap();
    assert_eq!(out[..n], raw);
}

#[test]
fn serial_packets_both_ways_and_a_broken_stream() {
    let kat = kat();
    let packets = kat["serial"]["packets"].as_object().unwrap();
    for (name, case) in packets {
        let payload = bytes(case, "payload");
        let line = bytes(case, "packet");
        let mut out = vec![0; serial::encoded_len(payload.len())];
        let n = serial::encode(Channel(bytes(case, "channel")[0]), &payload, &mut out).unwrap();
        assert_eq!(out[..n], line, "{name}");
        let mut forms = vec![line];
        if case.get("also_accepted").is_some() {
            forms.push(bytes(case, "also_accepted"));
        }
        for form in forms {
            let mut buf = vec![0; serial::MAX_PACKET];
            let packet = serial::decode(&form, &mut buf).unwrap();
            assert_eq!(packet.channel.0, bytes(case, "channel")[0], "{name}");
            assert_eq!(packet.payload, payload, "{name}");
            assert_eq!(stream(&form), [Ok((bytes(case, "channel")[0], payload.clone()))]);
        }
    }
    let s = &kat["serial"]["stream"];
    let expected: Vec<_> = s["expect"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| &packets[n.as_str().unwrap()])
        .map(|p| (bytes(p, "channel")[0], bytes(p, "payload")))
        .collect();
    let heard: Vec<_> = stream(&bytes(s, "bytes")).into_iter().flatten().collect();
    // The stream's empty packet is a valid one with an empty payload only where
    // the vector lists it; everything else in it is damaged.
    assert_eq!(heard, expected);
}

fn stream(line: &[u8]) -> Vec<Result<(u8, Vec<u8>), Error>> {
    let mut decoder: Decoder = Decoder::new();
    line.iter()
        .filter_map(|b| decoder.feed(*b).map(|r| r.map(|p| (p.channel.0, p.payload.to_vec()))))
        .collect()
}

/// Gives a negative to its receiver; returns the reason for refusal.
fn refuse(kat: &Value, op: &str, input: &[u8], a: &Value) -> Result<(), Error> {
    let optional = |key: &str, default: [u8; 32]| {
        if a.get(key).is_some() { array(a, key) } else { default }
    };
    let trust = if a.get("trust").is_some() { TrustBox::new(&a["trust"]) } else { default_trust(kat) };
    match op {
        "frame1" => {
            // The receiver of the vectors is set to one suite and purpose.
            Frame::parse(input)?.expect(suite(a), purpose(a), Step::Request)?;
            let registered = PublicKey(optional("dik_pub", [0; 32]));
            let registered = a.get("dik_pub").is_some().then_some(&registered);
            Request::open(input, &BaseKey::from_bytes(array(a, "bk")), registered).map(|_| ())
        }
        "frame2" => {
            let kc = KeyContext(array(a, "kc"));
            let start =
                start(suite(a), purpose(a), kc, &array(a, "bk"), &UnitId(array(a, "uid")), Generation::NONE);
            let state = ExpectResponse::from_frame1(
                start,
                array(a, "n1"),
                EphemeralSecret::from_bytes(optional("e_d", [0; 32])),
                &bytes(a, "frame1"),
            );
            state.handle(&mut input.to_vec(), &trust.get()).map(|_| ()).map_err(|dropped| dropped.reason)
        }
        "frame3" => Pending {
            suite: suite(a),
            purpose: purpose(a),
            kc: KeyContext(array(a, "kc")),
            unit: UnitId(array(a, "uid")),
            generation: Generation(u32_of(a, "gen")),
            agent_key: AgentKey::from_bytes(array(a, "ak")),
            n2: array(a, "n2"),
            th2: array(a, "t2"),
            record_hash: optional("rhash", [0; 32]),
            identity: a.get("dik_pub").map(|_| PublicKey(array(a, "dik_pub"))),
        }
        .open_confirm(input)
        .map(|_| ()),
        "frame4" | "nack" => ExpectAck::from(SentConfirm {
            suite: suite(a),
            purpose: purpose(a),
            kc: KeyContext(array(a, "kc")),
            unit: UnitId(array(a, "uid")),
            base: BaseKey::from_bytes(optional("bk", [1; 32])),
            ak: AgentKey::from_bytes(optional("ak", [1; 32])),
            generation: Generation(u32_of(a, "gen")),
            th2: optional("t2", [1; 32]),
            n3: if a.get("n3").is_some() { array(a, "n3") } else { [0; 16] },
            frame3: &bytes(a, "frame3"),
        })
        .handle(&mut input.to_vec(), &trust.get())
        .map(|_| ())
        .map_err(|dropped| dropped.reason),
        "record" => {
            let unit = UnitId(array(a, "uid"));
            let secret = StorageSecret::from_bytes(array(a, "secret"));
            record::read_valid(input, &unit, &StoreKey::derive(&unit, &secret)).map(|_| ())
        }
        "cert" => verify_cert(input, a),
        "bundle" => bundle_verify(input, a).map(|_| ()),
        "revocation" => revocation_verify(input, a).map(|_| ()),
        "merkle" => merkle::verify_image(&array(a, "root"), input),
        "chain" => chain_verify(input, a).map(|_| ()),
        "relay" => relay_verify(input, a).map(|_| ()),
        "packet" => serial::decode(input, &mut [0; serial::MAX_PACKET]).map(|_| ()),
        other => panic!("unknown op {other}"),
    }
}

#[test]
fn negatives_are_refused_for_the_expected_reason() {
    let kat = kat();
    let cases = kat["negative"].as_array().unwrap();
    assert_eq!(cases.len(), 125);
    let mut wrong = Vec::new();
    for case in cases {
        let (name, op) = (case["name"].as_str().unwrap(), case["op"].as_str().unwrap());
        let expect = case["expect"].as_str().unwrap();
        match refuse(&kat, op, &bytes(case, "bytes"), &case["args"]) {
            Err(error) if error.reason() == expect => {}
            other => wrong.push(format!("{name}: expected {expect}, got {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
