//! Perennial: a durable workflow engine that runs orchestrations as WebAssembly components and keeps everything in one SQLite file.
//!
//! An orchestration is ordinary async code, compiled to a `.wasm` component. The host drives it as a deterministic function from events to
//! actions, records every event, and brings it back by replay after any crash. This crate is the host: embed it with [`Host::builder`],
//! manage instances with a [`Client`].
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

#[cfg(feature = "http")]
mod budget;
mod builtin;
mod chain;
mod client;
mod descriptors;
mod engine;
mod foreign;
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
#[cfg(feature = "http")]
mod timed;
pub mod wasm;

pub use client::{
    AccessKey, Bulk, BulkProgress, Client, CopyProgress, DEFAULT_TASK_HUB, Deploy, Deployment,
    DroppedEvent, DroppedTask, Error, Filter, HistoryEvent, HistoryPage, HistoryQuery,
    HttpManagementPayload, HubInfo, HubOwner, HubStats, Hubs, InstanceCommand, InstanceFamily,
    InstanceStatus, List, Module, ModuleInfo, NewAccessKey, OwnerState, Page, Purge,
    RearmedActivity, RemainingFailure, Restart, Result, Retention, Rewind, RewindRecord, Rewound,
    Role, Start, StatusQuery, TaskKind, Wait, Waited, parse_json, parse_time,
};
pub use descriptors::{check_process_limits, raise_descriptor_limit};
pub use engine::clock::{Clock, OnJump, SimClock, SystemClock};
pub use engine::{CommitTimings, HostStats, ModuleLimits, Quotas};
pub use engine::{executor, spans};
pub use histogram::Buckets;
pub use perennial_core::{
    AttemptRun, Cause, Digest, Event, FailedAttempt, Failure, Json, Limits, Millis, OutOfRange,
    Quarantine, RetryPolicy, Reuse, Status, TaskId, Timestamp, closest, kind,
};
pub use runtime::{
    ActivityContext, Check, CheckOutcome, CheckReport, CheckedInstance, CheckedName, Collect, Host,
    HostBuilder, HubCheck, HubProblem, NameChange, RemoveInUse, Verify,
};
pub use shortage::{Resource, Shortage};
pub use store::{CollectedModule, Definition, DefinitionKind, Order, UpdatedName};
pub use wasm::{DirGrant, Grants};
