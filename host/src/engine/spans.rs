//! Trace spans: one for each execution, with one for each attempt of an activity.
//!
//! A span is emitted when its execution or attempt is over, and its ids derive from those of the execution. So the engine stores nothing
//! for it, and an execution that ran for a year with many restarts is one span. An attempt that a crash cut off has none.

use std::sync::Arc;

use perennial_core::{Failure, State, Status, Timestamp, TraceContext};

use crate::engine::Engine;
use crate::engine::tasks::ready::Ready;
use crate::engine::turn::load;
use crate::foreign::Listener;
use crate::store::{InstanceRow, TurnCommit};

/// What a [`Span`] describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpanKind {
    /// One execution of an instance.
    Execution,
    /// An attempt of an activity, with its number, from 1.
    Attempt(u32),
}

/// A finished execution or attempt, as a span of a distributed trace.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Span {
    /// The ids of this span.
    pub context: TraceContext,
    /// The id of the parent span in the same trace. For an execution it may belong to another program.
    pub parent: Option<u64>,
    /// Whether it is an execution or an attempt.
    pub kind: SpanKind,
    /// The name of the orchestration or activity.
    pub name: String,
    /// The id of the instance.
    pub instance_id: String,
    /// The id of the execution.
    pub execution_id: String,
    /// The start time; for an execution, when it was accepted.
    pub began: Timestamp,
    /// The end time.
    pub ended: Timestamp,
    /// The final status of an execution; `None` for an attempt, and for an execution that continued as new.
    pub status: Option<Status>,
    /// The failure, if the execution or attempt failed.
    pub failure: Option<Failure>,
}

/// Maximum number of spans that wait for the sink: about one second's worth on a busy host. Later ones are dropped.
const WAITING_MAX: usize = 8_192;

/// Receives each span after it has ended, on a thread of its own. A sink that is too slow misses spans; one that panics misses that span.
pub trait SpanSink: Send + Sync {
    /// Receives a span.
    fn ended(&self, span: Span);
}

/// Starts the thread that passes spans to the sink.
pub(crate) fn listener(sink: Arc<dyn SpanSink>) -> Listener<Span> {
    Listener::new("the sink of spans", WAITING_MAX, move |span| {
        sink.ended(span);
    })
}

impl Engine {
    /// Emits the span of an execution that this commit ended.
    pub(crate) fn execution_ended(&self, state: &State, row: &InstanceRow, commit: &TurnCommit) {
        let Some(sink) = &self.spans else { return };
        // A terminated instance may have ended without loading its history; the hub still has the start event.
        let start = match state.start() {
            Some(start) => Some(start.clone()),
            None => load::find_start(&self.hub.reader, row).ok().flatten(),
        };
        let Some(start) = start else { return };
        let (context, parent) = TraceContext::of_execution(&start, row.generation);
        if context.sampled {
            sink.tell(Span {
                context,
                parent,
                kind: SpanKind::Execution,
                name: start.name,
                instance_id: start.instance_id,
                execution_id: start.execution_id,
                began: start.accepted_at,
                ended: commit.turn.at,
                status: Some(commit.after.status).filter(|status| status.is_end()),
                failure: commit.after.failure.clone(),
            });
        }
    }

    /// Emits the span of an attempt that ended.
    pub(crate) fn attempt_ended(&self, ready: &Ready, began: Timestamp, failure: Option<&Failure>) {
        let Some(sink) = &self.spans else { return };
        let caller = ready.caller.trace;
        if caller.sampled {
            sink.tell(Span {
                context: caller.attempt(ready.task, ready.attempt),
                parent: Some(caller.span_id),
                kind: SpanKind::Attempt(ready.attempt),
                name: ready.name.clone(),
                instance_id: ready.caller.instance_id.clone(),
                execution_id: ready.caller.execution_id.clone(),
                began,
                ended: self.clock.now(),
                status: None,
                failure: failure.cloned(),
            });
        }
    }
}
