//! Runs activities: a limited number at once, each at least once, and none again after its result is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use perennial_core::{
    AttemptRun, FailedAttempt, Failure, Json, Millis, Target, TaskId, TaskRef, Timestamp, kind,
};

use tokio::sync::watch;

use crate::engine::executor::{Attempt, AttemptError, Interrupt};
use crate::engine::locks::{Guard, OrderedMutex, rank};
use crate::engine::tasks::attempts::{
    Ended, fails_before, give_up, hand_over, log_failure, problem_with_output,
};
use crate::engine::tasks::fair_queue::{FairQueue, Holder};
use crate::engine::tasks::ready::{AttemptKey, Caller, Ready};
use crate::engine::tasks::timers::Due;
use crate::engine::turn::inline::{self, Inline};
use crate::engine::turn::turn_commit::module_of;
use crate::engine::workers::processors::{Processors, Share};
use crate::engine::{Engine, TRY_AGAIN_AFTER, remote};
use crate::foreign::guarded;
use crate::shortage::Shortage;
use crate::store::{Change, InstanceKey, Outcome, Reply, Retry};

/// The time limit of an attempt if the call does not set one.
const ATTEMPT_TIMEOUT: Millis = Millis(5 * 60 * 1_000);

/// Queued and running activities.
pub(crate) struct Activities {
    state: OrderedMutex<State, { rank::ACTIVITIES }>,
    pub(in crate::engine) processors: Arc<Processors>,
    /// Set to true when the engine stops, which drops the running attempts.
    stop: watch::Sender<bool>,
}

#[derive(Default)]
pub(super) struct State {
    /// Decides which attempt is next, of those that this host runs itself.
    order: FairQueue,
    pub(super) ready: BTreeMap<AttemptKey, Ready>,
    pub(super) running: BTreeMap<AttemptKey, Interrupt>,
    /// Attempts that ended, but whose outcome is not yet in the instance's mail or in the hub.
    pub(super) ending: BTreeSet<AttemptKey>,
    /// Free slots of the flight recorder, one for each activity that may start.
    free: Vec<usize>,
    pub(super) stopped: bool,
}

impl Activities {
    /// Creates a queue that runs at most `running_max` activities at once, with slots of the flight recorder from `first_slot` on.
    ///
    /// At most `module_max` of them belong to instances of one module.
    pub(crate) fn new(running_max: usize, first_slot: usize, module_max: Option<usize>) -> Self {
        let free = (first_slot..first_slot + running_max).rev().collect();
        let state = State {
            free,
            order: FairQueue::new(running_max, module_max),
            ..State::default()
        };
        Self {
            state: OrderedMutex::new(state),
            processors: Arc::new(Processors::of_machine()),
            stop: watch::Sender::new(false),
        }
    }

    pub(super) fn state(&self) -> Guard<'_, State, { rank::ACTIVITIES }> {
        self.state.lock()
    }

    /// Queues an activity, unless it is already queued or running.
    pub(crate) fn push(engine: &Arc<Engine>, ready: Ready) {
        if ready.is_remote() {
            return engine.push_remote(ready);
        }
        Self::push_or_hold(engine, ready, None);
    }

    /// As [`push`](Self::push). If `held` is given, attempts that begin now and may run on a worker are added to it instead of spawned.
    pub(in crate::engine) fn push_or_hold(
        engine: &Arc<Engine>,
        ready: Ready,
        mut held: Option<&mut Inline>,
    ) {
        let mut state = engine.activities.state();
        let place = (ready.key, ready.task);
        let is_queued = state
            .ready
            .get(&place)
            .is_some_and(|queued| queued.attempt == ready.attempt);
        if state.stopped || is_queued || state.runs(place) {
            return;
        }
        state.order.push(place, ready.attempt, ready.caller.module);
        state.ready.insert(place, ready);
        let mut next = state.next(engine);
        drop(state);
        while let Some(begun) = next {
            Self::begin(engine, begun, held.as_deref_mut());
            next = engine.activities.state().next(engine);
        }
    }

    /// Begins an attempt, and others that may begin as well.
    fn begin(engine: &Arc<Engine>, begun: Begun, held: Option<&mut Inline>) {
        // Native code may block its thread, so it never runs on a worker. Code of a module is moved away when it computes for long.
        let may_begin_here = matches!(begun.ready.target, Target::Module(_));
        let work = boxed(engine, begun);
        match held.filter(|_| may_begin_here) {
            Some(held) => held.push(work),
            None => drop(engine.runtime.spawn(work)),
        }
    }

    /// Whether an activity is queued, running, or ended but not yet handed over.
    pub(crate) fn knows(&self, key: InstanceKey, task: TaskRef) -> bool {
        let state = self.state();
        state.ready.contains_key(&(key, task)) || state.runs((key, task))
    }

    /// The activities of an instance that are running, or ended but not yet handed over.
    pub(crate) fn running_of(&self, key: InstanceKey) -> Vec<TaskId> {
        let state = self.state();
        let running = state.running.range(all_of(key)).map(|(place, _)| *place);
        running
            .chain(state.ending.range(all_of(key)).copied())
            .map(|(_, task)| task.task)
            .collect()
    }

    /// The instances with a running attempt.
    pub(crate) fn running(&self) -> Vec<InstanceKey> {
        self.state().running.keys().map(|(key, _)| *key).collect()
    }

    /// Interrupts the running attempts of these instances.
    pub(crate) fn interrupt_all(&self, of: &[InstanceKey]) {
        let of: BTreeSet<InstanceKey> = of.iter().copied().collect();
        let state = self.state();
        let running = state.running.iter();
        running
            .filter(|((key, _), _)| of.contains(key))
            .for_each(|(_, interrupt)| interrupt.set());
    }

    /// Drops the queued activities of an instance, and returns them. With `interrupt`, also interrupts the running ones.
    pub(crate) fn cancel_instance(&self, key: InstanceKey, interrupt: bool) -> Vec<AttemptKey> {
        let mut state = self.state();
        let dropped = state.drop_ready(key, |_| true);
        if interrupt {
            state
                .running
                .range(all_of(key))
                .for_each(|(_, interrupt)| interrupt.set());
        }
        dropped
    }

    /// Drops the queued retries of an instance, and returns them.
    pub(crate) fn cancel_retries(&self, key: InstanceKey) -> Vec<AttemptKey> {
        self.state().drop_ready(key, |ready| ready.attempt > 1)
    }

    /// Drops a queued activity, or interrupts a running one.
    pub(crate) fn cancel(&self, key: InstanceKey, task: TaskRef) {
        let mut state = self.state();
        state.ready.remove(&(key, task));
        if let Some(interrupt) = state.running.get(&(key, task)) {
            interrupt.set();
        }
    }

    /// Called when the outcome of an activity is in the mail of its instance or in the hub.
    pub(in crate::engine) fn is_handed_over(&self, place: AttemptKey) {
        self.state().ending.remove(&place);
    }

    /// The numbers of queued and of running activities.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.ready.len(), state.running.len() + state.ending.len())
    }

    /// Stops starting attempts, and drops the running ones. They run again when the hub is next opened.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.ready.clear();
        state.order.clear();
        state.running.values().for_each(Interrupt::set);
        drop(state);
        self.stop.send_replace(true);
        self.processors.close();
    }
}

impl State {
    pub(super) fn runs(&self, place: AttemptKey) -> bool {
        self.running.contains_key(&place) || self.ending.contains(&place)
    }

    /// Takes the next attempt that may run, with a place.
    fn next(&mut self, engine: &Arc<Engine>) -> Option<Begun> {
        while let Some((place, attempt, holder)) = self.order.next() {
            let is_it = |ready: &Ready| ready.attempt == attempt;
            if self.ready.get(&place).is_some_and(is_it)
                && let Some(ready) = self.ready.remove(&place)
                && let Some(slot) = self.free.pop()
            {
                let interrupt = Interrupt::default();
                self.running.insert(place, interrupt.clone());
                let held = Held {
                    engine: Arc::clone(engine),
                    place,
                    slot,
                    holder,
                    interrupt,
                    over: false,
                };
                return Some(Begun { ready, held });
            }
            self.order.ended(holder);
        }
        None
    }

    fn drop_ready(&mut self, key: InstanceKey, which: impl Fn(&Ready) -> bool) -> Vec<AttemptKey> {
        let waiting = self
            .ready
            .range(all_of(key))
            .filter(|(_, ready)| which(ready));
        let waiting: Vec<AttemptKey> = waiting.map(|(place, _)| *place).collect();
        waiting
            .iter()
            .for_each(|place| drop(self.ready.remove(place)));
        waiting
    }
}

fn all_of(key: InstanceKey) -> RangeInclusive<AttemptKey> {
    let at = |n| {
        (
            key,
            TaskRef {
                execution: n,
                generation: n,
                task: TaskId(n),
            },
        )
    };
    at(0)..=at(u32::MAX)
}

/// An attempt that has a place and is about to begin.
struct Begun {
    ready: Ready,
    held: Held,
}

/// The place of a running attempt. Dropping it frees the place, however the attempt ended.
struct Held {
    engine: Arc<Engine>,
    place: AttemptKey,
    /// The slot in the flight recorder.
    slot: usize,
    holder: Holder,
    interrupt: Interrupt,
    /// Whether the outcome of the attempt was handled.
    over: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        let engine = &self.engine;
        if !self.over {
            engine.hub.flight.end(self.slot);
        }
        let mut state = engine.activities.state();
        state.free.push(self.slot);
        state.order.ended(self.holder);
        if self.over || state.stopped {
            return;
        }
        // The attempt panicked or was dropped. The hub still has the task as it was before: try it again later.
        state.running.remove(&self.place);
        state.ending.remove(&self.place);
        drop(state);
        let (key, task) = self.place;
        engine
            .timers
            .again_in(TRY_AGAIN_AFTER, key, Due::Activity(task));
    }
}

/// Boxes [`work`], which is recursive.
fn boxed(engine: &Arc<Engine>, first: Begun) -> BoxFuture<'static, ()> {
    work(Arc::clone(engine), first).boxed()
}

/// Runs activities one after the other until none is queued. On a worker, runs only the first.
async fn work(engine: Arc<Engine>, first: Begun) {
    let mut current = Some(first);
    while let Some(Begun { ready, mut held }) = current.take() {
        let place = held.place;
        prepared(&engine, &ready.target).await;
        let started_at = engine.clock.now();
        if !begins(&engine, place) {
            // The activity is queued again when its instance is resumed.
        } else if let Some(failure) = ready.given_up(started_at) {
            engine.activities.state().ending.insert(place);
            engine.activities.state().running.remove(&place);
            give_up(&engine, ready, failure);
        } else {
            engine
                .hub
                .flight
                .begin(held.slot, ready.key, Some(ready.task.task), started_at);
            let outcome = attempt(&engine, &ready, started_at, held.interrupt.clone()).await;
            engine.hub.flight.end(held.slot);
            let outcome = match outcome {
                Some(Ok(output)) => Some(Ok(output)),
                Some(Err(AttemptError::Failed(failure))) => Some(Err(failure)),
                Some(Err(AttemptError::Host(shortage))) => {
                    // First, so that an attempt that is due at once is not taken for a running one.
                    engine.activities.state().running.remove(&place);
                    try_later(&engine, place, &shortage);
                    None
                }
                None => None,
            };
            if let Some(outcome) = outcome {
                // All outcomes of executors (modules, closures, builtin activities) pass here, which bounds the size of their failures.
                let payload_bytes = ready.caller.limits.payload_bytes;
                let outcome = outcome.map_err(|failure| failure.bounded(payload_bytes));
                engine.activities.state().ending.insert(place);
                engine.activities.state().running.remove(&place);
                engine.counts.activities.add(1);
                engine.trouble.backoff.over((place.0, Some(place.1)));
                engine.attempt_ended(&ready, started_at, outcome.as_ref().err());
                ended(&engine, ready, started_at, outcome);
            } else {
                engine.activities.state().running.remove(&place);
            }
        }
        held.over = true;
        drop(held);
        let mut state = engine.activities.state();
        current = state.next(&engine);
        let more = state.next(&engine);
        drop(state);
        if let Some(begun) = more {
            Activities::begin(&engine, begun, None);
        }
        if inline::is_worker()
            && let Some(begun) = current.take()
        {
            // A worker has other work to do.
            engine.runtime.spawn(boxed(&engine, begun));
        }
    }
}

/// Waits until a module is prepared for its activity, or the host stops. This time does not count for the attempt, and a crash meanwhile is
/// not blamed on the activity.
async fn prepared(engine: &Engine, target: &Target) {
    let Target::Module(module) = target else {
        return;
    };
    let prepare = || engine.code.activity_executor.prepare(*module);
    // Errors appear in the attempt.
    if let Ok(Some(preparing)) = guarded(prepare) {
        let mut stop = engine.activities.stop.subscribe();
        tokio::select! {
            _ = AssertUnwindSafe(preparing).catch_unwind() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

/// Whether an attempt may begin. An attempt of a suspended instance stays in the hub, and is queued again when the instance is resumed. The
/// check and the removal from `running` happen under one lock, so that a resume in between does not find the task running and skip it.
fn begins(engine: &Engine, (key, task): AttemptKey) -> bool {
    let mut state = engine.activities.state();
    let begins = !engine.is_suspended(key);
    if !begins {
        state.running.remove(&(key, task));
    }
    begins
}

/// Runs an attempt; `None` if the host stops before its end.
async fn attempt(
    engine: &Arc<Engine>,
    ready: &Ready,
    started_at: Timestamp,
    interrupt: Interrupt,
) -> Option<Result<Option<Json>, AttemptError>> {
    if let Some(failure) = fails_before(engine, ready) {
        return Some(Err(failure.into()));
    }
    let timeout = ready.timeout.unwrap_or(ATTEMPT_TIMEOUT);
    let attempt = attempt_of(engine, ready, started_at, timeout, interrupt.clone());
    let mut stop = engine.activities.stop.subscribe();
    // Executors catch their own panics. If one does not, the attempt must still give its place back.
    let run =
        AssertUnwindSafe(async { engine.code.activity_executor.run(attempt).await }).catch_unwind();
    let run = tokio::time::timeout(Duration::from_millis(timeout.0), run);
    let outcome = tokio::select! {
        outcome = run => outcome,
        _ = stop.wait_for(|stop| *stop) => return None,
    };
    let succeeded = matches!(outcome, Ok(Ok(Ok(_))));
    if !succeeded && engine.activities.state().stopped {
        // The attempt was interrupted because the host stops, not because it failed. It runs again.
        return None;
    }
    let output = match outcome {
        Ok(Ok(Ok(output))) => output,
        Ok(Ok(Err(error))) => return Some(Err(error)),
        Ok(Err(_)) => {
            let message = format!(
                "an attempt of activity {:?} panicked in the host",
                ready.name
            );
            return Some(Err(Failure::retryable(kind::PANIC, message).into()));
        }
        Err(_) => {
            interrupt.set();
            let message = format!(
                "an attempt of activity {:?} took longer than {} ms",
                ready.name, timeout.0
            );
            return Some(Err(Failure::retryable(kind::TIMEOUT, message).into()));
        }
    };
    Some(match problem_with_output(ready, output.as_ref()) {
        Some(message) => Err(Failure::permanent(kind::LIMIT_EXCEEDED, message).into()),
        None => Ok(output),
    })
}

/// Builds the attempt for an executor.
fn attempt_of(
    engine: &Engine,
    ready: &Ready,
    started_at: Timestamp,
    timeout: Millis,
    interrupt: Interrupt,
) -> Attempt {
    let (caller, number) = (&ready.caller, ready.number());
    let processors = Arc::clone(&engine.activities.processors);
    Attempt {
        module: module_of(&ready.target),
        name: ready.name.clone(),
        input: remote::as_json(ready.input.clone()),
        instance_id: caller.instance_id.clone(),
        execution_id: caller.execution_id.clone(),
        orchestration: caller.orchestration.clone(),
        caller: caller.module,
        output_bytes_max: caller.limits.payload_bytes,
        task: ready.task,
        attempt: number,
        deadline: Some(started_at.after(timeout)),
        timeout: Some(Duration::from_millis(timeout.0)),
        trace_parent: Some(caller.trace.attempt(ready.task, number).to_string()),
        // Set by the runtime, which knows whether it serves HTTP.
        management_urls: None,
        scheduled_in: ready.scheduled_in,
        interrupt,
        share: Share::new(processors, ready.key, caller.module),
    }
}

/// Hands the outcome of an attempt to the instance, or schedules the next attempt.
pub(super) fn ended(
    engine: &Arc<Engine>,
    ready: Ready,
    started_at: Timestamp,
    outcome: Result<Option<Json>, Failure>,
) {
    let now = engine.clock.now();
    let run = AttemptRun {
        attempt: ready.number(),
        started_at,
        ended_at: now,
    };
    // If the clock was set back, the time limit of the policy starts again from now.
    let first_started = ready.first_started.unwrap_or(started_at).min(now);
    let next = match (&outcome, &ready.retry) {
        (Err(failure), Some(policy)) => {
            let seed = ready.caller.seed ^ u64::from(ready.task.task.0);
            policy.next_attempt_at(ready.attempt, failure, first_started, now, seed)
        }
        _ => None,
    };
    if let Err(failure) = &outcome {
        log_failure(&ready, failure, next.map(|due| due.since(now)));
    }
    let retry = match (&outcome, next) {
        (Err(failure), Some(due)) => {
            let mut attempts = ready.earlier.clone();
            FailedAttempt::new(run, failure).follow(&mut attempts);
            Some(Retry {
                key: ready.key,
                task: ready.task,
                attempt: ready.attempt + 1,
                due,
                first_started,
                failure: failure.clone(),
                attempts,
            })
        }
        _ => None,
    };
    let ended = Ended {
        task: ready.task,
        at: now,
        earlier: ready.earlier,
        outcome,
        run,
    };
    match retry {
        Some(retry) => try_again(engine, ready.caller, retry, ended),
        None => hand_over(engine, ready.key, ended),
    }
}

/// Retries an attempt after a shortage of the host, as the same attempt: the hub still has the task as it was before.
fn try_later(engine: &Engine, (key, task): AttemptKey, shortage: &Shortage) {
    engine.trouble.shortages.note(shortage);
    let wait = engine.trouble.backoff.again((key, Some(task)));
    engine.timers.again_in(wait, key, Due::Activity(task));
}

/// Records that another attempt follows, and arms its timer. If no attempt may start any more, the task fails.
fn try_again(engine: &Arc<Engine>, caller: Arc<Caller>, retry: Retry, ended: Ended) {
    let this = Arc::clone(engine);
    let place = (retry.key, retry.task);
    engine.write_soon(Change::Retry(retry), move |change, result| {
        let Change::Retry(retry) = change else { return };
        if let Ok(Outcome {
            reply: Reply::Nothing,
            ..
        }) = &result
        {
            return hand_over(&this, retry.key, ended);
        }
        // Do this first, so that an attempt that is due at once is not taken for a running one.
        this.activities.state().ending.remove(&place);
        match result {
            Ok(_) => {
                let due = Due::Activity(retry.task);
                this.timers.add(retry.due, ended.at, retry.key, due);
            }
            // The hub still has the task as it was before this attempt, which therefore runs again once the hub can be written.
            Err(error) => {
                let due = Due::Activity(retry.task);
                this.timers.again_at(retry.due, ended.at, retry.key, due);
                tracing::warn!(instance = caller.instance_id, %error, "could not record another attempt");
            }
        }
    });
}
