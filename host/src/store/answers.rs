//! Answers the changes of committed transactions, while the writer makes the next one.
//!
//! What follows a change runs where it is answered: memory is brought up to date, and other instances are woken. A writer for which more
//! changes wait leaves that to a second thread, so that it does not delay them. A writer for which none wait answers by itself, because that
//! is sooner than waking another thread. Either way changes are answered one after the other, in the order of their transactions.
//!
//! The writer of a file answers all by itself: there it made no more instances, and a fifth more transactions, because each was smaller.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SendError, Sender, channel};
use std::thread::JoinHandle;

use crate::store::backlog::Backlog;
use crate::store::write::Committed;

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
        let jobs = committed.len();
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use perennial_core::Timestamp;

    use super::*;
    use crate::store::change::Change;
    use crate::store::types::InstanceKey;
    use crate::store::write::Write;

    type Said = Arc<Mutex<Vec<u32>>>;

    /// A transaction of one change, whose answer waits until `goes_on` is dropped.
    fn committed(number: u32, said: &Said, goes_on: Option<Receiver<()>>) -> Committed {
        let said = Arc::clone(said);
        let change = Change::Post {
            key: InstanceKey(1),
            messages: Vec::new(),
        };
        let job = Write::new(change, Timestamp(0), move |_, _| {
            let _ = goes_on.map(|goes_on| goes_on.recv());
            said.lock().unwrap().push(number);
            assert!(number != 2, "on purpose");
        });
        Committed::new(vec![job], vec![Ok(())])
    }

    #[test]
    fn answers_stay_in_order_and_count_as_waiting_until_they_are_given() {
        let (backlog, said) = (Arc::new(Backlog::default()), Said::default());
        let (answers, thread) = Answers::start(Arc::clone(&backlog)).unwrap();
        (0..4).for_each(|_| backlog.enter(1));
        let (lets, goes_on) = channel();
        answers.give(committed(1, &said, Some(goes_on)), 1, true);
        // No other change waits, and yet it comes after the first. It panics.
        answers.give(committed(2, &said, None), 1, false);
        answers.give(committed(3, &said, None), 1, true);
        assert!(said.lock().unwrap().is_empty());
        drop(lets);
        while answers.pending.load(Ordering::Acquire) > 0 {
            std::thread::yield_now();
        }
        assert!(!backlog.is_empty());
        // The thread has nothing to do, and no change waits: this one answers.
        answers.give(committed(4, &said, None), 1, false);
        assert_eq!(*said.lock().unwrap(), [1, 2, 3, 4]);
        assert!(backlog.is_empty());
        drop(answers);
        thread.join().unwrap();
    }
}
