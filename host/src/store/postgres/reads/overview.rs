//! What the overview of a hub counts.
//!
//! Invariant: each read looks at a bounded number of rows. What it could not count for that reason is said to be partial.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use perennial_core::{Status, TaskId, Timestamp};

use crate::store::codec::{decode_failure_kind, int, uint};
use crate::store::numbers::{status_number, status_of, task_kind_number};
use crate::store::postgres::indexes::by;
use crate::store::postgres::pool::Conn;
use crate::store::postgres::reads::PostgresReader;
use crate::store::postgres::reads::looks::{KIND_BYTES, kind_bytes};
use crate::store::postgres::source::{big, small, state};
use crate::store::queries::found::{BucketCounts, Named, OpenActivities, Window};
use crate::store::sqlite::rows::overview::{
    COUNTED_MAX, FAILURES_MAX, LIVE_MAX, NAMES_MAX, TASKS_MAX,
};
use crate::store::{InstanceKey, StoreError, TaskRowKind};

/// Buckets that one query counts, and names.
const TOGETHER: usize = 16;

/// The instances that were created in spans, and those that ended in them with each status, at most so many of each.
const IN_BUCKETS: &str = concat!(
    "SELECT b.place, s.number, c.count FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS b(since, until, place)
     CROSS JOIN (VALUES (3::smallint), (4::smallint), (5::smallint)) AS s(number)
     CROSS JOIN LATERAL (SELECT count(*) AS count FROM
         (SELECT 1 FROM instance AS i WHERE i.status = s.number AND i.ended_at IS NOT NULL AND i.ended_at >= b.since AND i.ended_at < b.until AND ",
    by!(ended),
    " ORDER BY i.ended_at, i.key LIMIT $3) AS f) AS c
     UNION ALL SELECT b.place, 0::smallint, c.count FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS b(since, until, place)
     CROSS JOIN LATERAL (SELECT count(*) AS count FROM
         (SELECT 1 FROM instance AS i WHERE i.created_at >= b.since AND i.created_at < b.until AND ",
    by!(created),
    " ORDER BY i.created_at, i.key LIMIT $3) AS f) AS c"
);

/// The names of all instances, each once.
const NAMES: &str = concat!(
    "WITH RECURSIVE n(name) AS (
         (SELECT i.name FROM instance AS i WHERE i.name > '' AND ",
    by!(name),
    " ORDER BY i.name, i.status, i.created_at, i.key LIMIT 1)
         UNION ALL
         SELECT (SELECT i.name FROM instance AS i WHERE i.name > n.name AND ",
    by!(name),
    " ORDER BY i.name, i.status, i.created_at, i.key LIMIT 1)
         FROM n WHERE n.name IS NOT NULL)
     SELECT n.name FROM n WHERE n.name IS NOT NULL LIMIT $1"
);

/// The live instances of names, at most so many of each status.
const OF_NAMES: &str = concat!(
    "SELECT g.place, s.number, c.count FROM unnest($1::text[]) WITH ORDINALITY AS g(name, place)
     CROSS JOIN (VALUES (0::smallint), (1::smallint), (2::smallint)) AS s(number)
     CROSS JOIN LATERAL (SELECT count(*) AS count FROM
         (SELECT 1 FROM instance AS i WHERE i.name = g.name AND i.status = s.number AND ",
    by!(name),
    " ORDER BY i.created_at, i.key LIMIT $2) AS f) AS c"
);

impl PostgresReader {
    pub(in crate::store) fn bucket_counts(
        &self,
        window: Window,
    ) -> Result<Vec<BucketCounts>, StoreError> {
        let mut buckets = window.buckets();
        buckets.reverse();
        self.pool.read(|conn| {
            let mut left = COUNTED_MAX;
            let mut counts = Vec::with_capacity(buckets.len());
            for some in buckets.chunks(TOGETHER) {
                let (from, to): (Vec<i64>, Vec<i64>) = some
                    .iter()
                    .map(|(from, to)| (int(from.0), int(to.0)))
                    .unzip();
                let rows = conn.query(IN_BUCKETS, &[&from, &to, &int(left.saturating_add(1))])?;
                let mut found = BTreeMap::new();
                for row in &rows {
                    let place: (i64, u8) = (row.try_get(0)?, state(row, 1)?);
                    found.insert(place, big(row, 2)?);
                }
                for place in (1..).take(some.len()) {
                    let mut is_partial = false;
                    let mut count = |number: u8| {
                        let found = found.get(&(place, number)).copied().unwrap_or(0);
                        is_partial |= found > left;
                        let found = found.min(left);
                        left -= found;
                        found
                    };
                    let mut bucket = BucketCounts {
                        started: count(0),
                        completed: count(status_number(Status::Completed)),
                        failed: count(status_number(Status::Failed)),
                        terminated: count(status_number(Status::Terminated)),
                        is_partial: false,
                    };
                    bucket.is_partial = is_partial;
                    counts.push(bucket);
                }
            }
            counts.reverse();
            Ok(counts)
        })
    }

    pub(in crate::store) fn failure_kinds(
        &self,
        window: Window,
        at_most: usize,
    ) -> Result<Named<u64>, StoreError> {
        let sql = format!(
            "SELECT key, substring(failure FROM 1 FOR {KIND_BYTES}) FROM instance
             WHERE status = $4::bigint::smallint AND ended_at IS NOT NULL AND ended_at >= $1 AND ended_at < $2 AND failure IS NOT NULL
                 AND {} ORDER BY ended_at DESC, key DESC LIMIT $3",
            by!(ended)
        );
        self.pool.read(|conn| {
            let (from, to) = (int(window.from.0), int(window.to.0));
            let limit = i64::from(FAILURES_MAX) + 1;
            let failed = i64::from(status_number(Status::Failed));
            let rows = conn.query(&sql, &[&from, &to, &limit, &failed])?;
            let mut kinds = BTreeMap::new();
            for row in rows.iter().take(FAILURES_MAX as usize) {
                let failure = kind_bytes(conn, row.try_get(0)?, row.try_get(1)?)?;
                *kinds.entry(decode_failure_kind(&failure)?).or_insert(0) += 1;
            }
            let mut counts: Vec<(String, u64)> = kinds.into_iter().collect();
            counts.sort_by_key(|(_, count)| Reverse(*count));
            counts.truncate(at_most);
            Ok(Named {
                counts,
                is_partial: rows.len() > FAILURES_MAX as usize,
            })
        })
    }

    pub(in crate::store) fn open_activities(
        &self,
        now: Option<Timestamp>,
        at_most: usize,
    ) -> Result<OpenActivities, StoreError> {
        let now = now.map_or(-1, |now| int(now.0));
        let (max, activity) = (TASKS_MAX, task_kind_number(TaskRowKind::Activity));
        let tasks = format!(
            "(SELECT instance, task, kind, due, attempt + deliveries + cut AS number, failure IS NOT NULL AS has_failed FROM task
              ORDER BY instance, task LIMIT {max}) AS t"
        );
        let counts = format!(
            "SELECT count(*), count(*) FILTER (WHERE due > $1),
                 (SELECT count(*) FROM (SELECT 1 FROM task ORDER BY instance, task LIMIT {max} + 1) AS f)
             FROM {tasks} WHERE kind = {activity}"
        );
        let most = format!(
            "SELECT instance, task FROM {tasks} WHERE kind = {activity} AND has_failed ORDER BY number DESC, instance, task LIMIT $1"
        );
        let limit = i64::try_from(at_most).unwrap_or(i64::MAX);
        let rows = self
            .pool
            .snapshot(|conn| conn.query_all(&[(&counts, &[&now]), (&most, &[&limit])]))?;
        let [counts, most] = &rows[..] else {
            return Ok(OpenActivities::default());
        };
        let mut found = OpenActivities::default();
        for row in counts {
            (found.all, found.due_later) = (big(row, 0)?, big(row, 1)?);
            found.is_partial = big(row, 2)? > u64::from(TASKS_MAX);
        }
        for row in most {
            let task = TaskId(small(row, 1)?);
            found
                .most_retried
                .push((InstanceKey(row.try_get(0)?), task));
        }
        Ok(found)
    }

    pub(in crate::store) fn live_names(
        &self,
        at_most: usize,
    ) -> Result<Named<Vec<(Status, u64)>>, StoreError> {
        self.pool.read(|conn| {
            let (mut named, mut left) = (Named::default(), LIVE_MAX);
            let rows = conn.query(NAMES, &[&(i64::from(NAMES_MAX) + 1)])?;
            named.is_partial = rows.len() > NAMES_MAX as usize;
            let names = rows
                .iter()
                .take(NAMES_MAX as usize)
                .map(|row| row.try_get(0));
            let names: Vec<String> = names.collect::<Result<_, _>>()?;
            for some in names.chunks(TOGETHER) {
                let rows = conn.query(OF_NAMES, &[&some, &int(left.saturating_add(1))])?;
                let mut found = BTreeMap::new();
                for row in &rows {
                    let place: (i64, u8) = (row.try_get(0)?, state(row, 1)?);
                    found.insert(place, big(row, 2)?);
                }
                for (place, name) in (1..).zip(some) {
                    let mut counts = Vec::new();
                    for (&(_, status), &count) in found.range((place, 0)..(place + 1, 0)) {
                        named.is_partial |= count > left;
                        let count = count.min(left);
                        left -= count;
                        if count > 0 {
                            counts.push((status_of(status)?, count));
                        }
                    }
                    if !counts.is_empty() {
                        named.counts.push((name.clone(), counts));
                    }
                }
            }
            named.counts.sort_by_key(|(_, counts)| {
                Reverse(counts.iter().map(|(_, count)| count).sum::<u64>())
            });
            named.counts.truncate(at_most);
            Ok(named)
        })
    }
}

/// The instances that ended in a span with a status. Counts no more than one beyond `at_most`.
pub(super) fn count_ended(
    conn: &Conn<'_>,
    status: Status,
    (from, to): (Timestamp, Timestamp),
    at_most: u64,
) -> Result<u64, StoreError> {
    let limit = int(at_most.saturating_add(1));
    let (from, to) = (int(from.0), int(to.0));
    let row = conn.query_opt(
        concat!(
            "SELECT count(*) FROM (SELECT 1 FROM instance WHERE status = $4::bigint::smallint AND ended_at IS NOT NULL AND ended_at >= $1
             AND ended_at < $2 AND ",
            by!(ended),
            " ORDER BY ended_at, key LIMIT $3) AS f"
        ),
        &[&from, &to, &limit, &i64::from(status_number(status))],
    )?;
    row.map_or(Ok(0), |row| Ok(uint(row.try_get(0)?)))
}
