//! Sends the events and starts the instances that a turn asked for.
#![warn(
    clippy::match_wildcard_for_single_variants,
    clippy::wildcard_enum_match_arm
)]

use perennial_core::{
    Callee, Command, Event, Failure, Json, Message, Rejection, Target, TaskId, TaskRef, Timestamp,
    decide, kind,
};

use crate::store::StoreError;
use crate::store::outbox::{OutboxMessage, Sender};
use crate::store::rows::Rows;
use crate::store::rows::instances::Head;
use crate::store::rules::children::command_child;
use crate::store::rules::create::{self, Created};
use crate::store::rules::epilogue::{self, HistoryEnd};
use crate::store::rules::inbox::{deliver, deliver_if_live, has_room_for};
use crate::store::rules::modules;
use crate::store::rules::request::deliver_request;
use crate::store::rules::requests::{self, not_answered};
use crate::store::types::{
    Asker, Effects, InstanceKey, NewInstance, NewRequest, Refused, TurnCommit,
};

/// Starts the instances and sends the messages of a turn. Returns the refused starts that an ended instance must record; an instance that
/// continues gets them as messages, after continue-as-new in its next execution.
#[expect(
    clippy::too_many_lines,
    reason = "it is a table, with an arm for each event"
)]
pub(crate) fn send(
    rows: &mut impl Rows,
    commit: &TurnCommit,
    effects: &mut Effects,
) -> Result<Vec<Event>, StoreError> {
    let mut starts = commit.starts.iter();
    let mut notes = Vec::new();
    let by = Sender::new(commit.key, &commit.id);
    for event in &commit.turn.produced {
        match event {
            Event::EventSent {
                instance_id,
                name,
                data,
            } => {
                let event = (name.as_str(), data.as_ref());
                send_event(rows, (&commit.id, instance_id), event, effects)?;
            }
            Event::ChildScheduled {
                task,
                name,
                instance_id,
                target,
                ..
            } => {
                let child = (name.as_str(), instance_id.as_str(), target);
                start_child(rows, commit, *task, 1, child, &mut starts, effects)?;
            }
            Event::InstanceStarted {
                name,
                instance_id,
                target,
                ..
            } => {
                let problem = match target.failure(Callee::Orchestration, name) {
                    Some(failure) => Some(modules::meant(rows, failure, name)?.message),
                    None => match starts.next() {
                        Some(new) => start(rows, new, &by, None, commit.turn.at, effects)?,
                        None => return Err(missing_start(instance_id)),
                    },
                };
                if let Some(reason) = problem {
                    notes.extend(refuse(rows, commit, instance_id, reason, effects)?);
                }
            }
            Event::RequestSent { .. } => send_request(rows, commit, event, effects)?,
            Event::ChildCommanded {
                instance_id,
                command,
                reason,
                ..
            } => {
                let reason = reason.clone().or_else(|| {
                    let id = &commit.id;
                    Some(format!("its parent {id:?} no longer waits for it"))
                });
                let told = (*command, reason);
                command_child(rows, commit.key, instance_id, told, effects)?;
            }
            Event::TurnStarted { .. }
            | Event::ExecutionStarted(_)
            | Event::ActivityCompleted { .. }
            | Event::ActivityFailed { .. }
            | Event::ChildCompleted { .. }
            | Event::ChildFailed { .. }
            | Event::TimerFired { .. }
            | Event::ExternalEventRaised { .. }
            | Event::ActivityScheduled { .. }
            | Event::TimerSet { .. }
            | Event::TaskCanceled { .. }
            | Event::CustomStatusSet { .. }
            | Event::ExecutionReturned { .. }
            | Event::ExecutionCompleted { .. }
            | Event::ExecutionFailed { .. }
            | Event::ExecutionTerminated { .. }
            | Event::ContinuedAsNew { .. }
            | Event::ExecutionSuspended { .. }
            | Event::ExecutionResumed { .. }
            | Event::InstanceStartSkipped { .. }
            | Event::ChildRetryScheduled { .. }
            | Event::ChildRetried { .. }
            | Event::AttemptFailed { .. }
            | Event::CallDetails { .. }
            | Event::ValueSet { .. }
            | Event::TagSet { .. }
            | Event::ActivityOptions { .. }
            | Event::TimerSetAt { .. }
            | Event::InstanceOptions { .. }
            | Event::CancellationRequested(_)
            | Event::RequestReceived { .. }
            | Event::RequestAnswered { .. }
            | Event::RequestCompleted { .. }
            | Event::RequestFailed { .. }
            | Event::ExecutionTimedOut { .. } => {}
        }
    }
    for event in commit.turn.events() {
        // The host's refusals are among what came in.
        if let Event::RequestAnswered { id, outcome, .. } = event {
            requests::answer(rows, commit.key, id, outcome, effects)?;
        }
    }
    for event in &commit.turn.received {
        if let Event::ChildRetried {
            task,
            attempt,
            instance_id,
        } = event
        {
            let child = ("", instance_id.as_str(), &Target::Native);
            start_child(rows, commit, *task, *attempt, child, &mut starts, effects)?;
        }
    }
    Ok(notes)
}

/// Sends an event from one instance to another. One that cannot be delivered is discarded.
pub(super) fn send_event(
    rows: &mut impl Rows,
    (by, to): (&str, &str),
    (name, data): (&str, Option<&Json>),
    effects: &mut Effects,
) -> Result<(), StoreError> {
    if let Some(partition) = rows.elsewhere(to) {
        let message = OutboxMessage::Event {
            by: by.to_owned(),
            to: to.to_owned(),
            name: name.to_owned(),
            data: data.cloned(),
        };
        return rows.send(partition, message);
    }
    let message = Message::ExternalEvent {
        number: None,
        name: name.to_owned(),
        data: data.cloned(),
    };
    if let Err(rejection) = deliver_event(rows, to, &message, effects)? {
        effects.refused.push(Refused::Event {
            by: by.to_owned(),
            to: to.to_owned(),
            name: name.to_owned(),
            rejection,
        });
    }
    Ok(())
}

/// Delivers an event to another instance if that is live and has room for it.
fn deliver_event(
    rows: &mut impl Rows,
    id: &str,
    message: &Message,
    effects: &mut Effects,
) -> Result<Result<(), Rejection>, StoreError> {
    let found = rows.find(id)?;
    if let Err(rejection) = decide(found.map(|(_, status)| status), Command::RaiseEvent) {
        return Ok(Err(rejection));
    }
    let Some((key, _)) = found else {
        return Ok(Err(Rejection::NotFound));
    };
    if !has_room_for(rows, key, message)? {
        return Ok(Err(Rejection::TooManyUnread));
    }
    deliver(rows, key, message, effects)?;
    Ok(Ok(()))
}

/// Delivers a request to another instance. Where it cannot be, the task of this one fails.
fn send_request(
    rows: &mut impl Rows,
    commit: &TurnCommit,
    event: &Event,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let Event::RequestSent {
        task,
        instance_id,
        id,
        name,
        input,
        refused,
    } = event
    else {
        return Ok(());
    };
    let asker = Asker {
        key: commit.key,
        task: commit.expected.task(*task),
    };
    if let Some(failure) = refused {
        return requests::tell(rows, asker, Err(failure.clone()), effects);
    }
    let new = NewRequest {
        instance: instance_id.clone(),
        id: id.clone(),
        name: name.clone(),
        input: input.clone(),
    };
    ask(rows, &new, asker, effects)
}

/// Delivers a request of an instance to another one, or tells the asker that it cannot be.
pub(super) fn ask(
    rows: &mut impl Rows,
    new: &NewRequest,
    asker: Asker,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    if let Some(partition) = rows.elsewhere(&new.instance) {
        let new = new.clone();
        return rows.send(partition, OutboxMessage::Request { new, asker });
    }
    let Err(rejection) = deliver_request(rows, new, Some(asker), effects)? else {
        return Ok(());
    };
    let (name, to) = (&new.name, &new.instance);
    let why = format!("request {name:?} to instance {to:?} was not delivered: {rejection}");
    requests::tell(rows, asker, Err(not_answered(why)), effects)
}

/// Reports that an instance was not started. Returns the event for the starter's history if the starter has ended.
fn refuse(
    rows: &mut impl Rows,
    commit: &TurnCommit,
    id: &str,
    reason: String,
    effects: &mut Effects,
) -> Result<Option<Event>, StoreError> {
    effects.refused.push(Refused::Start {
        by: commit.id.clone(),
        id: id.to_owned(),
        reason: reason.clone(),
    });
    let instance_id = id.to_owned();
    if commit.after.status.is_end() {
        return Ok(Some(Event::InstanceStartSkipped {
            instance_id,
            reason,
        }));
    }
    let skipped = Message::StartSkipped {
        instance_id,
        reason,
    };
    deliver(rows, commit.key, &skipped, effects)?;
    Ok(None)
}

fn start_child(
    rows: &mut impl Rows,
    commit: &TurnCommit,
    task: TaskId,
    attempt: u32,
    (name, instance_id, target): (&str, &str, &Target),
    starts: &mut std::slice::Iter<'_, NewInstance>,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let failure = match target.failure(Callee::Orchestration, name) {
        Some(failure) => modules::meant(rows, failure, name)?,
        None => {
            let new = starts.next().ok_or_else(|| missing_start(instance_id))?;
            let deleted = match new.start.module {
                // A first attempt uses the module that the name means now; a later one the module of the first, which may have been
                // deleted.
                Some(digest) if attempt > 1 => modules::expect(rows, digest).is_err(),
                _ => false,
            };
            let tried = if deleted {
                Some(format!(
                    "the module of {instance_id:?} was deleted before it was tried again"
                ))
            } else {
                let by = Sender::new(commit.key, &commit.id);
                let task = Some((commit.expected.task(task), attempt));
                start(rows, new, &by, task, commit.turn.at, effects)?
            };
            match tried {
                None => return Ok(()),
                Some(reason) => Failure::permanent(kind::INSTANCE_EXISTS, reason),
            }
        }
    };
    deliver(
        rows,
        commit.key,
        &Message::ChildEnded {
            task: commit.expected.task(task),
            attempt,
            outcome: Err(failure),
        },
        effects,
    )
}

/// Whether a rewind of this parent dropped the instance, so that the parent may reuse its id.
fn is_left_behind(
    rows: &mut impl Rows,
    key: InstanceKey,
    parent: &str,
) -> Result<bool, StoreError> {
    let is = |head: Head| head.parent_key.is_none() && head.parent_id.as_deref() == Some(parent);
    Ok(rows.head(key)?.is_some_and(is))
}

fn missing_start(id: &str) -> StoreError {
    StoreError::Corrupt(format!("a turn starts {id:?} without saying how"))
}

/// Starts an instance for another one, or returns the rejection. If another owner runs it, that is told to start it, and the rejection comes
/// as a message.
///
/// A live instance keeps its id, also in its last turn. The id of an ended one is reused unless the start forbids that. A child that a
/// rewind of its parent dropped does not block its id.
fn start(
    rows: &mut impl Rows,
    new: &NewInstance,
    by: &Sender,
    task: Option<(TaskRef, u32)>,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Option<String>, StoreError> {
    if let Some(partition) = rows.elsewhere(&new.start.instance_id) {
        if let Some(digest) = new.start.module {
            modules::expect(rows, digest)?;
        }
        let (new, by) = (new.clone(), by.clone());
        rows.send(partition, OutboxMessage::Start { new, by, task })?;
        return Ok(None);
    }
    try_start(rows, new, by, now, effects)
}

/// Starts an instance that the owner of another partition asks for, or tells the starter why not.
pub(super) fn start_received(
    rows: &mut impl Rows,
    new: &NewInstance,
    by: &Sender,
    task: Option<(TaskRef, u32)>,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let Some(reason) = try_start(rows, new, by, now, effects)? else {
        return Ok(());
    };
    let Some((task, attempt)) = task else {
        return not_started(rows, by, &new.start.instance_id, &reason, now, effects);
    };
    let message = Message::ChildEnded {
        task,
        attempt,
        outcome: Err(Failure::permanent(kind::INSTANCE_EXISTS, reason)),
    };
    deliver_if_live(rows, by.key, &message, effects)
}

/// Tells an instance that a detached one, which it asked another owner to start, was not started. If it has ended, its history says so after
/// its end.
pub(super) fn not_started(
    rows: &mut impl Rows,
    by: &Sender,
    id: &str,
    reason: &str,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let (instance_id, reason) = (id.to_owned(), reason.to_owned());
    if let Some(partition) = rows.elsewhere_key(by.key) {
        let by = by.clone();
        let message = OutboxMessage::NotStarted {
            by,
            instance_id,
            reason,
        };
        return rows.send(partition, message);
    }
    effects.refused.push(Refused::Start {
        by: by.id.clone(),
        id: instance_id.clone(),
        reason: reason.clone(),
    });
    match rows.instance(by.key)? {
        Some(row) if row.status.is_end() => {
            let skipped = Event::InstanceStartSkipped {
                instance_id,
                reason,
            };
            let at = now.max(row.updated_at);
            let end = HistoryEnd {
                key: row.key,
                execution: row.execution,
                turns: row.turns,
                next_event: row.next_event,
                history_bytes: row.history_bytes,
            };
            epilogue::append(rows, &end, at, vec![skipped]).map(drop)
        }
        Some(_) => {
            let skipped = Message::StartSkipped {
                instance_id,
                reason,
            };
            deliver(rows, by.key, &skipped, effects)
        }
        None => Ok(()),
    }
}

fn try_start(
    rows: &mut impl Rows,
    new: &NewInstance,
    by: &Sender,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Option<String>, StoreError> {
    let id = &new.start.instance_id;
    let taken = rows.find(id)?;
    let is_child = new.start.parent.is_some();
    match taken {
        Some((key, _)) if key == by.key => {
            let why = format!("instance {id:?} exists already, and is what asks for it");
            return Ok(Some(why));
        }
        Some((key, _)) if is_child && is_left_behind(rows, key, &by.id)? => {
            create::forget(rows, key, effects)?;
        }
        Some((_, status)) => {
            if let Created::No(_) = create::make_room(rows, &new.start, new.reuse, effects)? {
                let why = format!("instance {id:?} exists already and is {status}");
                return Ok(Some(why));
            }
        }
        None => {}
    }
    if let Some(digest) = new
        .start
        .module
        .filter(|_| rows.elsewhere_key(by.key).is_some())
        && modules::expect(rows, digest).is_err()
    {
        return Ok(Some(format!(
            "the module of {id:?} was deleted before it was started"
        )));
    }
    create::insert_pending(rows, new, now, effects)?;
    effects.woken.push(new.key);
    Ok(None)
}
