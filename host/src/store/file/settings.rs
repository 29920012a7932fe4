//! Settings and statistics of a hub.

use std::collections::BTreeSet;

use perennial_core::{Millis, Status, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::store::codec::{int, uint};
use crate::store::rows::instances;
use crate::store::{InstanceFilter, InstanceKey, Pages, Reader, StoreError};

/// The name of the setting that holds the [`Ages`].
const RETENTION: &str = "retention";

/// Retention: how long ended instances are kept, by status; `None` keeps them for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ages {
    pub(crate) completed: Option<Millis>,
    pub(crate) failed: Option<Millis>,
    pub(crate) terminated: Option<Millis>,
}

impl Ages {
    /// The age for a status; `None` also for those that are not ends.
    pub(crate) fn of(&self, status: Status) -> Option<Millis> {
        match status {
            Status::Completed => self.completed,
            Status::Failed => self.failed,
            Status::Terminated => self.terminated,
            Status::Pending | Status::Running | Status::Suspended => None,
        }
    }
}

/// The name of the setting that holds the [`WorkerNames`].
const WORKER_NAMES: &str = "worker-names";

/// The names that remote workers have run in this hub, in lower case: a caller may name them while no worker is connected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkerNames {
    pub(crate) orchestrations: BTreeSet<String>,
    pub(crate) activities: BTreeSet<String>,
}

/// The name of the setting that holds the [`LastHost`].
const LAST_HOST: &str = "last-host";

/// The last host of a hub: what the next one can rely on to know which attempts had begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastHost {
    /// The boot of the machine that it ran on. If the machine still runs, the flight recorder is complete.
    pub(crate) boot: Option<String>,
    /// Whether it stopped in good order, and counted the attempts that it cut off.
    pub(crate) stopped: bool,
}

impl LastHost {
    /// Whether attempts may have begun of which neither the hub nor the flight recorder knows, as seen by a host on this boot of a machine.
    pub(crate) fn may_have_lost(&self, boot: Option<&str>) -> bool {
        !self.stopped && (boot.is_none() || self.boot.as_deref() != boot)
    }
}

/// The last host; `None` if the hub is new, or no version ran it that records this.
pub(crate) fn last_host(db: &Connection) -> Result<Option<LastHost>, StoreError> {
    let mut query = db.prepare_cached("SELECT value FROM setting WHERE name = ?1")?;
    let text: Option<String> = query.query_row([LAST_HOST], |row| row.get(0)).optional()?;
    text.map(|text| read(LAST_HOST, &text)).transpose()
}

/// Sets the last host.
pub(crate) fn set_last_host(db: &Connection, host: &LastHost) -> Result<(), StoreError> {
    set(db, LAST_HOST, host)
}

fn read<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text)
        .map_err(|e| StoreError::Corrupt(format!("the setting {name:?}: {e}")))
}

/// Statistics of a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) created_at: Timestamp,
    pub(crate) instances: Vec<(Status, u64)>,
    /// Turns and events in the histories of the instances, and their approximate bytes.
    pub(crate) turns: u64,
    pub(crate) events: u64,
    pub(crate) history_bytes: u64,
    /// Named modules, and stored components with their bytes.
    pub(crate) modules: u64,
    pub(crate) stored_modules: u64,
    pub(crate) module_bytes: u64,
    /// Whether rows of deleted instances are still to be removed.
    pub(crate) garbage: bool,
    /// The pages of the file.
    pub(crate) pages: Pages,
}

/// Sets the retention.
pub(crate) fn retain(db: &Connection, ages: &Ages) -> Result<(), StoreError> {
    set(db, RETENTION, ages)
}

/// Sets the names that remote workers have run.
pub(crate) fn know_names(db: &Connection, names: &WorkerNames) -> Result<(), StoreError> {
    set(db, WORKER_NAMES, names)
}

fn set(db: &Connection, name: &str, value: &impl Serialize) -> Result<(), StoreError> {
    let value = serde_json::to_string(value)
        .map_err(|e| StoreError::Corrupt(format!("a setting could not be written: {e}")))?;
    db.prepare_cached("INSERT OR REPLACE INTO setting (name, value) VALUES (?1, ?2)")?
        .execute(params![name, value])?;
    Ok(())
}

impl Reader {
    /// The retention.
    pub(crate) fn retention(&self) -> Result<Ages, StoreError> {
        self.setting(RETENTION)
    }

    /// The names that remote workers have run.
    pub(crate) fn worker_names(&self) -> Result<WorkerNames, StoreError> {
        self.setting(WORKER_NAMES)
    }

    /// A setting; the default if it was never set.
    fn setting<T: Default + DeserializeOwned>(&self, name: &str) -> Result<T, StoreError> {
        let text: Option<String> = self.with(|db| {
            let mut query = db.prepare_cached("SELECT value FROM setting WHERE name = ?1")?;
            Ok(query.query_row([name], |row| row.get(0)).optional()?)
        })?;
        match text {
            Some(text) => read(name, &text),
            None => Ok(T::default()),
        }
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
            let values = params![instances::status_number(status), int(by.0), limit];
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
                .query_row([instances::status_number(status)], |row| row.get(0))
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
                pages: Pages::of(db)?,
            })
        })
    }
}
