//! Sends the events and starts the instances that a turn asked for.
#![warn(
    clippy::match_wildcard_for_single_variants,
    clippy::wildcard_enum_match_arm
)]

use perennial_core::{Callee, Command, Event, Message, Rejection, Target, TaskId, decide};

use crate::store::StoreError;
use crate::store::rows::Rows;
use crate::store::rows::instances::Head;
use crate::store::rules::children::command_child;
use crate::store::rules::create::{self, Created};
use crate::store::rules::inbox::{deliver, has_room_for};
use crate::store::rules::modules;
use crate::store::rules::request::{NewRequest, deliver_request};
use crate::store::rules::requests::{self, not_answered};
use crate::store::types::{Asker, Effects, InstanceKey, NewInstance, Refused, TurnCommit};

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
    for event in &commit.turn.produced {
        match event {
            Event::EventSent {
                instance_id,
                name,
                data,
            } => {
                let message = Message::ExternalEvent {
                    number: None,
                    name: name.clone(),
                    data: data.clone(),
                };
                if let Err(rejection) = send_event(rows, instance_id, &message, effects)? {
                    effects.refused.push(Refused::Event {
                        by: commit.id.clone(),
                        to: instance_id.clone(),
                        name: name.clone(),
                        rejection,
                    });
                }
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
                        Some(new) => try_start(rows, new, commit, effects)?,
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

/// Delivers an event to another instance if that is live and has room for it.
fn send_event(
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
    let failure = match refused {
        Some(failure) => failure.clone(),
        None => {
            let new = NewRequest {
                instance: instance_id.clone(),
                id: id.clone(),
                name: name.clone(),
                input: input.clone(),
            };
            match deliver_request(rows, &new, Some(asker), effects)? {
                Ok(()) => return Ok(()),
                Err(rejection) => not_answered(format!(
                    "request {name:?} to instance {instance_id:?} was not delivered: {rejection}"
                )),
            }
        }
    };
    requests::tell(rows, asker, Err(failure), effects)
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
                try_start(rows, new, commit, effects)?
            };
            match tried {
                None => return Ok(()),
                Some(reason) => perennial_core::Failure::permanent(
                    perennial_core::kind::INSTANCE_EXISTS,
                    reason,
                ),
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

/// Starts an instance for another one, or returns the rejection.
///
/// A live instance keeps its id, also in its last turn. The id of an ended one is reused unless the start forbids that. A child that a
/// rewind of its parent dropped does not block its id.
fn try_start(
    rows: &mut impl Rows,
    new: &NewInstance,
    commit: &TurnCommit,
    effects: &mut Effects,
) -> Result<Option<String>, StoreError> {
    let id = &new.start.instance_id;
    let taken = rows.find(id)?;
    let is_child = new.start.parent.is_some();
    match taken {
        Some((key, _)) if key == commit.key => {
            let why = format!("instance {id:?} exists already, and is what asks for it");
            return Ok(Some(why));
        }
        Some((key, _)) if is_child && is_left_behind(rows, key, &commit.id)? => {
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
    create::insert_pending(rows, new, commit.turn.at, effects)?;
    effects.woken.push(new.key);
    Ok(None)
}
