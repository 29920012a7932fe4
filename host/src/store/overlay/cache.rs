//! Which live instances are in memory between batches, the least recently used first.

use std::collections::{BTreeMap, HashMap};

use crate::store::types::InstanceKey;

/// The keys of instances, in the order of their last use.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// Of each instance when it was used last, and its bytes.
    entries: HashMap<InstanceKey, (u64, usize)>,
    by_use: BTreeMap<u64, InstanceKey>,
    /// Counts uses.
    uses: u64,
    bytes: usize,
}

impl Cache {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The bytes of all instances.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = InstanceKey> {
        self.entries.keys().copied()
    }

    pub(super) fn contains(&self, key: InstanceKey) -> bool {
        self.entries.contains_key(&key)
    }

    /// Adds an instance that was used now, or changes its bytes.
    pub(super) fn put(&mut self, key: InstanceKey, bytes: usize) {
        self.remove(key);
        self.uses += 1;
        self.entries.insert(key, (self.uses, bytes));
        self.by_use.insert(self.uses, key);
        self.bytes += bytes;
    }

    pub(super) fn remove(&mut self, key: InstanceKey) {
        if let Some((used, bytes)) = self.entries.remove(&key) {
            self.by_use.remove(&used);
            self.bytes -= bytes;
        }
    }

    /// Removes the instance that was used least recently.
    pub(super) fn take_oldest(&mut self) -> Option<InstanceKey> {
        let (_, &key) = self.by_use.first_key_value()?;
        self.remove(key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut cache = Cache::default();
        for (key, bytes) in [(1, 10), (2, 20), (3, 30), (1, 15)] {
            cache.put(InstanceKey(key), bytes);
        }
        assert_eq!((cache.len(), cache.bytes()), (3, 65));
        assert_eq!(cache.take_oldest(), Some(InstanceKey(2)));
        cache.remove(InstanceKey(3));
        assert_eq!((cache.len(), cache.bytes()), (1, 15));
        assert!(cache.contains(InstanceKey(1)));
        assert_eq!(cache.take_oldest(), Some(InstanceKey(1)));
        assert_eq!((cache.take_oldest(), cache.bytes()), (None, 0));
    }
}
