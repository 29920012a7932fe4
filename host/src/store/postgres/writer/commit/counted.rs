//! What quotas of the hub count: its live instances and its bytes, also those of other owners.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio_postgres::Row;

use crate::outage::warn_seldom;
use crate::store::StoreError;
use crate::store::postgres::indexes::by;
use crate::store::postgres::source::{big, maybe_digest};
use crate::store::postgres::writer::commit::State;
use crate::store::space::Pages;

/// How often that is read anew, live instances only where several owners share a hub: a quota is kept to within so long.
const COUNT_AGAIN: Duration = Duration::from_secs(5);

/// Counts live instances by module. Reads all of them.
pub(in crate::store::postgres) const COUNT_LIVE: &str = concat!(
    "SELECT module, count(*) FROM instance WHERE status < 3 AND ",
    by!(live),
    " GROUP BY module"
);

/// The bytes of all tables of a hub in its database, with their indexes and long values. Asks the file system of the server, and reads no row.
pub(in crate::store::postgres) const SIZE: &str = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint, current_setting('block_size')::bigint
     FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'";

impl State {
    /// Counts the live instances by module, once they are wanted. Reads all of them: once for each owner with quotas.
    pub(super) fn count_live(&mut self) -> Result<(), StoreError> {
        // Other owners start and end instances too, which only the hub tells.
        let is_alone = self.overlay.own().is_all();
        let is_fresh = |at: Instant| is_alone || at.elapsed() < COUNT_AGAIN;
        if !self.shared.live.is_wanted() || self.counted_live.is_some_and(is_fresh) {
            return Ok(());
        }
        let mut counted = HashMap::new();
        let rows = self.overlay.source().session()?.query(COUNT_LIVE, &[])?;
        for row in rows {
            counted.insert(maybe_digest(&row, 0)?, big(&row, 1)?);
        }
        self.shared.live.set(counted);
        self.counted_live = Some(Instant::now());
        Ok(())
    }

    /// Reads the size of the hub now and then, once it is wanted. A batch does not fail because that does.
    pub(super) fn measure(&mut self) {
        let is_fresh = |at: Instant| at.elapsed() < COUNT_AGAIN;
        if !self.shared.space.is_wanted() || self.measured.is_some_and(is_fresh) {
            return;
        }
        self.measured = Some(Instant::now());
        let session = self.overlay.source().session();
        match session.and_then(|session| pages(&session.query(SIZE, &[])?)) {
            Ok(pages) => self.shared.space.publish(pages),
            Err(error) => {
                warn_seldom!(%error, "the size of the task hub is not known, so that its quota means nothing")
            }
        }
    }
}

/// Reads the row of [`SIZE`].
pub(in crate::store::postgres) fn pages(rows: &[Row]) -> Result<Pages, StoreError> {
    let row = rows
        .first()
        .ok_or_else(|| StoreError::Corrupt("the size of the task hub is missing".to_owned()))?;
    let bytes_of_one = big(row, 1)?.max(1);
    Ok(Pages {
        all: big(row, 0)?.div_ceil(bytes_of_one),
        // What is free in a table is not known without reading it.
        free: 0,
        bytes_of_one,
    })
}
