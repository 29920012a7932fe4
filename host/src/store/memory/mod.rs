//! Rows in memory.
//!
//! It is a second store for the rules, as simple as can be, and shows what they rely on: whatever a change does on SQLite, it does here. The
//! writer of SQLite runs each change of the tests on it too, and compares.

mod hub;
mod inbox;
mod instances;
mod requests;
mod tasks;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{Range, RangeInclusive};

use perennial_core::{ChildPolicy, Digest, Message, Millis, TaskId, Timestamp, Turn, Waiting};

use crate::store::types::{
    Asker, DefinitionKind, InstanceKey, InstanceRow, KeyRow, NewModule, RequestAnswer, TaskRow,
    ValueRow,
};

/// All rows of a hub.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Memory {
    /// The time of the transaction, and its number.
    pub(in crate::store) at: Timestamp,
    pub(in crate::store) number: u64,
    pub(in crate::store) instances: BTreeMap<InstanceKey, Instance>,
    pub(in crate::store) ids: HashMap<String, InstanceKey>,
    pub(in crate::store) values: BTreeMap<(InstanceKey, String), ValueRow>,
    pub(in crate::store) inbox: BTreeMap<(InstanceKey, u64), Mail>,
    /// By instance, execution and number.
    pub(in crate::store) turns: BTreeMap<(InstanceKey, u32, u32), Turn>,
    /// By instance, execution, generation and number.
    pub(in crate::store) cut_turns: BTreeMap<(InstanceKey, u32, u32, u32), Turn>,
    pub(in crate::store) rewinds: BTreeMap<(InstanceKey, u32, u32), RewindRow>,
    pub(in crate::store) garbage: BTreeSet<(InstanceKey, Option<u32>)>,
    pub(in crate::store) tasks: BTreeMap<(InstanceKey, TaskId), Task>,
    pub(in crate::store) requests: BTreeMap<(InstanceKey, String), Request>,
    pub(in crate::store) modules: BTreeMap<Digest, Module>,
    pub(in crate::store) names: BTreeMap<String, Name>,
    /// By kind and name: the module, its digest, the version.
    pub(in crate::store) definitions:
        BTreeMap<(DefinitionKind, String), (String, Digest, Option<String>)>,
    /// By name and version: the module and its digest.
    pub(in crate::store) versions: BTreeMap<(String, String), (String, Digest)>,
    pub(in crate::store) settings: BTreeMap<String, String>,
    pub(in crate::store) keys: BTreeMap<String, KeyRow>,
    /// Answers by token, with the time of the command; `None` is still to come.
    pub(in crate::store) commands: BTreeMap<String, (Timestamp, Option<Vec<u8>>)>,
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

/// A rewind. Its time and reason are for clients, and are only compared.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "what only clients read is compared by its text")]
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
    pub(in crate::store) component: Vec<u8>,
    pub(in crate::store) stored_at: Timestamp,
}

/// The name of a module.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "what only clients read is compared by its text")]
pub(in crate::store) struct Name {
    pub(in crate::store) digest: Digest,
    pub(in crate::store) grants: String,
    pub(in crate::store) limits: String,
    pub(in crate::store) deployed_at: Timestamp,
}

impl Memory {
    /// Begins a transaction.
    pub(in crate::store) fn begin(&mut self, number: u64, at: Timestamp) {
        (self.number, self.at) = (number, at);
    }

    /// What differs between two hubs, with names of the tables; empty if nothing does.
    pub(in crate::store) fn differences(&self, other: &Self) -> Vec<String> {
        fn table<K: std::fmt::Debug + Ord, V: std::fmt::Debug>(
            name: &str,
            one: &BTreeMap<K, V>,
            other: &BTreeMap<K, V>,
            found: &mut Vec<String>,
        ) {
            let keys: BTreeSet<&K> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let of = |map: &BTreeMap<K, V>| map.get(key).map(|row| format!("{row:?}"));
                let (one, other) = (of(one), of(other));
                if one != other {
                    found.push(format!("{name} {key:?}: {one:?} and {other:?}"));
                }
            }
        }
        let mut found = Vec::new();
        table("instance", &self.instances, &other.instances, &mut found);
        table("value", &self.values, &other.values, &mut found);
        table("inbox", &self.inbox, &other.inbox, &mut found);
        table("turn", &self.turns, &other.turns, &mut found);
        table("cut turn", &self.cut_turns, &other.cut_turns, &mut found);
        table("rewind", &self.rewinds, &other.rewinds, &mut found);
        table("task", &self.tasks, &other.tasks, &mut found);
        table("request", &self.requests, &other.requests, &mut found);
        table("module", &self.modules, &other.modules, &mut found);
        table("name", &self.names, &other.names, &mut found);
        table(
            "definition",
            &self.definitions,
            &other.definitions,
            &mut found,
        );
        table("version", &self.versions, &other.versions, &mut found);
        table("setting", &self.settings, &other.settings, &mut found);
        table("key", &self.keys, &other.keys, &mut found);
        if self.garbage != other.garbage {
            found.push(format!(
                "garbage: {:?} and {:?}",
                self.garbage, other.garbage
            ));
        }
        found
    }

    /// Changes a row of an instance, if there is one.
    fn with_instance(&mut self, key: InstanceKey, change: impl FnOnce(&mut Instance)) {
        if let Some(instance) = self.instances.get_mut(&key) {
            change(instance);
        }
    }

    fn deployed(&mut self, new: &NewModule, now: Timestamp) {
        let module = Module {
            component: new.component.clone(),
            stored_at: now,
        };
        self.modules
            .entry(new.digest)
            .or_insert(module)
            .component
            .clone_from(&new.component);
    }
}

/// Deletes the rows in a range to which this applies, at most so many. Returns their number.
fn delete<K: Clone + Ord, V>(
    rows: &mut BTreeMap<K, V>,
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
fn texts_of(key: InstanceKey) -> Range<(InstanceKey, String)> {
    (key, String::new())..(InstanceKey(key.0 + 1), String::new())
}
