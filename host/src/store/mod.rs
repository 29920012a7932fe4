//! The store: a hub in one SQLite file.
//!
//! Invariants: a turn's events, its consumed inbox, its new tasks, its messages to others and its status row are committed in one
//! transaction; only the owner writes, through one [`Writer`]; every process may read. All SQL is here. The store saves what the core
//! decided and contains no rule about statuses or histories.

pub(crate) mod changes;
mod codec;
mod error;
pub(crate) mod file;
mod reply;
pub(crate) mod rows;
#[cfg(test)]
mod tests;
mod types;
mod write;
pub(crate) mod writer;

pub(crate) use changes::collect::OldVersions;
pub(crate) use changes::commit::summary;
pub(crate) use changes::control::termination;
pub(crate) use changes::purge::Purged;
pub(crate) use changes::request::NewRequest;
pub(crate) use changes::rewind::{RestartCommit, RewindCommit};
pub(crate) use changes::run::Run;
pub(crate) use codec::{decode, encode};
pub(crate) use error::StoreError;
pub(crate) use file::backup::{backup, integrity, restore};
pub(crate) use file::hubs::{FileId, delete, hubs_in, unmake};
pub(crate) use file::lock::{OwnerLock, OwnerNote, is_owned, read_note};
pub(crate) use file::paths::{bytes_of, real, with_suffix};
pub(crate) use file::settings::{Ages, Tally, WorkerNames};
#[cfg(feature = "http")]
pub(crate) use file::space::has_room;
pub(crate) use file::space::{Pages, compact};
pub(crate) use reply::{Reply, Rewound};
pub use rows::filter::Order;
pub(crate) use rows::filter::{InstanceFilter, ListPlace, ListQuery};
pub(crate) use rows::keys::KeyRow;
pub(crate) use rows::list::Brief;
#[cfg(test)]
pub(crate) use rows::list::ListPage;
#[cfg(feature = "http")]
pub(crate) use rows::list::PAGE_BYTES_MAX as LIST_BYTES_MAX;
pub(crate) use rows::modules::{NameRows, is_like_a_digest};
pub(crate) use rows::overview::{BucketCounts, Window};
pub(crate) use rows::queries::LiveChild;
pub(crate) use rows::reader::Reader;
pub(crate) use rows::requests::{RequestRow, not_answered};
pub(crate) use rows::turns::TurnsQuery;
pub(crate) use rows::values::ValueRow;
pub use rows::waits::{WaitFilter, WaitKind};
pub(crate) use types::{
    Beat, CutOff, Effects, InstanceKey, InstanceRow, ModuleRow, NewInstance, NewModule, Position,
    Refused, Retry, StoredRow, TaskRow, TaskRowKind, TurnCommit, WasRunning,
};
pub use types::{CollectedModule, Definition, DefinitionKind, UpdatedName};
pub(crate) use write::{Change, Outcome, Write};
pub(crate) use writer::{Writer, WriterCounts};

use crate::store::file::{foreign_log, hubs, open};
use crate::store::rows::commands;
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
