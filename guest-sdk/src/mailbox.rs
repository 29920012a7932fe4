//! Buffer of external events: first in, first out for each name, kept until somebody waits.
//!
//! Laws: an event reaches at most one waiter; a waiter that goes away before it looked gives its event back, in front of all later
//! ones; a name never has both kept events and idle waiters. Names compare without regard to case.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::task::Waker;

use crate::bindings::orchestrations::ExternalEvent;

/// Orders waiters by when they began to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaiterId(u64);

#[derive(Default)]
pub(crate) struct Mailbox {
    /// By folded name; only those with something in them.
    queues: BTreeMap<Rc<str>, Queue>,
    waiters: BTreeMap<WaiterId, Waiter>,
    waiters_idle: usize,
    next_waiter: u64,
    /// Arrival times of the events that are not consumed yet, by number: the time of the turn, in milliseconds.
    arrived: BTreeMap<u32, u64>,
}

struct Queue {
    /// The name as it was last written by somebody who waits, for people.
    shown: Rc<str>,
    events: VecDeque<ExternalEvent>,
    idle: BTreeSet<WaiterId>,
}

struct Waiter {
    /// The folded name.
    key: Rc<str>,
    state: WaiterState,
}

enum WaiterState {
    Idle(Waker),
    /// Was given an event and has not looked yet.
    Holding(ExternalEvent),
}

/// An event that reached who waited for it.
pub(crate) struct Taken {
    pub(crate) event: ExternalEvent,
    /// When it came in, in milliseconds.
    pub(crate) arrived: u64,
}

/// The name of an external event.
pub(crate) struct EventName {
    /// As it was written.
    pub(crate) shown: Rc<str>,
    /// The form in which names are compared.
    key: Rc<str>,
}

impl EventName {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            shown: name.into(),
            key: fold(name),
        }
    }
}

fn fold(name: &str) -> Rc<str> {
    name.to_lowercase().into()
}

impl Queue {
    fn new(shown: Rc<str>) -> Self {
        Self {
            shown,
            events: VecDeque::new(),
            idle: BTreeSet::new(),
        }
    }
}

impl Mailbox {
    /// Takes in an event, and returns whom to wake.
    #[must_use]
    pub(crate) fn deliver(&mut self, event: ExternalEvent, now: u64) -> Option<Waker> {
        self.arrived.insert(event.number, now);
        self.give(fold(&event.name), event)
    }

    /// Gives an event back that a waiter took and could not use: to the next one, whom to wake is returned, or to the front.
    #[must_use]
    pub(crate) fn give_back(&mut self, taken: Taken) -> Option<Waker> {
        self.deliver(taken.event, taken.arrived)
    }

    /// Takes the next event of a name for a waiter, who begins to wait if there is none.
    pub(crate) fn poll(
        &mut self,
        waiter: &mut Option<WaiterId>,
        name: &EventName,
        waker: &Waker,
    ) -> Option<Taken> {
        let event = self.poll_kept(waiter, name, waker)?;
        let arrived = self.arrived.remove(&event.number).unwrap_or_default();
        Some(Taken { event, arrived })
    }

    fn poll_kept(
        &mut self,
        waiter: &mut Option<WaiterId>,
        name: &EventName,
        waker: &Waker,
    ) -> Option<ExternalEvent> {
        let Some(id) = *waiter else {
            if let Some(event) = self.take(&name.key) {
                return Some(event);
            }
            *waiter = Some(self.enlist(name, waker.clone()));
            return None;
        };
        let entry = self.waiters.remove(&id)?;
        match entry.state {
            WaiterState::Holding(event) => {
                *waiter = None;
                Some(event)
            }
            WaiterState::Idle(mut known) => {
                known.clone_from(waker);
                self.waiters.insert(
                    id,
                    Waiter {
                        key: entry.key,
                        state: WaiterState::Idle(known),
                    },
                );
                None
            }
        }
    }

    /// Forgets a waiter. An event it holds goes to the next one, whom to wake is returned, or back to the front.
    #[must_use]
    pub(crate) fn abandon(&mut self, id: WaiterId) -> Option<Waker> {
        let waiter = self.waiters.remove(&id)?;
        match waiter.state {
            WaiterState::Holding(event) => self.give(waiter.key, event),
            WaiterState::Idle(_) => {
                self.waiters_idle -= 1;
                if let Some(queue) = self.queues.get_mut(&waiter.key) {
                    queue.idle.remove(&id);
                }
                self.tidy(&waiter.key);
                None
            }
        }
    }

    /// The wakers of all that wait.
    pub(crate) fn idle_wakers(&self) -> Vec<Waker> {
        let waiters = self.waiters.values();
        let idle = waiters.filter_map(|waiter| match &waiter.state {
            WaiterState::Idle(waker) => Some(waker.clone()),
            WaiterState::Holding(_) => None,
        });
        idle.collect()
    }

    /// Whether there is a waiter that an event could wake.
    pub(crate) fn has_idle_waiters(&self) -> bool {
        self.waiters_idle > 0
    }

    /// The names that idle waiters wait for.
    pub(crate) fn awaited(&self) -> Vec<String> {
        if self.waiters_idle == 0 {
            return Vec::new();
        }
        self.queues
            .values()
            .filter(|queue| !queue.idle.is_empty())
            .map(|queue| queue.shown.to_string())
            .collect()
    }

    /// The numbers of the events that are not consumed, in order.
    pub(crate) fn unconsumed(&self) -> Vec<u32> {
        let kept = self
            .queues
            .values()
            .flat_map(|queue| queue.events.iter().map(|event| event.number));
        let held = self
            .waiters
            .values()
            .filter_map(|waiter| match &waiter.state {
                WaiterState::Holding(event) => Some(event.number),
                WaiterState::Idle(_) => None,
            });
        let mut numbers: Vec<u32> = kept.chain(held).collect();
        numbers.sort_unstable();
        numbers
    }

    fn give(&mut self, key: Rc<str>, event: ExternalEvent) -> Option<Waker> {
        let queue = self
            .queues
            .entry(Rc::clone(&key))
            .or_insert_with(|| Queue::new(Rc::clone(&key)));
        let Some(id) = queue.idle.pop_first() else {
            // By number, so that what comes back stands before what came later.
            let at = queue
                .events
                .partition_point(|kept| kept.number < event.number);
            queue.events.insert(at, event);
            return None;
        };
        self.waiters_idle -= 1;
        self.tidy(&key);
        let before = self.waiters.insert(
            id,
            Waiter {
                key,
                state: WaiterState::Holding(event),
            },
        );
        match before.map(|waiter| waiter.state) {
            Some(WaiterState::Idle(waker)) => Some(waker),
            Some(WaiterState::Holding(_)) | None => {
                unreachable!("only waiters that hold nothing are listed as idle")
            }
        }
    }

    fn take(&mut self, key: &Rc<str>) -> Option<ExternalEvent> {
        let event = self.queues.get_mut(key)?.events.pop_front();
        self.tidy(key);
        event
    }

    fn enlist(&mut self, name: &EventName, waker: Waker) -> WaiterId {
        let id = WaiterId(self.next_waiter);
        self.next_waiter += 1;
        let queue = self
            .queues
            .entry(Rc::clone(&name.key))
            .or_insert_with(|| Queue::new(Rc::clone(&name.shown)));
        queue.shown = Rc::clone(&name.shown);
        queue.idle.insert(id);
        self.waiters.insert(
            id,
            Waiter {
                key: Rc::clone(&name.key),
                state: WaiterState::Idle(waker),
            },
        );
        self.waiters_idle += 1;
        id
    }

    fn tidy(&mut self, key: &Rc<str>) {
        if self
            .queues
            .get(key)
            .is_some_and(|queue| queue.events.is_empty() && queue.idle.is_empty())
        {
            self.queues.remove(key);
        }
    }
}
