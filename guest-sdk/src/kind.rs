//! Kinds of failure that the host or the SDK makes, for [`Failure::kind`](crate::Failure::kind).
//!
//! ```
//! use perennial_sdk::kind;
//! use perennial_sdk::prelude::*;
//!
//! async fn thumbnail(ctx: Context, picture: String) -> Result<Option<String>, Failure> {
//!     let resize = ctx.activity("Resize", picture).attempt_timeout(Duration::from_secs(30));
//!     match resize.await {
//!         Err(failure) if [kind::TIMEOUT, kind::OUT_OF_MEMORY].contains(&failure.kind()) => Ok(None),
//!         result => result.map(Some),
//!     }
//! }
//! ```

/// The code panicked; the message is the panic's, the trace its place.
pub const PANIC: &str = "Panic";
/// The code trapped without saying why; the trace is its call stack.
pub const TRAP: &str = "Trap";
/// An orchestration used up the fuel of one turn: it loops, or computes what an activity should.
pub const OUT_OF_FUEL: &str = "OutOfFuel";
/// The code asked for more memory than its limit.
pub const OUT_OF_MEMORY: &str = "OutOfMemory";
/// The code recursed too deeply.
pub const STACK_OVERFLOW: &str = "StackOverflow";
/// An attempt ran longer than its [`attempt_timeout`](crate::ActivityCall::attempt_timeout), or anything longer than the
/// [`timeout`](crate::Context::timeout) around it.
pub const TIMEOUT: &str = "Timeout";
/// An attempt sent no heartbeat for as long as its `heartbeat_timeout` allows.
pub const HEARTBEAT_TIMEOUT: &str = "HeartbeatTimeout";
/// An attempt of an activity that was called with `at_most_once` was cut off, so that nobody knows what it did. It is not tried again.
pub const OUTCOME_UNKNOWN: &str = "OutcomeUnknown";
/// No deployed module and no closure of the host's program has this activity.
pub const UNKNOWN_ACTIVITY: &str = "UnknownActivity";
/// No deployed module has this orchestration.
pub const UNKNOWN_ORCHESTRATION: &str = "UnknownOrchestration";
/// The id of a child is in use by an instance that lives.
pub const INSTANCE_EXISTS: &str = "InstanceExists";
/// A child was terminated.
pub const TERMINATED: &str = "Terminated";
/// A child was replaced by a new instance with its id.
pub const REPLACED: &str = "Replaced";
/// The code called what it must not: anything with an effect in an orchestration, what was not granted in an activity.
pub const FORBIDDEN_IMPORT: &str = "ForbiddenImport";
/// A payload, a list or a count was over its limit; the message names the limit.
pub const LIMIT_EXCEEDED: &str = "LimitExceeded";
/// An input, the data of an event or a status was not of the type that was expected, or could not be written.
pub const INVALID_INPUT: &str = "InvalidInput";
/// A result was not of the type that was expected, or could not be written.
pub const INVALID_OUTPUT: &str = "InvalidOutput";
/// A guest answered something that the contract does not allow.
pub const INVALID_ANSWER: &str = "InvalidAnswer";
/// An activity returned what is not JSON.
pub const INVALID_RESULT: &str = "InvalidResult";
/// An attempt stopped because its host is about to stop; another one follows when the next host has started.
pub const HOST_STOPPED: &str = "HostStopped";
/// An activity took its host down too often.
pub const HOST_CRASHED: &str = "HostCrashed";
/// The host could not run an attempt: a directory that was granted is missing, say.
pub const HOST_ERROR: &str = "HostError";
/// An attempt was interrupted because nobody waits for it any more; the instance that awaited it, or a child, was asked to cancel.
pub const CANCELED: &str = "Canceled";
/// A request was dropped without an answer, or its instance ended, does not exist or cannot answer requests.
pub const NOT_ANSWERED: &str = "NotAnswered";
/// The orchestration awaited what can never happen.
pub const FOREIGN_AWAIT: &str = "ForeignAwait";
/// A function was called that [`export!`](crate::export!) does not list.
pub const NOT_EXPORTED: &str = "NotExported";
/// The kind of a cause that says that a [compensation](crate::Compensation) failed too.
pub const COMPENSATION_FAILED: &str = "CompensationFailed";

#[cfg(test)]
mod tests {
    use perennial_core::kind as host;

    #[test]
    fn the_host_calls_them_the_same() {
        for (ours, hosts) in [
            (super::PANIC, host::PANIC),
            (super::TRAP, host::TRAP),
            (super::OUT_OF_FUEL, host::OUT_OF_FUEL),
            (super::OUT_OF_MEMORY, host::OUT_OF_MEMORY),
            (super::STACK_OVERFLOW, host::STACK_OVERFLOW),
            (super::TIMEOUT, host::TIMEOUT),
            (super::HEARTBEAT_TIMEOUT, host::HEARTBEAT_TIMEOUT),
            (super::OUTCOME_UNKNOWN, host::OUTCOME_UNKNOWN),
            (super::UNKNOWN_ACTIVITY, host::UNKNOWN_ACTIVITY),
            (super::UNKNOWN_ORCHESTRATION, host::UNKNOWN_ORCHESTRATION),
            (super::INSTANCE_EXISTS, host::INSTANCE_EXISTS),
            (super::TERMINATED, host::TERMINATED),
            (super::REPLACED, host::REPLACED),
            (super::FORBIDDEN_IMPORT, host::FORBIDDEN_IMPORT),
            (super::LIMIT_EXCEEDED, host::LIMIT_EXCEEDED),
            (super::INVALID_ANSWER, host::INVALID_ANSWER),
            (super::INVALID_RESULT, host::INVALID_RESULT),
            (super::HOST_STOPPED, host::HOST_STOPPED),
            (super::HOST_CRASHED, host::HOST_CRASHED),
            (super::HOST_ERROR, host::HOST_ERROR),
            (super::CANCELED, host::CANCELED),
            (super::NOT_ANSWERED, host::NOT_ANSWERED),
        ] {
            assert_eq!(ours, hosts);
        }
    }
}
