//! Takes requests of clients in this process.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use perennial_core::{Callee, Envelope, Message};
use tokio::sync::{Semaphore, oneshot};

use crate::engine::locks::{OrderedMutex, rank};
use crate::engine::memory::slots::{Creating, SlotPhase};
use crate::engine::requests::request::{self, Preparation, Request, StartRequest};
use crate::engine::requests::steps::takes_steps;
use crate::engine::upkeep::quotas::Admission;
use crate::engine::{Engine, Work, fresh_execution};
use crate::foreign::guarded;
use crate::shortage::{Resource, Shortage};
use crate::store::{Change, Outcome, Reader, Reply, StoreError};

/// Tries of a start whose module was collected meanwhile: each needs another deployment and collection in between.
const TRIES_MAX: usize = 10;

/// The wait before what another host has changed of the hub is read again, if it could not be read.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Maximum number of threads that read the hub for clients, and of those that carry out requests in several steps. Further requests wait
/// without a thread.
const BLOCKING_MAX: usize = 16;

/// Maximum number of requests in several steps of which one waits for another host. Each has a thread, and takes no place among the
/// [`BLOCKING_MAX`] while it waits: what it waits for may need one here.
const PASSED_ON_MAX: usize = 128;

/// Maximum number of requests that wait for answers of other hosts.
const FORWARDS_MAX: usize = 1_024;

/// Maximum number of modules that judge requests at once. A validator may use the fuel of a turn, and must not keep clients from reading.
const JUDGES_MAX: usize = 4;

/// Limits how many requests are accepted and carried out at once.
pub(in crate::engine) struct Requests {
    pub(in crate::engine) admission: Arc<Admission>,
    /// Notified when commands of other processes may wait that this engine has not seen.
    pub(in crate::engine) new_commands: Arc<tokio::sync::Notify>,
    /// Locked by the task that takes commands of other processes.
    pub(super) commands: tokio::sync::Mutex<()>,
    /// Those of them that wait for other hosts or compile modules, by their tokens. Others are taken meanwhile.
    pub(super) long_commands: OrderedMutex<HashMap<String, Long>, { rank::COMMANDS }>,
    /// Limited to [`BLOCKING_MAX`], as `steps` is.
    reads: Arc<Semaphore>,
    pub(super) steps: Arc<Semaphore>,
    /// Requests in several steps of which one waits for another host. Limited to [`PASSED_ON_MAX`].
    pub(super) passed_on: Arc<Semaphore>,
    /// Requests that wait for another host. Limited to [`FORWARDS_MAX`].
    pub(in crate::engine) forwards: Arc<Semaphore>,
    /// Limited to [`JUDGES_MAX`].
    pub(in crate::engine) judges: Arc<Semaphore>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            admission: Arc::default(),
            new_commands: Arc::default(),
            commands: tokio::sync::Mutex::default(),
            long_commands: OrderedMutex::default(),
            passed_on: Arc::new(Semaphore::new(PASSED_ON_MAX)),
            reads: Arc::new(Semaphore::new(BLOCKING_MAX)),
            steps: Arc::new(Semaphore::new(BLOCKING_MAX)),
            forwards: Arc::new(Semaphore::new(FORWARDS_MAX)),
            judges: Arc::new(Semaphore::new(JUDGES_MAX)),
        }
    }
}

impl Engine {
    /// Reads the hub for a client, on a blocking thread.
    ///
    /// # Errors
    /// As [`blocking`](Self::blocking).
    pub(crate) async fn reading<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let engine = Arc::clone(self);
        self.blocking(&self.requests.reads, move || read(&engine.hub.reader))
            .await
    }

    /// Runs blocking code on one of a limited number of blocking threads.
    ///
    /// # Errors
    /// Those of `run`; [`StoreError::Lacks`] if the system has no thread for it, in which case `run` was not called.
    pub(in crate::engine) async fn blocking<T: Send + 'static>(
        &self,
        places: &Arc<Semaphore>,
        run: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        // It is taken until the work is done, also when the caller is gone.
        let place = Arc::clone(places).acquire_owned().await;
        let run = move || {
            let _place = place;
            run()
        };
        // The runtime panics if it cannot create a thread.
        let running = guarded(|| self.runtime.spawn_blocking(run)).map_err(|_| {
            let shortage = Shortage::new(Resource::Threads, "there is no thread for a request");
            self.trouble.shortages.note(&shortage);
            StoreError::Lacks(shortage)
        })?;
        running
            .await
            .unwrap_or_else(|error| match error.try_into_panic() {
                // Pass a panic of `run` on to the caller.
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(StoreError::Closed),
            })
    }

    /// Carries out a request of a client about an instance that this engine runs, or about the hub.
    pub(in crate::engine) async fn submit_here(
        self: &Arc<Self>,
        request: Request,
    ) -> Result<Reply, StoreError> {
        if self.is_stopping() {
            return Err(StoreError::Closed);
        }
        let _admitted = match self.admit(&request) {
            Ok(admitted) => admitted,
            Err(reply) => return Ok(reply),
        };
        let other = match request {
            Request::Start(start) => return self.start_instance(start, false, None).await,
            Request::Remote(request) => match *request {
                Request::Start(start) => return self.start_instance(start, true, None).await,
                other => Request::Remote(Box::new(other)),
            },
            Request::ToHost(to) if self.is_told(&to) => {
                Arc::clone(self).hear(*to).await;
                return Ok(Reply::Done);
            }
            steps if takes_steps(&steps) => {
                return self.in_steps(steps, None).await;
            }
            other => self.made_ready(other).await?,
        };
        if let Some(declined) = self.judge(&other).await? {
            return Ok(declined);
        }
        self.change(other).await
    }

    /// Makes the change that a request asks for.
    async fn change(self: &Arc<Self>, request: Request) -> Result<Reply, StoreError> {
        if !matches!(request, Request::StartFor { .. }) {
            return self.change_once(request).await;
        }
        let mut result = Err(StoreError::Conflict);
        // A start fails if its module is collected before the commit; then its name is looked up again.
        for _ in 0..TRIES_MAX {
            result = self.change_once(request.clone()).await;
            if !matches!(result, Err(StoreError::Conflict)) {
                break;
            }
        }
        result
    }

    async fn change_once(self: &Arc<Self>, request: Request) -> Result<Reply, StoreError> {
        let (tell, told) = oneshot::channel();
        let knew = self.known();
        let change = self.prepare(request);
        let about = About::of(&change);
        let engine = Arc::clone(self);
        let write = self.job_knowing(knew, change, move |_, result| {
            drop(tell.send(result.map(|outcome| engine.answered(about, outcome))));
        });
        self.hub.writer.submit_later(write).await;
        told.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Starts an instance. If its module is collected between the lookup of the name and the commit, the name is looked up again. The
    /// transaction that creates the instance, or finds its id in use, also answers the command with this token.
    pub(super) async fn start_instance(
        self: &Arc<Self>,
        start: StartRequest,
        remote: bool,
        token: Option<&str>,
    ) -> Result<Reply, StoreError> {
        let mut result = Err(StoreError::Conflict);
        for _ in 0..TRIES_MAX {
            let knew = self.known();
            let prepared = self.preparing(|with| match remote {
                true => request::prepare_start(start.clone(), &with.remote()),
                false => request::prepare_start(start.clone(), with),
            });
            let new = match prepared {
                Ok(new) => new,
                Err(reply) => return Ok(reply),
            };
            let (tell, told) = oneshot::channel();
            if new.start.scheduled_for.is_some() {
                // The first turn runs when the start is due.
                let engine = Arc::clone(self);
                let write = self.job_knowing(knew, Change::Start(new), move |_, result| {
                    let answered = |outcome| engine.answered(About::default(), outcome);
                    drop(tell.send(result.map(answered)))
                });
                let write = write.answering_if(token.map(str::to_owned));
                self.hub.writer.submit_later(write).await;
            } else {
                self.begin(Creating {
                    new,
                    knew,
                    token: token.map(str::to_owned),
                    respond: Box::new(move |result| drop(tell.send(result))),
                });
            }
            result = told.await.unwrap_or(Err(StoreError::Closed));
            if !matches!(result, Err(StoreError::Conflict)) {
                break;
            }
        }
        result
    }

    /// Compiles the module of a deployment first, so that the deployment can be answered as soon as it is durable.
    pub(super) async fn made_ready(
        self: &Arc<Self>,
        request: Request,
    ) -> Result<Request, StoreError> {
        let Request::Deploy(module) = request else {
            return Ok(request);
        };
        let engine = Arc::clone(self);
        let ready = move || {
            engine.code.executor.ready(module.digest, &module.component);
            Request::Deploy(module)
        };
        let ready = self.runtime.spawn_blocking(ready).await;
        ready.map_err(|_| StoreError::Closed)
    }

    pub(super) fn prepare(&self, request: Request) -> Change {
        self.preparing(|with| request::prepare(request, with))
    }

    pub(super) fn preparing<T>(&self, make: impl FnOnce(&Preparation<'_>) -> T) -> T {
        make(&Preparation {
            names: &self.names(),
            now: self.clock.now(),
            limits: self.config.limits,
            next_key: &|id| self.next_key(id),
            fresh: &fresh_execution,
            running: &|| self.activities.running(),
            full: &|module| self.no_room(module),
            serves: &|name, version| self.is_served(Callee::Orchestration, name, version),
            waits: false,
            workers: &|| self.remote_workers(),
            lines: &|id, from| {
                let kept = self.lines.as_ref().map(|lines| lines.of(id, from));
                kept.unwrap_or_default()
            },
        })
    }

    /// Runs the first turn of an instance. Its commit creates the instance, and only then is the start accepted.
    fn begin(&self, creating: Creating) {
        let slot = self.memory.slots.slot(creating.new.key);
        let start = Message::Start(creating.new.start.clone());
        slot.is_of(creating.new.start.module);
        slot.body().creating = Some(creating);
        let mut mailbox = slot.mailbox();
        mailbox.inbox_is_new = false;
        mailbox.mail.push_back(Envelope::in_memory(start));
        mailbox.phase = SlotPhase::Queued;
        drop(mailbox);
        self.enqueue(Work::Run(slot));
    }

    /// Creates an instance whose first turn cannot run now. It is pending until then.
    pub(in crate::engine) fn accept_for_later(self: &Arc<Self>, creating: Creating) {
        let Creating {
            new,
            knew,
            token,
            respond,
        } = creating;
        let engine = Arc::clone(self);
        let write = self.job_knowing(knew, Change::Start(new), move |_, result| {
            respond(result.map(|outcome| engine.answered(About::default(), outcome)));
        });
        self.hub.writer.submit(write.answering_if(token));
    }

    pub(super) fn answered(self: &Arc<Self>, about: About, outcome: Outcome) -> Reply {
        if about.keys {
            self.keys.send_replace(());
        }
        if about.modules {
            self.code.deployments.fetch_add(1, Ordering::AcqRel);
            // It has said so, and reads them again when they are used.
            let _ = self.reload_names();
        }
        if about.retention
            && let Err(error) = self.load_retention()
        {
            tracing::error!(%error, "could not read the retention of instances; using the previous one");
        }
        if let Reply::Collected(modules) = &outcome.reply {
            for module in modules {
                self.code.executor.forget(module.digest);
            }
        }
        self.follow(outcome.effects);
        outcome.reply
    }

    /// Reads anew what this engine keeps of the hub: another host may have changed it. What could not be read is read soon; until then
    /// nothing is started here.
    pub(in crate::engine) fn hub_changed(self: &Arc<Self>, version: i64) {
        self.keys.send_replace(());
        self.code.deployments.fetch_add(1, Ordering::AcqRel);
        let names = self.names_changed();
        let worker_names = self.load_worker_names();
        let retention = self.load_retention();
        match names.and(worker_names).and(retention) {
            Ok(()) => _ = self.hub.known.fetch_max(version, Ordering::AcqRel),
            Err(error) => {
                tracing::warn!(%error, "could not read what another host has changed of the task hub; reading it again");
                self.read_hub_later(version);
            }
        }
    }

    fn read_hub_later(self: &Arc<Self>, version: i64) {
        let engine = Arc::downgrade(self);
        self.runtime.spawn(async move {
            tokio::time::sleep(READ_AGAIN_AFTER).await;
            let Some(engine) = engine.upgrade().filter(|engine| !engine.is_stopping()) else {
                return;
            };
            let again = Arc::clone(&engine);
            // The runtime panics if it cannot create a thread.
            if guarded(|| {
                engine
                    .runtime
                    .spawn_blocking(move || again.hub_changed(version))
            })
            .is_err()
            {
                engine.read_hub_later(version);
            }
        });
    }
}

/// A command beside which others are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Long {
    /// It compiles a module, which takes seconds.
    Deployment,
    /// It may wait for other hosts.
    Other,
}

/// What has to be reloaded into memory after a change.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct About {
    modules: bool,
    retention: bool,
    keys: bool,
}

impl About {
    pub(super) fn of(change: &Change) -> Self {
        match change {
            Change::All(changes) => {
                changes
                    .iter()
                    .map(Self::of)
                    .fold(Self::default(), |a, b| Self {
                        modules: a.modules || b.modules,
                        retention: a.retention || b.retention,
                        keys: a.keys || b.keys,
                    })
            }
            other => Self {
                modules: matches!(
                    other,
                    Change::Deploy(_)
                        | Change::Grant { .. }
                        | Change::CollectModules { .. }
                        | Change::RemoveModule { .. }
                ),
                retention: matches!(other, Change::Retain(_)),
                keys: matches!(other, Change::CreateKey(_) | Change::RevokeKey { .. }),
            },
        }
    }
}
