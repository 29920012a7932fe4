//! The store of a hub.
//!
//! The [rules](rules) of a change are written once. They read and write the [rows](rows) of one transaction; [SQLite](sqlite) keeps them in
//! one file.
//!
//! Invariants: a turn's events, its consumed inbox, its new tasks, its messages to others and its status row are committed in one
//! transaction; only the owner writes, through one [`Writer`]; every process may read. The store saves what the core decided: which command
//! a status allows, and what a history means, is the core's.

mod change;
mod codec;
mod error;
mod live;
#[cfg(test)]
mod memory;
mod numbers;
mod reply;
mod rows;
mod rules;
mod sqlite;
#[cfg(test)]
mod tests;
mod types;
mod write;

pub(crate) use change::Change;
pub(crate) use codec::{decode, encode};
pub(crate) use error::StoreError;
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
pub(crate) use sqlite::file::lock::{OwnerLock, OwnerNote, is_owned, read_note};
pub(crate) use sqlite::file::paths::{bytes_of, real, with_suffix};
pub(crate) use sqlite::file::settings::Tally;
#[cfg(feature = "http")]
pub(crate) use sqlite::file::space::has_room;
pub(crate) use sqlite::file::space::{Pages, compact};
pub(crate) use sqlite::owned::{
    Owned, append_command, forget_command, take_back_command, take_over, take_over_existing, unmake,
};
pub use sqlite::rows::filter::Order;
pub(crate) use sqlite::rows::filter::{InstanceFilter, ListPlace, ListQuery};
pub(crate) use sqlite::rows::histories::TurnsQuery;
pub(crate) use sqlite::rows::list::Brief;
#[cfg(test)]
pub(crate) use sqlite::rows::list::ListPage;
#[cfg(feature = "http")]
pub(crate) use sqlite::rows::list::PAGE_BYTES_MAX as LIST_BYTES_MAX;
pub(crate) use sqlite::rows::modules::is_like_a_digest;
pub(crate) use sqlite::rows::overview::{BucketCounts, Window};
pub(crate) use sqlite::rows::queries::LiveChild;
pub(crate) use sqlite::rows::reader::Reader;
pub(crate) use sqlite::rows::requests::RequestRow;
pub use sqlite::rows::waits::{WaitFilter, WaitKind};
#[cfg(test)]
pub(crate) use sqlite::writer::faults::Faults;
pub(crate) use sqlite::writer::{Writer, WriterCounts};
pub(crate) use types::{
    Ages, Beat, CutOff, Effects, InstanceKey, InstanceRow, KeyRow, ModuleRow, NameRows,
    NewInstance, NewModule, OldVersions, Position, Refused, Retry, StoredRow, TaskRow, TaskRowKind,
    TurnCommit, ValueRow, WasRunning, WorkerNames,
};
pub use types::{CollectedModule, Definition, DefinitionKind, UpdatedName};
pub(crate) use write::{Outcome, Write};
