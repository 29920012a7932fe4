//! Shows a history to people.

use std::fmt;

use perennial_core::{
    AttemptRun, Event, Failure, IdReuse, InstanceOptions, Json, TaskId, Timestamp,
};

use super::instance::Recorded;

/// Payloads are cut to so many characters.
const SHOWN: usize = 200;

/// Writes the history of an instance, an event a line, and its log.
pub(super) fn history(
    f: &mut fmt::Formatter<'_>,
    of: &Recorded,
    began_at: Timestamp,
) -> fmt::Result {
    write!(
        f,
        "history of {:?} (instance {:?}, {}):",
        of.name, of.id, of.status
    )?;
    let many = of.executions.len() > 1;
    for (number, turns) in of.executions.iter().enumerate() {
        if many {
            write!(f, "\n  execution {number}")?;
        }
        for turn in turns {
            let at = turn.at.since(began_at).0;
            for (number, event) in (turn.first_event..).zip(turn.events()) {
                if let Event::TurnStarted { .. } = event {
                    continue;
                }
                let time = format!("+{}.{:03}s", at / 1_000, at % 1_000);
                let (task, what) = told(event);
                let task = task.map(|task| format!(" {task}")).unwrap_or_default();
                let what = shortened(&what);
                write!(
                    f,
                    "\n  {number:>4} {time:>10}  {}{task}{what}",
                    event.name()
                )?;
            }
        }
    }
    for (level, line) in &of.log {
        write!(f, "\n  log {level:?}: {line}")?;
    }
    Ok(())
}

/// The task of an event, and what else there is to say.
fn told(event: &Event) -> (Option<TaskId>, String) {
    match event {
        Event::ExecutionStarted(start) => {
            (None, format!(" {}{}", start.name, payload(&start.input)))
        }
        Event::ActivityScheduled {
            task, name, input, ..
        } => (Some(*task), format!(" {name}{}", payload(input))),
        Event::ChildScheduled {
            task,
            name,
            instance_id,
            input,
            ..
        } => (
            Some(*task),
            format!(" {name} as {instance_id}{}", payload(input)),
        ),
        Event::ActivityCompleted { task, output, run } => {
            (Some(*task), format!("{}{}", attempt(run), arrow(output)))
        }
        Event::ChildCompleted { task, output } => (Some(*task), arrow(output)),
        Event::ActivityFailed { task, failure, run }
        | Event::AttemptFailed { task, failure, run } => {
            (Some(*task), format!("{} {}", attempt(run), words(failure)))
        }
        Event::ChildFailed { task, failure } | Event::ChildRetryScheduled { task, failure, .. } => {
            (Some(*task), format!(" {}", words(failure)))
        }
        Event::ChildRetried { task, .. }
        | Event::TimerFired { task }
        | Event::TaskCanceled { task } => (Some(*task), String::new()),
        Event::TimerSet { task, fire_at } | Event::TimerSetAt { task, at: fire_at } => {
            let at = crate::Timestamp::from_unix_millis(fire_at.0);
            (Some(*task), format!(" due {at}"))
        }
        Event::ExternalEventRaised { name, data, .. } => {
            (None, format!(" {name}{}", payload(data)))
        }
        Event::EventSent {
            instance_id,
            name,
            data,
        } => (None, format!(" {name} to {instance_id}{}", payload(data))),
        Event::InstanceStarted {
            instance_id,
            name,
            input,
            ..
        } => (None, format!(" {name} as {instance_id}{}", payload(input))),
        Event::InstanceStartSkipped {
            instance_id,
            reason,
        } => (None, format!(" {instance_id}: {reason}")),
        Event::CustomStatusSet { value } => (None, payload(value)),
        Event::ExecutionReturned { output } | Event::ExecutionCompleted { output } => {
            (None, arrow(output))
        }
        Event::ExecutionFailed { failure, cause } => (*cause, format!(" {}", words(failure))),
        Event::ExecutionTerminated { reason }
        | Event::ExecutionSuspended { reason }
        | Event::ExecutionResumed { reason } => {
            let reason = reason.as_ref().map(|reason| format!(" {reason}"));
            (None, reason.unwrap_or_default())
        }
        Event::ContinuedAsNew { input, .. } => (None, payload(input)),
        _ => told_of_ends(event),
    }
}

/// The same for what asks an instance to end, or says when it is to.
fn told_of_ends(event: &Event) -> (Option<TaskId>, String) {
    match event {
        Event::CancellationRequested(asked) => {
            let reason = asked.reason.as_ref().map(|reason| format!(" {reason}"));
            (None, reason.unwrap_or_default())
        }
        Event::ExecutionTimedOut { failure } => (None, format!(" {}", words(failure))),
        Event::ChildCommanded {
            task,
            instance_id,
            command,
            reason,
        } => {
            let reason = reason.as_ref().map(|reason| format!(": {reason}"));
            let reason = reason.unwrap_or_default();
            (Some(*task), format!(" {command} {instance_id}{reason}"))
        }
        Event::InstanceOptions { task, options } => (*task, said(*options)),
        _ => told_of_request(event),
    }
}

/// The same of the events of requests.
fn told_of_request(event: &Event) -> (Option<TaskId>, String) {
    match event {
        Event::RequestReceived { name, input, .. } => (None, format!(" {name}{}", payload(input))),
        Event::RequestAnswered { id, outcome, .. } => match outcome {
            Ok(output) => (None, format!(" {id}{}", arrow(output))),
            Err(failure) => (None, format!(" {id}: {}", words(failure))),
        },
        Event::RequestSent {
            task,
            instance_id,
            name,
            input,
            ..
        } => (
            Some(*task),
            format!(" {name} to {instance_id}{}", payload(input)),
        ),
        Event::RequestCompleted { task, output } => (Some(*task), arrow(output)),
        Event::RequestFailed { task, failure } => (Some(*task), format!(" {}", words(failure))),
        _ => (None, String::new()),
    }
}

/// What was said of an instance that was asked for.
fn said(options: InstanceOptions) -> String {
    let InstanceOptions {
        reuse,
        when_dropped,
        execution_timeout,
    } = options;
    let mut said = String::new();
    if reuse == IdReuse::Never {
        said.push_str(" never reuse");
    }
    if let Some(command) = when_dropped.command() {
        said.push_str(&format!(" when dropped {command}"));
    }
    if let Some(limit) = execution_timeout {
        said.push_str(&format!(" for at most {} ms", limit.0));
    }
    said
}

fn payload(json: &Option<Json>) -> String {
    json.as_ref()
        .map(|json| format!(" {json}"))
        .unwrap_or_default()
}

fn arrow(json: &Option<Json>) -> String {
    json.as_ref()
        .map(|json| format!(" -> {json}"))
        .unwrap_or_default()
}

fn attempt(run: &AttemptRun) -> String {
    match run.attempt {
        0 | 1 => String::new(),
        attempt => format!(" (attempt {attempt})"),
    }
}

fn words(failure: &Failure) -> String {
    format!("{}: {}", failure.kind, failure.message)
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
