//! The numbers that stand for states in the rows of a store.

use perennial_core::{ChildPolicy, Status};

use crate::store::StoreError;
use crate::store::types::{DefinitionKind, TaskRowKind};

/// The number of a status in a store.
pub(crate) fn status_number(status: Status) -> u8 {
    match status {
        Status::Pending => 0,
        Status::Running => 1,
        Status::Suspended => 2,
        Status::Completed => 3,
        Status::Failed => 4,
        Status::Terminated => 5,
    }
}

/// The inverse of [`status_number`].
pub(crate) fn status_of(number: u8) -> Result<Status, StoreError> {
    let found = Status::ALL
        .into_iter()
        .find(|status| status_number(*status) == number);
    found.ok_or_else(|| StoreError::Corrupt(format!("{number} is no status")))
}

/// The number of a policy in a store; `None` is the default.
pub(crate) fn policy_number(policy: ChildPolicy) -> Option<u8> {
    match policy {
        ChildPolicy::Abandon => None,
        ChildPolicy::Cancel => Some(1),
        ChildPolicy::Terminate => Some(2),
    }
}

/// The inverse of [`policy_number`].
pub(crate) fn policy_of(number: Option<u8>) -> Result<ChildPolicy, StoreError> {
    Ok(match number {
        None => ChildPolicy::Abandon,
        Some(1) => ChildPolicy::Cancel,
        Some(2) => ChildPolicy::Terminate,
        Some(other) => {
            let what = format!("{other} is nothing that becomes of a child");
            return Err(StoreError::Corrupt(what));
        }
    })
}

/// The number of a kind of task in a store.
pub(crate) fn task_kind_number(kind: TaskRowKind) -> u8 {
    match kind {
        TaskRowKind::Activity => 0,
        TaskRowKind::Timer => 1,
        TaskRowKind::ChildRetry => 2,
        TaskRowKind::Start => 3,
        TaskRowKind::TimerAt => 4,
        TaskRowKind::Grace => 5,
        TaskRowKind::Limit => 6,
    }
}

/// The inverse of [`task_kind_number`].
pub(crate) fn task_kind_of(number: u8) -> Result<TaskRowKind, StoreError> {
    match number {
        0 => Ok(TaskRowKind::Activity),
        1 => Ok(TaskRowKind::Timer),
        2 => Ok(TaskRowKind::ChildRetry),
        3 => Ok(TaskRowKind::Start),
        4 => Ok(TaskRowKind::TimerAt),
        5 => Ok(TaskRowKind::Grace),
        6 => Ok(TaskRowKind::Limit),
        other => Err(StoreError::Corrupt(format!("{other} is no kind of task"))),
    }
}

/// The number of a kind of definition in a store.
pub(crate) fn definition_number(kind: DefinitionKind) -> u8 {
    match kind {
        DefinitionKind::Orchestration => 0,
        DefinitionKind::Activity => 1,
    }
}

/// The inverse of [`definition_number`].
pub(crate) fn definition_kind_of(number: u8) -> Result<DefinitionKind, StoreError> {
    match number {
        0 => Ok(DefinitionKind::Orchestration),
        1 => Ok(DefinitionKind::Activity),
        other => Err(StoreError::Corrupt(format!(
            "{other} is no kind of definition"
        ))),
    }
}
