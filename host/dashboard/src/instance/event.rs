//! What an event of a history is about: the one place that says so, for all pages.
#![warn(
    clippy::match_wildcard_for_single_variants,
    clippy::wildcard_enum_match_arm
)]

use std::collections::BTreeMap;

use maud::{Markup, html};
use perennial::core::ChildCommand;
use perennial::{Event, Failure, Json, TaskId};

use crate::page::Page;
use crate::show::{self, brief, cut};

/// Names of tasks, and of requests, that are kept. An event that is further from its call shows only its number.
const NAMES_MAX: usize = 20_000;

/// Characters of a name that are kept.
const NAME: usize = 200;

/// Characters of a text that are kept.
const TEXT: usize = 300;

/// What an event holds, where events of several kinds hold the same.
#[derive(Clone, Copy, Debug, Default)]
struct Parts<'a> {
    task: Option<TaskId>,
    /// A name that somebody gave.
    name: Option<&'a str>,
    /// The id of another instance.
    instance: Option<&'a str>,
    /// `Some(None)` is a payload that is absent.
    #[expect(
        clippy::option_option,
        reason = "a result without a value is not an event without one"
    )]
    payload: Option<Option<&'a Json>>,
    failure: Option<&'a Failure>,
}

impl<'a> Parts<'a> {
    fn task(task: TaskId) -> Self {
        Self {
            task: Some(task),
            ..Self::default()
        }
    }

    fn named(self, name: &'a str) -> Self {
        let name = Some(name);
        Self { name, ..self }
    }

    fn at(self, instance: &'a str) -> Self {
        let instance = Some(instance);
        Self { instance, ..self }
    }

    fn with(self, payload: &'a Option<Json>) -> Self {
        let payload = Some(payload.as_ref());
        Self { payload, ..self }
    }

    fn failed(self, failure: &'a Failure) -> Self {
        let failure = Some(failure);
        Self { failure, ..self }
    }

    #[expect(
        clippy::too_many_lines,
        reason = "it is a table, with an arm for each event"
    )]
    fn of(event: &'a Event) -> Self {
        let none = Self::default();
        match event {
            Event::ExecutionStarted(start) => none.named(&start.name).with(&start.input),
            Event::ActivityScheduled {
                task, name, input, ..
            } => Self::task(*task).named(name).with(input),
            Event::ChildScheduled {
                task,
                name,
                instance_id,
                input,
                ..
            } => Self::task(*task).named(name).at(instance_id).with(input),
            Event::RequestSent {
                task,
                name,
                instance_id,
                input,
                refused,
                ..
            } => Self {
                failure: refused.as_ref(),
                ..Self::task(*task).named(name).at(instance_id).with(input)
            },
            Event::TimerSet { task, .. } | Event::TimerSetAt { task, .. } => {
                Self::task(*task).named("timer")
            }
            Event::ActivityCompleted { task, output, .. }
            | Event::ChildCompleted { task, output }
            | Event::RequestCompleted { task, output } => Self::task(*task).with(output),
            Event::ActivityFailed { task, failure, .. }
            | Event::AttemptFailed { task, failure, .. }
            | Event::ChildFailed { task, failure }
            | Event::ChildRetryScheduled { task, failure, .. }
            | Event::RequestFailed { task, failure } => Self::task(*task).failed(failure),
            Event::ChildRetried {
                task, instance_id, ..
            }
            | Event::ChildCommanded {
                task, instance_id, ..
            } => Self::task(*task).at(instance_id),
            Event::TimerFired { task }
            | Event::TaskCanceled { task }
            | Event::CallDetails { task, .. }
            | Event::ActivityOptions { task, .. } => Self::task(*task),
            Event::InstanceOptions { task, .. } => Self {
                task: *task,
                ..none
            },
            Event::ExternalEventRaised { name, data, .. } => none.named(name).with(data),
            Event::EventSent {
                instance_id,
                name,
                data,
            } => none.named(name).at(instance_id).with(data),
            Event::InstanceStarted {
                instance_id,
                name,
                input,
                ..
            } => none.named(name).at(instance_id).with(input),
            Event::InstanceStartSkipped { instance_id, .. } => none.at(instance_id),
            Event::ValueSet { name, value } => none.named(name).with(value),
            Event::TagSet { key, .. } => none.named(key),
            Event::RequestReceived { name, input, .. } => none.named(name).with(input),
            Event::RequestAnswered { outcome, .. } => match outcome {
                Ok(output) => none.with(output),
                Err(failure) => none.failed(failure),
            },
            Event::CustomStatusSet { value: payload }
            | Event::ExecutionReturned { output: payload }
            | Event::ExecutionCompleted { output: payload }
            | Event::ContinuedAsNew { input: payload, .. } => none.with(payload),
            Event::ExecutionFailed { failure, .. } | Event::ExecutionTimedOut { failure } => {
                none.failed(failure)
            }
            Event::TurnStarted { .. }
            | Event::ExecutionTerminated { .. }
            | Event::ExecutionSuspended { .. }
            | Event::ExecutionResumed { .. }
            | Event::CancellationRequested(_) => none,
        }
    }
}

/// The payload of an event, if events of its kind have one. `Some(None)` is a payload that is absent.
#[expect(
    clippy::option_option,
    reason = "a result without a value is not an event without one"
)]
pub(super) fn payload(event: &Event) -> Option<Option<&Json>> {
    Parts::of(event).payload
}

/// The failure of an event.
pub(super) fn failure(event: &Event) -> Option<&Failure> {
    Parts::of(event).failure
}

/// The JSON that an event carries: its payload, or the details of its failure.
pub(super) fn carried(event: &Event) -> Option<&Json> {
    let parts = Parts::of(event);
    let details = || parts.failure.and_then(|failure| failure.details.as_ref());
    parts.payload.flatten().or_else(details)
}

/// The names of the tasks and requests so far, which later events only number.
#[derive(Debug, Default)]
pub(super) struct Named {
    tasks: BTreeMap<TaskId, String>,
    requests: BTreeMap<String, String>,
    /// The request that the last event answered. Its name is dropped with the next event: a request has one answer.
    answered: Option<String>,
}

impl Named {
    /// Takes the next event, in the order of the history.
    pub(super) fn tell(&mut self, event: &Event) {
        let parts = Parts::of(event);
        if let (Some(task), Some(name)) = (parts.task, parts.name) {
            self.tasks.insert(task, cut(name, NAME));
            // The names must not grow with the history for ever. Task ids increase.
            if self.tasks.len() > NAMES_MAX {
                self.tasks.pop_first();
            }
        }
        if let Some(answered) = self.answered.take() {
            self.requests.remove(&answered);
        }
        if let Event::RequestReceived { id, name, .. } = event
            && self.requests.len() < NAMES_MAX
        {
            self.requests.insert(id.clone(), cut(name, NAME));
        }
        if let Event::RequestAnswered { id, .. } = event {
            self.answered = Some(id.clone());
        }
    }

    /// What an event is about. Names of its task are those of events that were told before.
    pub(super) fn about(&self, event: &Event) -> About {
        let parts = Parts::of(event);
        let of_task = || self.tasks.get(&parts.task?).cloned();
        let of_request = || {
            let Event::RequestAnswered { id, .. } = event else {
                return None;
            };
            self.requests.get(id).cloned()
        };
        let name = parts.name.map(|name| cut(name, NAME));
        About {
            task: parts.task,
            name: name.or_else(of_task).or_else(of_request),
            instance: parts.instance.map(str::to_owned),
            text: cut(&text(event), TEXT),
            failure: parts.failure.map(|failure| cut(&failure.to_string(), TEXT)),
        }
    }
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
    /// Its failure, in a line.
    pub(super) failure: Option<String>,
}

impl About {
    /// Whether a text in small letters occurs in it.
    pub(super) fn contains(&self, text: &str) -> bool {
        let has = |own: &str| own.to_lowercase().contains(text);
        let texts = [&self.name, &self.instance, &self.failure];
        has(&self.text) || texts.into_iter().flatten().any(|own| has(own))
    }

    /// All of it but the failure, which pages that show the event itself show in full.
    pub(super) fn show(&self, page: &Page) -> Markup {
        html! {
            @if let Some(name) = &self.name { b { (brief(name)) } " " }
            @if let Some(task) = self.task { span.hint { "task " (task) } " " }
            @if let Some(id) = &self.instance { a href=(page.instance(id, "")) { (brief(id)) } " " }
            (self.text)
        }
    }

    /// All of it, for pages that do not show the event itself.
    pub(super) fn show_with_failure(&self, page: &Page) -> Markup {
        html! { (self.show(page)) @if let Some(failure) = &self.failure { " " span.bad { (failure) } } }
    }

    /// The line as a text, with the kind of its event.
    pub(super) fn brief(&self, event: &Event) -> String {
        let kind = event.name();
        match &self.name {
            Some(name) => format!("{kind} {}", cut(name, 60)),
            None => kind.to_owned(),
        }
    }
}

/// What there is to say of an event beside its parts.
#[expect(
    clippy::too_many_lines,
    reason = "it is a table, with an arm for each event"
)]
fn text(event: &Event) -> String {
    let later = |attempt: u32| match attempt {
        0 | 1 => String::new(),
        more => format!("attempt {more}"),
    };
    match event {
        Event::TurnStarted { now, .. } => {
            format!("the orchestration's time is {}", show::utc(*now))
        }
        Event::ExecutionStarted(start) => start.execution_id.clone(),
        Event::ActivityCompleted { run, .. } | Event::ActivityFailed { run, .. } => {
            later(run.attempt)
        }
        Event::AttemptFailed { run, .. } => format!("attempt {}", run.attempt),
        Event::ChildRetried { attempt, .. } => format!("attempt {attempt}"),
        Event::ChildRetryScheduled { attempt, at, .. } => {
            format!("attempt {attempt} is due {}", show::utc(*at))
        }
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
            because(told, reason)
        }
        Event::CancellationRequested(asked) => {
            let by = match asked.timed_out {
                true => "its time limit is over",
                false => "it is asked to end",
            };
            because(by, &asked.reason)
        }
        Event::ExecutionTerminated { reason }
        | Event::ExecutionSuspended { reason }
        | Event::ExecutionResumed { reason } => reason.clone().unwrap_or_default(),
        Event::InstanceStartSkipped { reason, .. } => reason.clone(),
        Event::ValueSet { value: None, .. } => "cleared".to_owned(),
        Event::TagSet { value, .. } => match value {
            Some(value) => format!("= {value}"),
            None => "removed".to_owned(),
        },
        Event::RequestReceived { id, .. } | Event::RequestAnswered { id, .. } => {
            format!("request {id}")
        }
        Event::ContinuedAsNew { execution_id, .. } => format!("as {execution_id}"),
        Event::ActivityScheduled { .. }
        | Event::ChildScheduled { .. }
        | Event::ChildCompleted { .. }
        | Event::ChildFailed { .. }
        | Event::TimerFired { .. }
        | Event::TaskCanceled { .. }
        | Event::ExternalEventRaised { .. }
        | Event::EventSent { .. }
        | Event::InstanceStarted { .. }
        | Event::CustomStatusSet { .. }
        | Event::ValueSet { .. }
        | Event::ExecutionReturned { .. }
        | Event::ExecutionCompleted { .. }
        | Event::ExecutionFailed { .. }
        | Event::ExecutionTimedOut { .. }
        | Event::CallDetails { .. }
        | Event::ActivityOptions { .. }
        | Event::InstanceOptions { .. }
        | Event::RequestSent { .. }
        | Event::RequestCompleted { .. }
        | Event::RequestFailed { .. } => String::new(),
    }
}

fn because(text: &str, reason: &Option<String>) -> String {
    match reason {
        Some(reason) => format!("{text}: {reason}"),
        None => text.to_owned(),
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

    #[test]
    fn names_do_not_grow_with_a_history() {
        let mut named = Named::default();
        for task in 0..2 * NAMES_MAX as u32 {
            named.tell(&Event::TimerSet {
                task: TaskId(task),
                fire_at: perennial::Timestamp(0),
            });
        }
        assert_eq!(named.tasks.len(), NAMES_MAX);
        assert!(named.tasks.contains_key(&TaskId(2 * NAMES_MAX as u32 - 1)));
    }
}
