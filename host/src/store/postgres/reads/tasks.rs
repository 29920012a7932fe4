//! Open tasks.

use perennial_core::{TaskId, Timestamp};
use tokio_postgres::Row;

use crate::store::StoreError;
use crate::store::codec::{int, uint};
use crate::store::postgres::partitions;
use crate::store::postgres::reads::{PostgresReader, all};
use crate::store::postgres::session::Param;
use crate::store::postgres::source::{task, time};
use crate::store::types::{InstanceKey, TaskRow};

/// The columns of a task `t`, in the order in which they are read.
const COLUMNS: &str = "t.instance, t.task, t.kind, t.execution, t.generation, t.turn, t.due, t.attempt, t.first_started, t.deliveries,
     t.failure, t.target, t.scheduled_in, t.attempts, t.begun_at, t.cut, t.heartbeat_at, t.heartbeat, t.module,
     (SELECT at FROM turn WHERE turn.instance = t.instance AND turn.execution = t.execution AND turn.number = t.turn)";

/// The first tasks that come due, of each partition and then of all: their index is one for each partition.
const DUE: &str = "(SELECT d.due, d.instance, d.task FROM unnest($5::smallint[]) AS p (number)
     CROSS JOIN LATERAL
         (SELECT due, instance, task FROM task
          WHERE partition = p.number AND due IS NOT NULL AND (due, instance, task) > ($1, $2, $3)
          ORDER BY due, instance, task LIMIT $4) AS d
     ORDER BY d.due, d.instance, d.task LIMIT $4)";

/// Reads a row of [`COLUMNS`].
fn task_of(row: &Row) -> Result<TaskRow, StoreError> {
    let found = task(row)?.row;
    let last = found.attempts.last().map(|last| last.run.ended_at);
    Ok(TaskRow {
        set_at: last.or(time(row, 19)?).unwrap_or_default(),
        ..found
    })
}

impl PostgresReader {
    pub(in crate::store) fn tasks_of(&self, key: InstanceKey) -> Result<Vec<TaskRow>, StoreError> {
        self.tasks(
            "FROM task AS t WHERE t.instance = $1 ORDER BY t.task",
            &[&key.0],
        )
    }

    pub(in crate::store) fn task(
        &self,
        key: InstanceKey,
        task: TaskId,
    ) -> Result<Option<TaskRow>, StoreError> {
        let rows = self.tasks(
            "FROM task AS t WHERE t.instance = $1 AND t.task = $2",
            &[&key.0, &i64::from(task.0)],
        )?;
        Ok(rows.into_iter().next())
    }

    pub(in crate::store) fn ready_activities(
        &self,
        after: (InstanceKey, i64),
        limit: u32,
    ) -> Result<Vec<TaskRow>, StoreError> {
        let of = partitions::ranges(&self.of);
        self.tasks(
            "FROM unnest($4::bigint[], $5::bigint[]) AS r (low, high)
                 CROSS JOIN LATERAL (SELECT * FROM task WHERE due IS NULL AND kind = 0 AND (instance, task) > ($1, $2)
                     AND instance BETWEEN r.low AND r.high ORDER BY instance, task LIMIT $3) AS t
                 ORDER BY t.instance, t.task LIMIT $3",
            &[&after.0.0, &after.1, &i64::from(limit), &of.low, &of.high],
        )
    }

    pub(in crate::store) fn due_tasks(
        &self,
        after: (Timestamp, InstanceKey, i64),
        limit: u32,
    ) -> Result<Vec<TaskRow>, StoreError> {
        let from = format!(
            "FROM {DUE} AS d CROSS JOIN LATERAL (SELECT * FROM task WHERE instance = d.instance AND task = d.task OFFSET 0) AS t
                 ORDER BY d.due, d.instance, d.task"
        );
        self.tasks(
            &from,
            &[
                &int(after.0.0),
                &after.1.0,
                &after.2,
                &i64::from(limit),
                &partitions::numbers(&self.of),
            ],
        )
    }

    fn tasks(&self, from: &str, params: &[Param<'_>]) -> Result<Vec<TaskRow>, StoreError> {
        let rows = self.query(&format!("SELECT {COLUMNS} {from}"), params)?;
        all(&rows, task_of)
    }

    pub(in crate::store) fn first_tasks(
        &self,
        key: InstanceKey,
        limit: u32,
    ) -> Result<(Vec<TaskRow>, u64), StoreError> {
        let tasks = self.tasks(
            "FROM task AS t WHERE t.instance = $1 ORDER BY t.task LIMIT $2",
            &[&key.0, &i64::from(limit)],
        )?;
        if tasks.len() < limit as usize {
            let all = tasks.len() as u64;
            return Ok((tasks, all));
        }
        let count = self.query_one("SELECT count(*) FROM task WHERE instance = $1", &[&key.0])?;
        Ok((tasks, uint(count.try_get(0)?)))
    }

    pub(in crate::store) fn tasks_set_after(
        &self,
        now: Timestamp,
    ) -> Result<Vec<TaskRow>, StoreError> {
        let place = (int(now.0), i64::MAX, i64::MAX);
        let from = format!(
            "FROM {DUE} AS d CROSS JOIN LATERAL (SELECT * FROM task WHERE instance = d.instance AND task = d.task OFFSET 0) AS t
                 ORDER BY d.due, d.instance, d.task"
        );
        let mut rows = self.tasks(
            &from,
            &[
                &place.0,
                &place.1,
                &place.2,
                &i64::MAX,
                &partitions::numbers(&self.of),
            ],
        )?;
        rows.retain(|row| row.set_at > now);
        Ok(rows)
    }
}
