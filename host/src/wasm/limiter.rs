//! Limits the memory and tables of an instance.

use wasmtime::ResourceLimiter;

use super::code;

/// Bytes that one element of a table takes.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// Limits the linear memories and tables of a component instance to a total.
///
/// A guest may handle a refused growth, but most abort: [`refused`](Self::refused) tells the cause of such a trap.
#[derive(Debug)]
pub(super) struct MemoryLimiter {
    limit: usize,
    used: usize,
    refused: bool,
    /// Whether the system lacked memory for a growth within the limit.
    starved: bool,
}

impl MemoryLimiter {
    /// A limiter without allocations.
    pub(super) fn new(limit_bytes: u64) -> Self {
        Self {
            limit: usize::try_from(limit_bytes).unwrap_or(usize::MAX),
            used: 0,
            refused: false,
            starved: false,
        }
    }

    /// Bytes allocated so far. Memories never shrink.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// The limit in bytes.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether a growth was refused since this was last [`forgotten`](Self::forget_refusal).
    pub(super) fn refused(&self) -> bool {
        self.refused
    }

    /// Whether the system lacked memory for a growth within the limit. This is not reported to the guest: it ends the call.
    pub(super) fn starved(&self) -> bool {
        self.starved
    }

    /// Clears the mark: a refusal that the guest survived does not explain a later trap.
    pub(super) fn forget_refusal(&mut self) {
        self.refused = false;
    }

    /// The type's own maximum is an answer to the guest; a lack of system memory is not.
    fn grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        if code::lacks(&error).is_none() {
            return Ok(());
        }
        self.starved = true;
        Err(error)
    }

    fn grow(&mut self, by: usize) -> bool {
        match self.used.checked_add(by).filter(|used| *used <= self.limit) {
            Some(used) => {
                self.used = used;
                true
            }
            None => {
                self.refused = true;
                false
            }
        }
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // A growth beyond the type's own maximum fails anyway, and does not count against this limit.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current)))
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.grow_failed(error)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.grow_failed(error)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(
            desired
                .saturating_sub(current)
                .saturating_mul(TABLE_ELEMENT_BYTES),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_share_one_budget() {
        let mut limiter = MemoryLimiter::new(1000);
        assert!(limiter.memory_growing(0, 600, None).unwrap());
        assert!(limiter.table_growing(0, 50, None).unwrap());
        assert!(!limiter.refused());
        assert!(!limiter.memory_growing(600, 700, None).unwrap());
        assert!(limiter.refused());
        assert_eq!(limiter.used(), 1000);
    }

    #[test]
    fn a_growth_that_the_type_forbids_is_not_a_refusal() {
        let mut limiter = MemoryLimiter::new(1000);
        assert!(!limiter.memory_growing(0, 600, Some(500)).unwrap());
        assert!(!limiter.refused());
    }
}
