//! Shares the processors among attempts that compute.
//!
//! What computes for long does so in turns: each poll of it has a permit, of which there are as many as processors, and the next one goes to
//! whoever has had least ([`Shares`]). What is quick needs none, and is found out by its [`Pace`].
//!
//! Invariants: a permit goes back by dropping, however a poll ends; one that was given to somebody who is gone goes on to the next. A poll
//! that lasts does not count for ever, since it may wait for another one: whoever computes nothing yet is let by after [`LONG`], whoever has
//! polls that compute after [`LONGER`] for each of them.

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

/// How long a poll may hold up an instance that computes nothing.
const LONG: Duration = Duration::from_millis(15);

/// How long it may hold up one that has a poll that computes; as often as long one that has several.
const LONGER: Duration = Duration::from_millis(100);

/// How often polls are looked at while others wait for them.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The processors, and who computes on them.
pub(crate) struct Processors {
    state: OrderedMutex<State, { rank::PROCESSORS }>,
    /// Whether somebody waits: looked at without the lock.
    wanted: AtomicBool,
    /// Told when somebody waits, and at the end.
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

/// Somebody that has a permit.
struct Computing {
    ticket: u64,
    owner: Owner,
    since: Instant,
    /// Whether it counts no more.
    lasts: bool,
}

impl Processors {
    /// So many polls compute at once.
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

    /// As many as this machine has for the process.
    pub(crate) fn of_machine() -> Self {
        Self::new(std::thread::available_parallelism().map_or(2, usize::from))
    }

    fn state(&self) -> Guard<'_, State, { rank::PROCESSORS }> {
        self.state.lock()
    }

    /// Changes what is, gives out what is free, and then wakes who got it.
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

    /// Looks after polls that last, until the end.
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

    /// Counts what lasts no more, as of some time.
    pub(in crate::engine) fn look(&self, now: Instant) {
        self.change(|state| state.pass_over(now));
    }

    /// From now on everybody computes at once: a host that stops waits for nobody's turn.
    pub(in crate::engine) fn close(&self) {
        self.change(|state| state.closed = true);
        self.changed.notify_all();
    }
}

impl State {
    /// Gives the next one a permit, if there is one. Whom to wake.
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

    /// Counts the poll that computes longest no more, if the next one has waited long enough for it.
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

/// What an attempt has of the processors: those of its instance and of its module share them with it.
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
    /// That of an attempt that is alone.
    fn default() -> Self {
        let processors = Arc::new(Processors::of_machine());
        Self::new(processors, InstanceKey(0), None)
    }
}

impl Share {
    /// For an attempt of an instance that is pinned to a module.
    pub(crate) fn new(
        processors: Arc<Processors>,
        key: InstanceKey,
        module: Option<Digest>,
    ) -> Self {
        let owner = Owner { module, key };
        Self { processors, owner }
    }

    /// To compute in turns with others.
    pub(crate) fn turn(&self) -> Turn {
        Turn {
            share: self.clone(),
            waits: None,
        }
    }

    /// Whether somebody else waits to compute.
    pub(crate) fn is_wanted(&self) -> bool {
        self.processors.wanted.load(Ordering::Relaxed)
    }
}

/// Gets permits, one after the other.
#[derive(Debug)]
pub(crate) struct Turn {
    share: Share,
    /// Its ticket, while it waits and until it has seen that it has its permit.
    waits: Option<u64>,
}

impl Turn {
    /// Waits for a permit to compute until it is dropped.
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

    /// Polls something with a permit.
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
                // It has its permit, and will not use it.
                None => state.end(ticket),
            }
        });
    }
}

/// Lets somebody compute, until it is dropped.
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

/// How long the polls of something take, of late.
#[derive(Debug)]
pub(crate) struct Pace(AtomicU32);

/// From here on it computes, and is no longer quick: as many as can run at once would hold others up.
const QUICK: Duration = Duration::from_micros(300);

/// A single poll counts for no more: one that was interrupted by the system says little.
const COUNTED_MAX: Duration = Duration::from_millis(10);

impl Pace {
    /// Of what is not known: it may compute, and is found out soon if it does not.
    pub(crate) fn unknown() -> Self {
        Self(AtomicU32::new(micros(2 * QUICK)))
    }

    /// Of what is quick until it is found out.
    pub(crate) fn quick() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Whether it may be polled anywhere.
    pub(crate) fn is_quick(&self) -> bool {
        self.0.load(Ordering::Relaxed) <= micros(QUICK)
    }

    /// A poll took so long.
    pub(crate) fn took(&self, span: Duration) {
        // One that is lost between two threads is none too many.
        let average = self.0.load(Ordering::Relaxed);
        let counted = micros(span.min(COUNTED_MAX));
        let average = average - average / 16 + counted.div_ceil(16);
        self.0.store(average, Ordering::Relaxed);
    }
}

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}
