//! Conditions of a filter that no index contains: each candidate is looked at.
//!
//! Invariant: a page looks at a bounded number of rows, however few of them match. It ends then, perhaps without any instance, and says where
//! the next one goes on.

use perennial_core::{Status, TaskId, Timestamp, Waiting};

use crate::store::codec::{decode_failure_kind, decode_waiting};
use crate::store::queries::filter::InstanceFilter;
use crate::store::queries::waits::{WaitFilter, WaitKind};
use crate::store::{StoreError, TaskRowKind};

/// Rows that a page looks at, of instances and of their tasks: some 50 ms.
pub(in crate::store) const LOOKED_MAX: u32 = 10_000;

/// The most requests of one instance that are looked at: as many as its status shows.
pub(in crate::store) const ASKED_MAX: u32 = 100;

/// What a store can look at.
pub(in crate::store) trait Sight {
    /// The instance with a key.
    fn see(&mut self, key: i64) -> Result<Option<Seen>, StoreError>;

    /// Tells the open tasks of an instance in their order, each with whether it failed before, until `told` returns true.
    fn tasks(
        &mut self,
        key: i64,
        told: &mut dyn FnMut(TaskRowKind, bool) -> bool,
    ) -> Result<(), StoreError>;

    /// Tells the first [`ASKED_MAX`] requests without an answer that the execution has sent, until `told` returns true.
    fn asked(
        &mut self,
        seen: &Seen,
        told: &mut dyn FnMut(TaskId, &str) -> bool,
    ) -> Result<(), StoreError>;

    /// Whether the instance has a live child.
    fn has_child(&mut self, key: i64) -> Result<bool, StoreError>;

    /// Whether the instance has a message, and does not wait for the time of its start.
    fn has_turn(&mut self, key: i64) -> Result<bool, StoreError>;
}

/// Looks at candidates one after another.
pub(in crate::store) struct Looks<'a, S> {
    pub(in crate::store) sight: S,
    filter: &'a InstanceFilter,
    /// How many rows were looked at.
    looked: u32,
}

/// What of an instance is looked at; what the filter does not need is absent.
#[derive(Clone, Debug)]
pub(in crate::store) struct Seen {
    pub(in crate::store) key: i64,
    pub(in crate::store) status: Status,
    pub(in crate::store) updated_at: Timestamp,
    pub(in crate::store) failure: Option<Vec<u8>>,
    pub(in crate::store) waiting: Option<Vec<u8>>,
    pub(in crate::store) is_quarantined: bool,
    pub(in crate::store) has_module: bool,
    pub(in crate::store) execution: u32,
    pub(in crate::store) generation: u32,
}

impl<'a, S: Sight> Looks<'a, S> {
    pub(in crate::store) fn new(sight: S, filter: &'a InstanceFilter) -> Self {
        Self {
            sight,
            filter,
            looked: 0,
        }
    }

    /// Whether the page must end.
    pub(in crate::store) fn are_over(&self) -> bool {
        self.looked >= LOOKED_MAX
    }

    /// The status of an instance, if it matches.
    pub(in crate::store) fn look(&mut self, key: i64) -> Result<Option<Status>, StoreError> {
        let Some(seen) = self.see(key)? else {
            return Ok(None);
        };
        Ok(self.fits(&seen)?.then_some(seen.status))
    }

    /// All that a live instance waits for, if the filter asks for a wait.
    pub(in crate::store) fn kinds(&mut self, key: i64) -> Result<Vec<WaitKind>, StoreError> {
        let Some(seen) = self.see(key)? else {
            return Ok(Vec::new());
        };
        let mut kinds = Vec::new();
        for kind in WaitKind::ALL {
            if self.waits(&seen, &kind.into())? {
                kinds.push(kind);
            }
        }
        Ok(kinds)
    }

    fn see(&mut self, key: i64) -> Result<Option<Seen>, StoreError> {
        self.looked = self.looked.saturating_add(1);
        self.sight.see(key)
    }

    fn fits(&mut self, seen: &Seen) -> Result<bool, StoreError> {
        let filter = self.filter;
        let is_in_time = filter
            .updated_from
            .is_none_or(|from| seen.updated_at >= from)
            && filter.updated_to.is_none_or(|to| seen.updated_at < to);
        if !is_in_time {
            return Ok(false);
        }
        if let Some(kind) = &filter.failure_kind {
            let failure = seen.failure.as_deref().map(decode_failure_kind);
            if failure.transpose()?.as_ref() != Some(kind) {
                return Ok(false);
            }
        }
        match &filter.waits_for {
            Some(wait) => self.waits(seen, wait),
            None => Ok(true),
        }
    }

    fn waits(&mut self, seen: &Seen, wait: &WaitFilter) -> Result<bool, StoreError> {
        let waiting = seen.waiting.as_deref().map(decode_waiting);
        let waiting = waiting.transpose()?.unwrap_or_default();
        match wait.kind() {
            WaitKind::Event => Ok(wait.is_among(&waiting.events)),
            WaitKind::Request => Ok(wait.is_among(&waiting.requests)),
            WaitKind::Answer => self.awaits_answer(seen, &waiting, wait),
            WaitKind::Activity => self.has_task(seen.key, |kind, _| kind == TaskRowKind::Activity),
            WaitKind::Retry => self.has_task(seen.key, |kind, has_failed| {
                kind == TaskRowKind::ChildRetry || (kind == TaskRowKind::Activity && has_failed)
            }),
            WaitKind::Timer => self.has_task(seen.key, |kind, _| {
                use TaskRowKind::{ChildRetry, Timer, TimerAt};
                matches!(kind, Timer | TimerAt | ChildRetry)
            }),
            WaitKind::Start => self.has_task(seen.key, |kind, _| kind == TaskRowKind::Start),
            WaitKind::Child => self.sight.has_child(seen.key),
            WaitKind::Worker => self.awaits_worker(seen),
            WaitKind::Quarantine => Ok(seen.is_quarantined),
        }
    }

    /// Whether the instance has an open task whose kind, and whether it failed before, fit.
    fn has_task(
        &mut self,
        key: i64,
        fits: impl Fn(TaskRowKind, bool) -> bool,
    ) -> Result<bool, StoreError> {
        let (mut found, looked) = (false, &mut self.looked);
        self.sight.tasks(key, &mut |kind, has_failed| {
            *looked = looked.saturating_add(1);
            found = fits(kind, has_failed);
            found
        })?;
        Ok(found)
    }

    /// Whether a request that the instance has sent has no answer, and is not dropped.
    fn awaits_answer(
        &mut self,
        seen: &Seen,
        waiting: &Waiting,
        wait: &WaitFilter,
    ) -> Result<bool, StoreError> {
        let (mut found, looked) = (false, &mut self.looked);
        self.sight.asked(seen, &mut |task, name| {
            *looked = looked.saturating_add(1);
            found = wait.is(name) && waiting.tasks.contains(&task);
            found
        })?;
        Ok(found)
    }

    /// Whether the next turn of the instance is one for a remote worker: such an instance has no module.
    fn awaits_worker(&mut self, seen: &Seen) -> Result<bool, StoreError> {
        let may_run = matches!(seen.status, Status::Pending | Status::Running);
        if seen.has_module || !may_run || seen.is_quarantined {
            return Ok(false);
        }
        self.sight.has_turn(seen.key)
    }
}
