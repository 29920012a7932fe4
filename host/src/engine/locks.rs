//! The locks of the engine, and the order in which a thread takes them.
//!
//! Each thread takes locks in the order of [`rank`] and may skip any of them, so no two threads can wait for each other. Builds with debug
//! assertions check this. `try_lock` is allowed in any order, since it does not wait.
//!
//! - The writer of the hub answers under its own lock, which comes before all of these: no thread waits for the writer while holding one.
//! - Locks outside the engine (readers of the hub, clocks, rate limits of the log, shortages) come after all of these.
//! - The read-write lock of the names is held only to copy or replace a pointer. [`Requests::commands`](super::Requests) is held only by
//!   tasks that hold no other lock.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

/// The order of the locks: a thread that holds a lock waits only for locks of a higher number.
pub(super) mod rank {
    /// The guest of an instance. Held during a turn, and while the effects of its commit are applied.
    pub(crate) const BODY: u8 = 0;
    /// The table of instances in memory.
    pub(crate) const TABLE: u8 = 1;
    /// The mail of an instance.
    pub(crate) const MAILBOX: u8 = 2;
    /// The list of instances with a guest in memory.
    pub(crate) const HOT: u8 = 3;
    /// The time of the next deletion by retention.
    pub(crate) const RETENTION: u8 = 4;
    /// Queued and running attempts.
    pub(crate) const ACTIVITIES: u8 = 5;
    /// The set of suspended instances.
    pub(crate) const SUSPENDED: u8 = 6;
    /// The timers.
    pub(crate) const TIMERS: u8 = 7;
    /// The scheduler of attempts that compute.
    pub(crate) const PROCESSORS: u8 = 8;
    /// The delays of retries.
    pub(crate) const BACKOFF: u8 = 9;
    /// Clients that wait for instances.
    pub(crate) const WAITERS: u8 = 10;
    /// The queue of the workers.
    pub(crate) const QUEUE: u8 = 11;
    /// The threads that are not joined yet.
    pub(crate) const THREADS: u8 = 12;
    /// The lock file of the hub.
    pub(crate) const OWNER: u8 = 13;
    /// The remote workers. Nothing is locked while it is held.
    pub(crate) const REMOTE: u8 = 14;
    /// The heartbeats that are not written yet. Nothing is locked while it is held.
    pub(crate) const HEARTBEATS: u8 = 15;
    /// The durations of activities. Nothing is locked while it is held.
    pub(crate) const DURATIONS: u8 = 16;
    /// What is waited for at other hosts. Nothing is locked while it is held.
    pub(crate) const ELSEWHERE: u8 = 17;
    /// Commands that wait for other hosts. Nothing is locked while it is held.
    pub(crate) const COMMANDS: u8 = 18;
}

/// A mutex with a place in the [order](self). A panic does not poison it.
#[derive(Debug, Default)]
pub(crate) struct OrderedMutex<T, const RANK: u8>(Mutex<T>);

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

    /// As [`lock`](Self::lock), or `None` if the mutex is locked.
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
    /// Unlocks the mutex until the condition variable is notified.
    pub(crate) fn wait(self, told: &Condvar) -> Self {
        let guard = told.wait(self.guard);
        Self {
            guard: guard.unwrap_or_else(PoisonError::into_inner),
            held: self.held,
        }
    }

    /// As [`wait`](Self::wait), for at most `span`.
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

/// Registers a lock as held by this thread until it is dropped.
struct Held {
    /// The bit of its rank; 0 if the thread already held a lock of this rank.
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
    /// A bit for each rank of which this thread holds a lock.
    static RANKS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

#[cfg(debug_assertions)]
impl Held {
    fn check(rank: u8) {
        let (ranks, panics) = (RANKS.get(), std::thread::panicking());
        // A second panic would abort the process.
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
