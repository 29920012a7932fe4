//! What the overview counts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use perennial_core::{Status, Timestamp};

use crate::store::memory::Memory;
use crate::store::memory::reads::looks::Looks;
use crate::store::memory::reads::{is_in, sorted};
use crate::store::queries::found::{Named, OpenActivities, WaitCounts};
use crate::store::sqlite::rows::overview::{
    COUNTED_MAX, FAILURES_MAX, LIVE_MAX, NAMES_MAX, TASKS_MAX, sum,
};
use crate::store::sqlite::rows::wait_counts::LIVE_LOOKED_MAX;
use crate::store::{BucketCounts, InstanceFilter, StoreError, TaskRowKind, WaitKind, Window};

impl Memory {
    pub(crate) fn wait_counts(&self) -> Result<WaitCounts, StoreError> {
        let filter = InstanceFilter::default();
        let mut looks = Looks::new(self, &filter);
        let (mut found, mut left) = (WaitCounts::default(), LIVE_LOOKED_MAX);
        let mut counts = WaitKind::ALL.map(|kind| (kind, 0));
        for status in [Status::Suspended, Status::Pending, Status::Running] {
            let of_status = self.all().filter(|of| of.row.status == status);
            for of in sorted(of_status, |of| (of.row.created_at, of.row.key)) {
                let Some(after) = left.checked_sub(1) else {
                    found.is_partial = true;
                    break;
                };
                left = after;
                let waits = looks.kinds(of);
                for (_, count) in counts.iter_mut().filter(|(kind, _)| waits.contains(kind)) {
                    *count += 1;
                }
            }
        }
        found.counts = counts.into_iter().filter(|(_, count)| *count > 0).collect();
        Ok(found)
    }

    pub(crate) fn bucket_counts(&self, window: Window) -> Result<Vec<BucketCounts>, StoreError> {
        let mut left = COUNTED_MAX;
        let mut counts = Vec::new();
        for span in window.buckets().into_iter().rev() {
            let mut is_partial = false;
            let mut count = |all: usize| {
                let found = (all as u64).min(left);
                is_partial |= all as u64 > left;
                left -= found;
                found
            };
            let created = self.all().filter(|of| is_in(of.row.created_at, span));
            let ended = |status| {
                let ended = self.ended(status);
                ended.filter(|row| is_in(row.updated_at, span)).count()
            };
            let mut found = BucketCounts {
                started: count(created.count()),
                completed: count(ended(Status::Completed)),
                failed: count(ended(Status::Failed)),
                terminated: count(ended(Status::Terminated)),
                is_partial: false,
            };
            found.is_partial = is_partial;
            counts.push(found);
        }
        counts.reverse();
        Ok(counts)
    }

    pub(crate) fn failure_kinds(
        &self,
        window: Window,
        at_most: usize,
    ) -> Result<Named<u64>, StoreError> {
        let span = (window.from, window.to);
        let failed = self.ended(Status::Failed);
        let failed = failed.filter(|row| is_in(row.updated_at, span) && row.failure.is_some());
        let newest = sorted(failed, |row| Reverse((row.updated_at, row.key)));
        let most = FAILURES_MAX as usize;
        let mut kinds = BTreeMap::new();
        for failure in newest
            .iter()
            .take(most)
            .filter_map(|row| row.failure.as_ref())
        {
            *kinds.entry(failure.kind.clone()).or_insert(0) += 1;
        }
        let mut counts: Vec<(String, u64)> = kinds.into_iter().collect();
        counts.sort_by_key(|(_, count)| Reverse(*count));
        counts.truncate(at_most);
        Ok(Named {
            counts,
            is_partial: newest.len() > most,
        })
    }

    pub(crate) fn open_activities(
        &self,
        now: Option<Timestamp>,
        at_most: usize,
    ) -> Result<OpenActivities, StoreError> {
        let most = TASKS_MAX as usize;
        let tasks = self.tasks.values().take(most).map(|task| &task.row);
        let open = tasks.filter(|row| row.kind == TaskRowKind::Activity);
        let mut found = OpenActivities {
            is_partial: self.tasks.len() > most,
            ..OpenActivities::default()
        };
        let mut failed = Vec::new();
        for row in open {
            found.all += 1;
            let is_later = |due: Timestamp| now.is_none_or(|now| due > now);
            found.due_later += u64::from(row.due.is_some_and(is_later));
            if row.failure.is_some() {
                let attempts = i64::from(row.attempt) + i64::from(row.deliveries);
                let attempts = attempts + i64::from(row.cut);
                failed.push((Reverse(attempts), row.key, row.task.task));
            }
        }
        failed.sort();
        failed.truncate(at_most);
        let most_retried = failed.into_iter().map(|(_, key, task)| (key, task));
        found.most_retried = most_retried.collect();
        Ok(found)
    }

    pub(crate) fn live_names(
        &self,
        at_most: usize,
    ) -> Result<Named<Vec<(Status, u64)>>, StoreError> {
        let names: BTreeSet<&String> = self.all().map(|of| &of.row.name).collect();
        let names = names.into_iter().filter(|name| !name.is_empty());
        let (mut named, mut left) = (Named::default(), LIVE_MAX);
        for (looked, name) in names.enumerate() {
            if looked == NAMES_MAX as usize {
                named.is_partial = true;
                break;
            }
            let mut counts = Vec::new();
            for status in Status::ALL.into_iter().filter(|status| !status.is_end()) {
                let rows = self.all().map(|of| &of.row);
                let all = rows.filter(|row| row.name == *name && row.status == status);
                let all = all.count() as u64;
                named.is_partial |= all > left;
                let found = all.min(left);
                left -= found;
                counts.extend((found > 0).then_some((status, found)));
            }
            if !counts.is_empty() {
                named.counts.push((name.clone(), counts));
            }
        }
        named.counts.sort_by_key(|(_, counts)| Reverse(sum(counts)));
        named.counts.truncate(at_most);
        Ok(named)
    }
}
