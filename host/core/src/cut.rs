//! Finds where a rewind cuts the history of a failed execution, and which failures stay.
//!
//! What failed together runs again together: the cut is before the first failure of those tasks that the same turn asked for as the task
//! that the execution failed on. Failures of before that stay, for a guest may have dealt with them; they are listed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::text::shortened;
use crate::{Event, Failure, TaskId, Turn};

/// Failures that stay are listed up to this number, the latest of them.
const REMAINING_MAX: usize = 100;

/// The kind of a failure to read data, in guests of every language.
const INVALID_INPUT: &str = "InvalidInput";

/// Bytes of the message that a [`RemainingFailure`] keeps.
const MESSAGE_BYTES_MAX: usize = 500;

/// Which failures are undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The one that the execution failed on, and those of the tasks that the same turn asked for.
    #[default]
    Together,
    /// All failures of the execution.
    AllFailures,
}

/// Where a history is cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// The first turn that is cut off.
    pub turn: u32,
    /// Timers on whose firing the execution failed as on a time limit: each is set again with its whole span. One that did not fire is set again
    /// only if it is due by now.
    pub limits: BTreeSet<TaskId>,
    /// The number of the external event whose data the execution failed on. Unless it is put aside, the same code fails again.
    pub event: Option<u32>,
    /// The latest failures from before the cut, which stay, in the order of their tasks.
    pub remaining: Vec<RemainingFailure>,
    /// How many failures stay beside those listed.
    pub more_remaining: u32,
}

/// A failure that a rewind leaves as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemainingFailure {
    /// The task that failed.
    pub task: TaskId,
    /// The kind of that task.
    pub kind: FailedKind,
    /// The name of the activity, or of the child's orchestration.
    pub name: String,
    /// The kind of the failure.
    pub failure: String,
    /// The message of the failure, shortened.
    pub message: String,
    /// Why the failure stays, for people.
    pub why: String,
}

/// The kinds of tasks that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailedKind {
    /// An activity.
    Activity,
    /// A child.
    Child,
    /// A request to another instance.
    Request,
}

/// Finds what an execution failed on, and where to cut its history. Takes every turn, in order.
#[derive(Clone, Debug, Default)]
pub struct CutFinder {
    /// Tasks that have not completed, each with the turn that asked for it and, unless it is a timer, its name.
    asked: BTreeMap<TaskId, (u32, Option<Named>)>,
    /// Failures, each with the turn that delivered it.
    delivered: BTreeMap<TaskId, Delivered>,
    last_delivered: Option<TaskId>,
    /// The turns in which timers fired.
    fired: BTreeMap<TaskId, u32>,
    /// The turn in which it failed, and the task that the guest names as the cause.
    failed: Option<(u32, Option<TaskId>)>,
    /// The external event that the failure blames, and the turn that took it in.
    blamed: Option<u32>,
    blamed_in: Option<u32>,
}

type Named = (FailedKind, String);

#[derive(Clone, Debug)]
struct Delivered {
    turn: u32,
    kind: String,
    message: String,
}

impl CutFinder {
    /// As [`default`](Self::default), where the failure says by number which external event it is about.
    pub fn blaming(event: Option<u32>) -> Self {
        Self {
            blamed: event,
            ..Self::default()
        }
    }

    /// Takes in the next turn.
    pub fn see(&mut self, turn: &Turn) {
        for event in turn.events() {
            match event {
                Event::ActivityScheduled { task, name, .. } => {
                    let named = (FailedKind::Activity, name.clone());
                    self.asked.insert(*task, (turn.number, Some(named)));
                }
                Event::ChildScheduled { task, name, .. } => {
                    let named = (FailedKind::Child, name.clone());
                    self.asked.insert(*task, (turn.number, Some(named)));
                }
                Event::RequestSent { task, name, .. } => {
                    let named = (FailedKind::Request, name.clone());
                    self.asked.insert(*task, (turn.number, Some(named)));
                }
                Event::TimerSet { task, .. } | Event::TimerSetAt { task, .. } => {
                    self.asked.insert(*task, (turn.number, None));
                }
                // The answer to a request stands, so that it must be sent anew: as if it had failed at once.
                Event::RequestFailed { task, failure } => {
                    let sent = self.asked_in(*task).unwrap_or(turn.number);
                    self.deliver(*task, sent, failure);
                }
                Event::ActivityFailed { task, failure, .. }
                | Event::ChildFailed { task, failure } => self.deliver(*task, turn.number, failure),
                Event::TimerFired { task } => {
                    self.fired.insert(*task, turn.number);
                }
                Event::ActivityCompleted { task, .. }
                | Event::ChildCompleted { task, .. }
                | Event::RequestCompleted { task, .. }
                | Event::TaskCanceled { task } => {
                    self.asked.remove(task);
                }
                Event::ExecutionFailed { cause, failure } => {
                    self.failed = Some((turn.number, *cause));
                    self.blame(turn, failure);
                }
                Event::ExecutionTimedOut { .. } => {
                    // No task is to blame, so it goes on from where it was ended.
                    self.failed = Some((turn.number, None));
                    self.last_delivered = None;
                }
                Event::ExternalEventRaised { number, .. } if self.blamed == Some(*number) => {
                    self.blamed_in = Some(turn.number);
                }
                Event::TurnStarted { .. }
                | Event::ExecutionStarted(_)
                | Event::ExternalEventRaised { .. }
                | Event::EventSent { .. }
                | Event::InstanceStarted { .. }
                | Event::CustomStatusSet { .. }
                | Event::ExecutionReturned { .. }
                | Event::ExecutionCompleted { .. }
                | Event::ExecutionTerminated { .. }
                | Event::ContinuedAsNew { .. }
                | Event::ExecutionSuspended { .. }
                | Event::ExecutionResumed { .. }
                | Event::InstanceStartSkipped { .. }
                | Event::ChildRetryScheduled { .. }
                | Event::ChildRetried { .. }
                | Event::AttemptFailed { .. }
                | Event::CallDetails { .. }
                | Event::ValueSet { .. }
                | Event::TagSet { .. }
                | Event::ActivityOptions { .. }
                | Event::InstanceOptions { .. }
                | Event::ChildCommanded { .. }
                | Event::RequestReceived { .. }
                | Event::RequestAnswered { .. }
                | Event::CancellationRequested(_) => {}
            }
        }
    }

    /// Where a guest does not say by number which event it could not read, as those of older SDKs, its message does by name.
    fn blame(&mut self, turn: &Turn, failure: &Failure) {
        if self.blamed_in.is_some() {
            return;
        }
        let said = |kind: &str, message: &str, name: &str| {
            kind == INVALID_INPUT && message.contains(&format!("event {name:?}"))
        };
        self.blamed = turn.received.iter().find_map(|event| {
            let Event::ExternalEventRaised { number, name, .. } = event else {
                return None;
            };
            let causes = &failure.causes;
            let is_it = said(&failure.kind, &failure.message, name)
                || causes.iter().any(|c| said(&c.kind, &c.message, name));
            is_it.then_some(*number)
        });
        self.blamed_in = self.blamed.map(|_| turn.number);
    }

    fn deliver(&mut self, task: TaskId, turn: u32, failure: &Failure) {
        let message = shortened(&failure.message, MESSAGE_BYTES_MAX).into_owned();
        let kind = failure.kind.clone();
        let delivered = Delivered {
            turn,
            kind,
            message,
        };
        self.delivered.insert(task, delivered);
        self.last_delivered = Some(task);
    }

    /// Where it is cut: before the failure of the task that the guest names as the cause, else before the last failure delivered, else
    /// before the last turn; and before the failures of those that were asked for with it. `None` if the execution has not failed.
    ///
    /// Where it failed on the data of an external event, and names no task, it is cut before that event.
    ///
    /// A cause may be a timer: a time limit that was over. Where a guest names no task, the timers that fired as it failed are such.
    pub fn cut(&self, scope: Scope) -> Option<Cut> {
        let (last, named) = self.failed?;
        let named = named.filter(|task| self.came_in(*task).is_some());
        let event = self.blamed.zip(self.blamed_in).filter(|_| named.is_none());
        let cause = match event {
            Some(_) => None,
            None => named.or(self.last_delivered),
        };
        let mut turn = match event {
            Some((_, raised_in)) => raised_in,
            None => cause.and_then(|task| self.came_in(task)).unwrap_or(last),
        };
        let with_cause = cause.and_then(|task| self.asked_in(task));
        for (task, delivered) in &self.delivered {
            let together = with_cause.is_some() && self.asked_in(*task) == with_cause;
            if together || scope == Scope::AllFailures {
                turn = turn.min(delivered.turn);
            }
        }
        let limits = match event {
            Some(_) => BTreeSet::new(),
            None => self.limits(turn, last, named, with_cause),
        };
        let remain = self.delivered.iter().filter(|(_, d)| d.turn < turn);
        let mut remaining: Vec<RemainingFailure> = remain
            .map(|(task, delivered)| self.remains(*task, delivered))
            .collect();
        let more = remaining.len().saturating_sub(REMAINING_MAX);
        remaining.drain(..more);
        Some(Cut {
            turn,
            limits,
            event: event.map(|(number, _)| number),
            remaining,
            more_remaining: u32::try_from(more).unwrap_or(u32::MAX),
        })
    }

    /// The turn in which a task failed, or a timer fired.
    fn came_in(&self, task: TaskId) -> Option<u32> {
        let failed = self.delivered.get(&task).map(|delivered| delivered.turn);
        failed.or_else(|| self.fired.get(&task).copied())
    }

    fn asked_in(&self, task: TaskId) -> Option<u32> {
        self.asked.get(&task).map(|(turn, _)| *turn)
    }

    /// The timers that have their span again.
    fn limits(
        &self,
        cut: u32,
        last: u32,
        named: Option<TaskId>,
        with_cause: Option<u32>,
    ) -> BTreeSet<TaskId> {
        let Some(named) = named else {
            let fired = self.fired.iter().filter(|(_, turn)| **turn == last);
            return fired.map(|(task, _)| *task).collect();
        };
        let Some(fired_in) = self.fired.get(&named) else {
            return BTreeSet::new();
        };
        // Limits that are set together, one around the other or side by side, are over together or soon after.
        let timers = self.asked.iter().filter(|(_, (_, name))| name.is_none());
        let again = timers.filter(|(task, (asked_in, _))| match self.fired.get(task) {
            Some(fired) => fired == fired_in || (Some(*asked_in) == with_cause && *fired >= cut),
            None => Some(*asked_in) == with_cause,
        });
        again.map(|(task, _)| *task).collect()
    }

    fn remains(&self, task: TaskId, delivered: &Delivered) -> RemainingFailure {
        let (turn, named) = match self.asked.get(&task) {
            Some((turn, Some(named))) => (*turn, named.clone()),
            Some((_, None)) | None => (0, (FailedKind::Activity, String::new())),
        };
        RemainingFailure {
            task,
            kind: named.0,
            name: named.1,
            failure: delivered.kind.clone(),
            message: delivered.message.clone(),
            why: format!(
                "turn {} took it in, before the turn that is gone back to, and what failed then was not asked for together with it (it was \
                 in turn {turn}): only a rewind of all failures runs it again",
                delivered.turn
            ),
        }
    }
}
