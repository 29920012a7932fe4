//! Limits the processor time that followers of live streams may cost, and that visitors who look at live pages may cost.
//!
//! Invariants: all work for followers is on the bill: reading, serializing, encrypting and sending; no further work starts until earlier
//! work is paid; the feed readers and the followers that are behind each have their own queue, served in order.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::MutexGuard;

use crate::http::closing::Closing;
use crate::timed::timed;

/// Followers may use one part in this many of the processor time of all processors.
const PART: u32 = 8;

/// Pages that are read again may use one part in this many of one processor.
const LOOKS_PART: u32 = 100;

/// Looks that are owed at most: so a page that is expensive to read is never more than so many times [`LOOKS_PART`] behind.
const LOOKS_OWED_MAX: Duration = Duration::from_millis(200);

/// How much may be spent before it is paid. It lets a few followers be served at once, because a timer is coarser than their cost.
const CREDIT: Duration = Duration::from_millis(5);

/// The assumed minimum cost of one follower and of its bytes. It is charged before the real cost is measured, so that the next piece does
/// not start before the first one is on the bill.
const TELL: Duration = Duration::from_micros(5);
const BYTES_PER_NANOSECOND: u64 = 8;

/// The limit of assumed costs. Costs that did not occur are no credit for later.
const EXPECTED_MAX: Duration = Duration::from_millis(100);

/// The queues for turns.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    /// A reader of a feed, for all followers that are up to date.
    Feed,
    /// A follower that is behind.
    Behind,
}

/// A turn, held until it is dropped.
pub(crate) type Held<'a> = MutexGuard<'a, ()>;

/// Marks an answer as a live stream with its bill.
#[derive(Clone)]
pub(crate) struct Follows(pub(crate) Arc<Bill>);

#[derive(Debug)]
pub(crate) struct Bill {
    /// The processors of which one part in `part` pays.
    processors: u32,
    part: u32,
    owed_max: Duration,
    closing: Arc<Closing>,
    owed: Mutex<Owed>,
    feeds: tokio::sync::Mutex<()>,
    behind: tokio::sync::Mutex<()>,
    spent_ns: AtomicU64,
    reads: AtomicU64,
    followers: AtomicUsize,
}

#[derive(Debug)]
struct Owed {
    /// The time up to which payments are deducted.
    at: Instant,
    time: Duration,
    /// The assumed part of `time` that is not measured yet.
    expected: Duration,
}

/// Counts a follower until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Bill>);

impl Bill {
    pub(crate) fn new(closing: Arc<Closing>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let processors = u32::try_from(processors).unwrap_or(u32::MAX);
        Self::of(processors, PART, Duration::MAX, closing)
    }

    /// The bill of pages that are read again.
    pub(crate) fn of_looks(closing: Arc<Closing>) -> Self {
        Self::of(1, LOOKS_PART, LOOKS_OWED_MAX, closing)
    }

    fn of(processors: u32, part: u32, owed_max: Duration, closing: Arc<Closing>) -> Self {
        Self {
            processors,
            part,
            owed_max,
            closing,
            owed: Mutex::new(Owed {
                at: Instant::now(),
                time: Duration::ZERO,
                expected: Duration::ZERO,
            }),
            feeds: tokio::sync::Mutex::default(),
            behind: tokio::sync::Mutex::default(),
            spent_ns: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            followers: AtomicUsize::new(0),
        }
    }

    /// Waits until the bill is paid and it is the caller's turn. At shutdown it does not wait for payment. Dropping the result ends the
    /// turn.
    pub(crate) async fn turn(&self, whose: Turn) -> Held<'_> {
        let turns = match whose {
            Turn::Feed => &self.feeds,
            Turn::Behind => &self.behind,
        };
        let turn = turns.lock().await;
        self.paid().await;
        turn
    }

    /// Waits until the bill is paid, or until shutdown.
    pub(crate) async fn paid(&self) {
        while let Some(waits) = self.waits() {
            tokio::select! {
                () = tokio::time::sleep(waits) => {}
                () = self.closing.closed() => return,
            }
        }
    }

    fn waits(&self) -> Option<Duration> {
        let owed = self.owed(|owed| owed.time).checked_sub(CREDIT)?;
        Some(owed * self.part / self.processors).filter(|waits| !waits.is_zero())
    }

    /// Charges the assumed cost of sending `bytes` to each of `followers`.
    pub(crate) fn expect(&self, followers: usize, bytes: usize) {
        let followers = u32::try_from(followers).unwrap_or(u32::MAX);
        let bytes = (bytes as u64).saturating_mul(followers.into());
        let bytes = Duration::from_nanos(bytes / BYTES_PER_NANOSECOND);
        let cost = TELL.saturating_mul(followers).saturating_add(bytes);
        self.owed(|owed| {
            let more = cost.min(EXPECTED_MAX.saturating_sub(owed.expected));
            owed.expected += more;
            owed.time += more;
        });
    }

    /// Charges the measured cost.
    pub(crate) fn charge(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.spent_ns.fetch_add(ns, Relaxed);
        self.owed(|owed| {
            let expected = time.min(owed.expected);
            owed.expected -= expected;
            owed.time = (owed.time + (time - expected)).min(self.owed_max);
        });
    }

    /// Counts and charges a read of the hub.
    pub(crate) fn has_read(&self, took: Duration) {
        self.reads.fetch_add(1, Relaxed);
        self.charge(took);
    }

    pub(crate) fn follower(self: &Arc<Self>) -> Counted {
        self.followers.fetch_add(1, Relaxed);
        Counted(Arc::clone(self))
    }

    /// The number of followers.
    pub(crate) fn followers(&self) -> usize {
        self.followers.load(Relaxed)
    }

    /// The number of reads for followers.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Relaxed)
    }

    /// The processor time that followers have cost.
    pub(crate) fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent_ns.load(Relaxed))
    }

    fn owed<T>(&self, then: impl FnOnce(&mut Owed) -> T) -> T {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let paid = (now - owed.at).saturating_mul(self.processors) / self.part;
        owed.at = now;
        owed.time = owed.time.saturating_sub(paid);
        then(&mut owed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.followers.fetch_sub(1, Relaxed);
    }
}

/// Charges the processor time of a future to a bill, once there is one.
pub(crate) async fn on_bill<'a, F: Future>(
    future: F,
    bill: impl Fn() -> Option<&'a Bill>,
) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let Some(bill) = bill() else {
            return future.as_mut().poll(cx);
        };
        let (polled, took) = timed(|| future.as_mut().poll(cx));
        bill.charge(took);
        polled
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timed::thread_time;

    fn bill() -> (Bill, Arc<Closing>) {
        let closing = Arc::new(Closing::default());
        (Bill::new(Arc::clone(&closing)), closing)
    }

    #[tokio::test]
    async fn what_is_done_for_followers_is_paid_for_with_a_share_of_the_processors() {
        let (bill, _) = bill();
        let begun = Instant::now();
        let cost = Duration::from_millis(10) * bill.processors;
        bill.charge(cost);
        bill.paid().await;
        let least = (cost - CREDIT) * PART / bill.processors;
        assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
        assert_eq!(bill.spent(), cost);
    }

    #[test]
    fn looks_are_paid_by_a_small_part_of_one_processor_and_never_for_long() {
        let looks = Bill::of_looks(Arc::default());
        assert_eq!(looks.waits(), None);
        looks.charge(CREDIT + Duration::from_millis(20));
        let waits = looks.waits().unwrap();
        assert!(waits > Duration::from_millis(1_900) && waits <= Duration::from_secs(2));
        looks.charge(Duration::from_secs(3600));
        assert!(looks.waits().unwrap() < Duration::from_secs(20));
    }

    #[test]
    fn what_was_expected_is_not_charged_twice_nor_saved_up() {
        let (bill, _) = bill();
        let second = Duration::from_secs(1);
        bill.expect(1_000_000_000, 1);
        assert!(bill.owed(|owed| owed.time) <= EXPECTED_MAX);
        bill.charge(second);
        bill.charge(second);
        assert!(bill.owed(|owed| owed.time) <= 2 * second);
        assert_eq!(bill.owed(|owed| owed.expected), Duration::ZERO);
        assert!(bill.waits() > Some(second));
    }

    #[tokio::test]
    async fn the_end_of_the_server_waits_for_no_payment() {
        let (bill, closing) = bill();
        bill.charge(Duration::from_secs(3600));
        closing.close();
        drop(bill.turn(Turn::Feed).await);
        drop(bill.turn(Turn::Behind).await);
    }

    #[tokio::test]
    async fn what_a_future_costs_is_on_the_bill() {
        let (bill, _) = bill();
        let computes = async {
            let begun = thread_time();
            while thread_time() - begun < Duration::from_millis(20) {
                std::hint::spin_loop();
            }
        };
        on_bill(computes, || Some(&bill)).await;
        assert!(bill.spent() >= Duration::from_millis(20));
        on_bill(tokio::time::sleep(Duration::from_millis(20)), || {
            Some(&bill)
        })
        .await;
        assert!(bill.spent() < Duration::from_millis(40), "waiting is free");
    }
}
