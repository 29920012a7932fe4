//! What the overlay reads of the store below it.

use perennial_core::{Digest, Turn};

use crate::store::StoreError;
use crate::store::memory::{
    CommandRow, Instance, Mail, Module, Name, OwnedDefinition, Posted, Request, RewindRow, Task,
};
use crate::store::partition::{Partition, Partitions};
use crate::store::rows::instances::Child;
use crate::store::types::{DefinitionKind, InstanceKey, KeyRow, ValueRow};

/// The rows that some changes need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Wanted {
    /// The instances with these keys.
    pub(in crate::store) keys: Vec<InstanceKey>,
    /// The instances with these ids.
    pub(in crate::store) ids: Vec<String>,
    /// The instances with these ids too. Others are to be started with them, so that there usually are none.
    pub(in crate::store) starts: Vec<String>,
    /// The parents of these instances.
    pub(in crate::store) parents_of: Vec<InstanceKey>,
    /// The live children of these instances.
    pub(in crate::store) live_children_of: Vec<InstanceKey>,
    /// The ended children of these instances, which are only listed.
    pub(in crate::store) ended_children_of: Vec<InstanceKey>,
    /// The instances with a request by one of these as its asker, whether it is answered or not.
    pub(in crate::store) asked_by: Vec<InstanceKey>,
    /// In which partitions of other owners these instances have children, or are about to.
    pub(in crate::store) below: Vec<InstanceKey>,
    /// The messages of the outbox with these numbers.
    pub(in crate::store) sent: Vec<i64>,
    /// The commands with these tokens.
    pub(in crate::store) tokens: Vec<String>,
    /// Whether the rows of the hub itself are wanted.
    pub(in crate::store) hub: bool,
}

/// Rows of a store. What was wanted and is not among them does not exist.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Loaded {
    /// The instances that were wanted for any reason, in any order; also some of them twice.
    pub(in crate::store) instances: Vec<LoadedInstance>,
    /// Ended children, each after its parent.
    pub(in crate::store) ended_children: Vec<(InstanceKey, Child)>,
    /// Partitions with children, each after the parent.
    pub(in crate::store) below: Vec<(InstanceKey, Partition)>,
    /// By number.
    pub(in crate::store) sent: Vec<(i64, Posted)>,
    /// By token.
    pub(in crate::store) commands: Vec<(String, CommandRow)>,
    /// The rows of the hub itself, if they were wanted.
    pub(in crate::store) hub: Option<HubRows>,
}

/// An instance with all of its rows other than its history.
#[derive(Clone, Debug)]
pub(in crate::store) struct LoadedInstance {
    pub(in crate::store) instance: Instance,
    /// By number.
    pub(in crate::store) inbox: Vec<(u64, Mail)>,
    /// Their `set_at` is not needed.
    pub(in crate::store) tasks: Vec<Task>,
    pub(in crate::store) values: Vec<ValueRow>,
    /// By id.
    pub(in crate::store) requests: Vec<(String, Request)>,
}

/// The rows of the hub itself.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct HubRows {
    /// Modules without their components.
    pub(in crate::store) modules: Vec<(Digest, Module)>,
    pub(in crate::store) names: Vec<(String, Name)>,
    pub(in crate::store) definitions: Vec<((DefinitionKind, String), OwnedDefinition)>,
    /// By name and version: the module and its digest.
    pub(in crate::store) versions: Vec<((String, String), (String, Digest))>,
    pub(in crate::store) settings: Vec<(String, String)>,
    pub(in crate::store) keys: Vec<(String, KeyRow)>,
}

/// The end of a history.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct History {
    pub(in crate::store) turns: Vec<Turn>,
    /// All rewinds of the execution, by generation.
    pub(in crate::store) rewinds: Vec<(u32, RewindRow)>,
}

/// What is left of the history of an instance that is gone, or of an execution: an entry of the garbage.
pub(in crate::store) type Left = (InstanceKey, Option<u32>);

/// The keys of rows that are left to delete.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Garbage {
    /// Instance, execution and number.
    pub(in crate::store) turns: Vec<(InstanceKey, u32, u32)>,
    /// Instance, execution, generation and number.
    pub(in crate::store) cut_turns: Vec<(InstanceKey, u32, u32, u32)>,
    /// Instance, execution and generation.
    pub(in crate::store) rewinds: Vec<(InstanceKey, u32, u32)>,
}

/// A store whose rows are read as they are committed. Those of the partitions of its owner only that one writes, through the overlay.
pub(in crate::store) trait Source {
    /// Reads rows, in one round trip; in another one those of ids that are wanted for a start, and taken. Of instances only those of these
    /// partitions.
    fn load(&mut self, wanted: &Wanted, own: &Partitions) -> Result<Loaded, StoreError>;

    /// The turns of an execution from a number on, and its rewinds.
    fn history(
        &mut self,
        key: InstanceKey,
        execution: u32,
        from: u32,
    ) -> Result<History, StoreError>;

    /// The first so many entries of the garbage of these partitions, in their order: by instance, and all executions before each single one.
    fn garbage(&mut self, at_most: usize, own: &Partitions) -> Result<Vec<Left>, StoreError>;

    /// The rows that are left of these, in order. Of each at most so many turns and as many cut turns, in the order of their keys, and all
    /// rewinds. After the first entry with which there are so many rows of turns and cut turns, it may leave out the others.
    fn garbage_of(&mut self, left: &[Left], at_most: usize) -> Result<Garbage, StoreError>;

    /// How many live instances other than these run a module.
    fn live_on(&mut self, digest: Digest, except: &[InstanceKey]) -> Result<u64, StoreError>;

    /// Which of these modules an instance that is live or failed, a task, or a message of the outbox refers to, leaving out some instances
    /// with their tasks.
    fn used_modules(
        &mut self,
        among: &[Digest],
        except: &[InstanceKey],
    ) -> Result<Vec<Digest>, StoreError>;

    /// The first messages that wait for some partitions, without these, in the order in which they were sent.
    fn messages_for(
        &mut self,
        of: &Partitions,
        limit: u32,
        without: &[i64],
    ) -> Result<Vec<(i64, Posted)>, StoreError>;

    /// The partitions in which instances were asked something by this one, or will be.
    fn partitions_asked_by(&mut self, asker: InstanceKey) -> Result<Vec<Partition>, StoreError>;

    /// An instance, whose ever it is.
    fn glance(&mut self, id: &str) -> Result<Option<Instance>, StoreError>;

    /// Whether an instance that descends from this one is live in another partition than these, or is about to be started; or whether one of
    /// these instances descends from it.
    fn lives_below(
        &mut self,
        ancestor: InstanceKey,
        own: &Partitions,
        starters: &[InstanceKey],
    ) -> Result<bool, StoreError>;
}
