//! Rate-limits the log lines of repeated failures.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two log lines.
const EVERY: Duration = Duration::from_secs(10);

/// How long nothing must have failed until an outage is said to be over: on a full disk, some operations succeed and others do not.
const OVER_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct Outage(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    said: Option<Instant>,
    unsaid: u64,
    lasts: bool,
    /// The last failure of an outage that was not said to be over.
    failed: Option<Instant>,
}

/// Logs a warning at most every ten seconds for each place in the code.
macro_rules! warn_seldom {
    ($($said:tt)*) => {{
        static SEEN: $crate::outage::Outage = $crate::outage::Outage::new();
        if let Some(unsaid) = SEEN.failed() {
            tracing::warn!(unsaid, $($said)*);
        }
    }};
}
pub(crate) use warn_seldom;

impl Outage {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(State {
            said: None,
            unsaid: 0,
            lasts: false,
            failed: None,
        }))
    }

    /// Records a failure. If it should be logged: the number of failures that were not logged before it.
    pub(crate) fn failed(&self) -> Option<u64> {
        self.failed_at(Instant::now())
    }

    fn failed_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.lasts = true;
        state.failed = Some(now);
        if state
            .said
            .is_some_and(|said| now.saturating_duration_since(said) < EVERY)
        {
            state.unsaid += 1;
            return None;
        }
        state.said = Some(now);
        Some(std::mem::take(&mut state.unsaid))
    }

    /// Whether the last operation failed.
    pub(crate) fn lasts(&self) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.lasts
    }

    /// Records a success. If an outage is over, since nothing has failed for a while: the number of failures that were not logged.
    pub(crate) fn succeeded(&self) -> Option<u64> {
        self.succeeded_at(Instant::now())
    }

    fn succeeded_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.lasts = false;
        let is_over = |failed: Instant| now.saturating_duration_since(failed) >= OVER_AFTER;
        if !state.failed.is_some_and(is_over) {
            return None;
        }
        state.failed = None;
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_said_now_and_then_with_what_was_left_out() {
        let outage = Outage::default();
        let begun = Instant::now();
        let after = |seconds| outage.failed_at(begun + Duration::from_secs(seconds));
        let works = |seconds| outage.succeeded_at(begun + Duration::from_secs(seconds));
        assert_eq!(works(0), None);
        assert_eq!([after(0), after(1), after(9)], [Some(0), None, None]);
        assert_eq!([after(10), after(11)], [Some(2), None]);
        assert!(outage.lasts());
        assert_eq!([works(12), works(20)], [None, None]);
        assert!(!outage.lasts());
        assert_eq!([works(21), works(22)], [Some(1), None]);
    }

    #[test]
    fn failures_between_successes_are_one_outage() {
        let outage = Outage::default();
        let begun = Instant::now();
        let mut said = Vec::new();
        for second in 0..30 {
            let now = begun + Duration::from_secs(second);
            said.extend(outage.failed_at(now).map(|unsaid| (second, unsaid)));
            assert_eq!(outage.succeeded_at(now), None);
        }
        assert_eq!(said, [(0, 0), (10, 9), (20, 9)]);
        let after = |seconds| outage.succeeded_at(begun + Duration::from_secs(seconds));
        assert_eq!([after(38), after(39)], [None, Some(9)]);
    }
}
