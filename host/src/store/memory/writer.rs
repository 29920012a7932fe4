//! The writer of a hub in memory, with the same face as that of SQLite.
//!
//! Its thread takes all queued changes, makes them as one transaction, and answers them. A change that fails is undone alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::outage::Outage;
use crate::store::answers::Answers;
use crate::store::backlog::Backlog;
use crate::store::faults::Commit;
use crate::store::hints::Hints;
use crate::store::live::LiveCounts;
use crate::store::memory::shared::{Gate, MemoryHub};
use crate::store::partition::Partitions;
use crate::store::space::SpaceUsed;
use crate::store::thread::{CLOSE_MAX, WriterThread, fill};
use crate::store::write::{Committed, Write};
use crate::store::writer::Writes;
use crate::store::{Faults, StoreError, WriterCounts};

/// A handle on the writer. Dropping it ends the writer after all queued changes.
pub(crate) struct MemoryWriter {
    thread: WriterThread<Box<Write>>,
    state: Arc<Mutex<State>>,
    /// As in the state, which is locked while callbacks run.
    hub: MemoryHub,
    epoch: u64,
    closing: AtomicBool,
    seen: Arc<Seen>,
}

/// What its thread shares with the handle.
#[derive(Default)]
struct Seen {
    counts: WriterCounts,
    backlog: Arc<Backlog>,
    live: LiveCounts,
    space: SpaceUsed,
    outage: Outage,
    faults: Arc<Faults>,
    gates: Arc<Gates>,
}

/// Where a test can hold up a transaction.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    /// Before it reaches the hub.
    pub(crate) commit: Gate,
    /// After a commit whose outcome is not known, before the hub is asked what became of it.
    pub(crate) look_up: Gate,
}

struct State {
    hub: MemoryHub,
    epoch: u64,
    own: Partitions,
    fenced: bool,
    counts_live: bool,
    seen: Arc<Seen>,
}

impl MemoryWriter {
    /// Starts the writer for the owner with this epoch.
    pub(super) fn start(hub: MemoryHub, epoch: u64, own: Partitions) -> Result<Self, StoreError> {
        let seen = Arc::new(Seen::default());
        let state = Arc::new(Mutex::new(State {
            hub: hub.clone(),
            epoch,
            own,
            fenced: false,
            counts_live: false,
            seen: Arc::clone(&seen),
        }));
        let of_thread = Arc::clone(&state);
        let thread = WriterThread::start_with_answers(
            "a hub in memory",
            &seen.backlog,
            move |jobs, answers| {
                work(&of_thread, &jobs, answers);
            },
        )?;
        Ok(Self {
            thread,
            state,
            hub,
            epoch,
            closing: AtomicBool::new(false),
            seen,
        })
    }

    /// Holds up transactions.
    pub(super) fn gates(&self) -> Arc<Gates> {
        Arc::clone(&self.seen.gates)
    }
}

impl Writes for MemoryWriter {
    fn queue(&self, job: Write) {
        let (bytes, faults) = (job.bytes(), &self.seen.faults);
        faults.queued.fetch_add(1, Ordering::AcqRel);
        if let Err(lost) = self.thread.send(Box::new(job)) {
            faults.queued.fetch_sub(1, Ordering::AcqRel);
            self.seen.backlog.leave(1, bytes);
            lost.answer(Err(StoreError::Closed));
        }
    }

    fn submit_or_commit(&self, job: Write) {
        let later = |job: Write| {
            self.seen.backlog.enter(job.bytes());
            self.queue(job);
        };
        // A callback that runs here and submits more finds the state locked.
        let Ok(mut state) = self.state.try_lock() else {
            return later(job);
        };
        // Queued jobs come first.
        if self.closing.load(Ordering::Acquire) || !self.seen.backlog.is_empty() {
            drop(state);
            return later(job);
        }
        state.commit(vec![job]).answer();
    }

    fn close(&self, until: Instant) {
        self.closing.store(true, Ordering::Release);
        self.thread.close(until, "a hub in memory");
    }

    fn when_sent(&self, told: Arc<dyn Fn() + Send + Sync>) {
        self.hub.tell(self.epoch, told);
    }

    fn hub_version(&self) -> i64 {
        self.hub.rows().hub.version
    }

    fn when_hub_changed(&self, told: Arc<dyn Fn(i64) + Send + Sync>) {
        self.hub.tell_changed(self.epoch, told);
    }

    fn hint(&self, hints: Hints) {
        self.hub.hint(self.epoch, &hints);
    }

    fn when_hinted(&self, told: Arc<dyn Fn(&Hints) + Send + Sync>) {
        self.hub.tell_hints(self.epoch, told);
    }

    fn live(&self) -> &LiveCounts {
        &self.seen.live
    }

    fn space(&self) -> &SpaceUsed {
        &self.seen.space
    }

    fn counts(&self) -> &WriterCounts {
        &self.seen.counts
    }

    fn backlog(&self) -> &Backlog {
        &self.seen.backlog
    }

    fn fails(&self) -> bool {
        self.seen.outage.lasts()
    }

    fn faults(&self) -> &Arc<Faults> {
        &self.seen.faults
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        self.close(Instant::now() + CLOSE_MAX);
    }
}

/// The loop of the writer's thread.
fn work(state: &Mutex<State>, jobs: &Receiver<Box<Write>>, answers: &Answers) {
    let mut ahead = None;
    while let Some(first) = ahead.take().or_else(|| jobs.recv().ok()) {
        let (bytes, mut batch) = (first.bytes(), vec![*first]);
        let bytes = fill(&mut batch, bytes, || jobs.try_recv().ok().map(|next| *next));
        let count = batch.len();
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let faults = &state.seen.faults;
        faults.queued.fetch_sub(count as u64, Ordering::AcqRel);
        faults.taken.fetch_add(count as u64, Ordering::AcqRel);
        let committed = state.commit(batch);
        ahead = jobs.try_recv().ok();
        answers.give(committed, bytes, ahead.is_some());
    }
}

impl State {
    fn commit(&mut self, mut batch: Vec<Write>) -> Committed {
        let (begun, seen) = (Instant::now(), Arc::clone(&self.seen));
        let results = match self.try_commit(&mut batch) {
            Ok(results) => {
                let (counts, count) = (&seen.counts, batch.len() as u64);
                let micros = begun.elapsed().as_micros();
                counts
                    .micros
                    .record(u64::try_from(micros).unwrap_or(u64::MAX));
                counts.batches.record(count);
                counts.commits.fetch_add(1, Ordering::Relaxed);
                counts.jobs.fetch_add(count, Ordering::Relaxed);
                seen.outage.succeeded();
                results
            }
            Err(error) => {
                if !matches!(error, StoreError::Conflict) {
                    seen.outage.failed();
                }
                batch.iter().map(|_| Err(error.clone())).collect()
            }
        };
        if self.counts_live {
            let made = batch.iter().zip(&results);
            let made = made.filter(|(_, result)| result.is_ok());
            seen.live.add(made.map(|(job, _)| job.live()));
        }
        Committed::new(batch, results)
    }

    /// Makes the batch as one transaction.
    fn try_commit(
        &mut self,
        batch: &mut [Write],
    ) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        let seen = Arc::clone(&self.seen);
        seen.gates.commit.pass();
        let (number, results, outcome, sent, changed, own) = {
            let mut rows = self.hub.rows();
            rows.own = self.own;
            if self.fenced || !rows.is_owned_by(self.epoch) {
                self.fenced = true;
                return Err(StoreError::Fenced);
            }
            if seen.live.is_wanted() && !self.counts_live {
                seen.live.set(rows.count_live());
                self.counts_live = true;
            }
            // Rows are shared with the copy until they are changed.
            let before = rows.clone();
            let now = batch.iter().map(Write::now).max().unwrap_or_default();
            let number = rows.number + 1;
            rows.begin(number, now);
            let mut results = Vec::with_capacity(batch.len());
            for job in batch.iter_mut() {
                rows.mark();
                let made = match job.is_outdated(rows.hub.version) {
                    true => Err(StoreError::Conflict),
                    false => seen.faults.run(|| job.run(&mut *rows)),
                };
                if made.is_err() {
                    rows.undo();
                }
                results.push(made);
            }
            let epoch = self.epoch;
            rows.hub.commits.insert(epoch, number);
            if let [Err(error)] = &results[..] {
                *rows = before;
                return Err(error.clone());
            }
            let (sent, own) = (rows.sent_now(), rows.own);
            let changed = rows.changes_hub();
            rows.hub.version += i64::from(changed);
            let changed = changed.then_some(rows.hub.version);
            rows.forget_undo();
            let outcome = seen.faults.commit();
            if outcome == Commit::Lost {
                *rows = before;
            } else if seen.space.is_wanted() {
                seen.space.publish(rows.pages());
            }
            (number, results, outcome, sent, changed, own)
        };
        if outcome != Commit::Lost {
            self.hub.was_sent(&sent);
            changed
                .into_iter()
                .for_each(|version| self.hub.was_changed(version));
        }
        let results = match outcome {
            Commit::Made => results,
            Commit::Lost | Commit::Unheard => self.look_up(number, results)?,
        };
        self.own = own;
        Ok(results)
    }

    /// Finds out whether a commit that reported an error happened.
    fn look_up(
        &mut self,
        number: u64,
        results: Vec<Result<(), StoreError>>,
    ) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        self.seen.gates.look_up.pass();
        let mut rows = self.hub.rows();
        rows.own = self.own;
        if !rows.is_owned_by(self.epoch) {
            self.fenced = true;
            return Err(StoreError::Fenced);
        }
        if rows.hub.commits.get(&self.epoch) >= Some(&number) {
            Ok(results)
        } else {
            Err(self.seen.faults.failure())
        }
    }
}
