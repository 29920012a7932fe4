//! What each read of a hub means.
//!
//! They walk all rows, filter and sort. Where a read is bounded by how many rows it looks at, the bound is counted as SQLite counts it, so
//! that the pages are the same.

mod histories;
mod hub;
mod inbox;
mod instances;
mod list;
mod looks;
mod modules;
mod overview;
mod requests;
mod tasks;

use perennial_core::Timestamp;

use crate::store::memory::{Instance, Memory};

impl Memory {
    /// All instances, in the order of their keys.
    fn all(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    /// The instance with an id.
    fn named(&self, id: &str) -> Option<&Instance> {
        self.instances.get(self.ids.get(id)?)
    }
}

/// At most so many of the first.
fn first<T>(limit: u32, found: impl IntoIterator<Item = T>) -> Vec<T> {
    found.into_iter().take(limit as usize).collect()
}

/// Sorts by a key.
fn sorted<T, K: Ord>(found: impl Iterator<Item = T>, key: impl FnMut(&T) -> K) -> Vec<T> {
    let mut found: Vec<T> = found.collect();
    found.sort_by_key(key);
    found
}

/// Whether a time is in a span of which the end is not part.
fn is_in(at: Timestamp, (from, to): (Timestamp, Timestamp)) -> bool {
    from <= at && at < to
}
