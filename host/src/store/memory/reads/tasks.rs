//! Open tasks.

use perennial_core::{TaskId, Timestamp};

use crate::store::StoreError;
use crate::store::memory::Memory;
use crate::store::memory::reads::{first, sorted};
use crate::store::types::{InstanceKey, TaskRow, TaskRowKind};

/// The place of a task in the order of instance and task.
fn place(row: &TaskRow) -> (InstanceKey, i64) {
    (row.key, i64::from(row.task.task.0))
}

impl Memory {
    /// All open tasks, in the order of instance and task.
    fn open(&self) -> impl Iterator<Item = TaskRow> {
        self.tasks.values().map(|task| self.read(task))
    }

    /// Tasks with a due time, in due order.
    fn due(&self, is_wanted: impl Fn((Timestamp, InstanceKey, i64)) -> bool) -> Vec<TaskRow> {
        let of = |row: &TaskRow| {
            let (key, task) = place(row);
            (row.due, key, task)
        };
        let wanted = |row: &TaskRow| match of(row) {
            (Some(due), key, task) => self.own.has_key(key) && is_wanted((due, key, task)),
            (None, ..) => false,
        };
        sorted(self.open().filter(wanted), of)
    }

    pub(crate) fn tasks_of(&self, key: InstanceKey) -> Result<Vec<TaskRow>, StoreError> {
        Ok(self.open().filter(|row| row.key == key).collect())
    }

    pub(crate) fn task(
        &self,
        key: InstanceKey,
        task: TaskId,
    ) -> Result<Option<TaskRow>, StoreError> {
        Ok(self.tasks.get(&(key, task)).map(|task| self.read(task)))
    }

    pub(crate) fn ready_activities(
        &self,
        after: (InstanceKey, i64),
        limit: u32,
    ) -> Result<Vec<TaskRow>, StoreError> {
        let ready = |row: &TaskRow| row.due.is_none() && row.kind == TaskRowKind::Activity;
        let later = |row: &TaskRow| self.own.has_key(row.key) && place(row) > after;
        Ok(first(limit, self.open().filter(ready).filter(later)))
    }

    pub(crate) fn due_tasks(
        &self,
        after: (Timestamp, InstanceKey, i64),
        limit: u32,
    ) -> Result<Vec<TaskRow>, StoreError> {
        Ok(first(limit, self.due(|place| place > after)))
    }

    pub(crate) fn first_tasks(
        &self,
        key: InstanceKey,
        limit: u32,
    ) -> Result<(Vec<TaskRow>, u64), StoreError> {
        let tasks = self.tasks_of(key)?;
        let all = tasks.len() as u64;
        Ok((first(limit, tasks), all))
    }

    pub(crate) fn tasks_set_after(&self, now: Timestamp) -> Result<Vec<TaskRow>, StoreError> {
        let mut due = self.due(|(due, ..)| due > now);
        due.retain(|row| row.set_at > now);
        Ok(due)
    }
}
