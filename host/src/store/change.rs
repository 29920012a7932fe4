//! The changes that a store can make, one variant for each.

use perennial_core::{Command, Digest, Envelope, Message, Quarantine, Status, TaskRef, Timestamp};

use crate::store::outbox::Sent;
use crate::store::partition::Partition;
use crate::store::reply::Reply;
use crate::store::rules::{RestartCommit, Run};
use crate::store::types::{
    Ages, Beat, CutOff, InstanceKey, KeyRow, NewInstance, NewModule, NewRequest, OldVersions,
    Retry, RewindCommit, TurnCommit, WasRunning, WorkerNames,
};

/// A change of the hub.
#[derive(Debug)]
pub(crate) enum Change {
    /// Commits a turn.
    Turn(Box<TurnCommit>),
    /// Creates an instance whose first turn comes later.
    Start(NewInstance),
    /// Delivers a client's command as a message.
    Deliver {
        id: String,
        command: Command,
        message: Message,
    },
    /// Terminates an instance, which may have ended, and its descendants. The tasks in `running` have an attempt that runs now.
    TerminateAll {
        id: String,
        message: Message,
        running: Vec<InstanceKey>,
    },
    /// Delivers messages of the host itself to an instance that may be deleted.
    Post {
        key: InstanceKey,
        messages: Vec<Envelope>,
    },
    /// Deletes messages that do not apply to an instance any more, but may apply to its children.
    Discard {
        key: InstanceKey,
        seqs: Vec<u64>,
        cascade: Option<Message>,
    },
    /// Rewinds an instance.
    Rewind(Box<RewindCommit>),
    /// Restarts an ended instance in place.
    Restart(Box<RestartCommit>),
    /// Schedules the next attempt of an activity.
    Retry(Retry),
    /// Deploys a module.
    Deploy(Box<NewModule>),
    /// Changes the grants of a module.
    Grant { name: String, grants: String },
    /// Quarantines an instance, and deletes the messages that asked to try again.
    Quarantine {
        key: InstanceKey,
        why: Box<Quarantine>,
        seqs: Vec<u64>,
    },
    /// Ends the quarantine of an instance, with this status and module.
    Release {
        key: InstanceKey,
        status: Status,
        module: Option<Digest>,
        seqs: Vec<u64>,
        /// The resume command, if it also applies to its children.
        cascade: Option<Message>,
    },
    /// Counts the loss of a worker for the work that it had.
    CountDeliveries(Vec<WasRunning>),
    /// Counts a crash for the work that ran in partitions when their last owner died. What ran in some of them is not known.
    CountLost {
        were_running: Vec<WasRunning>,
        unknown: Vec<Partition>,
    },
    /// Counts a crash for the work that ran when the last host died, and records the boot of the machine on which this host runs.
    TakeOver {
        were_running: Vec<WasRunning>,
        boot: Option<String>,
    },
    /// Counts attempts that were cut off, or stopped, because the host stops. With `stops` it stops with this change.
    CutOff { attempts: Vec<CutOff>, stops: bool },
    /// Records when an attempt of an activity begins that is to run at most once, or that it does not begin.
    Begin {
        place: (InstanceKey, TaskRef),
        at: Option<Timestamp>,
    },
    /// Records the last heartbeats of attempts.
    Beats(Vec<((InstanceKey, TaskRef), Beat)>),
    /// Deletes the ended ones of these instances; live ones stay.
    Purge(Vec<InstanceKey>),
    /// Deletes the instance with an id if it has ended.
    PurgeId(String),
    /// Sets the retention.
    Retain(Ages),
    /// Sets the names that remote workers have run.
    KnowNames(WorkerNames),
    /// Makes several changes, all or none.
    All(Vec<Self>),
    /// Deletes up to `rows` rows of deleted instances and executions.
    Collect { rows: u32 },
    /// Adds a key of the HTTP server.
    CreateKey(KeyRow),
    /// Deletes a key.
    RevokeKey { id: String },
    /// Deletes modules that nothing refers to.
    CollectModules { old: OldVersions },
    /// Removes a module's name; with `in_use_too` even if live instances run it.
    RemoveModule { name: String, in_use_too: bool },
    /// Sets and removes tags of an instance.
    SetTags {
        id: String,
        changes: Vec<(String, Option<String>)>,
    },
    /// Accepts a request to an instance.
    Request(NewRequest),
    /// Starts an instance if there is no live one with its id, and delivers something to it.
    StartFor { new: NewInstance, then: Box<Self> },
    /// Makes a change of an instance if it still has this run.
    IfRun {
        id: String,
        run: Run,
        then: Box<Self>,
    },
    /// Receives messages of other partitions from the outbox, in this order.
    Receive(Vec<Sent>),
    /// Begins to run these partitions, which nobody else runs.
    Join(Vec<Partition>),
    /// Runs these partitions no longer: changes of their instances are refused from now on.
    Leave(Vec<Partition>),
    /// Only records the answer to a command.
    Answer(Reply),
}

impl Change {
    /// Whether it starts something on modules to which names led, or says that names lead nowhere.
    #[cfg(any(test, feature = "postgres"))]
    pub(in crate::store) fn starts(&self) -> bool {
        match self {
            Self::Turn(_) | Self::Start(_) | Self::StartFor { .. } | Self::Restart(_) => true,
            Self::Rewind(commit) => !commit.starts.is_empty(),
            Self::All(changes) => changes.iter().any(Self::starts),
            Self::IfRun { then, .. } => then.starts(),
            Self::Answer(Reply::Refused { .. }) => true,
            _ => false,
        }
    }

    /// Whether it deletes much data.
    pub(in crate::store) fn frees(&self) -> bool {
        match self {
            Self::Purge(_)
            | Self::PurgeId(_)
            | Self::Collect { .. }
            | Self::CollectModules { .. }
            | Self::RemoveModule { .. } => true,
            Self::All(changes) => changes.iter().any(Self::frees),
            Self::IfRun { then, .. } => then.frees(),
            _ => false,
        }
    }
}
