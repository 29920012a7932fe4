//! Runs activities: so many at once, each at least once, none again once its result is recorded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use perennial_core::{AttemptRun, Digest, Failure, Json, Limits, Message, Millis, RetryPolicy, Target, TaskId, TaskRef, Timestamp, kind};

use crate::engine::Engine;
use crate::engine::executor::{Attempt, Interrupt};
use crate::engine::timers::Due;
use crate::store::{Change, InstanceKey, Retry, Verdict};

/// How long an attempt may take where the call does not say.
const ATTEMPT_TIMEOUT: Millis = Millis(5 * 60 * 1_000);

/// How often an activity may take its host down before it fails.
const DELIVERIES_MAX: u32 = 5;

/// An activity that may run now.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) key: InstanceKey,
    pub(crate) task: TaskRef,
    pub(crate) attempt: u32,
    pub(crate) first_started: Option<Timestamp>,
    pub(crate) deliveries: u32,
    pub(crate) name: String,
    pub(crate) input: Option<Json>,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) timeout: Option<Millis>,
    pub(crate) target: Target,
    pub(crate) caller: Arc<Caller>,
}

/// Who calls an activity.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) instance_id: String,
    pub(crate) execution_id: String,
    pub(crate) orchestration: String,
    pub(crate) trace_parent: Option<String>,
    pub(crate) limits: Limits,
    pub(crate) seed: u64,
}

type Place = (InstanceKey, TaskId);

/// What waits to run and what runs.
pub(crate) struct Activities {
    state: Mutex<State>,
    running_max: usize,
}

#[derive(Default)]
struct State {
    /// In the order in which they became ready; what is no longer in `ready` was cancelled.
    order: VecDeque<(Place, u32)>,
    ready: BTreeMap<Place, Ready>,
    running: BTreeMap<Place, (TaskRef, Interrupt)>,
    /// Slots of the flight recorder that are free.
    free: Vec<usize>,
    stopped: bool,
}

impl Activities {
    /// Runs at most `running_max` at once; `first_slot` is its first slot in the flight recorder.
    pub(crate) fn new(running_max: usize, first_slot: usize) -> Self {
        let free = (first_slot..first_slot + running_max).rev().collect();
        Self { state: Mutex::new(State { free, ..State::default() }), running_max }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an activity, unless it is queued or running already.
    pub(crate) fn push(engine: &Arc<Engine>, ready: Ready) {
        let this = &engine.activities;
        let mut state = this.state();
        let place = (ready.key, ready.task.task);
        if state.stopped || state.running.get(&place).is_some_and(|(task, _)| *task == ready.task) {
            return;
        }
        state.order.push_back((place, ready.attempt));
        state.ready.insert(place, ready);
        this.fill(engine, state);
    }

    /// Starts as many as may run.
    fn fill(&self, engine: &Arc<Engine>, mut state: MutexGuard<'_, State>) {
        while state.running.len() < self.running_max
            && let Some((ready, slot, interrupt)) = next(&mut state)
        {
            let engine = Arc::clone(engine);
            engine.runtime.clone().spawn(work(engine, ready, slot, interrupt));
        }
    }

    /// Drops what waits for an instance, and tells what runs that nobody waits for it if `interrupt` says so.
    pub(crate) fn cancel_instance(&self, key: InstanceKey, interrupt: bool) {
        let mut state = self.state();
        let range = (key, TaskId(0))..=(key, TaskId(u32::MAX));
        let waiting: Vec<Place> = state.ready.range(range).map(|(place, _)| *place).collect();
        waiting.iter().for_each(|place| drop(state.ready.remove(place)));
        if interrupt {
            state.running.iter().filter(|((k, _), _)| *k == key).for_each(|(_, (_, interrupt))| interrupt.set());
        }
    }

    /// Drops one activity, running or not.
    pub(crate) fn cancel(&self, key: InstanceKey, task: TaskId) {
        let mut state = self.state();
        state.ready.remove(&(key, task));
        if let Some((_, interrupt)) = state.running.get(&(key, task)) {
            interrupt.set();
        }
    }

    /// How many wait and how many run.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.ready.len(), state.running.len())
    }

    /// Starts nothing any more, and interrupts what runs: it runs again when the hub is next opened.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.ready.clear();
        state.order.clear();
        state.running.values().for_each(|(_, interrupt)| interrupt.set());
    }
}

fn next(state: &mut State) -> Option<(Ready, usize, Interrupt)> {
    while let Some((place, attempt)) = state.order.pop_front() {
        if state.ready.get(&place).is_none_or(|ready| ready.attempt != attempt) {
            continue;
        }
        let ready = state.ready.remove(&place)?;
        let interrupt = Interrupt::default();
        state.running.insert(place, (ready.task, interrupt.clone()));
        let slot = state.free.pop()?;
        return Some((ready, slot, interrupt));
    }
    None
}

/// Runs one activity after the other until none waits.
async fn work(engine: Arc<Engine>, first: Ready, slot: usize, first_interrupt: Interrupt) {
    let mut current = Some((first, first_interrupt));
    let mut slot = slot;
    while let Some((ready, interrupt)) = current.take() {
        let place = (ready.key, ready.task.task);
        if engine.is_suspended(ready.key) {
            // It stays in the hub, and is queued again when the instance is resumed.
            release(&engine, place, slot);
        } else {
            engine.flight.begin(slot, ready.key, Some(ready.task.task));
            let started_at = engine.clock.now();
            let outcome = attempt(&engine, &ready, started_at, interrupt.clone()).await;
            engine.flight.end(slot);
            release(&engine, place, slot);
            engine.counts.activities.add(1);
            if !engine.is_stopping() {
                ended(&engine, ready, started_at, outcome);
            }
        }
        let mut state = engine.activities.state();
        if state.running.len() < engine.activities.running_max
            && let Some((ready, next_slot, interrupt)) = next(&mut state)
        {
            slot = next_slot;
            current = Some((ready, interrupt));
        }
    }
}

fn release(engine: &Engine, place: Place, slot: usize) {
    let mut state = engine.activities.state();
    state.running.remove(&place);
    state.free.push(slot);
}

async fn attempt(
    engine: &Arc<Engine>,
    ready: &Ready,
    started_at: Timestamp,
    interrupt: Interrupt,
) -> Result<Option<Json>, Failure> {
    if let Some(failure) = ready.target.failure("activity", &ready.name) {
        return Err(failure);
    }
    if ready.deliveries >= DELIVERIES_MAX {
        let message = format!("activity {:?} was running {} times when its host died", ready.name, ready.deliveries);
        return Err(Failure::permanent(kind::HOST_CRASHED, message));
    }
    let timeout = ready.timeout.unwrap_or(ATTEMPT_TIMEOUT);
    let module: Option<Digest> = match ready.target {
        Target::Module(digest) => Some(digest),
        Target::Native | Target::Unknown | Target::Oversized { .. } | Target::Invalid(_) => None,
    };
    let attempt = Attempt {
        module,
        name: ready.name.clone(),
        input: ready.input.clone(),
        instance_id: ready.caller.instance_id.clone(),
        execution_id: ready.caller.execution_id.clone(),
        orchestration: ready.caller.orchestration.clone(),
        task: ready.task,
        attempt: ready.attempt,
        deadline: Some(started_at.after(timeout)),
        trace_parent: ready.caller.trace_parent.clone(),
        interrupt: interrupt.clone(),
    };
    let run = engine.activity_executor.run(attempt);
    let output = match tokio::time::timeout(Duration::from_millis(timeout.0), run).await {
        Ok(outcome) => outcome?,
        Err(_) => {
            interrupt.set();
            let message = format!("an attempt of activity {:?} took longer than {} ms", ready.name, timeout.0);
            return Err(Failure::retryable(kind::TIMEOUT, message));
        }
    };
    let (bytes, limit) = (output.as_ref().map_or(0, Json::size) as u64, ready.caller.limits.payload_bytes);
    if bytes > limit {
        let message = format!("the result of activity {:?} has {bytes} bytes; payload_bytes allows {limit}", ready.name);
        return Err(Failure::permanent(kind::LIMIT_EXCEEDED, message));
    }
    Ok(output)
}

/// Hands the result of an attempt on: to the instance, or to the next attempt.
fn ended(engine: &Arc<Engine>, ready: Ready, started_at: Timestamp, outcome: Result<Option<Json>, Failure>) {
    let now = engine.clock.now();
    let run = AttemptRun { attempt: ready.attempt, started_at, ended_at: now };
    let first_started = ready.first_started.unwrap_or(started_at);
    if let (Err(failure), Some(policy)) = (&outcome, &ready.retry) {
        let seed = ready.caller.seed ^ u64::from(ready.task.task.0);
        if let Some(due) = policy.next_attempt_at(ready.attempt, failure, first_started, now, seed) {
            let retry =
                Retry { key: ready.key, task: ready.task, attempt: ready.attempt + 1, due, first_started, failure: failure.clone() };
            return try_again(engine, retry, Message::ActivityEnded { task: ready.task, outcome, run });
        }
    }
    engine.post(ready.key, Message::ActivityEnded { task: ready.task, outcome, run });
}

/// Records that there is another attempt, and arms it. Where no new attempt may start any more, the failure is the task's.
fn try_again(engine: &Arc<Engine>, retry: Retry, ended: Message) {
    let this = Arc::clone(engine);
    engine.write(Change::Retry(retry), move |change, result| match (change, result) {
        (Change::Retry(retry), Ok(outcome)) if outcome.verdict == Verdict::Done => {
            this.timers.add(retry.due, retry.key, Due::Activity(retry.task));
        }
        (Change::Retry(retry), Ok(_)) => this.post(retry.key, ended),
        // The hub still has the task as it was before this attempt: it runs again when the hub can be written.
        (Change::Retry(retry), Err(error)) => {
            tracing::warn!(%error, "could not record another attempt");
            this.timers.add(retry.due, retry.key, Due::Activity(retry.task));
        }
        _ => {}
    });
}
