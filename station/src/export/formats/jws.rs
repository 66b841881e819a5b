//! Signed manifest: a JSON array of compact JWS (RFC 7515), one per unit, EdDSA (RFC 8037) by the station's export key. It holds
//! no secret: it says which units exist, what is in them, and that this station made them.

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
        Field::text("provisioningTimestamp", row.ended_at.map(|t| t.to_string()).unwrap_or_default()),
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
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header(&signer.fingerprint())),
        URL_SAFE_NO_PAD.encode(payload)
    );
    let signature = URL_SAFE_NO_PAD.encode(signer.sign(signed.as_bytes()));
    Ok(Zeroizing::new(format!("\"{signed}.{signature}\"").into_bytes()))
}

pub(super) fn read(
    source: &mut dyn BufRead,
    key: Option<&VerifyingKey>,
    each: &mut Each<'_>,
) -> Result<(), Misfit> {
    let Some(key) = key else {
        return Err(Misfit::new(0, "a manifest is checked with the signer's public key"));
    };
    json::array(source, None, &mut |row, token| {
        let refuse = |column: &str, why: &str| Misfit { row, column: Some(column.into()), why: why.into() };
        let token = token.as_str().ok_or_else(|| Misfit::new(row, "a manifest holds strings"))?;
        let parts: Vec<&str> = token.split('.').collect();
        let [header, payload, signature] = parts[..] else {
            return Err(Misfit::new(row, "a compact JWS has three parts"));
        };
        let open = |part: &str, column: &str| {
            URL_SAFE_NO_PAD.decode(part).map_err(|_| refuse(column, "this is not base64url"))
        };
        let parsed: serde_json::Value = serde_json::from_slice(&open(header, "header")?)
            .map_err(|_| refuse("header", "this is not JSON"))?;
        if parsed["alg"] != "EdDSA" {
            return Err(refuse("alg", "the algorithm is EdDSA"));
        }
        let signature: [u8; 64] = open(signature, "signature")?
            .try_into()
            .map_err(|_| refuse("signature", "a signature has 64 bytes"))?;
        let signed = &token.as_bytes()[..header.len() + 1 + payload.len()];
        key.verify_strict(signed, &Signature::from_bytes(&signature))
            .map_err(|_| refuse("signature", "the entry was altered, or another key signed it"))?;
        let payload: serde_json::Value = serde_json::from_slice(&open(payload, "payload")?)
            .map_err(|_| refuse("payload", "this is not JSON"))?;
        each(row, json::flatten(payload))
    })
}
