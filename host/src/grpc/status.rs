//! Errors as statuses of gRPC.
//!
//! Invariant: an error that the caller did not cause reveals nothing of the host's internals.

use tonic::{Code, Status};

use crate::client::{DISK_FULL, Error, LOCKED, lacking};

/// The status that tells a caller of an error.
pub(crate) fn status(error: &Error) -> Status {
    let code =
        if error.is_unknown_orchestration() || error.is_not_found() && !error.is_unknown_hub() {
            Code::NotFound
        } else if error.is_already_exists() {
            Code::AlreadyExists
        } else if error.is_wrong_state() || error.is_in_use() || error.would_forget() {
            Code::FailedPrecondition
        } else if error.is_quota_exceeded() {
            Code::ResourceExhausted
        } else if error.is_limit_exceeded() || error.is_invalid() {
            Code::InvalidArgument
        } else if error.is_overloaded() || error.is_queued() || error.is_withdrawn() {
            Code::Unavailable
        } else if error.is_shutting_down() {
            return shutting_down();
        } else if error.is_disk_full() {
            return Status::unavailable(DISK_FULL);
        } else if error.is_locked() {
            return Status::unavailable(LOCKED);
        } else if let Some(lacking) = lacking(error) {
            return Status::unavailable(lacking);
        } else {
            return internal(error);
        };
    Status::new(code, error.to_string())
}

/// The host stops; the caller can try again at the next one.
pub(crate) fn shutting_down() -> Status {
    Status::unavailable("the host is shutting down; connect again in a moment")
}

/// Logs an internal error under a random id, and tells the caller only the id.
fn internal(error: &Error) -> Status {
    let reference = uuid::Uuid::new_v4().simple().to_string();
    tracing::error!(%reference, %error, "a gRPC call failed");
    Status::internal(format!(
        "something went wrong; the log of the host says more under the reference {reference}"
    ))
}

#[cfg(test)]
mod tests {
    use perennial_core::{Rejection, Status as Runs};

    use super::*;

    #[test]
    fn each_error_has_the_code_that_clients_expect() {
        let rejected = |rejection| status(&Error::rejected("a", rejection)).code();
        assert_eq!(rejected(Rejection::NotFound), Code::NotFound);
        assert_eq!(
            rejected(Rejection::AlreadyExists(Runs::Running)),
            Code::AlreadyExists
        );
        assert_eq!(
            rejected(Rejection::NotFailed(Runs::Running)),
            Code::FailedPrecondition
        );
        assert_eq!(rejected(Rejection::TooManyUnread), Code::ResourceExhausted);
        assert_eq!(status(&Error::invalid("x")).code(), Code::InvalidArgument);
    }

    #[test]
    fn what_the_caller_did_not_cause_is_only_in_the_log() {
        let panicked = Error::panicked();
        let told = status(&panicked);
        assert_eq!(told.code(), Code::Internal);
        assert!(!told.message().contains(&panicked.to_string()));
    }
}
