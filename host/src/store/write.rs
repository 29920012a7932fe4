//! The changes that the writer can make, one variant for each.

use perennial_core::{Command, Digest, Envelope, Message, Quarantine, Status, Timestamp};
use rusqlite::Connection;

use crate::store::StoreError;
use crate::store::changes::collect::{self, OldVersions, Removed};
use crate::store::changes::control;
use crate::store::changes::control::commit_and_cascade;
use crate::store::changes::create;
use crate::store::changes::create::CreateOutcome;
use crate::store::changes::purge;
use crate::store::changes::purge::Purged;
use crate::store::changes::rewind;
use crate::store::changes::rewind::{RestartCommit, RewindCommit};
use crate::store::codec::encode;
use crate::store::file::settings;
use crate::store::file::settings::Ages;
use crate::store::reply::Reply;
use crate::store::rows::commands;
use crate::store::rows::instances;
use crate::store::rows::keys::{self, KeyRow};
use crate::store::rows::modules;
use crate::store::rows::tasks;
use crate::store::types::{
    Effects, InstanceKey, NewInstance, NewModule, Retry, TurnCommit, WasRunning,
};

/// One unit of work: kept or lost as a whole, together with others.
pub(crate) struct Write {
    change: Change,
    now: Timestamp,
    /// The command of another process that this answers.
    token: Option<String>,
    outcome: Outcome,
    bytes: usize,
    done: Done,
}

/// Is told what became of a [`Write`], on the writer's thread: it hands the news on and returns.
pub(crate) type Done = Box<dyn FnOnce(Change, Result<Outcome, StoreError>) + Send>;

/// A change of the hub.
#[derive(Debug)]
pub(crate) enum Change {
    /// A turn, with everything that belongs to it.
    Turn(Box<TurnCommit>),
    /// A start whose first turn comes later.
    Start(NewInstance),
    /// A client's command that becomes a message.
    Deliver {
        id: String,
        command: Command,
        message: Message,
    },
    /// A termination that is meant for everything below the instance too, which may have ended. Of `running` an attempt runs now.
    TerminateAll {
        id: String,
        message: Message,
        running: Vec<InstanceKey>,
    },
    /// Messages of the host itself, for an instance that may be gone.
    Post {
        key: InstanceKey,
        messages: Vec<Envelope>,
    },
    /// Messages that mean nothing to an instance any more, and may mean something to its children.
    Discard {
        key: InstanceKey,
        id: String,
        seqs: Vec<u64>,
        cascade: Option<Message>,
    },
    /// Back to before a failure.
    Rewind(Box<RewindCommit>),
    /// The next execution of an instance that has ended.
    Restart(Box<RestartCommit>),
    /// Another attempt of an activity.
    Retry(Retry),
    /// A module.
    Deploy(Box<NewModule>),
    /// What a module is granted.
    Grant { name: String, grants: String },
    /// Why the host cannot go on with an instance, and the messages that asked it to try.
    Quarantine {
        key: InstanceKey,
        why: Box<Quarantine>,
        seqs: Vec<u64>,
    },
    /// The host can go on with an instance that was quarantined, which is in this status and pinned to this module.
    Release {
        key: InstanceKey,
        status: Status,
        module: Option<Digest>,
        seqs: Vec<u64>,
        /// What resumed it, where that is meant for its children too.
        cascade: Option<Message>,
    },
    /// What was running when the last owner died.
    CountDeliveries(Vec<WasRunning>),
    /// Instances that have ended, deleted; those that live are left alone.
    Purge(Vec<InstanceKey>),
    /// The instance with an id, deleted if it has ended.
    PurgeId(String),
    /// How long instances are kept after they have ended.
    Retain(Ages),
    /// Several changes, as one: kept or lost together.
    All(Vec<Self>),
    /// Rows that are no longer needed, so many at a time.
    Collect { rows: u32 },
    /// A key of the HTTP server.
    CreateKey(KeyRow),
    /// A key that is no longer one.
    RevokeKey { id: String },
    /// Modules that nothing points to any more.
    CollectModules { old: OldVersions },
    /// A module's name; also one that live instances run, if so.
    RemoveModule { name: String, in_use_too: bool },
    /// Nothing but the answer to a command.
    Answer(Reply),
}

/// What came of a change, and what follows from it outside the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) reply: Reply,
    pub(crate) effects: Effects,
}

impl Write {
    /// A change, made at `now`, and who is told.
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

    /// Records what comes of it as the answer to a command of another process, in the same transaction.
    pub(crate) fn answering(mut self, token: String) -> Self {
        self.token = Some(token);
        self
    }

    /// See [`Change::bytes`].
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it may leave pages of the file empty.
    pub(crate) fn frees(&self) -> bool {
        self.change.frees()
    }

    /// Writes. May be called again after a rollback.
    pub(crate) fn run(&mut self, db: &Connection) -> Result<(), StoreError> {
        let effects = &mut self.outcome.effects;
        effects.clear();
        self.outcome.reply = apply(&self.change, self.now, db, effects)?;
        if let Some(token) = &self.token
            && !matches!(self.outcome.reply, Reply::RewindFirst(_))
        {
            commands::answer(db, token, &encode(&self.outcome.reply)?)?;
        }
        Ok(())
    }

    /// When it was asked for.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// Tells what became of it.
    pub(crate) fn answer(self, result: Result<(), StoreError>) {
        (self.done)(self.change, result.map(|()| self.outcome));
    }
}

impl Change {
    /// Whether it deletes what takes up space.
    fn frees(&self) -> bool {
        match self {
            Self::Purge(_)
            | Self::PurgeId(_)
            | Self::Collect { .. }
            | Self::CollectModules { .. }
            | Self::RemoveModule { .. } => true,
            Self::All(changes) => changes.iter().any(Self::frees),
            _ => false,
        }
    }
}

/// Makes one change.
fn apply(
    change: &Change,
    now: Timestamp,
    db: &Connection,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    Ok(match change {
        Change::Turn(commit) => created(commit_and_cascade(db, commit, effects)?),
        Change::Start(new) => created(create::start(db, new, now, effects)?),
        Change::Deliver {
            id,
            command,
            message,
        } => control::command(db, id, *command, message, now, effects)?,
        Change::TerminateAll {
            id,
            message,
            running,
        } => control::terminate_all(db, id, message, running, now, effects)?,
        Change::Post { key, messages } => post(db, *key, messages, effects)?,
        Change::Discard {
            key,
            id,
            seqs,
            cascade,
        } => {
            instances::discard(db, *key, seqs)?;
            cascade_from(db, (*key, id), cascade.as_ref(), now, effects)?;
            Reply::Done
        }
        Change::Rewind(commit) => rewind::rewind(db, commit, now, effects)?,
        Change::Restart(commit) => rewind::restart(db, commit, now, effects)?,
        Change::Retry(retry) => done_if(tasks::retry(db, retry)?),
        Change::Deploy(new) => {
            modules::deploy(db, new, now)?.map_or_else(Reply::NameTaken, Reply::Deployed)
        }
        Change::Grant { name, grants } => done_if(modules::grant(db, name, grants)?),
        Change::Quarantine { key, why, seqs } => {
            let quarantined = instances::quarantine(db, *key, why)?;
            effects.changed.extend(quarantined);
            instances::discard(db, *key, seqs)?;
            Reply::Done
        }
        Change::Release {
            key,
            status,
            module,
            seqs,
            cascade,
        } => {
            let released = instances::release(db, *key, *status, *module)?;
            instances::discard(db, *key, seqs)?;
            if let Some(id) = &released {
                cascade_from(db, (*key, id), cascade.as_ref(), now, effects)?;
            }
            effects.changed.extend(released);
            Reply::Done
        }
        Change::CountDeliveries(running) => count_deliveries(db, running, now)?,
        Change::Purge(keys) => Reply::Purged(purge::purge(db, keys, effects)?),
        Change::PurgeId(id) => purge_id(db, id, effects)?,
        Change::Retain(ages) => settings::retain(db, ages).map(|()| Reply::Done)?,
        Change::All(changes) => apply_all(changes, now, db, effects)?,
        Change::Collect { rows } => {
            effects.garbage = create::collect_garbage(db, *rows)?;
            Reply::Done
        }
        Change::CreateKey(key) => done_if(keys::create(db, key)?),
        Change::RevokeKey { id } => done_if(keys::revoke(db, id)?),
        Change::CollectModules { old } => Reply::Collected(collect::collect(db, *old)?),
        Change::RemoveModule { name, in_use_too } => {
            removed(collect::remove(db, name, *in_use_too)?)
        }
        Change::Answer(reply) => reply.clone(),
    })
}

/// Makes several changes, each with effects that it sees alone.
fn apply_all(
    changes: &[Change],
    now: Timestamp,
    db: &Connection,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    let mut replies = Vec::with_capacity(changes.len());
    for change in changes {
        let mut of_one = Effects::default();
        replies.push(apply(change, now, db, &mut of_one)?);
        effects.add(of_one);
    }
    Ok(Reply::All(replies))
}

/// Hands a message on to the children of an instance, if there is one for them.
fn cascade_from(
    db: &Connection,
    (key, id): (InstanceKey, &str),
    message: Option<&Message>,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    match message {
        Some(message) => control::cascade(db, key, id, message, now, effects),
        None => Ok(()),
    }
}

fn count_deliveries(
    db: &Connection,
    running: &[WasRunning],
    now: Timestamp,
) -> Result<Reply, StoreError> {
    for was in running {
        tasks::count_delivery(db, was, now)?;
    }
    commands::forget_old(db, now)?;
    Ok(Reply::Done)
}

fn removed(what: Removed) -> Reply {
    match what {
        Removed::Missing => Reply::Nothing,
        Removed::InUse(live) => Reply::InUse(live),
        Removed::Done => Reply::Done,
    }
}

fn created(outcome: CreateOutcome) -> Reply {
    match outcome {
        Ok(()) => Reply::Done,
        Err(rejection) => Reply::Rejected(rejection),
    }
}

fn purge_id(db: &Connection, id: &str, effects: &mut Effects) -> Result<Reply, StoreError> {
    let found = instances::find(db, id)?;
    let decision = perennial_core::decide(found.map(|(_, status)| status), Command::Purge);
    Ok(match (decision, found) {
        (Ok(_), Some((key, _))) => Reply::Purged(purge::purge(db, &[key], effects)?),
        (Ok(_), None) => Reply::Purged(Purged::default()),
        (Err(rejection), _) => Reply::Rejected(rejection),
    })
}

fn done_if(done: bool) -> Reply {
    if done { Reply::Done } else { Reply::Nothing }
}

fn post(
    db: &Connection,
    key: InstanceKey,
    messages: &[Envelope],
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    if !instances::is_live(db, key)? {
        return Ok(Reply::Nothing);
    }
    for Envelope { at, message, .. } in messages {
        instances::deliver_encoded(db, key, &encode(message)?, Some(*at))?;
        // What is in the inbox happens: it must not happen again because its row is still there.
        if let Message::ActivityEnded { task, .. }
        | Message::TimerFired { task }
        | Message::ChildDue { task, .. } = message
        {
            tasks::settle(db, key, *task)?;
        }
    }
    effects.woken.push(key);
    Ok(Reply::Done)
}
