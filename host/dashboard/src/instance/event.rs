//! What an event of a history is about, in a line, and its payload.

use std::collections::BTreeMap;

use maud::{Markup, html};
use perennial::core::ChildCommand;
use perennial::{Event, Failure, Json, TaskId};

use super::{brief, cut};
use crate::page::Page;
use crate::show;

/// The types of events, for the filter.
pub(super) const NAMES: [&str; 40] = [
    "ActivityCompleted",
    "ActivityFailed",
    "ActivityOptions",
    "ActivityScheduled",
    "AttemptFailed",
    "CallDetails",
    "CancellationRequested",
    "ChildCommanded",
    "ChildCompleted",
    "ChildFailed",
    "ChildRetried",
    "ChildRetryScheduled",
    "ChildScheduled",
    "ContinuedAsNew",
    "CustomStatusSet",
    "EventSent",
    "ExecutionCompleted",
    "ExecutionFailed",
    "ExecutionResumed",
    "ExecutionReturned",
    "ExecutionStarted",
    "ExecutionSuspended",
    "ExecutionTerminated",
    "ExecutionTimedOut",
    "ExternalEventRaised",
    "InstanceOptions",
    "InstanceStartSkipped",
    "InstanceStarted",
    "RequestAnswered",
    "RequestCompleted",
    "RequestFailed",
    "RequestReceived",
    "RequestSent",
    "TagSet",
    "TaskCanceled",
    "TimerFired",
    "TimerSet",
    "TimerSetAt",
    "TurnStarted",
    "ValueSet",
];

/// Requests whose names are kept after their answers.
const REQUESTS_MAX: usize = 10_000;

/// The names of the tasks and requests so far, which later events only number.
#[derive(Debug, Default)]
pub(super) struct Named {
    tasks: BTreeMap<TaskId, String>,
    requests: BTreeMap<String, String>,
}

/// What the line of an event consists of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct About {
    pub(super) task: Option<TaskId>,
    /// A name that somebody gave.
    pub(super) name: Option<String>,
    /// Another instance.
    pub(super) instance: Option<String>,
    /// What else there is to say.
    pub(super) text: String,
}

impl Named {
    /// Takes the next event, in the order of the history.
    pub(super) fn tell(&mut self, event: &Event) {
        match event {
            Event::ActivityScheduled { task, name, .. }
            | Event::ChildScheduled { task, name, .. }
            | Event::RequestSent { task, name, .. } => {
                self.tasks.insert(*task, cut(name, 200));
            }
            Event::TimerSet { task, .. } | Event::TimerSetAt { task, .. } => {
                self.tasks.insert(*task, "timer".to_owned());
            }
            Event::RequestReceived { id, name, .. } => {
                self.requests.insert(id.clone(), cut(name, 200));
            }
            // Few answers come so late that their names are gone; the map must not grow with the history for ever.
            Event::RequestAnswered { id, .. } if self.requests.len() > REQUESTS_MAX => {
                self.requests.remove(id);
            }
            _ => {}
        }
    }

    fn task(&self, task: TaskId) -> About {
        About {
            task: Some(task),
            name: self.tasks.get(&task).cloned(),
            ..About::default()
        }
    }

    /// What an event is about.
    #[expect(
        clippy::too_many_lines,
        reason = "it is a table, with an arm for each event"
    )]
    pub(super) fn about(&self, event: &Event) -> About {
        let attempt = |attempt: u32, text: &str| match attempt {
            0 | 1 => text.to_owned(),
            more => format!(
                "attempt {more}{}{text}",
                if text.is_empty() { "" } else { ": " }
            ),
        };
        let said = |reason: &Option<String>| reason.clone().unwrap_or_default();
        match event {
            Event::TurnStarted { now, .. } => About {
                text: format!("the orchestration's time is {}", show::utc(*now)),
                ..About::default()
            },
            Event::ExecutionStarted(start) => About {
                name: Some(start.name.clone()),
                text: start.execution_id.clone(),
                ..About::default()
            },
            Event::ActivityCompleted { task, run, .. } => About {
                text: attempt(run.attempt, ""),
                ..self.task(*task)
            },
            Event::ActivityFailed { task, failure, run } => About {
                text: attempt(run.attempt, &line(failure)),
                ..self.task(*task)
            },
            Event::AttemptFailed { task, failure, run } => About {
                text: format!("attempt {}: {}", run.attempt, line(failure)),
                ..self.task(*task)
            },
            Event::ChildScheduled {
                task, instance_id, ..
            }
            | Event::RequestSent {
                task, instance_id, ..
            } => About {
                instance: Some(instance_id.clone()),
                ..self.task(*task)
            },
            Event::ChildRetried {
                task,
                attempt,
                instance_id,
            } => About {
                instance: Some(instance_id.clone()),
                text: format!("attempt {attempt}"),
                ..self.task(*task)
            },
            Event::ChildRetryScheduled {
                task,
                attempt,
                at,
                failure,
            } => About {
                text: format!(
                    "attempt {attempt} at {}, after {}",
                    show::utc(*at),
                    line(failure)
                ),
                ..self.task(*task)
            },
            Event::ChildFailed { task, failure } | Event::RequestFailed { task, failure } => {
                About {
                    text: line(failure),
                    ..self.task(*task)
                }
            }
            Event::ChildCommanded {
                task,
                instance_id,
                command,
                reason,
            } => {
                let told = match command {
                    ChildCommand::Cancel => "told to cancel",
                    ChildCommand::Terminate => "terminated",
                };
                About {
                    instance: Some(instance_id.clone()),
                    text: with(told, reason),
                    ..self.task(*task)
                }
            }
            Event::TimerSet { task, fire_at: at } | Event::TimerSetAt { task, at } => About {
                text: format!("due {}", show::utc(*at)),
                ..self.task(*task)
            },
            Event::ExternalEventRaised { name, .. } => About {
                name: Some(name.clone()),
                ..About::default()
            },
            Event::EventSent {
                instance_id, name, ..
            } => About {
                name: Some(name.clone()),
                instance: Some(instance_id.clone()),
                ..About::default()
            },
            Event::InstanceStarted {
                instance_id, name, ..
            } => About {
                name: Some(name.clone()),
                instance: Some(instance_id.clone()),
                ..About::default()
            },
            Event::InstanceStartSkipped {
                instance_id,
                reason,
            } => About {
                instance: Some(instance_id.clone()),
                text: reason.clone(),
                ..About::default()
            },
            Event::ValueSet { name, value } => {
                let text = if value.is_none() { "cleared" } else { "" };
                About {
                    name: Some(name.clone()),
                    text: text.to_owned(),
                    ..About::default()
                }
            }
            Event::TagSet { key, value } => {
                let text = value.clone().unwrap_or_else(|| "removed".to_owned());
                About {
                    name: Some(key.clone()),
                    text,
                    ..About::default()
                }
            }
            Event::RequestReceived { id, name, .. } => About {
                name: Some(name.clone()),
                text: id.clone(),
                ..About::default()
            },
            Event::RequestAnswered { id, outcome, .. } => {
                let text = outcome
                    .as_ref()
                    .err()
                    .map_or_else(|| id.clone(), |failure| format!("{id}: {}", line(failure)));
                About {
                    name: self.requests.get(id).cloned(),
                    text,
                    ..About::default()
                }
            }
            Event::ExecutionFailed { failure, .. } | Event::ExecutionTimedOut { failure } => {
                About {
                    text: line(failure),
                    ..About::default()
                }
            }
            Event::ExecutionTerminated { reason }
            | Event::ExecutionSuspended { reason }
            | Event::ExecutionResumed { reason } => About {
                text: said(reason),
                ..About::default()
            },
            Event::CancellationRequested(asked) => {
                let by = if asked.timed_out {
                    "its time limit is over"
                } else {
                    "somebody asked for it"
                };
                About {
                    text: with(by, &asked.reason),
                    ..About::default()
                }
            }
            Event::ContinuedAsNew { execution_id, .. } => About {
                text: format!("as {execution_id}"),
                ..About::default()
            },
            Event::InstanceOptions {
                task: Some(task), ..
            }
            | Event::ActivityScheduled { task, .. }
            | Event::ChildCompleted { task, .. }
            | Event::RequestCompleted { task, .. }
            | Event::TimerFired { task }
            | Event::TaskCanceled { task }
            | Event::CallDetails { task, .. }
            | Event::ActivityOptions { task, .. } => self.task(*task),
            _ => About::default(),
        }
    }
}

fn with(text: &str, reason: &Option<String>) -> String {
    match reason {
        Some(reason) => format!("{text}: {reason}"),
        None => text.to_owned(),
    }
}

fn line(failure: &Failure) -> String {
    cut(&failure.to_string(), 300)
}

impl About {
    /// Whether a text in small letters occurs in it.
    pub(super) fn contains(&self, text: &str) -> bool {
        let has = |own: &str| own.to_lowercase().contains(text);
        self.name.as_deref().is_some_and(has)
            || self.instance.as_deref().is_some_and(has)
            || has(&self.text)
    }

    pub(super) fn show(&self, page: &Page) -> Markup {
        html! {
            @if let Some(name) = &self.name { b { (brief(name)) } " " }
            @if let Some(task) = self.task { span.hint { "task " (task) } " " }
            @if let Some(id) = &self.instance { a href=(page.instance(id, "")) { (brief(id)) } " " }
            (cut(&self.text, 300))
        }
    }
}

/// The payload of an event.
pub(super) fn payload(event: &Event) -> Option<&Json> {
    match event {
        Event::ExecutionStarted(start) => start.input.as_ref(),
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
        } => payload.as_ref(),
        other => failure(other).and_then(|failure| failure.details.as_ref()),
    }
}

/// The failure of an event.
pub(super) fn failure(event: &Event) -> Option<&Failure> {
    match event {
        Event::ActivityFailed { failure, .. }
        | Event::AttemptFailed { failure, .. }
        | Event::ChildFailed { failure, .. }
        | Event::ChildRetryScheduled { failure, .. }
        | Event::RequestFailed { failure, .. }
        | Event::ExecutionFailed { failure, .. }
        | Event::ExecutionTimedOut { failure }
        | Event::RequestSent {
            refused: Some(failure),
            ..
        }
        | Event::RequestAnswered {
            outcome: Err(failure),
            ..
        } => Some(failure),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_named_after_its_call() {
        let mut named = Named::default();
        let child = Event::ChildRetried {
            task: TaskId(7),
            attempt: 2,
            instance_id: "x".to_owned(),
        };
        assert_eq!(named.about(&child).name, None);
        named.tasks.insert(TaskId(7), "Ship".to_owned());
        let about = named.about(&child);
        assert_eq!(about.name.as_deref(), Some("Ship"));
        assert!(about.contains("attempt 2") && about.contains("ship") && !about.contains("order"));
    }
}
