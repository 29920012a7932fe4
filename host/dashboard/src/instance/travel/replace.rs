//! Replaces what came in in a recorded history: another value, or a failure in place of a value and the other way round.
//!
//! Invariant: everything but the one event stays as it was recorded, byte for byte.
#![warn(
    clippy::match_wildcard_for_single_variants,
    clippy::wildcard_enum_match_arm
)]

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use perennial::{Event, Failure, Json, RecordedHistory};
use serde_json::Value;

/// The first byte of stored events: the version of their encoding, which every later version of a host reads.
const FORMAT: u8 = 1;

/// What comes in instead.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Instead {
    Value(Option<Json>),
    Failure(Failure),
}

/// Whether something else can take the place of what came in with this event.
pub(super) fn is_replaceable(event: &Event) -> bool {
    can_fail(event)
        || matches!(
            event,
            Event::ExternalEventRaised { .. }
                | Event::RequestReceived { .. }
                | Event::ExecutionStarted(_)
        )
}

/// Whether a failure can take its place, or has.
pub(super) fn can_fail(event: &Event) -> bool {
    matches!(
        event,
        Event::ActivityCompleted { .. }
            | Event::ActivityFailed { .. }
            | Event::ChildCompleted { .. }
            | Event::ChildFailed { .. }
            | Event::RequestCompleted { .. }
            | Event::RequestFailed { .. }
    )
}

/// The same event with something else in it; `None` if that cannot come in there.
pub(super) fn replaced(event: &Event, instead: Instead) -> Option<Event> {
    Some(match (event, instead) {
        (Event::ExecutionStarted(start), Instead::Value(input)) => {
            let mut start = start.clone();
            start.input = input;
            Event::ExecutionStarted(start)
        }
        (Event::ExternalEventRaised { number, name, .. }, Instead::Value(data)) => {
            Event::ExternalEventRaised {
                number: *number,
                name: name.clone(),
                data,
            }
        }
        (
            Event::RequestReceived {
                number, id, name, ..
            },
            Instead::Value(input),
        ) => Event::RequestReceived {
            number: *number,
            id: id.clone(),
            name: name.clone(),
            input,
        },
        (
            Event::ActivityCompleted { task, run, .. } | Event::ActivityFailed { task, run, .. },
            instead,
        ) => match instead {
            Instead::Value(output) => Event::ActivityCompleted {
                task: *task,
                output,
                run: *run,
            },
            Instead::Failure(failure) => Event::ActivityFailed {
                task: *task,
                failure,
                run: *run,
            },
        },
        (Event::ChildCompleted { task, .. } | Event::ChildFailed { task, .. }, instead) => {
            let task = *task;
            match instead {
                Instead::Value(output) => Event::ChildCompleted { task, output },
                Instead::Failure(failure) => Event::ChildFailed { task, failure },
            }
        }
        (Event::RequestCompleted { task, .. } | Event::RequestFailed { task, .. }, instead) => {
            let task = *task;
            match instead {
                Instead::Value(output) => Event::RequestCompleted { task, output },
                Instead::Failure(failure) => Event::RequestFailed { task, failure },
            }
        }
        _ => return None,
    })
}

/// A copy of a history in which another event stands at this number.
///
/// # Errors
/// What is wrong: there is no such event that came in, or the result is no history.
pub(super) fn in_history(
    history: &RecordedHistory,
    number: u64,
    replace: impl FnOnce(&Event) -> Option<Event>,
) -> Result<RecordedHistory, String> {
    const NONE: &str = "There is no such event in the recorded history any more; choose it again in the list of events.";
    let mut json = serde_json::to_value(history).map_err(|error| error.to_string())?;
    let turns = json.get_mut("turns").and_then(Value::as_array_mut);
    let first_of = |turn: &Value| turn.get("firstEvent").and_then(Value::as_u64);
    let turn = turns.and_then(|turns| {
        let begun =
            turns.partition_point(|turn| first_of(turn).is_some_and(|first| first <= number));
        turns.get_mut(begun.checked_sub(1)?)
    });
    let turn = turn.ok_or(NONE)?;
    let first = first_of(turn).ok_or(NONE)?;
    let received = turn.get_mut("received").ok_or(NONE)?;
    let mut events = decode(received.as_str().unwrap_or_default())?;
    let at = usize::try_from(number - first).unwrap_or(usize::MAX);
    let event = events.get_mut(at).ok_or(NONE)?;
    *event = replace(event).ok_or("This event cannot be replaced in that way.")?;
    *received = Value::String(encode(&events)?);
    let text = serde_json::to_vec(&json).map_err(|error| error.to_string())?;
    RecordedHistory::from_json(&text).map_err(|error| error.to_string())
}

fn decode(text: &str) -> Result<Vec<Event>, String> {
    let bytes = BASE64_STANDARD.decode(text);
    let bytes = bytes.map_err(|error| error.to_string())?;
    match bytes.split_first() {
        Some((&FORMAT, rest)) => postcard::from_bytes(rest).map_err(|error| error.to_string()),
        _ => Err("The history is stored in a way that this program does not know.".to_owned()),
    }
}

fn encode(events: &[Event]) -> Result<String, String> {
    let bytes = postcard::to_extend(events, vec![FORMAT]).map_err(|error| error.to_string())?;
    Ok(BASE64_STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests;
