//! Deletes ended instances when their retention is over.
//!
//! There is no polling: a timer fires when the first instance is due. Then workers delete one batch after another, each in a transaction
//! with other changes, and after all other queued work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use perennial_core::{Millis, Status, Timestamp};

use crate::engine::locks::{Guard, OrderedMutex, rank};
use crate::engine::tasks::timers::Due;
use crate::engine::{Engine, TRY_AGAIN_AFTER, Work};
use crate::store::{Ages, Change, InstanceKey, StoreError};

/// Instances deleted per transaction, few enough to delay no other change noticeably.
const BATCH: u32 = 16;

/// Maximum delay of a deletion, so that instances that end at about the same time are deleted together.
const SLACK_MAX: Millis = Millis(60_000);

/// The key of the retention timer, which belongs to no instance.
const NOBODY: InstanceKey = InstanceKey(i64::MIN);

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Retention {
    state: OrderedMutex<State, { rank::RETENTION }>,
    /// Whether the hub has any retention time.
    is_on: AtomicBool,
    /// Whether a worker was asked to look for instances to delete.
    asked: AtomicBool,
}

#[derive(Default)]
struct State {
    ages: Ages,
    /// The time at which the timer fires.
    armed: Option<Timestamp>,
}

impl Retention {
    fn state(&self) -> Guard<'_, State, { rank::RETENTION }> {
        self.state.lock()
    }
}

impl Engine {
    /// Reads the retention times, and looks for instances to delete.
    pub(crate) fn load_retention(&self) -> Result<(), StoreError> {
        let ages = self.hub.reader.retention()?;
        self.retention.state().ages = ages;
        self.retention
            .is_on
            .store(ages != Ages::default(), Ordering::Release);
        self.ask_to_retain();
        Ok(())
    }

    /// Asks a worker to look for instances to delete.
    pub(crate) fn ask_to_retain(&self) {
        let is_on = self.retention.is_on.load(Ordering::Acquire);
        if is_on && !self.is_stopping() && !self.retention.asked.swap(true, Ordering::AcqRel) {
            self.enqueue(Work::Retain);
        }
    }

    /// Arms the timer for an instance that has ended with this status.
    pub(crate) fn retain_after(&self, status: Status) {
        if self.retention.is_on.load(Ordering::Acquire) {
            let age = self.retention.state().ages.of(status);
            if let Some(age) = age {
                self.arm_retention(goes_at(self.clock.now(), age));
            }
        }
    }

    fn arm_retention(&self, at: Timestamp) {
        let mut state = self.retention.state();
        if state.armed.is_none_or(|armed| at < armed) {
            state.armed = Some(at);
            self.timers.again_at(at, at, NOBODY, Due::Retain);
        }
    }

    /// Deletes a batch of instances, or arms the timer for the next one.
    pub(crate) fn retain(self: &Arc<Self>) {
        self.retention.asked.store(false, Ordering::Release);
        self.retention.state().armed = None;
        match self.try_retain() {
            Ok(keys) if keys.is_empty() => {}
            Ok(keys) => {
                let engine = Arc::clone(self);
                self.write(Change::Purge(keys), move |_, result| match result {
                    Ok(outcome) => {
                        engine.follow(outcome.effects);
                        engine.ask_to_retain();
                    }
                    Err(error) => engine.retain_later(&error),
                });
            }
            Err(error) => self.retain_later(&error),
        }
    }

    /// The instances to delete now. If there are none, arms the timer for the next one.
    fn try_retain(&self) -> Result<Vec<InstanceKey>, StoreError> {
        let (ages, now) = (self.retention.state().ages, self.clock.now());
        let (mut keys, mut next) = (Vec::new(), None);
        let reader = self.own_reader();
        for status in [Status::Completed, Status::Failed, Status::Terminated] {
            let Some(age) = ages.of(status) else { continue };
            let room = BATCH - u32::try_from(keys.len()).unwrap_or(BATCH);
            if let Some(by) = now.0.checked_sub(age.0) {
                keys.extend(reader.ended_by(status, Timestamp(by), room)?);
            }
            if keys.is_empty()
                && let Some(first) = reader.first_end(status)?
            {
                let at = goes_at(first, age);
                next = Some(next.map_or(at, |before: Timestamp| before.min(at)));
            }
        }
        if keys.is_empty()
            && let Some(at) = next
        {
            self.arm_retention(at);
        }
        Ok(keys)
    }

    fn retain_later(&self, error: &StoreError) {
        if !self.is_stopping() {
            tracing::warn!(%error, "could not delete instances whose retention time is over; trying again");
            self.arm_retention(self.clock.now().after(TRY_AGAIN_AFTER));
        }
    }
}

/// The time at which an instance that ended at `ended` is deleted.
fn goes_at(ended: Timestamp, age: Millis) -> Timestamp {
    let slack = Millis((age.0 / 100).min(SLACK_MAX.0));
    ended.after(age).after(slack)
}
