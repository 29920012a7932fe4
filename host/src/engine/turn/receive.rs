//! Receives what the owners of other partitions send through the outbox.
//!
//! One batch of messages at a time, in the order in which they were sent, each batch in one transaction that deletes them. So nothing
//! overtakes, and nothing is done twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::engine::tasks::timers::Due;
use crate::engine::{Engine, TRY_AGAIN_AFTER, Work};
use crate::outage::warn_seldom;
use crate::store::{Change, InstanceKey, Outcome, StoreError};

/// Messages received in one transaction at most.
const BATCH: u32 = 100;

/// Whom a retry belongs to: no instance.
const NOBODY: InstanceKey = InstanceKey(0);

/// Whether messages are received now.
#[derive(Debug, Default)]
pub(in crate::engine) struct Receiving(AtomicU8);

const IDLE: u8 = 0;
const UNDER_WAY: u8 = 1;
/// More may have been sent since the messages were read.
const AND_MORE: u8 = 2;
/// It failed, and is tried again later.
const WAITS: u8 = 3;

impl Receiving {
    /// Something may have been sent. Returns whether the caller has to begin to receive.
    fn ask(&self) -> bool {
        let next = |now| match now {
            IDLE => Some(UNDER_WAY),
            WAITS => None,
            _ => Some(AND_MORE),
        };
        let before = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        before == Ok(IDLE)
    }

    /// The outbox is about to be read: what is sent from now on asks again.
    fn read(&self) {
        self.0.store(UNDER_WAY, Ordering::Release);
    }

    /// Nothing was found. Returns whether the caller has to look again.
    fn found_nothing(&self) -> bool {
        let ended = self
            .0
            .compare_exchange(UNDER_WAY, IDLE, Ordering::AcqRel, Ordering::Acquire);
        ended.is_err()
    }

    fn waits(&self) {
        self.0.store(WAITS, Ordering::Release);
    }

    /// Whether nothing is received now, though a retry may be due later.
    #[cfg(test)]
    pub(in crate::engine) fn is_idle(&self) -> bool {
        matches!(self.0.load(Ordering::Acquire), IDLE | WAITS)
    }

    #[cfg(test)]
    pub(in crate::engine) fn is_late(&self) -> bool {
        self.0.load(Ordering::Acquire) == WAITS
    }
}

impl Engine {
    /// Receives what was sent to the partitions of this owner. May be called on any thread, and often.
    pub(crate) fn sent(&self) {
        if !self.is_stopping() && self.work.receiving.ask() {
            // A worker does it, because the writer's thread must not wait for room in its own queue.
            self.enqueue(Work::Receive);
            // This may be a worker of another engine, which does not look into the queue of this one.
            self.work.there.notify_one();
        }
    }

    /// Receives the next batch, and the next one after that, until there is none.
    pub(in crate::engine) fn receive(self: &Arc<Self>) {
        self.work.receiving.read();
        let sent = match self.own_reader().outbox(BATCH) {
            Ok(sent) if sent.is_empty() => {
                if self.work.receiving.found_nothing() {
                    self.enqueue(Work::Receive);
                }
                return;
            }
            Ok(sent) => sent,
            Err(error) => return self.receive_later(&error),
        };
        let engine = Arc::clone(self);
        self.write_soon(Change::Receive(sent), move |_, result| match result {
            Ok(Outcome { effects, .. }) => {
                engine.follow(effects);
                engine.enqueue(Work::Receive);
            }
            Err(error) => engine.receive_later(&error),
        });
    }

    /// Receives all that was sent, before anything else is done.
    pub(in crate::engine) fn receive_all(self: &Arc<Self>) -> Result<(), StoreError> {
        loop {
            let sent = self.own_reader().outbox(BATCH)?;
            if sent.is_empty() {
                return Ok(());
            }
            // What has to be done in memory follows from the rows, which are read after this.
            self.write_blocking(Change::Receive(sent))?;
        }
    }

    fn receive_later(&self, error: &StoreError) {
        if !self.is_stopping() {
            warn_seldom!(%error, "could not receive what other partitions sent; trying again");
            self.receive_again();
        }
    }

    /// Receives again in a while.
    pub(in crate::engine) fn receive_again(&self) {
        self.work.receiving.waits();
        self.timers.again_in(TRY_AGAIN_AFTER, NOBODY, Due::Receive);
    }
}
