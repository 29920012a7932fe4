//! What the overview of a hub counts.
//!
//! Invariant: each read looks at a bounded number of rows. What it could not count for that reason is said to be partial.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use perennial_core::{Status, TaskId, Timestamp};
use rusqlite::{Connection, params};

use crate::store::codec::{decode_failure_kind, int, uint};
use crate::store::numbers::{status_number, task_kind_number};
use crate::store::queries::found::{BucketCounts, Named, OpenActivities, Window};
use crate::store::sqlite::rows::reader::FileReader;
use crate::store::{InstanceKey, StoreError, TaskRowKind};

/// Entries of indexes that the buckets of a window are counted from, all together. Few in the tests of this crate, so that they cover it.
pub(in crate::store) const COUNTED_MAX: u64 = if cfg!(test) { 2_000 } else { 200_000 };

/// Failed instances whose failures are looked at.
pub(in crate::store) const FAILURES_MAX: u32 = if cfg!(test) { 100 } else { 10_000 };

/// Open tasks that are looked at.
pub(in crate::store) const TASKS_MAX: u32 = if cfg!(test) { 1_000 } else { 100_000 };

/// Names of orchestrations whose live instances are counted, and the instances that are counted of all of them.
pub(in crate::store) const NAMES_MAX: u32 = 1_000;
pub(in crate::store) const LIVE_MAX: u64 = 100_000;

impl FileReader {
    /// How many instances were created and ended in each bucket of a window, oldest first. The newest are counted first.
    pub(crate) fn bucket_counts(&self, window: Window) -> Result<Vec<BucketCounts>, StoreError> {
        let buckets = window.buckets();
        self.with(|db| {
            let mut left = COUNTED_MAX;
            let mut counts = Vec::with_capacity(buckets.len());
            for (from, to) in buckets.into_iter().rev() {
                let mut is_partial = false;
                let mut count = |status| -> Result<u64, StoreError> {
                    let found = count_between(db, status, (from, to), left)?;
                    is_partial |= found > left;
                    let found = found.min(left);
                    left -= found;
                    Ok(found)
                };
                counts.push(BucketCounts {
                    started: count(None)?,
                    completed: count(Some(Status::Completed))?,
                    failed: count(Some(Status::Failed))?,
                    terminated: count(Some(Status::Terminated))?,
                    is_partial: false,
                });
                if let Some(last) = counts.last_mut() {
                    last.is_partial = is_partial;
                }
            }
            counts.reverse();
            Ok(counts)
        })
    }

    /// The kinds of the failures of instances that failed in a window, the most frequent first, at most so many. The newest are counted first.
    pub(crate) fn failure_kinds(
        &self,
        window: Window,
        at_most: usize,
    ) -> Result<Named<u64>, StoreError> {
        self.with(|db| {
            let mut query = db.prepare_cached(
                "SELECT failure FROM instance INDEXED BY instance_ended
                 WHERE status = 4 AND status >= 3 AND updated_at >= ?1 AND updated_at < ?2 AND failure IS NOT NULL
                 ORDER BY updated_at DESC LIMIT ?3",
            )?;
            let mut rows = query.query(params![
                int(window.from.0),
                int(window.to.0),
                FAILURES_MAX + 1
            ])?;
            let (mut kinds, mut looked) = (BTreeMap::new(), 0);
            while looked < FAILURES_MAX
                && let Some(row) = rows.next()?
            {
                looked += 1;
                let failure = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
                *kinds.entry(decode_failure_kind(failure)?).or_insert(0) += 1;
            }
            let is_partial = looked == FAILURES_MAX && rows.next()?.is_some();
            let mut counts: Vec<(String, u64)> = kinds.into_iter().collect();
            counts.sort_by_key(|(_, count)| Reverse(*count));
            counts.truncate(at_most);
            Ok(Named { counts, is_partial })
        })
    }

    /// The open activities. `now` decides which times of next attempts have not come; without it, all have not.
    pub(crate) fn open_activities(
        &self,
        now: Option<Timestamp>,
        at_most: usize,
    ) -> Result<OpenActivities, StoreError> {
        let now = now.map_or(-1, |now| int(now.0));
        let activity = task_kind_number(TaskRowKind::Activity);
        self.with(|db| {
            let mut query = db.prepare_cached(
                "SELECT instance, task, kind, due, attempt + deliveries + cut, failure IS NOT NULL FROM task LIMIT ?1",
            )?;
            let mut rows = query.query([TASKS_MAX + 1])?;
            let (mut found, mut looked) = (OpenActivities::default(), 0);
            // The one with the fewest attempts is on top.
            let mut most = BinaryHeap::new();
            while let Some(row) = rows.next()? {
                looked += 1;
                if looked > TASKS_MAX {
                    found.is_partial = true;
                    break;
                }
                if row.get::<_, u8>(2)? != activity {
                    continue;
                }
                found.all += 1;
                let due: Option<i64> = row.get(3)?;
                found.due_later += u64::from(due.is_some_and(|due| due > now));
                if row.get(5)? {
                    let (key, task): (i64, u32) = (row.get(0)?, row.get(1)?);
                    most.push(Reverse((row.get::<_, i64>(4)?, Reverse((key, task)))));
                    if most.len() > at_most {
                        most.pop();
                    }
                }
            }
            let most = most.into_sorted_vec().into_iter();
            found.most_retried = most
                .map(|Reverse((_, Reverse((key, task))))| (InstanceKey(key), TaskId(task)))
                .collect();
            Ok(found)
        })
    }

    /// The names of orchestrations with the most live instances, the most first, and how many of them are in which status.
    pub(crate) fn live_names(
        &self,
        at_most: usize,
    ) -> Result<Named<Vec<(Status, u64)>>, StoreError> {
        self.with(|db| {
            let (mut named, mut left) = (Named::default(), LIVE_MAX);
            let mut next = db.prepare_cached(
                "SELECT name FROM instance INDEXED BY instance_name WHERE name > ?1 ORDER BY name LIMIT 1",
            )?;
            let mut last = String::new();
            for looked in 0.. {
                let mut rows = next.query([&last])?;
                let Some(row) = rows.next()? else { break };
                if looked == NAMES_MAX {
                    named.is_partial = true;
                    break;
                }
                last = row.get(0)?;
                let mut counts = Vec::new();
                for status in Status::ALL.into_iter().filter(|status| !status.is_end()) {
                    let found = count_of_name(db, &last, status, left)?;
                    named.is_partial |= found > left;
                    let found = found.min(left);
                    left -= found;
                    counts.extend((found > 0).then_some((status, found)));
                }
                if !counts.is_empty() {
                    named.counts.push((last.clone(), counts));
                }
            }
            named.counts.sort_by_key(|(_, counts)| Reverse(sum(counts)));
            named.counts.truncate(at_most);
            Ok(named)
        })
    }

    /// SQLite's query plans for the buckets.
    #[cfg(test)]
    pub(crate) fn overview_plans(&self) -> Result<Vec<String>, StoreError> {
        self.with(|db| {
            let mut plans = Vec::new();
            for sql in [CREATED, ENDED, OF_NAME] {
                let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
                let mut rows = explain.raw_query();
                while let Some(row) = rows.next()? {
                    plans.push(row.get(3)?);
                }
            }
            Ok(plans)
        })
    }
}

/// The instances of all statuses.
pub(in crate::store) fn sum(counts: &[(Status, u64)]) -> u64 {
    counts.iter().map(|(_, count)| count).sum()
}

const CREATED: &str = "SELECT count(*) FROM (SELECT 1 FROM instance INDEXED BY instance_created
     WHERE created_at >= ?1 AND created_at < ?2 LIMIT ?3)";

const ENDED: &str = "SELECT count(*) FROM (SELECT 1 FROM instance INDEXED BY instance_ended
     WHERE status = ?4 AND status >= 3 AND updated_at >= ?1 AND updated_at < ?2 LIMIT ?3)";

const OF_NAME: &str = "SELECT count(*) FROM (SELECT 1 FROM instance INDEXED BY instance_name WHERE name = ?1 AND status = ?2 LIMIT ?3)";

/// The instances that ended in a span with a status, or were created in it. Counts no more than one beyond `at_most`.
pub(super) fn count_between(
    db: &Connection,
    status: Option<Status>,
    (from, to): (Timestamp, Timestamp),
    at_most: u64,
) -> Result<u64, StoreError> {
    let limit = int(at_most.saturating_add(1));
    let (from, to) = (int(from.0), int(to.0));
    let count: i64 = match status {
        None => db
            .prepare_cached(CREATED)?
            .query_row(params![from, to, limit], |row| row.get(0))?,
        Some(status) => db
            .prepare_cached(ENDED)?
            .query_row(params![from, to, limit, status_number(status)], |row| {
                row.get(0)
            })?,
    };
    Ok(uint(count))
}

/// The instances of a name in a status. Counts no more than one beyond `at_most`.
fn count_of_name(
    db: &Connection,
    name: &str,
    status: Status,
    at_most: u64,
) -> Result<u64, StoreError> {
    let limit = int(at_most.saturating_add(1));
    let mut query = db.prepare_cached(OF_NAME)?;
    let count: i64 = query.query_row(params![name, status_number(status), limit], |row| {
        row.get(0)
    })?;
    Ok(uint(count))
}
