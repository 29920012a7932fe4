//! Whether a guest's answer keeps the contract and the limits.

use std::collections::BTreeSet;

use crate::value::size_of;
use crate::{Action, Answer, Ending, Failure, Limits, State, TaskId, kind};

/// Checks an answer against the contract and the limits. The failure is the execution's, and none of the answer's actions is taken.
pub(crate) fn check(state: &State, limits: &Limits, answer: &Answer) -> Result<(), Failure> {
    let over = |what: &str, name: &str, is: u64, limit: u64| {
        Err(Failure::permanent(
            kind::LIMIT_EXCEEDED,
            format!("{what}: {is}; {name} allows {limit}"),
        ))
    };
    let wrong = |message: String| Err(Failure::permanent(kind::INVALID_ANSWER, message));
    let count = answer.actions.len() as u64;
    if count > u64::from(limits.actions_per_turn) {
        return over(
            "actions in one turn",
            "actions_per_turn",
            count,
            u64::from(limits.actions_per_turn),
        );
    }
    let mut next_task = state.next_task;
    let mut open = state.tasks.len() as u64;
    let mut total = 0;
    for action in &answer.actions {
        let (task, payload) = match action {
            Action::CallActivity(call) => (Some(call.task), call.input.as_ref()),
            Action::CallChild(call) => (Some(call.task), call.input.as_ref()),
            Action::SetTimer { task, .. } => (Some(*task), None),
            Action::CancelTask(task) if *task >= next_task => {
                return wrong(format!(
                    "it cancelled task {task}, which it never scheduled"
                ));
            }
            Action::CancelTask(_) => (None, None),
            Action::SendEvent(event) => (None, event.data.as_ref()),
            Action::StartInstance { input, .. } => (None, input.as_ref()),
            Action::SetCustomStatus(value) => (None, value.as_ref()),
        };
        if let Some(task) = task {
            if task < next_task || task.0 == u32::MAX {
                return wrong(format!(
                    "it scheduled task {task} where the next one was {next_task}"
                ));
            }
            next_task = TaskId(task.0 + 1);
            open += 1;
        }
        let bytes = size_of(payload) as u64;
        total += bytes;
        if matches!(action, Action::SetCustomStatus(_)) && bytes > limits.custom_status_bytes {
            return over(
                "bytes of the custom status",
                "custom_status_bytes",
                bytes,
                limits.custom_status_bytes,
            );
        }
        if matches!(action, Action::SendEvent(_) | Action::StartInstance { .. })
            && bytes > limits.payload_bytes
        {
            return over(
                "bytes sent to another instance",
                "payload_bytes",
                bytes,
                limits.payload_bytes,
            );
        }
    }
    if total > limits.action_bytes_per_turn {
        return over(
            "bytes asked for in one turn",
            "action_bytes_per_turn",
            total,
            limits.action_bytes_per_turn,
        );
    }
    let (what, payload) = match &answer.ending {
        Ending::Waiting(_) if open > u64::from(limits.open_tasks) => {
            return over(
                "open tasks",
                "open_tasks",
                open,
                u64::from(limits.open_tasks),
            );
        }
        Ending::Waiting(_) => return Ok(()),
        Ending::Completed(output) => ("bytes of the output", output.as_ref()),
        Ending::Failed { failure, .. } => {
            ("bytes of the failure's details", failure.details.as_ref())
        }
        Ending::ContinuedAsNew {
            input, carry_over, ..
        } => {
            let mut seen = BTreeSet::new();
            if let Some(number) = carry_over
                .iter()
                .find(|number| **number >= state.next_external || !seen.insert(**number))
            {
                return wrong(format!(
                    "it carries over external event {number}, which it does not have"
                ));
            }
            ("bytes of the next execution's input", input.as_ref())
        }
    };
    let bytes = size_of(payload) as u64;
    if bytes > limits.payload_bytes {
        return over(what, "payload_bytes", bytes, limits.payload_bytes);
    }
    Ok(())
}
