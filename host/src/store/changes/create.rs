//! Creates instances, and frees ids that are in use if the start allows it.

use perennial_core::{
    ChildPolicy, Command, Decision, Failure, InstanceOptions, Message, Millis, Rejection, Reuse,
    Start, Status, Timestamp, decide, kind,
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::store::StoreError;
use crate::store::changes::children::release_children;
use crate::store::codec::{decode, encode, int, uint};
use crate::store::rows::instances::{self, Row, find};
use crate::store::rows::parents::tell_parent;
use crate::store::rows::requests;
use crate::store::rows::tasks;
use crate::store::rows::tasks::NewTask;
use crate::store::rows::values;
use crate::store::types::{Effects, InstanceKey, NewInstance, Position, TaskRowKind};

/// The result of a start: the instance exists, or the reason why it was rejected.
pub(crate) type CreateOutcome = Result<(), Rejection>;

/// Whether an id is free now.
pub(crate) enum Created {
    Yes,
    No(Rejection),
}

/// An execution number that stands for all executions of an instance.
pub(crate) const ALL_EXECUTIONS: i64 = -1;

/// A history with at most this many turns and bytes is deleted with its instance; a longer one is deleted later, in batches.
const SHORT_TURNS: u32 = 32;
const SHORT_BYTES: u32 = 256 << 10;

/// Frees the id of `start` if its reuse policy allows that, or returns the rejection.
pub(crate) fn make_room(
    db: &Connection,
    start: &Start,
    reuse: Reuse,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Created, StoreError> {
    let found = find(db, &start.instance_id)?;
    match decide(found.map(|(_, status)| status), Command::Start(reuse)) {
        Ok(Decision::Create) => Ok(Created::Yes),
        Ok(_) => {
            if let Some((key, status)) = found {
                replace(db, key, status, now, effects)?;
            }
            Ok(Created::Yes)
        }
        Err(rejection) => Ok(Created::No(rejection)),
    }
}

/// Replaces an instance: a live one is terminated first, and its parent is notified.
fn replace(
    db: &Connection,
    key: InstanceKey,
    status: Status,
    _now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let mut parent =
        db.prepare_cached("SELECT id, parent_key, parent FROM instance WHERE key = ?1")?;
    let (id, parent_key, parent): (String, Option<i64>, Option<Vec<u8>>) =
        parent.query_row([key.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    if !status.is_end() {
        if let (Some(parent_key), Some(parent)) = (parent_key, parent) {
            let failure = Failure::permanent(
                kind::REPLACED,
                format!("instance {id:?} was replaced by a new one with the same id"),
            );
            let parent = decode(&parent, "a parent")?;
            tell_parent(db, InstanceKey(parent_key), &parent, Err(failure), effects)?;
        }
        release_children(db, key, &id, effects)?;
        effects.ended.push(id);
    }
    forget(db, key, effects)
}

/// Deletes an instance's row; a long history is deleted later, in batches.
pub(crate) fn forget(
    db: &Connection,
    key: InstanceKey,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    instances::untag(db, key)?;
    let mut delete = db.prepare_cached(
        "DELETE FROM instance WHERE key = ?1 RETURNING execution = 0 AND generation = 0 AND turns <= ?2 AND history_bytes <= ?3,
             value_count > 0, has_requests",
    )?;
    let deleted: Option<(bool, bool, bool)> = delete
        .query_row(params![key.0, SHORT_TURNS, SHORT_BYTES], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let (is_short, has_values, has_requests) = deleted.unwrap_or_default();
    if has_values {
        values::delete_all(db, key)?;
    }
    if has_requests {
        requests::delete_all(
            db,
            key,
            "the instance was deleted before it answered",
            effects,
        )?;
    }
    tasks::delete_all(db, key)?;
    db.prepare_cached("DELETE FROM inbox WHERE instance = ?1")?
        .execute([key.0])?;
    if is_short {
        db.prepare_cached("DELETE FROM turn WHERE instance = ?1")?
            .execute([key.0])?;
    } else {
        db.prepare_cached("INSERT OR IGNORE INTO garbage (instance, execution) VALUES (?1, ?2)")?
            .execute(params![key.0, ALL_EXECUTIONS])?;
        effects.garbage = true;
    }
    effects.gone.push(key);
    Ok(())
}

/// Creates an instance whose first turn comes later.
pub(crate) fn start(
    db: &Connection,
    new: &NewInstance,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<CreateOutcome, StoreError> {
    match make_room(db, &new.start, new.reuse, now, effects)? {
        Created::No(rejection) => return Ok(Err(rejection)),
        Created::Yes => insert_pending(db, new, now, effects)?,
    }
    effects.woken.push(new.key);
    Ok(Ok(()))
}

/// Writes what was said of a new instance, where that is not the default: the columns that its children and its time limit are found by.
pub(crate) fn insert_options(
    db: &Connection,
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
    let policy = match when_dropped {
        ChildPolicy::Abandon => None,
        ChildPolicy::Cancel => Some(1),
        ChildPolicy::Terminate => Some(2),
    };
    db.prepare_cached(
        "UPDATE instance SET when_dropped = ?1, execution_timeout = ?2 WHERE key = ?3",
    )?
    .execute(params![
        policy,
        execution_timeout.map(|limit| int(limit.0)),
        new.key.0
    ])?;
    let position = Position {
        execution: new.start.execution,
        generation: 0,
        next_event: 0,
    };
    // A scheduled start begins its time when it is due.
    arm_limit(
        db,
        new.key,
        position,
        new.start.scheduled_for.unwrap_or(now),
        effects,
    )
}

/// Sets the time limit of an instance that begins now, if it has one.
pub(crate) fn arm_limit(
    db: &Connection,
    key: InstanceKey,
    at: Position,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let mut query = db.prepare_cached("SELECT execution_timeout FROM instance WHERE key = ?1")?;
    let limit: Option<i64> = query.query_row([key.0], |row| row.get(0))?;
    if let Some(limit) = limit {
        let due = now.after(Millis(uint(limit)));
        tasks::insert_limit(db, key, at, due)?;
        effects.limits.push((key, at.task(tasks::LIMIT), due));
    }
    Ok(())
}

/// Inserts an instance with its start in its inbox.
pub(crate) fn insert_pending(
    db: &Connection,
    new: &NewInstance,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let row = Row {
        status: Status::Pending,
        next_event: 0,
        turns: 0,
        inbox_next: 1,
        started_at: None,
        updated_at: now,
        after: None,
    };
    instances::insert(db, new, &row)?;
    let message = encode(&Message::Start(new.start.clone()))?;
    db.prepare_cached("INSERT INTO inbox (instance, seq, message) VALUES (?1, 0, ?2)")?
        .execute(params![new.key.0, message])?;
    if let Some(at) = new.start.scheduled_for {
        let position = Position {
            execution: new.start.execution,
            generation: 0,
            next_event: 0,
        };
        let scheduled = NewTask {
            due: Some(at),
            ..NewTask::new(tasks::START, TaskRowKind::Start)
        };
        tasks::insert(db, new.key, position, 0, scheduled)?;
    }
    insert_options(db, new, now, effects)
}

/// Deletes up to `rows` rows of deleted instances and executions. Returns whether more may be left.
pub(crate) fn collect_garbage(db: &Connection, rows: u32) -> Result<bool, StoreError> {
    let mut left = rows as usize;
    while left > 0 {
        let mut next = db.prepare_cached("SELECT instance, execution FROM garbage LIMIT 1")?;
        let next: Option<(i64, i64)> = next
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((instance, execution)) = next else {
            return Ok(false);
        };
        let deleted = collect_one(db, instance, execution, left)?;
        if deleted < left {
            db.prepare_cached("DELETE FROM garbage WHERE instance = ?1 AND execution = ?2")?
                .execute(params![instance, execution])?;
        }
        // The entry itself counts, so that many short histories do not make one long transaction.
        left = left.saturating_sub(deleted + 1);
    }
    Ok(true)
}

/// Deletes up to `rows` rows of an execution, or of all executions of an instance. Returns their number.
fn collect_one(
    db: &Connection,
    instance: i64,
    execution: i64,
    rows: usize,
) -> Result<usize, StoreError> {
    let limit = int(rows as u64);
    let deleted = if execution == ALL_EXECUTIONS {
        db.prepare_cached(
            "DELETE FROM turn WHERE (instance, execution, number) IN
                 (SELECT instance, execution, number FROM turn WHERE instance = ?1 LIMIT ?2)",
        )?
        .execute(params![instance, limit])?
    } else {
        db.prepare_cached(
            "DELETE FROM turn WHERE (instance, execution, number) IN
                 (SELECT instance, execution, number FROM turn WHERE instance = ?1 AND execution = ?2 LIMIT ?3)",
        )?
        .execute(params![instance, execution, limit])?
    };
    Ok(deleted + collect_rewinds(db, instance, execution, limit)?)
}

/// Deletes up to `rows` turns that rewinds archived.
fn collect_rewinds(
    db: &Connection,
    instance: i64,
    execution: i64,
    rows: i64,
) -> Result<usize, StoreError> {
    let of = format!("instance = ?1 AND (?2 = {ALL_EXECUTIONS} OR execution = ?2)");
    let deleted = db
        .prepare_cached(&format!(
            "DELETE FROM cut_turn WHERE (instance, execution, generation, number) IN
                 (SELECT instance, execution, generation, number FROM cut_turn WHERE {of} LIMIT ?3)"
        ))?
        .execute(params![instance, execution, rows])?;
    db.prepare_cached(&format!("DELETE FROM rewind WHERE {of}"))?
        .execute(params![instance, execution])?;
    Ok(deleted)
}
