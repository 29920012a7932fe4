//! Retry policies: how many attempts a failed task gets, and the delays between them.

use std::time::Duration;

use crate::bindings::types as wit;
use crate::time::millis;

/// How often, and how far apart, the host tries a failed activity or child again.
///
/// Retries are durable: they survive restarts of the host, can be seen while they wait, and only the last outcome reaches the
/// orchestration. A failure that says it is [not retryable](crate::Failure::not_retryable) is never tried again.
///
/// ```
/// use perennial_sdk::{Duration, RetryPolicy};
///
/// // After 1 s, 2 s, 4 s, ... but never more than 60 s, each spread by up to a tenth; five attempts in all.
/// let policy = RetryPolicy::new(5, Duration::from_secs(1)).backoff(2.0).max_delay(Duration::from_secs(60)).jitter(0.1);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct RetryPolicy {
    max_attempts: u32,
    first_delay: Duration,
    backoff: f64,
    max_delay: Option<Duration>,
    jitter: Option<f64>,
    give_up_after: Option<Duration>,
}

impl RetryPolicy {
    /// The first attempt counts too, so 1 means no retry. Delays are all alike until [`backoff`](Self::backoff) says otherwise.
    ///
    /// # Panics
    ///
    /// If `max_attempts` is 0.
    pub fn new(max_attempts: u32, first_delay: Duration) -> Self {
        assert!(max_attempts > 0, "a task is tried at least once");
        Self {
            max_attempts,
            first_delay,
            backoff: 1.0,
            max_delay: None,
            jitter: None,
            give_up_after: None,
        }
    }

    /// Each delay is the one before times this.
    ///
    /// # Panics
    ///
    /// If it is below 1.0 or not a number.
    pub fn backoff(mut self, factor: f64) -> Self {
        assert!(factor >= 1.0, "a backoff is at least 1.0, not {factor}");
        self.backoff = factor;
        self
    }

    /// No delay is longer than this.
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = Some(delay);
        self
    }

    /// Spreads each delay by up to this share of it.
    ///
    /// # Panics
    ///
    /// If it is not in `0.0..=1.0`.
    pub fn jitter(mut self, share: f64) -> Self {
        assert!(
            (0.0..=1.0).contains(&share),
            "a jitter is a share from 0.0 to 1.0, not {share}"
        );
        self.jitter = Some(share);
        self
    }

    /// No attempt starts later than this after the first one started.
    pub fn give_up_after(mut self, duration: Duration) -> Self {
        self.give_up_after = Some(duration);
        self
    }

    pub(crate) fn to_wit(&self) -> wit::RetryPolicy {
        wit::RetryPolicy {
            max_attempts: self.max_attempts,
            first_delay: millis(self.first_delay),
            backoff: self.backoff,
            max_delay: self.max_delay.map(millis),
            jitter: self.jitter,
            give_up_after: self.give_up_after.map(millis),
        }
    }
}
