//! How a hub is divided among owners.
//!
//! A hub has a fixed number of partitions, each with one owner at a time. The id of an instance decides its partition, and its key contains
//! that, so that either tells where a message for it has to go. An owner changes only instances of its own partitions; to the others it sends
//! messages through the [outbox](crate::store::outbox). A hub in a file has one partition.

use crate::store::types::InstanceKey;

/// The most partitions that a hub may have: what fits the bits of a key.
pub(in crate::store) const MOST: u16 = 1 << 10;

/// The lowest of the bits of a key that contain the partition. Those below are a number that is unique in the hub.
const SHIFT: u32 = 53;

/// The number of a partition of a hub, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Partition(pub(crate) u16);

/// How many partitions a hub has, and which of them this owner runs. The default is one, which it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partitions {
    /// A power of two.
    count: u16,
    own: [u64; MOST as usize / 64],
}

impl Default for Partitions {
    fn default() -> Self {
        Self::all(1)
    }
}

impl Partitions {
    /// All partitions of a hub that has so many, which are a power of two and at most [`MOST`].
    pub(crate) fn all(count: u16) -> Self {
        Self::some(count, (0..count).map(Partition))
    }

    /// Some of the partitions of a hub that has so many.
    pub(crate) fn some(count: u16, own: impl IntoIterator<Item = Partition>) -> Self {
        debug_assert!(count.is_power_of_two() && count <= MOST, "{count}");
        let mut bits = [0; MOST as usize / 64];
        for Partition(number) in own {
            bits[usize::from(number) / 64] |= 1 << (number % 64);
        }
        Self { count, own: bits }
    }

    /// How many partitions the hub has.
    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// The partition of the instance with an id. What is stored relies on it, so it is the same in each version.
    pub(crate) fn of_id(&self, id: &str) -> Partition {
        // The count divides 2^64, so that its remainder is in the range of a u16.
        let number = perennial_core::xxh64(id.as_bytes()) & u64::from(self.count - 1);
        Partition(u16::try_from(number).unwrap_or_default())
    }

    /// The partition of the instance with a key.
    pub(crate) fn of_key(&self, InstanceKey(key): InstanceKey) -> Partition {
        match self.count {
            // Keys of a hub that is not divided are only numbers.
            1 => Partition(0),
            _ => Partition(u16::try_from(key >> SHIFT).unwrap_or_default()),
        }
    }

    /// The first and the last key in a partition of a hub that is divided.
    #[cfg(feature = "postgres")]
    pub(in crate::store) fn keys(Partition(number): Partition) -> (InstanceKey, InstanceKey) {
        let first = i64::from(number) << SHIFT;
        (InstanceKey(first), InstanceKey(first | ((1 << SHIFT) - 1)))
    }

    /// The key of a new instance, from a number that is unique in the hub.
    pub(crate) fn key(&self, id: &str, number: i64) -> InstanceKey {
        match self.count {
            1 => InstanceKey(number),
            _ => InstanceKey(i64::from(self.of_id(id).0) << SHIFT | number),
        }
    }

    /// Whether this owner runs a partition.
    pub(crate) fn has(&self, Partition(number): Partition) -> bool {
        self.own[usize::from(number) / 64] >> (number % 64) & 1 == 1
    }

    /// These and some more.
    pub(crate) fn with(mut self, more: &[Partition]) -> Self {
        for Partition(number) in more {
            self.own[usize::from(*number) / 64] |= 1 << (number % 64);
        }
        self
    }

    /// These without some.
    pub(crate) fn without(mut self, less: &[Partition]) -> Self {
        for Partition(number) in less {
            self.own[usize::from(*number) / 64] &= !(1 << (number % 64));
        }
        self
    }

    /// The partitions that this owner runs.
    pub(crate) fn iter(self) -> impl Iterator<Item = Partition> {
        (0..self.count)
            .map(Partition)
            .filter(move |one| self.has(*one))
    }

    /// Whether this owner runs the instance with a key.
    #[cfg(any(test, feature = "postgres"))]
    pub(in crate::store) fn has_key(&self, key: InstanceKey) -> bool {
        self.has(self.of_key(key))
    }

    /// Whether this owner runs all of the hub.
    #[cfg(any(test, feature = "postgres"))]
    pub(crate) fn is_all(&self) -> bool {
        (0..self.count).map(Partition).all(|one| self.has(one))
    }

    /// The partition of an id, if it is not one of this owner.
    #[cfg(any(test, feature = "postgres"))]
    pub(crate) fn elsewhere(&self, id: &str) -> Option<Partition> {
        Some(self.of_id(id)).filter(|of| !self.has(*of))
    }

    /// The partition of a key, if it is not one of this owner.
    #[cfg(any(test, feature = "postgres"))]
    pub(in crate::store) fn elsewhere_key(&self, key: InstanceKey) -> Option<Partition> {
        Some(self.of_key(key)).filter(|of| !self.has(*of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_of_an_id_is_fixed() {
        let of = |count, id| Partitions::all(count).of_id(id).0;
        // These values are part of the format of a hub.
        assert_eq!([of(1, "a"), of(16, "a"), of(1_024, "a")], [0, 11, 603]);
        assert_eq!([of(16, ""), of(16, "order-1"), of(16, "ä")], [9, 13, 9]);
    }

    #[test]
    fn a_key_tells_the_partition_of_its_id() {
        for count in [1, 2, 16, MOST] {
            let all = Partitions::all(count);
            for (number, id) in [(0, "a"), (1, "order-1"), ((1 << SHIFT) - 1, "x")] {
                let key = all.key(id, number);
                assert_eq!(all.of_key(key), all.of_id(id), "{count} {id}");
                assert_eq!(key.0 & ((1 << SHIFT) - 1), number & ((1 << SHIFT) - 1));
                assert!(key.0 >= 0);
            }
        }
        // Keys of a hub that is not divided may be higher.
        let key = Partitions::default().key("a", 1 << 60);
        assert_eq!((key.0, Partitions::default().of_key(key).0), (1 << 60, 0));
    }

    #[test]
    fn an_owner_knows_its_partitions() {
        let own = Partitions::some(128, [Partition(3), Partition(127)]);
        let found: Vec<u16> = (0..128).filter(|one| own.has(Partition(*one))).collect();
        assert_eq!(found, [3, 127]);
        assert!(!own.is_all() && Partitions::all(128).is_all() && Partitions::default().is_all());
        assert_eq!(own.elsewhere("a"), Some(own.of_id("a")));
        assert_eq!(Partitions::all(128).elsewhere("a"), None);
    }
}
