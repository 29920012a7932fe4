//! What parents say of the instances that they start.

use serde::{Deserialize, Serialize};

use crate::Millis;

/// How long an execution has to clean up after it was asked to cancel, unless whoever asked said otherwise.
pub const CANCELLATION_GRACE: Millis = Millis(60_000);

/// Which instances one may replace that an orchestration starts under an id that is taken. The order of the variants is part of the stored
/// format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdReuse {
    /// One that has ended.
    #[default]
    Ended,
    /// None.
    Never,
}

/// What becomes of a child that its parent no longer waits for: because it cancelled the task, or because it ended. The order of the
/// variants is part of the stored format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChildPolicy {
    /// It runs on by itself.
    #[default]
    Abandon,
    /// It is asked to cancel.
    Cancel,
    /// It is terminated.
    Terminate,
}

/// What a parent tells a child that it waits for. The order of the variants is part of the stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChildCommand {
    /// It is asked to cancel.
    Cancel,
    /// It is terminated.
    Terminate,
}

impl ChildPolicy {
    /// What the child is told, if it is told something.
    pub fn command(self) -> Option<ChildCommand> {
        match self {
            Self::Abandon => None,
            Self::Cancel => Some(ChildCommand::Cancel),
            Self::Terminate => Some(ChildCommand::Terminate),
        }
    }
}

impl std::fmt::Display for ChildCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cancel => "cancel",
            Self::Terminate => "terminate",
        })
    }
}
