//! The locks of the engine, and the order in which a thread takes them.
//!
//! A thread takes them in the order of [`rank`], and may leave out any of them: so no two threads wait for each other. Builds with debug
//! assertions check it. Who tries a lock and does not wait for it may do so in any order.
//!
//! - The writer of the hub answers under a lock of its own, which comes before all of these: nobody waits for the writer with one of them.
//! - Locks that are not of the engine (readers of the hub, clocks, rate limits of the log, shortages) come after all of these.
//! - The read-write lock of the names is held only to copy or to replace a pointer, and [`Requests::commands`](super::Requests) only by
//!   tasks that hold nothing else.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

/// The order of the locks: a thread that has one waits only for those below it.
pub(super) mod rank {
    /// The guest of an instance: held during a turn, and while what follows its commit is done.
    pub(crate) const BODY: u8 = 0;
    /// Which instances are in memory.
    pub(crate) const TABLE: u8 = 1;
    /// The mail of an instance.
    pub(crate) const MAILBOX: u8 = 2;
    /// Which instances have a guest in memory.
    pub(crate) const HOT: u8 = 3;
    /// When the next instance is deleted.
    pub(crate) const RETENTION: u8 = 4;
    /// Attempts that wait and that run.
    pub(crate) const ACTIVITIES: u8 = 5;
    /// Which instances are suspended.
    pub(crate) const SUSPENDED: u8 = 6;
    /// What comes due.
    pub(crate) const TIMERS: u8 = 7;
    /// Who computes.
    pub(crate) const PROCESSORS: u8 = 8;
    /// What is tried again.
    pub(crate) const BACKOFF: u8 = 9;
    /// Who waits for instances.
    pub(crate) const WAITERS: u8 = 10;
    /// What waits for a worker.
    pub(crate) const QUEUE: u8 = 11;
    /// The threads of the engine.
    pub(crate) const THREADS: u8 = 12;
    /// Who owns the hub.
    pub(crate) const OWNER: u8 = 13;
}

/// A mutex with a place in the [order](self). What a panic left in it is used as it is.
#[derive(Debug, Default)]
pub(crate) struct OrderedMutex<T, const RANK: u8>(Mutex<T>);

/// A lock that this thread has.
pub(crate) struct Guard<'a, T, const RANK: u8> {
    guard: MutexGuard<'a, T>,
    held: Held,
}

impl<T, const RANK: u8> OrderedMutex<T, RANK> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// # Panics
    /// With debug assertions, if this thread has a lock that comes after this one.
    pub(crate) fn lock(&self) -> Guard<'_, T, RANK> {
        Held::check(RANK);
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Guard {
            guard,
            held: Held::new(RANK),
        }
    }

    /// As [`lock`](Self::lock), unless somebody has it.
    pub(crate) fn try_lock(&self) -> Option<Guard<'_, T, RANK>> {
        let guard = match self.0.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let held = Held::new(RANK);
        Some(Guard { guard, held })
    }
}

impl<T, const RANK: u8> Guard<'_, T, RANK> {
    /// Gives the lock back until the condition variable is told.
    pub(crate) fn wait(self, told: &Condvar) -> Self {
        let guard = told.wait(self.guard);
        Self {
            guard: guard.unwrap_or_else(PoisonError::into_inner),
            held: self.held,
        }
    }

    /// As [`wait`](Self::wait), no longer than this.
    pub(crate) fn wait_timeout(self, told: &Condvar, span: Duration) -> Self {
        let waited = told.wait_timeout(self.guard, span);
        Self {
            guard: waited.unwrap_or_else(PoisonError::into_inner).0,
            held: self.held,
        }
    }
}

impl<T, const RANK: u8> Deref for Guard<'_, T, RANK> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T, const RANK: u8> DerefMut for Guard<'_, T, RANK> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// Counts a lock among those that this thread has, until it is dropped.
struct Held {
    /// Its bit, unless the thread had one of this rank already.
    #[cfg(debug_assertions)]
    bit: u32,
}

#[cfg(not(debug_assertions))]
impl Held {
    fn check(_rank: u8) {}

    fn new(_rank: u8) -> Self {
        Self {}
    }
}

#[cfg(debug_assertions)]
thread_local! {
    /// A bit for each rank of which this thread has a lock.
    static RANKS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

#[cfg(debug_assertions)]
impl Held {
    fn check(rank: u8) {
        let (ranks, panics) = (RANKS.get(), std::thread::panicking());
        // A second panic would end the process.
        assert!(
            ranks >> rank == 0 || panics,
            "the lock of rank {rank} is taken after those of the ranks {ranks:#b}"
        );
    }

    fn new(rank: u8) -> Self {
        let ranks = RANKS.get();
        let bit = 1 << rank & !ranks;
        RANKS.set(ranks | bit);
        Self { bit }
    }
}

#[cfg(debug_assertions)]
impl Drop for Held {
    fn drop(&mut self) {
        RANKS.set(RANKS.get() & !self.bit);
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn locks_are_taken_in_their_order_or_not_at_all() {
        let (body, queue) = <(OrderedMutex<u8, 0>, OrderedMutex<u8, 11>)>::default();
        let panics =
            |run: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err();
        let in_order = || drop((body.lock(), queue.lock()));
        let in_wrong_order = || drop((queue.lock(), body.lock()));
        let twice = || drop((queue.lock(), queue.lock()));
        let without_waiting = || drop((queue.lock(), body.try_lock()));
        let after_a_wait = || {
            let guard = queue.lock().wait_timeout(&Condvar::new(), Duration::ZERO);
            drop((guard, body.lock()));
        };
        assert!(panics(&in_wrong_order) && panics(&twice) && panics(&after_a_wait));
        assert!(!panics(&in_order) && !panics(&without_waiting));
    }
}
