//! The exchange, both roles, sans I/O.
//!
//! A unit's side is a chain of states in types; each is named for what it waits
//! for and `handle` yields the next one or gives the same state back:
//!
//! ```text
//! device::Start ─request→ ExpectResponse ─handle(M2)→ Received
//!      (the store commits the record and reads it back: record::Committed)
//! Received ─commit(Committed)→ ExpectAck ─confirm→ M3 ─handle(M4|NACK)→ Ending
//! boot with a pending record ─ExpectAck::resume──┘
//! ```
//!
//! An agent serves many units and persists before it answers, so its side is a
//! set of functions over data that live in a database:
//! [`agent::Request::open`] → [`agent::Request::respond`] → [`agent::Pending`] →
//! [`agent::Pending::open_confirm`] → [`agent::Pending::ack`], or [`agent::nack`].
//!
//! Invariants: a refused frame leaves the state as it was; ephemerals, N1 and N3
//! are single use because the state that holds them is consumed; nothing here
//! answers a frame that is not authentic.

pub mod agent;
pub mod device;

pub use device::{Activated, Content, Ending, ExpectAck, ExpectResponse, Received, Refused, Start};

use crate::cert::{CERT_LEN, Cert, Trust};
use crate::crypto::Hash;
use crate::error::Error;
use crate::frame::Xid;
use crate::ids::{Generation, UnitId};
use crate::keys::EphemeralSecret;
use crate::schedule::KeyContext;
use crate::wire::{Reader, Writer};

/// A nonce: 16 random bytes.
pub type Nonce = [u8; 16];
/// An initialisation vector: 16 random bytes, fresh per frame.
pub type Iv = [u8; 16];

/// Fresh randomness for one message 1.
#[derive(Debug)]
pub struct RequestEntropy {
    /// The exchange's number on the line.
    pub xid: Xid,
    /// N1.
    pub n1: Nonce,
    /// The frame's IV.
    pub iv: Iv,
    /// e_D; unused in suite 1.
    pub ephemeral: EphemeralSecret,
}

/// Fresh randomness for one message 2.
#[derive(Debug)]
pub struct ResponseEntropy {
    /// N2.
    pub n2: Nonce,
    /// The frame's IV.
    pub iv: Iv,
    /// e_A; unused in suite 1.
    pub ephemeral: EphemeralSecret,
}

/// Fresh randomness for one message 3.
#[derive(Clone, Copy, Debug)]
pub struct ConfirmEntropy {
    /// N3.
    pub n3: Nonce,
    /// The frame's IV.
    pub iv: Iv,
}

/// Why an agent refused a message 3. All are treated alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NackReason(pub u8);

impl NackReason {
    /// The pending entry was evicted.
    pub const EVICTED: Self = Self(1);
    /// The agent refuses the key.
    pub const REFUSED: Self = Self(2);
}

/// The clear part of messages 3, 4 and NACK: UID ‖ new generation.
const CLEAR_LEN: usize = 16;

const STATUS_REQUEST_CLOUD: u8 = 0x10;
const STATUS_SUCCESS: u8 = 0x01;
const STATUS_ACTIVATED: u8 = 0x02;
const STATUS_REJECTED: u8 = 0x03;

fn clear_of(unit: &UnitId, generation: Generation) -> [u8; CLEAR_LEN] {
    KeyContext::unit(unit, generation).0
}

/// "OTAK2-REQ\0" ‖ purpose1 ‖ KC ‖ e_D ‖ UID ‖ N1.
fn sig_req_message(
    purpose: u8,
    kc: &KeyContext,
    e_d: &[u8; 32],
    unit: &UnitId,
    n1: &Nonce,
) -> Result<[u8; 87], Error> {
    let mut out = [0; 87];
    let mut w = Writer::new(&mut out);
    w.put(b"OTAK2-REQ\0")?;
    w.put(&[purpose])?;
    w.put(&kc.0)?;
    w.put(e_d)?;
    w.put(&unit.0)?;
    w.put(n1)?;
    Ok(out)
}

/// "OTAK2-AUTH\0" ‖ TH1.
fn sig_a_message(th1: &Hash) -> Result<[u8; 43], Error> {
    let mut out = [0; 43];
    let mut w = Writer::new(&mut out);
    w.put(b"OTAK2-AUTH\0")?;
    w.put(th1)?;
    Ok(out)
}

/// "OTAK2-DEV\0" ‖ TH2.
fn sig_dev_message(th2: &Hash) -> Result<[u8; 42], Error> {
    let mut out = [0; 42];
    let mut w = Writer::new(&mut out);
    w.put(b"OTAK2-DEV\0")?;
    w.put(th2)?;
    Ok(out)
}

/// "OTAK2-NACK\0" ‖ H(frame3) ‖ UID ‖ gen4.
fn sig_nack_message(frame3_hash: &Hash, clear: &[u8; CLEAR_LEN]) -> Result<[u8; 59], Error> {
    let mut out = [0; 59];
    let mut w = Writer::new(&mut out);
    w.put(b"OTAK2-NACK\0")?;
    w.put(frame3_hash)?;
    w.put(clear)?;
    Ok(out)
}

/// Reads `ncert1 certs` (region, then agent).
fn read_certs(r: &mut Reader<'_>) -> Result<(Cert, Cert), Error> {
    if r.u8()? != 2 {
        return Err(Error::Length);
    }
    Ok((Cert(r.array::<CERT_LEN>()?), Cert(r.array::<CERT_LEN>()?)))
}

/// Reads certificates and verifies the chain for this unit.
fn agent_key_of(region: &Cert, agent: &Cert, trust: &Trust<'_>) -> Result<crate::keys::PublicKey, Error> {
    Ok(*trust.verify_agent_chain(region, agent)?.public_key())
}
