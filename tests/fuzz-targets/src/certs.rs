//! Certificates, root bundles, revocations, deployment chains, relay envelopes and block trees.
//!
//! Promises: edits of a genuine object are refused; only the identical bytes verify; what an owner of the key
//! signs is accepted if and only if its fields obey the rules, and reads back the same.

use std::sync::LazyLock;

use keywright_protocol::anchors::{
    Bundle, NewBundle, Revocation, bundle_len, revocation_len, sign_revocation,
};
use keywright_protocol::cert::{CERT_LEN, Cert, CertFields, RegionFloor, Role};
use keywright_protocol::chain::Deployment;
use keywright_protocol::crypto;
use keywright_protocol::keys::{Seed, Signer};
use keywright_protocol::merkle;
use keywright_protocol::record::{BundleState, RootAnchor};
use keywright_protocol::relay::{Envelope, StationId};
use keywright_protocol::{IdentityKey, ProductOrder, PublicKey, Region};
use serde_json::Value;

use crate::input::Input;
use crate::vectors::{KAT, OwnedTrust, array, bytes, cases, long, number};

type Verify = dyn Fn(&[u8]) -> bool + Send + Sync;

/// A genuine object and what verifies it.
struct Object {
    bytes: Vec<u8>,
    verify: Box<Verify>,
}

static OBJECTS: LazyLock<Vec<Object>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for case in cases("certificates") {
        let a = &case["args"];
        let trust = OwnedTrust::new(&a["trust"]);
        let role = role(bytes(a, "role")[0]).expect("a known role");
        let (issuer, scope, signer) =
            (number(a, "issuer"), array(a, "scope"), PublicKey(array(a, "signer_pub")));
        all.push(Object {
            bytes: bytes(case, "bytes"),
            verify: Box::new(move |b| {
                Cert::from_slice(b).is_ok_and(|cert| {
                    trust
                        .get()
                        .verify(&cert, role, issuer, &scope, &signer)
                        .is_ok_and(|v| *v.fields() == cert.fields().expect("verified"))
                })
            }),
        });
    }
    for case in cases("bundles") {
        let a = &case["args"];
        let (anchor, stored) =
            (anchor(a), BundleState { hash: array(a, "prev_hash"), next_commit: array(a, "next_commit") });
        all.push(Object {
            bytes: bytes(case, "bytes"),
            verify: Box::new(move |b| {
                Bundle::verify(b, &anchor, &stored).is_ok_and(|bundle| {
                    assert_eq!(bundle.state().hash, crypto::sha256(&[b]));
                    bundle.anchor().epoch == anchor.epoch + 1
                })
            }),
        });
    }
    let (case, a) = (&KAT["revocation"], &KAT["revocation"]["args"]);
    let (root, seq) = (anchor(a), number(a, "seq"));
    all.push(Object {
        bytes: bytes(case, "bytes"),
        verify: Box::new(move |b| Revocation::verify(b, &root, seq).is_ok_and(|r| r.seq() > seq)),
    });
    let (case, a) = (&KAT["chain"], &KAT["chain"]["args"]);
    let (trust, seq, digest) =
        (OwnedTrust::new(&a["trust"]), long(a, "stored_seq"), array(a, "stored_digest"));
    all.push(Object {
        bytes: bytes(case, "bytes"),
        verify: Box::new(move |b| Deployment::verify(b, &trust.get(), seq, &digest).is_ok()),
    });
    let (case, a) = (&KAT["relay"], &KAT["relay"]["args"]);
    let station = StationId { region: Region(number(a, "region_id")), station: number(a, "station_id") };
    let (key, order) = (PublicKey(array(a, "station_pub")), ProductOrder(array(a, "po")));
    let (frame1, counter) = (bytes(a, "frame1"), long(a, "last_counter"));
    all.push(Object {
        bytes: bytes(case, "bytes"),
        verify: Box::new(move |b| {
            Envelope::verify(b, &key, &station, &order, &frame1, counter).is_ok_and(|envelope| {
                assert!(!format!("{envelope:?}").contains(&hex::encode(envelope.token.expose())));
                assert_eq!(Envelope::peek_station(b), Ok(station));
                true
            })
        }),
    });
    for case in all.iter() {
        assert!((case.verify)(&case.bytes), "the vectors verify");
    }
    all
});

fn anchor(a: &Value) -> RootAnchor {
    RootAnchor { epoch: number(a, "root_epoch"), key: PublicKey(array(a, "root_pub")) }
}

const fn role(number: u8) -> Option<Role> {
    Some(match number {
        1 => Role::Region,
        2 => Role::Agent,
        3 => Role::Station,
        4 => Role::DeviceTier,
        5 => Role::FirmwareSigner,
        _ => return None,
    })
}

fn key(n: u8) -> IdentityKey {
    IdentityKey::from_seed(&Seed::from_bytes([n; 32]))
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 7 {
        0 | 1 => {
            let object = &OBJECTS[input.pick(OBJECTS.len())];
            let mut edited = object.bytes.clone();
            let others: Vec<&[u8]> = OBJECTS.iter().map(|o| o.bytes.as_slice()).collect();
            input.edit(&mut edited, &others);
            offer(&edited);
        }
        2 => offer(input.rest()),
        3 => signed_cert(&mut input),
        4 => signed_bundle(&mut input),
        5 => signed_revocation(&mut input),
        _ => tree(&mut input),
    }
}

/// Every verifier looks at it; only the object it was made for may pass.
fn offer(b: &[u8]) {
    for object in OBJECTS.iter() {
        assert_eq!((object.verify)(b), b == object.bytes, "verified iff identical");
    }
    let Ok(cert) = Cert::from_slice(b) else {
        assert_ne!(b.len(), CERT_LEN);
        return;
    };
    assert!(!format!("{cert:?}").is_empty());
    assert_eq!(cert.fields().is_ok(), b[0] == 1 && role(b[1]).is_some() && b[2..4] == [0, 0]);
}

/// A certificate with any fields, signed by its issuer.
fn signed_cert(input: &mut Input<'_>) {
    // Small numbers, so that equal and ordered ones are common.
    let mut small = || input.byte() % 4;
    let [wanted, is, issuer, wanted_issuer, root_epoch, wanted_epoch, epoch, floor, subject] =
        std::array::from_fn(|_| small());
    let (Some(is), Some(wanted)) = (role(is + 1), role(wanted + 1)) else { return };
    let (not_after, time_floor) = (u64::from(input.byte()), u64::from(input.byte()));
    let (scope, wanted_scope) = ([input.byte() & 1; 16], [input.byte() & 1; 16]);
    let fields = CertFields {
        role: is,
        issuer: issuer.into(),
        subject: subject.into(),
        root_epoch: root_epoch.into(),
        epoch: epoch.into(),
        not_before: u64::from(input.long()),
        not_after,
        public_key: PublicKey(input.array()),
        scope,
    };
    let cert = fields.sign(&key(1)).expect("seeded");
    assert_eq!(cert.fields(), Ok(fields));
    let other = input.byte() & 7 == 7;
    let signer = key(if other { 2 } else { 1 }).public();
    let floors = [RegionFloor { region: Region(1), min_epoch: floor.into() }];
    let root = key(3).public();
    let trust = keywright_protocol::cert::Trust {
        root: &root,
        root_epoch: wanted_epoch.into(),
        floors: &floors,
        time_floor,
        order: ProductOrder([0; 16]),
        unit: keywright_protocol::UnitId([0; 12]),
        region: Region(1),
        region_cert: None,
    };
    let revoked = is == Role::Region && subject == 1 && epoch < floor;
    let expected = is == wanted
        && issuer == wanted_issuer
        && scope == wanted_scope
        && root_epoch == wanted_epoch
        && !revoked
        && not_after >= time_floor
        && !other;
    let verified = trust.verify(&cert, wanted, wanted_issuer.into(), &wanted_scope, &signer);
    assert_eq!(verified.is_ok(), expected, "{fields:?}: {verified:?}");
}

fn floors(input: &mut Input<'_>) -> (Vec<RegionFloor>, bool) {
    let n = input.pick(12);
    let list: Vec<RegionFloor> = (0..n)
        .map(|_| RegionFloor { region: Region(u32::from(input.byte())), min_epoch: input.long() })
        .collect();
    let ascending = list.windows(2).all(|pair| pair[0].region.0 < pair[1].region.0);
    (list, ascending)
}

/// A root bundle with any content, signed by both roots.
fn signed_bundle(input: &mut Input<'_>) {
    let (floors, ascending) = floors(input);
    let (epoch, prev, next_commit) = (input.long(), [input.byte(); 32], input.array());
    let new = NewBundle { epoch, prev, next_commit, valid_from: u64::from(input.long()), floors: &floors };
    let (old, next) = (key(1), key(2));
    let mut scratch = vec![0; bundle_len(floors.len()) + 15];
    let mut out = scratch.clone();
    let Ok(len) = new.sign(&old, &next, &mut scratch, &mut out) else {
        assert!(!ascending, "only the order of the floors can be wrong here");
        return;
    };
    assert!(ascending && len == bundle_len(floors.len()));
    let stored_epoch = epoch.wrapping_sub(u32::from(input.byte() & 3));
    let stored_prev = [input.byte(); 32];
    let committed = key(2 + (input.byte() & 1)).public();
    let stored = BundleState { hash: stored_prev, next_commit: crypto::sha256(&[&committed.0]) };
    let anchor = RootAnchor { epoch: stored_epoch, key: old.public() };
    let expected =
        stored_epoch.checked_add(1) == Some(epoch) && prev == stored_prev && committed == next.public();
    match Bundle::verify(&out[..len], &anchor, &stored) {
        Ok(bundle) => {
            assert!(expected, "a bundle against the rules");
            assert_eq!(bundle.floors().iter().collect::<Vec<_>>(), floors);
            assert_eq!((bundle.anchor().epoch, bundle.anchor().key), (epoch, next.public()));
            assert_eq!((bundle.state().next_commit, bundle.valid_from()), (next_commit, new.valid_from));
        }
        Err(error) => assert!(!expected, "{error:?}"),
    }
}

/// A revocation with any content, signed by the root.
fn signed_revocation(input: &mut Input<'_>) {
    let (floors, ascending) = floors(input);
    let (seq, epoch) = (input.long(), u32::from(input.byte() & 1));
    let root = key(1);
    let mut scratch = vec![0; revocation_len(floors.len()) + 15];
    let mut out = scratch.clone();
    let Ok(len) = sign_revocation(seq, epoch, &floors, &root, &mut scratch, &mut out) else {
        assert!(!ascending);
        return;
    };
    assert!(ascending && len == revocation_len(floors.len()));
    let stored = seq.wrapping_sub(u32::from(input.byte() & 3));
    let anchor = RootAnchor { epoch: u32::from(input.byte() & 1), key: root.public_key() };
    match Revocation::verify(&out[..len], &anchor, stored) {
        Ok(revocation) => {
            assert!(seq > stored && epoch == anchor.epoch);
            assert_eq!(revocation.seq(), seq);
            assert_eq!(revocation.floors().iter().collect::<Vec<_>>(), floors);
            for floor in &floors {
                assert_eq!(revocation.floors().min_epoch(floor.region), Some(floor.min_epoch));
            }
        }
        Err(error) => assert!(seq <= stored || epoch != anchor.epoch, "{error:?}"),
    }
}

/// Block trees: the root of one image verifies no other, whole or in parts.
fn tree(input: &mut Input<'_>) {
    let long = input.byte();
    let mut image = input.bytes(512).to_vec();
    // Several blocks and groups without long inputs.
    if !image.is_empty() {
        image = image.iter().copied().cycle().take(image.len() + usize::from(long) * 300).collect();
    }
    let root = merkle::root_of(&image).expect("short images have roots");
    assert_eq!(merkle::verify_image(&root, &image), Ok(()));
    let mut other = image.clone();
    input.edit(&mut other, &[]);
    assert_eq!(merkle::verify_image(&root, &other).is_ok(), other == image);
    let leaves: Vec<_> = image.chunks(merkle::BLOCK_LEN).map(merkle::leaf).collect();
    let groups: Vec<_> = (0u32..)
        .zip(leaves.chunks(merkle::GROUP_BLOCKS))
        .map(|(index, leaves)| merkle::group(index, leaves).expect("at most a group"))
        .collect();
    assert_eq!(merkle::verify_groups(&root, image.len() as u64, &groups), Ok(()));
    assert!(merkle::verify_groups(&root, image.len() as u64 + 1, &groups).is_err());
    assert_eq!(groups.len() as u64, merkle::group_count(image.len() as u64));
    assert_eq!(leaves.len() as u64, merkle::block_count(image.len() as u64));
    for ((index, group), leaves) in (0u32..).zip(&groups).zip(leaves.chunks(merkle::GROUP_BLOCKS)) {
        assert_eq!(merkle::verify_group(group, index, leaves), Ok(()));
        assert!(merkle::verify_group(group, index + 1, leaves).is_err(), "a group has its place");
    }
    for (leaf, block) in leaves.iter().zip(image.chunks(merkle::BLOCK_LEN)) {
        assert_eq!(merkle::verify_block(leaf, block), Ok(()));
    }
}
