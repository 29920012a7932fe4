//! Translates messages into events, given the state of the execution.

use std::collections::BTreeSet;

use crate::task::TaskType;
use crate::turn_builder::timed_out;
use crate::{
    Cancellation, ChildCommand, ChildTask, Digest, Event, Failure, Json, Message, Millis, Names,
    Start, State, TaskId, TaskRef, Timestamp, kind,
};

/// Turns messages into events, without folding them in.
pub(crate) struct Stage<'a> {
    state: &'a State,
    now: Timestamp,
    names: &'a dyn Names,
    staged: Vec<Event>,
    /// Whether one of the staged events asks the guest to cancel.
    is_canceled: bool,
    /// Whether the last of the staged events ends the execution.
    is_over: bool,
    /// Tasks that end, or are tried again, with one of the staged events.
    ended: BTreeSet<TaskId>,
    externals: Externals<'a>,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(state: &'a State, now: Timestamp, names: &'a dyn Names) -> Self {
        Self {
            state,
            now,
            names,
            staged: Vec::new(),
            is_canceled: false,
            is_over: false,
            ended: BTreeSet::new(),
            externals: Externals::of(state),
        }
    }

    /// The events that the messages mean, without those that mean nothing here any more.
    pub(crate) fn stage(mut self, mut messages: Vec<Message>) -> Vec<Event> {
        self.staged.reserve(messages.len() + 1);
        let mut take = |wanted: fn(&Message) -> bool| {
            let at = messages.iter().position(wanted);
            at.map(|at| messages.remove(at))
        };
        let awaits_start = self.state.awaits_start();
        let start = awaits_start.then(|| take(|message| matches!(message, Message::Start(_))));
        // It is part of how the execution begins, so nothing comes between.
        let values = take(|message| matches!(message, Message::Values { .. }));
        let status = take(|message| matches!(message, Message::CustomStatus { .. }));
        let begins = start.flatten().into_iter().chain(values).chain(status);
        for message in begins.chain(messages) {
            let event = self.event(message);
            self.staged.extend(event);
            if self.is_over {
                break;
            }
        }
        self.staged
    }

    #[expect(
        clippy::too_many_lines,
        reason = "it is a table, with an arm for each message"
    )]
    fn event(&mut self, message: Message) -> Option<Event> {
        match message {
            Message::Start(start) => self.begin(start),
            Message::ExternalEvent { number, name, data } => {
                // After the return nobody is left to take it.
                let is_taken = self.has_begun() && !self.state.has_returned();
                let number = is_taken.then(|| self.externals.take(number))??;
                Some(Event::ExternalEventRaised { number, name, data })
            }
            Message::Request {
                number,
                id,
                name,
                input,
            } => self.request(number, id, name, input),
            Message::RequestEnded { task, outcome } => {
                let task = self.ends(task, TaskType::Request)?;
                Some(match outcome {
                    Ok(output) => Event::RequestCompleted { task, output },
                    Err(failure) => Event::RequestFailed { task, failure },
                })
            }
            Message::ActivityEnded { task, outcome, run } => {
                let task = self.ends(task, TaskType::Activity)?;
                Some(match outcome {
                    Ok(output) => Event::ActivityCompleted { task, output, run },
                    Err(failure) => Event::ActivityFailed { task, failure, run },
                })
            }
            Message::ChildEnded {
                task,
                attempt,
                outcome,
            } => self.child_ended(task, attempt, outcome),
            Message::TimerFired { task } => {
                let task = self.ends(task, TaskType::Timer)?;
                Some(Event::TimerFired { task })
            }
            Message::AttemptsFailed { task, attempts } => {
                if self.is_open(task, TaskType::Activity) && !self.ended.contains(&task.task) {
                    let task = task.task;
                    let seen = attempts.into_iter().map(|one| Event::AttemptFailed {
                        task,
                        failure: one.failure,
                        run: one.run,
                    });
                    self.staged.extend(seen);
                }
                None
            }
            Message::ChildDue { task, attempt } => self.child_due(task, attempt),
            Message::StartSkipped {
                instance_id,
                reason,
            } => self.has_begun().then_some(Event::InstanceStartSkipped {
                instance_id,
                reason,
            }),
            Message::CustomStatus { value } => {
                let is_value = |event: &Event| matches!(event, Event::ValueSet { .. });
                let follows = matches!(&self.staged[..], [Event::ExecutionStarted(start), values @ ..]
                    if start.execution > 0 && values.iter().all(is_value));
                follows.then_some(Event::CustomStatusSet { value: Some(value) })
            }
            Message::Values { values } => {
                if matches!(&self.staged[..], [Event::ExecutionStarted(start)] if start.execution > 0)
                {
                    let left = values.into_iter().map(|(name, value)| Event::ValueSet {
                        name,
                        value: Some(value),
                    });
                    self.staged.extend(left);
                }
                None
            }
            Message::Suspend { reason, .. } => {
                let can_suspend = self.state.may_ask_guest() && !self.state.is_suspended();
                can_suspend.then_some(Event::ExecutionSuspended { reason })
            }
            Message::Resume { reason, .. } => {
                let is_suspended = self.state.is_suspended();
                is_suspended.then_some(Event::ExecutionResumed { reason })
            }
            Message::Terminate { reason, .. } => Some(Event::ExecutionTerminated { reason }),
            Message::Cancel { reason, grace, .. } => self.cancel(reason, false, grace),
            Message::TimeLimit { grace } => {
                let reason = "the instance ran for longer than its execution timeout".to_owned();
                self.cancel(Some(reason), true, grace)
            }
            Message::GraceOver {
                execution,
                generation,
            } => self.grace_is_over(execution, generation),
        }
    }

    /// Asks the guest to end in good order. One that cannot be told, or that has returned, is ended at once.
    fn cancel(&mut self, reason: Option<String>, timed_out: bool, grace: Millis) -> Option<Event> {
        if !self.has_begun() {
            return None;
        }
        let cancellation = Cancellation {
            reason,
            timed_out,
            deadline: self.now.max(self.state.now).after(grace),
        };
        if self.state.has_returned() || !self.names.can_cancel(self.module()) {
            self.staged.clear();
            self.is_over = true;
            return Some(end_of(cancellation));
        }
        let is_first = (self.state.running()).is_none_or(|running| running.cancellation.is_none());
        (is_first && !std::mem::replace(&mut self.is_canceled, true))
            .then_some(Event::CancellationRequested(cancellation))
    }

    /// The module of the execution, which may begin in this turn.
    fn module(&self) -> Option<Digest> {
        match self.staged.first() {
            Some(Event::ExecutionStarted(start)) => start.module,
            Some(_) | None => self.state.module(),
        }
    }

    /// Passes a request on to the guest, or refuses it where nobody can answer it.
    fn request(
        &mut self,
        number: Option<u32>,
        id: String,
        name: String,
        input: Option<Json>,
    ) -> Option<Event> {
        if !self.has_begun() {
            return None;
        }
        let why = if self.state.has_returned() {
            "the orchestration has returned, and only waits for what it has started"
        } else if !self.names.can_cancel(self.module()) {
            "the orchestration cannot answer requests: it runs on a remote worker, or its module is built for contract 0.1"
        } else {
            let number = self.externals.take(number)?;
            return Some(Event::RequestReceived {
                number,
                id,
                name,
                input,
            });
        };
        let failure = Failure::permanent(kind::NOT_ANSWERED, why.to_owned());
        Some(Event::RequestAnswered {
            number: None,
            id,
            outcome: Err(failure),
        })
    }

    fn grace_is_over(&self, execution: u32, generation: u32) -> Option<Event> {
        let asked = (self.state.running()?.cancellation.as_ref()).filter(|_| {
            execution == self.state.execution() && generation == self.state.generation
        })?;
        Some(end_of(asked.clone()))
    }

    /// Whether the execution began before this turn, or begins in it.
    fn has_begun(&self) -> bool {
        !self.state.awaits_start() || !self.staged.is_empty()
    }

    fn begin(&mut self, start: Box<Start>) -> Option<Event> {
        if self.has_begun() {
            return None;
        }
        self.externals = Externals::from(&start);
        Some(Event::ExecutionStarted(start))
    }

    /// Whether a message about `task` is about a task of this execution that is still open.
    fn is_open(&self, task: TaskRef, of_type: TaskType) -> bool {
        let open = self.state.tasks().get(&task.task);
        task.execution == self.state.execution()
            && open.is_some_and(|open| {
                open.generation == task.generation && open.kind.of_type() == of_type
            })
    }

    /// The task, if it is open and this is the first of the messages that ends it.
    fn ends(&mut self, task: TaskRef, of_type: TaskType) -> Option<TaskId> {
        (self.is_open(task, of_type) && self.ended.insert(task.task)).then_some(task.task)
    }

    fn open_child(&self, task: TaskRef, attempt: u32) -> Option<&'a ChildTask> {
        let child = self.state.child(task.task)?;
        (self.is_open(task, TaskType::Child) && child.attempt == attempt).then_some(child)
    }

    /// What a child has failed with that would be tried again too late.
    fn given_up(&self, child: &ChildTask) -> Option<Failure> {
        let policy = child.retry.as_ref()?;
        policy.given_up(child.last_failure.as_ref()?, child.scheduled_at, self.now)
    }

    fn child_due(&mut self, task: TaskRef, attempt: u32) -> Option<Event> {
        let child = self.open_child(task, attempt)?;
        child.due?;
        let task = self.ends(task, TaskType::Child)?;
        Some(
            match self
                .given_up(child)
                .or_else(|| child.commanded.map(ended_by))
            {
                Some(failure) => Event::ChildFailed { task, failure },
                None => Event::ChildRetried {
                    task,
                    attempt,
                    instance_id: child.attempt_instance_id(attempt),
                },
            },
        )
    }

    fn child_ended(
        &mut self,
        task: TaskRef,
        attempt: u32,
        outcome: Result<Option<Json>, Failure>,
    ) -> Option<Event> {
        let child = self.open_child(task, attempt)?;
        if child.due.is_some() {
            return None;
        }
        let task = self.ends(task, TaskType::Child)?;
        let failure = match outcome {
            Ok(output) => return Some(Event::ChildCompleted { task, output }),
            Err(failure) => failure,
        };
        let next = self.state.running().zip(child.retry.as_ref());
        let next = next.and_then(|(running, retry)| {
            let seed = running.begun.start.seed ^ u64::from(task.0);
            retry.next_attempt_at(attempt, &failure, child.scheduled_at, self.now, seed)
        });
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

/// The failure of a child that was told to end while it waited to be tried again.
fn ended_by(command: ChildCommand) -> Failure {
    let kind = match command {
        ChildCommand::Cancel => kind::CANCELED,
        ChildCommand::Terminate => kind::TERMINATED,
    };
    let message = format!("the child was told to {command} before it was tried again");
    Failure::permanent(kind, message)
}

/// The end of an execution that was asked to end and did not, or could not be asked.
fn end_of(cancellation: Cancellation) -> Event {
    let Cancellation {
        reason,
        timed_out: late,
        ..
    } = cancellation;
    if late {
        Event::ExecutionTimedOut {
            failure: timed_out(reason),
        }
    } else {
        Event::ExecutionTerminated { reason }
    }
}

/// Numbers the external events of a turn.
#[derive(Default)]
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
        state.running().map_or_else(Self::default, |running| Self {
            carried: Some(&running.carried),
            next: running.next_external,
            ..Self::from(&running.begun.start)
        })
    }

    fn from(start: &Start) -> Self {
        Self {
            first: start.next_external,
            next: start.next_external,
            ..Self::default()
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
