//! Exit codes, and the errors of the command line itself.

use std::fmt;
use std::process::ExitCode;

/// Exit code of the process. Documented in the help; scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Success.
    Ok,
    /// Something failed, or the instance that was waited for did not complete.
    Error,
    /// The command line is invalid.
    Usage,
    /// No such instance, module, orchestration or hub.
    NotFound,
    /// The state of the instance, name or hub forbids the command.
    WrongState,
    /// Timed out waiting.
    TimedOut,
    /// A check failed: of a hub, or of a module that live instances could not go on with or that needs `--replace`.
    Differs,
    /// Ended by a signal: the code that shells give SIGINT.
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

    /// The exit code for an error of the library.
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

/// An error that the command line itself raises, with its exit code and a hint.
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

    /// The stack trace, printed for people only: JSON has the whole failure.
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
