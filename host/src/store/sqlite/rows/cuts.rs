//! Reads the archive of rewinds.

use perennial_core::Timestamp;
use rusqlite::{Connection, params};

use crate::store::StoreError;
use crate::store::codec::uint;
use crate::store::queries::found::RewindRow;
use crate::store::types::InstanceKey;

/// The rewinds of an execution, in order.
pub(crate) fn rewinds(
    db: &Connection,
    key: InstanceKey,
    execution: u32,
) -> Result<Vec<RewindRow>, StoreError> {
    let mut query = db.prepare_cached(
        "SELECT generation, at, reason, cut FROM rewind WHERE instance = ?1 AND execution = ?2 ORDER BY generation",
    )?;
    let rows = query.query_map(params![key.0, execution], |row| {
        Ok(RewindRow {
            generation: row.get(0)?,
            at: Timestamp(uint(row.get(1)?)),
            reason: row.get(2)?,
            turn: row.get(3)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The first event that was cut off an execution since the given generation.
#[cfg(feature = "http")]
pub(crate) fn first_cut(
    db: &Connection,
    key: InstanceKey,
    execution: u32,
    since: u32,
) -> Result<Option<u64>, StoreError> {
    let mut query = db.prepare_cached(
        "SELECT min(first_event) FROM cut_turn WHERE instance = ?1 AND execution = ?2 AND generation >= ?3",
    )?;
    let first: Option<i64> = query.query_row(params![key.0, execution, since], |row| row.get(0))?;
    Ok(first.map(uint))
}
