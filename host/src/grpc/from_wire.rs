//! The answers of remote workers as the engine has them.
//!
//! Invariant: whatever a worker answers becomes an answer of the core. One that breaks the protocol, or asks for something that this host
//! does not have, becomes the failure of its orchestration, with a message that says what to change.

mod failed;

use std::collections::BTreeSet;

use perennial_core::{
    Action, ActivityCall, Answer, CallDetails, CallOptions, ChildCall, Ending, Failure,
    InstanceOptions, Json, OutgoingEvent, Tags, TaskId, TimerDue, Timestamp, Waiting, kind,
};

use crate::engine::brief;
use crate::engine::remote::RemoteAnswer;
use crate::grpc::generated as wire;
use crate::grpc::generated::history_event::EventType;
use crate::grpc::generated::orchestrator_action::OrchestratorActionType as Asked;
use crate::grpc::payload;

pub(crate) use failed::failure;

/// The answer to a turn.
pub(crate) fn answer(
    actions: Vec<wire::OrchestratorAction>,
    status: Option<String>,
) -> RemoteAnswer {
    parsed(actions, status).unwrap_or_else(|problem| {
        let message = format!("the worker's answer cannot be carried out: {problem}");
        refused(Failure::permanent(kind::INVALID_ANSWER, message))
    })
}

/// An answer that only fails the orchestration.
pub(crate) fn refused(failure: Failure) -> RemoteAnswer {
    RemoteAnswer {
        answer: Answer {
            actions: Vec::new(),
            ending: Ending::Failed {
                failure,
                cause: None,
            },
        },
        carried: Vec::new(),
    }
}

/// The outcome of an activity: a failure if the worker reports one, however much it says about it.
pub(crate) fn outcome(response: wire::ActivityResponse) -> Result<Option<Json>, Failure> {
    match response.failure_details {
        Some(details) => Err(failure(details)),
        None => Ok(response.result.map(payload::from_text)),
    }
}

/// How the turn ended, and the external events that continue-as-new carries over.
type End = (Ending, Vec<(String, Option<Json>)>);

fn parsed(
    mut asked: Vec<wire::OrchestratorAction>,
    status: Option<String>,
) -> Result<RemoteAnswer, String> {
    // The ids are those of the order of calls; workers may send them in any order.
    asked.sort_by_key(|action| action.id);
    let mut actions = Vec::with_capacity(asked.len() + 1);
    let mut end: Option<End> = None;
    let mut ids = BTreeSet::new();
    for wire::OrchestratorAction {
        id,
        orchestrator_action_type: what,
    } in asked
    {
        let what = what.ok_or_else(|| {
            format!("action {id} has no content that this host knows; use an SDK of a version that the host supports")
        })?;
        if let Asked::CompleteOrchestration(complete) = what {
            // Its id identifies nothing, and SDKs send -1 for some failures.
            if end.replace(completed(complete)?).is_some() {
                return Err("it completes the orchestration twice".to_owned());
            }
            continue;
        }
        let task = u32::try_from(id).map(TaskId);
        let task = task.map_err(|_| format!("action {id} has a negative id"))?;
        if !ids.insert(task) {
            return Err(format!("two actions have the id {id}"));
        }
        act(task, what, &mut actions)?;
    }
    // A worker without a custom status sends nothing or, in Java, an empty text.
    if let Some(text) = status {
        let value = (!text.is_empty()).then(|| payload::from_text(text));
        actions.push(Action::SetCustomStatus(value));
    }
    let waiting = || (Ending::Waiting(Waiting::default()), Vec::new());
    let (ending, carried) = end.unwrap_or_else(waiting);
    Ok(RemoteAnswer {
        answer: Answer { actions, ending },
        carried,
    })
}

fn act(task: TaskId, what: Asked, actions: &mut Vec<Action>) -> Result<(), String> {
    match what {
        Asked::ScheduleTask(call) => {
            let tags = tags(call.tags);
            let details = CallDetails {
                task,
                version: call.version,
                tags,
            };
            actions.push(Action::CallActivity(ActivityCall {
                task,
                name: call.name,
                input: call.input.map(payload::from_text),
                retry: None,
                attempt_timeout: None,
                options: CallOptions::default(),
            }));
            if details.version.is_some() || !details.tags.is_empty() {
                actions.push(Action::Describe(details));
            }
        }
        Asked::CreateSubOrchestration(call) => {
            let id = call.instance_id;
            actions.push(Action::CallChild(ChildCall {
                task,
                name: call.name,
                // An empty version is how some SDKs say that they ask for none.
                version: call.version.filter(|version| !version.is_empty()),
                instance_id: (!id.is_empty()).then_some(id),
                input: call.input.map(payload::from_text),
                tags: tags(call.tags),
                retry: None,
                options: InstanceOptions::default(),
            }));
        }
        Asked::CreateTimer(timer) => {
            let at = timer
                .fire_at
                .ok_or_else(|| format!("timer {task} has no time to fire at; set fireAt"))?;
            let due = TimerDue::GuestTime(clamped(at));
            actions.push(Action::SetTimer { task, due });
        }
        Asked::SendEvent(event) => {
            let to = event.instance.map(|instance| instance.instance_id);
            let instance_id = to.filter(|id| !id.is_empty()).ok_or_else(|| {
                format!(
                    "event {task} ({:?}) is sent to no instance; set its instance id",
                    event.name
                )
            })?;
            actions.push(Action::SendEvent(OutgoingEvent {
                instance_id,
                name: event.name,
                data: event.data.map(payload::from_text),
            }));
            actions.push(Action::Describe(CallDetails {
                task,
                version: None,
                tags: Vec::new(),
            }));
        }
        Asked::SendEntityMessage(_)
        | Asked::TerminateOrchestration(_)
        | Asked::RewindOrchestration(_)
        | Asked::CompleteOrchestration(_) => return Err(not_here(task, &what)),
    }
    Ok(())
}

/// Why an action cannot be taken.
fn not_here(task: TaskId, what: &Asked) -> String {
    match what {
        Asked::SendEntityMessage(_) => format!(
            "action {task} is a message to an entity, and this host has no entities; use an orchestration with external events instead"
        ),
        Asked::TerminateOrchestration(other) => format!(
            "action {task} terminates instance {:?}, which an orchestration cannot do on this host; terminate it with a client, in an activity for example",
            brief(&other.instance_id)
        ),
        _ => format!(
            "action {task} rewinds the orchestration, which only this host does; rewind it with a client"
        ),
    }
}

fn completed(complete: wire::CompleteOrchestrationAction) -> Result<End, String> {
    use wire::OrchestrationStatus as Status;
    let number = complete.orchestration_status;
    let result = complete.result;
    let reported = complete.failure_details.map(failure);
    let failed = |failure| Ending::Failed {
        failure,
        cause: None,
    };
    let or_text = |kind: &str, default: &str| {
        let text = complete.details.as_deref().or(result.as_deref());
        let text = text.filter(|text| !text.is_empty()).unwrap_or(default);
        Failure::permanent(kind, text)
    };
    let ending = match Status::try_from(number) {
        Ok(Status::Completed) => Ending::Completed(result.map(payload::from_text)),
        Ok(Status::Failed) => failed(reported.unwrap_or_else(|| {
            or_text(
                UNKNOWN_FAILURE,
                "the worker reported no details of the failure",
            )
        })),
        Ok(Status::ContinuedAsNew) => {
            let carried = carried(complete.carryover_events)?;
            let ending = Ending::ContinuedAsNew {
                input: result.map(payload::from_text),
                version: complete.new_version.filter(|version| !version.is_empty()),
                carry_over: Vec::new(),
            };
            return Ok((ending, carried));
        }
        // A client's termination never reaches a worker, so it is its orchestrator that ends in this way.
        Ok(Status::Terminated) => failed(
            reported
                .unwrap_or_else(|| or_text(kind::TERMINATED, "the orchestrator terminated itself")),
        ),
        Ok(Status::Canceled) => failed(
            reported
                .unwrap_or_else(|| or_text(kind::CANCELED, "the orchestrator cancelled itself")),
        ),
        Ok(Status::Running | Status::Pending | Status::Suspended) | Err(_) => {
            let name = Status::try_from(number).map_or_else(
                |_| number.to_string(),
                |status| status.as_str_name().to_owned(),
            );
            return Err(format!(
                "it completes the orchestration with the status {name}, which is no end; use COMPLETED, FAILED or CONTINUED_AS_NEW"
            ));
        }
    };
    Ok((ending, Vec::new()))
}

/// The kind of a failure of which the worker says nothing.
const UNKNOWN_FAILURE: &str = "OrchestrationFailed";

fn carried(events: Vec<wire::HistoryEvent>) -> Result<Vec<(String, Option<Json>)>, String> {
    let events = events.into_iter().map(|event| match event.event_type {
        Some(EventType::EventRaised(raised)) => {
            Ok((raised.name, raised.input.map(payload::from_text)))
        }
        _ => Err("it carries over an event that is not an external event".to_owned()),
    });
    events.collect()
}

/// In the order of their keys: a map of the protocol has none.
fn tags(tags: std::collections::HashMap<String, String>) -> Tags {
    let mut tags: Tags = tags.into_iter().collect();
    tags.sort_unstable();
    tags
}

/// The time of a timer, rounded up to milliseconds, so that none fires early. A time before 1970 is 1970, and one beyond what the type can
/// hold is the last that it can hold.
fn clamped(at: prost_types::Timestamp) -> Timestamp {
    /// The year 9999, the last one that a time of the protocol can have.
    const LAST_SECOND: i64 = 253_402_300_799;
    const MS_NS: u64 = 1_000_000;
    let seconds = u64::try_from(at.seconds.min(LAST_SECOND));
    let nanos = u64::try_from(at.nanos.clamp(0, 999_999_999)).unwrap_or(0);
    seconds.map_or(Timestamp(0), |seconds| {
        Timestamp(seconds * 1_000 + nanos.div_ceil(MS_NS))
    })
}

#[cfg(test)]
mod tests;
