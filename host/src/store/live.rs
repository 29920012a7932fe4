//! Counts live instances by module, so that no query has to count rows.
//!
//! The rules of a change note in its effects which instances came and which left. The owner counts the rows once, and adds what each committed
//! transaction noted. Only an owner with quotas enables the counts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use perennial_core::Digest;

/// How the numbers of live instances changed, by module; `None` are the instances without one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LiveChange(Vec<(Option<Digest>, i64)>);

impl LiveChange {
    /// An instance of a module became live.
    pub(crate) fn came(&mut self, module: Option<Digest>) {
        self.0.push((module, 1));
    }

    /// A live instance of a module ended, or was deleted.
    pub(crate) fn left(&mut self, module: Option<Digest>) {
        self.0.push((module, -1));
    }

    /// A live instance goes on with another module.
    pub(crate) fn moved(&mut self, from: Option<Digest>, to: Option<Digest>) {
        if from != to {
            self.left(from);
            self.came(to);
        }
    }

    /// Adds the change of another change in the same transaction.
    pub(crate) fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// The counts as of the last commit.
#[derive(Debug, Default)]
pub(crate) struct LiveCounts {
    wanted: AtomicBool,
    all: AtomicU64,
    by_module: RwLock<HashMap<Option<Digest>, u64>>,
}

impl LiveCounts {
    /// Enables the counts from the next transaction on.
    pub(crate) fn enable(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    pub(in crate::store) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// The number of live instances in the hub.
    pub(crate) fn all(&self) -> u64 {
        self.all.load(Ordering::Acquire)
    }

    /// The number of live instances that are pinned to a module.
    pub(crate) fn of_module(&self, module: Digest) -> u64 {
        let counts = self
            .by_module
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        counts.get(&Some(module)).copied().unwrap_or(0)
    }

    /// Sets the counts.
    pub(in crate::store) fn set(&self, counted: HashMap<Option<Digest>, u64>) {
        self.all.store(counted.values().sum(), Ordering::Release);
        *self
            .by_module
            .write()
            .unwrap_or_else(PoisonError::into_inner) = counted;
    }

    /// Adds what committed changes noted.
    pub(in crate::store) fn add<'a>(&self, changes: impl Iterator<Item = &'a LiveChange>) {
        let mut counts = self
            .by_module
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for (module, change) in changes.flat_map(|change| &change.0) {
            let count = counts.entry(*module).or_default();
            *count = count.saturating_add_signed(*change);
            if *count == 0 {
                counts.remove(module);
            }
        }
        self.all.store(counts.values().sum(), Ordering::Release);
    }
}
