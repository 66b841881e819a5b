//! The mutator of the drivers without coverage: seeded, so that a run can be repeated to the byte.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `limit`; 0 if `limit` is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next_u64() >> 16).checked_rem(limit as u64).unwrap_or(0) as usize
    }
}

/// A new input: one of `corpus`, changed one to eight times.
#[must_use]
pub fn mutate(rng: &mut Rng, corpus: &[Vec<u8>], max_len: usize) -> Vec<u8> {
    const TELLING: [u8; 10] = [0, 1, 2, 0x0f, 0x10, 0x7f, 0x80, 0xfe, 0xff, b'#'];
    let any = |rng: &mut Rng| corpus.get(rng.below(corpus.len())).map_or(&[][..], Vec::as_slice);
    let mut out = any(rng).to_vec();
    for _ in 0..=rng.below(8) {
        let at = rng.below(out.len() + 1);
        let longest = [4, 16, 64, 512][rng.below(4)];
        let span = 1 + rng.below(longest);
        let end = (at + span).min(out.len());
        match rng.below(10) {
            0 | 1 => {
                let bit = rng.below(8);
                if let Some(byte) = out.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            2 => {
                let value = rng.next_u64() as u8;
                if let Some(byte) = out.get_mut(at) {
                    *byte = value;
                }
            }
            3 => {
                let value = TELLING[rng.below(TELLING.len())];
                if let Some(byte) = out.get_mut(at) {
                    *byte = value;
                }
            }
            // The first bytes choose what a target does: change them more often than chance would.
            4 => {
                let (at, value) = (rng.below(6), rng.next_u64() as u8);
                if let Some(byte) = out.get_mut(at) {
                    *byte = value;
                }
            }
            5 => drop(out.drain(at..end)),
            6 => out.truncate(at),
            7 => {
                let new: Vec<u8> = (0..span).map(|_| rng.next_u64() as u8).collect();
                out.splice(at..at, new);
            }
            8 => {
                let copy = out.get(at..end).unwrap_or(&[]).to_vec();
                let to = rng.below(out.len() + 1);
                out.splice(to..to, copy);
            }
            _ => {
                let other = any(rng);
                let from = rng.below(other.len() + 1);
                let part = other.iter().skip(from).take(span).copied();
                out.splice(at..end, part);
            }
        }
        out.truncate(max_len);
    }
    out
}
