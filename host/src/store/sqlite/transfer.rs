//! The rows of a hub's file, as a copy of the hub reads and writes them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use perennial_core::Timestamp;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use crate::store::StoreError;
use crate::store::schema::Table;
use crate::store::sqlite::file::backup::{AHEAD, BESIDE};
use crate::store::sqlite::file::foreign_log;
use crate::store::sqlite::file::fresh::{Fresh, refuse_existing};
use crate::store::sqlite::file::lock::OwnerLock;
use crate::store::sqlite::file::open::{begin_new, connect_reader};
use crate::store::sqlite::file::paths::{RUNNING, remove, with_suffix};
use crate::store::transfer::rows::{EachRow, Field, HubRow, ReadRows, UsedKeys, WriteRows};

/// The memory for pages of a file that is written, in KiB.
const CACHE_KIB: i64 = 64 << 10;

/// Owners of a file give keys from this many bits above their epochs on.
const EPOCH_SHIFT: u32 = 40;

/// A snapshot of a hub's file.
pub(in crate::store) struct FileRows(Connection);

impl FileRows {
    /// Opens a hub that may be in use.
    ///
    /// The log cannot be emptied while the snapshot lasts: it grows by what the owner writes meanwhile.
    pub(in crate::store) fn open(path: &Path) -> Result<Self, StoreError> {
        foreign_log::check(path)?;
        let db = connect_reader(path)?;
        // The snapshot is as of the first read.
        db.execute_batch("BEGIN")?;
        Ok(Self(db))
    }
}

impl ReadRows for FileRows {
    fn hub(&mut self) -> Result<HubRow, StoreError> {
        let sql = "SELECT created_at, commits, at, secret FROM hub";
        Ok(self.0.query_row(sql, [], |row| {
            Ok(HubRow {
                created_at: row.get(0)?,
                commits: row.get(1)?,
                at: row.get(2)?,
                secret: row.get(3)?,
                partitions: None,
            })
        })?)
    }

    fn instances(&mut self) -> Result<u64, StoreError> {
        let count: i64 = self
            .0
            .query_row("SELECT count(*) FROM instance", [], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    fn chunk(&mut self, from: i64, at_most: u32) -> Result<(u64, Option<i64>), StoreError> {
        let mut query = self.0.prepare_cached(
            "SELECT count(*), max(key) FROM (SELECT key FROM instance WHERE key >= ?1 ORDER BY key LIMIT ?2)",
        )?;
        let (count, last): (i64, Option<i64>) =
            query.query_row(params![from, at_most], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok((count.unsigned_abs(), last))
    }

    fn each(
        &mut self,
        table: &'static Table,
        of: Option<(i64, i64)>,
        row: &mut EachRow<'_>,
    ) -> Result<(), StoreError> {
        let range = match of {
            Some(_) => format!("WHERE {} BETWEEN ?1 AND ?2", table.columns[0].0),
            None => String::new(),
        };
        let (names, name, keys) = (table.names(), table.name, table.key_names());
        let sql = format!("SELECT {names} FROM {name} {range} ORDER BY {keys}");
        let mut query = self.0.prepare_cached(&sql)?;
        let params = of.map_or_else(Vec::new, |(from, to)| vec![from, to]);
        let mut found = query.query(params_from_iter(params))?;
        while let Some(found) = found.next()? {
            let mut fields = Vec::with_capacity(table.columns.len());
            for column in 0..table.columns.len() {
                fields.push(match found.get_ref(column)? {
                    ValueRef::Null => Field::Null,
                    ValueRef::Integer(number) => Field::Int(number),
                    ValueRef::Text(text) => Field::Text(text),
                    ValueRef::Blob(bytes) => Field::Bytes(bytes),
                    ValueRef::Real(number) => {
                        let what = format!("{} is {number}", table.columns[column].0);
                        return Err(StoreError::Corrupt(what));
                    }
                });
            }
            row(&fields)?;
        }
        Ok(())
    }

    fn id(&mut self, key: i64) -> Result<Option<String>, StoreError> {
        let mut query = self
            .0
            .prepare_cached("SELECT id FROM instance WHERE key = ?1")?;
        Ok(query.query_row([key], |row| row.get(0)).optional()?)
    }
}

/// A hub's file that is being written under another name.
pub(in crate::store) struct FileTarget {
    /// Closed before the file is removed.
    rows: FileRows,
    inserts: HashMap<&'static str, String>,
    fresh: Fresh,
    place: PathBuf,
    /// The right to the place, if a hub will be there.
    lock: Option<OwnerLock>,
}

impl FileTarget {
    /// A hub that hosts will use.
    pub(in crate::store) fn of_hub(path: &Path) -> Result<Self, StoreError> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .map_err(StoreError::file("could not create the directory", parent))?;
        }
        refuse_existing(path)?;
        let lock = OwnerLock::take(path)?;
        // The running work of a former hub of this name does not concern this one.
        remove(&with_suffix(path, RUNNING))?;
        Self::create(path, Some(lock))
    }

    /// A file to keep.
    pub(in crate::store) fn of_backup(path: &Path) -> Result<Self, StoreError> {
        for suffix in BESIDE {
            refuse_existing(&with_suffix(path, suffix))?;
        }
        Self::create(path, None)
    }

    fn create(path: &Path, lock: Option<OwnerLock>) -> Result<Self, StoreError> {
        refuse_existing(path)?;
        let fresh = Fresh::beside(path)?;
        let db = begin_new(fresh.path(), Timestamp(0)).map_err(|error| unwritable(path, error))?;
        db.pragma_update(None, "cache_size", -CACHE_KIB)?;
        Ok(Self {
            rows: FileRows(db),
            inserts: HashMap::new(),
            fresh,
            place: path.to_owned(),
            lock,
        })
    }

    fn insert(&mut self, table: &'static Table, row: &[Field<'_>]) -> Result<(), rusqlite::Error> {
        let sql = self.inserts.entry(table.id).or_insert_with(|| {
            let places: Vec<String> = (1..=row.len()).map(|at| format!("?{at}")).collect();
            let (name, names) = (table.name, table.names());
            format!(
                "INSERT INTO {name} ({names}) VALUES ({})",
                places.join(", ")
            )
        });
        let mut insert = self.rows.0.prepare_cached(sql)?;
        insert.execute(params_from_iter(row)).map(drop)
    }
}

impl ToSql for Field<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Field::Null => ValueRef::Null,
            Field::Int(number) => ValueRef::Integer(number),
            Field::Text(text) => ValueRef::Text(text),
            Field::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl WriteRows for FileTarget {
    fn divides(&self) -> Option<u16> {
        None
    }

    fn refuses(&self, _: &'static Table, _: &[Field<'_>]) -> Option<String> {
        None
    }

    fn write(&mut self, table: &'static Table, row: &[Field<'_>]) -> Result<(), StoreError> {
        self.insert(table, row)
            .map_err(|error| unwritable(&self.place, error.into()))
    }

    fn end_table(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn complete(&mut self, hub: &HubRow, keys: UsedKeys) -> Result<(), StoreError> {
        let db = &self.rows.0;
        let written = db.execute(
            "UPDATE hub SET created_at = ?1, at = ?2, secret = ?3, commits = ?4, owner_epoch = ?5",
            // No log of the hub, or of one that it was copied from, matches the copy.
            params![
                hub.created_at,
                hub.at,
                hub.secret,
                hub.commits.saturating_add(AHEAD),
                keys.last >> EPOCH_SHIFT
            ],
        );
        written
            .and_then(|_| db.execute_batch("COMMIT"))
            .map_err(|error| unwritable(&self.place, error.into()))?;
        // What is read from now on is read from the file.
        self.rows.0 = connect_reader(self.fresh.path())?;
        Ok(())
    }

    fn rows(&mut self) -> &mut dyn ReadRows {
        &mut self.rows
    }

    fn publish(self: Box<Self>) -> Result<(), StoreError> {
        let Self {
            rows,
            fresh,
            place,
            lock,
            ..
        } = *self;
        rows.0
            .close()
            .map_err(|(_, error)| StoreError::from(error))?;
        if lock.is_some() {
            // A log that a deleted hub left behind must not be folded into this one.
            for suffix in BESIDE {
                remove(&with_suffix(&place, suffix))?;
            }
        }
        fresh.publish(&place)
    }

    fn failed(&self, why: String) -> StoreError {
        StoreError::file("could not copy the task hub to", &self.place)(std::io::Error::other(why))
    }
}

/// The file that is written has another name than the one that was asked for.
fn unwritable(place: &Path, error: StoreError) -> StoreError {
    let kind = match error.is_disk_full() {
        true => std::io::ErrorKind::StorageFull,
        false => std::io::ErrorKind::Other,
    };
    let error = match error {
        StoreError::Database(error) => std::io::Error::new(kind, error.to_string()),
        other => return other,
    };
    StoreError::file("could not write", place)(error)
}
