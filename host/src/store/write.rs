//! The changes that the writer can make, one variant for each.

use perennial_core::{Command, Digest, Envelope, Message, Quarantine, Status, TaskRef, Timestamp};
use rusqlite::Connection;

use crate::store::StoreError;
use crate::store::changes::collect::{self, OldVersions, Removed};
use crate::store::changes::control;
use crate::store::changes::control::commit_and_cascade;
use crate::store::changes::create;
use crate::store::changes::create::CreateOutcome;
use crate::store::changes::purge;
use crate::store::changes::purge::Purged;
use crate::store::changes::request::{self, NewRequest};
use crate::store::changes::rewind;
use crate::store::changes::rewind::{RestartCommit, RewindCommit};
use crate::store::changes::run::{self, Run};
use crate::store::codec::encode;
use crate::store::file::settings;
use crate::store::file::settings::{Ages, LastHost, WorkerNames};
use crate::store::reply::Reply;
use crate::store::rows::commands;
use crate::store::rows::instances;
use crate::store::rows::keys::{self, KeyRow};
use crate::store::rows::modules;
use crate::store::rows::tasks;
use crate::store::types::{
    Beat, CutOff, Effects, InstanceKey, NewInstance, NewModule, Retry, TurnCommit, WasRunning,
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
        id: String,
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

/// Makes one change.
#[expect(
    clippy::too_many_lines,
    reason = "it is a table, with an arm for each change"
)]
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
        Change::TakeOver { were_running, boot } => take_over(db, were_running, boot, now)?,
        Change::CutOff { attempts, stops } => cut_off(db, attempts, *stops, now)?,
        Change::Begin { place, at } => done_if(tasks::begin(db, *place, *at)?),
        Change::Beats(beats) => {
            for (place, beat) in beats {
                tasks::beat(db, *place, beat)?;
            }
            Reply::Done
        }
        Change::Purge(keys) => Reply::Purged(purge::purge(db, keys, effects)?),
        Change::PurgeId(id) => purge_id(db, id, effects)?,
        Change::Retain(ages) => settings::retain(db, ages).map(|()| Reply::Done)?,
        Change::KnowNames(names) => settings::know_names(db, names).map(|()| Reply::Done)?,
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
        Change::SetTags { id, changes } => control::set_tags(db, id, changes, now, effects)?,
        Change::Request(new) => request::request(db, new, effects)?,
        Change::StartFor { new, then } => start_for(new, then, now, db, effects)?,
        Change::IfRun { id, run, then } => match run::refusal(db, id, *run)? {
            Some(refusal) => refusal,
            None => apply(then, now, db, effects)?,
        },
        Change::Answer(reply) => reply.clone(),
    })
}

/// Makes several changes. Each starts with empty effects.
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

/// Starts an instance if need be, and delivers something to it. If it cannot be started, nothing is delivered.
fn start_for(
    new: &NewInstance,
    then: &Change,
    now: Timestamp,
    db: &Connection,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    let asked = match then {
        Change::Request(asked) => Some(asked),
        _ => None,
    };
    let started = request::start_for(db, new, asked, now, effects)?;
    if let Reply::Rejected(_) = started {
        return Ok(started);
    }
    let mut of_then = Effects::default();
    let delivered = apply(then, now, db, &mut of_then)?;
    effects.add(of_then);
    Ok(Reply::All(vec![started, delivered]))
}

/// Passes a message on to the children of an instance, if it applies to them.
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

/// Counts the attempts that the last host had begun. If the machine was restarted since, any attempt may have been.
fn take_over(
    db: &Connection,
    were_running: &[WasRunning],
    boot: &Option<String>,
    now: Timestamp,
) -> Result<Reply, StoreError> {
    let last = settings::last_host(db)?;
    if last.is_some_and(|last| last.may_have_lost(boot.as_deref())) {
        tasks::cut_off_all(db, were_running, now)?;
    }
    let host = LastHost {
        boot: boot.clone(),
        stopped: false,
    };
    settings::set_last_host(db, &host)?;
    count_deliveries(db, were_running, now)
}

fn cut_off(
    db: &Connection,
    attempts: &[CutOff],
    stops: bool,
    now: Timestamp,
) -> Result<Reply, StoreError> {
    for cut in attempts {
        tasks::cut_off(db, cut, now)?;
    }
    if stops && let Some(host) = settings::last_host(db)? {
        let stopped = true;
        settings::set_last_host(db, &LastHost { stopped, ..host })?;
    }
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
        // The outcome in the inbox counts: the task's row must go, so that the engine does not act on it again.
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
