//! Runs activities: a limited number at once, each at least once, and none again after its result is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use perennial_core::{Failure, Json, Millis, Target, TaskId, TaskRef, Timestamp, kind};

use tokio::sync::watch;

use crate::engine::executor::{Attempt, AttemptError, Interrupt};
use crate::engine::locks::{Guard, OrderedMutex, rank};
use crate::engine::remote::items;
use crate::engine::tasks::attempts::{
    ended, fails_before, give_up, problem_with_output, say_begun, try_later,
};
use crate::engine::tasks::fair_queue::{FairQueue, Holder};
use crate::engine::tasks::heart::{FreshBeats, Heart};
use crate::engine::tasks::once::{Started, did_not_start, start_once};
use crate::engine::tasks::ready::{AttemptKey, Ready};
use crate::engine::tasks::timers::Due;
use crate::engine::turn::inline::{self, Inline};
use crate::engine::turn::turn_commit::module_of;
use crate::engine::workers::processors::{Processors, Share};
use crate::engine::{Engine, TRY_AGAIN_AFTER};
use crate::foreign::guarded;
use crate::store::InstanceKey;

/// How often a host that has heard nothing of its lease looks whether it has it still.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The time limit of an attempt if the call does not set one.
const ATTEMPT_TIMEOUT: Millis = Millis(5 * 60 * 1_000);

/// Queued and running activities.
pub(crate) struct Activities {
    state: OrderedMutex<State, { rank::ACTIVITIES }>,
    pub(in crate::engine) processors: Arc<Processors>,
    /// Set to true when the engine stops, which drops the running attempts.
    pub(super) stop: watch::Sender<bool>,
    /// Set to true before that, when no attempt starts any more and the running ones should end.
    pub(super) draining: watch::Sender<bool>,
    /// Told when partitions are given away, whose attempts are dropped.
    pub(super) left: watch::Sender<()>,
    /// Heartbeats that are not written yet.
    pub(in crate::engine) beats: FreshBeats,
}

/// A running attempt.
#[derive(Default)]
pub(super) struct Running {
    pub(super) interrupt: Interrupt,
    pub(super) heart: Heart,
    /// When it began; `None` while it is prepared.
    pub(super) started_at: Option<Timestamp>,
}

#[derive(Default)]
pub(super) struct State {
    /// Decides which attempt is next, of those that this host runs itself.
    pub(super) order: FairQueue,
    pub(super) ready: BTreeMap<AttemptKey, Ready>,
    pub(super) running: BTreeMap<AttemptKey, Running>,
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
            draining: watch::Sender::new(false),
            left: watch::Sender::new(()),
            beats: FreshBeats::default(),
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
        if state.stopped || is_queued || state.runs(place) || !engine.owns(ready.key) {
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
            .for_each(|(_, running)| running.interrupt.set());
    }

    /// Drops the queued activities of an instance that has ended, and returns them. The running ones are told with their next heartbeat; with
    /// `interrupt` they are interrupted.
    pub(crate) fn cancel_instance(&self, key: InstanceKey, interrupt: bool) -> Vec<AttemptKey> {
        let mut state = self.state();
        let dropped = state.drop_ready(key, |_| true);
        for (_, running) in state.running.range(all_of(key)) {
            drop(running.heart.stop());
            if interrupt {
                running.interrupt.set();
            }
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
        if let Some(running) = state.running.get(&(key, task)) {
            running.interrupt.set();
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

    /// The heart of a running attempt.
    pub(super) fn heart_of(&self, place: AttemptKey) -> Option<Heart> {
        let state = self.state();
        state
            .running
            .get(&place)
            .map(|running| running.heart.clone())
    }
}

impl State {
    pub(super) fn runs(&self, place: AttemptKey) -> bool {
        self.running.contains_key(&place) || self.ending.contains(&place)
    }

    /// Takes the next attempt that may run, with a place.
    fn next(&mut self, engine: &Arc<Engine>) -> Option<Begun> {
        if engine.activities.is_draining() {
            return None;
        }
        while let Some((place, attempt, holder)) = self.order.next() {
            let is_it = |ready: &Ready| ready.attempt == attempt;
            if self.ready.get(&place).is_some_and(is_it)
                && let Some(ready) = self.ready.remove(&place)
                && let Some(slot) = self.free.pop()
            {
                let interrupt = Interrupt::default();
                let before = ready.heartbeat.clone();
                let heart = Heart::of(engine, place, interrupt.clone(), before);
                let running = Running {
                    interrupt: interrupt.clone(),
                    heart: heart.clone(),
                    started_at: None,
                };
                self.running.insert(place, running);
                let held = Held {
                    engine: Arc::clone(engine),
                    place,
                    slot,
                    holder,
                    interrupt,
                    heart,
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
    heart: Heart,
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
        if !still_owns(&engine).await || !begins(&engine, place) {
            // The activity is queued again when its instance is resumed, or by the next host.
        } else if let Some(failure) = ready.given_up(started_at) {
            engine.activities.state().ending.insert(place);
            engine.activities.state().running.remove(&place);
            give_up(&engine, ready, failure);
        } else {
            match start_once(&engine, &ready, started_at).await {
                Started::Yes => run(&engine, ready, started_at, &held).await,
                Started::Unknown(failure) => {
                    engine.activities.is_ending(place);
                    let began = ready.begun_at.unwrap_or(started_at);
                    ended(&engine, ready, began, Err(failure), None);
                }
                Started::No => drop(engine.activities.state().running.remove(&place)),
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

/// Runs an attempt that has begun, and handles its outcome.
async fn run(engine: &Arc<Engine>, ready: Ready, started_at: Timestamp, held: &Held) {
    let place = held.place;
    let flight = &engine.hub.flight;
    if !engine.activities.is_begun(place, started_at) {
        return drop(engine.activities.state().running.remove(&place));
    }
    say_begun(&ready);
    let number = Some((ready.task.task, ready.number()));
    flight.begin(held.slot, ready.key, number, started_at);
    let outcome = attempt(engine, &ready, started_at, held).await;
    if outcome.is_none() && engine.activities.state().stopped {
        // The host stops, and records that the attempt was cut off. Until then the flight recorder does.
        return drop(engine.activities.state().running.remove(&place));
    }
    let beat = held.heart.stop();
    let outcome = match outcome {
        Some(Err(AttemptError::Failed(failure))) if engine.stands_down(&failure) => {
            return engine.stood_down(&ready, started_at, held.slot, beat).await;
        }
        Some(Ok(output)) => Ok(output),
        Some(Err(AttemptError::Failed(failure))) => Err(failure),
        Some(Err(AttemptError::Host(shortage))) => {
            flight.end(held.slot);
            did_not_start(engine, &ready).await;
            // First, so that an attempt that is due at once is not taken for a running one.
            engine.activities.state().running.remove(&place);
            return try_later(engine, place, &shortage);
        }
        None => {
            flight.end(held.slot);
            return drop(engine.activities.state().running.remove(&place));
        }
    };
    flight.end(held.slot);
    // All outcomes of executors (modules, closures, builtin activities) pass here, which bounds the size of their failures.
    let payload_bytes = ready.caller.limits.payload_bytes;
    let outcome = outcome.map_err(|failure| failure.bounded(payload_bytes));
    engine.activities.is_ending(place);
    engine.counts.activities.add(1);
    engine.trouble.backoff.over((place.0, Some(place.1)));
    engine.attempt_ended(&ready, started_at, outcome.as_ref().err());
    ended(engine, ready, started_at, outcome, beat);
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
    let begins = !engine.is_suspended(key) && !engine.activities.is_draining() && engine.owns(key);
    if !begins {
        state.running.remove(&(key, task));
    }
    begins
}

/// Waits until this host knows that it owns the hub still: one that was stopped for a while may have been replaced, and must not begin what its
/// successor begins. `false` if the host stops.
pub(super) async fn still_owns(engine: &Engine) -> bool {
    while !engine.hub.writer.is_sure() {
        if engine.is_stopping() {
            return false;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    true
}

/// Runs an attempt; `None` if the host stops before its end.
async fn attempt(
    engine: &Arc<Engine>,
    ready: &Ready,
    started_at: Timestamp,
    held: &Held,
) -> Option<Result<Option<Json>, AttemptError>> {
    if let Some(failure) = fails_before(engine, ready) {
        return Some(Err(failure.into()));
    }
    let timeout = ready.timeout.unwrap_or(ATTEMPT_TIMEOUT);
    let attempt = attempt_of(engine, ready, started_at, timeout, held);
    held.heart.begin();
    let mut stop = engine.activities.stop.subscribe();
    // Executors catch their own panics. If one does not, the attempt must still give its place back.
    let run =
        AssertUnwindSafe(async { engine.code.activity_executor.run(attempt).await }).catch_unwind();
    let run = tokio::time::timeout(Duration::from_millis(timeout.0), run);
    let silent = ready.options.heartbeat_timeout;
    let silence = async {
        match silent {
            Some(Millis(span)) => held.heart.silent(Duration::from_millis(span)).await,
            None => std::future::pending().await,
        }
    };
    let mut left = engine.activities.left.subscribe();
    let outcome = tokio::select! {
        outcome = run => outcome,
        _ = stop.wait_for(|stop| *stop) => return None,
        _ = left.wait_for(|()| !engine.owns(ready.key)) => return None,
        () = silence => {
            held.interrupt.set();
            let message = format!(
                "an attempt of activity {:?} sent no heartbeat for {} ms",
                ready.name,
                silent.unwrap_or_default().0
            );
            let failure = Failure::retryable(kind::HEARTBEAT_TIMEOUT, message);
            return Some(Err(ready.cut_short(failure).into()));
        }
    };
    let succeeded = matches!(outcome, Ok(Ok(Ok(_))));
    if !succeeded && (engine.activities.state().stopped || !engine.owns(ready.key)) {
        // The attempt was interrupted because the host stops or gave the instance away, not because it failed. It runs again.
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
            held.interrupt.set();
            let message = format!(
                "an attempt of activity {:?} took longer than {} ms",
                ready.name, timeout.0
            );
            let failure = Failure::retryable(kind::TIMEOUT, message);
            return Some(Err(ready.cut_short(failure).into()));
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
    held: &Held,
) -> Attempt {
    let (caller, number) = (&ready.caller, ready.number());
    let processors = Arc::clone(&engine.activities.processors);
    Attempt {
        module: module_of(&ready.target),
        name: ready.name.clone(),
        input: items::as_json(ready.input.clone()),
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
        interrupt: held.interrupt.clone(),
        heart: held.heart.clone(),
        share: Share::new(processors, ready.key, caller.module),
    }
}
