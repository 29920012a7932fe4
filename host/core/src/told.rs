//! What a guest is told of the events of its history.

use crate::{Event, GuestEvent, IncomingRequest};

impl Event {
    /// What the guest is told of this event, if it is told of it.
    #[expect(
        clippy::too_many_lines,
        reason = "it is a table, with an arm for each event"
    )]
    pub fn to_guest(&self) -> Option<GuestEvent> {
        let event = match self {
            Self::TurnStarted {
                now,
                history_events,
                history_bytes,
            } => GuestEvent::TurnStarted {
                now: *now,
                history_events: *history_events,
                history_bytes: *history_bytes,
            },
            Self::ExecutionStarted(start) => GuestEvent::ExecutionStarted {
                instance_id: start.instance_id.clone(),
                execution_id: start.execution_id.clone(),
                name: start.name.clone(),
                version: start.version.clone(),
                input: start.input.clone(),
                parent: start.parent.clone(),
                tags: start.tags.clone(),
                trace_parent: start.trace_parent.clone(),
                seed: start.seed,
            },
            Self::ActivityCompleted { task, output, .. }
            | Self::ChildCompleted { task, output }
            | Self::RequestCompleted { task, output } => GuestEvent::TaskCompleted {
                task: *task,
                outcome: Ok(output.clone()),
            },
            Self::ActivityFailed { task, failure, .. }
            | Self::ChildFailed { task, failure }
            | Self::RequestFailed { task, failure } => GuestEvent::TaskCompleted {
                task: *task,
                outcome: Err(failure.clone()),
            },
            Self::RequestReceived {
                number,
                id,
                name,
                input,
            } => GuestEvent::RequestReceived(IncomingRequest {
                number: *number,
                id: id.clone(),
                name: name.clone(),
                input: input.clone(),
            }),
            Self::TimerFired { task } => GuestEvent::TimerFired(*task),
            Self::ExternalEventRaised { number, name, data } => GuestEvent::ExternalEventRaised {
                number: *number,
                name: name.clone(),
                data: data.clone(),
            },
            Self::CancellationRequested(cancellation) => {
                GuestEvent::CancellationRequested(cancellation.clone())
            }
            Self::ActivityScheduled { .. }
            | Self::ChildScheduled { .. }
            | Self::TimerSet { .. }
            | Self::TaskCanceled { .. }
            | Self::EventSent { .. }
            | Self::InstanceStarted { .. }
            | Self::CustomStatusSet { .. }
            | Self::ExecutionReturned { .. }
            | Self::ExecutionCompleted { .. }
            | Self::ExecutionFailed { .. }
            | Self::ExecutionTerminated { .. }
            | Self::ContinuedAsNew { .. }
            | Self::ExecutionSuspended { .. }
            | Self::ExecutionResumed { .. }
            | Self::InstanceStartSkipped { .. }
            | Self::ChildRetryScheduled { .. }
            | Self::ChildRetried { .. }
            | Self::AttemptFailed { .. }
            | Self::CallDetails { .. }
            | Self::ValueSet { .. }
            | Self::TagSet { .. }
            | Self::ActivityOptions { .. }
            | Self::TimerSetAt { .. }
            | Self::InstanceOptions { .. }
            | Self::ChildCommanded { .. }
            | Self::RequestAnswered { .. }
            | Self::RequestSent { .. }
            | Self::ExecutionTimedOut { .. } => return None,
        };
        Some(event)
    }
}
