//! Messages between partitions.
//!
//! A transaction writes the rows of its own partitions. What it has to tell an instance of another one goes into the outbox in the same
//! transaction, and the owner of that partition does it in a transaction that deletes the message: so it happens once. Messages from one
//! partition to another are received in the order in which they were sent. What each does is what the rules do at once where both partitions
//! have the same owner.

use perennial_core::{ChildCommand, Failure, Json, Message, Parent, TaskId, TaskRef};
use serde::{Deserialize, Serialize};

use crate::store::types::{Asker, InstanceKey, NewInstance, NewRequest};

/// Something to do in another partition. The order of the variants and fields is a format.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum OutboxMessage {
    /// Start an instance: the child of a task, or a detached one.
    Start {
        new: NewInstance,
        by: Sender,
        /// The task of the starter that waits for it, and the attempt.
        task: Option<(TaskRef, u32)>,
    },
    /// Tell the starter of a detached instance why that was not started.
    NotStarted {
        by: Sender,
        instance_id: String,
        reason: String,
    },
    /// Deliver a message to an instance, if it is live.
    Deliver { key: InstanceKey, message: Message },
    /// Deliver an external event that an instance sent.
    Event {
        /// The id of the sender.
        by: String,
        to: String,
        name: String,
        data: Option<Json>,
    },
    /// Deliver a request of an instance.
    Request { new: NewRequest, asker: Asker },
    /// Tell a child what its parent wants of it.
    CommandChild {
        parent: InstanceKey,
        child: String,
        command: ChildCommand,
        reason: Option<String>,
    },
    /// End the live children of an instance that ended, as each of their starts said.
    ReleaseChildren { parent: Sender },
    /// Pass a command on to the children of an instance.
    Cascade {
        parent: InstanceKey,
        message: Message,
    },
    /// After a rewind: make a child report its outcome to the task that waits for it now, or start it again.
    Await(Box<Awaited>),
    /// After a rewind: terminate a child that was scheduled after the cut.
    DropChild { parent: Sender, child: String },
    /// After a rewind: the answers to these requests are awaited, and no others.
    Readdress { asker: Asker, kept: Vec<TaskId> },
}

impl OutboxMessage {
    /// The instance whose child it starts, or may start.
    #[cfg(any(test, feature = "postgres"))]
    pub(in crate::store) fn parent(&self) -> Option<InstanceKey> {
        match self {
            Self::Start { new, .. } => new.parent,
            Self::Await(awaited) => Some(awaited.parent.key),
            _ => None,
        }
    }

    /// The instance whose request it is.
    #[cfg(any(test, feature = "postgres"))]
    pub(in crate::store) fn asker(&self) -> Option<InstanceKey> {
        match self {
            Self::Request { asker, .. } => Some(asker.key),
            _ => None,
        }
    }

    /// The module of what it starts, or may start.
    #[cfg(any(test, feature = "postgres"))]
    pub(in crate::store) fn module(&self) -> Option<perennial_core::Digest> {
        match self {
            Self::Start { new, .. } => new.start.module,
            Self::Await(awaited) => awaited.start.as_ref().ok()?.start.module,
            _ => None,
        }
    }

    /// About how many bytes its payloads have.
    pub(in crate::store) fn size(&self) -> usize {
        let json = |json: &Option<Json>| json.as_ref().map_or(0, Json::size);
        match self {
            Self::Start { new, .. } => json(&new.start.input),
            Self::Deliver { message, .. } | Self::Cascade { message, .. } => message.size(),
            Self::Event { data, .. } => json(data),
            Self::Request { new, .. } => json(&new.input),
            Self::Await(awaited) => {
                let start = awaited.start.as_ref();
                start.map_or(0, |new| json(&new.start.input))
            }
            Self::NotStarted { .. }
            | Self::CommandChild { .. }
            | Self::ReleaseChildren { .. }
            | Self::DropChild { .. }
            | Self::Readdress { .. } => 0,
        }
    }
}

/// The instance that sends a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sender {
    pub(crate) key: InstanceKey,
    pub(crate) id: String,
}

impl Sender {
    pub(in crate::store) fn new(key: InstanceKey, id: &str) -> Self {
        let id = id.to_owned();
        Self { key, id }
    }
}

/// A child for which a rewound parent waits again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Awaited {
    pub(crate) parent: Sender,
    /// The task of the parent, with its new generation.
    pub(crate) task: TaskRef,
    pub(crate) attempt: u32,
    /// The id of the child.
    pub(crate) child: String,
    /// How it is started again if it was terminated or deleted, or why it cannot be.
    pub(crate) start: Result<NewInstance, Failure>,
}

impl Awaited {
    /// The place in the parent to which the child reports.
    pub(in crate::store) fn place(&self, before: Parent) -> Parent {
        Parent {
            task: self.task,
            attempt: self.attempt,
            ..before
        }
    }
}

/// A message as it lies in the outbox.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// Its number: later messages from one partition to another have higher ones.
    pub(crate) seq: i64,
    pub(crate) message: OutboxMessage,
}
