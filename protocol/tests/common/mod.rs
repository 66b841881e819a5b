//! What the integration tests share: reading the vector files.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::PathBuf;

use serde_json::Value;

pub fn vector_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors").join(name)
}

pub fn read_text(name: &str) -> String {
    let path = vector_path(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub fn read_json(name: &str) -> Value {
    serde_json::from_str(&read_text(name)).expect("vector files are JSON")
}

/// The hex value of a key; a missing key fails the test by name.
pub fn bytes(object: &Value, key: &str) -> Vec<u8> {
    let text = object[key].as_str().unwrap_or_else(|| panic!("no {key} in the vector"));
    hex::decode(text).unwrap_or_else(|e| panic!("{key}: {e}"))
}

pub fn array<const N: usize>(object: &Value, key: &str) -> [u8; N] {
    bytes(object, key).try_into().unwrap_or_else(|v: Vec<u8>| panic!("{key} has {} bytes", v.len()))
}

pub fn u32_of(object: &Value, key: &str) -> u32 {
    u32::from_be_bytes(array(object, key))
}

pub fn u64_of(object: &Value, key: &str) -> u64 {
    u64::from_be_bytes(array(object, key))
}

/// `KEY = value` records of NIST and RFC text files, split at blank lines.
pub fn records(text: &str) -> Vec<std::collections::BTreeMap<String, String>> {
    let mut out = vec![std::collections::BTreeMap::new()];
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('[') {
            out.push(std::collections::BTreeMap::new());
        } else if let Some((key, value)) = line.split_once('=')
            && !line.starts_with('#')
        {
            let record = out.last_mut().expect("never empty");
            record.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    out.retain(|record| !record.is_empty());
    out
}
