//! Opens a hub: checks and migrates its format, and configures connections.

use std::cmp::Ordering;
use std::path::Path;
use std::time::Duration;

use perennial_core::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::store::StoreError;
use crate::store::codec::int;
use crate::store::sqlite::file::foreign_log;
use crate::store::sqlite::file::fresh::Fresh;
use crate::store::sqlite::file::paths::{is_empty_file, refuse_special, remove, with_suffix};

/// Marks a file as a hub: "PERN".
const APPLICATION_ID: i32 = 0x5045_524e;

/// The format that `schema.sql` creates, the oldest one.
const FIRST_FORMAT: u32 = 1;

/// Migrations: the first from format 1 to 2, and so on. Released ones never change.
pub(in crate::store) const MIGRATIONS: &[&str] = &["
    -- When the last transaction was committed, by the clock of that host. One that takes over and is behind it knows that the clock was set back.
    ALTER TABLE hub ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
    -- When a message came in: what came due before that is handled before it.
    ALTER TABLE inbox ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
    -- The attempts of an activity that ended and were followed by another one.
    ALTER TABLE task ADD COLUMN attempts BLOB;
    -- What executions of a module may use, where it is not what the host gives all.
    ALTER TABLE module_name ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';
", "
    -- Bytes of all messages that ever came into the inbox, and with each message how many they were with it: what waits is the difference,
    -- however long the queue is.
    ALTER TABLE instance ADD COLUMN inbox_bytes INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE inbox ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
    -- Bytes of the external events that the execution was given and has not read.
    ALTER TABLE instance ADD COLUMN unread_bytes INTEGER NOT NULL DEFAULT 0;
    -- Suspend, resume and terminate, by the first two bytes of a message: they are found behind a long queue.
    CREATE INDEX inbox_command ON inbox (instance, seq) WHERE substr(message, 1, 2) BETWEEN X'0107' AND X'0109';
", "
    -- Named values of instances.
    CREATE TABLE instance_value (
        instance     INTEGER NOT NULL,
        name         TEXT NOT NULL,
        value        TEXT NOT NULL,
        -- The transaction that set it, so that no two values of a name have the same one.
        version      INTEGER NOT NULL,
        at           INTEGER NOT NULL,
        PRIMARY KEY (instance, name)
    ) STRICT, WITHOUT ROWID;
    -- How many an instance has: what has none costs no read.
    ALTER TABLE instance ADD COLUMN value_count INTEGER NOT NULL DEFAULT 0;
", "
    -- When the attempt began of an activity that is to run at most once; NULL where the outcome of its last attempt is known.
    ALTER TABLE task ADD COLUMN begun_at INTEGER;
    -- Attempts that were cut off without a crash of the host, or may have been: they count, and nobody is to blame.
    ALTER TABLE task ADD COLUMN cut INTEGER NOT NULL DEFAULT 0;
    -- The last heartbeat of an activity, of any of its attempts: when it was sent, and the last details that were sent.
    ALTER TABLE task ADD COLUMN heartbeat_at INTEGER;
    ALTER TABLE task ADD COLUMN heartbeat TEXT;
", "
    -- What becomes of a child when its parent drops it: 1 is asked to cancel, 2 is terminated. It runs on if this is NULL.
    ALTER TABLE instance ADD COLUMN when_dropped INTEGER;
    CREATE INDEX instance_bound ON instance (parent_key, key) WHERE when_dropped IS NOT NULL;
    -- How long an instance may run, in milliseconds.
    ALTER TABLE instance ADD COLUMN execution_timeout INTEGER;
", "
    -- Requests to instances, with their answers.
    CREATE TABLE request (
        instance     INTEGER NOT NULL,
        id           TEXT NOT NULL,
        name         TEXT NOT NULL,
        -- When it was accepted, and answered.
        at           INTEGER NOT NULL,
        answered_at  INTEGER,
        answer       BLOB,
        -- The instance that asked, and its task; NULL if a client did.
        asker        INTEGER,
        execution    INTEGER,
        generation   INTEGER,
        task         INTEGER,
        PRIMARY KEY (instance, id)
    ) STRICT;
    -- Old answers of an instance; what an instance has asked.
    CREATE INDEX request_answered ON request (instance, answered_at) WHERE answered_at IS NOT NULL;
    CREATE INDEX request_asker ON request (asker) WHERE asker IS NOT NULL;
    -- Whether an instance has any: one without costs no read.
    ALTER TABLE instance ADD COLUMN has_requests INTEGER NOT NULL DEFAULT 0;
"];

/// The format that this binary writes.
const FORMAT: u32 = FIRST_FORMAT + MIGRATIONS.len() as u32;

/// A write-ahead log of this many pages is folded into the file. Few in the tests of this crate, so that they cover it.
pub(in crate::store) const CHECKPOINT_PAGES: u32 = if cfg!(test) { 200 } else { 4_000 };

const SCHEMA: &str = include_str!("schema.sql");

/// Size to which a log is truncated that grew because a long read kept it from being folded. It usually stays smaller.
pub(in crate::store) const LOG_BYTES_KEPT: u32 = 64 << 20;

/// How long a connection waits for another process's write. Those are single rows.
pub(in crate::store) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens the write connection of an existing hub.
pub(crate) fn connect_writer(path: &Path) -> Result<Connection, StoreError> {
    let db = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    check_format(&db, path)?;
    // FULL makes acknowledgements durable: the log is synced before COMMIT returns.
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF;",
    )?;
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    db.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
    db.pragma_update(None, "cache_size", -16_384)?;
    Ok(db)
}

/// Opens a read connection.
pub(crate) fn connect_reader(path: &Path) -> Result<Connection, StoreError> {
    let db = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    check_format(&db, path)?;
    Ok(db)
}

/// Opens a connection for copying the file, which may have an older format.
pub(crate) fn connect_copier(path: &Path) -> Result<Connection, StoreError> {
    foreign_log::check(path)?;
    let db = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    match check_format(&db, path) {
        Ok(()) | Err(StoreError::Older { .. }) => Ok(db),
        Err(error) => Err(error),
    }
}

/// What [`create`] found, and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// A file existed; nothing was created.
    No,
    /// No file existed; a hub was created.
    New,
    /// An empty file existed; a hub replaced it.
    OverEmpty,
}

/// Creates the hub if there is none, atomically: writes it beside its place and moves it there.
///
/// Only the holder of the hub's lock may call it.
pub(crate) fn create(path: &Path, now: Timestamp) -> Result<Made, StoreError> {
    refuse_special(path)?;
    let made = match path.symlink_metadata() {
        Err(_) => Made::New,
        Ok(found) if is_empty_file(&found) => Made::OverEmpty,
        // A dangling link: no file can be created through it.
        Ok(found) if found.is_symlink() && !path.exists() => Made::New,
        Ok(_) => return Ok(Made::No),
    };
    let fresh = Fresh::beside(path)?;
    let db = begin_new(fresh.path(), now)?;
    db.execute_batch("COMMIT")?;
    db.close().map_err(|(_, error)| StoreError::from(error))?;
    // A log that a deleted hub left behind must not be folded into the new one.
    for stale in ["-wal", "-shm", "-journal"] {
        remove(&with_suffix(path, stale))?;
    }
    match made {
        Made::OverEmpty => fresh.publish_over_empty(path)?,
        _ => fresh.publish(path)?,
    }
    Ok(made)
}

/// Makes an empty file a hub, and leaves the transaction open in which that is done. Nobody else may know the file: a crash may lose it.
pub(in crate::store) fn begin_new(path: &Path, now: Timestamp) -> Result<Connection, StoreError> {
    let db = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // It needs no journal on the disk. `auto_vacuum` must be set before the first page is written.
    db.execute_batch(
        "PRAGMA journal_mode = MEMORY; PRAGMA auto_vacuum = INCREMENTAL; BEGIN IMMEDIATE",
    )?;
    db.execute_batch(SCHEMA)?;
    for step in MIGRATIONS {
        db.execute_batch(step)?;
    }
    db.execute(
        "INSERT INTO hub (id, created_at, owner_epoch, commits) VALUES (1, ?1, 0, 0)",
        [int(now.0)],
    )?;
    db.pragma_update(None, "application_id", APPLICATION_ID)?;
    db.pragma_update(None, "user_version", FORMAT)?;
    Ok(db)
}

/// Migrates an older file to the current format, in one transaction.
///
/// Only the holder of the hub's lock may call it.
pub(crate) fn migrate(path: &Path) -> Result<(), StoreError> {
    migrate_with(path, MIGRATIONS)
}

/// [`migrate`] with these steps from the first format on.
pub(in crate::store) fn migrate_with(path: &Path, steps: &[&str]) -> Result<(), StoreError> {
    let mut db = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let known = FIRST_FORMAT + steps.len() as u32;
    let found = format(&db, path)?;
    if found >= known {
        return Ok(());
    }
    db.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA synchronous = FULL")?;
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // An owner that was paused and replaced knows the old format: the new epoch keeps it from writing.
    tx.execute("UPDATE hub SET owner_epoch = owner_epoch + 1", [])?;
    for step in &steps[(found - FIRST_FORMAT) as usize..] {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "user_version", known)?;
    tx.commit()?;
    Ok(())
}

fn connect(path: &Path, mode: OpenFlags) -> Result<Connection, StoreError> {
    if !mode.contains(OpenFlags::SQLITE_OPEN_CREATE) && !path.exists() {
        return Err(StoreError::Missing(path.to_owned()));
    }
    refuse_special(path)?;
    let db = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    // Plans depend on the schema alone. Otherwise SQLite also looks at bound values, such as that of a LIMIT, and prepares such a statement
    // again for each use.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    db.set_prepared_statement_cache_capacity(128);
    Ok(db)
}

/// Checks the file before anything else: one that is not a hub, or a newer one, stays unchanged.
fn check_format(db: &Connection, path: &Path) -> Result<(), StoreError> {
    fits(format(db, path)?, FORMAT, path)
}

/// Checks that a program that knows the format `known` can use a file of the format `found`.
pub(in crate::store) fn fits(found: u32, known: u32, path: &Path) -> Result<(), StoreError> {
    let path = path.to_owned();
    match found.cmp(&known) {
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(StoreError::Newer { path, found, known }),
        Ordering::Less => Err(StoreError::Older { path, found, known }),
    }
}

/// The format of a hub's file.
fn format(db: &Connection, path: &Path) -> Result<u32, StoreError> {
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
    // No version wrote a format below the first.
    if found < FIRST_FORMAT {
        return Err(StoreError::NotAHub(path.to_owned()));
    }
    Ok(found)
}
