//! Open tasks.

use perennial_core::{TaskId, TaskRef, Timestamp};

use crate::store::memory::{Memory, Task, delete};
use crate::store::partition::Partitions;
use crate::store::rows::Found;
use crate::store::rows::tasks::{HowLost, LIMIT, Lost, NewTask, TaskRows, Tasks};
use crate::store::types::{Beat, InstanceKey, Position, Retry, TaskRow, TaskRowKind};

/// As the row is stored, a beat without details keeps those of the last one.
fn beats(row: &mut TaskRow, beat: Option<&Beat>) {
    let Some(beat) = beat else { return };
    let before = row.heartbeat.take().and_then(|before| before.details);
    row.heartbeat = Some(Beat {
        at: beat.at,
        details: beat.details.clone().or(before),
    });
}

impl Memory {
    fn at(&mut self, key: InstanceKey, task: TaskRef) -> Option<&mut TaskRow> {
        let is_open = self.is_open(key, task);
        let found = is_open.then(|| self.tasks.get_mut(&(key, task.task)));
        found.flatten().map(|found| &mut found.row)
    }

    fn is_open(&self, key: InstanceKey, task: TaskRef) -> bool {
        let found = self.tasks.get(&(key, task.task));
        found.is_some_and(|found| found.row.task == task)
    }

    /// The row as a query returns it, with the time when its due time was set.
    pub(super) fn read(&self, task: &Task) -> TaskRow {
        let row = task.row.clone();
        let turn = (row.key, row.task.execution, row.turn);
        let last = row.attempts.last().map(|last| last.run.ended_at);
        let set_at = last.or(self.turns.get(&turn).map(|turn| turn.at));
        TaskRow {
            set_at: set_at.unwrap_or_default(),
            ..row
        }
    }
}

/// Whether an activity may have begun an attempt by now, and nothing tells.
pub(in crate::store) fn may_have_begun(row: &TaskRow, now: Timestamp) -> bool {
    row.kind == TaskRowKind::Activity
        && row.begun_at.is_none()
        && row.due.is_none_or(|due| due <= now)
}

impl TaskRows for Memory {
    fn insert_task(
        &mut self,
        key: InstanceKey,
        at: Position,
        turn: u32,
        new: NewTask<'_>,
    ) -> Found<()> {
        let row = TaskRow {
            key,
            task: at.task(new.task),
            kind: new.kind,
            turn,
            scheduled_in: new.scheduled_in.unwrap_or(at.generation),
            due: new.due,
            attempt: new.attempt,
            first_started: None,
            deliveries: 0,
            cut: 0,
            begun_at: None,
            heartbeat: None,
            failure: None,
            attempts: Vec::new(),
            set_at: Timestamp(0),
            target: new.target.cloned(),
        };
        let module = new.module;
        self.tasks.insert((key, new.task), Task { row, module });
        Ok(())
    }

    fn task(&mut self, key: InstanceKey, task: TaskId) -> Found<Option<TaskRow>> {
        let found = self.tasks.get(&(key, task));
        Ok(found.map(|found| self.read(found)))
    }

    fn waiting_retries(&mut self, key: InstanceKey) -> Found<Vec<TaskRow>> {
        let of = self.tasks.range((key, TaskId(0))..=(key, TaskId(u32::MAX)));
        let waiting = of
            .map(|(_, task)| task)
            .filter(|task| task.row.kind == TaskRowKind::Activity && task.row.due.is_some());
        Ok(waiting.map(|task| self.read(task)).collect())
    }

    fn delete_task(&mut self, key: InstanceKey, task: TaskId) -> Found<()> {
        self.tasks.remove(&(key, task));
        Ok(())
    }

    fn settle(&mut self, key: InstanceKey, task: TaskRef) -> Found<()> {
        if self.is_open(key, task) {
            self.tasks.remove(&(key, task.task));
        }
        Ok(())
    }

    fn delete_tasks(&mut self, key: InstanceKey, which: Tasks) -> Found<()> {
        let goes = |row: &TaskRow| match which {
            Tasks::All => true,
            Tasks::OfExecution => row.task.task != LIMIT,
            Tasks::Timers => matches!(
                row.kind,
                TaskRowKind::Timer | TaskRowKind::TimerAt | TaskRowKind::Grace
            ),
        };
        let of = (key, TaskId(0))..=(key, TaskId(u32::MAX));
        delete(&mut self.tasks, of, usize::MAX, |task| goes(&task.row));
        Ok(())
    }

    fn retry(&mut self, retry: &Retry) -> Found<bool> {
        let instance = self.instances.get(&retry.key);
        if instance.is_none_or(|instance| instance.row.returned) {
            return Ok(false);
        }
        let Some(row) = self.at(retry.key, retry.task) else {
            return Ok(false);
        };
        row.attempt = retry.attempt;
        row.due = Some(retry.due);
        row.first_started = Some(retry.first_started);
        row.failure = Some(retry.failure.clone());
        row.attempts.clone_from(&retry.attempts);
        row.begun_at = None;
        beats(row, retry.heartbeat.as_ref());
        Ok(true)
    }

    fn begin(&mut self, (key, task): (InstanceKey, TaskRef), at: Option<Timestamp>) -> Found<bool> {
        let row = self.at(key, task);
        Ok(row.map(|row| row.begun_at = at).is_some())
    }

    fn beat(&mut self, (key, task): (InstanceKey, TaskRef), beat: &Beat) -> Found<()> {
        if let Some(row) = self.at(key, task) {
            beats(row, Some(beat));
        }
        Ok(())
    }

    fn count_lost(&mut self, key: InstanceKey, task: TaskId, lost: &Lost<'_>) -> Found<()> {
        if let Some(Task { row, .. }) = self.tasks.get_mut(&(key, task)) {
            match lost.how {
                HowLost::Crash => row.deliveries += 1,
                HowLost::Stop => {
                    row.cut += 1;
                    row.begun_at = None;
                }
            }
            row.first_started = row.first_started.or(Some(lost.started_at));
            row.attempts = lost.attempts.to_vec();
            beats(row, lost.heartbeat);
        }
        Ok(())
    }

    fn count_unknown(&mut self, of: Partitions, now: Timestamp) -> Found<()> {
        let begun = self.tasks.iter();
        let begun =
            begun.filter(|((key, _), task)| of.has_key(*key) && may_have_begun(&task.row, now));
        for place in begun.map(|(place, _)| *place).collect::<Vec<_>>() {
            if let Some(task) = self.tasks.get_mut(&place) {
                task.row.cut += 1;
            }
        }
        Ok(())
    }

    fn uncount_unknown(&mut self, key: InstanceKey, task: TaskId, now: Timestamp) -> Found<()> {
        if let Some(Task { row, .. }) = self.tasks.get_mut(&(key, task)) {
            row.cut -= u32::from(may_have_begun(row, now));
        }
        Ok(())
    }
}
