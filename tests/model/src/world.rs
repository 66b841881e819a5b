//! What was fixed before the unit was made: its order, its keys, its anchors.

use std::sync::OnceLock;

use keywright_protocol::cert::{Cert, CertFields, NEVER, Role, unit_scope, unit_subject};
use keywright_protocol::keys::{IdentityKey, Seed};
use keywright_protocol::record::{MAX_RECORD, Order, RootAnchor, StageOne};
use keywright_protocol::{ProductKey, ProductOrder, PublicKey, Region, Suite};

use crate::UNIT;

const REGION: u32 = 7;
const ROOT_EPOCH: u32 = 3;
/// The agent's clock. It stands still: what it does to the unit's time floor is not part of the model.
pub const TIME: u64 = 1_800_000_000;

/// The product order.
pub fn order() -> ProductOrder {
    ProductOrder::from_text("PO-2025-000042").expect("a good name")
}

/// The product key.
pub fn product_key() -> ProductKey {
    ProductKey::from_bytes([0x21; 32])
}

fn key(n: u8) -> IdentityKey {
    IdentityKey::from_seed(&Seed::from_bytes([n; 32]))
}

fn sign(
    by: &IdentityKey,
    role: Role,
    issuer: u32,
    subject: u32,
    scope: [u8; 16],
    public_key: PublicKey,
) -> Cert {
    CertFields {
        role,
        issuer,
        subject,
        root_epoch: ROOT_EPOCH,
        epoch: 1,
        not_before: 0,
        not_after: NEVER,
        public_key,
        scope,
    }
    .sign(by)
    .expect("a good certificate")
}

/// The region's certificate and the unit's.
pub fn unit_certs() -> (Cert, Cert) {
    static CERTS: OnceLock<(Cert, Cert)> = OnceLock::new();
    *CERTS.get_or_init(|| {
        let (root, region) = (key(1), key(2));
        (
            sign(&root, Role::Region, 0, REGION, [0; 16], region.public()),
            sign(&region, Role::DeviceTier, REGION, unit_subject(&UNIT), unit_scope(&UNIT), key(5).public()),
        )
    })
}

/// The product-key record that the line writes into area B.
pub fn stage_one() -> Vec<u8> {
    let mut out = vec![0; MAX_RECORD];
    let len = StageOne {
        order: Order { order: order(), region: Region(REGION), minimum_suite: Suite::Legacy.number() },
        product_key: &product_key(),
        root: RootAnchor { epoch: ROOT_EPOCH, key: key(1).public() },
        bundle: None,
    }
    .build(&mut out)
    .expect("a good record");
    out.truncate(len);
    out
}
