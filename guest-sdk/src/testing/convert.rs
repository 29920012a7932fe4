//! The events and actions of the contract as those of the core, and back.

use perennial_core::{
    Action, ActivityCall, Answer, CallOptions, Cause, ChildCall, ChildCommand, ChildPolicy, Ending,
    Failure, GuestEvent, IdReuse, InstanceOptions, Json, Millis, OutgoingEvent, RetryPolicy,
    TaskId, TimerDue, Timestamp, Waiting,
};

use crate::bindings::orchestrations as wit;
use crate::bindings::types as wit_types;

pub(super) fn text(json: Option<Json>) -> Option<String> {
    json.map(|json| json.as_str().to_owned())
}

pub(super) fn json(text: Option<String>) -> Option<Json> {
    text.map(Json::from_text)
}

/// An event of the core as one of the contract.
pub fn event(event: GuestEvent) -> wit::Event {
    match event {
        GuestEvent::TurnStarted {
            now,
            history_events,
            history_bytes,
        } => wit::Event::TurnStarted(wit::TurnStart {
            now: now.0,
            history_events,
            history_bytes,
        }),
        GuestEvent::ExecutionStarted {
            instance_id,
            execution_id,
            name,
            version,
            input,
            parent,
            tags,
            trace_parent,
            seed,
        } => wit::Event::ExecutionStarted(wit::Start {
            instance_id,
            execution_id,
            name,
            version,
            input: text(input),
            parent: parent.map(|parent| wit::Parent {
                instance_id: parent.instance_id,
                name: parent.name,
                task: parent.task.task.0,
            }),
            tags,
            trace_parent,
            seed,
        }),
        GuestEvent::TaskCompleted { task, outcome } => wit::Event::TaskCompleted(wit::TaskResult {
            task: task.0,
            outcome: outcome.map(text).map_err(to_wit),
        }),
        GuestEvent::TimerFired(task) => wit::Event::TimerFired(task.0),
        GuestEvent::ExternalEventRaised { number, name, data } => {
            wit::Event::ExternalEventRaised(wit::ExternalEvent {
                number,
                name,
                data: text(data),
            })
        }
        GuestEvent::CancellationRequested(asked) => {
            wit::Event::CancellationRequested(wit::Cancellation {
                reason: asked.reason,
                timed_out: asked.timed_out,
                deadline: asked.deadline.0,
            })
        }
    }
}

fn reuse(reuse: wit::IdReuse) -> IdReuse {
    match reuse {
        wit::IdReuse::Ended => IdReuse::Ended,
        wit::IdReuse::Never => IdReuse::Never,
    }
}

/// What a guest answers to a turn, as the core has it.
pub fn answer(turn: wit::Turn) -> Answer {
    Answer {
        actions: turn.actions.into_iter().map(action).collect(),
        ending: ending(turn.state),
    }
}

pub(super) fn to_wit(failure: Failure) -> wit_types::Failure {
    let cause = |cause: Cause| wit_types::Cause {
        kind: cause.kind,
        message: cause.message,
        trace: cause.trace,
    };
    wit_types::Failure {
        kind: failure.kind,
        message: failure.message,
        details: text(failure.details),
        retryable: failure.retryable,
        trace: failure.trace,
        causes: failure.causes.into_iter().map(cause).collect(),
    }
}

pub(super) fn of_wit(failure: wit_types::Failure) -> Failure {
    let cause = |cause: wit_types::Cause| Cause {
        kind: cause.kind,
        message: cause.message,
        trace: cause.trace,
    };
    Failure {
        kind: failure.kind,
        message: failure.message,
        details: json(failure.details),
        retryable: failure.retryable,
        trace: failure.trace,
        causes: failure.causes.into_iter().map(cause).collect(),
    }
}

#[expect(
    clippy::too_many_lines,
    reason = "it is a table, with an arm for each action"
)]
fn action(action: wit::Action) -> Action {
    match action {
        wit::Action::CallActivity(call) => Action::CallActivity(ActivityCall {
            task: TaskId(call.task),
            name: call.name,
            input: json(call.input),
            retry: call.retry.map(retry),
            attempt_timeout: call.attempt_timeout.map(Millis),
            options: CallOptions {
                heartbeat_timeout: call.heartbeat_timeout.map(Millis),
                at_most_once: call.at_most_once,
            },
        }),
        wit::Action::CallChild(call) => Action::CallChild(ChildCall {
            task: TaskId(call.task),
            name: call.name,
            version: call.version,
            instance_id: call.instance_id,
            input: json(call.input),
            tags: call.tags,
            retry: call.retry.map(retry),
            options: InstanceOptions {
                reuse: reuse(call.reuse),
                when_dropped: match call.when_dropped {
                    wit::ChildPolicy::Abandon => ChildPolicy::Abandon,
                    wit::ChildPolicy::Cancel => ChildPolicy::Cancel,
                    wit::ChildPolicy::Terminate => ChildPolicy::Terminate,
                },
                execution_timeout: call.execution_timeout.map(Millis),
            },
        }),
        wit::Action::SetTimer(timer) => Action::SetTimer {
            task: TaskId(timer.task),
            due: match timer.due {
                wit::Due::After(span) => TimerDue::After(Millis(span)),
                wit::Due::At(at) => TimerDue::At(Timestamp(at)),
            },
        },
        wit::Action::CancelTask(task) => Action::CancelTask(TaskId(task)),
        wit::Action::CommandChild(child) => Action::CommandChild {
            task: TaskId(child.task),
            command: match child.command {
                wit::ChildCommandKind::Cancel => ChildCommand::Cancel,
                wit::ChildCommandKind::Terminate => ChildCommand::Terminate,
            },
            reason: child.reason,
        },
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
            options: InstanceOptions {
                reuse: reuse(start.reuse),
                when_dropped: ChildPolicy::Abandon,
                execution_timeout: start.execution_timeout.map(Millis),
            },
        },
        wit::Action::SetCustomStatus(status) => Action::SetCustomStatus(json(status)),
        wit::Action::SetValue(set) => Action::SetValue {
            name: set.name,
            value: json(set.value),
        },
        wit::Action::SetTag(set) => Action::SetTag {
            key: set.key,
            value: set.value,
        },
    }
}

fn retry(policy: wit_types::RetryPolicy) -> RetryPolicy {
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
        }),
        wit::State::Completed(output) => Ending::Completed(json(output)),
        wit::State::Failed(ended) => Ending::Failed {
            failure: of_wit(ended.failure),
            cause: ended.cause.map(TaskId),
        },
        wit::State::ContinuedAsNew(continuation) => Ending::ContinuedAsNew {
            input: json(continuation.input),
            version: continuation.version,
            carry_over: continuation.carry_over,
        },
        wit::State::Canceled => Ending::Canceled,
    }
}
