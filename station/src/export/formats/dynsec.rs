//! Mosquitto dynamic security: one message for `$CONTROL/dynamic-security/v1`. The broker rewrites its whole file per message,
//! so all commands are in one.
//!
//! A unit is two commands: its role, with what it may publish and subscribe to, and its client. They are what the station's own
//! Mosquitto platform makes, so an agent that takes over later finds its own clients.

use super::{Each, Field, Misfit, Passed, ReadField, json};
use crate::cloud::{acls, description, role_name};
use serde_json::json;
use std::io::BufRead;

pub(super) fn fields(unit: &Passed<'_>) -> Result<Vec<Field>, String> {
    let (identity, credential) = (unit.identity(), unit.credential()?);
    let role = role_name(unit.unit);
    let mut fields = vec![Field::text("0.command", "createRole"), Field::text("0.rolename", role.clone())];
    json::fields_of("0.acls", json!(acls(unit.unit)), &mut fields);
    fields.extend([
        Field::text("1.command", "createClient"),
        Field::text("1.username", identity.to_string()),
        Field::text("1.clientid", identity.to_string()),
        Field::secret("1.password", credential.expose()),
        Field::text("1.textname", unit.serial()),
        Field::text("1.textdescription", description(credential.verifier(identity))),
        Field::text("1.roles.0.rolename", role),
        Field::bare("1.roles.0.priority", 1),
    ]);
    Ok(fields)
}

/// Both commands, one per line.
pub(super) fn row(out: &mut Vec<u8>, fields: &[Field]) {
    let (role, client) = fields.split_at(fields.iter().take_while(|f| f.path.starts_with("0.")).count());
    json::object(out, role, 1);
    out.extend_from_slice(b",\n");
    json::object(out, client, 1);
}

pub(super) fn read(source: &mut dyn BufRead, each: &mut Each<'_>) -> Result<(), Misfit> {
    let mut role: Option<Vec<ReadField>> = None;
    let mut rows = 0;
    json::array(source, Some("commands"), &mut |number, command| {
        let row = number.div_ceil(2);
        rows = row;
        let at = |mut fields: Vec<ReadField>, prefix: &str| {
            for field in &mut fields {
                field.path = format!("{prefix}.{}", field.path);
            }
            fields
        };
        match role.take() {
            None => {
                role = Some(at(json::flatten(command), "0"));
                Ok(())
            }
            Some(mut fields) => {
                fields.extend(at(json::flatten(command), "1"));
                each(row, fields)
            }
        }
    })?;
    match role {
        Some(_) => Err(Misfit::new(rows, "a createRole without its createClient")),
        None => Ok(()),
    }
}
