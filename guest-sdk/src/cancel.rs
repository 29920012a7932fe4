//! Cancellation: an instance that is asked to end cleans up first.
//!
//! Laws: an execution is asked at most once; from then on whatever is awaited outside a shield is ready, with the failure `Canceled` where
//! it is not done; nothing new begins outside a shield.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll};

use crate::bindings::orchestrations::Cancellation as WitCancellation;
use crate::execution::Execution;
use crate::{Context, Timestamp};

impl Context {
    /// Waits until the instance is asked to cancel, by a client, by its parent or because its execution timeout is over. Never ready if it
    /// is not.
    ///
    /// By default nobody needs it: once an instance is asked to cancel, everything that it awaits ends with the failure
    /// [`Canceled`](crate::kind::CANCELED), so that `?` unwinds, [sagas](Self::saga) compensate, and the instance ends as `Terminated` with the
    /// reason that was given, or as `Failed` with `Timeout` if its time was over. An orchestration that catches the failure and returns
    /// something else ends with that. What is not done after the grace period, a minute unless who asked said otherwise, is ended.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// /// Counts events until it is cancelled, and then returns the count.
    /// async fn counter(ctx: Context) -> Result<u32, Failure> {
    ///     let mut count = 0;
    ///     let mut events = ctx.events::<()>("Increment");
    ///     loop {
    ///         match race(ctx.cancellation(), events.next()).await {
    ///             Either::Left(_) => return Ok(count),
    ///             Either::Right(_) => count += 1,
    ///         }
    ///     }
    /// }
    /// ```
    pub fn cancellation(&self) -> CancellationWait {
        CancellationWait {
            execution: self.execution(),
            waiter: None,
        }
    }

    /// Whether the instance was asked to cancel.
    #[must_use]
    pub fn is_canceled(&self) -> bool {
        self.execution().cancellation().is_some()
    }

    /// Runs a future to its end although the instance was, or is, asked to cancel: for cleaning up. The grace period still ends it.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// async fn rent(ctx: Context, machine: String) -> Result<(), Failure> {
    ///     ctx.activity::<()>("Rent", &machine).await?;
    ///     let used = ctx.event::<()>("Done").await;
    ///     // Also after a cancellation, which `used` says then.
    ///     ctx.shielded(ctx.activity::<()>("GiveBack", &machine)).await?;
    ///     used
    /// }
    /// ```
    pub fn shielded<F: Future>(&self, future: F) -> impl Future<Output = F::Output> {
        let execution = self.execution();
        let mut future = Box::pin(future);
        std::future::poll_fn(move |cx| {
            // Nothing between can be skipped: a panic ends the component instance.
            execution.shield(true);
            let polled = future.as_mut().poll(cx);
            execution.shield(false);
            polled
        })
    }
}

/// A request that the instance end in good order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cancellation {
    /// The reason given.
    pub reason: Option<String>,
    /// Whether the execution timeout of the instance was over; otherwise somebody asked for it.
    pub timed_out: bool,
    /// When the host ends the instance if it has not ended by then.
    pub deadline: Timestamp,
}

impl From<WitCancellation> for Cancellation {
    fn from(asked: WitCancellation) -> Self {
        Self {
            reason: asked.reason,
            timed_out: asked.timed_out,
            deadline: Timestamp::from_unix_millis(asked.deadline),
        }
    }
}

/// Waits for a cancellation, made by [`Context::cancellation`].
#[must_use = "it begins to wait when it is awaited"]
pub struct CancellationWait {
    execution: Rc<Execution>,
    waiter: Option<u64>,
}

impl Future for CancellationWait {
    type Output = Cancellation;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let asked = this.execution.poll_cancellation(&mut this.waiter, cx);
        asked.map(Cancellation::from)
    }
}

impl Drop for CancellationWait {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter {
            self.execution.forget_cancel_waiter(waiter);
        }
    }
}
