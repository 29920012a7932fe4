//! Tags of instances: the lists by tag.

use perennial_core::Tags;
use rusqlite::{Connection, params};

use crate::store::StoreError;
use crate::store::codec::encode_tags;
use crate::store::types::InstanceKey;

/// Adds an instance to the lists by tag, with the tags in its row.
pub(in crate::store) fn enlist(db: &Connection, key: InstanceKey) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT OR IGNORE INTO instance_tag (tag, value, created_at, instance)
         SELECT tag.key, tag.value, i.created_at, i.key FROM instance AS i, json_each(i.tags) AS tag WHERE i.key = ?1",
    )?
    .execute([key.0])?;
    Ok(())
}

/// Removes an instance from the lists by tag.
pub(in crate::store) fn delist(db: &Connection, key: InstanceKey) -> Result<(), StoreError> {
    let mut query = db.prepare_cached(
        "SELECT tag.key, tag.value, i.created_at FROM instance AS i, json_each(i.tags) AS tag WHERE i.key = ?1",
    )?;
    let tags: Vec<(String, String, i64)> = query
        .query_map([key.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    for (tag, value, created_at) in tags {
        delete(db, key, (&tag, &value), created_at)?;
    }
    Ok(())
}

/// Writes other tags into the row and the lists.
pub(in crate::store) fn set(
    db: &Connection,
    key: InstanceKey,
    before: &Tags,
    after: &Tags,
) -> Result<(), StoreError> {
    let mut update =
        db.prepare_cached("UPDATE instance SET tags = ?1 WHERE key = ?2 RETURNING created_at")?;
    let created_at: i64 = update.query_row(params![encode_tags(after), key.0], |row| row.get(0))?;
    for (tag, value) in before.iter().filter(|tag| !after.contains(tag)) {
        delete(db, key, (tag, value), created_at)?;
    }
    for (tag, value) in after.iter().filter(|tag| !before.contains(tag)) {
        db.prepare_cached("INSERT OR IGNORE INTO instance_tag (tag, value, created_at, instance) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![tag, value, created_at, key.0])?;
    }
    Ok(())
}

fn delete(
    db: &Connection,
    key: InstanceKey,
    (tag, value): (&str, &str),
    created_at: i64,
) -> Result<(), StoreError> {
    db.prepare_cached(
        "DELETE FROM instance_tag WHERE tag = ?1 AND value = ?2 AND created_at = ?3 AND instance = ?4",
    )?
    .execute(params![tag, value, created_at, key.0])?;
    Ok(())
}
