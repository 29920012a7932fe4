//! Sagas: steps that are undone, in reverse, when a later one fails.
//!
//! Laws: what is registered runs at most once, and only after the body has failed; the last registered runs first, each after the one
//! before has ended; the failure of the body is what comes out.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::de::IgnoredAny;

use crate::{ActivityCall, Cause, ChildCall, Context, Failure, RetryPolicy, Task, kind};

impl Context {
    /// Runs steps that are undone if a later one fails. The body registers with [`on_failure`](Saga::on_failure) what undoes a step. If it
    /// returns a failure, by `?` or otherwise, what was registered is called in reverse, one after the other, and each is
    /// [tried again](crate::Compensation) if it fails. What comes out is the failure of the body; for each compensation that could not be
    /// carried out it has a cause of the kind `CompensationFailed`, and the others run all the same.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// async fn order(ctx: Context, item: String) -> Result<String, Failure> {
    ///     ctx.saga(async |saga| {
    ///         let reservation = ctx.call(reserve, item).await?;
    ///         saga.on_failure(ctx.call(release, reservation));
    ///         let receipt = ctx.call(charge, reservation).retry(RetryPolicy::new(3, Duration::from_secs(5))).await?;
    ///         Ok(receipt)
    ///     })
    ///     .await
    /// }
    /// # fn reserve(_: String) -> Result<u32, Failure> { Ok(1) }
    /// # fn release(_: u32) -> Result<(), Failure> { Ok(()) }
    /// # fn charge(_: u32) -> Result<String, Failure> { Ok(String::new()) }
    /// # perennial_sdk::export! {
    /// #     orchestrations: { "Order" => order },
    /// #     activities: { "Reserve" => reserve, "Release" => release, "Charge" => charge },
    /// # }
    /// # fn main() {}
    /// ```
    ///
    /// An instance that is [asked to cancel](Self::cancellation) undoes its steps, too: compensations are [shielded](Self::shielded).
    ///
    /// Nothing is undone if the body succeeds or continues as new, if the saga is dropped, as by a [`race`](crate::race) that it loses, or
    /// if the instance is terminated. To limit the time of a saga, race inside it and return a failure.
    ///
    /// A rewind goes back to the step that failed, and not to before what was undone: the history would say that the earlier steps stand. So
    /// an instance whose compensations were carried out is not rewound, unless that is asked for with `--forget-completed`: restart it
    /// instead.
    ///
    /// # Errors
    ///
    /// Those of the body.
    pub async fn saga<T, F>(&self, body: F) -> Result<T, Failure>
    where
        F: AsyncFnOnce(&Saga) -> Result<T, Failure>,
    {
        let saga = Saga::new();
        match body(&saga).await {
            Err(failure) if !failure.is_continuation() => {
                // Also, and just then, where the failure is that the instance was asked to cancel.
                Err(self.shielded(saga.compensate(failure)).await)
            }
            result => result,
        }
    }
}

/// The compensations of a saga, made by [`Context::saga`](crate::Context::saga).
pub struct Saga {
    /// In the order in which they were registered. They can be by branches that run in parallel, so through a shared reference.
    compensations: RefCell<Vec<PlannedCompensation>>,
}

type PlannedCompensation = Pin<Box<dyn Future<Output = Result<(), Cause>>>>;

/// A call that undoes a step: an [`ActivityCall`] or a [`ChildCall`] that was not started. Its result is ignored.
///
/// A call without a retry policy is tried up to ten times, after 1 s, 2 s, 4 s and so on, but at most 60 s.
pub trait Compensation: sealed::Plan {}

impl<T: 'static> Compensation for ActivityCall<T> {}

impl<T: 'static> Compensation for ChildCall<T> {}

impl Saga {
    pub(crate) fn new() -> Self {
        Self {
            compensations: RefCell::default(),
        }
    }

    /// Has this called if the saga fails from now on, before all that was registered earlier.
    ///
    /// Register it after the step that it undoes, with what is needed to undo it; or before, if the step may fail half-way and the
    /// compensation does no harm where there is nothing to undo.
    pub fn on_failure(&self, call: impl Compensation) {
        self.compensations.borrow_mut().push(Box::pin(call.plan()));
    }

    /// Undoes everything, and names in the failure what could not be undone.
    pub(crate) async fn compensate(self, mut failure: Failure) -> Failure {
        for compensation in self.compensations.into_inner().into_iter().rev() {
            if let Err(cause) = compensation.await {
                failure.push_cause(cause);
            }
        }
        failure
    }
}

/// The retry policy of a compensation that has none of its own.
fn default_retry() -> RetryPolicy {
    RetryPolicy::new(10, Duration::from_secs(1))
        .backoff(2.0)
        .max_delay(Duration::from_secs(60))
}

async fn outcome(task: Task<IgnoredAny>) -> Result<(), Cause> {
    let what = task.describe();
    match task.await {
        Ok(IgnoredAny) => Ok(()),
        Err(failure) => Err(Cause {
            kind: kind::COMPENSATION_FAILED.to_owned(),
            message: format!("{what} failed: {failure}"),
            trace: failure.trace().map(str::to_owned),
        }),
    }
}

mod sealed {
    use std::future::Future;

    use super::{default_retry, outcome};
    use crate::{ActivityCall, Cause, ChildCall};

    /// Becomes a future that schedules the call when it is first polled.
    pub trait Plan {
        fn plan(self) -> impl Future<Output = Result<(), Cause>> + 'static;
    }

    impl<T: 'static> Plan for ActivityCall<T> {
        fn plan(self) -> impl Future<Output = Result<(), Cause>> + 'static {
            let call = self.retry_unless_set(&default_retry());
            async move { outcome(call.start().ignore_output()).await }
        }
    }

    impl<T: 'static> Plan for ChildCall<T> {
        fn plan(self) -> impl Future<Output = Result<(), Cause>> + 'static {
            let call = self.retry_unless_set(&default_retry());
            async move { outcome(call.start().ignore_output()).await }
        }
    }
}
