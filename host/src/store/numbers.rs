//! The numbers that stand for states in the rows of a store.

use perennial_core::{ChildPolicy, Status};

use crate::store::StoreError;

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
