//! Schedules attempts that compute on the processors.
//!
//! Each poll of a long computation needs a permit. There are as many permits as processors, and the next one goes to the owner that has
//! used the least time ([`Shares`]). Quick polls need no permit; the [`Pace`] measures which are quick.
//!
//! Invariants: dropping a permit returns it, however a poll ends, and a permit for an attempt that is gone passes to the next one. A poll
//! that lasts long may itself wait for another attempt, so its permit stops counting after a while: after [`LONG`] if the next owner has no
//! running polls, otherwise after [`LONGER`] for each of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use perennial_core::Digest;

use crate::engine::locks::{Guard, OrderedMutex, rank};
use crate::engine::workers::shares::{Owner, Shares};
use crate::store::InstanceKey;

/// How long a poll may delay an instance that has no running poll.
const LONG: Duration = Duration::from_millis(15);

/// How long a poll may delay an instance for each poll that the instance has running.
const LONGER: Duration = Duration::from_millis(100);

/// How often long polls are checked while others wait.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The permits, and the queue for them.
pub(crate) struct Processors {
    state: OrderedMutex<State, { rank::PROCESSORS }>,
    /// Whether any attempt waits. Read without the lock.
    wanted: AtomicBool,
    /// Notified when an attempt begins to wait, and at the end.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    permits: usize,
    next: u64,
    computing: Vec<Computing>,
    waiting: HashMap<u64, (Owner, Waker)>,
    shares: Shares,
    closed: bool,
}

/// A poll that has a permit.
struct Computing {
    ticket: u64,
    owner: Owner,
    since: Instant,
    /// Whether its permit no longer counts, because it lasts too long.
    lasts: bool,
}

impl Processors {
    /// Allows `permits` polls at once.
    pub(crate) fn new(permits: usize) -> Self {
        let state = State {
            permits: permits.max(1),
            ..State::default()
        };
        Self {
            state: OrderedMutex::new(state),
            wanted: AtomicBool::new(false),
            changed: Condvar::new(),
        }
    }

    /// Allows as many polls as this process has processors.
    pub(crate) fn of_machine() -> Self {
        Self::new(std::thread::available_parallelism().map_or(2, usize::from))
    }

    fn state(&self) -> Guard<'_, State, { rank::PROCESSORS }> {
        self.state.lock()
    }

    /// Changes the state, hands out a free permit, and wakes the attempt that got it.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let done = change(&mut state);
        let now = Instant::now();
        let woken: Vec<Waker> = std::iter::from_fn(|| state.give(now)).collect();
        self.wanted
            .store(!state.waiting.is_empty(), Ordering::Relaxed);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        done
    }

    /// Checks for long polls until the end.
    pub(in crate::engine) fn watch(&self) {
        let mut state = self.state();
        while !state.closed {
            if state.waiting.is_empty() {
                state = state.wait(&self.changed);
                continue;
            }
            drop(state);
            self.look(Instant::now());
            state = self.state().wait_timeout(&self.changed, LOOK_EVERY);
        }
    }

    /// Stops counting the permit of the longest poll, if the next one has waited long enough at `now`.
    pub(in crate::engine) fn look(&self, now: Instant) {
        self.change(|state| state.pass_over(now));
    }

    /// Lets all attempts compute at once, so that a shutdown waits for no turn.
    pub(in crate::engine) fn close(&self) {
        self.change(|state| state.closed = true);
        self.changed.notify_all();
    }
}

impl State {
    /// Gives the next attempt a permit if one is free, and returns its waker.
    fn give(&mut self, now: Instant) -> Option<Waker> {
        let counted = self.computing.iter().filter(|one| !one.lasts).count();
        if counted >= self.permits && !self.closed {
            return None;
        }
        let (owner, ticket) = self.shares.pop()?;
        self.computes(ticket, owner, now);
        self.waiting.remove(&ticket).map(|(_, waker)| waker)
    }

    fn computes(&mut self, ticket: u64, owner: Owner, since: Instant) {
        self.computing.push(Computing {
            ticket,
            owner,
            since,
            lasts: false,
        });
    }

    /// Stops counting the permit of the longest poll, if the next attempt has waited long enough for it.
    fn pass_over(&mut self, now: Instant) {
        let Some(next) = self.shares.first() else {
            return;
        };
        let patience = match self.shares.computing(next) {
            0 => LONG,
            several => LONGER * several,
        };
        let counted = self.computing.iter_mut().filter(|one| !one.lasts);
        if let Some(longest) = counted.min_by_key(|one| one.since)
            && now.saturating_duration_since(longest.since) >= patience
        {
            longest.lasts = true;
        }
    }

    fn end(&mut self, ticket: u64) {
        let at = self.computing.iter().position(|one| one.ticket == ticket);
        if let Some(at) = at {
            let ended = self.computing.swap_remove(at);
            self.shares.end(ended.owner, ended.since.elapsed());
        }
    }
}

/// An attempt's share of the processors. Attempts of one instance and of one module share their time.
#[derive(Clone)]
pub struct Share {
    processors: Arc<Processors>,
    owner: Owner,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.owner.fmt(f)
    }
}

impl Default for Share {
    /// The share of a single attempt that competes with no other.
    fn default() -> Self {
        let processors = Arc::new(Processors::of_machine());
        Self::new(processors, InstanceKey(0), None)
    }
}

impl Share {
    /// The share of an attempt of an instance that is pinned to `module`.
    pub(crate) fn new(
        processors: Arc<Processors>,
        key: InstanceKey,
        module: Option<Digest>,
    ) -> Self {
        let owner = Owner { module, key };
        Self { processors, owner }
    }

    /// A handle to acquire permits.
    pub(crate) fn turn(&self) -> Turn {
        Turn {
            share: self.clone(),
            waits: None,
        }
    }

    /// Whether another attempt waits to compute.
    pub(crate) fn is_wanted(&self) -> bool {
        self.processors.wanted.load(Ordering::Relaxed)
    }
}

/// Acquires permits, one after the other.
#[derive(Debug)]
pub(crate) struct Turn {
    share: Share,
    /// The ticket of the pending request, until this has seen that it got its permit.
    waits: Option<u64>,
}

impl Turn {
    /// Waits for a permit to compute, which is held until dropped.
    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<Permit> {
        let processors = &self.share.processors;
        let mut state = processors.state();
        let ticket = match self.waits {
            Some(ticket) => match state.waiting.get_mut(&ticket) {
                Some((_, waker)) => {
                    waker.clone_from(context.waker());
                    return Poll::Pending;
                }
                None => ticket,
            },
            None => {
                let ticket = state.next;
                state.next += 1;
                let waits = (self.share.owner, context.waker().clone());
                state.waiting.insert(ticket, waits);
                state.shares.push(self.share.owner, ticket);
                let woken = state.give(Instant::now());
                if state.waiting.contains_key(&ticket) {
                    self.waits = Some(ticket);
                    let is_first = !processors.wanted.swap(true, Ordering::Relaxed);
                    drop(state);
                    if is_first {
                        processors.changed.notify_all();
                    }
                    woken.into_iter().for_each(Waker::wake);
                    return Poll::Pending;
                }
                ticket
            }
        };
        self.waits = None;
        Poll::Ready(Permit {
            processors: Arc::clone(processors),
            ticket,
        })
    }

    /// Calls `poll` with a permit.
    pub(crate) fn poll_with<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let permit = ready!(self.poll(context));
        let polled = poll(context);
        drop(permit);
        polled
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(ticket) = self.waits else { return };
        self.share.processors.change(|state| {
            match state.waiting.remove(&ticket) {
                Some((owner, _)) => state.shares.remove(owner, ticket),
                // It got a permit that it will not use.
                None => state.end(ticket),
            }
        });
    }
}

/// The right to compute until dropped.
#[must_use]
pub(crate) struct Permit {
    processors: Arc<Processors>,
    ticket: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.processors.change(|state| state.end(self.ticket));
    }
}

/// A moving average of how long the polls of a future take.
#[derive(Debug)]
pub(crate) struct Pace(AtomicU32);

/// A future whose polls take longer on average computes, and needs permits: several of them at once would delay others.
const QUICK: Duration = Duration::from_micros(300);

/// A single poll counts for at most this, because the system may have preempted it.
const COUNTED_MAX: Duration = Duration::from_millis(10);

impl Pace {
    /// For an unknown future: it is assumed to compute until its polls prove quick.
    pub(crate) fn unknown() -> Self {
        Self(AtomicU32::new(micros(2 * QUICK)))
    }

    /// For a future that is assumed to be quick until its polls prove slow.
    pub(crate) fn quick() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Whether it may be polled without a permit.
    pub(crate) fn is_quick(&self) -> bool {
        self.0.load(Ordering::Relaxed) <= micros(QUICK)
    }

    /// Records the duration of a poll.
    pub(crate) fn took(&self, span: Duration) {
        // Concurrent updates may lose one measurement, which does not matter.
        let average = self.0.load(Ordering::Relaxed);
        let counted = micros(span.min(COUNTED_MAX));
        let average = average - average / 16 + counted.div_ceil(16);
        self.0.store(average, Ordering::Relaxed);
    }
}

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}
