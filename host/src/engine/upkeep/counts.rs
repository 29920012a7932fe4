//! Counters of the engine, for tests and metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter since the start of the process.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of an engine.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) turns: Count,
    pub(crate) replays: Count,
    pub(crate) replayed_turns: Count,
    pub(crate) instantiations: Count,
    pub(crate) evictions: Count,
    pub(crate) activities: Count,
    pub(crate) ended: Count,
    pub(crate) refused: Count,
}
