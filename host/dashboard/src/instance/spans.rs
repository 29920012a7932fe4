//! The spans of a history: each task with its attempts, and what arrived from outside, each on a line of its own.
//!
//! Invariants: a span begins no later than it ends; attempts begin within their span and do not overlap; there are at most [`SPANS_MAX`]
//! spans.
#![warn(
    clippy::match_wildcard_for_single_variants,
    clippy::wildcard_enum_match_arm
)]

use std::collections::BTreeMap;

use perennial::core::text::visible;
use perennial::{AttemptRun, Event, HistoryEvent, InstanceStatus, TaskId, Timestamp, Wait};
use serde::Serialize;

use crate::show::cut;

/// The most spans of a timeline. Later ones are left out.
pub(super) const SPANS_MAX: usize = 20_000;

/// The most turns that are marked.
const TURNS_MAX: usize = 20_000;

/// Characters of names and failures that are kept.
const TEXT: usize = 160;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Kind {
    Activity,
    Child,
    Timer,
    Event,
    Request,
    /// A request of another that this instance answers.
    Answer,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Activity => "activity",
            Self::Child => "child",
            Self::Timer => "timer",
            Self::Event => "event",
            Self::Request => "request sent",
            Self::Answer => "request received",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Outcome {
    Open,
    Completed,
    Failed,
    Fired,
    Canceled,
    Received,
    Awaited,
}

impl Outcome {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Fired => "fired",
            Self::Canceled => "canceled",
            Self::Received => "received",
            Self::Awaited => "awaited",
        }
    }
}

/// A bar of the timeline. Times are milliseconds since the first turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Span {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) task: Option<u32>,
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) start: u64,
    /// Absent as long as it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<u64>,
    pub(super) outcome: Outcome,
    /// The number of the event with which it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) number: Option<u64>,
    /// The instance of a child, or the one that is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<String>,
    /// When a timer is due, or the next attempt begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) due: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) attempts: Vec<Attempt>,
}

/// An attempt of an activity or a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Attempt {
    pub(super) number: u32,
    pub(super) start: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<String>,
}

/// A moment in which a turn was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Tick(pub(super) u32, pub(super) u64);

/// The spans of a history, which is told event by event.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spans {
    /// The time of the first turn, in milliseconds since 1970.
    pub(super) begun: u64,
    /// When the picture ends: now, or the end of the instance.
    pub(super) until: u64,
    pub(super) spans: Vec<Span>,
    pub(super) turns: Vec<Tick>,
    /// Spans that were left out.
    pub(super) more: u64,
    #[serde(skip)]
    first: Option<Timestamp>,
    #[serde(skip)]
    places: BTreeMap<TaskId, usize>,
    #[serde(skip)]
    requests: BTreeMap<String, usize>,
}

impl Spans {
    /// Takes the next event.
    #[expect(
        clippy::too_many_lines,
        reason = "it is a table, with an arm for each event"
    )]
    pub(super) fn tell(&mut self, event: &HistoryEvent) {
        let first = *self.first.get_or_insert(event.at);
        let (at, number) = (event.at.since(first).0, event.number);
        if self.turns.last().is_none_or(|last| last.0 != event.turn) && self.turns.len() < TURNS_MAX
        {
            self.turns.push(Tick(event.turn, at));
        }
        match &event.event {
            Event::ActivityScheduled { task, name, .. } => {
                self.open(*task, Kind::Activity, name, at, number)
            }
            Event::ChildScheduled {
                task,
                name,
                instance_id,
                ..
            } => {
                self.open(*task, Kind::Child, name, at, number);
                self.begin_child(*task, 1, instance_id, at);
            }
            Event::RequestSent {
                task,
                name,
                instance_id,
                ..
            } => {
                self.open(*task, Kind::Request, name, at, number);
                self.change(*task, |span| span.instance = Some(instance_id.clone()));
            }
            Event::TimerSet { task, fire_at: due } | Event::TimerSetAt { task, at: due } => {
                self.open(*task, Kind::Timer, "timer", at, number);
                self.change(*task, |span| span.due = Some(due.since(first).0));
            }
            Event::ExternalEventRaised { name, .. } => {
                self.push(Span {
                    end: Some(at),
                    outcome: Outcome::Received,
                    ..Span::new(None, Kind::Event, name, at, Some(number))
                });
            }
            Event::RequestReceived { id, name, .. } => {
                let place = self.push(Span::new(None, Kind::Answer, name, at, Some(number)));
                place.map(|place| self.requests.insert(id.clone(), place));
            }
            Event::RequestAnswered { id, outcome, .. } => {
                let failure = outcome.as_ref().err().map(ToString::to_string);
                if let Some(span) = self
                    .requests
                    .remove(id)
                    .and_then(|place| self.spans.get_mut(place))
                {
                    span.close(at, failure);
                }
            }
            Event::ActivityCompleted { task, run, .. } => self.ran(*task, *run, first, None),
            Event::ActivityFailed { task, run, failure } => {
                self.ran(*task, *run, first, Some(failure.to_string()))
            }
            Event::AttemptFailed { task, failure, run } => {
                self.change(*task, |span| {
                    span.attempt(*run, first, Some(&failure.to_string()))
                });
            }
            Event::ChildCompleted { task, .. } | Event::RequestCompleted { task, .. } => {
                self.change(*task, |span| span.close(at, None))
            }
            Event::ChildFailed { task, failure } | Event::RequestFailed { task, failure } => {
                self.change(*task, |span| span.close(at, Some(failure.to_string())));
            }
            Event::ChildRetryScheduled {
                task,
                at: due,
                failure,
                ..
            } => self.change(*task, |span| {
                span.due = Some(due.since(first).0);
                span.end_attempt(at, Some(&failure.to_string()));
            }),
            Event::ChildRetried {
                task,
                attempt,
                instance_id,
            } => self.begin_child(*task, *attempt, instance_id, at),
            Event::TimerFired { task } => {
                self.change(*task, |span| span.end_as(at, Outcome::Fired))
            }
            Event::TaskCanceled { task } => {
                self.change(*task, |span| span.end_as(at, Outcome::Canceled))
            }
            Event::TurnStarted { .. }
            | Event::ExecutionStarted(_)
            | Event::EventSent { .. }
            | Event::InstanceStarted { .. }
            | Event::InstanceStartSkipped { .. }
            | Event::CustomStatusSet { .. }
            | Event::ValueSet { .. }
            | Event::TagSet { .. }
            | Event::CallDetails { .. }
            | Event::ActivityOptions { .. }
            | Event::InstanceOptions { .. }
            | Event::ChildCommanded { .. }
            | Event::CancellationRequested(_)
            | Event::ContinuedAsNew { .. }
            | Event::ExecutionReturned { .. }
            | Event::ExecutionCompleted { .. }
            | Event::ExecutionFailed { .. }
            | Event::ExecutionTerminated { .. }
            | Event::ExecutionSuspended { .. }
            | Event::ExecutionResumed { .. }
            | Event::ExecutionTimedOut { .. } => {}
        }
    }

    /// Adds what only the status knows: attempts that run or wait now, awaited events, and when the picture ends.
    pub(super) fn finish(mut self, status: &InstanceStatus, now: Timestamp) -> Self {
        let first = self
            .first
            .or(status.started_at)
            .unwrap_or(status.created_at);
        let until = if status.is_ended() {
            status.last_updated_at
        } else {
            now
        };
        self.begun = first.0;
        for wait in &status.waits_for {
            self.wait(wait, first);
        }
        let last = self
            .spans
            .iter()
            .filter_map(|span| span.end)
            .max()
            .unwrap_or(0);
        self.until = until.since(first).0.max(last).max(1);
        self
    }

    fn wait(&mut self, wait: &Wait, first: Timestamp) {
        if let Wait::ExternalEvent { name } = wait {
            let since = self.turns.last().map_or(0, |turn| turn.1);
            self.push(Span {
                outcome: Outcome::Awaited,
                ..Span::new(None, Kind::Event, name, since, None)
            });
        }
        let Wait::Activity {
            task,
            attempt,
            running_since,
            next_attempt_at,
            failed_attempts,
            ..
        } = wait
        else {
            return;
        };
        self.change(*task, |span| {
            for failed in failed_attempts {
                span.attempt(failed.run, first, Some(&failed.failure.to_string()));
            }
            span.due = next_attempt_at.map(|at| at.since(first).0);
            if let Some(since) = running_since {
                let start = since.since(first).0.max(span.start);
                span.attempts.push(Attempt {
                    number: *attempt,
                    start,
                    end: None,
                    failure: None,
                });
            }
        });
    }

    /// The place of a new span; `None` if there are too many.
    fn push(&mut self, span: Span) -> Option<usize> {
        if self.spans.len() >= SPANS_MAX {
            self.more += 1;
            return None;
        }
        self.spans.push(span);
        Some(self.spans.len() - 1)
    }

    fn open(&mut self, task: TaskId, kind: Kind, name: &str, at: u64, number: u64) {
        if let Some(place) = self.push(Span::new(Some(task.0), kind, name, at, Some(number))) {
            self.places.insert(task, place);
        }
    }

    fn change(&mut self, task: TaskId, change: impl FnOnce(&mut Span)) {
        let place = self.places.get(&task);
        if let Some(span) = place.and_then(|place| self.spans.get_mut(*place)) {
            change(span);
        }
    }

    fn begin_child(&mut self, task: TaskId, number: u32, instance: &str, at: u64) {
        self.change(task, |span| {
            span.instance = Some(instance.to_owned());
            span.due = None;
            span.attempts.push(Attempt {
                number,
                start: at,
                end: None,
                failure: None,
            });
        });
    }

    /// An activity ended with this attempt.
    fn ran(&mut self, task: TaskId, run: AttemptRun, first: Timestamp, failure: Option<String>) {
        self.change(task, |span| {
            span.attempt(run, first, failure.as_deref());
            let end = span
                .attempts
                .last()
                .and_then(|last| last.end)
                .unwrap_or(span.start);
            span.close(end, failure);
        });
    }
}

impl Span {
    fn new(task: Option<u32>, kind: Kind, name: &str, start: u64, number: Option<u64>) -> Self {
        Self {
            task,
            kind,
            // A script draws it, so that the document's own writing out does not reach it.
            name: cut(&visible(name), TEXT),
            start,
            end: None,
            outcome: Outcome::Open,
            number,
            instance: None,
            failure: None,
            due: None,
            attempts: Vec::new(),
        }
    }

    /// Adds an attempt that has ended. Clocks that were set back do not make it overlap with the one before.
    fn attempt(&mut self, run: AttemptRun, first: Timestamp, failure: Option<&str>) {
        let before = self
            .attempts
            .last()
            .and_then(|last| last.end)
            .unwrap_or(self.start);
        let start = run.started_at.since(first).0.max(before);
        let end = run.ended_at.since(first).0.max(start);
        let failure = failure.map(|text| cut(&visible(text), TEXT));
        self.attempts.push(Attempt {
            number: run.attempt,
            start,
            end: Some(end),
            failure,
        });
    }

    fn end_attempt(&mut self, at: u64, failure: Option<&str>) {
        if let Some(last) = self.attempts.last_mut().filter(|last| last.end.is_none()) {
            last.end = Some(at.max(last.start));
            last.failure = failure.map(|text| cut(&visible(text), TEXT));
        }
    }

    fn close(&mut self, at: u64, failure: Option<String>) {
        self.end_attempt(at, failure.as_deref());
        self.end_as(
            at,
            if failure.is_some() {
                Outcome::Failed
            } else {
                Outcome::Completed
            },
        );
        self.failure = failure.map(|text| cut(&visible(&text), TEXT));
    }

    fn end_as(&mut self, at: u64, outcome: Outcome) {
        self.end_attempt(at, None);
        self.end = Some(at.max(self.start));
        self.outcome = outcome;
    }
}

#[cfg(test)]
#[path = "spans_tests.rs"]
mod tests;
