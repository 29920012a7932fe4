//! What a live instance waits for, and what still runs below an ended one.

use perennial_core::{Event, FailedAttempt, Failure, Quarantine, Status, TaskId, Timestamp, Turn};
use serde::Serialize;
use serde::ser::SerializeMap;

use crate::client::history::{FailureJson, rfc3339};
use crate::engine::flight;
use crate::store::{
    InstanceKey, InstanceRow, Reader, StoreError, TaskRow, TaskRowKind, WasRunning, is_owned,
};

/// Waits listed for one instance: enough to see why, not a dump of a wide fan-out.
const WAITS_MAX: u32 = 100;

/// Turns read at once.
const TURNS_PAGE: u32 = 512;

/// Something that an instance waits for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Wait {
    /// A message with this name.
    ExternalEvent {
        /// As the orchestration named it.
        name: String,
    },
    /// An activity.
    Activity {
        /// Its task.
        task: TaskId,
        /// Its name.
        name: String,
        /// The attempt that runs or comes next. Those that the death of their host cut off count too.
        attempt: u32,
        /// When the attempt began that runs now; `None` where none does: it is queued, or waits for its time.
        running_since: Option<Timestamp>,
        /// When the next attempt starts, where one failed.
        next_attempt_at: Option<Timestamp>,
        /// Why the last attempt failed.
        last_failure: Option<Failure>,
        /// Attempts that failed or were cut off, in order: the first one and the last ones.
        failed_attempts: Vec<FailedAttempt>,
    },
    /// A timer.
    Timer {
        /// Its task.
        task: TaskId,
        /// When it comes due.
        due: Timestamp,
    },
    /// Its scheduled start.
    Start {
        /// When it may begin.
        due: Timestamp,
    },
    /// A child that has not ended.
    Child {
        /// Its id.
        instance_id: String,
        /// Its status.
        status: Status,
    },
    /// The orchestration's own words.
    Note(String),
    /// The host cannot go on with it, and why.
    Quarantine(Box<Quarantine>),
    /// It was never run, because no host runs the hub.
    Host,
    /// It was never run, because the host that runs the hub has not come to it yet.
    FirstTurn,
    /// Nothing that it names, and nothing that happens by itself. Only an event or a command from outside changes that.
    Nothing,
}

/// What it waits for, and how much more than is named.
pub(super) fn waits(reader: &Reader, row: &InstanceRow) -> Result<(Vec<Wait>, u64), StoreError> {
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
    // A wide fan-out is one turn: it is read once and not for each of its calls.
    let mut turn = None;
    for task in tasks {
        waits.extend(wait_for(reader, row, task, &running, &mut turn)?);
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
    // What is in the inbox is about to be handled, and says then what is waited for.
    if row.status == Status::Running
        && !waits.iter().any(says_more)
        && reader.inbox(row.key, 0, 1)?.envelopes.is_empty()
    {
        waits.push(Wait::Nothing);
    }
    Ok((waits, more))
}

fn wait_for(
    reader: &Reader,
    row: &InstanceRow,
    task: TaskRow,
    running: &[WasRunning],
    read: &mut Option<Turn>,
) -> Result<Option<Wait>, StoreError> {
    let id = task.task.task;
    Ok(match (task.kind, task.due) {
        (TaskRowKind::Timer, Some(due)) => Some(Wait::Timer { task: id, due }),
        (TaskRowKind::Activity, due) => {
            if read.as_ref().is_none_or(|turn| turn.number != task.turn) {
                *read = reader.turns(row.key, row.execution, task.turn, 1)?.pop();
            }
            let name = read
                .iter()
                .flat_map(|turn| &turn.produced)
                .find_map(|event| {
                    let Event::ActivityScheduled { task, name, .. } = event else {
                        return None;
                    };
                    (*task == id).then(|| name.clone())
                });
            let now = running.iter().find(|now| now.task == Some(id));
            name.map(|name| Wait::Activity {
                task: id,
                name,
                attempt: task.attempt.saturating_add(task.deliveries),
                running_since: now.and_then(|now| now.started_at),
                next_attempt_at: due.filter(|_| now.is_none()),
                last_failure: task.failure,
                failed_attempts: task.attempts,
            })
        }
        (TaskRowKind::Start, Some(due)) => Some(Wait::Start { due }),
        (TaskRowKind::ChildRetry, Some(due)) => Some(Wait::Timer { task: id, due }),
        (TaskRowKind::Timer | TaskRowKind::ChildRetry | TaskRowKind::Start, None) => None,
    })
}

/// What still runs though the instance has ended: attempts that nobody waits for, which keep a place until they end, and children.
pub(super) fn still_runs(reader: &Reader, row: &InstanceRow) -> Result<Vec<Wait>, StoreError> {
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

/// Fills in the names of activities whose rows are gone, from the history.
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

/// The attempts of an instance that run now, in whatever process owns the hub.
fn running(reader: &Reader, key: InstanceKey) -> Vec<WasRunning> {
    let mut running = flight::look(reader.path());
    running.retain(|now| now.key == key && now.task.is_some());
    if !running.is_empty() && !is_owned(reader.path()) {
        // Nobody runs anything: what is noted there was cut off.
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
            } => {
                write!(f, "activity {name:?} (task {task}, attempt {attempt}")?;
                match (running_since, next_attempt_at) {
                    (Some(at), _) => write!(f, ", running since {}", rfc3339(*at))?,
                    (None, Some(at)) => write!(f, " at {}", rfc3339(*at))?,
                    (None, None) => f.write_str(", queued")?,
                }
                // The last attempt may have been cut off, which is no failure of the activity.
                let last = failed_attempts.last().map(|last| &last.failure);
                if let Some(failure) = last.or(last_failure.as_ref()) {
                    write!(f, "; the last one failed with {failure}")?;
                }
                f.write_str(")")
            }
            Self::Timer { task, due } => write!(f, "timer (task {task}) due {}", rfc3339(*due)),
            Self::Start { due } => write!(f, "its start, scheduled for {}", rfc3339(*due)),
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

impl Serialize for Wait {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::ExternalEvent { name } => {
                map.serialize_entry("kind", "externalEvent")?;
                map.serialize_entry("name", name)?;
            }
            Self::Activity {
                task,
                name,
                attempt,
                running_since,
                next_attempt_at,
                last_failure,
                failed_attempts,
            } => {
                map.serialize_entry("kind", "activity")?;
                map.serialize_entry("task", task)?;
                map.serialize_entry("name", name)?;
                map.serialize_entry("attempt", attempt)?;
                let state = match (running_since, next_attempt_at) {
                    (Some(_), _) => "running",
                    (None, Some(_)) => "waiting",
                    (None, None) => "queued",
                };
                map.serialize_entry("state", state)?;
                if let Some(at) = running_since {
                    map.serialize_entry("runningSince", &rfc3339(*at))?;
                }
                if let Some(at) = next_attempt_at {
                    map.serialize_entry("nextAttemptTime", &rfc3339(*at))?;
                }
                if let Some(failure) = last_failure {
                    map.serialize_entry("lastFailure", &FailureJson::from(failure))?;
                }
                if !failed_attempts.is_empty() {
                    let attempts: Vec<_> = failed_attempts.iter().map(AttemptJson::from).collect();
                    map.serialize_entry("failedAttempts", &attempts)?;
                }
            }
            Self::Timer { task, due } => {
                map.serialize_entry("kind", "timer")?;
                map.serialize_entry("task", task)?;
                map.serialize_entry("due", &rfc3339(*due))?;
            }
            Self::Start { due } => {
                map.serialize_entry("kind", "start")?;
                map.serialize_entry("due", &rfc3339(*due))?;
            }
            Self::Child {
                instance_id,
                status,
            } => {
                map.serialize_entry("kind", "child")?;
                map.serialize_entry("instanceId", instance_id)?;
                map.serialize_entry("runtimeStatus", status.name())?;
            }
            Self::Note(note) => {
                map.serialize_entry("kind", "note")?;
                map.serialize_entry("note", note)?;
            }
            Self::Quarantine(why) => {
                map.serialize_entry("kind", "quarantine")?;
                map.serialize_entry("reason", &why.reason)?;
            }
            Self::Host => map.serialize_entry("kind", "host")?,
            Self::FirstTurn => map.serialize_entry("kind", "firstTurn")?,
            Self::Nothing => map.serialize_entry("kind", "nothing")?,
        }
        map.end()
    }
}

/// An attempt that failed or was cut off, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AttemptJson<'a> {
    attempt: u32,
    started_at: String,
    ended_at: String,
    failure: FailureJson<'a>,
}

impl<'a> From<&'a FailedAttempt> for AttemptJson<'a> {
    fn from(failed: &'a FailedAttempt) -> Self {
        let run = failed.run;
        Self {
            attempt: run.attempt,
            started_at: rfc3339(run.started_at),
            ended_at: rfc3339(run.ended_at),
            failure: FailureJson::from(&failed.failure),
        }
    }
}
