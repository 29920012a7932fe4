//! Budgets: counted resources (bytes, places, descriptors) that are given back when their permit is dropped.
//!
//! Invariants: dropping a permit returns its units, on every path; the permits never exceed the total; a request for more than the total
//! fails at once and never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A counted resource. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    units: Arc<Semaphore>,
    total: u32,
    refused: AtomicU64,
}

/// Units taken from a budget. Dropping it returns them.
#[derive(Debug)]
#[must_use = "what is not kept is given back at once"]
pub(crate) struct Permit {
    budget: Budget,
    units: OwnedSemaphorePermit,
}

/// The budget has too few units left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spent;

impl Budget {
    /// Creates a budget; more than `u32::MAX` units count as `u32::MAX`.
    pub(crate) fn new(total: u64) -> Self {
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        Self(Arc::new(Inner {
            units: Arc::new(Semaphore::new(total as usize)),
            total,
            refused: AtomicU64::new(0),
        }))
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.total.into()
    }

    /// Units that permits hold.
    pub(crate) fn used(&self) -> u64 {
        // At most `total` permits are free.
        self.total() - self.0.units.available_permits() as u64
    }

    /// How many requests were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.0.refused.load(Relaxed)
    }

    /// Takes units if they are free now.
    ///
    /// # Errors
    /// [`Spent`] if they are not.
    pub(crate) fn try_take(&self, units: u64) -> Result<Permit, Spent> {
        let taken = self.fitting(units).and_then(|units| {
            let free = Arc::clone(&self.0.units);
            free.try_acquire_many_owned(units).ok()
        });
        self.permit(taken)
    }

    /// Takes units, or waits for them for at most `patience`. Waiting callers are served in order.
    ///
    /// # Errors
    /// [`Spent`] if they did not become free in time, or exceed the total.
    pub(crate) async fn take(&self, units: u64, patience: Duration) -> Result<Permit, Spent> {
        let Some(fitting) = self.fitting(units) else {
            return self.permit(None);
        };
        let free = Arc::clone(&self.0.units);
        if let Ok(taken) = Arc::clone(&free).try_acquire_many_owned(fitting) {
            return self.permit(Some(taken));
        }
        let taken = tokio::time::timeout(patience, free.acquire_many_owned(fitting)).await;
        // The semaphore is never closed.
        self.permit(taken.ok().and_then(Result::ok))
    }

    fn fitting(&self, units: u64) -> Option<u32> {
        u32::try_from(units)
            .ok()
            .filter(|units| *units <= self.0.total)
    }

    fn permit(&self, taken: Option<OwnedSemaphorePermit>) -> Result<Permit, Spent> {
        match taken {
            Some(units) => Ok(Permit {
                budget: self.clone(),
                units,
            }),
            None => {
                self.0.refused.fetch_add(1, Relaxed);
                Err(Spent)
            }
        }
    }
}

impl Permit {
    pub(crate) fn units(&self) -> u64 {
        self.units.num_permits() as u64
    }

    /// Grows or shrinks the permit. It is unchanged on an error.
    ///
    /// # Errors
    /// [`Spent`] if too few units are free.
    pub(crate) fn resize(&mut self, units: u64) -> Result<(), Spent> {
        let has = self.units();
        if units > has {
            let more = self.budget.try_take(units - has)?;
            self.units.merge(more.units);
        } else {
            let less = usize::try_from(has - units).unwrap_or(usize::MAX);
            drop(self.units.split(less));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_dropped_is_given_back() {
        let budget = Budget::new(10);
        let some = budget.try_take(7).unwrap();
        assert_eq!((budget.used(), some.units()), (7, 7));
        assert_eq!(budget.try_take(4).unwrap_err(), Spent);
        drop(some);
        assert_eq!((budget.used(), budget.refused()), (0, 1));
        assert!(budget.try_take(10).is_ok());
    }

    #[test]
    fn a_part_grows_as_far_as_there_is_something_and_shrinks() {
        let budget = Budget::new(10);
        let mut some = budget.try_take(2).unwrap();
        some.resize(9).unwrap();
        assert_eq!(some.resize(11), Err(Spent));
        assert_eq!((some.units(), budget.used()), (9, 9));
        some.resize(1).unwrap();
        assert_eq!((some.units(), budget.used()), (1, 1));
        some.resize(0).unwrap();
        drop(some);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn more_than_there_ever_is_is_refused_at_once() {
        let budget = Budget::new(10);
        assert_eq!(budget.try_take(11).unwrap_err(), Spent);
        assert_eq!(budget.try_take(u64::MAX).unwrap_err(), Spent);
        assert_eq!(Budget::new(u64::MAX).total(), u64::from(u32::MAX));
    }

    #[tokio::test]
    async fn who_waits_gets_what_others_give_back_and_not_for_ever() {
        let budget = Budget::new(10);
        let all = budget.take(10, SOON).await.unwrap();
        assert_eq!(budget.take(1, SOON).await.unwrap_err(), Spent);
        assert_eq!(
            budget
                .take(11, Duration::from_secs(3600))
                .await
                .unwrap_err(),
            Spent
        );
        let waiting = {
            let budget = budget.clone();
            tokio::spawn(async move { budget.take(10, Duration::from_secs(60)).await.map(drop) })
        };
        tokio::task::yield_now().await;
        drop(all);
        assert_eq!(waiting.await.unwrap(), Ok(()));
        assert_eq!(budget.used(), 0);
    }
}
