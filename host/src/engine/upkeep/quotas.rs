//! Quotas: how much a hub, a module and an execution may use, and how many requests may wait.
//!
//! No quota counts rows: the writer counts live instances as they change, and a history knows its own size. A quota is checked against the
//! last commit, so pending changes may exceed it a little.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use perennial_core::{Callee, Digest, Failure, Json, Limits, Names, Resolved, kind};

use crate::engine::Engine;
use crate::engine::memory::slots::Resident;
use crate::engine::modules::names::NameTable;
use crate::engine::requests::bounds;
use crate::engine::requests::refused::{self, refused};
use crate::engine::requests::request::Request;
use crate::store::Reply;

/// Quotas of a hub, its modules and its executions. `None` means no limit.
///
/// A start, a restart or a rewind beyond a quota is refused with [`Error::is_limit_exceeded`](crate::Error::is_limit_exceeded). A child
/// call beyond it fails with `LimitExceeded`, as does an execution whose history exceeds its quota; the message names the quota. Quotas
/// belong to the running host, so a hub without a host has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quotas {
    /// Maximum number of live instances of the hub.
    pub instances: Option<u64>,
    /// Maximum number of live instances per module.
    pub instances_per_module: Option<u64>,
    /// Maximum number of bytes in use in the hub's file before new starts are refused. Free pages and the write-ahead log do not count. In
    /// PostgreSQL it is the size of the hub's tables, with the room in them that rows left which were deleted.
    pub hub_bytes: Option<u64>,
    /// Maximum number of events in the history of an execution.
    pub history_events: Option<u64>,
    /// Maximum size of the payloads in the history of an execution, in bytes.
    pub history_bytes: Option<u64>,
    /// Maximum number of activities that run at once per module; others wait.
    pub activities_per_module: Option<usize>,
    /// Maximum number of accepted requests that are not on disk yet. Further ones are refused with
    /// [`Error::is_overloaded`](crate::Error::is_overloaded).
    pub requests_waiting: usize,
    /// Maximum size of the payloads of such requests, in bytes.
    pub request_bytes_waiting: u64,
}

impl Default for Quotas {
    /// Allows 10,000 waiting requests with 256 MiB in total; limits nothing else.
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
    pub(in crate::engine) fn counts_instances(&self) -> bool {
        self.instances.is_some() || self.instances_per_module.is_some()
    }
}

/// Counts accepted requests that are not on disk yet.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    requests: AtomicUsize,
    bytes: AtomicU64,
}

/// Counts one request until dropped, which happens when it is answered.
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
    /// Accepts a request, or refuses it without a change because too many wait.
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
        // A request larger than the limit is accepted if it is the only one.
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

    /// Why there is no room for another live instance of a module; `None` if there is room.
    pub(in crate::engine) fn no_room(&self, module: Option<Digest>) -> Option<String> {
        let quotas = &self.config.quotas;
        let live = self.hub.writer.live();
        let full = |what: &str, count: u64, quota: &str, limit: Option<u64>| {
            let limit = limit.filter(|limit| count >= *limit)?;
            let live = match count {
                1 => "1 live instance".to_owned(),
                count => format!("{count} live instances"),
            };
            Some(format!(
                "{what} has {live}; its quota is {limit} ({quota}): try again once one has ended"
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
                (bytes >= limit).then(|| self.no_space(bytes, limit))
            })
    }

    /// Says that the hub has no room. A file returns the pages of what is purged; a table of PostgreSQL keeps them until it is rewritten.
    fn no_space(&self, bytes: u64, limit: u64) -> String {
        match self.hub.place.is_file() {
            true => format!(
                "the task hub has {bytes} bytes in use; its quota is {limit} (hub_bytes): purge instances that have ended"
            ),
            false => format!(
                "the tables of the task hub have {bytes} bytes; its quota is {limit} (hub_bytes): purge instances that have ended, and then run VACUUM FULL \
                 on the tables in the database, which gives back the room that the rows had"
            ),
        }
    }

    /// The failure of an execution whose history exceeds its quota.
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

/// The approximate memory of a request until it is on disk.
fn size_of(request: &Request) -> u64 {
    let payload = |json: &Option<Json>| json.as_ref().map_or(0, Json::size);
    let bytes = match request {
        Request::Start(start) => payload(&start.input),
        Request::StartLimited { start, .. } => payload(&start.input),
        Request::RaiseEvent { data, .. } => payload(data),
        Request::Ask(ask) => payload(&ask.input),
        Request::StartFor { start, then, .. } => {
            let then = usize::try_from(size_of(then)).unwrap_or(usize::MAX);
            payload(&start.input).saturating_add(then)
        }
        Request::IfRun { then, .. } => return size_of(then),
        Request::Deploy(module) => module.component.len(),
        _ => 0,
    };
    bytes as u64 + bounds::REQUEST_BYTES
}

/// The table of names, combined with the quotas of live instances.
pub(in crate::engine) struct Capacity<'a> {
    pub(in crate::engine) names: &'a NameTable,
    pub(in crate::engine) engine: &'a Engine,
}

impl Capacity<'_> {
    /// Whether a name that this hub does not define is left to remote workers: one that is connected runs it, or the caller is one itself,
    /// whose fellow may yet come.
    fn may_be_remote(
        &self,
        caller: Option<Digest>,
        callee: Callee,
        name: &str,
        version: Option<&str>,
    ) -> bool {
        !name.is_empty() && (caller.is_none() || self.engine.is_served(callee, name, version))
    }
}

impl Names for Capacity<'_> {
    fn activity(&self, caller: Option<Digest>, name: &str) -> Resolved {
        match self.names.activity(caller, name) {
            Resolved::Unknown if self.may_be_remote(caller, Callee::Activity, name, None) => {
                Resolved::Remote
            }
            known => known,
        }
    }

    fn orchestration(&self, caller: Option<Digest>, name: &str, version: Option<&str>) -> Resolved {
        match self.names.orchestration(caller, name, version) {
            Resolved::Unknown
                if self.may_be_remote(caller, Callee::Orchestration, name, version) =>
            {
                Resolved::Remote
            }
            known => known,
        }
    }

    fn limits(&self, module: Option<Digest>, before: Limits) -> Limits {
        self.names.limits(module, before)
    }

    fn can_cancel(&self, module: Option<Digest>) -> bool {
        self.names.can_cancel(module)
    }

    fn full(&self, module: Digest) -> Option<String> {
        self.engine.no_room(Some(module))
    }
}

/// Takes the place of the guest of an execution that exceeds a quota, and fails the execution.
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
