//! A packet link over a byte pipe: the serial framing of the protocol crate on both directions.
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::traits::{BytePort, Link, LinkFull};
use keywright_protocol::serial::{self, Channel, Decoder, Packet};

/// The longest payload a unit sends: message 1 of suite 2 has 252 bytes.
pub const MAX_SEND: usize = 320;

/// Framing over a [`BytePort`].
pub struct SerialLink<P> {
    port: P,
    decoder: Decoder,
    dropped: u32,
}

impl<P: BytePort> SerialLink<P> {
    /// A link with nothing received yet.
    pub const fn new(port: P) -> SerialLink<P> {
        SerialLink { port, decoder: Decoder::new(), dropped: 0 }
    }

    /// The port below.
    pub const fn port(&mut self) -> &mut P {
        &mut self.port
    }
}

impl<P: BytePort> Link for SerialLink<P> {
    fn send(&mut self, channel: Channel, payload: &[u8]) -> Result<(), LinkFull> {
        let mut line = [0; serial::encoded_len(MAX_SEND)];
        let len = serial::encode(channel, payload, &mut line).map_err(|_| LinkFull)?;
        self.port.write(line.get(..len).ok_or(LinkFull)?)
    }

    fn receive(&mut self) -> Option<Packet<'_>> {
        // The borrow checker cannot see that a packet returned from inside the loop ends it, so the loop
        // only finds out how the byte stream stands and the packet is opened by the last byte's feed.
        loop {
            let byte = self.port.read()?;
            // A zero byte is what completes a packet.
            if byte != 0 {
                if matches!(self.decoder.feed(byte), Some(Err(_))) {
                    self.dropped = self.dropped.wrapping_add(1);
                }
                continue;
            }
            break;
        }
        match self.decoder.feed(0) {
            Some(Ok(packet)) => Some(packet),
            Some(Err(_)) => {
                self.dropped = self.dropped.wrapping_add(1);
                None
            }
            None => None,
        }
    }

    fn dropped(&self) -> u32 {
        self.dropped
    }
}
