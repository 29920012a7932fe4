//! Answers the changes of committed transactions, while the writer makes the next one.
//!
//! What follows a change runs where it is answered: memory is brought up to date, and other instances are woken. A writer for which more
//! changes wait leaves that to a second thread, so that it does not delay them. A writer for which none wait answers by itself, because that
//! is sooner than waking another thread. Either way changes are answered one after the other, in the order of their transactions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SendError, Sender, channel};
use std::thread::JoinHandle;

use crate::store::StoreError;
use crate::store::backlog::Backlog;
use crate::store::write::Write;

/// The changes of a transaction, and what each is answered.
pub(in crate::store) struct Committed {
    batch: Vec<Write>,
    results: Vec<Result<(), StoreError>>,
}

impl Committed {
    /// Each change of the batch has a result.
    pub(in crate::store) fn new(batch: Vec<Write>, results: Vec<Result<(), StoreError>>) -> Self {
        debug_assert_eq!(batch.len(), results.len());
        Self { batch, results }
    }

    /// Answers all of them on this thread.
    pub(in crate::store) fn answer(self) {
        for (job, result) in self.batch.into_iter().zip(self.results) {
            // A callback may panic; the others are still called.
            if catch_unwind(AssertUnwindSafe(|| job.answer(result))).is_err() {
                tracing::error!("what follows a change panicked");
            }
        }
    }
}

/// What is to be answered, and the room that it has in the backlog until then: jobs and bytes.
type Given = (Committed, usize, usize);

/// The end of a writer's thread to which it gives what it has committed.
pub(in crate::store) struct Answers {
    given: Sender<Given>,
    /// Transactions that the other thread has not answered yet. Only the writer adds to it.
    pending: Arc<AtomicUsize>,
    backlog: Arc<Backlog>,
}

impl Answers {
    /// Starts the thread, which ends once it has answered everything after [`Answers`] is dropped.
    ///
    /// # Errors
    /// If the system has no thread.
    pub(in crate::store) fn start(
        backlog: Arc<Backlog>,
    ) -> Result<(Self, JoinHandle<()>), std::io::Error> {
        let (given, taken) = channel();
        let pending = Arc::new(AtomicUsize::new(0));
        let answers = Self {
            given,
            pending: Arc::clone(&pending),
            backlog: Arc::clone(&backlog),
        };
        let thread = std::thread::Builder::new()
            .name("perennial-answers".to_owned())
            .spawn(move || work(&taken, &pending, &backlog))?;
        Ok((answers, thread))
    }

    /// Answers the changes of a transaction, and frees the room that they had in the backlog. `more` tells whether other changes wait for the
    /// writer.
    pub(in crate::store) fn give(&self, committed: Committed, bytes: usize, more: bool) {
        let jobs = committed.batch.len();
        if !more && self.pending.load(Ordering::Acquire) == 0 {
            committed.answer();
            return self.backlog.leave(jobs, bytes);
        }
        self.pending.fetch_add(1, Ordering::AcqRel);
        if let Err(SendError((committed, jobs, bytes))) = self.given.send((committed, jobs, bytes))
        {
            // The thread ends only with the process or after this handle.
            committed.answer();
            self.backlog.leave(jobs, bytes);
        }
    }
}

/// The loop of the thread.
fn work(taken: &Receiver<Given>, pending: &AtomicUsize, backlog: &Backlog) {
    while let Ok((committed, jobs, bytes)) = taken.recv() {
        committed.answer();
        backlog.leave(jobs, bytes);
        pending.fetch_sub(1, Ordering::AcqRel);
    }
}
