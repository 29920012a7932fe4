//! Rows of one kind by key, with a journal of what was changed.
//!
//! The first time a row is touched, the journal keeps it as it was. So a failed change can be taken back without a copy of the table, and
//! what a batch of changes wrote can be told to a slower store. A row that nothing touches costs nothing.

#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::mem::take;
use std::ops::RangeBounds;
use std::sync::Arc;

/// What became of a row.
#[derive(Clone, Debug)]
pub(in crate::store) struct RowChange<K, V> {
    pub(in crate::store) key: K,
    /// The row before the batch; `None` is none.
    pub(in crate::store) before: Option<Arc<V>>,
    /// The row after the batch; `None` is none. Not both are.
    pub(in crate::store) now: Option<Arc<V>>,
}

/// The touched rows as they were; `None` is a row that did not exist.
type Images<K, V> = BTreeMap<K, Option<Arc<V>>>;

/// Rows of one kind by key.
///
/// Rows are shared with the journal, and with who writes the changes down. One that is still shared is copied when it is touched.
#[derive(Clone)]
pub(in crate::store) struct Table<K, V> {
    rows: BTreeMap<K, Arc<V>>,
    /// The rows that were touched since the mark, as they were then.
    since_mark: Images<K, V>,
    /// The rows that were touched between the beginning and the mark, as they were at the beginning.
    since_begin: Images<K, V>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            since_mark: BTreeMap::new(),
            since_begin: BTreeMap::new(),
        }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.fmt(f)
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Table<K, V> {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(rows: T) -> Self {
        let rows = rows.into_iter().map(|(key, row)| (key, Arc::new(row)));
        Self {
            rows: rows.collect(),
            ..Self::default()
        }
    }
}

impl<K: Ord, V> Table<K, V> {
    pub(in crate::store) fn len(&self) -> usize {
        self.rows.len()
    }

    #[cfg(test)]
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(in crate::store) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.rows.get(key).map(|row| &**row)
    }

    pub(in crate::store) fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.rows.contains_key(key)
    }

    /// The rows in the order of their keys.
    pub(in crate::store) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.iter().map(pair)
    }

    pub(in crate::store) fn keys(&self) -> btree_map::Keys<'_, K, Arc<V>> {
        self.rows.keys()
    }

    /// The rows in the order of their keys.
    pub(in crate::store) fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.rows.values().map(|row| &**row)
    }

    pub(in crate::store) fn range<Q: Ord + ?Sized>(
        &self,
        range: impl RangeBounds<Q>,
    ) -> impl DoubleEndedIterator<Item = (&K, &V)>
    where
        K: Borrow<Q>,
    {
        self.rows.range(range).map(pair)
    }
}

fn pair<'t, K, V>((key, row): (&'t K, &'t Arc<V>)) -> (&'t K, &'t V) {
    (key, &**row)
}

impl<K: Ord + Clone, V> Table<K, V> {
    /// Adds or replaces a row. Returns whether there was one.
    pub(in crate::store) fn insert(&mut self, key: K, row: V) -> bool {
        let before = self.rows.insert(key.clone(), Arc::new(row));
        let existed = before.is_some();
        self.since_mark.entry(key).or_insert(before);
        existed
    }

    /// Deletes a row, and returns it.
    pub(in crate::store) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
    {
        let (key, row) = self.rows.remove_entry(key)?;
        let image = self.since_mark.entry(key);
        image.or_insert_with(|| Some(Arc::clone(&row)));
        Some(row)
    }

    /// Deletes the rows to which this does not apply.
    pub(in crate::store) fn retain(&mut self, mut applies: impl FnMut(&K, &V) -> bool) {
        let others = self.rows.iter().filter(|(key, row)| !applies(key, row));
        let others: Vec<K> = others.map(|(key, _)| key.clone()).collect();
        for key in &others {
            self.remove(key);
        }
    }

    /// Takes back what was changed since the mark.
    pub(in crate::store) fn undo(&mut self) {
        for (key, before) in take(&mut self.since_mark) {
            match before {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
    }

    /// What is changed from now on can be taken back on its own.
    pub(in crate::store) fn mark(&mut self) {
        if self.since_begin.is_empty() {
            self.since_begin = take(&mut self.since_mark);
            return;
        }
        for (key, before) in take(&mut self.since_mark) {
            self.since_begin.entry(key).or_insert(before);
        }
    }

    /// Forgets what the rows were before. The next change begins a batch.
    pub(in crate::store) fn forget_undo(&mut self) {
        self.since_mark.clear();
        self.since_begin.clear();
    }

    /// What became of each row that was touched in this batch, in the order of the keys. The next change begins a batch.
    pub(in crate::store) fn take_changes(&mut self) -> Vec<RowChange<K, V>> {
        self.mark();
        let touched = take(&mut self.since_begin).into_iter();
        let change = |(key, before): (K, Option<Arc<V>>)| {
            let now = self.rows.get(&key).cloned();
            let is_same = match (&before, &now) {
                (Some(before), Some(now)) => Arc::ptr_eq(before, now),
                (None, None) => true,
                _ => false,
            };
            (!is_same).then_some(RowChange { key, before, now })
        };
        touched.filter_map(change).collect()
    }

    /// Whether a row was touched in this batch, and is therefore in the journal.
    pub(in crate::store) fn is_touched<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.since_mark.contains_key(key) || self.since_begin.contains_key(key)
    }

    /// Whether a row that was touched in this batch was there before it; `None` if it was not touched.
    pub(in crate::store) fn before<Q: Ord + ?Sized>(&self, key: &Q) -> Option<bool>
    where
        K: Borrow<Q>,
    {
        let before = self.since_begin.get(key).or(self.since_mark.get(key));
        before.map(Option::is_some)
    }

    /// The keys of the rows that were touched in this batch; some twice.
    pub(in crate::store) fn touched(&self) -> impl Iterator<Item = &K> {
        self.since_begin.keys().chain(self.since_mark.keys())
    }

    /// Adds a row as another store has it, unless it is here, or was touched. That is no change.
    pub(in crate::store) fn load(&mut self, key: K, row: V) {
        if !self.is_touched(&key) {
            self.rows.entry(key).or_insert_with(|| Arc::new(row));
        }
    }

    /// Drops a row that another store has too. That is no change.
    pub(in crate::store) fn evict<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.rows.remove(key);
    }

    /// Drops the rows in a range that another store has too. That is no change.
    pub(in crate::store) fn evict_range(&mut self, range: impl RangeBounds<K>) {
        let dropped = self.rows.range(range);
        let dropped: Vec<K> = dropped.map(|(key, _)| key.clone()).collect();
        for key in &dropped {
            self.rows.remove(key);
        }
    }

    /// Drops all rows, and what was changed.
    pub(in crate::store) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl<K: Ord + Clone, V: Clone> Table<K, V> {
    /// A row to change.
    pub(in crate::store) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let is_kept = self.since_mark.contains_key(key);
        if !is_kept {
            let (key, row) = self.rows.get_key_value(key)?;
            self.since_mark.insert(key.clone(), Some(Arc::clone(row)));
        }
        self.rows.get_mut(key).map(Arc::make_mut)
    }

    /// Changes all rows. That cannot be taken back, and is no change.
    #[cfg(test)]
    pub(in crate::store) fn amend(&mut self, mut change: impl FnMut(&mut V)) {
        for row in self.rows.values_mut() {
            change(Arc::make_mut(row));
        }
    }
}
