//! Callbacks of the embedding program in a host and its clients that panic or do not return.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::{Client, Clock, Filter, Host, OnJump, SystemClock, Timestamp};

/// Longer than a shutdown takes in tests, with the additional time of its steps.
const AT_ONCE: Duration = Duration::from_secs(20);

async fn host(dir: &tempfile::TempDir) -> Host {
    Host::builder().data_dir(dir.path()).start().await.unwrap()
}

/// Runs each operation that reports its progress, with a callback that calls `does`.
async fn all_that_tell(dir: &tempfile::TempDir, client: &Client, does: fn()) {
    let found = client.verify().on_progress(move |_, _| does()).await;
    assert!(found.unwrap().is_sound());
    let copy = dir.path().join("copy");
    client.backup(&copy, move |_| does()).await.unwrap();
    let (elsewhere, name) = (dir.path().join("elsewhere"), "restored");
    let restored = Client::restore(elsewhere, name, copy, move |_| does()).await;
    assert_eq!(restored.unwrap().task_hub(), name);
    let purged = client
        .purge_where(Filter::new())
        .on_progress(move |_| does());
    assert_eq!(purged.await.unwrap().done, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_of_progress_may_panic() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(&dir).await;
    all_that_tell(&dir, &host.client(), || panic!("on purpose")).await;
    host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_does_not_wait_for_who_looks_on() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(&dir).await;
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let client = host.client();
    let copied = client.backup(dir.path().join("copy"), move |_| {
        let _ = held.lock().unwrap().recv();
    });
    let limited = tokio::time::timeout(AT_ONCE, copied).await;
    limited.expect("the copy ends").unwrap();
    drop(release);
    host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_stops_though_its_listener_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = host(&dir).await;
    host.stop_listening().await;
    let (stop, _stopped) = oneshot::channel();
    host.listener = Some((stop, tokio::spawn(std::future::pending())));
    let stopping = Instant::now();
    host.shut_down().await;
    assert!(stopping.elapsed() < AT_ONCE, "{:?}", stopping.elapsed());
    // The hub is released nevertheless.
    self::host(&dir).await.shut_down().await;
}

/// A clock that blocks all its callers once the flag is set.
#[derive(Clone, Default)]
struct Stuck(Arc<AtomicBool>);

impl Stuck {
    fn asked(&self) {
        while self.0.load(Ordering::Acquire) {
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl Clock for Stuck {
    fn now(&self) -> Timestamp {
        self.asked();
        SystemClock.now()
    }

    fn sleep_until(&self, at: Timestamp) -> Option<Duration> {
        self.asked();
        SystemClock.sleep_until(at)
    }

    fn on_jump(&self, _: OnJump) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_stops_though_its_clock_does_not_return() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Stuck::default();
    let host = Host::builder().data_dir(dir.path()).clock(clock.clone());
    let host = host.start().await.unwrap();
    clock.0.store(true, Ordering::Release);
    let stopping = Instant::now();
    host.shut_down().await;
    assert!(stopping.elapsed() < AT_ONCE, "{:?}", stopping.elapsed());
    clock.0.store(false, Ordering::Release);
}

/// A clock that panics on every call.
struct Panics;

impl Clock for Panics {
    fn now(&self) -> Timestamp {
        panic!("on purpose")
    }

    fn sleep_until(&self, _: Timestamp) -> Option<Duration> {
        panic!("on purpose")
    }

    fn on_jump(&self, _: OnJump) {
        panic!("on purpose")
    }

    fn passed(&self) -> Option<Duration> {
        panic!("on purpose")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_starts_and_stops_with_a_clock_that_panics() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::builder().data_dir(dir.path()).clock(Panics);
    let host = host.start().await.unwrap();
    assert!(host.client().verify().await.unwrap().is_sound());
    host.shut_down().await;
}
