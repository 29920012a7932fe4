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
//! Invariants: at most one turn of an instance runs at a time. No effect of a turn is visible before its commit. A crash at any moment
//! loses nothing that was acknowledged. The engine knows neither wasm nor SQL.

pub(crate) mod clock;
pub mod executor;
mod interrupt;
mod keys;
mod known;
mod locks;
pub(crate) mod memory;
pub(crate) mod modules;
pub(crate) mod partitions;
#[cfg_attr(
    not(feature = "grpc"),
    allow(dead_code, reason = "workers connect over gRPC")
)]
pub(crate) mod remote;
pub(crate) mod requests;
pub mod spans;
pub(crate) mod tasks;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod turn;
pub(crate) mod upkeep;
pub(crate) mod workers;

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, RwLock};
use std::thread::JoinHandle;

use perennial_core::{Limits, Millis, Timestamp};

use crate::engine::clock::{Clock, Guarded};
use crate::engine::executor::{ActivityExecutor, Executor};
use crate::engine::locks::{OrderedMutex, rank};
use crate::engine::memory::elsewhere::Elsewhere;
use crate::engine::memory::slots::{Slot, Slots};
use crate::engine::memory::waiters::Waiters;
use crate::engine::partitions::members::Pace;
use crate::engine::partitions::owned::OwnPartitions;
use crate::engine::remote::{Remote, WorkerTimes};
use crate::engine::requests::intake::Requests;
use crate::engine::spans::{Span, SpanSink};
use crate::engine::tasks::activities::Activities;
use crate::engine::tasks::backoff::Backoff;
use crate::engine::tasks::timers::Timers;
use crate::engine::turn::load;
use crate::engine::turn::receive::Receiving;
use crate::engine::upkeep::counts::Counts;
use crate::engine::upkeep::durations::ActivityDurations;
use crate::engine::upkeep::retention::Retention;
use crate::engine::workers::threads::Queue;
pub(crate) use crate::engine::workers::threads::SHUT_DOWN_MAX;
use crate::foreign::Listener;
use crate::guest_lines::GuestLines;
use crate::outage::Outage;
use crate::shortage::{Resource, Shortage, Shortages};
use crate::store::{
    self, Change, FlightRecorder, InstanceKey, Outcome, Ownership, Partition, Place, Reader, Reply,
    StoreError, WasRunning, Writer, WriterCounts,
};

pub(crate) use memory::waiters::Until;
pub use modules::limits::ModuleLimits;
pub(crate) use modules::names::NameTable;
pub(crate) use requests::bounds::brief;
pub(crate) use requests::owner::Owner;
pub(crate) use requests::request::{
    AskRequest, Preparation, Request, RestartRequest, RewindRequest, StartRequest,
};
pub(crate) use requests::steps::carry_out;
pub(crate) use turn::load::find_start;
pub(crate) use turn::replay::{LoadError, MakeGuest, Replaying, replay};
pub use upkeep::quotas::Quotas;
pub use upkeep::stats::{CommitTimings, HostStats};

/// Target of the log lines that tell what instances do. Filters name it, so it does not follow the files of the engine.
pub(crate) const LOG_INSTANCES: &str = "perennial::engine::committed";

/// Target of the log lines about attempts of activities, as [`LOG_INSTANCES`].
pub(crate) const LOG_ATTEMPTS: &str = "perennial::engine::attempts";

/// The wait after a failed read or write before the next try.
const TRY_AGAIN_AFTER: Millis = Millis(1_000);

#[derive(Clone, Debug)]
pub(crate) struct EngineConfig {
    /// Number of threads that run turns.
    pub(crate) workers: usize,
    /// Maximum number of guests in memory.
    pub(crate) resident_max: usize,
    /// Maximum size of the guests in memory, in bytes.
    pub(crate) resident_bytes_max: usize,
    /// Maximum number of activities that run at once.
    pub(crate) activities_max: usize,
    pub(crate) quotas: Quotas,
    /// Limits of new executions, unless their module has its own.
    pub(crate) limits: Limits,
    /// The kind of this process. Shown to processes that find the hub in use.
    pub(crate) what: String,
    /// Where the HTTP API of this process listens.
    pub(crate) url: Option<String>,
    /// How long a remote worker may take for one item.
    pub(crate) worker_times: WorkerTimes,
}

/// The clock, the executors and the runtime of an engine.
pub(crate) struct EngineParts {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) activity_executor: Arc<dyn ActivityExecutor>,
    /// Receives the spans of executions and attempts that ended.
    pub(crate) spans: Option<Arc<dyn SpanSink>>,
    /// Where the executors keep the log lines of guests.
    pub(crate) lines: Option<Arc<GuestLines>>,
    /// Names of the activities that the embedding program registered.
    pub(crate) native: BTreeSet<String>,
    pub(crate) runtime: tokio::runtime::Handle,
    /// Incremented when a module is deployed or its grants change.
    pub(crate) deployments: Arc<AtomicU64>,
    /// The owners of the other partitions.
    pub(crate) peers: Option<Arc<dyn Peers>>,
    /// Asked, while another process owns the hub, whether to go on waiting for it. Its argument is that process.
    pub(crate) waits: Box<dyn Fn(&str) -> bool + Send>,
}

/// The owners of other partitions of the hub.
pub(crate) trait Peers: Send + Sync {
    /// Passes a request on to the owner of a partition.
    fn submit(&self, to: Partition, request: Request, tell: Tell);
}

/// Receives the answer to a request that was passed on, or why there is none.
pub(crate) type Tell = Box<dyn FnOnce(Result<Reply, StoreError>) + Send>;

/// Work for a worker.
pub(crate) enum Work {
    /// Run the next turn of an instance.
    Run(Arc<Slot>),
    /// The writer has answered a change of an instance.
    Committed(Box<Committed>),
    /// Delete rows that are no longer needed.
    Collect,
    /// Delete instances whose retention time is over.
    Retain,
    /// Receive what other partitions sent.
    Receive,
}

/// The writer's answer to a change, for [`Work::Committed`].
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
    peers: Option<Arc<dyn Peers>>,
    code: Code,
    memory: Memory,
    timers: Timers,
    retention: Retention,
    activities: Activities,
    remote: Remote,
    work: WorkQueue,
    requests: Requests,
    pace: Pace,
    pub(crate) trouble: Trouble,
    spans: Option<Listener<Span>>,
    pub(crate) counts: Counts,
    pub(crate) durations: ActivityDurations,
    pub(crate) lines: Option<Arc<GuestLines>>,
    /// Told after each change of the keys of the HTTP server.
    pub(crate) keys: tokio::sync::watch::Sender<()>,
    pub(crate) end: End,
}

/// The hub, which this process owns until `owner` is dropped.
struct Hub {
    place: Place,
    owner: OrderedMutex<Option<Box<dyn Ownership>>, { rank::OWNER }>,
    /// By what the hub knows this host; `None` if it knows only one.
    epoch: Option<i64>,
    writer: Writer,
    reader: Reader,
    /// The partitions that this engine runs.
    partitions: OwnPartitions,
    /// Whether this host takes and gives partitions while it works.
    is_shared: bool,
    /// The version of what this engine knows of the hub: names of modules, settings, keys.
    known: AtomicI64,
    next_key: AtomicI64,
    flight: FlightRecorder,
}

/// The version of what an engine knew of the hub at some time: names of modules, settings, keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Known(i64);

/// The executors, and the table of names. The lock of `names` is held only to copy or replace the pointer, not while the hub is read.
struct Code {
    executor: Arc<dyn Executor>,
    activity_executor: Arc<dyn ActivityExecutor>,
    native: BTreeSet<String>,
    deployments: Arc<AtomicU64>,
    names: RwLock<Arc<NameTable>>,
    /// Whether reading the names failed after a change, so that the table is out of date.
    names_are_old: AtomicBool,
}

/// Instances in memory. Each part has its own locks: `slots` has one for the table, one for the list of resident guests, and two per
/// instance.
struct Memory {
    slots: Slots,
    suspended: OrderedMutex<HashSet<InstanceKey>, { rank::SUSPENDED }>,
    waiters: Waiters,
    elsewhere: Elsewhere,
}

/// The queue of the workers. The lock of `queue` also protects the counts that tell the engine when it is idle.
#[derive(Default)]
struct WorkQueue {
    queue: OrderedMutex<Queue, { rank::QUEUE }>,
    /// Notified of new work, and while the engine stops of everything that ends.
    there: Condvar,
    /// Whether [`Work::Collect`] is already queued.
    collecting: AtomicBool,
    receiving: Receiving,
}

/// Shortages and failures. Only `backoff` has a ranked lock; the locks of the others come after all ranked locks.
#[derive(Default)]
pub(crate) struct Trouble {
    /// Turns that could not be committed.
    outage: Outage,
    pub(crate) shortages: Shortages,
    /// Delays of retries after shortages.
    backoff: Backoff,
    /// Panics of code of the embedding program.
    panics: Outage,
}

/// The state of the shutdown. `threads` holds the threads that are not joined yet.
#[derive(Default)]
pub(crate) struct End {
    stopping: AtomicBool,
    /// Why this process does not own the hub any more.
    pub(crate) lost: tokio::sync::watch::Sender<Option<StoreError>>,
    threads: OrderedMutex<Vec<JoinHandle<()>>, { rank::THREADS }>,
}

impl Hub {
    /// Takes over a hub. Also returns the turns and attempts that were running when its last host died.
    fn take_over(
        place: &Place,
        config: &EngineConfig,
        waits: &dyn Fn(&str) -> bool,
        now: Timestamp,
    ) -> Result<(Self, Vec<WasRunning>), StoreError> {
        let quotas = &config.quotas;
        let owned = place.take_over(now, &config.what, waits)?;
        if quotas.counts_instances() {
            owned.writer.live().enable();
        }
        if quotas.hub_bytes.is_some() {
            owned.writer.space().enable();
        }
        let hub = Self {
            place: place.clone(),
            partitions: OwnPartitions::new(&owned.partitions),
            is_shared: owned.is_shared,
            known: AtomicI64::new(owned.writer.hub_version()),
            next_key: AtomicI64::new(owned.first_key),
            epoch: owned.owner.epoch(),
            owner: OrderedMutex::new(Some(owned.owner)),
            writer: owned.writer,
            reader: owned.reader,
            flight: owned.flight,
        };
        Ok((hub, owned.were_running))
    }
}

impl Engine {
    /// Takes over a hub and starts to run its instances.
    pub(crate) fn start(
        place: &Place,
        config: EngineConfig,
        parts: EngineParts,
    ) -> Result<Arc<Self>, StoreError> {
        let clock: Arc<dyn Clock> = Arc::new(Guarded::new(parts.clock));
        let (hub, were_running) = Hub::take_over(place, &config, &*parts.waits, clock.now())?;
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
                suspended: OrderedMutex::default(),
                waiters: Waiters::default(),
                elsewhere: Elsewhere::default(),
            },
            timers: Timers::new(Arc::clone(&clock)),
            retention: Retention::default(),
            activities: Activities::new(
                config.activities_max,
                config.workers,
                config.quotas.activities_per_module,
            ),
            remote: Remote::new(hub.epoch),
            work: WorkQueue::default(),
            requests: Requests::default(),
            pace: Pace::default(),
            trouble: Trouble::default(),
            spans: parts.spans.map(spans::listener),
            counts: Counts::default(),
            durations: ActivityDurations::default(),
            lines: parts.lines,
            keys: tokio::sync::watch::Sender::new(()),
            end: End::default(),
            peers: parts.peers,
            clock,
            config,
            hub,
        });
        engine.hear_of_the_writer();
        // Queue interrupted work before any thread runs: otherwise it could end meanwhile and be queued a second time.
        let started = engine
            .count_deliveries(were_running)
            .and_then(|()| engine.recover(seen))
            .and_then(|()| engine.spawn_threads())
            .and_then(|()| engine.begin_to_share());
        if let Err(error) = started {
            engine.abandon();
            return Err(error);
        }
        Ok(engine)
    }

    /// Is told by the writer what it finds in the hub.
    fn hear_of_the_writer(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        self.hub.writer.when_fenced(move |why| {
            if let Some(engine) = weak.upgrade() {
                engine.fenced(why);
            }
        });
        let weak = Arc::downgrade(self);
        self.hub.writer.when_sent(move || {
            if let Some(engine) = weak.upgrade() {
                engine.sent();
            }
        });
        let weak = Arc::downgrade(self);
        self.hub.writer.when_hinted(move |hints| {
            if let Some(engine) = weak.upgrade() {
                engine.hinted(hints);
            }
        });
        if self.hub.is_shared {
            let weak = Arc::downgrade(self);
            self.hub.writer.when_hub_changed(move |version| {
                if let Some(engine) = weak.upgrade() {
                    engine.hub_changed(version);
                }
            });
        }
    }

    /// Releases the hub after a failed start.
    fn abandon(self: &Arc<Self>) {
        self.queue().work.clear();
        self.work.collecting.store(false, Ordering::Release);
        self.shut_down();
    }

    fn count_deliveries(self: &Arc<Self>, were_running: Vec<WasRunning>) -> Result<(), StoreError> {
        self.tell_of_running(&were_running);
        let boot = store::boot();
        self.write_blocking(Change::TakeOver { were_running, boot })?;
        self.hub.flight.clear()
    }

    /// Queues everything that was unfinished when the last owner stopped.
    fn recover(self: &Arc<Self>, seen: Timestamp) -> Result<(), StoreError> {
        self.load_worker_names()?;
        self.receive_all()?;
        let reader = self.own_reader();
        self.take_up(&reader, seen)?;
        self.wake_waiting(&reader)
    }

    /// Reads the rows of the partitions that this engine runs now.
    pub(in crate::engine) fn own_reader(&self) -> Reader {
        self.hub.reader.within(self.hub.partitions.now())
    }

    /// Queues the tasks that were unfinished in the partitions of a reader.
    fn take_up(self: &Arc<Self>, reader: &Reader, seen: Timestamp) -> Result<(), StoreError> {
        self.suspended().extend(reader.suspended()?);
        self.timers.load(reader, seen)?;
        let mut after = (InstanceKey(i64::MIN), i64::MIN);
        loop {
            let rows = reader.ready_activities(after, 1_000)?;
            let Some(last) = rows.last() else { break };
            after = (last.key, i64::from(last.task.task.0));
            for ready in load::ready(self, rows)? {
                Activities::push(self, ready);
            }
        }
        Ok(())
    }

    /// Wakes the instances with messages in the partitions of a reader, and looks what is to be deleted there.
    fn wake_waiting(self: &Arc<Self>, reader: &Reader) -> Result<(), StoreError> {
        for key in reader.with_messages(self.clock.now())? {
            self.wake(key);
        }
        if reader.has_garbage()? {
            self.collect_garbage();
        }
        self.load_retention()
    }

    // --- Writing

    /// Whether the last commit failed.
    pub(crate) fn fails_to_write(&self) -> bool {
        self.hub.writer.fails()
    }

    /// Submits a change to the writer, and blocks while its queue is full. The writer's thread calls `done`.
    pub(crate) fn write(
        self: &Arc<Self>,
        change: Change,
        done: impl FnOnce(Change, Result<Outcome, StoreError>) + Send + 'static,
    ) {
        self.hub.writer.submit(self.job(change, done));
    }

    /// As [`write`](Self::write), but waits for room without blocking a thread. If the future is dropped before there is room, nothing is
    /// written.
    pub(crate) async fn write_later(
        self: &Arc<Self>,
        change: Change,
        done: impl FnOnce(Change, Result<Outcome, StoreError>) + Send + 'static,
    ) {
        self.hub.writer.submit_later(self.job(change, done)).await;
    }

    /// As [`write`](Self::write), but never blocks: if the queue is full, a task of the runtime waits for room.
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

    fn write_blocking(self: &Arc<Self>, change: Change) -> Result<Outcome, StoreError> {
        let (tell, told) = std::sync::mpsc::channel();
        self.write(change, move |_, result| drop(tell.send(result)));
        told.recv().unwrap_or(Err(StoreError::Closed))
    }

    // --- Ids

    /// The key of a new instance with this id.
    pub(crate) fn next_key(&self, id: &str) -> InstanceKey {
        let number = self.hub.next_key.fetch_add(1, Ordering::Relaxed);
        let all = self.hub.partitions.all();
        if all.count() > 1 && keys::are_few_left(number) {
            // Only this: whoever asks for a key may have any lock.
            tracing::error!("{}", keys::USED_UP);
            let why = Shortage::new(Resource::Host, keys::USED_UP);
            self.end.lost.send_replace(Some(why.into()));
        }
        all.key(id, number)
    }

    /// Returns the id and the seed of a new execution. Ids begin with the time, so that rows written together are near each other.
    pub(crate) fn fresh_execution(&self) -> (String, u64) {
        fresh_execution()
    }

    // --- The end

    pub(crate) fn is_draining(&self) -> bool {
        self.activities.is_draining()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.end.stopping.load(Ordering::Acquire)
    }

    /// Handles a lost hub (another owner took over, or the store is closed): stops the engine, since nothing can be committed any more.
    pub(crate) fn fenced(&self, error: &StoreError) {
        if !self.end.stopping.swap(true, Ordering::AcqRel) {
            tracing::error!(%error, "this host stops running instances");
            self.hub.flight.let_go();
            self.end.lost.send_replace(Some(error.clone()));
            self.timers.stop();
            self.pace.stop();
            drop(self.activities.stop());
            self.work.there.notify_all();
            self.memory.waiters.clear();
        }
    }

    /// Where the hub is.
    pub(crate) fn place(&self) -> &Place {
        &self.hub.place
    }

    /// Counters of the writer.
    pub(crate) fn writer_counts(&self) -> &WriterCounts {
        self.hub.writer.counts()
    }

    /// The number of guests in memory.
    pub(crate) fn resident(&self) -> usize {
        self.memory.slots.resident()
    }

    /// Drops every idle guest from memory, and returns how many there were.
    pub(crate) fn evict_all(&self) -> usize {
        self.memory
            .slots
            .all()
            .into_iter()
            .filter(|slot| self.memory.slots.evict(slot.key))
            .count()
    }

    /// The numbers of queued and of running activities.
    pub(crate) fn activity_counts(&self) -> (usize, usize) {
        self.activities.counts()
    }
}

/// Returns the id and the seed of a new execution.
pub(crate) fn fresh_execution() -> (String, u64) {
    let seed = uuid::Uuid::new_v4().as_u64_pair();
    (uuid::Uuid::now_v7().simple().to_string(), seed.0 ^ seed.1)
}
