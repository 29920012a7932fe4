//! Attempts of activities: each is numbered, and each that fails or is cut off is said and kept, however the activity ends.

use perennial_core::text::Visible;
use perennial_core::{
    AttemptRun, Envelope, FailedAttempt, Failure, Json, Message, Millis, TaskRef, Timestamp,
};

use crate::engine::tasks::ready::Ready;
use crate::engine::{Engine, brief};
use crate::foreign::guarded;
use crate::store::InstanceKey;

impl Ready {
    /// The number of the attempt: those that the death of their host cut off count too, though no policy is used up by them.
    pub(in crate::engine) fn number(&self) -> u32 {
        self.attempt.saturating_add(self.deliveries)
    }

    /// What the activity has failed with, where it is too late for this attempt: the host was down meanwhile, or busy.
    pub(in crate::engine) fn given_up(&self, now: Timestamp) -> Option<Failure> {
        let last = self.earlier.last().map(|last| &last.failure);
        let last = self.failure.as_ref().or(last)?;
        self.retry
            .as_ref()?
            .given_up(last, self.first_started?, now)
    }
}

/// Each failure is said once, whether another attempt follows or not: where one succeeds in the end, nothing else would tell.
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

/// Writes a line to the log. Whoever is told of it may panic, on any thread: how an attempt ended does not hang on that.
fn say(line: impl FnOnce()) {
    let _ = guarded(line);
}

/// No attempt starts any more: the last one's failure is the activity's, and says so.
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

/// How an activity ended, after which attempts.
pub(in crate::engine) struct Ended {
    pub(in crate::engine) task: TaskRef,
    /// When.
    pub(in crate::engine) at: Timestamp,
    /// Those before the last one that failed or were cut off, as far as they are kept.
    pub(in crate::engine) earlier: Vec<FailedAttempt>,
    pub(in crate::engine) outcome: Result<Option<Json>, Failure>,
    /// The last one.
    pub(in crate::engine) run: AttemptRun,
}

/// Puts an outcome into the mail, and only then forgets that the activity ran.
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
