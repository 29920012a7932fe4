//! Randomness of an orchestration, derived only from the seed in its start event.

/// SplitMix64 (Steele, Lea and Flood, 2014). Written out, so that no library update can change a replay.
///
/// Draws are little-endian: `n` bytes are the first `n` of the next `ceil(n / 8)` numbers. Fit for hash seeds and identifiers, not for
/// secret keys: they follow from the history.
#[derive(Clone, Debug, Default)]
pub(super) struct Random(u64);

impl Random {
    /// A generator with this seed.
    pub(super) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next `n` bytes.
    pub(super) fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(n.next_multiple_of(8));
        while bytes.len() < n {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(n);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_of_a_seed_never_changes() {
        let mut random = Random::seeded(1_234_567);
        assert_eq!(random.number(), 6_457_827_717_110_365_317);
        assert_eq!(random.number(), 3_203_168_211_198_807_973);
        assert_eq!(
            Random::seeded(0).bytes(10),
            [0xaf, 0xcd, 0x1d, 0x7b, 0x39, 0xa8, 0x20, 0xe2, 0xf4, 0x65]
        );
    }
}
