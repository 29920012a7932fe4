//! Writes down what a batch of changes wrote. It shows how a store does that.

use std::fmt::Debug;

use crate::store::memory::Memory;
use crate::store::memory::delta::Delta;
use crate::store::memory::table::{RowChange, Table};
use crate::store::memory::tasks::may_have_begun;
use crate::store::rows::hub::SettingRows;
use crate::store::rows::outbox::OutboxRows;
use crate::store::rows::turns::TurnRows;

impl Memory {
    /// Carries out the instructions, and writes the rows.
    ///
    /// # Panics
    /// If a row is not as it was when it was read.
    pub(in crate::store) fn absorb(&mut self, delta: Delta) {
        for key in &delta.delete_turns {
            self.delete_turns(*key).unwrap();
        }
        for (of, now) in &delta.count_unknown {
            self.tasks.amend(|task| {
                let counts = of.has_key(task.row.key) && may_have_begun(&task.row, *now);
                task.row.cut += u32::from(counts);
            });
        }
        if let Some(before) = delta.delete_answered {
            self.delete_old_answers(before).unwrap();
        }
        // The id of one that is deleted may be that of another one now.
        let (deleted, written): (Vec<_>, Vec<_>) = delta
            .instances
            .into_iter()
            .partition(|change| change.now.is_none());
        for change in deleted.into_iter().chain(written) {
            unchanged(&self.instances, &change);
            self.take_instance(change.key);
            if let Some(now) = change.now {
                assert!(!self.ids.contains_key(&now.row.id));
                self.put_instance((*now).clone());
            }
        }
        if delta.count_unknown.is_empty() {
            delta.tasks.iter().for_each(|of| unchanged(&self.tasks, of));
        }
        write(&mut self.tasks, delta.tasks);
        macro_rules! write_unchanged {
            ($($table:ident)*) => {
                $(delta.$table.iter().for_each(|change| unchanged(&self.$table, change));
                write(&mut self.$table, delta.$table);)*
            };
        }
        write_unchanged!(values inbox garbage requests names definitions versions settings keys commands);
        for change in delta.outbox {
            match (change.before, change.now) {
                (Some(_), None) => assert!(self.receive(change.key).unwrap()),
                (None, Some(sent)) => self.send(sent.to, sent.message.clone()).unwrap(),
                (before, now) => panic!("{before:?} became {now:?}"),
            }
        }
        write(&mut self.turns, delta.turns);
        write(&mut self.cut_turns, delta.cut_turns);
        write(&mut self.rewinds, delta.rewinds);
        write(&mut self.modules, delta.modules);
        self.forget_undo();
    }
}

fn write<K: Ord + Clone + Debug, V: Clone>(table: &mut Table<K, V>, changes: Vec<RowChange<K, V>>) {
    for RowChange { key, before, now } in changes {
        assert_eq!(table.contains_key(&key), before.is_some(), "{key:?}");
        match now {
            Some(row) => drop(table.insert(key, (*row).clone())),
            None => drop(table.remove(&key)),
        }
    }
}

fn unchanged<K: Ord + Clone + Debug, V: Debug>(table: &Table<K, V>, change: &RowChange<K, V>) {
    let found = table.get(&change.key).map(|row| format!("{row:?}"));
    let before = change.before.as_ref().map(|row| format!("{row:?}"));
    assert_eq!(found, before, "{:?}", change.key);
}
