//! Why an activity or an orchestration did not produce a result.

use std::error::Error;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::bindings::types::Cause;
use crate::bindings::types::{self as wit, TaskId};

/// Why an activity or an orchestration did not produce a result.
///
/// `kind` is for code, `message` for people, `details` for programs that want more. Like the error types of other application-level
/// crates it does not implement [`Error`], so that `?` turns *any* error into one: the kind is then the name of the error's type, and
/// its chain of sources becomes the [causes](Self::causes).
///
/// ```
/// use perennial_sdk::Failure;
///
/// fn charge(cents: &str) -> Result<u64, Failure> {
///     let cents: u64 = cents.parse()?;
///     if cents > 10_000 {
///         return Err(Failure::new("CardDeclined", format!("the limit is 10000, not {cents}")).not_retryable());
///     }
///     Ok(cents)
/// }
///
/// assert_eq!(charge("x").unwrap_err().kind(), "ParseIntError");
/// assert_eq!(charge("10001").unwrap_err().kind(), "CardDeclined");
/// ```
pub struct Failure(Box<Inner>);

// Boxed, because every `Result` of an orchestration has room for one.
struct Inner {
    failure: wit::Failure,
    /// The task that failed with this. It follows the failure through `?`, so that a rewind knows which task to try again.
    origin: Option<TaskId>,
    /// Present in the value that [`Context::continue_as_new`](crate::Context::continue_as_new) makes, which is no failure.
    continuation: Option<Continued>,
}

impl Failure {
    /// A failure that a retry policy may try again.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self::from_wit(
            wit::Failure {
                kind: kind.into(),
                message: message.into(),
                details: None,
                retryable: true,
                trace: None,
                causes: Vec::new(),
            },
            None,
        )
    }

    /// Says that trying again cannot help: no retry policy will.
    #[must_use]
    pub fn not_retryable(mut self) -> Self {
        self.0.failure.retryable = false;
        self
    }

    /// Adds data for programs. What serde cannot write as JSON is left out, with a word in the message.
    #[must_use]
    pub fn with_details(mut self, details: &impl Serialize) -> Self {
        match serde_json::to_string(details) {
            Ok(text) => self.0.failure.details = Some(text),
            Err(error) => self
                .0
                .failure
                .message
                .push_str(&format!(" (details left out: {error})")),
        }
        self
    }

    /// Names what led to this: any error, or another failure. Its own causes follow it.
    ///
    /// A failure of a task that is wrapped so still counts as that task's failure when the orchestration ends with it.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Self>) -> Self {
        let cause = cause.into().0;
        let failure = cause.failure;
        let causes = &mut self.0.failure.causes;
        causes.push(Cause {
            kind: failure.kind,
            message: failure.message,
            trace: failure.trace,
        });
        causes.extend(failure.causes);
        self.0.origin = self.0.origin.or(cause.origin);
        self
    }

    /// A stable name that code can match on, such as `CardDeclined`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.0.failure.kind
    }

    /// The message, for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.failure.message
    }

    /// More, for programs: absent if there is none, or if it is not a `T`.
    #[must_use]
    pub fn details<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.0.failure.details.as_deref()?).ok()
    }

    /// Whether a retry policy may try again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.failure.retryable
    }

    /// A stack trace, where the side that failed had one.
    #[must_use]
    pub fn trace(&self) -> Option<&str> {
        self.0.failure.trace.as_deref()
    }

    /// The causes, nearest first.
    #[must_use]
    pub fn causes(&self) -> &[Cause] {
        &self.0.failure.causes
    }

    /// Records the task that this failure comes from.
    pub(crate) fn of_task(mut self, task: Option<TaskId>) -> Self {
        self.0.origin = task;
        self
    }

    /// Adds a cause for a further error, and keeps the task that this failure comes from.
    pub(crate) fn push_cause(&mut self, cause: Cause) {
        self.0.failure.causes.push(cause);
    }

    /// Whether this is the value that continues as new, and no failure.
    pub(crate) fn is_continuation(&self) -> bool {
        self.0.continuation.is_some()
    }

    pub(crate) fn from_wit(failure: wit::Failure, origin: Option<TaskId>) -> Self {
        Self(Box::new(Inner {
            failure,
            origin,
            continuation: None,
        }))
    }

    pub(crate) fn continued(continuation: Continued) -> Self {
        let mut this = Self::new(
            "ContinuedAsNew",
            "the orchestration continues as new: return this value",
        )
        .not_retryable();
        this.0.continuation = Some(continuation);
        this
    }

    pub(crate) fn into_end(self) -> End {
        let Inner {
            failure,
            origin,
            continuation,
        } = *self.0;
        match continuation {
            Some(continuation) => End::Continued(continuation),
            None => End::Failed { failure, origin },
        }
    }

    pub(crate) fn into_wit(self) -> wit::Failure {
        self.0.failure
    }
}

/// The end of an execution without a result.
pub(crate) enum End {
    Failed {
        failure: wit::Failure,
        origin: Option<TaskId>,
    },
    Continued(Continued),
}

/// The parameters of continue-as-new.
pub(crate) struct Continued {
    pub(crate) input: Option<String>,
    pub(crate) version: Option<String>,
    /// Whether external events that were not consumed move over. Their numbers are known only at the end.
    pub(crate) keep_events: bool,
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut failure = Self::new(type_kind::<E>(), error.to_string());
        let mut source = error.source();
        while let Some(error) = source {
            failure.0.failure.causes.push(Cause {
                kind: "Error".to_owned(),
                message: error.to_string(),
                trace: None,
            });
            source = error.source();
        }
        failure
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind(), self.message())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        for cause in self.causes() {
            write!(f, "\n  caused by {}: {}", cause.kind, cause.message)?;
        }
        Ok(())
    }
}

/// The last part of a type's path, without what it is generic over: `ParseIntError`.
fn type_kind<E>() -> &'static str {
    let name = std::any::type_name::<E>();
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}
