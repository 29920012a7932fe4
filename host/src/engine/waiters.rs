//! Who waits for an instance, inside the process: notification instead of polling.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{broadcast, oneshot};

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
    state: Mutex<State>,
    all: broadcast::Sender<Arc<str>>,
}

impl Default for Waiters {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            all: broadcast::Sender::new(BEHIND_MAX),
        }
    }
}

#[derive(Default)]
struct State {
    by_id: HashMap<String, Vec<(Until, oneshot::Sender<()>)>>,
    sweep_at: usize,
}

impl Waiters {
    /// Is told of each instance that changes. Who is too far behind is told that.
    #[cfg(feature = "http")]
    pub(crate) fn watch_all(&self) -> broadcast::Receiver<Arc<str>> {
        self.all.subscribe()
    }

    /// Is told, once.
    pub(crate) fn watch(&self, id: &str, until: Until) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
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
        told
    }

    /// Tells those who wait for a change of an instance or, where it has ended, everyone who waits for it.
    pub(crate) fn tell(&self, id: &str, ended: bool) {
        if self.all.receiver_count() > 0 {
            // The last one may have gone meanwhile.
            let _ = self.all.send(id.into());
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
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
        for (_, waiter) in told {
            // One that no longer waits does not need to know.
            let _ = waiter.send(());
        }
    }

    /// Tells everyone that there is nothing more to wait for, by dropping what they wait on.
    pub(crate) fn clear(&self) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .by_id
            .clear();
    }
}

#[cfg(feature = "http")]
impl crate::engine::Engine {
    /// See [`Waiters::watch_all`].
    pub(crate) fn watch_all(&self) -> broadcast::Receiver<Arc<str>> {
        self.waiters.watch_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_the_end_is_not_told_of_changes() {
        let waiters = Waiters::default();
        let (mut change, mut end) = (
            waiters.watch("a", Until::Changed),
            waiters.watch("a", Until::Ended),
        );
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
        assert!(waiters.state.lock().unwrap().by_id.len() <= 2 * SWEEP_AT_LEAST);
    }
}
