//! The runtime on which connections live, and waiting for it from any thread.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::shortage::{Resource, Shortage};
use crate::store::StoreError;

/// Threads of the runtime. They only move bytes between sockets and the threads that wait.
const THREADS: usize = 2;

/// A runtime that all hubs of a process share, for as long as one of them is open.
#[derive(Debug)]
pub(super) struct Runtime(Option<tokio::runtime::Runtime>);

impl Runtime {
    /// The runtime of this process; started if there is none.
    ///
    /// # Errors
    /// [`StoreError::Lacks`] if its threads cannot be started.
    pub(super) fn shared() -> Result<Arc<Self>, StoreError> {
        static SHARED: Mutex<Weak<Runtime>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = shared.upgrade() {
            return Ok(runtime);
        }
        has_threads()?;
        let built = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("perennial-postgres")
            .enable_all()
            .build();
        let built = built.map_err(|error| lacks(&error))?;
        let runtime = Arc::new(Self(Some(built)));
        *shared = Arc::downgrade(&runtime);
        Ok(runtime)
    }

    /// Runs a future on the runtime. It is left to itself, unless the caller ends it.
    pub(super) fn spawn(
        &self,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Option<JoinHandle<()>> {
        self.0.as_ref().map(|runtime| runtime.spawn(future))
    }
}

fn lacks(error: &std::io::Error) -> StoreError {
    let resource = Resource::of_io(error);
    let message = format!("could not start the threads for PostgreSQL: {error}");
    StoreError::Lacks(Shortage::new(resource, message))
}

/// Whether as many threads can be started as the runtime has: tokio panics if it cannot start one, and then waits for ever for the others.
fn has_threads() -> Result<(), StoreError> {
    let mut threads = Vec::new();
    // Each waits until all have begun, so that they are there at the same time.
    let (lets, goes_on) = std::sync::mpsc::channel::<()>();
    let goes_on = Arc::new(Mutex::new(goes_on));
    let mut result = Ok(());
    for _ in 0..=THREADS {
        let goes_on = Arc::clone(&goes_on);
        let waits = move || _ = goes_on.lock().map(|goes_on| goes_on.recv());
        match std::thread::Builder::new().spawn(waits) {
            Ok(thread) => threads.push(thread),
            Err(error) => result = Err(lacks(&error)),
        }
    }
    drop(lets);
    threads.into_iter().for_each(|thread| drop(thread.join()));
    result
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // The last hub may be closed on a thread of another runtime, which must not wait for this one.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits for a future on this thread, which may belong to any runtime. `None` after this time.
///
/// The future must not need a runtime, as those of a connection's requests do not: it is polled here.
pub(super) fn wait<T>(within: Duration, future: impl Future<Output = T>) -> Option<T> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    // A task of tokio that waits here has a budget, which only its end would renew.
    let mut future = pin!(tokio::task::unconstrained(future));
    let begun = Instant::now();
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return Some(result);
        }
        let left = within.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return None;
        }
        std::thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_of_another_runtime_can_wait() {
        let runtime = Runtime::shared().unwrap();
        let of_caller = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let found = of_caller.block_on(async {
            let (tell, told) = tokio::sync::oneshot::channel();
            runtime.spawn(async {
                let _ = tell.send(3);
            });
            let run = wait(Duration::from_secs(60), told).unwrap().ok();
            // More than the budget of a task of tokio.
            let (send, mut receive) = tokio::sync::mpsc::channel(1_000);
            for number in 0..1_000 {
                send.send(number).await.unwrap();
            }
            let all = async move {
                let mut count = 0;
                while count < 1_000 && receive.recv().await.is_some() {
                    count += 1;
                }
                count
            };
            drop(runtime);
            (run, wait(Duration::from_secs(60), all))
        });
        assert_eq!(found, (Some(3), Some(1_000)));
        assert_eq!(wait(Duration::ZERO, std::future::pending::<()>()), None);
    }
}
