//! Work items as the protocol has them.

use perennial_core::{Event, Failure, TraceContext, kind};
use prost::Message as _;

use crate::engine::remote::{ActivityItem, OrchestrationItem, WorkItem};
use crate::grpc::generated as wire;
use crate::grpc::generated::history_event::EventType;
use crate::grpc::generated::work_item::Request as Work;
use crate::grpc::to_wire::{ToWire, trace};
use crate::grpc::{payload, time};
use crate::limits::http::MESSAGE_BYTES;

/// Bytes of the events before a turn that go out with it to a worker that can read them in a stream of their own.
const PAST_BYTES: usize = 1 << 20;

/// What a message takes beside the item in it: a bound for the token and the heads of the fields.
const OVERHEAD_BYTES: usize = 1 << 10;

/// Whether workers are told of an event. The host holds suspended instances, ends them, and keeps the notes that only readers of a history
/// need.
pub(crate) fn is_for_workers(event: &wire::HistoryEvent) -> bool {
    !matches!(
        event.event_type,
        None | Some(
            EventType::ExecutionSuspended(_)
                | EventType::ExecutionResumed(_)
                | EventType::ExecutionTerminated(_)
                | EventType::ExecutionCompleted(_)
                | EventType::ContinueAsNew(_)
                | EventType::GenericEvent(_)
                | EventType::OrchestratorCompleted(_)
        )
    )
}

/// An item as it goes out to a worker.
///
/// # Errors
/// The failure of what it is about, if no message can hold it.
pub(super) fn translated(item: WorkItem, streams_history: bool) -> Result<wire::WorkItem, Failure> {
    let (token, request) = match item {
        WorkItem::Orchestration(item) => {
            let token = item.token.clone();
            (
                token,
                Work::OrchestratorRequest(turn(*item, streams_history)),
            )
        }
        WorkItem::Activity(item) => {
            let token = item.token.clone();
            (token, Work::ActivityRequest(activity(*item)))
        }
    };
    let item = wire::WorkItem {
        request: Some(request),
        completion_token: token,
    };
    let bytes = item.encoded_len();
    if bytes + OVERHEAD_BYTES > MESSAGE_BYTES {
        let advice = match item.request {
            Some(Work::ActivityRequest(_)) => "give the activity a smaller input",
            _ => "continue as new earlier, or pass smaller payloads",
        };
        let message = format!(
            "its work item has {bytes} bytes, and a message to a worker at most {MESSAGE_BYTES}; {advice}"
        );
        return Err(Failure::permanent(kind::LIMIT_EXCEEDED, message));
    }
    Ok(item)
}

fn turn(item: OrchestrationItem, streams_history: bool) -> wire::OrchestratorRequest {
    let (mut past_events, mut new_events) = (Vec::new(), Vec::new());
    let mut to_wire = ToWire::default();
    let first = item.past.iter().flat_map(|turn| &turn.received);
    let context = trace_context(first.chain(&item.received), item.at);
    for turn in item.past.iter() {
        for event in turn.events() {
            to_wire.event(turn.at, event.clone(), &mut past_events);
        }
    }
    for event in item.received {
        to_wire.event(item.at, event, &mut new_events);
    }
    past_events.retain(is_for_workers);
    new_events.retain(is_for_workers);
    let past_bytes = || {
        past_events
            .iter()
            .map(|event| event.encoded_len())
            .sum::<usize>()
    };
    let is_streamed = streams_history && past_bytes() > PAST_BYTES;
    if is_streamed {
        past_events = Vec::new();
    }
    wire::OrchestratorRequest {
        instance_id: item.instance_id,
        execution_id: Some(item.execution_id),
        past_events,
        new_events,
        entity_parameters: None,
        requires_history_streaming: is_streamed,
        properties: Default::default(),
        orchestration_trace_context: context,
    }
}

/// The span of the orchestrator, which is the same in each turn. It is inside that of the client that started the instance.
fn trace_context<'a>(
    mut events: impl Iterator<Item = &'a Event>,
    now: perennial_core::Timestamp,
) -> Option<wire::OrchestrationTraceContext> {
    let start = events.find_map(|event| match event {
        Event::ExecutionStarted(start) => Some(start),
        _ => None,
    })?;
    start.trace_parent.as_ref()?;
    let (own, _) = TraceContext::of_execution(start, 0);
    // That of the execution is the host's own, which it exports itself.
    let span = !own.span_id;
    Some(wire::OrchestrationTraceContext {
        span_id: Some(format!("{span:016x}")),
        span_start_time: Some(time::to_wire(start.accepted_at.min(now))),
    })
}

fn activity(item: ActivityItem) -> wire::ActivityRequest {
    wire::ActivityRequest {
        name: item.name,
        version: item.version,
        input: item.input.as_ref().map(payload::to_text),
        orchestration_instance: Some(wire::OrchestrationInstance {
            instance_id: item.instance_id,
            execution_id: Some(item.execution_id),
        }),
        task_id: i32::try_from(item.task.0).unwrap_or(i32::MAX),
        parent_trace_context: trace(item.trace_parent),
        tags: item.tags.into_iter().collect(),
    }
}
