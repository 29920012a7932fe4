//! Rate-limits the log lines of repeated failures.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two log lines.
const EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct Outage(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    said: Option<Instant>,
    unsaid: u64,
    lasts: bool,
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
        }))
    }

    /// Records a failure. If it should be logged: the number of failures that were not logged before it.
    pub(crate) fn failed(&self) -> Option<u64> {
        self.failed_at(Instant::now())
    }

    fn failed_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.lasts = true;
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

    /// Records a success. If it ends an outage: the number of failures that were not logged.
    pub(crate) fn succeeded(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = std::mem::take(&mut state.lasts);
        over.then(|| std::mem::take(&mut state.unsaid))
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
        assert_eq!(outage.succeeded(), None);
        assert_eq!([after(0), after(1), after(9)], [Some(0), None, None]);
        assert_eq!([after(10), after(11)], [Some(2), None]);
        assert_eq!(outage.succeeded(), Some(1));
        assert_eq!(outage.succeeded(), None);
        // Alternating failures and successes are not logged more often.
        assert_eq!(after(12), None);
        assert_eq!(after(20), Some(1));
    }
}
