//! Attempts of activities: each is numbered, and each that fails or is cut off by a crash is logged and kept, however the activity ends.

use perennial_core::text::Visible;
use perennial_core::{
    AttemptRun, Envelope, FailedAttempt, Failure, Json, Message, Millis, TaskRef, Timestamp,
};

use crate::engine::tasks::ready::Ready;
use crate::engine::{Engine, brief};
use crate::foreign::guarded;
use crate::store::InstanceKey;

impl Ready {
    /// The number of the attempt. Attempts that a crash cut off count too, although they do not count for the retry policy.
    pub(in crate::engine) fn number(&self) -> u32 {
        self.attempt.saturating_add(self.deliveries)
    }

    /// The last failure of the activity, if it is too late to start this attempt because the host was down or busy.
    pub(in crate::engine) fn given_up(&self, now: Timestamp) -> Option<Failure> {
        let last = self.earlier.last().map(|last| &last.failure);
        let last = self.failure.as_ref().or(last)?;
        self.retry
            .as_ref()?
            .given_up(last, self.first_started?, now)
    }
}

/// Logs each failure once, whether or not another attempt follows: if a later one succeeds, nothing else reports it.
pub(in crate::engine) fn log_failure(ready: &Ready, failure: &Failure, next: Option<Millis>) {
    say(|| {
        tracing::warn!(
            target: crate::engine::LOG_ATTEMPTS,
            instance = ready.caller.instance_id,
            activity = %Visible(&ready.name),
            task = ready.task.task.0,
            attempt = ready.number(),
            kind = %Visible(&failure.kind),
            error = %Visible(&brief(&failure.message)),
            next_in_ms = next.map(|span| span.0),
            "an attempt of an activity failed"
        )
    });
}

/// Writes a log line. A subscriber of the log may panic on any thread; the outcome of an attempt must not depend on it.
fn say(line: impl FnOnce()) {
    let _ = guarded(line);
}

/// Fails the activity with the failure of its last attempt, because no attempt may start any more.
pub(in crate::engine) fn give_up(engine: &Engine, mut ready: Ready, failure: Failure) {
    let run = ready
        .earlier
        .pop()
        .map(|last| last.run)
        .unwrap_or_else(|| AttemptRun {
            attempt: ready.number() - 1,
            ..AttemptRun::default()
        });
    say(|| {
        tracing::warn!(
            target: crate::engine::LOG_ATTEMPTS,
            instance = ready.caller.instance_id,
            activity = %Visible(&ready.name),
            task = ready.task.task.0,
            error = %Visible(&brief(&failure.message)),
            "an activity is not tried again"
        )
    });
    let ended = Ended {
        task: ready.task,
        at: engine.clock.now(),
        earlier: ready.earlier,
        outcome: Err(failure),
        run,
    };
    hand_over(engine, ready.key, ended);
}

/// The outcome of an activity, with its attempts.
pub(in crate::engine) struct Ended {
    pub(in crate::engine) task: TaskRef,
    /// The time of the end.
    pub(in crate::engine) at: Timestamp,
    /// The earlier attempts that failed or were cut off, as far as they are kept.
    pub(in crate::engine) earlier: Vec<FailedAttempt>,
    pub(in crate::engine) outcome: Result<Option<Json>, Failure>,
    /// The last attempt.
    pub(in crate::engine) run: AttemptRun,
}

/// Puts an outcome into the mail, and only then forgets the running activity.
pub(in crate::engine) fn hand_over(engine: &Engine, key: InstanceKey, ended: Ended) {
    let Ended {
        task,
        at,
        earlier,
        outcome,
        run,
    } = ended;
    engine.put(key, |mailbox| {
        if !earlier.is_empty() {
            let attempts = earlier;
            let before = Message::AttemptsFailed { task, attempts };
            mailbox.mail.push_back(Envelope::came(before, at));
        }
        let ended = Message::ActivityEnded { task, outcome, run };
        mailbox.mail.push_back(Envelope::came(ended, at));
    });
    engine.activities.is_handed_over((key, task));
}
