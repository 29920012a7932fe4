//! Combinators of futures (`join_all`, `race`, ...) whose results are the same in every replay.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use futures::StreamExt;
use futures::future::Either;
use futures::stream::FuturesUnordered;

/// Runs both, and returns the result of the one that is ready first; the left one, if both are. The other is dropped, which cancels
/// the tasks it waits for: a running activity is interrupted, a timer is disarmed. Of a child orchestration its
/// [policy](crate::ChildCall::when_dropped) says what becomes of it: by default it runs on by itself.
///
/// ```
/// use perennial_sdk::prelude::*;
///
/// async fn quote(ctx: Context, _: ()) -> Result<Option<u32>, Failure> {
///     match race(ctx.activity("AskPrice", "AAPL"), ctx.timer(Duration::from_secs(5))).await {
///         Either::Left(price) => Ok(Some(price?)),
///         Either::Right(fired) => fired.map(|()| None),
///     }
/// }
/// ```
pub async fn race<A: Future, B: Future>(left: A, right: B) -> Either<A::Output, B::Output> {
    let mut left = pin!(left);
    let mut right = pin!(right);
    poll_fn(|cx| {
        if let Poll::Ready(output) = left.as_mut().poll(cx) {
            return Poll::Ready(Either::Left(output));
        }
        right.as_mut().poll(cx).map(Either::Right)
    })
    .await
}

/// Runs all of them, and returns the place and the result of the one that is ready first; the first in the list, if several are. The
/// others are dropped, which cancels the tasks they wait for: a running activity is interrupted, a timer is disarmed. Of a child
/// orchestration its [policy](crate::ChildCall::when_dropped) says what becomes of it: by default it runs on by itself.
///
/// # Panics
///
/// If there are none.
pub async fn race_all<F: Future>(futures: impl IntoIterator<Item = F>) -> (usize, F::Output) {
    let mut futures: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    assert!(!futures.is_empty(), "a race needs somebody to win it");
    poll_fn(|cx| {
        let ready = futures.iter_mut().enumerate().find_map(|(place, future)| {
            match future.as_mut().poll(cx) {
                Poll::Ready(output) => Some((place, output)),
                Poll::Pending => None,
            }
        });
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// Makes a future of each item and runs at most `max_parallel` at once, the next item as soon as one ends. The results are in the
/// order of the items.
pub(crate) async fn map<I, F>(
    items: impl IntoIterator<Item = I>,
    max_parallel: usize,
    mut make: impl FnMut(I) -> F,
) -> Vec<F::Output>
where
    F: Future,
{
    let mut items = items.into_iter().enumerate();
    let mut next = || {
        items.next().map(|(place, item)| {
            let future = make(item);
            async move { (place, future.await) }
        })
    };
    let mut running = FuturesUnordered::new();
    running.extend(std::iter::from_fn(&mut next).take(max_parallel.max(1)));
    let mut results = Vec::new();
    while let Some((place, result)) = running.next().await {
        if results.len() <= place {
            results.resize_with(place + 1, || None);
        }
        results[place] = Some(result);
        running.extend(next());
    }
    results.into_iter().flatten().collect()
}
