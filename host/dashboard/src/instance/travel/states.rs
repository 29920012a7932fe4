//! What an execution looked like after each of its turns, computed from its events alone.
//!
//! Invariant: a state depends on the events up to it and on nothing else, so the same history gives the same states on every host.
#![warn(
    clippy::match_wildcard_for_single_variants,
    clippy::wildcard_enum_match_arm
)]

use std::collections::BTreeMap;

use perennial::{Event, HistoryEvent, Json, Status, TaskId, Timestamp};

use crate::show::cut;

/// Characters that are kept of a name or of a reason.
const TEXT: usize = 200;

/// An execution after some of its events.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    /// Tasks that were scheduled and have no outcome yet.
    pub(super) tasks: BTreeMap<TaskId, Open>,
    /// Requests that arrived and are not answered: their ids and names.
    pub(super) requests: BTreeMap<String, String>,
    pub(super) custom_status: Option<Json>,
    pub(super) values: BTreeMap<String, Json>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) phase: Phase,
    /// Whether it was asked to end in good order.
    pub(super) is_canceling: bool,
    pub(super) is_suspended: bool,
}

/// How far an execution has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Pending,
    Running,
    /// The orchestration has returned, and tasks that it did not cancel are still open.
    Returned,
    Completed,
    Failed,
    Terminated,
    ContinuedAsNew,
}

/// An open task.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Open {
    /// The turn that scheduled it, and when that was recorded.
    pub(super) turn: u32,
    pub(super) at: Timestamp,
    pub(super) what: What,
}

/// What a task is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    Activity {
        name: String,
        /// The most attempts that its retry policy allows. A client of a remote host does not know the policy.
        attempts_max: Option<u32>,
    },
    Child {
        name: String,
        instance_id: String,
        attempt: u32,
        /// When the next attempt starts, if the one before failed.
        due: Option<Timestamp>,
        last_failure: Option<String>,
        /// Whether it was told to end.
        is_told_to_end: bool,
    },
    Timer {
        due: Timestamp,
    },
    Request {
        name: String,
        instance_id: String,
    },
}

impl Phase {
    /// The runtime status that an instance in this phase has.
    pub(super) fn status(self, is_suspended: bool) -> Status {
        match self {
            Self::Pending => Status::Pending,
            Self::Running | Self::Returned if is_suspended => Status::Suspended,
            Self::Running | Self::Returned | Self::ContinuedAsNew => Status::Running,
            Self::Completed => Status::Completed,
            Self::Failed => Status::Failed,
            Self::Terminated => Status::Terminated,
        }
    }
}

impl State {
    /// Takes the next event of the history.
    #[expect(
        clippy::too_many_lines,
        reason = "it is a table, with an arm for each event"
    )]
    pub(super) fn apply(&mut self, of: &HistoryEvent) {
        match &of.event {
            Event::ExecutionStarted(start) => {
                self.phase = Phase::Running;
                self.tags = start.tags.iter().cloned().collect();
            }
            Event::ActivityScheduled {
                task, name, retry, ..
            } => {
                let name = cut(name, TEXT);
                let attempts_max = retry.as_ref().map(|policy| policy.max_attempts);
                self.begin(of, *task, What::Activity { name, attempts_max });
            }
            Event::ChildScheduled {
                task,
                name,
                instance_id,
                ..
            } => self.begin(of, *task, child(name, instance_id)),
            Event::TimerSet { task, fire_at: due } | Event::TimerSetAt { task, at: due } => {
                self.begin(of, *task, What::Timer { due: *due });
            }
            Event::RequestSent {
                task,
                name,
                instance_id,
                ..
            } => {
                let (name, instance_id) = (cut(name, TEXT), instance_id.clone());
                self.begin(of, *task, What::Request { name, instance_id });
            }
            Event::ActivityCompleted { task, .. }
            | Event::ActivityFailed { task, .. }
            | Event::ChildCompleted { task, .. }
            | Event::ChildFailed { task, .. }
            | Event::TimerFired { task }
            | Event::TaskCanceled { task }
            | Event::RequestCompleted { task, .. }
            | Event::RequestFailed { task, .. } => {
                self.tasks.remove(task);
            }
            Event::ChildRetryScheduled {
                task,
                attempt,
                at,
                failure,
            } => {
                let failure = cut(&failure.to_string(), TEXT);
                self.child_is_due(*task, *attempt, *at, failure);
            }
            Event::ChildRetried {
                task,
                attempt,
                instance_id,
            } => self.child_is_retried(*task, *attempt, instance_id),
            Event::ChildCommanded { task, .. } => {
                if let Some(What::Child { is_told_to_end, .. }) = self.open(*task) {
                    *is_told_to_end = true;
                }
            }
            Event::CustomStatusSet { value } => self.custom_status.clone_from(value),
            Event::ValueSet { name, value } => {
                set(&mut self.values, name, value.as_ref());
            }
            Event::TagSet { key, value } => set(&mut self.tags, key, value.as_ref()),
            Event::RequestReceived { id, name, .. } => {
                self.requests.insert(id.clone(), cut(name, TEXT));
            }
            Event::RequestAnswered { id, .. } => {
                self.requests.remove(id);
            }
            Event::ExecutionSuspended { .. } => self.is_suspended = true,
            Event::ExecutionResumed { .. } => self.is_suspended = false,
            Event::CancellationRequested(_) => self.is_canceling = true,
            Event::ExecutionReturned { .. } => self.phase = Phase::Returned,
            Event::ExecutionCompleted { .. } => self.end(Phase::Completed),
            Event::ExecutionFailed { .. } | Event::ExecutionTimedOut { .. } => {
                self.end(Phase::Failed);
            }
            Event::ExecutionTerminated { .. } => self.end(Phase::Terminated),
            Event::ContinuedAsNew { .. } => self.end(Phase::ContinuedAsNew),
            Event::TurnStarted { .. }
            | Event::AttemptFailed { .. }
            | Event::ExternalEventRaised { .. }
            | Event::EventSent { .. }
            | Event::InstanceStarted { .. }
            | Event::InstanceStartSkipped { .. }
            | Event::CallDetails { .. }
            | Event::ActivityOptions { .. }
            | Event::InstanceOptions { .. } => {}
        }
    }

    fn begin(&mut self, of: &HistoryEvent, task: TaskId, what: What) {
        let (turn, at) = (of.turn, of.at);
        self.tasks.insert(task, Open { turn, at, what });
    }

    fn child_is_due(&mut self, task: TaskId, next: u32, at: Timestamp, failure: String) {
        if let Some(What::Child {
            attempt,
            due,
            last_failure,
            ..
        }) = self.open(task)
        {
            (*attempt, *due, *last_failure) = (next, Some(at), Some(failure));
        }
    }

    fn child_is_retried(&mut self, task: TaskId, next: u32, id: &str) {
        if let Some(What::Child {
            attempt,
            due,
            instance_id,
            ..
        }) = self.open(task)
        {
            (*attempt, *due) = (next, None);
            id.clone_into(instance_id);
        }
    }

    fn open(&mut self, task: TaskId) -> Option<&mut What> {
        self.tasks.get_mut(&task).map(|open| &mut open.what)
    }

    /// Nothing is waited for any more.
    fn end(&mut self, phase: Phase) {
        self.phase = phase;
        self.is_suspended = false;
        self.tasks.clear();
        self.requests.clear();
    }
}

fn child(name: &str, instance_id: &str) -> What {
    What::Child {
        name: cut(name, TEXT),
        instance_id: instance_id.to_owned(),
        attempt: 1,
        due: None,
        last_failure: None,
        is_told_to_end: false,
    }
}

fn set<V: Clone>(all: &mut BTreeMap<String, V>, name: &str, value: Option<&V>) {
    match value {
        Some(value) => all.insert(name.to_owned(), value.clone()),
        None => all.remove(name),
    };
}

/// How many events of a turn came in; those that follow are what the guest answered.
///
/// Events of most types are only ever one of both. A custom status and named values that an execution takes over from the one before follow
/// its start; if the guest then sets some itself before it does anything else, these cannot be told apart and count as taken over.
pub(super) fn received(turn: &[HistoryEvent]) -> usize {
    let is_asked = (turn.first()).is_some_and(|of| matches!(of.event, Event::TurnStarted { .. }));
    let mut takes_over = false;
    let comes_in = |of: &HistoryEvent| match &of.event {
        Event::ExecutionStarted(start) => {
            takes_over = start.execution > 0;
            true
        }
        Event::CustomStatusSet { .. } | Event::ValueSet { .. } => takes_over,
        Event::RequestAnswered { number, .. } => number.is_none(),
        Event::ExecutionTerminated { .. } | Event::ExecutionTimedOut { .. } => !is_asked,
        Event::TurnStarted { .. }
        | Event::ActivityCompleted { .. }
        | Event::ActivityFailed { .. }
        | Event::AttemptFailed { .. }
        | Event::ChildCompleted { .. }
        | Event::ChildFailed { .. }
        | Event::ChildRetryScheduled { .. }
        | Event::ChildRetried { .. }
        | Event::TimerFired { .. }
        | Event::ExternalEventRaised { .. }
        | Event::ExecutionSuspended { .. }
        | Event::ExecutionResumed { .. }
        | Event::InstanceStartSkipped { .. }
        | Event::CancellationRequested(_)
        | Event::RequestReceived { .. }
        | Event::RequestCompleted { .. }
        | Event::RequestFailed { .. } => true,
        Event::ActivityScheduled { .. }
        | Event::ChildScheduled { .. }
        | Event::TimerSet { .. }
        | Event::TimerSetAt { .. }
        | Event::TaskCanceled { .. }
        | Event::EventSent { .. }
        | Event::InstanceStarted { .. }
        | Event::TagSet { .. }
        | Event::CallDetails { .. }
        | Event::ActivityOptions { .. }
        | Event::InstanceOptions { .. }
        | Event::ChildCommanded { .. }
        | Event::ContinuedAsNew { .. }
        | Event::ExecutionReturned { .. }
        | Event::ExecutionCompleted { .. }
        | Event::ExecutionFailed { .. }
        | Event::RequestSent { .. } => false,
    };
    turn.iter()
        .position({
            let mut comes_in = comes_in;
            move |of| !comes_in(of)
        })
        .unwrap_or(turn.len())
}

/// The state after each turn.
#[cfg(test)]
pub(super) fn states(events: &[HistoryEvent]) -> Vec<(u32, State)> {
    let mut state = State::default();
    let mut states = Vec::new();
    for turn in events.chunk_by(|one, next| one.turn == next.turn) {
        turn.iter().for_each(|event| state.apply(event));
        states.push((turn[0].turn, state.clone()));
    }
    states
}

#[cfg(test)]
mod tests;
