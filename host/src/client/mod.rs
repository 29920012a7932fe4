//! The management API: start, query, list, wait, raise events, terminate, suspend, resume, deploy.
//!
//! A [`Client`] talks to the engine of its own process, to a hub's file or database, or to a remote host over HTTP. With a file or a
//! database, reads are direct; a change goes through the hub's owner, or the client applies it if there is none. Callers see no difference,
//! except that instances only run while a host does.

pub(crate) mod body;
mod error;
mod here;
pub(crate) mod hub;
pub(crate) mod instances;
pub(crate) mod json;
mod moment;
mod outside;
mod remote;
mod store;
#[cfg(feature = "http")]
mod told;

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use perennial_core::{Json, Timestamp};
use serde::Serialize;

pub(crate) use crate::client::outside::OutsideBackend;
use crate::client::remote::Remote;
use crate::engine::clock::{Clock, SystemClock};
use crate::engine::{CommitTimings, Engine, HostStats, Request, brief};
use crate::shortage::Shortage;
use crate::store::{Place, Reader, Reply, Run, StoreError};
use crate::timed::{Account, timed};

#[cfg(test)]
pub(crate) use error::one_of_each as one_error_of_each_kind;
pub use error::{Error, Result};
pub use hub::backup::CopyProgress;
pub use hub::hosts::{HubHost, HubHosts};
#[cfg(feature = "postgres")]
pub use hub::hubs::CopiedHub;
pub use hub::hubs::{HubInfo, HubStats, Hubs};
pub use hub::keys::{AccessKey, NewAccessKey, Role};
#[cfg(feature = "http")]
pub(crate) use hub::keys::{KeyHash, KeyRing, hash as key_hash};
pub use hub::management::HttpManagementPayload;
pub use hub::modules::{Deploy, Deployment, Module, ModuleInfo};
pub use hub::overview::{
    ActivityCounts, ActivityDurations, FailureCount, OpenActivity, OrchestrationCount, Overview,
    OverviewBucket, OverviewQuery, WaitCount,
};
pub use hub::owner::{HubOwner, OwnerState};
pub use hub::retention::Retention;
pub use hub::stored::StoredModule;
pub use hub::workers::{WaitingWork, Worker, WorkerItem, WorkerName, Workers};
pub use instances::again::{
    DroppedEvent, DroppedTask, RearmedActivity, RemainingFailure, Restart, Rewind, Rewound,
    TaskKind,
};
pub use instances::bulk::{Bulk, BulkProgress};
pub use instances::control::{CommandOutcome, InstanceCommand};
#[cfg(feature = "http")]
pub(crate) use instances::family::FAMILY_BYTES_MAX;
pub use instances::family::InstanceFamily;
pub use instances::filter::Filter;
#[cfg(feature = "http")]
pub(crate) use instances::follow::{
    Change, ChangeCursor, Changed, Changes, Cursor, Found, Notices, NoticesOf,
};
pub use instances::history::HistoryEvent;
#[cfg(feature = "http")]
pub(crate) use instances::history_query::HISTORY_BYTES_MAX;
pub use instances::history_query::{HistoryPage, HistoryQuery};
#[cfg(feature = "http")]
pub(crate) use instances::list::PAGE_BYTES_MAX;
pub use instances::list::{List, Page};
pub use instances::logs::{InstanceLogs, LogLine};
pub use instances::pending::PendingEvent;
pub use instances::purge::Purge;
pub use instances::recorded::{RECORDED_BYTES_MAX, RecordedHistory};
pub use instances::requests::{RequestState, RequestStatus, SendRequest};
pub use instances::start::{Start, Started};
pub use instances::status::{InstanceStatus, PendingCancellation, RewindRecord, StatusQuery};
pub use instances::tags::TagChange;
pub use instances::values::{NamedValue, WaitedValue};
pub use instances::wait::Waited;
pub use instances::wait_words::WaitWord;
pub use instances::waits::{AtWorker, Heartbeat, Wait};
pub use moment::parse_time;
pub use store::Store;
pub(crate) use store::check_name;
#[cfg(feature = "http")]
pub(crate) use told::{DISK_FULL, LOCKED, lacking};

/// The name of the default task hub.
pub const DEFAULT_TASK_HUB: &str = "default";

/// Manages the instances of one task hub. Cheap to clone.
///
/// ```no_run
/// # async fn example() -> perennial::Result<()> {
/// use std::time::Duration;
///
/// let client = perennial::Client::open(".perennial", "default")?;
/// let id = client.start("HelloSequence").await?;
/// let ended = client.wait_for_completion(&id, Duration::from_secs(30)).await?.reached();
/// println!("{:?}", ended.and_then(|status| status.output));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    hub: Arc<str>,
    backend: Backend,
    overviews: Arc<hub::overview::Shared>,
    /// The run of an instance that commands are meant for.
    run: Option<Arc<str>>,
}

#[derive(Clone)]
enum Backend {
    Engine(Arc<Engine>),
    Outside(Arc<OutsideBackend>),
    Remote(Arc<Remote>),
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("hub", &self.hub)
            .finish_non_exhaustive()
    }
}

/// Checks that a text is JSON, and keeps it unchanged.
///
/// # Errors
/// [`Error::is_invalid`]; the message gives the problem and its position.
pub fn parse_json(text: impl Into<String>) -> Result<Json> {
    let json = Json::from_text(text.into());
    check_json(&json).map(|()| json)
}

/// Checks a payload from a caller that may have built it without a check; stored payloads are not checked again.
pub(crate) fn check_json(json: &Json) -> Result<()> {
    serde_json::from_str::<serde::de::IgnoredAny>(json.as_str())
        .map(|_| ())
        .map_err(|error| Error::json("the text", &error))
}

pub(crate) fn to_json<T: Serialize + ?Sized>(what: &'static str, value: &T) -> Result<Json> {
    serde_json::to_string(value)
        .map(Json::from_text)
        .map_err(|error| Error::json(what, &error))
}

impl Client {
    /// Opens a client of a hub, in a process that does not run it. The store is a directory, or a database: see [`Store`].
    ///
    /// The hub need not exist yet: the first deployment creates it, and until then other calls report that it does not exist. All other
    /// calls need a tokio runtime.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if the name of the hub is invalid.
    pub fn open(store: impl Into<Store>, task_hub: &str) -> Result<Self> {
        let place = store.into().place(task_hub)?;
        Ok(Self {
            hub: task_hub.into(),
            backend: Backend::Outside(Arc::new(OutsideBackend::new(place))),
            overviews: Arc::default(),
            run: None,
        })
    }

    pub(crate) fn of_engine(hub: &str, engine: Arc<Engine>) -> Self {
        Self {
            hub: hub.into(),
            backend: Backend::Engine(engine),
            overviews: Arc::default(),
            run: None,
        }
    }

    /// A client whose commands to an instance are carried out only if the instance still has this run: the [`run`](InstanceStatus::run) of a
    /// status that was read before. Whoever decides by that status cannot hit a run that was started under the same id meanwhile. A run stays
    /// the same when it continues as new or is rewound; a start under its id and a restart begin another one. The hub decides in the
    /// transaction of the command.
    ///
    /// Commands then also fail with [`Error::is_other_run`], or [`Error::is_not_found`] if the instance is gone. Reading is not restricted,
    /// and commands that are not to one instance, such as bulk operations, are refused.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// if let Some(seen) = client.status("order-17").await? && seen.is_ended() {
    ///     // Does not delete what was started under this id after it was looked at.
    ///     client.for_run(&seen.run).purge("order-17").await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn for_run(&self, run: &str) -> Self {
        let backend = match &self.backend {
            Backend::Remote(remote) => Backend::Remote(Arc::new(remote.for_run(run))),
            other => other.clone(),
        };
        Self {
            backend,
            run: Some(run.into()),
            ..self.clone()
        }
    }

    /// This client without the restriction of [`for_run`](Self::for_run), where it is not that of a remote host.
    pub(crate) fn for_any_run(&self) -> Self {
        let run = None;
        Self {
            run,
            ..self.clone()
        }
    }

    /// The run that commands are meant for, if it is one.
    fn wanted_run(&self) -> Result<Option<Run>> {
        let read = |run: &Arc<str>| {
            Run::parse(run).ok_or_else(|| {
                Error::invalid(format!(
                    "{:?} is no run of an instance: take it from the status of the instance, as it is there",
                    brief(run)
                ))
            })
        };
        self.run.as_ref().map(read).transpose()
    }

    /// Restricts a request to the run that this client is for.
    fn restricted(&self, id: &str, request: Request) -> Result<Request> {
        let Some(run) = self.wanted_run()? else {
            return Ok(request);
        };
        if id.is_empty() {
            return Err(Error::invalid(
                "only a command to one instance can be meant for a run; give it without one",
            ));
        }
        Ok(Request::IfRun {
            id: id.to_owned(),
            run,
            then: Box::new(request),
        })
    }

    /// The engine of the hub's host, if that is in this process.
    pub(crate) fn engine(&self) -> Option<&Arc<Engine>> {
        match &self.backend {
            Backend::Engine(engine) => Some(engine),
            Backend::Outside(_) | Backend::Remote(_) => None,
        }
    }

    /// A new id for an instance. It begins with the time, so that rows written together are near each other.
    pub(in crate::client) fn new_id(&self) -> String {
        let fresh = || uuid::Uuid::now_v7().simple().to_string();
        match &self.backend {
            Backend::Engine(engine) => engine.own_id(fresh),
            Backend::Outside(_) | Backend::Remote(_) => fresh(),
        }
    }

    /// The name of the task hub.
    pub fn task_hub(&self) -> &str {
        &self.hub
    }

    /// The time of the clock that the host of this process uses.
    pub(crate) fn now(&self) -> Timestamp {
        match &self.backend {
            Backend::Engine(engine) => engine.clock.now(),
            Backend::Outside(_) | Backend::Remote(_) => SystemClock.now(),
        }
    }

    /// Whether a host, in this process or another one, runs the hub now.
    pub fn is_hosted(&self) -> bool {
        match &self.backend {
            Backend::Engine(engine) => !engine.is_stopping(),
            Backend::Outside(hub) => hub.is_owned(),
            // A remote address always belongs to a host.
            Backend::Remote(_) => true,
        }
    }

    /// Whether the host in this process is about to stop.
    #[cfg(feature = "http")]
    pub(crate) fn is_draining(&self) -> bool {
        self.engine().is_some_and(|engine| engine.is_draining())
    }

    /// Whether the hub is in a database, whose disk is that of another machine.
    #[cfg(feature = "http")]
    pub(crate) fn is_in_database(&self) -> bool {
        self.place().is_some_and(|place| place.path().is_none())
    }

    /// Checks that the hub can be written. If the last commit of the host in this process failed, this tries a commit that changes nothing:
    /// a host that is not ready gets no other requests, so it would never become ready again. What keeps failing for want of room, while other
    /// commits succeed, counts for some seconds.
    ///
    /// # Errors
    /// The reason why it cannot be written.
    #[cfg(feature = "http")]
    pub(crate) async fn can_write(&self) -> Result<()> {
        let Backend::Engine(engine) = &self.backend else {
            return Ok(());
        };
        let refused = || match engine.refuses_to_write() {
            Some(error) => Err(Error::store(self.task_hub(), error)),
            None => Ok(()),
        };
        refused()?;
        if engine.fails_to_write() {
            // No key has this id, so nothing changes.
            let nothing = Request::RevokeKey { id: String::new() };
            self.submit("", nothing).await?;
        }
        // That commit was a small one.
        refused()?;
        // That commit may fit on a disk that is too full for a start.
        let place = engine.place().clone();
        let asked = tokio::task::spawn_blocking(move || place.has_room()).await;
        let room = asked.map_err(|_| Error::panicked())?;
        room.map_err(|error| Error::store(self.task_hub(), error))
    }

    /// Counters of the host, if it is in this process.
    pub fn host_stats(&self) -> Option<HostStats> {
        match &self.backend {
            Backend::Engine(engine) => Some(engine.stats()),
            Backend::Outside(_) | Backend::Remote(_) => None,
        }
    }

    /// The current shortages of the host, if it is in this process: see [`Host::shortages`](crate::Host::shortages).
    pub fn shortages(&self) -> Vec<Shortage> {
        match &self.backend {
            Backend::Engine(engine) => engine.shortages(),
            Backend::Outside(_) | Backend::Remote(_) => Vec::new(),
        }
    }

    /// Timings of the host's commits, if it is in this process.
    pub fn commit_timings(&self) -> Option<CommitTimings> {
        match &self.backend {
            Backend::Engine(engine) => Some(engine.commit_timings()),
            Backend::Outside(_) | Backend::Remote(_) => None,
        }
    }

    /// How long ago the host in this process renewed its lease of the hub, and how many partitions it has, as far as it knows without asking
    /// the database.
    #[cfg_attr(
        not(feature = "http"),
        allow(dead_code, reason = "only the metrics ask")
    )]
    pub(crate) fn own_share(&self) -> Option<(Option<Duration>, u64)> {
        let engine = self.engine()?;
        Some((engine.lease_age(), engine.own_partitions()))
    }

    /// Starts an instance of an orchestration. Set options on the returned value, then await it.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// let id = client.start("Ship").id("order-17").input(&serde_json::json!({ "pieces": 3 })).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn start(&self, orchestration: impl Into<String>) -> Start {
        Start::new(self.clone(), orchestration.into())
    }

    /// The status of an instance; `None` if it does not exist. Await the returned value.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// if let Some(status) = client.status("order-17").show_input().await? {
    ///     println!("{} since {:?}", status.runtime_status, status.last_updated_at);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn status(&self, id: impl Into<String>) -> StatusQuery {
        StatusQuery {
            client: self.clone(),
            id: id.into(),
            show: Default::default(),
        }
    }

    /// Lists instances, newest first, in pages. Set filters on the returned value, then await it.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// use perennial::Status;
    ///
    /// let page = client.list().status(Status::Running).id_prefix("order-").limit(50).await?;
    /// for instance in &page.instances {
    ///     println!("{} {}", instance.instance_id, instance.name);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn list(&self) -> List {
        List::new(self.clone())
    }

    /// The number of instances in each status; statuses without instances are left out. [`List::counts`] counts with a filter.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// for (status, count) in client.counts().await? {
    ///     println!("{status}: {count}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the hub cannot be read.
    pub async fn counts(&self) -> Result<Vec<(perennial_core::Status, u64)>> {
        self.list().counts().await
    }

    /// Sends an external event to an instance. It is kept until the orchestration awaits an event with this name, in any case of letters.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// client.raise_event("order-17", "Approved", &true).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`], [`Error::is_wrong_state`] if it has ended, [`Error::is_limit_exceeded`].
    pub async fn raise_event<T: Serialize + ?Sized>(
        &self,
        id: &str,
        name: &str,
        data: &T,
    ) -> Result<()> {
        let data = to_json("the event's data", data)?;
        self.raise_event_json(id, name, Some(data)).await
    }

    /// As [`raise_event`](Self::raise_event), with a JSON text, which is kept unchanged, or without data.
    ///
    /// # Errors
    /// As [`raise_event`](Self::raise_event); [`Error::is_invalid`] if the text is not JSON.
    pub async fn raise_event_json(&self, id: &str, name: &str, data: Option<Json>) -> Result<()> {
        data.as_ref().map_or(Ok(()), check_json)?;
        self.command(
            id,
            Request::RaiseEvent {
                id: id.to_owned(),
                name: name.to_owned(),
                data,
            },
        )
        .await
    }

    /// Where the hub is, unless that is a remote host.
    pub(crate) fn place(&self) -> Option<&Place> {
        match &self.backend {
            Backend::Engine(engine) => Some(engine.place()),
            Backend::Outside(hub) => Some(hub.place()),
            Backend::Remote(_) => None,
        }
    }

    /// The store that the hub is in, unless that is a remote host.
    #[cfg(feature = "grpc")]
    pub(crate) fn store(&self) -> Option<Store> {
        Store::of(self.place()?)
    }

    /// The directory in which this machine keeps what belongs to the hub.
    pub(crate) fn data_dir(&self) -> Option<&Path> {
        self.place()?.data_dir()
    }

    pub(crate) fn remote(&self) -> Option<&Remote> {
        match &self.backend {
            Backend::Remote(remote) => Some(remote),
            Backend::Engine(_) | Backend::Outside(_) => None,
        }
    }

    /// The address of the remote host: see [`connect`](Self::connect). `None` for all other clients.
    pub fn address(&self) -> Option<&str> {
        self.remote().map(Remote::address)
    }

    async fn command(&self, id: &str, request: Request) -> Result<()> {
        self.submit(id, request).await.map(|_| ())
    }

    /// Submits a request. `about` is the instance or module that an error names.
    pub(crate) async fn submit(&self, about: &str, request: Request) -> Result<Reply> {
        let request = match &self.backend {
            Backend::Remote(_) => request,
            Backend::Engine(_) | Backend::Outside(_) => self.restricted(about, request)?,
        };
        let reply = match &self.backend {
            Backend::Engine(engine) => here::submit(&self.hub, engine, request).await?,
            Backend::Outside(hub) => hub.submit(&self.hub, request).await?,
            Backend::Remote(remote) => remote.submit(request).await?,
        };
        Error::from_reply(about, reply)
    }

    /// Reads, and measures the processor time of the read.
    pub(in crate::client) async fn timed_read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<(T, Duration)> {
        self.read(move |reader| {
            let (read, took) = timed(|| read(reader));
            Ok((read?, took))
        })
        .await
    }

    /// Reads from the hub on a thread that may block.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T> {
        let account = Account::of_task();
        let read = move |reader: &Reader| account.charge(|| read(reader));
        let result = match self.backend.clone() {
            Backend::Engine(engine) => {
                // A panic while reading becomes an error, as in a process that reads the file.
                let result = AssertUnwindSafe(engine.reading(read)).catch_unwind().await;
                return result
                    .map_err(|_| Error::panicked())?
                    .map_err(|error| Error::store(&self.hub, error));
            }
            Backend::Outside(hub) => tokio::task::spawn_blocking(move || hub.with_reader(read)),
            Backend::Remote(_) => return Err(Error::needs_file("this")),
        };
        result
            .await
            .map_err(|_| Error::panicked())?
            .map_err(|error| Error::store(&self.hub, error))
    }
}
