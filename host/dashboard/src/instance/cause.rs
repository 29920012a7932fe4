//! Which call an instance failed with.
#![warn(
    clippy::match_wildcard_for_single_variants,
    clippy::wildcard_enum_match_arm
)]

use std::collections::BTreeMap;

use futures::TryStreamExt;
use maud::{Markup, html};
use perennial::{Client, Event, Failure, HistoryEvent, InstanceStatus, Status, TaskId};

use crate::page::Page;
use crate::show;
use crate::show::{brief, cut};

/// Events of a history that is read for this.
const EVENTS_MAX: u64 = 20_000;

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    /// The event of its failure.
    event: u64,
    pub(super) turn: u32,
    what: &'static str,
    name: String,
    /// The child, if it is one.
    child: Option<String>,
    /// Which attempt failed last, and how many its policy permits.
    attempt: Option<(u32, Option<u32>)>,
    failure: Failure,
}

/// What is known of a call that has not ended.
struct Call {
    what: &'static str,
    name: String,
    child: Option<String>,
    attempts_max: Option<u32>,
}

impl Call {
    fn of(
        what: &'static str,
        name: String,
        child: Option<String>,
        attempts_max: Option<u32>,
    ) -> Self {
        Self {
            what,
            name,
            child,
            attempts_max,
        }
    }
}

/// Finds it in the history. `None` if the instance has not failed, if it did so by itself, or if its history is too long to be read for this.
pub(super) async fn find(client: &Client, status: &InstanceStatus) -> Option<Cause> {
    if status.runtime_status != Status::Failed || status.history_events > EVENTS_MAX {
        return None;
    }
    let history = client.history(&status.instance_id);
    let mut events = history.hide_inputs().hide_outputs().stream();
    let (mut calls, mut failed) = (
        BTreeMap::<TaskId, Call>::new(),
        Vec::<(TaskId, Cause)>::new(),
    );
    // Without it the page says less; it is told as an error elsewhere.
    while let Some(event) = events.try_next().await.ok()? {
        if let Some((failure, cause)) = step(event, &mut calls, &mut failed) {
            return of(failed, cause, &failure);
        }
    }
    None
}

/// Takes an event in. Returns what the instance failed with, and the call that it names, once that is reached.
fn step(
    event: HistoryEvent,
    calls: &mut BTreeMap<TaskId, Call>,
    failed: &mut Vec<(TaskId, Cause)>,
) -> Option<(Failure, Option<TaskId>)> {
    let at = (event.number, event.turn);
    match event.event {
        Event::ActivityScheduled {
            task, name, retry, ..
        } => {
            let attempts_max = retry.map(|retry| retry.max_attempts);
            calls.insert(task, Call::of("activity", name, None, attempts_max));
        }
        Event::ChildScheduled {
            task,
            name,
            instance_id,
            ..
        } => {
            calls.insert(task, Call::of("child", name, Some(instance_id), None));
        }
        Event::ActivityFailed { task, failure, run } => {
            failed.extend(cause(calls, (task, at), Some(run.attempt), failure));
        }
        Event::ChildFailed { task, failure } => {
            failed.extend(cause(calls, (task, at), None, failure));
        }
        Event::ActivityCompleted { task, .. } | Event::ChildCompleted { task, .. } => {
            calls.remove(&task);
        }
        Event::ExecutionFailed { failure, cause } => return Some((failure, cause)),
        Event::TurnStarted { .. }
        | Event::ExecutionStarted { .. }
        | Event::TimerFired { .. }
        | Event::ExternalEventRaised { .. }
        | Event::TimerSet { .. }
        | Event::TaskCanceled { .. }
        | Event::EventSent { .. }
        | Event::InstanceStarted { .. }
        | Event::CustomStatusSet { .. }
        | Event::ExecutionReturned { .. }
        | Event::ExecutionCompleted { .. }
        | Event::ExecutionTerminated { .. }
        | Event::ContinuedAsNew { .. }
        | Event::ExecutionSuspended { .. }
        | Event::ExecutionResumed { .. }
        | Event::InstanceStartSkipped { .. }
        | Event::ChildRetryScheduled { .. }
        | Event::ChildRetried { .. }
        | Event::AttemptFailed { .. }
        | Event::CallDetails { .. }
        | Event::ValueSet { .. }
        | Event::TagSet { .. }
        | Event::ActivityOptions { .. }
        | Event::TimerSetAt { .. }
        | Event::InstanceOptions { .. }
        | Event::ChildCommanded { .. }
        | Event::CancellationRequested { .. }
        | Event::ExecutionTimedOut { .. }
        | Event::RequestReceived { .. }
        | Event::RequestAnswered { .. }
        | Event::RequestSent { .. }
        | Event::RequestCompleted { .. }
        | Event::RequestFailed { .. } => {}
    }
    None
}

fn cause(
    calls: &mut BTreeMap<TaskId, Call>,
    (task, (event, turn)): (TaskId, (u64, u32)),
    attempt: Option<u32>,
    failure: Failure,
) -> Option<(TaskId, Cause)> {
    let call = calls.remove(&task)?;
    let cause = Cause {
        event,
        turn,
        what: call.what,
        name: call.name,
        child: call.child,
        attempt: attempt.map(|attempt| (attempt, call.attempts_max)),
        failure,
    };
    Some((task, cause))
}

/// The call that the failure names, or the last one that failed in the same way.
fn of(failed: Vec<(TaskId, Cause)>, named: Option<TaskId>, failure: &Failure) -> Option<Cause> {
    let is_same =
        |other: &Failure| (&other.kind, &other.message) == (&failure.kind, &failure.message);
    let mut failed = failed.into_iter().rev();
    let found = match named {
        Some(task) => failed.find(|(other, _)| *other == task),
        None => failed.find(|(_, cause)| is_same(&cause.failure)),
    };
    found.map(|(_, cause)| cause)
}

/// The call in a sentence, with links to its event and to its turn.
pub(super) fn line(page: &Page, status: &InstanceStatus, cause: &Cause) -> Markup {
    let id = &status.instance_id;
    let event = page.instance(id, &format!("/history/{}", cause.event));
    let own = status.failure.as_ref();
    let is_same = own.is_some_and(|own| own.kind == cause.failure.kind);
    html! {
            p {
                "The " (cause.what) " " b { (brief(&cause.name)) }
                @if let Some(child) = &cause.child { " (" a href=(page.instance(child, "")) { (show::cut_middle(child, 60)) } ")" }
                " failed" (attempt(cause.attempt)) ": " a href=(event) { "event " (cause.event) }
                ", " a href=(page.instance(id, &format!("/turns?turn={}", cause.turn))) { "turn " (cause.turn) } "."
    @if !is_same { " Its failure was of the kind " b { (cut(&cause.failure.kind, 60)) } "." }
            }
        }
}

/// Which attempt it was: nothing for a call without retries.
pub(super) fn attempt(of: Option<(u32, Option<u32>)>) -> String {
    match of {
        Some((number, Some(most))) if most > 1 && most < u32::MAX => {
            format!(" in attempt {number} of {most}")
        }
        Some((number, _)) if number > 1 => format!(" in attempt {number}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_told_where_there_are_several() {
        assert_eq!(attempt(Some((6, Some(10)))), " in attempt 6 of 10");
        assert_eq!(attempt(Some((2, None))), " in attempt 2");
        assert_eq!(attempt(Some((1, Some(1)))), "");
        assert_eq!(attempt(Some((1, Some(u32::MAX)))), "");
        assert_eq!(attempt(None), "");
    }

    #[test]
    fn the_named_call_is_the_cause_and_else_the_last_one_like_it() {
        let cause = |event, kind: &str| Cause {
            event,
            turn: 1,
            what: "activity",
            name: "Pay".to_owned(),
            child: None,
            attempt: None,
            failure: Failure::permanent(kind, "no"),
        };
        let failed = vec![
            (TaskId(1), cause(3, "A")),
            (TaskId(2), cause(5, "B")),
            (TaskId(3), cause(7, "A")),
        ];
        let event = |named, kind: &str| {
            let found = of(failed.clone(), named, &Failure::permanent(kind, "no"));
            found.map(|cause| cause.event)
        };
        assert_eq!(event(Some(TaskId(1)), "A"), Some(3));
        assert_eq!(event(None, "A"), Some(7));
        assert_eq!(event(None, "C"), None);
    }
}
