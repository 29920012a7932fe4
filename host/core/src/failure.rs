//! Failures as data: what happened to an activity or an orchestration, for code and for people.

use serde::{Deserialize, Serialize};

use crate::bounds::{
    CAUSE_MESSAGE_BYTES, CAUSE_TRACE_BYTES, FAILURE_CAUSES, FAILURE_KIND_BYTES,
    FAILURE_MESSAGE_BYTES, FAILURE_TRACE_BYTES,
};
use crate::text::{bounded, is_cut_of};
use crate::{Json, Unreadable, closest};

/// Why an activity or an orchestration did not produce a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable name that code can match on, such as `CardDeclined`. The host's own are in [`kind`].
    pub kind: String,
    /// The message, for people.
    pub message: String,
    /// Data about it, for programs.
    pub details: Option<Json>,
    /// Whether trying again may help. A retry policy never retries a failure that says it will not.
    pub retryable: bool,
    /// Where it happened, such as a source location or a wasm backtrace.
    pub trace: Option<String>,
    /// The chain of causes, nearest first.
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

    /// Where nothing has the name that was called: says which was probably meant, of those that there are, or that the name is there and
    /// what is missing is its version.
    #[must_use]
    pub fn meant<'a>(mut self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        if ![kind::UNKNOWN_ACTIVITY, kind::UNKNOWN_ORCHESTRATION].contains(&self.kind.as_str()) {
            return self;
        }
        match closest(name, known) {
            Some(meant) if meant == name => {
                self.message += " in the version that was asked for";
            }
            Some(meant) => self.message += &format!("; did you mean {meant:?}?"),
            None => {}
        }
        self
    }

    /// What comes in of a failure that a guest, a closure or an embedding program gives: each text of it is cut at its bound, and
    /// details over `payload_bytes`, or too deep to be read, give way to a text that says so.
    #[must_use]
    pub fn bounded(self, payload_bytes: u64) -> Self {
        let Self {
            kind,
            message,
            details,
            retryable,
            trace,
            mut causes,
        } = self;
        let more = causes.len().saturating_sub(FAILURE_CAUSES);
        causes.truncate(FAILURE_CAUSES);
        let mut causes: Vec<Cause> = causes.into_iter().map(Cause::bounded).collect();
        if let (1.., Some(last)) = (more, causes.last_mut()) {
            last.message = bounded(
                std::mem::take(&mut last.message) + &left_out(more),
                CAUSE_MESSAGE_BYTES + 32,
            );
        }
        Self {
            kind: bounded(kind, FAILURE_KIND_BYTES),
            message: bounded(message, FAILURE_MESSAGE_BYTES),
            details: details.map(|details| bounded_details(details, payload_bytes)),
            retryable,
            trace: trace.map(|trace| bounded(trace, FAILURE_TRACE_BYTES)),
            causes,
        }
    }

    /// Whether this is what some bound left of `whole`, or all of it. A history keeps what the bounds of its time left.
    pub(crate) fn is_of(&self, whole: &Self) -> bool {
        let same = |kept: &str, whole: &str| kept == whole || is_cut_of(kept, whole);
        let same_trace = |kept: &Option<String>, whole: &Option<String>| match (kept, whole) {
            (Some(kept), Some(whole)) => same(kept, whole),
            (kept, whole) => kept == whole,
        };
        let same_causes = || {
            let kept = self.causes.len();
            let more = whole.causes.len().checked_sub(kept);
            more.is_some_and(|more| {
                self.causes
                    .iter()
                    .zip(&whole.causes)
                    .enumerate()
                    .all(|(i, (cause, of))| {
                        let message = match more {
                            1.. if i + 1 == kept => cause.message.strip_suffix(&left_out(more)),
                            _ => Some(&*cause.message),
                        };
                        same(&cause.kind, &of.kind)
                            && message.is_some_and(|message| same(message, &of.message))
                            && same_trace(&cause.trace, &of.trace)
                    })
            })
        };
        let same_details = match (&self.details, &whole.details) {
            (Some(kept), Some(of)) => {
                kept == of || *kept == cut_details(of) || is_left_of_unreadable(kept, of)
            }
            (kept, of) => kept == of,
        };
        self == whole
            || (self.retryable == whole.retryable
                && same(&self.kind, &whole.kind)
                && same(&self.message, &whole.message)
                && same_details
                && same_trace(&self.trace, &whole.trace)
                && same_causes())
    }

    /// Bytes that it takes in a history, roughly.
    pub fn size(&self) -> usize {
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

impl Cause {
    fn bounded(self) -> Self {
        Self {
            kind: bounded(self.kind, FAILURE_KIND_BYTES),
            message: bounded(self.message, CAUSE_MESSAGE_BYTES),
            trace: self.trace.map(|trace| bounded(trace, CAUSE_TRACE_BYTES)),
        }
    }
}

/// What the last cause that is kept says of the others.
fn left_out(causes: usize) -> String {
    format!(" … ({causes} more)")
}

fn bounded_details(details: Json, payload_bytes: u64) -> Json {
    if details.size() as u64 > payload_bytes {
        return cut_details(&details);
    }
    match details.check_readable() {
        Ok(()) => details,
        Err(why) => unreadable_details(why),
    }
}

fn cut_details(details: &Json) -> Json {
    Json::from_text(format!("\"… (cut: {} bytes)\"", details.size()))
}

/// Whether details are what was kept instead of others that clients could not read.
fn is_left_of_unreadable(kept: &Json, of: &Json) -> bool {
    /// What hosts said of all of them when depth was the only reason.
    const EARLIER: &str =
        "\"… (cut: arrays and objects nested deeper than the 128 levels that JSON_LEVELS allows)\"";
    let why = of.check_readable();
    why.is_err_and(|why| *kept == unreadable_details(why) || kept.as_str() == EARLIER)
}

fn unreadable_details(why: Unreadable) -> Json {
    Json::from_text(format!("\"… (cut: {why})\""))
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.message.as_str() {
            "" => f.write_str(&self.kind),
            message => write!(f, "{}: {message}", self.kind),
        }
    }
}

/// Size of an output or a failure.
pub(crate) fn answer_size(outcome: &Result<Option<Json>, Failure>) -> usize {
    match outcome {
        Ok(output) => crate::value::size_of(output.as_ref()),
        Err(failure) => failure.size(),
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
    /// An attempt sent no heartbeat for as long as its call allows.
    pub const HEARTBEAT_TIMEOUT: &str = "HeartbeatTimeout";
    /// An attempt of an activity that is to run at most once was cut off: nobody knows what it did.
    pub const OUTCOME_UNKNOWN: &str = "OutcomeUnknown";
    /// An attempt was cut off, or stopped, because its host was stopped in good order; another one follows.
    pub const HOST_STOPPED: &str = "HostStopped";
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
    /// The instance ended, or cannot answer requests: the request will not be answered.
    pub const NOT_ANSWERED: &str = "NotAnswered";
    /// The host could not run an attempt: its module or a directory that it was granted is missing, say.
    pub const HOST_ERROR: &str = "HostError";
    /// An activity's result could not be used.
    pub const INVALID_RESULT: &str = "InvalidResult";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn huge() -> Failure {
        let text = "é".repeat(20_000);
        Failure {
            details: Some(Json::from_text(format!("{text:?}"))),
            trace: Some(text.clone()),
            causes: (0..100)
                .map(|i| Cause {
                    kind: text.clone(),
                    message: if i % 2 == 0 {
                        text.clone()
                    } else {
                        i.to_string()
                    },
                    trace: Some(text.clone()),
                })
                .collect(),
            ..Failure::retryable(text.clone(), text)
        }
    }

    #[test]
    fn a_failure_of_any_size_comes_in_bounded_and_says_what_was_cut() {
        let whole = huge();
        let kept = whole.clone().bounded(1_000);
        assert!(kept.size() < 300 << 10, "{}", kept.size());
        assert!(kept.message.ends_with("é… (cut: 40000 bytes)"));
        assert!(kept.kind.ends_with("… (cut: 40000 bytes)"));
        assert!(
            kept.trace
                .as_deref()
                .unwrap()
                .ends_with("… (cut: 40000 bytes)")
        );
        assert_eq!(kept.causes.len(), FAILURE_CAUSES);
        assert_eq!(kept.causes.last().unwrap().message, "15 … (84 more)");
        assert_eq!(
            kept.details.as_ref().unwrap().as_str(),
            "\"… (cut: 40002 bytes)\""
        );
        assert!(kept.retryable);
        assert_eq!(
            kept.clone().bounded(1_000),
            kept,
            "what came in once stays as it is"
        );

        let deep = Failure {
            details: Some(Json::from_text("[".repeat(500) + &"]".repeat(500))),
            ..Failure::permanent("a", "b")
        };
        let details = deep.clone().bounded(1_000).details.unwrap();
        assert!(details.as_str().contains("128 levels"), "{details}");

        let small = Failure::permanent("Declined", "no money");
        assert_eq!(small.clone().bounded(1_000), small);
    }

    #[test]
    fn what_a_bound_left_is_known_for_what_it_is_of() {
        let whole = huge();
        let kept = whole.clone().bounded(1_000);
        assert!(kept.is_of(&whole));
        assert!(whole.is_of(&whole));
        let mut other = huge();
        other.message.insert(0, 'x');
        assert!(!kept.is_of(&other));
        let mut other = huge();
        other.causes.pop();
        assert!(!kept.is_of(&other));
        let mut other = huge();
        other.details = None;
        assert!(!kept.is_of(&other));
        assert!(!kept.is_of(&Failure::permanent("a", "b")));
    }
}
