//! Keys of the HTTP server, stored as hashes.

use perennial_core::Timestamp;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use crate::limits::KEYS;
use crate::store::StoreError;
use crate::store::codec::{int, uint};

/// A stored key: its hash, not the key itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRow {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Whether it permits changes.
    pub(crate) admin: bool,
    /// The SHA-256 of the key's text.
    pub(crate) hash: [u8; 32],
    pub(crate) created_at: Timestamp,
}

/// Adds a key. `false` if the limit is reached.
pub(crate) fn create(db: &Connection, key: &KeyRow) -> Result<bool, StoreError> {
    let made = db.execute(
        "INSERT INTO access_key (id, name, role, hash, created_at) SELECT ?1, ?2, ?3, ?4, ?5
         WHERE (SELECT count(*) FROM access_key) < ?6",
        params![
            key.id,
            key.name,
            key.admin,
            key.hash,
            int(key.created_at.0),
            KEYS
        ],
    )?;
    Ok(made == 1)
}

/// Deletes a key. `false` if it does not exist.
pub(crate) fn revoke(db: &Connection, id: &str) -> Result<bool, StoreError> {
    Ok(db.execute("DELETE FROM access_key WHERE id = ?1", [id])? == 1)
}

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
