//! One reader for all who follow the same: what happens is read from the hub once, written as text once, and told to everyone.
//!
//! Laws: what followers cost is bounded: the more there are, and the more there is to tell, the less often they are told, in larger pieces;
//! a feed holds a bounded number of pieces, and whoever is too slow for them reads the hub again.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use tokio::sync::{Notify, Semaphore, broadcast};

use crate::budget::Budget;
use crate::http::body::{FREE_BYTES, kept};
use crate::http::closing::Closing;

/// Pieces that a follower may be behind.
const BEHIND_MAX: usize = 8;

/// What it costs to tell one follower something: a wake-up, a call of the system, and the same on its side.
const TELL: Duration = Duration::from_micros(100);

/// Bytes that are told to all followers in a second, beyond that.
const BYTES_PER_SECOND: u64 = 64 << 20;

/// What may be told before it is paid.
const CREDIT: Duration = Duration::from_millis(5);

/// Followers that read the hub by themselves at once: those that begin, and those that were too slow.
const READERS_MAX: usize = 2;

/// How long to wait for room for a piece before it is looked again whether there still is somebody to tell.
const ROOM_TIMEOUT: Duration = Duration::from_secs(1);

/// The next piece of a feed, once there is one.
pub(super) type NextPiece<'a, P> = Pin<Box<dyn Future<Output = Option<Next<P>>> + Send + 'a>>;

/// What is read for a feed: a place to read from, and pieces.
pub(super) trait Source: Send + 'static {
    /// A piece that is told.
    type Piece: Clone + Send + 'static;

    /// The next piece, once there is one. `None` at the end.
    fn next<'a>(&'a mut self, told: &'a Told) -> NextPiece<'a, Self::Piece>;
}

/// A piece, its size, and whether it is the last.
pub(super) struct Next<P> {
    pub(super) piece: P,
    pub(super) bytes: usize,
    pub(super) last: bool,
}

/// What all feeds of a server share.
#[derive(Debug)]
pub(in crate::http) struct Told {
    budget: Budget,
    closing: Arc<Closing>,
    /// Until when what was told has to be paid for.
    paid: Mutex<Instant>,
    readers: Semaphore,
}

impl Told {
    pub(in crate::http) fn new(budget: Budget, closing: Arc<Closing>) -> Self {
        Self {
            budget,
            closing,
            paid: Mutex::new(Instant::now()),
            readers: Semaphore::new(READERS_MAX),
        }
    }

    /// Text for followers, in room of the budget where it is large. `None` at the end of the server.
    pub(super) async fn piece(&self, text: String) -> Option<Bytes> {
        let text = Bytes::from(text);
        if text.len() <= FREE_BYTES {
            return Some(text);
        }
        // What is larger than all that there is would wait for ever.
        let size = (text.len() as u64).min(self.budget.total());
        loop {
            if self.closing.is_closed() {
                return None;
            }
            if let Ok(permit) = self.budget.take(size, ROOM_TIMEOUT).await {
                return Some(kept(text, permit));
            }
        }
    }

    /// One of the few places for those who read the hub by themselves.
    pub(super) async fn reader(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.readers.acquire().await.ok()
    }

    /// Puts what it costs to tell so many followers so many bytes on the bill, and returns when it is paid.
    async fn pay(&self, followers: usize, bytes: usize) {
        let followers = u32::try_from(followers).unwrap_or(u32::MAX);
        let bytes = (bytes as u64).saturating_mul(followers.into());
        let cost = TELL * followers + Duration::from_micros(bytes / (BYTES_PER_SECOND / 1_000_000));
        let ahead = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            *paid = (*paid).max(now) + cost;
            *paid - now
        };
        // A few followers are told at once: a timer is coarser than what they cost.
        let Some(waits) = ahead.checked_sub(CREDIT) else {
            return;
        };
        tokio::select! {
            () = tokio::time::sleep(waits) => {}
            () = self.closing.closed() => {}
        }
    }
}

/// The feeds that there are, by what they tell of.
#[derive(Debug)]
pub(in crate::http) struct Feeds<K, P>(Mutex<HashMap<K, Weak<Feed<P>>>>);

impl<K, P> Default for Feeds<K, P> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// One feed. It belongs to the task that reads for it, and ends with that.
#[derive(Debug)]
struct Feed<P> {
    tell: broadcast::Sender<P>,
    /// Told when a follower goes.
    left: Arc<Notify>,
}

/// Somebody who is told.
pub(super) struct Follower<P> {
    told: Option<broadcast::Receiver<P>>,
    left: Arc<Notify>,
    /// Whether the feed begins with this follower: it is told everything from where the feed's source begins.
    pub(super) is_first: bool,
}

/// What a follower is told.
pub(super) enum News<P> {
    Piece(P),
    /// It missed some pieces.
    Behind,
    /// The feed has ended.
    Over,
}

impl<K, P> Feeds<K, P>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    P: Clone + Send + 'static,
{
    /// Follows what there is a feed of already, or begins one.
    pub(super) fn join<S: Source<Piece = P>>(
        self: &Arc<Self>,
        key: K,
        told: &Arc<Told>,
        source: impl FnOnce() -> S,
    ) -> Follower<P> {
        let mut feeds = self.feeds();
        if let Some(feed) = feeds.get(&key).and_then(Weak::upgrade) {
            return Follower {
                told: Some(feed.tell.subscribe()),
                left: Arc::clone(&feed.left),
                is_first: false,
            };
        }
        let (tell, receiver) = broadcast::channel(BEHIND_MAX);
        let left = Arc::new(Notify::new());
        let follower = Follower {
            told: Some(receiver),
            left: Arc::clone(&left),
            is_first: true,
        };
        let feed = Arc::new(Feed { tell, left });
        feeds.insert(key.clone(), Arc::downgrade(&feed));
        drop(feeds);
        let (all, told, source) = (Arc::clone(self), Arc::clone(told), source());
        // It ends with its source, with its last follower, or with the server.
        tokio::spawn(async move { all.run(&key, feed, source, &told).await });
        follower
    }

    fn feeds(&self) -> MutexGuard<'_, HashMap<K, Weak<Feed<P>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads and tells until there is nothing more, or nobody.
    async fn run<S: Source<Piece = P>>(
        &self,
        key: &K,
        feed: Arc<Feed<P>>,
        mut source: S,
        told: &Told,
    ) {
        loop {
            let mut next = source.next(told);
            let next = loop {
                tokio::select! {
                    next = &mut next => break next,
                    () = feed.left.notified() => if self.forget(key, &feed, 0) { return },
                    () = told.closing.closed() => break None,
                }
            };
            let Some(next) = next else { break };
            let followers = feed.tell.receiver_count();
            // The last one may have gone meanwhile.
            let _ = feed.tell.send(next.piece);
            if next.last {
                break;
            }
            told.pay(followers, next.bytes).await;
        }
        self.forget(key, &feed, usize::MAX);
    }

    /// Lets nobody join a feed any more, where it has no more followers than that.
    fn forget(&self, key: &K, feed: &Arc<Feed<P>>, followers_max: usize) -> bool {
        let mut feeds = self.feeds();
        let forgets = feed.tell.receiver_count() <= followers_max;
        let is_it = |other: &Weak<Feed<P>>| std::ptr::eq(other.as_ptr(), Arc::as_ptr(feed));
        if forgets && feeds.get(key).is_some_and(is_it) {
            feeds.remove(key);
        }
        forgets
    }
}

impl<P: Clone> Follower<P> {
    /// What comes next.
    pub(super) async fn next(&mut self) -> News<P> {
        let Some(told) = &mut self.told else {
            return News::Over;
        };
        match told.recv().await {
            Ok(piece) => News::Piece(piece),
            Err(broadcast::error::RecvError::Lagged(_)) => News::Behind,
            Err(broadcast::error::RecvError::Closed) => News::Over,
        }
    }
}

impl<P> Drop for Follower<P> {
    fn drop(&mut self) {
        // Before the feed counts who is left.
        self.told = None;
        self.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use tokio::sync::mpsc;

    /// Gives what it is given, and counts.
    struct Given {
        pieces: mpsc::UnboundedReceiver<usize>,
        reads: Arc<AtomicUsize>,
    }

    impl Source for Given {
        type Piece = usize;

        fn next<'a>(
            &'a mut self,
            _: &'a Told,
        ) -> Pin<Box<dyn Future<Output = Option<Next<usize>>> + Send + 'a>> {
            Box::pin(async move {
                let piece = self.pieces.recv().await?;
                self.reads.fetch_add(1, Relaxed);
                Some(Next {
                    piece,
                    bytes: 1,
                    last: piece == usize::MAX,
                })
            })
        }
    }

    struct Set {
        feeds: Arc<Feeds<u8, usize>>,
        told: Arc<Told>,
        reads: Arc<AtomicUsize>,
        closing: Arc<Closing>,
    }

    impl Set {
        fn new() -> Self {
            let closing = Arc::new(Closing::default());
            Self {
                feeds: Arc::default(),
                told: Arc::new(Told::new(Budget::new(1 << 20), Arc::clone(&closing))),
                reads: Arc::default(),
                closing,
            }
        }

        fn join(&self) -> (Follower<usize>, mpsc::UnboundedSender<usize>) {
            let (give, pieces) = mpsc::unbounded_channel();
            let reads = Arc::clone(&self.reads);
            let follower = self.feeds.join(1, &self.told, || Given { pieces, reads });
            (follower, give)
        }
    }

    async fn piece(follower: &mut Follower<usize>) -> Option<usize> {
        match follower.next().await {
            News::Piece(piece) => Some(piece),
            News::Behind | News::Over => None,
        }
    }

    #[tokio::test]
    async fn what_many_follow_is_read_once() {
        let set = Set::new();
        let (first, give) = set.join();
        assert!(first.is_first);
        let mut followers = vec![first];
        followers.extend((0..99).map(|_| set.join().0));
        assert!(followers[1..].iter().all(|follower| !follower.is_first));
        for n in 0..5 {
            give.send(n).unwrap();
            for follower in &mut followers {
                assert_eq!(piece(follower).await, Some(n));
            }
        }
        assert_eq!(set.reads.load(Relaxed), 5);
        give.send(usize::MAX).unwrap();
        for follower in &mut followers {
            assert_eq!(piece(follower).await, Some(usize::MAX));
            assert!(matches!(follower.next().await, News::Over));
        }
        assert!(set.feeds.feeds().is_empty());
    }

    #[tokio::test]
    async fn who_is_too_slow_is_told_so_and_holds_nobody_up() {
        let set = Set::new();
        let ((mut quick, give), (mut slow, _)) = (set.join(), set.join());
        for n in 0..3 * BEHIND_MAX {
            give.send(n).unwrap();
            assert_eq!(piece(&mut quick).await, Some(n));
        }
        assert!(matches!(slow.next().await, News::Behind));
        assert_eq!(piece(&mut slow).await, Some(2 * BEHIND_MAX));
    }

    #[tokio::test]
    async fn a_feed_that_nobody_follows_ends() {
        let set = Set::new();
        let (follower, give) = set.join();
        drop(follower);
        give.closed().await;
        let (again, _give) = set.join();
        assert!(again.is_first);
        let feeds = set.feeds.feeds().len();
        assert_eq!(feeds, 1);
    }

    #[tokio::test]
    async fn telling_has_its_price_and_ends_with_the_server() {
        let set = Set::new();
        let begun = Instant::now();
        set.told.pay(1_000, 10).await;
        assert!(begun.elapsed() + CREDIT >= 1_000 * TELL, "it is paid for");
        set.closing.close();
        set.told.pay(usize::MAX, 1).await;
        let (mut follower, _give) = set.join();
        assert!(matches!(follower.next().await, News::Over));
    }
}
