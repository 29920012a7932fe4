//! A hub, and an engine that owns it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use perennial_core::{
    Event, Json, Limits, Message, Millis, Reuse, Status, TaskId, Timestamp, Turn,
};
use tempfile::TempDir;

pub(crate) use super::doings::*;
pub(crate) use super::guests::*;
pub(crate) use super::logic::*;
use super::places::{a_place, like};
use super::shares::Others;
use crate::engine::clock::{Clock, SimClock};
use crate::engine::executor::Executor;
use crate::engine::spans::SpanSink;
use crate::engine::{Engine, EngineConfig, EngineParts, Request, StartRequest};
use crate::store::{
    Definition, DefinitionKind, InstanceRow, NewModule, Place, Reader, Reply, StoreError,
};

/// A test fails after waiting this long, which is longer than anything here takes. The variable shortens the wait for tests that are
/// expected to fail.
pub(crate) fn patience() -> Duration {
    let seconds = std::env::var("PERENNIAL_TEST_PATIENCE").ok();
    Duration::from_secs(seconds.map_or(60, |seconds| seconds.parse().unwrap()))
}

/// The time at which every world begins.
pub(crate) const BEGIN: u64 = 1_000_000;

/// A hub in its own directory, and everything that a host of it needs.
pub(crate) struct World {
    dir: TempDir,
    pub(super) place: Place,
    pub(crate) clock: SimClock,
    pub(crate) programs: Programs,
    /// Runs guests instead of `programs`, if there is one.
    pub(crate) executor: Option<Arc<dyn Executor>>,
    pub(crate) activities: Activities,
    pub(crate) spans: Option<Arc<dyn SpanSink>>,
    pub(crate) config: EngineConfig,
    /// Whether the orchestrations are those of a worker, so that the hub does not know them.
    pub(crate) remote: bool,
    /// Whether each host has a worker for them, and for the activity `Echo`.
    pub(crate) with_worker: bool,
    /// Whether one engine runs all of the hub, also if that is divided.
    pub(super) has_one_engine: bool,
    /// How many engines share the hub, and take and give partitions while they work; 0 if each has the same all the time.
    pub(super) sharing: usize,
    /// How many engines have joined so far.
    pub(super) joined: AtomicUsize,
    /// How many hosts have stopped in good order.
    pub(super) hosts: AtomicUsize,
    /// How often a worker was lost.
    losses: Arc<AtomicU32>,
    runtime: Arc<tokio::runtime::Runtime>,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_time().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let clock = SimClock::new(Timestamp(BEGIN));
        Self {
            place: a_place(dir.path(), clock.now()),
            dir,
            clock,
            programs: Programs::default(),
            executor: None,
            activities: Activities::default(),
            spans: None,
            config: EngineConfig {
                quotas: crate::engine::Quotas::default(),
                workers: 2,
                resident_max: 1_000,
                resident_bytes_max: 1 << 30,
                activities_max: 8,
                limits: Limits::default(),
                what: "a test".to_owned(),
                url: None,
                worker_times: Default::default(),
            },
            remote: false,
            with_worker: false,
            has_one_engine: false,
            sharing: 0,
            joined: AtomicUsize::default(),
            hosts: AtomicUsize::default(),
            losses: Arc::default(),
            runtime: Arc::new(runtime),
        }
    }

    /// A world with one orchestration.
    pub(crate) fn with(name: &str, make: impl Fn() -> Logic + Send + Sync + 'static) -> Self {
        Self::new().and(name, make)
    }

    /// Adds an orchestration.
    pub(crate) fn and(self, name: &str, make: impl Fn() -> Logic + Send + Sync + 'static) -> Self {
        self.programs
            .by_name
            .lock()
            .unwrap()
            .insert(name.to_owned(), Arc::new(make));
        self
    }

    /// The same world whose hub one engine runs: for tests that look at that engine, whatever store the others are run on.
    pub(crate) fn with_one_engine(mut self) -> Self {
        self.has_one_engine = true;
        self
    }

    /// A world with the same programs, without a hub.
    pub(crate) fn another(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = SimClock::new(self.clock.now());
        Self {
            place: like(&self.place, dir.path(), clock.now()),
            dir,
            clock,
            programs: self.programs.clone(),
            executor: self.executor.clone(),
            // This world has run nothing yet.
            activities: Activities {
                began: Arc::default(),
                ..self.activities.clone()
            },
            spans: self.spans.clone(),
            config: self.config.clone(),
            remote: self.remote,
            with_worker: self.with_worker,
            has_one_engine: self.has_one_engine,
            sharing: self.sharing,
            joined: AtomicUsize::default(),
            hosts: AtomicUsize::new(self.hosts.load(Ordering::Relaxed)),
            losses: Arc::clone(&self.losses),
            runtime: Arc::clone(&self.runtime),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn try_open(&self) -> Result<Host<'_>, StoreError> {
        let (engines, peers) = (Vec::new(), Arc::<Mutex<Vec<_>>>::default());
        let engines = self
            .shares()
            .iter()
            .try_fold(engines, |mut engines, place| {
                let parts = self.parts(Others::of(self, &peers));
                engines.push(Engine::start(place, self.config.clone(), parts)?);
                Ok::<_, StoreError>(engines)
            })?;
        *peers.lock().unwrap() = engines.iter().map(Arc::downgrade).collect();
        let host = Host {
            engine: Arc::clone(&engines[0]),
            engines,
            peers,
            world: self,
            worker: Mutex::default(),
        };
        if self.with_worker {
            *host.worker.lock().unwrap() = Some(host.worker());
        }
        for engine in &host.engines {
            let deploy = Request::Deploy(Box::new(self.module()));
            let reply = self.block_on("the deployment", engine.submit(deploy))?;
            assert!(matches!(reply, Reply::Deployed(_)), "{reply:?}");
        }
        Ok(host)
    }

    pub(super) fn parts(&self, peers: Arc<Others>) -> EngineParts {
        EngineParts {
            clock: Arc::new(self.clock.clone()),
            executor: self.executor(),
            activity_executor: Arc::new(self.activities.clone()),
            spans: self.spans.clone(),
            lines: None,
            native: self
                .activities
                .by_name
                .lock()
                .unwrap()
                .keys()
                .filter(|name| !self.with_worker || *name != "Echo")
                .cloned()
                .collect(),
            runtime: self.runtime.handle().clone(),
            deployments: Arc::default(),
            peers: Some(peers),
            waits: a_little(),
        }
    }

    pub(crate) fn executor(&self) -> Arc<dyn Executor> {
        match &self.executor {
            Some(executor) => Arc::clone(executor),
            None => Arc::new(self.programs.clone()),
        }
    }

    pub(crate) fn open(&self) -> Host<'_> {
        self.try_open().unwrap()
    }

    pub(crate) fn module(&self) -> NewModule {
        let names = self.programs.by_name.lock().unwrap();
        let names = names.keys().filter(|name| !name.contains('#'));
        let orchestrations = names.filter(|_| !self.remote).map(|name| Definition {
            kind: DefinitionKind::Orchestration,
            name: name.clone(),
            version: None,
            description: None,
            input_schema: None,
        });
        NewModule {
            name: "all".to_owned(),
            digest: MODULE,
            component: Vec::new(),
            contract: "0.2".to_owned(),
            definitions: orchestrations.collect(),
            imports: Vec::new(),
            grants: None,
            replace: true,
            limits: None,
        }
    }

    pub(crate) fn block_on<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        self.block_on_or(|| what.to_owned(), future)
    }

    /// As [`block_on`](Self::block_on), and asks what was waited for only when that was in vain.
    pub(crate) fn block_on_or<T>(
        &self,
        what: impl FnOnce() -> String,
        future: impl Future<Output = T>,
    ) -> T {
        let limited = async { tokio::time::timeout(patience(), future).await };
        self.runtime
            .block_on(limited)
            .unwrap_or_else(|_| panic!("waited in vain for {}", what()))
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.spawn(future)
    }

    /// Waits until no attempt of an earlier host is still running.
    pub(crate) fn settle(&self) {
        while self.runtime.metrics().num_alive_tasks() > 0 {
            std::thread::yield_now();
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The activities whose outcome is in a history or an inbox of the hub, by idempotency key.
    pub(crate) fn recorded(&self) -> BTreeSet<String> {
        let reader = self.reader();
        let mut recorded = BTreeSet::new();
        for row in reader
            .list(&crate::store::ListQuery {
                limit: 100_000,
                ..Default::default()
            })
            .unwrap()
            .rows
        {
            let key = |task: TaskId| format!("{}:{task}", row.execution_id);
            for event in reader
                .turns(row.key, row.execution, 0, u32::MAX)
                .unwrap()
                .iter()
                .flat_map(Turn::events)
            {
                if let Event::ActivityCompleted { task, .. } | Event::ActivityFailed { task, .. } =
                    event
                {
                    recorded.insert(key(*task));
                }
            }
            for envelope in reader.inbox(row.key, 0, 100_000).unwrap().envelopes {
                if let Message::ActivityEnded { task, .. } = envelope.message
                    && task.execution == row.execution
                {
                    recorded.insert(key(task.task));
                }
            }
        }
        recorded
    }

    pub(crate) fn reader(&self) -> Reader {
        self.place.open_reader().unwrap()
    }

    /// The next attempt of `Hold`.
    pub(crate) fn held(&self) -> Held {
        self.block_on("an activity", async {
            self.activities.held.lock().await.recv().await.unwrap()
        })
    }

    /// The number of attempts of `Hold` that have begun and that the test has not taken.
    pub(crate) fn more_held(&self) -> usize {
        self.block_on("the activities", async {
            self.activities.held.lock().await.len()
        })
    }
}

/// The engines that own the hub of a world: one, unless it is divided. Dropping it stops them.
pub(crate) struct Host<'a> {
    /// The first of them, which is the only one unless the hub is divided.
    pub(crate) engine: Arc<Engine>,
    pub(crate) engines: Vec<Arc<Engine>>,
    pub(super) peers: Arc<Mutex<Vec<Weak<Engine>>>>,
    pub(crate) world: &'a World,
    worker: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        self.engines.iter().for_each(Engine::shut_down);
        self.world.hosts.fetch_add(1, Ordering::Relaxed);
        // It holds the engine.
        if let Some(worker) = self.worker.lock().unwrap().take() {
            worker.abort();
        }
    }
}

impl Host<'_> {
    /// Connects a worker that runs the orchestrations of the world.
    pub(crate) fn worker(&self) -> tokio::task::JoinHandle<()> {
        let (connection, items) = self.engine.connect(super::remote::everything(8, 8));
        let serve = self
            .programs()
            .serve(Arc::clone(&self.engine), connection, items);
        self.world.spawn(serve)
    }

    /// Kills the worker and connects another, if that has not happened so often that it would be blamed on an instance.
    pub(crate) fn lose_worker(&self) {
        let mut worker = self.worker.lock().unwrap();
        if let Some(killed) =
            worker.take_if(|_| self.world.losses.fetch_add(1, Ordering::Relaxed) < 4)
        {
            killed.abort();
            *worker = Some(self.worker());
        }
    }

    /// The programs of such a worker.
    pub(crate) fn programs(&self) -> super::remote::Worker {
        super::remote::Worker {
            programs: self.world.executor(),
        }
    }

    pub(crate) fn submit(&self, request: Request) -> Result<Reply, StoreError> {
        let request = match request {
            start @ Request::Start(_) if self.world.remote => Request::Remote(Box::new(start)),
            other => other,
        };
        let engine = match request.subject() {
            Some(id) => self.of(id),
            None => &self.engine,
        };
        self.world.block_on("the verdict", engine.submit(request))
    }

    fn does(&self, request: Request) {
        let reply = self.submit(request).unwrap();
        assert_eq!(reply, Reply::Done);
    }

    pub(crate) fn start(&self, name: &str, id: &str) {
        self.does(start(name, id, None));
    }

    pub(crate) fn start_with(&self, name: &str, id: &str, input: impl ToString) {
        self.does(start(name, id, Some(json(input))));
    }

    pub(crate) fn raise(&self, id: &str, name: &str, data: impl ToString) {
        self.does(Request::RaiseEvent {
            id: id.to_owned(),
            name: name.to_owned(),
            data: Some(json(data)),
        });
    }

    pub(crate) fn suspend(&self, id: &str) {
        self.does(Request::Suspend {
            id: id.to_owned(),
            reason: None,
            recursive: false,
        });
        self.until(id, |row| row.status == Status::Suspended);
    }

    pub(crate) fn resume(&self, id: &str) {
        self.does(Request::Resume {
            id: id.to_owned(),
            reason: None,
            module: None,
            recursive: false,
        });
    }

    pub(crate) fn terminate(&self, id: &str) {
        self.does(Request::Terminate {
            id: id.to_owned(),
            reason: Some("enough".to_owned()),
            recursive: false,
        });
    }

    pub(crate) fn row(&self, id: &str) -> Option<InstanceRow> {
        self.engine.hub.reader.instance(id).unwrap()
    }

    /// Waits until an instance ends, and returns its output, the kind of its failure, or else its status.
    pub(crate) fn end(&self, id: &str) -> String {
        let row = self.until(id, |row| row.status.is_end());
        let output = row.output.map(|output| output.to_string());
        match (row.status, row.failure) {
            (Status::Completed, _) => output.unwrap_or_else(|| "nothing".to_owned()),
            (_, Some(failure)) => failure.kind,
            (status, None) => status.to_string(),
        }
    }

    /// Advances the clock after all work that is due at the current time is done.
    pub(crate) fn advance(&self, span: u64) {
        self.idle();
        self.world.clock.advance(Millis(span));
    }

    pub(crate) fn turns(&self, id: &str) -> Vec<Turn> {
        let row = self.row(id).unwrap();
        self.engine
            .hub
            .reader
            .turns(row.key, row.execution, 0, u32::MAX)
            .unwrap()
    }

    pub(crate) fn events(&self, id: &str) -> Vec<Event> {
        self.turns(id)
            .iter()
            .flat_map(Turn::events)
            .cloned()
            .collect()
    }

    /// Injects faults into the writers of all engines.
    pub(crate) fn all_faults(&self) -> impl Iterator<Item = &crate::store::Faults> {
        self.engines
            .iter()
            .map(|engine| &**engine.hub.writer.faults())
    }

    /// Injects faults into the writer.
    pub(crate) fn faults(&self) -> &crate::store::Faults {
        self.engine.hub.writer.faults()
    }

    pub(crate) fn commits(&self) -> u64 {
        let commits = self
            .engines
            .iter()
            .map(|engine| &engine.writer_counts().commits);
        commits.map(|commits| commits.load(Ordering::Relaxed)).sum()
    }

    /// Drops every idle guest from memory, and returns how many there were.
    pub(crate) fn evict_all(&self) -> usize {
        self.engines.iter().map(|engine| engine.evict_all()).sum()
    }

    /// The numbers of queued and of running activities.
    pub(crate) fn activity_counts(&self) -> (usize, usize) {
        let counts = self.engines.iter().map(|engine| engine.activity_counts());
        counts.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1))
    }

    pub(crate) fn check_histories(&self) {
        self.idle();
        self.world.check_histories(&self.engine.hub.reader);
    }

    /// Changes the hub without its owner.
    pub(crate) fn meddle(&self, sql: &str) {
        rusqlite::Connection::open(self.world.path())
            .unwrap()
            .execute_batch(sql)
            .unwrap();
    }

    pub(crate) fn count(&self, sql: &str) -> i64 {
        let db = rusqlite::Connection::open(self.world.path()).unwrap();
        db.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

pub(crate) fn start(name: &str, id: &str, input: Option<Json>) -> Request {
    Request::Start(StartRequest {
        name: name.to_owned(),
        version: None,
        id: id.to_owned(),
        input,
        tags: Vec::new(),
        reuse: Reuse::Ended,
        trace_parent: None,
        scheduled_for: None,
    })
}

/// Waits for the lease of a host that died.
fn a_little() -> Box<dyn Fn(&str) -> bool + Send> {
    let until = Instant::now() + Duration::from_secs(10);
    Box::new(move |_| Instant::now() < until)
}
