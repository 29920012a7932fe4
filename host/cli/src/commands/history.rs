//! `perennial history`: one line for each event.

#![warn(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Color};
use futures::TryStreamExt;
use perennial::{AttemptRun, Digest, Event, HistoryEvent, Json, TaskId, Timestamp};
use perennial_core::{Cancellation, IdReuse, InstanceOptions, Millis, Start, Target};

use crate::args::History;
use crate::error::Exit;
use crate::format::{now, span, time};
use crate::output::{Cell, Output};
use crate::session::Session;

use super::missing::missing;
use super::timeline::Timeline;

/// Events that are printed as one table, with a header of its own and the column widths that they need.
const MEASURED: usize = 1_000;

pub(super) async fn history(args: History, session: &Session) -> anyhow::Result<Exit> {
    let (output, client) = (session.output(), session.client()?);
    let mut events = client.history(&args.id).from(args.from).stream();
    let absent = |error: perennial::Error| match session.lacks_instance(&error) {
        true => anyhow::Error::from(missing(&args.id, session)),
        false => error.into(),
    };
    if args.timeline {
        let mut timeline = Timeline::default();
        while let Some(event) = events.try_next().await.map_err(absent)? {
            timeline.tell(&event);
        }
        let status = client.status(&args.id).await?;
        let status = status.ok_or_else(|| missing(&args.id, session))?;
        timeline.print(&status, now(), output)?;
        return Ok(Exit::Ok);
    }
    if output.is_json() {
        let mut list = output.json_list();
        while let Some(event) = events.try_next().await.map_err(absent)? {
            list.item(&event)?;
        }
        list.end()?;
        return Ok(Exit::Ok);
    }
    let mut table = HistoryTable::default();
    let mut some = Vec::new();
    while let Some(event) = events.try_next().await.map_err(absent)? {
        some.push(event);
        if some.len() == MEASURED {
            table.print(&std::mem::take(&mut some), output)?;
        }
    }
    if table.begun.is_none() && some.is_empty() && args.from > 0 {
        let (id, from) = (&args.id, args.from);
        output.note(&format!(
            "instance {id:?} has no event {from} yet, or it was cut off by a rewind"
        ));
    } else if table.begun.is_none() && some.is_empty() {
        let status = client.status(&args.id).await?;
        let status = status.ok_or_else(|| missing(&args.id, session))?;
        output.note(&format!(
            "nothing has happened yet: instance {:?} is {}",
            args.id, status.runtime_status
        ));
    } else if !some.is_empty() {
        table.print(&some, output)?;
    }
    Ok(Exit::Ok)
}

/// Prints a history as a table.
pub(super) fn print(history: &[HistoryEvent], output: &Output) -> anyhow::Result<()> {
    HistoryTable::default().print(history, output)
}

/// Prints a history of any length in parts; it keeps only the names of tasks.
#[derive(Default)]
struct HistoryTable {
    begun: Option<Timestamp>,
    known: Known,
}

impl HistoryTable {
    fn print(&mut self, events: &[HistoryEvent], output: &Output) -> anyhow::Result<()> {
        let first = events
            .first()
            .map_or(Timestamp::default(), |event| event.at);
        let begun = *self.begun.get_or_insert(first);
        let rows = events
            .iter()
            .map(|event| row(event, begun, &mut self.known, output))
            .collect();
        output.table(&["#", "TIME", "EVENT", "TASK", "WHAT"], rows)
    }
}

/// What earlier events said that later ones are shown with.
#[derive(Default)]
struct Known {
    /// Names of tasks: an outcome has only the number of its task.
    names: BTreeMap<TaskId, String>,
    /// The module of the execution.
    module: Option<Digest>,
}

fn row(event: &HistoryEvent, begun: Timestamp, known: &mut Known, output: &Output) -> Vec<Cell> {
    remember(&event.event, known);
    let kind = Cell::new(event.event.name());
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let task = task_of(&event.event).map(|task| task.to_string());
    vec![
        right(event.number.to_string()),
        right(format!("+{}", clock(event.happened_at().since(begun).0))),
        match color(&event.event) {
            Some(color) => kind.fg(color),
            None => kind,
        },
        right(task.unwrap_or_default()),
        Cell::new(output.cell(&what(&event.event, known))),
    ]
}

/// A time since the beginning: to the millisecond in the first minute, then to the second.
pub(super) fn clock(ms: u64) -> String {
    if ms < 60_000 {
        format!("{}.{:03}s", ms / 1_000, ms % 1_000)
    } else {
        span(ms)
    }
}

fn remember(event: &Event, known: &mut Known) {
    let names = &mut known.names;
    if let Event::ActivityScheduled { task, name, .. }
    | Event::ChildScheduled { task, name, .. }
    | Event::RequestSent { task, name, .. } = event
    {
        names.insert(*task, name.clone());
    } else if let Event::TimerSet { task, .. } | Event::TimerSetAt { task, .. } = event {
        names.insert(*task, "timer".to_owned());
    } else if let Event::ExecutionStarted(start) = event {
        known.module = start.module;
    }
}

fn task_of(event: &Event) -> Option<TaskId> {
    match event {
        Event::ActivityScheduled { task, .. }
        | Event::ActivityCompleted { task, .. }
        | Event::ActivityFailed { task, .. }
        | Event::AttemptFailed { task, .. }
        | Event::CallDetails { task, .. }
        | Event::ActivityOptions { task, .. }
        | Event::ChildScheduled { task, .. }
        | Event::ChildCompleted { task, .. }
        | Event::ChildFailed { task, .. }
        | Event::ChildRetryScheduled { task, .. }
        | Event::ChildRetried { task, .. }
        | Event::TimerSet { task, .. }
        | Event::TimerSetAt { task, .. }
        | Event::TimerFired { task }
        | Event::ChildCommanded { task, .. }
        | Event::RequestSent { task, .. }
        | Event::RequestCompleted { task, .. }
        | Event::RequestFailed { task, .. }
        | Event::TaskCanceled { task } => Some(*task),
        Event::InstanceOptions { task, .. } => *task,
        Event::ExecutionFailed { cause, .. } => *cause,
        Event::TurnStarted { .. }
        | Event::ExecutionStarted(_)
        | Event::ExternalEventRaised { .. }
        | Event::EventSent { .. }
        | Event::InstanceStarted { .. }
        | Event::InstanceStartSkipped { .. }
        | Event::CustomStatusSet { .. }
        | Event::ValueSet { .. }
        | Event::TagSet { .. }
        | Event::ExecutionReturned { .. }
        | Event::ExecutionCompleted { .. }
        | Event::ExecutionTerminated { .. }
        | Event::ExecutionSuspended { .. }
        | Event::ExecutionResumed { .. }
        | Event::CancellationRequested(_)
        | Event::RequestReceived { .. }
        | Event::RequestAnswered { .. }
        | Event::ExecutionTimedOut { .. }
        | Event::ContinuedAsNew { .. } => None,
    }
}

fn color(event: &Event) -> Option<Color> {
    match event {
        Event::TurnStarted { .. } | Event::TaskCanceled { .. } => Some(Color::DarkGrey),
        Event::ActivityCompleted { .. }
        | Event::ChildCompleted { .. }
        | Event::RequestCompleted { .. }
        | Event::ExecutionCompleted { .. } => Some(Color::Green),
        Event::ActivityFailed { .. }
        | Event::ChildFailed { .. }
        | Event::RequestFailed { .. }
        | Event::ExecutionFailed { .. }
        | Event::ExecutionTimedOut { .. } => Some(Color::Red),
        Event::ExecutionTerminated { .. } => Some(Color::Magenta),
        Event::AttemptFailed { .. }
        | Event::ChildRetryScheduled { .. }
        | Event::ExecutionSuspended { .. }
        | Event::ExecutionResumed { .. }
        | Event::ChildCommanded { .. }
        | Event::CancellationRequested(_) => Some(Color::Yellow),
        Event::ExecutionStarted(_)
        | Event::CallDetails { .. }
        | Event::ActivityOptions { .. }
        | Event::InstanceOptions { .. }
        | Event::TimerSetAt { .. }
        | Event::ActivityScheduled { .. }
        | Event::ChildScheduled { .. }
        | Event::ChildRetried { .. }
        | Event::TimerSet { .. }
        | Event::TimerFired { .. }
        | Event::ExternalEventRaised { .. }
        | Event::EventSent { .. }
        | Event::InstanceStarted { .. }
        | Event::InstanceStartSkipped { .. }
        | Event::CustomStatusSet { .. }
        | Event::ValueSet { .. }
        | Event::TagSet { .. }
        | Event::RequestReceived { .. }
        | Event::RequestAnswered { .. }
        | Event::RequestSent { .. }
        | Event::ExecutionReturned { .. }
        | Event::ContinuedAsNew { .. } => None,
    }
}

fn options_in_words(options: &InstanceOptions) -> String {
    let mut words = Vec::new();
    match options.reuse {
        IdReuse::Ended => {}
        IdReuse::Never => words.push("its id is not used again".to_owned()),
    }
    if let Some(command) = options.when_dropped.command() {
        words.push(format!("told to {command} when it is dropped"));
    }
    if let Some(Millis(limit)) = options.execution_timeout {
        words.push(format!("may run for {}", clock(limit)));
    }
    words.join(", ")
}

fn cancellation_in_words(asked: &Cancellation) -> String {
    let until = format!("to end by {} UTC", time(asked.deadline));
    match &asked.reason {
        Some(reason) => format!("{reason}; {until}"),
        None => until,
    }
}

/// The last column: what an event is about, in one line.
#[expect(
    clippy::too_many_lines,
    reason = "it is a table, with an arm for each event"
)]
fn what(event: &Event, known: &Known) -> String {
    let run_by = |target| run_by(target, known.module);
    let name_of = |task| known.names.get(task).map_or("", String::as_str);
    match event {
        Event::TurnStarted { .. } | Event::TimerFired { .. } => String::new(),
        Event::ExecutionStarted(start) => started(start),
        Event::ActivityScheduled {
            name,
            input,
            target,
            ..
        } => {
            format!("{name}{}{}", run_by(target), payload(input))
        }
        Event::ActivityCompleted { task, output, run } => {
            format!("{} {}{}", name_of(task), attempt(run), arrow(output))
        }
        Event::ActivityFailed { task, failure, run } => {
            format!("{} {}: {failure}", name_of(task), attempt(run))
        }
        Event::AttemptFailed { failure, run, .. } => {
            format!("attempt {} {failure} {}", run.attempt, took(run))
        }
        Event::CallDetails { version, tags, .. } => {
            let version = version.iter().map(|version| format!("version {version}"));
            let tags = tags.iter().map(|(key, value)| format!("{key}={value}"));
            version.chain(tags).collect::<Vec<_>>().join(", ")
        }
        Event::ActivityOptions {
            heartbeat_timeout,
            at_most_once,
            ..
        } => {
            let heartbeat =
                heartbeat_timeout.map(|every| format!("a heartbeat every {}", span(every.0)));
            let once = at_most_once.then(|| "at most once".to_owned());
            heartbeat
                .into_iter()
                .chain(once)
                .collect::<Vec<_>>()
                .join(", ")
        }
        Event::ChildScheduled {
            name,
            instance_id,
            input,
            target,
            ..
        }
        | Event::InstanceStarted {
            name,
            instance_id,
            input,
            target,
            ..
        } => {
            let run_by = run_by(target);
            format!("{name} as {instance_id}{run_by}{}", payload(input))
        }
        Event::ChildCompleted { task, output } | Event::RequestCompleted { task, output } => {
            format!("{}{}", name_of(task), arrow(output))
        }
        Event::ChildFailed { task, failure } | Event::RequestFailed { task, failure } => {
            format!("{}: {failure}", name_of(task))
        }
        Event::RequestReceived {
            id, name, input, ..
        } => format!("{name}{} (request {id})", payload(input)),
        Event::RequestAnswered { id, outcome, .. } => match outcome {
            Ok(output) => format!("request {id}{}", arrow(output)),
            Err(failure) => format!("request {id}: {failure}"),
        },
        Event::RequestSent {
            instance_id,
            name,
            input,
            refused,
            ..
        } => {
            let refused = refused.as_ref().map(|why| format!("; not sent: {why}"));
            let refused = refused.unwrap_or_default();
            format!("{name} to {instance_id}{}{refused}", payload(input))
        }
        Event::ChildRetryScheduled {
            attempt,
            at,
            failure,
            ..
        } => {
            format!("attempt {attempt} at {} UTC, after {failure}", time(*at))
        }
        Event::ChildRetried {
            attempt,
            instance_id,
            ..
        } => {
            format!("attempt {attempt} as {instance_id}")
        }
        Event::TimerSet { fire_at, .. } | Event::TimerSetAt { at: fire_at, .. } => {
            format!("due {} UTC", time(*fire_at))
        }
        Event::InstanceOptions { options, .. } => options_in_words(options),
        Event::ChildCommanded {
            instance_id,
            command,
            reason,
            ..
        } => match reason {
            Some(reason) => format!("{instance_id} told to {command}: {reason}"),
            None => format!("{instance_id} told to {command}"),
        },
        Event::CancellationRequested(asked) => cancellation_in_words(asked),
        Event::TaskCanceled { task } => name_of(task).to_owned(),
        Event::ExternalEventRaised { name, data, .. } => format!("{name}{}", payload(data)),
        Event::EventSent {
            instance_id,
            name,
            data,
        } => {
            format!("{name} to {instance_id}{}", payload(data))
        }
        Event::InstanceStartSkipped {
            instance_id,
            reason,
        } => format!("{instance_id}: {reason}"),
        Event::CustomStatusSet { value } => value.as_ref().map(Json::to_string).unwrap_or_default(),
        Event::ValueSet { name, value } => match value {
            Some(value) => format!("{name} = {value}"),
            None => format!("{name} cleared"),
        },
        Event::TagSet { key, value } => match value {
            Some(value) => format!("{key}={value}"),
            None => format!("{key} removed"),
        },
        Event::ExecutionReturned { output } | Event::ExecutionCompleted { output } => {
            arrow(output).trim_start().to_owned()
        }
        Event::ExecutionFailed { failure, .. } | Event::ExecutionTimedOut { failure } => {
            failure.to_string()
        }
        Event::ExecutionTerminated { reason }
        | Event::ExecutionSuspended { reason }
        | Event::ExecutionResumed { reason } => reason.clone().unwrap_or_default(),
        Event::ContinuedAsNew { input, .. } => payload(input).trim_start().to_owned(),
    }
}

/// What runs a task or an instance, unless it is the module of the execution itself.
fn run_by(target: &Target, own: Option<Digest>) -> String {
    match target {
        Target::Remote => " (worker)".to_owned(),
        Target::Native => " (native)".to_owned(),
        Target::Module(module) if Some(*module) != own => format!(" (module {})", module.short()),
        Target::Module(_)
        | Target::Unknown
        | Target::Oversized { .. }
        | Target::Invalid(_)
        | Target::Full(_) => String::new(),
    }
}

fn started(start: &Start) -> String {
    let version = start.version.as_ref().map(|version| format!(" {version}"));
    let version = version.unwrap_or_default();
    let run_by = match start.module {
        Some(_) => "",
        None => " (worker)",
    };
    format!("{}{version}{run_by}{}", start.name, payload(&start.input))
}

/// The duration of an attempt, and its number unless it is the first.
fn attempt(run: &AttemptRun) -> String {
    if run.attempt > 1 {
        let took = span(run.ended_at.since(run.started_at).0);
        format!("({took}, attempt {})", run.attempt)
    } else {
        took(run)
    }
}

fn took(run: &AttemptRun) -> String {
    format!("({})", span(run.ended_at.since(run.started_at).0))
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
