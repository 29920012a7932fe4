//! What the handle of a writer and its thread share.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::outage::Outage;
use crate::store::StoreError;
use crate::store::backlog::Backlog;
use crate::store::counts::WriterCounts;
use crate::store::live::LiveCounts;
use crate::store::space::SpaceUsed;

/// Told when an owner has lost its hub.
pub(super) type WhenFenced = Box<dyn FnOnce(&StoreError) + Send>;

/// What the handle and the thread share.
#[derive(Clone, Default)]
pub(super) struct Shared {
    pub(super) counts: Arc<WriterCounts>,
    pub(super) backlog: Arc<Backlog>,
    pub(super) live: Arc<LiveCounts>,
    pub(super) space: Arc<SpaceUsed>,
    pub(super) outage: Arc<Outage>,
    pub(super) closing: Arc<Closing>,
    /// Told when this owner has lost the hub.
    pub(super) when_fenced: Arc<Mutex<Option<WhenFenced>>>,
    /// The faults that all stores have.
    #[cfg(test)]
    pub(super) common: Arc<crate::store::Faults>,
    #[cfg(test)]
    pub(super) faults: Arc<super::faults::Faults>,
}

impl Shared {
    /// Tells why this owner has lost the hub, once.
    pub(super) fn tell_fenced(&self, why: &StoreError) {
        let told = self
            .when_fenced
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(tell) = told {
            tell(why);
        }
    }
}

/// Whether the store is shutting down, so that waiting for the database must end.
#[derive(Debug, Default)]
pub(super) struct Closing {
    is_set: Mutex<bool>,
    set: Condvar,
}

impl Closing {
    pub(super) fn set(&self) {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.set.notify_all();
    }

    /// Waits for so long, or until it is set. Returns whether it is.
    pub(super) fn wait(&self, at_most: Duration) -> bool {
        let is_set = self.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .set
            .wait_timeout_while(is_set, at_most, |is_set| !*is_set);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
