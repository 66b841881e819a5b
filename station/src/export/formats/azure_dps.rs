//! Azure Device Provisioning Service: bulk calls of at most ten enrollments, one call per line, so that a script posts line by line.

use super::{Each, Field, Misfit, Passed, json};
use std::io::BufRead;

/// Enrollments that the service takes in one call.
pub(super) const PER_CALL: u64 = 10;
pub(super) const BEGIN: &str = "{\"enrollments\":[";
pub(super) const END: &str = "],\"mode\":\"create\"}\n";
pub(super) const NEXT: &str = "],\"mode\":\"create\"}\n{\"enrollments\":[";

pub(super) fn fields(unit: &Passed<'_>) -> Result<Vec<Field>, String> {
    let name = unit.identity().to_string();
    let [primary, secondary] = unit.azure_keys()?;
    Ok(vec![
        Field::text("registrationId", name.clone()),
        Field::text("deviceId", name),
        Field::text("attestation.type", "symmetricKey"),
        Field::secret("attestation.symmetricKey.primaryKey", primary.as_str()),
        Field::secret("attestation.symmetricKey.secondaryKey", secondary.as_str()),
        Field::text("provisioningStatus", "enabled"),
    ])
}

pub(super) fn read(source: &mut dyn BufRead, each: &mut Each<'_>) -> Result<(), Misfit> {
    let mut row = 0;
    json::lines(source, &mut |_, mut call| {
        let at = row + 1;
        let mut take = |name| call.as_object_mut().and_then(|o| o.remove(name));
        let (enrollments, mode) = (take("enrollments"), take("mode"));
        if mode.as_ref().and_then(|m| m.as_str()) != Some("create") {
            return Err(Misfit {
                row: at,
                column: Some("mode".into()),
                why: "a call's mode is create".into(),
            });
        }
        if call.as_object().is_none_or(|rest| !rest.is_empty()) {
            return Err(Misfit::new(at, "a call has enrollments and mode, nothing else"));
        }
        let Some(serde_json::Value::Array(enrollments)) = enrollments else {
            return Err(Misfit::new(at, "enrollments is not an array"));
        };
        if enrollments.is_empty() || enrollments.len() as u64 > PER_CALL {
            let why = format!("a call has 1 to {PER_CALL} enrollments, this one {}", enrollments.len());
            return Err(Misfit::new(at, why));
        }
        for enrollment in enrollments {
            row += 1;
            each(row, json::flatten(enrollment))?;
        }
        Ok(())
    })
}
