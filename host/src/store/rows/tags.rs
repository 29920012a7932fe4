//! Tags of instances: the column of the row, and changes of it and of the lists.

use std::collections::BTreeMap;

use perennial_core::{Tags, set_tag};
use rusqlite::{Connection, OptionalExtension, params};

use crate::store::StoreError;
use crate::store::types::InstanceKey;

/// The tags of an instance with the time of its creation, which is part of their keys in the lists.
fn with_creation(db: &Connection, key: InstanceKey) -> Result<Option<(Tags, i64)>, StoreError> {
    let mut query = db.prepare_cached("SELECT tags, created_at FROM instance WHERE key = ?1")?;
    let found: Option<(Option<String>, i64)> = query
        .query_row([key.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let read = |(text, created_at): (Option<String>, i64)| Ok((read(text)?, created_at));
    found.map(read).transpose()
}

/// The tags of an instance, in the order of their keys.
pub(in crate::store) fn of(db: &Connection, key: InstanceKey) -> Result<Tags, StoreError> {
    Ok(with_creation(db, key)?.map_or_else(Vec::new, |(tags, _)| tags))
}

/// Reads the column `tags`.
pub(in crate::store) fn read(text: Option<String>) -> Result<Tags, StoreError> {
    let Some(text) = text else {
        return Ok(Vec::new());
    };
    let tags: BTreeMap<String, String> = serde_json::from_str(&text)
        .map_err(|e| StoreError::Corrupt(format!("the tags of an instance: {e}")))?;
    Ok(tags.into_iter().collect())
}

/// Writes the column `tags`.
pub(in crate::store) fn text(tags: &Tags) -> Option<String> {
    if tags.is_empty() {
        return None;
    }
    let pairs = tags.iter().map(|(k, v)| (k.clone(), v.clone().into()));
    let object: serde_json::Map<_, _> = pairs.collect();
    Some(serde_json::Value::Object(object).to_string())
}

/// Sets and removes tags in the row of an instance and in the lists. Returns the tags after that; as an error, with nothing changed, if
/// `allows` refuses them.
pub(in crate::store) fn change(
    db: &Connection,
    key: InstanceKey,
    changes: &[(String, Option<String>)],
    allows: impl FnOnce(&Tags) -> bool,
) -> Result<Result<Tags, Tags>, StoreError> {
    let (before, created_at) = with_creation(db, key)?.ok_or(StoreError::Conflict)?;
    let mut after = before.clone();
    for (tag, value) in changes {
        set_tag(&mut after, tag, value.as_deref());
    }
    after.sort();
    if after == before {
        return Ok(Ok(after));
    }
    if !allows(&after) {
        return Ok(Err(after));
    }
    for (tag, value) in before.iter().filter(|tag| !after.contains(tag)) {
        db.prepare_cached(
            "DELETE FROM instance_tag WHERE tag = ?1 AND value = ?2 AND created_at = ?3 AND instance = ?4",
        )?
        .execute(params![tag, value, created_at, key.0])?;
    }
    for (tag, value) in after.iter().filter(|tag| !before.contains(tag)) {
        db.prepare_cached("INSERT OR IGNORE INTO instance_tag (tag, value, created_at, instance) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![tag, value, created_at, key.0])?;
    }
    db.prepare_cached("UPDATE instance SET tags = ?1 WHERE key = ?2")?
        .execute(params![text(&after), key.0])?;
    Ok(Ok(after))
}
