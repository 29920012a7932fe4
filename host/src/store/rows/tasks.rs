//! Rows of open tasks, from which the engine continues after a restart.

use perennial_core::{Digest, FailedAttempt, Target, TaskId, TaskRef, Timestamp};

use crate::store::partition::Partitions;
use crate::store::rows::Found;
use crate::store::types::{Beat, InstanceKey, Position, Retry, TaskRow, TaskRowKind};

/// The task id of a scheduled start. No guest may use this number.
pub(crate) const START: TaskId = TaskId(u32::MAX);

/// The task id of the time that an execution has to clean up after it was asked to cancel. No guest may use this number.
pub(crate) const GRACE: TaskId = TaskId(u32::MAX - 1);

/// The task id of the time limit of an instance. No guest may use this number.
pub(crate) const LIMIT: TaskId = TaskId(u32::MAX - 2);

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

/// Some tasks of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tasks {
    All,
    /// All but the time limit of the instance, which lasts longer than an execution.
    OfExecution,
    /// Timers, and the time to clean up after a cancellation.
    Timers,
}

/// Attempts of an activity that a host did not see the end of.
pub(crate) struct Lost<'a> {
    pub(crate) started_at: Timestamp,
    /// The attempts so far, with this one, as far as they are kept.
    pub(crate) attempts: &'a [FailedAttempt],
    pub(crate) heartbeat: Option<&'a Beat>,
    pub(crate) how: HowLost,
}

/// How the end of an attempt was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HowLost {
    /// The host died.
    Crash,
    /// The host was stopped; the attempt no longer counts as begun.
    Stop,
}

/// Open tasks.
pub(crate) trait TaskRows {
    /// Adds a task that `turn` scheduled.
    fn insert_task(
        &mut self,
        key: InstanceKey,
        at: Position,
        turn: u32,
        new: NewTask<'_>,
    ) -> Found<()>;

    /// A task of the current execution.
    fn task(&mut self, key: InstanceKey, task: TaskId) -> Found<Option<TaskRow>>;

    /// The activities that wait for a retry, in the order of their tasks.
    fn waiting_retries(&mut self, key: InstanceKey) -> Found<Vec<TaskRow>>;

    /// Deletes a task.
    fn delete_task(&mut self, key: InstanceKey, task: TaskId) -> Found<()>;

    /// Deletes a task of this execution and generation.
    fn settle(&mut self, key: InstanceKey, task: TaskRef) -> Found<()>;

    /// Deletes several tasks.
    fn delete_tasks(&mut self, key: InstanceKey, which: Tasks) -> Found<()>;

    /// Writes the next attempt and its time. `false`, with nothing written, if the task is not open any more, or its execution has returned.
    fn retry(&mut self, retry: &Retry) -> Found<bool>;

    /// Writes when an attempt began whose activity is to run at most once, or that none did. `false` if the task is not open any more.
    fn begin(&mut self, place: (InstanceKey, TaskRef), at: Option<Timestamp>) -> Found<bool>;

    /// Writes the last heartbeat of an attempt.
    fn beat(&mut self, place: (InstanceKey, TaskRef), beat: &Beat) -> Found<()>;

    /// Counts an attempt whose end was lost.
    fn count_lost(&mut self, key: InstanceKey, task: TaskId, lost: &Lost<'_>) -> Found<()>;

    /// Counts an attempt for each activity in some partitions that may have begun one by now, as far as nothing else tells.
    fn count_unknown(&mut self, of: Partitions, now: Timestamp) -> Found<()>;

    /// Takes back what [`count_unknown`](Self::count_unknown) counted for a task.
    fn uncount_unknown(&mut self, key: InstanceKey, task: TaskId, now: Timestamp) -> Found<()>;
}
