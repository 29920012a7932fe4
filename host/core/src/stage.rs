//! Translates messages into events, given the state of the execution.

use std::collections::BTreeSet;

use crate::{
    ChildTask, Event, Failure, Json, Message, Phase, Start, State, TaskId, TaskKind, TaskRef,
    Timestamp,
};

/// Turns messages into events, without folding them in.
#[derive(Clone, Copy)]
pub(crate) struct Stage<'a> {
    pub(crate) state: &'a State,
    pub(crate) now: Timestamp,
}

impl Stage<'_> {
    /// The events that the messages mean, without those that mean nothing here any more.
    pub(crate) fn stage(self, mut messages: Vec<Message>) -> Vec<Event> {
        let mut staged = Vec::with_capacity(messages.len() + 1);
        let mut ended = BTreeSet::new();
        let mut externals = Externals::of(self.state);
        let mut start = None;
        if self.state.phase == Phase::NotStarted
            && let Some(at) = messages.iter().position(|m| matches!(m, Message::Start(_)))
        {
            start = Some(messages.remove(at));
        }
        // It is part of how the execution begins, so nothing comes between.
        let status = messages
            .iter()
            .position(|message| matches!(message, Message::CustomStatus { .. }))
            .map(|at| messages.remove(at));
        for message in start.into_iter().chain(status).chain(messages) {
            let event = match message {
                Message::Start(start)
                    if self.state.phase == Phase::NotStarted && staged.is_empty() =>
                {
                    externals = Externals::from(&start);
                    Event::ExecutionStarted(start)
                }
                // After the return nobody is left to take it.
                Message::ExternalEvent { number, name, data }
                    if self.state.phase != Phase::NotStarted || !staged.is_empty() =>
                {
                    if let Phase::Returned { .. } = self.state.phase {
                        continue;
                    }
                    match externals.take(number) {
                        Some(number) => Event::ExternalEventRaised { number, name, data },
                        None => continue,
                    }
                }
                Message::ActivityEnded { task, outcome, run }
                    if self.is_open(task, "activity") && ended.insert(task.task) =>
                {
                    let task = task.task;
                    match outcome {
                        Ok(output) => Event::ActivityCompleted { task, output, run },
                        Err(failure) => Event::ActivityFailed { task, failure, run },
                    }
                }
                Message::ChildEnded {
                    task,
                    attempt,
                    outcome,
                } if self.is_open(task, "child") => {
                    match self.child_ended(task.task, attempt, outcome) {
                        Some(event) if ended.insert(task.task) => event,
                        _ => continue,
                    }
                }
                Message::TimerFired { task }
                    if self.is_open(task, "timer") && ended.insert(task.task) =>
                {
                    Event::TimerFired { task: task.task }
                }
                Message::AttemptsFailed { task, attempts } => {
                    if self.is_open(task, "activity") && !ended.contains(&task.task) {
                        let task = task.task;
                        let seen = attempts.into_iter().map(|one| Event::AttemptFailed {
                            task,
                            failure: one.failure,
                            run: one.run,
                        });
                        staged.extend(seen);
                    }
                    continue;
                }
                Message::ChildDue { task, attempt } if self.is_open(task, "child") => {
                    match self.child(task.task) {
                        Some(child)
                            if child.due.is_some()
                                && child.attempt == attempt
                                && let Some(failure) = self.given_up(child)
                                && ended.insert(task.task) =>
                        {
                            Event::ChildFailed {
                                task: task.task,
                                failure,
                            }
                        }
                        Some(child)
                            if child.due.is_some()
                                && child.attempt == attempt
                                && ended.insert(task.task) =>
                        {
                            Event::ChildRetried {
                                task: task.task,
                                attempt: child.attempt,
                                instance_id: child.attempt_instance_id(child.attempt),
                            }
                        }
                        _ => continue,
                    }
                }
                Message::StartSkipped {
                    instance_id,
                    reason,
                } if self.state.phase != Phase::NotStarted || !staged.is_empty() => {
                    Event::InstanceStartSkipped {
                        instance_id,
                        reason,
                    }
                }
                Message::CustomStatus { value } if matches!(&staged[..], [Event::ExecutionStarted(start)] if start.execution > 0) => {
                    Event::CustomStatusSet { value: Some(value) }
                }
                Message::Suspend { reason, .. } if self.can_suspend() => {
                    Event::ExecutionSuspended { reason }
                }
                Message::Resume { reason, .. } if self.state.suspended => {
                    Event::ExecutionResumed { reason }
                }
                Message::Terminate { reason, .. } => Event::ExecutionTerminated { reason },
                Message::Start(_)
                | Message::ExternalEvent { .. }
                | Message::ActivityEnded { .. }
                | Message::ChildEnded { .. }
                | Message::TimerFired { .. }
                | Message::ChildDue { .. }
                | Message::StartSkipped { .. }
                | Message::CustomStatus { .. }
                | Message::Suspend { .. }
                | Message::Resume { .. } => continue,
            };
            staged.push(event);
        }
        staged
    }

    fn can_suspend(&self) -> bool {
        !self.state.suspended && matches!(self.state.phase, Phase::NotStarted | Phase::Running)
    }

    /// Whether a message about `task` is about a task of this execution that is still open.
    fn is_open(&self, task: TaskRef, what: &str) -> bool {
        let open = self
            .state
            .tasks
            .get(&task.task)
            .filter(|open| open.generation == task.generation);
        task.execution == self.state.execution()
            && open.is_some_and(|open| {
                what == match open.kind {
                    TaskKind::Activity { .. } => "activity",
                    TaskKind::Child(_) => "child",
                    TaskKind::Timer { .. } => "timer",
                }
            })
    }

    fn child(&self, task: TaskId) -> Option<&ChildTask> {
        match &self.state.tasks.get(&task)?.kind {
            TaskKind::Child(child) => Some(child),
            TaskKind::Activity { .. } | TaskKind::Timer { .. } => None,
        }
    }

    /// What a child has failed with that would be tried again too late.
    fn given_up(&self, child: &ChildTask) -> Option<Failure> {
        let policy = child.retry.as_ref()?;
        policy.given_up(child.last_failure.as_ref()?, child.scheduled_at, self.now)
    }

    fn child_ended(
        &self,
        task: TaskId,
        attempt: u32,
        outcome: Result<Option<Json>, Failure>,
    ) -> Option<Event> {
        let child = self
            .child(task)
            .filter(|child| child.attempt == attempt && child.due.is_none())?;
        let failure = match outcome {
            Ok(output) => return Some(Event::ChildCompleted { task, output }),
            Err(failure) => failure,
        };
        let seed = self.state.start.as_ref().map_or(0, |start| start.seed) ^ u64::from(task.0);
        let next = match (&self.state.phase, &child.retry) {
            (Phase::Running, Some(retry)) => {
                retry.next_attempt_at(attempt, &failure, child.scheduled_at, self.now, seed)
            }
            _ => None,
        };
        Some(match next {
            Some(at) => Event::ChildRetryScheduled {
                task,
                attempt: attempt + 1,
                at,
                failure,
            },
            None => Event::ChildFailed { task, failure },
        })
    }
}

/// Numbers the external events of a turn.
struct Externals<'a> {
    /// Those of earlier executions that arrived in this one before this turn.
    carried: Option<&'a BTreeSet<u32>>,
    /// And in this turn.
    carried_now: BTreeSet<u32>,
    /// The first number that is this execution's own.
    first: u32,
    /// The number after the last one given.
    next: u32,
}

impl<'a> Externals<'a> {
    fn of(state: &'a State) -> Self {
        Self {
            carried: Some(&state.carried),
            carried_now: BTreeSet::new(),
            first: state.start.as_ref().map_or(0, |start| start.next_external),
            next: state.next_external,
        }
    }

    fn from(start: &Start) -> Self {
        Self {
            carried: None,
            carried_now: BTreeSet::new(),
            first: start.next_external,
            next: start.next_external,
        }
    }

    /// The number that an event gets: the one it had, where it moved over from an earlier execution, else the next. `None` if that one
    /// moved over already, or no number is left.
    fn take(&mut self, number: Option<u32>) -> Option<u32> {
        match number.filter(|number| *number < self.first) {
            Some(number) => {
                let arrived = self
                    .carried
                    .is_some_and(|carried| carried.contains(&number));
                (!arrived && self.carried_now.insert(number)).then_some(number)
            }
            None => {
                let number = self.next;
                self.next = number.checked_add(1)?;
                Some(number)
            }
        }
    }
}
