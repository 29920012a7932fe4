//! The thread of a writer, with the queue of its jobs.

#[cfg(any(test, feature = "postgres"))]
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, Sender, channel};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread::{JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use crate::limits::{TRANSACTION_BYTES, TRANSACTION_CHANGES};
use crate::store::StoreError;
#[cfg(any(test, feature = "postgres"))]
use crate::store::answers::Answers;
#[cfg(any(test, feature = "postgres"))]
use crate::store::backlog::Backlog;
use crate::store::write::Write;

/// How long dropping the last handle of a writer waits for its end.
pub(in crate::store) const CLOSE_MAX: Duration = Duration::from_secs(30);

/// A thread that works on queued jobs, in their order, until it is closed and no job is left.
pub(in crate::store) struct WriterThread<J> {
    queue: RwLock<Option<Sender<J>>>,
    thread: Mutex<Option<Running>>,
}

/// The thread, and the signal of its end.
struct Running {
    handle: JoinHandle<()>,
    /// The thread that answers for it, if there is one.
    answering: Option<ThreadId>,
    ended: Receiver<()>,
}

impl<J: Send + 'static> WriterThread<J> {
    /// Starts a thread for a hub, which has the queue.
    ///
    /// # Errors
    /// [`StoreError::File`] if the system has no thread.
    pub(in crate::store) fn start(
        hub: &str,
        work: impl FnOnce(Receiver<J>) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (queue, jobs) = channel();
        let (ending, ended) = channel();
        let started = std::thread::Builder::new()
            .name("perennial-writer".to_owned())
            .spawn(move || {
                let _ending: Sender<()> = ending;
                work(jobs);
            });
        let handle = started.map_err(no_thread(hub))?;
        Ok(Self {
            queue: RwLock::new(Some(queue)),
            thread: Mutex::new(Some(Running {
                handle,
                answering: None,
                ended,
            })),
        })
    }

    /// As [`start`](Self::start), with a thread that answers for it, which ends first.
    #[cfg(any(test, feature = "postgres"))]
    pub(in crate::store) fn start_with_answers(
        hub: &str,
        backlog: &Arc<Backlog>,
        work: impl FnOnce(Receiver<J>, &Answers) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (answers, answerer) = Answers::start(Arc::clone(backlog)).map_err(no_thread(hub))?;
        let answering = answerer.thread().id();
        let this = Self::start(hub, move |jobs| {
            work(jobs, &answers);
            drop(answers);
            // It catches what panics in it.
            let _ = answerer.join();
        })?;
        let mut thread = this.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &mut *thread {
            running.answering = Some(answering);
        }
        drop(thread);
        Ok(this)
    }

    /// Queues a job; returns it if the thread is closed or has ended.
    pub(in crate::store) fn send(&self, job: J) -> Result<(), J> {
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
        let queue = queue.clone();
        match queue {
            Some(queue) => queue.send(job).map_err(|SendError(job)| job),
            None => Err(job),
        }
    }

    /// Lets the thread end after all queued jobs, and waits for its end, at most until `until`. `slow` is what keeps it from ending then.
    pub(in crate::store) fn close(&self, until: Instant, slow: &str) {
        let mut queue = self.queue.write().unwrap_or_else(PoisonError::into_inner);
        queue.take();
        drop(queue);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = thread.take() else {
            return;
        };
        drop(thread);
        let Running {
            handle,
            answering,
            ended,
        } = running;
        // The answer to the last job may drop the last handle.
        let here = std::thread::current().id();
        if here == handle.thread().id() || Some(here) == answering {
            return;
        }
        let left = until.saturating_duration_since(Instant::now());
        if ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
            tracing::error!(
                "{slow} does not take what is being written; the writer is left to itself"
            );
        } else if handle.join().is_err() {
            tracing::error!("the writer thread panicked");
        }
    }
}

fn no_thread(hub: &str) -> impl FnOnce(std::io::Error) -> StoreError {
    StoreError::file("could not start the writer thread for", hub)
}

/// Adds jobs to a batch while they fit into a transaction. Returns the bytes of the batch, which had `bytes`.
pub(in crate::store) fn fill(
    batch: &mut Vec<Write>,
    mut bytes: usize,
    mut next: impl FnMut() -> Option<Write>,
) -> usize {
    while batch.len() < TRANSACTION_CHANGES
        && bytes < TRANSACTION_BYTES
        && let Some(job) = next()
    {
        bytes += job.bytes();
        batch.push(job);
    }
    bytes
}
