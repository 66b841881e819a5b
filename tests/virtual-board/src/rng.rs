//! Deterministic randomness: everything random on a virtual board comes from a
//! seed, so that a failing test names the one number that reproduces it.

/// SplitMix64 (Steele, Lea, Flood 2014): small, seedable, and good enough to
/// scatter torn bits. Never used for keys; the chip's RNG has its own stream.
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A stream that depends on `seed` alone.
    pub fn new(seed: u64) -> Self {
        SplitMix64(seed)
    }

    /// The next 64 bits of the stream.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A 64-bit mask in which each bit is set with probability `p` (0 to 1,
    /// in steps of 1/256): the cells an interrupted operation had reached.
    pub fn mask(&mut self, p: f64) -> u64 {
        if p >= 1.0 {
            return u64::MAX;
        }
        let steps = (p.max(0.0) * 256.0) as u32;
        // Each AND or OR with a fair random word halves the distance to 0 or 1,
        // so eight of them spell the probability in binary.
        let mut mask = 0u64;
        for bit in 0..8 {
            let r = self.next_u64();
            mask = if steps & (1 << bit) != 0 { mask | r } else { mask & r };
        }
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mask_density_follows_progress() {
        let mut rng = SplitMix64::new(7);
        for p in [0.0, 0.25, 0.5, 0.9, 1.0] {
            let ones: u32 = (0..4096).map(|_| rng.mask(p).count_ones()).sum();
            let density = f64::from(ones) / (4096.0 * 64.0);
            assert!((density - p).abs() < 0.01, "p={p} gave {density}");
        }
    }

    #[test]
    fn same_seed_same_stream() {
        let mut a = SplitMix64::new(1);
        let mut b = SplitMix64::new(1);
        assert!((0..100).all(|_| a.next_u64() == b.next_u64()));
    }
}
