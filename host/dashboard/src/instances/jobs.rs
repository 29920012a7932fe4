//! Commands on many instances, which go on while nobody looks and say how far they are.
//!
//! Invariants: at most [`RUNNING_MAX`] run at once, and at most [`KEPT_MAX`] are remembered; a command ends when it is stopped, when its
//! hub no longer answers, or with the router that the pages belong to. What was changed until then stays.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use perennial::{Client, Error, Filter, Order, Timestamp};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::instances::command::{self, Command, Effect, is_gone, is_of_one};
use crate::instances::picked::Picked;

/// Commands that run at once.
const RUNNING_MAX: usize = 8;

/// Commands that are remembered, with their results.
const KEPT_MAX: usize = 64;

/// Instances that a result names, with the reason why nothing was done to them.
pub(super) const NOTES_MAX: usize = 200;

/// How long a command is waited for before its progress is shown.
const QUICK: Duration = Duration::from_millis(1_500);

/// Instances per read.
const PAGE: u32 = 200;

/// The instances that a command applies to.
pub(super) struct Targets {
    /// These, if the confirmation had them all.
    pub(super) picked: Option<Vec<Picked>>,
    /// What all of them match, if they were not selected one by one.
    pub(super) filter: Option<Filter>,
    /// The moment of the confirmation, and the filter of what matched then.
    pub(super) as_of: Timestamp,
    pub(super) then: Option<Filter>,
    /// How many were confirmed.
    pub(super) confirmed: u64,
}

/// How far a command is, or what it did.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub(super) matched: Option<u64>,
    /// How many match, but did not when the command was confirmed.
    pub(super) newer: u64,
    pub(super) changed: u64,
    pub(super) skipped: u64,
    pub(super) failed: u64,
    pub(super) notes: Vec<Note>,
    pub(super) end: Option<End>,
}

/// Why nothing was done to an instance.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) id: String,
    pub(super) is_failure: bool,
    pub(super) why: String,
}

/// How a command ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    Finished,
    /// It could not go on.
    Failed(String),
    Stopped,
}

/// What the task of a command and the pages share.
#[derive(Debug, Default)]
pub(super) struct State {
    report: Mutex<Report>,
    is_over: watch::Sender<bool>,
}

/// Ends a command with its task, also if that is broken off before it has begun.
struct Running(Arc<State>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.end(End::Stopped);
    }
}

impl State {
    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, id: &str, is_failure: bool, why: String) {
        let mut report = self.report();
        match is_failure {
            true => report.failed += 1,
            false => report.skipped += 1,
        }
        if report.notes.len() < NOTES_MAX {
            let id = id.to_owned();
            report.notes.push(Note {
                id,
                is_failure,
                why,
            });
        }
    }

    /// The first end counts.
    fn end(&self, end: End) {
        self.report().end.get_or_insert(end);
        self.is_over.send_replace(true);
    }
}

/// A command that was given.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) key: String,
    hub: String,
    /// The query of the list that it was given on.
    pub(super) query: String,
    pub(super) command: Command,
    /// How many instances were confirmed.
    pub(super) confirmed: u64,
    state: Arc<State>,
    task: AbortHandle,
}

impl Job {
    pub(super) fn report(&self) -> Report {
        self.state.report().clone()
    }

    /// Waits for its end, for at most this long.
    pub(super) async fn ended(&self, limit: Duration) {
        let mut is_over = self.state.is_over.subscribe();
        // Whether it has ended is read from its report.
        let _ = tokio::time::timeout(limit, is_over.wait_for(|is_over| *is_over)).await;
    }

    pub(super) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The commands that run or are remembered.
#[derive(Clone, Debug, Default)]
pub(super) struct Jobs(Arc<Mutex<VecDeque<Arc<Job>>>>);

impl Jobs {
    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<Job>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A command on a hub, by its key.
    pub(super) fn find(&self, hub: &str, key: &str) -> Option<Arc<Job>> {
        let kept = self.kept();
        let found = kept.iter().find(|job| job.hub == hub && job.key == key);
        found.cloned()
    }

    /// Begins a command, and waits a moment for its end. `None` if too many run.
    pub(super) async fn begin(
        &self,
        client: &Client,
        query: String,
        command: Command,
        targets: Targets,
    ) -> Option<Arc<Job>> {
        let job = self.spawn(client, query, command, targets)?;
        job.ended(QUICK).await;
        Some(job)
    }

    fn spawn(
        &self,
        client: &Client,
        query: String,
        command: Command,
        targets: Targets,
    ) -> Option<Arc<Job>> {
        let mut kept = self.kept();
        let running = kept.iter().filter(|job| !job.task.is_finished());
        if running.count() >= RUNNING_MAX {
            return None;
        }
        if kept.len() >= KEPT_MAX
            && let Some(oldest) = kept.iter().position(|job| job.task.is_finished())
        {
            kept.remove(oldest);
        }
        let state = Arc::new(State::default());
        let confirmed = targets.confirmed;
        let task = tokio::spawn(run(
            client.clone(),
            command.clone(),
            targets,
            Running(Arc::clone(&state)),
        ));
        // A key of an earlier process must not lead to another command.
        let key = RandomState::new().hash_one(Arc::as_ptr(&state) as usize);
        let job = Arc::new(Job {
            key: format!("{key:016x}"),
            hub: client.task_hub().to_owned(),
            query,
            command,
            confirmed,
            state,
            task: task.abort_handle(),
        });
        kept.push_back(Arc::clone(&job));
        Some(job)
    }
}

async fn run(client: Client, command: Command, targets: Targets, running: Running) {
    let state = &running.0;
    let done = carried_out(&client, &command, targets, state).await;
    state.end(match done {
        Ok(()) => End::Finished,
        Err(error) => End::Failed(error.to_string()),
    });
}

async fn carried_out(
    client: &Client,
    command: &Command,
    targets: Targets,
    state: &Arc<State>,
) -> Result<(), Error> {
    let Targets {
        picked,
        filter,
        as_of,
        then,
        confirmed,
    } = targets;
    match (picked, filter) {
        (Some(picked), filter) => {
            if let Some(filter) = filter {
                let now = command::count(command.action, client, filter).await?.0;
                state.report().newer = now.saturating_sub(confirmed);
            }
            state.report().matched = Some(picked.len() as u64);
            each(
                client,
                command,
                stream::iter(picked.into_iter().map(Ok)),
                state,
            )
            .await
        }
        (None, Some(filter)) => {
            let then = then.unwrap_or_else(|| filter.clone());
            all(client, command, (filter, then), as_of, state).await
        }
        (None, None) => Ok(()),
    }
}

/// Carries a command out on all that matched a filter at a moment.
async fn all(
    client: &Client,
    command: &Command,
    (filter, then): (Filter, Filter),
    as_of: Timestamp,
    state: &Arc<State>,
) -> Result<(), Error> {
    let Some(bulk) = command.bulk(client, filter.clone()) else {
        let now = command::count(command.action, client, filter.clone())
            .await?
            .0;
        let matched = command::count(command.action, client, then.clone())
            .await?
            .0;
        state.report().matched = Some(matched);
        state.report().newer = now.saturating_sub(matched);
        let list = client
            .list()
            .filter(then)
            .order(Order::OldestFirst)
            .limit(PAGE);
        let picked = list.stream().map(|instance| Ok(Picked::of(&instance?)));
        return each(client, command, picked, state).await;
    };
    let tells = Arc::clone(state);
    let tell = move |state: &State, progress: perennial::BulkProgress| {
        let mut report = state.report();
        report.matched = Some(progress.matched);
        report.newer = progress.newer;
        report.changed = progress.done;
        report.skipped = progress.skipped;
    };
    let done = bulk
        .as_of(as_of)
        .on_progress(move |progress| tell(&tells, progress))
        .await?;
    tell(state, done);
    Ok(())
}

/// Carries a command out on one instance after the other, if it still has the run that was looked at.
async fn each(
    client: &Client,
    command: &Command,
    mut all: impl Stream<Item = Result<Picked, Error>> + Unpin,
    state: &State,
) -> Result<(), Error> {
    while let Some(Picked { run, id }) = all.try_next().await? {
        match command.apply(&client.for_run(&run), &id).await {
            Ok(Effect::Changed(count)) => state.report().changed += count,
            Ok(Effect::Nothing(why)) => state.note(&id, false, why.to_owned()),
            Err(error) if is_of_one(&error) => state.note(&id, !is_gone(&error), error.to_string()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
