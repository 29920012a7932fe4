//! The writer of a hub: the only thread that writes, with group commit.
//!
//! It takes all queued changes, makes them on rows in memory, and sends what they wrote as one transaction, all of it at once. It never
//! waits for more changes to arrive; those that arrive during a transaction are in the next one.
//!
//! Invariants:
//! - a change is answered with success only when its transaction is committed;
//! - a failing change does not fail the others in its batch;
//! - when a connection is lost around the end of a transaction, the writer asks the database what became of it before it answers;
//! - an owner whose lease was taken commits nothing.

mod columns;
mod commit;
mod delta;
#[cfg(test)]
pub(super) mod faults;
mod notices;
mod pipeline;
mod shared;
mod tables;

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::store::StoreError;
use crate::store::answers::Answers;
use crate::store::backlog::Backlog;
use crate::store::counts::WriterCounts;
use crate::store::hints::Hints;
use crate::store::live::LiveCounts;
use crate::store::partition::Partitions;
use crate::store::postgres::address::Address;
use crate::store::postgres::lease::Lease;
use crate::store::postgres::session::Session;
#[cfg(test)]
pub(super) use crate::store::postgres::writer::commit::COUNT_LIVE;
use crate::store::postgres::writer::commit::State;
pub(super) use crate::store::postgres::writer::commit::{SIZE, pages};
use crate::store::postgres::writer::notices::Notices;
use crate::store::postgres::writer::shared::Shared;
use crate::store::space::SpaceUsed;
use crate::store::thread::{CLOSE_MAX, WriterThread, fill};
use crate::store::write::Write;
use crate::store::writer::Writes;

/// How often an idle owner renews its lease.
const RENEW_EVERY: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 1_000 });

/// A handle on the writer. Dropping it ends the writer after all queued changes.
pub(in crate::store) struct PostgresWriter {
    thread: WriterThread<Box<Write>>,
    shared: Shared,
    address: Address,
    epoch: i64,
    /// Whether there are no other owners, so that nothing is sent.
    is_alone: bool,
    /// Told of messages of other owners.
    notices: Mutex<Option<Notices>>,
}

impl PostgresWriter {
    /// Starts the writer with its connection and the lease that was taken with it.
    pub(super) fn start(
        address: Address,
        session: Session,
        lease: Lease,
        own: Partitions,
    ) -> Result<Self, StoreError> {
        let shared = Shared::default();
        shared.version.store(lease.version, Ordering::Release);
        shared.sent.set_own(own);
        let place = address.to_string();
        let epoch = lease.epoch;
        let of_hub = address.clone();
        let mut state = State::new(address, session, lease, own, shared.clone());
        let thread =
            WriterThread::start_with_answers(&place, &shared.backlog, move |jobs, answers| {
                work(&mut state, &jobs, answers);
            })?;
        Ok(Self {
            thread,
            shared,
            address: of_hub,
            epoch,
            is_alone: own.is_all(),
            notices: Mutex::default(),
        })
    }

    /// What a test counts of it, and makes fail.
    #[cfg(test)]
    pub(super) fn watched(&self) -> &faults::Faults {
        &self.shared.faults
    }
}

impl Writes for PostgresWriter {
    fn backlog(&self) -> &Backlog {
        &self.shared.backlog
    }

    fn queue(&self, job: Write) {
        let bytes = job.bytes();
        #[cfg(test)]
        self.shared.common.queued.fetch_add(1, Ordering::AcqRel);
        if let Err(lost) = self.thread.send(Box::new(job)) {
            #[cfg(test)]
            self.shared.common.queued.fetch_sub(1, Ordering::AcqRel);
            self.shared.backlog.leave(1, bytes);
            lost.answer(Err(StoreError::Closed));
        }
    }

    /// Never commits on this thread: a transaction over a network is nothing to wait for there.
    fn submit_or_commit(&self, job: Write) {
        self.shared.backlog.enter(job.bytes());
        self.queue(job);
    }

    fn close(&self, until: Instant) {
        self.shared.closing.set();
        self.thread.close(until, "the database");
    }

    fn is_sure(&self) -> bool {
        self.shared.is_sure()
    }

    fn lease_age(&self) -> Option<Duration> {
        self.shared.lease_age()
    }

    fn hub_version(&self) -> i64 {
        self.shared.version.load(Ordering::Acquire)
    }

    fn when_hub_changed(&self, told: Arc<dyn Fn(i64) + Send + Sync>) {
        let when = &self.shared.when_changed;
        *when.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
    }

    fn when_fenced(&self, told: Box<dyn FnOnce(&StoreError) + Send>) {
        let when = &self.shared.when_fenced;
        *when.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
    }

    fn when_sent(&self, told: Arc<dyn Fn() + Send + Sync>) {
        if self.is_alone {
            return;
        }
        let sent = Arc::clone(&self.shared.sent);
        let renewed = Arc::clone(&self.shared.renewed);
        let notices = Notices::start(&self.address, self.epoch, sent, renewed, told);
        let mut kept = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        match notices {
            Ok(notices) => *kept = Some(notices),
            // Messages are looked for when something else is to do.
            Err(error) => tracing::warn!(%error, "this host is not told of what others send"),
        }
    }

    fn hint(&self, hints: Hints) {
        if !self.is_alone {
            self.shared.sent.hint(hints);
        }
    }

    fn when_hinted(&self, told: Arc<dyn Fn(&Hints) + Send + Sync>) {
        self.shared.sent.set_hinted(told);
    }

    fn live(&self) -> &LiveCounts {
        &self.shared.live
    }

    fn space(&self) -> &SpaceUsed {
        &self.shared.space
    }

    fn counts(&self) -> &WriterCounts {
        &self.shared.counts
    }

    fn fails(&self) -> bool {
        self.shared.outage.lasts()
    }

    fn refuses(&self) -> Option<StoreError> {
        self.shared.refuses()
    }

    #[cfg(test)]
    fn faults(&self) -> &Arc<crate::store::Faults> {
        &self.shared.common
    }
}

impl Drop for PostgresWriter {
    fn drop(&mut self) {
        self.close(Instant::now() + CLOSE_MAX);
    }
}

/// The loop of the writer's thread.
fn work(state: &mut State, jobs: &Receiver<Box<Write>>, answers: &Answers) {
    let mut ahead = None;
    loop {
        let next = ahead.take().map_or_else(
            || jobs.recv_timeout(state.renews_in(RENEW_EVERY)),
            Ok::<Box<Write>, _>,
        );
        match next {
            Ok(first) => {
                let (bytes, mut batch) = (first.bytes(), vec![*first]);
                let bytes = fill(&mut batch, bytes, || jobs.try_recv().ok().map(|next| *next));
                #[cfg(test)]
                state.taken(batch.len());
                let committed = state.commit(batch);
                ahead = jobs.try_recv().ok();
                answers.give(committed, bytes, ahead.is_some());
                state.hold_soon();
            }
            Err(RecvTimeoutError::Timeout) => state.renew(),
            Err(RecvTimeoutError::Disconnected) => return state.end(),
        }
    }
}

/// Writes down what a batch wrote, on its own.
#[cfg(test)]
pub(super) fn commit_delta(
    session: &Session,
    lease: &mut Lease,
    delta: &crate::store::memory::delta::Delta,
) -> Result<(), StoreError> {
    let transaction = pipeline::Transaction::of(delta, lease, 0, "a test".to_owned())?;
    let transaction = Arc::new(transaction);
    match pipeline::send(session, &transaction) {
        pipeline::Sent::Committed => {
            lease.number += 1;
            lease.version += i64::from(transaction.changes_hub);
            Ok(())
        }
        pipeline::Sent::NotClaimed(error)
        | pipeline::Sent::Refused(error)
        | pipeline::Sent::Unknown(error) => Err(error),
    }
}
