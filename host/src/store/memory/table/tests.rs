//! Random changes of a table, beside a copy of all rows.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Op {
    Insert(u8, u8),
    Remove(u8),
    Change(u8),
    RetainAbove(u8),
    Evict(u8),
    Mark,
    Undo,
    Take,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..6_u8;
    prop_oneof![
        4 => (key.clone(), any::<u8>()).prop_map(|(key, row)| Op::Insert(key, row)),
        3 => key.clone().prop_map(Op::Remove),
        3 => key.clone().prop_map(Op::Change),
        1 => any::<u8>().prop_map(Op::RetainAbove),
        2 => key.prop_map(Op::Evict),
        2 => Just(Op::Mark),
        2 => Just(Op::Undo),
        1 => Just(Op::Take),
    ]
}

/// A table over a store from which it loads each row before it uses it.
#[derive(Default)]
struct Rows {
    table: Table<u8, u8>,
    loaded: BTreeSet<u8>,
    below: BTreeMap<u8, u8>,
    /// All rows as they should be, and as they were at the mark.
    now: BTreeMap<u8, u8>,
    at_mark: BTreeMap<u8, u8>,
}

impl Rows {
    fn need(&mut self, key: u8) {
        if self.loaded.insert(key)
            && let Some(row) = self.below.get(&key)
        {
            self.table.load(key, *row);
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Insert(key, row) => {
                self.need(key);
                let existed = self.now.insert(key, row).is_some();
                assert_eq!(self.table.insert(key, row), existed);
            }
            Op::Remove(key) => {
                self.need(key);
                let removed = self.table.remove(&key).map(|row| *row);
                assert_eq!(removed, self.now.remove(&key));
            }
            Op::Change(key) => {
                self.need(key);
                let rows = (self.table.get_mut(&key), self.now.get_mut(&key));
                if let (Some(one), Some(other)) = rows {
                    *one = one.wrapping_add(1);
                    *other = other.wrapping_add(1);
                }
            }
            Op::RetainAbove(least) => {
                (0..6).for_each(|key| self.need(key));
                self.table.retain(|_, row| *row > least);
                self.now.retain(|_, row| *row > least);
            }
            Op::Evict(key) => {
                if !self.table.is_touched(&key) {
                    self.table.evict(&key);
                    self.loaded.remove(&key);
                }
            }
            Op::Mark => {
                self.table.mark();
                self.at_mark = self.now.clone();
            }
            Op::Undo => {
                self.table.undo();
                self.now = self.at_mark.clone();
            }
            Op::Take => self.take(),
        }
    }

    /// Writes down what was changed.
    fn take(&mut self) {
        for RowChange { key, before, now } in self.table.take_changes() {
            assert_eq!(before.map(|row| *row), self.below.get(&key).copied());
            match now {
                Some(now) => self.below.insert(key, *now),
                None => self.below.remove(&key),
            };
        }
        assert_eq!(self.below, self.now);
        self.at_mark = self.now.clone();
    }

    fn check(&self) {
        for key in &self.loaded {
            assert_eq!(self.table.get(key), self.now.get(key), "{key}");
            let before = self.table.before(key);
            let expected = self.below.contains_key(key);
            assert!(before.is_none_or(|before| before == expected), "{key}");
        }
        let loaded = self.table.iter().map(|(key, _)| key);
        assert!(loaded.eq(self.now.keys().filter(|key| self.loaded.contains(key))));
    }
}

proptest! {
    // The same cases each time.
    #![proptest_config(ProptestConfig {
        cases: 500,
        rng_seed: RngSeed::Fixed(8),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_was_changed_is_told_or_taken_back(ops in vec(op(), 0..60)) {
        let mut rows = Rows::default();
        for op in ops {
            rows.run(op);
            rows.check();
        }
        rows.take();
    }
}
