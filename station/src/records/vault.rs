//! The one way to a unit's keys in clear: for the agent while it handles a frame, and for an export that encrypts them
//! to its recipients at once. Nothing here writes.

use super::RecordsError;
use super::sqlite::{Inner, assignment_seal};
use crate::model::*;
use keywright_protocol::crypto;
use rusqlite::OptionalExtension;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A unit's live key of one kind.
#[derive(Clone, Debug)]
pub struct UnitKey {
    /// Its generation.
    pub generation: u32,
    /// The first 8 bytes of SHA-256("keywright/key-id/v1" ‖ key), hex: names a key without showing it.
    pub key_id: String,
    /// The key, unsealed.
    pub key: SecretBytes,
}

/// Key bytes of any length: redacted, wiped when dropped.
#[derive(Clone)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    pub(super) fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// The bytes. Never log, print or store them unsealed.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// All zero or all FF: never a key.
    pub fn is_blank(&self) -> bool {
        crypto::is_blank(&self.0)
    }
}

impl std::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretBytes(redacted)")
    }
}

/// A unit's live keys.
#[derive(Clone, Debug, Default)]
pub struct UnitKeys {
    /// The agent key the unit confirmed, if any.
    pub agent: Option<UnitKey>,
    /// The cloud key the unit confirmed, if any.
    pub cloud: Option<UnitKey>,
}

/// Opens sealed keys with the unlocked station key.
#[derive(Clone)]
pub struct KeyVault(pub(super) Arc<Inner>);

impl std::fmt::Debug for KeyVault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyVault(redacted)")
    }
}

impl KeyVault {
    /// The live keys of a unit: posted, not yet replaced.
    pub fn unit_keys(&self, unit: UnitId) -> Result<UnitKeys, RecordsError> {
        Ok(UnitKeys { agent: self.live(unit, "agent")?, cloud: self.live(unit, "cloud")? })
    }

    /// The state and the live keys of many units, as of one moment; `None` for a unit that is not here.
    pub fn keys_of_many(&self, units: &[UnitId]) -> Result<Vec<Option<(UnitState, UnitKeys)>>, RecordsError> {
        type Sealed = (UnitState, Vec<(String, u32, String, Vec<u8>)>);
        let sealed: Vec<Option<Sealed>> = self.0.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT u.state, k.purpose, k.generation, k.key_id, k.key_sealed FROM unit u LEFT JOIN key_assignment k
                   ON k.unit = u.id AND k.state = 'posted' AND k.retired_at_ms IS NULL
                 WHERE u.uid = ?1",
            )?;
            let mut all = Vec::with_capacity(units.len());
            for unit in units {
                let mut found: Option<Sealed> = None;
                let mut rows = statement.query([unit.0])?;
                while let Some(r) = rows.next()? {
                    let (_, keys) = match &mut found {
                        Some(found) => found,
                        None => found.insert((super::sqlite::word(r, 0)?, Vec::new())),
                    };
                    if let Some(purpose) = r.get::<_, Option<String>>(1)? {
                        keys.push((purpose, r.get(2)?, r.get(3)?, r.get(4)?));
                    }
                }
                all.push(found);
            }
            Ok(all)
        })?;
        let open = |unit: UnitId, (state, rows): Sealed| -> Result<(UnitState, UnitKeys), RecordsError> {
            let mut keys = UnitKeys::default();
            for (purpose, generation, key_id, sealed) in rows {
                let kind = if purpose == "agent" { "agent" } else { "cloud" };
                let key = self.0.open_sealed(&assignment_seal(unit, kind, generation), &sealed)?;
                let key = Some(UnitKey { generation, key_id, key: SecretBytes::new(key) });
                if kind == "agent" { keys.agent = key } else { keys.cloud = key }
            }
            Ok((state, keys))
        };
        units
            .iter()
            .zip(sealed)
            .map(|(unit, sealed)| sealed.map(|sealed| open(*unit, sealed)).transpose())
            .collect()
    }

    fn live(&self, unit: UnitId, kind: &'static str) -> Result<Option<UnitKey>, RecordsError> {
        let row = self.0.read(|c| {
            c.prepare_cached(
                "SELECT k.generation, k.key_id, k.key_sealed FROM key_assignment k JOIN unit u ON u.id = k.unit
                 WHERE u.uid = ?1 AND k.purpose = ?2 AND k.state = 'posted' AND k.retired_at_ms IS NULL",
            )?
            .query_row((unit.0, kind), |r| {
                Ok((r.get::<_, u32>(0)?, r.get::<_, String>(1)?, r.get::<_, Vec<u8>>(2)?))
            })
            .optional()
        })?;
        row.map(|(generation, key_id, sealed)| {
            let key = self.0.open_sealed(&assignment_seal(unit, kind, generation), &sealed)?;
            Ok(UnitKey { generation, key_id, key: SecretBytes::new(key) })
        })
        .transpose()
    }

    /// One cloud key of a unit by generation, voided ones as well: to show that it opens nothing any more.
    pub(crate) fn past_cloud_key(
        &self,
        unit: UnitId,
        generation: u32,
    ) -> Result<Option<SecretBytes>, RecordsError> {
        self.key_in(unit, "cloud", generation, true)
    }

    /// One key of a unit by generation, whatever its state; `None` if it was never issued or is voided.
    pub(crate) fn key(
        &self,
        unit: UnitId,
        kind: &'static str,
        generation: u32,
    ) -> Result<Option<SecretBytes>, RecordsError> {
        self.key_in(unit, kind, generation, false)
    }

    fn key_in(
        &self,
        unit: UnitId,
        kind: &'static str,
        generation: u32,
        voided: bool,
    ) -> Result<Option<SecretBytes>, RecordsError> {
        let sealed = self.0.read(|c| {
            c.prepare_cached(
                "SELECT k.key_sealed FROM key_assignment k JOIN unit u ON u.id = k.unit
                 WHERE u.uid = ?1 AND k.purpose = ?2 AND k.generation = ?3 AND (k.state <> 'voided' OR ?4)",
            )?
            .query_row((unit.0, kind, generation, voided), |r| r.get::<_, Vec<u8>>(0))
            .optional()
        })?;
        sealed
            .map(|sealed| self.0.open_sealed(&assignment_seal(unit, kind, generation), &sealed))
            .transpose()
            .map(|key| key.map(SecretBytes::new))
    }

    /// The product key of an order.
    pub(crate) fn product_key(&self, po: &ProductOrder) -> Result<crate::secrets::Secret<32>, RecordsError> {
        let sealed: Vec<u8> = self.0.read(|c| {
            c.query_row("SELECT product_key_sealed FROM product_order WHERE id = ?1", [po.id.0], |r| r.get(0))
        })?;
        self.0.product_key(&po.name, &sealed)
    }
}
