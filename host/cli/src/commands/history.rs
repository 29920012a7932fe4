//! `perennial history`: one line for each event.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Color};
use futures::TryStreamExt;
use perennial::{AttemptRun, Event, HistoryEvent, Json, TaskId, Timestamp};

use crate::args::History;
use crate::error::Exit;
use crate::output::{Cell, Output, now, span, time};
use crate::session::Session;

use super::missing::missing;
use super::timeline::Timeline;

/// Events that are printed together, below a header of their own: the columns are as wide as these need.
const MEASURED: usize = 1_000;

pub(super) async fn history(args: History, session: &Session) -> anyhow::Result<Exit> {
    let (output, client) = (session.output(), session.client()?);
    let mut events = client.history(&args.id).stream();
    let absent = |error: perennial::Error| match error.is_not_found() {
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
    if table.begun.is_none() && some.is_empty() {
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

/// Prints a history that is at hand as a table.
pub(super) fn print(history: &[HistoryEvent], output: &Output) -> anyhow::Result<()> {
    HistoryTable::default().print(history, output)
}

/// A table that is printed in parts, however long the history is: what it remembers are the names of tasks.
#[derive(Default)]
struct HistoryTable {
    begun: Option<Timestamp>,
    names: Names,
}

impl HistoryTable {
    fn print(&mut self, events: &[HistoryEvent], output: &Output) -> anyhow::Result<()> {
        let first = events
            .first()
            .map_or(Timestamp::default(), |event| event.at);
        let begun = *self.begun.get_or_insert(first);
        let rows = events
            .iter()
            .map(|event| row(event, begun, &mut self.names, output))
            .collect();
        output.table(&["#", "TIME", "EVENT", "TASK", "WHAT"], rows)
    }
}

/// What a task is called: an outcome only has its number.
type Names = BTreeMap<TaskId, String>;

fn row(event: &HistoryEvent, begun: Timestamp, names: &mut Names, output: &Output) -> Vec<Cell> {
    let line = describe(&event.event, names);
    let kind = Cell::new(event.event.name());
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    vec![
        right(event.number.to_string()),
        right(format!("+{}", clock(event.at.since(begun).0))),
        match line.color {
            Some(color) => kind.fg(color),
            None => kind,
        },
        right(line.task.map(|task| task.to_string()).unwrap_or_default()),
        Cell::new(output.cell(&line.what)),
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

/// An event in one line.
struct Line {
    task: Option<TaskId>,
    what: String,
    color: Option<Color>,
}

impl Line {
    fn new(what: impl Into<String>) -> Self {
        Self {
            task: None,
            what: what.into(),
            color: None,
        }
    }

    fn of(task: TaskId, what: impl Into<String>) -> Self {
        Self {
            task: Some(task),
            what: what.into(),
            color: None,
        }
    }

    fn color(self, color: Color) -> Self {
        Self {
            color: Some(color),
            ..self
        }
    }
}

fn describe(event: &Event, names: &mut Names) -> Line {
    let name_of = |names: &Names, task: &TaskId| names.get(task).cloned().unwrap_or_default();
    match event {
        Event::TurnStarted { .. } => Line::new("").color(Color::DarkGrey),
        Event::ExecutionStarted(start) => {
            let version = start
                .version
                .as_ref()
                .map(|version| format!(" {version}"))
                .unwrap_or_default();
            Line::new(format!("{}{version}{}", start.name, payload(&start.input)))
        }
        Event::ActivityScheduled {
            task, name, input, ..
        } => {
            names.insert(*task, name.clone());
            Line::of(*task, format!("{name}{}", payload(input)))
        }
        Event::ChildScheduled {
            task,
            name,
            instance_id,
            input,
            ..
        } => {
            names.insert(*task, name.clone());
            Line::of(*task, format!("{name} as {instance_id}{}", payload(input)))
        }
        Event::ActivityCompleted { task, output, run } => Line::of(
            *task,
            format!("{} {}{}", name_of(names, task), attempt(run), arrow(output)),
        )
        .color(Color::Green),
        Event::ActivityFailed { task, failure, run } => Line::of(
            *task,
            format!("{} {}: {failure}", name_of(names, task), attempt(run)),
        )
        .color(Color::Red),
        Event::ChildCompleted { task, output } => {
            Line::of(*task, format!("{}{}", name_of(names, task), arrow(output)))
                .color(Color::Green)
        }
        Event::ChildFailed { task, failure } => {
            Line::of(*task, format!("{}: {failure}", name_of(names, task))).color(Color::Red)
        }
        Event::TimerSet { task, fire_at } => {
            names.insert(*task, "timer".to_owned());
            Line::of(*task, format!("due {} UTC", time(*fire_at)))
        }
        Event::TimerFired { task } => Line::of(*task, ""),
        Event::TaskCanceled { task } => {
            Line::of(*task, name_of(names, task)).color(Color::DarkGrey)
        }
        Event::ExternalEventRaised { name, data, .. } => {
            Line::new(format!("{name}{}", payload(data)))
        }
        Event::EventSent {
            instance_id,
            name,
            data,
        } => Line::new(format!("{name} to {instance_id}{}", payload(data))),
        Event::InstanceStarted {
            instance_id,
            name,
            input,
            ..
        } => Line::new(format!("{name} as {instance_id}{}", payload(input))),
        Event::CustomStatusSet { value } => Line::new(value.as_ref().map(clip).unwrap_or_default()),
        Event::ExecutionReturned { output } => Line::new(arrow(output).trim_start()),
        Event::ExecutionCompleted { output } => {
            Line::new(arrow(output).trim_start()).color(Color::Green)
        }
        Event::ExecutionFailed { failure, cause } => Line {
            task: *cause,
            ..Line::new(failure.to_string()).color(Color::Red)
        },
        Event::ExecutionTerminated { reason } => {
            Line::new(reason.clone().unwrap_or_default()).color(Color::Magenta)
        }
        Event::ExecutionSuspended { reason } | Event::ExecutionResumed { reason } => {
            Line::new(reason.clone().unwrap_or_default()).color(Color::Yellow)
        }
        Event::ContinuedAsNew { input, .. } => Line::new(payload(input).trim_start()),
        Event::InstanceStartSkipped {
            instance_id,
            reason,
        } => Line::new(format!("{instance_id}: {reason}")),
        Event::ChildRetryScheduled {
            task,
            attempt,
            at,
            failure,
        } => Line::of(
            *task,
            format!("attempt {attempt} at {} UTC, after {failure}", time(*at)),
        )
        .color(Color::Yellow),
        Event::AttemptFailed { task, failure, run } => Line::of(
            *task,
            format!("attempt {} {failure} {}", run.attempt, took(run)),
        )
        .color(Color::Yellow),
        Event::ChildRetried {
            task,
            attempt,
            instance_id,
        } => Line::of(*task, format!("attempt {attempt} as {instance_id}")),
    }
}

/// How long an attempt took, and which it was where it was not the first.
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
        .map(|json| format!(" {}", clip(json)))
        .unwrap_or_default()
}

fn arrow(json: &Option<Json>) -> String {
    json.as_ref()
        .map(|json| format!(" -> {}", clip(json)))
        .unwrap_or_default()
}

fn clip(json: &Json) -> String {
    json.as_str().to_owned()
}
