//! Wycheproof, RFC and NIST vectors for every primitive, through this crate's
//! own wrappers.

mod common;

use std::collections::BTreeMap;

use common::{bytes, read_json, read_text, records};
use keywright_protocol::crypto;
use keywright_protocol::keys::{EphemeralSecret, Seed};
use keywright_protocol::{IdentityKey, PublicKey, Signature, Signer};
use serde_json::Value;

/// Calls `check(group, test)` for every test; fails if the file was not read whole.
fn wycheproof(file: &str, mut check: impl FnMut(&Value, &Value)) {
    let json = read_json(&format!("wycheproof/{file}"));
    let mut seen = 0;
    for group in json["testGroups"].as_array().unwrap() {
        for test in group["tests"].as_array().unwrap() {
            check(group, test);
            seen += 1;
        }
    }
    assert_eq!(seen, json["numberOfTests"].as_u64().unwrap());
    assert!(seen > 0);
}

fn context(test: &Value) -> String {
    format!("tcId {}: {}", test["tcId"], test["comment"])
}

fn hex_of(record: &BTreeMap<String, String>, key: &str) -> Vec<u8> {
    hex::decode(&record[key]).unwrap()
}

#[test]
fn wycheproof_hmac_sha256() {
    wycheproof("hmac_sha256_test.json", |group, test| {
        let tag = crypto::hmac(&bytes(test, "key"), &[&bytes(test, "msg")]);
        let size = group["tagSize"].as_u64().unwrap() as usize / 8;
        let matches = crypto::tags_equal(&tag[..size], &bytes(test, "tag"));
        assert_eq!(matches, test["result"] == "valid", "{}", context(test));
    });
}

#[test]
fn wycheproof_hkdf_sha256() {
    wycheproof("hkdf_sha256_test.json", |_, test| {
        let prk = crypto::extract(&bytes(test, "salt"), &bytes(test, "ikm"));
        let mut okm = vec![0; test["size"].as_u64().unwrap() as usize];
        let info = bytes(test, "info");
        // Split info: the parts are a concatenation.
        let (a, b) = info.split_at(info.len() / 2);
        let ok = crypto::expand(&prk, &[a, b], &mut okm).is_ok();
        let matches = ok && okm == bytes(test, "okm");
        assert_eq!(matches, test["result"] == "valid", "{}", context(test));
    });
}

#[test]
fn wycheproof_aes_256_cbc() {
    let mut used = 0;
    wycheproof("aes_cbc_pkcs5_test.json", |_, test| {
        let Ok(key) = <[u8; 32]>::try_from(bytes(test, "key")) else {
            return; // AES-128 and AES-192 are not used here.
        };
        used += 1;
        let iv: [u8; 16] = bytes(test, "iv").try_into().unwrap();
        let (msg, ct) = (bytes(test, "msg"), bytes(test, "ct"));
        let valid = test["result"] == "valid";
        let mut buf = ct.clone();
        let opened = crypto::cbc_decrypt(&key, &iv, &mut buf).map(|n| buf[..n].to_vec());
        assert_eq!(opened.is_ok_and(|m| m == msg), valid, "{}", context(test));
        if valid {
            let mut buf = msg.clone();
            buf.resize(crypto::padded(msg.len()), 0);
            let n = crypto::cbc_encrypt(&key, &iv, &mut buf, msg.len()).unwrap();
            assert_eq!(buf[..n], ct, "{}", context(test));
        }
    });
    assert!(used > 50, "only {used} AES-256 cases");
}

#[test]
fn wycheproof_x25519() {
    let mut zero = 0;
    wycheproof("x25519_test.json", |_, test| {
        let secret = EphemeralSecret::from_bytes(bytes(test, "private").try_into().unwrap());
        let public: [u8; 32] = bytes(test, "public").try_into().unwrap();
        let shared: [u8; 32] = bytes(test, "shared").try_into().unwrap();
        let got = crypto::x25519(&secret, &public);
        if shared == [0; 32] {
            zero += 1;
            assert_eq!(got.unwrap_err().reason(), "all-zero share", "{}", context(test));
            assert!(crypto::x25519_small_order(&public), "{}", context(test));
        } else {
            assert_eq!(got, Ok(shared), "{}", context(test));
            assert!(!crypto::x25519_small_order(&public), "{}", context(test));
        }
    });
    assert!(zero > 0, "the file has small-order points");
}

#[test]
fn wycheproof_ed25519() {
    wycheproof("ed25519_test.json", |group, test| {
        let public = PublicKey(bytes(&group["publicKey"], "pk").try_into().unwrap());
        let msg = bytes(test, "msg");
        let verified = <[u8; 64]>::try_from(bytes(test, "sig"))
            .is_ok_and(|sig| crypto::verify(&public, &[&msg], &Signature(sig)).is_ok());
        assert_eq!(verified, test["result"] == "valid", "{}", context(test));
    });
}

#[test]
fn ed25519_refuses_what_verify_strict_refuses() {
    // A of small order: with S = 0 and R = A's encoding these verify loosely for
    // messages where the challenge is a multiple of the order.
    let small_order = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    ];
    let honest = IdentityKey::from_seed(&Seed::from_bytes([7; 32]));
    for point in small_order {
        let point: [u8; 32] = hex::decode(point).unwrap().try_into().unwrap();
        for message in 0u8..16 {
            let mut sig = [0u8; 64];
            sig[..32].copy_from_slice(&point);
            let weak = PublicKey(point);
            let strict = ed25519_strict(&weak, &[message], &sig);
            assert!(!strict);
            assert!(crypto::verify(&weak, &[&[message]], &Signature(sig)).is_err());
            // R of small order under an honest key.
            assert!(crypto::verify(&honest.public(), &[&[message]], &Signature(sig)).is_err());
        }
    }
    // S + L is the classic malleability.
    let mut sig = honest.sign(b"message").unwrap().0;
    assert!(crypto::verify(&honest.public(), &[b"mes", b"sage"], &Signature(sig)).is_ok());
    let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
    let mut carry = 0u16;
    for (s, l) in sig[32..].iter_mut().zip(order) {
        carry += u16::from(*s) + u16::from(l);
        *s = carry as u8;
        carry >>= 8;
    }
    assert!(crypto::verify(&honest.public(), &[b"message"], &Signature(sig)).is_err());
}

fn ed25519_strict(key: &PublicKey, message: &[u8], sig: &[u8; 64]) -> bool {
    ed25519_dalek::VerifyingKey::from_bytes(&key.0)
        .is_ok_and(|k| k.verify_strict(message, &ed25519_dalek::Signature::from_bytes(sig)).is_ok())
}

#[test]
fn wrapper_and_verify_strict_agree_on_wycheproof() {
    wycheproof("ed25519_test.json", |group, test| {
        let public = PublicKey(bytes(&group["publicKey"], "pk").try_into().unwrap());
        let msg = bytes(test, "msg");
        if let Ok(sig) = <[u8; 64]>::try_from(bytes(test, "sig")) {
            assert_eq!(
                crypto::verify(&public, &[&msg], &Signature(sig)).is_ok(),
                ed25519_strict(&public, &msg, &sig),
                "{}",
                context(test)
            );
        }
    });
}

#[test]
fn ed25519_sign_input() {
    let text = read_text("rfc-nist/asymmetric__Ed25519__sign.first128.input");
    let mut seen = 0;
    for line in text.lines() {
        let fields: Vec<Vec<u8>> = line.split(':').take(4).map(|f| hex::decode(f).unwrap()).collect();
        let key = IdentityKey::from_seed(&Seed::from_bytes(fields[0][..32].try_into().unwrap()));
        assert_eq!(key.public().0[..], fields[1]);
        let signature = key.sign(&fields[2]).unwrap();
        assert_eq!(signature.0[..], fields[3][..64]);
        crypto::verify(&key.public(), &[&fields[2]], &signature).unwrap();
        seen += 1;
    }
    assert_eq!(seen, 128);
}

#[test]
fn rfc4231_hmac() {
    let cases = records(&read_text("rfc-nist/HMAC__rfc-4231-sha256.txt"));
    let mut seen = 0;
    for case in cases.iter().filter(|c| c.contains_key("MD")) {
        let tag = crypto::hmac(&hex_of(case, "Key"), &[&hex_of(case, "Msg")]);
        assert_eq!(tag[..], hex_of(case, "MD"));
        seen += 1;
    }
    assert!(seen >= 6, "{seen}");
}

#[test]
fn rfc5869_hkdf() {
    // Blank lines stand inside a case here; COUNT begins one.
    let text = read_text("rfc-nist/KDF__rfc-5869-HKDF-SHA256.txt");
    let cases = records(&text.replace("\n\n", "\n").replace("COUNT", "\nCOUNT"));
    let mut seen = 0;
    for case in cases.iter().filter(|c| c.contains_key("OKM")) {
        let optional = |key: &str| case.get(key).map(|v| hex::decode(v).unwrap_or_default());
        let prk = crypto::extract(&optional("salt").unwrap_or_default(), &hex_of(case, "IKM"));
        assert_eq!(prk[..], hex_of(case, "PRK"));
        let mut okm = vec![0; case["L"].parse().unwrap()];
        crypto::expand(&prk, &[&optional("info").unwrap_or_default()], &mut okm).unwrap();
        assert_eq!(okm, hex_of(case, "OKM"));
        seen += 1;
    }
    assert!(seen >= 3, "{seen}");
    assert!(crypto::expand(&[1; 32], &[], &mut vec![0; 8_161]).is_err());
}

#[test]
fn rfc7748_x25519() {
    let cases = records(&read_text("rfc-nist/asymmetric__X25519__rfc7748.txt"));
    assert!(cases.len() >= 3);
    for case in &cases {
        let secret = EphemeralSecret::from_bytes(hex_of(case, "INPUT_SCALAR").try_into().unwrap());
        let u: [u8; 32] = hex_of(case, "INPUT_U").try_into().unwrap();
        assert_eq!(crypto::x25519(&secret, &u).unwrap()[..], hex_of(case, "OUTPUT_U"));
    }
}

#[test]
fn nist_sha256() {
    let cases = records(&read_text("rfc-nist/hashes__SHA2__SHA256ShortMsg.rsp"));
    let mut seen = 0;
    for case in cases.iter().filter(|c| c.contains_key("MD")) {
        let mut msg = hex_of(case, "Msg");
        msg.truncate(case["Len"].parse::<usize>().unwrap() / 8);
        let (a, b) = msg.split_at(msg.len() / 3);
        assert_eq!(crypto::sha256(&[a, b])[..], hex_of(case, "MD"));
        seen += 1;
    }
    assert!(seen >= 64, "{seen}");
}

#[test]
fn nist_aes_256_cbc() {
    let mut seen = 0;
    for file in ["GFSbox", "KeySbox", "MMT", "VarKey", "VarTxt"] {
        let text = read_text(&format!("rfc-nist/ciphers__AES__CBC__CBC{file}256.rsp"));
        for case in records(&text).iter().filter(|c| c.contains_key("KEY")) {
            let key: [u8; 32] = hex_of(case, "KEY").try_into().unwrap();
            let iv: [u8; 16] = hex_of(case, "IV").try_into().unwrap();
            let (pt, ct) = (hex_of(case, "PLAINTEXT"), hex_of(case, "CIPHERTEXT"));
            // These cases have no padding; ours adds one block behind them.
            let mut buf = pt.clone();
            buf.resize(crypto::padded(pt.len()), 0);
            let n = crypto::cbc_encrypt(&key, &iv, &mut buf, pt.len()).unwrap();
            assert_eq!(n, ct.len() + 16);
            assert_eq!(buf[..ct.len()], ct, "{file}");
            let n = crypto::cbc_decrypt(&key, &iv, &mut buf).unwrap();
            assert_eq!(buf[..n], pt, "{file}");
            seen += 1;
        }
    }
    assert!(seen > 400, "{seen}");
}
