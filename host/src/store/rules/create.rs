//! Creates instances, and frees ids that are in use if the start allows it.

use perennial_core::{
    ChildPolicy, Command, Decision, Failure, InstanceOptions, Message, Rejection, Reuse, Start,
    Status, Timestamp, decide, kind,
};

use crate::store::StoreError;
use crate::store::rows::Rows;
use crate::store::rows::instances::{Head, NewRow};
use crate::store::rows::tasks::{LIMIT, NewTask, START, Tasks};
use crate::store::rules::children::release_children;
use crate::store::rules::modules;
use crate::store::rules::parents::tell_parent;
use crate::store::rules::requests;
use crate::store::types::{Effects, InstanceKey, NewInstance, Position, TaskRowKind};

/// The result of a start: the instance exists, or the reason why it was rejected.
pub(super) type CreateOutcome = Result<(), Rejection>;

/// Whether an id is free now.
pub(super) enum Created {
    Yes,
    No(Rejection),
}

/// A history with at most this many turns and bytes is deleted with its instance; a longer one is deleted later, in batches.
const SHORT_TURNS: u32 = 32;
const SHORT_BYTES: u64 = 256 << 10;

/// Frees the id of `start` if its reuse policy allows that, or returns the rejection.
pub(super) fn make_room(
    rows: &mut impl Rows,
    start: &Start,
    reuse: Reuse,
    effects: &mut Effects,
) -> Result<Created, StoreError> {
    let found = rows.find(&start.instance_id)?;
    match decide(found.map(|(_, status)| status), Command::Start(reuse)) {
        Ok(Decision::Create) => Ok(Created::Yes),
        Ok(_) => {
            if let Some((key, status)) = found {
                replace(rows, key, status, effects)?;
            }
            Ok(Created::Yes)
        }
        Err(rejection) => Ok(Created::No(rejection)),
    }
}

/// Replaces an instance: a live one is terminated first, and its parent is notified.
fn replace(
    rows: &mut impl Rows,
    key: InstanceKey,
    status: Status,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    if !status.is_end()
        && let Some(Head {
            id,
            parent,
            parent_key,
            ..
        }) = rows.head(key)?
    {
        if let (Some(parent_key), Some(place)) = (parent_key, parent) {
            let failure = Failure::permanent(
                kind::REPLACED,
                format!("instance {id:?} was replaced by a new one with the same id"),
            );
            tell_parent(rows, parent_key, &place, Err(failure), effects)?;
        }
        release_children(rows, key, &id, effects)?;
        effects.ended.push(id);
    }
    forget(rows, key, effects)
}

/// Deletes an instance; a long history is deleted later, in batches.
pub(super) fn forget(
    rows: &mut impl Rows,
    key: InstanceKey,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    if let Some(deleted) = rows.delete_instance(key)? {
        if !deleted.status.is_end() {
            effects.live.left(deleted.module);
        }
        if deleted.has_values {
            rows.delete_values(key)?;
        }
        if deleted.has_requests {
            let why = "the instance was deleted before it answered";
            requests::delete_all(rows, key, why, effects)?;
        }
        let is_first = (deleted.execution, deleted.generation) == (0, 0);
        if is_first && deleted.turns <= SHORT_TURNS && deleted.history_bytes <= SHORT_BYTES {
            rows.delete_turns(key)?;
        } else {
            rows.leave_garbage(key, None)?;
            effects.garbage = true;
        }
    }
    rows.delete_tasks(key, Tasks::All)?;
    rows.clear_inbox(key)?;
    effects.gone.push(key);
    Ok(())
}

/// Creates an instance whose first turn comes later.
pub(super) fn start(
    rows: &mut impl Rows,
    new: &NewInstance,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<CreateOutcome, StoreError> {
    match make_room(rows, &new.start, new.reuse, effects)? {
        Created::No(rejection) => return Ok(Err(rejection)),
        Created::Yes => insert_pending(rows, new, now, effects)?,
    }
    effects.woken.push(new.key);
    Ok(Ok(()))
}

/// Writes what was said of a new instance, where that is not the default: the columns that its children and its time limit are found by.
pub(super) fn insert_options(
    rows: &mut impl Rows,
    new: &NewInstance,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let InstanceOptions {
        reuse: _,
        when_dropped,
        execution_timeout,
    } = new.options;
    if (when_dropped, execution_timeout) == (ChildPolicy::Abandon, None) {
        return Ok(());
    }
    rows.set_options(new.key, when_dropped, execution_timeout)?;
    let position = Position {
        execution: new.start.execution,
        generation: 0,
        next_event: 0,
    };
    // A scheduled start begins its time when it is due.
    arm_limit(
        rows,
        new.key,
        position,
        new.start.scheduled_for.unwrap_or(now),
        effects,
    )
}

/// Sets the time limit of an instance that begins now, if it has one.
pub(super) fn arm_limit(
    rows: &mut impl Rows,
    key: InstanceKey,
    at: Position,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    if let Some(limit) = rows.execution_timeout(key)? {
        let due = now.after(limit);
        let task = NewTask {
            due: Some(due),
            ..NewTask::new(LIMIT, TaskRowKind::Limit)
        };
        rows.insert_task(key, at, 0, task)?;
        effects.limits.push((key, at.task(LIMIT), due));
    }
    Ok(())
}

/// Inserts an instance.
///
/// # Errors
/// [`StoreError::Conflict`] if its module was deleted.
pub(super) fn insert(
    rows: &mut impl Rows,
    new: &NewInstance,
    row: &NewRow<'_>,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let module = new.start.module;
    if let Some(digest) = module {
        modules::expect(rows, digest)?;
    }
    rows.insert_instance(new, row)?;
    if !row.status.is_end() {
        effects.live.came(module);
    }
    Ok(())
}

/// Inserts an instance with its start in its inbox.
pub(super) fn insert_pending(
    rows: &mut impl Rows,
    new: &NewInstance,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    insert(
        rows,
        new,
        &NewRow {
            status: Status::Pending,
            next_event: 0,
            turns: 0,
            inbox_next: 1,
            started_at: None,
            updated_at: now,
            after: None,
        },
        effects,
    )?;
    rows.insert_start(new.key, &Message::Start(new.start.clone()))?;
    if let Some(at) = new.start.scheduled_for {
        let position = Position {
            execution: new.start.execution,
            generation: 0,
            next_event: 0,
        };
        let scheduled = NewTask {
            due: Some(at),
            ..NewTask::new(START, TaskRowKind::Start)
        };
        rows.insert_task(new.key, position, 0, scheduled)?;
    }
    insert_options(rows, new, now, effects)
}
