//! Feeds: each followed history is read and serialized once, for all of its followers.
//!
//! Invariants: the cost of followers is bounded, whether or not they are up to date: the more followers and news there are, the larger and
//! less frequent the pieces become; a feed holds a bounded number of pieces. A follower that is too slow, or starts later, first gets
//! pieces that were read for others, and else reads the hub.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use axum::body::Bytes;
use tokio::sync::{Notify, broadcast};

use crate::budget::{Budget, Permit};
use crate::http::bill::{Bill, Held, on_bill};
use crate::http::body::kept;
use crate::http::closing::Closing;
use crate::limits::http as limits;

/// Recent pieces of a feed, kept for followers that are behind.
const RECENT_MAX: usize = 8;

/// How long to wait for the budget before checking again for shutdown.
const ROOM_TIMEOUT: Duration = Duration::from_secs(1);

/// A future of the next piece.
pub(super) type NextPiece<'a, P> = Pin<Box<dyn Future<Output = Option<Next<P>>> + Send + 'a>>;

/// Reads the pieces of a feed.
pub(super) trait Source: Send + 'static {
    /// A piece of news for followers.
    type Piece: Clone + Send + 'static;

    /// Waits for the next piece, and until earlier ones are paid. `None` at the end.
    fn next<'a>(&'a mut self, told: &'a Told) -> NextPiece<'a, Self::Piece>;
}

/// A piece, its size, and whether it is the last.
pub(super) struct Next<P> {
    pub(super) piece: P,
    pub(super) bytes: usize,
    pub(super) last: bool,
}

/// Shared by all feeds of a server.
#[derive(Debug)]
pub(in crate::http) struct Told {
    budget: Budget,
    /// A part of `budget`, for recent pieces.
    recent: Budget,
    closing: Arc<Closing>,
    pub(in crate::http) bill: Arc<Bill>,
}

impl Told {
    pub(in crate::http) fn new(budget: Budget, closing: Arc<Closing>) -> Self {
        let recent = limits::RECENT_BYTES.min(budget.total() / 8);
        Self {
            budget,
            recent: Budget::new(recent),
            bill: Arc::new(Bill::new(Arc::clone(&closing))),
            closing,
        }
    }

    pub(super) fn closing(&self) -> Arc<Closing> {
        Arc::clone(&self.closing)
    }

    /// Bytes for followers; large ones take their size from the budget, and give up the turn if they must wait for it. `None` at shutdown.
    pub(super) async fn piece(&self, text: String, turn: &mut Option<Held<'_>>) -> Option<Bytes> {
        // Copied, because the string has spare capacity that the budget would not count.
        let text = Bytes::copy_from_slice(text.as_bytes());
        if text.len() <= limits::FREE_BYTES {
            return Some(text);
        }
        // A piece larger than the whole budget would wait for ever.
        let size = (text.len() as u64).min(self.budget.total());
        if let Ok(permit) = self.budget.try_take(size) {
            return Some(kept(text, permit));
        }
        *turn = None;
        loop {
            if self.closing.is_closed() {
                return None;
            }
            if let Ok(permit) = self.budget.take(size, ROOM_TIMEOUT).await {
                return Some(kept(text, permit));
            }
        }
    }
}

/// Recent pieces of a feed, and pieces that were read for one follower that was behind, for others.
#[derive(Debug)]
pub(super) struct Recent<P>(Mutex<VecDeque<(P, Permit)>>);

impl<P> Default for Recent<P> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<P: Clone> Recent<P> {
    /// The latest piece that `of` accepts.
    pub(super) fn find<T>(&self, of: impl FnMut(&P) -> Option<T>) -> Option<T> {
        self.pieces()
            .iter()
            .rev()
            .map(|(piece, _)| piece)
            .find_map(of)
    }

    /// Keeps a piece if the budget allows it; newer pieces replace it.
    pub(super) fn keep(&self, piece: &P, bytes: usize, told: &Told) {
        let mut pieces = self.pieces();
        while pieces.len() >= RECENT_MAX {
            pieces.pop_front();
        }
        loop {
            // Small pieces count as a kilobyte, for their overhead.
            match told.recent.try_take(bytes.max(1 << 10) as u64) {
                Ok(permit) => return pieces.push_back((piece.clone(), permit)),
                Err(_) => {
                    if pieces.pop_front().is_none() {
                        return;
                    }
                }
            }
        }
    }

    fn pieces(&self) -> MutexGuard<'_, VecDeque<(P, Permit)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The feeds by their subject.
#[derive(Debug)]
pub(in crate::http) struct Feeds<K, P>(Mutex<HashMap<K, Weak<Feed<P>>>>);

impl<K, P> Default for Feeds<K, P> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// A feed. Its reading task owns it.
#[derive(Debug)]
struct Feed<P> {
    tell: broadcast::Sender<P>,
    recent: Arc<Recent<P>>,
    /// Notified when a follower leaves.
    left: Arc<Notify>,
}

/// A subscriber of a feed.
pub(super) struct Follower<P> {
    told: Option<broadcast::Receiver<P>>,
    left: Arc<Notify>,
    /// The recent pieces, shared by all followers of the feed.
    pub(super) recent: Arc<Recent<P>>,
    /// Whether this follower started the feed, and so receives everything from the source's start.
    pub(super) is_first: bool,
}

/// What a follower receives.
pub(super) enum News<P> {
    Piece(P),
    /// The follower missed some pieces.
    Behind,
    /// The feed has ended.
    Over,
}

impl<K, P> Feeds<K, P>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    P: Clone + Send + 'static,
{
    /// Joins the feed of a key, or starts one.
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
                recent: Arc::clone(&feed.recent),
                is_first: false,
            };
        }
        let (tell, receiver) = broadcast::channel(limits::FOLLOWER_PIECES);
        let (left, recent) = (Arc::<Notify>::default(), Arc::<Recent<P>>::default());
        let follower = Follower {
            told: Some(receiver),
            left: Arc::clone(&left),
            recent: Arc::clone(&recent),
            is_first: true,
        };
        let feed = Arc::new(Feed { tell, recent, left });
        feeds.insert(key.clone(), Arc::downgrade(&feed));
        drop(feeds);
        let (all, told, source) = (Arc::clone(self), Arc::clone(told), source());
        // The task ends with its source, with its last follower, or at shutdown.
        tokio::spawn(async move {
            let run = all.run(&key, feed, source, &told);
            on_bill(run, || Some(&*told.bill)).await;
        });
        follower
    }

    fn feeds(&self) -> MutexGuard<'_, HashMap<K, Weak<Feed<P>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads and sends pieces until the source ends or there are no followers.
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
            feed.recent.keep(&next.piece, next.bytes, told);
            told.bill.expect(feed.tell.receiver_count(), next.bytes);
            // The last follower may have left meanwhile.
            let _ = feed.tell.send(next.piece);
            if next.last {
                break;
            }
        }
        self.forget(key, &feed, usize::MAX);
    }

    /// Removes a feed, so that no follower can join it, unless it has more than `followers_max` followers.
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
    /// Waits for the next piece.
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
        // Unsubscribe before the feed counts its followers.
        self.told = None;
        self.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use tokio::sync::mpsc;

    /// Returns the given pieces, and counts the reads.
    struct Given {
        pieces: mpsc::UnboundedReceiver<usize>,
        reads: Arc<AtomicUsize>,
    }

    impl Source for Given {
        type Piece = usize;

        fn next<'a>(&'a mut self, _: &'a Told) -> NextPiece<'a, usize> {
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
        for n in 0..3 * limits::FOLLOWER_PIECES {
            give.send(n).unwrap();
            assert_eq!(piece(&mut quick).await, Some(n));
        }
        assert!(matches!(slow.next().await, News::Behind));
        assert_eq!(piece(&mut slow).await, Some(2 * limits::FOLLOWER_PIECES));
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
    async fn a_feed_ends_with_the_server() {
        let set = Set::new();
        set.closing.close();
        let (mut follower, _give) = set.join();
        assert!(matches!(follower.next().await, News::Over));
    }

    #[tokio::test]
    async fn what_was_told_is_kept_for_those_who_are_behind_and_no_longer_than_they_follow() {
        let set = Set::new();
        let (mut follower, give) = set.join();
        for n in 0..2 * RECENT_MAX {
            give.send(n).unwrap();
            piece(&mut follower).await;
        }
        let (late, _) = set.join();
        let find = |wanted: usize| late.recent.find(|piece| (*piece == wanted).then_some(()));
        assert!(find(2 * RECENT_MAX - 1).is_some());
        assert!(find(RECENT_MAX).is_some());
        assert!(find(RECENT_MAX - 1).is_none(), "only the last ones");
        assert!(set.told.recent.used() > 0);
        let kept = set.told.recent.total();
        let too_much = usize::try_from(kept).unwrap() + 1;
        late.recent.keep(&1, too_much, &set.told);
        assert_eq!(set.told.recent.used(), 0, "others gave way in vain");
        late.recent.keep(&1, 1, &set.told);
        drop((follower, late));
        give.closed().await;
        assert_eq!(set.told.recent.used(), 0);
    }

    #[tokio::test]
    async fn a_piece_holds_what_it_counts() {
        let budget = Budget::new(1 << 20);
        let told = Told::new(budget.clone(), Arc::default());
        let mut text = String::with_capacity(1 << 20);
        text.push_str(&"x".repeat(100 << 10));
        let piece = told.piece(text, &mut None).await.unwrap();
        assert_eq!(budget.used(), piece.len() as u64);
        drop(piece);
        assert_eq!(budget.used(), 0);
    }
}
