//! Measures processor time, which differs from wall time on a busy machine.

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
