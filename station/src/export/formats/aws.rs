//! AWS IoT bulk registration: one object per line, its names are the parameters of the template that is written beside it.
//!
//! AWS knows a device by a certificate, and our units have symmetric keys. So a unit becomes a thing with attributes, one of
//! them the SHA-256 of its MQTT password: a custom authorizer checks a login with it and needs no secret. (A password
//! carries 256 random bits; nobody guesses it from its hash.)

use super::{Field, Passed};
use keywright_protocol::crypto;

/// The provisioning template that goes with the file.
pub const TEMPLATE: &str = r#"{
  "Parameters": {
    "ThingName": {"Type": "String"},
    "SerialNumber": {"Type": "String"},
    "Uid": {"Type": "String"},
    "Batch": {"Type": "String"},
    "PartNumber": {"Type": "String"},
    "PasswordSha256": {"Type": "String"}
  },
  "Resources": {
    "thing": {
      "Type": "AWS::IoT::Thing",
      "Properties": {
        "ThingName": {"Ref": "ThingName"},
        "AttributePayload": {
          "serial": {"Ref": "SerialNumber"},
          "uid": {"Ref": "Uid"},
          "batch": {"Ref": "Batch"},
          "part_number": {"Ref": "PartNumber"},
          "password_sha256": {"Ref": "PasswordSha256"}
        }
      }
    }
  }
}
"#;

/// What an attribute of a thing can hold: `[a-zA-Z0-9_.,@/:#-]`; anything else becomes `_`.
fn attribute(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || "_.,@/:#-".contains(c) { c } else { '_' }).collect()
}

pub(super) fn fields(unit: &Passed<'_>) -> Result<Vec<Field>, String> {
    let hash = crypto::sha256(&[unit.credential()?.expose().as_bytes()]);
    Ok(vec![
        Field::text("ThingName", unit.identity().to_string()),
        Field::text("SerialNumber", attribute(&unit.serial())),
        Field::text("Uid", unit.unit.to_string()),
        Field::text("Batch", attribute(&unit.row.batch)),
        Field::text("PartNumber", attribute(unit.row.part_number.as_deref().unwrap_or_default())),
        Field::text("PasswordSha256", hex::encode(hash)),
    ])
}
