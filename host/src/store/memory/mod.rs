//! Rows in memory.
//!
//! It is a second store for the rules, as simple as can be, and shows what they rely on: whatever a change does on SQLite, it does here.
//! The writer of SQLite runs each change of the tests on it too, and compares. Over a store that is slow to ask, the overlay keeps here the
//! rows on which the changes of a batch are made, and writes down what the journals of the [tables](table) say that they changed.
//!
//! Invariant: what reads rows gets them from `get`, `range` and their like, and a row is touched only to be changed, since each that was
//! touched is copied once and written down.

#[cfg(test)]
mod absorb;
#[cfg(test)]
pub(in crate::store) mod compare;
pub(in crate::store) mod delta;
mod hub;
mod inbox;
mod instances;
mod loading;
#[cfg(test)]
mod members;
mod outbox;
#[cfg(test)]
pub(in crate::store) mod reader;
#[cfg(test)]
mod reads;
mod requests;
#[cfg(test)]
pub(in crate::store) mod shared;
pub(in crate::store) mod table;
pub(in crate::store) mod tasks;
#[cfg(test)]
pub(in crate::store) mod writer;

#[cfg(test)]
use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use perennial_core::{ChildPolicy, Digest, Message, Millis, TaskId, Timestamp, Turn, Waiting};

use crate::store::memory::table::Table;
use crate::store::outbox::OutboxMessage;
use crate::store::partition::{Partition, Partitions};
use crate::store::types::{
    Asker, Definition, DefinitionKind, InstanceKey, InstanceRow, KeyRow, NewModule, RequestAnswer,
    TaskRow, ValueRow,
};

/// A definition: the module that owns it, its digest, the version.
pub(in crate::store) type OwnedDefinition = (String, Digest, Option<String>);

/// A command of another process: its time, and the answer; `None` is still to come.
pub(in crate::store) type CommandRow = (Timestamp, Option<Vec<u8>>);

/// All rows of a hub.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Memory {
    /// The time of the transaction, and its number.
    pub(in crate::store) at: Timestamp,
    pub(in crate::store) number: u64,
    pub(in crate::store) instances: Table<InstanceKey, Instance>,
    pub(in crate::store) ids: Table<String, InstanceKey>,
    /// Parents with their children.
    pub(in crate::store) families: Table<(InstanceKey, InstanceKey), ()>,
    pub(in crate::store) values: Table<(InstanceKey, String), ValueRow>,
    pub(in crate::store) inbox: Table<(InstanceKey, u64), Mail>,
    /// By instance, execution and number.
    pub(in crate::store) turns: Table<(InstanceKey, u32, u32), Turn>,
    /// By instance, execution, generation and number.
    pub(in crate::store) cut_turns: Table<(InstanceKey, u32, u32, u32), Turn>,
    pub(in crate::store) rewinds: Table<(InstanceKey, u32, u32), RewindRow>,
    pub(in crate::store) garbage: Table<(InstanceKey, Option<u32>), ()>,
    pub(in crate::store) tasks: Table<(InstanceKey, TaskId), Task>,
    pub(in crate::store) requests: Table<(InstanceKey, String), Request>,
    pub(in crate::store) modules: Table<Digest, Module>,
    pub(in crate::store) names: Table<String, Name>,
    pub(in crate::store) definitions: Table<(DefinitionKind, String), OwnedDefinition>,
    /// By name and version: the module and its digest.
    pub(in crate::store) versions: Table<(String, String), (String, Digest)>,
    pub(in crate::store) settings: Table<String, String>,
    pub(in crate::store) keys: Table<String, KeyRow>,
    /// By token.
    pub(in crate::store) commands: Table<String, CommandRow>,
    /// By number.
    pub(in crate::store) outbox: Table<i64, Posted>,
    /// The number of the last message of the outbox.
    posted: i64,
    /// The partitions of who uses these rows now.
    pub(in crate::store) own: Partitions,
    /// The same at the mark.
    own_before: Partitions,
    /// What only reads need.
    #[cfg(test)]
    pub(in crate::store) hub: Hub,
}

/// What no change reads or writes.
#[cfg(test)]
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Hub {
    pub(in crate::store) created_at: Timestamp,
    /// What continuation tokens are signed with.
    pub(in crate::store) secret: Vec<u8>,
    /// The number of the last owner: each one that takes partitions over has a higher one.
    pub(in crate::store) epoch: u64,
    /// The owner of each partition.
    pub(in crate::store) owners: std::collections::BTreeMap<Partition, u64>,
    /// Owners that live, by epoch, and those whose partitions were taken away because they died.
    pub(in crate::store) alive: BTreeSet<u64>,
    /// Remote workers that are connected to owners.
    pub(in crate::store) workers: std::collections::BTreeMap<u64, Vec<(u64, String)>>,
    pub(in crate::store) dead: BTreeSet<u64>,
    /// The version of what owners keep of the hub in memory.
    pub(in crate::store) version: i64,
    /// The number of the last transaction of each owner.
    pub(in crate::store) commits: std::collections::BTreeMap<u64, u64>,
    /// Commands of other processes by token: the place in the order in which they came, and the body.
    pub(in crate::store) sent: std::collections::BTreeMap<String, (i64, Partition, Vec<u8>)>,
}

/// An instance.
#[derive(Clone, Debug)]
pub(in crate::store) struct Instance {
    pub(in crate::store) row: InstanceRow,
    /// What it waits for, if its last turn said so.
    pub(in crate::store) waiting: Option<Waiting>,
    pub(in crate::store) parent_id: Option<String>,
    /// The number of its next message, and the bytes of all messages so far.
    pub(in crate::store) inbox_next: u64,
    pub(in crate::store) inbox_bytes: u64,
    pub(in crate::store) unread_bytes: u64,
    pub(in crate::store) deliveries: u32,
    pub(in crate::store) when_dropped: ChildPolicy,
    pub(in crate::store) execution_timeout: Option<Millis>,
    pub(in crate::store) has_requests: bool,
}

/// A message in an inbox.
#[derive(Clone, Debug)]
pub(in crate::store) struct Mail {
    pub(in crate::store) message: Message,
    pub(in crate::store) at: Timestamp,
    /// Its bytes, and those of all messages up to it.
    pub(in crate::store) size: u64,
    pub(in crate::store) bytes: u64,
}

/// A rewind. Its time and reason are for clients.
#[derive(Clone, Debug)]
pub(in crate::store) struct RewindRow {
    pub(in crate::store) at: Timestamp,
    pub(in crate::store) reason: Option<String>,
    pub(in crate::store) cut: u32,
}

/// An open task.
#[derive(Clone, Debug)]
pub(in crate::store) struct Task {
    pub(in crate::store) row: TaskRow,
    pub(in crate::store) module: Option<Digest>,
}

/// A request.
#[derive(Clone, Debug)]
pub(in crate::store) struct Request {
    pub(in crate::store) name: String,
    pub(in crate::store) at: Timestamp,
    pub(in crate::store) asker: Option<Asker>,
    pub(in crate::store) answer: Option<(Timestamp, RequestAnswer)>,
}

/// A stored module: what was deployed, and when it was stored first.
#[derive(Clone, Debug)]
pub(in crate::store) struct Module {
    /// Empty where only the other columns were read.
    pub(in crate::store) component: Vec<u8>,
    /// The bytes of the component.
    pub(in crate::store) bytes: u64,
    pub(in crate::store) contract: String,
    pub(in crate::store) definitions: Vec<Definition>,
    pub(in crate::store) imports: Vec<String>,
    pub(in crate::store) stored_at: Timestamp,
}

impl Module {
    /// The row without what makes it large.
    pub(in crate::store) fn without_component(&self) -> Self {
        Self {
            component: Vec::new(),
            bytes: self.bytes,
            contract: self.contract.clone(),
            definitions: self.definitions.clone(),
            imports: self.imports.clone(),
            stored_at: self.stored_at,
        }
    }
}

/// The name of a module.
#[derive(Clone, Debug)]
pub(in crate::store) struct Name {
    pub(in crate::store) digest: Digest,
    pub(in crate::store) grants: String,
    pub(in crate::store) limits: String,
    pub(in crate::store) deployed_at: Timestamp,
}

/// A message of the outbox.
#[derive(Clone, Debug)]
pub(in crate::store) struct Posted {
    pub(in crate::store) to: Partition,
    pub(in crate::store) message: OutboxMessage,
}

/// Calls a method of all tables.
macro_rules! in_each_table {
    ($memory:ident.$method:ident()) => {{
        $memory.instances.$method();
        $memory.ids.$method();
        $memory.families.$method();
        $memory.values.$method();
        $memory.inbox.$method();
        $memory.turns.$method();
        $memory.cut_turns.$method();
        $memory.rewinds.$method();
        $memory.garbage.$method();
        $memory.tasks.$method();
        $memory.requests.$method();
        $memory.modules.$method();
        $memory.names.$method();
        $memory.definitions.$method();
        $memory.versions.$method();
        $memory.settings.$method();
        $memory.keys.$method();
        $memory.commands.$method();
        $memory.outbox.$method();
    }};
}

impl Memory {
    /// Begins a transaction.
    pub(in crate::store) fn begin(&mut self, number: u64, at: Timestamp) {
        (self.number, self.at) = (number, at);
        self.forget_undo();
    }

    /// What is changed from now on can be taken back on its own.
    pub(in crate::store) fn mark(&mut self) {
        self.own_before = self.own;
        in_each_table!(self.mark());
    }

    /// Takes back what was changed since the mark.
    pub(in crate::store) fn undo(&mut self) {
        self.own = self.own_before;
        in_each_table!(self.undo());
    }

    /// Forgets what the rows were before the batch.
    pub(in crate::store) fn forget_undo(&mut self) {
        in_each_table!(self.forget_undo());
    }

    /// What differs between two hubs, with names of the tables; empty if nothing does.
    #[cfg(test)]
    pub(in crate::store) fn differences(&self, other: &Self) -> Vec<String> {
        fn table<K: std::fmt::Debug + Ord, V: std::fmt::Debug>(
            name: &str,
            (one, other): (&Table<K, V>, &Table<K, V>),
            found: &mut Vec<String>,
        ) {
            let keys: BTreeSet<&K> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let of = |map: &Table<K, V>| map.get(key).map(|row| format!("{row:?}"));
                let (one, other) = (of(one), of(other));
                if one != other {
                    found.push(format!("{name} {key:?}: {one:?} and {other:?}"));
                }
            }
        }
        let mut found = Vec::new();
        macro_rules! tables {
            ($($name:ident)*) => {
                $(table(stringify!($name), (&self.$name, &other.$name), &mut found);)*
            };
        }
        tables!(
            instances ids families values inbox turns cut_turns rewinds garbage tasks requests modules names definitions versions settings
            keys outbox
        );
        found
    }

    /// Adds an instance, whose key and id are free.
    pub(in crate::store) fn put_instance(&mut self, instance: Instance) {
        let key = instance.row.key;
        if let Some(parent) = instance.row.parent_key {
            self.families.insert((parent, key), ());
        }
        self.ids.insert(instance.row.id.clone(), key);
        self.instances.insert(key, instance);
    }

    /// Deletes the row of an instance.
    pub(in crate::store) fn take_instance(&mut self, key: InstanceKey) -> Option<Arc<Instance>> {
        let taken = self.instances.remove(&key)?;
        if let Some(parent) = taken.row.parent_key {
            self.families.remove(&(parent, key));
        }
        self.ids.remove(&taken.row.id);
        Some(taken)
    }

    /// Changes the parent of an instance. The row itself is left to the caller.
    fn move_family(
        &mut self,
        key: InstanceKey,
        from: Option<InstanceKey>,
        to: Option<InstanceKey>,
    ) {
        if let Some(from) = from {
            self.families.remove(&(from, key));
        }
        if let Some(to) = to {
            self.families.insert((to, key), ());
        }
    }

    /// The children of an instance in the partitions of this owner, in the order of their keys.
    pub(in crate::store) fn children_of(
        &self,
        key: InstanceKey,
    ) -> impl Iterator<Item = &Instance> {
        let of = (key, InstanceKey(i64::MIN))..=(key, InstanceKey(i64::MAX));
        let children = self.families.range(of);
        let own = children.filter(|((_, child), ())| self.own.has_key(*child));
        own.filter_map(|((_, child), ())| self.instances.get(child))
    }

    /// Changes a row of an instance, if there is one. Returns whether there is.
    fn with_instance(&mut self, key: InstanceKey, change: impl FnOnce(&mut Instance)) -> bool {
        self.instances.get_mut(&key).map(change).is_some()
    }

    fn deployed(&mut self, new: &NewModule, now: Timestamp) {
        if let Some(module) = self.modules.get_mut(&new.digest) {
            // It may have been damaged.
            module.component.clone_from(&new.component);
            module.bytes = new.component.len() as u64;
            return;
        }
        let module = Module {
            component: new.component.clone(),
            bytes: new.component.len() as u64,
            contract: new.contract.clone(),
            definitions: new.definitions.clone(),
            imports: new.imports.clone(),
            stored_at: now,
        };
        self.modules.insert(new.digest, module);
    }
}

/// Deletes the rows in a range to which this applies, at most so many. Returns their number.
fn delete<K: Clone + Ord, V>(
    rows: &mut Table<K, V>,
    range: RangeInclusive<K>,
    at_most: usize,
    applies: impl Fn(&V) -> bool,
) -> usize {
    let found = rows.range(range).filter(|(_, row)| applies(row));
    let keys: Vec<K> = found.map(|(key, _)| key.clone()).take(at_most).collect();
    for key in &keys {
        rows.remove(key);
    }
    keys.len()
}

/// The keys of an instance in a table whose keys are texts.
pub(in crate::store) fn texts_of(key: InstanceKey) -> Range<(InstanceKey, String)> {
    (key, String::new())..(InstanceKey(key.0 + 1), String::new())
}
