//! Randomness that a replay repeats: fixed algorithms, seeded by the host when the execution starts.

use uuid::Uuid;

/// SplitMix64 (Steele, Lea and Flood, 2014), which passes BigCrush and has one word of state.
///
/// Invariant: the algorithm never changes, since an execution may replay what it drew years ago.
pub(crate) struct SplitMix64(u64);

impl SplitMix64 {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0.0..1.0`: the upper 53 bits, which is what a double can hold.
    pub(crate) fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }
}

/// The namespace of the identifiers that orchestrations make: an arbitrary value that never changes.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f2d_9f4b_1a55_5c0e_9d3e_2b1c_7a80_41e6);

/// A version 5 UUID of who asks and of how many it asked for before.
pub(crate) fn uuid(instance_id: &str, execution_id: &str, ordinal: u64) -> Uuid {
    Uuid::new_v5(
        &NAMESPACE,
        format!("{instance_id}/{execution_id}/{ordinal}").as_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_reference_implementation() {
        let mut random = SplitMix64::new(1_234_567);
        let drawn: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
        assert_eq!(
            drawn,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn doubles_are_at_least_zero_and_below_one() {
        let mut random = SplitMix64::new(7);
        assert!(
            (0..10_000)
                .map(|_| random.next_f64())
                .all(|x| (0.0..1.0).contains(&x))
        );
    }

    #[test]
    fn an_identifier_depends_on_the_instance_the_execution_and_the_ordinal_alone() {
        let first = uuid("i", "e", 0);
        assert_eq!(first, uuid("i", "e", 0));
        assert_eq!(first.get_version_num(), 5);
        for other in [uuid("j", "e", 0), uuid("i", "f", 0), uuid("i", "e", 1)] {
            assert_ne!(first, other);
        }
    }
}
