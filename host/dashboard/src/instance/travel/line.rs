//! An event in a line, and what belongs to it.

use perennial::core::ChildCommand;
use perennial::{Event, Json, TaskId};

use super::states::State;
use crate::show;
use crate::show::cut;

/// Characters of a text that a line shows.
const TEXT: usize = 200;

/// What a line says of an event beside its type.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) task: Option<TaskId>,
    /// A name that somebody gave.
    pub(super) name: Option<String>,
    /// Another instance.
    pub(super) instance: Option<String>,
    /// What else there is to say.
    pub(super) text: String,
}

impl Line {
    /// The line of an event in the state before it, which knows the names of tasks.
    pub(super) fn of(event: &Event, before: &State) -> Self {
        let task = task(event);
        Self {
            task,
            name: name(event)
                .or_else(|| before.name(task?))
                .map(|name| cut(name, TEXT)),
            instance: instance(event).map(str::to_owned),
            text: cut(&text(event), TEXT),
        }
    }

    /// The line as a text, with the type of its event.
    pub(super) fn brief(&self, event: &Event) -> String {
        let kind = event.name();
        match &self.name {
            Some(name) => format!("{kind} {}", cut(name, 60)),
            None => kind.to_owned(),
        }
    }
}

/// The task that an event is about.
fn task(event: &Event) -> Option<TaskId> {
    match event {
        Event::ActivityScheduled { task, .. }
        | Event::ActivityCompleted { task, .. }
        | Event::ActivityFailed { task, .. }
        | Event::AttemptFailed { task, .. }
        | Event::ActivityOptions { task, .. }
        | Event::CallDetails { task, .. }
        | Event::ChildScheduled { task, .. }
        | Event::ChildCompleted { task, .. }
        | Event::ChildFailed { task, .. }
        | Event::ChildRetryScheduled { task, .. }
        | Event::ChildRetried { task, .. }
        | Event::ChildCommanded { task, .. }
        | Event::TimerSet { task, .. }
        | Event::TimerSetAt { task, .. }
        | Event::TimerFired { task }
        | Event::TaskCanceled { task }
        | Event::RequestSent { task, .. }
        | Event::RequestCompleted { task, .. }
        | Event::RequestFailed { task, .. } => Some(*task),
        Event::InstanceOptions { task, .. } => *task,
        _ => None,
    }
}

fn name(event: &Event) -> Option<&str> {
    match event {
        Event::ExecutionStarted(start) => Some(&start.name),
        Event::ActivityScheduled { name, .. }
        | Event::ChildScheduled { name, .. }
        | Event::ExternalEventRaised { name, .. }
        | Event::EventSent { name, .. }
        | Event::InstanceStarted { name, .. }
        | Event::ValueSet { name, .. }
        | Event::RequestReceived { name, .. }
        | Event::RequestSent { name, .. }
        | Event::TagSet { key: name, .. } => Some(name),
        _ => None,
    }
}

fn instance(event: &Event) -> Option<&str> {
    match event {
        Event::ChildScheduled { instance_id, .. }
        | Event::ChildRetried { instance_id, .. }
        | Event::ChildCommanded { instance_id, .. }
        | Event::EventSent { instance_id, .. }
        | Event::InstanceStarted { instance_id, .. }
        | Event::InstanceStartSkipped { instance_id, .. }
        | Event::RequestSent { instance_id, .. } => Some(instance_id),
        _ => None,
    }
}

fn text(event: &Event) -> String {
    let after = |attempt: u32| match attempt {
        0 | 1 => String::new(),
        more => format!("attempt {more}"),
    };
    match event {
        Event::TurnStarted { now, .. } => {
            format!("the orchestration's time is {}", show::utc(*now))
        }
        Event::ActivityCompleted { run, .. } | Event::ActivityFailed { run, .. } => {
            after(run.attempt)
        }
        Event::AttemptFailed { run, .. } => format!("attempt {}", run.attempt),
        Event::ChildRetryScheduled { attempt, at, .. } => {
            format!("attempt {attempt} is due {}", show::utc(*at))
        }
        Event::ChildRetried { attempt, .. } => format!("attempt {attempt}"),
        Event::TimerSet { fire_at: at, .. } | Event::TimerSetAt { at, .. } => {
            format!("due {}", show::utc(*at))
        }
        Event::ChildCommanded {
            command, reason, ..
        } => {
            let told = match command {
                ChildCommand::Cancel => "is asked to end",
                ChildCommand::Terminate => "is terminated",
            };
            join(told, reason.as_deref())
        }
        Event::CancellationRequested(asked) => {
            let by = if asked.timed_out {
                "its time limit is over"
            } else {
                "it is asked to end"
            };
            join(by, asked.reason.as_deref())
        }
        Event::ExecutionTerminated { reason }
        | Event::ExecutionSuspended { reason }
        | Event::ExecutionResumed { reason } => cut(reason.as_deref().unwrap_or_default(), TEXT),
        Event::InstanceStartSkipped { reason, .. } => cut(reason, TEXT),
        Event::ValueSet { value: None, .. } => "cleared".to_owned(),
        Event::TagSet { value, .. } => match value {
            Some(value) => format!("= {}", cut(value, TEXT)),
            None => "removed".to_owned(),
        },
        Event::RequestReceived { id, .. } | Event::RequestAnswered { id, .. } => {
            format!("request {}", cut(id, TEXT))
        }
        _ => String::new(),
    }
}

fn join(text: &str, reason: Option<&str>) -> String {
    match reason {
        Some(reason) => format!("{text}: {}", cut(reason, TEXT)),
        None => text.to_owned(),
    }
}

/// The payload of an event, if events of its type have one. `Some(None)` is a payload that is absent.
#[expect(
    clippy::option_option,
    reason = "a result without a value is not an event without one"
)]
pub(super) fn payload(event: &Event) -> Option<Option<&Json>> {
    match event {
        Event::ExecutionStarted(start) => Some(start.input.as_ref()),
        Event::ActivityScheduled { input: payload, .. }
        | Event::ChildScheduled { input: payload, .. }
        | Event::InstanceStarted { input: payload, .. }
        | Event::ContinuedAsNew { input: payload, .. }
        | Event::ExternalEventRaised { data: payload, .. }
        | Event::EventSent { data: payload, .. }
        | Event::RequestReceived { input: payload, .. }
        | Event::RequestSent { input: payload, .. }
        | Event::ActivityCompleted {
            output: payload, ..
        }
        | Event::ChildCompleted {
            output: payload, ..
        }
        | Event::ExecutionReturned { output: payload }
        | Event::ExecutionCompleted { output: payload }
        | Event::RequestCompleted {
            output: payload, ..
        }
        | Event::CustomStatusSet { value: payload }
        | Event::ValueSet { value: payload, .. }
        | Event::RequestAnswered {
            outcome: Ok(payload),
            ..
        } => Some(payload.as_ref()),
        _ => None,
    }
}
