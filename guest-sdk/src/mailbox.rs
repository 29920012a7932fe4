//! Buffers of what arrives under a name, external events and requests: first in, first out for each name, kept until somebody waits.
//!
//! Laws: a message reaches at most one waiter; a waiter that goes away before it looked gives its message back, in front of all later
//! ones; a name never has both kept messages and idle waiters. Names compare without regard to case. Events and requests have buffers of
//! their own, so that they never meet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::task::Waker;

use crate::bindings::orchestrations::{ExternalEvent, Request};

/// What arrives under a name, and is kept until somebody waits for it.
pub(crate) trait Message: Sized {
    /// Orders messages by when they came in.
    fn number(&self) -> u32;
    fn name(&self) -> &str;
    /// Where messages of this type are kept.
    fn mailbox(of: &mut Mailboxes) -> &mut Mailbox<Self>;
}

/// The buffers of one execution.
#[derive(Default)]
pub(crate) struct Mailboxes {
    pub(crate) events: Mailbox<ExternalEvent>,
    pub(crate) requests: Mailbox<Request>,
}

impl Message for ExternalEvent {
    fn number(&self) -> u32 {
        self.number
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn mailbox(of: &mut Mailboxes) -> &mut Mailbox<Self> {
        &mut of.events
    }
}

impl Message for Request {
    fn number(&self) -> u32 {
        self.number
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn mailbox(of: &mut Mailboxes) -> &mut Mailbox<Self> {
        &mut of.requests
    }
}

/// Orders waiters by when they began to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaiterId(u64);

/// Where somebody stands in the queue for a name.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Place {
    /// Nowhere: who waits from here is the last.
    #[default]
    New,
    /// Among those that wait.
    Waiting(WaiterId),
    /// Nowhere, but the place is still there: what was taken could not be used.
    Kept(WaiterId),
}

pub(crate) struct Mailbox<M> {
    /// By folded name; only those with something in them.
    queues: BTreeMap<Rc<str>, Queue<M>>,
    waiters: BTreeMap<WaiterId, Waiter<M>>,
    waiters_idle: usize,
    next_waiter: u64,
    /// Arrival times of the messages that are not consumed yet, by number: the time of the turn, in milliseconds.
    arrived: BTreeMap<u32, u64>,
}

struct Queue<M> {
    /// The name as it was last written by somebody who waits, for people.
    shown: Rc<str>,
    messages: VecDeque<M>,
    idle: BTreeSet<WaiterId>,
}

struct Waiter<M> {
    /// The folded name.
    key: Rc<str>,
    state: WaiterState<M>,
}

enum WaiterState<M> {
    Idle(Waker),
    /// Was given a message and has not looked yet.
    Holding(M),
}

/// A message that reached who waited for it.
pub(crate) struct Taken<M> {
    pub(crate) message: M,
    /// When it came in, in milliseconds.
    pub(crate) arrived: u64,
    /// Where who took it can go on waiting.
    pub(crate) place: Place,
}

/// The name of an external event or a request.
pub(crate) struct Name {
    /// As it was written.
    shown: Rc<str>,
    /// The form in which names are compared.
    key: Rc<str>,
}

impl Name {
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

/// Whether two names are the same.
pub(crate) fn is_same_name(left: &str, right: &str) -> bool {
    fold(left) == fold(right)
}

impl<M> Queue<M> {
    fn new(shown: Rc<str>) -> Self {
        Self {
            shown,
            messages: VecDeque::new(),
            idle: BTreeSet::new(),
        }
    }
}

impl<M> Default for Mailbox<M> {
    fn default() -> Self {
        Self {
            queues: BTreeMap::new(),
            waiters: BTreeMap::new(),
            waiters_idle: 0,
            next_waiter: 0,
            arrived: BTreeMap::new(),
        }
    }
}

impl<M: Message> Mailbox<M> {
    /// Takes in a message, and returns whom to wake.
    #[must_use]
    pub(crate) fn deliver(&mut self, message: M, now: u64) -> Option<Waker> {
        self.arrived.insert(message.number(), now);
        self.give(fold(message.name()), message)
    }

    /// Gives a message back that a waiter took and could not use: to the next one, whom to wake is returned, or to the front.
    #[must_use]
    pub(crate) fn give_back(&mut self, taken: Taken<M>) -> Option<Waker> {
        self.deliver(taken.message, taken.arrived)
    }

    /// Takes the next message of a name for somebody, who begins to wait if there is none.
    pub(crate) fn poll(
        &mut self,
        place: &mut Place,
        name: &Name,
        waker: &Waker,
    ) -> Option<Taken<M>> {
        let (message, left) = match *place {
            Place::Waiting(id) => (self.look(id, waker)?, Place::Kept(id)),
            Place::New | Place::Kept(_) => match self.take(&name.key) {
                Some(message) => (message, *place),
                None => {
                    *place = Place::Waiting(self.enlist(*place, name, waker.clone()));
                    return None;
                }
            },
        };
        *place = Place::New;
        let arrived = self.arrived.remove(&message.number()).unwrap_or_default();
        Some(Taken {
            message,
            arrived,
            place: left,
        })
    }

    /// Takes what a waiter was given.
    fn look(&mut self, id: WaiterId, waker: &Waker) -> Option<M> {
        let entry = self.waiters.remove(&id)?;
        match entry.state {
            WaiterState::Holding(message) => Some(message),
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

    /// Forgets a waiter. A message it holds goes to the next one, whom to wake is returned, or back to the front.
    #[must_use]
    pub(crate) fn abandon(&mut self, id: WaiterId) -> Option<Waker> {
        let waiter = self.waiters.remove(&id)?;
        match waiter.state {
            WaiterState::Holding(message) => self.give(waiter.key, message),
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

    /// Whether there is a waiter that a message could wake.
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

    /// The numbers of the messages that are not consumed, in order.
    pub(crate) fn unconsumed(&self) -> Vec<u32> {
        let kept = self
            .queues
            .values()
            .flat_map(|queue| queue.messages.iter().map(Message::number));
        let held = self
            .waiters
            .values()
            .filter_map(|waiter| match &waiter.state {
                WaiterState::Holding(message) => Some(message.number()),
                WaiterState::Idle(_) => None,
            });
        let mut numbers: Vec<u32> = kept.chain(held).collect();
        numbers.sort_unstable();
        numbers
    }

    fn give(&mut self, key: Rc<str>, message: M) -> Option<Waker> {
        let queue = self
            .queues
            .entry(Rc::clone(&key))
            .or_insert_with(|| Queue::new(Rc::clone(&key)));
        let Some(id) = queue.idle.pop_first() else {
            // By number, so that what comes back stands before what came later.
            let number = message.number();
            let at = (queue.messages).partition_point(|kept| kept.number() < number);
            queue.messages.insert(at, message);
            return None;
        };
        self.waiters_idle -= 1;
        self.tidy(&key);
        let before = self.waiters.insert(
            id,
            Waiter {
                key,
                state: WaiterState::Holding(message),
            },
        );
        match before.map(|waiter| waiter.state) {
            Some(WaiterState::Idle(waker)) => Some(waker),
            Some(WaiterState::Holding(_)) | None => {
                unreachable!("only waiters that hold nothing are listed as idle")
            }
        }
    }

    fn take(&mut self, key: &Rc<str>) -> Option<M> {
        let message = self.queues.get_mut(key)?.messages.pop_front();
        self.tidy(key);
        message
    }

    fn enlist(&mut self, place: Place, name: &Name, waker: Waker) -> WaiterId {
        let id = match place {
            Place::Waiting(id) | Place::Kept(id) => id,
            Place::New => {
                self.next_waiter += 1;
                WaiterId(self.next_waiter)
            }
        };
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
            .is_some_and(|queue| queue.messages.is_empty() && queue.idle.is_empty())
        {
            self.queues.remove(key);
        }
    }
}
