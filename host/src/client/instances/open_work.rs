//! Reads what a live instance waits for, and what still runs below an ended one.

use perennial_core::{Event, Status, Target, TaskId, Timestamp, Turn};

use crate::client::instances::waits::{AtWorker, Heartbeat, Wait};
use crate::engine::Engine;
use crate::engine::remote::Progress;
use crate::engine::remote::dispatch::Work;
use crate::store::{
    InstanceKey, InstanceRow, LiveChild, Reader, StoreError, TaskRow, TaskRowKind, WasRunning,
};

/// The most waits listed for one instance, so that a wide fan-out does not flood its status.
const WAITS_MAX: u32 = 100;

/// Turns per read.
const TURNS_PAGE: u32 = 512;

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
    if row.status == Status::Suspended && row.quarantine.is_none() {
        waits.push(Wait::Resume {
            reason: reason(row),
        });
    }
    waits.extend(row.waiting.note.clone().map(Wait::Note));
    waits.extend(
        row.waiting
            .events
            .iter()
            .map(|name| Wait::ExternalEvent { name: name.clone() }),
    );
    let requests = row.waiting.requests.iter();
    waits.extend(requests.map(|name| Wait::Request { name: name.clone() }));
    let asked = reader.asked_by(row.key, row.position(), WAITS_MAX)?;
    // What it has dropped is not awaited any more.
    let asked = asked
        .into_iter()
        .filter(|(task, ..)| row.waiting.tasks.contains(task));
    waits.extend(asked.map(|(task, name, instance_id)| Wait::Answer {
        task,
        name,
        instance_id,
    }));
    let (tasks, all_tasks) = reader.first_tasks(row.key, WAITS_MAX)?;
    let (children, all_children) = reader.live_children(row.key, WAITS_MAX)?;
    let more = all_tasks - tasks.len() as u64 + all_children - children.len() as u64;
    let is_activity = |task: &TaskRow| task.kind == TaskRowKind::Activity;
    let running = if tasks.iter().any(is_activity) {
        running(reader, Some(row.key))
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
    waits.extend(children.into_iter().map(child));
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

fn child((instance_id, status, when_dropped): LiveChild) -> Wait {
    Wait::Child {
        instance_id,
        status,
        when_dropped,
    }
}

/// Why an instance was suspended.
fn reason(row: &InstanceRow) -> Option<String> {
    serde_json::from_str(row.output.as_ref()?.as_str()).ok()
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
            (TaskRowKind::Timer | TaskRowKind::TimerAt | TaskRowKind::ChildRetry, Some(due)) => {
                Some(Wait::Timer { task: id, due })
            }
            (TaskRowKind::Activity, _) => self.activity(task)?,
            (TaskRowKind::Start, Some(due)) => Some(Wait::Start { due }),
            // They end it; it does not wait for them.
            (TaskRowKind::Grace | TaskRowKind::Limit, _)
            | (
                TaskRowKind::Timer
                | TaskRowKind::TimerAt
                | TaskRowKind::ChildRetry
                | TaskRowKind::Start,
                None,
            ) => None,
        })
    }

    /// When an activity was queued: when its time came, or when an attempt was cut off after that, or by a rewind after it was scheduled.
    fn queued_since(&self, row: &TaskRow) -> Result<Timestamp, StoreError> {
        let since = row.due.map_or(row.set_at, |due| due.max(row.set_at));
        let rewound_at = match row.scheduled_in < row.task.generation {
            true => self
                .reader
                .rewinds(self.row)?
                .last()
                .map(|rewind| rewind.at),
            false => None,
        };
        Ok(rewound_at.map_or(since, |at| since.max(at)))
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
                task,
                name,
                target,
                retry,
                ..
            } if *task == row.task.task => {
                // This many are as good as no limit.
                let most = retry.as_ref().map(|retry| retry.max_attempts);
                let most = most.filter(|most| *most < u32::MAX);
                Some((name.clone(), target, most))
            }
            _ => None,
        });
        let Some((name, recorded, attempts_max)) = call else {
            return Ok(None);
        };
        let is_remote = *row.target.as_ref().unwrap_or(recorded) == Target::Remote;
        let work = Work::Activity((key, row.task));
        let host = self.host.filter(|_| is_remote);
        let progress = host.and_then(|host| host.progress_of(work));
        let now = self.running.iter();
        let now = now.clone().find(|now| now.task == Some(row.task.task));
        let running_since = match progress {
            Some(progress) => progress.since(),
            None => now.and_then(|now| now.started_at),
        };
        let host_now = self.host.map(|host| host.clock.now());
        let runs = now.is_some() || running_since.is_some();
        // Another process than the host's knows neither its clock nor its workers.
        let is_due = |due: &Timestamp| host_now.is_some_and(|now| *due <= now);
        let next = row.due.filter(|due| !runs && !is_due(due));
        let may_run = runs || (is_remote && self.host.is_none());
        let queued_since = self.queued_since(&row)?;
        let sent = self
            .host
            .and_then(|host| host.heartbeat_of((key, row.task)));
        let kept = row.heartbeat.as_ref();
        let kept = kept.map(|beat| (beat.at, beat.details.clone()));
        let number = row.number();
        Ok(Some(Wait::Activity {
            task: row.task.task,
            name,
            attempt: number,
            attempts_max,
            running_since,
            queued_since: (!may_run && next.is_none()).then_some(queued_since),
            next_attempt_at: next,
            heartbeat: sent
                .or(kept)
                .map(|(at, details)| Heartbeat::new(at, details)),
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
    let mut found: Vec<Wait> = running(reader, Some(row.key))
        .into_iter()
        .filter_map(|now| Some((now.task?, now.started_at)))
        .map(|(task, running_since)| Wait::Activity {
            task,
            name: String::new(),
            attempt: 1,
            attempts_max: None,
            running_since,
            queued_since: None,
            next_attempt_at: None,
            heartbeat: None,
            last_failure: None,
            failed_attempts: Vec::new(),
            at_worker: None,
        })
        .collect();
    if !found.is_empty() {
        name_activities(reader, row, &mut found)?;
    }
    found.extend(children.into_iter().map(child));
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

/// An open activity as the status of its instance shows it, with the id of the instance; `None` if it has ended. `running` are attempts that
/// run now, those of other instances among them.
pub(in crate::client) fn open_activity(
    reader: &Reader,
    (key, task): (InstanceKey, TaskId),
    host: Option<&Engine>,
    running: &[WasRunning],
) -> Result<Option<(String, Wait)>, StoreError> {
    let (row, task) = (reader.instance_by_key(key)?, reader.task(key, task)?);
    let (Some(row), Some(task)) = (row, task) else {
        return Ok(None);
    };
    let own = running.iter().filter(|now| now.key == key);
    let mut calls = Calls {
        reader,
        row: &row,
        host,
        running: own.copied().collect(),
        turn: None,
    };
    let wait = calls.wait_for(task)?;
    Ok(wait.map(|wait| (row.id.clone(), wait)))
}

/// The running attempts of an instance, or all, as far as this machine knows.
pub(in crate::client) fn running(reader: &Reader, of: Option<InstanceKey>) -> Vec<WasRunning> {
    // Without the record the waits say less, and are still true.
    let mut running = reader.running(of).unwrap_or_default();
    running.retain(|now| now.task.is_some());
    running
}
