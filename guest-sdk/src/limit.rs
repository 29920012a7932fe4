//! A time limit for any future.

use std::future::Future;
use std::time::Duration;

use futures::future::Either;

use crate::timer::Named;
use crate::{Context, Failure, kind, race};

impl Context {
    /// Gives a future no longer than this, with a durable timer: [`Timeout`](kind::TIMEOUT) if its time is up first.
    ///
    /// What it waits for is then cancelled, as by any drop: a running activity is interrupted, and of a child its
    /// [policy](crate::ChildCall::when_dropped) says what becomes of it: by default it runs on by itself. To limit
    /// each attempt of an activity, and have it tried again, use [`attempt_timeout`](crate::ActivityCall::attempt_timeout).
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// async fn report(ctx: Context, region: String) -> Result<u64, Failure> {
    ///     let sales = ctx.child("Sales", region).retry(RetryPolicy::new(3, Duration::from_secs(60)));
    ///     ctx.timeout(Duration::from_secs(3600), sales).await
    /// }
    /// ```
    ///
    /// A rewind of an instance that failed with this `Timeout` gives it its whole time again.
    ///
    /// # Errors
    ///
    /// Those of the future, and `Timeout`.
    pub async fn timeout<T, F>(&self, limit: Duration, future: F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        match race(future, Named(self.timer(limit))).await {
            Either::Left(result) => result,
            Either::Right(Ok(timer)) => {
                let message = format!("it was not done after {limit:?}");
                Err(Failure::new(kind::TIMEOUT, message).of_task(timer))
            }
            Either::Right(Err(canceled)) => Err(canceled),
        }
    }
}
