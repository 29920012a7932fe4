//! The history of an execution, as clients read it.
#![warn(
    clippy::match_wildcard_for_single_variants,
    clippy::wildcard_enum_match_arm
)]

use std::borrow::Cow;

use perennial_core::{
    AttemptRun, Cancellation, ChildCommand, ChildPolicy, Digest, Event, Failure, IdReuse,
    InstanceOptions, Json, Limits, Millis, Parent, SEMANTICS_VERSION, Start, Tags, Target, TaskId,
    TaskRef, Timestamp, Turn,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::{Map, serde_as, skip_serializing_none};

use crate::client::json::{FailureJson, HexDigest, Payload, TimeText};

/// An event of a history.
///
/// Fields that the JSON omits are empty after reading it: retry policies, limits, seeds, and the tags of started instances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(into = "EventJson", try_from = "EventJson")]
#[non_exhaustive]
pub struct HistoryEvent {
    /// The number of the event in its execution, from 0.
    pub number: u64,
    /// The number of its turn, from 0.
    pub turn: u32,
    /// When its turn was recorded.
    pub at: Timestamp,
    /// The event.
    pub event: Event,
}

impl HistoryEvent {
    /// When what it tells of happened: the end of the attempt, for an outcome of an attempt, and [`at`](Self::at) for all others. A turn may
    /// record attempts that ended long before it.
    pub fn happened_at(&self) -> Timestamp {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "only these three have a time of their own"
        )]
        match &self.event {
            Event::ActivityCompleted { run, .. }
            | Event::ActivityFailed { run, .. }
            | Event::AttemptFailed { run, .. }
                if run.ended_at != Timestamp::default() =>
            {
                run.ended_at
            }
            _ => self.at,
        }
    }
}

/// Flattens turns to numbered events.
pub(crate) fn events_of(turns: Vec<Turn>) -> Vec<HistoryEvent> {
    let mut events = Vec::new();
    for turn in turns {
        let (first, number, at) = (turn.first_event, turn.number, turn.at);
        let numbered = turn.received.into_iter().chain(turn.produced).enumerate();
        events.extend(numbered.map(|(i, event)| HistoryEvent {
            number: first + i as u64,
            turn: number,
            at,
            event,
        }));
    }
    events
}

/// An event as JSON: the type in `event` determines which other fields are present.
#[skip_serializing_none]
#[serde_as]
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "HistoryEvent")]
struct EventJson {
    number: u64,
    turn: u32,
    #[serde_as(as = "TimeText")]
    at: Timestamp,
    event: Cow<'static, str>,
    #[serde_as(as = "Option<TimeText>")]
    now: Option<Timestamp>,
    #[schemars(with = "Option<u32>")]
    task: Option<TaskId>,
    event_number: Option<u32>,
    /// The id of a request, unique within the instance that is asked.
    request_id: Option<String>,
    instance_id: Option<String>,
    execution_id: Option<String>,
    name: Option<String>,
    version: Option<String>,
    #[serde(default, skip_serializing_if = "RunBy::is_unknown")]
    #[schemars(with = "Option<String>")]
    run_by: RunBy,
    #[serde_as(as = "Payload")]
    #[serde(default)]
    input: Option<Json>,
    parent_instance_id: Option<String>,
    #[serde_as(as = "Option<HexDigest>")]
    module: Option<Digest>,
    #[serde_as(as = "Map<_, _>")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Tags,
    #[serde_as(as = "Payload")]
    #[serde(default)]
    output: Option<Json>,
    #[serde_as(as = "Payload")]
    #[serde(default)]
    data: Option<Json>,
    #[serde_as(as = "Payload")]
    #[serde(default)]
    value: Option<Json>,
    key: Option<String>,
    tag_value: Option<String>,
    attempt: Option<u32>,
    #[serde_as(as = "Option<TimeText>")]
    due: Option<Timestamp>,
    #[serde_as(as = "Option<FailureJson>")]
    failure: Option<Failure>,
    #[schemars(with = "Option<u32>")]
    cause: Option<TaskId>,
    #[serde_as(as = "Option<TimeText>")]
    started_at: Option<Timestamp>,
    #[serde_as(as = "Option<TimeText>")]
    ended_at: Option<Timestamp>,
    #[serde_as(as = "Option<TimeText>")]
    fire_at: Option<Timestamp>,
    reason: Option<String>,
    #[schemars(with = "Option<u64>")]
    heartbeat_timeout_ms: Option<Millis>,
    at_most_once: Option<bool>,
    /// What a child was told: `cancel` or `terminate`.
    command: Option<CommandJson>,
    /// Whether a cancellation came from the time limit of the execution.
    timed_out: Option<bool>,
    /// When an execution is ended that was asked to cancel.
    #[serde_as(as = "Option<TimeText>")]
    deadline: Option<Timestamp>,
    /// Which instances a new one may replace: `never`; `ended` where it is left out.
    reuse: Option<ReuseJson>,
    /// What becomes of a child that is dropped: `cancel` or `terminate`; it runs on where it is left out.
    when_dropped: Option<CommandJson>,
    /// How long an instance may run.
    execution_timeout_ms: Option<u64>,
}

/// As [`ChildCommand`].
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", remote = "ChildCommand")]
enum ChildCommandJson {
    Cancel,
    Terminate,
}

/// A [`ChildCommand`] as JSON.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
struct CommandJson(
    #[serde(with = "ChildCommandJson")]
    #[schemars(with = "ChildCommandJson")]
    ChildCommand,
);

/// As [`IdReuse`].
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum ReuseJson {
    Ended,
    Never,
}

/// Declares the JSON fields of each event, under their own names or renamed (`number as event_number`). `run` stands for the attempt that
/// the event came from. Fields listed as `absent` are not written, and read as the given value.
macro_rules! events {
    ($($kind:ident {
        $($field:ident),* $(| $other:ident as $named:ident)* $(; run $run:ident)? $(; absent $($absent:ident: $value:expr),*)?
    })*) => {
        impl From<HistoryEvent> for EventJson {
            fn from(history: HistoryEvent) -> Self {
                let json = Self {
                    number: history.number,
                    turn: history.turn,
                    at: history.at,
                    event: history.event.name().into(),
                    ..Self::default()
                };
                match history.event {
                    Event::ExecutionStarted(start) => json.with_start(*start),
                    Event::CancellationRequested(asked) => Self {
                        reason: asked.reason,
                        timed_out: Some(asked.timed_out),
                        deadline: Some(asked.deadline),
                        ..json
                    },
                    Event::RequestAnswered {
                        number,
                        id,
                        outcome,
                    } => {
                        let (output, failure) = match outcome {
                            Ok(output) => (output, None),
                            Err(failure) => (None, Some(failure)),
                        };
                        Self {
                            event_number: number,
                            request_id: Some(id),
                            output,
                            failure,
                            ..json
                        }
                    }
                    Event::InstanceOptions { task, options } => json.with_options(task, options),
                    Event::ChildCommanded {
                        task,
                        instance_id,
                        command,
                        reason,
                    } => Self {
                        task: Some(task),
                        instance_id: Some(instance_id),
                        command: Some(CommandJson(command)),
                        reason,
                        ..json
                    },
                    $(Event::$kind { $($field,)* $($other,)* $($run,)? .. } => Self {
                        $($field: $field.into(),)*
                        $($named: $other.into(),)*
                        $(
                            attempt: Some($run.attempt),
                            started_at: Some($run.started_at),
                            ended_at: Some($run.ended_at),
                        )?
                        ..json
                    },)*
                }
            }
        }

        impl EventJson {
            /// `None` for an event that only a later version knows.
            fn read(self) -> Option<Event> {
                Some(match &*self.event {
                    "ExecutionStarted" => Event::ExecutionStarted(Box::new(self.start())),
                    "CancellationRequested" => Event::CancellationRequested(Cancellation {
                        reason: self.reason,
                        timed_out: self.timed_out.unwrap_or_default(),
                        deadline: self.deadline.read(),
                    }),
                    "RequestAnswered" => Event::RequestAnswered {
                        number: self.event_number,
                        id: self.request_id.read(),
                        outcome: match self.failure {
                            Some(failure) => Err(failure),
                            None => Ok(self.output),
                        },
                    },
                    "InstanceOptions" => Event::InstanceOptions {
                        task: self.task,
                        options: self.options(),
                    },
                    "ChildCommanded" => Event::ChildCommanded {
                        task: self.task.read(),
                        instance_id: self.instance_id.read(),
                        command: self.command.map_or(ChildCommand::Cancel, |command| command.0),
                        reason: self.reason,
                    },
                    $(stringify!($kind) => Event::$kind {
                        $($run: AttemptRun {
                            attempt: self.attempt.read(),
                            started_at: self.started_at.read(),
                            ended_at: self.ended_at.read(),
                        },)?
                        $($field: self.$field.read(),)*
                        $($other: self.$named.read(),)*
                        $($($absent: $value,)*)?
                    },)*
                    _ => return None,
                })
            }
        }
    };
}

events! {
    TurnStarted { now; absent history_events: 0, history_bytes: 0 }
    ExternalEventRaised { name, data | number as event_number }
    ActivityScheduled { task, name, input | target as run_by; absent retry: None, attempt_timeout: None }
    ActivityCompleted { task, output; run run }
    ActivityFailed { task, failure; run run }
    AttemptFailed { task, failure; run run }
    ChildScheduled {
        task, name, version, instance_id, input | target as run_by; absent tags: Tags::new(), retry: None
    }
    ChildCompleted { task, output }
    ChildFailed { task, failure }
    ChildRetryScheduled { task, attempt, failure | at as due }
    ChildRetried { task, attempt, instance_id }
    TimerSet { task, fire_at }
    TimerFired { task }
    TaskCanceled { task }
    EventSent { instance_id, name, data }
    InstanceStarted { instance_id, name, version, input | target as run_by; absent tags: Tags::new() }
    InstanceStartSkipped { instance_id, reason }
    CustomStatusSet { value }
    ValueSet { name, value }
    TagSet { key | value as tag_value }
    RequestReceived { name, input | number as event_number | id as request_id }
    RequestSent { task, instance_id, name, input | id as request_id | refused as failure }
    RequestCompleted { task, output }
    RequestFailed { task, failure }
    ExecutionReturned { output }
    ExecutionCompleted { output }
    ExecutionFailed { failure, cause }
    ExecutionTerminated { reason }
    ExecutionSuspended { reason }
    ExecutionResumed { reason }
    ContinuedAsNew { input, version, execution_id; absent carry_over: Vec::new() }
    CallDetails { task, version, tags }
    ActivityOptions { task, at_most_once | heartbeat_timeout as heartbeat_timeout_ms }
    TimerSetAt { task | at as fire_at }
    ExecutionTimedOut { failure }
}

impl EventJson {
    fn with_options(self, task: Option<TaskId>, options: InstanceOptions) -> Self {
        Self {
            task,
            reuse: match options.reuse {
                IdReuse::Ended => None,
                IdReuse::Never => Some(ReuseJson::Never),
            },
            when_dropped: options.when_dropped.command().map(CommandJson),
            execution_timeout_ms: options.execution_timeout.map(|limit| limit.0),
            ..self
        }
    }

    fn options(&self) -> InstanceOptions {
        InstanceOptions {
            reuse: match self.reuse {
                Some(ReuseJson::Never) => IdReuse::Never,
                Some(ReuseJson::Ended) | None => IdReuse::Ended,
            },
            when_dropped: match self.when_dropped {
                Some(CommandJson(ChildCommand::Cancel)) => ChildPolicy::Cancel,
                Some(CommandJson(ChildCommand::Terminate)) => ChildPolicy::Terminate,
                None => ChildPolicy::Abandon,
            },
            execution_timeout: self.execution_timeout_ms.map(Millis),
        }
    }

    fn with_start(self, start: Start) -> Self {
        Self {
            instance_id: Some(start.instance_id),
            execution_id: Some(start.execution_id),
            name: Some(start.name),
            version: start.version,
            input: start.input,
            parent_instance_id: start.parent.map(|parent| parent.instance_id),
            module: start.module,
            tags: start.tags,
            ..self
        }
    }

    fn start(self) -> Start {
        Start {
            instance_id: self.instance_id.read(),
            execution_id: self.execution_id.read(),
            execution: 0,
            name: self.name.read(),
            version: self.version,
            input: self.input,
            parent: self.parent_instance_id.map(parent),
            tags: self.tags,
            trace_parent: None,
            seed: 0,
            module: self.module,
            limits: Limits::default(),
            next_external: 0,
            semantics: SEMANTICS_VERSION,
            accepted_at: self.at,
            scheduled_for: None,
        }
    }
}

fn parent(instance_id: String) -> Parent {
    Parent {
        instance_id,
        name: String::new(),
        task: TaskRef {
            execution: 0,
            generation: 0,
            task: TaskId::default(),
        },
        attempt: 1,
    }
}

/// What runs a task or an instance: `worker`, `native`, or `module` and a digest. Unknown if nothing runs it, which a later failure explains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
struct RunBy(Target);

/// Before the digest of a module.
const RUN_BY_MODULE: &str = "module ";

impl Default for RunBy {
    fn default() -> Self {
        Self(Target::Unknown)
    }
}

impl RunBy {
    fn is_unknown(&self) -> bool {
        self.0 == Target::Unknown
    }
}

impl From<Target> for RunBy {
    fn from(target: Target) -> Self {
        match target {
            Target::Module(_) | Target::Native | Target::Remote | Target::Unknown => Self(target),
            Target::Oversized { .. } | Target::Invalid(_) | Target::Full(_) => Self::default(),
        }
    }
}

impl From<RunBy> for String {
    fn from(RunBy(target): RunBy) -> Self {
        match target {
            Target::Module(digest) => format!("{RUN_BY_MODULE}{digest}"),
            Target::Native => "native".to_owned(),
            Target::Remote => "worker".to_owned(),
            Target::Unknown | Target::Oversized { .. } | Target::Invalid(_) | Target::Full(_) => {
                Self::new()
            }
        }
    }
}

impl From<String> for RunBy {
    /// A text that only a later version knows is read as unknown.
    fn from(text: String) -> Self {
        let module = || Digest::from_hex(text.strip_prefix(RUN_BY_MODULE)?);
        Self(match text.as_str() {
            "native" => Target::Native,
            "worker" => Target::Remote,
            _ => module().map_or(Target::Unknown, Target::Module),
        })
    }
}

impl Read<Target> for RunBy {
    fn read(self) -> Target {
        self.0
    }
}

/// Converts a JSON field to a field of an event. If a required field is absent, it gets an empty value.
trait Read<T> {
    fn read(self) -> T;
}

impl<T> Read<Self> for Option<T> {
    fn read(self) -> Self {
        self
    }
}

impl Read<Self> for Tags {
    fn read(self) -> Self {
        self
    }
}

impl Read<Failure> for Option<Failure> {
    fn read(self) -> Failure {
        self.unwrap_or_else(|| Failure::permanent("", ""))
    }
}

macro_rules! empty_if_absent {
    ($($type:ty),*) => {$(impl Read<$type> for Option<$type> {
        fn read(self) -> $type {
            self.unwrap_or_default()
        }
    })*};
}

empty_if_absent!(TaskId, String, Timestamp, bool, u32);

impl TryFrom<EventJson> for HistoryEvent {
    type Error = String;

    fn try_from(json: EventJson) -> Result<Self, String> {
        let (number, turn, at) = (json.number, json.turn, json.at);
        let kind = json.event.clone();
        let event = json.read().ok_or_else(|| {
            format!("{kind:?} is no event that this version knows; the host is newer")
        })?;
        Ok(Self {
            number,
            turn,
            at,
            event,
        })
    }
}
