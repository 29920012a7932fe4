//! The rows of a transaction of SQLite.

use rusqlite::Connection;

/// Rows, read and written by prepared statements of a connection. Whoever makes it holds a transaction.
pub(in crate::store) struct Sql<'c>(pub(in crate::store) &'c Connection);
