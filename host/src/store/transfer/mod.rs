//! Copies a whole hub from one store to another.
//!
//! Invariants: the copy is the hub at one moment, whatever its owner commits meanwhile; it appears whole and compared with its source, or
//! not at all; nothing that exists is replaced; memory does not grow with one instance, but with its largest row, nor with the hub, except by
//! two numbers for each instance where keys are replaced.
//!
//! Rows go over as they are: the same ids, times and encoded bytes, and the same keys, except from a file to PostgreSQL: there a key tells
//! the partition of its instance, and each instance gets [another one](keys). So do the rows that are left of histories, and their entries
//! in the garbage: to tell them from those that are needed would cost more than to copy them, and the next owner deletes them. Commands of
//! other processes do not: who sent them waits for the hub that they were sent to. Nobody owns the copy, and its first owner gives no key
//! that any row has.
//!
//! The secret goes over with the keys, as in a backup: a place in a list, which is what a continuation token says, is the same place in the
//! copy. Where keys are replaced it would be another place: such a copy has a secret of its own, and refuses the token.

mod damage;
mod keys;
pub(in crate::store) mod rows;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::store::StoreError;
use crate::store::postgres;
use crate::store::postgres::address::Address;
use crate::store::schema::{self, INSTANCE, TAG, Table};
use crate::store::sqlite;
use crate::store::transfer::keys::NewKeys;
use crate::store::transfer::rows::{Field, HubRow, ReadRows, Sum, UsedKeys, WriteRows};

/// Instances whose rows are copied together. Progress is reported after each of these.
const CHUNK: u32 = 1_000;

/// The hub that is copied.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CopyFrom<'a> {
    /// A file of SQLite.
    File(&'a Path),
    /// A schema of PostgreSQL.
    Database(&'a Address),
}

/// Where the copy goes. There must be nothing, or an empty schema.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CopyTo<'a> {
    /// The file of a hub. Its directory is made, and what a former hub of this name left beside it is removed.
    File(&'a Path),
    /// A file that is kept as a backup.
    Backup(&'a Path),
    /// A schema of PostgreSQL.
    Database(&'a Address),
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    pub(crate) instances: u64,
    /// Rows of all tables.
    pub(crate) rows: u64,
}

/// Copies a hub that may be in use. `progress` receives the instances that are copied, and how many there are.
///
/// # Errors
/// [`StoreError::File`] if the target exists, cannot be written, cannot hold a row, or is found to differ; [`StoreError::Corrupt`] names
/// the instance with a row that is damaged; and those of a hub that cannot be read. Nothing is left of the copy then. If the connection is
/// lost while the copy in PostgreSQL is committed, and cannot be made again, the error says that the copy may be there.
pub(crate) fn copy(
    from: CopyFrom<'_>,
    to: CopyTo<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Copied, StoreError> {
    let source: Box<dyn ReadRows> = match from {
        CopyFrom::File(path) => Box::new(sqlite::transfer::FileRows::open(path)?),
        CopyFrom::Database(address) => Box::new(postgres::transfer::read::open(address)?),
    };
    let target: Box<dyn WriteRows> = match to {
        CopyTo::File(path) => Box::new(sqlite::transfer::FileTarget::of_hub(path)?),
        CopyTo::Backup(path) => Box::new(sqlite::transfer::FileTarget::of_backup(path)?),
        CopyTo::Database(address) => Box::new(postgres::transfer::write::create(address)?),
    };
    between(source, target, progress)
}

/// Copies what one of them reads to where the other one writes.
pub(in crate::store) fn between(
    mut source: Box<dyn ReadRows>,
    mut target: Box<dyn WriteRows>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Copied, StoreError> {
    let (hub, sums) = copy_rows(&mut *source, &mut *target, progress)?;
    // Whoever keeps a snapshot keeps the store from tidying up.
    drop(source);
    compare(&mut *target, &hub, &sums)?;
    target.publish()?;
    Ok(Copied {
        instances: sums.get(INSTANCE.id).map_or(0, |sum| sum.rows),
        rows: sums.values().map(|sum| sum.rows).sum(),
    })
}

/// Sums of tables, by their names.
type Sums = HashMap<&'static str, Sum>;

fn copy_rows(
    source: &mut dyn ReadRows,
    target: &mut dyn WriteRows,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(HubRow, Sums), StoreError> {
    // First of all, so that the snapshot is as of now.
    let mut hub = source.hub()?;
    let all = source.instances()?;
    let keys = match (hub.partitions, target.divides()) {
        (None, Some(partitions)) => {
            hub.partitions = Some(partitions);
            hub.secret = uuid::Uuid::new_v4().as_bytes().to_vec();
            Some(NewKeys::read(source, partitions)?)
        }
        _ => None,
    };
    let mut copying = Copying {
        source,
        target,
        sums: schema::all()
            .map(|table| (table.id, Sum::default()))
            .collect(),
        used: UsedKeys::default(),
        keys,
        quarantined: HashSet::new(),
    };
    progress(0, all);
    for table in schema::OF_HUB {
        copying.table(table, None)?;
    }
    let (mut from, mut done) = (i64::MIN, 0);
    loop {
        let (count, last) = copying.source.chunk(from, CHUNK)?;
        // After the last instance there may be rows of those that are gone.
        let to = last.filter(|_| count == u64::from(CHUNK));
        let range = (from, to.unwrap_or(i64::MAX));
        copying.quarantined.clear();
        for table in schema::OF_INSTANCES {
            copying.table(table, Some(range))?;
        }
        done += count;
        progress(done, all);
        match to.and_then(|to| to.checked_add(1)) {
            Some(next) => from = next,
            None => break,
        }
    }
    copying.table(&TAG, None)?;
    let Copying {
        target, sums, used, ..
    } = copying;
    target.complete(&hub, used)?;
    Ok((hub, sums))
}

/// A copy that is under way.
struct Copying<'a> {
    source: &'a mut dyn ReadRows,
    target: &'a mut dyn WriteRows,
    sums: Sums,
    used: UsedKeys,
    /// Those that are replaced.
    keys: Option<NewKeys>,
    /// Instances of this chunk whose histories or modules are known to be unusable.
    quarantined: HashSet<i64>,
}

impl Copying<'_> {
    /// Copies rows of a table: all, or those of these instances.
    fn table(&mut self, table: &'static Table, of: Option<(i64, i64)>) -> Result<(), StoreError> {
        let Self {
            source,
            target,
            sums,
            used,
            keys,
            quarantined,
        } = self;
        let sum = sums.entry(table.id).or_default();
        let key_at = table.instance_column();
        let quarantine_at = match table.id == INSTANCE.id {
            true => table
                .columns
                .iter()
                .position(|(name, _)| *name == "quarantine"),
            false => None,
        };
        let (mut at, mut refused) = (None, None);
        let copied = source.each(table, of, &mut |row| {
            at = key_at.and_then(|column| match row.get(column) {
                Some(Field::Int(key)) => Some(*key),
                _ => None,
            });
            // What made the host quarantine an instance goes over with it, and does no harm there either.
            let is_known = at.is_some_and(|key| quarantined.contains(&key));
            damage::check(table, row, !is_known)?;
            if let (Some(key), Some(column)) = (at, quarantine_at)
                && row.get(column) != Some(&Field::Null)
            {
                quarantined.insert(key);
            }
            let replaced = keys.as_mut().map(|keys| keys.replace(table, row));
            let row = replaced.as_deref().unwrap_or(row);
            refused = target.refuses(table, row);
            if refused.is_some() {
                return Err(StoreError::Conflict);
            }
            sum.add(row);
            used.add(table, row);
            target.write(table, row)
        });
        let ended = copied.and_then(|()| target.end_table());
        ended.map_err(|error| match (error, refused) {
            (_, Some(why)) => target.failed(named(&why, table, at, &mut **source)),
            (StoreError::Corrupt(why), _) => {
                StoreError::Corrupt(named(&why, table, at, &mut **source))
            }
            (other, _) => other,
        })
    }
}

/// What is wrong with a row, with its table and its instance.
fn named(why: &str, table: &Table, key: Option<i64>, source: &mut dyn ReadRows) -> String {
    let table = table.name;
    match key {
        None => format!("a row of the table {table}: {why}"),
        Some(key) => match source.id(key) {
            Ok(Some(id)) => format!(
                "a row of the table {table} of the instance {id:?} (key {key}): {why}; the instance must be purged before the task hub can be copied"
            ),
            _ => {
                format!("a row of the table {table} of an instance that is gone (key {key}): {why}")
            }
        },
    }
}

/// Reads the copy again, and compares it with what was read of the source.
fn compare(target: &mut dyn WriteRows, hub: &HubRow, sums: &Sums) -> Result<(), StoreError> {
    match difference(target.rows(), hub, sums)? {
        None => Ok(()),
        Some(of) => Err(target.failed(format!(
            "the copy differs from its source in the table {of}, and was not kept; check the disk and the memory of the machine, and try again"
        ))),
    }
}

/// The first table that differs from what was copied.
fn difference(
    rows: &mut dyn ReadRows,
    hub: &HubRow,
    sums: &Sums,
) -> Result<Option<String>, StoreError> {
    let found = rows.hub()?;
    // Transactions may be counted from a higher number on.
    if found.commits < hub.commits
        || (found.created_at, found.at, &found.secret) != (hub.created_at, hub.at, &hub.secret)
    {
        return Ok(Some("hub".to_owned()));
    }
    for table in schema::all() {
        let mut sum = Sum::default();
        rows.each(table, None, &mut |row| {
            sum.add(row);
            Ok(())
        })?;
        let expected = sums.get(table.id).copied().unwrap_or_default();
        if sum.rows != expected.rows {
            let (name, rows, expected) = (table.name, sum.rows, expected.rows);
            return Ok(Some(format!("{name} ({rows} rows of {expected})")));
        }
        if sum != expected {
            return Ok(Some(table.name.to_owned()));
        }
    }
    Ok(None)
}
