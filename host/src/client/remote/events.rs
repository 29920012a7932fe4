//! Parses the events of a history that a remote host sends.

use std::collections::BTreeMap;

use perennial_core::{
    AttemptRun, Event, Failure, Json, Limits, Parent, Start, Target, TaskId, TaskRef, Timestamp,
};
use serde::Deserialize;

use super::values::{FailureWire, Hex, Time, payload};
use crate::client::HistoryEvent;

/// An event: `event` says which of the others are there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventWire {
    number: u64,
    turn: u32,
    at: Time,
    event: String,
    now: Option<Time>,
    #[serde(default)]
    instance_id: String,
    #[serde(default)]
    execution_id: String,
    #[serde(default)]
    name: String,
    version: Option<String>,
    #[serde(default, deserialize_with = "payload")]
    input: Option<Json>,
    parent_instance_id: Option<String>,
    module: Option<Hex>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    task: TaskId,
    #[serde(default, deserialize_with = "payload")]
    output: Option<Json>,
    failure: Option<FailureWire>,
    #[serde(default)]
    attempt: u32,
    started_at: Option<Time>,
    ended_at: Option<Time>,
    #[serde(default)]
    event_number: u32,
    #[serde(default, deserialize_with = "payload")]
    data: Option<Json>,
    fire_at: Option<Time>,
    #[serde(default, deserialize_with = "payload")]
    value: Option<Json>,
    cause: Option<TaskId>,
    reason: Option<String>,
    due: Option<Time>,
}

/// An event, with what the host does not tell of it as if it were absent: retry policies, what runs a task, limits, seeds, and the
/// labels of what is started by it.
#[derive(Deserialize)]
#[serde(try_from = "EventWire")]
pub(super) struct EventRead(pub(super) HistoryEvent);

impl TryFrom<EventWire> for EventRead {
    type Error = String;

    fn try_from(mut wire: EventWire) -> Result<Self, String> {
        let found = wire
            .outcome()
            .or_else(|| wire.asked_for())
            .or_else(|| wire.of_execution());
        let event = found.ok_or_else(|| {
            format!(
                "{:?} is no event that this version knows; the host is newer",
                wire.event
            )
        })?;
        Ok(Self(HistoryEvent {
            number: wire.number,
            turn: wire.turn,
            at: wire.at.0,
            event,
        }))
    }
}

fn at(time: Option<Time>) -> Timestamp {
    time.map_or(Timestamp::default(), |time| time.0)
}

impl EventWire {
    fn failure(&mut self) -> Failure {
        let failure = self.failure.take().map(Failure::from);
        failure.unwrap_or_else(|| Failure::permanent("", ""))
    }

    /// What became of a task.
    fn outcome(&mut self) -> Option<Event> {
        let task = self.task;
        let run = AttemptRun {
            attempt: self.attempt,
            started_at: at(self.started_at),
            ended_at: at(self.ended_at),
        };
        Some(match self.event.as_str() {
            "ActivityCompleted" => Event::ActivityCompleted {
                task,
                output: self.output.take(),
                run,
            },
            "ActivityFailed" => Event::ActivityFailed {
                task,
                failure: self.failure(),
                run,
            },
            "ChildCompleted" => Event::ChildCompleted {
                task,
                output: self.output.take(),
            },
            "ChildFailed" => Event::ChildFailed {
                task,
                failure: self.failure(),
            },
            "ChildRetryScheduled" => Event::ChildRetryScheduled {
                task,
                attempt: self.attempt,
                at: at(self.due),
                failure: self.failure(),
            },
            "AttemptFailed" => Event::AttemptFailed {
                task,
                failure: self.failure(),
                run,
            },
            "ChildRetried" => Event::ChildRetried {
                task,
                attempt: self.attempt,
                instance_id: std::mem::take(&mut self.instance_id),
            },
            "TimerFired" => Event::TimerFired { task },
            "TaskCanceled" => Event::TaskCanceled { task },
            _ => return None,
        })
    }

    /// What the orchestration asked for.
    fn asked_for(&mut self) -> Option<Event> {
        let (task, target) = (self.task, Target::Unknown);
        let name = self.name.clone();
        let instance_id = self.instance_id.clone();
        Some(match self.event.as_str() {
            "ActivityScheduled" => Event::ActivityScheduled {
                task,
                name,
                input: self.input.take(),
                retry: None,
                attempt_timeout: None,
                target,
            },
            "ChildScheduled" => Event::ChildScheduled {
                task,
                name,
                version: self.version.take(),
                instance_id,
                input: self.input.take(),
                tags: Vec::new(),
                retry: None,
                target,
            },
            "TimerSet" => Event::TimerSet {
                task,
                fire_at: at(self.fire_at),
            },
            "EventSent" => Event::EventSent {
                instance_id,
                name,
                data: self.data.take(),
            },
            "InstanceStarted" => Event::InstanceStarted {
                instance_id,
                name,
                version: self.version.take(),
                input: self.input.take(),
                tags: Vec::new(),
                target,
            },
            "InstanceStartSkipped" => Event::InstanceStartSkipped {
                instance_id,
                reason: self.reason.take().unwrap_or_default(),
            },
            "CustomStatusSet" => Event::CustomStatusSet {
                value: self.value.take(),
            },
            _ => return None,
        })
    }

    /// How the execution itself goes.
    fn of_execution(&mut self) -> Option<Event> {
        let reason = self.reason.take();
        Some(match self.event.as_str() {
            "TurnStarted" => Event::TurnStarted {
                now: at(self.now),
                history_events: 0,
                history_bytes: 0,
            },
            "ExecutionStarted" => Event::ExecutionStarted(Box::new(self.start())),
            "ExternalEventRaised" => Event::ExternalEventRaised {
                number: self.event_number,
                name: self.name.clone(),
                data: self.data.take(),
            },
            "ExecutionReturned" => Event::ExecutionReturned {
                output: self.output.take(),
            },
            "ExecutionCompleted" => Event::ExecutionCompleted {
                output: self.output.take(),
            },
            "ExecutionFailed" => Event::ExecutionFailed {
                failure: self.failure(),
                cause: self.cause,
            },
            "ExecutionTerminated" => Event::ExecutionTerminated { reason },
            "ExecutionSuspended" => Event::ExecutionSuspended { reason },
            "ExecutionResumed" => Event::ExecutionResumed { reason },
            "ContinuedAsNew" => Event::ContinuedAsNew {
                input: self.input.take(),
                version: self.version.take(),
                carry_over: Vec::new(),
                execution_id: std::mem::take(&mut self.execution_id),
            },
            _ => return None,
        })
    }

    fn start(&mut self) -> Start {
        Start {
            instance_id: std::mem::take(&mut self.instance_id),
            execution_id: std::mem::take(&mut self.execution_id),
            execution: 0,
            name: std::mem::take(&mut self.name),
            version: self.version.take(),
            input: self.input.take(),
            parent: self.parent_instance_id.take().map(parent),
            tags: std::mem::take(&mut self.tags).into_iter().collect(),
            trace_parent: None,
            seed: 0,
            module: self.module.map(|module| module.0),
            limits: Limits::default(),
            next_external: 0,
            semantics: perennial_core::SEMANTICS_VERSION,
            accepted_at: self.at.0,
            scheduled_for: None,
        }
    }
}

fn parent(instance_id: String) -> Parent {
    Parent {
        instance_id,
        name: String::new(),
        task: TaskRef {
            execution: 0,
            generation: 0,
            task: TaskId::default(),
        },
        attempt: 1,
    }
}
