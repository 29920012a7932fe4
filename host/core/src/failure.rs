//! Failures as data: what happened to an activity or an orchestration, for code and for people.

use serde::{Deserialize, Serialize};

use crate::Json;

/// Why an activity or an orchestration did not produce a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable name that code can match on, such as `CardDeclined`. The host's own are in [`kind`].
    pub kind: String,
    /// What happened, for people.
    pub message: String,
    /// More, for programs.
    pub details: Option<Json>,
    /// Whether trying again may help. A retry policy never retries a failure that says it will not.
    pub retryable: bool,
    /// Where it happened, such as a source location or a wasm backtrace.
    pub trace: Option<String>,
    /// What led to it, nearest first.
    pub causes: Vec<Cause>,
}

/// One link of the chain that led to a [`Failure`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// As [`Failure::kind`].
    pub kind: String,
    /// As [`Failure::message`].
    pub message: String,
    /// As [`Failure::trace`].
    pub trace: Option<String>,
}

impl Failure {
    /// A failure that trying again does not help.
    pub fn permanent(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            message: message.into(),
            details: None,
            retryable: false,
            trace: None,
            causes: Vec::new(),
        }
    }

    /// A failure that may go away when tried again.
    pub fn retryable(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            retryable: true,
            ..Self::permanent(kind, message)
        }
    }

    /// Bytes that it takes in a history, roughly.
    pub(crate) fn size(&self) -> usize {
        let text = |t: &Option<String>| t.as_ref().map_or(0, String::len);
        let causes: usize = self
            .causes
            .iter()
            .map(|c| c.kind.len() + c.message.len() + text(&c.trace))
            .sum();
        self.kind.len()
            + self.message.len()
            + text(&self.trace)
            + causes
            + crate::value::size_of(self.details.as_ref())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.message.as_str() {
            "" => f.write_str(&self.kind),
            message => write!(f, "{}: {message}", self.kind),
        }
    }
}

/// The kinds of failure that the host itself reports.
pub mod kind {
    /// A turn used up its fuel.
    pub const OUT_OF_FUEL: &str = "OutOfFuel";
    /// The guest asked for more memory than its limit.
    pub const OUT_OF_MEMORY: &str = "OutOfMemory";
    /// The guest recursed too deeply.
    pub const STACK_OVERFLOW: &str = "StackOverflow";
    /// The guest panicked.
    pub const PANIC: &str = "Panic";
    /// The guest trapped without saying why.
    pub const TRAP: &str = "Trap";
    /// The guest answered something that the contract does not allow.
    pub const INVALID_ANSWER: &str = "InvalidAnswer";
    /// A payload, list or count was over its limit; the message names the limit.
    pub const LIMIT_EXCEEDED: &str = "LimitExceeded";
    /// The guest called something that an orchestration must not call.
    pub const FORBIDDEN_IMPORT: &str = "ForbiddenImport";
    /// No deployed module and no registered closure has this activity.
    pub const UNKNOWN_ACTIVITY: &str = "UnknownActivity";
    /// No deployed module has this orchestration.
    pub const UNKNOWN_ORCHESTRATION: &str = "UnknownOrchestration";
    /// The id of a child is in use already.
    pub const INSTANCE_EXISTS: &str = "InstanceExists";
    /// An attempt ran longer than it was allowed to.
    pub const TIMEOUT: &str = "Timeout";
    /// An activity took its host down too often.
    pub const HOST_CRASHED: &str = "HostCrashed";
    /// The instance was terminated.
    pub const TERMINATED: &str = "Terminated";
    /// The instance was replaced by a new one with the same id.
    pub const REPLACED: &str = "Replaced";
    /// A child was deleted before its parent was told how it ended.
    pub const PURGED: &str = "Purged";
    /// An attempt was interrupted because nobody waits for it any more.
    pub const CANCELED: &str = "Canceled";
    /// The host could not run an attempt: its module or a directory that it was granted is missing, say.
    pub const HOST_ERROR: &str = "HostError";
    /// An activity's result could not be used.
    pub const INVALID_RESULT: &str = "InvalidResult";
}
