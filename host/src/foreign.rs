//! Code of the program that embeds the host: closures, clocks, span sinks. It may panic, it may never return, and dropping it may panic.
//!
//! Invariants:
//! - each call goes through [`guarded`], and code that is kept for later calls is kept as a [`Foreign`]: a panic ends only that call;
//! - code that only receives notifications is a [`Listener`]: it runs on its own thread, so the host does not wait for it;
//! - when the host must wait for foreign code (an attempt, a shutdown), it waits for a limited time.
//!
//! The exception is code that runs in the task of the caller who passed it (`Client::wait_until`, the serialization of an input): its panic
//! reaches that caller.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;

use crate::outage::Outage;

/// How long the host waits for a listener to take the last notifications.
const LISTENER_ENDS_WITHIN: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 10 });

/// Runs code of a guest, of the core, or of the embedding program. A panic is returned as an error and ends no thread.
pub(crate) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(panicked)
}

/// As [`guarded`], for code that waits.
pub(crate) async fn guarded_async<T>(run: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(run).catch_unwind().await.map_err(panicked)
}

fn panicked(panic: Box<dyn Any + Send>) -> String {
    format!(
        "the host panicked: {}",
        panic_message(panic).unwrap_or_else(|| "without saying why".to_owned())
    )
}

/// The message of a panic. A payload whose drop panics is leaked.
pub(crate) fn panic_message(panic: Box<dyn Any + Send>) -> Option<String> {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
    text
}

/// A closure or object of the embedding program.
pub(crate) struct Foreign<T> {
    /// `None` only while it is being dropped.
    code: Option<T>,
    what: &'static str,
    panics: Outage,
}

impl<T> Foreign<T> {
    /// `what` names it in log lines, such as `the clock`.
    pub(crate) fn new(what: &'static str, code: T) -> Self {
        let (code, panics) = (Some(code), Outage::default());
        Self { code, what, panics }
    }

    /// `None` if it panicked.
    pub(crate) fn call<R>(&self, call: impl FnOnce(&T) -> R) -> Option<R> {
        let code = self.code.as_ref()?;
        self.returned(guarded(|| call(code)))
    }

    pub(crate) fn call_mut<R>(&mut self, call: impl FnOnce(&mut T) -> R) -> Option<R> {
        let code = self.code.as_mut()?;
        let called = guarded(|| call(code));
        self.returned(called)
    }

    /// For callers that catch panics themselves, such as a task.
    pub(crate) fn code(&self) -> Option<&T> {
        self.code.as_ref()
    }

    fn returned<R>(&self, called: Result<R, String>) -> Option<R> {
        if let Err(why) = &called
            && let Some(unsaid) = self.panics.failed()
        {
            // The log subscriber is foreign code too.
            let _ = guarded(|| {
                tracing::error!(why, unsaid, "{} panicked; the host goes on", self.what)
            });
        }
        called.ok()
    }
}

impl<T> Drop for Foreign<T> {
    fn drop(&mut self) {
        let code = self.code.take();
        let dropped = guarded(|| drop(code));
        self.returned(dropped);
    }
}

/// A listener of the embedding program. It is called on its own thread. If it is slow, it misses the oldest notifications; if it does not
/// return, nothing waits for it.
pub(crate) struct Listener<N>(Arc<Shared<N>>);

struct Shared<N> {
    what: &'static str,
    /// The most notifications that are queued.
    most: usize,
    state: Mutex<State<N>>,
    changed: Condvar,
    missed: Outage,
}

struct State<N> {
    news: VecDeque<N>,
    closed: bool,
    /// Whether the thread has delivered everything and dropped the listener.
    over: bool,
}

impl<N> Shared<N> {
    fn state(&self) -> MutexGuard<'_, State<N>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<N> {
        let mut state = self.state();
        loop {
            if let Some(news) = state.news.pop_front() {
                return Some(news);
            }
            if state.closed {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Marks the end of a listener's thread, also if it panics.
struct Over<N>(Arc<Shared<N>>);

impl<N> Drop for Over<N> {
    fn drop(&mut self) {
        self.0.state().over = true;
        self.0.changed.notify_all();
    }
}

impl<N: Send + 'static> Listener<N> {
    /// `what` names it in log lines; at most `most` notifications are queued.
    pub(crate) fn new(
        what: &'static str,
        most: usize,
        told: impl FnMut(N) + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            what,
            most,
            state: Mutex::new(State {
                news: VecDeque::new(),
                closed: false,
                over: false,
            }),
            changed: Condvar::new(),
            missed: Outage::default(),
        });
        let (over, mut told) = (Over(Arc::clone(&shared)), Foreign::new(what, told));
        let run = move || {
            // Declared before the listener, so that it is dropped after it.
            let over = over;
            while let Some(news) = over.0.next() {
                told.call_mut(|told| told(news));
            }
            drop(told);
        };
        let begun = std::thread::Builder::new().name("perennial-told".to_owned());
        if let Err(error) = begun.spawn(run) {
            tracing::warn!(%error, "there is no thread for {what}, which is told nothing");
        }
        Self(shared)
    }

    /// Queues a notification without waiting.
    pub(crate) fn tell(&self, news: N) {
        let mut state = self.0.state();
        if state.over {
            return;
        }
        let missed = if state.news.len() >= self.0.most {
            state.news.pop_front()
        } else {
            None
        };
        state.news.push_back(news);
        drop(state);
        self.0.changed.notify_one();
        // A listener with a queue of one, as for progress, needs only the latest value.
        if missed.is_some()
            && self.0.most > 1
            && let Some(unsaid) = self.0.missed.failed()
        {
            tracing::warn!(unsaid, "{} is too slow, and misses some", self.0.what);
        }
    }

    /// As [`close_by`](Self::close_by), within ten seconds.
    pub(crate) fn close(&self) {
        self.close_by(Instant::now() + LISTENER_ENDS_WITHIN);
    }

    /// Accepts no more notifications and blocks until all are delivered, or until the given time.
    pub(crate) fn close_by(&self, until: Instant) {
        let mut state = self.0.state();
        state.closed = true;
        self.0.changed.notify_all();
        while !state.over {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                return tracing::error!("{} does not return; it is left to itself", self.0.what);
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<N> Drop for Listener<N> {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Panics when it is dropped, also as the payload of a panic.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Self);
        }
    }

    #[test]
    fn a_panic_ends_nothing_but_its_call_whatever_it_carries() {
        let why = guarded(|| std::panic::panic_any(Bomb)).unwrap_err();
        assert_eq!(why, "the host panicked: without saying why");
        let mut foreign = Foreign::new("the sink", Bomb);
        assert_eq!(foreign.call(|_| 1), Some(1));
        assert_eq!(foreign.call_mut(|_| -> u8 { panic!("on purpose") }), None);
        assert_eq!(foreign.call(|_| 2), Some(2));
        drop(foreign);
    }

    #[test]
    fn a_listener_that_does_not_return_holds_nobody_up_and_misses_what_is_old() {
        let (begun, begins) = mpsc::channel();
        let (release, held) = mpsc::channel::<()>();
        let listener = Listener::new("the listener", 2, move |news: u32| {
            let _ = begun.send(news);
            let _ = held.recv();
            panic!("on purpose");
        });
        listener.tell(0);
        assert_eq!(begins.recv(), Ok(0));
        for news in 1..1_000 {
            listener.tell(news);
        }
        // `close` returns, though the listener does not.
        listener.close();
        drop(release);
        assert_eq!(begins.iter().collect::<Vec<_>>(), [998, 999]);
    }

    #[test]
    fn what_a_listener_was_told_last_has_reached_it_when_it_is_closed() {
        let (told, tells) = mpsc::channel();
        let listener = Listener::new("the listener", 1, move |news: u32| {
            let _ = told.send(news);
        });
        (0..100).for_each(|news| listener.tell(news));
        listener.close();
        assert_eq!(tells.iter().last(), Some(99));
    }
}
