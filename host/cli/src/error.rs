//! Exit codes, and the errors of the command line itself.

use std::fmt;
use std::process::ExitCode;

/// What the process answers with. Documented in the help; scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok,
    /// Something failed, or the instance that was waited for did not complete.
    Error,
    /// The command line makes no sense.
    Usage,
    /// There is no such thing.
    NotFound,
    /// There is, but its state forbids it.
    WrongState,
    /// The time ran out.
    TimedOut,
    /// What was checked is not as it should be: a module that live instances or other modules could not go on with, or a hub.
    Differs,
    /// A signal ended it, as shells number it.
    Interrupted,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Error => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::WrongState => 4,
            Self::TimedOut => 5,
            Self::Differs => 6,
            Self::Interrupted => 130,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Usage => "usage",
            Self::NotFound => "notFound",
            Self::WrongState => "wrongState",
            Self::TimedOut => "timedOut",
            Self::Differs => "differs",
            Self::Interrupted => "interrupted",
        }
    }

    /// What an error of the library means.
    pub(crate) fn of(error: &perennial::Error) -> Self {
        if error.is_not_found() || error.is_unknown_orchestration() {
            Self::NotFound
        } else if error.is_wrong_state() || error.is_name_taken() || error.is_owned() {
            Self::WrongState
        } else if error.is_invalid() {
            Self::Usage
        } else {
            Self::Error
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// An error of the command line's own, with its exit code and what to do about it.
#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    pub(crate) causes: Vec<String>,
    pub(crate) trace: Option<String>,
    pub(crate) hint: Option<String>,
}

impl CliError {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            causes: Vec::new(),
            trace: None,
            hint: None,
        }
    }

    /// What led to it, nearest first.
    pub(crate) fn causes(mut self, causes: Vec<String>) -> Self {
        self.causes = causes;
        self
    }

    /// Where it happened, over several lines; for people, since programs are told the whole failure.
    pub(crate) fn trace(mut self, trace: Option<String>) -> Self {
        self.trace = trace;
        self
    }

    /// What to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The hint, if there is one.
    pub(crate) fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}
