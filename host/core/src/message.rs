//! Messages: what happened for an instance and is not part of its history yet.

use serde::{Deserialize, Serialize};

use crate::{
    AttemptRun, Digest, Event, FailedAttempt, Failure, Json, Millis, Start, TaskRef, Timestamp,
};

/// A message for an instance. As with [`Event`](crate::Event), the order of variants and fields is part of the stored format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Starts the execution.
    Start(Box<Start>),
    /// An external event was raised.
    ExternalEvent {
        /// Its number in an earlier execution, if it moved over from there.
        number: Option<u32>,
        /// Its name.
        name: String,
        /// Its payload.
        data: Option<Json>,
    },
    /// An activity's last attempt ended.
    ActivityEnded {
        /// The activity's task.
        task: TaskRef,
        /// Its output or failure.
        outcome: Result<Option<Json>, Failure>,
        /// The last attempt.
        run: AttemptRun,
    },
    /// A child's execution ended.
    ChildEnded {
        /// The child's task.
        task: TaskRef,
        /// The attempt that ended, from 1.
        attempt: u32,
        /// Its output or failure.
        outcome: Result<Option<Json>, Failure>,
    },
    /// A timer came due.
    TimerFired {
        /// The timer's task.
        task: TaskRef,
    },
    /// The next attempt of a child came due.
    ChildDue {
        /// The child's task.
        task: TaskRef,
        /// The attempt that is due, from 2.
        attempt: u32,
    },
    /// An instance that was asked for was not started.
    StartSkipped {
        /// The id that was asked for.
        instance_id: String,
        /// Why it was not started.
        reason: String,
    },
    /// Suspends the instance.
    Suspend {
        /// The reason given.
        reason: Option<String>,
        /// Whether it applies to the children of the instance too.
        recursive: bool,
    },
    /// Resumes the instance.
    Resume {
        /// The reason given.
        reason: Option<String>,
        /// The module that a quarantined execution is to continue with in place of its own.
        module: Option<Digest>,
        /// Whether it applies to the children of the instance too.
        recursive: bool,
    },
    /// Terminates the instance.
    Terminate {
        /// The reason given.
        reason: Option<String>,
        /// Whether it applies to the children of the instance too.
        recursive: bool,
    },
    /// Failed attempts of an activity before its last one. Comes directly before the activity's end.
    AttemptsFailed {
        /// The activity's task.
        task: TaskRef,
        /// The attempts that are kept, in order.
        attempts: Vec<FailedAttempt>,
    },
    /// The custom status that the previous execution left.
    CustomStatus {
        /// The status.
        value: Json,
    },
    /// The named values that the previous execution left.
    Values {
        /// Each with its name, in the order of the names.
        values: Vec<(String, Json)>,
    },
    /// Asks the instance to end in good order.
    Cancel {
        /// The reason given.
        reason: Option<String>,
        /// How long it has to clean up.
        grace: Millis,
        /// Whether it applies to the children of the instance too.
        recursive: bool,
    },
    /// The time limit of the execution is over.
    TimeLimit {
        /// How long it has to clean up.
        grace: Millis,
    },
    /// The time to clean up is over that a cancellation gave.
    GraceOver {
        /// The execution that was asked to cancel.
        execution: u32,
        /// Its generation then.
        generation: u32,
    },
    /// A client, or another instance, asks for something.
    Request {
        /// Its number in an earlier execution, if it moved over from there.
        number: Option<u32>,
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// Its payload.
        input: Option<Json>,
    },
    /// A request of this execution was answered, or will not be.
    RequestEnded {
        /// The task that waits for the answer.
        task: TaskRef,
        /// The answer.
        outcome: Result<Option<Json>, Failure>,
    },
}

impl Message {
    /// The task whose outcome this carries, if a hub has a row for that task: the row is to go, because nobody may act on it again.
    pub fn settles(&self) -> Option<TaskRef> {
        match self {
            Self::ActivityEnded { task, .. }
            | Self::TimerFired { task }
            | Self::ChildDue { task, .. } => Some(*task),
            Self::Start(_)
            | Self::ExternalEvent { .. }
            | Self::ChildEnded { .. }
            | Self::StartSkipped { .. }
            | Self::AttemptsFailed { .. }
            | Self::CustomStatus { .. }
            | Self::Values { .. }
            | Self::Cancel { .. }
            | Self::TimeLimit { .. }
            | Self::GraceOver { .. }
            | Self::Request { .. }
            | Self::RequestEnded { .. }
            | Self::Suspend { .. }
            | Self::Resume { .. }
            | Self::Terminate { .. } => None,
        }
    }

    /// The message that takes an external event or a request over to the next execution, with its number; `None` for other events.
    pub fn carried_over(event: &Event) -> Option<Self> {
        if let Event::ExternalEventRaised { number, name, data } = event {
            return Some(Self::ExternalEvent {
                number: Some(*number),
                name: name.clone(),
                data: data.clone(),
            });
        }
        let Event::RequestReceived {
            number,
            id,
            name,
            input,
        } = event
        else {
            return None;
        };
        Some(Self::Request {
            number: Some(*number),
            id: id.clone(),
            name: name.clone(),
            input: input.clone(),
        })
    }

    /// Whether this is a command about the instance itself, which gets a turn of its own.
    pub fn is_control(&self) -> bool {
        matches!(
            self,
            Self::Suspend { .. }
                | Self::Resume { .. }
                | Self::Terminate { .. }
                | Self::GraceOver { .. }
        )
    }

    /// Whether it is a command that applies to the children of the instance too.
    pub fn is_recursive(&self) -> bool {
        match self {
            Self::Suspend { recursive, .. }
            | Self::Resume { recursive, .. }
            | Self::Cancel { recursive, .. }
            | Self::Terminate { recursive, .. } => *recursive,
            Self::Start(_)
            | Self::ExternalEvent { .. }
            | Self::ActivityEnded { .. }
            | Self::ChildEnded { .. }
            | Self::TimerFired { .. }
            | Self::ChildDue { .. }
            | Self::StartSkipped { .. }
            | Self::AttemptsFailed { .. }
            | Self::CustomStatus { .. }
            | Self::Values { .. }
            | Self::TimeLimit { .. }
            | Self::Request { .. }
            | Self::RequestEnded { .. }
            | Self::GraceOver { .. } => false,
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
            Self::ActivityEnded { outcome, .. }
            | Self::ChildEnded { outcome, .. }
            | Self::RequestEnded { outcome, .. } => crate::failure::answer_size(outcome) + 16,
            Self::Request {
                id, name, input, ..
            } => id.len() + name.len() + crate::value::size_of(input.as_ref()) + 16,
            Self::AttemptsFailed { attempts, .. } => {
                attempts.iter().map(|one| one.failure.size() + 16).sum()
            }
            Self::StartSkipped {
                instance_id,
                reason,
            } => instance_id.len() + reason.len(),
            Self::CustomStatus { value } => value.size() + 16,
            Self::Values { values } => (values.iter())
                .map(|(name, value)| name.len() + value.size() + 16)
                .sum(),
            Self::Cancel { reason, .. } => reason.as_ref().map_or(0, String::len) + 16,
            Self::TimerFired { .. }
            | Self::ChildDue { .. }
            | Self::TimeLimit { .. }
            | Self::GraceOver { .. }
            | Self::Suspend { .. }
            | Self::Resume { .. }
            | Self::Terminate { .. } => 16,
        }
    }
}

/// A message and, if it is durable already, its place in the inbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// Its number in the inbox of the instance; `None` if it is only in memory, and the turn that takes it makes it durable.
    pub seq: Option<u64>,
    /// When it came in or came due, by the host's clock; 0 where the order does not matter.
    pub at: Timestamp,
    /// The message.
    pub message: Message,
}

impl Envelope {
    /// A message that is only in memory and is handled before whatever is due.
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

    /// Whether it reports that a timer or a retry came due.
    pub(crate) fn is_due(&self) -> bool {
        matches!(
            self.message,
            Message::TimerFired { .. } | Message::ChildDue { .. } | Message::TimeLimit { .. }
        )
    }
}
