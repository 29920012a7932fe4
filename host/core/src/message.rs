//! Messages: what happened for an instance and is not part of its history yet.

use serde::{Deserialize, Serialize};

use crate::{AttemptRun, Digest, FailedAttempt, Failure, Json, Start, TaskRef, Timestamp};

/// A message for an instance. As with [`Event`](crate::Event), the order of variants and fields is part of the stored format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Begin.
    Start(Box<Start>),
    /// A message from outside.
    ExternalEvent {
        /// The number it had in an earlier execution, where it moved over from there.
        number: Option<u32>,
        /// What it is called.
        name: String,
        /// Its payload.
        data: Option<Json>,
    },
    /// An activity's last attempt ended.
    ActivityEnded {
        /// Which activity.
        task: TaskRef,
        /// How.
        outcome: Result<Option<Json>, Failure>,
        /// The attempt.
        run: AttemptRun,
    },
    /// A child's execution ended.
    ChildEnded {
        /// Which child.
        task: TaskRef,
        /// Which try it was, from 1.
        attempt: u32,
        /// How.
        outcome: Result<Option<Json>, Failure>,
    },
    /// A timer came due.
    TimerFired {
        /// Which.
        task: TaskRef,
    },
    /// The next try of a child came due.
    ChildDue {
        /// Which.
        task: TaskRef,
        /// The try that is due, from 2.
        attempt: u32,
    },
    /// An instance that was asked for was not started.
    StartSkipped {
        /// Its id.
        instance_id: String,
        /// Why not.
        reason: String,
    },
    /// Hold everything.
    Suspend {
        /// Why.
        reason: Option<String>,
        /// Whether it is meant for what is below the instance too.
        recursive: bool,
    },
    /// Go on.
    Resume {
        /// Why.
        reason: Option<String>,
        /// The module to go on with, where a quarantined execution is to leave its own.
        module: Option<Digest>,
        /// Whether it is meant for what is below the instance too.
        recursive: bool,
    },
    /// End.
    Terminate {
        /// Why.
        reason: Option<String>,
        /// Whether it is meant for what is below the instance too.
        recursive: bool,
    },
    /// Attempts of an activity that failed before its last one. Comes right before its end.
    AttemptsFailed {
        /// Which activity.
        task: TaskRef,
        /// Those that are kept, in order.
        attempts: Vec<FailedAttempt>,
    },
    /// The custom status that the execution before this one left.
    CustomStatus {
        /// What it shows.
        value: Json,
    },
}

impl Message {
    /// Whether this is a command about the instance itself, which gets a turn of its own.
    pub fn is_control(&self) -> bool {
        matches!(
            self,
            Self::Suspend { .. } | Self::Resume { .. } | Self::Terminate { .. }
        )
    }

    /// Whether it is a command that is meant for the children of the instance too.
    pub fn is_recursive(&self) -> bool {
        match self {
            Self::Suspend { recursive, .. }
            | Self::Resume { recursive, .. }
            | Self::Terminate { recursive, .. } => *recursive,
            Self::Start(_)
            | Self::ExternalEvent { .. }
            | Self::ActivityEnded { .. }
            | Self::ChildEnded { .. }
            | Self::TimerFired { .. }
            | Self::ChildDue { .. }
            | Self::StartSkipped { .. }
            | Self::AttemptsFailed { .. }
            | Self::CustomStatus { .. } => false,
        }
    }

    /// The custom status that it carries over.
    pub(crate) fn custom_status(&self) -> Option<&Json> {
        if let Self::CustomStatus { value } = self {
            return Some(value);
        }
        None
    }

    /// Bytes that it adds to a turn, roughly.
    pub fn size(&self) -> usize {
        match self {
            Self::Start(start) => crate::value::size_of(start.input.as_ref()) + 256,
            Self::ExternalEvent { name, data, .. } => {
                name.len() + crate::value::size_of(data.as_ref()) + 16
            }
            Self::ActivityEnded { outcome, .. } | Self::ChildEnded { outcome, .. } => match outcome
            {
                Ok(output) => crate::value::size_of(output.as_ref()) + 16,
                Err(failure) => failure.size() + 16,
            },
            Self::AttemptsFailed { attempts, .. } => {
                attempts.iter().map(|one| one.failure.size() + 16).sum()
            }
            Self::StartSkipped {
                instance_id,
                reason,
            } => instance_id.len() + reason.len(),
            Self::CustomStatus { value } => value.size() + 16,
            Self::TimerFired { .. }
            | Self::ChildDue { .. }
            | Self::Suspend { .. }
            | Self::Resume { .. }
            | Self::Terminate { .. } => 16,
        }
    }
}

/// A message and, where it is durable already, its place in the inbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// Its number in the instance's inbox; `None` where it is only in memory and the turn that takes it makes it durable.
    pub seq: Option<u64>,
    /// When it came in, by the host's clock; of what came due: when that was. The beginning of time where nobody asks.
    pub at: Timestamp,
    /// The message.
    pub message: Message,
}

impl Envelope {
    /// A message that is only in memory, and comes before whatever is due.
    pub fn in_memory(message: Message) -> Self {
        Self::came(message, Timestamp(0))
    }

    /// A message that is only in memory and came in, or came due, at this time.
    pub fn came(message: Message, at: Timestamp) -> Self {
        Self {
            seq: None,
            at,
            message,
        }
    }

    /// Whether it says that something came due.
    pub(crate) fn is_due(&self) -> bool {
        matches!(
            self.message,
            Message::TimerFired { .. } | Message::ChildDue { .. }
        )
    }
}
