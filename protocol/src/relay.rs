//! The relay envelope: how a station attests an enrolment over a line.
//!
//! ```text
//! station_id8 PO16 token16 counter8 UID12 DIK_pub32 H(frame1)32 SIG_S64        188 bytes
//! SIG_S over "OTAK/relay/v1\0" ‖ the 124 bytes before it; message 1 follows
//! ```
//! The station reads the UID itself over SWD: that is the only attestation this
//! chip allows. Without it one who knows the product key could invent units.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::crypto::{self, Hash};
use crate::error::{Error, FieldName};
use crate::ids::{ProductOrder, Region, UnitId};
use crate::keys::{PublicKey, Signature, Signer};
use crate::wire::{Reader, Writer};

/// Length of an envelope.
pub const ENVELOPE_LEN: usize = 188;
const DOMAIN: &[u8; 14] = b"OTAK/relay/v1\0";
const SIGNED_LEN: usize = ENVELOPE_LEN - 64;

/// A one-shot enrolment token: 16 random bytes, worth one unit. The agent keeps
/// only its hash.
#[derive(Clone, Zeroize, ZeroizeOnDrop, PartialEq, Eq)]
pub struct Token([u8; 16]);

impl Token {
    /// Takes over the bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The secret bytes.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 16] {
        &self.0
    }

    /// H(token), as the agent stores it.
    #[must_use]
    pub fn hash(&self) -> Hash {
        crypto::sha256(&[&self.0])
    }
}

impl core::fmt::Debug for Token {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// A station: region ‖ number, as in its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StationId {
    /// Its region: the certificate's issuer.
    pub region: Region,
    /// Its number: the certificate's subject.
    pub station: u32,
}

/// What a station attests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The station.
    pub station: StationId,
    /// The product order.
    pub order: ProductOrder,
    /// The token this unit uses up.
    pub token: Token,
    /// Strictly grows per station.
    pub counter: u64,
    /// The unit, as read over SWD.
    pub unit: UnitId,
    /// The identity key of message 1.
    pub identity: PublicKey,
    /// H(message 1).
    pub frame1_hash: Hash,
}

impl Envelope {
    /// Signs the envelope.
    ///
    /// # Errors
    /// [`Error::SignerUnavailable`].
    pub fn sign(&self, station: &dyn Signer) -> Result<[u8; ENVELOPE_LEN], Error> {
        let mut message = [0u8; DOMAIN.len() + SIGNED_LEN];
        let mut w = Writer::new(&mut message);
        w.put(DOMAIN)?;
        w.put(&self.station.region.0.to_be_bytes())?;
        w.put(&self.station.station.to_be_bytes())?;
        w.put(&self.order.0)?;
        w.put(self.token.expose())?;
        w.put(&self.counter.to_be_bytes())?;
        w.put(&self.unit.0)?;
        w.put(&self.identity.0)?;
        w.put(&self.frame1_hash)?;
        let signature = station.sign(&message)?;
        let mut out = [0; ENVELOPE_LEN];
        let mut w = Writer::new(&mut out);
        w.put(message.get(DOMAIN.len()..).ok_or(Error::Length)?)?;
        w.put(&signature.0)?;
        message.zeroize();
        Ok(out)
    }

    /// Verifies an envelope and that it goes with `frame1`. Whether the token is
    /// unused or bound to this unit, and whether the unit in message 1 is the
    /// same, is for the agent to check.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Signature`], [`Error::Field`] for another
    /// station, order or message 1, [`Error::RelayCounter`].
    pub fn verify(
        bytes: &[u8],
        station_key: &PublicKey,
        station: &StationId,
        order: &ProductOrder,
        frame1: &[u8],
        last_counter: u64,
    ) -> Result<Self, Error> {
        let (signed, signature) = bytes.split_last_chunk::<64>().ok_or(Error::Length)?;
        let mut r = Reader::new(signed);
        let out = Self {
            station: StationId { region: Region(r.u32()?), station: r.u32()? },
            order: ProductOrder(r.array()?),
            token: Token(r.array()?),
            counter: r.u64()?,
            unit: UnitId(r.array()?),
            identity: PublicKey(r.array()?),
            frame1_hash: r.array()?,
        };
        r.finish()?;
        crypto::verify(station_key, &[DOMAIN, signed], &Signature(*signature))?;
        if out.station != *station {
            return Err(Error::Field(FieldName::Station));
        }
        if out.order != *order {
            return Err(Error::Field(FieldName::ProductOrder));
        }
        if out.frame1_hash != crypto::sha256(&[frame1]) {
            return Err(Error::Field(FieldName::Hash));
        }
        if out.counter <= last_counter {
            return Err(Error::RelayCounter);
        }
        Ok(out)
    }

    /// Reads the station of an envelope, unverified: which key to look up.
    ///
    /// # Errors
    /// [`Error::Length`] unless 188 bytes.
    pub fn peek_station(bytes: &[u8]) -> Result<StationId, Error> {
        if bytes.len() != ENVELOPE_LEN {
            return Err(Error::Length);
        }
        let mut r = Reader::new(bytes);
        Ok(StationId { region: Region(r.u32()?), station: r.u32()? })
    }
}
