//! Keys of instances in a hub that is divided, instead of those of a file, which tell no partitions.
//!
//! Rows name an instance by its key, and what is encoded in them names it by its id: so a copy replaces whole columns, and nothing else.

use std::collections::HashMap;

use crate::store::StoreError;
use crate::store::partition::Partitions;
use crate::store::schema::{INSTANCE, Kind, Table};
use crate::store::transfer::rows::{Field, KEYS, ReadRows};

/// What decides the new key of an instance.
static INSTANCE_IDS: Table = Table {
    id: "instance_ids",
    name: INSTANCE.name,
    keys: 1,
    columns: &[("key", Kind::Int), ("id", Kind::Text)],
};

/// The keys of all instances of a hub, and those that they get: their numbers follow one another in the order of the old keys, so that they
/// are below those that any owner gives.
pub(super) struct NewKeys {
    /// Old and new keys, in the order of the old ones.
    of: Vec<(i64, i64)>,
    /// Those of instances that are gone. They have no id any more, so that all partitions are as good: the owner of the first one deletes what
    /// is left of them.
    gone: HashMap<i64, i64>,
}

impl NewKeys {
    /// The keys for a hub that has so many partitions.
    pub(super) fn read(source: &mut dyn ReadRows, partitions: u16) -> Result<Self, StoreError> {
        let partitions = Partitions::all(partitions);
        let mut of = Vec::new();
        source.each(&INSTANCE_IDS, None, &mut |row| {
            // A row with other values is found to be damaged when it is copied.
            if let [Field::Int(old), Field::Text(id)] = row {
                let key = partitions.key(&String::from_utf8_lossy(id), number_after(of.len()));
                of.push((*old, key.0));
            }
            Ok(())
        })?;
        Ok(Self {
            of,
            gone: HashMap::new(),
        })
    }

    /// The row with new keys.
    pub(super) fn replace<'a>(&mut self, table: &Table, row: &[Field<'a>]) -> Vec<Field<'a>> {
        let columns = table.columns.iter().zip(row);
        let replaced = columns.map(|((name, _), field)| match field {
            Field::Int(old) if KEYS.contains(name) => Field::Int(self.key(*old)),
            other => *other,
        });
        replaced.collect()
    }

    fn key(&mut self, old: i64) -> i64 {
        match self.of.binary_search_by_key(&old, |(old, _)| *old) {
            Ok(at) => self.of[at].1,
            Err(_) => {
                let next = number_after(self.of.len() + self.gone.len());
                *self.gone.entry(old).or_insert(next)
            }
        }
    }
}

/// The number of a key after so many, from 1.
fn number_after(many: usize) -> i64 {
    i64::try_from(many).unwrap_or(i64::MAX).saturating_add(1)
}
