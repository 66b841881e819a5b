//! Frames in flight: a multiset without order.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use keywright_protocol::exchange::agent::Incoming;
use keywright_protocol::{Generation, Purpose};

use crate::nor::id_of;

/// Who a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// The unit.
    Unit,
    /// The agent.
    Agent,
}

/// One frame on its way.
#[derive(Clone)]
pub struct Frame {
    to: Peer,
    bytes: Arc<[u8]>,
    id: u128,
}

impl Frame {
    /// A frame for somebody.
    pub fn new(to: Peer, bytes: &[u8]) -> Frame {
        Frame { to, bytes: bytes.into(), id: id_of(&(to, bytes)) }
    }

    /// Who it is for.
    pub fn to(&self) -> Peer {
        self.to
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What a message 3 confirms.
    pub fn confirms(&self) -> Option<(Purpose, u32)> {
        match Incoming::peek(&self.bytes) {
            Ok(Incoming::Confirm { purpose, generation: Generation(generation), .. }) => {
                Some((purpose, generation))
            }
            _ => None,
        }
    }
}

impl PartialEq for Frame {
    fn eq(&self, other: &Frame) -> bool {
        self.id == other.id
    }
}

impl Eq for Frame {}

impl Hash for Frame {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.bytes.get(4).copied().unwrap_or(0);
        let purpose = match kind >> 4 {
            1 => "INIT",
            2 => "AKU",
            3 => "CKU",
            _ => "?",
        };
        let step = match kind & 15 {
            5 => "NACK".into(),
            step => format!("M{step}"),
        };
        write!(f, "{purpose} {step} #{:04x}", self.id as u16)
    }
}

/// A sorted multiset of frames.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Net(Vec<Frame>);

impl Net {
    /// Every different frame.
    pub fn distinct(&self) -> impl Iterator<Item = &Frame> {
        self.0.iter().enumerate().filter(|(i, frame)| *i == 0 || self.0[i - 1] != **frame).map(|(_, f)| f)
    }

    /// Every frame, as often as it is there.
    pub fn all(&self) -> &[Frame] {
        &self.0
    }

    /// Whether it is there.
    pub fn contains(&self, frame: &Frame) -> bool {
        self.0.binary_search_by_key(&frame.id, |f| f.id).is_ok()
    }

    /// One more.
    pub fn add(&mut self, frame: Frame) {
        let at = self.0.partition_point(|f| f.id < frame.id);
        self.0.insert(at, frame);
    }

    /// One less. False: there is none.
    pub fn remove(&mut self, frame: &Frame) -> bool {
        match self.0.binary_search_by_key(&frame.id, |f| f.id) {
            Ok(at) => {
                self.0.remove(at);
                true
            }
            Err(_) => false,
        }
    }

    /// Adds it if it is not there.
    pub fn note(&mut self, frame: &Frame) {
        if !self.contains(frame) {
            self.add(frame.clone());
        }
    }
}
