//! Looks at instances in a file.

use perennial_core::{TaskId, Timestamp};
use rusqlite::{Connection, params};

use crate::store::codec::uint;
use crate::store::numbers::{status_of, task_kind_number, task_kind_of};
use crate::store::queries::filter::InstanceFilter;
use crate::store::queries::looks::{ASKED_MAX, Looks, Seen, Sight};
use crate::store::queries::waits::{WaitFilter, WaitKind};
use crate::store::{StoreError, TaskRowKind};

/// What of instances is looked at under a filter.
pub(super) struct FileSight<'a> {
    db: &'a Connection,
    sql: String,
}

/// Looks under a filter.
pub(super) fn looks<'a>(
    db: &'a Connection,
    filter: &'a InstanceFilter,
) -> Looks<'a, FileSight<'a>> {
    let only_if = |column, is_needed| if is_needed { column } else { "NULL" };
    let waits = filter.waits_for.as_ref().map(WaitFilter::kind);
    let sql = format!(
        "SELECT status, updated_at, {}, {}, quarantine IS NOT NULL, module IS NOT NULL, execution, generation FROM instance WHERE key = ?1",
        only_if("failure", filter.failure_kind.is_some()),
        only_if("waiting", waits.is_some_and(WaitKind::is_named)),
    );
    Looks::new(FileSight { db, sql }, filter)
}

impl FileSight<'_> {
    fn has_any(&self, sql: &str, key: i64) -> Result<bool, StoreError> {
        let mut query = self.db.prepare_cached(sql)?;
        Ok(query.query_row([key], |row| row.get(0))?)
    }
}

impl Sight for FileSight<'_> {
    fn see(&mut self, key: i64) -> Result<Option<Seen>, StoreError> {
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

    fn tasks(
        &mut self,
        key: i64,
        told: &mut dyn FnMut(TaskRowKind, bool) -> bool,
    ) -> Result<(), StoreError> {
        let mut query = self
            .db
            .prepare_cached("SELECT kind, failure IS NOT NULL FROM task WHERE instance = ?1")?;
        let mut rows = query.query([key])?;
        while let Some(row) = rows.next()? {
            if told(task_kind_of(row.get(0)?)?, row.get(1)?) {
                break;
            }
        }
        Ok(())
    }

    fn asked(
        &mut self,
        seen: &Seen,
        told: &mut dyn FnMut(TaskId, &str) -> bool,
    ) -> Result<(), StoreError> {
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
            let name: String = row.get(1)?;
            if told(TaskId(row.get(0)?), &name) {
                break;
            }
        }
        Ok(())
    }

    fn has_child(&mut self, key: i64) -> Result<bool, StoreError> {
        self.has_any(
            "SELECT EXISTS (SELECT 1 FROM instance INDEXED BY instance_parent WHERE parent_key = ?1 AND status < 3)",
            key,
        )
    }

    fn has_turn(&mut self, key: i64) -> Result<bool, StoreError> {
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM inbox WHERE instance = ?1)
             AND NOT EXISTS (SELECT 1 FROM task WHERE instance = ?1 AND kind = {})",
            task_kind_number(TaskRowKind::Start)
        );
        self.has_any(&sql, key)
    }
}
