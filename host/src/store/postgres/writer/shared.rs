//! What the handle of a writer and its thread share.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::outage::Outage;
use crate::store::StoreError;
use crate::store::backlog::Backlog;
use crate::store::counts::WriterCounts;
use crate::store::live::LiveCounts;
use crate::store::postgres::error::unanswered;
use crate::store::postgres::lease::TTL;
use crate::store::postgres::writer::notices::SentTo;
use crate::store::refusals::Refusals;
use crate::store::space::SpaceUsed;

/// How long a transaction is under way before the host says that it cannot write.
const LATE: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 3_000 });

/// Told when an owner has lost its hub.
pub(super) type WhenFenced = Box<dyn FnOnce(&StoreError) + Send>;

/// Told which version of the hub's names and settings there is now.
pub(super) type WhenChanged = Arc<dyn Fn(i64) + Send + Sync>;

/// What the handle and the thread share.
#[derive(Clone, Default)]
pub(super) struct Shared {
    pub(super) counts: Arc<WriterCounts>,
    pub(super) backlog: Arc<Backlog>,
    pub(super) live: Arc<LiveCounts>,
    pub(super) space: Arc<SpaceUsed>,
    pub(super) outage: Arc<Outage>,
    pub(super) refusals: Arc<Refusals>,
    /// Since when a transaction is under way, if one is.
    pub(super) under_way: Arc<Mutex<Option<Instant>>>,
    pub(super) closing: Arc<Closing>,
    pub(super) sent: Arc<SentTo>,
    /// Told when this owner has lost the hub.
    pub(super) when_fenced: Arc<Mutex<Option<WhenFenced>>>,
    /// The version of what owners keep of the hub in memory, as this one knows it.
    pub(super) version: Arc<AtomicI64>,
    /// Told when that has changed.
    pub(super) when_changed: Arc<Mutex<Option<WhenChanged>>>,
    /// When the lease was renewed last, as seen here: the beginning of what renewed it.
    pub(super) renewed: Arc<Mutex<Option<Instant>>>,
    /// The faults that all stores have.
    #[cfg(test)]
    pub(super) common: Arc<crate::store::Faults>,
    #[cfg(test)]
    pub(super) faults: Arc<super::faults::Faults>,
}

impl Shared {
    /// Logs and remembers what became of the changes of a batch. What only some of them met counts if it stays: those that came to nothing
    /// because of their own content, or of another change, say nothing about the database.
    pub(super) fn came_of(&self, results: &[Result<(), StoreError>]) {
        let failed = results.iter().filter_map(|result| result.as_ref().err());
        let mut failed = failed.filter(|error| error.is_failure());
        let staying = failed.clone().find(|error| error.stays());
        if let Some(error) = staying {
            self.refusals.note(error);
        }
        let has_success = results.iter().any(Result::is_ok);
        let failure = staying.or_else(|| failed.next().filter(|_| !has_success));
        if let Some(error) = failure {
            if let Some(unsaid) = self.outage.failed() {
                tracing::warn!(%error, jobs = results.len(), unsaid, "a transaction was not committed");
            }
        } else if has_success && let Some(unsaid) = self.outage.succeeded() {
            tracing::info!(unsaid, "transactions are committed again");
        }
    }

    /// A transaction is under way since then, or none is.
    pub(super) fn is_under_way(&self, since: Option<Instant>) {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *under_way = since;
    }

    /// Why what is written now waits, or fails in part, although the last transaction may have succeeded.
    pub(super) fn refuses(&self) -> Option<StoreError> {
        if let Some(error) = self.refusals.now() {
            return Some(error);
        }
        let under_way = *self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waits = under_way.map_or(Duration::ZERO, |since| since.elapsed());
        if waits > LATE {
            return Some(unanswered(format!(
                "a transaction has had no answer of the database for {} s",
                waits.as_secs()
            )));
        }
        (!self.is_sure()).then(|| {
            unanswered("the lease of the task hub was not renewed in time: another host may have taken over")
        })
    }

    /// The lease was renewed by what began then.
    pub(super) fn renewed(&self, begun: Instant) {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
    }

    /// How long ago the lease was renewed, as seen here.
    pub(super) fn lease_age(&self) -> Option<Duration> {
        let renewed = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        renewed.map(|at| at.elapsed())
    }

    /// Whether nobody can have taken the lease yet, by the clock of this machine, which does not stand still while the process does. A fifth
    /// of the lease is left for clocks that run at different speeds, and for what follows the question.
    pub(super) fn is_sure(&self) -> bool {
        let trust = TTL.mul_f64(0.8);
        self.lease_age().is_some_and(|age| age < trust)
    }

    /// Tells that what owners keep of the hub in memory has this version now. Returns once it was read anew.
    pub(super) fn tell_changed(&self, version: i64) {
        self.version.store(version, Ordering::Release);
        let told = self
            .when_changed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(tell) = told {
            tell(version);
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_was_not_renewed_and_a_transaction_without_an_answer_are_refusals() {
        let shared = Shared::default();
        let says = |what: &str| {
            let refused = shared.refuses().map(|error| error.to_string());
            refused.is_some_and(|error| error.contains(what))
        };
        assert!(says("the lease of the task hub was not renewed in time"));
        let now = Instant::now();
        shared.renewed(now);
        assert!(shared.refuses().is_none());
        shared.renewed(now.checked_sub(TTL).unwrap());
        assert!(says("the lease of the task hub was not renewed in time"));
        shared.renewed(Instant::now());
        shared.is_under_way(Some(now));
        assert!(shared.refuses().is_none());
        shared.is_under_way(now.checked_sub(LATE));
        assert!(says("a transaction has had no answer"));
        shared.is_under_way(None);
        assert!(shared.refuses().is_none());
    }
}
