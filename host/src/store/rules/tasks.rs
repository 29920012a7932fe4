//! The open tasks that a turn leaves.
#![warn(
    clippy::match_wildcard_for_single_variants,
    clippy::wildcard_enum_match_arm
)]

use perennial_core::{AttemptRun, Digest, Event, Message, Target, TaskId, Turn};

use crate::store::StoreError;
use crate::store::rows::Rows;
use crate::store::rows::tasks::{GRACE, NewTask, START, Tasks};
use crate::store::rules::modules;
use crate::store::types::{InstanceKey, Position, TaskRowKind};

/// Updates the rows of open tasks with a turn.
#[expect(
    clippy::too_many_lines,
    reason = "it is a table, with an arm for each event"
)]
pub(super) fn record(
    rows: &mut impl Rows,
    key: InstanceKey,
    at: Position,
    turn: &Turn,
    retried: &[(TaskId, Digest)],
) -> Result<(), StoreError> {
    let mut known = None;
    for event in turn.events() {
        match event {
            Event::ActivityScheduled { task, target, .. } => {
                let module = if let Target::Module(digest) = target {
                    Some(*digest)
                } else {
                    None
                };
                if let Some(digest) = module.filter(|_| module != known) {
                    modules::expect(rows, digest)?;
                    known = module;
                }
                let task = NewTask {
                    module,
                    ..NewTask::new(*task, TaskRowKind::Activity)
                };
                rows.insert_task(key, at, turn.number, task)?;
            }
            Event::TimerSet { task, fire_at } => {
                let task = NewTask {
                    due: Some(turn.due(*fire_at)),
                    ..NewTask::new(*task, TaskRowKind::Timer)
                };
                rows.insert_task(key, at, turn.number, task)?;
            }
            Event::TimerSetAt { task, at: due } => {
                let task = NewTask {
                    due: Some(*due),
                    ..NewTask::new(*task, TaskRowKind::TimerAt)
                };
                rows.insert_task(key, at, turn.number, task)?;
            }
            Event::CancellationRequested(asked) => {
                let task = NewTask {
                    due: Some(turn.due(asked.deadline)),
                    ..NewTask::new(GRACE, TaskRowKind::Grace)
                };
                rows.insert_task(key, at, turn.number, task)?;
            }
            Event::ChildRetryScheduled {
                task,
                attempt,
                at: due,
                ..
            } => {
                let mut modules = retried.iter();
                let task = NewTask {
                    module: modules.find_map(|(child, digest)| (child == task).then_some(*digest)),
                    due: Some(*due),
                    attempt: *attempt,
                    ..NewTask::new(*task, TaskRowKind::ChildRetry)
                };
                rows.insert_task(key, at, turn.number, task)?;
            }
            Event::ActivityCompleted { task, .. }
            | Event::ActivityFailed { task, .. }
            | Event::TimerFired { task }
            | Event::TaskCanceled { task }
            // A child whose retry waited past its time limit fails without another attempt.
            | Event::ChildFailed { task, .. }
            | Event::ChildRetried { task, .. } => rows.delete_task(key, *task)?,
            Event::ExecutionReturned { .. } => {
                rows.delete_tasks(key, Tasks::Timers)?;
            }
            Event::ExecutionStarted(start) if start.scheduled_for.is_some() => {
                rows.delete_task(key, START)?;
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

/// Deletes the activities that wait for a retry, except those with a running attempt. Returns their outcomes: their last failures.
pub(super) fn give_up_retries(
    rows: &mut impl Rows,
    key: InstanceKey,
    running: &[TaskId],
) -> Result<Vec<Message>, StoreError> {
    let mut outcomes = Vec::new();
    for row in rows.waiting_retries(key)? {
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
        rows.settle(key, row.task)?;
    }
    Ok(outcomes)
}
