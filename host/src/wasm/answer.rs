//! Checks the parts of an answer that only a wasm guest can get wrong.

use perennial_core::{Action, Answer, Ending, Failure, Json, TaskId, kind};
use serde::de::IgnoredAny;

/// Whether `text` is exactly one JSON value.
pub(super) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Checks that every payload is JSON.
///
/// # Errors
/// An [`INVALID_ANSWER`](kind::INVALID_ANSWER) that names the first payload that is not.
pub(super) fn check_payloads(answer: &Answer) -> Result<(), Failure> {
    for action in &answer.actions {
        match action {
            Action::CallActivity(call) => check(call.input.as_ref(), || {
                format!("the input of activity {:?}", call.name)
            })?,
            Action::CallChild(call) => check(call.input.as_ref(), || {
                format!("the input of child {:?}", call.name)
            })?,
            Action::SendEvent(event) => check(event.data.as_ref(), || {
                format!("the data of event {:?}", event.name)
            })?,
            Action::StartInstance { name, input, .. } => {
                check(input.as_ref(), || {
                    format!("the input of a new instance of {name:?}")
                })?;
            }
            Action::SetCustomStatus(status) => {
                check(status.as_ref(), || "the custom status".to_owned())?
            }
            Action::SetValue { name, value } => {
                check(value.as_ref(), || format!("the value {name:?}"))?;
            }
            Action::SendRequest(request) => check(request.input.as_ref(), || {
                format!("the input of request {:?}", request.name)
            })?,
            Action::Respond { number, outcome } => match outcome {
                Ok(output) => check(output.as_ref(), || {
                    format!("the answer to request {number}")
                })?,
                Err(failure) => check(failure.details.as_ref(), || {
                    format!("the details of the answer to request {number}")
                })?,
            },
            Action::SetTimer { .. }
            | Action::CancelTask(_)
            | Action::CommandChild { .. }
            | Action::Describe(_)
            | Action::SetTag { .. } => {}
        }
    }
    match &answer.ending {
        Ending::Waiting(_) | Ending::Canceled => Ok(()),
        Ending::Completed(output) => check(output.as_ref(), || "the output".to_owned()),
        Ending::Failed { failure, .. } => check(failure.details.as_ref(), || {
            "the details of the failure".to_owned()
        }),
        Ending::ContinuedAsNew { input, .. } => check(input.as_ref(), || {
            "the input of the next execution".to_owned()
        }),
    }
}

/// Checks that new tasks are numbered from `next` without a gap, and moves `next` on.
///
/// # Errors
/// An [`INVALID_ANSWER`](kind::INVALID_ANSWER) with the two numbers.
pub(super) fn check_tasks(answer: &Answer, next: &mut TaskId) -> Result<(), Failure> {
    for action in &answer.actions {
        let task = match action {
            Action::CallActivity(call) => call.task,
            Action::CallChild(call) => call.task,
            Action::SetTimer { task, .. } => *task,
            Action::SendRequest(request) => request.task,
            Action::CancelTask(_)
            | Action::CommandChild { .. }
            | Action::SendEvent(_)
            | Action::StartInstance { .. }
            | Action::SetCustomStatus(_)
            | Action::Describe(_)
            | Action::Respond { .. }
            | Action::SetValue { .. }
            | Action::SetTag { .. } => continue,
        };
        if task != *next {
            return Err(invalid(format!(
                "the guest numbered a task {task} where {next} comes next"
            )));
        }
        next.0 = next.0.saturating_add(1);
    }
    Ok(())
}

fn check(payload: Option<&Json>, what: impl FnOnce() -> String) -> Result<(), Failure> {
    match payload {
        Some(json) if !is_json(json.as_str()) => Err(invalid(format!("{} is not JSON", what()))),
        _ => Ok(()),
    }
}

fn invalid(message: String) -> Failure {
    Failure::permanent(kind::INVALID_ANSWER, message)
}

#[cfg(test)]
mod tests {
    use perennial_core::{Timestamp, Waiting};

    use super::*;

    fn timer(task: u32) -> Action {
        Action::SetTimer {
            task: TaskId(task),
            due: perennial_core::TimerDue::At(Timestamp(0)),
        }
    }

    fn waiting(actions: Vec<Action>) -> Answer {
        Answer {
            actions,
            ending: Ending::Waiting(Waiting::default()),
        }
    }

    #[test]
    fn tasks_are_numbered_without_a_gap_across_turns() {
        let mut next = TaskId(0);
        assert_eq!(
            check_tasks(
                &waiting(vec![timer(0), Action::CancelTask(TaskId(0)), timer(1)]),
                &mut next
            ),
            Ok(())
        );
        assert_eq!(check_tasks(&waiting(vec![timer(2)]), &mut next), Ok(()));
        let failure = check_tasks(&waiting(vec![timer(4)]), &mut next).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "InvalidAnswer: the guest numbered a task 4 where 3 comes next"
        );
    }

    #[test]
    fn a_payload_that_is_not_json_is_named() {
        let answer = waiting(vec![Action::SetCustomStatus(Some(Json::from_text("{} x")))]);
        assert_eq!(
            check_payloads(&answer).unwrap_err().message,
            "the custom status is not JSON"
        );
        let answer = waiting(vec![Action::SetCustomStatus(Some(Json::from_text(
            " {\"a\":[1e9,null]} ",
        )))]);
        assert_eq!(check_payloads(&answer), Ok(()));
    }

    #[test]
    fn json_may_nest_deeply() {
        assert!(is_json(&format!(
            "{}{}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        )));
    }
}
