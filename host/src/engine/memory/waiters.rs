//! Waiters within this process: they are notified and do not poll.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tokio::sync::{broadcast, oneshot};

use crate::engine::Engine;
use crate::engine::locks::{OrderedMutex, rank};
use crate::store::InstanceRow;

/// Below this many ids nobody looks for those who no longer wait.
const SWEEP_AT_LEAST: usize = 1_024;

/// What a waiter waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// The next commit.
    Changed,
    /// The end.
    Ended,
}

/// Changes that somebody who watches all instances may be behind.
const BEHIND_MAX: usize = 4_096;

/// See the [module](self).
pub(crate) struct Waiters {
    state: OrderedMutex<State, { rank::WAITERS }>,
    all: broadcast::Sender<Arc<str>>,
}

impl Default for Waiters {
    fn default() -> Self {
        Self {
            state: OrderedMutex::default(),
            all: broadcast::Sender::new(BEHIND_MAX),
        }
    }
}

/// What a waiter is told: the row with which the instance ended, where that was read by nobody yet.
pub(crate) type News = Option<Box<InstanceRow>>;

/// Somebody who waits.
pub(crate) struct Watch {
    /// Told, once.
    pub(crate) told: oneshot::Receiver<News>,
    /// Whether the instance is known to live without a look into the hub.
    pub(crate) lives: bool,
}

/// Instances that are remembered to have begun a moment ago: who starts one and waits for it comes within these.
const BEGUN_MAX: usize = 4_096;

#[derive(Default)]
struct State {
    by_id: HashMap<String, Vec<(Until, oneshot::Sender<News>)>>,
    sweep_at: usize,
    /// Of the instances that began last those that have not ended.
    begun: HashSet<Arc<str>>,
    /// All of them, the oldest first.
    begun_last: VecDeque<Arc<str>>,
}

impl Waiters {
    /// Is told of each instance that changes. Who is too far behind is told that.
    #[cfg(feature = "http")]
    pub(crate) fn watch_all(&self) -> broadcast::Receiver<Arc<str>> {
        self.all.subscribe()
    }

    /// Is told, once.
    pub(crate) fn watch(&self, id: &str, until: Until) -> Watch {
        let (tell, told) = oneshot::channel();
        let mut state = self.state.lock();
        let of_id = state.by_id.entry(id.to_owned()).or_default();
        of_id.retain(|(_, waiter)| !waiter.is_closed());
        of_id.push((until, tell));
        if state.by_id.len() > state.sweep_at.max(SWEEP_AT_LEAST) {
            // Those that gave up: each is looked at once for each doubling of the table.
            state
                .by_id
                .retain(|_, waiters| waiters.iter().any(|(_, waiter)| !waiter.is_closed()));
            state.sweep_at = state.by_id.len() * 2;
        }
        let lives = state.begun.contains(id);
        Watch { told, lives }
    }

    /// Remembers that an instance lives, before anybody is told that it was started.
    pub(in crate::engine) fn begun(&self, id: &str) {
        let mut state = self.state.lock();
        let id: Arc<str> = id.into();
        state.begun.insert(Arc::clone(&id));
        state.begun_last.push_back(id);
        if state.begun_last.len() > BEGUN_MAX
            && let Some(oldest) = state.begun_last.pop_front()
        {
            state.begun.remove(&oldest);
        }
    }

    /// Tells those who wait for a change of an instance or, where it has ended, everyone who waits for it.
    pub(crate) fn tell(&self, id: &str, ended: bool) {
        self.tell_each(id, ended, || None);
    }

    /// As [`tell`](Self::tell), with how the instance ended.
    pub(in crate::engine) fn tell_end(&self, end: InstanceRow) {
        let id = end.id.clone();
        let mut end = Some(Box::new(end));
        self.tell_each(&id, true, || end.take());
    }

    /// The first one who waited for an end gets the news, and others look for themselves.
    fn tell_each(&self, id: &str, ended: bool, mut news: impl FnMut() -> News) {
        if self.all.receiver_count() > 0 {
            // The last one may have gone meanwhile.
            let _ = self.all.send(id.into());
        }
        let mut state = self.state.lock();
        if ended {
            state.begun.remove(id);
        }
        let Some(waiters) = state.by_id.get_mut(id) else {
            return;
        };
        let (told, rest): (Vec<_>, Vec<_>) = waiters
            .drain(..)
            .partition(|(until, _)| ended || *until == Until::Changed);
        if rest.is_empty() {
            state.by_id.remove(id);
        } else {
            *waiters = rest;
        }
        drop(state);
        for (until, waiter) in told {
            let news = if until == Until::Ended { news() } else { None };
            // One that no longer waits does not need to know.
            let _ = waiter.send(news);
        }
    }

    /// Tells everyone that there is nothing more to wait for, by dropping what they wait on.
    pub(crate) fn clear(&self) {
        self.state.lock().by_id.clear();
    }
}

impl Engine {
    /// Is told at the next commit of an instance, or at its end.
    pub(crate) fn watch(&self, id: &str, until: Until) -> Watch {
        self.memory.waiters.watch(id, until)
    }

    pub(crate) fn tell_waiters(&self, id: &str, ended: bool) {
        self.memory.waiters.tell(id, ended);
    }

    /// See [`Waiters::watch_all`].
    #[cfg(feature = "http")]
    pub(crate) fn watch_all(&self) -> broadcast::Receiver<Arc<str>> {
        self.memory.waiters.watch_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_the_end_is_not_told_of_changes() {
        let waiters = Waiters::default();
        let watch = |until| waiters.watch("a", until).told;
        let (mut change, mut end) = (watch(Until::Changed), watch(Until::Ended));
        waiters.tell("b", true);
        assert!(change.try_recv().is_err() && end.try_recv().is_err());
        waiters.tell("a", false);
        assert!(change.try_recv().is_ok() && end.try_recv().is_err());
        waiters.tell("a", true);
        assert!(end.try_recv().is_ok());
    }

    #[test]
    fn who_gave_up_is_forgotten() {
        let waiters = Waiters::default();
        for i in 0..10_000 {
            drop(waiters.watch(&i.to_string(), Until::Ended));
        }
        assert!(waiters.state.lock().by_id.len() <= 2 * SWEEP_AT_LEAST);
    }

    #[test]
    fn what_began_lives_until_its_end_is_told() {
        let waiters = Waiters::default();
        let lives = |id| waiters.watch(id, Until::Ended).lives;
        assert!(!lives("a"));
        waiters.begun("a");
        assert!(lives("a"));
        waiters.tell("a", false);
        assert!(lives("a"));
        waiters.tell("a", true);
        assert!(!lives("a"));
        waiters.begun("b");
        for i in 0..BEGUN_MAX {
            waiters.begun(&i.to_string());
        }
        assert!(!lives("b"), "so many are not remembered");
        assert!(lives("0"));
    }
}
