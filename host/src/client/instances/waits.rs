//! What an instance can wait for, and that as JSON; `wait_words.rs` says it in words.

use std::borrow::Cow;

use perennial_core::{
    ChildPolicy, FailedAttempt, Failure, Json, Quarantine, Status, TaskId, Timestamp,
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_with::schemars_1::JsonSchemaAs;
use serde_with::{DeserializeAs, FromInto, SerializeAs, serde_as, skip_serializing_none};

use crate::client::json::{FailedAttemptJson, FailureJson, Payload, StatusName, TimeText};

/// Something that an instance waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(into = "WaitJson", try_from = "WaitJson")]
#[non_exhaustive]
#[expect(
    clippy::large_enum_variant,
    reason = "most waits are activities, and a status has few"
)]
pub enum Wait {
    /// An external event.
    ExternalEvent {
        /// The name, as the orchestration gave it.
        name: String,
    },
    /// A request, which the orchestration is ready to answer.
    Request {
        /// The name, as the orchestration gave it.
        name: String,
    },
    /// The answer to a request that it has sent.
    Answer {
        /// The id of its task.
        task: TaskId,
        /// The name of the request.
        name: String,
        /// The id of the instance that is asked.
        instance_id: String,
    },
    /// An activity.
    Activity {
        /// The id of its task.
        task: TaskId,
        /// The name of the activity.
        name: String,
        /// The number of the current or next attempt. Attempts that a host crash cut off count too.
        attempt: u32,
        /// The number of attempts that its retry policy permits; `None` without a policy or a limit.
        attempts_max: Option<u32>,
        /// When the current attempt started; `None` if none runs.
        running_since: Option<Timestamp>,
        /// Since when the current attempt waits for a free place; `None` if it runs, or if its time has not come.
        queued_since: Option<Timestamp>,
        /// When the next attempt starts, after a failed one.
        next_attempt_at: Option<Timestamp>,
        /// The last heartbeat of the current attempt, or of one before it.
        heartbeat: Option<Heartbeat>,
        /// Why the last attempt failed.
        last_failure: Option<Failure>,
        /// Failed and cut-off attempts, in order: the first and the last ones.
        failed_attempts: Vec<FailedAttempt>,
        /// How far it is, if a remote worker runs it; `None` for other activities.
        at_worker: Option<AtWorker>,
    },
    /// A remote worker that runs its orchestration, for its next turn.
    Worker {
        /// The name of the orchestration.
        name: String,
        /// When a worker got the turn. `None` if no worker has it yet, or if the status was read in another process than the host's, which
        /// cannot know.
        running_since: Option<Timestamp>,
    },
    /// A timer.
    Timer {
        /// The id of its task.
        task: TaskId,
        /// When the timer is due.
        due: Timestamp,
    },
    /// The scheduled start of the instance.
    Start {
        /// When the instance may begin.
        due: Timestamp,
    },
    /// A child that has not ended.
    Child {
        /// The id of the child.
        instance_id: String,
        /// The status of the child.
        status: Status,
        /// What becomes of it when its parent ends first, as the parent said when it started it.
        when_dropped: ChildPolicy,
    },
    /// To be resumed: it is suspended, and none of its other waits moves it on until then.
    Resume {
        /// Why it was suspended, if a reason was given.
        reason: Option<String>,
    },
    /// A text that the orchestration supplied.
    Note(String),
    /// The host quarantined the instance, for this reason.
    Quarantine(Box<Quarantine>),
    /// No host runs the hub, so that the instance never ran, or no worker can get its next turn.
    Host,
    /// The instance never ran, because the host has not reached it yet.
    FirstTurn,
    /// Nothing by itself: only an external event or a command lets it continue.
    Nothing,
}

/// A heartbeat of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Heartbeat {
    /// When it was sent.
    pub at: Timestamp,
    /// The last details that an attempt of the activity sent.
    pub details: Option<Json>,
}

impl Heartbeat {
    pub(in crate::client) fn new(at: Timestamp, details: Option<Json>) -> Self {
        Self { at, details }
    }
}

/// How far an activity is that remote workers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
#[non_exhaustive]
pub enum AtWorker {
    /// No connected worker that runs it has room.
    Waits,
    /// A worker has it.
    Runs,
    /// Only the host's process knows whether a worker has it.
    Unknown,
}

/// A wait as JSON: `kind` determines which other fields are present.
#[skip_serializing_none]
#[serde_as]
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Wait")]
pub(crate) struct WaitJson {
    kind: Cow<'static, str>,
    #[schemars(with = "Option<u32>")]
    task: Option<TaskId>,
    name: Option<String>,
    attempt: Option<u32>,
    max_attempts: Option<u32>,
    state: Option<AttemptState>,
    #[serde_as(as = "Option<TimeText>")]
    running_since: Option<Timestamp>,
    #[serde_as(as = "Option<TimeText>")]
    queued_since: Option<Timestamp>,
    #[serde_as(as = "Option<TimeText>")]
    next_attempt_time: Option<Timestamp>,
    #[serde_as(as = "Option<TimeText>")]
    last_heartbeat_time: Option<Timestamp>,
    #[serde_as(as = "Payload")]
    #[serde(default)]
    last_heartbeat: Option<Json>,
    #[serde_as(as = "Option<FailureJson>")]
    last_failure: Option<Failure>,
    #[serde_as(as = "Vec<FromInto<FailedAttemptJson>>")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    failed_attempts: Vec<FailedAttempt>,
    worker: Option<AtWorker>,
    #[serde_as(as = "Option<TimeText>")]
    due: Option<Timestamp>,
    instance_id: Option<String>,
    #[serde_as(as = "Option<StatusName>")]
    runtime_status: Option<Status>,
    /// What becomes of a child when its parent ends first: `cancel` or `terminate`; it runs on where it is left out.
    when_dropped: Option<EndOfChild>,
    note: Option<String>,
    reason: Option<String>,
}

/// What a child is told when its parent ends.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
enum EndOfChild {
    Cancel,
    Terminate,
}

impl EndOfChild {
    fn of(policy: ChildPolicy) -> Option<Self> {
        match policy {
            ChildPolicy::Abandon => None,
            ChildPolicy::Cancel => Some(Self::Cancel),
            ChildPolicy::Terminate => Some(Self::Terminate),
        }
    }

    fn policy(told: Option<Self>) -> ChildPolicy {
        match told {
            None => ChildPolicy::Abandon,
            Some(Self::Cancel) => ChildPolicy::Cancel,
            Some(Self::Terminate) => ChildPolicy::Terminate,
        }
    }
}

/// The state of an awaited activity.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
enum AttemptState {
    Running,
    Queued,
    Waiting,
}

impl WaitJson {
    fn of(kind: &'static str) -> Self {
        Self {
            kind: kind.into(),
            ..Self::default()
        }
    }
}

impl From<Wait> for WaitJson {
    #[expect(
        clippy::too_many_lines,
        reason = "it is a table, with an arm for each wait"
    )]
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::ExternalEvent { name } => Self {
                name: Some(name),
                ..Self::of("externalEvent")
            },
            Wait::Request { name } => Self {
                name: Some(name),
                ..Self::of("request")
            },
            Wait::Answer {
                task,
                name,
                instance_id,
            } => Self {
                task: Some(task),
                name: Some(name),
                instance_id: Some(instance_id),
                ..Self::of("answer")
            },
            Wait::Activity {
                task,
                name,
                attempt,
                attempts_max,
                running_since,
                queued_since,
                next_attempt_at,
                heartbeat,
                last_failure,
                failed_attempts,
                at_worker,
            } => Self {
                task: Some(task),
                name: Some(name),
                attempt: Some(attempt),
                max_attempts: attempts_max,
                state: match (running_since, next_attempt_at, at_worker) {
                    (Some(_), _, _) => Some(AttemptState::Running),
                    (None, Some(_), _) => Some(AttemptState::Waiting),
                    (None, None, Some(AtWorker::Unknown)) => None,
                    (None, None, _) => Some(AttemptState::Queued),
                },
                running_since,
                queued_since,
                next_attempt_time: next_attempt_at,
                last_heartbeat_time: heartbeat.as_ref().map(|beat| beat.at),
                last_heartbeat: heartbeat.and_then(|beat| beat.details),
                last_failure,
                failed_attempts,
                worker: at_worker,
                ..Self::of("activity")
            },
            Wait::Worker {
                name,
                running_since,
            } => Self {
                name: Some(name),
                running_since,
                ..Self::of("worker")
            },
            Wait::Timer { task, due } => Self {
                task: Some(task),
                due: Some(due),
                ..Self::of("timer")
            },
            Wait::Start { due } => Self {
                due: Some(due),
                ..Self::of("start")
            },
            Wait::Child {
                instance_id,
                status,
                when_dropped,
            } => Self {
                instance_id: Some(instance_id),
                runtime_status: Some(status),
                when_dropped: EndOfChild::of(when_dropped),
                ..Self::of("child")
            },
            Wait::Resume { reason } => Self {
                reason,
                ..Self::of("resume")
            },
            Wait::Note(note) => Self {
                note: Some(note),
                ..Self::of("note")
            },
            Wait::Quarantine(why) => Self {
                reason: Some(why.reason),
                ..Self::of("quarantine")
            },
            Wait::Host => Self::of("host"),
            Wait::FirstTurn => Self::of("firstTurn"),
            Wait::Nothing => Self::of("nothing"),
        }
    }
}

impl WaitJson {
    /// `None` for a kind that only a later version knows. The only part of a quarantine in a wait is its reason.
    fn read(self) -> Option<Wait> {
        Some(match &*self.kind {
            "externalEvent" => Wait::ExternalEvent { name: self.name? },
            "request" => Wait::Request { name: self.name? },
            "answer" => Wait::Answer {
                task: self.task?,
                name: self.name?,
                instance_id: self.instance_id?,
            },
            "activity" => Wait::Activity {
                task: self.task?,
                name: self.name?,
                attempt: self.attempt?,
                attempts_max: self.max_attempts,
                running_since: self.running_since,
                queued_since: self.queued_since,
                next_attempt_at: self.next_attempt_time,
                heartbeat: self
                    .last_heartbeat_time
                    .map(|at| Heartbeat::new(at, self.last_heartbeat)),
                last_failure: self.last_failure,
                failed_attempts: self.failed_attempts,
                at_worker: self.worker,
            },
            "worker" => Wait::Worker {
                name: self.name?,
                running_since: self.running_since,
            },
            "timer" => Wait::Timer {
                task: self.task?,
                due: self.due?,
            },
            "start" => Wait::Start { due: self.due? },
            "child" => Wait::Child {
                instance_id: self.instance_id?,
                status: self.runtime_status?,
                when_dropped: EndOfChild::policy(self.when_dropped),
            },
            "resume" => Wait::Resume {
                reason: self.reason,
            },
            "note" => Wait::Note(self.note?),
            "quarantine" => Wait::Quarantine(Box::new(Quarantine::because(self.reason?))),
            "host" => Wait::Host,
            "firstTurn" => Wait::FirstTurn,
            "nothing" => Wait::Nothing,
            _ => return None,
        })
    }
}

impl TryFrom<WaitJson> for Wait {
    type Error = String;

    fn try_from(json: WaitJson) -> Result<Self, String> {
        let kind = json.kind.clone();
        let wait = json.read();
        wait.ok_or_else(|| format!("{kind:?} is no wait that this version knows"))
    }
}

/// A list of waits. Reading skips kinds that only a later version knows.
pub(crate) struct KnownWaits;

impl SerializeAs<Vec<Wait>> for KnownWaits {
    fn serialize_as<S: Serializer>(waits: &Vec<Wait>, to: S) -> Result<S::Ok, S::Error> {
        waits.serialize(to)
    }
}

impl<'de> DeserializeAs<'de, Vec<Wait>> for KnownWaits {
    fn deserialize_as<D: Deserializer<'de>>(from: D) -> Result<Vec<Wait>, D::Error> {
        let waits = Vec::<WaitJson>::deserialize(from)?;
        Ok(waits.into_iter().filter_map(WaitJson::read).collect())
    }
}

impl JsonSchemaAs<Vec<Wait>> for KnownWaits {
    fn schema_name() -> Cow<'static, str> {
        "Waits".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        Vec::<Wait>::json_schema(schemas)
    }
}
