//! Reads of a hub in memory, from any thread.

use std::sync::MutexGuard;

use crate::store::StoreError;
use crate::store::memory::Memory;
use crate::store::memory::shared::MemoryHub;
use crate::store::partition::Partitions;
use crate::store::reads::{Reader, implement_reads};
use crate::store::types::{InstanceKey, WasRunning};

/// Reads a hub for who runs these partitions. What it finds was committed.
#[derive(Clone, Debug)]
pub(crate) struct MemoryReader(pub(super) MemoryHub, pub(super) Partitions);

// Each read is of the rows as they are at that time: they have a method for each.
implement_reads!(MemoryReader, by rows: Memory);

impl MemoryReader {
    fn within(&self, of: Partitions) -> Option<Reader> {
        Some(Reader::new(Self(self.0.clone(), of)))
    }

    fn rows(&self) -> MutexGuard<'_, Memory> {
        let mut rows = self.0.rows();
        rows.own = self.1;
        rows
    }
}

impl Memory {
    /// What runs is not kept in the hub.
    pub(super) fn running(&self, _: Option<InstanceKey>) -> Result<Vec<WasRunning>, StoreError> {
        Ok(Vec::new())
    }
}
