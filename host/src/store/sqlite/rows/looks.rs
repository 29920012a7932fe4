//! Conditions of a filter that no index contains: each candidate is looked at.
//!
//! Invariant: a page looks at a bounded number of rows, however few of them match. It ends then, perhaps without any instance, and says where
//! the next one goes on.

use perennial_core::{Status, TaskId, Timestamp, Waiting};
use rusqlite::{Connection, params};

use crate::store::codec::{decode_failure_kind, decode_waiting, uint};
use crate::store::numbers::status_of;
use crate::store::sqlite::rows::filter::InstanceFilter;
use crate::store::sqlite::rows::tasks::kind_number;
use crate::store::sqlite::rows::waits::{WaitFilter, WaitKind};
use crate::store::{StoreError, TaskRowKind};

/// Rows that a page looks at, of instances and of their tasks: some 50 ms.
pub(in crate::store) const LOOKED_MAX: u32 = 10_000;

/// The most requests of one instance that are looked at: as many as its status shows.
const ASKED_MAX: u32 = 100;

/// Looks at candidates one after another.
pub(super) struct Looks<'a> {
    db: &'a Connection,
    filter: &'a InstanceFilter,
    sql: String,
    /// How many rows were looked at.
    looked: u32,
}

/// What of an instance is looked at; what the filter does not need is absent.
struct Seen {
    key: i64,
    status: Status,
    updated_at: Timestamp,
    failure: Option<Vec<u8>>,
    waiting: Option<Vec<u8>>,
    is_quarantined: bool,
    has_module: bool,
    execution: u32,
    generation: u32,
}

impl<'a> Looks<'a> {
    pub(super) fn new(db: &'a Connection, filter: &'a InstanceFilter) -> Self {
        let only_if = |column, is_needed| if is_needed { column } else { "NULL" };
        let waits = filter.waits_for.as_ref().map(WaitFilter::kind);
        let sql = format!(
            "SELECT status, updated_at, {}, {}, quarantine IS NOT NULL, module IS NOT NULL, execution, generation FROM instance WHERE key = ?1",
            only_if("failure", filter.failure_kind.is_some()),
            only_if("waiting", waits.is_some_and(WaitKind::is_named)),
        );
        Self {
            db,
            filter,
            sql,
            looked: 0,
        }
    }

    /// Whether the page must end.
    pub(super) fn are_over(&self) -> bool {
        self.looked >= LOOKED_MAX
    }

    /// The status of an instance, if it matches.
    pub(super) fn look(&mut self, key: i64) -> Result<Option<Status>, StoreError> {
        let Some(seen) = self.see(key)? else {
            return Ok(None);
        };
        Ok(self.fits(&seen)?.then_some(seen.status))
    }

    /// All that a live instance waits for, if the filter asks for a wait.
    pub(super) fn kinds(&mut self, key: i64) -> Result<Vec<WaitKind>, StoreError> {
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
        let mut select = self.db.prepare_cached(&self.sql)?;
        let mut rows = select.query([key])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        Ok(Some(Seen {
            key,
            status: status_of(row.get(0)?)?,
            updated_at: Timestamp(uint(row.get(1)?)),
            failure: row.get(2)?,
            waiting: row.get(3)?,
            is_quarantined: row.get(4)?,
            has_module: row.get(5)?,
            execution: row.get(6)?,
            generation: row.get(7)?,
        }))
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
            WaitKind::Child => self.has_any(
                "SELECT EXISTS (SELECT 1 FROM instance INDEXED BY instance_parent WHERE parent_key = ?1 AND status < 3)",
                seen.key,
            ),
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
        let mut query = self
            .db
            .prepare_cached("SELECT kind, failure IS NOT NULL FROM task WHERE instance = ?1")?;
        let mut rows = query.query([key])?;
        while let Some(row) = rows.next()? {
            self.looked += 1;
            let kind = crate::store::sqlite::rows::tasks::kind_of(row.get(0)?)?;
            if fits(kind, row.get(1)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_any(&self, sql: &str, key: i64) -> Result<bool, StoreError> {
        let mut query = self.db.prepare_cached(sql)?;
        Ok(query.query_row([key], |row| row.get(0))?)
    }

    /// Whether a request that the instance has sent has no answer, and is not dropped.
    fn awaits_answer(
        &mut self,
        seen: &Seen,
        waiting: &Waiting,
        wait: &WaitFilter,
    ) -> Result<bool, StoreError> {
        let mut query = self.db.prepare_cached(
            "SELECT task, name FROM request
             WHERE asker = ?1 AND execution = ?2 AND generation = ?3 AND answer IS NULL ORDER BY task LIMIT ?4",
        )?;
        let mut rows = query.query(params![
            seen.key,
            seen.execution,
            seen.generation,
            ASKED_MAX
        ])?;
        while let Some(row) = rows.next()? {
            self.looked += 1;
            let name: String = row.get(1)?;
            if wait.is(&name) && waiting.tasks.contains(&TaskId(row.get(0)?)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the next turn of the instance is one for a remote worker: such an instance has no module.
    fn awaits_worker(&mut self, seen: &Seen) -> Result<bool, StoreError> {
        let may_run = matches!(seen.status, Status::Pending | Status::Running);
        if seen.has_module || !may_run || seen.is_quarantined {
            return Ok(false);
        }
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM inbox WHERE instance = ?1)
             AND NOT EXISTS (SELECT 1 FROM task WHERE instance = ?1 AND kind = {})",
            kind_number(TaskRowKind::Start)
        );
        self.has_any(&sql, seen.key)
    }
}
