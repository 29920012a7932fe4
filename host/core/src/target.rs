//! What runs a task that was asked for.

use serde::{Deserialize, Serialize};

use crate::{Digest, Failure};

/// What runs a task that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// This module.
    Module(Digest),
    /// A closure of the embedding program.
    Native,
    /// Nothing has this name, so the task fails.
    Unknown,
    /// The input was over the limit, so the task fails.
    Oversized {
        /// Size of the input.
        bytes: u64,
        /// Size allowed.
        limit: u64,
    },
    /// The call was invalid for this reason, so the task fails.
    Invalid(String),
    /// There was no room for another instance for this reason, so the task fails.
    Full(String),
    /// A remote worker that is connected to the host, or will be.
    Remote,
}

/// The kinds of definitions that a guest can call by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Callee {
    /// An activity.
    Activity,
    /// An orchestration.
    Orchestration,
}

impl std::fmt::Display for Callee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Activity => "activity",
            Self::Orchestration => "orchestration",
        })
    }
}

impl Target {
    /// The failure of a task that nothing can run.
    pub fn failure(&self, what: Callee, name: &str) -> Option<Failure> {
        let failure = |kind, message| Some(Failure::permanent(kind, message));
        match self {
            Self::Module(_) | Self::Native | Self::Remote => None,
            Self::Unknown => match what {
                Callee::Activity => failure(
                    crate::kind::UNKNOWN_ACTIVITY,
                    format!(
                        "no deployed module, no registered closure and no connected worker has an activity named {name:?}"
                    ),
                ),
                Callee::Orchestration => failure(
                    crate::kind::UNKNOWN_ORCHESTRATION,
                    format!(
                        "no deployed module and no connected worker has an orchestration named {name:?}"
                    ),
                ),
            },
            Self::Oversized { bytes, limit } => failure(
                crate::kind::LIMIT_EXCEEDED,
                format!(
                    "the input of {what} {name:?} has {bytes} bytes; at most {limit} are allowed"
                ),
            ),
            Self::Invalid(why) => failure(
                crate::kind::INVALID_ANSWER,
                format!("{what} {name:?} was not called: {why}"),
            ),
            Self::Full(why) => failure(
                crate::kind::LIMIT_EXCEEDED,
                format!("{what} {name:?} was not started: {why}"),
            ),
        }
    }
}
