//! Named values of instances, and changes of their tags.
//!
//! A value is a row of its own, so that reading one is a keyed lookup, and a turn that sets none writes nothing here. The version of a value
//! is the number of the transaction that set it: it differs for all that a value ever was, also across rewinds, restarts and instances that
//! follow each other under one id.

use std::collections::BTreeMap;

use perennial_core::{Json, Status, Tags, Timestamp, set_tag};
use rusqlite::{Connection, OptionalExtension, params};

use crate::store::StoreError;
use crate::store::codec::{int, uint};
use crate::store::rows::instances::status_of;
use crate::store::rows::reader::Reader;
use crate::store::types::InstanceKey;

/// A named value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValueRow {
    pub(crate) name: String,
    pub(crate) value: Json,
    /// Differs after each change.
    pub(crate) version: u64,
    /// When it was set.
    pub(crate) at: Timestamp,
}

/// A value of an instance, or its absence, with the status of the instance.
pub(crate) type FoundValue = (Status, Option<ValueRow>);

impl Reader {
    /// A value of the instance with an id; `None` if there is no such instance.
    pub(crate) fn value(&self, id: &str, name: &str) -> Result<Option<FoundValue>, StoreError> {
        self.with(|db| {
            let mut query = db.prepare_cached(
                "SELECT i.status, v.name, v.value, v.version, v.at FROM instance AS i
                 LEFT JOIN instance_value AS v ON v.instance = i.key AND v.name = ?2 WHERE i.id = ?1",
            )?;
            let mut rows = query.query([id, name])?;
            let Some(row) = rows.next()? else {
                return Ok(None);
            };
            let status = status_of(row.get(0)?)?;
            let is_set = row.get::<_, Option<String>>(1)?.is_some();
            let value = is_set.then(|| value_of(row, 1)).transpose()?;
            Ok(Some((status, value)))
        })
    }

    /// All values of an instance, by name.
    pub(crate) fn values(&self, key: InstanceKey) -> Result<Vec<ValueRow>, StoreError> {
        self.with(|db| values(db, key))
    }
}

/// Reads a value from a row whose columns from this one on are name, value, version and time.
fn value_of(row: &rusqlite::Row<'_>, first: usize) -> Result<ValueRow, StoreError> {
    Ok(ValueRow {
        name: row.get(first)?,
        value: Json::from_text(row.get::<_, String>(first + 1)?),
        version: uint(row.get(first + 2)?),
        at: Timestamp(uint(row.get(first + 3)?)),
    })
}

fn values(db: &Connection, key: InstanceKey) -> Result<Vec<ValueRow>, StoreError> {
    let mut query = db.prepare_cached(
        "SELECT name, value, version, at FROM instance_value WHERE instance = ?1 ORDER BY name",
    )?;
    let mut rows = query.query([key.0])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(value_of(row, 0)?);
    }
    Ok(found)
}

/// Sets and clears values. One that is set to what it is already keeps its version, so that nobody is told of it.
pub(in crate::store) fn change<'a>(
    db: &Connection,
    key: InstanceKey,
    changes: impl Iterator<Item = (&'a str, Option<&'a Json>)>,
    at: Timestamp,
) -> Result<(), StoreError> {
    let mut changed = 0;
    for (name, value) in changes {
        changed += match value {
            Some(value) => db
                .prepare_cached(
                    "INSERT INTO instance_value (instance, name, value, version, at)
                     VALUES (?1, ?2, ?3, (SELECT commits FROM hub WHERE id = 1), ?4)
                     ON CONFLICT (instance, name) DO UPDATE SET value = excluded.value, version = excluded.version, at = excluded.at
                     WHERE value <> excluded.value",
                )?
                .execute(params![key.0, name, value.as_str(), int(at.0)])?,
            None => db
                .prepare_cached("DELETE FROM instance_value WHERE instance = ?1 AND name = ?2")?
                .execute(params![key.0, name])?,
        };
    }
    if changed > 0 {
        db.prepare_cached(
            "UPDATE instance SET value_count = (SELECT count(*) FROM instance_value WHERE instance = ?1) WHERE key = ?1",
        )?
        .execute([key.0])?;
    }
    Ok(())
}

/// Makes these the values of an instance.
pub(in crate::store) fn replace(
    db: &Connection,
    key: InstanceKey,
    with: &[(&str, &Json)],
    at: Timestamp,
) -> Result<(), StoreError> {
    let before = values(db, key)?;
    let with: BTreeMap<&str, &Json> = with.iter().copied().collect();
    let cleared = before.iter().map(|row| row.name.as_str());
    let cleared = cleared.filter(|name| !with.contains_key(name));
    let changes = cleared.map(|name| (name, None));
    let set = with.iter().map(|(name, value)| (*name, Some(*value)));
    change(db, key, changes.chain(set), at)
}

/// Deletes all values of an instance.
pub(in crate::store) fn delete_all(db: &Connection, key: InstanceKey) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM instance_value WHERE instance = ?1")?
        .execute([key.0])?;
    Ok(())
}

/// The tags of an instance with the time of its creation, which is part of their keys in the lists.
fn tags_of(db: &Connection, key: InstanceKey) -> Result<Option<(Tags, i64)>, StoreError> {
    let mut query = db.prepare_cached("SELECT tags, created_at FROM instance WHERE key = ?1")?;
    let found: Option<(Option<String>, i64)> = query
        .query_row([key.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let read = |(text, created_at): (Option<String>, i64)| Ok((read_tags(text)?, created_at));
    found.map(read).transpose()
}

/// The tags of an instance, in the order of their keys.
pub(in crate::store) fn tags(db: &Connection, key: InstanceKey) -> Result<Tags, StoreError> {
    Ok(tags_of(db, key)?.map_or_else(Vec::new, |(tags, _)| tags))
}

/// Reads the column `tags`.
pub(in crate::store) fn read_tags(text: Option<String>) -> Result<Tags, StoreError> {
    let Some(text) = text else {
        return Ok(Vec::new());
    };
    let tags: BTreeMap<String, String> = serde_json::from_str(&text)
        .map_err(|e| StoreError::Corrupt(format!("the tags of an instance: {e}")))?;
    Ok(tags.into_iter().collect())
}

/// Writes the column `tags`.
pub(in crate::store) fn tags_text(tags: &Tags) -> Option<String> {
    if tags.is_empty() {
        return None;
    }
    let pairs = tags.iter().map(|(k, v)| (k.clone(), v.clone().into()));
    let object: serde_json::Map<_, _> = pairs.collect();
    Some(serde_json::Value::Object(object).to_string())
}

/// Sets and removes tags in the row of an instance and in the lists. Returns the tags after that; `None`, with the tags as they are, if
/// `allows` refuses them.
pub(in crate::store) fn change_tags(
    db: &Connection,
    key: InstanceKey,
    changes: &[(String, Option<String>)],
    allows: impl FnOnce(&Tags) -> bool,
) -> Result<Result<Tags, Tags>, StoreError> {
    let (before, created_at) = tags_of(db, key)?.ok_or(StoreError::Conflict)?;
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
        .execute(params![tags_text(&after), key.0])?;
    Ok(Ok(after))
}
