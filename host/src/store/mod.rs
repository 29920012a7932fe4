//! The store of a hub.
//!
//! The [rules](rules) of a change are written once. They read and write the [rows](rows) of one transaction; [SQLite](sqlite) keeps them in
//! one file.
//!
//! Invariants: a turn's events, its consumed inbox, its new tasks, its messages to others and its status row are committed in one
//! transaction; only the owner writes, through one [`Writer`]; every process may read. The store saves what the core decided: which command
//! a status allows, and what a history means, is the core's.

mod backlog;
mod change;
mod codec;
mod counts;
mod error;
#[cfg(test)]
mod faults;
mod flight;
mod live;
#[cfg(any(test, feature = "postgres"))]
#[allow(dead_code, reason = "PostgreSQL, which builds on it, is not there yet")]
mod memory;
mod numbers;
#[cfg(any(test, feature = "postgres"))]
#[allow(dead_code, reason = "PostgreSQL, which builds on it, is not there yet")]
mod overlay;
mod owned;
mod place;
#[cfg(feature = "postgres")]
#[allow(dead_code, reason = "hosts do not open such hubs yet")]
mod postgres;
mod queries;
mod reads;
mod reply;
mod rows;
mod rules;
mod space;
mod sqlite;
#[cfg(test)]
mod tests;
mod types;
mod write;
mod writer;

pub(crate) use change::Change;
pub(crate) use codec::{decode, encode};
pub(crate) use counts::WriterCounts;
pub(crate) use error::StoreError;
#[cfg(test)]
pub(crate) use faults::{Faults, of_connections as faults_of_connections};
pub(crate) use flight::{FlightRecorder, boot};
#[cfg(test)]
pub(crate) use memory::shared::MemoryHub;
pub(crate) use owned::{Owned, OwnerNote, Ownership};
pub(crate) use place::Place;
pub use queries::filter::Order;
pub(crate) use queries::filter::{InstanceFilter, ListPlace, ListQuery};
#[cfg(test)]
pub(crate) use queries::found::ListPage;
pub(crate) use queries::found::{
    Brief, BucketCounts, LiveChild, RequestRow, Tally, TurnsQuery, Window,
};
pub use queries::waits::{WaitFilter, WaitKind};
pub(crate) use reads::Reader;
pub(crate) use reply::{Purged, Reply, Rewound};
pub(crate) use rows::tasks::GRACE;
pub(crate) use rules::{
    NewRequest, RestartCommit, RewindCommit, Run, not_answered, summary, termination,
};
pub(crate) use sqlite::file::backup::{backup, integrity, restore};
#[cfg(test)]
pub(crate) use sqlite::file::disk;
pub(crate) use sqlite::file::hubs::{delete, hubs_in};
pub(crate) use sqlite::file::identity::FileId;
pub(crate) use sqlite::file::lock::{OwnerLock, is_owned, read_note};
pub(crate) use sqlite::file::paths::{bytes_of, real, with_suffix};
pub(crate) use sqlite::file::space::compact;
pub(crate) use sqlite::owned::{
    append_command, forget_command, open_reader, take_back_command, take_over, take_over_existing,
    unmake,
};
#[cfg(feature = "http")]
pub(crate) use sqlite::rows::list::PAGE_BYTES_MAX as LIST_BYTES_MAX;
pub(crate) use sqlite::rows::modules::is_like_a_digest;
pub(crate) use types::{
    Ages, Beat, CutOff, Effects, InstanceKey, InstanceRow, KeyRow, ModuleRow, NameRows,
    NewInstance, NewModule, OldVersions, Position, Refused, Retry, StoredRow, TaskRow, TaskRowKind,
    TurnCommit, ValueRow, WasRunning, WorkerNames,
};
pub use types::{CollectedModule, Definition, DefinitionKind, UpdatedName};
pub(crate) use write::{Outcome, Write};
pub(crate) use writer::Writer;

/// A new place of a hub on the server of the tests. `None` if there is no server, which is said.
#[cfg(all(test, feature = "postgres"))]
pub(crate) fn postgres_place(dir: &std::path::Path) -> Option<Place> {
    let address = postgres::testing::server()?.fresh();
    Some(Place::Postgres(Box::new(address), dir.join("running")))
}

/// The address of a copy of a hub as it is now, on the server of the tests.
#[cfg(all(test, feature = "postgres"))]
pub(crate) fn copied_in_postgres(
    address: &postgres::address::Address,
) -> postgres::address::Address {
    let server = postgres::testing::server().expect("the hub is on this server");
    server.copied(address)
}
