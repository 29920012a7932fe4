//! The waits of a live instance, and what still runs below an ended one.

use std::borrow::Cow;

use perennial_core::{
    Event, FailedAttempt, Failure, Quarantine, Status, Target, TaskId, Timestamp, Turn,
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_with::schemars_1::JsonSchemaAs;
use serde_with::{DeserializeAs, FromInto, SerializeAs, serde_as, skip_serializing_none};

use crate::client::json::{FailedAttemptJson, FailureJson, StatusName, TimeText};
use crate::engine::remote::Progress;
use crate::engine::remote::dispatch::Work;
use crate::engine::{Engine, flight};
use crate::store::{
    InstanceKey, InstanceRow, Reader, StoreError, TaskRow, TaskRowKind, WasRunning, is_owned,
};

/// The most waits listed for one instance, so that a wide fan-out does not flood its status.
const WAITS_MAX: u32 = 100;

/// Turns per read.
const TURNS_PAGE: u32 = 512;

/// Something that an instance waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(into = "WaitJson", try_from = "WaitJson")]
#[non_exhaustive]
pub enum Wait {
    /// An external event.
    ExternalEvent {
        /// The name, as the orchestration gave it.
        name: String,
    },
    /// An activity.
    Activity {
        /// The id of its task.
        task: TaskId,
        /// The name of the activity.
        name: String,
        /// The number of the current or next attempt. Attempts that a host crash cut off count too.
        attempt: u32,
        /// When the current attempt started; `None` if none runs.
        running_since: Option<Timestamp>,
        /// When the next attempt starts, after a failed one.
        next_attempt_at: Option<Timestamp>,
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

/// Replaces the wait for a host, after it was found that a host runs the hub.
pub(in crate::client) fn is_hosted(waits: &mut Vec<Wait>) {
    if waits.iter().any(|wait| matches!(wait, Wait::Worker { .. })) {
        waits.retain(|wait| *wait != Wait::Host);
    } else if waits.first() == Some(&Wait::Host) {
        *waits = vec![Wait::FirstTurn];
    }
}

/// The waits of an instance, and the number of those that are not listed. `host` is the engine that runs it, in the host's process.
pub(in crate::client) fn waits(
    reader: &Reader,
    row: &InstanceRow,
    host: Option<&Engine>,
) -> Result<(Vec<Wait>, u64), StoreError> {
    let mut waits = Vec::new();
    waits.extend(row.quarantine.clone().map(Box::new).map(Wait::Quarantine));
    waits.extend(row.waiting.note.clone().map(Wait::Note));
    waits.extend(
        row.waiting
            .events
            .iter()
            .map(|name| Wait::ExternalEvent { name: name.clone() }),
    );
    let (tasks, all_tasks) = reader.first_tasks(row.key, WAITS_MAX)?;
    let (children, all_children) = reader.live_children(row.key, WAITS_MAX)?;
    let more = all_tasks - tasks.len() as u64 + all_children - children.len() as u64;
    let is_activity = |task: &TaskRow| task.kind == TaskRowKind::Activity;
    let running = if tasks.iter().any(is_activity) {
        running(reader, row.key)
    } else {
        Vec::new()
    };
    let is_scheduled = tasks.iter().any(|task| task.kind == TaskRowKind::Start);
    if !is_scheduled && let Some(wait) = wait_for_worker(reader, row, host)? {
        waits.extend([Wait::Host, wait]);
    }
    let mut calls = Calls {
        reader,
        row,
        host,
        running,
        turn: None,
    };
    for task in tasks {
        waits.extend(calls.wait_for(task)?);
    }
    waits.extend(
        children
            .into_iter()
            .map(|(instance_id, status)| Wait::Child {
                instance_id,
                status,
            }),
    );
    if row.status == Status::Pending && waits.is_empty() {
        waits.push(Wait::Host);
    }
    let says_more = |wait: &Wait| !matches!(wait, Wait::Note(_));
    // A message in the inbox is about to run a turn, after which the instance names its waits.
    if row.status == Status::Running
        && !waits.iter().any(says_more)
        && reader.inbox(row.key, 0, 1)?.envelopes.is_empty()
    {
        waits.push(Wait::Nothing);
    }
    Ok((waits, more))
}

/// The wait for a worker, if the next turn of the instance is one for a worker.
fn wait_for_worker(
    reader: &Reader,
    row: &InstanceRow,
    host: Option<&Engine>,
) -> Result<Option<Wait>, StoreError> {
    let may_run = matches!(row.status, Status::Pending | Status::Running);
    if row.module.is_some() || !may_run || row.quarantine.is_some() {
        return Ok(None);
    }
    // Messages may be only in the memory of the host.
    let progress = host.and_then(|host| host.progress_of(Work::Turn(row.key)));
    if progress.is_none() && reader.inbox(row.key, 0, 1)?.envelopes.is_empty() {
        return Ok(None);
    }
    Ok(Some(Wait::Worker {
        name: row.name.clone(),
        running_since: progress.and_then(Progress::since),
    }))
}

/// Reads the tasks that an instance waits for.
struct Calls<'a> {
    reader: &'a Reader,
    row: &'a InstanceRow,
    host: Option<&'a Engine>,
    running: Vec<WasRunning>,
    /// The turn that was read last: that of a wide fan-out is read once, and not for each of its calls.
    turn: Option<Turn>,
}

impl Calls<'_> {
    fn wait_for(&mut self, task: TaskRow) -> Result<Option<Wait>, StoreError> {
        let id = task.task.task;
        Ok(match (task.kind, task.due) {
            (TaskRowKind::Timer, Some(due)) => Some(Wait::Timer { task: id, due }),
            (TaskRowKind::Activity, _) => self.activity(task)?,
            (TaskRowKind::Start, Some(due)) => Some(Wait::Start { due }),
            (TaskRowKind::ChildRetry, Some(due)) => Some(Wait::Timer { task: id, due }),
            (TaskRowKind::Timer | TaskRowKind::ChildRetry | TaskRowKind::Start, None) => None,
        })
    }

    fn activity(&mut self, row: TaskRow) -> Result<Option<Wait>, StoreError> {
        let (key, execution) = (self.row.key, self.row.execution);
        if self
            .turn
            .as_ref()
            .is_none_or(|turn| turn.number != row.turn)
        {
            self.turn = self.reader.turns(key, execution, row.turn, 1)?.pop();
        }
        let produced = self.turn.iter().flat_map(|turn| &turn.produced);
        let call = produced.into_iter().find_map(|event| match event {
            Event::ActivityScheduled {
                task, name, target, ..
            } if *task == row.task.task => Some((name.clone(), target)),
            _ => None,
        });
        let Some((name, recorded)) = call else {
            return Ok(None);
        };
        let is_remote = *row.target.as_ref().unwrap_or(recorded) == Target::Remote;
        let work = Work::Activity((key, row.task));
        let host = self.host.filter(|_| is_remote);
        let progress = host.and_then(|host| host.progress_of(work));
        let now = self.running.iter();
        let now = now.clone().find(|now| now.task == Some(row.task.task));
        Ok(Some(Wait::Activity {
            task: row.task.task,
            name,
            attempt: row.attempt.saturating_add(row.deliveries),
            running_since: match progress {
                Some(progress) => progress.since(),
                None => now.and_then(|now| now.started_at),
            },
            next_attempt_at: row.due.filter(|_| now.is_none() && progress.is_none()),
            last_failure: row.failure,
            failed_attempts: row.attempts,
            at_worker: is_remote.then_some(match progress {
                Some(Progress::Waits) => AtWorker::Waits,
                Some(Progress::Runs(_)) => AtWorker::Runs,
                None => AtWorker::Unknown,
            }),
        }))
    }
}

/// What still runs below an ended instance: attempts, which occupy a slot until they end, and children.
pub(in crate::client) fn still_runs(
    reader: &Reader,
    row: &InstanceRow,
) -> Result<Vec<Wait>, StoreError> {
    let (children, _) = reader.live_children(row.key, WAITS_MAX)?;
    let mut found: Vec<Wait> = running(reader, row.key)
        .into_iter()
        .filter_map(|now| Some((now.task?, now.started_at)))
        .map(|(task, running_since)| Wait::Activity {
            task,
            name: String::new(),
            attempt: 1,
            running_since,
            next_attempt_at: None,
            last_failure: None,
            failed_attempts: Vec::new(),
            at_worker: None,
        })
        .collect();
    if !found.is_empty() {
        name_activities(reader, row, &mut found)?;
    }
    found.extend(
        children
            .into_iter()
            .map(|(instance_id, status)| Wait::Child {
                instance_id,
                status,
            }),
    );
    Ok(found)
}

/// Looks up names of activities in the history, because their rows are gone.
fn name_activities(
    reader: &Reader,
    row: &InstanceRow,
    found: &mut [Wait],
) -> Result<(), StoreError> {
    let mut from = 0;
    loop {
        let turns = reader.turns(row.key, row.execution, from, TURNS_PAGE)?;
        let events = turns.iter().flat_map(|turn| &turn.produced);
        for event in events {
            let Event::ActivityScheduled {
                task: id,
                name: called,
                ..
            } = event
            else {
                continue;
            };
            for wait in found.iter_mut() {
                if let Wait::Activity { task, name, .. } = wait
                    && task == id
                {
                    name.clone_from(called);
                }
            }
        }
        if turns.len() < TURNS_PAGE as usize {
            return Ok(());
        }
        from += TURNS_PAGE;
    }
}

/// The running attempts of an instance, in the process that owns the hub.
fn running(reader: &Reader, key: InstanceKey) -> Vec<WasRunning> {
    let mut running = flight::look(reader.path());
    running.retain(|now| now.key == key && now.task.is_some());
    if !running.is_empty() && !is_owned(reader.path()) {
        // No process owns the hub: the noted attempts were cut off.
        running.clear();
    }
    running
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ExternalEvent { name } => write!(f, "external event {name:?}"),
            Self::Activity {
                task,
                name,
                attempt,
                running_since,
                next_attempt_at,
                last_failure,
                failed_attempts,
                at_worker,
            } => {
                write!(f, "activity {name:?} (task {task}, attempt {attempt}")?;
                match (running_since, next_attempt_at, at_worker) {
                    (Some(at), _, None) => write!(f, ", running since {at}")?,
                    (Some(at), _, Some(_)) => write!(f, ", at a worker since {at}")?,
                    (None, Some(at), _) => write!(f, " at {at}")?,
                    (None, None, None) => f.write_str(", queued")?,
                    (None, None, Some(AtWorker::Waits)) => f.write_str(", waits for a worker")?,
                    (None, None, Some(_)) => f.write_str(", for a worker")?,
                }
                // A cut-off attempt is not a failure of the activity.
                let last = failed_attempts.last().map(|last| &last.failure);
                if let Some(failure) = last.or(last_failure.as_ref()) {
                    write!(f, "; the last one failed with {failure}")?;
                }
                f.write_str(")")
            }
            Self::Worker {
                name,
                running_since,
            } => {
                write!(f, "a worker that runs orchestration {name:?}")?;
                match running_since {
                    Some(at) => write!(f, "; one has its turn since {at}"),
                    None => Ok(()),
                }
            }
            Self::Timer { task, due } => write!(f, "timer (task {task}) due {due}"),
            Self::Start { due } => write!(f, "its start, scheduled for {due}"),
            Self::Child {
                instance_id,
                status,
            } => write!(f, "child {instance_id:?}, which is {status}"),
            Self::Note(note) => f.write_str(note),
            Self::Quarantine(why) => write!(f, "quarantined: {why}"),
            Self::Host => f.write_str("a host that runs it"),
            Self::FirstTurn => f.write_str("its first turn, which the host has not come to"),
            Self::Nothing => f.write_str(
                "nothing that it names: no activity, timer, child or event; only an event or a command from outside can move it on",
            ),
        }
    }
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
    state: Option<AttemptState>,
    #[serde_as(as = "Option<TimeText>")]
    running_since: Option<Timestamp>,
    #[serde_as(as = "Option<TimeText>")]
    next_attempt_time: Option<Timestamp>,
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
    note: Option<String>,
    reason: Option<String>,
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
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::ExternalEvent { name } => Self {
                name: Some(name),
                ..Self::of("externalEvent")
            },
            Wait::Activity {
                task,
                name,
                attempt,
                running_since,
                next_attempt_at,
                last_failure,
                failed_attempts,
                at_worker,
            } => Self {
                task: Some(task),
                name: Some(name),
                attempt: Some(attempt),
                state: match (running_since, next_attempt_at, at_worker) {
                    (Some(_), _, _) => Some(AttemptState::Running),
                    (None, Some(_), _) => Some(AttemptState::Waiting),
                    (None, None, Some(AtWorker::Unknown)) => None,
                    (None, None, _) => Some(AttemptState::Queued),
                },
                running_since,
                next_attempt_time: next_attempt_at,
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
            } => Self {
                instance_id: Some(instance_id),
                runtime_status: Some(status),
                ..Self::of("child")
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
            "activity" => Wait::Activity {
                task: self.task?,
                name: self.name?,
                attempt: self.attempt?,
                running_since: self.running_since,
                next_attempt_at: self.next_attempt_time,
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
