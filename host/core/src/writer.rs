//! A turn in the making: what messages mean, and what follows from a guest's answer.

use std::collections::BTreeSet;

use crate::check::check;
use crate::guest::{ActivityCall, ChildCall};
use crate::state::{ChildTask, TaskKind};
use crate::turn::{Resolved, TurnContext};
use crate::value::size_of;
use crate::{
    Action, Answer, Ending, Event, Failure, Guest, GuestEvent, Json, Limits, Message, Mode, Phase,
    SEMANTICS_VERSION, Start, State, Stop, Target, TaskId, TaskRef, Timestamp, Waiting,
    answer_hash, check_instance_id, kind,
};

/// The events of a turn in the making. Everything it writes goes through [`State::apply`].
pub(crate) struct Writer<'a, 'c> {
    pub(crate) state: &'a mut State,
    pub(crate) context: &'a mut TurnContext<'c>,
    pub(crate) received: Vec<Event>,
    pub(crate) produced: Vec<Event>,
    pub(crate) next: Option<Box<Start>>,
}

impl Writer<'_, '_> {
    /// The events that the messages mean, without those that mean nothing here any more.
    pub(crate) fn stage(&self, messages: Vec<Message>) -> Vec<Event> {
        let mut staged = Vec::with_capacity(messages.len() + 1);
        let mut ended = BTreeSet::new();
        let mut next_external = self.state.next_external;
        for message in messages {
            if let Message::Start(start) = &message {
                next_external = start.next_external;
            }
            let event = match message {
                Message::Start(start) if self.state.phase == Phase::NotStarted => {
                    Event::ExecutionStarted(start)
                }
                Message::ExternalEvent { number, name, data } => {
                    let number = number.unwrap_or(next_external);
                    next_external = next_external.max(number.saturating_add(1));
                    if let Phase::Returned { .. } = self.state.phase {
                        continue; // Nobody is left to take it.
                    }
                    Event::ExternalEventRaised { number, name, data }
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
                Message::ChildDue { task } if self.is_open(task, "child") => {
                    match self.child(task.task) {
                        Some(child) if child.due.is_some() && ended.insert(task.task) => {
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
                } if self.state.phase != Phase::NotStarted => Event::InstanceStartSkipped {
                    instance_id,
                    reason,
                },
                Message::Suspend { reason } if self.can_suspend() => {
                    Event::ExecutionSuspended { reason }
                }
                Message::Resume { reason } if self.state.suspended => {
                    Event::ExecutionResumed { reason }
                }
                Message::Terminate { reason } => Event::ExecutionTerminated { reason },
                Message::Start(_)
                | Message::ActivityEnded { .. }
                | Message::ChildEnded { .. }
                | Message::TimerFired { .. }
                | Message::ChildDue { .. }
                | Message::StartSkipped { .. }
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
            (Phase::Running, Some(retry)) => retry.next_attempt_at(
                attempt,
                &failure,
                child.scheduled_at,
                self.context.now,
                seed,
            ),
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

    pub(crate) fn receive(&mut self, event: Event) {
        self.apply(&event);
        self.received.push(event);
    }

    fn produce(&mut self, event: Event) {
        self.apply(&event);
        self.produced.push(event);
    }

    fn apply(&mut self, event: &Event) {
        if let Err(corrupt) = self.state.apply(event) {
            panic!("a turn would write a history that cannot be read: {corrupt}");
        }
    }

    pub(crate) fn start_guest_turn(&mut self, staged: Vec<Event>) {
        let fired = staged.iter().filter_map(|event| {
            let Event::TimerFired { task } = event else {
                return None;
            };
            match self.state.tasks.get(task)?.kind {
                TaskKind::Timer { fire_at } => Some(fire_at),
                TaskKind::Activity { .. } | TaskKind::Child(_) => None,
            }
        });
        let now = fired.fold(self.context.now.max(self.state.now), Timestamp::max);
        let history_events = u32::try_from(self.state.next_event).unwrap_or(u32::MAX);
        let history_bytes = self.state.history_bytes;
        self.receive(Event::TurnStarted {
            now,
            history_events,
            history_bytes,
        });
        staged.into_iter().for_each(|event| self.receive(event));
    }

    /// Asks the guest and writes what follows. The hash of its answer, where it gave a lawful one.
    pub(crate) fn ask(&mut self, guest: &mut dyn Guest) -> Result<Option<u64>, String> {
        let events: Vec<GuestEvent> = self.received.iter().filter_map(Event::to_guest).collect();
        let bytes = self.received.iter().map(Event::size).sum();
        let limits = self
            .state
            .start
            .as_ref()
            .map_or_else(Limits::default, |start| start.limits);
        let verdict = match guest.advance(
            &events,
            Mode::Live {
                fuel: limits.fuel(events.len(), bytes),
            },
        ) {
            Ok(answer) => match check(self.state, &limits, &answer) {
                Ok(()) => {
                    let hash = answer_hash(&answer);
                    self.take(answer, &limits);
                    return Ok(Some(hash));
                }
                Err(failure) => failure,
            },
            Err(Stop::Verdict(failure)) => failure,
            Err(Stop::Host(reason)) => return Err(reason),
        };
        self.produce(Event::ExecutionFailed {
            failure: verdict,
            cause: None,
        });
        Ok(None)
    }

    fn take(&mut self, answer: Answer, limits: &Limits) {
        for action in answer.actions {
            if let Some(event) = self.event(action, limits) {
                self.produce(event);
            }
        }
        self.state.waiting = Waiting::default();
        match answer.ending {
            Ending::Waiting(waiting) => self.state.waiting = waiting,
            Ending::Completed(output) if self.state.has_open_work() => {
                let tasks = self.state.tasks.iter();
                let waiting_to_retry: Vec<TaskId> = tasks
                    .filter(|(_, task)| matches!(&task.kind, TaskKind::Child(child) if child.due.is_some()))
                    .map(|(id, _)| *id)
                    .collect();
                waiting_to_retry
                    .into_iter()
                    .for_each(|task| self.produce(Event::TaskCanceled { task }));
                self.produce(Event::ExecutionReturned { output });
            }
            Ending::Completed(output) => self.produce(Event::ExecutionCompleted { output }),
            Ending::Failed { failure, cause } => {
                self.produce(Event::ExecutionFailed { failure, cause })
            }
            Ending::ContinuedAsNew {
                input,
                version,
                carry_over,
            } => self.continue_as_new(input, version, carry_over),
        }
    }

    fn continue_as_new(
        &mut self,
        input: Option<Json>,
        version: Option<String>,
        carry_over: Vec<u32>,
    ) {
        let Some(start) = self.state.start.clone() else {
            return;
        };
        let (module, next_version) = match self
            .context
            .names
            .orchestration(&start.name, version.as_deref())
        {
            Resolved::Module(digest, version) => (Some(digest), version),
            Resolved::Native => (None, None),
            // Nothing else has the name any more: it goes on as what it is.
            Resolved::Unknown if version.is_none() => (start.module, start.version.clone()),
            Resolved::Unknown => {
                let message = format!(
                    "no deployed module has version {:?} of orchestration {:?}",
                    version, start.name
                );
                let failure = Failure::permanent(kind::UNKNOWN_ORCHESTRATION, message);
                return self.produce(Event::ExecutionFailed {
                    failure,
                    cause: None,
                });
            }
        };
        let (execution_id, seed) = (self.context.fresh)();
        self.next = Some(Box::new(Start {
            execution_id: execution_id.clone(),
            execution: start.execution + 1,
            version: next_version,
            input: input.clone(),
            seed,
            module,
            next_external: self.state.next_external,
            semantics: SEMANTICS_VERSION,
            accepted_at: self.context.now,
            scheduled_for: None,
            ..*start
        }));
        self.produce(Event::ContinuedAsNew {
            input,
            version,
            carry_over,
            execution_id,
        });
    }

    /// What is recorded of an action; nothing for the cancelling of a task that has ended already.
    fn event(&mut self, action: Action, limits: &Limits) -> Option<Event> {
        let event = match action {
            Action::CallActivity(call) => self.activity(call, limits),
            Action::CallChild(call) => self.child_call(call, limits),
            Action::SetTimer { task, fire_at } => Event::TimerSet { task, fire_at },
            Action::CancelTask(task) if self.state.tasks.contains_key(&task) => {
                Event::TaskCanceled { task }
            }
            Action::CancelTask(_) => return None,
            Action::SendEvent(event) => Event::EventSent {
                instance_id: event.instance_id,
                name: event.name,
                data: event.data,
            },
            Action::StartInstance {
                instance_id,
                name,
                version,
                input,
                tags,
            } => {
                let (mut target, resolved) = self
                    .context
                    .names
                    .orchestration(&name, version.as_deref())
                    .target();
                if let Err(problem) = check_instance_id(&instance_id) {
                    target = Target::Invalid(problem.to_string());
                }
                Event::InstanceStarted {
                    instance_id,
                    name,
                    version: resolved.or(version),
                    input,
                    tags,
                    target,
                }
            }
            Action::SetCustomStatus(value) => Event::CustomStatusSet { value },
        };
        Some(event)
    }

    fn activity(&self, call: ActivityCall, limits: &Limits) -> Event {
        let ActivityCall {
            task,
            name,
            input,
            retry,
            attempt_timeout,
        } = call;
        let (mut target, _) = self
            .context
            .names
            .activity(self.state.module(), &name)
            .target();
        if let Some(problem) = retry.as_ref().and_then(crate::RetryPolicy::problem) {
            target = Target::Invalid(problem.to_owned());
        }
        let input = within(input, limits, &mut target);
        Event::ActivityScheduled {
            task,
            name,
            input,
            retry,
            attempt_timeout,
            target,
        }
    }

    fn child_call(&self, call: ChildCall, limits: &Limits) -> Event {
        let ChildCall {
            task,
            name,
            version,
            instance_id,
            input,
            tags,
            retry,
        } = call;
        let (mut target, resolved) = self
            .context
            .names
            .orchestration(&name, version.as_deref())
            .target();
        if let Some(problem) = retry.as_ref().and_then(crate::RetryPolicy::problem) {
            target = Target::Invalid(problem.to_owned());
        }
        let instance_id = instance_id.unwrap_or_else(|| derived_child_id(self.state, task));
        if let Err(problem) = check_instance_id(&instance_id) {
            target = Target::Invalid(problem.to_string());
        }
        let input = within(input, limits, &mut target);
        Event::ChildScheduled {
            task,
            name,
            version: resolved.or(version),
            instance_id,
            input,
            tags,
            retry,
            target,
        }
    }

    pub(crate) fn complete_if_done(&mut self) {
        if let Phase::Returned { output } = &self.state.phase
            && !self.state.has_open_work()
        {
            let output = output.clone();
            self.produce(Event::ExecutionCompleted { output });
        }
    }
}

/// The id of a child that the guest did not name.
pub(crate) fn derived_child_id(state: &State, task: TaskId) -> String {
    let execution_id = state
        .start
        .as_ref()
        .map_or("", |start| start.execution_id.as_str());
    format!("{execution_id}:{task}")
}

/// The input, unless it is over the limit, in which case it is the target that says so.
fn within(input: Option<Json>, limits: &Limits, target: &mut Target) -> Option<Json> {
    let bytes = size_of(input.as_ref()) as u64;
    if bytes <= limits.payload_bytes {
        return input;
    }
    *target = Target::Oversized {
        bytes,
        limit: limits.payload_bytes,
    };
    None
}
