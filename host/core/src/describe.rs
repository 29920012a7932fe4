//! Describes recorded and requested actions in words, for the reason of a quarantine.
//!
//! An event and the action that it records read the same.

use std::fmt::Write as _;

use crate::xxh64::xxh64;
use crate::{
    Action, CallOptions, ChildCommand, ChildPolicy, Ending, Event, Failure, IdReuse,
    InstanceOptions, Json, Millis, RetryPolicy, Tags, TaskId, TimerDue, Timestamp,
};

/// A longer text is cut here, and told apart by its hash.
const TEXT_CHARS_MAX: usize = 120;

/// Describes what is recorded.
#[expect(
    clippy::too_many_lines,
    reason = "it is a table, with an arm for each event"
)]
pub(crate) fn event(event: &Event) -> String {
    match event {
        Event::ActivityScheduled {
            task,
            name,
            input,
            retry,
            attempt_timeout,
            ..
        } => activity(name, *task, input, retry.as_ref(), *attempt_timeout),
        Event::ChildScheduled {
            task,
            name,
            version,
            instance_id,
            input,
            tags,
            retry,
            ..
        } => {
            let what = format!("child {}", orchestration(name, version));
            let target = format!("{what} as task {task} in instance {instance_id:?}");
            call(target, input, tags, retry.as_ref())
        }
        Event::TimerSet { task, fire_at } => timer(*task, *fire_at),
        Event::TimerSetAt { task, at } => dated_timer(*task, *at),
        Event::InstanceOptions { options, .. } => instance_options(options),
        Event::ChildCommanded { task, command, .. } => commanded(*task, *command),
        Event::ExecutionTerminated { reason } => ended_as_asked(reason.as_deref()),
        Event::ExecutionTimedOut { failure } => failed(failure, None),
        Event::TaskCanceled { task } => canceled(*task),
        Event::EventSent {
            instance_id,
            name,
            data,
        } => sent(instance_id, name, data),
        Event::InstanceStarted {
            instance_id,
            name,
            version,
            input,
            tags,
            ..
        } => started(instance_id, name, version, input, tags),
        Event::CustomStatusSet { value } => status(value),
        Event::ValueSet { name, value } => named_value(name, value),
        Event::TagSet { key, value } => tag(key, value),
        Event::RequestSent {
            task,
            instance_id,
            name,
            input,
            ..
        } => requested(*task, instance_id, name, input),
        Event::RequestAnswered {
            number, outcome, ..
        } => answered(*number, outcome),
        Event::CallDetails {
            task,
            version,
            tags,
        } => detailed(*task, version, tags),
        Event::ActivityOptions {
            task,
            heartbeat_timeout,
            at_most_once,
        } => chosen(
            *task,
            &CallOptions {
                heartbeat_timeout: *heartbeat_timeout,
                at_most_once: *at_most_once,
            },
        ),
        Event::ExecutionReturned { output } | Event::ExecutionCompleted { output } => {
            completed(output)
        }
        Event::ExecutionFailed { failure, cause } => failed(failure, *cause),
        Event::ContinuedAsNew {
            input,
            version,
            carry_over,
            ..
        } => continued(input, version, carry_over),
        Event::TurnStarted { .. }
        | Event::ExecutionStarted(_)
        | Event::ActivityCompleted { .. }
        | Event::ActivityFailed { .. }
        | Event::ChildCompleted { .. }
        | Event::ChildFailed { .. }
        | Event::TimerFired { .. }
        | Event::ExternalEventRaised { .. }
        | Event::RequestReceived { .. }
        | Event::RequestCompleted { .. }
        | Event::RequestFailed { .. }
        | Event::CancellationRequested(_)
        | Event::ExecutionSuspended { .. }
        | Event::ExecutionResumed { .. }
        | Event::InstanceStartSkipped { .. }
        | Event::ChildRetryScheduled { .. }
        | Event::ChildRetried { .. }
        | Event::AttemptFailed { .. } => event.name().to_owned(),
    }
}

/// Describes what is asked for at `now`, in the guest's time. `derived_id` is the instance of a child that the guest did not name.
pub(crate) fn action(
    action: &Action,
    now: Timestamp,
    derived_id: impl Fn(TaskId) -> String,
) -> String {
    match action {
        Action::CallActivity(call) => activity(
            &call.name,
            call.task,
            &call.input,
            call.retry.as_ref(),
            call.attempt_timeout,
        ),
        Action::CallChild(asked) => {
            let task = asked.task;
            let id = asked.instance_id.clone();
            let id = id.unwrap_or_else(|| derived_id(task));
            let what = format!("child {}", orchestration(&asked.name, &asked.version));
            let target = format!("{what} as task {task} in instance {id:?}");
            let text = call(target, &asked.input, &asked.tags, asked.retry.as_ref());
            with_options(text, &asked.options)
        }
        Action::SetTimer { task, due } => match due {
            TimerDue::GuestTime(at) => timer(*task, *at),
            TimerDue::After(span) => timer(*task, now.after(*span)),
            TimerDue::At(at) => dated_timer(*task, *at),
        },
        Action::CancelTask(task) => canceled(*task),
        Action::CommandChild { task, command, .. } => commanded(*task, *command),
        Action::SendEvent(event) => sent(&event.instance_id, &event.name, &event.data),
        Action::StartInstance {
            instance_id,
            name,
            version,
            input,
            tags,
            options,
        } => with_options(started(instance_id, name, version, input, tags), options),
        Action::SetCustomStatus(value) => status(value),
        Action::SetValue { name, value } => named_value(name, value),
        Action::SetTag { key, value } => tag(key, value),
        Action::SendRequest(request) => requested(
            request.task,
            &request.instance_id,
            &request.name,
            &request.input,
        ),
        Action::Respond { number, outcome } => answered(Some(*number), outcome),
        Action::Describe(details) => detailed(details.task, &details.version, &details.tags),
    }
}

/// Describes an end.
pub(crate) fn ending(ending: &Ending) -> String {
    match ending {
        Ending::Waiting(_) => NOTHING.to_owned(),
        Ending::Completed(output) => completed(output),
        Ending::Failed { failure, cause } => failed(failure, *cause),
        Ending::ContinuedAsNew {
            input,
            version,
            carry_over,
        } => continued(input, version, carry_over),
        Ending::Canceled => ended_as_asked(None),
    }
}

/// The options of a call that chose none.
pub(crate) const NO_OPTIONS: &str = "a call without options";

/// What a turn that is over asks for.
pub(crate) const NOTHING: &str = "nothing more";

fn detailed(task: TaskId, version: &Option<String>, tags: &Tags) -> String {
    call(
        format!("{} for call {task}", orchestration("details", version)),
        &None,
        tags,
        None,
    )
}

/// Describes what a call chose.
pub(crate) fn chosen(task: TaskId, options: &CallOptions) -> String {
    let mut text = format!("options for task {task}:");
    if let Some(Millis(timeout)) = options.heartbeat_timeout {
        push(&mut text, format_args!(" a heartbeat every {timeout} ms"));
    }
    if options.at_most_once {
        let separator = if options.heartbeat_timeout.is_some() {
            ","
        } else {
            ""
        };
        push(&mut text, format_args!("{separator} at most once"));
    }
    if options.is_default() {
        push(&mut text, format_args!(" none"));
    }
    text
}

fn activity(
    name: &str,
    task: TaskId,
    input: &Option<Json>,
    retry: Option<&RetryPolicy>,
    attempt_timeout: Option<Millis>,
) -> String {
    let target = format!("activity {name:?} as task {task}");
    let mut text = call(target, input, &Tags::new(), retry);
    if let Some(Millis(timeout)) = attempt_timeout {
        push(&mut text, format_args!(", {timeout} ms for each attempt"));
    }
    text
}

fn call(target: String, input: &Option<Json>, tags: &Tags, retry: Option<&RetryPolicy>) -> String {
    let mut text = format!("{target} {}", payload("input", input));
    if !tags.is_empty() {
        push(&mut text, format_args!(", tags {}", labels(tags)));
    }
    let Some(retry) = retry else {
        return text;
    };
    let (attempts, first) = (retry.max_attempts, retry.first_delay.0);
    push(
        &mut text,
        format_args!(", up to {attempts} attempts, {first} ms apart"),
    );
    push(&mut text, format_args!(" times {:?}", retry.backoff));
    if let Some(Millis(max)) = retry.max_delay {
        push(&mut text, format_args!(" up to {max} ms"));
    }
    if let Some(jitter) = retry.jitter {
        push(&mut text, format_args!(", jitter {jitter:?}"));
    }
    if let Some(Millis(limit)) = retry.give_up_after {
        push(&mut text, format_args!(", giving up after {limit} ms"));
    }
    text
}

fn timer(task: TaskId, fire_at: Timestamp) -> String {
    format!("a timer as task {task} due at {} ms", fire_at.0)
}

fn dated_timer(task: TaskId, at: Timestamp) -> String {
    format!("a timer as task {task} for {} ms by the clock", at.0)
}

fn commanded(task: TaskId, command: ChildCommand) -> String {
    format!("to {command} the child of task {task}")
}

fn ended_as_asked(reason: Option<&str>) -> String {
    match reason {
        Some(reason) => format!(
            "the end because it was asked to: {}",
            shortened_text(reason)
        ),
        None => "the end because it was asked to".to_owned(),
    }
}

fn with_options(mut text: String, options: &InstanceOptions) -> String {
    if *options != InstanceOptions::default() {
        push(&mut text, format_args!(", {}", instance_options(options)));
    }
    text
}

pub(crate) fn instance_options(options: &InstanceOptions) -> String {
    let mut text = "with options:".to_owned();
    match options.reuse {
        IdReuse::Ended => {}
        IdReuse::Never => text.push_str(" its id is not used again,"),
    }
    match options.when_dropped {
        ChildPolicy::Abandon => text.push_str(" it runs on when it is dropped"),
        ChildPolicy::Cancel => text.push_str(" it is asked to cancel when it is dropped"),
        ChildPolicy::Terminate => text.push_str(" it is terminated when it is dropped"),
    }
    if let Some(Millis(limit)) = options.execution_timeout {
        push(&mut text, format_args!(", and it may run for {limit} ms"));
    }
    text
}

fn canceled(task: TaskId) -> String {
    format!("the cancelling of task {task}")
}

fn sent(instance_id: &str, name: &str, data: &Option<Json>) -> String {
    let data = payload("data", data);
    format!("event {name:?} to instance {instance_id:?} {data}")
}

fn requested(task: TaskId, instance_id: &str, name: &str, input: &Option<Json>) -> String {
    let input = payload("input", input);
    format!("request {name:?} as task {task} to instance {instance_id:?} {input}")
}

fn answered(number: Option<u32>, outcome: &Result<Option<Json>, Failure>) -> String {
    let number = number.map_or_else(String::new, |number| format!(" {number}"));
    match outcome {
        Ok(output) => format!(
            "the answer to request{number} {}",
            payload("output", output)
        ),
        Err(failure) => format!("the answer to request{number}: {}", failed(failure, None)),
    }
}

fn started(
    instance_id: &str,
    name: &str,
    version: &Option<String>,
    input: &Option<Json>,
    tags: &Tags,
) -> String {
    let what = orchestration(name, version);
    let target = format!("the start of {what} as instance {instance_id:?}");
    call(target, input, tags, None)
}

fn named_value(name: &str, value: &Option<Json>) -> String {
    let name = shortened_text(name);
    match value {
        Some(value) => format!("value {name:?} as {}", shortened(value)),
        None => format!("no value {name:?}"),
    }
}

fn tag(key: &str, value: &Option<String>) -> String {
    let key = shortened_text(key);
    match value {
        Some(value) => format!("tag {key:?} as {:?}", shortened_text(value)),
        None => format!("no tag {key:?}"),
    }
}

fn status(value: &Option<Json>) -> String {
    match value {
        Some(value) => format!("custom status {}", shortened(value)),
        None => "no custom status".to_owned(),
    }
}

fn completed(output: &Option<Json>) -> String {
    format!("the end {}", payload("output", output))
}

fn failed(failure: &Failure, task: Option<TaskId>) -> String {
    let mut text = format!("the failure {}", shortened_text(&failure.to_string()));
    if failure.retryable {
        push(&mut text, format_args!(", retryable"));
    }
    if let Some(details) = &failure.details {
        push(&mut text, format_args!(", details {}", shortened(details)));
    }
    if let Some(trace) = &failure.trace {
        push(&mut text, format_args!(", trace {}", shortened_text(trace)));
    }
    for cause in &failure.causes {
        let (kind, message) = (shortened_text(&cause.kind), shortened_text(&cause.message));
        push(&mut text, format_args!(", because of {kind}: {message}"));
        if let Some(trace) = &cause.trace {
            push(&mut text, format_args!(" at {}", shortened_text(trace)));
        }
    }
    if let Some(task) = task {
        push(&mut text, format_args!(", of task {task}"));
    }
    text
}

fn continued(input: &Option<Json>, version: &Option<String>, carry_over: &[u32]) -> String {
    let mut text = format!("the continuing as new {}", payload("input", input));
    if let Some(version) = version {
        push(&mut text, format_args!(", version {version:?}"));
    }
    if !carry_over.is_empty() {
        push(
            &mut text,
            format_args!(", with external events {carry_over:?}"),
        );
    }
    text
}

fn orchestration(name: &str, version: &Option<String>) -> String {
    match version {
        Some(version) => format!("{name:?} version {version:?}"),
        None => format!("{name:?}"),
    }
}

fn payload(what: &str, payload: &Option<Json>) -> String {
    match payload {
        Some(payload) => format!("with {what} {}", shortened(payload)),
        None => format!("without {what}"),
    }
}

fn labels(tags: &Tags) -> String {
    let pairs: Vec<String> = tags.iter().map(|(k, v)| format!("{k:?}={v:?}")).collect();
    pairs.join(" ")
}

fn shortened(payload: &Json) -> String {
    shortened_text(payload.as_str())
}

fn shortened_text(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => {
            let hash = xxh64(text.as_bytes());
            format!(
                "{}... ({} bytes, hash {hash:016x})",
                &text[..end],
                text.len()
            )
        }
    }
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(more);
}
