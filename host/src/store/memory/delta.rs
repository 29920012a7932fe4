//! What a batch of changes wrote.

use perennial_core::{Digest, TaskId, Timestamp, Turn};

use crate::store::memory::table::RowChange;
use crate::store::memory::{
    CommandRow, Instance, Mail, Memory, Module, Name, OwnedDefinition, Posted, Request, RewindRow,
    Task,
};
use crate::store::partition::{Partition, Partitions};
use crate::store::types::{DefinitionKind, InstanceKey, KeyRow, ValueRow};

/// What a batch of changes wrote: the rows of each table by key, and instructions to delete or change rows that were not looked at.
///
/// A store carries out the instructions first, and writes the rows after them; of instances, those that are gone before all others, since
/// another one may have the same id now. A row is to be written with all of its columns: an instruction may have changed one that looks
/// unchanged here.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Delta {
    /// The partitions of the owner. Instructions are about these only.
    pub(in crate::store) own: Partitions,
    /// Instruction: deletes all turns of these instances.
    pub(in crate::store) delete_turns: Vec<InstanceKey>,
    /// Instruction: for each of these times, counts an attempt (column `cut`) for each activity that may have begun one by then: its kind
    /// is activity, `begun_at` is not set, and `due` is not set or not after the time.
    pub(in crate::store) count_unknown: Vec<(Partitions, Timestamp)>,
    /// Instruction: deletes the commands from before this time that have an answer.
    pub(in crate::store) delete_answered: Option<Timestamp>,
    pub(in crate::store) instances: Vec<RowChange<InstanceKey, Instance>>,
    /// By instance and name.
    pub(in crate::store) values: Vec<RowChange<(InstanceKey, String), ValueRow>>,
    /// By instance and number.
    pub(in crate::store) inbox: Vec<RowChange<(InstanceKey, u64), Mail>>,
    /// By instance, execution and number. Of a turn that was deleted only the key is right.
    pub(in crate::store) turns: Vec<RowChange<(InstanceKey, u32, u32), Turn>>,
    /// By instance, execution, generation and number. Of a turn that was deleted only the key is right.
    pub(in crate::store) cut_turns: Vec<RowChange<(InstanceKey, u32, u32, u32), Turn>>,
    /// By instance, execution and generation. Of a rewind that was deleted only the key is right.
    pub(in crate::store) rewinds: Vec<RowChange<(InstanceKey, u32, u32), RewindRow>>,
    /// By instance, and execution or all.
    pub(in crate::store) garbage: Vec<RowChange<(InstanceKey, Option<u32>), ()>>,
    pub(in crate::store) tasks: Vec<RowChange<(InstanceKey, TaskId), Task>>,
    /// By instance and id.
    pub(in crate::store) requests: Vec<RowChange<(InstanceKey, String), Request>>,
    /// Of a module that was there before, only the component may have changed; `before` does not have it.
    pub(in crate::store) modules: Vec<RowChange<Digest, Module>>,
    pub(in crate::store) names: Vec<RowChange<String, Name>>,
    pub(in crate::store) definitions: Vec<RowChange<(DefinitionKind, String), OwnedDefinition>>,
    /// By name and version: the module and its digest.
    pub(in crate::store) versions: Vec<RowChange<(String, String), (String, Digest)>>,
    pub(in crate::store) settings: Vec<RowChange<String, String>>,
    pub(in crate::store) keys: Vec<RowChange<String, KeyRow>>,
    /// In the order in which messages were sent; the store numbers new ones.
    pub(in crate::store) outbox: Vec<RowChange<i64, Posted>>,
    /// By token. A command that has an answer needs its body no more.
    pub(in crate::store) commands: Vec<RowChange<String, CommandRow>>,
}

impl Delta {
    /// The partitions to which something was sent, some twice.
    pub(in crate::store) fn sent_to(&self) -> impl Iterator<Item = Partition> {
        let sent = self.outbox.iter().filter_map(|change| change.now.as_ref());
        sent.map(|posted| posted.to)
    }

    /// Whether modules were deleted.
    pub(in crate::store) fn deletes_modules(&self) -> bool {
        self.modules.iter().any(|change| change.now.is_none())
    }
}

impl Memory {
    /// What was written since the beginning of the batch. The next change begins another one.
    pub(in crate::store) fn take_delta(&mut self) -> Delta {
        self.ids.forget_undo();
        self.families.forget_undo();
        Delta {
            own: self.own,
            delete_turns: Vec::new(),
            count_unknown: Vec::new(),
            delete_answered: None,
            instances: self.instances.take_changes(),
            values: self.values.take_changes(),
            inbox: self.inbox.take_changes(),
            turns: self.turns.take_changes(),
            cut_turns: self.cut_turns.take_changes(),
            rewinds: self.rewinds.take_changes(),
            garbage: self.garbage.take_changes(),
            tasks: self.tasks.take_changes(),
            requests: self.requests.take_changes(),
            modules: self.modules.take_changes(),
            names: self.names.take_changes(),
            definitions: self.definitions.take_changes(),
            versions: self.versions.take_changes(),
            settings: self.settings.take_changes(),
            keys: self.keys.take_changes(),
            outbox: self.outbox.take_changes(),
            commands: self.commands.take_changes(),
        }
    }
}
