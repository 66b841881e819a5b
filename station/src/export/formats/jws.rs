//! Signed manifest: a JSON array of flattened JWS (RFC 7515 §7.2.2), one per unit, EdDSA (RFC 8037) by the station's export key, with
//! the unit's id in the header that is not signed, so that an importer finds an entry without opening it: the form of the manifests
//! that makers of secure elements ship. It holds no secret: it says which units exist, what is in them, and that this station made them.

use super::{Each, Field, Misfit, Passed, json};
use crate::export::ExportSigner;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, VerifyingKey};
use std::io::BufRead;
use zeroize::Zeroizing;

fn header(fingerprint: &str) -> String {
    format!("{{\"alg\":\"EdDSA\",\"typ\":\"JWT\",\"kid\":\"{fingerprint}\"}}")
}

pub(super) fn fields(unit: &Passed<'_>) -> Vec<Field> {
    let row = unit.row;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    vec![
        Field::bare("version", 1),
        Field::text("uniqueId", unit.unit.to_string()),
        Field::text("groupId", row.batch.clone()),
        Field::text("provisioningTimestamp", row.provisioned_at.map(|t| t.to_string()).unwrap_or_default()),
        Field::text("serialNumber", unit.serial()),
        Field::text("productOrder", row.product_order.clone()),
        Field::text("partNumber", text(&row.part_number)),
        Field::text("hardwareRevision", text(&row.hw_revision)),
        Field::text("firmwareVersion", text(&row.firmware_version)),
        Field::text("firmwareSha256", text(&row.firmware_sha256)),
        Field::bare("region", row.region),
        Field::text("anchorFingerprint", text(&row.anchor_fingerprint)),
        Field::text("cloudIdentity", unit.identity().to_string()),
        Field::text("agentKeyId", text(&row.agent_key_id)),
        Field::text("cloudKeyId", text(&row.cloud_key_id)),
    ]
}

pub(super) fn row(fields: &[Field], signer: &ExportSigner) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut payload = Vec::with_capacity(1024);
    json::object(&mut payload, fields, 0);
    let (protected, payload) =
        (URL_SAFE_NO_PAD.encode(header(&signer.fingerprint())), URL_SAFE_NO_PAD.encode(payload));
    let signature = URL_SAFE_NO_PAD.encode(signer.sign(format!("{protected}.{payload}").as_bytes()));
    let unit = fields.iter().find(|f| f.path == "uniqueId").map_or("", |f| f.value.as_str());
    let entry = [
        Field::text("payload", payload),
        Field::text("protected", protected),
        Field::text("header.uniqueId", unit),
        Field::text("signature", signature),
    ];
    let mut out = Zeroizing::new(Vec::with_capacity(2048));
    json::object(&mut out, &entry, 0);
    Ok(out)
}

pub(super) fn read(
    source: &mut dyn BufRead,
    key: Option<&VerifyingKey>,
    each: &mut Each<'_>,
) -> Result<(), Misfit> {
    let Some(key) = key else {
        return Err(Misfit::new(0, "a manifest is checked with the signer's public key"));
    };
    json::array(source, None, &mut |row, entry| {
        let refuse = |column: &str, why: &str| Misfit { row, column: Some(column.into()), why: why.into() };
        let fields = json::flatten(entry);
        let value = |name: &str| {
            let found = fields.iter().find(|f| f.path == name && !f.bare).map(|f| f.value.as_str());
            found.ok_or_else(|| refuse(name, "it is missing, or no text"))
        };
        let (header, payload, signature) = (value("protected")?, value("payload")?, value("signature")?);
        let unit = value("header.uniqueId")?;
        if fields.len() != 4 {
            return Err(Misfit::new(row, "an entry has payload, protected, header.uniqueId and signature"));
        }
        let open = |part: &str, column: &str| {
            URL_SAFE_NO_PAD.decode(part).map_err(|_| refuse(column, "this is not base64url"))
        };
        let parsed: serde_json::Value = serde_json::from_slice(&open(header, "protected")?)
            .map_err(|_| refuse("protected", "this is not JSON"))?;
        if parsed["alg"] != "EdDSA" {
            return Err(refuse("alg", "the algorithm is EdDSA"));
        }
        let signature: [u8; 64] = open(signature, "signature")?
            .try_into()
            .map_err(|_| refuse("signature", "a signature has 64 bytes"))?;
        key.verify_strict(format!("{header}.{payload}").as_bytes(), &Signature::from_bytes(&signature))
            .map_err(|_| refuse("signature", "the entry was altered, or another key signed it"))?;
        let payload: serde_json::Value = serde_json::from_slice(&open(payload, "payload")?)
            .map_err(|_| refuse("payload", "this is not JSON"))?;
        if payload["uniqueId"] != unit {
            return Err(refuse("header.uniqueId", "it is not that of the payload"));
        }
        each(row, json::flatten(payload))
    })
}
