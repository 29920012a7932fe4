//! The store of a hub.
//!
//! The [rules](rules) of a change are written once. They read and write the [rows](rows) of one transaction; [SQLite](sqlite) keeps them in
//! one file.
//!
//! Invariants: a turn's events, its consumed inbox, its new tasks, its messages to others and its status row are committed in one
//! transaction; only the owner writes, through one [`Writer`]; every process may read. The store saves what the core decided: which command
//! a status allows, and what a history means, is the core's.

#[cfg(any(test, feature = "postgres"))]
mod answers;
mod backlog;
mod change;
mod codec;
mod counts;
mod error;
mod exchange;
#[cfg(test)]
mod faults;
mod flight;
mod hints;
mod live;
#[cfg(any(test, feature = "postgres"))]
mod memory;
mod numbers;
mod outbox;
mod outside;
#[cfg(any(test, feature = "postgres"))]
mod overlay;
mod owned;
mod partition;
mod place;
#[cfg(feature = "postgres")]
mod postgres;
mod queries;
mod reads;
#[cfg(feature = "postgres")]
mod refusals;
mod reply;
mod rows;
mod rules;
#[cfg(feature = "postgres")]
mod schema;
mod space;
mod sqlite;
#[cfg(test)]
mod tests;
mod thread;
#[cfg(feature = "postgres")]
mod transfer;
mod types;
mod write;
mod writer;

pub(crate) use change::Change;
pub(crate) use codec::{decode, encode};
pub(crate) use counts::WriterCounts;
pub(crate) use error::StoreError;
pub(crate) use exchange::{Exchange, Exchanged, FoundCommand};
#[cfg(test)]
pub(crate) use faults::{Faults, of_connections as faults_of_connections};
pub(crate) use flight::{FlightRecorder, boot};
pub(crate) use hints::Hints;
#[cfg(test)]
pub(crate) use memory::shared::MemoryHub;
pub(crate) use outside::Outside;
#[cfg(feature = "postgres")]
pub(crate) use owned::Share;
pub(crate) use owned::{Member, Members, Owned, OwnerNote, Ownership, Sharing};
pub(crate) use partition::{Partition, Partitions};
pub(crate) use place::Place;
#[cfg(feature = "postgres")]
pub(crate) use postgres::{
    address::Address, create::hubs as hubs_in_postgres,
    create::unreadable as unreadable_in_postgres, outside::Told,
};
#[cfg(feature = "postgres")]
pub use queries::advice::{DatabaseAdvice, Severity};
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
pub(crate) use rules::{RestartCommit, Run, not_answered, summary, termination};
#[cfg(test)]
pub(crate) use sqlite::file::disk;
pub(crate) use sqlite::file::hubs::hubs_in;
pub(crate) use sqlite::file::identity::FileId;
pub(crate) use sqlite::file::paths::{real, with_suffix};
#[cfg(feature = "http")]
pub(crate) use sqlite::rows::list::PAGE_BYTES_MAX as LIST_BYTES_MAX;
pub(crate) use sqlite::rows::modules::is_like_a_digest;
pub(crate) use types::{
    Ages, Beat, CutOff, Effects, InstanceKey, InstanceRow, KeyRow, ModuleRow, NameRows,
    NewInstance, NewModule, NewRequest, OldVersions, Position, Refused, Retry, RewindCommit,
    StoredRow, TaskRow, TaskRowKind, TurnCommit, ValueRow, WasRunning, WorkerNames,
};
pub use types::{CollectedModule, Definition, DefinitionKind, UpdatedName};
pub(crate) use write::{Outcome, Write};
pub(crate) use writer::Writer;

/// A server that a test ends as it likes.
#[cfg(all(test, feature = "postgres"))]
pub(crate) use postgres::testing::server::Server as PostgresServer;

/// A new place of a hub on the server of the tests. `None` if there is no server, which is said.
#[cfg(all(test, feature = "postgres"))]
pub(crate) fn postgres_place(dir: &std::path::Path) -> Option<Place> {
    let address = postgres::testing::server()?.fresh();
    Some(Place::Postgres(
        Box::new(address),
        dir.join("running"),
        Share::All,
    ))
}

/// As [`postgres_place`], of a hub with so many partitions, for an engine of all of them.
#[cfg(all(test, feature = "postgres"))]
pub(crate) fn postgres_divided(dir: &std::path::Path, count: u16) -> Option<Place> {
    let address = postgres::testing::server()?.divided(count);
    let running = dir.join("running");
    let share = Share::Some(Partitions::all(count));
    Some(Place::Postgres(Box::new(address), running, share))
}

/// Ends the lease of an owner that lives.
#[cfg(all(test, feature = "postgres"))]
pub(crate) fn declare_dead_in_postgres(address: &Address, epoch: i64) {
    postgres::testing::declare_dead(address, epoch);
}

/// The address of a copy of a hub as it is now, on the server of the tests.
#[cfg(all(test, feature = "postgres"))]
pub(crate) fn copied_in_postgres(address: &Address) -> Address {
    let server = postgres::testing::server().expect("the hub is on this server");
    server.copied(address)
}
