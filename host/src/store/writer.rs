//! The one way to change a hub.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::store::StoreError;
use crate::store::backlog::Backlog;
use crate::store::counts::WriterCounts;
use crate::store::hints::Hints;
use crate::store::live::LiveCounts;
use crate::store::space::SpaceUsed;
use crate::store::write::Write;

/// What a store must be able to do for the process that owns a hub. It commits changes in the order in which they were queued, many in one
/// transaction, and answers each once its transaction is durable.
pub(crate) trait Writes: Send + Sync {
    /// The bounds of what waits for the writer.
    fn backlog(&self) -> &Backlog;

    /// Queues a job whose room in the backlog is reserved.
    fn queue(&self, job: Write);

    /// Queues a job for which room must be reserved first. A store that is fast enough may commit it on this thread, and answer before it
    /// returns.
    fn submit_or_commit(&self, job: Write);

    /// Ends the writer after all queued jobs, and waits for its end, at most until `until`. Later jobs are answered with
    /// [`StoreError::Closed`](crate::store::StoreError::Closed).
    fn close(&self, until: Instant);

    /// Calls `told` with the reason when the writer finds that this process does not own the hub any more, if it looks without a change to
    /// commit. Most stores do not look.
    fn when_fenced(&self, told: Box<dyn FnOnce(&StoreError) + Send>) {
        drop(told);
    }

    /// Whether this process knows, without asking, that nobody else owns the hub by now. Nothing that is written relies on it: each transaction
    /// asks. The lock of a file is never taken from a living owner.
    fn is_sure(&self) -> bool {
        true
    }

    /// How long ago this process renewed its lease of the hub, as far as it knows without asking. A file has no lease.
    fn lease_age(&self) -> Option<Duration> {
        None
    }

    /// Calls `told` whenever something may have been sent to the partitions of this owner. A hub that is not divided has no such messages.
    fn when_sent(&self, told: Arc<dyn Fn() + Send + Sync>) {
        drop(told);
    }

    /// Tells the other owners of the hub something, soon. It may be lost.
    fn hint(&self, hints: Hints) {
        drop(hints);
    }

    /// Calls `told` with what other owners [tell](Self::hint).
    fn when_hinted(&self, told: Arc<dyn Fn(&Hints) + Send + Sync>) {
        drop(told);
    }

    /// The version of what an owner keeps of the hub in memory: names of modules, settings, keys. Each change of them has a higher one.
    fn hub_version(&self) -> i64 {
        0
    }

    /// Calls `told` with the new version when what owners keep of the hub in memory was changed, by this owner or another one. What was prepared
    /// before that and starts something is then answered with [`StoreError::Conflict`], unless it says that it knows this version. A hub with
    /// one owner has no such changes.
    fn when_hub_changed(&self, told: Arc<dyn Fn(i64) + Send + Sync>) {
        drop(told);
    }

    /// The counts of live instances, once enabled.
    fn live(&self) -> &LiveCounts;

    /// The space in use, once enabled.
    fn space(&self) -> &SpaceUsed;

    /// See [`WriterCounts`].
    fn counts(&self) -> &WriterCounts;

    /// Whether the last transaction failed.
    fn fails(&self) -> bool;

    /// Why some changes have failed lately, and will again, though others succeed. A file has a disk that can be asked whether it has room.
    fn refuses(&self) -> Option<StoreError> {
        None
    }

    /// Makes writes fail.
    #[cfg(test)]
    fn faults(&self) -> &Arc<crate::store::faults::Faults>;
}

/// A handle on the writer of a hub. Dropping it ends the writer after all queued changes.
pub(crate) struct Writer(Box<dyn Writes>);

impl Writer {
    /// The writer of a store.
    pub(in crate::store) fn new(writes: impl Writes + 'static) -> Self {
        Self(Box::new(writes))
    }

    /// Queues a job. Blocks while the backlog is full.
    pub(crate) fn submit(&self, job: Write) {
        self.0.backlog().enter(job.bytes());
        self.0.queue(job);
    }

    /// As [`submit`](Self::submit), but waits without blocking the thread.
    pub(crate) async fn submit_later(&self, job: Write) {
        self.0.backlog().enter_later(job.bytes()).await;
        self.0.queue(job);
    }

    /// As [`submit`](Self::submit), but returns the job if the backlog is full.
    pub(crate) fn try_submit(&self, job: Write) -> Option<Write> {
        if !self.0.backlog().try_enter(job.bytes()) {
            return Some(job);
        }
        self.0.queue(job);
        None
    }

    /// As [`submit`](Self::submit), but may commit on this thread, and answer before it returns.
    pub(crate) fn submit_or_commit(&self, job: Write) {
        self.0.submit_or_commit(job);
    }

    /// See [`Writes::close`].
    pub(crate) fn close(&self, until: Instant) {
        self.0.close(until);
    }

    /// See [`Writes::when_fenced`].
    pub(crate) fn when_fenced(&self, told: impl FnOnce(&StoreError) + Send + 'static) {
        self.0.when_fenced(Box::new(told));
    }

    /// See [`Writes::is_sure`].
    pub(crate) fn is_sure(&self) -> bool {
        #[cfg(test)]
        if self
            .faults()
            .unsure
            .load(std::sync::atomic::Ordering::Acquire)
        {
            return false;
        }
        self.0.is_sure()
    }

    /// See [`Writes::lease_age`].
    pub(crate) fn lease_age(&self) -> Option<Duration> {
        self.0.lease_age()
    }

    /// See [`Writes::when_sent`].
    pub(crate) fn when_sent(&self, told: impl Fn() + Send + Sync + 'static) {
        self.0.when_sent(Arc::new(told));
    }

    /// See [`Writes::hint`].
    pub(crate) fn hint(&self, hints: Hints) {
        self.0.hint(hints);
    }

    /// See [`Writes::when_hinted`].
    pub(crate) fn when_hinted(&self, told: impl Fn(&Hints) + Send + Sync + 'static) {
        self.0.when_hinted(Arc::new(told));
    }

    /// See [`Writes::hub_version`].
    pub(crate) fn hub_version(&self) -> i64 {
        self.0.hub_version()
    }

    /// See [`Writes::when_hub_changed`].
    pub(crate) fn when_hub_changed(&self, told: impl Fn(i64) + Send + Sync + 'static) {
        self.0.when_hub_changed(Arc::new(told));
    }

    /// The counts of live instances, once enabled.
    pub(crate) fn live(&self) -> &LiveCounts {
        self.0.live()
    }

    /// The space in use, once enabled.
    pub(crate) fn space(&self) -> &SpaceUsed {
        self.0.space()
    }

    /// See [`WriterCounts`].
    pub(crate) fn counts(&self) -> &WriterCounts {
        self.0.counts()
    }

    /// Whether the last transaction failed.
    pub(crate) fn fails(&self) -> bool {
        self.0.fails()
    }

    /// See [`Writes::refuses`].
    pub(crate) fn refuses(&self) -> Option<StoreError> {
        self.0.refuses()
    }

    /// Makes writes fail.
    #[cfg(test)]
    pub(crate) fn faults(&self) -> &Arc<crate::store::faults::Faults> {
        self.0.faults()
    }

    /// The number of jobs that the writer has not taken yet.
    #[cfg(test)]
    pub(crate) fn queued(&self) -> u64 {
        let queued = &self.faults().queued;
        queued.load(std::sync::atomic::Ordering::Acquire)
    }
}
