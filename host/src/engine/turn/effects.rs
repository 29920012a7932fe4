//! Applies the effects of a commit that lie outside the file: wakes instances, tells waiters, logs refusals.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use perennial_core::Status;

use crate::engine::memory::slots::Lane;
use crate::engine::tasks::timers::Due;
use crate::engine::{Engine, Work};
use crate::store::{Change, Effects, Refused};

/// Maximum number of single log lines for the refusals of one commit.
const REFUSED_LINES_MAX: usize = 10;

/// Rows deleted per transaction, few enough to delay no other change noticeably.
const GARBAGE_ROWS: u32 = 500;

impl Engine {
    /// Applies the effects of a commit on other instances.
    pub(crate) fn follow(self: &Arc<Self>, effects: Effects) {
        self.follow_of(Lane::UNKNOWN, effects);
    }

    /// As [`follow`](Self::follow), for a commit of an instance in this lane.
    pub(in crate::engine) fn follow_of(self: &Arc<Self>, lane: Lane, effects: Effects) {
        for key in effects.woken {
            self.put_by(key, lane, |mailbox| mailbox.inbox_is_new = true);
        }
        for key in effects.gone {
            self.timers.remove_instance(key);
            let dropped = self.activities.cancel_instance(key, true);
            self.attempts_done(&dropped);
            self.turn_done(key);
            self.resumed(key);
            self.reload(key);
        }
        for key in effects.tagged {
            self.memory.slots.tagged(key);
        }
        for key in effects.anew {
            self.timers.remove_instance(key);
            let dropped = self.activities.cancel_instance(key, true);
            self.attempts_done(&dropped);
            self.resumed(key);
            self.put(key, |mailbox| {
                mailbox.reload = true;
                mailbox.rearm = true;
            });
        }
        for (key, limit, due) in effects.limits {
            self.timers
                .add(due, self.clock.now(), key, Due::Limit(limit));
        }
        for (key, task) in effects.settled {
            self.activities.cancel(key, task);
            self.attempts_done(&[(key, task)]);
        }
        if !effects.stopped.is_empty() {
            self.activities.interrupt_all(&effects.stopped);
        }
        effects
            .ended
            .iter()
            .for_each(|id| self.tell_waiters(id, true));
        effects
            .changed
            .iter()
            .for_each(|id| self.tell_waiters(id, false));
        if !effects.ended.is_empty() {
            // An instance ends without a turn of its own only if it is terminated from outside.
            self.retain_after(Status::Terminated);
        }
        if effects.garbage {
            self.collect_garbage();
        }
        warn_of(&effects.refused);
    }

    /// Requests the deletion of rows that are no longer needed. They are deleted in batches, each in a transaction with other changes.
    pub(in crate::engine) fn collect_garbage(&self) {
        if !self.is_stopping() && !self.work.collecting.swap(true, Ordering::AcqRel) {
            // A worker does it, because the writer's thread must not wait for room in its own queue.
            self.enqueue(Work::Collect);
        }
    }

    /// Deletes the next batch.
    pub(in crate::engine) fn collect(self: &Arc<Self>) {
        let engine = Arc::clone(self);
        self.write_soon(Change::Collect { rows: GARBAGE_ROWS }, move |_, result| {
            engine.work.collecting.store(false, Ordering::Release);
            if result.is_ok_and(|outcome| outcome.effects.garbage) {
                engine.collect_garbage();
            }
        });
    }
}

/// Logs refused requests of orchestrations. They have no client that waits for an answer.
fn warn_of(refused: &[Refused]) {
    for refused in refused.iter().take(REFUSED_LINES_MAX) {
        match refused {
            Refused::Start { by, id, reason } => tracing::warn!(
                instance = by,
                asked_for = id,
                reason,
                "an instance that an orchestration asked for was not started"
            ),
            Refused::Event {
                by,
                to,
                name,
                rejection,
            } => tracing::info!(
                instance = by,
                to,
                event = name,
                reason = %rejection,
                "an event that an orchestration sent was discarded"
            ),
        }
    }
    let more = refused.len().saturating_sub(REFUSED_LINES_MAX);
    if more > 0 {
        tracing::warn!(
            more,
            "further instances were not started, or events discarded: see the histories of their senders"
        );
    }
}
