//! Opening a hub's file: what it must look like, and how each connection is set up.

use std::path::{Path, PathBuf};
use std::time::Duration;

use perennial_core::Timestamp;
use rusqlite::{Connection, OpenFlags};

use crate::store::StoreError;
use crate::store::codec::int;

/// Marks a file as a hub: "PERN".
const APPLICATION_ID: i32 = 0x5045_524e;

/// The format that this binary writes.
const FORMAT: u32 = 1;

/// Pages of the write-ahead log before it is folded into the file. Few in the tests of this crate, so that it happens in them.
pub(super) const CHECKPOINT_PAGES: u32 = if cfg!(test) { 200 } else { 4_000 };

const SCHEMA: &str = include_str!("schema.sql");

/// How long a connection waits for another process's write. Theirs are single rows.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens the write connection of an existing hub.
pub(crate) fn connect_writer(path: &Path) -> Result<Connection, StoreError> {
    let db = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    check_format(&db, path)?;
    // FULL is what makes an acknowledgement mean something: the log is synced before COMMIT returns.
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF;",
    )?;
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    db.pragma_update(None, "cache_size", -16_384)?;
    Ok(db)
}

/// Opens a connection that reads.
pub(crate) fn connect_reader(path: &Path) -> Result<Connection, StoreError> {
    let db = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    check_format(&db, path)?;
    Ok(db)
}

/// Makes the hub where there is none, all of it or nothing: it is written beside its place and moved there.
///
/// Only the holder of the hub's lock may call it.
pub(crate) fn create(path: &Path, now: Timestamp) -> Result<(), StoreError> {
    let is_empty = std::fs::metadata(path).is_ok_and(|file| file.len() == 0);
    if path.exists() && !is_empty {
        return Ok(());
    }
    let fresh = with_suffix(path, ".new");
    for stale in ["", "-wal", "-shm", "-journal"] {
        remove(&with_suffix(&fresh, stale))?;
    }
    let db = connect(
        &fresh,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
    )?;
    db.execute_batch("PRAGMA synchronous = FULL; BEGIN IMMEDIATE")?;
    db.execute_batch(SCHEMA)?;
    db.execute(
        "INSERT INTO hub (id, created_at, owner_epoch, commits) VALUES (1, ?1, 0, 0)",
        [int(now.0)],
    )?;
    db.pragma_update(None, "application_id", APPLICATION_ID)?;
    db.pragma_update(None, "user_version", FORMAT)?;
    db.execute_batch("COMMIT")?;
    db.close().map_err(|(_, error)| StoreError::from(error))?;
    // A log that a deleted hub left behind must not be folded into the new one.
    for stale in ["-wal", "-shm", "-journal"] {
        remove(&with_suffix(path, stale))?;
    }
    std::fs::rename(&fresh, path).map_err(StoreError::file("could not create", path))?;
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        sync_dir(parent)?;
    }
    Ok(())
}

/// Makes the names in a directory survive a power loss as surely as the contents of its files do.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let sync = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
    sync.map_err(StoreError::file("could not sync", dir))
}

/// Removes a file that may be there.
pub(crate) fn remove(file: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::file("could not remove", file)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// `path` with more at its end, as SQLite names the files beside its own.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn connect(path: &Path, mode: OpenFlags) -> Result<Connection, StoreError> {
    if !mode.contains(OpenFlags::SQLITE_OPEN_CREATE) && !path.exists() {
        return Err(StoreError::Missing(path.to_owned()));
    }
    let db = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.set_prepared_statement_cache_capacity(128);
    Ok(db)
}

/// Looks at the file before anything is done with it: what is no hub, or a newer one, is left as it is.
fn check_format(db: &Connection, path: &Path) -> Result<(), StoreError> {
    let application: i32 = match db.pragma_query_value(None, "application_id", |row| row.get(0)) {
        Ok(id) => id,
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            return Err(StoreError::NotAHub(path.to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    if application != APPLICATION_ID {
        return Err(StoreError::NotAHub(path.to_owned()));
    }
    let found: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found != FORMAT {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known: FORMAT,
        });
    }
    Ok(())
}
