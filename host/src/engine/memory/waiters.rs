//! Waiters in this process, which are notified and do not poll.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, oneshot};

use crate::engine::Engine;
use crate::engine::locks::{OrderedMutex, rank};
use crate::store::InstanceRow;

/// With fewer ids than this, cancelled waiters are not removed.
const SWEEP_AT_LEAST: usize = 1_024;

/// The event that a waiter waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// The next commit of the instance.
    Changed,
    /// The end of the instance.
    Ended,
}

/// The shortest and the longest wait between two looks at an instance that another host runs.
const LOOK_FIRST: Duration = Duration::from_millis(2);
const LOOK_LAST: Duration = Duration::from_millis(500);

/// How long a client has waited for an instance that another host runs when that one is asked to tell of the change. Most waits are over before.
const ASK_AFTER: Duration = Duration::from_millis(20);

/// When a client that has waited so long looks again at an instance that another host runs, if it is not told before. It notices a change late
/// by an eighth of the time that it has waited at most, and many that wait for long do not keep the database busy.
fn look_after(waited: Duration) -> Duration {
    (waited / 8).clamp(LOOK_FIRST, LOOK_LAST)
}

/// How many changes a subscriber to all instances may lag behind.
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

/// The final row of an ended instance. Only the first waiter gets it.
pub(crate) type News = Option<Box<InstanceRow>>;

/// A registered waiter.
pub(crate) struct Watch {
    /// Receives one notification.
    pub(crate) told: oneshot::Receiver<News>,
    /// Whether the instance is known to be live, so that the caller need not read the hub.
    pub(crate) lives: bool,
}

/// Number of recently started instances that are remembered as live, for clients that start one and wait for it.
const BEGUN_MAX: usize = 4_096;

#[derive(Default)]
struct State {
    by_id: HashMap<String, Vec<(Until, oneshot::Sender<News>)>>,
    sweep_at: usize,
    /// The most recently started instances that have not ended.
    begun: HashSet<Arc<str>>,
    /// All recently started instances, oldest first.
    begun_last: VecDeque<Arc<str>>,
}

impl Waiters {
    /// Subscribes to the ids of all instances that change. A subscriber that lags too far behind gets an error.
    #[cfg(feature = "http")]
    pub(crate) fn watch_all(&self) -> broadcast::Receiver<Arc<str>> {
        self.all.subscribe()
    }

    /// Registers a waiter for one notification.
    pub(crate) fn watch(&self, id: &str, until: Until) -> Watch {
        let (tell, told) = oneshot::channel();
        let mut state = self.state.lock();
        let of_id = state.by_id.entry(id.to_owned()).or_default();
        of_id.retain(|(_, waiter)| !waiter.is_closed());
        of_id.push((until, tell));
        if state.by_id.len() > state.sweep_at.max(SWEEP_AT_LEAST) {
            // Removes cancelled waiters. Runs once for each doubling of the table.
            state
                .by_id
                .retain(|_, waiters| waiters.iter().any(|(_, waiter)| !waiter.is_closed()));
            state.sweep_at = state.by_id.len() * 2;
        }
        let lives = state.begun.contains(id);
        Watch { told, lives }
    }

    /// Notifies the waiters of some instances, which are not remembered as live any more.
    pub(in crate::engine) fn tell_where(&self, of: impl Fn(&str) -> bool) {
        let mut state = self.state.lock();
        state.begun.retain(|id| !of(id));
        let told: Vec<String> = state.by_id.keys().filter(|id| of(id)).cloned().collect();
        for id in told {
            for (_, waiter) in state.by_id.remove(&id).unwrap_or_default() {
                drop(waiter.send(None));
            }
        }
    }

    /// Remembers an instance as live, before the start is answered.
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

    /// Notifies the waiters for changes of an instance or, if it has ended, all of its waiters.
    pub(crate) fn tell(&self, id: &str, ended: bool) {
        self.tell_each(id, ended, || None);
    }

    /// As [`tell`](Self::tell) for an ended instance, with its final row.
    pub(in crate::engine) fn tell_end(&self, end: InstanceRow) {
        let id = end.id.clone();
        let mut end = Some(Box::new(end));
        self.tell_each(&id, true, || end.take());
    }

    /// The first waiter for the end gets the row; others read it themselves.
    fn tell_each(&self, id: &str, ended: bool, news: impl FnMut() -> News) {
        if self.all.receiver_count() > 0 {
            // Sending fails if the last subscriber has just left.
            let _ = self.all.send(id.into());
        }
        self.tell_waiting(id, ended, news);
    }

    /// Notifies those that wait for the answer to a request. They wait under a name that no instance has.
    pub(in crate::engine) fn tell_answered(&self, instance: &str, request: &str) {
        self.tell_waiting(&answer_to(instance, request), false, || None);
    }

    fn tell_waiting(&self, id: &str, ended: bool, mut news: impl FnMut() -> News) {
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
            // Sending fails if the waiter was cancelled.
            let _ = waiter.send(news);
        }
    }

    /// Drops all waiters, which tells them that there is nothing more to wait for.
    pub(crate) fn clear(&self) {
        self.state.lock().by_id.clear();
    }
}

impl Engine {
    /// Registers a waiter for the next commit of an instance, or for its end, that has `waited` for this long.
    pub(crate) fn watch(&self, id: &str, until: Until, waited: Duration) -> Watch {
        let watch = self.memory.waiters.watch(id, until);
        // Asked after the waiter was registered: who leaves the partition from now on notifies it.
        match self.hub.partitions.elsewhere(id) {
            Some(_) => self.elsewhere_or_soon(id, until, watch, waited),
            None => watch,
        }
    }

    /// A watch that ends as this one, which the host that runs the instance tells if it hears in time that somebody waits, and soon in any case:
    /// whoever waits looks at the hub then.
    fn elsewhere_or_soon(&self, id: &str, until: Until, watch: Watch, waited: Duration) -> Watch {
        if waited >= ASK_AFTER {
            self.ask_elsewhere(id, until);
        }
        let (tell, told) = oneshot::channel();
        self.runtime.spawn(async move {
            match tokio::time::timeout(look_after(waited), watch.told).await {
                Ok(Ok(_)) | Err(_) => drop(tell.send(None)),
                // This host ends.
                Ok(Err(_)) => drop(tell),
            }
        });
        let lives = false;
        Watch { told, lives }
    }

    /// Registers a waiter for the answer to a request, and one for the end of its instance, which is none.
    pub(crate) fn watch_answer(
        &self,
        instance: &str,
        request: &str,
        waited: Duration,
    ) -> [Watch; 2] {
        let waiters = &self.memory.waiters;
        let answer = waiters.watch(&answer_to(instance, request), Until::Changed);
        let end = waiters.watch(instance, Until::Ended);
        if self.hub.partitions.elsewhere(instance).is_none() {
            return [answer, end];
        }
        // Answers are in commits of the instance.
        let change = waiters.watch(instance, Until::Changed);
        [(Until::Changed, change), (Until::Ended, end)]
            .map(|(until, watch)| self.elsewhere_or_soon(instance, until, watch, waited))
    }

    pub(crate) fn tell_waiters(&self, id: &str, ended: bool) {
        self.memory.waiters.tell(id, ended);
        self.tell_elsewhere(id, ended);
    }

    /// See [`Waiters::watch_all`].
    #[cfg(feature = "http")]
    pub(crate) fn watch_all(&self) -> broadcast::Receiver<Arc<str>> {
        self.memory.waiters.watch_all()
    }
}

/// The name under which the answer to a request is waited for. Ids of instances hold no such character.
fn answer_to(instance: &str, request: &str) -> String {
    format!("{instance}\0{request}")
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
    fn who_waits_for_long_looks_seldom() {
        let after = |waited| look_after(Duration::from_millis(waited)).as_millis();
        assert_eq!([0, 80, 1_000, 60_000].map(after), [2, 10, 125, 500]);
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
