//! Rows of open tasks, from which the engine continues after a restart.
#![warn(
    clippy::match_wildcard_for_single_variants,
    clippy::wildcard_enum_match_arm
)]

use perennial_core::{
    AttemptRun, Digest, Event, FailedAttempt, Json, Message, Target, TaskId, TaskRef, Timestamp,
    Turn,
};
use rusqlite::{Connection, Row, params};

use crate::store::StoreError;
use crate::store::codec::{decode, encode, int, uint};
use crate::store::rows::modules;
use crate::store::types::{
    Beat, CutOff, InstanceKey, Position, Retry, TaskRow, TaskRowKind, WasRunning, task_ref,
};

/// The task id of a scheduled start. No guest may use this number.
pub(crate) const START: TaskId = TaskId(u32::MAX);

/// The task id of the time that an execution has to clean up after it was asked to cancel. No guest may use this number.
pub(crate) const GRACE: TaskId = TaskId(u32::MAX - 1);

/// The task id of the time limit of an instance. No guest may use this number.
pub(crate) const LIMIT: TaskId = TaskId(u32::MAX - 2);

/// Updates the rows of open tasks with a turn.
#[expect(
    clippy::too_many_lines,
    reason = "it is a table, with an arm for each event"
)]
pub(crate) fn record(
    db: &Connection,
    key: InstanceKey,
    at: Position,
    turn: &Turn,
    retried: &[(TaskId, Digest)],
) -> Result<(), StoreError> {
    let mut known = None;
    let open = |task: NewTask<'_>| insert(db, key, at, turn.number, task);
    for event in turn.events() {
        match event {
            Event::ActivityScheduled { task, target, .. } => {
                let module = if let Target::Module(digest) = target {
                    Some(*digest)
                } else {
                    None
                };
                if let Some(digest) = module.filter(|_| module != known) {
                    modules::expect(db, digest)?;
                    known = module;
                }
                open(NewTask {
                    module,
                    ..NewTask::new(*task, TaskRowKind::Activity)
                })?;
            }
            Event::TimerSet { task, fire_at } => {
                open(NewTask {
                    due: Some(turn.due(*fire_at)),
                    ..NewTask::new(*task, TaskRowKind::Timer)
                })?;
            }
            Event::TimerSetAt { task, at } => {
                open(NewTask {
                    due: Some(*at),
                    ..NewTask::new(*task, TaskRowKind::TimerAt)
                })?;
            }
            Event::CancellationRequested(asked) => {
                open(NewTask {
                    due: Some(turn.due(asked.deadline)),
                    ..NewTask::new(GRACE, TaskRowKind::Grace)
                })?;
            }
            Event::ChildRetryScheduled {
                task,
                attempt,
                at: due,
                ..
            } => {
                let mut modules = retried.iter();
                open(NewTask {
                    module: modules.find_map(|(child, digest)| (child == task).then_some(*digest)),
                    due: Some(*due),
                    attempt: *attempt,
                    ..NewTask::new(*task, TaskRowKind::ChildRetry)
                })?;
            }
            Event::ActivityCompleted { task, .. }
            | Event::ActivityFailed { task, .. }
            | Event::TimerFired { task }
            | Event::TaskCanceled { task }
            // A child whose retry waited past its time limit fails without another attempt.
            | Event::ChildFailed { task, .. }
            | Event::ChildRetried { task, .. } => delete(db, key, *task)?,
            Event::ExecutionReturned { .. } => {
                let mut timers =
                    db.prepare_cached("DELETE FROM task WHERE instance = ?1 AND kind IN (?2, ?3, ?4)")?;
                let kinds = [TaskRowKind::Timer, TaskRowKind::TimerAt, TaskRowKind::Grace];
                let [timer, timer_at, grace] = kinds.map(kind_number);
                timers.execute(params![key.0, timer, timer_at, grace])?;
            }
            Event::ExecutionStarted(start) if start.scheduled_for.is_some() => {
                delete(db, key, START)?;
            }
            // A child has a row only while it waits for a retry; the other events change no task.
            Event::ChildScheduled { .. }
            | Event::ChildCompleted { .. }
            | Event::AttemptFailed { .. }
            | Event::TurnStarted { .. }
            | Event::ExecutionStarted(_)
            | Event::ExternalEventRaised { .. }
            | Event::EventSent { .. }
            | Event::InstanceStarted { .. }
            | Event::CustomStatusSet { .. }
            | Event::ExecutionCompleted { .. }
            | Event::ExecutionFailed { .. }
            | Event::ExecutionTerminated { .. }
            | Event::ContinuedAsNew { .. }
            | Event::ExecutionSuspended { .. }
            | Event::ExecutionResumed { .. }
            | Event::InstanceStartSkipped { .. }
            | Event::CallDetails { .. }
            | Event::ValueSet { .. }
            | Event::TagSet { .. }
            | Event::ActivityOptions { .. }
            | Event::InstanceOptions { .. }
            | Event::ChildCommanded { .. }
            | Event::RequestReceived { .. }
            | Event::RequestAnswered { .. }
            | Event::RequestSent { .. }
            | Event::RequestCompleted { .. }
            | Event::RequestFailed { .. }
            | Event::ExecutionTimedOut { .. } => {}
        }
    }
    Ok(())
}

/// Deletes the rows of all tasks of an instance.
pub(crate) fn delete_all(db: &Connection, key: InstanceKey) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM task WHERE instance = ?1")?
        .execute([key.0])?;
    Ok(())
}

/// Deletes the rows of all tasks of an execution; the time limit of its instance stays.
pub(crate) fn delete_execution(db: &Connection, key: InstanceKey) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM task WHERE instance = ?1 AND task <> ?2")?
        .execute([key.0, i64::from(LIMIT.0)])?;
    Ok(())
}

/// Inserts the time limit of an instance.
pub(crate) fn insert_limit(
    db: &Connection,
    key: InstanceKey,
    at: Position,
    due: Timestamp,
) -> Result<(), StoreError> {
    let limit = NewTask {
        due: Some(due),
        ..NewTask::new(LIMIT, TaskRowKind::Limit)
    };
    insert(db, key, at, 0, limit)
}

/// Deletes the row of a task whose outcome is in the inbox: it needs no more action.
pub(crate) fn settle(db: &Connection, key: InstanceKey, task: TaskRef) -> Result<(), StoreError> {
    db.prepare_cached(
        "DELETE FROM task WHERE instance = ?1 AND task = ?2 AND execution = ?3 AND generation = ?4",
    )?
    .execute(params![key.0, task.task.0, task.execution, task.generation])?;
    Ok(())
}

/// Deletes the activities that wait for a retry, except those with a running attempt. Returns their outcomes: their last failures.
pub(crate) fn give_up_retries(
    db: &Connection,
    key: InstanceKey,
    running: &[TaskId],
) -> Result<Vec<Message>, StoreError> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM task WHERE instance = ?1 AND kind = ?2 AND due IS NOT NULL ORDER BY task"
    ))?;
    let mut rows = query.query(params![key.0, kind_number(TaskRowKind::Activity)])?;
    let mut outcomes = Vec::new();
    while let Some(row) = rows.next()? {
        let row = read(row)?;
        if running.contains(&row.task.task) {
            continue;
        }
        let Some(failure) = row.failure else { continue };
        let (task, mut attempts) = (row.task, row.attempts);
        let run = match attempts.pop() {
            Some(last) => last.run,
            // A version that did not store the failure set this row.
            None => AttemptRun {
                attempt: row.attempt - 1,
                ..AttemptRun::default()
            },
        };
        if !attempts.is_empty() {
            outcomes.push(Message::AttemptsFailed { task, attempts });
        }
        outcomes.push(Message::ActivityEnded {
            task: row.task,
            outcome: Err(failure),
            run,
        });
        settle(db, key, row.task)?;
    }
    Ok(outcomes)
}

/// Records that an attempt failed and when the next one starts. `false` if the task is no longer awaited, or no attempt may start because
/// the orchestration has returned.
pub(crate) fn retry(db: &Connection, retry: &Retry) -> Result<bool, StoreError> {
    let changed = db
        .prepare_cached(
            "UPDATE task SET attempt = ?1, due = ?2, first_started = ?3, failure = ?4, attempts = ?9, begun_at = NULL,
                 heartbeat_at = coalesce(?10, heartbeat_at), heartbeat = coalesce(?11, heartbeat)
             WHERE instance = ?5 AND task = ?6 AND execution = ?7 AND generation = ?8
               AND EXISTS (SELECT 1 FROM instance WHERE key = ?5 AND returned = 0)",
        )?
        .execute(params![
            retry.attempt,
            int(retry.due.0),
            int(retry.first_started.0),
            encode(&retry.failure)?,
            retry.key.0,
            retry.task.task.0,
            retry.task.execution,
            retry.task.generation,
            encode(&retry.attempts)?,
            beat_at(retry.heartbeat.as_ref()),
            details(retry.heartbeat.as_ref()),
        ])?;
    Ok(changed == 1)
}

/// Counts a crash of the host while it ran a task, or a turn if no task is named. The attempt counts as one of the failed attempts from
/// then on. `now` is when the crash was found.
pub(crate) fn count_delivery(
    db: &Connection,
    was: &WasRunning,
    now: Timestamp,
) -> Result<(), StoreError> {
    let key = was.key;
    match was.task {
        Some(task) => {
            let sql = format!("SELECT {COLUMNS} FROM task WHERE instance = ?1 AND task = ?2");
            let mut query = db.prepare_cached(&sql)?;
            let mut rows = query.query(params![key.0, task.0])?;
            let Some(row) = rows.next()?.map(read).transpose()? else {
                return Ok(());
            };
            let number = row.number();
            let is_counted = was.attempt.is_some_and(|was| was < number);
            // The start of an attempt that is to run at most once is recorded already, and so is one that was counted as its host stopped.
            if row.begun_at.is_some() || is_counted {
                return Ok(());
            }
            let started_at = was.started_at.unwrap_or(now);
            let run = AttemptRun {
                attempt: number,
                started_at,
                ended_at: now.max(started_at),
            };
            let mut attempts = row.attempts;
            FailedAttempt::cut_off(run).follow(&mut attempts);
            db.prepare_cached(
                "UPDATE task SET deliveries = deliveries + 1, first_started = coalesce(first_started, ?3), attempts = ?4
                 WHERE instance = ?1 AND task = ?2",
            )?
            .execute(params![
                key.0,
                task.0,
                int(started_at.0),
                encode(&attempts)?
            ])?
        }
        None => db
            .prepare_cached("UPDATE instance SET deliveries = deliveries + 1 WHERE key = ?1")?
            .execute([key.0])?,
    };
    Ok(())
}

/// Records that an attempt begins of an activity that is to run at most once, or with `None` that it did not begin. `false` if the task is no
/// longer awaited.
pub(crate) fn begin(
    db: &Connection,
    (key, task): (InstanceKey, TaskRef),
    at: Option<Timestamp>,
) -> Result<bool, StoreError> {
    let changed = db
        .prepare_cached(
            "UPDATE task SET begun_at = ?1 WHERE instance = ?2 AND task = ?3 AND execution = ?4 AND generation = ?5",
        )?
        .execute(params![
            at.map(|at| int(at.0)),
            key.0,
            task.task.0,
            task.execution,
            task.generation
        ])?;
    Ok(changed == 1)
}

/// Records the last heartbeat of an attempt, if its task is still awaited.
pub(crate) fn beat(
    db: &Connection,
    (key, task): (InstanceKey, TaskRef),
    beat: &Beat,
) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE task SET heartbeat_at = ?1, heartbeat = coalesce(?2, heartbeat)
         WHERE instance = ?3 AND task = ?4 AND execution = ?5 AND generation = ?6",
    )?
    .execute(params![
        int(beat.at.0),
        details(Some(beat)),
        key.0,
        task.task.0,
        task.execution,
        task.generation
    ])?;
    Ok(())
}

/// Counts an attempt that was cut off, or stopped, because its host was stopped.
pub(crate) fn cut_off(db: &Connection, cut: &CutOff, now: Timestamp) -> Result<(), StoreError> {
    let (key, task) = (cut.key, cut.task);
    let sql = format!(
        "SELECT {COLUMNS} FROM task WHERE instance = ?1 AND task = ?2 AND execution = ?3 AND generation = ?4"
    );
    let mut query = db.prepare_cached(&sql)?;
    let mut rows = query.query(params![key.0, task.task.0, task.execution, task.generation])?;
    let Some(row) = rows.next()?.map(read).transpose()? else {
        return Ok(());
    };
    if row.begun_at.is_some() && !cut.is_known {
        // Its outcome is unknown, and no attempt follows.
        return Ok(());
    }
    let run = AttemptRun {
        attempt: row.number(),
        started_at: cut.started_at,
        ended_at: now.max(cut.started_at),
    };
    let mut attempts = row.attempts;
    FailedAttempt::stopped(run).follow(&mut attempts);
    db.prepare_cached(
        "UPDATE task SET cut = cut + 1, first_started = coalesce(first_started, ?3), attempts = ?4, begun_at = NULL,
             heartbeat_at = coalesce(?5, heartbeat_at), heartbeat = coalesce(?6, heartbeat)
         WHERE instance = ?1 AND task = ?2",
    )?
    .execute(params![
        key.0,
        task.task.0,
        int(cut.started_at.0),
        encode(&attempts)?,
        beat_at(cut.heartbeat.as_ref()),
        details(cut.heartbeat.as_ref()),
    ])?;
    Ok(())
}

/// Counts an attempt for each activity that may have begun one, other than those that are known to have: after a power failure nothing else
/// tells which had.
pub(crate) fn cut_off_all(
    db: &Connection,
    known: &[WasRunning],
    now: Timestamp,
) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE task SET cut = cut + 1 WHERE kind = ?1 AND begun_at IS NULL AND (due IS NULL OR due <= ?2)",
    )?
    .execute(params![kind_number(TaskRowKind::Activity), int(now.0)])?;
    for was in known {
        if let Some(task) = was.task {
            db.prepare_cached(
                "UPDATE task SET cut = cut - 1
                 WHERE instance = ?1 AND task = ?2 AND kind = ?3 AND begun_at IS NULL AND (due IS NULL OR due <= ?4)",
            )?
            .execute(params![
                was.key.0,
                task.0,
                kind_number(TaskRowKind::Activity),
                int(now.0)
            ])?;
        }
    }
    Ok(())
}

fn beat_at(beat: Option<&Beat>) -> Option<i64> {
    beat.map(|beat| int(beat.at.0))
}

fn details(beat: Option<&Beat>) -> Option<&str> {
    beat?.details.as_ref().map(Json::as_str)
}

/// The columns that [`read`] reads, in its order.
pub(crate) const COLUMNS: &str = "instance, task, kind, execution, generation, turn, due, attempt, first_started, deliveries, failure, target, scheduled_in,
     attempts, (SELECT at FROM turn WHERE turn.instance = task.instance AND turn.execution = task.execution AND turn.number = task.turn),
     begun_at, cut, heartbeat_at, heartbeat";

/// Reads a row of [`COLUMNS`].
pub(crate) fn read(row: &Row<'_>) -> Result<TaskRow, StoreError> {
    let time = |column| -> Result<Option<Timestamp>, StoreError> {
        Ok(row.get::<_, Option<i64>>(column)?.map(uint).map(Timestamp))
    };
    let failure: Option<Vec<u8>> = row.get(10)?;
    let target: Option<Vec<u8>> = row.get(11)?;
    let attempts: Option<Vec<u8>> = row.get(13)?;
    let attempts: Vec<FailedAttempt> = attempts
        .map(|bytes| decode(&bytes, "the attempts of a task"))
        .transpose()?
        .unwrap_or_default();
    let last = attempts.last().map(|last| last.run.ended_at);
    let details: Option<String> = row.get(18)?;
    let heartbeat = time(17)?.map(|at| Beat {
        at,
        details: details.map(Json::from_text),
    });
    Ok(TaskRow {
        set_at: last.or(time(14)?).unwrap_or_default(),
        attempts,
        key: InstanceKey(row.get(0)?),
        task: task_ref(row.get(3)?, row.get(4)?, row.get(1)?),
        kind: kind_of(row.get(2)?)?,
        turn: row.get(5)?,
        due: time(6)?,
        attempt: row.get(7)?,
        first_started: time(8)?,
        deliveries: row.get(9)?,
        cut: row.get(16)?,
        begun_at: time(15)?,
        heartbeat,
        failure: failure
            .map(|bytes| decode(&bytes, "the failure of a task"))
            .transpose()?,
        target: target
            .map(|bytes| decode(&bytes, "what runs a task"))
            .transpose()?,
        scheduled_in: row.get(12)?,
    })
}

/// A row to insert.
pub(crate) struct NewTask<'a> {
    pub(crate) task: TaskId,
    pub(crate) kind: TaskRowKind,
    /// The module that runs it; the reference keeps the module from deletion.
    pub(crate) module: Option<Digest>,
    pub(crate) due: Option<Timestamp>,
    pub(crate) attempt: u32,
    pub(crate) target: Option<&'a Target>,
    /// The generation in which it was scheduled, if it is not the current one.
    pub(crate) scheduled_in: Option<u32>,
}

impl NewTask<'_> {
    /// A first attempt that may start at once.
    pub(crate) fn new(task: TaskId, kind: TaskRowKind) -> Self {
        Self {
            task,
            kind,
            module: None,
            due: None,
            attempt: 1,
            target: None,
            scheduled_in: None,
        }
    }
}

/// Inserts the row of a task that `turn` scheduled.
pub(crate) fn insert(
    db: &Connection,
    key: InstanceKey,
    at: Position,
    turn: u32,
    new: NewTask<'_>,
) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT INTO task (instance, task, kind, execution, generation, turn, due, attempt, deliveries, target, scheduled_in, module)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9, ?10, ?11)",
    )?
    .execute(params![
        key.0,
        new.task.0,
        kind_number(new.kind),
        at.execution,
        at.generation,
        turn,
        new.due.map(|at| int(at.0)),
        new.attempt,
        new.target.map(encode).transpose()?,
        new.scheduled_in.unwrap_or(at.generation),
        new.module.map(|digest| digest.0),
    ])?;
    Ok(())
}

fn delete(db: &Connection, key: InstanceKey, task: TaskId) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM task WHERE instance = ?1 AND task = ?2")?
        .execute(params![key.0, task.0])?;
    Ok(())
}

/// The number of a kind in the file.
pub(crate) fn kind_number(kind: TaskRowKind) -> u8 {
    match kind {
        TaskRowKind::Activity => 0,
        TaskRowKind::Timer => 1,
        TaskRowKind::ChildRetry => 2,
        TaskRowKind::Start => 3,
        TaskRowKind::TimerAt => 4,
        TaskRowKind::Grace => 5,
        TaskRowKind::Limit => 6,
    }
}

/// The inverse of [`kind_number`].
pub(super) fn kind_of(number: u8) -> Result<TaskRowKind, StoreError> {
    match number {
        0 => Ok(TaskRowKind::Activity),
        1 => Ok(TaskRowKind::Timer),
        2 => Ok(TaskRowKind::ChildRetry),
        3 => Ok(TaskRowKind::Start),
        4 => Ok(TaskRowKind::TimerAt),
        5 => Ok(TaskRowKind::Grace),
        6 => Ok(TaskRowKind::Limit),
        other => Err(StoreError::Corrupt(format!("{other} is no kind of task"))),
    }
}
