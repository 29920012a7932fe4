//! The guest contract as the core sees it: events in, actions out.

use crate::bounds::{NAME_CHARS, NOTE_BYTES, OPEN_TASKS, WAITING_EVENTS};
use crate::text::bounded;
use crate::{Failure, Json, Millis, Parent, RetryPolicy, Tags, TaskId, Timestamp};

/// Something that runs one execution: a component instance, or a closure in a test.
///
/// It is a pure function of the events it was given since it was made: the same events in the same calls give the same answers. It holds
/// valid JSON in every payload of an answer.
pub trait Guest {
    /// Handles the events of the next turn.
    ///
    /// # Errors
    /// [`Stop::Verdict`] if the guest itself came to an end that is recorded; [`Stop::Host`] if the host could not run it, in which case
    /// the turn did not happen. After either the guest is of no further use.
    fn advance(&mut self, events: &[GuestEvent], mode: Mode) -> Result<Answer, Stop>;
}

/// Whether a turn happens or is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The turn happens: limits hold, log lines count.
    Live {
        /// What the guest may burn.
        fuel: u64,
    },
    /// The turn is recorded already: no limit is applied again, and log lines are dropped.
    Replay,
}

/// Why a guest did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The guest's own end: it panicked, or a limit stopped it. Recorded as the execution's failure.
    Verdict(Failure),
    /// The host could not run the guest, and why, for people. Nothing is recorded.
    Host(String),
}

/// What a guest can be told.
#[derive(Clone, Debug, PartialEq)]
pub enum GuestEvent {
    /// The first event of every turn.
    TurnStarted {
        /// The time, which stands still until the next turn.
        now: Timestamp,
        /// Events recorded for this execution before this turn.
        history_events: u32,
        /// Their size in bytes.
        history_bytes: u64,
    },
    /// The second event of the first turn.
    ExecutionStarted {
        /// The instance.
        instance_id: String,
        /// This run of it.
        execution_id: String,
        /// The orchestration.
        name: String,
        /// The version of its definition.
        version: Option<String>,
        /// Its input.
        input: Option<Json>,
        /// Whose child it is.
        parent: Option<Parent>,
        /// Its labels.
        tags: Tags,
        /// W3C trace context of the caller.
        trace_parent: Option<String>,
        /// Seeds every random number and identifier that the guest draws.
        seed: u64,
    },
    /// An activity or a child ended.
    TaskCompleted {
        /// Which.
        task: TaskId,
        /// How.
        outcome: Result<Option<Json>, Failure>,
    },
    /// A timer came due.
    TimerFired(TaskId),
    /// A message from outside.
    ExternalEventRaised {
        /// Counts the external events of the instance, from 0, across executions.
        number: u32,
        /// Compared without regard to case.
        name: String,
        /// Its payload.
        data: Option<Json>,
    },
}

/// What a guest answers to the events of a turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What it asks for, in order.
    pub actions: Vec<Action>,
    /// Where it stands.
    pub ending: Ending,
}

/// Where a guest stands after a turn.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// It waits.
    Waiting(Waiting),
    /// It returned this.
    Completed(Option<Json>),
    /// It failed.
    Failed {
        /// With this.
        failure: Failure,
        /// The task whose failure this is, where it is one: the point that a rewind returns to.
        cause: Option<TaskId>,
    },
    /// It ends here and goes on as a fresh execution.
    ContinuedAsNew {
        /// Input of the next execution.
        input: Option<Json>,
        /// Version of the next execution; the newest deployed one when absent.
        version: Option<String>,
        /// Numbers of the external events that it was given and did not use.
        carry_over: Vec<u32>,
    },
}

/// What an execution waits for, so that people can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Waiting {
    /// Names of external events.
    pub events: Vec<String>,
    /// Tasks.
    pub tasks: Vec<TaskId>,
    /// The guest's own words.
    pub note: Option<String>,
}

impl Waiting {
    /// Whether an external event of this name is waited for, as far as is known: names beyond the bound were left out.
    pub fn may_await(&self, name: &str) -> bool {
        self.events.len() >= WAITING_EVENTS
            || (self.events.iter()).any(|other| other.eq_ignore_ascii_case(name))
    }

    /// What is kept of what a guest says: it is for people, and nothing follows from it.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.events.truncate(WAITING_EVENTS);
        for name in &mut self.events {
            if name.len() > 4 * NAME_CHARS {
                *name = bounded(std::mem::take(name), 4 * NAME_CHARS);
            }
        }
        self.tasks.truncate(OPEN_TASKS);
        self.note = self.note.map(|note| bounded(note, NOTE_BYTES));
        self
    }
}

/// What a guest can ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Run an activity.
    CallActivity(ActivityCall),
    /// Run another orchestration and wait for it.
    CallChild(ChildCall),
    /// Wake at a time.
    SetTimer {
        /// Named so in what follows.
        task: TaskId,
        /// When.
        fire_at: Timestamp,
    },
    /// Wait for this task no longer.
    CancelTask(TaskId),
    /// Send a message to an instance.
    SendEvent(OutgoingEvent),
    /// Start another instance and do not wait for it.
    StartInstance {
        /// Its id.
        instance_id: String,
        /// Its orchestration.
        name: String,
        /// The newest deployed one when absent.
        version: Option<String>,
        /// Its input.
        input: Option<Json>,
        /// Its labels.
        tags: Tags,
    },
    /// Show this to people who ask for the instance's status.
    SetCustomStatus(Option<Json>),
}

/// See [`Action::CallActivity`].
#[derive(Clone, Debug, PartialEq)]
pub struct ActivityCall {
    /// Named so in what follows.
    pub task: TaskId,
    /// The activity.
    pub name: String,
    /// Its input.
    pub input: Option<Json>,
    /// How it is tried again.
    pub retry: Option<RetryPolicy>,
    /// How long one attempt may take.
    pub attempt_timeout: Option<Millis>,
}

/// See [`Action::CallChild`].
#[derive(Clone, Debug, PartialEq)]
pub struct ChildCall {
    /// Named so in what follows.
    pub task: TaskId,
    /// The orchestration.
    pub name: String,
    /// The newest deployed one when absent.
    pub version: Option<String>,
    /// Derived from the parent's execution and the task when absent.
    pub instance_id: Option<String>,
    /// Its input.
    pub input: Option<Json>,
    /// Its labels.
    pub tags: Tags,
    /// How it is tried again.
    pub retry: Option<RetryPolicy>,
}

/// See [`Action::SendEvent`].
#[derive(Clone, Debug, PartialEq)]
pub struct OutgoingEvent {
    /// To whom.
    pub instance_id: String,
    /// What it is called.
    pub name: String,
    /// Its payload.
    pub data: Option<Json>,
}
