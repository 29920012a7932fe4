//! Kinds of refused requests.

use crate::store::Reply;

/// No module defines the orchestration to start.
pub(crate) const UNKNOWN_ORCHESTRATION: &str = "UnknownOrchestration";
/// A name, id or payload is invalid.
pub(crate) const INVALID: &str = "Invalid";
/// Data in the hub cannot be read.
pub(crate) const CORRUPT: &str = "Corrupt";
/// Too many requests wait.
pub(crate) const OVERLOADED: &str = "Overloaded";
/// A quota is reached.
pub(crate) const QUOTA_EXCEEDED: &str = "QuotaExceeded";
/// The rewind would forget completed work, which the request does not allow.
pub(crate) const FORGETS: &str = "Forgets";
/// A payload exceeds its limit.
pub(crate) const LIMIT_EXCEEDED: &str = "LimitExceeded";

/// The reply to a request that is refused without a change.
pub(crate) fn refused(kind: &str, message: String) -> Reply {
    Reply::Refused {
        kind: kind.to_owned(),
        message,
    }
}
