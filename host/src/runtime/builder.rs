//! The builder of a host.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use perennial_core::{Digest, Failure, Limits, Millis};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::builtin::Builtins;
use crate::client::{DEFAULT_TASK_HUB, Error, Result, Store};
use crate::engine::clock::{Clock, SystemClock};
use crate::engine::executor::{ActivityExecutor, Executor, Fault};
use crate::engine::remote::WorkerTimes;
use crate::engine::spans::SpanSink;
use crate::engine::{Engine, EngineConfig, EngineParts, Quotas};
use crate::guest_lines::GuestLines;
use crate::runtime::forwarder::Forwarder;
use crate::runtime::native::{Activities, ActivityContext, Management, NativeActivity};
use crate::runtime::{Host, fault, listener};
use crate::shortage::{Resource, Shortage};
use crate::store::{Place, Reader, StoreError};
use crate::wasm::{Grants, Wasm, WasmConfig};

/// Told which process is waited for.
type OnStandby = Arc<dyn Fn(&str) + Send + Sync>;

/// Configures and starts a host. Every setting has a default.
#[derive(Clone)]
#[must_use = "a host runs when it is started"]
pub struct HostBuilder {
    store: Store,
    hub: String,
    standby: Option<OnStandby>,
    workers: usize,
    resident_max: usize,
    resident_bytes_max: usize,
    activities_max: usize,
    limits: Limits,
    quotas: Quotas,
    what: String,
    url: Option<String>,
    clock: Arc<dyn Clock>,
    native: Activities,
    management_url: Option<String>,
    spans: Option<Arc<dyn SpanSink>>,
    meters_fuel: bool,
    worker_times: WorkerTimes,
}

impl Default for HostBuilder {
    /// The hub `default` in `.perennial`; one worker per processor; at most 4,096 guests with 1 GiB in memory; 64 activities at once.
    fn default() -> Self {
        Self {
            store: Store::dir(".perennial"),
            standby: None,
            hub: DEFAULT_TASK_HUB.to_owned(),
            workers: std::thread::available_parallelism().map_or(2, usize::from),
            resident_max: 4_096,
            resident_bytes_max: 1 << 30,
            activities_max: 64,
            limits: Limits::default(),
            quotas: Quotas::default(),
            what: "a host".to_owned(),
            url: None,
            clock: Arc::new(SystemClock),
            native: Activities::default(),
            management_url: None,
            spans: None,
            meters_fuel: true,
            worker_times: WorkerTimes::default(),
        }
    }
}

impl std::fmt::Debug for HostBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostBuilder")
            .field("store", &self.store)
            .field("hub", &self.hub)
            .finish_non_exhaustive()
    }
}

impl HostBuilder {
    /// Sets where the hubs are: a directory, or a database. The default is the directory `.perennial`.
    pub fn store(mut self, store: impl Into<Store>) -> Self {
        self.store = store.into();
        self
    }

    /// Sets the directory of the hubs. With a [store](Self::store) that is a database, only what this machine keeps for itself is there, such
    /// as compiled code. It is created if it does not exist.
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.store = self.store.data_dir(dir);
        self
    }

    /// Makes the [start](Self::start) wait while another process owns the hub, instead of failing. As soon as that process has ended, this host
    /// takes over. Each new owner that is waited for is given to `told`. Hosts of a hub in PostgreSQL share it, and wait for nobody, unless the
    /// hub was made by a version whose hubs have one owner.
    ///
    /// ```no_run
    /// # async fn example(store: perennial::Store) -> perennial::Result<()> {
    /// let host = perennial::Host::builder()
    ///     .store(store)
    ///     .standby(|owner| println!("waiting for {owner}"))
    ///     .start()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn standby(mut self, told: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.standby = Some(Arc::new(told));
        self
    }

    /// Sets the task hub: 1 to 64 letters, digits and dashes. It is created if it does not exist.
    pub fn task_hub(mut self, name: impl Into<String>) -> Self {
        self.hub = name.into();
        self
    }

    /// Sets the number of threads that run turns; at least one.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count.max(1);
        self
    }

    /// Sets how many guests stay in memory between their turns. If there are more, the least recently used one is evicted, and replayed
    /// when it is needed.
    pub fn resident_max(mut self, count: usize) -> Self {
        self.resident_max = count;
        self
    }

    /// Sets how many bytes of guests stay in memory between their turns.
    pub fn resident_bytes_max(mut self, bytes: usize) -> Self {
        self.resident_bytes_max = bytes;
        self
    }

    /// Sets how many activities run at once; at least one. From 16 on, one in eight places is reserved for instances that have few running.
    pub fn activities_max(mut self, count: usize) -> Self {
        self.activities_max = count.max(1);
        self
    }

    /// Sets how long a remote worker may take for a turn of an orchestration (five minutes by default), and for an activity whose call sets no
    /// time limit (an hour by default). After that its work goes to another worker.
    pub fn worker_timeouts(mut self, turn: Duration, activity: Duration) -> Self {
        let millis = |span: Duration| Millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        self.worker_times = WorkerTimes {
            turn: millis(turn),
            activity: millis(activity),
        };
        self
    }

    /// Sets the limits of new executions. Live executions keep the limits that they began with.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the quotas of the hub, its modules and its executions while this host runs.
    pub fn quotas(mut self, quotas: Quotas) -> Self {
        self.quotas = quotas;
        self
    }

    /// Sets the name of this process, such as `the billing service`. It is shown to processes that find the hub in use.
    pub fn name(mut self, what: impl Into<String>) -> Self {
        self.what = what.into();
        self
    }

    /// Sets the URL at which this process serves the HTTP API of the hub, such as `http://10.0.0.7:7071`: [`Client::hosts`](crate::Client::hosts)
    /// tells of it, so that people find a host that they are told of.
    pub fn listens_at(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// Sets the clock; tests use a [`SimClock`](crate::SimClock).
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the URL below which this host serves `/instances` over HTTP, such as `https://flows.example.com/runtime/webhooks/durabletask`.
    /// Activities receive the management URLs of their instance.
    pub fn management_url(mut self, base_url: impl Into<String>) -> Self {
        self.management_url = Some(base_url.into());
        self
    }

    /// Sets the receiver of a span for each execution and each attempt that has ended. `perennial::telemetry` (feature `otel`) exports them
    /// with OpenTelemetry. The sink is called on its own thread: if it panics, that span is lost; if it is slow, some are.
    pub fn spans(mut self, sink: Arc<dyn SpanSink>) -> Self {
        self.spans = Some(sink);
        self
    }

    /// Runs turns without fuel, so that a benchmark can measure the cost of counting. On such a host a turn with an endless loop never
    /// ends.
    #[doc(hidden)]
    pub fn without_fuel(mut self) -> Self {
        self.meters_fuel = false;
        self
    }

    /// Registers a closure as an activity. Orchestrations of modules that do not define an activity of this name call the closure.
    ///
    /// It runs at least once for each task, on the runtime in which the host is started. If its polls take long, they move to blocking
    /// threads and share the processors with others: it gives way at each `await`.
    pub fn activity<I, O, F, Fut>(mut self, name: impl Into<String>, run: F) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
        F: Fn(ActivityContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, Failure>> + Send + 'static,
    {
        self.native.insert(name.into(), NativeActivity::new(run));
        self
    }

    /// Takes over the hub and starts to run its instances.
    ///
    /// # Errors
    /// [`Error::is_owned`] if another process owns the hub. Otherwise the hub's file or directory could not be used, for the reason in the
    /// message. A file that is not a hub is left alone.
    pub async fn start(self) -> Result<Host> {
        let place = self.store.place(&self.hub)?.shared();
        let cache_dir = Some(self.store.local_dir().join(crate::wasm::CACHE_DIR));
        let (hub, runtime) = (self.hub.clone(), tokio::runtime::Handle::current());
        let start = move |gone: Gone| -> Result<Arc<Engine>> {
            let failed = |error: StoreError| Error::store(&self.hub, error);
            let wasm_config = WasmConfig {
                cache_dir,
                resident_max: u32::try_from(self.resident_max).unwrap_or(u32::MAX),
                activities_max: u32::try_from(self.activities_max).unwrap_or(u32::MAX),
                meters_fuel: self.meters_fuel,
                ..WasmConfig::default()
            };
            let deployments = Arc::new(AtomicU64::new(0));
            let modules = Arc::new(Modules::new(place.clone(), Arc::clone(&deployments)));
            let grants = Arc::clone(&modules);
            let builtin_grants = Arc::clone(&modules);
            let lines = Arc::new(GuestLines::new(Arc::clone(&self.clock)));
            let wasm = Wasm::keeping_lines(
                Some(Arc::clone(&lines)),
                wasm_config,
                Arc::new(move |digest| modules.component(digest)),
                Arc::new(move |digest| grants.grants(digest)),
            );
            let wasm = Arc::new(wasm.map_err(|error| Error::module(error.to_string()))?);
            let mut native: BTreeSet<String> = self.native.names();
            native.extend(Builtins::names());
            let builtins = Builtins::new(Arc::new(move |digest| builtin_grants.grants(digest)));
            let management = self.management_url.map(|base_url| Management {
                base_url,
                hub: self.hub.clone(),
            });
            let wasm_activities = Arc::clone(&wasm) as Arc<dyn ActivityExecutor>;
            let activities = self.native.with(wasm_activities, builtins, management);
            let config = EngineConfig {
                workers: self.workers,
                resident_max: self.resident_max,
                resident_bytes_max: self.resident_bytes_max,
                activities_max: self.activities_max,
                limits: self.limits,
                quotas: self.quotas,
                what: self.what,
                url: self.url,
                worker_times: self.worker_times,
            };
            let parts = EngineParts {
                clock: self.clock,
                executor: wasm as Arc<dyn Executor>,
                activity_executor: Arc::new(activities),
                spans: self.spans,
                lines: Some(lines),
                native,
                runtime,
                deployments,
                peers: Some(Arc::new(Forwarder::new(place.clone()))),
                waits: waits(self.standby, gone),
            };
            Engine::start(&place, config, parts).map_err(failed)
        };
        let engine = on_own_thread(&hub, start).await?;
        let listener = listener::listen(&engine);
        Ok(Host {
            engine,
            hub,
            listener,
            stopped: false,
        })
    }
}

/// Whether nobody waits for a start any more.
type Gone = Box<dyn Fn() -> bool + Send>;

/// Held while somebody waits for a start; tells when nobody does any more.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Whether a start waits for a hub that another process owns.
fn waits(standby: Option<OnStandby>, gone: Gone) -> Box<dyn Fn(&str) -> bool + Send> {
    let Some(told) = standby else {
        return Box::new(|_| false);
    };
    let last = Mutex::new(String::new());
    Box::new(move |owner| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != owner {
            owner.clone_into(&mut last);
            told(owner);
        }
        !gone()
    })
}

/// An engine on its way to whoever starts it. If nobody waits for it any more, it ends, and leaves the hub to others.
struct Started(Option<Arc<Engine>>);

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(engine) = self.0.take() {
            engine.shut_down();
        }
    }
}

/// Starts an engine on a new thread instead of one of tokio, which panics if the system has no thread.
async fn on_own_thread(
    hub: &str,
    open: impl FnOnce(Gone) -> Result<Arc<Engine>> + Send + 'static,
) -> Result<Arc<Engine>> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let waiting = Waiting(Arc::default());
    let gone = Arc::clone(&waiting.0);
    let handle = tokio::runtime::Handle::current();
    let opening = std::thread::Builder::new().name("perennial-open".to_owned());
    let begun = opening.spawn(move || {
        let _runtime = handle.enter();
        let opened = open(Box::new(move || gone.load(Ordering::Acquire)));
        // Sending fails if the future was dropped.
        let _ = tell.send(opened.map(|engine| Started(Some(engine))));
    });
    begun.map_err(|error| {
        let why = format!("there is no thread to open the task hub with: {error}");
        Error::store(hub, Shortage::new(Resource::Threads, why).into())
    })?;
    let mut started = told.await.map_err(|_| Error::panicked())??;
    started.0.take().ok_or_else(Error::panicked)
}

/// Reads modules from the hub for the wasm executor, which does not use the store.
struct Modules {
    place: Place,
    reader: Mutex<Option<Arc<Reader>>>,
    /// Incremented by the engine when a module is deployed or its grants change.
    deployments: Arc<AtomicU64>,
    /// Cached grants of modules, with the value of `deployments` at which they were read.
    granted: Mutex<(u64, BTreeMap<Digest, Grants>)>,
}

impl Modules {
    fn new(place: Place, deployments: Arc<AtomicU64>) -> Self {
        Self {
            place,
            reader: Mutex::default(),
            deployments,
            granted: Mutex::default(),
        }
    }

    fn reader(&self) -> Result<Arc<Reader>, StoreError> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match &*reader {
            Some(reader) => Arc::clone(reader),
            None => Arc::clone(reader.insert(Arc::new(self.place.open_reader()?))),
        })
    }

    fn component(&self, digest: Digest) -> Result<Vec<u8>, Fault> {
        match self.reader().and_then(|reader| reader.component(digest)) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(Fault::Module(format!(
                "the hub has no module {}",
                digest.short()
            ))),
            Err(error) => Err(fault(error)),
        }
    }

    fn grants(&self, digest: Digest) -> Result<Grants, Fault> {
        let now = self.deployments.load(Ordering::Acquire);
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        if granted.0 != now {
            *granted = (now, BTreeMap::new());
        }
        if let Some(grants) = granted.1.get(&digest) {
            return Ok(grants.clone());
        }
        let text = self.reader().and_then(|reader| reader.grants(digest));
        let text = text.map_err(|error| {
            fault(error).context(format!(
                "could not read what module {} is granted",
                digest.short()
            ))
        })?;
        let text = text.unwrap_or_default();
        let grants: Grants = serde_json::from_str(&text).unwrap_or_default();
        granted.1.insert(digest, grants.clone());
        Ok(grants)
    }
}
