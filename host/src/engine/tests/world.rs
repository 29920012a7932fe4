//! A hub, an engine that owns it, guests that are closures, and activities that do what a test says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use perennial_core::{
    Action, ActivityCall, Answer, ChildCall, Digest, Ending, Event, Failure, Guest, GuestEvent,
    Json, Limits, Message, Millis, Mode, OutgoingEvent, RetryPolicy, Reuse, State, Status, Stop,
    TaskId, Timestamp, Turn, Waiting, replay_turn,
};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

pub(crate) use super::logic::*;
use crate::engine::clock::{Clock, SimClock};
use crate::engine::executor::{
    ActivityExecutor, Attempt, AttemptError, AttemptFuture, Executor, Fault, ResidentGuest,
    Resource, Shortage,
};
use crate::engine::spans::SpanSink;
use crate::engine::{Engine, EngineConfig, EngineParts, Request, StartRequest, Until};
use crate::store::{
    Definition, DefinitionKind, InstanceRow, NewModule, Reader, Reply, StoreError, with_suffix,
};

/// Longer than anything here takes: a test that waits so long has failed. Who knows that it will fails it sooner.
pub(crate) fn patience() -> Duration {
    let seconds = std::env::var("PERENNIAL_TEST_PATIENCE").ok();
    Duration::from_secs(seconds.map_or(60, |seconds| seconds.parse().unwrap()))
}

/// The module that has every orchestration.
pub(crate) const MODULE: Digest = Digest([7; 32]);

/// The time at which every world begins.
pub(crate) const BEGIN: u64 = 1_000_000;

// --- Guests

/// What a guest was told so far.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) now: Timestamp,
    pub(crate) id: String,
    pub(crate) input: Option<Json>,
    pub(crate) results: BTreeMap<u32, Result<Option<Json>, Failure>>,
    pub(crate) fired: Vec<u32>,
    pub(crate) events: Vec<(u32, String, Option<Json>)>,
}

impl Seen {
    pub(crate) fn has(&self, task: u32) -> bool {
        self.results.contains_key(&task) || self.fired.contains(&task)
    }

    /// The input as a number; 0 if there is none.
    pub(crate) fn number(&self) -> u64 {
        self.input
            .as_ref()
            .map_or(0, |input| input.as_str().parse().unwrap())
    }

    /// A result in a word: its text, or the kind of its failure.
    pub(crate) fn result(&self, task: u32) -> String {
        match &self.results[&task] {
            Ok(output) => output
                .as_ref()
                .map_or("nothing".to_owned(), ToString::to_string),
            Err(failure) => failure.kind.clone(),
        }
    }
}

/// What a guest asks for in a turn.
#[derive(Default)]
pub(crate) struct Out {
    next_task: u32,
    actions: Vec<Action>,
}

impl Out {
    /// Whether nothing was asked for yet.
    pub(crate) fn is_first(&self) -> bool {
        self.next_task == 0
    }

    fn task(&mut self) -> TaskId {
        self.next_task += 1;
        TaskId(self.next_task - 1)
    }

    pub(crate) fn call(&mut self, name: &str, input: impl ToString) -> u32 {
        self.call_with(name, input, None, None)
    }

    pub(crate) fn call_with(
        &mut self,
        name: &str,
        input: impl ToString,
        retry: Option<RetryPolicy>,
        attempt_timeout: Option<Millis>,
    ) -> u32 {
        let (task, name) = (self.task(), name.to_owned());
        let input = Some(json(input));
        let call = ActivityCall {
            task,
            name,
            input,
            retry,
            attempt_timeout,
        };
        self.actions.push(Action::CallActivity(call));
        task.0
    }

    pub(crate) fn child(
        &mut self,
        name: &str,
        id: Option<&str>,
        retry: Option<RetryPolicy>,
    ) -> u32 {
        self.child_with(name, id, None, retry)
    }

    pub(crate) fn child_with(
        &mut self,
        name: &str,
        id: Option<&str>,
        input: Option<Json>,
        retry: Option<RetryPolicy>,
    ) -> u32 {
        let (task, name) = (self.task(), name.to_owned());
        let instance_id = id.map(str::to_owned);
        let call = ChildCall {
            task,
            name,
            version: None,
            instance_id,
            input,
            tags: Vec::new(),
            retry,
        };
        self.actions.push(Action::CallChild(call));
        task.0
    }

    pub(crate) fn timer(&mut self, at: u64) -> u32 {
        let task = self.task();
        self.actions.push(Action::SetTimer {
            task,
            fire_at: Timestamp(at),
        });
        task.0
    }

    pub(crate) fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(crate) fn cancel(&mut self, task: u32) {
        self.actions.push(Action::CancelTask(TaskId(task)));
    }

    pub(crate) fn send(&mut self, to: &str, name: &str, data: impl ToString) {
        let (instance_id, name, data) = (to.to_owned(), name.to_owned(), Some(json(data)));
        self.actions.push(Action::SendEvent(OutgoingEvent {
            instance_id,
            name,
            data,
        }));
    }

    pub(crate) fn start(&mut self, name: &str, id: &str) {
        let (instance_id, name) = (id.to_owned(), name.to_owned());
        self.actions.push(Action::StartInstance {
            instance_id,
            name,
            version: None,
            input: None,
            tags: Vec::new(),
        });
    }
}

pub(crate) fn json(text: impl ToString) -> Json {
    Json::from_text(text.to_string())
}

pub(crate) fn waits() -> Ending {
    Ending::Waiting(Waiting::default())
}

pub(crate) fn completes(text: impl ToString) -> Ending {
    Ending::Completed(Some(Json::from_text(text.to_string())))
}

pub(crate) fn fails(kind: &str) -> Ending {
    Ending::Failed {
        failure: Failure::permanent(kind, ""),
        cause: None,
    }
}

pub(crate) fn continues(input: impl ToString, carry_over: Vec<u32>) -> Ending {
    Ending::ContinuedAsNew {
        input: Some(json(input)),
        version: None,
        carry_over,
    }
}

pub(crate) fn retry(max_attempts: u32, first_delay: u64) -> Option<RetryPolicy> {
    Some(RetryPolicy {
        max_attempts,
        first_delay: Millis(first_delay),
        backoff: 1.0,
        max_delay: None,
        jitter: None,
        give_up_after: None,
    })
}

/// What an orchestration does in its next turn. What it keeps in between is lost with its guest, and comes back by replay.
pub(crate) type Logic = Box<dyn FnMut(&Seen, &mut Out) -> Ending + Send>;

type Make = Arc<dyn Fn() -> Logic + Send + Sync>;

/// The orchestrations, by name.
#[derive(Clone, Default)]
pub(crate) struct Programs {
    by_name: Arc<Mutex<BTreeMap<String, Make>>>,
    /// Whether the module is none that this host can run.
    pub(crate) broken: Arc<AtomicBool>,
    /// How often a guest that comes to rest panics from now on.
    pub(crate) panics: Arc<AtomicU32>,
    /// What the host lacks for a guest.
    pub(crate) lacks: Arc<Mutex<Option<Resource>>>,
    /// How many turns guests were told are in the hub.
    pub(crate) committed: Arc<AtomicU32>,
}

impl Executor for Programs {
    fn instantiate(
        &self,
        module: Digest,
        _: &Limits,
        _: &str,
        _: Timestamp,
    ) -> Result<Box<dyn ResidentGuest>, Fault> {
        if self.broken.load(Ordering::Acquire) {
            return Err(Fault::Module("it does not compile".to_owned()));
        }
        if let Some(resource) = *self.lacks.lock().unwrap() {
            return Err(Shortage::new(resource, "there is none left").into());
        }
        let is_there = self
            .by_name
            .lock()
            .unwrap()
            .keys()
            .any(|name| module == MODULE || name.ends_with(&format!("#{}", module.0[0])));
        if !is_there {
            return Err(Fault::Module("there is no logic of it".to_owned()));
        }
        Ok(Box::new(self.guest(module)))
    }
}

impl Programs {
    fn guest(&self, module: Digest) -> ClosureGuest {
        ClosureGuest {
            module,
            programs: self.clone(),
            logic: None,
            seen: Seen::default(),
            next_task: 0,
        }
    }
}

struct ClosureGuest {
    module: Digest,
    programs: Programs,
    logic: Option<Logic>,
    seen: Seen,
    next_task: u32,
}

impl ResidentGuest for ClosureGuest {
    fn resident_bytes(&self) -> usize {
        let one_less = |left: u32| left.checked_sub(1);
        let panics = &self.programs.panics;
        let panics = panics.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less);
        assert!(panics.is_err(), "on purpose");
        1_000
    }

    fn committed(&mut self) {
        self.programs.committed.fetch_add(1, Ordering::AcqRel);
    }
}

impl Guest for ClosureGuest {
    fn advance(&mut self, events: &[GuestEvent], _: Mode) -> Result<Answer, Stop> {
        let seen = &mut self.seen;
        for event in events.iter().cloned() {
            match event {
                GuestEvent::TurnStarted { now, .. } => seen.now = now,
                GuestEvent::ExecutionStarted {
                    instance_id,
                    name,
                    input,
                    ..
                } => {
                    (seen.id, seen.input) = (instance_id, input);
                    // Another module has an orchestration `F` as `F#n`, where its digest begins with n.
                    let name = match self.module {
                        MODULE => name,
                        Digest(bytes) => format!("{name}#{}", bytes[0]),
                    };
                    self.logic = Some((self.programs.by_name.lock().unwrap()[&name])());
                }
                GuestEvent::TaskCompleted { task, outcome } => {
                    assert!(
                        seen.results.insert(task.0, outcome).is_none(),
                        "told twice of task {task}"
                    );
                }
                GuestEvent::TimerFired(task) => seen.fired.push(task.0),
                GuestEvent::ExternalEventRaised { number, name, data } => {
                    seen.events.push((number, name, data))
                }
            }
        }
        let mut out = Out {
            next_task: self.next_task,
            actions: Vec::new(),
        };
        let logic = self.logic.as_mut().expect("it was told how it begins");
        let ending = logic(seen, &mut out);
        self.next_task = out.next_task;
        Ok(Answer {
            actions: out.actions,
            ending,
        })
    }
}

// --- Activities

type Run = Arc<dyn Fn(Attempt) -> AttemptFuture + Send + Sync>;

/// An attempt that waits for a test to say how it ends.
pub(crate) struct Held {
    pub(crate) attempt: Attempt,
    answer: oneshot::Sender<Result<Option<Json>, AttemptError>>,
}

impl Held {
    pub(crate) fn ends(self, outcome: Result<&str, Failure>) {
        // One that was given up needs no answer.
        let outcome = outcome.map(|text| Some(json(text)));
        let _ = self.answer.send(outcome.map_err(AttemptError::from));
    }

    /// It ends for lack of something of the host.
    pub(crate) fn lacks(self, resource: Resource) {
        let shortage = Shortage::new(resource, "there is none left");
        let _ = self.answer.send(Err(shortage.into()));
    }

    /// Whether the host still waits for it.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.answer.is_closed()
    }
}

/// The activities, by name, and every attempt that began.
#[derive(Clone)]
pub(crate) struct Activities {
    by_name: Arc<Mutex<BTreeMap<String, Run>>>,
    began: Arc<Mutex<Vec<(String, u32)>>>,
    held: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Held>>>,
}

impl Default for Activities {
    /// `Echo` returns its input, `Hold` waits for the test, `Flaky` fails so that it may be tried again, `Broken` fails for good.
    fn default() -> Self {
        let (hold, held) = mpsc::unbounded_channel();
        let this = Self {
            by_name: Arc::default(),
            began: Arc::default(),
            held: Arc::new(tokio::sync::Mutex::new(held)),
        };
        this.add("Echo", |attempt| Ok(attempt.input));
        this.add("Flaky", |_| Err(Failure::retryable("Flaky", "")));
        this.add("Broken", |_| Err(Failure::permanent("Broken", "")));
        let hold: Run = Arc::new(move |attempt| {
            let (answer, answered) = oneshot::channel();
            hold.send(Held { attempt, answer })
                .unwrap_or_else(|_| panic!("the test is over"));
            Box::pin(async move {
                answered
                    .await
                    .unwrap_or_else(|_| Err(Failure::permanent("Forgotten", "").into()))
            })
        });
        this.by_name.lock().unwrap().insert("Hold".to_owned(), hold);
        this
    }
}

impl Activities {
    pub(crate) fn add(
        &self,
        name: &str,
        run: impl Fn(Attempt) -> Result<Option<Json>, Failure> + Send + Sync + 'static,
    ) {
        let run: Run = Arc::new(move |attempt| {
            let outcome = run(attempt).map_err(AttemptError::from);
            Box::pin(std::future::ready(outcome))
        });
        self.by_name.lock().unwrap().insert(name.to_owned(), run);
    }

    /// The attempts that began, as idempotency key and number.
    pub(crate) fn began(&self) -> Vec<(String, u32)> {
        self.began.lock().unwrap().clone()
    }
}

impl ActivityExecutor for Activities {
    fn run(&self, attempt: Attempt) -> AttemptFuture {
        self.began
            .lock()
            .unwrap()
            .push((attempt.idempotency_key(), attempt.attempt));
        let run = Arc::clone(&self.by_name.lock().unwrap()[&attempt.name]);
        run(attempt)
    }
}

// --- The world

/// A hub in a directory of its own, and everything that a host of it needs.
pub(crate) struct World {
    dir: TempDir,
    pub(crate) clock: SimClock,
    pub(crate) programs: Programs,
    /// What runs guests, where the programs do not.
    pub(crate) executor: Option<Arc<dyn Executor>>,
    pub(crate) activities: Activities,
    pub(crate) spans: Option<Arc<dyn SpanSink>>,
    pub(crate) config: EngineConfig,
    runtime: Arc<tokio::runtime::Runtime>,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_time().build().unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: SimClock::new(Timestamp(BEGIN)),
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
            },
            runtime: Arc::new(runtime),
        }
    }

    /// A world with this orchestration.
    pub(crate) fn with(name: &str, make: impl Fn() -> Logic + Send + Sync + 'static) -> Self {
        Self::new().and(name, make)
    }

    /// And with this one.
    pub(crate) fn and(self, name: &str, make: impl Fn() -> Logic + Send + Sync + 'static) -> Self {
        self.programs
            .by_name
            .lock()
            .unwrap()
            .insert(name.to_owned(), Arc::new(make));
        self
    }

    /// A world like this one, without a hub.
    pub(crate) fn another(&self) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: SimClock::new(self.clock.now()),
            programs: self.programs.clone(),
            executor: self.executor.clone(),
            // What ran before the crash is nothing that this world did.
            activities: Activities {
                began: Arc::default(),
                ..self.activities.clone()
            },
            spans: self.spans.clone(),
            config: self.config.clone(),
            runtime: Arc::clone(&self.runtime),
        }
    }

    /// What is on the disk right now, in a world of its own: as if the process had died at this moment.
    pub(crate) fn crash_image(&self) -> Self {
        let image = self.another();
        // While somebody reads, no log is begun anew: so what is missing in the file is still in the log that is copied after it.
        let db = rusqlite::Connection::open(self.path()).unwrap();
        db.execute_batch("BEGIN; SELECT * FROM hub").unwrap();
        let _: i64 = db
            .query_row("SELECT count(*) FROM instance", [], |row| row.get(0))
            .unwrap();
        for suffix in ["", "-wal", ".running"] {
            let (from, to) = (
                with_suffix(&self.path(), suffix),
                with_suffix(&image.path(), suffix),
            );
            if from.exists() {
                std::fs::copy(from, to).unwrap();
            }
        }
        image
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("hub.db")
    }

    pub(crate) fn try_open(&self) -> Result<Host<'_>, StoreError> {
        let parts = EngineParts {
            clock: Arc::new(self.clock.clone()),
            executor: self.executor(),
            activity_executor: Arc::new(self.activities.clone()),
            spans: self.spans.clone(),
            native: self
                .activities
                .by_name
                .lock()
                .unwrap()
                .keys()
                .cloned()
                .collect(),
            runtime: self.runtime.handle().clone(),
            deployments: Arc::default(),
        };
        let engine = Engine::start(&self.path(), self.config.clone(), parts)?;
        let host = Host {
            engine,
            world: self,
        };
        let reply = host.submit(Request::Deploy(Box::new(self.module())))?;
        assert!(matches!(reply, Reply::Deployed(_)), "{reply:?}");
        Ok(host)
    }

    fn executor(&self) -> Arc<dyn Executor> {
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
        let orchestrations = names.map(|name| Definition {
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
            contract: "0.1".to_owned(),
            definitions: orchestrations.collect(),
            imports: Vec::new(),
            grants: None,
            replace: true,
            limits: None,
        }
    }

    pub(crate) fn block_on<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        let limited = async { tokio::time::timeout(patience(), future).await };
        self.runtime
            .block_on(limited)
            .unwrap_or_else(|_| panic!("waited in vain for {what}"))
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.spawn(future)
    }

    /// Waits until no attempt of a host that has ended is still on its way.
    pub(crate) fn settle(&self) {
        while self.runtime.metrics().num_alive_tasks() > 0 {
            std::thread::yield_now();
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The activities whose outcome the hub has, in a history or in an inbox, by idempotency key.
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
        Reader::open(&self.path()).unwrap()
    }

    /// The next attempt of `Hold`.
    pub(crate) fn held(&self) -> Held {
        self.block_on("an activity", async {
            self.activities.held.lock().await.recv().await.unwrap()
        })
    }

    /// Attempts of `Hold` that began and were not looked at.
    pub(crate) fn more_held(&self) -> usize {
        self.block_on("the activities", async {
            self.activities.held.lock().await.len()
        })
    }

    /// Replays everything in the hub, and checks the laws of each history.
    pub(crate) fn check_histories(&self, reader: &Reader) {
        for row in reader
            .list(&crate::store::ListQuery {
                limit: 100_000,
                ..Default::default()
            })
            .unwrap()
            .rows
        {
            let mut state = State::new(row.generation);
            let mut guest = self
                .executor()
                .instantiate(
                    row.module.unwrap(),
                    &self.config.limits,
                    &row.id,
                    Timestamp(0),
                )
                .unwrap();
            let turns = reader.turns(row.key, row.execution, 0, u32::MAX).unwrap();
            for turn in &turns {
                replay_turn(&mut state, turn, guest.as_mut())
                    .unwrap_or_else(|e| panic!("{}: {e}", row.id));
            }
            assert_eq!(
                (state.next_event, state.turns),
                (row.next_event, row.turns),
                "{}",
                row.id
            );
            assert_eq!(state.phase.is_end(), row.status.is_end(), "{}", row.id);
        }
    }
}

/// An engine that owns the hub of a world. Dropped without being stopped, it is stopped.
pub(crate) struct Host<'a> {
    pub(crate) engine: Arc<Engine>,
    pub(crate) world: &'a World,
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        self.engine.shut_down();
    }
}

impl Host<'_> {
    pub(crate) fn submit(&self, request: Request) -> Result<Reply, StoreError> {
        self.world
            .block_on("the verdict", self.engine.submit(request))
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

    /// Waits until an instance is as it should be.
    pub(crate) fn until(&self, id: &str, is_so: impl Fn(&InstanceRow) -> bool) -> InstanceRow {
        self.world
            .block_on(&format!("{id:?}, which is {:?}", self.row(id)), async {
                loop {
                    let changed = self.engine.watch(id, Until::Changed);
                    if let Some(row) = self.row(id).filter(|row| is_so(row)) {
                        return row;
                    }
                    changed.told.await.expect("the engine runs");
                }
            })
    }

    /// Waits until an instance ends. How it did, in a word.
    pub(crate) fn end(&self, id: &str) -> String {
        let row = self.until(id, |row| row.status.is_end());
        let output = row.output.map(|output| output.to_string());
        match (row.status, row.failure) {
            (Status::Completed, _) => output.unwrap_or_else(|| "nothing".to_owned()),
            (_, Some(failure)) => failure.kind,
            (status, None) => status.to_string(),
        }
    }

    /// Moves the clock once everything that was asked for has been done at the time it was asked for.
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

    /// Waits until nothing is queued, run or committed.
    pub(crate) fn idle(&self) {
        let mut queue = self.engine.queue();
        while queue.busy > 0 || queue.in_flight > 0 || !queue.work.is_empty() {
            let began = Instant::now();
            queue = queue.wait_timeout(&self.engine.work.there, patience());
            let is_over = began.elapsed() >= patience();
            assert!(!is_over, "the engine does not come to rest");
        }
    }

    /// What goes wrong in the writer.
    pub(crate) fn faults(&self) -> &crate::store::faults::Faults {
        &self.engine.hub.writer.faults
    }

    pub(crate) fn commits(&self) -> u64 {
        self.engine.writer_counts().commits.load(Ordering::Relaxed)
    }

    pub(crate) fn check_histories(&self) {
        self.idle();
        self.world.check_histories(&self.engine.hub.reader);
    }

    /// Changes the hub behind the back of its owner.
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
