//! AWS IoT bulk registration: one object per line, its names are the parameters of the template that is written beside it.
//!
//! AWS knows a device by a certificate, and our units have symmetric keys. So a unit becomes a thing with attributes, one of
//! them the SHA-256 of its MQTT password: a custom authorizer checks a login with it and needs no secret. (A password
//! carries 256 random bits; nobody guesses it from its hash.)
//!
//! The names of things know no dot, so the generation stands behind a colon: `<uid>:<generation>`. A thing without a type has three
//! attributes at most.

use super::{Field, Passed};
use crate::cloud::Identity;
use keywright_protocol::crypto;

/// The provisioning template that goes with the file.
pub const TEMPLATE: &str = r#"{
  "Parameters": {
    "ThingName": {"Type": "String"},
    "SerialNumber": {"Type": "String"},
    "Batch": {"Type": "String"},
    "PasswordSha256": {"Type": "String"}
  },
  "Resources": {
    "thing": {
      "Type": "AWS::IoT::Thing",
      "Properties": {
        "ThingName": {"Ref": "ThingName"},
        "AttributePayload": {
          "serial": {"Ref": "SerialNumber"},
          "batch": {"Ref": "Batch"},
          "password_sha256": {"Ref": "PasswordSha256"}
        }
      }
    }
  }
}
"#;

/// The name of the thing of an identity: AWS takes `[a-zA-Z0-9:_-]`, 128 of them at most.
pub(super) fn name(identity: Identity) -> String {
    format!("{}:{}", identity.unit, identity.generation)
}

/// What an attribute of a thing can hold: `[a-zA-Z0-9_.,@/:#-]`, 800 of them at most; anything else becomes `_`.
fn attribute(text: &str) -> String {
    text.chars()
        .take(800)
        .map(|c| if c.is_ascii_alphanumeric() || "_.,@/:#-".contains(c) { c } else { '_' })
        .collect()
}

pub(super) fn fields(unit: &Passed<'_>) -> Result<Vec<Field>, String> {
    let hash = crypto::sha256(&[unit.credential()?.expose().as_bytes()]);
    Ok(vec![
        Field::text("ThingName", name(unit.identity())),
        Field::text("SerialNumber", attribute(&unit.serial())),
        Field::text("Batch", attribute(&unit.row.batch)),
        Field::text("PasswordSha256", hex::encode(hash)),
    ])
}
