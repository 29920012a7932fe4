//! The engine: wakes instances, runs turns on worker threads, runs activities, fires timers.
//!
//! ```text
//!   client ──start──▶ slot ◀──result── activities        timers ──due──▶ slot
//!                      │ mail                ▲                ▲
//!                      ▼                     │                │
//!                   worker ──turn──▶ writer ─┴─ committed ────┘
//!                 (core, guest)     (SQLite)    (act on it)
//! ```
//!
//! Invariants: at most one turn of an instance runs at a time; nothing of a turn leaves before its commit; losing everything that is in
//! memory at any moment loses nothing that was acknowledged. Nothing here knows wasm or SQL.

pub(crate) mod clock;
pub mod executor;
pub(crate) mod flight;
mod locks;
pub(crate) mod memory;
pub(crate) mod modules;
pub(crate) mod requests;
pub mod spans;
pub(crate) mod tasks;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod turn;
pub(crate) mod upkeep;
pub(crate) mod workers;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, PoisonError, RwLock};
use std::thread::JoinHandle;

use perennial_core::{Limits, Millis, Timestamp};

use crate::engine::clock::{Clock, Guarded};
use crate::engine::executor::{ActivityExecutor, Executor};
use crate::engine::flight::FlightRecorder;
use crate::engine::locks::{OrderedMutex, rank};
use crate::engine::memory::slots::{Slot, Slots};
use crate::engine::memory::waiters::Waiters;
use crate::engine::requests::intake::Requests;
use crate::engine::spans::{Span, SpanSink};
use crate::engine::tasks::activities::Activities;
use crate::engine::tasks::backoff::Backoff;
use crate::engine::tasks::timers::Timers;
use crate::engine::turn::load;
use crate::engine::upkeep::counts::Counts;
use crate::engine::upkeep::retention::Retention;
pub(crate) use crate::engine::workers::threads::SHUT_DOWN_MAX;
use crate::engine::workers::threads::{Queue, UnderWay};
use crate::foreign::Listener;
use crate::outage::Outage;
use crate::shortage::Shortages;
use crate::store::{
    self, Change, InstanceKey, Outcome, OwnerLock, OwnerNote, Reader, StoreError, WasRunning,
    Write, Writer, WriterCounts,
};

pub(crate) use memory::waiters::Until;
pub use modules::limits::ModuleLimits;
pub(crate) use modules::names::NameTable;
pub(crate) use requests::bounds::brief;
pub(crate) use requests::owner::Owner;
pub(crate) use requests::request::{
    Preparation, Request, RestartRequest, RewindRequest, StartRequest,
};
pub(crate) use requests::steps::carry_out;
pub(crate) use turn::load::find_start;
pub(crate) use turn::replay::{LoadError, MakeGuest, replay};
pub use upkeep::quotas::Quotas;
pub use upkeep::stats::{CommitTimings, HostStats};

/// Target of the log lines that tell what instances do. Filters name it, so it does not follow the files of the engine.
pub(crate) const LOG_INSTANCES: &str = "perennial::engine::committed";

/// Target of the log lines about attempts of activities, as [`LOG_INSTANCES`].
pub(crate) const LOG_ATTEMPTS: &str = "perennial::engine::attempts";

/// How long something waits that could not be read or written, before it is tried again.
const TRY_AGAIN_AFTER: Millis = Millis(1_000);

/// How an engine is set up.
#[derive(Clone, Debug)]
pub(crate) struct EngineConfig {
    /// Threads that run turns.
    pub(crate) workers: usize,
    /// Guests kept in memory.
    pub(crate) resident_max: usize,
    /// Bytes of guests kept in memory.
    pub(crate) resident_bytes_max: usize,
    /// Activities at once.
    pub(crate) activities_max: usize,
    /// What may be taken up.
    pub(crate) quotas: Quotas,
    /// What new executions may use.
    pub(crate) limits: Limits,
    /// What kind of process this is, for whoever finds the hub in use.
    pub(crate) what: String,
}

/// What the engine is given.
pub(crate) struct EngineParts {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) activity_executor: Arc<dyn ActivityExecutor>,
    /// Who is told of what has ended.
    pub(crate) spans: Option<Arc<dyn SpanSink>>,
    /// Activities that the host's program registered.
    pub(crate) native: BTreeSet<String>,
    pub(crate) runtime: tokio::runtime::Handle,
    /// Counted up when a module was deployed or what it is granted has changed.
    pub(crate) deployments: Arc<AtomicU64>,
}

/// Work for a worker.
pub(crate) enum Work {
    /// The next turn of an instance.
    Run(Arc<Slot>),
    /// The writer is done with something of an instance.
    Committed(Box<Committed>),
    /// Rows that are no longer needed.
    Collect,
    /// Instances that have been kept long enough.
    Retain,
}

/// See [`Work::Committed`].
pub(crate) struct Committed {
    pub(crate) slot: Arc<Slot>,
    pub(crate) change: Change,
    pub(crate) result: Result<Outcome, StoreError>,
}

/// The engine of one hub. See the [module](self); [`locks`] has the order of its locks.
pub(crate) struct Engine {
    config: EngineConfig,
    runtime: tokio::runtime::Handle,
    pub(crate) clock: Arc<dyn Clock>,
    hub: Hub,
    code: Code,
    memory: Memory,
    timers: Timers,
    retention: Retention,
    activities: Activities,
    work: WorkQueue,
    requests: Requests,
    pub(crate) trouble: Trouble,
    spans: Option<Listener<Span>>,
    pub(crate) counts: Counts,
    pub(crate) end: End,
}

/// The files of the hub. `owner` protects the file that says who owns it.
struct Hub {
    path: PathBuf,
    owner: OrderedMutex<Option<OwnerLock>, { rank::OWNER }>,
    writer: Writer,
    reader: Reader,
    next_key: AtomicI64,
    flight: FlightRecorder,
}

/// What runs guests and activities, and what names mean. The lock of `names` is held to copy or replace the pointer, not to read the hub.
struct Code {
    executor: Arc<dyn Executor>,
    activity_executor: Arc<dyn ActivityExecutor>,
    native: BTreeSet<String>,
    deployments: Arc<AtomicU64>,
    names: RwLock<Arc<NameTable>>,
    /// Whether names could not be read after they had changed.
    names_are_old: AtomicBool,
}

/// What is known of instances. Each part has its own locks: `slots` one for the table, one for which are hot, and two for each instance.
struct Memory {
    slots: Slots,
    suspended: OrderedMutex<HashSet<InstanceKey>, { rank::SUSPENDED }>,
    waiters: Waiters,
}

/// What waits for a worker. The lock of `queue` also protects the counts by which the engine knows that it is at rest.
#[derive(Default)]
struct WorkQueue {
    queue: OrderedMutex<Queue, { rank::QUEUE }>,
    /// Told of work, and of whatever ends while the engine stops.
    there: Condvar,
    /// Whether a worker was asked to delete what is no longer needed.
    collecting: AtomicBool,
}

/// How much the engine lacks, and how often it failed. `backoff` has a lock in the order; the others come after all of it.
#[derive(Default)]
pub(crate) struct Trouble {
    /// Turns that the hub did not take.
    outage: Outage,
    /// What the host lacks.
    pub(crate) shortages: Shortages,
    /// What is tried again for lack of something.
    backoff: Backoff,
    /// Panics of what this engine is given.
    panics: Outage,
}

/// How the engine ends. `threads` protects the handles of threads that are not joined yet.
#[derive(Default)]
pub(crate) struct End {
    stopping: AtomicBool,
    /// Whether the hub is another owner's.
    pub(crate) lost: tokio::sync::watch::Sender<bool>,
    threads: OrderedMutex<Vec<JoinHandle<()>>, { rank::THREADS }>,
}

impl Hub {
    /// Takes a hub over. With it, what was running when its last host died.
    fn take_over(
        path: &Path,
        quotas: &Quotas,
        now: Timestamp,
    ) -> Result<(Self, Vec<WasRunning>), StoreError> {
        let owned = store::take_over(path, now)?;
        if quotas.counts_instances() {
            owned.writer.live().enable();
        }
        if quotas.hub_bytes.is_some() {
            owned.writer.space().enable();
        }
        let (flight, were_running) = FlightRecorder::open(path)?;
        let hub = Self {
            path: path.to_owned(),
            next_key: AtomicI64::new(owned.reader.last_key()?.0 + 1),
            owner: OrderedMutex::new(Some(owned.lock)),
            writer: owned.writer,
            reader: owned.reader,
            flight,
        };
        Ok((hub, were_running))
    }
}

impl Engine {
    /// Takes a hub over and starts to run what is in it.
    pub(crate) fn start(
        path: &Path,
        config: EngineConfig,
        parts: EngineParts,
    ) -> Result<Arc<Self>, StoreError> {
        let clock: Arc<dyn Clock> = Arc::new(Guarded::new(parts.clock));
        let (hub, were_running) = Hub::take_over(path, &config.quotas, clock.now())?;
        let seen = hub.reader.last_commit()?;
        let names = NameTable::new(hub.reader.names()?, parts.native.clone(), config.limits);
        let engine = Arc::new(Self {
            runtime: parts.runtime,
            code: Code {
                executor: parts.executor,
                activity_executor: parts.activity_executor,
                native: parts.native,
                deployments: parts.deployments,
                names: RwLock::new(Arc::new(names)),
                names_are_old: AtomicBool::new(false),
            },
            memory: Memory {
                slots: Slots::new(config.resident_max, config.resident_bytes_max),
                suspended: OrderedMutex::new(hub.reader.suspended()?.into_iter().collect()),
                waiters: Waiters::default(),
            },
            timers: Timers::new(Arc::clone(&clock)),
            retention: Retention::default(),
            activities: Activities::new(
                config.activities_max,
                config.workers,
                config.quotas.activities_per_module,
            ),
            work: WorkQueue::default(),
            requests: Requests::default(),
            trouble: Trouble::default(),
            spans: parts.spans.map(spans::listener),
            counts: Counts::default(),
            end: End::default(),
            clock,
            config,
            hub,
        });
        // What was under way is queued before anything runs: so nothing of it can have ended, and be queued again, meanwhile.
        let started = engine
            .count_deliveries(were_running)
            .and_then(|()| engine.recover(seen))
            .and_then(|()| engine.spawn_threads());
        if let Err(error) = started {
            engine.abandon();
            return Err(error);
        }
        Ok(engine)
    }

    /// Gives the hub back where the engine could not start.
    fn abandon(self: &Arc<Self>) {
        self.queue().work.clear();
        self.work.collecting.store(false, Ordering::Release);
        self.shut_down();
    }

    fn count_deliveries(self: &Arc<Self>, were_running: Vec<WasRunning>) -> Result<(), StoreError> {
        for was in &were_running {
            let (instance, task) = (self.name_of(was.key), was.task.map(|task| task.0));
            tracing::warn!(
                instance,
                task,
                "was running when the last host of the hub died"
            );
        }
        self.write_blocking(Change::CountDeliveries(were_running))?;
        self.hub.flight.clear().map_err(|source| {
            StoreError::file(
                "could not clear",
                store::with_suffix(&self.hub.path, ".running"),
            )(source)
        })
    }

    /// Queues everything that was under way when the last owner left.
    fn recover(self: &Arc<Self>, seen: Timestamp) -> Result<(), StoreError> {
        self.timers.load(&self.hub.reader, seen)?;
        let mut after = (InstanceKey(i64::MIN), i64::MIN);
        loop {
            let rows = self.hub.reader.ready_activities(after, 1_000)?;
            let Some(last) = rows.last() else { break };
            after = (last.key, i64::from(last.task.task.0));
            for ready in load::ready(self, rows)? {
                Activities::push(self, ready);
            }
        }
        for key in self.hub.reader.with_messages(self.clock.now())? {
            self.wake(key);
        }
        if self.hub.reader.has_garbage()? {
            self.collect_garbage();
        }
        self.load_retention()
    }

    // --- Writing

    /// Whether the last commit failed.
    #[cfg(feature = "http")]
    pub(crate) fn fails_to_write(&self) -> bool {
        self.hub.writer.fails()
    }

    /// Hands a change to the writer. `done` is told on the writer's thread.
    pub(crate) fn write(
        self: &Arc<Self>,
        change: Change,
        done: impl FnOnce(Change, Result<Outcome, StoreError>) + Send + 'static,
    ) {
        self.hub.writer.submit(self.job(change, done));
    }

    /// As [`write`](Self::write), on a runtime: it waits for room without a thread. Dropped before that, nothing is written.
    pub(crate) async fn write_later(
        self: &Arc<Self>,
        change: Change,
        done: impl FnOnce(Change, Result<Outcome, StoreError>) + Send + 'static,
    ) {
        self.hub.writer.submit_later(self.job(change, done)).await;
    }

    /// As [`write`](Self::write), from wherever nobody may wait: where there is no room, a task of the runtime waits for it.
    pub(crate) fn write_soon(
        self: &Arc<Self>,
        change: Change,
        done: impl FnOnce(Change, Result<Outcome, StoreError>) + Send + 'static,
    ) {
        if let Some(job) = self.hub.writer.try_submit(self.job(change, done)) {
            let engine = Arc::clone(self);
            self.runtime
                .spawn(async move { engine.hub.writer.submit_later(job).await });
        }
    }

    fn job(
        self: &Arc<Self>,
        change: Change,
        done: impl FnOnce(Change, Result<Outcome, StoreError>) + Send + 'static,
    ) -> Write {
        let under_way = UnderWay::new(self);
        Write::new(change, self.clock.now(), move |change, result| {
            done(change, result);
            drop(under_way);
        })
    }

    fn write_blocking(self: &Arc<Self>, change: Change) -> Result<Outcome, StoreError> {
        let (tell, told) = std::sync::mpsc::channel();
        self.write(change, move |_, result| drop(tell.send(result)));
        told.recv().unwrap_or(Err(StoreError::Closed))
    }

    // --- Names and ids

    /// What names mean now.
    pub(crate) fn names(&self) -> Arc<NameTable> {
        if self.code.names_are_old.load(Ordering::Acquire) {
            self.reload_names();
        }
        Arc::clone(
            &self
                .code
                .names
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    fn reload_names(&self) {
        match self.hub.reader.names() {
            Ok(rows) => {
                let table = Arc::new(NameTable::new(
                    rows,
                    self.code.native.clone(),
                    self.config.limits,
                ));
                *self
                    .code
                    .names
                    .write()
                    .unwrap_or_else(PoisonError::into_inner) = table;
                self.code.names_are_old.store(false, Ordering::Release);
            }
            Err(error) => {
                self.code.names_are_old.store(true, Ordering::Release);
                tracing::error!(%error, "could not read what names mean; they mean what they meant before until they can be read");
            }
        }
    }

    pub(crate) fn next_key(&self) -> InstanceKey {
        InstanceKey(self.hub.next_key.fetch_add(1, Ordering::Relaxed))
    }

    /// The id and the seed of an execution that begins. The id is in the order of time, so that its rows are near each other.
    pub(crate) fn fresh_execution(&self) -> (String, u64) {
        fresh_execution()
    }

    // --- The end

    /// Whether the engine stops.
    pub(crate) fn is_stopping(&self) -> bool {
        self.end.stopping.load(Ordering::Acquire)
    }

    /// Another owner took over, or the store is closed: nothing that this engine does can be kept.
    pub(crate) fn fenced(&self, error: &StoreError) {
        if !self.end.stopping.swap(true, Ordering::AcqRel) {
            tracing::error!(%error, "this host stops running instances");
            self.hub.flight.let_go();
            self.end.lost.send_replace(true);
            self.timers.stop();
            self.activities.stop();
            self.work.there.notify_all();
            self.memory.waiters.clear();
        }
    }

    /// The hub's file.
    pub(crate) fn path(&self) -> &Path {
        &self.hub.path
    }

    /// See [`WriterCounts`].
    pub(crate) fn writer_counts(&self) -> &WriterCounts {
        self.hub.writer.counts()
    }

    /// Guests in memory.
    pub(crate) fn resident(&self) -> usize {
        self.memory.slots.resident()
    }

    /// Drops every guest that waits in memory. How many there were.
    pub(crate) fn evict_all(&self) -> usize {
        self.memory
            .slots
            .all()
            .into_iter()
            .filter(|slot| self.memory.slots.evict(slot.key))
            .count()
    }

    /// Activities that wait, and that run.
    pub(crate) fn activity_counts(&self) -> (usize, usize) {
        self.activities.counts()
    }

    /// Says who owns the hub, and where the owner listens.
    pub(crate) fn announce(&self, socket: Option<PathBuf>) {
        let note = OwnerNote {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            what: self.config.what.clone(),
            socket,
        };
        let mut lock = self.hub.owner.lock();
        if let Some(Err(error)) = lock.as_mut().map(|lock| lock.write_note(&note)) {
            tracing::warn!(%error, "could not say who owns the hub; other processes cannot reach this one");
        }
    }
}

/// The id and the seed of an execution that begins.
pub(crate) fn fresh_execution() -> (String, u64) {
    let seed = uuid::Uuid::new_v4().as_u64_pair();
    (uuid::Uuid::now_v7().simple().to_string(), seed.0 ^ seed.1)
}
