//! The reads of a hub in PostgreSQL.
//!
//! Invariant: no plan depends on how many rows there are, or were when a table was analyzed. A query of instances names its index
//! (`indexes.rs`), and asks for the order of it. Rows of another table that belong to those of one are a subquery with `OFFSET 0` for each:
//! PostgreSQL does not make a join of it, whose order it would choose.

mod histories;
mod hub;
mod inbox;
mod instances;
mod list;
mod looks;
mod modules;
mod overview;
mod requests;
mod tasks;
#[cfg(test)]
pub(in crate::store) mod testing;
mod walks;

use std::path::PathBuf;
use std::sync::Arc;

use tokio_postgres::Row;

use crate::store::StoreError;
use crate::store::flight;
use crate::store::partition::Partitions;
use crate::store::postgres::lease::{OWNER, TTL_MS, owner_of};
use crate::store::postgres::pool::Pool;
use crate::store::postgres::replica::Replica;
use crate::store::postgres::running;
use crate::store::postgres::session::Param;
use crate::store::reads::{Reader, implement_reads};
use crate::store::types::{InstanceKey, WasRunning};

/// Which of some owners live.
const LIVING: &str = "SELECT epoch FROM owner WHERE epoch = ANY($1) AND NOT dead AND renewed >= clock_timestamp() - $2::bigint * interval '1 ms'";

/// Reads a hub, from any thread, whether or not this process runs its instances.
pub(in crate::store) struct PostgresReader {
    pool: Arc<Pool>,
    /// Those of which it answers what an owner asks about its own work.
    of: Partitions,
    /// Where an owner on this machine records what runs.
    running: Option<PathBuf>,
    replica: Option<Arc<Replica>>,
}

impl PostgresReader {
    /// A reader that connects when it is asked.
    pub(in crate::store) fn new(pool: Pool, running: Option<PathBuf>) -> Self {
        Self {
            replica: Replica::of(pool.address()),
            pool: Arc::new(pool),
            of: Partitions::default(),
            running,
        }
    }

    pub(in crate::store) fn within(&self, of: Partitions) -> Option<Reader> {
        Some(Reader::new(Self {
            pool: Arc::clone(&self.pool),
            of,
            running: self.running.clone(),
            replica: self.replica.clone(),
        }))
    }

    fn replica(&self) -> Option<Reader> {
        Some(Reader::new(Self {
            pool: self.replica.as_ref()?.fit(&self.pool)?,
            of: self.of,
            running: self.running.clone(),
            replica: None,
        }))
    }

    fn distrust_replica(&self, why: &StoreError) {
        if let Some(replica) = &self.replica {
            replica.distrust(why);
        }
    }

    /// What runs on other machines is not known here.
    fn running(&self, of: Option<InstanceKey>) -> Result<Vec<WasRunning>, StoreError> {
        let Some(base) = self.running.as_deref() else {
            return Ok(Vec::new());
        };
        let wanted = |now: &WasRunning| of.is_none_or(|key| now.key == key);
        let mut found = flight::look(base);
        found.retain(wanted);
        if !found.is_empty() {
            // If no process of this machine owns the hub, what is noted was cut off.
            let owner = self.query_opt(OWNER, &[&TTL_MS])?;
            let owner = owner.as_ref().map(owner_of).transpose()?;
            if !owner.is_some_and(|owner| owner.is_here()) {
                found.clear();
            }
        }
        let shared = running::epochs(base);
        if !shared.is_empty() {
            for row in &self.query(LIVING, &[&shared, &TTL_MS])? {
                let mut more = running::of_owner(base, row.try_get(0)?);
                more.retain(wanted);
                found.extend(more);
            }
        }
        Ok(found)
    }

    fn query(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        self.pool.read(|conn| conn.query(sql, params))
    }

    fn query_opt(&self, sql: &str, params: &[Param<'_>]) -> Result<Option<Row>, StoreError> {
        self.pool.read(|conn| conn.query_opt(sql, params))
    }

    /// The only row of a query that always has one.
    fn query_one(&self, sql: &str, params: &[Param<'_>]) -> Result<Row, StoreError> {
        let row = self.query_opt(sql, params)?;
        row.ok_or_else(|| StoreError::Corrupt("the task hub lacks a row".to_owned()))
    }
}

/// Whether a text cannot be in the hub: no text of PostgreSQL contains this character, and asking for one is an error there.
fn has_nul(text: &str) -> bool {
    text.contains('\0')
}

/// Reads all rows.
fn all<T>(
    rows: &[Row],
    read: impl FnMut(&Row) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    rows.iter().map(read).collect()
}

implement_reads! {
    PostgresReader;
    fn replica(&self) -> Option<Reader> {
        Self::replica(self)
    }

    fn distrust_replica(&self, why: &StoreError) {
        Self::distrust_replica(self, why);
    }
}
