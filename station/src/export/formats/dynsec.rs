//! Mosquitto dynamic security: one message for `$CONTROL/dynamic-security/v1`. The broker rewrites its whole file per message,
//! so all commands are in one.
//!
//! A unit is two commands: its role, with what it may publish and subscribe to, and its client. They are what the station's own
//! Mosquitto platform makes, so an agent that takes over later finds its own clients. A `deleteClient` stands in front of them for
//! every login of the unit that newer keys took the place of.

use super::{Each, Field, Misfit, Passed, ReadField, json};
use crate::cloud::{Identity, acls, description, role_name};
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

pub(super) fn retire(identity: Identity) -> String {
    format!("{{\"command\":\"deleteClient\",\"username\":\"{identity}\"}},\n")
}

/// The name in a command that deletes; `None`: it is another row.
pub(super) fn retired(fields: &[ReadField]) -> Option<&str> {
    match fields {
        [one] if one.path == DELETES => Some(&one.value),
        _ => None,
    }
}

/// The only field of a row that is a `deleteClient`.
const DELETES: &str = "deleteClient.username";

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
    json::array(source, Some("commands"), &mut |_, command| {
        if role.is_none() {
            rows += 1;
        }
        let row = rows;
        if role.is_none() && command["command"] == "deleteClient" {
            let mut fields = json::flatten(command);
            let Some(at) = fields.iter().position(|f| f.path == "username").filter(|_| fields.len() == 2)
            else {
                return Err(Misfit::new(row, "a deleteClient names one client, nothing else"));
            };
            let mut username = fields.swap_remove(at);
            username.path = DELETES.into();
            return each(row, vec![username]);
        }
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
