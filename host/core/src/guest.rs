//! The guest contract as the core sees it: events in, actions out.

use crate::bounds::{NAME_CHARS, NOTE_BYTES, OPEN_TASKS, WAITING_EVENTS};
use crate::text::bounded;
use crate::{
    ChildCommand, ChildPolicy, Failure, IdReuse, Json, Millis, Parent, RetryPolicy, Tags, TaskId,
    Timestamp,
};

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
    /// The turn happens: limits apply, and log lines are kept.
    Live {
        /// The fuel that the guest may use.
        fuel: u64,
    },
    /// The turn is recorded already: limits do not apply again, and log lines are dropped.
    Replay,
}

/// Why a guest did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The guest panicked or exceeded a limit. Recorded as the execution's failure.
    Verdict(Failure),
    /// The host could not run the guest, for this reason. Nothing is recorded.
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
        /// The instance's id.
        instance_id: String,
        /// The execution's id.
        execution_id: String,
        /// The orchestration's name.
        name: String,
        /// The version of its definition.
        version: Option<String>,
        /// Its input.
        input: Option<Json>,
        /// The parent and its task, if this is a child.
        parent: Option<Parent>,
        /// Its tags.
        tags: Tags,
        /// W3C trace context of the caller.
        trace_parent: Option<String>,
        /// Seeds every random number and identifier that the guest draws.
        seed: u64,
    },
    /// An activity or a child ended.
    TaskCompleted {
        /// The task that ended.
        task: TaskId,
        /// Its output or failure.
        outcome: Result<Option<Json>, Failure>,
    },
    /// A timer came due.
    TimerFired(TaskId),
    /// An external event arrived.
    ExternalEventRaised {
        /// Counts the external events of the instance, from 0, across executions.
        number: u32,
        /// Its name; compared without regard to case.
        name: String,
        /// Its payload.
        data: Option<Json>,
    },
    /// The execution is asked to end in good order. At most once.
    CancellationRequested(Cancellation),
    /// A request arrived, which is to be answered.
    RequestReceived(IncomingRequest),
}

/// See [`GuestEvent::RequestReceived`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncomingRequest {
    /// Counts with the external events of the instance.
    pub number: u32,
    /// Its id, unique within the instance.
    pub id: String,
    /// Its name; compared without regard to case.
    pub name: String,
    /// Its payload.
    pub input: Option<Json>,
}

/// A request that an execution end in good order.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cancellation {
    /// The reason given.
    pub reason: Option<String>,
    /// Whether the time limit of the execution was over; otherwise somebody asked for it.
    pub timed_out: bool,
    /// When the execution is ended if it has not ended by then, in the time of the guest.
    pub deadline: Timestamp,
}

/// What a guest answers to the events of a turn.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Answer {
    /// Its actions, in order.
    pub actions: Vec<Action>,
    /// How the turn ended for the guest.
    pub ending: Ending,
}

/// How a turn ended for the guest.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Ending {
    /// The guest waits.
    Waiting(Waiting),
    /// The guest returned this output.
    Completed(Option<Json>),
    /// The guest failed.
    Failed {
        /// The failure.
        failure: Failure,
        /// The task whose failure this is, if it is that of a task: a rewind goes back to before it.
        cause: Option<TaskId>,
    },
    /// The execution ends and continues as a new one.
    ContinuedAsNew {
        /// Input of the next execution.
        input: Option<Json>,
        /// Version of the next execution; the newest deployed one when absent.
        version: Option<String>,
        /// Numbers of the external events that it was given and did not use, and of the requests that it did not answer.
        carry_over: Vec<u32>,
    },
    /// The guest ended because it was asked to.
    Canceled,
}

/// What an execution waits for, to be shown to people.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Waiting {
    /// Names of external events.
    pub events: Vec<String>,
    /// Tasks.
    pub tasks: Vec<TaskId>,
    /// The guest's own words.
    pub note: Option<String>,
    /// Names of requests that it is ready to answer.
    pub requests: Vec<String>,
}

impl Waiting {
    /// Whether an external event of this name is waited for, as far as is known: names beyond the bound were left out.
    pub fn may_await(&self, name: &str) -> bool {
        may_be_among(&self.events, name)
    }

    /// Whether a request of this name is waited for, as far as is known.
    pub fn may_answer(&self, name: &str) -> bool {
        may_be_among(&self.requests, name)
    }

    /// What is kept of what a guest says: it is for people, and nothing follows from it.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.events.truncate(WAITING_EVENTS);
        self.requests.truncate(WAITING_EVENTS);
        for name in self.events.iter_mut().chain(&mut self.requests) {
            if name.len() > 4 * NAME_CHARS {
                *name = bounded(std::mem::take(name), 4 * NAME_CHARS);
            }
        }
        self.tasks.truncate(OPEN_TASKS);
        self.note = self.note.map(|note| bounded(note, NOTE_BYTES));
        self
    }
}

fn may_be_among(names: &[String], name: &str) -> bool {
    names.len() >= WAITING_EVENTS || names.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// What a guest can ask for.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Action {
    /// Runs an activity.
    CallActivity(ActivityCall),
    /// Runs another orchestration and waits for it.
    CallChild(ChildCall),
    /// Sets a timer.
    SetTimer {
        /// The id of the new task.
        task: TaskId,
        /// When the timer comes due.
        due: TimerDue,
    },
    /// Cancels a task.
    CancelTask(TaskId),
    /// Ends a child that the guest goes on to wait for.
    CommandChild {
        /// The task of the child.
        task: TaskId,
        /// What the child is told.
        command: ChildCommand,
        /// The reason given.
        reason: Option<String>,
    },
    /// Sends an external event to another instance.
    SendEvent(OutgoingEvent),
    /// Starts another instance without waiting for it.
    StartInstance {
        /// The new instance's id.
        instance_id: String,
        /// Its orchestration's name.
        name: String,
        /// Its version; the newest deployed one when absent.
        version: Option<String>,
        /// Its input.
        input: Option<Json>,
        /// Its tags.
        tags: Tags,
        /// What else is said of it. Its child policy means nothing.
        options: InstanceOptions,
    },
    /// Sets the custom status, which the instance's status shows.
    SetCustomStatus(Option<Json>),
    /// Says more of the action before it; see [`Event::CallDetails`](crate::Event::CallDetails). Only remote workers do.
    Describe(CallDetails),
    /// Sets or clears a named value of the instance, which clients read.
    SetValue {
        /// Its name.
        name: String,
        /// The value; `None` clears it.
        value: Option<Json>,
    },
    /// Sets or removes a tag of the instance.
    SetTag {
        /// Its key.
        key: String,
        /// The value; `None` removes it.
        value: Option<String>,
    },
    /// Sends a request to another instance, and waits for its answer.
    SendRequest(OutgoingRequest),
    /// Answers a request.
    Respond {
        /// The number of the request.
        number: u32,
        /// The answer.
        outcome: Result<Option<Json>, Failure>,
    },
}

/// See [`Action::SendRequest`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OutgoingRequest {
    /// The id of the new task, which waits for the answer.
    pub task: TaskId,
    /// The id of the instance that is asked.
    pub instance_id: String,
    /// The name of the request.
    pub name: String,
    /// Its payload.
    pub input: Option<Json>,
}

/// See [`Action::CallActivity`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ActivityCall {
    /// The id of the new task.
    pub task: TaskId,
    /// The activity's name.
    pub name: String,
    /// Its input.
    pub input: Option<Json>,
    /// Its retry policy.
    pub retry: Option<RetryPolicy>,
    /// The time limit of one attempt.
    pub attempt_timeout: Option<Millis>,
    /// What else was chosen for it.
    pub options: CallOptions,
}

/// What a call of an activity may choose beyond its retry policy and its time limit. The default is what every call of contract 0.1 has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CallOptions {
    /// An attempt that sent no heartbeat for so long fails.
    pub heartbeat_timeout: Option<Millis>,
    /// Whether no attempt follows one whose outcome is unknown.
    pub at_most_once: bool,
}

impl CallOptions {
    /// Whether nothing was chosen, so that nothing is recorded.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// See [`Action::CallChild`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ChildCall {
    /// The id of the new task.
    pub task: TaskId,
    /// The orchestration's name.
    pub name: String,
    /// Its version; the newest deployed one when absent.
    pub version: Option<String>,
    /// Its instance's id; derived from the parent's execution and the task when absent.
    pub instance_id: Option<String>,
    /// Its input.
    pub input: Option<Json>,
    /// Its tags.
    pub tags: Tags,
    /// Its retry policy.
    pub retry: Option<RetryPolicy>,
    /// What else is said of its instance.
    pub options: InstanceOptions,
}

/// When a timer comes due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum TimerDue {
    /// At this time of the guest, which counts as a span from the time of the turn on. All that contract 0.1 can say.
    GuestTime(Timestamp),
    /// This long after the turn, whatever is done to the clock of the host meanwhile.
    After(Millis),
    /// At this time by the clock of the host.
    At(Timestamp),
}

/// What an orchestration may say of an instance that it starts, beyond what it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct InstanceOptions {
    /// Which instances it may replace.
    pub reuse: IdReuse,
    /// What becomes of it when its parent no longer waits for it.
    pub when_dropped: ChildPolicy,
    /// It is asked to cancel after this long, and fails with `Timeout`.
    pub execution_timeout: Option<Millis>,
}

/// See [`Action::Describe`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CallDetails {
    /// The task of the call, or the number of the sent event, which counts with those of tasks.
    pub task: TaskId,
    /// The version of the activity, where one is asked for.
    pub version: Option<String>,
    /// The tags of the call.
    pub tags: Tags,
}

/// See [`Action::SendEvent`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OutgoingEvent {
    /// The id of the receiving instance.
    pub instance_id: String,
    /// Its name.
    pub name: String,
    /// Its payload.
    pub data: Option<Json>,
}
