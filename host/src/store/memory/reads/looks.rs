//! Conditions of a filter about what an instance waits for, or how it failed.

use perennial_core::Status;

use crate::store::TaskRowKind;
use crate::store::memory::{Instance, Memory};
use crate::store::queries::looks::{ASKED_MAX, LOOKED_MAX};
use crate::store::types::InstanceKey;
use crate::store::{InstanceFilter, WaitFilter, WaitKind};

/// Looks at candidates one after another, and counts the rows.
pub(super) struct Looks<'a> {
    memory: &'a Memory,
    filter: &'a InstanceFilter,
    looked: u32,
}

impl<'a> Looks<'a> {
    pub(super) fn new(memory: &'a Memory, filter: &'a InstanceFilter) -> Self {
        Self {
            memory,
            filter,
            looked: 0,
        }
    }

    /// Whether the page must end.
    pub(super) fn are_over(&self) -> bool {
        self.looked >= LOOKED_MAX
    }

    /// Whether an instance matches.
    pub(super) fn look(&mut self, of: &Instance) -> bool {
        self.looked += 1;
        let (row, filter) = (&of.row, self.filter);
        let is_in_time = filter
            .updated_from
            .is_none_or(|from| row.updated_at >= from)
            && filter.updated_to.is_none_or(|to| row.updated_at < to);
        let kind = row.failure.as_ref().map(|failure| &failure.kind);
        let is_failure = |wanted: &String| kind == Some(wanted);
        is_in_time
            && filter.failure_kind.as_ref().is_none_or(is_failure)
            && filter
                .waits_for
                .as_ref()
                .is_none_or(|wait| self.waits(of, wait))
    }

    /// All that a live instance waits for.
    pub(super) fn kinds(&mut self, of: &Instance) -> Vec<WaitKind> {
        self.looked += 1;
        let mut kinds = WaitKind::ALL.to_vec();
        kinds.retain(|kind| self.waits(of, &(*kind).into()));
        kinds
    }

    fn waits(&mut self, of: &Instance, wait: &WaitFilter) -> bool {
        use TaskRowKind::{Activity, ChildRetry, Start, Timer, TimerAt};
        let (row, key) = (&of.row, of.row.key);
        match wait.kind() {
            WaitKind::Event => wait.is_among(&row.waiting.events),
            WaitKind::Request => wait.is_among(&row.waiting.requests),
            WaitKind::Answer => self.awaits_answer(of, wait),
            WaitKind::Activity => self.has_task(key, |kind, _| kind == Activity),
            WaitKind::Retry => self.has_task(key, |kind, has_failed| {
                kind == ChildRetry || kind == Activity && has_failed
            }),
            WaitKind::Timer => {
                self.has_task(key, |kind, _| matches!(kind, Timer | TimerAt | ChildRetry))
            }
            WaitKind::Start => self.has_task(key, |kind, _| kind == Start),
            WaitKind::Child => {
                let mut rows = self.memory.instances.values().map(|of| &of.row);
                rows.any(|row| row.parent_key == Some(key) && !row.status.is_end())
            }
            WaitKind::Worker => {
                // Such an instance has no module.
                let may_run = matches!(row.status, Status::Pending | Status::Running);
                let is_remote = row.module.is_none() && row.quarantine.is_none();
                let mut tasks = self.memory.tasks.values().map(|task| &task.row);
                let is_scheduled = tasks.any(|task| task.key == key && task.kind == Start);
                let has_mail = self.memory.mail(key).next().is_some();
                may_run && is_remote && has_mail && !is_scheduled
            }
            WaitKind::Quarantine => row.quarantine.is_some(),
        }
    }

    fn has_task(&mut self, key: InstanceKey, fits: impl Fn(TaskRowKind, bool) -> bool) -> bool {
        let tasks = self.memory.tasks.values().map(|task| &task.row);
        for task in tasks.filter(|task| task.key == key) {
            self.looked += 1;
            if fits(task.kind, task.failure.is_some()) {
                return true;
            }
        }
        false
    }

    fn awaits_answer(&mut self, of: &Instance, wait: &WaitFilter) -> bool {
        let at = (of.row.execution, of.row.generation);
        let open = self.memory.open_requests_of(of.row.key, at);
        for (task, _, name) in open.into_iter().take(ASKED_MAX as usize) {
            self.looked += 1;
            if wait.is(name) && of.row.waiting.tasks.contains(&task) {
                return true;
            }
        }
        false
    }
}
