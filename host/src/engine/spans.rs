//! Trace spans: one for each execution, with one for each attempt of an activity.
//!
//! A span is handed on when what it tells of is over, with ids that follow from the execution's. So it needs no memory of the engine,
//! and an execution that ran for a year, through any number of restarts, is one span. An attempt that a crash cut off has none.

use std::sync::Arc;

use perennial_core::{Failure, State, Status, Timestamp, TraceContext};

use crate::engine::Engine;
use crate::engine::tasks::ready::Ready;
use crate::engine::turn::load;
use crate::foreign::Listener;
use crate::store::{InstanceRow, TurnCommit};

/// What a [`Span`] tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpanKind {
    /// One execution of an instance.
    Execution,
    /// An attempt of an activity; attempts count from 1.
    Attempt(u32),
}

/// Something that happened and is over, in a distributed trace.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Span {
    /// Itself.
    pub context: TraceContext,
    /// The span that it is in, in the same trace; an execution's may be of another program.
    pub parent: Option<u64>,
    /// What it tells of.
    pub kind: SpanKind,
    /// The orchestration or the activity.
    pub name: String,
    /// The instance.
    pub instance_id: String,
    /// The execution.
    pub execution_id: String,
    /// When it began: for an execution, when it was accepted.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// How an execution ended; `None` for one that continued as new, and for an attempt.
    pub status: Option<Status>,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// Spans that a sink has not taken yet, at most: those of a second or so of a busy host.
const WAITING_MAX: usize = 8_192;

/// Takes spans, each when it has ended, on a thread that the host has for it. Where it is slow it misses spans, and where it panics one.
pub trait SpanSink: Send + Sync {
    /// Takes a span.
    fn ended(&self, span: Span);
}

/// Who is told of spans.
pub(crate) fn listener(sink: Arc<dyn SpanSink>) -> Listener<Span> {
    Listener::new("the sink of spans", WAITING_MAX, move |span| {
        sink.ended(span);
    })
}

impl Engine {
    /// Tells of an execution that this commit ended.
    pub(crate) fn execution_ended(&self, state: &State, row: &InstanceRow, commit: &TurnCommit) {
        let Some(sink) = &self.spans else { return };
        // An instance that was ended without its history has it in the hub still.
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

    /// Tells of an attempt that ended.
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
