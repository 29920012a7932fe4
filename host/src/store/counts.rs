//! What a writer counts.

use std::sync::atomic::AtomicU64;

use crate::histogram::Histogram;

/// Counters of the writer, for tests and metrics.
#[derive(Debug, Default)]
pub(crate) struct WriterCounts {
    /// Transactions committed.
    pub(crate) commits: AtomicU64,
    /// Jobs committed in them.
    pub(crate) jobs: AtomicU64,
    /// Rows that they inserted, changed or deleted.
    pub(crate) rows: AtomicU64,
    /// Times that the log was folded into the file of SQLite.
    pub(crate) checkpoints: AtomicU64,
    /// Transactions that returned free pages of SQLite.
    pub(crate) given_back: AtomicU64,
    /// The duration of a transaction in microseconds.
    pub(crate) micros: Histogram,
    /// Jobs in a transaction.
    pub(crate) batches: Histogram,
}
