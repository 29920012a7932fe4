//! Measures processor time, which differs from wall time on a busy machine.

#[cfg(feature = "http")]
use std::future::{Future, poll_fn};
#[cfg(feature = "http")]
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Processor time of the current thread.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let whole = |part: i64| u64::try_from(part).unwrap_or(0);
    Duration::from_secs(whole(time.tv_sec)) + Duration::from_nanos(whole(time.tv_nsec))
}

/// Runs a function and measures its processor time.
pub(crate) fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let begun = thread_time();
    let done = run();
    (done, thread_time().saturating_sub(begun))
}

tokio::task_local! {
    /// Nanoseconds that other threads have worked for the current task, if somebody counts them.
    static ELSEWHERE: Arc<AtomicU64>;
}

/// What the current task has others do for it, on other threads.
pub(crate) struct Account(Option<Arc<AtomicU64>>);

impl Account {
    /// The account of the current task; if nobody counts, nothing is measured.
    pub(crate) fn of_task() -> Self {
        Self(ELSEWHERE.try_with(Arc::clone).ok())
    }

    /// Runs a function, and adds its processor time.
    pub(crate) fn charge<T>(&self, run: impl FnOnce() -> T) -> T {
        let Some(account) = &self.0 else {
            return run();
        };
        let (done, took) = timed(run);
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        account.fetch_add(ns, Relaxed);
        done
    }
}

/// Runs a future and measures its processor time, with that of its reads of the hub on other threads.
#[cfg(feature = "http")]
pub(crate) async fn accounted<F: Future>(future: F) -> (F::Output, Duration) {
    let account = Arc::<AtomicU64>::default();
    let mut future = pin!(ELSEWHERE.scope(Arc::clone(&account), future));
    let mut here = Duration::ZERO;
    let done = poll_fn(|cx| {
        let (polled, took) = timed(|| future.as_mut().poll(cx));
        here += took;
        polled
    })
    .await;
    (done, here + Duration::from_nanos(account.load(Relaxed)))
}
