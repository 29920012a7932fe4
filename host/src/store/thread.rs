//! The thread of a writer, with the queue of its jobs.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, Sender, channel};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::limits::{TRANSACTION_BYTES, TRANSACTION_CHANGES};
use crate::store::StoreError;
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
        let handle = started.map_err(StoreError::file(
            "could not start the writer thread for",
            hub,
        ))?;
        Ok(Self {
            queue: RwLock::new(Some(queue)),
            thread: Mutex::new(Some(Running { handle, ended })),
        })
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
        let Some(Running { handle, ended }) = thread.take() else {
            return;
        };
        drop(thread);
        // The answer to the last job may drop the last handle.
        if handle.thread().id() == std::thread::current().id() {
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
