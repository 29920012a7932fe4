//! Takes requests of clients in this process.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use perennial_core::{Callee, Envelope, Message};
use tokio::sync::{Semaphore, oneshot};

use crate::engine::memory::slots::{Creating, SlotPhase};
use crate::engine::requests::owner::Owner;
use crate::engine::requests::request::{self, Preparation, Request, StartRequest};
use crate::engine::requests::steps::{carry_out, takes_steps};
use crate::engine::upkeep::quotas::Admission;
use crate::engine::workers::threads::UnderWay;
use crate::engine::{Engine, Work, fresh_execution};
use crate::foreign::guarded;
use crate::shortage::{Resource, Shortage};
use crate::store::{Change, Outcome, Partition, Reader, Reply, StoreError, Write};

/// Tries of a start whose module was collected meanwhile: each needs another deployment and collection in between.
const TRIES_MAX: usize = 10;

/// Maximum number of threads that read the hub for clients, and of those that carry out requests in several steps. Further requests wait
/// without a thread.
const BLOCKING_MAX: usize = 16;

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
    /// Limited to [`BLOCKING_MAX`], as `steps` is.
    reads: Arc<Semaphore>,
    pub(super) steps: Arc<Semaphore>,
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
                let engine = Arc::clone(self);
                let steps = move || carry_out(&engine, steps, None);
                return self.blocking(&self.requests.steps, steps).await;
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
        let change = self.prepare(request);
        let about = About::of(&change);
        let engine = Arc::clone(self);
        self.write_later(change, move |_, result| {
            drop(tell.send(result.map(|outcome| engine.answered(about, outcome))))
        })
        .await;
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
                let write = self.job(Change::Start(new), move |_, result| {
                    let answered = |outcome| engine.answered(About::default(), outcome);
                    drop(tell.send(result.map(answered)))
                });
                let write = write.answering_if(token.map(str::to_owned));
                self.hub.writer.submit_later(write).await;
            } else {
                self.begin(Creating {
                    new,
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

    fn preparing<T>(&self, make: impl FnOnce(&Preparation<'_>) -> T) -> T {
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
            token,
            respond,
        } = creating;
        let engine = Arc::clone(self);
        let write = self.job(Change::Start(new), move |_, result| {
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
            self.reload_names();
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

    /// Reads anew what this engine keeps of the hub: another host may have changed it.
    pub(in crate::engine) fn hub_changed(self: &Arc<Self>, version: i64) {
        self.keys.send_replace(());
        self.code.deployments.fetch_add(1, Ordering::AcqRel);
        self.names_changed();
        if let Err(error) = self.load_worker_names() {
            tracing::warn!(%error, "could not read the names that remote workers have run; using the previous ones");
        }
        if let Err(error) = self.load_retention() {
            tracing::error!(%error, "could not read the retention of instances; using the previous one");
        }
        self.hub.known.store(version, Ordering::Release);
    }
}

impl Owner for Arc<Engine> {
    fn reader(&self) -> &Reader {
        &self.hub.reader
    }

    fn write(&self, change: Change, token: Option<String>) -> Result<Reply, StoreError> {
        let about = About::of(&change);
        let (tell, told) = std::sync::mpsc::channel();
        let under_way = UnderWay::new(self);
        let write = Write::new(change, self.clock.now(), move |_, result| {
            drop(tell.send(result));
            drop(under_way);
        });
        let write = self.stamped(write);
        self.hub.writer.submit(write.answering_if(token));
        let outcome = told.recv().unwrap_or(Err(StoreError::Closed))?;
        Ok(self.answered(about, outcome))
    }

    fn prepared<T>(&self, make: impl FnOnce(&Preparation<'_>) -> T) -> Result<T, StoreError> {
        Ok(self.preparing(make))
    }

    fn elsewhere(&self, id: &str) -> Option<Partition> {
        self.hub.partitions.elsewhere(id)
    }

    fn pass_on(&self, to: Partition, request: Request) -> Result<Reply, StoreError> {
        let peers = self.peers.as_ref().ok_or(StoreError::Closed)?;
        let (tell, told) = std::sync::mpsc::channel();
        peers.submit(to, request, Box::new(move |answer| drop(tell.send(answer))));
        told.recv().unwrap_or(Err(StoreError::Closed))
    }
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
