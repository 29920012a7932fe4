//! `perennial:workflow/orchestrations@0.1`, and its mapping to the core's types.

use perennial_core::{
    Action, ActivityCall, Answer, CallOptions, Cause, ChildCall, Ending, Failure, GuestEvent,
    InstanceOptions, Json, Millis, OutgoingEvent, RetryPolicy, TaskId, TimerDue, Timestamp,
    Waiting,
};
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{AsContextMut, Store};

use super::bindings::orchestrations as bindings;
use crate::wasm::definition::Definition;
use bindings::exports::perennial::workflow::orchestrations as wit;
use bindings::perennial::workflow::types as wit_types;
use wit::{FailureParam, FailureResult};

/// A component with orchestrations, ready to be instantiated.
pub(in crate::wasm) struct OrchestrationsPre<T: 'static>(bindings::WithOrchestrationsPre<T>);

impl<T: 'static> OrchestrationsPre<T> {
    /// Looks up the exports of the contract.
    pub(in crate::wasm) fn new(component: InstancePre<T>) -> wasmtime::Result<Self> {
        Ok(Self(bindings::WithOrchestrationsPre::new(component)?))
    }

    /// Creates a fresh instance.
    pub(in crate::wasm) fn instantiate(
        &self,
        store: &mut Store<T>,
    ) -> wasmtime::Result<Orchestrations> {
        Ok(Orchestrations(self.0.instantiate(store)?))
    }
}

/// The orchestrations of one component instance.
pub(in crate::wasm) struct Orchestrations(bindings::WithOrchestrations);

impl Orchestrations {
    /// The orchestrations of an existing instance.
    pub(in crate::wasm) fn of(
        store: impl AsContextMut,
        instance: &Instance,
    ) -> wasmtime::Result<Self> {
        Ok(Self(bindings::WithOrchestrations::new(store, instance)?))
    }

    /// The orchestrations that the component defines.
    pub(in crate::wasm) fn definitions(
        &self,
        store: impl AsContextMut,
    ) -> wasmtime::Result<Vec<Definition>> {
        let definitions = self
            .0
            .perennial_workflow_orchestrations()
            .call_definitions(store)?;
        Ok(definitions
            .into_iter()
            .map(|definition| Definition {
                name: definition.name,
                version: definition.version,
                description: definition.description,
                input_schema: definition.input_schema,
            })
            .collect())
    }

    /// Runs a turn.
    pub(in crate::wasm) fn advance(
        &self,
        store: impl AsContextMut,
        events: &[GuestEvent],
    ) -> wasmtime::Result<Answer> {
        let backing = Backing::of(events);
        let events = backing.lend(events);
        let turn = self
            .0
            .perennial_workflow_orchestrations()
            .call_advance(store, &events)?;
        Ok(Answer {
            actions: turn.actions.into_iter().map(action).collect(),
            ending: ending(turn.state),
        })
    }
}

/// Storage for the nested lists in a turn's events, in the borrowed form of the contract. Usually empty.
struct Backing<'a> {
    tags: Vec<(&'a str, &'a str)>,
    /// One list for each event with a failure that has causes.
    causes: Vec<Vec<wit_types::CauseParam<'a>>>,
}

impl<'a> Backing<'a> {
    fn of(events: &'a [GuestEvent]) -> Self {
        let mut backing = Self {
            tags: Vec::new(),
            causes: Vec::new(),
        };
        for event in events {
            match event {
                GuestEvent::ExecutionStarted { tags, .. } => {
                    // An execution has one start event; with several, each would borrow the last one's tags.
                    backing.tags = tags
                        .iter()
                        .map(|(name, value)| (name.as_str(), value.as_str()))
                        .collect();
                }
                GuestEvent::TaskCompleted {
                    outcome: Err(failure),
                    ..
                } if !failure.causes.is_empty() => {
                    backing
                        .causes
                        .push(failure.causes.iter().map(cause_param).collect());
                }
                GuestEvent::TurnStarted { .. }
                | GuestEvent::TaskCompleted { .. }
                | GuestEvent::TimerFired(_)
                | GuestEvent::ExternalEventRaised { .. }
                | GuestEvent::CancellationRequested(_)
                | GuestEvent::RequestReceived(_) => {}
            }
        }
        backing
    }

    fn lend(&'a self, events: &'a [GuestEvent]) -> Vec<wit::Event<'a>> {
        let mut causes = self.causes.iter();
        events
            .iter()
            .filter_map(|event| {
                Some(match event {
                    GuestEvent::TurnStarted {
                        now,
                        history_events,
                        history_bytes,
                    } => wit::Event::TurnStarted(wit::TurnStart {
                        now: now.0,
                        history_events: *history_events,
                        history_bytes: *history_bytes,
                    }),
                    GuestEvent::ExecutionStarted {
                        instance_id,
                        execution_id,
                        name,
                        version,
                        input,
                        parent,
                        tags: _,
                        trace_parent,
                        seed,
                    } => wit::Event::ExecutionStarted(wit::Start {
                        instance_id,
                        execution_id,
                        name,
                        version: version.as_deref(),
                        input: text(input.as_ref()),
                        parent: parent.as_ref().map(|parent| wit::Parent {
                            instance_id: &parent.instance_id,
                            name: &parent.name,
                            task: parent.task.task.0,
                        }),
                        tags: &self.tags,
                        trace_parent: trace_parent.as_deref(),
                        seed: *seed,
                    }),
                    GuestEvent::TaskCompleted { task, outcome } => {
                        wit::Event::TaskCompleted(wit::TaskResult {
                            task: task.0,
                            outcome: match outcome {
                                Ok(result) => Ok(text(result.as_ref())),
                                Err(failure) if failure.causes.is_empty() => {
                                    Err(failure_param(failure, &[]))
                                }
                                Err(failure) => Err(failure_param(
                                    failure,
                                    causes.next().map_or(&[], Vec::as_slice),
                                )),
                            },
                        })
                    }
                    GuestEvent::TimerFired(task) => wit::Event::TimerFired(task.0),
                    GuestEvent::ExternalEventRaised { number, name, data } => {
                        wit::Event::ExternalEventRaised(wit::ExternalEvent {
                            number: *number,
                            name,
                            data: text(data.as_ref()),
                        })
                    }
                    // This contract has no word for it, so that such executions are not asked.
                    GuestEvent::CancellationRequested(_) | GuestEvent::RequestReceived(_) => {
                        return None;
                    }
                })
            })
            .collect()
    }
}

fn text(json: Option<&Json>) -> Option<&str> {
    json.map(Json::as_str)
}

fn cause_param(cause: &Cause) -> wit_types::CauseParam<'_> {
    wit_types::CauseParam {
        kind: &cause.kind,
        message: &cause.message,
        trace: cause.trace.as_deref(),
    }
}

fn failure_param<'a>(
    failure: &'a Failure,
    causes: &'a [wit_types::CauseParam<'a>],
) -> FailureParam<'a> {
    FailureParam {
        kind: &failure.kind,
        message: &failure.message,
        details: text(failure.details.as_ref()),
        retryable: failure.retryable,
        trace: failure.trace.as_deref(),
        causes,
    }
}

fn json(text: Option<String>) -> Option<Json> {
    text.map(Json::from_text)
}

fn action(action: wit::Action) -> Action {
    match action {
        wit::Action::CallActivity(call) => Action::CallActivity(ActivityCall {
            task: TaskId(call.task),
            name: call.name,
            input: json(call.input),
            retry: call.retry.map(retry),
            attempt_timeout: call.attempt_timeout.map(Millis),
            options: CallOptions::default(),
        }),
        wit::Action::CallChild(call) => Action::CallChild(ChildCall {
            task: TaskId(call.task),
            name: call.name,
            version: call.version,
            instance_id: call.instance_id,
            input: json(call.input),
            tags: call.tags,
            retry: call.retry.map(retry),
            options: InstanceOptions::default(),
        }),
        wit::Action::SetTimer(timer) => Action::SetTimer {
            task: TaskId(timer.task),
            due: TimerDue::GuestTime(Timestamp(timer.fire_at)),
        },
        wit::Action::CancelTask(task) => Action::CancelTask(TaskId(task)),
        wit::Action::SendEvent(event) => Action::SendEvent(OutgoingEvent {
            instance_id: event.instance_id,
            name: event.name,
            data: json(event.data),
        }),
        wit::Action::StartInstance(start) => Action::StartInstance {
            instance_id: start.instance_id,
            name: start.name,
            version: start.version,
            input: json(start.input),
            tags: start.tags,
            options: InstanceOptions::default(),
        },
        wit::Action::SetCustomStatus(status) => Action::SetCustomStatus(json(status)),
    }
}

fn retry(policy: wit::RetryPolicy) -> RetryPolicy {
    RetryPolicy {
        max_attempts: policy.max_attempts,
        first_delay: Millis(policy.first_delay),
        backoff: policy.backoff,
        max_delay: policy.max_delay.map(Millis),
        jitter: policy.jitter,
        give_up_after: policy.give_up_after.map(Millis),
    }
}

fn ending(state: wit::State) -> Ending {
    match state {
        wit::State::Waiting(waiting) => Ending::Waiting(Waiting {
            events: waiting.events,
            tasks: waiting.tasks.into_iter().map(TaskId).collect(),
            note: waiting.note,
            requests: Vec::new(),
        }),
        wit::State::Completed(output) => Ending::Completed(json(output)),
        wit::State::Failed(ended) => Ending::Failed {
            failure: failure(ended.failure),
            cause: ended.cause.map(TaskId),
        },
        wit::State::ContinuedAsNew(continuation) => Ending::ContinuedAsNew {
            input: json(continuation.input),
            version: continuation.version,
            carry_over: continuation.carry_over,
        },
    }
}

fn failure(failure: FailureResult) -> Failure {
    Failure {
        kind: failure.kind,
        message: failure.message,
        details: json(failure.details),
        retryable: failure.retryable,
        trace: failure.trace,
        causes: failure
            .causes
            .into_iter()
            .map(|cause| Cause {
                kind: cause.kind,
                message: cause.message,
                trace: cause.trace,
            })
            .collect(),
    }
}
