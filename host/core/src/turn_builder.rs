//! Builds a turn: the events that follow from its messages and from the answer of the guest.

use crate::check::check;
use crate::context::{Resolved, TurnContext};
use crate::guest::{ActivityCall, CallDetails, CallOptions, ChildCall, OutgoingRequest};
use crate::task::attempt_id;
use crate::text::shortened;
use crate::value::size_of;
use crate::{
    Action, Answer, Cancellation, ChildCommand, Ending, Event, Failure, GuestEvent,
    InstanceOptions, Json, Limits, Millis, Phase, SEMANTICS_VERSION, Start, State, Stop, Target,
    TaskId, TaskKind, TimerDue, Timestamp, TraceContext, answer_hash, check_instance_id, kind,
};

/// The events of a turn in the making. Everything it writes goes through [`State::apply`].
pub(crate) struct TurnBuilder<'a, 'c> {
    pub(crate) state: &'a mut State,
    pub(crate) context: &'a mut TurnContext<'c>,
    pub(crate) received: Vec<Event>,
    pub(crate) produced: Vec<Event>,
    pub(crate) next: Option<Box<Start>>,
}

impl<'a, 'c> TurnBuilder<'a, 'c> {
    pub(crate) fn new(state: &'a mut State, context: &'a mut TurnContext<'c>) -> Self {
        Self {
            state,
            context,
            received: Vec::new(),
            produced: Vec::new(),
            next: None,
        }
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
            match self.state.tasks().get(task)?.kind {
                TaskKind::Timer { fire_at } => Some(fire_at),
                TaskKind::Activity { .. } | TaskKind::Child(_) | TaskKind::Request => None,
            }
        });
        let now = fired.fold(self.context.now.max(self.state.now), Timestamp::max);
        let history_events = self.state.history_events();
        let history_bytes = self.state.history_bytes;
        self.receive(Event::TurnStarted {
            now,
            history_events,
            history_bytes,
        });
        staged.into_iter().for_each(|event| self.receive(event));
    }

    /// What the guest is asked: the events that it is given, and the fuel that it may use.
    pub(crate) fn question(&self) -> (Vec<GuestEvent>, u64) {
        let events: Vec<GuestEvent> = self.received.iter().filter_map(Event::to_guest).collect();
        let bytes = self.received.iter().map(Event::size).sum();
        let fuel = self.limits().fuel(events.len(), bytes);
        (events, fuel)
    }

    fn limits(&self) -> Limits {
        let start = self.state.start();
        start.map_or_else(Limits::default, |start| start.limits)
    }

    /// Writes what follows from the guest's answer. Returns the hash of the answer, if it was lawful: of the whole answer, also where a
    /// failure in it is cut before it is written, so that a replay knows the answer again whatever the bounds are then.
    ///
    /// # Errors
    /// The host's reason, if it could not run the guest.
    pub(crate) fn answered(&mut self, answer: Result<Answer, Stop>) -> Result<Option<u64>, String> {
        let limits = self.limits();
        let verdict = match answer {
            Ok(answer) => match check(self.state, &limits, &answer) {
                Ok(()) => {
                    let hash = answer_hash(&answer, self.state.now);
                    self.take(answer, &limits);
                    return Ok(Some(hash));
                }
                Err(failure) => failure,
            },
            Err(Stop::Verdict(failure)) => failure.bounded(limits.payload_bytes),
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
            self.act(action, limits);
        }
        match answer.ending {
            Ending::Waiting(waiting) => self.state.waits(&self.received, waiting.bounded()),
            Ending::Completed(output) if self.state.has_open_work() => {
                let tasks = self.state.tasks().iter();
                let waiting_to_retry: Vec<TaskId> = tasks
                    .filter(|(_, task)| task.child().is_some_and(|child| child.due.is_some()))
                    .map(|(id, _)| *id)
                    .collect();
                waiting_to_retry
                    .into_iter()
                    .for_each(|task| self.produce(Event::TaskCanceled { task }));
                self.produce(Event::ExecutionReturned { output });
            }
            Ending::Completed(output) => self.produce(Event::ExecutionCompleted { output }),
            Ending::Failed { failure, cause } => {
                let failure = failure.bounded(limits.payload_bytes);
                self.produce(Event::ExecutionFailed { failure, cause })
            }
            Ending::ContinuedAsNew {
                input,
                version,
                carry_over,
            } => self.continue_as_new(input, version, carry_over),
            Ending::Canceled => self.end_as_asked(),
        }
    }

    /// The guest ended because it was asked to: with the reason of whoever asked, or with a failure if it was a time limit.
    fn end_as_asked(&mut self) {
        let running = self.state.running();
        let cancellation = running.and_then(|running| running.cancellation.clone());
        let Some(cancellation) = cancellation else {
            return;
        };
        let Cancellation { reason, .. } = cancellation;
        self.produce(if cancellation.timed_out {
            Event::ExecutionFailed {
                failure: timed_out(reason),
                cause: None,
            }
        } else {
            Event::ExecutionTerminated { reason }
        });
    }

    fn continue_as_new(
        &mut self,
        input: Option<Json>,
        version: Option<String>,
        carry_over: Vec<u32>,
    ) {
        let Some(running) = self.state.running() else {
            return;
        };
        let (start, next_external) = (running.begun.start.clone(), running.next_external);
        let names = self.context.names;
        let (module, next_version) =
            match names.orchestration(start.module, &start.name, version.as_deref()) {
                // An execution of a remote worker goes on there, whatever was deployed since.
                Resolved::Module(..) | Resolved::Remote if start.module.is_none() => {
                    (None, version.clone().or_else(|| start.version.clone()))
                }
                Resolved::Module(digest, version) => (Some(digest), version),
                Resolved::Native => (None, None),
                Resolved::Remote => (None, version.clone()),
                // Nothing else has the name any more: it goes on as what it is.
                Resolved::Unknown if version.is_none() || version == start.version => {
                    (start.module, start.version.clone())
                }
                Resolved::Unknown => {
                    let message = format!(
                        "no deployed module has version {:?} of orchestration {:?}",
                        version.as_deref().unwrap_or(""),
                        start.name
                    );
                    let failure = Failure::permanent(kind::UNKNOWN_ORCHESTRATION, message);
                    return self.produce(Event::ExecutionFailed {
                        failure,
                        cause: None,
                    });
                }
            };
        let (execution_id, seed) = (self.context.fresh)();
        // All executions of an instance are in one trace: that of its caller, or the one that the first began.
        let trace_parent = start.trace_parent.clone().or_else(|| {
            let (own, _) = TraceContext::of_execution(&start, self.state.generation);
            Some(own.to_string())
        });
        self.next = Some(Box::new(Start {
            execution_id: execution_id.clone(),
            execution: start.execution + 1,
            version: next_version,
            input: input.clone(),
            seed,
            module,
            next_external,
            semantics: SEMANTICS_VERSION,
            accepted_at: self.context.now,
            scheduled_for: None,
            trace_parent,
            limits: self.context.names.limits(module, start.limits),
            ..*start
        }));
        self.produce(Event::ContinuedAsNew {
            input,
            version,
            carry_over,
            execution_id,
        });
    }

    /// Records an action; nothing for what ends a task that has ended already.
    fn act(&mut self, action: Action, limits: &Limits) {
        let options = match &action {
            Action::CallChild(call) => Some((Some(call.task), call.options)),
            Action::StartInstance { options, .. } => Some((None, *options)),
            Action::CancelTask(task) => {
                let child = self.state.child(*task);
                let command = child.and_then(|child| child.options.when_dropped.command());
                if let Some(command) = command {
                    self.command_child(*task, command, None);
                }
                None
            }
            Action::CallActivity(_)
            | Action::SetTimer { .. }
            | Action::CommandChild { .. }
            | Action::SendEvent(_)
            | Action::SetCustomStatus(_)
            | Action::Describe(_)
            | Action::SetValue { .. }
            | Action::SendRequest(_)
            | Action::Respond { .. }
            | Action::SetTag { .. } => None,
        };
        let chosen = options_event(&action);
        if let Some(event) = self.event(action, limits) {
            self.produce(event);
        }
        chosen.into_iter().for_each(|event| self.produce(event));
        if let Some((task, options)) = options
            && options != InstanceOptions::default()
        {
            self.produce(Event::InstanceOptions { task, options });
        }
    }

    fn command_child(&mut self, task: TaskId, command: ChildCommand, reason: Option<String>) {
        if let Some(child) = self.state.child(task) {
            let instance_id = child.attempt_instance_id(child.attempt);
            self.produce(Event::ChildCommanded {
                task,
                instance_id,
                command,
                reason,
            });
        }
    }

    #[expect(
        clippy::too_many_lines,
        reason = "it is a table, with an arm for each action"
    )]
    fn event(&mut self, action: Action, limits: &Limits) -> Option<Event> {
        let event = match action {
            Action::CallActivity(call) => self.activity(call, limits),
            Action::CallChild(call) => self.child_call(call, limits),
            Action::SetTimer { task, due } => match due {
                TimerDue::GuestTime(fire_at) => Event::TimerSet { task, fire_at },
                TimerDue::After(span) => Event::TimerSet {
                    task,
                    fire_at: self.state.now.after(span),
                },
                TimerDue::At(at) => Event::TimerSetAt { task, at },
            },
            Action::CancelTask(task) if self.state.tasks().contains_key(&task) => {
                Event::TaskCanceled { task }
            }
            Action::CancelTask(_) => return None,
            Action::CommandChild {
                task,
                command,
                reason,
            } => {
                self.command_child(task, command, reason);
                return None;
            }
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
                options: _,
            } => {
                let (mut target, resolved) = self
                    .context
                    .names
                    .orchestration(self.state.module(), &name, version.as_deref())
                    .target();
                if let Err(problem) = check_instance_id(&instance_id) {
                    target = Target::Invalid(problem.to_string());
                }
                let target = self.if_there_is_room(target);
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
            Action::SetValue { name, value } => Event::ValueSet { name, value },
            Action::SetTag { key, value } => Event::TagSet { key, value },
            Action::SendRequest(request) => self.request(request, limits),
            Action::Respond { number, outcome } => {
                let open = self.state.running()?.requests.get(&number)?;
                Event::RequestAnswered {
                    number: Some(number),
                    id: open.clone(),
                    outcome: outcome.map_err(|failure| failure.bounded(limits.payload_bytes)),
                }
            }
            Action::Describe(details) => {
                let CallDetails {
                    task,
                    version,
                    tags,
                } = details;
                Event::CallDetails {
                    task,
                    version,
                    tags,
                }
            }
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
            options,
        } = call;
        let (mut target, _) = self
            .context
            .names
            .activity(self.state.module(), &name)
            .target();
        if let Some(problem) = retry.as_ref().and_then(crate::RetryPolicy::problem) {
            target = Target::Invalid(problem.to_owned());
        }
        if options.heartbeat_timeout == Some(Millis(0)) {
            let problem = "its heartbeat timeout must be longer than 0 ms";
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

    /// A request has the id of its task, so that it is never sent twice.
    fn request(&self, request: OutgoingRequest, limits: &Limits) -> Event {
        let OutgoingRequest {
            task,
            instance_id,
            name,
            input,
        } = request;
        let bytes = size_of(input.as_ref()) as u64;
        let problem = if name.is_empty() {
            Some("it has no name".to_owned())
        } else if let Err(problem) = check_instance_id(&instance_id) {
            Some(problem.to_string())
        } else if let Some(Err(why)) = input.as_ref().map(Json::check_readable) {
            Some(format!("its input has {why}"))
        } else {
            None
        };
        let refused = if bytes > limits.payload_bytes {
            let limit = limits.payload_bytes;
            let message = format!(
                "the input of request {name:?} has {bytes} bytes; at most {limit} are allowed"
            );
            Some(Failure::permanent(kind::LIMIT_EXCEEDED, message))
        } else {
            problem.map(|why| {
                let message = format!("request {name:?} was not sent: {why}");
                Failure::permanent(kind::INVALID_ANSWER, message)
            })
        };
        Event::RequestSent {
            task,
            id: request_id(self.state, task),
            input: input.filter(|_| refused.is_none()),
            refused,
            instance_id,
            name,
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
            options: _,
        } = call;
        let (mut target, resolved) = self
            .context
            .names
            .orchestration(self.state.module(), &name, version.as_deref())
            .target();
        if let Some(problem) = retry.as_ref().and_then(crate::RetryPolicy::problem) {
            target = Target::Invalid(problem.to_owned());
        }
        let instance_id = instance_id.unwrap_or_else(|| derived_child_id(self.state, task));
        let attempts = retry.as_ref().map_or(1, |retry| retry.max_attempts);
        let longest = attempt_id(&instance_id, attempts);
        if let Err(problem) = check_instance_id(&longest) {
            target = Target::Invalid(format!("{problem} (in {:?})", shortened(&longest, 300)));
        }
        let mut target = self.if_there_is_room(target);
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

    /// A target that is another instance of a module, unless there is no room for one.
    fn if_there_is_room(&self, target: Target) -> Target {
        let Target::Module(module) = target else {
            return target;
        };
        let full = self.context.names.full(module);
        full.map_or(target, Target::Full)
    }

    pub(crate) fn complete_if_done(&mut self) {
        if let Phase::Returned { output, .. } = self.state.phase()
            && !self.state.has_open_work()
        {
            let output = output.clone();
            self.produce(Event::ExecutionCompleted { output });
        }
    }
}

/// What is recorded of what a call chose, if it chose anything.
pub(crate) fn options_event(action: &Action) -> Option<Event> {
    let Action::CallActivity(call) = action else {
        return None;
    };
    let CallOptions {
        heartbeat_timeout,
        at_most_once,
    } = call.options;
    (!call.options.is_default()).then_some(Event::ActivityOptions {
        task: call.task,
        heartbeat_timeout,
        at_most_once,
    })
}

/// The failure of an execution whose time limit was over.
pub(crate) fn timed_out(reason: Option<String>) -> Failure {
    let message = reason.unwrap_or_else(|| "its time limit was over".to_owned());
    Failure::permanent(kind::TIMEOUT, message)
}

/// The id of a child that the guest did not name.
pub(crate) fn derived_child_id(state: &State, task: TaskId) -> String {
    let execution_id = state
        .start()
        .map_or("", |start| start.execution_id.as_str());
    format!("{execution_id}:{task}")
}

/// The id of a request. What was scheduled after a rewind is another task, though it may have the same number.
pub(crate) fn request_id(state: &State, task: TaskId) -> String {
    let own = derived_child_id(state, task);
    match state.generation {
        0 => own,
        generation => format!("{own}:{generation}"),
    }
}

/// The input, unless it is over a limit, in which case it is the target that says so.
fn within(input: Option<Json>, limits: &Limits, target: &mut Target) -> Option<Json> {
    let bytes = size_of(input.as_ref()) as u64;
    if bytes <= limits.payload_bytes {
        let readable = input.as_ref().map_or(Ok(()), Json::check_readable);
        let Err(why) = readable else {
            return input;
        };
        *target = Target::Invalid(format!("its input has {why}"));
        return None;
    }
    *target = Target::Oversized {
        bytes,
        limit: limits.payload_bytes,
    };
    None
}
