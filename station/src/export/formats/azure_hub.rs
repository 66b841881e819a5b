//! Azure IoT Hub `devices.txt`. `importMode` is always `create`: the default would overwrite a device that exists.

use super::{Field, Passed};

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
