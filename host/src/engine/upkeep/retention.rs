//! Deletes ended instances when their retention is over.
//!
//! Nothing looks at the clock in vain: the engine's timers hold the moment at which the first instance may go, and when it comes a batch
//! after another is deleted, each in a transaction that others share and behind whatever else waits for a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use perennial_core::{Millis, Status, Timestamp};

use crate::engine::locks::{Guard, OrderedMutex, rank};
use crate::engine::tasks::timers::Due;
use crate::engine::{Engine, TRY_AGAIN_AFTER, Work};
use crate::store::{Ages, Change, InstanceKey, StoreError};

/// Instances deleted in one transaction: few enough that nobody notices.
const BATCH: u32 = 16;

/// How long at most an instance is kept beyond its time, so that those that end together go together.
const SLACK_MAX: Millis = Millis(60_000);

/// The timer that belongs to no instance.
const NOBODY: InstanceKey = InstanceKey(i64::MIN);

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Retention {
    state: OrderedMutex<State, { rank::RETENTION }>,
    /// Whether anything is ever deleted.
    is_on: AtomicBool,
    /// Whether a worker was asked to look.
    asked: AtomicBool,
}

#[derive(Default)]
struct State {
    ages: Ages,
    /// When the timer fires.
    armed: Option<Timestamp>,
}

impl Retention {
    fn state(&self) -> Guard<'_, State, { rank::RETENTION }> {
        self.state.lock()
    }
}

impl Engine {
    /// Reads how long instances are kept, and looks whether some may go.
    pub(crate) fn load_retention(&self) -> Result<(), StoreError> {
        let ages = self.hub.reader.retention()?;
        self.retention.state().ages = ages;
        self.retention
            .is_on
            .store(ages != Ages::default(), Ordering::Release);
        self.ask_to_retain();
        Ok(())
    }

    /// Has a worker look for instances that may go.
    pub(crate) fn ask_to_retain(&self) {
        let is_on = self.retention.is_on.load(Ordering::Acquire);
        if is_on && !self.is_stopping() && !self.retention.asked.swap(true, Ordering::AcqRel) {
            self.enqueue(Work::Retain);
        }
    }

    /// An instance has ended so.
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

    /// Deletes a batch of what may go, or sleeps until something may.
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

    /// What may go now. Where there is nothing the timer is set for what goes next.
    fn try_retain(&self) -> Result<Vec<InstanceKey>, StoreError> {
        let (ages, now) = (self.retention.state().ages, self.clock.now());
        let (mut keys, mut next) = (Vec::new(), None);
        for status in [Status::Completed, Status::Failed, Status::Terminated] {
            let Some(age) = ages.of(status) else { continue };
            let room = BATCH - u32::try_from(keys.len()).unwrap_or(BATCH);
            if let Some(by) = now.0.checked_sub(age.0) {
                keys.extend(self.hub.reader.ended_by(status, Timestamp(by), room)?);
            }
            if keys.is_empty()
                && let Some(first) = self.hub.reader.first_end(status)?
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
            tracing::warn!(%error, "could not delete instances whose time is over; trying again");
            self.arm_retention(self.clock.now().after(TRY_AGAIN_AFTER));
        }
    }
}

/// When an instance that ended at a time is deleted.
fn goes_at(ended: Timestamp, age: Millis) -> Timestamp {
    let slack = Millis((age.0 / 100).min(SLACK_MAX.0));
    ended.after(age).after(slack)
}
