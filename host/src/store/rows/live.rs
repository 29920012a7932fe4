//! Counts live instances by module as rows change, so that no query has to count rows.
//!
//! The counts are in a temporary table of the write connection, maintained by temporary triggers. So they commit and roll back with each
//! transaction, and write nothing to the file. Only an owner with quotas enables them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use perennial_core::Digest;
use rusqlite::Connection;

use crate::store::StoreError;

/// The counts as of the last commit.
#[derive(Debug, Default)]
pub(crate) struct LiveCounts {
    wanted: AtomicBool,
    all: AtomicU64,
    by_module: RwLock<HashMap<Digest, u64>>,
}

impl LiveCounts {
    /// Enables the counts from the next transaction on.
    pub(crate) fn enable(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    pub(in crate::store) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// The number of live instances in the hub.
    pub(crate) fn all(&self) -> u64 {
        self.all.load(Ordering::Acquire)
    }

    /// The number of live instances that are pinned to a module.
    pub(crate) fn of_module(&self, module: Digest) -> u64 {
        let counts = self
            .by_module
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        counts.get(&module).copied().unwrap_or(0)
    }

    /// Publishes the counts of the connection.
    pub(in crate::store) fn publish(&self, db: &Connection) -> Result<(), StoreError> {
        let mut query = db.prepare_cached("SELECT module, count FROM temp.live WHERE count > 0")?;
        let mut rows = query.query([])?;
        let (mut all, mut by_module) = (0, HashMap::new());
        while let Some(row) = rows.next()? {
            let (module, count): (Vec<u8>, i64) = (row.get(0)?, row.get(1)?);
            let count = crate::store::codec::uint(count);
            all += count;
            if let Ok(digest) = module.try_into() {
                by_module.insert(Digest(digest), count);
            }
        }
        self.all.store(all, Ordering::Release);
        *self
            .by_module
            .write()
            .unwrap_or_else(PoisonError::into_inner) = by_module;
        Ok(())
    }
}

/// Starts counting on a connection: counts the live instances once, and then updates the counts as they change.
pub(in crate::store) fn watch(db: &Connection) -> Result<(), StoreError> {
    // An instance without a module counts under an empty key.
    let more = |row: &str| {
        format!(
            "INSERT INTO live VALUES (coalesce({row}.module, x''), 1) ON CONFLICT (module) DO UPDATE SET count = count + 1;"
        )
    };
    let less = "UPDATE live SET count = count - 1 WHERE module = coalesce(old.module, x'');";
    let add = more("new");
    db.execute_batch(&format!(
        "PRAGMA temp_store = MEMORY;
         CREATE TEMP TABLE live (module BLOB PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
         INSERT INTO temp.live SELECT coalesce(module, x''), count(*) FROM main.instance WHERE status < 3 GROUP BY 1;
         CREATE TEMP TRIGGER live_made AFTER INSERT ON main.instance WHEN new.status < 3 BEGIN {add} END;
         CREATE TEMP TRIGGER live_gone AFTER DELETE ON main.instance WHEN old.status < 3 BEGIN {less} END;
         CREATE TEMP TRIGGER live_left AFTER UPDATE OF status, module ON main.instance
             WHEN old.status < 3 AND (new.status >= 3 OR new.module IS NOT old.module) BEGIN {less} END;
         CREATE TEMP TRIGGER live_came AFTER UPDATE OF status, module ON main.instance
             WHEN new.status < 3 AND (old.status >= 3 OR new.module IS NOT old.module) BEGIN {add} END;"
    ))?;
    Ok(())
}
