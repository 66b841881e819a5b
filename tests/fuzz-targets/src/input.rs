//! Reading a fuzz input: fields run out as zeros, so every input means something.

/// Takes fields off the front of an input.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Reads from the first byte.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next byte, 0 at the end.
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// A number below `limit` (at most 256), from one byte; 0 if `limit` is 0.
    pub fn pick(&mut self, limit: usize) -> usize {
        usize::from(self.byte()).checked_rem(limit).unwrap_or(0)
    }

    /// A big-endian number from two bytes.
    pub fn word(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    /// A big-endian number from four bytes.
    pub fn long(&mut self) -> u32 {
        (self.word() as u32) << 16 | self.word() as u32
    }

    /// `N` bytes, zeros behind the end.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// At most `len` bytes.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(len.min(self.0.len()));
        self.0 = tail;
        head
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(self.0.len())
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Applies edits to `bytes` until the input ends: the structure-aware half of a target. `others` are what
    /// a splice copies from. No edits leave the bytes as they are.
    pub fn edit(&mut self, bytes: &mut Vec<u8>, others: &[&[u8]]) {
        const LONGEST: usize = 8_192;
        while !self.is_empty() {
            let (what, at) = (self.byte(), self.word());
            let len = bytes.len();
            let at = at.checked_rem(len + 1).unwrap_or(0);
            match what % 8 {
                // One bit: the edit that most checks must not miss.
                0 | 1 => {
                    let bit = self.byte() % 8;
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << bit;
                    }
                }
                2 => {
                    let value = self.byte();
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = value;
                    }
                }
                3 => bytes.truncate(at),
                4 => {
                    let len = self.pick(64);
                    let new = self.bytes(len);
                    bytes.splice(at..at, new.iter().copied());
                }
                5 => {
                    let end = (at + self.pick(64)).min(len);
                    bytes.drain(at..end);
                }
                6 => {
                    let len = self.pick(64);
                    let new = self.bytes(len);
                    for (to, from) in bytes.iter_mut().skip(at).zip(new) {
                        *to = *from;
                    }
                }
                _ => {
                    let Some(other) = others.get(self.pick(others.len())) else { continue };
                    let from = self.word().checked_rem(other.len()).unwrap_or(0);
                    let len = self.word();
                    for (to, from) in bytes.iter_mut().skip(at).take(len).zip(other.iter().skip(from)) {
                        *to = *from;
                    }
                }
            }
            bytes.truncate(LONGEST);
        }
    }
}
