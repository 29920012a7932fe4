//! Histories in the format of Durable Functions.
//!
//! Invariant: the outcome of a task replaces its scheduling event, and takes over its time, name and input; only tasks without an outcome
//! keep their scheduling event. Inputs are strings that contain JSON, results are JSON.
#![warn(
    clippy::match_wildcard_for_single_variants,
    clippy::wildcard_enum_match_arm
)]

use std::collections::BTreeMap;

use perennial_core::{Event, Failure, Json, TaskId, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::client::HistoryEvent;
use crate::client::json::raw;
use crate::http::wire::{fine_time, reason_text};

/// Which payloads of a history are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    pub(crate) inputs: bool,
    pub(crate) outputs: bool,
}

/// An event in the JSON of Durable Functions. `None` fields are omitted.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct EventWire {
    event_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    orchestration_status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_details: Option<FailureWire>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fire_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<String>,
}

impl EventWire {
    fn of(mut self, instance_id: String) -> Self {
        self.instance_id = Some(instance_id);
        self
    }

    fn firing(mut self, at: Option<Timestamp>) -> Self {
        self.fire_at = at.map(fine_time);
        self
    }

    fn saying(mut self, data: String) -> Self {
        self.data = Some(data);
        self
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct FailureWire {
    error_type: String,
    error_message: String,
    stack_trace: Option<String>,
    inner_failure: Option<Box<Self>>,
    is_non_retriable: bool,
}

impl From<&Failure> for FailureWire {
    fn from(failure: &Failure) -> Self {
        let inner = failure.causes.iter().rev().fold(None, |inner, cause| {
            Some(Box::new(Self {
                error_type: cause.kind.clone(),
                error_message: cause.message.clone(),
                stack_trace: cause.trace.clone(),
                inner_failure: inner,
                is_non_retriable: false,
            }))
        });
        Self {
            error_type: failure.kind.clone(),
            error_message: failure.message.clone(),
            stack_trace: failure.trace.clone(),
            inner_failure: inner,
            is_non_retriable: !failure.retryable,
        }
    }
}

/// A scheduled task: the data that its outcome takes over, and its row until then.
struct Asked {
    row: usize,
    at: Timestamp,
    name: Option<String>,
    input: Option<Json>,
    fire_at: Option<Timestamp>,
}

struct Shaper {
    shown: Shown,
    rows: Vec<Option<EventWire>>,
    asked: BTreeMap<TaskId, Asked>,
}

/// The event type in Durable Functions; `None` for events that it does not have.
fn event_type(event: &Event) -> Option<&'static str> {
    Some(match event {
        Event::ExecutionStarted(_) => "ExecutionStarted",
        Event::ActivityScheduled { .. } => "TaskScheduled",
        Event::ActivityCompleted { .. } => "TaskCompleted",
        Event::ActivityFailed { .. } => "TaskFailed",
        Event::ChildScheduled { .. }
        | Event::ChildRetried { .. }
        | Event::InstanceStarted { .. } => "SubOrchestrationInstanceCreated",
        Event::ChildCompleted { .. } => "SubOrchestrationInstanceCompleted",
        Event::ChildFailed { .. } => "SubOrchestrationInstanceFailed",
        Event::TimerSet { .. } | Event::TimerSetAt { .. } | Event::ChildRetryScheduled { .. } => {
            "TimerCreated"
        }
        Event::TimerFired { .. } => "TimerFired",
        Event::ExternalEventRaised { .. } => "EventRaised",
        Event::EventSent { .. } => "EventSent",
        Event::AttemptFailed { .. }
        | Event::InstanceStartSkipped { .. }
        | Event::ChildCommanded { .. }
        | Event::CancellationRequested(_) => "GenericEvent",
        Event::ExecutionSuspended { .. } => "ExecutionSuspended",
        Event::ExecutionResumed { .. } => "ExecutionResumed",
        Event::ContinuedAsNew { .. } => "ContinueAsNew",
        Event::ExecutionCompleted { .. }
        | Event::ExecutionFailed { .. }
        | Event::ExecutionTimedOut { .. } => "ExecutionCompleted",
        Event::ExecutionTerminated { .. } => "ExecutionTerminated",
        Event::TurnStarted { .. }
        | Event::TaskCanceled { .. }
        | Event::CustomStatusSet { .. }
        | Event::ExecutionReturned { .. }
        | Event::CallDetails { .. }
        | Event::ValueSet { .. }
        | Event::TagSet { .. }
        | Event::ActivityOptions { .. }
        | Event::RequestReceived { .. }
        | Event::RequestAnswered { .. }
        | Event::RequestSent { .. }
        | Event::RequestCompleted { .. }
        | Event::RequestFailed { .. }
        | Event::InstanceOptions { .. } => return None,
    })
}

/// Converts the history of one execution.
pub(crate) fn shape(history: Vec<HistoryEvent>, shown: Shown) -> Vec<EventWire> {
    let mut shaper = Shaper {
        shown,
        rows: Vec::new(),
        asked: BTreeMap::new(),
    };
    for event in history {
        shaper.add(event.at, event.event);
    }
    shaper.rows.into_iter().flatten().collect()
}

impl Shaper {
    #[expect(
        clippy::too_many_lines,
        reason = "it is a table, with an arm for each event"
    )]
    fn add(&mut self, at: Timestamp, event: Event) {
        let Some(event_type) = event_type(&event) else {
            return;
        };
        let wire = EventWire {
            event_type,
            timestamp: fine_time(at),
            ..EventWire::default()
        };
        match event {
            Event::ExecutionStarted(start) => self.push(EventWire {
                input: self.input(&start.input),
                function_name: Some(start.name),
                ..wire
            }),
            Event::ActivityScheduled {
                task, name, input, ..
            } => self.ask(at, task, wire, name, input),
            Event::ChildScheduled {
                task,
                name,
                instance_id,
                input,
                ..
            } => self.ask(at, task, wire.of(instance_id), name, input),
            Event::ActivityCompleted { task, output, .. }
            | Event::ChildCompleted { task, output } => self.completed(task, wire, &output),
            Event::ActivityFailed { task, failure, .. } | Event::ChildFailed { task, failure } => {
                self.failed(task, wire, &failure);
            }
            Event::TimerSet { task, fire_at } | Event::TimerSetAt { task, at: fire_at } => {
                self.set_timer(at, task, wire, fire_at);
            }
            Event::ChildCommanded {
                instance_id,
                command,
                ..
            } => self.push(wire.saying(format!("child {instance_id:?} was told to {command}"))),
            Event::CancellationRequested(asked) => {
                let why = asked
                    .reason
                    .map_or_else(String::new, |reason| format!(": {reason}"));
                self.push(wire.saying(format!("the instance was asked to cancel{why}")));
            }
            Event::TimerFired { task } => {
                let fire_at = self.asked.get(&task).and_then(|asked| asked.fire_at);
                self.push(wire.firing(fire_at));
            }
            // The SDKs of Durable Functions implement a retry of a child as a timer and another child.
            Event::ChildRetryScheduled { at: fire_at, .. } => self.push(wire.firing(Some(fire_at))),
            Event::ChildRetried {
                task, instance_id, ..
            } => self.push(EventWire {
                name: self.name_of(task),
                ..wire.of(instance_id)
            }),
            Event::AttemptFailed { task, failure, run } => {
                self.attempt_failed(task, wire, run.attempt, &failure);
            }
            Event::ExternalEventRaised { name, data, .. } => self.send(wire, name, &data),
            Event::EventSent {
                instance_id,
                name,
                data,
            } => self.send(wire.of(instance_id), name, &data),
            Event::InstanceStarted {
                instance_id,
                name,
                input,
                ..
            } => self.send(wire.of(instance_id), name, &input),
            Event::InstanceStartSkipped {
                instance_id,
                reason,
            } => {
                let skipped = format!("instance {instance_id:?} was not started: {reason}");
                self.push(wire.saying(skipped));
            }
            Event::ExecutionSuspended { reason } | Event::ExecutionResumed { reason } => {
                self.push(EventWire { reason, ..wire });
            }
            Event::ContinuedAsNew { input, .. } => self.end(wire, None, &input),
            Event::ExecutionCompleted { output } => self.end(wire, Some("Completed"), &output),
            Event::ExecutionFailed { failure, .. } | Event::ExecutionTimedOut { failure } => self
                .push(EventWire {
                    orchestration_status: Some("Failed"),
                    failure_details: Some(FailureWire::from(&failure)),
                    ..wire
                }),
            Event::ExecutionTerminated { reason } => self.terminated(wire, reason),
            Event::TurnStarted { .. }
            | Event::TaskCanceled { .. }
            | Event::CustomStatusSet { .. }
            | Event::ExecutionReturned { .. }
            | Event::CallDetails { .. }
            | Event::ValueSet { .. }
            | Event::TagSet { .. }
            | Event::ActivityOptions { .. }
            | Event::RequestReceived { .. }
            | Event::RequestAnswered { .. }
            | Event::RequestSent { .. }
            | Event::RequestCompleted { .. }
            | Event::RequestFailed { .. }
            | Event::InstanceOptions { .. } => {}
        }
    }

    fn attempt_failed(&mut self, task: TaskId, wire: EventWire, attempt: u32, failure: &Failure) {
        let name = self.name_of(task).unwrap_or_default();
        self.push(wire.saying(format!(
            "attempt {attempt} of activity {name:?} failed and was followed by another: {failure}"
        )));
    }

    fn send(&mut self, wire: EventWire, name: String, data: &Option<Json>) {
        self.push(EventWire {
            name: Some(name),
            input: self.input(data),
            ..wire
        });
    }

    fn end(&mut self, wire: EventWire, status: Option<&'static str>, output: &Option<Json>) {
        self.push(EventWire {
            orchestration_status: status,
            result: self.result(output),
            ..wire
        });
    }

    fn terminated(&mut self, wire: EventWire, reason: Option<String>) {
        let result = reason_text(reason.as_deref());
        let shown = self.shown;
        self.push(EventWire {
            input: reason.filter(|_| shown.inputs),
            ..wire.clone()
        });
        self.push(EventWire {
            event_type: "ExecutionCompleted",
            orchestration_status: Some("Terminated"),
            result: result.filter(|_| shown.outputs),
            ..wire
        });
    }

    fn name_of(&self, task: TaskId) -> Option<String> {
        self.asked.get(&task).and_then(|asked| asked.name.clone())
    }

    fn push(&mut self, wire: EventWire) {
        self.rows.push(Some(wire));
    }

    fn input(&self, input: &Option<Json>) -> Option<String> {
        let input = input.as_ref().filter(|_| self.shown.inputs);
        input.map(|json| json.as_str().to_owned())
    }

    fn result(&self, output: &Option<Json>) -> Option<Box<RawValue>> {
        output.as_ref().filter(|_| self.shown.outputs).map(raw)
    }

    fn ask(
        &mut self,
        at: Timestamp,
        task: TaskId,
        wire: EventWire,
        name: String,
        input: Option<Json>,
    ) {
        let asked = Asked {
            row: self.rows.len(),
            at,
            name: Some(name.clone()),
            input: input.clone(),
            fire_at: None,
        };
        self.asked.insert(task, asked);
        self.push(EventWire {
            name: Some(name),
            input: self.input(&input),
            ..wire
        });
    }

    fn set_timer(&mut self, at: Timestamp, task: TaskId, wire: EventWire, fire_at: Timestamp) {
        let asked = Asked {
            row: self.rows.len(),
            at,
            name: None,
            input: None,
            fire_at: Some(fire_at),
        };
        self.asked.insert(task, asked);
        self.push(wire.firing(Some(fire_at)));
    }

    fn completed(&mut self, task: TaskId, wire: EventWire, output: &Option<Json>) {
        let result = self.result(output);
        self.outcome(task, EventWire { result, ..wire });
    }

    fn failed(&mut self, task: TaskId, wire: EventWire, failure: &Failure) {
        let wire = EventWire {
            reason: Some(failure.message.clone()),
            details: failure
                .details
                .as_ref()
                .map(|json| json.as_str().to_owned()),
            failure_details: Some(FailureWire::from(failure)),
            ..wire
        };
        self.outcome(task, wire);
    }

    /// Replaces the scheduling event by the outcome.
    fn outcome(&mut self, task: TaskId, wire: EventWire) {
        let Some(asked) = self.asked.remove(&task) else {
            return self.push(wire);
        };
        if let Some(row) = self.rows.get_mut(asked.row) {
            *row = None;
        }
        let input = self.input(&asked.input);
        self.push(EventWire {
            scheduled_time: Some(fine_time(asked.at)),
            function_name: asked.name,
            input,
            ..wire
        });
    }
}
