//! What the engine needs from the outside, besides a NOR flash (`embedded_storage`).

use keywright_protocol::serial::{Channel, Packet};

/// A packet link to the other end of the wire. Packets may be lost, repeated or reordered.
pub trait Link {
    /// Queues one packet. A packet goes out whole or not at all.
    ///
    /// # Errors
    /// [`LinkFull`] when the transmit buffer has no room; nothing was queued.
    fn send(&mut self, channel: Channel, payload: &[u8]) -> Result<(), LinkFull>;

    /// Takes the next whole packet, if one has arrived. It is valid until the next call; its payload is
    /// mutable so that a frame can be opened where it arrived.
    fn receive(&mut self) -> Option<Packet<'_>>;

    /// Packets dropped for damage since boot.
    fn dropped(&self) -> u32;
}

/// The transmit buffer had no room for the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkFull;

/// A source of random bytes that can fail. Nothing that needs randomness goes on after a failure.
pub trait Rng {
    /// Fills `out` with fresh random bytes.
    ///
    /// # Errors
    /// [`RngFault`]; `out` holds nothing usable then.
    fn fill(&mut self, out: &mut [u8]) -> Result<(), RngFault>;
}

/// Why the random number generator gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RngFault {
    /// The noise source repeated itself or got stuck, and re-initialising did not help.
    Seed,
    /// Its 48 MHz clock is missing or too slow.
    Clock,
    /// It kept giving the same word.
    Repeated,
    /// No word within the bounded wait.
    Timeout,
}

/// A byte pipe below a [`Link`]: UART rings on the chip, queues in host tests.
pub trait BytePort {
    /// Takes the next received byte, if any.
    fn read(&mut self) -> Option<u8>;

    /// Queues all of `bytes` for transmission or none.
    ///
    /// # Errors
    /// [`LinkFull`] when they do not all fit.
    fn write(&mut self, bytes: &[u8]) -> Result<(), LinkFull>;
}

/// Time since reset. It never goes back.
pub trait Clock {
    /// Milliseconds since reset; the resolution may be coarser (10 ms on the chip).
    fn now_ms(&self) -> u64;
}
