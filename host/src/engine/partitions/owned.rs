//! Which partitions this engine runs now.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::{InstanceKey, Partition, Partitions};

/// Partitions that change while the engine runs. It is asked before each turn and attempt, and has no lock.
///
/// An engine that begins to run a partition owns it first, so that what is unfinished there can be queued, and then runs its turns. One that
/// ends to run it stops the turns first.
pub(in crate::engine) struct OwnPartitions {
    /// How the hub is divided.
    all: Partitions,
    owned: Bits,
    turns: Bits,
}

struct Bits(Vec<AtomicU64>);

impl Bits {
    fn of(partitions: &Partitions) -> Self {
        let words = usize::from(partitions.count()).div_ceil(64);
        let bits = Self((0..words).map(|_| AtomicU64::new(0)).collect());
        partitions.iter().for_each(|one| bits.set(one, true));
        bits
    }

    fn has(&self, Partition(number): Partition) -> bool {
        let word = self.0.get(usize::from(number) / 64);
        word.is_some_and(|word| word.load(Ordering::Acquire) >> (number % 64) & 1 == 1)
    }

    fn set(&self, Partition(number): Partition, to: bool) {
        if let Some(word) = self.0.get(usize::from(number) / 64) {
            let bit = 1 << (number % 64);
            match to {
                true => word.fetch_or(bit, Ordering::AcqRel),
                false => word.fetch_and(!bit, Ordering::AcqRel),
            };
        }
    }
}

impl OwnPartitions {
    pub(in crate::engine) fn new(own: &Partitions) -> Self {
        Self {
            all: Partitions::all(own.count()),
            owned: Bits::of(own),
            turns: Bits::of(own),
        }
    }

    /// How the hub is divided.
    pub(in crate::engine) fn all(&self) -> &Partitions {
        &self.all
    }

    /// Those that are owned now.
    pub(in crate::engine) fn now(&self) -> Partitions {
        let own = self.all.iter().filter(|one| self.owned.has(*one));
        Partitions::some(self.all.count(), own)
    }

    /// Whether a partition is owned.
    pub(in crate::engine) fn has(&self, one: Partition) -> bool {
        self.all.count() == 1 || self.owned.has(one)
    }

    /// The partition of an id, if it is not one of this engine.
    pub(in crate::engine) fn elsewhere(&self, id: &str) -> Option<Partition> {
        Some(self.all.of_id(id)).filter(|one| !self.has(*one))
    }

    /// Whether attempts and timers of an instance are those of this engine.
    pub(in crate::engine) fn owns(&self, key: InstanceKey) -> bool {
        self.has(self.all.of_key(key))
    }

    /// Whether this engine runs turns of an instance.
    pub(in crate::engine) fn runs(&self, key: InstanceKey) -> bool {
        self.all.count() == 1 || self.turns.has(self.all.of_key(key))
    }

    pub(in crate::engine) fn own(&self, which: &[Partition], to: bool) {
        which.iter().for_each(|one| self.owned.set(*one, to));
    }

    pub(in crate::engine) fn run(&self, which: &[Partition], to: bool) {
        which.iter().for_each(|one| self.turns.set(*one, to));
    }
}
