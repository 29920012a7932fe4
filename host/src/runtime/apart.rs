//! Runs closures that compute apart from the async runtime.
//!
//! Each poll waits for a permit of the processors, and runs on one of tokio's blocking threads. So it does not block the runtime's own
//! threads, which run the host's tasks, timers and requests.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Instant;

use futures::future::BoxFuture;
use futures::task::AtomicWaker;

use crate::engine::workers::processors::{Pace, Permit, Turn};

/// Polls a quick future in place, and measures whether it still is quick.
pub(super) async fn paced<F: Future>(running: F, pace: Arc<Pace>) -> F::Output {
    let mut running = pin!(running);
    std::future::poll_fn(|context| {
        let begun = Instant::now();
        let polled = running.as_mut().poll(context);
        pace.took(begun.elapsed());
        polled
    })
    .await
}

/// Runs a future that may compute. If it is dropped while it is being polled, the future is dropped after that poll.
pub(super) struct Apart<T: Send + 'static> {
    turn: Turn,
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    stage: Mutex<Stage<T>>,
    /// Whether it was woken and must be polled.
    woken: AtomicBool,
    outer: AtomicWaker,
    pace: Arc<Pace>,
}

enum Stage<T> {
    Rests(BoxFuture<'static, T>),
    /// A blocking thread was asked to poll it.
    Asked(BoxFuture<'static, T>),
    Polled,
    /// It ended with this result, or with this panic.
    Ended(std::thread::Result<T>),
    /// It was dropped.
    Over,
}

impl<T: Send + 'static> Apart<T> {
    pub(super) fn new(
        running: impl Future<Output = T> + Send + 'static,
        turn: Turn,
        pace: Arc<Pace>,
    ) -> Self {
        let inner = Inner {
            stage: Mutex::new(Stage::Rests(Box::pin(running))),
            woken: AtomicBool::new(true),
            outer: AtomicWaker::new(),
            pace,
        };
        Self {
            turn,
            inner: Arc::new(inner),
        }
    }
}

impl<T: Send + 'static> Future for Apart<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.inner.outer.register(context.waker());
        let mut stage = self.inner.stage();
        match std::mem::replace(&mut *stage, Stage::Over) {
            Stage::Ended(ended) => {
                drop(stage);
                return Poll::Ready(ended.unwrap_or_else(|panic| resume_unwind(panic)));
            }
            other => *stage = other,
        }
        let rests = matches!(*stage, Stage::Rests(_));
        drop(stage);
        if rests && self.inner.woken.load(Ordering::Acquire) {
            let permit = ready!(self.turn.poll(context));
            if !self.inner.ask(permit) {
                // No thread is available: poll it here.
                self.inner.run();
            }
        }
        Poll::Pending
    }
}

impl<T: Send + 'static> Drop for Apart<T> {
    fn drop(&mut self) {
        let dropped = std::mem::replace(&mut *self.inner.stage(), Stage::Over);
        drop(dropped);
    }
}

impl<T: Send + 'static> Inner<T> {
    fn stage(&self) -> MutexGuard<'_, Stage<T>> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a blocking thread for a poll, and returns whether one will make it.
    fn ask(self: &Arc<Self>, permit: Permit) -> bool {
        let mut stage = self.stage();
        *stage = match std::mem::replace(&mut *stage, Stage::Over) {
            Stage::Rests(running) => Stage::Asked(running),
            other => other,
        };
        drop(stage);
        let this = Arc::clone(self);
        let poll = move || {
            this.run();
            drop(permit);
        };
        // Panics if the system has no thread, and there is no idle one.
        catch_unwind(AssertUnwindSafe(|| tokio::task::spawn_blocking(poll))).is_ok()
    }

    /// Polls the future once, on this thread.
    fn run(self: &Arc<Self>) {
        let mut running = {
            let mut stage = self.stage();
            match std::mem::replace(&mut *stage, Stage::Polled) {
                Stage::Asked(running) => running,
                other => return *stage = other,
            }
        };
        self.woken.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(self));
        let begun = Instant::now();
        let poll = || running.as_mut().poll(&mut Context::from_waker(&waker));
        let polled = catch_unwind(AssertUnwindSafe(poll));
        self.pace.took(begun.elapsed());
        let next = match polled {
            Ok(Poll::Pending) => Stage::Rests(running),
            Ok(Poll::Ready(output)) => Stage::Ended(Ok(output)),
            Err(panic) => Stage::Ended(Err(panic)),
        };
        let ended = matches!(next, Stage::Ended(_));
        let mut stage = self.stage();
        if matches!(*stage, Stage::Over) {
            drop(stage);
            return drop(next);
        }
        *stage = next;
        drop(stage);
        if ended || self.woken.load(Ordering::Acquire) {
            self.outer.wake();
        }
    }
}

impl<T: Send + 'static> Wake for Inner<T> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.outer.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::engine::executor::Share;

    fn runtime() -> tokio::runtime::Runtime {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(1).enable_time().build().unwrap()
    }

    fn apart<T: Send>(running: impl Future<Output = T> + Send + 'static) -> Apart<T> {
        Apart::new(running, Share::default().turn(), Arc::new(Pace::unknown()))
    }

    /// Tells when it is dropped.
    struct Tells(Option<oneshot::Sender<()>>);

    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.take().map(|tell| tell.send(()));
        }
    }

    #[test]
    fn one_that_blocks_its_thread_keeps_no_thread_of_the_runtime() {
        let runtime = runtime();
        let (tell, told) = std::sync::mpsc::channel();
        let blocks = runtime.spawn(apart(async move { told.recv() }));
        // The only thread of the runtime is free for it.
        let tells = runtime.spawn(async move { tell.send(7) });
        runtime.block_on(tells).unwrap().unwrap();
        assert_eq!(runtime.block_on(blocks).unwrap(), Ok(7));
    }

    #[test]
    fn one_that_waits_is_polled_again_whenever_it_is_woken() {
        let runtime = runtime();
        let running = async {
            for n in 0..200 {
                if n % 100 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                // Wakes itself while it is polled.
                tokio::task::yield_now().await;
            }
            tokio::spawn(async { 7 }).await.unwrap()
        };
        assert_eq!(runtime.block_on(runtime.spawn(apart(running))).unwrap(), 7);
    }

    #[test]
    fn a_panic_is_that_of_its_task() {
        let runtime = runtime();
        let task = runtime.spawn(apart(async { panic!("on purpose") }));
        assert!(runtime.block_on(task).unwrap_err().is_panic());
    }

    #[test]
    fn one_that_nobody_waits_for_is_dropped_after_its_poll() {
        let runtime = runtime();
        let (tell, dropped) = oneshot::channel();
        let (begin, begun) = oneshot::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let task = runtime.spawn(apart(async move {
            let _tells = Tells(Some(tell));
            begin.send(()).unwrap();
            ended.recv().unwrap();
            std::future::pending::<()>().await;
        }));
        runtime.block_on(begun).unwrap();
        task.abort();
        assert!(runtime.block_on(task).unwrap_err().is_cancelled());
        end.send(()).unwrap();
        assert_eq!(runtime.block_on(dropped), Ok(()));
    }

    #[test]
    fn one_that_waits_is_dropped_at_once() {
        let (tell, mut dropped) = oneshot::channel();
        let tells = Tells(Some(tell));
        let waits = apart(async move {
            let _tells = tells;
            std::future::pending::<()>().await;
        });
        drop(waits);
        assert_eq!(dropped.try_recv(), Ok(()));
    }
}
