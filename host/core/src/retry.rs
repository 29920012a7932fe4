//! Retry policies: how many attempts a failed task gets, and the delays between them.

use serde::{Deserialize, Serialize};

use crate::xxh64::xxh64;
use crate::{Failure, Millis, Timestamp};

/// How often, and how far apart, a failed task is tried again.
///
/// Two are equal if their bits are: what a guest recorded equals what it repeats, even where it is NaN.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Counts the first try too; 1 means no retry.
    pub max_attempts: u32,
    /// Between the first failure and the second try.
    pub first_delay: Millis,
    /// Each delay is the one before times this; at least 1.0, never NaN.
    pub backoff: f64,
    /// No delay is longer.
    pub max_delay: Option<Millis>,
    /// Spreads each delay by up to this share of it, 0.0 to 1.0.
    pub jitter: Option<f64>,
    /// No attempt starts later than this after the first one started.
    pub give_up_after: Option<Millis>,
}

impl PartialEq for RetryPolicy {
    fn eq(&self, other: &Self) -> bool {
        let bits = |policy: &Self| {
            (
                policy.max_attempts,
                policy.first_delay,
                policy.backoff.to_bits(),
                policy.max_delay,
                policy.jitter.map(f64::to_bits),
                policy.give_up_after,
            )
        };
        bits(self) == bits(other)
    }
}

impl Eq for RetryPolicy {}

impl RetryPolicy {
    /// Says what is wrong with the policy, if anything is.
    pub fn problem(&self) -> Option<&'static str> {
        if self.max_attempts == 0 {
            return Some("max-attempts counts the first try too and must be at least 1");
        }
        if !(self.backoff >= 1.0 && self.backoff.is_finite()) {
            return Some("backoff must be a number of at least 1.0");
        }
        match self.jitter {
            Some(jitter) if !(0.0..=1.0).contains(&jitter) => {
                Some("jitter must be between 0.0 and 1.0")
            }
            _ => None,
        }
    }

    /// What a task has failed with of which an attempt would start now, where that is too late: the failure of the last attempt, which says
    /// so. The host may have been down, or busy, since the attempt was planned.
    pub fn given_up(
        &self,
        last: &Failure,
        first_started: Timestamp,
        now: Timestamp,
    ) -> Option<Failure> {
        let limit = self.give_up_after?;
        (now.since(first_started) > limit).then(|| {
            let mut failure = last.clone();
            let separator = if failure.message.is_empty() { "" } else { "; " };
            failure.message += &format!(
                "{separator}it was given up: no attempt starts later than {} ms after the first one (give-up-after)",
                limit.0
            );
            failure
        })
    }

    /// When the attempt after `attempt` (which counts from 1 and just failed with `failure`) starts, or `None` if there is none.
    ///
    /// The jitter is a function of `seed` and the attempt, so that asking twice gives the same answer.
    pub fn next_attempt_at(
        &self,
        attempt: u32,
        failure: &Failure,
        first_started: Timestamp,
        now: Timestamp,
        seed: u64,
    ) -> Option<Timestamp> {
        if !failure.retryable || attempt >= self.max_attempts {
            return None;
        }
        let power = i32::try_from(attempt - 1).unwrap_or(i32::MAX);
        let mut delay = self.first_delay.0 as f64 * self.backoff.powi(power);
        if let Some(max) = self.max_delay {
            delay = delay.min(max.0 as f64);
        }
        if let Some(jitter) = self.jitter {
            let mut bytes = [0; 12];
            bytes[..8].copy_from_slice(&seed.to_le_bytes());
            bytes[8..].copy_from_slice(&attempt.to_le_bytes());
            // 53 bits make every value of the unit interval that an f64 tells apart; from there to -1.0 ..= 1.0.
            let unit = (xxh64(&bytes) >> 11) as f64 / (1u64 << 53) as f64;
            delay += delay * jitter * (unit * 2.0 - 1.0);
        }
        // `as` saturates: an endless delay becomes the end of time.
        let at = now.after(Millis(delay as u64));
        match self.give_up_after {
            Some(limit) if at.since(first_started) > limit => None,
            _ => Some(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            max_attempts: 5,
            first_delay: Millis(100),
            backoff: 2.0,
            max_delay: Some(Millis(500)),
            jitter: None,
            give_up_after: None,
        }
    }

    fn delays(policy: &RetryPolicy) -> Vec<u64> {
        let failure = Failure::retryable("E", "");
        let mut now = Timestamp(1_000);
        let mut delays = Vec::new();
        for attempt in 1..100 {
            let Some(at) = policy.next_attempt_at(attempt, &failure, Timestamp(1_000), now, 7)
            else {
                break;
            };
            delays.push(at.since(now).0);
            now = at;
        }
        delays
    }

    #[test]
    fn delays_grow_to_the_longest_and_stop_with_the_attempts() {
        assert_eq!(delays(&policy()), [100, 200, 400, 500]);
    }

    #[test]
    fn no_attempt_starts_after_giving_up() {
        assert_eq!(
            delays(&RetryPolicy {
                give_up_after: Some(Millis(700)),
                ..policy()
            }),
            [100, 200, 400]
        );
    }

    #[test]
    fn jitter_stays_within_its_share_and_repeats() {
        let policy = RetryPolicy {
            jitter: Some(0.5),
            ..policy()
        };
        let spread = delays(&policy);
        assert_eq!(spread, delays(&policy));
        assert_ne!(spread, [100, 200, 400, 500]);
        for (got, plain) in spread.iter().zip([100u64, 200, 400, 500]) {
            assert!(
                (plain / 2..=plain * 3 / 2).contains(got),
                "{got} for {plain}"
            );
        }
    }

    #[test]
    fn a_permanent_failure_is_never_retried() {
        let failure = Failure::permanent("E", "");
        assert_eq!(
            policy().next_attempt_at(1, &failure, Timestamp(0), Timestamp(0), 0),
            None
        );
    }

    #[test]
    fn a_delay_without_end_does_not_overflow() {
        let policy = RetryPolicy {
            max_attempts: u32::MAX,
            max_delay: None,
            backoff: 1e300,
            ..policy()
        };
        let failure = Failure::retryable("E", "");
        let at = policy.next_attempt_at(u32::MAX - 1, &failure, Timestamp(0), Timestamp(5), 0);
        assert_eq!(at, Some(Timestamp(u64::MAX)));
    }

    #[test]
    fn nonsense_is_named() {
        assert!(
            RetryPolicy {
                max_attempts: 0,
                ..policy()
            }
            .problem()
            .is_some()
        );
        assert!(
            RetryPolicy {
                backoff: f64::NAN,
                ..policy()
            }
            .problem()
            .is_some()
        );
        assert!(
            RetryPolicy {
                backoff: 0.5,
                ..policy()
            }
            .problem()
            .is_some()
        );
        assert!(
            RetryPolicy {
                jitter: Some(f64::NAN),
                ..policy()
            }
            .problem()
            .is_some()
        );
        assert_eq!(policy().problem(), None);
    }
}
