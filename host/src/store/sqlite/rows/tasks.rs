//! Rows of open tasks.

use perennial_core::{FailedAttempt, Json, TaskId, TaskRef, Timestamp};
use rusqlite::{Row, params};

use crate::store::StoreError;
use crate::store::codec::{decode, encode, int, uint};
use crate::store::numbers::{task_kind_number as kind_number, task_kind_of as kind_of};
use crate::store::partition::Partitions;
use crate::store::rows::Found;
use crate::store::rows::tasks::{HowLost, LIMIT, Lost, NewTask, TaskRows, Tasks};
use crate::store::sqlite::rows::sql::Sql;
use crate::store::types::{Beat, InstanceKey, Position, Retry, TaskRow, TaskRowKind, task_ref};

impl TaskRows for Sql<'_> {
    fn insert_task(
        &mut self,
        key: InstanceKey,
        at: Position,
        turn: u32,
        new: NewTask<'_>,
    ) -> Found<()> {
        self.0.prepare_cached(
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

    fn task(&mut self, key: InstanceKey, task: TaskId) -> Found<Option<TaskRow>> {
        let sql = format!("SELECT {COLUMNS} FROM task WHERE instance = ?1 AND task = ?2");
        let mut query = self.0.prepare_cached(&sql)?;
        let mut rows = query.query(params![key.0, task.0])?;
        rows.next()?.map(read).transpose()
    }

    fn waiting_retries(&mut self, key: InstanceKey) -> Found<Vec<TaskRow>> {
        let mut query = self.0.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM task WHERE instance = ?1 AND kind = ?2 AND due IS NOT NULL ORDER BY task"
        ))?;
        let mut rows = query.query(params![key.0, kind_number(TaskRowKind::Activity)])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(read(row)?);
        }
        Ok(found)
    }

    fn delete_task(&mut self, key: InstanceKey, task: TaskId) -> Found<()> {
        self.0
            .prepare_cached("DELETE FROM task WHERE instance = ?1 AND task = ?2")?
            .execute(params![key.0, task.0])?;
        Ok(())
    }

    fn settle(&mut self, key: InstanceKey, task: TaskRef) -> Found<()> {
        self.0.prepare_cached(
            "DELETE FROM task WHERE instance = ?1 AND task = ?2 AND execution = ?3 AND generation = ?4",
        )?
        .execute(params![key.0, task.task.0, task.execution, task.generation])?;
        Ok(())
    }

    fn delete_tasks(&mut self, key: InstanceKey, which: Tasks) -> Found<()> {
        match which {
            Tasks::All => self
                .0
                .prepare_cached("DELETE FROM task WHERE instance = ?1")?
                .execute([key.0])?,
            Tasks::OfExecution => self
                .0
                .prepare_cached("DELETE FROM task WHERE instance = ?1 AND task <> ?2")?
                .execute([key.0, i64::from(LIMIT.0)])?,
            Tasks::Timers => {
                let kinds = [TaskRowKind::Timer, TaskRowKind::TimerAt, TaskRowKind::Grace];
                let [timer, timer_at, grace] = kinds.map(kind_number);
                self.0
                    .prepare_cached(
                        "DELETE FROM task WHERE instance = ?1 AND kind IN (?2, ?3, ?4)",
                    )?
                    .execute(params![key.0, timer, timer_at, grace])?
            }
        };
        Ok(())
    }

    fn retry(&mut self, retry: &Retry) -> Found<bool> {
        let changed = self
            .0
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

    fn begin(&mut self, (key, task): (InstanceKey, TaskRef), at: Option<Timestamp>) -> Found<bool> {
        let changed = self
            .0
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

    fn beat(&mut self, (key, task): (InstanceKey, TaskRef), beat: &Beat) -> Found<()> {
        self.0
            .prepare_cached(
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

    fn count_lost(&mut self, key: InstanceKey, task: TaskId, lost: &Lost<'_>) -> Found<()> {
        let how = match lost.how {
            HowLost::Crash => "deliveries = deliveries + 1",
            HowLost::Stop => "cut = cut + 1, begun_at = NULL",
        };
        self.0
            .prepare_cached(&format!(
                "UPDATE task SET {how}, first_started = coalesce(first_started, ?3), attempts = ?4,
                     heartbeat_at = coalesce(?5, heartbeat_at), heartbeat = coalesce(?6, heartbeat)
                 WHERE instance = ?1 AND task = ?2"
            ))?
            .execute(params![
                key.0,
                task.0,
                int(lost.started_at.0),
                encode(lost.attempts)?,
                beat_at(lost.heartbeat),
                details(lost.heartbeat),
            ])?;
        Ok(())
    }

    fn count_unknown(&mut self, _: Partitions, now: Timestamp) -> Found<()> {
        self.0.prepare_cached(
            "UPDATE task SET cut = cut + 1 WHERE kind = ?1 AND begun_at IS NULL AND (due IS NULL OR due <= ?2)",
        )?
        .execute(params![kind_number(TaskRowKind::Activity), int(now.0)])?;
        Ok(())
    }

    fn uncount_unknown(&mut self, key: InstanceKey, task: TaskId, now: Timestamp) -> Found<()> {
        self.0
            .prepare_cached(
                "UPDATE task SET cut = cut - 1
                 WHERE instance = ?1 AND task = ?2 AND kind = ?3 AND begun_at IS NULL AND (due IS NULL OR due <= ?4)",
            )?
            .execute(params![
                key.0,
                task.0,
                kind_number(TaskRowKind::Activity),
                int(now.0)
            ])?;
        Ok(())
    }
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
