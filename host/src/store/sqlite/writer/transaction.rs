//! A transaction of the writer.

use std::ops::Deref;

use rusqlite::Connection;

#[cfg(test)]
use crate::store::StoreError;

/// Rolled back when dropped, unless committed. Differs from rusqlite's own in that its BEGIN and COMMIT are prepared once per connection:
/// an instance alone in its hub takes four transactions of a few statements each.
pub(in crate::store) struct Transaction<'c>(&'c Connection);

impl<'c> Transaction<'c> {
    /// Begins a write transaction.
    pub(in crate::store) fn begin(db: &'c Connection) -> rusqlite::Result<Self> {
        run(db, "BEGIN IMMEDIATE")?;
        Ok(Self(db))
    }

    /// Rolls back, and begins again.
    pub(in crate::store) fn again(&self) -> rusqlite::Result<()> {
        run(self.0, "ROLLBACK")?;
        run(self.0, "BEGIN IMMEDIATE")
    }

    /// Commits durably.
    pub(in crate::store) fn commit(self) -> rusqlite::Result<()> {
        run(self.0, "COMMIT")
    }

    /// Rolls back, and reports a failure to do so.
    #[cfg(test)]
    pub(in crate::store) fn rollback(self) -> rusqlite::Result<()> {
        run(self.0, "ROLLBACK")
    }
}

impl Deref for Transaction<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.0
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // SQLite may have rolled back already, with an error that was reported.
        if !self.0.is_autocommit()
            && let Err(error) = run(self.0, "ROLLBACK")
        {
            tracing::warn!(%error, "a transaction could not be rolled back");
        }
    }
}

fn run(db: &Connection, statement: &str) -> rusqlite::Result<()> {
    db.prepare_cached(statement)?.execute([]).map(drop)
}

/// The error of a full disk.
#[cfg(test)]
pub(super) fn full_disk() -> StoreError {
    let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
    rusqlite::Error::SqliteFailure(full, Some("a fault of a test".to_owned())).into()
}

/// Makes statements on a connection interruptible: by a count of checks, each after some instructions of SQLite.
#[cfg(test)]
pub(super) fn watch(
    db: &mut Connection,
    break_off: std::sync::Arc<std::sync::atomic::AtomicU64>,
) -> Result<(), StoreError> {
    let is_now = move || crate::store::faults::is_now(&break_off);
    Ok(db.progress_handler(5, Some(is_now))?)
}
