//! Attempts of activities.

use serde::{Deserialize, Serialize};

use crate::text::shortened;
use crate::{Failure, Timestamp};

/// When an attempt of an activity ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRun {
    /// Counts from 1.
    pub attempt: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
}

/// An attempt of an activity that failed, or was cut off when its host died or its worker was lost, and was followed by another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// The attempt.
    pub run: AttemptRun,
    /// Its failure, shortened.
    pub failure: Failure,
}

impl FailedAttempt {
    /// The number of attempts that are kept of one activity: the first one and the last ones.
    pub const KEPT_MAX: usize = 10;

    /// Bytes that are kept of the failure's kind, and of its message.
    const TEXT_MAX: usize = 1_000;

    /// An attempt that failed with `failure`, which is shortened: only the last failure of an activity is kept whole.
    pub fn new(run: AttemptRun, failure: &Failure) -> Self {
        let brief = |text: &str| shortened(text, Self::TEXT_MAX).into_owned();
        let failure = Failure {
            kind: brief(&failure.kind),
            message: brief(&failure.message),
            details: None,
            retryable: failure.retryable,
            trace: None,
            causes: Vec::new(),
        };
        Self { run, failure }
    }

    /// An attempt that was running when its host died, or when its worker was lost.
    pub fn cut_off(run: AttemptRun) -> Self {
        let message = "it was cut off: it was running when its host died or its worker was lost";
        Self {
            run,
            failure: Failure::retryable(crate::kind::HOST_CRASHED, message),
        }
    }

    /// An attempt that was running when its host was stopped in good order.
    pub fn stopped(run: AttemptRun) -> Self {
        let message = "it was cut off: its host was stopped";
        Self {
            run,
            failure: Failure::retryable(crate::kind::HOST_STOPPED, message),
        }
    }

    /// Adds it to those before it.
    pub fn follow(self, before: &mut Vec<Self>) {
        before.push(self);
        while before.len() > Self::KEPT_MAX {
            before.remove(1);
        }
    }
}
