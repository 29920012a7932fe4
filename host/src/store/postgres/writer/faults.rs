//! Faults that tests put into the writer, and what they count.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// See the [module](self).
#[derive(Debug, Default)]
pub(in crate::store::postgres) struct Faults {
    /// So many transactions are not sent, as if the connection had been lost before.
    pub(in crate::store::postgres) unsent: AtomicU32,
    /// The answers to so many transactions are lost.
    pub(in crate::store::postgres) unanswered: AtomicU32,
    /// Transactions that were sent, and their statements with begin, claim and end.
    pub(in crate::store::postgres) sent: AtomicU64,
    pub(in crate::store::postgres) statements: AtomicU64,
    /// How often rows were read for a batch.
    pub(in crate::store::postgres) reads: AtomicU64,
}

/// Takes one, if any is left.
pub(super) fn take(left: &AtomicU32) -> bool {
    let one_less = |left: u32| left.checked_sub(1);
    left.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less)
        .is_ok()
}
