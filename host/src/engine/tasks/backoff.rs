//! Backoff after shortages of the host. The delays grow, because frequent retries do not end a shortage and take resources from others.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use perennial_core::{Millis, TaskRef};

use crate::engine::locks::{Guard, OrderedMutex, rank};
use crate::store::InstanceKey;

/// The first delay. It is used several times, because most shortages are short.
const FIRST: Millis = Millis(1_000);

/// Number of successive retries with the same delay.
const OF_ONE_LENGTH: u32 = 3;

/// The longest delay: the maximum time until the end of a shortage is noticed.
const LONGEST: Millis = Millis(16_000);

/// An instance is quarantined after this many successive panics of the host in its turns.
pub(in crate::engine) const PANICS_MAX: u32 = 3;

/// Maximum number of entries. When it is reached, all counts restart, which only makes the next retries earlier.
const COUNTED_MAX: usize = 100_000;

/// An instance, or one of its tasks.
pub(in crate::engine) type Who = (InstanceKey, Option<TaskRef>);

/// See the [module](self).
#[derive(Debug, Default)]
pub(in crate::engine) struct Backoff {
    tries: OrderedMutex<BTreeMap<Who, Tries>, { rank::BACKOFF }>,
    /// Whether there are any entries, so that the common case takes no lock.
    any: AtomicBool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    all: u32,
    panics: u32,
}

impl Backoff {
    fn tries(&self) -> Guard<'_, BTreeMap<Who, Tries>, { rank::BACKOFF }> {
        self.tries.lock()
    }

    /// Counts a failed try, and returns the delay before the next.
    pub(in crate::engine) fn again(&self, who: Who) -> Millis {
        self.count(who, |tries| {
            tries.all = tries.all.saturating_add(1);
            after(tries.all)
        })
    }

    /// Counts a panic, and returns the number of successive panics.
    pub(in crate::engine) fn panicked(&self, who: Who) -> u32 {
        self.count(who, |tries| {
            tries.panics += 1;
            tries.panics
        })
    }

    fn count<T>(&self, who: Who, count: impl FnOnce(&mut Tries) -> T) -> T {
        let mut tries = self.tries();
        if tries.len() >= COUNTED_MAX {
            tries.clear();
        }
        self.any.store(true, Ordering::Release);
        count(tries.entry(who).or_default())
    }

    /// Resets the count after a success.
    pub(in crate::engine) fn over(&self, who: Who) {
        if self.any.load(Ordering::Acquire) {
            let mut tries = self.tries();
            tries.remove(&who);
            self.any.store(!tries.is_empty(), Ordering::Release);
        }
    }
}

/// The delay after this many failed tries.
fn after(tries: u32) -> Millis {
    let doubled = tries.saturating_sub(1) / OF_ONE_LENGTH;
    Millis((FIRST.0 << doubled.min(10)).min(LONGEST.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_anew_after_a_success() {
        let backoff = Backoff::default();
        let who = (InstanceKey(1), None);
        let waits: Vec<u64> = (0..14).map(|_| backoff.again(who).0 / 1_000).collect();
        assert_eq!(waits, [1, 1, 1, 2, 2, 2, 4, 4, 4, 8, 8, 8, 16, 16]);
        assert_eq!(backoff.again((InstanceKey(2), None)), FIRST);
        backoff.over(who);
        assert_eq!(backoff.again(who), FIRST);
        assert_eq!(after(u32::MAX), LONGEST);
    }
}
