//! Perennial is a durable workflow engine: it runs orchestrations as WebAssembly components and keeps everything in one SQLite file.
//!
//! An orchestration is ordinary async code, compiled to a `.wasm` component. The host drives it as a deterministic function from events to
//! actions, records every event, and restores it by replay after any crash. This crate is the host: embed it with [`Host::builder`], and
//! manage instances with a [`Client`]. Orchestrations are written with the crate `perennial-sdk`; the command `perennial` of the crate
//! `perennial-cli` does from a shell what this crate does from Rust.
//!
//! # Concepts
//!
//! - A **task hub** is one SQLite file with instances, their histories, and modules. One [`Host`] runs it at a time; any number of clients
//!   in other processes manage it.
//! - A **module** is a component that is deployed under a name. It defines orchestrations and activities, each with a name of its own
//!   ([`Definition`]). Deploying another component under the same name affects new instances only: each instance is pinned to the module
//!   that it started on, which stays in the hub as long as an instance needs it.
//! - An **orchestration** is deterministic code that says what happens in which order. Its only clock, randomness and IO come from the
//!   host, and the sandbox enforces this. It calls activities, waits for timers and events, and starts other orchestrations.
//! - An **activity** is ordinary code that does the work. It may run more than once: after a crash, and under its retry policy. It is part of
//!   a module, or a closure of your program ([`HostBuilder::activity`]). An activity of a module can touch only what it is granted
//!   ([`Grants`]).
//! - An **instance** is one run of an orchestration, with an id that you choose or the host generates. Its **history** is the list of its
//!   events ([`Event`]), from which its state is rebuilt.
//! - A **turn** is one step of an instance: the guest is given new events and answers with actions. Each turn is one transaction that is synced to
//!   disk before any of its effects happens.
//!
//! # A tour
//!
//! ```no_run
//! # async fn example() -> perennial::Result<()> {
//! use perennial::{Host, Module};
//! use std::time::Duration;
//!
//! let host = Host::builder().data_dir(".perennial").start().await?;
//! let client = host.client();
//! client.deploy(Module::from_file("hello-sequence.wasm")?).await?;
//! let id = client.start("HelloSequence").await?;
//! let waited = client.wait_for_completion(&id, Duration::from_secs(10)).await?;
//! println!("{}", waited.status().runtime_status);
//! host.shut_down().await;
//! # Ok(())
//! # }
//! ```
//!
//! The examples of this crate show more: `embed` is the above, `approval` uses a closure as an activity, an event and a deadline on a
//! simulated clock, `manage` changes many instances by filter, and `router` mounts the HTTP API in a web server.
//!
//! # Cookbook
//!
//! | to | use |
//! | --- | --- |
//! | start an instance only once, even if the call is retried | [`Client::start`] with [`Start::id`] |
//! | start it later | [`Start::at`], [`Start::after`] |
//! | wait for its end, its start, or a condition | [`Client::wait_for_completion`], [`Client::wait_for_start`], [`Client::wait_until`] |
//! | see why it does not continue | [`Client::status`], [`InstanceStatus::waits_for`] |
//! | see at a glance what a hub does | [`Client::overview`] |
//! | see the remote workers, and what waits for one | [`Client::workers`] |
//! | read its history in pages or as a stream | [`Client::history`] |
//! | send it a message | [`Client::raise_event`] |
//! | ask it, and get an answer | [`Client::request`] |
//! | stop, hold, or continue it | [`Client::terminate`], [`Client::suspend`], [`Client::resume`] |
//! | repair it after a failure | [`Client::rewind`], [`Client::restart`] |
//! | find instances, page by page or as a stream | [`Client::list`], [`Filter`], [`List::stream`] |
//! | change all instances that match a filter | [`Client::terminate_where`] and the others that end in `_where` |
//! | delete ended instances, now or after a time | [`Client::purge`], [`Client::set_retention`] |
//! | test a new module against live instances | [`Client::check`] |
//! | roll back to a module that was deployed before | [`Client::stored_modules`], [`Client::deploy_stored`] |
//! | copy a hub while it runs | [`Client::backup`] |
//! | check a hub for damage | [`Client::verify`] |
//! | manage a hub on another machine | [`Client::connect`] |
//! | test with your own clock | [`HostBuilder::clock`], [`SimClock`] |
//! | limit what instances may use | [`HostBuilder::limits`], [`HostBuilder::quotas`] |
//!
//! # Features
//!
//! - `http` (on by default): the HTTP server, an axum router with the management API of Durable Functions and Perennial's own API.
//! - `grpc` (on by default): the gRPC server for the Durable Task SDKs, on the address of the HTTP server or on one of its own.
//! - `otel`: export of traces to an OpenTelemetry collector.
//!
//! # Errors
//!
//! Every operation of a client returns [`Error`]. Use its predicates, such as [`Error::is_not_found`]: so new reasons can be added without
//! breaking callers. A failed orchestration is not an error of the client; see [`InstanceStatus::failure`].
#![warn(clippy::too_many_lines, unnameable_types)]

#[cfg(feature = "http")]
mod budget;
mod builtin;
mod chain;
mod client;
mod descriptors;
mod engine;
mod foreign;
#[cfg(feature = "grpc")]
pub(crate) mod grpc;
mod guest_lines;
mod histogram;
#[cfg(feature = "http")]
pub mod http;
mod limits;
mod outage;
mod runtime;
mod shortage;
mod store;
#[cfg(feature = "otel")]
pub mod telemetry;
mod timed;
pub mod wasm;

#[cfg(feature = "postgres")]
pub use client::CopiedHub;
pub use client::{
    AccessKey, ActivityCounts, ActivityDurations, AtWorker, Bulk, BulkProgress, Client,
    CommandOutcome, CopyProgress, DEFAULT_TASK_HUB, Deploy, Deployment, DroppedEvent, DroppedTask,
    Error, FailureCount, Filter, Heartbeat, HistoryEvent, HistoryPage, HistoryQuery,
    HttpManagementPayload, HubHost, HubHosts, HubInfo, HubOwner, HubStats, Hubs, InstanceCommand,
    InstanceFamily, InstanceLogs, InstanceStatus, List, LogLine, Module, ModuleInfo, NamedValue,
    NewAccessKey, OpenActivity, OrchestrationCount, Overview, OverviewBucket, OverviewQuery,
    OwnerState, Page, PendingCancellation, PendingEvent, Purge, RECORDED_BYTES_MAX,
    RearmedActivity, RecordedHistory, RemainingFailure, RequestState, RequestStatus, Restart,
    Result, Retention, Rewind, RewindRecord, Rewound, Role, SendRequest, Start, Started,
    StatusQuery, Store, StoredModule, TagChange, TaskKind, Wait, WaitCount, WaitWord, Waited,
    WaitedValue, WaitingWork, Worker, WorkerItem, WorkerName, Workers, parse_json, parse_time,
};
pub use descriptors::{check_process_limits, raise_descriptor_limit};
pub use engine::clock::{Clock, OnJump, SimClock, SystemClock};
pub use engine::executor::HeartbeatError;
pub use engine::{CommitTimings, HostStats, ModuleLimits, Quotas};
pub use engine::{executor, spans};
pub use guest_lines::LogLevel;
pub use histogram::Buckets;
/// The rules of the engine, and all types that histories and guests are made of.
pub use perennial_core as core;
pub use perennial_core::{
    AttemptRun, Cause, ChildPolicy, Digest, Event, FailedAttempt, Failure, Json, Limits, Millis,
    OutOfRange, Quarantine, RetryPolicy, Reuse, Status, StatusSet, TaskId, Timestamp, closest,
    kind,
};
pub use runtime::{
    ActivityContext, Check, CheckOutcome, CheckReport, CheckedInstance, CheckedName, Collect, Host,
    HostBuilder, HubCheck, HubProblem, Loss, NameChange, RemoveInUse, Replayer, Verify,
};
pub use shortage::{Resource, Shortage};
pub use store::{
    CollectedModule, Definition, DefinitionKind, Order, UpdatedName, WaitFilter, WaitKind,
};
#[cfg(feature = "postgres")]
pub use store::{DatabaseAdvice, Severity};
pub use wasm::{DirGrant, Grants};
