//! Short words for what histories are made of, and events in short words.

use perennial_core::{
    Action, ActivityCall, Answer, AttemptRun, CallOptions, ChildCall, Ending, Event, Failure,
    InstanceOptions, Json, Message, Millis, OutgoingEvent, OutgoingRequest, RetryPolicy, Start,
    Target, TaskId, TaskRef, TimerDue, Timestamp, Waiting,
};

pub(crate) fn json(text: &str) -> Json {
    Json::from_text(text)
}

// --- What a guest answers

pub(crate) fn waits(actions: impl IntoIterator<Item = Action>) -> Answer {
    ends(actions, Ending::Waiting(Waiting::default()))
}

pub(crate) fn completes(actions: impl IntoIterator<Item = Action>, output: &str) -> Answer {
    ends(actions, Ending::Completed(Some(json(output))))
}

pub(crate) fn fails(kind: &str, cause: Option<u32>) -> Answer {
    let failure = Failure::permanent(kind, "");
    let cause = cause.map(TaskId);
    ends([], Ending::Failed { failure, cause })
}

pub(crate) fn continues(version: Option<&str>, carry_over: &[u32]) -> Answer {
    ends(
        [],
        Ending::ContinuedAsNew {
            input: Some(json("2")),
            version: version.map(str::to_owned),
            carry_over: carry_over.to_vec(),
        },
    )
}

pub(crate) fn ends(actions: impl IntoIterator<Item = Action>, ending: Ending) -> Answer {
    Answer {
        actions: actions.into_iter().collect(),
        ending,
    }
}

pub(crate) fn activity(task: u32, name: &str, input: &str) -> Action {
    Action::CallActivity(ActivityCall {
        task: TaskId(task),
        name: name.to_owned(),
        input: Some(json(input)),
        retry: None,
        attempt_timeout: None,
        options: CallOptions::default(),
    })
}

pub(crate) fn child_call(task: u32, name: &str) -> ChildCall {
    ChildCall {
        task: TaskId(task),
        name: name.to_owned(),
        version: None,
        instance_id: None,
        input: None,
        tags: Vec::new(),
        retry: None,
        options: InstanceOptions::default(),
    }
}

pub(crate) fn child(task: u32, name: &str) -> Action {
    Action::CallChild(child_call(task, name))
}

/// A child that is tried so often, 100 ms apart.
pub(crate) fn retried_child(task: u32, name: &str, max_attempts: u32) -> Action {
    Action::CallChild(ChildCall {
        retry: Some(retry(max_attempts)),
        ..child_call(task, name)
    })
}

pub(crate) fn retry(max_attempts: u32) -> RetryPolicy {
    RetryPolicy {
        max_attempts,
        first_delay: Millis(100),
        backoff: 1.0,
        max_delay: None,
        jitter: None,
        give_up_after: None,
    }
}

pub(crate) fn timer(task: u32, fire_at: u64) -> Action {
    Action::SetTimer {
        task: TaskId(task),
        due: TimerDue::GuestTime(Timestamp(fire_at)),
    }
}

pub(crate) fn cancel(task: u32) -> Action {
    Action::CancelTask(TaskId(task))
}

pub(crate) fn send(instance_id: &str, name: &str) -> Action {
    Action::SendEvent(OutgoingEvent {
        instance_id: instance_id.to_owned(),
        name: name.to_owned(),
        data: None,
    })
}

pub(crate) fn send_request(task: u32, instance_id: &str, name: &str) -> Action {
    Action::SendRequest(OutgoingRequest {
        task: TaskId(task),
        instance_id: instance_id.to_owned(),
        name: name.to_owned(),
        input: Some(json("1")),
    })
}

pub(crate) fn respond(number: u32, output: &str) -> Action {
    let outcome = Ok(Some(json(output)));
    Action::Respond { number, outcome }
}

pub(crate) fn reject(number: u32, kind: &str) -> Action {
    let outcome = Err(Failure::permanent(kind, ""));
    Action::Respond { number, outcome }
}

pub(crate) fn start_instance(instance_id: &str, name: &str) -> Action {
    Action::StartInstance {
        instance_id: instance_id.to_owned(),
        name: name.to_owned(),
        version: None,
        input: None,
        tags: Vec::new(),
        options: InstanceOptions::default(),
    }
}

pub(crate) fn value(name: &str, value: Option<&str>) -> Action {
    Action::SetValue {
        name: name.to_owned(),
        value: value.map(json),
    }
}

pub(crate) fn tag(key: &str, value: Option<&str>) -> Action {
    Action::SetTag {
        key: key.to_owned(),
        value: value.map(str::to_owned),
    }
}

pub(crate) fn status(value: &str) -> Action {
    Action::SetCustomStatus(Some(json(value)))
}

// --- What happens to an instance

pub(crate) fn task(task: u32) -> TaskRef {
    TaskRef {
        execution: 0,
        generation: 0,
        task: TaskId(task),
    }
}

pub(crate) fn run(attempt: u32) -> AttemptRun {
    AttemptRun {
        attempt,
        ..AttemptRun::default()
    }
}

pub(crate) fn activity_done(of: u32, output: &str) -> Message {
    Message::ActivityEnded {
        task: task(of),
        outcome: Ok(Some(json(output))),
        run: run(1),
    }
}

pub(crate) fn activity_failed(of: u32, kind: &str) -> Message {
    Message::ActivityEnded {
        task: task(of),
        outcome: Err(Failure::permanent(kind, "")),
        run: run(3),
    }
}

pub(crate) fn child_done(of: u32, attempt: u32, output: &str) -> Message {
    Message::ChildEnded {
        task: task(of),
        attempt,
        outcome: Ok(Some(json(output))),
    }
}

pub(crate) fn child_failed(of: u32, attempt: u32) -> Message {
    Message::ChildEnded {
        task: task(of),
        attempt,
        outcome: Err(Failure::retryable("Flaky", "")),
    }
}

pub(crate) fn child_due(of: u32, attempt: u32) -> Message {
    Message::ChildDue {
        task: task(of),
        attempt,
    }
}

pub(crate) fn timer_fired(of: u32) -> Message {
    Message::TimerFired { task: task(of) }
}

pub(crate) fn raised(name: &str, data: &str) -> Message {
    moved(None, name, data)
}

pub(crate) fn moved(number: Option<u32>, name: &str, data: &str) -> Message {
    Message::ExternalEvent {
        number,
        name: name.to_owned(),
        data: Some(json(data)),
    }
}

pub(crate) fn request(name: &str, id: &str) -> Message {
    Message::Request {
        number: None,
        id: id.to_owned(),
        name: name.to_owned(),
        input: Some(json("1")),
    }
}

pub(crate) fn is_from_outside(message: &Message) -> bool {
    matches!(
        message,
        Message::ExternalEvent { .. } | Message::Request { .. }
    )
}

pub(crate) fn suspend() -> Message {
    let reason = Some("holiday".to_owned());
    let recursive = false;
    Message::Suspend { reason, recursive }
}

pub(crate) fn resume() -> Message {
    Message::Resume {
        reason: None,
        module: None,
        recursive: false,
    }
}

pub(crate) fn cancel_instance(reason: &str, grace: u64) -> Message {
    Message::Cancel {
        reason: Some(reason.to_owned()),
        grace: Millis(grace),
        recursive: false,
    }
}

pub(crate) fn terminate(reason: &str) -> Message {
    let (reason, recursive) = (Some(reason.to_owned()), false);
    Message::Terminate { reason, recursive }
}

// --- What is recorded

#[expect(
    clippy::too_many_lines,
    reason = "it is a table, with an arm for each event"
)]
/// An event on one line.
pub(crate) fn show(event: &Event) -> String {
    let rest = match event {
        Event::TurnStarted {
            now,
            history_events: events,
            history_bytes: bytes,
        } => format!("now={} after {events} events, {bytes} bytes", now.0),
        Event::ExecutionStarted(start) => show_start(start),
        Event::ActivityCompleted { task, output, .. }
        | Event::ChildCompleted { task, output }
        | Event::RequestCompleted { task, output } => {
            format!("{task} {}", payload(output))
        }
        Event::ActivityFailed { task, failure, .. }
        | Event::ChildFailed { task, failure }
        | Event::RequestFailed { task, failure } => {
            format!("{task} {failure}")
        }
        Event::RequestReceived {
            number,
            id,
            name,
            input,
        } => format!("{number} {name} {} id={id}", payload(input)),
        Event::RequestAnswered {
            number,
            id,
            outcome,
        } => match outcome {
            Ok(output) => format!("{number:?} {} id={id}", payload(output)),
            Err(failure) => format!("{number:?} {failure} id={id}"),
        },
        Event::RequestSent {
            task,
            instance_id,
            id,
            name,
            input,
            refused,
        } => {
            let refused = refused
                .as_ref()
                .map_or_else(String::new, |why| format!(" refused: {why}"));
            format!(
                "{task} {name} to {instance_id} {} id={id}{refused}",
                payload(input)
            )
        }
        Event::TimerFired { task } | Event::TaskCanceled { task } => task.to_string(),
        Event::TimerSet { task, fire_at } | Event::TimerSetAt { task, at: fire_at } => {
            format!("{task} due={}", fire_at.0)
        }
        Event::InstanceOptions { task, options } => format!("{task:?} {options:?}"),
        Event::ChildCommanded {
            task,
            instance_id,
            command,
            reason,
        } => format!("{task} {command} {instance_id} {reason:?}"),
        Event::CancellationRequested(asked) => {
            let reason = asked.reason.as_deref().unwrap_or_default();
            format!(
                "until={} late={} {reason}",
                asked.deadline.0, asked.timed_out
            )
        }
        Event::ExecutionTimedOut { failure } => failure.to_string(),
        Event::ActivityScheduled { .. }
        | Event::ChildScheduled { .. }
        | Event::InstanceStarted { .. } => show_call(event),
        Event::ChildRetryScheduled { .. }
        | Event::ChildRetried { .. }
        | Event::AttemptFailed { .. } => show_attempt(event),
        Event::CallDetails {
            task,
            version,
            tags,
        } => format!("{task} {version:?} {tags:?}"),
        Event::ActivityOptions {
            task,
            heartbeat_timeout,
            at_most_once,
        } => format!("{task} {heartbeat_timeout:?} {at_most_once}"),
        Event::ExternalEventRaised { number, name, data } => {
            format!("{number} {name} {}", payload(data))
        }
        Event::EventSent {
            instance_id, name, ..
        } => format!("{name} to {instance_id}"),
        Event::ValueSet { name, value } => format!("{name} {}", payload(value)),
        Event::TagSet { key, value } => format!("{key} {value:?}"),
        Event::CustomStatusSet { value: output }
        | Event::ExecutionReturned { output }
        | Event::ExecutionCompleted { output } => payload(output),
        Event::ExecutionFailed { failure, cause } => match cause {
            Some(task) => format!("{failure} cause={task}"),
            None => failure.to_string(),
        },
        Event::ExecutionTerminated { reason }
        | Event::ExecutionSuspended { reason }
        | Event::ExecutionResumed { reason } => reason.clone().unwrap_or_default(),
        Event::ContinuedAsNew {
            input,
            carry_over: carried,
            execution_id: id,
            ..
        } => format!("{} carrying {carried:?} as {id}", payload(input)),
        Event::InstanceStartSkipped {
            instance_id,
            reason,
        } => format!("{instance_id}: {reason}"),
    };
    format!("{} {rest}", event.name()).trim_end().to_owned()
}

fn show_start(start: &Start) -> String {
    let (name, execution, id, next) = (
        &start.name,
        start.execution,
        &start.execution_id,
        start.next_external,
    );
    format!("{name} execution={execution} id={id} next_external={next}")
}

fn show_call(event: &Event) -> String {
    if let Event::ActivityScheduled {
        task,
        name,
        input,
        target,
        ..
    } = event
    {
        return format!("{task} {name} {} by {}", payload(input), runner(target));
    }
    if let Event::ChildScheduled {
        task,
        name,
        version,
        instance_id: id,
        target,
        ..
    } = event
    {
        let (version, by) = (version.as_deref().unwrap_or("-"), runner(target));
        return format!("{task} {name} version={version} as {id} by {by}");
    }
    let Event::InstanceStarted {
        instance_id,
        name,
        target,
        ..
    } = event
    else {
        panic!("{event:?} calls nothing");
    };
    format!("{name} as {instance_id} by {}", runner(target))
}

fn show_attempt(event: &Event) -> String {
    if let Event::ChildRetryScheduled {
        task,
        attempt,
        at,
        failure,
    } = event
    {
        return format!("{task} attempt={attempt} at={} after {failure}", at.0);
    }
    if let Event::AttemptFailed { task, failure, run } = event {
        return format!("{task} attempt={} {failure}", run.attempt);
    }
    let Event::ChildRetried {
        task,
        attempt,
        instance_id,
    } = event
    else {
        panic!("{event:?} is about no attempt");
    };
    format!("{task} attempt={attempt} as {instance_id}")
}

fn payload(payload: &Option<Json>) -> String {
    payload
        .as_ref()
        .map_or_else(|| "-".to_owned(), |json| json.as_str().to_owned())
}

fn runner(target: &Target) -> String {
    match target {
        Target::Module(digest) => format!("module {}", &digest.short()[..2]),
        other => format!("{other:?}"),
    }
}
