//! A transaction of the writer.

use std::ops::Deref;

use rusqlite::Connection;

/// Rolled back where it is dropped, unless it was committed. As rusqlite's own, except that the statements which begin and end it are
/// prepared once for a connection: an instance alone in its hub is four transactions of a few statements each.
pub(in crate::store) struct Transaction<'c>(&'c Connection);

impl<'c> Transaction<'c> {
    /// Begins one that may write.
    pub(in crate::store) fn begin(db: &'c Connection) -> rusqlite::Result<Self> {
        run(db, "BEGIN IMMEDIATE")?;
        Ok(Self(db))
    }

    /// Begins anew, without what was done so far.
    pub(in crate::store) fn again(&self) -> rusqlite::Result<()> {
        run(self.0, "ROLLBACK")?;
        run(self.0, "BEGIN IMMEDIATE")
    }

    /// Makes what was done durable.
    pub(in crate::store) fn commit(self) -> rusqlite::Result<()> {
        run(self.0, "COMMIT")
    }

    /// Takes back what was done, and says where that cannot be done.
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
        // SQLite may have ended it, with an error that was reported.
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
