//! What is known in one batch of changes, besides the rows themselves.

use std::collections::{BTreeSet, HashMap, HashSet};

use perennial_core::Timestamp;

use crate::store::partition::Partition;
use crate::store::partition::Partitions;
use crate::store::rows::instances::Child;
use crate::store::types::InstanceKey;

/// What a batch of changes knows of the source, and tells it besides rows. What is in a set and not in memory does not exist.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The instances that were used, whose rows are all in memory.
    pub(super) keys: HashSet<InstanceKey>,
    /// Ids that were looked up.
    pub(super) ids: HashSet<String>,
    /// Commands that were looked up.
    pub(super) tokens: HashSet<String>,
    /// Parents all of whose live children are in memory.
    pub(super) live_children: HashSet<InstanceKey>,
    /// The ended children of these, as the source has them.
    pub(super) ended_children: HashMap<InstanceKey, Vec<Child>>,
    /// Askers: all instances that these have asked something are in memory.
    pub(super) askers: HashSet<InstanceKey>,
    /// Partitions of other owners in which these instances have children, or are about to, as the source has them.
    pub(super) below: HashMap<InstanceKey, BTreeSet<Partition>>,
    /// Messages of the outbox that were looked up.
    pub(super) sent: HashSet<i64>,
    /// Executions whose rewinds are in memory, and whose turns are from this number on.
    pub(super) histories: HashMap<(InstanceKey, u32), u32>,
    pub(super) instructions: Instructions,
    /// The instances that were loaded since there is an instruction to count their tasks.
    pub(super) counted: Vec<InstanceKey>,
    mark: Lengths,
}

/// Instructions for the source, in the order in which they were given.
#[derive(Debug, Default)]
pub(super) struct Instructions {
    pub(super) delete_turns: Vec<InstanceKey>,
    pub(super) count_unknown: Vec<(Partitions, Timestamp)>,
    pub(super) delete_answered: Vec<Timestamp>,
}

/// The lengths of lists at the mark.
#[derive(Clone, Copy, Debug, Default)]
struct Lengths {
    delete_turns: usize,
    count_unknown: usize,
    delete_answered: usize,
    counted: usize,
}

/// What was loaded as if an instruction held that was taken back.
#[derive(Debug, Default)]
pub(super) struct Undone {
    /// Instances with tasks that may have been counted.
    pub(super) miscounted: Vec<InstanceKey>,
    /// Whether commands were taken as deleted.
    pub(super) answers: bool,
}

impl Batch {
    pub(super) fn mark(&mut self) {
        self.mark = Lengths {
            delete_turns: self.instructions.delete_turns.len(),
            count_unknown: self.instructions.count_unknown.len(),
            delete_answered: self.instructions.delete_answered.len(),
            counted: self.counted.len(),
        };
    }

    /// Takes back the instructions that were given since the mark.
    pub(super) fn undo(&mut self) -> Undone {
        let (mark, instructions) = (self.mark, &mut self.instructions);
        let counts = instructions.count_unknown.len() > mark.count_unknown;
        let undone = Undone {
            miscounted: match counts {
                true => self.counted.split_off(mark.counted),
                false => Vec::new(),
            },
            answers: instructions.delete_answered.len() > mark.delete_answered,
        };
        instructions.delete_turns.truncate(mark.delete_turns);
        instructions.count_unknown.truncate(mark.count_unknown);
        instructions.delete_answered.truncate(mark.delete_answered);
        undone
    }
}
