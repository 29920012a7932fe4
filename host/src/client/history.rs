//! An execution's history, as clients read it.
#![warn(
    clippy::match_wildcard_for_single_variants,
    clippy::wildcard_enum_match_arm
)]

use std::collections::BTreeMap;

use perennial_core::{Event, Failure, Json, Timestamp, Turn};
use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::value::RawValue;

/// One event of a history.
///
/// As JSON: `number`, `turn`, `at` (RFC 3339), `event` (its kind, as in `ActivityScheduled`) and the fields of the event, payloads being
/// JSON values of their own.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HistoryEvent {
    /// Counts the events of the execution, from 0.
    pub number: u64,
    /// The turn that it belongs to, from 0.
    pub turn: u32,
    /// When its turn was recorded.
    pub at: Timestamp,
    /// The event.
    pub event: Event,
}

/// The events of turns, numbered.
pub(crate) fn events_of(turns: Vec<Turn>) -> Vec<HistoryEvent> {
    let mut events = Vec::new();
    for turn in turns {
        let (first, number, at) = (turn.first_event, turn.number, turn.at);
        let numbered = turn.received.into_iter().chain(turn.produced).enumerate();
        events.extend(numbered.map(|(i, event)| HistoryEvent {
            number: first + i as u64,
            turn: number,
            at,
            event,
        }));
    }
    events
}

/// A time as RFC 3339, with milliseconds.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    match i64::try_from(at.0)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
    {
        Some(time) => format!("{time:.3}"),
        // Beyond the calendar: a timer that never fires.
        None => "never".to_owned(),
    }
}

/// A payload as the JSON that it is.
pub(crate) fn raw(payload: &Json) -> Box<RawValue> {
    let text = payload.as_str().to_owned();
    // A payload was checked when it came in; one that is not JSON after all is shown as a text.
    RawValue::from_string(text).unwrap_or_else(|_| {
        let text = serde_json::Value::from(payload.as_str()).to_string();
        RawValue::from_string(text).unwrap_or_default()
    })
}

/// A failure as JSON.
#[derive(Serialize)]
pub(crate) struct FailureJson<'a> {
    kind: &'a str,
    message: &'a str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    causes: &'a [perennial_core::Cause],
}

impl<'a> From<&'a Failure> for FailureJson<'a> {
    fn from(failure: &'a Failure) -> Self {
        Self {
            kind: &failure.kind,
            message: &failure.message,
            retryable: failure.retryable,
            details: failure.details.as_ref().map(raw),
            trace: failure.trace.as_deref(),
            causes: &failure.causes,
        }
    }
}

impl Serialize for HistoryEvent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("number", &self.number)?;
        map.serialize_entry("turn", &self.turn)?;
        map.serialize_entry("at", &rfc3339(self.at))?;
        map.serialize_entry("event", self.event.name())?;
        fields(&self.event, &mut map)?;
        map.end()
    }
}

fn fields<M: SerializeMap>(event: &Event, map: &mut M) -> Result<(), M::Error> {
    let payload = |map: &mut M, key: &str, payload: &Option<Json>| match payload {
        Some(payload) => map.serialize_entry(key, &raw(payload)),
        None => Ok(()),
    };
    let text = |map: &mut M, key: &str, text: &Option<String>| match text {
        Some(text) => map.serialize_entry(key, text),
        None => Ok(()),
    };
    match event {
        Event::TurnStarted { now, .. } => map.serialize_entry("now", &rfc3339(*now))?,
        Event::ExecutionStarted(start) => {
            map.serialize_entry("instanceId", &start.instance_id)?;
            map.serialize_entry("executionId", &start.execution_id)?;
            map.serialize_entry("name", &start.name)?;
            text(map, "version", &start.version)?;
            payload(map, "input", &start.input)?;
            if let Some(parent) = &start.parent {
                map.serialize_entry("parentInstanceId", &parent.instance_id)?;
            }
            if let Some(module) = start.module {
                map.serialize_entry("module", &module.to_string())?;
            }
            if !start.tags.is_empty() {
                let tags = start.tags.iter().map(|(key, value)| (key, value));
                map.serialize_entry("tags", &tags.collect::<BTreeMap<_, _>>())?;
            }
        }
        Event::ActivityCompleted { task, output, run } => {
            map.serialize_entry("task", task)?;
            payload(map, "output", output)?;
            attempt(map, run)?;
        }
        Event::ActivityFailed { task, failure, run } => {
            map.serialize_entry("task", task)?;
            map.serialize_entry("failure", &FailureJson::from(failure))?;
            attempt(map, run)?;
        }
        Event::ChildCompleted { task, output } => {
            map.serialize_entry("task", task)?;
            payload(map, "output", output)?;
        }
        Event::ChildFailed { task, failure } => {
            map.serialize_entry("task", task)?;
            map.serialize_entry("failure", &FailureJson::from(failure))?;
        }
        Event::TimerFired { task } | Event::TaskCanceled { task } => {
            map.serialize_entry("task", task)?
        }
        Event::ExternalEventRaised { number, name, data } => {
            map.serialize_entry("eventNumber", number)?;
            map.serialize_entry("name", name)?;
            payload(map, "data", data)?;
        }
        Event::ActivityScheduled {
            task, name, input, ..
        } => {
            map.serialize_entry("task", task)?;
            map.serialize_entry("name", name)?;
            payload(map, "input", input)?;
        }
        Event::ChildScheduled {
            task,
            name,
            version,
            instance_id,
            input,
            ..
        } => {
            map.serialize_entry("task", task)?;
            map.serialize_entry("name", name)?;
            text(map, "version", version)?;
            map.serialize_entry("instanceId", instance_id)?;
            payload(map, "input", input)?;
        }
        Event::TimerSet { task, fire_at } => {
            map.serialize_entry("task", task)?;
            map.serialize_entry("fireAt", &rfc3339(*fire_at))?;
        }
        Event::EventSent {
            instance_id,
            name,
            data,
        } => {
            map.serialize_entry("instanceId", instance_id)?;
            map.serialize_entry("name", name)?;
            payload(map, "data", data)?;
        }
        Event::InstanceStarted {
            instance_id,
            name,
            version,
            input,
            ..
        } => {
            map.serialize_entry("instanceId", instance_id)?;
            map.serialize_entry("name", name)?;
            text(map, "version", version)?;
            payload(map, "input", input)?;
        }
        Event::CustomStatusSet { value } => payload(map, "value", value)?,
        Event::ExecutionReturned { output } | Event::ExecutionCompleted { output } => {
            payload(map, "output", output)?
        }
        Event::ExecutionFailed { failure, cause } => {
            map.serialize_entry("failure", &FailureJson::from(failure))?;
            if let Some(cause) = cause {
                map.serialize_entry("cause", cause)?;
            }
        }
        Event::ExecutionTerminated { reason }
        | Event::ExecutionSuspended { reason }
        | Event::ExecutionResumed { reason } => {
            text(map, "reason", reason)?;
        }
        Event::ContinuedAsNew {
            input,
            version,
            execution_id,
            ..
        } => {
            payload(map, "input", input)?;
            text(map, "version", version)?;
            map.serialize_entry("executionId", execution_id)?;
        }
        Event::InstanceStartSkipped {
            instance_id,
            reason,
        } => {
            map.serialize_entry("instanceId", instance_id)?;
            map.serialize_entry("reason", reason)?;
        }
        Event::ChildRetryScheduled {
            task,
            attempt,
            at,
            failure,
        } => {
            map.serialize_entry("task", task)?;
            map.serialize_entry("attempt", attempt)?;
            map.serialize_entry("due", &rfc3339(*at))?;
            map.serialize_entry("failure", &FailureJson::from(failure))?;
        }
        Event::AttemptFailed { task, failure, run } => {
            map.serialize_entry("task", task)?;
            map.serialize_entry("failure", &FailureJson::from(failure))?;
            attempt(map, run)?;
        }
        Event::ChildRetried {
            task,
            attempt,
            instance_id,
        } => {
            map.serialize_entry("task", task)?;
            map.serialize_entry("attempt", attempt)?;
            map.serialize_entry("instanceId", instance_id)?;
        }
    }
    Ok(())
}

fn attempt<M: SerializeMap>(map: &mut M, run: &perennial_core::AttemptRun) -> Result<(), M::Error> {
    map.serialize_entry("attempt", &run.attempt)?;
    map.serialize_entry("startedAt", &rfc3339(run.started_at))?;
    map.serialize_entry("endedAt", &rfc3339(run.ended_at))
}
