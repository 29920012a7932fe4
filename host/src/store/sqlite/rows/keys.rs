//! Keys of the HTTP server, stored as hashes.

use perennial_core::Timestamp;
use rusqlite::Connection;

use crate::store::StoreError;
use crate::store::codec::uint;
use crate::store::types::KeyRow;

/// All keys, oldest first.
pub(crate) fn list(db: &Connection) -> Result<Vec<KeyRow>, StoreError> {
    let mut query = db.prepare_cached(
        "SELECT id, name, role, hash, created_at FROM access_key ORDER BY created_at, id",
    )?;
    let rows = query.query_map([], |row| {
        Ok(KeyRow {
            id: row.get(0)?,
            name: row.get(1)?,
            admin: row.get(2)?,
            hash: row.get(3)?,
            created_at: Timestamp(uint(row.get(4)?)),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
