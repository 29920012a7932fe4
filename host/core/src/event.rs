//! The events of a history.
//!
//! The order of the variants and of their fields is part of the stored format: new variants go to the end, and a variant that is stored
//! somewhere never changes. The store pins both with recorded bytes.

use serde::{Deserialize, Serialize};

use crate::failure::answer_size;
use crate::value::size_of;
use crate::{
    AttemptRun, Cancellation, ChildCommand, Digest, Failure, InstanceOptions, Json, Limits, Millis,
    Parent, RetryPolicy, Tags, Target, TaskId, Timestamp,
};

/// A fact in an execution's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A turn of the guest began: the first event of each turn in which the guest was asked.
    TurnStarted {
        /// The guest's time in this turn.
        now: Timestamp,
        /// Events recorded before this turn.
        history_events: u32,
        /// Their size in bytes.
        history_bytes: u64,
    },
    /// The execution began: the second event of the first turn.
    ExecutionStarted(Box<Start>),
    /// An activity completed.
    ActivityCompleted {
        /// The task that completed.
        task: TaskId,
        /// Its result.
        output: Option<Json>,
        /// The attempt that completed.
        run: AttemptRun,
    },
    /// An activity failed and is not tried again.
    ActivityFailed {
        /// The task that failed.
        task: TaskId,
        /// The last attempt's failure.
        failure: Failure,
        /// The last attempt.
        run: AttemptRun,
    },
    /// A child completed.
    ChildCompleted {
        /// The task that completed.
        task: TaskId,
        /// Its output.
        output: Option<Json>,
    },
    /// A child failed and is not tried again.
    ChildFailed {
        /// The task that failed.
        task: TaskId,
        /// The failure of its last attempt.
        failure: Failure,
    },
    /// A timer came due.
    TimerFired {
        /// The timer's task.
        task: TaskId,
    },
    /// A message from outside arrived.
    ExternalEventRaised {
        /// Counts the external events of the instance, from 0, across executions.
        number: u32,
        /// Its name, as it was raised; compared without regard to case.
        name: String,
        /// Its payload.
        data: Option<Json>,
    },
    /// An activity was asked for.
    ActivityScheduled {
        /// Its task.
        task: TaskId,
        /// Its name.
        name: String,
        /// Its input; absent too where it was over the limit.
        input: Option<Json>,
        /// Its retry policy.
        retry: Option<RetryPolicy>,
        /// The time limit of one attempt.
        attempt_timeout: Option<Millis>,
        /// What runs it, as resolved when it was scheduled.
        target: Target,
    },
    /// A child was asked for.
    ChildScheduled {
        /// Its task.
        task: TaskId,
        /// Its orchestration's name.
        name: String,
        /// Its version, where one was asked for.
        version: Option<String>,
        /// The id of its first attempt's instance.
        instance_id: String,
        /// Its input; absent too where it was over the limit.
        input: Option<Json>,
        /// Its tags.
        tags: Tags,
        /// Its retry policy.
        retry: Option<RetryPolicy>,
        /// What runs it, as resolved when it was scheduled.
        target: Target,
    },
    /// A timer was set.
    TimerSet {
        /// Its task.
        task: TaskId,
        /// When it comes due, in the guest's time.
        fire_at: Timestamp,
    },
    /// The guest no longer waits for a task.
    TaskCanceled {
        /// The task that was cancelled.
        task: TaskId,
    },
    /// A message was sent to an instance.
    EventSent {
        /// The id of the receiving instance.
        instance_id: String,
        /// The event's name.
        name: String,
        /// Its payload.
        data: Option<Json>,
    },
    /// Another instance was started, without waiting for it.
    InstanceStarted {
        /// Its id.
        instance_id: String,
        /// Its orchestration's name.
        name: String,
        /// Its version, where one was asked for.
        version: Option<String>,
        /// Its input.
        input: Option<Json>,
        /// Its tags.
        tags: Tags,
        /// What runs it, as resolved when it was asked for.
        target: Target,
    },
    /// The custom status changed. Right after the start of an execution, the status is that of the previous execution.
    CustomStatusSet {
        /// The new status; `None` removes it.
        value: Option<Json>,
    },
    /// The orchestration returned while tasks that it did not cancel are still open.
    ExecutionReturned {
        /// Its output.
        output: Option<Json>,
    },
    /// The execution completed.
    ExecutionCompleted {
        /// Its output.
        output: Option<Json>,
    },
    /// The execution failed.
    ExecutionFailed {
        /// The failure.
        failure: Failure,
        /// The task whose failure this is, if the guest names one.
        cause: Option<TaskId>,
    },
    /// The execution was terminated from outside.
    ExecutionTerminated {
        /// The reason given.
        reason: Option<String>,
    },
    /// The execution ended and continues as a new one.
    ContinuedAsNew {
        /// Input of the next execution.
        input: Option<Json>,
        /// The version asked for.
        version: Option<String>,
        /// Numbers of the external events that move to the next execution.
        carry_over: Vec<u32>,
        /// The next execution's id.
        execution_id: String,
    },
    /// The instance was suspended.
    ExecutionSuspended {
        /// The reason given.
        reason: Option<String>,
    },
    /// The instance was resumed.
    ExecutionResumed {
        /// The reason given.
        reason: Option<String>,
    },
    /// An instance that this one asked for was not started. May follow the end, if the last turn asked for it, and the start, if the previous
    /// execution asked for it.
    InstanceStartSkipped {
        /// The id that was asked for.
        instance_id: String,
        /// Why it was not started.
        reason: String,
    },
    /// A child failed and will be tried again.
    ChildRetryScheduled {
        /// Its task.
        task: TaskId,
        /// The next attempt, from 2.
        attempt: u32,
        /// When the next attempt starts.
        at: Timestamp,
        /// The failure of the attempt before.
        failure: Failure,
    },
    /// A child was started again.
    ChildRetried {
        /// Its task.
        task: TaskId,
        /// The attempt that started, from 2.
        attempt: u32,
        /// The id of the attempt's instance.
        instance_id: String,
    },
    /// An attempt of an activity failed, or was cut off, and another one followed. Recorded with the activity's outcome.
    AttemptFailed {
        /// The activity's task.
        task: TaskId,
        /// Its failure, shortened.
        failure: Failure,
        /// The attempt that failed.
        run: AttemptRun,
    },
    /// What a remote worker said of the call before it beyond what a component can say. Follows an
    /// [`ActivityScheduled`](Self::ActivityScheduled) with a version or tags, and each [`EventSent`](Self::EventSent).
    CallDetails {
        /// The task of the call, or the number that the worker gave to a sent event. Both count together.
        task: TaskId,
        /// The version of the activity, where one was asked for.
        version: Option<String>,
        /// The tags of the call.
        tags: Tags,
    },
    /// A named value was set or cleared. Right after the start of an execution, the value is that of the previous execution.
    ValueSet {
        /// Its name.
        name: String,
        /// The new value; `None` clears it.
        value: Option<Json>,
    },
    /// The orchestration set a tag of its instance, or removed it.
    TagSet {
        /// Its key.
        key: String,
        /// Its value; `None` removes it.
        value: Option<String>,
    },
    /// What the call before it chose beyond its policy and its time limit. Follows an [`ActivityScheduled`](Self::ActivityScheduled) whose call
    /// chose something.
    ActivityOptions {
        /// The task of the call.
        task: TaskId,
        /// An attempt that sends no heartbeat for so long fails.
        heartbeat_timeout: Option<Millis>,
        /// Whether no attempt follows one whose outcome is unknown.
        at_most_once: bool,
    },
    /// A timer was set for a time by the clock of the host.
    TimerSetAt {
        /// Its task.
        task: TaskId,
        /// When it comes due, by the clock of the host.
        at: Timestamp,
    },
    /// What was said of the instance before it, where that is not the default. Follows a [`ChildScheduled`](Self::ChildScheduled) or an
    /// [`InstanceStarted`](Self::InstanceStarted).
    InstanceOptions {
        /// The task of the child; `None` for an instance that nobody waits for.
        task: Option<TaskId>,
        /// What was said.
        options: InstanceOptions,
    },
    /// A child was told to end: the guest asked for it, or no longer waits for it.
    ChildCommanded {
        /// The task of the child.
        task: TaskId,
        /// The instance of its current attempt.
        instance_id: String,
        /// What it was told.
        command: ChildCommand,
        /// The reason given.
        reason: Option<String>,
    },
    /// The execution was asked to end in good order.
    CancellationRequested(Cancellation),
    /// The execution did not end in time after it was asked to.
    ExecutionTimedOut {
        /// The failure.
        failure: Failure,
    },
    /// A request arrived, which the guest is to answer.
    RequestReceived {
        /// Counts with the external events of the instance.
        number: u32,
        /// The id of the request, unique within the instance.
        id: String,
        /// Its name; compared without regard to case.
        name: String,
        /// Its payload.
        input: Option<Json>,
    },
    /// A request was answered.
    RequestAnswered {
        /// Its number; `None` if the host refused it before the guest was told of it.
        number: Option<u32>,
        /// Its id.
        id: String,
        /// The answer.
        outcome: Result<Option<Json>, Failure>,
    },
    /// A request was sent to an instance.
    RequestSent {
        /// The task that waits for the answer.
        task: TaskId,
        /// The instance that is asked.
        instance_id: String,
        /// The id of the request.
        id: String,
        /// Its name.
        name: String,
        /// Its payload; absent too where it was not sent.
        input: Option<Json>,
        /// Why it was not sent, if it was not: the task fails with it.
        refused: Option<Failure>,
    },
    /// The answer to a request came, and it is an output.
    RequestCompleted {
        /// The task that waited for it.
        task: TaskId,
        /// The output.
        output: Option<Json>,
    },
    /// The answer to a request came, and it is a failure; or there will be none.
    RequestFailed {
        /// The task that waited for it.
        task: TaskId,
        /// The failure.
        failure: Failure,
    },
}

/// How an execution begins, and everything that stays fixed while it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The instance.
    pub instance_id: String,
    /// The id of this execution, never used again.
    pub execution_id: String,
    /// Counts the executions of the instance, from 0.
    pub execution: u32,
    /// The orchestration's name.
    pub name: String,
    /// The version of its definition.
    pub version: Option<String>,
    /// Its input.
    pub input: Option<Json>,
    /// The parent and its task, if this is a child.
    pub parent: Option<Parent>,
    /// Its tags.
    pub tags: Tags,
    /// W3C trace context of the caller.
    pub trace_parent: Option<String>,
    /// Seeds every random number and identifier that the guest draws.
    pub seed: u64,
    /// The module that runs it as long as it runs; `None` if something other than a module does.
    pub module: Option<Digest>,
    /// Its limits.
    pub limits: Limits,
    /// The number that the next external event gets.
    pub next_external: u32,
    /// The version of the rules; see [`SEMANTICS_VERSION`](crate::SEMANTICS_VERSION).
    pub semantics: u32,
    /// When the start was accepted.
    pub accepted_at: Timestamp,
    /// The earliest time at which it may begin, if the start was scheduled.
    pub scheduled_for: Option<Timestamp>,
}

impl Start {
    /// The time that its guest sees until its first turn: it may be asked for while the guest's language is started.
    pub fn clock(&self) -> Timestamp {
        match self.semantics {
            ..=1 => Timestamp(0),
            _ => self.accepted_at,
        }
    }

    /// Whether it may begin at this time.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.scheduled_for.is_none_or(|at| at <= now)
    }
}

impl Event {
    /// Bytes that this event takes in a history, roughly: its texts and payloads and a constant.
    #[expect(
        clippy::too_many_lines,
        reason = "it is a table, with an arm for each event"
    )]
    pub fn size(&self) -> usize {
        /// What an event takes beside its texts.
        const OVERHEAD: usize = 16;
        let tags = |tags: &Tags| tags.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
        let text = |t: &Option<String>| t.as_ref().map_or(0, String::len);
        let payload = |p: &Option<Json>| size_of(p.as_ref());
        OVERHEAD
            + match self {
                Self::ExecutionStarted(s) => {
                    s.instance_id.len()
                        + s.execution_id.len()
                        + s.name.len()
                        + payload(&s.input)
                        + tags(&s.tags)
                        + 128
                }
                Self::ActivityCompleted { output, .. }
                | Self::ChildCompleted { output, .. }
                | Self::RequestCompleted { output, .. }
                | Self::ExecutionReturned { output }
                | Self::ExecutionCompleted { output } => payload(output),
                Self::ActivityFailed { failure, .. }
                | Self::ChildFailed { failure, .. }
                | Self::RequestFailed { failure, .. }
                | Self::ExecutionFailed { failure, .. }
                | Self::ExecutionTimedOut { failure }
                | Self::AttemptFailed { failure, .. }
                | Self::ChildRetryScheduled { failure, .. } => failure.size(),
                Self::ExternalEventRaised { name, data, .. } => name.len() + payload(data),
                Self::ActivityScheduled { name, input, .. } => name.len() + payload(input) + 32,
                Self::ChildScheduled {
                    name,
                    instance_id,
                    input,
                    tags: labels,
                    ..
                }
                | Self::InstanceStarted {
                    name,
                    instance_id,
                    input,
                    tags: labels,
                    ..
                } => name.len() + instance_id.len() + payload(input) + tags(labels) + 32,
                Self::EventSent {
                    instance_id,
                    name,
                    data,
                } => instance_id.len() + name.len() + payload(data),
                Self::CustomStatusSet { value } => payload(value),
                Self::ExecutionTerminated { reason }
                | Self::ExecutionSuspended { reason }
                | Self::ExecutionResumed { reason } => text(reason),
                Self::ContinuedAsNew {
                    input,
                    version,
                    carry_over,
                    execution_id,
                } => payload(input) + text(version) + 4 * carry_over.len() + execution_id.len(),
                Self::InstanceStartSkipped {
                    instance_id,
                    reason,
                } => instance_id.len() + reason.len(),
                Self::ChildRetried { instance_id, .. } => instance_id.len(),
                Self::ChildCommanded {
                    instance_id,
                    reason,
                    ..
                } => instance_id.len() + text(reason),
                Self::CancellationRequested(cancellation) => text(&cancellation.reason),
                Self::CallDetails {
                    version,
                    tags: labels,
                    ..
                } => text(version) + tags(labels),
                Self::ValueSet { name, value } => name.len() + payload(value),
                Self::TagSet { key, value } => key.len() + text(value),
                Self::RequestReceived {
                    id, name, input, ..
                } => id.len() + name.len() + payload(input),
                Self::RequestAnswered { id, outcome, .. } => id.len() + answer_size(outcome),
                Self::RequestSent {
                    instance_id,
                    id,
                    name,
                    input,
                    ..
                } => instance_id.len() + id.len() + name.len() + payload(input),
                Self::TurnStarted { .. }
                | Self::TimerFired { .. }
                | Self::TimerSet { .. }
                | Self::TimerSetAt { .. }
                | Self::InstanceOptions { .. }
                | Self::ActivityOptions { .. }
                | Self::TaskCanceled { .. } => 0,
            }
    }
}

/// Names the kinds of events, each once: the list and the match are one text, so that neither lacks a kind.
macro_rules! names {
    ($($name:ident)*) => {
        impl Event {
            /// The names of all kinds of events, in the order of the alphabet.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// The name of the kind of event, as in `ActivityScheduled`.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name { .. } => stringify!($name),)*
                }
            }
        }
    };
}

names! {
    ActivityCompleted ActivityFailed ActivityOptions ActivityScheduled AttemptFailed CallDetails
    CancellationRequested ChildCommanded ChildCompleted ChildFailed ChildRetried ChildRetryScheduled
    ChildScheduled ContinuedAsNew CustomStatusSet EventSent ExecutionCompleted ExecutionFailed
    ExecutionResumed ExecutionReturned ExecutionStarted ExecutionSuspended ExecutionTerminated
    ExecutionTimedOut ExternalEventRaised InstanceOptions InstanceStartSkipped InstanceStarted
    RequestAnswered RequestCompleted RequestFailed RequestReceived RequestSent TagSet TaskCanceled
    TimerFired TimerSet TimerSetAt TurnStarted ValueSet
}
