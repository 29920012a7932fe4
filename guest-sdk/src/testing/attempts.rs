//! Attempts of activities, with the rules of a host: time limits, retries, and names that nothing has.

use perennial_core::{
    AttemptRun, CallOptions, Callee, Envelope, Event, FailedAttempt, Failure, Json, Message,
    TaskId, TaskRef, Timestamp, TraceContext, Turn, kind,
};

use super::instance::{AttemptRecord, CallRecord, Instance, OpenActivity};
use super::world::{What, World};
use crate::activity::Heard;
use crate::bindings::activities::Invocation;
use crate::time::millis;

/// The time limit of an attempt if the call does not set one.
const ATTEMPT_TIMEOUT_MS: u64 = 5 * 60 * 1_000;

impl Instance {
    /// Notes that an activity was called, with what the event after the call says of it. Whether it is open; the turn may have cancelled it
    /// at once.
    pub(super) fn schedule(
        &mut self,
        task: TaskId,
        (event, next): (&Event, Option<&Event>),
        now: Timestamp,
    ) -> bool {
        let Event::ActivityScheduled {
            name,
            input,
            retry,
            attempt_timeout,
            target,
            ..
        } = event
        else {
            return false;
        };
        let (name, input) = (name.clone(), input.clone());
        self.calls.push(CallRecord {
            name: name.clone(),
            input: input.clone(),
            scheduled_at: now,
            attempts: Vec::new(),
            outcome: None,
            canceled: false,
        });
        let activity = OpenActivity {
            name,
            input,
            retry: retry.clone(),
            timeout: attempt_timeout.map(|timeout| timeout.0),
            options: match next {
                Some(Event::ActivityOptions {
                    heartbeat_timeout,
                    at_most_once,
                    ..
                }) => CallOptions {
                    heartbeat_timeout: *heartbeat_timeout,
                    at_most_once: *at_most_once,
                },
                _ => CallOptions::default(),
            },
            target: target.clone(),
            attempt: 1,
            first_started: None,
            earlier: Vec::new(),
            heartbeat: None,
            waits_after: None,
            call: self.calls.len() - 1,
        };
        self.activities.insert(task, activity);
        true
    }

    /// Forgets an activity that is no longer waited for.
    pub(super) fn cancel(&mut self, task: TaskId) {
        if let Some(activity) = self.activities.remove(&task) {
            self.calls[activity.call].canceled = true;
        }
    }

    /// Ends the activities that wait for another attempt with their last failure.
    pub(super) fn give_up_retries(&mut self) -> Vec<Message> {
        let waiting = self
            .activities
            .extract_if(.., |_, one| one.waits_after.is_some());
        let waiting: Vec<(TaskId, OpenActivity)> = waiting.collect();
        let mut messages = Vec::new();
        for (task, mut activity) in waiting {
            let Some(failure) = activity.waits_after.take() else {
                continue;
            };
            let run = activity.earlier.pop().map(|last| last.run);
            let run = run.unwrap_or_default();
            messages.extend(self.end(task, activity, Err(failure), run));
        }
        messages
    }

    /// The messages of an activity's end.
    fn end(
        &mut self,
        task: TaskId,
        activity: OpenActivity,
        outcome: Result<Option<Json>, Failure>,
        run: AttemptRun,
    ) -> Vec<Message> {
        let task = self.task(task);
        self.calls[activity.call].outcome = Some(outcome.clone());
        let attempts = activity.earlier;
        let before = (!attempts.is_empty()).then_some(Message::AttemptsFailed { task, attempts });
        let ended = Message::ActivityEnded { task, outcome, run };
        before.into_iter().chain([ended]).collect()
    }

    /// Adds what happened after the end.
    pub(super) fn epilogue(&mut self, event: Event) {
        let Some(last) = self.turns.last() else {
            return;
        };
        let turn = Turn {
            number: last.number + 1,
            first_event: last.next_event(),
            at: last.at,
            received: vec![event],
            produced: Vec::new(),
            answer: None,
            next: None,
        };
        for event in &turn.received {
            if let Err(corrupt) = self.state.apply(event) {
                panic!("the test kit wrote a wrong history: {corrupt}");
            }
        }
        self.state.turns += 1;
        self.turns.push(turn);
    }
}

impl World {
    /// Begins an attempt: its code runs now, and its outcome arrives when its time has passed.
    pub(super) fn attempt_begins(&mut self, id: &str, task: TaskRef) {
        let now = self.now;
        let environment = self.environment.clone();
        let Some((instance, mut activity)) = self.activity(id, task.task) else {
            return;
        };
        activity.waits_after = None;
        activity.first_started.get_or_insert(now);
        let unknown = activity.target.failure(Callee::Activity, &activity.name);
        let unknown =
            unknown.map(|failure| failure.meant(&activity.name, environment.activity_names()));
        let (outcome, ends_at) = match unknown {
            Some(failure) => (Err(failure), now),
            None => {
                let timeout = activity.timeout.unwrap_or(ATTEMPT_TIMEOUT_MS);
                let invocation =
                    invocation(instance, &activity, task, now.0.saturating_add(timeout));
                let (outcome, heard) = environment.attempt(invocation, &instance.log);
                let takes = millis(environment.duration_of(&activity.name));
                let cut = cut_short(&activity, takes, timeout, &heard);
                if let Heard::Details(details) = heard {
                    activity.heartbeat = Some(details);
                }
                match cut {
                    Some((failure, after)) => {
                        (Err(failure), Timestamp(now.0.saturating_add(after)))
                    }
                    None => {
                        let outcome = storable(outcome, &activity.name, instance);
                        (outcome, Timestamp(now.0.saturating_add(takes)))
                    }
                }
            }
        };
        instance.activities.insert(task.task, activity);
        let ends = What::AttemptEnds {
            task,
            started_at: now,
            outcome,
        };
        self.at(ends_at, id, ends);
    }

    /// Ends an attempt: the outcome goes to the instance, or another attempt follows.
    pub(super) fn attempt_ends(
        &mut self,
        id: &str,
        task: TaskRef,
        started_at: Timestamp,
        outcome: Result<Option<Json>, Failure>,
    ) {
        let now = self.now;
        let Some((instance, mut activity)) = self.activity(id, task.task) else {
            return;
        };
        let run = AttemptRun {
            attempt: activity.attempt,
            started_at,
            ended_at: now,
        };
        instance.calls[activity.call].attempts.push(AttemptRecord {
            started_at,
            failure: outcome.as_ref().err().cloned(),
        });
        let seed = instance.state.start().map_or(0, |start| start.seed) ^ u64::from(task.task.0);
        let first_started = activity.first_started.unwrap_or(started_at);
        // After the return no new attempt starts.
        let retry = activity
            .retry
            .as_ref()
            .filter(|_| !instance.state.has_returned());
        let next = match (&outcome, retry) {
            (Err(failure), Some(policy)) => {
                policy.next_attempt_at(activity.attempt, failure, first_started, now, seed)
            }
            _ => None,
        };
        if let (Err(failure), Some(due)) = (&outcome, next) {
            FailedAttempt::new(run, failure).follow(&mut activity.earlier);
            activity.waits_after = Some(failure.clone());
            activity.attempt += 1;
            instance.activities.insert(task.task, activity);
            return self.at(due, id, What::AttemptBegins(task));
        }
        let messages = instance.end(task.task, activity, outcome, run);
        for message in messages {
            instance.mail.push_back(Envelope::came(message, now));
        }
        self.wake(id);
    }
}

/// How an attempt fails that takes so long, and after how many milliseconds, if it is ended before that: because it is over its time limit,
/// or sent no heartbeat. What it did is not known then, so one that is to run at most once is not followed by another.
fn cut_short(
    activity: &OpenActivity,
    takes: u64,
    timeout: u64,
    heard: &Heard,
) -> Option<(Failure, u64)> {
    let name = &activity.name;
    let silent = activity.options.heartbeat_timeout.map(|span| span.0);
    let silent = silent.filter(|span| matches!(heard, Heard::Nothing) && *span < timeout);
    let (kind, message, after) = match silent {
        Some(span) if takes > span => {
            let message =
                format!("an attempt of activity {name:?} sent no heartbeat for {span} ms");
            (kind::HEARTBEAT_TIMEOUT, message, span)
        }
        _ if takes > timeout => {
            let message = format!("an attempt of activity {name:?} took longer than {timeout} ms");
            (kind::TIMEOUT, message, timeout)
        }
        _ => return None,
    };
    let failure = if activity.options.at_most_once {
        let message = format!("{message}; what it did is not known, and it is to run at most once");
        Failure::permanent(kind::OUTCOME_UNKNOWN, message)
    } else {
        Failure::retryable(kind, message)
    };
    Some((failure, after))
}

/// What an attempt is told.
fn invocation(
    instance: &Instance,
    activity: &OpenActivity,
    task: TaskRef,
    deadline: u64,
) -> Invocation {
    let start = instance.state.start();
    let execution_id = start.map_or("", |start| start.execution_id.as_str());
    let trace = start.map(|start| {
        let (execution, _) = TraceContext::of_execution(start, task.generation);
        execution.attempt(task, activity.attempt).to_string()
    });
    Invocation {
        name: activity.name.clone(),
        input: activity
            .input
            .as_ref()
            .map(|input| input.as_str().to_owned()),
        instance_id: instance.id.clone(),
        execution_id: execution_id.to_owned(),
        task: task.task.0,
        orchestration: instance.name.clone(),
        idempotency_key: format!("{execution_id}:{}", task.task),
        attempt: activity.attempt,
        deadline: Some(deadline),
        trace_parent: trace,
        management_urls: None,
        last_heartbeat: activity.heartbeat.clone(),
    }
}

/// The outcome, unless it cannot be stored.
fn storable(
    outcome: Result<Option<Json>, Failure>,
    name: &str,
    instance: &Instance,
) -> Result<Option<Json>, Failure> {
    let limits = instance.state.start().map(|start| start.limits);
    let limit = limits.unwrap_or_default().payload_bytes;
    let output = outcome.map_err(|failure| failure.bounded(limit))?;
    let bytes = output.as_ref().map_or(0, |output| output.size() as u64);
    if bytes > limit {
        let message = format!(
            "the result of activity {name:?} has {bytes} bytes; at most {limit} are allowed"
        );
        return Err(Failure::permanent(kind::LIMIT_EXCEEDED, message));
    }
    Ok(output)
}
