//! ThingsBoard bulk provisioning: MQTT basic credentials, which are the unit's own identity and password.
//!
//! The import page knows what NAME, TYPE and LABEL are; what every other column is, a person says there. Columns that become attributes
//! have the attributes' names, which is what the page calls them by.

use super::{Field, Passed};

pub(super) const COLUMNS: [&str; 12] = [
    "NAME",
    "TYPE",
    "LABEL",
    "firmware_version",
    "batch",
    "ACCESS_TOKEN",
    "X509",
    "MQTT_CLIENT_ID",
    "MQTT_USER_NAME",
    "MQTT_PASSWORD",
    "IS_GATEWAY",
    "DESCRIPTION",
];

pub(super) fn fields(unit: &Passed<'_>) -> Result<Vec<Field>, String> {
    let name = unit.identity().to_string();
    Ok(vec![
        Field::text("NAME", unit.serial()),
        Field::text("TYPE", unit.row.part_number.clone().unwrap_or_default()),
        Field::text("LABEL", unit.unit.to_string()),
        Field::text("firmware_version", unit.row.firmware_version.clone().unwrap_or_default()),
        Field::text("batch", unit.row.batch.clone()),
        Field::text("ACCESS_TOKEN", ""),
        Field::text("X509", ""),
        Field::text("MQTT_CLIENT_ID", name.clone()),
        Field::text("MQTT_USER_NAME", name),
        Field::secret("MQTT_PASSWORD", unit.credential()?.expose()),
        Field::text("IS_GATEWAY", "false"),
        Field::text("DESCRIPTION", format!("Keywright, product order {}", unit.row.product_order)),
    ])
}
