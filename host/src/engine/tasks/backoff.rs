//! How long what the host could not do waits before it is tried again: longer and longer, since what is lacking does not come back sooner
//! for being asked for, and others need it too.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use perennial_core::{Millis, TaskRef};

use crate::engine::locks::{Guard, OrderedMutex, rank};
use crate::store::InstanceKey;

/// The first wait. The same several times: most shortages are over at once.
const FIRST: Millis = Millis(1_000);

/// Waits of one length.
const OF_ONE_LENGTH: u32 = 3;

/// The longest wait: so long at most it takes to notice that what was lacking is there again.
const LONGEST: Millis = Millis(16_000);

/// How often in a row the host may panic in the turns of an instance before that counts as proof that it is the instance's.
pub(in crate::engine) const PANICS_MAX: u32 = 3;

/// Those that are counted. Beyond that all begin anew, which only means that they are tried sooner.
const COUNTED_MAX: usize = 100_000;

/// An instance, or one of its tasks.
pub(in crate::engine) type Who = (InstanceKey, Option<TaskRef>);

/// See the [module](self).
#[derive(Debug, Default)]
pub(in crate::engine) struct Backoff {
    tries: OrderedMutex<BTreeMap<Who, Tries>, { rank::BACKOFF }>,
    /// Whether any are counted: nobody takes the lock in vain.
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

    /// Counts a try in vain. How long to wait before the next.
    pub(in crate::engine) fn again(&self, who: Who) -> Millis {
        self.count(who, |tries| {
            tries.all = tries.all.saturating_add(1);
            after(tries.all)
        })
    }

    /// Counts a panic. How many there were in a row.
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

    /// It went well: the next shortage is the first.
    pub(in crate::engine) fn over(&self, who: Who) {
        if self.any.load(Ordering::Acquire) {
            let mut tries = self.tries();
            tries.remove(&who);
            self.any.store(!tries.is_empty(), Ordering::Release);
        }
    }
}

/// The wait after so many tries in vain.
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
