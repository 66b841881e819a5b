//! The OTA-Key exchange, its certificates and anchors, the key-area record and
//! the serial framing of Keywright: every byte that two parties must agree on
//! has its one home here.
//!
//! The crate does no I/O, owns no clock and no source of randomness, and
//! allocates nothing: buffers, nonces, IVs and ephemeral secrets are passed in.
//! The same code runs on the unit (Cortex-M4) and in the agent.
//!
//! # Map
//! | module | holds |
//! |---|---|
//! | [`ids`], [`keys`] | identities and secrets as types |
//! | [`frame`] | the 12-byte header, lengths, sealing and opening |
//! | [`schedule`], [`crypto`] | key schedule; the primitives below it |
//! | [`exchange`] | both roles of INIT, AKU and CKU in suites 1 and 2 |
//! | [`cert`], [`anchors`], [`relay`], [`merkle`], [`chain`] | who may say what |
//! | [`record`] | the key-area record and its marks; cloud records |
//! | [`serial`], [`control`] | COBS packets with channels; station ↔ unit messages |
//! | [`failure`], [`error`] | numbered unit failures; reasons for refusal |
//!
//! # Invariants
//! - Nothing a peer sends can panic: no indexing, no unwrap outside tests.
//! - A frame that is refused changes nothing; the reason is for counters and
//!   tests, never for the wire.
//! - A secret has a type that redacts, zeroizes and compares in constant time.
//! - "Activated", "refused" and "committed" are values only a verification can
//!   make, so acting on an unverified frame does not compile.
#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable
    )
)]
#![deny(unsafe_code)]

pub mod anchors;
pub mod bridge;
pub mod cert;
pub mod chain;
pub mod control;
pub mod crypto;
pub mod error;
pub mod exchange;
pub mod failure;
pub mod frame;
pub mod ids;
pub mod keys;
pub mod map;
pub mod merkle;
pub mod record;
pub mod relay;
pub mod schedule;
pub mod serial;
mod wire;

pub use error::{Error, FieldName};
pub use failure::DeviceFailure;
pub use frame::{MAX_CLOUD_RECORD, MAX_FRAME, Purpose, Step, Suite, Xid};
pub use ids::{Generation, ProductOrder, Region, UnitId};
pub use keys::{
    AgentKey, BaseKey, CloudKey, IdentityKey, ProductKey, PublicKey, Signature, Signer, StorageSecret,
    StoreKey,
};
