//! Settings and statistics of a hub.

use perennial_core::{Status, Timestamp};
use rusqlite::{OptionalExtension, params};
use serde::de::DeserializeOwned;

use crate::store::codec::{int, uint};
use crate::store::numbers::status_number;
use crate::store::queries::found::Tally;
use crate::store::rows::hub::SettingRows;
use crate::store::sqlite::file::space;
use crate::store::sqlite::rows::reader::FileReader;
use crate::store::sqlite::rows::sql::Sql;
use crate::store::types::{Ages, Setting, WorkerNames};
use crate::store::{InstanceFilter, InstanceKey, StoreError};

impl FileReader {
    /// The retention.
    pub(crate) fn retention(&self) -> Result<Ages, StoreError> {
        self.setting(Setting::Retention)
    }

    /// The names that remote workers have run.
    pub(crate) fn worker_names(&self) -> Result<WorkerNames, StoreError> {
        self.setting(Setting::WorkerNames)
    }

    /// A setting; the default if it was never set.
    fn setting<T: Default + DeserializeOwned>(&self, which: Setting) -> Result<T, StoreError> {
        let text = self.with(|db| Sql(db).setting(which))?;
        let value = text.map(|text| which.read(&text)).transpose()?;
        Ok(value.unwrap_or_default())
    }

    /// Instances in a status that ended at this time or before, in the order of their ends.
    pub(crate) fn ended_by(
        &self,
        status: Status,
        by: Timestamp,
        limit: u32,
    ) -> Result<Vec<InstanceKey>, StoreError> {
        // SQLite needs the condition on all ends to use the partial index.
        let sql = "SELECT key FROM instance INDEXED BY instance_ended
             WHERE status = ?1 AND status >= 3 AND updated_at <= ?2 ORDER BY updated_at, key LIMIT ?3";
        self.with(|db| {
            let mut query = db.prepare_cached(sql)?;
            let values = params![status_number(status), int(by.0), limit];
            let rows = query.query_map(values, |row| Ok(InstanceKey(row.get(0)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// When the first of the remaining instances in a status ended.
    pub(crate) fn first_end(&self, status: Status) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT updated_at FROM instance INDEXED BY instance_ended
             WHERE status = ?1 AND status >= 3 ORDER BY updated_at LIMIT 1";
        self.with(|db| {
            let mut query = db.prepare_cached(sql)?;
            let at: Option<i64> = query
                .query_row([status_number(status)], |row| row.get(0))
                .optional()?;
            Ok(at.map(uint).map(Timestamp))
        })
    }

    /// Computes the statistics. Walks all instances.
    pub(crate) fn tally(&self) -> Result<Tally, StoreError> {
        let instances = self.counts(&InstanceFilter::default())?;
        let garbage = self.has_garbage()?;
        self.with(|db| {
            let number = |sql: &str| -> Result<u64, StoreError> {
                Ok(uint(db.query_row(sql, [], |row| row.get(0))?))
            };
            let histories = "SELECT coalesce(sum(turns), 0), coalesce(sum(next_event), 0), coalesce(sum(history_bytes), 0) FROM instance";
            let (turns, events, history_bytes): (i64, i64, i64) =
                db.query_row(histories, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            Ok(Tally {
                created_at: Timestamp(number("SELECT created_at FROM hub")?),
                instances,
                turns: uint(turns),
                events: uint(events),
                history_bytes: uint(history_bytes),
                modules: number("SELECT count(*) FROM module_name")?,
                stored_modules: number("SELECT count(*) FROM module")?,
                module_bytes: number("SELECT coalesce(sum(length(component)), 0) FROM module")?,
                garbage,
                pages: space::pages_of(db)?,
            })
        })
    }
}
