//! The changes that the writer can make, one variant for each.

use perennial_core::{Command, Digest, Envelope, Message, Quarantine, Status, TaskRef, Timestamp};

use crate::store::StoreError;
use crate::store::codec::encode;
use crate::store::live::LiveChange;
use crate::store::reply::Reply;
use crate::store::rows::Rows;
use crate::store::rules::apply::apply;
use crate::store::rules::{NewRequest, RestartCommit, RewindCommit, Run};
use crate::store::types::{
    Ages, Beat, CutOff, Effects, InstanceKey, KeyRow, NewInstance, NewModule, OldVersions, Retry,
    TurnCommit, WasRunning, WorkerNames,
};

/// One change with its callback. It is committed or rolled back as a whole, in a batch with others.
pub(crate) struct Write {
    change: Change,
    now: Timestamp,
    /// The token of the command of another process that this change executes.
    token: Option<String>,
    outcome: Outcome,
    bytes: usize,
    done: Done,
}

/// Receives the result of a [`Write`] on the writer's thread, so it must return at once.
pub(crate) type Done = Box<dyn FnOnce(Change, Result<Outcome, StoreError>) + Send>;

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
    /// Only records the answer to a command.
    Answer(Reply),
}

/// The result of a change, and its effects outside the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) reply: Reply,
    pub(crate) effects: Effects,
}

impl Write {
    /// A change with the time of its request and its callback.
    pub(crate) fn new(
        change: Change,
        now: Timestamp,
        done: impl FnOnce(Change, Result<Outcome, StoreError>) + Send + 'static,
    ) -> Self {
        let bytes = change.bytes();
        Self {
            change,
            now,
            token: None,
            outcome: Outcome::default(),
            bytes,
            done: Box::new(done),
        }
    }

    /// Also records the result as the answer to a command of another process, in the same transaction.
    pub(crate) fn answering(mut self, token: String) -> Self {
        self.token = Some(token);
        self
    }

    /// See [`Change::bytes`].
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it may free pages of the file.
    pub(crate) fn frees(&self) -> bool {
        self.change.frees()
    }

    /// Makes the change. May be called again after a rollback.
    ///
    /// # Errors
    /// [`StoreError::TakenBack`] if another process withdrew the command that it executes: then it must not take effect.
    pub(crate) fn run(&mut self, rows: &mut impl Rows) -> Result<(), StoreError> {
        let effects = &mut self.outcome.effects;
        effects.clear();
        self.outcome.reply = apply(rows, &self.change, self.now, effects)?;
        if let Some(token) = &self.token
            && !matches!(self.outcome.reply, Reply::RewindFirst(_))
            && !rows.answer_command(token, &encode(&self.outcome.reply)?)?
        {
            return Err(StoreError::TakenBack);
        }
        Ok(())
    }

    /// What it changes.
    #[cfg(test)]
    pub(in crate::store) fn change(&self) -> &Change {
        &self.change
    }

    /// What came of it, once it was made.
    #[cfg(test)]
    pub(in crate::store) fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Whether it executes a command of another process.
    #[cfg(test)]
    pub(in crate::store) fn answers(&self) -> bool {
        self.token.is_some()
    }

    /// How it changes the number of live instances.
    pub(crate) fn live(&self) -> &LiveChange {
        &self.outcome.effects.live
    }

    /// The time of the request.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// Calls the callback with the result.
    pub(crate) fn answer(self, result: Result<(), StoreError>) {
        (self.done)(self.change, result.map(|()| self.outcome));
    }
}

impl Change {
    /// Whether it deletes much data.
    fn frees(&self) -> bool {
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
