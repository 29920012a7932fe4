//! Activities: ordinary programs with WASI, each attempt in a fresh instance.
//!
//! An attempt starts where its future is polled: most attempts are shorter than a switch to another thread. One that computes past a tick
//! of the engine's epoch moves to one of tokio's blocking threads, so that long computations delay no other task; one that may read files
//! starts there. An attempt is asynchronous on any thread: while it computes, the epoch interrupts it; while it sleeps or waits for input,
//! its future can be dropped. Only a file operation that blocks in the system cannot be interrupted, on a dead network mount for example:
//! the attempt then ends late, with the operation.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use futures::FutureExt;
use perennial_core::{Digest, Failure, Json, kind};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;
use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, Store, UpdateDeadline};

use super::ambient::Ambient;
use super::answer::is_json;
use super::code;
use super::guest_log::GuestLog;
use super::host::{Shared, Wasm};
use super::stop;
use crate::engine::executor::Grants;
use crate::engine::executor::{
    ActivityExecutor, Attempt, AttemptError, AttemptFuture, Interrupt, Resource, Share, Shortage,
};
use crate::engine::workers::processors::Pace;
use crate::limits::ATTEMPT_RESOURCES;

impl ActivityExecutor for Wasm {
    fn prepare(&self, module: Digest) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        if self.shared.has_activities(module) {
            return None;
        }
        let shared = Arc::clone(&self.shared);
        let compiling = tokio::task::spawn_blocking(move || drop(shared.activities(module)));
        // The attempt reports errors.
        Some(Box::pin(compiling.map(drop)))
    }

    fn run(&self, attempt: Attempt) -> AttemptFuture {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let Some(module) = attempt.module else {
                let message = format!("no module has the activity {:?}", attempt.name);
                return Err(Failure::permanent(kind::UNKNOWN_ACTIVITY, message).into());
            };
            // The attempt may run on another thread when its future is dropped.
            let (told, _told_when_dropped) = attempt.interrupt.until_dropped();
            let watch = Watch::new(&attempt, told);
            let permit = Arc::clone(&shared.permits).acquire_owned().await;
            let grants = (shared.grants)(module).map_err(AttemptError::of_fault)?;
            // Opening a file and loading a module may block.
            let blocks = !grants.dirs.is_empty() || !shared.has_activities(module);
            let pace = if blocks {
                None
            } else {
                let ready = shared.activities(module).map_err(AttemptError::of_fault)?;
                Some(ready.pace(&attempt.name))
            };
            let place = AttemptPermit::new(attempt.share.clone(), pace);
            let mut running = Box::pin({
                let place = place.clone();
                async move {
                    // Returned only after the instance is gone: the pool has one slot for each permit.
                    let _permit = permit;
                    let _ticking = shared.ticker.keep_ticking();
                    run(&shared, module, &grants, &attempt, watch, place).await
                }
            });
            if let Some(outcome) = place.poll_in_place(&mut running).await {
                return outcome;
            }
            let runtime = Handle::current();
            let blocking = || tokio::task::spawn_blocking(move || runtime.block_on(running));
            // Spawning panics if the system has no thread left and no idle one exists.
            let Ok(ran) = catch_unwind(AssertUnwindSafe(blocking)) else {
                return Err(Shortage::new(Resource::Threads, "no thread for an attempt").into());
            };
            match ran.await {
                Ok(outcome) => outcome,
                Err(error) => {
                    let message = format!("the attempt's thread ended early: {error}");
                    Err(Failure::retryable(kind::HOST_ERROR, message).into())
                }
            }
        })
    }
}

/// Starts on the polling thread, and asks to be moved if it computes for long.
const IN_PLACE: u8 = 0;
/// Has asked to be moved.
const MOVES: u8 = 1;
/// Runs on a blocking thread.
const ON_A_THREAD: u8 = 2;

/// Where an attempt runs, and whether it shares processor time there.
#[derive(Clone)]
struct AttemptPermit(Arc<Stand>);

struct Stand {
    place: AtomicU8,
    /// Whether it has been seen computing: from then on it runs in turns.
    computes: AtomicBool,
    share: Share,
    /// The pace of its activity, unless it runs on a blocking thread.
    pace: Option<Arc<Pace>>,
    /// Processor time of its thread at the last tick, in nanoseconds.
    ran: AtomicU64,
}

impl AttemptPermit {
    /// An attempt on a blocking thread has no pace.
    fn new(share: Share, pace: Option<Arc<Pace>>) -> Self {
        let is_quick = pace.as_ref().is_some_and(|pace| pace.is_quick());
        Self(Arc::new(Stand {
            place: AtomicU8::new(if is_quick { IN_PLACE } else { ON_A_THREAD }),
            computes: AtomicBool::new(!is_quick && pace.is_some()),
            share,
            pace,
            ran: AtomicU64::new(u64::MAX),
        }))
    }

    fn is(&self, place: u8) -> bool {
        self.0.place.load(Ordering::Relaxed) == place
    }

    /// Polls an attempt, in turns with others once it computes.
    async fn in_turns<F: Future>(&self, running: F) -> F::Output {
        let mut running = pin!(running);
        let mut turn = self.0.share.turn();
        let mut poll = |context: &mut Context<'_>| {
            let begun = Instant::now();
            let polled = running.as_mut().poll(context);
            if let Some(pace) = &self.0.pace {
                pace.took(begun.elapsed());
            }
            polled
        };
        std::future::poll_fn(|context| {
            if self.0.computes.load(Ordering::Relaxed) {
                turn.poll_with(context, &mut poll)
            } else {
                poll(context)
            }
        })
        .await
    }

    /// Polls an attempt on this thread; `None` means that it must move to a blocking thread.
    async fn poll_in_place<F: Future + Unpin>(&self, running: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            if self.is(ON_A_THREAD) {
                return Poll::Ready(None);
            }
            match running.poll_unpin(context) {
                Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                Poll::Pending if self.is(MOVES) => {
                    self.0.place.store(ON_A_THREAD, Ordering::Relaxed);
                    Poll::Ready(None)
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Called at each tick of the epoch for a running attempt.
    fn on_tick(&self) -> UpdateDeadline {
        if !self.is(ON_A_THREAD) {
            self.0.computes.store(true, Ordering::Relaxed);
            self.0.place.store(MOVES, Ordering::Relaxed);
            return UpdateDeadline::Yield(1);
        }
        // One that spent most of the time in the system delays no other attempt.
        let ran = thread_nanos();
        let since = ran.saturating_sub(self.0.ran.swap(ran, Ordering::Relaxed));
        let began = since >= COMPUTES_NANOS && !self.0.computes.swap(true, Ordering::Relaxed);
        let computes = self.0.computes.load(Ordering::Relaxed);
        if began || computes && self.0.share.is_wanted() {
            UpdateDeadline::Yield(1)
        } else {
            UpdateDeadline::Continue(1)
        }
    }
}

/// Processor time between two ticks from which an attempt counts as computing.
const COMPUTES_NANOS: u64 = 5_000_000;

/// Processor time of this thread in nanoseconds.
fn thread_nanos() -> u64 {
    let had = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(had.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(had.tv_nsec).unwrap_or_default()
}

async fn run(
    shared: &Shared,
    module: Digest,
    grants: &Grants,
    attempt: &Attempt,
    watch: Watch,
    place: AttemptPermit,
) -> Result<Option<Json>, AttemptError> {
    watch.check().map_err(|stopped| stopped.failure(attempt))?;
    let kept = shared.lines.as_ref();
    let log = GuestLog::loud(attempt.instance_id.as_str()).kept_in(kept);
    let log = Arc::new(Mutex::new(log));
    let ambient = || {
        let memory_bytes = shared.config.activity_memory_bytes;
        Ambient::new(attempt, grants, memory_bytes, &log, kept).map_err(AttemptError::of_fault)
    };
    let calls = place.clone();
    let called = calls.in_turns(async {
        let ready = shared.activities(module).map_err(AttemptError::of_fault)?;
        let mut store = into_store(ambient()?, &ready.engine, watch.clone(), place.clone());
        let mut started = ready.pre.instantiate(&mut store).await;
        if matches!(&started, Err(error) if error.is::<PoolConcurrencyLimitError>()) {
            // A component may have more parts than the pool reserves for each attempt.
            let ready = shared
                .spare_activities(module)
                .map_err(AttemptError::of_fault)?;
            store = into_store(ambient()?, &ready.engine, watch.clone(), place);
            started = ready.pre.instantiate(&mut store).await;
        }
        let started = started.map_err(|error| not_started(&error, &mut store, attempt))?;
        let ran = started.run(&mut store, attempt).await;
        ran.map_err(|error| not_ended(&error, &mut store, attempt))
    });
    let outcome = tokio::select! {
        biased;
        outcome = called => outcome,
        stopped = watch.stopped() => Err(stopped.failure(attempt).into()),
    };
    log.lock().unwrap_or_else(PoisonError::into_inner).flush();
    match outcome {
        Ok(Ok(result)) if result.as_ref().is_none_or(|json| is_json(json.as_str())) => Ok(result),
        Ok(Ok(_)) => Err(Failure::permanent(
            kind::INVALID_RESULT,
            format!("the result of {:?} is not JSON", attempt.name),
        )
        .into()),
        Ok(Err(failure))
            if failure
                .details
                .as_ref()
                .is_none_or(|json| is_json(json.as_str())) =>
        {
            Err(failure.into())
        }
        Ok(Err(failure)) => Err(Failure::permanent(
            kind::INVALID_RESULT,
            format!(
                "the details of the failure of {:?} are not JSON; it failed with {failure}",
                attempt.name
            ),
        )
        .into()),
        Err(error) => Err(error),
    }
}

/// Why an attempt was not started. Its component was ready, so any cause that is not the component's own is a shortage of the host.
fn not_started(
    error: &wasmtime::Error,
    store: &mut Store<Ambient>,
    attempt: &Attempt,
) -> AttemptError {
    let is_guests =
        error.is::<Stopped>() || stop::is_guests(error) || store.data().limiter.refused();
    if is_guests && !store.data().limiter.starved() {
        return failure_of(error, store, attempt).into();
    }
    let resource = code::lacks(error).unwrap_or(Resource::Memory);
    Shortage::new(resource, format!("an attempt cannot be made: {error:#}")).into()
}

/// Turns the error of an attempt into a failure.
fn not_ended(
    error: &wasmtime::Error,
    store: &mut Store<Ambient>,
    attempt: &Attempt,
) -> AttemptError {
    let lacks = code::lacks(error).filter(|resource| resource.is_of_process());
    let starved = store.data().limiter.starved().then_some(Resource::Memory);
    match lacks.or(starved) {
        Some(resource) => {
            Shortage::new(resource, format!("an attempt cannot go on: {error:#}")).into()
        }
        None => failure_of(error, store, attempt).into(),
    }
}

fn failure_of(error: &wasmtime::Error, store: &mut Store<Ambient>, attempt: &Attempt) -> Failure {
    if let Some(stopped) = error.downcast_ref::<Stopped>() {
        return stopped.failure(attempt);
    }
    if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) {
        let message = format!(
            "{:?} has more than {} files, streams and other resources open at once",
            attempt.name, ATTEMPT_RESOURCES
        );
        return Failure::permanent(kind::LIMIT_EXCEEDED, message);
    }
    let ambient = store.data_mut();
    let mut failure = stop::failure_of(error, &mut ambient.log, &ambient.limiter);
    if failure.kind == kind::INVALID_ANSWER {
        kind::INVALID_RESULT.clone_into(&mut failure.kind);
    }
    // Causes in the outside world may be gone next time; a missing import will not.
    failure.retryable = [kind::PANIC, kind::TRAP].contains(&failure.kind.as_str());
    failure
}

/// Why an attempt is stopped early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Stopped {
    #[error("the attempt's deadline has passed")]
    Deadline,
    #[error("nobody waits for the attempt any more")]
    Told,
}

impl Stopped {
    fn failure(self, attempt: &Attempt) -> Failure {
        let what = format!("attempt {} of activity {:?}", attempt.attempt, attempt.name);
        match self {
            Self::Deadline => Failure::retryable(
                kind::TIMEOUT,
                format!("{what} ran longer than its attempt timeout"),
            ),
            Self::Told => Failure::permanent(
                kind::CANCELED,
                format!("{what} was interrupted: nobody waits for it any more"),
            ),
        }
    }
}

/// Watches for the reasons to stop an attempt.
#[derive(Clone)]
struct Watch {
    deadline: Option<Instant>,
    told: Interrupt,
}

impl Watch {
    fn new(attempt: &Attempt, told: Interrupt) -> Self {
        Self {
            deadline: attempt
                .timeout
                .and_then(|timeout| Instant::now().checked_add(timeout)),
            told,
        }
    }

    fn check(&self) -> Result<(), Stopped> {
        if self.told.is_set() {
            return Err(Stopped::Told);
        }
        if self
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
        {
            return Err(Stopped::Deadline);
        }
        Ok(())
    }

    /// Returns when a waiting attempt must stop. A computing one checks at every tick of the epoch.
    async fn stopped(&self) -> Stopped {
        let deadline = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.told.told() => Stopped::Told,
            () = deadline => Stopped::Deadline,
        }
    }
}

/// Creates the store of an attempt, with the callback for each tick of the epoch.
fn into_store(
    ambient: Ambient,
    engine: &wasmtime::Engine,
    watch: Watch,
    place: AttemptPermit,
) -> Store<Ambient> {
    let mut store = Store::new(engine, ambient);
    store.limiter(|ambient| &mut ambient.limiter);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        watch.check()?;
        Ok(place.on_tick())
    });
    store
}
