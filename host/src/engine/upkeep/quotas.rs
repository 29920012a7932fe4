//! Quotas: what a hub, a module and an execution may take up, and how many requests may wait.
//!
//! Nothing here counts rows: live instances are counted by the writer as they change, and histories know their own size. So a quota is
//! met as of the last commit, and what was under way by then may go a little beyond it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use perennial_core::{Digest, Failure, Json, Limits, Names, Resolved, kind};

use crate::engine::Engine;
use crate::engine::memory::slots::Resident;
use crate::engine::modules::names::NameTable;
use crate::engine::requests::bounds;
use crate::engine::requests::refused::{self, refused};
use crate::engine::requests::request::Request;
use crate::store::Reply;

/// What a hub, its modules and its executions may take up. `None` is no limit of its own.
///
/// A start, a restart or a rewind over a quota is refused with [`Error::is_limit_exceeded`](crate::Error::is_limit_exceeded), and a child fails with
/// `LimitExceeded`, as does an execution whose history is over its own: the message names the quota. Quotas are the host's: a hub
/// without a host has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quotas {
    /// Live instances of the hub.
    pub instances: Option<u64>,
    /// Live instances that run one module.
    pub instances_per_module: Option<u64>,
    /// Bytes of the hub's file that are in use, beyond which nothing new is started. What was deleted and the write-ahead log do not count.
    pub hub_bytes: Option<u64>,
    /// Events in the history of one execution.
    pub history_events: Option<u64>,
    /// Bytes of payloads in the history of one execution.
    pub history_bytes: Option<u64>,
    /// Activities that run at once for the instances of one module; others wait their turn.
    pub activities_per_module: Option<usize>,
    /// Requests that have been taken and are not on disk yet: one more is refused with
    /// [`Error::is_overloaded`](crate::Error::is_overloaded).
    pub requests_waiting: usize,
    /// Bytes of the payloads of such requests.
    pub request_bytes_waiting: u64,
}

impl Default for Quotas {
    /// 10,000 requests of together 256 MiB that wait for the disk; nothing else is limited.
    fn default() -> Self {
        Self {
            instances: None,
            instances_per_module: None,
            hub_bytes: None,
            history_events: None,
            history_bytes: None,
            activities_per_module: None,
            requests_waiting: 10_000,
            request_bytes_waiting: 256 << 20,
        }
    }
}

impl Quotas {
    /// Whether live instances have to be counted.
    pub(in crate::engine) fn counts_instances(&self) -> bool {
        self.instances.is_some() || self.instances_per_module.is_some()
    }
}

/// Requests that were taken and are not on disk yet.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    requests: AtomicUsize,
    bytes: AtomicU64,
}

/// The place of one request. Dropped when it is answered.
#[derive(Debug)]
pub(in crate::engine) struct Admitted {
    admission: Arc<Admission>,
    bytes: u64,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.requests.fetch_sub(1, Ordering::AcqRel);
        self.admission.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Engine {
    /// Takes a request in, or refuses it because so many wait already. What is refused here has changed nothing.
    pub(in crate::engine) fn admit(&self, request: &Request) -> Result<Admitted, Reply> {
        let quotas = &self.config.quotas;
        let bytes = size_of(request);
        let requests = self
            .requests
            .admission
            .requests
            .fetch_add(1, Ordering::AcqRel);
        let waiting = self
            .requests
            .admission
            .bytes
            .fetch_add(bytes, Ordering::AcqRel);
        let admitted = Admitted {
            admission: Arc::clone(&self.requests.admission),
            bytes,
        };
        let too_many = requests >= quotas.requests_waiting;
        // One that is large by itself is let in where it is alone.
        let too_much = requests > 0 && waiting + bytes > quotas.request_bytes_waiting;
        if too_many || too_much {
            self.counts.refused.add(1);
            let message = format!(
                "the host has more to do than it can: {requests} requests of {waiting} bytes wait for the disk; try again in a moment"
            );
            return Err(refused(refused::OVERLOADED, message));
        }
        Ok(admitted)
    }

    /// Why there is no room for another instance of a module.
    pub(in crate::engine) fn no_room(&self, module: Option<Digest>) -> Option<String> {
        let quotas = &self.config.quotas;
        let live = self.hub.writer.live();
        let full = |what: &str, count: u64, quota: &str, limit: Option<u64>| {
            let limit = limit.filter(|limit| count >= *limit)?;
            Some(format!(
                "{what} has {count} live instances; its quota is {limit} ({quota})"
            ))
        };
        full("the task hub", live.all(), "instances", quotas.instances)
            .or_else(|| {
                let limit = quotas.instances_per_module?;
                let module = module?;
                let what = format!("module {}", module.short());
                full(
                    &what,
                    live.of_module(module),
                    "instances_per_module",
                    Some(limit),
                )
            })
            .or_else(|| {
                let limit = quotas.hub_bytes?;
                let bytes = self.hub.writer.space().bytes();
                (bytes >= limit)
                    .then(|| format!("the task hub has {bytes} bytes in use; its quota is {limit} (hub_bytes): purge instances that have ended"))
            })
    }

    /// Why an execution may not go on, where its history is over its quota.
    pub(in crate::engine) fn history_is_full(&self, resident: &Resident) -> Option<Failure> {
        let quotas = &self.config.quotas;
        let full = |what: &str, has: u64, quota: &str, limit: Option<u64>| {
            let limit = limit.filter(|limit| has >= *limit)?;
            let message = format!(
                "the history of the execution has {has} {what}; its quota is {limit} ({quota}): continue as new before that"
            );
            Some(Failure::permanent(kind::LIMIT_EXCEEDED, message))
        };
        let state = &resident.state;
        full(
            "events",
            state.next_event,
            "history_events",
            quotas.history_events,
        )
        .or_else(|| {
            full(
                "bytes",
                state.history_bytes,
                "history_bytes",
                quotas.history_bytes,
            )
        })
    }
}

/// Bytes that a request keeps in memory until it is on disk, roughly.
fn size_of(request: &Request) -> u64 {
    let payload = |json: &Option<Json>| json.as_ref().map_or(0, Json::size);
    let bytes = match request {
        Request::Start(start) => payload(&start.input),
        Request::RaiseEvent { data, .. } => payload(data),
        Request::Deploy(module) => module.component.len(),
        _ => 0,
    };
    bytes as u64 + bounds::REQUEST_BYTES
}

/// What names mean, and whether there is room for what they mean.
pub(in crate::engine) struct Capacity<'a> {
    pub(in crate::engine) names: &'a NameTable,
    pub(in crate::engine) engine: &'a Engine,
}

impl Names for Capacity<'_> {
    fn activity(&self, caller: Option<Digest>, name: &str) -> Resolved {
        self.names.activity(caller, name)
    }

    fn orchestration(&self, name: &str, version: Option<&str>) -> Resolved {
        self.names.orchestration(name, version)
    }

    fn limits(&self, module: Option<Digest>, before: Limits) -> Limits {
        self.names.limits(module, before)
    }

    fn full(&self, module: Digest) -> Option<String> {
        self.engine.no_room(Some(module))
    }
}

/// Stands in for the guest of an execution that may not go on.
pub(in crate::engine) struct Full(pub(in crate::engine) Failure);

impl perennial_core::Guest for Full {
    fn advance(
        &mut self,
        _: &[perennial_core::GuestEvent],
        _: perennial_core::Mode,
    ) -> Result<perennial_core::Answer, perennial_core::Stop> {
        Err(perennial_core::Stop::Verdict(self.0.clone()))
    }
}
