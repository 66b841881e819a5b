//! Azure IoT Hub `devices.txt`. `importMode` is `create`, for the default would overwrite a device that exists, or `delete` for an
//! identity that newer keys took the place of.

use super::{Field, Passed, ReadField};
use crate::cloud::Identity;

pub(super) fn retire(identity: Identity) -> String {
    format!("{{\"id\":\"{identity}\",\"importMode\":\"delete\"}}\n")
}

/// The name in a line that deletes; `None`: it is another line.
pub(super) fn retired(fields: &[ReadField]) -> Option<&str> {
    let value = |name: &str| fields.iter().find(|f| f.path == name).map(|f| f.value.as_str());
    let deletes = fields.len() == 2 && value("importMode") == Some("delete");
    value("id").filter(|_| deletes)
}

pub(super) fn fields(unit: &Passed<'_>) -> Result<Vec<Field>, String> {
    let [primary, secondary] = unit.azure_keys()?;
    Ok(vec![
        Field::text("id", unit.identity().to_string()),
        Field::text("status", "enabled"),
        Field::secret("authentication.symmetricKey.primaryKey", primary.as_str()),
        Field::secret("authentication.symmetricKey.secondaryKey", secondary.as_str()),
        Field::text("importMode", "create"),
    ])
}
