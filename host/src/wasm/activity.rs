//! Activities: ordinary programs with WASI, each attempt in a fresh instance.
//!
//! An attempt begins where its future is polled: most are shorter than the way to another thread. One that computes past a tick of the
//! engine's epoch moves to one of tokio's blocking threads, so that one that computes for minutes holds up nobody; one that may read files
//! is there from the beginning. Wherever it runs it is asynchronous: an attempt that computes is interrupted by the epoch, one that sleeps or
//! waits for input is dropped where it waits. What cannot be interrupted is a single file operation that blocks in the system, on a dead
//! network mount for instance: the attempt then ends, late, when the operation does.

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
        // What is wrong is said by the attempt.
        Some(Box::pin(compiling.map(drop)))
    }

    fn run(&self, attempt: Attempt) -> AttemptFuture {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let Some(module) = attempt.module else {
                let message = format!("no module has the activity {:?}", attempt.name);
                return Err(Failure::permanent(kind::UNKNOWN_ACTIVITY, message).into());
            };
            // It may run on another thread when its future is dropped.
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
                    // Given back only after the instance is gone: there is a place in the pool for each permit.
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
            // It panics where the system has no thread, and none that ran something before is left.
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

/// Begins on whatever thread polls it, and asks to be moved if it computes for long.
const IN_PLACE: u8 = 0;
/// Has asked to be moved.
const MOVES: u8 = 1;
/// Runs on a thread that it may block.
const ON_A_THREAD: u8 = 2;

/// Where an attempt runs, and whether it takes turns with others there.
#[derive(Clone)]
struct AttemptPermit(Arc<Stand>);

struct Stand {
    place: AtomicU8,
    /// Whether it was seen to compute: from then on it does so in turns.
    computes: AtomicBool,
    share: Share,
    /// Of its activity, where it does not block as well.
    pace: Option<Arc<Pace>>,
    /// Nanoseconds that its thread had of a processor when the epoch last ticked for it.
    ran: AtomicU64,
}

impl AttemptPermit {
    /// One that blocks has no pace.
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

    /// Polls an attempt wherever it is polled, in turns with others once it computes.
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

    /// Runs an attempt here until it has to go to a thread of its own; `None` says that it has to.
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

    /// What an attempt does that is under way as the epoch ticks.
    fn on_tick(&self) -> UpdateDeadline {
        if !self.is(ON_A_THREAD) {
            self.0.computes.store(true, Ordering::Relaxed);
            self.0.place.store(MOVES, Ordering::Relaxed);
            return UpdateDeadline::Yield(1);
        }
        // One that was in the system for most of the time holds up nobody.
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

/// What an attempt has of a processor between two ticks if it computes.
const COMPUTES_NANOS: u64 = 5_000_000;

/// Nanoseconds that this thread had of a processor.
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
    let log = Arc::new(Mutex::new(GuestLog::loud(attempt.instance_id.as_str())));
    let ambient = || {
        Ambient::new(attempt, grants, shared.config.activity_memory_bytes, &log)
            .map_err(AttemptError::of_fault)
    };
    let calls = place.clone();
    let called = calls.in_turns(async {
        let ready = shared.activities(module).map_err(AttemptError::of_fault)?;
        let mut store = into_store(ambient()?, &ready.engine, watch.clone(), place.clone());
        let mut started = ready.pre.instantiate(&mut store).await;
        if matches!(&started, Err(error) if error.is::<PoolConcurrencyLimitError>()) {
            // A component may be made of more parts than the pool has for each attempt.
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

/// Why an attempt did not come to its first instruction. Its component was ready: what is not its own doing is what the host lacks.
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

/// Why an attempt broke off.
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
    // What it found in the world may be different next time; what it asks of the host will not.
    failure.retryable = [kind::PANIC, kind::TRAP].contains(&failure.kind.as_str());
    failure
}

/// Why an attempt does not run to its end.
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

/// Knows when an attempt is to stop.
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

    /// Returns when an attempt that waits is to stop. One that computes looks at every tick of the epoch.
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

/// A store around the state of an attempt, which is looked after at every tick of the epoch.
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
