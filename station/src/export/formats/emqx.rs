//! Users of EMQX's built-in database, as CSV or as a JSON array: `password_hash` is SHA-256 of the salt, as text, and the
//! password behind it (`salt_position = prefix`, EMQX's default). The salt comes from the unit's key, so that the same unit gives
//! the same row every time.

use super::{Field, Passed};
use keywright_protocol::crypto;

pub(super) const COLUMNS: [&str; 4] = ["user_id", "password_hash", "salt", "is_superuser"];

pub(super) fn fields(unit: &Passed<'_>) -> Result<Vec<Field>, String> {
    let identity = unit.identity().to_string();
    let salt = hex::encode(&unit.derived(format!("emqx salt {identity}").as_bytes())?[..16]);
    let hash = hash(&salt, unit.credential()?.expose());
    Ok(vec![
        Field::text("user_id", identity),
        Field::text("password_hash", hash),
        Field::text("salt", salt),
        Field::bare("is_superuser", false),
    ])
}

fn hash(salt: &str, password: &str) -> String {
    hex::encode(crypto::sha256(&[salt.as_bytes(), password.as_bytes()]))
}

#[cfg(test)]
mod tests {
    /// `myuser3` of the sample in EMQX's own manual, whose password is `mypassword3`.
    #[test]
    fn the_hash_is_the_one_of_emqx() {
        assert_eq!(
            super::hash("de1024f462fb83910fd13151bd4bd235", "mypassword3"),
            "b6c743545a7817ae8c8f624371d5f5f0373234bb0ff36b8ffbf19bce0e06ab75"
        );
    }
}
