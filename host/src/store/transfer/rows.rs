//! Rows of a hub, whatever store keeps them: as they are read from one, checked, and written to another.

use sha2::Digest as _;

use crate::store::StoreError;
use crate::store::schema::Table;

/// A value of a row. All integers and flags are [`Int`](Field::Int).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Field<'a> {
    Null,
    Int(i64),
    /// Text in UTF-8, unless the row is damaged.
    Text(&'a [u8]),
    Bytes(&'a [u8]),
}

/// What takes the rows of a table, one after the other, with the values of all columns.
pub(in crate::store) type EachRow<'a> = dyn FnMut(&[Field<'_>]) -> Result<(), StoreError> + 'a;

/// The row of a hub itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct HubRow {
    pub(in crate::store) created_at: i64,
    /// How many transactions owners have committed, and when the last one was.
    pub(in crate::store) commits: i64,
    pub(in crate::store) at: i64,
    /// What continuation tokens are made with.
    pub(in crate::store) secret: Vec<u8>,
    /// How many partitions it has in PostgreSQL. The keys of a file tell none.
    pub(in crate::store) partitions: Option<u16>,
}

/// Reads the rows of a hub as they were at one moment.
pub(in crate::store) trait ReadRows {
    fn hub(&mut self) -> Result<HubRow, StoreError>;

    /// How many instances there are.
    fn instances(&mut self) -> Result<u64, StoreError>;

    /// How many instances there are from a key on, but at most so many, and the key of the last of them.
    fn chunk(&mut self, from: i64, at_most: u32) -> Result<(u64, Option<i64>), StoreError>;

    /// Reads the rows of a table in the order of its key, without keeping them: all, or those of the instances with these keys, with which
    /// the keys of the table begin.
    fn each(
        &mut self,
        table: &'static Table,
        of: Option<(i64, i64)>,
        row: &mut EachRow<'_>,
    ) -> Result<(), StoreError>;

    /// The id of an instance.
    fn id(&mut self, key: i64) -> Result<Option<String>, StoreError>;
}

/// A hub that is being made. Nobody sees it before it is published, and nothing is left of it if it is dropped before that.
pub(in crate::store) trait WriteRows {
    /// How many partitions a hub gets here that comes from a file; `None` if hubs are not divided here.
    fn divides(&self) -> Option<u16>;

    /// Why a row cannot be kept here.
    fn refuses(&self, table: &'static Table, row: &[Field<'_>]) -> Option<String>;

    /// Adds a row. Those of a table follow one another, not always in the order of their keys.
    fn write(&mut self, table: &'static Table, row: &[Field<'_>]) -> Result<(), StoreError>;

    /// Ends the rows of a table, of which more may come later.
    fn end_table(&mut self) -> Result<(), StoreError>;

    /// Writes the row of the hub itself. No owner of it gives an instance a key that is in use.
    fn complete(&mut self, hub: &HubRow, keys: UsedKeys) -> Result<(), StoreError>;

    /// What was written.
    fn rows(&mut self) -> &mut dyn ReadRows;

    /// Makes the hub visible, whole and durable.
    fn publish(self: Box<Self>) -> Result<(), StoreError>;

    /// Why the target cannot be written.
    fn failed(&self, why: String) -> StoreError;
}

/// Which keys of instances the rows have, also of instances that are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct UsedKeys {
    /// The highest.
    pub(in crate::store) last: i64,
    /// The highest epoch in a key that an owner in PostgreSQL made, or that it may not take for its own.
    pub(in crate::store) epoch: i64,
}

/// The columns with keys of instances.
pub(super) const KEYS: [&str; 4] = ["key", "instance", "parent_key", "asker"];

/// The bits of a key of PostgreSQL below its partition that are the owner's epoch.
const EPOCH_SHIFT: u32 = 32;
const EPOCH_MASK: i64 = (1 << 21) - 1;

impl UsedKeys {
    /// Adds those of a row.
    pub(super) fn add(&mut self, table: &Table, row: &[Field<'_>]) {
        for ((name, _), field) in table.columns.iter().zip(row) {
            if let Field::Int(key) = field
                && KEYS.contains(name)
            {
                self.last = self.last.max(*key);
                self.epoch = self.epoch.max((key >> EPOCH_SHIFT) & EPOCH_MASK);
            }
        }
    }
}

/// The number of rows of a table, and a digest of all their values. The order of the rows does not matter: it differs where the keys do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Sum {
    pub(super) rows: u64,
    /// The sums of the parts of the digests of all rows. Not their exclusive or, in which two rows that are the same would be none.
    digest: [u64; 4],
}

impl Sum {
    pub(super) fn add(&mut self, row: &[Field<'_>]) {
        self.rows += 1;
        let mut hash = sha2::Sha256::new();
        for field in row {
            match field {
                Field::Null => hash.update([0]),
                Field::Int(number) => {
                    hash.update([1]);
                    hash.update(number.to_le_bytes());
                }
                Field::Text(bytes) => sized(&mut hash, 2, bytes),
                Field::Bytes(bytes) => sized(&mut hash, 3, bytes),
            }
        }
        let hash = hash.finalize();
        let (parts, _) = hash.as_slice().as_chunks::<8>();
        for (sum, part) in self.digest.iter_mut().zip(parts) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*part));
        }
    }
}

fn sized(hash: &mut sha2::Sha256, kind: u8, bytes: &[u8]) {
    hash.update([kind]);
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_differs_with_each_value_and_not_with_the_order() {
        let rows = [
            vec![Field::Int(1), Field::Null],
            vec![Field::Int(1), Field::Text(b"a")],
            vec![Field::Int(1), Field::Bytes(b"a")],
            vec![Field::Int(2), Field::Text(b"a")],
        ];
        let sum = |of: &[usize]| {
            let mut sum = Sum::default();
            of.iter().for_each(|at| sum.add(&rows[*at]));
            sum
        };
        assert_eq!(sum(&[0, 1, 2, 3]), sum(&[3, 1, 0, 2]));
        let others: [&[usize]; 6] = [&[0], &[1], &[2], &[3], &[0, 0], &[1, 1]];
        for (at, of) in others.iter().enumerate() {
            for other in &others[..at] {
                assert_ne!(sum(of), sum(other), "{of:?} {other:?}");
            }
        }
    }
}
