//! Answers to requests that are refused without a change, by kind.

use crate::store::Reply;

/// A start of an orchestration that no module defines.
pub(crate) const UNKNOWN_ORCHESTRATION: &str = "UnknownOrchestration";
/// A name, id or payload that cannot be.
pub(crate) const INVALID: &str = "Invalid";
/// What the hub has cannot be read.
pub(crate) const CORRUPT: &str = "Corrupt";
/// More waits than the host can take.
pub(crate) const OVERLOADED: &str = "Overloaded";
/// A quota that is used up.
pub(crate) const QUOTA_EXCEEDED: &str = "QuotaExceeded";
/// A rewind that would forget completed work, which nobody asked for.
pub(crate) const FORGETS: &str = "Forgets";
/// A payload over its limit.
pub(crate) const LIMIT_EXCEEDED: &str = "LimitExceeded";

/// What is answered to a request that is refused without a change.
pub(crate) fn refused(kind: &str, message: String) -> Reply {
    Reply::Refused {
        kind: kind.to_owned(),
        message,
    }
}
