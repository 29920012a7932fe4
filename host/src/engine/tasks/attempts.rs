//! Attempts of activities: each is numbered, and each that fails or is cut off by a crash is logged and kept, however the activity ends.

use perennial_core::text::Visible;
use perennial_core::{
    AttemptRun, Callee, Envelope, FailedAttempt, Failure, Json, Message, Millis, TaskRef,
    Timestamp, kind,
};

use crate::engine::tasks::ready::Ready;
use crate::engine::{Engine, brief};
use crate::foreign::guarded;
use crate::store::InstanceKey;

/// An activity that was running at this many crashes of its host fails.
const DELIVERIES_MAX: u32 = 5;

/// The same for one that a remote worker runs, whose loss is often a deployment or a broken connection.
const REMOTE_DELIVERIES_MAX: u32 = 20;

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

/// The failure of an activity that cannot start: its name does not resolve, or it was running at too many crashes.
pub(super) fn fails_before(engine: &Engine, ready: &Ready) -> Option<Failure> {
    if let Some(failure) = ready.target.failure(Callee::Activity, &ready.name) {
        let names = engine.names();
        let known = names.activity_names(ready.caller.module);
        return Some(failure.meant(&ready.name, known));
    }
    let (max, what) = match ready.is_remote() {
        false => (DELIVERIES_MAX, "when its host died"),
        true => (
            REMOTE_DELIVERIES_MAX,
            "when its worker was lost or its host died",
        ),
    };
    (ready.deliveries >= max).then(|| {
        let (name, times) = (&ready.name, ready.deliveries);
        let message = format!("activity {name:?} was running {times} times {what}");
        Failure::permanent(kind::HOST_CRASHED, message)
    })
}

/// Why the result of an activity cannot be stored, if it cannot.
pub(super) fn problem_with_output(ready: &Ready, output: Option<&Json>) -> Option<String> {
    let (name, output) = (&ready.name, output?);
    let (bytes, limit) = (output.size() as u64, ready.caller.limits.payload_bytes);
    if bytes > limit {
        return Some(format!(
            "the result of activity {name:?} has {bytes} bytes; at most {limit} are allowed"
        ));
    }
    let why = output.check_readable().err()?;
    Some(format!("the result of activity {name:?} has {why}"))
}
