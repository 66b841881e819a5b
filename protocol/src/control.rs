//! Channel 1, messages between station and unit, and channel 4, log records.
//!
//! ```text
//! 0x01 StatusRequest {}                     0x81 Status (66 bytes)
//! 0x02 ProveRequest  { challenge32 }        0x82 Proof  { uid12 generation4 ak_gen4 ck_gen4 mac_cloud32 mac_agent32 }
//! 0x03 Wake {}                              0x7f Refused { type1 failure2 }
//! 0x04 Reset {}
//! 0x05 Update        { purpose1 }
//! ```
//! All integers are big-endian, all lengths exact, the first byte is the type.
//! Nothing here is authenticated except [`Proof`]: a control message may hurry a
//! unit or make it answer, never change its keys.
//!
//! The numbers are a compatibility promise: types and values are only added.

use core::fmt;

use crate::crypto::{self, Hash};
use crate::error::{Error, FieldName};
use crate::frame::Purpose;
use crate::ids::{Generation, ProductOrder, Region, UnitId};
use crate::keys::{AgentKey, CloudKey};
use crate::wire::{Reader, Writer};

/// The version of the control messages in [`Status`].
pub const CONTROL_VERSION: u8 = 1;
/// The longest control message, in bytes.
pub const MAX_CONTROL: usize = if STATUS_LEN > PROOF_LEN { STATUS_LEN } else { PROOF_LEN };
const STATUS_LEN: usize = 1 + 1 + 4 + 12 + 1 + 1 + 2 + 4 * 4 + 16 + 2 + 1 + 4 + 4 + 1;
const PROOF_LEN: usize = 1 + 12 + 4 * 3 + 32 * 2;
const _: () = assert!(STATUS_LEN == 66 && PROOF_LEN == 89);

const STATUS_REQUEST: u8 = 0x01;
const PROVE_REQUEST: u8 = 0x02;
const WAKE: u8 = 0x03;
const RESET: u8 = 0x04;
const UPDATE: u8 = 0x05;
const STATUS: u8 = 0x81;
const PROOF: u8 = 0x82;
const REFUSED: u8 = 0x7f;

/// How far a unit has come. Unknown numbers of a newer unit are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stage(pub u8);

impl Stage {
    /// No product key: stage one has not run.
    pub const EMPTY: Self = Self(0);
    /// The product key is present: stage one is done.
    pub const PRODUCT_KEY: Self = Self(1);
    /// An agent key is committed and waits for the agent's confirmation.
    pub const AGENT_KEY_PENDING: Self = Self(2);
    /// The agent key is active; no cloud key yet.
    pub const AGENT_KEY_ACTIVE: Self = Self(3);
    /// A cloud key is committed and waits for the agent's confirmation.
    pub const CLOUD_KEY_PENDING: Self = Self(4);
    /// Agent key and cloud key are confirmed.
    pub const ACTIVE: Self = Self(5);
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::EMPTY => "empty",
            Self::PRODUCT_KEY => "product key present",
            Self::AGENT_KEY_PENDING => "agent key pending",
            Self::AGENT_KEY_ACTIVE => "agent key active",
            Self::CLOUD_KEY_PENDING => "cloud key pending",
            Self::ACTIVE => "active",
            Self(other) => return write!(f, "unknown stage {other}"),
        })
    }
}

/// What a key area holds. Unknown numbers of a newer unit are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AreaStatus(pub u8);

impl AreaStatus {
    /// Erased.
    pub const BLANK: Self = Self(0);
    /// A valid record that is committed but not confirmed.
    pub const UNCONFIRMED: Self = Self(1);
    /// A valid, committed and confirmed record.
    pub const ACTIVE: Self = Self(2);
    /// Torn, damaged or another unit's.
    pub const INVALID: Self = Self(3);
    /// Retired after an authentic refusal.
    pub const RETIRED: Self = Self(4);
    /// The product-key record of stage one.
    pub const PRODUCT_KEY: Self = Self(5);
}

impl fmt::Display for AreaStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::BLANK => "blank",
            Self::UNCONFIRMED => "unconfirmed",
            Self::ACTIVE => "active",
            Self::INVALID => "invalid",
            Self::RETIRED => "retired",
            Self::PRODUCT_KEY => "product key",
            Self(other) => return write!(f, "unknown area state {other}"),
        })
    }
}

/// How a unit stands with its cloud. Unknown numbers of a newer unit are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloudSession(pub u8);

impl CloudSession {
    /// It has no cloud key, or no address.
    pub const NONE: Self = Self(0);
    /// It tries to log in.
    pub const TRYING: Self = Self(1);
    /// It is logged in, and the broker acknowledged its birth message.
    pub const BORN: Self = Self(2);
    /// The broker does not let it in with its key.
    pub const REFUSED: Self = Self(3);
}

impl fmt::Display for CloudSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::NONE => "no cloud key",
            Self::TRYING => "logging in",
            Self::BORN => "logged in",
            Self::REFUSED => "login refused",
            Self(other) => return write!(f, "unknown cloud state {other}"),
        })
    }
}

/// A unit's state, as it reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// [`CONTROL_VERSION`] of the unit's firmware.
    pub proto_ver: u8,
    /// Firmware version: major, minor, patch, 0.
    pub fw_ver: [u8; 4],
    /// The hardware id.
    pub unit: UnitId,
    /// How far it has come.
    pub stage: Stage,
    /// The suite it will use or used: 1 or 2; 0 if it has no order yet.
    pub suite: u8,
    /// Key area A.
    pub area_a: AreaStatus,
    /// Key area B.
    pub area_b: AreaStatus,
    /// The generation of the preferred record; 0 if none.
    pub generation: Generation,
    /// The agent key's generation; 0 if none.
    pub agent_key: Generation,
    /// The cloud key's generation; 0 if none.
    pub cloud_key: Generation,
    /// The unit's region; 0 if it has no order yet.
    pub region: Region,
    /// The product order; zero if it has none.
    pub order: ProductOrder,
    /// The last failure's number, 0 if none since power-on. Unknown numbers of
    /// newer firmware are kept; see [`crate::DeviceFailure::from_code`].
    pub last_failure: u16,
    /// Why the unit last started: the top byte of RCC_CSR (RM0090 §7.3.21).
    pub reset_cause: u8,
    /// Milliseconds since reset.
    pub uptime_ms: u32,
    /// Bytes of RAM ever used: statics and deepest stack.
    pub stack_high_water: u32,
    /// How it stands with its cloud.
    pub cloud: CloudSession,
}

/// A unit's answer to a challenge: it holds the keys it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The hardware id.
    pub unit: UnitId,
    /// The generation of the active record.
    pub generation: Generation,
    /// The agent key's generation.
    pub agent_key: Generation,
    /// The cloud key's generation.
    pub cloud_key: Generation,
    /// MAC under the installed cloud key.
    pub mac_cloud: Hash,
    /// MAC under the installed agent key.
    pub mac_agent: Hash,
}

fn prove_mac(
    key: &[u8],
    which: &[u8],
    challenge: &Hash,
    unit: &UnitId,
    generation: Generation,
    key_generation: Generation,
) -> Hash {
    let mac_key = crypto::derive(b"OTAK/v1/prove", key, &[which]);
    crypto::hmac(
        &mac_key,
        &[challenge, &unit.0, &generation.0.to_be_bytes(), &key_generation.0.to_be_bytes()],
    )
}

impl Proof {
    /// Answers `challenge` with the installed keys:
    /// `HM(Expand(Extract("OTAK/v1/prove", key), "cloud" | "agent", 32),
    /// challenge ‖ uid ‖ generation ‖ generation of that key)`.
    #[must_use]
    pub fn compute(
        challenge: &Hash,
        unit: &UnitId,
        generation: Generation,
        agent: (Generation, &AgentKey),
        cloud: (Generation, &CloudKey),
    ) -> Self {
        Self {
            unit: *unit,
            generation,
            agent_key: agent.0,
            cloud_key: cloud.0,
            mac_cloud: prove_mac(cloud.1.expose(), b"cloud", challenge, unit, generation, cloud.0),
            mac_agent: prove_mac(agent.1.expose(), b"agent", challenge, unit, generation, agent.0),
        }
    }

    /// Checks the cloud half of the proof: whoever holds the cloud key.
    ///
    /// # Errors
    /// [`Error::Blank`] for a blank key or unit id, [`Error::Field`] if the proof
    /// is of another unit or cloud-key generation, [`Error::Tag`] if the unit
    /// does not hold this key.
    pub fn verify_cloud(
        &self,
        challenge: &Hash,
        unit: &UnitId,
        generation: Generation,
        key: &CloudKey,
    ) -> Result<(), Error> {
        self.check_unit(unit, key.is_blank())?;
        if self.cloud_key != generation {
            return Err(Error::Field(FieldName::Generation));
        }
        let expected = prove_mac(key.expose(), b"cloud", challenge, unit, self.generation, generation);
        if crypto::tags_equal(&expected, &self.mac_cloud) { Ok(()) } else { Err(Error::Tag) }
    }

    /// Checks the agent half of the proof: whoever holds the agent key.
    ///
    /// # Errors
    /// As [`Proof::verify_cloud`].
    pub fn verify_agent(
        &self,
        challenge: &Hash,
        unit: &UnitId,
        generation: Generation,
        key: &AgentKey,
    ) -> Result<(), Error> {
        self.check_unit(unit, key.is_blank())?;
        if self.agent_key != generation {
            return Err(Error::Field(FieldName::Generation));
        }
        let expected = prove_mac(key.expose(), b"agent", challenge, unit, self.generation, generation);
        if crypto::tags_equal(&expected, &self.mac_agent) { Ok(()) } else { Err(Error::Tag) }
    }

    fn check_unit(&self, unit: &UnitId, key_blank: bool) -> Result<(), Error> {
        if unit.is_blank() || key_blank {
            Err(Error::Blank)
        } else if self.unit != *unit {
            Err(Error::Field(FieldName::UnitId))
        } else {
            Ok(())
        }
    }
}

/// A control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Station: tell me your state.
    StatusRequest,
    /// Unit: my state.
    Status(Status),
    /// Station: prove the keys you hold.
    ProveRequest {
        /// A fresh random challenge.
        challenge: Hash,
    },
    /// Unit: the proof.
    Proof(Proof),
    /// Station: somebody listens; clear the back-off and send what is due now.
    Wake,
    /// Station: reset in an orderly way.
    Reset,
    /// Station: start an update under the current agent key. Answered by a Status, or refused while another runs.
    Update {
        /// Agent-key or cloud-key update; INIT is no update.
        purpose: Purpose,
    },
    /// Unit: the request cannot be served.
    Refused {
        /// The refused message's type byte.
        request: u8,
        /// The failure's number, see [`crate::DeviceFailure`].
        failure: u16,
    },
}

impl Control {
    /// The type byte.
    #[must_use]
    pub const fn type_byte(&self) -> u8 {
        match self {
            Control::StatusRequest => STATUS_REQUEST,
            Control::Status(_) => STATUS,
            Control::ProveRequest { .. } => PROVE_REQUEST,
            Control::Proof(_) => PROOF,
            Control::Wake => WAKE,
            Control::Reset => RESET,
            Control::Update { .. } => UPDATE,
            Control::Refused { .. } => REFUSED,
        }
    }

    /// Writes the message; returns its length (at most [`MAX_CONTROL`]).
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        let mut w = Writer::new(out);
        w.put(&[self.type_byte()])?;
        match self {
            Control::StatusRequest | Control::Wake | Control::Reset => {}
            Control::ProveRequest { challenge } => w.put(challenge)?,
            Control::Update { purpose } => w.put(&[purpose.number()])?,
            Control::Refused { request, failure } => {
                w.put(&[*request])?;
                w.put(&failure.to_be_bytes())?;
            }
            Control::Proof(p) => {
                w.put(&p.unit.0)?;
                for generation in [p.generation, p.agent_key, p.cloud_key] {
                    w.put(&generation.0.to_be_bytes())?;
                }
                w.put(&p.mac_cloud)?;
                w.put(&p.mac_agent)?;
            }
            Control::Status(s) => {
                w.put(&[s.proto_ver])?;
                w.put(&s.fw_ver)?;
                w.put(&s.unit.0)?;
                w.put(&[s.stage.0, s.suite, s.area_a.0, s.area_b.0])?;
                for generation in [s.generation, s.agent_key, s.cloud_key] {
                    w.put(&generation.0.to_be_bytes())?;
                }
                w.put(&s.region.0.to_be_bytes())?;
                w.put(&s.order.0)?;
                w.put(&s.last_failure.to_be_bytes())?;
                w.put(&[s.reset_cause])?;
                w.put(&s.uptime_ms.to_be_bytes())?;
                w.put(&s.stack_high_water.to_be_bytes())?;
                w.put(&[s.cloud.0])?;
            }
        }
        Ok(w.len())
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Error::UnknownMessage`] with the type that came, [`Error::Length`] if
    /// the message is not exactly as long as its type.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        let message = match r.u8()? {
            STATUS_REQUEST => Control::StatusRequest,
            WAKE => Control::Wake,
            RESET => Control::Reset,
            UPDATE => {
                let purpose = Purpose::from_number(r.u8()?).map_err(|_| Error::Field(FieldName::Value))?;
                if purpose == Purpose::Init {
                    return Err(Error::Field(FieldName::Value));
                }
                Control::Update { purpose }
            }
            PROVE_REQUEST => Control::ProveRequest { challenge: r.array()? },
            REFUSED => Control::Refused { request: r.u8()?, failure: r.u16()? },
            PROOF => Control::Proof(Proof {
                unit: UnitId(r.array()?),
                generation: Generation(r.u32()?),
                agent_key: Generation(r.u32()?),
                cloud_key: Generation(r.u32()?),
                mac_cloud: r.array()?,
                mac_agent: r.array()?,
            }),
            STATUS => Control::Status(Status {
                proto_ver: r.u8()?,
                fw_ver: r.array()?,
                unit: UnitId(r.array()?),
                stage: Stage(r.u8()?),
                suite: r.u8()?,
                area_a: AreaStatus(r.u8()?),
                area_b: AreaStatus(r.u8()?),
                generation: Generation(r.u32()?),
                agent_key: Generation(r.u32()?),
                cloud_key: Generation(r.u32()?),
                region: Region(r.u32()?),
                order: ProductOrder(r.array()?),
                last_failure: r.u16()?,
                reset_cause: r.u8()?,
                uptime_ms: r.u32()?,
                stack_high_water: r.u32()?,
                cloud: CloudSession(r.u8()?),
            }),
            got => return Err(Error::UnknownMessage { got }),
        };
        r.finish()?;
        Ok(message)
    }
}

/// How grave a log record is. Unknown numbers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Severity(pub u8);

impl Severity {
    /// Progress.
    pub const INFO: Self = Self(0);
    /// Something was repaired or repeated.
    pub const WARN: Self = Self(1);
    /// Something failed.
    pub const ERROR: Self = Self(2);
}

/// One record on the log channel: 7 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// A [`crate::DeviceFailure`] number, or 0 for plain progress.
    pub code: u16,
    /// How grave.
    pub severity: Severity,
    /// A number that goes with the code (an address, a count).
    pub detail: u32,
}

impl LogRecord {
    /// Its length on the line.
    pub const LEN: usize = 7;

    /// The bytes.
    #[must_use]
    pub const fn to_bytes(&self) -> [u8; Self::LEN] {
        let c = self.code.to_be_bytes();
        let d = self.detail.to_be_bytes();
        [c[0], c[1], self.severity.0, d[0], d[1], d[2], d[3]]
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`Error::Length`] unless exactly 7 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        let record = Self { code: r.u16()?, severity: Severity(r.u8()?), detail: r.u32()? };
        r.finish()?;
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: UnitId = UnitId(*b"\x00\x3a\x00\x27WRP 5532");

    fn samples() -> [Control; 9] {
        [
            Control::StatusRequest,
            Control::Status(Status {
                proto_ver: CONTROL_VERSION,
                fw_ver: [1, 2, 3, 0],
                unit: UNIT,
                stage: Stage::CLOUD_KEY_PENDING,
                suite: 2,
                area_a: AreaStatus::ACTIVE,
                area_b: AreaStatus(9),
                generation: Generation(4),
                agent_key: Generation(5),
                cloud_key: Generation(6),
                region: Region(7),
                order: ProductOrder(*b"PO-2025-000042\0\0"),
                last_failure: 0xfffe,
                reset_cause: 0x14,
                uptime_ms: 0x0102_0304,
                stack_high_water: 9_000,
                cloud: CloudSession::BORN,
            }),
            Control::ProveRequest { challenge: [9; 32] },
            Control::Proof(Proof {
                unit: UNIT,
                generation: Generation(1),
                agent_key: Generation(2),
                cloud_key: Generation(3),
                mac_cloud: [1; 32],
                mac_agent: [2; 32],
            }),
            Control::Wake,
            Control::Reset,
            Control::Refused { request: 2, failure: 0x0205 },
            Control::Update { purpose: Purpose::AgentKeyUpdate },
            Control::Update { purpose: Purpose::CloudKeyUpdate },
        ]
    }

    #[test]
    fn golden_bytes() {
        let mut out = [0; MAX_CONTROL];
        let n = samples()[6].encode(&mut out).unwrap();
        assert_eq!(out[..n], [0x7f, 2, 2, 5]);
        let n = samples()[1].encode(&mut out).unwrap();
        assert_eq!(
            out[..n],
            *b"\x81\x01\x01\x02\x03\x00\x00\x3a\x00\x27WRP 5532\x04\x02\x02\x09\
               \x00\x00\x00\x04\x00\x00\x00\x05\x00\x00\x00\x06\x00\x00\x00\x07\
               PO-2025-000042\0\0\xff\xfe\x14\x01\x02\x03\x04\x00\x00\x23\x28\x02"
        );
        let log = LogRecord { code: 0x0304, severity: Severity::WARN, detail: 0x0a0b_0c0d };
        assert_eq!(log.to_bytes(), [3, 4, 1, 10, 11, 12, 13]);
        assert_eq!(LogRecord::parse(&log.to_bytes()), Ok(log));
        assert_eq!(LogRecord::parse(&[0; 8]), Err(Error::Length));
    }

    #[test]
    fn messages_round_trip_and_lengths_are_exact() {
        for message in samples() {
            let mut out = [0; MAX_CONTROL + 1];
            let n = message.encode(&mut out).unwrap();
            assert_eq!(Control::decode(&out[..n]), Ok(message));
            assert_eq!(Control::decode(&out[..=n]), Err(Error::Length));
            assert_eq!(Control::decode(&out[..n - 1]), Err(Error::Length));
            assert_eq!(message.encode(&mut out[..n - 1]), Err(Error::BufferTooSmall));
        }
        assert_eq!(Control::decode(&[0x55]), Err(Error::UnknownMessage { got: 0x55 }));
        assert_eq!(Control::decode(&[]), Err(Error::Length));
    }

    #[test]
    fn a_proof_convinces_only_of_what_it_proves() {
        let challenge = [3; 32];
        let ak = AgentKey::from_bytes([4; 32]);
        let ck = CloudKey::new(&[5; 20]).unwrap();
        let proof =
            Proof::compute(&challenge, &UNIT, Generation(7), (Generation(2), &ak), (Generation(3), &ck));
        assert_eq!(proof.verify_agent(&challenge, &UNIT, Generation(2), &ak), Ok(()));
        assert_eq!(proof.verify_cloud(&challenge, &UNIT, Generation(3), &ck), Ok(()));

        let wrong = AgentKey::from_bytes([6; 32]);
        assert_eq!(proof.verify_agent(&challenge, &UNIT, Generation(2), &wrong), Err(Error::Tag));
        assert_eq!(
            proof.verify_agent(&[0; 32], &UNIT, Generation(2), &ak),
            Err(Error::Tag),
            "another challenge"
        );
        assert_eq!(
            proof.verify_agent(&challenge, &UNIT, Generation(3), &ak),
            Err(Error::Field(FieldName::Generation))
        );
        assert_eq!(
            proof.verify_agent(&challenge, &UnitId([1; 12]), Generation(2), &ak),
            Err(Error::Field(FieldName::UnitId))
        );
        let forged = Proof { generation: Generation(8), ..proof };
        assert_eq!(forged.verify_cloud(&challenge, &UNIT, Generation(3), &ck), Err(Error::Tag));
        // The two halves do not stand in for each other even under equal keys.
        let same = CloudKey::new(ak.expose()).unwrap();
        let both =
            Proof::compute(&challenge, &UNIT, Generation(7), (Generation(2), &ak), (Generation(2), &same));
        assert_ne!(both.mac_agent, both.mac_cloud);
        // Blank keys and ids prove nothing, whoever computed the MAC.
        let blank = AgentKey::from_bytes([0xff; 32]);
        let zero = Proof::compute(
            &challenge,
            &UnitId([0; 12]),
            Generation(7),
            (Generation(2), &blank),
            (Generation(3), &ck),
        );
        assert_eq!(zero.verify_agent(&challenge, &UnitId([0; 12]), Generation(2), &ak), Err(Error::Blank));
        assert_eq!(zero.verify_agent(&challenge, &UNIT, Generation(2), &blank), Err(Error::Blank));
    }
}
