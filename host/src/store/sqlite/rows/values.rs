//! Named values of instances.
//!
//! A value is a row of its own, so that reading one is a keyed lookup, and a turn that sets none writes nothing here. The version of a value
//! is the number of the transaction that set it: it differs for all that a value ever was, also across rewinds, restarts and instances that
//! follow each other under one id.

use perennial_core::{Json, Timestamp};
use rusqlite::{Connection, params};

use crate::store::StoreError;
use crate::store::codec::{int, uint};
use crate::store::numbers::status_of;
use crate::store::queries::found::FoundValue;
use crate::store::rows::Found;
use crate::store::rows::instances::ValueRows;
use crate::store::sqlite::rows::reader::FileReader;
use crate::store::sqlite::rows::sql::Sql;
use crate::store::types::{InstanceKey, ValueRow};

impl FileReader {
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

impl ValueRows for Sql<'_> {
    fn values(&mut self, key: InstanceKey) -> Found<Vec<ValueRow>> {
        values(self.0, key)
    }

    fn set_values(
        &mut self,
        key: InstanceKey,
        changes: &[(&str, Option<&Json>)],
        at: Timestamp,
    ) -> Found<()> {
        let mut changed = 0;
        for (name, value) in changes {
            changed += match value {
                Some(value) => self
                    .0
                    .prepare_cached(
                        "INSERT INTO instance_value (instance, name, value, version, at)
                         VALUES (?1, ?2, ?3, (SELECT commits FROM hub WHERE id = 1), ?4)
                         ON CONFLICT (instance, name) DO UPDATE SET value = excluded.value, version = excluded.version, at = excluded.at
                         WHERE value <> excluded.value",
                    )?
                    .execute(params![key.0, name, value.as_str(), int(at.0)])?,
                None => self
                    .0
                    .prepare_cached("DELETE FROM instance_value WHERE instance = ?1 AND name = ?2")?
                    .execute(params![key.0, name])?,
            };
        }
        if changed > 0 {
            self.0.prepare_cached(
                "UPDATE instance SET value_count = (SELECT count(*) FROM instance_value WHERE instance = ?1) WHERE key = ?1",
            )?
            .execute([key.0])?;
        }
        Ok(())
    }

    fn delete_values(&mut self, key: InstanceKey) -> Found<()> {
        self.0
            .prepare_cached("DELETE FROM instance_value WHERE instance = ?1")?
            .execute([key.0])?;
        Ok(())
    }
}
