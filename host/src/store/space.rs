//! How much space a hub uses.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How much of a hub is in use, as of the last commit, for the disk quota.
#[derive(Debug, Default)]
pub(crate) struct SpaceUsed {
    wanted: AtomicBool,
    bytes: AtomicU64,
}

impl SpaceUsed {
    /// Enables the count from the next transaction on.
    pub(crate) fn enable(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    pub(in crate::store) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Bytes of the used pages.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub(in crate::store) fn publish(&self, pages: Pages) {
        self.bytes.store(pages.used_bytes(), Ordering::Release);
    }
}

/// The pages in which the hub is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    pub(crate) all: u64,
    pub(crate) free: u64,
    pub(crate) bytes_of_one: u64,
}

impl Pages {
    /// Bytes of the used pages.
    pub(crate) fn used_bytes(self) -> u64 {
        self.all.saturating_sub(self.free) * self.bytes_of_one
    }

    /// Bytes of the free pages.
    pub(crate) fn free_bytes(self) -> u64 {
        self.free * self.bytes_of_one
    }
}
