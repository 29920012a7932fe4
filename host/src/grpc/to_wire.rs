//! The events of a history as the protocol has them.
//!
//! The protocol counts what an orchestrator asked for by the ids of its actions, as the hub does by tasks: the event that records a request
//! has the id of its task, its outcome refers to that, and events that the service makes have the id -1. Events that the protocol does not
//! have, such as failed attempts, are left out.
#![warn(
    clippy::match_wildcard_for_single_variants,
    clippy::wildcard_enum_match_arm
)]

use std::collections::{BTreeMap, HashMap};

use perennial_core::{Event, Json, Start, TaskId, Timestamp};

use crate::grpc::generated as wire;
use crate::grpc::generated::history_event::EventType;
use crate::grpc::{failure, payload, time};

/// The id of events that no action of the orchestrator caused.
const SERVICE: i32 = -1;

/// Translates the events of one execution, in their order.
#[derive(Debug, Default)]
pub(crate) struct ToWire {
    /// When the open timers are due: their firing repeats it.
    timers: BTreeMap<TaskId, Timestamp>,
}

impl ToWire {
    /// Translates an event of a turn, and appends what it becomes. `at` is the time of the turn.
    #[expect(
        clippy::too_many_lines,
        reason = "it is a table, with an arm for each event"
    )]
    pub(crate) fn event(
        &mut self,
        at: Timestamp,
        event: Event,
        into: &mut Vec<wire::HistoryEvent>,
    ) {
        let at = if let Event::TurnStarted { now, .. } = event {
            now
        } else {
            at
        };
        let told = match event {
            event @ (Event::TurnStarted { .. }
            | Event::ExecutionStarted(_)
            | Event::ExternalEventRaised { .. }
            | Event::ExecutionSuspended { .. }
            | Event::ExecutionResumed { .. }) => received(event),
            event @ (Event::ActivityCompleted { .. }
            | Event::ActivityFailed { .. }
            | Event::ChildCompleted { .. }
            | Event::ChildFailed { .. }) => outcome(event),
            Event::TimerFired { task } => {
                let fire_at = self.timers.remove(&task).unwrap_or(at);
                let fired = EventType::TimerFired(wire::TimerFiredEvent {
                    fire_at: Some(time::to_wire(fire_at)),
                    timer_id: id(task),
                });
                Some((SERVICE, fired))
            }
            Event::TimerSet { task, fire_at } | Event::TimerSetAt { task, at: fire_at } => {
                self.timers.insert(task, fire_at);
                let fire_at = Some(time::to_wire(fire_at));
                let created = EventType::TimerCreated(wire::TimerCreatedEvent { fire_at });
                Some((id(task), created))
            }
            event @ (Event::ActivityScheduled { .. }
            | Event::ChildScheduled { .. }
            | Event::EventSent { .. }
            | Event::InstanceStarted { .. }
            | Event::InstanceStartSkipped { .. }) => asked(event),
            Event::CallDetails {
                task,
                version,
                tags,
            } => {
                if let Some(call) = into.last_mut() {
                    add_details(call, task, version, tags);
                }
                None
            }
            event @ (Event::ContinuedAsNew { .. }
            | Event::ExecutionTerminated { .. }
            | Event::ExecutionCompleted { .. }
            | Event::ExecutionFailed { .. }
            | Event::ExecutionTimedOut { .. }) => {
                if let Event::ExecutionTerminated { reason } = &event {
                    into.push(told_at(at, SERVICE, terminated(reason.as_deref())));
                }
                ended(event).map(|end| (SERVICE, end))
            }
            // The protocol has nothing for these.
            Event::RequestReceived { .. }
            | Event::RequestAnswered { .. }
            | Event::RequestSent { .. }
            | Event::RequestCompleted { .. }
            | Event::RequestFailed { .. }
            | Event::InstanceOptions { .. }
            | Event::ChildCommanded { .. }
            | Event::CancellationRequested(_)
            | Event::TaskCanceled { .. }
            | Event::CustomStatusSet { .. }
            | Event::ValueSet { .. }
            | Event::TagSet { .. }
            | Event::ExecutionReturned { .. }
            | Event::ChildRetryScheduled { .. }
            | Event::ChildRetried { .. }
            | Event::AttemptFailed { .. }
            | Event::ActivityOptions { .. } => None,
        };
        into.extend(told.map(|(id, event)| told_at(at, id, event)));
    }
}

fn told_at(at: Timestamp, id: i32, event: EventType) -> wire::HistoryEvent {
    wire::HistoryEvent {
        event_id: id,
        timestamp: Some(time::to_wire(at)),
        event_type: Some(event),
    }
}

/// What begins a turn, and what came from outside.
fn received(event: Event) -> Option<(i32, EventType)> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller picked these")]
    let received = match event {
        Event::TurnStarted { .. } => {
            EventType::OrchestratorStarted(wire::OrchestratorStartedEvent {})
        }
        Event::ExecutionStarted(start) => started(*start),
        Event::ExternalEventRaised { name, data, .. } => {
            let input = text(data);
            EventType::EventRaised(wire::EventRaisedEvent { name, input })
        }
        Event::ExecutionSuspended { reason } => {
            EventType::ExecutionSuspended(wire::ExecutionSuspendedEvent { input: reason })
        }
        Event::ExecutionResumed { reason } => {
            EventType::ExecutionResumed(wire::ExecutionResumedEvent { input: reason })
        }
        _ => return None,
    };
    Some((SERVICE, received))
}

/// How an execution ended.
fn ended(event: Event) -> Option<EventType> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller picked these")]
    Some(match event {
        Event::ContinuedAsNew { input, .. } => {
            EventType::ContinueAsNew(wire::ContinueAsNewEvent { input: text(input) })
        }
        Event::ExecutionTerminated { reason } => {
            let output = reason.as_deref().map(payload::reason_to_text);
            completed(wire::OrchestrationStatus::Terminated, output, None)
        }
        Event::ExecutionCompleted { output } => {
            completed(wire::OrchestrationStatus::Completed, text(output), None)
        }
        Event::ExecutionFailed { failure, .. } | Event::ExecutionTimedOut { failure } => {
            let failure = failure::to_wire(&failure);
            completed(wire::OrchestrationStatus::Failed, None, Some(failure))
        }
        _ => return None,
    })
}

fn terminated(reason: Option<&str>) -> EventType {
    EventType::ExecutionTerminated(wire::ExecutionTerminatedEvent {
        input: reason.map(payload::reason_to_text),
        recurse: false,
    })
}

fn id(task: TaskId) -> i32 {
    i32::try_from(task.0).unwrap_or(i32::MAX)
}

fn text(payload: Option<Json>) -> Option<String> {
    payload.as_ref().map(payload::to_text)
}

/// A trace context; its span is the part of a W3C `traceparent` that older SDKs read.
pub(crate) fn trace(trace_parent: Option<String>) -> Option<wire::TraceContext> {
    let trace_parent = trace_parent?;
    let span = trace_parent.split('-').nth(2).unwrap_or_default();
    #[allow(deprecated, reason = "older SDKs read it")]
    Some(wire::TraceContext {
        span_id: span.to_owned(),
        trace_state: None,
        trace_parent,
    })
}

fn started(start: Start) -> EventType {
    let parent = start.parent.map(|parent| wire::ParentInstanceInfo {
        task_scheduled_id: id(parent.task.task),
        name: Some(parent.name),
        version: None,
        orchestration_instance: Some(wire::OrchestrationInstance {
            instance_id: parent.instance_id,
            execution_id: None,
        }),
    });
    EventType::ExecutionStarted(wire::ExecutionStartedEvent {
        name: start.name,
        version: start.version,
        input: text(start.input),
        orchestration_instance: Some(wire::OrchestrationInstance {
            instance_id: start.instance_id,
            execution_id: Some(start.execution_id),
        }),
        parent_instance: parent,
        scheduled_start_timestamp: start.scheduled_for.map(time::to_wire),
        parent_trace_context: trace(start.trace_parent),
        orchestration_span_id: None,
        tags: start.tags.into_iter().collect(),
    })
}

/// How a task ended.
fn outcome(event: Event) -> Option<(i32, EventType)> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller picked these")]
    let outcome = match event {
        Event::ActivityCompleted { task, output, .. } => {
            EventType::TaskCompleted(wire::TaskCompletedEvent {
                task_scheduled_id: id(task),
                result: text(output),
            })
        }
        Event::ActivityFailed { task, failure, .. } => {
            EventType::TaskFailed(wire::TaskFailedEvent {
                task_scheduled_id: id(task),
                failure_details: Some(failure::to_wire(&failure)),
            })
        }
        Event::ChildCompleted { task, output } => EventType::SubOrchestrationInstanceCompleted(
            wire::SubOrchestrationInstanceCompletedEvent {
                task_scheduled_id: id(task),
                result: text(output),
            },
        ),
        Event::ChildFailed { task, failure } => {
            EventType::SubOrchestrationInstanceFailed(wire::SubOrchestrationInstanceFailedEvent {
                task_scheduled_id: id(task),
                failure_details: Some(failure::to_wire(&failure)),
            })
        }
        _ => return None,
    };
    Some((SERVICE, outcome))
}

/// What an orchestrator asked for, with the id of its action.
fn asked(event: Event) -> Option<(i32, EventType)> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller picked these")]
    Some(match event {
        Event::ActivityScheduled {
            task, name, input, ..
        } => (
            id(task),
            EventType::TaskScheduled(wire::TaskScheduledEvent {
                name,
                version: None,
                input: text(input),
                parent_trace_context: None,
                tags: HashMap::new(),
            }),
        ),
        Event::ChildScheduled {
            task,
            name,
            version,
            instance_id,
            input,
            tags,
            ..
        } => (
            id(task),
            EventType::SubOrchestrationInstanceCreated(
                wire::SubOrchestrationInstanceCreatedEvent {
                    instance_id,
                    name,
                    version,
                    input: text(input),
                    parent_trace_context: None,
                    tags: tags.into_iter().collect(),
                },
            ),
        ),
        Event::EventSent {
            instance_id,
            name,
            data,
        } => (
            SERVICE,
            EventType::EventSent(wire::EventSentEvent {
                instance_id,
                name,
                input: text(data),
            }),
        ),
        // Started without waiting for it, which the protocol does not know: readers of the history still learn of it.
        Event::InstanceStarted {
            instance_id, name, ..
        } => generic(format!("started instance {instance_id:?} of {name:?}")),
        Event::InstanceStartSkipped {
            instance_id,
            reason,
        } => generic(format!("did not start instance {instance_id:?}: {reason}")),
        _ => return None,
    })
}

/// Adds to a call what the event after it tells of it.
fn add_details(
    call: &mut wire::HistoryEvent,
    task: TaskId,
    version: Option<String>,
    tags: perennial_core::Tags,
) {
    match &mut call.event_type {
        Some(EventType::TaskScheduled(scheduled)) => {
            scheduled.version = version;
            scheduled.tags = tags.into_iter().collect();
        }
        Some(EventType::EventSent(_)) => call.event_id = id(task),
        _ => debug_assert!(false, "details follow a call: {call:?}"),
    }
}

fn generic(data: String) -> (i32, EventType) {
    let data = Some(data);
    (
        SERVICE,
        EventType::GenericEvent(wire::GenericEvent { data }),
    )
}

fn completed(
    status: wire::OrchestrationStatus,
    result: Option<String>,
    failure_details: Option<wire::TaskFailureDetails>,
) -> EventType {
    EventType::ExecutionCompleted(wire::ExecutionCompletedEvent {
        orchestration_status: status.into(),
        result,
        failure_details,
    })
}

#[cfg(test)]
mod tests;
