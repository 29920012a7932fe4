//! What the database below a store refuses for a reason that stays until somebody acts, although it takes other changes meanwhile: on a full
//! disk, a small row often finds room where the next one does not.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::store::StoreError;

/// How long such a reason counts after it was met last. What failed is tried again more often than that.
const LASTS: Duration = Duration::from_secs(20);

/// Reasons other than a full disk count once they were met again after this: one error of a server may have been the only one.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(in crate::store) struct Refusals(Mutex<Option<Met>>);

#[derive(Debug)]
struct Met {
    first: Instant,
    last: Instant,
    error: StoreError,
}

impl Refusals {
    /// Records an error that [stays](StoreError::stays).
    pub(in crate::store) fn note(&self, error: &StoreError) {
        self.noted_at(error, Instant::now());
    }

    fn noted_at(&self, error: &StoreError, now: Instant) {
        let mut met = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = match &*met {
            Some(met) if now.saturating_duration_since(met.last) < LASTS => met.first,
            _ => now,
        };
        *met = Some(Met {
            first,
            last: now,
            error: error.clone(),
        });
    }

    /// The error that some changes fail with by now.
    pub(in crate::store) fn now(&self) -> Option<StoreError> {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> Option<StoreError> {
        let met = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let met = met.as_ref()?;
        let is_again = met.last.saturating_duration_since(met.first) >= AGAIN_AFTER;
        let counts = now.saturating_duration_since(met.last) < LASTS
            && (met.error.is_disk_full() || is_again);
        counts.then(|| met.error.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::shortage::Resource;
    use crate::store::error::DatabaseError;

    fn of(resource: Resource) -> StoreError {
        StoreError::Database(Arc::new(DatabaseError {
            resource,
            is_locked: false,
            is_away: false,
            stays: true,
            hint: "",
            cause: "a test".into(),
        }))
    }

    #[test]
    fn a_full_disk_counts_at_once_and_for_a_while_and_other_reasons_when_they_are_met_again() {
        let begun = Instant::now();
        let after = |millis| begun + Duration::from_millis(millis);
        let refusals = Refusals::default();
        assert!(refusals.at(begun).is_none());
        refusals.noted_at(&of(Resource::Disk), begun);
        assert!(refusals.at(begun).is_some_and(|error| error.is_disk_full()));
        assert!(refusals.at(after(19_999)).is_some());
        assert!(refusals.at(after(20_000)).is_none());

        let refusals = Refusals::default();
        refusals.noted_at(&of(Resource::Hub), begun);
        refusals.noted_at(&of(Resource::Hub), after(999));
        assert!(refusals.at(after(999)).is_none());
        // It was over: this is the first one again.
        refusals.noted_at(&of(Resource::Hub), after(21_000));
        assert!(refusals.at(after(21_000)).is_none());
        refusals.noted_at(&of(Resource::Hub), after(22_000));
        assert!(refusals.at(after(22_000)).is_some());
    }
}
