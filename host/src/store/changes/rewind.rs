//! Rewind and restart.

use perennial_core::{
    ArmedTimer, Callee, Command, Decision, DroppedKind, FailedKind, Failure, Json, Message, Parent,
    Rejection, RemainingFailure, Rewind, Status, Target, TaskId, TaskRef, Timestamp, Waiting,
    decide, kind,
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::store::StoreError;
use crate::store::changes::commit::insert_turn;
use crate::store::changes::create;
use crate::store::codec::{decode, encode, int, uint};
use crate::store::reply::{Reply, Rewound};
use crate::store::rows::instances::{self, deliver, status_of};
use crate::store::rows::modules;
use crate::store::rows::requests::{self, Asker};
use crate::store::rows::tags;
use crate::store::rows::tasks;
use crate::store::rows::tasks::NewTask;
use crate::store::rows::values;
use crate::store::types::{Effects, InstanceKey, NewInstance, Position, TaskRowKind};

/// A rewind that was planned from an earlier read of the hub.
#[derive(Debug)]
pub(crate) struct RewindCommit {
    pub(crate) key: InstanceKey,
    pub(crate) id: String,
    /// The position of the instance when the rewind was planned. A failed instance moves only if it is rewound, restarted or replaced.
    pub(crate) expected: Position,
    pub(crate) reason: Option<String>,
    /// The module on which the execution continues, if it changes.
    pub(crate) module: Option<perennial_core::Digest>,
    pub(crate) rewind: Rewind,
    /// The current target of each activity of the rewind, in order; `None` keeps the recorded one.
    pub(crate) targets: Vec<Option<Target>>,
    /// The new start of each child of the rewind, in order, or why it cannot be started.
    pub(crate) starts: Vec<Result<NewInstance, Failure>>,
    /// Ids of the children that were already rewound for this rewind.
    pub(crate) rewound: Vec<String>,
    /// Failures before the cut, which stay, and how many more there are.
    pub(crate) remaining: Vec<RemainingFailure>,
    pub(crate) more_remaining: u32,
}

/// The state of a child whose outcome the parent awaits again.
enum Standing {
    /// It is live, and will report its end.
    Live,
    /// It completed with this output.
    Completed(Option<Json>),
    /// It failed.
    Failed(Failure),
    /// It was terminated or deleted, so it is started again.
    Over(Option<InstanceKey>),
    /// Its id belongs to an unrelated instance with this status.
    Foreign(Status),
}

/// Rewinds a failed instance to before its failure, in one transaction. If children must be rewound first, changes nothing and returns
/// their ids.
///
/// # Errors
/// [`StoreError::Conflict`] if the instance has moved since the rewind was planned.
pub(crate) fn rewind(
    db: &Connection,
    commit: &RewindCommit,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    let key = commit.key;
    if let Err(rejection) = may_rewind(db, commit)? {
        return Ok(Reply::Rejected(rejection));
    }
    let mut standings = Vec::with_capacity(commit.rewind.children.len());
    let mut first = Vec::new();
    for (task, child) in &commit.rewind.children {
        let id = child.attempt_instance_id(child.attempt);
        let standing = standing(db, commit, *task, &id)?;
        if matches!(standing, Standing::Failed(_)) && !commit.rewound.contains(&id) {
            first.push(id.clone());
        }
        standings.push((id, standing));
    }
    if !first.is_empty() {
        return Ok(Reply::RewindFirst(first));
    }
    archive(db, commit, now)?;
    if let Some(turn) = &commit.rewind.carried {
        insert_turn(db, key, commit.expected.execution, turn)?;
    }
    put_back(db, commit, now)?;
    db.prepare_cached("DELETE FROM inbox WHERE instance = ?1")?
        .execute([key.0])?;
    for message in &commit.rewind.inbox {
        deliver(db, key, message)?;
    }
    arm(db, commit)?;
    let again = Position {
        generation: commit.rewind.state.generation,
        ..commit.expected
    };
    create::arm_limit(db, key, again, now, effects)?;
    let asker = Asker {
        key,
        task: again.task(TaskId(0)),
    };
    requests::asker_was_rewound(db, asker, &commit.rewind.requests)?;
    let mut remaining = commit.remaining.clone();
    remaining.extend(fail_again(commit));
    let settled = settle_children(db, commit, standings, now, effects)?;
    remaining.extend(settled.failed);
    drop_children(db, commit, effects)?;
    effects.anew.push(key);
    effects.changed.push(commit.id.clone());
    let activities = commit.rewind.activities.iter();
    Ok(Reply::Rewound(Box::new(Rewound {
        activities: activities
            .map(|armed| (armed.task, armed.name.clone()))
            .collect(),
        rewound: commit.rewound.clone(),
        started: settled.started,
        dropped: commit.rewind.dropped.clone(),
        remaining,
        more_remaining: commit.more_remaining,
        dropped_events: commit
            .rewind
            .dropped_event
            .iter()
            .map(|event| (commit.id.clone(), event.clone()))
            .collect(),
        cut_events: commit.expected.next_event - events_before_the_cut(commit),
    })))
}

/// Checks that the instance may be rewound and has not moved since the rewind was planned.
fn may_rewind(db: &Connection, commit: &RewindCommit) -> Result<Result<(), Rejection>, StoreError> {
    let mut row = db.prepare_cached(
        "SELECT status, execution, generation, next_event FROM instance WHERE key = ?1",
    )?;
    let found: Option<(u8, u32, u32, i64)> = row
        .query_row([commit.key.0], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    let Some((status, execution, generation, next_event)) = found else {
        return Err(StoreError::Conflict);
    };
    if let Err(rejection) = decide(Some(status_of(status)?), Command::Rewind) {
        return Ok(Err(rejection));
    }
    let position = Position {
        execution,
        generation,
        next_event: uint(next_event),
    };
    if position != commit.expected {
        return Err(StoreError::Conflict);
    }
    Ok(Ok(()))
}

fn events_before_the_cut(commit: &RewindCommit) -> u64 {
    let carried = commit.rewind.carried.as_ref();
    carried.map_or(commit.rewind.state.next_event, |turn| turn.first_event)
}

/// Activities that will fail again: their call is invalid, or no module defines them.
fn fail_again(commit: &RewindCommit) -> impl Iterator<Item = RemainingFailure> {
    let armed = commit.rewind.activities.iter().zip(&commit.targets);
    armed.filter_map(|(armed, target)| {
        let target = target.as_ref().unwrap_or(&armed.target);
        let failure = target.failure(Callee::Activity, &armed.name)?;
        let name = armed.name.clone();
        Some(again(armed.task, FailedKind::Activity, name, &failure))
    })
}

fn again(task: TaskId, kind: FailedKind, name: String, failure: &Failure) -> RemainingFailure {
    RemainingFailure {
        task,
        kind,
        name,
        failure: failure.kind.clone(),
        message: failure.message.clone(),
        why: "it was asked for again, and fails at once for the same reason".to_owned(),
    }
}

/// The current state of a child. A child that was restarted in place has no parent any more, but its row still names its former one.
fn standing(
    db: &Connection,
    commit: &RewindCommit,
    task: TaskId,
    id: &str,
) -> Result<Standing, StoreError> {
    type Found = (
        i64,
        u8,
        Option<String>,
        Option<i64>,
        Option<Vec<u8>>,
        Option<String>,
        Option<Vec<u8>>,
    );
    let mut query = db.prepare_cached(
        "SELECT key, status, parent_id, parent_key, parent, output, failure FROM instance WHERE id = ?1",
    )?;
    let found: Option<Found> = query
        .query_row([id], |row| {
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
                row.get(5)?,
                row.get(6)?,
            ))
        })
        .optional()?;
    let Some((key, status, parent_id, parent_key, parent, output, failure)) = found else {
        return Ok(Standing::Over(None));
    };
    let status = status_of(status)?;
    let is_of_task = match &parent {
        Some(bytes) => {
            let parent: Parent = decode(bytes, "a parent")?;
            parent.instance_id == commit.id
                && (parent.task.execution, parent.task.task) == (commit.expected.execution, task)
        }
        None => false,
    };
    let is_own = match parent_key {
        Some(parent_key) => parent_key == commit.key.0,
        None => parent_id.is_none(),
    };
    if !(is_of_task && is_own) {
        // It blocks the id only until it has ended.
        let is_left_behind = parent_key.is_none() && parent_id.as_ref() == Some(&commit.id);
        return Ok(if status.is_end() || is_left_behind {
            Standing::Over(Some(InstanceKey(key)))
        } else {
            Standing::Foreign(status)
        });
    }
    Ok(match status {
        Status::Pending | Status::Running | Status::Suspended => Standing::Live,
        Status::Completed => Standing::Completed(output.map(Json::from_text)),
        Status::Failed => match failure {
            Some(bytes) => Standing::Failed(decode(&bytes, "the failure of an instance")?),
            None => Standing::Over(Some(InstanceKey(key))),
        },
        Status::Terminated => Standing::Over(Some(InstanceKey(key))),
    })
}

/// Archives the turns that are cut off, with the reason.
fn archive(db: &Connection, commit: &RewindCommit, now: Timestamp) -> Result<(), StoreError> {
    let (key, at, cut) = (commit.key.0, commit.expected, commit.rewind.cut);
    db.prepare_cached(
        "INSERT INTO rewind (instance, execution, generation, at, reason, cut) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![key, at.execution, at.generation, int(now.0), commit.reason, cut])?;
    db.prepare_cached(
        "INSERT INTO cut_turn (instance, execution, generation, number, first_event, at, answer, received, produced)
             SELECT instance, execution, ?3, number, first_event, at, answer, received, produced FROM turn
             WHERE instance = ?1 AND execution = ?2 AND number >= ?4",
    )?
    .execute(params![key, at.execution, at.generation, cut])?;
    db.prepare_cached("DELETE FROM turn WHERE instance = ?1 AND execution = ?2 AND number >= ?3")?
        .execute(params![key, at.execution, cut])?;
    Ok(())
}

fn put_back(db: &Connection, commit: &RewindCommit, now: Timestamp) -> Result<(), StoreError> {
    if let Some(digest) = commit.module {
        modules::expect(db, digest)?;
    }
    let state = &commit.rewind.state;
    // The guest says in its next turn what it waits for. If an event was dropped, there may be no turn until it is sent again, so the
    // instance waits for that event from now on.
    let dropped = commit.rewind.dropped_event.as_ref();
    let waiting = dropped.map(|event| Waiting {
        events: vec![event.name.clone()],
        ..Waiting::default()
    });
    let waiting = waiting.as_ref().map(encode).transpose()?;
    db.prepare_cached(
        "UPDATE instance SET status = ?1, generation = ?2, next_event = ?3, turns = ?4, history_bytes = ?5, returned = 0, deliveries = 0,
             updated_at = ?6, module = coalesce(?7, module), custom_status = ?8, output = NULL, failure = NULL, waiting = ?10, unread_bytes = 0,
             quarantine = NULL
         WHERE key = ?9",
    )?
    .execute(params![
        instances::status_number(Status::Running),
        state.generation,
        int(state.next_event),
        state.turns,
        int(state.history_bytes),
        int(now.0),
        commit.module.map(|digest| digest.0),
        commit.rewind.custom_status().map(Json::as_str),
        commit.key.0,
        waiting,
    ])?;
    values::replace(db, commit.key, &commit.rewind.values(), now)?;
    if !commit.rewind.tags.is_empty() {
        tags::change(db, commit.key, &commit.rewind.tags, |_| true)?.ok();
    }
    Ok(())
}

/// Inserts the rows of the tasks that the engine must act on.
fn arm(db: &Connection, commit: &RewindCommit) -> Result<(), StoreError> {
    let at = Position {
        generation: commit.rewind.state.generation,
        ..commit.expected
    };
    for (armed, target) in commit.rewind.activities.iter().zip(&commit.targets) {
        let module = match target.as_ref().unwrap_or(&armed.target) {
            Target::Module(digest) => Some(*digest),
            _ => None,
        };
        let new = NewTask {
            module,
            target: target.as_ref(),
            scheduled_in: Some(written_in(db, commit, armed.turn)?),
            ..NewTask::new(armed.task, TaskRowKind::Activity)
        };
        tasks::insert(db, commit.key, at, armed.turn, new)?;
    }
    for ArmedTimer {
        task,
        turn,
        due,
        by_clock,
        attempt,
    } in &commit.rewind.timers
    {
        let kind = match attempt {
            Some(_) => TaskRowKind::ChildRetry,
            None if *by_clock => TaskRowKind::TimerAt,
            None => TaskRowKind::Timer,
        };
        let module = match commit.rewind.state.child(*task).map(|child| &child.target) {
            Some(Target::Module(digest)) => Some(*digest),
            _ => None,
        };
        let new = NewTask {
            module,
            due: Some(*due),
            attempt: attempt.unwrap_or(1),
            ..NewTask::new(*task, kind)
        };
        tasks::insert(db, commit.key, at, *turn, new)?;
    }
    Ok(())
}

/// The generation in which a kept turn was written: the one after the last rewind that cut at or before it.
fn written_in(db: &Connection, commit: &RewindCommit, turn: u32) -> Result<u32, StoreError> {
    let mut query = db.prepare_cached(
        "SELECT coalesce(max(generation) + 1, 0) FROM rewind WHERE instance = ?1 AND execution = ?2 AND cut <= ?3",
    )?;
    let of = params![commit.key.0, commit.expected.execution, turn];
    Ok(query.query_row(of, |row| row.get(0))?)
}

/// The children of a rewind after it.
#[derive(Default)]
struct Settled {
    /// Ids of the children that were started again.
    started: Vec<String>,
    /// The children that fail again.
    failed: Vec<RemainingFailure>,
}

/// Makes each awaited child report its outcome to the new task id, or delivers the outcome now.
fn settle_children(
    db: &Connection,
    commit: &RewindCommit,
    standings: Vec<(String, Standing)>,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Settled, StoreError> {
    let mut settled = Settled::default();
    let children = commit.rewind.children.iter().zip(&commit.starts);
    for (((task, child), start), (id, standing)) in children.zip(standings) {
        let task = TaskRef {
            execution: commit.expected.execution,
            generation: commit.rewind.state.generation,
            task: *task,
        };
        let outcome = match (standing, start) {
            (Standing::Live, _) => {
                repoint(db, commit, &id, task, child.attempt)?;
                continue;
            }
            (Standing::Over(old), Ok(new)) => {
                if let Some(old) = old {
                    create::forget(db, old, effects)?;
                }
                create::insert_pending(db, new, now, effects)?;
                effects.woken.push(new.key);
                settled.started.push(id);
                continue;
            }
            (Standing::Over(_), Err(failure)) => Err(failure.clone()),
            (Standing::Failed(failure), _) => Err(failure),
            (Standing::Completed(output), _) => Ok(output),
            (Standing::Foreign(status), _) => Err(Failure::permanent(
                kind::INSTANCE_EXISTS,
                format!("instance {id:?} exists already and is {status}"),
            )),
        };
        if let Err(failure) = &outcome {
            let name = child.name.clone();
            let failed = again(task.task, FailedKind::Child, name, failure);
            settled.failed.push(failed);
        }
        let message = Message::ChildEnded {
            task,
            attempt: child.attempt,
            outcome,
        };
        deliver(db, commit.key, &message)?;
    }
    Ok(settled)
}

/// Points a live child to the new id of its task. A child that was restarted in place becomes a child again.
fn repoint(
    db: &Connection,
    commit: &RewindCommit,
    id: &str,
    task: TaskRef,
    attempt: u32,
) -> Result<(), StoreError> {
    let mut query = db.prepare_cached("SELECT parent FROM instance WHERE id = ?1")?;
    let parent: Vec<u8> = query.query_row([id], |row| row.get(0))?;
    let parent = Parent {
        task,
        attempt,
        ..decode(&parent, "a parent")?
    };
    db.prepare_cached(
        "UPDATE instance SET parent = ?1, parent_id = ?2, parent_key = ?3 WHERE id = ?4",
    )?
    .execute(params![encode(&parent)?, commit.id, commit.key.0, id])?;
    Ok(())
}

/// Terminates the children that were scheduled after the cut. They do not report their ends, and free their ids for new children.
fn drop_children(
    db: &Connection,
    commit: &RewindCommit,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let ids = commit
        .rewind
        .dropped
        .iter()
        .flat_map(|dropped| match &dropped.kind {
            DroppedKind::Child { instance_ids, .. } => instance_ids.as_slice(),
            DroppedKind::Activity { .. } | DroppedKind::Timer | DroppedKind::Request { .. } => &[],
        });
    for id in ids {
        let mut orphan = db.prepare_cached(
            "UPDATE instance SET parent_key = NULL WHERE id = ?1 AND parent_key = ?2 RETURNING key, status",
        )?;
        let found: Option<(i64, u8)> = orphan
            .query_row(params![id, commit.key.0], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((key, status)) = found else { continue };
        if status_of(status)?.is_end() {
            continue;
        }
        let reason = format!("{:?} was rewound to before it called this", commit.id);
        let message = Message::Terminate {
            reason: Some(reason),
            recursive: true,
        };
        deliver(db, InstanceKey(key), &message)?;
        effects.woken.push(InstanceKey(key));
    }
    Ok(())
}

/// A restart: the instance begins again with its next execution.
#[derive(Debug)]
pub(crate) struct RestartCommit {
    pub(crate) key: InstanceKey,
    /// The position of the instance when the restart was planned.
    pub(crate) expected: Position,
    pub(crate) new: NewInstance,
}

/// Begins the next execution of an ended instance. It has no parent any more, but its row still names the former one, so that a rewind of
/// that parent can adopt its outcome. This does not apply to a child that a rewind of its parent dropped.
///
/// # Errors
/// [`StoreError::Conflict`] if the instance has moved since the restart was planned.
pub(crate) fn restart(
    db: &Connection,
    commit: &RestartCommit,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    let RestartCommit { key, expected, new } = commit;
    let start = &new.start;
    let found = instances::find(db, &start.instance_id)?.filter(|(found, _)| found == key);
    match decide(found.map(|(_, status)| status), Command::Restart) {
        Ok(Decision::NextExecution) => {}
        Ok(_) | Err(Rejection::NotFound) => return Err(StoreError::Conflict),
        Err(rejection) => return Ok(Reply::Rejected(rejection)),
    }
    if let Some(digest) = start.module {
        modules::expect(db, digest)?;
    }
    // The creation time is part of its position in the lists by tag.
    instances::untag(db, *key)?;
    let changed = db
        .prepare_cached(
            "UPDATE instance SET status = 0, execution = ?1, execution_id = ?2, version = ?3, module = ?4, generation = 0, next_event = 0,
                 turns = 0, history_bytes = 0, returned = 0, deliveries = 0, created_at = ?5, started_at = NULL, updated_at = ?5,
                 scheduled_for = NULL, parent = iif(parent_key IS NULL AND parent_id IS NOT NULL, NULL, parent), parent_id = NULL,
                 parent_key = NULL, custom_status = NULL, output = NULL, failure = NULL, waiting = NULL, quarantine = NULL,
                 unread_bytes = 0, value_count = 0, has_requests = 0
             WHERE key = ?6 AND execution = ?7 AND generation = ?8 AND next_event = ?9",
        )?
        .execute(params![
            start.execution,
            start.execution_id,
            start.version,
            start.module.map(|digest| digest.0),
            int(now.0),
            key.0,
            expected.execution,
            expected.generation,
            int(expected.next_event),
        ])?;
    if changed != 1 {
        return Err(StoreError::Conflict);
    }
    instances::tag(db, *key)?;
    values::delete_all(db, *key)?;
    requests::delete_all(
        db,
        *key,
        "the instance was restarted before it answered",
        effects,
    )?;
    tasks::delete_all(db, *key)?;
    db.prepare_cached("DELETE FROM inbox WHERE instance = ?1")?
        .execute([key.0])?;
    deliver(db, *key, &Message::Start(start.clone()))?;
    let begins = Position {
        execution: start.execution,
        generation: 0,
        next_event: 0,
    };
    create::arm_limit(db, *key, begins, now, effects)?;
    db.prepare_cached("INSERT OR IGNORE INTO garbage (instance, execution) VALUES (?1, ?2)")?
        .execute(params![key.0, expected.execution])?;
    effects.garbage = true;
    effects.anew.push(*key);
    effects.changed.push(start.instance_id.clone());
    Ok(Reply::Done)
}
