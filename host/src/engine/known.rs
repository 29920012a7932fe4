//! What a change was prepared by: names of modules and settings may be replaced while it is on its way, and nothing may start by old ones.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::engine::workers::threads::UnderWay;
use crate::engine::{Engine, Known};
use crate::store::{Change, Outcome, StoreError, Write};

impl Engine {
    pub(in crate::engine) fn job(
        self: &Arc<Self>,
        change: Change,
        done: impl FnOnce(Change, Result<Outcome, StoreError>) + Send + 'static,
    ) -> Write {
        self.job_knowing(self.known(), change, done)
    }

    /// As [`job`](Self::job) for a change that was prepared by what this engine [knew](Self::known) of the hub: if that has changed since, and
    /// the change starts something, the transaction refuses it with [`StoreError::Conflict`].
    pub(in crate::engine) fn job_knowing(
        self: &Arc<Self>,
        knew: Known,
        change: Change,
        done: impl FnOnce(Change, Result<Outcome, StoreError>) + Send + 'static,
    ) -> Write {
        let under_way = UnderWay::new(self);
        let write = Write::new(change, self.clock.now(), move |change, result| {
            done(change, result);
            drop(under_way);
        });
        self.stamped(knew, write)
    }

    /// A change with the version of what it was prepared by.
    pub(in crate::engine) fn stamped(&self, knew: Known, write: Write) -> Write {
        match self.hub.is_shared {
            true => write.knowing(knew.0),
            false => write,
        }
    }

    /// The version of what this engine knows of the hub. Whoever prepares a change asks for it before he uses names or settings: those may
    /// be replaced while he goes on.
    pub(in crate::engine) fn known(&self) -> Known {
        Known(self.hub.known.load(Ordering::Acquire))
    }
}
