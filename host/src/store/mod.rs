//! The store of a hub.
//!
//! The [rules](rules) of a change are written once. They read and write the [rows](rows) of one transaction; [SQLite](sqlite) keeps them in
//! one file.
//!
//! Invariants: a turn's events, its consumed inbox, its new tasks, its messages to others and its status row are committed in one
//! transaction; only the owner writes, through one [`Writer`]; every process may read. The store saves what the core decided: which command
//! a status allows, and what a history means, is the core's.

mod codec;
mod error;
mod live;
#[cfg(test)]
mod memory;
mod reply;
mod rows;
mod rules;
mod sqlite;
#[cfg(test)]
mod tests;
mod types;
mod write;

pub(crate) use codec::{decode, encode};
pub(crate) use error::StoreError;
pub(crate) use reply::{Reply, Rewound};
pub(crate) use rows::tasks::GRACE;
pub(crate) use rules::{
    NewRequest, Purged, RestartCommit, RewindCommit, Run, not_answered, summary, termination,
};
pub(crate) use sqlite::file::backup::{backup, integrity, restore};
#[cfg(test)]
pub(crate) use sqlite::file::disk;
pub(crate) use sqlite::file::hubs::{FileId, delete, hubs_in, unmake};
pub(crate) use sqlite::file::lock::{OwnerLock, OwnerNote, is_owned, read_note};
pub(crate) use sqlite::file::paths::{bytes_of, real, with_suffix};
pub(crate) use sqlite::file::settings::Tally;
#[cfg(feature = "http")]
pub(crate) use sqlite::file::space::has_room;
pub(crate) use sqlite::file::space::{Pages, compact};
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
pub(crate) use write::{Change, Outcome, Write};

use crate::store::sqlite::file::{foreign_log, hubs, open};
use crate::store::sqlite::rows::commands;
use std::path::Path;

use perennial_core::Timestamp;
use rusqlite::TransactionBehavior;

/// A hub that this process owns.
pub(crate) struct Owned {
    /// The lock that makes this process the owner.
    pub(crate) lock: OwnerLock,
    /// The handle on the writer thread.
    pub(crate) writer: Writer,
    /// The pool of read connections.
    pub(crate) reader: Reader,
    /// Whether this call created the hub.
    pub(crate) made: bool,
}

/// Takes over an existing hub.
///
/// # Errors
/// [`StoreError::Missing`] if there is none, and those of [`take_over`].
pub(crate) fn take_over_existing(path: &Path, now: Timestamp) -> Result<Owned, StoreError> {
    if !path.exists() {
        return Err(StoreError::Missing(path.to_owned()));
    }
    take_over(path, now)
}

/// Takes over a hub; creates it if it does not exist.
///
/// # Errors
/// [`StoreError::Owned`] if another process owns it, and the errors of an unusable file. Nothing is changed then.
pub(crate) fn take_over(path: &Path, now: Timestamp) -> Result<Owned, StoreError> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .map_err(StoreError::file("could not create the directory", parent))?;
    }
    let lock = OwnerLock::take(path)?;
    hubs::check_names(path)?;
    let made = open::create(path, now)? == open::Made::New;
    foreign_log::check(path)?;
    let mut db = match open::connect_writer(path) {
        Err(StoreError::Older { found, known, .. }) => {
            open::migrate(path)?;
            tracing::info!(hub = %path.display(), from = found, to = known, "the hub was brought to the format of this version");
            open::connect_writer(path)?
        }
        connected => connected?,
    };
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let epoch: i64 = tx.query_row(
        "UPDATE hub SET owner_epoch = owner_epoch + 1 RETURNING owner_epoch",
        [],
        |row| row.get(0),
    )?;
    tx.commit()?;
    let reader = Reader::open(path)?;
    let writer = Writer::start(path.to_owned(), db, codec::uint(epoch))?;
    Ok(Owned {
        lock,
        writer,
        reader,
        made,
    })
}

/// Appends a command to a hub that another process owns.
pub(crate) fn append_command(
    path: &Path,
    token: &str,
    body: &[u8],
    now: Timestamp,
) -> Result<(), StoreError> {
    commands::append(&open::connect_writer(path)?, token, body, now)
}

/// Withdraws a command of this process that has no answer yet. Returns whether it did: the command then takes no effect.
pub(crate) fn take_back_command(path: &Path, token: &str) -> Result<bool, StoreError> {
    commands::take_back(&open::connect_writer(path)?, token)
}

/// Deletes a command of this process after its answer was read.
pub(crate) fn forget_command(path: &Path, token: &str) -> Result<(), StoreError> {
    commands::forget(&open::connect_writer(path)?, token)
}
