//! Trace contexts of executions and tasks (W3C `traceparent`).
//!
//! The ids follow from those of the execution, so that nothing has to be stored: a child, an attempt of an activity and the execution
//! itself agree on them in any process and after any crash.

use std::fmt;

use crate::TaskRef;
use crate::event::Start;
use crate::xxh64::xxh64;

/// A span in a trace, as [W3C Trace Context](https://www.w3.org/TR/trace-context/) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace. Not 0.
    pub trace_id: u128,
    /// The span. Not 0.
    pub span_id: u64,
    /// Whether whoever began the trace wants it recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent` of version 00; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let parts: Vec<&str> = text.split('-').collect();
        let [version, trace_id, span_id, flags] = parts[..] else {
            return None;
        };
        let lengths = parts.iter().map(|part| part.len());
        if !lengths.eq([2, 32, 16, 2]) || !parts.iter().all(|part| is_hex(part)) || version != "00"
        {
            return None;
        }
        let context = Self {
            trace_id: u128::from_str_radix(trace_id, 16).ok()?,
            span_id: u64::from_str_radix(span_id, 16).ok()?,
            sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
        };
        (context.trace_id != 0 && context.span_id != 0).then_some(context)
    }

    /// The span of an execution, and the one that it is in: its caller's, if the caller has one.
    pub fn of_execution(start: &Start, generation: u32) -> (Self, Option<u64>) {
        let id = &start.execution_id;
        let span_id = hash(format!("span:{id}:{generation}"));
        let caller = start.trace_parent.as_deref().and_then(Self::parse);
        match caller {
            Some(caller) => (Self { span_id, ..caller }, Some(caller.span_id)),
            None => {
                let half = |which| u128::from(hash(format!("trace:{which}:{id}")));
                let context = Self {
                    trace_id: half('a') << 64 | half('b'),
                    span_id,
                    sampled: true,
                };
                (context, None)
            }
        }
    }

    /// The span of one attempt of an activity, inside this one, which is its execution's.
    pub fn attempt(self, task: TaskRef, attempt: u32) -> Self {
        let span_id = hash(format!("{:x}:{}:{attempt}", self.span_id, task.task));
        Self { span_id, ..self }
    }
}

/// As a `traceparent` header has it.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(
            f,
            "00-{:032x}-{:016x}-{flags:02x}",
            self.trace_id, self.span_id
        )
    }
}

/// Never 0, which is no id.
fn hash(text: String) -> u64 {
    xxh64(text.as_bytes()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, SEMANTICS_VERSION, Tags, TaskId, Timestamp};

    const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn start(trace_parent: Option<&str>) -> Start {
        Start {
            instance_id: "i".to_owned(),
            execution_id: "e1".to_owned(),
            execution: 0,
            name: "Hello".to_owned(),
            version: None,
            input: None,
            parent: None,
            tags: Tags::default(),
            trace_parent: trace_parent.map(str::to_owned),
            seed: 0,
            module: None,
            limits: Limits::default(),
            next_external: 0,
            semantics: SEMANTICS_VERSION,
            accepted_at: Timestamp(0),
            scheduled_for: None,
        }
    }

    #[test]
    fn a_trace_parent_is_read_and_written_as_it_was() {
        let context = TraceContext::parse(CALLER).unwrap();
        assert_eq!(context.to_string(), CALLER);
        let unsampled = CALLER.replace("-01", "-00");
        assert_eq!(
            TraceContext::parse(&unsampled).unwrap().to_string(),
            unsampled
        );
    }

    #[test]
    fn what_is_no_trace_parent_is_not_read_as_one() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "zz-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_execution_continues_the_trace_of_its_caller_or_begins_one() {
        let caller = TraceContext::parse(CALLER).unwrap();
        let (inside, parent) = TraceContext::of_execution(&start(Some(CALLER)), 0);
        assert_eq!(inside.trace_id, caller.trace_id);
        assert_eq!(parent, Some(caller.span_id));
        for nothing in [None, Some("nonsense")] {
            let (own, parent) = TraceContext::of_execution(&start(nothing), 0);
            assert!(own.sampled && own.trace_id != caller.trace_id);
            assert_eq!(parent, None);
            assert_eq!(own, TraceContext::of_execution(&start(None), 0).0);
        }
    }

    #[test]
    fn generations_tasks_and_attempts_have_spans_of_their_own() {
        let (execution, _) = TraceContext::of_execution(&start(None), 0);
        let task = |task| TaskRef {
            execution: 0,
            generation: 0,
            task: TaskId(task),
        };
        let mut ids = vec![
            execution.span_id,
            TraceContext::of_execution(&start(None), 1).0.span_id,
            execution.attempt(task(0), 1).span_id,
            execution.attempt(task(0), 2).span_id,
            execution.attempt(task(1), 1).span_id,
        ];
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 5);
    }
}
