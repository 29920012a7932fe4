//! Attempts of activities: each is numbered, and each that fails or is cut off by a crash is logged and kept, however the activity ends.

use std::sync::Arc;

use perennial_core::text::Visible;
use perennial_core::{
    AttemptRun, Callee, Envelope, FailedAttempt, Failure, Json, Message, Millis, TaskRef,
    Timestamp, kind,
};

use crate::engine::tasks::ready::{AttemptKey, Caller, Ready};
use crate::engine::tasks::timers::Due;
use crate::engine::{Engine, brief};
use crate::foreign::guarded;
use crate::shortage::Shortage;
use crate::store::{Beat, Change, InstanceKey, Outcome, Reply, Retry};

/// An activity that was running at this many crashes of its host fails.
const DELIVERIES_MAX: u32 = 5;

/// The same for one that a remote worker runs, whose loss is often a deployment or a broken connection.
const REMOTE_DELIVERIES_MAX: u32 = 20;

impl Ready {
    /// The number of the attempt. Attempts that a crash cut off count too, although they do not count for the retry policy.
    pub(in crate::engine) fn number(&self) -> u32 {
        let cut_off = self.deliveries.saturating_add(self.cut);
        self.attempt.saturating_add(cut_off)
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

/// Logs the start of an attempt, for those who look for it.
pub(super) fn say_begun(ready: &Ready) {
    say(|| {
        tracing::debug!(
            target: crate::engine::LOG_ATTEMPTS,
            instance = ready.caller.instance_id,
            activity = %Visible(&ready.name),
            task = ready.task.task.0,
            attempt = ready.number(),
            "an attempt of an activity starts"
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

/// Hands the outcome of an attempt to the instance, or schedules the next attempt.
pub(super) fn ended(
    engine: &Arc<Engine>,
    ready: Ready,
    started_at: Timestamp,
    outcome: Result<Option<Json>, Failure>,
    heartbeat: Option<Beat>,
) {
    let now = engine.clock.now();
    let run = AttemptRun {
        attempt: ready.number(),
        started_at,
        ended_at: now,
    };
    (engine.durations).ended(&ready.name, run, outcome.is_err());
    // If the clock was set back, the time limit of the policy starts again from now.
    let first_started = ready.first_started.unwrap_or(started_at).min(now);
    let next = match (&outcome, &ready.retry) {
        (Err(failure), Some(policy)) => {
            let seed = ready.caller.seed ^ u64::from(ready.task.task.0);
            policy.next_attempt_at(ready.attempt, failure, first_started, now, seed)
        }
        _ => None,
    };
    if let Err(failure) = &outcome {
        log_failure(&ready, failure, next.map(|due| due.since(now)));
    }
    let retry = match (&outcome, next) {
        (Err(failure), Some(due)) => {
            let mut attempts = ready.earlier.clone();
            FailedAttempt::new(run, failure).follow(&mut attempts);
            Some(Retry {
                key: ready.key,
                task: ready.task,
                attempt: ready.attempt + 1,
                due,
                first_started,
                failure: failure.clone(),
                attempts,
                heartbeat,
            })
        }
        _ => None,
    };
    let ended = Ended {
        task: ready.task,
        at: now,
        earlier: ready.earlier,
        outcome,
        run,
    };
    match retry {
        Some(retry) => try_again(engine, ready.caller, retry, ended),
        None => hand_over(engine, ready.key, ended),
    }
}

/// Retries an attempt after a shortage of the host, as the same attempt: the hub still has the task as it was before.
pub(super) fn try_later(engine: &Engine, (key, task): AttemptKey, shortage: &Shortage) {
    engine.trouble.shortages.note(shortage);
    let wait = engine.trouble.backoff.again((key, Some(task)));
    engine.timers.again_in(wait, key, Due::Activity(task));
}

/// Records that another attempt follows, and arms its timer. If no attempt may start any more, the task fails.
fn try_again(engine: &Arc<Engine>, caller: Arc<Caller>, retry: Retry, ended: Ended) {
    let this = Arc::clone(engine);
    let place = (retry.key, retry.task);
    engine.write_soon(Change::Retry(retry), move |change, result| {
        let Change::Retry(retry) = change else { return };
        if let Ok(Outcome {
            reply: Reply::Nothing,
            ..
        }) = &result
        {
            return hand_over(&this, retry.key, ended);
        }
        // Do this first, so that an attempt that is due at once is not taken for a running one.
        this.activities.state().ending.remove(&place);
        match result {
            Ok(_) => {
                let due = Due::Activity(retry.task);
                this.timers.add(retry.due, ended.at, retry.key, due);
            }
            // The hub still has the task as it was before this attempt, which therefore runs again once the hub can be written.
            Err(error) => {
                let due = Due::Activity(retry.task);
                this.timers.again_at(retry.due, ended.at, retry.key, due);
                tracing::warn!(instance = caller.instance_id, %error, "could not record another attempt");
            }
        }
    });
}
