//! `perennial history --timeline`: when each task began, how long it took, and how often it was tried.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Color};
use perennial::{AttemptRun, Event, HistoryEvent, InstanceStatus, TaskId, Timestamp, Wait};
use serde::Serialize;

use crate::output::{Cell, Columns, Output, count, plain, span};

/// Columns of the picture where nothing says how many there are.
const PICTURE: u16 = 60;

/// A picture with fewer shows nothing, and one with more is no clearer.
const PICTURE_RANGE: std::ops::RangeInclusive<u16> = 12..=200;

/// Columns of times and tries before the names, with the gaps between them.
const BEFORE: u16 = 34;

/// Columns that a name keeps however narrow the terminal is.
const NAME_MIN: u16 = 10;

/// Something that took time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Bar {
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<TaskId>,
    kind: &'static str,
    name: String,
    /// Milliseconds since the execution began.
    scheduled_ms: u64,
    /// When the last attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_ms: Option<u64>,
    attempts: u32,
    outcome: &'static str,
    /// Attempts that failed or were cut off, and were followed by another.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<Try>,
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

/// The bars of a history, which is told event by event.
#[derive(Default)]
pub(super) struct Timeline {
    begun: Option<Timestamp>,
    bars: Vec<Bar>,
    /// Where the bar of each task is.
    places: BTreeMap<TaskId, usize>,
}

impl Timeline {
    /// Takes the next event.
    pub(super) fn tell(&mut self, event: &HistoryEvent) {
        let begun = *self.begun.get_or_insert(event.at);
        let since = |at: Timestamp| at.since(begun).0;
        let at = since(event.at);
        if let Some((task, kind, name)) = opened(&event.event) {
            self.places.insert(task, self.bars.len());
            self.bars.push(Bar {
                task: Some(task),
                kind,
                name,
                scheduled_ms: at,
                started_ms: None,
                ended_ms: None,
                attempts: u32::from(kind != "timer"),
                outcome: "open",
                failed: Vec::new(),
            });
        } else if let Event::ExternalEventRaised { name, .. } = &event.event {
            self.bars.push(Bar {
                task: None,
                kind: "event",
                name: name.clone(),
                scheduled_ms: at,
                started_ms: Some(at),
                ended_ms: Some(at),
                attempts: 0,
                outcome: "raised",
                failed: Vec::new(),
            });
        } else if let Some((task, outcome)) = closed(&event.event)
            && let Some(bar) = self.bar(task)
        {
            bar.outcome = outcome;
            bar.ended_ms = Some(at);
            if let Event::ActivityCompleted { run, .. } | Event::ActivityFailed { run, .. } =
                &event.event
            {
                bar.started_ms = Some(since(run.started_at).max(bar.scheduled_ms));
                bar.ended_ms = Some(since(run.ended_at).max(bar.scheduled_ms));
                bar.attempts = run.attempt;
            }
        } else if let Event::AttemptFailed { task, failure, run } = &event.event {
            let (run, failure) = (*run, failure.to_string());
            self.failed(*task, begun, run, failure);
        } else if let Event::ChildRetried { task, attempt, .. } = &event.event
            && let Some(bar) = self.bar(*task)
        {
            bar.attempts = *attempt;
            bar.started_ms = Some(at);
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

    /// Prints it, with the attempts that the instance says it waits for.
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

/// Prints bars of an execution that took so many milliseconds.
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
            let name = output.cell(&format!("{} {}", bar.kind, bar.name));
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

/// An attempt that another one followed stands before the line of its task.
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

/// Cuts the names so that a picture has room beside them: its columns.
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
        Some(ended) if bar.kind != "event" => span(ended.saturating_sub(began)),
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
            "failed" => picture.fg(Color::Red),
            "completed" | "fired" => picture.fg(Color::Green),
            "canceled" => picture.fg(Color::DarkGrey),
            _ => picture.fg(Color::Cyan),
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
    let waits = bar.kind == "activity" && bar.started_ms.is_none();
    let mut text = " ".repeat(scheduled) + &".".repeat(started - scheduled);
    text += &if waits { "." } else { "=" }.repeat(ended - started);
    text.push(match bar.outcome {
        "failed" => 'x',
        "canceled" => '-',
        "open" => '>',
        "raised" => '*',
        _ => '=',
    });
    text
}

fn opened(event: &Event) -> Option<(TaskId, &'static str, String)> {
    match event {
        Event::ActivityScheduled { task, name, .. } => Some((*task, "activity", name.clone())),
        Event::ChildScheduled { task, name, .. } => Some((*task, "child", name.clone())),
        Event::TimerSet { task, .. } => Some((*task, "timer", String::new())),
        _ => None,
    }
}

fn closed(event: &Event) -> Option<(TaskId, &'static str)> {
    match event {
        Event::ActivityCompleted { task, .. } | Event::ChildCompleted { task, .. } => {
            Some((*task, "completed"))
        }
        Event::ActivityFailed { task, .. } | Event::ChildFailed { task, .. } => {
            Some((*task, "failed"))
        }
        Event::TimerFired { task } => Some((*task, "fired")),
        Event::TaskCanceled { task } => Some((*task, "canceled")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn bar(
        kind: &'static str,
        times: (u64, Option<u64>, Option<u64>),
        outcome: &'static str,
    ) -> Bar {
        Bar {
            task: None,
            kind,
            name: String::new(),
            scheduled_ms: times.0,
            started_ms: times.1,
            ended_ms: times.2,
            attempts: 1,
            outcome,
            failed: Vec::new(),
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
            bar("activity", (0, Some(0), Some(400)), "completed"),
            bar("activity", (100, Some(500), Some(900)), "failed"),
            bar("activity", (900, None, None), "open"),
            bar("timer", (200, None, Some(1_000)), "fired"),
            bar("timer", (200, None, Some(300)), "canceled"),
            bar("event", (950, Some(950), Some(950)), "raised"),
            bar("child", (0, None, None), "open"),
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
