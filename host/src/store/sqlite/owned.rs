//! Taking a hub over, and the commands that other processes leave in it.

use std::path::Path;

use perennial_core::Timestamp;
use rusqlite::TransactionBehavior;

use crate::store::StoreError;
use crate::store::codec;
use crate::store::flight::FlightRecorder;
use crate::store::owned::Owned;
use crate::store::partition::Partitions;
use crate::store::reads::Reader;
use crate::store::sqlite::file::lock::OwnerLock;
use crate::store::sqlite::file::paths::{RUNNING, with_suffix};
use crate::store::sqlite::file::{foreign_log, hubs, open};
use crate::store::sqlite::rows::commands;
use crate::store::sqlite::rows::reader::FileReader;
use crate::store::sqlite::writer::FileWriter;
use crate::store::writer::Writer;

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
    let reader = open_reader(path)?;
    let writer = Writer::new(FileWriter::start(path.to_owned(), db, codec::uint(epoch))?);
    let (flight, were_running) = FlightRecorder::open(with_suffix(path, RUNNING))?;
    Ok(Owned {
        owner: Box::new(lock),
        partitions: Partitions::default(),
        is_shared: false,
        first_key: reader.last_key()?.0 + 1,
        writer,
        reader,
        flight,
        were_running,
        made,
    })
}

/// Opens a hub for reading.
pub(crate) fn open_reader(path: &Path) -> Result<Reader, StoreError> {
    Ok(Reader::new(FileReader::open(path)?))
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
