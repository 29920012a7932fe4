//! `perennial history --timeline`: when each task began, how long it took, and how often it was tried.

#![warn(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Color};
use perennial::{AttemptRun, Event, HistoryEvent, InstanceStatus, TaskId, Timestamp, Wait};
use serde::Serialize;

use crate::format::{count, span};
use crate::output::{Cell, Columns, Output, plain};

/// Columns of the chart if the width of lines is not limited.
const PICTURE: u16 = 60;

/// The limits of the chart's columns: fewer show nothing, and more are no clearer.
const PICTURE_RANGE: std::ops::RangeInclusive<u16> = 12..=200;

/// Columns of times and attempts before the names, with the gaps between them.
const BEFORE: u16 = 34;

/// Columns that a name keeps however narrow the terminal is.
const NAME_MIN: u16 = 10;

/// A task or an external event, as a bar of the chart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Bar {
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<TaskId>,
    kind: Kind,
    name: String,
    /// Milliseconds since the execution began.
    scheduled_ms: u64,
    /// When the last attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_ms: Option<u64>,
    attempts: u32,
    outcome: Outcome,
    /// Attempts that failed or were cut off, and were followed by another.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<Try>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    Activity,
    Child,
    Timer,
    Event,
    /// A request to another instance.
    Request,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Activity => "activity",
            Self::Child => "child",
            Self::Timer => "timer",
            Self::Event => "event",
            Self::Request => "request",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Outcome {
    Open,
    Completed,
    Failed,
    Fired,
    Canceled,
    /// Of an external event.
    Raised,
}

/// An attempt that another one followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Try {
    attempt: u32,
    started_ms: u64,
    ended_ms: u64,
    failure: String,
}

impl Bar {
    fn new(task: Option<TaskId>, kind: Kind, name: &str, scheduled_ms: u64) -> Self {
        Self {
            task,
            kind,
            name: name.to_owned(),
            scheduled_ms,
            started_ms: None,
            ended_ms: None,
            attempts: u32::from(matches!(kind, Kind::Activity | Kind::Child)),
            outcome: Outcome::Open,
            failed: Vec::new(),
        }
    }
}

/// The bars of a history, which is told event by event.
#[derive(Default)]
pub(super) struct Timeline {
    begun: Option<Timestamp>,
    bars: Vec<Bar>,
    /// Indexes of the tasks' bars.
    places: BTreeMap<TaskId, usize>,
}

impl Timeline {
    /// Takes the next event.
    pub(super) fn tell(&mut self, event: &HistoryEvent) {
        let begun = *self.begun.get_or_insert(event.at);
        let at = event.at.since(begun).0;
        match &event.event {
            Event::ActivityScheduled { task, name, .. } => {
                self.open(*task, Kind::Activity, name, at);
            }
            Event::ChildScheduled { task, name, .. } => self.open(*task, Kind::Child, name, at),
            Event::RequestSent { task, name, .. } => self.open(*task, Kind::Request, name, at),
            Event::TimerSet { task, .. } | Event::TimerSetAt { task, .. } => {
                self.open(*task, Kind::Timer, "", at)
            }
            Event::ExternalEventRaised { name, .. } => self.bars.push(Bar {
                started_ms: Some(at),
                ended_ms: Some(at),
                outcome: Outcome::Raised,
                ..Bar::new(None, Kind::Event, name, at)
            }),
            Event::ActivityCompleted { task, run, .. } => {
                self.ran(*task, Outcome::Completed, begun, run);
            }
            Event::ActivityFailed { task, run, .. } => {
                self.ran(*task, Outcome::Failed, begun, run);
            }
            Event::ChildCompleted { task, .. } | Event::RequestCompleted { task, .. } => {
                self.close(*task, Outcome::Completed, at);
            }
            Event::ChildFailed { task, .. } | Event::RequestFailed { task, .. } => {
                self.close(*task, Outcome::Failed, at);
            }
            Event::TimerFired { task } => self.close(*task, Outcome::Fired, at),
            Event::TaskCanceled { task } => self.close(*task, Outcome::Canceled, at),
            Event::AttemptFailed { task, failure, run } => {
                self.failed(*task, begun, *run, failure.to_string());
            }
            Event::ChildRetried { task, attempt, .. } => {
                if let Some(bar) = self.bar(*task) {
                    bar.attempts = *attempt;
                    bar.started_ms = Some(at);
                }
            }
            Event::TurnStarted { .. }
            | Event::ExecutionStarted(_)
            | Event::ChildRetryScheduled { .. }
            | Event::EventSent { .. }
            | Event::InstanceStarted { .. }
            | Event::InstanceStartSkipped { .. }
            | Event::CustomStatusSet { .. }
            | Event::ValueSet { .. }
            | Event::TagSet { .. }
            | Event::ExecutionReturned { .. }
            | Event::ExecutionCompleted { .. }
            | Event::ExecutionFailed { .. }
            | Event::ExecutionTerminated { .. }
            | Event::ExecutionSuspended { .. }
            | Event::ExecutionResumed { .. }
            | Event::ContinuedAsNew { .. }
            | Event::CallDetails { .. }
            | Event::ActivityOptions { .. }
            | Event::InstanceOptions { .. }
            | Event::ChildCommanded { .. }
            | Event::CancellationRequested(_)
            | Event::RequestReceived { .. }
            | Event::RequestAnswered { .. }
            | Event::ExecutionTimedOut { .. } => {}
        }
    }

    fn open(&mut self, task: TaskId, kind: Kind, name: &str, at: u64) {
        self.places.insert(task, self.bars.len());
        self.bars.push(Bar::new(Some(task), kind, name, at));
    }

    fn close(&mut self, task: TaskId, outcome: Outcome, at: u64) {
        if let Some(bar) = self.bar(task) {
            bar.outcome = outcome;
            bar.ended_ms = Some(at);
        }
    }

    /// Closes the bar of an activity with the times of its last attempt.
    fn ran(&mut self, task: TaskId, outcome: Outcome, begun: Timestamp, run: &AttemptRun) {
        if let Some(bar) = self.bar(task) {
            let since = |at: Timestamp| at.since(begun).0.max(bar.scheduled_ms);
            let (started, ended) = (since(run.started_at), since(run.ended_at));
            bar.outcome = outcome;
            bar.started_ms = Some(started);
            bar.ended_ms = Some(ended);
            bar.attempts = run.attempt;
        }
    }

    fn failed(&mut self, task: TaskId, begun: Timestamp, run: AttemptRun, failure: String) {
        if let Some(bar) = self.bar(task) {
            bar.failed.push(Try {
                attempt: run.attempt,
                started_ms: run.started_at.since(begun).0,
                ended_ms: run.ended_at.since(begun).0,
                failure,
            });
        }
    }

    fn bar(&mut self, task: TaskId) -> Option<&mut Bar> {
        let place = self.places.get(&task)?;
        self.bars.get_mut(*place)
    }

    /// Prints the chart, with the attempts that the status shows as running or waiting.
    pub(super) fn print(
        mut self,
        status: &InstanceStatus,
        now: Timestamp,
        output: &Output,
    ) -> anyhow::Result<()> {
        let begun = self.begun.unwrap_or_default();
        for wait in &status.waits_for {
            let Wait::Activity {
                task,
                attempt,
                running_since,
                failed_attempts,
                ..
            } = wait
            else {
                continue;
            };
            for failed in failed_attempts {
                let failure = failed.failure.to_string();
                self.failed(*task, begun, failed.run, failure);
            }
            if let Some(bar) = self.bar(*task) {
                bar.attempts = *attempt;
                bar.started_ms = running_since.map(|at| at.since(begun).0);
            }
        }
        let until = if status.is_ended() {
            status.last_updated_at
        } else {
            now
        };
        show(&self.bars, until.since(begun).0.max(1), output)
    }
}

/// Prints the bars of an execution that took `whole` milliseconds.
fn show(bars: &[Bar], whole: u64, output: &Output) -> anyhow::Result<()> {
    if output.is_json() {
        return output.json(bars);
    }
    if bars.is_empty() {
        output.note("it has asked for no task");
        return Ok(());
    }
    let mut names: Vec<String> = bars
        .iter()
        .map(|bar| {
            let name = output.cell(&format!("{} {}", bar.kind.name(), bar.name));
            name.trim_end().to_owned()
        })
        .collect();
    let columns = output.columns();
    let width = match columns {
        Columns::All => PICTURE,
        Columns::At(columns) => fit(&mut names, columns),
    };
    // What failed before stands where the names do, and takes no more room than they.
    let room = match columns {
        Columns::All => usize::MAX,
        Columns::At(_) => names
            .iter()
            .map(|name| name.chars().count())
            .max()
            .unwrap_or(0),
    };
    let rows = bars.iter().zip(&names).flat_map(|(bar, name)| {
        let tries = bar.failed.iter().map(|failed| failed_row(failed, room));
        let last = row(bar, name, whole, usize::from(width));
        tries.chain(std::iter::once(last)).collect::<Vec<_>>()
    });
    let scale = format!("0s{:>1$}", span(whole), usize::from(width) - 2);
    output.table(&["START", "TOOK", "TRIES", "TASK", &scale], rows.collect())?;
    output.note(&format!(
        "{}: = runs, . waits or was tried before",
        count(bars.len() as u64, "task")
    ));
    Ok(())
}

/// The row of a failed attempt, above the row of its task.
fn failed_row(failed: &Try, room: usize) -> Vec<Cell> {
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let took = failed.ended_ms.saturating_sub(failed.started_ms);
    let failure = plain(&failed.failure);
    vec![
        right(format!("+{}", super::history::clock(failed.started_ms))),
        right(span(took)),
        right(failed.attempt.to_string()),
        Cell::new(failure.chars().take(room).collect::<String>()).fg(Color::Red),
        Cell::new(""),
    ]
}

/// Cuts the names so that the chart has room beside them, and returns its columns.
fn fit(names: &mut [String], columns: u16) -> u16 {
    let length = |name: &String| u16::try_from(name.chars().count()).unwrap_or(u16::MAX);
    let most = columns
        .saturating_sub(BEFORE + PICTURE_RANGE.start())
        .max(NAME_MIN);
    for name in names.iter_mut().filter(|name| length(name) > most) {
        *name = name.chars().take(usize::from(most) - 3).collect::<String>() + "...";
    }
    let longest = names.iter().map(length).max().unwrap_or(0);
    let room = columns.saturating_sub(BEFORE).saturating_sub(longest);
    room.clamp(*PICTURE_RANGE.start(), *PICTURE_RANGE.end())
}

fn row(bar: &Bar, name: &str, whole: u64, width: usize) -> Vec<Cell> {
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let began = bar.started_ms.unwrap_or(bar.scheduled_ms);
    let took = match bar.ended_ms {
        Some(ended) if bar.kind != Kind::Event => span(ended.saturating_sub(began)),
        _ => String::new(),
    };
    let tries = if bar.attempts > 0 {
        bar.attempts.to_string()
    } else {
        String::new()
    };
    let picture = Cell::new(picture(bar, whole, width));
    vec![
        right(format!("+{}", super::history::clock(began))),
        right(took),
        right(tries),
        Cell::new(name),
        match bar.outcome {
            Outcome::Failed => picture.fg(Color::Red),
            Outcome::Completed | Outcome::Fired => picture.fg(Color::Green),
            Outcome::Canceled => picture.fg(Color::DarkGrey),
            Outcome::Open | Outcome::Raised => picture.fg(Color::Cyan),
        },
    ]
}

/// `..===`, with what it ended as: `x` failed, `-` canceled, `>` goes on, `*` an event.
fn picture(bar: &Bar, whole: u64, width: usize) -> String {
    let at = |ms: u64| {
        let place = u128::from(ms) * width as u128 / u128::from(whole);
        usize::try_from(place).unwrap_or(width).min(width - 1)
    };
    let scheduled = at(bar.scheduled_ms);
    let started = bar.started_ms.map_or(scheduled, at);
    let ended = bar.ended_ms.map_or(width - 1, at).max(started);
    let waits = bar.kind == Kind::Activity && bar.started_ms.is_none();
    let mut text = " ".repeat(scheduled) + &".".repeat(started - scheduled);
    text += &if waits { "." } else { "=" }.repeat(ended - started);
    text.push(match bar.outcome {
        Outcome::Failed => 'x',
        Outcome::Canceled => '-',
        Outcome::Open => '>',
        Outcome::Raised => '*',
        Outcome::Completed | Outcome::Fired => '=',
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn bar(kind: Kind, times: (u64, Option<u64>, Option<u64>), outcome: Outcome) -> Bar {
        Bar {
            started_ms: times.1,
            ended_ms: times.2,
            outcome,
            ..Bar::new(None, kind, "", times.0)
        }
    }

    #[test]
    fn names_and_picture_share_what_there_is() {
        let name = "activity ChargeTheCreditCard";
        for columns in [40, 60, 80, 120, 400] {
            let mut names = vec![name.to_owned()];
            let picture = fit(&mut names, columns);
            let taken = BEFORE + names[0].len() as u16 + picture;
            let fits = taken <= columns || picture == *PICTURE_RANGE.start();
            assert!(fits, "{columns}: {names:?} {picture}");
            assert_eq!(names[0] == name, columns > 60, "{columns}");
        }
    }

    #[test]
    fn a_picture_shows_when_something_waited_and_ran() {
        let pictures = [
            bar(Kind::Activity, (0, Some(0), Some(400)), Outcome::Completed),
            bar(Kind::Activity, (100, Some(500), Some(900)), Outcome::Failed),
            bar(Kind::Activity, (900, None, None), Outcome::Open),
            bar(Kind::Timer, (200, None, Some(1_000)), Outcome::Fired),
            bar(Kind::Timer, (200, None, Some(300)), Outcome::Canceled),
            bar(Kind::Event, (950, Some(950), Some(950)), Outcome::Raised),
            bar(Kind::Child, (0, None, None), Outcome::Open),
        ]
        .map(|bar| format!("|{:20}|\n", picture(&bar, 1_000, 20)));
        expect![[r#"
            |=========           |
            |  ........========x |
            |                  .>|
            |    ================|
            |    ==-             |
            |                   *|
            |===================>|
        "#]]
        .assert_eq(&pictures.concat());
    }
}
